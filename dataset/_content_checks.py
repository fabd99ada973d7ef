"""Refusing content that cannot become a sample, before anything is written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.dataset import _map_kernels as kernels
from rakelight.dataset import images, layout, point_clouds
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.options import DatasetOptions
from rakelight.dataset.sample import SampleContent
from rakelight.errors import DatasetError, InputError

_MAX_SIDE = 65_500  # what libjpeg writes
_UNIT_LENGTH_SQUARED = (0.98, 1.02)  # a normal of length 0.99 to 1.01 is one
_MOST_OFF_UNIT = 1e-3  # share of normals that may miss it
_PICTURES = (*(f"RGBL{view:02d}" for view in layout.VIEWS), "PS")
_SUFFIXES = {"jpg": (".jpg", ".jpeg"), "png": (".png",), "tiff": (".tiff", ".tif"), "pcd": (".pcd",)}
_MAX_TEXT = 200


@dataclass(frozen=True)
class Checked:
    """What the checks found out: the size of the pictures, and picture 5."""

    height: int
    width: int
    reference: NDArray[np.uint8]


def check_content(content: SampleContent, options: DatasetOptions | None = None) -> Checked:
    """Refuse content that cannot become a sample in a data set of these options.

    Raises
    ------
    DatasetError
        Bad names or time, picture 5 missing, a mask on an OK part, an empty, non-binary or wrongly sized mask, a map
        without a valid point, a file that cannot be decoded, two sources of one file.
    InputError
        Arrays of the wrong shape or dtype, infinity, pixels that are NaN in part, facts that are not JSON.
    """
    layout.check_category(content.category)
    layout.check_label(content.label)
    layout.check_timestamp(content.timestamp)
    _check_names(content)
    checked = _check_pictures(content)
    size = (checked.height, checked.width)
    if content.mask is not None:
        check_mask(content.mask, content.label, size)
    _check_maps(content, size)
    _check_other_files(content, size)
    for name, array in content.extras.items():
        a = check_array(f"extra {name}", array, dtypes=("uint8", "uint16", "float32"))
        if a.size == 0 or a.ndim not in (2, 3) or (a.ndim == 3 and a.shape[2] != 3):
            raise InputError(f"extra {name} has shape {a.shape}; needed: (H, W) or (H, W, 3)", code="input.shape")
    _check_facts(content, options or DatasetOptions())
    return checked


# ------------------------------------------------------------------------------------------------------------------ names
def extras_names(content: SampleContent) -> list[str]:
    """The names that the files of the extras folder get, but for clouds and JSONs."""
    names = [f"{name}.{'png' if array.dtype == np.uint8 else 'tiff'}" for name, array in content.extras.items()]
    names += [f"{name}.png" for name in content.originals]
    present = {layout.PART_MASK_FILE: content.part_mask, "normals.tiff": content.normals, "albedo.tiff": content.albedo}
    return names + [name for name, array in present.items() if array is not None]


def _check_names(content: SampleContent) -> None:
    for name in content.extras:
        layout.check_file_name("extra", name)
    _check_no_clash("extra", content.extras)
    for name in content.raw_files:
        layout.check_file_name("raw file", name)
    _check_no_clash("raw file", content.raw_files)
    unknown = sorted(set(content.raw_sha256) - set(content.raw_files))
    if unknown:
        raise InputError(
            f"raw_sha256 names {unknown[0]!r}, which is no raw file of the sample", code="input.unknown_name"
        )
    _check_known("originals", content.originals, _PICTURES)
    _check_known("files", content.files, tuple(layout.MODALITIES))
    arrays: dict[str, Any] = {f"RGBL{view:02d}": picture for view, picture in content.rgb.items()}
    arrays |= {"PS": content.ps, "XYZ": content.xyz, "MASK": content.mask}
    twice = sorted(m for m in content.files if arrays.get(m) is not None)
    if twice:
        raise InputError(f"{twice[0]} is given as an array and as a file; needed: one of them", code="input.twice")
    seen: dict[str, str] = {}
    kept_free = (layout.CAPTURE_FILE, layout.SAMPLE_MANIFEST, layout.ANNOTATION_FILE, layout.CLASSES_FILE)
    for name in (*extras_names(content), "cloud.ply", *kept_free):
        if name.lower() in seen:
            raise DatasetError(
                f"two files of the sample would be extras/…/{name}",
                hint="rename the extra: its name is that of a map of its own",
                code="dataset.name_invalid",
            )
        seen[name.lower()] = name


def _check_known(what: str, names: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    unknown = sorted(set(names) - set(allowed))
    if unknown:
        raise InputError(f"{what} names {unknown[0]!r}; allowed: {', '.join(allowed)}", code="input.unknown_name")


def _check_no_clash(kind: str, names: Mapping[str, Any]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise DatasetError(
                f"{kind}s {other!r} and {name!r} differ only in case, so they are one file on Windows and macOS",
                hint="rename one",
                code="dataset.name_invalid",
            )


# --------------------------------------------------------------------------------------------------------------- pictures
def _check_pictures(content: SampleContent) -> Checked:
    given = {f"RGBL{view:02d}": picture for view, picture in content.rgb.items()}
    unknown = sorted(set(content.rgb) - set(layout.VIEWS))
    if unknown or not {"RGBL05"} & {*given, *content.files}:
        found = sorted({*content.rgb, *(int(m[4:]) for m in content.files if m.startswith("RGBL"))})
        raise DatasetError(
            f"sample has pictures {found}; allowed: 1 to 5, and 5 (all zones) is required",
            hint="add a capture with all zones on to the recipe",
            code="dataset.views",
        )
    copied = {m: _decoded(m, path) for m, path in content.files.items() if m in _PICTURES}
    reference = check_array("rgb[5]", (given | copied)["RGBL05"], ndim=3)
    height, width = reference.shape[:2]
    if not (0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE):
        raise InputError(f"rgb[5] is {height}×{width}; each side needs 1 to {_MAX_SIDE} pixels", code="input.shape")
    for view, picture in content.rgb.items():
        check_array(f"rgb[{view}]", picture, shape=(height, width, 3), dtypes=("uint8",))
    for modality, picture in copied.items():
        shape = (None, None, 3) if modality == "PS" else (height, width, 3)
        check_array(f"{modality} in {content.files[modality]}", picture, shape=shape, dtypes=("uint8",))
    if content.ps is not None:
        ps = check_array("ps", content.ps, shape=(None, None, 3), dtypes=("uint8",))
        if not (0 < ps.shape[0] <= _MAX_SIDE and 0 < ps.shape[1] <= _MAX_SIDE):
            raise InputError(f"ps has shape {ps.shape}; each side needs 1 to {_MAX_SIDE} pixels", code="input.shape")
    for name, original in content.originals.items():
        shown = content.ps if name == "PS" else given.get(name)
        shown = copied.get(name) if shown is None else shown
        if shown is None:
            raise InputError(f"originals holds {name}, which the sample does not have", code="input.unknown_name")
        check_array(f"original {name}", original, shape=shown.shape, dtypes=("uint8",))
    return Checked(height, width, reference)


def _decoded(modality: str, path: Path) -> NDArray[Any]:
    """The image in a file that is to be copied as it is; its suffix must be one of the modality's format."""
    _check_suffix(modality, path)
    return images.read_image(path)


def _check_suffix(modality: str, path: Path) -> None:
    allowed = _SUFFIXES[layout.MODALITIES[modality][1]]
    if Path(path).suffix.lower() not in allowed:
        raise DatasetError(
            f"{path} cannot be copied as {modality}: its suffix is {Path(path).suffix!r}; allowed: {', '.join(allowed)}",
            hint="give its content as an array, so that it is written anew",
            code="dataset.file_kind",
        )


def check_mask(mask: NDArray[np.uint8], label: str, size: tuple[int, int]) -> None:
    def refuse(problem: str, hint: str, code: str) -> DatasetError:
        return DatasetError(f"mask of {label} sample {problem}", hint=hint, code=code)

    if label == layout.OK:
        raise refuse(
            "given; OK samples have none", "leave it out or label the sample by its defect", "dataset.mask_on_ok"
        )
    mask = np.asarray(mask)
    if mask.dtype != np.uint8 or mask.shape != size:
        raise refuse(
            f"is {mask.dtype} {mask.shape}; needed: uint8 {size}, the size of RGBL05",
            "draw it on RGBL05 at full size",
            "dataset.mask_size",
        )
    if not ((mask == 0) | (mask == 255)).all():
        value = int(mask[(mask != 0) & (mask != 255)][0])
        raise refuse(f"holds the value {value}; allowed: 0 and 255", "threshold it first", "dataset.mask_values")
    if not mask.any():
        raise refuse("is empty", "mark the defect, or leave the mask out until it is drawn", "dataset.mask_empty")


# ------------------------------------------------------------------------------------------------------------------- maps
def _check_maps(content: SampleContent, size: tuple[int, int]) -> None:
    if content.xyz is not None:
        _check_vectors("xyz", check_array("xyz", content.xyz, shape=(*size, 3), dtypes=("float32",)))
    if content.normals is not None:
        _check_vectors("normals", check_array("normals", content.normals, shape=(*size, 3), dtypes=("float32",)), True)
    if content.albedo is not None:
        albedo = check_array("albedo", content.albedo, dtypes=("float32",))
        if albedo.shape not in (size, (*size, 3)):
            raise InputError(f"albedo has shape {albedo.shape}; needed: {size} or {(*size, 3)}", code="input.shape")
    if content.part_mask is not None:
        part = check_array("part_mask", content.part_mask, shape=size, dtypes=("bool",))
        if not part.any():
            raise DatasetError(
                "part_mask is empty: no pixel belongs to the part",
                hint="check that the part lies in the field, or leave the mask out",
                code="dataset.part_mask_empty",
            )


def _check_vectors(name: str, vectors: NDArray[np.float32], unit: bool = False) -> None:
    """A map needs a valid pixel, and each pixel must be wholly finite or wholly NaN; normals must be of length 1."""
    lowest, highest = _UNIT_LENGTH_SQUARED if unit else (0.0, float(np.finfo(np.float32).max))
    valid, partly, infinite, off = (int(n) for n in kernels.scan_vectors(vectors, lowest, highest))
    if infinite:
        raise InputError(
            f"{name} holds {infinite} pixels with infinity; needed: finite, or NaN where nothing is known",
            code="input.not_finite",
        )
    if partly:
        raise InputError(
            f"{name} holds {partly} pixels that are NaN in part; needed: NaN in all three values or in none",
            code="input.partly_nan",
        )
    if not valid:
        raise DatasetError(
            f"{name} has no valid pixel: all {vectors.size // 3} are NaN",
            hint="leave the map out, or look why nothing was measured",
            code="dataset.map_empty",
        )
    if unit and off > _MOST_OFF_UNIT * valid:
        raise InputError(
            f"{name}: {off} of {valid} vectors are not of length 1 (0.99 to 1.01)",
            hint="divide them by their length; NaN where it is 0",
            code="input.not_unit",
        )


def _check_other_files(content: SampleContent, size: tuple[int, int]) -> None:
    """Mask, XYZ map and cloud that are copied as they are; pictures are checked with the pictures."""
    for modality, path in content.files.items():
        if modality == "MASK":
            check_mask(_decoded(modality, path), content.label, size)
        elif modality == "XYZ":
            check_array(f"XYZ in {path}", _decoded(modality, path), shape=(None, None, 3), dtypes=("float32",))
        elif modality == "PCD":
            _check_suffix(modality, path)
            point_clouds.read_pcd(path)


# ------------------------------------------------------------------------------------------------------------------ facts
def _check_facts(content: SampleContent, options: DatasetOptions) -> None:
    for name, facts in (("capture facts", content.capture), ("quality", content.quality)):
        try:
            json.dumps(dict(facts), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as e:
            raise InputError(f"{name} cannot be written as JSON: {e}", code="input.not_json") from e
    for name, text in (("specimen", content.specimen), ("batch", content.batch)):
        if not isinstance(text, str) or len(text) > _MAX_TEXT or not text.isprintable():
            raise InputError(
                f"{name} is {str(text)[:60]!r}; allowed: up to {_MAX_TEXT} printable characters", code="input.text"
            )
    pitch = content.pitch_mm
    if pitch is not None and not (math.isfinite(pitch) and 0 < pitch < 1e3):
        raise InputError(f"pitch_mm is {pitch}; allowed: above 0, below 1000", code="input.range")
    if content.clouds.most_points < 0:
        raise InputError(f"clouds.most_points is {content.clouds.most_points}; allowed: 0 or more", code="input.range")
    if content.xyz is not None and options.xyz_xy == "placeholder" and pitch is None:
        raise DatasetError(
            f"the XYZ map of {SampleKey(content.category, content.label, 0).class_folder} needs pitch_mm: this data set "
            "stores it in place of X and Y (xyz_xy = placeholder)",
            hint="state the spacing of pixels on the part in mm, or use a data set with xyz_xy = true",
            code="dataset.pitch_missing",
        )
