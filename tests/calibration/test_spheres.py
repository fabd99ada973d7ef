"""Outlines, highlights and the mirror law: against closed forms, ray-traced pictures and the psbox photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq

from rakelight.calibration.spheres import (
    Circle,
    Highlight,
    find_highlight,
    find_known_spheres,
    find_sphere,
    find_spheres,
    mirrored,
    reflect_highlight,
    share_outside,
    sphere_light_direction,
    sphere_position,
)
from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.models import AffineCamera, PinholeCamera, Plane

FloatArray = NDArray[np.float64]
VIEWER = np.array([1.0, -1.0, -1.0])
REPOSITORY = Path(__file__).resolve().parents[2]


def psbox() -> Path:
    for folder in (REPOSITORY / "examples/psbox", REPOSITORY / "../shared/data/photometric/psbox"):
        if (folder / "LightProbe-1" / "ref.JPG").is_file():
            return folder
    pytest.skip("the psbox set is neither in examples/psbox nor in ../shared/data/photometric/psbox")


def angle_deg(a: FloatArray, b: FloatArray) -> float:
    return float(np.degrees(2.0 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))))


def draw(
    shape: tuple[int, int], circle: tuple[float, float, float], background: float, noise: float, seed: int = 0
) -> FloatArray:
    """A dark ball with reflections, a streak and highlights, on a bright stand that hides its foot; lens blur 1 px."""
    rng = np.random.default_rng(seed)
    u0, v0, r = circle
    v, u = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    image = np.full(shape, background, dtype=np.float32) + 0.15 * background * u / shape[1]
    distance = np.hypot(u - u0, v - v0)
    x, y = (u - u0) / r, (v - v0) / r
    ball = 8.0 + 5.0 * (y > 0.15 + 0.2 * x * x) + 60.0 * ((x - 0.45) ** 2 / 0.006 + (y - 0.1) ** 2 / 0.03 < 1)
    ball = ball + 120.0 * np.exp(-((x + 0.1 - 0.1 * y) ** 2) / 0.004) + 247.0 * (np.hypot(x + 0.1, y + 0.05) < 0.06)
    cover = np.clip(r + 0.5 - distance, 0.0, 1.0)
    image = image * (1 - cover) + np.minimum(ball, 255.0) * cover
    image[(v > v0 + 0.82 * r) & (np.abs(u - u0) < 0.8 * r)] = 200.0
    image = cv2.GaussianBlur(image, (0, 0), 1.0) + noise * rng.standard_normal(shape, dtype=np.float32)
    return np.asarray(np.clip(image, 0, 255), dtype=np.float64)


# --- outlines --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [30.0, 75.3, 200.0, 801.5])
@pytest.mark.parametrize("background", [40.0, 180.0])
def test_finds_spheres_of_all_sizes(radius: float, background: float) -> None:
    size = (round(3.2 * radius) + 20, round(3.9 * radius) + 20)
    truth = (1.8 * radius + 0.3, 1.45 * radius + 0.7, radius)
    circle = find_sphere(draw(size, truth, background, noise=2.0))
    assert np.hypot(circle.u - truth[0], circle.v - truth[1]) < 0.3
    assert abs(circle.radius - radius) < 0.3
    assert circle.residual_px < 1.0
    assert 0.6 < circle.support <= 1.0


def test_sphere_cut_by_the_image_border() -> None:
    truth = (60.0, 150.0, 100.0)
    circle = find_sphere(draw((320, 400), truth, 90.0, noise=2.0))
    assert np.hypot(circle.u - truth[0], circle.v - truth[1]) < 0.5
    assert abs(circle.radius - 100.0) < 0.5


@pytest.mark.parametrize("radius", [120.0, 640.0])
def test_full_frame(radius: float) -> None:
    """20 megapixels: the search runs on a reduced picture, the measurement does not."""
    truth = (3801.4, 1502.6, radius)
    half = int(1.5 * radius)
    image = np.full((3648, 5472), 60.0, dtype=np.float32)
    rng = np.random.default_rng(1)
    image += 2.0 * rng.standard_normal(image.shape, dtype=np.float32)
    left, top = 3801 - half, 1502 - half
    part = draw((2 * half, 2 * half), (truth[0] - left, truth[1] - top, radius), 60.0, noise=2.0)
    image[top : top + 2 * half, left : left + 2 * half] = part
    circle = find_sphere(image)
    assert np.hypot(circle.u - truth[0], circle.v - truth[1]) < 0.5
    assert abs(circle.radius - radius) < 0.5


def test_finds_several_spheres_from_left_to_right() -> None:
    image = np.hstack(
        [draw((400, 420), (200.0, 180.0, 90.0), 90.0, 2.0), draw((400, 420), (210.5, 190.0, 120.0), 90.0, 2.0, seed=1)]
    )
    first, second = find_spheres(image, 2)
    assert np.allclose([first.u, first.v, first.radius], [200.0, 180.0, 90.0], atol=0.5)
    assert np.allclose([second.u, second.v, second.radius], [630.5, 190.0, 120.0], atol=0.5)


@pytest.mark.parametrize("kind", ["blank", "noise", "stripes"])
def test_no_sphere(kind: str) -> None:
    image = np.full((300, 400), 50.0)
    if kind == "noise":
        image = image + 10.0 * np.random.default_rng(0).standard_normal(image.shape)
    if kind == "stripes":
        image = image + 40.0 * (np.arange(400) // 20 % 2)
    with pytest.raises(CalibrationError) as caught:
        find_sphere(image)
    assert caught.value.code == "calibration.sphere_not_found"
    assert "0 of 1" in caught.value.message and "400×300" in caught.value.message
    assert "by hand" in caught.value.hint


def test_refuses_colour_and_counts_of_zero() -> None:
    with pytest.raises(InputError, match="3 axes"):
        find_sphere(np.zeros((50, 50, 3)))
    with pytest.raises(InputError, match="0 spheres"):
        find_spheres(np.zeros((50, 50)), 0)


@pytest.mark.parametrize("probe", [1, 2])
def test_psbox_circles(probe: int) -> None:
    """Author's circle: least squares of points clicked on ref.JPG, 0.5 to 3 px off it each."""
    folder = psbox() / f"LightProbe-{probe}"
    reference = read(folder / "ref.JPG")
    x, y, r = np.loadtxt(folder / "circle_data.txt")
    truth = np.array([x - 1.0, reference.shape[0] - y])
    circle = find_sphere(reference)
    assert np.hypot(*(np.array([circle.u, circle.v]) - truth)) < 2.0
    assert abs(circle.radius - r) < 2.0
    # the rim is 8 px wide (out of focus) and its middle lies further out before the dark background of the frames
    circle = find_sphere(np.mean([read(folder / f"Image_{k:02d}.JPG") for k in range(1, 13)], axis=0))
    assert np.hypot(*(np.array([circle.u, circle.v]) - truth)) < 2.0
    assert abs(circle.radius - r) < 0.008 * r


def read(path: Path) -> NDArray[Any]:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert image is not None, path
    return np.asarray(image)


# --- balls that mirror the table -------------------------------------------------------------------------


LAMPS = np.array([[148.5, 0, 51.5], [0, -148.5, 51.5], [-148.5, 0, 51.5], [0, 148.5, 51.5]])


def lit_table(points: FloatArray, ball: FloatArray, radius: float) -> FloatArray:
    """Mean irradiance over the lamps of points on the table, with the shadows of the ball."""
    total = np.zeros(points.shape[:-1])
    for lamp in LAMPS:
        away = np.linalg.norm(lamp - points, axis=-1)
        towards = (lamp - points) / away[..., None]
        along = ((ball - points) * towards).sum(-1)
        shaded = (((ball - points) ** 2).sum(-1) - along**2 < radius**2) & (along > 0)
        total += np.where(shaded, 0.0, -towards[..., 2] * (210.0 / away) ** 2) / len(LAMPS)
    return total


def ball_on_table(camera: Any, ball: FloatArray, radius: float, room: float, seed: int = 0) -> FloatArray:
    """12-bit picture, with noise, of a chrome ball on a matte table at 200 mm that it mirrors; ``room`` lights both."""

    def table(origin: FloatArray, ray: FloatArray) -> FloatArray:
        down = np.where(ray[..., 2] > 1e-3, ray[..., 2], np.nan)
        points = origin + ray * ((200.0 - origin[..., 2]) / down)[..., None]
        seen = np.abs(points[..., :2]).max(-1) < 250.0  # NaN: not seen
        return np.where(seen, 0.12 * (lit_table(points, ball, radius) + room), room)

    grid = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), axis=-1)
    image = np.zeros((camera.height, camera.width))
    for du, dv in ((i, j) for i in (-0.25, 0.25) for j in (-0.25, 0.25)):
        origin, ray = camera.rays(grid + np.array([du, dv]))
        off = np.linalg.norm(np.cross(ball - origin, ray), axis=-1)
        point, out = mirrored(origin, ray, ball, radius)
        image += np.where(off < radius, 0.55 * table(point, out), table(origin, ray)) / 4
    electrons = np.clip(cv2.GaussianBlur(image, (0, 0), 0.6) * 10_000, 0, 10_000)
    noise = np.sqrt(electrons / 4 + 2) * np.random.default_rng(seed).normal(size=image.shape)  # of the mean of 4 frames
    return np.asarray((electrons + noise) * 0.4, dtype=np.float64)


@pytest.mark.parametrize("telecentric", [False, True])
@pytest.mark.parametrize("room", [0.0, 0.03, 0.5])
@pytest.mark.parametrize(
    "width", [456, pytest.param(912, marks=pytest.mark.slow), pytest.param(1368, marks=pytest.mark.slow)]
)
def test_outline_of_a_ball_that_mirrors_the_table(width: int, room: float, telecentric: bool) -> None:
    """The border of the mirrored table at 0.72 of the radius is sharper than the rim, but it is not the rim."""
    focal = 20_000 * width / 5472
    camera: Any = PinholeCamera(width, width * 2 // 3, focal, focal, width / 2 - 0.5, width / 3 - 0.5)
    if telecentric:
        camera = AffineCamera.orthographic(width, width * 2 // 3, 54.72 / width)
    ball = np.array([8.0, -4.0, 195.0])
    circle = find_sphere(ball_on_table(camera, ball, 5.0, room))
    edge = camera.project(ball + 5.0 * np.array([[0, 0, 0], [1, 0, 0]]))
    truth = (float(edge[0, 0]), float(edge[0, 1]), float(edge[1, 0] - edge[0, 0]))
    if not telecentric:
        rim = true_outline(ball, 5.0, camera)
        truth = (*rim.mean(axis=0), float(np.linalg.norm(rim - rim.mean(axis=0), axis=1).mean()))
    assert np.hypot(circle.u - truth[0], circle.v - truth[1]) < 0.3
    assert abs(circle.radius - truth[2]) < 0.5


TABLE = Plane(np.array([0.0, 0.0, -1.0]), -200.0)


def test_outline_diameter_and_table_must_agree() -> None:
    camera = PinholeCamera(1368, 912, 5000.0, 5000.0, 683.5, 455.5)
    circle = circle_of(true_outline(np.array([10.0, -5.0, 195.0]), 5.0, camera))
    centre, _, _ = sphere_position(circle, camera, 10.0, TABLE)
    assert np.allclose(centre, (10.0, -5.0, 195.0), atol=2e-3)
    for wrong in (9.5, 12.0):
        with pytest.raises(CalibrationError, match="on the table shows") as caught:
            sphere_position(circle, camera, wrong, TABLE)
        assert caught.value.code == "calibration.sphere_size"
        assert "the image says 10.00 mm" in caught.value.hint
    inner = Circle(circle.u, circle.v, 0.72 * circle.radius)  # the mirrored table's border, taken for the rim
    with pytest.raises(CalibrationError, match=r"-2\d\.\d%") as caught:
        sphere_position(inner, camera, 10.0, TABLE)
    telecentric = AffineCamera.orthographic(5472, 3648, 0.01)
    with pytest.raises(CalibrationError) as caught:
        sphere_position(Circle(2000.0, 1500.0, 500.0), telecentric, 11.0, TABLE)
    assert caught.value.code == "calibration.sphere_size"


def test_known_size_picks_the_ball_out() -> None:
    """A round tray is larger than the ball and as sharp; camera, table and diameter say which circle is the ball."""
    camera = PinholeCamera(600, 400, 2200.0, 2200.0, 299.5, 199.5)
    v, u = np.mgrid[:400, :600]
    image = np.where(np.hypot(u - 300, v - 200) < 130, 90.0, 40.0)
    image = np.where(np.hypot(u - 290, v - 210) < 56.4, 8.0, image)
    image = cv2.GaussianBlur(image, (0, 0), 1.0) + np.random.default_rng(0).normal(size=image.shape)
    found = find_known_spheres(image, 1, camera, TABLE, 10.0)[0]
    assert (found.u, found.v, found.radius) == pytest.approx((290, 210, 56.4), abs=0.4)


def test_share_outside() -> None:
    assert share_outside(Circle(50.0, 50.0, 20.0), (100, 100)) == 0.0
    assert share_outside(Circle(0.0, 50.0, 20.0), (100, 100)) == pytest.approx(0.5, abs=0.01)


# --- highlights ------------------------------------------------------------------------------------------


def blob(dtype: str, level: float, centre: tuple[float, float], radius: float, base: float = 10.0) -> NDArray[Any]:
    v, u = np.mgrid[:200, :240]
    image = np.full((200, 240), base)
    image[np.hypot(u - centre[0], v - centre[1]) <= radius] = level
    return image.astype(dtype)


DISC = Circle(110.0, 95.0, 80.0)


@pytest.mark.parametrize(("dtype", "level", "saturation"), [("uint8", 255, None), ("uint16", 4095, 4000.0)])
def test_saturated_highlight(dtype: str, level: float, saturation: float | None) -> None:
    found = find_highlight(blob(dtype, level, (130.0, 80.0), 6.0), DISC, saturation)
    assert (found.u, found.v) == pytest.approx((130.0, 80.0), abs=0.04)
    assert np.hypot(found.u - 110, found.v - 95) > 25.0  # mean of normals: further out than the image's centroid
    assert 0.02 <= found.sigma_px < 0.1
    assert found.saturated and not found.warning
    assert found.area_px == 113


def test_streaks_do_not_pull_the_centre() -> None:
    image = blob("uint8", 255, (130.0, 80.0), 8.0)
    image[80:130, 129:132] = 255
    found = find_highlight(image, DISC)
    assert (found.u, found.v) == pytest.approx((130.0, 80.0), abs=0.4)


def test_unsaturated_highlight_is_weighted() -> None:
    v, u = np.mgrid[:200, :240]
    image = 20.0 + 150.0 * np.exp(-((u - 130.4) ** 2 + (v - 80.7) ** 2) / 50.0)
    found = find_highlight(image, DISC, saturation=250.0)
    assert (found.u, found.v) == pytest.approx((130.4, 80.7), abs=0.05)
    assert not found.saturated


@pytest.mark.parametrize("radius", [3.0, 5.0, 9.0])
def test_bayer_highlight_to_a_few_hundredths(radius: float) -> None:
    """A lobe that saturates green further out than red and blue; even over the sphere's normals, seen through 1/(n·v)."""
    rng = np.random.default_rng(0)
    v, u = np.mgrid[:200, :240]
    filters = np.where((u + v) % 2 == 1, 1.0, np.where(u % 2 == 0, 0.72, 0.63))
    errors = []
    for _ in range(12):
        spot = np.array([140.0, 75.0]) + rng.uniform(-1, 1, 2)
        x, y = (u - DISC.u) / DISC.radius, (v - DISC.v) / DISC.radius
        z = np.sqrt(np.maximum(1 - x * x - y * y, 1e-3))
        n = np.array([*((spot - (DISC.u, DISC.v)) / DISC.radius), 0.0])
        n[2] = np.sqrt(1 - n @ n)
        lobe = np.exp(-2 * (1 - np.minimum(x * n[0] + y * n[1] + z * n[2], 1)) / (radius / DISC.radius) ** 2 * 1.5) / z
        image = rng.poisson(np.minimum(9000 * lobe * filters + 40, 1e5)) * 0.4
        found = find_highlight(np.clip(np.rint(image), 0, 4095).astype(np.uint16), DISC, 4013.0)
        errors.append(np.array([found.u, found.v]) - spot)
        assert np.linalg.norm(errors[-1]) < 4 * found.sigma_px
    assert np.std(errors, axis=0).max() < 0.02  # from place to place on the mosaic
    assert np.sqrt(np.mean(np.square(errors))) < (0.03 if radius < 6 else 0.1)


def test_warns_of_a_highlight_too_large() -> None:
    found = find_highlight(blob("uint8", 255, (115.0, 95.0), 30.0), DISC)
    assert "radii wide" in found.warning and "shorten the exposure" in found.warning
    assert found.sigma_px > 0.1


def test_warns_of_a_second_highlight() -> None:
    image = np.maximum(blob("uint8", 255, (130.0, 80.0), 6.0), blob("uint8", 255, (80.0, 110.0), 5.0))
    assert "second highlight of 81 px" in find_highlight(image, DISC).warning


@pytest.mark.parametrize(
    ("image", "code", "words"),
    [
        (blob("uint8", 10, (130.0, 80.0), 6.0), "calibration.highlight_missing", "0.0 DN above its median of 10.0"),
        (blob("uint8", 255, (110.0, 95.0), 60.0), "calibration.overexposed", "56% of the sphere is saturated"),
        (blob("uint8", 255, (187.5, 95.0), 2.0), "calibration.highlight_on_rim", "at most 0.95"),
        (blob("uint8", 255, (230.0, 20.0), 6.0), "calibration.highlight_missing", "DN above"),
    ],
)
def test_highlight_faults(image: NDArray[Any], code: str, words: str) -> None:
    with pytest.raises(CalibrationError, match=words) as caught:
        find_highlight(image, DISC)
    assert caught.value.code == code
    assert caught.value.hint


def test_highlight_input_faults() -> None:
    with pytest.raises(InputError, match="saturation is not given"):
        find_highlight(np.zeros((200, 240)), DISC)
    with pytest.raises(InputError, match="does not lie in the image"):
        find_highlight(np.zeros((200, 240), np.uint8), Circle(900.0, 95.0, 80.0))


# --- mirror law ------------------------------------------------------------------------------------------


def mirror_point(centre: FloatArray, radius: float, viewer: FloatArray, source: FloatArray) -> FloatArray:
    """Where a sphere mirrors ``source`` into ``viewer`` (Alhazen), both in one plane with the centre: by bisection."""
    a, b = viewer - centre, source - centre
    e1 = a / np.linalg.norm(a)
    e2 = b - (b @ e1) * e1
    e2 /= np.linalg.norm(e2)
    opening = np.arctan2(b @ e2, b @ e1)

    def point(t: float) -> FloatArray:
        return np.asarray(centre + radius * (np.cos(t) * e1 + np.sin(t) * e2))

    def imbalance(t: float) -> float:
        p = point(t)
        n = (p - centre) / radius
        to_viewer, to_source = viewer - p, source - p
        return float(n @ to_viewer / np.linalg.norm(to_viewer) - n @ to_source / np.linalg.norm(to_source))

    return point(brentq(imbalance, 0.0, opening, xtol=1e-15))


def true_outline(centre: FloatArray, radius: float, camera: PinholeCamera) -> FloatArray:
    """(360, 2) pixels of the circle in which the tangent cone from the camera's centre touches the sphere."""
    distance = np.linalg.norm(centre)
    axis = centre / distance
    across = np.linalg.svd(axis[None])[2][1:]
    t = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    middle = centre * (1 - radius**2 / distance**2)
    ring = radius * np.sqrt(1 - radius**2 / distance**2)
    return camera.project(middle + ring * (np.cos(t)[:, None] * across[0] + np.sin(t)[:, None] * across[1]))


def circle_of(points: FloatArray) -> Circle:
    """A circle with a rim, from exact outline points."""
    (u, v), radius = points.mean(axis=0), float(np.linalg.norm(points - points.mean(axis=0), axis=1).mean())
    return Circle(float(u), float(v), radius, rim=points)


def test_orthographic_mirror_law() -> None:
    rng = np.random.default_rng(0)
    circle = Circle(400.0, 300.0, 250.0)
    for _ in range(50):
        light = rng.normal(size=3) * (1, 1, 0.3) + (0, 0, 0.6)
        light[2] = abs(light[2])
        light /= np.linalg.norm(light)
        normal = light + np.array([0.0, 0.0, 1.0])
        normal /= np.linalg.norm(normal)
        highlight = bright(400.0 + 250.0 * normal[0], 300.0 - 250.0 * normal[1])
        assert np.allclose(sphere_light_direction(circle, highlight), light, atol=1e-12)


def bright(u: float, v: float) -> Highlight:
    return Highlight(u, v, 100, True)


@pytest.mark.parametrize("distortion", [(0.0,) * 5, (-0.12, 0.05, 1e-3, -5e-4, 0.0)])
@pytest.mark.parametrize("centre", [(0.0, 0.0, 200.0), (22.0, -15.0, 194.0)])
def test_pinhole_mirror_law(distortion: Any, centre: tuple[float, float, float]) -> None:
    camera = PinholeCamera(5472, 3648, 20000.0, 20010.0, 2740.0, 1820.0, distortion)
    middle, radius = np.array(centre), 6.0
    source = np.array([140.0, -90.0, 20.0])
    point = mirror_point(middle, radius, np.zeros(3), source)
    circle = circle_of(true_outline(middle, radius, camera))
    reflection = reflect_highlight(circle, bright(*camera.project(point)), camera, diameter_mm=12.0)
    truth = (source - point) / np.linalg.norm(source - point) * VIEWER
    assert np.allclose(reflection.centre, middle, atol=1e-4)
    assert np.allclose(reflection.point, point, atol=1e-4)
    assert angle_deg(reflection.direction, truth) < 1e-3
    assert reflection.unit == "mm" and reflection.radius == 6.0
    scale_free = reflect_highlight(circle, bright(*camera.project(point)), camera)
    assert scale_free.unit == "radius"
    assert np.allclose(scale_free.centre, middle / radius, atol=1e-4)
    assert angle_deg(scale_free.direction, truth) < 1e-3


def test_circle_by_hand_approximates_the_ellipse() -> None:
    """Without rim points the perspective ellipse is taken for its mean circle; it matters little 7° off the axis."""
    camera = PinholeCamera(5472, 3648, 20000.0, 20000.0, 2735.5, 1823.5)
    middle = np.array([22.0, -10.0, 194.0])
    circle = circle_of(true_outline(middle, 6.0, camera))
    centre, _, _ = sphere_position(Circle(circle.u, circle.v, circle.radius), camera, 12.0)
    assert np.allclose(centre, middle, atol=0.03)


def test_telecentric_sphere_on_the_table() -> None:
    camera = AffineCamera.orthographic(5472, 3648, 0.01)
    table = Plane(np.array([0.0, 0.0, -1.0]), -200.0)
    u, v = camera.project(np.array([5.0, -3.0, 0.0]))
    centre, radius, unit = sphere_position(Circle(float(u), float(v), 600.0), camera, None, table)
    assert np.allclose(centre, (5.0, -3.0, 194.0), atol=1e-9)
    assert radius == pytest.approx(6.0) and unit == "mm"
    reflection = reflect_highlight(Circle(float(u), float(v), 600.0), bright(float(u), float(v)), camera, table=table)
    assert np.allclose(reflection.direction, (0, 0, 1))
    assert np.allclose(reflection.point, (5.0, -3.0, 188.0))


def test_ray_traced_picture_through_a_lens() -> None:
    """From pixels to a direction: a ball in front of a grey wall, traced pixel by pixel, 7° off the axis."""
    camera = PinholeCamera(1368, 912, 5000.0, 5000.0, 683.5, 455.5, (-0.1, 0.0, 0.0, 0.0, 0.0))
    middle, radius, source = np.array([19.0, -9.0, 194.0]), 6.0, np.array([100.0, -120.0, 40.0])
    grid = np.stack(np.meshgrid(np.arange(1368.0), np.arange(912.0)), axis=-1)
    image = np.zeros((912, 1368))
    shifts = [(i + 0.5) / 3 - 0.5 for i in range(3)]
    for du in shifts:
        for dv in shifts:
            image += trace(camera.rays(grid + np.array([du, dv]))[1], middle, radius, source) / 9.0
    image = np.clip(image + np.random.default_rng(0).normal(size=image.shape), 0, 255).astype(np.uint8)
    circle = find_sphere(image)
    reflection = reflect_highlight(circle, find_highlight(image, circle), camera, diameter_mm=12.0)
    point = mirror_point(middle, radius, np.zeros(3), source)
    truth = (source - point) / np.linalg.norm(source - point) * VIEWER
    assert np.linalg.norm(reflection.centre[:2] - middle[:2]) < 0.02
    assert abs(reflection.centre[2] - middle[2]) < 0.5
    assert angle_deg(reflection.direction, truth) < 0.2


def trace(rays: FloatArray, centre: FloatArray, radius: float, source: FloatArray) -> FloatArray:
    """Radiance of rays from the origin: a wall of 70 DN, a mirror ball in a dark room with one lamp of 3 mm."""
    along = rays @ centre
    under = radius**2 - (centre @ centre - along**2)
    hit = under > 0
    point = rays * (along - np.sqrt(np.where(hit, under, 0.0)))[..., None]
    normal = (point - centre) / radius
    out = rays - 2.0 * np.einsum("...i,...i->...", rays, normal)[..., None] * normal
    to_source = source - point
    miss = np.linalg.norm(np.cross(out, to_source), axis=-1)
    lamp = (miss < 3.0) & (np.einsum("...i,...i->...", out, to_source) > 0)
    room = 12.0 + 6.0 * np.clip(-out[..., 2], 0, 1)
    return np.where(hit, np.where(lamp, 255.0, room), 70.0)


def test_mirror_faults() -> None:
    with pytest.raises(CalibrationError, match=r"1\.200 radii") as caught:
        reflect_highlight(Circle(100.0, 100.0, 50.0), bright(160.0, 100.0))
    assert caught.value.code == "calibration.highlight_on_rim"
    with pytest.raises(InputError, match="-3 mm"):
        reflect_highlight(Circle(100.0, 100.0, 50.0), bright(100.0, 100.0), diameter_mm=-3)


@pytest.mark.parametrize("probe", [1, 2])
def test_psbox_directions(probe: int) -> None:
    folder = psbox() / f"LightProbe-{probe}"
    frames = [read(folder / f"Image_{k:02d}.JPG") for k in range(1, 13)]
    circle = find_sphere(np.mean(frames, axis=0))
    author = np.loadtxt(folder / "light_directions.txt").T
    errors = [
        angle_deg(sphere_light_direction(circle, find_highlight(f, circle, 250.0)), a)
        for f, a in zip(frames, author, strict=True)
    ]
    assert np.mean(errors) < 0.6  # 0.42 and 0.37 when written; the bar is 1.0
    assert np.max(errors) < 1.3  # 0.64 and 0.90; the bar is 2.5
