"""Settings, working sizes and repeatability of detectors end to end: method → extractors → teaching → disk → scores."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rakelight.detection import model_file, teaching
from rakelight.detection.detector import Detector, TaughtPart
from rakelight.detection.features import point_mae, vit
from rakelight.detection.memory_bank import MemoryBank
from rakelight.detection.methods import PAPER, Method, make_method
from rakelight.detection.teaching import teach
from rakelight.errors import InputError, ModelError
from rakelight.files import sha256_file
from rakelight.pipeline.detect_teach import extractors_of

TAPS = {"rgb": (1,), "ps": (1,), "xyz": (0, 2)}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture()
def tiny_paper_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's extractors with small networks of random weights: theirs are not here."""
    monkeypatch.setitem(vit.SHAPES, "vit-b8-dino", vit.VitShape(patch=8, dim=32, depth=2, heads=2, grid=28))

    def pictures(weights_id: str, explicit: Path | None = None) -> tuple[vit.VisionTransformer, str]:
        return seeded(vit.VisionTransformer(vit.SHAPES[weights_id])), "aa" * 32

    def points(explicit: Path | None = None) -> tuple[point_mae.PointMaeEncoder, str]:
        return seeded(point_mae.PointMaeEncoder(point_mae.PointMaeShape(dim=24, depth=3, heads=2))), "bb" * 32

    monkeypatch.setattr(vit, "load_network", pictures)
    monkeypatch.setattr(point_mae, "load_network", points)


def seeded(network: Any) -> Any:
    generator = torch.Generator().manual_seed(3)
    for value in network.parameters():
        value.data = torch.randn(value.shape, generator=generator) * (0.2 if value.ndim > 1 else 0.05)
    return network.requires_grad_(False).eval()


def taught(judged: Any, method: Method, count: int = 5) -> Detector:
    parts = [judged.part(seed) for seed in range(count)]
    return teach(parts, [TaughtPart(n, p.key) for n, p in enumerate(parts)], method, extractors_of(method))


@pytest.mark.usefixtures("tiny_paper_networks")
def test_settings_reach_the_extractors_and_come_back_from_disk(judged: Any, tmp_path: Path) -> None:
    settings = {"xyz": {"interpolation": "off", "xyz_scale": "mm", "groups": 60, "group_size": 8}}
    method = make_method("d3m", PAPER, size=64, taps=TAPS, settings=settings, fusion="concat")
    detector = taught(judged, method)
    asked = {"taps": [0, 2], "pooling": "points", **settings["xyz"]}
    assert detector.extractors["xyz"].settings == asked
    model_file.save(detector, tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    document = json.loads(path.read_text("utf-8"))
    assert document["extractors"]["xyz"]["settings"] == asked  # the scale that groups were shown at is on record
    assert document["extractors"]["rgb"]["settings"] == {"taps": [1], "precision": "float32"}
    loaded = model_file.load(tmp_path / "model", device="auto" if not torch.cuda.is_available() else "cpu")
    assert loaded.method == method and loaded.extractors["xyz"].settings == asked
    part = judged.part(50, fault="xyz")
    assert loaded.score(part).judgement == detector.score(part).judgement
    with_interpolation = taught(judged, make_method("d3m", PAPER, size=64, taps=TAPS, fusion="concat"))
    assert with_interpolation.extractors["xyz"].settings["interpolation"] == "three-nearest"
    assert with_interpolation.score(part).scored.scores["xyz_alone"] != detector.score(part).scored.scores["xyz_alone"]

    document["method"]["settings"]["xyz"]["xyz_scale"] = "metres"  # another scale is another extractor
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(ModelError) as caught:
        model_file.load(tmp_path / "model")
    assert caught.value.code == "model.other_extractor"
    document["method"]["settings"]["xyz"] = {"colour": "red"}
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(ModelError, match="point-mae has no setting colour"):
        model_file.load(tmp_path / "model")


@pytest.mark.usefixtures("tiny_paper_networks")
@pytest.mark.parametrize("name", ["m3dm", "d3m"])
def test_upstream_compat_judges_points_on_a_finer_grid(judged: Any, tmp_path: Path, name: str) -> None:
    used = ("rgb", "ps", "xyz") if name == "d3m" else ("rgb", "xyz")
    taps = {m: TAPS[m] for m in used}
    options: dict[str, Any] = {"compat": "upstream", "fusion": "concat", "settings": {"xyz": {"groups": 100}}}
    method = make_method(name, PAPER, size=64, taps=taps, **options)
    detector = taught(judged, method)
    assert detector.extractors["xyz"].settings["pooling"] == "zero-padded"
    assert detector.extractors["xyz"].grid(64) == 16
    model_file.save(detector, tmp_path / "model")
    loaded = model_file.load(tmp_path / "model")
    part = judged.part(60, fault="rgb")
    verdict = loaded.score(part)
    assert verdict.map.shape == (64, 64) and verdict.judgement == detector.score(part).judgement


@pytest.mark.parametrize("size", [112, pytest.param(336, marks=pytest.mark.slow)])
def test_embedded_features_at_other_working_sizes(
    judged: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int
) -> None:
    for name, value in {
        "SIZE": size,
        "NATIVE": (240, 320),
        "MIDDLE": (168.0, 114.0),
        "RADIUS_PX": 80.0,
        "PITCH_MM": 0.125,
    }.items():
        monkeypatch.setattr(judged, name, value)  # the same part, at a resolution that fills the frame
    method = make_method("d3m", size=size, fusion="concat")
    detector = taught(judged, method, 3)
    model_file.save(detector, tmp_path / "model")
    loaded = model_file.load(tmp_path / "model")
    good, bad = judged.part(70), judged.part(71, fault="rgb")
    verdict = loaded.score(bad)
    assert verdict.map.shape == (size, size) and loaded.method.grid == size // 8
    assert verdict.judgement.score > loaded.score(good).judgement.score
    monkeypatch.setattr(judged, "SIZE", 64)
    with pytest.raises(Exception, match=f"taught at {size}"):
        loaded.score(judged.part(70))


def test_a_size_that_an_extractor_cannot_take_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="multiple of 16"):
        extractors_of(make_method("patchcore-rgb", size=216))


CHILD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("judged_parts", sys.argv[1])
judged = importlib.util.module_from_spec(spec); sys.modules["judged_parts"] = judged; spec.loader.exec_module(judged)
from test_detector_settings import teach_discs
teach_discs(judged, sys.argv[2])
"""


def teach_discs(judged: Any, folder: str | Path) -> list[float]:
    """Teach d3m eight drawn discs, keep it in ``folder``; scores of three others, which are kept there too."""
    parts = [judged.part(seed) for seed in range(8)]
    method = make_method("d3m", dict.fromkeys(("rgb", "ps", "xyz"), "blocks"), size=judged.SIZE, grid=judged.GRID)
    extractors: dict[Any, Any] = {m: judged.Blocks(m) for m in method.features}
    detector = teach(parts, [TaughtPart(n, p.key) for n, p in enumerate(parts)], method, extractors)
    model_file.save(detector, folder)
    scores = [detector.score(judged.part(90, fault=m)).judgement.score for m in ("rgb", "ps", "xyz")]
    np.save(Path(folder) / "scores.npy", np.array(scores))
    return scores


def test_two_processes_teach_the_same_bits(judged: Any, tmp_path: Path) -> None:
    here = teach_discs(judged, tmp_path / "here")
    script = [sys.executable, "-c", CHILD, str(Path(__file__).with_name("judged_parts.py")), str(tmp_path / "there")]
    subprocess.run(script, check=True, cwd=Path(__file__).parent)
    assert np.load(tmp_path / "there" / "scores.npy").tolist() == here
    for name in (model_file.ARRAYS, model_file.DOCUMENT):
        assert sha256_file(tmp_path / "here" / name) == sha256_file(tmp_path / "there" / name)


def test_banks_without_a_part_are_not_held_for_all_parts(judged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """400 parts would otherwise hold 400 copies of every bank: 40 GB."""
    seen: list[weakref.ref[MemoryBank]] = []
    alive = []
    measure = teaching.measure

    def watched(part: Any, maps: Any, method: Any, template: Any, banks: Any, *others: Any, **options: Any) -> Any:
        seen.extend(weakref.ref(bank) for bank in banks.values())
        alive.append(sum(bank() is not None for bank in seen))
        return measure(part, maps, method, template, banks, *others, **options)

    monkeypatch.setattr(teaching, "measure", watched)
    extractors: dict[Any, Any] = {m: judged.Blocks(m) for m in judged.METHOD.features}
    parts = [judged.part(seed) for seed in range(12)]
    numbers = [7, 3, 11, 0, 1, 2, 4, 5, 6, 8, 9, 10]  # in any order
    detector = teach(
        parts, [TaughtPart(n, p.key) for n, p in zip(numbers, parts, strict=True)], judged.METHOD, extractors
    )
    assert len(alive) == 12 and max(alive) <= 2 * len(judged.METHOD.banks)
    assert detector.calibration.numbers.tolist() == sorted(numbers)
    again = teach(parts, [TaughtPart(n, p.key) for n, p in enumerate(parts)], judged.METHOD, extractors)
    order = np.argsort(numbers)
    np.testing.assert_array_equal(detector.calibration.scores, again.calibration.scores[order])
