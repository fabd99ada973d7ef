"""One specimen of a product or one setting of a target: what lies on the table, in which pose, with which defect.

A name and a seed decide everything. The defect has a stream of random numbers of its own, so that a specimen and its
flawless twin are the same but for it.
"""

from __future__ import annotations

import difflib
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from rakelight.acquisition.simulator.defects import Defect, apply_defect
from rakelight.acquisition.simulator.products.catalogue import PRODUCTS
from rakelight.acquisition.simulator.solid import Part, Pose
from rakelight.acquisition.simulator.targets import TARGETS
from rakelight.errors import InputError

_SHIFT_MM, _TURN_DEG = 1.0, 10.0  # how exactly a technician lays a part under the camera


class Stream(IntEnum):
    """What a seed decides, each on its own."""

    SPECIMEN = 0
    POSE = 1
    DEFECT = 2
    NOISE = 3


def generator(name: str, seed: int, stream: Stream) -> np.random.Generator:
    """The random numbers of one product or target, seed and stream."""
    return np.random.default_rng([zlib.crc32(name.encode()), seed, int(stream)])


@dataclass(frozen=True, eq=False)
class Specimen:
    """What is laid under the camera.

    Attributes
    ----------
    name : str
    seed : int
    part : Part
    flawless : Part or None
        The twin without the defect; None for a part that has none.
    defect : Defect or None
    pose : Pose
    target : str
        As recordings name it: ``part``, ``charuco``, ``chrome_sphere`` …
    height_mm : float
        Nominal height, for the white plane.
    facts : dict
        Plain data about a target (square size, sphere centres …).
    """

    name: str
    seed: int
    part: Part
    flawless: Part | None
    defect: Defect | None
    pose: Pose
    target: str
    height_mm: float
    facts: dict[str, Any]


def make_specimen(name: str, seed: int, defect: str | None = None, pose: Pose | None = None) -> Specimen:
    """Specimen ``seed`` of a product or target.

    Raises
    ------
    InputError
        ``simulate.unknown_part`` (lists all), ``simulate.seed``, ``simulate.defect_does_not_fit`` and what
        :func:`apply_defect` raises.
    """
    check_seed(seed)
    check_name(name)
    if name in TARGETS:
        return _target(name, seed, defect, pose)
    product = PRODUCTS[name]

    def build(missing: frozenset[str] = frozenset()) -> Part:
        return product.build(generator(name, seed, Stream.SPECIMEN), missing)

    part, flaw, flawless = build(), None, None
    if defect is not None:
        flawless = part
        part, flaw = apply_defect(part, defect, generator(name, seed, Stream.DEFECT), rebuild=build)
    if pose is None:
        shifts = generator(name, seed, Stream.POSE).uniform(-1, 1, 3) * (_SHIFT_MM, _SHIFT_MM, _TURN_DEG)
        pose = Pose(*(round(float(s), 4) for s in shifts))
    return Specimen(name, seed, part, flawless, flaw, pose, "part", product.height_mm, {})


def _target(name: str, seed: int, defect: str | None, pose: Pose | None) -> Specimen:
    if defect is not None:
        raise InputError(
            f"{name} is a calibration target; defects are for products: {', '.join(PRODUCTS)}",
            hint="leave --defect out",
            code="simulate.defect_does_not_fit",
        )
    kind = TARGETS[name]
    part = kind.build(generator(name, seed, Stream.SPECIMEN))
    pose = pose or kind.default_pose(generator(name, seed, Stream.POSE))
    height = float(part.extent_mm[1][2])
    return Specimen(name, seed, part, None, None, pose, kind.recording_target, height, kind.facts)


def check_seed(seed: int) -> None:
    """Refuse a seed that is out of range with :class:`InputError`, ``simulate.seed``."""
    if not 0 <= seed < 2**31:
        raise InputError(f"seed {seed}; allowed: 0 to {2**31 - 1}", hint="choose another", code="simulate.seed")


def check_name(name: str) -> None:
    """Refuse a name that is neither a product nor a target with :class:`InputError`, ``simulate.unknown_part``."""
    if name in PRODUCTS or name in TARGETS:
        return
    near = difflib.get_close_matches(name, [*PRODUCTS, *TARGETS], n=1)
    raise InputError(
        f"part {name!r} is not known; products: {', '.join(PRODUCTS)}; targets: {', '.join(TARGETS)}",
        hint=f"did you mean {near[0]!r}?"
        if near
        else "choose one of these; `rakelight simulate --list` describes them",
        code="simulate.unknown_part",
    )
