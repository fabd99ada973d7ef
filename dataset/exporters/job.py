"""What every export shares: options, provenance, the index of what became what, room on the disk, whole or not at all.

An export is written into a folder beside its final one and renamed at the end; an error, Ctrl-C or a full disk leaves
nothing. At its top lie ``rakelight_export.json`` (what it was made from and how; its presence lets ``--overwrite``
replace the folder) and ``rakelight_map.json`` (which files each sample became), outside what loaders search.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field

from rakelight.config import Model, PlainData, validate
from rakelight.dataset.exporters.pictures import fitted_size
from rakelight.dataset.exporters.plan import Item, Needs, Part, Plan, check_not_empty, make_plan
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.sample import Software, utc_now
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, InputError, StorageError
from rakelight.files import canonical_json, read_json, sha256_bytes, write_json
from rakelight.folders import check_replaceable, staged_folder

EXPORT_FILE = "rakelight_export.json"
MAP_FILE = "rakelight_map.json"
VIEWS = ("L01", "L02", "L03", "L04", "L05", "PS")
Progress = Callable[..., None]
"""``progress("what")`` or ``progress(done, total)``."""
R = TypeVar("R")
_THREADS = 2  # a sample of 20 MP takes about 1 GB while it is prepared
_OWN_BYTES = 1500  # what map and provenance take for a sample


def no_progress(*_: object) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class ExportOptions:
    """How to export. Formats that hold the data set's own files refuse what would change pixels.

    Attributes
    ----------
    categories : tuple of str
        Only these; all if empty.
    split : str, optional
        Name of the split; default ``official`` if there is one, else parts follow the label.
    size : int, optional
        Longer side of all pictures and maps in px; never enlarged. Default: as they are.
    view : str
        The picture that serves as "the" RGB: ``L01`` … ``L05`` or ``PS``.
    no_background : str, optional
        ``"xyz"``: points off the part become invalid; ``"all"``: the RGB is black there as well.
    background_pitches : float
        Points lower than this above the table belong to it, in units of the sampling pitch.
    max_archive_bytes : int
        Longest zip; a category that is larger becomes several.
    extras : bool
        Archives hold the extras (masters, normals, raw frames) too.
    url : str
        Where the files will be published, for the Croissant metadata.
    seed : int
        Of the plane search.
    overwrite : bool
        Replace an earlier export in the same folder.
    """

    categories: tuple[str, ...] = ()
    split: str | None = None
    size: int | None = None
    view: str = "L05"
    no_background: Literal["xyz", "all"] | None = None
    background_pitches: float = 10.0
    max_archive_bytes: int = 20_000_000_000
    extras: bool = False
    url: str = ""
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        def refuse(name: str, value: object, allowed: str) -> InputError:
            return InputError(f"{name} is {value!r}; allowed: {allowed}", code="export.option")

        if self.view not in VIEWS:
            raise refuse("view", self.view, ", ".join(VIEWS))
        if self.size is not None and not 1 <= self.size <= 65_500:
            raise refuse("size", self.size, "1 to 65500 px")
        if self.no_background not in (None, "xyz", "all"):
            raise refuse("no_background", self.no_background, "xyz, all")
        if not 0 < self.background_pitches < 1e6:
            raise refuse("background_pitches", self.background_pitches, "above 0, below 1000000")
        if self.max_archive_bytes < 1:
            raise refuse("max_archive_bytes", self.max_archive_bytes, "at least 1")

    @property
    def picture(self) -> str:
        """The modality of ``view``: ``RGBL01`` … ``RGBL05`` or ``PS``."""
        return self.view if self.view == "PS" else f"RGB{self.view}"


class Placed(Model):
    """One exported sample: its key and specimen, where it went, the files it became (by role, relative to the export) and
    facts."""

    sample: str
    specimen: str = ""
    category: str
    part: Part
    label: str
    name: str = ""
    files: dict[str, str]
    facts: PlainData = Field(default_factory=dict)


class _Map(Model):
    schema_: int = Field(default=1, alias="schema")
    samples: tuple[Placed, ...]


class SourceInfo(Model):
    """The data set an export was made from; ``content_sha256`` covers the hashes of all files of the exported samples."""

    name: str
    license: str
    created_utc: str
    content_sha256: str


class Provenance(Model):
    """``rakelight_export.json``."""

    schema_: int = Field(default=1, alias="schema")
    kind: Literal["rakelight-export"] = "rakelight-export"
    format: str
    created_utc: str
    software: Software = Software()
    dataset: SourceInfo
    simulated_samples: int
    split: str
    split_sha256: str
    options: PlainData
    counts: PlainData
    skipped: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    facts: PlainData = Field(default_factory=dict)


@dataclass(frozen=True)
class ExportReport:
    """What an export made: counts are category → part → label → samples, ``skipped`` is (sample, reason)."""

    folder: Path
    format: str
    samples: int
    counts: dict[str, dict[str, dict[str, int]]]
    skipped: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    bytes: int
    estimated_bytes: int

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "folder": str(self.folder)}


def placed_as(item: Item, files: dict[str, str], facts: dict[str, Any] | None = None) -> Placed:
    """The map's entry of an item."""
    return Placed(
        sample=str(item.key),
        specimen=item.sample.manifest.specimen,
        category=item.key.category,
        part=item.part,
        label=item.label,
        name=item.name,
        files=files,
        facts=facts or {},
    )


@dataclass
class Job:
    """One export under way. ``folder`` is where to write now; ``warnings`` and ``facts`` end in the provenance."""

    dataset: Dataset
    plan: Plan
    options: ExportOptions
    folder: Path
    progress: Progress
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def each(self, work: Callable[[Item], R], items: Iterable[Item] | None = None) -> list[R]:
        """``work`` on every item in a few threads (codecs and the disk free the interpreter); results in order."""
        chosen = list(self.plan.items if items is None else items)
        results: list[R] = []
        with ThreadPoolExecutor(_THREADS) as pool:
            futures = [pool.submit(work, item) for item in chosen]
            try:
                for future in futures:
                    results.append(future.result())
                    self.progress(len(results), len(chosen))
            except BaseException:
                for future in futures:
                    future.cancel()
                raise
        return results


def run(
    dataset: Dataset,
    folder: str | Path,
    format: str,
    *,
    options: ExportOptions,
    progress: Progress,
    needs: Needs,
    write: Callable[[Job], list[Placed]],
    estimate: Callable[[Plan, ExportOptions], int],
    prepare: Callable[[Plan], Plan] = lambda plan: plan,
) -> ExportReport:
    """Plan, check the room, write whole, leave the provenance beside it.

    Raises
    ------
    DatasetError
        Nothing can be exported (see :func:`make_plan`), or a sample is damaged.
    StorageError
        ``storage.exists``: the folder holds something and ``overwrite`` is false, or no export; ``storage.disk_full``
        before anything is written if the estimate does not fit, or later.
    """
    folder = Path(folder).absolute()
    if folder.is_relative_to(dataset.root):
        raise InputError(
            f"{folder} lies inside the data set; an export never changes it",
            hint="choose a folder elsewhere",
            code="export.inside_dataset",
        )
    check_replaceable(folder, overwrite=options.overwrite, marker=EXPORT_FILE)
    progress("reading the samples' manifests")
    plan = prepare(make_plan(dataset, categories=options.categories, split=options.split, needs=needs))
    check_not_empty(plan)
    expected = estimate(plan, options) + _OWN_BYTES * len(plan.items)
    progress(f"about {expected / 1e6:.0f} MB for {len(plan.items)} sample(s)")
    _check_room(folder, expected)
    with staged_folder(folder, overwrite=options.overwrite, marker=EXPORT_FILE) as staging:
        job = Job(dataset, plan, options, staging, progress, list(plan.warnings))
        placed = write(job)
        write_json(staging / MAP_FILE, _Map(samples=tuple(placed)).model_dump(by_alias=True))
        provenance = _provenance(job, format)
        write_json(staging / EXPORT_FILE, provenance.model_dump(by_alias=True))
        written = sum(p.stat().st_size for p in staging.rglob("*") if p.is_file())
    return ExportReport(
        folder, format, len(plan.items), plan.counts(), plan.skipped, tuple(job.warnings), written, expected
    )


def _provenance(job: Job, format: str) -> Provenance:
    hashes = {str(i.key): sorted(f.sha256 for f in i.sample.manifest.files) for i in job.plan.items}
    info = job.dataset.info
    return Provenance(
        format=format,
        created_utc=utc_now(),
        dataset=SourceInfo(
            name=info.name,
            license=info.license,
            created_utc=info.created_utc,
            content_sha256=sha256_bytes(canonical_json(hashes).encode()),
        ),
        simulated_samples=sum(i.sample.manifest.simulated for i in job.plan.items),
        split=job.plan.split,
        split_sha256=job.plan.split_sha256,
        options={k: list(v) if isinstance(v, tuple) else v for k, v in asdict(job.options).items() if k != "overwrite"},
        counts=job.plan.counts(),
        skipped=job.plan.skipped,
        warnings=tuple(job.warnings),
        facts=job.facts,
    )


def _check_room(folder: Path, needed: int) -> None:
    there = next(p for p in folder.parents if p.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise StorageError(
            f"the export needs about {needed / 1e6:.0f} MB and the disk of {there} has {free / 1e6:.0f} MB free",
            hint="choose another disk, fewer categories (--category) or a smaller --size; nothing was written",
            code="storage.disk_full",
        )


def read_provenance(folder: str | Path) -> Provenance:
    """What an export says of itself; raises :class:`DatasetError` (``export.not_an_export`` if it is none)."""
    path = Path(folder) / EXPORT_FILE
    if not path.is_file():
        raise DatasetError(
            f"{folder} is no export of rakelight: {EXPORT_FILE} is missing",
            hint="name the folder given to `rakelight dataset export -o`",
            code="export.not_an_export",
        )
    return validate(read_json(path, error=DatasetError), Provenance, source=str(path), error=DatasetError)


def read_map(folder: str | Path) -> tuple[Placed, ...]:
    """Which files each sample became; raises :class:`DatasetError`, also for a path that leads out of the export."""
    path = Path(folder) / MAP_FILE
    placed = validate(read_json(path, error=DatasetError), _Map, source=str(path), error=DatasetError).samples
    for entry in placed:
        SampleKey.parse(entry.sample)
        bad = next((f for f in entry.files.values() if f.startswith("/") or ".." in f.split("/") or "\\" in f), None)
        if bad is not None or ":" in "".join(entry.files.values()):
            raise DatasetError(
                f"{path}: {entry.sample} has a file outside the export: {bad or entry.files}",
                hint="make the export again",
                code="export.map_invalid",
            )
    return placed


def pixels_of(sample: OpenSample) -> tuple[int, int]:
    """(height, width) of the sample's pictures, from the manifest or else the picture itself."""
    manifest = sample.manifest
    if manifest.height and manifest.width:
        return manifest.height, manifest.width
    picture = sample.rgb()
    if picture is None:
        raise DatasetError(f"{sample.key} has no RGBL05 picture", hint="verify the data set", code="dataset.damaged")
    height, width = picture.shape[:2]
    return height, width


def stored_bytes(plan: Plan, roles: Iterable[str]) -> int:
    """Size of the named modalities of all samples, as stored."""
    wanted = set(roles)
    return sum(f.bytes for i in plan.items for f in i.sample.manifest.files if f.role in wanted)


def plain_bytes(plan: Plan, size: int | None, bytes_per_pixel: float) -> int:
    """Upper estimate of what images of ``bytes_per_pixel`` take; one sample of each category stands for all of it."""
    total = 0.0
    pixels: dict[str, int] = {}
    for item in plan.items:
        if item.key.category not in pixels:
            height, width = fitted_size(*pixels_of(item.sample), size)
            pixels[item.key.category] = height * width
        total += pixels[item.key.category] * bytes_per_pixel + 4096
    return int(total)
