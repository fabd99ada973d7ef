"""False-alarm levels that so many good parts allow, in words."""

from __future__ import annotations

import math

from rakelight.detection.conformal import needed_parts


def least_level(parts: int) -> float:
    """The least false-alarm level at which ``parts`` calibration parts can reject any, to three digits, rounded up."""
    return math.ceil(round(1000 / (parts + 1), 6)) / 1000


def too_few(parts: int, alpha: float | None = None) -> str:
    """That ``parts`` good parts can reject none at level ``alpha`` (None: at the one asked for), and the least that they allow."""
    asked = (
        "this false-alarm level"
        if alpha is None
        else f"a false-alarm level of {alpha:g} ({needed_parts(alpha)} needed)"
    )
    return f"{parts} good parts are too few to reject any at {asked}; the least that {parts} allow is {least_level(parts):g}"
