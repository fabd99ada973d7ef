"""The leak test: planted leaks are found, honest data sets are not accused, and the statistics are right."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

import rakelight.dataset.leak_test as module
from rakelight.dataset.checks import check_dataset
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.leak_statistics import Stratum, auroc, holm, least_p, number_test, word_test
from rakelight.dataset.leak_test import FactSet, LeakReport, leak_test
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.sample_scan import About, Fact
from rakelight.dataset.writer import Dataset

CATEGORIES = ("clay_pot", "flange", "knob_cap")
EACH = 40


def honest(seed: int = 0, each: int = EACH) -> list[FactSet]:
    """Three products, half of each defective, with 41 facts of every kind that have nothing to do with the label."""
    rng = np.random.default_rng(seed)
    samples = []
    for c, category in enumerate(CATEGORIES):
        order = rng.permutation(each)
        for n in range(each):
            label = "OK" if n % 2 else ("scratch", "dent", "pit")[n // 2 % 3]
            quality = 1000 * (c + 1) + rng.normal() * 50  # one cause behind several facts
            facts = [Fact(name=f"size {k}", value=quality + rng.normal() * 20, about="content") for k in range(12)]
            facts += [Fact(name=f"number {k}", value=rng.normal()) for k in range(12)]
            facts += [Fact(name=f"word {k}", value=str(rng.integers(2 + k))) for k in range(8)]
            facts += [Fact(name=f"rare {k}", value=float(rng.random() < 0.1)) for k in range(4)]
            facts += [
                Fact(name="time of the capture", value=float(order[n])),
                Fact(name="time again", value=-2.0 * order[n]),
                Fact(name="constant", value="the same"),
                Fact(name="unique", value=f"{category} {n}"),
                Fact(name="of the product", value=category),
            ]
            samples.append(FactSet.of(SampleKey(category, label, n + 1), facts))
    return samples


def planted(samples: list[FactSet], name: str, good: Any, bad: Any, about: About = "record", **only: Any) -> LeakReport:
    """The verdict when ``name`` is ``good`` or ``bad`` (each called with the sample's number); the rest as it is."""
    changed = []
    for s in samples:
        value = (
            good(s.key.number)
            if s.key.is_ok or s.key.label not in only.get("labels", (s.key.label,))
            else bad(s.key.number)
        )
        fact = (
            [Fact(name=name, value=value, about=about)] if s.key.category in only.get("categories", CATEGORIES) else []
        )
        changed.append(FactSet.of(s.key, [*s.facts.values(), *fact]))
    return leak_test(changed)


def shuffled(samples: list[FactSet], seed: int) -> list[FactSet]:
    """The labels exchanged within each category."""
    rng = np.random.default_rng(seed)
    out: list[FactSet] = []
    for category in CATEGORIES:
        members = [s for s in samples if s.key.category == category]
        labels = rng.permutation([s.key.label for s in members])
        out += [
            FactSet(SampleKey(category, str(label), s.key.number), s.facts)
            for s, label in zip(members, labels, strict=True)
        ]
    return out


# --- false alarms ---


@pytest.mark.slow
def test_at_most_one_honest_data_set_in_twenty_is_accused() -> None:
    samples = honest()
    accused = sum(leak_test(shuffled(samples, seed)).verdict != "clean" for seed in range(200))
    assert accused <= 10


def test_the_level_is_held_also_where_facts_are_coarse() -> None:
    """Without the demand for an effect the chance of an alarm is that of the p-values: they must be honest."""
    samples = honest(1, each=16)
    least = [min(corrected(shuffled(samples, seed))) for seed in range(100)]
    assert np.mean(np.array(least) < 0.05) <= 0.11  # 5 % and three standard errors


def corrected(samples: list[FactSet]) -> list[float]:
    """The corrected p of every test made, also where the effect is too small for a finding."""
    seen: list[float] = []
    original = module._finding

    def keep(test: Any, p: float, count: int) -> Any:
        seen.append(p)
        return original(test, p, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_finding", keep)
        module.leak_test(samples)
    return seen


# --- leaks ---


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (lambda n: "a", lambda n: "b"),  # every defective sample another word
        (lambda n: "a" if n % 13 else "b", lambda n: "b" if n % 13 else "a"),  # nearly all
        (lambda n: float(n % 7), lambda n: 5.0 + n % 7),  # numbers that overlap
        (lambda n: 0.166, lambda n: 0.167),
        (lambda n: f"x{n % 3}", lambda n: f"y{n % 4}"),  # several words on each side
    ],
)
def test_a_leak_in_one_product_is_found(good: Any, bad: Any) -> None:
    report = planted(honest(), "planted", good, bad, categories=("flange",))
    assert report.verdict == "leak"
    assert {f.category for f in report.findings} == {"flange"}
    assert all(f.facts[0] == "planted" for f in report.findings)
    assert report.findings[0].auroc > 0.75
    assert "flange: planted tells OK from" in report.findings[0].sentence


def test_a_weak_leak_in_all_products_is_found_over_all_of_them() -> None:
    rng = np.random.default_rng(3)
    report = planted(honest(), "planted", lambda n: rng.normal(), lambda n: rng.normal() + 1.2)
    assert any(f.category == "all categories" for f in report.findings)


def test_a_leak_of_one_defect_is_found() -> None:
    report = planted(honest(), "planted", lambda n: "a", lambda n: "b", labels=("dent",), categories=("flange",))
    assert ("flange", "dent") in {(f.category, f.label) for f in report.findings}


def test_products_that_differ_are_no_leak() -> None:
    """Each product has its own constant, and one product more defects than another: nothing within a product."""
    samples = [s for s in honest() if s.key.category != "flange" or s.key.is_ok or s.key.number % 4]
    assert leak_test(samples).verdict == "clean"


def test_what_a_defect_may_change_is_allowed_until_it_replaces_the_picture() -> None:
    rng = np.random.default_rng(4)

    def sizes(shift: float) -> LeakReport:
        return planted(
            honest(), "JPEG: file size", lambda n: rng.normal(), lambda n: rng.normal() + shift, about="content"
        )

    assert sizes(1.0).verdict == "clean"
    assert sizes(4.0).verdict == "leak"
    assert planted(honest(), "books", lambda n: float(n), lambda n: 99.0 + n, about="books").verdict == "suspect"


def test_a_missing_fact_is_a_fact() -> None:
    samples = [
        FactSet.of(s.key, [*s.facts.values(), *([Fact(name="PS: present", value="yes")] if s.key.is_ok else [])])
        for s in honest()
    ]
    assert leak_test(samples).findings[0].facts == ("PS: known or not",)


def test_facts_that_say_the_same_are_told_together() -> None:
    samples = [
        FactSet.of(s.key, [Fact(name=f"{m}: dtype", value="float32" if s.key.is_ok else "float64") for m in "abc"])
        for s in honest()
    ]
    report = leak_test(samples)
    assert report.findings[0].facts == ("a: dtype", "b: dtype", "c: dtype")
    assert "(and what says the same: b: dtype, c: dtype)" in report.findings[0].sentence
    assert "OK: float32 ×" in report.findings[0].sentence


def test_too_few_samples_are_told_not_judged() -> None:
    few = [s for s in honest() if s.key.number <= 6 or s.key.category == "flange"]
    report = planted(few, "planted", lambda n: "a", lambda n: "b", categories=("clay_pot",))
    assert report.verdict == "clean"
    assert report.untested == (
        "clay_pot has 3 good and 3 bad samples, too few to tell a leak from chance alone",
        "knob_cap has 3 good and 3 bad samples, too few to tell a leak from chance alone",
    )
    good = [s for s in honest() if s.key.is_ok]
    assert "only good samples" in leak_test(good).untested[0]
    assert leak_test([]).verdict == "untested"
    nothing = leak_test([s for s in few if s.key.category == "clay_pot"])
    assert (nothing.verdict, nothing.tests, len(nothing.untested)) == ("untested", 0, 1)


# --- the case of Real-IAD D³: X and Y are placeholders, and not the same ones ---


def test_the_placeholders_of_the_released_files(tmp_path: Path) -> None:
    """Datasets reference, 1.4: constants in X and Y differ between good and bad files; knob_cap scored 0.999 by them."""
    rng = np.random.default_rng(0)
    dataset = Dataset.init(tmp_path / "set", "d3")
    constants: dict[bool, list[float]] = {True: [], False: []}
    with dataset.writer() as writer:
        for n in range(60):
            good = n % 2 == 0
            constant = 0.166 + 1e-4 * rng.normal() + (0 if good else 4e-4)
            constants[good].append(np.float32(constant))
            xyz = np.full((12, 16, 3), constant, np.float32)
            xyz[..., 2] = 100 + rng.normal(size=(12, 16))
            xyz[rng.random((12, 16)) < 0.1] = np.nan
            picture = rng.integers(0, 255, (12, 16, 3), np.uint8)
            label = "OK" if good else "scratch"
            writer.commit(SampleContent("knob_cap", label, f"202511231{n // 10}0{n % 10}00", {5: picture}, xyz=xyz))
    expected = scipy.stats.mannwhitneyu(constants[False], constants[True]).statistic / 900
    report = check_dataset(dataset, only=("leak", "xyz"))
    assert report.leak is not None
    assert report.leak.verdict == "leak"
    (finding,) = report.leak.findings
    assert finding.facts == ("XYZ: x placeholder value", "XYZ: y placeholder value")
    assert finding.auroc == pytest.approx(expected)
    assert finding.auroc > 0.98
    assert "knob_cap: XYZ: x placeholder value" in finding.sentence
    assert "can cheat" in finding.sentence
    assert sum("distinct value" in f.what for f in report.findings if f.check == "xyz") == 120


@pytest.mark.slow
def test_simulated_samples_are_clean_and_planted_leaks_found(tmp_path: Path, repository: Path) -> None:
    """The benchmark in small: one product, no surfaces, the leaks that need none."""
    spec = importlib.util.spec_from_file_location("leak_benchmark", repository / "benchmarks" / "leak_test.py")
    assert spec is not None and spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    dataset = benchmark.build(tmp_path / "set", tmp_path / "recordings", 20, False, ("knob_cap",))
    report = check_dataset(dataset)
    assert report.leak is not None
    assert report.leak.verdict == "clean"
    assert report.count("error") == 0
    for number, (name, (change, word)) in enumerate(benchmark.PLANTS.items()):
        if change not in benchmark.OF_THE_SURFACE:
            leak = benchmark.plant(dataset.root, tmp_path / f"copy{number}", change)
            assert any(word in fact for f in leak.findings for fact in f.facts), name
    assert check_dataset(dataset).leak == report.leak  # the copies left the original alone


# --- statistics ---


def test_the_number_test_agrees_with_scipy() -> None:
    rng = np.random.default_rng(5)
    for ties in (1, 100):
        values = np.round(rng.normal(size=50) * ties) / ties
        bad = rng.random(50) < 0.4
        values[bad] += 0.5
        theirs = scipy.stats.mannwhitneyu(values[bad], values[~bad], method="asymptotic")
        area, p = number_test([Stratum(values, bad)])
        assert area == pytest.approx(theirs.statistic / (bad.sum() * (~bad).sum()))
        assert p == pytest.approx(theirs.pvalue, rel=1e-9)
        assert auroc(values, bad) == pytest.approx(area)


def test_the_word_test_agrees_with_fisher_and_chi_square() -> None:
    bad = np.arange(40) % 2 == 0
    for share in (2, 9, 20):
        codes = np.where(np.arange(40) < share, 0, 1)
        table = [[(bad & (codes == c)).sum(), (~bad & (codes == c)).sum()] for c in (0, 1)]
        assert word_test([Stratum(codes, bad)])[1] == pytest.approx(scipy.stats.fisher_exact(table).pvalue)
    rng = np.random.default_rng(6)
    codes = rng.integers(0, 4, 400)
    skewed = rng.random(400) < 0.4 + 0.05 * codes
    table = [[(skewed & (codes == c)).sum(), (~skewed & (codes == c)).sum()] for c in range(4)]
    expected = scipy.stats.chi2_contingency(table, lambda_="log-likelihood").pvalue
    assert word_test([Stratum(codes, skewed)])[1] == pytest.approx(expected, rel=0.3)


def test_effects_of_words() -> None:
    bad = np.arange(40) % 2 == 0
    assert word_test([Stratum(bad.astype(np.int64), bad)])[0] == 1.0
    assert word_test([Stratum(np.arange(40), bad)]) == (0.5, 1.0)  # each its own word: nothing can be told


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert least_p(2, 2) == pytest.approx(1 / 3)
