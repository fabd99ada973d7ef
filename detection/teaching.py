"""Teaching a detector from good parts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.detection import evidence, fusion_training
from rakelight.detection.detector import Detector, Progress, TaughtPart
from rakelight.detection.evidence import Maps, Rows
from rakelight.detection.features.base import Extractor, Features
from rakelight.detection.features.health import Warned, check_features
from rakelight.detection.fusion import Fusion, concat
from rakelight.detection.measuring import Calibration, calibration_of, decide, measure, row_of
from rakelight.detection.memory_bank import MemoryBank
from rakelight.detection.methods.base import Method
from rakelight.detection.native import Modality
from rakelight.detection.parts import Part
from rakelight.detection.registration import Template
from rakelight.detection.swapping import SwapIndices
from rakelight.detection.upstream import bank_options
from rakelight.errors import DatasetError, ModelError

LEAST_PARTS = 3
_ANEW = 40  # parts up to which banks without a part are built anew: the work grows with the third power of the parts
HISTOGRAMS = frozenset({"fpfh"})  # extractors whose features are histograms: they correlate by nature


def teach(
    parts: Sequence[Part],
    taught: Sequence[TaughtPart],
    method: Method,
    extractors: Mapping[Modality, Extractor],
    *,
    category: str = "",
    template: Template | None = None,
    ignore: NDArray[np.bool_] | None = None,
    facts: Mapping[str, Any] | None = None,
    progress: Progress = lambda *_: None,
) -> Detector:
    """A detector of ``method`` from good parts, all in the template's frame and loaded with ``ignore``.

    ``facts["warnings"]`` of the detector are those given, what several captures of one specimen mean for the calibration, and
    what :func:`check_features` finds odd in the features.

    Raises
    ------
    DatasetError
        ``detect.too_few_parts``: fewer than 3; a part without any modality that the method uses.
    ModelError
        A modality that fewer than 3 parts have; features that are no numbers.
    """
    if len(parts) < LEAST_PARTS:
        raise DatasetError(
            f"{len(parts)} good parts of {category or 'this product'}; at least {LEAST_PARTS} are needed to teach, "
            "10 or more to trust",
            hint="capture more good parts, and add them with `rakelight dataset add … --label OK`",
            code="detect.too_few_parts",
        )
    maps = evidence.extract(parts, method, extractors, progress=lambda done, total: progress("features", done, total))
    missing = [m for m in method.modalities if m not in maps]
    if missing:
        raise DatasetError(
            f"not one of the {len(parts)} good parts has {', '.join(missing)}, which method {method.name} uses",
            hint="choose a method without it, or capture parts with it",
            code="detect.no_modality",
        )
    numbers = [p.number for p in taught]
    pixels_judged = np.stack([evidence.judged_pixels(p, template) for p in parts])
    indices = _swap_indices(method, maps)
    mixed, _ = evidence.swapped_maps(maps, method, indices)
    told = dict(facts or {})
    found_odd = _feature_health(parts, maps, pixels_judged, extractors)
    told["warnings"] = [*told.get("warnings", ()), *_repeated(parts), *(found.message for found in found_odd)]
    fusion = _fusion(method, maps, mixed, pixels_judged, numbers, told, progress)
    rows: dict[str, Rows] = {}
    for spec in method.banks:
        found = evidence.bank_rows(spec, mixed if spec.swapped else maps, pixels_judged, numbers, method.grid, fusion)
        if found is None:
            raise ModelError(
                f"no patch of the good parts is valid for the bank {spec.name} of {'+'.join(spec.of)}",
                hint="look at part masks and at the share of measured points",
                code="model.no_patches",
            )
        rows[spec.name] = found
    banks = _banks(method, rows, progress)
    calibration = _leave_one_out(parts, maps, method, template, banks, rows, indices, fusion, numbers, progress)
    decision, pixels = decide(method, calibration)
    return Detector(
        method,
        category,
        template,
        banks,
        indices,
        fusion,
        decision,
        pixels,
        calibration,
        tuple(taught),
        told,
        extractors,
        ignore,
    )


def _feature_health(
    parts: Sequence[Part], maps: Maps, pixels: NDArray[np.bool_], extractors: Mapping[Modality, Extractor]
) -> list[Warned]:
    """What is odd in the features of the patches that are judged, modality by modality."""
    warned = []
    for modality, found in maps.items():
        having = [n for n, part in enumerate(parts) if modality in part.available]
        rows = slice(None) if len(having) == len(parts) else having  # all: a view, no copy
        judged = found.valid[rows] & evidence.judged_patches(pixels[rows], found.grid)
        id, keys = extractors[modality].id, [parts[n].key for n in having]
        histograms = id in HISTOGRAMS
        warned += check_features(
            Features(found.values[rows], judged), f"{id} ({modality})", keys, histograms=histograms
        )
    return warned


def _banks(method: Method, rows: Mapping[str, Rows], progress: Progress) -> dict[str, MemoryBank]:
    """A coreset of each bank's rows."""
    upstream = bank_options(method, rows)
    banks: dict[str, MemoryBank] = {}
    for done, (name, found) in enumerate(rows.items()):
        progress("memory banks", done, len(rows))
        options: dict[str, Any] = {"share": method.share} | upstream.get(name, {})
        banks[name] = MemoryBank.build(found.values, found.part, seed=method.seed, **options)
    return banks


def _swap_indices(method: Method, maps: Maps) -> SwapIndices | None:
    if method.swap is None:
        return None
    return SwapIndices.draw(maps["rgb"].values.shape[-1], method.grid, method.block, method.alpha, method.seed)


def _fusion(
    method: Method,
    maps: Maps,
    mixed: Maps,
    pixels: NDArray[np.bool_],
    numbers: Sequence[int],
    told: dict[str, Any],
    progress: Progress,
) -> Fusion | None:
    spec = next((bank for bank in method.banks if len(bank.of) == 2), None)
    if spec is None:
        return None
    found = evidence.pair_rows(spec, mixed if spec.swapped else maps, pixels, numbers, method.grid)
    assert found is not None
    (first, second), rows = found
    if not len(first):
        raise ModelError(
            f"no patch is valid in both {spec.of[0]} and {spec.of[1]}: nothing to fuse",
            hint="look at the share of measured points, or choose a method without 3D",
            code="model.no_patches",
        )
    if method.fusion == "concat" or len(np.unique(rows.part)) < LEAST_PARTS:
        return concat(first, second)
    settings = fusion_training.FusionSettings(seed=method.seed)
    with _one_torch_thread():
        fusion, report = fusion_training.train(
            first,
            second,
            rows.part,
            settings,
            keep=method.compat == "upstream",
            progress=lambda done, total: progress("fusion", done, total),
        )
    told["fusion"] = {k: v for k, v in vars(report).items() if isinstance(v, int | float | bool | str)}
    return fusion


@contextlib.contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Small products: two threads that wait for each other by spinning take ten times the processor time of one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _leave_one_out(
    parts: Sequence[Part],
    maps: Maps,
    method: Method,
    template: Template | None,
    banks: Mapping[str, MemoryBank],
    rows: Mapping[str, Rows],
    indices: SwapIndices | None,
    fusion: Fusion | None,
    numbers: Sequence[int],
    progress: Progress,
) -> Calibration:
    """Every part against banks that have not seen its specimen; these are made as they are needed and dropped again."""
    names = tuple(bank.name for bank in method.banks)
    groups = _specimens(parts, numbers)
    without = {name: _without_each(bank, rows[name], groups) for name, bank in banks.items()}
    strangers: dict[str, MemoryBank] = {}
    found, before = [], -1
    for done, row in enumerate(sorted(range(len(parts)), key=lambda n: (groups[numbers[n]], numbers[n]))):
        progress("calibration", done, len(parts))
        part, number = parts[row], numbers[row]
        group = groups[number]
        if group != before:
            strangers, before = {name: next(left) for name, left in without.items()}, group
        own_maps = {m: row_of(f, row) for m, f in maps.items()}
        scored = measure(part, own_maps, method, template, strangers, indices, fusion, group, "cpu", every=True)
        found.append(calibration_of([scored], [part], [number], names, method.seed))
    return reduce(Calibration.joined, found)


def _specimens(parts: Sequence[Part], numbers: Sequence[int]) -> dict[int, int]:
    """Part → the least number of a part of the same specimen: these are left out together.

    With another capture of itself in the bank a part is no stranger, and its score is far below that of any new part: taught 12
    simulated knob caps captured twice, 11 of 12 fresh good ones were rejected at a false-alarm level of 10 %; so it is 1. Of
    fewer than 3 specimens each capture is left out by itself, since nothing else can be done.
    """
    first: dict[str, int] = {}
    for number, part in sorted(zip(numbers, parts, strict=True), key=lambda pair: pair[0]):
        first.setdefault(part.specimen, number)
    few = len(first) < LEAST_PARTS
    return {number: number if few else first[part.specimen] for number, part in zip(numbers, parts, strict=True)}


def _repeated(parts: Sequence[Part]) -> list[str]:
    """What several captures of one specimen mean for the calibration, in words."""
    captures, specimens = len(parts), len({part.specimen for part in parts})
    if captures == specimens:
        return []
    said = f"the {captures} good parts are captures of {specimens} specimen{'s' * (specimens != 1)}"
    if specimens < LEAST_PARTS:
        return [
            f"{said}, too few to calibrate: new good parts will be rejected far more often than promised; capture at least "
            f"{LEAST_PARTS} specimens, 10 or more to trust"
        ]
    return [f"{said}: what is promised of false alarms holds as for {specimens} parts, not for {captures}"]


def _without_each(bank: MemoryBank, rows: Rows, groups: Mapping[int, int]) -> Iterator[MemoryBank]:
    """The bank without each group of parts in turn, ascending; its vectors know the group instead of the part.

    A group without patches in it is a stranger to it anyway.
    """
    of = np.arange(max(groups) + 1, dtype=np.int32)
    for number, group in groups.items():
        of[number] = group
    bank = replace(bank, part=of[bank.part])
    several = len(bank.parts) > 1
    anew = len(set(groups.values())) <= _ANEW
    left = bank.left_out(rows.values, of[rows.part], anew=anew) if several else iter(())
    having = set(of[rows.part].tolist()) if several else set()
    for group in sorted(set(groups.values())):
        yield next(left)[1] if group in having else bank
