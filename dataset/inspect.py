"""What a foreign archive really holds: the open questions about the released Real-IAD D³ (reference: datasets.md §7), answered
from the archive itself, in minutes and without unpacking it.

Names, sizes and JSONs are read whole; of files a few of each kind and class, spread evenly and always the same. Every
answer says how many files it rests on. Other formats get the answers that apply to them.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset._inspect_measures import (
    CloudFacts,
    LightFit,
    XyzFacts,
    cloud_facts,
    fit_reference_light,
    unit_length_error,
    xyz_facts,
)
from rakelight.dataset.archives import View, open_view
from rakelight.dataset.importers import d3, pixels
from rakelight.dataset.importers.found import Found, FoundSample, some
from rakelight.dataset.importers.sources import detect, importer
from rakelight.dataset.layout import OK
from rakelight.dataset.leak_statistics import auroc
from rakelight.errors import RakelightError

Verdict = Literal["fine", "note", "warning", "open"]
_LIGHT_MISFIT = 8  # grey levels; noise, JPEG and a moderate tone curve leave less
PER_CLASS = 3
"""Samples of each category, good and defective, of which files are opened."""

Progress = Callable[..., None]


@dataclass(frozen=True)
class Answer:
    """One question, the answer, what it rests on, and whether a user has to care (``open``: it could not be told)."""

    question: str
    answer: str
    evidence: str = ""
    verdict: Verdict = "fine"


@dataclass(frozen=True)
class Inspection:
    """What was found: the format, counts (category → label → part → samples), answers, and what the scan found odd."""

    source: Path
    format: str
    counts: dict[str, dict[str, dict[str, int]]]
    answers: tuple[Answer, ...]
    oddities: tuple[str, ...]
    opened: int

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "source": str(self.source)}


@dataclass
class _Seen:
    """What the opened samples showed; one entry a sample (its label first) where that matters."""

    sizes: dict[str, Counter[tuple[int, int]]]
    xyz: list[tuple[FoundSample, XyzFacts]]
    masks: Counter[tuple[int, ...]]
    ps_errors: list[float]
    lights: list[LightFit]
    clouds: list[tuple[FoundSample, CloudFacts]]
    unreadable: list[str]
    unaligned: list[str]
    opened: int = 0


def inspect(source: str | Path, *, per_class: int = PER_CLASS, progress: Progress = lambda *_: None) -> Inspection:
    """Inspect a folder or zip; nothing is written.

    Parameters
    ----------
    source : path
    per_class : int
        Samples opened of each category, good and defective.

    Raises
    ------
    DatasetError
        As :func:`archives.open_view`; ``import.format_unclear``. Files that cannot be read are told, not raised.
    """
    with open_view(source) as view:
        format = detect(view)
        found = importer(format).scan(view)
        seen = _Seen(defaultdict(Counter), [], Counter(), [], [], [], [], [])
        chosen = choose(found.samples, per_class)
        for number, sample in enumerate(chosen):
            progress(number, len(chosen))
            _look(view, sample, seen)
        answers = [
            *_about_pictures(seen),
            *_about_xyz(seen),
            *_about_ps(seen),
            *_about_light(seen),
            *_about_clouds(view, found, seen),
            *_about_masks(found, seen),
            *(_about_jsons(view, found) if format == "d3" else ()),
            *_about_leaks(view, found),
            *_about_damage(seen),
        ]
        return Inspection(view.source, format, found.counts(), tuple(answers), found.oddities, seen.opened)


def choose(samples: Sequence[FoundSample], per_class: int) -> list[FoundSample]:
    """``per_class`` good and as many defective samples of each category, evenly spread over their order."""
    classes: dict[tuple[str, bool], list[FoundSample]] = defaultdict(list)
    for sample in samples:
        classes[sample.category, sample.label == OK].append(sample)
    chosen = []
    for members in classes.values():
        count = min(per_class, len(members))
        chosen += [members[i] for i in np.linspace(0, len(members) - 1, count).round().astype(int)]
    return chosen


# ----------------------------------------------------------------------------------------------------------------- looking
def _look(view: View, sample: FoundSample, seen: _Seen) -> None:
    arrays: dict[str, NDArray[Any]] = {}

    def attempt(name: str, read: Callable[[], None]) -> None:
        seen.opened += 1
        try:
            read()
        except RakelightError as e:
            seen.unreadable.append(f"{name}: {e.message}")

    def look(role: str, name: str) -> None:
        if role == "XYZ":
            found = pixels.read_xyz(view, name)
            seen.xyz.append((sample, xyz_facts(found)))
            arrays[role] = found.xyz
        elif role == "MASK" or role == "mask":
            arrays["MASK"], values = pixels.read_mask(view, name)
            seen.masks[values] += 1
        elif role == "PCD":
            with view.open(name) as handle:
                seen.clouds.append((sample, cloud_facts(handle.read(1 << 20))))
        elif role.startswith(("RGBL", "image_")) or role in ("PS", "normals"):
            arrays[role] = pixels.read_picture(view, name)

    for role, name in sample.files.items():
        attempt(name, lambda role=role, name=name: look(role, name))  # type: ignore[misc]
    for role, array in arrays.items():
        seen.sizes["RGB" if role.startswith(("RGBL", "image_")) else role][array.shape[:2]] += 1
    if len({a.shape[:2] for a in arrays.values()}) > 1:
        seen.unaligned.append(
            f"{sample.origin}: " + ", ".join(f"{role} {a.shape[1]}×{a.shape[0]}" for role, a in sorted(arrays.items()))
        )
    ps = arrays.get("PS", arrays.get("normals"))
    if ps is not None:
        seen.ps_errors.append(unit_length_error(ps))
    single = [arrays[r] for r in ("RGBL01", "RGBL02", "RGBL03", "RGBL04") if r in arrays]
    if len(single) == 4 and "RGBL05" in arrays and len({a.shape for a in (*single, arrays["RGBL05"])}) == 1:
        seen.lights.append(fit_reference_light(single, arrays["RGBL05"]))


# ----------------------------------------------------------------------------------------------------------------- answers
def _counted(values: Iterable[Any]) -> str:
    return ", ".join(f"{value} ({count})" for value, count in Counter(values).most_common(6))


def _about_pictures(seen: _Seen) -> list[Answer]:
    lines = [
        f"{role} " + ", ".join(f"{w}×{h} ({n})" for (h, w), n in sizes.most_common(4))
        for role, sizes in sorted(seen.sizes.items())
    ]
    question = "How large are pictures and maps, in pixels, and do they agree?"
    if not lines:
        return [Answer(question, "no picture could be opened", verdict="open")]
    answer = "; ".join(lines)
    if seen.unaligned:
        return [Answer(question, f"they differ: {answer}", f"e.g. {some(seen.unaligned, 1)}", "warning")]
    return [Answer(question, f"the same in each sample: {answer}", f"{seen.opened} files opened")]


def _about_xyz(seen: _Seen) -> list[Answer]:
    facts = [f for _s, f in seen.xyz]
    if not facts:
        return [Answer("What do the XYZ TIFFs hold?", "there are none that could be opened", verdict="open")]
    evidence = f"{len(facts)} TIFFs"
    invalid = Counter(f.invalid for f in facts)
    valid = float(np.median([f.valid_ratio for f in facts]))
    answers = [
        Answer("In which order do the XYZ TIFFs store their channels?", _counted(f.layout for f in facts), evidence),
        Answer(
            "How are missing points marked?", f"{_counted(invalid.elements())}; {valid:.1%} of pixels valid", evidence
        ),
    ]
    depths = [f.z_range for f in facts if f.z_range is not None]
    pitches = [f.pitch for f in facts if f.pitch is not None]
    answers.append(_unit(depths, pitches, evidence))
    answers.append(_xy(seen, evidence))
    constants = [c for f in facts for c in f.constants]
    if constants:
        answers.append(_constant(constants, seen))
        answers.append(_constant_leak(seen))
    return answers


def _unit(depths: list[tuple[float, float]], pitches: list[float], evidence: str) -> Answer:
    question = "Which unit are the coordinates in?"
    if not depths:
        return Answer(question, "cannot be told: no map has a valid point", evidence, "open")
    span = float(np.median([high - low for low, high in depths]))
    told = f"Z spans {span:.4g} (median), from {min(d[0] for d in depths):.4g} to {max(d[1] for d in depths):.4g}"
    if pitches:
        pitch = float(np.median(pitches))
        guess = "metres" if pitch < 1e-3 else "millimetres" if pitch < 5 else "micrometres or pixels"
        return Answer(question, f"{guess}, by the pitch: neighbours are {pitch:.4g} apart; {told}", evidence, "note")
    guess = "metres" if span < 0.1 else "millimetres" if span < 200 else "micrometres"
    reason = "of parts some millimetres to centimetres high; X and Y do not help"
    return Answer(question, f"{guess}, if they are {reason}; {told}", evidence, "note")


def _xy(seen: _Seen, evidence: str) -> Answer:
    meanings = Counter(f.meaning or "empty" for _s, f in seen.xyz)
    bad = meanings["placeholder"] + meanings["pixel_index"]
    told = _counted(meanings.elements())
    return Answer("Are X and Y coordinates?", told, evidence, "warning" if bad else "fine")


def _constant(constants: list[float], seen: _Seen) -> Answer:
    question = "What does the constant in X and Y mean?"
    values = sorted({round(c, 6) for c in constants})
    shown = ", ".join(f"{v:.6g}" for v in values[:8]) + (" …" if len(values) > 8 else "")
    pitches = [f.cloud_pitch for _s, f in seen.clouds if f.cloud_pitch]
    if not pitches:
        return Answer(question, f"values {shown}; there is no readable PCD to compare them with", verdict="open")
    pitch = float(np.median(pitches))
    near = [v for v in values if abs(v / pitch - 1) < 0.2]
    fits = f"{near[0]:.6g} fits" if near else "none fits"
    return Answer(
        question,
        f"values {shown}; neighbours in the PCDs are {pitch:.4g} apart: {fits} a pitch",
        f"{len(pitches)} PCDs",
        "note",
    )


def _constant_leak(seen: _Seen) -> Answer:
    """Whether the constants alone tell good from defective, category by category."""
    question = "Do the constants in X and Y give the label away?"
    sides: dict[str, tuple[set[Any], set[Any]]] = defaultdict(lambda: (set(), set()))
    for sample, facts in seen.xyz:
        sides[sample.category][sample.label != OK].add(tuple(round(c, 9) for c in facts.constants))
    both = {c: s for c, s in sides.items() if s[0] and s[1]}
    if not both:
        return Answer(question, "no category has opened maps of both kinds", verdict="open")
    leaking = [c for c, (good, bad) in both.items() if not good & bad]
    if leaking:
        told = f"yes in {len(leaking)} of {len(both)} categories: good and defective maps share no constant"
        return Answer(question, told, some(leaking), "warning")
    return Answer(question, "no: good and defective maps have constants in common", f"{len(both)} categories")


def _about_ps(seen: _Seen) -> list[Answer]:
    question = "Does PS hold normals, n = v/127.5 − 1?"
    if not seen.ps_errors:
        return [Answer(question, "there is no PS picture that could be opened", verdict="open")]
    error = float(np.median(seen.ps_errors))
    told = f"decoded vectors miss the length 1 by {error:.3f} (median)"
    evidence = f"{len(seen.ps_errors)} pictures"
    if error < 0.05:
        return [Answer(question, f"yes: {told}", evidence)]
    return [Answer(question, f"no, it is a picture of another kind: {told}", evidence, "note")]


def _about_light(seen: _Seen) -> list[Answer]:
    question = "Which light is L05 under: the mean of L01 to L04, their largest, their sum, or one of its own?"
    if not seen.lights:
        return [Answer(question, "no sample has all five pictures", verdict="open")]
    errors = {kind: float(np.median([fit.errors[kind] for fit in seen.lights])) for kind in seen.lights[0].errors}
    best = min(errors, key=lambda k: errors[k])
    told = ", ".join(f"{kind} {error:.1f}" for kind, error in sorted(errors.items(), key=lambda e: e[1]))
    scale = float(np.median([fit.scales[best] for fit in seen.lights]))
    name = "sum" if best == "mean" and abs(scale / 4 - 1) < 0.2 else best
    fit = f"closest to the {name} ({best} times {scale:.2f})"
    verdict = fit if errors[best] < _LIGHT_MISFIT else "none of them: a light of its own"
    return [Answer(question, f"{verdict}; grey levels off: {told}", f"{len(seen.lights)} samples", "note")]


def _about_clouds(view: View, found: Found, seen: _Seen) -> list[Answer]:
    ply = [n for n in view.names if n.lower().endswith(".ply")]
    text = [n for n in view.names if n.lower().endswith(".txt") and d3.token_of(n) == "PCD"]
    answers = [
        Answer("Are there PLY files?", f"{len(ply)}: {some(ply, 1)}" if ply else "none", f"{len(view.names)} names"),
        Answer("Is there ground truth per point?", f"{len(text)} PCD .txt: {some(text, 1)}" if text else "none among the names"),
    ]  # fmt: skip
    clouds = [f for _s, f in seen.clouds]
    if not clouds:
        return [*answers, Answer("How are point clouds stored?", "no PCD could be opened", verdict="open")]
    sizes = [f.points for f in clouds if f.points]
    kinds = _counted(f"{f.data}, fields {f.fields}" for f in clouds)
    count = f"{min(sizes)} to {max(sizes)} points" if sizes else "without points"
    full = [f.points == x.pixels for s, f in seen.clouds for t, x in seen.xyz if s is t]
    aligned = f"; as many points as pixels in {sum(full)} of {len(full)}" if full else ""
    coloured = sum(f.coloured for f in clouds)
    told = f"{kinds}; {count}{aligned}; colours in {coloured} of {len(clouds)}"
    return [*answers, Answer("How are point clouds stored?", told, f"{len(clouds)} PCDs")]


def _about_masks(found: Found, seen: _Seen) -> list[Answer]:
    defective = [s for s in found.samples if s.label != OK]
    without = [s.origin for s in defective if not {"MASK", "mask"} & set(s.files)]
    question = "Which values do masks hold, and has every defective sample one?"
    told = "; ".join(f"{{{', '.join(map(str, v))}}} in {n}" for v, n in seen.masks.most_common(4)) or "none was opened"
    lack = f"; {len(without)} of {len(defective)} defective samples have none" if without else ""
    empty = sum(n for values, n in seen.masks.items() if len(values) < 2)
    verdict: Verdict = "warning" if without else "open" if not seen.masks else "fine"
    note = f"; {empty} hold one value only" if empty else ""
    return [Answer(question, told + note + lack, some(without, 2), verdict)]


def _about_jsons(view: View, found: Found) -> list[Answer]:
    question = "What do the JSONs hold, and is there a pcd_path?"
    documents = d3.json_documents(view)
    if not documents:
        return [Answer(question, "there is no JSON, so no official split", verdict="warning")]
    keys: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    total = 0
    for document in documents.values():
        for part in d3.JSON_PARTS:
            entries = document.get(part)
            for entry in entries if isinstance(entries, list) else ():
                if isinstance(entry, dict):
                    total += 1
                    keys.update(entry.keys())
                    counts[f"{part} {'OK' if entry.get('anomaly_class') == OK else 'NG'}"] += 1
    told = ", ".join(f"{k}{'' if n == total else f' (in {n} of {total})'}" for k, n in keys.most_common(12))
    has = f"pcd_path is there in {keys['pcd_path']} entries" if keys["pcd_path"] else "no pcd_path"
    split = ", ".join(f"{n} {c}" for c, n in sorted(counts.items()))
    listed = sum(1 for s in found.samples if s.part)
    evidence = f"{len(documents)} JSONs; {listed} of {len(found.samples)} samples listed"
    return [
        Answer(question, f"{has}; keys: {told}", evidence),
        Answer("How many samples are in each part of the split?", split or "none", evidence),
    ]


def _about_leaks(view: View, found: Found) -> list[Answer]:
    """File sizes and name tokens of all samples: facts without a picture that tell good from defective."""
    question = "Do file sizes give the label away?"
    told = []
    for category in sorted({s.category for s in found.samples}):
        for role in ("RGBL05", "PS", "XYZ", "PCD"):
            sides: tuple[list[int], list[int]] = ([], [])
            for sample in found.samples:
                if sample.category == category and role in sample.files:
                    sides[sample.label != OK].append(view.size(sample.files[role]))
            if min(map(len, sides)) < 5:
                continue
            bad = np.repeat([False, True], [len(side) for side in sides])
            area = auroc(np.array([*sides[0], *sides[1]], np.float64), bad)
            if abs(area - 0.5) > 0.45:
                told.append(f"{category} {role} (AUROC {max(area, 1 - area):.2f})")
    if told:
        return [Answer(question, f"yes: {some(told, 6)}", f"{len(found.samples)} samples", "warning")]
    return [Answer(question, "not by themselves", f"sizes of {len(found.samples)} samples")]


def _about_damage(seen: _Seen) -> list[Answer]:
    question = "Could everything be read?"
    if not seen.unreadable:
        return [Answer(question, f"yes, all {seen.opened} files that were opened")]
    plain = [re.sub(r"\s+", " ", u) for u in seen.unreadable]
    return [Answer(question, f"no: {len(plain)} of {seen.opened} files", some(plain, 2), "warning")]
