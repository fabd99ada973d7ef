"""Close-ups show the place they say; texts say the rank, and warn of what lies badly."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rakelight.detection.closeup import close_up, view_matrix
from rakelight.detection.native import Native
from rakelight.errors import InputError
from rakelight.pipeline import explain_sheet
from rakelight.pipeline.contact_sheet import contact_sheet
from rakelight.pipeline.detect_explain import Explanation, Pose, Sight, _pose
from rakelight.pipeline.explain_sheet import close_map, explanation_sheet, score_strip
from rakelight.pipeline.explain_text import (
    axis,
    explanation_dict,
    explanation_lines,
    histogram,
    p_words,
    rank,
    share_words,
    warnings,
)


def native_of(part: Any, mark: tuple[int, int] | None = None) -> Native:
    """As captured: grey, with one bright native pixel block at (u, v)."""
    rgb = np.full((*part.native_size, 3), 90, np.uint8)
    if mark is not None:
        rgb[mark[1] - 1 : mark[1] + 2, mark[0] - 1 : mark[0] + 2] = 250
    return Native(part.key, "", "OK", part.native_size, rgb=rgb, ps=rgb.copy(), pitch_mm=part.pitch_mm)


def explained(judged: Any, taught: Any, seed: int, **how: Any) -> Explanation:
    part = judged.part(seed, **how)
    verdict = taught.score(part)
    calibration = taught.decision.patterns[tuple(taught.names.index(b) for b in verdict.judgement.banks)].calibration
    sights = tuple(Sight(m, x, x >= 3, verdict.peak, 9) for m, x in verdict.excess.items())
    return Explanation(taught, part, native_of(part), verdict, calibration, sights, (), _pose(part, taught))


@pytest.mark.parametrize("middle", [(30.0, 20.0), (12.5, 50.25)])
def test_a_close_up_shows_the_place_at_its_middle(judged: Any, middle: tuple[float, float]) -> None:
    part = judged.part(1)
    u, v, _ = np.linalg.solve(np.vstack([part.to_native, [0, 0, 1]]), [middle[1], middle[0], 1.0])
    mark = round(u), round(v)
    near = close_up(part, native_of(part, mark), middle, 16.0, 160)
    row, column = np.unravel_index(int(near.rgb.sum(axis=2).argmax()), (160, 160))
    bright = np.argwhere(near.rgb[..., 0] > 200).mean(axis=0)
    at = part.to_native @ [*mark, 1.0]  # the block's middle, working pixels (column, row)
    expected = (view_matrix(middle, 16.0, 160) @ [*at, 1.0])[1::-1]
    assert np.abs(bright - expected).max() < 2.0 and abs(row - 79.5) < 15 and abs(column - 79.5) < 15
    assert near.facts["pitch_mm"] == pytest.approx(part.facts["pitch_mm"] / 10)
    np.testing.assert_allclose(near.to_native @ [*mark, 1.0], expected[::-1], atol=1e-9)


def test_a_map_keeps_its_values_and_its_gaps(judged: Any) -> None:
    values = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    values[:, :8] = np.nan
    near = close_map(values, (32.0, 8.0), 16.0, 16)
    assert np.isnan(near[:, :7]).all() and np.isfinite(near[:, 9:]).all()
    assert near[8, 10] == pytest.approx(values[24:41, 0:17][8, 10], abs=40)
    outside = close_map(values, (0.0, 32.0), 16.0, 16)
    assert np.isnan(outside[:7]).all() and np.isfinite(outside[9:]).all()


def test_close_ups_that_make_no_sense(judged: Any) -> None:
    part = judged.part(1)
    with pytest.raises(InputError, match="close-up"):
        close_up(part, native_of(part), (3.0, 3.0), 0.0, 100)
    other = replace(native_of(part), size=(3, 3))
    with pytest.raises(InputError, match="native pixels"):
        close_up(part, other, (3.0, 3.0), 9.0, 100)


def test_rank_and_p_value_are_told_as_they_are(judged: Any, taught: Any) -> None:
    bad = explained(judged, taught, 60, fault="rgb")
    assert rank(bad) == "higher than 24 of 24 good parts"
    assert (
        "0 of 24" in p_words(bad)
        and "0.04 is the least that 24 parts can give" in p_words(bad)
        and "75 more" in p_words(bad)
    )
    good = explained(judged, taught, 61)
    data = explanation_dict(good)
    above = sum(value >= good.verdict.judgement.score for value in data["calibration"])
    assert data["rank"] == {"higher_than": 24 - above, "of": 24}
    assert data["p_value"] == pytest.approx((1 + above) / 25)


def test_the_histogram_counts_every_part_and_marks_what_is_beyond(judged: Any, taught: Any) -> None:
    found = explained(judged, taught, 60, fault="xyz")
    low, high, limit = axis(found)
    assert low <= found.calibration[0] and math.isfinite(limit) and limit < high
    blocks, marks, legend = histogram(found)
    assert 1 <= sum(c in "▁▂▃▄▅▆▇█" for c in blocks) <= 24 and marks.count("▲") == 1 and "|" in marks
    assert ("beyond the axis" in legend) == (found.verdict.judgement.score > high)
    assert score_strip(found, 800).shape == (96, 800, 3)


@pytest.mark.parametrize(("spans", "inside"), [(0.5, True), (4.0, True), (9.5, True), (50.0, False)])
def test_the_axis_ends_beyond_the_score(judged: Any, taught: Any, spans: float, inside: bool) -> None:
    found = explained(judged, taught, 60, fault="xyz")
    known = max(float(found.calibration[-1]), found.verdict.judgement.threshold)
    score = known + spans * max(known - float(found.calibration[0]), 1.0)
    verdict = found.verdict
    moved = replace(found, verdict=replace(verdict, judgement=replace(verdict.judgement, score=score)))
    assert (axis(moved)[1] > score) == inside
    assert ("beyond the axis" in histogram(moved)[2]) != inside


def test_no_bank_above_its_usual_score_is_said(judged: Any, taught: Any) -> None:
    found = explained(judged, taught, 61)
    judgement = found.verdict.judgement
    calm = {name: replace(one, share=0.0) for name, one in judgement.contributions.items()}
    still = replace(found, verdict=replace(found.verdict, judgement=replace(judgement, contributions=calm)))
    assert share_words(still) == "no bank is above its usual score"
    text = "\n".join(explanation_lines(still))
    assert "no bank is above its usual score" in text and "0 %\n" not in text
    assert "%" in share_words(explained(judged, taught, 60, fault="rgb"))


def test_the_sheet_names_the_verdict_over_each_picture(
    judged: Any, taught: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(explain_sheet, "contact_sheet", lambda *a, **k: drawn.append(a) or contact_sheet(*a, **k))
    explanation_sheet(explained(judged, taught, 60, fault="rgb"), width=200)
    panels, _, notes = drawn[0]
    assert [p.title for p in panels[:3]] == ["Verdict over RGB", "Verdict over pseudo-3D", "Verdict over 3D"]
    assert panels[0].caption.startswith("RGB alone: stands out") and any("all modalities together" in n for n in notes)
    assert " x the spread" not in panels[1].caption and "× the spread" in panels[1].caption


def test_every_bank_that_judged_is_in_the_text(judged: Any, taught: Any) -> None:
    found = explained(judged, taught, 62, fault="ps", without=("xyz",))
    text = "\n".join(explanation_lines(found))
    for name in found.verdict.judgement.banks:
        assert f"  {name} " in text
    assert any("lacks 3D" in line for line in warnings(found))
    assert explanation_sheet(found, width=200).dtype == np.uint8


def test_a_part_that_lies_badly_is_named(judged: Any, taught: Any) -> None:
    part = replace(
        judged.part(1), facts=judged.part(1).facts | {"cut_share": 0.2, "registration": {"correlation": 0.1}}
    )
    told = _pose(part, taught)
    assert len(told.warnings) == 2 and "20 % of it" in told.warnings[1] and "0.10" in told.warnings[0]
    assert _pose(judged.part(1), taught) == Pose(None, None, None, judged.part(1).facts["cut_share"], ())
