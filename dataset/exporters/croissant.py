"""Croissant 1.1 for a data set published as it is: ``croissant.json`` and ``samples.csv``, to lie in its top folder.

Put both beside ``realiad_d3_raw`` where the data set is published, and ``mlcroissant``, Hugging Face or a reviewer of
NeurIPS' data track reads it. For zips use ``--to zips``, which writes both for them. :func:`describe` serves either.
"""

from __future__ import annotations

import csv
import fnmatch
import io
import json
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rakelight.dataset import croissant, images, layout
from rakelight.dataset.croissant import Resource
from rakelight.dataset.exporters import reading
from rakelight.dataset.exporters.job import (
    ExportOptions,
    ExportReport,
    Job,
    Placed,
    Progress,
    no_progress,
    placed_as,
    run,
)
from rakelight.dataset.exporters.plan import Item, Needs
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, InputError
from rakelight.files import read_json, sha256_file, write_json, write_text

FORMAT = "croissant"
_COLUMNS = {"picture": "RGBL05", "mask": "MASK", "pseudo3d": "PS", "points": "XYZ"}


def export(
    dataset: Dataset, folder: str | Path, *, options: ExportOptions, progress: Progress = no_progress
) -> ExportReport:
    """Write both files; raises as :func:`rakelight.dataset.exporters.job.run`."""
    refuse_pixels(options, FORMAT)
    needs = Needs(train_good=False)
    return run(
        dataset,
        folder,
        FORMAT,
        options=options,
        progress=progress,
        needs=needs,
        write=_write,
        estimate=lambda plan, _: 20_000 + 600 * len(plan.items),
    )


def refuse_pixels(options: ExportOptions, format: str) -> None:
    """Raise :class:`InputError` if options would change pixels in a format that holds the data set's own files."""
    if options.size is not None or options.no_background or options.view != "L05":
        raise InputError(
            f"--to {format} holds the data set's files as they are; --size, --view and --no-background do not apply",
            hint="leave them out",
            code="export.option",
        )


def _write(job: Job) -> list[Placed]:
    describe(job, ())
    return [placed_as(item, {}) for item in job.plan.items]


def describe(job: Job, archives: Iterable[Resource]) -> None:
    """Write ``samples.csv`` and ``croissant.json`` for the samples of the job, in these archives or in place."""
    rows = [_row(item) for item in job.plan.items]
    write_text(job.folder / croissant.TABLE, croissant.table(rows))
    info = job.dataset.info
    url = job.options.url or "https://example.org/" + "".join(c if c.isalnum() else "-" for c in info.name)
    if not job.options.url:
        job.warnings.append(f"no --url given: {croissant.DOCUMENT} names {url} as the place of publication; correct it")
    if not info.license:
        job.warnings.append(f"the data set states no licence; {croissant.DOCUMENT} says 'not stated'")
    made = croissant.document(
        name=info.name,
        description=info.description,
        license=info.license,
        url=url,
        published=info.created_utc[:10],
        samples_table=resource(job.folder, croissant.TABLE, "text/csv"),
        archives=archives,
        present=[column for column in _COLUMNS if any(row[column] for row in rows)],
        simulated=any(item.sample.manifest.simulated for item in job.plan.items),
        imported=any(item.sample.manifest.source.origin for item in job.plan.items),
        split=job.plan.split,
    )
    write_json(job.folder / croissant.DOCUMENT, made)


def resource(folder: Path, name: str, encoding: str) -> Resource:
    """A written file as the metadata names it."""
    path = folder / name
    return Resource(name, path.stat().st_size, sha256_file(path), encoding)


def _row(item: Item) -> dict[str, str]:
    records = {column: item.sample.record(role) for column, role in _COLUMNS.items()}
    manifest = item.sample.manifest
    return {
        "sample": str(item.key),
        "category": item.key.category,
        "label": item.key.label,
        "defective": str(not item.key.is_ok),
        "part": item.part,
        "timestamp": f"t{manifest.timestamp}",  # a number of 14 digits would lose its zeros
        "specimen": manifest.specimen,
        "batch": manifest.batch,
        "simulated": str(manifest.simulated),
        **{column: "" if r is None else r.path.rsplit("/", 1)[1] for column, r in records.items()},
    }


def verify(folder: str | Path, dataset: Dataset | None = None) -> tuple[str, ...]:
    """Problems of an export, none if it is whole: by our own rules, and by ``mlcroissant`` where it is installed.

    With a data set, the patterns of the file sets are tried on its files.
    """
    folder = Path(folder)
    _, placed = reading.opened(folder, FORMAT)
    findings = reading.Findings()
    check_document(folder, len(placed), findings)
    check_with_mlcroissant(folder / croissant.DOCUMENT, len(placed), findings)
    if dataset is not None:
        for entry in placed:
            reading.source_of(dataset, entry, findings)
        _check_patterns(folder, dataset, findings)
    return findings.result()


def _check_patterns(folder: Path, dataset: Dataset, findings: reading.Findings) -> None:
    """Each file that the table names is found by the pattern of its file set, matched as ``mlcroissant`` does."""
    with findings.noting(croissant.DOCUMENT):
        document: Any = read_json(folder / croissant.DOCUMENT, error=DatasetError)
        patterns = _patterns(document)
        paths = [p.relative_to(dataset.root).as_posix() for p in (dataset.root / layout.RAW_FOLDER).rglob("*.*")]
        found = {p.rsplit("/", 1)[1] for pattern in patterns for p in fnmatch.filter(paths, pattern)}
        table = csv.DictReader(io.StringIO(images.read_file(folder / croissant.TABLE).decode("utf-8", "replace")))
        for name in (row[column] for row in table for column in _COLUMNS):
            findings.need(not name or name in found, f"{name}: in {croissant.TABLE}, but no file set finds it")


def _patterns(document: Any) -> list[str]:
    """What its file sets include; what is no document of ours has none (:func:`check_document` tells)."""
    entries = document.get("distribution") if isinstance(document, dict) else None
    sets = [e for e in entries or () if isinstance(e, dict) and e.get("@type") == "cr:FileSet"]
    return [e["includes"] for e in sets if isinstance(e.get("includes"), str)]


def check_document(folder: Path, samples: int, findings: reading.Findings) -> None:
    """What ``mlcroissant`` would demand of the document, and that the files it names are those beside it."""
    with findings.noting(croissant.DOCUMENT):
        data: Any = read_json(folder / croissant.DOCUMENT, error=DatasetError)
        try:
            for key in ("name", "license", "url", "distribution", "recordSet"):
                findings.need(bool(data[key]), f"{croissant.DOCUMENT}: {key} is empty")
            findings.need(croissant.CONFORMS_TO in data["conformsTo"], f"{croissant.DOCUMENT}: not of version 1.1")
            for entry in data["distribution"]:
                if entry["@type"] == "cr:FileObject":
                    path = folder / entry["contentUrl"]
                    good = path.is_file() and sha256_file(path) == entry["sha256"]
                    findings.need(good, f"{croissant.DOCUMENT}: {entry['contentUrl']} is missing or another file")
        except (KeyError, TypeError) as e:
            findings.add(f"{croissant.DOCUMENT}: {json.dumps(str(e))} is missing")
        rows = images.read_file(folder / croissant.TABLE).decode("utf-8", "replace").count("\n") - 1
        findings.need(rows == samples, f"{croissant.TABLE}: {rows} rows for {samples} samples")


def check_with_mlcroissant(path: Path, samples: int, findings: reading.Findings) -> None:
    """Have ``mlcroissant`` validate the document and load the table; nothing happens where it is not installed."""
    if find_spec("mlcroissant") is None:
        return
    import mlcroissant

    try:
        found = mlcroissant.Dataset(jsonld=path)
        for problem in sorted(found.metadata.ctx.issues.errors):
            findings.add(f"{croissant.DOCUMENT}: mlcroissant: {problem}")
        loaded = sum(1 for _ in found.records("samples"))
        findings.need(loaded == samples, f"{croissant.DOCUMENT}: mlcroissant loads {loaded} of {samples} samples")
    except Exception as e:  # it raises errors of many libraries; each means that the document cannot be used
        findings.add(f"{croissant.DOCUMENT}: mlcroissant cannot read it: {str(e)[:300]}")
