"""Parts: what a sample of a data set becomes in the working frame, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset
from rakelight.detection import foreground, native
from rakelight.detection.foreground import MaskCache
from rakelight.detection.ignore import ignore_from_sample, read_ignore
from rakelight.detection.parts import from_arrays, load_part, load_parts, need, warp_to_native
from rakelight.detection.registration import make_template
from rakelight.errors import DatasetError, InputError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, part_scenes: Any) -> Path:
    """Two good samples, one with a defect, one without XYZ and part mask."""
    dataset = Dataset.init(tmp_path_factory.mktemp("set") / "set", "parts")
    with dataset.writer() as writer:
        for n in range(3):
            a = part_scenes.draw(4.0 * n, (3.0 * n, -2.0 * n), seed=n)
            defect = None
            if n == 2:
                defect = np.zeros(a["mask"].shape, np.uint8)
                defect[80:90, 118:130] = 255
            writer.commit(
                SampleContent(
                    "lever",
                    "stain" if n == 2 else "OK",
                    "0" * 14,
                    {5: a["rgb"]},
                    ps=a["ps"],
                    mask=defect,
                    xyz=a["xyz"],
                    part_mask=a["mask"],
                    specimen=f"lever {n}",
                    pitch_mm=a["pitch_mm"],
                )
            )
        writer.commit(SampleContent("lever", "OK", "0" * 14, {5: part_scenes.draw(seed=7)["rgb"]}))
    return dataset.root


def sample(root: Path, number: int, label: str = "OK") -> OpenSample:
    return OpenSample(root, SampleKey("lever", label, number))


def test_a_sample_becomes_a_part(root: Path) -> None:
    part = load_part(sample(root, 1, "stain"), size=128)
    assert (part.key, part.specimen, part.label) == ("lever/NG/stain/S0001", "lever 2", "stain")
    assert part.available == {"rgb", "ps", "xyz"} and part.native_size == (180, 240)
    assert part.rgb is not None and part.rgb.shape == (128, 128, 3) and part.rgb.dtype == np.uint8
    assert part.xyz is not None and part.xyz.dtype == np.float32
    assert part.defect is not None and part.defect.shape == (180, 240)
    assert part.facts["foreground"] == "stored" and part.facts["xyz_xy"] == "as measured"
    assert part.facts["measured_share"] == 1 and part.facts["cut_share"] < 0.02
    rows, columns = np.nonzero(part.mask)
    margins = min(rows.min(), columns.min()), max(rows.max(), columns.max())
    assert margins[0] > 0.06 * 128 and margins[1] < 0.94 * 128  # a tenth of the part's length


def test_what_a_sample_lacks_is_absent_and_named(root: Path) -> None:
    part = load_part(sample(root, 3))
    assert part.available == {"rgb"} and part.ps is None and part.xyz is None
    assert part.facts["foreground"] == "whole picture" and part.mask.mean() > 0.5
    with pytest.raises(DatasetError, match=r"lever/OK/S0003 has no XYZ \(xyz\)") as caught:
        need(part, "xyz")
    assert "RADAR" in caught.value.hint
    less = load_part(sample(root, 1), available=frozenset({"xyz"}))
    assert less.available == {"xyz"} and less.rgb is None
    with pytest.raises(DatasetError, match="none of the modalities"):
        load_part(sample(root, 3), available=frozenset({"ps"}))


def test_scores_find_back_to_native_pixels(root: Path) -> None:
    """A mark at a native pixel lies, warped there and back, at the same pixel."""
    template = make_template(list(load_parts(root, "lever", labels=["OK"], keys=[SampleKey("lever", "OK", 1)])))
    part = load_part(sample(root, 1, "stain"), template=template)
    assert part.defect is not None
    there = cv2.warpAffine((part.defect > 0).astype(np.float32), part.to_native, (224, 224))
    back = warp_to_native(there, part)
    assert back.shape == part.native_size
    both = (back > 0.5) & (part.defect > 0)
    assert both.sum() / ((back > 0.5) | (part.defect > 0)).sum() > 0.85
    assert warp_to_native(there, part, outside=-1.0)[0, 0] == -1
    with pytest.raises(InputError, match="map of lever"):
        warp_to_native(there[:100], part)


def test_parts_stream_in_order_and_missing_keys_are_named(root: Path) -> None:
    assert [p.key for p in load_parts(root, "lever", labels=["OK"])] == [f"lever/OK/S000{n}" for n in (1, 2, 3)]
    with pytest.raises(DatasetError, match="no sample lever/OK/S0009"):
        list(load_parts(root, "lever", keys=[SampleKey("lever", "OK", 9)]))
    with pytest.raises(DatasetError, match="no sample of 'lever' labelled bent"):
        list(load_parts(root, "lever", labels=["bent"]))


def test_the_part_is_found_without_a_mask(part_scenes: Any) -> None:
    arrays = part_scenes.draw(20, seed=3)
    truth = arrays.pop("mask")
    found, how = foreground.find_part(native.make_native("x", **arrays))
    assert how == "above the table"
    assert (found & truth).sum() / (found | truth).sum() > 0.97
    again, _ = foreground.find_part(native.make_native("x", **arrays))
    assert np.array_equal(found, again)
    cut = arrays["xyz"].copy()
    cut[~truth] = np.nan  # the background was taken away before
    found, how = foreground.find_part(native.make_native("x", **(arrays | {"xyz": cut})))
    assert how == "measured points" and (found & truth).sum() / (found | truth).sum() > 0.97
    zeros = np.nan_to_num(cut)  # … and marked as the MVTec way has it
    assert foreground.find_part(native.make_native("x", **(arrays | {"xyz": zeros})))[1] == "measured points"


def test_computed_masks_are_kept(root: Path, part_scenes: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dataset = Dataset.init(tmp_path / "bare", "bare")
    a = part_scenes.draw(seed=1)
    with dataset.writer() as writer:
        writer.commit(SampleContent("lever", "OK", "0" * 14, {5: a["rgb"]}, xyz=a["xyz"], pitch_mm=0.1))
    cache = MaskCache()
    first = load_part(sample(dataset.root, 1), cache=cache)

    def never(*_: Any, **__: Any) -> None:
        pytest.fail("the table was fitted again")

    monkeypatch.setattr(foreground, "fit_table", never)
    second = load_part(sample(dataset.root, 1), cache=cache)
    assert np.array_equal(first.mask, second.mask) and second.facts["foreground"] == "above the table"


@pytest.mark.parametrize("pitch", [0.1, None])
def test_placeholders_are_no_coordinates(part_scenes: Any, pitch: float | None) -> None:
    arrays = part_scenes.draw(seed=2)
    true = from_arrays("true", **arrays)
    flat = arrays["xyz"].copy()
    flat[..., :2] = 0.166
    found = native.make_native("x", **(arrays | {"xyz": flat, "pitch_mm": pitch}), xyz_xy=None)
    assert found.xyz is not None
    assert found.facts["xyz_xy"] == ("from the pitch" if pitch else "pixel index")
    assert found.facts["xyz_unit"] == ("mm" if pitch else "x and y in pixels, z in mm")
    step = pitch or 1.0
    assert found.xyz[0, 1, 0] - found.xyz[0, 0, 0] == pytest.approx(step, rel=1e-4)
    assert found.xyz[1, 0, 1] - found.xyz[0, 0, 1] == pytest.approx(step, rel=1e-4)
    assert true.facts["xyz_xy"] == "as measured"
    if pitch:
        again = from_arrays("again", **(arrays | {"xyz": found.xyz}))
        assert true.xyz is not None and again.xyz is not None
        assert np.nanmax(np.abs(true.xyz - again.xyz)) < 1e-3


def test_maps_of_other_sizes_show_the_same_field(part_scenes: Any) -> None:
    """XYZ and pseudo-3D of half the pixels land on the same working pixels."""
    fine, coarse = part_scenes.draw(10, zoom=2.0, seed=1), part_scenes.draw(10, seed=1)
    whole = from_arrays("whole", **fine)
    mixed = from_arrays("mixed", **(fine | {"xyz": coarse["xyz"], "ps": coarse["ps"]}))
    assert whole.xyz is not None and mixed.xyz is not None and whole.ps is not None and mixed.ps is not None
    both = np.isfinite(whole.xyz[..., 0]) & np.isfinite(mixed.xyz[..., 0])
    assert np.percentile(np.abs(whole.xyz - mixed.xyz)[both], 95) < 0.08
    assert np.median(np.abs(whole.ps.astype(int) - mixed.ps)[whole.mask]) <= 2


def test_pictures_shrink_by_area(part_scenes: Any) -> None:
    """A checkerboard far below the working resolution becomes its mean, not one of its colours."""
    arrays = part_scenes.draw(zoom=6.0, pattern=False)
    board = (np.indices(arrays["mask"].shape).sum(axis=0) % 2 * 200).astype(np.uint8)
    part = from_arrays("board", **(arrays | {"rgb": np.repeat(board[..., None], 3, axis=2)}), size=64)
    assert part.rgb is not None
    assert np.abs(part.rgb[part.mask].astype(float) - 100).max() < 15


def test_ignored_pixels_follow_the_template(root: Path, tmp_path: Path) -> None:
    template = make_template(list(load_parts(root, "lever", keys=[SampleKey("lever", "OK", 1)])))
    part = load_part(sample(root, 1), template=template)
    drawn = np.zeros(part.native_size, np.uint8)
    drawn[80:100, 110:130] = 1
    ignore = ignore_from_sample(drawn, part)
    assert 0 < ignore.sum() < 0.2 * ignore.size
    cv2.imwrite(str(tmp_path / "ignore.png"), ignore.astype(np.uint8) * 255)
    read = read_ignore(tmp_path / "ignore.png")
    assert np.array_equal(read, ignore)
    small = load_part(sample(root, 2), template=template, ignore=read, size=112)
    assert small.ignore.shape == (112, 112) and small.ignore.mean() == pytest.approx(ignore.mean(), rel=0.1)
    with pytest.raises(DatasetError, match="ignore mask has 240×10"):
        ignore_from_sample(drawn[:10], part)
    cv2.imwrite(str(tmp_path / "long.png"), drawn)
    with pytest.raises(DatasetError, match="240×180 pixels; it must be square"):
        read_ignore(tmp_path / "long.png")
    with pytest.raises(DatasetError, match="must be square"):
        load_part(sample(root, 2), ignore=np.zeros((5, 6), np.bool_))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"mask": np.zeros((180, 240), np.bool_)}, "detect.empty_foreground"),
        ({"mask": np.ones((90, 240), np.bool_)}, "detect.mask_size"),
        ({"xyz": np.full((180, 240, 3), np.nan, np.float32)}, "detect.xyz_empty"),
        ({"rgb": None, "ps": None, "xyz": None}, "detect.no_modality"),
        ({"pitch_mm": -1.0}, "input.range"),
    ],
)
def test_bad_arrays_are_refused(part_scenes: Any, change: dict[str, Any], code: str) -> None:
    with pytest.raises((DatasetError, InputError), match="thing") as caught:
        from_arrays("thing", **(part_scenes.draw() | change))
    assert caught.value.code == code


def test_a_defect_mask_of_another_size_is_refused(part_scenes: Any) -> None:
    with pytest.raises(DatasetError, match="defect mask has 10×10 pixels, the picture 240×180"):
        native.make_native("thing", **part_scenes.draw(), defect=np.zeros((10, 10), np.uint8))


def test_points_missing_on_the_part_only(part_scenes: Any) -> None:
    arrays = part_scenes.draw()
    hole = arrays["xyz"].copy()
    hole[:, :120] = np.nan
    part = from_arrays("half", **(arrays | {"xyz": hole}))
    assert 0.3 < part.facts["measured_share"] < 0.7
    hole[arrays["mask"]] = np.nan
    with pytest.raises(DatasetError, match="no measured point on the part"):
        from_arrays("none", **(arrays | {"xyz": hole}))


@pytest.mark.parametrize("size", [0, 16, 225, 4096])
def test_odd_sizes_are_refused(part_scenes: Any, size: int) -> None:
    with pytest.raises(InputError, match=f"working size {size}"):
        from_arrays("x", **part_scenes.draw(), size=size)
