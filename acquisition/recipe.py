"""Recipe: what to capture of a product, as recipe.toml says it, and the plan of shots that follows from it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from rakelight import config
from rakelight.dataset.recording import Shot
from rakelight.errors import ConfigError
from rakelight.reconstruction.patterns import GrayPhaseShift, MultiFrequency, PatternSet, Uniform

SCHEMA = 1


class PatternRecipe(config.Model):
    """What the projectors show; one set for all directions."""

    code: Literal["gray", "multi_frequency"] = "gray"
    steps: int = Field(default=8, ge=3, le=64)
    period_px: int = Field(default=16, ge=4, le=512)
    periods_px: tuple[float, ...] = ()
    width: int = Field(default=912, ge=8, le=16384)
    height: int = Field(default=1140, ge=8, le=16384)
    directions: tuple[int, ...] = ()
    exposure_us: float = Field(gt=0, le=1e7)
    white_and_black: bool = True

    def pattern_set(self) -> PatternSet:
        """The set; raises :class:`InputError` for codes that do not cover the projector."""
        if self.code == "gray":
            return PatternSet(self.width, self.height, GrayPhaseShift(self.steps, self.period_px))
        periods = {"periods_px": self.periods_px} if self.periods_px else {}
        return PatternSet(self.width, self.height, MultiFrequency(self.steps, **periods))


class Limits(config.Model):
    """Limits of the checks on content, shares from 0 to 1; see ``checks``."""

    saturated: float = Field(default=0.005, ge=0, le=1)
    dark: float = Field(default=0.999, ge=0, le=1)
    ambient: float = Field(default=0.05, ge=0, le=1)
    zone_balance: float = Field(default=0.5, gt=0, le=1)
    motion_px: float = Field(default=0.5, gt=0)


class Recipe(config.Model):
    """The content of recipe.toml.

    ``zones`` empty: all of the rig. ``exposure_us`` is that of each zone alone; all zones together take
    ``all_zones_exposure_us``. The ambient frame has the zones' exposure, as its subtraction needs.
    """

    schema_: int = Field(alias="schema", default=SCHEMA)
    product: str = Field(min_length=1, max_length=80)
    exposure_us: float = Field(gt=0, le=1e7)
    all_zones_exposure_us: float | None = Field(default=None, gt=0, le=1e7)
    gain_db: float = Field(default=0.0, ge=0, le=48)
    zones: tuple[int, ...] = ()
    ambient: bool = True
    patterns: PatternRecipe | None = None
    part_id_regex: str = r"[A-Za-z0-9_.-]{1,120}"
    limits: Limits = Limits()
    retries: int = Field(default=2, ge=0, le=10)

    @model_validator(mode="after")
    def _zones_differ(self) -> Recipe:
        if len(set(self.zones)) < len(self.zones):
            raise ValueError(f"zones {list(self.zones)} name a zone twice")
        return self


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
    """All shots of one part in order, and the sequence that is loaded into the projectors (plain data)."""

    shots: tuple[PlannedShot, ...]
    sequence: tuple[dict[str, object], ...]
    pattern_set: PatternSet | None
    absent: tuple[str, ...]

    @property
    def exposure_s(self) -> float:
        """Time of the exposures alone."""
        return sum(shot.exposure_us for shot in self.shots) / 1e6


def make_plan(recipe: Recipe, zones: Collection[int], directions: Collection[int]) -> Plan:
    """The shots that ``recipe`` means on a rig with these light zones and projector directions.

    What the rig does not have is left out and named in ``absent``; what the recipe asks for by number and the rig does not
    have is a :class:`ConfigError` (``recipe.zone``, ``recipe.direction``).
    """
    wanted = recipe.zones or tuple(sorted(zones))
    _check("zone", wanted, zones)
    absent = [] if wanted else ["lights"]
    shots = [
        PlannedShot(Shot(name=f"zone{zone}", role="zone", zone=zone), (zone,), recipe.exposure_us) for zone in wanted
    ]
    if wanted:
        together = recipe.all_zones_exposure_us or recipe.exposure_us
        shots.append(PlannedShot(Shot(name="all_zones", role="all_zones"), tuple(wanted), together))
    if recipe.ambient:
        shots.append(PlannedShot(Shot(name="ambient", role="ambient"), (), recipe.exposure_us))
    if recipe.patterns is None:
        return Plan(tuple(shots), (), None, (*absent, "patterns"))
    chosen = recipe.patterns.directions or tuple(sorted(directions))
    _check("direction", chosen, directions)
    pattern_set = recipe.patterns.pattern_set()
    patterns = list(pattern_set.patterns)
    if recipe.patterns.white_and_black:
        patterns += [Uniform(1.0), Uniform(0.0)]
    sequence = tuple(pattern.to_plain() for pattern in patterns)
    for direction in chosen:
        for index, plain in enumerate(sequence):
            shot = Shot(name=f"p{direction}_{index + 1:02d}", role="pattern", projector=direction, pattern=plain)
            shots.append(PlannedShot(shot, (), recipe.patterns.exposure_us, direction, index))
    return Plan(tuple(shots), sequence, pattern_set, (*absent, *([] if chosen else ["patterns"])))


def _check(what: str, wanted: Collection[int], there: Collection[int]) -> None:
    if missing := sorted(set(wanted) - set(there)):
        raise ConfigError(
            f"the recipe asks for {what} {', '.join(map(str, missing))}; the rig has "
            f"{', '.join(map(str, sorted(there))) or 'none'}",
            hint=f"mend the recipe, or leave {what}s out of it to use all there are",
            code=f"recipe.{what}",
        )
