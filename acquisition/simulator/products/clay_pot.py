"""A miniature pot of red-brown clay, thrown by hand: uneven, rough, mottled by the kiln."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from rakelight.acquisition.simulator.noise import Mottle, random_waves, value_noise
from rakelight.acquisition.simulator.outlines import rounded
from rakelight.acquisition.simulator.products.variation import assembled, sized, tinted
from rakelight.acquisition.simulator.shapes import revolve, warped
from rakelight.acquisition.simulator.solid import Component, Material, Part

FEATURES: tuple[str, ...] = ()


def build(rng: np.random.Generator, missing: Collection[str] = frozenset()) -> Part:
    """20 × 20 × 8 mm, hollow, with a thick rim; the whole is warped by waves of 14 mm and more, 0.06 mm rms."""
    rim, height = sized(rng, 9.9), sized(rng, 7.95)
    clay = Material(tinted(rng, (0.36, 0.22, 0.15)), (0.02, 0.02, 0.02), 0.95)
    clay = clay.textured(Mottle(value_noise(rng, 5.0, octaves=2), (0.10, 0.12, 0.13)))
    clay = clay.textured(Mottle(value_noise(rng, 0.35, octaves=3), (0.09, 0.10, 0.10)))
    waves = random_waves(rng, 0.06, 14.0, height)

    pot = revolve(
        rounded(
            [
                (rim - 1.4, 0),
                (rim - 0.7, 4.6),
                (rim, 5.0),
                (rim, height),
                (rim - 1.7, height),
                (rim - 2.6, 1.5),
                (0, 1.5),
            ],
            [0, 0.5, 0.6, 0.75, 0.75, 1.6, 0],
        ),
        max_edge_mm=0.22,
    )
    return assembled("clay_pot", [Component("pot", warped(pot, waves), clay)], FEATURES, missing)
