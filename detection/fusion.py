"""Patch features of two modalities as one: M3DM's contrastively trained fusion, or the two side by side.

The network is M3DM's (Wang et al. 2023, CVPR, "unsupervised feature fusion"), which D³M takes over: each modality goes
through a LayerNorm and an MLP four times as wide (GELU); the two results side by side are the fused patch. For training
only, a linear head brings each to 256 numbers, and InfoNCE (:func:`info_nce`) asks that a patch find its partner among all
patches of the batch. :mod:`rakelight.detection.fusion_training` trains it and says whether it is worth having.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from rakelight.detection.neighbours import Floats, check_vectors
from rakelight.errors import ModelError

Kind = Literal["contrastive", "concat"]
HEAD = 256
WIDEN = 4
_ROWS = 4096  # patches at a time, so that the wide layer stays small


@dataclass(frozen=True, eq=False)
class Fusion:
    """A way to fuse patches of two modalities; made by :func:`concat` or :func:`~rakelight.detection.fusion_training.train`.

    Attributes
    ----------
    kind : str
        "contrastive", or "concat": each modality minus its mean, divided by one number, so that both weigh the same.
    dims : (int, int)
        Da and Db of the two modalities.
    arrays : mapping of str to array
        Weights, float32, by the names of the network's state, or mean and scale.
    """

    kind: Kind
    dims: tuple[int, int]
    arrays: Mapping[str, NDArray[np.float32]]

    @property
    def dim(self) -> int:
        """Length of a fused patch, Da + Db."""
        return sum(self.dims)

    def fuse(self, first: Any, second: Any, *, device: str = "cpu") -> Floats:
        """Patches (P, Da) and (P, Db), row by row of the same place, to (P, Da + Db) float32.

        Give patches that are valid in both. Raises :class:`ModelError` for other dimensions or numbers of rows.
        """
        a, b = check_pair(first, second, self.dims)
        if self.kind == "concat":
            halves = [
                (x - self.arrays[f"{n}.mean"]) / self.arrays[f"{n}.scale"] for n, x in (("first", a), ("second", b))
            ]
            return np.ascontiguousarray(np.concatenate(halves, axis=1), np.float32)
        out = np.empty((len(a), self.dim), np.float32)
        network = self._network.to(device)
        with torch.inference_mode():
            for start in range(0, len(a), _ROWS):
                rows = slice(start, start + _ROWS)
                halves = [network[n](torch.from_numpy(x[rows]).to(device)) for n, x in (("first", a), ("second", b))]
                out[rows] = torch.cat(halves, dim=1).cpu().numpy()
        return out

    def project(self, first: Any, second: Any) -> tuple[Floats, Floats]:
        """The two (P, 256) unit vectors that training compares; the halves of :meth:`fuse`, unit length, for "concat"."""
        fused = self.fuse(first, second)
        halves = [torch.from_numpy(fused[:, : self.dims[0]]), torch.from_numpy(fused[:, self.dims[0] :])]
        if self.kind == "contrastive":
            with torch.inference_mode():
                halves = [self._network[f"{n}_head"](x) for n, x in zip(("first", "second"), halves, strict=True)]
        a, b = (functional.normalize(x, dim=1).numpy() for x in halves)
        return a, b

    def to_arrays(self) -> dict[str, NDArray[np.float32]]:
        """What must be kept besides ``kind``, as plain arrays (for safetensors)."""
        return dict(self.arrays)

    @classmethod
    def from_arrays(cls, kind: str, arrays: Mapping[str, NDArray[np.floating]]) -> Fusion:
        """Inverse of :meth:`to_arrays`; :class:`ModelError` if arrays are missing, too many, of another shape or not finite."""
        if kind not in get_args(Kind):
            raise ModelError(f"fusion {kind!r} is unknown; known: {', '.join(get_args(Kind))}", code="model.fusion")
        key = "mean" if kind == "concat" else "0.weight"
        found = [np.shape(arrays[f"{n}.{key}"]) for n in ("first", "second") if f"{n}.{key}" in arrays]
        if len(found) != 2 or any(len(shape) != 1 for shape in found):
            raise ModelError(
                f"the {kind} fusion's arrays are not complete: {', '.join(sorted(arrays)) or 'none'}",
                code="model.fusion",
            )
        dims = (found[0][0], found[1][0])
        if kind == "concat":
            wanted = {
                f"{n}.{what}": (dim,) * (what == "mean")
                for n, dim in zip(("first", "second"), dims, strict=True)
                for what in ("mean", "scale")
            }
        else:
            wanted = {name: tuple(value.shape) for name, value in _without_weights(dims).state_dict().items()}
        got = {name: np.shape(value) for name, value in arrays.items()}
        wrong = sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name))
        wrong += [name for name, value in arrays.items() if name not in wrong and not np.isfinite(value).all()]
        if wrong:
            raise ModelError(
                f"the {kind} fusion's arrays do not fit dimensions {dims[0]} and {dims[1]}: {', '.join(wrong[:4])}",
                code="model.fusion",
            )
        return cls(kind, dims, {name: np.array(value, np.float32) for name, value in arrays.items()})  # type: ignore[arg-type]

    @cached_property
    def _network(self) -> nn.ModuleDict:
        built = _without_weights(self.dims)
        built.load_state_dict({name: torch.from_numpy(np.array(v)) for name, v in self.arrays.items()}, assign=True)
        return built.eval().requires_grad_(False)


def concat(first: Any, second: Any) -> Fusion:
    """The fusion that only puts patches (P, Da) and (P, Db) side by side, each less its mean and divided by its RMS length."""
    a, b = check_pair(first, second)
    arrays: dict[str, NDArray[np.float32]] = {}
    for name, x in (("first", a), ("second", b)):
        mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
        length = float(np.sqrt(np.square(x - mean, dtype=np.float64).sum(axis=1).mean()))
        arrays |= {f"{name}.mean": mean, f"{name}.scale": np.array(length if length > 0 else 1.0, np.float32)}
    return Fusion("concat", (a.shape[1], b.shape[1]), arrays)


def network(dims: tuple[int, int]) -> nn.ModuleDict:
    """The fusion network: ``first`` and ``second`` (LayerNorm, Linear ×4, GELU, Linear), ``first_head`` and ``second_head``."""
    parts = {}
    for name, dim in zip(("first", "second"), dims, strict=True):
        parts[name] = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, WIDEN * dim), nn.GELU(), nn.Linear(WIDEN * dim, dim)
        )
        parts[f"{name}_head"] = nn.Linear(dim, HEAD)
    return nn.ModuleDict(parts)


def _without_weights(dims: tuple[int, int]) -> nn.ModuleDict:
    """The network with nothing allocated or drawn yet: drawing would move torch's global state."""
    with torch.device("meta"):
        return network(dims)


def info_nce(first: Any, second: Any, temperature: float, *, symmetric: bool = False) -> Any:
    """InfoNCE of the heads' outputs (B, 256), row by row partners: cross-entropy of cos/T, times 2T as in M3DM.

    The second modality is asked for the partners of the first; ``symmetric`` also the other way round, averaged.
    """
    a, b = functional.normalize(first, dim=1), functional.normalize(second, dim=1)
    similar = a @ b.T / temperature
    own = torch.arange(len(a), device=similar.device)
    loss = functional.cross_entropy(similar, own)
    if symmetric:
        loss = (loss + functional.cross_entropy(similar.T, own)) / 2
    return 2 * temperature * loss


def check_pair(first: Any, second: Any, dims: tuple[int, int] | None = None) -> tuple[Floats, Floats]:
    """Two tables of as many rows, finite; :class:`ModelError` if they are not."""
    a = check_vectors("first features", first, None if dims is None else dims[0])
    b = check_vectors("second features", second, None if dims is None else dims[1])
    if len(a) != len(b) or not len(a):
        raise ModelError(
            f"{len(a)} patches of the first and {len(b)} of the second modality; both need as many, at least 1",
            code="model.vectors",
        )
    for name, x in (("first", a), ("second", b)):
        if not np.isfinite(x).all():
            raise ModelError(
                f"the {name} features hold NaN or infinity",
                hint="give only patches that are valid in both",
                code="model.not_finite",
            )
    return a, b
