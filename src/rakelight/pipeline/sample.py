"""Recording + reconstruction → one sample of a Real-IAD D³ data set."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset import images, layout
from rakelight.dataset.options import KeepRaw, raw_files
from rakelight.dataset.recording import Recording
from rakelight.dataset.sample import SampleContent, Source
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError
from rakelight.pipeline.outputs import map_picture
from rakelight.pipeline.pictures import all_zones, picture
from rakelight.pipeline.reconstruct import Reconstruction
from rakelight.pipeline.zone_frames import mean_frame
from rakelight.reconstruction import pseudo3d
from rakelight.reconstruction.lights import Light
from rakelight.reconstruction.photometric import Flag
from rakelight.reconstruction.pinholes import close_pinholes

PsPicture = Literal["normals", "relief", "curvature"]
PS_PICTURES: tuple[PsPicture, ...] = ("normals", "relief", "curvature")
_VIEW_AZIMUTHS_DEG = (0.0, 90.0, 180.0, 270.0)  # RGBL01 to RGBL04: right, up, left, down


def make_sample(
    recording: Recording,
    result: Reconstruction,
    *,
    category: str,
    label: str,
    calibration: RigCalibration | None = None,
    ps: PsPicture = "normals",
    mask: str | Path | NDArray[np.uint8] | None = None,
    batch: str | None = None,
    keep_raw: KeepRaw = "none",
    source: Source | None = None,
) -> SampleContent:
    """Lay out what the sample of a reconstructed recording holds.

    RGBL01–RGBL04 are the pictures under zones 1–4; with other zones, under the lights nearest to azimuth 0, 90, 180 and
    270°. RGBL05 is the picture under all zones, or the mean of the linear zone frames. PS is the 8-bit normal map, or the
    relief or curvature picture. A recording with patterns also gives XYZ map, point clouds and part mask.

    Parameters
    ----------
    calibration
        Gives the pictures its white balance and tone.
    mask : path, or (H, W) uint8 of 0 and 255
        Defect mask on the pixels of RGBL05.
    batch
        Lot or session; by default the day of the capture, so that splits can keep a day together.
    keep_raw
        Which raw frames travel along in the extras.
    source
        What it is derived from, for its manifest; by default the recording, without calibration and settings.

    Raises
    ------
    DatasetError, StorageError
        A frame that was damaged meanwhile; a mask that cannot be read or does not fit.
    """
    info = recording.info
    if info.target != "part":
        raise DatasetError(
            f"{recording.folder} shows a {info.target}; a sample shows a part",
            hint="leave it out, or correct `target` in its description and import it again",
            code="dataset.not_a_part",
        )
    views = choose_views(result.stack.lights)
    colour = calibration.colour if calibration is not None else None
    rgb = {view: picture(recording, _zone_mean(recording, light.zone), colour) for view, light in views.items()}
    rgb[5] = picture(recording, all_zones(recording, [light.zone for light in result.stack.lights]), colour)
    surface, flags = result.surface, result.result.flags
    files, hashes = raw_files(recording, keep_raw)
    report = {k: v for k, v in result.report.items() if k not in ("seconds", "truth")}
    return SampleContent(
        category=category,
        label=label,
        timestamp=_timestamp(info.captured_utc),
        rgb=rgb,
        ps=_ps(result, ps),
        mask=_mask(Path(mask)) if isinstance(mask, str | Path) else mask,
        xyz=None if surface is None else surface.xyz,
        normals=result.result.normals,
        albedo=result.result.albedo if result.colour is None else result.colour,
        part_mask=surface.mask if surface is not None and surface.mask.any() else None,
        extras={"flags": flags, "valid": np.where(flags & int(Flag.NOT_SOLVABLE), 0, 255).astype(np.uint8)},
        raw_files=files,
        raw_sha256=hashes,
        specimen=info.part_id,
        batch=(info.captured_utc or "")[:10] if batch is None else batch,
        simulated=info.simulated,
        pitch_mm=None if surface is None else surface.pitch_mm,
        source=source or Source(recording_id=info.recording_id, recording_sha256=info.content_sha256),
        quality=_quality(report),
        capture={
            "recording": info.recording_id,
            "part_id": info.part_id,
            "rig_id": info.rig_id,
            "simulated": info.simulated,
            "captured_utc": info.captured_utc,
            "pixel_format": info.pixel_format,
            "exposure_us": _exposures(recording),
            "ps": ps,
            "white_balance": list(colour.gains) if colour is not None else None,
            "views": {f"RGBL{view:02d}": {"zone": light.zone} for view, light in sorted(views.items())}
            | {"RGBL05": {"zones": [light.zone for light in result.stack.lights]}},
            "reconstruction": report,
        },
    )


def _exposures(recording: Recording) -> dict[str, float | None]:
    """Exposure of each lit shot, µs; of the patterns the first one stands for all."""
    roles = {shot.name: shot.role for shot in recording.info.plan}
    found: dict[str, float | None] = {}
    for frame in recording.info.frames:
        role = roles.get(frame.shot, "")
        found.setdefault("pattern" if role == "pattern" else frame.shot, frame.exposure_us)
    return found


def _quality(report: dict[str, Any]) -> dict[str, Any]:
    """The figures of a reconstruction by which samples are judged and sorted; the rest stands in capture.json."""
    measured = report.get("surface") or {}
    return {
        "normals_solved": report["coverage"]["solved"],
        "saturated": report["coverage"]["saturated_of_solved"],
        "median_confidence": report["median_confidence"],
        "surface_coverage": measured.get("coverage"),
        "part_pixels": measured.get("part_pixels"),
        "part_coverage": measured.get("part_coverage"),
        "warnings": list(report["warnings"]),
    }


def keep_calibration(dataset: Dataset, calibration: RigCalibration) -> Path:
    """Store a calibration once in the data set, by its content, so that samples can be derived again from what is there.

    To be called while the data set's writer is held; returns the folder, ``calibration/<first 16 digits of the hash>``.
    """
    folder = dataset.root / layout.CALIBRATION_FOLDER / calibration.content_sha256[:16]
    return folder if folder.exists() else calibration.save(folder)


def choose_views(lights: tuple[Light, ...]) -> dict[int, Light]:
    """Which light is shown as RGBL01 … RGBL04 (keys 1 to 4); each light at most once.

    Zones 1–4 if these are the zones; else, direction by direction, the free light nearest in azimuth to 0, 90, 180, 270°.
    With three lights one view stays empty.
    """
    by_zone = {light.zone: light for light in lights}
    if set(by_zone) <= {1, 2, 3, 4}:
        return by_zone
    free = list(lights)
    views: dict[int, Light] = {}
    for view, azimuth in enumerate(_VIEW_AZIMUTHS_DEG, 1):
        if free:
            views[view] = min(free, key=lambda light: abs((light.azimuth_deg - azimuth + 180) % 360 - 180))
            free.remove(views[view])
    return views


def _zone_mean(recording: Recording, zone: int) -> NDArray[np.float32]:
    return mean_frame(recording, list(recording.shots("zone", zone)))


def _ps(result: Reconstruction, kind: PsPicture) -> NDArray[np.uint8]:
    if kind == "normals":
        return pseudo3d.encode_normals(close_pinholes(result.result.normals), 8)
    if kind == "relief":
        return np.repeat(map_picture("relief", result.maps["relief"])[..., None], 3, axis=2)
    limits = (-0.1, 0.1)  # 1/px, fixed so that samples compare
    shown = pseudo3d.to_display(result.maps["curvature"], limits=limits).image
    return np.repeat(shown[..., None], 3, axis=2)


def _mask(path: Path) -> NDArray[np.uint8]:
    mask = images.read_image(path)
    if mask.ndim == 3 and (mask == mask[..., :1]).all():
        mask = mask[..., 0]
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise DatasetError(
            f"mask {path} is {mask.shape} {mask.dtype}; a mask is 8-bit grey, 0 and 255",
            hint="export it as an 8-bit grey PNG",
            code="dataset.mask_values",
        )
    return np.where(mask == 1, np.uint8(255), mask) if mask.max() == 1 else mask


def _timestamp(captured_utc: str | None) -> str:
    """YYYYMMDDhhmmss, or 14 zeros, as in the released data set, when the time of the capture is not known."""
    if captured_utc is None:
        return "0" * 14
    return datetime.datetime.fromisoformat(captured_utc).astimezone(datetime.UTC).strftime("%Y%m%d%H%M%S")
