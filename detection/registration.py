"""Every part of a product in one pose: a template, and the in-plane turn and shift that carry a part onto it.

Memory banks compare a patch with patches of any place, but pictures of directions (normal maps), swapped blocks and ignore masks
need one pose, and one scale is needed by all. A template is made from good parts and is kept with the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.detection._alignment import Alignment, align, prepare
from rakelight.detection._geometry import crop_matrix, resample, rescale, scale_of, square
from rakelight.detection.native import Modality, Native
from rakelight.errors import DatasetError, InputError, ModelError

if TYPE_CHECKING:
    from rakelight.detection.parts import Part

TEMPLATE_PX = 128
DEFAULT_MARGIN = 0.1  # on each side, in units of the part's longer side
_MOST_PARTS = 16  # that the template's picture is the mean of
_ORDER: tuple[Modality, ...] = ("rgb", "xyz", "ps")  # which picture tells the turn; the first that both have


@dataclass(frozen=True, eq=False)
class Template:
    """The pose and scale of a product, for all its parts.

    Attributes
    ----------
    mask : (T, T) bool
        The part in the working frame, T = 128.
    pictures : mapping of modality to (T, T) float32
        Grey picture, height above the part's middle (mm) or slant, as :func:`grey` makes them; mean of good parts.
    side_px : float
        Side of the square crop in native pixels.
    native_size : (H, W)
        Of the pictures it was made from.
    pitch_mm : float or None
        Of their pixels.
    z_mm : float
        Distance from the camera that becomes z = 0 in a part's xyz.
    key : str
        The sample whose pose it is.
    turns : bool
        False: parts are only shifted.
    """

    mask: NDArray[np.bool_]
    pictures: Mapping[Modality, NDArray[np.float32]]
    side_px: float
    native_size: tuple[int, int]
    pitch_mm: float | None = None
    z_mm: float = 0.0
    key: str = ""
    turns: bool = True
    facts: dict[str, Any] = field(default_factory=dict)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays, for a model file."""
        numbers = [self.side_px, *self.native_size, self.pitch_mm or np.nan, self.z_mm, float(self.turns)]
        return {
            "mask": self.mask.astype(np.uint8),
            "numbers": np.array(numbers, np.float64),
            "key": np.frombuffer(self.key.encode(), np.uint8).copy(),
            **{f"picture_{name}": picture for name, picture in self.pictures.items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Template:
        """Inverse of :meth:`to_arrays`; raises :class:`ModelError` (``model.template``)."""
        missing = [name for name in ("mask", "numbers", "key") if name not in arrays]
        if missing or arrays["numbers"].shape != (6,) or arrays["mask"].ndim != 2:
            raise ModelError(
                f"the template of the model is not whole: {', '.join(missing) or 'wrong shapes'}",
                hint="train the model again",
                code="model.template",
            )
        side, height, width, pitch, z, turns = (float(v) for v in arrays["numbers"])
        return cls(
            np.asarray(arrays["mask"]) > 0,
            {m: np.asarray(arrays[f"picture_{m}"], np.float32) for m in _ORDER if f"picture_{m}" in arrays},
            side,
            (int(height), int(width)),
            None if math.isnan(pitch) else pitch,
            z,
            bytes(np.asarray(arrays["key"], np.uint8)).decode(),
            bool(turns),
        )


def make_template(parts: Iterable[Part], *, margin: float = DEFAULT_MARGIN, turns: bool = True) -> Template:
    """The template of a product, from good parts loaded without one.

    The part whose area is the median gives pose and scale; its picture becomes the mean of up to 16 parts registered to it.

    Parameters
    ----------
    parts : iterable of Part
        Good parts; at least one.
    margin : float
        Around the part on each side, in units of its longer side, 0 to 1.
    turns : bool
        False for products whose direction under the camera matters: parts are then only shifted.

    Raises
    ------
    InputError
        A margin out of range.
    DatasetError
        ``detect.no_good_parts``.
    """
    if not 0 <= margin <= 1:
        raise InputError(f"margin {margin}; allowed: 0 to 1 part sides", code="registration.margin")
    few = [part for part, _ in zip(parts, range(_MOST_PARTS), strict=False)]
    if not few:
        raise DatasetError("no good part to make a template from", hint="add good parts", code="detect.no_good_parts")
    areas = [part.mask.sum() / scale_of(part.to_native) ** 2 for part in few]
    reference = few[int(np.argsort(areas)[len(areas) // 2])]
    first = _reference_template(reference, margin, turns)
    sums = {name: np.zeros((2, TEMPLATE_PX, TEMPLATE_PX)) for name in first.pictures}
    masks, correlations = np.zeros((TEMPLATE_PX, TEMPLATE_PX)), []
    for part in few:
        look = _look_of_part(part, first)
        found = _align(first, look)
        correlations.append(round(found.correlation, 4))
        masks += _move(look.mask.astype(np.float32), found.matrix)
        for name, total in sums.items():
            if name in look.pictures:
                moved = _move(np.nan_to_num(look.pictures[name]), found.matrix)
                weight = _move((np.isfinite(look.pictures[name]) & look.mask).astype(np.float32), found.matrix) > 0.99
                total += np.stack([moved * weight, weight])
    return Template(
        masks > 0.5 * len(few),
        {n: np.where(t[1] > 0, t[0] / np.maximum(t[1], 1), np.nan).astype(np.float32) for n, t in sums.items()},
        first.side_px,
        first.native_size,
        first.pitch_mm,
        float(np.median([p.z_mm for p in few if p.xyz is not None] or [0.0])),
        first.key,
        turns,
        {"parts": len(few), "correlations": correlations},
    )


def register(
    native: Native, mask: NDArray[np.bool_], template: Template, size: int
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """The motion from native pixels into the S × S working frame, and how well it fits.

    Parameters
    ----------
    native : Native
    mask : (H, W) bool
        Its part.
    template : Template
    size : int
        S.

    Returns
    -------
    (2, 3) float64, facts
        Facts: ``angle_deg`` (turn into the template's pose, positive from right to down), ``turn_told``, ``correlation``,
        ``refined``.

    Raises
    ------
    DatasetError
        ``detect.native_size``: pictures of another size than the template's, and no pitch to compare them by.
    """
    side = template.side_px / _relative_pitch(native.key, native.size, native.pitch_mm, template)
    box = crop_matrix(mask, side, TEMPLATE_PX)
    look = _look(native, mask, box, template)
    found = _align(template, look)
    matrix = rescale(size / TEMPLATE_PX) @ square(found.matrix) @ square(box)
    facts = {
        "angle_deg": round(found.angle_deg, 3),
        "turn_told": found.told,
        "correlation": round(found.correlation, 4),
        "refined": found.refined,
    }
    return matrix[:2], facts


@dataclass(frozen=True, eq=False)
class _Look:
    """A part at the template's scale: (T, T) mask and grey pictures."""

    mask: NDArray[np.bool_]
    pictures: dict[Modality, NDArray[np.float32]]


def grey(modality: Modality, picture: NDArray[Any], encoding: str = "") -> NDArray[np.float32]:
    """(h, w) float32 that does not change but in place when a part is turned: grey, z, or the normals' slant."""
    if modality == "xyz":
        return np.asarray(picture[..., 2], np.float32)
    if modality == "ps" and encoding == "normals":
        return np.asarray(picture[..., 2], np.float32)
    return cv2.cvtColor(np.asarray(picture, np.uint8), cv2.COLOR_RGB2GRAY).astype(np.float32)


def _look(native: Native, mask: NDArray[np.bool_], matrix: NDArray[np.float64], template: Template) -> _Look:
    pictures: dict[Modality, NDArray[np.float32]] = {}
    name = next((m for m in _ORDER if m in template.pictures and m in native.available), None)
    if name is not None:
        small = resample(getattr(native, name), matrix, native.size, TEMPLATE_PX, nearest=name == "xyz")
        pictures[name] = grey(name, small, native.ps_encoding)
    return _Look(resample(mask, matrix, native.size, TEMPLATE_PX, nearest=True), pictures)


def _look_of_part(part: Part, template: Template) -> _Look:
    """A part that was loaded without a template, at the template's scale and centred."""
    side = (
        template.side_px
        / _relative_pitch(part.key, part.native_size, part.pitch_mm, template)
        * scale_of(part.to_native)
    )
    matrix = crop_matrix(part.mask, side, TEMPLATE_PX)
    size = (part.size, part.size)
    pictures: dict[Modality, NDArray[np.float32]] = {}
    for name in _ORDER:
        values = getattr(part, name)
        if values is not None:
            small = resample(values, matrix, size, TEMPLATE_PX, nearest=name == "xyz")
            pictures[name] = grey(name, small, str(part.facts.get("ps_encoding", "")))
    return _Look(resample(part.mask, matrix, size, TEMPLATE_PX, nearest=True), pictures)


def _reference_template(part: Part, margin: float, turns: bool) -> Template:
    rows, columns = np.flatnonzero(part.mask.any(axis=1)), np.flatnonzero(part.mask.any(axis=0))
    longer = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    side = float(longer * (1 + 2 * margin) / scale_of(part.to_native))
    bare = Template(np.zeros((1, 1), np.bool_), {}, side, part.native_size, part.pitch_mm, 0.0, part.key, turns)
    look = _look_of_part(part, bare)
    return Template(look.mask, look.pictures, side, part.native_size, part.pitch_mm, part.z_mm, part.key, turns)


def _align(template: Template, look: _Look) -> Alignment:
    name = next((m for m in _ORDER if m in template.pictures and m in look.pictures), None)
    a = prepare(template.pictures[name] if name else None, template.mask)
    b = prepare(look.pictures[name] if name else None, look.mask)
    return align(a, b, turns=template.turns)


def _relative_pitch(key: str, size: tuple[int, int], pitch_mm: float | None, template: Template) -> float:
    """Size of a part's native pixel over that of the template's."""
    if size == template.native_size:
        return 1.0
    if pitch_mm and template.pitch_mm:
        return pitch_mm / template.pitch_mm
    (height, width), (old_height, old_width) = size, template.native_size
    raise DatasetError(
        f"{key} has {width}×{height} pixels, the template was made from {old_width}×{old_height}, "
        "and the pitch of one of them is not known: they cannot be brought to one scale",
        hint="train with pictures of one size, or calibrate the rig, so that samples carry their pitch",
        code="detect.native_size",
    )


def _move(values: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    return cv2.warpAffine(values, matrix, (TEMPLATE_PX, TEMPLATE_PX), flags=cv2.INTER_LINEAR)
