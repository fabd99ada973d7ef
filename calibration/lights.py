"""Lights from mirror spheres: directions, near-source positions, strengths.

One sphere gives the direction of each light; the mean over several is steadier. Two or more spheres apart see a near
light in different directions, and their rays meet at its source. White planes tell distances and strengths far better
(:mod:`rakelight.calibration.plane_lights`); with a camera, all is solved in one fit, and the one checked by the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rakelight.arrays import check_array, check_same_shape
from rakelight.calibration.joint_lights import JointLights, fit_joint_lights, sphere_rays, start_positions
from rakelight.calibration.near_sources import (
    MIN_SIGNIFICANCE,
    NearSource,
    angles_deg,
    fit_near_source,
    near_source_position,
)
from rakelight.calibration.outlines import Circle
from rakelight.calibration.plane_samples import PlaneSamples
from rakelight.calibration.sphere_frames import Frames, SphereFrames, check_order, iterate, observe
from rakelight.calibration.spheres import Highlight, Reflection
from rakelight.calibration.strengths import StrengthFit, estimate_strengths
from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.levels import SATURATION
from rakelight.reconstruction.models import Camera, Light, PinholeCamera, Plane, light_geometry

__all__ = [
    "LightCalibration",
    "NearSource",
    "SphereFrames",
    "StrengthFit",
    "calibrate_lights",
    "estimate_strengths",
    "mean_direction",
    "near_source_position",
    "object_strengths",
]

FloatArray = NDArray[np.float64]

MAX_SPREAD_DEG = 1.0
"""A warning is given where the spheres see a light in directions that differ by more (after the near-light fit)."""
_OBJECT_PIXELS = 200_000
SHADOW_FRACTION = 0.08  # of the 99th percentile of a part's samples


@dataclass(frozen=True, eq=False)
class LightCalibration:
    """Result of :func:`calibrate_lights`; all pixels are of the full frame.

    Attributes
    ----------
    lights : tuple of Light
        One a zone. With positions where these are known in mm in the camera frame.
    circles : tuple of Circle
        One a sphere.
    highlights : tuple of tuple of Highlight
        [sphere][zone].
    directions : (S, K, 3) float64
        Unit directions by sphere and zone, viewer frame.
    spreads_deg : (K,) float64
        Largest angle between the directions of two spheres; zero with one sphere.
    near : tuple of NearSource
        One a zone; not every one is ``determined``. Empty with one sphere.
    strength : StrengthFit or None
        None when no images of a part were given.
    joint : JointLights or None
        The fit of all rays and white planes together; None without a camera, or where nothing told the distances.
    warnings : tuple of str
    """

    lights: tuple[Light, ...]
    circles: tuple[Circle, ...]
    highlights: tuple[tuple[Highlight, ...], ...]
    directions: FloatArray
    spreads_deg: FloatArray
    near: tuple[NearSource, ...]
    strength: StrengthFit | None
    joint: JointLights | None
    warnings: tuple[str, ...]


def mean_direction(directions: ArrayLike) -> tuple[FloatArray, float]:
    """Normalised mean (3,) of unit directions (S, 3), and the largest angle between two of them in degrees."""
    d = check_array("directions", directions, shape=(None, 3), finite=True).astype(np.float64)
    total = d.sum(axis=0)
    length = float(np.linalg.norm(total))
    if not length > 1e-9:
        raise InputError(f"{len(d)} directions have no mean (length of their sum {length:.2g})")
    return total / length, float(angles_deg(d[:, None], d[None, :]).max())


def calibrate_lights(
    spheres: Sequence[SphereFrames],
    *,
    camera: Camera | None = None,
    table: Plane | None = None,
    white: Sequence[PlaneSamples] = (),
    saturation: float | None = None,
    zones: Sequence[int] | None = None,
    object_frames: Frames | None = None,
    object_saturation: float | None = None,
    shadow: float | None = None,
) -> LightCalibration:
    """Calibrate all lights from recordings of mirror spheres and, optionally, of a matte curved part.

    Frames are read one at a time; memory does not grow with their number.

    Parameters
    ----------
    spheres : sequence of SphereFrames
        One or more; two or more, well apart, for positions. Several spheres in one picture: give each the same frames
        and its circle from :func:`rakelight.calibration.spheres.find_spheres`.
    camera : optional
        Of the full frame. Without it: orthographic. A light at about the camera's distance then looks distant, since
        the neglected angle of the viewing rays cancels its own; directions err by that angle.
    table : Plane, optional
        On which the spheres lie; gives them their depth, and a check of their diameter.
    white : sequence of PlaneSamples, optional
        White planes under the same zones, from :func:`rakelight.calibration.plane_lights.sample_plane`. With a camera and
        spheres of known diameter they give positions and strengths, which then hold at the middle of the first plane.
    saturation : float, optional
        DN, of the spheres that do not give their own; default as in :func:`find_highlight`.
    zones : sequence of int, optional
        Default 1 to K.
    object_frames : optional
        One dark-corrected linear frame a zone, of a matte curved part, for the strengths.
    object_saturation : float, optional
        DN from which a sample of the part is saturated; default 98 % of the range of an integer dtype.
    shadow : float, optional
        Samples of the part at or below this many DN are ignored. Default: 8 % of the 99th percentile.

    Raises
    ------
    CalibrationError
        As :func:`find_sphere`, :func:`find_highlight`, :func:`reflect_highlight`, :func:`estimate_strengths`; the
        message names sphere and zone. ``calibration.sphere_out_of_view``; ``calibration.zones_swapped`` where two
        recordings see the zones in different order; with ``white`` also as :func:`fit_joint_lights`.
    InputError
        No spheres, differing numbers of frames, frames that cannot be read twice.
    """
    if not spheres:
        raise InputError("no spheres given; at least 1 is needed")
    warnings: list[str] = []
    circles, highlights, reflections = observe(spheres, camera, table, saturation, zones, warnings)
    counts = [len(row) for row in highlights]
    zones = tuple(range(1, counts[0] + 1)) if zones is None else tuple(zones)
    if len({*counts, len(zones)}) != 1:
        raise InputError(f"spheres have {counts} frames for {len(zones)} zones; each needs one frame a zone")
    warnings += [
        f"{spheres[s].called(s + 1)}, zone {zone}: {h.warning}"
        for s, row in enumerate(highlights)
        for zone, h in zip(zones, row, strict=True)
        if h.warning
    ]
    directions = np.array([[r.direction for r in row] for row in reflections])
    check_order(directions, zones)
    means, spreads = zip(*(mean_direction(directions[:, k]) for k in range(len(zones))), strict=True)
    near = _near_sources(circles, highlights, reflections, spheres, warnings) if len(spheres) > 1 else ()
    joint = _joint(circles, highlights, reflections, near, camera, table, white, zones, warnings)
    middle = np.mean([r.point for row in reflections for r in row], axis=0)
    if joint is not None and near:
        near = joint.sources(near, middle)
    _judge_spreads(zones, spreads, near, warnings)
    strength = None
    if object_frames is not None:
        strength = object_strengths(object_frames, np.array(means), saturation=object_saturation, shadow=shadow)
    lights = tuple(
        Light(zone, means[k], 1.0 if strength is None else float(strength.strengths[k])) for k, zone in enumerate(zones)
    )
    if joint is not None and joint.powers is not None:
        lights = _lights_at(white[0].points.mean(axis=0), joint.positions, joint.powers, zones)
    elif near and (isinstance(camera, PinholeCamera) or (camera is not None and table is not None)):
        centre = np.mean([row[0].centre for row in reflections], axis=0)
        lights = tuple(_with_position(light, near[k], centre, warnings) for k, light in enumerate(lights))
    if len(lights) >= 3:
        warnings.extend(light_geometry(lights).warnings)
    return LightCalibration(
        lights, tuple(circles), tuple(highlights), directions, np.array(spreads), near, strength, joint, tuple(warnings)
    )


def _joint(
    circles: list[Circle],
    highlights: list[tuple[Highlight, ...]],
    reflections: list[list[Reflection]],
    near: tuple[NearSource, ...],
    camera: Camera | None,
    table: Plane | None,
    white: Sequence[PlaneSamples],
    zones: Sequence[int],
    warnings: list[str],
) -> JointLights | None:
    """The fit of all that is known in mm; None where that does not tell distances."""
    if camera is None or reflections[0][0].unit != "mm":
        if white:
            warnings.append(
                "the white planes tell no positions: the camera or the diameter of the spheres is not known"
            )
        return None
    if not white and not (near and all(source.determined for source in near)):
        return None
    seen = [
        sphere_rays(circle, row, camera, found[0].centre, found[0].radius, table)
        for circle, row, found in zip(circles, highlights, reflections, strict=True)
    ]
    if near and all(source.determined for source in near):
        start = np.array([source.position for source in near])
    else:
        rays = np.array([[r.direction for r in row] for row in reflections]).mean(axis=0)
        start = start_positions(np.mean([r.point for row in reflections for r in row], axis=0), rays, white)
    try:
        joint = fit_joint_lights(seen, white, start, zones)
    except CalibrationError as error:
        if error.code != "calibration.plane_not_flat":
            raise
        names = ", ".join(samples.name for samples in white if samples.name)
        warnings.append(
            f"white plane{f' {names}' * bool(names)}: not used for the positions of the lights, and a flat field made of it is "
            f"wrong where it is not flat: {error.message}"
        )
        return _joint(circles, highlights, reflections, near, camera, table, (), zones, warnings)
    warnings += joint.warnings
    return joint


def _lights_at(
    reference: FloatArray, positions: FloatArray, powers: FloatArray, zones: Sequence[int]
) -> tuple[Light, ...]:
    """Near lights whose strengths, of mean 1, hold at a point (3,) in mm."""
    strengths = powers / np.sum((positions - reference) ** 2, axis=1)
    strengths = strengths / strengths.mean()
    return tuple(
        Light.near(zone, p, reference, float(s)) for zone, p, s in zip(zones, positions, strengths, strict=True)
    )


def _near_sources(
    circles: list[Circle],
    highlights: list[tuple[Highlight, ...]],
    reflections: list[list[Reflection]],
    spheres: Sequence[SphereFrames],
    warnings: list[str],
) -> tuple[NearSource, ...]:
    """Position of each light; lengths in mm where the reflections have them, else in radii of the (equal) spheres."""
    scale, unit = 1.0, "mm"
    if reflections[0][0].unit != "mm":
        unit = "sphere radii"
        if reflections[0][0].unit == "px":
            scale = 1.0 / float(np.mean([row[0].radius for row in reflections]))
        diameters = {sphere.diameter_mm for sphere in spheres}
        if len(diameters) > 1:
            warnings.append("spheres of different diameters without a camera: positions of lights are not reliable")
    near: list[NearSource] = []
    for k in range(len(reflections[0])):
        points = np.array([row[k].point for row in reflections]) * scale
        rays = np.array([row[k].direction for row in reflections])
        # the mirror doubles the angle by which a normal turns, and a normal turns by px / (r·cos θ); n·v = cos of half l·v
        sigma_px = [
            np.hypot(row[k].sigma_px, max(c.residual_px / 10, 0.05)) for row, c in zip(highlights, circles, strict=True)
        ]
        radius_px = np.array([c.radius for c in circles]) * np.sqrt(np.maximum(0.5 * (1.0 + rays[:, 2]), 0.05))
        near.append(fit_near_source(points, rays, unit, sigma_deg=np.degrees(2.0 * np.array(sigma_px) / radius_px)))
    return tuple(near)


def _judge_spreads(
    zones: Sequence[int], spreads: Sequence[float], near: tuple[NearSource, ...], warnings: list[str]
) -> None:
    for k, zone in enumerate(zones):
        fitted = bool(near) and near[k].determined
        left = 2.0 * near[k].residual_deg if fitted else spreads[k]  # two rays lie on either side of the fit
        if left > MAX_SPREAD_DEG:
            model = "after the fit of a near source" if fitted else "as a distant light"
            warnings.append(
                f"zone {zone}: the spheres disagree by {left:.2f}° {model}; at most {MAX_SPREAD_DEG:g}° is expected: "
                "check circles, highlights and camera"
            )


def _with_position(light: Light, source: NearSource, reference: FloatArray, warnings: list[str]) -> Light:
    """The light with its position in mm, where one is known that agrees with its direction."""
    if source.unit != "mm" or not source.determined:
        why = "the diameters of the spheres are not given"
        if source.unit == "mm":
            why = (
                f"the rays from the spheres differ by {source.ray_angle_deg:.2f}° and converge by "
                f"{source.significance:.1f} standard deviations; at least {MIN_SIGNIFICANCE:g} tell a position"
            )
        warnings.append(f"zone {light.zone} is taken as distant: {why}")
        return light
    near = Light.near(light.zone, source.position, reference, light.strength)
    off = float(angles_deg(near.direction, light.direction))
    if off > MAX_SPREAD_DEG:
        warnings.append(
            f"zone {light.zone} is taken as distant: its fitted position lies {off:.2f}° off its mean direction; "
            f"at most {MAX_SPREAD_DEG:g}° is allowed"
        )
        return light
    return near


def object_strengths(
    frames: Frames, directions: FloatArray, *, saturation: float | None = None, shadow: float | None = None
) -> StrengthFit:
    """Strengths of lights of known (K, 3) ``directions`` from images of a part, thinned to a grid while they are read.

    Parameters as ``object_frames``, ``object_saturation`` and ``shadow`` of :func:`calibrate_lights`; raises as
    :func:`estimate_strengths`.
    """
    rows: list[NDArray[Any]] = []
    for frame in iterate(frames, "images of the part"):
        grey = check_array("image of the part", frame, ndim=2, finite=True)
        # odd, so that every photosite of a Bayer cell is met
        stride = max(1, round(float(np.sqrt(grey.size / _OBJECT_PIXELS)))) | 1
        rows.append(grey[::stride, ::stride].ravel())
    if len(rows) != len(directions):
        raise InputError(f"{len(rows)} images of the part for {len(directions)} lights; one a light is needed")
    check_same_shape("images of the part", rows)
    samples = np.array(rows)
    if shadow is None:
        shadow = SHADOW_FRACTION * float(np.percentile(samples, 99.0))
    if saturation is None:
        saturation = SATURATION * np.iinfo(samples.dtype).max if np.issubdtype(samples.dtype, np.integer) else np.inf
    return estimate_strengths(samples, directions, shadow=shadow, saturation=saturation)
