"""What a data set stores by choice: stated once in ``meta/dataset.json``, the same for every sample of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from rakelight.config import Model
from rakelight.dataset.recording import FILE_NAME, Recording
from rakelight.errors import InputError

KeepRaw = Literal["none", "stack", "all"]
"""Which raw frames travel into a sample: none of them, those under the lights, or also those of the patterns."""

XyzXy = Literal["true", "placeholder", "pixel_index"]
"""What the first two channels of the XYZ map hold; see :class:`DatasetOptions`."""

KEEP_RAW: tuple[KeepRaw, ...] = get_args(KeepRaw)
XYZ_XY: tuple[XyzXy, ...] = get_args(XyzXy)
ZERO_TIMESTAMP = "0" * 14  # as in the released file names


class DatasetOptions(Model):
    """Choices of a data set; they belong to the data set, since a choice that differs between samples leaks labels.

    Attributes
    ----------
    zero_timestamps : bool
        File names hold 14 zeros, as the released ones do, instead of the time of the capture, and so does the manifest;
        the time stays in ``capture.json``, which is not part of the released tree.
    xyz_xy : "true", "placeholder" or "pixel_index"
        X and Y of the XYZ map: coordinates in mm; the constant spacing of pixels in mm, as the released files have it; or
        column and row, as the D3M code reads them. Z is true always, invalid pixels are NaN in all three, and the point
        clouds keep true coordinates.
    keep_raw : "none", "stack", "all", optional
        Goes before the ``keep_raw`` of recipes; None leaves it to them.
    """

    zero_timestamps: bool = False
    xyz_xy: XyzXy = "true"
    keep_raw: KeepRaw | None = None


def raw_files(recording: Recording, keep: KeepRaw) -> tuple[dict[str, Path], dict[str, str]]:
    """The files of a recording that travel into a sample, and their SHA-256: ``raw_files`` and ``raw_sha256`` of its content.

    ``recording.json`` always travels: it is small and tells what was commanded and measured, with the hash of every frame.
    ``"stack"`` takes all frames but those of the patterns. Raises :class:`InputError` (``dataset.keep_raw``) for another
    policy.
    """
    if keep not in KEEP_RAW:
        raise InputError(f"keep_raw is {keep!r}; allowed: {', '.join(KEEP_RAW)}", code="dataset.keep_raw")
    patterns = {shot.name for shot in recording.info.plan if shot.role == "pattern"}
    frames = [f for f in recording.info.frames if keep == "all" or (keep == "stack" and f.shot not in patterns)]
    found = {f.file: recording.folder / f.file for f in frames}
    return found | {FILE_NAME: recording.folder / FILE_NAME}, {f.file: f.sha256 for f in frames}
