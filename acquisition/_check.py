"""One answer about a capture's pictures, and the small copies of frames that the checks look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH = 320  # of the reduced pictures, about


@dataclass(frozen=True)
class Check:
    """One answer: ``value`` and ``limit`` are in the unit that ``sentence`` names.

    With ``at_least`` the value must not be below the limit, otherwise not above it.
    """

    name: str
    passed: bool
    value: float
    limit: float
    sentence: str
    at_least: bool = False

    def to_plain(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {**vars(self), "value": round(self.value, 5)}


def at_most(name: str, value: float, limit: float, sentence: str) -> Check:
    """A check that passes up to its limit."""
    return Check(name, value <= limit, value, limit, sentence)


def at_least(name: str, value: float, limit: float, sentence: str) -> Check:
    """A check that passes from its limit on."""
    return Check(name, value >= limit, value, limit, sentence, at_least=True)


def step_of(width: int) -> int:
    """Every how many px :func:`reduced` takes a cell of a frame of ``width``; even, at least 2."""
    return max(2, 2 * round(width / (2 * WIDTH)))


def reduced(image: NDArray[Any]) -> NDArray[np.float32]:
    """A small grey copy (h, w) float32: the mean of every n-th 2×2 cell, at most about 320 wide."""
    step = step_of(image.shape[1])
    rows, columns = (image.shape[0] - 1) // step * step, (image.shape[1] - 1) // step * step
    cells = [image[i:rows:step, j:columns:step].astype(np.float32) for i in (0, 1) for j in (0, 1)]
    mean = sum(cells) / np.float32(4)
    return np.asarray(mean.mean(axis=2) if image.ndim == 3 else mean, np.float32)
