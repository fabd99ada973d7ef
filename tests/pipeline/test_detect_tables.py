"""The layouts against cells worked out by hand, and the tables as Markdown, CSV, LaTeX and JSON."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakelight.detection.methods import PAPER
from rakelight.detection.metrics.evaluation import Evaluation, Evaluator, PartScore
from rakelight.detection.native import Modality
from rakelight.errors import InputError
from rakelight.pipeline.detect_compare import Comparison, Counts, curves_of
from rakelight.pipeline.detect_configurations import LAYOUTS, configurations_of, layout_of
from rakelight.pipeline.detect_holdout import Chosen
from rakelight.pipeline.detect_tables import Cell, Table, tables_of
from rakelight.pipeline.table_files import csv_text, latex, markdown, write_tables

GOOD = [0.0, 1.0, 2.0, 3.0]
FPFH: dict[Modality, str] = {"rgb": "efficientnet-lite0", "ps": "efficientnet-lite0", "xyz": "fpfh"}


def evaluated(scores: dict[str, dict[str, list[float]]], resamples: int = 0) -> Evaluation:
    """Of product → defect → scores, against good parts with scores 0, 1, 2, 3; half of a 2 × 2 map is defective."""
    evaluator = Evaluator(resamples=resamples)
    for product, defects in scores.items():
        for n, score in enumerate(GOOD):
            evaluator.add(PartScore(f"g{n}", "OK", False, score, np.full((2, 2), score, np.float32), category=product))
        for defect, values in defects.items():
            for n, score in enumerate(values):
                view = np.array([[score, 0.5]] * 2, np.float32)
                mask = np.array([[True, False]] * 2)
                evaluator.add(PartScore(f"{defect}{n}", defect, True, score, view, mask, category=product))
    return evaluator.result()


def comparison(
    scores: dict[str, dict[str, dict[str, list[float]]]],
    products: tuple[str, ...] = ("cap", "ring"),
    failures: dict[str, dict[str, str]] | None = None,
    resamples: int = 0,
) -> Comparison:
    """Of configuration → product → defect → scores; parts with a score above 2.5 are rejected."""
    counts: dict[str, dict[str, Counts]] = {}
    for name, of in scores.items():
        for product, defects in of.items():
            every = {"OK": GOOD} | defects
            tested = Counter({label: len(v) for label, v in every.items()})
            rejected = Counter({label: sum(x > 2.5 for x in v) for label, v in every.items()})
            counts.setdefault(name, {})[product] = Counts(tested, rejected, {})
    evaluations = {name: evaluated(of, resamples) for name, of in scores.items()}
    chosen = {p: Chosen((), (), "as said") for p in products}
    return Comparison((), evaluations, failures or {}, counts, {}, {}, chosen, (), 0.05)


def numbers(table: Table) -> list[list[str]]:
    return [[c.number for c in row] for row in table.rows]


def best(table: Table) -> list[list[int]]:
    return [[n for n, c in enumerate(row) if c.best] for row in table.rows]


def test_plain_has_a_table_a_figure_with_the_mean_and_the_best_marked() -> None:
    # 5 beats all four good parts: 1; 1.5 beats two: 0.5; 2.5 three: 0.75; both products of "a": (1 + 0.5) / 2.
    found = comparison(
        {
            "d3m": {"cap": {"dent": [5.0]}, "ring": {"dent": [1.5]}},
            "patchcore-rgb": {"cap": {"dent": [2.5]}, "ring": {"dent": [2.5]}},
        }
    )
    layout = layout_of("plain", methods=("d3m", "patchcore-rgb"))
    first, second, *_, last = tables_of(layout, found, ("i_auroc", "p_auroc_inside"))
    assert first.heads == (("product", "d3m", "patchcore-rgb"),)
    assert numbers(first) == [["cap", "1.000", "0.750"], ["ring", "0.500", "0.750"], ["mean", "0.750", "0.750"]]
    assert best(first) == [[1], [2], [1, 2]]
    assert second.title == "P-AUROC inside the part"
    assert [c.words for c in last.rows[0]] == ["cap", "1 of 4 good, 0 of 1 missed", "1 of 4 good, 1 of 1 missed"]


def test_table2_groups_methods_by_modality_and_puts_two_figures_below_each() -> None:
    layout = layout_of("table2", features=FPFH)
    names = [e.name for e in layout.entries]
    assert names == ["patchcore-rgb", "pointmae", "patchcore-rgb+xyz", "btf", "m3dm", "d3m"]
    scores = {n: {"cap": {"dent": [k + 0.5]}, "ring": {"dent": [5.0]}} for k, n in enumerate(names[:4])}
    found = comparison(scores, failures={"m3dm": {"cap": "no weights", "ring": "no weights"}})
    (table,) = tables_of(layout, found)
    assert table.heads[0] == ("Modality", *["RGB"] * 2, *["3D"] * 2, *["2D+3D"] * 6, *["D³"] * 2)
    assert table.heads[1][3:7] == ("FPFH", "FPFH", "FPFH+PatchCore", "FPFH+PatchCore")
    assert table.heads[2][1:5] == ("I-AUROC", "P-AUROC", "I-AUROC", "P-AUROC")
    assert [c.number for c in table.rows[0]][1::2] == ["0.250", "0.500", "0.750", "1.000", "not run", "not run"]
    assert best(table)[0] == [7, 8] and table.rows[-1][0].words == "mean"
    assert "Not run: M3DM (cap), M3DM (ring). no weights." in table.notes
    assert any("Cflow, SimpleNet and AST" in n for n in table.notes) and any("no yardstick" in n for n in table.notes)


def test_the_features_are_named_in_a_sentence() -> None:
    same, own = (
        "EfficientNet-lite0 for pictures and for the relief of the points",
        "EfficientNet-lite0 for pictures and FPFH for points",
    )
    assert f"Features: {same}, not those of the paper." in layout_of("table3").notes[0]
    assert f"Features: {own}, not" in layout_of("table3", features=FPFH).notes[0]
    assert (
        "DINO ViT-B/8 for pictures and Point-MAE for points, as in the paper"
        in layout_of("table3", features=PAPER).notes[0]
    )


def test_table3_is_one_row_of_means() -> None:
    layout = layout_of("table3")
    names = [e.name for e in layout.entries]
    assert names == ["patchcore-rgb", "patchcore-ps", "m3dm", "patchcore-rgb+ps", "d3m"]
    scores = {n: {"cap": {"dent": [0.5]}, "ring": {"dent": [5.0 if n == "d3m" else 1.5]}} for n in names}
    (table,) = tables_of(layout, comparison(scores))
    assert table.heads[0][1] == "PatchCore (2D)" and table.heads[0][-1] == "D³M (2D+Pseudo-3D+3D)"
    assert len(table.rows) == 1 and [c.number for c in table.rows[0]][1::2] == ["0.375"] * 4 + ["0.625"]
    assert 9 in best(table)[0] and 1 not in best(table)[0]


def test_table4_has_a_row_a_defect_and_compares_the_points() -> None:
    layout = layout_of("table4")
    whole, thin = (e.configuration for e in layout.entries)
    assert whole and thin and (whole.thin, thin.thin) == (1, 4) and whole.method == thin.method
    of = {"cap": {"dent": [5.0], "hole": [0.5]}}
    fewer = {"cap": {"dent": [2.5], "hole": [0.5]}}
    (table,) = tables_of(layout, comparison({whole.name: of, thin.name: fewer}, ("cap",)), ("i_auroc",))
    assert table.heads == (("", "", "I-AUROC", "I-AUROC"), ("Object", "Defect", "Original", "4×"))
    assert numbers(table) == [["cap", "dent", "1.000", "0.750"], ["cap", "hole", "0.250", "0.250"]]
    assert best(table) == [[2], [2, 3]]


def test_table5_says_by_how_much_it_differs_or_why_there_is_none() -> None:
    layout = layout_of("table5", features=PAPER)
    on, off = (e.configuration for e in layout.entries)
    assert on and off and off.method.settings == {"xyz": {"interpolation": "off"}}
    found = comparison({on.name: {"cap": {"dent": [2.5]}}, off.name: {"cap": {"dent": [1.5]}}}, ("cap",))
    (table,) = tables_of(layout, found, ("i_auroc",))
    assert [row[2].number for row in table.rows] == ["0.750", "0.500 (↓0.250)"]
    embedded = layout_of("table5", features=FPFH)
    assert configurations_of([embedded]) == []
    (none,) = tables_of(embedded, comparison({}, ("cap",)))
    assert [c.number for c in none.rows[0][2:]] == ["not run"] * 2
    assert any("Not run: w/ feature interpolation, w/o" in n and "fpfh interpolates nothing" in n for n in none.notes)


def test_the_ablation_names_every_piece_and_shares_configurations() -> None:
    layouts = [layout_of(name) for name in LAYOUTS]
    runs = configurations_of(layouts)
    assert len({c.name for c in runs}) == len(runs)
    ablation = {e.title: e for e in layout_of("ablation", features=FPFH).entries}
    made = {title: e.configuration.method for title, e in ablation.items() if e.configuration}
    assert made["without swapping"].swap is None and made["hard swapping"].swap == "hard"
    assert made["share swapped 0.2"].alpha == 0.2 and made["blocks of 4 × 4"].block == 4
    assert made["fusion by concatenation"].fusion == "concat" and made["one-class SVM decides"].decision == "ocsvm"
    assert ablation["without interpolation"].configuration is None
    assert made["RGB + Pseudo-3D + 3D"].modalities == ("rgb", "ps", "xyz")
    scores = {c.name: {"cap": {"dent": [1.5]}} for c in runs} | {"d3m": {"cap": {"dent": [2.5]}}}
    (table,) = tables_of(layouts[-1], comparison(scores, ("cap",)), ("i_auroc",))
    assert table.rows[0][2] == Cell("", 0.75, best=True) and sum(row[2].best for row in table.rows) == 1


def test_means_that_lack_a_product_are_marked_and_out_of_the_contest() -> None:
    found = comparison({"d3m": {"cap": {"dent": [5.0]}}, "btf": {"cap": {"dent": [1.5]}, "ring": {"dent": [1.5]}}})
    table = tables_of(layout_of("plain", methods=("d3m", "btf")), found, ("i_auroc",))[0]
    assert numbers(table)[1:] == [["ring", "not run", "0.500"], ["mean", "1.000*", "0.500"]]
    assert best(table)[2] == [] and any(n.startswith("* Mean") for n in table.notes)


def test_what_is_not_defined_is_said_and_no_nan_is_written() -> None:
    found = comparison({"d3m": {"cap": {}}}, ("cap",))
    table = tables_of(layout_of("plain"), found, ("i_auroc",))[0]
    assert numbers(table) == [["cap", "–"]]
    assert "cap: no defective part in the test; figures that need one are not defined (–)." in table.notes


def test_intervals_stand_in_brackets() -> None:
    found = comparison({"d3m": {"cap": {"dent": [2.5, 0.5, 5.0, 1.5]}}}, ("cap",), resamples=100)
    cell = tables_of(layout_of("plain"), found, ("i_auroc",))[0].rows[0][1]
    assert cell.low is not None and cell.high is not None and cell.low <= 0.625 <= cell.high
    assert cell.text() == f"0.625 ({cell.low:.2f}–{cell.high:.2f})"
    assert Cell("", 0.5, 0.49, 0.51).text() == "0.500 (0.490–0.510)"


@pytest.fixture
def table() -> Table:
    rows = (
        (Cell("knob_cap"), Cell("", 0.75, 0.5, 0.9, best=True), Cell("", 0.5)),
        (Cell("a|b"), Cell("–"), Cell("not run")),
    )
    return Table("table2", "Tab 100 %", (("Modality", "D³", "D³"), ("Model", "x", "y")), rows, ("A note.",))


def test_markdown(table: Table) -> None:
    lines = markdown([table]).splitlines()
    assert lines[2:5] == [
        "| Modality<br>Model | D³<br>x | D³<br>y |",
        "| --- | ---: | ---: |",
        "| knob\\_cap | **0.750** (0.50–0.90) | 0.500 |",
    ]
    assert lines[5] == "| a\\|b | – | not run |" and lines[-1] == "- A note."


def test_latex(table: Table) -> None:
    text = latex([table])
    assert r"Modality & \multicolumn{2}{c}{D\textsuperscript{3}} \\" in text and r"\cmidrule(lr){2-3}" in text
    assert r"knob\_cap & \textbf{0.750} {\scriptsize (0.50--0.90)} & 0.500 \\" in text
    assert r"\caption{Tab 100 \%}" in text and r"\begin{tabular}{lcc}" in text
    assert text.count("{") == text.count("}") and text.count(r"\begin") == text.count(r"\end")
    assert all(line.count("&") in (0, 1, 2) for line in text.splitlines())


def test_csv_has_a_line_a_cell(table: Table) -> None:
    lines = list(csv.DictReader(csv_text([table]).splitlines()))
    assert len(lines) == 4
    assert lines[0] == {
        "table": "table2", "row": "knob_cap", "column": "D³ / x", "value": "0.750000", "low": "0.500000",
        "high": "0.900000", "words": "",
    }  # fmt: skip
    assert (lines[3]["row"], lines[3]["value"], lines[3]["words"]) == ("a|b", "", "not run")


def test_files_are_of_the_kind_that_their_name_says(table: Table, tmp_path: Path) -> None:
    for kind in ("md", "csv", "tex"):
        write_tables(tmp_path / f"t.{kind}", [table], {})
        assert "knob" in (tmp_path / f"t.{kind}").read_text()
    write_tables(tmp_path / "t.json", [table], {"alpha": 0.05})
    data: dict[str, Any] = json.loads((tmp_path / "t.json").read_text())
    assert data["alpha"] == 0.05 and data["tables"][0]["rows"][0][1] == "0.750 (0.50–0.90)"
    with pytest.raises(InputError, match=r"t\.xlsx does not say what table"):
        write_tables(tmp_path / "t.xlsx", [table], {})


def test_what_cannot_be_asked_for_is_refused() -> None:
    with pytest.raises(InputError, match="layout 'table9' is unknown"):
        layout_of("table9")
    with pytest.raises(InputError, match="table3 has methods of its own; btf"):
        layout_of("table3", methods=("btf",))
    with pytest.raises(InputError, match="method 'simplenet' is unknown; known: d3m"):
        layout_of("plain", methods=("simplenet",))
    with pytest.raises(InputError, match="figure 'accuracy' is unknown; known: i_auroc"):
        tables_of(layout_of("plain"), comparison({"d3m": {"cap": {"dent": [1.0]}}}, ("cap",)), ("accuracy",))


def test_curves_are_those_of_the_scores() -> None:
    evaluator = Evaluator()
    for n, (score, bad) in enumerate([(4.0, True), (3.0, False), (2.0, True), (1.0, False)]):
        mask = np.eye(2, dtype=bool) if bad else None
        evaluator.add(PartScore(str(n), "dent" if bad else "OK", bad, score, np.full((2, 2), score, np.float32), mask))
    found = curves_of(*evaluator.curves(""))
    assert found.roc is not None and found.pro is not None
    np.testing.assert_allclose(found.roc, [[0, 0], [0, 0.5], [0.5, 0.5], [0.5, 1], [1, 1]])
    # PRO: both maps are flat, each defective pixel falls together with the normal ones of its part (2 of 12).
    assert np.interp(1 / 6 + 1e-9, found.pro[:, 0], found.pro[:, 1]) == pytest.approx(0.5)
    assert found.pro[-1, 0] == pytest.approx(0.3)
    evaluator = Evaluator()
    evaluator.add(PartScore("0", "OK", False, 1.0))
    assert curves_of(*evaluator.curves("")).to_dict() == {"roc": None, "pro": None}
