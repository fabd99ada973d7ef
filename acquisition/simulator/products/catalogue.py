"""All simulated products by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rakelight.acquisition.simulator.products import (
    anodised_bezel,
    ceramic_insulator,
    clay_pot,
    connector_housing,
    ferrite_bead,
    knob_cap,
    machined_flange,
)
from rakelight.acquisition.simulator.solid import Part

Build = Callable[[np.random.Generator, frozenset[str]], Part]


@dataclass(frozen=True)
class Product:
    """A kind of part.

    Attributes
    ----------
    name, material, description : str
    length_mm, width_mm, height_mm : float
        Nominal extents along x, y and z.
    features : tuple of str
        What may be missing.
    build : (rng, missing features) → Part
        Makes one specimen. The same state of the generator gives the same specimen, whatever is missing. Raises
        InputError for an unknown feature.
    """

    name: str
    material: str
    description: str
    length_mm: float
    width_mm: float
    height_mm: float
    features: tuple[str, ...]
    build: Build


_ALL = (
    Product(
        "knob_cap",
        "matte ABS plastic, light grey",
        "knob cap with a fluted grip, domed top and orange pointer",
        10.0,
        10.0,
        6.0,
        knob_cap.FEATURES,
        knob_cap.build,
    ),
    Product(
        "anodised_bezel",
        "anodised aluminium, blue",
        "window bezel with a step, a chamfer and two countersunk screw holes",
        22.0,
        16.0,
        5.0,
        anodised_bezel.FEATURES,
        anodised_bezel.build,
    ),
    Product(
        "ceramic_insulator",
        "glazed porcelain, cream",
        "domed lead-through insulator with a brass eyelet",
        14.0,
        14.0,
        9.0,
        ceramic_insulator.FEATURES,
        ceramic_insulator.build,
    ),
    Product(
        "machined_flange",
        "turned steel",
        "flange with a grooved hub face and four bolt holes",
        18.0,
        18.0,
        6.0,
        machined_flange.FEATURES,
        machined_flange.build,
    ),
    Product(
        "connector_housing",
        "nylon, ivory, with gilded pins",
        "five-way pin header with a keying notch and locating holes",
        15.0,
        12.0,
        6.0,
        connector_housing.FEATURES,
        connector_housing.build,
    ),
    Product(
        "clay_pot",
        "rough clay, red-brown",
        "miniature hand-thrown pot, hollow, with a thick rim",
        20.0,
        20.0,
        8.0,
        clay_pot.FEATURES,
        clay_pot.build,
    ),
    Product(
        "ferrite_bead",
        "glossy ferrite, dark grey",
        "ferrite bead on a tinned lead, lying on its side",
        23.0,
        10.0,
        10.0,
        ferrite_bead.FEATURES,
        ferrite_bead.build,
    ),
)

PRODUCTS: dict[str, Product] = {product.name: product for product in _ALL}
