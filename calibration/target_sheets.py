"""Calibration boards as sheets to print: where every black rectangle and every word lies on the page, in mm.

A sheet is true to scale and says so: rulers along both axes and a length to measure on each, for printers stretch paper,
and rarely alike in both directions. Its margin names the board and the options that tell ``calibrate rig`` of
it. :mod:`rakelight.calibration.sheet_files` writes it as PDF, SVG or PNG.

Page frame: origin at the top left corner of the page, x right, y down, mm. Layout of the markers: S. Garrido-Jurado et
al., "Automatic generation and detection of highly reliable fiducial markers under occlusion", Pattern Recognition 47
(2014), as OpenCV draws it since 4.6.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.boards import Board
from rakelight.errors import InputError

FloatArray = NDArray[np.float64]

PAGES_MM = {"a4": (210.0, 297.0), "a3": (297.0, 420.0), "letter": (215.9, 279.4)}
"""Pages by name, width and height upright."""
MAX_PAGE_MM = 3000.0
MEASURED_MM = 30.0
"""The length to measure on each ruler."""
CHARACTER_EM = 0.56
"""Width a letter may have, of its size: more than the mean of Helvetica and its kin, so that lines are never cut."""

_MARGIN_MM = 10.0  # office printers leave 4 to 6 mm of a page white
_RULER_MM = 13.0  # room across a ruler
_LINE_MM = 0.12
_USUAL_RULER_MM = 101.0  # and no shorter than the board
_TEXT_MM, _LEADING = 2.2, 1.45
_TOWARDS_MIDDLE = 0.15  # of the room that is left goes above and at the left


@dataclass(frozen=True)
class Words:
    """One line of text: ``(x_mm, y_mm)`` is where its base line begins; upright lines run up the page."""

    x_mm: float
    y_mm: float
    size_mm: float
    text: str
    upright: bool = False


@dataclass(frozen=True, eq=False)
class TargetSheet:
    """A board laid out on a page.

    Attributes
    ----------
    board : Board
    page_mm : (float, float)
        Width and height of the page.
    corner_mm : (float, float)
        Origin of the board's frame (outer corner of its first square) on the page.
    print_mm : (N, 4) float64
        Black rectangles of the board: x, y, width, height; they touch but do not overlap.
    ruler_mm : (M, 4) float64
        Black rectangles of the rulers.
    words : tuple of Words
    """

    board: Board
    page_mm: tuple[float, float]
    corner_mm: tuple[float, float]
    print_mm: FloatArray
    ruler_mm: FloatArray
    words: tuple[Words, ...]

    @property
    def corners_mm(self) -> FloatArray:
        """The board's inner corners on the page, (N, 2) float64 mm."""
        return np.asarray(self.board.corners_mm[:, :2] + self.corner_mm)


def board_rectangles(board: Board) -> FloatArray:
    """The black rectangles of a board, (N, 4) float64: x, y, width, height in mm, board frame.

    Squares and their edges lie at exact multiples of ``square_mm``. Black cells of a marker that touch are joined to as
    few rectangles as runs allow.
    """
    columns, rows = board.squares
    side = board.square_mm
    black = [(c * side, r * side, side, side) for r in range(rows) for c in range(columns) if (r + c) % 2 == 0]
    if board.kind == "chessboard":
        return np.array(black)
    source = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, str(board.dictionary)))
    cells = source.markerSize + 2
    assert board.marker_mm is not None  # of a ChArUco board it is known
    pitch, gap = board.marker_mm / cells, (side - board.marker_mm) / 2
    marker = 0
    for row in range(rows):
        for column in range(columns):
            if (row + column) % 2 == 0:
                continue
            image = source.generateImageMarker(marker, cells) == 0
            x, y = column * side + gap, row * side + gap
            black += [(x + c * pitch, y + r * pitch, w * pitch, h * pitch) for c, r, w, h in _joined(image)]
            marker += 1
    return np.array(black)


def _moved(rectangles: FloatArray, x: float, y: float) -> FloatArray:
    return np.asarray(rectangles + np.array([x, y, 0.0, 0.0]))


def _joined(cells: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """Column, row, width, height of rectangles that fill the true cells: runs along rows, equal ones below each other."""
    done: list[tuple[int, int, int, int]] = []
    growing: dict[tuple[int, int], tuple[int, int]] = {}  # (first, last + 1) → (first row, height)
    for row, line in enumerate([*cells, np.zeros_like(cells[0])]):
        steps = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]]).astype(np.int8)))
        runs = {(int(a), int(b)) for a, b in list(pairwise(steps))[::2]}
        for (a, b), (top, height) in [item for item in growing.items() if item[0] not in runs]:
            done.append((a, top, b - a, height))
            del growing[a, b]
        for run in runs:
            top, height = growing.get(run, (row, 0))
            growing[run] = (top, height + 1)
    return sorted(done, key=lambda r: (r[1], r[0]))


def page_size(page: str) -> tuple[float, float]:
    """Width and height in mm of ``"a4"``, ``"a3"``, ``"letter"`` or ``"210x297"``.

    Raises :class:`InputError` ``target.page``.
    """
    name = page.strip().lower()
    if name in PAGES_MM:
        return PAGES_MM[name]
    found = re.fullmatch(r"(\d{1,4}(?:\.\d{1,4})?)[x×](\d{1,4}(?:\.\d{1,4})?)", name, re.ASCII)
    size = (float(found[1]), float(found[2])) if found else (0.0, 0.0)
    if not all(1 <= side <= MAX_PAGE_MM for side in size):
        raise InputError(
            f"page {page!r}; allowed: {', '.join(PAGES_MM)}, or width x height in mm, each 1 to {MAX_PAGE_MM:g}",
            hint="for example a4, or 100x80 for a plate",
            code="target.page",
        )
    return size


def lay_out(board: Board, page: str = "a4") -> TargetSheet:
    """A board on a page, with rulers at its left and below it and words below these.

    Parameters
    ----------
    board : Board
    page : str
        As :func:`page_size` takes it. A named page is turned on its side where the board fits only then; a page given by
        its size is taken as it is.

    Raises
    ------
    InputError
        ``target.page``: no such page; ``target.does_not_fit``: board, white border, rulers and words need more room.
    """
    size = page_size(page)
    sides = [size, size[::-1]] if page.strip().lower() in PAGES_MM else [size]
    lines = _lines(board)
    needed = _needed(board, lines)
    page_mm = next((s for s in sides if s[0] >= needed[0] and s[1] >= needed[1]), None)
    if page_mm is None:
        raise InputError(
            f"{board} is {board.squares[0] * board.square_mm:g}×{board.squares[1] * board.square_mm:g} mm; with its white "
            f"border, rulers and words it needs {needed[0]:.1f}×{needed[1]:.1f} mm, the page {page} has "
            f"{size[0]:g}×{size[1]:g} mm",
            hint=f"take fewer or smaller squares, or --page {math.ceil(needed[0])}x{math.ceil(needed[1])}",
            code="target.does_not_fit",
        )
    return _sheet(board, page_mm, lines)


def settings_text(board: Board) -> str:
    """The options by which ``rakelight calibrate`` learns of the board."""
    text = f"--kind {board.kind} --squares {board.squares[0]}x{board.squares[1]} --square-mm {board.square_mm:.10g}"
    if board.kind == "chessboard":
        return text
    return f"{text} --marker-mm {board.marker_mm:.10g} --dictionary {board.dictionary}"


def _lines(board: Board) -> list[str]:
    """What stands below the board: short lines, so that small plates hold them, in letters that every font has."""
    options = settings_text(board).split(" --marker-mm", 1)
    name, _, markers = str(board).replace("×", "x").partition(", ")
    return [
        f"rakelight {name}{',' * bool(markers)}",
        *([markers] if markers else []),
        "calibrate rig options:",
        f"  {options[0]}",
        *(f"  --marker-mm{rest}" for rest in options[1:]),
        "Print at 100 %, not fitted to the page.",
        "Mount it on a flat plate, then measure.",
        f"If {MEASURED_MM:.2f} mm are M mm both ways, give",
        f"  --square-mm {board.square_mm:.6g} * M/{MEASURED_MM:g}; if they differ, print anew.",
    ]


def _quiet_mm(board: Board) -> float:
    """White around the print, which detectors need: one square. At the top and the right the page's margin is enough."""
    return min(max(board.square_mm, 2.0), _MARGIN_MM)


def _words_mm(lines: list[str]) -> tuple[float, float]:
    """Room that the lines of words take up."""
    return max(map(len, lines)) * CHARACTER_EM * _TEXT_MM, len(lines) * _TEXT_MM * _LEADING


def _needed(board: Board, lines: list[str]) -> tuple[float, float]:
    """The smallest page that holds everything, in mm."""
    quiet, words = _quiet_mm(board), _words_mm(lines)
    width = max(board.squares[0] * board.square_mm + quiet, words[0], MEASURED_MM + 2)
    height = max(board.squares[1] * board.square_mm + quiet, MEASURED_MM + 2)
    return 2 * _MARGIN_MM + _RULER_MM + width, 2 * _MARGIN_MM + height + _RULER_MM + words[1]


def _sheet(board: Board, page_mm: tuple[float, float], lines: list[str]) -> TargetSheet:
    needed, quiet = _needed(board, lines), _quiet_mm(board)
    wide, high = board.squares[0] * board.square_mm, board.squares[1] * board.square_mm
    left = _MARGIN_MM + _RULER_MM + round((page_mm[0] - needed[0]) * _TOWARDS_MIDDLE)
    top = _MARGIN_MM + round((page_mm[1] - needed[1]) * _TOWARDS_MIDDLE)
    room = (page_mm[0] - _MARGIN_MM - left, page_mm[1] - _MARGIN_MM - _RULER_MM - _words_mm(lines)[1] - top)
    corner = (left + quiet, top + 0.0)
    below = top + max(high + quiet, MEASURED_MM + 2)
    across = _ruler(min(room[0], max(_USUAL_RULER_MM, wide + quiet)))
    along = _ruler(min(room[1], max(_USUAL_RULER_MM, high + quiet))).turned()
    words = [Words(left, below + _RULER_MM + (k + 1) * _TEXT_MM * _LEADING, _TEXT_MM, t) for k, t in enumerate(lines)]
    return TargetSheet(
        board,
        page_mm,
        corner,
        _moved(board_rectangles(board), *corner),
        np.concatenate([across.at(left, below), along.at(left - 2.0, top)]),
        (*across.words_at(left, below), *along.words_at(left - 2.0, top), *words),
    )


# --------------------------------------------------------------------------------------------------------------- rulers
@dataclass(frozen=True, eq=False)
class _Ruler:
    """Ticks (rectangles) and numbers of a ruler that begins at the origin."""

    lines: FloatArray
    words: tuple[Words, ...]

    def turned(self) -> _Ruler:
        """The ruler that runs down the page, its numbers at the left."""
        x, y, w, h = self.lines.T
        words = tuple(replace(t, x_mm=-t.y_mm + 0.7 * t.size_mm, y_mm=t.x_mm, upright=True) for t in self.words)
        # An upright line runs up from where it begins; here it must end where the level one began.
        words = tuple(replace(t, y_mm=t.y_mm + len(t.text) * CHARACTER_EM * t.size_mm * 0.9) for t in words)
        return _Ruler(np.column_stack([-y - h, x, h, w]), words)

    def at(self, x: float, y: float) -> FloatArray:
        return _moved(self.lines, x, y)

    def words_at(self, x: float, y: float) -> tuple[Words, ...]:
        return tuple(replace(t, x_mm=t.x_mm + x, y_mm=t.y_mm + y) for t in self.words)


def _ruler(room_mm: float) -> _Ruler:
    """A level ruler with a tick each mm, as long as whole centimetres allow, and the length to measure below it."""
    length = int((room_mm - 1) // 10) * 10
    lines = [(-_LINE_MM / 2, 0.0, length + _LINE_MM, _LINE_MM)]
    words = []
    for mm in range(length + 1):
        tick = 3.0 if mm % 10 == 0 else 2.2 if mm % 5 == 0 else 1.5
        lines.append((mm - _LINE_MM / 2, 0.0, _LINE_MM, tick))
        if mm % 10 == 0 and mm != MEASURED_MM:
            words.append(Words(mm + 0.5, 4.6, 1.8, str(mm)))
    end = 9.6  # the two ticks to measure between
    lines += [(at - _LINE_MM / 2, 0.0, _LINE_MM, end) for at in (0.0, MEASURED_MM)]
    lines.append((0.0, 8.6, MEASURED_MM, _LINE_MM))
    words += [Words(MEASURED_MM + 0.5, 4.6, 1.8, f"{MEASURED_MM:g}")]
    words.append(Words(1.5, 7.8, 2.1, f"measure this: {MEASURED_MM:.2f} mm"))
    return _Ruler(np.array(lines), tuple(words))
