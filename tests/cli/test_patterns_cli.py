"""``rakelight patterns``: what it writes and prints."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from rakelight.cli.patterns import patterns as group
from rakelight.dataset import images
from rakelight.errors import InputError, RakelightError, StorageError
from rakelight.reconstruction.patterns import GrayPhaseShift, MultiFrequency, PatternSet

SMALL = ("--size", "80x60")


def run(*arguments: str | Path) -> Result:
    """Run a command; errors of rakelight are raised, as the main command would meet them."""
    result = CliRunner().invoke(group, [str(a) for a in arguments])
    if isinstance(result.exception, RakelightError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_export_writes_every_image_and_the_plan(tmp_path: Path) -> None:
    out = tmp_path / "set"
    done = run("export", *SMALL, "--axis", "both", "-o", out)
    assert done.exit_code == 0 and "80×60 px, 23 images" in done.stdout and "23 PNG and patterns.json" in done.stdout
    plan = PatternSet.from_plain(json.loads((out / "patterns.json").read_text()))
    assert plan == PatternSet(80, 60, axes=("column", "row"))
    pngs = sorted(out.glob("*.png"))
    assert [p.stem for p in pngs] == list(plan.names) and len(list(out.iterdir())) == 24
    for path, pattern in zip(pngs, plan.patterns, strict=True):
        np.testing.assert_array_equal(images.read_image(path), pattern.image(80, 60))


def test_export_replaces_only_an_export(tmp_path: Path) -> None:
    out = tmp_path / "set"
    run("export", *SMALL, "-o", out)
    with pytest.raises(StorageError, match="exists already"):
        run("export", *SMALL, "-o", out)
    run("export", *SMALL, "--steps", "3", "-o", out, "--overwrite")
    assert len(list(out.glob("*sinusoid*.png"))) == 3
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("keep")
    with pytest.raises(StorageError, match=r"holds no patterns\.json"):
        run("export", *SMALL, "-o", other, "--overwrite")
    assert [p.name for p in other.iterdir()] == ["mine.txt"]


def test_a_failed_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def fail_on_the_third(path: Path, image: np.ndarray) -> None:
        written.append(path)
        if len(written) == 3:
            raise StorageError("disk full", code="storage.disk_full")
        path.write_bytes(b"png")

    monkeypatch.setattr(images, "write_png", fail_on_the_third)
    with pytest.raises(StorageError, match="disk full"):
        run("export", *SMALL, "-o", tmp_path / "set")
    assert len(written) == 3 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ((), PatternSet()),
        (("--size", "1280X720", "--axis", "row"), PatternSet(1280, 720, axes=("row",))),
        (
            ("--steps", "4", "--period", "17", "--no-complementary", "--inverse"),
            PatternSet(code=GrayPhaseShift(4, 17, False, True)),
        ),
        (("--code", "multi-frequency"), PatternSet(code=MultiFrequency())),
        (
            ("--code", "multi-frequency", "--steps", "8,4,3", "--period", "16.5,128", "--period", "1160"),
            PatternSet(code=MultiFrequency((8, 4, 3), (16.5, 128, 1160))),
        ),
    ],
)
def test_preview_draws_the_set_that_the_options_say(
    tmp_path: Path, options: tuple[str, ...], wanted: PatternSet
) -> None:
    out = tmp_path / "sheet.png"
    told = json.loads(run("preview", *options, "-o", out, "--json").stdout)
    assert PatternSet.from_plain(told["pattern_set"]) == wanted
    assert told["images"] == list(wanted.names) and told["description"] == wanted.description()
    sheet = images.read_image(out)
    assert sheet.ndim == 3 and sheet.dtype == np.uint8 and sheet.shape[1] >= 1200
    assert sheet.std() > 20  # more than an empty ground


def test_preview_of_large_sets_and_projectors_stays_small(tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    run("preview", "--size", "16384x16384", "--steps", "64", "--period", "64", "--axis", "both", "-o", out)
    assert images.read_image(out).shape[1] < 4000
    with pytest.raises(StorageError, match="exists already"):
        run("preview", "-o", out)
    assert run("preview", *SMALL, "-o", out, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--size", "912"), "'912' is not COLUMNSxROWS"),
        (("--steps", "8.5"), "not made of whole numbers"),
        (("--period", "16,x"), "not made of numbers"),
        (("--period", "16,132"), "choose --code multi-frequency"),
        (("--period", "16.5"), "both whole numbers"),
        (("--code", "multi-frequency", "--inverse"), "belong to --code gray"),
        (("--axis", "x"), "'x' is not one of"),
    ],
)
def test_wrong_options_are_usage_errors(tmp_path: Path, options: tuple[str, ...], text: str) -> None:
    done = run("export", *options, "-o", tmp_path / "set")
    assert done.exit_code == click.UsageError.exit_code and text in done.output.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


def test_wrong_values_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1/\(1/16 − 1/17\) = 272\.0 px"):
        run("preview", "--code", "multi-frequency", "--period", "16,17", "-o", tmp_path / "sheet.png")
    with pytest.raises(InputError, match="an even number"):
        run("export", "--period", "15", "-o", tmp_path / "set")
    with pytest.raises(InputError, match="no PNG file"):
        run("preview", "-o", tmp_path / "sheet.jpg")
    assert list(tmp_path.iterdir()) == []


def test_help_teaches_with_examples() -> None:
    assert "rakelight patterns preview -o patterns.png" in run("--help").stdout
    assert "--size 1280x720 --axis both -o patterns" in run("export", "--help").stdout
    assert "[default: 16, or 16,132,1200]" in " ".join(run("preview", "--help").stdout.split())
