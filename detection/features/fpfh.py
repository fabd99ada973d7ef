"""Fast point feature histograms on the organised xyz map: geometry without weights.

Rusu, Blodow, Beetz 2009, ICRA, "Fast Point Feature Histograms (FPFH) for 3D registration": of every pair of neighbouring points
three angles between their normals and the line between them, in three histograms of 11 bins; the histograms of the
neighbours are added, weighted by the inverse of the squared distance. Nothing of it depends on pose. Radii are multiples
of the spacing of points, so neither the unit nor the camera's resolution matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rakelight.detection.features import base
from rakelight.detection.native import Modality
from rakelight.detection.parts import Part, need
from rakelight.errors import InputError

DIM = 33
DEFAULT_NORMAL_RADIUS, DEFAULT_RADIUS = 3.0, 10.0  # pitches of the working frame
_LEAST_NORMAL_POINTS = 5
_REACH = 1.15  # of the window beyond the radius: neighbouring points may lie nearer than the pitch says (perspective)


def spacing_mm(part: Part) -> float:
    """Distance of neighbouring points in the working frame, median over the part; 0 if no two are neighbours."""
    xyz = need(part, "xyz")
    steps = np.concatenate([np.abs(np.diff(xyz[..., 0], axis=1)).ravel(), np.abs(np.diff(xyz[..., 1], axis=0)).ravel()])
    steps = steps[np.isfinite(steps) & (steps > 0)]
    known = part.facts.get("pitch_mm")
    if known:
        return float(known)
    return float(np.median(steps)) if len(steps) else 0.0


def surface_normals(
    xyz: NDArray[np.float32], pitch: float, radius: float = DEFAULT_NORMAL_RADIUS
) -> NDArray[np.float32]:
    """Normals of an organised map by principal components of the points within ``radius`` pitches.

    (H, W, 3) float32, camera frame, towards the camera (z < 0); NaN where fewer than 5 points are near.
    """
    from rakelight.detection.features import _fpfh_kernels as kernels

    out = np.empty(xyz.shape, np.float32)
    kernels.normals(xyz, _window(radius), radius * pitch, _LEAST_NORMAL_POINTS, out)
    return out


def fpfh(
    xyz: NDArray[np.float32], normals: NDArray[np.float32], pitch: float, radius: float = DEFAULT_RADIUS
) -> NDArray[np.float32]:
    """FPFH of every point of an organised map, from its neighbours within ``radius`` pitches.

    Parameters
    ----------
    xyz, normals : (H, W, 3) float32
        Any unit; NaN where there is none.
    pitch : float
        Spacing of neighbouring points, same unit.
    radius : float
        In pitches.

    Returns
    -------
    (H, W, 33) float32
        Three histograms of 11 bins: θ, α, φ in the paper's letters, each of sum 200; 0 where there is no point or normal.
    """
    from rakelight.detection.features import _fpfh_kernels as kernels

    simple = np.empty((*xyz.shape[:2], DIM), np.float32)
    out = np.empty_like(simple)
    window = _window(radius)
    kernels.simple_histograms(xyz, normals, window, radius * pitch, simple)
    kernels.weighted_histograms(xyz, normals, simple, window, radius * pitch, out)
    return out


def _window(radius: float) -> int:
    return math.ceil(radius * _REACH)


@dataclass(frozen=True)
class FpfhFeatures:
    """The :class:`rakelight.detection.features.base.Extractor` ``fpfh``: means over the points of each patch.

    Attributes
    ----------
    normal_radius, radius : float
        In pitches of the working frame.
    """

    normal_radius: float = DEFAULT_NORMAL_RADIUS
    radius: float = DEFAULT_RADIUS
    id: str = "fpfh"
    modality: Modality = "xyz"
    dim: int = DIM
    weights_sha256: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("normal radius", self.normal_radius), ("radius", self.radius)):
            if not 1 <= value <= 50:
                raise InputError(f"FPFH {name} {value} pitches; allowed: 1 to 50", code="fpfh.radius")

    def grid(self, size: int) -> int:
        if size % base.GRID_STEP or size < base.GRID_STEP:
            raise InputError(
                f"working size {size} px with {self.id}: a multiple of {base.GRID_STEP} is needed",
                hint=f"the nearest is {max(1, round(size / base.GRID_STEP)) * base.GRID_STEP}",
                code="features.size",
            )
        return size // base.GRID_STEP

    def extract(self, parts: Sequence[Part]) -> base.Features:
        grid = self.grid(base.common_size(parts))
        values = np.zeros((len(parts), grid, grid, DIM), np.float32)
        valid = base.valid_cells(parts, grid, points=True)
        for n, part in enumerate(parts):
            xyz = np.ascontiguousarray(need(part, "xyz"), np.float32)
            pitch = spacing_mm(part)
            if pitch <= 0:  # lone points have no neighbours and no normals
                valid[n] = False
                continue
            normals = surface_normals(xyz, pitch, self.normal_radius)
            values[n], counts = _cell_means(fpfh(xyz, normals, pitch, self.radius), np.isfinite(normals[..., 0]), grid)
            valid[n] &= counts > 0
        return base.Features(values, valid)

    def fingerprint(self) -> base.Fingerprint:
        return base.fingerprint_of(self.extract([base.fingerprint_part()]))


def _cell_means(
    values: NDArray[np.float32], mask: NDArray[np.bool_], grid: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Means (G, G, D) over the masked pixels of each patch, and how many these are."""
    step = mask.shape[0] // grid
    counts = mask.reshape(grid, step, grid, step).sum(axis=(1, 3))
    sums = (values * mask[..., None]).reshape(grid, step, grid, step, -1).sum(axis=(1, 3))
    return np.asarray(sums / np.maximum(counts, 1)[..., None], np.float32), counts


def make(
    id: str, *, modality: Modality, weights: Path | None, taps: tuple[int, ...] | None, device: str
) -> FpfhFeatures:
    """For :func:`rakelight.detection.features.base.make_extractor`; it always runs on the CPU."""
    base.no_setting(id, weights=weights, taps=taps)
    return FpfhFeatures(id=id, modality=modality)
