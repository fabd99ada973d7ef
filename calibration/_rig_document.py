"""What stands in a calibration folder: the schema of the JSON, and the strict reader of the array file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, PositiveInt

from rakelight import files
from rakelight.config import Model
from rakelight.errors import CalibrationError

DOCUMENT = "rig_calibration.json"
ARRAYS = "arrays.npz"

Vector = tuple[float, float, float]
Coefficients = tuple[float, float, float, float, float]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Entry(Model):
    model_config = ConfigDict(allow_inf_nan=False)  # the rest is inherited


class PinholeEntry(_Entry):
    type: Literal["pinhole"]
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: Coefficients


class AffineEntry(_Entry):
    type: Literal["affine"]
    width: int
    height: int
    matrix: tuple[Vector, Vector]
    offset: tuple[float, float]


class PlaneEntry(_Entry):
    normal: Vector
    offset_mm: float


class LightEntry(_Entry):
    zone: int
    direction: Vector
    strength: float
    position_mm: Vector | None
    reference_mm: Vector | None


class ProjectorEntry(_Entry):
    direction: int
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: Coefficients
    rotation: tuple[Vector, Vector, Vector]
    translation_mm: Vector


class ArrayEntry(_Entry):
    """Stands for a map in the JSON; its bytes (C order, little-endian) are in the array file."""

    dtype: Literal["uint16"]
    shape: tuple[PositiveInt, ...]
    sha256: Sha256


class DarkEntry(_Entry):
    map: ArrayEntry
    scale: float
    exposure_us: float | None


class FrameFormatEntry(_Entry):
    pixel_format: str
    offset_x: int
    offset_y: int
    binning: int


class ColourEntry(_Entry):
    gains: Vector
    black: Vector
    tone: Literal["srgb", "linear"]


class FlatFieldEntry(_Entry):
    zones: tuple[int, ...]
    gains: ArrayEntry
    scales: tuple[float, ...]
    light_model: Literal["distant", "near"]
    reference_exposure_us: float | None


class Document(_Entry):
    """``rig_calibration.json``."""

    schema_: Literal[1] = Field(alias="schema")
    calibration_id: str
    created_utc: str
    simulated: bool
    camera: Annotated[PinholeEntry | AffineEntry, Field(discriminator="type")] | None
    table_plane: PlaneEntry | None
    lights: tuple[LightEntry, ...]
    flat_field: FlatFieldEntry | None
    dark: DarkEntry | None
    map_format: FrameFormatEntry | None = None  # absent from calibrations without it
    colour: ColourEntry | None = None  # likewise
    projectors: tuple[ProjectorEntry, ...]
    provenance: dict[str, Any]
    quality: dict[str, Any]
    warnings: tuple[str, ...]
    content_sha256: Sha256
    arrays_sha256: Sha256 | None

    @property
    def arrays(self) -> dict[str, ArrayEntry]:
        """The maps that the array file must hold, by name."""
        found = {}
        if self.dark is not None:
            found["dark_map"] = self.dark.map
        if self.flat_field is not None:
            found["flat_field_gains"] = self.flat_field.gains
        return found


def array_entry(array: NDArray[Any]) -> dict[str, Any]:
    """A map as it stands in the JSON."""
    contiguous = np.ascontiguousarray(array)
    digest = files.sha256_bytes(contiguous.data.cast("B"))
    return {"dtype": array.dtype.name, "shape": list(array.shape), "sha256": digest}


def read_arrays(
    folder: Path, expected: Mapping[str, ArrayEntry], file_sha256: str | None
) -> tuple[dict[str, NDArray[Any]], list[CalibrationError]]:
    """Read and check the array file: the maps (read-only) and everything that is wrong with it."""
    path = folder / ARRAYS
    arrays: dict[str, NDArray[Any]] = {}
    if not expected:
        stray = [broken(f"{path} exists, but {DOCUMENT} names no arrays")] if path.exists() else []
        return arrays, stray
    if not path.is_file():
        return arrays, [broken(f"{path} is missing; it must hold {', '.join(expected)}", "calibration.file_missing")]
    problems = []
    try:
        if (found := files.sha256_file(path)) != file_sha256:
            problems.append(broken(f"{path} was changed: SHA-256 {found}, recorded {file_sha256}"))
        with zipfile.ZipFile(path) as archive:
            names = sorted(archive.namelist())
            wanted = sorted(f"{name}.npy" for name in expected)
            if names != wanted:
                problems.append(broken(f"{path} holds {names}; allowed: {wanted}"))
            for name, entry in expected.items():
                if f"{name}.npy" in names:
                    try:
                        arrays[name] = _read_member(archive, name, entry)
                    except CalibrationError as error:
                        problems.append(error)
    except Exception as error:  # whatever a damaged or hostile file provokes, the user learns which file it is
        problems.append(broken(f"{path} cannot be read: {type(error).__name__}: {error}", cause=error))
    return arrays, problems


def _read_member(archive: zipfile.ZipFile, name: str, entry: ArrayEntry) -> NDArray[Any]:
    """One array; its header is checked before its bytes are read, and nothing is unpickled or inflated."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED:
        raise broken(f"array {name} is compressed; allowed: stored")
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise broken(f"array {name} has .npy version {version}; allowed: (1, 0)")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        if dtype != np.dtype(entry.dtype) or shape != entry.shape or fortran:
            raise broken(f"array {name} is {dtype} of shape {shape}; recorded: {entry.dtype} of {entry.shape}, C order")
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        data = stream.read(size + 1)
    if len(data) != size:
        raise broken(f"array {name} has {len(data)} bytes or more; its shape {shape} needs {size}")
    digest = files.sha256_bytes(data)
    if digest != entry.sha256:
        raise broken(f"array {name} was changed: SHA-256 {digest}, recorded {entry.sha256}")
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def broken(message: str, code: str = "calibration.hash_mismatch", cause: Exception | None = None) -> CalibrationError:
    """The error for a calibration folder that is not what was saved."""
    error = CalibrationError(
        message,
        hint="restore the calibration folder from a backup, or calibrate again; never edit it in place",
        code=code,
    )
    error.__cause__ = cause
    return error
