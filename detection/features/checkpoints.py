"""Reading a weights file without running what may hide in it, and fitting it to a network without a gap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rakelight.detection.features import weights
from rakelight.errors import ModelError

_SHOWN = 3  # names of keys in a message


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a weights file holds: ``content`` as read, the ``path`` it came from and its SHA-256."""

    content: Mapping[str, Any]
    path: Path
    sha256: str


def load(weights_id: str, explicit: Path | None = None) -> Checkpoint:
    """Find, check and read the weights ``weights_id``.

    Raises :class:`ModelError`: as :func:`rakelight.detection.features.weights.find`; ``weights.checksum``;
    ``weights.unsafe`` for a file that would run code; ``weights.unreadable``.
    """
    place = weights.find(weights_id, explicit)
    sha256 = weights.checked_sha256(place)
    return Checkpoint(read(place.path), place.path, sha256)


def read(file: Path, shown: Path | None = None) -> Mapping[str, Any]:
    """Content of a safetensors or torch file on the CPU; only tensors and plain containers are accepted.

    Messages call it ``shown``. Which of the two it is, its first bytes tell: a cache may name it as it likes.
    """
    path = shown or file
    try:
        with open(file, "rb") as handle:
            is_safetensors = handle.read(9)[8:] == b"{"  # the length of its header, then the header
        if is_safetensors:
            from safetensors.torch import load_file

            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise a dozen kinds for a damaged file
        if "Weights only load failed" in str(error):
            raise ModelError(
                f"{path} is refused: it holds more than tensors and would run code when read",
                hint="use the published file (`rakelight detect weights list`), or one saved as safetensors",
                code="weights.unsafe",
            ) from error
        raise ModelError(
            f"{path} cannot be read as weights: {_first_line(error)}",
            hint="it is cut short or no weights file; fetch it again",
            code="weights.unreadable",
        ) from error
    if not isinstance(content, Mapping):
        raise ModelError(
            f"{path} holds a {type(content).__name__}, a table of named tensors is needed",
            hint="use the published file (`rakelight detect weights list`)",
            code="weights.mismatch",
        )
    return content


def fit(network: torch.nn.Module, tensors: Mapping[str, Any], path: Path) -> None:
    """Put ``tensors`` into a network made on the ``meta`` device, as float32, ready for inference.

    Every tensor of the network must be there in its shape, finite, and nothing else. Raises :class:`ModelError`
    ``weights.mismatch`` naming the first keys that are missing, unexpected or of another shape; ``weights.not_finite``.
    """
    needed = network.state_dict()
    faults = [
        _listed("missing", sorted(needed.keys() - tensors.keys())),
        _listed("unexpected", sorted(tensors.keys() - needed.keys())),
        _listed(
            "of another kind or shape",
            [_shapes(k, tensors[k], needed[k]) for k in needed if _differs(k, tensors, needed)],
        ),
    ]
    if any(faults):
        raise ModelError(
            f"{path} does not fit: " + "; ".join(f for f in faults if f),
            hint="these are the weights of another network; `rakelight detect weights list` names the files that fit",
            code="weights.mismatch",
        )
    ready = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    if broken := [k for k, v in ready.items() if not torch.isfinite(v).all()]:
        raise ModelError(
            f"{path}: {_listed('not finite', broken)}",
            hint="the file is damaged; fetch it again",
            code="weights.not_finite",
        )
    network.load_state_dict(ready, strict=True, assign=True)
    network.requires_grad_(False).eval()


def _differs(key: str, tensors: Mapping[str, Any], needed: Mapping[str, torch.Tensor]) -> bool:
    if key not in tensors:
        return False
    value = tensors[key]
    return not isinstance(value, torch.Tensor) or value.shape != needed[key].shape


def _shapes(key: str, value: Any, needed: torch.Tensor) -> str:
    found = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
    return f"{key} {found} instead of {tuple(needed.shape)}"


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{more})"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
