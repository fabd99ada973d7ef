"""A part on the table of a rig, rendered: every frame is a look-up in maps that one ray casting made.

What is physics here: perspective with distortion on both sides, point lights with fall-off in 1/d² and cast shadow,
projectors with occlusion, Lambertian body under GGX microfacets, natural vignetting (cos⁴), lens blur and photosite area,
Bayer filter, photo-response non-uniformity, shot and read noise, full well, quantisation. What is absent: see ``ABSENT``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition.simulator import _scene_kernels as kernels
from rakelight.acquisition.simulator import _sensor_kernels as sensor_kernels
from rakelight.acquisition.simulator.caster import NOTHING, Caster
from rakelight.acquisition.simulator.optics import blur_taps, pattern_table
from rakelight.acquisition.simulator.rig import REFERENCE_MM, PatternSource, Rig
from rakelight.acquisition.simulator.solid import Component, Material, Mesh, Part, Pose
from rakelight.errors import InputError

if TYPE_CHECKING:
    from rakelight.reconstruction.patterns import Pattern

Float32Map = NDArray[np.float32]

ABSENT = (
    "interreflection between surfaces, mirror images of the surroundings",
    "extended light sources: shadows are sharp",
    "shadow of the ambient light",
    "fall-off of the projectors' lenses towards their corners",
    "defocus with depth",
    "dark current",
)
"""What the scene leaves out, as ``truth.json`` says it."""

_TABLE_HALF_MM = 150.0
_TILE_ROWS = 256
KEPT_BYTES = 1_400_000_000  # of projector maps; three directions at full size


@dataclass(frozen=True)
class Lit:
    """What shines during (a part of) an exposure.

    ``zones`` maps light zones to their level (1 = nominal); ``projector`` shows ``pattern`` (both or neither);
    ``room`` switches the ambient light.
    """

    zones: Mapping[int, float] = field(default_factory=dict)
    projector: int | None = None
    pattern: Pattern | None = None
    room: bool = True

    def __post_init__(self) -> None:
        if (self.projector is None) != (self.pattern is None):
            shown = f"projector {self.projector}" if self.projector is not None else "a pattern"
            raise InputError(f"{shown} alone; a projector and its pattern go together", code="simulate.projector")


@dataclass(frozen=True, eq=False)
class Surface:
    """What the camera sees, on its own pixels (or points); NaN and 255 where a ray meets nothing.

    Attributes
    ----------
    xyz : (h, w, 3) float32
        mm, viewer axes with the origin on the table (``Rig``).
    normals : (h, w, 3) float32
        Unit, viewer frame.
    body : (h, w) uint8
        Number of the component, 0 for the table.
    diffuse : (h, w, 3) uint16
        Albedo in 1/65535.
    gloss : (h, w) uint16
        Factor on the material's F0 in 1/4096.
    """

    xyz: Float32Map
    normals: Float32Map
    body: NDArray[np.uint8]
    diffuse: NDArray[np.uint16]
    gloss: NDArray[np.uint16]


class Scene:
    """One part in one pose under a rig.

    Parameters
    ----------
    part : Part
    rig : Rig
    pose : Pose
    samples : int, optional
        Points a pixel has in each axis; by default 1 at full size, 2 or 3 on smaller sensors.

    Raises
    ------
    InputError
        ``simulate.pose``: the part reaches towards the lens or sinks into the table;
        ``simulate.part``: more than 250 components.
    """

    def __init__(self, part: Part, rig: Rig, pose: Pose | None = None, *, samples: int | None = None) -> None:
        self.part, self.rig, self.pose = part, rig, pose or Pose()
        self.samples = samples or default_samples(rig.camera.width)
        if not 1 <= self.samples <= 4:
            raise InputError(f"{samples} points a pixel; allowed: 1 to 4", code="simulate.samples")
        if len(part.components) > 250:
            raise InputError(
                f"{part.product} has {len(part.components)} components; allowed: 250", code="simulate.part"
            )
        self._bodies = [_table(rig.table_albedo), *part.components]
        meshes = [
            self._bodies[0].mesh,
            *(c.mesh.moved(self.pose.rotation, self.pose.shift_mm) for c in part.components),
        ]
        self._check_height(meshes[1:])
        self._meshes = meshes[1:]
        self._caster = Caster(meshes)
        self._f0 = np.array([b.material.specular for b in self._bodies])
        self._alpha = np.array([b.material.roughness for b in self._bodies])
        # Applied along columns and along rows: each takes half of the conversion from light to electrons.
        self._taps = blur_taps(rig.blur_px, self.samples) * np.float32(np.sqrt(rig.electrons_per_us))
        self._zone_rates: dict[int, Float32Map] = {}
        self._projections: OrderedDict[int, tuple[Float32Map, Float32Map, Float32Map]] = OrderedDict()

    # ------------------------------------------------------------------------------------------------------ geometry
    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of a frame."""
        return self.rig.camera.height, self.rig.camera.width

    @property
    def _eye(self) -> NDArray[np.float64]:
        return np.array([0.0, 0.0, self.rig.table_mm])

    def _check_height(self, meshes: Sequence[Mesh]) -> None:
        low = np.min([m.vertices.min(axis=0) for m in meshes], axis=0)
        high = np.max([m.vertices.max(axis=0) for m in meshes], axis=0)
        if not (high[2] <= 0.5 * self.rig.table_mm and low[2] >= -0.05):  # so that NaN is refused too
            raise InputError(
                f"the part reaches from {low[2]:.2f} to {high[2]:.2f} mm above the table; "
                f"allowed: 0 to {0.5 * self.rig.table_mm:.0f} mm",
                hint="lift it with z_mm, or tilt it less",
                code="simulate.pose",
            )

    def check_view(self) -> None:
        """Refuse a pose that puts most of the part outside the picture: :class:`InputError`, ``simulate.pose``."""
        if not (share := self._share_in_view(self._meshes)) >= 0.5:  # so that NaN is refused too
            half_x, half_y = (s * self.rig.pitch_mm / 2 for s in (self.rig.camera.width, self.rig.camera.height))
            raise InputError(
                f"pose x {self.pose.x_mm:g} mm, y {self.pose.y_mm:g} mm, {self.pose.angle_deg:g}° puts "
                f"{1 - share:.0%} of {self.part.product} outside the picture, which shows ±{half_x:.1f} × ±{half_y:.1f} mm "
                "of the table; at least half of it must be seen",
                hint="move it towards 0, 0",
                code="simulate.pose",
            )

    def _share_in_view(self, meshes: Sequence[Mesh]) -> float:
        """The share of the part's surface that lies in the picture, shadows and hidden sides included."""
        camera = self.rig.camera
        points = np.concatenate([m.vertices[m.triangles].mean(axis=1) for m in meshes])
        areas = np.concatenate([m.facet_areas for m in meshes])
        depth = self.rig.table_mm - points[:, 2]
        u = camera.fx * points[:, 0] / depth + camera.cx
        v = -camera.fy * points[:, 1] / depth + camera.cy
        inside = (u > 0) & (u < camera.width) & (v > 0) & (v < camera.height)
        return float(areas[inside].sum() / areas.sum())

    def cast(self, samples: int = 1) -> Surface:
        """The surface on the pixel centres, or on samples × samples points a pixel."""
        height, width = (n * samples for n in self.shape)
        out = Surface(
            np.empty((height, width, 3), np.float32),
            np.empty((height, width, 3), np.float32),
            np.empty((height, width), np.uint8),
            np.empty((height, width, 3), np.uint16),
            np.empty((height, width), np.uint16),
        )
        for first in range(0, height, _TILE_ROWS):
            rows = slice(first, min(first + _TILE_ROWS, height))
            rays = np.empty((rows.stop - rows.start, width, 6), np.float32)
            kernels.camera_rays(self.rig.camera.numbers, self.rig.table_mm, samples, first, rays)
            self._caster.surface(rays, out.body[rows], out.xyz[rows], out.normals[rows])
            self._reflectance(out.xyz[rows], out.body[rows], out.diffuse[rows], out.gloss[rows])
        return out

    def _reflectance(
        self, xyz: Float32Map, body: NDArray[np.uint8], diffuse: NDArray[np.uint16], gloss: NDArray[np.uint16]
    ) -> None:
        table = np.zeros((256, 3), np.uint16)
        for number, component in enumerate(self._bodies):
            table[number] = np.rint(np.clip(component.material.diffuse, 0, 1) * np.float64(65535))
        diffuse[:] = table[body]
        gloss[:] = 4096
        present = np.flatnonzero(np.bincount(body.ravel(), minlength=256))
        for number in present[present != NOTHING]:
            material = self._bodies[number].material
            if material.texture is None:
                continue
            here = body == number
            points = (xyz[here].astype(np.float64) - self.pose.shift_mm) @ self.pose.rotation
            factors = material.texture(points)
            diffuse[here] = np.rint(np.clip(factors[:, :3] * material.diffuse, 0, 1) * 65535)
            gloss[here] = np.rint(np.clip(factors[:, 3], 0, 15) * 4096)

    @cached_property
    def _points(self) -> Surface:
        return self.cast(self.samples)

    @cached_property
    def surface(self) -> Surface:
        """The surface on the pixel centres."""
        return self._points if self.samples == 1 else self.cast(1)

    def zones_lit(self) -> NDArray[np.uint8]:
        """Which zones reach the surface on the pixel centres, (H, W): bit k − 1 is set where zone k does."""
        surface = self.surface
        out = np.zeros(surface.body.shape, np.uint8)
        for light in self.rig.lights:
            source = np.array(light.position_mm)
            for first in range(0, len(out), _TILE_ROWS):
                rows = slice(first, min(first + _TILE_ROWS, len(out)))
                xyz, normals = surface.xyz[rows], surface.normals[rows]
                faces = np.einsum("hwi,hwi->hw", source - xyz, normals) > 0
                lit = faces & ~self._caster.blocked(xyz, normals, source)
                out[rows] |= lit.astype(np.uint8) << np.uint8(light.zone - 1)
        return out

    # --------------------------------------------------------------------------------------------------------- light
    def _irradiate(self, source: NDArray[np.float64], strength: float, blocked: NDArray[np.bool_] | None) -> Float32Map:
        """What the camera receives of a point source, (C, h, w) over the points; ``blocked`` adds to the shadows."""
        points, channels = self._points, self.rig.sensor.channels
        height, width = points.body.shape
        out = np.empty((len(channels), height, width), np.float32)
        for first in range(0, height, _TILE_ROWS):
            rows = slice(first, min(first + _TILE_ROWS, height))
            shadow = self._caster.blocked(points.xyz[rows], points.normals[rows], source)
            if blocked is not None:
                shadow |= blocked[rows]
            kernels.irradiate(
                points.xyz[rows],
                points.normals[rows],
                points.body[rows],
                points.diffuse[rows],
                points.gloss[rows],
                self._f0,
                self._alpha,
                shadow,
                source,
                strength * REFERENCE_MM**2,
                self._eye,
                channels,
                out[:, rows],
            )
        return out

    def _collected(self, light: Float32Map) -> Float32Map:
        out = np.empty(self.shape, np.float32)
        sensor_kernels.collect(light, np.array(self.rig.sensor.mosaic), self._taps, self.samples, out)
        return out

    def zone_rate(self, zone: int) -> Float32Map:
        """Electrons per µs that photosites collect under one light zone at level 1, (H, W), without ambient light."""
        if zone not in self._zone_rates:
            light = {x.zone: x for x in self.rig.lights}.get(zone)
            if light is None:
                zones = ", ".join(str(x.zone) for x in self.rig.lights)
                raise InputError(f"the simulated rig has no light zone {zone}; it has {zones}", code="simulate.zone")
            self._zone_rates[zone] = self._collected(
                self._irradiate(np.array(light.position_mm), light.strength, blocked=None)
            )
        return self._zone_rates[zone]

    @cached_property
    def room_rate(self) -> Float32Map:
        """Electrons per µs of the ambient light, (H, W)."""
        points, channels = self._points, self.rig.sensor.channels * self.rig.ambient
        out = np.empty((len(channels), *points.body.shape), np.float32)
        kernels.ambient(
            points.normals, points.body, points.diffuse, points.gloss, self._f0, points.xyz, self._eye, channels, out
        )
        return self._collected(out)

    def _projector(self, direction: int) -> PatternSource:
        source = {p.direction: p for p in self.rig.projectors}.get(direction)
        if source is None:
            known = ", ".join(str(p.direction) for p in self.rig.projectors)
            raise InputError(
                f"the simulated rig has no projector {direction}; it has {known}", code="simulate.projector"
            )
        return source

    def projection(self, direction: int) -> tuple[Float32Map, Float32Map, Float32Map]:
        """Column and row (h, w) that each point receives from a projector, and what the camera gets of it (C, h, w).

        In projector px, float32, over the points; the light is 0 (and the coordinates too) outside the pattern and where
        the part is in the way.
        """
        if direction in self._projections:
            self._projections.move_to_end(direction)
            return self._projections[direction]
        source, points = self._projector(direction), self._points
        kept = points.body.size * (8 + 4 * len(self.rig.sensor.channels))
        while self._projections and (len(self._projections) + 1) * kept > KEPT_BYTES:
            self._projections.popitem(last=False)
        column, row = (np.empty(points.body.shape, np.float32) for _ in range(2))
        blocked = np.zeros(points.body.shape, np.bool_)
        centre, size = source.centre_mm, np.array([source.lens.width, source.lens.height])
        kernels.project(points.xyz, centre, source.rotation, source.lens.numbers, size, column, row, blocked)
        self._projections[direction] = (column, row, self._irradiate(centre, source.strength, blocked))
        return self._projections[direction]

    def pattern_rate(self, direction: int, pattern: Pattern) -> Float32Map:
        """Electrons per µs of a projector that shows ``pattern``, (H, W), without ambient light."""
        column, row, light = self.projection(direction)
        source = self._projector(direction)
        along_rows = pattern.axis == "row"
        length = source.lens.height if along_rows else source.lens.width
        table = pattern_table(pattern.profile(length), source.gamma, source.blur_px)
        out = np.empty(self.shape, np.float32)
        coordinate = row if along_rows else column
        sensor_kernels.collect_pattern(
            light, coordinate, table, np.array(self.rig.sensor.mosaic), self._taps, self.samples, out
        )
        return out

    # -------------------------------------------------------------------------------------------------------- frames
    def electrons(self, timeline: Sequence[tuple[Lit, float]]) -> Float32Map:
        """Expected electrons (H, W) of an exposure during which the light changes: (what is lit, for how many µs)."""
        total = np.zeros(self.shape, np.float32)
        for lit, duration_us in timeline:
            for zone, level in lit.zones.items():
                total += self.zone_rate(zone) * np.float32(level * duration_us)
            if lit.room:
                total += self.room_rate * np.float32(duration_us)
            if lit.projector is not None and lit.pattern is not None:
                total += self.pattern_rate(lit.projector, lit.pattern) * np.float32(duration_us)
        return total

    def expose(self, timeline: Sequence[tuple[Lit, float]], seed: int) -> NDArray[Any]:
        """One raw frame (H, W), uint8 or uint16, with noise that ``seed`` decides; see :meth:`electrons`."""
        return self.read_out(self.electrons(timeline), seed)

    def frame(self, lit: Lit, exposure_us: float, seed: int) -> NDArray[Any]:
        """One raw frame under steady light."""
        return self.expose([(lit, exposure_us)], seed)

    def read_out(
        self, electrons: Float32Map, seed: int, *, pixel_format: str | None = None, gain_db: float = 0.0
    ) -> NDArray[Any]:
        """What the sensor makes of expected electrons (H, W), in its own pixel format or in one of other bits."""
        sensor = self.rig.sensor if pixel_format is None else replace(self.rig.sensor, pixel_format=pixel_format)
        out = np.empty(self.shape, np.uint8 if sensor.bits == 8 else np.uint16)
        sensor_kernels.read_out(
            electrons,
            self._photo_response,
            np.uint64(seed % 2**64),
            sensor.full_well_e,
            sensor.read_noise_e,
            sensor.dn_per_e * 10 ** (gain_db / 20),
            float(sensor.black_dn),
            float(sensor.full_scale),
            out,
        )
        return out

    @cached_property
    def _photo_response(self) -> Float32Map:
        out = np.empty(self.shape, np.float32)
        sensor_kernels.photo_response(self.rig.sensor.prnu_seed, self.rig.sensor.prnu, out)
        return out

    def expected_dn(self, timeline: Sequence[tuple[Lit, float]]) -> Float32Map:
        """The mean raw value (H, W) over endless frames, unrounded and unclipped; PRNU included."""
        sensor = self.rig.sensor
        return np.asarray(
            self.electrons(timeline) * self._photo_response * np.float32(sensor.dn_per_e) + np.float32(sensor.black_dn)
        )


def default_samples(width: int) -> int:
    """Points a pixel has in each axis, by the width of the frame."""
    return 1 if width > 2736 else 2 if width > 912 else 3


def _table(albedo: float) -> Component:
    half = _TABLE_HALF_MM
    corners = np.array([[-half, -half, 0], [half, -half, 0], [half, half, 0], [-half, half, 0]], np.float64)
    mesh = Mesh(corners, np.tile([0.0, 0.0, 1.0], (4, 1)), np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    return Component("table", mesh, Material((albedo, albedo, albedo)))
