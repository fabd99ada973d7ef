"""A small detector and drawn parts with known faults: a disc of 20 mm in three modalities, features are means of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from rakelight.detection.detector import Detector, TaughtPart
from rakelight.detection.features.base import Features
from rakelight.detection.methods.base import BankSpec, Method
from rakelight.detection.native import Modality
from rakelight.detection.parts import Part, from_arrays
from rakelight.detection.teaching import teach

NATIVE = (120, 160)
MIDDLE, RADIUS_PX, PITCH_MM = (84.0, 57.0), 40.0, 0.25  # (u, v) and size of the disc in native pixels
SIZE, GRID = 64, 8
METHOD = Method(
    "blocks",
    {"rgb": "blocks", "ps": "blocks", "xyz": "blocks"},
    (BankSpec("rgb", ("rgb",)), BankSpec("ps", ("ps",)), BankSpec("xyz", ("xyz",))),
    share=1.0,
    size=SIZE,
    grid=GRID,
)


@dataclass(frozen=True)
class Blocks:
    """Mean colour, or mean height, of each patch."""

    modality: Modality
    id: str = "blocks"
    dim: int = 3
    weights_sha256: str | None = None

    def grid(self, size: int) -> int:
        return size // 8

    def extract(self, parts: Sequence[Part]) -> Features:
        values, valid = [], []
        for part in parts:
            array = np.asarray(getattr(part, self.modality), np.float32)
            blocks = array.reshape(GRID, SIZE // GRID, GRID, SIZE // GRID, 3)
            known = np.isfinite(blocks)
            values.append(np.where(known, blocks, 0).sum(axis=(1, 3)) / np.maximum(known.sum(axis=(1, 3)), 1))
            valid.append(known[..., 2].mean(axis=(1, 3)) > 0.5)
        if self.modality == "xyz":  # x and y say only where the patch is
            values = [v * np.array([0, 0, 1], np.float32) for v in values]
        return Features(np.asarray(values, np.float32), np.asarray(valid))

    def fingerprint(self) -> tuple[float, ...]:
        return (0.0,) * 8


def part(
    seed: int,
    *,
    fault: Modality | None = None,
    at_mm: tuple[float, float] = (0.0, 0.0),
    without: tuple[Modality, ...] = (),
    label: str | None = None,
) -> Part:
    """A disc; a ``fault`` of 2 mm in one modality, ``at_mm`` right and down of its middle, is marked as its defect."""
    rng = np.random.default_rng(seed)
    v, u = np.indices(NATIVE).astype(np.float64)
    mask = np.hypot(u - MIDDLE[0], v - MIDDLE[1]) <= RADIUS_PX
    spot_at = np.asarray(MIDDLE) + np.asarray(at_mm) / PITCH_MM
    spot = np.hypot(u - spot_at[0], v - spot_at[1]) <= 2.0 / PITCH_MM
    rgb = 120 + rng.normal(0, 8, (*NATIVE, 3))
    ps = np.array([128, 128, 250]) + rng.normal(0, 8, (*NATIVE, 3))
    xyz = np.stack([u * PITCH_MM, v * PITCH_MM, 300 + rng.normal(0, 0.1, NATIVE)], axis=-1)
    if fault == "rgb":
        rgb[spot] = (200, 40, 40)
    elif fault == "ps":
        ps[spot] = (40, 128, 200)
    elif fault == "xyz":
        xyz[spot, 2] += 1.0
    xyz[~mask] = np.nan
    arrays: dict[str, Any] = {
        "rgb": np.clip(rgb, 0, 255).astype(np.uint8),
        "ps": np.clip(ps, 0, 255).astype(np.uint8),
        "xyz": xyz.astype(np.float32),
    }
    given = {name: array for name, array in arrays.items() if name not in without}
    made = from_arrays(f"disc/{fault or 'OK'}/S{seed:04d}", **given, mask=mask, pitch_mm=PITCH_MM, size=SIZE)
    said = label if label is not None else (f"fault_{fault}" if fault else "OK")
    return replace(made, label=said, defect=spot.astype(np.uint8) * 255 if fault else None)


def detector(good: int = 24) -> Detector:
    """Taught from ``good`` parts, seeds 0 …"""
    parts = [part(seed) for seed in range(good)]
    taught = [TaughtPart(n, p.key) for n, p in enumerate(parts)]
    extractors: dict[Modality, Any] = {m: Blocks(m) for m in METHOD.features}
    return teach(parts, taught, METHOD, extractors, category="disc")


def decoded(jpeg: bytes) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR))
