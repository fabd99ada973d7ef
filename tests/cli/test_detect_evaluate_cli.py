"""``rakelight detect evaluate`` from the command line on a small data set of drawn discs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from rakelight import cli
from rakelight.cli import detect_evaluate
from rakelight.cli.detect import detect as group
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset
from rakelight.detection.methods import EMBEDDED
from rakelight.errors import RakelightError
from rakelight.pipeline.detect_tables import INTERVALS, Cell, Table

HIGH, WIDE = 120, 160


def disc(seed: int, spot: tuple[int, int] | None = None) -> SampleContent:
    """A grey disc in two modalities; ``spot`` (row, column) is stained."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[:HIGH, :WIDE]
    part = np.hypot(v - 60, u - 80) < 45
    rgb = np.where(part[..., None], 120 + 12 * np.sin(u / 4.0)[..., None], 20) + rng.normal(0, 3, (HIGH, WIDE, 3))
    xyz = np.stack([u * 0.1, v * 0.1, 300 + 0.02 * np.cos(v / 6.0) + rng.normal(0, 0.002, v.shape)], axis=-1)
    xyz[~part] = np.nan
    mask = None
    if spot:
        stained = np.hypot(v - spot[0], u - spot[1]) < 6
        rgb[stained] = (230, 40, 40)
        mask = stained.astype(np.uint8) * 255
    return SampleContent(
        "disc", "stain" if spot else "OK", f"2025112302{seed:04d}", {5: np.clip(rgb, 0, 255).astype(np.uint8)},
        xyz=xyz.astype(np.float32), mask=mask, part_mask=part, specimen=f"d{seed}", pitch_mm=0.1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight good discs and three stained ones."""
    made = Dataset.init(tmp_path_factory.mktemp("data") / "set", "discs")
    with made.writer() as writer:
        for seed in range(8):
            writer.commit(disc(seed))
        for seed, spot in ((20, (50, 70)), (21, (75, 90)), (22, (60, 80))):
            writer.commit(disc(seed, spot))
    return made.root


def called(*arguments: object) -> Result:
    return CliRunner().invoke(group, ["evaluate", *map(str, arguments)], catch_exceptions=False)


def run(*arguments: object) -> str:
    result = called(*arguments, "--device", "cpu")
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def evaluated(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("out")
    text = run(
        folder, "--method", "patchcore-rgb", "--method", "pointmae", "--resamples", 60, "-o", out / "t.tex",
        "--report", out / "page.html", "--sheet", out / "sheet.png", "--json",
    )  # fmt: skip
    return json.loads(text), out


def test_figures_are_those_of_the_parts_tested(evaluated: tuple[dict[str, Any], Path]) -> None:
    data, _ = evaluated
    assert data["parts"]["disc"]["taught"] == 5 and data["parts"]["disc"]["tested"] == {"good": 3, "defective": 3}
    rgb = data["methods"]["patchcore-rgb"]["categories"]["disc"]["all"]
    assert rgb["i_auroc"]["value"] == 1 and rgb["p_auroc_inside"]["value"] > 0.9 and rgb["aupro_0.3"]["value"] > 0.8
    for figure in rgb.values():
        if "low" in figure:
            assert figure["low"] <= figure["value"] <= figure["high"]
    blind = data["methods"]["pointmae"]["categories"]["disc"]["all"]
    assert blind["p_auroc_inside"]["value"] < rgb["p_auroc_inside"]["value"]  # a stain has no height
    assert data["verdicts"]["patchcore-rgb"]["disc"]["stain"]["seen_by"] == {"rgb": 3}
    cells = {t["name"]: t["rows"][0] for t in data["tables"]}
    assert cells["i_auroc"][0] == "disc" and cells["i_auroc"][1].startswith("1.000")
    assert data["configurations"]["pointmae"]["features"] == {"xyz": EMBEDDED["xyz"]}
    assert set(data["seconds"]) == {"patchcore-rgb", "pointmae"} and data["failures"] == {}


def test_the_page_shows_tables_curves_and_every_part_and_loads_nothing(evaluated: tuple[dict[str, Any], Path]) -> None:
    data, out = evaluated
    html = (out / "page.html").read_text()
    assert not re.search(r"(src|href|url)\W{0,3}https?:", html) and "default-src 'none'" in html
    assert html.count('alt="disc/') == 2 * 6  # two pictures a part tested
    assert "Methods side by side" in html and "patchcore-rgb</th>" in html and "no split: taught 5 of 8" in html
    assert html.count("<polyline") == 4 and "(ROC)" in html and "(PRO)" in html
    assert "Which modality named what" in html and "<td>stain</td>" in html
    assert html.count("no verdict") == 6  # five parts taught allow no alarm at 5 %
    assert str(out / "page.html") in data["files"]


def test_too_few_parts_to_reject_any_are_told_everywhere(evaluated: tuple[dict[str, Any], Path], folder: Path) -> None:
    data, out = evaluated
    said = "5 good parts are too few to reject any at a false-alarm level of 0.05 (19 needed); the least that 5 allow is 0.167"
    html = (out / "page.html").read_text()
    assert (
        f"6 parts, none of which can be rejected: {said}." in html and "missed" not in html.split("Which modality")[1]
    )
    assert sum(said in note for note in data["notes"]) == 1  # of both methods
    assert data["verdicts"]["patchcore-rgb"]["disc"]["stain"]["undecided"] == 3
    (verdicts,) = (t for t in data["tables"] if t["name"] == "verdicts")
    assert verdicts["rows"][0][1:] == ["none can be rejected"] * 2
    allowed = called(folder, "--method", "patchcore-rgb", "--resamples", 0, "--alpha", 0.167, "--device", "cpu")
    assert "too few" not in allowed.output and "0 of 3 missed" in allowed.stdout


def test_a_table_wider_than_the_terminal_is_turned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = (Cell("Avg"), *(Cell("", 0.5 + n / 100, 0.4, 0.9) for n in range(8)))
    heads = (("", *(f"PatchCore (2D number {n // 2})" for n in range(8))), ("", *("I-AUROC", "P-AUROC") * 4))
    wide = Table("table3", "Wide", heads, (cells,), (INTERVALS,))
    top, body = detect_evaluate.turned(wide, [[c.text() for c in cells]])
    assert top == ["", "", "Avg"] and len(body) == 8
    assert body[0] == ["PatchCore (2D number 0)", "I-AUROC", "0.500 (0.40–0.90)"]
    assert body[1][:2] == ["", "P-AUROC"] and body[2][0] == "PatchCore (2D number 1)"
    shown: list[tuple[Any, Any]] = []
    monkeypatch.setattr(detect_evaluate, "table", lambda title, heads, rows: shown.append((heads, rows)))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for columns in (300, 80, 45):
        monkeypatch.setenv("COLUMNS", str(columns))
        detect_evaluate._show([wide])
    (_, broad), (_, high), (_, bare) = shown
    assert len(broad) == 1 and len(high) == 8
    assert high[0][2] == "0.500\n(0.40–0.90)" and len(bare) == 8
    said = capsys.readouterr().out
    assert said.count(INTERVALS) == 2 and said.count("Intervals need a wider window") == 1
    assert bare[0][2] == "0.500"


def test_sheets_are_one_a_method_and_the_table_is_latex(evaluated: tuple[dict[str, Any], Path]) -> None:
    _, out = evaluated
    names = sorted(p.name for p in out.glob("*.png"))
    assert names == ["sheet_patchcore-rgb_disc.png", "sheet_pointmae_disc.png"]
    picture = cv2.imread(str(out / names[0]))
    assert picture is not None and picture.shape[1] > 1000
    assert r"\begin{tabular}{lcc}" in (out / "t.tex").read_text()


def test_text_says_what_was_taught_and_what_is_not_defined(folder: Path) -> None:
    text = run(folder, "--method", "patchcore-xyz", "--parts", 8, "--resamples", 0)
    assert "disc: taught the first 8 of 8 good parts (--parts 8); tested 0 good and 3 defective." in text
    assert "disc: no normal part in the test; figures that need one are not defined (–)." in text
    assert "nan" not in text.lower().replace("defined", "")


def test_what_fails_stands_in_the_table_with_its_reason(folder: Path) -> None:
    """The discs have no pseudo-3D picture."""
    result = called(
        folder, "--layout", "table2", "--method", "patchcore-ps", "--method", "patchcore-xyz", "--resamples", 0,
        "--figure", "p_auroc_inside", "--device", "cpu",
    )  # fmt: skip
    assert result.exit_code == 10, result.output
    assert (
        "not run" in result.stdout
        and "Not run: patchcore-ps (disc). not one of the 5 good parts has ps" in result.stdout
    )
    assert "P-AUROC inside the part" in result.stdout


def test_table5_without_interpolation_teaches_nothing_and_says_why(folder: Path) -> None:
    text = run(folder, "--layout", "table5")
    assert "Not run: w/ feature interpolation, w/o feature interpolation. " in text
    assert "interpolates nothing between groups of points" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--method", "patchcore-ps"), "not one of the 5 good parts has ps"),
        (("--method", "simplenet"), "method 'simplenet' is unknown; known: d3m"),
        (("--category", "cup"), "has no category 'cup'; it has: disc"),
        (("--layout", "table3", "--method", "btf"), "has methods of its own"),
        (("--figure", "accuracy"), "figure 'accuracy' is unknown"),
        (("-o", "table.xlsx"), "does not say what table to write"),
        (("--split", "nightly"), "nightly"),
    ],
)
def test_what_cannot_be_done_is_told_before_long_work(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(RakelightError, match=words):
        called(folder, *arguments, "--device", "cpu")


@pytest.mark.parametrize("arguments", [("--split", "a", "--parts", 5), ("--resamples", 7), ("--sheet", "s.jpg")])
def test_options_that_exclude_each_other_are_wrong_usage(folder: Path, arguments: tuple[object, ...]) -> None:
    assert called(folder, *arguments).exit_code == 2


def test_ctrl_c_leaves_nothing_half_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rakelight.pipeline.detect_compare.part_score", interrupt)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    page = tmp_path / "page.html"
    monkeypatch.setattr(
        sys,
        "argv",
        ["rakelight", "detect", "evaluate", str(folder), "--method", "patchcore-xyz", "--report", str(page)],
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130 and list(tmp_path.iterdir()) == []
    told = capsys.readouterr()
    assert "interrupted; nothing half-written remains" in told.err and "Traceback" not in told.err
