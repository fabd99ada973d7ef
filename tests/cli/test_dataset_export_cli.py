"""``rakelight dataset export`` and ``verify-export`` as a user meets them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from rakelight.cli.dataset import dataset as group
from rakelight.cli.dataset_export import FORMATS, VIEWS
from rakelight.dataset.exporters import job
from rakelight.dataset.exporters.targets import TARGETS
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset
from rakelight.errors import StorageError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set") / "set"
    rng = np.random.default_rng(0)
    mask = np.zeros((24, 32), np.uint8)
    mask[3:9, 4:9] = 255
    with Dataset.init(root, "pilot", license="CC-BY-4.0").writer() as writer:
        for label in ("OK", "OK", "pit"):
            picture = rng.integers(0, 255, (24, 32, 3), np.uint8)
            xyz = rng.uniform(90, 110, (24, 32, 3)).astype(np.float32)
            ng = mask if label == "pit" else None
            writer.commit(SampleContent("knob_cap", label, "0" * 14, {5: picture}, mask=ng, xyz=xyz))
    return root


def run(*arguments: object) -> Result:
    return CliRunner().invoke(group, [str(a) for a in arguments])


def test_help_names_every_format_and_who_loads_it() -> None:
    text = run("export", "--help").output
    assert set(FORMATS) == set(TARGETS) and set(VIEWS) == set(job.VIEWS)
    for words in ("anomalib MVTec3D", "M3DM", "ADEval", "load_dataset", "SHA256SUMS", "published D3M code"):
        assert words in text


def test_export_tells_counts_warnings_and_that_it_was_read_back(made: Path, tmp_path: Path) -> None:
    done = run("export", made, "--to", "mvtec3d", "-o", tmp_path / "out", "--size", 16)
    assert done.exit_code == 0, done.output
    assert re.search(r"knob_cap +test +pit +1", done.output) and "3 sample(s) for mvtec3d" in done.output
    assert "rakelight dataset split" in done.output and "AUROC cannot be computed" in done.output
    assert "about " in done.output and "whole, and equal to the data set" in done.output
    checked = run("verify-export", tmp_path / "out", "--against", made)
    assert checked.exit_code == 0 and "an export for mvtec3d, whole and equal" in checked.output


def test_json_and_a_spoiled_export(made: Path, tmp_path: Path) -> None:
    done = run("export", made, "--to", "mvtec-ad", "-o", tmp_path / "out", "--json")
    report = json.loads(done.output)
    assert report["counts"]["knob_cap"]["test"] == {"pit": 1} and report["problems"] == []
    (tmp_path / "out/knob_cap/train/good/000.png").unlink()
    checked = run("verify-export", tmp_path / "out", "--json")
    assert checked.exit_code == 7
    assert any("000.png is missing" in p for p in json.loads(checked.output)["problems"])


def test_left_out_samples_are_named_with_the_reason(made: Path, tmp_path: Path) -> None:
    done = run("export", made, "--to", "anomalib", "-o", tmp_path / "out", "--view", "PS")
    assert done.exit_code != 0 and "no PS picture" in str(done.exception)


def test_an_existing_folder_is_refused_and_overwritten_on_demand(made: Path, tmp_path: Path) -> None:
    arguments = ("export", made, "--to", "croissant", "-o", tmp_path / "out")
    assert run(*arguments).exit_code == 0
    refused = run(*arguments)
    assert isinstance(refused.exception, StorageError) and "--overwrite" in refused.exception.hint
    assert run(*arguments, "--overwrite").exit_code == 0


def test_no_background_is_a_flag_with_an_optional_word(made: Path, tmp_path: Path) -> None:
    arguments = ("export", made, "--to", "mvtec3d", "-o", tmp_path / "out", "--background-distance", "0.01")
    done = run(*arguments, "--no-background", "all", "--no-verify")
    assert getattr(done.exception, "code", "") == "export.no_table"  # random points: no table among them
    assert list(tmp_path.iterdir()) == []
