"""Recipes of calibration targets: what the recording is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rakelight.acquisition.capture import capture
from rakelight.acquisition.recipe import PatternRecipe, Recipe, load_recipe, make_plan
from rakelight.acquisition.rig import Rig
from rakelight.dataset.recording import Recording
from rakelight.errors import ConfigError, InputError

BASE = 'schema = 1\nproduct = "gauge"\nexposure_us = 5000\n'


def _load(folder: Path, text: str) -> Recipe:
    (folder / "r.toml").write_text(BASE + text)
    return load_recipe(folder / "r.toml")


def test_a_recipe_names_its_target(tmp_path: Path) -> None:
    assert _load(tmp_path, "").target == "part"
    assert _load(tmp_path, 'target = "step_gauge"').target == "step_gauge"
    spheres = _load(tmp_path, 'target = "chrome_sphere"\nsphere_diameter_mm = 10\nsphere_count = 2')
    assert (spheres.sphere_diameter_mm, spheres.sphere_count) == (10, 2)
    with pytest.raises(ConfigError, match="target"):
        _load(tmp_path, 'target = "moon"')
    with pytest.raises(ConfigError, match="belong to target 'chrome_sphere'; the target is 'flat'"):
        _load(tmp_path, 'target = "flat"\nsphere_diameter_mm = 10')


def test_dark_is_dark_frames_alone() -> None:
    recipe = Recipe(product="dark", target="dark", exposure_us=700, patterns=PatternRecipe(exposure_us=1))
    plan = make_plan(recipe, (1, 2), (1,))
    assert {s.shot.role for s in plan.shots} == {"dark"} and len({s.shot.name for s in plan.shots}) == 8
    assert {(s.zones, s.exposure_us, s.direction) for s in plan.shots} == {((), 700.0, None)}


def test_patterns_of_both_axes() -> None:
    recipe = PatternRecipe(exposure_us=1, axes=("column", "row"))
    assert len(recipe.pattern_set().patterns) > len(PatternRecipe(exposure_us=1).pattern_set().patterns)
    with pytest.raises(InputError, match="each once"):
        PatternRecipe(exposure_us=1, axes=("row", "row")).pattern_set()


@pytest.mark.slow
def test_recordings_say_what_they_show_and_a_hand_lays_it_there(tmp_path: Path) -> None:
    pytest.importorskip("genicam")
    recipe = Recipe(product="x", exposure_us=5000, all_zones_exposure_us=1800)
    with Rig.open("sim://targets?width=456&samples=1&projector=0") as rig:
        assert rig.bench is not None
        rig.bench.place("white_plane")
        capture(rig, recipe, tmp_path / "white", part_id="w", target="white_plane")
        rig.bench.place("chrome_spheres", pose={"angle_deg": 30.0})
        capture(
            rig, recipe, tmp_path / "s", part_id="s", target="chrome_sphere", sphere_diameter_mm=10.0, sphere_count=2
        )
        rig.bench.place("cover")
        capture(rig, recipe, tmp_path / "dark", part_id="d", target="dark")
        with pytest.raises(ConfigError, match="sphere_diameter_mm"):
            capture(rig, recipe, tmp_path / "no", part_id="n", target="flat", sphere_diameter_mm=3.0)
        for wrong in ({"target": "moon"}, {"target": "charuco", "pose": {"z_mm": 500.0}}):
            with pytest.raises(InputError):
                rig.bench.place(**wrong)  # type: ignore[arg-type]
        rig.bench.place("charuco", 3)  # and it goes on
    white, spheres, dark = (Recording.open(tmp_path / name) for name in ("white", "s", "dark"))
    assert white.info.target == "white_plane" and dark.info.target == "dark"
    assert (spheres.info.sphere_diameter_mm, spheres.info.sphere_count) == (10.0, 2)
    levels = [r.read(r.info.frames[0]).mean() for r in (white, spheres, dark)]
    assert levels[0] > 3 * levels[1] > 3 * levels[2] and levels[2] == pytest.approx(64, abs=1)
