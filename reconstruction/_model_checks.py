"""Checks shared by the geometric models: each model settles its own values while it is made."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rakelight.errors import CalibrationError, InputError

FloatArray = NDArray[np.float64]

VIEWER: FloatArray = np.array([1.0, -1.0, -1.0])  # camera frame <-> viewer frame, both ways, by multiplication
VIEWER.flags.writeable = False
MAX_SIZE_PX = 1 << 16


def points_of(name: str, points: ArrayLike, last: int) -> FloatArray:
    """``points`` as float64 (..., last); raises :class:`InputError`."""
    array: FloatArray = np.asarray(points, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != last:
        raise InputError(f"{name}: shape {array.shape}; needed: (..., {last})", code="input.shape")
    return array


_HINTS = {
    "camera": "calibrate the camera again, or correct the values given by hand",
    "projector": "calibrate the projector again, or correct the values given by hand",
    "plane": "measure the table plane again with an empty table, in the OpenCV camera frame (x right, y down, z away)",
    "light": "calibrate the lights again; directions point from the part to the light, x right, y up, z to the camera",
}


def invalid(name: str, value: object, allowed: str, owner: str) -> CalibrationError:
    """The error that says what ``name`` is and what is allowed."""
    return CalibrationError(
        f"{name} is {value}; allowed: {allowed}", hint=_HINTS[owner], code=f"calibration.{owner}_invalid"
    )


def settle(model: object, name: str, value: object) -> None:
    """Store a checked value in a frozen dataclass while it is being made."""
    object.__setattr__(model, name, value)


def settle_size(model: Any, owner: str) -> None:
    for name in ("width", "height"):
        settle(model, name, integer(f"{owner} {name} (px)", getattr(model, name), 1, MAX_SIZE_PX, owner))


def settle_lens(model: Any, owner: str) -> None:
    settle_size(model, owner)
    for name in ("fx", "fy"):
        settle(model, name, number(f"{owner} focal length {name} (px)", getattr(model, name), 1e-3, 1e9, owner))
    for name in ("cx", "cy"):
        settle(model, name, number(f"{owner} principal point {name} (px)", getattr(model, name), -1e7, 1e7, owner))
    coefficients = array_of(f"{owner} distortion (k1, k2, p1, p2, k3)", np.ravel(model.distortion), (5,), owner)
    settle(model, "distortion", tuple(float(c) for c in coefficients))


def is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def integer(name: str, value: Any, low: int, high: int, owner: str) -> int:
    if not is_integer(value) or not low <= value <= high:
        raise invalid(name, repr(value), f"an integer from {low} to {high}", owner)
    return int(value)


def number(name: str, value: Any, low: float, high: float, owner: str) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError) as error:
        raise invalid(name, repr(value), f"a number from {low:g} to {high:g}", owner) from error
    if not low <= found <= high:  # NaN fails too
        raise invalid(name, f"{found:g}", f"{low:g} to {high:g}", owner)
    return found


def array_of(name: str, value: ArrayLike | None, shape: tuple[int, ...], owner: str) -> FloatArray:
    """``value`` as a read-only, finite float64 array of ``shape``."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise invalid(name, repr(value), f"{shape} numbers", owner) from error
    if array.shape != shape:
        raise invalid(name, f"of shape {array.shape}", f"shape {shape}", owner)
    if not np.isfinite(array).all():
        raise invalid(name, array.tolist(), "finite numbers", owner)
    return frozen(array)


def unit(name: str, value: ArrayLike, owner: str) -> FloatArray:
    """``value`` as a unit vector (3,), if it is one within 1e-3."""
    array = array_of(name, value, (3,), owner)
    length = float(np.linalg.norm(array))
    if abs(length - 1) > 1e-3:
        raise invalid(f"length of {name}", f"{length:.6g}", "1 within 0.001 (a unit vector)", owner)
    # A vector that is unit to rounding is left alone: saving and loading must not change a bit.
    return array if abs(length - 1) < 1e-14 else frozen(array / length)


def frozen(array: FloatArray) -> FloatArray:
    """``array`` itself, made read-only."""
    array.flags.writeable = False
    return array


def vector_text(vector: FloatArray) -> str:
    return "(" + ", ".join(f"{v:.4g}" for v in vector) + ")"
