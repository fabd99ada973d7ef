"""From parts to what memory banks take: patch features of every modality on one grid, swapped and fused as the method says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
Maps = dict[Modality, Features]


@dataclass(frozen=True, eq=False)
class Rows:
    """Features of the judged patches of some parts for one bank: ``values`` (P, D), each patch's ``part`` (P,) and
    ``place`` (P,), row-major on the grid."""

    values: Floats
    part: NDArray[np.int32]
    place: NDArray[np.int64]


def extract(parts: Sequence[Part], method: Method, extractors: Mapping[Modality, Extractor]) -> Maps:
    """Features (N, G, G, D) of each modality that the method uses; invalid where a part has none of it."""
    maps: Maps = {}
    for modality in method.modalities:
        having = [n for n, part in enumerate(parts) if modality in part.available]
        if not having:
            continue
        found = to_grid(extractors[modality].extract([parts[n] for n in having]), method.grid, modality=modality)
        if modality != "xyz":  # a picture shows something everywhere, also where the part should be and is not
            found = Features(found.values, np.ones_like(found.valid))
        if len(having) < len(parts):
            values = np.zeros((len(parts), *found.values.shape[1:]), np.float32)
            valid = np.zeros((len(parts), *found.valid.shape[1:]), bool)
            values[having], valid[having] = found.values, found.valid
            found = Features(values, valid)
        maps[modality] = found
    return maps


def judged_pixels(part: Part, template: Template | None) -> Bool:
    """(S, S): the part, where a good one would be, and nothing that is ignored. What is missing is missing *somewhere*."""
    area = part.mask
    if template is not None:
        there = cv2.resize(template.mask.astype(np.uint8), (part.size, part.size), interpolation=cv2.INTER_NEAREST)
        area = area | (there > 0)
    return np.asarray(area & ~part.ignore, bool)


def judged_patches(pixels: Bool, grid: int) -> Bool:
    """(G, G): patches of which a quarter or more is to be judged."""
    side = pixels.shape[0] // grid
    cover = pixels.reshape(grid, side, grid, side).mean(axis=(1, 3))
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


def pair_rows(spec: BankSpec, maps: Maps, judged: Bool, numbers: Sequence[int]) -> tuple[list[Floats], Rows] | None:
    """Row by row the features of each modality of a bank, where all are valid; None if a modality is missing altogether.

    ``judged`` (N, G, G); ``numbers`` are those of the parts. The rows have no values yet.
    """
    if any(m not in maps for m in spec.of):
        return None
    usable = judged.copy()
    for modality in spec.of:
        usable &= maps[modality].valid
    part, u, v = np.nonzero(usable)
    tables = [maps[m].values[part, u, v] for m in spec.of]
    place = (u * usable.shape[2] + v).astype(np.int64)
    empty = np.empty((len(part), 0), np.float32)
    return tables, Rows(empty, np.asarray(numbers, np.int32)[part], place)


def bank_rows(spec: BankSpec, maps: Maps, judged: Bool, numbers: Sequence[int], fusion: Fusion | None) -> Rows | None:
    """The rows of a bank, fused where it is of two modalities; None where a modality is missing or no patch is valid."""
    found = pair_rows(spec, maps, judged, numbers)
    if found is None or not len(found[1].part):
        return None
    tables, rows = found
    if len(tables) == 1:
        return Rows(tables[0], rows.part, rows.place)
    assert fusion is not None
    return Rows(fusion.fuse(tables[0], tables[1]), rows.part, rows.place)
