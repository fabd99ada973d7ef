"""Prints of calibration boards as functions of position: no bitmap, so that their edges lie where the numbers say.

A board's print is a rectilinear grid: straight lines across the plate in x and in y, and one shade for each cell between
them. A chessboard has a line at each side of a square; a ChArUco board has further lines at the sides of its markers'
bits. Lengths are millimetres; the print's own axes have their origin in the middle of the plate, x right and y up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.errors import InputError

FloatArray = NDArray[np.float64]

EDGE_MM = 0.004
"""Width over which an edge of the print passes from black to white, half of it on either side of the exact line."""


@dataclass(frozen=True, eq=False)
class Print:
    """A print of straight lines and uniform cells.

    Attributes
    ----------
    x_mm, y_mm : (I,), (J,) float64
        Where the lines run, ascending.
    black : (J + 1, I + 1) float64
        1 where a cell is black, 0 where it is white; row j lies between y lines j − 1 and j, the outer cells reach to
        the sides of the plate.
    """

    x_mm: FloatArray
    y_mm: FloatArray
    black: FloatArray

    def coverage(self, xy: FloatArray) -> FloatArray:
        """Share of black ink, (N,) 0 to 1, at points (N, 2) in mm; a half on the lines themselves."""
        i, along = _cell(self.x_mm, xy[:, 0])
        j, up = _cell(self.y_mm, xy[:, 1])
        below = self.black[j, i] * (1 - along) + self.black[j, i + 1] * along
        above = self.black[j + 1, i] * (1 - along) + self.black[j + 1, i + 1] * along
        return np.asarray(below * (1 - up) + above * up)


def _cell(lines: FloatArray, at: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    """Number of the line nearest to each point, and how far the point has passed it: 0 before, 1 behind the soft edge."""
    middles = (lines[1:] + lines[:-1]) / 2
    nearest = np.searchsorted(middles, at)
    return nearest, np.clip((at - lines[nearest]) / EDGE_MM + 0.5, 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Board:
    """A printed board: its plate, its print and its inner corners.

    Attributes
    ----------
    plate_mm : (float, float)
        Width (x) and height (y) of the plate.
    ink : Print
    corners_mm : (N, 2) float64
        Inner corners of the squares, row by row from the top left one, in the print's axes.
    """

    plate_mm: tuple[float, float]
    ink: Print
    corners_mm: FloatArray

    def texture(self, top_mm: float, black: float) -> Callable[[FloatArray], FloatArray]:
        """Factors on the white of the plate: ``black`` where there is ink. The print is on the face at z = ``top_mm``.

        Walls and underside stay white; 10 µm below the top counts as top, for points that were found by single-precision
        ray casting.
        """

        def factors(points: FloatArray) -> FloatArray:
            out = np.ones((len(points), 4))
            top = points[:, 2] > top_mm - 0.01
            out[top, :3] -= (1 - black) * self.ink.coverage(points[top, :2])[:, None]
            return out

        return factors


def chessboard(squares: tuple[int, int], square_mm: float, margin_mm: float) -> Board:
    """A chessboard of ``squares`` (columns, rows), the top left one black, with a white margin around it."""
    _check_squares(squares, square_mm, margin_mm)
    columns, rows = squares
    black = (np.add.outer(np.arange(rows), np.arange(columns)) % 2 == 0).astype(np.float64)
    x, y = (np.arange(n, dtype=np.float64) * square_mm for n in squares)
    return _board(squares, square_mm, margin_mm, x, y, black)


def charuco(
    squares: tuple[int, int], square_mm: float, marker_mm: float, dictionary: str, margin_mm: float = 0.0
) -> Board:
    """A ChArUco board as OpenCV lays it out since 4.6 (no legacy pattern).

    The top left square is black; the white squares hold the markers 0, 1, 2 … of the dictionary, row by row from the top
    left (Garrido-Jurado et al., Pattern Recognition 2014). The bits are those of ``cv2.aruco``; the layout is our own.
    """
    _check_squares(squares, square_mm, margin_mm)
    bits = _marker_bits(dictionary)
    columns, rows = squares
    needed, side = columns * rows // 2, bits.shape[1]
    if needed > len(bits):
        raise InputError(
            f"a board of {columns}×{rows} squares needs {needed} markers; {dictionary} has {len(bits)}",
            hint="take fewer squares or a larger dictionary, for example DICT_4X4_100",
            code="simulate.target_option",
        )
    gap = (square_mm - marker_mm) / 2
    if not (gap >= EDGE_MM and marker_mm / side >= EDGE_MM):
        raise InputError(
            f"markers of {marker_mm} mm do not fit squares of {square_mm} mm; allowed: {side * EDGE_MM:g} to "
            f"{square_mm - 2 * EDGE_MM:g} mm",
            hint="a marker needs a white border in its square; three quarters of the square is usual",
            code="simulate.target_option",
        )
    within = np.concatenate([[0.0], gap + np.arange(side + 1) * (marker_mm / side)])
    x = np.add.outer(np.arange(columns) * square_mm, within).ravel()
    y = np.add.outer(np.arange(rows) * square_mm, within).ravel()
    cells = side + 2
    black = np.ones((rows * cells, columns * cells))
    marker = 0
    for row in range(rows):
        for column in range(columns):
            if (row + column) % 2:
                black[row * cells : (row + 1) * cells, column * cells : (column + 1) * cells] = np.pad(bits[marker], 1)
                marker += 1
    return _board(squares, square_mm, margin_mm, x, y, black)


def _marker_bits(dictionary: str) -> NDArray[np.float64]:
    """(M, side, side) cells of all markers of an OpenCV dictionary with their black frame: 1 black, 0 white."""
    known = sorted(name for name in dir(cv2.aruco) if name.startswith("DICT_"))
    if dictionary not in known:
        raise InputError(
            f"marker dictionary {dictionary!r} is not known; known: {', '.join(known)}",
            hint="name one as OpenCV does, for example DICT_4X4_50",
            code="simulate.target_option",
        )
    source = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, dictionary))
    side = source.markerSize + 2
    images = [source.generateImageMarker(number, side) for number in range(len(source.bytesList))]
    return np.asarray(np.stack(images) == 0, dtype=np.float64)


def _check_squares(squares: tuple[int, int], square_mm: float, margin_mm: float) -> None:
    if min(squares) < 3 or max(squares) > 200:
        raise InputError(
            f"a board of {squares[0]}×{squares[1]} squares; allowed: 3 to 200 each way", code="simulate.target_option"
        )
    if not 2 * EDGE_MM <= square_mm <= 1000.0:
        raise InputError(
            f"squares of {square_mm} mm; allowed: {2 * EDGE_MM:g} to 1000 mm", code="simulate.target_option"
        )
    if not (margin_mm == 0.0 or 2 * EDGE_MM <= margin_mm <= 1000.0):
        raise InputError(
            f"margin of {margin_mm} mm; allowed: 0, or {2 * EDGE_MM:g} to 1000 mm", code="simulate.target_option"
        )


def _board(
    squares: tuple[int, int], square_mm: float, margin_mm: float, x: FloatArray, y: FloatArray, black: FloatArray
) -> Board:
    """Board from lines x, y that begin the columns and rows of ``black``, counted from the top left corner, y down."""
    width, height = squares[0] * square_mm, squares[1] * square_mm
    x, y = np.append(x, width), np.append(y, height)
    # Without a margin the outer cells go on past the side of the plate, so that nothing softens there.
    black = np.pad(black, 1, mode="constant" if margin_mm else "edge")
    ink = Print(x - width / 2, height / 2 - y[::-1], black[::-1].copy())
    column, row = np.meshgrid(np.arange(1, squares[0]), np.arange(1, squares[1]))
    corners = np.stack([column.ravel() * square_mm - width / 2, height / 2 - row.ravel() * square_mm], axis=-1)
    return Board((width + 2 * margin_mm, height + 2 * margin_mm), ink, corners)
