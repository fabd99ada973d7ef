"""What the simulator refuses: sizes that do not fit, poses out of view, parts in the table, unknown names."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from rakelight.acquisition.simulator import memory
from rakelight.acquisition.simulator.rig import Lens, Rig, Sensor, reference_rig
from rakelight.acquisition.simulator.scene import Lit, Scene, default_samples
from rakelight.acquisition.simulator.solid import Component, Material, Mesh, Part, Pose
from rakelight.errors import InputError
from rakelight.reconstruction.patterns import Uniform


def tile(z: float = 2.0, half: float = 5.0) -> Part:
    corners = np.array([[-half, -half, z], [half, -half, z], [half, half, z], [-half, half, z]])
    mesh = Mesh(corners, np.tile([0.0, 0.0, 1.0], (4, 1)), np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    return Part("tile", (Component("tile", mesh, Material((0.5, 0.5, 0.5))),))


def small() -> Rig:
    rig = reference_rig(456)
    return replace(rig, camera=Lens(46, 30, rig.camera.fx / 10, rig.camera.fy / 10, 22.5, 14.5))


class TestMemory:
    def test_full_size_fits_into_four_gigabytes(self) -> None:
        """The arithmetic, done anew: surface, three kept projectors at most 1.4 GB, pixels."""
        needed = memory.needed_bytes(5472, 3648, 1, 4)
        points = 5472 * 3648
        assert needed >= points * (2 * 33 + 20)  # surface and its twin on pixels, one projector
        assert needed < 4e9

    def test_grows_with_everything(self) -> None:
        base = memory.needed_bytes(1368, 912, 2, 4)
        assert memory.needed_bytes(2736, 912, 2, 4) > base
        assert memory.needed_bytes(1368, 912, 3, 4) > base
        assert memory.needed_bytes(1368, 912, 2, 1) < base

    @pytest.mark.slow
    def test_counts_what_a_scene_keeps(self) -> None:
        """Arrays of a scene that has rendered everything take no more than was said."""
        rig = reference_rig(456)
        scene = Scene(tile(), rig)
        for zone in (1, 2, 3, 4):
            scene.zone_rate(zone)
        kept = [m for d in (1, 2, 3, 4) for m in scene.projection(d)]
        kept += [scene.room_rate, *(scene.zone_rate(z) for z in (1, 2, 3, 4))]
        for surface in (scene.surface, scene.cast(scene.samples)):
            kept += [surface.xyz, surface.normals, surface.body, surface.diffuse, surface.gloss]
        held = sum(a.nbytes for a in kept)
        programs = memory.needed_bytes(2, 2, 1, 4)
        assert held <= memory.needed_bytes(456, 304, scene.samples, 4) - programs < 1.5 * held

    def test_refusal_tells_the_arithmetic(self) -> None:
        with pytest.raises(InputError) as caught:
            memory.check_memory(5472, 3648, 2, 4, 3_000_000_000)
        text = str(caught.value)
        assert caught.value.code == "simulate.memory" and "--samples 1" in caught.value.hint
        needed = memory.needed_bytes(5472, 3648, 2, 4) / 1e9
        for words in ("5472×3648", "2×2", f"need {needed:.1f} GB", "79.8 M points", "20.0 M pixels", "3.0 GB are free"):
            assert words in text

    def test_parts_of_the_arithmetic_make_the_sum(self) -> None:
        with pytest.raises(InputError) as caught:
            memory.check_memory(5472, 3648, 1, 4, 1_000_000_000)
        number = r"([\d.]+)"
        found = re.search(
            rf"need {number} GB: {number} GB of programs \+ {number} M points × {number} B \+ {number} GB of twin or "
            rf"projectors \+ {number} M pixels × {number} B",
            str(caught.value),
        )
        assert found is not None
        total, base, points, point_bytes, maps, pixels, pixel_bytes = map(float, found.groups())
        assert base + (points * point_bytes + pixels * pixel_bytes) / 1e3 + maps == pytest.approx(total, abs=0.15)

    @pytest.mark.parametrize("available", [None, memory.needed_bytes(456, 304, 3, 4)])
    def test_enough_or_unknown_passes(self, available: int | None) -> None:
        memory.check_memory(456, 304, 3, 4, available)
        if available is not None:
            with pytest.raises(InputError):
                memory.check_memory(456, 304, 3, 4, available - 1)

    def test_available(self) -> None:
        available = memory.available_bytes()
        assert available is None or 1e7 < available < 1e14


class TestRig:
    @pytest.mark.parametrize(
        "size", [(454, 304), (456, 302), (5474, 3648), (5472, 3650), (457, 304), (600, 401), (0, 0)]
    )
    def test_size(self, size: tuple[int, int]) -> None:
        with pytest.raises(
            InputError, match=f"size {size[0]}×{size[1]} px; allowed: even numbers from 456×304"
        ) as caught:
            reference_rig(*size)
        assert caught.value.code == "simulate.size" and "1368x912" in caught.value.hint

    @pytest.mark.parametrize("name", ["RGB8", "BayerGR12", "Mono16", ""])
    def test_pixel_format(self, name: str) -> None:
        with pytest.raises(InputError, match="BayerRG12, Mono8") as caught:
            reference_rig(456, pixel_format=name)
        assert caught.value.code == "simulate.pixel_format"

    @pytest.mark.parametrize("width", [456, 912, 1368, 2736, 5472])
    def test_all_sizes_see_the_same_field(self, width: int) -> None:
        """The corners of the picture lie at the same places of the table."""
        rig = reference_rig(width)
        c = rig.camera
        assert c.width / c.height == 1.5
        left, right = (-0.5 - c.cx) / c.fx * 200, (c.width - 0.5 - c.cx) / c.fx * 200
        top, bottom = (-0.5 - c.cy) / c.fy * 200, (c.height - 0.5 - c.cy) / c.fy * 200
        assert (left, right, top, bottom) == pytest.approx(
            (-27.36 - 0.143, 27.36 - 0.143, -18.24 + 0.096, 18.24 + 0.096)
        )
        assert rig.pitch_mm == pytest.approx(0.01 * 5472 / width)

    def test_reference_figures(self) -> None:
        """DESIGN §5: lights 210 mm away at slant 45°, projectors at 30°, 46 µm a column on the table."""
        rig = reference_rig(1368)
        for light in rig.lights:
            assert np.linalg.norm(light.position_mm) == pytest.approx(210)
            assert light.position_mm[2] / 210 == pytest.approx(math.cos(math.radians(45)))
        for source in rig.projectors:
            assert math.degrees(math.acos(source.centre_mm[2] / 210)) == pytest.approx(30)
            step = 0.023 * source.centre_mm * (1, 1, 0) / np.linalg.norm(source.centre_mm[:2])
            ends = [source.rotation @ (x - source.centre_mm) for x in (step, -step)]
            assert abs(np.subtract(*(x[0] / x[2] for x in ends))) * source.lens.fx == pytest.approx(1, rel=1e-3)
        sensor = rig.sensor
        assert (sensor.pixel_format, sensor.full_well_e, sensor.read_noise_e, sensor.prnu) == (
            "BayerRG12",
            1e4,
            3,
            0.005,
        )
        assert rig.blur_px == 0.6 and rig.ambient == 0.01

    def test_samples_by_size(self) -> None:
        assert [default_samples(w) for w in (456, 912, 1368, 2736, 5472)] == [3, 3, 2, 2, 1]


class TestPose:
    @pytest.mark.parametrize("pose", [{"x_mm": math.nan}, {"z_mm": math.inf}])
    def test_not_a_number(self, pose: dict[str, float]) -> None:
        with pytest.raises(InputError, match="a finite number is needed"):
            Pose(**pose)

    @pytest.mark.parametrize("pose", [Pose(x_mm=30), Pose(y_mm=-24), Pose(-40, 40, 45)])
    def test_outside_the_picture(self, pose: Pose) -> None:
        scene = Scene(tile(), small(), pose)
        with pytest.raises(InputError, match="of tile outside the picture") as caught:
            scene.check_view()
        assert caught.value.code == "simulate.pose" and caught.value.hint == "move it towards 0, 0"

    def test_says_how_much(self) -> None:
        halves = tile(half=5.0)
        two = replace(halves, components=(halves.components[0], replace(tile(1.0, 2.0).components[0], name="small")))
        with pytest.raises(InputError, match=r"x 50 mm.* 100% of tile .* ±27\.6 × ±18\.0 mm"):
            Scene(two, small(), Pose(x_mm=50)).check_view()

    @pytest.mark.parametrize("pose", [Pose(), Pose(20, 10, 30), Pose(-25, 0)])
    def test_in_view(self, pose: Pose) -> None:
        Scene(tile(), small(), pose).check_view()

    @pytest.mark.parametrize(
        ("part", "pose"),
        [
            (tile(-0.1), Pose()),
            (tile(), Pose(z_mm=-3)),
            (tile(1.0), Pose(tilt_x_deg=45)),
            (tile(), Pose(z_mm=120)),
        ],
    )
    def test_sinks_or_reaches_to_the_lens(self, part: Part, pose: Pose) -> None:
        with pytest.raises(InputError, match="mm above the table; allowed: 0 to 100 mm") as caught:
            Scene(part, small(), pose)
        assert caught.value.code == "simulate.pose" and "z_mm" in caught.value.hint


class TestNames:
    @pytest.fixture(scope="class")
    @classmethod
    def scene(cls) -> Scene:
        return Scene(tile(), small())

    def test_zone(self, scene: Scene) -> None:
        with pytest.raises(InputError, match="no light zone 5; it has 1, 2, 3, 4") as caught:
            scene.electrons([(Lit({5: 1.0}), 100.0)])
        assert caught.value.code == "simulate.zone"

    def test_projector(self, scene: Scene) -> None:
        with pytest.raises(InputError, match="no projector 7; it has 1, 2, 3, 4") as caught:
            scene.frame(Lit({}, 7, Uniform(1.0)), 100.0, 1)
        assert caught.value.code == "simulate.projector"

    @pytest.mark.parametrize("samples", [-1, 5])
    def test_samples(self, samples: int) -> None:
        with pytest.raises(InputError, match="1 to 4") as caught:
            Scene(tile(), small(), samples=samples)
        assert caught.value.code == "simulate.samples"

    def test_too_many_components(self) -> None:
        one = tile().components[0]
        crowd = Part("crowd", tuple(replace(one, name=f"{k}") for k in range(251)))
        with pytest.raises(InputError, match="crowd has 251 components") as caught:
            Scene(crowd, small())
        assert caught.value.code == "simulate.part"

    def test_the_last_component_is_no_background(self) -> None:
        """The 250th is body 250, and 255 means nothing."""
        one = tile(1.0, 2.0).components[0]
        crowd = Part("crowd", (*(replace(one, name=f"{k}") for k in range(249)), tile(3.0).components[0]))
        scene = Scene(crowd, replace(small(), sensor=Sensor("Mono12")))
        assert scene.surface.body[15, 22] == 250 and scene.zone_rate(1)[15, 22] > 0
