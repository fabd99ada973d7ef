"""The second photometric pass: normals and gloss with light vectors that start on the measured surface.

The first pass knows no depth: it takes lights as distant, or as near lights over the table plane. A part 15 mm high is then
lit, 210 mm from its lamps, from directions that are wrong by up to 3° and with a fall-off that is wrong by 10 %. With the
surface of structured light every pixel gets its own light vectors and fall-off, and a flat field made for distant lights
is carried over to near ones (:mod:`rakelight.reconstruction.near_gains`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.errors import InputError
from rakelight.pipeline.light_stack import LightStack
from rakelight.reconstruction import photometric, pseudo3d
from rakelight.reconstruction.light_points import coarse_depth, light_points
from rakelight.reconstruction.models import Camera, Plane
from rakelight.reconstruction.near_gains import near_gains, rays_of
from rakelight.reconstruction.photometric import Corrections, PhotometricResult

__all__ = ["obstacle", "second_gloss", "second_pass"]

_TILE_ROWS = 64  # points and gains exist for so many rows at a time, so that memory stays flat


def obstacle(stack: LightStack) -> str | None:
    """Why there can be no second pass, in words for a report; None if there can be one."""
    missing = [light.zone for light in stack.lights if light.position_mm is None]
    if not missing:
        return None
    zones = f"zone {missing[0]} has" if len(missing) == 1 else f"zones {', '.join(map(str, missing))} have"
    return f"no second photometric pass: the light calibration of {zones} a direction but no position"


def second_pass(
    stack: LightStack,
    calibration: RigCalibration,
    camera: Camera,
    plane: Plane,
    xyz: NDArray[np.float32],
    *,
    out: PhotometricResult | None = None,
) -> PhotometricResult | None:
    """Normals and albedo of ``stack`` over the measured surface; None where :func:`obstacle` gives a reason.

    Parameters
    ----------
    stack : LightStack
        As ``load_light_stack`` made it from ``calibration``.
    calibration : RigCalibration
        Says which light model the flat field was made for.
    camera : Camera
        Of the frames (``light_stack.frame_camera``).
    plane : Plane
        The table.
    xyz : (H, W, 3) float32
        The measured surface, mm, camera frame; NaN = not measured: there light vectors come from the surface nearby, or the
        table, and the normal is solved all the same.
    out : PhotometricResult, optional
        Memory to reuse; that of the first pass may be given.

    Raises
    ------
    InputError
        ``xyz`` or camera do not have the frames' size.
    CalibrationError
        As ``photometric.solve_near``.
    """
    if obstacle(stack) is not None:
        return None
    if out is None:
        out = photometric.allocate(*stack.frames[0].shape)
    for rows, frames, near in _tiles(stack, calibration, camera, plane, xyz):
        photometric.solve_near(frames, **near, full_scale=stack.full_scale, out=out.rows(rows.start, rows.stop))
    return out


def second_gloss(
    stack: LightStack, calibration: RigCalibration, camera: Camera, plane: Plane, xyz: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """The gloss map (H, W) float32 under the same model; None where :func:`obstacle` gives a reason.

    Arguments and errors as for :func:`second_pass`; also ``gloss.no_redundancy`` for fewer than four zones.
    """
    if obstacle(stack) is not None:
        return None
    out = np.empty(stack.frames[0].shape, np.float32)
    for rows, frames, near in _tiles(stack, calibration, camera, plane, xyz):
        out[rows] = pseudo3d.gloss_near(frames, **near)
    return out


def _tiles(
    stack: LightStack, calibration: RigCalibration, camera: Camera, plane: Plane, xyz: NDArray[np.float32]
) -> Iterator[tuple[slice, list[NDArray[Any]], dict[str, Any]]]:
    """Tiles of rows with the arguments that near-light functions share; each is valid until the next is asked for."""
    height, width = stack.frames[0].shape
    if (camera.width, camera.height) != (width, height):
        raise InputError(
            f"the camera has {camera.width}×{camera.height} px, the frames have {width}×{height}",
            hint="give the camera of the frames' window and binning (light_stack.frame_camera)",
            code="input.shape",
        )
    xyz = check_array("xyz", xyz, shape=(height, width, 3), dtypes=("float32",))
    coarse = coarse_depth(xyz, plane, rays_of(camera))
    c, field = stack.corrections, calibration.flat_field
    distant = c.gains is not None and field is not None and field.light_model == "distant"
    table = calibration.table_plane or plane  # what the flat field's light was reckoned against
    shared = {
        "positions_mm": np.array([light.position_mm for light in stack.lights]),
        "reference_mm": np.array([light.reference_mm for light in stack.lights]),
    }
    points = np.empty((_TILE_ROWS, width, 3), np.float32)
    work = np.empty(len(stack.lights) * _TILE_ROWS * width if distant else 0, np.float32)
    for first in range(0, height, _TILE_ROWS):
        rows = slice(first, min(first + _TILE_ROWS, height))
        count = rows.stop - first
        rays = rays_of(camera, rows)
        dark = None if c.dark is None else c.dark[rows]
        gains = None if c.gains is None else c.gains[:, rows]
        if distant and gains is not None:
            space = work[: len(stack.lights) * count * width].reshape(-1, count, width)
            gains = near_gains(gains, stack.lights, table, rays, out=space)
        yield (
            rows,
            [frame[rows] for frame in stack.frames],
            {
                **shared,
                "xyz": light_points(xyz[rows], coarse, plane, rays, out=points[:count]),
                "corrections": Corrections(dark, c.dark_scale, gains, c.gain_scales),
            },
        )
