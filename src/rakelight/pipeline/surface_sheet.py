"""The pictures of a measured surface: what a metrologist wants to see of it, as panels of a contact sheet.

Shape (shaded, heights with contour lines, two sections), how far it can be trusted (which directions saw what, how many
agree, spread, predicted uncertainty, bias of each pair of directions) and, where the truth is known, the error.
Large maps are reduced by stride before anything else; figures in captions come from pixels as they were measured, never
from averages of them. Maps: NaN = not measured, black. Lengths in mm, small ones in µm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.errors import InputError
from rakelight.pipeline.contact_sheet import ColourBar, Panel, colour_table, colourise, contact_sheet, map_panel
from rakelight.pipeline.surface_maps import FloatMap, SurfaceMaps, cut_out, middle, window
from rakelight.pipeline.surface_plots import (
    Section,
    fitted,
    framed,
    labelled,
    mark_lines,
    nice_below,
    pair_table,
    section_plot,
    with_key,
    with_scale,
)
from rakelight.reconstruction.direction_checks import PairBias

Rgb = NDArray[np.uint8]

PANEL_PX = 600
ERROR_LIMIT_UM = 10.0
_SECTION_PX = 400  # height of a plot
# Okabe and Ito's colours, one for each direction; with more than six they repeat.
_DIRECTION_COLOURS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167), (240, 228, 66), (0, 114, 178))
_MISSING, _EMPTY, _REJECTED = (213, 94, 0), (38, 41, 47), (255, 255, 255)
_LIGHT = np.array([-0.5, 0.5, np.sqrt(0.5)], np.float32)  # x right, y up, z to the camera: from above left, 45° high
_SHADE_SLOPE = 0.35  # slopes are exaggerated so that the steeper quarter of the part has this one
_STEPS = (1, 2, 5, 10, 20, 50, 100)


def surface_sheet(maps: SurfaceMaps, title: str, footer: Sequence[str] = ()) -> Rgb:
    """All panels of a surface on one sheet, (height, width, 3) uint8 RGB; raises as :class:`SurfaceMaps`."""
    shape = maps.height_mm.shape
    field = shape[1] * maps.pitch_mm, shape[0] * maps.pitch_mm
    notes = [
        f"{shape[1]}×{shape[0]} px of {1000 * maps.pitch_mm:.4g} µm on the table, field {field[0]:.1f}×{field[1]:.1f} mm; "
        f"heights along the table's normal; black: not measured"
    ]
    rows, columns = window(maps.mask)
    if (rows.stop - rows.start, columns.stop - columns.start) != shape:
        notes.append("maps show the part and some of the table: the frame in the picture of the whole field")
    return contact_sheet(surface_panels(maps), title, [*notes, *footer], columns=3, panel_width=PANEL_PX)


def surface_panels(maps: SurfaceMaps, width: int = PANEL_PX) -> list[Panel]:
    """The panels, in order: shape, error (if truth is known), sections, pairs, then the maps of trust."""
    rows, columns = window(maps.mask)
    row, column = middle(maps.mask)
    # What remains is at most about twice as wide as a panel, and still single measurements.
    step = max(1, (columns.stop - columns.start) // (2 * width))
    small = cut_out(maps, rows, columns, step)
    lines = (row - rows.start) // step, (column - columns.start) // step
    panels = [
        shaded_panel(small.height_mm, small.mask, small.pitch_mm, width),
        height_panel(small.height_mm, small.pitch_mm, width, lines=lines),
    ]
    if small.true_height_mm is not None:
        panels.append(error_panel(small.height_mm, small.true_height_mm, small.mask, small.pitch_mm, width))
    panels += [section_panel(maps, "row", row, width), section_panel(maps, "column", column, width)]
    if maps.pairs:
        panels.append(pairs_panel(maps.pairs, width))
    panels += [coverage_panel(small, width), support_panel(small.support, small.mask, len(maps.directions), width)]
    if small.confidence is not None:
        panel = map_panel(
            "Confidence", np.where(np.isfinite(small.height_mm), small.confidence, np.nan), limits=(0.0, 1.0),
            caption=f"directions that agree among those that saw something; median on the part "
            f"{_median(small.confidence[small.mask]):.2f}", width=width,
        )  # fmt: skip
        panels.append(with_scale(panel, small.pitch_mm * small.height_mm.shape[1], width))
    step = max(1, maps.mask.shape[1] // (2 * width))
    height, mask = maps.height_mm[::step, ::step], maps.mask[::step, ::step]
    field = table_panel(height, mask, maps.pitch_mm * step, width)
    scale = field.image.shape[1] / maps.mask.shape[1]
    box = (columns.start * scale, rows.start * scale, columns.stop * scale - 1, rows.stop * scale - 1)
    whole = box[2] - box[0] + 2 > field.image.shape[1] and box[3] - box[1] + 2 > field.image.shape[0]
    return [*panels, spread_panel(small, width), sigma_panel(small, width), field if whole else framed(field, box)]


# --------------------------------------------------------------------------------------------------------------- shape
def shaded_panel(height_mm: FloatMap, mask: NDArray[np.bool_], pitch_mm: float, width: int = PANEL_PX) -> Panel:
    """Heights of the part in colour, shaded as if lit from above left (Horn, "Hill shading and the reflectance map", 1981)."""
    known = mask & np.isfinite(height_mm)
    low, high = _limits(height_mm[known])
    q, p = np.gradient(height_mm, pitch_mm)  # along rows (downwards) and columns; NaN beside gaps
    slope = np.hypot(p, q)
    typical = float(np.percentile(s, 75)) if (s := slope[known & np.isfinite(slope)]).size else 0.0
    times = next((k for k in reversed(_STEPS) if k * typical <= _SHADE_SLOPE), 1)
    p, q = times * p, times * q
    lit = (_LIGHT[2] - p * _LIGHT[0] + q * _LIGHT[1]) / np.sqrt(1 + p * p + q * q)
    shade = np.where(np.isfinite(lit), np.clip(lit / _LIGHT[2], 0.15, 1.35), 1)
    colours = colourise(height_mm, limits=(low, high)).astype(np.float32)
    colours[~mask & np.isfinite(height_mm)] = 88  # the table is no part of the scale
    picture = np.clip(0.85 * colours * shade[..., None], 0, 255).astype(np.uint8)
    caption = "part in colour, light from above left" + (f", slopes ×{times}" if times > 1 else "")
    panel = Panel("Shaded height", picture, caption, ColourBar(low, high, "mm"))
    return with_scale(panel, pitch_mm * height_mm.shape[1], width)


def height_panel(
    height_mm: FloatMap, pitch_mm: float, width: int = PANEL_PX, *, lines: tuple[int, int] | None = None
) -> Panel:
    """Height above the table with contour lines, and where the sections lie (``lines``: row, column)."""
    low, high = _limits(height_mm[np.isfinite(height_mm)])
    step = nice_below((high - low) / 6)
    colours = colourise(height_mm, limits=(low, high))
    picture = fitted(colours, width)
    scale = picture.shape[1] / height_mm.shape[1]
    level = _nearest(np.floor(height_mm / np.float32(step) + np.float32(0.5)), picture.shape[:2])
    edge = np.zeros(level.shape, np.bool_)
    with np.errstate(invalid="ignore"):
        edge[:, 1:] |= np.abs(np.diff(level, axis=1)) >= 1
        edge[1:] |= np.abs(np.diff(level, axis=0)) >= 1
    picture[edge] = np.where(picture[edge].max(axis=-1, keepdims=True) > 150, 40, 190)
    if lines is not None:
        picture = mark_lines(picture, (lines[0] + 0.5) * scale, (lines[1] + 0.5) * scale)
    told = f"contours every {step:g} mm" + ("; A, B: sections" if lines is not None else "")
    panel = Panel("Height above the table", picture, told, ColourBar(low, high, "mm"))
    return with_scale(panel, pitch_mm * height_mm.shape[1], width)


def error_panel(
    height_mm: FloatMap, true_mm: FloatMap, mask: NDArray[np.bool_], pitch_mm: float, width: int = PANEL_PX
) -> Panel:
    """Measured minus true height in µm, ±10; the figures are those of the part."""
    error_um = 1000 * (height_mm - true_mm)
    known = error_um[mask & np.isfinite(error_um)]
    told = "nothing on the part can be compared"
    if known.size:
        median = float(np.median(known))
        robust = 1.4826 * float(np.median(np.abs(known - median)))
        p95, beyond = float(np.percentile(np.abs(known), 95)), float((np.abs(known) > ERROR_LIMIT_UM).mean())
        told = (
            f"part: median {median:+.2f} µm, robust sigma {robust:.2f} µm, 95 % within ±{p95:.1f} µm; "
            f"{beyond:.2%} beyond ±{ERROR_LIMIT_UM:g} µm"
        )
    limits = -ERROR_LIMIT_UM, ERROR_LIMIT_UM
    panel = map_panel(
        "Error (measured - true)", error_um, cmap="diverging", unit="µm", limits=limits, caption=told, width=width
    )
    return with_scale(panel, pitch_mm * height_mm.shape[1], width)


def section_panel(maps: SurfaceMaps, along: str, line: int, width: int = PANEL_PX) -> Panel:
    """Heights along one row (``along`` = "row") or column of the full map, from edge to edge of the part and a little more."""
    if along not in ("row", "column"):
        raise InputError(f"along is {along!r}; allowed: 'row', 'column'", code="surface_sheet.along")
    count = maps.height_mm.shape[0 if along == "row" else 1]
    if not 0 <= line < count:
        raise InputError(f"{along} is {line}; allowed: 0 to {count - 1}", code="surface_sheet.line")
    chosen = (line, slice(None)) if along == "row" else (slice(None), line)
    mask, heights = maps.mask[chosen], maps.height_mm[chosen]
    inside = np.flatnonzero(mask)
    first, last = (int(inside[0]), int(inside[-1])) if inside.size else (0, len(mask) - 1)
    room = max(1, round(0.08 * (last - first)))
    cut = slice(max(0, first - room), min(len(mask), last + room + 1))
    at_mm = (np.arange(len(mask)) - (len(mask) - 1) / 2) * maps.pitch_mm
    true_mm = None if maps.true_height_mm is None else maps.true_height_mm[chosen][cut]
    axis = (
        "x, right (mm from the middle of the picture)"
        if along == "row"
        else "y, down (mm from the middle of the picture)"
    )
    plot = section_plot(
        Section(at_mm[cut], heights[cut], axis, true_mm), (width, _SECTION_PX), error_limit_um=ERROR_LIMIT_UM
    )
    known = heights[cut][np.isfinite(heights[cut])]
    told = f"{along} {line}, {'left to right' if along == 'row' else 'top to bottom'}"
    if known.size:
        told += f"; highest {known.max():.3f} mm, {known.size / len(heights[cut]):.1%} measured"
    return Panel(f"Section {'A' if along == 'row' else 'B'}", plot, told)


# --------------------------------------------------------------------------------------------------------------- trust
def coverage_panel(maps: SurfaceMaps, width: int = PANEL_PX) -> Panel:
    """One small picture for each direction: where it was believed, where it measured but was not, and where it is missing."""
    columns = 1 if len(maps.directions) == 1 else 2
    gap = 6
    each = (width - gap * (columns - 1)) // columns
    step = max(1, maps.mask.shape[1] // (2 * each))
    maps = cut_out(maps, slice(0, maps.mask.shape[0]), slice(0, maps.mask.shape[1]), step)
    tiles = []
    for number, direction in enumerate(maps.directions):
        colour = _DIRECTION_COLOURS[number % len(_DIRECTION_COLOURS)]
        bit = np.uint8(1 << (direction - 1))
        used = (maps.used & bit) > 0
        tile = np.zeros((*used.shape, 3), np.uint8)
        tile[maps.mask] = _EMPTY
        tile[used & ~maps.mask] = [c * 2 // 5 for c in colour]
        tile[used & maps.mask] = colour
        told = f"{direction}:  {_share(used[maps.mask]):.1%}"
        if maps.rejected is not None:
            out = (maps.rejected & bit) > 0
            tile[out] = _REJECTED
            told += f"  (not believed {_share(out[maps.mask]):.1%})"
        tiles.append(labelled(fitted(tile, each), told, colour))
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    high, wide = tiles[0].shape[:2]
    picture = np.zeros((len(rows) * (high + gap) - gap, columns * (wide + gap) - gap, 3), np.uint8)
    for r, row in enumerate(rows):
        for c, tile in enumerate(row):
            picture[r * (high + gap) :, c * (wide + gap) :][:high, :wide] = tile
    told = "share of the part where a direction was believed; dim: off the part; grey: does not see the part"
    return Panel(
        "Coverage by direction", picture, told + ("; white: not believed" if maps.rejected is not None else "")
    )


def support_panel(support: NDArray[np.uint8], mask: NDArray[np.bool_], directions: int, width: int = PANEL_PX) -> Panel:
    """How many directions agree: a colour for each number, with its share of the part."""
    table = np.zeros((256, 3), np.uint8)
    table[1:] = colour_table("viridis")[np.clip((np.arange(1, 256) - 1) * 220 // max(1, directions - 1) + 35, 0, 255)]
    picture = table[support]
    picture[mask & (support == 0)] = _MISSING
    shares = [(n, _share(support[mask] == n)) for n in range(directions + 1)]
    entries = [(f"{n}: {share:.1%}", _MISSING if n == 0 else tuple(table[n].tolist())) for n, share in shares]
    drawn = with_key(fitted(picture, width), entries)
    return Panel("Directions that agree", drawn, "number at each pixel, and its share of the part")


def spread_panel(maps: SurfaceMaps, width: int = PANEL_PX) -> Panel:
    """Standard deviation between the directions that agree, in µm, where there are two or more."""
    several = np.where(maps.support >= 2, 1000 * maps.spread_mm, np.float32(np.nan))
    known = several[maps.mask & np.isfinite(several)]
    told = f"where two or more agree; part: median {_median(known):.2f} µm, 95 % below {_percentile(known, 95):.1f} µm"
    limits = 0.0, _percentile(known, 99) or 1.0
    panel = map_panel("Spread of the directions", several, unit="µm", limits=limits, caption=told, width=width)
    return with_scale(panel, maps.pitch_mm * maps.height_mm.shape[1], width)


def sigma_panel(maps: SurfaceMaps, width: int = PANEL_PX) -> Panel:
    """Predicted standard deviation of the height in µm; with truth, how often the error keeps to it."""
    sigma_um = 1000 * maps.sigma_z_mm
    known = sigma_um[maps.mask & np.isfinite(sigma_um)]
    told = f"part: median {_median(known):.2f} µm, 95 % below {_percentile(known, 95):.1f} µm"
    if maps.true_height_mm is not None:
        ratio = np.abs(maps.height_mm - maps.true_height_mm)[maps.mask] / maps.sigma_z_mm[maps.mask]
        ratio = ratio[np.isfinite(ratio)]
        told += f"; error within 2 sigma: {_share(ratio <= 2):.1%} (95.4 % if noise alone)"
    limits = 0.0, _percentile(known, 99) or 1.0
    panel = map_panel("Predicted sigma of the height", sigma_um, unit="µm", limits=limits, caption=told, width=width)
    return with_scale(panel, maps.pitch_mm * maps.height_mm.shape[1], width)


def table_panel(height_mm: FloatMap, mask: NDArray[np.bool_], pitch_mm: float, width: int = PANEL_PX) -> Panel:
    """The whole field without the part, in µm from the table's plane: a table that is not flat here tells of the calibration."""
    table_um = np.where(mask, np.float32(np.nan), 1000 * height_mm)
    known = table_um[np.isfinite(table_um)]
    reach = max(ERROR_LIMIT_UM, 1.2 * _percentile(np.abs(known), 95))
    told = "no table is seen"
    if known.size:
        median = _median(known)
        told = f"off the part: median {median:+.2f} µm, robust sigma {1.4826 * _median(np.abs(known - median)):.2f} µm"
    panel = map_panel(
        "Whole field: the table",
        table_um,
        cmap="diverging",
        unit="µm",
        limits=(-reach, reach),
        caption=told,
        width=width,
    )
    return with_scale(panel, pitch_mm * height_mm.shape[1], width)


def pairs_panel(pairs: Sequence[PairBias], width: int = PANEL_PX) -> Panel:
    """How the depths of each pair of directions differ, against what noise explains."""
    wrong = sum(pair.significant for pair in pairs)
    told = (
        "all pairs fit together within 3 µm and their noise"
        if not wrong
        else f"{wrong} of {len(pairs)} pairs do not fit: check the calibration"
    )
    return Panel(
        "Bias between directions", pair_table(pairs, width), f"difference of depths where both measured; {told}"
    )


# ------------------------------------------------------------------------------------------------------------- pictures
def _nearest(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    return np.asarray(cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST))


def _limits(values: FloatMap) -> tuple[float, float]:
    """The 0.5th and 99.5th percentile, apart by something."""
    if not values.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    return (low, high) if high - low > 1e-6 else (low - 0.5, high + 0.5)


def _share(found: NDArray[np.bool_]) -> float:
    return float(found.mean()) if found.size else 0.0


def _median(values: FloatMap) -> float:
    return _percentile(values, 50)


def _percentile(values: FloatMap, percent: float) -> float:
    known = values[np.isfinite(values)]
    return float(np.percentile(known, percent)) if known.size else 0.0
