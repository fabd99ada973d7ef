"""Teaching a detector from good parts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.detection import evidence, fusion_training
from rakelight.detection.detector import Detector, Progress, TaughtPart
from rakelight.detection.evidence import Maps, Rows
from rakelight.detection.features.base import Extractor
from rakelight.detection.fusion import Fusion, concat
from rakelight.detection.measuring import Calibration, calibration_of, decide, measure, row_of
from rakelight.detection.memory_bank import MemoryBank
from rakelight.detection.methods.base import Method
from rakelight.detection.native import Modality
from rakelight.detection.parts import Part
from rakelight.detection.registration import Template
from rakelight.detection.swapping import SwapIndices
from rakelight.errors import DatasetError, ModelError

LEAST_PARTS = 3
_BATCH = 8  # parts whose features are made at a time


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
    maps = _extract_all(parts, method, extractors, progress)
    missing = [m for m in method.modalities if m not in maps]
    if missing:
        raise DatasetError(
            f"not one of the {len(parts)} good parts has {', '.join(missing)}, which method {method.name} uses",
            hint="choose a method without it, or capture parts with it",
            code="detect.no_modality",
        )
    numbers = [p.number for p in taught]
    judged = np.stack([evidence.judged_patches(evidence.judged_pixels(p, template), method.grid) for p in parts])
    indices = _swap_indices(method, maps)
    mixed, _ = evidence.swapped_maps(maps, method, indices)
    told = dict(facts or {})
    fusion = _fusion(method, maps, mixed, judged, numbers, told, progress)
    banks: dict[str, MemoryBank] = {}
    rows: dict[str, Rows] = {}
    for done, spec in enumerate(method.banks):
        progress("memory banks", done, len(method.banks))
        found = evidence.bank_rows(spec, mixed if spec.swapped else maps, judged, numbers, fusion)
        if found is None:
            raise ModelError(
                f"no patch of the good parts is valid for the bank {spec.name} of {'+'.join(spec.of)}",
                hint="look at part masks and at the share of measured points",
                code="model.no_patches",
            )
        rows[spec.name] = found
        banks[spec.name] = MemoryBank.build(found.values, found.part, share=method.share, seed=method.seed)
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


def _extract_all(
    parts: Sequence[Part], method: Method, extractors: Mapping[Modality, Extractor], progress: Progress
) -> Maps:
    """Features of all parts, made a few parts at a time."""
    whole: Maps = {}
    for first in range(0, len(parts), _BATCH):
        progress("features", first, len(parts))
        for modality, found in evidence.extract(parts[first : first + _BATCH], method, extractors).items():
            if modality not in whole:
                shape = (len(parts), *found.values.shape[1:])
                whole[modality] = type(found)(np.zeros(shape, np.float32), np.zeros(shape[:3], bool))
            whole[modality].values[first : first + _BATCH] = found.values
            whole[modality].valid[first : first + _BATCH] = found.valid
    return whole


def _swap_indices(method: Method, maps: Maps) -> SwapIndices | None:
    if method.swap is None:
        return None
    return SwapIndices.draw(maps["rgb"].values.shape[-1], method.grid, method.block, method.alpha, method.seed)


def _fusion(
    method: Method,
    maps: Maps,
    mixed: Maps,
    judged: NDArray[np.bool_],
    numbers: Sequence[int],
    told: dict[str, Any],
    progress: Progress,
) -> Fusion | None:
    spec = next((bank for bank in method.banks if len(bank.of) == 2), None)
    if spec is None:
        return None
    found = evidence.pair_rows(spec, mixed if spec.swapped else maps, judged, numbers)
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
    """Every part against banks that have not seen it."""
    without: dict[int, dict[str, MemoryBank]] = {number: {} for number in numbers}
    for name, bank in banks.items():
        own = dict.fromkeys(numbers, bank)  # a part without patches in a bank is a stranger to it anyway
        own |= dict(bank.left_out(rows[name].values, rows[name].part)) if len(bank.parts) > 1 else {}
        for number in numbers:
            without[number][name] = own[number]
    scored = []
    for row, (part, number) in enumerate(zip(parts, numbers, strict=True)):
        progress("calibration", row, len(parts))
        own_maps = {m: row_of(f, row) for m, f in maps.items()}
        scored.append(
            measure(part, own_maps, method, template, without[number], indices, fusion, number, "cpu", every=True)
        )
    names = tuple(bank.name for bank in method.banks)
    return calibration_of(scored, parts, numbers, names, method.seed)
