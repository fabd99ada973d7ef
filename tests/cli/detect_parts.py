"""A small data set of drawn discs, as the commands of ``rakelight detect`` take it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rakelight.dataset.layout import SampleKey
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset
from rakelight.detection.features.base import Features

TIME = "20261101120000"
NATIVE = (120, 160)
MIDDLE, RADIUS_PX, PITCH_MM = (84, 57), 40, 0.25
STAIN = (98, 47)  # (u, v) of the stain's middle


def content(seed: int, label: str = "OK", *, without: Sequence[str] = (), **changed: Any) -> SampleContent:
    """One disc with a bar that tells its turn; a ``stain``, or an unusual ``tint`` of a good part."""
    rng = np.random.default_rng(seed)
    v, u = np.indices(NATIVE)
    mask = np.hypot(u - MIDDLE[0], v - MIDDLE[1]) <= RADIUS_PX
    rgb = np.full((*NATIVE, 3), 40.0)
    rgb[mask] = changed.pop("tint", (150, 160, 140))
    cv2.line(rgb, (MIDDLE[0], MIDDLE[1] - 25), (MIDDLE[0], MIDDLE[1] - 5), (60, 90, 200), 8)
    if label != "OK" or changed.pop("stained", False):
        cv2.circle(rgb, STAIN, 7, (90, 40, 30), -1)
    defect = (np.hypot(u - STAIN[0], v - STAIN[1]) <= 7).astype(np.uint8) * 255
    xyz = np.stack([u * PITCH_MM, v * PITCH_MM, 300 + rng.normal(0, 0.02, NATIVE)], axis=-1).astype(np.float32)
    xyz[~mask] = np.nan
    ps = np.clip(np.array([128, 128, 250]) + rng.normal(0, 5, (*NATIVE, 3)), 0, 255).astype(np.uint8)
    given = {"xyz": xyz, "ps": ps, "part_mask": mask} | changed
    return SampleContent(
        "disc",
        label,
        TIME,
        {5: np.clip(rgb + rng.normal(0, 4, rgb.shape), 0, 255).astype(np.uint8)},
        mask=defect if label != "OK" else None,
        specimen=f"disc-{seed}",
        pitch_mm=PITCH_MM,
        **{name: array for name, array in given.items() if name not in without},
    )


def make(root: Path, contents: Sequence[SampleContent]) -> Dataset:
    made = Dataset.init(root, "discs")
    with made.writer() as writer:
        for one in contents:
            writer.commit(one)
    return made


def add(root: Path, one: SampleContent) -> SampleKey:
    with Dataset.open(root).writer() as writer:
        return writer.commit(one).key


class Blocks:
    """A fast stand-in for the networks: mean colour, or mean height, of each of 28 × 28 patches."""

    def __init__(self, id: str, modality: Any) -> None:
        self.id, self.modality, self.dim, self.weights_sha256 = id, modality, 3, None

    def grid(self, size: int) -> int:
        return 28

    def extract(self, parts: Sequence[Any]) -> Features:
        values, valid = [], []
        for part in parts:
            array = np.asarray(getattr(part, self.modality), np.float32)
            blocks = array.reshape(28, array.shape[0] // 28, 28, array.shape[1] // 28, 3)
            known = np.isfinite(blocks)
            values.append(np.where(known, blocks, 0).sum(axis=(1, 3)) / np.maximum(known.sum(axis=(1, 3)), 1))
            valid.append(known[..., 2].mean(axis=(1, 3)) > 0.5)
        if self.modality == "xyz":  # x and y say only where the patch is
            values = [v * np.array([0, 0, 1], np.float32) for v in values]
        return Features(np.asarray(values, np.float32), np.asarray(valid))

    def fingerprint(self) -> tuple[float, ...]:
        return (1.0,) * 8


def make_blocks(id: str, *, modality: Any = None, **_: Any) -> Blocks:
    """In place of :func:`rakelight.detection.features.base.make_extractor`."""
    return Blocks(id, modality)
