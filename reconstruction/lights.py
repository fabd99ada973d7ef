"""Lights of a photometric-stereo rig and how well they determine a normal.

Directions are unit vectors from the part towards the light in the *viewer frame* (x right, y up, z towards the camera);
positions are millimetres in the OpenCV camera frame: v_viewer = (x, −y, −z) of the camera frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rakelight.errors import CalibrationError
from rakelight.reconstruction._model_checks import (
    VIEWER,
    FloatArray,
    array_of,
    frozen,
    integer,
    invalid,
    number,
    points_of,
    settle,
    unit,
    vector_text,
)

MAX_CONDITION_NUMBER = 3.0  # of the light matrix; above it noise in the normals grows visibly
MIN_SINGULAR_RATIO = 1e-3  # below it the lights lie in one plane and the normal cannot be solved
SLANT_RECOMMENDED_DEG = (35.0, 55.0)
SLANT_LIMITS_DEG = (20.0, 70.0)
_MAX_DIRECTION_ERROR_DEG = 1.0


@dataclass(frozen=True, eq=False)
class Light:
    """A light zone: distant (one direction), or near (an isotropic point source at a known position).

    Parameters
    ----------
    zone : int
        From 1.
    direction : (3,) float64
        Unit vector from the part towards the light, viewer frame, z > 0; made exactly unit if within 1e-3.
    strength : float
        Irradiance on a surface that faces the light, relative (unitless), > 0.
    position_mm : (3,) float64, optional
        Position of the source in mm, camera frame.
    reference_mm : (3,) float64, optional
        The point, in mm, camera frame, at which ``direction`` and ``strength`` hold; needed with ``position_mm``.
        ``direction`` must agree with it within 1°, and is then taken from the position. See :meth:`near`.
    """

    zone: int
    direction: FloatArray
    strength: float = 1.0
    position_mm: FloatArray | None = None
    reference_mm: FloatArray | None = None

    def __post_init__(self) -> None:
        settle(self, "zone", integer("light zone", self.zone, 1, 1024, "light"))
        name = f"light of zone {self.zone}"
        settle(self, "direction", unit(f"{name}: direction", self.direction, "light"))
        settle(self, "strength", number(f"{name}: strength", self.strength, 1e-9, 1e9, "light"))
        if (self.position_mm is None) != (self.reference_mm is None):
            missing = "position" if self.position_mm is None else "reference point"
            raise invalid(f"{name}: {missing}", "absent", "position and reference point, or neither", "light")
        if self.position_mm is not None:
            position = array_of(f"{name}: position (mm)", self.position_mm, (3,), "light")
            reference = array_of(f"{name}: reference point (mm)", self.reference_mm, (3,), "light")
            settle(self, "position_mm", position)
            settle(self, "reference_mm", reference)
            self._align(name, (position - reference) * VIEWER)
        if self.direction[2] <= 0:
            raise invalid(f"{name}: direction", vector_text(self.direction), "z > 0, in front of the part", "light")

    def _align(self, name: str, towards: FloatArray) -> None:
        distance = float(np.linalg.norm(towards))
        if distance < 1e-6:
            raise invalid(f"{name}: distance from the reference point (mm)", f"{distance:.3g}", "above 0", "light")
        towards = towards / distance
        sine = float(np.linalg.norm(np.cross(towards, self.direction)))
        error_deg = math.degrees(math.atan2(sine, float(towards @ self.direction)))
        if error_deg > _MAX_DIRECTION_ERROR_DEG:
            allowed = f"at most {_MAX_DIRECTION_ERROR_DEG:g}°"
            raise invalid(f"{name}: angle between direction and position", f"{error_deg:.2f}°", allowed, "light")
        settle(self, "direction", frozen(towards))

    @classmethod
    def near(cls, zone: int, position_mm: ArrayLike, reference_mm: ArrayLike, strength: float = 1.0) -> Light:
        """A point source at ``position_mm`` whose ``strength`` is meant at ``reference_mm`` (mm, camera frame)."""
        position = array_of(f"light of zone {zone}: position (mm)", position_mm, (3,), "light")
        reference = array_of(f"light of zone {zone}: reference point (mm)", reference_mm, (3,), "light")
        towards = (position - reference) * VIEWER
        distance = float(np.linalg.norm(towards))
        return cls(
            zone, towards / distance if distance > 0 else np.array([0.0, 0.0, 1.0]), strength, position, reference
        )

    @property
    def slant_deg(self) -> float:
        """Angle between the light and the viewing axis, in degrees, 0 to 90."""
        x, y, z = self.direction
        return math.degrees(math.atan2(math.hypot(x, y), z))

    @property
    def azimuth_deg(self) -> float:
        """Angle about the viewing axis, counter-clockwise from right as seen, in [−45, 315): zones 1-4 ascend."""
        x, y, _ = self.direction
        return (math.degrees(math.atan2(y, x)) + 45.0) % 360.0 - 45.0

    def vectors(self, xyz: ArrayLike | None = None) -> FloatArray:
        """Light vectors in the viewer frame, whose length is the irradiance on a surface that faces the light.

        Parameters
        ----------
        xyz : (..., 3) array, optional
            Points in mm, camera frame. Without it: the vector at the reference point, (3,).

        Returns
        -------
        (..., 3) float64
            direction · strength for a distant light (read-only); for a near light the unit vector from each point
            towards the source, times strength · (d_ref / d)² (inverse-square law of an isotropic point source).
        """
        if xyz is None:
            return np.asarray(self.direction * self.strength)
        points = points_of("xyz", xyz, 3)
        if self.position_mm is None or self.reference_mm is None:
            return np.broadcast_to(self.direction * self.strength, points.shape)
        towards = (self.position_mm - points) * VIEWER
        squared = np.einsum("...i,...i->...", towards, towards)
        reference = self.position_mm - self.reference_mm
        # unit · (d_ref/d)² = towards · d_ref² / d³
        return np.asarray(towards * (self.strength * (reference @ reference) / squared**1.5)[..., None])


@dataclass(frozen=True)
class LightGeometry:
    """How well a set of lights determines a normal; see :func:`light_geometry`.

    ``condition_number`` of the light matrix (unitless, 1 is best), slant and azimuth of each light in degrees, and
    ``warnings``: one sentence for each figure outside its limit.
    """

    condition_number: float
    slants_deg: tuple[float, ...]
    azimuths_deg: tuple[float, ...]
    warnings: tuple[str, ...]


def light_matrix(lights: Sequence[Light]) -> FloatArray:
    """The (K, 3) light matrix L, viewer frame, rows direction · strength, in the order given (I = L · albedo · n)."""
    return np.array([light.vectors() for light in lights], dtype=np.float64).reshape(-1, 3)


def light_geometry(lights: Sequence[Light]) -> LightGeometry:
    """Judge a set of lights for photometric stereo by the singular values of its light matrix.

    Warns of a condition number above 3 and of slants below 20° or above 70° (35-55° are recommended: flatter light is
    shadowed, steeper light hardly changes with the slope).

    Raises
    ------
    CalibrationError
        ``photometric.too_few_lights``: fewer than 3; ``calibration.light_geometry``: a zone twice;
        ``calibration.lights_coplanar``: lights in one plane (smallest to largest singular value below 1e-3), where no
        normal can be solved.
    """
    zones = [light.zone for light in lights]
    hint = "place at least three lights around the part, evenly spread in azimuth, at slants of 35-55°"
    if len(lights) < 3:
        raise CalibrationError(
            f"{len(lights)} lights; photometric stereo needs at least 3", hint=hint, code="photometric.too_few_lights"
        )
    if len(set(zones)) < len(zones):
        raise CalibrationError(
            f"light zones {zones} name a zone twice; each may stand once", hint=hint, code="calibration.light_geometry"
        )
    singular = np.linalg.svd(light_matrix(lights), compute_uv=False)
    ratio = float(singular[2] / singular[0])
    if not ratio >= MIN_SINGULAR_RATIO:
        raise CalibrationError(
            f"the lights of zones {zones} lie in one plane: smallest/largest singular value of the light matrix "
            f"{ratio:.2g}, needed at least {MIN_SINGULAR_RATIO:g}",
            hint=hint,
            code="calibration.lights_coplanar",
        )
    warnings = []
    if 1 / ratio > MAX_CONDITION_NUMBER:
        warnings.append(
            f"condition number of the light matrix is {1 / ratio:.2f}, above {MAX_CONDITION_NUMBER:g}: normals will be "
            "noisy; spread the lights more evenly and place them at slants of 35-55°"
        )
    low, high = SLANT_LIMITS_DEG
    best = "{:g}-{:g}°".format(*SLANT_RECOMMENDED_DEG)
    for bad, effect in (
        ([x for x in lights if x.slant_deg < low], f"below {low:g}°: it hardly responds to slopes"),
        ([x for x in lights if x.slant_deg > high], f"above {high:g}°: small relief casts long shadows"),
    ):
        if bad:
            named = ", ".join(f"{x.zone} ({x.slant_deg:.1f}°)" for x in bad)
            warnings.append(f"slant of the light in zone {named} is {effect}; best is {best}")
    return LightGeometry(
        1 / ratio, tuple(x.slant_deg for x in lights), tuple(x.azimuth_deg for x in lights), tuple(warnings)
    )
