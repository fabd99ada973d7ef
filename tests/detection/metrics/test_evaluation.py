"""Figures per defect, category and pattern against computing them by hand, and parts that cannot be judged."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from rakelight.detection.metrics.areas import auroc, average_precision
from rakelight.detection.metrics.evaluation import Evaluator, PartScore, evaluate
from rakelight.detection.metrics.pro import aupro
from rakelight.errors import DatasetError, InputError

from .conftest import natural


def parts_of(category: str, seed: int, count: int = 24) -> list[PartScore]:
    """Every other part defective, with dents and stains in turn; a quarter without its point cloud."""
    maps, masks = natural(count, 72, seed)
    rng = np.random.default_rng(seed)
    on_part = np.zeros((72, 72), np.bool_)
    on_part[8:64, 8:64] = True
    out = []
    for n, (m, mask) in enumerate(zip(maps, masks, strict=True)):
        bad = bool(mask.any())
        label = ("dent" if n % 4 == 1 else "stain") if bad else "OK"
        there = {"rgb", "ps"} | ({"xyz"} if n % 8 < 6 else set())
        score = float(m.max() + 2 * rng.standard_normal())
        known = mask if bad else None
        out.append(PartScore(f"S{n:04d}", label, bad, score, m, known, None, on_part, frozenset(there), category))
    return out


def pixel_auroc(parts: list[PartScore], inside: bool = False) -> float:
    scores, truth = [], []
    for p in parts:
        assert p.map is not None and p.part is not None
        mask = np.zeros(p.map.shape, np.bool_) if p.mask is None else p.mask.astype(np.bool_)
        counted = p.part | mask if inside else np.ones(mask.shape, np.bool_)
        scores.append(p.map[counted])
        truth.append(mask[counted])
    return float(roc_auc_score(np.concatenate(truth), np.concatenate(scores)))


def part_auroc(parts: list[PartScore]) -> float:
    return float(roc_auc_score([p.defective for p in parts], [p.score for p in parts]))


def test_figures_of_a_category_its_defects_and_patterns() -> None:
    parts = parts_of("cap", 1)
    found = evaluate(parts).categories["cap"]
    kinds = {label: [p for p in parts if not p.defective or p.label == label] for label in ("dent", "stain")}
    patterns = {name: [p for p in parts if p.pattern == name] for name in ("rgb+ps", "rgb+ps+xyz")}
    assert set(found.defects) == set(kinds) and set(found.patterns) == set(patterns)
    pairs = [(found.all, parts)]
    pairs += [(found.defects[k], some) for k, some in kinds.items()]
    pairs += [(found.patterns[k], some) for k, some in patterns.items()]
    for metrics, some in pairs:
        assert metrics.counts["good"] + metrics.counts["defective"] == len(some)
        assert metrics["i_auroc"].value == pytest.approx(part_auroc(some), abs=1e-12)
        assert metrics["p_auroc"].value == pytest.approx(pixel_auroc(some), abs=1e-4)
        assert metrics["p_auroc_inside"].value == pytest.approx(pixel_auroc(some, inside=True), abs=1e-4)
        maps = [p.map for p in some if p.map is not None]
        masks = [None if p.mask is None else p.mask.astype(np.bool_) for p in some]
        for limit in (0.3, 0.05, 0.01):
            assert metrics[f"aupro_{limit:g}"].value == pytest.approx(aupro(maps, masks, limit).value, abs=5e-4)


def test_the_mean_weighs_categories_alike_and_names_those_without_the_figure() -> None:
    first, second = parts_of("cap", 1), parts_of("flange", 2, 12)
    good_only = [replace(p, category="knob") for p in parts_of("knob", 3, 6) if not p.defective]
    found = evaluate(first + second + good_only)
    values = [found.categories[c].all["i_auroc"].value for c in ("cap", "flange")]
    mean = found.mean["i_auroc"]
    assert None not in values and mean.value == pytest.approx(sum(v or 0 for v in values) / 2)
    assert mean.reason == "without knob: no defective part" == mean.to_dict()["reason"]
    assert found.categories["knob"].all["aupro_0.3"].to_dict() == {"value": None, "reason": "no defective pixel"}
    assert found.mean.counts["good"] == 12 + 6 + 3
    assert "NaN" not in json.dumps(found.to_dict())


def test_intervals_are_of_parts_and_repeat() -> None:
    parts = parts_of("cap", 4) + parts_of("flange", 5)
    first, again = (evaluate(parts, resamples=200, seed=3) for _ in range(2))
    assert first.to_dict() == again.to_dict()
    for name, figure in (first.categories["cap"].all.figures | {"mean": first.mean["p_auroc"]}).items():
        assert figure.value is not None and figure.low is not None and figure.high is not None, name
        assert figure.low <= figure.value <= figure.high, name
        assert 0 < figure.high - figure.low < 0.8, name
    own = first.categories["cap"].all["p_auroc"]
    mean = first.mean["p_auroc"]
    assert own.low and own.high and mean.low and mean.high
    assert mean.high - mean.low < own.high - own.low + 0.02
    assert evaluate(parts).mean["p_auroc"].low is None


def test_intervals_of_pixels_agree_with_drawing_the_parts_themselves() -> None:
    parts = parts_of("cap", 6)
    found = evaluate(parts, resamples=400, seed=1).mean
    rng = np.random.default_rng(9)
    groups = [[p for p in parts if p.label == label] for label in ("OK", "dent", "stain")]
    drawn = []
    for _ in range(120):
        some = [g[k] for g in groups for k in rng.integers(0, len(g), len(g))]
        value = aupro([p.map for p in some if p.map is not None], [p.mask for p in some], 0.3).value  # type: ignore[misc]
        assert value is not None
        drawn.append(value)
    low, high = np.quantile(drawn, [0.025, 0.975])
    figure = found["aupro_0.3"]
    assert figure.low == pytest.approx(low, abs=0.05) and figure.high == pytest.approx(high, abs=0.05)


@pytest.mark.parametrize("strength", [0.5, 6.0, 40.0])
def test_draws_of_pixels_lie_about_the_figure_and_hold_it(strength: float) -> None:
    """Few defective pixels among many: most of average precision is decided at a false-positive rate below 10⁻³."""
    rng = np.random.default_rng(3)
    parts = []
    for n in range(20):
        field, mask = rng.gamma(2.0, size=(160, 160)).astype(np.float32), np.zeros((160, 160), bool)
        if n % 2:
            mask[40 + n : 44 + n, 60:63] = True
            field[mask] += np.float32(strength * rng.random())
        parts.append(
            PartScore(
                str(n), "dent" if n % 2 else "OK", bool(n % 2), float(field.max()), field, mask if n % 2 else None
            )
        )
    found = evaluate(parts, resamples=200, seed=2).mean
    for name, figure in found.figures.items():
        assert figure.value is not None and figure.low is not None and figure.high is not None, name
        assert figure.low <= figure.value <= figure.high, name
    drawn = []
    for _ in range(60):
        some = [parts[k] for k in [*(2 * rng.integers(0, 10, 10)), *(2 * rng.integers(0, 10, 10) + 1)]]
        scores = np.concatenate([p.map.ravel() for p in some if p.map is not None])
        bad = np.concatenate([np.zeros(25600, bool) if p.mask is None else p.mask.ravel() != 0 for p in some])
        drawn.append(average_precision(scores, bad).value or 0.0)
    low, high = np.quantile(drawn, [0.025, 0.975])
    width = high - low
    ap = found["p_ap"]
    assert ap.low == pytest.approx(low, abs=0.35 * width) and ap.high == pytest.approx(high, abs=0.35 * width)


def test_the_hundred_thresholds_stand_beside_the_exact_figure() -> None:
    parts = parts_of("cap", 1)
    metrics = evaluate(parts, compat="mvtec100", limits=(0.3,)).mean
    maps = [p.map for p in parts if p.map is not None]
    masks = [None if p.mask is None else p.mask.astype(np.bool_) for p in parts]
    assert metrics["aupro_0.3_mvtec100"].value == pytest.approx(aupro(maps, masks, compat="mvtec100").value, abs=2e-3)
    assert metrics["aupro_0.3"].value == pytest.approx(aupro(maps, masks).value, abs=1e-4)


def test_parts_without_pixels_count_by_their_score_only() -> None:
    parts = parts_of("cap", 7)
    known = [p for p in parts if p.key not in ("S0001", "S0003", "S0004")]
    some = [replace(p, mask=None) if p.key == "S0001" else p for p in parts]
    some = [replace(p, mask=np.zeros((72, 72), np.uint8)) if p.key == "S0003" else p for p in some]
    some = [replace(p, map=None) if p.key == "S0004" else p for p in some]
    found = evaluate(some).categories["cap"].all
    assert found.counts == {"good": 12, "defective": 12, "without_map": 1, "without_mask": 1, "empty_mask": 1}
    assert found["i_auroc"].value == pytest.approx(part_auroc(parts), abs=1e-12)
    assert found["p_auroc"].value == pytest.approx(pixel_auroc(known), abs=1e-4)
    scores = evaluate([replace(p, map=None, mask=None) for p in parts]).mean
    assert scores["p_auroc"].reason == "all parts: no part has a map and known pixels".replace("all parts", "cap")


def test_ignored_regions_do_not_count_and_may_hold_anything() -> None:
    parts = parts_of("cap", 8)
    ignore = np.zeros((72, 72), np.bool_)
    ignore[:, 40:] = True
    blank = [replace(p, ignore=ignore, map=np.where(ignore, np.nan, p.map)) for p in parts if p.map is not None]
    figures = evaluate(blank).mean.figures
    left = [
        replace(p, map=p.map[:, :40], mask=None if p.mask is None else p.mask[:, :40], part=p.part[:, :40])
        for p in parts
        if p.map is not None and p.part is not None
    ]
    assert figures["p_auroc"].value == pytest.approx(evaluate(left).mean["p_auroc"].value, abs=1e-9)
    assert figures["p_auroc_inside"].value == pytest.approx(evaluate(left).mean["p_auroc_inside"].value, abs=1e-9)


def test_all_pixels_defective_and_all_parts_defective() -> None:
    full = np.ones((8, 8), np.bool_)
    part = PartScore("a", "burnt", True, 1.0, full.astype(np.float32), full)
    figures = evaluate([part]).mean.figures
    assert figures["p_auroc"].reason == "all parts: no normal pixel"
    assert figures["p_auroc_inside"].reason == "all parts: no normal pixel on a part"
    assert figures["i_f1_max"].reason == "all parts: no normal part"
    assert all(f.value is None and f.reason for f in figures.values())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"score": math.nan}, InputError, "score of part cap/S0001 is nan"),
        ({"map": np.full((72, 72), np.nan)}, InputError, "map of part cap/S0001 holds 5184 NaN"),
        ({"mask": np.ones((60, 60), np.bool_)}, InputError, "mask of part cap/S0001 is 60×60, its map 72×72"),
        ({"ignore": np.ones((72, 71), np.bool_)}, InputError, "ignore mask of part cap/S0001 is 72×71"),
        ({"part": np.ones((72, 72), np.uint8)}, InputError, "part mask of part cap/S0001 has dtype uint8"),
        ({"defective": False}, DatasetError, "part cap/S0001 is good, but its mask has"),
        ({"key": "S0000"}, DatasetError, "part cap/S0000 is given twice"),
    ],
)
def test_contradictions_are_refused_and_the_rest_goes_on(change: dict, error: type, message: str) -> None:
    parts = parts_of("cap", 1)
    evaluator = Evaluator()
    for n, part in enumerate(parts):
        if n == 1:
            with pytest.raises(error, match=message):
                evaluator.add(replace(part, **change))
        else:
            evaluator.add(part)
    assert evaluator.result().to_dict() == evaluate([parts[0], *parts[2:]]).to_dict()


def test_a_refused_first_part_does_not_spoil_the_scale_of_the_next() -> None:
    """Scores about 1000 with a spread of 0.01 resolve only around a centre among them."""
    parts = [replace(p, map=1000 + p.map / 100) for p in parts_of("cap", 1) if p.map is not None]
    evaluator = Evaluator()
    evaluator.add(replace(parts[2], map=None))
    with pytest.raises(InputError):
        evaluator.add(replace(parts[0], map=np.full((72, 72), np.nan)))
    for part in (*parts[:2], *parts[3:]):
        evaluator.add(part)
    rest = [p for p in parts if p.key != parts[2].key]
    assert evaluator.result().mean["p_auroc"].value == pytest.approx(pixel_auroc(rest), abs=1e-4)


def test_a_category_has_the_same_interval_whichever_others_there_are() -> None:
    cap, flange = parts_of("cap", 4, 12), parts_of("flange", 5, 12)
    alone, both = evaluate(cap, resamples=60), evaluate(flange + cap, resamples=60)
    assert alone.categories["cap"].to_dict() == both.categories["cap"].to_dict()


def test_settings_are_checked() -> None:
    for settings, message in (
        ({"limits": (0.3, 1.5)}, r"limits \[0.3, 1.5\]"),
        ({"resamples": 10}, "10 resamples are too few"),
        ({"level": 95}, "level 95"),
        ({"compat": "upstream"}, "compat 'upstream'"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate([], **settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no parts were given"):
        evaluate([])


def test_one_pattern_is_named_and_an_unknown_one_too() -> None:
    part = PartScore("a", "OK", False, 0.0)
    assert part.pattern == "unknown"
    assert replace(part, available=frozenset()).pattern == "none"
    assert replace(part, available=frozenset({"xyz", "rgb", "heat"})).pattern == "rgb+xyz+heat"
    assert auroc([0.0, 1.0], [False, True]).value == 1
