"""Lossless, smaller TIFF: Deflate strips made in parallel, readable by tifffile, OpenCV, Pillow and libtiff as they are.

Deflate because every reader has it without a further codec, and because zlib lets other threads run meanwhile. Maps of
a part (normals, albedo) are stored as differences to the left neighbour (TIFF predictor 2) with run-length matches only:
sensor noise holds no longer ones, so zlib's search for them costs half as much again and finds nothing. Raw Bayer frames are
stored without differences, since the left neighbour has another colour, with the ordinary search. Measured for
5472×3648 px on one core (zlib 1.2.13, textured part on 25 % of the field with the noise of a 10,000 e⁻ sensor):

=====================================  =========  ========
normals, 3 × uint16, 120 MB            MB stored  s
=====================================  =========  ========
predictor 2, run-length (chosen)       21.1       0.31
predictor 2, level 1                   22.3       0.47
no predictor, level 1                  26.9       0.70
predictor 2, Huffman alone             33.0       0.63
=====================================  =========  ========

=====================================  =========  ========
raw Bayer frame, 12 in 16 bits, 40 MB  MB stored  s
=====================================  =========  ========
level 1 (chosen)                       24.3       0.53
run-length                             27.7       0.31
predictor 2, level 1                   24.9       0.53
predictor 2, level 6                   24.5       1.52
16-bit PNG, best of OpenCV's           24.3       0.77
12 bits packed, which few tools read   29.9
differences within each Bayer colour   22.1       0.40
=====================================  =========  ========

The last would save another tenth, but no tool would show such a file as the frame it is.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from rakelight import files
from rakelight.arrays import check_array
from rakelight.dataset import _map_kernels as kernels
from rakelight.errors import InputError

_STRIP_BYTES = 2 << 20  # a strip's compression dwarfs its overhead, and two cores share even a small map
_DEFLATE = 8


def write_packed_tiff(
    path: str | Path, image: NDArray[Any], *, differences: bool = False, threads: Executor | None = None
) -> tuple[int, str]:
    """Write (H, W) or RGB (H, W, 3) uint8 or uint16 as one Deflate TIFF page, atomically.

    Parameters
    ----------
    path : path
    image : (H, W) or (H, W, 3) uint8 or uint16
    differences : bool
        Store differences to the left neighbour, for smooth maps; not for Bayer frames.
    threads : Executor, optional
        Where the strips are packed; by default as many threads as there are cores. Must not be the executor that this
        very call runs in, which could wait for itself.

    Returns
    -------
    (int, str)
        The file's size in bytes and its SHA-256.

    Raises
    ------
    InputError
        ``input.shape``, ``input.dtype``.
    StorageError
        The file cannot be written.
    """
    check_array(f"image for {path}", image, dtypes=("uint8", "uint16"))
    if image.size == 0 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise InputError(
            f"image for {path} has shape {image.shape}; allowed: (H, W) or (H, W, 3), not empty", code="input.shape"
        )
    image = image.astype(image.dtype.newbyteorder("="), copy=False)
    rows = max(1, min(len(image), _STRIP_BYTES // image[0].nbytes))
    strips = [image[first : first + rows] for first in range(0, len(image), rows)]
    if threads is None:
        with ThreadPoolExecutor(min(os.cpu_count() or 1, len(strips)), "pack") as own:
            packed = list(own.map(_pack, strips, [differences] * len(strips)))
    else:
        packed = list(threads.map(_pack, strips, [differences] * len(strips)))
    return _write(Path(path), image, packed, rows, differences)


def _pack(strip: NDArray[Any], differences: bool) -> bytes:
    strip = np.ascontiguousarray(strip)
    if differences:
        rows = strip.reshape(*strip.shape[:2], -1)
        out = np.empty_like(rows)
        kernels.differences(rows, out)
        strip = out
    packer = zlib.compressobj(1, zlib.DEFLATED, 15, 8, zlib.Z_RLE if differences else zlib.Z_DEFAULT_STRATEGY)
    return packer.compress(strip.reshape(-1).view(np.uint8).data) + packer.flush()


def _write(path: Path, image: NDArray[Any], strips: list[bytes], rows: int, differences: bool) -> tuple[int, str]:
    colour: dict[str, Any] = {"photometric": "rgb", "planarconfig": "contig"} if image.ndim == 3 else {}
    options = {"photometric": "minisblack", "metadata": None, "software": "rakelight", **colour}
    with files.atomic_write(path) as handle, files.told(path):
        tifffile.imwrite(
            handle,
            iter(strips),
            shape=image.shape,
            dtype=image.dtype,
            rowsperstrip=rows,
            compression=_DEFLATE,
            predictor=2 if differences else None,
            **options,
        )
        digest = hashlib.sha256()
        handle.seek(0)  # read back, since tifffile goes back to its header when the sizes of the strips are known
        while chunk := handle.read(_STRIP_BYTES):
            digest.update(chunk)
        return handle.tell(), digest.hexdigest()
