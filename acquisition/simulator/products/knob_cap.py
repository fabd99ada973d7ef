"""A rotary knob's cap of matte ABS: fluted grip, domed top, inlaid orange pointer."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from rakelight.acquisition.simulator.noise import Mottle, value_noise
from rakelight.acquisition.simulator.outlines import Line, rounded_rectangle
from rakelight.acquisition.simulator.products.variation import assembled, sized, tinted
from rakelight.acquisition.simulator.shapes import Flutes, domed, extrude, revolve
from rakelight.acquisition.simulator.solid import Component, Material, Part

FEATURES = ("pointer",)


def build(rng: np.random.Generator, missing: Collection[str] = frozenset()) -> Part:
    """10 × 10 × 6 mm. The skirt flares out under the grip; the dome has a radius of 24 mm."""
    radius, height, dome = sized(rng, 4.15), sized(rng, 6.0), sized(rng, 24.0)
    skirt = sized(rng, 4.93)
    grey = Material(tinted(rng, (0.60, 0.60, 0.58)), (0.04, 0.04, 0.04), 0.7)
    grey = grey.textured(Mottle(value_noise(rng, 1.2), (0.012, 0.012, 0.012)))
    orange = Material(tinted(rng, (0.62, 0.22, 0.05)), (0.04, 0.04, 0.04), 0.6)

    flare = revolve([Line((skirt, 0.0), (skirt, 0.8)), Line((skirt, 0.8), (radius - 0.3, 1.3))])
    flutes = Flutes(24, 0.26)
    shoulder = 4.3
    grip = revolve(
        [
            Line((radius + 0.13, 0.9), (radius + 0.13, shoulder), weight=(1, 1)),
            Line((radius + 0.13, shoulder), (radius - 0.15, shoulder + 0.4), weight=(1, 0)),
        ],
        flutes=flutes,
    )
    top = domed(radius - 0.15, height - 0.12, dome, 0.5)
    cap = revolve([Line((radius - 0.15, shoulder), (radius - 0.15, top[0].centre[1])), *top])
    # From near the middle to the rim, 0.12 mm proud of the dome's apex.
    pointer = extrude(rounded_rectangle(0.8, 2.9, 0.35, centre=(0.0, 1.75)), 4.0, height, fillet_mm=0.1)
    components = [
        Component("skirt", flare, grey),
        Component("grip", grip, grey),
        Component("cap", cap, grey),
        Component("pointer", pointer, orange),
    ]
    return assembled("knob_cap", components, FEATURES, missing)
