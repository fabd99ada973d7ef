"""Dark map and flat field: what a frame must be corrected by before normals can be solved from it.

A camera sees W_k = s_k(x) · (l_k · n_table) + D of a matte white plane, where s_k holds everything that varies over the
field: the lamp's falloff, vignetting, pixel gain, Bayer filter. Dividing by it removes the largest error of a bench
set-up (20° of normal error to 0.3° in a simulated four-zone rig), hence one gain map a zone::

    gain_k = (l_k · n_table) / (W_k − D)        corrected = (frame − D) · gain_k

so that the white plane reads l_k · n_table, and l_k itself (:meth:`rakelight.reconstruction.models.Light.vectors`) is
the light vector to solve with. All gains of a rig share one unit: the white of the plane is albedo 1.

Both maps are 16-bit fixed point: half the memory traffic of float32 in the solver's inner loop. A gain is rounded to
1/65535 of the largest gain of its zone: the relative error is at most 7.7e-6 · max/gain, that is 1e-4 or less for every
gain within a factor 6 (even 13) of the largest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.calibration._white_frames import (
    FRAME_DTYPES,
    MAX_RATIO,
    MeanFrame,
    check_white,
    invalid,
    mean_frame,
    median_of,
    row_blocks,
    size_mismatch,
)
from rakelight.errors import CalibrationError
from rakelight.reconstruction.models import VIEWER, Camera, Light, Plane

MAX_DARK = 0.2  # of full scale, median
MAX_EXPOSURE_DIFFERENCE = 0.1
_STEPS = 65535


@dataclass(frozen=True, eq=False)
class Dark:
    """Mean dark frame in fixed point: DN = map · scale.

    Parameters
    ----------
    map : (H, W) uint16
    scale : float
        DN a step, > 0.
    exposure_us : float, optional
        Exposure at which it was taken.
    """

    map: NDArray[np.uint16]
    scale: float
    exposure_us: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "map", _fixed_point("dark map", self.map, 2))
        object.__setattr__(self, "scale", _positive("dark scale (DN a step)", self.scale))
        object.__setattr__(self, "exposure_us", _exposure("dark exposure (µs)", self.exposure_us))

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in px."""
        return self.map.shape[0], self.map.shape[1]

    def values(self) -> NDArray[np.float32]:
        """The dark frame in DN, (H, W) float32."""
        return self.map * np.float32(self.scale)


@dataclass(frozen=True, eq=False)
class FlatField:
    """Gain maps of the light zones in fixed point: gain_k = gains[k] · scales[k]; a gain of 0 marks an unusable pixel.

    Parameters
    ----------
    zones : tuple of int
        Light zone of each map, ascending.
    gains : (K, H, W) uint16
    scales : (K,) float32
        Gain a step, > 0. Gains are (l · n_table) per DN above dark.
    light_model : "distant" or "near"
        Whether l · n_table was one number a zone, or varied over the field with the distance to the source. Normals
        must be solved with the same model: light vectors that are constant, or per pixel.
    reference_exposure_us : float, optional
        Exposure of the white frames; a frame taken at another exposure reads in proportion.
    """

    zones: tuple[int, ...]
    gains: NDArray[np.uint16]
    scales: NDArray[np.float32]
    light_model: Literal["distant", "near"] = "distant"
    reference_exposure_us: float | None = None

    def __post_init__(self) -> None:
        zones = tuple(self.zones)
        if not zones or list(zones) != sorted(set(zones)) or not all(_is_zone(z) for z in zones):
            raise invalid("flat-field zones", zones, "different integers from 1, ascending")
        object.__setattr__(self, "zones", tuple(int(z) for z in zones))
        gains = _fixed_point("flat-field gains", self.gains, 3)
        scales = np.array(self.scales)
        if len(gains) != len(zones) or scales.shape != (len(zones),) or scales.dtype != np.float32:
            found = f"{len(gains)} maps, scales {scales.dtype} of shape {scales.shape}"
            raise invalid("flat field", found, f"{len(zones)} maps and float32 scales, one a zone")
        for scale in scales.tolist():
            _positive("flat-field scale (gain a step)", scale)
        scales.flags.writeable = False
        object.__setattr__(self, "gains", gains)
        object.__setattr__(self, "scales", scales)
        if self.light_model not in ("distant", "near"):
            raise invalid("flat-field light model", repr(self.light_model), "'distant' or 'near'")
        exposure = _exposure("flat-field exposure (µs)", self.reference_exposure_us)
        object.__setattr__(self, "reference_exposure_us", exposure)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in px."""
        return self.gains.shape[1], self.gains.shape[2]

    def index(self, zone: int) -> int:
        """Row of ``zone`` in ``gains``; raises :class:`CalibrationError` (``calibration.zone_missing``)."""
        if zone not in self.zones:
            raise CalibrationError(
                f"the flat field has no zone {zone}; it has {', '.join(map(str, self.zones))}",
                hint="calibrate the flat field with every zone that is captured",
                code="calibration.zone_missing",
            )
        return self.zones.index(zone)

    def gain(self, zone: int) -> NDArray[np.float32]:
        """The gain map of ``zone``, (H, W) float32; 0 where the pixel is not usable."""
        k = self.index(zone)
        return np.asarray(self.gains[k] * self.scales[k])


def build_dark(
    frames: Iterable[NDArray[Any]], *, exposure_us: float | None = None, full_scale: float | None = None
) -> Dark:
    """Mean of dark frames (lens covered or lights off), streamed: memory does not grow with their number.

    Parameters
    ----------
    frames : iterable of (H, W) uint8, uint16 or float32
        At least one, in DN.
    exposure_us : float, optional
    full_scale : float, optional
        Largest DN of the camera; with it, a median above 20 % is refused as not dark.

    Raises
    ------
    CalibrationError
        ``calibration.dark_invalid``: no frame, sizes that differ, NaN or negative DN, not dark.
    """
    mean = mean_frame("dark frame", frames, None, "calibration.dark_invalid").mean
    low, high, median = float(mean.min()), float(mean.max()), median_of(mean)
    if not (low >= 0 and math.isfinite(high)):  # NaN fails the first
        raise CalibrationError(
            f"dark frames hold NaN or negative values (smallest mean {low:g} DN); allowed: 0 or more",
            hint="give the raw frames of the sensor, without any correction",
            code="calibration.dark_invalid",
        )
    if full_scale is not None and median > MAX_DARK * full_scale:
        raise CalibrationError(
            f"dark frames have a median of {median:.1f} DN, {median / full_scale:.0%} of full scale {full_scale:g}; "
            f"allowed: at most {MAX_DARK:.0%}",
            hint="cover the lens or switch all lights off, and lower the camera's black level",
            code="calibration.dark_invalid",
        )
    scale = max(high, 1.0) / _STEPS
    fixed = np.empty(mean.shape, np.uint16)
    _quantise(mean, scale, fixed)
    return Dark(fixed, scale, exposure_us)


def build_flat_field(
    whites: Mapping[int, Iterable[NDArray[Any]]],
    dark: Dark | Callable[[int], NDArray[Any] | float] | None,
    plane_light: Mapping[int, float | NDArray[Any]],
    full_scale: float,
    *,
    reference_exposure_us: float | None = None,
) -> FlatField:
    """Gain maps from frames of a matte white plane at part height, one set of frames for each light zone alone.

    Parameters
    ----------
    whites : mapping of zone to iterable of (H, W) uint8, uint16 or float32
        White frames in DN, streamed; their mean is used.
    dark : Dark, function of the zone, or None
        Dark map; or a function that gives what lies below the white of a zone (ambient light, for example), (H, W) or
        one number, in DN; None takes 0 DN.
    plane_light : mapping of zone to float or (H, W) array
        l · n_table (unitless) of each zone: one number for a distant light, a map for a near one (all zones alike);
        see :func:`plane_light_of`.
    full_scale : float
        Largest DN of the camera, for example 4095.
    reference_exposure_us : float, optional
        Exposure of the white frames; must be within 10 % of the dark's, where both are known.

    Returns
    -------
    FlatField
        With gain 0 where any white frame reaches 98 % of full scale, or their mean is less than 1/20 of the median
        above dark (dead pixels, shadows); solvers treat these pixels as not usable.

    Raises
    ------
    CalibrationError
        ``calibration.white_saturated`` (over 0.5 % of the pixels of a frame at 98 % of full scale),
        ``calibration.white_dark`` (median below 5 % of full scale above dark), ``calibration.white_uneven`` (no white
        plane in view: range above 20, or steps between neighbouring fields), ``calibration.size_mismatch``,
        ``calibration.exposure_mismatch``, ``calibration.flat_field_invalid`` (zones, dtypes, l · n_table, full scale).
    """
    full_scale = _positive("full scale (DN)", full_scale)
    zones = tuple(sorted(whites))
    if not zones or set(plane_light) != set(zones):
        raise invalid("zones of l·n_table", sorted(plane_light), f"those of the white frames, {list(zones)}, not empty")
    near = {np.ndim(plane_light[zone]) > 0 for zone in zones}
    if len(near) > 1:
        raise invalid("l·n_table", "a number for some zones and a map for others", "one kind for all zones")
    if isinstance(dark, Dark):
        _check_exposures(dark.exposure_us, reference_exposure_us)
    gains = np.empty((0, 0, 0), np.uint16)  # of the first frame's size, once that is known
    scales = np.empty(len(zones), np.float32)
    work: MeanFrame | None = None
    for k, zone in enumerate(zones):
        work = mean_frame(
            f"white frame of zone {zone}", whites[zone], full_scale, "calibration.flat_field_invalid", work
        )
        mean = work.mean
        if k == 0:
            gains = np.empty((len(zones), *mean.shape), np.uint16)
        if dark is not None:
            _subtract(mean, dark if isinstance(dark, Dark) else dark(zone))
        check_white(zone, mean, full_scale)
        scales[k] = _to_gain(zone, mean, work.saturated, plane_light[zone]) / _STEPS
        _quantise(mean, scales[k], gains[k])
    return FlatField(zones, gains, scales, "near" if near.pop() else "distant", reference_exposure_us)


def plane_light_of(
    light: Light, plane: Plane | None = None, camera: Camera | None = None
) -> float | NDArray[np.float32]:
    """l · n_table of one light, as :func:`build_flat_field` takes it.

    Without ``camera``: one number, the light taken as distant (``plane`` None: a plane square to the viewing axis).
    With ``camera`` and ``plane``: a (H, W) float32 map, the light vector of every pixel's point on the plane.
    Raises :class:`CalibrationError` (``calibration.flat_field_invalid``) where the light does not reach the plane.
    """
    normal = np.array([0.0, 0.0, 1.0]) if plane is None else plane.normal * VIEWER
    if camera is None:
        value = float(light.vectors() @ normal)
        if value <= 0:
            raise invalid(f"l·n_table of zone {light.zone}", f"{value:.3g}", "above 0, light in front of the table")
        return value
    if plane is None:
        raise invalid("table plane", "absent", "given, where the light varies over the field")
    result = np.empty((camera.height, camera.width), np.float32)
    columns = np.arange(camera.width, dtype=np.float64)
    for rows in row_blocks(camera.height):
        uv = np.stack(np.meshgrid(columns, np.arange(rows.start, rows.stop, dtype=np.float64)), axis=-1)
        result[rows] = light.vectors(plane.intersect(*camera.rays(uv))) @ normal
    least = float(result.min())
    if not least > 0:
        raise invalid(f"smallest l·n_table of zone {light.zone}", f"{least:.3g}", "above 0 at every pixel")
    return result


def apply_flat_field(frame: NDArray[Any], dark: Dark | None, gain: NDArray[np.float32]) -> NDArray[np.float32]:
    """Correct one frame: (frame − dark) · gain. The plain reference for the solvers' fused kernels.

    Parameters
    ----------
    frame : (H, W) uint8, uint16 or float32
        Raw DN.
    dark : Dark or None
    gain : (H, W) float32
        From :meth:`FlatField.gain`; 0 marks pixels that are not usable, which read 0.

    Raises
    ------
    InputError
        If shapes or dtypes do not fit.
    """
    raw = check_array("frame", frame, ndim=2, dtypes=FRAME_DTYPES).astype(np.float32)
    gain = check_array("gain map", gain, shape=raw.shape, dtypes=("float32",))
    if dark is not None:
        check_array("dark map", dark.map, shape=raw.shape)
        raw -= dark.values()
    raw *= gain
    return np.asarray(raw)


def _subtract(mean: NDArray[np.float32], level: Dark | NDArray[Any] | float) -> None:
    below, scale = (level.map, level.scale) if isinstance(level, Dark) else (np.asarray(level), 1.0)
    if below.ndim and below.shape != mean.shape:
        raise size_mismatch("dark map", below.shape, mean.shape)
    for rows in row_blocks(len(mean)):
        mean[rows] -= (below[rows] if below.ndim else below) * np.float32(scale)


def _to_gain(
    zone: int, white: NDArray[np.float32], saturated: NDArray[np.bool_], plane_light: float | NDArray[Any]
) -> float:
    """Turn ``white`` (DN above dark) into gains in place; returns the largest."""
    light = np.asarray(plane_light, dtype=np.float32)
    if light.ndim and light.shape != white.shape:
        raise size_mismatch(f"l·n_table of zone {zone}", light.shape, white.shape)
    if not (np.isfinite(light).all() and light.min() > 0):
        raise invalid(f"smallest l·n_table of zone {zone}", f"{float(light.min()):g}", "finite, above 0")
    least = np.float32(median_of(white) / MAX_RATIO)
    largest = 0.0
    for rows in row_blocks(len(white)):
        block = white[rows]
        usable = (block >= least) & ~saturated[rows]
        gain = np.where(usable, (light[rows] if light.ndim else light) / np.where(usable, block, 1), 0)
        white[rows] = gain
        largest = max(largest, float(gain.max()))
    return largest


def _quantise(values: NDArray[np.float32], scale: float | np.float32, out: NDArray[np.uint16]) -> None:
    for rows in row_blocks(len(values)):
        out[rows] = np.clip(np.rint(values[rows] / np.float32(scale)), 0, _STEPS)


def _check_exposures(dark_us: float | None, white_us: float | None) -> None:
    if dark_us is not None and white_us is not None and abs(dark_us / white_us - 1) > MAX_EXPOSURE_DIFFERENCE:
        raise CalibrationError(
            f"the dark was taken at {dark_us:g} µs, the white frames at {white_us:g} µs; allowed: within "
            f"{MAX_EXPOSURE_DIFFERENCE:.0%}",
            hint="record dark frames at the exposure of the white frames",
            code="calibration.exposure_mismatch",
        )


def _is_zone(zone: object) -> bool:
    return isinstance(zone, (int, np.integer)) and not isinstance(zone, bool) and int(zone) >= 1


def _positive(name: str, value: float) -> float:
    if not (isinstance(value, (int, float, np.number)) and math.isfinite(value) and value > 0):
        raise invalid(name, repr(value), "a finite number above 0")
    return float(value)


def _exposure(name: str, value: float | None) -> float | None:
    return None if value is None else _positive(name, value)


def _fixed_point(name: str, values: NDArray[Any], ndim: int) -> NDArray[np.uint16]:
    array = np.ascontiguousarray(values)
    if array.dtype != np.uint16 or array.ndim != ndim or not array.size:
        raise invalid(name, f"{array.dtype} of shape {array.shape}", f"uint16 with {ndim} axes, not empty")
    view = array.view()  # read-only here, without copying hundreds of megabytes
    view.flags.writeable = False
    return view
