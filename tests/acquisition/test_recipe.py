"""From recipe.toml to the shots of a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from rakelight.acquisition.recipe import PatternRecipe, Recipe, load_recipe, make_plan
from rakelight.errors import ConfigError, InputError

BASE = 'schema = 1\nproduct = "knob"\nexposure_us = 5000\n'


def test_the_least_recipe(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(BASE)
    plan = make_plan(load_recipe(tmp_path / "r.toml"), (1, 2, 3, 4), (1, 2, 3, 4))
    assert [s.shot.name for s in plan.shots] == ["zone1", "zone2", "zone3", "zone4", "all_zones", "ambient"]
    assert [s.zones for s in plan.shots] == [(1,), (2,), (3,), (4,), (1, 2, 3, 4), ()]
    assert {s.exposure_us for s in plan.shots} == {5000} and plan.exposure_s == pytest.approx(0.03)
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
