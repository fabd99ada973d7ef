"""What photometric stereo takes: checks of frames and lights, and the forms that the kernels are compiled for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array, check_same_shape
from rakelight.errors import CalibrationError, InputError

if TYPE_CHECKING:
    from rakelight.reconstruction.photometric import Corrections

FRAME_DTYPES = ("uint8", "uint16", "float32")
_BLOCK_BYTES = 1 << 24  # work memory of the general path


def check_frames(frames: Sequence[NDArray[np.generic]]) -> tuple[tuple[NDArray[np.generic], ...], int, int]:
    """The frames as arrays of one size and dtype, with height and width."""
    if len(frames) < 3:
        raise CalibrationError(
            f"{len(frames)} light frame(s); photometric stereo needs at least 3 lights, 4 for redundancy",
            hint="capture one frame per zone; `rakelight recording info` lists what a recording holds",
            code="photometric.too_few_lights",
        )
    stack = tuple(check_array(f"frame {i + 1}", f, ndim=2, dtypes=FRAME_DTYPES) for i, f in enumerate(frames))
    height, width = check_same_shape("frames", stack)
    if not height * width:
        raise InputError(f"frames have shape {(height, width)}; at least one pixel is needed", code="input.shape")
    for i, frame in enumerate(stack):
        if frame.dtype != stack[0].dtype:
            raise InputError(
                f"frame {i + 1} has dtype {frame.dtype}, the first has {stack[0].dtype}; all must agree",
                code="input.dtype",
            )
    return stack, height, width


def check_directions(directions: NDArray[np.floating], count: int) -> NDArray[np.float32]:
    """(K, 3) float32 unit vectors that do not lie in one plane."""
    lights = check_array("light directions", directions, shape=(count, 3)).astype(np.float64)
    lengths = np.linalg.norm(lights, axis=1)
    if not np.isfinite(lengths).all() or np.abs(lengths - 1).max() > 1e-3:
        worst = int(np.nan_to_num(np.abs(lengths - 1), nan=np.inf).argmax())
        raise CalibrationError(
            f"light {worst + 1} has direction {lights[worst].tolist()} of length {lengths[worst]:.4f}; unit vectors are needed",
            hint="divide each direction by its length; strengths go into Corrections.gain_scales",
            code="calibration.light_not_unit",
        )
    singular = np.linalg.svd(lights, compute_uv=False)
    if singular[-1] < 1e-3 * singular[0]:
        raise CalibrationError(
            f"the {count} light directions lie in one plane (smallest/largest singular value "
            f"{singular[-1] / singular[0]:.1e}; at least 1e-3 is needed)",
            hint="light the part from at least three directions that do not lie in one plane with it",
            code="calibration.lights_coplanar",
        )
    return lights.astype(np.float32)


def check_near(
    positions_mm: NDArray[np.floating], xyz: NDArray[np.float32], reference_mm: Any, shape: tuple[int, int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float64]]:
    """Positions (K, 3), points (H, W, 3) and squared reference distances (K,), 0 = no fall-off to undo.

    ``shape`` is (K, H, W); ``reference_mm`` is None, (3,) or (K, 3).
    """
    zones, height, width = shape
    positions = check_array("positions_mm", positions_mm, shape=(zones, 3), finite=True).astype(np.float64)
    points = check_array("xyz", xyz, shape=(height, width, 3), dtypes=("float32",))
    if reference_mm is None:
        return positions, points, np.zeros(zones)
    origin = check_array("reference_mm", np.broadcast_to(np.asarray(reference_mm, np.float64), (zones, 3)), finite=True)
    squares = ((positions - origin) ** 2).sum(1)
    if squares.min() < 1:
        raise CalibrationError(
            f"light source {int(squares.argmin()) + 1} is {squares.min() ** 0.5:.2f} mm from the reference point; "
            "at least 1 mm is needed",
            hint="calibrate the lights again",
            code="calibration.light_on_surface",
        )
    return positions, points, squares


def check_corrections(c: Corrections, count: int, height: int, width: int) -> Corrections:
    """``c`` with every zone's gain scale, after its shapes, dtypes and ranges were checked."""
    if c.dark is not None:
        check_array("dark frame", c.dark, shape=(height, width), dtypes=FRAME_DTYPES)
    if c.gains is not None:
        check_array("flat-field gains", c.gains, shape=(count, height, width), dtypes=("uint16", "float32"))
    if not 0 < c.dark_scale < np.inf:
        raise CalibrationError(
            f"dark scale {c.dark_scale}; must be a finite number above 0", code="calibration.dark_scale"
        )
    scales = np.ones(count, np.float32) if c.gain_scales is None else np.asarray(c.gain_scales, np.float32)
    check_array("gain scales", scales, shape=(count,), finite=True)
    if scales.min() <= 0:
        raise CalibrationError(
            f"gain scale {scales.min()} of zone {int(scales.argmin()) + 1}; must be above 0", code="calibration.gain"
        )
    return replace(c, gain_scales=scales)


def blocks(stack: tuple[NDArray[np.generic], ...], c: Corrections) -> Iterator[tuple[slice, Any, Corrections]]:
    """Blocks of rows in one of the few forms that the kernels are compiled for: (rows, frames, corrections).

    Four contiguous integer frames, the usual case, go through whole and as they are. All others become float32, a few rows
    at a time, so that one compiled kernel serves every dtype, layout and number of zones.
    """
    maps = [x for x in (*stack, c.dark, c.gains) if x is not None]
    if len(stack) == 4 and all(x.flags.c_contiguous and x.dtype != np.float32 for x in maps):
        dark, gains = (None if x is None else _read_only(x) for x in (c.dark, c.gains))
        yield slice(0, len(stack[0])), tuple(_read_only(f) for f in stack), replace(c, dark=dark, gains=gains)
        return
    yield from _float_blocks(stack, c)


def near_blocks(
    stack: tuple[NDArray[np.generic], ...], c: Corrections
) -> Iterator[tuple[slice, Any, Corrections, Any]]:
    """As :func:`blocks`, for near lights: (rows, frames, corrections, gains), the latter in place of the corrections' own.

    Frames and gains of four zones are tuples of four maps, so that a tile of rows of whole maps need not be copied. Gains may
    be float32 beside integer frames: those of a second pass are (:mod:`rakelight.reconstruction.near_gains`).
    """
    raw = [x for x in (*stack, c.dark) if x is not None]
    maps = [*raw, *(c.gains if c.gains is not None else ())]
    if len(stack) == 4 and all(x.dtype != np.float32 for x in raw) and all(x.flags.c_contiguous for x in maps):
        dark = None if c.dark is None else _read_only(c.dark)
        gains = None if c.gains is None else tuple(_read_only(g) for g in c.gains)
        yield slice(0, len(stack[0])), tuple(_read_only(f) for f in stack), replace(c, dark=dark), gains
        return
    for rows, frames, part in _float_blocks(stack, c):
        assert part.gains is not None
        if len(stack) == 4:
            yield rows, tuple(_read_only(f) for f in frames), part, tuple(_read_only(g) for g in part.gains)
        else:
            yield rows, frames, part, part.gains


def near_sources(positions: NDArray[np.float64], squares: NDArray[np.float64]) -> NDArray[np.float32]:
    """(K, 5) float32 for the near kernels: position, then a and b of the factor a·d² + b that undoes the fall-off."""
    known = squares > 0
    a = np.divide(1.0, squares, out=np.zeros(len(squares)), where=known)
    return np.column_stack([positions, a, ~known]).astype(np.float32)


def _float_blocks(
    stack: tuple[NDArray[np.generic], ...], c: Corrections
) -> Iterator[tuple[slice, NDArray[np.float32], Corrections]]:
    """A few rows at a time as float32, in work memory that is used again: the last block may fill it in part only."""
    zones, (height, width) = len(stack), stack[0].shape
    step = max(1, _BLOCK_BYTES // (8 * zones * width))
    frames = np.empty((zones, step, width), np.float32)
    dark = np.zeros((step, width), np.float32)
    gains = np.ones((zones, step, width), np.float32)
    for first in range(0, height, step):
        rows = slice(first, min(first + step, height))
        n = rows.stop - first
        for k, frame in enumerate(stack):
            frames[k, :n] = frame[rows]
        if c.dark is not None:
            dark[:n] = c.dark[rows]
        if c.gains is not None:
            gains[:, :n] = c.gains[:, rows]
        yield rows, frames, replace(c, dark=dark, gains=gains)


def _read_only(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """A view that cannot be written: kernels are compiled once instead of once for each mix of flags."""
    view = array.view()
    view.flags.writeable = False
    return view
