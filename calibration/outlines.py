"""Outlines of spheres in images, found without hand input and measured to a fraction of a pixel."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from rakelight.arrays import check_array
from rakelight.errors import CalibrationError, InputError

FloatArray = NDArray[np.float64]

MIN_SUPPORT = 0.3
"""Least fraction of the rim that must show an edge."""
_RIM_BAND = 0.012  # of the radius: edges this near to the circle are its rim (perspective makes an ellipse of it)
_LEVELS = (640, 1280, 2560)
_PAIRS = 400_000
_CANDIDATES = 40
_REACH = np.arange(1.04, 1.62, 0.04)  # a ball on a table mirrors the table's edge at 0.62 of its radius or further out


@dataclass(frozen=True)
class Circle:
    """Outline of a sphere in an image.

    Attributes
    ----------
    u, v, radius : float
        Centre and radius in pixels (pixel centre at integer, v down).
    residual_px : float
        Root mean square distance of the edge points used from the circle.
    support : float
        Fraction of the rim, 0 to 1, that shows an edge on the circle.
    rim : (M, 2) float64
        Edge points used (u, v). They carry the exact outline, which under perspective is an ellipse;
        empty for a circle given by hand.
    """

    u: float
    v: float
    radius: float
    residual_px: float = 0.0
    support: float = 1.0
    rim: FloatArray = field(default_factory=lambda: np.empty((0, 2)), repr=False, compare=False)

    def shifted(self, du: float, dv: float) -> Circle:
        """The same circle in an image whose origin lies at (-du, -dv), for example the full frame of a crop."""
        return replace(self, u=self.u + du, v=self.v + dv, rim=self.rim + np.array([du, dv]))

    def outline(self) -> FloatArray:
        """(M, 2) points of the outline: the measured rim, or 90 points of the circle where there is none."""
        if len(self.rim) >= 8:
            return self.rim
        angle = np.linspace(0.0, 2.0 * np.pi, 90, endpoint=False)
        return np.stack([self.u + self.radius * np.cos(angle), self.v + self.radius * np.sin(angle)], axis=-1)


def find_sphere(image: NDArray[Any], *, radius_px: tuple[float, float] | None = None, seed: int = 0) -> Circle:
    """The outline of the one sphere in an image; see :func:`find_spheres`."""
    return find_spheres(image, 1, radius_px=radius_px, seed=seed)[0]


def find_spheres(
    image: NDArray[Any], count: int, *, radius_px: tuple[float, float] | None = None, seed: int = 0
) -> tuple[Circle, ...]:
    """Find the outlines of ``count`` spheres without any hand input, from left to right.

    Oriented edges of a reduced image vote in pairs: the normals of two rim edges meet in the centre,
    equally far from both (randomised Hough transform, Xu, Oja & Kultanen 1990). The best circles by
    rim support beyond chance are measured again at full size: sub-pixel edges along radii, then a
    robust geometric fit. Dark or bright backgrounds, a hidden part of the rim and reflections in the
    sphere do no harm as long as ``MIN_SUPPORT`` of the rim shows.

    Parameters
    ----------
    image : (H, W) any real dtype
        Mean (preferred) or maximum over the lights.
    count : int
        Number of spheres.
    radius_px : (float, float), optional
        Least and greatest radius. Default: 1/100 to 3/4 of the longer side.
    seed : int
        Of the random pairs.

    Raises
    ------
    CalibrationError
        ``calibration.sphere_not_found``.
    InputError
        Wrong shape, not finite, ``count < 1``.
    """
    grey = np.ascontiguousarray(check_array("sphere image", image, ndim=2, finite=True), dtype=np.float32)
    if count < 1 or min(grey.shape) < 16:
        raise InputError(f"{count} spheres in an image of {grey.shape}; at least 1 sphere and 16×16 pixels are needed")
    longer = max(grey.shape)
    low, high = radius_px or (0.01 * longer, 0.75 * longer)
    found: list[Circle] = []
    for size in _LEVELS:
        scale = max(1.0, longer / size)
        found = _find_at(grey, count, scale, (low, high), np.random.default_rng(seed))
        if len(found) == count:
            return tuple(sorted(found, key=lambda c: c.u))
        if scale == 1.0:
            break
    raise CalibrationError(
        f"found {len(found)} of {count} sphere outlines with at least {MIN_SUPPORT:.0%} of the rim visible "
        f"and radius {low:.0f} to {high:.0f} px in an image of {grey.shape[1]}×{grey.shape[0]} px",
        hint="give the circle (u, v, radius) by hand, or put the sphere before an evenly lit background",
        code="calibration.sphere_not_found",
    )


@dataclass(frozen=True)
class _Edges:
    """Edge pixels: positions (M, 2) and unit gradients (M, 2)."""

    uv: FloatArray
    normal: FloatArray

    def where(self, keep: NDArray[np.bool_]) -> _Edges:
        return _Edges(self.uv[keep], self.normal[keep])


def _find_at(
    grey: NDArray[np.float32], count: int, scale: float, radius_px: tuple[float, float], rng: np.random.Generator
) -> list[Circle]:
    """Spheres found with the search at one reduction ``scale``, measured at full size."""
    height, width = grey.shape
    small = grey
    if scale > 1.0:
        size = (round(width / scale), round(height / scale))
        small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    edges = _oriented_edges(small)
    limits = (max(6.0, radius_px[0] / scale), radius_px[1] / scale)
    found: list[Circle] = []
    for _ in range(4 * count):
        best = _best_circle(edges, limits, rng)
        if best is None:
            break
        u, v, r = _outermost(edges, best, limits)
        distance = np.hypot(edges.uv[:, 0] - u, edges.uv[:, 1] - v)
        edges = edges.where(distance > 1.1 * r)  # also drops what is reflected inside
        circle = _refine(grey, ((u + 0.5) * scale - 0.5, (v + 0.5) * scale - 0.5, r * scale), 2.0 * scale, rng)
        if circle is not None and circle.support >= MIN_SUPPORT:
            found.append(circle)
            if len(found) == count:
                break
    return found


def _oriented_edges(small: NDArray[np.float32]) -> _Edges:
    """Canny edges of the logarithm, so that a faint rim counts as much as a bright highlight."""
    floor = float(small.min())
    span = float(np.percentile(small, 99.0)) - floor
    log = np.log(np.maximum(small - floor, 0.0) + 0.02 * span + 1e-6).astype(np.float32)
    log = cv2.GaussianBlur(log, (0, 0), 1.2)
    du = cv2.Scharr(log, cv2.CV_32F, 1, 0)
    dv = cv2.Scharr(log, cv2.CV_32F, 0, 1)
    magnitude = np.hypot(du, dv)
    top = float(np.percentile(magnitude, 99.5)) or 1.0
    gain = 8000.0 / top
    noise = float(np.median(magnitude)) / 1.177  # Rayleigh: median = 1.177 sigma
    strong = max(6.0 * noise, 0.02 * top)
    steps = [np.clip(d * gain, -30000, 30000).astype(np.int16) for d in (du, dv)]
    canny = cv2.Canny(steps[0], steps[1], 0.5 * strong * gain, strong * gain, L2gradient=True)
    rows, columns = np.nonzero(canny)
    normal = np.stack([du[rows, columns], dv[rows, columns]], axis=-1).astype(np.float64)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-30
    return _Edges(np.stack([columns, rows], axis=-1).astype(np.float64), normal)


def _best_circle(
    edges: _Edges, limits: tuple[float, float], rng: np.random.Generator
) -> tuple[float, float, float] | None:
    """The circle (u, v, r) with the most rim beyond chance, times sqrt(r); None when none reaches the minimum."""
    best, best_score = None, 0.0
    for candidate in _pair_votes(edges, limits, rng):
        circle = _fit_edges(edges, candidate)
        if circle is None or not limits[0] <= circle[2] <= limits[1]:
            continue
        support = _support(edges, circle)
        # Around a true rim the neighbouring radii are empty; in texture they are as full as the circle itself.
        near = [_support(edges, (circle[0], circle[1], circle[2] * f)) for f in (0.86, 0.93, 1.07, 1.14)]
        excess = support - float(np.mean(near))
        score = excess * np.sqrt(circle[2])
        if support >= MIN_SUPPORT and excess >= 0.5 * MIN_SUPPORT and score > best_score:
            best, best_score = circle, score
    return best


def _outermost(
    edges: _Edges, inner: tuple[float, float, float], limits: tuple[float, float]
) -> tuple[float, float, float]:
    """The largest circle about the same centre whose rim shows; the given one where none does.

    A ball that lies on a table mirrors it in a ring along its rim and the room inside: the border between both is a
    circle too, at about 0.72 of the radius, and often far sharper than the outline. So the strongest is not always it.
    """
    best = inner
    for factor in _REACH:
        circle = _fit_edges(edges, np.array([inner[0], inner[1], inner[2] * factor]))
        if circle is None or not best[2] * 1.01 < circle[2] <= min(limits[1], _REACH[-1] * inner[2]):
            continue
        aside = np.hypot(circle[0] - inner[0], circle[1] - inner[1])
        support = _support(edges, circle)
        chance = float(np.mean([_support(edges, (circle[0], circle[1], circle[2] * f)) for f in (1.07, 1.14)]))
        if aside < 0.08 * circle[2] and support >= 1.5 * MIN_SUPPORT and support - chance >= MIN_SUPPORT:
            best = circle
    return best


def _pair_votes(edges: _Edges, limits: tuple[float, float], rng: np.random.Generator) -> FloatArray:
    """(M, 3) circles most voted for by random pairs of oriented edges."""
    total = len(edges.uv)
    if total < 12:
        return np.empty((0, 3))
    i, j = rng.integers(0, total, _PAIRS), rng.integers(0, total, _PAIRS)
    n, m = edges.normal[i], edges.normal[j]
    between = edges.uv[j] - edges.uv[i]
    cross = n[:, 0] * m[:, 1] - n[:, 1] * m[:, 0]
    cross = np.where(np.abs(cross) < 0.25, np.nan, cross)  # normals nearly parallel: the centre is not told
    a = (between[:, 0] * m[:, 1] - between[:, 1] * m[:, 0]) / cross
    b = (between[:, 0] * n[:, 1] - between[:, 1] * n[:, 0]) / cross
    radius = 0.5 * (np.abs(a) + np.abs(b))
    good = (np.abs(np.abs(a) - np.abs(b)) < 0.04 * radius + 1.0) & (radius >= limits[0]) & (radius <= limits[1])
    if not good.any():
        return np.empty((0, 3))
    centre = 0.5 * (edges.uv[i] + a[:, None] * n + edges.uv[j] + b[:, None] * m)[good]
    radius = radius[good]
    # bins grow with the radius, as the error of a centre does
    octave = np.floor(np.log(radius) / np.log(1.1)).astype(np.int64)
    cell = 0.08 * 1.1**octave + 1.0
    key = np.stack([octave, *np.floor(centre.T / cell).astype(np.int64)], axis=-1)
    _, index, votes = np.unique(key, axis=0, return_inverse=True, return_counts=True)
    index = index.ravel()
    circles = np.stack([np.bincount(index, w) / votes for w in (*centre.T, radius)], axis=-1)
    # chance votes thin out with the area of a cell, rim votes grow with the length of the rim
    return circles[np.argsort(-votes, kind="stable")[:_CANDIDATES]]


def _fit_edges(edges: _Edges, start: FloatArray) -> tuple[float, float, float] | None:
    """Circle through the edges around ``start`` whose gradient points along the radius; the band narrows."""
    u, v, r = (float(x) for x in start)
    for band in (0.10, 0.05, 0.025, 0.012, 0.012):
        keep = _on_rim(edges, (u, v, r), max(1.5, band * r))
        if keep.sum() < 8:
            return None
        x, y = edges.uv[keep].T
        # algebraic fit (Kasa), centred for conditioning; only the start of the geometric fit
        a = np.stack([2.0 * (x - u), 2.0 * (y - v), np.ones_like(x)], axis=-1)
        (du, dv, c), *_ = np.linalg.lstsq(a, (x - u) ** 2 + (y - v) ** 2, rcond=None)
        u, v, r = u + float(du), v + float(dv), float(np.sqrt(max(c + du * du + dv * dv, 0.0)))
        if r < 3.0:
            return None
    return u, v, r


def _on_rim(edges: _Edges, circle: tuple[float, float, float], band: float) -> NDArray[np.bool_]:
    offset = edges.uv - np.array(circle[:2])
    distance = np.hypot(offset[:, 0], offset[:, 1])
    along = np.abs(np.einsum("ij,ij->i", offset, edges.normal))
    keep: NDArray[np.bool_] = (np.abs(distance - circle[2]) < band) & (along > 0.92 * distance)
    return keep


def _support(edges: _Edges, circle: tuple[float, float, float]) -> float:
    """Fraction of the rim's sectors that hold an edge along the rim."""
    sectors = int(np.clip(np.pi * circle[2], 24, 360))  # about 2 px of rim each
    offset = edges.uv[_on_rim(edges, circle, max(1.5, 0.008 * circle[2]))] - np.array(circle[:2])
    angle = np.arctan2(offset[:, 1], offset[:, 0])
    return len(np.unique(np.floor((angle / (2 * np.pi) % 1.0) * sectors))) / sectors


def _refine(
    grey: NDArray[np.float32], start: tuple[float, float, float], window: float, rng: np.random.Generator
) -> Circle | None:
    """Sub-pixel rim at full size: edges along radii, the circle most of them agree on, twice, the window narrowing."""
    u, v, r = start
    for half in (window + 0.03 * r, max(min(10.0, 4.0 + 0.06 * r), 0.03 * r)):
        edges = _rim_edges(grey, (u, v, r), half)
        if len(edges.uv) < 12:
            return None
        u, v, r = _consensus(edges, (u, v, r), max(1.0, 0.003 * r), window + 0.02 * r, rng)
    error = np.abs(np.hypot(edges.uv[:, 0] - u, edges.uv[:, 1] - v) - r)
    near, rim = error < max(1.5, 0.004 * r), error < max(2.0, _RIM_BAND * r)
    if near.sum() < 12:
        return None
    support = len(np.unique(edges.radius[rim])) / edges.radii
    return Circle(u, v, r, float(np.sqrt(np.mean(error[near] ** 2))), support, edges.uv[rim])


@dataclass(frozen=True)
class _RimEdges:
    """Sub-pixel edges met along radii: positions (M, 2), weights (M,), index of the radius (M,), number of radii."""

    uv: FloatArray
    weight: FloatArray
    radius: NDArray[np.int64]
    radii: int


def _rim_edges(grey: NDArray[np.float32], circle: tuple[float, float, float], half: float) -> _RimEdges:
    """All edges met along radii within ``half`` px of the circle."""
    u, v, r = circle
    angles = int(np.clip(2.0 * np.pi * r, 90, 1440))
    angle = np.arange(angles) * (2.0 * np.pi / angles)
    step = max(0.5, half / 60.0)
    offset = np.arange(-half - 4 * step, half + 4.5 * step, step)
    map_u = (u + np.cos(angle)[:, None] * (r + offset)).astype(np.float32)
    map_v = (v + np.sin(angle)[:, None] * (r + offset)).astype(np.float32)
    profile = cv2.remap(grey, map_u, map_v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # around the circle the profiles wrap
    profile = np.concatenate([profile[-8:], profile, profile[:8]])
    sigma = max(1.5, 0.006 * r) / step
    smooth = cv2.GaussianBlur(profile, (0, 0), sigmaX=sigma, sigmaY=3.0)[8:-8]
    slope = np.abs(np.gradient(smooth, axis=1)).astype(np.float64)
    height, width = grey.shape
    inside = (map_u >= 1) & (map_u <= width - 2) & (map_v >= 1) & (map_v <= height - 2)
    slope[~inside] = 0.0
    before, at, after = slope[:, 3:-5], slope[:, 4:-4], slope[:, 5:-3]
    if not inside.any():
        return _RimEdges(np.empty((0, 2)), np.empty(0), np.empty(0, dtype=np.int64), angles)
    # a quarter of the samples are taken as free of edges: noise sigma = 25th percentile / 0.319
    least = max(3.0 * float(np.percentile(slope[inside], 25.0)) / 0.319, 1e-3 * float(slope.max()))
    peak = (at >= before) & (at > after) & (at > least)
    row, column = np.nonzero(peak)
    before, at, after = before[peak], at[peak], after[peak]
    shift = 0.5 * (before - after) / (before - 2.0 * at + after)
    radius = r + offset[column + 4] + shift * step
    uv = np.stack([u + radius * np.cos(angle[row]), v + radius * np.sin(angle[row])], axis=-1)
    # faint edges (reflections that fade out towards the rim) count less, glaring ones not more than the rest
    weight = np.minimum(at / (float(np.percentile(at, 75.0)) if len(at) else 1.0), 1.0) ** 2
    return _RimEdges(uv, weight, row, angles)


def _consensus(
    edges: _RimEdges, start: tuple[float, float, float], tolerance: float, shift: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    """The circle with most edges within ``tolerance`` (MSAC, Torr & Zisserman 2000, of circles through 3 points).

    Its centre and radius differ by at most ``shift`` from the start.
    """
    u, v, r = start
    xy = edges.uv - np.array([u, v])
    p, q, s = (xy[rng.integers(0, len(xy), 1500)] for _ in range(3))
    pq, ps = q - p, s - p
    cross = 2.0 * (pq[:, 0] * ps[:, 1] - pq[:, 1] * ps[:, 0])
    cross = np.where(np.abs(cross) < 0.3 * r * r, np.nan, cross)  # three points close together: a wild circle
    b, c = (pq**2).sum(-1), (ps**2).sum(-1)
    centre = p + np.stack([ps[:, 1] * b - pq[:, 1] * c, pq[:, 0] * c - ps[:, 0] * b], axis=-1) / cross[:, None]
    radius = np.linalg.norm(centre - p, axis=-1)
    circles = np.column_stack([centre, radius])
    circles = circles[(np.abs(radius - r) < shift) & (np.linalg.norm(centre, axis=-1) < shift)]
    few = rng.permutation(len(xy))[:1500]
    (x, y), weight = xy[few].T, edges.weight[few]
    best, best_cost = (0.0, 0.0, r), np.inf
    for a, b, radius in np.vstack([[0.0, 0.0, r], circles]):
        cost = float(weight @ np.minimum(((np.hypot(x - a, y - b) - radius) / tolerance) ** 2, 1.0))
        if cost < best_cost:
            best, best_cost = (a, b, radius), cost
    error = np.hypot(xy[:, 0] - best[0], xy[:, 1] - best[1]) - best[2]
    near = np.abs(error) < 2.0 * tolerance
    if near.sum() < 8:
        return start
    start = (u + best[0], v + best[1], best[2])
    return fit_circle(edges.uv[near], edges.weight[near], start, tolerance)


def fit_circle(
    points: FloatArray, weight: FloatArray, start: tuple[float, float, float], f_scale: float
) -> tuple[float, float, float]:
    """Least sum of weighted, robust (Cauchy) geometric distances to a circle."""
    root = np.sqrt(weight)

    def error(p: FloatArray) -> FloatArray:
        out: FloatArray = root * (np.hypot(points[:, 0] - p[0], points[:, 1] - p[1]) - p[2])
        return out

    x = least_squares(error, np.array(start), loss="cauchy", f_scale=f_scale, x_scale=max(1.0, start[2])).x
    return float(x[0]), float(x[1]), float(x[2])
