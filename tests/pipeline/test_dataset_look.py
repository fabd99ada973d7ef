"""Looking at a data set: figures against known masks, gaps by name, pages whole and escaped, cards that keep people's words."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rakelight.dataset.checks import check_dataset
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, InputError, StorageError
from rakelight.pipeline import svg_histograms
from rakelight.pipeline.browse_pictures import outline
from rakelight.pipeline.card_parts import merge, new_text
from rakelight.pipeline.card_sections import md
from rakelight.pipeline.dataset_browse import write_gallery
from rakelight.pipeline.dataset_card import write_card
from rakelight.pipeline.dataset_gaps import gaps
from rakelight.pipeline.dataset_stats import capture_day, dataset_stats, part_of, to_plain
from rakelight.pipeline.dataset_stats_page import exposure_words, stats_page
from rakelight.pipeline.defect_areas import measure_area

H, W = 60, 90
NASTY = "<script>alert('x')</script>&\"|`"
PITCH = 0.1


class Page(HTMLParser):
    """Tags must close in order; keeps attributes that load or link something, and ids."""

    VOID = frozenset(("meta", "img", "input", "br", "link"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.scripts = 0
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.links += [
            v for k, v in attrs if k in ("src", "href", "xlink:href") and v and not v.startswith(("data:", "#"))
        ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Nothing opens."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def part() -> np.ndarray:
    mask = np.zeros((H, W), np.bool_)
    mask[10:50, 20:70] = True  # 2000 px
    return mask


def content(label: str = "OK", defect_px: int = 0, category: str = "knob_cap", **changes: Any) -> SampleContent:
    rng = np.random.default_rng(10 * defect_px + len(label))
    y, x = np.mgrid[0:H, 0:W].astype(np.float32)
    xyz = np.stack([(x - W / 2) * PITCH, (y - H / 2) * PITCH, np.where(part(), 195, 200)], -1).astype(np.float32)
    xyz[10:20, 20:70] = np.nan  # a quarter of the part
    normals = np.zeros((H, W, 3), np.float32)
    normals[..., 2] = 1
    mask = None
    if defect_px:
        mask = np.zeros((H, W), np.uint8)
        mask[30, 20 : 20 + defect_px] = 255
    picture = rng.integers(60, 200, (H, W, 3)).astype(np.uint8)
    made = SampleContent(
        category,
        label,
        "20251123021300",
        dict.fromkeys(range(1, 6), picture),
        ps=picture,
        mask=mask,
        xyz=xyz,
        normals=normals,
        albedo=np.full((H, W), 0.5, np.float32),
        part_mask=part(),
        pitch_mm=PITCH,
        specimen="s1",
        capture={"rig_id": "bench", "exposure_us": {"zone1": 100.0, "zone2": 100.0, "all_zones": 40.0}},
        quality={"part_coverage": 0.75, "warnings": []},
    )
    return replace(made, **changes)


def commit(dataset: Dataset, *contents: SampleContent) -> None:
    with dataset.writer() as writer:
        for one in contents:
            writer.commit(one)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    made = Dataset.init(tmp_path / "set", f"pilot {NASTY}", license="CC-BY-4.0")
    commit(made, content(), content("dent", 20), content("dent", 40), content("scratch", specimen=NASTY))
    return made


@pytest.fixture
def gallery(dataset: Dataset, tmp_path: Path) -> Iterator[Path]:
    assert write_gallery(dataset, tmp_path / "gallery").problems == {}
    yield tmp_path / "gallery"


def said(dataset: Dataset) -> str:
    return "\n".join(f"{g.category}: {g.what}" for g in gaps(dataset_stats(dataset)))


# --- stats ---


def test_areas_are_those_of_the_masks(dataset: Dataset) -> None:
    dent = next(c for c in dataset_stats(dataset, points=True).classes if c.label == "dent")
    assert (dent.samples, dent.masks, dent.specimens, dent.days) == (2, 2, 1, ("2025-11-23",))
    assert dent.area_px and dent.area_mm2 and dent.share and dent.points_share
    assert (dent.area_px.low, dent.area_px.middle, dent.area_px.high) == (20, 30, 40)
    assert dent.area_mm2.high == pytest.approx(40 * PITCH**2)
    assert dent.share.low == pytest.approx(20 / 2000)
    assert dent.points_share.low == pytest.approx(20 / 1500)  # a quarter of the part has no point
    assert dent.exposure_us == {"zone1": (100, 100), "zone2": (100, 100), "all_zones": (40, 40)}


def test_gaps_are_named(dataset: Dataset) -> None:
    text = said(dataset)
    assert "1 sample (knob_cap/NG/scratch/S0001) defective without a mask" in text
    assert "1 good part(s)" in text
    assert "no test sample of good parts" in text
    assert "there is no official split" in text
    assert "all captured on one day" in text
    assert "PCD is missing" not in text


def test_gaps_of_uneven_samples(dataset: Dataset) -> None:
    other = content(
        ps=None, timestamp="20251201000000", capture={"exposure_us": {"zone1": 200.0}}, simulated=True, specimen=""
    )
    commit(dataset, other)
    text = said(dataset)
    assert "PS is missing in 1 sample (knob_cap/OK/S0002)" in text
    assert "exposure of zone1 differs: 100 to 200 µs" in text
    assert "1 of 5 are simulated" in text
    assert "without a specimen" in text


def test_days_that_give_the_label_away(tmp_path: Path) -> None:
    made = Dataset.init(tmp_path / "days", "days")
    commit(made, content(), content("dent", 10, timestamp="20251124021300"))
    assert "good parts (2025-11-23) and defective ones (2025-11-24) were captured on different days" in said(made)


def test_day_also_where_names_hold_zeros() -> None:
    assert capture_day("20250102030405", {}) == "2025-01-02"
    assert capture_day("0" * 14, {"timestamp": "20250304000000"}) == "2025-03-04"
    assert capture_day("0" * 14, {"captured_utc": "2025-05-06T07:08:09+00:00"}) == "2025-05-06"
    assert capture_day("0" * 14, {"captured_utc": None}) == ""


def test_areas_are_remembered_and_a_torn_cache_is_mended(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    first = to_plain(dataset_stats(dataset))
    cache = dataset.root / "meta/area_cache.jsonl"
    assert len(cache.read_text().splitlines()) == 2
    decoded: list[SampleKey] = []

    def counted(sample: Any, **options: Any) -> Any:
        decoded.append(sample.key)
        return measure_area(sample, **options)

    monkeypatch.setattr("rakelight.pipeline.dataset_stats.measure_area", counted)
    assert to_plain(dataset_stats(dataset)) == first
    assert decoded == []
    cache.write_bytes(cache.read_bytes()[:-20])
    assert to_plain(dataset_stats(dataset)) == first
    assert len(decoded) == 1


def test_a_damaged_sample_is_told_and_the_rest_counted(dataset: Dataset) -> None:
    (dataset.root / "extras/knob_cap/NG/dent/S0001/manifest.json").write_text("{")
    mask = next((dataset.root / "realiad_d3_raw/knob_cap/NG/dent/S0002").glob("*.png"))
    mask.write_bytes(mask.read_bytes()[:-5])
    stats = dataset_stats(dataset)
    assert list(stats.damaged) == ["knob_cap/NG/dent/S0001"]
    assert len(stats.facts) == 3
    assert "with a mask that cannot be measured" in said(dataset)


def test_unknown_category_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="knob_cap") as error:
        dataset_stats(dataset, category="fuse")
    assert error.value.code == "dataset.category_unknown"


def test_official_split_decides_parts(dataset: Dataset) -> None:
    folder = dataset.root / "meta/splits"
    folder.mkdir()
    parts = {"test": ["knob_cap/OK/S0001", "knob_cap/NG/dent/S0001"]}
    (folder / "official.json").write_text(json.dumps({"schema": 1, "categories": {"knob_cap": parts}}))
    stats = dataset_stats(dataset)
    assert part_of(stats, SampleKey("knob_cap", "OK", 1)) == "test"
    assert part_of(stats, SampleKey("knob_cap", "dent", 2)) is None
    text = said(dataset)
    assert "no sample to train with" in text
    assert "no test sample of scratch" in text


def test_stats_page_is_whole_and_escaped(dataset: Dataset) -> None:
    page = Page(stats_page(dataset_stats(dataset)))
    assert page.scripts == 0
    assert page.links == []
    assert f"pilot {NASTY}" in page.words
    assert "2 masks, 1.00 to 2.00 %" in page.words
    empty = Dataset.init(dataset.root.parent / "empty", "empty")
    assert "No samples" in Page(stats_page(dataset_stats(empty))).words


def test_histogram_counts_every_value() -> None:
    svg = svg_histograms.histogram("h", [0, 1, 2], {"a": [0.5, 0.6, 5, np.nan], "b": [1.5]}, "x")
    drawn = [line for line in svg.splitlines() if 'fill="#0072b2"' in line or 'fill="#d55e00"' in line]
    heights = [float(line.split('height="')[1].split('"')[0]) for line in drawn if 'height="10"' not in line]
    assert sorted(round(h / min(heights)) for h in heights) == [1, 1, 2]


def test_exposures_in_words() -> None:
    assert exposure_words({"zone1": (5, 5), "zone2": (5, 5), "all_zones": (1, 2)}) == "zones 1, 2: 5; all_zones: 1–2"


# --- browse ---


def test_gallery_shows_all_modalities(gallery: Path) -> None:
    folder = gallery / "samples/knob_cap/NG/dent/S0001"
    shown = json.loads((folder / "sample.json").read_text())
    roles = [p["role"] for p in shown["pictures"]]
    assert roles == ["RGBL05", "RGBL01", "RGBL02", "RGBL03", "RGBL04", "PS", "normals", "albedo", "XYZ", "part_mask"]
    assert shown["thumbs"] == ["RGBL05", "PS", "XYZ"]
    for name in [p["file"] for p in shown["pictures"]]:
        picture = cv2.imread(str(folder / name))
        assert picture is not None
        assert picture.shape[:2] == (H, W)
    bar = next(p["bar"] for p in shown["pictures"] if p["role"] == "XYZ")
    assert bar[3] == "mm"
    page = Page((folder / "index.html").read_text())
    assert page.scripts == 1
    for link in page.links:
        assert (folder / link).is_file(), link


def test_height_is_that_of_the_part(tmp_path: Path) -> None:
    made = Dataset.init(tmp_path / "ramp", "ramp")
    one = content()
    assert one.xyz is not None
    one.xyz[:] = np.nan_to_num(one.xyz)
    one.xyz[..., 2] = 200 - np.linspace(0, 2, W, dtype=np.float32)  # rises by 2 mm from left to right
    commit(made, one)
    write_gallery(made, tmp_path / "g")
    folder = tmp_path / "g/samples/knob_cap/OK/S0001"
    bar = next(p["bar"] for p in json.loads((folder / "sample.json").read_text())["pictures"] if p["role"] == "XYZ")
    assert float(bar[0]) == pytest.approx(20 / 89 * 2, abs=0.05)
    assert float(bar[2]) == pytest.approx(69 / 89 * 2, abs=0.05)


def test_only_changed_samples_are_drawn_again(dataset: Dataset, gallery: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in gallery.rglob("*") if p.is_file()}
    again = write_gallery(dataset, gallery)
    assert (again.samples, again.drawn, again.kept, again.removed) == (4, 0, 4, 0)
    assert {p: p.stat().st_mtime_ns for p in gallery.rglob("*") if p.is_file()} == before
    with dataset.writer() as writer:
        writer.relabel(SampleKey("knob_cap", "dent", 2), "scratch", by=NASTY, reason="looked again")
    changed = write_gallery(dataset, gallery)
    assert (changed.drawn, changed.kept, changed.removed) == (1, 3, 1)
    assert not (gallery / "samples/knob_cap/NG/dent/S0002").exists()
    page = Page((gallery / "samples/knob_cap/NG/scratch/S0002/index.html").read_text())
    assert "looked again" in page.words
    assert NASTY in page.words
    assert page.scripts == 1
    (gallery / "samples/knob_cap/OK/S0001/PS.jpg").unlink()
    assert write_gallery(dataset, gallery).drawn == 1


def test_overview_filters_and_escapes(gallery: Path) -> None:
    text = (gallery / "index.html").read_text()
    page = Page(text)
    assert page.scripts == 1
    assert f"pilot {NASTY}" in page.words
    assert text.count('class="card') == 4
    assert text.count('class="over defect"') == 2
    assert text.count('loading="lazy"') == 4
    assert all((gallery / link).is_file() for link in page.links)
    assert "http" not in text.replace("http-equiv", "")


def test_a_damaged_file_is_told_and_tried_again(dataset: Dataset, tmp_path: Path) -> None:
    ps = next((dataset.root / "realiad_d3_raw/knob_cap/OK/S0001").glob("*_PS_*"))
    whole = ps.read_bytes()
    ps.write_bytes(whole[:-40])
    (dataset.root / "extras/knob_cap/NG/dent/S0001/manifest.json").write_text("{")
    made = write_gallery(dataset, tmp_path / "g")
    assert set(made.problems) == {"knob_cap/OK/S0001", "knob_cap/NG/dent/S0001"}
    assert made.samples == 3
    assert "knob_cap/NG/dent/S0001" in Page((tmp_path / "g/index.html").read_text()).words
    ps.write_bytes(whole)
    assert set(write_gallery(dataset, tmp_path / "g").problems) == {"knob_cap/NG/dent/S0001"}


def test_a_folder_of_something_else_is_left_alone(dataset: Dataset, gallery: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(StorageError) as error:
        write_gallery(dataset, tmp_path / "mine")
    assert error.value.code == "storage.exists"
    assert os.listdir(tmp_path / "mine") == ["letter.txt"]
    other = Dataset.init(tmp_path / "other", "other")
    with pytest.raises(StorageError, match="other"):
        write_gallery(other, gallery)
    with pytest.raises(InputError) as inside:
        write_gallery(dataset, dataset.root / "meta/gallery")
    assert inside.value.code == "gallery.inside"


def test_outline_encloses_the_mask() -> None:
    found = outline(part())
    assert found.box == (20, 10, 70, 50)
    points = np.array([[float(v) for v in p.split()] for p in found.path[1:-1].split("L")])
    assert points.min(axis=0).tolist() == [20.5, 10.5]
    assert points.max(axis=0).tolist() == [69.5, 49.5]
    assert outline(np.zeros((5, 5), np.bool_)).path == ""


# --- card ---


def test_card_keeps_what_people_wrote(dataset: Dataset) -> None:
    made = write_card(dataset)
    assert any("official split" in u for u in made.unknown)
    assert any("dent, scratch" in u for u in made.unknown)
    text = made.path.read_text()
    assert text.startswith("---\n# rakelight:begin head\npretty_name:")
    assert "license: cc-by-4.0" in text
    assert "| knob_cap | dent | 2 |" in text
    assert "<script>" not in text.split("---\n")[2]
    mine = text.replace(
        "---\n\n<!-- rakelight:begin about", "language: en\nlicense: mit\n---\n\nBy hand.\n\n<!-- rakelight:begin about"
    )
    start = mine.index("<!-- rakelight:begin labels -->")
    end = mine.index("<!-- rakelight:end labels -->") + len("<!-- rakelight:end labels -->")
    made.path.write_text(mine[:start] + "My own policy." + mine[end:])
    commit(dataset, content("dent", 30))
    again = write_card(dataset)
    assert again.left_out == ("labels",)
    assert any("license" in note for note in again.notes)
    renewed = made.path.read_text()
    assert "| knob_cap | dent | 3 |" in renewed
    assert "By hand." in renewed
    assert "My own policy." in renewed
    assert renewed.count("license:") == 1
    assert "language: en\nlicense: mit\n---" in renewed
    before = made.path.read_bytes()
    write_card(dataset)
    assert made.path.read_bytes() == before


def test_card_without_markers_is_refused(dataset: Dataset) -> None:
    readme = dataset.root / "README.md"
    readme.write_text("# Mine\n")
    with pytest.raises(DatasetError) as error:
        write_card(dataset)
    assert error.value.code == "card.no_markers"
    assert readme.read_text() == "# Mine\n"


@pytest.mark.parametrize(
    "text",
    [
        "<!-- rakelight:begin a -->\nx\n",
        "<!-- rakelight:end a -->\n",
        "<!-- rakelight:begin a -->\n<!-- rakelight:begin b -->\n<!-- rakelight:end b -->\n<!-- rakelight:end a -->\n",
        "<!-- rakelight:begin a -->\n<!-- rakelight:end a -->\n" * 2,
    ],
)
def test_markers_that_do_not_pair_are_refused(text: str) -> None:
    with pytest.raises(DatasetError) as error:
        merge(text, {"a": "new"}, "README.md")
    assert error.value.code == "card.markers"


def test_merge_is_the_inverse_of_writing() -> None:
    parts = {"head": "a: 1\nb:\n- 2", "x": "text", "y": "more"}
    assert merge(new_text(parts), parts, "s").text == new_text(parts)


def test_card_tells_findings_licence_and_citation(dataset: Dataset) -> None:
    finding = {"check": "leak", "severity": "error", "sample": "knob_cap", "what": f"PS tells {NASTY}", "hint": "h"}
    (dataset.root / "meta/qc.jsonl").write_text(json.dumps(finding) + "\n")
    (dataset.root / "LICENSE").write_text("text")
    made = write_card(dataset, authors=["Ada Lovelace"])
    assert made.citation is not None
    assert '  - name: "Ada Lovelace"' in made.citation.read_text()
    assert not [text for text in made.unknown if "leak" in text]
    text = made.path.read_text()
    assert "error, leak, knob_cap: PS tells \\<script" in text
    assert "Its text is in `LICENSE`." in text
    assert "See `CITATION.cff`." in text
    with pytest.raises(InputError) as error:
        write_card(dataset, authors=["Ada Lovelace"])
    assert error.value.code == "card.citation_exists"


def test_card_tells_that_leaks_are_not_known_where_nothing_could_be_tested(dataset: Dataset) -> None:
    report = check_dataset(dataset, only=("leak",))
    assert report.leak is not None
    assert report.leak.verdict == "untested"
    made = write_card(dataset)
    assert [text for text in made.unknown if text.startswith("whether labels leak: ")]
    assert "too few to tell a leak from chance" in made.path.read_text()


def test_words_of_markdown_mean_nothing() -> None:
    assert md("a|b\n# c <i> knob_cap _x_") == "a\\|b \\# c \\<i\\> knob_cap \\_x\\_"
