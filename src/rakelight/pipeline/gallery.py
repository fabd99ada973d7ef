"""All simulated products and defects in one picture, to judge by eye whether they look like what they are named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition.simulator import record
from rakelight.acquisition.simulator.products.catalogue import PRODUCTS, Product
from rakelight.acquisition.simulator.rig import Lens, Rig, reference_rig
from rakelight.acquisition.simulator.scene import Lit, Scene
from rakelight.acquisition.simulator.solid import Part, Pose
from rakelight.acquisition.simulator.specimen import Specimen, make_specimen
from rakelight.dataset import images
from rakelight.pipeline.contact_sheet import Panel, contact_sheet
from rakelight.pipeline.simulate import product_exposures
from rakelight.pipeline.simulate_batch import fitting_defects
from rakelight.reconstruction import pseudo3d
from rakelight.reconstruction.demosaic import demosaic
from rakelight.reconstruction.tone import srgb

Rgb = NDArray[np.uint8]

_WIDTH, _HEIGHT = 480, 270  # px of a picture
_CLOSE = 4.0  # a close-up is that many times as wide as the defect is long
_BRIGHTER = 1.3  # than albedo 1 = white, as a photographer would print it
_LEAST_MM = 2.5
_SEED = 2


def draw_gallery(path: str | Path, *, progress: Callable[..., None] = lambda *_: None) -> None:
    """Write a contact sheet of every product with every defect that fits it: a close-up in colour, and its relief.

    Raises :class:`StorageError` when ``path`` cannot be written.
    """
    panels: list[Panel] = []
    total = sum(1 + len(fitting_defects(name)) for name in PRODUCTS)
    columns = 1 + max(len(fitting_defects(name)) for name in PRODUCTS)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    for product in PRODUCTS.values():
        row = _row(product, step)
        blank = Panel("", np.full((2 * _HEIGHT, _WIDTH), 30, np.uint8))
        panels += row + [blank] * (columns - len(row))
    sheet = contact_sheet(
        panels,
        "Simulated products and their defects",
        [
            "Each picture: above under all four zones, below the true relief under one grazing light from the upper left.",
            "Colour and relief are of one specimen a product; the first column shows it flawless.",
        ],
        columns=columns,
        panel_width=340,
    )
    images.write_png(path, sheet)


def _row(product: Product, step: Callable[[], None]) -> list[Panel]:
    rig = reference_rig()
    times = product_exposures(product.name)
    good = make_specimen(product.name, _SEED, pose=Pose())
    whole = (0.0, 0.0, product.height_mm / 2), max(product.length_mm, product.width_mm * _WIDTH / _HEIGHT) * 1.1
    caption = f"{product.material}; {product.length_mm:g}×{product.width_mm:g}×{product.height_mm:g} mm"
    step()
    panels = [Panel(product.name, _picture(good.part, rig, *whole, times), caption)]
    for kind in fitting_defects(product.name):
        step()
        bad = make_specimen(product.name, _SEED, kind, pose=Pose())
        panels.append(_defect_panel(bad, rig, whole, times))
    return panels


def _defect_panel(
    bad: Specimen, rig: Rig, whole: tuple[tuple[float, float, float], float], times: record.Exposures
) -> Panel:
    """A close-up; the whole part where a feature is missing, since one must see what is not there."""
    assert bad.defect is not None
    length = max(*bad.defect.size_mm)
    close = bad.defect.centre_mm, min(max(_CLOSE * length, _LEAST_MM), whole[1])
    picture = _picture(bad.part, rig, *(whole if bad.defect.feature else close), times)
    relief = f"{bad.defect.relief_um:+.0f} µm" if bad.defect.relief_um else ""
    contrast = f"{bad.defect.contrast:+.0%}" if bad.defect.contrast else ""
    missing = bad.defect.feature or ""
    facts = [
        missing or f"{length:.2g} mm",
        "" if missing else relief,
        contrast,
        f"{bad.defect.area_share:.1%} of the part",
    ]
    return Panel(bad.defect.kind, picture, ", ".join(f for f in facts if f))


def _picture(
    part: Part, rig: Rig, centre_mm: tuple[float, float, float], size_mm: float, times: record.Exposures
) -> Rgb:
    """What a macro lens sees of ``size_mm`` around a point: in colour above, the relief below."""
    scene = Scene(part, replace(rig, camera=_macro(rig, centre_mm, size_mm)), samples=2)
    zones = dict.fromkeys((light.zone for light in rig.lights), 1.0)
    raw = scene.frame(Lit(zones), times.all_zones_us, seed=_SEED)
    electrons = np.clip((raw.astype(np.float32) - rig.sensor.black_dn) / rig.sensor.dn_per_e, 0, None)
    level = sum(light.strength for light in rig.lights) * np.cos(np.radians(45))  # a white level surface has albedo 1
    albedo = electrons * (_BRIGHTER / (rig.electrons_per_us * times.all_zones_us * level))
    colour = np.asarray(demosaic(albedo.astype(np.float32), "RG"), np.float32) / np.array(
        rig.sensor.response, np.float32
    )
    shaded = pseudo3d.shaded_relief(scene.surface.normals, 135.0, 65.0)
    grey = np.rint(255 * np.clip(shaded, 0, 1)).astype(np.uint8)
    above = np.rint(255 * srgb(np.clip(colour, 0, 1))).astype(np.uint8)
    return np.concatenate([above, np.repeat(grey[..., None], 3, axis=2)], axis=0)


def _macro(rig: Rig, centre_mm: tuple[float, float, float], size_mm: float) -> Lens:
    """A lens in the camera's place that fills its small picture with ``size_mm`` around a point of the part frame."""
    x, y, z = centre_mm
    depth = rig.table_mm - z
    focal = _WIDTH / size_mm * depth
    return Lens(
        _WIDTH, _HEIGHT, focal, focal, (_WIDTH - 1) / 2 - focal * x / depth, (_HEIGHT - 1) / 2 + focal * y / depth
    )
