"""What a surface is made from: which frame shows which image of the pattern set, the models, and the table under it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Description, Recording, Shot, full_scale_of
from rakelight.errors import CalibrationError, DatasetError, InputError
from rakelight.files import canonical_json
from rakelight.pipeline.light_stack import window_camera
from rakelight.reconstruction import merging
from rakelight.reconstruction.levels import SATURATION
from rakelight.reconstruction.models import Camera, Plane, Projector
from rakelight.reconstruction.part_mask import fit_table
from rakelight.reconstruction.patterns import Axis, PatternSet

Slot = tuple[int, int, int]  # direction, bracket, place in the pattern set
NO_TABLE = "none found: a plane that faces the camera at the farthest points"
_FAR = 99.9  # percentile of the depths: what lies further are single gross errors


@dataclass(frozen=True)
class Source:
    """Where pattern frames come from: a recording, or a capture that is still running. ``name`` is for messages.

    ``plan`` holds the shots that have frames, or will have.
    """

    name: str
    description: Description
    width: int
    height: int
    plan: tuple[Shot, ...]

    @classmethod
    def of(cls, recording: Recording) -> Source:
        """An opened recording as a source."""
        info = recording.info
        taken = {frame.shot for frame in info.frames}
        plan = tuple(shot for shot in info.plan if shot.name in taken)
        return cls(str(recording.folder), info, info.width, info.height, plan)

    @property
    def full_scale(self) -> float:
        """Largest raw value; raises :class:`DatasetError` (``surface.pixel_format``) for float frames."""
        value = full_scale_of(self.description.pixel_format)
        if value is None:
            raise DatasetError(
                f"{self.name}: frames of {self.description.pixel_format} have no full scale; fringes need integers",
                hint="record Mono, Bayer or RGB frames of 8 to 16 bits, or leave the patterns out (--no-surface)",
                code="surface.pixel_format",
            )
        return value


def slots(source: Source, pattern_set: PatternSet) -> tuple[dict[str, Slot], dict[tuple[int, int], str]]:
    """Which shot shows which image of the set, of the exposures of which every image is there once.

    Returns
    -------
    slots : dict
        Shot name → (direction, bracket, place in ``pattern_set.patterns``).
    incomplete : dict
        (direction, bracket) → what is wrong with it, in words.

    Raises :class:`DatasetError` ``surface.pattern_missing`` if no exposure of no direction is complete.
    """
    places = {canonical_json(p.to_plain()): i for i, p in enumerate(pattern_set.patterns)}
    found: dict[tuple[int, int], dict[int, str]] = {}
    incomplete: dict[tuple[int, int], str] = {}
    for shot in source.plan:
        place = places.get(canonical_json(shot.pattern)) if shot.role == "pattern" else None
        if place is None:
            continue  # white or black or of the other axis: not for decoding
        exposure = (shot.projector or 1, shot.bracket)
        other = found.setdefault(exposure, {}).setdefault(place, shot.name)
        if other != shot.name:
            incomplete.setdefault(exposure, f"shots {other} and {shot.name} show one image of the pattern set")
    for exposure, shots in found.items():
        missing = [pattern_set.names[i] for i in range(len(places)) if i not in shots]
        if missing:
            told = f"{len(missing)} image(s) of the pattern set are missing: {', '.join(missing[:4])}"
            incomplete.setdefault(exposure, told + (" …" if len(missing) > 4 else ""))
    complete = {e: shots for e, shots in found.items() if e not in incomplete}
    if not complete:
        (direction, _), why = min(incomplete.items(), default=((1, 1), "no shot shows an image of the pattern set"))
        raise DatasetError(
            f"{source.name}: direction {direction}: {why}",
            hint="capture the part again, mend the recording's description, or leave the patterns out (--no-surface)",
            code="surface.pattern_missing",
        )
    return {shot: (*e, place) for e, shots in complete.items() for place, shot in shots.items()}, incomplete


def pattern_set_of(source: Source) -> PatternSet:
    """The pattern set that the frames show; :class:`DatasetError` ``surface.no_patterns`` if it is not known."""
    if source.description.pattern_set is None:
        raise DatasetError(
            f"{source.name} has no pattern set",
            hint="give pattern_set in its description (docs/patterns.md), or leave the patterns out (--no-surface)",
            code="surface.no_patterns",
        )
    try:
        return PatternSet.from_plain(source.description.pattern_set)
    except InputError as error:
        raise DatasetError(f"{source.name}: {error.message}", hint=error.hint, code=error.code) from error


def one_axis(pattern_set: PatternSet) -> tuple[PatternSet, slice]:
    """The axis that is measured (columns, if the set shows them) as a set of its own, and its place among the images."""
    axis: Axis = "column" if "column" in pattern_set.axes else "row"
    first = next(i for i, pattern in enumerate(pattern_set.patterns) if pattern.axis == axis)
    one = replace(pattern_set, axes=(axis,))
    return one, slice(first, first + len(one.patterns))


def grey(image: NDArray[Any], full_scale: float) -> NDArray[Any]:
    """One frame as (H, W) integers: colour frames as the mean of their channels, saturated where one of them is."""
    if image.ndim == 3:
        clipped = image.max(axis=2) >= SATURATION * full_scale
        image = image.mean(axis=2, dtype=np.float32)
        image[clipped] = full_scale
    return np.rint(image).astype(np.uint16) if image.dtype == np.float32 else image


def lacking(source: Source, calibration: RigCalibration) -> str:
    """What the calibration lacks to measure anything of the surface, in words; empty if nothing."""
    used = sorted({shot.projector or 1 for shot in source.plan if shot.role == "pattern"})
    missing = ["camera"] if calibration.camera is None else []
    if not set(used) & {projector.direction for projector in calibration.projectors}:
        missing.append(f"projector {', '.join(map(str, used))}")
    return ", no ".join(missing)


def models_of(source: Source, calibration: RigCalibration) -> tuple[Camera, dict[int, Projector]]:
    """Camera and projectors; :class:`CalibrationError` ``surface.not_calibrated`` if nothing can be measured."""
    if (missing := lacking(source, calibration)) or calibration.camera is None:
        raise CalibrationError(
            f"calibration {calibration.calibration_id} has no {missing}, which {source.name} needs",
            hint="calibrate camera and projectors, or name the calibration of this rig",
            code="surface.not_calibrated",
        )
    camera = window_camera(calibration.camera, source.name, source.description.sensor, source.width, source.height)
    return camera, {projector.direction: projector for projector in calibration.projectors}


def confidence(merged: merging.Merged) -> NDArray[np.float32]:
    """Share of the directions that agree among all that saw something, halved for one alone; (H, W) float32, 0 if invalid."""
    table = np.zeros(256, np.float32)  # of rejected << 4 | support, for up to four directions
    for key in range(256):
        support, rejected = key & 15, (key >> 4).bit_count()
        table[key] = support / max(support + rejected, 1) * (0.5 if support == 1 else 1.0)
    return np.asarray(cv2.LUT(merged.rejected << 4 | merged.support, table))


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


def table_of(xyz: NDArray[np.float32], known: Plane | None) -> tuple[Plane, str]:
    """The table plane and where it comes from, for reports: the calibration, the points, or else a stand-in for it."""
    if known is not None:
        return known, "calibration"
    try:
        return fit_table(xyz), "fitted to the measured points"
    except CalibrationError:
        step = max(1, int(np.sqrt(xyz[..., 2].size / 1e6)))
        far = float(np.nanpercentile(xyz[::step, ::step, 2], _FAR))
        return Plane(np.array([0.0, 0.0, -1.0]), -far), NO_TABLE
