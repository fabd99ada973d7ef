"""From drawings to annotations, masks and labels of samples: what is stored, refused, kept, and left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rakelight.dataset import layout
from rakelight.dataset.annotations import Annotation, Region, check_regions, read_annotation
from rakelight.dataset.defect_points import cloud_points, map_points, write_labelled_points
from rakelight.dataset.defects import (
    DEFECTS_FILE,
    DefectTable,
    described,
    keep_defects,
    new_code,
    read_defects,
    stored_defects,
)
from rakelight.dataset.drawing_files import read_drawings
from rakelight.dataset.drawings import ReadOptions
from rakelight.dataset.label_compare import compare_drawings, iou
from rakelight.dataset.label_export import COCO_FILE, export_labels
from rakelight.dataset.label_overlay import overlay
from rakelight.dataset.labelling import Outcome, import_drawings, review_samples
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.sample import CloudSettings, SampleContent
from rakelight.dataset.shapes import Circle, MaskShape, Polygon, Rectangle
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, InputError, RakelightError

H, W = 24, 32
TIME = "20251123021300"
OK = SampleKey("knob_cap", "OK", 1)
NG = SampleKey("knob_cap", "scratch", 1)
BARE = SampleKey("knob_cap", "dent", 1)  # with a mask, without an annotation


def square_mask() -> np.ndarray:
    mask = np.zeros((H, W), np.uint8)
    mask[3:6, 4:9] = 255
    return mask


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    made = Dataset.init(tmp_path / "set", "pilot")
    rng = np.random.default_rng(1)
    with made.writer() as writer:
        for label, mask in (("OK", None), ("scratch", None), ("dent", square_mask())):
            picture = rng.integers(0, 255, (H, W, 3), np.uint8)
            writer.commit(SampleContent("knob_cap", label, TIME, {5: picture}, mask=mask))
    return made


def opened(dataset: Dataset, key: SampleKey) -> OpenSample:
    return OpenSample(dataset.root, key)


def stem(key: SampleKey) -> str:
    return Path(layout.sample_file(key, "RGBL05", TIME)).stem


def rectangle(label: str = "scratch", at: int = 10, **more: Any) -> dict[str, Any]:
    """5 × 4 pixels."""
    return {"label": label, "points": [[at, 10], [at + 5, 14]], "shape_type": "rectangle", **more}


def labelme(folder: Path, key: SampleKey, *shapes: dict[str, Any], **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    size = {"imageHeight": H, "imageWidth": W}
    data = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{stem(key)}.jpg", "imageData": None}
    path = folder / f"{stem(key)}.json"
    path.write_text(json.dumps(data | size | more))
    return path


def take(dataset: Dataset, *paths: Path, defect: str = "", **options: Any) -> list[Outcome]:
    return list(import_drawings(dataset, read_drawings(paths, options=ReadOptions(mask_defect=defect)), **options))


def annotation(dataset: Dataset, key: SampleKey) -> Annotation:
    found = read_annotation(opened(dataset, key))
    assert found is not None
    return found


def tree(dataset: Dataset) -> dict[str, bytes]:
    watched = (p for p in dataset.root.rglob("*") if p.is_file() and not p.name.startswith(".lock"))
    return {str(p): p.read_bytes() for p in watched}


def assert_whole(dataset: Dataset) -> None:
    assert [p for s in dataset.samples() for p in dataset.verify_sample(s)] == []
    assert dataset.index_problems() == ()
    assert list((dataset.root / layout.STAGING_FOLDER).iterdir()) == []


# --- import ---
def test_a_drawing_becomes_annotation_mask_and_classes(dataset: Dataset, tmp_path: Path) -> None:
    drawn = labelme(tmp_path / "in", NG, rectangle(), rectangle("pit", 13), rectangle("ignore", 20))
    (outcome,) = take(dataset, drawn, by="anna")
    assert (outcome.status, outcome.sample, outcome.defect_px) == ("imported", str(NG), {"scratch": 12, "pit": 20})
    assert "beside scratch it shows pit" in outcome.note
    sample = opened(dataset, NG)
    expected = np.zeros((H, W), np.uint8)
    expected[10:14, 10:18] = 255
    np.testing.assert_array_equal(sample.mask(), expected)
    classes = np.asarray(sample.image("defect_classes.png"))
    index = read_defects(dataset.root).index_of()
    assert (classes[11, 11], classes[11, 14], classes[11, 22], classes[0, 0]) == (
        index["scratch"],
        index["pit"],
        255,
        0,
    )
    stored = annotation(dataset, NG)
    assert (stored.annotator, stored.tool, stored.review.state, stored.history) == (
        "anna",
        "labelme 5.5.0",
        "proposed",
        (),
    )
    assert_whole(dataset)
    entry = json.loads((dataset.root / layout.JSON_FOLDER / "knob_cap.json").read_text())["test"][1]
    assert entry["mask_path"] == f"NG/scratch/S0001/{stem(NG)}.png"


def test_the_second_import_changes_nothing(dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    labelme(folder, NG, rectangle())
    labelme(folder, OK, rectangle("pit"))
    labelme(folder, BARE, rectangle("dent"))
    assert [o.status for o in take(dataset, folder, by="anna")] == ["imported"] * 3
    before = tree(dataset)
    assert [o.status for o in take(dataset, folder, by="anna")] == ["unchanged"] * 3
    assert tree(dataset).keys() == before.keys()
    assert {p for p, data in tree(dataset).items() if data != before[p]} <= {str(dataset.root / layout.IDS_FILE)}


def test_stopped_by_ctrl_c_what_was_imported_stays(dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    labelme(folder, NG, rectangle())
    labelme(folder, BARE, rectangle("dent"))

    def stopped() -> Any:
        yield next(iter(read_drawings([folder])))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(import_drawings(dataset, stopped()))
    assert_whole(dataset)
    assert sorted(o.status for o in take(dataset, folder)) == ["imported", "unchanged"]


def test_a_dry_run_writes_nothing(dataset: Dataset, tmp_path: Path) -> None:
    before = tree(dataset)
    (outcome,) = take(dataset, labelme(tmp_path / "in", OK, rectangle("pit")), relabel=True, dry_run=True)
    assert (outcome.status, outcome.note) == ("imported", "relabelled as pit")
    assert tree(dataset) == before


def test_earlier_states_stay_also_a_mask_that_came_alone(dataset: Dataset, tmp_path: Path) -> None:
    take(dataset, labelme(tmp_path / "in", BARE, rectangle("dent")), by="anna")
    take(dataset, labelme(tmp_path / "in", BARE, rectangle("dent", 11)), by="ben")
    stored = annotation(dataset, BARE)
    assert [s.annotator for s in (*stored.history, stored)] == ["", "anna", "ben"]
    first = stored.history[0].regions[0].shape
    assert isinstance(first, MaskShape)
    assert (first.left, first.top, first.width, first.height) == (4, 3, 5, 3)
    assert "history" not in stored.history[1].model_dump()


def test_what_is_drawn_on_an_ok_sample_is_a_proposal_without_a_mask(dataset: Dataset, tmp_path: Path) -> None:
    (outcome,) = take(dataset, labelme(tmp_path / "in", OK, rectangle("pit")))
    assert outcome.status == "imported" and "--relabel makes it pit" in outcome.note
    sample = opened(dataset, OK)
    assert sample.mask() is None and sample.image("defect_classes.png") is None
    assert annotation(dataset, OK).defects() == {"pit"}


def test_relabel_moves_the_sample_and_its_old_name_still_finds_it(dataset: Dataset, tmp_path: Path) -> None:
    drawn = labelme(tmp_path / "in", OK, rectangle("pit"), rectangle("ring", 20))
    (outcome,) = take(dataset, drawn, by="anna", relabel=True)
    assert (outcome.sample, outcome.was) == ("knob_cap/NG/pit/S0001", str(OK))
    now = SampleKey("knob_cap", "pit", 1)
    mask = opened(dataset, now).mask()
    assert mask is not None and (mask > 0).sum() == 40
    assert opened(dataset, now).manifest.labels[0].by == "anna"
    (again,) = take(dataset, drawn, by="anna", relabel=True)
    assert (again.status, again.sample) == ("unchanged", str(now))
    assert_whole(dataset)


def test_an_interrupted_relabel_is_completed_by_the_next_import(dataset: Dataset, tmp_path: Path) -> None:
    """Relabelled, then stopped before the mask was written: the same command goes on there."""
    drawn = labelme(tmp_path / "in", OK, rectangle("pit"))
    take(dataset, drawn)
    with dataset.writer() as writer:
        now = writer.relabel(OK, "pit")
    assert opened(dataset, now).mask() is None
    (outcome,) = take(dataset, drawn, relabel=True)
    assert (outcome.status, outcome.sample) == ("imported", str(now))
    assert opened(dataset, now).mask() is not None
    assert annotation(dataset, now).history == ()


def test_a_label_that_is_not_drawn_is_told_or_changed(dataset: Dataset, tmp_path: Path) -> None:
    drawn = labelme(tmp_path / "in", NG, rectangle("pit"))
    (told,) = take(dataset, drawn)
    assert "labelled scratch, but shows pit" in told.note
    (moved,) = take(dataset, drawn, relabel=True)
    assert moved.sample == "knob_cap/NG/pit/S0001"


def test_png_masks_take_the_label_of_the_sample(dataset: Dataset, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / f"{stem(NG)}.png"), square_mask() // 255)
    (outcome,) = take(dataset, tmp_path / f"{stem(NG)}.png")
    assert outcome.defect_px == {"scratch": 15}
    np.testing.assert_array_equal(opened(dataset, NG).mask(), square_mask())
    cv2.imwrite(str(tmp_path / f"{stem(OK)}.png"), square_mask())
    (refused,) = take(dataset, tmp_path / f"{stem(OK)}.png")
    assert refused.status == "refused" and "--defect" in refused.hint
    (proposed,) = take(dataset, tmp_path / f"{stem(OK)}.png", defect="pit")
    assert (proposed.status, proposed.defect_px) == ("imported", {"pit": 15})


def test_a_mask_of_the_same_pixels_keeps_what_is_known_of_them(dataset: Dataset, tmp_path: Path) -> None:
    take(dataset, labelme(tmp_path / "in", NG, rectangle(rakelight={"certainty": 0.4}), rectangle("pit", 13)))
    export_labels(dataset, [NG], tmp_path / "masks", "png")
    assert [o.status for o in take(dataset, tmp_path / "masks")] == ["unchanged"]
    assert annotation(dataset, NG).regions[0].certainty == 0.4
    cv2.imwrite(str(tmp_path / "masks" / f"{stem(NG)}.png"), square_mask())
    assert [o.status for o in take(dataset, tmp_path / "masks")] == ["imported"]


@pytest.mark.parametrize(
    "shapes, more, message",
    [
        ([rectangle(at=40)], {}, "outside the picture: point"),
        ([rectangle("OK")], {}, "'ok'"),
        ([rectangle("my_xyz")], {}, "contains 'xyz'"),
        (
            [{"label": "a", "points": [[1.6, 1.6], [1.9, 1.6], [1.9, 1.9]], "shape_type": "polygon"}],
            {},
            "covers no pixel",
        ),
        ([rectangle()], {"imageWidth": 64}, "64 × 24 px; RGBL05 has 32 × 24"),
        ([rectangle(rakelight={"certainty": -1})], {}, "certainty"),
    ],
)
def test_a_drawing_that_cannot_be_is_refused_and_the_others_go_on(
    dataset: Dataset, tmp_path: Path, shapes: Any, more: Any, message: str
) -> None:
    labelme(tmp_path / "in", NG, *shapes, **more)
    labelme(tmp_path / "in", BARE, rectangle("dent"))
    first, second = sorted(take(dataset, tmp_path / "in"), key=lambda o: o.status, reverse=True)
    assert first.status == "refused" and message in first.note and first.hint
    assert second.status == "imported"
    assert opened(dataset, NG).mask() is None and read_annotation(opened(dataset, NG)) is None
    assert_whole(dataset)


def test_files_are_matched_by_name_never_by_order(dataset: Dataset, tmp_path: Path) -> None:
    lost = labelme(tmp_path / "in", SampleKey("knob_cap", "scratch", 7), rectangle())
    other_time = tmp_path / "in" / f"{stem(NG).replace(TIME, '20200101000000')}.json"
    other_time.write_text(json.dumps(json.loads(lost.read_text()) | {"imagePath": other_time.stem + ".jpg"}))
    by_key = tmp_path / "knob_cap" / "NG" / "dent" / "S0001.json"
    by_key.parent.mkdir(parents=True)
    data = json.loads(lost.read_text()) | {"imagePath": "knob_cap/NG/dent/S0001.jpg"}
    by_key.write_text(json.dumps(data))
    assert [o.status for o in take(dataset, lost, other_time)] == ["no sample", "no sample"]
    assert [(o.status, o.sample) for o in take(dataset, by_key)] == [("imported", str(BARE))]
    twice = take(dataset, by_key, labelme(tmp_path / "in", BARE, rectangle("dent")))
    assert [o.status for o in twice] == ["unchanged", "refused"]
    assert "second drawing" in twice[1].note


def test_a_file_without_shapes_takes_nothing_away(dataset: Dataset, tmp_path: Path) -> None:
    (outcome,) = take(dataset, labelme(tmp_path / "in", BARE))
    assert outcome.status == "nothing drawn"
    np.testing.assert_array_equal(opened(dataset, BARE).mask(), square_mask())


def test_files_of_no_known_kind_are_told(dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, text in (
        ("a.json", "{}"),
        ("b.json", "{"),
        ("c.png", "x"),
        ("d.json", '{"shapes": 1}'),
        ("._e.json", "x"),
    ):
        (folder / name).write_text(text)
    (tmp_path / "f.zip").write_bytes(b"PK")
    outcomes = take(dataset, folder, tmp_path / "f.zip")
    assert [o.status for o in outcomes] == ["refused"] * 5
    assert "unpack it" in outcomes[-1].hint
    with pytest.raises(InputError, match="does not exist"):
        take(dataset, tmp_path / "nothing")


# --- review ---
def review(dataset: Dataset, key: SampleKey, state: Any, **options: Any) -> Outcome:
    (outcome,) = review_samples(dataset, [key], state, **options)
    return outcome


def test_rejected_regions_are_kept_but_no_loader_sees_them(dataset: Dataset, tmp_path: Path) -> None:
    take(dataset, labelme(tmp_path / "in", NG, rectangle()))
    assert review(dataset, NG, "rejected", by="ben", note="dust").status == "reviewed"
    assert opened(dataset, NG).modalities == ("RGBL05",)
    stored = annotation(dataset, NG)
    assert (stored.review.state, stored.review.by, stored.review.note) == ("rejected", "ben", "dust")
    assert [r.state for r in stored.earlier_reviews] == ["proposed"] and len(stored.regions) == 1
    assert review(dataset, NG, "approved", by="eva").status == "reviewed"
    assert opened(dataset, NG).mask() is not None
    before = tree(dataset)
    assert review(dataset, NG, "approved", by="eva").status == "unchanged"
    assert tree(dataset) == before
    assert_whole(dataset)


def test_defects_on_an_ok_sample_are_approved_with_relabel_only(dataset: Dataset, tmp_path: Path) -> None:
    take(dataset, labelme(tmp_path / "in", OK, rectangle("pit")))
    refused = review(dataset, OK, "approved")
    assert refused.status == "refused" and "OK samples have no mask" in refused.note and "--relabel" in refused.hint
    done = review(dataset, OK, "approved", by="ben", relabel=True)
    assert (done.sample, done.was) == ("knob_cap/NG/pit/S0001", str(OK))
    mask = opened(dataset, SampleKey("knob_cap", "pit", 1)).mask()
    assert mask is not None and (mask > 0).sum() == 20
    assert_whole(dataset)


def test_a_bare_mask_can_be_approved_and_nothing_cannot(dataset: Dataset) -> None:
    assert review(dataset, BARE, "approved", by="ben").status == "reviewed"
    np.testing.assert_array_equal(opened(dataset, BARE).mask(), square_mask())
    assert annotation(dataset, BARE).tool == "stored mask"
    assert "no annotation to review" in review(dataset, NG, "approved").note
    assert review(dataset, SampleKey("knob_cap", "scratch", 9), "draft").status == "refused"


def test_a_damaged_annotation_is_told(dataset: Dataset, tmp_path: Path) -> None:
    take(dataset, labelme(tmp_path / "in", NG, rectangle()))
    path = opened(dataset, NG).path("annotation")
    assert path is not None
    path.write_text(path.read_text().replace("scratch", "scrotch"))
    assert "not what was written" in review(dataset, NG, "approved").note


def test_only_pixels_to_ignore_are_no_defect_of_an_ok_sample(dataset: Dataset, tmp_path: Path) -> None:
    (outcome,) = take(dataset, labelme(tmp_path / "in", OK, rectangle("ignore")))
    assert (outcome.status, outcome.note) == ("imported", "")
    sample = opened(dataset, OK)
    assert sample.mask() is None
    assert np.unique(sample.image("defect_classes.png")).tolist() == [0, 255]
    assert review(dataset, OK, "approved").status == "reviewed"


# --- regions ---
@pytest.mark.parametrize(
    "shape, code",
    [
        (Polygon(points=((-2, 1), (5, 1), (5, 5))), "annotation.outside"),
        (Polygon(points=((1, 1), (5, 1), (5, 5)), holes=(((1, 1), (2, 2), (3, 99)),)), "annotation.outside"),
        (Circle(centre=(40, 3), radius_px=50), "annotation.outside"),
        (MaskShape(left=30, top=0, width=3, height=1, runs="0 3"), "annotation.outside"),
        (Rectangle(points=((3.1, 3.1), (3.9, 3.9))), "annotation.empty"),
        (MaskShape(left=0, top=0, width=3, height=1, runs="3"), "annotation.empty"),
    ],
)
def test_regions_that_cannot_be_drawn(shape: Any, code: str) -> None:
    with pytest.raises(DatasetError) as caught:
        check_regions([Region(defect="pit", shape=shape)], (H, W))
    assert caught.value.code == code
    assert f"region 1 (pit, {shape.kind})" in caught.value.message


def test_regions_that_cross_themselves_or_touch_the_border_are_fine() -> None:
    bow = Polygon(points=((1, 1), (9, 9), (9, 1), (1, 9)))
    border = Rectangle(points=((-0.5, -0.5), (W - 0.5, H - 0.5)))
    check_regions([Region(defect="pit", shape=s) for s in (bow, border)], (H, W))


# --- codes ---
def test_codes_come_from_names_and_stay() -> None:
    table = DefectTable().with_names(["scratch", "pit_shallow", "stain", "scrape"])
    assert {n: (d.code, d.index) for n, d in table.defects.items()} == {
        "pit_shallow": ("PI", 1),
        "scrape": ("SC", 2),
        "scratch": ("SR", 3),
        "stain": ("ST", 4),
    }
    later = table.with_names(["bent", "scratch"])
    assert later.defects["bent"].index == 5 and later.with_names(["stain"]) is later
    assert new_code("ps", []) == "PA" and new_code("gt", []) == "GA" and new_code("12", []) == "XA"
    with pytest.raises(DatasetError, match="254"):
        DefectTable().with_names(f"d{n:03d}" for n in range(255))
    many = DefectTable().with_names(f"d{n:03d}" for n in range(254))
    assert len({d.code for d in many.defects.values()}) == 254


def test_the_table_knows_every_label_and_keeps_descriptions(dataset: Dataset) -> None:
    table = read_defects(dataset.root)
    assert set(table.defects) == {"scratch", "dent"}
    assert stored_defects(dataset.root) == table  # kept by the writer that committed the first of each
    with dataset.writer():
        keep_defects(dataset.root, described(table, "scratch", "a line deeper than 5 µm"))
    assert read_defects(dataset.root).defects["scratch"].description == "a line deeper than 5 µm"
    text = (dataset.root / DEFECTS_FILE).read_text()
    for wrong, right in (('"SC"', '"PS"'), ('"SC"', '"DE"'), ('"index": 1', '"index": 2'), ('"scratch"', '"rgb"')):
        (dataset.root / DEFECTS_FILE).write_text(text.replace(wrong, right))
        with pytest.raises(RakelightError, match=r"defects\.json"):
            read_defects(dataset.root)


# --- export, compare, overlay ---
@pytest.mark.parametrize("form", ["labelme", "coco"])
def test_what_is_handed_out_comes_back_unchanged(dataset: Dataset, tmp_path: Path, form: Any) -> None:
    take(dataset, labelme(tmp_path / "in", NG, rectangle(description="deep", group_id=2), rectangle("ignore", 20)))
    review(dataset, BARE, "approved")
    done = export_labels(dataset, [OK, NG, BARE], tmp_path / "out", form)
    assert (done.samples, done.kept, done.left_out) == (3, [], {})
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 3
    before = tree(dataset)
    outcomes = {o.sample: o.status for o in take(dataset, tmp_path / "out", by="somebody")}
    assert outcomes == {str(OK): "nothing drawn", str(NG): "unchanged", str(BARE): "unchanged"}
    assert tree(dataset) == before


def test_an_export_does_not_overwrite_somebodys_work(dataset: Dataset, tmp_path: Path) -> None:
    export_labels(dataset, [NG], tmp_path / "out", "labelme", reference=True)
    file = tmp_path / "out" / f"{stem(NG)}.json"
    data = json.loads(file.read_text())
    assert (file.parent / data["imagePath"]).resolve() == opened(dataset, NG).path("RGBL05")
    file.write_text("mine")
    assert export_labels(dataset, [NG], tmp_path / "out", "labelme", reference=True).kept == [file.name]
    assert file.read_text() == "mine"
    assert export_labels(dataset, [NG], tmp_path / "out", "labelme", reference=True, overwrite=True).kept == []
    assert json.loads(file.read_text()) == data
    coco = export_labels(dataset, [NG, BARE], tmp_path / "coco", "coco")
    names = {c["name"] for c in json.loads((tmp_path / "coco" / COCO_FILE).read_text())["categories"]}
    assert coco.samples == 2 and names == {"dent", "scratch", "ignore"}


def test_two_people_are_compared(dataset: Dataset, tmp_path: Path) -> None:
    take(dataset, labelme(tmp_path / "in", NG, rectangle()))
    other = labelme(tmp_path / "other", NG, rectangle(at=12), rectangle("ignore", 14))
    nothing = labelme(tmp_path / "other", OK)
    lost = labelme(tmp_path / "other", SampleKey("knob_cap", "OK", 9), rectangle())
    before = tree(dataset)
    first, second, third = compare_drawings(dataset, read_drawings([other, nothing, lost]))
    # columns 10–14 against 12–16, without 14–18: 2 of 4 columns
    assert (first.iou, first.by_defect, first.stored_px, first.other_px) == (0.5, {"scratch": 0.5}, 16, 8)
    assert (second.iou, third.iou) == (1.0, None) and third.problem
    assert tree(dataset) == before
    assert iou(square_mask() > 0, square_mask() > 0) == 1.0


def test_the_overlay_colours_what_is_drawn() -> None:
    classes = np.zeros((H, W), np.uint8)
    classes[5:15, 5:15], classes[2:4, 20:30] = 1, 255
    grey = np.full((H, W, 3), 100, np.uint8)
    shown = overlay(grey, classes)
    assert tuple(shown[4, 10]) == (213, 94, 0) and tuple(shown[1, 22]) == (128, 128, 128)
    assert shown[10, 10, 0] > 120 and (shown[20:] == 100).all()


# --- points ---
def with_points(tmp_path: Path, most_points: int, part_only: bool = True) -> tuple[Dataset, OpenSample]:
    made = Dataset.init(tmp_path / "points", "points")
    v, u = np.mgrid[:H, :W].astype(np.float32)
    xyz = np.stack([u * 0.01, v * 0.01, 200 + 0.001 * (u + W * v)], axis=-1).astype(np.float32)
    xyz[:, :3] = np.nan
    part = np.zeros((H, W), np.bool_)
    part[2:20, 5:30] = True
    content = SampleContent(
        "knob_cap", "scratch", TIME, {5: np.zeros((H, W, 3), np.uint8)}, xyz=xyz, part_mask=part, pitch_mm=0.01,
        clouds=CloudSettings(most_points=most_points, part_only=part_only),
    )  # fmt: skip
    with made.writer() as writer:
        key = writer.commit(content).key
    take(made, labelme(tmp_path / "in", key, rectangle(), rectangle("ignore", 20)))
    return made, OpenSample(made.root, key)


@pytest.mark.parametrize("most_points", [10_000, 60])
def test_points_get_the_class_of_their_pixel(tmp_path: Path, most_points: int) -> None:
    _, sample = with_points(tmp_path, most_points)
    whole = map_points(sample)
    assert len(whole.xyz) == H * (W - 3) and whole.defective.sum() == 20
    classes = np.asarray(sample.image("defect_classes.png"))
    for role in ("PCD", "cloud"):
        found = cloud_points(sample, role)
        assert len(found.xyz) == sample.manifest.encodings["clouds"]["points"]
        column, row = np.rint(found.xyz[:, :2] * 100).astype(int).T
        np.testing.assert_array_equal(found.classes, classes[row, column])
        assert found.defective.any()


def test_a_cloud_that_was_not_made_from_the_map_is_refused(tmp_path: Path) -> None:
    made, sample = with_points(tmp_path, 60)
    path = made.root / sample.key.extras_folder / layout.SAMPLE_MANIFEST
    path.write_text(path.read_text().replace('"stride_px": 4', '"stride_px": 3'))
    with pytest.raises(DatasetError) as caught:
        cloud_points(OpenSample(made.root, sample.key))
    assert caught.value.code == "annotation.cloud_differs"


def test_points_as_real3d_ad_has_them(tmp_path: Path) -> None:
    made, sample = with_points(tmp_path, 10_000)
    assert export_labels(made, [sample.key], tmp_path / "out", "points").samples == 1
    (file,) = (tmp_path / "out").iterdir()
    rows = np.loadtxt(file)
    found = cloud_points(sample)
    kept = found.classes != 255
    assert rows.shape == (kept.sum(), 4) and rows[:, 3].sum() == 20
    np.testing.assert_allclose(rows[:, :3], found.xyz[kept], atol=2e-6)
    assert write_labelled_points(tmp_path / "none.txt", found.xyz[:0], found.classes[:0]) == 0


def test_without_points_it_is_told(dataset: Dataset, tmp_path: Path) -> None:
    done = export_labels(dataset, [NG], tmp_path / "out", "points")
    assert done.samples == 0 and "no PCD" in done.left_out[str(NG)]


def test_codes_that_were_given_stay_when_a_defect_before_them_in_the_alphabet_comes(dataset: Dataset) -> None:
    before = read_defects(dataset.root).defects
    with dataset.writer() as writer:
        writer.commit(SampleContent("knob_cap", "bent", "0" * 14, {5: np.zeros((48, 64, 3), np.uint8)}))
    after = read_defects(dataset.root).defects
    assert {name: after[name] for name in before} == before and after["bent"].index == len(before) + 1
