"""Models of a rig calibration as plain JSON data; what JSON has no word for is refused by name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from rakelight.errors import CalibrationError


def entry(model: Any, **instead: Any) -> dict[str, Any]:
    """A dataclass as plain data, with the fields named in ``instead`` replaced."""
    return {
        f.name: instead[f.name] if f.name in instead else plain(getattr(model, f.name), f.name) for f in fields(model)
    }


def plain(value: Any, where: str) -> Any:
    """``value`` as JSON data; refuses NaN, infinity and whatever JSON has no word for, by name."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        if not value.isascii() and value.encode("utf-8", "ignore").decode() != value:  # half a surrogate pair
            raise invalid(where, value, "text that UTF-8 can hold")
        return value
    if isinstance(value, float):
        if not np.isfinite(value):
            raise invalid(where, value, "finite numbers; None where there is no figure")
        return value
    if isinstance(value, list | tuple):
        return [plain(v, f"{where}[{i + 1}]") for i, v in enumerate(value)]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: plain(v, f"{where}.{key}") for key, v in value.items()}
    raise invalid(where, type(value).__name__, "plain data: text, numbers, true/false, none, lists, named values")


def invalid(name: str, value: object, allowed: str) -> CalibrationError:
    """The error of a part that no calibration can have."""
    return CalibrationError(
        f"{name} is {value!r}; allowed: {allowed}",
        hint="correct the value named, or calibrate again",
        code="calibration.rig_invalid",
    )
