"""What lamps at a finite distance do to the normals, and how far the flat field and per-pixel light vectors cure it.

Analytic scene: four isotropic point sources of different strength, 300 mm from the field's centre at slant 45°; a
telecentric camera with a 150 mm field and vignetting; Gaussian bumps and dents of known normals, height and albedo;
16-bit frames with dark current and 0.5 % noise. The white plane stands at part height, its frames are as noisy and averaged.

Mean angular error in degrees of (a) distant light, strengths known; (b) flat field, distant light; (c) flat field and a
light vector of its own for every pixel. Bars: (b) and (c) ≤ 0.35°. Prints one JSON object.

    python benchmarks/near_light.py [--size WIDTHxHEIGHT] [--slant DEG] [--distance MM] [--offset MM]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.flat_field import FlatField, build_dark, build_flat_field, plane_light_of
from rakelight.reconstruction import photometric
from rakelight.reconstruction.lights import Light
from rakelight.reconstruction.photometric import Corrections, PhotometricResult

FIELD_MM = 150.0
TABLE_MM = 600.0  # from the camera
FULL_SCALE = 65535.0
DARK_DN = 900.0
PEAK = 0.75  # of full scale, of the brightest pixel of a white plane
BAR_DEG = 0.35
Float = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """Part and rig: ``x``, ``y`` mm camera frame, ``height`` mm above the table, ``normals`` (H, W, 3) viewer frame."""

    x: Float
    y: Float
    height: Float
    normals: Float
    albedo: Float
    vignetting: Float
    lights: tuple[Light, ...]


def make_scene(width: int, height: int, slant_deg: float, distance_mm: float) -> Scene:
    """Sixty smooth bumps and dents of 4 to 12 mm on a plane; slopes up to about 20°."""
    rng = np.random.default_rng(11)
    pitch = FIELD_MM / width
    x, y = np.meshgrid((np.arange(width) - (width - 1) / 2) * pitch, (np.arange(height) - (height - 1) / 2) * pitch)
    z, zx, zy = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for _ in range(60):
        sigma = rng.uniform(2, 6)
        dx, dy = x - rng.uniform(x.min(), x.max()), y - rng.uniform(y.min(), y.max())
        bump = rng.uniform(-0.3, 0.3) * sigma * np.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma))
        z += bump
        zx -= bump * dx / sigma**2
        zy -= bump * dy / sigma**2
    normals = np.stack([-zx, zy, np.ones_like(x)], axis=-1)  # y of the viewer points up
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    slant, centre = np.radians(slant_deg), np.array([0.0, 0.0, TABLE_MM])
    lights = []
    for zone, strength in enumerate((1.0, 0.8, 1.1, 0.9), start=1):
        azimuth = np.radians(90.0 * (zone - 1))
        towards = np.array([np.sin(slant) * np.cos(azimuth), -np.sin(slant) * np.sin(azimuth), -np.cos(slant)])
        lights.append(Light.near(zone, centre + distance_mm * towards, centre, strength))
    albedo = 0.6 + 0.2 * np.sin(x / 5) * np.cos(y / 7)
    vignetting = 1 - 0.3 * (x * x + y * y) / (FIELD_MM / 2) ** 2
    return Scene(x, y, z, normals, albedo, vignetting, tuple(lights))


def points(scene: Scene, height: Float | float) -> Float:
    """(H, W, 3) mm, camera frame, of a surface ``height`` above the table."""
    return np.stack([scene.x, scene.y, TABLE_MM - (height + np.zeros_like(scene.x))], axis=-1)


def radiance(scene: Scene, light: Light, xyz: Float, normals: Float, albedo: Float | float) -> Float:
    """What the camera sees of a matte surface, shadow cast by nothing."""
    return scene.vignetting * albedo * np.maximum((light.vectors(xyz) * normals).sum(-1), 0)


def shots(signal: Float, gain: float, noise: float, count: int, seed: int) -> Iterator[NDArray[np.uint16]]:
    """``count`` noisy 16-bit frames of a ``signal`` scaled by ``gain`` DN, ``noise`` relative to the signal."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        dn = DARK_DN + gain * signal * (1 + noise * rng.standard_normal(signal.shape))
        yield np.clip(np.rint(dn), 0, FULL_SCALE).astype(np.uint16)


def error_deg(result: PhotometricResult, truth: Float) -> float:
    """Mean angle to the true normals; 90° where there is none."""
    n = result.normals.astype(np.float64)
    angles = np.degrees(np.arctan2(np.linalg.norm(np.cross(n, truth), axis=-1), (n * truth).sum(-1)))
    return float(np.where(np.isnan(angles), 90.0, angles).mean())


def figures(
    width: int, height: int, slant_deg: float, distance_mm: float, offset_mm: float, noise: float
) -> dict[str, Any]:
    """Errors of the three ways on one scene whose part stands ``offset_mm`` above the white plane."""
    scene = make_scene(width, height, slant_deg, distance_mm)
    up = np.zeros_like(scene.normals)
    up[..., 2] = 1
    plane_xyz, part_xyz = points(scene, 0.0), points(scene, scene.height + offset_mm)
    white = [radiance(scene, light, plane_xyz, up, 1.0) for light in scene.lights]
    gain = PEAK * FULL_SCALE / max(float(w.max()) for w in white)
    part = [radiance(scene, light, part_xyz, scene.normals, scene.albedo) for light in scene.lights]
    frames = [next(shots(signal, gain, noise, 1, 100 + k)) for k, signal in enumerate(part)]
    dark = build_dark([np.full((height, width), DARK_DN, np.uint16)])

    def flat_field(near: bool) -> FlatField:
        light_of_plane = {
            light.zone: light.vectors(plane_xyz)[..., 2] if near else plane_light_of(light) for light in scene.lights
        }
        whites = {light.zone: shots(white[k], gain, noise, 16, 200 + k) for k, light in enumerate(scene.lights)}
        return build_flat_field(whites, dark, light_of_plane, FULL_SCALE)

    directions = np.array([light.direction for light in scene.lights])
    strengths = np.array([light.strength for light in scene.lights])
    plain = Corrections(dark.map, dark.scale, None, 1 / (strengths * gain))
    distant, near = flat_field(False), flat_field(True)
    flat = Corrections(dark.map, dark.scale, distant.gains, distant.scales / strengths)
    flat_near = Corrections(dark.map, dark.scale, near.gains, near.scales / strengths)
    positions = np.array([light.position_mm for light in scene.lights])
    reference = np.array([light.reference_mm for light in scene.lights])
    truth = scene.normals
    errors = {
        "distant_deg": error_deg(photometric.solve(frames, directions, corrections=plain), truth),
        "flat_field_deg": error_deg(photometric.solve(frames, directions, corrections=flat), truth),
        "flat_field_and_light_vectors_deg": error_deg(
            photometric.solve_near(
                frames, positions, plane_xyz.astype(np.float32), reference_mm=reference, corrections=flat_near
            ),
            truth,
        ),
    }
    return {name: round(value, 4) for name, value in errors.items()} | {
        "largest_slope_deg": round(float(np.degrees(np.arccos(truth[..., 2].min()))), 1),
        "bar_deg": BAR_DEG,
        "met": max(errors["flat_field_deg"], errors["flat_field_and_light_vectors_deg"]) <= BAR_DEG,
    }


def main() -> int:
    """Run and print; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="912x608", help="WIDTHxHEIGHT (default: %(default)s)")
    parser.add_argument("--slant", type=float, default=45, help="degrees (default: %(default)s)")
    parser.add_argument("--distance", type=float, default=300, help="of the lamps, mm (default: %(default)s)")
    parser.add_argument("--offset", type=float, default=0, help="part above white plane, mm (default: %(default)s)")
    parser.add_argument("--noise", type=float, default=0.005, help="share of the signal (default: %(default)s)")
    args = parser.parse_args()
    width, height = (int(x) for x in args.size.split("x"))
    result = figures(width, height, args.slant, args.distance, args.offset, args.noise)
    print(json.dumps(vars(args) | result, indent=2))
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
