"""Boards as plain data: their corners, their way to JSON and back, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from rakelight.acquisition.simulator.targets import TARGETS, board_corners
from rakelight.calibration.boards import Board
from rakelight.calibration.views import View
from rakelight.errors import CalibrationError, InputError


def test_defaults_are_the_simulated_targets() -> None:
    for board, name in ((Board(), "charuco"), (Board.chessboard(), "chessboard")):
        facts = TARGETS[name].facts
        assert board.squares == tuple(facts["squares"])
        assert board.square_mm == facts["square_mm"]
        assert board.marker_mm == facts.get("marker_mm")
        assert board.dictionary == facts.get("dictionary")


@pytest.mark.parametrize("name", ["charuco", "chessboard"])
def test_corners_are_the_target_s_seen_from_the_first_square(name: str) -> None:
    board = Board() if name == "charuco" else Board.chessboard()
    ids, points = board_corners(name)
    outer = np.array([-board.squares[0], board.squares[1]]) * board.square_mm / 2  # viewer axes: y up
    np.testing.assert_allclose(board.corners_mm[ids, :2], (points[:, :2] - outer) * [1, -1], atol=1e-12)
    np.testing.assert_array_equal(board.corners_mm[:, 2], 0.0)


def test_corners_are_those_of_opencv() -> None:
    board = Board("charuco", (5, 8), 12.5, 9.0, "DICT_5X5_100")
    np.testing.assert_allclose(board.corners_mm, board.cv().getChessboardCorners(), atol=1e-5)
    assert board.grid == (4, 7)


@pytest.mark.parametrize(
    "board", [Board(), Board.chessboard((10, 8), 75.0), Board("charuco", (4, 3), 5, 3, "DICT_6X6_50")]
)
def test_to_json_and_back(board: Board) -> None:
    assert Board.from_plain(json.loads(json.dumps(board.to_plain()))) == board
    assert str(board.squares[0]) in str(board)


def test_marker_and_dictionary_have_defaults() -> None:
    board = Board.from_plain({"kind": "charuco", "squares": [6, 5], "square_mm": 20})
    assert (board.marker_mm, board.dictionary) == (15.0, "DICT_4X4_50")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kind": "circles"}, "circles"),
        ({"squares": (2, 7)}, "squares is (2, 7)"),
        ({"squares": (10, 7, 1)}, "squares"),
        ({"squares": (10.5, 7)}, "10.5"),
        ({"squares": "10x7"}, "10x7"),
        ({"squares": (10, 11)}, "55 markers"),
        ({"square_mm": 0}, "square_mm is 0"),
        ({"square_mm": float("nan")}, "nan"),
        ({"square_mm": "4"}, "'4'"),
        ({"square_mm": True}, "True"),
        ({"marker_mm": 4.0}, "marker_mm is 4"),
        ({"dictionary": "DICT_3X3"}, "DICT_3X3"),
        ({"kind": "chessboard"}, "marker_mm"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_refuses_what_is_no_board(change: dict[str, Any], named: str) -> None:
    plain = Board().to_plain() | change
    with pytest.raises(CalibrationError, match=named.replace("(", r"\(").replace(")", r"\)")) as caught:
        Board.from_plain(plain)
    assert caught.value.code == "calibration.board_invalid"
    assert caught.value.hint


def test_refuses_a_description_that_lacks_something() -> None:
    for data in ({"kind": "charuco"}, [1, 2], None):
        with pytest.raises(CalibrationError, match="description"):
            Board.from_plain(data)


def test_a_chessboard_has_no_opencv_board() -> None:
    with pytest.raises(CalibrationError, match="markers"):
        Board.chessboard().cv()


def test_a_view_checks_its_corners() -> None:
    uv = np.array([[1.0, 2.0], [3.0, 4.0]])
    view = View("a", np.array([3, 5]), uv, {1: np.full((2, 2), np.nan)})
    assert view.ids.dtype == np.int64
    for ids, points, colrow in (
        ([3, 3], uv, {}),
        ([-1, 3], uv, {}),
        ([1, 2, 3], uv, {}),
        ([1, 2], uv * np.nan, {}),
        ([1, 2], uv, {2: np.zeros((3, 2))}),
    ):
        with pytest.raises(InputError):
            View("a", np.array(ids), points, colrow)
