"""MVTec AD: the 2D tree that PatchCore, anomalib's ``MVTecAD`` and nearly every other detector load.

::

    <category>/train/good/000.png
    <category>/validation/good/000.png                 if the split has a validation part (loaders of MVTec AD pass it over)
    <category>/test/{good,<defect>}/000.png
    <category>/ground_truth/<defect>/000_mask.png      0 and 255
"""

from __future__ import annotations

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
from rakelight.dataset.exporters.prepared import RGB_BYTES, background_method, pixel_estimate, prepare, shape_warnings
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.writer import Dataset
from rakelight.files import make_folder

FORMAT = "mvtec-ad"
_ESTIMATE = pixel_estimate(RGB_BYTES)


def export(
    dataset: Dataset, folder: str | Path, *, options: ExportOptions, progress: Progress = no_progress
) -> ExportReport:
    """Write the tree; raises as :func:`rakelight.dataset.exporters.job.run`. Defective validation samples are left out."""
    needs = Needs(mask=True, views=("RGBL05", options.picture), good_validation=True)
    return run(
        dataset, folder, FORMAT, options=options, progress=progress, needs=needs, write=_write, estimate=_ESTIMATE
    )


def _write(job: Job) -> list[Placed]:
    method = background_method(job.plan, job.options)
    for item in job.plan.items:
        for name in _files(item).values():
            make_folder((job.folder / name).parent)
    placed = job.each(lambda item: _put(job, item, method))
    job.warnings += shape_warnings(job, placed)
    return placed


def _files(item: Item) -> dict[str, str]:
    files = {"rgb": f"{item.key.category}/{item.part}/{item.label}/{item.name}.png"}
    if item.label != GOOD:
        files["mask"] = f"{item.key.category}/ground_truth/{item.label}/{item.name}_mask.png"
    return files


def _put(job: Job, item: Item, method: str) -> Placed:
    made = prepare(item.sample, job.options, xyz=False, method=method)
    files = _files(item)
    images.write_png(job.folder / files["rgb"], made.picture)
    if "mask" in files:
        assert made.mask is not None  # the plan took defective samples with a mask only
        images.write_png(job.folder / files["mask"], made.mask)
    return placed_as(item, files, made.facts)


def verify(folder: str | Path, dataset: Dataset | None = None) -> tuple[str, ...]:
    """Problems of an export, none if it is whole: read as anomalib does, and compared with the data set if given."""
    folder = Path(folder)
    provenance, placed = reading.opened(folder, FORMAT)
    findings = reading.Findings()
    for category in sorted({p.category for p in placed}):
        entries = {folder / p.files["rgb"]: p for p in placed if p.category == category}
        _check_tree(folder, category, entries, findings)

    def check(entry: Placed, source: OpenSample | None, options: ExportOptions) -> None:
        picture = reading.image(folder / entry.files["rgb"], findings, dtype="uint8", channels=3)
        if picture is None:
            return
        mask = None
        if "mask" in entry.files:
            mask = reading.check_mask(folder / entry.files["mask"], findings, good=False, shape=picture.shape[:2])
        if source is not None:
            reading.compare(source, entry, options, findings, picture=picture, mask=mask, xyz_m=None)

    reading.verify_each(folder, provenance, placed, dataset, findings, check)
    return findings.result()


def _check_tree(folder: Path, category: str, entries: dict[Path, Placed], findings: reading.Findings) -> None:
    """Every picture below the category by its last three parts; masks pair with defective test pictures by sorted order."""
    found = [p for p in sorted((folder / category).glob("**/*")) if p.suffix in (".png", ".jpg", ".jpeg")]
    masks = [p for p in found if p.parts[-3] == "ground_truth"]
    pictures = [p for p in found if p.parts[-3] != "ground_truth"]
    findings.need(set(pictures) == set(entries), f"{category}: {len(pictures)} pictures; the map has {len(entries)}")
    defective = [p for p in pictures if p.parts[-3] == "test" and p.parts[-2] != GOOD]
    if findings.need(len(masks) == len(defective), f"{category}: {len(defective)} defective, {len(masks)} masks"):
        for picture, mask in zip(defective, masks, strict=True):
            entry = entries.get(picture)
            fits = entry is not None and folder / entry.files.get("mask", "") == mask
            findings.need(fits and picture.stem in mask.stem, f"{picture}: loaders pair it with {mask}")
