"""Seeded random fields in space: mottled colours, brushed gloss, and hand-made waviness."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from rakelight.acquisition.simulator.solid import FloatArray

_TABLE = 32
_CHUNK = 1 << 18  # points at a time: bounds the temporaries on a 20-megapixel frame


@dataclass(frozen=True, eq=False)
class ValueNoise:
    """Value noise: random numbers on a lattice that repeats after 32 cells, joined by smoothstep (so it is C¹).

    Octaves halve the cell and the amplitude each time; the sum is scaled to a standard deviation of about 1.
    """

    table: FloatArray
    cell_mm: FloatArray
    octaves: int

    def __call__(self, points: FloatArray) -> FloatArray:
        """Points (N, 3) in mm → (N,)."""
        values = np.empty(len(points))
        for start in range(0, len(points), _CHUNK):
            part = slice(start, start + _CHUNK)
            values[part] = self._sum(points[part])
        return values

    def _sum(self, points: FloatArray) -> FloatArray:
        total = np.zeros(len(points))
        for octave in range(self.octaves):
            lattice = points / self.cell_mm * 2**octave + 7.3 * octave  # shifted, so that the octaves' nodes part
            whole = np.floor(lattice)
            t = lattice - whole
            smooth = whole + t * t * (3 - 2 * t)
            total += 0.5**octave * map_coordinates(self.table, smooth.T, order=1, mode="grid-wrap")
        return total


def value_noise(rng: np.random.Generator, cell_mm: float | tuple[float, float, float], octaves: int = 3) -> ValueNoise:
    """Draw a field. ``cell_mm``: size of the largest blots, one for each axis if they are drawn out."""
    table = rng.standard_normal((_TABLE, _TABLE, _TABLE))
    # Interpolation averages the nodes' unit variance down to (26/35)³ in the mean over a cell.
    power = (26 / 35) ** 3 * sum(0.25**k for k in range(octaves))
    return ValueNoise(table / math.sqrt(power), np.broadcast_to(cell_mm, 3).astype(float), octaves)


@dataclass(frozen=True, eq=False)
class Mottle:
    """A texture: reflectance factors 1 + amplitude · noise, diffuse per channel and specular, never below 0.3.

    Attributes
    ----------
    noise : ValueNoise
    diffuse : (R, G, B)
        Amplitudes; unequal ones turn the hue.
    specular : float
    """

    noise: ValueNoise
    diffuse: tuple[float, float, float]
    specular: float = 0.0

    def __call__(self, points: FloatArray) -> FloatArray:
        """Points (N, 3) → factors (N, 4)."""
        return np.maximum(1 + self.noise(points)[:, None] * np.array([*self.diffuse, self.specular]), 0.3)


@dataclass(frozen=True, eq=False)
class Waves:
    """A displacement field for `shapes.warped`: plane sine waves, d = Σ aₖ sin(kₖ·x + φₖ), with its exact derivative.

    The upward part is multiplied by z / ``height_mm``, so that the foot stays on the table.

    Attributes
    ----------
    amplitudes_mm, wave_vectors : (K, 3) float64
        aₖ in mm and kₖ in radians per mm.
    phases : (K,) float64
    height_mm : float
    """

    amplitudes_mm: FloatArray
    wave_vectors: FloatArray
    phases: FloatArray
    height_mm: float

    def __call__(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Points (N, 3) → displacements (N, 3) and derivatives (N, 3, 3)."""
        angles = points @ self.wave_vectors.T + self.phases
        moves = np.sin(angles) @ self.amplitudes_mm
        outer = self.amplitudes_mm[:, :, None] * self.wave_vectors[:, None, :]
        slopes = (np.cos(angles) @ outer.reshape(len(outer), 9)).reshape(-1, 3, 3)
        share = points[:, 2] / self.height_mm
        slopes[:, 2] *= share[:, None]
        slopes[:, 2, 2] += moves[:, 2] / self.height_mm
        moves[:, 2] *= share
        return moves, slopes


def random_waves(
    rng: np.random.Generator, amplitude_mm: float, wavelength_mm: float, height_mm: float, count: int = 6
) -> Waves:
    """Draw waves of random direction and of wavelengths from 1 to 2 times the given; ``amplitude_mm`` rms an axis."""
    ways = rng.standard_normal((count, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    lengths = wavelength_mm * rng.uniform(1, 2, count)
    amplitudes = rng.standard_normal((count, 3)) * amplitude_mm * math.sqrt(2 / count)
    return Waves(amplitudes, 2 * math.pi * ways / lengths[:, None], rng.uniform(0, 2 * math.pi, count), height_mm)
