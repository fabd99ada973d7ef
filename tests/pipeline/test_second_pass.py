"""The second photometric pass on a high surface under near lights, rendered from closed forms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.calibration.flat_field import FlatField, build_flat_field, plane_light_of
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.errors import InputError
from rakelight.pipeline.light_stack import LightStack
from rakelight.pipeline.second_pass import obstacle, second_gloss, second_pass
from rakelight.reconstruction import photometric
from rakelight.reconstruction.lights import Light
from rakelight.reconstruction.models import PinholeCamera, Plane

WIDTH, HEIGHT, TABLE_MM = 200, 150, 200.0
CAMERA = PinholeCamera(WIDTH, HEIGHT, 730.0, 730.0, 99.0, 75.5)
PLANE = Plane(np.array([0.0, 0, -1]), -TABLE_MM)
LIGHTS = tuple(
    Light.near(k + 1, place, (0, 0, TABLE_MM), strength)
    for k, (place, strength) in enumerate(
        (((150, 3, 50), 1.0), ((-4, -148, 52), 0.9), ((-150, 0, 48), 1.1), ((2, 149, 50), 0.95))
    )
)
Float = NDArray[np.float64]


def surface() -> tuple[NDArray[np.float32], Float]:
    """A wavy plateau 15 mm above the table: points in the camera frame, and unit normals in the viewer frame."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    a, b = (u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy
    z = np.full(a.shape, TABLE_MM - 15)
    for _ in range(30):  # the ray meets the surface z = 185 − 0.4 (sin x/2 + cos y/2)
        z = TABLE_MM - 15 - 0.4 * (np.sin(a * z / 2) + np.cos(b * z / 2))
    x, y = a * z, b * z
    n = np.stack([-0.2 * np.cos(x / 2), -0.2 * np.sin(y / 2), np.ones_like(x)], axis=-1)  # y of the viewer points up
    return np.stack([x, y, z], axis=-1).astype(np.float32), n / np.linalg.norm(n, axis=-1, keepdims=True)


def shade(light: Light, xyz: Any, normals: Any) -> Float:
    """DN of a matte surface seen through a lens with vignetting."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    lens = 1 - 0.2 * ((u - 100) ** 2 + (v - 75) ** 2) / 125**2
    return np.asarray(30000 * lens * (light.vectors(xyz) * normals).sum(-1))


def field_of(near: bool) -> FlatField:
    uv = np.stack(np.meshgrid(np.arange(WIDTH * 1.0), np.arange(HEIGHT * 1.0)), axis=-1)
    table = PLANE.intersect(*CAMERA.rays(uv))
    whites = {x.zone: [shade(x, table, [0, 0, 1.0]).astype(np.float32)] for x in LIGHTS}
    towards = {x.zone: plane_light_of(x, PLANE, CAMERA if near else None) for x in LIGHTS}
    return build_flat_field(whites, None, towards, 65535.0)


def rig(field: FlatField | None) -> tuple[LightStack, RigCalibration, NDArray[np.float32], Float]:
    xyz, normals = surface()
    frames = tuple(np.rint(shade(x, xyz, normals)).astype(np.uint16) for x in LIGHTS)
    strengths = np.array([x.strength for x in LIGHTS])
    gains, scales = (None, 1 / strengths) if field is None else (field.gains, field.scales / strengths)
    corrections = photometric.Corrections(None, 1.0, gains, scales.astype(np.float32))
    calibration = RigCalibration(
        "c", "2020-01-01T00:00:00+00:00", True, camera=CAMERA, table_plane=PLANE, lights=LIGHTS, flat_field=field
    )
    return LightStack(frames, LIGHTS, corrections, 65535.0, None, ()), calibration, xyz, normals


def error_deg(result: Any, normals: Float) -> Float:
    return np.asarray(np.degrees(2 * np.arcsin(np.linalg.norm(result.normals - normals, axis=-1) / 2)))


@pytest.mark.parametrize("near", [False, True], ids=["distant field", "near field"])
def test_normals_and_gloss_are_right_on_a_high_part(near: bool) -> None:
    stack, calibration, xyz, normals = rig(field_of(near))
    first = photometric.solve(stack.frames, stack.directions, corrections=stack.corrections, full_scale=65535)
    out = photometric.allocate(HEIGHT, WIDTH)
    result = second_pass(stack, calibration, CAMERA, PLANE, xyz, out=out)
    assert result is out and not result.flags.any()
    assert error_deg(result, normals).max() < 0.02
    assert np.median(error_deg(first, normals)) > 0.5
    np.testing.assert_allclose(result.albedo, 1.0, atol=1e-3)  # relative to the white plane
    gloss = second_gloss(stack, calibration, CAMERA, PLANE, xyz)
    assert gloss is not None and gloss.max() < 1e-3


def test_without_a_flat_field_the_fall_off_is_undone_all_the_same() -> None:
    stack, calibration, xyz, normals = rig(None)
    result = second_pass(stack, calibration, CAMERA, PLANE, xyz)
    assert result is not None and error_deg(result, normals).max() < 0.02  # vignetting does not turn a normal


def test_holes_are_solved_with_the_surface_nearby() -> None:
    stack, calibration, xyz, normals = rig(field_of(False))
    holed = xyz.copy()
    holed[60:70, 90:110] = np.nan
    holed[::7, ::5] = np.nan
    before = holed.copy()
    result = second_pass(stack, calibration, CAMERA, PLANE, holed)
    np.testing.assert_array_equal(holed, before)
    assert result is not None and result.solved.all()
    error = error_deg(result, normals)
    assert error[np.isfinite(holed[..., 2])].max() < 0.02 and error.max() < 0.5
    nothing = second_pass(stack, calibration, CAMERA, PLANE, np.full_like(xyz, np.nan))
    assert nothing is not None and error_deg(nothing, normals).max() > 0.8  # over the table: 15 mm too low


def test_lights_without_positions_give_a_reason() -> None:
    stack, calibration, xyz, _ = rig(None)
    assert obstacle(stack) is None
    lights = (*LIGHTS[:2], *(Light(x.zone, x.direction, x.strength) for x in LIGHTS[2:]))
    distant = replace(stack, lights=lights)
    assert second_pass(distant, calibration, CAMERA, PLANE, xyz) is None
    assert second_gloss(distant, calibration, CAMERA, PLANE, xyz) is None
    reason = obstacle(distant)
    assert reason is not None and "zones 3, 4" in reason and "position" in reason
    assert "of zone 3 has" in str(obstacle(replace(stack, lights=(lights[2], *LIGHTS[1:2], *LIGHTS[3:]))))


def test_sizes_that_do_not_fit_are_refused() -> None:
    stack, calibration, xyz, _ = rig(None)
    with pytest.raises(InputError, match="xyz"):
        second_pass(stack, calibration, CAMERA, PLANE, xyz[:-1])
    with pytest.raises(InputError, match="200×150"):
        second_pass(stack, calibration, CAMERA.window(0, 0, 100, 75, 2), PLANE, xyz)
