"""What is known of a simulated scene, in the conventions of the house: maps, masks and the RigCalibration.

Geometry is handed out in the OpenCV camera frame, normals in the viewer frame (docs/conventions.md); the scene itself
computes in viewer axes with the origin on the table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rakelight
from rakelight import files
from rakelight.acquisition.simulator.rig import REFERENCE_MM, Lens, PatternSource, PointLight, Rig, Sensor
from rakelight.acquisition.simulator.scene import Lit, Scene, Surface
from rakelight.acquisition.simulator.solid import Component, Material, Mesh, Part
from rakelight.calibration.colour import Colour
from rakelight.calibration.flat_field import build_dark, build_flat_field, plane_light_of
from rakelight.calibration.frame_format import FrameFormat
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset import images
from rakelight.reconstruction.models import Light, PinholeCamera, Plane, Projector

FOLDER = "truth"
FILE_NAME = "truth.json"
SCHEMA = 1

# What makes a pixel part of a defect: the surface seen there differs from the flawless twin's by more than this.
DEPTH_MM = 0.002
NORMAL_DEG = 1.0
REFLECTANCE = 0.01  # of the larger of both, but at least of 0.02

_WHITE_ALBEDO = 0.9
_WHEN = "2020-01-01T00:00:00+00:00"  # the same rig has the same calibration, by its hash, whenever it is simulated

# A defect counts as visible in a modality where 5 % of its pixels show at least this much.
VISIBLE_CONTRAST, VISIBLE_TURN_DEG, VISIBLE_DEPTH_UM = 0.05, 2.0, 10.0
_LEAST_HEIGHT_MM = 0.01  # of the white plane, so that it hides the table
_FLIP_32 = np.array([1, -1, -1], np.float32)
_FLIP = np.diag([1.0, -1.0, -1.0])  # viewer axes ↔ OpenCV camera axes


# ---------------------------------------------------------------------------------------------------------------- maps
def xyz_camera(surface: Surface, rig: Rig) -> NDArray[np.float32]:
    """(H, W, 3) float32 in mm, OpenCV camera frame."""
    return np.asarray(surface.xyz * _FLIP_32 + np.array([0, 0, rig.table_mm], np.float32))


def part_mask(surface: Surface) -> NDArray[np.bool_]:
    """(H, W): the pixel centre shows the part."""
    return (surface.body > 0) & (surface.body < 255)


def defect_mask(scene: Scene, flawless: Scene) -> NDArray[np.bool_]:
    """(H, W): where the camera sees another surface than on the flawless twin of the same specimen in the same pose."""
    here, there = scene.surface, flawless.surface
    out = np.empty(here.body.shape, np.bool_)
    for first in range(0, len(out), 256):  # by rows, so that memory stays flat
        rows = slice(first, first + 256)
        moved = np.linalg.norm(here.xyz[rows] - there.xyz[rows], axis=-1) > DEPTH_MM
        # |n − n'| = 2 sin(angle/2); unlike the arc cosine of a product it is exact for small angles in float32.
        turned = np.linalg.norm(here.normals[rows] - there.normals[rows], axis=-1) > 2 * np.sin(
            np.radians(NORMAL_DEG) / 2
        )
        a, b = _reflectance(scene, rows), _reflectance(flawless, rows)
        changed = np.abs(a - b).max(axis=-1) > REFLECTANCE * np.maximum(np.maximum(a, b).max(axis=-1), 0.02)
        out[rows] = moved | turned | changed
    return np.asarray(out & (part_mask(here) | part_mask(there)))


def visibility(scene: Scene, flawless: Scene, mask: NDArray[np.bool_]) -> dict[str, Any]:
    """In which modality the defect ``mask`` (H, W) can be seen, and by how much: 95th percentiles over its pixels.

    ``rgb`` from the light that the camera gets under all zones (relative change), ``pseudo3d`` from the true normals,
    ``xyz`` from the true surface.
    """
    here, there = scene.surface, flawless.surface
    lit = [(Lit({light.zone: 1.0 for light in scene.rig.lights}), 1.0)]
    a, b = scene.electrons(lit)[mask], flawless.electrons(lit)[mask]
    figures = {
        "contrast": np.abs(a - b) / np.maximum(np.maximum(a, b), 1e-9),
        "turn_deg": np.degrees(
            2 * np.arcsin(np.minimum(np.linalg.norm(here.normals[mask] - there.normals[mask], axis=1) / 2, 1))
        ),
        "depth_um": np.linalg.norm(here.xyz[mask] - there.xyz[mask], axis=1) * 1000,
    }
    shown = {
        name: round(float(np.percentile(values, 95)), 4) if values.size else 0.0 for name, values in figures.items()
    }
    return shown | {
        "rgb": shown["contrast"] >= VISIBLE_CONTRAST,
        "pseudo3d": shown["turn_deg"] >= VISIBLE_TURN_DEG,
        "xyz": shown["depth_um"] >= VISIBLE_DEPTH_UM,
    }


def _reflectance(scene: Scene, rows: slice) -> NDArray[np.float32]:
    """(h, W, 6): diffuse and specular reflectance of some rows."""
    surface = scene.surface
    f0 = np.zeros((256, 3), np.float32)
    for number, component in enumerate(scene.part.components):
        f0[number + 1] = component.material.specular
    specular = f0[surface.body[rows]] * (surface.gloss[rows][..., None] / np.float32(4096))
    return np.concatenate([surface.diffuse[rows] / np.float32(65535), specular], axis=-1)


# --------------------------------------------------------------------------------------------------------- calibration
def camera_model(lens: Lens) -> PinholeCamera:
    """The camera as reconstruction knows it."""
    return PinholeCamera(lens.width, lens.height, lens.fx, lens.fy, lens.cx, lens.cy, lens.distortion)


def projector_model(source: PatternSource, rig: Rig) -> Projector:
    """A projector as reconstruction knows it: pose from the OpenCV camera frame."""
    # Viewer axes on the table: X_v = flip · X_c + (0, 0, table); X_p = R (X_v − centre).
    rotation = source.rotation @ _FLIP
    shift = source.rotation @ (np.array([0.0, 0.0, rig.table_mm]) - source.centre_mm)
    lens = source.lens
    return Projector(
        source.direction, lens.width, lens.height, lens.fx, lens.fy, lens.cx, lens.cy, lens.distortion, rotation, shift
    )


def light_model(light: PointLight, rig: Rig, height_mm: float) -> Light:
    """A light as reconstruction knows it, its direction and strength meant ``height_mm`` above the middle of the table."""
    position = _FLIP @ np.array(light.position_mm) + np.array([0.0, 0.0, rig.table_mm])
    reference = np.array([0.0, 0.0, rig.table_mm - height_mm])
    distance = float(np.linalg.norm(position - reference))
    return Light.near(light.zone, position, reference, light.strength * (REFERENCE_MM / distance) ** 2)


def calibration_id(rig: Rig, white_height_mm: float) -> str:
    """The name of the true calibration, which says what it depends on."""
    return f"simulated-{rig.camera.width}x{rig.camera.height}-{rig.sensor.pixel_format}-{white_height_mm:g}mm"


def rig_calibration(rig: Rig, *, white_height_mm: float = 0.0) -> RigCalibration:
    """The rig's true calibration; its flat field is that of a white plane ``white_height_mm`` above the table.

    The white plane and the dark frame are those of endlessly many frames (no noise); the photo-response of the sensor is
    in them. Light vectors are taken as constant over the field, as they are at that height in the middle.
    """
    lights = tuple(light_model(light, rig, white_height_mm) for light in rig.lights)
    sensor = rig.sensor
    scene = Scene(_white_plane(max(white_height_mm, _LEAST_HEIGHT_MM)), rig, samples=1)  # it is smooth
    strongest = max(light.strength * (1 + white_height_mm / REFERENCE_MM) ** 2 for light in rig.lights)
    exposure_us = float(round(0.75 * sensor.full_well_e / (rig.electrons_per_us * _WHITE_ALBEDO * strongest)))
    black = np.full(scene.shape, sensor.black_dn, np.float32)
    dark = build_dark([black], exposure_us=exposure_us, full_scale=sensor.full_scale)
    whites = {
        light.zone: [scene.expected_dn([(Lit({light.zone: 1.0}, room=False), exposure_us)])] for light in rig.lights
    }
    field = build_flat_field(
        whites,
        dark,
        {light.zone: plane_light_of(light) for light in lights},
        sensor.full_scale,
        reference_exposure_us=exposure_us,
    )
    return RigCalibration(
        calibration_id(rig, white_height_mm),
        _WHEN,
        simulated=True,
        camera=camera_model(rig.camera),
        table_plane=Plane(np.array([0.0, 0.0, -1.0]), -rig.table_mm),
        lights=lights,
        flat_field=field,
        dark=dark,
        map_format=FrameFormat(sensor.pixel_format),
        colour=_colour(sensor),
        projectors=tuple(projector_model(source, rig) for source in rig.projectors),
        provenance={
            "truth": "written by the simulator, not measured",
            "software": f"rakelight {rakelight.__version__}",
            "white_plane_height_mm": white_height_mm,
        },
    )


def _colour(sensor: Sensor) -> Colour | None:
    """The white balance that makes a grey surface grey; None of a grey sensor."""
    if not sensor.pixel_format.startswith("Bayer"):
        return None
    red, green, blue = sensor.response
    black = sensor.black_dn / sensor.full_scale
    return Colour((green / red, 1.0, green / blue), (black, black, black))


def _white_plane(height_mm: float) -> Part:
    corners = np.array([[-60.0, -45, height_mm], [60, -45, height_mm], [60, 45, height_mm], [-60, 45, height_mm]])
    mesh = Mesh(corners, np.tile([0.0, 0.0, 1.0], (4, 1)), np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    white = Material((_WHITE_ALBEDO, _WHITE_ALBEDO, _WHITE_ALBEDO))
    return Part("white_plane", (Component("plane", mesh, white),))


# --------------------------------------------------------------------------------------------------------------- files
def write_maps(folder: Path, scene: Scene, flawless: Scene | None) -> dict[str, Any]:
    """Write maps and masks of ``scene`` into ``folder`` (which exists); returns what follows from them, plain data.

    ``normals.tiff`` (H, W, 3) float32, viewer frame; ``xyz.tiff`` (H, W, 3) float32, mm, camera frame; ``mask.png`` and
    ``defect_mask.png`` uint8, 0 or 255; ``zones_lit.png`` uint8, bit k − 1 set where zone k reaches the surface.
    ``flawless`` is the twin without the defect; None for a good part, whose defect mask is empty.
    """
    surface = scene.surface
    mask = part_mask(surface)
    defect = defect_mask(scene, flawless) if flawless is not None else np.zeros_like(mask)
    whole = part_mask(flawless.surface) if flawless is not None else mask
    images.write_tiff(folder / "normals.tiff", surface.normals)
    images.write_tiff(folder / "xyz.tiff", xyz_camera(surface, scene.rig))
    images.write_png(folder / "zones_lit.png", scene.zones_lit())
    images.write_png(folder / "mask.png", mask.astype(np.uint8) * np.uint8(255))
    images.write_png(folder / "defect_mask.png", defect.astype(np.uint8) * np.uint8(255))
    return {
        "part_pixels": int(whole.sum()),
        "defect_pixels": int(defect.sum()),
        "visible": visibility(scene, flawless, defect) if flawless is not None else None,
        "defect_share": round(float(defect.sum() / max(whole.sum(), 1)), 6),
    }


def write_document(folder: Path, rig: Rig, frames_sha256: dict[str, str], facts: dict[str, Any]) -> dict[str, Any]:
    """Write ``truth.json``, which ties the maps in ``folder`` to the frames of one recording; returns its content.

    It holds the checksums of the maps, of the frames (file name → SHA-256), and of itself.
    """
    lights = [
        {"zone": x.zone, "position_mm": [round(float(v), 6) for v in x.position_mm], "strength": x.strength}
        for x in (light_model(light, rig, 0.0) for light in rig.lights)
        if x.position_mm is not None
    ]
    document = {
        "schema": SCHEMA,
        "kind": "truth",
        **facts,
        "lights_camera_frame": lights,
        "software": f"rakelight {rakelight.__version__}",
        "sha256": {path.name: files.sha256_file(path) for path in sorted(folder.iterdir()) if path.is_file()},
        "frames_sha256": frames_sha256,
    }
    document["content_sha256"] = files.sha256_bytes(files.canonical_json(document).encode())
    files.write_json(folder / FILE_NAME, document)
    return document
