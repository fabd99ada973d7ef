"""3D alone: a bank of Point-MAE features (Pang et al. 2022, ECCV) or, embedded, of FPFH."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rakelight.detection.methods.base import EMBEDDED, BankSpec, Method
from rakelight.detection.native import Modality


def pointmae(features: Mapping[Modality, str] | None = None, **options: Any) -> Method:
    """Named after the paper's row; which features it has stands in ``features``."""
    return Method("pointmae", {"xyz": (features or EMBEDDED)["xyz"]}, (BankSpec("xyz", ("xyz",)),), **options)
