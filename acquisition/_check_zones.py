"""Checks on the pictures of the light zones: dead, swapped or doubled lamps, exposure, light of the room."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition._check import Check, at_least, at_most
from rakelight.acquisition.recipe import Limits

Picture = NDArray[np.float32]
BRIGHT_PERCENTILE = 99  # small parts fill a few percent of a frame; above it lie glints
_BLOCK = 4  # cells of a reduced picture that are summed before two zones are compared, so that noise plays no part


def dead(lit: Mapping[int, Picture], limits: Limits) -> list[Check]:
    """The light of each zone over the median of the others; a weak lamp is not yet a dead one."""
    levels = {zone: float(picture.mean()) for zone, picture in lit.items()}
    found = []
    for zone, level in sorted(levels.items()):
        others = [other for z, other in levels.items() if z != zone]
        if others:
            ratio = level / max(float(np.median(others)), 1e-9)
            sentence = (
                f"zone {zone} gives {ratio:.0%} of the other zones' light, needed {limits.dead_zone:.0%}: "
                "check lamp and cable"
            )
            found.append(at_least("dead_zone", ratio, limits.dead_zone, sentence))
    return found


def order(lit: Mapping[int, Picture], azimuths_deg: Mapping[int, float], limits: Limits) -> list[Check]:
    """From where each zone shines, by the slope of its share of all light: near the lamp its share is larger."""
    total = np.sum(list(lit.values()), axis=0)
    usable = total > 0.2 * np.percentile(total, 50)
    v, u = np.indices(total.shape)
    design = np.stack([u[usable], v[usable], np.ones(int(usable.sum()))], axis=1)
    found = []
    for zone, picture in sorted(lit.items()):
        if zone not in azimuths_deg:
            continue
        slope, *_ = np.linalg.lstsq(design, (picture / np.maximum(total, 1e-9))[usable], rcond=None)
        azimuth = float(np.degrees(np.arctan2(-slope[1], slope[0])))
        apart = abs((azimuth - azimuths_deg[zone] + 180) % 360 - 180)
        sentence = (
            f"zone {zone} shines from {azimuth % 360:.0f}° instead of {azimuths_deg[zone]:.0f}°, allowed "
            f"±{limits.zone_order_deg:.0f}°: are two lamps' cables swapped?"
        )
        found.append(at_most("zone_order", apart, limits.zone_order_deg, sentence))
    return found


def distinct(lit: Mapping[int, Picture], limits: Limits) -> list[Check]:
    """How much the ratio of two zones' light varies over the picture; for each zone the pair that is most alike.

    Two lamps in different places light no two spots in the same ratio, whatever lies there; one lamp taken twice does.
    The figure is the standard deviation of log(a/b), weighted with the light, over blocks of the picture.
    """
    blocks = {zone: _blocks(picture) for zone, picture in lit.items()}
    spreads = {(a, b): _spread(blocks[a], blocks[b]) for a, b in combinations(sorted(blocks), 2)}
    found = []
    for zone in sorted(blocks):
        pairs = {pair: spread for pair, spread in spreads.items() if pair[1] == zone}
        if pairs:
            (a, b), spread = min(pairs.items(), key=lambda item: item[1])
            sentence = (
                f"zones {a} and {b} differ by {spread:.1%} over the picture, needed {limits.zone_distinct:.1%}: does one lamp "
                "light both? check the channels in rig.toml and the cables"
            )
            found.append(at_least("zone_distinct", spread, limits.zone_distinct, sentence))
    return found


def _blocks(picture: Picture) -> Picture:
    rows, columns = (n // _BLOCK * _BLOCK for n in picture.shape)
    cells = picture[:rows, :columns].reshape(rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK)
    return np.asarray(cells.mean(axis=(1, 3)))


def _spread(a: Picture, b: Picture) -> float:
    both = np.minimum(a, b)
    usable = both > max(0.2 * float(np.median(both)), 1e-6)
    if np.count_nonzero(usable) < 2:
        return 0.0
    weight = (a + b)[usable]
    ratio = np.log(a[usable] / b[usable])
    mean = np.average(ratio, weights=weight)
    return float(np.sqrt(np.average((ratio - mean) ** 2, weights=weight)))


def under_exposed(lit: Mapping[int, Picture], full_scale: float, limits: Limits) -> list[Check]:
    """The bright parts of each zone's picture, without the room's light, as a share of full scale."""
    found = []
    for zone, picture in sorted(lit.items()):
        level = float(np.percentile(picture, BRIGHT_PERCENTILE)) / full_scale
        sentence = (
            f"zone {zone}: bright parts reach {level:.1%} of full scale, needed {limits.under_exposed:.1%}: lengthen the "
            "exposure, or set the recipe's region to the part"
        )
        found.append(at_least("under_exposure", level, limits.under_exposed, sentence))
    return found


def room(ambient: Picture, lit: Mapping[int, Picture], limits: Limits) -> list[Check]:
    """Light of the room against that of the zones; the black level is the dimmest of all pixels."""
    black = float(np.percentile(ambient, 1))
    light = float(np.median(ambient)) - black
    signal = float(np.median([np.percentile(picture, 90) for picture in lit.values()]))
    share = light / signal if signal > 0 else float("inf")
    sentence = f"room light is {share:.1%} of the lamps', allowed {limits.ambient:.1%}: close the hood, darken the room"
    return [at_most("ambient", min(share, 1e6), limits.ambient, sentence)]
