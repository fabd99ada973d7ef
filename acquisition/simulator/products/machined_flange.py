"""A small pipe flange of turned steel: a serrated raised face on a hub, and four bolt holes in the plate around it."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from rakelight.acquisition.simulator.noise import Mottle, value_noise
from rakelight.acquisition.simulator.outlines import Arc, Line
from rakelight.acquisition.simulator.products.variation import assembled, sized, tinted
from rakelight.acquisition.simulator.shapes import revolve, turned_grooves
from rakelight.acquisition.simulator.solid import Component, Material, Part
from rakelight.acquisition.simulator.turned_face import drilled_face

FEATURES = ("bolt_hole_1", "bolt_hole_2", "bolt_hole_3", "bolt_hole_4")


def build(rng: np.random.Generator, missing: Collection[str] = frozenset()) -> Part:
    """18 × 18 × 6 mm. Tool marks: grooves of about 0.33 mm pitch, 7 µm deep, on plate and hub."""
    rim, plate, height, bore = sized(rng, 9.0), sized(rng, 3.0), sized(rng, 6.0), sized(rng, 2.1)
    hub, bolt = sized(rng, 5.0), sized(rng, 0.95)
    pitch, depth = 0.33 + 0.02 * float(rng.uniform(-1, 1)), 0.007 + 0.001 * float(rng.uniform(-1, 1))
    steel = Material(tinted(rng, (0.125, 0.122, 0.118)), tinted(rng, (0.56, 0.55, 0.53)), 0.3)
    steel = steel.textured(Mottle(value_noise(rng, 1.5, octaves=2), (0.02, 0.02, 0.02), 0.03))

    bevel, root = 0.3, 0.4
    circle = (rim - bevel + hub + root) / 2
    angles = [math.pi / 4 + k * math.pi / 2 for k in range(4)]
    holes = [((circle * math.cos(a), circle * math.sin(a)), bolt) for a in angles]
    drilled = drilled_face(turned_grooves(rim - bevel, hub + root, plate, pitch, depth), holes, 0.0)
    # Rim and hub end in a ledge under the plate's face, so that no ray passes where their samples differ.
    edge = revolve(
        [
            Line((rim, 0.0), (rim, plate - bevel)),
            Line((rim, plate - bevel), (rim - bevel, plate)),
            Line((rim - bevel, plate), (rim - bevel - 0.1, plate - 0.05)),
        ]
    )
    hub_side = revolve(
        [
            Line((hub + root + 0.1, plate - 0.05), (hub + root, plate)),
            Arc((hub + root, plate + root), root, -90.0, -180.0),
            Line((hub, plate + root), (hub, height - bevel)),
            Line((hub, height - bevel), (hub - bevel, height)),
            *turned_grooves(hub - bevel, bore + 0.4, height, pitch, depth),
            Line((bore + 0.4, height), (bore, height - 0.4)),
            Line((bore, height - 0.4), (bore, 0.0)),
        ]
    )
    components = [
        Component("rim", edge, steel),
        Component("plate", drilled.face, steel),
        Component("hub", hub_side, steel),
        *(Component(name, wall, steel) for name, wall in zip(FEATURES, drilled.walls, strict=True)),
    ]
    plugs = [Component(f"{name}_plug", plug, steel) for name, plug in zip(FEATURES, drilled.plugs, strict=True)]
    return assembled("machined_flange", components, FEATURES, missing, plugs)
