"""The forms of defects: relief and stain strength as functions of place, scaled to a wanted area.

Every form lives in a tangent plane of the part: coordinates (s, t) in mm, (N, 2), with the origin in its middle. A plan
draws all its random numbers once; it then builds the same form for any area, so that a form can shrink until it fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from rakelight.acquisition.simulator.solid import FloatArray

Field = Callable[[FloatArray], FloatArray]
"""Places (N, 2) in mm → values (N,)."""

Plan = Callable[[float], "Form"]
"""Wanted area in mm² → the form that covers it."""

HEIGHT_SEEN_MM = 0.002
SLOPE_SEEN = np.tan(np.radians(1.0))
REFLECTANCE_SEEN = 0.01
"""What counts as changed, as in the exact masks: 2 µm, 1°, 1 %."""

FACET_ERROR_MM = 0.0005
MAX_FACETS = 80_000
SINK_MM = 0.012
"""How far the rim of an added body dips below the surface it lies on, so that no gap shows."""


@dataclass(frozen=True, eq=False)
class Form:
    """One defect's form in its tangent plane.

    Attributes
    ----------
    half_mm : (s, t)
        Half sizes of the box that holds it.
    edge_mm : float
        Longest triangle edge that renders the relief within half a micrometre.
    relief_mm : float
        Greatest height, signed: negative into the material; 0 without relief.
    gap : Field
        A lower bound of the distance to the relief (without relief: to the stain), mm; negative inside.
    height : Field
        Relief in mm, 0 outside.
    strength : Field, optional
        How much of the reflectance change acts: 0 outside to 1.
    change : float
        The relative change at strength 1, for the area only.
    """

    half_mm: tuple[float, float]
    edge_mm: float
    relief_mm: float
    gap: Field
    height: Field
    strength: Field | None = None
    change: float = 0.0
    added: bool = False
    looks: tuple[str, ...] = ()

    def places(self, pitch_mm: float) -> tuple[FloatArray, tuple[int, int]]:
        """(N, 2) a grid over the box and its shape (rows along t, columns along s)."""
        s, t = (np.linspace(-h, h, max(int(np.ceil(2 * h / pitch_mm)) + 1, 3)) for h in self.half_mm)
        return np.stack(np.meshgrid(s, t), axis=-1).reshape(-1, 2), (len(t), len(s))

    def covered_mm2(self, cells: int = 30_000) -> float:
        """Area where height, slope or reflectance differ by more than the thresholds above."""
        places, shape = self.places(np.sqrt(4 * self.half_mm[0] * self.half_mm[1] / cells))
        cell = 4 * self.half_mm[0] * self.half_mm[1] / ((shape[0] - 1) * (shape[1] - 1))
        height = self.height(places).reshape(shape)
        if self.added:
            return float(np.count_nonzero(height > 0) * cell)
        by_t, by_s = np.gradient(height, 2 * self.half_mm[1] / (shape[0] - 1), 2 * self.half_mm[0] / (shape[1] - 1))
        changed = (np.abs(height) > HEIGHT_SEEN_MM) | (np.hypot(by_s, by_t) > SLOPE_SEEN)
        if self.strength is not None:
            changed |= self.strength(places).reshape(shape) * abs(self.change) > REFLECTANCE_SEEN
        return float(np.count_nonzero(changed) * cell)


def slope_of(height: Field, places: FloatArray, step_mm: float = 1e-4) -> FloatArray:
    """(N, 2) the gradient of a height field by central differences."""
    slopes = [
        (height(places + shift) - height(places - shift)) / (2 * step_mm)
        for shift in (np.array([step_mm, 0.0]), np.array([0.0, step_mm]))
    ]
    return np.stack(slopes, axis=-1)


def smooth_step(x: FloatArray) -> FloatArray:
    """0 below 0, 1 above 1, 3x² − 2x³ between."""
    x = np.clip(x, 0.0, 1.0)
    return np.asarray(x * x * (3 - 2 * x))


def edge_for(curvature: float, area_mm2: float) -> float:
    """Triangle edge (mm) that keeps the sagitta e²κ/8 below half a micrometre, within the budget of facets.

    ``curvature`` in 1/mm. Halving edges leaves them between half the limit and the limit, 0.13 e² or more a facet.
    """
    wanted = np.sqrt(8 * FACET_ERROR_MM / max(curvature, 1e-9))
    return float(np.clip(wanted, max(0.008, np.sqrt(area_mm2 / (0.13 * MAX_FACETS))), 0.15))


def sized(build: Callable[[float], Form], start: float, area_mm2: float, power: int) -> Form:
    """The form whose covered area is the wanted one; area grows about as size to the ``power``."""
    size = start
    form = build(size)
    for _ in range(3):
        size *= float(np.clip(area_mm2 / max(form.covered_mm2(), 1e-6), 0.1, 10.0)) ** (1 / power)
        form = build(size)
    return form


def outline(rng: Generator, roughness: float, orders: int) -> tuple[Callable[[FloatArray], FloatArray], float]:
    """An irregular closed outline: angle (−π to π) → radius around 1, and a bound of its greatest radius."""
    k = np.arange(2, orders + 2)
    amount = roughness * rng.normal(size=orders) / k
    phase = rng.uniform(0, 2 * np.pi, orders)

    # Its logarithm is what varies, so that it never vanishes. A table, since textures ask for millions of angles.
    turn = np.linspace(-np.pi, np.pi, 4097)
    table = np.exp(np.cos(turn[:, None] * k + phase) @ amount)
    return lambda angle: np.asarray(np.interp(angle, turn, table)), float(table.max() * 1.01)


def oval(
    rng: Generator, aspect: float, roughness: float, orders: int
) -> Callable[[float], tuple[Field, Field, tuple[float, float]]]:
    """An irregular oval of a given mean radius: relative radius (1 on the outline), gap, half sizes."""
    radius, greatest = outline(rng, roughness, orders)

    def make(mean_mm: float) -> tuple[Field, Field, tuple[float, float]]:
        axes = mean_mm * np.array([np.sqrt(aspect), 1 / np.sqrt(aspect)])

        def relative(places: FloatArray) -> FloatArray:
            x = places / axes
            return np.asarray(np.hypot(x[:, 0], x[:, 1]) / radius(np.arctan2(x[:, 1], x[:, 0])))

        def gap(places: FloatArray) -> FloatArray:
            x = places / axes
            return np.asarray((np.hypot(x[:, 0], x[:, 1]) - greatest) * axes.min())

        return relative, gap, (float(axes[0] * greatest), float(axes[1] * greatest))

    return make


def no_height(places: FloatArray) -> FloatArray:
    """The relief of a defect without relief."""
    return np.zeros(len(places))


def dent(rng: Generator) -> Plan:
    """A smooth bowl −d (1 − x²)², 40–100 µm deep: what a dull blow leaves."""
    shape = oval(rng, rng.uniform(1.0, 1.5), 0.05, 3)
    depth = rng.uniform(0.04, 0.1)
    return _smooth_relief(shape, -depth, lambda relative, _: (1 - np.minimum(relative, 1) ** 2) ** 2)


def deformation(rng: Generator) -> Plan:
    """A broad smooth warp of 40–100 µm: one bulge, or up on one side and down on the other."""
    shape = oval(rng, rng.uniform(1.2, 2.0), 0.06, 3)
    height = rng.uniform(0.04, 0.1) * rng.choice([-1.0, 1.0])
    if rng.random() < 0.5:
        return _smooth_relief(shape, abs(height), lambda relative, _: (1 - np.minimum(relative, 1) ** 2) ** 2)
    # x (1 − x²)² is greatest at x = 1/√5.
    top = (0.8**2) / np.sqrt(5)
    return _smooth_relief(shape, height, lambda relative, s: s * (1 - np.minimum(relative, 1) ** 2) ** 2 / top)


def _smooth_relief(
    shape: Callable[[float], tuple[Field, Field, tuple[float, float]]],
    relief_mm: float,
    profile: Callable[[FloatArray, FloatArray], FloatArray],
) -> Plan:
    """A relief from a profile of the relative radius and of the relative place along s; slopes stay below 40°."""

    def build(mean_mm: float) -> Form:
        relative, gap, half = shape(mean_mm)
        grid = np.stack(np.meshgrid(*(np.linspace(-h, h, 161) for h in half)), axis=-1).reshape(-1, 2)
        peak = float(np.abs(profile(relative(grid), grid[:, 0] / half[0])).max())
        relief = float(np.sign(relief_mm) * min(abs(relief_mm), 0.3 * min(half)))

        def height(places: FloatArray) -> FloatArray:
            return np.asarray(relief / peak * profile(relative(places), places[:, 0] / half[0]))

        area = 4 * half[0] * half[1]
        return Form(half, min(edge_for(12 * abs(relief) / min(half) ** 2, area), min(half) / 6), relief, gap, height)

    return lambda area_mm2: sized(build, np.sqrt(area_mm2 / np.pi), area_mm2, 2)


def pit(rng: Generator) -> Plan:
    """One to five small steep holes, 50–100 µm deep, dark inside: a blowhole, or corrosion.

    A hole has a flat floor to 0.3 of its radius and a cos² wall, at most 45° steep.
    """
    depth = rng.uniform(0.05, 0.1)
    most = int(rng.integers(1, 6))
    share = np.concatenate(([1.0], rng.uniform(0.6, 1.0, 4)))
    throws = rng.uniform(-1, 1, (200, 2))
    ragged = [outline(rng, 0.08, 4) for _ in range(5)]

    def build(radius_mm: float, count: int) -> Form:
        radii = radius_mm * share[:count]
        deep = min(depth, 0.44 * float(radii[0]))
        middles = _apart(throws * radius_mm * 2.0 * np.sqrt(count), radii * 1.15)
        middles = middles - (middles.max(axis=0) + middles.min(axis=0)) / 2

        def fill(places: FloatArray) -> FloatArray:
            value = np.zeros(len(places))
            for middle, radius, factor, (bound, _) in zip(middles, radii, share, ragged, strict=False):
                apart = places - middle
                away = np.hypot(apart[:, 0], apart[:, 1])
                x = away / (radius * bound(np.arctan2(apart[:, 1], apart[:, 0])))
                value = np.maximum(value, factor * np.cos(np.pi / 2 * np.clip((x - 0.3) / 0.7, 0, 1)) ** 2)
            return value

        def gap(places: FloatArray) -> FloatArray:
            gaps = [
                np.hypot(*(places - middle).T) - radius * greatest
                for middle, radius, (_, greatest) in zip(middles, radii, ragged, strict=False)
            ]
            return np.asarray(np.min(gaps, axis=0))

        half = np.abs(middles).max(axis=0) + radii[0] * max(g for _, g in ragged[:count])
        edge = edge_for(deep * (np.pi / 1.4 / radius_mm) ** 2 * 2, 3 * count * radius_mm**2)
        return Form(
            (float(half[0]), float(half[1])),
            edge,
            -deep,
            gap,
            lambda p: -deep * fill(p),
            lambda p: smooth_step(2 * fill(p)),
            0.5,
        )

    def plan(area_mm2: float) -> Form:
        count = int(np.clip(round(area_mm2 / 0.35), 1, most))
        return sized(lambda radius: build(radius, count), np.sqrt(area_mm2 / count / 2.5), area_mm2, 2)

    return plan


def _apart(throws: FloatArray, radii: FloatArray) -> FloatArray:
    """(len(radii), 2) middles that keep the discs apart: the first throws that do; far along s when none is left."""
    middles = [np.zeros(2)]
    for k in range(1, len(radii)):
        others, reach = np.array(middles), radii[:k] + radii[k]
        free = [p for p in throws if np.all(np.hypot(*(others - p).T) > reach)]
        middles.append(free[0] if free else np.array([others[:, 0].max() + 2 * radii[0], 0.0]))
    return np.array(middles)


def stain(rng: Generator) -> Plan:
    """An irregular patch with a soft edge that changes the reflectance by 5–15 %; no relief."""
    shape = oval(rng, rng.uniform(1.0, 1.8), 0.3, 7)
    contrast = rng.uniform(0.05, 0.15)
    soft = rng.uniform(0.15, 0.35)

    def build(mean_mm: float) -> Form:
        relative, gap, half = shape(mean_mm)
        return Form(half, np.inf, 0.0, gap, no_height, lambda p: smooth_step((1 - relative(p)) / soft), contrast)

    return lambda area_mm2: sized(build, np.sqrt(area_mm2 / np.pi), area_mm2, 2)
