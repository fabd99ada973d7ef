"""White balance against plates of known hue, and as a part of the calibration folder."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight import files
from rakelight.calibration.colour import MAX_HUE_SPREAD, Colour, WhiteBalance, measure_colour
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.errors import CalibrationError
from rakelight.reconstruction.development import develop

RESPONSE = (0.6, 1.0, 0.8)
BLACK, FULL = 64.0, 4095.0
SITES = {"RG": "RGGB", "GR": "GRBG", "GB": "GBRG", "BG": "BGGR"}


def frame(
    hue: Any = RESPONSE, level: float = 0.6, pattern: str = "RG", shape: tuple[int, int] = (240, 360), seed: int = 0
) -> NDArray[np.uint16]:
    """Raw frame of a plate with vignetting and noise; ``hue`` (3,) or (H, W, 3) of the light that the photosites collect."""
    v, u = np.mgrid[: shape[0], : shape[1]]
    lit = level * (1 - 0.4 * ((u / shape[1] - 0.5) ** 2 + (v / shape[0] - 0.5) ** 2))
    rgb = lit[..., None] * np.broadcast_to(hue, (*shape, 3))
    out = np.empty(shape)
    for k, colour in enumerate(SITES[pattern]):
        site = (slice(k // 2, None, 2), slice(k % 2, None, 2))
        out[site] = rgb[..., "RGB".index(colour)][site]
    noise = np.random.default_rng(seed).normal(0, 8, shape)
    return np.clip(np.rint(out * (FULL - BLACK) + BLACK + noise), 0, FULL).astype(np.uint16)


def measure(*frames: NDArray[Any], pattern: str = "RG", black: Any = BLACK) -> WhiteBalance:
    found = measure_colour([(f"white {k}", f, black) for k, f in enumerate(frames)], pattern, FULL, black)
    assert found is not None
    return found


class TestMeasurement:
    @pytest.mark.parametrize("pattern", list(SITES))
    def test_gains_undo_the_filter(self, pattern: str) -> None:
        found = measure(frame(pattern=pattern), pattern=pattern)
        assert found.colour.gains == pytest.approx((1 / 0.6, 1, 1 / 0.8), rel=1e-3)
        assert found.colour.black == pytest.approx((BLACK / FULL,) * 3, abs=1e-6)
        assert found.field_spread < 0.01 and found.light_spread is None and not found.warnings

    def test_grey_plates_come_out_grey(self) -> None:
        """Of any brightness, from the gains of one."""
        colour = measure(frame()).colour
        for level in (0.05, 0.2, 0.7, 0.97):
            picture = develop(frame(level=level, seed=9), "RG", colour.tables(), FULL)
            means = picture[40:-40, 40:-40].reshape(-1, 3).mean(axis=0)
            assert np.ptp(means) < 1, level

    def test_maps_of_black_are_taken_photosite_by_photosite(self) -> None:
        black = np.full((240, 360), BLACK, np.float32)
        black[::2, ::2] += 8  # red
        raw = frame()
        raw[::2, ::2] += 8
        found = measure(raw, black=black)
        assert found.colour.gains == pytest.approx((1 / 0.6, 1, 1 / 0.8), rel=1e-3)
        assert found.colour.black == pytest.approx(((BLACK + 8) / FULL, BLACK / FULL, BLACK / FULL), abs=1e-6)
        assert "record dark frames" in found.warnings[0]

    def test_dust_print_and_hot_photosites_change_nothing(self) -> None:
        raw = frame()
        raw[100:112, 150:190] = 80  # a hair across the middle
        raw[60:90, 200:206:2] = 3000  # red print
        rng = np.random.default_rng(3)
        raw[rng.integers(0, 240, 60), rng.integers(0, 360, 60)] = 4095
        found = measure(raw)
        assert found.colour.gains == pytest.approx((1 / 0.6, 1, 1 / 0.8), rel=3e-3)

    def test_hue_that_varies_is_told(self) -> None:
        tint = np.ones((240, 360, 3)) * RESPONSE
        tint[..., 0] *= np.linspace(0.95, 1.05, 360)
        found = measure(frame(tint))
        assert found.field_spread == pytest.approx(0.047, abs=0.008) and found.field_spread > MAX_HUE_SPREAD
        assert "across the white plate" in found.warnings[0] and len(found.warnings) == 1

    def test_lights_of_different_hue_are_told(self) -> None:
        other = np.multiply(RESPONSE, (1, 1, 0.9))
        found = measure(frame(), frame(seed=1), frame(seed=2), frame(other, seed=3))
        assert found.light_spread == pytest.approx(0.083, abs=0.01)
        assert "from light to light" in found.warnings[0] and found.hue_spread == found.light_spread

    def test_gains_that_are_unusual_are_told(self) -> None:
        found = measure(frame((0.9, 0.3, 0.3)))
        assert found.colour.gains == pytest.approx((1 / 3, 1, 1), rel=2e-3)
        assert "gain of 0.33 in red" in found.warnings[0] and len(found.warnings) == 1

    def test_a_camera_without_colour_has_none(self) -> None:
        assert measure_colour([("w", frame(), 0.0)], None, FULL) is None

    @pytest.mark.parametrize(
        ("raw", "code", "words"),
        [
            (frame(level=1.3), "colour_saturated", "saturated .at least 98% .*allowed: 0.5%"),
            (frame(level=0.06), "colour_dark", "weakest channel .* needed: at least 5%"),
            (np.zeros((240, 360), np.uint16), "colour_dark", "weakest channel"),
            (frame((0.15, 1.0, 0.8)), "colour_not_white", "gain of 6.6. in red .* allowed: 0.25 to 4"),
            (frame((0.6, 0.18, 0.9)), "colour_not_white", "gain of 0.20 in blue"),
            (frame(shape=(8, 8)), "colour_invalid", "8×8 px"),
        ],
    )
    def test_plates_that_are_no_white_plate(self, raw: NDArray[Any], code: str, words: str) -> None:
        with pytest.raises(CalibrationError, match=words) as caught:
            measure(raw)
        assert caught.value.code == f"calibration.{code}" and caught.value.hint

    def test_no_frames_and_unknown_patterns(self) -> None:
        for whites, pattern in (([], "RG"), ([("w", frame(), 0.0)], "RB")):
            with pytest.raises(CalibrationError) as caught:
                measure_colour(whites, pattern, FULL)
            assert caught.value.code == "calibration.colour_invalid"

    def test_a_plate_clipped_at_its_edge_alone_is_taken(self) -> None:
        raw = frame()
        raw[:, :40] = 4095
        assert measure(raw).colour.gains == pytest.approx((1 / 0.6, 1, 1 / 0.8), rel=1e-3)


class TestPictures:
    @pytest.mark.parametrize("gains", [(1.7, 1.0, 1.3), (0.7, 1.0, 3.0), (0.5, 1.0, 0.6)])
    def test_highlights_run_into_white_not_into_a_hue(self, gains: Any) -> None:
        """A grey ramp far beyond saturation: grey all the way, though the channels clip at different brightness."""
        colour = Colour(gains, (0.016,) * 3)
        ramp = np.linspace(0, 3, 301)[:, None] / np.array(gains)
        seen = np.minimum(ramp + 0.016, 1.0).astype(np.float32)
        picture = develop(seen[None], None, colour.tables())[0].astype(int)
        assert np.ptp(picture, axis=1).max() <= 1 and (picture[-1] == 255).all()

    def test_tone(self) -> None:
        level = np.full((4, 4), 0.245, np.float32)
        assert develop(level, None, Colour((1, 1, 1), tone="linear").tables())[0, 0, 0] == 64
        assert develop(level, None, Colour((1, 1, 1)).tables())[0, 0, 0] == 137


class TestCalibrationFolder:
    COLOUR = Colour((1.38889, 1, 1.5873), (0.015629, 0.015, 0.016), "srgb")

    def rig(self, **changes: Any) -> RigCalibration:
        values = {"calibration_id": "c", "created_utc": "2025-03-01T08:15:30+00:00", "simulated": True}
        return RigCalibration(**(values | {"colour": self.COLOUR} | changes))

    def test_comes_back_to_the_bit_and_may_be_absent(self, tmp_path: Path) -> None:
        saved = self.rig()
        loaded = RigCalibration.load(saved.save(tmp_path / "with"))
        assert loaded.colour == self.COLOUR and loaded.content_sha256 == saved.content_sha256
        assert RigCalibration.verify(tmp_path / "with") == []
        assert loaded.summary()["colour"] == {
            "gains": [1.38889, 1.0, 1.5873], "black": [0.015629, 0.015, 0.016], "tone": "srgb"
        }  # fmt: skip
        without = self.rig(colour=None)
        without.save(tmp_path / "without")
        assert "colour" not in json.loads((tmp_path / "without/rig_calibration.json").read_text(encoding="utf-8"))
        assert RigCalibration.load(tmp_path / "without").colour is None and without.summary()["colour"] is None

    def test_hash_follows_every_value(self) -> None:
        c = self.COLOUR
        others = (replace(c, gains=(1.4, 1.0, 1.5873)), replace(c, black=(0, 0, 0)), replace(c, tone="linear"), None)
        hashes = {self.rig(colour=x).content_sha256 for x in (c, *others)}
        assert len(hashes) == 5

    @pytest.mark.parametrize(
        ("change", "code", "words"),
        [
            ({"gains": [5.0, 1, 1]}, "calibration.colour_invalid", "three numbers from 0.25 to 4"),
            ({"gains": [1.5, 1.1, 1]}, "calibration.colour_invalid", "gain of green is 1.1"),
            ({"gains": [1.5, 1]}, "config.invalid", "gains"),
            ({"black": [0.5, 0, 0]}, "calibration.colour_invalid", "three numbers from 0 to 0.2"),
            ({"tone": "film"}, "config.invalid", "tone"),
            ({"matrix": []}, "config.invalid", "unknown key"),
        ],
    )
    def test_damaged_values_are_refused(self, tmp_path: Path, change: dict[str, Any], code: str, words: str) -> None:
        folder = self.rig().save(tmp_path / "c")
        path = folder / "rig_calibration.json"
        data = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(path.read_text(encoding="utf-8").replace("1.38889", "1.38888"), encoding="utf-8")
        assert "was changed" in RigCalibration.verify(folder)[0]
        data["colour"] |= change  # edited by someone who mends the hash, too
        content = {k: v for k, v in data.items() if k not in ("content_sha256", "arrays_sha256")}
        data["content_sha256"] = files.sha256_bytes(files.canonical_json(content).encode())
        files.write_json(path, data)
        with pytest.raises(CalibrationError, match=words) as caught:
            RigCalibration.load(folder)
        assert caught.value.code == code

    @pytest.mark.parametrize("gains", [(math.nan, 1, 1), ("1", 1, 1), (True, 1, 1), 1.0, (1, 1, math.inf)])
    def test_values_that_are_no_gains(self, gains: Any) -> None:
        with pytest.raises(CalibrationError, match=r"gains of R, G, B") as caught:
            Colour(gains)
        assert caught.value.code == "calibration.colour_invalid"

    def test_another_kind_of_object(self) -> None:
        with pytest.raises(CalibrationError, match="colour is 'tuple'; allowed: Colour"):
            self.rig(colour=(1.4, 1, 1.6))
