"""What M3DM's published code does to its memory banks without meaning to, for comparison (``compat="upstream"``).

Wang et al., CVPR 2023; ``TripleFeatures.run_coreset`` of the code. Other quirks stand where they happen: the re-weighting and
the blur in :mod:`rakelight.detection.scoring`, the pooling of points in :mod:`rakelight.detection.features.m3dm_pooling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rakelight.detection.evidence import Rows
from rakelight.detection.methods.base import Method


def bank_options(method: Method, rows: Mapping[str, Rows]) -> dict[str, dict[str, Any]]:
    """By bank what :meth:`MemoryBank.build` is told; nothing unless the method asks for it and has M3DM's banks.

    All banks are normalised by the mean of the points' features and the standard deviation of the picture's. The coreset of
    points keeps ``share`` of them, and all others as many vectors as ``share`` of *that*: 1 % instead of 10 % of the fused ones.
    """
    names = {bank.of: bank.name for bank in method.judging}
    if method.compat != "upstream" or ("xyz",) not in names or ("rgb",) not in names:
        return {}
    points, picture = rows[names["xyz",]].values, rows[names["rgb",]].values
    scale = (float(points.mean(dtype=np.float64)), float(picture.std(dtype=np.float64)))
    kept = int(method.share * len(points))
    options: dict[str, dict[str, Any]] = {}
    for bank in method.judging:
        count = kept if bank.of == ("xyz",) else int(method.share * kept)
        share = min(1.0, max(1, count) / len(rows[bank.name].values))
        options[bank.name] = {"share": share, "minimum": 1, "scale": scale}
    return options
