"""Everything about one verdict: what each modality sees and where, which good part comes nearest there, pose and capture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.writer import Dataset
from rakelight.detection import evidence
from rakelight.detection.detector import Detector, Verdict
from rakelight.detection.evidence import Rows
from rakelight.detection.foreground import MaskCache
from rakelight.detection.methods.base import BankSpec
from rakelight.detection.native import Modality, Native, read_native
from rakelight.detection.neighbours import Floats
from rakelight.detection.parts import Part
from rakelight.errors import DatasetError
from rakelight.pipeline.capture_facts import sample_statistics
from rakelight.pipeline.detect_names import named_sample
from rakelight.pipeline.detect_teach import knows, load_for, sample_hash
from rakelight.pipeline.heat_scale import STANDS_OUT, heat_scale, own_map, region_at

LEAST_CORRELATION, LEAST_OVERLAP, MOST_CUT = (
    0.5,
    0.9,
    0.01,
)  # sound parts: 0.85 to 0.98, 0.98 and 0; a stranger: 0, 0.44 and 0.48

_LEAST_CAPTURES = 5  # parts whose capture is known, to say what is usual
_ODD_SPREADS, _ODD_SHARE = (
    8.0,
    0.05,
)  # robust standard deviations, and share of the usual value, beyond both of which it is odd


@dataclass(frozen=True)
class Sight:
    """What one modality sees by itself.

    ``excess``: how far its own map stands out at its greatest (robust standard deviations of good parts' greatest values);
    ``peak`` (row, column) is where, ``region`` the number of working pixels beyond its limit there (0 where nothing stands out).
    """

    modality: Modality
    excess: float
    stands_out: bool
    peak: tuple[int, int]
    region: int


@dataclass(frozen=True, eq=False)
class Match:
    """The patch of the part at the strangest place in one bank, and what good parts have that is most like it.

    Attributes
    ----------
    patch, place : (row, column)
        Middle of the patch on this part, and of the most similar one on the good part, working pixels; ``place`` is None where
        the good part can no longer be looked at, and ``why_not`` says why.
    distance, usual : float
        To it, and the median of good parts' greatest values in that bank, both in the bank's units.
    part, native : the good part, to be shown
    """

    bank: str
    modality: Modality
    patch: tuple[float, float]
    distance: float
    usual: float
    key: str
    place: tuple[float, float] | None = None
    why_not: str = ""
    part: Part | None = None
    native: Native | None = None


@dataclass(frozen=True)
class Pose:
    """How well the part lies in the template's pose: ``overlap`` is the common area of part and template over that of both."""

    angle_deg: float | None
    correlation: float | None
    overlap: float | None
    cut_share: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Explanation:
    """A verdict and its reasons. ``calibration`` (n,) are the scores of good parts that the score is compared with, ascending;
    ``notes`` what limits what the verdict means."""

    detector: Detector
    part: Part
    native: Native
    verdict: Verdict
    calibration: NDArray[np.float64]
    sights: tuple[Sight, ...]
    matches: tuple[Match, ...]
    pose: Pose
    capture: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def explain(
    dataset: Dataset, detector: Detector, key: SampleKey, *, alpha: float = 0.05, device: str = "cpu"
) -> Explanation:
    """Judge one sample and find out all there is to say about it.

    Raises
    ------
    DatasetError, ModelError
        As loading and :meth:`Detector.score` do.
    """
    sample, cache = named_sample(dataset, key), MaskCache()
    part, native = load_for(detector, sample, cache), read_native(sample)
    verdict = detector.score(part, alpha=alpha, device=device)
    columns = tuple(detector.names.index(name) for name in verdict.judgement.banks)
    return Explanation(
        detector,
        part,
        native,
        verdict,
        detector.decision.patterns[columns].calibration,
        _sights(detector, verdict),
        _matches(dataset, detector, part, verdict, cache),
        _pose(part, detector),
        _capture(sample, part),
        (*_notes(detector, part, sample), *_odd_capture(detector, sample_statistics(sample))),
    )


def shown_banks(detector: Detector, part: Part) -> dict[Modality, BankSpec]:
    """The bank that speaks for each modality that the part has: its own, unswapped, or the first that contains it."""
    found = {}
    for modality in detector.method.modalities:
        having = [bank for bank in detector.method.banks if modality in bank.of and set(bank.of) <= part.available]
        if modality in part.available and having:
            found[modality] = min(having, key=lambda bank: (len(bank.of), bank.swapped))
    return found


def _sights(detector: Detector, verdict: Verdict) -> tuple[Sight, ...]:
    """Of each modality with a bank of its own."""
    found: dict[Modality, Sight] = {}
    for bank in detector.method.banks:
        if len(bank.of) > 1 or bank.swapped or bank.name not in verdict.scored.maps or bank.of[0] in found:
            continue
        values, modality = own_map(detector, verdict, bank.name), bank.of[0]
        place = int(np.nanargmax(verdict.scored.maps[bank.name]))
        peak = (place // values.shape[1], place % values.shape[1])
        excess = float(verdict.excess.get(modality, np.nan))
        seen = excess >= STANDS_OUT
        region = int(region_at(values, peak, heat_scale(detector, [bank.name]).limit).sum()) if seen else 0
        found[modality] = Sight(modality, excess, seen, peak, region)
    return tuple(found[m] for m in detector.method.modalities if m in found)


# --------------------------------------------------------------------------------------------------------------- matches
class _Patches:
    """The patches of one part, as each bank takes them."""

    def __init__(self, detector: Detector, part: Part) -> None:
        self.detector = detector
        self.plain = evidence.extract([part], detector.method, detector.extractors)
        self.mixed, swapped = evidence.swapped_maps(self.plain, detector.method, detector.swap)
        self.swapped = bool(swapped.any())
        self.pixels = evidence.judged_pixels(part, detector.template)[None]

    def rows(self, spec: BankSpec) -> Rows | None:
        """None where the bank cannot judge the part."""
        if spec.swapped and not self.swapped:
            return None
        maps = self.mixed if spec.swapped else self.plain
        return evidence.bank_rows(spec, maps, self.pixels, [0], self.detector.method.grid, self.detector.fusion)


def _matches(dataset: Dataset, detector: Detector, part: Part, verdict: Verdict, cache: MaskCache) -> tuple[Match, ...]:
    own, banks = _Patches(detector, part), shown_banks(detector, part)
    rows = {m: table for m, spec in banks.items() if (table := own.rows(spec)) is not None}
    spot = _strangest(detector, verdict, banks, rows)
    others, matches = _Taught(dataset, detector, cache), []
    for modality, table in rows.items():
        middles = _middles(table, detector.method.size)
        half = detector.method.size / table.grid / 2
        at = np.flatnonzero((abs(middles - spot) <= half).all(axis=1))[:1]
        if len(at):
            matches.append(others.match(modality, banks[modality], table.values[at], _place(middles[at[0]])))
    return tuple(matches)


def _middles(rows: Rows, size: int) -> NDArray[np.float64]:
    """(P, 2): middle (row, column) of each patch, working pixels."""
    side = size / rows.grid
    middles = np.stack([rows.place // rows.grid, rows.place % rows.grid], axis=1) * side + (side - 1) / 2
    return np.asarray(middles, np.float64)


def _place(middle: NDArray[np.float64]) -> tuple[float, float]:
    return float(middle[0]), float(middle[1])


def _strangest(
    detector: Detector, verdict: Verdict, banks: Mapping[Modality, BankSpec], rows: Mapping[Modality, Rows]
) -> NDArray[np.float64]:
    """The verdict's peak, or rather the middle of the patch there, or beside it, that is farthest from the bank that sees it."""
    own, peak = rows.get(verdict.seen_by), np.asarray(verdict.peak, np.float64)
    if own is None:
        return peak
    middles = _middles(own, detector.method.size)
    near = np.flatnonzero((abs(middles - peak) <= 1.5 * detector.method.size / own.grid).all(axis=1))
    if not len(near):
        return peak
    distance, _ = detector.banks[banks[verdict.seen_by].name].distances(own.values[near])
    return np.asarray(middles[near[int(distance.argmax())]], np.float64)


class _Taught:
    """The taught parts, looked up as matches need them."""

    def __init__(self, dataset: Dataset, detector: Detector, cache: MaskCache) -> None:
        self.dataset, self.detector, self.cache = dataset, detector, cache
        self.known: dict[str, tuple[Part, Native, _Patches] | str] = {}

    def match(self, modality: Modality, spec: BankSpec, query: Floats, patch: tuple[float, float]) -> Match:
        """What is nearest to the query (1, D), the patch of the part at hand whose middle is ``patch``."""
        detector = self.detector
        bank = detector.banks[spec.name]
        distance, index = bank.distances(query)
        number = int(bank.part[index[0]])
        key = next(p.key for p in detector.parts if p.number == number)
        usual = float(np.nanmedian(detector.calibration.peaks[:, detector.names.index(spec.name)]))
        bare = Match(spec.name, modality, patch, float(distance[0]), usual, key)
        other = self._part(key)
        if isinstance(other, str):
            return replace(bare, why_not=other)
        part, native, patches = other
        rows = patches.rows(spec)
        if rows is None:
            return replace(bare, why_not=f"{key} lacks {modality} now")
        nearest = int(np.linalg.norm(rows.values - query, axis=1).argmin())
        return replace(bare, place=_place(_middles(rows, detector.method.size)[nearest]), part=part, native=native)

    def _part(self, key: str) -> tuple[Part, Native, _Patches] | str:
        """The taught part, or why it cannot be shown."""
        if key not in self.known:
            sample = OpenSample(self.dataset.root, SampleKey.parse(key))
            taught = next(p for p in self.detector.parts if p.key == key)
            try:
                if taught.sha256 and sample_hash(sample) != taught.sha256:
                    self.known[key] = f"{key} has changed since it was taught"
                else:
                    part = load_for(self.detector, sample, self.cache)
                    self.known[key] = part, read_native(sample), _Patches(self.detector, part)
            except (
                DatasetError
            ) as error:  # taught from another data set, or removed since: the verdict stands without it
                self.known[key] = f"{key} cannot be shown: {error.message}"
        return self.known[key]


# ------------------------------------------------------------------------------------------------------- pose and capture
def _pose(part: Part, detector: Detector) -> Pose:
    told = part.facts.get("registration") or {}
    correlation = told.get("correlation")
    cut = float(part.facts.get("cut_share", 0.0))
    overlap, warnings = None, []
    if detector.template is not None:
        shape = (part.size, part.size)
        there = cv2.resize(detector.template.mask.astype(np.uint8), shape, interpolation=cv2.INTER_NEAREST) > 0
        overlap = float((there & part.mask).sum() / max(1, (there | part.mask).sum()))
        if overlap < LEAST_OVERLAP:
            warnings.append(
                f"its outline and the template's overlap only {100 * overlap:.0f} % (sound parts: {100 * LEAST_OVERLAP:.0f} % and "
                "more): it lies badly, or is another part"
            )
    if correlation is not None and correlation < LEAST_CORRELATION:
        warnings.append(f"its picture correlates only {correlation:.2f} with the template: the turn is not sure")
    if cut > MOST_CUT:
        warnings.append(f"{100 * cut:.0f} % of it lie beyond the frame and are not judged")
    return Pose(told.get("angle_deg"), correlation, overlap, cut, tuple(warnings))


def _capture(sample: OpenSample, part: Part) -> dict[str, Any]:
    """What the manifest and the pictures tell of how the sample was captured; only what is there."""
    manifest = sample.manifest
    known = {
        "captured_utc": manifest.timestamp if manifest.timestamp.strip("0") else "",
        "specimen": manifest.specimen,
        "batch": manifest.batch,
        "simulated": manifest.simulated,
        "revision": manifest.revision,
        "recording": manifest.source.recording,
        "calibration": manifest.source.calibration,
        "width": part.native_size[1],
        "height": part.native_size[0],
        "pitch_mm": part.pitch_mm,
        "foreground": part.facts.get("foreground"),
        "measured_share": part.facts.get("measured_share"),
        "saturated": manifest.quality.get("saturated"),
        "quality_warnings": manifest.quality.get("warnings"),
    }
    return {name: value for name, value in known.items() if value not in (None, "", [], ())}


def _notes(detector: Detector, part: Part, sample: OpenSample) -> list[str]:
    found, key = [], sample.key
    if knows(detector, sample):
        found.append("the model was taught this very part: it lies nearer to itself than any new part would")
    if detector.category and key.category != detector.category:
        found.append(f"the model knows {detector.category}, this part is a {key.category}")
    if part.ignore.any():
        share = float(part.ignore[part.mask].mean()) if part.mask.any() else 0.0
        found.append(f"{100 * share:.1f} % of the part is ignored, as the model says (hatched)")
    return found


def _odd_capture(detector: Detector, statistics: Mapping[str, float]) -> list[str]:
    """Which statistics of the capture are far from those of the parts taught: a dirty lamp is no bad part."""
    found = []
    for name, value in statistics.items():
        known = np.array([part.capture[name] for part in detector.parts if name in part.capture])
        if len(known) < _LEAST_CAPTURES:
            continue
        middle = float(np.median(known))
        spread = 1.4826 * float(np.median(np.abs(known - middle)))
        if abs(value - middle) > max(_ODD_SPREADS * spread, _ODD_SHARE * abs(middle), 1e-3):
            found.append(f"{name.replace('_', ' ')} {value:.3g}, usually {middle:.3g}")
    return (
        [f"the capture is unlike those of the parts taught ({'; '.join(found)}): look at the rig first"]
        if found
        else []
    )
