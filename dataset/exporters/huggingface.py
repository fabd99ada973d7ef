"""Hugging Face: what ``load_dataset("imagefolder", data_dir=…)`` and the Hub load, with a dataset card.

::

    README.md                                                 card: YAML head (licence, task, size, parts), text below
    <part>/metadata.jsonl                                     a line a sample
    <part>/<category>/<label>/{image,mask,ps}/0001.png        columns file_name, mask_file_name, ps_file_name
    <part>/<category>/<label>/xyz/0001.tiff                   column xyz_path: a string, since PIL cannot decode it

Good samples get an empty mask, so that every row has one. The Hub wants fewer than 100,000 files a repository and 10,000
a folder; larger sets are refused with the way out, which is zips.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rakelight.dataset import images
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
from rakelight.dataset.exporters.plan import GOOD, PARTS, Item, Needs
from rakelight.dataset.exporters.prepared import (
    RGB_BYTES,
    XYZ_BYTES,
    background_method,
    pixel_estimate,
    prepare,
    shape_warnings,
)
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError
from rakelight.files import make_folder, write_text

FORMAT = "huggingface"
METADATA = "metadata.jsonl"
MAX_FILES = 100_000
_ESTIMATE = pixel_estimate(2 * RGB_BYTES + XYZ_BYTES)
_LICENCES = {
    *("apache-2.0", "mit", "cc0-1.0", "odbl", "pddl"),
    *(f"cc-by{kind}-{version}" for kind in ("", "-sa", "-nc", "-nd", "-nc-sa", "-nc-nd") for version in ("3.0", "4.0")),
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def export(
    dataset: Dataset, folder: str | Path, *, options: ExportOptions, progress: Progress = no_progress
) -> ExportReport:
    """Write parts, metadata and card; raises as :func:`rakelight.dataset.exporters.job.run`, and
    :class:`DatasetError` (``export.too_many_files``)."""
    needs = Needs(coordinates=True, mask=True, views=("RGBL05", options.picture))
    return run(
        dataset, folder, FORMAT, options=options, progress=progress, needs=needs, write=_write, estimate=_ESTIMATE
    )


def _write(job: Job) -> list[Placed]:
    method = background_method(job.plan, job.options)
    ps = all(i.sample.record("PS") for i in job.plan.items)  # rows must have the same columns
    if not ps and any(i.sample.record("PS") for i in job.plan.items):
        job.warnings.append("some samples have no pseudo-3D picture, so the column ps is left out")
    names = [name for item in job.plan.items for name in _files(item, ps).values()]
    if len(names) >= MAX_FILES - 10:
        raise DatasetError(
            f"the export would have {len(names)} files; the Hub takes fewer than {MAX_FILES} a repository",
            hint="export --to zips, or fewer categories at a time",
            code="export.too_many_files",
        )
    for home in sorted({Path(name).parent for name in names}):
        make_folder(job.folder / home)
    placed = job.each(lambda item: _put(job, item, ps, method))
    for part in PARTS:
        rows = [_row(item, p) for item, p in zip(job.plan.items, placed, strict=True) if p.part == part]
        if rows:
            write_text(job.folder / part / METADATA, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    write_text(job.folder / "README.md", card(job, len(names)))
    job.warnings += shape_warnings(job, placed)
    return placed


def _files(item: Item, ps: bool) -> dict[str, str]:
    home = f"{item.part}/{item.key.category}/{item.label}"
    name = f"{item.key.number:04d}"
    files = {"image": f"{home}/image/{name}.png", "mask": f"{home}/mask/{name}.png"}
    if ps:
        files["ps"] = f"{home}/ps/{name}.png"
    if item.sample.record("XYZ") is not None:
        files["xyz"] = f"{home}/xyz/{name}.tiff"
    return files


def _put(job: Job, item: Item, ps: bool, method: str) -> Placed:
    files = _files(item, ps)
    made = prepare(item.sample, job.options, xyz="xyz" in files, method=method)
    images.write_png(job.folder / files["image"], made.picture)
    empty = np.zeros(made.picture.shape[:2], np.uint8)
    images.write_png(job.folder / files["mask"], empty if made.mask is None else made.mask)
    if "ps" in files:
        images.write_png(
            job.folder / files["ps"], prepare(item.sample, replace(job.options, view="PS"), xyz=False).picture
        )
    if made.xyz_m is not None:
        images.write_tiff(job.folder / files["xyz"], made.xyz_m)
    return placed_as(item, files, made.facts)


def _row(item: Item, placed: Placed) -> dict[str, Any]:
    """Paths relative to the part's folder; columns ending in ``file_name`` become images."""
    below = {role: name.removeprefix(f"{item.part}/") for role, name in placed.files.items()}
    row: dict[str, Any] = {"file_name": below["image"], "mask_file_name": below["mask"]}
    if "ps" in below:
        row["ps_file_name"] = below["ps"]
    manifest = item.sample.manifest
    return row | {
        "xyz_path": placed.files.get("xyz", ""),
        "category": item.key.category,
        "label": item.label,
        "defective": not item.key.is_ok,
        "sample": str(item.key),
        "specimen": manifest.specimen,
        "batch": manifest.batch,
        "simulated": manifest.simulated,
    }


def card(job: Job, files: int) -> str:
    """README.md: the YAML head that the Hub reads, then what is in the data set."""
    info = job.dataset.info
    if info.license.strip().lower() not in _LICENCES:
        job.warnings.append(f"the licence {info.license.strip()!r} is none the Hub knows; the card says 'other'")
    count = len(job.plan.items)
    counts = job.plan.counts()
    parts = [p for p in PARTS if any(p in c for c in counts.values())]
    head = [
        "---",
        *head_lines(info.name, info.license, count),
        "configs:",
        "- config_name: default",
        "  data_files:",
        *(f"  - split: {part}\n    path: {json.dumps(part + '/**')}" for part in parts),
        "---",
    ]
    rows = [
        f"| {category} | {part} | {label} | {number} |"
        for category, by_part in counts.items()
        for part, labels in by_part.items()
        for label, number in labels.items()
    ]
    text = [
        f"# {info.name}",
        "",
        info.description or "Industrial parts under directional light, with pseudo-3D pictures and XYZ maps.",
        "",
        f"{count} samples in {files} files; split: {job.plan.split}.{_simulated(job)}",
        "",
        "| category | part | label | samples |",
        "|---|---|---|---|",
        *rows,
        "",
        "- `image`: the picture under all lights; `mask`: 0 and 255 (empty for good samples); `ps`: pseudo-3D picture,",
        f"  {info.ps_encoding.formula} (red {info.ps_encoding.red}; green {info.ps_encoding.green}; "
        f"blue {info.ps_encoding.blue}).",
        "- `xyz_path`: float32 TIFF (H, W, 3), metres, camera frame (x right, y down, z away), (0, 0, 0) where missing;",
        "  read it with `tifffile`.",
        "",
        '```python\nfrom datasets import load_dataset\nparts = load_dataset("imagefolder", data_dir=".")\n```',
        "",
    ]
    return "\n".join([*head, "", *text])


def head_lines(name: str, licence: str, samples: int) -> list[str]:
    """The lines of YAML that every card needs: name, licence, task, tags, size."""
    licence = licence.strip()
    known = licence.lower() in _LICENCES
    return [
        f"pretty_name: {json.dumps(name, ensure_ascii=False)}",
        f"license: {licence.lower() if known else 'other'}",
        *([] if known else [f"license_name: {json.dumps(_slug(licence) or 'unstated')}"]),
        "task_categories:",
        "- image-segmentation",
        "- image-classification",
        "tags:",
        *(f"- {tag}" for tag in ("anomaly-detection", "industrial-inspection", "photometric-stereo", "3d")),
        "size_categories:",
        f"- {next((name for limit, name in _SIZES if samples < limit), 'n>1M')}",
    ]


def _simulated(job: Job) -> str:
    count = sum(i.sample.manifest.simulated for i in job.plan.items)
    return f" {count} of them are simulated." if count else ""


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")[:60]


def verify(folder: str | Path, dataset: Dataset | None = None) -> tuple[str, ...]:
    """Problems of an export, none if it is whole: read as ImageFolder does, and compared with the data set if given."""
    folder = Path(folder)
    provenance, placed = reading.opened(folder, FORMAT)
    findings = reading.Findings()
    _check_card(folder, findings)
    for part in PARTS:
        mine = [p for p in placed if p.part == part]
        if mine:
            with findings.noting(f"{part}/{METADATA}"):
                _check_metadata(folder / part, mine, findings)
    for home in (p for p in folder.rglob("*") if p.is_dir()):
        number = sum(1 for _ in home.iterdir())
        findings.need(number < 10_000, f"{home}: {number} entries; the Hub takes fewer than 10,000 a folder")

    def check(entry: Placed, source: OpenSample | None, options: ExportOptions) -> None:
        picture = reading.image(folder / entry.files["image"], findings, dtype="uint8", channels=3)
        if picture is None:
            return
        shape = picture.shape[:2]
        mask = reading.check_mask(folder / entry.files["mask"], findings, good=entry.label == GOOD, shape=shape)
        xyz = reading.check_metres(folder / entry.files["xyz"], findings, shape) if "xyz" in entry.files else None
        if source is not None:
            reading.compare(source, entry, options, findings, picture=picture, mask=mask, xyz_m=xyz)

    reading.verify_each(folder, provenance, placed, dataset, findings, check)
    return findings.result()


def _check_card(folder: Path, findings: reading.Findings) -> None:
    with findings.noting("README.md"):
        text = images.read_file(folder / "README.md").decode("utf-8", "replace")
        head = text.split("---\n")[1] if text.startswith("---\n") and text.count("---\n") > 1 else ""
        for key in ("license:", "task_categories:", "size_categories:", "configs:"):
            findings.need(f"\n{key}" in f"\n{head}", f"README.md: its YAML head has no {key}")


def _check_metadata(part: Path, mine: list[Placed], findings: reading.Findings) -> None:
    """Each image of the part has one line, each line's files are there; all lines have the same columns."""
    named: list[Path] = []
    columns = set()
    for number, line in enumerate(images.read_file(part / METADATA).decode("utf-8", "replace").splitlines(), 1):
        try:
            row = json.loads(line)
            columns.add(tuple(row))
            files = [part / value for key, value in row.items() if key.endswith("file_name")]
        except (ValueError, TypeError, AttributeError) as e:
            findings.add(f"{part / METADATA}: line {number} cannot be read: {e}")
            continue
        named += files
        missing = next((f for f in files if not f.is_file()), None)
        findings.need(missing is None, f"{part / METADATA}: line {number}: {missing} is missing")
    findings.need(len(columns) <= 1, f"{part / METADATA}: lines with different columns: {sorted(columns)}")
    pictures = set(part.rglob("*.png"))
    findings.need(pictures == set(named), f"{part}: {len(pictures)} pictures, {len(set(named))} named in {METADATA}")
    findings.need(len(named) >= len(mine), f"{part / METADATA}: {len(named)} files for {len(mine)} samples")
