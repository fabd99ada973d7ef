"""What recordings tell of the rig that took them: which devices, when, how warm; a calibration keeps it in its provenance.

Devices are named as they say themselves (``Rig.identities``). Of such a text only the body counts: not the version of its
firmware, nor the port that it is plugged into. The camera's ends in its serial number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic import ConfigDict, Field

from rakelight import config
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Recording, Sensor
from rakelight.errors import CalibrationError

KEY = "rig"  # in the provenance of a calibration
_BODIES: dict[str, Callable[[str], str]] = {
    "camera": lambda text: text.partition(", version ")[0],
    "lights": lambda text: text.partition(" at ")[0],
    "projector": lambda text: text.partition(" ")[0],
}


class FrameWindow(config.Model):
    """Size of frames in px and where they lie on the sensor."""

    width: int
    height: int
    sensor: Sensor = Sensor()

    def __str__(self) -> str:
        s = self.sensor
        return f"{self.width}×{self.height} px at ({s.offset_x}, {s.offset_y}), binning {s.binning}"


class RigFacts(config.Model):
    """A rig as far as it is known.

    ``devices`` by kind, as they say themselves; ``window`` of the frames, None where they differ; ``captured_utc`` first and
    last capture; ``temperature_c`` lowest and highest reading of each device, °C. Keys of later versions are passed over.
    """

    model_config = ConfigDict(extra="ignore")

    rig_id: str | None = None
    devices: dict[str, str] = Field(default_factory=dict)
    pixel_formats: tuple[str, ...] = ()
    window: FrameWindow | None = None
    captured_utc: tuple[config.UtcTime, config.UtcTime] | None = None
    temperature_c: dict[str, tuple[float, float]] = Field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return self.model_dump(mode="json")


def facts_of(recordings: Sequence[Recording]) -> RigFacts:
    """What ``recordings`` of one rig tell of it.

    Raises
    ------
    CalibrationError
        ``calibration.mixed_cameras``: they are of two cameras or rigs; ``calibration.mixed_devices``: of two light controllers
        or projector bridges. What a recording does not say contradicts nothing.
    """
    infos = [recording.info for recording in recordings]
    seen: dict[str, tuple[str, Recording]] = {}
    for recording in recordings:
        rig = {} if recording.info.rig_id is None else {"rig": recording.info.rig_id}
        for kind, text in {**rig, **recording.info.devices}.items():
            first, other = seen.setdefault(kind, (text, recording))
            _check_body(kind, (text, str(recording.folder)), (first, str(other.folder)))
    windows = {_window(recording) for recording in recordings}
    return RigFacts(
        rig_id=seen["rig"][0] if "rig" in seen else None,
        devices={kind: text for kind, (text, _) in seen.items() if kind != "rig"},
        pixel_formats=tuple(sorted({info.pixel_format for info in infos})),
        window=windows.pop() if len(windows) == 1 else None,
        captured_utc=_ends(info.captured_utc for info in infos),
        temperature_c={
            kind: (min(told), max(told))
            for kind in sorted({kind for info in infos for kind in info.temperature_c})
            if (told := [value for info in infos for value in info.temperature_c.get(kind, ())])
        },
    )


def check_of_rig(recordings: Sequence[Recording], rig: RigFacts) -> None:
    """Refuse recordings of another rig, other devices or another camera setting than ``rig``, which is open.

    Raises as :func:`facts_of`; ``calibration.mixed_cameras`` also for frames of another size, place or format.
    """
    facts_of(recordings)  # they may contradict each other where the rig says nothing
    here = {**({} if rig.rig_id is None else {"rig": rig.rig_id}), **rig.devices}
    for recording in recordings:
        info = recording.info
        window = _window(recording)
        if rig.window is not None and (window, (info.pixel_format,)) != (rig.window, rig.pixel_formats):
            raise CalibrationError(
                f"{recording.folder}: frames of {window}, {info.pixel_format}; the rig takes {rig.window}, "
                f"{', '.join(rig.pixel_formats)}; one calibration is of one camera setting",
                hint="leave it out, or set the camera in rig.toml as it was",
                code="calibration.mixed_cameras",
            )
        told = {**({} if info.rig_id is None else {"rig": info.rig_id}), **info.devices}
        for kind in sorted(told.keys() & here.keys()):
            _check_body(kind, (told[kind], str(recording.folder)), (here[kind], "the open rig"))


def known_rig(calibration: RigCalibration) -> RigFacts | None:
    """The rig that a calibration was made of; None if it does not say (older ones, the truth of a simulation).

    Raises :class:`CalibrationError` (``config.invalid``) when its provenance holds something else under that name.
    """
    told = calibration.provenance.get(KEY)
    if told is None:
        return None
    source = f"calibration {calibration.calibration_id}, provenance.{KEY}"
    return config.validate(told, RigFacts, source=source, error=CalibrationError)


def with_base(found: RigFacts, base: RigCalibration) -> RigFacts:
    """The rig of a calibration whose parts are new (``found``) or of ``base``: as old as the oldest of them.

    Raises as :func:`facts_of`. A rig may have got another name since.
    """
    before = known_rig(base) or RigFacts(captured_utc=(base.created_utc, base.created_utc))
    for kind in found.devices.keys() & before.devices.keys():
        base_text = (before.devices[kind], f"calibration {base.calibration_id}")
        _check_body(kind, (found.devices[kind], "the recordings"), base_text)
    new, old = found.temperature_c, before.temperature_c
    return RigFacts(
        rig_id=found.rig_id or before.rig_id,
        devices={**before.devices, **found.devices},
        pixel_formats=tuple(sorted({*found.pixel_formats, *before.pixel_formats})),
        window=found.window if base.camera is None else before.window,
        captured_utc=_ends([*(found.captured_utc or ()), *(before.captured_utc or ())]),
        temperature_c={
            kind: (min(v[0] for v in both), max(v[1] for v in both))
            for kind in sorted({*new, *old})
            if (both := [told[kind] for told in (new, old) if kind in told])
        },
    )


def same_body(kind: str, one: str, other: str) -> bool:
    """Whether two texts name one device; a single word (a serial number out of rig.toml) may stand for a camera."""
    body = _BODIES.get(kind, str)
    if kind == "camera" and (" " in one) != (" " in other):
        full, number = (one, other) if " " in one else (other, one)
        return body(full).split()[-1] in number  # rig.toml may also hold the producer's id, which contains it
    return body(one) == body(other)


def _window(recording: Recording) -> FrameWindow:
    info = recording.info
    return FrameWindow(width=info.width, height=info.height, sensor=info.sensor)


def _ends(times: Iterable[str | None]) -> tuple[str, str] | None:
    known = sorted(t for t in times if t is not None)  # ISO 8601 in UTC sorts by time
    return (known[0], known[-1]) if known else None


def _check_body(kind: str, here: tuple[str, str], there: tuple[str, str]) -> None:
    """Refuse two texts of one kind, each with its source, that name two devices."""
    if same_body(kind, here[0], there[0]):
        return
    raise CalibrationError(
        f"{here[1]}: {kind} {here[0]!r}; {there[1]}: {kind} {there[0]!r}; one calibration is of one rig and its devices",
        hint="leave out what other devices took; after a change of a device record all targets again",
        code="calibration.mixed_cameras" if kind in ("camera", "rig") else "calibration.mixed_devices",
    )
