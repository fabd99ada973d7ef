"""Health checks: each fault is named, and nothing is said of what is sound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rakelight.detection.features import base
from rakelight.detection.features.health import check_features, check_parts, patch_correlation
from rakelight.detection.parts import Part


@pytest.fixture
def part() -> Part:
    return base.fingerprint_part(96)


def codes(parts: list[Part]) -> list[str]:
    return [w.code for w in check_parts(parts)]


def test_a_sound_part_gives_no_warning(part: Part) -> None:
    sound = replace(part, rgb=(part.rgb // 2 + 20) if part.rgb is not None else None)
    assert codes([sound, sound]) == []
    assert codes([replace(sound, rgb=None, ps=None, xyz=None)]) == []


@pytest.mark.parametrize(("factor", "unit"), [(1e-3, "metres"), (1e3, "micrometres")])
def test_a_wrong_unit_is_named(part: Part, factor: float, unit: str) -> None:
    assert part.xyz is not None
    found = [w for w in check_parts([replace(part, xyz=part.xyz * np.float32(factor))]) if w.code == "health.xyz_unit"]
    assert len(found) == 1 and f"probably in {unit}" in found[0].message and "fingerprint" in found[0].message


def test_pixels_for_coordinates_are_named(part: Part) -> None:
    facts = {"xyz_unit": "x and y in pixels, z in mm"}
    assert "health.xyz_unit" in codes([replace(part, facts=facts)])


def test_a_pitch_that_does_not_fit_is_named(part: Part) -> None:
    assert "health.xyz_pitch" in codes([replace(part, facts={"pitch_mm": 0.25, "xyz_unit": "mm"})])
    assert "health.xyz_pitch" not in codes([replace(part, facts={"pitch_mm": 0.12, "xyz_unit": "mm"})])


def test_unmeasured_points_are_counted(part: Part) -> None:
    assert part.xyz is not None
    xyz = part.xyz.copy()
    xyz[:48] = np.nan
    found = [w for w in check_parts([replace(part, xyz=xyz)]) if w.code == "health.unmeasured"]
    assert "50 % of the part has no point" in found[0].message
    assert codes([replace(part, xyz=np.full_like(xyz, np.nan), rgb=None)]) == ["health.unmeasured"]


def test_pictures_too_bright_or_dark_are_named(part: Part) -> None:
    assert part.rgb is not None
    assert "health.saturated" in codes([replace(part, rgb=np.full_like(part.rgb, 255))])
    assert "health.dark" in codes([replace(part, rgb=np.zeros_like(part.rgb))])
    off = part.rgb // 2
    off[~part.mask] = 255  # the table may be white
    assert codes([replace(part, rgb=off)]) == []


def test_pseudo_3d_pictures_of_different_kinds_are_named(part: Part) -> None:
    a = replace(part, rgb=None, facts=part.facts | {"ps_encoding": "normals"})
    b = replace(part, rgb=None, key="other", facts=part.facts | {"ps_encoding": "relief"})
    found = check_parts([a, b, a])
    assert [w.code for w in found] == ["health.ps_encodings"]
    assert "normals (fingerprint), relief (other)" in found[0].message
    assert codes([a, a]) == []


def blended(share: float) -> base.Features:
    """Patches that have ``share`` of their variance in common."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(1, 1, 1, 64))
    own = rng.normal(size=(3, 14, 14, 64))
    values = np.sqrt(share) * common + np.sqrt(1 - share) * own
    return base.Features(values.astype(np.float32), np.ones((3, 14, 14), np.bool_))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_patch_correlation_is_the_shared_part(share: float) -> None:
    features = blended(share)
    assert patch_correlation(features) == pytest.approx(share, abs=0.05)
    vectors = features.values.reshape(-1, 64)[:300]
    plain = np.corrcoef(vectors)
    off = plain[~np.eye(len(plain), dtype=bool)].mean()
    few = base.Features(vectors.reshape(1, 15, 20, 64), np.ones((1, 15, 20), np.bool_))
    assert patch_correlation(few) == pytest.approx(off, abs=1e-6)


def test_a_collapsed_layer_is_named() -> None:
    assert check_features(blended(0.53), "net") == []
    found = check_features(blended(0.87), "net")
    assert [w.code for w in found] == ["health.constant"] and "other taps" in found[0].message
    assert check_features(blended(0.93), "fpfh", histograms=True) == []
    constant = base.Features(np.ones((1, 4, 4, 8), np.float32), np.ones((1, 4, 4), np.bool_))
    assert patch_correlation(constant) == pytest.approx(1) and check_features(constant, "net")


def test_features_that_cannot_be_used_name_their_part() -> None:
    features = blended(0.2)
    features.values[1, 3, 3, 5] = np.nan
    features.valid[2] = False
    found = {w.code: w.message for w in check_features(features, "net", ["a", "b", "c"])}
    assert found == {
        "health.not_finite": "net: features that are not finite in b",
        "health.no_patch": "net: no valid patch in c",
    }


def test_the_embedded_network_is_healthy() -> None:
    features = base.make_extractor("efficientnet-lite0").extract([base.fingerprint_part()])
    assert check_features(features, "efficientnet-lite0") == []
