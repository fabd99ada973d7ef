"""Where two edges of a board cross, to a hundredth of a pixel: a blurred cross of two lines fitted to the edges.

``cv2.cornerSubPix`` takes every pixel of a square window alike and is drawn by markers and by shading. Here only the edges
count, as far as half a square from the corner and no nearer to a marker than the blur reaches; blur, contrast, shading and
the bow that a lens gives to straight lines are part of the model, so none of them can shift the corner.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

FloatArray = NDArray[np.float64]

REACH = 0.5  # of a square along each edge: every edge is then used once, by the corner it is nearer to
_FIRST_BAND_PX = 4.0
_LEAST_BAND_PX = 1.5
_BAND_SIGMAS = 3.5
_MARKER_CLEARANCE_PX = 1.5
_ROUNDS, _STEPS = 2, 20
_MAX_MOVE = 0.25  # of a square, from where the detector saw the corner
_MAX_MISFIT = (
    0.35  # of half the step from black to white, rms: 0.2 for a noisy print, 0.5 and more where no edges cross
)
_LEAST_PIXELS, _MOST_PIXELS = 24, 4000  # more add time, not certainty: 4000 tell a corner to 0.004 px at 2 % noise


@dataclass(frozen=True, eq=False)
class SmoothMap:
    """Board to image: a homography and a cubic that takes up what a lens bends.

    ``coefficients`` (10 or 0, 2): px of the monomials of the board coordinates, centred and scaled to ±1.
    """

    homography: FloatArray
    centre: FloatArray
    scale: float
    coefficients: FloatArray

    @classmethod
    def fit(cls, xy: FloatArray, uv: FloatArray) -> SmoothMap | None:
        """Robust fit of pixels (N, 2) to board points (N, 2); None if no homography fits."""
        homography, _ = cv2.findHomography(xy, uv, cv2.LMEDS)
        if homography is None or not np.isfinite(homography).all():
            return None
        centre, scale = xy.mean(axis=0), float(np.abs(xy - xy.mean(axis=0)).max())
        bare = cls(np.asarray(homography, np.float64), centre, scale, np.zeros((0, 2)))
        misfit = uv - bare(xy)
        good = np.linalg.norm(misfit, axis=1) < 3.0 + 4.0 * np.median(np.linalg.norm(misfit, axis=1))
        if good.sum() < 20:
            return bare
        terms = bare._monomials(xy)
        for _ in range(3):
            coefficients = np.linalg.lstsq(terms[good], misfit[good], rcond=1e-6)[0]
            left = np.linalg.norm(misfit - terms @ coefficients, axis=1)
            good = left < max(0.05, 4.0 * float(np.median(left)))
            if good.sum() < 20:
                return bare
        return cls(bare.homography, centre, scale, coefficients)

    def __call__(self, xy: FloatArray) -> FloatArray:
        """Pixels (N, 2) of board points (N, 2)."""
        at = np.column_stack([xy, np.ones(len(xy))]) @ self.homography.T
        uv = at[:, :2] / at[:, 2:]
        return uv + self._monomials(xy) @ self.coefficients if len(self.coefficients) else uv

    def _monomials(self, xy: FloatArray) -> FloatArray:
        x, y = ((xy - self.centre) / self.scale).T
        return np.stack([x**i * y**j for i in range(4) for j in range(4 - i)], axis=-1)


@dataclass(frozen=True, eq=False)
class Cross:
    """What is known of a corner before the fit, in px.

    ``along_x``, ``along_y``: the sides of a square there; ``bow_x``, ``bow_y``: curvature (1/px) of the edge that runs
    along x (y), towards its left-hand normal (−t_y, t_x); ``gap``: width of the white rim around a marker as a share of the
    square, infinite without markers.
    """

    at: FloatArray
    along_x: FloatArray
    along_y: FloatArray
    bow_x: float
    bow_y: float
    gap: float


def crosses(board_map: SmoothMap, xy: FloatArray, uv: FloatArray, square: float, gap: float) -> list[Cross]:
    """The crosses at board points (N, 2), thought to be at pixels (N, 2)."""
    out = []
    step = REACH * square
    middle = board_map(xy)
    sides = {
        axis: (board_map(xy - step * direction), board_map(xy + step * direction))
        for axis, direction in (("x", np.array([1.0, 0.0])), ("y", np.array([0.0, 1.0])))
    }
    for k in range(len(xy)):
        along, bow = {}, {}
        for axis, (before, after) in sides.items():
            chord = after[k] - before[k]
            length = float(np.linalg.norm(chord))
            normal = np.array([-chord[1], chord[0]]) / length
            sagitta = float(normal @ ((before[k] + after[k]) / 2 - middle[k]))
            along[axis], bow[axis] = chord / (2 * REACH), 8.0 * sagitta / length**2
        out.append(Cross(uv[k], along["x"], along["y"], bow["x"], bow["y"], gap))
    return out


def fit_cross(image: NDArray[np.float32], cross: Cross) -> tuple[FloatArray, FloatArray] | None:
    """Fit I = b + a·E(d_x/σ_x)·E(d_y/σ_y) with E(t) = erf(t/√2), d the distances in px from the two edges through the
    corner, b and a linear in the pixel's place (Gauss-Newton on 5 + 1 shape and 6 linear parameters).

    Returns
    -------
    (2,) float64, (2,) float64
        The corner in px, and σ in px of the edges that run along x and along y; None where no such cross is seen.
    """
    corner = cross.at.copy()
    angles = np.array([np.arctan2(e[1], e[0]) for e in (cross.along_x, cross.along_y)])
    sigmas = np.full(2, 1.0)
    sides = np.array([np.linalg.norm(cross.along_x), np.linalg.norm(cross.along_y)])
    if sides.min() < 6.0:
        return None
    band = _FIRST_BAND_PX
    misfit = np.inf
    for _ in range(_ROUNDS):
        picked = _pixels(image.shape, corner, cross, sides, band)
        if picked is None:
            return None
        u, v = picked
        found = _gauss_newton(
            image[v, u].astype(np.float64), u, v, corner, angles, sigmas, np.array([cross.bow_x, cross.bow_y])
        )
        if found is None:
            return None
        corner, angles, sigmas, misfit = found
        if np.linalg.norm(corner - cross.at) > _MAX_MOVE * sides.min():
            return None
        band = float(_BAND_SIGMAS * sigmas.max() + 1.0)
    return (corner, sigmas) if misfit < _MAX_MISFIT else None


def _pixels(
    shape: tuple[int, ...], corner: FloatArray, cross: Cross, sides: FloatArray, band: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Pixels near the two edges: columns and rows; None if too few, or cut by the image's border."""
    frame = np.linalg.inv(np.column_stack([cross.along_x, cross.along_y]))
    reach = REACH * (np.abs(cross.along_x) + np.abs(cross.along_y))
    low, high = np.floor(corner - reach).astype(int), np.ceil(corner + reach).astype(int)
    if (low < 0).any() or high[0] >= shape[1] or high[1] >= shape[0]:
        low, high = np.maximum(low, 0), np.minimum(high, [shape[1] - 1, shape[0] - 1])
        if (high - low < 8).any():
            return None
    v, u = np.mgrid[low[1] : high[1] + 1, low[0] : high[0] + 1]
    alpha, beta = np.tensordot(frame, np.stack([u - corner[0], v - corner[1]]), axes=1)
    # px across the edges: area of the square over the side that the edge follows
    area = abs(float(np.linalg.det(np.column_stack([cross.along_x, cross.along_y]))))
    across = np.minimum(np.abs(alpha) * area / sides[1], np.abs(beta) * area / sides[0])
    width = min(band, 0.3 * area / sides.max())
    width = max(min(width, cross.gap * area / sides.max() - _MARKER_CLEARANCE_PX), _LEAST_BAND_PX)
    near = (across <= width) & (np.abs(alpha) <= REACH) & (np.abs(beta) <= REACH)
    count = int(near.sum())
    if count < _LEAST_PIXELS:
        return None
    thinned = np.linspace(0, count - 1, min(count, _MOST_PIXELS)).astype(int)
    return u[near][thinned], v[near][thinned]


def _gauss_newton(
    values: FloatArray,
    u: NDArray[np.int64],
    v: NDArray[np.int64],
    corner: FloatArray,
    angles: FloatArray,
    sigmas: FloatArray,
    bows: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray, float] | None:
    """Corner, angles, sigmas and the misfit as a share of the contrast; None where it does not settle."""
    middle, half = np.array([u.mean(), v.mean()]), max(np.ptp(u), np.ptp(v)) / 2
    plane = np.column_stack([np.ones(len(u)), (u - middle[0]) / half, (v - middle[1]) / half])
    shape = np.concatenate([corner, angles, np.log(sigmas)])
    damping, cost, settled = 1e-3, np.inf, False
    best, linear = shape, np.zeros(6)
    step: FloatArray = np.zeros(6)
    normal: FloatArray = np.eye(12)
    right: FloatArray = np.zeros(12)
    for turn in range(_STEPS):
        saddle, gradient = _saddle(u, v, shape, bows)
        basis = np.concatenate([plane, plane * saddle[:, None]], axis=1)
        square = basis.T @ basis
        if np.linalg.cond(square) > 1e12:
            return None
        weights = np.linalg.solve(square, basis.T @ values)
        residual = values - basis @ weights
        if float(residual @ residual) <= cost:
            cost, best, linear = float(residual @ residual), shape, weights
            jacobian = np.concatenate([gradient * (plane @ linear[3:])[:, None], basis], axis=1)
            normal, right = jacobian.T @ jacobian, jacobian.T @ residual
            damping = max(damping * 0.1, 1e-9)
            settled = bool(np.abs(step[:2]).max() < 2e-4) and turn > 0
        else:
            damping *= 10.0
            settled = bool(np.abs(step[:2]).max() < 2e-5)  # uphill by rounding only
        if settled:
            break
        damped = normal + damping * np.diag(np.maximum(np.diag(normal), 1e-12))
        step = np.asarray(np.linalg.solve(damped, right)[:6])
        step *= min(1.0, 2.0 / max(float(np.abs(step[:2]).max()), 1e-9), 0.3 / max(float(np.abs(step[2:]).max()), 1e-9))
        shape = best + step
        shape[4:] = np.clip(shape[4:], np.log(0.2), np.log(30.0))
    contrast = abs(float(linear[3]))
    if not np.isfinite(best).all() or contrast == 0 or not (settled or np.abs(step[:2]).max() < 0.01):
        return None
    return best[:2], best[2:4], np.exp(best[4:]), float(np.sqrt(cost / len(u))) / contrast


def _saddle(
    u: NDArray[np.int64], v: NDArray[np.int64], shape: FloatArray, bows: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """E·E at the pixels, (M,), and its derivatives by u, v, both angles and both log σ, (M, 6)."""
    x, y = u - shape[0], v - shape[1]
    parts = []
    for angle, log_sigma, bow in zip(shape[2:4], shape[4:], bows, strict=True):
        c, s, sigma = np.cos(angle), np.sin(angle), np.exp(log_sigma)
        t = x * c + y * s  # along the edge
        d = -x * s + y * c - 0.5 * bow * t * t
        slope = np.sqrt(2 / np.pi) / sigma * np.exp(-0.5 * (d / sigma) ** 2)
        # of d: by u, by v, by the angle; of the argument d/σ by log σ
        parts.append(
            (
                erf(d / (np.sqrt(2) * sigma)),
                slope * (s + bow * t * c),
                slope * (-c + bow * t * s),
                slope * (-t - bow * t * d),
                slope * -d,
            )
        )
    (e, eu, ev, ea, es), (g, gu, gv, ga, gs) = parts
    gradient = np.stack([eu * g + e * gu, ev * g + e * gv, ea * g, e * ga, es * g, e * gs], axis=-1)
    return e * g, gradient
