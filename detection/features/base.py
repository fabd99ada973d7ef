"""What every feature extractor has in common: parts in, features on a grid of patches out, and how to make one by its id."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_same_shape
from rakelight.detection.device import resolve
from rakelight.detection.native import MODALITIES, Modality
from rakelight.detection.parts import Part
from rakelight.errors import InputError, ModelError

Fingerprint = tuple[float, float, float, float, float, float, float, float]

GRID_STEP = 8  # working pixels a patch side: 28 × 28 patches at 224
_COMMON = ("id", "modality", "weights", "taps", "device")  # arguments of every ``make``; the others are its settings
_LEAST_COVER = 0.25  # of a patch that the part must fill (for points: of it, with points) for the patch to count
_MOST_IGNORED = 0.5
# Relative, by the precision of the network: other processors and thread counts round otherwise, other weights differ by far
# more. Half precision keeps 8 (bfloat16) or 11 bits, and how sums are ordered then shows.
FINGERPRINT_TOLERANCES = {"float32": 1e-3, "float16": 5e-3, "bfloat16": 3e-2}

# id → where it is made: a module and a function (weights, modality, taps, device) → Extractor
_MAKERS: dict[str, tuple[str, frozenset[Modality]]] = {
    "efficientnet-lite0": ("rakelight.detection.features.efficientnet", frozenset({"rgb", "ps"})),
    "efficientnet-lite0-relief": ("rakelight.detection.features.relief", frozenset({"xyz"})),
    "fpfh": ("rakelight.detection.features.fpfh", frozenset({"xyz"})),
    "vit-b8-dino": ("rakelight.detection.features.vit", frozenset({"rgb", "ps"})),
    "vit-s8-dino": ("rakelight.detection.features.vit", frozenset({"rgb", "ps"})),
    "vit-s14-dinov2": ("rakelight.detection.features.vit", frozenset({"rgb", "ps"})),
    "point-mae": ("rakelight.detection.features.point_mae", frozenset({"xyz"})),
}
EXTRACTORS: tuple[str, ...] = tuple(_MAKERS)


@dataclass(frozen=True, eq=False)
class Features:
    """Features of N parts on a G × G grid.

    Attributes
    ----------
    values : (N, G, G, D) float32
        0 where not valid and nothing could be computed.
    valid : (N, G, G) bool
        The patch shows enough of the part (points: of its points) and is not ignored.
    """

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]

    @property
    def grid(self) -> int:
        return int(self.values.shape[1])

    @property
    def dim(self) -> int:
        return int(self.values.shape[3])


class Extractor(Protocol):
    """Turns parts into features; always the same for the same part.

    ``weights_sha256`` is None where there are no weights. :meth:`fingerprint` is what the extractor makes of a fixed input
    (:func:`fingerprint_part`): a model keeps it, so that other weights or another network are noticed.
    """

    @property
    def id(self) -> str: ...
    @property
    def modality(self) -> Modality: ...
    @property
    def dim(self) -> int: ...
    @property
    def weights_sha256(self) -> str | None: ...
    def grid(self, size: int) -> int:
        """Patches a side at working size ``size``; raises :class:`InputError` for a size it cannot take."""
        ...

    def extract(self, parts: Sequence[Part]) -> Features:
        """Raises :class:`DatasetError` (``detect.no_modality``) naming a part without the modality."""
        ...

    def fingerprint(self) -> Fingerprint: ...


def make_extractor(
    id: str,
    *,
    modality: Modality | None = None,
    weights: Path | None = None,
    taps: Sequence[int] | None = None,
    device: str = "cpu",
    settings: Mapping[str, Any] | None = None,
) -> Extractor:
    """The extractor ``id``.

    Parameters
    ----------
    id : str
        One of :data:`EXTRACTORS`.
    modality : "rgb", "ps" or "xyz", optional
        What it reads; picture networks read RGB unless told otherwise.
    weights : Path, optional
        A weights file instead of the usual places.
    taps : sequence of int, optional
        Blocks, counted from 0, whose output is taken; None: the extractor's own choice.
    device : str
        ``"cpu"``, ``"cuda"`` or ``"auto"`` (:mod:`rakelight.detection.device`).
    settings : mapping, optional
        What only this extractor has, such as ``precision`` or ``xyz_scale``: the further arguments of its ``make``.

    Raises
    ------
    ModelError
        ``features.unknown`` (lists all), ``features.modality``, ``features.setting`` (lists those there are), and what the
        extractor raises (weights, taps, device, a setting out of range).
    """
    if id not in _MAKERS:
        raise ModelError(
            f"no feature extractor is called {id!r}; known: {', '.join(EXTRACTORS)}",
            hint="efficientnet-lite0 (pictures), efficientnet-lite0-relief and fpfh (points) need no download",
            code="features.unknown",
        )
    module, fits = _MAKERS[id]
    chosen = modality if modality is not None else next(m for m in MODALITIES if m in fits)
    if chosen not in fits:
        raise ModelError(
            f"{id} reads {' or '.join(sorted(fits))}, not {chosen!r}",
            hint=f"extractors of {chosen}: {', '.join(k for k, (_, m) in _MAKERS.items() if chosen in m) or 'none'}",
            code="features.modality",
        )
    make = importlib.import_module(module).make
    _check_settings(id, make, settings or {})
    made = make(
        id,
        modality=chosen,
        weights=weights,
        taps=None if taps is None else tuple(taps),
        device=resolve(device),
        **(settings or {}),
    )
    return cast("Extractor", made)


def _check_settings(id: str, make: Callable[..., Extractor], given: Mapping[str, Any]) -> None:
    allowed = [name for name in inspect.signature(make).parameters if name not in _COMMON]
    unknown = [str(name) for name in given if name not in allowed]
    if unknown:
        raise ModelError(
            f"{id} has no setting {' or '.join(unknown)}; it has {', '.join(allowed) or 'none'}",
            hint="blocks to tap, the weights file and the device are given apart from settings",
            code="features.setting",
        )


def settings_of(extractor: Extractor) -> dict[str, Any]:
    """What an extractor's features depend on apart from its weights, as plain data; empty where there is nothing to choose."""
    return dict(getattr(extractor, "settings", {}))


def valid_cells(parts: Sequence[Part], grid: int, *, points: bool = False) -> NDArray[np.bool_]:
    """Which of G × G patches show the part, (N, G, G) bool: a quarter of the patch at least, and at most half of it ignored.

    ``points`` counts only pixels that have a point.
    """
    out = np.empty((len(parts), grid, grid), np.bool_)
    for n, part in enumerate(parts):
        mask = part.mask & np.isfinite(part.xyz[..., 2]) if points and part.xyz is not None else part.mask
        out[n] = (_cover(mask, grid) >= _LEAST_COVER) & (_cover(part.ignore, grid) <= _MOST_IGNORED)
    return out


def _cover(mask: NDArray[np.bool_], grid: int) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(mask.astype(np.float32), (grid, grid), interpolation=cv2.INTER_AREA), np.float32)


def common_size(parts: Sequence[Part]) -> int:
    """The working size of parts; raises :class:`InputError` when there are none or they differ."""
    return check_same_shape("working frames of the parts", [p.mask for p in parts])[0]


def to_grid(features: Features, grid: int, *, modality: Modality = "rgb") -> Features:
    """The same features on ``grid`` × ``grid`` patches: bilinear for pictures, masked means over area for points.

    A patch is valid if half of what it comes from is. Raises :class:`InputError` (``features.grid``).
    """
    if grid < 1:
        raise InputError(f"grid of {grid} patches a side; at least 1", code="features.grid")
    if grid == features.grid:
        return features
    area = _area_weights(features.grid, grid)
    mass = area @ features.valid.astype(np.float32) @ area.T
    if modality == "xyz":
        masked = np.where(features.valid[..., None], features.values, np.float32(0))
        values = _separably(area, masked) / np.maximum(mass, np.float32(1e-6))[..., None]
        values[mass <= 0] = 0
    else:
        values = _separably(_linear_weights(features.grid, grid), features.values)
    return Features(np.ascontiguousarray(values, np.float32), mass >= 0.5)


def _separably(weights: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights (G', G) over both axes of (N, G, G, D)."""
    n, g, _, d = values.shape
    out = weights.shape[0]
    rows = weights @ values.reshape(n, g, g * d)
    return np.asarray((weights @ rows.reshape(n * out, g, d)).reshape(n, out, out, d))


@lru_cache(maxsize=16)
def _linear_weights(old: int, new: int) -> NDArray[np.float32]:
    """(new, old): linear interpolation, corners at corners (as torch's ``align_corners=False``)."""
    at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, old - 1)
    weights = np.zeros((new, old), np.float32)
    np.add.at(weights, (np.arange(new), low), 1 - (at - low))
    np.add.at(weights, (np.arange(new), high), at - low)
    return weights


@lru_cache(maxsize=16)
def _area_weights(old: int, new: int) -> NDArray[np.float32]:
    """(new, old): the share of each new cell that an old one covers."""
    edges = np.arange(new + 1) * old / new
    low, high = np.maximum(edges[:-1, None], np.arange(old)), np.minimum(edges[1:, None], np.arange(1, old + 1))
    return (np.maximum(high - low, 0) * new / old).astype(np.float32)


# ------------------------------------------------------------------------------------------------------- fingerprints
def fingerprint_part(size: int = 224) -> Part:
    """A part made of whole numbers, the same on every machine: stripes, ramps and a wavy surface on a disc."""
    v, u = np.mgrid[:size, :size].astype(np.int64)
    stripes = np.abs((u * 3 + v) % 64 - 32) * 7
    ramp = (u * 255) // max(1, size - 1)
    blocks = (((u // 16) * 37 + (v // 16) * 91) % 256).astype(np.int64)
    picture = np.stack([stripes, ramp, blocks], axis=-1).astype(np.uint8)
    middle = (size - 1) / 2
    mask = (u - middle) ** 2 + (v - middle) ** 2 <= (0.45 * size) ** 2
    wave = np.abs((u * 5 + v * 3) % 128 - 64) / 64 + ((u - middle) ** 2) / size**2
    xyz = np.stack([(u - middle) * 0.125, (v - middle) * 0.125, wave], axis=-1).astype(np.float32)
    return Part(
        "fingerprint",
        "fingerprint",
        "OK",
        size,
        picture,
        picture[..., ::-1].copy(),
        np.where(mask[..., None], xyz, np.float32(np.nan)),
        mask,
        None,
        np.zeros((size, size), np.bool_),
        frozenset(MODALITIES),
        np.eye(3)[:2],
        (size, size),
        {"pitch_mm": 0.125, "xyz_unit": "mm"},
        0.125,
    )


def fingerprint_of(features: Features) -> Fingerprint:
    """Eight numbers of the first part's features: one an eighth of the channels, weighted differently at every patch."""
    values = features.values[0].reshape(-1, features.dim).astype(np.float64)
    weights = 1 + np.arange(len(values)) % 7
    means = (weights @ values) / weights.sum()
    # Signs alternate, so that two channels that changed places do not cancel; some eighths repeat below 8 channels.
    parts = np.array_split(means * (1 + np.arange(features.dim) % 3), min(8, features.dim))
    numbers = [float(np.sum(p)) for p in parts]
    numbers += numbers[: 8 - len(numbers)]
    return cast("Fingerprint", tuple((numbers * 8)[:8]))


def same_fingerprint(a: Sequence[float], b: Sequence[float], precision: str = "float32") -> bool:
    """Whether two fingerprints of networks in ``precision`` are equal but for rounding.

    float32 on a CPU and on a GPU are the same to this; a network in half precision is not the same as in float32.
    """
    if len(a) != len(b) or not all(map(math.isfinite, [*a, *b])):
        return False
    scale = max(max(map(abs, a), default=0.0), max(map(abs, b), default=0.0), 1e-12)
    tolerance = FINGERPRINT_TOLERANCES[precision] * scale
    return all(abs(x - y) <= tolerance for x, y in zip(a, b, strict=True))


def no_setting(id: str, **given: Any) -> None:
    """Refuse settings that an extractor does not have with :class:`ModelError` (``features.setting``)."""
    extra = [name for name, value in given.items() if value is not None]
    if extra:
        raise ModelError(f"{id} takes no {' or '.join(extra)}", hint="leave it out", code="features.setting")
