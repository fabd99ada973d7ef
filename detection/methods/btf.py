"""BTF, "Back to the feature" (Horwitz, Hoshen 2023, CVPRW): RGB features and FPFH side by side in one bank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rakelight.detection.methods.base import EMBEDDED, BankSpec, Method
from rakelight.detection.native import Modality


def btf(features: Mapping[Modality, str] | None = None, **options: Any) -> Method:
    """A single bank; each half is scaled to weigh the same."""
    chosen = {m: (features or EMBEDDED)[m] for m in ("rgb", "xyz")}
    options.setdefault("fusion", "concat")
    return Method("btf", chosen, (BankSpec("both", ("rgb", "xyz")),), **options)  # type: ignore[arg-type]
