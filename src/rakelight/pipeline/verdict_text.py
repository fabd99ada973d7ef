"""A verdict in words for a person, and as plain data for JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rakelight.detection._geometry import scale_of, square
from rakelight.detection.detector import Verdict
from rakelight.detection.methods.base import Method
from rakelight.detection.native import Modality
from rakelight.detection.parts import Part
from rakelight.pipeline.heat_scale import UNIT, HeatScale, peak_region, seeing

NONE_ABOVE = "no bank is above its usual score"
NAMES: dict[Modality, str] = {"rgb": "RGB", "ps": "pseudo-3D", "xyz": "3D"}


def verdict_dict(part: Part, verdict: Verdict, method: Method, scale: HeatScale) -> dict[str, Any]:
    """A verdict as plain data, ready for JSON: no NaN, no infinity (None instead).

    Parameters
    ----------
    part : Part
        What was judged; gives pixels and millimetres.
    verdict : Verdict
    method : Method
        The detector's; says of which modalities its banks are.
    scale : HeatScale
        Its ``limit`` bounds the region.

    Returns
    -------
    dict
        ``key``, ``label`` (None where unknown), ``rejected``, ``score`` and ``threshold`` in ``score_unit`` (threshold None:
        too few calibration parts to reject any), ``p_value``, ``provisional``, ``calibration_parts``, ``reason``;
        ``peak``: ``value``, ``native_px`` (u, v), ``from_middle_mm`` (right, down in the part's pose; None without a pitch);
        ``region``: ``above`` (the limit), ``area_native_px``, ``area_mm2``; ``seen_by``; ``modalities``: of each that the
        method uses, whether it was ``used``, its ``excess`` where its own map is greatest (None where nothing is known)
        and whether it ``stands_out``; ``banks``: of each that had a say ``of``, ``score``, ``z``, ``p_value``, ``share``.
    """
    judged = verdict.judgement
    of = {bank.name: bank.of for bank in method.banks}
    used = {m for name in judged.banks for m in of[name]}
    row, column = verdict.peak
    u, v = native_position(part, verdict.peak)
    offset = from_middle_mm(part, verdict.peak)
    region = int(peak_region(verdict, scale).sum())
    pitch = part.facts.get("pitch_mm")
    return {
        "key": verdict.key,
        "label": part.label or None,
        "rejected": bool(judged.rejected),
        "score": float(judged.score),
        "score_unit": UNIT,
        "threshold": _number(judged.threshold),
        "p_value": float(judged.p_value),
        "provisional": bool(judged.provisional),
        "calibration_parts": int(judged.calibration_parts),
        "reason": reason(part, verdict, method),
        "peak": {
            "value": float(verdict.map[row, column]),
            "native_px": [round(u, 1), round(v, 1)],
            "from_middle_mm": None if offset is None else [round(x, 3) for x in offset],
        },
        "region": {
            "above": scale.limit,
            "area_native_px": round(region / scale_of(part.to_native) ** 2, 1),
            "area_mm2": None if pitch is None else round(region * pitch**2, 4),
        },
        "seen_by": verdict.seen_by,
        "modalities": {
            m: {
                "used": m in used,
                "excess": _number(verdict.excess.get(m, math.nan)),
                "stands_out": m in seeing(verdict),
            }
            for m in method.modalities
        },
        "banks": {name: {"of": list(of[name]), **vars(judged.contributions[name])} for name in judged.banks},
    }


def reason(part: Part, verdict: Verdict, method: Method) -> str:
    """One sentence: the verdict, what sees the spot and how strongly, where it is, and what sees nothing there."""
    judged = verdict.judgement
    head = f"{'rejected' if judged.rejected else 'accepted'} (p = {judged.p_value:.2g})"
    return f"{head}: {explanation(part, verdict, method)}"


def explanation(part: Part, verdict: Verdict, method: Method) -> str:
    """The sentence of :func:`reason` without the verdict itself."""
    judged = verdict.judgement
    seen = seeing(verdict)
    parts = [_seen(part, verdict, method, seen)]
    if judged.rejected or seen:
        parts += _others(verdict, seen)
    if not judged.rejected and seen:
        parts.append(
            "but the score of the whole part stays below the threshold"
            if math.isfinite(judged.threshold)
            else f"but {judged.calibration_parts} good parts are too few to reject any at this false-alarm level"
        )
    lacking = [NAMES[m] for m in method.modalities if m not in part.available]
    if lacking:
        parts.append(f"judged without {_listed(lacking)}, which the part lacks")
    return "; ".join(parts)


def place(part: Part, peak: tuple[int, int]) -> str:
    """Where a working pixel (row, column) is: millimetres from the middle in the part's pose, or the native pixel."""
    offset = from_middle_mm(part, peak)
    if offset is None:
        u, v = native_position(part, peak)
        return f"at pixel {u:.0f}, {v:.0f}"
    right, down = offset
    words = [
        f"{abs(value):.1f} mm {ahead if value > 0 else back}"
        for value, ahead, back in ((right, "right", "left"), (down, "down", "up"))
        if abs(value) >= 0.05
    ]
    return f"{', '.join(words)} of the middle" if words else "in the middle"


def native_position(part: Part, peak: tuple[int, int]) -> tuple[float, float]:
    """The native pixel (u, v) of a working pixel (row, column)."""
    u, v, _ = np.linalg.solve(square(part.to_native), [peak[1], peak[0], 1.0]).tolist()
    return u, v


def from_middle_mm(part: Part, peak: tuple[int, int]) -> tuple[float, float] | None:
    """Millimetres right and down of the frame's middle, in the part's pose; None where the pitch is not known."""
    pitch = part.facts.get("pitch_mm")
    if pitch is None:
        return None
    middle = (part.size - 1) / 2
    return (peak[1] - middle) * float(pitch), (peak[0] - middle) * float(pitch)


def _seen(part: Part, verdict: Verdict, method: Method, seen: list[Modality]) -> str:
    where = place(part, verdict.peak)
    if seen:
        return f"{NAMES[seen[0]]} stands out {times(verdict.excess[seen[0]])} the spread of good parts, {where}"
    if not verdict.judgement.rejected:
        return "nothing stands out"
    words = f"no modality stands out by itself at the strangest spot, {where}"
    name, most = max(verdict.judgement.contributions.items(), key=lambda item: item[1].share)
    if not most.share:
        return f"{words}; {NONE_ABOVE}"
    of = next(bank.of for bank in method.banks if bank.name == name)
    return f"{words}; {' with '.join(NAMES[m] for m in of)} weighs most in the score ({100 * most.share:.0f} %)"


def _others(verdict: Verdict, seen: list[Modality]) -> list[str]:
    """What the modalities besides the first say of the spot."""
    if not seen:
        return []
    said = [f"{NAMES[m]} stands out too ({times(verdict.excess[m])})" for m in seen[1:]]
    blind = [m for m, x in verdict.excess.items() if not math.isfinite(x)]
    silent = [NAMES[m] for m in verdict.excess if m not in seen and m not in blind]
    if silent:
        said.append(f"{_listed(silent)} {'shows' if len(silent) == 1 else 'show'} nothing there")
    if blind:
        said.append(f"{_listed([NAMES[m] for m in blind])} measured nothing there")
    return said


def times(value: float) -> str:
    return f"{value:.1f} ×" if value < 99.95 else f"{value:.0f} ×"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
