"""Printed calibration boards: ChArUco (chessboard with markers) and plain chessboard, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.errors import CalibrationError

FloatArray = NDArray[np.float64]
BoardKind = Literal["charuco", "chessboard"]

KINDS: tuple[BoardKind, ...] = ("charuco", "chessboard")
MAX_SQUARES = 200
MIN_SQUARE_MM, MAX_SQUARE_MM = 0.01, 2000.0


@dataclass(frozen=True)
class Board:
    """A flat board of black and white squares, the one at its origin black.

    Its frame is OpenCV's: origin at the outer corner of the first square, x along the columns, y along the rows (down as
    printed), z into the board; mm.

    Parameters
    ----------
    kind : {"charuco", "chessboard"}
        ChArUco: a chessboard whose white squares hold markers 0, 1, 2 …, row by row (OpenCV's layout since 4.6, not the
        legacy one).
    squares : (int, int)
        Columns and rows of *squares*; there is one inner corner fewer each way.
    square_mm : float
        Side of a square.
    marker_mm, dictionary : float, str
        Side of a marker and OpenCV's name of the markers, for example ``DICT_4X4_50``; ChArUco only.

    Raises
    ------
    CalibrationError
        ``calibration.board_invalid``.
    """

    kind: BoardKind = "charuco"
    squares: tuple[int, int] = (10, 7)
    square_mm: float = 4.0
    marker_mm: float | None = None
    dictionary: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise _invalid("kind", repr(self.kind), " or ".join(KINDS))
        object.__setattr__(self, "squares", _counts(self.squares))
        object.__setattr__(self, "square_mm", _length("square_mm", self.square_mm, MIN_SQUARE_MM, MAX_SQUARE_MM))
        if self.kind == "chessboard":
            for name in ("marker_mm", "dictionary"):
                if getattr(self, name) is not None:
                    raise _invalid(name, repr(getattr(self, name)), "none: a chessboard has no markers")
            return
        if self.marker_mm is None:
            object.__setattr__(self, "marker_mm", 0.75 * self.square_mm)
        if self.dictionary is None:
            object.__setattr__(self, "dictionary", "DICT_4X4_50")
        largest = 0.98 * self.square_mm
        object.__setattr__(self, "marker_mm", _length("marker_mm", self.marker_mm, 0.2 * self.square_mm, largest))
        needed, held = self.squares[0] * self.squares[1] // 2, _markers_of(self.dictionary)
        if needed > held:
            raise _invalid(
                "squares",
                f"{self.squares[0]}×{self.squares[1]}, which needs {needed} markers",
                f"what the {held} markers of {self.dictionary} can fill",
            )

    @classmethod
    def chessboard(cls, squares: tuple[int, int] = (12, 9), square_mm: float = 3.0) -> Board:
        """A plain chessboard of ``squares`` columns and rows."""
        return cls("chessboard", squares, square_mm)

    @property
    def grid(self) -> tuple[int, int]:
        """Columns and rows of inner corners."""
        return self.squares[0] - 1, self.squares[1] - 1

    @property
    def corners_mm(self) -> FloatArray:
        """Inner corners 0 … N − 1, row by row: (N, 3) float64, mm, board frame, z = 0."""
        columns, rows = self.grid
        row, column = np.mgrid[1 : rows + 1, 1 : columns + 1]
        xy = np.stack([column.ravel(), row.ravel()], axis=-1) * self.square_mm
        return np.column_stack([xy, np.zeros(len(xy))])

    def cv(self) -> Any:
        """The board as ``cv2.aruco.CharucoBoard``; raises ``calibration.board_invalid`` for a chessboard."""
        if self.kind != "charuco":
            raise _invalid("kind", repr(self.kind), "charuco: only a board with markers has an OpenCV board")
        dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, str(self.dictionary)))
        return cv2.aruco.CharucoBoard(self.squares, self.square_mm, self.marker_mm, dictionary)

    def to_plain(self) -> dict[str, Any]:
        """The board as plain JSON data."""
        return asdict(self) | {"squares": list(self.squares)}

    @classmethod
    def from_plain(cls, data: object) -> Board:
        """The board that :meth:`to_plain` described; ``marker_mm`` and ``dictionary`` may be absent.

        Raises ``calibration.board_invalid``, naming the key.
        """
        if not isinstance(data, Mapping):
            raise _invalid("description", type(data).__name__, "a table of kind, squares, square_mm, …")
        known, needed = set(cls.__dataclass_fields__), ("kind", "squares", "square_mm")
        strange, missing = sorted(map(str, set(data) - known)), [key for key in needed if key not in data]
        if strange or missing:
            found = f"with unknown {', '.join(strange)}" if strange else f"without {', '.join(missing)}"
            raise _invalid("description", found, f"{', '.join(needed)}, and for ChArUco marker_mm, dictionary")
        return cls(**data)

    def __str__(self) -> str:
        text = f"{self.kind} of {self.squares[0]}×{self.squares[1]} squares of {self.square_mm:g} mm"
        return text if self.kind == "chessboard" else f"{text}, markers {self.marker_mm:g} mm, {self.dictionary}"


def _invalid(name: str, value: object, allowed: str) -> CalibrationError:
    return CalibrationError(
        f"board {name} is {value}; allowed: {allowed}",
        hint="describe the board as it is printed: count its squares, measure one side over many of them",
        code="calibration.board_invalid",
    )


def _counts(squares: Any) -> tuple[int, int]:
    allowed = f"two whole numbers (columns, rows), 3 to {MAX_SQUARES}"
    if isinstance(squares, str) or not hasattr(squares, "__len__") or len(squares) != 2:
        raise _invalid("squares", repr(squares), allowed)
    for count in squares:
        whole = isinstance(count, (int, np.integer)) and not isinstance(count, bool)
        if not whole or not 3 <= count <= MAX_SQUARES:
            raise _invalid("squares", repr(squares), allowed)
    return int(squares[0]), int(squares[1])


def _length(name: str, value: Any, low: float, high: float) -> float:
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or not low <= value <= high:
        raise _invalid(name, repr(value), f"{low:g} to {high:g} mm")
    return float(value)


def _markers_of(dictionary: Any) -> int:
    """How many markers an OpenCV dictionary holds."""
    known = sorted(name for name in dir(cv2.aruco) if name.startswith("DICT_"))
    if dictionary not in known:
        raise _invalid("dictionary", repr(dictionary), ", ".join(known))
    return len(cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, dictionary)).bytesList)
