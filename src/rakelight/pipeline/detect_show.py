"""What a taught detector is, as plain data and in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from rakelight.detection import conformal
from rakelight.detection.detector import Detector
from rakelight.pipeline.verdict_text import NAMES


def model_dict(detector: Detector) -> dict[str, Any]:
    """The model as plain data, ready for JSON.

    ``category``, ``dataset``, ``method`` (as :meth:`Method.to_dict`), ``extractors``, ``banks`` (of, vectors, dimensions, parts),
    ``swap`` and ``fusion``, ``parts`` (key, sha256), ``ignored_share`` of the working frame (None: nothing is ignored),
    ``thresholds`` at usual levels with what they promise, ``facts`` and ``warnings`` of its teaching.
    """
    facts = {name: value for name, value in detector.facts.items() if name != "warnings"}
    return {
        "category": detector.category,
        "dataset": facts.get("dataset"),
        "method": detector.method.to_dict(),
        "extractors": {
            m: {"id": e.id, "dim": e.dim, "weights_sha256": e.weights_sha256} for m, e in detector.extractors.items()
        },
        "banks": {
            spec.name: {
                "of": list(spec.of),
                "swapped": spec.swapped,
                "judges": spec.judges,
                "vectors": len(detector.banks[spec.name]),
                "dim": detector.banks[spec.name].dim,
                "parts": len(detector.banks[spec.name].parts),
            }
            for spec in detector.method.banks
        },
        "swap": None if detector.swap is None else {"mode": detector.method.swap, "alpha": detector.method.alpha,
                                                    "block": detector.method.block, "seed": detector.method.seed},
        "fusion": None if detector.fusion is None else detector.fusion.kind,
        "template": None if detector.template is None else detector.template.key,
        "ignored_share": None if detector.ignore is None else round(float(np.mean(detector.ignore)), 4),
        "parts": [{"key": part.key, "sha256": part.sha256} for part in detector.parts],
        "thresholds": thresholds(detector),
        "facts": facts,
        "warnings": list(detector.facts.get("warnings", ())),
    }  # fmt: skip


def thresholds(detector: Detector) -> list[dict[str, Any]]:
    """Of complete parts, at the usual false-alarm levels: ``alpha``, ``threshold`` (None: no part can be rejected), ``promise``."""
    columns = tuple(i for i, spec in enumerate(detector.method.banks) if spec.judges)
    pattern = detector.decision.patterns.get(columns)
    found = []
    for alpha in conformal.ALPHAS:
        limit = np.inf if pattern is None else conformal.threshold(pattern.calibration, alpha)
        promise = conformal.promise(detector.calibration_parts, alpha)
        found.append({"alpha": alpha, "threshold": limit if np.isfinite(limit) else None, "promise": promise.to_dict()})
    return found


def model_lines(detector: Detector) -> list[str]:
    """What a person reads of a model."""
    told = model_dict(detector)
    method, parts = detector.method, detector.parts
    lines = [f"{method.name} for {told['category']}, taught {len(parts)} good parts of data set {told['dataset']}"]
    lines += [
        f"  features: {', '.join(f'{NAMES[m]} {e.id}' for m, e in detector.extractors.items())}; "
        f"{method.size} px, {method.grid} x {method.grid} patches, seed {method.seed}"
    ]
    if told["swap"]:
        lines.append(f"  swapping: {method.swap}, {100 * method.alpha:g} % of channels and blocks of {method.block}")
    if told["fusion"]:
        facts = detector.facts.get("fusion") or {}
        figures = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in facts.items())
        lines.append(f"  fusion: {told['fusion']}" + (f" ({figures})" if figures else ""))
    if told["template"]:
        lines.append(f"  pose of {told['template']}" + ("" if detector.facts.get("turns", True) else ", without turns"))
    if told["ignored_share"] is not None:
        lines.append(f"  ignores {100 * told['ignored_share']:.1f} % of the working frame")
    lines.append("Memory banks")
    for name, bank in told["banks"].items():
        kind = "+".join(NAMES[m] for m in bank["of"]) + (", swapped" if bank["swapped"] else "")
        role = "judges" if bank["judges"] else "explains, and stands in"
        lines.append(
            f"  {name:<12} {kind:<22} {bank['vectors']:>7} x {bank['dim']:<5} of {bank['parts']} parts; {role}"
        )
    lines.append("Thresholds by false-alarm level (robust SD of good parts)")
    for one in told["thresholds"]:
        promise = one["promise"]
        shown = "too few parts" if one["threshold"] is None else f"{one['threshold']:.2f}"
        lines.append(f"  {100 * one['alpha']:>4g} %: {shown}. {promise['sentences'][0 if promise['possible'] else -1]}")
    return lines
