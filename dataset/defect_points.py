"""From the mask to points: which points of a sample's XYZ map, and of its thinned clouds, are defective.

Nothing is labelled twice: the XYZ map lies on the pixels of RGBL05, so a pixel's class is its point's class. The stored
clouds are a regular choice of these pixels in reading order (``encodings.clouds`` in the manifest); the choice is made again
here and compared with the heights in the file before any label is believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.dataset import layout, point_clouds
from rakelight.dataset.encoded_maps import stored_area
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.rasterise import IGNORE
from rakelight.errors import DatasetError
from rakelight.files import atomic_write

_LINES = 100_000  # written at a time


@dataclass(frozen=True, eq=False)
class LabelledPoints:
    """Points and their classes.

    Attributes
    ----------
    xyz : (N, 3) float32
        mm, as they stand in the cloud or the map.
    classes : (N,) uint8
        0 none, 255 ignore, else the defect's number in ``meta/defects.json``.
    """

    xyz: NDArray[np.float32]
    classes: NDArray[np.uint8]

    @property
    def defective(self) -> NDArray[np.bool_]:
        """(N,) bool: on a defect, ignored points not."""
        return (self.classes != 0) & (self.classes != IGNORE)


def pixel_classes(sample: OpenSample) -> NDArray[np.uint8]:
    """(H, W) uint8 classes of a sample's pixels; without a stored map of classes 1 where its mask is set.

    All 0 if the sample has neither. Raises :class:`DatasetError` for damaged files or a sample without a known size.
    """
    stored = sample.image(layout.CLASSES_FILE)
    if stored is not None:
        return check_array(layout.CLASSES_FILE, stored, ndim=2, dtypes=("uint8",))
    mask = sample.mask()
    if mask is not None:
        return (mask > 0).view(np.uint8)
    manifest = sample.manifest
    if manifest.height is None or manifest.width is None:
        raise DatasetError(
            f"the manifest of {sample.key} does not state the size of its pictures",
            hint="run `rakelight dataset migrate`",
            code="dataset.views",
        )
    return np.zeros((manifest.height, manifest.width), np.uint8)


def map_points(sample: OpenSample) -> LabelledPoints:
    """Every valid point of the XYZ map in reading order. Raises :class:`DatasetError`."""
    xyz, classes = _aligned(sample)
    valid = np.isfinite(xyz[..., 2])
    return LabelledPoints(xyz[valid], classes[valid])


def cloud_points(sample: OpenSample, role: Literal["PCD", "cloud"] = "PCD") -> LabelledPoints:
    """The points of a stored cloud, in its order.

    Raises
    ------
    DatasetError
        ``annotation.no_points`` without the cloud or the map; ``annotation.cloud_differs`` if the cloud was not made from
        the map as the manifest says (one that was imported, say): then no label can be told.
    """
    path = sample.path(role)
    if path is None:
        raise DatasetError(
            f"{sample.key} has no {role}", hint="derive it again with a cloud", code="annotation.no_points"
        )
    sample.read(role)  # compares its hash
    xyz, classes = _aligned(sample)
    cloud = (point_clouds.read_pcd if role == "PCD" else point_clouds.read_ply)(path).xyz.reshape(-1, 3)
    kept, grid = _kept(sample, xyz)
    made = xyz[grid][kept]
    if made.shape != cloud.shape or not np.array_equal(made[:, 2], cloud[:, 2]):
        raise DatasetError(
            f"{path} was not made from the XYZ map of its sample: {len(cloud)} points, {len(made)} expected",
            hint="take the points of the XYZ map, or derive the sample again",
            code="annotation.cloud_differs",
        )
    return LabelledPoints(cloud, classes[grid][kept])


def _aligned(sample: OpenSample) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    xyz = sample.xyz()
    if xyz is None:
        raise DatasetError(
            f"{sample.key} has no XYZ map", hint="points need a measured surface", code="annotation.no_points"
        )
    classes = pixel_classes(sample)
    if xyz.shape[:2] != classes.shape:
        (h, w), (height, width) = xyz.shape[:2], classes.shape
        raise DatasetError(
            f"the XYZ map of {sample.key} has {w} × {h} px, its picture {width} × {height}: they are not aligned",
            hint="bring both to one size before the import",
            code="annotation.no_points",
        )
    return xyz, classes


def _kept(sample: OpenSample, xyz: NDArray[np.float32]) -> tuple[NDArray[np.bool_], tuple[slice, slice]]:
    """Which pixels of which grid became points; see ``staging``."""
    how: Any = sample.manifest.encodings.get("clouds")
    stride = how.get("stride_px") if isinstance(how, dict) else None
    if type(stride) is not int or not 1 <= stride <= max(xyz.shape[:2]):
        raise DatasetError(
            f"the manifest of {sample.key} does not say how its clouds were thinned",
            hint="take the points of the XYZ map, or derive the sample again",
            code="annotation.cloud_differs",
        )
    valid = np.isfinite(xyz[..., 2])
    part = sample.part_mask() if how.get("part_only") else None
    if part is not None:
        area = stored_area(part, xyz.shape[:2])
        if (valid & area).any():
            valid &= area
    grid = (slice(stride // 2, None, stride),) * 2 if stride > 1 else (slice(None),) * 2
    return valid[grid], grid


def write_labelled_points(path: Path, xyz: NDArray[np.float32], classes: NDArray[np.uint8]) -> int:
    """Write ``x y z label`` a line, as Real3D-AD has its ground truth, atomically; label 1 on a defect, else 0.

    Ignored points are left out. Returns the number of points. Raises :class:`StorageError`.
    """
    counts = classes != IGNORE
    points, labels = xyz[counts], (classes[counts] != 0).view(np.uint8)
    with atomic_write(path) as handle:
        for first in range(0, len(points), _LINES):
            part = slice(first, first + _LINES)
            rows = zip(points[part].tolist(), labels[part].tolist(), strict=True)
            text = "".join(f"{x:.8g} {y:.8g} {z:.8g} {label}\n" for (x, y, z), label in rows)
            handle.write(text.encode("ascii"))
    return len(points)
