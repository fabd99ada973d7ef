"""What one sample holds, and how its files are encoded and written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rakelight import __version__
from rakelight.arrays import check_array
from rakelight.config import Model, PlainData
from rakelight.dataset import images, layout
from rakelight.dataset.layout import SampleKey
from rakelight.errors import DatasetError, InputError
from rakelight.files import atomic_write, make_folder, sha256_bytes, write_bytes

MANIFEST_SCHEMA = 2
_MAX_SIDE = 65_500  # what libjpeg writes
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class SampleContent:
    """One part, ready to be stored.

    Attributes
    ----------
    category, label : str
        ``label`` is ``"OK"`` or the defect's name; see :func:`layout.check_category` for what a name may be.
    timestamp : str
        UTC time of the capture, YYYYMMDDhhmmss, or 14 zeros.
    rgb : mapping of int to (H, W, 3) uint8
        Pictures, channel order R, G, B: 1–4 under that light zone, 5 under all zones.
        Picture 5 is required; all share one size.
    ps : (h, w, 3) uint8, optional
        Pseudo-3D picture, encoded as ``meta/dataset.json`` states.
    mask : (H, W) uint8 of 0 and 255, optional
        Defect mask, drawn on picture 5; only for defective parts, never empty.
    extras : mapping of str to array
        Lossless companions, (H, W) or (H, W, 3): uint8 becomes .png, uint16 and float32 become plain .tiff.
    raw_files : mapping of str to Path
        Files copied as they are into the extras' ``raw/`` folder, by the name they get there.
    raw_sha256 : mapping of str to str
        Expected hex SHA-256 of raw files, checked while copying.
    capture : mapping
        JSON-able facts of the capture: rig, calibration, exposures.
    """

    category: str
    label: str
    timestamp: str
    rgb: Mapping[int, NDArray[np.uint8]]
    ps: NDArray[np.uint8] | None = None
    mask: NDArray[np.uint8] | None = None
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    raw_files: Mapping[str, Path] = field(default_factory=dict)
    raw_sha256: Mapping[str, str] = field(default_factory=dict)
    capture: Mapping[str, Any] = field(default_factory=dict)


class Software(Model):
    """The program that wrote a file."""

    name: str = "rakelight"
    version: str = __version__


class FileRecord(Model):
    """One stored file: ``path`` relative to the data set, ``role`` a key of ``layout.MODALITIES`` or
    ``extra``, ``raw``, ``capture``, ``manifest``."""

    path: str = Field(min_length=1)
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    role: str = Field(min_length=1)


class Source(Model):
    """What a sample was derived from, so that it can be derived again: a recording, or a file of another data set.

    ``recording_sha256`` is the recording's content hash, ``calibration`` the folder below ``calibration/`` and
    ``settings`` what the pipeline was told; ``origin`` names format and place of an imported sample.
    """

    recording: str | None = None
    recording_id: str | None = None
    recording_sha256: str | None = None
    calibration: str | None = None
    settings: PlainData = Field(default_factory=dict)
    origin: str | None = None


class LabelChange(Model):
    """One earlier label of a sample; ``was`` is the key it had."""

    utc: str
    was: str
    label: str
    by: str = ""
    reason: str = ""


class SampleManifest(Model):
    """``manifest.json`` in a sample's extras folder: the truth about which files the sample has, and where it comes from.

    ``specimen`` is the physical part (splits keep its samples together), ``batch`` the lot or capture session. ``xyz_xy``
    says what the first two channels of the XYZ map hold (``true`` coordinates, a ``placeholder`` or the ``pixel_index``),
    ``pitch_mm`` the spacing of neighbouring pixels on the part. ``quality`` holds figures of capture and reconstruction.
    ``revision`` counts how often the sample was derived again.
    """

    schema_: int = Field(default=MANIFEST_SCHEMA, alias="schema")
    category: str
    label: str
    number: int
    timestamp: str
    committed_utc: str
    software: Software = Software()
    specimen: str = ""
    batch: str = ""
    simulated: bool = False
    width: int | None = None
    height: int | None = None
    pitch_mm: float | None = None
    xyz_xy: Literal["true", "placeholder", "pixel_index"] | None = None
    source: Source = Source()
    quality: PlainData = Field(default_factory=dict)
    revision: int = 1
    labels: tuple[LabelChange, ...] = ()
    files: tuple[FileRecord, ...]

    @property
    def key(self) -> SampleKey:
        return SampleKey(self.category, self.label, self.number)


@dataclass(frozen=True)
class SampleInfo:
    """A committed sample as its folders and manifest describe it; ``damage`` says why its manifest is unusable."""

    key: SampleKey
    timestamp: str = ""
    files: tuple[FileRecord, ...] = ()
    damage: str = ""

    @property
    def category(self) -> str:
        return self.key.category

    @property
    def label(self) -> str:
        return self.key.label

    @property
    def number(self) -> int:
        return self.key.number

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities present, in the order of ``layout.MODALITIES``."""
        present = {f.role for f in self.files}
        return tuple(m for m in layout.MODALITIES if m in present)

    @property
    def bytes(self) -> int:
        return sum(f.bytes for f in self.files)


@dataclass(frozen=True)
class CommittedSample:
    """What a commit made durable: both folders (absolute) and every file in them."""

    key: SampleKey
    folder: Path
    extras_folder: Path
    files: tuple[FileRecord, ...]

    @property
    def bytes(self) -> int:
        return sum(f.bytes for f in self.files)


def utc_now() -> str:
    """The wall time, UTC, ISO-8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def check_content(content: SampleContent) -> None:
    """Refuse content that cannot become a sample, before anything is written.

    Raises
    ------
    DatasetError
        Bad names or time, picture 5 missing, a mask on an OK part, an empty, non-binary or wrongly sized mask.
    InputError
        Arrays of the wrong shape or dtype, capture facts that are not JSON.
    """
    layout.check_category(content.category)
    layout.check_label(content.label)
    layout.check_timestamp(content.timestamp)
    size = _check_pictures(content)
    if content.mask is not None:
        _check_mask(content.mask, content.label, size)
    for name, array in content.extras.items():
        layout.check_file_name("extra", name)
        a = check_array(f"extra {name}", array, dtypes=("uint8", "uint16", "float32"))
        if a.size == 0 or a.ndim not in (2, 3) or (a.ndim == 3 and a.shape[2] != 3):
            raise InputError(f"extra {name} has shape {a.shape}; needed: (H, W) or (H, W, 3)", code="input.shape")
    _check_no_case_clash("extra", content.extras)
    for name in content.raw_files:
        layout.check_file_name("raw file", name)
    _check_no_case_clash("raw file", content.raw_files)
    unknown = sorted(set(content.raw_sha256) - set(content.raw_files))
    if unknown:
        raise InputError(
            f"raw_sha256 names {unknown[0]!r}, which is no raw file of the sample", code="input.unknown_name"
        )
    try:
        json.dumps(dict(content.capture), allow_nan=False)
    except (TypeError, ValueError) as e:
        raise InputError(f"capture facts cannot be written as JSON: {e}", code="input.not_json") from e


def _check_pictures(content: SampleContent) -> tuple[int, int]:
    unknown = sorted(set(content.rgb) - set(layout.VIEWS))
    if unknown or layout.REFERENCE_VIEW not in content.rgb:
        raise DatasetError(
            f"sample has pictures {sorted(content.rgb)}; allowed: 1 to 5, and 5 (all zones) is required",
            hint="add a capture with all zones on to the recipe",
            code="dataset.views",
        )
    height, width = check_array("rgb[5]", content.rgb[layout.REFERENCE_VIEW], ndim=3).shape[:2]
    if not (0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE):
        raise InputError(f"rgb[5] is {height}×{width}; each side needs 1 to {_MAX_SIDE} pixels", code="input.shape")
    for view, picture in content.rgb.items():
        check_array(f"rgb[{view}]", picture, shape=(height, width, 3), dtypes=("uint8",))
    if content.ps is not None:
        ps = check_array("ps", content.ps, shape=(None, None, 3), dtypes=("uint8",))
        if not (0 < ps.shape[0] <= _MAX_SIDE and 0 < ps.shape[1] <= _MAX_SIDE):
            raise InputError(f"ps has shape {ps.shape}; each side needs 1 to {_MAX_SIDE} pixels", code="input.shape")
    return height, width


def _check_mask(mask: NDArray[np.uint8], label: str, size: tuple[int, int]) -> None:
    def refuse(problem: str, hint: str, code: str) -> DatasetError:
        return DatasetError(f"mask of {label} sample {problem}", hint=hint, code=code)

    if label == layout.OK:
        raise refuse(
            "given; OK samples have none", "leave it out or label the sample by its defect", "dataset.mask_on_ok"
        )
    mask = np.asarray(mask)
    if mask.dtype != np.uint8 or mask.shape != size:
        raise refuse(
            f"is {mask.dtype} {mask.shape}; needed: uint8 {size}, the size of RGBL05",
            "draw it on RGBL05 at full size",
            "dataset.mask_size",
        )
    if not ((mask == 0) | (mask == 255)).all():
        value = int(mask[(mask != 0) & (mask != 255)][0])
        raise refuse(f"holds the value {value}; allowed: 0 and 255", "threshold it first", "dataset.mask_values")
    if not mask.any():
        raise refuse("is empty", "mark the defect, or leave the mask out until it is drawn", "dataset.mask_empty")


def _check_no_case_clash(kind: str, names: Mapping[str, Any]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise DatasetError(
                f"{kind}s {other!r} and {name!r} differ only in case, so they are one file on Windows and macOS",
                hint="rename one",
                code="dataset.name_invalid",
            )


def write_sample_files(content: SampleContent, key: SampleKey, staging: Path) -> tuple[FileRecord, ...]:
    """Write every file of a checked sample below ``staging/raw`` and ``staging/extras``, each fsynced.

    Returns the records with their final paths; the last one is ``manifest.json``, which holds all the others.
    """
    stage = _Stage(staging, key, content.timestamp)
    for view in sorted(content.rgb):
        stage.put_modality(f"RGBL{view:02d}", images.encode_jpeg(content.rgb[view]))
    if content.ps is not None:
        stage.put_modality("PS", images.encode_jpeg(content.ps))
    if content.mask is not None:
        stage.put_modality("MASK", images.encode_png(content.mask))
    for name, array in content.extras.items():
        if array.dtype == np.uint8:
            stage.put_extra("extra", f"{name}.png", images.encode_png(array))
        else:
            stage.put_tiff(f"{name}.tiff", array)
    for name, source in content.raw_files.items():
        stage.copy(name, source, content.raw_sha256.get(name, ""))
    stage.put_extra("capture", layout.CAPTURE_FILE, _json_bytes(dict(content.capture)))
    manifest = SampleManifest(
        category=key.category,
        label=key.label,
        number=key.number,
        timestamp=content.timestamp,
        committed_utc=utc_now(),
        files=tuple(stage.records),
    )
    stage.put_extra("manifest", layout.SAMPLE_MANIFEST, _json_bytes(manifest.model_dump(by_alias=True)))
    return tuple(stage.records)


class _Stage:
    """Writes one sample's files into its staging folder and keeps their records."""

    def __init__(self, staging: Path, key: SampleKey, timestamp: str) -> None:
        self.key = key
        self.timestamp = timestamp
        self.records: list[FileRecord] = []
        self._raw = make_folder(staging / "raw")
        self._extras = make_folder(staging / "extras")

    def put_modality(self, modality: str, data: memoryview) -> None:
        name = layout.sample_file(self.key, modality, self.timestamp)
        write_bytes(self._raw / name, data)
        self._note(modality, f"{self.key.raw_folder}/{name}", len(data), sha256_bytes(data))

    def put_extra(self, role: str, name: str, data: bytes | memoryview) -> None:
        write_bytes(self._extras / name, data)
        self._note(role, f"{self.key.extras_folder}/{name}", len(data), sha256_bytes(data))

    def put_tiff(self, name: str, array: NDArray[Any]) -> None:
        size, sha256 = images.write_tiff(self._extras / name, array)
        self._note("extra", f"{self.key.extras_folder}/{name}", size, sha256)

    def copy(self, name: str, source: Path, expected_sha256: str) -> None:
        target = make_folder(self._extras / layout.RAW_FILES_FOLDER) / name
        digest, size = hashlib.sha256(), 0
        with atomic_write(target) as handle:
            for chunk in _chunks(source):
                handle.write(chunk)
                digest.update(chunk)
                size += len(chunk)
            if expected_sha256 and digest.hexdigest() != expected_sha256.lower():
                raise DatasetError(
                    f"raw file {source} has SHA-256 {digest.hexdigest()}; expected {expected_sha256}",
                    hint="the recording was changed or damaged; capture the part again",
                    code="dataset.raw_mismatch",
                )
        path = f"{self.key.extras_folder}/{layout.RAW_FILES_FOLDER}/{name}"
        self._note("raw", path, size, digest.hexdigest())

    def _note(self, role: str, path: str, size: int, sha256: str) -> None:
        self.records.append(FileRecord(path=path, bytes=size, sha256=sha256, role=role))


def _chunks(source: Path) -> Iterator[bytes]:
    try:
        with open(source, "rb") as handle:
            while chunk := handle.read(_CHUNK_BYTES):
                yield chunk
    except OSError as e:
        raise DatasetError(
            f"raw file {source} cannot be read: {e.strerror or e}",
            hint="check the recording it belongs to",
            code="dataset.raw_unreadable",
        ) from e


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
