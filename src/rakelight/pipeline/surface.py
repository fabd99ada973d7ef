"""Pattern frames + calibration → the measured surface: every direction decoded and triangulated, all of them merged.

Frames come direction by direction, from a recording or while a capture runs (:meth:`SurfaceBuilder.add`); a direction is
decoded as soon as its last frame is there, and its frames are forgotten. What stays of a direction are depth and its
predicted uncertainty, 8 bytes a pixel.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Recording
from rakelight.errors import InputError
from rakelight.pipeline.surface_parts import (
    NO_TABLE,
    Source,
    confidence,
    grey,
    models_of,
    one_axis,
    pattern_set_of,
    pixel_pitch_mm,
    slots,
    table_depth,
    table_of,
)
from rakelight.pipeline.surface_report import (
    CONTESTED,
    LEAST_AGREE,
    agreement,
    all_left_out,
    exposure_report,
    grid_step,
    no_depth,
    swap_warning,
    warnings_of,
)
from rakelight.pipeline.zone_frames import grey_mean
from rakelight.reconstruction import decoding, merging, triangulation
from rakelight.reconstruction.models import AffineCamera, Plane
from rakelight.reconstruction.noise import NoiseModel
from rakelight.reconstruction.part_mask import part_mask
from rakelight.reconstruction.pattern_order import check_order

Progress = Callable[[str], None]
_DEPTH_RANGE = (0.5, 1.5)  # of the table's distance: what lies outside is no part
# Measured on seven products at 120 µm pixels: 1.0 to 4.3 points more of the part, 0.1 to 1.0 points more beyond 50 µm.
_AGREEMENT_PITCHES = 0.5
_UNKNOWN_NOISE = 0.005  # of full scale: taken where no frame shows its noise


@dataclass(frozen=True)
class Settings:
    """How patterns become a surface; see the settings of decoding and merging.

    ``merging.agreement_floor_mm`` is raised to half a pixel on the table where that is more.
    """

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

    Axis ``column`` is measured if the set shows it. An exposure of a direction whose images are missing, doubled or in the
    wrong order (told from what the frames show), or whose projector is not calibrated, is left out and named in the report's
    warnings.

    Raises
    ------
    DatasetError
        ``surface.no_patterns``, ``surface.pattern_missing``, ``surface.pattern_order``: no direction is left;
        ``surface.swapped``, ``surface.misfit``, ``surface.all_invalid``: no depth, and why; damaged frames.
    CalibrationError
        ``surface.not_calibrated``: no camera, or none of the projectors; ``calibration.size_mismatch``.
    """
    builder = SurfaceBuilder(Source.of(recording), calibration, settings, progress=progress)
    for name in builder.order:
        builder.add(name, grey_mean(recording, [f for f in recording.info.frames if f.shot == name]))
    return builder.finish()


class SurfaceBuilder:
    """Takes pattern frames as they come; see :func:`measure_surface` for the errors. Used once.

    ``order`` names the shots that it needs, in an order in which they may be added: all of one exposure of one direction
    together, all exposures of one direction together.
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
        self._set, self._images = one_axis(pattern_set_of(source))
        self._axis = self._set.axes[0]
        self._camera, self._projectors = models_of(source, calibration)
        found, incomplete = slots(source, self._set)
        self._slots = {shot: slot for shot, slot in found.items() if slot[0] in self._projectors}
        self.order = sorted(self._slots, key=lambda name: self._slots[name])
        named = {slot[0] for slot in found.values()} | {direction for direction, _ in incomplete}
        self._reports: dict[int, dict[str, Any]] = {
            d: {"direction": d, "exposures": [], "left_out": []} for d in sorted(named)
        }
        for (direction, bracket), why in incomplete.items():
            self._leave_out(direction, bracket, why)
        for direction in sorted(named - self._projectors.keys()):
            self._leave_out(direction, None, f"calibration {calibration.calibration_id} has no projector {direction}")
        self._brackets = {d: {s[1] for s in self._slots.values() if s[0] == d} for d in sorted(named)}
        self._brackets = {d: brackets for d, brackets in self._brackets.items() if brackets}
        if not self._brackets:
            raise all_left_out(self._name, self._reports.values(), "surface.pattern_missing")
        self._full_scale = source.full_scale
        self._plane = calibration.table_plane
        self._shape = (source.height, source.width)
        self._buffer: NDArray[Any] | None = None
        self._filled: dict[int, tuple[int, int]] = {}  # place in the buffer → direction and bracket of its frame
        self._left = {d: set(brackets) for d, brackets in self._brackets.items()}  # exposures still to come
        self._decoded: decoding.Decoded | None = None
        self._further: decoding.Decoded | None = None
        self._holds = False  # whether ``_decoded`` has an exposure of the direction at work
        self._noise: NoiseModel | None = None
        self._z = np.empty((len(self._brackets), *self._shape), np.float32)
        self._sigma = np.empty_like(self._z)
        self._samples: dict[int, NDArray[np.float32]] = {}  # coordinates on a coarse grid, to tell swapped directions
        self.seconds: dict[str, float] = defaultdict(float)

    def add(self, shot: str, image: NDArray[Any]) -> None:
        """One frame (H, W) or (H, W, 3) of a shot; those of shots that are not in ``order`` (white, black) are passed over."""
        if shot not in self._slots:
            return
        direction, bracket, place = self._slots[shot]
        if any(exposure != (direction, bracket) for exposure in self._filled.values()):
            raise self._out_of_order(direction, bracket)
        image = grey(image, self._full_scale)
        if self._buffer is None:
            self._buffer = np.empty((len(self._set.patterns), *self._shape), image.dtype)
        self._buffer[place] = image
        self._filled[place] = (direction, bracket)
        if len(self._filled) == len(self._set.patterns):
            self._filled.clear()
            self._solve(direction, bracket, self._buffer)

    def add_direction(self, direction: int, frames: NDArray[Any], bracket: int = 1) -> None:
        """All frames of one exposure of one direction, (K, H, W) in the order of the recording's pattern set, not copied."""
        self._solve(direction, bracket, frames[self._images])

    def _solve(self, direction: int, bracket: int, frames: NDArray[Any]) -> None:
        self._progress(f"direction {direction}")
        begun = [d for d, brackets in self._brackets.items() if brackets > self._left[d] and self._left[d]]
        if bracket not in self._left.get(direction, ()) or begun not in ([], [direction]):
            raise self._out_of_order(direction, bracket)
        if (why := self._wrong_order(frames)) is not None:
            self._leave_out(direction, bracket, why)
        else:
            self._decode(direction, bracket, frames)
        self._left[direction].discard(bracket)
        if not self._left[direction]:
            self._triangulate(direction)

    def _wrong_order(self, frames: NDArray[Any]) -> str | None:
        with self._timed("check patterns"):
            try:
                check_order(frames, self._set, self._axis, full_scale=self._full_scale)
            except InputError as error:
                if not error.code.startswith("fringes."):
                    raise
                return error.message
        return None

    def _decode(self, direction: int, bracket: int, frames: NDArray[Any]) -> None:
        with self._timed("decode"):
            first = not self._holds
            out = (self._decoded if first else self._further) or decoding.allocate(*self._shape)
            noise, known = self._noise_of(frames)
            decoding.decode(
                frames,
                self._set,
                self._axis,
                full_scale=self._full_scale,
                noise=noise,
                settings=self._settings.decoding,
                out=out,
            )
            self._reports[direction]["exposures"].append(exposure_report(out, noise, known, bracket))
            if first:
                self._decoded, self._holds = out, True
            else:
                assert self._decoded is not None
                self._further = out
                decoding.fold_bracket(self._decoded, out)

    def _noise_of(self, frames: NDArray[Any]) -> tuple[NoiseModel, bool]:
        """Noise of these frames and whether they tell it: an exposure that is all dark or saturated does not."""
        try:
            self._noise = decoding.estimate_noise(frames, self._set, self._axis, full_scale=self._full_scale)
        except InputError as error:
            if error.code != "fringes.noise":
                raise
            return self._noise or NoiseModel(_UNKNOWN_NOISE * self._full_scale, 0.0, 0.0), False
        return self._noise, True

    def _triangulate(self, direction: int) -> None:
        place = list(self._brackets).index(direction)
        if not self._holds:  # every exposure was left out
            self._z[place] = self._sigma[place] = np.nan
            return
        assert self._decoded is not None
        with self._timed("triangulate"):
            triangulation.triangulate(
                self._decoded.coordinate,
                self._decoded.sigma_px,
                self._camera,
                self._projectors[direction],
                axis=self._axis,
                out=(self._z[place], self._sigma[place]),
                z_range_mm=self._z_range(),
            )
        self._holds = False
        step = self._step()
        self._samples[direction] = self._decoded.coordinate[::step, ::step].copy()
        sigma = self._sigma[place][::step, ::step]
        known = sigma[np.isfinite(sigma)]
        self._reports[direction] |= {
            "valid": round(known.size / max(sigma.size, 1), 5),
            "median_sigma_z_um": round(float(np.median(known)) * 1000, 3) if known.size else None,
        }

    def finish(self) -> Surface:
        """Merge what was added.

        Raises :class:`DatasetError` as :func:`measure_surface`, and :class:`InputError` ``surface.incomplete`` when not all
        frames in ``order`` were added.
        """
        if any(self._left.values()):
            absent = ", ".join(str(d) for d, brackets in self._left.items() if brackets)
            raise InputError(f"{self._name}: frames of direction {absent} are still to come", code="surface.incomplete")
        if not self._samples:
            raise all_left_out(self._name, self._reports.values(), "surface.pattern_order")
        self._progress("merging")
        self._buffer = self._decoded = self._further = None  # a third of the memory, which merging can use
        directions = tuple(self._brackets)
        pitch = pixel_pitch_mm(self._camera, self._plane, self._z)
        with self._timed("merge"):
            merged = merging.merge(self._z, self._sigma, directions, pitch_mm=pitch, settings=self._merging(pitch))
        pairs = merging.pair_biases(self._z, self._sigma, directions)
        contested, agreed = agreement(self._z, merged)
        swapped = self._swapped()
        if not merged.support.any() or (contested >= CONTESTED and agreed < LEAST_AGREE):
            told = swap_warning(list(self._samples), swapped)
            raise no_depth(self._name, self._reports.values(), told, contested)
        del self._z, self._sigma
        xyz = triangulation.xyz_from_depth(merged.z_mm, self._camera)
        with self._timed("part mask"):
            plane, origin = table_of(xyz, self._plane)
            height = triangulation.heights_above(xyz, plane)
            mask = part_mask(height, pitch)
        warnings = warnings_of(self._reports.values(), pairs, swap_warning(list(self._samples), swapped), agreed)
        if origin == NO_TABLE:
            warnings.append("the calibration has no table plane and the points show none; heights are above a stand-in")
        if not mask.any():
            warnings.append("no part stands above the table")
        report = {
            "pattern_set": self._set.description(),
            "directions": [self._direction_report(d, merged) for d in self._reports],
            "pairs": [pair.to_plain() for pair in pairs],
            "coverage": round(float(merged.valid.mean()), 5),
            "agreement": round(agreed, 5),
            "part_pixels": int(mask.sum()),
            "part_coverage": round(float(merged.valid[mask].mean()), 5) if mask.any() else None,
            "pitch_mm": round(pitch, 6),
            "table_plane": origin,
            "warnings": warnings,
            "seconds": {name: round(value, 4) for name, value in self.seconds.items()},
        }
        return Surface(xyz, height, merged, confidence(merged), mask, plane, pitch, tuple(pairs), report)

    def _merging(self, pitch_mm: float) -> merging.Settings:
        """With coarse pixels a slanted surface spans more depth inside one: directions may differ by half a pixel."""
        wanted = self._settings.merging
        return replace(wanted, agreement_floor_mm=max(wanted.agreement_floor_mm, _AGREEMENT_PITCHES * pitch_mm))

    def _swapped(self) -> tuple[int, ...] | None:
        return merging.direction_permutation(
            list(self._samples.values()),
            [self._projectors[d] for d in self._samples],
            self._camera,
            step_px=self._step(),
            axis=self._axis,
            z_range_mm=self._z_range(),
        )

    def _direction_report(self, direction: int, merged: merging.Merged) -> dict[str, Any]:
        step = self._step()
        bit = np.uint8(1 << (direction - 1))
        used, rejected = merged.used[::step, ::step] & bit, merged.rejected[::step, ::step] & bit
        told = {"used": round(float((used > 0).mean()), 5), "rejected": round(float((rejected > 0).mean()), 5)}
        return {"valid": 0.0, "median_sigma_z_um": None} | self._reports[direction] | told

    def _leave_out(self, direction: int, bracket: int | None, why: str) -> None:
        self._reports[direction]["left_out"].append({"bracket": bracket, "why": why})

    def _out_of_order(self, direction: int, bracket: int) -> InputError:
        return InputError(
            f"{self._name}: direction {direction}, exposure {bracket}, came before another was complete, twice, or is none "
            "of those planned",
            hint="add the frames in the builder's order",
            code="surface.order",
        )

    def _z_range(self) -> tuple[float, float] | None:
        if self._plane is None or isinstance(self._camera, AffineCamera):  # whose depths begin anywhere
            return None
        distance = float(table_depth(self._camera, self._plane))
        return distance * _DEPTH_RANGE[0], distance * _DEPTH_RANGE[1]

    def _step(self) -> int:
        return grid_step(self._shape[0] * self._shape[1])

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start
