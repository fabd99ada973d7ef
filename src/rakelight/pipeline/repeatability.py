"""How well a rig repeats itself: the same part measured again and again without being touched."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Recording
from rakelight.errors import InputError
from rakelight.pipeline import second_pass
from rakelight.pipeline.light_stack import frame_camera, load_light_stack
from rakelight.pipeline.reconstruct import solve_stack
from rakelight.pipeline.surface import Surface, measure_surface

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Run:
    """One measurement of the part.

    ``height_mm``, ``sigma_mm`` (H, W): height above the table and its predicted standard deviation, NaN = not measured;
    ``mask`` (H, W) bool: the part; ``normals`` (H, W, 3), unit, or None without light stack.
    """

    height_mm: NDArray[np.floating[Any]]
    sigma_mm: NDArray[np.floating[Any]]
    mask: NDArray[np.bool_]
    normals: NDArray[np.floating[Any]] | None = None


@dataclass(frozen=True)
class Repeatability:
    """Standard deviations (one σ) between runs.

    Attributes
    ----------
    runs, pixels : int
        Pixels of the part that every run measured.
    height_um : float
        Of the height of a pixel: median over the part.
    height_p95_um : float
        95 % of the pixels repeat better.
    predicted_um : float
        Median of the predicted σ_z; ``ratio`` is ``height_um`` over it, 1 for noise alone.
    mean_height_um : float
        Of the mean height of the part; ``drift_um`` is the last run's less the first's.
    centre_px : (u, v)
        Of the centre of the part's mask.
    normals_deg : float or None
        Of the normal of a pixel about its mean, root mean square angle; median over the part.
    """

    runs: int
    pixels: int
    height_um: float
    height_p95_um: float
    predicted_um: float
    ratio: float
    mean_height_um: float
    drift_um: float
    centre_px: tuple[float, float]
    normals_deg: float | None


def repeatability(runs: Iterable[Run]) -> Repeatability:
    """Figures of two runs or more; they are taken one by one, so that memory does not grow with their number.

    Raises :class:`InputError`: ``repeat.runs`` (fewer than two), ``repeat.size`` (of different sizes), ``repeat.no_part`` (no
    pixel of the part was measured every time).
    """
    tally: _Tally | None = None
    for run in runs:
        if tally is None:
            tally = _Tally(run.height_mm.shape)
        tally.add(run)
    if tally is None or tally.count < 2:
        raise InputError(
            f"{0 if tally is None else tally.count} runs; repeatability needs 2 or more, better 25", code="repeat.runs"
        )
    return tally.figures()


def run_of(recording: Recording, calibration: RigCalibration, surface: Surface | None = None) -> Run:
    """Measure a recording with patterns; ``surface`` if that was made while it was captured.

    Raises :class:`DatasetError` and :class:`CalibrationError` as :func:`measure_surface` and :func:`load_light_stack`.
    """
    found = measure_surface(recording, calibration) if surface is None else surface
    normals = solved_normals(recording, calibration, found) if recording.zones and calibration.lights else None
    return Run(found.height_mm, found.merged.sigma_z_mm, found.mask, normals)


def solved_normals(recording: Recording, calibration: RigCalibration, surface: Surface) -> NDArray[np.float32]:
    """(H, W, 3) photometric normals, viewer frame: over the measured surface if the lights' positions are known."""
    stack = load_light_stack(recording, calibration)
    if second_pass.obstacle(stack) is None and calibration.camera is not None:
        camera = frame_camera(calibration.camera, recording)
        result = second_pass.second_pass(stack, calibration, camera, surface.table_plane, surface.xyz)
        assert result is not None  # there is no obstacle
        return result.normals
    return solve_stack(stack).normals


class _Tally:
    """Sums over runs."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = 0
        self._mean, self._square = np.zeros(shape), np.zeros(shape)  # Welford: mean, and sum of squares about it
        self._variance = np.zeros(shape)
        self._common = np.ones(shape, bool)
        self._normals: FloatArray | None = np.zeros((*shape, 3))
        self._first: FloatArray | None = None
        self._levels: list[float] = []
        self._centres: list[FloatArray] = []

    def add(self, run: Run) -> None:
        height = np.asarray(run.height_mm, np.float64)
        if height.shape != self._mean.shape:
            raise InputError(
                f"run {self.count + 1} has {height.shape} pixels, the first {self._mean.shape}", code="repeat.size"
            )
        self.count += 1
        known = run.mask & np.isfinite(height) & np.isfinite(run.sigma_mm)
        self._common &= known
        step = height - self._mean
        self._mean += step / self.count
        self._square += step * (height - self._mean)
        self._variance += np.asarray(run.sigma_mm, np.float64) ** 2
        if run.mask.any():
            v, u = np.nonzero(run.mask)
            self._centres.append(np.array([u.mean(), v.mean()]))
        if run.normals is None:
            self._normals = None
        elif self._normals is not None:
            self._normals += run.normals
        if self._first is None:
            self._first = height
        shared = known & np.isfinite(self._first)
        shift = (height - self._first)[shared]
        self._levels.append(float(np.mean(shift)) if shift.size else math.nan)

    def figures(self) -> Repeatability:
        where, n = self._common, self.count
        if not where.any():
            raise InputError(
                f"no pixel of the part was measured in all {n} runs",
                hint="was the part moved or exchanged between the runs?",
                code="repeat.no_part",
            )
        # the median of a sample's standard deviation lies below σ; of squares over σ² it is that of χ² by its freedom
        sample = np.sqrt(self._square[where] / (n - 1)) * 1000
        height = float(np.median(sample)) / math.sqrt(chi2.ppf(0.5, n - 1) / (n - 1))
        predicted = float(np.median(np.sqrt(self._variance[where] / n))) * 1000
        centre = np.std(np.array(self._centres), axis=0, ddof=1)
        levels = np.array(self._levels) * 1000
        return Repeatability(
            runs=n,
            pixels=int(where.sum()),
            height_um=height,
            height_p95_um=float(np.percentile(sample, 95)),
            predicted_um=predicted,
            ratio=height / predicted if predicted else math.inf,
            mean_height_um=float(np.std(levels, ddof=1)),
            drift_um=float(levels[-1] - levels[0]),
            centre_px=(float(centre[0]), float(centre[1])),
            normals_deg=self._normals_deg(where),
        )

    def _normals_deg(self, where: NDArray[np.bool_]) -> float | None:
        """Unit vectors whose mean has length R lie √(2(1 − R)) about it (root mean square, small angles)."""
        if self._normals is None:
            return None
        length = np.linalg.norm(self._normals[where], axis=1) / self.count
        length = length[np.isfinite(length)]
        if not length.size:
            return None
        angle = np.sqrt(np.maximum(2 * (1 - length), 0) * self.count / (self.count - 1))
        return math.degrees(float(np.median(angle)))
