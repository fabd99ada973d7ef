"""What every camera driver must do, over the real wire: harvesters, a GenTL producer, the camera's child process.

Two cameras join: our own producer with a scene at its other end, which can do everything (triggers, chunks, packed pixels,
faults), and the emulated camera that ships with the genicam package (``viky``: free running only, no exposure, no gain), in
the child process and in this one. What cannot be asked of a camera is skipped by what its ``info`` says.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakelight.acquisition.devices import CameraSettings
from rakelight.acquisition.integrity import FrameChecker
from rakelight.acquisition.simulator.gentl.build import cti_path
from rakelight.acquisition.simulator.scene_server import DROP, INCOMPLETE, UNPLUG, WireFault
from rakelight.errors import DeviceError

pytest.importorskip("genicam")


def _load(name: str) -> Any:
    """A module beside this file (tests are no package)."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


_beside = _load("camera_bench")
MAKERS, VIKY, changed, expected, simulated = (
    _beside.MAKERS, _beside.VIKY, _beside.changed, _beside.expected, _beside.simulated,
)  # fmt: skip
Bench = Any  # camera_bench.Bench: a camera, how it is opened, and the scene behind it
NEEDS_VIKY = pytest.mark.skipif(not VIKY.is_file(), reason="this genicam package brings no emulated camera (viky.cti)")
EVERY = ["sim-mono", *(pytest.param(name, marks=NEEDS_VIKY) for name in ("viky-child", "viky-here"))]


@pytest.fixture(scope="module")
def made() -> Iterator[dict[str, Bench]]:
    """Benches that were opened so far; opening takes a second each."""
    benches: dict[str, Bench] = {}
    yield benches
    for bench in benches.values():
        bench.camera.close()
        if bench.server is not None:
            bench.server.close()


@pytest.fixture
def bench(request: pytest.FixtureRequest, made: dict[str, Bench]) -> Iterator[Bench]:
    if request.param not in made:
        fresh = MAKERS[request.param]()
        fresh.camera = fresh.open()
        made[request.param] = fresh
    yield made[request.param]
    made[request.param].camera.disarm()
    if sight := made[request.param].sight:
        sight.faults.clear()


every = pytest.mark.parametrize("bench", EVERY, indirect=True)
mono = pytest.mark.parametrize("bench", ["sim-mono"], indirect=True)
either = pytest.mark.parametrize("bench", ["sim-mono", "sim-colour"], indirect=True)


def code_of(call: Callable[[], object]) -> str:
    """The code of the error that a call raises, which must tell what to do."""
    with pytest.raises(DeviceError) as caught:
        call()
    assert caught.value.hint
    return caught.value.code


class TestConfigure:
    @every
    def test_says_who_it_is_and_what_it_can_do(self, bench: Bench) -> None:
        info = bench.camera.info
        assert info.vendor and info.model and info.serial_number in ("1", "SIM-7")
        assert bench.settings.pixel_format in info.pixel_formats and bench.settings.trigger in info.triggers
        assert info.width > 0 and info.height > 0 and info.exposure_us[0] <= info.exposure_us[1]

    @every
    def test_tells_its_temperature_or_that_it_cannot(self, bench: Bench) -> None:
        celsius = bench.camera.temperature_c()
        assert celsius is None or -40 < celsius < 120
        if bench.name.startswith("sim"):
            assert 29.9 < celsius < 38

    @every
    def test_whole_sensor_unless_told_otherwise(self, bench: Bench) -> None:
        actual = bench.camera.configure(bench.settings)
        assert (actual.width, actual.height) == (bench.camera.info.width, bench.camera.info.height)
        assert (actual.offset_x, actual.offset_y) == (0, 0)
        assert (actual.pixel_format, actual.trigger) == (bench.settings.pixel_format, bench.settings.trigger)

    @every
    def test_again_and_again(self, bench: Bench) -> None:
        for size in bench.sizes:
            actual = bench.camera.configure(changed(bench, width=size, height=size))
            assert (actual.width, actual.height) == (size, size)
        bench.camera.arm(1)
        assert bench.snap().image.shape == (size, size)

    @mono
    def test_tells_what_it_really_does(self, bench: Bench) -> None:
        """The simulated sensor takes whole µs, and widths of 4, heights of 2."""
        actual = bench.camera.configure(changed(bench, exposure_us=1234.4, width=30, height=17, gain_db=3.5))
        assert (actual.exposure_us, actual.gain_db) == (1234, 3.5) and (actual.width, actual.height) == (32, 18)
        assert actual.max_frame_rate_hz == pytest.approx(1e6 / (1234 + 500), rel=0.01)

    @mono
    @pytest.mark.parametrize(
        ("change", "value", "allowed"),
        [
            ({"exposure_us": 3e7}, "ExposureTime .* 3e[+]07 µs", "20 to 1e[+]07"),
            ({"exposure_us": 1.0}, "ExposureTime .* 1 µs", "20 to 1e[+]07"),
            ({"gain_db": 99.0}, "Gain .* 99 dB", "0 to 24"),
            ({"width": 4096}, "Width .* 4096 px", "16 to 64"),
            ({"width": 32, "offset_x": 64}, "OffsetX .* 64 px", "0 to 32"),
            ({"pixel_format": "BayerRG12"}, "PixelFormat .* 'BayerRG12'", "knows Mono8, Mono10"),
            ({"trigger": "line", "trigger_line": "Line9"}, "TriggerSource .* 'Line9'", "knows Software, Line0"),
        ],
    )
    def test_a_wrong_setting_names_value_and_range(self, bench: Bench, change: Any, value: str, allowed: str) -> None:
        with pytest.raises(DeviceError, match=f"{value}; .*{allowed}") as caught:
            bench.camera.configure(changed(bench, **change))
        assert caught.value.code == "camera.setting" and caught.value.hint
        assert bench.camera.configure(bench.settings).trigger == "software", "it goes on afterwards"

    @pytest.mark.parametrize("bench", EVERY[1:], indirect=True)
    @pytest.mark.parametrize(
        ("change", "code", "told"),
        [
            ({"pixel_format": "Mono12"}, "camera.setting", "it knows RGBa8, Mono8"),
            ({"trigger": "software"}, "camera.feature", "no software trigger; it has: free"),
            ({"width": 10**6}, "camera.setting", "1e[+]06 px; allowed: "),
            ({"gain_db": 3.0}, "camera.feature", "no Gain; asked for 3 dB"),
            ({"width": 128, "offset_x": 8}, "camera.feature", "no OffsetX; asked for 8 px"),
        ],
    )
    def test_what_a_camera_does_not_have(self, bench: Bench, change: Any, code: str, told: str) -> None:
        with pytest.raises(DeviceError, match=told) as caught:
            bench.camera.configure(changed(bench, **change))
        assert caught.value.code == code and caught.value.hint
        assert bench.camera.configure(bench.settings).pixel_format == "Mono8", "it goes on afterwards"


class TestOrderOfCalls:
    @every
    def test_nothing_before_it_is_armed(self, bench: Bench) -> None:
        bench.camera.configure(bench.settings)
        assert code_of(lambda: bench.camera.next_frame(0.1)) == "camera.state"
        assert code_of(bench.camera.trigger) == "camera.state"

    @every
    def test_nothing_else_while_it_is_armed(self, bench: Bench) -> None:
        bench.camera.configure(bench.settings)
        bench.camera.arm(2)
        assert code_of(lambda: bench.camera.arm(1)) == "camera.state"
        assert code_of(lambda: bench.camera.configure(bench.settings)) == "camera.state"
        assert bench.snap().image.any(), "refusals do no harm"

    @every
    def test_no_software_trigger_where_none_is_awaited(self, bench: Bench) -> None:
        other = "free" if bench.settings.trigger == "free" else "line"
        bench.camera.configure(changed(bench, trigger=other))
        bench.camera.arm(1)
        assert code_of(bench.camera.trigger) == "camera.state"

    @every
    def test_disarm_says_what_became_of_the_frames_and_may_be_repeated(self, bench: Bench) -> None:
        bench.camera.configure(bench.settings)
        for _ in range(3):
            bench.camera.arm(2)
            for _ in range(2):
                bench.snap()
            counts = bench.camera.disarm()
            assert (counts.delivered, counts.incomplete) == (2, 0)
            bench.camera.disarm()
            assert code_of(lambda: bench.camera.next_frame(0.1)) == "camera.state", "nothing is pending"

    @every
    def test_closed_twice_from_an_armed_state(self, bench: Bench) -> None:
        bench.camera.close()
        camera = bench.camera = bench.open()
        camera.configure(bench.settings)
        camera.arm(1)
        camera.close()
        camera.close()
        for call in (camera.trigger, lambda: camera.configure(bench.settings), lambda: camera.next_frame(0.1)):
            assert code_of(call) in ("camera.lost", "camera.state")
        assert code_of(lambda: camera.configure(bench.settings)) == "camera.lost"
        bench.camera = bench.open()
        assert bench.camera.configure(bench.settings).width


class TestFrames:
    @every
    def test_come_in_order_and_own_their_memory(self, bench: Bench) -> None:
        bench.camera.configure(bench.settings)
        bench.camera.arm(4)
        frames = [bench.snap() for _ in range(4)]
        assert [frame.frame_id for frame in frames] == [1, 2, 3, 4]
        assert all(a.received_ns < b.received_ns <= time.monotonic_ns() for a, b in itertools.pairwise(frames))
        kept = frames[1].image.copy()
        frames[0].image[:] = 0  # writable, and nobody else's
        assert frames[1].image.any() and np.array_equal(frames[1].image, kept)

    @every
    def test_a_frame_that_does_not_come_ends_at_the_deadline(self, bench: Bench) -> None:
        bench.camera.configure(bench.settings)
        bench.camera.arm(1)
        bench.snap()
        deadline_s = 0.3 if bench.settings.trigger == "software" else 0.005  # 20 frames a second come by themselves
        start = time.monotonic()
        with pytest.raises(DeviceError, match="no frame of camera") as caught:
            for _ in range(1000):
                start = time.monotonic()
                bench.camera.next_frame(deadline_s)
        assert caught.value.code == "camera.timeout" and time.monotonic() - start <= 1.2 * deadline_s + 0.1
        assert bench.snap(), "it goes on afterwards"

    @every
    def test_leftovers_are_thrown_away_by_arming(self, bench: Bench) -> None:
        bench.camera.configure(bench.settings)
        bench.camera.arm(3)
        bench.snap()
        if bench.settings.trigger == "software":
            bench.camera.trigger()
        time.sleep(0.2)  # frames wait, and nobody takes them
        bench.camera.disarm()
        armed = time.monotonic_ns()
        bench.camera.arm(2)
        frame = bench.snap()
        assert frame.frame_id == 1, "ids begin anew; what waited is gone"
        assert frame.timestamp_ns is None or frame.timestamp_ns > armed

    @every
    def test_free_running_goes_on_by_itself(self, bench: Bench) -> None:
        bench.camera.configure(changed(bench, trigger="free"))
        bench.camera.arm(3)
        assert all(bench.camera.next_frame(2.0).image.any() for _ in range(5))

    @pytest.mark.parametrize("bench", EVERY[1:], indirect=True)
    def test_colour_with_alpha_comes_as_rgb(self, bench: Bench) -> None:
        assert bench.camera.configure(changed(bench, pixel_format="RGBa8", width=128, height=104)).width == 128
        bench.camera.arm(1)
        assert bench.camera.next_frame(2.0).image.shape == (104, 128, 3)


class TestPixels:
    @either
    def test_every_format_bit_by_bit(self, bench: Bench) -> None:
        for name in bench.camera.info.pixel_formats:
            actual = bench.camera.configure(changed(bench, pixel_format=name))
            assert actual.pixel_format == name.removesuffix("p")
            bench.camera.arm(1)
            image = bench.snap().image
            assert image.dtype == (np.uint8 if name.endswith("8") else np.uint16)
            assert np.array_equal(image, expected(name, 1, actual)), name
            bench.camera.disarm()

    @either
    @pytest.mark.parametrize("packing", ["", "p"])
    def test_a_region_is_that_of_the_sensor(self, bench: Bench, packing: str) -> None:
        wanted = changed(bench, offset_x=12, offset_y=6, width=36, height=22)
        name = bench.settings.pixel_format + packing
        actual = bench.camera.configure(CameraSettings(**{**vars(wanted), "pixel_format": name}))
        assert (actual.offset_x, actual.offset_y, actual.width, actual.height) == (12, 6, 36, 22)
        bench.camera.arm(1)
        assert np.array_equal(bench.snap().image, expected(name, 1, actual))


class TestTriggers:
    @mono
    def test_one_frame_each_stamped_when_its_exposure_began(self, bench: Bench) -> None:
        bench.camera.configure(changed(bench, exposure_us=5000))
        bench.camera.arm(2)
        for count in (1, 2):
            before = time.monotonic_ns()
            frame = bench.snap()
            assert frame.timestamp_ns is not None and before < frame.timestamp_ns < frame.received_ns - 5_000_000
            assert (frame.exposure_us, frame.gain_db, frame.counters) == (5000, 0, {"triggers": count})
        assert code_of(lambda: bench.camera.next_frame(0.1)) == "camera.timeout"

    @mono
    def test_exposure_changes_between_two_triggers(self, bench: Bench) -> None:
        bench.camera.configure(bench.settings)
        bench.camera.arm(3)
        for asked, actual in ((1000.0, 1000), (2000.4, 2000), (500.0, 500)):
            assert bench.camera.set_exposure(asked) == actual
            assert bench.snap().exposure_us == actual
        assert code_of(lambda: bench.camera.set_exposure(1e9)) == "camera.setting"
        assert bench.snap().exposure_us == 500, "a refused one changes nothing"

    @mono
    def test_edges_of_a_line(self, bench: Bench) -> None:
        assert bench.server is not None
        assert bench.camera.configure(changed(bench, trigger="line")).trigger == "line"
        bench.camera.arm(2)
        for number in (1, 2):
            bench.server.trigger(time.monotonic_ns())
            assert bench.camera.next_frame(2.0).frame_id == number

    @mono
    @pytest.mark.parametrize("trigger", ["software", "line"])
    def test_a_trigger_too_many_is_counted(self, bench: Bench, trigger: str) -> None:
        """While the first frame is exposed: it is missed, and the next frame's counter tells."""
        assert bench.server is not None
        bench.camera.configure(changed(bench, trigger=trigger, exposure_us=100_000))
        bench.camera.arm(3)
        checker = FrameChecker()
        source = 0 if trigger == "line" else 1
        for surplus in (1, 0, 0):
            asked = time.monotonic_ns()
            for _ in range(1 + surplus):
                bench.server.trigger(time.monotonic_ns(), source)
            frame = bench.camera.next_frame(2.0)
            if frame.frame_id == 2:
                assert code_of(lambda frame=frame, asked=asked: checker.check(frame, asked)) == "frame.over_trigger"
            else:
                checker.check(frame, asked)
        assert (frame.frame_id, frame.counters) == (3, {"triggers": 4})

    def test_ids_of_16_bits_wrap_and_pass_the_checks(self) -> None:
        bench = simulated(bayer=False)
        assert bench.server is not None
        camera = bench.camera = bench.open(RAKELIGHT_ID_BITS="16", RAKELIGHT_FIRST_ID="65534")
        try:
            camera.configure(bench.settings)
            camera.arm(4)
            checker, ids = FrameChecker(), []
            for _ in range(4):
                asked = time.monotonic_ns()
                frame = bench.snap()
                checker.check(frame, asked)
                ids.append(frame.frame_id)
            assert ids == [65534, 65535, 1, 2]
        finally:
            camera.close()
            bench.server.close()


class TestTrouble:
    @mono
    def test_incomplete_frames_are_told_and_never_delivered(self, bench: Bench) -> None:
        assert bench.sight is not None
        bench.sight.faults[2] = WireFault(INCOMPLETE, 1000)
        bench.camera.configure(bench.settings)
        bench.camera.arm(3)
        assert bench.snap().frame_id == 1
        assert code_of(bench.snap) == "camera.incomplete"
        assert bench.snap().frame_id == 3, "the next one is whole"
        counts = bench.camera.disarm()
        assert (counts.delivered, counts.incomplete) == (2, 1)

    @mono
    def test_a_lost_frame_is_a_timeout_and_a_gap_in_the_ids(self, bench: Bench) -> None:
        assert bench.sight is not None
        bench.sight.faults[2] = WireFault(DROP)
        bench.camera.configure(bench.settings)
        bench.camera.arm(3)
        bench.snap()
        assert code_of(lambda: bench.snap(0.2)) == "camera.timeout"
        assert bench.snap().frame_id == 3

    @mono
    def test_unplugged_in_the_middle_and_opened_again(self, bench: Bench) -> None:
        assert bench.sight is not None
        bench.sight.faults[2] = WireFault(UNPLUG)
        bench.camera.configure(bench.settings)
        bench.camera.arm(3)
        bench.snap()
        start = time.monotonic()
        assert code_of(bench.snap) == "camera.lost" and time.monotonic() - start < 1.0, "told at once"
        assert code_of(bench.camera.trigger) == "camera.lost"
        assert bench.camera.disarm().delivered == 1, "which does no harm"
        assert bench.camera.reopen().serial_number == "SIM-7"
        bench.camera.configure(bench.settings)
        bench.camera.arm(1)
        assert bench.snap().frame_id == 1


INTERRUPTED = """
import os, signal, sys
from rakelight.acquisition.camera_process import CameraProcess
from rakelight.acquisition.devices import CameraSettings
camera = CameraProcess("genicam", {"producer": sys.argv[1], "serial_number": sys.argv[2]})
camera.configure(CameraSettings(1000.0, pixel_format="Mono8", trigger="free"))
camera.arm(2)
try:
    os.killpg(os.getpgrp(), signal.SIGINT)  # what a terminal does at Ctrl-C
    signal.pause()
except KeyboardInterrupt:
    print(camera.next_frame(2.0).image.any(), camera.disarm().delivered)
camera.close()
"""


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a group of processes")
@pytest.mark.parametrize("name", ["sim", pytest.param("viky", marks=NEEDS_VIKY)])
def test_ctrl_c_does_not_reach_the_camera(name: str) -> None:
    """The camera goes on, so that who was interrupted can bring it to an orderly end."""
    producer, serial = (str(VIKY), "1") if name == "viky" else (str(cti_path()), "SIM-0001")
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, producer, serial],
        capture_output=True,
        text=True,
        timeout=30,
        start_new_session=True,
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["True", "1"], "")
