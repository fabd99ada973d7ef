"""What is in a data set, in numbers: samples, sizes, days, exposures and defect areas of each class; and what is missing.

Samples are read one after the other: manifest, capture record and, of defective ones, the masks. What is kept of each is a
few hundred bytes, so 10,000 of them fit anywhere.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rakelight import files
from rakelight.dataset import layout
from rakelight.dataset.category_jsons import PARTS, official_split
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample, open_samples
from rakelight.dataset.reading_ahead import read_ahead
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, InputError, RakelightError
from rakelight.pipeline.defect_areas import AreaCache, DefectArea, measure_area

_MAX_CAPTURE = 8 << 20

Progress = Callable[..., None]


@dataclass(frozen=True)
class SampleFacts:
    """What the statistics keep of one sample.

    ``day`` is YYYY-MM-DD of the capture, empty if not known; ``exposure_us`` by the name of the shot; ``rig`` its id and
    ``origin`` where an imported sample came from. ``mask_problem`` says why a mask could not be measured.
    """

    key: SampleKey
    bytes: int
    modalities: tuple[str, ...]
    specimen: str
    batch: str
    simulated: bool
    size_px: tuple[int, int] | None
    pitch_mm: float | None
    calibration: str
    day: str
    exposure_us: Mapping[str, float]
    part_coverage: float | None
    surface_coverage: float | None
    rig: str = ""
    origin: str = ""
    relabelled: bool = False
    area: DefectArea | None = None
    mask_problem: str = ""

    @property
    def area_mm2(self) -> float | None:
        """Area of the defect, seen from the camera."""
        if self.area is None or self.pitch_mm is None:
            return None
        return self.area.defect_px * self.pitch_mm**2


@dataclass(frozen=True)
class Spread:
    """Smallest, median and largest of some values, and how many there were."""

    low: float
    middle: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        known = [v for v in values if v is not None]
        return cls(min(known), statistics.median(known), max(known), len(known)) if known else None


@dataclass(frozen=True)
class ClassStats:
    """One category and label. ``modalities`` counts the samples that have each; areas are of masks."""

    category: str
    label: str
    samples: int
    specimens: int
    modalities: Mapping[str, int]
    bytes: int
    simulated: int
    masks: int
    area_px: Spread | None
    area_mm2: Spread | None
    share: Spread | None
    points_share: Spread | None
    exposure_us: Mapping[str, tuple[float, float]]
    part_coverage: Spread | None
    days: tuple[str, ...]


@dataclass(frozen=True)
class DatasetStats:
    """All of it: the facts of each sample, classes in order, unreadable samples with the reason, and notes for people.

    ``split`` is the official one, category → sample → part; None if there is none.
    """

    name: str
    category: str | None
    facts: tuple[SampleFacts, ...]
    classes: tuple[ClassStats, ...]
    damaged: Mapping[str, str]
    split: Mapping[str, Mapping[SampleKey, str]] | None
    notes: tuple[str, ...] = ()
    points: bool = False

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(c.category for c in self.classes))

    def of(self, category: str) -> list[SampleFacts]:
        return [f for f in self.facts if f.key.category == category]

    @property
    def bytes(self) -> int:
        return sum(f.bytes for f in self.facts)


def dataset_stats(
    dataset: Dataset,
    *,
    category: str | None = None,
    points: bool = False,
    progress: Progress = lambda *_: None,
) -> DatasetStats:
    """Read every sample of a data set, or of one category.

    Parameters
    ----------
    points : bool
        Also count defective points, for which the XYZ maps of defective samples are read.
    progress : callable
        Called with (samples done, samples).

    Raises
    ------
    InputError
        ``dataset.category_unknown`` if there is no such category. A damaged sample is told in ``damaged``, not raised.
    """
    samples = list(open_samples(dataset.root, category))
    check_category_there(dataset.root, category, bool(samples))
    cache = AreaCache(dataset.root)
    found: list[SampleFacts] = []
    damaged: dict[str, str] = {}

    def look(sample: OpenSample) -> tuple[SampleFacts, DefectArea | None]:
        return _facts_of(sample, cache, points)

    for number, (sample, ahead) in enumerate(read_ahead(look, samples, ahead=4), 1):
        try:
            facts, counted = ahead.result()
            if counted is not None:
                cache.put(sample, counted, points=points)
            found.append(facts)
        except RakelightError as error:
            damaged[str(sample.key)] = error.message
        progress(number, len(samples))
    cache.flush()
    notes = [f"the cache of areas could not be written: {cache.problem}"] if cache.problem else []
    split: dict[str, dict[SampleKey, str]] | None = None
    try:
        split = official_split(dataset.root)
    except DatasetError as error:
        notes.append(f"the official split is unusable: {error.message}")
    return DatasetStats(
        dataset.info.name, category, tuple(found), _classes(found), damaged, split, tuple(notes), points
    )


def check_category_there(root: Path, category: str | None, found: bool) -> None:
    """Refuse a category without samples by naming those that have some; ``dataset.category_unknown``."""
    if category is None or found:
        return
    there = sorted({s.key.category for s in open_samples(root)})
    raise InputError(
        f"there is no sample of category {category!r}; there are: {', '.join(there) or 'none'}",
        hint="name one of these, or leave --category out",
        code="dataset.category_unknown",
    )


def part_of(stats: DatasetStats, key: SampleKey) -> str | None:
    """train, validation or test, None if in no part: by the official split; where it says nothing of the category, as
    ``realiad_d3_jsons`` has it, good parts train and defective ones test."""
    if stats.split is not None and key.category in stats.split:
        return stats.split[key.category].get(key)
    return "train" if key.is_ok else "test"


def to_plain(stats: DatasetStats) -> dict[str, Any]:
    """The statistics as JSON-able data, without the facts of single samples."""
    return {
        "name": stats.name,
        "samples": len(stats.facts),
        "bytes": stats.bytes,
        "classes": [_plain_class(c) for c in stats.classes],
        "parts": {c: {p: _in_part(stats, c, p) for p in PARTS} for c in stats.categories},
        "official_split": stats.split is not None,
        "damaged": dict(stats.damaged),
        "notes": list(stats.notes),
    }


# ------------------------------------------------------------------------------------------------------------- samples
def _facts_of(sample: OpenSample, cache: AreaCache, points: bool) -> tuple[SampleFacts, DefectArea | None]:
    """The facts, and the area if it was not in the cache."""
    manifest = sample.manifest
    capture = read_capture(sample)
    area, counted, problem = None, None, ""
    if sample.record("MASK") is not None:
        area = cache.get(sample, points=points)
        if area is None:
            try:
                area = counted = measure_area(sample, points=points)
            except RakelightError as error:
                problem = error.message
    exposures = capture.get("exposure_us")
    size = (manifest.width, manifest.height) if manifest.width and manifest.height else None
    facts = SampleFacts(
        key=sample.key,
        bytes=sum(f.bytes for f in manifest.files),
        modalities=sample.modalities,
        specimen=manifest.specimen,
        batch=manifest.batch,
        simulated=manifest.simulated,
        size_px=size,
        pitch_mm=manifest.pitch_mm,
        calibration=manifest.source.calibration or "",
        day=capture_day(manifest.timestamp, capture),
        exposure_us={
            str(k): float(v)
            for k, v in (exposures.items() if isinstance(exposures, dict) else ())
            if isinstance(v, int | float) and not isinstance(v, bool)
        },
        part_coverage=_number(manifest.quality.get("part_coverage")),
        surface_coverage=_number(manifest.quality.get("surface_coverage")),
        rig=str(capture.get("rig_id") or ""),
        origin=manifest.source.origin or "",
        relabelled=bool(manifest.labels),
        area=area,
        mask_problem=problem,
    )
    return facts, counted


def read_capture(sample: OpenSample) -> dict[str, Any]:
    """``capture.json`` of a sample, empty if it has none; raises :class:`DatasetError` if it is damaged."""
    path = sample.path(layout.CAPTURE_FILE)
    if path is None:
        return {}
    found = files.read_json(path, error=DatasetError, max_bytes=_MAX_CAPTURE)
    return found if isinstance(found, dict) else {}


def capture_day(timestamp: str, capture: Mapping[str, Any]) -> str:
    """YYYY-MM-DD (UTC) of a capture, also where file names hold zeros; empty if nothing tells it."""
    moment = timestamp if timestamp.strip("0") else str(capture.get("timestamp") or "")
    if not moment.strip("0"):
        moment = "".join(c for c in str(capture.get("captured_utc") or "") if c.isdigit())[:14]
    try:
        return datetime.strptime(moment[:8], "%Y%m%d").date().isoformat()
    except ValueError:
        return ""


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


# ------------------------------------------------------------------------------------------------------------- classes
def _classes(facts: Iterable[SampleFacts]) -> tuple[ClassStats, ...]:
    classes: dict[tuple[str, str], list[SampleFacts]] = {}
    for one in facts:
        classes.setdefault((one.key.category, one.key.label), []).append(one)
    order = sorted(classes, key=lambda c: (c[0], c[1] != layout.OK, c[1]))
    return tuple(_class(category, label, classes[category, label]) for category, label in order)


def _class(category: str, label: str, facts: Sequence[SampleFacts]) -> ClassStats:
    exposures: dict[str, tuple[float, float]] = {}
    for one in facts:
        for name, value in one.exposure_us.items():
            low, high = exposures.get(name, (value, value))
            exposures[name] = (min(low, value), max(high, value))
    areas = [f.area for f in facts if f.area is not None]
    return ClassStats(
        category=category,
        label=label,
        samples=len(facts),
        specimens=len({f.specimen for f in facts if f.specimen}),
        modalities={m: n for m in layout.MODALITIES if (n := sum(m in f.modalities for f in facts))},
        bytes=sum(f.bytes for f in facts),
        simulated=sum(f.simulated for f in facts),
        masks=sum("MASK" in f.modalities for f in facts),
        area_px=Spread.of(a.defect_px for a in areas),
        area_mm2=Spread.of(f.area_mm2 for f in facts),
        share=Spread.of(a.share for a in areas),
        points_share=Spread.of(a.points_share for a in areas),
        exposure_us=exposures,
        part_coverage=Spread.of(f.part_coverage for f in facts),
        days=tuple(sorted({f.day for f in facts if f.day})),
    )


def _in_part(stats: DatasetStats, category: str, part: str) -> int:
    return sum(part_of(stats, f.key) == part for f in stats.of(category))


def _plain_class(c: ClassStats) -> dict[str, Any]:
    def plain(spread: Spread | None) -> dict[str, float | int] | None:
        return None if spread is None else {"min": spread.low, "median": spread.middle, "max": spread.high}

    return {
        "category": c.category,
        "label": c.label,
        "samples": c.samples,
        "specimens": c.specimens,
        "modalities": dict(c.modalities),
        "bytes": c.bytes,
        "simulated": c.simulated,
        "masks": c.masks,
        "area_px": plain(c.area_px),
        "area_mm2": plain(c.area_mm2),
        "area_share": plain(c.share),
        "points_share": plain(c.points_share),
        "exposure_us": {name: list(limits) for name, limits in c.exposure_us.items()},
        "part_coverage": plain(c.part_coverage),
        "days": list(c.days),
    }
