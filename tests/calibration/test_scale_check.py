"""Balls on the table against the scale of the board."""

from __future__ import annotations

import numpy as np
import pytest

from rakelight.calibration.outlines import Circle
from rakelight.calibration.scale_check import WARN_RATIO, check_scale, touching_diameter_mm
from rakelight.errors import CalibrationError
from rakelight.reconstruction.models import AffineCamera, Camera, PinholeCamera, Plane

CAMERA = PinholeCamera(1368, 912, 5000.0, 5000.0, 683.5, 455.5, (-0.05, 0.02, 1e-4, -2e-4, 0.0))
TELECENTRIC = AffineCamera.orthographic(1368, 912, 0.04)
TABLE = Plane(np.array([0.02, -0.01, -1.0]) / np.linalg.norm([0.02, -0.01, -1.0]), -200.0)
PLACES = ((-15.0, 8.0), (0.0, 0.0), (14.0, -9.0))


def ball(x_mm: float, y_mm: float, diameter_mm: float, camera: Camera = CAMERA) -> Circle:
    """Outline of a ball that lies on the table over a point near (x, y)."""
    radius = diameter_mm / 2
    foot = TABLE.intersect(np.array([x_mm, y_mm, 0.0]), np.array([0.0, 0.0, 1.0]))
    centre = foot + radius * TABLE.normal
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    if isinstance(camera, AffineCamera):
        rim = centre + radius * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    else:  # where the rays from the origin touch
        away = float(np.linalg.norm(centre))
        axis = centre / away
        side = np.cross(axis, [0.0, 1.0, 0.0])
        side /= np.linalg.norm(side)
        up = np.cross(axis, side)
        around = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * up
        sine = radius / away
        rim = centre - radius * sine * axis + radius * np.sqrt(1 - sine**2) * around
    uv = camera.project(rim)
    middle = uv.mean(axis=0)
    size = float(np.linalg.norm(uv - middle, axis=1).mean())
    return Circle(float(middle[0]), float(middle[1]), size, rim=uv)


@pytest.mark.parametrize("camera", [CAMERA, TELECENTRIC])
def test_a_ball_is_measured_by_its_outline(camera: Camera) -> None:
    for (x, y), diameter in zip(PLACES, (6.0, 10.0, 15.0), strict=True):
        found = touching_diameter_mm(ball(x, y, diameter, camera), camera, TABLE)
        assert found == pytest.approx(diameter, rel=1e-4)


def test_a_board_declared_too_large_shows_in_the_balls() -> None:
    circles = [ball(x, y, 10.0) for x, y in PLACES]
    agreed = check_scale(circles, [10.0] * 3, CAMERA, TABLE)
    assert agreed.ratio == pytest.approx(1.0, abs=1e-4) and agreed.warning == ""
    larger = Plane(TABLE.normal, TABLE.offset_mm * 1.02)  # all that the board tells is 2 % larger
    off = check_scale(circles, [10.0] * 3, CAMERA, larger)
    assert off.ratio == pytest.approx(1.02, abs=2e-4)
    assert "scale contradiction" in off.warning and "+2.0" in off.warning
    assert off.to_plain()["ratio"] == pytest.approx(off.ratio, abs=1e-5)


def test_one_ball_declared_wrongly_does_not_speak_for_the_board() -> None:
    circles = [ball(x, y, 10.0) for x, y in PLACES]
    found = check_scale(circles, [10.0, 10.0, 12.0], CAMERA, TABLE)
    assert found.ratio == pytest.approx(1.0, abs=1e-4) and found.warning == ""


def test_small_balls_are_not_trusted_beyond_their_outline() -> None:
    small = [ball(x, y, 0.8) for x, y in PLACES]  # 10 px: a tenth of a pixel is 1 %
    larger = Plane(TABLE.normal, TABLE.offset_mm * (1 + 2 * WARN_RATIO))
    assert check_scale(small, [0.8] * 3, CAMERA, larger).warning == ""


def test_no_ball_lies_on_a_table_behind_the_camera() -> None:
    with pytest.raises(CalibrationError) as caught:
        touching_diameter_mm(ball(0.0, 0.0, 10.0), CAMERA, Plane(TABLE.normal, -TABLE.offset_mm))
    assert caught.value.code == "calibration.sphere_outline"
