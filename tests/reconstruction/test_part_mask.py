"""The part mask and the table plane, on heights made for it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.models import PinholeCamera, Plane
from rakelight.reconstruction.part_mask import fit_table, part_mask
from rakelight.reconstruction.triangulation import xyz_from_depth

PITCH = 0.04
SHAPE = (200, 300)


def disc(row: float, column: float, radius: float) -> NDArray[np.bool_]:
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.asarray((v - row) ** 2 + (u - column) ** 2 <= radius**2)


def heights(part: NDArray[np.bool_], seed: int = 1) -> NDArray[np.float32]:
    """3 mm high where the part is; noise of half a pitch."""
    noise = np.random.default_rng(seed).standard_normal(SHAPE) * PITCH / 2
    return (np.where(part, 3.0, 0.0) + noise).astype(np.float32)


class TestMask:
    def test_the_part_and_nothing_else(self) -> None:
        part = disc(100, 150, 60)
        np.testing.assert_array_equal(part_mask(heights(part), PITCH, closing_px=0), part)
        assert (part_mask(heights(part), PITCH) != part).sum() < 30  # closing rounds what is concave

    def test_empty_table(self) -> None:
        assert not part_mask(heights(np.zeros(SHAPE, bool)), PITCH).any()
        assert not part_mask(np.full(SHAPE, np.nan, np.float32), PITCH).any()

    def test_holes_and_gaps_are_part(self) -> None:
        part = disc(100, 150, 60)
        height = heights(part)
        height[disc(100, 150, 20)] = np.nan  # not measured
        height[np.random.default_rng(3).random(SHAPE) < 0.3] = np.nan
        mask = part_mask(height, PITCH)
        assert mask[disc(100, 150, 58)].all()
        assert not mask[~disc(100, 150, 62)].any()

    def test_windows_through_which_the_table_is_seen_are_no_part(self) -> None:
        part = disc(100, 150, 60)
        height = heights(part)
        height[disc(100, 150, 25)] = np.nan  # in the shadow of the walls
        window = disc(100, 150, 15)
        height[window] = 0
        height[disc(60, 150, 2)] = 0  # a gross error
        mask = part_mask(height, PITCH)
        assert not mask[disc(100, 150, 23)].any() and mask[disc(60, 150, 3)].all()
        assert part_mask(height, PITCH, least_window=2)[disc(100, 150, 58)].all()

    def test_dirt_is_dropped_and_halves_are_kept(self) -> None:
        whole = disc(100, 150, 60)
        part = whole.copy()
        part[:, 146:154] = False  # a groove in shadow
        height = heights(part)
        height[:, 146:154] = np.nan
        height[disc(20, 20, 4)] = 2  # a crumb
        mask = part_mask(height, PITCH)
        assert mask[disc(100, 110, 10)].all() and mask[disc(100, 190, 10)].all()
        assert not mask[disc(20, 20, 8)].any()
        one = part_mask(height, PITCH, least_share=1)
        assert one.sum() < 0.6 * whole.sum()

    def test_nan_around_the_part_is_not_part(self) -> None:
        part = disc(100, 150, 60)
        height = heights(part)
        height[disc(100, 150, 75) & ~part] = np.nan  # its shadow on the table
        height[:20] = np.nan
        np.testing.assert_array_equal(part_mask(height, PITCH, closing_px=0), part)

    def test_bay_at_the_edge_of_the_image_is_no_hole(self) -> None:
        part = np.zeros(SHAPE, bool)
        part[50:150, :100] = True
        part[90:110, :50] = False
        np.testing.assert_array_equal(part_mask(heights(part), PITCH, closing_px=0), part)

    @pytest.mark.parametrize(("height_mm", "seen"), [(3.5 * PITCH, False), (7 * PITCH, True)])
    def test_limit_in_units_of_the_pitch(self, height_mm: float, seen: bool) -> None:
        height = np.where(disc(100, 150, 60), height_mm, 0).astype(np.float32)
        assert part_mask(height, PITCH).any() == seen

    def test_bad_input_is_named(self) -> None:
        flat = np.zeros(SHAPE, np.float32)
        with pytest.raises(InputError, match="2 are needed"):
            part_mask(flat[0], PITCH)
        for option in ({"pitch_mm": 0.0}, {"closing_px": -1}, {"least_share": 0.0}, {"limit_pitches": np.nan}):
            with pytest.raises(InputError, match=next(iter(option)).split("_mm")[0].replace("_", "[ _]")):
                part_mask(flat, **{"pitch_mm": PITCH, **option})  # type: ignore[arg-type]


class TestTable:
    CAMERA = PinholeCamera(300, 200, 5000.0, 5000.0, 149.5, 99.5)

    def cloud(self, part: NDArray[np.bool_], table: Plane, seed: int = 1) -> NDArray[np.float32]:
        """Points of a tilted table with a block of 5 mm on it, 20 µm of noise, 5 % of gross errors, and holes."""
        rng = np.random.default_rng(seed)
        v, u = np.mgrid[: SHAPE[0], : SHAPE[1]]
        points = table.intersect(*self.CAMERA.rays(np.stack((u, v), axis=-1).astype(float)))
        z = points[..., 2] - np.where(part, 5.0, 0) + rng.normal(0, 0.02, SHAPE)
        wrong = rng.random(SHAPE) < 0.05
        z[wrong] += rng.uniform(-10, 10, int(wrong.sum()))
        z[rng.random(SHAPE) < 0.2] = np.nan
        return xyz_from_depth(z.astype(np.float32), self.CAMERA)

    @pytest.mark.parametrize("covered", [0.0, 0.5, 0.75])
    def test_found_under_a_part_that_covers_most_of_it(self, covered: float) -> None:
        normal = np.array([0.05, -0.08, -1.0])
        normal /= np.linalg.norm(normal)
        table = Plane(normal, -199.0)
        part = np.zeros(SHAPE, bool)
        part[:, : int(covered * SHAPE[1])] = True
        found = fit_table(self.cloud(part, table))
        assert np.degrees(np.arccos(min(1.0, found.normal @ table.normal))) < 0.03  # 20 µm over the 3 mm that are left
        at = table.intersect([0, 0, 0], [[0.01, 0.01, 1]])
        assert abs(found.height_mm(at)[0]) < 0.005

    def test_same_seed_same_plane(self) -> None:
        cloud = self.cloud(np.zeros(SHAPE, bool), Plane(np.array([0.0, 0, -1]), -200.0))
        first, second = fit_table(cloud, seed=3), fit_table(cloud, seed=3)
        np.testing.assert_array_equal(first.normal, second.normal)
        assert first.offset_mm == second.offset_mm

    def test_no_table(self) -> None:
        scattered = np.random.default_rng(1).uniform(-50, 50, (5000, 3)) + np.array([0, 0, 200])
        for cloud in (scattered, np.full((10, 10, 3), np.nan), scattered[:2]):
            with pytest.raises(CalibrationError, match="no table found") as caught:
                fit_table(cloud)
            assert caught.value.code == "calibration.no_table"

    def test_bad_input_is_named(self) -> None:
        with pytest.raises(InputError, match="needed"):
            fit_table(np.zeros((5, 2)))
        with pytest.raises(InputError, match="tolerance"):
            fit_table(np.zeros((5, 3)), tolerance_mm=0)
