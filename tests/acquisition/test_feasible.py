"""What a rig cannot do is refused with the arithmetic: the reasons one by one, and a driver's limits against them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rakelight.acquisition.burst import frame_period_us
from rakelight.acquisition.devices import CameraInfo, CameraSettings
from rakelight.acquisition.drivers.light_limits import OnTime
from rakelight.acquisition.feasible import (
    bandwidth_reasons,
    exposure_reasons,
    gain_reasons,
    light_reasons,
    rate_reasons,
    within,
)
from rakelight.acquisition.pixel_formats import packed_bytes
from rakelight.acquisition.recipe import PatternRecipe, Plan, Recipe, make_plan

CAMERA = CameraInfo("maker", "C1", "7", 400, 300, ("Mono8",), (20.0, 100_000.0), (0.0, 12.0), ("software", "line"))


def plan(exposure_us: float, *patterns_us: float, zones: tuple[int, ...] = (1, 2), **more: object) -> Plan:
    patterns = PatternRecipe(exposure_us=patterns_us[0], bracket_us=patterns_us[1:]) if patterns_us else None
    recipe = Recipe.model_validate({"product": "x", "exposure_us": exposure_us, "patterns": patterns, **more})
    return make_plan(recipe, zones, (1,))


def told(reasons: object) -> list[tuple[str, str]]:
    return [(r.code, r.sentence) for r in reasons]  # type: ignore[attr-defined]


def test_exposures_at_the_limits_are_allowed_and_beyond_them_named() -> None:
    assert not told(exposure_reasons(plan(20, 100_000), CAMERA))
    found = told(exposure_reasons(plan(19, 3000, 100_001, all_zones_exposure_us=200_000), CAMERA))
    assert [code for code, _ in found] == ["plan.exposure_range"] * 3
    sentences = " ".join(text for _, text in found)
    for part in (
        "zone1 and 2 more: exposure 19 µs",
        "all_zones and 1 more: exposure 200000 µs",
        "p1b2_01 and",
        "100001 µs",
    ):
        assert part in sentences
    assert sentences.count("camera C1 exposes 20 to 100000 µs") == 3
    assert not told(exposure_reasons(plan(19), replace(CAMERA, exposure_us=(0.0, 0.0)))), "a camera that does not say"


def test_a_burst_needs_the_black_time_besides() -> None:
    assert not told(exposure_reasons(plan(1000, 99_300), CAMERA, 200.0))  # 99300 + 200 + 500 = 100000
    ((code, sentence),) = told(exposure_reasons(plan(100_000, 99_301), CAMERA, 200.0))
    assert code == "plan.exposure_range" and "200 µs black + 99301 µs pattern + 500 µs margin = 100001 µs" in sentence


def test_gain() -> None:
    assert not told(gain_reasons(12, CAMERA)) and not told(gain_reasons(0, replace(CAMERA, gain_db=None)))
    assert told(gain_reasons(12.5, CAMERA)) == [("plan.gain_range", "gain_db = 12.5; camera C1 amplifies 0 to 12 dB")]


def test_what_is_asked_of_the_camera_is_within_its_range() -> None:
    asked = within(CameraSettings(5.0, 40.0, trigger="line"), CAMERA)
    assert (asked.exposure_us, asked.gain_db, asked.trigger) == (20.0, 12.0, "line")
    assert within(CameraSettings(5e6, 3.0), CAMERA) == CameraSettings(100_000.0, 3.0)
    silent = replace(CAMERA, exposure_us=(0.0, 0.0), gain_db=None)
    assert within(CameraSettings(5e6), silent) == CameraSettings(5e6)


@pytest.mark.parametrize(
    ("rate_hz", "who"),
    [
        (None, []),
        (79.0, []),  # 12658 µs
        (81.0, ["camera"]),  # 12346 µs; the camera 12000 + 500
        (350.0, ["camera", "projector"]),  # 2857 µs
    ],
)
def test_rates_of_a_burst(rate_hz: float | None, who: list[str]) -> None:
    actual = CameraSettings(3700.0, trigger="line", max_frame_rate_hz=1e6 / 12000)
    found = told(rate_reasons(3000.0, 200.0, actual, rate_hz))
    assert sorted(next(w for w in ("camera", "projector") if w in text) for _, text in found) == who
    assert {code for code, _ in found} <= {"plan.frame_rate"}
    for _, text in found:
        assert "12000 µs + 500 µs margin = 12500 µs" in text or "200 µs black + 3000 µs exposure = 3200 µs" in text


def test_the_rate_that_the_hint_names_is_possible() -> None:
    actual = CameraSettings(3700.0, trigger="line", max_frame_rate_hz=81.37)
    (reason,) = rate_reasons(3000.0, 200.0, actual, 200.0)
    hint_hz = float(reason.hint.split("at most ")[1].split()[0])
    assert not told(rate_reasons(3000.0, 200.0, actual, hint_hz)) and told(
        rate_reasons(3000.0, 200.0, actual, hint_hz * 1.02)
    )


@pytest.mark.parametrize(("pixel_format", "megabytes"), [("BayerRG12", 8.0), ("BayerRG12p", 6.0), ("BayerRG8", 4.0)])
def test_bandwidth_counts_what_is_on_the_wire(pixel_format: str, megabytes: float) -> None:
    size = packed_bytes(pixel_format, 2000, 2000)
    assert size == megabytes * 1e6
    period_us = frame_period_us(CameraSettings(3000.0), 20.0)
    exactly = 20 * size
    assert not told(bandwidth_reasons(3000, "it", size, period_us, exactly))
    (reason,) = bandwidth_reasons(3000, f"2000×2000 {pixel_format}", size, period_us, 0.75 * exactly)
    assert reason.code == "plan.bandwidth"
    assert f"2000×2000 {pixel_format} = {megabytes:g} MB × 20 frames/s = {20 * megabytes:g} MB/s" in reason.sentence
    assert "frame_rate_hz of at most 15 in" in reason.hint


class TestLightLimits:
    """The same shots against the limits and against the driver's own bookkeeping."""

    def test_shots_that_follow_each_other_without_dark_are_one_time(self) -> None:
        lights = plan(4e6, zones=(1, 2), all_zones_exposure_us=3e6, ambient=False)  # zone1, zone2, all, repeat
        seconds = [4.0, 4.0, 3.0, 3.0]
        assert not told(light_reasons(lights, OnTime(10.0, 1.0, 60.0), seconds))
        ((code, sentence),) = told(light_reasons(lights, OnTime(9.0, 1.0, 60.0), seconds))
        assert code == "plan.on_time" and sentence.startswith("zone 2 would be lit for 10.00 s in one go")
        assert "zone2 4 s + all_zones 3 s + repeat 3 s + 0.00 s to settle" in sentence and "max_on_s is 9 s" in sentence

    def test_duty_in_a_window(self) -> None:
        lights = plan(4e6, zones=(1, 2), all_zones_exposure_us=3e6)  # with the room's 4 s before the repeat
        seconds = [4.0, 4.0, 3.0, 4.0, 3.0]
        assert not told(light_reasons(lights, OnTime(100.0, 10 / 18, 18.0), seconds))
        found = told(light_reasons(lights, OnTime(100.0, 9 / 18, 18.0), seconds))
        assert [code for code, _ in found] == ["plan.duty", "plan.duty"]  # each zone once
        assert "zone 1" in found[0][1] and "at the end of repeat, have been lit for 10.00 s of 18.00 s" in found[0][1]
        assert "0.5 × 18 s = 9.00 s" in found[0][1]

    @pytest.mark.parametrize("max_on_s", [1.0, 2.0, 4.5, 7.5, 11.0])
    @pytest.mark.parametrize("duty", [0.2, 0.5, 0.8, 1.0])
    def test_it_agrees_with_the_watchdog(self, max_on_s: float, duty: float) -> None:
        """Refused exactly if the watchdog, asked at every hundredth of a second, would have switched a zone off."""
        lights = plan(2e6, 1e6, zones=(1, 2, 3), all_zones_exposure_us=3e6)
        seconds = [shot.exposure_us / 1e6 for shot in lights.shots]
        limits = OnTime(max_on_s, duty, 10.0)
        now, acted = 0.0, False
        for shot, lasts_s in zip(lights.shots, seconds, strict=True):
            limits.switch(shot.zones, now)
            for tick in range(1, round(lasts_s * 100)):
                acted = acted or bool(limits.exceeded(now + tick / 100))
            now += lasts_s
        assert bool(told(light_reasons(lights, OnTime(max_on_s, duty, 10.0), seconds))) == acted
