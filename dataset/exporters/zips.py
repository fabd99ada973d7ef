"""Per-category zips of the released tree, so that one category can be fetched alone; with checksums and Croissant.

::

    realiad_d3_raw/<category>.zip           members <category>/OK/S0001/… ; <category>.part01.zip … where one is too long
    extras/<category>.zip                   with --extras: masters, normals, raw frames
    calibration.zip                         with --extras: the rigs' calibrations
    realiad_d3_jsons.zip                    members realiad_d3_jsons/<category>.json, of the exported split
    samples.csv croissant.json SHA256SUMS

Members are stored, not packed (pictures are packed already), sorted, with one fixed time: the same samples give the same
bytes. A part is a zip of its own, with whole samples. Files are compared with their hash while they are copied.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rakelight.dataset import images, layout
from rakelight.dataset._zip_checks import READ_ERRORS
from rakelight.dataset.croissant import DOCUMENT, TABLE, Resource
from rakelight.dataset.exporters import croissant, reading
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
from rakelight.dataset.exporters.plan import PARTS, Item, Needs, Plan
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.sample import FileRecord
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, InputError
from rakelight.files import atomic_write, make_folder, sha256_file, told, write_text

FORMAT = "zips"
SUMS = "SHA256SUMS"
ZIP = "application/zip"
_OVERHEAD = 400  # bytes a member needs beside its content: two headers with the name, sizes of 64 bits
_CHUNK = 1 << 20


def export(
    dataset: Dataset, folder: str | Path, *, options: ExportOptions, progress: Progress = no_progress
) -> ExportReport:
    """Write the zips; raises as :func:`rakelight.dataset.exporters.job.run`, and :class:`InputError`
    (``export.archive_too_small``) if one sample is longer than an archive may be."""
    croissant.refuse_pixels(options, FORMAT)
    needs = Needs(train_good=False)
    return run(
        dataset, folder, FORMAT, options=options, progress=progress, needs=needs, write=_write, estimate=_estimate
    )


def _estimate(plan: Plan, options: ExportOptions) -> int:
    records = [r for i in plan.items for r in _records(i, layout.RAW_FOLDER)]
    if options.extras:
        records += [r for i in plan.items for r in _records(i, layout.EXTRAS_FOLDER)]
    return sum(r.bytes + _OVERHEAD for r in records)


def _records(item: Item, tree: str) -> list[FileRecord]:
    home = f"{tree}/{item.key}/"
    return sorted((f for f in item.sample.manifest.files if f.path.startswith(home)), key=lambda f: f.path)


def _write(job: Job) -> list[Placed]:
    homes: dict[str, dict[str, str]] = {str(i.key): {} for i in job.plan.items}
    archives: list[Resource] = []
    for tree in (layout.RAW_FOLDER, *((layout.EXTRAS_FOLDER,) if job.options.extras else ())):
        make_folder(job.folder / tree)
        for category in job.plan.categories:
            for name, items in _volumes(job, tree, category):
                made = _zip(job, name, ((r.path.removeprefix(f"{tree}/"), r) for i in items for r in _records(i, tree)))
                archives += [made] if tree == layout.RAW_FOLDER else []
                for item in items:
                    homes[str(item.key)][tree] = name
    _zip_texts(job, f"{layout.JSON_FOLDER}.zip", {f"{layout.JSON_FOLDER}/{c}.json": t for c, t in _jsons(job.plan)})
    if job.options.extras:
        _zip_calibrations(job)
    croissant.describe(job, archives)
    paths = sorted(p for p in job.folder.rglob("*") if p.is_file())
    sums = (f"{sha256_file(p)}  {p.relative_to(job.folder).as_posix()}\n" for p in paths)
    write_text(job.folder / SUMS, "".join(sums))
    return [placed_as(item, homes[str(item.key)]) for item in job.plan.items]


def _volumes(job: Job, tree: str, category: str) -> Iterator[tuple[str, list[Item]]]:
    """Name and samples of each zip of a category: as many samples as fit, in order."""
    limit = job.options.max_archive_bytes
    volumes: list[list[Item]] = []
    room = 0
    for item in sorted((i for i in job.plan.items if i.key.category == category), key=lambda i: i.key):
        needed = sum(r.bytes + _OVERHEAD for r in _records(item, tree))
        if needed > limit:
            raise InputError(
                f"{item.key} takes {needed} bytes in {tree}; an archive may have {limit}",
                hint="allow longer archives by --max-archive, or leave --extras out",
                code="export.archive_too_small",
            )
        if needed > room or not volumes:
            volumes.append([])
            room = limit
        volumes[-1].append(item)
        room -= needed
    for number, items in enumerate(volumes, 1):
        yield f"{tree}/{category}.zip" if len(volumes) == 1 else f"{tree}/{category}.part{number:02d}.zip", items


def _zip(job: Job, name: str, members: Iterable[tuple[str, FileRecord]]) -> Resource:
    job.progress(name)
    path = job.folder / name
    with atomic_write(path) as handle, told(path), zipfile.ZipFile(handle, "w") as archive:
        for member, record in sorted(members, key=lambda m: m[0]):
            info = _member(member, record.bytes)
            digest = hashlib.sha256()
            source = job.dataset.root / record.path
            with _opened(source) as reader, archive.open(info, "w", force_zip64=record.bytes > 1 << 31) as writer:
                while chunk := reader.read(_CHUNK):
                    digest.update(chunk)
                    writer.write(chunk)
            if digest.hexdigest() != record.sha256:
                raise _changed(source)
    return croissant.resource(job.folder, name, ZIP)


def _opened(path: Path) -> Any:
    try:
        return open(path, "rb")
    except OSError as e:
        raise DatasetError(
            f"{path} cannot be read: {e.strerror or e}", hint="verify the data set", code="dataset.damaged"
        ) from e


def _changed(path: Path) -> DatasetError:
    return DatasetError(
        f"{path} is not what was written: other SHA-256",
        hint="restore it from a backup, or derive the sample again with `rakelight dataset rebuild --force --sample …`",
        code="dataset.damaged",
    )


def _member(name: str, size: int) -> zipfile.ZipInfo:
    """The same header for the same content, wherever and whenever it is made."""
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr, info.compress_type = 3, 0o100644 << 16, zipfile.ZIP_STORED
    info.file_size = size
    return info


def _zip_texts(job: Job, name: str, texts: dict[str, str]) -> None:
    path = job.folder / name
    with atomic_write(path) as handle, told(path), zipfile.ZipFile(handle, "w") as archive:
        for member in sorted(texts):
            data = texts[member].encode()
            archive.writestr(_member(member, len(data)), data)


def _zip_calibrations(job: Job) -> None:
    used = {i.sample.manifest.source.calibration for i in job.plan.items} - {None}
    root = job.dataset.root / layout.CALIBRATION_FOLDER
    found = [
        p for name in sorted(map(layout.calibration_name, filter(None, used))) for p in sorted((root / name).rglob("*"))
    ]
    members = []
    for path in (p for p in found if p.is_file()):
        relative = path.relative_to(job.dataset.root).as_posix()
        members.append(
            (
                relative,
                FileRecord(path=relative, bytes=path.stat().st_size, sha256=sha256_file(path), role="calibration"),
            )
        )
    if members:
        _zip(job, f"{layout.CALIBRATION_FOLDER}.zip", members)


def _jsons(plan: Plan) -> Iterator[tuple[str, str]]:
    """Category and text of its JSON, with the released keys, for the samples and parts of the plan."""
    for category in plan.categories:
        document: dict[str, Any] = {"meta": {"prefix": f"{category}/", "normal_class": layout.OK}}
        document |= {part: [] for part in PARTS}
        for item in plan.items:
            if item.key.category == category:
                document[item.part].append(_entry(item))
        yield category, json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _entry(item: Item) -> dict[str, str | None]:
    paths = {key: item.sample.record(role) for key, role in _ENTRY_ROLES.items()}
    prefix = f"{layout.RAW_FOLDER}/{item.key.category}/"
    entry: dict[str, str | None] = {"category": item.key.category, "anomaly_class": item.key.label}
    return entry | {key: None if r is None else r.path.removeprefix(prefix) for key, r in paths.items()}


_ENTRY_ROLES = {"image_path": "RGBL05", "mask_path": "MASK", "ps_path": "PS", "xyz_path": "XYZ"}


def verify(folder: str | Path, dataset: Dataset | None = None) -> tuple[str, ...]:
    """Problems of an export, none if it is whole: checksums, members, JSONs; each file against the data set if given."""
    folder = Path(folder)
    provenance, placed = reading.opened(folder, FORMAT)
    findings = reading.Findings()
    _check_sums(folder, findings)
    limit = reading.options_of(provenance).max_archive_bytes
    members: dict[str, zipfile.ZipInfo] = {}
    for path in sorted((folder / layout.RAW_FOLDER).glob("*.zip")):
        findings.need(path.stat().st_size <= limit, f"{path.name}: longer than {limit} bytes")
        for info in _infos(path, findings):
            findings.need(info.filename not in members, f"{info.filename} stands in two archives")
            members[info.filename] = info
    _check_jsons(folder, members, len(placed), findings)
    if dataset is not None:
        _compare(folder, placed, dataset, findings)
    croissant.check_document(folder, len(placed), findings)
    croissant.check_with_mlcroissant(folder / DOCUMENT, len(placed), findings)
    return findings.result()


def _check_sums(folder: Path, findings: reading.Findings) -> None:
    """As ``sha256sum -c`` does."""
    with findings.noting(SUMS):
        text = images.read_file(folder / SUMS).decode("utf-8", "replace")
        lines = [line.split("  ", 1) for line in text.splitlines()]
        findings.need(all(len(line) == 2 for line in lines), f"{SUMS}: a line without a name")
        named = {line[1]: line[0] for line in lines if len(line) == 2}
        for name, sha256 in named.items():
            inside = not name.startswith("/") and ".." not in name.split("/")
            good = inside and (folder / name).is_file() and sha256_file(folder / name) == sha256
            findings.need(good, f"{name}: missing, or not the file that {SUMS} names")
        for required in (DOCUMENT, TABLE, f"{layout.JSON_FOLDER}.zip"):
            findings.need(required in named, f"{SUMS}: {required} is not named")


def _infos(path: Path, findings: reading.Findings) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [i for i in archive.infolist() if not i.is_dir()]
    except READ_ERRORS as e:
        findings.add(f"{path.name}: no zip: {e}")
        return []


def _check_jsons(folder: Path, members: dict[str, zipfile.ZipInfo], samples: int, findings: reading.Findings) -> None:
    """Every path of every JSON is a member of an archive: ``meta.prefix`` + path."""
    count = 0
    try:
        with zipfile.ZipFile(folder / f"{layout.JSON_FOLDER}.zip") as archive:
            documents = [json.loads(archive.read(name)) for name in archive.namelist()]
        for document in documents:
            for entry in (e for part in PARTS for e in document[part]):
                count += 1
                for key in _ENTRY_ROLES:
                    name = None if entry[key] is None else document["meta"]["prefix"] + entry[key]
                    findings.need(name is None or name in members, f"{name}: in the JSON, but in no archive")
    except (*READ_ERRORS, TypeError) as e:
        findings.add(f"{layout.JSON_FOLDER}.zip: cannot be read: {e}")
    findings.need(count == samples, f"{layout.JSON_FOLDER}.zip: {count} entries for {samples} samples")


def _compare(folder: Path, placed: tuple[Placed, ...], dataset: Dataset, findings: reading.Findings) -> None:
    """The files of each sample, by the hashes of its manifest."""
    with contextlib.ExitStack() as stack:
        archives: dict[str, zipfile.ZipFile] = {}  # each opened once: its directory may list 100,000 members
        for entry in placed:
            source = reading.source_of(dataset, entry, findings)
            if source is None:
                continue
            for tree, name in entry.files.items():
                try:
                    if name not in archives:
                        archives[name] = stack.enter_context(zipfile.ZipFile(folder / name))
                    _compare_members(archives[name], source, tree, findings)
                except READ_ERRORS as e:
                    findings.add(f"{entry.sample}: {name} cannot be read: {e}")


def _compare_members(archive: zipfile.ZipFile, source: OpenSample, tree: str, findings: reading.Findings) -> None:
    for record in (f for f in source.manifest.files if f.path.startswith(f"{tree}/{source.key}/")):
        with archive.open(record.path.removeprefix(f"{tree}/")) as reader:
            same = hashlib.file_digest(reader, "sha256").hexdigest() == record.sha256  # type: ignore[arg-type]
        findings.need(same, f"{record.path}: not the data set's file")
