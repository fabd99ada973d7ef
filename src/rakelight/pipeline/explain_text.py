"""An explanation in words, and as plain data for JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.detection import conformal
from rakelight.detection._geometry import scale_of
from rakelight.pipeline.detect_explain import Explanation, Match, Sight
from rakelight.pipeline.heat_scale import UNIT, heat_scale
from rakelight.pipeline.verdict_text import NAMES, NONE_ABOVE, explanation, native_position, place, times, verdict_dict

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 44  # columns of the text histogram
_FINE_P = 0.01
_BEYOND = 10.0  # times the span of good parts and threshold, at which its axis ends
_MARGIN = 0.05  # of the axis beyond the highest score on it


def explanation_dict(found: Explanation) -> dict[str, Any]:
    """Plain data for JSON: that of :func:`verdict_dict`, and ``rank``, ``calibration``, ``sights``, ``matches``, ``pose``,
    ``capture`` and ``notes``."""
    part, verdict = found.part, found.verdict
    judged = verdict_dict(part, verdict, found.detector.method, heat_scale(found.detector))
    return judged | {
        "rank": {"higher_than": _higher(found), "of": len(found.calibration)},
        "least_p_value": 1 / (len(found.calibration) + 1),
        "calibration": [float(value) for value in found.calibration],
        "sights": [
            {
                "modality": sight.modality,
                "excess": sight.excess if math.isfinite(sight.excess) else None,
                "stands_out": sight.stands_out,
                "native_px": [round(x, 1) for x in native_position(part, sight.peak)],
                "place": place(part, sight.peak),
                "area_native_px": round(sight.region / scale_of(part.to_native) ** 2, 1),
                "area_mm2": area_mm2(found, sight.region),
            }
            for sight in found.sights
        ],
        "matches": [
            {
                "modality": match.modality,
                "bank": match.bank,
                "distance": match.distance,
                "usual": match.usual,
                "nearest_part": match.key,
                "there": None if match.place is None or match.part is None else place(match.part, whole(match.place)),
                "why_not": match.why_not or None,
            }
            for match in found.matches
        ],
        "pose": vars(found.pose) | {"warnings": list(found.pose.warnings)},
        "capture": dict(found.capture),
        "notes": list(found.notes),
    }


def explanation_lines(found: Explanation) -> list[str]:
    """What a person reads, line by line."""
    judged, part = found.verdict.judgement, found.part
    name = "REJECTED" if judged.rejected else "ACCEPTED"
    lines = [f"{part.key}: {name}", f"  {explanation(part, found.verdict, found.detector.method)}", ""]
    lines += [f"Score {judged.score:.1f}: {rank(found)}; {threshold_words(found)}. Unit: {UNIT}."]
    lines += [f"  {line}" for line in histogram(found)]
    lines += [f"p = {judged.p_value:.2g}: {p_words(found)}", "", *_bank_lines(found), ""]
    lines += [*(f"{NAMES[s.modality]}: {sight_words(found, s)}" for s in found.sights)]
    lines += [f"{NAMES[m.modality]}: {match_words(found, m)}" for m in found.matches]
    lines += ["", f"Pose: {pose_words(found)}", f"Capture: {capture_words(found)}"]
    return lines


def warnings(found: Explanation) -> list[str]:
    """What the reader must know before believing the verdict."""
    lacking = [NAMES[m] for m in found.detector.method.modalities if m not in found.part.available]
    told = (
        [f"the part lacks {', '.join(lacking)}: judged by what it has, with a calibration of its own"]
        if lacking
        else []
    )
    return [*told, *found.pose.warnings, *found.notes]


def rank(found: Explanation) -> str:
    """Where the score stands among those of good parts."""
    return f"higher than {_higher(found)} of {len(found.calibration)} good parts"


def threshold_words(found: Explanation) -> str:
    """The threshold, and whether it is one."""
    judged = found.verdict.judgement
    if not math.isfinite(judged.threshold):
        return f"no threshold: {judged.calibration_parts} good parts are too few for this false-alarm level"
    return f"{'provisional ' * judged.provisional}threshold {judged.threshold:.1f}"


def p_words(found: Explanation) -> str:
    """What the p-value says, and what so many parts can say at all."""
    n = found.verdict.judgement.calibration_parts
    least = 1 / (n + 1)
    as_strange = len(found.calibration) - _higher(found)
    said = f"{as_strange} of {n} good parts score as high"
    if as_strange:
        return f"{said}; with {n} parts p goes down to {least:.2g}"
    more = conformal.needed_parts(_FINE_P) - n
    return f"{said}; {least:.2g} is the least that {n} parts can give, however strange a part is" + (
        f" ({more} more: {_FINE_P:g})" if more > 0 else ""
    )


def share_words(found: Explanation) -> str:
    """Which banks the score comes from."""
    if not any(one.share for one in found.verdict.judgement.contributions.values()):
        return NONE_ABOVE
    of = {bank.name: bank.of for bank in found.detector.method.banks}
    said = sorted(found.verdict.judgement.contributions.items(), key=lambda item: -item[1].share)
    return ", ".join(f"{' with '.join(NAMES[m] for m in of[name])} {100 * one.share:.0f} %" for name, one in said)


def sight_words(found: Explanation, sight: Sight) -> str:
    """What one modality sees by itself."""
    if not math.isfinite(sight.excess):
        return "measured nothing"
    if not sight.stands_out:
        return f"nothing unusual (its strangest spot: {sight.excess:+.1f} × the spread of good parts)"
    u, v = native_position(found.part, sight.peak)
    area = area_mm2(found, sight.region)
    size = "" if not sight.region else f", {area:.2f} mm²" if area is not None else f", {sight.region} working pixels"
    where = f"{place(found.part, sight.peak)} (pixel {u:.0f}, {v:.0f})"
    return f"stands out {times(sight.excess)} the spread of good parts, {where}{size}"


def match_words(found: Explanation, match: Match) -> str:
    """The good part that is most like the strangest place."""
    said = f"at the strangest place, most like it is {match.key}, distance {match.distance:.2f} (usual greatest {match.usual:.2f})"
    if match.place is None or match.part is None:
        return f"{said}; {match.why_not}"
    here, there = place(found.part, whole(match.patch)), place(match.part, whole(match.place))
    return f"{said}, " + ("at the same place" if here == there else there)


def pose_words(found: Explanation) -> str:
    """How the part lies."""
    pose = found.pose
    said = []
    if pose.angle_deg is not None:
        said.append(f"turned by {pose.angle_deg:.1f}°")
    if pose.correlation is not None:
        said.append(f"correlation with the template {pose.correlation:.2f}")
    if pose.overlap is not None:
        said.append(f"outlines overlap {100 * pose.overlap:.0f} %")
    return (", ".join(said) or "as captured; the model has no template") + (
        "" if not pose.warnings else " – see the warnings"
    )


def capture_words(found: Explanation) -> str:
    """Facts of the capture in one line."""
    said = []
    for name, value in found.capture.items():
        shown = (
            f"{value:.4g}"
            if isinstance(value, float)
            else ", ".join(map(str, value))
            if isinstance(value, list)
            else str(value)
        )
        said.append(f"{name.replace('_', ' ')} {shown}")
    return ", ".join(said)


def area_mm2(found: Explanation, pixels: int) -> float | None:
    """Of so many working pixels; None where the pitch is not known."""
    pitch = found.part.facts.get("pitch_mm")
    return None if pitch is None else round(pixels * float(pitch) ** 2, 4)


def whole(at: tuple[float, float]) -> tuple[int, int]:
    """The working pixel at a place."""
    return round(at[0]), round(at[1])


def histogram(found: Explanation, width: int = _WIDTH) -> list[str]:
    """Scores of good parts as blocks, ``|`` the threshold and ``▲`` this part below them, on one axis."""
    low, high, limit = axis(found)
    score = found.verdict.judgement.score

    def column(value: float) -> int:
        return int(np.clip((value - low) / (high - low) * (width - 1), 0, width - 1).round())

    counts = np.zeros(width, int)
    for value in found.calibration:
        counts[column(float(value))] += 1
    levels = np.ceil(counts / max(1, counts.max()) * (len(_BARS) - 1)).astype(int)
    top = "".join(_BARS[level] for level in levels)
    below = [" "] * width
    if math.isfinite(limit):
        below[column(limit)] = "|"
    below[column(score)] = "▲"
    ends = f"{low:.1f}", f"{high:.1f}"
    beyond = f" (this part: {score:.1f}, beyond the axis)" if not low <= score <= high else ""
    return [
        f"{'':>8}{top}  {len(found.calibration)} good parts",
        f"{ends[0]:>7} {''.join(below)} {ends[1]}",
        f"{'':>8}▲ this part" + ("" if not math.isfinite(limit) else ", | threshold") + beyond,
    ]


def axis(found: Explanation) -> tuple[float, float, float]:
    """From and to where scores are shown, and the threshold; a part far beyond does not squeeze the good ones into a corner."""
    judged: NDArray[np.float64] = found.calibration
    limit, score = found.verdict.judgement.threshold, found.verdict.judgement.score
    low = min(float(judged[0]), score)
    known = max(float(judged[-1]), limit if math.isfinite(limit) else -math.inf)
    high = min(max(known, score), known + _BEYOND * max(known - float(judged[0]), 1.0))
    return low, max(high + _MARGIN * (high - low) if score <= high else high, low + 1.0), limit


def _higher(found: Explanation) -> int:
    return int(np.searchsorted(found.calibration, found.verdict.judgement.score, side="left"))


def _bank_lines(found: Explanation) -> list[str]:
    judged, of = found.verdict.judgement, {bank.name: bank for bank in found.detector.method.banks}
    rows = [("bank", "of", "score", "usual", "z", "p", "share")]
    for name in judged.banks:
        said, spec = judged.contributions[name], of[name]
        usual = float(np.median(found.detector.decision.single[name]))
        kind = "+".join(NAMES[m] for m in spec.of) + (", swapped" if spec.swapped else "")
        cells = f"{said.score:.2f}", f"{usual:.2f}", f"{said.z:.1f}", f"{said.p_value:.2g}", f"{100 * said.share:.0f} %"
        rows.append((name, kind, *cells))
    if share_words(found) == NONE_ABOVE:
        rows = [(*row[:-1], row[-1] if row is rows[0] else "–") for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  "
        + "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return lines if share_words(found) != NONE_ABOVE else [*lines, f"  {NONE_ABOVE}"]
