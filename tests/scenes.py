"""Simulated recordings with known truth, for the tests of the pipeline, the commands and the whole chain.

Reached through the fixture ``scenes`` (tests are no package). Everything is rendered in the viewer frame (x right, y up,
z towards the camera) from closed forms, without any code of rakelight but the recording writer and the plain models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Description, Recording, Shot, dtype_of
from rakelight.dataset.recording_writer import write_recording
from rakelight.reconstruction.models import Light, PinholeCamera, Plane

FloatArray = NDArray[np.float64]

WIDTH, HEIGHT = 240, 180
BLACK = 40 / 4095  # of full scale
STRENGTHS = (1.0, 0.9, 1.1, 0.95)
_FILTER = {"R": 0.6, "G": 1.0, "B": 0.8}  # what a colour camera makes of white light
_CHANNEL = {"R": 0, "G": 1, "B": 2}
_FULL = {"Mono8": 255, "Mono10": 1023, "RGB8": 255, "Mono12": 4095, "BayerRG12": 4095, "RGB16": 65535, "Mono32f": 1}


# --------------------------------------------------------------------------------------------------------------- truth
def directions(count: int = 4, slant_deg: float = 45.0) -> FloatArray:
    """(count, 3) unit light directions, counter-clockwise from the right."""
    azimuth, slant = np.arange(count) * 2 * np.pi / count, np.radians(slant_deg)
    side = np.sin(slant)
    return np.stack([side * np.cos(azimuth), side * np.sin(azimuth), np.full(count, np.cos(slant))], axis=-1)


def normals(width: int = WIDTH, height: int = HEIGHT, slope: float = 0.3) -> FloatArray:
    """(H, W, 3) normals of a wavy plate whose steepest slope is ``slope`` in x and in y."""
    v, u = np.mgrid[:height, :width]
    p, q = slope * np.sin(u / 15), slope * np.sin(v / 18)
    n = np.stack([-p, -q, np.ones_like(p)], axis=-1)
    return np.asarray(n / np.linalg.norm(n, axis=-1, keepdims=True))


def albedo(width: int = WIDTH, height: int = HEIGHT) -> FloatArray:
    """(H, W, 3) smooth print: 0.4 to 0.8, different in R, G and B."""
    v, u = np.mgrid[:height, :width]
    grey = 0.6 + 0.1 * np.sin(u / 40) + 0.1 * np.cos(v / 30)
    return np.asarray(grey[..., None] * np.array([1.0, 0.9, 0.7]))


def fall_off(count: int = 4, width: int = WIDTH, height: int = HEIGHT, depth: float = 0.25) -> FloatArray:
    """(count, H, W) irradiance over the field: each light is stronger on its own side, by ±``depth``."""
    v, u = np.mgrid[:height, :width]
    x, y = 2 * u / (width - 1) - 1, 1 - 2 * v / (height - 1)
    side = directions(count)[:, :2] / np.linalg.norm(directions(count)[:, :2], axis=1, keepdims=True)
    return np.asarray(1 + depth * (side[:, 0, None, None] * x + side[:, 1, None, None] * y) / np.sqrt(2))


def angle_deg(a: NDArray[Any], b: NDArray[Any]) -> FloatArray:
    """Angles between unit vectors."""
    return np.asarray(np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1))))


# ----------------------------------------------------------------------------------------------------------- rendering
def part(count: int = 4, *, strengths: Any = STRENGTHS, field: Any = 1.0, **size: int) -> FloatArray:
    """(count, H, W, 3) irradiance of the matte plate under each light, 0 to 1, without black level."""
    shade = np.einsum("hwc,kc->khw", normals(**size), directions(count)).clip(0)
    s = np.resize(strengths, count)[:, None, None]
    return np.asarray(0.9 * (s * shade * field)[..., None] * albedo(**size))


def white(count: int = 4, *, strengths: Any = STRENGTHS, field: Any = 1.0, **size: int) -> FloatArray:
    """(count, H, W, 3) irradiance of a flat white plane."""
    shape = (size.get("height", HEIGHT), size.get("width", WIDTH))
    level = np.broadcast_to(np.resize(strengths, count)[:, None, None] * field, (count, *shape))
    return np.asarray(0.9 * (level * directions(count)[:, 2, None, None])[..., None] * np.ones(3))


def sphere(
    count: int = 4,
    *,
    lights: FloatArray | None = None,
    circles: Any = ((120.0, 90.0, 70.0),),
    width: int = WIDTH,
    height: int = HEIGHT,
) -> FloatArray:
    """(count, H, W, 3): mirror spheres on a bright table, orthographic, ray-traced with 3 × 3 rays a pixel.

    A mirror sphere shows a light of direction l where 2 n_z n − z = l; lamps are discs of 3.5° radius.
    """
    lights = directions(count) if lights is None else lights
    fine = (np.arange(3) - 1) / 3
    v, u = np.meshgrid(*(np.add.outer(np.arange(n), fine).ravel() for n in (height, width)), indexing="ij")
    frames = np.full((len(lights), *u.shape), 0.35)
    for cu, cv, radius in circles:
        x, y = (u - cu) / radius, -(v - cv) / radius
        inside = x * x + y * y < 1
        z = np.sqrt(np.where(inside, 1 - x * x - y * y, 0))
        mirrored = np.stack([2 * z * x, 2 * z * y, 2 * z * z - 1], axis=-1)
        room = 0.08 + 0.05 * mirrored[..., 2]
        for frame, light in zip(frames, lights, strict=True):
            lamp = mirrored @ light > np.cos(np.radians(3.5))
            frame[inside] = np.where(lamp, 3.0, room)[inside]
    frames = np.minimum(frames, 3.0).reshape(len(lights), height, 3, width, 3).mean(axis=(2, 4))
    return np.repeat(frames[..., None], 3, axis=3)


def digitise(image: FloatArray, pixel_format: str, *, black: float = BLACK, seed: int = 0) -> NDArray[Any]:
    """What a camera of ``pixel_format`` reads of a linear (H, W, 3) picture: filter, black level, noise, clipping."""
    filtered = image * np.array([_FILTER[c] for c in "RGB"])
    if pixel_format.startswith("Bayer"):
        out = np.empty(image.shape[:2])
        for index, colour in enumerate((pixel_format[5], *"GG", "B" if pixel_format[5] == "R" else "R")):
            row, col = divmod(index, 2)
            out[row::2, col::2] = filtered[row::2, col::2, _CHANNEL[colour]]
    else:
        out = filtered if pixel_format.startswith("RGB") else image[..., 1]
    full = _FULL[pixel_format]
    noise = np.random.default_rng(seed).standard_normal(out.shape) * 5e-4
    dn = np.clip((out + black + noise) * full, 0, full)
    return (np.rint(dn) if full > 1 else dn).astype(dtype_of(pixel_format))


# ---------------------------------------------------------------------------------------------------------- recordings
def record(
    folder: Path,
    images: FloatArray,
    pixel_format: str = "Mono12",
    *,
    zones: Any = None,
    dark: float | None = None,
    ambient: float | None = None,
    black: float = BLACK,
    exposures: Any = None,
    **about: Any,
) -> Recording:
    """Write linear pictures, one a zone, as a recording; ``dark`` or ``ambient`` adds such a frame of that level.

    ``exposures`` gives what the camera read back, in µs, by name of the shot (``zone1``, ``dark``); it changes no pixel.
    """
    zones = range(1, len(images) + 1) if zones is None else zones
    shots = [(Shot(name=f"zone{z}", role="zone", zone=z), image) for z, image in zip(zones, images, strict=True)]
    blank = np.zeros(images.shape[1:])
    for role, level in (("dark", dark), ("ambient", ambient)):
        if level is not None:
            shots.append((Shot.model_validate({"name": role, "role": role}), blank + (level - black)))
    about = {"part_id": folder.name, "linear": True, "simulated": True, **about}
    what = Description(pixel_format=pixel_format, plan=tuple(shot for shot, _ in shots), **about)
    with write_recording(folder, what) as writer:
        for number, (shot, image) in enumerate(shots):
            exposure = (exposures or {}).get(shot.name)
            writer.add(shot.name, digitise(image, pixel_format, black=black, seed=number), exposure_us=exposure)
    return Recording.open(folder)


def calibration(count: int = 4, *, zones: Any = None, strengths: Any = STRENGTHS, **more: Any) -> RigCalibration:
    """The truth as a calibration, without maps."""
    zones = range(1, count + 1) if zones is None else zones
    lights = tuple(
        Light(zone, d, float(s))
        for zone, d, s in zip(zones, directions(count), np.resize(strengths, count), strict=True)
    )
    about: dict[str, Any] = {"calibration_id": "truth", "created_utc": "2025-03-01T08:15:30+00:00", "simulated": True}
    return RigCalibration(**(about | {"lights": lights} | more))


# ---------------------------------------------------------------------------------------------------------- near lights
def near_rig(width: int = WIDTH, height: int = HEIGHT) -> tuple[PinholeCamera, Plane, tuple[Light, ...]]:
    """A camera 200 mm above a table of 54 mm field width, and four lights 90 mm from its centre."""
    focal = width / 54 * 200
    camera = PinholeCamera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
    centre = np.array([0.0, 0.0, 200.0])
    positions = centre + 90 * directions() * [1, -1, -1]
    lights = tuple(Light.near(z, x, centre, s) for z, (x, s) in enumerate(zip(positions, STRENGTHS, strict=True), 1))
    return camera, Plane(np.array([0.0, 0.0, -1.0]), -200.0), lights


def near_part(n: FloatArray | None, width: int = WIDTH, height: int = HEIGHT) -> FloatArray:
    """(4, H, W, 3) irradiance of a surface of normals ``n`` (None: flat and white) on the table of :func:`near_rig`."""
    camera, _plane, _lights = near_rig(width, height)
    v, u = np.mgrid[:height, :width]
    x, y = (u - camera.cx) / camera.fx * 200, -(v - camera.cy) / camera.fy * 200
    points = np.stack([x, y, np.zeros_like(x)], axis=-1)  # mm on the table, viewer frame
    colour = np.ones((height, width, 3)) if n is None else albedo(width, height)
    frames = []
    for light, strength in zip(directions(), STRENGTHS, strict=True):
        towards = 90 * light - points
        distance = np.linalg.norm(towards, axis=-1)
        surface = np.array([0.0, 0.0, 1.0]) if n is None else n
        shade = (towards * surface).sum(-1).clip(0) / distance
        frames.append((0.5 * strength * shade * (90 / distance) ** 2)[..., None] * colour)
    return np.array(frames)
