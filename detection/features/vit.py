"""Vision transformers in plain torch: DINO ViT-B/8 and S/8, DINOv2 ViT-S/14; patch features of pictures.

Dosovitskiy et al., ICLR 2021; weights of Caron et al., ICCV 2021 (DINO) and Oquab et al., TMLR 2024 (DINOv2). State-dict names
are those of the official files (and of timm), which therefore load unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rakelight.detection.device import exact_inference, resolve
from rakelight.detection.features import base, checkpoints
from rakelight.detection.features.transformer import Block, checked_precision, checked_taps
from rakelight.detection.native import Modality
from rakelight.detection.parts import Part, need
from rakelight.errors import InputError

_EPSILON = 1e-6
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's RGB in 0 … 1, as in training
_BATCH = {"cpu": 1, "cuda": 16}  # one by one a picture's features do not depend on which others are with it
_OFFSET = 0.1  # added to the new grid when position embeddings are resized, in the official code of both


@dataclass(frozen=True)
class VitShape:
    """Sizes of a network: ``grid`` is the number of patches a side its position embeddings were trained for."""

    patch: int
    dim: int
    depth: int
    heads: int
    grid: int
    layer_scale: bool = False


SHAPES = {
    "vit-b8-dino": VitShape(patch=8, dim=768, depth=12, heads=12, grid=28),
    "vit-s8-dino": VitShape(patch=8, dim=384, depth=12, heads=6, grid=28),
    "vit-s14-dinov2": VitShape(patch=14, dim=384, depth=12, heads=6, grid=37, layer_scale=True),
}


class _PatchEmbed(nn.Module):
    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, shape.dim, shape.patch, shape.patch)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.proj(pictures).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """A vision transformer that hands out its patch tokens after chosen blocks."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.shape = shape
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + shape.grid**2, shape.dim))
        self.patch_embed = _PatchEmbed(shape)
        self.blocks = nn.ModuleList(
            Block(shape.dim, shape.heads, qkv_bias=True, epsilon=_EPSILON, layer_scale=shape.layer_scale)
            for _ in range(shape.depth)
        )
        self.norm = nn.LayerNorm(shape.dim, eps=_EPSILON)

    def forward(self, pictures: Tensor, taps: tuple[int, ...]) -> Tensor:
        """Patch tokens of normalised pictures.

        Parameters
        ----------
        pictures : (N, 3, H, W), H and W multiples of the patch size; normalised as in training
        taps : blocks, counted from 0, after which tokens are taken; the blocks after the last are not run

        Returns
        -------
        (N, H/patch, W/patch, dim · taps)
            Tokens after the network's final norm (also those of earlier blocks, as the official ``get_intermediate_layers``
            does), one tap after the other.

        Raises
        ------
        InputError
            Pictures of another shape.
        """
        taps = checked_taps(taps, self.shape.depth, "the network")
        patch = self.shape.patch
        if pictures.ndim != 4 or pictures.shape[1] != 3 or pictures.shape[2] % patch or pictures.shape[3] % patch:
            raise InputError(
                f"pictures of shape {tuple(pictures.shape)}: (N, 3, H, W) with multiples of {patch} is needed",
                code="features.size",
            )
        rows, columns = pictures.shape[2] // patch, pictures.shape[3] // patch
        x = self.patch_embed(pictures)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.positions(rows, columns)
        found = []
        for index, block in enumerate(self.blocks[: taps[-1] + 1]):
            x = block(x)
            if index in taps:
                found.append(self.norm(x)[:, 1:])
        return torch.cat(found, 2).unflatten(1, (rows, columns))

    def positions(self, rows: int, columns: int) -> Tensor:
        """Position embeddings (1, 1 + rows·columns, dim), resized bicubically as the official code does."""
        grid = self.shape.grid
        if (rows, columns) == (grid, grid):
            return self.pos_embed
        patches = self.pos_embed[:, 1:].float().unflatten(1, (grid, grid)).permute(0, 3, 1, 2)
        scale = ((rows + _OFFSET) / grid, (columns + _OFFSET) / grid)
        patches = F.interpolate(patches, scale_factor=scale, mode="bicubic")
        resized = patches.permute(0, 2, 3, 1).flatten(1, 2).to(self.pos_embed.dtype)
        return torch.cat([self.pos_embed[:, :1], resized], 1)


def load_network(weights_id: str, explicit: Path | None = None) -> tuple[VisionTransformer, str]:
    """The network ``weights_id`` with its weights, in float32 on the CPU, and the SHA-256 of the file they came from.

    Raises :class:`ModelError` as :func:`rakelight.detection.features.checkpoints.load` and ``fit``.
    """
    found = checkpoints.load(weights_id, explicit)
    return network_from(SHAPES[weights_id], found.content, found.path), found.sha256


def network_from(shape: VitShape, tensors: Mapping[str, Any], path: Path) -> VisionTransformer:
    """A network of this shape holding ``tensors`` (read from ``path``); only DINOv2's mask token may be left over."""
    with torch.device("meta"):
        network = VisionTransformer(shape)
    checkpoints.fit(network, {k: v for k, v in tensors.items() if k != "mask_token"}, path)
    return network


def patches_a_side(size: int, shape: VitShape, weights_id: str) -> int:
    """Patches a side of a picture ``size`` pixels a side; raises :class:`InputError` unless it divides evenly."""
    if size <= 0 or size % shape.patch:
        near = max(1, math.floor(size / shape.patch + 0.5)) * shape.patch
        raise InputError(
            f"working size {size} px with {weights_id}: a multiple of its patch size {shape.patch} is needed",
            hint=f"the nearest is {near}",
            code="features.size",
        )
    return size // shape.patch


@dataclass(frozen=True, eq=False)
class VitFeatures:
    """The :class:`rakelight.detection.features.base.Extractor` of a vision transformer, for RGB or pseudo-3D pictures.

    Attributes
    ----------
    network : VisionTransformer
        On ``device``, in ``precision``.
    modality : "rgb" or "ps"
    taps : blocks, counted from 0, ascending; their channels are joined
    """

    network: VisionTransformer
    modality: Modality
    taps: tuple[int, ...]
    id: str
    weights_sha256: str | None
    device: str = "cpu"
    precision: str = "float32"

    @property
    def dim(self) -> int:
        return self.network.shape.dim * len(self.taps)

    @property
    def settings(self) -> dict[str, Any]:
        """What, apart from the weights, the features depend on."""
        return {"taps": list(self.taps), "precision": self.precision}

    def grid(self, size: int) -> int:
        return patches_a_side(size, self.network.shape, self.id)

    def extract(self, parts: Sequence[Part]) -> base.Features:
        grid = self.grid(base.common_size(parts))
        pictures = [need(part, self.modality) for part in parts]
        values = np.empty((len(parts), grid, grid, self.dim), np.float32)
        mean, deviation = (torch.tensor(v, device=self.device)[:, None, None] for v in (_MEAN, _DEVIATION))
        step = _BATCH[self.device]
        with exact_inference(self.device):
            for first in range(0, len(pictures), step):
                batch = torch.from_numpy(np.stack(pictures[first : first + step])).to(self.device)
                scaled = (batch.permute(0, 3, 1, 2).float() / 255 - mean) / deviation
                tokens = self.network(scaled.to(self.network.norm.weight.dtype), self.taps)
                values[first : first + len(batch)] = tokens.float().cpu().numpy()
        return base.Features(values, base.valid_cells(parts, grid))

    def fingerprint(self) -> base.Fingerprint:
        return base.fingerprint_of(self.extract([base.fingerprint_part()]))


def make(
    id: str,
    *,
    modality: Modality,
    weights: Path | None,
    taps: tuple[int, ...] | None,
    device: str,
    precision: str = "float32",
) -> VitFeatures:
    """For :func:`rakelight.detection.features.base.make_extractor`; without ``taps`` the last block's output is taken.

    ``precision`` is one of :data:`rakelight.detection.features.transformer.PRECISIONS`; half of it agrees with float32 as
    :func:`rakelight.detection.features.base.same_fingerprint` says. Raises :class:`ModelError`: ``model.device``,
    ``features.precision``, ``features.taps`` and what loading raises.
    """
    device = resolve(device)
    chosen = checked_taps((SHAPES[id].depth - 1,) if taps is None else taps, SHAPES[id].depth, id)
    dtype = checked_precision(precision, device)
    network, sha256 = load_network(id, weights)
    return VitFeatures(network.to(device, dtype), modality, chosen, id, sha256, device, precision)
