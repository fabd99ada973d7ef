"""Live pictures of a guided calibration: well exposed, reduced to what the guide can judge several times a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition.rig import Rig
from rakelight.acquisition.single_shots import SingleShots
from rakelight.calibration.boards import Board
from rakelight.calibration.corners import find_corners, grey_of
from rakelight.calibration.views import View
from rakelight.dataset.recording import full_scale_of
from rakelight.pipeline.exposure_search import AIM, search_exposure, towards
from rakelight.pipeline.guide import SATURATED, Light, light_of

FloatArray = NDArray[np.float64]

_FIRST_US = 2000.0
_MOST_US = 300_000.0  # beyond it nobody can hold a board still
_LIVE_PX = 1600  # wider pictures are reduced
_REDUCED_VARIANCE = 0.097  # what averaging k×k px adds to the squared width of an edge, in k² px²
_NEAR = 0.2  # of the aim: a live picture that is off by more is taken again
_PICTURES = 5


@dataclass(frozen=True, eq=False)
class Picture:
    """A live picture.

    Attributes
    ----------
    grey : (h, w) float32
        DN; every cell the mean of ``shrink`` × ``shrink`` px.
    shrink : int
    size : (int, int)
        Width and height of the frame in px.
    raw : (H, W) uint8 or uint16
    full_scale : float
    """

    grey: NDArray[np.float32]
    shrink: int
    size: tuple[int, int]
    raw: NDArray[Any]
    full_scale: float

    def light(self, outline: FloatArray | None = None) -> Light:
        """How bright, by its single photosites: the green ones saturate first. ``outline`` in px of the frame."""
        step = 2 * (self.raw.shape[1] // (2 * _LIVE_PX)) + 1  # odd: all colours of the filter are looked at
        thinned = self.raw[::step, ::step].astype(np.float32)
        return light_of(thinned, self.full_scale, None if outline is None else outline / step)

    def view(self, name: str, board: Board) -> View:
        """The board's corners in px of the frame; raises as :func:`rakelight.calibration.corners.find_corners`."""
        found, k = find_corners(self.grey, board), self.shrink
        sharpness = found.sharpness_px * k
        if k > 1:
            sharpness = float(np.sqrt(max(sharpness**2 - _REDUCED_VARIANCE * k**2, 0.0)))
        return View(name, found.ids, found.uv * k + (k - 1) / 2, {}, sharpness, self.size)


class Eye:
    """Takes live pictures and finds exposures. Exposures are kept from one to the next, since little changes.

    ``all_us``, ``zone_us``, ``pattern_us``: under all zones, under the brightest single zone, under the brightest projector.
    """

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        c = rig.camera_settings(1.0)
        self.pixel_format = c.pixel_format
        self.all_us = self.zone_us = self.pattern_us = _FIRST_US

    def lit(self, shots: SingleShots, outline: Callable[[Picture], FloatArray | None] = lambda _: None) -> Picture:
        """A picture under all zones, exposed so that its bright parts reach 70 % of full scale.

        Without lights it is the mean of the projectors' whites, or the room. ``outline`` says where to look, px of the frame;
        the picture that it was asked of last is the one returned.
        """
        picture = self._picture(self._all(shots, self.all_us))
        for _ in range(_PICTURES):
            light = picture.light(outline(picture))
            if light.saturated <= SATURATED and abs(light.bright / AIM - 1) <= _NEAR:
                break
            wanted = self._within(shots, self.all_us * towards(light.bright))
            if abs(wanted / self.all_us - 1) < 1e-3:
                break
            self.all_us = wanted
            picture = self._picture(self._all(shots, self.all_us))
        else:
            outline(picture)  # whoever asked for it is told of every picture, the last one too
        return picture

    def lit_as_is(self, shots: SingleShots) -> Picture:
        """A picture under all zones with the exposure of the last one: behind a cap there is nothing to expose for."""
        return self._picture(self._all(shots, self.all_us))

    def unlit(self, shots: SingleShots) -> Picture:
        """A picture under the light of the room, exposed as the last one."""
        return self._picture(shots.zones((), self.all_us).image)

    def find_exposures(self, shots: SingleShots, outline: FloatArray | None, *, patterns: bool) -> None:
        """Settle ``zone_us`` and ``pattern_us`` for what lies there now, on the hull of ``outline`` or the whole picture."""
        if self._rig.zones:
            zones = self._rig.zones
            self.zone_us = search_exposure(
                lambda us: max(self._level(shots.zones((zone,), us).image, outline) for zone in zones),
                self.zone_us,
                self._range(shots),
            )
        projector = self._rig.projector
        if patterns and projector is not None:
            least, most = self._range(shots)
            directions = projector.directions
            self.pattern_us = search_exposure(
                lambda us: max(self._level(shots.white(d, us).image, outline) for d in directions),
                max(self.pattern_us, projector.minimum_exposure_us),
                (max(least, projector.minimum_exposure_us), most),
            )

    def _all(self, shots: SingleShots, exposure_us: float) -> NDArray[Any]:
        if self._rig.zones or not self._rig.directions:
            return shots.zones(self._rig.zones, exposure_us).image
        whites = [shots.white(direction, exposure_us).image for direction in self._rig.directions]
        return np.asarray(np.mean(whites, axis=0), whites[0].dtype)

    def _level(self, image: NDArray[Any], outline: FloatArray | None) -> float:
        light = self._picture(image).light(outline)
        return 1.0 if light.saturated > SATURATED else light.bright

    def _range(self, shots: SingleShots) -> tuple[float, float]:
        least, most = shots.exposure_range_us
        return least, min(most, _MOST_US)

    def _within(self, shots: SingleShots, exposure_us: float) -> float:
        least, most = self._range(shots)
        return min(max(exposure_us, least), most)

    def _picture(self, image: NDArray[Any]) -> Picture:
        raw = image if image.ndim == 2 else image.mean(axis=2).astype(image.dtype)
        height, width = raw.shape
        bayer = self.pixel_format[5:7] if self.pixel_format.startswith("Bayer") and image.ndim == 2 else None
        shrink = 1 if width <= _LIVE_PX else 2 * max(1, round(width / (2 * _LIVE_PX)))
        if shrink == 1:
            grey = grey_of(raw, bayer)
        else:
            rows, columns = height // shrink * shrink, width // shrink * shrink
            cells = raw[:rows, :columns].reshape(rows // shrink, shrink, columns // shrink, shrink)
            grey = cells.mean(axis=(1, 3), dtype=np.float32)
        top = full_scale_of(self.pixel_format.removesuffix("p")) or 1.0
        return Picture(grey, shrink, (width, height), raw, top)
