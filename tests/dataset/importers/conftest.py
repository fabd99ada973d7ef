"""Files of foreign data sets, made without our own writers: what reads them is proven on what others write."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from rakelight.dataset.archives import open_view
from rakelight.dataset.importers.job import Imported
from rakelight.dataset.importers.sources import import_into
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.writer import Dataset

H, W = 20, 32


def picture(seed: int, size: tuple[int, int] = (H, W)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def save(path: Path, image: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
    return path


def save_tiff(path: Path, array: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array, **{"photometric": "rgb", **options})
    return path


def save_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def defect(value: int = 255, size: tuple[int, int] = (H, W)) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[4:9, 6:12] = value
    return mask


def zipped(folder: Path, target: Path, *, top: str = "", junk: bool = True) -> Path:
    """All of ``folder`` as a zip, with the ``._`` members that macOS adds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = top + path.relative_to(folder).as_posix()
            archive.write(path, name)
            if junk:
                archive.writestr(f"__MACOSX/{name.rpartition('/')[0]}/._{path.name}", b"\0\5\x16\7")
                archive.writestr(f"{name.rpartition('/')[0]}/._{path.name}".lstrip("/"), b"\0\5\x16\7")
    return target


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset.init(tmp_path / "ours", "imported")


def run(dataset: Dataset, source: Path, **options: Any) -> list[Imported]:
    """Import, and see that what came in is whole and nothing was left lying about."""
    with open_view(source) as view:
        done = list(import_into(dataset, view, **options))
    assert list((dataset.root / ".staging").iterdir()) == []
    assert list((dataset.root / ".quarantine").iterdir()) == []
    assert dataset.index_problems() == ()
    assert [p for info in dataset.samples() for p in dataset.verify_sample(info)] == []
    return done


def keys(done: list[Imported]) -> list[str]:
    return [str(one.key) for one in done if one.key is not None]


def sample(dataset: Dataset, key: str) -> OpenSample:
    return OpenSample(dataset.root, SampleKey.parse(key))


def bytes_of(opened: OpenSample, role: str) -> bytes:
    data = opened.read(role)
    assert data is not None
    return data
