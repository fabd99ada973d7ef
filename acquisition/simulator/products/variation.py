"""What differs from specimen to specimen, and which features one may lack."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from rakelight.acquisition.simulator.solid import Component, Part
from rakelight.errors import InputError

RGB = tuple[float, float, float]


def sized(rng: np.random.Generator, value_mm: float, *, relative: float = 0.005, least_mm: float = 0.01) -> float:
    """A dimension within ±0.5 %, or ±10 µm if that is more."""
    return value_mm + float(rng.uniform(-1, 1)) * max(relative * value_mm, least_mm)


def tinted(rng: np.random.Generator, colour: RGB, relative: float = 0.03) -> RGB:
    """A colour whose brightness varies by ±3 % and each channel by a third of that more."""
    common = 1 + relative * float(rng.uniform(-1, 1))
    red, green, blue = np.clip(np.array(colour) * common * (1 + relative / 3 * rng.uniform(-1, 1, 3)), 0, 1)
    return float(red), float(green), float(blue)


def assembled(
    product: str,
    components: Sequence[Component],
    features: Sequence[str],
    missing: Collection[str],
    plugs: Sequence[Component] = (),
) -> Part:
    """The part without its missing features.

    Every component is made first and left out here, so that the random numbers, and with them the rest of the part,
    are those of the whole specimen. A hole that is not drilled is replaced by its plug, the component named
    ``<hole>_plug``: the piece of the face that the drill would have taken.

    Raises
    ------
    InputError
        If a name in ``missing`` is no feature of this product.
    """
    unknown = sorted(set(missing) - set(features))
    if unknown:
        raise InputError(
            f"missing feature of {product} is {', '.join(unknown)}; allowed: {', '.join(features) or 'none'}",
            hint="choose one of the product's own features",
            code="simulate.unknown_feature",
        )
    present = [c for c in components if c.name not in missing]
    filled = [p for p in plugs if p.name.removesuffix("_plug") in missing]
    return Part(product, (*present, *filled), tuple(f for f in features if f not in missing))
