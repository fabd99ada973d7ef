"""The checks of a data set: each fault is found, told with sample and next step, and an honest data set passes."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from rakelight.cli.dataset_check import check as check_command
from rakelight.cli.dataset_split import split as split_command
from rakelight.dataset import checks, images, layout
from rakelight.dataset.check_sets import Finding, Seen, consistency
from rakelight.dataset.checks import CHECKS, check_dataset
from rakelight.dataset.file_headers import header_facts
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.near_duplicates import SIDE, near_pairs, small_picture
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.sample import SampleContent, Source
from rakelight.dataset.scan_cache import CACHE_FILE
from rakelight.dataset.split_files import write_splits
from rakelight.dataset.splits import SplitRule
from rakelight.dataset.writer import Dataset
from rakelight.errors import InputError
from rakelight.files import sha256_bytes

H, W = 96, 128


def part() -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[20:76, 24:104] = True
    return mask


def scene(seed: int, noise: int = 0) -> np.ndarray:
    """A part whose finish is its specimen's own; ``noise`` is another shot of it."""
    rng = np.random.default_rng(seed)
    texture = cv2.resize(rng.normal(size=(10, 12)).astype(np.float32), (W, H), interpolation=cv2.INTER_CUBIC)
    level = 90 + 30 * part() + 36 * texture + 0.3 * np.random.default_rng(1000 + noise).normal(size=(H, W))
    return np.clip(level[..., None] + [0, 5, 10], 0, 255).astype(np.uint8)


def defect(at: tuple[int, int] = (40, 40)) -> np.ndarray:
    mask = np.zeros((H, W), np.uint8)
    mask[at[0] : at[0] + 5, at[1] : at[1] + 6] = 255
    return mask


def surface(seed: int) -> np.ndarray:
    v, u = np.mgrid[:H, :W]
    z = 200 - 3.0 * part() + 0.01 * np.random.default_rng(seed).normal(size=(H, W))
    xyz = np.stack([0.1 * u, 0.1 * v, z], axis=2).astype(np.float32)
    xyz[0, :5] = np.nan
    return xyz


def content(seed: int, label: str = "OK", **changes: Any) -> SampleContent:
    base = SampleContent(
        "knob_cap",
        label,
        f"202511231{seed // 60 % 10}{seed % 60:02d}00",
        {5: scene(seed), 1: scene(seed, noise=1)},
        mask=None if label == "OK" else defect(),
        xyz=surface(seed),
        part_mask=part(),
        specimen=f"p{seed}",
        batch="lot",
        source=Source(recording_sha256=f"{seed:064d}"),
        capture={"exposure_us": {"zone1": 800.0}, "gain_db": 0.0},
    )
    return replace(base, **changes)


def make(root: Path, *contents: SampleContent) -> tuple[Dataset, list[OpenSample]]:
    dataset = Dataset.init(root / "set", "pilot")
    with dataset.writer() as writer:
        samples = [OpenSample(dataset.root, writer.commit(c).key) for c in contents]
    return dataset, samples


def honest(count: int = 8, bad: int = 4) -> list[SampleContent]:
    return [content(n, "OK" if n < count - bad else "dent") for n in range(count)]


def found(dataset: Dataset, *only: str) -> list[Finding]:
    return list(check_dataset(dataset, only=only).findings)


def tamper(sample: OpenSample, role: str, data: bytes) -> None:
    """Put another file in the place of one, and correct the manifest, as a careless script would."""
    record = sample.record(role)
    assert record is not None
    (sample.root / record.path).write_bytes(data)
    path = sample.root / sample.key.extras_folder / layout.SAMPLE_MANIFEST
    manifest = json.loads(path.read_text())
    for entry in manifest["files"]:
        if entry["path"] == record.path:
            entry |= {"bytes": len(data), "sha256": sha256_bytes(data)}
    path.write_text(json.dumps(manifest))


def reopened(sample: OpenSample) -> OpenSample:
    return OpenSample(sample.root, sample.key)


def test_an_honest_data_set_passes(tmp_path: Path) -> None:
    dataset, _samples = make(tmp_path, *honest())
    report = check_dataset(dataset)
    assert [(f.check, f.sample) for f in report.findings] == [("leak", "knob_cap")]
    assert report.samples == 8
    lines = [json.loads(line) for line in (dataset.root / checks.QC_FILE).read_text().splitlines()]
    assert [line["check"] for line in lines] == ["leak"]
    assert set(lines[0]) == {"check", "severity", "sample", "what", "hint"}
    assert dataset.index_problems() == ()


def test_no_samples(tmp_path: Path) -> None:
    dataset, _ = make(tmp_path)
    assert check_dataset(dataset).findings == ()
    with pytest.raises(InputError, match="unknown check 'leek'"):
        check_dataset(dataset, only=("leek",))


# --- duplicates ---


def test_a_recording_committed_twice(tmp_path: Path) -> None:
    dataset, _ = make(tmp_path, *honest(), content(2))
    (finding,) = found(dataset, "duplicates", "near-duplicates")
    assert finding.severity == "error"
    assert finding.what == "knob_cap/OK/S0003, knob_cap/OK/S0005 are of one recording"


def test_one_picture_under_two_labels(tmp_path: Path) -> None:
    other = content(2, "dent", source=Source(recording_sha256="f" * 64), xyz=surface(99))
    dataset, _ = make(tmp_path, *honest(), other)
    (finding,) = found(dataset, "duplicates", "near-duplicates")
    assert "hold the same RGBL01, RGBL05, byte for byte, but are labelled OK and dent" in finding.what


def test_a_part_captured_twice_is_near_and_worse_across_the_split(tmp_path: Path) -> None:
    again = content(1, specimen="p1 again", source=Source(recording_sha256="e" * 64), xyz=surface(77))
    again = replace(again, rgb={5: np.clip(scene(1, noise=5) * 0.9, 0, 255).astype(np.uint8)})
    dataset, _ = make(tmp_path, *honest(16, 4), again)
    (finding,) = found(dataset, "duplicates", "near-duplicates")
    assert (finding.check, finding.severity) == ("near-duplicates", "warning")
    assert "knob_cap/OK/S0002, knob_cap/OK/S0013 look the same" in finding.what
    for seed in range(20):  # until they stand apart
        split = write_splits(dataset, "official", SplitRule(seed=seed), overwrite=True).splits[0].subset_of()
        apart = split["knob_cap/OK/S0002"] != split["knob_cap/OK/S0013"]
        (finding,) = found(dataset, "near-duplicates")
        assert (finding.severity == "error") == apart
        assert ("on two sides of the split" in finding.what) == apart


def test_specimens_of_a_product_are_not_near() -> None:
    """Recaptures lie far below other specimens, whatever the number of duplicates; the blocks do not matter."""
    small = np.stack([small_picture(scene(n), part()) for n in range(40)])
    assert list(near_pairs(small)) == []
    again = np.stack([small_picture(scene(n, noise=n + 50), part()) for n in range(0, 40, 2)])
    pairs = [(p.first, p.second) for p in near_pairs(np.concatenate([small, again]))]
    assert pairs == [(n, 40 + n // 2) for n in range(0, 40, 2)]
    assert small.shape == (40, SIDE * SIDE)
    assert not small_picture(np.full((9, 9), 7, np.uint8)).any()
    assert list(near_pairs(np.zeros((5, SIDE * SIDE), np.float32))) == []


def test_the_background_does_not_count() -> None:
    one, other = scene(3), scene(3)
    other[:5] = 255
    assert np.array_equal(small_picture(one, part()), small_picture(other, part()))
    assert not np.allclose(small_picture(one), small_picture(other))


# --- masks ---


def test_masks(tmp_path: Path) -> None:
    outside = content(5, "dent", mask=defect((0, 0)))
    half = content(6, "dent", mask=np.maximum(defect((2, 40)), defect((30, 40))))
    none = content(7, "dent", mask=None)
    dataset, samples = make(tmp_path, *honest(8, 5), outside, half, none)
    bad = [s for s in samples if not s.key.is_ok]
    tamper(bad[0], "MASK", bytes(images.encode_png(np.zeros((H, W), np.uint8))))
    tamper(bad[1], "MASK", bytes(images.encode_png(np.full((H, W // 2), 255, np.uint8))))
    tamper(bad[2], "MASK", bytes(images.encode_png(defect() // 255)))
    tamper(bad[3], "MASK", b"\x89PNG\r\n\x1a\nnothing")
    told = {(f.sample.rsplit("/", 1)[1], f.severity, f.what.split(":")[0]) for f in found(dataset, "masks", "files")}
    assert told == {
        ("S0001", "error", "the mask is empty"),
        ("S0002", "error", "the mask is 96×64, RGBL05 is 96×128"),
        ("S0003", "error", "the mask holds values other than 0 and 255"),
        ("S0004", "error", "MASK cannot be read"),
        ("S0006", "error", "100% of the mask lie outside the part"),
        ("S0007", "warning", "50% of the mask lie outside the part"),
        ("S0008", "warning", "a defective part without a mask"),
    }


def test_a_mask_where_nothing_was_measured(tmp_path: Path) -> None:
    xyz = surface(1)
    xyz[defect() > 0] = np.nan
    dataset, _ = make(tmp_path, content(1, "dent", xyz=xyz))
    (finding,) = found(dataset, "masks")
    assert (finding.severity, finding.what) == ("note", "100% of the mask have no valid XYZ")


# --- files and surfaces ---


def test_files_that_cannot_be_read_do_not_stop_the_rest(tmp_path: Path) -> None:
    dataset, samples = make(tmp_path, *honest(), content(20, "pit"))
    path = samples[0].path("RGBL05")
    assert path is not None
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    (samples[1].root / samples[1].key.extras_folder / layout.SAMPLE_MANIFEST).write_text("{")
    told = found(dataset, "files")
    assert {(f.sample, f.severity) for f in told} == {("knob_cap/OK/S0001", "error"), ("knob_cap/OK/S0002", "error")}
    path.write_bytes(whole)
    assert [f.sample for f in found(dataset, "files")] == ["knob_cap/OK/S0002"]  # a restored file is read again


def test_surfaces_without_a_surface(tmp_path: Path) -> None:
    nothing, flat, placeholder = surface(1), surface(2), surface(3)
    nothing[:] = np.nan
    flat[1:, :, 2] = 200
    flat[0, 5:, 2] = 200
    placeholder[1:, :, :2] = placeholder[0, 5:, :2] = 0.166
    dataset, samples = make(tmp_path, content(1), content(2, xyz=flat), content(3, xyz=placeholder))
    images.write_tiff(tmp_path / "nothing.tiff", nothing)
    tamper(samples[0], "XYZ", (tmp_path / "nothing.tiff").read_bytes())
    told = {(f.sample[-1], f.severity, f.what[:14]) for f in found(dataset, "xyz")}
    assert told == {
        ("1", "error", "XYZ has no val"),
        ("2", "error", "z of XYZ has 1"),
        ("3", "warning", "x of XYZ has 1"),
        ("3", "warning", "y of XYZ has 1"),
    }


# --- settings, labels, splits, index ---


def test_one_recording_without_patterns_is_one_finding(tmp_path: Path) -> None:
    """And not one a shot, which would bury the rest."""
    shots = {f"recording: {what} of p1_{n:02d}": "800" for n in range(46) for what in ("exposure_us", "gain_db")}

    def seen(number: int, settings: dict[str, str]) -> Seen:
        return Seen(SampleKey("knob_cap", "OK", number), "", "", (), settings, None)

    dataset, _ = make(tmp_path)
    usual = [seen(n, shots | {"pitch": "0.05"}) for n in (1, 2, 3)]
    told = consistency(dataset, [*usual, seen(4, {"pitch": "0.06"})])
    assert [f.what for f in told] == [
        "pitch differs: 0.05 ×3, 0.06 ×1; others than most have knob_cap/OK/S0004",
        *(
            f"recording: {what} of p1_00 differs: 800 ×3, not known ×1 (and 45 more shots differ alike); "
            "others than most have knob_cap/OK/S0004"
            for what in ("exposure_us", "gain_db")
        ),
    ]
    assert [f.severity for f in told] == ["warning", "note", "note"]
    other = seen(5, shots | {"pitch": "0.05", "recording: gain_db of p1_07": "6"})  # another sample: told apart
    assert len(consistency(dataset, [*usual, other, seen(4, {"pitch": "0.05"})])) == 3


def test_settings_that_differ(tmp_path: Path) -> None:
    odd = content(9, capture={"exposure_us": {"zone1": 900.0}, "gain_db": 6.0})
    odd = replace(odd, source=Source(recording_sha256="9" * 64, calibration="abc"))
    usual = [replace(c, source=c.source.model_copy(update={"calibration": "def"})) for c in honest()]
    dataset, _ = make(tmp_path, *usual, odd)
    told = found(dataset, "consistency")
    assert {f.what.split(" differs")[0] for f in told} == {"calibration", "capture: exposure_us", "capture: gain_db"}
    assert all(f.severity == "warning" and "knob_cap/OK/S0005" in f.what for f in told)
    assert "0 ×8, 6 ×1" in next(f.what for f in told if "gain" in f.what)


def test_defects_without_a_code(tmp_path: Path) -> None:
    dataset, _ = make(tmp_path, *honest(), content(20, "pit"))
    assert found(dataset, "labels") == []
    (dataset.root / "meta/defects.json").unlink()
    assert [f.sample for f in found(dataset, "labels")] == ["dent", "pit"]
    table = {"schema": 1, "defects": {"dent": {"code": "DE", "index": 1, "description": ""}}}
    (dataset.root / "meta/defects.json").write_text(json.dumps(table))
    assert [f.sample for f in found(dataset, "labels")] == ["pit"]
    (dataset.root / "meta/defects.json").write_text("[]")
    assert [f.severity for f in found(dataset, "labels")] == ["error"]


def test_a_split_that_no_longer_holds(tmp_path: Path) -> None:
    dataset, _ = make(tmp_path, *honest(20, 4))
    split = write_splits(dataset, "official", SplitRule(by="sample")).splits[0]
    assert found(dataset, "splits") == []
    parts = split.categories["knob_cap"]
    train, test = (OpenSample(dataset.root, SampleKey.parse(keys[0])) for keys in (parts.train, parts.test))
    path = test.root / test.key.extras_folder / layout.SAMPLE_MANIFEST
    path.write_text(path.read_text().replace(f'"{test.manifest.specimen}"', f'"{train.manifest.specimen}"'))
    with dataset.writer() as writer:
        writer.commit(content(50))
        writer.remove(SampleKey.parse(parts.train[1]), "a test")
    told = {(f.severity, f.what.split(":")[0]) for f in found(dataset, "splits")}
    assert told == {
        ("error", f"specimen {train.manifest.specimen!r} stands on two sides of the official split"),
        ("note", "1 samples are in no subset of the official split"),
        ("warning", "1 entries of the official split are no samples"),
    }


def test_an_index_out_of_date(tmp_path: Path) -> None:
    dataset, _ = make(tmp_path, *honest())
    (dataset.root / layout.MANIFEST_FILE).unlink()
    assert {(f.check, f.severity) for f in found(dataset, "index")} == {("index", "warning")}


# --- the cache ---


def test_the_second_check_reads_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, samples = make(tmp_path, *honest())
    first = check_dataset(dataset).findings
    read: list[SampleKey] = []
    original = checks.scan_sample

    def counted(sample: OpenSample) -> Any:
        read.append(sample.key)
        return original(sample)

    monkeypatch.setattr(checks, "scan_sample", counted)
    assert check_dataset(dataset).findings == first
    assert read == []
    tamper(samples[2], "RGBL05", bytes(images.encode_jpeg(scene(40))))
    check_dataset(dataset)
    assert read == [samples[2].key]
    with open(dataset.root / CACHE_FILE, "ab") as handle:
        handle.write(b'{"key":"torn')
    check_dataset(dataset)
    assert read == [samples[2].key]
    (dataset.root / CACHE_FILE).write_bytes(b'{"key":"' + b"0" * 64 + b'","scan":[]}\n\xff\xfe\n')
    assert check_dataset(dataset, only=("masks",)).findings == ()
    assert len(read) == 9
    read.clear()
    check_dataset(dataset, fresh=True)
    assert len(read) == 8


# --- what stays of earlier checks ---


def qc_lines(dataset: Dataset) -> set[tuple[str, str]]:
    lines = (dataset.root / checks.QC_FILE).read_text().splitlines()
    return {(line["check"], line["sample"]) for line in map(json.loads, lines)}


def test_a_check_of_one_category_keeps_the_lines_of_others(tmp_path: Path) -> None:
    others = [replace(content(n + 20, "pit" if n else "OK"), category="flange", mask=None) for n in range(3)]
    across = replace(content(2), category="flange")
    dataset, samples = make(tmp_path, *honest(), *others, across)
    check_dataset(dataset)
    masks = {("masks", f"flange/NG/pit/S000{n}") for n in (1, 2)}
    twice = ("duplicates", "flange/OK/S0002")
    everything = qc_lines(dataset)
    assert everything >= masks | {twice, ("leak", "flange"), ("leak", "knob_cap")}
    mask = next(s for s in samples if s.key == SampleKey("knob_cap", "dent", 1))
    tamper(mask, "MASK", bytes(images.encode_png(np.zeros((H, W), np.uint8))))
    report = check_dataset(dataset, category="knob_cap")
    assert {f.sample.split("/")[0] for f in report.findings} == {"knob_cap"}
    assert qc_lines(dataset) == everything | {("masks", str(mask.key))}
    tamper(reopened(mask), "MASK", bytes(images.encode_png(defect())))
    check_dataset(dataset, category="knob_cap", only=("masks",))
    assert qc_lines(dataset) == everything
    for name in ("flange", "knob_cap"):  # what two categories share is not forgotten by a look at one
        check_dataset(dataset, category=name)
        assert qc_lines(dataset) == everything
    with dataset.writer() as writer:
        writer.remove(SampleKey("flange", "pit", 2), "a test")
    check_dataset(dataset)
    assert qc_lines(dataset) == everything - {("masks", "flange/NG/pit/S0002")}


def test_lines_that_are_no_findings_are_told_and_dropped(tmp_path: Path) -> None:
    dataset, _ = make(tmp_path, *honest())
    check_dataset(dataset)
    with open(dataset.root / checks.QC_FILE, "ab") as handle:
        handle.write(b'{"check":"torn\n[1]\n\xff\n')
    assert check_dataset(dataset, category="knob_cap").notes == (
        "3 lines of meta/qc.jsonl were no findings and are not kept",
    )
    assert qc_lines(dataset) == {("leak", "knob_cap")}


# --- the command ---


def test_the_command(tmp_path: Path) -> None:
    dataset, samples = make(tmp_path, *honest())
    runner = CliRunner()
    result = runner.invoke(check_command, [str(dataset.root)])
    assert result.exit_code == 0
    assert "leak test: untested (" in result.output  # eight samples tell nothing
    result = runner.invoke(check_command, [str(dataset.root), "--json", "--only", "leak"])
    assert (result.exit_code, json.loads(result.stdout)["leak"]["verdict"]) == (6, "untested")
    tamper(samples[-1], "MASK", bytes(images.encode_png(np.zeros((H, W), np.uint8))))
    result = runner.invoke(check_command, [str(dataset.root), "--json", "--only", "masks"])
    assert result.exit_code == 6
    answer = json.loads(result.stdout)
    assert answer["errors"] == 1
    assert answer["findings"][0]["what"] == "the mask is empty"
    assert answer["leak"] is None
    assert all(name in runner.invoke(check_command, ["--help"]).output for name in CHECKS)


def test_the_split_command(tmp_path: Path) -> None:
    dataset, _ = make(tmp_path, *honest(20, 5))
    runner = CliRunner()
    result = runner.invoke(split_command, [str(dataset.root), "--seed", "7", "--validation", "0.2", "--json"])
    assert result.exit_code == 0
    (made,) = json.loads(result.stdout)["splits"]
    counts = {row["label"]: [row[s] for s in ("train", "validation", "test")] for row in made["counts"]}
    assert counts == {"OK": [10, 3, 2], "dent": [0, 0, 5]}  # 0.7, 0.2 and 0.1 of 15
    result = runner.invoke(split_command, [str(dataset.root), "--extend"])
    assert result.exit_code == 0
    assert "20 samples keep their place" in result.output
    result = runner.invoke(split_command, [str(dataset.root), "--extend", "--seed", "7"])
    assert result.exit_code == 2
    assert "leave out --seed" in result.output
    result = runner.invoke(split_command, [str(dataset.root), "--name", "cross", "--folds", "9"])
    assert isinstance(result.exception, InputError)
    assert "fewer than the 9 folds" in str(result.exception)


def test_a_png_without_its_first_chunk_is_told_not_raised(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", 0, b"IEND") + b"\0" * 4)
    assert header_facts(tmp_path / "a.png") == {"header": "unreadable"}
