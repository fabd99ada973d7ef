"""A recording: every raw frame of one capture plus what was commanded and measured.

On disk it is a folder with ``recording.json`` and one plain TIFF a frame. It is written whole by
``recording_writer`` and never edited afterwards; samples, calibrations and verdicts are derived from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictBool, model_validator

from rakelight import config, files
from rakelight.dataset import images
from rakelight.errors import DatasetError

FILE_NAME = "recording.json"
SCHEMA = 1

Target = Literal[
    "part", "chrome_sphere", "white_plane", "dark", "chessboard", "charuco", "step_gauge", "flat", "ball_bar"
]
Role = Literal["zone", "all_zones", "ambient", "dark", "pattern", "repeat"]

_MAX_JSON_BYTES = 8 << 20
_BITS = {"8": 8, "10": 10, "12": 12, "14": 14, "16": 16, "32f": 0}
_KINDS = ("Mono", "RGB", "BayerRG", "BayerGR", "BayerGB", "BayerBG")
_BITS_OF = {f"{kind}{suffix}": bits for kind in _KINDS for suffix, bits in _BITS.items()}
PIXEL_FORMATS = tuple(_BITS_OF)


class Shot(config.Model):
    """One planned exposure: what is lit and shown.

    ``role`` is ``zone`` (one light, number ``zone``), ``all_zones``, ``ambient`` (all off), ``dark`` (all off, lens or
    shutter closed), ``pattern`` (a projector shows ``pattern``, plain data owned by the pattern set) or ``repeat`` (the
    first shot once more at the end, to see whether the part moved; nothing is solved from it). ``bracket`` counts the
    exposures of one and the same pattern, shortest first.
    """

    name: str = Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9_.-]+$")
    role: Role
    zone: int | None = Field(default=None, ge=1, le=255)
    projector: int | None = Field(default=None, ge=1, le=16)
    pattern: config.PlainData | None = None
    bracket: int = Field(default=1, ge=1, le=9)

    @model_validator(mode="after")
    def _fits(self) -> Shot:
        if (self.role == "zone") != (self.zone is not None):
            raise ValueError("a shot of role 'zone' needs a zone number, other roles must not have one")
        if (self.role == "pattern") != (self.pattern is not None):
            raise ValueError("a shot of role 'pattern' needs a pattern, other roles must not have one")
        return self


class Sensor(config.Model):
    """Where the frames lie on the sensor (SFNC: OffsetX, OffsetY, BinningHorizontal; pixels of the full sensor)."""

    offset_x: int = Field(default=0, ge=0)
    offset_y: int = Field(default=0, ge=0)
    binning: int = Field(default=1, ge=1, le=16)


class Circle(config.Model):
    """Outline of a sphere in pixels of the frame: centre u (right), v (down), radius."""

    u: float
    v: float
    radius: float = Field(gt=0)


class CalibrationLimits(config.Model):
    """Beyond what a calibration is stale for this rig: ``[calibration]`` of rig.toml; None where it sets nothing."""

    max_age_days: float | None = Field(default=None, gt=0)
    max_warming_k: float | None = Field(default=None, gt=0)


class Origin(config.Model):
    """Where a recording made elsewhere comes from."""

    source: str = ""
    licence: str = ""
    citation: str = ""


class Frame(config.Model):
    """One stored frame of a shot, with what was commanded and what the devices reported.

    ``exposure_us`` is what the camera says it did, ``requested_exposure_us`` what the plan asked for: of a pattern in a
    burst the time it is shown, while the camera is open a little longer. ``acknowledged`` is what lights and projector
    had acknowledged before the exposure began: ``zones`` that are lit; ``projector`` shows [direction, pattern from 0], or
    is dark []; of a burst ``armed`` [direction, exposure µs, period µs] and the number of patterns ``displayed`` in it, read
    back at its end. A device that never answers has no entry.
    """

    shot: str
    file: str = Field(max_length=120, pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*$")  # a plain name: no folder, not hidden
    bytes: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    exposure_us: float | None = Field(default=None, gt=0)
    gain_db: float | None = None
    timestamp_ns: int | None = None
    frame_id: int | None = None
    counters: dict[str, int] = Field(default_factory=dict)
    requested_exposure_us: float | None = Field(default=None, gt=0)
    acknowledged: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    original: str | None = None


class Description(config.Model):
    """What a recording says about itself, apart from its frames; what an importer or a capture fills in."""

    part_id: str = Field(min_length=1, max_length=120)
    target: Target = "part"
    pixel_format: str = Field(description="SFNC name, for example Mono8, BayerRG12, RGB8; 32f for float")
    linear: StrictBool
    simulated: StrictBool = False
    captured_utc: config.UtcTime | None = None
    sensor: Sensor = Sensor()
    sphere_diameter_mm: float | None = Field(default=None, gt=0)
    circles: tuple[Circle, ...] = ()
    sphere_count: int = Field(default=1, ge=1, le=16)
    origin: Origin = Origin()
    rig_id: str | None = None
    devices: dict[str, str] = Field(default_factory=dict)
    calibration_id: str | None = None
    calibration_limits: CalibrationLimits = CalibrationLimits()
    plan: tuple[Shot, ...] = Field(min_length=1)
    pattern_set: config.PlainData | None = None
    keep_raw: Literal["none", "stack", "all"] | None = None
    notes: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Description:
        if self.pixel_format not in PIXEL_FORMATS:
            raise ValueError(f"pixel_format {self.pixel_format!r} is not known; known: {', '.join(PIXEL_FORMATS)}")
        name, count = Counter(shot.name for shot in self.plan).most_common(1)[0]
        if count > 1:
            raise ValueError(f"the plan has {count} shots named {name!r}")
        return self


class RecordingFile(Description):
    """The content of ``recording.json``.

    ``temperature_c`` holds what devices read of their own temperature, °C, in order: before the first frame and after the
    last. A device that does not say has no entry.
    """

    schema_: int = Field(alias="schema", default=SCHEMA)
    kind: Literal["recording"] = "recording"
    recording_id: str
    created_utc: config.UtcTime
    software: str
    width: int = Field(ge=1, le=65536)
    height: int = Field(ge=1, le=65536)
    frames: tuple[Frame, ...]
    temperature_c: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    content_sha256: str = ""


def content_sha256(data: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a recording's record, apart from the hash itself: shows edits by hand."""
    content = {key: value for key, value in data.items() if key != "content_sha256"}
    return files.sha256_bytes(files.canonical_json(content).encode())


@dataclass(frozen=True)
class Recording:
    """An opened recording; frames are read only when asked for.

    Attributes
    ----------
    folder : Path
    info : RecordingFile
        Everything in ``recording.json``.
    """

    folder: Path
    info: RecordingFile

    @classmethod
    def open(cls, folder: str | Path) -> Recording:
        """Open a recording folder; raises :class:`DatasetError` if it is none, is damaged, or is of an unknown schema."""
        folder = Path(folder)
        if folder.name == FILE_NAME:
            folder = folder.parent
        if not (folder / FILE_NAME).is_file():
            what = "is not a folder" if not folder.is_dir() else f"holds no {FILE_NAME}"
            raise DatasetError(
                f"{folder} is not a recording: it {what}" if folder.exists() else f"{folder} does not exist",
                hint="name a recording folder; `rakelight recording import` makes one from plain images",
                code="recording.not_found",
            )
        data = files.read_json(folder / FILE_NAME, error=DatasetError, max_bytes=_MAX_JSON_BYTES)
        info = config.validate(
            data,
            RecordingFile,
            source=str(folder / FILE_NAME),
            error=DatasetError,
            schema=SCHEMA,
            hint="restore the file from a backup, or import the images again; docs/recordings.md describes it",
        )
        return cls(folder, info)

    @property
    def full_scale(self) -> float | None:
        """Largest raw value of the pixel format (4095 for 12 bits), None for float frames."""
        return full_scale_of(self.info.pixel_format)

    @property
    def bayer(self) -> str | None:
        """Colour of the first two photosites (``RG``, ``GR``, ``GB``, ``BG``), None for grey and RGB frames."""
        return self.info.pixel_format[5:7] if self.info.pixel_format.startswith("Bayer") else None

    @property
    def zones(self) -> tuple[int, ...]:
        """Zone numbers that have frames, ascending."""
        have = {f.shot for f in self.info.frames}
        return tuple(sorted({s.zone for s in self.info.plan if s.zone is not None and s.name in have}))

    def shots(self, role: Role, zone: int | None = None) -> Iterator[Frame]:
        """The frames of a role (and zone), in the order in which they were taken."""
        wanted = {s.name for s in self.info.plan if s.role == role and (zone is None or s.zone == zone)}
        return (f for f in self.info.frames if f.shot in wanted)

    def read(self, frame: Frame) -> NDArray[Any]:
        """Pixels of one frame, (H, W) or (H, W, 3), after its size and SHA-256 were checked.

        The file is read once. Raises :class:`DatasetError` naming the file when it is missing, changed, damaged or of
        another shape or dtype than the recording says.
        """
        path = self.folder / frame.file
        try:
            data = images.read_file(path)
        except DatasetError as e:
            hint = "restore it from a backup; `rakelight recording verify` lists every damaged frame"
            raise DatasetError(e.message, hint=hint, code=e.code) from e
        if len(data) != frame.bytes or files.sha256_bytes(data) != frame.sha256:
            raise DatasetError(
                f"{path} is not the file that was recorded ({len(data)} bytes, recorded {frame.bytes}; "
                + ("the checksum differs)" if len(data) == frame.bytes else "truncated or replaced)"),
                hint="restore it from a backup; `rakelight recording verify` lists every damaged frame",
                code="recording.frame_changed",
            )
        image = images.read_image(path, data=data)
        shape, dtype = self.frame_shape, self.frame_dtype
        if image.shape != shape or image.dtype != dtype:
            raise DatasetError(
                f"{path} is {image.shape} {image.dtype}; the recording says {shape} {dtype}",
                hint="import the images again",
                code="recording.frame_mismatch",
            )
        return image

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """(H, W), or (H, W, 3) for RGB formats."""
        rgb = self.info.pixel_format.startswith("RGB")
        return (self.info.height, self.info.width, 3) if rgb else (self.info.height, self.info.width)

    @property
    def frame_dtype(self) -> np.dtype[Any]:
        """uint8, uint16 (for 10 to 16 bits) or float32."""
        return np.dtype(dtype_of(self.info.pixel_format))


def dtype_of(pixel_format: str) -> str:
    """The dtype that holds a pixel format: uint8, uint16 or float32."""
    return {8: "uint8", 0: "float32"}.get(_BITS_OF[pixel_format], "uint16")


def full_scale_of(pixel_format: str) -> float | None:
    """The largest value of a pixel format (4095 for 12 bits), None for float formats."""
    bits = _BITS_OF[pixel_format]
    return float(2**bits - 1) if bits else None


def check_values(name: str, image: NDArray[Any], pixel_format: str) -> None:
    """Refuse pixels that ``pixel_format`` cannot hold: above its full scale, or NaN and infinity in float formats.

    Raises
    ------
    DatasetError
        ``recording.value_range``, with the pixel format that would fit in its hint.
    """
    top, full_scale = image.max(), full_scale_of(pixel_format)
    if full_scale is None:
        if not (np.isfinite(top) and np.isfinite(image.min())):
            raise DatasetError(
                f"{name} holds NaN or infinite values; {pixel_format} frames must be finite",
                hint="mend what wrote the image; overexposed pixels keep their largest value",
                code="recording.value_range",
            )
    elif top > full_scale:
        kind = pixel_format.rstrip("0123456789")
        fits = next(f"{kind}{bits}" for bits in (10, 12, 14, 16) if top < 2**bits)
        raise DatasetError(
            f"{name} holds the value {top}; {pixel_format} allows 0 to {full_scale:.0f}",
            hint=f'say pixel_format = "{fits}" if the values are right (bits shifted to the top of 16 need {kind}16)',
            code="recording.value_range",
        )


def verify(recording: Recording) -> Iterator[tuple[Frame | None, str]]:
    """Check a recording against its own record; yields (frame, problem), with frame None for the whole.

    Every frame is read: file present, size, SHA-256, decodable, shape, dtype. Then the whole: each planned shot
    has a frame, each frame a shot, no file twice, no stray files, and the record itself unchanged since it was written.
    """
    record = files.read_json(recording.folder / FILE_NAME, error=DatasetError)
    if record.get("content_sha256") != content_sha256(record):
        yield None, f"{FILE_NAME} was changed after the recording was written (its checksum differs)"
    for frame in recording.info.frames:
        try:
            recording.read(frame)
        except DatasetError as error:
            yield frame, error.message
    planned = {s.name for s in recording.info.plan}
    taken = {f.shot for f in recording.info.frames}
    for shot in recording.info.plan:
        if shot.name not in taken:
            yield None, f"shot {shot.name!r} of the plan has no frame"
    for frame in recording.info.frames:
        if frame.shot not in planned:
            yield frame, f"frame {frame.file} belongs to shot {frame.shot!r}, which is not in the plan"
    names = Counter(f.file for f in recording.info.frames)
    for name, count in sorted(names.items()):
        if count > 1:
            yield None, f"file {name} is used by {count} frames"
    known = {*names, FILE_NAME}
    for path in sorted(recording.folder.iterdir()):
        if path.is_file() and path.name not in known and not path.name.startswith("."):
            yield None, f"{path.name} is not part of the recording"
