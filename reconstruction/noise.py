"""How noisy a camera's values are, told from a phase shift itself, without further frames.

Model: the variance of a value I is read_dn² + dn_per_e · max(I − black_dn, 0), in DN²: read noise and quantisation, and
photon shot noise, whose slope is the gain of the sensor in DN per electron (photon transfer; Janesick, "Photon Transfer",
SPIE Press 2007; EMVA standard 1288).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from rakelight.arrays import check_array
from rakelight.errors import InputError
from rakelight.reconstruction.levels import SATURATION
from rakelight.reconstruction.patterns import Axis, PatternSet

__all__ = ["NoiseModel", "estimate_noise"]

_SAMPLES = 300_000  # pixels looked at: 0.1 % in the slope
_BINS, _LEAST_IN_BIN = 48, 64
_NEIGHBOURS = 8  # pixels averaged before the median is taken
_QUANTISATION = 1 / 12  # DN²: the variance of rounding, below which no estimate can be
_BAND = np.arange(5)  # rows of a band for the spatial fallback


@dataclass(frozen=True)
class NoiseModel:
    """Noise of a camera's raw values.

    Attributes
    ----------
    read_dn : float
        Standard deviation at and below ``black_dn``, in DN (quantisation included).
    dn_per_e : float
        Variance per DN above ``black_dn``, which is the gain in DN per electron.
    black_dn : float
        Raw value above which shot noise grows.
    """

    read_dn: float
    dn_per_e: float
    black_dn: float

    def __post_init__(self) -> None:
        for name in ("read_dn", "dn_per_e", "black_dn"):
            value = getattr(self, name)
            if not 0 <= value < np.inf:
                raise InputError(f"noise {name} = {value}; allowed: a finite number from 0", code="fringes.noise")
        if self.read_dn == 0 == self.dn_per_e:
            raise InputError("noise read_dn and dn_per_e are both 0; one must be above 0", code="fringes.noise")

    def variance(self, value: Any) -> Any:
        """Variance in DN² of raw values ``value`` (DN)."""
        return self.read_dn**2 + self.dn_per_e * np.maximum(np.asarray(value) - self.black_dn, 0)


def estimate_noise(
    frames: NDArray[np.generic], pattern_set: PatternSet, axis: Axis = "column", *, full_scale: float
) -> NoiseModel:
    """The noise of the frames of one pattern set.

    A fit of offset and wave to N steps leaves N − 3 residuals, whose mean square is the variance at the pixel's offset
    whatever the phase (the model is linear in the value, and every step has the leverage 3/N). Pixels are sorted by
    offset; in each bin the median over means of 8 neighbours resists motion and interreflection (the median of single pixels
    would be that of χ² only if all steps were equally noisy); a line through the bins, weighted and with outliers held down
    (Huber), is the model. All phase shifts of the axis with N ≥ 4 count.

    With three steps no residual is left. Then each frame's own fine structure is taken: the second difference along both
    axes at a distance of two pixels (the same filter of a colour mosaic), which a fringe along either axis leaves
    (Immerkær, "Fast noise variance estimation", Computer Vision and Image Understanding 64(2), 1996). Texture of the part
    counts as noise there, so that the estimate is rather too high.

    Parameters
    ----------
    frames : (K, H, W) uint8 or uint16
        The images of ``pattern_set.patterns`` in their order; some 300,000 pixels of them are looked at.
    full_scale : float
        Largest raw value.

    Returns
    -------
    NoiseModel
        ``black_dn`` is the lowest level seen: the line is not carried on below it.

    Raises
    ------
    InputError
        ``fringes.noise``: hardly a pixel that is neither saturated nor at 0.
    """
    check_array("frames", frames, ndim=3, dtypes=("uint8", "uint16"))
    shifts = [pattern_set.phase_shift(axis, i) for i in range(len(pattern_set.code.periods_px))]
    redundant = [places for places in shifts if len(places) > 3]
    sampled = (
        [_of_fit(frames, places, full_scale) for places in redundant]
        if redundant
        else [_of_neighbours(frames, places, full_scale) for places in shifts]
    )
    bins = np.concatenate([_binned(*each) for each in sampled])
    if not len(bins):
        raise InputError(
            "noise cannot be estimated: hardly a pixel of the phase shift is neither saturated nor 0",
            hint="check exposure and black level, or pass a noise model",
            code="fringes.noise",
        )
    return _line(bins)


def _of_fit(frames: NDArray[Any], places: tuple[int, ...], full_scale: float) -> tuple[Any, Any, int]:
    """Level, variance and degrees of freedom of sampled rows, from the residuals of the fit."""
    count, (height, width) = len(places), frames.shape[1:]
    rows = np.unique(np.linspace(0, height - 1, min(height, max(1, _SAMPLES // width))).astype(int))
    values = np.stack([frames[p, rows] for p in places])
    flat = values.reshape(count, -1)
    usable = (flat.max(axis=0) < SATURATION * full_scale) & (flat.min(axis=0) > 0)
    flat = flat[:, usable].astype(np.float32)
    angles = 2 * np.pi * np.arange(count) / count
    basis = np.linalg.qr(np.stack([np.ones(count), np.cos(angles), np.sin(angles)], axis=1), mode="complete")[0]
    left = basis[:, 3:].T.astype(np.float32) @ flat  # what the fit does not explain, in an orthonormal basis
    return flat.mean(axis=0), np.einsum("km,km->m", left, left) / (count - 3), count - 3


def _of_neighbours(frames: NDArray[Any], places: tuple[int, ...], full_scale: float) -> tuple[Any, Any, int]:
    """As :func:`_of_fit` for single frames, from differences of neighbours of the same filter."""
    height, width = frames.shape[1:]
    if height < 5 or width < 5:
        return np.empty(0), np.empty(0), 1
    bands = min(max(1, height // 5), max(1, _SAMPLES // (len(places) * width)))
    rows = np.linspace(0, height - 5, bands).astype(int)[:, None] + _BAND
    values = np.stack([frames[p, rows] for p in places]).astype(np.float32)  # (N, bands, 5, W)
    along = values[..., :-4] - 2 * values[..., 2:-2] + values[..., 4:]
    twice = along[..., 0, :] - 2 * along[..., 2, :] + along[..., 4, :]
    around = np.stack([values[..., i, j : width - 4 + j] for i in (0, 2, 4) for j in (0, 2, 4)])
    usable = (around.max(axis=0) < SATURATION * full_scale) & (around.min(axis=0) > 0)
    return values[..., 2, 2:-2][usable], (twice[usable] ** 2) / 36, 1  # (1 + 4 + 1)² variances in the sum


def _binned(level: NDArray[Any], variance: NDArray[Any], freedom: int) -> NDArray[np.float64]:
    """(bins, 3): level, robust variance, weight."""
    if len(level) < _LEAST_IN_BIN:
        return np.empty((0, 3))
    low, high = np.percentile(level, [0.2, 99.8])
    place = np.clip((level - low) / max(high - low, 1e-9) * _BINS, 0, _BINS - 1).astype(int)
    order = np.argsort(place, kind="stable")
    edges = np.searchsorted(place[order], np.arange(_BINS + 1))
    freedom *= _NEIGHBOURS
    median = 2 * gammaincinv(freedom / 2, 0.5) / freedom  # of χ²/freedom
    bins = []
    for a, b in pairwise(edges):
        part = order[a : b - (b - a) % _NEIGHBOURS].reshape(-1, _NEIGHBOURS)  # in the order of the image
        if part.size >= _LEAST_IN_BIN:
            middle = float(np.median(variance[part].mean(axis=1))) / median
            bins.append((float(level[part].mean()), max(middle, _QUANTISATION), part.size))
    return np.array(bins, np.float64).reshape(-1, 3)


def _line(bins: NDArray[np.float64]) -> NoiseModel:
    """The line through (level, variance), not falling, as a model that begins at the lowest level."""
    level, variance, count = bins.T
    lowest = float(level.min())
    x = level - lowest
    weight = count / variance**2
    floor, slope = float(np.average(variance, weights=weight)), 0.0
    for _ in range(12):
        w = weight.sum()
        mean_x, mean_v = (weight * x).sum() / w, (weight * variance).sum() / w
        spread = (weight * (x - mean_x) ** 2).sum()
        slope = max(float((weight * (x - mean_x) * (variance - mean_v)).sum() / spread), 0.0) if spread > 0 else 0.0
        floor = max(float(mean_v - slope * mean_x), _QUANTISATION)
        fitted = floor + slope * x
        off = np.abs(variance / fitted - 1)
        order = np.argsort(off)
        usual = float(off[order][np.searchsorted(np.cumsum(count[order]), count.sum() / 2)])  # median over pixels
        weight = count * np.minimum(1, 2 * max(usual, 1e-3) / np.maximum(off, 1e-9)) / fitted**2
    return NoiseModel(float(np.sqrt(floor)), slope, max(lowest, 0.0))
