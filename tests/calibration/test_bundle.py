"""The joint refinement: against the rig that made the corners, and with every fault it must find."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rakelight.calibration import _bundle_model as model
from rakelight.calibration.boards import Board
from rakelight.calibration.bundle import Lens, RigSolution, solve_rig
from rakelight.calibration.depth_uncertainty import depth_uncertainty
from rakelight.calibration.views import View
from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.models import AffineCamera, PinholeCamera, Plane, Projector

BOARD = Board()
NOISE_PX = 0.03
POSES = 8
LENSES: dict[str, Any] = {
    "camera_lens": Lens(("k1", "p1", "p2"), shared_focal=True),
    "projector_lens": Lens(("k1", "p1", "p2")),
    "folds": 2,
}


def load_benchmark() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "rig_calibration.py"
    spec = importlib.util.spec_from_file_location("rig_calibration_benchmark", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rig = load_benchmark()
CAMERA, PROJECTORS = rig.true_rig()
PAIR: list[Projector] = PROJECTORS[:2]


def poses(count: int = POSES, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """The true poses of ``views_of``."""
    out: list[tuple[np.ndarray, np.ndarray]] = rig.board_poses(count, BOARD, np.random.default_rng(seed))
    return out


def views_of(projectors: list[Projector] = PAIR, count: int = POSES, seed: int = 0) -> list[View]:
    views: list[View] = rig.simulated_views(CAMERA, projectors, BOARD, count, NOISE_PX, seed)
    return views


def first_poses(views: list[View], count: int = POSES, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Board poses of views named "pose 1" …, a degree and a millimetre off."""
    true = [poses(count, seed)[int(view.name.split()[1]) - 1] for view in views]
    off = Rotation.from_rotvec([0.01, -0.012, 0.008]).as_matrix()
    return np.array([off @ r for r, _ in true]), np.array([off @ t + (0.1, -0.2, 1.0) for _, t in true])


FIRST_CAMERA = PinholeCamera(CAMERA.width, CAMERA.height, 5030.0, 5030.0, 683.5, 455.5)


def solve(views: list[View], projectors: list[Projector] = PAIR, count: int = POSES, **options: Any) -> RigSolution:
    directions = [p.direction for p in projectors]
    first = first_poses(views, count)
    return solve_rig(views, BOARD, FIRST_CAMERA, first, directions, (912, 1140), **(LENSES | options))


def height_bias_um(solution: RigSolution, projectors: list[Projector] = PAIR) -> float:
    errors = rig.height_errors(solution, CAMERA, projectors)["errors_mm"]
    return float(1e3 * np.abs(errors.mean(axis=(2, 3))).max())


@pytest.fixture(scope="module")
def solved() -> RigSolution:
    return solve(views_of())


# ------------------------------------------------------------------------------------------------------------- the model
@pytest.mark.parametrize("affine", [False, True])
def test_derivatives_are_those_of_the_prediction(affine: bool) -> None:
    rng = np.random.default_rng(0)
    count, boards, projectors = 12, 2, 2
    lens = np.array([[900.0, 910, 320, 240, -0.1, 0.05, 1e-3, -2e-3, 0.01]] * (1 + projectors))
    rotations = Rotation.from_rotvec(rng.normal(0, 0.2, (projectors + boards, 3))).as_matrix()
    shifts = rng.normal(0, 5, (projectors + boards, 3)) + np.array([0.0, 0.0, 200.0])
    sights = np.eye(3)[:2] if affine else None
    if affine:
        lens[0, 4:] = 0
    seen = rng.normal(300, 50, (1 + projectors, count, 2))
    board_mm = np.column_stack([rng.uniform(-15, 15, (count, 2)), np.zeros(count)])
    observed = model.Observations(rng.integers(0, boards, count), board_mm, seen, sights, np.array([1.0, 2.0, 198.0]))
    state = model.State(lens, rotations, shifts)
    along = model.carried(model.predict(state, observed))
    weighting = model.Weighting(np.array([0.3, 0.2, 0.1]), np.array([0.7, 0.4]), along, rng.random((3, count)) < 0.8)
    rows = model.jacobian(model.predict(state, observed), observed, weighting, state.size).toarray()
    for k in range(state.size):
        step = np.zeros(state.size)
        step[k] = 1e-6
        ends = [model.residuals(model.predict(state.moved(s), observed), observed, weighting) for s in (step, -step)]
        numeric = (ends[0] - ends[1]) / 2e-6
        assert np.allclose(rows[:, k], numeric, atol=1e-4 * max(1.0, np.abs(numeric).max())), k


# -------------------------------------------------------------------------------------------------------------- the truth
def test_the_rig_is_found(solved: RigSolution) -> None:
    assert solved.rms_px["all"] == pytest.approx(NOISE_PX * np.sqrt(2), rel=0.08)
    assert solved.held_out_rms_px["all"] < 1.1 * solved.rms_px["all"]
    assert all(s == pytest.approx(NOISE_PX, rel=0.15) for s in solved.sigma_px.values())
    assert max(solved.shared_error.values()) < 0.15  # the noise of projectors here is their own
    assert solved.rejected == () and solved.warnings == ()
    assert min(solved.kept_share.values()) == 1.0
    assert [p.direction for p in solved.projectors] == [1, 2]
    for name, found, true in (
        ("camera", solved.camera, CAMERA),
        *zip(("projector 1", "projector 2"), solved.projectors, PAIR, strict=True),
    ):
        errors = solved.standard_errors[name]
        for key in ("fx", "fy", "cx", "cy"):
            off = getattr(found, key) - getattr(true, key)
            assert abs(off) < 5 * errors[key], (name, key, off, errors[key])
    for found, true in zip(solved.projectors, PAIR, strict=True):
        assert np.linalg.norm(found.centre_mm - true.centre_mm) < 1.0
    assert height_bias_um(solved) < 3.0


def test_standard_errors_are_those_of_repeated_noise() -> None:
    rng = np.random.default_rng(7)
    found = []
    for _ in range(6):
        views = []
        for k, (rotation, translation) in enumerate(poses(6)):
            xyz = BOARD.corners_mm @ rotation.T + translation
            seen = [m.project(xyz) + NOISE_PX * rng.standard_normal((len(xyz), 2)) for m in (CAMERA, *PAIR)]
            views.append(View(f"pose {k + 1}", np.arange(len(xyz)), seen[0], {1: seen[1], 2: seen[2]}))
        found.append(solve(views, count=6))
    for device, key in (("camera", "fx"), ("camera", "cx")):
        spread = np.std([getattr(s.camera, key) for s in found], ddof=1)
        told = np.mean([s.standard_errors[device][key] for s in found])
        assert 0.4 < spread / told < 2.2, (key, spread, told)  # six draws tell it to 30 %


def test_corner_errors_that_projectors_share_are_recognised() -> None:
    """Coordinates read at a wrong place of the image are wrong with it; the rest of their noise is small."""
    rng = np.random.default_rng(3)
    views = []
    for k, (rotation, translation) in enumerate(poses()):
        xyz = BOARD.corners_mm @ rotation.T + translation
        true = CAMERA.project(xyz)
        error = 0.1 * rng.standard_normal(true.shape)
        plane = Plane(
            -np.sign(rotation[2, 2]) * rotation[:, 2], float(-np.sign(rotation[2, 2]) * rotation[:, 2] @ translation)
        )
        moved = plane.intersect(*CAMERA.rays(true + error))
        colrow = {p.direction: p.project(moved) + 0.005 * rng.standard_normal(true.shape) for p in PAIR}
        views.append(View(f"pose {k + 1}", np.arange(len(xyz)), true + error, colrow))
    solution = solve(views)
    assert min(solution.shared_error.values()) > 0.9
    assert solution.sigma_px["camera"] == pytest.approx(0.1, rel=0.15)
    for direction in (1, 2):
        assert solution.sigma_px[f"projector {direction}"] < 0.02
    assert height_bias_um(solution) < 5.0


def test_an_affine_camera_is_found() -> None:
    true = AffineCamera.orthographic(1368, 912, 0.04)
    views = rig.simulated_views(true, PAIR, BOARD, POSES, NOISE_PX, 0)
    rotations, translations = first_poses(views)
    mirror = np.diag([1.0, 1.0, -1.0])
    for k in range(0, POSES, 2):  # such a camera cannot tell which way a board is tilted, nor how far it is
        rotations[k] = mirror @ rotations[k] @ mirror
    translations[:, 2] = 0.0
    first = AffineCamera(1368, 912, np.array([[24.8, 0, 0], [0, 24.8, 0]]), true.offset)
    lens = Lens(("k1",))
    solution = solve_rig(
        views, BOARD, first, (rotations, translations), [1, 2], (912, 1140), projector_lens=lens, folds=2
    )
    assert isinstance(solution.camera, AffineCamera)
    assert np.allclose(solution.camera.matrix, true.matrix, atol=0.01)
    assert solution.rms_px["all"] == pytest.approx(NOISE_PX * np.sqrt(2), rel=0.1)
    assert solution.rejected == ()


# ------------------------------------------------------------------------------------------------------------ the faults
def test_one_corner_12_px_wrong_is_named_and_does_no_harm(solved: RigSolution) -> None:
    views = views_of()
    uv = views[3].uv.copy()
    uv[17] += (7.2, 9.6)
    views[3] = replace(views[3], uv=uv)
    solution = solve(views)
    named = [text for text in solution.rejected if "corner 17 (" in text]
    assert len(named) == 1 and "pose 4, camera" in named[0], solution.rejected
    assert len(solution.rejected) == 1
    assert not solution.kept[3][:, 17].any() and solution.kept[3].sum() == 3 * 53
    assert min(solution.kept_share.values()) > 0.95
    _same(solution, solved)


def test_one_wrong_projector_corner_costs_that_one_only(solved: RigSolution) -> None:
    views = views_of()
    wrong = views[2].colrow[2].copy()
    wrong[5] += (0.0, 12.0)
    views[2] = replace(views[2], colrow={**views[2].colrow, 2: wrong})
    solution = solve(views)
    assert solution.kept[2][:, 5].tolist() == [True, True, False]
    assert "pose 3, projector 2: left out corner 5" in solution.rejected[0]
    _same(solution, solved)


def test_a_view_given_twice_counts_once(solved: RigSolution) -> None:
    views = views_of()
    rng = np.random.default_rng(9)
    twin = replace(views[1], name="pose 2 again", uv=views[1].uv + 0.01 * rng.standard_normal(views[1].uv.shape))
    solution = solve([*views, twin])
    assert solution.rejected == ("pose 2 again is left out: it shows the board where pose 2 does",)
    assert not solution.kept[-1].any() and np.isnan(solution.translations_mm[-1]).all()
    _same(solution, solved, um=0.01)


def test_a_board_that_moved_before_one_projector_loses_that_one() -> None:
    views = _moved({2}, 0.05)
    solution = solve(views, PROJECTORS[:3])
    assert len(solution.rejected) == 1
    assert solution.rejected[0].startswith("pose 5, projector 2: left out, it disagrees with the other directions")
    assert not solution.kept[4][2].any() and solution.kept[4][[0, 1, 3]].all()
    assert height_bias_um(solution, PROJECTORS[:3]) < 3.0


def test_a_board_that_moved_after_the_camera_saw_it_is_left_out() -> None:
    solution = solve(_moved({1, 2, 3}, 0.05), PROJECTORS[:3])
    assert len(solution.rejected) == 1
    assert solution.rejected[0].startswith("pose 5 is left out: camera and projectors do not agree about its board")
    assert not solution.kept[4].any()
    assert height_bias_um(solution, PROJECTORS[:3]) < 3.0


def _moved(directions: set[int], by_mm: float) -> list[View]:
    """Pose 5 lies ``by_mm`` further along x when these directions show their patterns; three projectors."""
    views = views_of(PROJECTORS[:3])
    rotation, translation = poses()[4]
    there = BOARD.corners_mm @ rotation.T + translation + (by_mm, 0, 0)
    colrow = dict(views[4].colrow)
    for projector in PROJECTORS[:3]:
        if projector.direction in directions:
            colrow[projector.direction] = projector.project(there)
    views[4] = replace(views[4], colrow=colrow)
    return views


def _same(solution: RigSolution, other: RigSolution, um: float = 1.0) -> None:
    """Both measure the same heights, to what one corner more or less may do."""
    mine, theirs = (rig.height_errors(s, CAMERA, PAIR)["errors_mm"] for s in (solution, other))
    assert 1e3 * np.sqrt(np.mean((mine - theirs) ** 2)) < um


def test_missing_corners_and_directions_are_no_fault() -> None:
    views = views_of()
    for k, view in enumerate(views):
        some = np.arange(k % 3, len(view.ids), 1 + (k % 2))
        colrow = {d: c[some].copy() for d, c in view.colrow.items()}
        colrow[1][:5] = np.nan
        if k == 2:
            del colrow[2]
        views[k] = replace(view, ids=view.ids[some], uv=view.uv[some], colrow=colrow)
    solution = solve(views)
    assert solution.rejected == () and min(solution.kept_share.values()) == 1.0
    assert not solution.kept[2][2].any() and np.isnan(solution.residuals_px[2][2]).all()
    assert height_bias_um(solution) < 4.0


def test_too_few_views_are_refused() -> None:
    with pytest.raises(CalibrationError, match=r"camera: 2 usable views.*needed: 3") as caught:
        solve(views_of()[:2])
    assert caught.value.code == "calibration.too_few_views"
    views = views_of()
    for k in range(6):
        views[k] = replace(views[k], colrow={1: views[k].colrow[1]})
    with pytest.raises(CalibrationError, match="projector 2: 2 usable views"):
        solve(views)


def test_what_does_not_belong_together_is_refused() -> None:
    views = views_of()
    first = first_poses(views)
    with pytest.raises(InputError, match="for 7 views"):
        solve_rig(views[:7], BOARD, FIRST_CAMERA, first, [1, 2], (912, 1140))
    with pytest.raises(InputError, match=r"directions \[1, 1\]"):
        solve_rig(views, BOARD, FIRST_CAMERA, first, [1, 1], (912, 1140))
    with pytest.raises(InputError, match="corner 53; the board has corners 0 to 5"):
        solve_rig(views, Board.chessboard((4, 3), 4.0), FIRST_CAMERA, first, [1, 2], (912, 1140))
    with pytest.raises(InputError, match="each must occur once"):
        solve_rig([views[0], *views[:7]], BOARD, FIRST_CAMERA, first, [1, 2], (912, 1140))


# ------------------------------------------------------------------------------------------------------ what depth makes of it
def test_depth_uncertainty_is_that_of_the_heights(solved: RigSolution) -> None:
    table = Plane(np.array([0.0, 0.0, -1.0]), -rig.TABLE_MM)
    found = depth_uncertainty(solved, table, above_mm=8.0, grid=(7, 9))
    assert found.depth_mm.shape == found.height_mm.shape == (3, 7, 9)
    assert np.allclose(found.uv[-1, -1], (CAMERA.width - 1, CAMERA.height - 1))
    assert (found.flatness_mm < found.depth_mm).all()
    assert (found.flatness_mm[-1].mean() < found.flatness_mm[:2].mean(axis=(1, 2))).all()  # directions average
    errors = rig.height_errors(solved, CAMERA, PAIR)["errors_mm"][-1]  # 8 mm above the table
    told = np.sqrt((found.height_mm**2).mean(axis=(1, 2)))
    seen = np.sqrt((errors**2).mean(axis=(1, 2)))
    assert (seen < 3.0 * told).all() and (seen > 0.1 * told).all()
    with pytest.raises(InputError, match=r"grid \(2, 9\)"):
        depth_uncertainty(solved, grid=(2, 9))


@pytest.mark.slow
def test_the_whole_reference_rig_with_lens_models_chosen() -> None:
    figures = rig.simulated(12, seed=0)
    assert rig.missed({"simulated": figures}) == [], figures
    assert max(figures["height_rms_by_layer_um"]) < 3.0 and figures["height_worst_by_layer_um"][-1] < 3.0
    assert figures["kept_share"] == 1.0 and figures["rejected"] == []
