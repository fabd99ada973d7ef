"""Forms of defects that follow lines or lie on the surface: scratch, crack and contamination."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from rakelight.acquisition.simulator._defect_forms import (
    SINK_MM,
    Form,
    Plan,
    edge_for,
    oval,
    sized,
    smooth_step,
)
from rakelight.acquisition.simulator.solid import FloatArray

RIDGE = 1.7
"""Half width of a scratch with its ridges, in half widths of the groove."""

PASTES, CHIPS, FIBRES = (
    ("grease", "white paste", "ochre paste"),
    ("steel", "brass", "red plastic"),
    ("blue fibre", "white fibre"),
)
"""Names of the substances in :mod:`rakelight.acquisition.simulator.defects`."""


def scratch(rng: Generator) -> Plan:
    """A slightly bent groove with raised ridges and tapering ends, 0.1–0.3 mm wide and 20–60 µm deep.

    Across: −d cos²(πx/2) within the groove, at most 40° steep, and beside it ridges r d sin² of the material pushed out.
    """
    depth, spread = rng.uniform(0.02, 0.06), rng.uniform(0.0, 1.0)
    bow = rng.uniform(0.02, 0.12) * rng.choice([-1.0, 1.0])
    ridge, run = rng.uniform(0.12, 0.25), rng.uniform(0.2, 0.4)

    def plan(area_mm2: float) -> Form:
        # A scratch is at least about ten times as long as wide: on small parts it is narrow.
        widest = float(np.clip(np.sqrt(area_mm2 / 40), 0.05, 0.15))
        narrowest = min(max(0.05, depth / 0.53), widest)
        half = narrowest + spread * (widest - narrowest)
        return sized(
            lambda length: _groove(length, half, min(depth, 0.53 * half), bow, ridge, run),
            area_mm2 / half / 3,
            area_mm2,
            1,
        )

    return plan


def _groove(length_mm: float, half_mm: float, depth_mm: float, bow: float, ridge: float, run: float) -> Form:
    reach = length_mm / 2

    def across(places: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Distance from the middle line in half widths of the groove, and the taper."""
        x = places[:, 0] / reach
        away = np.abs(places[:, 1] - bow * reach * (x**2 - 0.5)) / np.sqrt(1 + (2 * bow * x) ** 2)
        taper = smooth_step((1 - np.abs(x)) / run)
        return away / (half_mm * (0.5 + 0.5 * taper)), taper

    def height(places: FloatArray) -> FloatArray:
        x, taper = across(places)
        groove = np.where(x < 1, np.cos(np.pi / 2 * np.minimum(x, 1)) ** 2, 0)
        wall = ridge * np.sin(np.pi * np.clip((x - 1) / (RIDGE - 1), 0, 1)) ** 2
        return np.asarray(depth_mm * taper * (wall - groove))

    def strength(places: FloatArray) -> FloatArray:
        x, taper = across(places)
        return np.asarray(smooth_step((1 - x) * 3) * smooth_step(taper * 3))

    def gap(places: FloatArray) -> FloatArray:
        away = np.abs(places[:, 1] - bow * reach * ((places[:, 0] / reach) ** 2 - 0.5))
        return np.maximum(0.95 * away - RIDGE * half_mm, np.abs(places[:, 0]) - reach)

    box = (reach, RIDGE * half_mm * 1.05 + abs(bow) * reach / 2)
    edge = edge_for(depth_mm * (np.pi / half_mm) ** 2 / 2, 2 * RIDGE * half_mm * length_mm)
    return Form(box, edge, -depth_mm, gap, height, strength, 0.3)


@dataclass(frozen=True, eq=False)
class _Branch:
    """One jagged line in its own frame: along a from 0 to ``length``, off the axis by ``offsets`` at ``knots``."""

    start: FloatArray
    angle: float
    length: float
    knots: FloatArray
    offsets: FloatArray
    half: tuple[float, float]  # half width at the start and at the end, mm
    blunt: bool  # starts inside another branch

    def frame(self, places: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Along the axis, and the distance from the line across the axis."""
        apart = places - self.start
        c, s = np.cos(self.angle), np.sin(self.angle)
        along, off = apart @ np.array([c, s]), apart @ np.array([-s, c])
        return along, np.abs(off - np.interp(along, self.knots, self.offsets))

    def fill(self, places: FloatArray) -> tuple[FloatArray, FloatArray]:
        """How deep (0 to 1, 1 where the trunk is widest) without and with the dark fringe."""
        along, away = self.frame(places)
        x = np.clip(along / self.length, 0, 1)
        ends = smooth_step((self.length - along) / (0.25 * self.length))
        ends *= smooth_step(along / self.half[0] + 0.5) if self.blunt else smooth_step(along / (0.25 * self.length))
        half = self.half[0] + (self.half[1] - self.half[0]) * x
        half *= 0.5 + 0.5 * ends
        return _notch(away / half) * ends * half, smooth_step(1.6 - 0.8 * away / half) * smooth_step(3 * ends)

    def gap(self, places: FloatArray) -> FloatArray:
        along, away = self.frame(places)
        # Lines are at most 35° off the axis, so that 0.8 of the offset bounds the distance.
        return np.maximum(0.8 * away - max(self.half), np.abs(along - self.length / 2) - self.length / 2 - self.half[0])


def _notch(x: FloatArray) -> FloatArray:
    """A V with a rounded floor: 1 at 0, 0 from 1 on; a hyperbola of rounding 0.2."""
    top, floor = np.sqrt(1.04), 0.2
    return np.asarray((top - np.sqrt(np.minimum(x, 1) ** 2 + 0.04)) / (top - floor))


def crack(rng: Generator) -> Plan:
    """A jagged, branching, dark line, 60–150 µm wide and 40–65 µm deep; walls about 45° steep.

    Deeper would be a shaft whose floor neither a camera nor a projector sees.
    """
    depth = rng.uniform(0.04, 0.06)
    half = rng.uniform(depth / 0.85, 0.075)
    trunk = _jagged(rng, int(rng.integers(10, 16)))
    twigs = []
    for side in rng.permutation(np.array([-1.0, 1.0, -1.0, 1.0]))[: int(rng.integers(2, 5))]:
        twigs.append((rng.uniform(0.15, 0.8), side * rng.uniform(0.5, 1.0), rng.uniform(0.2, 0.4), _jagged(rng, 6)))

    def build(length: float) -> Form:
        knots, offsets = trunk[0] * length, trunk[1] * length
        branches = [_Branch(np.array([-length / 2, 0.0]), 0.0, length, knots, offsets, (half, half), False)]
        for at, angle, share, (k, o) in twigs:
            start = np.array([(at - 0.5) * length, np.interp(at * length, knots, offsets)])
            size = share * length
            branches.append(_Branch(start, angle, size, k * size, o * size, (0.8 * half, 0.6 * half), True))
        return _fork(branches, depth, half)

    return lambda area_mm2: sized(build, area_mm2 / (8 * half), area_mm2, 1)


def _jagged(rng: Generator, count: int) -> tuple[FloatArray, FloatArray]:
    """Knots from 0 to 1 and offsets that start at 0: a random zigzag of slopes up to 0.6."""
    knots = np.concatenate(([0.0], np.cumsum(rng.uniform(0.5, 1.5, count))))
    knots /= knots[-1]
    slopes = rng.uniform(0.15, 0.6, count) * rng.choice([-1.0, 1.0], count)
    # Rather turn back than wander off.
    slopes[1::2] = -np.sign(slopes[: 2 * (count // 2) : 2]) * np.abs(slopes[1::2])
    return knots, np.concatenate(([0.0], np.cumsum(slopes * np.diff(knots))))


def _fork(branches: list[_Branch], depth_mm: float, half_mm: float) -> Form:
    def height(places: FloatArray) -> FloatArray:
        return np.asarray(-depth_mm / half_mm * np.max([b.fill(places)[0] for b in branches], axis=0))

    def strength(places: FloatArray) -> FloatArray:
        return np.asarray(np.max([b.fill(places)[1] for b in branches], axis=0))

    def gap(places: FloatArray) -> FloatArray:
        return np.asarray(np.min([b.gap(places) for b in branches], axis=0))

    tips = [
        b.start
        + np.stack([b.knots, b.offsets], axis=-1)
        @ np.array([[np.cos(b.angle), np.sin(b.angle)], [-np.sin(b.angle), np.cos(b.angle)]])
        for b in branches
    ]
    reach = np.abs(np.concatenate(tips)).max(axis=0) + 2.2 * half_mm
    edge = edge_for(depth_mm / half_mm**2 * 4, 2.5 * half_mm * sum(b.length for b in branches))
    return Form((float(reach[0]), float(reach[1])), edge, -depth_mm, gap, height, strength, 0.6)


def contamination(rng: Generator) -> Plan:
    """A blob of paste, a chip or a fibre that lies on the surface, 20–100 µm high. Heights go below 0 outside."""
    return (_blob, _chip, _fibre)[int(rng.integers(0, 3))](rng)


def _blob(rng: Generator) -> Plan:
    shape = oval(rng, rng.uniform(1.0, 1.7), 0.22, 6)
    tall = rng.uniform(0.04, 0.1)
    wave = rng.uniform(2.0, 4.0, (3, 2)) * rng.choice([-1.0, 1.0], (3, 2))
    phase = rng.uniform(0, 2 * np.pi, 3)

    def build(mean_mm: float) -> Form:
        relative, gap, half = shape(mean_mm)

        def raw(places: FloatArray) -> FloatArray:
            x = relative(places)
            ripple = 1 + 0.12 * np.sin(places / mean_mm @ wave.T + phase).sum(axis=1)
            return np.where(x < 1, (1 - x**3) * ripple, (1 - x) * 3)

        grid = np.stack(np.meshgrid(*(np.linspace(-h, h, 121) for h in half)), axis=-1).reshape(-1, 2)
        relief = min(tall, 0.2 * min(half))
        factor = relief / float(raw(grid).max())
        # Fine enough for a round rim.
        edge = min(half) / 50
        return Form(
            _wider(half), edge, relief, lambda p: gap(p) - 0.1, lambda p: factor * raw(p), added=True, looks=PASTES
        )

    return lambda area_mm2: sized(build, np.sqrt(area_mm2 / np.pi), area_mm2, 2)


def _chip(rng: Generator) -> Plan:
    count = int(rng.integers(5, 8))
    turns = np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.uniform(-0.3, 0.3, count)
    sides = np.stack([np.cos(turns), np.sin(turns)], axis=-1)
    reach = rng.uniform(0.65, 1.2, count)
    tall, tilt = rng.uniform(0.05, 0.1), rng.uniform(-0.3, 0.3, 2)

    def build(mean_mm: float) -> Form:
        relief = min(tall, 0.3 * mean_mm)

        def raw(places: FloatArray) -> FloatArray:
            x = places / mean_mm
            top = 1 + x @ tilt
            wall = (reach * mean_mm - places @ sides.T).min(axis=1) * 0.8 / relief
            soft = 0.2  # a rounded brim instead of a sharp one
            return np.asarray((top + wall - np.sqrt((top - wall) ** 2 + soft**2)) / 2)

        half = (1.6 * mean_mm, 1.6 * mean_mm)
        grid = np.stack(np.meshgrid(*(np.linspace(-h, h, 161) for h in half)), axis=-1).reshape(-1, 2)
        factor = relief / float(raw(grid).max())

        def gap(places: FloatArray) -> FloatArray:
            return np.asarray(np.hypot(*places.T) - 1.55 * mean_mm)

        edge = max(mean_mm / 60, 0.012)
        return Form(half, edge, relief, gap, lambda p: factor * raw(p), added=True, looks=CHIPS)

    return lambda area_mm2: sized(build, np.sqrt(area_mm2 / np.pi), area_mm2, 2)


def _fibre(rng: Generator) -> Plan:
    half = rng.uniform(0.06, 0.09)
    relief = rng.uniform(0.45, 0.65) * half
    curl, waves, phase = rng.uniform(0.08, 0.2), rng.uniform(0.6, 1.4), rng.uniform(0, 2 * np.pi)

    def build(length: float) -> Form:
        reach = length / 2

        def away(places: FloatArray) -> FloatArray:
            s = np.clip(places[:, 0], -reach, reach)
            argument = np.pi * waves * s / reach + phase
            off = places[:, 1] - curl * reach * np.sin(argument)
            lean = curl * np.pi * waves * np.cos(argument)
            return np.asarray(np.hypot(off / np.sqrt(1 + lean**2), places[:, 0] - s))

        def gap(places: FloatArray) -> FloatArray:
            return away(places) * 0.7 - half

        box = (reach + 1.3 * half, curl * reach + 1.6 * half)
        edge = half / 5
        return Form(box, edge, relief, gap, lambda p: relief * (1 - (away(p) / half) ** 2), added=True, looks=FIBRES)

    return lambda area_mm2: sized(build, area_mm2 / (2 * half), area_mm2, 1)


def _wider(half: tuple[float, float]) -> tuple[float, float]:
    """Room for the rim that dips below the surface."""
    return half[0] * 1.1 + SINK_MM, half[1] * 1.1 + SINK_MM
