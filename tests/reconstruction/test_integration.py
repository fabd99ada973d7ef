"""Integration against closed forms, the sparse least-squares solution, noise theory, and bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse.linalg import lsqr

from rakelight.errors import InputError
from rakelight.reconstruction.integration import integrate_dct, integrate_normals

Float32 = NDArray[np.float32]


def grid(rows: int, cols: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x right and y up."""
    x, row = np.meshgrid(np.arange(cols, dtype=float), np.arange(rows, dtype=float))
    return x, -row


def quadratic(rows: int, cols: int) -> tuple[NDArray[np.float64], Float32, Float32]:
    """Tilted, not periodic, different in all directions."""
    x, y = grid(rows, cols)
    z = 0.3 * x - 0.2 * y + 2e-3 * x * x - 1e-3 * x * y + 1.5e-3 * y * y
    p, q = 0.3 + 4e-3 * x - 1e-3 * y, -0.2 - 1e-3 * x + 3e-3 * y
    return z - z.mean(), p.astype(np.float32), q.astype(np.float32)


@pytest.mark.parametrize("shape", [(96, 160), (97, 61), (2, 50), (50, 2), (1, 40), (40, 1)])
def test_quadratic_surface_is_exact(shape: tuple[int, int]) -> None:
    z, p, q = quadratic(*shape)
    assert np.abs(integrate_dct(p, q) - z).max() < 2e-6 * max(1.0, float(np.ptp(z))) + 1e-5


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(2, 9), cols=st.integers(2, 9), seed=st.integers(0, 2**31))
def test_it_is_the_least_squares_minimiser(rows: int, cols: int, seed: int) -> None:
    """Of the stated sum, also for slopes that belong to no surface: compared with a sparse solver."""
    p, q = np.random.default_rng(seed).normal(size=(2, rows, cols)).astype(np.float32)
    index = np.arange(rows * cols).reshape(rows, cols)
    ahead = np.r_[index[:, 1:].ravel(), index[:-1].ravel()]  # right neighbour; the upper pixel of each vertical pair
    behind = np.r_[index[:, :-1].ravel(), index[1:].ravel()]
    steps = np.r_[(p[:, 1:] + p[:, :-1]).ravel(), (q[1:] + q[:-1]).ravel()] / 2
    edges = np.arange(steps.size)
    matrix = scipy.sparse.coo_matrix(
        (np.r_[np.ones(steps.size), -np.ones(steps.size)], (np.r_[edges, edges], np.r_[ahead, behind]))
    ).tocsr()
    expected = lsqr(matrix, steps.astype(np.float64), atol=1e-12, btol=1e-12)[0].reshape(rows, cols)
    np.testing.assert_allclose(integrate_dct(p, q), expected - expected.mean(), atol=2e-5)


def test_up_in_the_image_is_positive_y() -> None:
    height = integrate_dct(np.zeros((5, 4), np.float32), np.ones((5, 4), np.float32))
    np.testing.assert_allclose(height[:, 0], [2, 1, 0, -1, -2], atol=1e-6)


def test_pitch_turns_pixels_into_millimetres() -> None:
    z, p, q = quadratic(30, 40)
    np.testing.assert_allclose(integrate_dct(p, q, pitch_mm=0.01), 0.01 * z, atol=1e-6)


def test_sphere_from_normals() -> None:
    radius, rows, cols = 400.0, 201, 301
    x, y = np.arange(cols) - 150.0, 100.0 - np.arange(rows)[:, None]
    z = np.sqrt(radius**2 - x**2 - y**2)
    normals = np.moveaxis(np.stack(np.broadcast_arrays(x, y, z)) / radius, 0, -1).astype(np.float32)
    error = integrate_normals(normals) - (z - z.mean())
    assert np.abs(error).max() < 5e-3 and np.ptp(z) > 40


def test_noise_grows_only_with_the_logarithm_of_the_size() -> None:
    """White slope noise of σ gives a height noise of about σ √(ln N / 2π), not a random walk."""
    rng = np.random.default_rng(1)
    z, p, q = quadratic(256, 256)
    noise = rng.normal(0, 0.01, (2, 256, 256)).astype(np.float32)
    error = integrate_dct(p + noise[0], q + noise[1]) - z
    assert 0.3 * 0.01 < error.std() < 2 * 0.01


def test_gaps_stay_nan_and_count_as_flat() -> None:
    z, p, q = quadratic(60, 80)
    p, q = p * 0.1, q * 0.1
    holed_p, holed_q = p.copy(), q.copy()
    holed_p[20:23, 30:33] = np.nan
    holed_q[50, 60] = np.nan
    got = integrate_dct(holed_p, holed_q)
    gap = np.isnan(holed_p) | np.isnan(holed_q)
    assert np.array_equal(np.isnan(got), gap) and abs(float(np.nanmean(got))) < 1e-5
    flat_p, flat_q = np.nan_to_num(holed_p), np.nan_to_num(holed_q)
    flat = integrate_dct(flat_p, flat_q)
    np.testing.assert_allclose(got[~gap], (flat - flat[~gap].mean())[~gap], atol=1e-5)
    assert np.nanstd(got - 0.1 * z) < 0.02 * np.ptp(0.1 * z)  # a small gap spoils little


def test_a_part_on_a_background_without_normals() -> None:
    """A dome that ends level: the background counts as flat, so the dome keeps its height."""
    x, y = np.arange(200) - 100.0, 100.0 - np.arange(200)[:, None]
    r2 = (x**2 + y**2) / 60.0**2
    inside = r2 < 1
    z = np.where(inside, 10 * (1 - r2) ** 2, 0)
    p, q = (np.where(inside, -40 * (1 - r2) * (axis / 3600.0), np.nan).astype(np.float32) for axis in (x, y))
    got = integrate_dct(p, q)
    assert np.array_equal(np.isnan(got), ~inside)
    assert np.abs(got[inside] - (z[inside] - z[inside].mean())).max() < 0.02


def test_inputs_are_left_alone() -> None:
    _, p, q = quadratic(20, 30)
    before = p.copy(), q.copy()
    integrate_dct(p, q)
    assert np.array_equal(p, before[0]) and np.array_equal(q, before[1])


def test_bad_input_is_named() -> None:
    flat = np.zeros((4, 5), np.float32)
    for p, q, pitch, code, message in (
        (flat.astype(np.float64), flat, None, "input.dtype", "p has dtype float64"),
        (flat, flat[0], None, "input.shape", "q has 1 axes"),
        (flat, flat[:3], None, "input.shape", "slopes p and q: item 2"),
        (flat, flat, -0.1, "integration.pitch", "pitch_mm is -0.1"),
        (flat * np.nan, flat, None, "integration.empty", "none of the 20 pixels"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            integrate_dct(p, q, pitch_mm=pitch)
        assert caught.value.code == code


def test_benchmark_prints_one_json_object() -> None:
    pytest.importorskip("resource", reason="the benchmark measures memory through a POSIX module")
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "integration.py"
    command = [sys.executable, str(script), "--rows", "96", "--cols", "128", "--repeats", "1"]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert result["quadratic"]["rms_error_px"] < 1e-4 and result["passed"] is True
