"""One part in front of an open rig → one recording, whole and checked, or none."""

from __future__ import annotations

import datetime
import math
import queue
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rakelight import config
from rakelight.acquisition.burst import capture_burst
from rakelight.acquisition.checks import Check, Watcher
from rakelight.acquisition.devices import CameraFrame
from rakelight.acquisition.feasible import check_plan
from rakelight.acquisition.recipe import Plan, PlannedShot, Recipe, make_plan
from rakelight.acquisition.rig import Rig
from rakelight.acquisition.stepped import CaptureLog, Progress, capture_stepped
from rakelight.dataset.recording import FILE_NAME, Description, Target, dtype_of, full_scale_of
from rakelight.dataset.recording_writer import RecordingWriter, write_recording
from rakelight.errors import DeviceError, InputError, QualityError, StorageError
from rakelight.folders import check_replaceable

AZIMUTHS_DEG = {1: 0.0, 2: 90.0, 3: 180.0, 4: 270.0}  # docs/conventions.md: zones counter-clockwise from the right
_SPARE_BYTES = 200_000_000
_WRITERS = 2
_QUEUED = 4  # frames between camera and disk; more would only hide a slow disk


Sink = Callable[[PlannedShot, CameraFrame], None]


@dataclass(frozen=True)
class Captured:
    """What a capture gave: where it is, the checks, what had to be taken again, seconds of each kind of work.

    ``expected_s`` is how long it was to take, as told before the first frame.
    """

    folder: Path
    checks: tuple[Check, ...]
    log: CaptureLog
    plan: Plan
    expected_s: float

    def to_plain(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {
            "recording": str(self.folder),
            "frames": len(self.plan.shots),
            "absent": list(self.plan.absent),
            "checks": [check.to_plain() for check in self.checks],
            "attempts": [asdict(attempt) for attempt in self.log.attempts],
            "seconds": self.log.seconds,
            "expected_s": round(self.expected_s, 1),
        }


def capture(
    rig: Rig,
    recipe: Recipe,
    folder: str | Path,
    *,
    part_id: str,
    target: Target | None = None,
    sphere_diameter_mm: float | None = None,
    sphere_count: int | None = None,
    overwrite: bool = False,
    burst: bool = False,
    watch: Callable[[Description, int, int], Sink] | None = None,
    finish: Callable[[RecordingWriter], None] = lambda _: None,
    progress: Callable[[Progress], None] = lambda _: None,
    cancel: Callable[[], bool] = lambda: False,
) -> Captured:
    """Capture one part by ``recipe`` into the recording ``folder``, which appears when every frame is there and checked.

    ``target``, ``sphere_diameter_mm`` and ``sphere_count`` say what lies under the camera where it is not what the recipe says.
    With ``burst`` the projectors run their sequences by themselves and trigger the camera over a wire. ``watch`` is told of
    the capture (description, width and height in px) before its first exposure and returns what else takes every accepted
    frame beside the disk: a preview, a reconstruction. ``finish`` may lay more beside the frames
    (``RecordingWriter.side_folder``) before the recording appears.

    Raises
    ------
    InputError
        ``capture.part_id``: it does not match the recipe's pattern.
    ConfigError
        The recipe asks for zones or directions that the rig does not have, sizes of spheres go with another target, or
        ``plan.…`` for what its devices cannot do, with the arithmetic; told before the first light goes on.
    DeviceError
        A shot that failed in all its attempts.
    QualityError
        ``check.…``: the pictures are not what they should be; nothing is written.
    StorageError
        The folder exists, or the disk has no room for all frames; told before the first exposure.
    """
    if not re.fullmatch(recipe.part_id_regex, part_id):
        raise InputError(
            f"part id {part_id!r} does not match the recipe's {recipe.part_id_regex!r}",
            hint="scan or type it again, or mend part_id_regex in the recipe",
            code="capture.part_id",
        )
    recipe = _of_target(recipe, target, sphere_diameter_mm, sphere_count)
    folder = Path(folder)
    check_replaceable(folder, overwrite=overwrite, marker=FILE_NAME)
    plan = make_plan(recipe, rig.zones, rig.directions)
    settings = rig.camera_settings(recipe.exposure_us, recipe.gain_db)
    feasible = check_plan(rig.devices, plan, settings, burst=burst)
    actual, expected_s = feasible.actual, feasible.expected_s
    _check_room(folder, plan, actual.width or 0, actual.height or 0, actual.pixel_format)
    region = recipe.region_in(actual.width or 0, actual.height or 0)
    watcher = Watcher(full_scale_of(actual.pixel_format) or 1.0, region)
    description = Description.model_validate(
        {
            "part_id": part_id,
            "target": recipe.target,
            "sphere_diameter_mm": recipe.sphere_diameter_mm,
            "sphere_count": recipe.sphere_count,
            "pixel_format": actual.pixel_format,
            "linear": True,
            "simulated": rig.settings.simulated,
            "captured_utc": datetime.datetime.now(datetime.UTC).isoformat(),
            "sensor": {"offset_x": actual.offset_x, "offset_y": actual.offset_y},
            "rig_id": rig.settings.rig_id,
            "devices": rig.identities,
            "keep_raw": recipe.keep_raw,
            "calibration_limits": rig.settings.calibration,
            "plan": tuple(shot.shot for shot in plan.shots),
            "pattern_set": plan.pattern_set.to_plain() if plan.pattern_set is not None else None,
            "notes": f"recipe {recipe.product}" + "".join(f"; no {what}" for what in plan.absent),
        }
    )
    with write_recording(folder, description, overwrite=overwrite) as writer, _DiskThreads(writer) as disk:
        also = watch(description, actual.width or 0, actual.height or 0) if watch is not None else None

        def sink(shot: PlannedShot, frame: CameraFrame) -> None:
            rig.check_guarded()  # lights that somebody else switched off gave this frame nothing
            watcher.add(shot, frame.image)
            disk.put(shot, frame)
            if also is not None:
                also(shot, frame)

        executor = capture_burst if burst else capture_stepped
        _read_temperature(rig, writer)
        log = executor(
            rig.devices,
            plan,
            settings,
            sink,
            retries=recipe.retries,
            expected_s=expected_s,
            progress=lambda told: progress(replace(told, waited_s=disk.waited_s)),
            cancel=cancel,
        )
        log.seconds["waiting_for_disk"] = round(disk.waited_s, 4)
        _read_temperature(rig, writer)
        disk.finish()
        checks = tuple(watcher.checks(recipe.limits, AZIMUTHS_DEG if set(watcher.zones) <= set(AZIMUTHS_DEG) else None))
        if failed := [check for check in checks if not check.passed]:
            error = QualityError(
                "; ".join(check.sentence for check in failed[:4]),
                hint="mend it and capture the part again; limits are in the recipe",
                code=f"check.{failed[0].name}",
            )
            error.checks = tuple(check.to_plain() for check in checks)
            raise error
        finish(writer)
    return Captured(folder, checks, log, plan, expected_s)


def _of_target(recipe: Recipe, target: Target | None, diameter_mm: float | None, count: int | None) -> Recipe:
    """The recipe with another target, or other spheres."""
    told = {"target": target, "sphere_diameter_mm": diameter_mm, "sphere_count": count}
    changes: dict[str, Any] = {key: value for key, value in told.items() if value is not None}
    if target not in (None, "chrome_sphere", recipe.target):
        changes = {"sphere_diameter_mm": None, "sphere_count": 1} | changes
    plain = recipe.model_dump(by_alias=True) | changes
    return config.validate(plain, Recipe, source="what the capture was told") if changes else recipe


def _read_temperature(rig: Rig, writer: RecordingWriter) -> None:
    """Note how warm the camera is, if it says; a camera that does not answer this loses no capture, the recording says so."""
    try:
        celsius = rig.camera.temperature_c()
    except DeviceError as error:
        writer.warnings.append(f"the camera's temperature is not known: {error.message}")
        return
    if celsius is not None and math.isfinite(celsius):
        writer.temperature_c.setdefault("camera", []).append(round(celsius, 2))


def _check_room(folder: Path, plan: Plan, width: int, height: int, pixel_format: str) -> None:
    """Refuse a plan that the disk has no room for, with the arithmetic."""
    parent = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.is_dir())
    size = (
        width * height * (1 if dtype_of(pixel_format) == "uint8" else 2) * (3 if pixel_format.startswith("RGB") else 1)
    )
    needed, free = len(plan.shots) * size + _SPARE_BYTES, shutil.disk_usage(parent).free
    if needed > free:
        raise StorageError(
            f"{len(plan.shots)} frames × {size / 1e6:.1f} MB + {_SPARE_BYTES / 1e6:.0f} MB to spare need {needed / 1e9:.2f} GB; "
            f"{parent} has {free / 1e9:.2f} GB free",
            hint="make room, or write to another disk with -o",
            code="storage.disk_full",
        )


class _DiskThreads:
    """Write frames beside the capture, each at its place; whoever is faster waits, so that memory stays flat.

    Two threads: while one waits for the disk (fsync), the other computes a checksum.
    """

    def __init__(self, writer: RecordingWriter) -> None:
        self._writer = writer
        self._frames: queue.Queue[tuple[int, PlannedShot, CameraFrame] | None] = queue.Queue(_QUEUED)
        self._failed: list[BaseException] = []
        self._count = 0
        self.waited_s = 0.0  # how long frames had to wait for the disk: back-pressure, told as progress
        self._threads = [
            threading.Thread(target=self._run, name="frames to disk", daemon=True) for _ in range(_WRITERS)
        ]

    def __enter__(self) -> _DiskThreads:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if any(
            thread.is_alive() for thread in self._threads
        ):  # something went wrong elsewhere: what is queued is not wanted any more
            self._failed.append(RuntimeError("the capture ended"))
            self._end()

    def put(self, shot: PlannedShot, frame: CameraFrame) -> None:
        """Queue a frame; raises what an earlier one met."""
        if self._failed:
            raise self._failed[0]
        self._count += 1
        start = time.monotonic()
        self._frames.put((self._count, shot, frame))
        self.waited_s += time.monotonic() - start

    def finish(self) -> None:
        """Wait until everything is on disk; raises what went wrong."""
        self._end()
        if self._failed:
            raise self._failed[0]

    def _end(self) -> None:
        for _ in self._threads:
            self._frames.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (item := self._frames.get()) is not None:
            if self._failed:
                continue  # drain, so that the capture does not block
            place, shot, frame = item
            try:
                self._writer.add(
                    shot.shot.name,
                    frame.image,
                    place=place,
                    exposure_us=frame.exposure_us,
                    gain_db=frame.gain_db,
                    timestamp_ns=frame.timestamp_ns,
                    frame_id=frame.frame_id,
                    counters=dict(frame.counters),
                    requested_exposure_us=shot.exposure_us,
                    acknowledged=dict(frame.acknowledged),
                )
            except BaseException as error:  # raised again in the capture's thread
                self._failed.append(error)
