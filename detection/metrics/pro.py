"""Per-region overlap (PRO) and the area under it (AUPRO), exact: every pixel's score is a threshold.

PRO(t) is the mean over all defect regions (8-connected components of the masks, pooled over all parts) of the share of the
region's pixels with score ≥ t; FPR(t) the share of all normal pixels, pooled over good and defective parts. AUPRO@L is
(1/L) ∫₀ᴸ PRO d FPR, linear between thresholds and interpolated at L. Each region has the same weight, however small.

Bergmann, Batzner, Fauser, Sattlegger, Steger: The MVTec Anomaly Detection Dataset (IJCV 2021), §5.2, which takes L = 0.30; later
work also 0.05 and 0.01. A score that knows nothing has AUPRO@L = L/2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.detection.metrics._region_kernels import region_pixels
from rakelight.detection.metrics.areas import Figure, FloatArray, Steps, partial_area
from rakelight.errors import InputError

LIMITS = (0.30, 0.05, 0.01)
Compat = Literal["mvtec100"]
Bool = NDArray[np.bool_]
Regions = tuple[NDArray[np.intp], NDArray[np.float64], int]  # of :func:`regions_of`
_THRESHOLDS = 100  # of the M3DM family's code


def regions_of(mask: Bool, ignore: Bool | None = None) -> Regions:
    """The defect regions of one part.

    Parameters
    ----------
    mask : (H, W) bool
        Defective pixels.
    ignore : (H, W) bool, optional
        Pixels that do not count. They may cut a region in two without making two of it; one that is wholly ignored is none.

    Returns
    -------
    pixels : (n,) int, flat indices of the counted defective pixels
    weights : (n,) float64, 1 / (counted pixels of its region)
    count : int, regions
    """
    left, top, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    if not width:
        return np.zeros(0, np.intp), np.zeros(0), 0
    box = np.s_[top : top + height, left : left + width]
    crop = np.ascontiguousarray(mask[box]).view(np.uint8)
    count, labels = cv2.connectedComponents(crop, connectivity=8, ltype=cv2.CV_32S)
    if ignore is not None:
        labels = np.where(ignore[box], np.int32(0), labels)
    pixels, weights, regions = region_pixels(labels, count, top, left, mask.shape[1])
    return pixels, weights, int(regions)


def pixel_steps(
    maps: Iterable[NDArray[np.floating]], masks: Iterable[Bool | None], ignore: Iterable[Bool | None]
) -> Steps:
    """All pixels of all parts pooled, thresholds at every score of a defective pixel.

    Parameters
    ----------
    maps : of (H, W) float, one a part; higher is more anomalous
    masks : of (H, W) bool or None (good part: all pixels are normal)
    ignore : of (H, W) bool or None, pixels that do not count

    Raises :class:`InputError` where sizes differ or counted pixels hold NaN or infinity. Holds every score: 4 bytes a
    float32 pixel; :mod:`rakelight.detection.metrics.streaming` does not.
    """
    normals, scores, weights, regions = [], [], [], 0
    for number, (raw, mask, out) in enumerate(zip(maps, masks, ignore, strict=True), 1):
        m = check_array(f"map {number}", raw, ndim=2, dtypes=("float16", "float32", "float64"))
        for name, other in (("mask", mask), ("ignore mask", out)):
            if other is not None:
                check_array(f"{name} {number}", other, shape=m.shape, dtypes=("bool",))
        some = np.zeros(m.shape, np.bool_) if mask is None else mask
        normal = m.ravel() if mask is None and out is None else m[~some if out is None else ~(some | out)]
        pixels, weight, count = regions_of(some, out)
        inside = m.ravel()[pixels]
        size = normal.size + inside.size
        refuse_not_finite(f"map {number}", size - int(np.isfinite(normal).sum() + np.isfinite(inside).sum()), size)
        normals.append(normal)
        scores.append(inside)
        weights.append(weight)
        regions += count
    return _steps(_joined(normals), _joined(scores), _joined(weights), regions)


def refuse_not_finite(name: str, bad: int, size: int) -> None:
    """Raise :class:`InputError` when ``bad`` > 0 counted pixels are NaN or infinite."""
    if bad:
        raise InputError(
            f"{name} holds {bad} NaN or infinite values in {size} pixels that count; all must be finite",
            hint="give pixels without data a score, or put them into the ignore mask",
            code="input.not_finite",
        )


def _joined(parts: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    return np.concatenate(parts) if parts else np.zeros(0)


def _steps(
    normals: NDArray[np.floating], scores: NDArray[np.floating], weights: NDArray[np.floating], regions: int
) -> Steps:
    normals = np.sort(normals)
    order = np.argsort(scores)[::-1]
    ordered = scores[order]
    starts = (
        np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1]) if len(ordered) else np.zeros(0, int)
    )
    values = ordered[starts]
    total = len(normals)
    above, reached = (
        (total - np.searchsorted(normals, values[::-1], side))[::-1].astype(np.float64) for side in ("right", "left")
    )
    sizes = np.diff(starts, append=len(ordered)).astype(np.float64)
    region = np.add.reduceat(weights[order], starts) / regions if len(starts) else np.zeros(0)
    return Steps(values, above, reached, sizes, region, np.array(float(total)))


def aupro_of(steps: Steps, limit: float = 0.30, compat: Compat | None = None) -> Figure:
    """AUPRO@``limit`` of pooled pixels; None and why where there is no region or no normal pixel.

    ``compat="mvtec100"`` as :func:`mvtec100`. Raises :class:`InputError` for a limit outside 0 … 1.
    """
    if not 0 < limit <= 1:
        raise InputError(f"AUPRO limit {limit} is outside its range, above 0 to 1", code="input.range")
    if compat not in (None, "mvtec100"):
        raise InputError(f"AUPRO compat {compat!r} is not known; allowed: 'mvtec100'", code="input.choice")
    lacks = steps.lacks("pixel") or ("" if steps.region is not None else "no regions were counted")
    if lacks or steps.region is None:
        return Figure(None, lacks)
    value = mvtec100(steps, limit) if compat else float(partial_area(steps, steps.region, limit))
    return Figure(value)


def aupro(
    maps: Sequence[NDArray[np.floating]],
    masks: Sequence[Bool | None],
    limit: float = 0.30,
    *,
    ignore: Sequence[Bool | None] | None = None,
    compat: Compat | None = None,
) -> Figure:
    """AUPRO@``limit`` of maps in memory; arguments as :func:`pixel_steps`, several limits: :func:`aupro_of` on its result."""
    return aupro_of(pixel_steps(maps, masks, ignore or [None] * len(maps)), limit, compat)


def mvtec100(steps: Steps, limit: float, thresholds: int = _THRESHOLDS) -> float:
    """AUPRO as the code computes it that M3DM and its kin took over from MVTec's evaluation, with 100 thresholds.

    Thresholds are the normal scores at 100 evenly spaced places of their sorted list; at place i (from 0) of n the FPR is
    taken as 1 − (i + 1)/n, ties or not, and PRO as the share *above* the threshold; (1, 1) is added. That leaves three
    points below FPR 0.02, so AUPRO@0.01 comes out far too low wherever PRO rises steeply at first: for comparing with tables
    made by that code, and nothing else.
    """
    assert steps.region is not None
    n = int(steps.normals)
    places = np.linspace(0, n - 1, thresholds, dtype=np.int64)[::-1]
    beyond = n - 1 - places  # normal scores listed after the threshold
    # A defective pixel is above the threshold where all normal scores that reach it stand after that place.
    counted = np.searchsorted(steps.reached, beyond, side="right")
    pro = np.concatenate([[0.0], np.cumsum(steps.region)])[counted]
    fpr = np.append(beyond / n, 1.0)
    pro = np.append(pro, 1.0)
    inside = fpr < limit
    x = np.append(fpr[inside], limit)
    y = np.append(pro[inside], np.interp(limit, fpr, pro))
    return float(np.trapezoid(y, x) / limit)


def pro_curve(steps: Steps, limit: float = 1.0) -> tuple[FloatArray, FloatArray]:
    """Corners of the PRO curve up to FPR ``limit``: (fpr (n,), pro (n,)) float64, from (0, 0), for plots.

    Raises :class:`InputError` where there is no curve.
    """
    if steps.region is None or steps.lacks("pixel"):
        raise InputError(f"there is no PRO curve: {steps.lacks('pixel') or 'no regions'}", code="input.empty")
    high = np.cumsum(steps.region)
    fpr = np.stack([steps.above, steps.reached], axis=1).ravel() / steps.normals
    pro = np.stack([high - steps.region, high], axis=1).ravel()
    fpr, pro = np.concatenate([[0.0], fpr, [1.0]]), np.concatenate([[0.0], pro, [1.0]])
    kept = fpr < limit
    return np.append(fpr[kept], limit), np.append(pro[kept], np.interp(limit, fpr, pro))
