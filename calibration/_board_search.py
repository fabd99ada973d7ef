"""Which corner of a board is where in an image, by OpenCV's detectors, and what was seen instead if it is not there."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.boards import Board
from rakelight.errors import CalibrationError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_SEARCH_PX = 1600  # longest side of the image that is searched; larger ones are shrunk by a whole number
_FAMILIES = ("DICT_4X4_1000", "DICT_5X5_1000", "DICT_6X6_1000", "DICT_7X7_1000", "DICT_APRILTAG_36h11")
_MARKER_SIZE_TOLERANCE = 0.06  # relative; print and blur give 0.02
_LEAST_MARKERS = 4


def search(grey: NDArray[np.float32], board: Board) -> tuple[IntArray, FloatArray]:
    """Ids (N,) and rough places (N, 2), px; raises ``calibration.board_not_found``, ``calibration.board_mismatch``."""
    shrink = max(1, round(max(grey.shape) / _SEARCH_PX))
    small = grey
    if shrink > 1:
        height, width = (n // shrink * shrink for n in grey.shape)
        small = cv2.resize(grey[:height, :width], (width // shrink, height // shrink), interpolation=cv2.INTER_AREA)
    bytes_ = _bytes(small)
    ids, uv = _charuco(bytes_, board) if board.kind == "charuco" else _chessboard(bytes_, board)
    order = np.argsort(ids)
    return ids[order], uv[order] * shrink + (shrink - 1) / 2


def board_not_found(board: Board, seen: str) -> CalibrationError:
    """The error for an image that does not show ``board``."""
    return CalibrationError(
        f"{board}: not found; seen: {seen}",
        hint="have the board whole, sharp and evenly lit in the picture, without glare, and declare it as it is printed",
        code="calibration.board_not_found",
    )


def _mismatch(board: Board, seen: str, hint: str) -> CalibrationError:
    return CalibrationError(f"{board} was declared; seen: {seen}", hint=hint, code="calibration.board_mismatch")


def _bytes(grey: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image stretched to 8 bits between its 0.5 and 99.5 % quantiles."""
    low, high = np.quantile(grey[::2, ::2], [0.005, 0.995])
    scaled = (grey - np.float32(low)) * np.float32(255.0 / max(float(high - low), 1e-12))
    return np.clip(scaled + 0.5, 0, 255).astype(np.uint8)


# -------------------------------------------------------------------------------------------------------------- ChArUco
def _charuco(image: NDArray[np.uint8], board: Board) -> tuple[IntArray, FloatArray]:
    parameters = cv2.aruco.CharucoParameters()
    parameters.minMarkers = 1  # one neighbour places a corner well enough to start from
    parameters.checkMarkers = True
    parameters.tryRefineMarkers = True
    markers = cv2.aruco.DetectorParameters()
    markers.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    detector = cv2.aruco.CharucoDetector(board.cv(), parameters, markers)
    marker_corners, marker_ids, _ = cv2.aruco.ArucoDetector(_dictionary(board.dictionary), markers).detectMarkers(image)
    if marker_ids is None or len(marker_ids) == 0:
        raise board_not_found(board, _no_markers(image, board))
    seen = np.array(marker_ids).ravel()
    quads = np.stack([np.reshape(quad, (4, 2)) for quad in marker_corners]).astype(np.float64)
    _check_layout(board, seen, quads)
    corners, ids, _, _ = detector.detectBoard(image)
    if ids is None or len(ids) == 0:
        raise board_not_found(board, f"{len(seen)} markers of {len(board.cv().getIds())}, no corner between them")
    return np.array(ids).ravel().astype(np.int64), np.array(corners).reshape(-1, 2).astype(np.float64)


def _dictionary(name: str | None) -> Any:
    return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, str(name)))


def _no_markers(image: NDArray[np.uint8], board: Board) -> str:
    """What else may be in the picture."""
    for family in _FAMILIES:
        _, ids, _ = cv2.aruco.ArucoDetector(_dictionary(family)).detectMarkers(image)
        if ids is not None and len(ids) >= _LEAST_MARKERS:
            return f"no marker of {board.dictionary}, but {len(ids)} of the family {family}"
    return f"no marker of {board.dictionary}"


def _check_layout(board: Board, ids: IntArray, quads: FloatArray) -> None:
    """Refuse markers (M, 4, 2 px) that do not lie as the declared board has them."""
    needed = len(board.cv().getIds())
    strangers = ids[ids >= needed]
    if len(ids) < _LEAST_MARKERS:
        return
    share, side = _layout_fit(board.cv(), ids, quads)
    other = _other_layout(board, ids, quads) if share < 0.8 else ""
    if len(strangers) > 0.1 * len(ids) or share < 0.8:
        raise _mismatch(
            board,
            f"{len(ids)} markers numbered up to {ids.max()} (the declared board has {needed}), "
            f"{share:.0%} of them where it has them" + other,
            "count the squares of the board, columns first; boards made in another way may number their markers otherwise",
        )
    declared = float(board.marker_mm or 0.0)
    if abs(side / declared - 1) > _MARKER_SIZE_TOLERANCE:
        raise _mismatch(
            board,
            f"markers of {side / board.square_mm:.3f} of a square; declared: {declared / board.square_mm:.3f}",
            "measure a square and a marker: one of square_mm and marker_mm is wrong",
        )


def _layout_fit(layout: Any, ids: IntArray, quads: FloatArray) -> tuple[float, float]:
    """Share of the markers that lie on one plane as ``layout`` has them, and their median side as they measure, mm."""
    known = [k for k, number in enumerate(ids) if number < len(layout.getIds())]
    if len(known) < _LEAST_MARKERS:
        return 0.0, 0.0
    points = np.stack([np.asarray(layout.getObjPoints()[ids[k]], np.float64)[:, :2] for k in known])
    centres, middle = points.mean(axis=1), quads[known].mean(axis=1)
    tolerance = 0.25 * float(np.linalg.norm(points[0, 1] - points[0, 0]))
    matrix, inside = cv2.findHomography(middle, centres, cv2.RANSAC, tolerance)
    if matrix is None:
        return 0.0, 0.0
    flat = cv2.perspectiveTransform(quads[known].reshape(1, -1, 2), matrix).reshape(-1, 4, 2)
    sides = np.linalg.norm(flat - np.roll(flat, 1, axis=1), axis=2)
    kept = inside.ravel().astype(bool)
    return float(kept.sum() / len(ids)), float(np.median(sides[kept]))


def _other_layout(board: Board, ids: IntArray, quads: FloatArray) -> str:
    """The layout that would fit, if one does: other counts of columns, or OpenCV's legacy pattern."""
    columns, rows = board.squares
    for legacy in (False, True):
        for count in range(3, 41):
            least_rows = max(3, -(-2 * (int(ids.max()) + 1) // count))
            for other_rows in {least_rows, rows} if count == columns else {least_rows}:
                size = (count, other_rows)
                if (size == board.squares and not legacy) or count * other_rows // 2 <= ids.max():
                    continue
                dictionary = _dictionary(board.dictionary)
                if count * other_rows // 2 > len(dictionary.bytesList):
                    continue
                layout = cv2.aruco.CharucoBoard(size, board.square_mm, board.marker_mm, dictionary)
                layout.setLegacyPattern(legacy)
                if _layout_fit(layout, ids, quads)[0] > 0.9:
                    kind = ", in OpenCV's legacy pattern (not supported)" if legacy else ""
                    return f"; they fit {count} columns of squares and {other_rows} or more rows{kind}"
    return ""


# ----------------------------------------------------------------------------------------------------------- chessboard
_QUICK = cv2.CALIB_CB_ACCURACY
_THOROUGH = _QUICK | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_EXHAUSTIVE


def _chessboard(image: NDArray[np.uint8], board: Board) -> tuple[IntArray, FloatArray]:
    columns, rows = board.grid
    evened = cv2.createCLAHE(2.0, (8, 8)).apply(image)  # against shading, and where a square is cut by the border
    for picture, flags in ((image, _QUICK), (evened, _QUICK), (evened, _THOROUGH)):
        found, corners = cv2.findChessboardCornersSB(picture, (columns, rows), flags=flags)
        if found:
            break
    else:
        raise _nothing_fits(evened, board)
    larger = _grid_seen(image, (columns, rows))
    if larger is not None and larger not in ((columns, rows), (rows, columns)):
        raise _mismatch(
            board,
            f"a grid of {larger[0]}×{larger[1]} inner corners; declared: {columns}×{rows}",
            "count the squares of the board, columns first: there is one inner corner fewer each way",
        )
    grid = np.asarray(corners, np.float64).reshape(rows, columns, 2)
    return np.arange(rows * columns), _oriented(image, grid).reshape(-1, 2)


def _nothing_fits(image: NDArray[np.uint8], board: Board) -> CalibrationError:
    columns, rows = board.grid
    seen = _grid_seen(image, (3, 3))
    if seen is None:
        return board_not_found(board, "no grid of squares")
    if min(seen) > min(columns, rows) or max(seen) > max(columns, rows):
        return _mismatch(
            board,
            f"a grid of {seen[0]}×{seen[1]} inner corners; declared: {columns}×{rows}",
            "count the squares of the board, columns first: there is one inner corner fewer each way",
        )
    return board_not_found(
        board,
        f"a grid of {seen[0]}×{seen[1]} inner corners of {columns}×{rows}: a part of the board is hidden, or it has fewer "
        "squares than declared",
    )


def _grid_seen(image: NDArray[np.uint8], least: tuple[int, int]) -> tuple[int, int] | None:
    """Columns and rows of the largest grid of inner corners of at least ``least``."""
    found, _, meta = cv2.findChessboardCornersSBWithMeta(image, least, _QUICK | cv2.CALIB_CB_LARGER)
    return (int(meta.shape[1]), int(meta.shape[0])) if found else None


def _oriented(image: NDArray[np.uint8], grid: FloatArray) -> FloatArray:
    """The grid (rows, columns, 2) turned so that z points into the board, its first square is black, and the columns run
    to the right as far as that leaves a choice."""
    x, y = grid[0, -1] - grid[0, 0], grid[-1, 0] - grid[0, 0]
    if x[0] * y[1] - x[1] * y[0] < 0:  # seen from behind: no board is
        grid = grid[:, ::-1]
    turns = (0, 1, 2, 3) if grid.shape[0] == grid.shape[1] else (0, 2)
    turned = [np.rot90(grid, k) for k in turns]
    black = [_first_square_is_black(image, g) for g in turned]
    best = max(
        range(len(turned)),
        key=lambda k: (black[k], (turned[k][:, -1] - turned[k][:, 0]).sum(axis=0)[0]),
    )
    return np.ascontiguousarray(turned[best])


def _first_square_is_black(image: NDArray[np.uint8], grid: FloatArray) -> bool:
    """Whether the squares of the colour of the one at the origin are darker: all inner squares vote."""
    middles = (grid[:-1, :-1] + grid[:-1, 1:] + grid[1:, :-1] + grid[1:, 1:]) / 4
    v, u = (np.clip(np.rint(middles[..., k]).astype(int), 0, image.shape[1 - k] - 1) for k in (1, 0))
    values = cv2.blur(image, (3, 3))[v, u].astype(np.float64)
    # the inner square (1, 1) is the first of these; it has the colour of the one at the origin
    same = np.add.outer(np.arange(values.shape[0]), np.arange(values.shape[1])) % 2 == 0
    return bool(values[same].mean() < values[~same].mean())
