"""D³M (Real-IAD D³, CVPR 2025, §4): RGB and pseudo-3D maps swap channels and blocks, and three memory banks decide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rakelight.detection.methods.base import EMBEDDED, BankSpec, Method, alone, upstream_points
from rakelight.detection.native import Modality


def d3m(features: Mapping[Modality, str] | None = None, **options: Any) -> Method:
    """Banks M_2D (swapped RGB), M_PS (swapped pseudo-3D) and M_D (swapped 2D fused with 3D), as the paper writes it.

    The public code differs: it fuses the pseudo-3D map, swaps hard, and sums plain scores; ``fused="ps"``, ``swap="hard"``
    and ``compat="upstream"`` come near it. ``options`` as for :class:`Method`; ``swap=None`` turns swapping off.
    """
    partner: Modality = options.pop("fused", "rgb")
    swapped = options.setdefault("swap", "blend") is not None
    chosen = dict(features or EMBEDDED)
    finer, options = upstream_points(chosen, options)
    banks = (
        BankSpec("rgb", ("rgb",), swapped),
        BankSpec("ps", ("ps",), swapped),
        BankSpec("fused", (partner, "xyz"), swapped, finer=finer),
        *alone(("rgb", "ps")),
        *alone(("xyz",), finer=finer),
    )
    options.setdefault("fusion", "contrastive")
    return Method("d3m", chosen, banks, **options)
