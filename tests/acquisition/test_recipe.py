"""From recipe.toml to the shots of a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from rakelight.acquisition.recipe import PatternRecipe, Recipe, load_recipe, make_plan
from rakelight.errors import ConfigError, InputError

_LIGHTS = ["zone1", "zone2", "zone3", "zone4", "all_zones", "ambient"]
BASE = 'schema = 1\nproduct = "knob"\nexposure_us = 5000\n'


def test_the_least_recipe(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(BASE)
    plan = make_plan(load_recipe(tmp_path / "r.toml"), (1, 2, 3, 4), (1, 2, 3, 4))
    assert [s.shot.name for s in plan.shots] == [*_LIGHTS, "repeat"]
    assert [s.zones for s in plan.shots] == [(1,), (2,), (3,), (4,), (1, 2, 3, 4), (), (1, 2, 3, 4)]
    assert {s.exposure_us for s in plan.shots} == {5000} and plan.exposure_s == pytest.approx(0.035)
    assert plan.absent == ("patterns",) and not plan.sequence


def test_patterns_of_each_direction_are_one_sequence(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(
        BASE + "[patterns]\nexposure_us = 2000\nsteps = 4\nperiod_px = 32\ndirections = [2, 4]\n"
    )
    plan = make_plan(load_recipe(tmp_path / "r.toml"), (1,), (1, 2, 3, 4))
    shots = [s for s in plan.shots if s.direction is not None]
    assert plan.pattern_set is not None and len(plan.sequence) == len(plan.pattern_set.patterns) + 2
    assert [(s.direction, s.index) for s in shots] == [(d, k) for d in (2, 4) for k in range(len(plan.sequence))]
    assert all(s.shot.pattern == plan.sequence[s.index or 0] for s in shots) and not any(s.zones for s in shots)
    assert [p["level"] for p in plan.sequence[-2:]] == [1.0, 0.0]
    assert plan.absent == ()


def test_each_exposure_of_a_bracket_is_a_sequence_of_its_own() -> None:
    patterns = PatternRecipe(
        steps=4, period_px=32, exposure_us=3000, bracket_us=(12000, 750), directions=(2, 3), frame_rate_hz=20
    )
    plan = make_plan(Recipe(product="x", exposure_us=5000, patterns=patterns), (1, 2), (1, 2, 3, 4))
    shots, count = [s for s in plan.shots if s.direction is not None], len(plan.sequence)
    assert len(shots) == 2 * 3 * count and plan.frame_rate_hz == 20
    expected = [(d, us, k) for d in (2, 3) for us in (750, 3000, 12000) for k in range(count)]
    assert [(s.direction, s.exposure_us, s.index) for s in shots] == expected, "direction, then exposure, then pattern"
    assert [s.shot.name for s in shots[::count]] == ["p2_01", "p2b2_01", "p2b3_01", "p3_01", "p3b2_01", "p3b3_01"]
    assert [s.shot.bracket for s in shots[::count]] == [1, 2, 3, 1, 2, 3]
    assert all(s.shot.pattern == plan.sequence[s.index or 0] for s in shots)
    assert len({s.shot.name for s in plan.shots}) == len(plan.shots)


def test_the_last_shot_repeats_all_zones() -> None:
    recipe = Recipe(
        product="x", exposure_us=100, all_zones_exposure_us=40, zones=(2, 1), patterns=PatternRecipe(exposure_us=9)
    )
    plan = make_plan(recipe, (1, 2, 3), (1,))
    again, first = plan.shots[-1], next(s for s in plan.shots if s.shot.role == "all_zones")
    assert (again.shot.name, again.shot.role) == ("repeat", "repeat")
    assert (again.zones, again.exposure_us) == (first.zones, first.exposure_us) == ((2, 1), 40)
    for without, zones in (
        (recipe.model_copy(update={"repeat": False}), (1, 2)),
        (Recipe(product="x", exposure_us=1), ()),
    ):
        assert "repeat" not in {s.shot.role for s in make_plan(without, zones, (1,)).shots}


def test_a_rig_without_lights_or_projectors() -> None:
    recipe = Recipe(product="x", exposure_us=100, patterns=PatternRecipe(exposure_us=100))
    plan = make_plan(recipe, (), ())
    assert [s.shot.name for s in plan.shots] == ["ambient"] and plan.absent == ("lights", "patterns")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("exposure_us = 0\n", "exposure_us = 0"),
        ("exposure_us = 5\nzones = [1, 1]\n", "name a zone twice"),
        ("exposure_us = 5\nexposure = 3\n", "unknown key exposure"),
        ("exposure_us = 5\n[patterns]\nexposure_us = 5\nsteps = 2\n", "patterns.steps = 2"),
        ("exposure_us = 5\n[patterns]\nexposure_us = 500\nbracket_us = [590]\n", r"500 and 590 µs are 1.18× apart"),
        ("exposure_us = 5\n[patterns]\nexposure_us = 500\nbracket_us = [500]\n", r"500 and 500 µs are 1× apart"),
        ("exposure_us = 5\n[patterns]\nexposure_us = 5\nbracket_us = [0]\n", r"bracket_us\[1\] = 0"),
        (
            "exposure_us = 5\n[patterns]\nexposure_us = 1\nbracket_us = [2, 4, 8, 16, 32, 64, 128, 256, 512]\n",
            "are 10 exposures; allowed: 9",
        ),
    ],
)
def test_wrong_recipes(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "r.toml").write_text('schema = 1\nproduct = "knob"\n' + text)
    with pytest.raises(ConfigError, match=told) as caught:
        load_recipe(tmp_path / "r.toml")
    assert "r.toml" in caught.value.message


def test_what_the_rig_does_not_have() -> None:
    with pytest.raises(ConfigError, match=r"asks for zone 5; the rig has 1, 2") as caught:
        make_plan(Recipe(product="x", exposure_us=1, zones=(1, 5)), (1, 2), ())
    assert caught.value.code == "recipe.zone"
    ambiguous = PatternRecipe(code="multi_frequency", periods_px=(16.0, 17.0), exposure_us=1)
    with pytest.raises(InputError):
        make_plan(Recipe(product="x", exposure_us=1, patterns=ambiguous), (1,), (1,))


def test_a_plan_without_a_shot_is_refused() -> None:
    recipe = Recipe(product="x", exposure_us=1000, ambient=False)
    with pytest.raises(ConfigError, match="nothing is left to capture") as caught:
        make_plan(recipe, (), ())
    assert caught.value.code == "recipe.empty"
    assert len(make_plan(recipe.model_copy(update={"ambient": True}), (), ()).shots) == 1
