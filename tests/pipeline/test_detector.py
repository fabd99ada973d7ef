"""Detectors whole: taught, judging, updated, kept on disk; on drawn parts whose faults are in one modality each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakelight.detection import model_file
from rakelight.detection.detector import Detector, TaughtPart
from rakelight.detection.methods import METHODS, Method, make_method
from rakelight.detection.teaching import teach
from rakelight.errors import RakelightError

ALPHA = 0.1


def taught_by(judged: Any, method: Method, parts: list[Any]) -> Detector:
    extractors = {m: judged.Blocks(m) for m in method.features}
    return teach(parts, [TaughtPart(n, p.key) for n, p in enumerate(parts)], method, extractors, category="disc")


@pytest.fixture(scope="module")
def d3m(judged: Any) -> Detector:
    method = make_method("d3m", dict.fromkeys(("rgb", "ps", "xyz"), "blocks"), size=judged.SIZE, grid=judged.GRID)
    return taught_by(judged, method, [judged.part(seed) for seed in range(20)])


def maker(judged: Any) -> Any:
    return lambda name, modality, taps: judged.Blocks(modality)


# ------------------------------------------------------------------------------------------------------------------ verdicts
@pytest.mark.parametrize("fault", ["rgb", "ps", "xyz"])
def test_d3m_finds_a_fault_and_names_the_modality_and_the_place(judged: Any, d3m: Detector, fault: Any) -> None:
    verdict = d3m.score(judged.part(100, fault=fault, at_mm=(4.0, -2.0)), alpha=ALPHA)
    assert verdict.judgement.rejected and verdict.judgement.p_value <= ALPHA
    assert verdict.seen_by == fault
    good = judged.part(101, fault=fault, at_mm=(4.0, -2.0))
    height, width = np.nonzero(judged.part(101).mask)
    middle = np.array([height.mean(), width.mean()])
    step = good.facts["pitch_mm"]
    found = (np.asarray(verdict.peak) - middle) * step
    assert np.linalg.norm(found - np.array([-2.0, 4.0])) < 3.0  # mm: a patch is 8 working pixels


def test_good_parts_are_rejected_as_often_as_promised(judged: Any, d3m: Detector) -> None:
    verdicts = [d3m.score(judged.part(seed), alpha=0.2).judgement for seed in range(200, 260)]
    assert 2 <= sum(v.rejected for v in verdicts) <= 24  # 60 parts at 20 %: 12 expected, and 20 parts of calibration
    assert not verdicts[0].provisional


@pytest.mark.parametrize("without", [("ps",), ("rgb",), ("xyz",), ("rgb", "xyz")])
def test_a_part_that_lacks_modalities_is_judged_by_the_others(judged: Any, d3m: Detector, without: Any) -> None:
    left = next(m for m in ("rgb", "ps", "xyz") if m not in without)
    verdict = d3m.score(judged.part(300, fault=left, without=without), alpha=ALPHA)
    assert verdict.judgement.rejected and verdict.seen_by == left
    assert "fused" not in verdict.scored.judging or "xyz" not in without
    if {"rgb", "ps"} & set(without):  # swapping needs both: only plain banks judge
        assert all(name.endswith("_alone") for name in verdict.scored.judging)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_tells_a_fault_that_it_can_see_from_good_parts(judged: Any, name: str) -> None:
    method = make_method(name, dict.fromkeys(("rgb", "ps", "xyz"), "blocks"), size=judged.SIZE, grid=judged.GRID)
    detector = taught_by(judged, method, [judged.part(seed) for seed in range(12)])
    good = [detector.score(judged.part(seed)).judgement.score for seed in range(50, 60)]
    bad = [detector.score(judged.part(60, fault=m)).judgement.score for m in method.modalities]
    assert min(bad) > max(good)


def test_the_same_seed_gives_the_same_detector(judged: Any, d3m: Detector) -> None:
    again = taught_by(judged, d3m.method, [judged.part(seed) for seed in range(20)])
    part = judged.part(400, fault="ps")
    assert again.score(part).judgement == d3m.score(part).judgement
    assert np.array_equal(again.score(part).map, d3m.score(part).map, equal_nan=True)


def test_upstream_compat_decides_by_the_one_class_svm(judged: Any) -> None:
    features = dict.fromkeys(("rgb", "xyz"), "blocks")
    method = make_method("m3dm", features, size=judged.SIZE, grid=judged.GRID, compat="upstream")
    detector = taught_by(judged, method, [judged.part(seed) for seed in range(8)])
    assert detector.decision.method == "ocsvm"
    assert detector.score(judged.part(9, fault="rgb")).judgement.score > detector.score(judged.part(9)).judgement.score


# -------------------------------------------------------------------------------------------------------------------- update
def test_what_is_taught_later_is_no_longer_strange_and_can_be_forgotten(judged: Any, d3m: Detector) -> None:
    odd = judged.part(500, fault="rgb", label="OK")
    known = d3m.update([odd], [TaughtPart(-1, odd.key)])
    again = judged.part(501, fault="rgb")
    assert known.score(again).judgement.score < d3m.score(again).judgement.score
    assert len(known.parts) == 21 and len(known.calibration.numbers) == 21
    forgotten = known.forget(odd.key)
    assert len(forgotten.parts) == 20
    assert forgotten.score(again).judgement.score == pytest.approx(d3m.score(again).judgement.score, rel=1e-3)
    with pytest.raises(RakelightError, match="already"):
        known.update([odd], [TaughtPart(-1, odd.key)])
    with pytest.raises(RakelightError, match="does not know"):
        d3m.forget(odd.key)


def test_a_part_is_not_taught_twice_under_two_names(judged: Any, d3m: Detector) -> None:
    odd = judged.part(502, label="OK")
    known = d3m.update([odd], [TaughtPart(-1, odd.key, sha256="abc")])
    with pytest.raises(RakelightError, match="S0502, which is one of the model's parts already") as refused:
        known.update([odd], [TaughtPart(-1, "disc/OK/S0777", sha256="abc")])
    assert refused.value.code == "model.part_known"


def captured_twice(judged: Any, specimens: int) -> list[Any]:
    """Each specimen twice, all but the same: as when a part is captured again without being touched."""
    parts = [judged.part(seed) for seed in range(specimens)]
    twins = [replace(p, key=f"{p.key}b", rgb=np.clip(p.rgb.astype(int) + 1, 0, 255).astype(np.uint8)) for p in parts]
    return [part for pair in zip(parts, twins, strict=True) for part in pair]


def test_two_equal_parts_of_three_do_not_make_all_others_stand_out(judged: Any, d3m: Detector) -> None:
    first, second = judged.part(0), judged.part(1)
    few = taught_by(judged, judged.METHOD, [first, replace(first, key="disc/OK/S0900", specimen="other"), second])
    again = few.score(judged.part(2)).excess
    assert max(again.values()) < 100  # half of the calibration's greatest values are equal: their median deviation is 0


def test_captures_of_one_specimen_are_left_out_together(judged: Any) -> None:
    once = taught_by(judged, judged.METHOD, [judged.part(seed) for seed in range(12)])
    twice = taught_by(judged, judged.METHOD, captured_twice(judged, 12))
    assert twice.calibration.numbers.tolist() == list(range(24))
    assert np.median(twice.calibration.scores / np.repeat(once.calibration.scores, 2, axis=0)) > 0.8
    fresh = [twice.score(judged.part(seed), alpha=0.2).judgement.rejected for seed in range(300, 330)]
    assert sum(fresh) <= 14  # 6 expected; nearly all, were a part calibrated with its twin in the bank
    assert "24 good parts are captures of 12 specimens" in twice.facts["warnings"][0]
    assert not any("specimens" in said for said in once.facts["warnings"])


def test_another_capture_of_a_known_specimen_is_calibrated_as_a_stranger(judged: Any, d3m: Detector) -> None:
    first = judged.part(600)
    second = replace(first, key="disc/OK/S0601", rgb=first.rgb ^ 1)
    known = d3m.update([first], [TaughtPart(-1, first.key, specimen="twin")])
    both = known.update([second], [TaughtPart(-1, second.key, specimen="twin")])
    mistaken = known.update([second], [TaughtPart(-1, second.key)])  # nobody says that it is the same specimen
    usual = known.calibration.scores[-1]
    assert (usual > 0).all() and (mistaken.calibration.scores[-1] < usual).all()
    np.testing.assert_allclose(both.calibration.scores[-1], usual, rtol=0.1)


def test_captures_of_too_few_specimens_are_told(judged: Any) -> None:
    said = taught_by(judged, judged.METHOD, captured_twice(judged, 2)).facts["warnings"][0]
    assert "4 good parts are captures of 2 specimens, too few to calibrate" in said and "at least 3" in said


def test_a_promise_counts_only_parts_that_all_banks_scored(judged: Any, d3m: Detector) -> None:
    parts = [judged.part(seed, without=("xyz",) if seed < 5 else ()) for seed in range(12)]
    assert taught_by(judged, d3m.method, parts).calibration_parts == 7
    assert d3m.calibration_parts == len(d3m.parts) == 20


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_parts(judged: Any, count: int) -> None:
    with pytest.raises(RakelightError, match="at least 3"):
        taught_by(judged, judged.METHOD, [judged.part(seed) for seed in range(count)])


def test_a_modality_that_no_part_has(judged: Any) -> None:
    parts = [judged.part(seed, without=("ps",)) for seed in range(4)]
    with pytest.raises(RakelightError, match="ps"):
        taught_by(judged, judged.METHOD, parts)


def test_a_part_of_another_working_size(judged: Any, d3m: Detector) -> None:
    part = replace(judged.part(1), size=128)
    with pytest.raises(RakelightError, match="128"):
        d3m.score(part)


# ----------------------------------------------------------------------------------------------------------------- on disk
def test_a_saved_model_judges_the_same(judged: Any, d3m: Detector, tmp_path: Path) -> None:
    model_file.save(d3m, tmp_path / "model")
    loaded = model_file.load(tmp_path / "model", make=maker(judged))
    part = judged.part(600, fault="xyz")
    assert loaded.score(part).judgement == d3m.score(part).judgement
    assert np.array_equal(loaded.score(part).map, d3m.score(part).map, equal_nan=True)
    assert loaded.parts == d3m.parts and loaded.method == d3m.method
    with pytest.raises(RakelightError, match="exists"):
        model_file.save(d3m, tmp_path / "model")


def test_damaged_and_foreign_models_are_refused(judged: Any, d3m: Detector, tmp_path: Path) -> None:
    def refused(code: str, make: Any = None) -> None:
        with pytest.raises(RakelightError) as caught:
            model_file.load(tmp_path / "model", make=make or maker(judged))
        assert caught.value.code == code

    with pytest.raises(RakelightError, match=r"model\.json"):
        model_file.load(tmp_path)
    model_file.save(d3m, tmp_path / "model")
    path, arrays = tmp_path / "model" / "model.json", tmp_path / "model" / "model.safetensors"
    whole, data = json.loads(path.read_text("utf-8")), arrays.read_bytes()
    refused(
        "model.other_extractor", lambda name, modality, taps: replace(judged.Blocks(modality), weights_sha256="0" * 64)
    )
    arrays.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused("model.damaged")
    arrays.unlink()
    refused("model.damaged")
    arrays.write_bytes(data)
    for change, code in (
        ({"schema": 99}, "config.schema_unknown"),
        ({"kind": "something"}, "model.damaged"),
        ({"parts": None}, "model.damaged"),
        ({"method": {"name": "d3m"}}, "model.method"),
        ({"extractors": {"rgb": {}}}, "model.damaged"),
    ):
        path.write_text(json.dumps(whole | change), "utf-8")
        refused(code)
