"""Can this rig do this plan? Answered with the arithmetic before the first light goes on, and how long it will take.

What a device would refuse in the middle of a capture, or what a link cannot carry, follows from the plan and from what the
devices say of themselves; all that is wrong is told at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rakelight.acquisition.burst import MARGIN_US, black_us, burst_of, burst_settings, frame_period_us, no_trigger
from rakelight.acquisition.devices import CameraInfo, CameraSettings, PatternProjector
from rakelight.acquisition.drivers.light_limits import OnTime
from rakelight.acquisition.drivers.light_settings import LightSettings
from rakelight.acquisition.pixel_formats import packed_bytes
from rakelight.acquisition.recipe import Plan, PlannedShot
from rakelight.acquisition.stepped import Devices, link_bytes_per_s
from rakelight.errors import ConfigError

_STEP_S = 0.02  # of a stepped shot besides exposure, settling and transfer: commands, trigger, checks
_BURST_S = 0.1  # of a burst besides its frames: arming, the first pattern
_LOAD_S = 0.01  # for each pattern that is loaded
_BYTES_PER_S = 1e8  # of a link that nobody described: Gigabit Ethernet


@dataclass(frozen=True)
class Reason:
    """One thing that a rig cannot do: a stable code, the arithmetic, what cures it."""

    code: str
    sentence: str
    hint: str


@dataclass(frozen=True)
class Feasible:
    """A plan that the rig can do: what the camera really takes, and the seconds that the capture will last."""

    actual: CameraSettings
    expected_s: float


def check_plan(devices: Devices, plan: Plan, settings: CameraSettings, *, burst: bool = False) -> Feasible:
    """Ask the devices what the plan needs to know, without any light, and refuse what cannot work.

    ``settings`` as the rig asks for them. Leaves the camera configured and not armed.

    Raises
    ------
    ConfigError
        With the code of its one reason, or ``plan.impossible`` with all of them: ``plan.exposure_range``,
        ``plan.gain_range``, ``plan.pattern_exposure``, ``plan.patterns`` (more than the projector holds),
        ``plan.frame_rate``, ``plan.bandwidth``, ``plan.on_time``, ``plan.duty``, ``capture.no_trigger``.
    DeviceError
        The camera refuses its settings for another reason than exposure and gain.
    """
    info, projector = devices.camera.info, devices.projector
    reasons = [*exposure_reasons(plan, info, black_us(projector) if burst and projector is not None else None)]
    reasons += gain_reasons(settings.gain_db, info)
    if projector is not None:
        reasons += pattern_reasons(plan, projector)
    timings: dict[float, CameraSettings] = {}
    if burst and (trigger := no_trigger(devices, plan)):
        reasons.append(Reason("capture.no_trigger", trigger.message, trigger.hint))
    elif burst and projector is not None:
        for exposure_us in sorted({shot.exposure_us for shot in plan.shots if shot.direction is not None}):
            asked = within(burst_settings(settings, projector, exposure_us), info)
            timings[exposure_us] = devices.camera.configure(asked)
    actual = devices.camera.configure(within(settings, info))
    frame_bytes = packed_bytes(settings.pixel_format, actual.width or 0, actual.height or 0)
    link = link_bytes_per_s(devices, actual)
    for exposure_us, timing in timings.items():
        black = black_us(projector) if projector is not None else 0.0
        reasons += rate_reasons(exposure_us, black, timing, plan.frame_rate_hz)
        if link is not None:
            period_us = frame_period_us(timing, plan.frame_rate_hz)
            what = f"{timing.width}×{timing.height} {settings.pixel_format}"
            reasons += bandwidth_reasons(exposure_us, what, frame_bytes, period_us, link)
    schedule = _schedule(plan, devices, frame_bytes / (link or _BYTES_PER_S), timings)
    reasons += _light_reasons(plan, devices, schedule)
    reasons += _projector_reasons(plan, devices, schedule, burst=burst)
    if reasons:
        raise _refusal(reasons)
    return Feasible(actual, sum(schedule))


def within(settings: CameraSettings, info: CameraInfo) -> CameraSettings:
    """Settings that the camera can take, to ask it for the rest: exposure and gain at most at its limits."""
    exposure_us = settings.exposure_us
    if info.exposure_us[1] > 0:
        exposure_us = min(max(exposure_us, info.exposure_us[0]), info.exposure_us[1])
    least, most = info.gain_db or (0.0, 0.0)
    return replace(settings, exposure_us=exposure_us, gain_db=min(max(settings.gain_db, least), most))


# ------------------------------------------------------------------------------------------------------------- reasons
def exposure_reasons(plan: Plan, info: CameraInfo, burst_black_us: float | None = None) -> Iterator[Reason]:
    """Exposures outside the camera's range; patterns of a burst need the projector's black time besides (µs; None: stepped)."""
    least, most = info.exposure_us
    if most <= 0:  # it does not say
        return
    for in_burst, exposure_us, shots in _by_exposure(plan.shots, burst=burst_black_us is not None):
        open_us = exposure_us
        told = f"{exposure_us:.10g} µs"
        if in_burst and burst_black_us is not None:
            open_us = burst_black_us + exposure_us + MARGIN_US
            told = f"{burst_black_us:.10g} µs black + {exposure_us:.10g} µs pattern + {MARGIN_US:g} µs margin = {open_us:.10g} µs"
        if not least <= open_us <= most:
            yield Reason(
                "plan.exposure_range",
                f"{_named(shots)}: exposure {told}; camera {info.model} exposes {least:.10g} to {most:.10g} µs",
                f"{'lengthen' if open_us < least else 'shorten'} the exposure in the recipe",
            )


def gain_reasons(gain_db: float, info: CameraInfo) -> Iterator[Reason]:
    """A gain outside the camera's range."""
    least, most = info.gain_db or (0.0, 0.0)
    if not least <= gain_db <= most:
        yield Reason(
            "plan.gain_range",
            f"gain_db = {gain_db:g}; camera {info.model} amplifies {least:g} to {most:g} dB",
            "change gain_db in the recipe",
        )


def pattern_reasons(plan: Plan, projector: PatternProjector) -> Iterator[Reason]:
    """Patterns shown for less than the projector can, and more of them than its memory holds."""
    patterns = [shot for shot in plan.shots if shot.direction is not None]
    least = projector.minimum_exposure_us
    for _, exposure_us, shots in _by_exposure(patterns):
        if exposure_us < least:
            yield Reason(
                "plan.pattern_exposure",
                f"{_named(shots)}: exposure {exposure_us:.10g} µs; {projector.identity} shows one for {least:.10g} µs or more",
                "lengthen the exposure in [patterns], and close the lens or lower the gain if that is too bright",
            )
    memory = getattr(projector, "memory", None)  # not every driver knows a limit
    if patterns and memory is not None and len(plan.sequence) > memory:
        yield Reason(
            "plan.patterns",
            f"the sequence has {len(plan.sequence)} patterns; {projector.identity} holds {memory}",
            "use fewer steps",
        )


def rate_reasons(
    exposure_us: float, black: float, actual: CameraSettings, frame_rate_hz: float | None
) -> Iterator[Reason]:
    """A burst faster than the projector shows or than the camera follows.

    ``actual`` is what the camera takes for the patterns of ``exposure_us``; ``black`` (µs) passes before each one's light.
    """
    if frame_rate_hz is None:  # as fast as they can
        return
    period_us = frame_period_us(actual, frame_rate_hz)
    wanted = f"patterns of {exposure_us:.10g} µs at frame_rate_hz = {frame_rate_hz:g}: one every {period_us:.0f} µs; "
    best_hz = 1e6 / max(frame_period_us(actual, None), black + exposure_us)
    cure = f"frame_rate_hz of at most {_floor(best_hz)} in [patterns], or leave it out; or shorten the exposure"
    needed_us = black + exposure_us
    if period_us < needed_us:
        told = f"the projector needs {black:.10g} µs black + {exposure_us:.10g} µs exposure = {needed_us:.10g} µs"
        yield Reason("plan.frame_rate", wanted + told, cure)
    fastest_us = frame_period_us(actual, None)
    if period_us < fastest_us:
        limit_us = fastest_us - MARGIN_US
        says = f"{actual.max_frame_rate_hz:.4g} frames/s" if actual.max_frame_rate_hz else "nothing of its rate"
        told = (
            f"the camera, open for {actual.exposure_us:.10g} µs, says {says} and needs {limit_us:.0f} µs + {MARGIN_US:g} µs "
            f"margin = {fastest_us:.0f} µs"
        )
        yield Reason("plan.frame_rate", wanted + told, cure)


def bandwidth_reasons(
    exposure_us: float, what: str, frame_bytes: int, period_us: float, link: float
) -> Iterator[Reason]:
    """More bytes a second in a burst than the link carries; ``link`` in bytes/s, ``what`` names size and format."""
    needed = frame_bytes * 1e6 / period_us
    if needed > link:
        yield Reason(
            "plan.bandwidth",
            f"patterns of {exposure_us:.10g} µs: {what} = {frame_bytes / 1e6:.3g} MB × {1e6 / period_us:.4g} frames/s = "
            f"{needed / 1e6:.4g} MB/s; the link carries {link / 1e6:.4g} MB/s ({link * 8 / 1e6:.4g} Mbit/s)",
            f"frame_rate_hz of at most {_floor(link / frame_bytes)} in [patterns], a packed or 8-bit pixel_format, a smaller "
            "width and height in rig.toml, or capture stepped",
        )


def light_reasons(plan: Plan, limits: OnTime, seconds: Sequence[float]) -> Iterator[Reason]:
    """Zones lit longer in one go, or more of the time, than the limits of the lights allow; each zone is named once.

    ``seconds`` of every shot in the plan's order; ``limits`` that counted nothing yet.
    """
    told: set[tuple[str, int]] = set()
    lit: dict[int, list[int]] = {}  # zone → numbers of the shots since it went on
    now = 0.0
    for number, shot in enumerate(plan.shots):
        lit = {zone: [*lit.get(zone, ()), number] for zone in shot.zones}
        limits.switch(shot.zones, now)
        now += seconds[number]
        for zone, numbers in lit.items():
            lit_s, used_s = sum(seconds[n] for n in numbers), limits.used_s(zone, now)
            if lit_s > limits.max_on_s and ("on_time", zone) not in told:
                told.add(("on_time", zone))
                exposures = " + ".join(
                    f"{plan.shots[n].shot.name} {plan.shots[n].exposure_us / 1e6:g} s" for n in numbers
                )
                beside_s = lit_s - sum(plan.shots[n].exposure_us for n in numbers) / 1e6
                yield Reason(
                    "plan.on_time",
                    f"zone {zone} would be lit for {lit_s:.2f} s in one go ({exposures} + {beside_s:.2f} s to settle and "
                    f"transfer); max_on_s is {limits.max_on_s:g} s",
                    "shorten the exposure in the recipe, or raise max_on_s in rig.toml if the lamp bears it",
                )
            elif limits.max_duty < 1 and used_s > limits.allowed_s and ("duty", zone) not in told:
                told.add(("duty", zone))
                yield Reason(
                    "plan.duty",
                    f"zone {zone} would, at the end of {shot.shot.name}, have been lit for {used_s:.2f} s of "
                    f"{min(now, limits.window_s):.2f} s; max_duty {limits.max_duty:g} × {limits.window_s:g} s = "
                    f"{limits.allowed_s:.2f} s",
                    "shorten the exposures in the recipe, or raise max_duty in rig.toml if the lamp bears it",
                )


def _light_reasons(plan: Plan, devices: Devices, seconds: list[float]) -> Iterator[Reason]:
    settings = getattr(devices.lights, "settings", None)
    if isinstance(settings, LightSettings):  # other drivers keep their limits to themselves
        limits = OnTime(settings.max_on_s, settings.max_duty, settings.duty_window_s)
        yield from light_reasons(plan, limits, seconds)


def _projector_reasons(plan: Plan, devices: Devices, seconds: list[float], *, burst: bool) -> Iterator[Reason]:
    """Directions that would shine longer without a pause than the projector's settings allow (stepped)."""
    most = getattr(getattr(devices.projector, "settings", None), "max_on_s", None)
    if burst or most is None:
        return
    for direction, group in groupby(zip(plan.shots, seconds, strict=True), lambda pair: pair[0].direction):
        together = list(group)
        lit_s = sum(s for _, s in together)
        if direction is not None and lit_s > most:
            exposures = sum(shot.exposure_us for shot, _ in together) / 1e6
            yield Reason(
                "plan.on_time",
                f"direction {direction} would shine for {lit_s:.1f} s without a pause ({len(together)} patterns, exposures "
                f"{exposures:.1f} s + {lit_s - exposures:.1f} s to settle and transfer); max_on_s is {most:g} s",
                "shorten the exposures in [patterns], or raise max_on_s of [projector] in rig.toml if the engine bears it",
            )


# ---------------------------------------------------------------------------------------------------------------- time
def _schedule(plan: Plan, devices: Devices, transfer: float, timings: Mapping[float, CameraSettings]) -> list[float]:
    """Seconds of each shot, as they are to be expected."""
    seconds = []
    for number, shot in enumerate(plan.shots):
        exposure_s = shot.exposure_us / 1e6
        if shot.direction is not None and shot.exposure_us in timings:
            first = number == 0 or burst_of(plan.shots[number - 1]) != burst_of(shot)
            period_s = frame_period_us(timings[shot.exposure_us], plan.frame_rate_hz) / 1e6
            seconds.append(max(period_s, transfer) + (_BURST_S + len(plan.sequence) * _LOAD_S if first else 0.0))
        else:
            settle_s = devices.light_settle_s if shot.direction is None else devices.pattern_settle_s
            seconds.append(exposure_s + settle_s + transfer + _STEP_S)
    return seconds


# --------------------------------------------------------------------------------------------------------------- words
def _by_exposure(shots: Sequence[PlannedShot], *, burst: bool = False) -> list[tuple[bool, float, list[PlannedShot]]]:
    """Shots of one exposure together: (whether they are patterns of a burst, µs, shots)."""
    found: dict[tuple[bool, float], list[PlannedShot]] = {}
    for shot in shots:
        found.setdefault((burst and shot.direction is not None, shot.exposure_us), []).append(shot)
    return [(*key, group) for key, group in found.items()]


def _named(shots: list[PlannedShot]) -> str:
    """``zone1``, or ``zone1 and 3 more``."""
    more = f" and {len(shots) - 1} more" if len(shots) > 1 else ""
    return shots[0].shot.name + more


def _floor(rate_hz: float) -> str:
    """A rate rounded down to three digits, so that whoever writes it keeps below."""
    digits = f"{rate_hz:.2e}"
    value = float(digits)
    if value > rate_hz:
        value -= 10.0 ** (int(digits.split("e")[1]) - 2)
    return f"{value:g}"


def _refusal(reasons: list[Reason]) -> ConfigError:
    """All reasons in one error; a single one keeps its code."""
    if len(reasons) == 1:
        return ConfigError(reasons[0].sentence, hint=reasons[0].hint, code=reasons[0].code)
    lines = "".join(f"\n  [{r.code}] {r.sentence}\n    → {r.hint}" for r in reasons)
    return ConfigError(
        f"{len(reasons)} reasons why this rig cannot do this plan:{lines}",
        hint="mend each as it says; nothing was lit",
        code="plan.impossible",
    )
