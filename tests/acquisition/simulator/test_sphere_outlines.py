"""Outlines of spheres: the closed form against OpenCV, and the sphere finder against the closed form."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.acquisition.simulator.sphere_outlines import sphere_contour, sphere_outlines
from rakelight.acquisition.simulator.targets import get_target
from rakelight.calibration.outlines import find_spheres
from rakelight.errors import InputError

FloatArray = NDArray[np.float64]
EYE = np.array([0.0, 0.0, 200.0])
WIDTH, HEIGHT = 456, 304
F, CX, CY = 20_000.0 * WIDTH / 5472, (WIDTH - 1) / 2, (HEIGHT - 1) / 2
LATTICE = [((k + 0.5) / 5 - 0.5, ((2 * k + 0.5) / 5) % 1 - 0.5) for k in range(5)]  # points of a pixel


def test_outline_agrees_with_projected_contour() -> None:
    """The conic, the tangent circle projected by OpenCV, and the tangency of its rays say the same."""
    matrix = np.array([[5000.0, 0, 2731.2], [0, 5300.0, 1804.9], [0, 0, 1]])
    centres = np.array([[0.0, 0.0, 195.0], [22.0, -14.0, 195.0], [-60.0, 40.0, 90.0]])
    outlines = sphere_outlines(centres, 5.0, fx=5000.0, fy=5300.0, cx=2731.2, cy=1804.9)
    for centre, outline in zip(centres, outlines, strict=True):
        contour = sphere_contour(centre, 5.0)
        np.testing.assert_allclose(np.linalg.norm(contour - centre, axis=1), 5.0, rtol=1e-12)
        np.testing.assert_allclose(np.einsum("ij,ij->i", contour - centre, contour), 0.0, atol=1e-9)
        uv = cv2.projectPoints(contour, np.zeros(3), np.zeros(3), matrix, None)[0][:, 0]
        angle = np.radians(outline.angle_deg)
        axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        a, b = ((uv - (outline.u, outline.v)) @ axes.T / (outline.semi_major, outline.semi_minor)).T
        np.testing.assert_allclose(a * a + b * b, 1.0, atol=1e-8)
        assert outline.semi_major >= outline.radius >= outline.semi_minor


def test_outline_on_the_axis_is_a_circle() -> None:
    (outline,) = sphere_outlines([[0.0, 0.0, 195.0]], 5.0, fx=5000.0, fy=5000.0, cx=10.0, cy=20.0)
    radius = 5000.0 * 5.0 / np.sqrt(195.0**2 - 25.0)
    np.testing.assert_allclose([outline.u, outline.v, outline.semi_major, outline.semi_minor], [10, 20, radius, radius])
    assert outline.angle_deg == 0.0
    np.testing.assert_allclose(np.hypot(*(outline.points(36) - [10, 20]).T), radius)


def unit(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def viewing_rays(du: float, dv: float) -> FloatArray:
    """(H, W, 3) unit directions, viewer axes, through a point of each pixel."""
    across, down = np.meshgrid((np.arange(WIDTH) + du - CX) / F, (np.arange(HEIGHT) + dv - CY) / F)
    return unit(np.stack([across, -down, -np.ones_like(across)], axis=-1))


def chrome_picture(centres: FloatArray) -> FloatArray:
    """Mean over four lights of black spheres with round highlights on a table of 0.12 with the spheres' cast shadows."""
    image = np.mean([chrome_samples(centres, viewing_rays(du, dv)) for du, dv in LATTICE], axis=0)
    image = cv2.GaussianBlur(image, (0, 0), 0.6)
    return np.asarray(image + 0.001 * np.random.default_rng(0).standard_normal(image.shape))


def chrome_samples(centres: FloatArray, rays: FloatArray) -> FloatArray:
    distance, nearest = first_hit(EYE, rays, centres)
    on = np.isfinite(distance)
    points = EYE + np.where(on, distance, -EYE[2] / rays[..., 2])[..., None] * rays
    normals = np.where(on[..., None], (points - centres[nearest]) / 5.0, [0.0, 0.0, 1.0])
    total = np.zeros(on.shape)
    for azimuth in np.radians([0, 90, 180, 270]):
        light = 210 * np.sqrt(0.5) * np.array([np.cos(azimuth), np.sin(azimuth), 1.0])
        to_light = light - points
        length = np.linalg.norm(to_light, axis=-1, keepdims=True)
        to_light /= length
        lit = ~np.isfinite(first_hit(points + 1e-6 * normals, to_light, centres)[0])
        half = to_light - rays
        cosine = np.einsum("...i,...i", normals, half) / np.linalg.norm(half, axis=-1)
        shade = np.einsum("...i,...i", normals, to_light).clip(0) * (210 / length[..., 0]) ** 2
        total += lit * np.where(on, (cosine > np.cos(0.1)) * 2.0, 0.12 * shade)
    return np.asarray(total / 4)


def first_hit(origin: FloatArray, rays: FloatArray, centres: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
    """Distance along unit rays to the first sphere of 5 mm (infinite past all of them), and its number."""
    hits = []
    for centre in centres:
        offset = centre - origin
        along = np.einsum("...i,...i", offset, rays)
        inside = along**2 - (offset**2).sum(axis=-1) + 25.0
        reach = along - np.sqrt(np.maximum(inside, 0))
        hits.append(np.where((inside > 0) & (reach > 0), reach, np.inf))
    return np.min(hits, axis=0), np.argmin(hits, axis=0)


@pytest.mark.parametrize("count", [2, 3])
def test_sphere_finder_finds_the_true_outlines(count: int) -> None:
    kind = get_target("chrome_spheres", count=count)
    pose = kind.default_pose(np.random.default_rng(count))
    centres = np.array(kind.facts["centres_mm"]) @ pose.rotation.T + pose.shift_mm
    outlines = sphere_outlines((centres - EYE) * [1, -1, -1], 5.0, fx=F, fy=F, cx=CX, cy=CY)
    found = find_spheres(chrome_picture(centres), count)
    for circle, outline in zip(found, sorted(outlines, key=lambda o: o.u), strict=True):
        assert np.hypot(circle.u - outline.u, circle.v - outline.v) < 0.1
        assert abs(circle.radius - outline.radius) < 0.1


@pytest.mark.parametrize(("centre", "radius", "says"), [([0, 0, 4], 5, "not wholly before"), ([0, 0, 9], 0, "radius")])
def test_outline_of_impossible_spheres(centre: list[float], radius: float, says: str) -> None:
    with pytest.raises(InputError, match=says):
        sphere_outlines([centre], radius, fx=1.0, fy=1.0, cx=0.0, cy=0.0)
    with pytest.raises(InputError, match=says):
        sphere_contour(centre, radius)
