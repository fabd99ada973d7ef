"""One score from the scores of several memory banks, calibrated on parts the banks had not seen.

The banks' distances are of different sizes and spreads; four rules bring them together (``method``):

- ``"zsum"``: the sum of robust z-scores, (s − median) / (1.4826·MAD).
- ``"max"``: the greatest of them.
- ``"ocsvm"``: the linear one-class SVM of M3DM and D³M (Schölkopf et al. 2001, fitted by SGD): w·s, a fixed positive
  weighting. Its decision function is high for strange parts here, against its usual sense, since distances are positive
  (the SVM's w points from the origin to the good parts); the weights are checked to be positive.
- ``"mahalanobis"``: one-sided, √(z₊ᵀ R⁻¹ z₊) with z₊ = max(z, 0) and R the shrunk correlation of the banks.

Everything is fitted on leave-one-part-out scores, which the caller gives: a part in the bank is at distance 0 from itself.
Where a modality is missing its banks' scores are NaN: each combination of banks (*pattern*) has a calibration of its own,
so that a part without 3D is compared with good parts scored without 3D. Works for parts (n, B) and for pixels alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rakelight.detection import conformal
from rakelight.detection.decision_rules import Method, Rule, centre_and_spread, fit_rule
from rakelight.errors import InputError, ModelError

Array = NDArray[np.float64]
Level = Literal["part", "pixel"]
LEAST_PARTS = 3
_MOST_BANKS = 6
_KEPT = 2000  # calibration scores kept a pattern; more are thinned to evenly spaced ranks
_FOLDS = 10
_FITTED = ("ocsvm", "mahalanobis")  # rules that learn more than a middle and a spread of each bank


@dataclass(frozen=True)
class Contribution:
    """What one bank says about a part: its ``score``, robust ``z``, ``p_value`` among good parts, and ``share``.

    The shares are those of the banks above their usual score in the excess of all; they sum to 1, or are all 0 where no
    bank is above it.
    """

    score: float
    z: float
    p_value: float
    share: float


@dataclass(frozen=True)
class Judgement:
    """The verdict on a part.

    Attributes
    ----------
    score : float
        Fused, in robust standard deviations above the median good part.
    threshold : float
        Rejected above it; infinite where the calibration has too few parts for the level asked for.
    banks : tuple of str
        Those that had a say.
    """

    score: float
    p_value: float
    threshold: float
    rejected: bool
    provisional: bool
    calibration_parts: int
    banks: tuple[str, ...]
    contributions: Mapping[str, Contribution]


@dataclass(frozen=True, eq=False)
class _Pattern:
    """A rule for some of the banks: columns of the table, centre and spread of the fused score, and good parts' scores."""

    columns: tuple[int, ...]
    rule: Rule
    centre: float
    spread: float
    calibration: Array  # ascending, in units of spread
    rows: int

    def fuse(self, values: Array) -> Array:
        return (self.rule.apply(values[:, self.columns]) - self.centre) / self.spread


@dataclass(frozen=True, eq=False)
class Decision:
    """A calibrated way to fuse the scores of ``banks``. Make it with :meth:`calibrate`, keep it with :meth:`to_dict`."""

    banks: tuple[str, ...]
    method: Method
    single: Mapping[str, Array]  # each bank's own calibration scores, ascending
    patterns: Mapping[tuple[int, ...], _Pattern]

    @classmethod
    def calibrate(
        cls,
        scores: ArrayLike,
        banks: Sequence[str],
        method: Method = "zsum",
        *,
        level: Level = "part",
        lambdas: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> Decision:
        """Fit the rule for every pattern that at least 3 rows allow.

        Parameters
        ----------
        scores : (n, B) array
            Leave-one-part-out scores of good parts, or of pixels of good parts; NaN where a bank has none. A row without
            any score is passed over.
        banks : sequence of str
            Names of the B columns.
        level : str
            "part": calibration scores fused with fitted weights are cross-fitted (each from a rule fitted without its
            fold), so that the p-values of few parts stay honest. "pixel": many rows, no need.
        lambdas : mapping, optional
            Factors of the banks before the one-class SVM, as M3DM sets them by hand; by default 1 / median.

        Raises
        ------
        InputError
            An unknown method; names that do not fit the columns.
        ModelError
            A bank with fewer than 3 scores; infinite scores; weights of the SVM that are not positive.
        """
        if method not in get_args(Method):
            raise InputError(
                f"fusion {method!r} is unknown; allowed: {', '.join(get_args(Method))}", code="decision.method"
            )
        table, names = _check_table(scores, banks)
        factors = _check_lambdas(lambdas, names)
        present = ~np.isnan(table)
        patterns = {}
        for columns in _subsets(len(names)):
            rows = table[present[:, columns].all(axis=1)][:, columns]
            if len(rows) >= LEAST_PARTS:
                chosen = None if factors is None else factors[list(columns)]
                patterns[columns] = _fit_pattern(rows, columns, method, chosen, seed, cross=level == "part")
        single = {name: _thin(np.sort(table[present[:, i], i])) for i, name in enumerate(names)}
        return cls(names, method, single, patterns)

    def fuse(self, scores: ArrayLike) -> NDArray[np.float32]:
        """Scores (…, B), NaN where missing, to fused ones (…) float32; NaN where all are missing.

        In robust standard deviations of good parts (pixels) of the same pattern, so that patterns can stand side by side
        in one map. Raises :class:`ModelError` for a pattern without calibration.
        """
        values = np.asarray(scores, np.float64)
        if values.ndim < 1 or values.shape[-1] != len(self.banks):
            raise InputError(
                f"scores have shape {values.shape}; the last axis must be the {len(self.banks)} banks {', '.join(self.banks)}",
                code="input.shape",
            )
        flat = values.reshape(-1, len(self.banks))
        out = np.full(len(flat), np.nan)
        for pattern, rows in self._by_pattern(flat):
            out[rows] = pattern.fuse(flat[rows])
        return out.reshape(values.shape[:-1]).astype(np.float32)

    def p_values(self, scores: ArrayLike) -> Array:
        """Conformal p-values (…) of scores (…, B), each among the good parts (pixels) of its pattern; NaN where all are missing.

        Beyond 2000 rows of calibration they are rounded to its evenly spaced ranks.
        """
        values = np.asarray(scores, np.float64)
        fused = self.fuse(values).reshape(-1)
        out = np.full(len(fused), np.nan)
        for pattern, rows in self._by_pattern(values.reshape(-1, len(self.banks))):
            out[rows] = conformal.p_values(fused[rows], pattern.calibration)
        return out.reshape(values.shape[:-1])

    def judge(self, scores: Mapping[str, float], alpha: float = 0.05) -> Judgement:
        """The verdict on one part from its banks' scores; banks that are missing may be left out or NaN.

        Raises :class:`ModelError` where no bank has a score, a bank is unknown, or the pattern has no calibration.
        """
        unknown = sorted(set(scores) - set(self.banks))
        if unknown:
            raise ModelError(
                f"the model has no bank {', '.join(unknown)}; it has {', '.join(self.banks)}", code="model.bank"
            )
        row = np.array([scores.get(bank, np.nan) for bank in self.banks], np.float64)
        columns = tuple(int(i) for i in np.flatnonzero(~np.isnan(row)))
        if not columns:
            raise ModelError(
                f"the part has no score of any bank; the model has {', '.join(self.banks)}",
                hint="check which modalities the sample holds: rakelight dataset show",
                code="model.modality_missing",
            )
        pattern = self._pattern(columns)
        score = float(self.fuse(row))
        limit = conformal.threshold(pattern.calibration, alpha)
        return Judgement(
            score=score,
            p_value=float(conformal.p_values(score, pattern.calibration)),
            threshold=limit,
            rejected=score > limit,
            provisional=pattern.rows < conformal.PROVISIONAL_BELOW,
            calibration_parts=pattern.rows,
            banks=tuple(self.banks[i] for i in columns),
            contributions=self._contributions(row, pattern),
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON; floats come back exactly."""
        patterns = [
            {
                "columns": list(p.columns),
                "rule": p.rule.to_dict(),
                "centre": p.centre,
                "spread": p.spread,
                "calibration": p.calibration.tolist(),
                "rows": p.rows,
            }
            for p in self.patterns.values()
        ]
        single = {bank: scores.tolist() for bank, scores in self.single.items()}
        return {"banks": list(self.banks), "method": self.method, "single": single, "patterns": patterns}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Decision:
        """Inverse of :meth:`to_dict`; :class:`ModelError` if entries are missing or are something else."""
        try:
            patterns = {}
            for entry in data["patterns"]:
                columns = tuple(int(i) for i in entry["columns"])
                calibration = np.asarray(entry["calibration"], np.float64)
                rule = Rule.from_dict(entry["rule"])
                patterns[columns] = _Pattern(
                    columns, rule, float(entry["centre"]), float(entry["spread"]), calibration, int(entry["rows"])
                )
            single = {str(bank): np.asarray(scores, np.float64) for bank, scores in data["single"].items()}
            return cls(tuple(data["banks"]), data["method"], single, patterns)
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise ModelError(f"the model's decision cannot be read: {e!r}", code="model.decision") from e

    def _by_pattern(self, flat: Array) -> Iterator[tuple[_Pattern, NDArray[np.int64]]]:
        codes = (~np.isnan(flat)) @ (1 << np.arange(len(self.banks)))
        for code in np.unique(codes[codes > 0]).tolist():
            columns = tuple(i for i in range(len(self.banks)) if code >> i & 1)
            yield self._pattern(columns), np.flatnonzero(codes == code)

    def _pattern(self, columns: tuple[int, ...]) -> _Pattern:
        if columns not in self.patterns:
            names = ", ".join(self.banks[i] for i in columns)
            raise ModelError(
                f"no calibration for parts that have only the banks {names}: fewer than {LEAST_PARTS} good parts had them",
                hint="train with good parts that hold these modalities",
                code="model.pattern",
            )
        return self.patterns[columns]

    def _contributions(self, row: Array, pattern: _Pattern) -> dict[str, Contribution]:
        chosen = row[list(pattern.columns)]
        z = (chosen - pattern.rule.location) / pattern.rule.scale
        excess = pattern.rule.excess(chosen)
        shares = excess / excess.sum() if excess.sum() > 0 else np.zeros(len(excess))
        out = {}
        for place, column in enumerate(pattern.columns):
            bank = self.banks[column]
            p = float(conformal.p_values(row[column], self.single[bank]))
            out[bank] = Contribution(float(row[column]), float(z[place]), p, float(shares[place]))
        return out


def _fit_pattern(
    rows: Array, columns: tuple[int, ...], method: Method, factors: Array | None, seed: int, *, cross: bool
) -> _Pattern:
    rule = fit_rule(rows, method, factors, seed)
    fused = rule.apply(rows)
    centre, spread = centre_and_spread(fused)
    calibration = (fused - centre) / spread
    # Middles and spreads of single banks hardly know one part from another; fitting them anew without it only adds scatter to
    # the calibration, whose tails then promise twice the alarms that come.
    if cross and method in _FITTED and len(rows) > LEAST_PARTS:
        fold = np.random.default_rng(seed).permutation(len(rows)) % min(_FOLDS, len(rows))
        for number in range(fold.max() + 1):
            out = fold == number
            without = fit_rule(rows[~out], method, factors, seed)
            middle, width = centre_and_spread(without.apply(rows[~out]))
            calibration[out] = (without.apply(rows[out]) - middle) / width
    stored = _thin(np.sort(calibration.astype(np.float32).astype(np.float64)))  # as fuse() rounds: equal stays equal
    return _Pattern(columns, rule, centre, spread, stored, len(rows))


def _thin(ordered: Array) -> Array:
    if len(ordered) <= _KEPT:
        return ordered
    return ordered[np.linspace(0, len(ordered) - 1, _KEPT).round().astype(np.int64)]


def _subsets(banks: int) -> Iterator[tuple[int, ...]]:
    for size in range(1, banks + 1):
        yield from combinations(range(banks), size)


def _check_table(scores: ArrayLike, banks: Sequence[str]) -> tuple[Array, tuple[str, ...]]:
    table, names = np.asarray(scores, np.float64), tuple(banks)
    if table.ndim != 2 or table.shape[1] != len(names) or not 1 <= len(set(names)) == len(names) <= _MOST_BANKS:
        raise InputError(
            f"scores of shape {table.shape} for the banks {', '.join(names) or 'none'}: needed are parts × banks, "
            f"and 1 … {_MOST_BANKS} different names",
            code="input.shape",
        )
    if np.isinf(table).any():
        raise ModelError(f"{int(np.isinf(table).sum())} calibration scores are infinite", code="model.calibration")
    counts = (~np.isnan(table)).sum(axis=0)
    if counts.min() < LEAST_PARTS:
        raise ModelError(
            f"the bank {names[int(counts.argmin())]} has leave-one-part-out scores of {counts.min()} good parts; "
            f"at least {LEAST_PARTS} are needed",
            hint="show more good parts, or leave this modality out",
            code="model.too_few_parts",
        )
    return table, names


def _check_lambdas(lambdas: Mapping[str, float] | None, names: tuple[str, ...]) -> Array | None:
    if lambdas is None:
        return None
    if set(lambdas) != set(names) or min(lambdas.values()) <= 0:
        raise InputError(
            f"lambdas {dict(lambdas)} must be a positive number for each of {', '.join(names)}", code="decision.lambdas"
        )
    return np.array([lambdas[name] for name in names], np.float64)
