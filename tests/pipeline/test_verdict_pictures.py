"""Heat maps: a scale that only the calibration fixes, heat and outlines where the fault is, and what cannot be drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakelight.dataset.images import read_image
from rakelight.errors import DatasetError, InputError, ModelError
from rakelight.pipeline.heat_scale import HeatScale, heat_scale, own_map, peak_region
from rakelight.pipeline.verdict_pictures import (
    LEGEND_HEIGHT,
    heat_picture,
    height_relief,
    legend,
    native_heat_picture,
    plain_picture,
    region_lines,
    truth_lines,
    with_legend,
)
from rakelight.pipeline.verdict_sheets import (
    ACCEPTED,
    REJECTED,
    card,
    modalities_of,
    parts_sheet,
    verdict_sheet,
    write_verdict_pictures,
)


def changed(one: np.ndarray, other: np.ndarray, by: int = 25) -> np.ndarray:
    return np.abs(one.astype(int) - other.astype(int)).max(axis=2) > by


def test_scale_is_made_of_good_pixels_alone(judged: Any, taught: Any) -> None:
    scale = heat_scale(taught)
    fused = taught.pixels.fuse(taught.calibration.pixels)
    fused = fused[np.isfinite(taught.calibration.pixels).all(axis=1)]
    assert scale.low == pytest.approx(np.quantile(fused, 0.95)) and scale.low > 0
    assert scale.limit == pytest.approx(max(np.quantile(fused, 0.999), 1.5 * scale.low))
    assert scale.full == pytest.approx(3 * scale.limit)
    before = heat_scale(taught)
    taught.score(judged.part(70, fault="ps"))
    assert heat_scale(taught) == before  # whatever was judged meanwhile


def test_colours_are_clear_below_and_end_above() -> None:
    scale = HeatScale(2.0, 4.0, 12.0)
    colour, opacity = scale.colours(np.array([-50.0, np.nan, 2.0, 4.0, 8.0, 12.0, 500.0]))
    assert (opacity[:3] == 0).all() and (np.diff(opacity[2:6]) > 0).all() and opacity[5] == opacity[6]
    assert (colour[5] == colour[6]).all() and colour[5].sum() > colour[4].sum() > colour[3].sum()
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert (scale.blend(picture, np.full((8, 8), 1.9)) == picture).all()
    with pytest.raises(InputError, match="ascend"):
        HeatScale(3.0, 2.0, 9.0)


def test_a_weak_map_is_not_stretched(judged: Any, taught: Any) -> None:
    part = judged.part(71)
    verdict = taught.score(part)
    scale = heat_scale(taught)
    weak = replace(verdict, map=np.where(np.isfinite(verdict.map), 0.9 * scale.low, np.nan).astype(np.float32))
    bare = heat_picture(part, weak, "rgb", scale, heat=False)
    assert (heat_picture(part, weak, "rgb", scale) == bare).all()
    strong = replace(weak, map=weak.map * np.float32(1.2 * scale.limit / (0.9 * scale.low)))
    assert changed(heat_picture(part, strong, "rgb", scale), bare).sum() > 0.3 * bare.shape[0] ** 2


@pytest.mark.parametrize("modality", ["rgb", "ps", "xyz"])
def test_heat_lies_on_the_fault(judged: Any, taught: Any, modality: str) -> None:
    part = judged.part(72, fault=modality, at_mm=(5.0, -3.0))
    verdict = taught.score(part)
    scale = heat_scale(taught)
    assert verdict.judgement.rejected and verdict.seen_by == modality
    zoom = 3
    bare, hot = (heat_picture(part, verdict, "rgb", scale, heat=h, zoom=zoom) for h in (False, True))
    assert hot.shape == (zoom * part.size, zoom * part.size, 3)
    rows, columns = np.nonzero(changed(hot, bare))
    middle = (part.size - 1) / 2
    right, down = (columns.mean() / zoom - middle, rows.mean() / zoom - middle)
    pitch = part.facts["pitch_mm"]
    assert (right * pitch, down * pitch) == pytest.approx((5.0, -3.0), abs=1.2)


def test_outlines_enclose_the_peak_and_the_marked_defect(judged: Any, taught: Any) -> None:
    part = judged.part(73, fault="ps", at_mm=(-4.0, 4.0))
    verdict = taught.score(part)
    scale = heat_scale(taught)
    region = peak_region(verdict, scale)
    assert region[verdict.peak] and (verdict.map[region] > scale.limit).all()
    lines = np.concatenate(region_lines(verdict, scale))
    rows, columns = np.nonzero(region)
    assert lines.min(axis=0) == pytest.approx((columns.min(), rows.min()), abs=1.0)
    assert lines.max(axis=0) == pytest.approx((columns.max(), rows.max()), abs=1.0)
    middle, pitch = (part.size - 1) / 2, part.facts["pitch_mm"]
    truth = (np.concatenate(truth_lines(part)) - middle) * pitch
    assert truth.min(axis=0) == pytest.approx((-6.0, 2.0), abs=0.3)
    assert truth.max(axis=0) == pytest.approx((-2.0, 6.0), abs=0.3)


def test_nothing_is_outlined_on_a_usual_part(judged: Any, taught: Any) -> None:
    scale = heat_scale(taught)
    verdict = taught.score(judged.part(74))
    calm = replace(verdict, excess=dict.fromkeys(verdict.excess, 0.5))
    calm.map[verdict.peak] = scale.limit + 1  # one pixel in a thousand is beyond it on good parts too
    assert not calm.judgement.rejected and not peak_region(calm, scale).any() and not region_lines(calm, scale)


def test_native_picture_shows_the_same_spot(judged: Any, taught: Any) -> None:
    part = judged.part(75, fault="rgb", at_mm=(3.0, 5.0))
    verdict = taught.score(part)
    grey = np.full(part.native_size, 90, np.uint8)
    hot = native_heat_picture(grey, part, verdict, heat_scale(taught))
    assert hot.shape == (*part.native_size, 3)
    colourful = hot.max(axis=2).astype(int) - hot.min(axis=2) > 40
    v, u = np.nonzero(colourful)
    wanted = np.asarray(judged.MIDDLE) + np.array([3.0, 5.0]) / judged.PITCH_MM
    assert (u.mean(), v.mean()) == pytest.approx(tuple(wanted), abs=5)
    rows, columns = np.indices(part.native_size)
    far = np.hypot(columns - judged.MIDDLE[0], rows - judged.MIDDLE[1]) > judged.RADIUS_PX + 4
    assert (hot[far] == int(90 * 0.55)).all()  # off the part: dimmed, no heat
    with pytest.raises(InputError, match="120×160"):
        native_heat_picture(grey[:50], part, verdict, heat_scale(taught))


def test_what_is_ignored_is_hatched_grey(judged: Any, taught: Any) -> None:
    part = judged.part(76)
    ignore = np.zeros((part.size, part.size), bool)
    ignore[24:40, 24:40] = True
    part = replace(part, ignore=ignore)
    verdict = taught.score(part)
    assert np.isnan(verdict.map[ignore]).all()
    picture = heat_picture(part, verdict, "ps", heat_scale(taught), zoom=2)[52:76, 52:76].astype(int)
    assert (picture.max(axis=2) == picture.min(axis=2)).all()  # the violet of the normal map is gone
    assert len(np.unique(picture)) > 1 and (picture == 150).any()  # and lines are in it


def test_a_missing_modality_is_left_out_or_named(judged: Any, taught: Any) -> None:
    part = judged.part(77, fault="rgb", without=("xyz",))
    verdict = taught.score(part)
    scale = heat_scale(taught)
    assert modalities_of(part, taught.method) == ["rgb", "ps"]
    with pytest.raises(DatasetError, match="xyz"):
        heat_picture(part, verdict, "xyz", scale)
    whole = verdict_sheet(judged.part(77), taught.score(judged.part(77)), taught)
    assert verdict_sheet(part, verdict, taught).shape[1] < whole.shape[1]


@pytest.mark.parametrize("zoom", [0, 9])
def test_bad_zoom_and_map_are_refused(judged: Any, taught: Any, zoom: int) -> None:
    part = judged.part(78)
    verdict, scale = taught.score(part), heat_scale(taught)
    with pytest.raises(InputError, match="1 to 8"):
        heat_picture(part, verdict, "rgb", scale, zoom=zoom)
    with pytest.raises(InputError):
        heat_picture(part, verdict, "rgb", scale, alone=(verdict.map[:5], scale))
    with pytest.raises(ModelError, match=r"nose.*rgb, ps, xyz"):
        heat_scale(taught, ["nose"])


def test_own_maps_tell_the_modalities_apart(judged: Any, taught: Any) -> None:
    part = judged.part(79, fault="xyz", at_mm=(2.0, 2.0))
    verdict = taught.score(part)
    peaks = {m: np.nanmax(own_map(taught, verdict, m)) / heat_scale(taught, [m]).limit for m in ("rgb", "ps", "xyz")}
    assert peaks["xyz"] > 2 > max(peaks["rgb"], peaks["ps"])


def test_relief_is_lit_from_the_upper_left() -> None:
    v, u = np.indices((60, 60)).astype(np.float32)
    flank = np.minimum(u, 59 - u) * 0.2  # a roof: it rises to the right, then falls
    xyz = np.stack([u * 0.5, v * 0.5, 100 - flank], axis=-1).astype(np.float32)
    xyz[:5] = np.nan
    shown = height_relief(xyz, 0.5)[..., 0].astype(int)
    assert shown[30, 10:20].mean() > shown[30, 40:50].mean() + 20
    assert shown[:5].max() < shown[10:].min()
    assert (height_relief(xyz) == height_relief(xyz, 0.5)).all()  # the pitch is found from x
    assert (height_relief(np.full((9, 9, 3), np.nan, np.float32)) < 40).all()


def test_files_and_the_sheets_colour(judged: Any, taught: Any, tmp_path: Path) -> None:
    bad, good = judged.part(80, fault="ps"), judged.part(81)
    verdict, usual = taught.score(bad), taught.score(good)
    assert verdict.judgement.rejected and not usual.judgement.rejected
    paths = write_verdict_pictures(tmp_path / "new", "S0080", bad, verdict, taught)
    assert [p.name for p in paths] == ["S0080_rgb.png", "S0080_ps.png", "S0080_xyz.png", "S0080_sheet.png"]
    scale = heat_scale(taught)
    wanted = with_legend(heat_picture(bad, verdict, "ps", scale), scale)
    assert (read_image(paths[1]) == wanted).all() and wanted.shape[0] == 2 * bad.size + LEGEND_HEIGHT
    assert tuple(read_image(paths[-1])[2, 2]) == REJECTED
    assert tuple(verdict_sheet(good, usual, taught)[2, 2]) == ACCEPTED
    assert legend(scale, 300).shape == (LEGEND_HEIGHT, 300, 3)


def test_many_parts_stand_by_score_with_the_right_frames(judged: Any, taught: Any) -> None:
    scale = heat_scale(taught)
    parts = [judged.part(82), judged.part(83, fault="ps"), judged.part(84, fault="rgb", at_mm=(3.0, 0.0))]
    verdicts = [taught.score(p) for p in parts]
    cards = [card(p, v, scale) for p, v in zip(parts, verdicts, strict=True)]
    assert [c.outcome for c in cards] == ["", "", ""]
    assert replace(cards[0], rejected=True).outcome == "false alarm"
    assert replace(cards[1], rejected=False, decided=False).outcome == ""
    assert replace(cards[1], rejected=False).outcome == "missed" and replace(cards[1], defective=None).outcome == ""
    sheet = parts_sheet(cards, scale, "Three parts", columns=3)
    red, green = ((sheet == np.array(c, np.uint8)).all(axis=2) for c in (REJECTED, ACCEPTED))
    assert np.nonzero(red)[1].max() < np.nonzero(green)[1].min()  # the good part stands last
    with pytest.raises(InputError, match="no panels"):
        parts_sheet([], scale, "None")


def test_plain_pictures_are_the_parts_own(judged: Any) -> None:
    part = judged.part(85)
    assert plain_picture(part, "ps") is part.ps
    assert plain_picture(part, "xyz").shape == (part.size, part.size, 3)
