"""AUPRO over again, by other code: for each threshold by counting, and by one global sort. And maps to try it on."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from scipy import ndimage
from skimage.measure import label


def by_counting(maps: list[np.ndarray], masks: list[np.ndarray], limit: float) -> float:
    """From the definition: a loop over all thresholds and regions; slow."""
    regions, normals = [], []
    for m, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [m[labels == k] for k in range(1, count + 1)]
        normals.append(m[~mask])
    normal = np.concatenate(normals)
    points = [(0.0, 0.0)]
    for t in np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]:
        points.append((float((normal >= t).mean()), float(np.mean([(r >= t).mean() for r in regions]))))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def by_global_sort(maps: list[np.ndarray], masks: list[np.ndarray], limits: tuple[float, ...]) -> list[float]:
    """All pixels in one list, sorted by argsort, curve by cumulative sums, ends of ties, trapezoids."""
    weights, normal = [], []
    count = 0
    for mask in masks:
        labels = label(mask, connectivity=2)
        sizes = np.bincount(labels.ravel())
        weight = 1.0 / sizes[labels]
        weight[labels == 0] = 0.0
        weights.append(weight.ravel())
        normal.append((labels == 0).ravel())
        count += len(sizes) - 1
    scores = np.concatenate([m.ravel() for m in maps])
    order = np.argsort(scores, kind="stable")[::-1]
    scores = scores[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    fpr = np.cumsum(np.concatenate(normal)[order], dtype=np.int64)[ends]
    x = np.concatenate([[0.0], fpr / fpr[-1]])
    y = np.concatenate([[0.0], np.cumsum(np.concatenate(weights)[order])[ends] / count])
    areas = []
    for limit in limits:
        last = int(np.searchsorted(x, limit, side="right"))  # first point beyond, if any
        xs, ys = x[:last], y[:last]
        if last < len(x):
            at = ys[-1] + (y[last] - ys[-1]) * (limit - xs[-1]) / (x[last] - xs[-1])
            xs, ys = np.append(xs, limit), np.append(ys, at)
        areas.append(float(np.trapezoid(ys, xs)) / limit)
    return areas


def with_hundred_thresholds(maps: list[np.ndarray], masks: list[np.ndarray], limit: float, count: int = 100) -> float:
    """What the M3DM family computes, spelt out: thresholds at equal steps of the sorted normal scores."""
    normal = np.sort(np.concatenate([m[~mask] for m, mask in zip(maps, masks, strict=True)]))
    regions = []
    for m, mask in zip(maps, masks, strict=True):
        labels, found = ndimage.label(mask, np.ones((3, 3)))
        regions += [m[labels == k] for k in range(1, found + 1)]
    points = [(1.0, 1.0)]
    for place in np.linspace(0, len(normal) - 1, count, dtype=int):
        points.append((1 - (place + 1) / len(normal), float(np.mean([(r > normal[place]).mean() for r in regions]))))
    points.reverse()
    x, y = np.array(points).T
    grid = np.unique(np.concatenate([x[x < limit], [limit]]))
    return float(np.trapezoid(np.interp(grid, x, y), grid)) / limit


def natural(count: int, size: int, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Smooth float32 maps with blobs that stand out more or less; every other part is good."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    blur = size / 56
    for n in range(count):
        field = cv2.GaussianBlur(rng.standard_normal((size, size)).astype(np.float32), (0, 0), blur)
        field = 1 + 0.3 * (field / field.std()) ** 2
        mask = np.zeros((size, size), np.uint8)
        for _ in range(int(rng.integers(1, 4)) if n % 2 else 0):
            at, axes = rng.integers(0, size, 2), rng.integers(size // 80 + 1, size // 12 + 2, 2)
            cv2.ellipse(mask, at.tolist(), axes.tolist(), float(rng.uniform(0, 180)), 0, 360, 1, -1)
        field += cv2.GaussianBlur(mask.astype(np.float32), (0, 0), blur) * np.float32(rng.uniform(0, 4))
        maps.append(field.astype(np.float32))
        masks.append(mask > 0)
    return maps, masks
