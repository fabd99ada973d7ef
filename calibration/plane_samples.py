"""Frames of a white plane, averaged over blocks, as the fit of near lights takes them: the model of their shading is here.

The camera sees W_k(u, v) = V(u, v) · s_k · (P_k − X)·n / |P_k − X|³; see :mod:`rakelight.calibration.plane_lights`.

Frame: OpenCV camera frame in mm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.calibration._white_frames import check_white
from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.levels import SATURATION
from rakelight.reconstruction.models import Camera, Plane

FloatArray = NDArray[np.float64]

_FIELDS = 32  # blocks along the longer side


@dataclass(frozen=True, eq=False)
class PlaneSamples:
    """Frames of a white plane, averaged over blocks of the image.

    Attributes
    ----------
    zones : tuple of int
        K.
    points : (N, 3) float64
        Where the viewing rays of the blocks' middles meet the plane, mm, camera frame.
    normal : (3,) float64
        Of the plane, towards the camera, camera frame.
    logs : (K, N) float64
        Logarithm of the DN above dark, brought to one exposure.
    sigma : (K, N) float64
        Standard deviation of ``logs``, from the scatter within the blocks of what does not cancel between zones.
    name : str
        Of the recording, for messages.
    """

    zones: tuple[int, ...]
    points: FloatArray
    normal: FloatArray
    logs: FloatArray
    sigma: FloatArray
    name: str = ""

    def where(self, keep: NDArray[np.bool_]) -> PlaneSamples:
        """The same without the blocks that are not in ``keep`` (N,)."""
        return replace(self, points=self.points[keep], logs=self.logs[:, keep], sigma=self.sigma[:, keep])

    def misfit(self, positions: FloatArray, log_strengths: FloatArray) -> FloatArray:
        """(K, N) log of what the zones show above the model, without what they have in common in each block."""
        to_source = positions[:, None] - self.points[None]
        height = to_source @ self.normal
        squared = np.einsum("kni,kni->kn", to_source, to_source)
        away = self.logs - log_strengths[:, None] - np.log(np.maximum(height, 1e-6)) + 1.5 * np.log(squared)
        weight = self.sigma**-2
        return np.asarray(away - (weight * away).sum(0) / weight.sum(0))

    def jacobian(self, positions: FloatArray) -> FloatArray:
        """(K·N, 4K) derivatives of :meth:`misfit` over sigma by positions (zone by zone), then log powers."""
        count, blocks = self.logs.shape
        to_source = positions[:, None] - self.points[None]
        squared = np.einsum("kni,kni->kn", to_source, to_source)
        own = 3.0 * to_source / squared[..., None] - self.normal / (to_source @ self.normal)[..., None]
        weight = self.sigma**-2
        weight = weight / weight.sum(0)
        out = np.zeros((count, blocks, 4 * count))
        for k in range(count):
            part = (np.arange(count)[:, None] == k) - weight[k]  # of a change in zone k that each zone keeps
            part = part / self.sigma
            out[..., 3 * k : 3 * k + 3] = part[..., None] * own[k]
            out[..., 3 * count + k] = -part
        return out.reshape(count * blocks, 4 * count)


def sample_plane(
    frames: Mapping[int, NDArray[Any]],
    camera: Camera,
    plane: Plane,
    *,
    full_scale: float,
    below: NDArray[Any] | float = 0.0,
    exposure_us: Mapping[int, float] | None = None,
) -> PlaneSamples:
    """Average frames of a white plane over blocks of even sides, so that each holds whole cells of a Bayer mosaic.

    Parameters
    ----------
    frames : mapping of zone to (H, W) real
        Raw linear DN, one a zone (or the mean of several), of the size of ``camera``.
    plane : Plane
        The white surface itself: the table raised by the height of the plate.
    full_scale : float
        Largest DN; blocks with a pixel at 98 % of it are left out.
    below : (H, W) or float
        What lies below the white, DN: dark or ambient light.
    exposure_us : mapping of zone to float, optional
        Of the frames; without it all zones count as exposed alike.

    Raises
    ------
    CalibrationError
        As :func:`rakelight.calibration.flat_field.build_flat_field` (``calibration.white_dark``,
        ``calibration.white_uneven``); ``calibration.white_saturated`` where under half of the blocks are left;
        ``calibration.exposure_mismatch`` for exposures of only some zones; ``calibration.size_mismatch``.
    """
    zones = tuple(sorted(frames))
    if len(zones) < 2:
        raise InputError(f"white frames of {len(zones)} zones; ratios need at least 2")
    if exposure_us is not None and set(exposure_us) < set(zones):
        raise CalibrationError(
            f"the exposure is known of zones {sorted(exposure_us)}, white frames were given of {list(zones)}",
            hint="state the exposure of every zone, or record all zones with one",
            code="calibration.exposure_mismatch",
        )
    side = max(2, 2 * round(max(camera.width, camera.height) / _FIELDS / 2))
    sums, cells = [], []
    usable = np.ones((camera.height // side, camera.width // side), np.bool_)
    for zone in zones:
        raw = check_array(f"white frame of zone {zone}", frames[zone], ndim=2, finite=True)
        if raw.shape != (camera.height, camera.width):
            raise CalibrationError(
                f"white frame of zone {zone} has {raw.shape[1]}×{raw.shape[0]} px, the camera {camera.width}×{camera.height}",
                hint="give full frames, or the camera of their window",
                code="calibration.size_mismatch",
            )
        white = (raw - below).astype(np.float32)
        check_white(zone, white, full_scale)
        usable = usable & ~_blocks(raw >= SATURATION * full_scale, side).any(axis=-1)
        exposure = 1.0 if exposure_us is None else exposure_us[zone]
        cell = _blocks(_cells(white), side // 2) / exposure
        usable = usable & (cell.min(axis=-1) > 0)
        cells.append(cell)
        sums.append(cell.mean(axis=-1))
    usable = usable & _inner(usable.shape)
    if usable.sum() < max(20, 0.5 * usable.size):
        raise CalibrationError(
            f"only {usable.mean():.0%} of the white plane's fields are free of saturated and black pixels under every zone; "
            "at least 50 % are needed",
            hint="lower the exposure until the white plane peaks at 70-80 % of full scale, and fill the field with it",
            code="calibration.white_saturated",
        )
    share = np.array([c[usable] for c in cells])
    share = share / share.sum(axis=0)  # what all zones have in common cancels cell by cell, with a 1/K of the noise
    # differences of neighbours: the shading itself varies within a block
    scatter = np.sqrt(np.mean(np.diff(share, axis=-1) ** 2, axis=-1) / 2 * len(zones) / (len(zones) - 1))
    sigma = scatter / share.mean(axis=-1) / np.sqrt(share.shape[-1])
    rows, columns = np.nonzero(usable)
    uv = np.stack([columns, rows], axis=-1) * float(side) + (side - 1) / 2
    points = plane.intersect(*camera.rays(uv))
    logs = np.log(np.array([s[usable] for s in sums]))
    # the scatter of one block is itself uncertain; neighbours have the same noise
    sigma = np.maximum(sigma, 0.5 * np.median(sigma, axis=1, keepdims=True))
    return PlaneSamples(zones, points, plane.normal, logs, np.maximum(sigma, 1e-7))


def _cells(image: NDArray[np.float32]) -> FloatArray:
    """Means of 2×2 pixels: one cell of a Bayer mosaic each."""
    h, w = image.shape[0] // 2, image.shape[1] // 2
    return np.asarray(image[: 2 * h, : 2 * w].reshape(h, 2, w, 2).mean(axis=(1, 3), dtype=np.float64))


def _blocks(image: NDArray[Any], side: int) -> NDArray[Any]:
    """(rows, columns, side²) pixels of the blocks; an incomplete margin is left out."""
    down, across = image.shape[0] // side, image.shape[1] // side
    blocks = image[: down * side, : across * side].reshape(down, side, across, side)
    return np.asarray(blocks.transpose(0, 2, 1, 3).reshape(down, across, side * side))


def _inner(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Without the outermost blocks, where a plate may end."""
    keep = np.zeros(shape, np.bool_)
    keep[1:-1, 1:-1] = True
    return keep
