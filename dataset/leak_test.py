"""The leak test: does anything that is not the picture tell good parts from bad ones?

A detector that sees such a fact learns it instead of the defect. It happened: in Real-IAD D³ the X and Y channels of the XYZ
files hold constants that differ between good and bad files, and a detector scored AUROC 0.999 on ``knob_cap`` by them, 0.90
without. Each fact is tested alone, within each category and over all of them; record facts also for
each defect against the good parts. p-values are corrected by Holm's rule for all tests made, and a verdict also needs an
effect (an AUROC). Facts that are the same for all samples of a category, and facts that say the same as another one, are not tested
again, and no test is made that so few samples could not pass (Tarone 1990): this is decided without looking at which
sample has which label, so it biases nothing.

**Verdicts.** Facts that must not depend on the part (``record``) are a leak from AUROC 0.75. What a defect may rightly
change a little (``content``: the size of a compressed picture, the NaN share of the part) is a leak only when it nearly
replaces the picture, from 0.95. What stands in our own books only (``books``: the time of the commit) is at most suspect.
Where no test at all could be made the verdict is ``untested``, never ``clean``.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset.layout import OK, SampleKey
from rakelight.dataset.leak_statistics import Stratum, holm, least_p, number_test, word_test
from rakelight.dataset.sample_scan import About, Fact

Verdict = Literal["untested", "clean", "suspect", "leak"]
ALL = "all categories"
_LEVEL = 0.05  # chance of one false alarm in the whole test
_DEFECTS_SHARE = 0.2  # of it, for the tests of single defects
_SUSPECT = {"record": 0.65, "content": 0.85, "books": 0.75}
_LEAK = {"record": 0.75, "content": 0.95, "books": math.inf}
_FEW_VALUES = 6  # a number of so few values is tested as a word: exactly
_SHOWN = 6
_CHEAT = {
    "record": "a detector or loader that sees it can cheat",
    "content": "a defect may change it a little, but here it nearly replaces the picture; look for another cause",
    "books": "no loader sees it, but it often comes with a difference that one does see",
}


@dataclass(frozen=True)
class FactSet:
    """A sample's label (in its key) and its facts by name."""

    key: SampleKey
    facts: Mapping[str, Fact]

    @classmethod
    def of(cls, key: SampleKey, facts: Iterable[Fact]) -> FactSet:
        return cls(key, {fact.name: fact for fact in facts})


@dataclass(frozen=True)
class LeakFinding:
    """A fact, or several that say the same, that tells ``label`` from OK within ``category``.

    ``auroc`` is 0.5 to 1, whichever the direction; ``p`` is corrected for all tests, ``raw_p`` is not.
    """

    category: str
    label: str
    facts: tuple[str, ...]
    verdict: Verdict
    auroc: float
    p: float
    raw_p: float
    sentence: str


@dataclass(frozen=True)
class LeakReport:
    """What the test found. ``untested`` says why a category could not be judged; ``tests`` is their number."""

    verdict: Verdict
    findings: tuple[LeakFinding, ...]
    facts: int
    tests: int
    samples: int
    untested: tuple[str, ...]


@dataclass(frozen=True)
class _Column:
    """One fact over the samples of a category: float values or codes of words."""

    name: str
    about: About
    values: NDArray[Any]
    keys: tuple[SampleKey, ...]
    shown: tuple[str, ...]
    is_number: bool

    @property
    def bad(self) -> NDArray[np.bool_]:
        return np.array([not key.is_ok for key in self.keys])


@dataclass(frozen=True)
class _Test:
    category: str
    label: str
    names: tuple[str, ...]
    columns: tuple[_Column, ...]
    auroc: float
    p: float


def leak_test(samples: Sequence[FactSet], seed: int = 0) -> LeakReport:
    """Test every fact of ``samples`` against their labels; see the module's text. ``seed`` is for the permutations."""
    by_category: dict[str, list[FactSet]] = defaultdict(list)
    for sample in samples:
        by_category[sample.key.category].append(sample)
    columns = {category: _columns(by_category[category]) for category in sorted(by_category)}
    untested = [text for category in columns if (text := _too_few(category, by_category[category]))]
    tests = [test for category in columns for test in _category_tests(category, columns[category], seed)]
    if len(columns) > 1:
        tests += _pooled_tests(columns, seed)
    corrected = _corrected(tests)
    found = [f for test, p in zip(tests, corrected, strict=True) if (f := _finding(test, p, len(tests))) is not None]
    found.sort(key=lambda f: (f.verdict != "leak", -f.auroc, f.p, f.category, f.label))
    verdict: Verdict = "clean" if tests else "untested"
    if found:
        verdict = "leak" if any(f.verdict == "leak" for f in found) else "suspect"
    names = {name for sample in samples for name in sample.facts}
    return LeakReport(verdict, tuple(found), len(names), len(tests), len(samples), tuple(untested))


def _corrected(tests: Sequence[_Test]) -> list[float]:
    """p-values after Holm's rule for the tests of NG and those of single defects, each held to its share of the level.

    The many tests of single defects then hardly blunt those of the label itself.
    """
    corrected = [1.0] * len(tests)
    for defects, share in ((False, 1 - _DEFECTS_SHARE), (True, _DEFECTS_SHARE)):
        chosen = [i for i, test in enumerate(tests) if (test.label != "NG") == defects]
        for i, p in zip(chosen, holm([tests[i].p for i in chosen]), strict=True):
            corrected[i] = min(1.0, p / share)
    return corrected


def _columns(samples: Sequence[FactSet]) -> list[_Column]:
    """The facts that differ within a category. One that some samples lack becomes a word as well: known or not."""
    names = sorted({name for sample in samples for name in sample.facts})
    made = []
    for name in names:
        having = [s for s in samples if name in s.facts]
        facts = [s.facts[name] for s in having]
        if len(having) < len(samples):
            known = ["known" if name in s.facts else "not known" for s in samples]
            about = facts[0].about if facts[0].about != "content" else "record"
            made.append(_words(f"{name.removesuffix(': present')}: known or not", about, samples, known))
        if all(not isinstance(f.value, str) for f in facts):
            values = np.array([float(f.value) for f in facts])
            if len(np.unique(values)) > _FEW_VALUES:
                shown = tuple(f"{v:.6g}" for v in values)
                made.append(_Column(name, facts[0].about, values, tuple(s.key for s in having), shown, True))
                continue
        texts = [f.value if isinstance(f.value, str) else f"{f.value:.9g}" for f in facts]
        made.append(_words(name, facts[0].about, having, texts))
    return [column for column in made if len(np.unique(column.values)) > 1]


def _words(name: str, about: About, samples: Sequence[FactSet], texts: Sequence[str]) -> _Column:
    codes = np.unique(np.array(texts, dtype=object).astype(str), return_inverse=True)[1].astype(np.int64)
    return _Column(name, about, codes, tuple(s.key for s in samples), tuple(texts), False)


def _category_tests(category: str, columns: Sequence[_Column], seed: int) -> list[_Test]:
    tests = []
    for names, column in _distinct([(c.name, (c,)) for c in columns if _can_tell(c)]):
        tests.append(_test(category, "NG", names, column, seed))
        defects = {key.label for key in column[0].keys if not key.is_ok}
        if column[0].about == "record" and len(defects) > 1:
            kept = [(defect, _only(column[0], defect)) for defect in sorted(defects)]
            tests += [_test(category, d, names, (k,), seed) for d, k in kept if _can_tell(k)]
    return tests


def _pooled_tests(columns: Mapping[str, Sequence[_Column]], seed: int) -> list[_Test]:
    together: dict[tuple[str, bool], list[_Column]] = defaultdict(list)
    for found in columns.values():
        for column in found:
            together[column.name, column.is_number].append(column)
    several = [(name, tuple(found)) for (name, _number), found in sorted(together.items()) if len(found) > 1]
    return [_test(ALL, "NG", names, found, seed) for names, found in _distinct(several) if _both(found)]


def _distinct(
    columns: Iterable[tuple[str, tuple[_Column, ...]]],
) -> list[tuple[tuple[str, ...], tuple[_Column, ...]]]:
    """Columns that order (or part) the same samples alike are one test under several names; labels are not looked at."""
    groups: dict[Any, tuple[list[str], tuple[_Column, ...]]] = {}
    for name, found in columns:
        signature = tuple((c.is_number, c.about, c.keys, _pattern(c)) for c in found)
        groups.setdefault(signature, ([], found))[0].append(name)
    return [(tuple(names), found) for names, found in groups.values()]


def _pattern(column: _Column) -> bytes:
    """Ranks of numbers, rising or falling alike; of words which samples share one."""
    ranks = np.unique(column.values, return_inverse=True)[1]
    if column.is_number:
        return min(ranks.tobytes(), (ranks.max() - ranks).tobytes())
    order: dict[int, int] = {}
    return np.array([order.setdefault(int(r), len(order)) for r in ranks]).tobytes()


def _only(column: _Column, defect: str) -> _Column:
    """The good samples and those of one defect."""
    keep = [i for i, key in enumerate(column.keys) if key.label in (OK, defect)]
    keys, shown = tuple(column.keys[i] for i in keep), tuple(column.shown[i] for i in keep)
    return _Column(column.name, column.about, column.values[keep], keys, shown, column.is_number)


def _can_tell(column: _Column) -> bool:
    """Whether a perfect leak would show: samples enough, values that differ, words that occur more than once."""
    bad = int(column.bad.sum())
    values = len(np.unique(column.values))
    repeats = column.is_number or values < len(column.values)
    return values > 1 and repeats and _enough(bad, len(column.keys) - bad)


def _enough(bad: int, good: int) -> bool:
    return bad > 0 and good > 0 and least_p(bad, good) <= _LEVEL / 100


def _both(columns: Iterable[_Column]) -> bool:
    return any(c.bad.any() and not c.bad.all() for c in columns)


def _test(category: str, label: str, names: tuple[str, ...], columns: tuple[_Column, ...], seed: int) -> _Test:
    strata = [Stratum(c.values, c.bad) for c in columns]
    auroc, p = number_test(strata) if columns[0].is_number else word_test(strata, seed)
    return _Test(category, label, names, columns, auroc, p)


def _finding(test: _Test, p: float, tests: int) -> LeakFinding | None:
    about = test.columns[0].about
    number = test.columns[0].is_number
    effect = max(test.auroc, 1 - test.auroc) if number else test.auroc
    if p >= _LEVEL or effect < _SUSPECT[about]:
        return None
    verdict: Verdict = "leak" if effect >= _LEAK[about] else "suspect"
    also = f" (and what says the same: {_list(test.names[1:])})" if test.names[1:] else ""
    sentence = (
        f"{test.category}: {test.names[0]}{also} tells OK from {test.label}: AUROC {effect:.2f} (p = {p:.1g}, corrected for "
        f"{tests} tests); {_examples(test)}; {_CHEAT[about]}"
    )
    return LeakFinding(test.category, test.label, test.names, verdict, effect, p, test.p, sentence)


def _examples(test: _Test) -> str:
    """What good and bad samples have."""
    texts = []
    for side in (False, True):
        if test.columns[0].is_number and test.category != ALL:
            column = test.columns[0]
            low, middle, high = np.quantile(column.values[column.bad == side], [0.1, 0.5, 0.9])
            text = f"{middle:.6g} ({low:.6g} to {high:.6g})"
        elif test.columns[0].is_number:
            text = "higher" if side == (test.auroc >= 0.5) else "lower"
        else:
            counts = Counter(s for c in test.columns for s, b in zip(c.shown, c.bad, strict=True) if b == side)
            text = ", ".join(f"{value[:60]} ×{n}" for value, n in counts.most_common(3))
            text += ", …" if len(counts) > 3 else ""
        texts.append(f"{test.label if side else OK}: {text}")
    return "; ".join(texts)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _too_few(category: str, samples: Sequence[FactSet]) -> str:
    bad = sum(not s.key.is_ok for s in samples)
    good = len(samples) - bad
    if _enough(bad, good):
        return ""
    return (
        f"{category} has {good} good and {bad} bad samples, too few to tell a leak from chance alone"
        if bad and good
        else f"{category} has {'only bad' if bad else 'only good'} samples, so nothing can be told"
    )
