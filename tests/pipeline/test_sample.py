"""A reconstructed recording as a sample of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rakelight.dataset.recording import Recording
from rakelight.dataset.writer import Dataset
from rakelight.errors import RakelightError
from rakelight.pipeline.pictures import picture
from rakelight.pipeline.reconstruct import Reconstruction, reconstruct
from rakelight.pipeline.sample import choose_views, make_sample


@pytest.fixture(scope="module")
def part(scenes: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recording, Reconstruction]:
    recording = scenes.record(tmp_path_factory.mktemp("part") / "p1", scenes.part(), "BayerRG12", dark=scenes.BLACK)
    return recording, reconstruct(recording, scenes.calibration())


def sample(part: tuple[Recording, Reconstruction], **options: Any) -> Any:
    return make_sample(*part, category="knob_cap", label="OK", **options)


def srgb(linear: float) -> int:
    """IEC 61966-2-1."""
    return round(255 * (12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055))


# ------------------------------------------------------------------------------------------------------------------- views
def test_views_are_zones_one_to_four(scenes: Any) -> None:
    assert {v: x.zone for v, x in choose_views(scenes.calibration().lights).items()} == {1: 1, 2: 2, 3: 3, 4: 4}
    three = scenes.calibration(zones=(1, 2, 4, 9)).lights[:3]
    assert {v: x.zone for v, x in choose_views(three).items()} == {1: 1, 2: 2, 4: 4}


def test_views_of_twelve_lights_are_the_nearest_in_azimuth(scenes: Any) -> None:
    views = choose_views(scenes.calibration(12).lights)
    assert {v: round(x.azimuth_deg) for v, x in views.items()} == {1: 0, 2: 90, 3: 180, 4: 270}
    turned = choose_views(scenes.calibration(zones=(11, 12, 13, 14)).lights)
    assert {v: x.zone for v, x in turned.items()} == {1: 11, 2: 12, 3: 13, 4: 14}
    assert len({x.zone for x in choose_views(scenes.calibration(3, zones=(7, 8, 9)).lights).values()}) == 3


# ---------------------------------------------------------------------------------------------------------------- pictures
@pytest.mark.parametrize("pixel_format", ["Mono12", "Mono8", "RGB8", "BayerRG12"])
def test_pictures_have_the_srgb_curve_at_a_fixed_scale(scenes: Any, tmp_path: Path, pixel_format: str) -> None:
    recording = scenes.record(tmp_path / "r", scenes.part(width=16, height=12), pixel_format)
    assert recording.full_scale is not None
    bright = np.full(recording.frame_shape, 0.25 * recording.full_scale, np.float32)
    dim = bright.copy()
    dim[6:] = 0.05 * recording.full_scale  # another part in the same picture must not change the scale
    for image in (bright, dim):
        assert (picture(recording, image)[2:4, 2:-2] == srgb(0.25)).all()
    assert picture(recording, bright).shape == (12, 16, 3)


def test_same_value_is_the_same_byte_in_two_samples(scenes: Any, tmp_path: Path) -> None:
    plates = []
    for name, factor in (("a", 1.0), ("b", 1.6)):
        images = scenes.part()
        images[:, 60:] *= factor
        recording = scenes.record(tmp_path / name, images, dark=scenes.BLACK)
        plates.append(make_sample(recording, reconstruct(recording, scenes.calibration()), category="c", label="OK"))
    assert np.array_equal(plates[0].rgb[1][:60], plates[1].rgb[1][:60])
    assert not np.array_equal(plates[0].rgb[1][60:], plates[1].rgb[1][60:])


def test_gamma_encoded_frames_keep_their_curve(scenes: Any, tmp_path: Path) -> None:
    recording = scenes.record(tmp_path / "r", scenes.part(), "RGB8", linear=False)
    image = recording.read(recording.info.frames[0])
    assert np.array_equal(picture(recording, image), image)


def test_fifth_view_is_all_zones_or_the_mean(scenes: Any, tmp_path: Path, part: Any) -> None:
    assert set(sample(part).rgb) == {1, 2, 3, 4, 5}
    recording = scenes.record(tmp_path / "r", scenes.part(), black=0)
    made = make_sample(recording, reconstruct(recording, scenes.calibration()), category="c", label="OK")
    mean = np.mean([recording.read(f) for f in recording.shots("zone")], axis=0)[90, 120] / 4095
    assert abs(int(made.rgb[5][90, 120, 0]) - srgb(float(mean))) <= 1


def test_ps_picture(part: Any) -> None:
    normals, relief, curvature = (sample(part, ps=kind).ps for kind in ("normals", "relief", "curvature"))
    assert all(p.shape == (180, 240, 3) and p.dtype == np.uint8 for p in (normals, relief, curvature))
    assert np.median(normals[..., 2]) > 230 > np.median(relief[..., 2])
    assert np.array_equal(curvature[..., 0], curvature[..., 2])


# ------------------------------------------------------------------------------------------------------------------- masks
def write_mask(path: Path, mask: np.ndarray) -> Path:
    cv2.imwrite(str(path), mask)
    return path


def test_masks_of_zero_and_one_and_grey_rgb_are_understood(part: Any, tmp_path: Path) -> None:
    mask = np.zeros((180, 240), np.uint8)
    mask[20:40, 30:50] = 1
    for name, stored in (("ones", mask), ("full", 255 * mask), ("rgb", np.repeat(255 * mask[..., None], 3, axis=2))):
        made = sample(part, mask=write_mask(tmp_path / f"{name}.png", stored))
        assert np.array_equal(made.mask, 255 * mask)


@pytest.mark.parametrize(
    "mask",
    [
        np.full((180, 240), 7, np.uint8),
        np.zeros((90, 240), np.uint8),
        np.dstack([np.zeros((180, 240), np.uint8)] * 2 + [np.full((180, 240), 255, np.uint8)]),
        np.zeros((180, 240), np.uint16),
    ],
)
def test_masks_that_do_not_fit_are_refused_and_nothing_is_stored(part: Any, tmp_path: Path, mask: np.ndarray) -> None:
    path = write_mask(tmp_path / "mask.png", mask)
    dataset = Dataset.init(tmp_path / "set", "s")
    with pytest.raises(RakelightError, match="mask"), dataset.writer() as writer:
        writer.commit(make_sample(*part, category="knob_cap", label="scratch", mask=path))
    assert list(dataset.samples()) == []


def test_missing_mask(part: Any, tmp_path: Path) -> None:
    with pytest.raises(RakelightError, match=r"none\.png"):
        sample(part, mask=tmp_path / "none.png")


# ------------------------------------------------------------------------------------------------------------------ commit
def test_committed_sample_is_whole_and_says_where_it_comes_from(part: Any, tmp_path: Path) -> None:
    dataset = Dataset.init(tmp_path / "set", "s")
    made = sample(part, keep_raw="stack")
    with dataset.writer() as writer:
        writer.commit(made)
    assert [dataset.verify_sample(info) for info in dataset.samples()] == [[]]
    assert made.capture["simulated"] is True and made.capture["part_id"] == "p1"
    assert made.capture["views"]["RGBL02"] == {"zone": 2}
    assert made.capture["views"]["RGBL05"] == {"zones": [1, 2, 3, 4]}
    assert made.capture["reconstruction"]["calibration"]["id"] == "truth"
    raw = {p.name for p in tmp_path.rglob("*.tiff")}
    assert {f.file for f in part[0].info.frames} <= raw


def test_frame_damaged_after_the_solve_is_not_committed(scenes: Any, tmp_path: Path) -> None:
    recording = scenes.record(tmp_path / "r", scenes.part(), dark=scenes.BLACK)
    result = reconstruct(recording, scenes.calibration())
    made = make_sample(recording, result, category="c", label="OK", keep_raw="stack")
    path = recording.folder / recording.info.frames[0].file
    path.write_bytes(path.read_bytes()[:-1] + b"\0\0")
    dataset = Dataset.init(tmp_path / "set", "s")
    with pytest.raises(RakelightError, match=path.name), dataset.writer() as writer:
        writer.commit(made)
    assert list(dataset.samples()) == []
