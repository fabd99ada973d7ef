"""Does a finished capture show what it should? Named checks on the pictures themselves, with limits of the recipe.

They find what counters cannot: a dead lamp, two swapped cables, light from the room, a projector that stays dark, an
exposure that is too long. Each answers with its figure, its limit and a sentence that a technician understands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition.recipe import Limits, PlannedShot

_WIDTH = 320  # of the reduced pictures that the checks look at
_DEAD_RATIO = 0.25  # to the median of the other zones; a weak lamp is not yet a dead one
_ORDER_DEG = 60.0  # between where a zone's light comes from and where it should
_PATTERN_RATIO = 0.2  # a pattern's white over that of the other directions


@dataclass(frozen=True)
class Check:
    """One answer: ``value`` and ``limit`` are in the unit that ``sentence`` names."""

    name: str
    passed: bool
    value: float
    limit: float
    sentence: str

    @property
    def at_least(self) -> bool:
        """Whether the value must not be below the limit, instead of above it."""
        return self.name in ("dead_zone", "dark_projector")

    def to_plain(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {**vars(self), "value": round(self.value, 5)}


@dataclass
class Watcher:
    """Keeps a reduced copy of the frames that checks need; ``add`` each frame, then ask for ``checks``.

    ``full_scale`` is the largest raw value. Copies are every n-th cell of 2×2 photosites, averaged, so that a colour filter
    plays no part.
    """

    full_scale: float
    zones: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    ambient: NDArray[np.float32] | None = None
    white: dict[int, float] = field(default_factory=dict)
    black: dict[int, float] = field(default_factory=dict)
    saturated: dict[str, float] = field(default_factory=dict)

    def add(self, shot: PlannedShot, image: NDArray[Any]) -> None:
        """Look at one frame (H, W) or (H, W, 3)."""
        role, plain = shot.shot.role, shot.shot.pattern or {}
        if role == "zone" and shot.shot.zone is not None:
            self.zones[shot.shot.zone] = reduced(image)
            self.saturated[shot.shot.name] = float((image[::4, ::4] >= 0.98 * self.full_scale).mean())
        elif role == "ambient":
            self.ambient = reduced(image)
        elif role == "pattern" and plain.get("kind") == "uniform" and shot.direction is not None:
            level = float(np.percentile(reduced(image), 95))
            (self.white if plain.get("level", 0) > 0.5 else self.black)[shot.direction] = level

    def checks(self, limits: Limits, azimuths_deg: Mapping[int, float] | None = None) -> list[Check]:
        """All checks that the frames allow. ``azimuths_deg`` says from where each zone shines (0 right, 90 up), to find
        swapped cables; without it that check is left out."""
        floor = self.ambient if self.ambient is not None else np.float32(0)
        lit = {zone: np.maximum(picture - floor, 0) for zone, picture in self.zones.items()}
        found = [*self._saturation(limits), *_dead(lit), *self._room(lit, limits)]
        if (
            azimuths_deg is not None
            and len(lit) >= 3
            and all(check.passed for check in found if check.name == "dead_zone")
        ):
            found += _order(lit, azimuths_deg)
        return [*found, *self._patterns(limits)]

    def _saturation(self, limits: Limits) -> list[Check]:
        return [
            Check(
                "saturation",
                share <= limits.saturated,
                share,
                limits.saturated,
                f"{name}: {share:.1%} of the pixels are saturated, allowed {limits.saturated:.1%}: shorten the exposure",
            )
            for name, share in self.saturated.items()
        ]

    def _room(self, lit: Mapping[int, NDArray[np.float32]], limits: Limits) -> list[Check]:
        """Light of the room against that of the zones; the black level is the dimmest of all pixels."""
        if self.ambient is None or not lit:
            return []
        black = float(np.percentile(self.ambient, 1))
        room = float(np.median(self.ambient)) - black
        signal = float(np.median([np.percentile(picture, 90) for picture in lit.values()]))
        share = room / signal if signal > 0 else float("inf")
        sentence = (
            f"room light is {share:.1%} of the lamps', allowed {limits.ambient:.1%}: close the hood, darken the room"
        )
        return [Check("ambient", share <= limits.ambient, min(share, 1e6), limits.ambient, sentence)]

    def _patterns(self, limits: Limits) -> list[Check]:
        found = []
        brightest = max(self.white.values(), default=0.0)
        for direction, white in sorted(self.white.items()):
            black = self.black.get(direction, 0.0)
            level = float(np.percentile(self.ambient, 95)) if self.ambient is not None else black
            ratio = (white - level) / max(brightest - level, 1e-9)
            found.append(
                Check(
                    "dark_projector",
                    ratio >= _PATTERN_RATIO,
                    ratio,
                    _PATTERN_RATIO,
                    f"projector {direction} shows {ratio:.0%} of the brightest one's white, needed {_PATTERN_RATIO:.0%}: "
                    "check its cable and lamp",
                )
            )
            rest = (black - level) / max(white - level, 1e-9)
            found.append(
                Check(
                    "black_pattern",
                    rest <= limits.ambient,
                    rest,
                    limits.ambient,
                    f"projector {direction}: black is {rest:.1%} of white, allowed {limits.ambient:.1%}: it shows something "
                    "else than it was told, or stray light reaches the part",
                )
            )
        return found


def _dead(lit: Mapping[int, NDArray[np.float32]]) -> list[Check]:
    levels = {zone: float(picture.mean()) for zone, picture in lit.items()}
    found = []
    for zone, level in sorted(levels.items()):
        others = [other for z, other in levels.items() if z != zone]
        if others:
            ratio = level / max(float(np.median(others)), 1e-9)
            sentence = f"zone {zone} gives {ratio:.0%} of the other zones' light, needed {_DEAD_RATIO:.0%}: check lamp and cable"
            found.append(Check("dead_zone", ratio >= _DEAD_RATIO, ratio, _DEAD_RATIO, sentence))
    return found


def _order(lit: Mapping[int, NDArray[np.float32]], azimuths_deg: Mapping[int, float]) -> list[Check]:
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
            f"zone {zone} shines from {azimuth % 360:.0f}° instead of {azimuths_deg[zone]:.0f}°, allowed ±{_ORDER_DEG:.0f}°: are "
            "two lamps' cables swapped?"
        )
        found.append(Check("zone_order", apart <= _ORDER_DEG, apart, _ORDER_DEG, sentence))
    return found


def reduced(image: NDArray[Any]) -> NDArray[np.float32]:
    """A small grey copy (h, w) float32: the mean of every n-th 2×2 cell, at most about 320 wide."""
    grey = image.mean(axis=2, dtype=np.float32) if image.ndim == 3 else image
    step = max(2, 2 * round(grey.shape[1] / (2 * _WIDTH)))
    rows, columns = (grey.shape[0] - 1) // step * step, (grey.shape[1] - 1) // step * step
    cells = [grey[i:rows:step, j:columns:step].astype(np.float32) for i in (0, 1) for j in (0, 1)]
    return np.asarray(sum(cells) / np.float32(4), np.float32)
