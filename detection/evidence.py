"""From parts to what memory banks take: patch features of every modality on one grid, swapped and fused as the method says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.detection.features.base import Extractor, Features, to_grid
from rakelight.detection.fusion import Fusion
from rakelight.detection.methods.base import BankSpec, Method
from rakelight.detection.native import Modality
from rakelight.detection.neighbours import Floats
from rakelight.detection.parts import Part
from rakelight.detection.registration import Template
from rakelight.detection.swapping import SwapIndices, swap

Bool = NDArray[np.bool_]
_LEAST_COVER = 0.25  # of a patch, to be judged
_BATCH = 16  # parts whose features are made at a time
Maps = dict[Modality, Features]


@dataclass(frozen=True, eq=False)
class Rows:
    """Features of the judged patches of some parts for one bank: ``values`` (P, D), each patch's ``part`` (P,) and
    ``place`` (P,), row-major on the bank's ``grid`` of patches a side."""

    values: Floats
    part: NDArray[np.int32]
    place: NDArray[np.int64]
    grid: int


def extract(
    parts: Sequence[Part],
    method: Method,
    extractors: Mapping[Modality, Extractor],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Maps:
    """Features (N, G, G, D) of each modality that the method uses; invalid where a part has none of it.

    A few parts at a time, so that besides the result little is held. No modality of which no part has anything is among them.
    """
    maps: Maps = {}
    for first in range(0, len(parts), _BATCH):
        progress(first, len(parts))
        some = parts[first : first + _BATCH]
        for modality in method.modalities:
            having = [n for n, part in enumerate(some) if modality in part.available]
            if not having:
                continue
            raw = extractors[modality].extract([some[n] for n in having])
            found = to_grid(raw, method.grid_of(modality), modality=modality)
            if modality not in maps:
                shape = (len(parts), *found.values.shape[1:])
                maps[modality] = Features(np.zeros(shape, np.float32), np.zeros(shape[:3], bool))
            rows = first + np.asarray(having)
            maps[modality].values[rows] = found.values
            # A picture shows something everywhere, also where the part should be and is not.
            maps[modality].valid[rows] = found.valid if modality == "xyz" else True
    return maps


def judged_pixels(part: Part, template: Template | None) -> Bool:
    """(S, S): the part, where a good one would be, and nothing that is ignored. What is missing is missing *somewhere*."""
    area = part.mask
    if template is not None:
        there = cv2.resize(template.mask.astype(np.uint8), (part.size, part.size), interpolation=cv2.INTER_NEAREST)
        area = area | (there > 0)
    return np.asarray(area & ~part.ignore, bool)


def judged_patches(pixels: Bool, grid: int) -> Bool:
    """(…, G, G): patches of which a quarter or more of the pixels (…, S, S) is to be judged."""
    side = pixels.shape[-1] // grid
    cover = pixels.reshape(*pixels.shape[:-2], grid, side, grid, side).mean(axis=(-3, -1))
    return np.asarray(cover >= _LEAST_COVER, bool)


def swapped_maps(maps: Maps, method: Method, indices: SwapIndices | None) -> tuple[Maps, Bool]:
    """RGB and pseudo-3D maps after swapping, and (N,) which parts could be swapped."""
    if indices is None or method.swap is None or "rgb" not in maps or "ps" not in maps:
        count = len(next(iter(maps.values())).valid) if maps else 0
        return maps, np.zeros(count, bool)
    rgb, ps = maps["rgb"], maps["ps"]
    both = rgb.valid & ps.valid
    done = swap(rgb.values, ps.values, indices, mode=method.swap, valid=both)
    assert done.rgb is not None and done.ps is not None
    return {**maps, "rgb": Features(done.rgb, rgb.valid), "ps": Features(done.ps, ps.valid)}, done.swapped


def pair_rows(
    spec: BankSpec, maps: Maps, pixels: Bool, numbers: Sequence[int], grid: int
) -> tuple[list[Floats], Rows] | None:
    """Row by row the features of each modality of a bank, where all are valid; None if a modality is missing altogether.

    ``pixels`` (N, S, S): those to be judged; ``numbers`` are those of the parts, ``grid`` the method's. A map coarser than the
    bank is repeated. The rows have no values yet.
    """
    if any(m not in maps for m in spec.of):
        return None
    grid *= spec.finer
    usable = judged_patches(pixels, grid)
    for modality in spec.of:
        repeats = grid // maps[modality].grid
        usable &= maps[modality].valid.repeat(repeats, 1).repeat(repeats, 2)
    part, u, v = np.nonzero(usable)
    tables = []
    for modality in spec.of:
        repeats = grid // maps[modality].grid
        tables.append(maps[modality].values[part, u // repeats, v // repeats])
    place = (u * grid + v).astype(np.int64)
    empty = np.empty((len(part), 0), np.float32)
    return tables, Rows(empty, np.asarray(numbers, np.int32)[part], place, grid)


def bank_rows(
    spec: BankSpec, maps: Maps, pixels: Bool, numbers: Sequence[int], grid: int, fusion: Fusion | None
) -> Rows | None:
    """The rows of a bank, fused where it is of two modalities; None where a modality is missing or no patch is valid."""
    found = pair_rows(spec, maps, pixels, numbers, grid)
    if found is None or not len(found[1].part):
        return None
    tables, rows = found
    if len(tables) == 1:
        return replace(rows, values=tables[0])
    assert fusion is not None
    return replace(rows, values=fusion.fuse(tables[0], tables[1]))
