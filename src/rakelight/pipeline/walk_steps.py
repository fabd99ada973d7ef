"""The steps of a guided calibration: what is laid under the camera, in which words, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from rakelight.acquisition.recipe import PatternRecipe, Recipe
from rakelight.calibration.boards import Board
from rakelight.pipeline.guide import POSES, Needs
from rakelight.pipeline.walk_eye import Eye
from rakelight.pipeline.walk_session import Kind
from rakelight.reconstruction.patterns import Axis

SPHERE_PLACES = 2
_BOTH: tuple[Axis, ...] = ("column", "row")


@dataclass(frozen=True)
class Step:
    """What is to be done next.

    ``number`` counts from 1 within the kind; ``of`` is how many there are at least.
    """

    kind: Kind
    number: int
    of: int
    title: str
    instruction: str


def next_step(
    missing: Needs, counts: dict[Kind, int], skipped: Collection[Kind], board: Board, count: int
) -> Step | None:
    """The first step that is not done and not left out; None when all are.

    ``missing`` is what board poses are needed, ``counts`` how many recordings of each kind there are, ``count`` the number of
    spheres that are laid at once.
    """
    if "board" not in skipped and not missing.met:
        number = counts["board"] + 1
        told = missing.advice or "turn and tilt the board in another way"
        return Step(
            "board",
            number,
            max(POSES, number),
            f"board, pose {number}",
            f"Put the {board.kind} board under the camera: {told}.",
        )
    if "white" not in skipped and counts["white"] < 1:
        text = "Lay the white plate flat on the table, so that it fills the picture, with nothing on it."
        return Step("white", 1, 1, "white plate", text)
    if "spheres" not in skipped and counts["spheres"] < SPHERE_PLACES:
        number = counts["spheres"] + 1
        what = "the chrome sphere" if count == 1 else f"the {count} chrome spheres"
        where = (
            "on the table, whole in the picture" if number == 1 else "in another place, as far from the first as may be"
        )
        return Step("spheres", number, SPHERE_PLACES, f"chrome spheres, place {number}", f"Lay {what} {where}.")
    if "dark" not in skipped and counts["dark"] < 1:
        return Step("dark", 1, 1, "dark", "Cover the lens with its cap.")
    return None


def recipe_of(
    step: Step, board: Board, eye: Eye, patterns: PatternRecipe, sphere_diameter_mm: float | None, sphere_count: int
) -> Recipe:
    """What is captured in a step, with the exposures that were found. ``patterns`` says how they are coded."""
    plain = {"exposure_us": eye.zone_us, "all_zones_exposure_us": eye.all_us}
    shown = patterns.model_copy(update={"exposure_us": eye.pattern_us, "bracket_us": ()})
    if step.kind == "board":
        shown = shown.model_copy(update={"axes": _BOTH})
        return Recipe.model_validate(plain | {"product": "board", "target": board.kind, "patterns": shown})
    if step.kind == "white":
        return Recipe.model_validate(plain | {"product": "white-plate", "target": "white_plane", "patterns": shown})
    if step.kind == "dark":
        return Recipe.model_validate(plain | {"product": "dark", "target": "dark"})
    facts = {"sphere_diameter_mm": sphere_diameter_mm, "sphere_count": sphere_count}
    return Recipe.model_validate(plain | facts | {"product": "chrome-spheres", "target": "chrome_sphere"})
