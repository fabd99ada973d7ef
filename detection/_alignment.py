"""How one square picture of a part is turned and shifted against another: the arithmetic below :mod:`registration`.

Both pictures have one scale, T × T pixels, and come with the part's mask. The turn is found without a start value, by circular
correlation of both in polar coordinates about the part's centre (Casasent, Psaltis 1976), and refined together with the
shift by maximising the enhanced correlation coefficient (Evangelidis, Psarakis 2008, IEEE TPAMI 30, 1858–1865).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

_ANGLES, _RADII = 360, 48
_SMOOTH_DEG = 2.0  # of the polar correlation's pictures: pixel noise at the centre is no pattern
_LEAST_TOLD = 0.5  # correlation of what is not round, below which the turn cannot be told
_LEAST_PATTERN = 0.02  # share of the contrast that is not round: less is the pixel grid and noise
_CANDIDATES = 3  # besides none
_NEAR = 0.15  # correlations that much below the highest may still turn out the best once refined
# A turn must leave at most that share of a smaller one's mismatch, and gain that much correlation: a round part is not turned
# after the lights' pattern on it, nor one of n-fold symmetry further than need be.
_BETTER, _LEAST_GAIN = 0.75, 0.005
_EDGE = 1.0  # contrast of the part against the background, in standard deviations of the picture on the part


@dataclass(frozen=True)
class Alignment:
    """The motion that carries one picture onto another.

    Attributes
    ----------
    matrix : (2, 3) float64
        Pixel of the part's picture → pixel of the template's.
    angle_deg : float
        Its turn: positive from the u axis (right) to the v axis (down).
    told : bool
        False: nothing tells the turn (a round part without a pattern), and only the shift was found.
    correlation : float
        Of both pictures after the motion, inside the template's part (1 = equal).
    refined : bool
        False: the refinement did not converge, and the first estimate stands.
    """

    matrix: NDArray[np.float64]
    angle_deg: float
    told: bool
    correlation: float
    refined: bool


def prepare(picture: Image | None, mask: NDArray[np.bool_]) -> Image:
    """(T, T) float32 in which the part has mean ``_EDGE`` and deviation 1, and everything else is 0.

    NaN of the picture count as its mean; without a picture it is the silhouette alone.
    """
    if picture is None:
        return mask.astype(np.float32)
    inside = picture[mask]
    inside = inside[np.isfinite(inside)]
    centre, spread = (float(np.median(inside)), float(inside.std())) if len(inside) else (0.0, 0.0)
    if spread <= 1e-9:
        return mask.astype(np.float32)
    level = np.clip(np.nan_to_num((picture - centre) / spread, nan=0.0), -3, 3) + _EDGE
    return np.where(mask, level, 0).astype(np.float32)


def align(template: Image, picture: Image, *, turns: bool = True) -> Alignment:
    """Carry ``picture`` onto ``template`` (both from :func:`prepare`, T × T); ``turns`` False: only by a shift."""
    to, start = centre_of(template != 0), centre_of(picture != 0)
    told, angles = _turns(template, picture, to, start) if turns else (False, [])
    best: Alignment | None = None
    for angle in angles if told else [0.0]:
        found = _refine(template, picture, _about(start, to, angle), told)
        gain = found.correlation - best.correlation if best is not None else 1.0
        if best is None or gain > max(_LEAST_GAIN, (1 - _BETTER) * (1 - best.correlation)):
            best = found
    assert best is not None
    return best


def centre_of(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(u, v) centroid of a mask that is not empty."""
    moments = cv2.moments(mask.astype(np.uint8), binaryImage=True)
    return np.array([moments["m10"], moments["m01"]]) / moments["m00"]


def _about(start: NDArray[np.float64], to: NDArray[np.float64], angle_deg: float) -> NDArray[np.float64]:
    """Turn about ``start``, which comes to lie at ``to``."""
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    turn = np.array([[c, -s], [s, c]])
    return np.column_stack([turn, to - turn @ start])


def _turns(
    template: Image, picture: Image, to: NDArray[np.float64], start: NDArray[np.float64]
) -> tuple[bool, list[float]]:
    """Whether the turn can be told, and angles in degrees that are worth refining, the smallest first."""
    a, total_a = _pattern(template, to)
    b, total_b = _pattern(picture, start)
    energy = float(np.sqrt((a**2).sum() * (b**2).sum()))
    if energy <= _LEAST_PATTERN * math.sqrt(total_a * total_b):
        return False, []
    spectrum = (np.fft.rfft(a, axis=0) * np.conj(np.fft.rfft(b, axis=0))).sum(axis=1)
    curve = np.fft.irfft(spectrum, _ANGLES) / energy
    peaks = np.flatnonzero((curve >= np.roll(curve, 1)) & (curve > np.roll(curve, -1)))
    top = float(curve.max())
    if top < _LEAST_TOLD:
        return False, []
    peaks = peaks[curve[peaks] >= top - _NEAR]
    angles = (peaks + 180.0) % 360 - 180
    likely = angles[np.argsort(-curve[peaks])][:_CANDIDATES]
    return True, sorted({0.0, *likely.tolist()}, key=abs)


def _pattern(picture: Image, centre: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """What of a picture is not round, in polar coordinates (angles, radii), and the energy of all of it against the background.

    Rows are weighted by the root of the radius, so that sums go over the area.
    """
    size = picture.shape[0]
    flags = cv2.WARP_POLAR_LINEAR | cv2.INTER_LINEAR | cv2.WARP_FILL_OUTLIERS
    point = (float(centre[0]), float(centre[1]))
    polar = cv2.warpPolar(picture, (_RADII, _ANGLES), point, 0.6 * size, flags).astype(np.float64)
    sigma = _SMOOTH_DEG * _ANGLES / 360
    polar = cv2.GaussianBlur(np.vstack([polar[-8:], polar, polar[:8]]), (1, 17), sigmaX=0.1, sigmaY=sigma)[8:-8]
    weight = np.sqrt(np.arange(_RADII) + 0.5)
    rest = (polar - polar.mean(axis=0)) * weight
    total = float(((polar * weight) ** 2).sum())
    return rest, total


def _refine(template: Image, picture: Image, first: NDArray[np.float64], turn: bool) -> Alignment:
    """The motion ``first`` made better; it stands where that fails or where both pictures agree less afterwards."""
    size = template.shape[::-1]
    moved = cv2.warpAffine(
        picture, first, size, flags=cv2.INTER_LINEAR
    )  # so that only a small motion is left to be found
    motion = cv2.MOTION_EUCLIDEAN if turn else cv2.MOTION_TRANSLATION
    limits = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-4)
    before = correlation(template, picture, first)
    matrix, after, refined = first, before, False
    try:
        _, warp = cv2.findTransformECC(template, moved, np.eye(2, 3, dtype=np.float32), motion, limits, None, 5)
    except cv2.error:  # no overlap of the pictures' contrast, or no convergence
        warp = None
    if warp is not None:
        better = (
            np.vstack([cv2.invertAffineTransform(warp.astype(np.float64)), [0, 0, 1]]) @ np.vstack([first, [0, 0, 1]])
        )[:2]
        after = correlation(template, picture, better)
        if after >= before:
            matrix, refined = better, True
    angle = math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))
    return Alignment(matrix, angle, turn, max(before, after), refined)


def correlation(template: Image, picture: Image, matrix: NDArray[np.float64]) -> float:
    """Of both pictures where the template or the moved picture has the part, −1 … 1."""
    moved = cv2.warpAffine(picture, matrix, template.shape[::-1], flags=cv2.INTER_LINEAR)
    where = (template != 0) | (moved != 0)
    a, b = template[where].astype(np.float64), moved[where].astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm > 0 else 1.0
