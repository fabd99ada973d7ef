"""Inner corners of a calibration board in an image, to a few hundredths of a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.calibration._board_search import board_not_found, search
from rakelight.calibration._corner_fit import SmoothMap, crosses, fit_cross
from rakelight.calibration.boards import Board
from rakelight.errors import InputError

FloatArray = NDArray[np.float64]

MIN_CORNERS = 6
_CELLS = {"RG": "RGGB", "GR": "GRBG", "GB": "GBRG", "BG": "BGGR"}


@dataclass(frozen=True, eq=False)
class Corners:
    """Corners of a board in an image.

    Attributes
    ----------
    ids : (N,) int64
        Numbers as in ``Board.corners_mm``, ascending.
    uv : (N, 2) float64
        Camera px, pixel centre at integer.
    widths_px : (N, 2) float64
        Width (sigma of the blur) of the edges that run along the board's x and y.
    """

    ids: NDArray[np.int64]
    uv: FloatArray
    widths_px: FloatArray

    @cached_property
    def sharpness_px(self) -> float:
        """Width (sigma) of the board's edges in px, of the direction that is blurred more: small is sharp."""
        return float(np.median(self.widths_px, axis=0).max())


def find_corners(image: NDArray[Any], board: Board) -> Corners:
    """Find a board's inner corners.

    OpenCV's detectors (``CharucoDetector``; ``findChessboardCornersSB``) say which corner is where; the places are then
    fitted anew to the edges (:mod:`rakelight.calibration._corner_fit`). Corners where no cross of two edges is seen (glare,
    a finger) are left out. A chessboard must be seen whole, a ChArUco board need not be.

    A chessboard's first corner is the one at a black corner square; where that leaves a choice (both counts of squares
    even, or both odd) it is the one that makes the columns run to the right of the image as far as may be.

    Parameters
    ----------
    image : (H, W) uint8, uint16 or float32
        Linear grey, NaN counts as 0; of a Bayer mosaic take :func:`grey_of` first.

    Raises
    ------
    CalibrationError
        ``calibration.board_not_found``; ``calibration.board_mismatch`` where another board than the declared one is seen.
    InputError
        Another shape or dtype.
    """
    check_array("image", image, ndim=2, dtypes=("uint8", "uint16", "float32"))
    grey = np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32, copy=False)
    ids, uv = search(grey, board)
    xy = board.corners_mm[:, :2]
    gap = np.inf if board.marker_mm is None else (1.0 - board.marker_mm / board.square_mm) / 2
    widths = np.full((len(ids), 2), np.nan)
    for _ in range(2):  # once more with the map that the first round's places give
        board_map = SmoothMap.fit(xy[ids], uv) if len(ids) >= MIN_CORNERS else None
        if board_map is None:
            raise board_not_found(board, f"{len(ids)} corners of {len(xy)} that lie on no plane grid")
        fits = [fit_cross(grey, cross) for cross in crosses(board_map, xy[ids], uv, board.square_mm, gap)]
        seen = [k for k, fit in enumerate(fits) if fit is not None]
        found = [fit for fit in fits if fit is not None]
        if len(found) < MIN_CORNERS:
            raise board_not_found(board, f"{len(fits)} corners, but crossing edges at {len(found)} of them only")
        ids = ids[seen]
        uv, widths = np.array([fit[0] for fit in found]), np.array([fit[1] for fit in found])
    return Corners(ids, uv, widths)


def grey_of(frame: NDArray[Any], bayer: str | None) -> NDArray[np.float32]:
    """The full-resolution grey of a frame of a grey object, each photosite where it is: float32 (H, W).

    Every photosite stays in its place; red and blue are only brought to the scale of green, by a straight line fitted to
    the cells of the mosaic that show no edge (so an unknown black level does no harm). No neighbour is mixed in, so there is
    neither a blur nor a shift of half a pixel. Coloured surfaces keep a chequer.

    Parameters
    ----------
    frame : (H, W) uint8, uint16 or float32
    bayer : {"RG", "GR", "GB", "BG"} or None
        Colours of the first two photosites of the first row; None: the frame is grey already.

    Raises
    ------
    InputError
        ``input.bayer``, or a shape or dtype that does not fit.
    """
    check_array("frame", frame, ndim=2, dtypes=("uint8", "uint16", "float32"))
    out = np.array(frame, dtype=np.float32)
    if bayer is None:
        return out
    if bayer not in _CELLS:
        raise InputError(f"Bayer pattern {bayer!r}; allowed: {', '.join(_CELLS)}", code="input.bayer")
    if min(frame.shape) < 16:
        raise InputError(f"a Bayer mosaic of {frame.shape} pixels; at least 16×16 are needed", code="input.shape")
    height, width = (n // 2 * 2 for n in frame.shape)
    step = max(2, 2 * round(max(height, width) / 2000))  # enough cells for a line
    sites = [
        out[row:height:2, column:width:2][:: step // 2, :: step // 2].ravel() for row in (0, 1) for column in (0, 1)
    ]
    greens = [k for k in range(4) if _CELLS[bayer][k] == "G"]
    first, second = sites[greens[0]], sites[greens[1]]
    green = (first + second) / 2
    for k in range(4):
        if k not in greens:
            gain, offset = _line(sites[k], green, np.abs(first - second))
            out[k // 2 :: 2, k % 2 :: 2] *= gain
            out[k // 2 :: 2, k % 2 :: 2] += offset
    return out


def _line(site: NDArray[Any], green: NDArray[Any], edge: NDArray[Any]) -> tuple[float, float]:
    """Gain and offset that bring ``site`` to ``green``, from flat, unclipped cells; robust against a coloured minority."""
    top = float(np.nanmax(green))
    usable = np.isfinite(site) & np.isfinite(green) & (green < 0.98 * top) & (site < 0.98 * float(np.nanmax(site)))
    usable &= edge <= np.nanquantile(edge, 0.7)
    x, y = site[usable].astype(np.float64), green[usable].astype(np.float64)
    if len(x) < 32 or np.ptp(x) == 0:
        return 1.0, 0.0
    gain = float(y.std() / x.std())
    offset = float(y.mean() - gain * x.mean())
    for _ in range(5):
        away = np.abs(y - gain * x - offset)
        kept = away <= 3.0 * max(float(np.median(away)), 1e-6 * top)
        if kept.sum() < 32 or np.ptp(x[kept]) == 0:
            break
        gain = float(y[kept].std() / x[kept].std())
        offset = float(y[kept].mean() - gain * x[kept].mean())
    return gain, offset
