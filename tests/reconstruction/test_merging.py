"""Merging against known surfaces: noise as predicted, liars rejected, moved and exchanged projectors named."""

from __future__ import annotations

import itertools
import json
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.acquisition.simulator.rig import reference_rig
from rakelight.acquisition.simulator.scene import Scene
from rakelight.acquisition.simulator.specimen import make_specimen
from rakelight.acquisition.simulator.truth import camera_model, projector_model, xyz_camera
from rakelight.errors import InputError
from rakelight.reconstruction import merging
from rakelight.reconstruction.direction_checks import PairBias
from rakelight.reconstruction.merging import Merged, Settings, blame, direction_permutation, merge, pair_biases
from rakelight.reconstruction.models import Projector
from rakelight.reconstruction.triangulation import camera_rays, triangulate

RIG = reference_rig(456)
CAMERA = camera_model(RIG.camera)
PROJECTORS = tuple(projector_model(source, RIG) for source in RIG.projectors)
FOUR = (1, 2, 3, 4)
PITCH = RIG.pitch_mm
SHAPE = (CAMERA.height, CAMERA.width)
Maps = tuple[NDArray[Any], NDArray[Any]]


def hills() -> NDArray[Any]:
    """A smooth surface 4 to 12 mm above the table, as depth."""
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.asarray(192 + 4 * np.sin(u / 60) * np.cos(v / 45))


def measured(
    z: NDArray[Any], sigma_px: float = 0.03, projectors: tuple[Projector, ...] = PROJECTORS, seed: int = 1
) -> Maps:
    """Depths and sigmas (4, H, W) of exact coordinates with noise, as the true rig's calibration triangulates them.

    Noise differs from direction to direction and over the image, as modulation does.
    """
    coordinates, sigmas = coded(z, sigma_px, projectors, seed)
    pairs = [triangulate(c, s, CAMERA, p) for c, s, p in zip(coordinates, sigmas, PROJECTORS, strict=True)]
    return np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])


def coded(z: NDArray[Any], sigma_px: float, projectors: tuple[Projector, ...], seed: int) -> Maps:
    rng = np.random.default_rng(seed)
    p, q = camera_rays(CAMERA).astype(float)
    points = np.stack((p * z, q * z, z), axis=-1)
    fall = np.linspace(0.5, 2, SHAPE[1])
    sigmas = np.stack([np.broadcast_to(sigma_px * f * fall, SHAPE) for f in (1, 1.5, 0.8, 1.2)]).astype(np.float32)
    truth = np.stack([x.project(points)[..., 0] for x in projectors])
    return (truth + sigmas * rng.standard_normal(sigmas.shape)).astype(np.float32), sigmas


def plane_maps(values: list[list[float]], sigma: float | list[float] = 0.005, size: int = 9) -> Maps:
    """Constant maps (D, size, size), one a direction: the whole image says the same, so that neighbours agree."""
    z = np.array(values, np.float32).reshape(-1, 1, 1) * np.ones((1, size, size), np.float32)
    s = np.array(sigma, np.float32).reshape(-1, 1, 1) * np.ones(z.shape, np.float32)
    return z, np.where(np.isnan(z), np.float32(np.nan), s)


def at_middle(merged: Merged) -> tuple[float, int, int, int]:
    row, column = merged.z_mm.shape[0] // 2, merged.z_mm.shape[1] // 2
    return (
        float(merged.z_mm[row, column]),
        int(merged.support[row, column]),
        int(merged.used[row, column]),
        int(merged.rejected[row, column]),
    )


class TestNoise:
    def test_error_is_as_predicted(self) -> None:
        z = hills()
        depths, sigmas = measured(z)
        merged = merge(depths, sigmas, FOUR, pitch_mm=PITCH)
        assert merged.valid.mean() > 0.995  # k = 4 refuses a few honest values in a million pixels
        assert (merged.support[merged.valid] == 4).mean() > 0.99
        error = ((merged.z_mm - z) / merged.sigma_z_mm)[merged.valid]
        assert 0.95 < error.std() < 1.05
        assert abs(error.mean()) < 0.02
        rms = np.sqrt(np.mean((merged.z_mm - z)[merged.valid] ** 2))
        each = np.sqrt(np.mean((depths - z) ** 2, axis=(1, 2)))
        assert rms == pytest.approx(np.sum(each**-2.0) ** -0.5, rel=0.03)
        assert rms < 0.66 * each.min()
        # Weighted spread of n values about their mean: (n − 1)/Σw on average.
        ratio = (merged.spread_mm**2 * 4 / (3 * 4 * merged.sigma_z_mm**2))[merged.support == 4]
        assert ratio.mean() == pytest.approx(1, abs=0.03)

    def test_simulated_part(self) -> None:
        scene = Scene(make_specimen("clay_pot", 1).part, RIG)
        z = xyz_camera(scene.surface, RIG)[..., 2].astype(float)
        depths, sigmas = measured(z, 0.02)
        merged = merge(depths, sigmas, FOUR, pitch_mm=PITCH)
        assert merged.valid.mean() > 0.97
        error = ((merged.z_mm - z) / merged.sigma_z_mm)[merged.valid]
        assert 0.9 < error.std() < 1.1


class TestConsensus:
    nan = float("nan")

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([10, 10, 10, 10], (10, 4, 0b1111, 0)),
            ([10, 10, 10, 11], (10, 3, 0b0111, 0b1000)),
            ([11, 10, 10, 10], (10, 3, 0b1110, 0b0001)),
            ([10, 11, nan, 10], (10, 2, 0b1001, 0b0010)),
            ([10, 10, 11, 12], (10, 2, 0b0011, 0b1100)),
            ([nan, 10, nan, 10], (10, 2, 0b1010, 0)),
            ([nan, nan, 10, nan], (10, 1, 0b0100, 0)),
            ([10, 10, 11, 11], (nan, 0, 0, 0b1111)),  # two against two
            ([10, 11, 12, 13], (nan, 0, 0, 0b1111)),
            ([10, nan, nan, 11], (nan, 0, 0, 0b1001)),
            ([nan, nan, nan, nan], (nan, 0, 0, 0)),
        ],
    )
    def test_majority(self, values: list[float], expected: tuple[float, int, int, int]) -> None:
        for order in itertools.permutations(range(4)):  # whoever says it
            z, sigma = plane_maps([[values[i]] for i in order])
            got = at_middle(merge(z, sigma, FOUR, pitch_mm=0.01))
            moved = [sum(((mask >> i) & 1) << place for place, i in enumerate(order)) for mask in expected[2:]]
            np.testing.assert_equal(got, (*expected[:2], *moved))

    def test_weights_do_not_outvote_numbers(self) -> None:
        """A highlight has the smallest sigma of all: neither against one nor against two honest directions does it win."""
        z, sigma = plane_maps([[11], [10], [10]], [0.0001, 0.01, 0.01])
        assert at_middle(merge(z, sigma, (1, 2, 3), pitch_mm=0.01)) == (10, 2, 0b110, 0b001)
        z, sigma = plane_maps([[11], [10]], [0.0001, 0.01])
        np.testing.assert_equal(at_middle(merge(z, sigma, (1, 2), pitch_mm=0.01)), (np.nan, 0, 0, 0b11))

    def test_a_vague_third_does_not_bridge_a_contradiction(self) -> None:
        """1 and 2 exclude each other; 3 is so uncertain that it fits both, and no mean in between may come out."""
        z, sigma = plane_maps([[10.0], [10.2], [10.1]], [0.005, 0.005, 0.1])
        np.testing.assert_equal(at_middle(merge(z, sigma, (1, 2, 3), pitch_mm=0.01)), (np.nan, 0, 0, 0b111))

    def test_heavier_of_two_overlapping_triples(self) -> None:
        z, sigma = plane_maps([[10.0], [10.03], [10.03], [10.06]], [0.005, 0.005, 0.005, 0.004])
        got = at_middle(merge(z, sigma, FOUR, pitch_mm=0.01, settings=Settings(agreement_floor_mm=0.015)))
        assert got[1:] == (3, 0b1110, 0b0001)
        assert got[0] == pytest.approx(np.average([10.03, 10.03, 10.06], weights=[1, 1, 1.5625]), abs=2e-6)

    def test_limit_of_agreement(self) -> None:
        limit = 4 * np.hypot(0.003, 0.004) + 0.02
        for gap, support in ((0.99 * limit, 2), (1.01 * limit, 0)):
            z, sigma = plane_maps([[10], [10 + gap]], [0.003, 0.004])
            assert at_middle(merge(z, sigma, (2, 4), pitch_mm=0.01))[1] == support

    def test_mean_sigma_and_spread(self) -> None:
        z, sigma = plane_maps([[200.000], [200.010]], [0.01, 0.02])
        merged = merge(z, sigma, (2, 3), pitch_mm=0.01)
        weights = np.array([1e4, 2.5e3])
        assert merged.z_mm[4, 4] == pytest.approx(np.average(z[:, 4, 4].astype(float), weights=weights), abs=1.6e-5)
        assert merged.sigma_z_mm[4, 4] == pytest.approx(weights.sum() ** -0.5)
        assert merged.spread_mm[4, 4] == pytest.approx(0.01 * np.sqrt(0.8 * 0.2), rel=2e-3)
        assert merged.used[4, 4] == 0b110

    def test_all_invalid_without_a_warning(self) -> None:
        z = np.full((4, 20, 300), np.nan, np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            merged = merge(z, z, FOUR, pitch_mm=0.01)
            pairs = pair_biases(z, z, FOUR)
            assert blame(pairs) is None
        assert np.isnan(merged.z_mm).all() and np.isnan(merged.sigma_z_mm).all() and np.isnan(merged.spread_mm).all()
        assert not merged.support.any() and not merged.used.any() and not merged.rejected.any()
        assert [p.pixels for p in pairs] == [0] * 6
        json.dumps([p.to_plain() for p in pairs], allow_nan=False)

    def test_values_without_use_are_left_out(self) -> None:
        z, sigma = plane_maps([[10], [10], [np.inf], [10]])
        sigma[0], sigma[1] = 0, np.inf
        assert at_middle(merge(z, sigma, FOUR, pitch_mm=0.01)) == (10, 1, 0b1000, 0)


class TestLiars:
    def test_highlight_of_one_direction_is_rejected(self) -> None:
        z = hills()
        depths, sigmas = measured(z)
        spot = np.zeros(SHAPE, bool)
        spot[100:140, 200:260] = True
        depths[1][spot] -= 0.8
        sigmas[1][spot] /= 10  # it claims to be the best of all
        merged = merge(depths, sigmas, FOUR, pitch_mm=PITCH)
        assert (merged.rejected[spot] & 0b0010 > 0).all()
        assert merged.valid[spot].mean() > 0.99
        assert np.abs(merged.z_mm - z)[merged.valid].max() < 0.03

    def test_scattered_gross_errors(self) -> None:
        z = hills()
        depths, sigmas = measured(z)
        rng = np.random.default_rng(5)
        wrong = rng.random(depths.shape) < 0.05
        depths[wrong] += rng.uniform(-20, 20, int(wrong.sum())).astype(np.float32)
        gone = rng.random(depths.shape) < 0.2
        depths[gone] = sigmas[gone] = np.nan
        merged = merge(depths, sigmas, FOUR, pitch_mm=PITCH)
        known = np.isfinite(depths)
        for bit in range(4):  # used and rejected together are all that measured
            np.testing.assert_array_equal((merged.used | merged.rejected) >> bit & 1, known[bit])
            assert not (merged.used & merged.rejected).any()
        off = np.abs(merged.z_mm - z)[merged.valid]
        assert off.max() < 0.6  # 4 for one direction alone beside a steep neighbour: slope · pitch = 0.48
        assert (off > 0.06).mean() < 1e-3
        assert merged.valid.mean() > 0.95
        assert not np.isfinite(merged.z_mm[~known.any(axis=0)]).any()  # nothing is made up


class TestNeighbours:
    def one_direction(self) -> Maps:
        return plane_maps([[200.0]], size=40)

    def test_single_support_that_stands_apart_is_removed(self) -> None:
        z, sigma = plane_maps([[200.0], [200.0]], size=40)
        z[1], sigma[1] = np.nan, np.nan
        z[0, 10:12, 10] = 205.0  # two that confirm each other only
        merged = merge(z, sigma, (1, 2), pitch_mm=0.01)
        assert np.isnan(merged.z_mm[10:12, 10]).all()
        assert (merged.rejected[10:12, 10] == 1).all() and (merged.used[10:12, 10] == 0).all()
        assert merged.valid.sum() == 1600 - 2

    def test_slope_counts_by_distance_on_the_part(self) -> None:
        z, sigma = self.one_direction()
        z += np.arange(40, dtype=np.float32) * 0.03  # 3 mm a mm at 10 µm a pixel
        assert merge(z, sigma / 100, (1,), pitch_mm=0.01).valid.all()
        assert not merge(z, sigma / 100, (1,), pitch_mm=0.005).valid.any()

    def test_small_islands_go_however_many_saw_them(self) -> None:
        z, sigma = plane_maps([[np.nan]] * 4, size=40)
        for rows, columns in ((slice(5, 7), slice(5, 7)), (slice(20, 23), slice(20, 23))):
            z[:, rows, columns], sigma[:, rows, columns] = 200, 0.005
        merged = merge(z, sigma, FOUR, pitch_mm=0.01)
        assert merged.valid.sum() == 9 and merged.valid[20:23, 20:23].all()
        assert (merged.rejected[5:7, 5:7] == 0b1111).all()

    def test_corners_and_edges_of_the_image_stay(self) -> None:
        z, sigma = self.one_direction()
        assert merge(z, sigma, (3,), pitch_mm=0.01).valid.all()

    def test_thresholds_are_settings(self) -> None:
        z, sigma = plane_maps([[np.nan]], size=20)
        z[0, 4, 4], sigma[0, 4, 4] = 200, 0.01
        lax = Settings(single_neighbours=0, least_neighbours=0)
        assert merge(z, sigma, (1,), pitch_mm=0.01, settings=lax).valid.sum() == 1
        assert not merge(z, sigma, (1,), pitch_mm=0.01).valid.any()


def shifted(projector: Projector, by_mm: NDArray[Any]) -> Projector:
    return replace(projector, translation_mm=projector.translation_mm - projector.rotation @ by_mm)


class TestBiases:
    def test_a_good_rig_has_none(self) -> None:
        pairs = pair_biases(*measured(hills()), FOUR)
        assert [(p.a, p.b) for p in pairs] == list(itertools.combinations(FOUR, 2))
        assert not any(p.significant for p in pairs)
        assert all(abs(p.median_mm) < 4 * p.expected_mm for p in pairs)
        assert blame(pairs) is None

    @pytest.mark.parametrize("moved", FOUR)
    def test_moved_projector_is_named(self, moved: int) -> None:
        """Shifted sideways by 0.05 mm, which at 30° is 0.087 mm of depth, and unlike truth the calibration does not know."""
        side = PROJECTORS[moved - 1].rotation[0] * 0.05
        real = tuple(shifted(p, side) if p.direction == moved else p for p in PROJECTORS)
        pairs = pair_biases(*measured(hills(), projectors=real), FOUR)
        for pair in pairs:
            assert pair.significant == (moved in (pair.a, pair.b))
            if pair.significant:
                assert abs(pair.median_mm) == pytest.approx(0.05 / np.sin(np.radians(30)), rel=0.2)
        assert blame(pairs) == moved
        offsets = merging.direction_offsets(pairs)
        assert max(offsets, key=lambda d: abs(offsets[d])) == moved

    def test_turned_projector_shows_as_tilt(self) -> None:
        z = hills()
        depths, sigmas = measured(z)
        u = np.linspace(-0.5, 0.5, SHAPE[1], dtype=np.float32)
        depths[2] += 0.03 * u
        pairs = pair_biases(depths, sigmas, FOUR)
        with_three = [p for p in pairs if 3 in (p.a, p.b)]
        assert all(abs(p.median_mm) < 0.003 and p.significant for p in with_three)
        for p in with_three:
            assert abs(p.tilt_mm_per_image[0]) == pytest.approx(0.03, rel=0.1)
            assert abs(p.tilt_mm_per_image[1]) < 0.003
        assert blame(pairs) == 3

    def test_gross_errors_do_not_disturb(self) -> None:
        depths, sigmas = measured(hills())
        wrong = np.random.default_rng(2).random(SHAPE) < 0.2
        depths[0][wrong] += 3
        assert not any(p.significant for p in pair_biases(depths, sigmas, FOUR)[3:])
        assert all(abs(p.median_mm) < 0.01 for p in pair_biases(depths, sigmas, FOUR))

    def test_two_that_moved_blame_nobody(self) -> None:
        depths, sigmas = measured(hills())
        depths[0] += 0.05
        depths[1] -= 0.05
        pairs = pair_biases(depths, sigmas, FOUR)
        assert blame(pairs) is None
        offsets = merging.direction_offsets(pairs)
        assert offsets == pytest.approx({1: 0.05, 2: -0.05, 3: 0, 4: 0}, abs=2e-3)

    def test_two_directions_cannot_tell(self) -> None:
        pair = PairBias(1, 2, 1000, 0.1, 0.001, (0.0, 0.0), significant=True)
        assert blame([pair]) is None


class TestExchanged:
    @pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 0, 2, 3), (3, 1, 2, 0), (1, 2, 3, 0), (2, 3, 0, 1)])
    @pytest.mark.parametrize("step", [1, 5])
    def test_named(self, order: tuple[int, ...], step: int) -> None:
        coordinates, _ = coded(hills(), 0.05, PROJECTORS, 4)
        mixed = [
            coordinates[i][::step, ::step] for i in order
        ]  # direction k + 1 carries what projector order[k] + 1 threw
        found = direction_permutation(mixed, PROJECTORS, CAMERA, step_px=step)
        assert found == (None if order == (0, 1, 2, 3) else tuple(i + 1 for i in order))

    def test_moved_is_not_exchanged(self) -> None:
        real = (shifted(PROJECTORS[0], np.array([2.0, 0, 0])), *PROJECTORS[1:])
        coordinates, _ = coded(hills(), 0.05, real, 4)
        assert direction_permutation(list(coordinates), PROJECTORS, CAMERA) is None

    def test_nothing_to_tell(self) -> None:
        nothing = [np.full(SHAPE, np.nan, np.float32)] * 4
        assert direction_permutation(nothing, PROJECTORS, CAMERA) is None
        noise = list(np.random.default_rng(1).uniform(0, 900, (4, *SHAPE)).astype(np.float32))
        assert direction_permutation(noise, PROJECTORS, CAMERA) is None


class TestInput:
    @pytest.mark.parametrize("directions", [(), (1, 1), (0, 1), (1, 2, 3, 4, 5)])
    def test_directions(self, directions: tuple[int, ...]) -> None:
        z = np.zeros((len(directions), 4, 4), np.float32)
        with pytest.raises(InputError, match="directions") as caught:
            merge(z, z, directions, pitch_mm=0.01)
        assert caught.value.code == "merging.directions"

    def test_shapes_and_pitch(self) -> None:
        z, sigma = plane_maps([[1], [1]])
        with pytest.raises(InputError, match="depth maps has shape"):
            merge(z, sigma, (1, 2, 3), pitch_mm=0.01)
        with pytest.raises(InputError, match="sigma maps has shape"):
            merge(z, sigma[:, 1:], (1, 2), pitch_mm=0.01)
        with pytest.raises(InputError, match="pitch 0 mm"):
            merge(z, sigma, (1, 2), pitch_mm=0)
        with pytest.raises(InputError, match=r"out\.used"):
            merge(z, sigma, (1, 2), pitch_mm=0.01, out=replace(merging.allocate(9, 9), used=np.zeros((2, 2), np.uint8)))

    def test_settings(self) -> None:
        with pytest.raises(InputError, match="slope = 0"):
            Settings(slope=0)

    def test_memory_is_reused(self) -> None:
        z, sigma = plane_maps([[1], [1]])
        out = merging.allocate(9, 9)
        assert merge(z, sigma, (1, 2), pitch_mm=0.01, out=out) is out
        assert out.valid.all()
