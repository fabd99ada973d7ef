"""What the verifiers share: listing as loaders list, reading with every fault told as a problem, comparing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset import images
from rakelight.dataset.exporters import pictures
from rakelight.dataset.exporters.job import ExportOptions, Placed, Provenance, read_map, read_provenance
from rakelight.dataset.exporters.prepared import PART_MASK, PLANE, Prepared, prepare
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, RakelightError

MAX_PROBLEMS = 100


class Findings:
    """Problems of one export, the first hundred in words."""

    def __init__(self) -> None:
        self._told: list[str] = []
        self._more = 0

    def add(self, problem: str) -> None:
        if len(self._told) < MAX_PROBLEMS:
            self._told.append(problem)
        else:
            self._more += 1

    def need(self, condition: bool, problem: str) -> bool:
        """Add ``problem`` unless ``condition``; returns ``condition``."""
        if not condition:
            self.add(problem)
        return condition

    @contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """An error of ours inside the block becomes a problem."""
        try:
            yield
        except RakelightError as e:
            self.add(f"{what}: {e.message}")
        except OSError as e:
            self.add(f"{what}: {e.strerror or e}")

    def result(self) -> tuple[str, ...]:
        return (*self._told, f"… and {self._more} more") if self._more else tuple(self._told)


def opened(folder: str | Path, format: str) -> tuple[Provenance, tuple[Placed, ...]]:
    """Provenance and map of an export of this format; raises :class:`DatasetError` if it is another."""
    provenance = read_provenance(folder)
    if provenance.format != format:
        raise DatasetError(
            f"{folder} is an export for {provenance.format}, not for {format}",
            hint="`rakelight dataset verify-export` finds the format by itself",
            code="export.other_format",
        )
    return provenance, read_map(folder)


def listed(folder: Path, pattern: str) -> list[Path]:
    """``sorted(glob)``, as the loaders do; hidden files are listed by them as well."""
    return sorted(folder.glob(pattern)) if folder.is_dir() else []


def subfolders(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


def image(path: Path, findings: Findings, *, dtype: str, channels: int) -> NDArray[Any] | None:
    """An image of the stated kind, or None and a problem."""
    with findings.noting(path.name):
        found = images.read_image(path)
        have = found.shape[2] if found.ndim == 3 else 1
        if found.dtype.name == dtype and have == channels:
            return found
        findings.add(f"{path}: {found.dtype} with {have} channel(s); needed: {dtype} with {channels}")
    return None


def check_mask(path: Path, findings: Findings, *, good: bool, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """An 8-bit mask of 0 and 255 on the picture's pixels, empty for a good sample."""
    mask = image(path, findings, dtype="uint8", channels=1)
    if mask is None:
        return None
    findings.need(mask.shape == shape, f"{path}: mask of {mask.shape}, picture of {shape}")
    findings.need(bool(((mask == 0) | (mask == 255)).all()), f"{path}: mask holds values other than 0 and 255")
    findings.need(not (good and mask.any()), f"{path}: the mask of a good sample is not empty")
    return mask


def check_metres(path: Path, findings: Findings, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """A float32 map in metres on the picture's pixels: no NaN, each point all zero or nowhere zero."""
    xyz = image(path, findings, dtype="float32", channels=3)
    if xyz is None:
        return None
    findings.need(xyz.shape[:2] == shape, f"{path}: map of {xyz.shape[:2]}, picture of {shape}")
    if not findings.need(bool(np.isfinite(xyz).all()), f"{path}: NaN or infinity; loaders take it for a valid point"):
        return xyz
    zeros = (xyz == 0).sum(-1)
    findings.need(bool(((zeros == 0) | (zeros == 3)).all()), f"{path}: valid points with a coordinate of exactly 0")
    findings.need(float(np.abs(xyz).max(initial=0)) < 100, f"{path}: points farther than 100 m: not metres")
    return xyz


def source_of(dataset: Dataset, entry: Placed, findings: Findings) -> OpenSample | None:
    """The sample of the data set that an entry came from, or None and a problem."""
    sample = OpenSample(dataset.root, SampleKey.parse(entry.sample))
    try:
        sample.manifest  # noqa: B018 (it raises)
    except RakelightError as e:
        findings.add(f"{entry.sample}: not in the data set: {e.message}")
        return None
    return sample


def options_of(provenance: Provenance) -> ExportOptions:
    """The options an export was made with; raises :class:`DatasetError` if they do not fit this version."""
    try:
        stored = provenance.options
        return ExportOptions(**{**stored, "categories": tuple(stored.get("categories", ()))})
    except (TypeError, RakelightError) as e:
        raise DatasetError(
            f"the options of the export cannot be used: {e}", hint="make it again", code="export.options_invalid"
        ) from e


def compare(
    sample: OpenSample,
    entry: Placed,
    options: ExportOptions,
    findings: Findings,
    *,
    picture: NDArray[Any] | None,
    mask: NDArray[Any] | None,
    xyz_m: NDArray[np.float32] | None,
) -> None:
    """Picture and mask must be the data set's to the pixel, points to ``XYZ_TOLERANCE_M``."""
    method = entry.facts.get("background", {}).get("method", "")
    plain = options.size is None and not method and options.view != "PS"
    with findings.noting(entry.sample):
        expected = _plain(sample, options) if plain else _again(sample, options, xyz_m is not None, method)
        same = picture is None or np.array_equal(picture, expected.picture)
        findings.need(same, f"{entry.sample}: the picture differs from the data set's")
        if mask is not None:
            wanted = np.zeros(mask.shape, np.uint8) if expected.mask is None else expected.mask
            findings.need(np.array_equal(mask, wanted), f"{entry.sample}: the mask differs from the data set's")
        if xyz_m is None:
            return
        if plain:
            source = sample.xyz()
            height, width = xyz_m.shape[:2]
            source = None if source is None else pictures.resize_nearest(source, (height, width))
            off = float("inf") if source is None else pictures.xyz_difference_m(xyz_m, source)
            findings.need(off <= pictures.XYZ_TOLERANCE_M, f"{entry.sample}: points differ by {off:.3g} m")
        else:
            findings.need(np.array_equal(xyz_m, expected.xyz_m), f"{entry.sample}: points differ from the data set's")  # type: ignore[arg-type]


def _plain(sample: OpenSample, options: ExportOptions) -> Prepared:
    """Straight from the data set, without the code that exported it."""
    picture = sample.rgb(int(options.view[1:]))
    assert picture is not None  # the export had it, and its manifest is the same
    return Prepared(picture, sample.mask(), None, None)


def _again(sample: OpenSample, options: ExportOptions, xyz: bool, method: str) -> Prepared:
    return prepare(sample, options, xyz=xyz, method=method if method in (PART_MASK, PLANE) else "")


def verify_each(
    folder: Path,
    provenance: Provenance,
    placed: tuple[Placed, ...],
    dataset: Dataset | None,
    findings: Findings,
    check: Callable[[Placed, OpenSample | None, ExportOptions], None],
) -> None:
    """Check every entry: its files must exist; with a data set, ``check`` gets the sample to compare with."""
    options = options_of(provenance)
    for entry in placed:
        missing = [f for f in entry.files.values() if not (folder / f).is_file()]
        if missing:
            findings.add(f"{entry.sample}: {missing[0]} is missing")
            continue
        source = source_of(dataset, entry, findings) if dataset is not None else None
        with findings.noting(entry.sample):
            check(entry, source, options)
