"""Point-MAE's mini-PointNet, rewritten so that most of its work is done once a group instead of once a point.

The network (Pang et al., ECCV 2022, §3.1; PointNet of Qi et al., CVPR 2017) makes one token of K points p of a group:

    f = W₂ relu(N₁(W₁ p + b₁)) + b₂,   g = max over points of f,
    token = max over points of W₄ relu(N₃(W₃ [g; f] + b₃)) + b₄,

N being batch normalisation. For inference each N is a scale and a shift, which go into the layer before it. W₃ splits into a
half for g, computed once a group, and a half for f; between W₂ and that half there is no non-linearity, so both are one matrix
from 128 to 512 channels. b₂ and b₄ are the same for all points, so they are added after the maxima. The result is the same
but for rounding, with 0.6 times the products and none of the strided copies.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from rakelight.detection.features.transformer import linear

_POINTS_AT_ONCE = 4096  # so that what lies between the layers stays in the processor's cache
_GPU_POINTS_AT_ONCE = 1 << 18


class MiniPointNet(nn.Module):
    """The layers under their official names; they only hold the weights, :func:`fold` gives the form that is run."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(nn.Conv1d(3, 128, 1), nn.BatchNorm1d(128), nn.ReLU(), nn.Conv1d(128, 256, 1))
        self.second_conv = nn.Sequential(nn.Conv1d(512, 512, 1), nn.BatchNorm1d(512), nn.ReLU(), nn.Conv1d(512, dim, 1))


@dataclass(frozen=True, eq=False)
class FoldedPointNet:
    """The rewritten network: weights (out, in) and biases in the notation of this module."""

    lift: Tensor  # W₁ with N₁, (128, 3)
    lift_bias: Tensor
    widen: Tensor  # W₂, (256, 128)
    widen_bias: Tensor
    of_group: Tensor  # the half of W₃ for g, with N₃, (512, 256)
    of_group_bias: Tensor  # b₃ with N₃, and what b₂ adds through the other half
    of_point: Tensor  # the half of W₃ for f, with N₃, times W₂, (512, 128)
    last: Tensor  # W₄, (dim, 512)
    last_bias: Tensor

    def to(self, device: str, dtype: torch.dtype) -> FoldedPointNet:
        """A copy on another device or in another precision."""
        return FoldedPointNet(**{f.name: getattr(self, f.name).to(device, dtype) for f in fields(self)})

    def __call__(self, groups: Tensor) -> Tensor:
        """Tokens (G, dim) of groups (G, K, 3), coordinates relative to each group's centre."""
        at_once = _POINTS_AT_ONCE if groups.device.type == "cpu" else _GPU_POINTS_AT_ONCE
        return torch.cat([self._tokens(some) for some in groups.split(max(1, at_once // groups.shape[1]))])

    def _tokens(self, groups: Tensor) -> Tensor:
        count, size, _ = groups.shape
        hidden = linear(groups.reshape(-1, 3), self.lift, self.lift_bias).relu_()
        whole = linear(hidden, self.widen, None).view(count, size, -1).amax(1) + self.widen_bias
        each = linear(hidden, self.of_point, None).view(count, size, -1)
        each += linear(whole, self.of_group, self.of_group_bias)[:, None]
        found = linear(each.relu_().view(count * size, -1), self.last, None)
        return found.view(count, size, -1).amax(1) + self.last_bias


def fold(network: MiniPointNet) -> FoldedPointNet:
    """The rewritten form of a network that holds its weights; composed in float64, returned in the network's precision."""
    with torch.no_grad():
        lift, lift_bias = _normalised(network.first_conv[0], network.first_conv[1])
        mix, mix_bias = _normalised(network.second_conv[0], network.second_conv[1])
        widen, widen_bias = _weights(network.first_conv[3])
        last, last_bias = _weights(network.second_conv[3])
        half = widen.shape[0]
        of_group, of_each = mix[:, :half], mix[:, half:]  # the official code puts g before f
        folded = FoldedPointNet(
            lift,
            lift_bias,
            widen,
            widen_bias,
            of_group,
            mix_bias + of_each @ widen_bias,
            of_each @ widen,
            last,
            last_bias,
        )
        return folded.to("cpu", torch.float32)


def _weights(layer: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(layer, nn.Conv1d) and layer.bias is not None
    return layer.weight.double().squeeze(2), layer.bias.double()


def _normalised(layer: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer with the batch normalisation after it, in float64."""
    assert isinstance(norm, nn.BatchNorm1d) and norm.running_var is not None and norm.running_mean is not None
    weight, bias = _weights(layer)
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale[:, None] * weight, scale * (bias - norm.running_mean.double()) + norm.bias.double()
