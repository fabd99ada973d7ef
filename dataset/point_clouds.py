"""Point clouds as files: PLY for measuring programs, PCD as Real-IAD D³ has it; and thinning as in its resolution study.

Both formats are written by one loop: rows are packed by compiled code into a small buffer, hashed by a thread and handed
to the file, so memory stays flat. Points are millimetres in the OpenCV camera frame (docs/conventions.md). Formats: G. Turk,
"The PLY Polygon File Format", 1994; "The PCD (Point Cloud Data) file format", v0.7, Point Cloud Library.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rakelight import files
from rakelight.arrays import check_array
from rakelight.dataset import _point_kernels as kernels
from rakelight.dataset._point_readers import PointCloud, read_pcd, read_ply
from rakelight.errors import InputError

__all__ = ["PointCloud", "Written", "downsample", "read_pcd", "read_ply", "write_pcd", "write_ply"]

_BUFFER_BYTES = 4 << 20  # small enough for the processor's cache, large enough for the disk
_BUFFERS = 4  # so that the hashing thread may fall behind for a moment without holding up the others
_RUN = 4096  # a cloud (N, 3) is packed as rows of so many points
_SIGN = np.uint32(0x80000000)

_PLY_HEADER = """ply
format binary_little_endian 1.0
comment made by rakelight
comment unit: mm
comment frame: camera (OpenCV): x right, y down, z away from the camera
{normals_comment}element vertex {count}
property float x
property float y
property float z
{normals}{colours}end_header
"""
_PLY_NORMALS_COMMENT = "comment normals: unit vectors in the camera frame, towards the camera; 0 0 0 = not known\n"
_PLY_NORMALS = "property float nx\nproperty float ny\nproperty float nz\n"
_PLY_COLOURS = "property uchar red\nproperty uchar green\nproperty uchar blue\n"

_PCD_HEADER = """# .PCD v0.7 - Point Cloud Data file format
# made by rakelight; unit: mm; frame: camera (OpenCV): x right, y down, z away from the camera
VERSION 0.7
FIELDS x y z rgb
SIZE 4 4 4 4
TYPE F F F F
COUNT 1 1 1 1
WIDTH {width}
HEIGHT {height}
VIEWPOINT 0 0 0 1 0 0 0
POINTS {count}
DATA binary
"""


@dataclass(frozen=True)
class Written:
    """A finished file: how many points stand in it (NaN ones of a grid included), its bytes and their hex SHA-256."""

    points: int
    bytes: int
    sha256: str


def write_ply(
    path: str | Path,
    xyz: NDArray[np.float32],
    *,
    rgb: NDArray[np.uint8] | None = None,
    normals: NDArray[np.float32] | None = None,
    normals_frame: Literal["camera", "viewer"] = "camera",
    mask: NDArray[np.bool_] | None = None,
) -> Written:
    """Write a cloud as binary little-endian PLY, atomically: float x y z [nx ny nz] [uchar red green blue].

    Parameters
    ----------
    xyz : (H, W, 3) or (N, 3) float32
        mm, camera frame; a point with a coordinate that is NaN or infinite is left out.
    rgb : uint8 of the same shape, optional
    normals : float32 of the same shape, optional
        Unit vectors towards the camera; any strides. Written in the camera frame; NaN becomes 0, 0, 0.
    normals_frame : "camera" or "viewer"
        The frame of ``normals``. From ``"viewer"`` (x right, y up, z towards the camera: the normal maps of photometric
        stereo) they are turned while they are packed.
    mask : (H, W) or (N,) bool, optional
        Only these points, for example the part, or :func:`downsample`.

    Returns
    -------
    Written

    Raises
    ------
    InputError
        ``input.shape``, ``input.dtype``; ``point_cloud.empty`` without a valid point; ``point_cloud.normals_frame`` for an
        unknown frame, or if most normals look away from the camera, which means that they are in the other frame.
    StorageError
        The file cannot be written.
    """
    parts = _check(xyz, rgb, mask, normals)
    _check_normals_frame(normals, normals_frame)
    has_normals, has_rgb = normals is not None, rgb is not None
    flip = _SIGN if normals_frame == "viewer" else np.uint32(0)
    record = 12 + 12 * has_normals + 3 * has_rgb
    counts = [part.counts() for part in parts]
    header = _PLY_HEADER.format(
        count=_total(counts),
        normals_comment=_PLY_NORMALS_COMMENT if has_normals else "",
        normals=_PLY_NORMALS if has_normals else "",
        colours=_PLY_COLOURS if has_rgb else "",
    )

    def pack(part: _Part, starts: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        kernels.pack_ply(part.xyz, part.keep, part.normals, has_normals, flip, part.rgb, has_rgb, starts, out)

    return _write(Path(path), header, parts, counts, record, pack)


def write_pcd(
    path: str | Path,
    xyz: NDArray[np.float32],
    rgb: NDArray[np.uint8],
    *,
    organised: bool = False,
    mask: NDArray[np.bool_] | None = None,
) -> Written:
    """Write a cloud as PCD v0.7, binary, with the fields ``x y z rgb`` of Real-IAD D³, atomically.

    A colour is the bits 0x00RRGGBB stored as a float, as the Point Cloud Library has it; the highest byte is 0, so that no
    colour reads as NaN.

    Parameters
    ----------
    xyz, rgb, mask
        As for :func:`write_ply`.
    organised : bool
        False: the valid points alone, HEIGHT 1, as in the released data, whose clouds do not count as many points as pixels
        and whose loaders do not expect NaN. True: the whole grid, WIDTH × HEIGHT as the image, left-out points NaN.

    Raises
    ------
    InputError, StorageError
        As :func:`write_ply`; ``input.shape`` also for an organised cloud of (N, 3).
    """
    if organised and np.ndim(xyz) != 3:
        raise InputError(f"xyz has shape {np.shape(xyz)}; an organised cloud needs any×any×3", code="input.shape")
    parts = _check(xyz, check_array("rgb", rgb), mask)
    counts = [part.counts() for part in parts]
    total = _total(counts)
    height, width = (xyz.shape[0], xyz.shape[1]) if organised else (1, total)
    header = _PCD_HEADER.format(width=width, height=height, count=width * height)
    if organised:
        counts = [np.full(height, width, np.int64)]

    def pack(part: _Part, starts: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        kernels.pack_pcd(part.xyz, part.keep, part.rgb, organised, starts, out)

    return _write(Path(path), header, parts, counts, 16, pack)


def downsample(valid: NDArray[np.bool_], factor: int, seed: int) -> NDArray[np.bool_]:
    """Thin a cloud to one point in ``factor``: which points to keep, for ``mask`` of the writers.

    Real-IAD D³ compares its clouds with some 4 and 40 times sparser ones (paper, §5.3) and does not say how they were made.
    Here the *number of points* is divided: the image is cut into cells of ``factor`` pixels, as square as the factor allows
    (2×2 for 4, 5×8 for 40; runs of ``factor`` for a list), and one pixel drawn in each cell is kept if it is valid. So
    every point survives with the same probability 1/``factor``, also at edges; density is even, as that of a coarser
    scanner and unlike that of points drawn at random; and no grid is there to beat with the part's own pattern. Coordinates
    are untouched. Same shape, factor and seed: same pixels, whatever is valid.

    Parameters
    ----------
    valid : (H, W) or (N,) bool
        Points there are.
    factor : int
        1 to 10,000; 1 keeps all.
    seed : int
        Not negative.

    Returns
    -------
    bool, as ``valid``

    Raises
    ------
    InputError
        ``input.shape``, ``input.dtype``; ``point_cloud.factor``, ``point_cloud.seed``.
    """
    valid = check_array("valid", valid, dtypes=("bool",))
    if valid.ndim not in (1, 2):
        raise InputError(f"valid has shape {valid.shape}; needed: (H, W) or (N,)", code="input.shape")
    if not (isinstance(factor, int) and 1 <= factor <= 10_000):
        raise InputError(f"factor is {factor}; allowed: 1 to 10,000, whole", code="point_cloud.factor")
    if seed < 0:
        raise InputError(f"seed is {seed}; it must not be negative", code="point_cloud.seed")
    grid = valid.reshape(1, -1) if valid.ndim == 1 else valid
    high = 1 if valid.ndim == 1 else max(n for n in range(1, math.isqrt(factor) + 1) if factor % n == 0)
    wide = factor // high
    cells = -(-grid.shape[0] // high), -(-grid.shape[1] // wide)
    drawn = np.random.default_rng(seed).integers(0, factor, cells, np.int32)
    rows = np.arange(cells[0], dtype=np.int32)[:, None] * high + drawn // wide
    columns = np.arange(cells[1], dtype=np.int32)[None] * wide + drawn % wide
    inside = (rows < grid.shape[0]) & (columns < grid.shape[1])  # not so in cells that the edge cuts
    rows, columns = rows[inside], columns[inside]
    kept = np.zeros(grid.shape, np.bool_)
    kept[rows, columns] = grid[rows, columns]
    return kept.reshape(valid.shape)


# ---------------------------------------------------------------------------------------------------- from arrays to bytes
@dataclass(frozen=True, eq=False)
class _Part:
    """Some rows of a cloud as the kernels take them: bits of the floats (h, w, 3), colours, what to keep (h, w)."""

    xyz: NDArray[np.uint32]
    keep: NDArray[np.uint8]
    normals: NDArray[np.uint32]
    rgb: NDArray[np.uint8]

    def counts(self) -> NDArray[np.int64]:
        counts = np.empty(len(self.xyz), np.int64)
        kernels.count_kept(self.xyz, self.keep, counts)
        return counts

    def rows(self, rows: slice) -> _Part:
        return _Part(self.xyz[rows], self.keep[rows], self.normals[rows], self.rgb[rows])


def _check(
    xyz: NDArray[np.float32],
    rgb: NDArray[np.uint8] | None,
    mask: NDArray[np.bool_] | None,
    normals: NDArray[np.float32] | None = None,
) -> list[_Part]:
    """The checked cloud: one part if it is a map; whole runs and the rest if it is a list of points."""
    xyz = check_array("xyz", xyz, dtypes=("float32",))
    if xyz.ndim not in (2, 3) or xyz.shape[-1] != 3:
        raise InputError(f"xyz has shape {xyz.shape}; needed: (H, W, 3) or (N, 3)", code="input.shape")
    shape = xyz.shape
    # What is absent is one number seen everywhere: no memory, and no second kernel.
    rgb = _nothing(shape, np.uint8(0)) if rgb is None else check_array("rgb", rgb, shape=shape, dtypes=("uint8",))
    bits = _nothing(shape, np.uint32(0)) if normals is None else _bits("normals", normals, shape)
    keep = _nothing(shape[:-1], np.uint8(1))
    if mask is not None:
        keep = check_array("mask", mask, shape=shape[:-1], dtypes=("bool",)).view(np.uint8)
    arrays: list[NDArray[Any]] = [_bits("xyz", xyz, shape), keep, bits, rgb]
    if xyz.ndim == 3:
        return [_Part(*arrays)]
    whole = len(xyz) // _RUN * _RUN
    runs = [a[:whole].reshape(whole // _RUN, _RUN, *a.shape[1:]) for a in arrays]
    return [_Part(*runs), _Part(*[a[whole:][None] for a in arrays])]


def _nothing(shape: tuple[int, ...], value: np.generic) -> NDArray[Any]:
    return np.broadcast_to(value, shape)


def _bits(name: str, array: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.uint32]:
    array = check_array(name, array, shape=shape, dtypes=("float32",))
    return array.astype(array.dtype.newbyteorder("="), copy=False)[..., None].view(np.uint32)[..., 0]


def _check_normals_frame(normals: NDArray[np.float32] | None, frame: str) -> None:
    if frame not in ("camera", "viewer"):
        raise InputError(f"normals_frame is {frame!r}; allowed: 'camera', 'viewer'", code="point_cloud.normals_frame")
    if normals is None:
        return
    sample = normals.reshape(-1, 3)[:: max(1, normals.size // 300_000)] if normals.ndim == 2 else normals[::16, ::16]
    z = sample[..., 2][np.isfinite(sample[..., 2])]
    if z.size and np.median(z) * (1 if frame == "viewer" else -1) < 0:
        other = "camera" if frame == "viewer" else "viewer"
        raise InputError(
            f"the median n_z of the normals is {np.median(z):+.2f}, so that in the {frame} frame most look away from the camera",
            hint=f"give normals_frame={other!r} if they are in that frame; else turn them round",
            code="point_cloud.normals_frame",
        )


def _total(counts: list[NDArray[np.int64]]) -> int:
    total = int(sum(c.sum() for c in counts))
    if total == 0:
        raise InputError(
            "the cloud has no valid point; at least 1 is needed",
            hint="look at the map of valid pixels: nothing was measured, or the mask leaves nothing",
            code="point_cloud.empty",
        )
    return total


def _write(
    path: Path,
    header: str,
    parts: list[_Part],
    counts: list[NDArray[np.int64]],
    record: int,
    pack: Callable[[_Part, NDArray[np.int64], NDArray[np.uint8]], None],
) -> Written:
    """Header, then the packed points, chunk by chunk; while one is packed and written, a thread hashes the one before."""
    head = header.encode("ascii")
    digest, size = hashlib.sha256(head), len(head)
    hashing: list[Future[None] | None] = [None] * _BUFFERS
    buffers = [np.empty(0, np.uint8)] * _BUFFERS
    with files.atomic_write(path) as handle, ThreadPoolExecutor(1, "hash") as thread:
        handle.write(head)
        for turn, (part, points) in enumerate(_chunks(parts, counts, record)):
            slot = turn % _BUFFERS
            if (before := hashing[slot]) is not None:
                before.result()  # of the buffer to be filled now
            ends = np.cumsum(points) * record
            length = int(ends[-1])
            if len(buffers[slot]) < length:
                buffers[slot] = np.empty(length, np.uint8)
            packed = buffers[slot][:length]
            pack(part, ends - points * record, packed)
            hashing[slot] = thread.submit(digest.update, packed.data)
            handle.write(packed.data)
            size += length
    return Written(sum(int(c.sum()) for c in counts), size, digest.hexdigest())


def _chunks(
    parts: list[_Part], counts: list[NDArray[np.int64]], record: int
) -> Iterator[tuple[_Part, NDArray[np.int64]]]:
    """Rows of the parts with their counts, about a buffer's worth at a time."""
    for part, points in zip(parts, counts, strict=True):
        step = max(1, _BUFFER_BYTES // max(1, record * part.xyz.shape[1]))
        for first in range(0, len(part.xyz), step):
            rows = slice(first, first + step)
            yield part.rows(rows), points[rows]
