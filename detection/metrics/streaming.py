"""Pixel figures from histograms: one pass over the parts in any order, memory that does not grow with their number or size.

A score is binned by the leading bits of its float32 difference from a ``centre``, about the median score: bins are narrow near
the centre and 2⁻¹⁰ … 2⁻⁹ of the distance away from it elsewhere, whatever the scale of the scores, with no range to guess
beforehand and no second pass. Between FPR 0.35 and 10⁻⁵ that makes some two thousand bins. Scores of one bin are taken as
ties, that is a straight line of the curve, so the error of an area is of second order in the width. Figures equal those of
:mod:`rakelight.detection.metrics.pro` within some 10⁻⁵ on natural maps, and exactly where no two scores share a bin.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.detection.metrics._histogram_kernels import add_defects, count_all, count_kinds
from rakelight.detection.metrics.areas import FloatArray, Steps, make_steps
from rakelight.detection.metrics.pro import Bool, Regions, refuse_not_finite, regions_of
from rakelight.errors import InputError

FINE, COARSE = 18, 15  # bits of a score that choose its bin
_SAMPLE = 65_536  # pixels that settle the centre


@dataclass(frozen=True, eq=False)
class Bins:
    """The bins of a histogram that hold something, K of them in ascending order.

    ``index`` (K,) int64; ``counts`` (3, K) int64: normal pixels outside the part, inside, defective pixels; ``region`` (K,)
    float64: sum over the pixels of 1 / (pixels of their region); ``regions``: how many; ``centre`` and ``bits`` say what
    the bins are.
    """

    index: NDArray[np.int64]
    counts: NDArray[np.int64]
    region: FloatArray
    regions: int
    centre: np.float32
    bits: int

    def lower_edges(self) -> FloatArray:
        """(K,) the least score of each bin."""
        shift = 32 - self.bits
        key = (self.index - (1 << (self.bits - 1))) << shift
        # The least of a negative bin is the largest in magnitude: the turned bits of its first key are just that.
        turned = (key.astype(np.int32) ^ ((key >> 31) & 0x7FFFFFFF).astype(np.int32)).view(np.float32)
        return np.float64(self.centre) + turned.astype(np.float64)

    def steps(self, *, inside: bool = False) -> Steps:
        """Thresholds at the bins; ``inside`` leaves out normal pixels outside the part (defective ones count anywhere)."""
        normal = self.counts[1] if inside else self.counts[0] + self.counts[1]
        region = self.region[::-1] / self.regions if self.regions else np.zeros(len(self.index))
        counts = (normal[::-1].astype(np.float64), self.counts[2][::-1].astype(np.float64))
        return make_steps(self.lower_edges()[::-1], *counts, region)


class PixelHistogram:
    """Scores of pixels, counted part by part.

    Most bins are never touched: the operating system keeps only the pages in use.

    Parameters
    ----------
    centre : float
        About the median of the scores; :func:`centre_of` gives it for a map. Anything within a hundred spreads will do.
    bits : int
        8 to 24; :data:`FINE` for figures, :data:`COARSE` for one part's share in an interval.
    """

    def __init__(self, centre: float, bits: int = FINE) -> None:
        if not np.isfinite(centre):
            raise InputError(f"centre of a histogram is {centre}; a finite score is needed", code="input.not_finite")
        if not 8 <= bits <= 24:
            raise InputError(f"a histogram of {bits} bits is outside its range, 8 to 24", code="input.range")
        self.centre = np.float32(centre)
        self.bits = bits
        self._counts = np.zeros((3, 1 << bits), np.int64)
        self._region = np.zeros(1 << bits)
        self._regions = 0

    def add(
        self,
        scores: NDArray[np.floating],
        mask: Bool | None = None,
        *,
        ignore: Bool | None = None,
        part: Bool | None = None,
        name: str = "map",
    ) -> None:
        """Count one part.

        Parameters
        ----------
        scores : (H, W) float, counted as float32; higher is more anomalous
        mask : (H, W) bool, defective pixels; None: all are normal
        ignore : (H, W) bool, pixels that do not count
        part : (H, W) bool, pixels on the part; None: all
        name : str, names the map in errors

        Raises :class:`InputError` where sizes differ or pixels that count are NaN or infinite; nothing is counted then.
        """
        s = check_array(name, scores, ndim=2, dtypes=("float16", "float32", "float64"))
        for kind, other in (("mask", mask), ("ignore mask", ignore), ("part mask", part)):
            if other is not None:
                check_array(f"{kind} of {name}", other, shape=s.shape, dtypes=("bool",))
        flat = np.ascontiguousarray(s, np.float32).ravel()
        kinds = None
        if ignore is not None or part is not None:
            kinds = np.full(s.shape, 2, np.uint8) if part is None else np.where(part, np.uint8(2), np.uint8(1))
            for out in (mask, ignore):
                if out is not None:
                    kinds[out] = 0
        found = None if mask is None else regions_of(mask, ignore)
        size, bad = self._count(flat, kinds, found, 1)
        if bad:
            self._count(flat, kinds, found, -1)
            refuse_not_finite(name, bad, size)

    def _count(
        self, flat: NDArray[np.float32], kinds: NDArray[np.uint8] | None, found: Regions | None, step: int
    ) -> tuple[int, int]:
        """Count the pixels (step 1) or take them off again (-1): (pixels that count, those not finite)."""
        shift = 32 - self.bits
        if kinds is None:
            size, bad = flat.size, int(count_all(flat, self.centre, shift, step, self._counts[1]))
        else:
            size = int(np.count_nonzero(kinds))
            bad = int(count_kinds(flat, kinds.ravel(), self.centre, shift, step, self._counts))
        if found is not None:
            pixels, weights, regions = found
            counted = int(kinds is None)
            into = (self._counts, self._region)
            more = int(add_defects(flat, pixels, weights, counted, self.centre, shift, step, *into))
            self._regions += step * regions
            if kinds is not None:
                size, bad = size + len(pixels), bad + more
        return size, bad

    def bins(self) -> Bins:
        """What was counted so far."""
        index = np.flatnonzero(self._counts.any(axis=0))
        counts = self._counts[:, index]
        return Bins(index, counts, self._region[index], self._regions, self.centre, self.bits)


def centre_of(scores: NDArray[np.floating], counted: Bool | None = None) -> float:
    """Median of a sample of the finite scores that count (0 if there are none): the centre for a histogram."""
    some = scores.ravel() if counted is None else scores[counted]
    some = some[:: max(1, some.size // _SAMPLE)]
    some = some[np.isfinite(some)]
    return float(np.median(some)) if some.size else 0.0


def merged(parts: Sequence[Bins]) -> Bins:
    """The sum of histograms of the same centre and bits."""
    if not parts or len({(float(b.centre), b.bits) for b in parts}) > 1:
        raise InputError("histograms can be added only if there are any, of one centre and size", code="input.mismatch")
    if len(parts) == 1:
        return parts[0]
    index, place = np.unique(np.concatenate([b.index for b in parts]), return_inverse=True)
    counts, region = np.zeros((3, len(index)), np.int64), np.zeros(len(index))
    start = 0
    for b in parts:
        at = place[start : start + len(b.index)]  # within one histogram no bin occurs twice
        counts[:, at] += b.counts
        region[at] += b.region
        start += len(b.index)
    return Bins(index, counts, region, sum(b.regions for b in parts), parts[0].centre, parts[0].bits)


def streamed_steps(
    parts: Iterable[tuple[NDArray[np.floating], Bool | None]], *, bits: int = FINE, centre: float | None = None
) -> Steps:
    """Steps of a stream of (map, mask or None); ``centre`` from the first map if not given."""
    histogram: PixelHistogram | None = None
    for number, (scores, mask) in enumerate(parts, 1):
        if histogram is None:
            histogram = PixelHistogram(centre_of(scores) if centre is None else centre, bits)
        histogram.add(scores, mask, name=f"map {number}")
    return (histogram or PixelHistogram(0.0, bits)).bins().steps()
