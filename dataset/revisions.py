"""Changes of committed samples, prepared as journals: new label, new content, new annotation, taken out.

Each function writes what is new below a staging folder, durably, and returns the :class:`journal.Change` that puts it in
place; nothing of the sample has changed by then. The pictures themselves are only ever renamed.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.dataset import images, layout
from rakelight.dataset._content_checks import check_mask
from rakelight.dataset.journal import Change, Step
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.quarantine import new_name, reason_note
from rakelight.dataset.sample import FileRecord, LabelChange, SampleManifest, utc_now
from rakelight.errors import DatasetError
from rakelight.files import json_bytes, make_folder, sha256_bytes, write_bytes, write_json

_ANNOTATED = ("MASK", "annotation", "classes")  # roles
_BY_HAND = (*_ANNOTATED, "former")  # what people made, and what a new derivation therefore keeps


def relabel(
    root: Path, staging: Path, manifest: SampleManifest, now: SampleKey, *, by: str = "", reason: str = ""
) -> Change:
    """Give a sample another label, and so another number and other file names.

    A defective sample that becomes OK keeps its mask and annotations among the extras as ``former_<n>_…``: they say what
    somebody once saw, and loaders no longer see them.
    """
    was = manifest.key
    former = f"former_{len(manifest.labels) + 1}"
    renamed: list[Step] = []
    records: list[FileRecord] = []
    for f in manifest.files:
        moved = f.path.replace(str(was), str(now), 1)  # where its folder's rename puts it
        path, role = _relabelled(moved, f.role, was, now, former)
        if path != moved:
            renamed.append((moved, path))
        records.append(f.model_copy(update={"path": path, "role": role}))
    change = LabelChange(utc=utc_now(), was=str(was), label=was.label, by=by, reason=reason)
    update = {"label": now.label, "number": now.number, "labels": (*manifest.labels, change), "files": tuple(records)}
    _write_manifest(staging, manifest.model_copy(update=update))
    steps = [
        (was.extras_folder, now.extras_folder),
        _manifest_step(root, staging, now),
        (was.raw_folder, now.raw_folder),
        *renamed,
    ]
    return _change(root, staging, f"relabelling {was} as {now}", was, now, steps)


def _relabelled(path: str, role: str, was: SampleKey, now: SampleKey, former: str) -> tuple[str, str]:
    folder, name = path.rsplit("/", 1)
    if now.is_ok and role == "MASK":
        return f"{now.extras_folder}/{former}_mask.png", "former"
    if now.is_ok and (role in ("annotation", "classes") or name in (layout.ANNOTATION_FILE, layout.CLASSES_FILE)):
        return f"{folder}/{former}_{name}", "former"
    stem = f"{was.category}_{was.number:04d}_{was.label}_"
    if folder == now.raw_folder and name.startswith(stem):
        return f"{folder}/{now.category}_{now.number:04d}_{now.label}_{name.removeprefix(stem)}", role
    return path, role


def replace(root: Path, staging: Path, manifest: SampleManifest, staged: SampleManifest) -> Change:
    """Put newly derived content, complete below ``staging/raw`` and ``staging/extras``, in the place of a sample.

    What people made stays: label history, annotations and, if the new content brings none, the mask; the old mask has to
    fit the new pictures.
    """
    key = manifest.key
    there = {f.path for f in staged.files}
    has_mask = any(f.role == "MASK" for f in staged.files)
    carried: list[Step] = []
    records = list(staged.files)
    for f in manifest.files:
        if f.role not in _BY_HAND or (f.role == "MASK" and has_mask):
            continue
        path = _mask_path(staged) if f.role == "MASK" else f.path
        if path in there:
            continue
        if f.role in _ANNOTATED:
            _check_same_size(root, manifest, staged)
        tree = "raw" if f.path.startswith(key.raw_folder) else "extras"
        carried.append(
            (_below(root, staging, f"old_{tree}/{_name(f.path)}"), _below(root, staging, f"{tree}/{_name(path)}"))
        )
        records.append(f.model_copy(update={"path": path}))
    update = {
        "revision": manifest.revision + 1,
        "labels": manifest.labels,
        "specimen": staged.specimen or manifest.specimen,
        "batch": staged.batch or manifest.batch,
        "files": tuple(records),
    }
    _write_manifest(staging / "extras", staged.model_copy(update=update))
    steps = [
        (key.raw_folder, _below(root, staging, "old_raw")),
        (key.extras_folder, _below(root, staging, "old_extras")),
        *carried,
        (_below(root, staging, "extras"), key.extras_folder),
        (_below(root, staging, "raw"), key.raw_folder),
    ]
    return _change(root, staging, f"replacing the content of {key}", key, key, steps)


def _check_same_size(root: Path, manifest: SampleManifest, staged: SampleManifest) -> None:
    was, now = _picture_size(root, manifest), (staged.height, staged.width)
    if was != now:
        raise DatasetError(
            f"{manifest.key}: the new pictures are {now[0]}×{now[1]}, but its annotation was drawn on {was[0]}×{was[1]}",
            hint="take the annotation away first (`rakelight dataset label`), and draw it again on the new pictures",
            code="dataset.mask_size",
        )


def annotate(
    root: Path,
    staging: Path,
    manifest: SampleManifest,
    annotation: dict[str, Any] | None,
    mask: NDArray[np.uint8] | None,
    classes: NDArray[np.uint8] | None,
) -> Change:
    """Set annotation, defect mask and map of defect classes together; None takes away what there was.

    ``mask`` and ``classes`` are (H, W) uint8 on the pixels of RGBL05: 0 or 255, and the defect's index (0 none, 255 ignore).
    """
    key = manifest.key
    size = _picture_size(root, manifest)
    new: dict[str, tuple[str, bytes | memoryview]] = {}  # role → path and content
    if annotation is not None:
        new["annotation"] = f"{key.extras_folder}/{layout.ANNOTATION_FILE}", json_bytes(annotation)
    if mask is not None:
        check_mask(mask, key.label, size)
        new["MASK"] = _mask_path(manifest), images.encode_png(mask)
    if classes is not None:
        check_array("classes", classes, shape=size, dtypes=("uint8",))
        new["classes"] = f"{key.extras_folder}/{layout.CLASSES_FILE}", images.encode_png(classes)
    steps: list[Step] = []
    records = [f for f in manifest.files if f.role not in _ANNOTATED]
    for old in (f for f in manifest.files if f.role in _ANNOTATED and f.path not in {path for path, _ in new.values()}):
        steps.append((old.path, _below(root, staging, f"old_{_name(old.path)}")))
    for role, (path, data) in new.items():
        write_bytes(staging / _name(path), data)
        steps.append((_below(root, staging, _name(path)), path))
        records.append(FileRecord(path=path, bytes=len(data), sha256=sha256_bytes(data), role=role))
    _write_manifest(staging, manifest.model_copy(update={"files": tuple(records)}))
    steps.append(_manifest_step(root, staging, key))
    return _change(root, staging, f"annotating {key}", key, key, steps)


def remove(root: Path, staging: Path, key: SampleKey, reason: str) -> Change:
    """Take a sample out of the data set into the quarantine, where it keeps its paths. It may be a damaged one."""
    quarantine = f"{layout.QUARANTINE_FOLDER}/{new_name()}"
    write_json(staging / "reason.json", reason_note(str(key), reason))
    steps = [(_below(root, staging, "reason.json"), f"{quarantine}/reason.json")]
    steps += [(f, f"{quarantine}/{f}") for f in (key.raw_folder, key.extras_folder) if (root / f).is_dir()]
    return _change(root, staging, f"removing {key}", key, None, steps)


def _picture_size(root: Path, manifest: SampleManifest) -> tuple[int, int]:
    if manifest.height is not None and manifest.width is not None:
        return manifest.height, manifest.width
    picture = next((f for f in manifest.files if f.role == "RGBL05"), None)
    if picture is None:
        raise DatasetError(
            f"{manifest.key} has no RGBL05 to draw on", hint="run `rakelight dataset verify`", code="dataset.views"
        )
    height, width = images.read_image(root / picture.path).shape[:2]
    return height, width


def _mask_path(manifest: SampleManifest) -> str:
    """Where the mask goes: the name of the picture it is drawn on, as a PNG."""
    picture = next((f.path for f in manifest.files if f.role == "RGBL05"), "")
    if not picture:
        return f"{manifest.key.raw_folder}/{layout.sample_file(manifest.key, 'MASK', manifest.timestamp)}"
    return str(PurePosixPath(picture).with_suffix(".png"))


def _manifest_step(root: Path, staging: Path, key: SampleKey) -> Step:
    return _below(root, staging, layout.SAMPLE_MANIFEST), f"{key.extras_folder}/{layout.SAMPLE_MANIFEST}"


def _write_manifest(folder: Path, manifest: SampleManifest) -> None:
    write_bytes(make_folder(folder) / layout.SAMPLE_MANIFEST, json_bytes(manifest.model_dump(by_alias=True)))


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _below(root: Path, staging: Path, name: str) -> str:
    return f"{staging.relative_to(root).as_posix()}/{name}"


def _change(root: Path, staging: Path, what: str, was: SampleKey, now: SampleKey | None, steps: list[Step]) -> Change:
    return Change(
        what=what,
        was=str(was),
        now=None if now is None else str(now),
        staging=staging.relative_to(root).as_posix(),
        steps=tuple(steps),
    )
