"""How far a reconstruction is from what is known: for simulated recordings, which carry their truth beside the frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight import files
from rakelight.dataset import images
from rakelight.dataset.recording import Recording
from rakelight.errors import DatasetError
from rakelight.pipeline.surface import Surface

FOLDER = "truth"
FILE_NAME = "truth.json"
_MAX_JSON_BYTES = 8 << 20
_SMOOTH_REACH_PX = 3  # smooth: the true normal changes little over that many pixels in each direction
_SMOOTH_DEG = 10.0
_OUTLIER_UM = 50.0
_COUNT = np.array([bin(k).count("1") for k in range(256)], np.uint8)


@dataclass(frozen=True)
class Truth:
    """What is known of a simulated recording.

    Attributes
    ----------
    facts : dict
        ``truth.json``.
    normals : (H, W, 3) float32
        Viewer frame.
    xyz : (H, W, 3) float32
        mm, camera frame.
    mask, defect : (H, W) bool
        The part, and the part of it that is defective.
    lit : (H, W) uint8
        How many light zones reach the surface.
    """

    facts: dict[str, Any]
    normals: NDArray[np.float32]
    xyz: NDArray[np.float32]
    mask: NDArray[np.bool_]
    defect: NDArray[np.bool_]
    lit: NDArray[np.uint8]


def load_truth(recording: Recording) -> Truth | None:
    """The truth beside a simulated recording, None if there is none.

    Raises :class:`DatasetError` (``truth.changed``) when a file of it is missing, changed or of another size than the
    frames, or when it is that of another recording.
    """
    folder = recording.folder / FOLDER
    if not recording.info.simulated or not (folder / FILE_NAME).is_file():
        return None
    facts = _facts(recording)
    shape = (recording.info.height, recording.info.width)
    return Truth(
        facts,
        _read(folder / "normals.tiff", facts, (*shape, 3)),
        _read(folder / "xyz.tiff", facts, (*shape, 3)),
        _read(folder / "mask.png", facts, shape) > 0,
        _read(folder / "defect_mask.png", facts, shape) > 0,
        _COUNT[_read(folder / "zones_lit.png", facts, shape)],
    )


def verify_truth(recording: Recording) -> list[str]:
    """What is wrong with the truth beside a recording, a sentence each; empty if nothing is, or there is none."""
    folder = recording.folder / FOLDER
    if not recording.info.simulated or not folder.is_dir():
        return []
    try:
        facts = _facts(recording)
    except DatasetError as error:
        return [error.message]
    wrong = []
    for name, sha256 in facts["sha256"].items():
        path = folder / name
        if not path.is_file():
            wrong.append(f"{FOLDER}/{name} is missing")
        elif files.sha256_file(path) != sha256:
            wrong.append(f"{FOLDER}/{name} was changed")
    return wrong


def _facts(recording: Recording) -> dict[str, Any]:
    """``truth.json``, if it is whole and of this recording."""
    path = recording.folder / FOLDER / FILE_NAME
    try:
        facts: Any = files.read_json(path, error=DatasetError, max_bytes=_MAX_JSON_BYTES)
    except DatasetError as error:
        raise _changed(error.message) from error
    if not isinstance(facts, dict) or not isinstance(facts.get("sha256"), dict):
        raise _changed(f"{path} holds no truth of a simulated recording")
    content = {key: value for key, value in facts.items() if key != "content_sha256"}
    if facts.get("content_sha256") != files.sha256_bytes(files.canonical_json(content).encode()):
        raise _changed(f"{path} was changed after it was written (its checksum differs)")
    if facts.get("frames_sha256") != {frame.file: frame.sha256 for frame in recording.info.frames}:
        raise _changed(f"{path} is that of another recording: its frames are others")
    return facts


def _read(path: Path, facts: dict[str, Any], shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        data = images.read_file(path)
        image = images.read_image(path, data=data)
    except DatasetError as error:
        raise _changed(error.message) from error
    if files.sha256_bytes(data) != facts["sha256"].get(path.name) or image.shape != shape:
        raise _changed(f"{path} is not what the simulator wrote ({image.shape}; its checksum or size differs)")
    return image


def _changed(message: str) -> DatasetError:
    return DatasetError(
        message,
        hint="simulate the part again, or delete the folder truth/ to reconstruct without it",
        code="truth.changed",
    )


def normal_error_deg(normals: NDArray[np.float32], truth: Truth) -> NDArray[np.float32]:
    """Angle between solved and true normals (H, W) float32 in degrees; NaN off the part and where nothing was solved."""
    out = np.full(truth.mask.shape, np.nan, np.float32)
    for first in range(0, len(out), 256):  # by rows, so that memory stays flat
        rows = slice(first, first + 256)
        # 2·asin(|n − n'|/2): exact for small angles, unlike the arc cosine of a product in float32
        apart = np.linalg.norm(normals[rows] - truth.normals[rows], axis=-1)
        angle = np.degrees(2 * np.arcsin(np.minimum(apart / 2, 1)))
        out[rows] = np.where(truth.mask[rows], angle, np.nan)
    return out


def smooth_areas(truth: Truth) -> NDArray[np.bool_]:
    """(H, W): pixels of the part around which the true normal turns by less than 10° over 3 px, edges of it left out.

    Of these only those that at least three zones light: there a pixel shows one facet and photometric stereo can solve it.
    """
    size = 2 * _SMOOTH_REACH_PX + 1
    kernel = np.ones((size, size), np.uint8)
    inside = cv2.erode(truth.mask.astype(np.uint8), kernel, borderValue=0) > 0
    limit = 2 * np.sin(np.radians(_SMOOTH_DEG) / 2)
    for channel in range(3):
        n = np.ascontiguousarray(truth.normals[..., channel])
        inside &= cv2.dilate(n, kernel) - cv2.erode(n, kernel) < limit
    lit = cv2.erode((truth.lit >= 3).astype(np.uint8), kernel, borderValue=0) > 0
    return np.asarray(inside & lit)


def compare(normals: NDArray[np.float32], truth: Truth) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """The error map in degrees and its figures: mean, median, 95th percentile of the part and of its smooth areas."""
    error = normal_error_deg(normals, truth)
    return error, {
        "part": _figures(error[truth.mask]),
        "smooth": _figures(error[smooth_areas(truth)]),
        "label": truth.facts.get("label"),
        "defect_share": truth.facts.get("defect_share"),
    }


def compare_surface(surface: Surface, truth: Truth) -> dict[str, Any]:
    """How far the measured depths are from the true ones, for the part and its smooth areas: bias, rms, what was predicted.

    ``spread_of_error`` is the standard deviation of error/σ_z: 1 if the predicted uncertainty is right. ``outliers`` is the
    share beyond 50 µm; off smooth areas it holds pixels that see two surfaces at an edge.
    """
    error_um = (surface.merged.z_mm - truth.xyz[..., 2]) * np.float32(1000)
    sigma_um = surface.merged.sigma_z_mm * np.float32(1000)
    return {
        name: _depth_figures(error_um[area], sigma_um[area])
        for name, area in (("part", truth.mask), ("smooth", smooth_areas(truth)))
    }


def _depth_figures(error_um: NDArray[np.float32], sigma_um: NDArray[np.float32]) -> dict[str, Any]:
    known = np.isfinite(error_um)
    told: dict[str, Any] = {
        "pixels": int(error_um.size),
        "coverage": round(float(known.mean()), 5) if known.size else 0.0,
    }
    names = ("bias_um", "median_um", "p95_um", "rms_um", "predicted_um", "spread_of_error", "outliers")
    if not known.any():
        return told | dict.fromkeys(names)
    error, sigma = error_um[known].astype(np.float64), sigma_um[known].astype(np.float64)
    values = (
        error.mean(),
        np.median(error),
        np.percentile(np.abs(error), 95),
        np.sqrt((error**2).mean()),
        np.sqrt((sigma**2).mean()),
        (error / sigma).std(),
        (np.abs(error) > _OUTLIER_UM).mean(),
    )
    return told | {name: round(float(value), 5) for name, value in zip(names, values, strict=True)}


def _figures(error: NDArray[np.float32]) -> dict[str, Any]:
    known = error[np.isfinite(error)]
    if not known.size:
        return {"pixels": int(error.size), "solved": 0.0, "mean_deg": None, "median_deg": None, "p95_deg": None}
    return {
        "pixels": int(error.size),
        "solved": round(known.size / error.size, 5),
        "mean_deg": round(float(known.mean()), 4),
        "median_deg": round(float(np.median(known)), 4),
        "p95_deg": round(float(np.percentile(known, 95)), 4),
    }
