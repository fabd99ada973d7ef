"""Calibration targets: parts whose sizes, prints and places are exact, so that a calibration can be held against them.

Each target says what recording it makes (``recording_target``), how it is built, how it is laid under the camera, and its
facts as plain data. Unlike a product, a target has no variation between specimens. A lens cap (``dark``) is no part.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from rakelight.acquisition.simulator import _boards
from rakelight.acquisition.simulator._target_meshes import block, sphere, stairs
from rakelight.acquisition.simulator.solid import Component, Material, Part, Pose
from rakelight.errors import InputError

FloatArray = NDArray[np.float64]
RecordingTarget = Literal["chrome_sphere", "white_plane", "chessboard", "charuco", "step_gauge", "flat", "ball_bar"]

WHITE, BLACK = 0.85, 0.04
"""Diffuse reflectance of a board's ceramic and of its ink."""
FIELD_MM = (54.72, 36.48)
"""What the reference camera sees of the table, from ``EYE_MM`` above its middle."""
EYE_MM = 200.0
_RIM_MM = 0.3  # of the field is kept free: the principal point lies up to 0.15 mm off the middle
_MAX_TILT_DEG, _MAX_TURN_DEG, _MAX_SHIFT_MM, _CLEARANCE_MM = 20.0, 15.0, 3.0, 0.2


@dataclass(frozen=True, eq=False)
class TargetKind:
    """One target, ready to be built.

    Attributes
    ----------
    name, description : str
    recording_target : str
        ``target`` of the recordings made of it (:mod:`rakelight.dataset.recording`).
    build : Generator → Part
        The generator is for the sake of one signature with products; targets are exact and draw nothing from it.
    default_pose : Generator → Pose
        Boards float tilted above the table, as a hand holds them; the others lie on it, a little off the middle.
    facts : dict
        Plain data (JSON): what a calibration may be told, and what it must find; mm, part frame.
    """

    name: str
    description: str
    recording_target: RecordingTarget
    build: Callable[[Generator], Part]
    default_pose: Callable[[Generator], Pose]
    facts: dict[str, Any]


# ---------------------------------------------------------------------------------------------------------------- poses
def inside_field(points: FloatArray) -> bool:
    """Whether all points (N, 3), viewer axes in mm from the middle of the table, are seen by the reference camera.

    The camera at ``EYE_MM`` sees (x, y, z) where it sees (x, y)·EYE/(EYE − z) on the table.
    """
    on_table = points[:, :2] * (EYE_MM / (EYE_MM - points[:, 2:]))
    return bool(np.all(np.abs(on_table) <= np.array(FIELD_MM) / 2 - _RIM_MM))


def _board_pose(rng: Generator, plate_mm: tuple[float, float], thickness_mm: float) -> Pose:
    """Tilted ±20° about both axes, turned ±15°, shifted ±3 mm, the lowest corner just above the table.

    Drawn anew until the whole plate is in the field: the poses that remain are evenly spread over those that fit.
    """
    x, y, z = plate_mm[0] / 2, plate_mm[1] / 2, thickness_mm
    corners = np.array([[i, j, k] for i in (-x, x) for j in (-y, y) for k in (0.0, z)])
    limits = np.array([_MAX_SHIFT_MM, _MAX_SHIFT_MM, _MAX_TURN_DEG, _MAX_TILT_DEG, _MAX_TILT_DEG])
    for _ in range(2000):
        shift_x, shift_y, turn, tilt_x, tilt_y = (float(v) for v in rng.uniform(-limits, limits))
        rotation = Pose(angle_deg=turn, tilt_x_deg=tilt_x, tilt_y_deg=tilt_y).rotation
        lift = _CLEARANCE_MM - float((corners @ rotation[2]).min())
        pose = Pose(shift_x, shift_y, turn, lift, tilt_x, tilt_y)
        if inside_field(corners @ pose.rotation.T + pose.shift_mm):
            return pose
    raise InputError(
        f"a plate of {plate_mm[0]:g}×{plate_mm[1]:g} mm does not fit the field of {FIELD_MM[0]}×{FIELD_MM[1]} mm tilted",
        hint="take fewer or smaller squares; 40×28 mm fits",
        code="simulate.pose",
    )


def _lying_pose(rng: Generator, shift_mm: float, turn_deg: float) -> Pose:
    """Flat on the table, shifted and turned by at most these amounts."""
    x, y, turn = rng.uniform(-1.0, 1.0, 3) * (shift_mm, shift_mm, turn_deg)
    return Pose(float(x), float(y), float(turn))


# --------------------------------------------------------------------------------------------------------------- boards
def _charuco(
    squares: tuple[int, int] = (10, 7),
    square_mm: float = 4.0,
    marker_mm: float = 3.0,
    dictionary: str = "DICT_4X4_50",
    margin_mm: float = 0.0,
    thickness_mm: float = 1.0,
) -> TargetKind:
    board = _boards.charuco(squares, square_mm, marker_mm, dictionary, margin_mm)
    facts = {"marker_mm": marker_mm, "dictionary": dictionary, "legacy_pattern": False}
    description = f"ChArUco plate, {squares[0]}×{squares[1]} squares of {square_mm:g} mm, {dictionary}"
    return _board_kind("charuco", description, board, squares, square_mm, margin_mm, thickness_mm, facts)


def _chessboard(
    squares: tuple[int, int] = (12, 9), square_mm: float = 3.0, margin_mm: float = 1.0, thickness_mm: float = 1.0
) -> TargetKind:
    board = _boards.chessboard(squares, square_mm, margin_mm)
    description = f"chessboard plate, {squares[0] - 1}×{squares[1] - 1} inner corners, {square_mm:g} mm squares"
    return _board_kind("chessboard", description, board, squares, square_mm, margin_mm, thickness_mm, {})


def _board_kind(
    name: Literal["charuco", "chessboard"],
    description: str,
    board: _boards.Board,
    squares: tuple[int, int],
    square_mm: float,
    margin_mm: float,
    thickness_mm: float,
    facts: dict[str, Any],
) -> TargetKind:
    _in_range("thickness_mm", thickness_mm, 0.1, 20.0)
    material = Material((WHITE, WHITE, WHITE)).textured(board.texture(thickness_mm, BLACK / WHITE))
    plate = Component("plate", block(*board.plate_mm, thickness_mm), material)
    corners = np.column_stack([board.corners_mm, np.full(len(board.corners_mm), thickness_mm)])
    return TargetKind(
        name,
        description,
        name,
        lambda rng: Part(name, (plate,)),
        lambda rng: _board_pose(rng, board.plate_mm, thickness_mm),
        {
            "squares": list(squares),
            "inner_corners": [squares[0] - 1, squares[1] - 1],
            "square_mm": square_mm,
            "margin_mm": margin_mm,
            "plate_mm": list(board.plate_mm),
            "thickness_mm": thickness_mm,
            "white": WHITE,
            "black": BLACK,
            "top_left_square": "black",
            "corners_mm": corners.tolist(),
            **facts,
        },
    )


def board_corners(name: str, **options: Any) -> tuple[NDArray[np.int64], FloatArray]:
    """True inner corners of a board.

    Returns
    -------
    (N,) int64, (N, 3) float64
        Numbers as OpenCV counts them, row by row from the corner next to the black top left square, and the points in
        mm, part frame (on the print).

    Raises
    ------
    InputError
        ``simulate.unknown_part``: no such target, or one that is no board.
    """
    kind = get_target(name, **options)
    if "corners_mm" not in kind.facts:
        boards = ", ".join(n for n, k in TARGETS.items() if "corners_mm" in k.facts)
        raise InputError(f"{name} has no board corners; boards: {boards}", code="simulate.unknown_part")
    points = np.array(kind.facts["corners_mm"], dtype=np.float64)
    return np.arange(len(points)), points


# -------------------------------------------------------------------------------------------------------------- spheres
_SPHERE_PLACES: dict[int, tuple[tuple[float, float], ...]] = {
    1: ((0.0, 0.0),),
    2: ((-13.0, 4.5), (13.0, -4.5)),
    3: ((-15.0, -5.5), (0.0, 7.0), (15.0, -5.5)),
    4: ((-14.0, 8.0), (14.0, 8.0), (-14.0, -8.0), (14.0, -8.0)),
}
"""Middles on the table (x, y), apart enough that no shadow of one sphere reaches the visible side of another."""


def _chrome_spheres(count: int = 2, diameter_mm: float = 10.0, roughness: float = 0.02) -> TargetKind:
    if count not in _SPHERE_PLACES:
        raise InputError(f"{count} chrome spheres; allowed: 1 to 4", code="simulate.target_option")
    _in_range("diameter_mm", diameter_mm, 1.0, 12.0)
    _in_range("roughness", roughness, 0.02, 1.0)
    radius = diameter_mm / 2
    centres = np.array([(x, y, radius) for x, y in _SPHERE_PLACES[count]])
    chrome = Material((0.0, 0.0, 0.0), (0.55, 0.55, 0.55), roughness)

    def build(rng: Generator) -> Part:
        spheres = (Component(f"sphere_{k}", sphere(c, radius), chrome) for k, c in enumerate(centres, start=1))
        return Part("chrome_spheres", tuple(spheres))

    return TargetKind(
        "chrome_spheres",
        f"{count} chrome sphere{'s' * (count > 1)}, {diameter_mm:g} mm, on the table",
        "chrome_sphere",
        build,
        lambda rng: _lying_pose(rng, 1.5, 8.0),
        {
            "sphere_count": count,
            "sphere_diameter_mm": diameter_mm,
            "centres_mm": centres.tolist(),
            "roughness": roughness,
        },
    )


def _ball_bar(
    diameters_mm: tuple[float, float] = (10.0, 10.0),
    spacing_mm: float = 25.0,
    diffuse: float = 0.6,
    specular: float = 0.0,
    roughness: float = 0.3,
) -> TargetKind:
    """Both balls lie on the table; the bar joins them below their middles, where it hides little of them."""
    if len(diameters_mm) != 2:
        raise InputError(f"a ball bar of {len(diameters_mm)} balls; allowed: 2", code="simulate.target_option")
    for diameter in diameters_mm:
        _in_range("diameters_mm", diameter, 2.0, 15.0)
    _in_range("spacing_mm", spacing_mm, sum(diameters_mm) / 2, 35.0)
    _in_range("diffuse", diffuse, 0.0, 1.0)
    _in_range("specular", specular, 0.0, 1.0)
    _in_range("roughness", roughness, 0.02, 1.0)
    radii = np.array(diameters_mm) / 2
    half = math.sqrt(spacing_mm**2 - float(radii[0] - radii[1]) ** 2) / 2  # along the table
    centres = np.array([[-half, 0.0, radii[0]], [half, 0.0, radii[1]]])
    ceramic = Material((diffuse,) * 3, (specular,) * 3, roughness)
    balls = [
        Component(f"ball_{k}", sphere(c, r), ceramic) for k, (c, r) in enumerate(zip(centres, radii, strict=True), 1)
    ]
    thick = float(radii.min()) / 2
    bar = Component("bar", block(2 * half, thick, float(radii.min())), Material((0.2, 0.2, 0.2)))
    return TargetKind(
        "ball_bar",
        f"ball bar: two matte balls, centres {spacing_mm:g} mm apart",
        "ball_bar",
        lambda rng: Part("ball_bar", (*balls, bar)),
        lambda rng: _lying_pose(rng, 1.5, 8.0),
        {
            "diameters_mm": list(diameters_mm),
            "spacing_mm": spacing_mm,
            "centres_mm": centres.tolist(),
            "diffuse": diffuse,
            "specular": specular,
        },
    )


# --------------------------------------------------------------------------------------------------------------- plates
def _white_plane(height_mm: float = 0.01, size_mm: tuple[float, float] = (70.0, 50.0)) -> TargetKind:
    _in_range("height_mm", height_mm, 0.001, 50.0)
    _in_range("size_mm", min(size_mm), 1.0, 500.0)
    _in_range("size_mm", max(size_mm), 1.0, 500.0)
    sheet = Component("sheet", block(*size_mm, height_mm), Material((0.9, 0.9, 0.9)))
    return TargetKind(
        "white_plane",
        "matte white plate that fills the field",
        "white_plane",
        lambda rng: Part("white_plane", (sheet,)),
        lambda rng: _lying_pose(rng, 1.0, 5.0),
        {"height_mm": height_mm, "size_mm": list(size_mm), "diffuse": 0.9},
    )


def _flat(size_mm: tuple[float, float] = (30.0, 30.0), height_mm: float = 5.0) -> TargetKind:
    _in_range("size_mm", min(size_mm), 1.0, 30.0)
    _in_range("size_mm", max(size_mm), 1.0, 30.0)
    _in_range("height_mm", height_mm, 0.001, 15.0)
    plate = Component("plate", block(*size_mm, height_mm), Material((0.6, 0.6, 0.6)))
    return TargetKind(
        "flat",
        "matte flat plate, like ground glass",
        "flat",
        lambda rng: Part("flat", (plate,)),
        lambda rng: _lying_pose(rng, 0.5, 5.0),
        {"height_mm": height_mm, "size_mm": list(size_mm), "diffuse": 0.6},
    )


def _step_gauge(
    heights_mm: Sequence[float] = (1.0, 2.0, 3.0, 5.0, 8.0), size_mm: tuple[float, float] = (24.0, 10.0)
) -> TargetKind:
    if not 1 <= len(heights_mm) <= 20:
        raise InputError(f"a stair of {len(heights_mm)} steps; allowed: 1 to 20", code="simulate.target_option")
    for height in heights_mm:
        _in_range("heights_mm", height, 0.001, 15.0)
    _in_range("size_mm", min(size_mm), 1.0, 30.0)
    _in_range("size_mm", max(size_mm), 1.0, 30.0)
    x = np.linspace(-size_mm[0] / 2, size_mm[0] / 2, len(heights_mm) + 1)
    stair = Component("stair", stairs(x, heights_mm, size_mm[1]), Material((0.6, 0.6, 0.6)))
    return TargetKind(
        "step_gauge",
        f"matte stair of {len(heights_mm)} steps",
        "step_gauge",
        lambda rng: Part("step_gauge", (stair,)),
        lambda rng: _lying_pose(rng, 1.5, 10.0),
        {"heights_mm": list(heights_mm), "edges_x_mm": x.tolist(), "size_mm": list(size_mm), "diffuse": 0.6},
    )


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError(f"{name} is {value}; allowed: {low:g} to {high:g}", code="simulate.target_option")


# ------------------------------------------------------------------------------------------------------------ catalogue
_MAKERS: dict[str, Callable[..., TargetKind]] = {
    "charuco": _charuco,
    "chessboard": _chessboard,
    "chrome_spheres": _chrome_spheres,
    "white_plane": _white_plane,
    "step_gauge": _step_gauge,
    "flat": _flat,
    "ball_bar": _ball_bar,
}


def get_target(name: str, **options: Any) -> TargetKind:
    """The target ``name``, with other sizes than the usual ones where ``options`` give them.

    Raises
    ------
    InputError
        ``simulate.unknown_part`` (lists the targets), ``simulate.target_option`` (unknown or out of range).
    """
    if name not in _MAKERS:
        raise InputError(
            f"target {name!r} is not known; known: {', '.join(_MAKERS)}",
            hint="name one of these; a dark recording needs no target but a lens cap",
            code="simulate.unknown_part",
        )
    allowed = inspect.signature(_MAKERS[name]).parameters
    for option in options:
        if option not in allowed:
            raise InputError(
                f"{name} has no option {option!r}; options: {', '.join(allowed)}", code="simulate.target_option"
            )
    return _MAKERS[name](**options)


TARGETS: dict[str, TargetKind] = {name: get_target(name) for name in _MAKERS}
"""All targets with their usual sizes."""
