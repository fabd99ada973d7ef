"""A small data set with every modality: two products, good and defective parts, and a split with good test parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rakelight.dataset.opened import open_samples
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.split_files import Parts, SplitFile, digest
from rakelight.dataset.splits import SplitRule
from rakelight.dataset.writer import Dataset
from rakelight.files import make_folder, write_json

H, W = 48, 64
PITCH_MM = 0.05
PART = (slice(14, 34), slice(20, 44))  # rows, columns of the part on the table


def part_mask() -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[PART] = True
    return mask


def xyz_map(rng: np.random.Generator) -> np.ndarray:
    """A part 1.5 mm high on a tilted table 200 mm away, 20 µm of noise, holes, and a column where x is exactly 0."""
    v, u = np.mgrid[:H, :W].astype(np.float64)
    z = 200 + 0.02 * (u - W / 2) * PITCH_MM + rng.normal(0, 0.02, (H, W))
    z[PART] -= 1.5
    xyz = np.stack(((u - W // 2) * PITCH_MM, (v - H / 2 + 0.25) * PITCH_MM, z), -1).astype(np.float32)
    xyz[rng.random((H, W)) < 0.05] = np.nan
    return xyz


def make_sample(
    rng: np.random.Generator, category: str, label: str, *, masked: bool = True, **changes: Any
) -> SampleContent:
    pictures = rng.integers(0, 256, (6, H, W, 3), np.uint8)
    mask = None
    if label != "OK" and masked:
        mask = np.zeros((H, W), np.uint8)
        row, column = rng.integers(15, 25, 2)
        mask[row : row + 6, column : column + 8] = 255
    content: dict[str, Any] = {
        "rgb": dict(enumerate(pictures[:5], 1)),
        "ps": pictures[5],
        "mask": mask,
        "xyz": xyz_map(rng),
        "part_mask": part_mask(),
        "pitch_mm": PITCH_MM,
    }
    return SampleContent(category=category, label=label, timestamp="20251123021300", **(content | changes))


MakeSet = Callable[..., Dataset]


@pytest.fixture(scope="session")
def make_set(tmp_path_factory: pytest.TempPathFactory) -> MakeSet:
    """``make_set([(category, label, changes), …], split=True)`` → a new data set, with an official split."""

    def make(samples: list[tuple[str, str, dict[str, Any]]], *, split: bool = True, **info: str) -> Dataset:
        rng = np.random.default_rng(7)
        opened = Dataset.init(
            tmp_path_factory.mktemp("set") / "set", **({"name": "pilot", "license": "CC-BY-4.0"} | info)
        )
        with opened.writer() as writer:
            for category, label, changes in samples:
                writer.commit(make_sample(rng, category, label, **changes))
        if split:
            write_split(opened)
        return opened

    return make


def write_split(opened: Dataset, name: str = "official") -> None:
    """Every third good part to validation, every third to test; defective ones to test."""
    categories: dict[str, dict[str, list[str]]] = {}
    for sample in open_samples(opened.root):
        parts = categories.setdefault(sample.key.category, {"train": [], "validation": [], "test": []})
        part = ("train", "validation", "test")[(sample.key.number - 1) % 3] if sample.key.is_ok else "test"
        parts[part].append(str(sample.key))
    parts = {
        category: Parts(**{part: tuple(keys) for part, keys in by_part.items()})
        for category, by_part in categories.items()
    }
    made = SplitFile(
        name=name, seed=0, by="sample", categories=parts, sha256=digest(parts), rule=SplitRule(by="sample")
    )
    write_json(make_folder(opened.root / "meta/splits") / f"{name}.json", made.model_dump(by_alias=True))


SAMPLES: list[tuple[str, str, dict[str, Any]]] = [
    *[("knob_cap", "OK", {})] * 6,
    *[("knob_cap", "scratch", {})] * 2,
    ("knob_cap", "pit", {}),
    *[("lego_propeller", "OK", {})] * 3,
    ("lego_propeller", "crack", {}),
]


@pytest.fixture(scope="session")
def small_set(make_set: MakeSet) -> Dataset:
    """Thirteen samples of two products; tests must not change it."""
    return make_set(SAMPLES)


@pytest.fixture(scope="session")
def untouched() -> Callable[[Dataset], dict[str, tuple[int, int]]]:
    """Size and time of every file: to see that nothing in a data set was changed."""

    def listing(opened: Dataset) -> dict[str, tuple[int, int]]:
        files = (p for p in opened.root.rglob("*") if p.is_file())
        return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in files}

    return listing


def tree(folder: Path) -> list[str]:
    """Every file below ``folder``, relative, sorted."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.fixture(scope="session")
def toy() -> SimpleNamespace:
    """What the tests of the exports share (tests are no package)."""
    names = ("H", "W", "PART", "PITCH_MM", "SAMPLES", "part_mask", "xyz_map", "make_sample", "write_split", "tree")
    return SimpleNamespace(**{name: globals()[name] for name in names})
