"""A scene in front of the camera: which frames are taken, how long they are exposed, and the recording of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition.simulator.caster import NOTHING
from rakelight.acquisition.simulator.rig import REFERENCE_MM, Rig
from rakelight.acquisition.simulator.scene import Lit, Scene
from rakelight.acquisition.simulator.solid import Part
from rakelight.dataset.recording import Description, Shot
from rakelight.dataset.recording_writer import RecordingWriter
from rakelight.reconstruction.patterns import Pattern, PatternSet, Uniform

PEAK = 0.75  # of full well: what the brightest matte surface of a product reaches


@dataclass(frozen=True)
class Exposures:
    """Exposure times in µs: one light zone, all zones together, a projector."""

    zone_us: float
    all_zones_us: float
    pattern_us: float


def matte_exposures(rig: Rig, albedo: float, height_mm: float = 0.0) -> Exposures:
    """Exposures under which a matte surface of ``albedo`` that faces a source ``height_mm`` above the table reaches 75 %.

    One surface can face one light only; all zones together are exposed for a level surface.
    """
    nearer = (REFERENCE_MM / (REFERENCE_MM - height_mm)) ** 2
    per_us = rig.electrons_per_us * albedo * nearer
    lights = [light.strength for light in rig.lights]
    slant = [light.position_mm[2] / np.linalg.norm(light.position_mm) for light in rig.lights]
    together = max(float(np.dot(lights, slant)), max(lights))
    projected = max((p.strength for p in rig.projectors), default=1.0)
    return _exposures(rig, per_us * max(lights), per_us * together, per_us * projected)


def set_exposures(part: Part, rig: Rig) -> Exposures:
    """The exposures that a technician sets on a golden part: 99 % of its photosites stay below 75 % of full well.

    Under every zone, under all together, and under a projector that shows white, with ``part`` in the middle of the
    table. To be set once for a product, so that the exposure tells nothing of a specimen or its defect.
    """
    scene = Scene(part, rig, samples=1)
    shown = (scene.surface.body > 0) & (scene.surface.body < NOTHING)

    def peak(rate: NDArray[np.float32]) -> float:
        return float(np.percentile(rate[shown], 99))

    zones = [scene.zone_rate(light.zone) for light in rig.lights]
    white = [scene.pattern_rate(p.direction, Uniform(1.0)) for p in rig.projectors]
    return _exposures(rig, max(map(peak, zones)), peak(np.sum(zones, axis=0)), max(map(peak, white), default=1.0))


def _exposures(rig: Rig, *electrons_per_us: float) -> Exposures:
    """Whole µs in which these rates fill the well to 75 %."""
    return Exposures(*(float(max(1, round(PEAK * rig.sensor.full_well_e / rate))) for rate in electrons_per_us))


@dataclass(frozen=True)
class PlannedFrame:
    """One frame to take: its shot as the recording keeps it, what is lit, and for how long."""

    shot: Shot
    lit: Lit
    exposure_us: float


def plan(
    rig: Rig, times: Exposures, pattern_set: PatternSet | None, bracket: Sequence[float] = ()
) -> tuple[PlannedFrame, ...]:
    """The frames of one part: each zone, all zones, the room alone, then every pattern from every projector.

    ``bracket`` holds further exposures of all patterns as multiples of ``times.pattern_us``; a projector shows its whole
    set under the shortest exposure, then under the next longer one.
    """
    zones = [light.zone for light in rig.lights]
    frames = [
        PlannedFrame(Shot(name=f"zone{zone}", role="zone", zone=zone), Lit({zone: 1.0}), times.zone_us)
        for zone in zones
    ]
    together = Lit(dict.fromkeys(zones, 1.0))
    frames.append(PlannedFrame(Shot(name="all_zones", role="all_zones"), together, times.all_zones_us))
    frames.append(PlannedFrame(Shot(name="ambient", role="ambient"), Lit(), times.zone_us))
    patterns = pattern_set.patterns if pattern_set is not None else ()
    exposures_us = [float(max(1, round(times.pattern_us * share))) for share in sorted((1.0, *bracket))]
    for projector in rig.projectors:
        for place, exposure_us in enumerate(exposures_us, 1):
            for number, pattern in enumerate(patterns, 1):
                shot = _pattern_shot(projector.direction, place, number, pattern)
                frames.append(PlannedFrame(shot, Lit({}, projector.direction, pattern), exposure_us))
    return tuple(frames)


def _pattern_shot(projector: int, place: int, number: int, pattern: Pattern) -> Shot:
    """``place``: of the exposure in the bracket, from 1."""
    prefix = f"p{projector}" if place == 1 else f"p{projector}b{place}"
    return Shot(
        name=f"{prefix}_{number:02d}", role="pattern", projector=projector, pattern=pattern.to_plain(), bracket=place
    )


def describe(
    rig: Rig,
    frames: tuple[PlannedFrame, ...],
    *,
    part_id: str,
    target: str,
    pattern_set: PatternSet | None,
    **facts: object,
) -> Description:
    """What the recording says about itself; ``simulated`` for ever."""
    return Description.model_validate(
        {
            "part_id": part_id,
            "target": target,
            "pixel_format": rig.sensor.pixel_format,
            "linear": True,
            "simulated": True,
            "rig_id": "reference-simulated-rig",
            "plan": tuple(frame.shot for frame in frames),
            "pattern_set": pattern_set.to_plain() if pattern_set is not None else None,
            **facts,
        }
    )


def take(
    scene: Scene,
    frames: tuple[PlannedFrame, ...],
    writer: RecordingWriter,
    noise: np.random.Generator,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Expose every planned frame and hand it to the writer."""
    seeds = noise.integers(0, 2**63, len(frames))
    for number, (frame, seed) in enumerate(zip(frames, seeds, strict=True)):
        progress(number + 1, len(frames))
        image = scene.frame(frame.lit, frame.exposure_us, int(seed))
        writer.add(frame.shot.name, image, exposure_us=frame.exposure_us, gain_db=0.0, frame_id=number)
