"""Real-IAD (2D): five views a sample, upper-case defect codes, JSONs of exactly four keys.

::

    realiad_raw/<category>/OK/S0001/<category>_0001_OK_C1_<14 digits>.jpg … C5        (realiad_512 with --size 512)
    realiad_raw/<category>/NG/<CODE>/S0001/<category>_0001_<CODE>_C1_<14 digits>.jpg   + .png mask of the same stem
    realiad_jsons/<category>.json           all views, five entries a sample in a row
    realiad_jsons_sv/<category>.json        one view: C5, all lights
    defect_codes.json                       code → defect

RGBL01 … RGBL05 become the views C1 … C5; the mask, drawn on RGBL05, fits all of them. The authors' loader asserts the keys
``category, anomaly_class, image_path, mask_path`` and no other. There is no validation part. Codes come from
``meta/defects.json``, or are made from the names.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from rakelight.dataset import images, layout
from rakelight.dataset.defects import read_defects
from rakelight.dataset.exporters import pictures, reading
from rakelight.dataset.exporters.job import (
    ExportOptions,
    ExportReport,
    Job,
    Placed,
    Progress,
    no_progress,
    placed_as,
    plain_bytes,
    run,
    stored_bytes,
)
from rakelight.dataset.exporters.plan import Item, Needs, Plan, raw_name
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, InputError
from rakelight.files import make_folder, read_json, write_bytes, write_json

FORMAT = "realiad"
CODES_FILE = "defect_codes.json"
KEYS = frozenset({"category", "anomaly_class", "image_path", "mask_path"})
SINGLE_VIEW = f"C{layout.REFERENCE_VIEW}"
_VIEW_ROLES = tuple(f"RGBL{v:02d}" for v in layout.VIEWS)
_NAME = re.compile(r"[a-z0-9_]+_[0-9]{4}_(OK|[A-Z]{2})_C[1-5]_[0-9]{14}\.jpg")  # as ADEval and ADer take names apart


def export(
    dataset: Dataset, folder: str | Path, *, options: ExportOptions, progress: Progress = no_progress
) -> ExportReport:
    """Write the tree; raises as :func:`rakelight.dataset.exporters.job.run`. Samples with fewer views are left out."""
    if options.view != "L05" or options.no_background:
        raise InputError(
            "Real-IAD holds all five views, with the background; --view and --no-background do not apply",
            hint="leave them out, or export --to mvtec-ad",
            code="export.option",
        )
    needs = Needs(mask=True, views=_VIEW_ROLES, parts=("train", "test"))
    return run(
        dataset, folder, FORMAT, options=options, progress=progress, needs=needs, write=_write, estimate=_estimate
    )


def _estimate(plan: Plan, options: ExportOptions) -> int:
    if options.size is None:
        return stored_bytes(plan, (*_VIEW_ROLES, "MASK", "MASK", "MASK"))
    return plain_bytes(plan, options.size, 5 * 1.5)


def _write(job: Job) -> list[Placed]:
    defects = read_defects(job.dataset.root).defects
    codes = {d: defects[d].code for d in sorted({i.key.label for i in job.plan.items if not i.key.is_ok})}
    top = "realiad_raw" if job.options.size is None else f"realiad_{job.options.size}"
    for item in job.plan.items:
        make_folder(job.folder / top / _home(item, codes))
    placed = job.each(lambda item: _put(job, item, top, codes))
    for category in job.plan.categories:
        mine = [p for p in placed if p.category == category]
        for folder, views in (
            ("realiad_jsons", _VIEW_ROLES),
            ("realiad_jsons_sv", (f"RGBL{layout.REFERENCE_VIEW:02d}",)),
        ):
            make_folder(job.folder / folder)
            write_json(job.folder / folder / f"{category}.json", _document(category, mine, top, views))
    write_json(job.folder / CODES_FILE, {code: defect for defect, code in codes.items()})
    return placed


def _home(item: Item, codes: dict[str, str]) -> str:
    label = layout.OK if item.key.is_ok else f"{layout.NG_FOLDER}/{codes[item.key.label]}"
    return f"{item.key.category}/{label}/{raw_name(item)}"


def _put(job: Job, item: Item, top: str, codes: dict[str, str]) -> Placed:
    code = layout.OK if item.key.is_ok else codes[item.key.label]
    stem = f"{top}/{_home(item, codes)}/{item.key.category}_{item.key.number:04d}_{code}"
    mask = item.sample.mask()
    files: dict[str, str] = {}
    for view, role in zip(layout.VIEWS, _VIEW_ROLES, strict=True):
        name = f"{stem}_C{view}_{item.sample.manifest.timestamp}"
        files[role] = f"{name}.jpg"
        write_bytes(job.folder / files[role], _jpeg(item.sample, view, job.options.size))
        if mask is not None:
            files[f"mask{view}"] = f"{name}.png"
            size = pictures.fitted_size(mask.shape[0], mask.shape[1], job.options.size)
            images.write_png(job.folder / files[f"mask{view}"], pictures.resize_nearest(mask, size))
    return placed_as(item, files, {"code": code})


def _jpeg(sample: OpenSample, view: int, size: int | None) -> bytes | memoryview:
    """The data set's own file, or a smaller one."""
    if size is None:
        data = sample.read(f"RGBL{view:02d}")
    else:
        picture = sample.rgb(view)
        data = None
        if picture is not None:
            fitted = pictures.fitted_size(picture.shape[0], picture.shape[1], size)
            return images.encode_jpeg(pictures.resize_picture(picture, fitted))
    if data is None:
        raise DatasetError(f"{sample.key} has no view {view}", hint="verify the data set", code="dataset.damaged")
    return data


def _document(category: str, placed: list[Placed], top: str, views: tuple[str, ...]) -> dict[str, Any]:
    prefix = f"{top}/{category}/"
    document: dict[str, Any] = {"meta": {"prefix": f"{category}/", "normal_class": layout.OK}, "train": [], "test": []}
    for p in placed:
        for role in views:
            mask = p.files.get(f"mask{int(role[-2:])}")
            document[p.part].append(
                {
                    "category": category,
                    "anomaly_class": p.facts["code"],
                    "image_path": p.files[role].removeprefix(prefix),
                    "mask_path": None if mask is None else mask.removeprefix(prefix),
                }
            )
    return document


def verify(folder: str | Path, dataset: Dataset | None = None) -> tuple[str, ...]:
    """Problems of an export, none if it is whole: read as the authors' and ADer's loaders do, compared if a set is given."""
    folder = Path(folder)
    provenance, placed = reading.opened(folder, FORMAT)
    findings = reading.Findings()
    tops = {f.split("/")[0] for p in placed for f in p.files.values()}
    for category in sorted({p.category for p in placed}):
        mine = [p for p in placed if p.category == category]
        for jsons, views in (("realiad_jsons", 5), ("realiad_jsons_sv", 1)):
            with findings.noting(f"{jsons}/{category}.json"):
                _check_json(folder, jsons, category, min(tops), views, mine, findings)

    def check(entry: Placed, source: OpenSample | None, options: ExportOptions) -> None:
        for view, role in zip(layout.VIEWS, _VIEW_ROLES, strict=True):
            picture = reading.image(folder / entry.files[role], findings, dtype="uint8", channels=3)
            mask_file = entry.files.get(f"mask{view}")
            if picture is None:
                continue
            if source is not None and options.size is None:
                same = images.read_file(folder / entry.files[role]) == source.read(role)
                findings.need(same, f"{entry.files[role]}: not the data set's file")
            if mask_file is None:
                continue
            mask = reading.check_mask(folder / mask_file, findings, good=False, shape=picture.shape[:2])
            original = source.mask() if source is not None else None
            if mask is not None and original is not None:
                wanted = pictures.resize_nearest(original, (mask.shape[0], mask.shape[1]))
                findings.need(np.array_equal(mask, wanted), f"{mask_file}: differs from the data set's mask")

    reading.verify_each(folder, provenance, placed, dataset, findings, check)
    return findings.result()


def _check_json(
    folder: Path, jsons: str, category: str, top: str, views: int, mine: list[Placed], findings: reading.Findings
) -> None:
    document = read_json(folder / jsons / f"{category}.json", error=DatasetError)
    where = f"{jsons}/{category}.json"
    try:
        assert set(document) == {"meta", "train", "test"} and document["meta"]["prefix"] == f"{category}/"
        for part in ("train", "test"):
            entries = document[part]
            wanted = views * sum(p.part == part for p in mine)
            findings.need(len(entries) == wanted, f"{where}: {len(entries)} entries in {part}; {wanted} are needed")
            for number, entry in enumerate(entries):
                findings.need(set(entry) == KEYS, f"{where}: keys {sorted(entry)}; loaders allow just {sorted(KEYS)}")
                _check_entry(folder / top, where, entry, number % 5 + 1 if views == 5 else 5, part, findings)
    except (AssertionError, TypeError, KeyError, AttributeError) as e:
        findings.add(f"{where}: not the form of Real-IAD ({type(e).__name__}: {json.dumps(str(e))})")


def _check_entry(
    root: Path, where: str, entry: dict[str, Any], view: int, part: str, findings: reading.Findings
) -> None:
    name = entry["image_path"].split("/")[-1]
    path = root / entry["category"] / entry["image_path"]
    findings.need(_NAME.fullmatch(name) is not None, f"{where}: {name} is not of the form Real-IAD names have")
    findings.need(name.split("_")[-2] == f"C{view}", f"{where}: {name} stands where view C{view} is expected")
    findings.need(path.is_file(), f"{where}: {path} is missing")
    normal = entry["anomaly_class"] == layout.OK
    findings.need(normal or part == "test", f"{where}: {name} is defective, yet in {part}")
    findings.need(normal == (entry["mask_path"] is None), f"{where}: the mask of {name} does not fit its class")
    if entry["mask_path"] is not None:
        same = entry["mask_path"] == entry["image_path"].removesuffix(".jpg") + ".png"
        findings.need(
            same and path.with_suffix(".png").is_file(), f"{where}: the mask of {name} is missing or misnamed"
        )
