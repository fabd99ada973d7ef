"""The contact sheet: layout, colours, and images or settings that do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from rakelight.errors import InputError
from rakelight.pipeline.contact_sheet import (
    COLOUR_MAPS,
    ColourBar,
    Panel,
    colour_table,
    colourise,
    contact_sheet,
    map_panel,
    tick_labels,
)
from rakelight.reconstruction.pseudo3d import to_display


def count(sheet: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((sheet == np.array(colour, np.uint8)).all(axis=2).sum())


def test_pictures_arrive_in_full_and_in_place() -> None:
    red, green = np.zeros((60, 100, 3), np.uint8), np.zeros((60, 100, 3), np.uint8)
    red[..., 0], green[..., 1] = 255, 255
    sheet = contact_sheet([Panel("A", red), Panel("B", green)], "Two", columns=2, panel_width=200)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    assert count(sheet, (255, 0, 0)) == count(sheet, (0, 255, 0)) == 200 * 120
    at_red, at_green = (np.argwhere((sheet == c).all(axis=2)) for c in ((255, 0, 0), (0, 255, 0)))
    assert at_red[:, 1].max() < at_green[:, 1].min() and at_red[0, 0] == at_green[0, 0]


def test_rows_wrap_and_a_short_sheet_is_narrow() -> None:
    panels = [Panel(f"Zone {k}", np.full((50, 80), 40 * k, np.uint8), "caption") for k in range(1, 6)]
    four, one = (contact_sheet(panels[:n], "Title", columns=4, panel_width=160) for n in (5, 1))
    assert four.shape[1] > 4 * 160 and one.shape[1] < 2 * 160
    assert four.shape[0] > 1.5 * one.shape[0] - 100


def test_upright_and_huge_images_fit_their_panel() -> None:
    upright = np.full((400, 50), 200, np.uint8)
    huge = np.full((1500, 3000), 90, np.uint8)
    sheet = contact_sheet([Panel("upright", upright), Panel("huge", huge)], "Shapes", panel_width=160)
    assert count(sheet, (200, 200, 200)) >= 200 * 25 and count(sheet, (90, 90, 90)) == 160 * 80


def test_colour_bar_shows_the_whole_table() -> None:
    bar = ColourBar(-1.0, 1.0, "1/mm", "diverging")
    plain = contact_sheet([Panel("H", np.zeros((90, 256), np.uint8))], "", panel_width=256)
    sheet = contact_sheet([Panel("H", np.zeros((90, 256), np.uint8), bar=bar)], "", panel_width=256)
    assert sheet.shape[0] > plain.shape[0]
    for colour in colour_table("diverging")[[0, 64, 192, 255]]:
        assert count(sheet, tuple(colour)) >= 10


def test_long_and_foreign_texts_do_not_break_the_layout() -> None:
    image = np.zeros((40, 160), np.uint8)
    words = "a caption that is far too long for one line of the panel " * 3
    short = contact_sheet([Panel("T", image, "one line")], "T", panel_width=160)
    long = contact_sheet([Panel("T" * 200, image, words)], "T" * 300, ["W" * 500, "±0.5 µm · n²"], panel_width=160)
    assert long.shape[1] == short.shape[1] and long.shape[0] > short.shape[0] + 150


def test_colour_maps_are_rgb_and_ordered() -> None:
    for name in COLOUR_MAPS:
        table = colour_table(name)
        assert table.shape == (256, 3) and table.dtype == np.uint8
    viridis, diverging = colour_table("viridis").astype(int), colour_table("diverging").astype(int)
    assert viridis[0, 2] > viridis[0, 1] and viridis[255, 0] > 200 and viridis[255, 2] < 80  # violet to yellow
    assert diverging[0, 2] > diverging[0, 0] and diverging[255, 0] > diverging[255, 2]  # blue to red
    assert np.ptp(diverging[128]) <= 8


def test_colourise_makes_nan_black_and_centres_signed_maps() -> None:
    values = np.array([[-2.0, 0.0, 1.0, np.nan]], np.float32)
    coloured = colourise(values, "diverging", limits=(-2, 1))
    table = colour_table("diverging")
    assert np.array_equal(coloured[0], [table[0], table[128], table[191], [0, 0, 0]])
    assert np.array_equal(colourise(to_display(values, limits=(-2, 2)), "diverging"), coloured)


def test_map_panel_averages_valid_pixels_only() -> None:
    values = np.full((300, 600), 5.0, np.float32)
    values[:, ::2] = np.nan
    values[:, 300:] = np.nan
    panel = map_panel("Height", values, unit="mm", limits=(0, 10), width=100)
    assert panel.image.shape == (50, 100, 3)
    assert np.array_equal(panel.image[25, 20], colour_table("viridis")[128]) and not panel.image[:, 52:].any()
    assert panel.bar == ColourBar(0.0, 10.0, "mm", "viridis")


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (-0.8, 0.8, ("-0.80", "0", "0.80")),
        (0, 4095, ("0", "2048", "4095")),
        (-74.2, 66.6, ("-74", "-4", "67")),
        (0.99, 1.0, ("0.9900", "0.9950", "1.0000")),
        (-2e-5, 2e-5, ("-2.00e-05", "0", "2.00e-05")),
        (3, 3, ("3.00", "3.00", "3.00")),
    ],
)
def test_tick_labels(low: float, high: float, labels: tuple[str, str, str]) -> None:
    assert tick_labels(low, high) == labels


@pytest.mark.parametrize(
    ("panels", "options", "code", "message"),
    [
        ([], {}, "contact_sheet.empty", "no panels"),
        ([Panel("A", np.zeros((4, 4), np.uint8))], {"columns": 0}, "contact_sheet.layout", "columns is 0"),
        ([Panel("A", np.zeros((4, 4), np.uint8))], {"panel_width": 50}, "contact_sheet.layout", "panel_width 50"),
        ([Panel("A", np.zeros((4, 4), np.float32))], {}, "input.dtype", "panel 'A' has dtype float32"),
        ([Panel("A", np.zeros((4, 4, 4), np.uint8))], {}, "input.shape", "panel 'A' has shape"),
        ([Panel("A", np.zeros((0, 4), np.uint8))], {}, "input.shape", "panel 'A' has shape"),
    ],
)
def test_bad_sheets_are_named(panels: list[Panel], options: dict[str, int], code: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        contact_sheet(panels, "Title", **options)  # type: ignore[arg-type]
    assert caught.value.code == code


def test_unknown_colour_map_is_named() -> None:
    with pytest.raises(InputError, match="'jet' is unknown; allowed: grey, viridis") as caught:
        colourise(np.zeros((2, 2), np.float32), "jet")
    assert caught.value.code == "contact_sheet.cmap"
