"""Calibration targets: exact prints, shapes and places, found by OpenCV and by the sphere finder where they truly are."""

from __future__ import annotations

import json
from typing import get_args

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.acquisition.simulator._boards import EDGE_MM
from rakelight.acquisition.simulator.solid import Mesh, Part, Pose
from rakelight.acquisition.simulator.sphere_outlines import sphere_outlines
from rakelight.acquisition.simulator.targets import (
    BLACK,
    TARGETS,
    WHITE,
    board_corners,
    get_target,
    inside_field,
)
from rakelight.dataset.recording import Target
from rakelight.errors import InputError

FloatArray = NDArray[np.float64]
BOARDS = ("charuco", "chessboard")
EYE = np.array([0.0, 0.0, 200.0])
FLIP = np.diag([1.0, -1.0, -1.0])  # viewer axes to camera axes


def build(name: str, **options: object) -> Part:
    return get_target(name, **options).build(np.random.default_rng(0))


def mesh_of(name: str, **options: object) -> Mesh:
    return build(name, **options).components[0].mesh


def reflectance(part: Part, points: FloatArray) -> FloatArray:
    """(N,) red diffuse reflectance of a one-component part."""
    material = part.components[0].material
    factor = material.texture(points)[:, 0] if material.texture is not None else np.ones(len(points))
    return np.asarray(material.diffuse[0] * factor)


def unit(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


class Pinhole:
    """Camera over the middle of the table that sees its 54.72 mm in ``width`` px."""

    def __init__(self, width: int) -> None:
        self.width, self.height = width, width * 2 // 3
        self.f = EYE[2] / 54.72 * width
        self.cx, self.cy = (self.width - 1) / 2, (self.height - 1) / 2
        self.matrix = np.array([[self.f, 0, self.cx], [0, self.f, self.cy], [0, 0, 1]])

    def rays(self, du: float = 0.0, dv: float = 0.0) -> FloatArray:
        """(H, W, 3) directions, viewer axes, through a point of each pixel."""
        across, down = np.meshgrid(
            (np.arange(self.width) + du - self.cx) / self.f, (np.arange(self.height) + dv - self.cy) / self.f
        )
        return np.stack([across, -down, -np.ones_like(across)], axis=-1)


# Eight points of a pixel, no two in the same row or column: a square grid of nine resolves an upright edge to a third of a
# pixel only, which moves corners by 0.1 px.
LATTICE = [((k + 0.5) / 8 - 0.5, ((3 * k + 0.5) / 8) % 1 - 0.5) for k in range(8)]


def picture(name: str, pose: Pose, camera: Pinhole) -> NDArray[np.uint8]:
    """A board over a grey table: rays against the plane of the print, mean over each pixel, lens blur of 1.3 px.

    In a sharper picture OpenCV's cornerSubPix leans to pixel centres: at 0.6 px by 0.055·sin(2π·fraction) px.
    """
    part = build(name)
    width, height, top = (*TARGETS[name].facts["plate_mm"], TARGETS[name].facts["thickness_mm"])
    eye = (EYE - pose.shift_mm) @ pose.rotation
    corners = np.array([[x, y, top] for x in (-width / 2, width / 2) for y in (-height / 2, height / 2)])
    uv = true_pixels(corners, pose, camera).astype(int)
    (left, upper), (right, lower) = uv.min(axis=0) - 2, uv.max(axis=0) + 3
    whole = np.full((camera.height, camera.width), 0.12)
    image = whole[upper:lower, left:right]
    image[:] = 0.0
    for du, dv in LATTICE:
        rays = camera.rays(du, dv)[upper:lower, left:right] @ pose.rotation
        points = eye + ((top - eye[2]) / rays[..., 2])[..., None] * rays
        on = (np.abs(points[..., 0]) <= width / 2) & (np.abs(points[..., 1]) <= height / 2)
        image[on] += reflectance(part, points[on]) / len(LATTICE)
        image[~on] += 0.12 / len(LATTICE)
    blurred = cv2.GaussianBlur(whole, (0, 0), 1.3)
    return np.asarray(np.clip(np.round(blurred * 255), 0, 255), dtype=np.uint8)


def true_pixels(points: FloatArray, pose: Pose, camera: Pinhole) -> FloatArray:
    """Part-frame points projected by OpenCV."""
    turn, shift = FLIP @ pose.rotation, FLIP @ (pose.shift_mm - EYE)
    uv, _ = cv2.projectPoints(points, cv2.Rodrigues(turn)[0], shift, camera.matrix, None)
    return np.asarray(uv[:, 0])


# --- what OpenCV finds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_opencv_detects_charuco_corners(seed: int) -> None:
    camera, pose = Pinhole(1368), TARGETS["charuco"].default_pose(np.random.default_rng(seed))
    facts = TARGETS["charuco"].facts
    dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, facts["dictionary"]))
    board = cv2.aruco.CharucoBoard(tuple(facts["squares"]), facts["square_mm"], facts["marker_mm"], dictionary)
    board.setLegacyPattern(facts["legacy_pattern"])
    corners, ids, _, markers = cv2.aruco.CharucoDetector(board).detectBoard(picture("charuco", pose, camera))
    wanted_ids, points = board_corners("charuco")
    assert len(markers) == 35
    np.testing.assert_array_equal(np.sort(ids.ravel()), wanted_ids)
    found = corners.reshape(-1, 2)[np.argsort(ids.ravel())]
    error = np.linalg.norm(found - true_pixels(points, pose, camera), axis=1)
    assert error.max() < 0.05


@pytest.mark.parametrize("seed", [1, 2])
def test_opencv_detects_chessboard_corners(seed: int) -> None:
    camera, pose = Pinhole(1368), TARGETS["chessboard"].default_pose(np.random.default_rng(seed))
    size = tuple(TARGETS["chessboard"].facts["inner_corners"])
    image = picture("chessboard", pose, camera)
    ok, found = cv2.findChessboardCorners(image, size)
    assert ok
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-4)
    found = cv2.cornerSubPix(image, found, (7, 7), (-1, -1), stop).reshape(-1, 2)
    truth = true_pixels(board_corners("chessboard")[1], pose, camera)
    if np.linalg.norm(found[0] - truth[0]) > np.linalg.norm(found[-1] - truth[0]):
        found = found[::-1]  # OpenCV may start at either end
    assert np.linalg.norm(found - truth, axis=1).max() < 0.05


def test_corners_are_those_of_opencv() -> None:
    """Same numbers and same places as OpenCV's own board, whose axes start at the top left, y down."""
    board = cv2.aruco.CharucoBoard((10, 7), 4.0, 3.0, cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50))
    ids, points = board_corners("charuco")
    np.testing.assert_array_equal(ids, np.arange(54))
    np.testing.assert_allclose(points, np.asarray(board.getChessboardCorners()) * [1, -1, 1] + [-20, 14, 1], atol=1e-6)


# --- print ---------------------------------------------------------------------------------------------------------------


def test_charuco_print_equals_opencv_bit_by_bit() -> None:
    """Each cell of half a millimetre, at its middle and 3 µm inside its four corners, against OpenCV's own picture."""
    board = cv2.aruco.CharucoBoard((10, 7), 4.0, 3.0, cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50))
    expected = np.where(board.generateImage((800, 560))[5::10, 5::10] > 127, WHITE, BLACK)
    row, column = np.mgrid[0:56, 0:80]
    for dx, dy in [(0, 0), (0.247, 0.247), (-0.247, 0.247), (0.247, -0.247), (-0.247, -0.247)]:
        x, y = -20 + 0.5 * (column + 0.5) + dx, 14 - 0.5 * (row + 0.5) + dy
        points = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)
        np.testing.assert_allclose(reflectance(build("charuco"), points).reshape(56, 80), expected, atol=1e-12)


def test_chessboard_print() -> None:
    """Top left square black, margin white, edges exact: half way on the line, full 3 µm beside it."""
    part = build("chessboard")

    def at(*xy: tuple[float, float]) -> FloatArray:
        return reflectance(part, np.array([[x, y, 1.0] for x, y in xy]))

    np.testing.assert_allclose(at((-17.9, 13.4), (-14.9, 13.4), (-14.9, 10.4), (17.9, -13.4)), [BLACK, WHITE] * 2)
    np.testing.assert_allclose(at((-18.5, 0.0), (18.9, 14.4), (0.5, 14.0)), WHITE)
    half = (WHITE + BLACK) / 2
    np.testing.assert_allclose(at((-18, 12), (-15, 12), (-16.5, 13.5)), half)
    assert EDGE_MM == 0.004
    np.testing.assert_allclose(
        at((-15.003, 12), (-14.997, 12), (-15.001, 12)), [BLACK, WHITE, half - (WHITE - BLACK) / 4]
    )
    np.testing.assert_allclose(at((-15.0, 10.5)), half)  # the saddle point of an inner corner


def test_walls_and_underside_are_white() -> None:
    """Only the top is printed; a point found 5 µm low still counts as top."""
    walls = np.array([[-20.0, 13.0, 0.5], [-17.0, 14.0, 0.2], [-18.0, 13.0, 0.0]])
    np.testing.assert_allclose(reflectance(build("charuco"), walls), WHITE)
    np.testing.assert_allclose(reflectance(build("charuco"), np.array([[-18.0, 13.0, 0.995]])), BLACK)


def test_print_is_grey_and_leaves_gloss_alone() -> None:
    texture = build("charuco").components[0].material.texture
    assert texture is not None
    factors = texture(np.array([[-18.0, 13.0, 1.0], [-17.9, 9.9, 1.0]]))
    np.testing.assert_allclose(factors, [[BLACK / WHITE] * 3 + [1], [1, 1, 1, 1]])


# --- shapes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TARGETS)
def test_meshes_are_closed_and_face_outwards(name: str) -> None:
    for component in build(name).components:
        mesh = component.mesh
        np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1.0, atol=1e-12)
        a, b, c = (mesh.vertices[mesh.triangles[:, k]] for k in range(3))
        cross = np.cross(b - a, c - a)
        # of a closed surface the area vectors cancel, and the divergence theorem gives a positive volume
        assert np.abs(cross.sum(axis=0)).max() < 1e-9
        assert np.einsum("ij,ij->", a, np.cross(b, c)) > 0
        outward = np.einsum("ij,ij->i", mesh.facet_normals, mesh.normals[mesh.triangles].sum(axis=1) / 3)
        assert outward.min() > 0.999


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_spheres_are_spheres(count: int) -> None:
    part, facts = build("chrome_spheres", count=count), get_target("chrome_spheres", count=count).facts
    assert len(part.components) == facts["sphere_count"] == count
    radius = facts["sphere_diameter_mm"] / 2
    assert radius == 5.0
    for component, centre in zip(part.components, np.array(facts["centres_mm"]), strict=True):
        mesh = component.mesh
        assert centre[2] == radius  # lies on the table
        np.testing.assert_allclose(mesh.vertices, centre + radius * mesh.normals, atol=1e-12)
        corners = mesh.vertices[mesh.triangles] - centre
        depth = np.abs(np.einsum("ij,ij->i", mesh.facet_normals, corners[:, 0]))
        assert radius - depth.min() < 0.0005  # where a facet strays most
        volume = np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
        assert volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=2e-4)
    assert part.components[0].material.specular == (0.55, 0.55, 0.55)
    assert part.components[0].material.diffuse == (0.0, 0.0, 0.0)


def test_normals_interpolated_over_a_sphere_are_radial() -> None:
    mesh = mesh_of("chrome_spheres", count=1)
    weights = np.random.default_rng(0).dirichlet(np.ones(3), len(mesh.triangles))[..., None]
    points = (mesh.vertices[mesh.triangles] * weights).sum(axis=1) - [0, 0, 5.0]
    normals = (mesh.normals[mesh.triangles] * weights).sum(axis=1)
    np.testing.assert_allclose(unit(normals), unit(points), atol=1e-12)


def test_step_gauge() -> None:
    """Each step's top is one rectangle of exact height between exact edges, and nothing else looks up."""
    mesh, facts = mesh_of("step_gauge"), TARGETS["step_gauge"].facts
    assert facts["heights_mm"] == [1.0, 2.0, 3.0, 5.0, 8.0]
    up = mesh.facet_normals[:, 2] > 0.5
    corners = mesh.vertices[mesh.triangles[up]]
    left, right = np.array(facts["edges_x_mm"][:-1]), np.array(facts["edges_x_mm"][1:])
    np.testing.assert_allclose(right - left, 4.8)
    for k, height in enumerate(facts["heights_mm"]):
        middle = corners.mean(axis=1)[:, 0]
        step = corners[(middle > left[k]) & (middle < right[k])]
        assert len(step) == 2 and np.all(step[..., 2] == height)
        np.testing.assert_array_equal([step[..., 0].min(), step[..., 0].max()], [left[k], right[k]])
        np.testing.assert_array_equal([step[..., 1].min(), step[..., 1].max()], [-5, 5])
    assert mesh.facet_areas[up].sum() == pytest.approx(240.0)


@pytest.mark.parametrize("diameters", [(10.0, 10.0), (6.0, 12.0)])
def test_ball_bar(diameters: tuple[float, float]) -> None:
    """Both balls touch the table, their centres are as far apart as certified, and the bar stays below their middles."""
    kind = get_target("ball_bar", diameters_mm=diameters, spacing_mm=25.0)
    first, second, bar = kind.build(np.random.default_rng(0)).components
    centres = np.array(kind.facts["centres_mm"])
    assert np.linalg.norm(centres[0] - centres[1]) == pytest.approx(25.0)
    for ball, centre, diameter in zip((first, second), centres, diameters, strict=True):
        away = np.linalg.norm(ball.mesh.vertices - centre, axis=1)
        np.testing.assert_allclose(away, diameter / 2, atol=1e-9)
        assert ball.mesh.vertices[:, 2].min() == pytest.approx(0, abs=1e-9)
        assert ball.material.specular == (0.0,) * 3
    assert bar.mesh.vertices[:, 2].max() <= min(diameters) / 2


def test_stair_that_goes_down_and_up_is_closed() -> None:
    mesh = mesh_of("step_gauge", heights_mm=(5.0, 2.0, 2.0, 7.0))
    a, b, c = (mesh.vertices[mesh.triangles[:, k]] for k in range(3))
    assert np.einsum("ij,ij->", a, np.cross(b, c)) / 6 == pytest.approx(6.0 * 10.0 * (5 + 2 + 2 + 7))


@pytest.mark.parametrize(
    ("name", "size", "diffuse"), [("white_plane", (70, 50, 0.01), 0.9), ("flat", (30, 30, 5), 0.6)]
)
def test_plates(name: str, size: tuple[float, float, float], diffuse: float) -> None:
    part = build(name)
    low, high = part.extent_mm
    np.testing.assert_array_equal(low, [-size[0] / 2, -size[1] / 2, 0])
    np.testing.assert_array_equal(high, [size[0] / 2, size[1] / 2, size[2]])
    assert part.components[0].material.diffuse == (diffuse,) * 3
    assert part.components[0].material.specular == (0.0,) * 3


def test_white_plane_at_a_height() -> None:
    assert mesh_of("white_plane", height_mm=12.5).vertices[:, 2].max() == 12.5


# --- poses ---------------------------------------------------------------------------------------------------------------


def on_field(part: Part, pose: Pose) -> FloatArray:
    """Where the reference camera sees the part's vertices, in mm on the table."""
    points = np.concatenate([c.mesh.vertices for c in part.components])[::7] @ pose.rotation.T + pose.shift_mm
    return np.asarray(points[:, :2] * (200.0 / (200.0 - points[:, 2:])))


@pytest.mark.parametrize("name", BOARDS)
def test_boards_are_tilted_above_the_table_inside_the_field(name: str) -> None:
    poses = [TARGETS[name].default_pose(np.random.default_rng(seed)) for seed in range(200)]
    vertices = mesh_of(name).vertices
    for pose in poses:
        points = vertices @ pose.rotation.T + pose.shift_mm
        assert points[:, 2].min() == pytest.approx(0.2, abs=1e-9)
        uv = points[:, :2] * (200.0 / (200.0 - points[:, 2:]))
        assert np.all(np.abs(uv) < [27.36 - 0.29, 18.24 - 0.29])
    tilts = np.array([(p.tilt_x_deg, p.tilt_y_deg) for p in poses])
    assert np.abs(tilts).max() <= 20 and tilts.std(axis=0).min() > 9  # evenly spread would be 11.5
    turns = np.array([p.angle_deg for p in poses])
    assert np.abs(turns).max() <= 15 and turns.std() > 3


@pytest.mark.parametrize("name", ["chrome_spheres", "step_gauge", "flat", "ball_bar"])
def test_others_lie_flat_inside_the_field(name: str) -> None:
    for seed in range(200):
        pose = TARGETS[name].default_pose(np.random.default_rng(seed))
        assert (pose.z_mm, pose.tilt_x_deg, pose.tilt_y_deg) == (0, 0, 0)
        if seed < 40 or name not in ("chrome_spheres", "ball_bar"):
            assert np.all(np.abs(on_field(build(name), pose)) < [27.36 - 0.29, 18.24 - 0.29])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_sphere_outlines_stay_inside_the_field(count: int) -> None:
    kind, camera = get_target("chrome_spheres", count=count), Pinhole(5472)
    for seed in range(200):
        pose = kind.default_pose(np.random.default_rng(seed))
        centres = np.array(kind.facts["centres_mm"]) @ pose.rotation.T + pose.shift_mm
        outlines = sphere_outlines((centres - EYE) @ FLIP, 5.0, fx=camera.f, fy=camera.f, cx=camera.cx, cy=camera.cy)
        uv = np.concatenate([o.points() for o in outlines])
        assert uv.min() > 20 and uv[:, 0].max() < 5471 - 20 and uv[:, 1].max() < 3647 - 20
        apart = np.linalg.norm(centres[:, None] - centres, axis=-1) + 99 * np.eye(count)
        assert apart.min() > 15


def test_white_plane_covers_the_field() -> None:
    edges = np.array([[x, y] for x in (-27.36, 27.36) for y in (-18.24, 18.24)])
    for height in (0.01, 15.0):
        kind = get_target("white_plane", height_mm=height)
        for seed in range(200):
            pose = kind.default_pose(np.random.default_rng(seed))
            seen = (edges * (200 - height) / 200 - pose.shift_mm[:2]) @ pose.rotation[:2, :2]
            assert np.all(np.abs(seen) < [34.0, 24.0])


@pytest.mark.parametrize("name", TARGETS)
def test_same_seed_same_pose(name: str) -> None:
    first, again, other = (TARGETS[name].default_pose(np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first == again != other


def test_inside_field_sees_in_perspective() -> None:
    assert inside_field(np.array([[27.0, 17.9, 0.0]]))
    assert not inside_field(np.array([[27.0, 0.0, 5.0]]))
    assert not inside_field(np.array([[0.0, -18.0, 0.0]]))


# --- catalogue and bad input ---------------------------------------------------------------------------------------------


def test_catalogue() -> None:
    assert set(TARGETS) == {"charuco", "chessboard", "chrome_spheres", "white_plane", "step_gauge", "flat", "ball_bar"}
    for name, kind in TARGETS.items():
        assert kind.name == name and kind.description
        assert kind.recording_target in get_args(Target)
        assert json.loads(json.dumps(kind.facts)) == kind.facts
        assert build(name).product == name
    assert {k.recording_target for k in TARGETS.values()} == set(get_args(Target)) - {"part", "dark"}


def test_unknown_target_lists_the_known() -> None:
    with pytest.raises(InputError, match="'charucco' is not known; known: charuco, chessboard") as caught:
        get_target("charucco")
    assert caught.value.code == "simulate.unknown_part"


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("flat", {"count": 2}, "flat has no option 'count'; options: size_mm, height_mm"),
        ("chrome_spheres", {"count": 5}, "5 chrome spheres; allowed: 1 to 4"),
        ("chrome_spheres", {"diameter_mm": 40.0}, "diameter_mm is 40.0; allowed: 1 to 12"),
        ("charuco", {"squares": (20, 14)}, "needs 140 markers; DICT_4X4_50 has 50"),
        ("charuco", {"marker_mm": 4.0}, "markers of 4.0 mm do not fit squares of 4.0 mm"),
        ("charuco", {"dictionary": "DICT_9X9"}, "'DICT_9X9' is not known"),
        ("chessboard", {"squares": (2, 9)}, "allowed: 3 to 200"),
        ("chessboard", {"square_mm": float("nan")}, "squares of nan mm"),
        ("chessboard", {"margin_mm": -1.0}, "margin of -1.0 mm"),
        ("step_gauge", {"heights_mm": (1.0, -2.0)}, "heights_mm is -2.0"),
        ("step_gauge", {"heights_mm": ()}, "0 steps"),
        ("ball_bar", {"diameters_mm": (10.0,)}, "a ball bar of 1 balls; allowed: 2"),
        ("ball_bar", {"spacing_mm": 9.0}, "spacing_mm is 9.0; allowed: 10 to 35"),
        ("white_plane", {"height_mm": 0.0}, "height_mm is 0.0; allowed: 0.001 to 50"),
    ],
)
def test_options_out_of_range(name: str, options: dict[str, object], says: str) -> None:
    with pytest.raises(InputError) as caught:
        get_target(name, **options)
    assert says in caught.value.message
    assert caught.value.code == "simulate.target_option"


def test_board_too_large_for_the_field() -> None:
    kind = get_target("chessboard", square_mm=5.0)
    with pytest.raises(InputError, match=r"62×47 mm does not fit the field of 54.72×36.48 mm") as caught:
        kind.default_pose(np.random.default_rng(0))
    assert caught.value.code == "simulate.pose"


def test_only_boards_have_corners() -> None:
    with pytest.raises(InputError, match="flat has no board corners; boards: charuco, chessboard"):
        board_corners("flat")


def test_other_sizes() -> None:
    kind = get_target("charuco", squares=(8, 6), square_mm=4.5, marker_mm=3.4, dictionary="DICT_5X5_100", margin_mm=0.7)
    ids, points = board_corners("charuco", squares=(8, 6), square_mm=4.5, marker_mm=3.4, dictionary="DICT_5X5_100")
    assert kind.facts["plate_mm"] == pytest.approx([37.4, 28.4])
    assert len(ids) == len(points) == 35
    np.testing.assert_allclose(points[0], [-18 + 4.5, 13.5 - 4.5, 1.0])
