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
from rakelight.pipeline.sample import to_srgb
from rakelight.pipeline.simulate import fitting_defects, product_exposures
from rakelight.reconstruction import pseudo3d
from rakelight.reconstruction.demosaic import demosaic

Rgb = NDArray[np.uint8]

_WIDTH, _HEIGHT = 480, 360  # px of a picture
_CLOSE = 4.0  # a close-up shows that many times the defect's length
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
        blank = Panel("", np.full((_HEIGHT, _WIDTH), 30, np.uint8))
        panels += row + [blank] * (columns - len(row))
    sheet = contact_sheet(
        panels,
        "Simulated products and their defects",
        [
            "Each picture: above under all four zones, below the true relief under one grazing light from the upper left.",
            "Colour and relief are of one specimen a product; the first column shows it flawless.",
        ],
        columns=columns,
        panel_width=300,
    )
    images.write_png(path, sheet)


def _row(product: Product, step: Callable[[], None]) -> list[Panel]:
    rig = reference_rig()
    times = product_exposures(product.name)
    good = make_specimen(product.name, _SEED, pose=Pose())
    size = max(product.length_mm, product.width_mm) * 1.15
    caption = f"{product.material}; {product.length_mm:g}×{product.width_mm:g}×{product.height_mm:g} mm"
    step()
    panels = [Panel(product.name, _picture(good.part, rig, (0.0, 0.0, product.height_mm / 2), size, times), caption)]
    for kind in fitting_defects(product.name):
        step()
        bad = make_specimen(product.name, _SEED, kind, pose=Pose())
        panels.append(_defect_panel(bad, rig, times))
    return panels


def _defect_panel(bad: Specimen, rig: Rig, times: record.Exposures) -> Panel:
    assert bad.defect is not None
    length = max(*bad.defect.size_mm)
    picture = _picture(bad.part, rig, bad.defect.centre_mm, max(_CLOSE * length, _LEAST_MM), times)
    relief = f"{bad.defect.relief_um:+.0f} µm" if bad.defect.relief_um else ""
    contrast = f"{bad.defect.contrast:+.0%}" if bad.defect.contrast else ""
    facts = [f"{length:.2g} mm", relief, contrast, f"{bad.defect.area_share:.1%} of the part"]
    return Panel(bad.defect.kind, picture, ", ".join(f for f in facts if f))


def _picture(
    part: Part, rig: Rig, centre_mm: tuple[float, float, float], size_mm: float, times: record.Exposures
) -> Rgb:
    """What a macro lens sees of ``size_mm`` around a point: in colour above, the relief below."""
    scene = Scene(part, replace(rig, camera=_macro(rig, centre_mm, size_mm)), samples=2)
    zones = dict.fromkeys((light.zone for light in rig.lights), 1.0)
    raw = scene.frame(Lit(zones), times.all_zones_us, seed=_SEED)
    linear = (raw.astype(np.float32) - rig.sensor.black_dn) / (rig.sensor.full_scale - rig.sensor.black_dn)
    colour = np.asarray(demosaic(np.clip(linear, 0, 1), "RG"), np.float32) / np.array(rig.sensor.response, np.float32)
    shaded = pseudo3d.shaded_relief(scene.surface.normals, 135.0, 65.0)
    grey = np.rint(255 * np.clip(shaded, 0, 1)).astype(np.uint8)
    above = np.rint(255 * to_srgb(np.clip(colour, 0, 1))).astype(np.uint8)
    return np.concatenate([above, np.repeat(grey[..., None], 3, axis=2)], axis=0)


def _macro(rig: Rig, centre_mm: tuple[float, float, float], size_mm: float) -> Lens:
    """A lens in the camera's place that fills its small picture with ``size_mm`` around a point of the part frame."""
    x, y, z = centre_mm
    depth = rig.table_mm - z
    focal = _WIDTH / size_mm * depth
    return Lens(
        _WIDTH, _HEIGHT, focal, focal, (_WIDTH - 1) / 2 - focal * x / depth, (_HEIGHT - 1) / 2 + focal * y / depth
    )
