"""Corners of boards: on simulated Bayer frames, and on exact pictures with faults, against the true places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.acquisition.simulator import _boards
from rakelight.acquisition.simulator.targets import board_corners
from rakelight.calibration.boards import Board
from rakelight.calibration.corners import find_corners, grey_of
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Recording
from rakelight.errors import CalibrationError, InputError
from rakelight.pipeline.simulate import Settings, simulate

FloatArray = NDArray[np.float64]

SIZE = (480, 360)  # of the pictures drawn here
POINTS = 4  # a pixel, each way
CHARUCO, CHESSBOARD = Board("charuco", (7, 5), 6.0, 4.5), Board.chessboard((8, 7), 5.0)


def homography(
    turn_deg: float = 7.0, tilt: tuple[float, float] = (0.0006, -0.0009), px_per_mm: float = 9.0
) -> FloatArray:
    """Board, mm, to image, px, its middle in the middle of the image."""
    turn = np.radians(turn_deg)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    shift = np.array([[1, 0, SIZE[0] / 2], [0, 1, SIZE[1] / 2], [0, 0, 1]])
    scale = np.diag([px_per_mm, px_per_mm, 1.0])
    perspective = np.array([[1, 0, 0], [0, 1, 0], [*tilt, 1]])
    middle = np.array([[1, 0, -20.0], [0, 1, -15.0], [0, 0, 1]])
    return np.asarray(shift @ perspective @ rotation @ scale @ middle)


def draw(board: Board, matrix: FloatArray, *, blur_px: float = 0.7, noise: float = 0.01, seed: int = 0) -> FloatArray:
    """What a grey camera sees, 0 to 1, under light that falls off to the left; the board lies on grey."""
    columns, rows = board.squares
    if board.kind == "charuco":
        sheet = _boards.charuco(board.squares, board.square_mm, float(board.marker_mm or 0), str(board.dictionary))
    else:
        sheet = _boards.chessboard(board.squares, board.square_mm, board.square_mm)
    fine = (np.arange(SIZE[0] * POINTS) + 0.5) / POINTS - 0.5, (np.arange(SIZE[1] * POINTS) + 0.5) / POINTS - 0.5
    u, v = np.meshgrid(*fine)
    at = np.stack([u.ravel(), v.ravel(), np.ones(u.size)], axis=-1) @ np.linalg.inv(matrix).T
    xy = at[:, :2] / at[:, 2:]
    middle = np.array([columns, rows]) * board.square_mm / 2
    on_print = (xy - middle) * [1, -1]
    black = sheet.ink.coverage(on_print)
    on_plate = (np.abs(on_print) <= np.array(sheet.plate_mm) / 2).all(axis=1)
    shade = np.where(on_plate, 0.85 - 0.8 * black, 0.4) * (0.6 + 0.4 * u.ravel() / SIZE[0])
    picture = shade.reshape(SIZE[1], POINTS, SIZE[0], POINTS).mean(axis=(1, 3))
    picture = cv2.GaussianBlur(picture, (0, 0), blur_px, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(picture + noise * np.random.default_rng(seed).standard_normal(picture.shape))


def places(board: Board, matrix: FloatArray) -> FloatArray:
    at = np.column_stack([board.corners_mm[:, :2], np.ones(len(board.corners_mm))]) @ matrix.T
    return np.asarray(at[:, :2] / at[:, 2:])


def rms(errors: FloatArray) -> float:
    return float(np.sqrt((errors**2).sum(axis=1).mean()))


@pytest.fixture(scope="module")
def charuco_picture() -> FloatArray:
    return draw(CHARUCO, homography())


@pytest.fixture(scope="module")
def chessboard_picture() -> FloatArray:
    return draw(CHESSBOARD, homography(px_per_mm=6.5))


# ------------------------------------------------------------------------------------------------------ exact pictures
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_charuco_corners(charuco_picture: FloatArray, dtype: str) -> None:
    scale = {"uint8": 255.0, "uint16": 4095.0, "float32": 1.0}[dtype]
    corners = find_corners((np.clip(charuco_picture, 0, 1) * scale).astype(dtype), CHARUCO)
    errors = corners.uv - places(CHARUCO, homography())[corners.ids]
    assert len(corners.ids) == len(CHARUCO.corners_mm)
    assert rms(errors) < 0.02
    assert np.abs(errors.mean(axis=0)).max() < 0.005
    # 0.7 px of blur, and the pixel's own area
    assert corners.sharpness_px == pytest.approx(np.hypot(0.7, 12**-0.5), abs=0.04)


@pytest.mark.parametrize("turn_deg", [7.0, 100.0, 187.0, -60.0])
def test_chessboard_corners_are_numbered_from_the_black_square(turn_deg: float) -> None:
    matrix = homography(turn_deg, px_per_mm=6.0)
    corners = find_corners(draw(CHESSBOARD, matrix).astype(np.float32), CHESSBOARD)
    errors = corners.uv - places(CHESSBOARD, matrix)
    assert rms(errors) < 0.02


def test_marks_beside_the_edges_do_not_draw_the_corners(charuco_picture: FloatArray) -> None:
    """Against OpenCV's cornerSubPix on the same picture, whose window takes in the markers."""
    image = np.clip(charuco_picture * 255, 0, 255).astype(np.uint8)
    true = places(CHARUCO, homography())
    start = true.astype(np.float32).reshape(-1, 1, 2)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-4)
    theirs = cv2.cornerSubPix(image, start.copy(), (7, 7), (-1, -1), stop).reshape(-1, 2)
    assert rms(find_corners(image, CHARUCO).uv - true) < 0.3 * rms(theirs - true)


def test_blur_shows_in_the_sharpness(charuco_picture: FloatArray) -> None:
    smeared = cv2.filter2D(charuco_picture, -1, np.full((1, 5), 0.2)).astype(np.float32)  # along u only
    sharp = find_corners(charuco_picture.astype(np.float32), CHARUCO)
    moved = find_corners(smeared, CHARUCO)
    assert moved.sharpness_px > 1.8 * sharp.sharpness_px
    assert rms(moved.uv - places(CHARUCO, homography())[moved.ids]) < 0.1


def test_a_hidden_part_of_a_charuco_board(charuco_picture: FloatArray) -> None:
    image = charuco_picture.astype(np.float32)
    image[:, 260:] = 0.3
    corners = find_corners(image, CHARUCO)
    true = places(CHARUCO, homography())
    assert 6 <= len(corners.ids) < len(true)
    assert rms(corners.uv - true[corners.ids]) < 0.03


def test_a_corner_under_glare_is_left_out_or_right(charuco_picture: FloatArray) -> None:
    image = charuco_picture.astype(np.float32)
    true = places(CHARUCO, homography())
    centre = np.rint(true[9]).astype(int)
    cv2.circle(image, centre.tolist(), 22, 1.0, -1)
    corners = find_corners(image, CHARUCO)
    assert 9 not in corners.ids
    assert len(corners.ids) >= len(true) - 3
    assert rms(corners.uv - true[corners.ids]) < 0.03


def test_nan_counts_as_black(chessboard_picture: FloatArray) -> None:
    image = chessboard_picture.astype(np.float32)
    image[:20, :20] = np.nan
    corners = find_corners(image, CHESSBOARD)
    assert rms(corners.uv - places(CHESSBOARD, homography(px_per_mm=6.5))) < 0.02


def test_large_pictures_are_searched_small(charuco_picture: FloatArray) -> None:
    large = cv2.resize(charuco_picture.astype(np.float32), None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
    corners = find_corners(large, CHARUCO)
    true = 6 * places(CHARUCO, homography()) + 2.5  # (6 − 1)/2: centres of pixels stay centres
    assert rms(corners.uv - true[corners.ids]) < 0.2


# ---------------------------------------------------------------------------------------------------------- wrong boards
def refused(image: FloatArray, board: Board) -> CalibrationError:
    with pytest.raises(CalibrationError) as caught:
        find_corners(image.astype(np.float32), board)
    assert caught.value.hint
    return caught.value


def test_nothing_to_see() -> None:
    blank = np.random.default_rng(0).normal(0.5, 0.01, (240, 320))
    for board in (CHARUCO, CHESSBOARD):
        assert refused(blank, board).code == "calibration.board_not_found"


def test_other_counts_of_squares_charuco(charuco_picture: FloatArray) -> None:
    error = refused(charuco_picture, Board("charuco", (9, 5), 6.0, 4.5))
    assert error.code == "calibration.board_mismatch"
    assert "7 columns" in error.message
    fewer = refused(charuco_picture, Board("charuco", (7, 3), 6.0, 4.5))
    assert fewer.code == "calibration.board_mismatch"


def test_other_counts_of_squares_chessboard(chessboard_picture: FloatArray) -> None:
    for squares in ((7, 7), (8, 6), (5, 5)):
        error = refused(chessboard_picture, Board.chessboard(squares, 5.0))
        assert error.code == "calibration.board_mismatch"
        assert "7×6" in error.message or "6×7" in error.message
    larger = refused(chessboard_picture, Board.chessboard((10, 9), 5.0))
    assert larger.code == "calibration.board_not_found"
    assert "7×6" in larger.message or "6×7" in larger.message


def test_other_dictionary(charuco_picture: FloatArray) -> None:
    error = refused(charuco_picture, Board("charuco", (7, 5), 6.0, 4.5, "DICT_6X6_50"))
    assert error.code == "calibration.board_not_found"
    assert "DICT_4X4" in error.message


def test_size_of_markers_contradicts_that_of_squares(charuco_picture: FloatArray) -> None:
    error = refused(charuco_picture, Board("charuco", (7, 5), 6.0, 3.6))
    assert error.code == "calibration.board_mismatch"
    assert "0.600" in error.message  # declared; 0.75 is seen


def test_a_colour_picture_is_refused() -> None:
    with pytest.raises(InputError):
        find_corners(np.zeros((50, 50, 3), np.uint8), CHARUCO)
    with pytest.raises(InputError):
        find_corners(np.zeros((50, 50)), CHARUCO)


# ----------------------------------------------------------------------------------------------------------------- grey
@pytest.mark.parametrize("bayer", ["RG", "GR", "GB", "BG"])
def test_grey_of_a_mosaic_is_the_grey_picture(bayer: str, charuco_picture: FloatArray) -> None:
    grey = np.clip(charuco_picture, 0, 1)
    colours = {"RG": "RGGB", "GR": "GRBG", "GB": "GBRG", "BG": "BGGR"}[bayer]
    response = {"R": 0.72, "G": 1.0, "B": 0.4}
    mosaic = np.empty(grey.shape)
    for site, colour in enumerate(colours):
        part = np.s_[site // 2 :: 2, site % 2 :: 2]
        mosaic[part] = 64 + 3500 * response[colour] * grey[part]
    found = grey_of(mosaic.astype(np.uint16), bayer)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 64 + 3500 * grey, rtol=0.0, atol=0.01 * 3500)


def test_grey_of_refuses() -> None:
    with pytest.raises(InputError, match="RGGB"):
        grey_of(np.zeros((32, 32), np.uint8), "RGGB")
    with pytest.raises(InputError):
        grey_of(np.zeros((32, 32, 3), np.uint8), None)
    np.testing.assert_array_equal(grey_of(np.full((4, 4), 7, np.uint8), None), 7.0)


# ------------------------------------------------------------------------------------------------------ simulated frames
def simulated(folder: Path, name: str, seed: int, **settings: Any) -> tuple[NDArray[np.float32], FloatArray]:
    """The frame with all lights, grey, and the true places of the corners."""
    simulate(name, folder, seed=seed, settings=Settings(pattern_set=None, **settings))
    recording = Recording.open(folder)
    frame = recording.read(next(recording.shots("all_zones")))
    pose = json.loads((folder / "truth/truth.json").read_text())["pose"]
    camera = RigCalibration.load(folder / "truth/calibration").camera
    assert camera is not None
    on_table = board_corners(name)[1] @ np.array(pose["rotation"]).T + np.array(pose["shift_mm"])
    return grey_of(frame, recording.bayer), camera.project(on_table * [1, -1, -1] + [0, 0, 200.0])


# Seeds with no edge along a row of pixels: the simulator's few points a pixel snap such an edge by up to 1/6 px.
@pytest.mark.slow
@pytest.mark.parametrize(("name", "seed"), [("charuco", 0), ("charuco", 2), ("chessboard", 1)])
def test_simulated_bayer_frames(tmp_path: Path, name: str, seed: int) -> None:
    image, true = simulated(tmp_path / "a", name, seed, width=456)
    corners = find_corners(image, Board() if name == "charuco" else Board.chessboard())
    errors = corners.uv - true[corners.ids]
    assert len(corners.ids) == len(true)
    assert rms(errors) < 0.03
    assert np.abs(errors.mean(axis=0)).max() < 0.01
