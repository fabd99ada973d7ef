"""The measured surface of recordings without a light stack: rigs whose projectors are all there is, or all that is calibrated."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rakelight
from rakelight import files, folders
from rakelight.calibration.colour import Colour
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.calibration.staleness import stale_for
from rakelight.dataset.recording import Recording, Shot
from rakelight.errors import DatasetError
from rakelight.files import canonical_json
from rakelight.pipeline import outputs, surface_outputs
from rakelight.pipeline.pictures import picture
from rakelight.pipeline.surface import Settings, Surface, has_patterns, measure_surface
from rakelight.pipeline.surface_parts import Source, lacking
from rakelight.pipeline.truth import Truth, compare_surface, load_truth
from rakelight.pipeline.zone_frames import mean_frame
from rakelight.reconstruction.patterns import Uniform

LEAST_ZONES = 3  # of photometric stereo


@dataclass(frozen=True)
class SurfaceAlone:
    """A surface, its truth if the recording carries one, and the report: provenance, warnings, timings."""

    surface: Surface
    truth: Truth | None
    report: dict[str, Any]


def no_lights(recording: Recording, calibration: RigCalibration) -> str | None:
    """Why only the surface can be had, in words; None if there is a light stack, or patterns that cannot be measured."""
    if not has_patterns(recording) or (recording.zones and lacking(Source.of(recording), calibration)):
        return None
    usable = set(recording.zones) & {light.zone for light in calibration.lights}
    if len(usable) >= LEAST_ZONES:
        return None
    if not recording.zones:
        return "the recording has no light zones: the surface is measured, normals and albedo are not"
    return (
        f"{len(usable)} light zone(s) are both recorded and calibrated, normals need {LEAST_ZONES}: the surface alone is "
        "measured"
    )


def measure_alone(
    recording: Recording,
    calibration: RigCalibration,
    settings: Settings | None = None,
    *,
    surface: Surface | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> SurfaceAlone:
    """Measure the surface of ``recording``, or take the ``surface`` that was measured while it was captured.

    Raises as :func:`surface.measure_surface`.
    """
    start = time.perf_counter()
    if surface is None:
        surface = measure_surface(recording, calibration, settings, progress=lambda text: progress(f"surface: {text}"))
    seconds = {"surface": round(time.perf_counter() - start, 4)}
    why, info = no_lights(recording, calibration), recording.info
    stale = stale_for(calibration, recording)
    report: dict[str, Any] = {
        "kind": "reconstruction",
        "schema": 1,
        "software": f"rakelight {rakelight.__version__}",
        "recording": {
            "id": info.recording_id,
            "part_id": info.part_id,
            "simulated": info.simulated,
            "frames": {f.file: f.sha256 for f in recording.shots("pattern")},
        },
        "calibration": {
            "id": calibration.calibration_id,
            "content_sha256": calibration.content_sha256,
            "stale": [s.kind for s in stale],
        },
        "size": [info.width, info.height],
        "zones": [],
        "second_pass": False,
        "settings": {"surface": asdict(settings or Settings())},
        "surface": surface.report,
        "warnings": [
            *info.warnings,
            *(s.sentence for s in stale),
            *([why] if why else []),
            *surface.report["warnings"],
        ],
        "seconds": seconds,
    }
    if info.simulated != calibration.simulated:
        kinds = ("real", "simulated")
        report["warnings"].append(
            f"a {kinds[info.simulated]} recording is measured with a {kinds[calibration.simulated]} calibration"
        )
    if (truth := load_truth(recording)) is not None:
        report["truth"] = {"surface": compare_surface(surface, truth)}
    return SurfaceAlone(surface, truth, report)


def save_alone(
    result: SurfaceAlone, folder: str | Path, *, overwrite: bool = False, cloud_rgb: NDArray[np.uint8] | None = None
) -> dict[str, Path]:
    """Write maps, sheet, report and, with ``cloud_rgb`` (H, W, 3), clouds; as :func:`outputs.save`."""
    folder = Path(folder)
    with folders.staged_folder(folder, overwrite=overwrite, marker=outputs.REPORT) as staging:
        with outputs.Writers() as write:
            title = f"{outputs.title_of(result.report)}: measured surface"
            surface_outputs.write_surface(write, staging, result.surface, result.truth, title)
            write.finish()
        if cloud_rgb is not None:
            surface_outputs.write_clouds(staging, result.surface, cloud_rgb, None)
        files.write_json(staging / outputs.REPORT, result.report)
        names = sorted(path.name for path in staging.iterdir())
    return {name: folder / name for name in names}


def pattern_picture(recording: Recording, colour: Colour | None = None) -> NDArray[np.uint8]:
    """The part as its projectors light it, (H, W, 3) uint8 RGB: under white, or else the mean over a phase shift.

    Mean of all directions; of a bracket the middle exposure, the shorter one of two. ``colour`` as :func:`picture` takes it:
    measured under the lights, not under the projectors.
    """
    patterns = [shot for shot in recording.info.plan if shot.role == "pattern"]
    white = canonical_json(Uniform(1.0).to_plain())
    chosen = [s for s in patterns if canonical_json(s.pattern) == white] or [s for s in patterns if _is_wave(s)]
    if not chosen:
        raise DatasetError(
            f"{recording.folder} has neither white nor sinusoidal patterns to colour the clouds with",
            hint="leave the clouds out (--no-clouds)",
            code="surface.no_colours",
        )
    brackets = sorted({shot.bracket for shot in chosen})
    middle = brackets[(len(brackets) - 1) // 2]
    names = {shot.name for shot in chosen if shot.bracket == middle}
    return picture(recording, mean_frame(recording, [f for f in recording.info.frames if f.shot in names]), colour)


def _is_wave(shot: Shot) -> bool:
    return isinstance(shot.pattern, dict) and shot.pattern.get("kind") == "sinusoid"
