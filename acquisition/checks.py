"""Does a finished capture show what it should? Named checks on the pictures themselves, with limits of the recipe.

They find what counters cannot: a dead lamp, two swapped cables, light from the room, a projector that stays dark or shows
another pattern, a wrong exposure, a lens out of focus, a part that moved. Each answers with its figure, its limit and a
sentence that a technician understands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition import _check_patterns, _check_picture, _check_zones
from rakelight.acquisition._check import Check, at_most, reduced
from rakelight.acquisition.recipe import Limits, PlannedShot, Region
from rakelight.reconstruction.patterns import Pattern, Uniform

__all__ = ["Check", "Watcher"]

_SATURATED = 0.98  # of full scale; above it a sensor bends
_EVERY_PX = 5  # in both directions; odd, so that all colours of a filter are looked at


@dataclass
class Watcher:
    """Keeps of the frames what checks need; ``add`` each frame, then ask for ``checks``.

    ``full_scale`` is the largest raw value; ``region`` (x, y, width, height in px of the frame) is where content is looked
    at, None for the whole frame. What is kept is small: reduced copies, in which a colour filter plays no part, and a few
    tiles; of one direction's patterns at a time.
    """

    full_scale: float
    region: Region | None = None
    zones: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    ambient: NDArray[np.float32] | None = None
    saturated: dict[str, float] = field(default_factory=dict)
    projectors: dict[int, _check_patterns.Projector] = field(default_factory=dict)
    edge_px: float | None = None
    shift_px: float | None = None
    _first: dict[tuple[int, ...], _check_picture.View] = field(default_factory=dict)

    def add(self, shot: PlannedShot, image: NDArray[Any]) -> None:
        """Look at one frame (H, W) or (H, W, 3)."""
        if self.region is not None:
            x, y, width, height = self.region
            image = image[y : y + height, x : x + width]
        role = shot.shot.role
        if role == "zone" and shot.shot.zone is not None:
            self.zones[shot.shot.zone] = reduced(image)
            self.saturated[shot.shot.name] = self._saturated_share(image)
        elif role == "all_zones":
            self.saturated[shot.shot.name] = self._saturated_share(image)
            self.edge_px = _check_picture.edge_width_px(image)
            self._first[shot.zones] = _check_picture.view(image)
        elif role == "repeat" and shot.zones in self._first:
            before = self._first[shot.zones]
            self.shift_px = _check_picture.shift_px(before, _check_picture.view(image, before), self.full_scale)
        elif role == "ambient":
            self.ambient = reduced(image)
        elif role == "pattern" and shot.direction is not None:
            self._add_pattern(shot, shot.direction, image)

    def _add_pattern(self, shot: PlannedShot, direction: int, image: NDArray[Any]) -> None:
        """Of bracketed exposures the shortest tells what is saturated and shown, the longest what is too dark."""
        for other, projector in self.projectors.items():
            if other != direction:
                projector.settle(self.full_scale)
        seen = self.projectors.setdefault(direction, _check_patterns.Projector())
        name, bracket, picture = shot.shot.name, shot.shot.bracket, reduced(image)
        reach = seen.reach or _check_patterns.Reach(bracket, picture, picture)
        seen.reach = reach.add(bracket, picture)
        if bracket > 1:
            return
        seen.saturated = max(seen.saturated, (self._saturated_share(image), name))
        pattern = Pattern.from_plain(shot.shot.pattern)
        seen.frames.append(_check_patterns.Shown(name, pattern, picture))
        level = float(np.percentile(picture, 95))
        seen.white = max(seen.white, level)
        if pattern == Uniform(0.0):
            seen.black = level

    def _saturated_share(self, image: NDArray[Any]) -> float:
        least = math.ceil(_SATURATED * self.full_scale) if image.dtype.kind == "u" else _SATURATED * self.full_scale
        return float((image[::_EVERY_PX, ::_EVERY_PX] >= least).mean())

    def checks(self, limits: Limits, azimuths_deg: Mapping[int, float] | None = None) -> list[Check]:
        """All checks that the frames allow. ``azimuths_deg`` says from where each zone shines (0 right, 90 up), to find
        swapped cables; without it that check is left out. What follows from a dead lamp, a dark projector or a part that moved
        is not told a second time."""
        floor = self.ambient if self.ambient is not None else np.float32(0)
        lit = {zone: np.maximum(picture - floor, 0) for zone, picture in self.zones.items()}
        dead = _check_zones.dead(lit, limits)
        found = [*self._saturation(limits), *dead]
        if all(check.passed for check in dead):
            if azimuths_deg is not None and len(lit) >= 3:
                found += _check_zones.order(lit, azimuths_deg, limits)
            found += [
                *_check_zones.distinct(lit, limits),
                *_check_zones.under_exposed(lit, self.full_scale, limits),
            ]
        if self.ambient is not None and lit:
            found += _check_zones.room(self.ambient, lit, limits)
        for projector in self.projectors.values():
            projector.settle(self.full_scale)
        motion = _check_picture.motion(self.shift_px, limits) if self.shift_px is not None else []
        still = all(check.passed for check in motion)
        found += _check_patterns.checks(self.projectors, self.ambient, self.full_scale, still, limits)
        if self.edge_px is not None:
            found += _check_picture.focus(self.edge_px, limits)
        return [*found, *motion]

    def _saturation(self, limits: Limits) -> list[Check]:
        return [
            at_most(
                "saturation",
                share,
                limits.saturated,
                f"{name}: {share:.1%} of the pixels are saturated, allowed {limits.saturated:.1%}: shorten the exposure",
            )
            for name, share in self.saturated.items()
        ]
