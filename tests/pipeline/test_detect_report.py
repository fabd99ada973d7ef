"""The report: every part in order of score, right counts, figures and promises, nothing loaded from elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from rakelight.detection.conformal import promise
from rakelight.detection.metrics.evaluation import Evaluator, PartScore
from rakelight.errors import InputError
from rakelight.pipeline.detect_report import ReportRow, detector_facts, report_page, report_row
from rakelight.pipeline.heat_scale import heat_scale
from rakelight.pipeline.levels import least_level


@pytest.fixture(scope="module")
def rows(judged: Any, taught: Any) -> list[ReportRow]:
    scale = heat_scale(taught)
    parts = [
        judged.part(60),
        judged.part(61, fault="ps"),
        judged.part(62, fault="rgb", at_mm=(3.0, 3.0)),
        judged.part(63),
    ]
    return [report_row(p, taught.score(p), taught, scale, defective=p.label != "OK") for p in parts]


def test_parts_stand_in_order_of_score(rows: list[ReportRow]) -> None:
    html = report_page("Test", rows)
    keys = [row.verdict["key"] for row in sorted(rows, key=lambda r: -r.verdict["score"])]
    places = [html.index(f"<td>{key}</td>") for key in keys]
    assert places == sorted(places)
    assert html.count('class="mark bad">reject') == 2 and html.count('class="mark good">OK') == 2
    assert (
        "4 parts: 2 rejected, 2 accepted. 0 of 2 defective parts missed, 0 of 2 good parts rejected by mistake." in html
    )
    for row in rows:
        assert row.verdict["reason"].split(": ", 1)[1] in html


def test_pictures_lie_in_the_page_and_are_small(rows: list[ReportRow], judged: Any, taught: Any) -> None:
    html = report_page("Test", rows, scales={"disc": heat_scale(taught)})
    sources = re.findall(r'src="([^"]*)"', html)
    assert len(sources) == 2 * len(rows) + 1 and all(s.startswith("data:image/jpeg;base64,") for s in sources)
    assert not re.search(r"(src|href|url)\W{0,3}https?:", html) and "default-src 'none'" in html
    assert all(len(row.plain) + len(row.heat) < 25_000 for row in rows)
    assert judged.decoded(rows[1].heat).shape == (150, 150, 3)
    assert rows[1].heat != rows[1].plain


def test_wrong_verdicts_are_marked(rows: list[ReportRow]) -> None:
    turned = [replace(row, defective=not row.defective) for row in rows]
    html = report_page("Test", turned)
    assert html.count(">missed</span>") == 2 and html.count(">false alarm</span>") == 2
    unknown = report_page("Batch", [replace(row, defective=None) for row in rows])
    assert "missed" not in unknown and "4 parts: 2 rejected, 2 accepted.</p>" in unknown


def test_wrong_verdicts_come_first(rows: list[ReportRow]) -> None:
    lowest = min(rows, key=lambda r: r.verdict["score"])
    html = report_page("Test", [replace(r, defective=True) if r is lowest else r for r in rows])
    keys = re.findall(r"<td>(disc/[^<]*)</td>", html)
    assert keys[0] == lowest.verdict["key"] and len(keys) == 4
    right = [r for r in rows if r is not lowest]
    assert keys[1:] == [r.verdict["key"] for r in sorted(right, key=lambda r: -r.verdict["score"])]


def test_sections_of_an_evaluation_stand_where_they_belong(rows: list[ReportRow]) -> None:
    extra = ["<figure>curve</figure>", "<p>named</p>"]
    html = report_page("Test", rows, above=["<section>tables</section>"], extra={"disc": extra}, style=".own { }")
    places = [html.index(x) for x in ("tables</section>", "<h2>disc</h2>", *extra, '<table class="parts">')]
    assert places == sorted(places) and ".own { }</style>" in html


def test_the_threshold_is_drawn_where_there_is_one(rows: list[ReportRow]) -> None:
    limit = rows[0].verdict["threshold"]
    html = report_page("Test", rows)
    assert "stroke-dasharray" in html and f"threshold {limit:#.3g}" in html
    none = [replace(row, verdict={**row.verdict, "threshold": None, "rejected": False}) for row in rows]
    without = report_page("Test", none)
    assert "stroke-dasharray" not in without and "No threshold: too few good parts" in without
    two = [replace(rows[0], verdict={**rows[0].verdict, "threshold": limit + 1}), *rows[1:]]
    assert "thresholds of their own" in report_page("Test", two)


def test_figures_promises_and_facts(rows: list[ReportRow], taught: Any) -> None:
    evaluator = Evaluator(resamples=60)
    for n, row in enumerate(rows):
        label = "dent" if row.defective else "OK"
        evaluator.add(PartScore(f"p{n}", label, bool(row.defective), row.verdict["score"], category="disc"))
    data = evaluator.result().to_dict()
    told = promise(12, 0.1)
    html = report_page("Test", rows, evaluation=data, promises={"disc": told}, about={"disc": detector_facts(taught)})
    assert f"{data['categories']['disc']['all']['i_auroc']['value']:.3f} (" in html and "I-AUROC" in html
    assert "— dent" in html and data["categories"]["disc"]["all"]["p_auroc"]["reason"] in html
    assert all(sentence in html for sentence in told.sentences)
    facts = dict(detector_facts(taught))
    assert facts["Good parts"] == "24" and facts["Features"] == "RGB: blocks, pseudo-3D: blocks, 3D: blocks"
    assert re.match(r"rgb: \d+ vectors × 3 of 24 parts", facts["Memory banks"]) and facts["Memory banks"] in html


def test_taught_parts_are_counted_apart_and_not_drawn(rows: list[ReportRow]) -> None:
    plain = [replace(row, defective=None) for row in rows]
    strange = max(range(4), key=lambda n: plain[n].verdict["score"])
    mixed = [replace(row, taught=n == strange) for n, row in enumerate(plain)]
    html = report_page("Batch", mixed)
    near = "they lie nearer to themselves than any new part would"
    assert f"3 parts: 1 rejected, 2 accepted. 1 more part had been taught (1 rejected): {near}." in html
    assert html.count('<span class="taught">taught</span>') == 1 and "Without the 1 taught." in html
    half = report_page("Batch", [replace(row, taught=n % 2 == 0) for n, row in enumerate(plain)])
    assert "Without the 2 taught." in half and "All of taught" not in half
    alone = [replace(row, taught=True) for row in plain]
    assert "All of taught parts." in report_page("Batch", alone)
    assert f"4 parts had been taught (2 rejected): {near}." in report_page("Batch", alone)
    assert near not in report_page("Batch", plain)


def test_what_cannot_be_rejected_is_not_missed(rows: list[ReportRow]) -> None:
    few = {"threshold": None, "rejected": False, "calibration_parts": 13}
    none = [replace(row, verdict={**row.verdict, **few}) for row in rows]
    html = report_page("Test", none, promises={"disc": promise(13, 0.05)})
    said = "13 good parts are too few to reject any at a false-alarm level of 0.05 (19 needed); the least that 13 allow is 0.072"
    assert f"4 parts, none of which can be rejected: {said}." in html
    assert "missed" not in html and html.count('class="mark open">no verdict') == 4 and "provisional" not in html
    some = report_page("Test", [*none[:2], *rows[2:]])
    assert "0 of 1 defective parts missed, 0 of 1 good parts" in some and "2 cannot be rejected, whatever" in some


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 9, 13, 19, 22, 60, 99, 333])
def test_the_least_level_is_one_that_so_many_parts_allow(parts: int) -> None:
    assert promise(parts, least_level(parts)).possible and not promise(parts, least_level(parts) - 0.0015).possible


def test_categories_have_sections_of_their_own(rows: list[ReportRow]) -> None:
    html = report_page("Two", [*rows, *(replace(row, category="ring") for row in rows[:1])])
    disc, ring = html.index("<h2>disc</h2>"), html.index("<h2>ring</h2>")
    assert disc < ring and html.count('<table class="parts">') == 2 and "1 part: " in html


def test_names_from_files_are_only_text(rows: list[ReportRow]) -> None:
    evil = "<script>alert(1)</script>"
    row = replace(rows[0], category=evil, verdict={**rows[0].verdict, "key": evil, "reason": f"accepted: {evil}"})
    html = report_page(evil, [row])
    assert "<script" not in html and html.count("&lt;script&gt;alert(1)") >= 5


def test_no_parts_are_refused() -> None:
    with pytest.raises(InputError, match="no parts"):
        report_page("Nothing", [])
