"""Samples derived again from their recordings, when calibration, settings or software have changed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import rakelight
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset import layout
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample, open_samples
from rakelight.dataset.recording import Recording
from rakelight.dataset.sample import SampleManifest
from rakelight.dataset.staging import Staged
from rakelight.dataset.writer import Dataset, DatasetWriter
from rakelight.errors import DatasetError, RakelightError
from rakelight.pipeline.dataset_add import Derivation, find_recordings, stop_if_full, worked
from rakelight.pipeline.many import Crew, Outcome, Task
from rakelight.pipeline.sample import PsPicture, keep_calibration


@dataclass(frozen=True)
class Wish:
    """What the samples are to be derived with; None keeps what each sample's manifest says, also of the others' values.

    ``force`` derives also those anew that are up to date.
    """

    calibration: Path | None = None
    ps: PsPicture | None = None
    fuse: bool | None = None
    force: bool = False


@dataclass(frozen=True)
class Rebuilt:
    """How one sample ended: rebuilt with ``reason``, ``up to date``, or ``error`` (code, message, hint)."""

    key: SampleKey
    reason: str = ""
    revision: int | None = None
    error: dict[str, str] | None = None
    warnings: tuple[str, ...] = ()


def rebuild(
    dataset: Dataset,
    wish: Wish | None = None,
    *,
    keys: Iterable[SampleKey] | None = None,
    recordings: Sequence[Path] = (),
    crew: Crew | None = None,
    writer: DatasetWriter | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Rebuilt]:
    """Derive samples again; yields how each ended. Those that would come out the same are left, so a second run goes on.

    Key, label, label history, masks and annotations stay. Recordings are looked for where the manifest says, and in
    ``recordings`` (recordings, or folders of them), where their content hash tells them. Raises like
    :func:`rakelight.pipeline.dataset_add.add`.
    """
    wish = wish or Wish()
    if writer is None:
        with dataset.writer() as own:
            yield from rebuild(
                dataset, wish, keys=keys, recordings=recordings, crew=crew, writer=own, progress=progress
            )
        return
    calibration = None if wish.calibration is None else RigCalibration.load(wish.calibration)
    kept = None if calibration is None else keep_calibration(dataset, calibration)
    moved = {Recording.open(folder).info.content_sha256: folder for folder in find_recordings(recordings)}
    wanted = [OpenSample(dataset.root, k) for k in keys] if keys is not None else list(open_samples(dataset.root))
    prefix = f"rebuild{uuid.uuid4().hex[:8]}"
    tasks: list[Task] = []
    chosen: list[tuple[SampleKey, str]] = []
    done = 0
    for sample in wanted:
        try:
            manifest = sample.manifest
            if not (reason := _reason(manifest, wish, kept, dataset.root)):
                done += 1
                yield Rebuilt(sample.key, revision=manifest.revision)
                continue
            tasks.append(_task(dataset, f"{prefix}-{len(tasks)}", manifest, wish, kept, moved))
            chosen.append((sample.key, reason))
        except RakelightError as e:
            done += 1
            yield Rebuilt(sample.key, error={"code": e.code, "message": e.message, "hint": e.hint})
    progress(done, len(wanted))
    for place, outcome in worked(dataset, tasks, prefix, crew):
        yield _replaced(writer, *chosen[place], outcome)
        done += 1
        progress(done, len(wanted))


def _reason(manifest: SampleManifest, wish: Wish, calibration: Path | None, root: Path) -> str:
    """Why the sample would come out differently; empty if it would not."""
    source = manifest.source
    if not source.recording_sha256:
        raise DatasetError(
            f"{manifest.key} was not made of a recording" + (f", but of {source.origin}" if source.origin else ""),
            hint="such samples cannot be derived again",
            code="dataset.no_recording",
        )
    if calibration is not None and source.calibration != f"{layout.CALIBRATION_FOLDER}/{calibration.name}":
        return "other calibration"
    if _derivation(manifest, wish) != _derivation(manifest, Wish()):
        return "other settings"
    if manifest.software.version != rakelight.__version__:
        return f"made by rakelight {manifest.software.version}"
    if any(not _there(root / f.path, f.bytes) for f in manifest.files):
        return "damaged"
    return "forced" if wish.force else ""


def _there(path: Path, size: int) -> bool:
    """Whether the file is there at its full size; other bytes of the same size are `dataset verify`'s affair."""
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _task(
    dataset: Dataset,
    name: str,
    manifest: SampleManifest,
    wish: Wish,
    calibration: Path | None,
    moved: dict[str, Path],
) -> Task:
    source = manifest.source
    if calibration is None:
        if source.calibration is None:
            raise DatasetError(
                f"{manifest.key} does not say its calibration", hint="pass --calibration", code="dataset.no_calibration"
            )
        calibration = dataset.root / source.calibration
    return {
        "root": str(dataset.root),
        "staging": name,
        "options": dataset.info.options.model_dump(),
        "recording": str(_recording(dataset.root, manifest, moved)),
        "calibration": str(calibration),
        "category": manifest.category,
        "label": manifest.label,
        "mask": None,  # the sample keeps the one it has
        "truth": False,
        "any_calibration": True,  # whoever names it for samples that exist, means it; the reconstruction warns
        "batch": manifest.batch,
        "derivation": _derivation(manifest, wish).to_plain(),
    }


_SETTINGS = set(Derivation().to_plain())


def _derivation(manifest: SampleManifest, wish: Wish) -> Derivation:
    """What the manifest says, with what is wished for in its place."""
    stored = {k: v for k, v in manifest.source.settings.items() if k in _SETTINGS}
    wished = {k: v for k, v in (("ps", wish.ps), ("fuse", wish.fuse)) if v is not None}
    return Derivation(**(stored | wished))


def _recording(root: Path, manifest: SampleManifest, moved: dict[str, Path]) -> Path:
    source = manifest.source
    sha256 = source.recording_sha256 or ""
    place = moved.get(sha256)
    if place is None and source.recording:
        place = Path(os.path.normpath(root / source.recording))  # told to people without the .. of the manifest
    try:
        if place is not None and Recording.open(place).info.content_sha256 == sha256:
            return place.resolve()
        why = f"{place} is another recording" if place is not None else "the manifest names no folder"
    except RakelightError as e:
        why = e.message
    raise DatasetError(
        f"{manifest.key}: its recording {source.recording_id} is not there: {why}",
        hint="name the folder where recordings lie now with --recordings",
        code="dataset.recording_missing",
    )


def _replaced(writer: DatasetWriter, key: SampleKey, reason: str, outcome: Outcome) -> Rebuilt:
    if "error" in outcome:
        stop_if_full(outcome["error"])
        return Rebuilt(key, reason, error=outcome["error"])
    staged = Staged.model_validate(outcome["staged"])
    try:
        writer.replace_staged(key, staged)
        revision = OpenSample(writer.root, key).manifest.revision
    except DatasetError as e:
        return Rebuilt(key, reason, error={"code": e.code, "message": e.message, "hint": e.hint})
    return Rebuilt(key, reason, revision, warnings=tuple(outcome["warnings"]))
