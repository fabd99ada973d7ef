"""The bezel of a display window: blue anodised aluminium, chamfered, with two countersunk screw holes."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from rakelight.acquisition.simulator.noise import Mottle, value_noise
from rakelight.acquisition.simulator.outlines import rounded_rectangle, shifted
from rakelight.acquisition.simulator.products.variation import assembled, sized, tinted
from rakelight.acquisition.simulator.shapes import cap, extrude, ring, round_hole, sweep, wall
from rakelight.acquisition.simulator.solid import Component, Material, Part, merged

FEATURES = ("screw_hole_1", "screw_hole_2")


def build(rng: np.random.Generator, missing: Collection[str] = frozenset()) -> Part:
    """22 × 16 × 5 mm. The window goes through; a step 0.6 mm deep round it carries the pane."""
    width, depth, height = sized(rng, 22.0), sized(rng, 16.0), sized(rng, 5.0)
    bore, sink = sized(rng, 0.9), sized(rng, 0.65)
    step_z = height - sized(rng, 0.6)
    blue = Material(tinted(rng, (0.06, 0.15, 0.42)), tinted(rng, (0.17, 0.27, 0.48)), 0.3)
    # Brushed along x before anodising: the gloss is streaky.
    blue = blue.textured(Mottle(value_noise(rng, (5.0, 0.15, 0.15), octaves=2), (0.015, 0.015, 0.015), 0.06))
    bare = Material((0.15, 0.15, 0.16), (0.80, 0.81, 0.83), 0.3)

    pocket = rounded_rectangle(11.6, 12.2, 1.6, hole=True)
    window = rounded_rectangle(9.6, 10.2, 1.2, hole=True)
    centres = ((-8.4, 0.0), (8.4, 0.0))
    body = merged(
        [
            extrude(
                rounded_rectangle(width, depth, 2.6),
                0.0,
                height,
                chamfer_mm=0.6,
                holes=[shifted(pocket, -0.2), *(ring(bore + sink, c) for c in centres)],
            ),
            sweep(pocket, wall(step_z, height, chamfer_mm=0.2)),
            cap([pocket.points, window.points], step_z),
            sweep(window, wall(0.0, step_z)),
        ]
    )
    holes = [
        Component(name, round_hole(c, bore, height, 0.0, chamfer_mm=sink, through=True), bare)
        for name, c in zip(FEATURES, centres, strict=True)
    ]
    plugs = [
        Component(f"{name}_plug", cap([ring(bore + sink, c)], height), blue)
        for name, c in zip(FEATURES, centres, strict=True)
    ]
    return assembled("anodised_bezel", [Component("plate", body, blue), *holes], FEATURES, missing, plugs)
