"""What a data set lacks, said plainly: each gap with its category and the next step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rakelight.dataset import layout
from rakelight.pipeline.dataset_stats import DatasetStats, SampleFacts, part_of

FEWEST_GOOD = 20
"""Good parts below which a detector's notion of "normal" is mostly chance."""
_EXPECTED = tuple(m for m in layout.MODALITIES if m != "MASK")
_MOST_NAMED = 4


@dataclass(frozen=True)
class Gap:
    """One thing missing; ``category`` is empty if it concerns the whole data set."""

    category: str
    what: str
    hint: str


def gaps(stats: DatasetStats) -> tuple[Gap, ...]:
    """Everything that is missing or uneven, the whole data set first, then by category."""
    found = list(_of_all(stats))
    for category in stats.categories:
        facts = stats.of(category)
        for source in (_counts, _masks, _modalities, _parts, _specimens, _days, _evenness):
            found += [Gap(category, what, hint) for what, hint in source(stats, facts)]
    return tuple(found)


def _of_all(stats: DatasetStats) -> Iterator[Gap]:
    if stats.damaged:
        yield Gap("", f"{_named(list(stats.damaged))} cannot be read", "run `rakelight dataset verify`")
    if not stats.facts:
        yield Gap("", "there is no sample", "add recordings with `rakelight dataset add`")
    elif stats.split is None:
        what = "there is no official split: good parts stand under train and defective ones under test"
        yield Gap("", what, "make it with `rakelight dataset split`")


def _counts(stats: DatasetStats, facts: Sequence[SampleFacts]) -> Iterator[tuple[str, str]]:
    good = sum(f.key.is_ok for f in facts)
    if good < FEWEST_GOOD:
        yield f"{good} good part(s); fewer than {FEWEST_GOOD} hardly tell what is normal", "capture more good parts"
    if good == len(facts):
        yield "no defective part: nothing can be tested", "capture defective parts"


def _masks(stats: DatasetStats, facts: Sequence[SampleFacts]) -> Iterator[tuple[str, str]]:
    without = [str(f.key) for f in facts if not f.key.is_ok and "MASK" not in f.modalities]
    if without:
        yield f"{_named(without)} defective without a mask", "draw it: `rakelight dataset label`"
    damaged = [str(f.key) for f in facts if f.mask_problem]
    if damaged:
        yield f"{_named(damaged)} with a mask that cannot be measured", "run `rakelight dataset verify`"
    measured = [f for f in facts if f.area is not None]
    empty = [str(f.key) for f in measured if f.area is not None and not f.area.defect_px]
    if empty:
        yield f"{_named(empty)} with an empty mask", "mark the defect, or relabel the sample"
    alone = [str(f.key) for f in measured if f.area is not None and f.area.part_px is None]
    if alone:
        what = f"{_named(alone)} with a mask but no part mask of its size: the share of the part is not known"
        yield what, "rebuild with a calibration that has projectors"
    flat = [str(f.key) for f in measured if f.pitch_mm is None]
    if flat:
        yield f"{_named(flat)} without the size of a pixel: no area in mm²", "rebuild with a calibration"


def _modalities(stats: DatasetStats, facts: Sequence[SampleFacts]) -> Iterator[tuple[str, str]]:
    for modality in _EXPECTED:
        without = [str(f.key) for f in facts if modality not in f.modalities]
        if len(without) == len(facts):
            yield f"no sample has {modality}", "see `rakelight dataset rebuild`, if the recordings hold it"
        elif without:
            yield f"{modality} is missing in {_named(without)}", "loaders want it in all or none: rebuild these samples"


def _parts(stats: DatasetStats, facts: Sequence[SampleFacts]) -> Iterator[tuple[str, str]]:
    hint = "make the split again, or add samples"
    if stats.split is not None and facts[0].key.category not in stats.split:
        yield "the official split says nothing of this category", "extend it: `rakelight dataset split --extend`"
    tested = {f.key.label for f in facts if part_of(stats, f.key) == "test"}
    for label in sorted({f.key.label for f in facts} - tested, key=lambda x: (x != layout.OK, x)):
        words = "good parts" if label == layout.OK else label
        yield f"no test sample of {words}", hint
    if not any(part_of(stats, f.key) == "train" for f in facts):
        yield "no sample to train with", hint
    nowhere = [str(f.key) for f in facts if part_of(stats, f.key) is None]
    if nowhere:
        yield f"{_named(nowhere)} in no part of the official split", "`rakelight dataset split --extend` places them"


def _specimens(stats: DatasetStats, facts: Sequence[SampleFacts]) -> Iterator[tuple[str, str]]:
    without = [str(f.key) for f in facts if not f.specimen]
    if without:
        what = f"{_named(without)} without a specimen: a split cannot keep a part's samples together"
        yield what, "state the part id in the recording"


def _days(stats: DatasetStats, facts: Sequence[SampleFacts]) -> Iterator[tuple[str, str]]:
    unknown = [str(f.key) for f in facts if not f.day]
    if unknown:
        yield f"{_named(unknown)} without a day of capture", "recordings state it in captured_utc"
    good = {f.day for f in facts if f.day and f.key.is_ok}
    bad = {f.day for f in facts if f.day and not f.key.is_ok}
    if len(good | bad) == 1 and not unknown:
        yield f"all captured on one day ({min(good | bad)}): drift of the rig is not in it", "capture on more days"
    elif good and bad and not good & bad:
        what = f"good parts ({_span(good)}) and defective ones ({_span(bad)}) were captured on different days"
        yield what, "a detector may learn the day: capture both on the same days, in mixed order"


def _evenness(stats: DatasetStats, facts: Sequence[SampleFacts]) -> Iterator[tuple[str, str]]:
    simulated = sum(f.simulated for f in facts)
    if 0 < simulated < len(facts):
        yield f"{simulated} of {len(facts)} are simulated", "keep them apart from real ones, or say so in every result"
    shots = {name for f in facts for name in f.exposure_us}
    for shot in sorted(shots):
        values = {f.exposure_us[shot] for f in facts if shot in f.exposure_us}
        if len(values) > 1:
            yield (
                f"exposure of {shot} differs: {min(values):g} to {max(values):g} µs",
                "`rakelight dataset check --only leak`",
            )
    calibrations = {f.calibration for f in facts if f.calibration}
    if len(calibrations) > 1:
        hint = "rebuild older samples if the later calibration holds for them"
        yield f"{len(calibrations)} calibrations were used", hint
    sizes = {f.size_px for f in facts if f.size_px}
    if len(sizes) > 1:
        yield f"pictures of {len(sizes)} sizes", "one size a category is what loaders expect"


def _named(keys: Sequence[str]) -> str:
    """``2 samples (a, b)``."""
    shown = ", ".join(keys[:_MOST_NAMED])
    more = f" and {len(keys) - _MOST_NAMED} more" if len(keys) > _MOST_NAMED else ""
    return f"{len(keys)} sample{'s' if len(keys) > 1 else ''} ({shown}{more})"


def _span(days: set[str]) -> str:
    return min(days) if len(days) == 1 else f"{min(days)} to {max(days)}"
