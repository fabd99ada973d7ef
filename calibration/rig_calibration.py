"""One calibration of a rig: camera, table plane, lights, flat field, dark and projectors, as a hashed folder.

A folder holds ``rig_calibration.json`` and, if there are maps, ``arrays.npz`` (plain arrays, no pickle). It is written
whole and never edited: the JSON must be byte for byte what :meth:`RigCalibration.save` writes, ``content_sha256``
covers everything in it and every map (dtype, shape, SHA-256 of its bytes), and ``arrays_sha256`` covers ``arrays.npz``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight import files, folders
from rakelight.calibration._rig_document import ARRAYS, DOCUMENT, Document, array_entry, broken, read_arrays
from rakelight.calibration._rig_plain import entry, invalid, plain
from rakelight.calibration.colour import Colour
from rakelight.calibration.flat_field import Dark, FlatField
from rakelight.calibration.frame_format import FrameFormat
from rakelight.config import validate
from rakelight.errors import CalibrationError
from rakelight.reconstruction.models import (
    AffineCamera,
    Camera,
    Light,
    PinholeCamera,
    Plane,
    Projector,
    light_geometry,
)

SCHEMA = 1
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HASHES = ("content_sha256", "arrays_sha256")


def utc_now() -> str:
    """The present time as ``created_utc`` takes it, for example ``2025-03-01T08:15:30+00:00``."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, eq=False)
class RigCalibration:
    """Everything that reconstruction must know of a rig; checked when made, compared by ``content_sha256``.

    Parameters
    ----------
    calibration_id : str
        Letters, digits, ``. _ -``; at most 100; the name of its folder.
    created_utc : str
        ISO 8601 with offset zero; see :func:`utc_now`.
    simulated : bool
        Whether it describes a simulated rig.
    camera : PinholeCamera or AffineCamera, optional
    table_plane : Plane, optional
        The table without a part, camera frame.
    lights : tuple of Light
        Sorted by zone here; each zone once.
    flat_field : FlatField, optional
        Its zones must have a light.
    dark : Dark, optional
    map_format : FrameFormat, optional
        Of the frames from which flat field and dark were made, and to which alone they apply.
    colour : Colour, optional
        White balance and tone of the 8-bit pictures.
    projectors : tuple of Projector
        Sorted by direction here; each direction once.
    provenance : dict
        Plain JSON data: recordings and their hashes, software version, settings.
    quality : dict
        Plain JSON data: the figures reached; absent figures are None, never NaN.
    warnings : tuple of str

    Raises
    ------
    CalibrationError
        ``calibration.rig_invalid``; ``calibration.size_mismatch`` when camera, flat field and dark differ in size.
    """

    calibration_id: str
    created_utc: str
    simulated: bool
    camera: Camera | None = None
    table_plane: Plane | None = None
    lights: tuple[Light, ...] = ()
    flat_field: FlatField | None = None
    dark: Dark | None = None
    map_format: FrameFormat | None = None
    colour: Colour | None = None
    projectors: tuple[Projector, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.calibration_id, str) or not _ID.fullmatch(self.calibration_id):
            raise invalid(
                "calibration_id", self.calibration_id, "1-100 letters, digits, '.', '_', '-', no leading sign"
            )
        _time(self.created_utc)
        if not isinstance(self.simulated, bool):
            raise invalid("simulated", self.simulated, "true or false")
        for name, kinds in _KINDS.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, kinds):
                raise invalid(name, type(value).__name__, " or ".join(k.__name__ for k in kinds) + ", or none")
        self._settle_group("lights", Light, "zone")
        self._settle_group("projectors", Projector, "direction")
        missing = set(self.flat_field.zones if self.flat_field else ()) - {light.zone for light in self.lights}
        if missing:
            raise invalid("flat field", f"zones {sorted(missing)} without a light", "zones that have a light")
        for name in ("provenance", "quality"):
            if not isinstance(getattr(self, name), dict):
                raise invalid(name, type(getattr(self, name)).__name__, "a dictionary of plain data")
            object.__setattr__(self, name, plain(getattr(self, name), name))
        object.__setattr__(self, "warnings", tuple(self.warnings))
        if not all(isinstance(w, str) for w in self.warnings):
            raise invalid("warnings", self.warnings, "sentences")
        sizes = self._sizes()
        if len(set(sizes.values())) > 1:
            raise _size_error("parts of the calibration differ in size: " + _sizes_text(sizes))

    def _settle_group(self, name: str, kind: type, key: str) -> None:
        members = tuple(getattr(self, name))
        if not all(isinstance(m, kind) for m in members):
            raise invalid(name, [type(m).__name__ for m in members], f"{kind.__name__} objects")
        numbers = sorted(getattr(m, key) for m in members)
        if len(set(numbers)) < len(numbers):
            raise invalid(name, f"{key}s {numbers}", f"each {key} once")
        object.__setattr__(self, name, tuple(sorted(members, key=lambda m: int(getattr(m, key)))))

    @property
    def content_sha256(self) -> str:
        """Hex SHA-256 of the canonical JSON of everything, maps by dtype, shape and SHA-256 of their bytes."""
        return files.sha256_bytes(files.canonical_json(self._content()).encode())

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the calibration as ``folder``, whole or not at all; returns ``folder``.

        Raises :class:`StorageError` if it exists and ``overwrite`` is false, or cannot be written.
        """
        document = self._content()
        document["content_sha256"] = files.sha256_bytes(files.canonical_json(document).encode())
        document["arrays_sha256"] = None
        arrays = self._arrays()
        with folders.staged_folder(folder, overwrite=overwrite, marker=DOCUMENT) as staging:
            if arrays:
                files.write_npz(staging / ARRAYS, arrays)
                document["arrays_sha256"] = files.sha256_file(staging / ARRAYS)
            files.write_text(staging / DOCUMENT, _text(document))
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> RigCalibration:
        """Read and verify a calibration folder.

        ``folder`` may also be the file in it. Raises :class:`CalibrationError`: ``calibration.not_found``,
        ``file.missing``, ``file.corrupt``, ``config.schema_unknown``,
        ``config.invalid``, ``calibration.file_missing``, ``calibration.hash_mismatch`` or what the models refuse.
        """
        folder = Path(folder)
        if folder.name == DOCUMENT:
            folder = folder.parent
        if folder.exists() and not (folder / DOCUMENT).is_file():
            raise CalibrationError(
                f"{folder} is not a calibration: it holds no {DOCUMENT}",
                hint="are the arguments in order? `rakelight calibrate rig` makes a calibration from recordings",
                code="calibration.not_found",
            )
        calibration, problems = _inspect(folder)
        if calibration is None:
            raise problems[0]
        return calibration

    @staticmethod
    def verify(folder: str | Path) -> list[str]:
        """Everything that is wrong with a calibration folder, one sentence each; empty if it is what was saved."""
        return [problem.message for problem in _inspect(Path(folder))[1]]

    def check_frame(self, width: int, height: int) -> None:
        """Refuse frames (px) of another size than this calibration: code ``calibration.size_mismatch``."""
        wrong = {name: size for name, size in self._sizes().items() if size != (width, height)}
        if wrong:
            raise _size_error(
                f"frames of {width}×{height} px do not fit calibration {self.calibration_id}: " + _sizes_text(wrong)
            )

    def summary(self, now: datetime | None = None) -> dict[str, Any]:
        """What ``calibrate show`` prints, as plain data; ``now`` (aware) is for the age."""
        age = (now or datetime.now(UTC)) - _time(self.created_utc)
        warnings = list(self.warnings)
        condition = None
        if self.lights:
            try:
                geometry = light_geometry(self.lights)
                condition = geometry.condition_number
                warnings += [w for w in geometry.warnings if w not in warnings]
            except CalibrationError as error:  # a summary shows a bad rig, it does not refuse it
                warnings.append(error.message)
        return {
            "calibration_id": self.calibration_id,
            "created_utc": self.created_utc,
            "age_days": round(age / timedelta(days=1), 2),
            "simulated": self.simulated,
            "content_sha256": self.content_sha256,
            "camera": _camera_summary(self.camera),
            "table_plane": self.table_plane and entry(self.table_plane),
            "lights": [
                {
                    "zone": light.zone,
                    "slant_deg": round(light.slant_deg, 2),
                    "azimuth_deg": round(light.azimuth_deg, 2),
                    "strength": light.strength,
                    "position_mm": plain(light.position_mm, "position_mm"),
                }
                for light in self.lights
            ],
            "condition_number": condition,
            "flat_field": self.flat_field
            and {
                "zones": list(self.flat_field.zones),
                "light_model": self.flat_field.light_model,
                "reference_exposure_us": self.flat_field.reference_exposure_us,
            },
            "dark": self.dark and {"exposure_us": self.dark.exposure_us},
            "map_format": self.map_format and entry(self.map_format),
            "colour": self.colour and entry(self.colour),
            "projectors": [_projector_summary(p, self.camera, self.table_plane) for p in self.projectors],
            "quality": self.quality,
            "warnings": warnings,
        }

    def _sizes(self) -> dict[str, tuple[int, int]]:
        sizes = {}
        if self.camera is not None:
            sizes["camera"] = (self.camera.width, self.camera.height)
        if self.flat_field is not None:
            sizes["flat field"] = self.flat_field.shape[::-1]
        if self.dark is not None:
            sizes["dark"] = self.dark.shape[::-1]
        return sizes

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {}
        if self.dark is not None:
            arrays["dark_map"] = self.dark.map
        if self.flat_field is not None:
            arrays["flat_field_gains"] = self.flat_field.gains
        return arrays

    @cached_property
    def _array_entries(self) -> dict[str, dict[str, Any]]:
        return {name: array_entry(array) for name, array in self._arrays().items()}

    def _content(self) -> dict[str, Any]:
        """Everything but the hashes, as it stands in the JSON."""
        maps = self._array_entries
        kind = "pinhole" if isinstance(self.camera, PinholeCamera) else "affine"
        return {
            "schema": SCHEMA,
            "calibration_id": self.calibration_id,
            "created_utc": self.created_utc,
            "simulated": self.simulated,
            "camera": self.camera and {"type": kind, **entry(self.camera)},
            "table_plane": self.table_plane and entry(self.table_plane),
            "lights": [entry(light) for light in self.lights],
            "flat_field": self.flat_field and entry(self.flat_field, gains=maps["flat_field_gains"]),
            "dark": self.dark and entry(self.dark, map=maps["dark_map"]),
            **({"map_format": entry(self.map_format)} if self.map_format else {}),
            **({"colour": entry(self.colour)} if self.colour else {}),
            "projectors": [entry(projector) for projector in self.projectors],
            "provenance": self.provenance,
            "quality": self.quality,
            "warnings": list(self.warnings),
        }


_KINDS: dict[str, tuple[type, ...]] = {
    "camera": (PinholeCamera, AffineCamera),
    "table_plane": (Plane,),
    "flat_field": (FlatField,),
    "dark": (Dark,),
    "map_format": (FrameFormat,),
    "colour": (Colour,),
}


def _inspect(folder: Path) -> tuple[RigCalibration | None, list[CalibrationError]]:
    """The calibration in ``folder`` (None if anything is wrong), and all that is wrong."""
    path = folder / DOCUMENT
    try:
        data = files.read_json(path, error=CalibrationError)
        document = validate(data, Document, source=str(path), error=CalibrationError, schema=SCHEMA)
        written = path.read_bytes()
    except CalibrationError as error:
        return None, [error]
    arrays, problems = read_arrays(folder, document.arrays, document.arrays_sha256)
    try:
        content = {key: value for key, value in data.items() if key not in _HASHES}
        digest = files.sha256_bytes(files.canonical_json(content).encode())
        edited = _text(data).encode() != written
    except (ValueError, RecursionError) as error:  # infinity written as 1e999, half a surrogate pair, endless nesting
        return None, [*problems, broken(f"{path} holds a value that rakelight never writes: {error}", cause=error)]
    if digest != document.content_sha256:
        problems.append(broken(f"{path} was changed: content SHA-256 {digest}, recorded {document.content_sha256}"))
    elif edited:
        problems.append(broken(f"{path} was edited since it was written: its content is the same, its bytes are not"))
    if problems:
        return None, problems
    try:
        return _assemble(document, arrays), []
    except CalibrationError as error:
        return None, [error]


def _assemble(document: Document, arrays: dict[str, NDArray[Any]]) -> RigCalibration:
    camera: Camera | None = None
    if document.camera is not None:
        values = document.camera.model_dump(exclude={"type"})
        camera = PinholeCamera(**values) if document.camera.type == "pinhole" else AffineCamera(**values)
    flat_field = dark = None
    if document.flat_field is not None:
        values = document.flat_field.model_dump(exclude={"gains", "scales"})
        scales = np.array(document.flat_field.scales, np.float32)
        flat_field = FlatField(gains=arrays["flat_field_gains"], scales=scales, **values)
    if document.dark is not None:
        dark = Dark(map=arrays["dark_map"], **document.dark.model_dump(exclude={"map"}))
    return RigCalibration(
        calibration_id=document.calibration_id,
        created_utc=document.created_utc,
        simulated=document.simulated,
        camera=camera,
        table_plane=None if document.table_plane is None else Plane(**document.table_plane.model_dump()),
        lights=tuple(Light(**light.model_dump()) for light in document.lights),
        flat_field=flat_field,
        dark=dark,
        map_format=None if document.map_format is None else FrameFormat(**document.map_format.model_dump()),
        colour=None if document.colour is None else Colour(**document.colour.model_dump()),
        projectors=tuple(Projector(**projector.model_dump()) for projector in document.projectors),
        provenance=document.provenance,
        quality=document.quality,
        warnings=document.warnings,
    )


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _camera_summary(camera: Camera | None) -> dict[str, Any] | None:
    if camera is None:
        return None
    kind = "pinhole" if isinstance(camera, PinholeCamera) else "affine"
    return {"type": kind, "width": camera.width, "height": camera.height}


def _projector_summary(projector: Projector, camera: Camera | None, table: Plane | None) -> dict[str, Any]:
    """Where a projector stands, seen from the table's point in the middle of the image; None where that is not known."""
    distance = angle = None
    if camera is not None and table is not None:
        origin, ray = camera.rays([(camera.width - 1) / 2, (camera.height - 1) / 2])
        towards = projector.centre_mm - table.intersect(origin, ray)
        length = float(np.linalg.norm(towards))
        if np.isfinite(length) and length > 0:
            sine = float(np.linalg.norm(np.cross(towards, ray)))
            distance, angle = round(length, 2), round(float(np.degrees(np.arctan2(sine, -towards @ ray))), 2)
    return {"direction": projector.direction, "distance_mm": distance, "angle_deg": angle}


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        time = None
    if time is None or time.utcoffset() != timedelta(0):
        raise invalid("created_utc", text, "ISO 8601 with offset zero, such as 2025-03-01T08:15:30+00:00")
    return time


def _sizes_text(sizes: dict[str, tuple[int, int]]) -> str:
    return ", ".join(f"{name} {width}×{height} px" for name, (width, height) in sizes.items())


def _size_error(message: str) -> CalibrationError:
    return CalibrationError(
        message,
        hint="use frames and calibration of the same region of interest and binning, or calibrate at this size",
        code="calibration.size_mismatch",
    )
