"""A calibration made from recordings knows its rig; what was recorded later by another, or long after, is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rakelight.acquisition import capture as capturing
from rakelight.calibration.boards import Board
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.calibration.rig_facts import RigFacts, known_rig
from rakelight.dataset.recording import FILE_NAME, Recording
from rakelight.errors import CalibrationError, DeviceError
from rakelight.pipeline.calibrate import calibrate_from_recordings
from rakelight.pipeline.calibrate_rig import calibrate_rig
from rakelight.pipeline.reconstruct import reconstruct
from rakelight.pipeline.rig_report import _rig_criteria, _rig_identity

DEVICES = {"camera": "Vendor GX-20 24305512, version 1.4"}
START = datetime(2025, 3, 1, 8, tzinfo=UTC)


def about(days: float, **more: Any) -> dict[str, Any]:
    when = (START + timedelta(days=days)).isoformat()
    return {"simulated": False, "rig_id": "bench-1", "devices": DEVICES, "captured_utc": when} | more


def with_temperature(recording: Recording, *celsius: float) -> Recording:
    """The recording as if its camera had told these."""
    path = recording.folder / FILE_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"temperature_c": {"camera": celsius}}))
    return Recording.open(recording.folder)


@pytest.fixture(scope="module")
def lab(scenes: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RigCalibration]:
    """Where recordings may be made, and a calibration of bench-1 from two targets an hour apart."""
    home = tmp_path_factory.mktemp("lab")
    sphere = scenes.record(home / "sphere", scenes.sphere(), target="chrome_sphere", **about(0))
    part = scenes.record(home / "matte", scenes.part(), dark=scenes.BLACK, **about(1 / 24))
    made = [with_temperature(sphere, 35.0, 36.0), with_temperature(part, 36.5)]
    return home, calibrate_from_recordings(made, "lab").calibration


def told(recording: Recording, calibration: RigCalibration) -> tuple[list[str], list[str]]:
    report = reconstruct(recording, calibration).report
    kinds = report["calibration"]["stale"]
    return kinds, [w for w in report["warnings"] if "calibration lab" in w]


def test_provenance_tells_the_rig(lab: tuple[Path, RigCalibration]) -> None:
    known = known_rig(lab[1])
    assert known is not None and (known.rig_id, known.devices) == ("bench-1", DEVICES)
    assert known.captured_utc == ("2025-03-01T08:00:00+00:00", "2025-03-01T09:00:00+00:00")
    assert known.temperature_c == {"camera": (35.0, 36.5)} and known.pixel_formats == ("Mono12",)


def test_the_reconstruction_tells_what_is_stale(lab: tuple[Path, RigCalibration], scenes: Any) -> None:
    home, calibration = lab
    good = scenes.record(home / "good", scenes.part(), **about(20))
    assert told(with_temperature(good, 33.0, 41.0), calibration) == ([], [])
    other = {"camera": "Vendor GX-20 24305599, version 1.4"}
    bad = scenes.record(home / "bad", scenes.part(), **about(120, devices=other))
    kinds, warnings = told(with_temperature(bad, 20.0, 52.0), calibration)
    assert kinds == ["changed", "aged", "warmed"] and len(warnings) == 3
    for sentence, word in zip(warnings, ("24305599", "120 days", "15.5 K warmer"), strict=True):
        assert word in sentence


def test_lights_renewed_over_a_base_do_not_make_the_base_younger(lab: tuple[Path, RigCalibration], scenes: Any) -> None:
    home, calibration = lab
    part = scenes.record(home / "later", scenes.part(), dark=scenes.BLACK, **about(80))
    renewed = calibrate_from_recordings([part], "lab", base=calibration).calibration
    assert known_rig(renewed) is not None
    assert told(scenes.record(home / "after", scenes.part(), **about(100)), renewed)[0] == ["aged"]
    other = scenes.record(home / "other", scenes.part(), **about(80, devices={"camera": "Vendor GX-20 7"}))
    with pytest.raises(CalibrationError, match="24305512") as wrong:
        calibrate_from_recordings([other], "lab", base=calibration)
    assert wrong.value.code == "calibration.mixed_cameras"


def test_two_cameras_in_one_rig_calibration_are_refused_with_both_numbers(tmp_path: Path, scenes: Any) -> None:
    made = [
        scenes.record(
            tmp_path / n, scenes.white(), target="charuco", **about(0, devices={"camera": f"Vendor GX-20 {n}"})
        )
        for n in ("111", "222")
    ]
    with pytest.raises(CalibrationError, match=r"GX-20 222.*GX-20 111") as wrong:
        calibrate_rig(made, "lab", Board())
    assert wrong.value.code == "calibration.mixed_cameras"


def test_older_recordings_without_temperature_stay_readable(tmp_path: Path, scenes: Any) -> None:
    recording = scenes.record(tmp_path / "old", scenes.part())
    path = recording.folder / FILE_NAME
    data = json.loads(path.read_text())
    for key in ("temperature_c", "calibration_limits"):
        del data[key]
    path.write_text(json.dumps(data))
    info = Recording.open(recording.folder).info
    assert info.temperature_c == {} and info.calibration_limits.max_age_days is None


def test_a_rig_that_changed_while_it_was_calibrated_shows_in_the_report() -> None:
    def verdicts(low: float, high: float, days: float) -> list[str]:
        times = START.isoformat(), (START + timedelta(days=days)).isoformat()
        known = RigFacts(captured_utc=times, temperature_c={"camera": (low, high)})
        return [criterion.verdict for criterion in _rig_criteria(known)]

    assert verdicts(30, 40, 1) == ["PASS", "PASS"] and verdicts(30, 40.5, 8) == ["WARN", "WARN"]
    assert verdicts(20, 40.5, 91) == ["FAIL", "FAIL"] and _rig_criteria(RigFacts()) == []
    known = RigFacts(rig_id="bench-1", devices=DEVICES, temperature_c={"camera": (30, 36)})
    assert _rig_identity(known) == {"rig": "bench-1", **DEVICES, "temperature of the camera": "30.0 to 36.0 °C"}


@pytest.mark.parametrize(
    ("answers", "kept", "warnings"),
    [
        ((41.234, 42.0), {"camera": [41.23, 42.0]}, 0),
        ((None, None), {}, 0),
        ((float("nan"), 40.0), {"camera": [40.0]}, 0),
        ((40.0, DeviceError("the camera is gone", code="camera.lost")), {"camera": [40.0]}, 1),
    ],
)
def test_a_camera_that_does_not_tell_its_temperature_loses_no_capture(
    answers: tuple[Any, ...], kept: dict[str, Any], warnings: int
) -> None:
    left = list(answers)

    def temperature_c() -> Any:
        answer = left.pop(0)
        if isinstance(answer, DeviceError):
            raise answer
        return answer

    rig: Any = SimpleNamespace(camera=SimpleNamespace(temperature_c=temperature_c))
    writer: Any = SimpleNamespace(temperature_c={}, warnings=[])
    for _ in answers:
        capturing._read_temperature(rig, writer)
    assert writer.temperature_c == kept and len(writer.warnings) == warnings
