"""One sample's arrays in the form that the MVTec-like trees hold: one size for all, metres, background removed if asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset import layout
from rakelight.dataset.exporters import background, pictures
from rakelight.dataset.exporters.job import ExportOptions, Job, Placed, plain_bytes
from rakelight.dataset.exporters.plan import NO_COORDINATES, Item, Plan
from rakelight.dataset.opened import OpenSample
from rakelight.errors import DatasetError
from rakelight.files import read_json

PART_MASK, PLANE = "part mask", "plane"
RGB_BYTES = 3.0  # per pixel, PNG of a noisy picture at worst
XYZ_BYTES = 12.0


@dataclass(frozen=True)
class Prepared:
    """Arrays of one sample, all (h, w): picture uint8 RGB, mask 0/255, xyz in metres (0 invalid), foreground bool.

    ``facts`` go to the export's map: how many coordinates were shifted off 0, the plane, the share of foreground.
    """

    picture: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None
    xyz_m: NDArray[np.float32] | None
    foreground: NDArray[np.bool_] | None
    facts: dict[str, Any] = field(default_factory=dict)


def background_method(plan: Plan, options: ExportOptions) -> str:
    """The one way for all samples, since two would tell classes apart: part masks if all have one, else the plane."""
    if options.no_background is None:
        return ""
    return PART_MASK if all(i.sample.record(layout.PART_MASK_FILE) for i in plan.items) else PLANE


def prepare(sample: OpenSample, options: ExportOptions, *, xyz: bool, method: str = "") -> Prepared:
    """Read a sample and bring it to the wanted form; deterministic, so that a verifier can do it again.

    Raises
    ------
    DatasetError
        A file is damaged, or the background cannot be found; the message names the sample.
    """
    picture = _picture(sample, options)
    size = pictures.fitted_size(picture.shape[0], picture.shape[1], options.size)
    picture = pictures.resize_picture(picture, size)
    mask = sample.mask()
    mask = None if mask is None else pictures.resize_nearest(mask, size)
    facts: dict[str, Any] = {}
    if mask is not None and not mask.any():
        facts["mask_lost_in_resize"] = True
    points = sample.xyz() if xyz or method == PLANE else None
    if points is not None:
        points = pictures.resize_nearest(points, size)
    foreground = _foreground(sample, points, size, options, method, facts) if method else None
    if foreground is not None and points is not None:
        points = np.where(foreground[..., None], points, np.float32(np.nan))
    if foreground is not None and options.no_background == "all":
        picture = np.where(foreground[..., None], picture, np.uint8(0))
    xyz_m = None
    if xyz and points is not None:
        xyz_m, shifted = pictures.to_metres(points)
        facts["shifted_off_zero"] = shifted
        facts["valid_ratio"] = round(float((xyz_m != 0).any(-1).mean()), 6)
    return Prepared(picture, mask, xyz_m, foreground, facts)


def _picture(sample: OpenSample, options: ExportOptions) -> NDArray[np.uint8]:
    """The chosen view, on the pixels of RGBL05: those of the mask and of the XYZ map."""
    reference = sample.rgb()
    view = sample.ps() if options.view == "PS" else sample.rgb(int(options.view[1:]))
    if reference is None or view is None:
        raise DatasetError(
            f"{sample.key} has no {options.picture} picture", hint="export another --view", code="export.no_picture"
        )
    height, width = reference.shape[:2]
    return pictures.resize_picture(view, (height, width))


def _foreground(
    sample: OpenSample,
    points: NDArray[np.float32] | None,
    size: tuple[int, int],
    options: ExportOptions,
    method: str,
    facts: dict[str, Any],
) -> NDArray[np.bool_]:
    part = sample.part_mask() if method == PART_MASK else None
    if part is not None:
        found = pictures.resize_nearest(part, size)
        facts["background"] = {"method": PART_MASK}
    else:
        if points is None or sample.manifest.xyz_xy in NO_COORDINATES:
            raise DatasetError(
                f"{sample.key} has neither a part mask nor an XYZ map with true x and y: its background cannot be told",
                hint="export without --no-background",
                code="export.no_table",
            )
        try:
            pitch = sample.manifest.pitch_mm or background.pitch_mm(points)
            distance = options.background_pitches * pitch
            plane = background.fit_table(points, distance, seed=options.seed)
        except DatasetError as e:
            raise DatasetError(f"{sample.key}: {e.message}", hint=e.hint, code=e.code) from e
        found = background.above_table(points, plane, distance)
        facts["background"] = {"method": PLANE, "distance_mm": distance, "pitch_mm": pitch, **plane.facts()}
    facts["background"]["foreground_ratio"] = round(float(found.mean()), 6)
    return found


def pixel_estimate(bytes_per_pixel: float) -> Callable[[Plan, ExportOptions], int]:
    """The estimate of an export whose images take up to so many bytes a pixel; masks hardly count."""
    return lambda plan, options: plain_bytes(plan, options.size, bytes_per_pixel + 0.05)


def shape_warnings(job: Job, placed: list[Placed]) -> list[str]:
    """What the user should know of the samples just prepared."""
    lost = [p.sample for p in placed if p.facts.get("mask_lost_in_resize")]
    empty = [p.sample for p in placed if p.facts.get("background", {}).get("foreground_ratio") == 0]
    result = []
    if lost:
        result.append(
            f"the defect of {len(lost)} sample(s) is lost at --size {job.options.size}: {', '.join(lost[:3])}"
        )
    if empty:
        result.append(f"{len(empty)} sample(s) have no foreground left: {', '.join(empty[:3])}")
    return result


def loader_path_warning(folder: Path) -> list[str]:
    """BTF, M3DM and CFM derive one path from another by replacing strings in all of it, the folders above included."""
    found = next((s for s in ("xyz", "tiff", "rgb") if s in folder.as_posix()), None)
    if found is None:
        return []
    return [
        f"the path of the export contains {found!r}; the preprocessing scripts of BTF, M3DM and CFM replace that "
        "string anywhere in a path: move the folder before running them"
    ]


def camera(root: Path, items: list[Item], size: int | None) -> dict[str, Any] | None:
    """``calibration/camera.json`` of a category: the camera of the calibration that most samples were derived with.

    Keys: ``model`` (``pinhole`` or ``affine``), ``width``, ``height``, then for a pinhole ``fx fy cx cy`` in px of the
    exported pictures and ``distortion`` (k1, k2, p1, p2, k3); ``calibrations`` counts the samples of each. None if no
    calibration with a camera is stored.
    """
    used: dict[str, int] = {}
    for item in items:
        stored = item.sample.manifest.source.calibration
        if stored:
            name = layout.calibration_name(stored)
            used[name] = used.get(name, 0) + 1
    for name in sorted(used, key=lambda n: (-used[n], n)):
        path = root / layout.CALIBRATION_FOLDER / name / "rig_calibration.json"
        document = read_json(path, error=DatasetError) if path.is_file() else {}
        found = document.get("camera") if isinstance(document, dict) else None
        if isinstance(found, dict) and {"type", "width", "height"} <= found.keys():
            return {**_scaled(found, size), "unit": "px, pixel centres at integers", "calibrations": used}
    return None


def _scaled(found: dict[str, Any], size: int | None) -> dict[str, Any]:
    height, width = pictures.fitted_size(int(found["height"]), int(found["width"]), size)
    sy, sx = height / found["height"], width / found["width"]
    result: dict[str, Any] = {"model": found["type"], "width": width, "height": height}
    if found["type"] != "pinhole":
        rest = {k: v for k, v in found.items() if k not in ("type", "width", "height")}
        return result | rest | {"of_width": found["width"], "of_height": found["height"]}
    return result | {
        "fx": found["fx"] * sx,
        "fy": found["fy"] * sy,
        "cx": (found["cx"] + 0.5) * sx - 0.5,
        "cy": (found["cy"] + 0.5) * sy - 0.5,
        "distortion": found["distortion"],
    }
