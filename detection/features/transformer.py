"""The transformer block that vision transformers and Point-MAE share, under the names their weights carry.

Block: x + attention(norm(x)), then x + mlp(norm(x)) (Dosovitskiy et al., ICLR 2021, eq. 2–3); with layer scale both sums
weight what they add, channel by channel (Touvron et al., ICCV 2021). For inference: no dropout, no gradient.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rakelight.errors import ModelError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (…, I) · weightᵀ (I, O) + bias → (…, O), as :func:`torch.nn.functional.linear` but for rounding.

    float32 on an x86 CPU goes through oneDNN: torch's own way there is MKL, which leaves AVX-512 unused on processors of other
    makers than its own (2.2 times slower on a Zen 5 core) and is no faster on theirs.
    """
    product = _onednn_linear() if x.device.type == "cpu" and x.dtype == torch.float32 else None
    if product is None or torch.is_grad_enabled():
        return F.linear(x, weight, bias)
    return product(x, weight, bias, "none", [], "")


@cache
def _onednn_linear() -> Any:
    """oneDNN's product, which torch's compiler emits too, or None where this torch has none that works as expected."""
    product = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if (
        product is None
        or platform.machine().lower() not in ("x86_64", "amd64")
        or not torch.backends.mkldnn.is_available()
    ):
        return None
    x, weight, bias = torch.arange(6.0).reshape(2, 3), torch.arange(12.0).reshape(4, 3) - 5, torch.arange(4.0)
    try:
        same = torch.equal(product(x, weight, bias, "none", [], ""), F.linear(x, weight, bias))
    except (RuntimeError, TypeError, ValueError):  # another signature: not a public operator
        return None
    return product if same else None


class Linear(nn.Linear):
    """``nn.Linear`` through :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class Attention(nn.Module):
    """Multi-head self-attention, softmax(q kᵀ/√d) v (Vaswani et al. 2017, eq. 1)."""

    def __init__(self, dim: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, dim))


class Mlp(nn.Module):
    """Two linear layers with a GELU (the exact one) between."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, 4 * dim)
        self.fc2 = Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A weight for each channel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """One pre-norm transformer block of (N, T, dim) tokens.

    DINO and DINOv2 have a bias in ``qkv`` and norms with ε = 1e-6; Point-MAE has neither.
    """

    def __init__(self, dim: int, heads: int, *, qkv_bias: bool, epsilon: float, layer_scale: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=epsilon)
        self.attn = Attention(dim, heads, qkv_bias)
        self.ls1 = LayerScale(dim) if layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(dim, eps=epsilon)
        self.mlp = Mlp(dim)
        self.ls2 = LayerScale(dim) if layer_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


def checked_taps(taps: tuple[int, ...], depth: int, network: str) -> tuple[int, ...]:
    """Tap layers in ascending order; raises :class:`ModelError` ``features.taps`` unless each is one of 0 … depth − 1, once."""
    if not taps or len(set(taps)) != len(taps) or not all(0 <= t < depth for t in taps):
        raise ModelError(
            f"tap layers {', '.join(map(str, taps)) or '(none)'} of {network}: different ones from 0 to {depth - 1} are possible",
            code="features.taps",
        )
    return tuple(sorted(taps))


def checked_precision(precision: str, device: str) -> torch.dtype:
    """The torch type of a precision; raises :class:`ModelError` ``features.precision`` where it only costs time.

    Without instructions for bfloat16 (AMX or AVX512-BF16) a CPU multiplies it a hundred times slower than float32; float16 it
    always does.
    """
    if precision not in PRECISIONS:
        raise ModelError(f"precision {precision!r}; allowed: {', '.join(PRECISIONS)}", code="features.precision")
    fast = device != "cpu" or precision == "float32" or (precision == "bfloat16" and cpu_has_bfloat16())
    if not fast:
        raise ModelError(
            f"precision {precision} on this CPU: it has no fast instructions for it (AMX or AVX512-BF16)",
            hint="use float32, which is faster here and exact",
            code="features.precision",
        )
    return PRECISIONS[precision]


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices faster than float32 ones."""
    known = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(ask() for ask in known if ask is not None)
