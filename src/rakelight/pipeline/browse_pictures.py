"""The pictures of one sample for the gallery: reduced, as JPEG, with the outlines of defect and part as SVG paths.

A 20-MP JPEG is decoded at a quarter of its side at once (libjpeg scales while it decodes), maps are thinned before their
numbers are turned into floats; so a picture costs tens of milliseconds. Every file's hash is checked on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.config import Model
from rakelight.dataset import layout
from rakelight.dataset.encoded_maps import albedo_scale, decode_albedo, decode_normals
from rakelight.dataset.images import read_image
from rakelight.dataset.opened import OpenSample
from rakelight.errors import DatasetError, InputError, RakelightError
from rakelight.pipeline.contact_sheet import colour_table, tick_labels
from rakelight.pipeline.html_page import esc
from rakelight.reconstruction.models import Plane
from rakelight.reconstruction.pseudo3d import encode_normals
from rakelight.reconstruction.tone import srgb

Rgb = NDArray[np.uint8]
Picture = Rgb

RENDERING = 1
"""Changes whenever samples must be drawn again though they have not changed."""
PAGE_SIDE, THUMB_SIDE = 1200, 300
THUMBS = ("RGBL05", "PS", "XYZ")
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 85]
_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
_MOST_CONTOURS = 400
_ROOM, _LEAST_WINDOW = 1.3, 0.1  # of a small picture: times the part, share of the picture
_BACKGROUND = 40  # grey where nothing is known


class Drawn(Model):
    """One picture of a sample's page; ``bar`` are the words at the left, middle and right of the colour bar, with unit."""

    role: str
    title: str
    file: str
    width: int
    height: int
    caption: str = ""
    bar: tuple[str, str, str, str] | None = None


class Outline(Model):
    """An SVG path in pixels of a picture ``width`` × ``height``, pixel corners at integers; ``box`` is left, top, right,
    bottom of what it encloses."""

    path: str
    width: int
    height: int
    box: tuple[int, int, int, int] = (0, 0, 0, 0)


class DrawnSample(Model):
    """``sample.json`` beside the pictures: what they were made of and what could not be drawn.

    ``window`` is what the small pictures show: left, top, width, height as shares of the picture.
    """

    rendering: int
    manifest_sha256: str
    pictures: tuple[Drawn, ...]
    thumbs: tuple[str, ...]
    defect: Outline | None = None
    part: Outline | None = None
    window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Made:
    image: Picture
    caption: str = ""
    bar: tuple[str, str, str, str] | None = None


def draw_sample(sample: OpenSample, folder: Path, manifest_sha256: str) -> DrawnSample:
    """Draw every picture of a sample into ``folder``; what cannot be read is told in ``problems``."""
    pictures: list[Drawn] = []
    problems: list[str] = []
    thumbs: list[str] = []
    outlines: dict[str, Outline | None] = {}
    for name, role in (("defect", "MASK"), ("part", layout.PART_MASK_FILE)):
        try:
            mask = sample.image(role)
            outlines[name] = None if mask is None else outline(np.asarray(mask) > 0)
        except RakelightError as error:
            problems.append(f"{name} mask: {error.message}")
    window = _window(outlines.get("part"))
    for role, title, make in _plan(sample):
        try:
            made = make()
        except RakelightError as error:
            problems.append(f"{title}: {error.message}")
            continue
        if made is None:
            continue
        _put(folder / f"{role}.jpg", made.image)
        height, width = made.image.shape[:2]
        pictures.append(
            Drawn(
                role=role,
                title=title,
                file=f"{role}.jpg",
                width=width,
                height=height,
                caption=made.caption,
                bar=made.bar,
            )
        )
        if role in THUMBS:
            _put(folder / f"thumb_{role}.jpg", _within(_cropped(made.image, window), THUMB_SIDE))
            thumbs.append(role)
    return DrawnSample(
        rendering=RENDERING,
        manifest_sha256=manifest_sha256,
        pictures=tuple(pictures),
        thumbs=tuple(thumbs),
        window=window,
        problems=tuple(problems),
        **outlines,
    )


def outline(mask: NDArray[np.bool_]) -> Outline:
    """The outline of a mask (H, W), holes included, simplified to what can be seen; the largest areas if there are many."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Outline(path="", width=width, height=height)
    top, left = int(rows[0]), int(columns[0])
    crop = np.ascontiguousarray(mask[top : rows[-1] + 1, left : columns[-1] + 1]).view(np.uint8)
    found = cv2.findContours(crop, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[0]
    largest = sorted(found, key=cv2.contourArea, reverse=True)[:_MOST_CONTOURS]
    tolerance = max(height, width) / PAGE_SIDE / 2
    texts = []
    for contour in largest:
        points = cv2.approxPolyDP(contour, tolerance, True).reshape(-1, 2) + np.array([left + 0.5, top + 0.5])
        # A defect of one pixel is a line of no length: round ends make it a dot.
        texts.append("M" + "L".join(f"{u:g} {v:g}" for u, v in points) + "Z")
    box = left, top, int(columns[-1]) + 1, int(rows[-1]) + 1
    return Outline(path="".join(texts), width=width, height=height, box=box)


def _window(part: Outline | None) -> tuple[float, float, float, float]:
    """The part with some room around it, of the picture's own proportions; the whole picture without a part mask."""
    if part is None or not part.path:
        return 0.0, 0.0, 1.0, 1.0
    left, top, right, bottom = part.box
    share = min(1.0, max(_LEAST_WINDOW, _ROOM * max((right - left) / part.width, (bottom - top) / part.height)))
    x, y = (left + right) / 2 / part.width - share / 2, (top + bottom) / 2 / part.height - share / 2
    return min(max(x, 0.0), 1 - share), min(max(y, 0.0), 1 - share), share, share


def _cropped(image: Picture, window: tuple[float, float, float, float]) -> Picture:
    height, width = image.shape[:2]
    left, top = round(window[0] * width), round(window[1] * height)
    return image[top : top + max(1, round(window[3] * height)), left : left + max(1, round(window[2] * width))]


def bar_gradient(cmap: str = "viridis") -> str:
    """The colours of a colour bar as a CSS gradient."""
    table = colour_table(cmap)[:: 255 // 15]
    return "linear-gradient(to right," + ",".join(f"rgb({r},{g},{b})" for r, g, b in table.tolist()) + ")"


def overlay(
    shape: Outline | None,
    kind: str,
    defined: str = "",
    window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
) -> str:
    """An outline as SVG that lies over a picture of any size; ``kind`` is its class.

    ``defined`` is the id of a path that stands elsewhere in the page, see :func:`definition`; else it is written here.
    ``window`` is what the picture shows of the whole.
    """
    if shape is None or not shape.path:
        return ""
    one = (
        f'<use href="#{esc(defined)}"' if defined else f'<path vector-effect="non-scaling-stroke" d="{esc(shape.path)}"'
    )
    view = (window[0] * shape.width, window[1] * shape.height, window[2] * shape.width, window[3] * shape.height)
    return (
        f'<svg class="over {kind}" viewBox="{" ".join(f"{v:.6g}" for v in view)}" preserveAspectRatio="none">'
        f'{one} class="casing"/>{one}/></svg>'
    )


def definition(shape: Outline | None, name: str) -> str:
    """The path of an outline, to be drawn in many places of a page by its id."""
    if shape is None or not shape.path:
        return ""
    path = f'<path id="{esc(name)}" vector-effect="non-scaling-stroke" d="{esc(shape.path)}"/>'
    return f'<svg width="0" height="0" style="position:absolute"><defs>{path}</defs></svg>'


# ------------------------------------------------------------------------------------------------------------- pictures
def _plan(sample: OpenSample) -> Iterator[tuple[str, str, Callable[[], _Made | None]]]:
    """Role, title and drawing function of everything that a sample may have, in the order of its page."""
    for view in (5, 1, 2, 3, 4):
        role, lit = f"RGBL{view:02d}", "all zones" if view == layout.REFERENCE_VIEW else f"zone {view}"
        yield role, f"{role}, {lit}", partial(_picture, sample, role)
    yield "PS", "PS, pseudo-3D", partial(_picture, sample, "PS")
    yield "normals", "Normals", partial(_normals, sample)
    yield "albedo", "Albedo", partial(_albedo, sample)
    yield "XYZ", "Height", partial(_height, sample)
    yield "part_mask", "Part mask", partial(_mask, sample, layout.PART_MASK_FILE, "Where the part is.")
    yield "valid", "Normals solved", partial(_mask, sample, "valid.png", "Black: too few lights reached the pixel.")


def _picture(sample: OpenSample, role: str) -> _Made | None:
    """A JPEG, decoded no larger than needed; the lossless original of an imported sample goes before it."""
    if sample.record(f"{role}.png") is not None:
        found = sample.image(f"{role}.png")
        return None if found is None else _Made(_within(_eight_bits(np.asarray(found)), PAGE_SIDE))
    data, path = sample.read(role), sample.path(role)
    if data is None or path is None:
        return None
    manifest = sample.manifest
    side = max(manifest.width or 0, manifest.height or 0)
    step = next((s for s in _REDUCED if side / s >= PAGE_SIDE), 1)
    if step == 1 or path.suffix.lower() not in (".jpg", ".jpeg"):
        return _Made(_within(_eight_bits(np.asarray(read_image(path, data=data))), PAGE_SIDE))
    flags = _REDUCED[step] | cv2.IMREAD_IGNORE_ORIENTATION  # as everywhere: pixels as they are stored
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise _undecodable(path) from error
    if bgr is None:
        raise _undecodable(path)
    return _Made(_within(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8), PAGE_SIDE))


def _undecodable(path: Path) -> DatasetError:
    return DatasetError(f"{path} cannot be decoded", hint="run `rakelight dataset verify`", code="image.unreadable")


def _normals(sample: OpenSample) -> _Made | None:
    found = _thinned(sample, "normals.tiff")
    if found is None:
        return None
    normals = decode_normals(found) if found.dtype == np.uint16 else np.asarray(found, np.float32)
    encoded = encode_normals(np.ascontiguousarray(normals, np.float32))
    unknown = ~np.isfinite(normals[..., 2])
    encoded[unknown] = _BACKGROUND
    return _Made(encoded, "Red right, green up, blue towards the camera.")


def _albedo(sample: OpenSample) -> _Made | None:
    found = _thinned(sample, "albedo.tiff")
    if found is None:
        return None
    if found.dtype == np.uint16:
        found = decode_albedo(found, albedo_scale(sample.manifest.encodings, str(sample.key)))
    albedo = np.asarray(found, np.float32)
    known = np.isfinite(albedo)
    if not known.any():
        return _Made(np.full((*albedo.shape[:2], 3), _BACKGROUND, np.uint8), "Known nowhere.")
    white = float(np.percentile(albedo[known], 99.5)) or 1.0
    shown = np.rint(255 * srgb(np.clip(np.where(known, albedo, 0) / white, 0, 1).astype(np.float32))).astype(np.uint8)
    rgb = np.repeat(shown[..., None], 3, axis=2) if shown.ndim == 2 else shown
    rgb[~(known if known.ndim == 2 else known.all(axis=2))] = _BACKGROUND
    return _Made(rgb, f"White is {white:.3g}.")


def _mask(sample: OpenSample, name: str, caption: str) -> _Made | None:
    found = _thinned(sample, name)
    if found is None:
        return None
    return _Made(_eight_bits(np.where(np.asarray(found) > 0, 255, 0).astype(np.uint8)), caption)


def _height(sample: OpenSample) -> _Made | None:
    """Height over the table (or over the farthest points) in colour, shaded from the upper left."""
    full = sample.xyz()
    if full is None:
        return None
    step = _step(full.shape)
    if full.ndim != 3:
        raise DatasetError(f"XYZ of {sample.key} has shape {full.shape}; needed: (H, W, 3)", code="image.unreadable")
    xyz = full[::step, ::step].astype(np.float32)
    del full
    valid = np.isfinite(xyz[..., 2])
    if not valid.any():
        return _Made(np.full((*valid.shape, 3), _BACKGROUND, np.uint8), "No valid pixel.")
    plane = _table(sample)
    if plane is not None and sample.manifest.xyz_xy == "true":
        height, over = xyz @ plane.normal.astype(np.float32) - np.float32(plane.offset_mm), "Over the table."
    else:
        far = float(np.percentile(xyz[..., 2][valid], 99))
        height, over = far - xyz[..., 2], f"Over the depth of {far:.3f} mm."
    part = sample.part_mask()
    inside = valid if part is None or part.shape[0] < step else _like(part[::step, ::step], valid) & valid
    shown = height[inside if inside.any() else valid]
    low, high = np.percentile(shown, (0.5, 99.5)).tolist()
    if not high > low:
        low, high = low - 0.5, high + 0.5
    level = np.rint(255 * np.clip(np.nan_to_num((height - low) / (high - low)), 0, 1)).astype(np.uint8)
    rgb = colour_table("viridis")[level] * _shade(height, _spacing(sample, step))[..., None]
    rgb = np.clip(rgb, 0, 255).astype(np.uint8)
    rgb[~valid] = _BACKGROUND
    words = f"{over} Shaded from the upper left; dark grey: no point."
    return _Made(rgb, words, (*tick_labels(low, high), "mm"))


def _shade(height: NDArray[np.float32], spacing_mm: float) -> NDArray[np.float32]:
    """How bright each pixel is under a light from the upper left, about 1 on a level surface (H, W)."""
    known = np.nan_to_num(height, nan=float(np.nanmin(height)))
    across = cv2.Sobel(known, cv2.CV_32F, 1, 0, scale=1 / 8) / spacing_mm
    down = cv2.Sobel(known, cv2.CV_32F, 0, 1, scale=1 / 8) / spacing_mm
    # n ∝ (−∂h/∂x, −∂h/∂y, 1), rows counted downwards; the light stands 45° high.
    lit = (-across * -0.5 - down * -0.5 + np.sqrt(0.5)) / np.sqrt(across**2 + down**2 + 1)
    return np.asarray(np.clip(0.35 + 0.65 * lit / np.sqrt(0.5), 0.2, 1.3), np.float32)


def _spacing(sample: OpenSample, step: int) -> float:
    """Size in mm of a thinned pixel; where it is not known one at which slopes can be seen."""
    pitch = sample.manifest.pitch_mm
    return step * (pitch if pitch else 0.05)


def _table(sample: OpenSample) -> Plane | None:
    """The plane of the table, from the sample's calibration if that lies in the data set and can be read."""
    folder = sample.manifest.source.calibration or ""
    if not folder.startswith(f"{layout.CALIBRATION_FOLDER}/") or ".." in folder.split("/"):
        return None
    return _plane_of(sample.root / folder)


@lru_cache(maxsize=8)
def _plane_of(folder: Path) -> Plane | None:
    try:
        return RigCalibration.load(folder).table_plane
    except RakelightError:
        return (
            None  # `dataset verify` tells what is wrong with it; heights are then over the farthest points, as is said
        )


# --------------------------------------------------------------------------------------------------------------- shared
def _thinned(sample: OpenSample, name: str) -> NDArray[Any] | None:
    """An extra, one pixel in step × step, no larger than a page shows."""
    found = sample.image(name)
    if found is None:
        return None
    step = _step(found.shape)
    return np.ascontiguousarray(found[::step, ::step])


def _step(shape: tuple[int, ...]) -> int:
    return max(1, -(-max(shape[:2]) // PAGE_SIDE))


def _like(mask: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``mask`` if it has the shape of ``other``, else everywhere."""
    return mask if mask.shape == other.shape else np.ones(other.shape, np.bool_)


def _eight_bits(image: NDArray[Any]) -> Picture:
    """(H, W, 3) uint8 of whatever an image file holds."""
    if image.dtype == np.uint16:
        image = image >> 8
    image = image.astype(np.uint8)
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def _within(image: Picture, side: int) -> Picture:
    """Reduced by area so that the longer side is at most ``side``."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _put(path: Path, image: Picture) -> None:
    """JPEG of quality 85 into a folder that arrives whole later."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR), _QUALITY)
    if not done:
        raise InputError(f"cannot encode {image.shape} as JPEG", code="image.encode")
    path.write_bytes(data.tobytes())
