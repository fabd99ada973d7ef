"""Checks on the pictures, on simulated parts: good ones pass, and each fault is found and named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.acquisition._check import reduced
from rakelight.acquisition._check_picture import edge_width_px
from rakelight.acquisition.capture import AZIMUTHS_DEG, capture
from rakelight.acquisition.checks import Check, Watcher
from rakelight.acquisition.recipe import Limits, PatternRecipe, PlannedShot, Recipe, load_recipe, make_plan
from rakelight.acquisition.rig import Rig
from rakelight.acquisition.simulator.products.catalogue import PRODUCTS
from rakelight.acquisition.simulator.rig import reference_rig
from rakelight.acquisition.simulator.scene import Lit, Scene
from rakelight.acquisition.simulator.specimen import make_specimen
from rakelight.dataset.recording import Shot
from rakelight.errors import ConfigError, InputError, QualityError
from rakelight.pipeline.simulate import product_exposures
from rakelight.reconstruction.patterns import Gray, GrayPhaseShift, Pattern, PatternSet, Sinusoid, Uniform

FULL_SCALE = 4095.0
Frames = list[tuple[PlannedShot, NDArray[Any]]]
ALL = {1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0}


def scene(name: str = "knob_cap", seed: int = 3, defect: str | None = None, **changes: Any) -> Scene:
    specimen = make_specimen(name, seed, defect)
    moved_mm = changes.pop("moved_mm", 0.0)
    turned_deg = changes.pop("turned_deg", 0.0)
    pose = replace(specimen.pose, x_mm=specimen.pose.x_mm + moved_mm, angle_deg=specimen.pose.angle_deg + turned_deg)
    return Scene(specimen.part, replace(reference_rig(456), **changes), pose, samples=1)


def recipe_of(name: str, **patterns: Any) -> Recipe:
    times = product_exposures(name)
    chosen = PatternRecipe(**({"exposure_us": times.pattern_us, "steps": 4, "directions": (2,)} | patterns))
    return Recipe(product=name, exposure_us=times.zone_us, all_zones_exposure_us=times.all_zones_us, patterns=chosen)


def lit(shot: PlannedShot) -> Lit:
    pattern = Pattern.from_plain(shot.shot.pattern) if shot.shot.pattern is not None else None
    return Lit(dict.fromkeys(shot.zones, 1.0), shot.direction, pattern)


def taken(what: Scene, recipe: Recipe, factor: float = 1.0) -> Frames:
    """All frames of the recipe's plan, exposed ``factor`` times as long as it says."""
    shots = make_plan(recipe, (1, 2, 3, 4), (1, 2, 3, 4)).shots
    return [(shot, what.frame(lit(shot), factor * shot.exposure_us, seed)) for seed, shot in enumerate(shots)]


def looked_at(frames: Frames, limits: Limits | None = None, **watcher: Any) -> list[Check]:
    made = Watcher(FULL_SCALE, **watcher)
    for shot, image in frames:
        made.add(shot, image)
    return made.checks(limits or Limits(), AZIMUTHS_DEG)


def failed(checks: list[Check]) -> set[str]:
    return {check.name for check in checks if not check.passed}


def told(checks: list[Check], name: str) -> list[str]:
    return [check.sentence for check in checks if check.name == name and not check.passed]


@pytest.fixture(scope="module")
def knob() -> Scene:
    return scene()


@pytest.fixture(scope="module")
def good(knob: Scene) -> Frames:
    return taken(knob, recipe_of("knob_cap"))


def swapped(frames: Frames, change: Callable[[Shot], str | None]) -> Frames:
    """The frames with the pictures of other shots, by their names; None keeps a shot's own."""
    images = {shot.shot.name: image for shot, image in frames}
    return [(shot, images[change(shot.shot) or shot.shot.name]) for shot, _ in frames]


# ---------------------------------------------------------------------------------------------------------------- good
def test_a_good_part_passes_every_check(good: Frames) -> None:
    found = looked_at(good)
    assert failed(found) == set()
    assert {check.name for check in found} == {
        "saturation", "dead_zone", "zone_order", "zone_distinct", "under_exposure", "ambient",
        "dark_projector", "black_pattern", "pattern_inverse", "focus", "motion",
    }  # fmt: skip
    assert max(c.value for c in found if c.name == "zone_order") < 5, "the side of each lamp is found to a few degrees"
    assert {c.name for c in found if c.at_least} == {
        "dead_zone", "zone_distinct", "under_exposure", "dark_projector",
    }  # fmt: skip
    for check in found:
        assert check.sentence[0].islower() or check.sentence[0].isdigit()
        assert np.isfinite(check.value) and check.to_plain()["value"] == round(check.value, 5)


@pytest.mark.parametrize(("name", "defect"), [("machined_flange", None), ("ferrite_bead", "scratch")])
def test_glossy_steel_and_a_dark_part_pass(name: str, defect: str | None) -> None:
    assert failed(looked_at(taken(scene(name, 4, defect), recipe_of(name)))) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", PRODUCTS)
def test_no_product_is_refused_good_or_defective(name: str) -> None:
    recipe = recipe_of(name, steps=8, directions=(1, 3))
    for seed, defect in ((11, None), (12, "scratch"), (13, "dent"), (14, "contamination"), (15, "stain")):
        try:
            part = scene(name, seed, defect)
        except InputError:  # a defect that does not fit this product
            continue
        checks = looked_at(taken(part, recipe))
        assert failed(checks) == set(), [check.sentence for check in checks if not check.passed]


# --------------------------------------------------------------------------------------------------------------- zones
@pytest.mark.parametrize("zone", [1, 3])
def test_a_dead_lamp_is_told_once(good: Frames, zone: int) -> None:
    found = looked_at(swapped(good, lambda shot: "ambient" if shot.zone == zone else None))
    assert failed(found) == {"dead_zone"}
    (sentence,) = told(found, "dead_zone")
    assert sentence.startswith(f"zone {zone} gives 0%") and "check lamp and cable" in sentence


def test_swapped_cables(good: Frames) -> None:
    frames = swapped(good, lambda shot: {2: "zone3", 3: "zone2"}.get(shot.zone or 0))
    found = looked_at(frames)
    assert failed(found) == {"zone_order"} and [s[:6] for s in told(found, "zone_order")] == ["zone 2", "zone 3"]
    watcher = Watcher(FULL_SCALE)
    for shot, image in frames:
        watcher.add(shot, image)
    assert failed(watcher.checks(Limits(), None)) == set(), "without azimuths nobody knows"


def test_one_lamp_for_two_zones_even_where_nobody_knows_their_sides(knob: Scene, good: Frames) -> None:
    again = knob.frame(Lit({1: 1.0}), good[0][0].exposure_us, 77)  # not the same noise
    frames = [(shot, again if shot.shot.zone == 4 else image) for shot, image in good]
    watcher = Watcher(FULL_SCALE)
    for shot, image in frames:
        watcher.add(shot, image)
    found = watcher.checks(Limits(), None)
    assert failed(found) == {"zone_distinct"}
    (sentence,) = told(found, "zone_distinct")
    assert sentence.startswith("zones 1 and 4 differ by 0.") and "channels" in sentence


def test_exposures_that_are_too_long_or_too_short(knob: Scene) -> None:
    recipe = recipe_of("knob_cap")
    long, short = (looked_at(taken(knob, recipe, factor)) for factor in (4.0, 0.05))
    assert failed(long) == {"saturation"}
    sentences = told(long, "saturation")
    assert [s.split(":")[0] for s in sentences[:5]] == ["zone1", "zone2", "zone3", "zone4", "all_zones"]
    assert any(s.startswith("p2_") and "patterns' exposure" in s for s in sentences)
    assert failed(short) >= {"under_exposure"}
    assert {s[:11] for s in told(short, "under_exposure")} == {"zone 1: bri", "zone 2: bri", "zone 3: bri",
                                                              "zone 4: bri", "projector 2"}  # fmt: skip
    assert all("lengthen" in s for s in told(short, "under_exposure"))


def test_every_colour_of_the_filter_can_saturate() -> None:
    for row, column in ((0, 0), (0, 1), (1, 1)):
        mosaic = np.full((304, 456), 500, np.uint16)
        mosaic[row::2, column::2] = 4095
        watcher = Watcher(FULL_SCALE)
        watcher.add(PlannedShot(Shot(name="zone1", role="zone", zone=1), (1,), 1.0), mosaic)
        assert watcher.saturated["zone1"] == pytest.approx(0.25, abs=0.01)


def test_light_of_the_room(good: Frames) -> None:
    bright = taken(scene(ambient=0.4), recipe_of("knob_cap"))
    found = looked_at([b if a[0].shot.role == "ambient" else a for a, b in zip(good, bright, strict=True)])
    assert "ambient" in failed(found) and "close the hood" in told(found, "ambient")[0]


def test_the_region_decides_what_is_looked_at(knob: Scene, good: Frames) -> None:
    part = knob.surface.body > 0
    v, u = np.nonzero(part)
    region = (int(u.min()), int(v.min()), int(np.ptp(u)) + 1, int(np.ptp(v)) + 1)
    inside, outside = looked_at(good, region=region), looked_at(good, region=(0, 0, 100, 100))
    assert failed(inside) == set()
    level = {k: min(c.value for c in f if c.name == "under_exposure") for k, f in (("in", inside), ("out", outside))}
    assert level["in"] > 0.4 and level["out"] < 0.1, "the part alone, the table alone"
    assert not any(shot.shot.role == "zone" and image.shape != (304, 456) for shot, image in good)


def test_a_region_outside_the_frame_is_told_with_its_size(tmp_path: Path) -> None:
    text = 'schema = 1\nproduct = "knob"\nexposure_us = 5000\nregion = [400, 200, 100, 80]\n'
    (tmp_path / "r.toml").write_text(text)
    recipe = load_recipe(tmp_path / "r.toml")
    assert recipe.region_in(500, 280) == (400, 200, 100, 80)
    assert recipe.model_copy(update={"region": None}).region_in(1, 1) is None
    with pytest.raises(ConfigError, match=r"400, 200 to 500, 280 px; the camera's frame has 456×304 px") as caught:
        recipe.region_in(456, 304)
    assert caught.value.code == "recipe.region" and caught.value.hint
    (tmp_path / "r.toml").write_text(text.replace("100, 80", "100, 8"))
    with pytest.raises(ConfigError, match=r"region \[400, 200, 100, 8\].*from 32 px"):
        load_recipe(tmp_path / "r.toml")


# ----------------------------------------------------------------------------------------------------------- projectors
def test_a_dark_projector_is_told_once(knob: Scene) -> None:
    recipe = recipe_of("knob_cap", directions=(1, 2))
    frames = [
        (shot, knob.frame(Lit() if shot.direction == 1 else lit(shot), shot.exposure_us, seed))
        for seed, (shot, _) in enumerate(taken(knob, recipe))
    ]
    found = looked_at(frames)
    assert failed(found) == {"dark_projector"} and told(found, "dark_projector")[0].startswith("projector 1 shows")


def shown(good: Frames) -> Iterator[tuple[int, Pattern]]:
    """Places of the patterns in the frames."""
    for place, (shot, _) in enumerate(good):
        if shot.shot.pattern is not None:
            yield place, Pattern.from_plain(shot.shot.pattern)


def test_a_projector_that_stays_on_a_pattern_is_found_for_each_of_them(knob: Scene, good: Frames) -> None:
    named = 0
    places = list(shown(good))
    for (_, before), (place, pattern) in pairwise(places):
        shot = good[place][0]
        image = knob.frame(Lit({}, 2, before), shot.exposure_us, 1000 + place)
        found = looked_at([*good[:place], (shot, image), *good[place + 1 :]])
        assert "pattern_inverse" in failed(found), f"{before.name} instead of {pattern.name}"
        sentence = told(found, "pattern_inverse")[0]
        assert sentence.startswith("projector 2: its patterns contradict each other by") and "trigger wire" in sentence
        named += f"{shot.shot.name} ({pattern.name})" in sentence
    assert named >= len(places) - 2, "and named"


def test_a_sequence_that_lost_one_pattern(good: Frames) -> None:
    places = [place for place, _ in shown(good)]
    for lost in (places[0], places[5], places[8]):
        images = [image for place, (_, image) in enumerate(good) if place != lost and place in places]
        late = dict(zip(places, [*images, images[-1]], strict=True))
        found = looked_at([(shot, late.get(place, image)) for place, (shot, image) in enumerate(good)])
        assert "pattern_inverse" in failed(found)


def test_an_inverse_that_is_none(knob: Scene) -> None:
    """Gray images that are also shown inverted, and a phase shift of six."""
    patterns = PatternSet(code=GrayPhaseShift(steps=6, inverse=True)).patterns
    shots = [
        PlannedShot(Shot(name=f"p1_{k}", role="pattern", projector=1, pattern=p.to_plain()), (), 4000.0, 1, k)
        for k, p in enumerate(patterns)
    ]
    frames = [(shot, knob.frame(lit(shot), shot.exposure_us, k)) for k, shot in enumerate(shots)]
    assert failed(looked_at(frames)) == set()
    wrong = next(k for k, p in enumerate(patterns) if isinstance(p, Gray) and p.inverted and p.bit == 2)
    frames[wrong] = (shots[wrong], knob.frame(lit(shots[wrong - 1]), 4000.0, 99))
    found = looked_at(frames)
    assert failed(found) == {"pattern_inverse"} and "column_gray_2_inverse" in told(found, "pattern_inverse")[0]


def test_black_that_is_not_black(knob: Scene, good: Frames) -> None:
    half = knob.frame(Lit({}, 2, Uniform(0.3)), good[-2][0].exposure_us, 5)
    frames = [(s, half if s.shot.pattern == Uniform(0.0).to_plain() else image) for s, image in good]
    assert failed(looked_at(frames)) == {"black_pattern", "pattern_inverse"}


def test_of_bracketed_exposures_the_shortest_may_be_dark_and_the_longest_saturated(knob: Scene) -> None:
    times = product_exposures("knob_cap")
    base = recipe_of("knob_cap", exposure_us=times.pattern_us / 20, bracket_us=(times.pattern_us * 4,))
    found = looked_at(taken(knob, base))
    assert failed(found) == set()
    alone = recipe_of("knob_cap", exposure_us=times.pattern_us * 4)
    assert failed(looked_at(taken(knob, alone))) >= {"saturation"}
    assert "under_exposure" in failed(looked_at(taken(knob, recipe_of("knob_cap", exposure_us=times.pattern_us / 20))))


def test_only_one_direction_is_kept_at_a_time(knob: Scene) -> None:
    watcher = Watcher(FULL_SCALE)
    for shot, image in taken(knob, recipe_of("knob_cap", directions=(1, 2, 3))):
        watcher.add(shot, image)
        assert sum(bool(p.frames) for p in watcher.projectors.values()) <= 1
    assert all(p.doubt is not None for d, p in watcher.projectors.items() if d != 3)


# --------------------------------------------------------------------------------------------------------- whole picture
@pytest.mark.parametrize(
    ("changes", "least_px"), [({"moved_mm": 0.12}, 0.7), ({"moved_mm": 1.5}, 9), ({"turned_deg": 4.0}, 0.55)]
)
def test_a_part_that_moved(good: Frames, changes: dict[str, float], least_px: float) -> None:
    shot, _ = good[-1]
    assert shot.shot.role == "repeat"
    after = scene(**changes).frame(Lit(ALL), shot.exposure_us, 5)
    found = looked_at([*good[:-1], (shot, after)])
    assert failed(found) == {"motion"} and "capture again" in told(found, "motion")[0]
    value = next(c.value for c in found if c.name == "motion")
    assert least_px < value < 30


def test_a_part_that_was_taken_away(good: Frames) -> None:
    shot, _ = good[-1]
    empty = scene("clay_pot").frame(Lit(ALL), shot.exposure_us, 5)
    assert "motion" in failed(looked_at([*good[:-1], (shot, empty)]))


def test_shifts_are_measured_to_a_fraction_of_a_pixel(good: Frames) -> None:
    shot, image = good[-1]
    for u, v in ((2, 0), (0, 4), (6, 8)):
        after = np.pad(image, ((v, 0), (u, 0)), mode="reflect")[: image.shape[0], : image.shape[1]]
        found = looked_at([*good[:-1], (shot, after)])
        assert next(c.value for c in found if c.name == "motion") == pytest.approx(np.hypot(u, v), abs=0.3)
    still = next(c.value for c in looked_at(good) if c.name == "motion")
    assert still < 0.25


def test_without_a_repetition_nothing_is_said_of_motion(good: Frames) -> None:
    assert not [c for c in looked_at(good[:-1]) if c.name == "motion"]


@pytest.mark.parametrize("name", ["knob_cap", "machined_flange", "clay_pot"])
def test_focus_tells_the_blur_whatever_the_part(name: str) -> None:
    widths = [
        edge_width_px(scene(name, blur_px=blur).frame(Lit(ALL), product_exposures(name).all_zones_us, 1))
        for blur in (0.6, 1.5, 3.0)
    ]
    assert widths[0] < 4 < widths[1] < 5.5 < widths[2] < 11


def test_the_limit_on_focus_is_the_recipes(good: Frames) -> None:
    shot = next(shot for shot, _ in good if shot.shot.role == "all_zones")
    soft = scene(blur_px=2.0).frame(Lit(ALL), shot.exposure_us, 1)
    frames = [(s, soft if s is shot else image) for s, image in good[:-1]]
    assert "focus" not in failed(looked_at(frames)), "by default it is only told"
    found = looked_at(frames, Limits(focus_px=4.5))
    assert failed(found) == {"focus"} and "focus the lens" in told(found, "focus")[0]
    assert failed(looked_at(good, Limits(focus_px=4.5))) == set()


def test_reduced_is_the_mean_of_cells_whatever_the_filter() -> None:
    mosaic = np.zeros((600, 1300), np.uint16)
    mosaic[::2, ::2], mosaic[1::2, 1::2] = 400, 800  # R and B of a cell
    small = reduced(mosaic)
    assert np.all(small == 300) and small.shape[1] <= 325
    assert reduced(np.full((60, 90, 3), 7, np.uint8)).max() == 7
    assert isinstance(Pattern.from_plain(Sinusoid("column", 16.0, 4, 1).to_plain()), Sinusoid)


# ------------------------------------------------------------------------------------------------------- over the wires
@pytest.mark.parametrize(
    ("fault", "code", "sentence"),
    [
        ("moved@12", "check.motion", "the part moved by [23].* px"),
        ("stuck@9", "check.pattern_inverse", r"p2_03 \(column_gray_4\), which looks just like p2_02"),
    ],
)
def test_faults_of_the_simulated_rig_are_named_and_nothing_is_written(
    tmp_path: Path, fault: str, code: str, sentence: str
) -> None:
    pytest.importorskip("genicam")
    with (
        Rig.open(f"sim://knob_cap?seed=3&width=456&samples=1&fault={fault}") as rig,
        pytest.raises(QualityError, match=sentence) as caught,
    ):
        capture(rig, recipe_of("knob_cap"), tmp_path / "part", part_id="x")
    assert caught.value.code == code and list(tmp_path.iterdir()) == []


def test_a_region_outside_the_frame_is_told_before_the_first_light(tmp_path: Path) -> None:
    pytest.importorskip("genicam")
    recipe = recipe_of("knob_cap").model_copy(update={"region": (400, 200, 100, 80)})
    with (
        Rig.open("sim://knob_cap?seed=3&width=456&samples=1") as rig,
        pytest.raises(ConfigError, match="frame has 456×304 px"),
    ):
        capture(rig, recipe, tmp_path / "part", part_id="x", progress=lambda _: pytest.fail("it began"))
