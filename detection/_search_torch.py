"""The exact search of :mod:`rakelight.detection.neighbours` on a torch device: the same blocks, the same answer.

The product finds candidates, in float32 (never TF32, whose ten bits of mantissa would lose neighbours), and their distances
are then taken from the differences. A few candidates more than asked for are looked at, since the product's rounding can
change the order of nearly equal ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from rakelight.errors import ModelError

if TYPE_CHECKING:
    from rakelight.detection.neighbours import Neighbours, SearchBank

_SPARE = 7  # candidates looked at beyond the k asked for
_GATHER_BYTES = 256 << 20  # of candidates' vectors held at a time


class TorchBank:
    """A :class:`SearchBank` on a torch device."""

    def __init__(self, bank: SearchBank, device: str) -> None:
        try:
            self.device = torch.device(device)
            self.vectors = torch.from_numpy(bank.vectors).to(self.device)
        except (RuntimeError, AssertionError) as e:  # no such device, or it has not enough memory
            raise ModelError(
                f"the memory bank cannot be put on device {device!r}: {e}", hint="use --device cpu", code="model.device"
            ) from e
        self.norms = torch.from_numpy(bank.norms).to(self.device)
        self.part = torch.from_numpy(bank.part).to(self.device)
        self.centre = torch.from_numpy(bank.centre).to(self.device)

    def nearest(self, queries: NDArray[np.float32], own: NDArray[np.int32], k: int, max_bytes: int) -> Neighbours:
        """As :func:`rakelight.detection.neighbours.nearest`, of checked queries (Q, D); ``own`` (Q,) parts left out."""
        from rakelight.detection.neighbours import Neighbours, block_shape

        take = min(k + _SPARE, len(self.vectors))
        height, width = block_shape(len(queries), len(self.vectors), max_bytes)
        height = min(height, max(64, _GATHER_BYTES // (4 * take * queries.shape[1])))
        distance = np.full((len(queries), k), np.inf, np.float32)
        index = np.full((len(queries), k), -1, np.int64)
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            for start in range(0, len(queries), height):
                block = slice(start, min(start + height, len(queries)))
                rows = torch.from_numpy(queries[block]).to(self.device) - self.centre
                parts = torch.from_numpy(own[block]).to(self.device)
                squared, where = self._refine(rows, parts, self._candidates(rows, parts, take, width))
                kept = min(k, take)
                distance[block, :kept] = squared[:, :kept].sqrt().cpu().numpy()
                index[block, :kept] = where[:, :kept].cpu().numpy()
        finally:
            torch.set_float32_matmul_precision(precision)
        return Neighbours(distance, index)

    def _candidates(self, rows: Any, parts: Any, take: int, width: int) -> Any:
        """Indices (q, take) of the least ‖b‖² − 2 q·b of each row."""
        best = torch.full((len(rows), 0), torch.inf, device=self.device)
        found = torch.zeros((len(rows), 0), dtype=torch.int64, device=self.device)
        for start in range(0, len(self.vectors), width):
            block = slice(start, min(start + width, len(self.vectors)))
            values = torch.addmm(self.norms[None, block], rows, self.vectors[block].T, alpha=-2)
            values.masked_fill_(self.part[None, block] == parts[:, None], torch.inf)
            low, at = values.topk(min(take, values.shape[1]), dim=1, largest=False)
            best, found = torch.cat([best, low], 1), torch.cat([found, at + start], 1)
            best, order = best.topk(min(take, best.shape[1]), dim=1, largest=False)
            found = found.gather(1, order)
        return found

    def _refine(self, rows: Any, parts: Any, candidates: Any) -> tuple[Any, Any]:
        """True squared distances of the candidates, ascending, equal ones by index; infinite and -1 where left out."""
        candidates, _ = candidates.sort(dim=1)
        squared = (self.vectors[candidates] - rows[:, None]).square_().sum(dim=2)
        left_out = self.part[candidates] == parts[:, None]
        squared.masked_fill_(left_out, torch.inf)
        squared, order = squared.sort(dim=1, stable=True)
        return squared, candidates.masked_fill(left_out, -1).gather(1, order)
