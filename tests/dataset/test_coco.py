"""COCO files, CVAT's among them: run-length code to the letter, pixels out and back, errors."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rakelight.dataset.annotations import Annotation, Region, State, Visibility, annotation_of, class_map
from rakelight.dataset.coco import coco_document, read_coco
from rakelight.dataset.coco_rle import decode_rle, encode_rle, pack_counts, unpack_counts
from rakelight.dataset.defects import DefectTable
from rakelight.dataset.drawings import Drawing, ReadOptions
from rakelight.dataset.labelme import labelme_document
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.mask_files import read_cvat_masks, read_mask
from rakelight.dataset.shapes import Circle, Polygon, Rectangle, mask_shape
from rakelight.errors import DatasetError, RakelightError

H, W = 40, 60
PICTURE = "knob_cap_0001_scratch_RGBL05_20251123021300.jpg"
KEY = "knob_cap/NG/scratch/S0001"


def disc() -> np.ndarray:
    v, u = np.mgrid[:60, :80]
    return (u - 40) ** 2 + (v - 25) ** 2 <= 15**2


def long_thin() -> np.ndarray:
    mask = np.zeros((2000, 3000), np.bool_)
    mask[100:1900, 1500:1502] = True
    mask[0, 0] = True
    return mask


@pytest.mark.parametrize(
    "mask, text",
    [
        (np.zeros((4, 5), np.bool_), "d0"),
        (np.ones((4, 5), np.bool_), "0d0"),
        (disc(), "e_11f1:I4L4M2N2N2O0O2O0O2O0000000O20N100000001N101N101N2N2N3L4L7F\\\\1"),
        (long_thin(), "01Siak2Wh1U]^TM0le]k2"),
    ],
)
def test_packed_runs_are_those_of_pycocotools(mask: np.ndarray, text: str) -> None:
    """``pycocotools.mask.encode`` of version 2.0.11 gave these strings."""
    assert encode_rle(mask) == text
    np.testing.assert_array_equal(decode_rle(text, list(mask.shape), "a mask"), mask)


@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_runs_out_and_back(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_rle(encode_rle(mask), list(mask.shape), "a mask"), mask)


@given(st.lists(st.integers(0, 1 << 28), min_size=1))
def test_any_counts_pack_and_unpack(counts: list[int]) -> None:
    assert unpack_counts(pack_counts(counts), "counts") == counts


@pytest.mark.parametrize(
    "counts, size, message",
    [
        ("d0", [4, 6], "sum to 20"),
        ("d0\x7f", [4, 5], "counts hold"),
        ("oooooooooo", [4, 5], "35 bits"),
        ("P", [4, 5], "break off"),
        ([25, -5], [4, 5], "whole numbers"),
        ([20.0], [4, 5], "whole numbers"),
        (None, [4, 5], "whole numbers"),
        ("d0", [4], "its size"),
        ("d0", [10**6, 10**6], "its size"),
        ("d0", "45", "its size"),
    ],
)
def test_runs_that_cannot_be(counts: Any, size: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        decode_rle(counts, size, "annotation 3")
    assert caught.value.code == "annotation.rle"


# --- files ---
def cvat(*drawn: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A file as CVAT's "COCO 1.0" export writes it."""
    return {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""},
        "categories": [{"id": 1, "name": "scratch", "supercategory": ""}, {"id": 2, "name": "dent", "supercategory": ""}],
        "images": [
            {"id": 1, "width": W, "height": H, "file_name": PICTURE, "license": 0, "flickr_url": "", "coco_url": "",
             "date_captured": 0}
        ],
        "annotations": list(drawn),
        **more,
    }  # fmt: skip


def one(segmentation: Any, number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": 1,
        "category_id": 1,
        "segmentation": segmentation,
        "area": 1.0,
        "bbox": [0.0, 0.0, 1.0, 1.0],
        "iscrowd": 0,
        "attributes": {"occluded": False},
        **more,
    }


def read(tmp_path: Path, data: Any) -> list[Drawing | DatasetError]:
    path = tmp_path / "instances_default.json"
    path.write_text(json.dumps(data))
    return list(read_coco(path, ReadOptions()))


def only(tmp_path: Path, data: Any) -> Drawing:
    (drawing,) = read(tmp_path, data)
    assert isinstance(drawing, Drawing), drawing
    return drawing


def test_what_cvat_exports(tmp_path: Path) -> None:
    mask = np.zeros((H, W), np.bool_)
    mask[10:13, 20:22] = True
    mask[12, 22] = True
    runs = [20 * H + 10, 3, 37, 3, 39, 1]
    runs.append(H * W - sum(runs))
    drawing = only(
        tmp_path,
        cvat(
            one([[1.0, 1.0, 5.0, 1.0, 5.0, 4.0]]),
            one({"counts": runs, "size": [H, W]}, 2, iscrowd=1, category_id=2),
            one({"counts": encode_rle(mask), "size": [H, W]}, 3, iscrowd=1),
            one([], 4, bbox=[10, 5, 10, 3]),
            one([[1, 1, 5, 1, 5, 4], [11, 1, 15, 1, 15, 4]], 5),
            one([[1, 1, 5, 1, 5, 4]], 6, attributes={"ignore": True, "certainty": "0.5", "occluded": False}),
        ),
    )
    first, second, third, fourth, fifth, sixth, last = drawing.regions
    assert first == Region(defect="scratch", shape=Polygon(points=((0.5, 0.5), (4.5, 0.5), (4.5, 3.5))))
    assert (second.defect, second.ignore) == ("dent", False)  # iscrowd only says that it is a mask
    assert second.shape == third.shape == mask_shape(mask)
    assert fourth.shape == Rectangle(points=((9.5, 4.5), (19.5, 7.5)))
    assert fifth.group == sixth.group == 1
    assert (last.ignore, last.certainty, last.defect) == (True, 0.5, "scratch")
    assert drawing.size == (H, W) and drawing.names == (PICTURE,)


def test_out_and_back_covers_the_same_pixels(tmp_path: Path) -> None:
    speckled = mask_shape(np.random.default_rng(1).random((9, 9)) < 0.5, 45, 20)
    assert speckled is not None
    hole = ((6.0, 6.0), (9.0, 6.0), (9.0, 9.0))
    regions = (
        Region(defect="scratch", shape=Polygon(points=((2.1, 3.2), (14.7, 3.3), (12.123457, 15))), certainty=0.7),
        Region(defect="dent", shape=Polygon(points=((2, 3), (14.5, 3), (12, 15)), holes=(hole,)), note="here"),
        Region(defect="dent", shape=Rectangle(points=((20, 2), (25, 9))), visibility=Visibility(ps="visible")),
        Region(defect="scratch", shape=Circle(centre=(30.1, 30.3), radius_px=4.7), extra={"track": 4}),
        Region(shape=Rectangle(points=((50, 2), (55, 6))), ignore=True),
        Region(defect="scratch", shape=Polygon(points=((31, 3), (35, 3), (35, 5))), group=1),
        Region(defect="scratch", shape=Polygon(points=((41, 3), (45, 3), (45, 5))), group=1),
        Region(defect="dent", shape=speckled),
    )
    before = annotation_of(State(regions=regions, annotator="anna"), (H, W))
    sent = coco_document([(PICTURE, KEY, before)], ["dent", "scratch", "ignore"])
    assert len(sent["annotations"]) == 7
    for drawn in sent["annotations"]:
        assert drawn["iscrowd"] == isinstance(drawn["segmentation"], dict)
    assert sent["annotations"][2]["bbox"] == [20, 2, 5, 7] and sent["annotations"][2]["area"] == 35
    drawing = only(tmp_path, sent)
    table = DefectTable().with_names(["scratch", "dent"])
    after: Annotation = annotation_of(State(regions=drawing.regions), (H, W))
    np.testing.assert_array_equal(class_map(before, (H, W), table), class_map(after, (H, W), table))
    assert [r.model_dump(exclude={"shape"}) for r in drawing.regions] == [
        r.model_dump(exclude={"shape"}) for r in regions
    ]
    assert (drawing.annotator, drawing.names) == ("anna", (PICTURE, KEY))


def test_keys_that_other_programs_left_replace_none_of_the_formats() -> None:
    foreign = {"id": 99, "bbox": "x", "label": "other", "points": [], "flags": 7, "group_id": "g", "own": 1}
    region = Region(defect="scratch", shape=Rectangle(points=((2, 3), (5, 6))), extra=foreign)
    annotation = annotation_of(State(regions=(region,)), (H, W))
    drawn = coco_document([(PICTURE, KEY, annotation)], ["scratch"])["annotations"][0]
    assert (drawn["id"], drawn["bbox"], drawn["own"]) == (1, [2, 3, 3, 3], 1)
    shape = labelme_document(annotation, PICTURE, SampleKey.parse(KEY))["shapes"][0]
    assert (shape["label"], shape["group_id"], shape["flags"], shape["own"]) == ("scratch", None, {}, 1)
    assert len(shape["points"]) == 2


def test_one_bad_picture_does_not_stop_the_others(tmp_path: Path) -> None:
    pictures = [{"id": n, "width": W, "height": H, "file_name": f"{n}.jpg"} for n in (1, 2)]
    bad = one([[1, 1, 5, 1]], 1)
    good = one([[1, 1, 5, 1, 5, 4]], 2, image_id=2)
    lost = one([[1, 1, 5, 1, 5, 4]], 3, image_id=9)
    first, second, third = read(tmp_path, cvat(bad, good, lost, images=pictures))
    assert isinstance(first, DatasetError) and "annotation 1" in first.message and "4 numbers" in first.message
    assert isinstance(second, Drawing) and len(second.regions) == 1
    assert isinstance(third, DatasetError) and "image 9" in third.message


@pytest.mark.parametrize(
    "drawn, message",
    [
        (one([[1, 1, 5, 1, 5]]), "5 numbers"),
        (one([["a", 1, 5, 1, 5, 4]]), "not numbers"),
        (one([[[1, 1], [5, 1], [5, 4]]]), "plain list"),
        (one({"counts": [H * W], "size": [H, W]}), "mask is empty"),
        (one({"counts": [1, 1], "size": [1, 2]}), "its picture has other size"),
        (one([], bbox=None), "not numbers|plain list"),
        (one([], bbox=[1, 2, 0, 0, 5]), "bbox of 4"),
        (one([[1, 1, 5, 1, 5, 4]], category_id=7), "category_id 7"),
        (one([[1, 1, 5, 1, 5, 4]], attributes={"certainty": "much"}), "certainty"),
        (one([[1, 1, 5, 1, 5, 4]], rakelight={"certainty": 3}), "certainty"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path: Path, drawn: Any, message: str) -> None:
    (found,) = read(tmp_path, cvat(drawn))
    assert isinstance(found, DatasetError)
    assert re.search(message, found.message), found.message


def test_no_coco_file_at_all(tmp_path: Path) -> None:
    for data in ([], {}, {"images": 3, "annotations": [], "categories": []}, cvat(images=[7])):
        with pytest.raises(DatasetError, match="no COCO file"):
            read(tmp_path, data)


def test_damaged_files_raise_our_errors_only(tmp_path: Path) -> None:
    rng = random.Random(3)
    whole = json.dumps(
        cvat(one([[1.0, 1.0, 5.0, 1.0, 5.0, 4.0]]), one({"counts": encode_rle(disc()[:H, :W]), "size": [H, W]}, 2))
    )
    path, refused = tmp_path / "damaged.json", 0
    for _ in range(500):
        at = rng.randrange(len(whole))
        path.write_bytes((whole[:at] + chr(rng.randrange(32, 127)) + whole[at + rng.choice([0, 1, 9]) :]).encode())
        try:
            refused += any(isinstance(d, DatasetError) for d in read_coco(path, ReadOptions()))
        except RakelightError:
            refused += 1
    assert 100 < refused < 500


# --- masks as pictures ---
def test_masks_of_0_and_255_or_1(tmp_path: Path) -> None:
    for value in (1, 255):
        pixels = np.zeros((H, W), np.uint8)
        pixels[3:6, 4:9] = value
        cv2.imwrite(str(tmp_path / "m.png"), pixels)
        drawing = read_mask(tmp_path / "m.png", ReadOptions(mask_defect="dent"))
        assert drawing.size == (H, W) and drawing.pixels_only
        assert drawing.regions == (Region(defect="dent", shape=mask_shape(pixels > 0)),)
    cv2.imwrite(str(tmp_path / "m.png"), np.full((H, W), 7, np.uint8))
    with pytest.raises(DatasetError, match="values"):
        read_mask(tmp_path / "m.png", ReadOptions())
    cv2.imwrite(str(tmp_path / "m.png"), np.zeros((H, W, 3), np.uint8))
    with pytest.raises(DatasetError, match="one channel"):
        read_mask(tmp_path / "m.png", ReadOptions())


def test_masks_in_cvats_colours(tmp_path: Path) -> None:
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nscratch:250,50,83::\nDent:51,221,255::\n"
    )
    folder = tmp_path / "SegmentationClass"
    folder.mkdir()
    pixels = np.zeros((H, W, 3), np.uint8)
    pixels[2:4, 3:9] = (250, 50, 83)
    pixels[20:30, 3:9] = (51, 221, 255)
    cv2.imwrite(str(folder / f"{Path(PICTURE).stem}.png"), pixels[..., ::-1])
    cv2.imwrite(str(folder / "zz.png"), np.full((4, 4, 3), 9, np.uint8))
    drawing, bad = read_cvat_masks(tmp_path, ReadOptions())
    assert isinstance(drawing, Drawing) and isinstance(bad, DatasetError)
    assert [r.defect for r in drawing.regions] == ["scratch", "dent"]
    assert drawing.regions[0].shape == mask_shape(np.ones((2, 6), np.bool_), 3, 2)
    assert "9,9,9" in bad.message
    for line in ("a:1,2", "a:1,2,300::", "a:1,2,3::\nb:1,2,3::", ":1,2,3::"):
        (tmp_path / "labelmap.txt").write_text(line)
        with pytest.raises(DatasetError, match="line"):
            list(read_cvat_masks(tmp_path, ReadOptions()))
