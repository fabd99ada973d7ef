"""Masks as pictures: one PNG a sample, or CVAT's "segmentation mask 1.1" with colours and a ``labelmap.txt``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset import images
from rakelight.dataset.annotations import Region
from rakelight.dataset.drawings import Drawing, ReadOptions, bad_file, make_region
from rakelight.dataset.shapes import mask_shape
from rakelight.errors import DatasetError

LABEL_MAP = "labelmap.txt"
CLASS_FOLDER = "SegmentationClass"
_BACKGROUND = "background"
_MAX_LABEL_MAP_BYTES = 1 << 20


def read_mask(path: Path, options: ReadOptions) -> Drawing:
    """The drawing of an 8-bit PNG that holds 0 and 255, or 0 and 1.

    What is drawn is ``options.mask_defect``, else the label of the sample. Raises :class:`DatasetError` for other values.
    """
    pixels = images.read_image(path)
    if pixels.dtype != np.uint8 or pixels.ndim != 2:
        raise bad_file(path, f"it is {pixels.dtype} {pixels.shape}; needed: 8 bits, one channel")
    values = np.flatnonzero(np.bincount(pixels.ravel(), minlength=256)).tolist()
    if not (set(values) <= {0, 255} or set(values) <= {0, 1}):
        raise bad_file(path, f"it holds the values {values[:6]}; allowed: 0 and 255, or 0 and 1", "threshold it first")
    shape = mask_shape(pixels > 0)
    regions = () if shape is None else (Region(defect=options.mask_defect, shape=shape),)
    return Drawing(str(path), (path.name,), pixels.shape, regions, tool="mask", pixels_only=True)


def read_cvat_masks(folder: Path, options: ReadOptions) -> Iterator[Drawing | DatasetError]:
    """The drawings of an unpacked CVAT export: ``labelmap.txt`` and ``SegmentationClass/<picture>.png``.

    For a picture that cannot be used its error is handed over, not raised. Raises :class:`DatasetError` if the map of
    labels cannot be read.
    """
    colours = _label_map(folder / LABEL_MAP)
    root = folder / CLASS_FOLDER
    for path in sorted(root.rglob("*.png")):
        if path.name.startswith("."):
            continue
        try:
            yield _read_colours(path, path.relative_to(root).as_posix(), colours, options)
        except DatasetError as e:
            yield e


def _read_colours(path: Path, name: str, colours: dict[str, int], options: ReadOptions) -> Drawing:
    pixels = images.read_image(path)
    if pixels.dtype != np.uint8:
        raise bad_file(path, f"it is {pixels.dtype}; needed: 8 bits")
    packed = _packed(pixels)
    unknown = np.setdiff1d(np.unique(packed), list(colours.values()))
    if len(unknown):
        colour = int(unknown[0])
        raise bad_file(
            path, f"it holds the colour {colour >> 16},{colour >> 8 & 255},{colour & 255}, which is not in {LABEL_MAP}"
        )
    regions: list[Region] = []
    for label, colour in colours.items():
        shape = None if label == _BACKGROUND else mask_shape(packed == colour)
        if shape is not None:
            regions.append(make_region(label, shape.model_dump(), {}, options, str(path)))
    names = (name, PurePosixPath(name).name)
    return Drawing(str(path), names, packed.shape, tuple(regions), tool="cvat masks", pixels_only=True)


def _packed(pixels: NDArray[Any]) -> NDArray[np.int32]:
    """Colours as one number a pixel, 0xRRGGBB."""
    if pixels.ndim == 2:
        return pixels.astype(np.int32) * 0x010101
    red, green, blue = (pixels[..., n].astype(np.int32) for n in range(3))
    return red << 16 | green << 8 | blue


def _label_map(path: Path) -> dict[str, int]:
    """Label → 0xRRGGBB of lines ``label:r,g,b:parts:actions``; lines that begin with # are comments."""
    found: dict[str, int] = {}
    try:
        text = images.read_file(path, max_bytes=_MAX_LABEL_MAP_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise bad_file(path, f"it is no text: {e.reason}") from e
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        label, _, rest = line.partition(":")
        digits = [d.strip() for d in rest.split(":")[0].split(",")]
        if not label or len(digits) != 3 or not all(re.fullmatch("[0-9]{1,3}", d) and int(d) < 256 for d in digits):
            raise bad_file(path, f"line {number} is {line[:60]!r}; needed: label:r,g,b::")
        red, green, blue = map(int, digits)
        colour = red << 16 | green << 8 | blue
        if label in found or colour in found.values():
            raise bad_file(path, f"line {number}: the label or the colour stands twice")
        found[label] = colour
    if 0 not in found.values():
        found.setdefault(_BACKGROUND, 0)
    return found
