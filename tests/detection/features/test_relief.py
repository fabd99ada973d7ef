"""The relief of a surface: flat whatever the form and the unit, and a dent of a few micrometres shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rakelight.detection.features import base
from rakelight.detection.features.relief import relief_picture
from rakelight.detection.parts import Part
from rakelight.errors import DatasetError

SIZE, PITCH_MM = 112, 0.1
MIDDLE = slice(36, 76)


def surface(height_mm: object = 0.0, *, unit: float = 1.0) -> Part:
    """A square plate of 9 mm with a surface of the given height, in ``unit`` mm."""
    v, u = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    z = np.broadcast_to(np.asarray(height_mm, np.float64), u.shape)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[11:-11, 11:-11] = True
    xyz = np.stack([u * PITCH_MM, v * PITCH_MM, z], -1) / unit
    xyz = np.where(mask[..., None], xyz, np.nan).astype(np.float32)
    empty = np.zeros_like(mask)
    facts = {"pitch_mm": PITCH_MM / unit, "xyz_unit": "mm"}
    have = frozenset({"xyz"})
    return Part(
        "plate/OK/S0001", "", "OK", SIZE, None, None, xyz, mask, None, empty, have, np.eye(3)[:2], (SIZE, SIZE), facts
    )


def dent(depth_mm: float, radius_px: float = 6) -> np.ndarray:
    v, u = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    return np.asarray(depth_mm * np.exp(-(u**2 + v**2) / (2 * (radius_px / 2) ** 2)))


def test_flat_and_tilted_faces_are_mid_grey_and_what_is_off_the_part_is_black() -> None:
    ramp = np.mgrid[:SIZE, :SIZE][1] * PITCH_MM * 0.2  # 11 degrees
    for part in (surface(), surface(ramp)):
        drawn = relief_picture(part)
        assert np.abs(drawn[MIDDLE, MIDDLE].astype(int) - 127.5)[..., :2].max() <= 1  # the widest window sees the rim
        assert (drawn[~part.mask] == 0).all()


def test_a_dent_of_ten_micrometres_shows_at_its_width_and_a_bump_the_other_way() -> None:
    deep, high = relief_picture(surface(dent(0.01))), relief_picture(surface(-dent(0.01)))
    at = SIZE // 2
    assert deep[at, at, 1] > 127 + 3 > 127 - 3 > high[at, at, 1]
    assert np.abs(deep[20:30, 20:30].astype(int) - 127.5).max() <= 1  # far from it nothing
    # A step of a millimetre beside it leaves it visible.
    step = np.where(np.mgrid[:SIZE, :SIZE][1] > 90, 1.0, 0.0)
    beside = relief_picture(surface(step + dent(0.01)))[at, at, 0].astype(int)
    assert beside - relief_picture(surface(step))[at, at, 0] >= 3


def test_the_unit_of_length_does_not_matter() -> None:
    wavy = dent(0.03) + 0.02 * np.sin(np.mgrid[:SIZE, :SIZE][0] / 3)
    mm, metres = relief_picture(surface(wavy)), relief_picture(surface(wavy, unit=1000.0))
    assert np.abs(mm.astype(int) - metres).max() <= 1


@pytest.mark.parametrize(("gap", "seen"), [(3, 127), (9, 0)])
def test_small_gaps_are_flat_and_large_ones_black(gap: int, seen: int) -> None:
    part = surface()
    assert part.xyz is not None
    part.xyz[50 : 50 + gap, 50 : 50 + gap] = np.nan
    assert abs(int(relief_picture(part)[50 + gap // 2, 50 + gap // 2, 0]) - seen) <= 1


def test_features_tell_a_dented_patch_and_patches_without_points_are_not_valid() -> None:
    made = base.make_extractor("efficientnet-lite0-relief")
    hole = surface()
    assert hole.xyz is not None
    hole.xyz[40:72, 40:72] = np.nan
    found = made.extract([surface(), surface(dent(0.02)), hole])
    assert found.values.shape == (3, SIZE // 8, SIZE // 8, made.dim)
    moved = np.linalg.norm(found.values[1] - found.values[0], axis=-1)
    assert moved[6:8, 6:8].min() > 3 * np.median(moved[2:-2, 2:-2])
    assert found.valid[0, 6, 6] and not found.valid[2, 6, 6]
    assert base.same_fingerprint(made.fingerprint(), made.fingerprint())
    assert base.settings_of(made) == base.settings_of(base.make_extractor("efficientnet-lite0", modality="ps"))


def test_no_points_at_all() -> None:
    nothing = surface()
    assert nothing.xyz is not None
    nothing.xyz[:] = np.nan
    assert (relief_picture(nothing) == 0).all()
    with pytest.raises(DatasetError, match="plate/OK/S0001"):
        relief_picture(replace(nothing, xyz=None, available=frozenset()))
