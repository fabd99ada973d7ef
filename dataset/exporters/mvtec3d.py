"""MVTec 3D-AD: the tree that BTF, M3DM, CFM, 2M3DF, AST, 3DSR and anomalib's ``MVTec3D`` load.

::

    <category>/train/good/{rgb/000.png, xyz/000.tiff}
    <category>/validation/good/{rgb, xyz}/…
    <category>/test/{good,<defect>}/{rgb/000.png, xyz/000.tiff, gt/000.png}
    <category>/calibration/camera.json                     if a calibration with a camera is stored
    foreground/<category>/<part>/<label>/000.png           with --no-background: where the part is

RGB is 8-bit PNG; XYZ float32 (H, W, 3) in metres, camera frame, missing points (0, 0, 0); GT 8-bit, 0 and 255. Loaders
glob, sort and pair by position. They take a point for missing if *any* coordinate is 0, so an exact 0 of a valid point
is shifted by a nanometre and counted in the map.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rakelight.dataset import images
from rakelight.dataset.exporters import pictures, reading
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
    camera,
    loader_path_warning,
    pixel_estimate,
    prepare,
    shape_warnings,
)
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.writer import Dataset
from rakelight.files import make_folder, write_json

FORMAT = "mvtec3d"
FOREGROUND = "foreground"
_ESTIMATE = pixel_estimate(RGB_BYTES + XYZ_BYTES)


def export(
    dataset: Dataset, folder: str | Path, *, options: ExportOptions, progress: Progress = no_progress
) -> ExportReport:
    """Write the tree; raises as :func:`rakelight.dataset.exporters.job.run`. Defective validation samples are left out."""

    def write(job: Job) -> list[Placed]:
        job.warnings += loader_path_warning(Path(folder).absolute())
        return _write(job)

    needs = Needs(xyz=True, coordinates=True, mask=True, views=("RGBL05", options.picture), good_validation=True)
    return run(
        dataset, folder, FORMAT, options=options, progress=progress, needs=needs, write=write, estimate=_ESTIMATE
    )


def _write(job: Job) -> list[Placed]:
    method = background_method(job.plan, job.options)
    job.facts["xyz_shift_m"] = pictures.ZERO_SHIFT_M
    if method:
        job.facts["background"] = {"method": method, "pitches": job.options.background_pitches}
    for category in job.plan.categories:
        items = [i for i in job.plan.items if i.key.category == category]
        found = camera(job.dataset.root, items, job.options.size)
        if found is not None:
            write_json(make_folder(job.folder / category / "calibration") / "camera.json", found)
        for item in items:
            for kind in ("rgb", "xyz", *(("gt",) if item.part == "test" else ())):
                make_folder(job.folder / _home(item) / kind)
            if method:
                make_folder(job.folder / FOREGROUND / _home(item))
    placed = job.each(lambda item: _put(job, item, method))
    job.warnings += shape_warnings(job, placed)
    return placed


def _home(item: Item) -> str:
    return f"{item.key.category}/{item.part}/{item.label}"


def _put(job: Job, item: Item, method: str) -> Placed:
    made = prepare(item.sample, job.options, xyz=True, method=method)
    assert made.xyz_m is not None  # the plan took samples with a map only
    files = {"rgb": f"{_home(item)}/rgb/{item.name}.png", "xyz": f"{_home(item)}/xyz/{item.name}.tiff"}
    images.write_png(job.folder / files["rgb"], made.picture)
    images.write_tiff(job.folder / files["xyz"], made.xyz_m)
    if item.part == "test":
        files["gt"] = f"{_home(item)}/gt/{item.name}.png"
        mask = np.zeros(made.picture.shape[:2], np.uint8) if made.mask is None else made.mask
        images.write_png(job.folder / files["gt"], mask)
    if made.foreground is not None:
        files["foreground"] = f"{FOREGROUND}/{_home(item)}/{item.name}.png"
        images.write_png(job.folder / files["foreground"], made.foreground.astype(np.uint8) * 255)
    return placed_as(item, files, made.facts)


def verify(folder: str | Path, dataset: Dataset | None = None) -> tuple[str, ...]:
    """Problems of an export, none if it is whole: read as the loaders do, and compared with the data set if given."""
    folder = Path(folder)
    provenance, placed = reading.opened(folder, FORMAT)
    findings = reading.Findings()
    by_rgb = {folder / p.files.get("rgb", ""): p for p in placed}
    seen = set()
    for category in sorted({p.category for p in placed}):
        for rgb, xyz, gt in _pairs(folder / category, findings):
            entry = by_rgb.get(rgb)
            if findings.need(entry is not None, f"{rgb}: a picture that the map does not know") and entry:
                seen.add(entry.sample)
                findings.need(folder / entry.files["xyz"] == xyz, f"{entry.sample}: loaders pair it with {xyz}")
                findings.need(
                    gt is None or folder / entry.files.get("gt", "") == gt, f"{entry.sample}: loaders pair it with {gt}"
                )
    for entry in placed:
        findings.need(entry.sample in seen, f"{entry.sample}: no loader finds it")

    def check(entry: Placed, source: OpenSample | None, options: ExportOptions) -> None:
        picture = reading.image(folder / entry.files["rgb"], findings, dtype="uint8", channels=3)
        if picture is None:
            return
        shape = picture.shape[:2]
        xyz = reading.check_metres(folder / entry.files["xyz"], findings, shape)
        mask = None
        if "gt" in entry.files:
            mask = reading.check_mask(folder / entry.files["gt"], findings, good=entry.label == GOOD, shape=shape)
        if source is not None:
            reading.compare(source, entry, options, findings, picture=picture, mask=mask, xyz_m=xyz)

    reading.verify_each(folder, provenance, placed, dataset, findings, check)
    return findings.result()


def _pairs(root: Path, findings: reading.Findings) -> list[tuple[Path, Path, Path | None]]:
    """(rgb, xyz, gt) as the loaders of BTF and M3DM pair them: sorted lists, by position; anomalib's by stem."""
    result: list[tuple[Path, Path, Path | None]] = []
    for part in ("train", "validation", "test"):
        labels = reading.subfolders(root / part)
        if part != "test":
            findings.need(set(labels) <= {GOOD}, f"{root / part}: folders {labels}; loaders know only good")
        for label in labels:
            home = root / part / label
            rgb, xyz = reading.listed(home / "rgb", "*.png"), reading.listed(home / "xyz", "*.tiff")
            gt = reading.listed(home / "gt", "*.png")
            if not findings.need(len(rgb) == len(xyz), f"{home}: {len(rgb)} pictures, {len(xyz)} maps"):
                continue
            if part == "test" and not findings.need(
                len(gt) == len(rgb), f"{home}: {len(rgb)} pictures, {len(gt)} masks"
            ):
                continue
            masks: list[Path | None] = [*gt] if part == "test" else [None] * len(rgb)
            for triple in zip(rgb, xyz, masks, strict=True):
                stems = {p.stem for p in triple if p is not None}
                findings.need(len(stems) == 1, f"{home}: {triple[0].name} stands beside {triple[1].name}")
                result.append(triple)
    return result
