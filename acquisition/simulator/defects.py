"""Defects of simulated parts: real geometry and reflectance changes of known size, place and visibility.

A defect covers 0.3–3 % of the part's area seen from above, its relief is 20–100 µm and a stain's contrast 5–15 %
(only ``missing_feature`` is as large as the feature). Outside of it the part stays exactly as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator

from rakelight.acquisition.simulator import _defect_forms as forms
from rakelight.acquisition.simulator import _defect_lines as lines
from rakelight.acquisition.simulator._defect_forms import HEIGHT_SEEN_MM, SINK_MM, Form, Plan, slope_of
from rakelight.acquisition.simulator._defect_spots import Caster, Spot, TopView, find_spot, top_view
from rakelight.acquisition.simulator.relief import Sheet, displaced
from rakelight.acquisition.simulator.solid import Component, FloatArray, Material, Mesh, Part, Texture
from rakelight.errors import InputError

Vector = tuple[float, float, float]
Rebuild = Callable[[frozenset[str]], Part]

LEAST_SHARE, GREATEST_SHARE = 0.003, 0.03
METAL = 0.2
"""Specular reflectance from which a material looks like a metal."""

CANDIDATES, SHRINKINGS, DRAWS = 60, 5, 2
FEATURE_CELLS = 320


@dataclass(frozen=True)
class _Kind:
    plan: Callable[[Generator], Plan]
    shares: tuple[float, float]


_KINDS = {
    "scratch": _Kind(lines.scratch, (0.0035, 0.010)),
    "dent": _Kind(forms.dent, (0.005, 0.029)),
    "pit": _Kind(forms.pit, (0.0035, 0.010)),
    "crack": _Kind(lines.crack, (0.0035, 0.009)),
    "deformation": _Kind(forms.deformation, (0.024, 0.029)),
    "contamination": _Kind(lines.contamination, (0.0035, 0.015)),
    "stain": _Kind(forms.stain, (0.006, 0.028)),
}

KINDS: tuple[str, ...] = (
    "scratch", "dent", "pit", "crack", "missing_feature", "deformation", "contamination", "stain",
)  # fmt: skip
"""The names of the defects."""

SUBSTANCES = {
    "grease": Material((0.03, 0.025, 0.02), (0.045, 0.045, 0.045), 0.15),
    "white paste": Material((0.78, 0.77, 0.72), (0.04, 0.04, 0.04), 0.6),
    "ochre paste": Material((0.42, 0.24, 0.05), (0.04, 0.04, 0.04), 0.4),
    "steel": Material((0.06, 0.06, 0.06), (0.62, 0.61, 0.59), 0.25),
    "brass": Material((0.08, 0.06, 0.02), (0.75, 0.6, 0.3), 0.25),
    "red plastic": Material((0.5, 0.04, 0.03), (0.04, 0.04, 0.04), 0.3),
    "blue fibre": Material((0.03, 0.08, 0.4), (0.04, 0.04, 0.04), 0.5),
    "white fibre": Material((0.75, 0.75, 0.75), (0.04, 0.04, 0.04), 0.5),
}
"""What contamination is made of."""


@dataclass(frozen=True)
class Defect:
    """A defect as the truth file tells it.

    Attributes
    ----------
    kind : str
        One of :data:`KINDS`.
    centre_mm : (x, y, z)
        Its middle on the surface, part frame.
    size_mm : (length, width)
        Of the box that holds it, along the surface.
    relief_um : float, optional
        Greatest relief along the surface's normal, signed: negative into the material; None without relief. For a
        missing feature the mean change of height.
    contrast : float, optional
        Greatest relative change of the diffuse reflectance, signed; None where the material's colour stays, and for
        added matter, which has its own.
    feature : str, optional
        The feature that is missing.
    area_share : float
        Area seen from above, of the part's, as designed.
    """

    kind: str
    centre_mm: Vector
    size_mm: tuple[float, float]
    relief_um: float | None
    contrast: float | None
    feature: str | None
    area_share: float

    def to_plain(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def apply_defect(part: Part, kind: str, rng: Generator, *, rebuild: Rebuild) -> tuple[Part, Defect]:
    """A part with one defect, drawn at random, and the description of the defect.

    Parameters
    ----------
    part : Part
        The flawless specimen.
    kind : str
        One of :data:`KINDS`.
    rng : Generator
        Draws everything; the same state gives the same arrays.
    rebuild : frozenset of str → Part
        The same specimen without the named features, for ``missing_feature``.

    Raises :class:`InputError` for an unknown kind (``simulate.unknown_defect``) and for a defect that has no place on
    the part, since the part has no such feature or no smooth spot that is large enough
    (``simulate.defect_does_not_fit``).
    """
    if kind not in KINDS:
        raise InputError(
            f"unknown defect {kind!r}; known are {', '.join(KINDS)}",
            hint="name one of them",
            code="simulate.unknown_defect",
        )
    caster = Caster(part)
    view = top_view(caster, rng.random(2))
    if kind == "missing_feature":
        return _without_feature(caster, view, rng, rebuild)
    needed, widest = (0.0, 0.0), 0.0
    for _ in range(DRAWS):
        found = _fitted(caster, view, kind, rng, CANDIDATES)
        if isinstance(found, _Fit):
            return _with_form(caster, kind, found, rng)
        needed, widest = found[0], max(widest, found[1])
    raise _does_not_fit(
        caster,
        view,
        kind,
        f"it needs a smooth visible spot of {needed[0]:.1f} × {needed[1]:.1f} mm, "
        f"and the largest found is {widest:.1f} mm across",
    )


@dataclass(frozen=True, eq=False)
class _Fit:
    form: Form
    spot: Spot
    share: float


def _fitted(
    caster: Caster, view: TopView, kind: str, rng: Generator, candidates: int
) -> _Fit | tuple[tuple[float, float], float]:
    """A form of this kind and a spot for it; or the size (mm) of the smallest form and the widest spot found."""
    plan = _KINDS[kind].plan(rng)
    share = float(np.exp(rng.uniform(*np.log(_KINDS[kind].shares))))
    least = LEAST_SHARE * 1.08
    widest, form = 0.0, plan(least * view.area_mm2)
    for wanted in np.geomspace(share, least, SHRINKINGS):
        form = plan(float(wanted) * view.area_mm2)
        spot, clear = find_spot(caster, view, form, rng, candidates, (LEAST_SHARE * 1.02, GREATEST_SHARE * 0.98))
        if spot is not None:
            return _Fit(form, spot, form.covered_mm2() * spot.foreshortening / view.area_mm2)
        widest = max(widest, clear)
    return (2 * form.half_mm[0], 2 * form.half_mm[1]), widest


def _does_not_fit(caster: Caster, view: TopView, kind: str, why: str) -> InputError:
    """The error; it tries the other kinds with a generator of its own, so that the hint is always the same."""
    rng = np.random.default_rng(0)
    fit = [
        name
        for name in KINDS
        if name != kind
        and (
            bool(caster.part.features)
            if name == "missing_feature"
            else isinstance(_fitted(caster, view, name, rng, 20), _Fit)
        )
    ]
    return InputError(
        f"the defect {kind!r} does not fit on the part {caster.part.product!r}: {why}",
        hint=f"defects that fit: {', '.join(fit) if fit else 'none'}",
        code="simulate.defect_does_not_fit",
    )


def _with_form(caster: Caster, kind: str, fit: _Fit, rng: Generator) -> tuple[Part, Defect]:
    """The part with the form on it, and the description."""
    part, form, spot = caster.part, fit.form, fit.spot
    target = part.components[spot.component]
    contrast = None
    if form.added:
        material = _substance(target.material, spot.sheet.centre, form.looks, rng)
        name = _free_name(part, kind)
        changed = replace(
            part, components=(*part.components, Component(name, _lying_mesh(caster, form, spot), material))
        )
    else:
        mesh, material = target.mesh, target.material
        if form.relief_mm != 0:
            mesh = displaced(
                mesh, spot.sheet, form.height, lambda places: slope_of(form.height, places), form.gap, form.edge_mm
            )
        if form.strength is not None:
            change = _reflectance_change(kind, form, _reflectance(material, spot.sheet.centre), rng)
            contrast = float(change[0])
            material = material.textured(_patch(spot.sheet, form, change))
        components = list(part.components)
        components[spot.component] = Component(target.name, mesh, material)
        changed = replace(part, components=tuple(components))
    size = sorted((2 * form.half_mm[0], 2 * form.half_mm[1]), reverse=True)
    relief = float(form.relief_mm * 1000) if form.relief_mm != 0 else None
    x, y, z = (float(v) for v in spot.sheet.centre)
    return changed, Defect(kind, (x, y, z), (size[0], size[1]), relief, contrast, None, float(fit.share))


def _reflectance(material: Material, point: FloatArray) -> FloatArray:
    """(4,) diffuse R, G, B and mean specular reflectance of a material at a point."""
    base = np.array([*material.diffuse, np.mean(material.specular)])
    return base if material.texture is None else base * material.texture(point[None])[0]


def _reflectance_change(kind: str, form: Form, base: FloatArray, rng: Generator) -> FloatArray:
    """(4,) relative changes of diffuse R, G, B and specular where the defect acts fully; nothing gets above 0.97.

    A fresh groove in a plastic scatters more and glints; in a metal its rough flanks scatter what they no longer
    reflect. Holes and cracks swallow light. A stain is a film: on a dielectric it changes the body's colour only, on a
    metal, which has none, the reflection too.
    """
    metal = base[3] > METAL
    if kind == "scratch":
        change = np.array([*[rng.uniform(0.2, 0.4)] * 3, -0.3 if metal else 0.5])
        if np.max(base[:3]) * (1 + change[0]) > 0.97:
            change[:3] = -rng.uniform(0.15, 0.25)
        return change
    if kind == "stain":
        sign = -1.0 if metal or np.max(base[:3]) > 0.8 else rng.choice([-1.0, 1.0])
        return np.array([*[sign * form.change] * 3, sign * form.change if metal else 0.0])
    dark = -rng.uniform(0.6, 0.75) if kind == "crack" else -rng.uniform(0.4, 0.55)
    return np.array([dark, dark, dark, dark])


def _patch(sheet: Sheet, form: Form, change: FloatArray) -> Texture:
    """The texture 1 + strength · change on the sheet, 1 elsewhere."""
    strength = form.strength
    assert strength is not None

    def texture(points: FloatArray) -> FloatArray:
        local = sheet.local(points)
        inside = sheet.holds(local) & (np.abs(local[:, 0]) < form.half_mm[0]) & (np.abs(local[:, 1]) < form.half_mm[1])
        factors = np.ones((len(points), 4))
        factors[inside] += strength(local[inside, :2])[:, None] * change
        return factors

    return texture


def _substance(below: Material, point: FloatArray, names: tuple[str, ...], rng: Generator) -> Material:
    """One of the substances that differs most clearly from the surface: the best, or one nearly as good."""

    def look(values: FloatArray) -> FloatArray:
        return np.asarray(np.sqrt(values[:3] + 0.3 * values[3]))

    base = look(_reflectance(below, point))
    apart = np.array([np.abs(look(_reflectance(SUBSTANCES[name], point)) - base).max() for name in names])
    good = np.flatnonzero(apart > 0.8 * apart.max())
    return SUBSTANCES[names[int(rng.choice(good))]]


def _free_name(part: Part, name: str) -> str:
    taken = {c.name for c in part.components}
    return next(n for n in (name, *(f"{name}_{k}" for k in range(2, len(taken) + 3))) if n not in taken)


def _lying_mesh(caster: Caster, form: Form, spot: Spot) -> Mesh:
    """An added body as a mesh that follows the surface below it, its rim dipping below that surface."""
    places, (rows, columns) = form.places(form.edge_mm)
    height = form.height(places)
    number = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (n.ravel() for n in (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]))
    facets = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    facets = facets[(height[facets] > -SINK_MM).any(axis=1)]
    used, facets = np.unique(facets, return_inverse=True)
    places, height = places[used], np.maximum(height[used], -SINK_MM)
    axes = spot.sheet.axes
    # The slab reaches above the whole sheet.
    high = spot.sheet.slab_mm[1]
    base = caster.hits(spot.sheet.centre + places @ axes[:2] + high * axes[2], -axes[2])
    slopes = slope_of(form.height, places) @ axes[:2]
    normals = base.normals - (base.normals @ axes[2])[:, None] * slopes
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Mesh(base.points + height[:, None] * axes[2], normals, facets.reshape(-1, 3).astype(np.int32))


def _without_feature(caster: Caster, view: TopView, rng: Generator, rebuild: Rebuild) -> tuple[Part, Defect]:
    """The specimen without one of its features: at random one of fitting size, or else the nearest to it of three.

    A feature may be matter (a pin) or the lack of it (a hole, whose absence fills it): what counts is what changes as
    seen from above, and to know that takes a rebuilt part.
    """
    best: tuple[Part, Defect] | None = None
    for name in rng.permutation(np.array(caster.part.features, dtype=object))[:3]:
        changed = rebuild(frozenset([name]))
        defect = _missing(caster, Caster(changed), str(name))
        if defect is None:
            continue
        if best is None or _misfit(defect.area_share) < _misfit(best[1].area_share):
            best = changed, defect
        if _misfit(defect.area_share) == 0:
            break
    if best is None:
        has_none = "it has no feature that may be missing"
        why = "none of the features tried is seen from above" if caster.part.features else has_none
        raise _does_not_fit(caster, view, "missing_feature", why)
    return best


def _misfit(share: float) -> float:
    """How far a share lies outside of what a defect may cover; 0 inside."""
    return max(LEAST_SHARE - share, share - GREATEST_SHARE, 0.0)


def _missing(whole: Caster, lacking: Caster, name: str) -> Defect | None:
    """What the loss of a feature changes as seen from above, or None when nothing does."""
    low, high = whole.part.extent_mm
    pitch = float((high - low)[:2].max()) / FEATURE_CELLS
    columns, rows = (np.arange(low[k], high[k] + pitch, pitch) for k in (0, 1))
    xy = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    top = high[2] + 1.0
    origins = np.concatenate([xy, np.full((len(xy), 1), top)], axis=1)
    before, after = (caster.depths(origins, np.array([0.0, 0.0, -1.0])) for caster in (whole, lacking))
    area = np.count_nonzero(np.isfinite(before))
    # Where nothing is hit lies the table.
    before, after = (top - np.where(np.isfinite(d), d, top) for d in (before, after))
    changed = np.abs(after - before) > HEIGHT_SEEN_MM
    if not changed.any():
        return None
    first, last = xy[changed].min(axis=0), xy[changed].max(axis=0)
    width, length = sorted(float(v) + pitch for v in last - first)
    x, y = (float(v) for v in (first + last) / 2)
    centre = (x, y, float(before[changed].mean()))
    relief_um = float((after - before)[changed].mean() * 1000)
    share = float(np.count_nonzero(changed) / area)
    return Defect("missing_feature", centre, (length, width), relief_um, None, name, share)
