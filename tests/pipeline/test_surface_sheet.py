"""The panels of a measured surface: what they show, what their captions state, and surfaces with little in them."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import numpy as np
import pytest

from rakelight.errors import InputError
from rakelight.pipeline.contact_sheet import Panel, colour_table
from rakelight.pipeline.surface_maps import SurfaceMaps, cut_out, middle, window
from rakelight.pipeline.surface_plots import MEASURED, TRUE, WARNING, Section, pair_table, section_plot
from rakelight.pipeline.surface_sheet import (
    coverage_panel,
    error_panel,
    height_panel,
    section_panel,
    shaded_panel,
    sigma_panel,
    spread_panel,
    support_panel,
    surface_panels,
    surface_sheet,
    table_panel,
)
from rakelight.reconstruction.direction_checks import PairBias

SHAPE, PITCH = (200, 300), 0.06
RNG = np.random.default_rng(2)
PAIRS = (
    PairBias(1, 2, 5000, 0.0001, 0.0002, (0.0, 0.0), False),
    PairBias(1, 3, 5000, -0.0030, 0.0002, (0.0, 0.0), True),
    PairBias(2, 3, 12, float("nan"), float("nan"), (float("nan"), float("nan")), False),
)


def dome(shape: tuple[int, int] = SHAPE, noise_um: float = 2.0) -> SurfaceMaps:
    """A dome of 2 mm on the table, right of the middle; direction 3 sees only the left half of the picture."""
    v, u = np.mgrid[: shape[0], : shape[1]]
    radius = shape[0] / 4
    inside = ((u - 0.6 * shape[1]) ** 2 + (v - 0.5 * shape[0]) ** 2) / radius**2
    mask = inside < 1
    true = np.where(mask, 1 + np.sqrt(np.clip(1 - inside, 0, 1)), 0).astype(np.float32)
    height = true + RNG.normal(0, noise_um / 1000, shape).astype(np.float32)
    height[: shape[0] // 20] = np.nan
    used = np.full(shape, 0b1011, np.uint8)
    used[:, : shape[1] // 2] |= 0b0100
    used[: shape[0] // 20] = 0
    support = np.array([bin(k).count("1") for k in range(16)], np.uint8)[used]
    sigma = np.where(np.isfinite(height), np.float32(noise_um / 1000), np.float32(np.nan))
    return SurfaceMaps(
        height, sigma, 1.5 * sigma, support, used, mask, PITCH,
        confidence=support / np.float32(4), true_height_mm=true, pairs=PAIRS,
    )  # fmt: skip


def colours(panel: Panel, colour: tuple[int, ...]) -> np.ndarray:
    return np.asarray((panel.image == np.array(colour, np.uint8)).all(axis=-1))


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found[1])


def test_the_sheet_has_all_panels_and_only_those_that_can_be_made() -> None:
    maps = dome()
    titles = [panel.title for panel in surface_panels(maps)]
    assert titles == [
        "Shaded height", "Height above the table", "Error (measured - true)", "Section A", "Section B",
        "Bias between directions", "Coverage by direction", "Directions that agree", "Confidence",
        "Spread of the directions", "Predicted sigma of the height", "Whole field: the table",
    ]  # fmt: skip
    bare = surface_panels(replace(maps, true_height_mm=None, pairs=(), confidence=None))
    assert [panel.title for panel in bare] == [t for t in titles if t.split()[0] not in ("Error", "Bias", "Confidence")]
    assert not any("2 sigma" in panel.caption for panel in bare)
    sheet = surface_sheet(maps, "Dome", ["a footer"])
    assert sheet.dtype == np.uint8 and sheet.shape[1] > 3 * 600


def test_all_letters_are_in_the_font() -> None:
    replaced = "µ×°"  # what the contact sheet writes otherwise
    for panel in surface_panels(dome()):
        told = panel.title + panel.caption + (panel.bar.unit if panel.bar else "")
        assert all(c.isascii() or c in replaced + "±" for c in told), told


# --- shape ---
def test_window_and_middle_lie_about_the_part() -> None:
    maps = dome()
    rows, columns = window(maps.mask)
    where = np.argwhere(maps.mask)
    assert rows.start < where[:, 0].min() and rows.stop > where[:, 0].max()
    assert columns.start < where[:, 1].min() and columns.stop > where[:, 1].max()
    assert (columns.stop - columns.start) / (rows.stop - rows.start) == pytest.approx(1.5, rel=0.03)
    assert middle(maps.mask) == (100, 180)
    assert window(np.zeros(SHAPE, bool)) == window(np.ones(SHAPE, bool)) == (slice(0, 200), slice(0, 300))
    assert middle(np.zeros(SHAPE, bool)) == (99, 149)
    corner = np.zeros(SHAPE, bool)
    corner[:3, -3:] = True
    assert all(0 <= w.start < w.stop <= n for w, n in zip(window(corner), SHAPE, strict=True))
    small = cut_out(maps, rows, columns, 2)
    assert small.pitch_mm == 2 * PITCH and np.array_equal(small.mask, maps.mask[rows, columns][::2, ::2])


def test_shading_falls_from_above_left() -> None:
    maps = dome(noise_um=0)
    panel = shaded_panel(maps.height_mm, maps.mask, PITCH, 300)
    light = panel.image.astype(float).sum(axis=-1)
    assert light[80:92, 158:172].mean() > 1.3 * light[110:122, 190:204].mean()
    assert panel.bar and panel.bar.unit == "mm" and 1 <= panel.bar.low < panel.bar.high <= 2
    assert not panel.image[:9].any()  # not measured


def test_flat_parts_are_shaded_with_exaggerated_slopes() -> None:
    u = np.mgrid[:100, :100][1].astype(np.float32)
    panel = shaded_panel(0.001 * np.sin(u / 5), np.ones((100, 100), bool), PITCH, 100)
    assert number(r"slopes ×(\d+)", panel.caption) >= 10
    steep = shaded_panel(u * PITCH, np.ones((100, 100), bool), PITCH, 100)
    assert "×" not in steep.caption


def test_contours_follow_the_heights() -> None:
    height = np.broadcast_to(np.linspace(0, 6, 400, dtype=np.float32), (200, 400)).copy()
    panel = height_panel(height, PITCH, 400)
    assert "every 1 mm" in panel.caption or "every 0.5 mm" in panel.caption
    step = number(r"every ([\d.]+) mm", panel.caption)
    row = panel.image[20].astype(int)
    jumps = np.flatnonzero(np.abs(np.diff(row, axis=0)).sum(axis=-1) > 60)
    assert len(jumps) // 2 == pytest.approx(6 / step, abs=1)


def test_sections_draw_measured_over_true_in_mm() -> None:
    at = np.linspace(-5, 5, 201)
    true = np.where(np.abs(at) < 2, 3.0, 0.0).astype(np.float32)
    measured = true + np.float32(0.5)
    measured[(at > 3) & (at < 4)] = np.nan
    image = section_plot(Section(at, measured, "x (mm)", true), (600, 400))
    near = [np.abs(image.astype(int) - np.array(c)).sum(axis=-1) < 60 for c in (MEASURED, TRUE)]
    lane = np.s_[26:240, 70:586]
    blue, orange = (n[lane] for n in near)
    assert np.median(np.argwhere(blue)[:, 0]) < np.median(np.argwhere(orange)[:, 0])  # measured lies higher
    gap = slice(round(516 * 0.81), round(516 * 0.89))
    assert not blue[:, gap].any() and orange[:, gap].any()
    alone = section_plot(Section(at, measured, "x (mm)"), (600, 400))
    assert not (np.abs(alone.astype(int) - np.array(TRUE)).sum(axis=-1) < 30).any()


def test_sections_are_cut_where_they_are_asked_for() -> None:
    maps = dome(noise_um=0)
    top = section_panel(maps, "row", 100)
    assert number(r"highest ([\d.]+) mm", top.caption) == pytest.approx(2.0, abs=0.01)
    side = section_panel(maps, "row", 60)
    assert number(r"highest ([\d.]+) mm", side.caption) == pytest.approx(1.6, abs=0.01)
    assert "column 180, top to bottom" in section_panel(maps, "column", 180).caption
    for along, line, code in (("row", 200, "line"), ("column", -1, "line"), ("diagonal", 3, "along")):
        with pytest.raises(InputError) as caught:
            section_panel(maps, along, line)
        assert caught.value.code == f"surface_sheet.{code}"


# --- trust ---
def test_captions_state_the_errors_that_were_put_in() -> None:
    maps = dome((600, 900), noise_um=2.0)
    assert maps.true_height_mm is not None
    shifted = maps.height_mm + np.float32(0.003)
    panel = error_panel(shifted, maps.true_height_mm, maps.mask, PITCH)
    assert number(r"median ([+\d.-]+) µm", panel.caption) == pytest.approx(3.0, abs=0.1)
    assert number(r"robust sigma ([\d.]+)", panel.caption) == pytest.approx(2.0, abs=0.1)
    assert panel.bar and (panel.bar.low, panel.bar.high, panel.bar.unit) == (-10, 10, "µm")
    assert number(r"2 sigma: ([\d.]+)%", sigma_panel(maps).caption) == pytest.approx(95.4, abs=0.6)
    assert number(r"median ([\d.]+) µm", sigma_panel(maps).caption) == pytest.approx(2.0, abs=0.01)
    assert number(r"median ([\d.]+) µm", spread_panel(maps).caption) == pytest.approx(3.0, abs=0.01)
    table = table_panel(shifted, maps.mask, PITCH)
    assert number(r"median ([+\d.-]+) µm", table.caption) == pytest.approx(3.0, abs=0.1)


def test_the_sign_of_an_error_is_its_colour() -> None:
    zero = np.zeros((200, 320), np.float32)
    for error, end in ((0.02, 255), (-0.02, 0)):
        panel = error_panel(zero + np.float32(error), zero, zero == 0, PITCH, 320)
        assert colours(panel, tuple(colour_table("diverging")[end]))[:150].all()


def test_coverage_shows_each_direction_and_its_share() -> None:
    maps = dome()
    rejected = np.zeros(SHAPE, np.uint8)
    rejected[100:110, 170:180] = 0b10
    panel = coverage_panel(replace(maps, rejected=rejected))
    quarter = panel.image.shape[0] // 2, panel.image.shape[1] // 2
    third = Panel("3", panel.image[quarter[0] :, : quarter[1]])
    seen = colours(third, (0, 158, 115))[24:]
    assert seen[:, : quarter[1] // 2].any() and not seen[:, quarter[1] // 2 + 3 :].any()
    white = colours(Panel("2", panel.image[30 : quarter[0], quarter[1] :]), (255, 255, 255))
    assert 80 < white.sum() < 140 and "white" in panel.caption
    assert coverage_panel(replace(maps, directions=(1,))).image.shape[1] == 600
    assert coverage_panel(replace(maps, directions=(1, 2, 3))).image.shape[0] == panel.image.shape[0]


def test_holes_in_the_part_stand_out_from_those_beside_it() -> None:
    support = np.full((60, 90), 3, np.uint8)
    support[:30] = 0
    mask = np.zeros((60, 90), bool)
    mask[:, 45:] = True
    picture = Panel("", support_panel(support, mask, 4, 90).image[:60])
    assert colours(picture, (213, 94, 0))[:30, 45:].all() and not picture.image[:30, :45].any()
    assert colours(picture, tuple(picture.image[50, 50]))[30:].all()


def test_pairs_that_do_not_fit_are_marked() -> None:
    good, bad = (pair_table(PAIRS[:n], 600) for n in (1, 3))
    assert not colours(Panel("", good), WARNING).any() and colours(Panel("", bad), WARNING).sum() > 100
    where = np.argwhere(colours(Panel("", bad), WARNING) & (np.arange(600) > 380))
    assert where[:, 1].mean() < 0.8 * 600  # left of 0: a lies below b
    none = pair_table([PAIRS[2]], 600)
    assert none.shape[1] == 600


# --- little in it, much of it ---
@pytest.mark.parametrize("what", ["nothing measured", "no part", "one pixel", "tiny", "upright", "no truth anywhere"])
def test_poor_surfaces_still_make_a_sheet(what: str) -> None:
    maps = dome((2, 3)) if what == "tiny" else dome((90, 40)) if what == "upright" else dome((60, 90))
    if what == "nothing measured":
        nan = np.full_like(maps.height_mm, np.nan)
        maps = replace(maps, height_mm=nan, sigma_z_mm=nan, spread_mm=nan, support=0 * maps.support, used=0 * maps.used)
    elif what == "no part":
        maps = replace(maps, mask=np.zeros_like(maps.mask))
    elif what == "one pixel":
        mask = np.zeros_like(maps.mask)
        mask[30, 40] = True
        maps = replace(maps, mask=mask)
    elif what == "no truth anywhere":
        maps = replace(maps, true_height_mm=np.full_like(maps.height_mm, np.nan))
    sheet = surface_sheet(maps, what)
    assert sheet.shape[2] == 3 and sheet.std() > 1


def test_maps_that_do_not_fit_are_refused() -> None:
    maps = dome((60, 90))
    for code, change in {
        "surface_sheet.pitch": {"pitch_mm": 0.0},
        "surface_sheet.directions": {"directions": (0, 1)},
        "input.shape": {"mask": np.ones((60, 91), bool)},
        "input.dtype": {"support": maps.support.astype(np.int32)},
    }.items():
        with pytest.raises(InputError) as caught:
            replace(maps, **change)  # type: ignore[arg-type]
        assert caught.value.code == code
    with pytest.raises(InputError, match="2×2"):
        dome((1, 9))


@pytest.mark.slow
def test_twenty_megapixels_cost_little_more_than_one() -> None:
    large = dome((3648, 5472))
    surface_panels(large)
    start = time.process_time()
    surface_panels(large)
    assert time.process_time() - start < 1.5  # about 0.35 s on an idle computer
