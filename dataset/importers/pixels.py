"""Decoding what others wrote: pictures, masks and XYZ maps in every variant met, each failure one clear error."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from rakelight.dataset import images
from rakelight.dataset.archives import View
from rakelight.dataset.options import XyzXy
from rakelight.errors import DatasetError

FEW = 3
"""A channel of so many different values, or less, is no coordinate."""

_MOST_BYTES = 1 << 30
_MOST_RATIO = 1100  # of Deflate
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, eq=False)
class XyzMap:
    """An XYZ map and how it was stored: ``layout`` is ``H×W×3``, ``3×H×W`` or what else; ``plain``: readable as it is."""

    xyz: NDArray[np.float32]
    layout: str
    dtype: str
    plain: bool


def read_picture(view: View, name: str) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a PNG or JPEG; grey is repeated, an alpha channel that hides nothing is dropped.

    Raises :class:`DatasetError` (``image.unreadable``).
    """
    data = view.read(name)
    if data.startswith(_PNG) and len(data) > 26 and data[25] in (4, 6):
        picture = _without_alpha(data, view, name)
    else:
        picture = images.read_image(view.where(name), data=data)
    if picture.dtype != np.uint8:
        raise _bad(view, name, f"its pixels are {picture.dtype}; 8 bits are needed")
    return np.ascontiguousarray(np.repeat(picture[..., None], 3, 2) if picture.ndim == 2 else picture)


def _without_alpha(data: bytes, view: View, name: str) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as opened:
            if opened.width * opened.height * 4 > _MOST_BYTES:
                raise _bad(view, name, f"{opened.width}×{opened.height} px are too many")
            opened.load()
            pixels = np.asarray(opened.convert("RGBA"))
    except DatasetError:
        raise
    except (Exception, MemoryError) as e:  # decoders raise anything on damaged input
        raise _bad(view, name, f"{type(e).__name__}: {e}") from e
    if pixels[..., 3].min() < 255:
        raise _bad(view, name, "parts of it are transparent")
    return pixels[..., :3]


def read_mask(view: View, name: str) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    """(H, W) of 0 and 255, and up to ten of the values it was stored with.

    Two values are taken as background and defect ({0, 1}, {0, 255}, {0, 38}); of more, those above the middle of their
    range are. Of colours the largest channel counts.
    """
    data = view.read(name)
    if data.startswith(_PNG) and len(data) > 26 and data[25] in (4, 6):
        grey: NDArray[Any] = _without_alpha(data, view, name).max(2)
    else:
        grey = images.read_image(view.where(name), data=data)
        grey = grey if grey.ndim == 2 else grey.max(2)
    if grey.dtype.kind != "u":
        raise _bad(view, name, f"its pixels are {grey.dtype}; whole numbers are needed")
    counts = np.bincount(grey.ravel())
    values = np.flatnonzero(counts)
    threshold = int(values.max()) // 2 if len(values) > 2 else int(values[0]) if len(values) == 2 else 0
    return np.where(grey > threshold, np.uint8(255), np.uint8(0)), tuple(int(v) for v in values[:10])


def read_grey16(view: View, name: str) -> NDArray[np.uint16]:
    """(H, W) uint16 of a PNG."""
    image = images.read_image(view.where(name), data=view.read(name))
    if image.dtype != np.uint16 or image.ndim != 2:
        raise _bad(view, name, f"it is {image.dtype} {image.shape}; 16-bit grey is needed")
    return image


# --------------------------------------------------------------------------------------------------------------------- xyz
def read_xyz(view: View, name: str) -> XyzMap:
    """An XYZ map of any layout as (H, W, 3) float32; raises :class:`DatasetError` (``image.unreadable``)."""
    data = view.read(name)
    try:
        found = _plain_xyz(data, view, name)
        return found if found is not None else _any_xyz(data, view, name)
    except DatasetError:
        raise
    except (Exception, MemoryError) as e:  # decoders raise anything on damaged input
        raise _bad(view, name, f"{type(e).__name__}: {e}") from e


def _plain_xyz(data: bytes, view: View, name: str) -> XyzMap | None:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        if len(tiff.pages) != 1 or tiff.pages.first.planarconfig != 1 or tiff.pages.first.dtype != np.float32:
            return None
    try:
        image = images.read_image(view.where(name), data=data)
    except DatasetError:
        return None  # another kind of TIFF: the other reader looks at it, or tells
    return XyzMap(np.asarray(image, np.float32), "H×W×3", "float32", True) if image.ndim == 3 else None


def _any_xyz(data: bytes, view: View, name: str) -> XyzMap:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page, pages = tiff.pages.first, len(tiff.pages)
        dtype = page.dtype
        if dtype is None or dtype.name not in ("float16", "float32", "float64"):
            raise _bad(view, name, f"its values are {dtype}; float32 is needed")
        size = int(page.imagelength) * int(page.imagewidth) * int(page.samplesperpixel) * dtype.itemsize * pages
        if pages > 65536 or not 0 < size <= min(_MOST_BYTES, _MOST_RATIO * len(data)):
            raise _bad(view, name, f"damaged: it promises {size} bytes of pixels in {pages} pages out of {len(data)}")
        try:
            array = np.asarray(tiff.asarray())
        except ValueError:
            other = _by_opencv(data) if pages == 1 else None
            if other is None:
                raise
            array = other
    array = np.squeeze(array)
    if array.ndim == 3 and array.shape[2] == 3:
        layout = "H×W×3" if pages == 1 else f"H×W×3 in {pages} pages"
    elif array.ndim == 3 and array.shape[0] == 3:
        layout = "3×H×W" if pages == 1 else f"3×H×W in {pages} pages"
        array = np.moveaxis(array, 0, -1)
    else:
        raise _bad(view, name, f"its shape is {array.shape}; H×W×3 or 3×H×W is needed")
    with np.errstate(over="ignore"):
        xyz = np.ascontiguousarray(array, np.float32)
    return XyzMap(xyz, layout, dtype.name, False)


def _by_opencv(data: bytes) -> NDArray[Any] | None:
    """LZW and the like, which tifffile leaves to a package of its own."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return None if image is None or image.ndim != 3 else image[..., ::-1]


def few_values(channel: NDArray[np.float32]) -> tuple[float, ...] | None:
    """The different finite values of a channel if there are at most ``FEW`` and at least one, else None."""
    values: list[float] = []
    rest = channel[np.isfinite(channel)]
    while rest.size and len(values) <= FEW:
        values.append(float(rest[0]))
        rest = rest[rest != rest[0]]
    return tuple(sorted(values)) if values and not rest.size and len(values) <= FEW else None


def meaning_of_xy(xyz: NDArray[np.float32]) -> tuple[XyzXy | None, dict[str, Any]]:
    """What X and Y of a map hold, and the constants if they are placeholders. None if the map has no finite Z."""
    x, y, z = (xyz[..., n] for n in range(3))
    valid = np.isfinite(z)
    if not valid.any():
        return None, {}
    few_x, few_y = few_values(x), few_values(y)
    if few_x is not None and few_y is not None and valid.sum() > 2 * FEW:
        return "placeholder", {"x_constants": list(few_x), "y_constants": list(few_y)}
    columns = np.broadcast_to(np.arange(xyz.shape[1], dtype=np.float32), valid.shape)
    rows = np.broadcast_to(np.arange(xyz.shape[0], dtype=np.float32)[:, None], valid.shape)
    if np.array_equal(x[valid], columns[valid]) and np.array_equal(y[valid], rows[valid]):
        return "pixel_index", {}
    return "true", {}


def wholly_nan(xyz: NDArray[np.float32]) -> NDArray[np.float32]:
    """The map with NaN in all three coordinates of every pixel that has a NaN or infinity in any."""
    whole = np.isfinite(xyz).all(axis=-1, keepdims=True)
    return np.where(whole, xyz, np.float32(np.nan))


def _bad(view: View, name: str, what: str) -> DatasetError:
    return DatasetError(
        f"{view.where(name)} cannot be used: {what[:200]}",
        hint="get the file again from its publisher, or leave the sample out",
        code="image.unreadable",
    )
