"""Masks in COCO's run-length code: lengths of runs down the columns, as a list or packed into text.

The code of pycocotools (``maskApi.c``): runs of pixels outside, inside, outside … in turn, column by column, beginning with
those outside. As text each number is written in groups of five bits, lowest first, one character (48 + bits, + 32 if more
follow) a group, with the sign in the last group's fifth bit; from the fourth number on it is the difference from the one
two before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.errors import DatasetError

_MAX_PIXELS = 1 << 28
_MAX_GROUPS = 7  # 35 bits hold any number of pixels


def encode_rle(mask: NDArray[np.bool_]) -> str:
    """(H, W) bool as packed text, to the letter as pycocotools writes it."""
    flat = np.ascontiguousarray(mask.T).ravel().view(np.uint8)
    changes = np.flatnonzero(np.diff(flat, prepend=np.uint8(0)))
    return pack_counts(np.diff(changes, prepend=0, append=flat.size).tolist())


def decode_rle(counts: Any, size: Any, what: str) -> NDArray[np.bool_]:
    """(H, W) bool of ``counts``, a list of runs or packed text, for ``size`` [H, W].

    Raises :class:`DatasetError` (``annotation.rle``) that names ``what`` if the runs do not fill the picture exactly.
    """
    valid = isinstance(size, Sequence) and len(size) == 2 and all(type(s) is int and s > 0 for s in size)
    if not valid or size[0] * size[1] > _MAX_PIXELS:
        raise _bad(what, f"its size is {size!r:.60}; needed: [height, width]")
    runs = unpack_counts(counts, what) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(n) is int and 0 <= n <= _MAX_PIXELS for n in runs):
        raise _bad(what, "its counts are no list of whole numbers")
    if sum(runs) != size[0] * size[1]:
        raise _bad(what, f"its counts sum to {sum(runs)}, its size {size[1]} × {size[0]} is {size[0] * size[1]} pixels")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(flat.reshape(size[1], size[0]).T)


def pack_counts(counts: Sequence[int]) -> str:
    """Runs as packed text."""
    out = bytearray()
    for n, count in enumerate(counts):
        x = count - counts[n - 2] if n > 2 else count
        more = True
        while more:
            bits, x = x & 0x1F, x >> 5
            more = x != (-1 if bits & 0x10 else 0)
            out.append(48 + bits + (32 if more else 0))
    return out.decode("ascii")


def unpack_counts(text: str, what: str) -> list[int]:
    """Inverse of :func:`pack_counts`; raises :class:`DatasetError` (``annotation.rle``)."""
    counts: list[int] = []
    value = groups = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or groups == _MAX_GROUPS:
            raise _bad(what, f"its counts hold {character!r} or a number of more than 35 bits")
        value |= (code & 0x1F) << 5 * groups
        groups += 1
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << 5 * groups
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = groups = 0
    if groups:
        raise _bad(what, "its counts break off within a number")
    return counts


def _bad(what: str, problem: str) -> DatasetError:
    return DatasetError(
        f"{what}: {problem}", hint="export it again from the program that drew it", code="annotation.rle"
    )
