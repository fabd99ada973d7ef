"""anomalib: one tree a category that its ``Folder`` and ``Folder3D`` load, and a table for ``Tabular``.

::

    <category>/train/good/000.png               normal_dir
    <category>/test/good/000.png                normal_test_dir
    <category>/abnormal/<defect>/000.png        abnormal_dir
    <category>/mask/<defect>/000.png            mask_dir
    <category>/depth/{train,test,abnormal}/…    normal_depth_dir, normal_test_depth_dir, abnormal_depth_dir
    <category>/validation/…                     only in the table (split "val")
    <category>/samples.csv                      image_path, label_index, label, split, mask_path, defect
    README.txt                                  the lines of Python that load each category

Depth maps are those of MVTec 3D-AD (float32 XYZ, metres, 0 missing). They are written for categories of which every sample
has an XYZ map, since ``Folder3D`` pairs by position.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

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
from rakelight.dataset.exporters.plan import GOOD, Item, Needs
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
from rakelight.files import make_folder, write_text

FORMAT = "anomalib"
TABLE = "samples.csv"
COLUMNS = ("image_path", "label_index", "label", "split", "mask_path", "defect")
_ESTIMATE = pixel_estimate(RGB_BYTES + XYZ_BYTES)


def export(
    dataset: Dataset, folder: str | Path, *, options: ExportOptions, progress: Progress = no_progress
) -> ExportReport:
    """Write the trees and tables; raises as :func:`rakelight.dataset.exporters.job.run`."""
    needs = Needs(coordinates=True, mask=True, views=("RGBL05", options.picture))
    return run(
        dataset, folder, FORMAT, options=options, progress=progress, needs=needs, write=_write, estimate=_ESTIMATE
    )


def _write(job: Job) -> list[Placed]:
    method = background_method(job.plan, job.options)
    flat = {i.key.category for i in job.plan.items if i.sample.record("XYZ") is None}
    job.warnings += [f"{c}: some samples have no XYZ map, so no depth for Folder3D" for c in sorted(flat)]
    for item in job.plan.items:
        for name in _files(item, item.key.category not in flat).values():
            make_folder((job.folder / name).parent)
    placed = job.each(lambda item: _put(job, item, item.key.category not in flat, method))
    for category in job.plan.categories:
        write_text(job.folder / category / TABLE, _table([p for p in placed if p.category == category]))
    write_text(job.folder / "README.txt", "\n".join(_code(c, placed, c not in flat) for c in job.plan.categories))
    job.warnings += shape_warnings(job, placed)
    return placed


def _files(item: Item, depth: bool) -> dict[str, str]:
    """``Folder3D`` takes one folder of defective parts, searched in depth: masks and maps lie below it alike."""
    home, name = f"{item.key.category}/", f"{item.label}/{item.name}"
    val = "validation/" if item.part == "validation" else ""
    if item.label == GOOD:
        files = {"rgb": f"{home}{item.part}/{name}.png", "depth": f"{home}depth/{item.part}/{name}.tiff"}
    else:
        files = {
            "rgb": f"{home}{val}abnormal/{name}.png",
            "mask": f"{home}{val}mask/{name}.png",
            "depth": f"{home}{val}depth/abnormal/{name}.tiff",
        }
    if not depth or val:
        files.pop("depth")
    return files


def _put(job: Job, item: Item, depth: bool, method: str) -> Placed:
    files = _files(item, depth)
    made = prepare(item.sample, job.options, xyz="depth" in files, method=method)
    images.write_png(job.folder / files["rgb"], made.picture)
    if "mask" in files:
        assert made.mask is not None  # the plan took defective samples with a mask only
        images.write_png(job.folder / files["mask"], made.mask)
    if made.xyz_m is not None:
        images.write_tiff(job.folder / files["depth"], made.xyz_m)
    return placed_as(item, files, made.facts)


def _table(placed: list[Placed]) -> str:
    """Paths relative to the category's folder; ``label`` in anomalib's words, so that it infers nothing."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for p in placed:
        label = "abnormal" if p.label != GOOD else "normal" if p.part == "train" else "normal_test"
        split = "val" if p.part == "validation" else p.part
        paths = [p.files.get(role, "").removeprefix(f"{p.category}/") for role in ("rgb", "mask")]
        writer.writerow((paths[0], int(p.label != GOOD), label, split, paths[1], p.label))
    return text.getvalue()


def folders(category: str, placed: list[Placed] | tuple[Placed, ...], depth: bool) -> dict[str, str]:
    """The arguments of ``Folder3D`` (without those that name depth, of ``Folder``) for a category."""
    parts = {(p.part, p.label != GOOD) for p in placed if p.category == category}
    result = {"normal_dir": "train/good"}
    if ("test", False) in parts:
        result["normal_test_dir"] = "test/good"
    if ("test", True) in parts:
        result |= {"abnormal_dir": "abnormal", "mask_dir": "mask"}
    if depth:
        names = {"normal": "train/good", "normal_test": "test/good", "abnormal": "abnormal"}
        result |= {f"{n}_depth_dir": f"depth/{path}" for n, path in names.items() if f"{n}_dir" in result}
    return result


def _code(category: str, placed: list[Placed], depth: bool) -> str:
    def call(kind: str, arguments: dict[str, str]) -> str:
        inside = "".join(f", {k}={v!r}" for k, v in arguments.items())
        return f"{kind}(name={category!r}, root=HERE / {category!r}{inside})\n"

    lines = f"# {category}; from pathlib import Path; from anomalib.data import Folder, Folder3D, Tabular\n"
    lines += call("Folder", folders(category, placed, False))
    lines += call("Folder3D", folders(category, placed, True)) if depth else ""
    return lines + (
        f"Tabular.from_file(name={category!r}, file_path=HERE / {category!r} / {TABLE!r}, root=HERE / {category!r})\n"
    )


def verify(folder: str | Path, dataset: Dataset | None = None) -> tuple[str, ...]:
    """Problems of an export, none if it is whole: read as anomalib does, and compared with the data set if given."""
    folder = Path(folder)
    provenance, placed = reading.opened(folder, FORMAT)
    findings = reading.Findings()
    for category in sorted({p.category for p in placed}):
        mine = [p for p in placed if p.category == category]
        _check_folders(folder, mine, findings)
        _check_table(folder / category, mine, findings)

    def check(entry: Placed, source: OpenSample | None, options: ExportOptions) -> None:
        picture = reading.image(folder / entry.files["rgb"], findings, dtype="uint8", channels=3)
        if picture is None:
            return
        shape = picture.shape[:2]
        mask = xyz = None
        if "mask" in entry.files:
            mask = reading.check_mask(folder / entry.files["mask"], findings, good=False, shape=shape)
        if "depth" in entry.files:
            xyz = reading.check_metres(folder / entry.files["depth"], findings, shape)
        if source is not None:
            reading.compare(source, entry, options, findings, picture=picture, mask=mask, xyz_m=xyz)

    reading.verify_each(folder, provenance, placed, dataset, findings, check)
    return findings.result()


def _check_folders(folder: Path, mine: list[Placed], findings: reading.Findings) -> None:
    """anomalib gathers all files of each folder, sorts the paths and pairs pictures, masks and depth by position."""
    category = mine[0].category
    depth = any("depth" in p.files for p in mine)
    where = folders(category, mine, depth)
    entries = {folder / p.files["rgb"]: p for p in mine if p.part != "validation"}
    found = 0
    for kind in ("normal", "normal_test", "abnormal"):
        if f"{kind}_dir" not in where:
            continue
        rgb = _gathered(folder / category / where[f"{kind}_dir"])
        found += len(rgb)
        partners = {
            "depth": where.get(f"{kind}_depth_dir"),
            "mask": where.get("mask_dir") if kind == "abnormal" else None,
        }
        for role, home in partners.items():
            if home is None:
                continue
            other = _gathered(folder / category / home)
            if findings.need(len(other) == len(rgb), f"{category}: {len(rgb)} pictures, {len(other)} in {home}"):
                for a, b in zip(rgb, other, strict=True):
                    fits = a in entries and folder / entries[a].files.get(role, "") == b and a.stem in b.stem
                    findings.need(fits, f"{a}: anomalib pairs it with {b}")
    findings.need(found == len(entries), f"{category}: anomalib finds {found} pictures; the map has {len(entries)}")


def _gathered(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("**/*") if p.suffix.lower() in (".png", ".tiff") and p.is_file())


def _check_table(root: Path, mine: list[Placed], findings: reading.Findings) -> None:
    with findings.noting(TABLE):
        rows = list(csv.DictReader(io.StringIO(images.read_file(root / TABLE).decode("utf-8", "replace"))))
        findings.need(len(rows) == len(mine), f"{root / TABLE}: {len(rows)} rows; the map has {len(mine)}")
        for row in rows:
            if not findings.need(set(row) == set(COLUMNS), f"{root / TABLE}: columns {sorted(map(str, row))}"):
                return
            paths = [row["image_path"], *([row["mask_path"]] if row["mask_path"] else [])]
            missing = next((p for p in paths if ".." in p.split("/") or not (root / p).is_file()), None)
            findings.need(missing is None, f"{root / TABLE}: {missing} is missing")
            anomalous = row["label_index"] == "1"
            findings.need(not (anomalous and row["split"] == "train"), f"{row['image_path']}: defective, yet in train")
            findings.need(anomalous == bool(row["mask_path"]), f"{row['image_path']}: its mask does not fit its label")
