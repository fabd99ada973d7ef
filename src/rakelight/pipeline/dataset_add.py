"""Recordings → samples of a data set: reconstructed side by side, committed one after the other by the one writer."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.calibration.staleness import stale_for
from rakelight.dataset import journal, layout, staging
from rakelight.dataset.opened import open_samples
from rakelight.dataset.options import DatasetOptions, KeepRaw
from rakelight.dataset.recording import FILE_NAME, Recording
from rakelight.dataset.sample import CommittedSample, Source
from rakelight.dataset.staging import Staged
from rakelight.dataset.writer import Dataset, DatasetWriter
from rakelight.errors import DatasetError, RakelightError, StorageError
from rakelight.pipeline import many
from rakelight.pipeline.many import Crew, Outcome, Task
from rakelight.pipeline.reconstruct import Settings, reconstruct
from rakelight.pipeline.sample import PsPicture, keep_calibration, make_sample


@dataclass(frozen=True)
class Addition:
    """One recording that is to become a sample; ``mask`` is a PNG on the pixels of RGBL05.

    ``batch`` is the lot or session, by default the day of the capture. ``truth`` takes the mask of a simulated recording
    from its truth. ``any_calibration`` takes also one that was made on another rig or camera.
    """

    recording: Path
    category: str
    label: str
    calibration: Path
    mask: Path | None = None
    batch: str | None = None
    truth: bool = False
    any_calibration: bool = False


@dataclass(frozen=True)
class Derivation:
    """What is chosen about all samples of a run."""

    ps: PsPicture = "normals"
    keep_raw: KeepRaw | None = None
    fuse: bool = False

    def to_plain(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Result:
    """How one recording ended: committed, there already (``skipped`` tells as what), or ``error`` (code, message, hint)."""

    recording: Path
    sample: CommittedSample | None = None
    skipped: str = ""
    error: dict[str, str] | None = None
    warnings: tuple[str, ...] = ()


def find_recordings(places: Iterable[Path]) -> list[Path]:
    """The recordings in these places: a recording itself, or all that lie directly in a folder, by name.

    Raises :class:`DatasetError` (``recording.not_found``) where there is none.
    """
    found: list[Path] = []
    for place in places:
        if (place / FILE_NAME).is_file() or place.name == FILE_NAME:
            found.append(place.parent if place.name == FILE_NAME else place)
            continue
        inside = sorted(p.parent for p in place.glob(f"*/{FILE_NAME}")) if place.is_dir() else []
        if not inside and place.is_dir():
            raise DatasetError(
                f"{place} is neither a recording nor a folder of recordings: no {FILE_NAME} lies in it or one level below",
                hint="name the folder just above the recordings; `rakelight recording import` makes some of plain images",
                code="recording.not_found",
            )
        if not inside:
            Recording.open(place)  # says why it is none
        found += inside
    return list(dict.fromkeys(found))


def add(
    dataset: Dataset,
    additions: Sequence[Addition | Result],
    derivation: Derivation | None = None,
    *,
    crew: Crew | None = None,
    writer: DatasetWriter | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Result]:
    """Derive a sample from each recording and commit it; yields how each ended, as they end.

    A recording that is in the data set already, under the same category and label, is skipped, so that an interrupted run is
    simply started again. One that cannot be used is told and never stops the rest; a result among ``additions`` (one that
    could not be used even before) is yielded as it is. Only this process writes into the data
    set; workers write below ``.staging``, which therefore must be a folder that they see.

    Raises
    ------
    DatasetError
        ``dataset.locked``; ``dataset.name_invalid`` of a category or label. Nothing has been added then.
    CalibrationError
        A calibration that cannot be read.
    StorageError
        The disk is full: what was added stays, and the same call goes on later.
    """
    if writer is None:
        with dataset.writer() as own:
            yield from add(dataset, additions, derivation, crew=crew, writer=own, progress=progress)
        return
    usable = [a for a in additions if isinstance(a, Addition)]
    for addition in usable:
        layout.check_category(addition.category)
        layout.check_label(addition.label)
    kept = {
        path: keep_calibration(dataset, RigCalibration.load(path))
        for path in dict.fromkeys(a.calibration for a in usable)
    }
    known = _known(dataset)
    prefix = f"add{uuid.uuid4().hex[:8]}"
    tasks: list[Task] = []
    chosen: list[Addition] = []
    done = 0
    for failed in (a for a in additions if isinstance(a, Result)):
        done += 1
        yield failed
    for addition in usable:
        if (told := _already(addition, known)) is not None:
            done += 1
            yield told
            continue
        chosen.append(addition)
        tasks.append(
            _task(dataset, f"{prefix}-{len(tasks)}", addition, kept[addition.calibration], derivation or Derivation())
        )
    progress(done, len(additions))
    for place, outcome in worked(dataset, tasks, prefix, crew):
        yield _committed(writer, chosen[place].recording, outcome)
        done += 1
        progress(done, len(additions))


def worked(dataset: Dataset, tasks: Sequence[Task], prefix: str, crew: Crew | None) -> Iterator[tuple[int, Outcome]]:
    """:func:`derive` all tasks; whatever ends the loop, nothing of the run stays below ``.staging``.

    But for a change that was begun and is not finished: one of the folders then holds the only copy of a sample, so all
    stay until the next writer has settled it.
    """
    try:
        yield from many.run(derive, tasks, crew)
    finally:
        if not (dataset.root / journal.JOURNAL_FILE).exists():
            for left in (dataset.root / layout.STAGING_FOLDER).glob(f"{prefix}-*"):
                shutil.rmtree(left, ignore_errors=True)


def stop_if_full(error: Mapping[str, str]) -> None:
    """Raise :class:`StorageError` for a full disk: the other recordings would only be worked on in vain."""
    if error["code"] == "storage.disk_full":
        raise StorageError(error["message"], hint=error["hint"], code=error["code"])


def _known(dataset: Dataset) -> dict[str, layout.SampleKey]:
    """Content hash of the recording → sample that was made of it."""
    found = {}
    for sample in open_samples(dataset.root):
        try:
            source = sample.manifest.source
        except RakelightError:  # a damaged manifest: `dataset verify` tells it; here it only knows no recording
            continue
        if source.recording_sha256:
            found[source.recording_sha256] = sample.key
    return found


def _already(addition: Addition, known: dict[str, layout.SampleKey]) -> Result | None:
    """What there is to say of a recording before any work: it is a sample already, or it cannot be opened."""
    try:
        sha256 = Recording.open(addition.recording).info.content_sha256
    except RakelightError as e:
        return Result(addition.recording, error={"code": e.code, "message": e.message, "hint": e.hint})
    key = known.get(sha256)
    if key is None:
        known[sha256] = layout.SampleKey(addition.category, addition.label, 0)  # twice in one run
        return None
    if (key.category, key.label) == (addition.category, addition.label):
        return Result(addition.recording, skipped=str(key) if key.number else "named twice")
    what = str(key) if key.number else f"{key.class_folder}, earlier in this run"
    return Result(
        addition.recording,
        error={
            "code": "dataset.recording_known",
            "message": f"{addition.recording} is in the data set already, as {what}; one part cannot be "
            f"{addition.category} {addition.label} as well",
            "hint": f"to change its label: `rakelight dataset relabel DATASET {key} {addition.label}`",
        },
    )


def _task(dataset: Dataset, name: str, addition: Addition, calibration: Path, derivation: Derivation) -> Task:
    return {
        "root": str(dataset.root),
        "staging": name,
        "options": dataset.info.options.model_dump(),
        "recording": str(addition.recording.absolute()),
        "calibration": str(calibration),
        "category": addition.category,
        "label": addition.label,
        "mask": None if addition.mask is None else str(addition.mask.absolute()),
        "truth": addition.truth,
        "any_calibration": addition.any_calibration,
        "batch": addition.batch,
        "derivation": derivation.to_plain(),
    }


def _committed(writer: DatasetWriter, recording: Path, outcome: Outcome) -> Result:
    if "error" in outcome:
        stop_if_full(outcome["error"])
        return Result(recording, error=outcome["error"])
    try:
        sample = writer.publish(Staged.model_validate(outcome["staged"]))
    except DatasetError as e:
        return Result(recording, error={"code": e.code, "message": e.message, "hint": e.hint})
    return Result(recording, sample, warnings=tuple(outcome["warnings"]))


# ------------------------------------------------------------------------------------------------------- what a worker does
def derive(task: Task) -> Outcome:
    """Reconstruct one recording and stage its sample; plain data in and out, so that it runs in any process."""
    root = Path(task["root"])
    if not (root / layout.DATASET_FILE).is_file():
        raise DatasetError(
            f"this worker does not see the data set {root}",
            hint="workers on other computers need the same folders under the same names",
            code="dataset.not_a_dataset",
        )
    recording, calibration = Recording.open(task["recording"]), _calibration(task["calibration"])
    if not task["any_calibration"]:
        _check_same_rig(recording, calibration)
    derivation = Derivation(**task["derivation"])
    result = reconstruct(recording, calibration, replace(Settings(), fuse=derivation.fuse))
    options = DatasetOptions(**task["options"])
    mask = task["mask"]
    if task["truth"] and task["label"] != layout.OK and result.truth is not None:
        mask = result.truth.defect.view("uint8") * 255
    info = recording.info
    content = make_sample(
        recording,
        result,
        calibration=calibration,
        category=task["category"],
        label=task["label"],
        ps=derivation.ps,
        mask=mask,
        batch=task["batch"],
        keep_raw=options.keep_raw or derivation.keep_raw or info.keep_raw or "none",
        source=Source(
            recording=_relative(recording.folder, root),
            recording_id=info.recording_id,
            recording_sha256=info.content_sha256,
            calibration=f"{layout.CALIBRATION_FOLDER}/{Path(task['calibration']).name}",
            settings=derivation.to_plain(),
        ),
    )
    place = root / layout.STAGING_FOLDER / f"{task['staging']}-{uuid.uuid4().hex[:6]}"
    staged = staging.stage(content, place, options, threads=_threads())
    return {"staged": staged.model_dump(mode="json", by_alias=True), "warnings": list(result.report["warnings"])}


def _threads() -> int | None:
    """As many threads for the files as for everything else in this process, where that is said; a worker has it said."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdigit() and int(said) > 0 else None


def _check_same_rig(recording: Recording, calibration: RigCalibration) -> None:
    """A reconstruction only warns of a calibration of another rig; a data set would carry the error on for good."""
    changed = [stale.sentence for stale in stale_for(calibration, recording) if stale.kind == "changed"]
    if changed:
        raise DatasetError(
            f"{recording.folder} does not fit calibration {calibration.calibration_id}: {changed[0]}",
            hint="name the calibration of this rig, or say --any-calibration if the rig is the same all the same",
            code="dataset.calibration_differs",
        )


@lru_cache(maxsize=4)
def _calibration(folder: str) -> RigCalibration:
    return RigCalibration.load(folder)


def _relative(folder: Path, root: Path) -> str:
    """Where the recording lies, seen from the data set; the plain path where there is no way (another drive)."""
    try:
        return Path(os.path.relpath(folder.absolute(), root)).as_posix()
    except ValueError:
        return folder.absolute().as_posix()
