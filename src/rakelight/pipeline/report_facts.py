"""What a calibration report tells, as plain arrays and texts; each part may be absent, and the report then says so."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Verdict = Literal["PASS", "WARN", "FAIL"]


@dataclass(frozen=True)
class Criterion:
    """One figure held against its limit; see :meth:`judge`.

    ``value`` is None where nothing was measured; ``limit`` None where there is none, beyond ``warn`` it is WARN; ``at_least``
    says that both are the least value, not the greatest; ``sentence`` tells what the figure means.
    """

    name: str
    value: float | None
    unit: str
    limit: float | None
    verdict: Verdict
    sentence: str
    at_least: bool = False
    warn: float | None = None

    @property
    def limits(self) -> str:
        """Both limits in words, such as ``at least 0.95, FAIL below 0.8``; empty where there is none."""
        if self.limit is None:
            return ""
        bound = "at least" if self.at_least else "at most"
        if self.warn is None:
            return f"{bound} {self.limit:g}"
        return f"{bound} {self.warn:g}, FAIL {'below' if self.at_least else 'above'} {self.limit:g}"

    @classmethod
    def judge(
        cls,
        name: str,
        value: float | None,
        unit: str,
        limit: float,
        sentence: str,
        *,
        warn: float | None = None,
        at_least: bool = False,
    ) -> Criterion:
        """FAIL beyond ``limit`` or where the value is not a number, WARN beyond ``warn`` or where nothing was measured."""
        sign = -1 if at_least else 1
        if value is None:
            verdict: Verdict = "WARN"
        elif not math.isfinite(value) or sign * value > sign * limit:
            verdict = "FAIL"
        else:
            verdict = "WARN" if warn is not None and sign * value > sign * warn else "PASS"
        return cls(name, value, unit, limit, verdict, sentence, at_least, warn)


@dataclass(frozen=True, eq=False)
class Residuals:
    """Reprojection errors of one device, in its own pixels.

    Attributes
    ----------
    device : str
        For example ``"camera"`` or ``"projector 1"``.
    size_px : (int, int)
        Width and height.
    at_px, error_px : (N, 2)
        Where corners were seen, and seen minus predicted.
    kept : (N,) bool, optional
        False for those that were left out.
    """

    device: str
    size_px: tuple[int, int]
    at_px: FloatArray
    error_px: FloatArray
    kept: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class Poses:
    """Error of each pose of the board: rms px, (P,), in the fit and left out of it (NaN: not told).

    ``rejected`` gives, by name, why a pose was left out; ``limit_px`` is drawn as a line.
    """

    names: tuple[str, ...]
    in_sample_px: FloatArray
    held_out_px: FloatArray
    rejected: Mapping[str, str] = field(default_factory=dict)
    limit_px: float | None = None


@dataclass(frozen=True, eq=False)
class Coverage:
    """Corners (rows, columns) int in the cells of a camera image of ``size_px`` (width, height)."""

    size_px: tuple[int, int]
    counts: NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class LightFact:
    """A light: zone, unit direction (3,) in the viewer frame, strength; ``distance_mm`` of a near source, ``sigma_mm`` of its
    position, and ``apart_mm``, by which spheres alone and white plane alone put it apart.
    """

    zone: int
    direction: FloatArray
    strength: float
    distance_mm: float | None = None
    sigma_mm: float | None = None
    apart_mm: float | None = None


@dataclass(frozen=True, eq=False)
class DepthUncertainty:
    """Standard deviation of heights due to calibration, (H, W) µm over a field of ``size_mm`` (width, height)."""

    sigma_um: FloatArray
    size_mm: tuple[float, float]


@dataclass(frozen=True, eq=False)
class History:
    """One figure over time: ``times`` (aware), ``values`` (N,), limits below and above."""

    name: str
    unit: str
    times: tuple[datetime, ...]
    values: FloatArray
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class ReportFacts:
    """All that a report tells.

    Attributes
    ----------
    calibration_id, created_utc, content_sha256, software : str
    simulated : bool
    identity : mapping of str to str
        Further lines of the header: rig, camera, serial numbers, board, temperature.
    criteria : tuple of Criterion
        In the order in which they are told.
    residuals, poses, coverage, lights, depth, history
        See their classes.
    gains : mapping of zone to (H, W)
        Flat field; relative; of any size.
    projectors : mapping of direction to {"rms_px", "held_out_px", …}
        The errors of each projector in its px; figures with other names stand in the table only, their unit being the last
        word of the name.
    warnings, rejected, sources : tuple of str
        Sentences; ``sources`` name the recordings with their hashes.
    """

    calibration_id: str
    created_utc: str
    content_sha256: str
    software: str
    simulated: bool = False
    identity: Mapping[str, str] = field(default_factory=dict)
    criteria: tuple[Criterion, ...] = ()
    residuals: tuple[Residuals, ...] = ()
    poses: Poses | None = None
    coverage: Coverage | None = None
    lights: tuple[LightFact, ...] = ()
    gains: Mapping[int, NDArray[np.floating[Any]]] = field(default_factory=dict)
    projectors: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    depth: DepthUncertainty | None = None
    history: tuple[History, ...] = ()
    warnings: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst of the criteria; WARN where there are none."""
        return worst(self.criteria)


def worst(criteria: Iterable[Criterion]) -> Verdict:
    """The worst verdict; WARN where there are no criteria."""
    found = {criterion.verdict for criterion in criteria}
    if "FAIL" in found:
        return "FAIL"
    return "PASS" if found == {"PASS"} else "WARN"
