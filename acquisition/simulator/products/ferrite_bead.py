"""A ferrite bead on its tinned lead, lying on its side."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from rakelight.acquisition.simulator.noise import Mottle, value_noise
from rakelight.acquisition.simulator.outlines import rounded
from rakelight.acquisition.simulator.products.variation import assembled, sized, tinted
from rakelight.acquisition.simulator.shapes import revolve
from rakelight.acquisition.simulator.solid import Component, Material, Part

FEATURES = ("lead",)
# The axis of turning, z, comes to lie along x.
_LYING = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])


def build(rng: np.random.Generator, missing: Collection[str] = frozenset()) -> Part:
    """23 × 10 × 10 mm: a bead of 14 mm and a lead of 23 mm through its bore."""
    radius, half, lead = sized(rng, 5.0), sized(rng, 7.0), sized(rng, 0.5)
    ferrite = Material(tinted(rng, (0.115, 0.115, 0.125)), (0.06, 0.06, 0.06), 0.16)
    ferrite = ferrite.textured(Mottle(value_noise(rng, 0.4), (0.02, 0.02, 0.02), 0.02))
    tin = Material(tinted(rng, (0.22, 0.22, 0.21)), tinted(rng, (0.72, 0.71, 0.68)), 0.28)

    bead = revolve(
        rounded(
            [(1.3, -half), (radius, -half), (radius, half), (1.3, half), (1.3, -half)],
            [0, 1.0, 1.0, 0.4, 0],
        )
    )
    wire = revolve(rounded([(0, -11.5), (lead, -11.5), (lead, 11.5), (0, 11.5)], [0, 0.2, 0.2, 0]))
    place = (0.0, 0.0, radius)
    components = [
        Component("bead", bead.moved(_LYING, place), ferrite),
        Component("lead", wire.moved(_LYING, place), tin),
    ]
    return assembled("ferrite_bead", components, FEATURES, missing)
