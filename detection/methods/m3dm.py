"""M3DM (Wang et al. 2023, CVPR): banks of RGB, of 3D and of both fused by contrastive learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rakelight.detection.methods.base import EMBEDDED, BankSpec, Method
from rakelight.detection.native import Modality

_LAMBDAS = {"xyz": 1.0, "rgb": 0.1, "fused": 1.0}  # of its code, before the one-class SVM


def m3dm(features: Mapping[Modality, str] | None = None, **options: Any) -> Method:
    """``compat="upstream"``: the one-class SVM with M3DM's weights set by hand, and its re-weighting and blur."""
    chosen = {m: (features or EMBEDDED)[m] for m in ("rgb", "xyz")}
    banks = (BankSpec("rgb", ("rgb",)), BankSpec("xyz", ("xyz",)), BankSpec("fused", ("rgb", "xyz")))
    options.setdefault("fusion", "contrastive")
    if options.get("compat") == "upstream":
        options = {"decision": "ocsvm", "lambdas": _LAMBDAS} | options
    return Method("m3dm", chosen, banks, **options)  # type: ignore[arg-type]
