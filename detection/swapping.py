"""Channel-spatial swapping: two feature maps on one grid lend each other a share of their channels and blocks.

Real-IAD D³ (CVPR 2025, §4, the first equation) mixes the maps of the RGB picture and of the pseudo-3D picture before they go into
memory banks, with α = 0.1:

    X_2D^swap = (1 − α)·X_2D + α·X_PS^{c↔s},        X_PS^swap = (1 − α)·X_PS + α·X_2D^{c↔s}

X_PS^{c↔s} is the pseudo-3D map after the channel-spatial exchange with the other: a share α of its channels (at every place) and
a share α of its blocks of k×k patches (in every channel) are the other map's. What is in a chosen channel *or* in a chosen
block is exchanged, once: the paper has the spatial exchange contained in the whole one ("X^s ⊆ X^{c↔s}").

- ``"blend"`` is this formula with the indices as they are printed: α of the partner everywhere but in the chosen share. It is
  what the sentence after it says too, that both maps "incorporate 10% of each other's properties"; were X^{c↔s} the own map
  with the chosen share taken from the partner, α would count twice and about 2 % be incorporated.
- ``"hard"``: the own map with the chosen share replaced by the partner's, as in the authors' code. Doing it twice undoes it.

The same indices serve training and test: they are drawn once and stored with the model.

Which of them matters little. Means over three simulated products, 20 good parts of each taught and 28 tested, EfficientNet-lite0
for pictures and FPFH for points:

    swapping    I-AUROC   P-AUROC inside   AUPRO@0.3   AUPRO@0.01
    blend       0.965     0.968            0.986       0.685
    hard        0.969     0.969            0.986       0.692
    none        0.976     0.970            0.987       0.693

One pair of a good and a defective part in the wrong order is 0.0035 of the mean I-AUROC: no form is clearly worse, and the paper's
is the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rakelight.errors import InputError, ModelError

Floats = NDArray[np.float32]
Mode = Literal["blend", "hard"]


@dataclass(frozen=True, eq=False)
class SwapIndices:
    """What is exchanged. Make it with :meth:`draw`, keep it with :meth:`to_dict`.

    Attributes
    ----------
    dim, grid : int
        D and G of the maps (N, G, G, D) it is for.
    k : int
        Patches along the side of a block; the last blocks of a row or column are smaller where k does not divide G.
    alpha : float
        The share asked for, and the weight of ``blend``.
    channels : (C,) int64
        Channels exchanged, ascending.
    blocks : (B,) int64
        Blocks exchanged, ascending, counted row by row.
    """

    dim: int
    grid: int
    k: int
    alpha: float
    channels: NDArray[np.int64]
    blocks: NDArray[np.int64]

    @classmethod
    def draw(cls, dim: int, grid: int, k: int = 2, alpha: float = 0.1, seed: int = 0) -> SwapIndices:
        """Choose 1 + ⌊α·(D − 1)⌋ channels (0 for α = 0) at even steps, and round(α·blocks) blocks by ``seed``.

        Channel 0 and every (1/α)-th after it, as in the authors' code (i % 10 == 0 for α = 0.1); for an α that is no
        1/n, the same rule in fractions. Channels do not depend on the seed. Raises :class:`InputError` for sizes below
        1, k above the grid and α outside 0…1.
        """
        if dim < 1 or grid < 1 or not 1 <= k <= grid:
            raise InputError(
                f"dim {dim}, grid {grid}, block side k {k}: needed are dim, grid ≥ 1 and k in 1…grid", code="swap.size"
            )
        if not 0 <= alpha <= 1:
            raise InputError(f"the share to swap, alpha, is {alpha}; allowed: 0 … 1", code="swap.alpha")
        share = Fraction(alpha).limit_denominator(1000)
        every = np.arange(dim, dtype=np.int64)
        channels = every[every * share.numerator % share.denominator < share.numerator]
        count = (-(-grid // k)) ** 2
        drawn = np.random.default_rng(seed).permutation(count)[: round(alpha * count)]
        return cls(dim, grid, k, float(alpha), channels, np.sort(drawn).astype(np.int64))

    def places(self) -> NDArray[np.bool_]:
        """(G, G) bool: the patches of the chosen blocks."""
        a_side = -(-self.grid // self.k)
        chosen = np.zeros(a_side * a_side, bool)
        chosen[self.blocks] = True
        return chosen.reshape(a_side, a_side).repeat(self.k, 0).repeat(self.k, 1)[: self.grid, : self.grid]

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        lists = {"channels": self.channels.tolist(), "blocks": self.blocks.tolist()}
        return {"dim": self.dim, "grid": self.grid, "k": self.k, "alpha": self.alpha} | lists

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SwapIndices:
        """Inverse of :meth:`to_dict`; :class:`ModelError` if entries are missing or point outside the map."""
        try:
            dim, grid, k = (int(data[key]) for key in ("dim", "grid", "k"))
            channels, blocks = (np.asarray(data[key], np.int64).reshape(-1) for key in ("channels", "blocks"))
            alpha = float(data["alpha"])
        except (KeyError, TypeError, ValueError) as e:
            raise ModelError(f"the model's swap indices cannot be read: {e!r}", code="model.swap") from e
        count = (-(-grid // k)) ** 2 if k > 0 else 0
        for name, chosen, end in (("channels", channels, dim), ("blocks", blocks, count)):
            if len(chosen) and not (chosen.min() >= 0 and chosen.max() < end):
                raise ModelError(
                    f"the model's swap indices name {name} {chosen.min()} … {chosen.max()}; there are 0 … {end - 1}",
                    code="model.swap",
                )
        return cls(dim, grid, k, alpha, channels, blocks)


@dataclass(frozen=True, eq=False)
class Swapped:
    """The two maps after swapping, each (N, G, G, D) float32 or None as given; ``swapped`` (N,) bool tells which parts were.

    Parts that were not swapped, since the partner is missing, are to be compared with banks built without swapping.
    """

    rgb: Floats | None
    ps: Floats | None
    swapped: NDArray[np.bool_]


def swap(
    rgb: Floats | None,
    ps: Floats | None,
    indices: SwapIndices,
    *,
    mode: Mode = "blend",
    valid: NDArray[np.bool_] | None = None,
) -> Swapped:
    """Swap the maps of the RGB and of the pseudo-3D picture.

    Parameters
    ----------
    rgb, ps : (N, G, G, D) float array or None
        Both of one shape: maps of different D cannot be exchanged channel by channel, so both pictures must go through
        the same extractor. If one is None, the other comes back as it is, and ``swapped`` is False.
    mode : str
        See the module's text.
    valid : (N, G, G) bool, optional
        Patches that are valid in both; the others stay as they are. A part without any counts as not swapped.

    Raises
    ------
    InputError
        An unknown mode, or ``valid`` of another shape.
    ModelError
        Maps that differ in shape, or do not fit the indices; both None.
    """
    if mode not in get_args(Mode):
        raise InputError(f"swap mode {mode!r} is unknown; allowed: {', '.join(get_args(Mode))}", code="swap.mode")
    given = [np.asarray(array, np.float32) for array in (rgb, ps) if array is not None]
    if not given:
        raise ModelError(
            "neither the RGB nor the pseudo-3D feature map is there: nothing to swap", code="model.modality_missing"
        )
    for name, array in (("RGB", rgb), ("pseudo-3D", ps)):
        if array is not None:
            _check_shape(name, np.shape(array), indices)
    if rgb is None or ps is None:
        none = np.zeros(len(given[0]), bool)
        return Swapped(given[0] if ps is None else None, given[0] if rgb is None else None, none)
    first, second = given
    if len(first) != len(second):
        raise ModelError(
            f"{len(first)} RGB maps and {len(second)} pseudo-3D maps; they must be of the same parts", code="model.swap"
        )
    allowed: NDArray[np.bool_] = np.ones(first.shape[:3], bool) if valid is None else np.asarray(valid)
    if allowed.shape != first.shape[:3] or allowed.dtype != bool:
        raise InputError(
            f"valid is {allowed.dtype.name} of shape {allowed.shape}; needed: bool of shape {first.shape[:3]}",
            code="input.shape",
        )
    out = [_swapped(own, other, indices, mode, allowed) for own, other in ((first, second), (second, first))]
    return Swapped(out[0], out[1], np.asarray(allowed.any(axis=(1, 2)), bool))


def _swapped(own: Floats, other: Floats, indices: SwapIndices, mode: Mode, allowed: NDArray[np.bool_]) -> Floats:
    start, source = (other, own) if mode == "blend" else (own, other)
    out = start.copy()
    out[..., indices.channels] = source[..., indices.channels]
    places = indices.places()
    out[:, places] = source[:, places]
    if mode == "blend":
        out -= own  # own + α·(exchanged − own) leaves what is the same exactly as it is
        out *= np.float32(indices.alpha)
        out += own
    out[~allowed] = own[~allowed]
    return out


def _check_shape(name: str, shape: tuple[int, ...], indices: SwapIndices) -> None:
    wanted = (indices.grid, indices.grid, indices.dim)
    if len(shape) != 4 or shape[1:] != wanted:
        raise ModelError(
            f"the {name} features have shape {shape}; swapping was set up for N×{'×'.join(map(str, wanted))}",
            hint="RGB and pseudo-3D must go through the same extractor, layers and grid to be swapped; or turn swapping off",
            code="model.swap",
        )
