"""A five-way pin header: ivory nylon housing, gilded square pins in a cavity, locating holes and a keying notch."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from rakelight.acquisition.simulator.noise import Mottle, value_noise
from rakelight.acquisition.simulator.outlines import Line, Piece, Point, outline, rounded, rounded_rectangle, shifted
from rakelight.acquisition.simulator.products.variation import assembled, sized, tinted
from rakelight.acquisition.simulator.shapes import cap, extrude, ring, round_hole, sweep, wall
from rakelight.acquisition.simulator.solid import Component, Material, Mesh, Part, merged

PINS = tuple(f"pin_{k}" for k in range(1, 6))
HOLES = ("locating_hole_1", "locating_hole_2")
FEATURES = (*PINS, *HOLES)
_FLOOR_MM = 2.4


def pin(centre: Point, width_mm: float, bottom_mm: float, top_mm: float) -> Mesh:
    """An upright square pin whose tip is a blunt pyramid."""
    curve = rounded_rectangle(width_mm, width_mm, width_mm / 4, centre=centre)
    inward = -width_mm / 5
    edge: tuple[Piece, ...] = (
        Line((0.0, bottom_mm), (0.0, top_mm + 2 * inward)),
        Line((0.0, top_mm + 2 * inward), (inward, top_mm)),
    )
    return merged([sweep(curve, edge), cap([shifted(curve, inward)], top_mm)])


def build(rng: np.random.Generator, missing: Collection[str] = frozenset()) -> Part:
    """15 × 12 × 6 mm. Pins 1 to 5 from left to right, 2.2 mm apart."""
    width, depth, height = sized(rng, 15.0), sized(rng, 12.0), sized(rng, 6.0)
    pin_width = sized(rng, 0.8)
    ivory = Material(tinted(rng, (0.66, 0.60, 0.45)), (0.04, 0.04, 0.04), 0.35)
    ivory = ivory.textured(Mottle(value_noise(rng, 1.5), (0.01, 0.01, 0.012)))
    gold = Material(tinted(rng, (0.18, 0.12, 0.03)), tinted(rng, (0.95, 0.74, 0.36)), 0.25)
    tops = [height - 0.7 + 0.03 * float(rng.uniform(-1, 1)) for _ in PINS]
    leans = rng.uniform(-0.02, 0.02, (len(PINS), 2))

    a, b, notch = width / 2, depth / 2, 1.5
    corners = [(-a, -b), (a, -b), (a, b), (notch, b), (notch, b - 1.3), (-notch, b - 1.3), (-notch, b), (-a, b)]
    shell = outline(rounded(corners, [0.6, 0.6, 0.6, 0.4, 0.3, 0.3, 0.4, 0.6], closed=True))
    cavity = rounded_rectangle(12.4, 5.0, 0.5, centre=(0.0, 0.9), hole=True)
    centres = [(-5.0, -3.9), (5.0, -3.9)]
    slot = rounded_rectangle(5.0, 1.5, 0.4, centre=(0.0, -3.9), hole=True)
    loops = [ring(1.0, c) for c in centres]
    body = merged(
        [
            extrude(shell, 0.0, height, fillet_mm=0.25, holes=[shifted(cavity, -0.3), shifted(slot, -0.2), *loops]),
            sweep(cavity, wall(_FLOOR_MM, height, chamfer_mm=0.3)),
            cap([cavity.points], _FLOOR_MM),
            sweep(slot, wall(2.0, height, chamfer_mm=0.2)),
            cap([slot.points], 2.0),
        ]
    )
    pins = [
        Component(name, pin((2.2 * k - 4.4 + x, 0.9 + y), pin_width, _FLOOR_MM - 0.2, top), gold)
        for k, (name, top, (x, y)) in enumerate(zip(PINS, tops, leans, strict=True))
    ]
    holes = [
        Component(name, round_hole(c, 0.8, height, 2.0, chamfer_mm=0.2), ivory)
        for name, c in zip(HOLES, centres, strict=True)
    ]
    plugs = [Component(f"{n}_plug", cap([loop], height), ivory) for n, loop in zip(HOLES, loops, strict=True)]
    return assembled("connector_housing", [Component("housing", body, ivory), *pins, *holes], FEATURES, missing, plugs)
