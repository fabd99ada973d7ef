"""The tree that the published D3M code reads: like MVTec 3D-AD, with its own tokens, ``GOOD`` in capitals and JPEGs.

::

    <category>/train/GOOD/rgb/S0001/S0001_L05_RGB.jpg      one sub-folder a sample, tokens in this order
    <category>/train/GOOD/xyz/S0001_XYZ.tiff
    <category>/train/good/ps/S0001_PS.jpg                  lower case there, and only there
    <category>/{validation,test}/{GOOD,<defect>}/{rgb/S0001/…_L05_RGB.jpg, xyz/…, ps/…, gt/rgb/S0001_L05_RGB.png}

Files are the data set's own, byte for byte, unless resized; XYZ stays in mm with NaN for invalid points, as the code
expects (it overwrites x and y by pixel numbers). It pairs by sorted order, loops over the defects that *validation* has,
and finds a defect's folder by sub-string: the export makes empty validation folders and warns of names inside others.
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
    pixels_of,
    placed_as,
    plain_bytes,
    run,
    stored_bytes,
)
from rakelight.dataset.exporters.plan import GOOD, Item, Needs, Plan, raw_name
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, InputError
from rakelight.files import make_folder, write_bytes

FORMAT = "d3m"
CAPITAL_GOOD = "GOOD"
_ROLES = ("RGBL05", "PS", "XYZ", "MASK")


def export(
    dataset: Dataset, folder: str | Path, *, options: ExportOptions, progress: Progress = no_progress
) -> ExportReport:
    """Write the tree; raises as :func:`rakelight.dataset.exporters.job.run`. Samples without PS or XYZ are left out."""
    if options.view != "L05" or options.no_background:
        raise InputError(
            "the D3M tree holds RGBL05 and PS side by side, with the background; --view and --no-background do not apply",
            hint="leave them out, or export --to mvtec3d",
            code="export.option",
        )
    needs = Needs(xyz=True, mask=True, views=("RGBL05", "PS"))
    return run(
        dataset, folder, FORMAT, options=options, progress=progress, needs=needs, write=_write, estimate=_estimate
    )


def _estimate(plan: Plan, options: ExportOptions) -> int:
    return stored_bytes(plan, _ROLES) if options.size is None else plain_bytes(plan, options.size, 12 + 2.5)


def _write(job: Job) -> list[Placed]:
    for item in job.plan.items:
        for name in _files(item).values():
            make_folder((job.folder / name).parent)
    for category, parts in job.plan.counts().items():
        defects = sorted(set(parts.get("test", {})) - {GOOD})
        for defect in defects:  # a defect without a validation folder would not be evaluated
            make_folder(job.folder / category / "validation" / defect)
        inside = [(a, b) for a in defects for b in defects if a != b and a in b]
        job.warnings += [
            f"{category}: D3M takes {b!r} for {a!r} too, since it looks for sub-strings" for a, b in inside
        ]
        only = sorted(set(parts.get("validation", {})) - {GOOD} - set(defects))
        job.warnings += [f"{category}: D3M will look for {d!r} in test, where it is not" for d in only]
    return job.each(lambda item: _put(job, item))


def _files(item: Item) -> dict[str, str]:
    label = CAPITAL_GOOD if item.label == GOOD else item.label
    home, name = f"{item.key.category}/{item.part}/{label}", raw_name(item)
    ps_home = f"{item.key.category}/train/good" if item.part == "train" else home
    files = {
        "rgb": f"{home}/rgb/{name}/{name}_L05_RGB.jpg",
        "xyz": f"{home}/xyz/{name}_XYZ.tiff",
        "ps": f"{ps_home}/ps/{name}_PS.jpg",
    }
    if item.label != GOOD:
        files["gt"] = f"{home}/gt/rgb/{name}_L05_RGB.png"
    return files


def _put(job: Job, item: Item) -> Placed:
    files = _files(item)
    sample, size = item.sample, job.options.size
    for role, kind in {"rgb": "RGBL05", "xyz": "XYZ", "ps": "PS", "gt": "MASK"}.items():
        if role not in files:
            continue
        target = job.folder / files[role]
        if size is None:
            data = sample.read(kind)
            assert data is not None  # the plan took samples that have it
            write_bytes(target, data)
        else:
            _put_resized(sample, kind, target, pictures.fitted_size(*pixels_of(sample), size))
    return placed_as(item, files)


def _put_resized(sample: OpenSample, kind: str, target: Path, size: tuple[int, int]) -> None:
    made = _resized(sample, kind, size)
    if kind == "XYZ":
        images.write_tiff(target, made)
    else:
        write_bytes(target, images.encode_png(made) if kind == "MASK" else images.encode_jpeg(made))


def _resized(sample: OpenSample, kind: str, size: tuple[int, int]) -> np.ndarray:
    if kind in ("XYZ", "MASK"):
        found = sample.xyz() if kind == "XYZ" else sample.mask()
        if found is not None:
            return pictures.resize_nearest(found, size)
    else:
        picture = sample.ps() if kind == "PS" else sample.rgb()
        if picture is not None:
            return pictures.resize_picture(picture, size)
    raise DatasetError(f"{sample.key} has no {kind}", hint="verify the data set", code="dataset.damaged")


def verify(folder: str | Path, dataset: Dataset | None = None) -> tuple[str, ...]:
    """Problems of an export, none if it is whole: read as D3M does, and compared with the data set if given."""
    folder = Path(folder)
    provenance, placed = reading.opened(folder, FORMAT)
    findings = reading.Findings()
    entries = {folder / p.files.get("rgb", ""): p for p in placed}
    found = set()
    for category in sorted({p.category for p in placed}):
        for part in ("train", "validation", "test"):
            for label in reading.subfolders(folder / category / part):
                if part == "train" and label != CAPITAL_GOOD:
                    continue
                found |= _check_class(folder / category / part / label, part, entries, folder, findings)
        tested = set(reading.subfolders(folder / category / "test")) - {CAPITAL_GOOD}
        unlooped = tested - set(reading.subfolders(folder / category / "validation"))
        findings.need(not unlooped, f"{category}: no validation folder for {sorted(unlooped)}; D3M would not test them")
    for path, entry in entries.items():
        findings.need(path in found, f"{entry.sample}: D3M does not find it")

    def check(entry: Placed, source: OpenSample | None, options: ExportOptions) -> None:
        picture = reading.image(folder / entry.files["rgb"], findings, dtype="uint8", channels=3)
        xyz = reading.image(folder / entry.files["xyz"], findings, dtype="float32", channels=3)
        reading.image(folder / entry.files["ps"], findings, dtype="uint8", channels=3)
        if picture is None or xyz is None:
            return
        shape = picture.shape[:2]
        findings.need(bool(np.isfinite(xyz[..., 2]).any()), f"{entry.files['xyz']}: no valid point")
        if "gt" in entry.files:
            reading.check_mask(folder / entry.files["gt"], findings, good=False, shape=shape)
        if source is None:
            return
        for role, kind in {"rgb": "RGBL05", "xyz": "XYZ", "ps": "PS", "gt": "MASK"}.items():
            if role not in entry.files:
                continue
            data = images.read_file(folder / entry.files[role])
            if options.size is None:
                findings.need(data == source.read(kind), f"{entry.files[role]}: not the data set's file")
            elif role in ("xyz", "gt"):
                wanted = _resized(source, kind, (shape[0], shape[1]))
                got = images.read_image(folder / entry.files[role], data=data)
                findings.need(
                    np.array_equal(got, wanted, equal_nan=kind == "XYZ"), f"{entry.files[role]}: other pixels"
                )

    reading.verify_each(folder, provenance, placed, dataset, findings, check)
    return findings.result()


def _check_class(
    home: Path, part: str, entries: dict[Path, Placed], folder: Path, findings: reading.Findings
) -> set[Path]:
    """The loader's globs, sorted and zipped; returns the pictures found."""
    rgb = reading.listed(home / "rgb", "*/*L05*RGB*.jpg")
    ps_home = home.parent / "good" if part == "train" else home
    columns = {"xyz": reading.listed(home / "xyz", "*.tiff"), "ps": reading.listed(ps_home / "ps", "*.jpg")}
    if home.name != CAPITAL_GOOD:
        columns["gt"] = reading.listed(home / "gt" / "rgb", "*.png")
    for role, paths in columns.items():
        if findings.need(len(paths) == len(rgb), f"{home}: {len(rgb)} pictures, {len(paths)} in {role}"):
            for picture, path in zip(rgb, paths, strict=True):
                entry = entries.get(picture)
                fits = entry is not None and folder / entry.files.get(role, "") == path
                findings.need(fits, f"{picture}: D3M pairs it with {path}")
    return set(rgb)
