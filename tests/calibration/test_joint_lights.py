"""Rays from spheres and shading of white planes in one fit: errors, what they say of themselves, and contradictions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq

from rakelight.calibration.highlights import Highlight
from rakelight.calibration.joint_lights import JointLights, SphereRays, fit_joint_lights, sphere_rays, start_positions
from rakelight.calibration.near_sources import fit_near_source
from rakelight.calibration.outlines import Circle
from rakelight.calibration.plane_samples import PlaneSamples
from rakelight.reconstruction.models import VIEWER, PinholeCamera, Plane

FloatArray = NDArray[np.float64]
CAMERA = PinholeCamera(912, 608, 3333.0, 3333.0, 457.9, 301.9)
TABLE = Plane(np.array([0.0, 0.0, -1.0]), -200.0)
SOURCES = np.array([[148.5, 0, 51.5], [6.0, -140, 45.0], [-150.0, 4, 60.0], [0, 150, 51.5]])
POWERS = np.array([1.0, 0.92, 1.06, 0.97])
BALLS = np.array([[-15.0, 5.5, 195.0], [0.0, -7.0, 195.0], [15.0, 5.5, 195.0]])
RADIUS = 5.0
ZONES = (1, 2, 3, 4)


def mirror_point(ball: FloatArray, source: FloatArray) -> FloatArray:
    """Where the ball mirrors the source into the camera's centre, in the plane of all three, by bisection."""
    e1 = -ball / np.linalg.norm(ball)
    e2 = source - ball - ((source - ball) @ e1) * e1
    e2 /= np.linalg.norm(e2)

    def at(t: float) -> tuple[FloatArray, FloatArray]:
        n = np.cos(t) * e1 + np.sin(t) * e2
        return n, ball + RADIUS * n

    def imbalance(t: float) -> float:
        n, p = at(t)
        return float(n @ (-p) / np.linalg.norm(p) - n @ (source - p) / np.linalg.norm(source - p))

    return at(brentq(imbalance, 0.0, 1.2, xtol=1e-14))[1]


def rays(noise_px: float, seed: int, shift_mm: float = 0.0) -> list[SphereRays]:
    """What three balls show, their outlines and highlights with noise; ``shift_mm`` puts the balls wrongly."""
    rng = np.random.default_rng(seed)
    out = []
    for ball in BALLS:
        pixels = [CAMERA.project(mirror_point(ball, s)) + noise_px * rng.normal(size=2) for s in SOURCES]
        highlights = [Highlight(float(u), float(v), 100, True, "", noise_px) for u, v in pixels]
        u, v = CAMERA.project(ball)
        centre = ball + (shift_mm, 0.0, 0.0) + rng.normal(size=3) * (0.003, 0.003, 0.05)
        out.append(sphere_rays(Circle(float(u), float(v), 85.0), highlights, CAMERA, centre, RADIUS, TABLE))
    return out


def plane(noise: float, seed: int, height_mm: float = 0.0, said_mm: float | None = None) -> PlaneSamples:
    """Log shading of 20 × 14 blocks with something in common, ``noise`` relative; the plane may lie elsewhere than said."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[8:600:14j, 12:900:20j]
    origins, directions = CAMERA.rays(np.stack([u, v], axis=-1).reshape(-1, 2))
    truth = Plane(TABLE.normal, TABLE.offset_mm + height_mm)
    towards = SOURCES[:, None] - truth.intersect(origins, directions)
    logs = np.log(POWERS[:, None] * (towards @ truth.normal) / np.linalg.norm(towards, axis=-1) ** 3)
    logs += 0.3 * np.cos(u.ravel() / 400) * np.cos(v.ravel() / 300) + noise * rng.normal(size=logs.shape)
    said = Plane(TABLE.normal, TABLE.offset_mm + (height_mm if said_mm is None else said_mm))
    return PlaneSamples(
        ZONES, said.intersect(origins, directions), said.normal, logs, np.full(logs.shape, max(noise, 1e-6))
    )


def start() -> FloatArray:
    return SOURCES + np.random.default_rng(5).normal(size=SOURCES.shape) * 8.0


def largest(found: JointLights) -> float:
    return float(np.linalg.norm(found.positions - SOURCES, axis=1).max())


def test_together_they_are_better_than_either() -> None:
    spheres, samples = rays(0.03, 0), plane(5e-4, 0)
    both = fit_joint_lights(spheres, [samples], start(), ZONES)
    alone = fit_joint_lights(spheres, [], start(), ZONES)
    assert both.plane is not None and both.powers is not None and alone.powers is None and alone.plane is None
    assert largest(both) < 0.5 < 4 * largest(alone)
    sizes = [np.sqrt(np.trace(fit.covariances[0])) for fit in (both, alone)]
    assert sizes[0] < 0.3 * min(sizes[1], np.sqrt(np.trace(both.plane.position_covariance(0))))
    assert np.allclose(both.powers, POWERS / POWERS.mean(), rtol=0.003)
    assert not both.warnings and np.nanmax(both.apart_sigmas) < 4.0
    assert np.isnan(alone.apart_mm).all()


def test_covariances_hold_over_many_draws() -> None:
    """Squared errors in the covariances are χ² of 3: mean 3."""
    nees = []
    for seed in range(8):
        found = fit_joint_lights(rays(0.04, seed), [plane(1e-3, seed)], start(), ZONES)
        for off, spread in zip(found.positions - SOURCES, found.covariances, strict=True):
            nees.append(off @ np.linalg.solve(spread, off))
    assert 1.5 < np.mean(nees) < 4.5


def test_a_shift_of_the_spheres_is_told_by_the_plane() -> None:
    found = fit_joint_lights(rays(0.02, 1, shift_mm=0.4), [plane(2e-4, 1, 0.0), plane(2e-4, 2, 10.0)], start(), ZONES)
    assert len(found.warnings) >= 2
    assert any(w.startswith("zone 1: spheres and white plane put the light") for w in found.warnings)
    assert np.nanmax(found.apart_mm) > 5.0


def test_a_plane_at_another_height_than_said_is_told() -> None:
    good = fit_joint_lights(rays(0.02, 1), [plane(2e-4, 1, 10.0)], start(), ZONES)
    wrong = fit_joint_lights(rays(0.02, 1), [plane(2e-4, 1, 10.0, said_mm=0.0)], start(), ZONES)
    assert not good.warnings
    assert any("check the height of the plane" in w for w in wrong.warnings)


def test_one_sphere_and_a_plane() -> None:
    """One sphere gives no distance; the plane does, from a start that only knows the directions."""
    spheres = rays(0.03, 3)[1:2]
    samples = [plane(3e-4, 3)]
    away = SOURCES - BALLS[1]
    begin = start_positions(BALLS[1], away / np.linalg.norm(away, axis=1, keepdims=True) * VIEWER, samples)
    assert np.linalg.norm(begin - SOURCES, axis=1).max() < 120.0
    found = fit_joint_lights(spheres, samples, begin, ZONES)
    assert largest(found) < 1.0 and np.isnan(found.apart_mm).all()


def test_noise_that_was_not_declared_widens_the_covariances() -> None:
    noisy = [replace(s, sigma_px=s.sigma_px / 10) for s in rays(0.3, 4)]
    honest = fit_joint_lights(rays(0.3, 4), [], start(), ZONES)
    found = fit_joint_lights(noisy, [], start(), ZONES)
    assert found.sphere_rms > 4.0
    assert np.trace(found.covariances[0]) > 0.3 * np.trace(honest.covariances[0])


@pytest.mark.parametrize("count", [0, 2])
def test_sources_take_over_position_and_covariance(count: int) -> None:
    points = BALLS - (0.0, 0.0, 5.0)
    towards = SOURCES[count] - points
    near = fit_near_source(points, towards / np.linalg.norm(towards, axis=1, keepdims=True) * VIEWER)
    moved = near.moved(SOURCES[count], np.eye(3) * 0.04, points.mean(axis=0))
    assert moved.distance_sigma == pytest.approx(0.2) and moved.determined
    assert moved.distance == pytest.approx(np.linalg.norm(SOURCES[count] - points.mean(axis=0)))
