"""A part as detectors take it: every modality in one square working frame, S × S, with the way back to the native pixels.

The frame shows the part with a margin. With a template (:mod:`rakelight.detection.registration`) scale and pose are the same for
all parts of a product; without one the part's own box decides and nothing is turned. Points and masks take the nearest
pixel; pictures are averaged over the area that becomes a pixel. Directions turn with the part: x and y of the points, and
the normals that a pseudo-3D picture encodes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample, open_samples
from rakelight.detection._geometry import angle_of, crop_matrix, resample, scale_of
from rakelight.detection.foreground import MaskCache, find_part
from rakelight.detection.native import MODALITIES, ROLES, Modality, Native, make_native, read_native
from rakelight.detection.registration import DEFAULT_MARGIN, Template, register
from rakelight.errors import DatasetError, InputError

__all__ = [
    "DEFAULT_SIZE",
    "MODALITIES",
    "Modality",
    "Part",
    "from_arrays",
    "load_part",
    "load_parts",
    "need",
    "turn_normals",
    "warp_to_native",
]

DEFAULT_SIZE = 224
_MOST_SQUARE = 2.0  # of an encoded normal's length: 1 but for JPEG and averages; 0 0 0 decodes to 3
_STEP, _LEAST_SIZE, _MOST_SIZE = 2, 32, 2048


@dataclass(frozen=True, eq=False)
class Part:
    """One part in the working frame.

    Attributes
    ----------
    key, specimen, label : str
    size : int
        S.
    rgb, ps : (S, S, 3) uint8 or None
    xyz : (S, S, 3) float32 or None
        mm; NaN where nothing was measured and off the part. x right and y down in the part's pose, 0 at the middle of the frame;
        z away from the camera, 0 at the template's distance (without one, at the part's median).
    mask : (S, S) bool
        The part.
    defect : (H, W) uint8 or None
        0 and 255, native pixels.
    ignore : (S, S) bool
        Never judged.
    available : set of "rgb", "ps", "xyz"
        From the manifest.
    to_native : (2, 3) float64
        Native pixel (u, v) → working pixel: the matrix with which :func:`warp_to_native` samples.
    native_size : (H, W)
    facts : dict
        ``foreground``, ``xyz_xy``, ``xyz_unit``, ``ps_encoding``, ``measured_share`` of the part's pixels that have a point,
        ``cut_share`` of the part beyond the frame, ``pitch_mm`` of a working pixel, ``registration``.
    pitch_mm : float or None
        Of a native pixel.
    z_mm : float
        Median distance of the part from the camera.
    """

    key: str
    specimen: str
    label: str
    size: int
    rgb: NDArray[np.uint8] | None
    ps: NDArray[np.uint8] | None
    xyz: NDArray[np.float32] | None
    mask: NDArray[np.bool_]
    defect: NDArray[np.uint8] | None
    ignore: NDArray[np.bool_]
    available: frozenset[Modality]
    to_native: NDArray[np.float64]
    native_size: tuple[int, int]
    facts: dict[str, Any] = field(default_factory=dict)
    pitch_mm: float | None = None
    z_mm: float = 0.0


def load_part(
    sample: OpenSample,
    *,
    size: int = DEFAULT_SIZE,
    template: Template | None = None,
    ignore: NDArray[np.bool_] | None = None,
    available: frozenset[Modality] | None = None,
    cache: MaskCache | None = None,
) -> Part:
    """A sample of a data set as a :class:`Part`.

    Parameters
    ----------
    sample : OpenSample
    size : int
        S, even, 32 to 2048; extractors want a multiple of their patch (8, 14).
    template : Template, optional
        Pose and scale of the product; None: nothing is turned, the part's own box gives the scale.
    ignore : (n, n) bool, optional
        In the working frame, of any size (:mod:`rakelight.detection.ignore`).
    available : set of modalities, optional
        Use no others, as if they had not been captured.
    cache : MaskCache, optional
        Of part masks that have to be computed.

    Raises
    ------
    DatasetError
        ``detect.no_modality``, ``detect.empty_foreground``, ``detect.mask_size``, ``detect.xyz_empty``,
        ``detect.native_size``, ``detect.ignore_size``, and what reading the sample raises.
    InputError
        ``detect.size``.
    """
    _check_size(size)
    native = read_native(sample, available)
    if cache is None or native.mask is not None or native.xyz is None:
        return _build(native, *find_part(native), size, template, ignore)
    record = sample.record(ROLES["xyz"])
    key = (str(sample.key), record.sha256 if record else "")
    found = cache.get(key)
    if found is None:
        found = find_part(native)
        cache.put(key, *found)
    return _build(native, *found, size, template, ignore)


def load_parts(
    root: Path,
    category: str,
    *,
    labels: Collection[str] | None = None,
    keys: Collection[SampleKey] | None = None,
    size: int = DEFAULT_SIZE,
    template: Template | None = None,
    ignore: NDArray[np.bool_] | None = None,
    cache: MaskCache | None = None,
) -> Iterator[Part]:
    """The parts of a category one after the other, in order of label and number; see :func:`load_part`.

    ``labels`` and ``keys`` leave out all others. Raises :class:`DatasetError` (``detect.no_sample``) when a named key is not there,
    or when nothing is left.
    """
    samples = [s for s in open_samples(root, category) if labels is None or s.key.label in labels]
    if keys is not None:
        absent = set(keys) - {s.key for s in samples}
        if absent:
            raise DatasetError(
                f"{root} has no sample {min(map(str, absent))} ({len(absent)} of {len(keys)} that were asked for are not there)",
                hint="see `rakelight dataset show`",
                code="detect.no_sample",
            )
        samples = [s for s in samples if s.key in keys]
    if not samples:
        wanted = f" labelled {', '.join(sorted(labels))}" if labels is not None else ""
        raise DatasetError(
            f"{root} has no sample of {category!r}{wanted}",
            hint="see `rakelight dataset show`",
            code="detect.no_sample",
        )
    for sample in samples:
        yield load_part(sample, size=size, template=template, ignore=ignore, cache=cache)


def from_arrays(
    key: str,
    *,
    rgb: NDArray[np.uint8] | None = None,
    ps: NDArray[np.uint8] | None = None,
    xyz: NDArray[np.float32] | None = None,
    mask: NDArray[np.bool_] | None = None,
    pitch_mm: float | None = None,
    ps_encoding: str = "",
    specimen: str = "",
    size: int = DEFAULT_SIZE,
    template: Template | None = None,
    ignore: NDArray[np.bool_] | None = None,
) -> Part:
    """A part that has just been captured; arrays as in :class:`rakelight.detection.native.Native`, errors as :func:`load_part`."""
    _check_size(size)
    native = make_native(
        key, rgb=rgb, ps=ps, xyz=xyz, mask=mask, specimen=specimen, pitch_mm=pitch_mm, ps_encoding=ps_encoding
    )
    return _build(native, *find_part(native), size, template, ignore)


def warp_to_native(scores: NDArray[np.float32], part: Part, *, outside: float = 0.0) -> NDArray[np.float32]:
    """A map of the working frame, (S, S) float, on the native pixels, (H, W) float32; ``outside`` beyond the frame.

    Raises :class:`InputError` for another shape.
    """
    found = check_array(f"map of {part.key}", scores, shape=(part.size, part.size))
    height, width = part.native_size
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        found.astype(np.float32), part.to_native, (width, height), flags=flags, borderValue=(outside,) * 4
    )


def need(part: Part, modality: Modality) -> NDArray[Any]:
    """The part's array of a modality; raises :class:`DatasetError` (``detect.no_modality``) when it has none."""
    found = getattr(part, modality)
    if found is None:
        raise DatasetError(
            f"{part.key} has no {ROLES[modality]} ({modality}), which the model needs; it has "
            f"{', '.join(sorted(part.available)) or 'nothing'}",
            hint="capture it again, choose a method without this modality, or one that bears missing ones (RADAR)",
            code="detect.no_modality",
        )
    return np.asarray(found)


def _check_size(size: int) -> None:
    if not _LEAST_SIZE <= size <= _MOST_SIZE or size % _STEP:
        raise InputError(
            f"working size {size}; allowed: even, {_LEAST_SIZE} to {_MOST_SIZE} pixels",
            hint=f"a multiple of the extractor's patch, such as {DEFAULT_SIZE}",
            code="detect.size",
        )


def _build(
    native: Native,
    mask: NDArray[np.bool_],
    how: str,
    size: int,
    template: Template | None,
    ignore: NDArray[np.bool_] | None,
) -> Part:
    """The working frame of a part whose mask is known."""
    facts: dict[str, Any] = {"foreground": how, "ps_encoding": native.ps_encoding, **native.facts}
    if template is None:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        longer = int(max(rows[-1] - rows[0], columns[-1] - columns[0])) + 1
        matrix = crop_matrix(mask, longer * (1 + 2 * DEFAULT_MARGIN), size)
    else:
        matrix, facts["registration"] = register(native, mask, template, size)
    seen = resample(mask, matrix, native.size, size, nearest=True)
    scale = scale_of(matrix)
    facts["cut_share"] = round(max(0.0, 1 - float(seen.sum()) / (float(mask.sum()) * scale**2)), 4)
    facts["pitch_mm"] = None if native.pitch_mm is None else native.pitch_mm / scale
    xyz, z_mm = None, 0.0
    if native.xyz is not None:
        xyz, z_mm = _points(native, matrix, seen, facts, None if template is None else template.z_mm)
    pictures = {
        name: None if picture is None else resample(picture, matrix, native.size, size, nearest=False)
        for name, picture in (("rgb", native.rgb), ("ps", native.ps))
    }
    if pictures["ps"] is not None and native.ps_encoding == "normals":
        pictures["ps"] = turn_normals(pictures["ps"], angle_of(matrix))
    return Part(
        native.key,
        native.specimen,
        native.label,
        size,
        pictures["rgb"],
        pictures["ps"],
        xyz,
        seen,
        native.defect,
        _ignored(ignore, size),
        native.available,
        matrix,
        native.size,
        facts,
        native.pitch_mm,
        z_mm,
    )


def _points(
    native: Native, matrix: NDArray[np.float64], mask: NDArray[np.bool_], facts: dict[str, Any], z_mm: float | None
) -> tuple[NDArray[np.float32], float]:
    """Points of the part in the working frame, turned and centred, and their median distance from the camera."""
    assert native.xyz is not None
    size = mask.shape[0]
    xyz = resample(native.xyz, matrix, native.size, size, nearest=True)
    xyz[~mask] = np.nan
    measured = np.isfinite(xyz[..., 0])
    facts["measured_share"] = round(float(measured.sum()) / max(1, int(mask.sum())), 4)
    if not measured.any():
        raise DatasetError(
            f"{native.key}: its XYZ map holds no measured point on the part ({int(mask.sum())} working pixels, all NaN)",
            hint="capture or reconstruct the sample again, or leave its XYZ out",
            code="detect.xyz_empty",
        )
    angle = angle_of(matrix)
    c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    x, y = xyz[..., 0].copy(), xyz[..., 1].copy()
    xyz[..., 0], xyz[..., 1] = c * x - s * y, s * x + c * y
    step = (native.pitch_mm or 1.0) / scale_of(matrix)
    rows, columns = np.nonzero(measured)
    for axis, pixels in ((0, columns), (1, rows)):  # x = 0, y = 0 at the frame's middle, as all points see it
        xyz[..., axis] -= np.median(xyz[rows, columns, axis] - (pixels - (size - 1) / 2) * step).astype(np.float32)
    median = float(np.median(xyz[rows, columns, 2]))
    xyz[..., 2] -= np.float32(median if z_mm is None else z_mm)
    return xyz, median


def turn_normals(picture: NDArray[np.uint8], angle: float) -> NDArray[np.uint8]:
    """Encoded normals, whose x (right) and y (up) turn with the picture; what encodes no unit vector (0 0 0: unknown) stays."""
    c, s = math.cos(angle), math.sin(angle)  # of a turn from right to down, so against y
    n = picture.astype(np.float32) / np.float32(127.5) - 1
    turned = np.stack([c * n[..., 0] + s * n[..., 1], c * n[..., 1] - s * n[..., 0], n[..., 2]], axis=-1)
    encoded = np.clip(np.rint((turned + 1) * 127.5), 0, 255).astype(np.uint8)
    unit = np.square(n).sum(axis=2, keepdims=True) < _MOST_SQUARE
    return np.where(unit, encoded, picture)


def _ignored(ignore: NDArray[np.bool_] | None, size: int) -> NDArray[np.bool_]:
    if ignore is None:
        return np.zeros((size, size), np.bool_)
    mask = check_array("ignore mask", ignore, ndim=2)
    if mask.shape[0] != mask.shape[1]:
        raise DatasetError(
            f"the ignore mask has {mask.shape[1]}×{mask.shape[0]} pixels; it must be square, as the working frame is",
            hint="bring it into the working frame with detection.ignore.ignore_from_sample",
            code="detect.ignore_size",
        )
    return cv2.resize((mask > 0).astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST) > 0
