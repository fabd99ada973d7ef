"""What one sample holds: its content as arrays before it is written, and what its manifest says afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rakelight import __version__
from rakelight.config import Model, PlainData
from rakelight.dataset import layout
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.options import XyzXy

MANIFEST_SCHEMA = 2


class Software(Model):
    """The program that wrote a file."""

    name: str = "rakelight"
    version: str = __version__


class FileRecord(Model):
    """One stored file: ``path`` relative to the data set, ``role`` a key of ``layout.MODALITIES`` or
    ``extra``, ``cloud``, ``annotation``, ``raw``, ``capture``, ``manifest``."""

    path: str = Field(min_length=1)
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    role: str = Field(min_length=1)


class Source(Model):
    """What a sample was derived from, so that it can be derived again: a recording, or a file of another data set.

    ``recording_sha256`` is the recording's content hash, ``calibration`` its folder in the data set (``calibration/<id>``) and
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
    says what the first two channels of the XYZ map hold (``true`` coordinates, a ``placeholder`` or the ``pixel_index``;
    None of a map that came from elsewhere), ``pitch_mm`` the spacing of neighbouring pixels on the part. ``quality`` holds
    figures of capture and reconstruction, ``encodings`` how files hold their numbers (``normals.tiff``), how clouds were
    thinned and frames packed. ``revision`` counts how often the sample was derived again.
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
    xyz_xy: XyzXy | None = None
    source: Source = Source()
    quality: PlainData = Field(default_factory=dict)
    encodings: PlainData = Field(default_factory=dict)
    revision: int = 1
    labels: tuple[LabelChange, ...] = ()
    files: tuple[FileRecord, ...]

    @property
    def key(self) -> SampleKey:
        return SampleKey(self.category, self.label, self.number)


@dataclass(frozen=True)
class CloudSettings:
    """How the point clouds are thinned: one pixel of each ``stride`` × ``stride`` grid cell, coordinates untouched.

    Attributes
    ----------
    most_points : int
        The smallest stride is taken that leaves no more points; 0 writes no clouds.
    part_only : bool
        Only the part (and the margin of ``encoded_maps`` around it) if the sample has a part mask, else the whole field.
    """

    most_points: int = 1_000_000
    part_only: bool = True


@dataclass(frozen=True)
class SampleContent:
    """One part, ready to be stored. H × W is the size of the pictures; what is optional may be absent.

    Attributes
    ----------
    category, label : str
        ``label`` is ``"OK"`` or the defect's name; see :func:`layout.check_category` for what a name may be.
    timestamp : str
        UTC time of the capture, YYYYMMDDhhmmss, or 14 zeros.
    rgb : mapping of int to (H, W, 3) uint8
        Pictures, channel order R, G, B: 1–4 under that light zone, 5 under all zones.
        Picture 5 is required, here or in ``files``; all share one size.
    ps : (h, w, 3) uint8, optional
        Pseudo-3D picture, encoded as ``meta/dataset.json`` states.
    mask : (H, W) uint8 of 0 and 255, optional
        Defect mask, drawn on picture 5; only for defective parts, never empty.
    xyz : (H, W, 3) float32, optional
        mm, camera frame; a pixel is NaN in all three coordinates or in none. Also makes the point clouds.
    normals : (H, W, 3) float32, optional
        Unit vectors, viewer frame; a pixel is NaN in all three components or in none.
    albedo : (H, W) or (H, W, 3) float32, optional
        Grey, or R, G, B; not negative, NaN where not known.
    part_mask : (H, W) bool, optional
        Where the part is, not empty; normals, albedo and clouds are stored there and a margin around it.
    originals : mapping of str to (H, W, 3) uint8
        By ``RGBL01`` … ``RGBL05`` or ``PS``: the lossless picture that an imported sample came with; kept as PNG.
    files : mapping of str to Path
        By key of ``layout.MODALITIES``: a file copied byte for byte as that modality, instead of an array. It is
        decoded and checked as the array would be; an XYZ map may have another size than the pictures.
    xyz_xy : "true", "placeholder" or "pixel_index", optional
        What the first two channels of an XYZ map in ``files`` hold, if that is known; of ``xyz`` the data set decides.
    extras : mapping of str to array
        Further lossless companions, (H, W) or (H, W, 3): uint8 becomes .png, uint16 and float32 become plain .tiff.
    raw_files : mapping of str to Path
        Files copied as they are into the extras' ``raw/`` folder, by the name they get there; :func:`options.raw_files`
        chooses them.
    raw_sha256 : mapping of str to str
        Expected hex SHA-256 of raw files, checked while copying.
    capture : mapping
        JSON-able facts of the capture: rig, calibration, exposures.
    specimen, batch, simulated, pitch_mm, source, quality
        As in :class:`SampleManifest`.
    clouds : CloudSettings
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
    xyz: NDArray[np.float32] | None = None
    normals: NDArray[np.float32] | None = None
    albedo: NDArray[np.float32] | None = None
    part_mask: NDArray[np.bool_] | None = None
    originals: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    xyz_xy: XyzXy | None = None
    specimen: str = ""
    batch: str = ""
    simulated: bool = False
    pitch_mm: float | None = None
    source: Source = field(default_factory=Source)
    quality: Mapping[str, Any] = field(default_factory=dict)
    clouds: CloudSettings = CloudSettings()


@dataclass(frozen=True)
class SampleInfo:
    """A committed sample as its folders and manifest describe it; ``damage`` says why its manifest is unusable.

    One from a listing (``Dataset.listed``) has no ``files``, but their modalities and sum in ``listed``, ``listed_bytes``.
    """

    key: SampleKey
    timestamp: str = ""
    files: tuple[FileRecord, ...] = ()
    damage: str = ""
    specimen: str = ""
    batch: str = ""
    simulated: bool = False
    revision: int = 1
    listed: tuple[str, ...] = ()
    listed_bytes: int = 0

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
        present = {f.role for f in self.files} or set(self.listed)
        return tuple(m for m in layout.MODALITIES if m in present)

    @property
    def bytes(self) -> int:
        """All its files together."""
        return sum(f.bytes for f in self.files) or self.listed_bytes


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
