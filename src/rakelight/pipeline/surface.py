"""Pattern frames + calibration → the measured surface: every direction decoded and triangulated, all of them merged.

Frames come direction by direction, from a recording or while a capture runs (:meth:`SurfaceBuilder.add`); a direction is
decoded as soon as its last frame is there, and its frames are forgotten. What stays of a direction are depth and its
predicted uncertainty, 8 bytes a pixel.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Recording
from rakelight.errors import DatasetError, InputError
from rakelight.pipeline.surface_parts import (
    Source,
    confidence,
    exposure_report,
    height_above,
    models_of,
    pattern_set_of,
    pixel_pitch_mm,
    slots,
    table_depth,
)
from rakelight.pipeline.zone_frames import grey_mean
from rakelight.reconstruction import decoding, merging, triangulation
from rakelight.reconstruction.models import Plane
from rakelight.reconstruction.part_mask import fit_table, part_mask
from rakelight.reconstruction.pattern_order import check_order

Progress = Callable[[str], None]
_DEPTH_RANGE = (0.5, 1.5)  # of the table's distance: what lies outside is no part


@dataclass(frozen=True)
class Settings:
    """How patterns become a surface; see the settings of decoding and merging. ``axis`` is the coordinate used for depth."""

    decoding: decoding.Settings = field(default_factory=decoding.Settings)
    merging: merging.Settings = field(default_factory=merging.Settings)


@dataclass(frozen=True, eq=False)
class Surface:
    """The measured surface on the pixels of the frames.

    Attributes
    ----------
    xyz : (H, W, 3) float32
        mm, OpenCV camera frame; NaN where nothing is known.
    height_mm : (H, W) float32
        Above the table plane.
    merged : Merged
        Depth, predicted uncertainty, spread, number and set of the directions that agree.
    confidence : (H, W) float32
        Share of the directions that agree among all that saw something there, halved where it is one alone; 0 if invalid.
    mask : (H, W) bool
        The part.
    table_plane : Plane
    pitch_mm : float
        Size of a pixel on the table.
    pairs : tuple of PairBias
        How the depths of two directions differ: exposes a projector that moved since the calibration.
    report : dict
        Per direction and per pair, plain data.
    """

    xyz: NDArray[np.float32]
    height_mm: NDArray[np.float32]
    merged: merging.Merged
    confidence: NDArray[np.float32]
    mask: NDArray[np.bool_]
    table_plane: Plane
    pitch_mm: float
    pairs: tuple[merging.PairBias, ...]
    report: dict[str, Any]


def has_patterns(recording: Recording) -> bool:
    """Whether a recording holds pattern frames."""
    return any(shot.role == "pattern" for shot in recording.info.plan)


def measure_surface(
    recording: Recording,
    calibration: RigCalibration,
    settings: Settings | None = None,
    *,
    progress: Progress = lambda step: None,
) -> Surface:
    """Decode, triangulate and merge the pattern frames of ``recording``.

    Raises
    ------
    DatasetError
        ``surface.no_patterns``, ``surface.pattern_missing``, ``surface.pattern_order`` (told from what the frames show),
        damaged frames.
    CalibrationError
        ``surface.not_calibrated``: no camera, or no projector for a recorded direction; another camera or size.
    """
    builder = SurfaceBuilder(Source.of(recording), calibration, settings, progress=progress)
    for name in builder.order:
        builder.add(name, grey_mean(recording, [f for f in recording.info.frames if f.shot == name]))
    return builder.finish()


class SurfaceBuilder:
    """Takes pattern frames as they come; see :func:`measure_surface` for the errors.

    ``order`` names the shots that it needs, in an order in which they may be added: all of one exposure of one direction
    together.
    """

    def __init__(
        self,
        source: Source,
        calibration: RigCalibration,
        settings: Settings | None = None,
        *,
        progress: Progress = lambda step: None,
    ) -> None:
        self._name = source.name
        self._settings, self._progress = settings or Settings(), progress
        self._set = pattern_set_of(source)
        self._slots = slots(source.description.plan, self._set, self._name)
        self.order = sorted(self._slots, key=lambda name: self._slots[name])
        directions = sorted({slot[0] for slot in self._slots.values()})
        self._camera, self._projectors = models_of(source, calibration)
        self._full_scale = source.full_scale
        self._plane = calibration.table_plane
        shape = (source.height, source.width)
        self._shape = shape
        self._brackets = {d: sorted({s[1] for s in self._slots.values() if s[0] == d}) for d in directions}
        self._buffer: NDArray[Any] | None = None
        self._filling: tuple[int, int] | None = None
        self._filled: set[int] = set()
        self._decoded = decoding.allocate(*shape)
        self._further: decoding.Decoded | None = None
        self._z = np.empty((len(directions), *shape), np.float32)
        self._sigma = np.empty_like(self._z)
        self._reports: dict[int, dict[str, Any]] = {d: {"direction": d, "exposures": []} for d in directions}
        self._samples: dict[int, NDArray[np.float32]] = {}  # coordinates on a coarse grid, to tell swapped directions
        self.seconds: dict[str, float] = defaultdict(float)

    def add(self, shot: str, image: NDArray[Any]) -> None:
        """One frame (H, W) of a shot; frames of shots that are not in ``order`` (white, black) are passed over."""
        if shot not in self._slots:
            return
        direction, bracket, index = self._slots[shot]
        if self._filling not in (None, (direction, bracket)):
            raise InputError(
                f"{self._name}: {shot} came before all frames of direction {self._filling} were there",
                hint="add the frames in the builder's order",
                code="surface.order",
            )
        if image.dtype == np.float32:  # the mean of colour channels or of repeats
            image = np.rint(image).astype(np.uint16)
        if self._buffer is None:
            self._buffer = np.empty((len(self._set.patterns), *self._shape), image.dtype)
        self._filling = (direction, bracket)
        self._buffer[index] = image
        self._filled.add(index)
        if len(self._filled) == len(self._set.patterns):
            self._solve(direction, bracket, self._buffer)
            self._filling, self._filled = None, set()

    def add_direction(self, direction: int, frames: NDArray[Any], bracket: int = 1) -> None:
        """All frames of one exposure of one direction, (K, H, W) in the order of the pattern set, without a copy."""
        self._solve(direction, bracket, frames)

    def _solve(self, direction: int, bracket: int, frames: NDArray[Any]) -> None:
        self._progress(f"direction {direction}")
        first = bracket == self._brackets[direction][0]
        if not first and self._further is None:
            self._further = decoding.allocate(*self._shape)
        out = self._decoded if first else self._further
        with self._timed("check patterns"):
            self._check_order(direction, frames)
        with self._timed("decode"):
            noise = decoding.estimate_noise(frames, self._set, full_scale=self._full_scale)
            decoded = decoding.decode(
                frames, self._set, full_scale=self._full_scale, noise=noise, settings=self._settings.decoding, out=out
            )
            self._reports[direction]["exposures"].append(exposure_report(decoded, noise, bracket))
            if not first:
                decoding.fold_bracket(self._decoded, decoded)
        if bracket == self._brackets[direction][-1]:
            self._triangulate(direction)

    def _check_order(self, direction: int, frames: NDArray[Any]) -> None:
        try:
            check_order(frames, self._set, full_scale=self._full_scale)
        except InputError as error:
            raise DatasetError(
                f"{self._name}: direction {direction}: {error.message}", hint=error.hint, code="surface.pattern_order"
            ) from error

    def _triangulate(self, direction: int) -> None:
        place = list(self._brackets).index(direction)
        with self._timed("triangulate"):
            triangulation.triangulate(
                self._decoded.coordinate,
                self._decoded.sigma_px,
                self._camera,
                self._projectors[direction],
                out=(self._z[place], self._sigma[place]),
                z_range_mm=self._z_range(),
            )
        step = self._step()
        self._samples[direction] = self._decoded.coordinate[::step, ::step].copy()
        sigma = self._sigma[place][::step, ::step]
        known = sigma[np.isfinite(sigma)]
        self._reports[direction] |= {
            "valid": round(known.size / max(sigma.size, 1), 5),
            "median_sigma_z_um": round(float(np.median(known)) * 1000, 3) if known.size else None,
        }

    def finish(self) -> Surface:
        """Merge what was added. Raises :class:`DatasetError` ``surface.all_invalid`` when no pixel has a depth."""
        self._progress("merging")
        directions = tuple(self._brackets)
        pitch = pixel_pitch_mm(self._camera, self._plane, self._z)
        with self._timed("merge"):
            merged = merging.merge(self._z, self._sigma, directions, pitch_mm=pitch, settings=self._settings.merging)
        step = self._step()
        if not np.isfinite(merged.z_mm[::step, ::step]).any():
            raise self._all_invalid()
        pairs = merging.pair_biases(self._z, self._sigma, directions)
        xyz = triangulation.xyz_from_depth(merged.z_mm, self._camera)
        plane = self._plane or fit_table(xyz)
        with self._timed("part mask"):
            height = height_above(xyz, plane)
            mask = part_mask(height, pitch)
        report = {
            "pattern_set": self._set.description(),
            "directions": [self._direction_report(d, merged) for d in directions],
            "pairs": [pair.to_plain() for pair in pairs],
            "coverage": round(float(np.isfinite(merged.z_mm).mean()), 5),
            "part_pixels": int(mask.sum()),
            "part_coverage": round(float(np.isfinite(merged.z_mm[mask]).mean()), 5) if mask.any() else None,
            "pitch_mm": round(pitch, 6),
            "table_plane": "calibration" if self._plane is not None else "fitted to the measured points",
            "warnings": self._warnings(pairs, directions, mask),
            "seconds": {name: round(value, 4) for name, value in self.seconds.items()},
        }
        return Surface(xyz, height, merged, confidence(merged), mask, plane, pitch, tuple(pairs), report)

    def _direction_report(self, direction: int, merged: merging.Merged) -> dict[str, Any]:
        step = self._step()
        bit = np.uint8(1 << (direction - 1))
        used, rejected = merged.used[::step, ::step] & bit, merged.rejected[::step, ::step] & bit
        told = {"used": round(float((used > 0).mean()), 5), "rejected": round(float((rejected > 0).mean()), 5)}
        return self._reports[direction] | told

    def _warnings(
        self, pairs: Sequence[merging.PairBias], directions: Sequence[int], mask: NDArray[np.bool_]
    ) -> list[str]:
        warnings = []
        for report in self._reports.values():
            for exposure in report["exposures"][-1:]:
                if exposure["saturated"] > 0.5:
                    warnings.append(
                        f"direction {report['direction']}: {exposure['saturated']:.0%} of the pixels are saturated; "
                        "shorten the exposure, or add a bracket (bracket_us in the recipe)"
                    )
                if exposure["dark"] > 0.95:
                    warnings.append(
                        f"direction {report['direction']}: {exposure['dark']:.0%} of the pixels show no fringes; is the "
                        "projector on, and does it light the part?"
                    )
        if any(pair.significant for pair in pairs):
            worst = max(pairs, key=lambda pair: abs(pair.median_mm))
            guilty = merging.blame(pairs)
            who = f"projector {guilty} stands apart" if guilty else "no single projector explains it"
            warnings.append(
                f"directions {worst.a} and {worst.b} measure heights that differ by {worst.median_mm * 1000:+.1f} µm (median); "
                f"{who}: something moved since the calibration, calibrate again"
            )
        swapped = merging.direction_permutation(
            [self._samples[d] for d in directions],
            [self._projectors[d] for d in directions],
            self._camera,
            step_px=self._step(),
        )
        if swapped is not None:
            named = ", ".join(f"{d}→{s}" for d, s in zip(directions, swapped, strict=True) if d != s)
            warnings.append(f"the directions look swapped ({named}): check the bridge's wiring or the plan")
        if not mask.any():
            warnings.append("no part stands above the table")
        return warnings

    def _all_invalid(self) -> DatasetError:
        told = "; ".join(
            f"direction {r['direction']}: {e['saturated']:.0%} saturated, {e['dark']:.0%} without fringes, "
            f"{e['order']:.0%} of uncertain order"
            for r in self._reports.values()
            for e in r["exposures"]
        )
        return DatasetError(
            f"{self._name}: no pixel has a depth ({told})",
            hint="check exposure, projectors and the calibration's camera and projectors",
            code="surface.all_invalid",
        )

    def _z_range(self) -> tuple[float, float] | None:
        if self._plane is None:
            return None
        distance = float(table_depth(self._camera, self._plane))
        return distance * _DEPTH_RANGE[0], distance * _DEPTH_RANGE[1]

    def _step(self) -> int:
        """Stride of an even grid of about a million pixels, odd so that every photosite of a Bayer cell is met."""
        return 1 | max(1, int(np.sqrt(self._shape[0] * self._shape[1] / 1e6)))

    def _timed(self, name: str) -> _Timed:
        return _Timed(self.seconds, name)


class _Timed:
    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds, self._name = seconds, name

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._name] += time.perf_counter() - self._start
