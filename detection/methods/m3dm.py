"""M3DM (Wang et al. 2023, CVPR): banks of RGB, of 3D and of both fused by contrastive learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rakelight.detection.methods.base import EMBEDDED, BankSpec, Method, upstream_points
from rakelight.detection.native import Modality

_USED: tuple[Modality, ...] = ("rgb", "xyz")
_LAMBDAS = {"xyz": 1.0, "rgb": 0.1, "fused": 1.0}  # of its code, before the one-class SVM


def m3dm(features: Mapping[Modality, str] | None = None, **options: Any) -> Method:
    """``compat="upstream"``: the one-class SVM with M3DM's weights set by hand, and what :class:`Method` lists."""
    chosen: dict[Modality, str] = {m: (features or EMBEDDED)[m] for m in _USED}
    finer, options = upstream_points(chosen, options)
    banks = (
        BankSpec("rgb", ("rgb",)),
        BankSpec("xyz", ("xyz",), finer=finer),
        BankSpec("fused", ("rgb", "xyz"), finer=finer),
    )
    options.setdefault("fusion", "contrastive")
    if options.get("compat") == "upstream":
        options = {"decision": "ocsvm", "lambdas": _LAMBDAS} | options
    return Method("m3dm", chosen, banks, **options)
