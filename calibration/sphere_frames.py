"""What was recorded of mirror spheres, read into outlines, highlights and light rays, one frame at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from rakelight.arrays import check_array, check_same_shape
from rakelight.calibration.near_sources import angles_deg
from rakelight.calibration.outlines import Circle
from rakelight.calibration.spheres import (
    Highlight,
    Reflection,
    find_highlight,
    find_known_spheres,
    reflect_highlight,
    share_outside,
)
from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.models import Camera, Plane

FloatArray = NDArray[np.float64]
Frames = Sequence[NDArray[Any]] | Callable[[], Iterable[NDArray[Any]]]

_SWAPPED_DEG = 15.0  # by which the directions of two spheres may differ before another order of the zones is tried
_MAX_CUT = 0.5  # of a sphere's outline


@dataclass(frozen=True, eq=False)
class SphereFrames:
    """What was recorded of one sphere.

    Attributes
    ----------
    frames
        One (H, W) frame a zone, in the order of the zones: a sequence (it may load lazily), or a function that returns
        an iterable. It is gone through twice, one frame at a time, when ``circle`` is not given.
    circle : Circle, optional
        Outline in the pixels of the frames; found when not given.
    offset : (float, float)
        Pixel (u, v) of the full camera frame at which the frames begin.
    diameter_mm : float, optional
    saturation : float, optional
        DN from which a pixel of these frames is saturated; default that of :func:`calibrate_lights`.
    name : str
        Of the recording, for messages.
    """

    frames: Frames
    circle: Circle | None = None
    offset: tuple[float, float] = (0.0, 0.0)
    diameter_mm: float | None = None
    saturation: float | None = None
    name: str = ""

    def called(self, number: int) -> str:
        """How messages call sphere ``number``, counted from 1."""
        return f"sphere {number} ({self.name})" if self.name else f"sphere {number}"


def observe(
    spheres: Sequence[SphereFrames],
    camera: Camera | None,
    table: Plane | None,
    saturation: float | None,
    zones: Sequence[int] | None,
    warnings: list[str],
) -> tuple[list[Circle], list[tuple[Highlight, ...]], list[list[Reflection]]]:
    """Circles, highlights and light rays of each sphere, in full-frame pixels."""
    circles, highlights, reflections = [], [], []
    for number, sphere in enumerate(spheres, start=1):
        circle = sphere.circle or _outline(sphere, number, camera, table)
        level = saturation if sphere.saturation is None else sphere.saturation
        found = _highlights(sphere, circle, level, number, zones, warnings)
        circle = circle.shifted(*sphere.offset)
        row = tuple(h.shifted(*sphere.offset) for h in found)
        circles.append(circle)
        highlights.append(row)
        try:
            reflections.append(
                [reflect_highlight(circle, h, camera, diameter_mm=sphere.diameter_mm, table=table) for h in row]
            )
        except CalibrationError as error:
            raise _named(error, sphere.called(number)) from error
    return circles, highlights, reflections


def iterate(frames: Frames, what: str) -> Iterator[NDArray[Any]]:
    """Frames from the first on; refuses a generator, which would be empty the second time."""
    if isinstance(frames, Iterator):
        raise InputError(
            f"{what} are a generator, which can be read only once; give a sequence or a function that returns one"
        )
    yield from frames() if callable(frames) else frames


def _outline(sphere: SphereFrames, number: int, camera: Camera | None, table: Plane | None) -> Circle:
    """Outline of a sphere in the mean of its frames."""
    total: FloatArray | None = None
    for frame in iterate(sphere.frames, f"frames of sphere {number}"):
        grey = check_array(f"frame of sphere {number}", frame, ndim=2)
        if total is None:
            total = np.zeros(grey.shape)
        check_same_shape(f"frames of sphere {number}", [total, grey])
        total += grey
    if total is None:
        raise InputError(f"sphere {number} has no frames; one a zone is needed")
    try:
        return find_known_spheres(total, 1, camera, table, sphere.diameter_mm)[0]
    except CalibrationError as error:
        raise _named(error, sphere.called(number)) from error


def _highlights(
    sphere: SphereFrames,
    circle: Circle,
    saturation: float | None,
    number: int,
    zones: Sequence[int] | None,
    warnings: list[str],
) -> list[Highlight]:
    found: list[Highlight] = []
    for frame in iterate(sphere.frames, f"frames of sphere {number}"):
        if not found:
            _check_view(circle, frame.shape, sphere.called(number), warnings)
        try:
            found.append(find_highlight(frame, circle, saturation))
        except CalibrationError as error:
            zone = zones[len(found)] if zones is not None and len(found) < len(zones) else len(found) + 1
            raise _named(error, f"{sphere.called(number)}, zone {zone}") from error
    if not found:
        raise InputError(f"sphere {number} has no frames; one a zone is needed")
    return found


def _check_view(circle: Circle, shape: tuple[int, ...], name: str, warnings: list[str]) -> None:
    outside = share_outside(circle, shape)
    if outside > _MAX_CUT:
        raise CalibrationError(
            f"{name}: {outside:.0%} of its outline lies outside the image of {shape[1]}×{shape[0]} px; at most "
            f"{_MAX_CUT:.0%} is allowed",
            hint="move the sphere into the field of view",
            code="calibration.sphere_out_of_view",
        )
    if outside > 0.0:
        warnings.append(f"{name}: the image cuts off {outside:.0%} of its outline; lay it wholly into the field")


def _named(error: CalibrationError, where: str) -> CalibrationError:
    return CalibrationError(f"{where}: {error.message}", hint=error.hint, code=error.code)


def check_order(directions: FloatArray, zones: Sequence[int]) -> None:
    """Refuse spheres that see the zones in different order: lamps swapped between two recordings."""
    for number, row in enumerate(directions[1:], start=2):
        angles = angles_deg(directions[0][:, None], row[None, :])
        first, other = linear_sum_assignment(angles)
        if np.diag(angles).max() > _SWAPPED_DEG and angles[first, other].max() < 0.5 * np.diag(angles).max():
            swaps = ", ".join(f"{zones[a]} as {zones[b]}" for a, b in zip(first, other, strict=True) if a != b)
            raise CalibrationError(
                f"sphere {number} sees the zones in another order than sphere 1: {swaps} (directions differ by up to "
                f"{float(np.diag(angles).max()):.0f}°)",
                hint="check the wiring and the order of the zones; record the spheres again in one session",
                code="calibration.zones_swapped",
            )
