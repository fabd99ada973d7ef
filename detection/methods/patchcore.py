"""PatchCore (Roth et al. 2022, CVPR) on RGB, on the pseudo-3D picture, or on both; and plain banks of any modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rakelight.detection.methods.base import EMBEDDED, BankSpec, Method
from rakelight.detection.native import Modality


def patchcore(
    modalities: tuple[Modality, ...] = ("rgb",), features: Mapping[Modality, str] | None = None, **options: Any
) -> Method:
    """One bank a modality, scores brought together by the decision rule."""
    chosen = {m: (features or EMBEDDED)[m] for m in modalities}
    banks = tuple(BankSpec(m, (m,)) for m in modalities)
    return Method(f"patchcore-{'+'.join(modalities)}", chosen, banks, **options)
