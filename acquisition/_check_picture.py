"""Checks on the sharp and still picture: width of its edges, and shift of the part between two frames.

Both look at a few small tiles of the frame in its own pixels, chosen where a reduced copy shows most structure, so that
a frame of 20 megapixels costs no more than a small one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition._check import Check, at_most, reduced, step_of
from rakelight.acquisition.recipe import Limits

Picture = NDArray[np.float32]
_MOTION_TILE_PX = 512
_MOTION_TILES = 2  # a side: one in each quarter
_WINDOW = 16  # cells of a tile in which a shift is measured on its own, so that a turn shows
_CLEAR = 300.0  # of a window's squared slope to its noise; below it nothing is believed
_NOISE_MARGIN = 6.0
_QUIET_PERCENTILE = 10
_DIM = 0.2  # of the bright windows' light; below it other noise than that of photons counts
_UNSATURATED = 0.8  # of full scale: the mean of a cell whose green photosites are just full
_EDGE_TILE_PX = 96
_EDGE_TILES = 4  # a side
_REACH_PX = 16  # along a row, to both sides of an edge, where its bright and dark ends are looked for
_LEAST_CONTRAST = 0.15  # of an edge, as a share of that of the picture; far below it noise is measured
_LEAST_EDGES = 20
_LEAST_RESPONSE = 0.3  # of a phase correlation's peak; structure gives 0.9 and more, noise alone up to 0.2
_CHANGED = 0.05  # mean difference of two pictures without structure, as a share of their brightness


@dataclass(frozen=True)
class Tile:
    """A square of a frame: place of its first pixel, and its grey values."""

    u: int
    v: int
    picture: Picture


@dataclass(frozen=True)
class View:
    """What is kept of one frame to compare another with: a reduced copy and its tiles of 2×2-px cells."""

    small: Picture
    step_px: int
    tiles: tuple[Tile, ...]


# -------------------------------------------------------------------------------------------------------------- motion
def view(image: NDArray[Any], like: View | None = None) -> View:
    """Keep of a frame what :func:`shift_px` needs, at the places of ``like`` if that is given."""
    if like is not None:
        places = [(tile.u, tile.v) for tile in like.tiles]
        size = 2 * like.tiles[0].picture.shape[0] if like.tiles else 0
    else:
        size = min(_MOTION_TILE_PX, *image.shape[:2]) // 2 * 2
        places = _structured(image, _MOTION_TILES, size)
    tiles = tuple(Tile(u, v, _cells(image[v : v + size, u : u + size])) for u, v in places)
    return View(reduced(image), step_of(image.shape[1]), tiles)


def shift_px(before: View, after: View, full_scale: float) -> float:
    """By how many px of the frame the picture shifted, where it shifted most.

    Shifts of the whole part by phase correlation (Kuglin, Hines, "The phase correlation image alignment method", Proc. IEEE
    Conf. Cybernetics and Society, 163-165, 1975) of tiles, large ones of the reduced copies; turns by the small shifts of
    windows in the tiles, :func:`_local_shift`.
    """
    coarse, response = _correlate(before.small, after.small)
    if coarse > 2 and response > _LEAST_RESPONSE:
        return coarse * before.step_px
    pairs = [(a.picture, b.picture) for a, b in zip(before.tiles, after.tiles, strict=True)]
    found = [_correlate(*pair) for pair in pairs]
    if trusted := [shift for shift, response in found if response > _LEAST_RESPONSE]:
        whole = 2 * max(trusted)
        return whole if whole > 1 else max(whole, 2 * _local_shift(pairs, full_scale))
    a, b = (cv2.blur(each.small, (5, 5)) for each in (before, after))
    same = float(np.abs(a - b).mean()) <= _CHANGED * float(a.mean())  # nothing to see in either
    return 0.0 if same else max(coarse * before.step_px, *(tile.picture.shape[0] for tile in before.tiles))


def _local_shift(pairs: list[tuple[Picture, Picture]], full_scale: float) -> float:
    """The largest shift in cells of any window of the tiles: its change over its slope, root mean square, without noise.

    To first order a shift d changes a picture of gradient g by g·d. Larger shifts, and changes that are no shift, count
    for less than they are, but do not vanish as they do where shifts of all directions are averaged. Noise is taken
    from the windows that changed least, proportional to brightness as that of photons; saturated ones have none.
    """
    change, slope, level = np.concatenate([_of_windows(*pair, full_scale) for pair in pairs], axis=1)
    if not slope.size:
        return 0.0
    light = level - level.min()  # above the black level, which somewhere nearly shows
    dim = max(_DIM * float(np.percentile(light, 90)), 1e-6)
    light = np.maximum(light, dim)
    noise = light * np.percentile((change / light)[light > dim], _QUIET_PERCENTILE) if (light > dim).any() else change
    shifted = np.where(slope > _CLEAR * noise, change - _NOISE_MARGIN * noise, 0) / np.maximum(slope, 1e-9)
    return float(np.sqrt(np.max(shifted, initial=0)))


def _of_windows(a: Picture, b: Picture, full_scale: float) -> NDArray[np.float64]:
    """(3, n): mean squared change, mean squared slope and mean level of the windows of a tile that are not saturated."""
    rows, columns = (n // _WINDOW for n in a.shape)

    def windows(values: NDArray[Any]) -> NDArray[np.float64]:
        whole = values[: rows * _WINDOW, : columns * _WINDOW].astype(np.float64)
        return whole.reshape(rows, _WINDOW, columns, _WINDOW).swapaxes(1, 2).reshape(rows * columns, -1)

    unsaturated = windows(np.maximum(a, b)).max(axis=1, initial=0) < _UNSATURATED * full_scale
    a, b = (np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.0), np.float32) for picture in (a, b))
    mean = (a + b) / 2
    down, along = np.gradient(mean)
    means = [windows(each).mean(axis=1) for each in (np.square(b - a), np.square(down) + np.square(along), mean)]
    return np.stack(means)[:, unsaturated]


def motion(shift: float, limits: Limits) -> list[Check]:
    """Whether the part lay still from its first frame to its last."""
    sentence = (
        f"the part moved by {shift:.2f} px between the first frame and the last, allowed {limits.motion_px:g} px: "
        "hold it, keep the table from shaking, and capture again"
    )
    return [at_most("motion", shift, limits.motion_px, sentence)]


def _correlate(a: Picture, b: Picture) -> tuple[float, float]:
    """Shift in cells, and how far the peak stands out (1: a perfect match)."""
    rows, columns = (_even_dft_size(n) for n in a.shape)
    a, b = (np.ascontiguousarray(picture[:rows, :columns]) for picture in (a, b))
    window = cv2.createHanningWindow((columns, rows), cv2.CV_32F)
    (du, dv), response = cv2.phaseCorrelate(a - a.mean(), b - b.mean(), window)
    return float(np.hypot(du, dv)), float(response)


def _even_dft_size(most: int) -> int:
    """The largest size up to ``most`` that OpenCV neither pads nor takes half a cell off the middle of."""
    return next(n for n in range(most // 2 * 2, 1, -2) if cv2.getOptimalDFTSize(n) == n)


def _cells(image: NDArray[Any]) -> Picture:
    """Means of 2×2 photosites, side by side, in which a colour filter plays no part."""
    rows, columns = (n // 2 * 2 for n in image.shape[:2])
    sums = sum(image[i:rows:2, j:columns:2].astype(np.float32) for i in (0, 1) for j in (0, 1))
    mean = np.asarray(sums, np.float32) / np.float32(4)
    return np.ascontiguousarray(mean.mean(axis=2) if image.ndim == 3 else mean)


def _structured(image: NDArray[Any], count: int, size: int) -> list[tuple[int, int]]:
    """(u, v) of the first pixel of count × count tiles of ``size`` px, each where its part of the frame has most structure."""
    small, step = reduced(image), step_of(image.shape[1])
    slope = np.abs(cv2.Sobel(small, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(small, cv2.CV_32F, 0, 1))
    side = max(1, size // step)
    structure = cv2.blur(slope, (side, side), borderType=cv2.BORDER_CONSTANT)
    height, width = image.shape[:2]
    places = []
    for row, column in product(range(count), repeat=2):
        rows = slice(row * small.shape[0] // count, (row + 1) * small.shape[0] // count)
        columns = slice(column * small.shape[1] // count, (column + 1) * small.shape[1] // count)
        v, u = np.unravel_index(np.argmax(structure[rows, columns]), structure[rows, columns].shape)
        places.append(
            (
                _placed(int((u + columns.start) * step), size, column, count, width),
                _placed(int((v + rows.start) * step), size, row, count, height),
            )
        )
    return places


def _placed(centre: int, size: int, number: int, count: int, length: int) -> int:
    """First pixel (even) of a tile round ``centre`` in its own part of the frame, or in all of it where that is too small."""
    first, last = number * length // count, (number + 1) * length // count - size
    if last < first:
        first, last = 0, length - size
    return min(max(centre - size // 2, first), last) // 2 * 2


# --------------------------------------------------------------------------------------------------------------- focus
def edge_width_px(image: NDArray[Any]) -> float:
    """Width of the sharpest edges of a frame in px: their contrast over their steepest slope, lower quartile.

    A Gaussian blur of sigma s makes an edge 2.5·s wide; the mean of 2×2 photosites, which takes the colour filter out,
    keeps it above 1.3 px. Where no edge has the contrast, the answer is the longest width that could be found.
    """
    size = min(_EDGE_TILE_PX, *image.shape[:2])
    dark, bright = np.percentile(reduced(image), (1, 99))
    least = max(_LEAST_CONTRAST * float(bright - dark), 1e-6)
    widths: list[NDArray[np.float32]] = []
    for u, v in _structured(image, _EDGE_TILES, size):
        tile = _slid(image[v : v + size, u : u + size])
        widths += [_widths(tile, least), _widths(np.ascontiguousarray(tile.T), least)]
    found = np.concatenate(widths)
    return float(np.percentile(found, 25)) if found.size >= _LEAST_EDGES else 2.0 * _REACH_PX


def focus(width_px: float, limits: Limits) -> list[Check]:
    """Whether the sharpest edges are as narrow as the recipe wants them; its limit 0 wants nothing."""
    limit = limits.focus_px or float(2 * _REACH_PX)
    sentence = (
        f"the sharpest edges are {width_px:.1f} px wide, allowed {limit:g} px: focus the lens, clean it, check the "
        "part's height"
    )
    return [at_most("focus", width_px, limit, sentence)]


def _slid(image: NDArray[Any]) -> Picture:
    """Means of 2×2 photosites at every pixel: each holds one red, one blue and two green ones, wherever it lies."""
    grey = image.mean(axis=2, dtype=np.float32) if image.ndim == 3 else image.astype(np.float32)
    return np.asarray((grey[:-1, :-1] + grey[1:, :-1] + grey[:-1, 1:] + grey[1:, 1:]) / np.float32(4))


def _widths(tile: Picture, least_contrast: float) -> NDArray[np.float32]:
    """Width of the steepest edge of each row, where it has contrast; an oblique edge counts along its own slope."""
    down, along = (np.asarray(each) for each in np.gradient(tile))
    inner = np.abs(along[:, _REACH_PX:-_REACH_PX])
    if not inner.size:
        return np.empty(0, np.float32)
    rows, at = np.arange(len(tile)), inner.argmax(axis=1) + _REACH_PX
    near = tile[rows[:, None], at[:, None] + np.arange(-_REACH_PX, _REACH_PX + 1)]
    contrast = near.max(axis=1) - near.min(axis=1)
    slope = np.hypot(along[rows, at], down[rows, at])
    clear = contrast > least_contrast
    return np.asarray((contrast / np.maximum(slope, 1e-6))[clear], np.float32)
