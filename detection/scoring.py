"""From the distances of patches to the score of a part and to a score map.

The score of a part is the distance of its farthest patch, weighted by how lonely the matched bank vector is: a patch far
from a rare normal look is stranger than one far from a common one (PatchCore, Roth et al. 2022, CVPR, eq. 7; with √D in
the exponents as in M3DM, Wang et al. 2023, CVPR). ``compat`` reproduces M3DM's published code where it differs.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.detection.neighbours import Floats, SearchBank, check_vectors, nearest
from rakelight.errors import InputError, ModelError

BLUR_AT_224_PX = 4.0


def top_share_mean(
    distances: NDArray[np.floating], share: float = 0.01, valid: NDArray[np.bool_] | None = None
) -> float:
    """The mean of the largest ``share`` (at least one) of the distances (any shape), NaN and invalid ones left out.

    Steadier than the greatest distance alone. Raises :class:`InputError` for a share outside 0…1 and
    :class:`ModelError` where no patch is valid.
    """
    if not 0 < share <= 1:
        raise InputError(
            f"the share of patches to average is {share}; allowed: above 0, at most 1", code="scoring.share"
        )
    values = np.asarray(distances, np.float64)
    values = values[_usable(values, valid)]
    count = math.ceil(round(share * len(values), 9))
    return float(np.partition(values, len(values) - count)[len(values) - count :].mean())


def reweighted_score(
    distances: NDArray[np.floating],
    indices: NDArray[np.integer],
    queries: NDArray[np.floating],
    bank: SearchBank,
    *,
    neighbours: int = 3,
    part: int = -1,
    valid: NDArray[np.bool_] | None = None,
    compat: bool = False,
) -> float:
    """The score of one part: w·s*, with s* the greatest distance and w = 1 − e^{s*/√D} / Σ e^{‖m_test − m‖/√D}.

    The sum runs over the ``neighbours`` bank vectors nearest to m*, the match of the farthest patch m_test, with m* itself
    among them, so that w is 1 minus a softmax. M3DM's code leaves m* out of the sum (``compat=True``).

    Parameters
    ----------
    distances : (P,) float array
        From each patch to its nearest bank vector.
    indices : (P,) int array
        That bank vector.
    queries : (P, D) float array
        The patches, normalised as the bank is.
    bank : SearchBank
    part : int
        The part the patches are of, if it is left out of the bank: its vectors are no neighbours. -1 leaves out none.
    valid : (P,) bool, optional

    Raises
    ------
    ModelError
        No valid patch, or arrays that do not fit each other.
    """
    rows = check_vectors("queries", queries, bank.dim)
    far = np.asarray(distances, np.float64)
    match = np.asarray(indices)
    if far.shape != (len(rows),) or match.shape != far.shape:
        raise ModelError(
            f"{len(rows)} patches, but distances of shape {far.shape} and indices of shape {match.shape}",
            code="model.vectors",
        )
    usable = np.flatnonzero(_usable(far, valid))
    worst = int(usable[far[usable].argmax()])
    if not 0 <= match[worst] < len(bank):
        raise ModelError(f"the farthest patch has no match in the bank (index {match[worst]})", code="model.vectors")
    lonely = bank.vectors[match[worst]][None] + bank.centre
    near = nearest(lonely, bank, k=neighbours, exclude=np.array([part], np.int32)).index[0]
    near = near[near >= 0]
    if compat:
        near = near[1:]
    elif match[worst] not in near:  # equal vectors: which of them is "itself" is left to rounding
        near[-1] = match[worst]
    if len(near) < (1 if compat else 2):
        return float(far[worst])  # a bank of one vector says nothing about loneliness
    gaps = bank.vectors[near].astype(np.float64) - (rows[worst] - bank.centre)
    exponents = (np.linalg.norm(gaps, axis=1) - far[worst]) / math.sqrt(bank.dim)
    return float(far[worst] * (1 - 1 / np.exp(np.minimum(exponents, 700)).sum()))


def score_map(
    distances: NDArray[np.floating],
    size: int,
    *,
    sigma_px: float | None = None,
    valid: NDArray[np.bool_] | None = None,
    mask: NDArray[np.bool_] | None = None,
    outside: float = 0.0,
    compat: bool = False,
) -> Floats:
    """Distances on the grid (G, G) as a map (S, S) float32: bilinear, then Gaussian blur, in float.

    With ``valid`` or ``mask``, patches and pixels outside lend nothing to those inside: sums are divided by the weight that
    is inside (normalised convolution), so a score near the outline is not thinned by the background.

    Parameters
    ----------
    size : int
        S, at least G.
    sigma_px : float, optional
        Of the blur; by default 4 at S = 224, in proportion. 0 for none.
    valid : (G, G) bool, optional
        Patches whose distance counts; NaN never do.
    mask : (S, S) bool, optional
        The part. Pixels outside it, and those no valid patch reaches, become ``outside``.
    compat : bool
        Blur as M3DM's code does, on a map rounded to 256 levels, before masking.

    Raises
    ------
    InputError
        Wrong shapes, S below G, a negative sigma.
    ModelError
        No valid patch.
    """
    grid = check_array("distances", distances, ndim=2).astype(np.float32)
    sigma = BLUR_AT_224_PX * size / 224 if sigma_px is None else sigma_px
    if grid.shape[0] != grid.shape[1] or size < grid.shape[0] or not sigma >= 0:
        raise InputError(
            f"distances {grid.shape}, map size {size}, sigma {sigma}: needed are a square grid, a size not below it and sigma ≥ 0",
            code="scoring.map",
        )
    inside = None if mask is None else check_array("mask", mask, shape=(size, size), dtypes=("bool",))
    usable = _usable(grid, valid)
    everything = bool(usable.all())
    big = _enlarge(np.where(usable, grid, 0), size)
    weight = np.ones_like(big) if everything else _enlarge(usable.astype(np.float32), size)
    big = np.divide(big, weight, out=np.zeros_like(big), where=weight > 1e-3)
    lends = weight > 1e-3
    if inside is not None:
        lends &= inside
    if compat:
        out = _blur_in_8_bits(big, sigma)
    elif lends.all():
        out = _blur(big, sigma, cv2.BORDER_REFLECT)
    else:
        share = _blur(lends.astype(np.float32), sigma, cv2.BORDER_CONSTANT)
        out = _blur(np.where(lends, big, 0), sigma, cv2.BORDER_CONSTANT)
        out = np.divide(out, share, out=np.zeros_like(out), where=share > 1e-6)
    return np.where(lends, out, np.float32(outside)).astype(np.float32)


def _enlarge(grid: Floats, size: int) -> Floats:
    return np.asarray(cv2.resize(grid, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)


def _blur(picture: Floats, sigma: float, border: int) -> Floats:
    if sigma == 0:
        return picture
    side = 2 * math.ceil(4 * sigma) + 1  # as scipy cuts the kernel
    return np.asarray(cv2.GaussianBlur(picture, (side, side), sigma, borderType=border), np.float32)


def _blur_in_8_bits(picture: Floats, sigma: float) -> Floats:
    from PIL import Image, ImageFilter

    top = float(picture.max())
    if top <= 0:
        return picture
    levels = np.asarray(np.clip(picture / top, 0, 1) * 255, np.uint8)
    return np.asarray(Image.fromarray(levels).filter(ImageFilter.GaussianBlur(sigma)), np.float32) * np.float32(
        top / 255
    )


def _usable(values: NDArray[np.floating], valid: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    usable = np.isfinite(values)
    if valid is not None:
        usable &= check_array("valid", valid, shape=values.shape, dtypes=("bool",))
    if not usable.any():
        raise ModelError(
            "not one patch of the part is valid: no score can be given",
            hint="look at the part mask and at the share of valid points of this sample",
            code="model.no_patches",
        )
    return usable
