"""What changed between two calibrations of a rig, in the terms in which it matters: degrees, µm, per cent.

The heights are the sum of all that changed in camera, projectors and table: points of the table (and of a plane above it)
are put where calibration A has them, the projector coordinates that A's rig would decode there are taken, and both
calibrations triangulate these. What differs is what every measured height changes by when B takes A's place.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.colour import Colour
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.errors import InputError
from rakelight.reconstruction.models import Camera, Light, PinholeCamera, Plane, Projector
from rakelight.reconstruction.triangulation import AXES, depth_on_rays

FloatArray = NDArray[np.float64]

GRID = (17, 25)
"""Rows and columns of the grid of pixels at which the effect on heights is told."""
STEP_MM = 10.0
"""Height of the step by which a change of scale along z is told."""
_GAIN_PIXELS = 200_000  # of a map are compared


@dataclass(frozen=True)
class CameraChange:
    """Camera B against camera A.

    ``focal_percent`` (x, y), ``centre_px`` (x, y) are None where one of the two is affine; ``pixels_rms_px`` and
    ``pixels_max_px`` say how far A's field on the table moves in the image, ``scale_ppm`` how much larger or smaller it is
    seen (None without a table plane); ``note`` tells why figures are missing.
    """

    focal_percent: tuple[float, float] | None
    centre_px: tuple[float, float] | None
    pixels_rms_px: float | None
    pixels_max_px: float | None
    scale_ppm: float | None
    note: str = ""


@dataclass(frozen=True)
class TableChange:
    """Tilt of the table plane in degrees, and how much nearer (positive) its middle came to the camera, µm."""

    tilt_deg: float
    height_um: float


@dataclass(frozen=True)
class LightChange:
    """A light of one zone: angle between the directions, strength B/A − 1 in %, path of a near source in mm or None."""

    zone: int
    angle_deg: float
    strength_percent: float
    moved_mm: float | None


@dataclass(frozen=True)
class GainChange:
    """Flat field of one zone, B/A − 1 in %: median (which a strength may make good), and 95 % of the pixels about it."""

    zone: int
    median_percent: float
    spread_percent: float


@dataclass(frozen=True)
class ColourChange:
    """White balance: gains of red and blue, B/A − 1 in %; black level, B − A in % of full scale (the channel it moved most in)."""

    red_percent: float
    blue_percent: float
    black_percent: float


@dataclass(frozen=True)
class HeightChange:
    """Height above the table as B gives it less that of A, over the field, µm.

    ``tilt_um`` is the change from end to end of the plane that fits the change best; ``step_um`` the mean change of the
    height of a step of 10 mm; ``points`` of the grid of ``GRID`` were seen by camera and projector.
    """

    mean_um: float
    rms_um: float
    max_um: float
    tilt_um: float
    step_um: float
    points: int


@dataclass(frozen=True)
class ProjectorChange:
    """A projector of one direction: path of its centre in mm, turn in degrees, focal length in %, effect on heights."""

    direction: int
    moved_mm: float
    turned_deg: float
    focal_percent: float
    heights: HeightChange | None


@dataclass(frozen=True)
class CalibrationDiff:
    """All that differs; ``missing`` names parts that only one of the two holds, ``notes`` what could not be compared."""

    a: str
    b: str
    identical: bool
    camera: CameraChange | None
    table: TableChange | None
    lights: tuple[LightChange, ...]
    flat_field: tuple[GainChange, ...]
    colour: ColourChange | None
    projectors: tuple[ProjectorChange, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    def to_plain(self) -> dict[str, Any]:
        """The difference as plain JSON data."""
        return asdict(self)


def compare(a: RigCalibration, b: RigCalibration) -> CalibrationDiff:
    """What changed from calibration ``a`` to calibration ``b``; never raises for parts that one of them lacks."""
    missing: list[str] = []
    notes: list[str] = []
    for name in ("camera", "table_plane", "flat_field", "dark", "colour"):
        _only_one(name.replace("_", " "), getattr(a, name), getattr(b, name), missing)
    lights = _pairs("light of zone", {x.zone: x for x in a.lights}, {x.zone: x for x in b.lights}, missing)
    projectors = _pairs(
        "projector of direction",
        {x.direction: x for x in a.projectors},
        {x.direction: x for x in b.projectors},
        missing,
    )
    camera = _camera_change(a.camera, b.camera, a.table_plane) if a.camera and b.camera else None
    table = None
    if a.table_plane and b.table_plane:
        table = _table_change(a.table_plane, b.table_plane, a.camera or b.camera)
    return CalibrationDiff(
        a.calibration_id,
        b.calibration_id,
        a.content_sha256 == b.content_sha256,
        camera,
        table,
        tuple(_light_change(x, y) for x, y in lights),
        _gain_changes(a, b, notes),
        _colour_change(a.colour, b.colour, notes) if a.colour and b.colour else None,
        tuple(_projector_change(x, y, a, b, notes) for x, y in projectors),
        tuple(missing),
        tuple(notes),
    )


def _only_one(name: str, a: object, b: object, missing: list[str]) -> None:
    if (a is None) != (b is None):
        missing.append(f"{name}: only in {'A' if b is None else 'B'}")


def _pairs(what: str, a: dict[int, Any], b: dict[int, Any], missing: list[str]) -> list[tuple[Any, Any]]:
    for key in sorted(a.keys() ^ b.keys()):
        missing.append(f"{what} {key}: only in {'A' if key in a else 'B'}")
    return [(a[key], b[key]) for key in sorted(a.keys() & b.keys())]


# -------------------------------------------------------------------------------------------------------- camera, table
def _camera_change(a: Camera, b: Camera, table: Plane | None) -> CameraChange:
    focal = centre = None
    if isinstance(a, PinholeCamera) and isinstance(b, PinholeCamera):
        focal = (_percent(a.fx, b.fx), _percent(a.fy, b.fy))
        centre = (b.cx - a.cx, b.cy - a.cy)
    sizes = f"images of {a.width}×{a.height} and {b.width}×{b.height} px: pixels cannot be compared"
    if (a.width, a.height) != (b.width, b.height):
        return CameraChange(None, None, None, None, None, sizes)
    if table is None:
        return CameraChange(focal, centre, None, None, None, "A has no table plane on which to compare pixels")
    uv = _grid(a)
    points = table.intersect(*a.rays(uv))
    moved = b.project(points) - uv
    known = np.isfinite(moved).all(axis=-1)
    if not known.any():
        return CameraChange(focal, centre, None, None, None, "B's camera does not see A's table")
    length = np.linalg.norm(moved[known], axis=-1)
    about = uv[known] - uv[known].mean(axis=0)
    scale = float((moved[known] * about).sum() / (about**2).sum())  # least squares: moved = scale · about + shift
    return CameraChange(focal, centre, float(math.sqrt(np.mean(length**2))), float(length.max()), 1e6 * scale)


def _table_change(a: Plane, b: Plane, camera: Camera | None) -> TableChange:
    middle = a.normal * a.offset_mm
    if camera is not None:
        seen = a.intersect(*camera.rays([(camera.width - 1) / 2, (camera.height - 1) / 2]))
        middle = seen if np.isfinite(seen).all() else middle
    return TableChange(_angle_deg(a.normal, b.normal), -1e3 * float(b.height_mm(middle)))


def _grid(camera: Camera) -> FloatArray:
    """Pixels (rows, columns, 2) spread evenly over the image, its edges included."""
    u, v = np.linspace(0, camera.width - 1, GRID[1]), np.linspace(0, camera.height - 1, GRID[0])
    return np.stack(np.meshgrid(u, v), axis=-1)


# --------------------------------------------------------------------------------------------------- lights, flat field
def _light_change(a: Light, b: Light) -> LightChange:
    moved = None
    if a.position_mm is not None and b.position_mm is not None:
        moved = float(np.linalg.norm(b.position_mm - a.position_mm))
    return LightChange(a.zone, _angle_deg(a.direction, b.direction), _percent(a.strength, b.strength), moved)


def _gain_changes(a: RigCalibration, b: RigCalibration, notes: list[str]) -> tuple[GainChange, ...]:
    if a.flat_field is None or b.flat_field is None:
        return ()
    if a.flat_field.shape != b.flat_field.shape or a.map_format != b.map_format:
        notes.append("flat fields of frames of different size or format are not compared")
        return ()
    changes = []
    thin = max(1, math.isqrt(a.flat_field.gains[0].size // _GAIN_PIXELS) + 1)
    for zone in sorted(set(a.flat_field.zones) & set(b.flat_field.zones)):
        # An odd step visits all sites of a Bayer mosaic.
        first, second = (
            f.gain(zone)[:: thin | 1, :: thin | 1].astype(np.float64) for f in (a.flat_field, b.flat_field)
        )
        known = (first > 0) & (second > 0)
        if not known.any():
            notes.append(f"flat field of zone {zone}: no pixel has a gain in both")
            continue
        ratio = second[known] / first[known]
        median = float(np.median(ratio))
        spread = float(np.percentile(np.abs(ratio / median - 1), 95))
        changes.append(GainChange(zone, 100 * (median - 1), 100 * spread))
    return tuple(changes)


def _colour_change(a: Colour, b: Colour, notes: list[str]) -> ColourChange:
    if a.tone != b.tone:
        notes.append(f"pictures: tone curve {a.tone} in A, {b.tone} in B; they do not compare")
    (red_a, _, blue_a), (red_b, _, blue_b) = a.gains, b.gains
    black = max((y - x for x, y in zip(a.black, b.black, strict=True)), key=abs)
    return ColourChange(_percent(red_a, red_b), _percent(blue_a, blue_b), 100 * black)


# ----------------------------------------------------------------------------------------------------------- projectors
def _projector_change(
    a: Projector, b: Projector, rig_a: RigCalibration, rig_b: RigCalibration, notes: list[str]
) -> ProjectorChange:
    turn = b.rotation @ a.rotation.T
    # atan2 of sine and cosine: the cosine alone cannot tell angles below 1e-6 degrees from none.
    sine = 0.5 * np.linalg.norm([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    heights = None
    try:
        heights = height_change(a, b, rig_a, rig_b)
    except InputError as error:
        notes.append(f"direction {a.direction}: effect on heights unknown: {error.message}")
    return ProjectorChange(
        a.direction,
        float(np.linalg.norm(b.centre_mm - a.centre_mm)),
        math.degrees(math.atan2(float(sine), (float(np.trace(turn)) - 1) / 2)),
        _percent(math.sqrt(a.fx * a.fy), math.sqrt(b.fx * b.fy)),
        heights,
    )


def height_change(a: Projector, b: Projector, rig_a: RigCalibration, rig_b: RigCalibration) -> HeightChange:
    """How heights over the table field change when ``rig_b`` with projector ``b`` takes the place of ``rig_a`` with ``a``.

    Raises :class:`InputError` ``calibration.diff`` where that cannot be told: no camera or table, images of different
    size, or no point seen by camera and projector.
    """
    camera_a, camera_b, table_a, table_b = rig_a.camera, rig_b.camera, rig_a.table_plane, rig_b.table_plane
    if camera_a is None or camera_b is None or table_a is None or table_b is None:
        raise InputError("camera and table plane are needed on both sides", code="calibration.diff")
    if (camera_a.width, camera_a.height) != (camera_b.width, camera_b.height):
        raise InputError("the images differ in size", code="calibration.diff")
    uv = _grid(camera_a)
    changes = []
    for height_mm in (0.0, STEP_MM):
        raised = Plane(table_a.normal, table_a.offset_mm + height_mm)
        points = raised.intersect(*camera_a.rays(uv))
        axis = _depth_axis(a, points, camera_a.rays(uv)[1])
        coordinate = a.project(points)
        inside = ((coordinate >= -0.5) & (coordinate <= np.array([a.width, a.height]) - 0.5)).all(axis=-1)
        decoded = np.where(inside, coordinate[..., AXES.index(axis)], np.nan).astype(np.float32)
        first = table_a.height_mm(_points(decoded, uv, camera_a, a, axis))
        second = table_b.height_mm(_points(decoded, uv, camera_b, b, axis))
        changes.append(1e3 * (second - first))
    return _summarise(changes[0], changes[1] - changes[0])


def _depth_axis(projector: Projector, points: FloatArray, rays: FloatArray) -> str:
    """The projector coordinate that moves most with depth, in the middle of the field."""
    middle = (points.shape[0] // 2, points.shape[1] // 2)
    step = projector.project(points[middle] + 0.1 * rays[middle]) - projector.project(points[middle])
    return AXES[int(np.argmax(np.abs(np.nan_to_num(step))))]


def _points(
    coordinate: NDArray[np.float32], uv: FloatArray, camera: Camera, projector: Projector, axis: str
) -> FloatArray:
    """Points (..., 3) in mm that a rig measures at pixels ``uv`` from decoded coordinates."""
    origins, directions = camera.rays(uv)
    slope = directions[..., :2] / directions[..., 2:]
    start = origins[..., :2] - slope * origins[..., 2:]  # where the rays cross z = 0
    table = (slope if isinstance(camera, PinholeCamera) else start).astype(np.float32)
    sigma = np.zeros_like(coordinate)
    z = depth_on_rays(coordinate, sigma, table[..., 0], table[..., 1], camera, projector, axis)[0].astype(np.float64)
    return np.concatenate([start + slope * z[..., None], z[..., None]], axis=-1)


def _summarise(change: FloatArray, step: FloatArray) -> HeightChange:
    known = np.isfinite(change)
    if known.sum() < 4:
        raise InputError("too few points of the table are seen by camera and projector", code="calibration.diff")
    row, column = np.nonzero(known)
    ends = np.column_stack([column / (GRID[1] - 1), row / (GRID[0] - 1), np.ones(len(row))])
    plane = np.linalg.lstsq(ends, change[known], rcond=None)[0]
    both = step[np.isfinite(step)]
    return HeightChange(
        float(change[known].mean()),
        float(np.sqrt(np.mean(change[known] ** 2))),
        float(np.abs(change[known]).max()),
        float(abs(plane[0]) + abs(plane[1])),
        float(both.mean()) if both.size else 0.0,
        int(known.sum()),
    )


def _angle_deg(a: FloatArray, b: FloatArray) -> float:
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b)))


def _percent(a: float, b: float) -> float:
    return 100 * (b / a - 1)
