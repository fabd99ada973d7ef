"""Recipe: what to capture of a product, as recipe.toml says it, and the plan of shots that follows from it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from rakelight import config
from rakelight.dataset.options import KeepRaw
from rakelight.dataset.recording import Shot, Target
from rakelight.errors import ConfigError
from rakelight.reconstruction.patterns import Axis, GrayPhaseShift, MultiFrequency, PatternSet, Uniform

SCHEMA = 1
_MOST_EXPOSURES = 9
_LEAST_REGION_PX = 32
_DARK_FRAMES = 8  # their mean is the dark map: a third of one frame's noise
_LEAST_STEP = 1.2  # between two exposures of a pattern; closer ones tell nothing that one of them does not

Exposure = Annotated[float, Field(gt=0, le=1e7)]
Region = tuple[int, int, int, int]
"""x, y, width, height in px of the frame."""


class PatternRecipe(config.Model):
    """What the projectors show; one set for all directions.

    ``axes`` ``("column",)`` is enough for depth; a board that calibrates projectors needs ``("column", "row")``.
    ``bracket_us`` holds further exposures of every pattern besides ``exposure_us``. ``frame_rate_hz`` is that of bursts;
    None: as fast as camera and projector can.
    """

    code: Literal["gray", "multi_frequency"] = "gray"
    steps: int = Field(default=8, ge=3, le=64)
    period_px: int = Field(default=16, ge=4, le=512)
    periods_px: tuple[float, ...] = ()
    width: int = Field(default=912, ge=8, le=16384)
    height: int = Field(default=1140, ge=8, le=16384)
    axes: tuple[Axis, ...] = Field(default=("column",), min_length=1, max_length=2)
    directions: tuple[int, ...] = ()
    exposure_us: Exposure
    bracket_us: tuple[Exposure, ...] = ()
    frame_rate_hz: float | None = Field(default=None, gt=0, le=1e4)
    white_and_black: bool = True

    @model_validator(mode="after")
    def _exposures_differ(self) -> PatternRecipe:
        exposures = self.exposures_us
        if len(exposures) > _MOST_EXPOSURES:
            raise ValueError(f"exposure_us and bracket_us are {len(exposures)} exposures; allowed: {_MOST_EXPOSURES}")
        for shorter, longer in pairwise(exposures):
            if longer < _LEAST_STEP * shorter:
                raise ValueError(
                    f"exposure_us and bracket_us: {shorter:g} and {longer:g} µs are {longer / shorter:.3g}× apart; needed: "
                    f"{_LEAST_STEP}× or more"
                )
        return self

    @property
    def exposures_us(self) -> tuple[float, ...]:
        """All exposures of each pattern, µs, ascending."""
        return tuple(sorted((self.exposure_us, *self.bracket_us)))

    def pattern_set(self) -> PatternSet:
        """The set; raises :class:`InputError` for codes that do not cover the projector."""
        if self.code == "gray":
            return PatternSet(self.width, self.height, GrayPhaseShift(self.steps, self.period_px), self.axes)
        periods = {"periods_px": self.periods_px} if self.periods_px else {}
        return PatternSet(self.width, self.height, MultiFrequency(self.steps, **periods), self.axes)


class Limits(config.Model):
    """Limits of the checks on content; shares from 0 to 1 where the name has no unit. See ``checks``."""

    saturated: float = Field(default=0.005, ge=0, le=1)
    under_exposed: float = Field(default=0.04, ge=0, le=1)
    dead_zone: float = Field(default=0.25, ge=0, le=1)
    zone_order_deg: float = Field(default=60.0, gt=0, le=180)
    zone_distinct: float = Field(default=0.05, ge=0, le=1)
    ambient: float = Field(default=0.05, ge=0, le=1)
    dark_projector: float = Field(default=0.2, ge=0, le=1)
    black_pattern: float = Field(default=0.05, ge=0, le=1)
    pattern_inverse: float = Field(default=0.05, ge=0, le=1)
    focus_px: float = Field(default=0.0, ge=0, le=32)
    motion_px: float = Field(default=0.5, gt=0)


class Recipe(config.Model):
    """The content of recipe.toml.

    ``zones`` empty: all of the rig. ``exposure_us`` is that of each zone alone; all zones together take
    ``all_zones_exposure_us``. The ambient frame has the zones' exposure, as its subtraction needs. ``repeat`` takes all zones
    together once more at the end, to see whether the part moved. ``region`` is where the checks look at the content:
    [x, y, width, height] in px of the frame, by default all of it. ``target`` is what lies under the camera, for the recording;
    ``dark`` (lens covered) takes dark frames of ``exposure_us`` alone. Of chrome spheres the diameter and number are told too.
    ``keep_raw`` says which raw frames go into a data set's samples: none, the ``stack`` under the lights, or all.
    """

    schema_: int = Field(alias="schema", default=SCHEMA)
    product: str = Field(min_length=1, max_length=80)
    target: Target = "part"
    sphere_diameter_mm: float | None = Field(default=None, gt=0, le=1000)
    sphere_count: int = Field(default=1, ge=1, le=16)
    exposure_us: Exposure
    all_zones_exposure_us: Exposure | None = None
    gain_db: float = Field(default=0.0, ge=0, le=48)
    zones: tuple[int, ...] = ()
    ambient: bool = True
    repeat: bool = True
    patterns: PatternRecipe | None = None
    part_id_regex: str = r"[A-Za-z0-9_.-]{1,120}"
    region: Region | None = None
    limits: Limits = Limits()
    retries: int = Field(default=2, ge=0, le=10)
    keep_raw: KeepRaw = "none"

    @model_validator(mode="after")
    def _zones_differ(self) -> Recipe:
        if len(set(self.zones)) < len(self.zones):
            raise ValueError(f"zones {list(self.zones)} name a zone twice")
        return self

    @model_validator(mode="after")
    def _region_has_a_size(self) -> Recipe:
        if self.region is not None and (min(self.region[:2]) < 0 or min(self.region[2:]) < _LEAST_REGION_PX):
            raise ValueError(
                f"region {list(self.region)} is [x, y, width, height]; allowed: x and y from 0, width and height from "
                f"{_LEAST_REGION_PX} px"
            )
        return self

    @model_validator(mode="after")
    def _spheres_are_spheres(self) -> Recipe:
        if self.target != "chrome_sphere" and (self.sphere_diameter_mm is not None or self.sphere_count != 1):
            raise ValueError(
                f"sphere_diameter_mm and sphere_count belong to target 'chrome_sphere'; the target is {self.target!r}"
            )
        return self

    def region_in(self, width: int, height: int) -> Region | None:
        """``region``, if it lies in a frame of ``width`` × ``height`` px; otherwise :class:`ConfigError` (``recipe.region``)."""
        if self.region is not None and (
            self.region[0] + self.region[2] > width or self.region[1] + self.region[3] > height
        ):
            x, y, across, down = self.region
            raise ConfigError(
                f"the recipe's region reaches from {x}, {y} to {x + across}, {y + down} px; the camera's frame has "
                f"{width}×{height} px",
                hint="mend region = [x, y, width, height] in the recipe, or leave it out to check the whole frame",
                code="recipe.region",
            )
        return self.region


def load_recipe(path: str | Path) -> Recipe:
    """Read recipe.toml; raises :class:`ConfigError` naming file, key and range."""
    return config.load_toml(path, Recipe)


@dataclass(frozen=True)
class PlannedShot:
    """One exposure: how the recording names it, which zones are lit, what which projector shows (place in the sequence)."""

    shot: Shot
    zones: tuple[int, ...]
    exposure_us: float
    direction: int | None = None
    index: int | None = None


@dataclass(frozen=True)
class Plan:
    """All shots of one part in order, and the sequence that is loaded into the projectors (plain data).

    ``frame_rate_hz`` is what the recipe wants of bursts; None: as fast as they go.
    """

    shots: tuple[PlannedShot, ...]
    sequence: tuple[dict[str, object], ...]
    pattern_set: PatternSet | None
    absent: tuple[str, ...]
    frame_rate_hz: float | None = None

    @property
    def exposure_s(self) -> float:
        """Time of the exposures alone."""
        return sum(shot.exposure_us for shot in self.shots) / 1e6


def make_plan(recipe: Recipe, zones: Collection[int], directions: Collection[int]) -> Plan:
    """The shots that ``recipe`` means on a rig with these light zones and projector directions.

    Of target ``dark``: dark frames and nothing else. Otherwise, in order:
    each zone, all zones, the room alone, the patterns (for each direction every exposure ascending, and in one
    exposure every pattern), all zones once more. What the rig does not have is left out and named in ``absent``; what the
    recipe asks for by number and the rig does not have is a :class:`ConfigError` (``recipe.zone``, ``recipe.direction``), and so
    is a plan without any shot (``recipe.empty``).
    """
    if recipe.target == "dark":
        names = [f"dark{number}" for number in range(1, _DARK_FRAMES + 1)]
        dark = tuple(PlannedShot(Shot(name=name, role="dark"), (), recipe.exposure_us) for name in names)
        return Plan(dark, (), None, ())
    wanted = recipe.zones or tuple(sorted(zones))
    _check("zone", wanted, zones)
    absent = [] if wanted else ["lights"]
    together_us = recipe.all_zones_exposure_us or recipe.exposure_us
    shots = [
        PlannedShot(Shot(name=f"zone{zone}", role="zone", zone=zone), (zone,), recipe.exposure_us) for zone in wanted
    ]
    if wanted:
        shots.append(PlannedShot(Shot(name="all_zones", role="all_zones"), tuple(wanted), together_us))
    if recipe.ambient:
        shots.append(PlannedShot(Shot(name="ambient", role="ambient"), (), recipe.exposure_us))
    chosen: tuple[int, ...] = ()
    pattern_set: PatternSet | None = None
    sequence: tuple[dict[str, object], ...] = ()
    frame_rate_hz: float | None = None
    if recipe.patterns is not None:
        chosen = recipe.patterns.directions or tuple(sorted(directions))
        _check("direction", chosen, directions)
        pattern_set, frame_rate_hz = recipe.patterns.pattern_set(), recipe.patterns.frame_rate_hz
        sequence = _sequence(recipe.patterns, pattern_set)
        for direction in chosen:
            shots += _pattern_shots(direction, recipe.patterns.exposures_us, sequence)
    if wanted and recipe.repeat:
        shots.append(PlannedShot(Shot(name="repeat", role="repeat"), tuple(wanted), together_us))
    if not shots:
        raise ConfigError(
            "nothing is left to capture: the rig has neither lights nor the projectors that the recipe could use, and "
            "the recipe wants no frame of the room (ambient = false)",
            hint="add [lights] or [projector] to rig.toml, or [patterns] or ambient = true to the recipe",
            code="recipe.empty",
        )
    absent += [] if chosen else ["patterns"]
    return Plan(tuple(shots), sequence, pattern_set, tuple(absent), frame_rate_hz)


def _sequence(recipe: PatternRecipe, pattern_set: PatternSet) -> tuple[dict[str, object], ...]:
    """All patterns of one direction as plain data."""
    patterns = list(pattern_set.patterns)
    if recipe.white_and_black:
        patterns += [Uniform(1.0), Uniform(0.0)]
    return tuple(pattern.to_plain() for pattern in patterns)


def _pattern_shots(
    direction: int, exposures_us: tuple[float, ...], sequence: tuple[dict[str, object], ...]
) -> Iterator[PlannedShot]:
    """The shots of one direction: the sequence once for each exposure, shortest first."""
    for bracket, exposure_us in enumerate(exposures_us, 1):
        head = f"p{direction}" if bracket == 1 else f"p{direction}b{bracket}"
        for index, plain in enumerate(sequence):
            name = f"{head}_{index + 1:02d}"
            shot = Shot(name=name, role="pattern", projector=direction, pattern=plain, bracket=bracket)
            yield PlannedShot(shot, (), exposure_us, direction, index)


def _check(what: str, wanted: Collection[int], there: Collection[int]) -> None:
    if missing := sorted(set(wanted) - set(there)):
        raise ConfigError(
            f"the recipe asks for {what} {', '.join(map(str, missing))}; the rig has "
            f"{', '.join(map(str, sorted(there))) or 'none'}",
            hint=f"mend the recipe, or leave {what}s out of it to use all there are",
            code=f"recipe.{what}",
        )
