"""Seeded random weights, and the two transformers written once more, step by step, to compare the fast forms with."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

State = dict[str, torch.Tensor]


def random_state(network: torch.nn.Module, seed: int) -> State:
    """A state dict for ``network`` whose every tensor matters: no bias 0, no scale 1, variances positive."""
    rng = np.random.default_rng(seed)
    state: State = {}
    for name, tensor in network.state_dict().items():
        shape = tuple(tensor.shape)
        if not tensor.is_floating_point():
            value = torch.tensor(int(rng.integers(1, 9)))
        elif name.endswith(("running_var", "gamma")) or (len(shape) == 1 and name.endswith("weight")):
            value = torch.from_numpy(rng.uniform(0.5, 1.5, shape))
        else:
            fan_in = math.prod(shape[1:]) if len(shape) > 1 else 4
            value = torch.from_numpy(rng.normal(0, 1 / math.sqrt(max(fan_in, 1)), shape))
        state[name] = value.to(tensor.dtype)
    return state


def random_pictures(count: int, size: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 1, (count, 3, size, size)).astype(np.float32))


def vit_by_hand(state: State, picture: NDArray[np.float64], patch: int, heads: int, taps: tuple[int, ...]) -> NDArray:
    """Patch tokens (rows·columns, dim · taps) of one picture (3, H, W), in float64, with explicit loops over patches."""
    s = {k: v.double().numpy() for k, v in state.items()}
    rows, columns = picture.shape[1] // patch, picture.shape[2] // patch
    kernel = s["patch_embed.proj.weight"].reshape(len(s["patch_embed.proj.bias"]), -1)
    tokens = [s["cls_token"][0, 0]]
    for r in range(rows):
        for c in range(columns):
            tile = picture[:, r * patch : (r + 1) * patch, c * patch : (c + 1) * patch]
            tokens.append(kernel @ tile.ravel() + s["patch_embed.proj.bias"])
    grid = math.isqrt(s["pos_embed"].shape[1] - 1)
    positions = s["pos_embed"][0, 1:].reshape(grid, grid, -1)
    if (rows, columns) != (grid, grid):
        across = cubic_resize(positions.swapaxes(0, 1), columns).swapaxes(0, 1)
        positions = cubic_resize(across, rows)
    x = np.stack(tokens) + np.concatenate([s["pos_embed"][0, :1], positions.reshape(rows * columns, -1)])
    return _blocks_by_hand(s, "blocks", x, 0, heads, 1e-6, taps)[1:]


def cubic_resize(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Resize the first axis to ``count`` by cubic convolution (Keys 1981, a = −0.75) at steps of size/(count + 0.1)."""
    a, size = -0.75, len(values)
    out = np.zeros((count, *values.shape[1:]))
    for i in range(count):
        at = (i + 0.5) * size / (count + 0.1) - 0.5
        for j in range(math.floor(at) - 1, math.floor(at) + 3):
            t = abs(at - j)
            near = (a + 2) * t**3 - (a + 3) * t**2 + 1
            far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
            out[i] += (near if t <= 1 else far) * values[min(max(j, 0), size - 1)]
    return out


def point_mae_by_hand(
    state: State, neighbours: NDArray[np.float64], centres: NDArray[np.float64], heads: int, taps: tuple[int, ...]
) -> NDArray[np.float64]:
    """Tokens (G, dim · taps) in float64; batch normalisation, concatenation and maxima as the paper draws them."""
    s = {k: v.double().numpy() for k, v in state.items()}

    def conv(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x @ s[f"{name}.weight"][:, :, 0].T + s[f"{name}.bias"]

    def norm(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled = (x - s[f"{name}.running_mean"]) / np.sqrt(s[f"{name}.running_var"] + 1e-5)
        return scaled * s[f"{name}.weight"] + s[f"{name}.bias"]

    tokens = []
    for points in neighbours:
        f = conv(
            "encoder.first_conv.3", np.maximum(norm("encoder.first_conv.1", conv("encoder.first_conv.0", points)), 0)
        )
        both = np.concatenate([np.repeat(f.max(0, keepdims=True), len(f), 0), f], 1)
        h = np.maximum(norm("encoder.second_conv.1", conv("encoder.second_conv.0", both)), 0)
        tokens.append(conv("encoder.second_conv.3", h).max(0))
    hidden = _gelu(centres @ s["pos_embed.0.weight"].T + s["pos_embed.0.bias"])
    position = hidden @ s["pos_embed.2.weight"].T + s["pos_embed.2.bias"]
    return _blocks_by_hand(s, "blocks.blocks", np.stack(tokens), position, heads, 1e-5, taps)


def _blocks_by_hand(
    s: dict[str, NDArray[np.float64]],
    prefix: str,
    x: NDArray[np.float64],
    position: NDArray[np.float64] | int,
    heads: int,
    epsilon: float,
    taps: tuple[int, ...],
) -> NDArray[np.float64]:
    def norm(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        about = x - x.mean(1, keepdims=True)
        return about / np.sqrt((about**2).mean(1, keepdims=True) + epsilon) * s[f"{name}.weight"] + s[f"{name}.bias"]

    def layer(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x @ s[f"{name}.weight"].T + s.get(f"{name}.bias", 0)

    found = []
    for i in range(max(taps) + 1):
        at = f"{prefix}.{i}"
        x = x + position
        q, k, v = np.split(layer(f"{at}.attn.qkv", norm(f"{at}.norm1", x)), 3, 1)
        width = q.shape[1] // heads
        seen = []
        for h in range(heads):
            own = slice(h * width, (h + 1) * width)
            weights = np.exp(q[:, own] @ k[:, own].T / math.sqrt(width))
            seen.append(weights / weights.sum(1, keepdims=True) @ v[:, own])
        x = x + layer(f"{at}.attn.proj", np.concatenate(seen, 1)) * s.get(f"{at}.ls1.gamma", 1)
        x = x + layer(f"{at}.mlp.fc2", _gelu(layer(f"{at}.mlp.fc1", norm(f"{at}.norm2", x)))) * s.get(
            f"{at}.ls2.gamma", 1
        )
        if i in taps:
            found.append(norm("norm", x))
    return np.concatenate(found, 1)


def _gelu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
