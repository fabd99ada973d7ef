"""What a surface is made from: which frame shows which image of the pattern set, the models, and figures of the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Description, Recording, Shot, full_scale_of
from rakelight.errors import CalibrationError, DatasetError, InputError
from rakelight.files import canonical_json
from rakelight.pipeline.light_stack import window_camera
from rakelight.reconstruction import decoding, merging
from rakelight.reconstruction.models import Camera, Plane, Projector
from rakelight.reconstruction.noise import NoiseModel
from rakelight.reconstruction.patterns import PatternSet

Slot = tuple[int, int, int]  # direction, bracket, place in the pattern set


@dataclass(frozen=True)
class Source:
    """Where pattern frames come from: a recording, or a capture that is still running. ``name`` is for messages."""

    name: str
    description: Description
    width: int
    height: int

    @classmethod
    def of(cls, recording: Recording) -> Source:
        """An opened recording as a source."""
        return cls(str(recording.folder), recording.info, recording.info.width, recording.info.height)

    @property
    def full_scale(self) -> float:
        """Largest raw value; raises :class:`DatasetError` (``surface.pixel_format``) for float frames."""
        value = full_scale_of(self.description.pixel_format)
        if value is None:
            raise DatasetError(
                f"{self.name}: frames of {self.description.pixel_format} have no full scale; fringes need integers",
                hint="record Mono or Bayer frames of 8 to 16 bits",
                code="surface.pixel_format",
            )
        return value


def slots(plan: Sequence[Shot], pattern_set: PatternSet, name: str) -> dict[str, Slot]:
    """Which shot shows which image of the set: shot name → (direction, bracket, place in ``pattern_set.patterns``).

    Raises :class:`DatasetError` ``surface.pattern_missing`` for images that are not there or there twice.
    """
    places = {canonical_json(p.to_plain()): i for i, p in enumerate(pattern_set.patterns)}
    found: dict[Slot, str] = {}
    for shot in plan:
        if shot.role != "pattern" or shot.pattern is None:
            continue
        place = places.get(canonical_json(shot.pattern))
        if place is None:
            continue  # white or black: for checks, not for decoding
        slot = (shot.projector or 1, shot.bracket, place)
        if slot in found:
            raise _pattern_error(name, f"shots {found[slot]} and {shot.name} show one image of direction {slot[0]}")
        found[slot] = shot.name
    for direction, bracket in sorted({slot[:2] for slot in found}):
        missing = [pattern_set.names[i] for i in range(len(places)) if (direction, bracket, i) not in found]
        if missing:
            raise _pattern_error(
                name,
                f"direction {direction} lacks {len(missing)} image(s) of its pattern set: {', '.join(missing[:4])}",
            )
    if not found:
        raise _pattern_error(name, "no shot shows an image of the recording's pattern set")
    return {shot: slot for slot, shot in found.items()}


def _pattern_error(name: str, what: str) -> DatasetError:
    return DatasetError(
        f"{name}: {what}",
        hint="capture the part again, or mend the recording's description",
        code="surface.pattern_missing",
    )


def pattern_set_of(source: Source) -> PatternSet:
    """The pattern set that the frames show; :class:`DatasetError` ``surface.no_patterns`` if it is not known."""
    if source.description.pattern_set is None:
        raise DatasetError(
            f"{source.name} has no pattern set",
            hint="give pattern_set in its description (docs/patterns.md), or reconstruct the light stack alone",
            code="surface.no_patterns",
        )
    try:
        return PatternSet.from_plain(source.description.pattern_set)
    except InputError as error:
        raise DatasetError(f"{source.name}: {error.message}", hint=error.hint, code=error.code) from error


def lacking(source: Source, calibration: RigCalibration) -> str:
    """What the calibration lacks to measure the surface, in words; empty if nothing."""
    used = sorted({shot.projector or 1 for shot in source.description.plan if shot.role == "pattern"})
    known = {projector.direction for projector in calibration.projectors}
    missing = ["camera"] if calibration.camera is None else []
    return ", no ".join(missing + [f"projector {d}" for d in used if d not in known])


def models_of(source: Source, calibration: RigCalibration) -> tuple[Camera, dict[int, Projector]]:
    """Camera and projectors; :class:`CalibrationError` ``surface.not_calibrated`` names those that are absent."""
    if (missing := lacking(source, calibration)) or calibration.camera is None:
        raise CalibrationError(
            f"calibration {calibration.calibration_id} has no {missing}, which {source.name} needs",
            hint="calibrate camera and projectors, or name the calibration of this rig",
            code="surface.not_calibrated",
        )
    camera = window_camera(calibration.camera, source.name, source.description.sensor, source.width, source.height)
    return camera, {projector.direction: projector for projector in calibration.projectors}


def exposure_report(decoded: decoding.Decoded, noise: NoiseModel, bracket: int) -> dict[str, Any]:
    """Shares of all pixels, on an even grid, and the noise that the frames showed."""
    step = 1 | max(1, int(np.sqrt(decoded.flags.size / 1e6)))
    flags = decoded.flags[::step, ::step]
    shares = {str(flag.name).lower(): round(float((flags & int(flag) > 0).mean()), 5) for flag in decoding.Flag}
    modulation = decoded.modulation[::step, ::step][flags == 0]
    return {
        "bracket": bracket,
        **shares,
        "median_modulation_dn": round(float(np.median(modulation)), 2) if modulation.size else None,
        "noise": {name: round(float(value), 4) for name, value in vars(noise).items()},
    }


def confidence(merged: merging.Merged) -> NDArray[np.float32]:
    """Share of the directions that agree among all that saw something, halved for one alone; (H, W) float32, 0 if invalid."""
    counts = np.array([bin(k).count("1") for k in range(256)], np.float32)
    table = np.zeros((256, 256), np.float32)  # support, rejected → confidence
    for support in range(1, 17):
        table[support] = support / (support + counts) * (0.5 if support == 1 else 1.0)
    return np.asarray(table[merged.support, merged.rejected])


def table_depth(camera: Camera, plane: Plane) -> float:
    """z in mm of the table plane in the middle of the image."""
    uv = np.array([(camera.width - 1) / 2, (camera.height - 1) / 2])
    return float(plane.intersect(*camera.rays(uv))[2])


def pixel_pitch_mm(camera: Camera, plane: Plane | None, z: NDArray[np.float32]) -> float:
    """Size of a pixel in the middle of the image, on the table or, without a table plane, at the median depth measured."""
    u, v = (camera.width - 1) / 2, (camera.height - 1) / 2
    origins, directions = camera.rays(np.array([[u - 0.5, v], [u + 0.5, v]]))
    if plane is not None:
        points = plane.intersect(origins, directions)
    else:
        step = max(1, int(np.sqrt(z[0].size / 1e5)))
        known = z[:, ::step, ::step]
        known = known[np.isfinite(known)]
        depth = float(np.median(known)) if known.size else 1.0
        points = origins + directions * ((depth - origins[:, 2:]) / directions[:, 2:])
    return float(np.linalg.norm(points[1] - points[0]))


def height_above(xyz: NDArray[np.float32], plane: Plane) -> NDArray[np.float32]:
    """Height of each point above the plane, (H, W) float32 mm, by rows so that memory stays flat."""
    out = np.empty(xyz.shape[:2], np.float32)
    for first in range(0, len(out), 256):
        rows = slice(first, first + 256)
        out[rows] = xyz[rows].astype(np.float64) @ plane.normal - plane.offset_mm
    return out
