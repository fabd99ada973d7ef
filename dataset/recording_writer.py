"""Writing a recording: frames as they come, the folder in place only when it is complete."""

from __future__ import annotations

import contextlib
import datetime
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

import rakelight
from rakelight import config, files, folders
from rakelight.arrays import check_array
from rakelight.dataset import images
from rakelight.dataset.recording import (
    FILE_NAME,
    SCHEMA,
    Description,
    Frame,
    RecordingFile,
    check_values,
    content_sha256,
    dtype_of,
)
from rakelight.errors import DatasetError, InputError


class RecordingWriter:
    """Takes frames one by one; made by :func:`write_recording`.

    ``warnings`` and ``temperature_c`` (readings of each device, °C, in order) may be added to until the end.
    """

    def __init__(self, folder: Path, description: Description) -> None:
        self._folder = folder
        self._description = description
        self._frames: dict[int, Frame] = {}
        self._lock = threading.Lock()
        self._size: tuple[int, int] | None = None
        self.warnings: list[str] = []
        self.temperature_c: dict[str, list[float]] = {}

    @property
    def frames(self) -> list[Frame]:
        """The stored frames in their order."""
        return [frame for _, frame in sorted(self._frames.items())]

    def add(self, shot: str, image: NDArray[Any], *, place: int | None = None, **measured: Any) -> Frame:
        """Store one frame of a planned shot. Several threads may do so at once if each says the ``place``.

        Parameters
        ----------
        shot : str
            Name of the shot in the plan.
        image : (H, W) or (H, W, 3) array
            Of the dtype and shape that the pixel format implies; all frames are of one size.
        place : int, optional
            Of the frame in the recording, from 1; the next one by default.
        measured
            ``exposure_us``, ``requested_exposure_us``, ``gain_db``, ``timestamp_ns``, ``frame_id``, ``counters``,
            ``acknowledged``, ``original``.

        Raises
        ------
        DatasetError
            A shot that is not planned, another size than the first frame's, values that the pixel format cannot hold.
        InputError
            A wrong dtype or number of axes, no pixels.
        StorageError
            The frame cannot be written.
        """
        if shot not in {s.name for s in self._description.plan}:
            names = ", ".join(s.name for s in self._description.plan[:8])
            raise DatasetError(
                f"shot {shot!r} is not in the plan ({names} …)",
                hint="add it to the plan before the recording is begun",
                code="recording.shot_unplanned",
            )
        rgb = self._description.pixel_format.startswith("RGB")
        dtype = dtype_of(self._description.pixel_format)
        name = measured.get("original") or shot
        image = check_array(
            f"frame {name} ({self._description.pixel_format})",
            image,
            shape=(None, None, 3) if rgb else (None, None),
            dtypes=(dtype,),
        )
        if image.size == 0:
            raise InputError(f"frame {name} has shape {image.shape}, no pixels", code="input.shape")
        size = (image.shape[0], image.shape[1])
        with self._lock:
            self._size = self._size or size
        if size != self._size:
            raise DatasetError(
                f"frame {name} is {size[1]}×{size[0]} px, the first frame is {self._size[1]}×{self._size[0]}; "
                "all frames of a recording are of one size",
                hint="crop or export them to one size, or make two recordings",
                code="recording.size_mismatch",
            )
        check_values(f"frame {name}", image, self._description.pixel_format)
        number = len(self._frames) + 1 if place is None else place
        path = self._folder / f"{number:03d}_{shot}.tiff"
        stored, sha256 = images.write_tiff(path, image)
        facts = {"shot": shot, "file": path.name, "bytes": stored, "sha256": sha256, **measured}
        frame = config.validate(facts, Frame, source=f"frame {name}", error=DatasetError)
        with self._lock:
            self._frames[number] = frame
        return frame

    def side_folder(self, name: str) -> Path:
        """A folder beside the frames that appears together with the recording, for what is known besides them.

        Nothing in it is part of the recording: not listed, not checked by its checksums.
        """
        return files.make_folder(self._folder / name)

    def _finish(self) -> None:
        if self._size is None:
            raise DatasetError(
                "a recording without frames is not written", hint="add the planned frames", code="recording.empty"
            )
        taken = {f.shot for f in self.frames}
        missing = [s.name for s in self._description.plan if s.name not in taken]
        if missing:
            raise DatasetError(
                f"{len(missing)} planned shot(s) have no frame: {', '.join(missing[:5])}",
                hint="capture them or take them out of the plan",
                code="recording.incomplete",
            )
        data = self._description.model_dump(mode="json") | {
            "schema": SCHEMA,
            "kind": "recording",
            "recording_id": str(uuid.uuid4()),
            "created_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "software": f"rakelight {rakelight.__version__}",
            "height": self._size[0],
            "width": self._size[1],
            "frames": [f.model_dump(mode="json") for f in self.frames],
            "temperature_c": self.temperature_c,
            "warnings": self.warnings,
        }
        data["content_sha256"] = content_sha256(data)
        config.validate(data, RecordingFile, source=FILE_NAME, error=DatasetError)
        files.write_json(self._folder / FILE_NAME, data)


@contextlib.contextmanager
def write_recording(
    folder: str | Path, description: Description, *, overwrite: bool = False
) -> Iterator[RecordingWriter]:
    """Open a new recording for writing; it appears as ``folder`` only when the block ends without an error.

    Raises :class:`StorageError` when ``folder`` exists (unless ``overwrite``, which replaces recordings and empty folders
    only) or cannot be written, and :class:`DatasetError` when planned shots have no frame.

    Examples
    --------
    >>> with write_recording("part-7", description) as writer:  # doctest: +SKIP
    ...     writer.add("zone1", frame, exposure_us=2000.0)
    """
    with folders.staged_folder(folder, overwrite=overwrite, marker=FILE_NAME) as staging:
        writer = RecordingWriter(staging, description)
        yield writer
        writer._finish()
