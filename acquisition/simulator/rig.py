"""The simulated rig: one camera, point lights and pattern projectors around a table, as plain numbers.

Frame: the *viewer axes* with the origin on the table under the camera: x right, y up in the image, z towards the camera,
in mm. The camera looks straight down from ``table_mm``; in its own (OpenCV) frame a point is (x, −y, table_mm − z).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rakelight.errors import InputError

FloatArray = NDArray[np.float64]

FULL_WIDTH, FULL_HEIGHT = 5472, 3648
MIN_WIDTH, MIN_HEIGHT = 456, 304
FULL_PITCH_MM = 0.01  # of a full-size pixel on the table
PIXEL_FORMATS = ("BayerRG8", "BayerRG10", "BayerRG12", "Mono8", "Mono10", "Mono12")


@dataclass(frozen=True)
class Lens:
    """A pinhole with Brown's distortion k1, k2, p1, p2, k3 (the order of OpenCV), in px of its image or pattern."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)

    @property
    def numbers(self) -> FloatArray:
        """fx, fy, cx, cy, k1, k2, p1, p2, k3: what the kernels take."""
        return np.array([self.fx, self.fy, self.cx, self.cy, *self.distortion])


@dataclass(frozen=True)
class PointLight:
    """An isotropic point source of light zone ``zone``.

    ``strength`` is the irradiance that a surface facing it receives at ``REFERENCE_MM`` from it, relative to the others.
    """

    zone: int
    position_mm: tuple[float, float, float]
    strength: float = 1.0


REFERENCE_MM = 210.0  # distance at which strengths are meant


@dataclass(frozen=True, eq=False)
class PatternSource:
    """A projector: a lens with a pose that throws patterns.

    ``rotation`` turns viewer axes into the projector's own (x along columns, y along rows, z along its axis), whose origin
    is at ``centre_mm``. ``gamma`` bends the pattern (light = value^gamma), ``blur_px`` is the sigma of its optics in
    projector px.
    """

    direction: int
    lens: Lens
    centre_mm: FloatArray
    rotation: FloatArray
    strength: float = 2.0
    gamma: float = 1.0
    blur_px: float = 0.4


@dataclass(frozen=True)
class Sensor:
    """What turns light into numbers.

    Full well (saturation) in e⁻, read noise in e⁻ rms, PRNU as relative rms, black level as a share of full scale,
    response of the R, G, B photosites to the white of the lights; ``prnu_seed`` picks the sensor, the same in every scene.
    """

    pixel_format: str = "BayerRG12"
    full_well_e: float = 10_000.0
    read_noise_e: float = 3.0
    prnu: float = 0.005
    black_level: float = 0.015625  # 64 of 4096
    response: tuple[float, float, float] = (0.72, 1.0, 0.63)
    prnu_seed: int = 1

    @property
    def bits(self) -> int:
        """Bits of a raw value."""
        return int(self.pixel_format.removeprefix("BayerRG").removeprefix("Mono"))

    @property
    def full_scale(self) -> int:
        """Largest raw value."""
        return int(2**self.bits - 1)

    @property
    def black_dn(self) -> float:
        """Raw value of no light."""
        return round(self.black_level * (self.full_scale + 1))

    @property
    def dn_per_e(self) -> float:
        """Conversion gain: a full well just saturates."""
        return (self.full_scale - self.black_dn) / self.full_well_e

    @property
    def mosaic(self) -> tuple[int, int, int, int]:
        """Channel of the photosites (0, 0), (0, 1), (1, 0), (1, 1): row, column."""
        return (0, 1, 1, 2) if self.pixel_format.startswith("Bayer") else (0, 0, 0, 0)

    @property
    def channels(self) -> FloatArray:
        """(C, 3): what R, G, B light each channel collects; one grey channel for Mono."""
        r, g, b = self.response
        if self.pixel_format.startswith("Bayer"):
            return np.diag([r, g, b])
        return np.array([[r, g, b]]) / 3


@dataclass(frozen=True, eq=False)
class Rig:
    """Everything around the part.

    ``blur_px`` is the sigma of the camera lens in px of the frame, ``ambient`` the irradiance of the room on every
    surface, ``electrons_per_us`` what a photosite of response 1 collects from white (albedo 1) at irradiance 1.
    ``table_albedo`` is that of the matte table.
    """

    camera: Lens
    table_mm: float
    lights: tuple[PointLight, ...]
    projectors: tuple[PatternSource, ...]
    sensor: Sensor = field(default_factory=Sensor)
    blur_px: float = 0.6
    ambient: float = 0.01
    electrons_per_us: float = 1.5
    table_albedo: float = 0.12

    @property
    def pitch_mm(self) -> float:
        """Size of a pixel on the table."""
        return self.table_mm / self.camera.fx


def reference_rig(
    width: int = 1368, height: int | None = None, *, pixel_format: str = "BayerRG12", gamma: float = 1.0
) -> Rig:
    """The reference simulated rig (DESIGN §5) with a sensor of ``width`` × ``height`` px.

    Full size is 5472×3648; smaller sensors see the same 54.7 mm of the table. Camera and projectors have a little lens
    distortion and principal points off the middle, so that code which forgets them is found out.

    Raises
    ------
    InputError
        ``simulate.size``: a size outside 456×304 … 5472×3648, or an odd one; ``simulate.pixel_format``.
    """
    height = round(width * FULL_HEIGHT / FULL_WIDTH / 2) * 2 if height is None else height
    fits = MIN_WIDTH <= width <= FULL_WIDTH and MIN_HEIGHT <= height <= FULL_HEIGHT
    if not fits or width % 2 or height % 2:
        raise InputError(
            f"size {width}×{height} px; allowed: even numbers from {MIN_WIDTH}×{MIN_HEIGHT} to {FULL_WIDTH}×{FULL_HEIGHT}",
            hint="the reference camera has 5472x3648; 2736x1824, 1368x912, 912x608 and 456x304 see the same field",
            code="simulate.size",
        )
    if pixel_format not in PIXEL_FORMATS:
        raise InputError(
            f"pixel format {pixel_format!r} is not simulated; allowed: {', '.join(PIXEL_FORMATS)}",
            hint="the reference camera gives BayerRG12",
            code="simulate.pixel_format",
        )
    table = 200.0
    scale = width / FULL_WIDTH
    focal = table / FULL_PITCH_MM * scale
    # The principal point of the full sensor lies at (+14.3, −9.6) px from the middle; a reduced pixel i covers the full
    # pixels i/scale …, so that its centre is (full + 0.5)·scale − 0.5.
    cx, cy = (width - 1) / 2 + 14.3 * scale, (height - 1) / 2 - 9.6 * scale
    camera = Lens(width, height, focal, focal, cx, cy, (-0.06, 0.03, 2e-4, -1.5e-4, 0.0))
    lights = []
    for zone, strength in zip((1, 2, 3, 4), (1.0, 0.92, 1.06, 0.97), strict=True):
        azimuth, slant = math.radians(90 * (zone - 1)), math.radians(45)
        side = REFERENCE_MM * math.sin(slant)
        position = (side * math.cos(azimuth), side * math.sin(azimuth), REFERENCE_MM * math.cos(slant))
        lights.append(PointLight(zone, position, strength))
    projectors = tuple(_projector(direction, gamma) for direction in (1, 2, 3, 4))
    return Rig(camera, table, tuple(lights), projectors, Sensor(pixel_format))


def _projector(direction: int, gamma: float) -> PatternSource:
    """912×1140 px, 30° from the vertical, 46 µm a column on the table; columns run along the side it shines from."""
    distance, tilt = REFERENCE_MM, math.radians(30)
    azimuth = math.radians(90 * (direction - 1))
    towards = np.array([math.cos(azimuth), math.sin(azimuth), 0.0])  # on the table, to the projector's side
    up = np.array([0.0, 0.0, 1.0])
    centre = distance * (math.sin(tilt) * towards + math.cos(tilt) * up)
    axis = -centre / distance
    columns = math.cos(tilt) * towards - math.sin(tilt) * up
    rows = np.cross(axis, columns)
    # One column covers 46 µm of the table, which is seen under cos 30°.
    focal = distance / (0.046 * math.cos(tilt))
    lens = Lens(912, 1140, focal, focal * 1.001, 455.5 + 6.2, 569.5 - 11.4, (0.04, -0.02, -1e-4, 2e-4, 0.0))
    return PatternSource(direction, lens, centre, np.array([columns, rows, axis]), gamma=gamma)
