"""Samples with fewer points than they have, for asking what resolution is worth (Real-IAD D³, Table 4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample
from rakelight.errors import InputError

Opener = Callable[[Path, SampleKey], OpenSample]


@dataclass(frozen=True)
class ThinnedSample(OpenSample):
    """A sample of whose points every ``step``-th is left along rows and columns; pictures and masks are whole."""

    step: int = 1

    def xyz(self) -> NDArray[np.float32] | None:
        """(⌈H / step⌉, ⌈W / step⌉, 3) float32, mm; it shows the field that the whole map shows."""
        whole = super().xyz()
        return None if whole is None else np.ascontiguousarray(whole[:: self.step, :: self.step])


def opener(times: int) -> Opener:
    """Opens samples with ``times`` fewer points, a square number; 1: as they are. Raises :class:`InputError`."""
    step = math.isqrt(times) if times > 0 else 0
    if not step or step * step != times:
        raise InputError(f"{times} times fewer points: a square number from 1 on is needed", code="input.range")
    return OpenSample if step == 1 else partial(ThinnedSample, step=step)
