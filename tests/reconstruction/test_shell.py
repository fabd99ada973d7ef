"""A real Gray-code scan with its author's calibration and point cloud: decoding, lenses, pose and pixel centres in one.

The recording and the figures expected of it are described in its SOURCE.md; the test is skipped where it is not on the machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree

from rakelight.dataset.point_clouds import read_ply
from rakelight.reconstruction.decoding import decode_gray
from rakelight.reconstruction.models import PinholeCamera, Projector, undistort_points
from rakelight.reconstruction.triangulation import depth_on_rays, triangulate, xyz_from_depth

DATA = Path(__file__).resolve().parents[2] / "../shared/data/structured-light/sltk-graycode-shell"
SIGMA_PX = 12**-0.5  # of a coordinate rounded to whole px


class Scan(NamedTuple):
    """The decoded scan. A cell is a projector pixel with the mean of the camera pixels that see it."""

    camera: PinholeCamera
    projector: Projector
    column: NDArray[np.float32]  # (H, W), NaN where unknown
    seen: NDArray[np.int64]  # (N, 2) column and row of the cells
    pixel: NDArray[np.float64]  # (N, 2)
    theirs: NDArray[np.float64]  # (M, 3) mm, camera frame


@pytest.fixture(scope="module")
def scan() -> Scan:
    if not DATA.is_dir():
        pytest.skip("the recording sltk-graycode-shell is not at ../shared/data/structured-light")
    camera, projector = calibration()
    frames = np.stack([np.asarray(Image.open(DATA / f"{i:02d}.jpg").convert("L")) for i in range(44)])
    columns, rows = (decode_gray(part, least_margin_dn=4, least_contrast_dn=30) for part in (frames[:22], frames[22:]))
    valid = columns.valid & rows.valid
    v, u = np.nonzero(valid)
    ids, place, count = np.unique(
        rows.word[valid] * 2048 + columns.word[valid], return_inverse=True, return_counts=True
    )
    pixel = np.stack([np.bincount(place, x) / count for x in (u, v)], axis=-1)
    theirs = read_ply(DATA / "scan_0020_cloud.ply").xyz * np.array([1.0, -1.0, -1.0])  # y up, z backwards
    column = np.where(valid, columns.word, np.nan).astype(np.float32)
    return Scan(camera, projector, column, np.stack([ids % 2048, ids // 2048], axis=-1), pixel, theirs)


def calibration() -> tuple[PinholeCamera, Projector]:
    store = cv2.FileStorage(str(DATA / "procam_2016_12_09.yaml"), cv2.FILE_STORAGE_READ)

    def of(name: str) -> NDArray[np.float64]:
        return np.asarray(store.getNode(name).mat(), np.float64)

    def lens(name: str) -> tuple[Any, ...]:
        k = of(f"{name}_K")
        return k[0, 0], k[1, 1], k[0, 2], k[1, 2], tuple(of(f"{name}_kc").ravel())

    return PinholeCamera(2592, 1944, *lens("cam")), Projector(1, 1280, 800, *lens("pro"), of("R"), of("T").ravel())


def between_rays(scan: Scan, shift_px: float = 0.0) -> NDArray[np.float64]:
    """(N, 3): midway between both rays of each cell; ``shift_px`` is added to all pixel coordinates."""
    projector = scan.projector
    _, a = scan.camera.rays(scan.pixel + shift_px)
    xy = (scan.seen + shift_px - (projector.cx, projector.cy)) / (projector.fx, projector.fy)
    b = np.concatenate([undistort_points(xy, projector.distortion), np.ones((len(xy), 1))], axis=1) @ projector.rotation
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    centre = projector.centre_mm
    ab, ac, bc = np.einsum("ni,ni->n", a, b), a @ centre, b @ centre
    s, t = (ac - ab * bc) / (1 - ab**2), (ab * ac - bc) / (1 - ab**2)
    return np.asarray((a * s[:, None] + centre + b * t[:, None]) / 2)


def distances(points: NDArray[Any], scan: Scan) -> NDArray[np.float64]:
    return np.asarray(cKDTree(points).query(scan.theirs)[0])


def test_points_between_both_rays_are_the_authors(scan: Scan) -> None:
    points = between_rays(scan)
    assert len(points) == pytest.approx(121_617, rel=0.005)
    away = distances(points, scan)
    assert np.median(away) <= 0.05 and np.percentile(away, 90) <= 0.4 and (away < 1).mean() > 0.999
    reprojection = np.linalg.norm(scan.projector.project(points) - scan.seen, axis=1)
    assert np.median(reprojection) == pytest.approx(0.167, abs=0.005)
    assert np.percentile(reprojection, 90) == pytest.approx(0.41, abs=0.02)


def test_half_a_pixel_is_noticed(scan: Scan) -> None:
    """The pixel's centre is at integer: with 0.5 added the cloud moves off by ten times the bar."""
    assert np.median(distances(between_rays(scan, 0.5), scan)) > 0.2


def test_triangulate_with_column_and_row_gives_the_authors_depth(scan: Scan) -> None:
    _, ray = scan.camera.rays(scan.pixel)
    p, q = (np.asarray(ray[None, :, k] / ray[None, :, 2], np.float32) for k in (0, 1))
    sigma = np.full(p.shape, SIGMA_PX, np.float32)
    total, weights = np.zeros(p.shape), np.zeros(p.shape)
    for k, axis in enumerate(("column", "row")):
        coordinate = scan.seen[None, :, k].astype(np.float32)
        z, sigma_z = depth_on_rays(coordinate, sigma, p, q, scan.camera, scan.projector, axis)
        known = np.isfinite(z)
        assert known.mean() > 0.99
        weight = np.where(known, sigma_z.astype(np.float64) ** -2.0, 0)
        total += np.where(known, z, 0) * weight
        weights += weight
    at = np.rint(scan.projector.project(scan.theirs)).astype(np.int64)
    number = np.full((1024, 2048), -1)
    number[scan.seen[:, 1], scan.seen[:, 0]] = np.arange(len(scan.seen))
    place = number[at[:, 1], at[:, 0]]
    assert (place >= 0).mean() > 0.95
    away = np.abs((total / weights)[0, place] - scan.theirs[:, 2])[place >= 0]
    assert np.median(away) <= 0.05 and np.percentile(away, 90) <= 0.4


def test_triangulate_per_camera_pixel_is_off_by_the_rounding_of_the_column(scan: Scan) -> None:
    sigma = np.full(scan.column.shape, SIGMA_PX, np.float32)
    z, sigma_z = triangulate(scan.column, sigma, scan.camera, scan.projector)
    assert np.isfinite(z).sum() == np.isfinite(scan.column).sum()
    points = xyz_from_depth(z, scan.camera)[np.isfinite(z)]
    away = distances(points, scan)
    assert np.percentile(away, 90) <= 0.4 and np.median(away) < np.nanmedian(sigma_z)
