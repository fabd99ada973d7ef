"""A lead-through insulator of glazed cream porcelain, with a brass eyelet in its hole."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from rakelight.acquisition.simulator.noise import Mottle, value_noise
from rakelight.acquisition.simulator.outlines import rounded
from rakelight.acquisition.simulator.products.variation import assembled, sized, tinted
from rakelight.acquisition.simulator.shapes import revolve
from rakelight.acquisition.simulator.solid import Component, Material, Part

FEATURES = ("eyelet",)


def build(rng: np.random.Generator, missing: Collection[str] = frozenset()) -> Part:
    """14 × 14 × 9 mm. All edges are round, as the glaze leaves them."""
    foot, height, shoulder = sized(rng, 7.0), sized(rng, 8.7), sized(rng, 5.2)
    rim = sized(rng, 2.6)
    cream = Material(tinted(rng, (0.74, 0.70, 0.60)), (0.05, 0.05, 0.05), 0.08)
    cream = cream.textured(Mottle(value_noise(rng, 3.0), (0.008, 0.009, 0.012)))
    brass = Material(tinted(rng, (0.20, 0.15, 0.06)), tinted(rng, (0.85, 0.70, 0.38)), 0.22)

    glazed = revolve(
        rounded(
            [
                (foot, 0),
                (foot, 2.6),
                (shoulder + 0.25, 2.6),
                (shoulder, height),
                (rim, height),
                (rim, height - 0.8),
                (1.75, height - 0.8),
                (1.75, 0),
            ],
            [0, 1.0, 0.45, 2.2, 0.35, 0.15, 0.2, 0],
        )
    )
    # Its collar lies in the counterbore and stands 0.3 mm proud; the wall goes down the bore.
    top = height + 0.3
    eyelet = revolve(
        rounded(
            [(2.35, height - 0.9), (2.35, top), (1.4, top), (1.4, 0)],
            [0, 0.35, 0.5, 0],
        )
    )
    components = [Component("body", glazed, cream), Component("eyelet", eyelet, brass)]
    return assembled("ceramic_insulator", components, FEATURES, missing)
