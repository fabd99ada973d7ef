"""When a calibration counts as stale: what is known of its rig against what is known of another moment or recording."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.calibration.rig_facts import (
    FrameWindow,
    RigFacts,
    check_of_rig,
    facts_of,
    known_rig,
    same_body,
    with_base,
)
from rakelight.calibration.staleness import Limits, Stale, drifted, stale_for, staleness
from rakelight.dataset.recording import CalibrationLimits, Description, Recording, Sensor, Shot
from rakelight.dataset.recording_writer import write_recording
from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.models import PinholeCamera

CAMERA = "Vendor GX-20 24305512, version 1.4"
DEVICES = {"camera": CAMERA, "lights": "Hikrobot letters at COM3", "projector": "quad 1.0.0 (bridge protocol 1)"}
MEASURED = "2025-03-01T08:00:00+00:00", "2025-03-01T09:00:00+00:00"
START = datetime(2025, 3, 1, 8, tzinfo=UTC)
WINDOW = FrameWindow(width=8, height=6)
KNOWN = RigFacts(
    rig_id="bench-1", devices=DEVICES, window=WINDOW, captured_utc=MEASURED, temperature_c={"camera": (31.0, 36.0)}
)


def calibration(rig: RigFacts | None = KNOWN, **more: Any) -> RigCalibration:
    about: dict[str, Any] = {"calibration_id": "lab", "created_utc": "2025-03-02T12:00:00+00:00", "simulated": False}
    about |= {"camera": PinholeCamera(8, 6, 10.0, 10.0, 3.5, 2.5)}
    about |= {"provenance": {} if rig is None else {"rig": rig.to_plain()}}
    return RigCalibration(**(about | more))


def record(folder: Path, *, size: tuple[int, int] = (6, 8), temperature: Any = (), **about: Any) -> Recording:
    facts: dict[str, Any] = {"part_id": folder.name, "pixel_format": "Mono8", "linear": True}
    shot = Shot(name="zone1", role="zone", zone=1)
    with write_recording(folder, Description(plan=(shot,), **(facts | about))) as writer:
        writer.add("zone1", np.full(size, 7, np.uint8))
        if temperature:
            writer.temperature_c["camera"] = list(temperature)
    return Recording.open(folder)


def kinds(found: tuple[Stale, ...]) -> list[str]:
    return [reason.kind for reason in found]


def at(days: float) -> datetime:
    return START + timedelta(days=days)


def rig(**changes: Any) -> RigFacts:
    plain = RigFacts(rig_id="bench-1", devices=DEVICES, window=WINDOW)
    return plain.model_copy(update=changes)


class TestAged:
    @pytest.mark.parametrize(("days", "stale"), [(0, False), (89.9, False), (90.1, True), (400, True)])
    def test_counts_from_the_oldest_recording(self, days: float, stale: bool) -> None:
        found = staleness(calibration(), now=at(days))
        assert kinds(found) == ["aged"] * stale
        if stale:
            assert f"{days:.0f} days old at today (measured 2025-03-01; allowed: 90 days)" in found[0].sentence
            assert "calibrate check" in found[0].sentence

    def test_counts_from_its_making_where_nothing_else_is_known(self) -> None:
        made = calibration(rig=None)  # 28 h later
        assert kinds(staleness(made, now=at(91))) == [] and kinds(staleness(made, now=at(91.2))) == ["aged"]

    def test_the_capture_decides_and_not_today(self) -> None:
        taken = rig(captured_utc=(at(30).isoformat(),) * 2)
        assert staleness(calibration(), taken, now=at(4000)) == ()
        late = rig(captured_utc=(at(100).isoformat(),) * 2)
        (found,) = staleness(calibration(), late, now=at(1))
        assert found.kind == "aged" and "100 days old at the capture" in found.sentence

    def test_a_part_may_be_captured_before_the_targets(self) -> None:
        assert staleness(calibration(), rig(captured_utc=(at(-2).isoformat(),) * 2)) == ()
        (found,) = staleness(calibration(), rig(captured_utc=(at(-200).isoformat(),) * 2))
        assert found.kind == "aged" and "200 days after the capture" in found.sentence and "clock" in found.sentence

    def test_old_pictures_that_are_calibrated_today_are_not_stale_for_it(self) -> None:
        """When the targets were recorded is not known: perhaps on the same day as the part."""
        assert staleness(calibration(rig=None), rig(captured_utc=(at(-5000).isoformat(),) * 2)) == ()

    def test_a_calibration_of_the_future_is_said(self) -> None:
        assert staleness(calibration(), now=at(0.01)) == ()  # clocks that differ by minutes
        (found,) = staleness(calibration(), now=at(-3))
        assert found.kind == "aged" and "3.0 days in the future (2025-03-01): a clock is or was wrong" in found.sentence

    def test_without_any_time_nothing_is_said(self) -> None:
        assert staleness(calibration()) == () == staleness(calibration(), rig())

    def test_a_simulated_rig_does_not_age(self) -> None:
        assert staleness(calibration(rig=None, simulated=True), now=at(5000)) == ()

    def test_limits(self) -> None:
        assert kinds(staleness(calibration(), now=at(8), limits=Limits(max_age_days=7))) == ["aged"]
        assert staleness(calibration(), now=at(300), limits=Limits(max_age_days=365)) == ()
        for bad in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(InputError, match="max_warming_k is") as wrong:
                Limits(max_warming_k=bad)
            assert wrong.value.code == "calibration.limits"


class TestWarmed:
    @pytest.mark.parametrize(
        ("low", "high", "says"),
        [
            (36.0, 46.0, ""),
            (21.0, 31.0, ""),
            (36.0, 46.5, "at 46.5 °C, 10.5 K warmer"),
            (20.5, 30.0, "at 20.5 °C, 10.5 K colder"),
        ],
    )
    def test_against_all_that_the_calibration_saw(self, low: float, high: float, says: str) -> None:
        found = staleness(calibration(), rig(temperature_c={"camera": (low, high)}))
        assert kinds(found) == ["warmed"] * bool(says)
        assert not says or (says in found[0].sentence and "31.0 to 36.0 °C; allowed: 10 K" in found[0].sentence)

    def test_only_where_both_say(self) -> None:
        assert staleness(calibration(), rig(temperature_c={"lights": (90.0, 90.0)})) == ()
        cold = calibration(KNOWN.model_copy(update={"temperature_c": {}}))
        assert staleness(cold, rig(temperature_c={"camera": (90.0, 90.0)})) == ()


class TestChanged:
    def test_same_rig(self) -> None:
        assert staleness(calibration(), rig()) == ()

    @pytest.mark.parametrize(
        ("kind", "text", "says"),
        [
            ("camera", "Vendor GX-20 24305513, version 1.4", "24305513"),
            ("camera", "99", "99"),
            ("camera", CAMERA.replace("1.4", "2.0"), ""),  # new firmware
            ("camera", "24305512", ""),  # as rig.toml says
            ("camera", "Vendor_24305512_usb", ""),  # the producer's id
            ("lights", "Hikrobot letters at /dev/ttyUSB1", ""),
            ("lights", "CCS PD at COM3", "CCS"),
            ("projector", "quad 1.1.0 (bridge protocol 1)", ""),
            ("projector", "trio 1.0.0 (bridge protocol 1)", "trio"),
        ],
    )
    def test_devices(self, kind: str, text: str, says: str) -> None:
        found = staleness(calibration(), rig(devices=DEVICES | {kind: text}))
        assert kinds(found) == ["changed"] * bool(says)
        assert all(
            says in f.sentence and DEVICES[kind] in f.sentence and "calibrate again" in f.sentence for f in found
        )
        assert same_body(kind, text, DEVICES[kind]) == same_body(kind, DEVICES[kind], text) == (not says)

    def test_another_rig(self) -> None:
        (found,) = staleness(calibration(), rig(rig_id="bench-2", devices={}))
        assert found.kind == "changed" and "'bench-1'" in found.sentence and "'bench-2'" in found.sentence

    def test_nothing_known_contradicts_nothing(self) -> None:
        assert staleness(calibration(), RigFacts()) == () == staleness(calibration(rig=None), rig(rig_id="bench-2"))

    def test_region_of_the_sensor(self) -> None:
        moved = FrameWindow(width=8, height=6, sensor=Sensor(offset_x=4))
        cut = FrameWindow(width=4, height=4, sensor=Sensor(offset_x=4))
        (found,) = staleness(calibration(), rig(window=moved))
        assert found.kind == "changed" and "8×6 px at (4, 0), binning 1" in found.sentence
        assert staleness(calibration(), rig(window=cut)) == ()  # cut out of the whole
        of_moved = calibration(KNOWN.model_copy(update={"window": moved}))
        assert kinds(staleness(of_moved, rig(window=WINDOW))) == ["changed"]
        assert staleness(calibration(camera=None), rig(window=moved)) == ()  # lights do not mind

    def test_all_at_once(self) -> None:
        now = rig(rig_id="b", temperature_c={"camera": (70.0, 70.0)}, captured_utc=(at(200).isoformat(),) * 2)
        assert kinds(staleness(calibration(), now)) == ["changed", "aged", "warmed"]


class TestDrifted:
    def entry(self, days: float, verdict: str, of: RigCalibration, gauge: str = "steps") -> dict[str, Any]:
        told = {"time_utc": at(days).isoformat(), "gauge": gauge, "verdict": verdict}
        return told | {"calibration_sha256": of.content_sha256}

    def test_the_last_check_of_each_gauge_with_this_calibration(self) -> None:
        mine, other = calibration(), calibration(calibration_id="old")
        failed, passed = self.entry(3, "FAIL", mine), self.entry(4, "PASS", mine)
        assert [f.kind for f in drifted(mine, [failed])] == ["drifted"]
        assert (
            drifted(mine, [passed, failed]) == () == drifted(mine, []) == drifted(mine, [self.entry(3, "FAIL", other)])
        )
        (found,) = drifted(mine, [failed, self.entry(9, "PASS", mine, "flat"), self.entry(5, "WARN", other)])
        assert "check of steps on 2025-03-04" in found.sentence


def test_a_calibration_that_failed_from_the_first_says_so() -> None:
    good, bad = (calibration(quality={"verdict": v}) for v in ("WARN", "FAIL"))
    assert staleness(good, rig(), at(1)) == ()
    (found,) = staleness(bad, rig(), at(1))
    assert found.kind == "failed" and "lab" in found.sentence and "calibrate again" in found.sentence


class TestFacts:
    def test_of_recordings_and_through_a_saved_calibration(self, tmp_path: Path) -> None:
        times = [at(days).isoformat() for days in (2, 0, 1)]
        told = [(31.5, 33.0), (30.0,), ()]
        made = [
            record(tmp_path / f"r{k}", rig_id="bench-1", devices=DEVICES, captured_utc=t, temperature=warm)
            for k, (t, warm) in enumerate(zip(times, told, strict=True))
        ]
        found = facts_of([*made, record(tmp_path / "imported")])
        assert found == RigFacts(
            rig_id="bench-1", devices=DEVICES, pixel_formats=("Mono8",), window=WINDOW,
            captured_utc=(times[1], times[0]), temperature_c={"camera": (30.0, 33.0)},
        )  # fmt: skip
        calibration(found).save(tmp_path / "cal")
        assert known_rig(RigCalibration.load(tmp_path / "cal")) == found
        assert stale_for(calibration(found), made[0]) == ()

    def test_recordings_without_anything(self, tmp_path: Path) -> None:
        found = facts_of([record(tmp_path / "a"), record(tmp_path / "b", size=(4, 4))])
        assert found == RigFacts(pixel_formats=("Mono8",)) and facts_of([]) == RigFacts()
        assert stale_for(calibration(), record(tmp_path / "c")) == ()

    @pytest.mark.parametrize(
        ("change", "code", "words"),
        [
            ({"devices": {"camera": "Vendor GX-20 7"}}, "calibration.mixed_cameras", ("24305512", "GX-20 7")),
            ({"rig_id": "bench-2"}, "calibration.mixed_cameras", ("'bench-1'", "'bench-2'")),
            ({"devices": {"projector": "trio 1"}}, "calibration.mixed_devices", ("quad", "trio")),
        ],
    )
    def test_mixed(self, tmp_path: Path, change: dict[str, Any], code: str, words: tuple[str, ...]) -> None:
        about = {"rig_id": "bench-1", "devices": DEVICES}
        made = [record(tmp_path / "a", **about), record(tmp_path / "b"), record(tmp_path / "c", **(about | change))]
        with pytest.raises(CalibrationError) as wrong:
            facts_of(made)
        assert wrong.value.code == code and all(w in wrong.value.message for w in (*words, "/a", "/c"))

    @pytest.mark.parametrize(
        ("change", "code", "words"),
        [
            ({"devices": {"camera": "Vendor GX-20 7"}}, "calibration.mixed_cameras", ("24305512", "GX-20 7")),
            ({"rig_id": "bench-2"}, "calibration.mixed_cameras", ("'bench-1'", "'bench-2'")),
            ({"devices": {"lights": "ccs at COM9"}}, "calibration.mixed_devices", ("ccs",)),
            ({"size": (4, 4)}, "calibration.mixed_cameras", ("4×4 px", "Mono8")),
            ({"sensor": {"offset_x": 8}}, "calibration.mixed_cameras", ("(8, 0)", "(0, 0)")),
        ],
    )
    def test_of_another_rig_than_the_open_one(
        self, tmp_path: Path, change: dict[str, Any], code: str, words: tuple[str, ...]
    ) -> None:
        open_rig = RigFacts(rig_id="bench-1", devices=DEVICES, pixel_formats=("Mono8",), window=WINDOW)
        good = [record(tmp_path / "a", rig_id="bench-1", devices=DEVICES), record(tmp_path / "imported")]
        check_of_rig(good, open_rig)
        with pytest.raises(CalibrationError) as wrong:
            check_of_rig([*good, record(tmp_path / "c", **change)], open_rig)
        assert wrong.value.code == code and all(w in wrong.value.message for w in (*words, "/c"))

    def test_parts_of_a_base_are_as_old_as_the_base(self) -> None:
        new = RigFacts(
            rig_id="renamed", devices={"camera": CAMERA}, captured_utc=(at(80).isoformat(),) * 2,
            temperature_c={"camera": (40.0, 41.0)}, window=FrameWindow(width=4, height=4),
        )  # fmt: skip
        both = with_base(new, calibration())
        assert both.captured_utc == (MEASURED[0], at(80).isoformat()) and both.temperature_c == {"camera": (31.0, 41.0)}
        assert both.rig_id == "renamed" and both.devices == DEVICES and both.window == WINDOW
        silent = with_base(new, calibration(rig=None))
        assert silent.captured_utc is not None and silent.captured_utc[0] == "2025-03-02T12:00:00+00:00"
        assert silent.window is None  # the base's camera is of an unknown one
        assert with_base(new, calibration(camera=None)).window == new.window
        with pytest.raises(CalibrationError, match="calibration lab") as wrong:
            with_base(new.model_copy(update={"devices": {"camera": "Vendor GX-20 7"}}), calibration())
        assert wrong.value.code == "calibration.mixed_cameras"

    def test_the_limits_of_the_rig_travel_with_its_recordings(self, tmp_path: Path) -> None:
        about = {"captured_utc": at(100).isoformat()}
        long = record(tmp_path / "long", calibration_limits=CalibrationLimits(max_age_days=365), **about)
        assert stale_for(calibration(), long) == ()
        assert kinds(stale_for(calibration(), record(tmp_path / "usual", **about))) == ["aged"]
        assert Limits.of(long.info.calibration_limits) == Limits(365, 10)

    def test_what_others_wrote_under_that_name_is_named(self) -> None:
        strange = replace(calibration(rig=None), provenance={"rig": "bench"})
        with pytest.raises(CalibrationError, match=r"calibration lab, provenance.rig"):
            known_rig(strange)
        assert known_rig(replace(strange, provenance={"rig": KNOWN.to_plain() | {"later": 1}})) == KNOWN
