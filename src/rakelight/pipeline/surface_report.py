"""What a measured surface says about itself: shares per exposure and direction, and warnings in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.errors import DatasetError
from rakelight.reconstruction import decoding, merging
from rakelight.reconstruction.decoding import Flag
from rakelight.reconstruction.noise import NoiseModel

MANY_SATURATED, MANY_DARK = 0.5, 0.95  # shares of the pixels (a small part on a black table is no fault)
_WITHOUT = "leave the patterns out (--no-surface)"
_UNSURE = 0.001  # share of valid pixels above which it matters that the noise is not known
FEW_AGREE, LEAST_AGREE = 0.5, 0.1  # of the pixels that two or more directions measured: a warning, an error
CONTESTED = 100  # such pixels, of those looked at, that say something


def grid_step(pixels: int) -> int:
    """Stride of an even grid of about a million pixels, odd so that every photosite of a Bayer cell is met."""
    return 1 | max(1, int(np.sqrt(pixels / 1e6)))


def exposure_report(decoded: decoding.Decoded, noise: NoiseModel, known: bool, bracket: int) -> dict[str, Any]:
    """Shares of all pixels, on an even grid, and the noise that the frames showed (``known``), or that is taken instead.

    A saturated pixel shows no fringes either; it counts as saturated, not as dark.
    """
    step = grid_step(decoded.flags.size)
    flags = decoded.flags[::step, ::step]
    flags = np.where(flags & Flag.SATURATED, flags & ~np.uint8(Flag.DARK), flags)
    modulation = decoded.modulation[::step, ::step][flags == 0]
    return {
        "bracket": bracket,
        **{str(flag.name).lower(): round(float((flags & int(flag) > 0).mean()), 5) for flag in Flag},
        "valid": round(float((flags == 0).mean()), 5),
        "median_modulation_dn": round(float(np.median(modulation)), 2) if modulation.size else None,
        "noise": {name: round(float(value), 4) for name, value in vars(noise).items()} | {"estimated": known},
    }


def agreement(z: NDArray[np.float32], merged: merging.Merged) -> tuple[int, float]:
    """How many pixels two or more of the depth maps ``z`` (D, H, W) know, and the share of them in which two or more agree.

    Looked at on an even grid.
    """
    step = grid_step(merged.support.size)
    contested = np.isfinite(z[:, ::step, ::step]).sum(axis=0) >= 2
    count = int(contested.sum())
    agreed = int((merged.support[::step, ::step][contested] >= 2).sum())
    return count, agreed / count if count else 1.0


def shown(report: Mapping[str, Any]) -> tuple[float, float]:
    """(dark, saturated) shares of a direction: no exposure of it helps those pixels, the longest and the shortest at best."""
    exposures = sorted(report["exposures"], key=lambda e: e["bracket"])
    return (exposures[-1]["dark"], exposures[0]["saturated"]) if exposures else (0.0, 0.0)


def direction_warnings(report: Mapping[str, Any]) -> list[str]:
    """What is wrong with one direction."""
    name = f"direction {report['direction']}"
    several = len({e["bracket"] for e in report["exposures"]} | {e["bracket"] for e in report["left_out"]}) > 1
    warnings = [
        f"{name}{', exposure ' + str(e['bracket']) if several and e['bracket'] else ''} was left out: {e['why']}"
        for e in report["left_out"]
    ]
    dark, saturated = shown(report)
    if saturated > MANY_SATURATED:
        warnings.append(
            f"{name}: {saturated:.0%} of the pixels are saturated; shorten the exposure, or add a shorter one to the "
            "bracket (bracket_us in the recipe)"
        )
    if dark > MANY_DARK:
        warnings.append(
            f"{name}: {dark:.0%} of the pixels show no fringes; is the projector on, and does it light the part?"
        )
    if any(not e["noise"]["estimated"] and e["valid"] > _UNSURE for e in report["exposures"]):
        warnings.append(
            f"{name}: the frames do not show their noise (they touch 0 or full scale everywhere); the predicted "
            "uncertainty is a guess"
        )
    return warnings


def bias_warning(pairs: Sequence[merging.PairBias]) -> str | None:
    """That something moved since the calibration, and which projector, if one alone explains it."""
    if not (significant := [pair for pair in pairs if pair.significant]):
        return None
    worst = max(significant, key=lambda pair: max(abs(pair.median_mm), _at_edge(pair)))
    guilty = merging.blame(pairs)
    who = f"projector {guilty} stands apart" if guilty else "no single projector explains it"
    told = f"{worst.median_mm * 1000:+.1f} µm (median)"
    if _at_edge(worst) > abs(worst.median_mm):
        told += f" and by {2 * _at_edge(worst) * 1000:.1f} µm more from edge to edge"
    return (
        f"directions {worst.a} and {worst.b} measure depths that differ by {told}; {who}: something moved since the "
        "calibration, calibrate again"
    )


def _at_edge(pair: merging.PairBias) -> float:
    return max(abs(tilt) for tilt in pair.tilt_mm_per_image) / 2


def swap_warning(directions: Sequence[int], fitting: Sequence[int] | None) -> str | None:
    """That patterns came from another projector than the plan says."""
    if fitting is None:
        return None
    named = ", ".join(f"{d} is {s}" for d, s in zip(directions, fitting, strict=True) if d != s)
    return f"the directions look swapped (what is booked as {named}): check the wiring of the projectors, or the plan"


def warnings_of(
    reports: Collection[Mapping[str, Any]], pairs: Sequence[merging.PairBias], swapped: str | None, agreed: float
) -> list[str]:
    """All of it, one warning for one cause: swapped directions are biased too, and do not agree."""
    warnings = [text for report in reports for text in direction_warnings(report)]
    misfit = swapped or bias_warning(pairs)
    if misfit is None and agreed < FEW_AGREE:
        misfit = (
            f"the directions contradict each other on {1 - agreed:.0%} of the pixels that two or more measured: another "
            "camera, frame size or rig than the calibration's, gloss, or light between walls of the part"
        )
    warnings += [misfit] if misfit else []
    if sum(bool(report["exposures"]) for report in reports) == 1:
        warnings.append("one direction alone was measured: nothing confirms its depths")
    return warnings


def all_left_out(name: str, reports: Collection[Mapping[str, Any]], code: str) -> DatasetError:
    """No direction is left to measure."""
    told = [f"direction {r['direction']}: {e['why']}" for r in reports for e in r["left_out"]]
    return DatasetError(
        f"{name}: no direction can be measured: {told[0]}"
        + (f"; and {len(told) - 1} more of this kind" if len(told) > 1 else ""),
        hint=f"check what the projectors show and in which order, capture again, or {_WITHOUT}",
        code=code,
    )


def no_depth(name: str, reports: Collection[Mapping[str, Any]], swapped: str | None, contested: int) -> DatasetError:
    """Why there is no depth: swapped directions, a calibration that does not fit, or frames that show nothing."""
    if swapped is not None:
        code, why, hint = "surface.swapped", swapped, "mend the wiring or the plan, and capture again"
    elif contested >= CONTESTED:
        why = "the directions contradict each other (nearly) everywhere"
        code, hint = "surface.misfit", "name the calibration of this camera, frame size and rig, or calibrate again"
    else:
        why = "; ".join(
            f"direction {r['direction']}: {e['saturated']:.0%} saturated, {e['dark']:.0%} without fringes, "
            f"{e['order']:.0%} of uncertain order"
            for r in reports
            for e in r["exposures"]
        )
        code, hint = "surface.all_invalid", "check exposure, projectors and the calibration's camera and projectors"
    return DatasetError(f"{name}: no surface: {why}", hint=f"{hint}; or {_WITHOUT}", code=code)
