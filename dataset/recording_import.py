"""Turning a folder of images made elsewhere into a recording, by a small TOML that says which file is what.

::

    schema = 1
    part_id = "cat"
    target = "part"                  # or chrome_sphere, white_plane, dark …
    pixel_format = "Mono8"           # what the files hold; colour files: RGB8; mosaics: BayerRG12 …
    linear = true                    # values proportional to light (false for pictures out of a consumer camera)

    [sensor]                         # where the files lie on the sensor (optional)
    offset_x = 720
    binning = 2

    [crop]                           # cut this window out of every file (optional)
    x = 0
    y = 0
    width = 400
    height = 400

    [stack]                          # shorthand: one file per zone
    files = "Image_{zone:02d}.png"
    zones = [1, 2, 3, 4]

    [[frames]]                       # or frame by frame
    file = "dark.png"
    role = "dark"
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictBool, model_validator

from rakelight import config, files
from rakelight.dataset import images
from rakelight.dataset.recording import (
    PIXEL_FORMATS,
    Circle,
    Description,
    Frame,
    Origin,
    Recording,
    Role,
    Sensor,
    Shot,
    Target,
    dtype_of,
)
from rakelight.dataset.recording_writer import write_recording
from rakelight.errors import ConfigError, DatasetError

_HINT = "mend the keys named; docs/recordings.md lists them all"
_PLACEHOLDER = re.compile(r"\{zone(?::0([1-9])d)?\}")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601, as the grey conversions of image software use


class Crop(config.Model):
    """Window of the file in pixels."""

    x: int = Field(ge=0)
    y: int = Field(ge=0)
    width: int = Field(ge=1)
    height: int = Field(ge=1)


class Stack(config.Model):
    """Shorthand for one file per zone; ``files`` holds ``{zone}`` or ``{zone:02d}``."""

    files: str = Field(min_length=1, max_length=400)
    zones: tuple[Annotated[int, Field(ge=1, le=255)], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names(self) -> Stack:
        zone, count = Counter(self.zones).most_common(1)[0]
        if count > 1:
            raise ValueError(f"zone {zone} stands {count} times in zones")
        if set("{}") & set(_PLACEHOLDER.sub("", self.files)):
            raise ValueError(f"files = {self.files!r} may hold {{zone}} or {{zone:02d}} and nothing else in braces")
        if len(self.zones) > 1 and not _PLACEHOLDER.search(self.files):
            raise ValueError(f"files = {self.files!r} names one file for all zones; put {{zone}} into it")
        return self

    def file(self, zone: int) -> str:
        """The file of a zone."""
        return _PLACEHOLDER.sub(lambda found: str(zone).zfill(int(found[1] or 0)), self.files)


class ImportedFrame(config.Model):
    """One file and what it shows."""

    file: str = Field(min_length=1, max_length=400)
    role: Role = "zone"
    zone: int | None = Field(default=None, ge=1, le=255)
    projector: int | None = Field(default=None, ge=1, le=16)
    pattern: config.PlainData | None = None
    exposure_us: float | None = Field(default=None, gt=0)
    gain_db: float | None = None


class ImportFile(config.Model):
    """The description of images made elsewhere."""

    schema_: int = Field(alias="schema", default=1)
    part_id: str = Field(min_length=1, max_length=120)
    target: Target = "part"
    pixel_format: str
    linear: StrictBool
    simulated: StrictBool = False
    captured_utc: config.UtcTime | None = None
    sensor: Sensor = Sensor()
    crop: Crop | None = None
    sphere_diameter_mm: float | None = Field(default=None, gt=0)
    sphere_count: int = Field(default=1, ge=1, le=16)
    circles: tuple[Circle, ...] = ()
    origin: Origin = Origin()
    notes: str = ""
    pattern_set: config.PlainData | None = None
    stack: Stack | None = None
    frames: tuple[ImportedFrame, ...] = ()

    @model_validator(mode="after")
    def _something(self) -> ImportFile:
        if self.pixel_format not in PIXEL_FORMATS:
            raise ValueError(f"pixel_format {self.pixel_format!r} is not known; known: {', '.join(PIXEL_FORMATS)}")
        if self.stack is None and not self.frames:
            raise ValueError("neither [stack] nor [[frames]] says which file is what")
        return self


def import_recording(
    images_folder: str | Path,
    description: str | Path,
    output: str | Path,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Recording:
    """Make a recording out of a folder of images.

    Parameters
    ----------
    images_folder : path
        Where the files named in the description lie.
    description : path
        TOML as in the module's docstring.
    output : path
        The recording folder to write; it appears only when every file was read.
    overwrite : bool
        Replace ``output`` if it exists.
    progress : callable
        Called with (frames done, frames in all).

    Raises
    ------
    ConfigError
        A description that cannot be read or does not fit.
    DatasetError
        A file that is missing, damaged, or of another size or kind than described.
    StorageError
        An output that exists or cannot be written.
    """
    folder = Path(images_folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder", hint="name the folder with the images", code="image.missing")
    what = config.load_toml(description, ImportFile, hint=_HINT)
    listed = _frames(what, Path(description))
    _check_present(folder, [f.file for f in listed])
    shots = _shots(listed)
    plan = tuple({s.name: s for s in shots}.values())  # several frames of one shot are repeats
    sensor = what.sensor
    if what.crop is not None:
        sensor = Sensor(
            offset_x=sensor.offset_x + what.crop.x * sensor.binning,
            offset_y=sensor.offset_y + what.crop.y * sensor.binning,
            binning=sensor.binning,
        )
    shared = {name for name in Description.model_fields if name in ImportFile.model_fields} - {"sensor"}
    values = {n: getattr(what, n) for n in shared} | {"pixel_format": _cropped_format(what)}
    result = config.validate(
        {**values, "plan": plan, "sensor": sensor},
        Description,
        source=str(description),
        hint=_HINT,
    )
    with write_recording(output, result, overwrite=overwrite) as writer:
        for index, (frame, shot) in enumerate(zip(listed, shots, strict=True)):
            image = _fit(images.read_image(folder / frame.file), what, frame.file)
            writer.add(
                shot.name, image, exposure_us=frame.exposure_us, gain_db=frame.gain_db, original=Path(frame.file).name
            )
            progress(index + 1, len(listed))
        _check_distinct([f for f, s in zip(writer.frames, shots, strict=True) if s.role == "zone"])
        jpegs = sum(Path(f.file).suffix.lower() in (".jpg", ".jpeg") for f in listed)
        if what.linear and jpegs:
            writer.warnings.append(
                f"{jpegs} of {len(listed)} frames are JPEG but declared linear; JPEGs are almost always gamma-encoded, "
                "which bends normals and strengths. Say linear = false, or export linear TIFF or PNG"
            )
    return Recording.open(output)


def _frames(what: ImportFile, source: Path) -> list[ImportedFrame]:
    """Every file of the description, those of ``[stack]`` first."""
    stack = what.stack
    listed = [] if stack is None else [ImportedFrame(file=stack.file(z), zone=z) for z in stack.zones]
    for number, frame in enumerate(what.frames, 1):
        if (
            (frame.role == "zone") != (frame.zone is not None)
            or (frame.role == "pattern") != (frame.pattern is not None)
            or (frame.projector is not None and frame.role != "pattern")
        ):
            raise ConfigError(
                f"{source}: frames[{number}] ({frame.file}) of role {frame.role!r}: 'zone' frames need a zone number, "
                "'pattern' frames a pattern (and may have a projector), and no others may have one",
                hint='write for example file = "a.png", role = "zone", zone = 1',
                code="config.invalid",
            )
    listed += what.frames
    for name, count in Counter(f.file for f in listed).items():
        if count > 1:
            raise ConfigError(
                f"{source}: {name} is named {count} times", hint="name each file once", code="config.invalid"
            )
        if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
            raise ConfigError(
                f"{source}: {name!r} leads out of the images folder",
                hint="use names relative to it",
                code="config.invalid",
            )
    return listed


def _check_present(folder: Path, names: list[str]) -> None:
    """All files, before the first is read; near names in the hint, since most absences are slips of the pen."""
    missing = [name for name in names if not (folder / name).exists()]
    if not missing:
        return
    near = {name: found for name in missing[:5] if (found := _near(folder, name, names))}
    hint = "; ".join(f"{name}: did you mean {found}?" for name, found in near.items())
    if not hint and any("\\" in name for name in missing):
        hint = "write / between folder and file"
    raise DatasetError(
        f"{len(missing)} of {len(names)} files are missing in {folder}: {', '.join(missing[:5])}"
        + (" …" if len(missing) > 5 else ""),
        hint=hint or "correct the names in the description, or name the folder with the images",
        code="image.missing",
    )


def _near(folder: Path, name: str, named: Iterable[str]) -> str:
    """The file most like ``name`` in the folder where it should be, of those not ``named`` yet; '' if none is."""
    parent = (folder / name).parent
    spoken_for = {folder / n for n in named}
    free = [p for p in parent.iterdir() if p.is_file() and p not in spoken_for] if parent.is_dir() else []
    there = {p.name: p.name.lower() for p in sorted(free)}
    wanted = Path(name).name.lower()
    best = difflib.get_close_matches(wanted, there.values(), n=1, cutoff=0.7)
    return next((str(Path(name).with_name(n)) for n, lower in there.items() if [lower] == best), "")


def _shots(listed: Iterable[ImportedFrame]) -> list[Shot]:
    """The shot of each frame; frames that show the same are one shot, patterns that differ never are."""
    names: dict[str, str] = {}  # of what is shown
    shots: list[Shot] = []
    for frame in listed:
        shown = files.canonical_json([frame.role, frame.zone, frame.projector, frame.pattern])
        name = names.setdefault(shown, _shot_name(frame, names.values()))
        shots.append(
            Shot(name=name, role=frame.role, zone=frame.zone, projector=frame.projector, pattern=frame.pattern)
        )
    return shots


def _shot_name(frame: ImportedFrame, taken: Iterable[str]) -> str:
    if frame.role != "pattern":
        return f"zone{frame.zone}" if frame.role == "zone" else frame.role
    name = "pattern_" + re.sub(r"[^A-Za-z0-9_.-]", "_", Path(frame.file).stem)[:60]
    number = next(n for n in range(1, 1_000_000) if (f"{name}_{n}" if n > 1 else name) not in taken)
    return f"{name}_{number}" if number > 1 else name


def _cropped_format(what: ImportFile) -> str:
    """The pixel format after the crop: a Bayer mosaic cut at an odd column or row begins with another colour."""
    kind, pattern, bits = what.pixel_format[:5], what.pixel_format[5:7], what.pixel_format[7:]
    if kind != "Bayer" or what.crop is None:
        return what.pixel_format
    if what.crop.x % 2:
        pattern = {"RG": "GR", "GR": "RG", "GB": "BG", "BG": "GB"}[pattern]
    if what.crop.y % 2:
        pattern = {"RG": "GB", "GB": "RG", "GR": "BG", "BG": "GR"}[pattern]
    return kind + pattern + bits


def _check_distinct(frames: Sequence[Frame]) -> None:
    """Two zones never give the very same picture: a file was copied or named twice."""
    seen: dict[str, Frame] = {}
    for frame in frames:
        twin = seen.setdefault(frame.sha256, frame)
        if twin.shot != frame.shot:
            raise DatasetError(
                f"{frame.original} ({frame.shot}) and {twin.original} ({twin.shot}) hold the very same pixels",
                hint="give each shot the picture that was taken for it",
                code="recording.same_picture",
            )


def _fit(image: NDArray[Any], what: ImportFile, name: str) -> NDArray[Any]:
    """Check one file against the pixel format, make colour grey where grey is asked for, and crop."""
    wanted = dtype_of(what.pixel_format)
    if image.dtype.name != wanted:
        raise DatasetError(
            f"{name} is {image.dtype}; pixel_format {what.pixel_format!r} means {wanted}",
            hint="correct pixel_format, or export the image with that depth",
            code="recording.wrong_dtype",
        )
    colour, rgb = image.ndim == 3, what.pixel_format.startswith("RGB")
    if colour and what.pixel_format.startswith("Mono"):
        image = np.rint(image @ _LUMA).astype(wanted) if wanted != "float32" else image @ _LUMA
    elif colour != rgb:
        raise DatasetError(
            f"{name} is a {'colour' if colour else 'grey'} image; pixel_format {what.pixel_format!r} does not fit",
            hint="RGB8 or RGB16 for colour files, Mono… for grey ones, Bayer… for mosaics stored as grey",
            code="recording.wrong_channels",
        )
    if what.crop is not None:
        c = what.crop
        if c.x + c.width > image.shape[1] or c.y + c.height > image.shape[0]:
            raise DatasetError(
                f"{name} is {image.shape[1]}×{image.shape[0]} px; the crop reaches to {c.x + c.width}×{c.y + c.height}",
                hint="keep the crop inside the image",
                code="recording.crop_outside",
            )
        image = image[c.y : c.y + c.height, c.x : c.x + c.width]
    return image
