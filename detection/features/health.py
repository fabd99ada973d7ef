"""Warnings about inputs and features that a detector cannot work with, before it is trained on them.

A detector trained on a collapsed layer, on metres taken for millimetres or on a burnt-out picture gives numbers like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rakelight.detection.features.base import Features
from rakelight.detection.parts import Part

MOST_CORRELATION = 0.75  # 0.87 was measured in a layer that had collapsed, 0.53 in a healthy one
MOST_HISTOGRAM_CORRELATION = 0.98  # histograms of any surface are alike: FPFH of sound parts has 0.89 to 0.94
MOST_UNMEASURED = 0.3  # share of the part without a point
MOST_SATURATED = 0.02  # share of the part with a channel at 255 …
MOST_DARK = 0.5  # … or with all at 0 … 2
LEAST_SIZE_MM, MOST_SIZE_MM = 1.0, 1000.0  # of a part: metres taken for mm lie below, µm above
_PITCH_RATIO = 1.5  # spacing of points over the pitch that the manifest states
_SAMPLED = 2000  # patches whose correlation is taken


@dataclass(frozen=True)
class Warned:
    """One finding: a stable ``code``, what it is about (a part's key, or the extractor) and a sentence with the next step."""

    code: str
    about: str
    message: str


def check_parts(parts: Iterable[Part]) -> list[Warned]:
    """Look at the inputs of parts: unmeasured points, saturated or dark pictures, the unit of xyz, pictures that differ in kind.

    Parts may stream; nothing is kept but keys.
    """
    found: list[Warned] = []
    kinds: dict[str, str] = {}
    for part in parts:
        found += _check_points(part) + _check_picture(part)
        if part.ps is not None:
            kinds.setdefault(str(part.facts.get("ps_encoding") or ""), part.key)
    known = {kind: key for kind, key in kinds.items() if kind}
    if len(known) > 1:
        named = ", ".join(f"{kind} ({key})" for kind, key in sorted(known.items()))
        found.append(
            Warned(
                "health.ps_encodings",
                "pseudo-3D pictures",
                f"pseudo-3D pictures of different kinds are mixed: {named}; derive the samples again with one --ps",
            )
        )
    return found


def _check_points(part: Part) -> list[Warned]:
    if part.xyz is None:
        return []
    found = []
    xyz = part.xyz[part.mask]
    measured: NDArray[np.bool_] = np.asarray(np.isfinite(xyz).all(axis=1))
    share = 1 - float(measured.mean()) if len(measured) else 1.0
    if share > MOST_UNMEASURED:
        found.append(
            Warned(
                "health.unmeasured",
                part.key,
                f"{part.key}: {100 * share:.0f} % of the part has no point (more than {100 * MOST_UNMEASURED:.0f} %); "
                "look at exposure and shadows of the projectors",
            )
        )
    if not measured.any():
        return found
    extent = float(np.ptp(xyz[measured][:, :2], axis=0).max())
    unit = str(part.facts.get("xyz_unit", "mm"))
    if unit != "mm":
        found.append(
            Warned(
                "health.xyz_unit",
                part.key,
                f"{part.key}: its points have {unit}; slopes are not true, so geometric features mean little. "
                "State the pitch when importing",
            )
        )
    elif not LEAST_SIZE_MM <= extent <= MOST_SIZE_MM:
        found.append(
            Warned(
                "health.xyz_unit",
                part.key,
                f"{part.key}: the part measures {extent:.3g} mm across ({LEAST_SIZE_MM:g} to {MOST_SIZE_MM:g} is usual); "
                f"its XYZ map is probably in {'metres' if extent < LEAST_SIZE_MM else 'micrometres'}",
            )
        )
    elif (ratio := _spacing_ratio(part)) and not 1 / _PITCH_RATIO <= ratio <= _PITCH_RATIO:
        found.append(
            Warned(
                "health.xyz_pitch",
                part.key,
                f"{part.key}: its points lie {ratio:.2g} times as far apart as the stated pitch says; one of them is wrong",
            )
        )
    return found


def _spacing_ratio(part: Part) -> float | None:
    """Spacing of points in the working frame over what the pitch says; None where either is not known."""
    pitch = part.facts.get("pitch_mm")
    if part.xyz is None or not pitch:
        return None
    reach = 8  # pixels: nearest-pixel sampling repeats single points, not runs of them
    ahead = part.xyz[:, reach:, 0] - part.xyz[:, :-reach, 0]
    ahead = ahead[np.isfinite(ahead)]
    return float(np.median(np.abs(ahead))) / (reach * float(pitch)) if len(ahead) else None


def _check_picture(part: Part) -> list[Warned]:
    if part.rgb is None or not part.mask.any():
        return []
    pixels = part.rgb[part.mask]
    bright = float((pixels == 255).any(axis=1).mean())
    dark = float((pixels <= 2).all(axis=1).mean())
    if bright > MOST_SATURATED:
        return [
            Warned(
                "health.saturated",
                part.key,
                f"{part.key}: {100 * bright:.0f} % of the part is saturated (more than {100 * MOST_SATURATED:.0f} %); "
                "shorten the exposure",
            )
        ]
    if dark > MOST_DARK:
        return [
            Warned(
                "health.dark",
                part.key,
                f"{part.key}: {100 * dark:.0f} % of the part is black; look at the lights, the exposure and the part mask",
            )
        ]
    return []


def patch_correlation(features: Features, seed: int = 0) -> float:
    """Mean correlation of the features of two valid patches (Pearson, over channels); NaN with fewer than two."""
    vectors = features.values[features.valid]
    if len(vectors) > _SAMPLED:
        vectors = vectors[np.sort(np.random.default_rng(seed).choice(len(vectors), _SAMPLED, replace=False))]
    if len(vectors) < 2:
        return float("nan")
    unit = _centred_unit(vectors.astype(np.float64))
    total = unit.sum(axis=0)
    n = len(unit)
    return float((total @ total - (unit * unit).sum()) / (n * (n - 1)))


def _centred_unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each vector less its own mean, of length 1. A constant one correlates fully with every other: it tells nothing."""
    vectors = vectors - vectors.mean(axis=1, keepdims=True)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    flat = length[:, 0] <= 1e-12
    unit = vectors / np.maximum(length, 1e-12)
    if flat.all():
        unit[:] = 1 / np.sqrt(vectors.shape[1])
    return unit


def check_features(
    features: Features, about: str, keys: Sequence[str] = (), *, histograms: bool = False
) -> list[Warned]:
    """Look at features: not finite, nearly the same everywhere, parts without a valid patch (named by ``keys``).

    ``histograms``: features that cannot be negative and add up to a constant (FPFH) correlate by nature.
    """
    found = []
    bad = ~np.isfinite(features.values).all(axis=(1, 2, 3))
    empty = ~features.valid.any(axis=(1, 2))
    for what, code, which in (
        ("features that are not finite", "health.not_finite", bad),
        ("no valid patch", "health.no_patch", empty),
    ):
        if which.any():
            names = [keys[i] if i < len(keys) else f"part {i}" for i in np.flatnonzero(which).tolist()]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            found.append(Warned(code, about, f"{about}: {what} in {', '.join(names[:3])}{more}"))
    correlation = float("nan") if bad.any() else patch_correlation(features)
    most = MOST_HISTOGRAM_CORRELATION if histograms else MOST_CORRELATION
    if correlation > most:
        found.append(
            Warned(
                "health.constant",
                about,
                f"{about}: patches hardly differ (mean correlation {correlation:.2f}, above {most:g}): the layer "
                "tells little about the surface; choose other taps",
            )
        )
    return found
