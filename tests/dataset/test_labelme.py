"""LabelMe files: what LabelMe writes is understood, what it does not know comes back, what is wrong is told."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rakelight.dataset.annotations import Annotation, Region, State, Visibility, annotation_of, class_map
from rakelight.dataset.defects import DefectTable
from rakelight.dataset.drawings import ReadOptions
from rakelight.dataset.labelme import labelme_document, read_labelme
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.rasterise import cover
from rakelight.dataset.shapes import Circle, Line, MaskShape, Polygon, Rectangle, mask_shape
from rakelight.errors import RakelightError

H, W = 40, 60
KEY = SampleKey("knob_cap", "scratch", 1)
PICTURE = "knob_cap_0001_scratch_RGBL05_20251123021300.jpg"


def png(pixels: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", pixels.astype(np.uint8))[1].tobytes()).decode()


def shape(kind: str, points: Any, label: str = "scratch", **more: Any) -> dict[str, Any]:
    """A shape to the letter as LabelMe 5 saves it."""
    usual = {"group_id": None, "description": "", "shape_type": kind, "flags": {}, "mask": None}
    return {"label": label, "points": points, **usual, **more}


def document(*shapes: Any, **more: Any) -> dict[str, Any]:
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": PICTURE,
        "imageData": None,
        "imageHeight": H,
        "imageWidth": W,
        **more,
    }


def read(tmp_path: Path, data: Any, **options: Any) -> Any:
    path = tmp_path / "drawing.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return read_labelme(path, ReadOptions(**options))


def pixels_of(region: Region) -> np.ndarray:
    whole = np.zeros((H, W), np.bool_)
    patch = cover(region.shape, (H, W))
    whole[patch.box] = patch.inside
    return whole


def test_coordinates_move_from_corners_to_centres(tmp_path: Path) -> None:
    drawing = read(tmp_path, document(shape("rectangle", [[10, 5], [20, 8]])))
    assert drawing.regions[0].shape == Rectangle(points=((9.5, 4.5), (19.5, 7.5)))
    covered = pixels_of(drawing.regions[0])
    assert covered.sum() == 30 and covered[5:8, 10:20].all()  # pixels 10 … 19, as on LabelMe's screen
    assert drawing.size == (H, W)
    assert drawing.names[0] == PICTURE
    assert drawing.tool == "labelme 5.5.0"


def test_every_kind_of_shape(tmp_path: Path) -> None:
    patch = np.zeros((3, 4))
    patch[1, 1:3] = 255
    drawing = read(
        tmp_path,
        document(
            shape("polygon", [[1, 1], [5, 1], [5, 4]]),
            shape("oriented_rectangle", [[10, 10], [14, 12], [13, 14], [9, 12]]),
            shape("circle", [[20.5, 20.5], [23.5, 24.5]]),
            shape("line", [[30.5, 10.5], [40.5, 10.5]]),
            shape("linestrip", [[30.5, 20.5], [40.5, 20.5], [40.5, 30.5]], rakelight={"width_px": 3}),
            shape("mask", [[50, 30], [53, 32]], mask=png(patch)),
            shape("polygon", [[1, 30], [9, 30], [9, 38]], label="Ignore"),
        ),
        line_width_px=7,
    )
    kinds = [r.shape.kind for r in drawing.regions]
    assert kinds == ["polygon", "polygon", "circle", "line", "line", "mask", "polygon"]
    assert drawing.regions[2].shape == Circle(centre=(20, 20), radius_px=5)
    assert drawing.regions[3].shape == Line(points=((30, 10), (40, 10)), width_px=7)
    assert drawing.regions[4].shape.width_px == 3
    assert np.argwhere(pixels_of(drawing.regions[5])).tolist() == [[31, 51], [31, 52]]
    assert drawing.regions[6].ignore and drawing.regions[6].defect == ""


def test_names_as_people_type_them(tmp_path: Path) -> None:
    triangle = [[1, 1], [5, 1], [5, 4]]
    drawing = read(tmp_path, document(shape("polygon", triangle, "Deep Scratch"), shape("polygon", triangle, "HS")),
                   rename={"HS": "hairline"})  # fmt: skip
    assert [r.defect for r in drawing.regions] == ["deep_scratch", "hairline"]


def example() -> Annotation:
    ring = np.zeros((9, 9), np.bool_)
    ring[1:8, 1:8] = True
    ring[3:5, 3:6] = False
    ring[0, 8] = True  # touches nothing: a second area
    drawn = mask_shape(ring, 40, 20)
    assert drawn is not None
    hole = ((6.0, 6.0), (9.0, 6.0), (9.0, 9.0))
    seen = Visibility(rgb="visible", xyz="invisible")
    regions = (
        Region(
            defect="scratch",
            shape=Polygon(points=((2.1, 3.2), (14.7, 3.3), (12.123457, 15)), holes=(hole,)),
            visibility=seen,
            certainty=0.7,
            note="deep",
            group=3,
            extra={"score": 0.5, "flags": {"seen_before": True}},
        ),
        Region(defect="dent", shape=Rectangle(points=((20, 2), (25, 9)))),
        Region(defect="dent", shape=Circle(centre=(30.1, 30.3), radius_px=4.7), ignore=True),
        Region(defect="hair", shape=Line(points=((3, 30), (9, 36), (15, 30)), width_px=2.5)),
        Region(shape=Rectangle(points=((50, 2), (55, 6))), ignore=True),
        Region(defect="stain", shape=drawn),
    )
    state = State(regions=regions, annotator="anna", extra={"lineColor": [0, 255, 0], "flags": {"checked": True}})
    return annotation_of(state, (H, W))


@pytest.mark.parametrize("masks", ["polygon", "mask"])
def test_out_and_back_keeps_pixels_and_facts(tmp_path: Path, masks: str) -> None:
    before = example()
    sent = labelme_document(before, PICTURE, KEY, masks=masks)
    assert sent["imageData"] is None
    assert all(type(v) is bool for s in sent["shapes"] for v in s["flags"].values())  # LabelMe 7 refuses anything else
    drawing = read(tmp_path, sent)
    table = DefectTable().with_names(["scratch", "dent", "hair", "stain"])
    after = annotation_of(State(regions=drawing.regions), (H, W))
    np.testing.assert_array_equal(class_map(before, (H, W), table), class_map(after, (H, W), table))
    facts = [r.model_dump(exclude={"shape"}) for r in drawing.regions]
    assert [f for n, f in enumerate(facts) if f not in facts[:n]] == [
        r.model_dump(exclude={"shape"}) for r in before.regions
    ]
    assert drawing.regions[:5] == before.regions[:5]  # also as they were drawn
    assert (drawing.extra, drawing.annotator) == (before.extra, "anna")
    assert drawing.names[-1] == "knob_cap/NG/scratch/S0001"
    assert isinstance(drawing.regions[5].shape, MaskShape if masks == "mask" else Polygon)


def test_keys_of_other_programs_survive_an_edit_in_labelme(tmp_path: Path) -> None:
    """LabelMe keeps keys it does not know, of the file and of shapes; somebody moves a point meanwhile."""
    sent = labelme_document(example(), PICTURE, KEY)
    sent["shapes"][0]["points"][1][0] += 1
    drawing = read(tmp_path, sent)
    assert drawing.regions[0].extra == {"score": 0.5, "flags": {"seen_before": True}}
    assert drawing.regions[0].certainty == 0.7
    again = labelme_document(annotation_of(State(regions=drawing.regions, extra=drawing.extra), (H, W)), PICTURE, KEY)
    assert again["shapes"][0] == sent["shapes"][0]
    assert (again["lineColor"], again["flags"]) == (sent["lineColor"], sent["flags"])


TRIANGLE = [[1, 1], [5, 1], [5, 4]]
FULL = png(np.full((3, 4), 255))


@pytest.mark.parametrize(
    "data, message",
    [
        ([], "no LabelMe file"),
        ({"shapes": 3}, "no list of shapes"),
        (document(7), "no label"),
        (document({"label": 3}), "no label"),
        (document(shape("polygon", [[1, 1], [2, 2]])), "at least 3 items"),
        (document(shape("polygon", [[1, 1], [2, "x"], [3, 3]])), "not numbers"),
        (document(shape("polygon", [[1, 1, 1], [2, 2, 2], [3, 3, 3]])), "pairs of numbers"),
        (document(shape("polygon", [[1, 1], [1e9, 2], [3, 3]])), "100000"),
        (document(shape("rectangle", [[1, 1]])), "2 points, this one 1"),
        (document(shape("circle", [[5, 5], [5, 5]])), "radius_px"),
        (document(shape("point", [[5, 5]])), "has no area"),
        (document(shape("blob", TRIANGLE)), "'blob' is not known"),
        (document(shape(["polygon"], TRIANGLE)), "is not known"),  # type: ignore[arg-type]
        (document(shape("mask", [[1, 1], [4, 3]])), "PNG in base64"),
        (document(shape("mask", [[1, 1], [4, 3]], mask="###")), "no base64"),
        (document(shape("mask", [[1, 1], [4, 3]], mask="aGVsbG8=")), "not that of a .png"),
        (document(shape("mask", [[1, 1], [30, 3]], mask=FULL)), "its mask has 4 × 3 px"),
        (document(shape("mask", [[1, 1], [4, 3]], mask=png(np.zeros((3, 4))))), "mask is empty"),
        (document(shape("polygon", TRIANGLE, rakelight={"certainty": 2})), "certainty"),
        (document(shape("polygon", TRIANGLE, rakelight={"visibility": {"rgb": "perhaps"}})), "visibility.rgb"),
        (document(shape("polygon", TRIANGLE, description="x" * 3000)), "note"),
        (document(shape("linestrip", [[1, 1], [2, 2]], rakelight={"width_px": "NaN"})), "width_px"),
        (document(imageHeight="40"), "whole numbers above 0"),
        ('{"shapes": [{"label": "a", "points": [[NaN, 1]]}]}', "NaN is not a JSON number"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(RakelightError, match=message) as caught:
        read(tmp_path, data)
    assert "drawing.json" in caught.value.message


def damaged(value: Any, rng: random.Random) -> Any:
    """Plain data with one thing in it replaced, or taken away."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.15:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: damaged(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        return [*value[:place], damaged(value[place], rng), *value[place + 1 :]]
    return rng.choice([None, True, -1, 0, 1e300, -3.5, "", "x", [], {}, [1], {"a": 1}, 10**30, "\ud800", [[]], value])


def test_damaged_files_raise_our_errors_only(tmp_path: Path) -> None:
    rng = random.Random(7)
    whole = labelme_document(example(), PICTURE, KEY, masks="mask")
    refused = 0
    for _ in range(500):
        try:
            read(tmp_path, json.dumps(damaged(whole, rng)))
        except RakelightError:
            refused += 1
    assert 100 < refused < 500
    text = json.dumps(whole).encode()
    for _ in range(200):
        at = rng.randrange(len(text))
        (tmp_path / "bytes.json").write_bytes(
            text[:at] + bytes([rng.randrange(256)]) + text[at + rng.choice([0, 1, 99]) :]
        )
        try:
            read_labelme(tmp_path / "bytes.json", ReadOptions())
        except RakelightError:
            refused += 1
    assert refused > 200
