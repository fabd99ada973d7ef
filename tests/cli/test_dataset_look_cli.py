"""``rakelight dataset stats``, ``browse`` and ``card`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from rakelight.cli.dataset import dataset as group
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = Dataset.init(tmp_path / "set", "pilot")
    picture = np.random.default_rng(1).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    mask = np.zeros((20, 30), np.uint8)
    mask[4:8, 4:9] = 255
    with made.writer() as writer:
        writer.commit(SampleContent("fuse", "OK", "20251123021300", {5: picture}))
        writer.commit(SampleContent("fuse", "dent", "20251123021400", {5: picture}, mask=mask))
    return made.root


def run(*arguments: object) -> str:
    result = CliRunner().invoke(group, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_stats(folder: Path, tmp_path: Path) -> None:
    text = run("stats", folder, "--html", tmp_path / "s.html")
    assert "1 good, 1 defective in 1 groups" in text
    assert "no sample has XYZ" in text
    assert (tmp_path / "s.html").read_text().startswith("<!DOCTYPE html>")
    data = json.loads(run("stats", folder, "--json"))
    dent = data["classes"][1]
    assert (dent["label"], dent["area_px"]) == ("dent", {"min": 20, "median": 20, "max": 20})
    assert dent["area_share"] is None  # there is no part mask
    assert any("no part mask" in gap["what"] for gap in data["gaps"])


def test_browse(folder: Path, tmp_path: Path) -> None:
    made = json.loads(run("browse", folder, "-o", tmp_path / "g", "--json"))
    assert (made["samples"], made["drawn"], made["problems"]) == (2, 2, {})
    assert "0 drawn, 2 unchanged" in run("browse", folder, "-o", tmp_path / "g")


def test_card(folder: Path, tmp_path: Path) -> None:
    assert "not known: the licence" in run("card", folder)
    assert (folder / "README.md").is_file()
    made = json.loads(run("card", folder, "-o", tmp_path / "card.md", "--author", "A", "--json"))
    assert Path(made["citation"]) == tmp_path / "CITATION.cff"
