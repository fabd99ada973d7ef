"""One depth map from the depth maps of several directions, with uncertainty, agreement and who was believed.

All directions are seen by the one camera, so their depths already lie on the same pixels: nothing is registered and
**nothing is interpolated or filled**; a pixel has a depth only if some direction measured it there.

Per pixel, two depths *agree* when |z_i − z_j| ≤ k·√(σ_i² + σ_j²) + floor. The largest set of directions that agree pairwise
is believed, and its mean weighted by 1/σ² taken:

- Three or four that agree are a majority. Of two overlapping triples the one of greater total weight is taken.
- Exactly two that agree are believed against others that agree with nobody.
- Two pairs, or a pair that a third joins on either side without agreement, contradict each other without a majority: NaN.
- Two directions that disagree: NaN, whatever their weights. A highlight has the greatest modulation of all, hence the
  smallest σ, so that weight is no evidence against lying; for the same reason numbers go before weights.
- One direction alone is kept only if enough of its 8 neighbours continue the surface.

Beside what a direction does not see, mostly a shadow of its projector, pixels are partly dark, and their depths biased by more
than their σ tells. Within 2 px of such a gap (2×2 pixels or more, one that failed is no shadow) a direction keeps its σ, so
that it agrees or not as before, but has 1/16 of its weight in the mean, if two of the believed have no gap near. Heights of
steps at 120 µm pixels were 1.4 µm too small without, and are 0.1 µm so with it.

At last pixels that too few of their 24 neighbours continue are removed, however many directions saw them: they are single
gross errors, edges that half mix two depths, or dirt smaller than the scanner resolves.

Sources: agreement as evidence, and depths that contradict each other removed rather than averaged: P. Merrell et al.,
"Real-time visibility-based fusion of depth maps", ICCV 2007; the count of views that support a depth and the rejection
of small support: D. Gallup et al., "Variable baseline/resolution stereo", CVPR 2008, and J. L. Schönberger et al.,
"Pixelwise view selection for unstructured multi-view stereo", ECCV 2016 (fusion of geometrically consistent pixels);
largest consensus before weights: M. A. Fischler, R. C. Bolles, "Random sample consensus", Comm. ACM 24 (1981); weighted mean
and its standard deviation: the maximum-likelihood estimate for independent normal errors.

How well the directions fit together as a whole is told by :mod:`rakelight.reconstruction.direction_checks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.errors import InputError
from rakelight.reconstruction import _merging_kernels as kernels
from rakelight.reconstruction.direction_checks import (
    PairBias,
    blame,
    check_stack,
    direction_offsets,
    direction_permutation,
    pair_biases,
)

__all__ = [
    "DEFAULT_SETTINGS",
    "Merged",
    "PairBias",
    "Settings",
    "allocate",
    "blame",
    "direction_offsets",
    "direction_permutation",
    "merge",
    "pair_biases",
]

_RANGES: dict[str, tuple[float, float]] = {
    "agreement_sigmas": (1, 20),
    "agreement_floor_mm": (0, 10),
    "slope": (0.1, 100),
    "single_neighbours": (0, 8),
    "least_neighbours": (0, 24),
}


@dataclass(frozen=True)
class Settings:
    """What counts as agreement.

    Attributes
    ----------
    agreement_sigmas : float
        k of the agreement; 4 refuses 1 in 16,000 honest pairs.
    agreement_floor_mm : float
        Added to it for what σ does not know: calibration that is off by some µm from direction to direction, and a slanted
        surface inside one pixel. About the larger of both.
    slope : float
        Depth per distance on the part up to which neighbours count as one surface; 4 is 76°.
    single_neighbours : int
        Of 8 neighbours, how many must continue a pixel that one direction alone measured.
    least_neighbours : int
        Of 24 neighbours, how many must continue any pixel. A right-angled corner has 8, a wire two pixels wide 9.
    """

    agreement_sigmas: float = 4.0
    agreement_floor_mm: float = 0.02
    slope: float = 4.0
    single_neighbours: int = 3
    least_neighbours: int = 6

    def __post_init__(self) -> None:
        for field in fields(self):
            value, (low, high) = getattr(self, field.name), _RANGES[field.name]
            if not low <= value <= high:
                raise InputError(
                    f"merging setting {field.name} = {value}; allowed: {low:g} to {high:g}", code="merging.setting"
                )


DEFAULT_SETTINGS = Settings()


@dataclass(frozen=True, eq=False)
class Merged:
    """The merged maps, all (H, W).

    Attributes
    ----------
    z_mm : float32
        Weighted mean of the directions that were believed; NaN where there is none.
    sigma_z_mm : float32
        Predicted standard deviation of that mean, √(Σw²σ²)/Σw of its weights w: 1/√Σ(1/σ²) where none is lowered; NaN with
        ``z_mm``.
    spread_mm : float32
        Weighted standard deviation of the believed directions about their mean; NaN for one alone, and with ``z_mm``.
    support : uint8
        How many directions were believed.
    used : uint8
        Which: bit d − 1 for direction d.
    rejected : uint8
        Which measured something here that was not believed. Used and rejected together are all that measured.
    """

    z_mm: NDArray[np.float32]
    sigma_z_mm: NDArray[np.float32]
    spread_mm: NDArray[np.float32]
    support: NDArray[np.uint8]
    used: NDArray[np.uint8]
    rejected: NDArray[np.uint8]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(H, W): pixels that have a depth."""
        return self.support > 0


def allocate(height: int, width: int) -> Merged:
    """An unfilled result of the given size, to be passed as ``out`` and reused from part to part."""
    shape = (height, width)
    z, sigma, spread = (np.empty(shape, np.float32) for _ in range(3))
    support, used, rejected = (np.empty(shape, np.uint8) for _ in range(3))
    return Merged(z, sigma, spread, support, used, rejected)


def merge(
    z: NDArray[np.float32],
    sigma: NDArray[np.float32],
    directions: Sequence[int],
    *,
    pitch_mm: float,
    settings: Settings = DEFAULT_SETTINGS,
    out: Merged | None = None,
) -> Merged:
    """Merge the depth maps of one to four directions; the rules are those of the module.

    Parameters
    ----------
    z, sigma : (D, H, W) float32
        Depths in mm and their standard deviations (above 0), NaN where invalid.
    directions : sequence of D ints
        The directions of the maps, each from 1 to 4, none twice.
    pitch_mm : float
        Size of a camera pixel on the part.
    settings : Settings
    out : Merged, optional
        Memory to reuse, from :func:`allocate`.

    Raises
    ------
    InputError
        Shapes, dtypes, directions or pitch that do not fit.
    """
    depths, sigmas = check_stack(z, sigma, directions)
    if not 0 < pitch_mm < np.inf:
        raise InputError(f"pixel pitch {pitch_mm} mm; must be a finite number above 0", code="merging.pitch")
    result = _check_out(out, *depths.shape[1:])
    maps = (result.z_mm, result.sigma_z_mm, result.spread_mm)
    masks = (result.support, result.used, result.rejected)
    bits = tuple(np.float32(1 << (d - 1)) for d in (*directions, *[1] * (4 - len(directions))))
    k, floor = np.float32(settings.agreement_sigmas), np.float32(settings.agreement_floor_mm)
    kernels.consensus(np.ascontiguousarray(depths), np.ascontiguousarray(sigmas), bits, floor, k * k, maps, masks)
    kernels.remove_isolated(
        maps,
        masks,
        np.float32(settings.slope * pitch_mm),
        k * np.float32(np.sqrt(2)),  # a neighbour has noise of its own
        settings.single_neighbours,
        settings.least_neighbours,
    )
    result.spread_mm[result.support == 1] = np.nan  # one alone agrees with nobody
    return result


def _check_out(out: Merged | None, height: int, width: int) -> Merged:
    if out is None:
        return allocate(height, width)
    for field in fields(out):
        dtype = "float32" if field.name.endswith("_mm") else "uint8"
        array = check_array(f"out.{field.name}", getattr(out, field.name), shape=(height, width), dtypes=(dtype,))
        if not array.flags.c_contiguous:
            raise InputError(f"out.{field.name} must be C-contiguous", code="input.shape")
    return out
