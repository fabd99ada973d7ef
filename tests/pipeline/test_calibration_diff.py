"""What changed between two calibrations: figures against changes that are known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from rakelight.calibration.flat_field import build_flat_field
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.cli.calibrate import calibrate
from rakelight.pipeline.calibration_diff import CalibrationDiff, compare
from rakelight.reconstruction.models import AffineCamera, Light, PinholeCamera, Plane, Projector

TABLE = Plane(np.array([0.0, 0.0, -1.0]), -200.0)
CAMERA = PinholeCamera(684, 456, 2500.0, 2500.0, 340.0, 229.0, (-0.05, 0.01, 0.0, 0.001, 0.0))
SLANT = math.radians(30)


def projector(direction: int) -> Projector:
    """At 30° and 210 mm from the table's middle, its columns across the plane of triangulation."""
    azimuth = math.radians(90 * (direction - 1))
    away = np.array([math.cos(azimuth), -math.sin(azimuth), 0.0])
    towards = math.sin(SLANT) * away + math.cos(SLANT) * np.array([0, 0, -1.0])
    z = -towards
    x = math.cos(SLANT) * away - math.sin(SLANT) * np.array([0, 0, -1.0])
    rotation = np.stack([x, np.cross(z, x), z])
    centre = np.array([0, 0, 200.0]) + 210 * towards
    return Projector(direction, 912, 1140, 3000, 3000, 455, 570, (0.02, 0, 0, 0, 0), rotation, -rotation @ centre)


def rig(**changes: object) -> RigCalibration:
    lights = tuple(
        Light.near(k, [*(150 * np.array([math.cos(k), math.sin(k)])), 50.0], [0, 0, 200.0]) for k in range(1, 5)
    )
    rng = np.random.default_rng(3)
    whites = {k: [rng.integers(1900, 2100, (456, 684)).astype(np.uint16)] for k in (1, 2, 3, 4)}
    values = {
        "camera": CAMERA,
        "table_plane": TABLE,
        "lights": lights,
        "flat_field": build_flat_field(whites, None, dict.fromkeys((1, 2, 3, 4), 0.7), 4095),
        "projectors": tuple(projector(k) for k in (1, 2, 3, 4)),
    }
    return RigCalibration("a", "2025-03-01T08:15:30+00:00", True, **(values | changes))  # type: ignore[arg-type]


A = rig()


def moved(number: int, along: int, by_mm: float = 0.1) -> CalibrationDiff:
    """The rig with projector ``number`` moved along an axis (0 columns, 1 rows) of its own frame."""
    p = A.projectors[number]
    away = replace(p, translation_mm=p.translation_mm - by_mm * np.eye(3)[along])
    others = tuple(away if q is p else q for q in A.projectors)
    return compare(A, rig(projectors=others))


def test_a_calibration_does_not_differ_from_itself() -> None:
    found = compare(A, rig())
    assert found.identical and found.missing == found.notes == ()
    assert found.camera is not None and found.table is not None
    assert found.camera.pixels_max_px == pytest.approx(0, abs=1e-6) and found.camera.note == ""
    assert (found.table.tilt_deg, found.table.height_um) == pytest.approx((0, 0), abs=1e-9)
    assert [x.angle_deg for x in found.lights] == [0] * 4 and [x.median_percent for x in found.flat_field] == [0] * 4
    for change in found.projectors:
        assert change.heights is not None and change.heights.points > 300
        assert (change.moved_mm, change.turned_deg, change.heights.max_um, change.heights.step_um) == (0, 0, 0, 0)


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_projector_moved_by_a_tenth_of_a_millimetre(number: int) -> None:
    """Across its axis at 30°: 0.1/cos 30° on the table, which 1/tan 30° makes 200 µm of height in the middle."""
    found = moved(number, 0)
    assert not found.identical
    for k, change in enumerate(found.projectors):
        assert change.heights is not None
        if k != number:
            assert change.heights.max_um == 0
            continue
        assert change.moved_mm == pytest.approx(0.1, abs=1e-9) and change.turned_deg == pytest.approx(0, abs=1e-9)
        assert abs(change.heights.mean_um) == pytest.approx(200, rel=0.02)
        assert change.heights.max_um >= change.heights.rms_um >= abs(change.heights.mean_um) - 1e-9


def test_a_move_along_the_rows_does_no_harm() -> None:
    """Columns are decoded, and they run along the rows' axis."""
    change = moved(0, 1).projectors[0]
    assert change.moved_mm == pytest.approx(0.1) and change.heights is not None and change.heights.max_um < 1.0


def test_height_change_against_rays_and_planes() -> None:
    """By crossing a ray with a plane of light in double precision (no distortion)."""
    plain = replace(CAMERA, distortion=(0.0,) * 5)
    first = replace(projector(1), distortion=(0.0,) * 5)
    second = replace(first, translation_mm=first.translation_mm + np.array([0.03, 0.02, -0.05]), fx=3001.0)
    pair = [rig(camera=plain, projectors=(p,)) for p in (first, second)]
    found = compare(*pair).projectors[0].heights
    assert found is not None and found.points == 17 * 25
    changes = []
    for v in np.linspace(0, 455, 17):
        for u in np.linspace(0, 683, 25):
            point = TABLE.intersect(*plain.rays([u, v]))
            column = first.project(point)[0]
            normal = second.rotation.T @ np.array([second.fx, 0.0, second.cx - column])
            ray = plain.rays([u, v])[1]
            distance = normal @ second.centre_mm / (normal @ ray)
            changes.append(1e3 * (200.0 - distance * ray[2]))
    assert found.mean_um == pytest.approx(np.mean(changes), abs=0.02)
    assert found.max_um == pytest.approx(np.abs(changes).max(), abs=0.05)
    assert found.rms_um == pytest.approx(np.sqrt(np.mean(np.square(changes))), abs=0.02)


def test_camera_table_and_lights() -> None:
    lights = list(A.lights)
    lights[1] = Light(2, np.array([0.0, math.sin(0.01), math.cos(0.01)]), 1.0)
    other = rig(
        camera=replace(CAMERA, fx=2500.25, fy=2500.25, cx=341.0),
        table_plane=Plane(np.array([0.0, -math.sin(0.001), -math.cos(0.001)]), -199.9 * math.cos(0.001)),
        lights=(lights[0], replace(lights[1], direction=A.lights[1].direction, strength=1.05), *lights[2:]),
    )
    found = compare(A, other)
    assert found.camera is not None and found.table is not None
    assert found.camera.focal_percent == pytest.approx((0.01, 0.01)) and found.camera.centre_px == pytest.approx((1, 0))
    assert found.camera.scale_ppm == pytest.approx(100, abs=2)
    assert found.camera.pixels_rms_px == pytest.approx(1.0, abs=0.01)
    assert found.table.tilt_deg == pytest.approx(math.degrees(0.001), rel=1e-6)
    assert found.table.height_um == pytest.approx(100, abs=2)  # the image's middle is not quite the optical axis
    assert [x.strength_percent for x in found.lights] == pytest.approx([0, 5, 0, 0])
    assert found.lights[1].moved_mm is None and found.lights[0].moved_mm == 0
    assert compare(A, rig(lights=(replace(A.lights[0]), *lights[1:]))).lights[1].angle_deg > 10


def test_step_height_tells_a_change_of_scale() -> None:
    """Everything a thousandth larger: a step of 10 mm measures 10 µm more."""
    larger = tuple(replace(p, translation_mm=p.translation_mm * 1.001) for p in A.projectors)
    found = compare(A, rig(projectors=larger, table_plane=Plane(TABLE.normal, -200.2)))
    for change in found.projectors:
        assert change.heights is not None
        assert change.heights.step_um == pytest.approx(10, abs=0.05) and change.heights.max_um < 0.1


def test_gains_of_one_zone() -> None:
    rng = np.random.default_rng(3)
    whites = {k: [rng.integers(1900, 2100, (456, 684)).astype(np.uint16)] for k in (1, 2, 3, 4)}
    whites[3] = [np.rint(whites[3][0] / 1.1).astype(np.uint16)]
    found = compare(A, rig(flat_field=build_flat_field(whites, None, dict.fromkeys((1, 2, 3, 4), 0.7), 4095)))
    assert [x.median_percent for x in found.flat_field] == pytest.approx([0, 0, 10, 0], abs=0.05)
    assert found.flat_field[2].spread_percent < 0.1


def test_what_cannot_be_compared_is_said() -> None:
    found = compare(A, rig(camera=None, flat_field=None, projectors=A.projectors[:3], lights=A.lights[1:]))
    assert found.missing == (
        "camera: only in A",
        "flat field: only in A",
        "light of zone 1: only in A",
        "projector of direction 4: only in A",
    )
    assert found.camera is None and [p.heights for p in found.projectors] == [None] * 3
    assert len(found.notes) == 3 and "camera and table plane are needed" in found.notes[0]
    small = compare(A, rig(camera=replace(CAMERA, width=600), flat_field=None))
    assert small.camera is not None and "684×456 and 600×456" in small.camera.note
    assert "differ in size" in small.notes[0] and small.projectors[0].heights is None
    bare = rig(camera=None, table_plane=None, lights=(), flat_field=None, projectors=())
    assert compare(bare, bare).identical
    json.dumps(compare(bare, A).to_plain(), allow_nan=False)


def test_affine_cameras() -> None:
    affine = AffineCamera.orthographic(684, 456, 0.08)
    a, b = rig(camera=affine), rig(camera=AffineCamera(684, 456, affine.matrix * 1.001, affine.offset))
    found = compare(a, b)
    assert found.camera is not None and found.camera.focal_percent is None
    assert found.camera.scale_ppm == pytest.approx(1000, abs=5)
    assert found.projectors[0].heights is not None and found.projectors[0].heights.max_um > 5
    assert compare(A, a).camera is not None


def test_command(tmp_path: Path) -> None:
    a, b = (
        A.save(tmp_path / "a"),
        rig(projectors=A.projectors[:1], camera=replace(CAMERA, fx=2501.0)).save(tmp_path / "b"),
    )
    done = CliRunner().invoke(calibrate, ["diff", str(a), str(b), "--json"])
    plain = json.loads(done.stdout)
    assert done.exit_code == 0 and plain == json.loads(json.dumps(compare(A, RigCalibration.load(b)).to_plain()))
    text = CliRunner().invoke(calibrate, ["diff", str(a), str(b)])
    assert text.exit_code == 0 and "+0.0400, +0.0000 %" in text.stdout and "height: mean µm" in text.stdout
    assert "projector of direction 2: only in A" in text.stderr
    same = CliRunner().invoke(calibrate, ["diff", str(a), str(a)])
    assert same.exit_code == 0 and "the same calibration" in same.stdout
