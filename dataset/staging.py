"""Writing the files of one sample beside the data set, before it has a number: the long part of a commit, without its lock.

:func:`stage` writes everything below ``.staging/<name>/{raw,extras}`` under provisional names (``RGBL05.jpg``), hashed and
fsynced, and returns a :class:`Staged` that travels as JSON: a worker process stages, the one writer publishes. :func:`finish`
gives the files the names of a key and writes the manifest; the writer then renames the two folders into place.

Encoding, hashing, writing and fsync of different files run at the same time in a few threads (OpenCV, zlib, hashlib and the
kernels let the interpreter's lock go), the longest first, so that the disk is busy from the start.

What is stored, and why, for 5472×3648 px with the part on a quarter of the field (``benchmarks/commit_speed.py``, where the
bar is 400 MB a sample):

==================  ========  ==============================================================================================
file                MB        decision
==================  ========  ==============================================================================================
XYZ                 239.5     plain float32, as loaders want it: neither smaller numbers nor compression
RGBL01–05, PS       20        JPEG, quality 95, 4:4:4
normals             21        uint16, the part alone, Deflate (``encoded_maps``, ``packed_tiff``); float32 would be 239.5
albedo              25        the same, R G B
PCD, cloud.ply      25        one pixel in n×n, so that a million points are left at most; n stands in the manifest
part mask, mask, …  0.1       8-bit PNG
raw frames          0         as the recipe or the data set says (``keep_raw``): 40 MB a frame, some 24 MB once packed
together            331
==================  ========  ==============================================================================================
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rakelight.config import Model
from rakelight.dataset import encoded_maps, layout, point_clouds
from rakelight.dataset._content_checks import Checked, check_content
from rakelight.dataset._staged_file import StagedFile
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.options import ZERO_TIMESTAMP, DatasetOptions
from rakelight.dataset.packed_tiff import write_packed_tiff
from rakelight.dataset.sample import FileRecord, LabelChange, SampleContent, SampleManifest, utc_now
from rakelight.errors import DatasetError
from rakelight.files import (
    fsync_folder,
    json_bytes,
    make_folder,
    replace,
    sha256_bytes,
    told,
    write_bytes,
)

_RAW, _EXTRAS = "raw", "extras"  # the two folders of a staged sample
_MORE_THREADS = 2  # beyond the cores: those that wait for the disk

Task = tuple[float, Callable[[], FileRecord]]  # seconds it takes, roughly; what writes one file


class Staged(Model):
    """A sample that is written and durable, but not yet in the data set; plain data, so that it travels as JSON.

    Attributes
    ----------
    name : str
        Its folder below ``.staging``.
    draft : SampleManifest
        What its manifest will say; number 0, and paths ``raw/…`` and ``extras/…`` relative to that folder.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    draft: SampleManifest

    @property
    def bytes(self) -> int:
        return sum(f.bytes for f in self.draft.files)


def new_staging(root: Path) -> Path:
    """A path for :func:`stage` in the data set ``root`` that nobody else has."""
    return root / layout.STAGING_FOLDER / uuid.uuid4().hex


def stage(
    content: SampleContent, staging: Path, options: DatasetOptions | None = None, *, threads: int | None = None
) -> Staged:
    """Check a sample and write every file of it below ``staging``, each fsynced. Needs no lock.

    Parameters
    ----------
    content : SampleContent
    staging : Path
        A folder that is not there yet, directly in ``.staging`` of the data set; see :func:`new_staging`. After an error
        it is gone again.
    options : DatasetOptions, optional
        Those of the data set (``Dataset.info.options``).
    threads : int, optional
        By default one a core and two more.

    Raises
    ------
    DatasetError, InputError
        As :func:`check_content`; a raw file that is missing or not what its hash says.
    StorageError
        The disk is full or cannot be written.
    """
    options = options or DatasetOptions()
    checked = check_content(content, options)
    try:
        for folder in (_RAW, _EXTRAS):
            make_folder(staging / folder)
        plan = _Plan(content, staging, options, checked, threads or (os.cpu_count() or 1) + _MORE_THREADS)
        records = plan.run()
        draft = _draft(content, options, checked, plan.encodings, records)
        return Staged(name=staging.name, draft=draft)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)  # the caller still holds the content; a full disk gets its room
        raise


def finish(
    staged: Staged, folder: Path, key: SampleKey, *, revision: int = 1, labels: Iterable[LabelChange] = ()
) -> tuple[FileRecord, ...]:
    """Give the staged files in ``folder`` the names of ``key`` and write the manifest; then the two folders can be renamed.

    Returns the records with their final paths; the last one is the manifest's. Raises :class:`DatasetError`
    (``dataset.staged_changed``) if a file is not there as it was staged, and :class:`StorageError`.
    """
    draft = staged.draft
    records = []
    for record in draft.files:
        home, _, name = record.path.partition("/")
        _check_staged(folder, record, home, name)
        if home == _RAW:
            final = layout.sample_file(key, record.role, draft.timestamp)
            with told(folder / _RAW / final):
                replace(folder / record.path, folder / _RAW / final)
            path = f"{key.raw_folder}/{final}"
        else:
            path = f"{key.extras_folder}/{name}"
        records.append(record.model_copy(update={"path": path}))
    changes = {"number": key.number, "label": key.label, "category": key.category, "committed_utc": utc_now()}
    changes |= {"files": tuple(records), "revision": revision, "labels": tuple(labels)}
    manifest = draft.model_copy(update=changes)
    data = json_bytes(manifest.model_dump(by_alias=True))
    write_bytes(folder / _EXTRAS / layout.SAMPLE_MANIFEST, data)
    with told(folder):
        fsync_folder(folder / _RAW)
    path = f"{key.extras_folder}/{layout.SAMPLE_MANIFEST}"
    return (*records, FileRecord(path=path, bytes=len(data), sha256=sha256_bytes(data), role="manifest"))


def _check_staged(folder: Path, record: FileRecord, home: str, name: str) -> None:
    """The record came from another process: it must name a file of this folder, and that must be there in full."""
    token = ".".join(layout.MODALITIES.get(record.role, ("", "")))
    plain = all(part not in ("", ".", "..") for part in name.split("/")) and "\\" not in name and "\0" not in name
    known = name == token if home == _RAW else home == _EXTRAS and plain
    with contextlib.suppress(OSError):
        if known and (folder / record.path).stat().st_size == record.bytes:
            return
    raise DatasetError(
        f"staged file {folder / record.path} is not there with its {record.bytes} bytes",
        hint="stage the sample again: its folder was moved, cleaned up or put into quarantine meanwhile",
        code="dataset.staged_changed",
    )


def _draft(
    content: SampleContent,
    options: DatasetOptions,
    checked: Checked,
    encodings: Mapping[str, Any],
    records: tuple[FileRecord, ...],
) -> SampleManifest:
    has_xyz = any(r.role == "XYZ" for r in records)
    return SampleManifest(
        category=content.category,
        label=content.label,
        number=0,
        timestamp=_timestamp(content, options),
        committed_utc="",
        specimen=content.specimen,
        batch=content.batch,
        simulated=content.simulated,
        width=checked.width,
        height=checked.height,
        pitch_mm=content.pitch_mm,
        xyz_xy=(options.xyz_xy if content.xyz is not None else content.xyz_xy) if has_xyz else None,
        source=content.source,
        quality=dict(content.quality),
        encodings=dict(sorted(encodings.items())),
        files=records,
    )


def _timestamp(content: SampleContent, options: DatasetOptions) -> str:
    return ZERO_TIMESTAMP if options.zero_timestamps else content.timestamp


# -------------------------------------------------------------------------------------------------------------- the files
class _Plan:
    """What is to be written, file by file, and the threads that do it."""

    def __init__(
        self, content: SampleContent, staging: Path, options: DatasetOptions, checked: Checked, threads: int
    ) -> None:
        self.content, self.staging, self.options = content, staging, options
        self.checked, self.threads = checked, threads
        self.encodings: dict[str, Any] = {}
        self._pixels = checked.height * checked.width / 20e6
        self._area = encoded_maps.stored_area(content.part_mask, (checked.height, checked.width))
        if content.raw_files:
            make_folder(staging / _EXTRAS / layout.RAW_FILES_FOLDER)

    def run(self) -> tuple[FileRecord, ...]:
        """Write all files; the records in the order of the tasks' definition, ``capture.json`` last."""
        tasks = list(self._tasks())
        order = sorted(range(len(tasks)), key=lambda i: -tasks[i][0])
        with ThreadPoolExecutor(self.threads, "stage") as pool:
            futures = {i: pool.submit(tasks[i][1]) for i in order}
            try:
                return tuple(futures[i].result() for i in range(len(tasks)))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _tasks(self) -> Iterator[Task]:
        yield from self._modalities()
        yield from self._maps()
        yield from self._clouds()
        for name, source in self.content.raw_files.items():
            target = self._extra(f"{layout.RAW_FILES_FOLDER}/{name}", "raw")
            expected = self.content.raw_sha256.get(name, "")
            yield 0.1, partial(target.copy, source, expected)
        facts = dict(self.content.capture)
        if self.options.zero_timestamps:
            facts.setdefault("timestamp", self.content.timestamp)
        yield 0.0, partial(self._extra(layout.CAPTURE_FILE, "capture").bytes, json_bytes(facts))

    def _modalities(self) -> Iterator[Task]:
        content = self.content
        pictures: dict[str, Any] = {f"RGBL{view:02d}": content.rgb[view] for view in sorted(content.rgb)}
        if content.ps is not None:
            pictures["PS"] = content.ps
        for modality in layout.MODALITIES:
            target = self._modality(modality)
            if modality in content.files:
                yield 0.1, partial(target.copy, content.files[modality])
            elif modality in pictures:
                yield 0.3 * self._pixels, partial(target.jpeg, pictures[modality])
            elif modality == "MASK" and (mask := content.mask) is not None:
                yield 0.1 * self._pixels, partial(target.png, mask)
            elif modality == "XYZ" and (xyz := content.xyz) is not None:
                yield 1.0 * self._pixels, partial(self._xyz, target, xyz)

    def _maps(self) -> Iterator[Task]:
        content = self.content
        if content.part_mask is not None:
            mask = content.part_mask.view(np.uint8) * np.uint8(255)
            yield 0.1 * self._pixels, partial(self._extra(layout.PART_MASK_FILE).png, mask)
        if (normals := content.normals) is not None:
            self.encodings["normals.tiff"] = encoded_maps.NORMALS_ENCODING
            yield 0.6 * self._pixels, partial(self._normals, normals)
        if (albedo := content.albedo) is not None:
            yield 0.6 * self._pixels, partial(self._albedo, albedo)
        for name, original in content.originals.items():
            yield 0.5 * self._pixels, partial(self._extra(f"{name}.png").png, original)
        for name, array in content.extras.items():
            if array.dtype == np.uint8:
                yield 0.2 * self._pixels, partial(self._extra(f"{name}.png").png, array)
            else:
                yield 0.4 * self._pixels, partial(self._extra(f"{name}.tiff").tiff, array)

    def _clouds(self) -> Iterator[Task]:
        """PCD (unless one is copied) and PLY, thinned alike."""
        xyz, settings = self.content.xyz, self.content.clouds
        if xyz is None or not settings.most_points:
            return
        valid = np.isfinite(xyz[..., 2])
        if settings.part_only and self.content.part_mask is not None and (valid & self._area).any():
            valid &= self._area
        stride = thinning_stride(valid, settings.most_points)
        if not valid[stride // 2 :: stride, stride // 2 :: stride].any():
            stride = 1  # a few pixels between the lines of the grid: better all of them than none
        grid = np.s_[stride // 2 :: stride, stride // 2 :: stride]
        keep, points, colours = np.ascontiguousarray(valid[grid]), xyz[grid], self.checked.reference[grid]
        normals = None if self.content.normals is None else self.content.normals[grid]
        self.encodings["clouds"] = {"stride_px": stride, "part_only": settings.part_only, "points": int(keep.sum())}
        if "PCD" not in self.content.files:
            yield 0.2, partial(self._cloud, self._modality("PCD"), points, colours, keep)
        yield 0.2, partial(self._cloud, self._extra("cloud.ply", "cloud"), points, colours, keep, normals)

    def _cloud(
        self,
        target: StagedFile,
        points: NDArray[np.float32],
        colours: NDArray[np.uint8],
        keep: NDArray[np.bool_],
        normals: NDArray[np.float32] | None = None,
    ) -> FileRecord:
        if target.role == "PCD":
            done = point_clouds.write_pcd(target.file, points, colours, mask=keep)
        else:
            options: dict[str, Any] = {} if normals is None else {"normals": normals, "normals_frame": "viewer"}
            done = point_clouds.write_ply(target.file, points, rgb=colours, mask=keep, **options)
        return target.written(done.bytes, done.sha256)

    def _normals(self, normals: NDArray[np.float32]) -> FileRecord:
        return self._packed("normals.tiff", encoded_maps.encode_normals(normals, self._area))

    def _albedo(self, albedo: NDArray[np.float32]) -> FileRecord:
        stored, scale = encoded_maps.encode_albedo(albedo, self._area)
        self.encodings["albedo.tiff"] = encoded_maps.albedo_encoding(scale)
        return self._packed("albedo.tiff", stored)

    def _packed(self, name: str, stored: NDArray[np.uint16]) -> FileRecord:
        target = self._extra(name)
        return target.written(*write_packed_tiff(target.file, stored, differences=True))

    def _xyz(self, target: StagedFile, xyz: NDArray[np.float32]) -> FileRecord:
        """XYZ with X and Y as the data set wants them; NaN stays NaN."""
        if self.options.xyz_xy == "true":
            return target.tiff(xyz)
        stored = xyz.copy()
        invalid = np.isnan(xyz[..., 2])
        if self.options.xyz_xy == "placeholder":
            stored[..., :2] = self.content.pitch_mm
        else:
            stored[..., 0] = np.arange(xyz.shape[1], dtype=np.float32)
            stored[..., 1] = np.arange(xyz.shape[0], dtype=np.float32)[:, None]
        stored[invalid] = np.nan
        return target.tiff(stored)

    def _modality(self, modality: str) -> StagedFile:
        return StagedFile(self.staging, f"{_RAW}/{'.'.join(layout.MODALITIES[modality])}", modality)

    def _extra(self, name: str, role: str = "extra") -> StagedFile:
        return StagedFile(self.staging, f"{_EXTRAS}/{name}", role)


def thinning_stride(valid: NDArray[np.bool_], most_points: int) -> int:
    """The smallest stride n so that one pixel of each n×n cell leaves about ``most_points`` valid ones at most."""
    return max(1, math.ceil(math.sqrt(np.count_nonzero(valid) / most_points)))
