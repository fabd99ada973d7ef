"""The whole wire: capture on a simulated rig through harvesters and serial ports, then reconstruct what came."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rakelight.acquisition.capture import capture
from rakelight.acquisition.feasible import check_plan
from rakelight.acquisition.recipe import PatternRecipe, Recipe, make_plan
from rakelight.acquisition.rig import Rig
from rakelight.acquisition.stepped import Cancelled, Progress
from rakelight.dataset.recording import Recording, verify
from rakelight.errors import ConfigError, DeviceError, InputError, QualityError, RakelightError

pytest.importorskip("genicam")
SIM = "sim://knob_cap?seed=3&width=456&samples=1"
LIGHTS = Recipe(product="knob_cap", exposure_us=6000, all_zones_exposure_us=2000)
PATTERNS = LIGHTS.model_copy(update={"patterns": PatternRecipe(steps=4, exposure_us=3000, directions=(1, 3))})


def test_a_part_becomes_a_recording(tmp_path: Path) -> None:
    told: list[Progress] = []
    with Rig.open(SIM) as rig:
        result = capture(rig, PATTERNS, tmp_path / "part", part_id="knob-1", progress=told.append)
        assert rig.zones == rig.directions == (1, 2, 3, 4)
    recording = Recording.open(tmp_path / "part")
    assert list(verify(recording)) == [] and recording.info.simulated and recording.info.captured_utc
    info = recording.info
    assert (info.pixel_format, info.width, info.height, info.part_id) == ("BayerRG12", 456, 304, "knob-1")
    assert len(info.frames) == len(result.plan.shots) == 4 + 1 + 1 + 2 * (4 + 7 + 2) + 1
    assert not result.log.attempts and all(check.passed for check in result.checks)
    assert {c.name for c in result.checks} >= {"dead_zone", "zone_order", "saturation", "ambient", "black_pattern"}
    ids = [f.frame_id for f in info.frames]
    assert ids == list(range(1, len(ids) + 1)), "one frame for each trigger"
    stamps = [f.timestamp_ns or 0 for f in info.frames]
    assert stamps == sorted(stamps) and stamps[0] > 0
    assert {f.shot: f.exposure_us for f in info.frames}["all_zones"] == 2000
    assert told[0].state == "preparing" and told[-1].state == "finished"
    zone1, ambient = (recording.read(next(recording.shots(role))) for role in ("zone", "ambient"))  # type: ignore[arg-type]
    assert zone1.mean() > 3 * ambient.mean()


def test_what_the_scene_renders_is_what_a_direct_simulation_gives(tmp_path: Path) -> None:
    """The wire changes nothing: same specimen, same light, means agree to noise."""
    from rakelight.pipeline.simulate import Settings, simulate

    simulate("knob_cap", tmp_path / "direct", seed=3, settings=Settings(456, pattern_set=None, samples=1))
    direct = Recording.open(tmp_path / "direct")
    with Rig.open(SIM) as rig:
        zone_us = next(direct.shots("zone", 1)).exposure_us or 0
        recipe = Recipe(product="knob_cap", exposure_us=zone_us, all_zones_exposure_us=zone_us / 3, ambient=False)
        capture(rig, recipe, tmp_path / "wire", part_id="x")
    wire = Recording.open(tmp_path / "wire")
    for zone in (1, 2, 3, 4):
        a, b = (r.read(next(r.shots("zone", zone))).astype(float) for r in (direct, wire))
        lit = a + b > 1000  # by both: chosen by one alone, its noise would be
        assert abs((b[lit] - a[lit]).mean()) < 0.002 * a[lit].mean()
        assert np.abs(b - a).max() < 12 * 30


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("drop@3", "camera.timeout"),
        ("incomplete@3", "camera.incomplete"),
        ("duplicate@3", "frame.duplicate"),
        ("unplug@3", "camera.lost"),
        ("light.garbage@6", ""),
    ],
)
def test_a_fault_is_cured_by_another_attempt(tmp_path: Path, fault: str, code: str) -> None:
    with Rig.open(f"{SIM}&fault={fault}") as rig:
        result = capture(rig, LIGHTS, tmp_path / "part", part_id="x")
    assert [a.code for a in result.log.attempts] == ([code] if code else [])
    recording = Recording.open(tmp_path / "part")
    assert list(verify(recording)) == [] and len(recording.info.frames) == 7


@pytest.mark.parametrize(
    ("fault", "code", "told"),
    [
        ("dead_zone@2", "check.dead_zone", "zone 2 gives 0%"),
        ("swapped_zones@24", "check.zone_order", "zone 2 shines from 2[67]"),
        ("drop@2,drop@3,drop@4", "camera.timeout", "no frame of camera"),
        ("light.deaf@12x99", "light.no_answer", "did not answer"),
        ("light.disconnect@12", "light.lost", "port"),
    ],
)
def test_a_lasting_fault_is_named_and_nothing_is_written(tmp_path: Path, fault: str, code: str, told: str) -> None:
    with Rig.open(f"{SIM}&fault={fault}") as rig, pytest.raises(RakelightError, match=told) as caught:
        capture(rig, LIGHTS, tmp_path / "part", part_id="x")
    assert caught.value.code == code and caught.value.hint
    assert list(tmp_path.iterdir()) == []
    assert isinstance(caught.value, QualityError) == code.startswith("check.")


def test_fewer_lights_and_no_projector_are_an_ordinary_rig(tmp_path: Path) -> None:
    with Rig.open(f"{SIM}&zones=3&projector=0&bayer=0") as rig:
        result = capture(
            rig, PATTERNS.model_copy(update={"patterns": PatternRecipe(exposure_us=3000)}), tmp_path / "p", part_id="x"
        )
        assert result.plan.absent == ("patterns",) and rig.zones == (1, 2, 3)
        with pytest.raises(ConfigError, match=r"asks for direction 1, 3; the rig has none"):
            capture(rig, PATTERNS, tmp_path / "q", part_id="x")
        with pytest.raises(InputError, match="does not match"):
            capture(rig, LIGHTS, tmp_path / "q", part_id="no spaces please")
    assert Recording.open(tmp_path / "p").zones == (1, 2, 3)
    assert Recording.open(tmp_path / "p").info.pixel_format == "Mono12"


def test_cancel_ends_at_a_frame_and_leaves_it_dark(tmp_path: Path) -> None:
    seen: list[str] = []
    with Rig.open(SIM) as rig:
        with pytest.raises(Cancelled):
            capture(
                rig, LIGHTS, tmp_path / "p", part_id="x",
                progress=lambda p: seen.append(p.shot), cancel=lambda: "zone3" in seen,
            )  # fmt: skip
        assert list(tmp_path.iterdir()) == []
        capture(rig, LIGHTS, tmp_path / "p", part_id="x")  # and the rig goes on
    assert Recording.open(tmp_path / "p").zones == (1, 2, 3, 4)


def test_all_that_is_wrong_with_a_rig_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "rig.toml").write_text(
        'schema = 1\nrig_id = "bench"\n[camera]\nproducer = "absent.cti"\n'
        '[lights]\nprotocol = "hik"\nport = "/dev/absent0"\nchannels = { 1 = 1 }\n'
        '[projector]\nport = "/dev/absent1"\n'
    )
    with pytest.raises(DeviceError) as caught:
        Rig.open(tmp_path / "rig.toml")
    assert caught.value.code == "rig.open"
    for told in ("absent.cti does not exist", "/dev/absent0", "/dev/absent1", "camera.producer", "port.missing"):
        assert told in caught.value.message
    (tmp_path / "rig.toml").write_text('schema = 1\nrig_id = "bench"\n[camera]\nproduser = "x"\n')
    with pytest.raises(ConfigError, match=r"camera.produser .*did you mean 'producer'"):
        Rig.open(tmp_path / "rig.toml")


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "SIGTERM"])
def test_a_killed_program_leaves_it_dark(tmp_path: Path, number: int) -> None:
    """The bench lives on its own here, so that one can see the light after the program's death."""
    from rakelight.acquisition.simulator.bench import Bench, parse_url

    with Bench(parse_url(f"{SIM}&prerendered=1")) as bench:
        (tmp_path / "rig.json").write_text(json.dumps(bench.settings))
        code = (
            "import json, sys, time\n"
            "from rakelight.acquisition.rig import Rig, RigSettings\n"
            "import rakelight.acquisition.rig as r\n"
            "r.read_rig = lambda path: RigSettings.model_validate(json.loads(path.read_text()))\n"
            "rig = Rig.open(sys.argv[1])\n"
            "rig.lights.light((1, 2))\n"
            "print('lit', flush=True)\n"
            "time.sleep(60)\n"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "rig.json")], stdout=subprocess.PIPE, text=True
        )
        try:
            assert child.stdout is not None and child.stdout.readline() == "lit\n"
            deadline = time.monotonic() + 1.0
            while not bench.timeline.now().zones and time.monotonic() < deadline:
                time.sleep(0.005)
            assert [zone for zone, _ in bench.timeline.now().zones] == [1, 2]
            child.send_signal(number)
            start = time.monotonic()
            while bench.timeline.now().zones and time.monotonic() - start < 3:
                time.sleep(0.002)
            assert not bench.timeline.now().zones and time.monotonic() - start < 1.0
        finally:
            child.kill()
            child.wait()
            child.stdout.close()  # type: ignore[union-attr]


def test_a_burst_gives_the_frames_of_the_stepped_capture(tmp_path: Path) -> None:
    with Rig.open(SIM) as rig:
        for name, burst in (("stepped", False), ("burst", True)):
            result = capture(rig, PATTERNS, tmp_path / name, part_id="x", burst=burst)
            # A machine too busy to render 13 frames in time loses some, and takes the burst again.
            assert {attempt.code for attempt in result.log.attempts} <= ({"frame.lost"} if burst else set())
    stepped, burst_ = (Recording.open(tmp_path / name) for name in ("stepped", "burst"))
    assert list(verify(burst_)) == []
    for a, b in zip(stepped.info.frames, burst_.info.frames, strict=True):
        one, other = stepped.read(a).astype(float), burst_.read(b).astype(float)
        assert a.shot == b.shot and abs(one.mean() - other.mean()) < 0.01 * one.mean() + 1
        assert np.abs(one - other).mean() < 0.03 * one.mean() + 8, "the same pattern, pixel by pixel, to noise"


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        ("drop@12", {"frame.lost"}),
        ("projector.skip@3", {"projector.fault"}),
        ("projector.stop@4", {"projector.fault"}),
    ],
)
def test_a_burst_that_does_not_balance_is_never_taken(tmp_path: Path, fault: str, codes: set[str]) -> None:
    """One lost frame shifts every later one: the whole burst is taken again, or the capture ends."""
    one_way = PATTERNS.model_copy(update={"patterns": PatternRecipe(steps=4, exposure_us=3000, directions=(2,))})
    with Rig.open(f"{SIM}&fault={fault}") as rig:
        if fault.startswith("drop"):
            result = capture(rig, one_way, tmp_path / "p", part_id="x", burst=True)
            assert {a.code for a in result.log.attempts} <= codes and len(result.log.attempts) == 1
            return
        with pytest.raises(DeviceError) as caught:
            capture(rig, one_way.model_copy(update={"retries": 0}), tmp_path / "p", part_id="x", burst=True)
    assert caught.value.code in codes and list(tmp_path.iterdir()) == []


def test_brackets_and_what_was_acknowledged(tmp_path: Path) -> None:
    patterns = PatternRecipe(steps=3, period_px=64, exposure_us=2000, bracket_us=(600,), directions=(2, 4))
    recipe = LIGHTS.model_copy(update={"patterns": patterns})
    told: list[Progress] = []
    with Rig.open(SIM) as rig:
        for name, burst in (("stepped", False), ("burst", True)):
            told.clear()
            result = capture(rig, recipe, tmp_path / name, part_id="x", burst=burst, progress=told.append)
            assert not result.log.attempts
            first = next(p for p in told if p.state == "capturing")
            assert first.seconds_left == pytest.approx(result.expected_s) and 0.1 < result.expected_s < 60
            assert [p.state for p in told].count("finished") == 1 and {p.total for p in told} == {
                len(result.plan.shots)
            }
            assert [p.done for p in told] == sorted(p.done for p in told)
    for name in ("stepped", "burst"):
        recording = Recording.open(tmp_path / name)
        assert list(verify(recording)) == []
        frames = {f.shot: f for f in recording.info.frames}
        assert list(frames)[-1] == "repeat" and frames["zone3"].acknowledged == {"zones": (3,), "projector": ()}
        assert frames["ambient"].acknowledged == {"zones": (), "projector": ()}
        assert frames["repeat"].acknowledged["zones"] == (1, 2, 3, 4)
        assert "SIM-0001" in recording.info.devices["camera"] and "Hikrobot" in recording.info.devices["lights"]
        assert "sim-quad 1.0.0" in recording.info.devices["projector"]
        dim, bright = frames["p2_01"], frames["p2b2_01"]
        assert (dim.requested_exposure_us, bright.requested_exposure_us) == (600, 2000)
        ambient = recording.read(frames["ambient"]).astype(float)
        ratio = (recording.read(bright) - ambient).mean() / (recording.read(dim) - ambient).mean()
        assert 2000 / 600 * 0.8 < ratio < 2000 / 600 * 1.25, "the longer exposure has that much more light"
        count = len(result.plan.sequence)
        if name == "stepped":
            assert frames["p4b2_03"].acknowledged == {"zones": (), "projector": (4, 2)}
        else:
            armed = bright.acknowledged["armed"]
            assert armed[:2] == (2, 2000) and armed[2] > 2200 and bright.acknowledged["displayed"] == (count,)
            assert frames["p4_01"].acknowledged["armed"][:2] == (4, 600) and "projector" not in bright.acknowledged
    written = tmp_path / "burst" / "recording.json"  # as written before these keys were there
    plain = json.loads(written.read_text())
    del plain["devices"]
    for frame in plain["frames"]:
        del frame["requested_exposure_us"], frame["acknowledged"]
    written.write_text(json.dumps(plain))
    old = Recording.open(tmp_path / "burst").info
    assert old.devices == {} and old.frames[0].acknowledged == {} and old.frames[0].requested_exposure_us is None


def test_lights_that_never_answer_acknowledge_nothing(tmp_path: Path) -> None:
    with Rig.open(f"{SIM}&lights=vst&projector=0") as rig:
        capture(rig, LIGHTS, tmp_path / "p", part_id="x")
    info = Recording.open(tmp_path / "p").info
    assert all(frame.acknowledged == {} for frame in info.frames) and "never answers" in info.devices["lights"]


def test_plans_that_cannot_work_are_refused_before_the_first_light(tmp_path: Path) -> None:
    def patterns(exposure_us: float, *bracket_us: float, **more: float) -> PatternRecipe:
        return PatternRecipe.model_validate(
            {"exposure_us": exposure_us, "bracket_us": bracket_us, "directions": (1,), **more}
        )

    long = Recipe(product="x", exposure_us=1e7, zones=(2,), ambient=False)
    cases: list[tuple[Recipe, bool, float | None, str, str]] = [
        (
            Recipe(product="x", exposure_us=5),
            False,
            None,
            "plan.exposure_range",
            "exposure 5 µs; .* exposes 20 to 10000000",
        ),
        (
            Recipe(product="x", exposure_us=50, gain_db=30),
            False,
            None,
            "plan.gain_range",
            "30; .* amplifies 0 to 24 dB",
        ),
        (
            _with(patterns(3000, 400)),
            False,
            None,
            "plan.pattern_exposure",
            "exposure 400 µs; sim-quad .* 500 µs or more",
        ),
        (
            _with(patterns(20_000, frame_rate_hz=46)),
            True,
            None,
            "plan.frame_rate",
            r"20700 µs, says .* \+ 500 µs margin",
        ),
        (
            _with(patterns(3000)),
            True,
            100,
            "plan.bandwidth",
            r"BayerRG12 = 0.277 MB × .* MB/s; the link carries 12.5 MB/s",
        ),
        (
            long,
            False,
            None,
            "plan.on_time",
            r"zone 2 .*zone2 10 s \+ all_zones 10 s \+ repeat 10 s .*max_on_s is 30 s",
        ),
        (
            _with(patterns(4e6)),
            False,
            None,
            "plan.on_time",
            r"direction 1 would shine for 6.* \(17 patterns.*max_on_s is 60 s",
        ),
        (
            _with(patterns(1e7)),
            True,
            None,
            "plan.exposure_range",
            r"200 µs black \+ 10000000 µs pattern \+ 500 µs margin",
        ),
    ]
    with Rig.open(SIM) as rig:
        assert rig.lights is not None and rig.projector is not None
        own, before = rig.settings, _spoken(rig)
        for recipe, burst, link_mbit_s, code, arithmetic in cases:
            camera = own.camera.model_copy(update={"link_mbit_s": link_mbit_s})
            rig.settings = own.model_copy(update={"camera": camera})
            with pytest.raises(ConfigError, match=arithmetic) as caught:
                capture(rig, recipe, tmp_path / "p", part_id="x", burst=burst)
            assert caught.value.code == code and caught.value.hint
        slow_link = own.camera.model_copy(update={"link_mbit_s": 100.0})
        rig.settings = own.model_copy(update={"camera": slow_link})
        with pytest.raises(ConfigError, match="4 reasons why") as caught:
            bad = Recipe(product="x", exposure_us=5, gain_db=30, patterns=patterns(400))
            capture(rig, bad, tmp_path / "p", part_id="x", burst=True)
        assert caught.value.code == "plan.impossible"
        for code in ("plan.exposure_range", "plan.gain_range", "plan.pattern_exposure", "plan.bandwidth"):
            assert f"[{code}]" in caught.value.message
        assert _spoken(rig) == before, "nothing was said to lights and projector"
        assert list(tmp_path.iterdir()) == []
        slow = _with(patterns(3000, frame_rate_hz=40))  # what the hint of plan.bandwidth advises
        plan = make_plan(slow, rig.zones, rig.directions)
        check_plan(rig.devices, plan, rig.camera_settings(6000), burst=True)


def _with(patterns: PatternRecipe) -> Recipe:
    return LIGHTS.model_copy(update={"patterns": patterns})


def _spoken(rig: Rig) -> list[int]:
    """Bytes sent to lights and projector; the projector's own signs of life are sent only while it shines."""
    return [device.statistics.sent for device in (rig.lights, rig.projector)]  # type: ignore[union-attr]
