"""The statistics of a capture (:mod:`rakelight.detection.capture_statistics`), of a stored sample and of one just captured.

Both give the same numbers of the same part, since both look at what the data set stores: the 8-bit JPEG pictures under each
zone, reduced while they are decoded, and every k-th pixel of points and part mask. k depends on the size of the pictures
alone. Grey values are made linear again (the inverse sRGB curve), so that a lamp that lost a tenth of its light reads a tenth
less.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from rakelight.dataset import images, layout
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.sample import SampleContent
from rakelight.detection.capture_statistics import capture_statistics
from rakelight.errors import DatasetError

_ZONES = tuple(view for view in layout.VIEWS if view != layout.REFERENCE_VIEW)
_LARGEST = 1024  # px of the longer side after the reduction
_REDUCTIONS = (1, 2, 4, 8)  # what a JPEG decoder does on the way
_GREY = dict(
    zip(
        _REDUCTIONS,
        (
            cv2.IMREAD_GRAYSCALE,
            cv2.IMREAD_REDUCED_GRAYSCALE_2,
            cv2.IMREAD_REDUCED_GRAYSCALE_4,
            cv2.IMREAD_REDUCED_GRAYSCALE_8,
        ),
        strict=True,
    )
)
_COLOUR = dict(
    zip(
        _REDUCTIONS,
        (
            cv2.IMREAD_COLOR,
            cv2.IMREAD_REDUCED_COLOR_2,
            cv2.IMREAD_REDUCED_COLOR_4,
            cv2.IMREAD_REDUCED_COLOR_8,
        ),
        strict=True,
    )
)
_THREADS = 2


def sample_statistics(sample: OpenSample) -> dict[str, float]:
    """The capture statistics of a committed sample; what it does not hold is left out.

    ``light_zone1`` … and ``noise_zone1`` … in linear grey values 0–255, ``points`` in pixels, ``nan_share``, ``normal_x`` and
    ``normal_y`` (of a pseudo-3D picture that encodes normals). The noise is that of the stored pictures: JPEG smooths some of it
    away, always alike. Raises :class:`DatasetError` for files that cannot be read.
    """
    manifest = sample.manifest
    pictures = {view: path for view in _ZONES if (path := sample.path(f"RGBL{view:02d}")) is not None}
    ps = sample.path("PS") if manifest.source.settings.get("ps") == "normals" else None
    reference = manifest.width, manifest.height
    step = reduction(max(reference[0] or 0, reference[1] or 0))
    xyz = sample.path("XYZ")
    return _statistics(
        str(sample.key),
        {view: partial(images.read_file, path) for view, path in pictures.items()},
        None if ps is None else partial(images.read_file, ps),
        None if xyz is None else _thinned(xyz, step),
        sample.part_mask(),
        step,
    )


def content_statistics(content: SampleContent) -> dict[str, float]:
    """The statistics that :func:`sample_statistics` will find once this content is committed with x and y as measured."""
    pictures = {view: picture for view, picture in content.rgb.items() if view in _ZONES}
    height, width = next(iter(content.rgb.values())).shape[:2]
    step = reduction(max(height, width))
    is_normals = content.source.settings.get("ps") == "normals" or content.capture.get("ps") == "normals"
    return _statistics(
        content.specimen,
        {view: partial(_jpeg, picture) for view, picture in pictures.items()},
        partial(_jpeg, content.ps) if content.ps is not None and is_normals else None,
        None if content.xyz is None else content.xyz[::step, ::step],
        content.part_mask,
        step,
    )


def reduction(longer_px: int) -> int:
    """By how much pictures of that longer side are reduced: 1, 2, 4 or 8."""
    return next((k for k in _REDUCTIONS if longer_px <= k * _LARGEST), _REDUCTIONS[-1])


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    return bytes(images.encode_jpeg(picture))


def _statistics(
    of: str,
    pictures: Mapping[int, Any],
    ps: Any,
    xyz: NDArray[np.float32] | None,
    mask: NDArray[np.bool_] | None,
    step: int,
) -> dict[str, float]:
    """Of pictures that are still to be read (functions that return the bytes of a JPEG) and of points thinned already; ``of``
    names the sample."""
    with ThreadPoolExecutor(_THREADS) as pool:  # the decoder lets other threads run
        zones = {
            view: pool.submit(_decoded, f"{of}: its picture under zone {view}", read, _GREY[step])
            for view, read in pictures.items()
        }
        normals = None if ps is None else pool.submit(_decoded, f"{of}: its pseudo-3D picture", ps, _COLOUR[step])
        thin = None if mask is None else mask[::step, ::step]
        shown = normals.result() if normals is not None else None
        found = {view: _LINEAR[decoded.result()] for view, decoded in zones.items()}
    if thin is not None and not thin.any():
        return capture_statistics(found)
    out = capture_statistics(found, xyz=xyz, mask=_of_size(thin, xyz))
    if "points" in out:
        out["points"] *= step * step
    directions = None if shown is None else shown[..., ::-1].astype(np.float32) / np.float32(127.5) - 1
    return out | capture_statistics(normals=directions, mask=_of_size(thin, directions))


def _of_size(mask: NDArray[np.bool_] | None, of: NDArray[Any] | None) -> NDArray[np.bool_] | None:
    """The mask on the pixels of a map that shows the same field, perhaps in another size."""
    if mask is None or of is None or mask.shape == of.shape[:2]:
        return mask
    size = (of.shape[1], of.shape[0])
    return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0


def _decoded(what: str, read: Any, flag: int) -> NDArray[np.uint8]:
    data = read()
    # OpenCV returns nothing of damaged bytes, but stops with an error of its own at none.
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION) if data else None
    if picture is None:
        raise DatasetError(
            f"{what} ({len(data)} bytes) cannot be decoded as JPEG",
            hint="run `rakelight dataset verify`",
            code="image.unreadable",
        )
    return np.asarray(picture, np.uint8)


def _thinned(path: Path, step: int) -> NDArray[np.float32]:
    """Every ``step``-th pixel of an XYZ map; of a plain TIFF only these are read."""
    if step > 1:
        try:
            return np.array(tifffile.memmap(path, mode="r")[::step, ::step], np.float32)
        except (ValueError, OSError, tifffile.TiffFileError):
            pass  # packed, or damaged: read it whole, which says what is wrong
    return np.asarray(images.read_image(path)[::step, ::step], np.float32)


def _inverse_srgb() -> NDArray[np.float32]:
    """8-bit sRGB → linear 0 … 255 (IEC 61966-2-1)."""
    v = np.arange(256) / 255
    return (255 * np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)).astype(np.float32)


_LINEAR = _inverse_srgb()
