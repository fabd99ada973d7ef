"""The Point-MAE encoder in plain torch: features of groups of points.

Pang et al., ECCV 2022; taps after layers 3, 7 and 11 joined to 1152 channels and groups of 1024 × 128 points as in M3DM (Wang
et al., CVPR 2023, §3.2). State-dict names are those of the official file; its decoder is left aside.

What scale a network is shown changes what it sees, and the published methods differ in it without saying so: M3DM shows metres
on MVTec 3D-AD. Point-MAE itself was trained on shapes scaled to the unit sphere. So the scale is named and kept with a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rakelight.detection.device import exact_inference, resolve
from rakelight.detection.features import base, checkpoints, m3dm_pooling
from rakelight.detection.features.mini_pointnet import FoldedPointNet, MiniPointNet, fold
from rakelight.detection.features.points import (
    Interpolation,
    cell_weights,
    farthest_points,
    interpolation_weights,
    nearest_points,
)
from rakelight.detection.features.transformer import Block, checked_taps
from rakelight.detection.native import Modality
from rakelight.detection.parts import Part, need
from rakelight.errors import InputError, ModelError

XyzScale = Literal["unit-sphere", "metres", "mm"]
Pooling = Literal["points", "zero-padded"]
TAPS = (3, 7, 11)
GROUPS, GROUP_SIZE = 1024, 128
_MOST_GROUPS, _MOST_GROUP_SIZE = 16384, 4096  # attention is of all groups with all
_EPSILON = 1e-5
_PARTS = ("module.", "MAE_encoder.")  # prefixes of what is kept
_DECODER = ("MAE_decoder.", "decoder_pos_embed.", "increase_dim.", "mask_token")  # what only pretraining needed


@dataclass(frozen=True)
class PointMaeShape:
    """Sizes of a network."""

    dim: int = 384
    depth: int = 12
    heads: int = 6


@dataclass(frozen=True, eq=False)
class PointGroups:
    """Groups of one cloud, in the network's scale.

    ``neighbours`` (G, K, 3) float32 relative to ``centres`` (G, 3) float32; ``picks`` (G,) indices of the centres.
    """

    neighbours: NDArray[np.float32]
    centres: NDArray[np.float32]
    picks: NDArray[np.int64]


def group(
    points_mm: NDArray[np.float32], scale: XyzScale, *, groups: int = GROUPS, size: int = GROUP_SIZE
) -> PointGroups:
    """Up to ``groups`` groups of up to ``size`` points of a cloud (N, 3) in mm, N ≥ 1.

    Centres are farthest points, so a smaller cloud has every point as a centre once; a group of fewer points gives the same
    token as one in which points stand twice.
    """
    picks = farthest_points(points_mm, min(groups, len(points_mm)))
    members = nearest_points(points_mm, points_mm[picks], min(size, len(points_mm)))
    points = scaled(points_mm, scale)
    centres = points[picks]
    return PointGroups(points[members] - centres[:, None], centres, picks)


def scaled(points_mm: NDArray[np.float32], scale: XyzScale) -> NDArray[np.float32]:
    """Points (N, 3) in mm, in the scale the network is shown.

    ``unit-sphere``: about their mean, the farthest at distance 1, as Point-MAE was trained; ``metres``: as M3DM does on MVTec
    3D-AD; ``mm``: as they are.
    """
    checked_choice("xyz_scale", scale, XyzScale)
    if scale == "mm":
        return points_mm.astype(np.float32)
    if scale == "metres":
        return (points_mm * np.float32(1e-3)).astype(np.float32)
    about = points_mm - points_mm.mean(0, dtype=np.float64)
    farthest = float(np.sqrt((about**2).sum(1).max()))
    return (about / (farthest or 1.0)).astype(np.float32)


def checked_choice(setting: str, value: object, choices: Any) -> None:
    """Raises :class:`ModelError` (``features.`` and the setting's name) unless ``value`` is one of a Literal's."""
    if value not in get_args(choices):
        raise ModelError(
            f"point-mae: {setting} {value!r}; allowed: {', '.join(get_args(choices))}", code=f"features.{setting}"
        )


class _Blocks(nn.Module):
    """Holds the blocks one level deeper, as the official names have them."""

    def __init__(self, shape: PointMaeShape) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(shape.dim, shape.heads, qkv_bias=False, epsilon=_EPSILON) for _ in range(shape.depth)
        )


class PointMaeEncoder(nn.Module):
    """The encoder: groups in, tokens after chosen layers out."""

    def __init__(self, shape: PointMaeShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = MiniPointNet(shape.dim)
        self.pos_embed = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, shape.dim))
        self.blocks = _Blocks(shape)
        self.norm = nn.LayerNorm(shape.dim, eps=_EPSILON)
        self._folded: FoldedPointNet | None = None

    def forward(self, neighbours: Tensor, centres: Tensor, taps: tuple[int, ...] = TAPS) -> Tensor:
        """Tokens of one cloud's groups.

        Parameters
        ----------
        neighbours : (G, K, 3) points relative to their group's centre
        centres : (G, 3)
        taps : layers, counted from 0, after which tokens are taken; those after the last are not run

        Returns
        -------
        (G, dim · taps)
            Tokens after the network's final norm, one tap after the other.
        """
        taps = checked_taps(taps, self.shape.depth, "the network")
        if self._folded is None:
            self._folded = fold(self.encoder).to(str(centres.device), self.norm.weight.dtype)
        x = self._folded(neighbours)[None]
        position = self.pos_embed(centres)[None]
        found = []
        for index, block in enumerate(self.blocks.blocks[: taps[-1] + 1]):
            x = block(x + position)  # the position goes in before every block
            if index in taps:
                found.append(self.norm(x)[0])
        return torch.cat(found, 1)


def load_network(explicit: Path | None = None) -> tuple[PointMaeEncoder, str]:
    """The encoder with its weights, in float32 on the CPU, and the SHA-256 of the file they came from.

    Raises :class:`ModelError` as :func:`rakelight.detection.features.checkpoints.load` and ``fit``.
    """
    found = checkpoints.load("point-mae", explicit)
    return network_from(PointMaeShape(), found.content, found.path), found.sha256


def network_from(shape: PointMaeShape, content: Mapping[str, Any], path: Path) -> PointMaeEncoder:
    """An encoder of this shape from what a file at ``path`` holds: the official layout, or the encoder's tensors alone."""
    tensors = content.get("base_model", content)
    if not isinstance(tensors, Mapping):
        raise ModelError(
            f"{path}: base_model is a {type(tensors).__name__}, a table of named tensors is needed",
            code="weights.mismatch",
        )
    with torch.device("meta"):
        network = PointMaeEncoder(shape)
    bare = {_without_prefix(str(name)): value for name, value in tensors.items()}
    checkpoints.fit(network, {k: v for k, v in bare.items() if not k.startswith(_DECODER)}, path)
    return network


def _without_prefix(name: str) -> str:
    for prefix in _PARTS:
        name = name.removeprefix(prefix)
    return name


@dataclass(frozen=True, eq=False)
class PointMaeFeatures:
    """The :class:`rakelight.detection.features.base.Extractor` ``point-mae``: groups' tokens, carried back to the patches.

    Attributes
    ----------
    network : PointMaeEncoder
        On ``device``, float32.
    taps : layers, counted from 0, ascending; their channels are joined
    xyz_scale : what the network is shown, see :func:`scaled`
    interpolation : how tokens reach the points, see :func:`rakelight.detection.features.points.interpolation_weights`
    groups, group_size : how many groups, and points in each, at most
    pooling : ``points``: a patch takes the mean of its points; ``zero-padded``: as M3DM's code, on a grid twice as fine
        (:mod:`rakelight.detection.features.m3dm_pooling`)
    """

    network: PointMaeEncoder
    taps: tuple[int, ...]
    weights_sha256: str | None
    device: str = "cpu"
    xyz_scale: XyzScale = "unit-sphere"
    interpolation: Interpolation = "three-nearest"
    groups: int = GROUPS
    group_size: int = GROUP_SIZE
    pooling: Pooling = "points"
    id: str = "point-mae"
    modality: Modality = "xyz"

    @property
    def dim(self) -> int:
        return self.network.shape.dim * len(self.taps)

    @property
    def settings(self) -> dict[str, Any]:
        """What, apart from the weights, the features depend on."""
        return {
            "taps": list(self.taps),
            "xyz_scale": self.xyz_scale,
            "interpolation": self.interpolation,
            "groups": self.groups,
            "group_size": self.group_size,
            "pooling": self.pooling,
        }

    def grid(self, size: int) -> int:
        if size % base.GRID_STEP or size < base.GRID_STEP:
            raise InputError(
                f"working size {size} px with {self.id}: a multiple of {base.GRID_STEP} is needed",
                hint=f"the nearest is {max(1, round(size / base.GRID_STEP)) * base.GRID_STEP}",
                code="features.size",
            )
        return size // (base.GRID_STEP if self.pooling == "points" else m3dm_pooling.PIXELS)

    def extract(self, parts: Sequence[Part]) -> base.Features:
        grid = self.grid(base.common_size(parts))
        values = np.zeros((len(parts), grid, grid, self.dim), np.float32)
        valid = base.valid_cells(parts, grid, points=True)
        for n, part in enumerate(parts):
            xyz = need(part, "xyz")
            v, u = np.nonzero(part.mask & np.isfinite(xyz).all(2))
            if len(v) == 0:
                valid[n] = False
                continue
            found, has = self._on_grid(xyz[v, u], v, u, part.size)
            values[n] = found.reshape(grid, grid, self.dim)
            valid[n] &= has.reshape(grid, grid)
        return base.Features(values, valid)

    def _on_grid(
        self, points_mm: NDArray[np.float32], v: NDArray[np.int64], u: NDArray[np.int64], size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Features (G², dim) of the patches from one cloud, whose points are at pixels (v, u), and which have any."""
        grouped = group(points_mm, self.xyz_scale, groups=self.groups, size=self.group_size)
        with exact_inference(self.device):
            shown = (torch.from_numpy(a).to(self.device) for a in (grouped.neighbours, grouped.centres))
            tokens = self.network(*shown, self.taps).cpu().numpy()
        shares = interpolation_weights(points_mm, points_mm[grouped.picks], self.interpolation)
        if self.pooling == "points":
            grid = self.grid(size)
            on_cells = cell_weights(shares, (v * grid // size) * grid + u * grid // size, grid * grid)
        else:
            on_cells = m3dm_pooling.zero_padded_weights(shares, v * size + u, size)
        return on_cells @ tokens, np.diff(on_cells.indptr) > 0

    def fingerprint(self) -> base.Fingerprint:
        return base.fingerprint_of(self.extract([base.fingerprint_part()]))


def make(
    id: str,
    *,
    modality: Modality,
    weights: Path | None,
    taps: tuple[int, ...] | None,
    device: str,
    xyz_scale: XyzScale = "unit-sphere",
    interpolation: Interpolation = "three-nearest",
    groups: int = GROUPS,
    group_size: int = GROUP_SIZE,
    pooling: Pooling = "points",
) -> PointMaeFeatures:
    """For :func:`rakelight.detection.features.base.make_extractor`; without ``taps`` layers 3, 7 and 11 are taken.

    The settings are those of :class:`PointMaeFeatures`. Raises :class:`ModelError`: ``model.device``, ``features.taps``,
    ``features.xyz_scale``, ``features.interpolation``, ``features.pooling``, ``features.groups`` and what loading raises.
    """
    device = resolve(device)
    chosen = checked_taps(TAPS if taps is None else taps, PointMaeShape().depth, id)
    checked_choice("xyz_scale", xyz_scale, XyzScale)
    checked_choice("interpolation", interpolation, Interpolation)
    checked_choice("pooling", pooling, Pooling)
    for setting, value, most in (("groups", groups, _MOST_GROUPS), ("group_size", group_size, _MOST_GROUP_SIZE)):
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise ModelError(f"{id}: {setting} {value!r}; allowed: whole numbers, 1 to {most}", code="features.groups")
    network, sha256 = load_network(weights)
    network.to(device)
    return PointMaeFeatures(
        network, chosen, sha256, device, xyz_scale, interpolation, groups, group_size, pooling, id, modality
    )
