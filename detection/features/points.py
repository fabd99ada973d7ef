"""Groups of points for a point network, and the way back from groups to a grid of patches.

Point-MAE (Pang et al., ECCV 2022) sees a cloud as groups: centres by farthest point sampling, each with its nearest points.
M3DM (Wang et al., CVPR 2023, §3.2) carries the groups' features back to the points by the three nearest centres, weighted by
the inverse square of the distance; D³M's Table 5 compares that with leaving it out.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from rakelight.errors import InputError

Interpolation = Literal["three-nearest", "nearest", "off"]
_BOX = 64  # points in a box of the sampling: small enough to be passed over often, large enough for vector registers
_SOFTEN = 1e-8  # added to squared distances, so that a point on a centre does not divide by zero (M3DM's value)


def farthest_points(points: NDArray[np.floating[Any]], count: int, *, start: int = 0) -> NDArray[np.int64]:
    """Farthest point sampling: each pick is the point farthest from all picks before it (Gonzalez 1985), exactly.

    Parameters
    ----------
    points : (N, 3), finite, any unit; taken as float32
    count : how many picks, 1 ≤ count ≤ N
    start : index of the first pick

    Returns
    -------
    (count,) int64
        Indices in the order they were picked; among equally far points the lowest index. Squared distances are float32,
        summed x² + y² + z² in this order, so a plain loop gives the same picks.

    Raises
    ------
    InputError
        Points of another shape or not finite, ``count`` or ``start`` out of range.
    """
    from rakelight.detection.features import _point_kernels as kernels

    points = _checked(points)
    total = len(points)
    if not 1 <= count <= total:
        raise InputError(f"{count} farthest points of {total}: from 1 to {total} are possible", code="points.count")
    if not 0 <= start < total:
        raise InputError(f"start index {start} of {total} points: from 0 to {total - 1}", code="points.start")
    order = np.argsort(_morton_codes(points), kind="stable")
    planes = np.ascontiguousarray(points[order].T)
    bounds = np.append(np.arange(0, total, _BOX), total)
    boxes = np.concatenate([np.minimum.reduceat(planes, bounds[:-1], 1), np.maximum.reduceat(planes, bounds[:-1], 1)])
    picks = np.empty(count, np.int64)
    first = int(np.flatnonzero(order == start)[0])
    kernels.farthest_first(planes, order, bounds, np.ascontiguousarray(boxes.T), first, picks)
    return picks


def nearest_points(
    points: NDArray[np.floating[Any]], queries: NDArray[np.floating[Any]], count: int
) -> NDArray[np.int64]:
    """Indices (Q, count) int64 of the ``count`` points (N, 3) nearest to each query (Q, 3), nearest first.

    Raises :class:`InputError` for other shapes, values that are not finite, or ``count`` outside 1 … N.
    """
    points, queries = _checked(points), _checked(queries)
    if not 1 <= count <= len(points):
        raise InputError(f"{count} nearest of {len(points)} points: from 1 to {len(points)}", code="points.count")
    tree = cKDTree(points, leafsize=32, balanced_tree=False, compact_nodes=False)
    _distance, index = tree.query(queries, k=np.arange(1, count + 1))
    return index


def interpolation_weights(
    points: NDArray[np.floating[Any]], centres: NDArray[np.floating[Any]], mode: Interpolation = "three-nearest"
) -> csr_array:
    """What each centre's feature adds to each point: a sparse (N, C) float32 matrix.

    Parameters
    ----------
    points : (N, 3), finite
    centres : (C, 3), finite, same unit
    mode : ``three-nearest``: the three nearest centres with weights 1/(d² + 1e-8), normalised to a sum of 1 (of fewer, if
        there are fewer centres); ``nearest``: the nearest alone; ``off``: no interpolation, only a point that is itself
        a centre has a feature, the rows of all others are empty (D³M, Table 5, "w/o").
    """
    points, centres = _checked(points), _checked(centres)
    if mode not in get_args(Interpolation):
        raise InputError(
            f"interpolation {mode!r}: {', '.join(get_args(Interpolation))} are possible", code="points.interpolation"
        )
    total = len(points)
    if mode == "off":
        distance, index = cKDTree(points).query(centres)
        own = np.flatnonzero(distance == 0)
        share = np.ones(len(own), np.float32)
        _values, first = np.unique(index[own], return_index=True)  # equal centres would count twice
        return csr_array((share[first], (index[own][first], own[first])), shape=(total, len(centres)))
    neighbours = min(3 if mode == "three-nearest" else 1, len(centres))
    distance, index = cKDTree(centres).query(points, k=np.arange(1, neighbours + 1))
    share = 1 / (distance**2 + _SOFTEN)
    share = (share / share.sum(1, keepdims=True)).astype(np.float32)
    starts = np.arange(0, neighbours * total + 1, neighbours)
    return csr_array((share.ravel(), index.ravel(), starts), shape=(total, len(centres)))


def cell_weights(weights: csr_array, cells: NDArray[np.integer[Any]], count: int) -> csr_array:
    """Weights of centres for cells instead of points: each cell takes the mean over its points that have any.

    Parameters
    ----------
    weights : (N, C) of :func:`interpolation_weights`
    cells : (N,) the cell each point lies in, 0 … count − 1
    count : number of cells

    Returns
    -------
    (count, C) float32
        Times the centres' features (C, D) it gives the cells' (count, D): the same as averaging the points' features, without
        ever holding those of all points. A cell without such a point has an empty row.
    """
    has = np.diff(weights.indptr) > 0
    members = np.bincount(cells[has], minlength=count)
    share = (1 / members[cells[has]]).astype(np.float32)
    mean = csr_array((share, (cells[has], np.flatnonzero(has))), shape=(count, weights.shape[0]))
    return csr_array(mean @ weights)


def _morton_codes(points: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Codes (N,) uint32 whose order keeps neighbours together: the bits of x, y and z interleaved, 10 each."""
    low = points.min(0)
    span = float(np.max(points.max(0) - low))
    cell = ((points - low) * (1023 / span if span > 0 else 0)).astype(np.uint32)
    code = np.zeros(len(points), np.uint32)
    for axis in range(3):
        bits = cell[:, axis]
        for shift, mask in ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249)):
            bits = (bits | (bits << np.uint32(shift))) & np.uint32(mask)
        code |= bits << np.uint32(axis)
    return code


def _checked(points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Points as (N, 3) float32, N ≥ 1, all finite."""
    points = np.ascontiguousarray(points, np.float32)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0:
        raise InputError(f"points of shape {points.shape}: (N, 3) with N ≥ 1 is needed", code="points.shape")
    if not np.isfinite(points).all():
        bad = int((~np.isfinite(points).all(1)).sum())
        raise InputError(
            f"{bad} of {len(points)} points are not finite",
            hint="leave invalid pixels (NaN) out of the points first",
            code="points.not_finite",
        )
    return points
