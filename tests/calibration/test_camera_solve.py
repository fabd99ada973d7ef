"""The camera solver on projected points with known truth and with faults, and on the real sets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.calibration.boards import Board
from rakelight.calibration.camera_solve import CameraSolution, solve_camera
from rakelight.calibration.corners import find_corners
from rakelight.calibration.views import View
from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.models import AffineCamera, Camera, PinholeCamera

FloatArray = NDArray[np.float64]

BOARD = Board()
SIZE = (1368, 912)
CAMERA = PinholeCamera(*SIZE, 5000.0, 5000.0, 687.0, 453.0, (-0.06, 0.03, 0.0002, -0.00015, 0.0))
WIDE = PinholeCamera(*SIZE, 1500.0, 1505.0, 690.0, 450.0, (-0.12, 0.0, 0.0, 0.0, 0.0))
TELECENTRIC = AffineCamera.orthographic(*SIZE, 0.04)
NOISE_PX = 0.01
DATA = Path(__file__).resolve().parents[2] / "../shared/data/structured-light"


def turned(tilts_deg: FloatArray, turn_deg: float) -> FloatArray:
    """Rotation of a board tilted to the right and towards the lower edge, then turned in its plane."""
    right, down = np.radians(tilts_deg)
    about_y, about_x = (cv2.Rodrigues(np.array(v))[0] for v in ([0.0, -right, 0.0], [down, 0.0, 0.0]))
    return np.asarray(about_y @ about_x @ cv2.Rodrigues(np.array([0.0, 0.0, np.radians(turn_deg)]))[0])


def make_views(
    camera: Camera = CAMERA,
    count: int = 12,
    *,
    tilt_deg: tuple[float, float] = (20.0, 20.0),
    lean_deg: float = 0.0,
    noise_px: float = NOISE_PX,
    distance_mm: float = 195.0,
    seed: int = 0,
) -> list[View]:
    """Boards in random poses, wholly inside the image."""
    rng = np.random.default_rng(seed)
    middle = np.array([20.0, 14.0, 0.0])
    views: list[View] = []
    while len(views) < count:
        rotation = turned(rng.uniform(-1, 1, 2) * tilt_deg + [lean_deg, 0.0], rng.uniform(-15, 15))
        at = np.append(rng.uniform(-5, 5, 2), distance_mm + rng.uniform(-4, 4))
        uv = camera.project((BOARD.corners_mm - middle) @ rotation.T + at)
        if (uv > 2).all() and (uv < np.array(SIZE) - 3).all():
            uv = uv + noise_px * rng.standard_normal(uv.shape)
            views.append(View(f"pose_{len(views) + 1:02d}", np.arange(len(uv)), uv, {}, 0.7, SIZE))
    return views


def changed(views: list[View], index: int, **changes: object) -> list[View]:
    return [replace(v, **changes) if k == index else v for k, v in enumerate(views)]


def failed(views: list[View], **options: object) -> CalibrationError:
    with pytest.raises(CalibrationError) as caught:
        solve_camera(views, BOARD, SIZE, **options)  # type: ignore[arg-type]
    assert caught.value.hint
    return caught.value


@pytest.fixture(scope="module")
def good() -> CameraSolution:
    return solve_camera(make_views(), BOARD, SIZE)


# ---------------------------------------------------------------------------------------------------------------- result
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_camera_within_its_standard_errors(seed: int) -> None:
    solution = solve_camera(make_views(seed=seed), BOARD, SIZE)
    camera = solution.camera
    assert isinstance(camera, PinholeCamera)
    for name in ("fx", "fy", "cx", "cy"):
        assert abs(getattr(camera, name) - getattr(CAMERA, name)) < 4.0 * solution.standard_errors[name], name
    assert solution.standard_errors["fx"] / camera.fx < 3e-4
    assert solution.rms_px == pytest.approx(NOISE_PX * np.sqrt(2), rel=0.1)
    assert solution.rms_px < solution.held_out_rms_px < 1.2 * solution.rms_px
    assert sum(mask.sum() for mask in solution.kept) >= 0.99 * sum(len(mask) for mask in solution.kept)


@pytest.mark.slow
def test_standard_errors_are_the_scatter() -> None:
    found = [
        solve_camera(make_views(noise_px=0.02, seed=s), BOARD, SIZE, distortion=("k1", "p1", "p2")) for s in range(12)
    ]
    for name, truth in (("fx", CAMERA.fx), ("cx", CAMERA.cx)):
        errors = np.array([(getattr(s.camera, name) - truth) / s.standard_errors[name] for s in found])
        assert 0.5 < float(np.sqrt((errors**2).mean())) < 1.7, name


def test_poses_and_residuals(good: CameraSolution) -> None:
    views = make_views()
    for p, k in enumerate(good.used):
        xyz = BOARD.corners_mm @ good.rotations[p].T + good.translations_mm[p]
        np.testing.assert_allclose(views[k].uv - good.camera.project(xyz), good.residuals[p], atol=1e-6)
    assert good.names == tuple(v.name for v in views)
    assert not good.rejected or all("left out" in line for line in good.rejected)
    assert good.coverage == pytest.approx((good.coverage_map > 0).mean())
    assert good.coverage_map.sum() == sum(int(mask.sum()) for mask in good.kept)


def test_tilts_have_the_signs_that_the_advice_uses() -> None:
    views = make_views(count=9, seed=5)
    middle = np.array([20.0, 14.0, 0.0])
    for tilts in ([18.0, 0.0], [0.0, 18.0]):
        xyz = (BOARD.corners_mm - middle) @ turned(np.array(tilts), 0.0).T + [0, 0, 195.0]
        axis = int(np.argmax(tilts))
        # to the right: the right edge is farther away; towards you: the lower one
        assert np.corrcoef(xyz[:, axis], xyz[:, 2])[0, 1] > 0.9
        views.append(View(f"tilted_{axis}", np.arange(len(xyz)), CAMERA.project(xyz)))
    solution = solve_camera(views, BOARD, SIZE)
    np.testing.assert_allclose(solution.tilts_deg[-2:], [[18, 0], [0, 18]], atol=0.1)


def test_the_smallest_sufficient_distortion_is_chosen() -> None:
    assert solve_camera(make_views(WIDE, distance_mm=55.0), BOARD, SIZE).distortion_terms == ("k1",)
    straight = PinholeCamera(*SIZE, 1500.0, 1505.0, 690.0, 450.0)
    assert solve_camera(make_views(straight, distance_mm=55.0), BOARD, SIZE).distortion_terms == ()
    both = replace(WIDE, distortion=(-0.2, 0.3, 0.0, 0.0, 0.0))
    found = solve_camera(make_views(both, distance_mm=55.0), BOARD, SIZE)
    assert found.distortion_terms == ("k1", "k2")
    assert found.held_out_by_terms["k1"] > found.held_out_by_terms["k1 k2"]


def test_terms_can_be_given() -> None:
    solution = solve_camera(make_views(), BOARD, SIZE, distortion=("p2", "k1", "p1"))
    assert solution.distortion_terms == ("k1", "p1", "p2")
    assert isinstance(solution.camera, PinholeCamera)
    assert solution.camera.distortion[1] == 0.0
    for wrong in ("k1", ("k4",)):
        with pytest.raises(InputError):
            solve_camera(make_views(), BOARD, SIZE, distortion=wrong)
    with pytest.raises(InputError):
        solve_camera(make_views(), BOARD, SIZE, model="fisheye")  # type: ignore[arg-type]


def test_a_wrong_scale_is_not_seen_but_only_scales() -> None:
    views = make_views()
    truth, twice = (solve_camera(views, b, SIZE) for b in (BOARD, Board(square_mm=8.0)))
    assert isinstance(truth.camera, PinholeCamera)
    assert isinstance(twice.camera, PinholeCamera)
    assert twice.camera.fx == pytest.approx(truth.camera.fx, rel=1e-6)
    np.testing.assert_allclose(twice.translations_mm, 2 * truth.translations_mm, rtol=1e-5, atol=1e-4)


# ---------------------------------------------------------------------------------------------------------------- faults
def test_a_corner_12_px_wrong_is_named_and_does_no_harm(good: CameraSolution) -> None:
    views = make_views()
    uv = views[4].uv.copy()
    uv[17] += [12.0, 0.0]
    solution = solve_camera(changed(views, 4, uv=uv), BOARD, SIZE)
    assert any("pose_05: corner 17 (12 px off)" in line for line in solution.rejected)
    assert not solution.kept[4][17]
    assert abs(solution.camera.fx - good.camera.fx) < 0.5 * good.standard_errors["fx"]  # type: ignore[union-attr]
    assert sum(mask.sum() for mask in solution.kept) >= 0.99 * sum(len(mask) for mask in solution.kept)


def test_many_wrong_corners_and_few_poses() -> None:
    rng = np.random.default_rng(3)
    views = make_views(count=5, noise_px=0.02)
    for k in range(5):
        uv = views[k].uv.copy()
        wrong = rng.choice(len(uv), 5, replace=False)
        uv[wrong] += rng.uniform(2.0, 12.0, (5, 2))
        views = changed(views, k, uv=uv)
    solution = solve_camera(views, BOARD, SIZE, distortion=("k1",))
    assert sum(int((~mask).sum()) for mask in solution.kept) in range(25, 30)
    assert solution.rms_px < 0.06


def test_a_repeated_pose_is_counted_once(good: CameraSolution) -> None:
    views = make_views()
    rng = np.random.default_rng(1)
    again = replace(views[2], name="again", uv=views[2].uv + NOISE_PX * rng.standard_normal(views[2].uv.shape))
    solution = solve_camera([*views, again], BOARD, SIZE)
    assert any("again repeats the pose of pose_03" in line for line in solution.rejected)
    assert solution.used == good.used
    assert solution.camera.fx == pytest.approx(good.camera.fx, rel=1e-9)  # type: ignore[union-attr]


def test_a_blurred_pose_is_left_out() -> None:
    views = make_views()
    rng = np.random.default_rng(1)
    smeared = views[6].uv + rng.normal(0.5, 0.3, views[6].uv.shape)
    solution = solve_camera(changed(views, 6, uv=smeared, sharpness_px=2.4), BOARD, SIZE)
    assert any("pose_07 is blurred" in line for line in solution.rejected)
    assert 6 not in solution.used
    assert solution.rms_px < 1.2 * NOISE_PX * np.sqrt(2)


def test_a_pose_that_does_not_fit_is_left_out() -> None:
    views = make_views()
    bent = views[3].uv + 6.0 * np.sin(np.arange(54) / 3.0)[:, None]
    solution = solve_camera(changed(views, 3, uv=bent), BOARD, SIZE)
    assert any("pose_04 does not fit the other poses" in line for line in solution.rejected)
    assert solution.rms_px < 1.2 * NOISE_PX * np.sqrt(2)


def test_a_bent_board_is_suspected() -> None:
    views = [replace(v, uv=v.uv + np.where(v.ids[:, None] == 8, 0.8, 0.0)) for v in make_views()]
    solution = solve_camera(views, BOARD, SIZE)
    assert any(line.startswith("corners 8 do not fit") for line in solution.warnings)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_poses(count: int) -> None:
    assert failed(make_views(count=count)).code == "calibration.too_few_poses"


def test_two_poses_and_a_repeated_one_are_too_few() -> None:
    views = make_views(count=2)
    error = failed([*views, replace(views[0], name="twin")])
    assert error.code == "calibration.too_few_poses"
    assert "twin" in error.message


def test_few_poses_are_warned_of() -> None:
    solution = solve_camera(make_views(count=6), BOARD, SIZE, distortion=("k1",))
    assert any(line.startswith("6 poses") for line in solution.warnings)


def test_flat_poses_do_not_determine_a_camera() -> None:
    error = failed(make_views(tilt_deg=(0.5, 0.5)))
    assert error.code == "calibration.poses_degenerate"
    assert "to the right" in error.hint
    assert "towards you" in error.hint


def test_the_missing_axis_of_tilt_is_named() -> None:
    views = make_views(tilt_deg=(20.0, 0.5), noise_px=0.1)
    try:
        texts = list(solve_camera(views, BOARD, SIZE).warnings)
    except CalibrationError as error:
        texts = [error.hint]
    (advice,) = [t for t in texts if "tilt the board by 15–25°" in t]
    assert "towards you" in advice
    assert "away from you" in advice
    assert "to the right" not in advice


def test_the_missing_side_of_a_tilt_is_named() -> None:
    solution = solve_camera(make_views(tilt_deg=(10.0, 20.0), lean_deg=-9.0), BOARD, SIZE)
    (advice,) = [t for t in solution.warnings if t.startswith("tilt the board")]
    assert "to the right" in advice
    assert "to the left" not in advice


def test_mixed_sizes_and_corners_outside() -> None:
    views = make_views()
    error = failed(changed(views, 3, size=(912, 1368)))
    assert error.code == "calibration.size_mismatch"
    assert "pose_04" in error.message
    uv = views[0].uv.copy()
    uv[0] = [1400.0, 5.0]
    assert failed(changed(views, 0, uv=uv)).code == "calibration.size_mismatch"


def test_corners_that_the_board_does_not_have() -> None:
    views = make_views()
    error = failed(changed(views, 0, ids=views[0].ids + 1))
    assert error.code == "calibration.board_mismatch"


def test_empty_parts_of_the_image_are_named() -> None:
    views = [replace(v, uv=v.uv / 2, size=None) for v in make_views()]
    solution = solve_camera(views, BOARD, SIZE)
    assert any("lower right" in line for line in solution.warnings)
    assert solution.coverage < 0.4


# ----------------------------------------------------------------------------------------------------------- telecentric
def test_telecentric_images_call_for_the_affine_model() -> None:
    solution = solve_camera(make_views(TELECENTRIC), BOARD, SIZE, distortion=())
    assert any("no perspective" in line and "affine" in line for line in solution.warnings)
    assert not any("no perspective" in line for line in solve_camera(make_views(), BOARD, SIZE).warnings)


def test_affine_camera() -> None:
    views = make_views(TELECENTRIC)
    uv = views[1].uv.copy()
    uv[3] -= [0.0, 12.0]
    solution = solve_camera(changed(views, 1, uv=uv), BOARD, SIZE, model="affine")
    assert isinstance(solution.camera, AffineCamera)
    errors = solution.standard_errors
    for k, name in enumerate(("x_px_per_mm", "y_px_per_mm")):
        assert abs(solution.camera.matrix[k, k] - 25.0) < 4 * errors[name]
        assert errors[name] / 25.0 < 2e-4
    assert solution.rms_px == pytest.approx(NOISE_PX * np.sqrt(2), rel=0.1)
    assert any("pose_02: corner 3 (12 px off)" in line for line in solution.rejected)
    for p, k in enumerate(solution.used):
        xyz = BOARD.corners_mm @ solution.rotations[p].T + solution.translations_mm[p]
        found = solution.camera.project(xyz)[solution.kept[p]]
        np.testing.assert_allclose(found, views[k].uv[solution.kept[p]], atol=6 * NOISE_PX)
    assert any("mirrored" in line for line in solution.warnings)


def test_affine_camera_has_no_distortion() -> None:
    with pytest.raises(InputError, match="affine"):
        solve_camera(make_views(TELECENTRIC), BOARD, SIZE, model="affine", distortion=("k1",))


# ------------------------------------------------------------------------------------------------------------- real sets
def real_set(name: str) -> tuple[Path, dict[str, object]]:
    folder = DATA / name
    if not (folder / "meta.json").is_file():
        pytest.skip(f"{name} is not in ../shared/data/structured-light")
    return folder, json.loads((folder / "meta.json").read_text())


def grey(path: Path) -> NDArray[np.float32]:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return image.astype(np.float32)


def solve_set(pictures: dict[str, NDArray[np.float32]], meta: dict[str, object], board: Board) -> CameraSolution:
    views = []
    for pose, picture in pictures.items():
        corners = find_corners(picture, board)
        assert len(corners.ids) == len(board.corners_mm)
        views.append(View(pose, corners.ids, corners.uv + np.array(meta["crops"][pose][:2])))  # type: ignore[index]
    return solve_camera(views, board, tuple(meta["camera_size"]))  # type: ignore[arg-type]


@pytest.mark.slow
def test_procam() -> None:
    folder, meta = real_set("procam-graycode-chessboard")
    pictures = {f"pose_{k}": grey(folder / f"pose_{k}" / "40.png") for k in range(4)}
    solution = solve_set(pictures, meta, Board.chessboard((10, 8), 75.0))
    assert solution.rms_px < 0.35
    assert solution.held_out_rms_px < 1.3 * solution.rms_px
    assert solution.camera.fx == pytest.approx(3430, rel=0.02)  # type: ignore[union-attr]


@pytest.mark.slow
def test_slstudio() -> None:
    folder, meta = real_set("slstudio-phase-shift")
    pictures = {}
    for k in (1, 3, 4, 5, 6):
        a, b, c = (grey(folder / f"pose_{k}" / f"{i:02d}.png") for i in range(3))
        pictures[f"pose_{k}"] = (np.sqrt(3 * (b - c) ** 2 + (2 * a - b - c) ** 2) / 3).astype(np.float32)  # modulation
    solution = solve_set(pictures, meta, Board.chessboard((14, 10), 10.0))
    assert solution.rms_px < 0.30
    assert sum(mask.sum() for mask in solution.kept) >= 0.95 * 5 * 117
    assert solution.camera.fx == pytest.approx(2190, rel=0.01)  # type: ignore[union-attr]
