"""Zips and Croissant: the same bytes each time, parts of whole samples, read by ``mlcroissant`` itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rakelight.dataset.exporters import croissant, zips
from rakelight.dataset.exporters.job import ExportOptions
from rakelight.dataset.opened import open_samples
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, InputError
from rakelight.files import sha256_bytes, sha256_file

PLAIN = ExportOptions(url="https://example.org/pilot")

LOAD = """
import json, sys
import mlcroissant
data = mlcroissant.Dataset(jsonld=sys.argv[1])
def text(v): return v.decode() if isinstance(v, bytes) else v if isinstance(v, (str, bool)) else [v.mode, *v.size]
loaded = {name: [{k: text(v) for k, v in r.items()} for r in data.records(name)]
          for name in ("samples", "pictures", "masks", "pseudo3d", "points", "splits")}
print(json.dumps({"issues": sorted(data.metadata.ctx.issues.errors), **loaded}))
"""


@pytest.fixture(scope="module")
def zipped(small_set: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zips") / "out"
    zips.export(small_set, folder, options=PLAIN)
    return folder


def members(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(folder.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            found |= {i.filename: archive.read(i) for i in archive.infolist()}
    return found


def load(document: Path, cache: Path) -> Any:
    """With the cache of its own that ``mlcroissant`` needs: it keeps archives by their relative name."""
    command = [sys.executable, "-c", LOAD, str(document)]
    environment = {"CROISSANT_CACHE": str(cache), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def check_loaded(loaded: Any, made: Dataset) -> None:
    there = {str(s.key): s for s in open_samples(made.root)}
    assert loaded["issues"] == []
    assert {r["samples/sample"] for r in loaded["samples"]} == set(there)
    assert {r["samples/part"] for r in loaded["samples"]} == {"train", "validation", "test"}
    assert all(r["samples/defective"] == (r["samples/label"] != "OK") for r in loaded["samples"])
    for name, role in {"pictures": "RGBL05", "masks": "MASK", "pseudo3d": "PS", "points": "XYZ"}.items():
        having = {k: s for k, s in there.items() if s.record(role)}
        assert {r[f"{name}/sample"] for r in loaded[name]} == set(having)
        for row in loaded[name]:
            source = having[row[f"{name}/sample"]]
            path = source.path(role)
            assert path is not None and row[f"{name}/file"] == path.name
            assert (row[f"{name}/category"], row[f"{name}/label"]) == (source.key.category, source.key.label)
            if name != "points":
                assert row[f"{name}/content"][1:] == [64, 48]


def test_zips_hold_the_released_tree(zipped: Path, small_set: Dataset) -> None:
    files = members(zipped / "realiad_d3_raw")
    raw = small_set.root / "realiad_d3_raw"
    assert files == {p.relative_to(raw).as_posix(): p.read_bytes() for p in raw.rglob("*") if p.is_file()}
    with zipfile.ZipFile(zipped / "realiad_d3_jsons.zip") as archive:
        document = json.loads(archive.read("realiad_d3_jsons/knob_cap.json"))
    own = json.loads((small_set.root / "realiad_d3_jsons/knob_cap.json").read_text())
    assert set(document) == set(own) and set(document["test"][0]) == set(own["test"][0])
    assert [len(document[part]) for part in ("train", "validation", "test")] == [2, 2, 5]
    assert all(document["meta"]["prefix"] + e["xyz_path"] in files for e in document["train"])


def test_checksums_are_those_of_sha256sum(zipped: Path) -> None:
    lines = dict(line.split("  ")[::-1] for line in (zipped / "SHA256SUMS").read_text().splitlines())
    assert set(lines) == {
        "croissant.json",
        "samples.csv",
        "realiad_d3_jsons.zip",
        "realiad_d3_raw/knob_cap.zip",
        "realiad_d3_raw/lego_propeller.zip",
    }
    assert all(sha256_file(zipped / name) == digest for name, digest in lines.items())


def test_the_same_samples_give_the_same_bytes(zipped: Path, small_set: Dataset, tmp_path: Path) -> None:
    copy = Dataset.open(shutil.copytree(small_set.root, tmp_path / "copy", copy_function=shutil.copyfile))
    zips.export(copy, tmp_path / "out", options=PLAIN)
    assert (tmp_path / "out/SHA256SUMS").read_bytes() == (zipped / "SHA256SUMS").read_bytes()


def test_long_categories_become_parts_of_whole_samples(small_set: Dataset, tmp_path: Path, zipped: Path) -> None:
    limit = 300_000
    zips.export(small_set, tmp_path / "out", options=replace(PLAIN, max_archive_bytes=limit))
    parts = sorted((tmp_path / "out/realiad_d3_raw").glob("knob_cap.part*.zip"))
    assert len(parts) > 2 and all(p.stat().st_size <= limit for p in parts)
    folders = []
    for part in parts:
        with zipfile.ZipFile(part) as archive:
            folders.append({n.rsplit("/", 1)[0] for n in archive.namelist()})
    assert sum(map(len, folders)) == len(set.union(*folders)) == 9
    assert members(tmp_path / "out/realiad_d3_raw") == members(zipped / "realiad_d3_raw")
    assert zips.verify(tmp_path / "out", small_set) == ()


def test_a_sample_longer_than_an_archive_is_refused(small_set: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        zips.export(small_set, tmp_path / "out", options=replace(PLAIN, max_archive_bytes=10_000))
    assert caught.value.code == "export.archive_too_small"
    assert list(tmp_path.iterdir()) == []


def test_extras_and_calibrations_come_along_when_asked(make_set: Any, tmp_path: Path) -> None:
    from rakelight.dataset.sample import Source

    made = make_set([("knob_cap", "OK", {"source": Source(calibration="calibration/rig-7")})] * 3)
    (made.root / "calibration/rig-7").mkdir()
    (made.root / "calibration/rig-7/rig_calibration.json").write_text("{}")
    zips.export(made, tmp_path / "out", options=replace(PLAIN, extras=True))
    assert zips.verify(tmp_path / "out", made) == ()
    names = members(tmp_path / "out/extras")
    assert {"knob_cap/OK/S0001/part_mask.png", "knob_cap/OK/S0001/capture.json"} <= set(names)
    assert members(tmp_path / "out")["calibration/rig-7/rig_calibration.json"] == b"{}"


def test_a_damaged_file_stops_the_export(make_set: Any, tmp_path: Path) -> None:
    made = make_set([("knob_cap", "OK", {})] * 3)
    path = next(open_samples(made.root)).path("PS")
    assert path is not None
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DatasetError) as caught:
        zips.export(made, tmp_path / "out", options=PLAIN)
    assert caught.value.code == "dataset.damaged"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["SHA256SUMS", "realiad_d3_raw/knob_cap.zip", "croissant.json", "samples.csv"])
def test_a_spoiled_publication_is_found(zipped: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(zipped, tmp_path / "copy"))
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    assert zips.verify(copy) != ()
    (copy / name).unlink()
    assert zips.verify(copy) != ()


def test_croissant_names_each_archive_with_its_hash(zipped: Path) -> None:
    data = json.loads((zipped / "croissant.json").read_text())
    assert "http://mlcommons.org/croissant/1.1" in data["conformsTo"]
    objects = {d["contentUrl"]: d for d in data["distribution"] if d["@type"] == "cr:FileObject"}
    for name, entry in objects.items():
        assert entry["sha256"] == sha256_bytes((zipped / name).read_bytes())
    assert any(key.startswith("rai:") for key in data)
    assert data["license"] == "CC-BY-4.0" and data["url"] == PLAIN.url


def test_croissant_without_url_or_licence_says_so(make_set: Any, tmp_path: Path) -> None:
    made = make_set([("knob_cap", "OK", {})] * 3, license="")
    report = croissant.export(made, tmp_path / "out", options=ExportOptions())
    told = " ".join(report.warnings)
    assert "no --url given" in told and "no licence" in told


def test_mlcroissant_loads_the_zips(zipped: Path, small_set: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("mlcroissant", reason="mlcroissant is not installed (pip install rakelight[croissant])")
    check_loaded(load(zipped / "croissant.json", tmp_path / "cache"), small_set)


def test_mlcroissant_loads_the_data_set_as_it_lies(small_set: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("mlcroissant", reason="mlcroissant is not installed (pip install rakelight[croissant])")
    croissant.export(small_set, tmp_path / "out", options=PLAIN)
    published = Path(shutil.copytree(small_set.root, tmp_path / "published"))
    for name in ("croissant.json", "samples.csv"):
        shutil.copy(tmp_path / "out" / name, published / name)
    check_loaded(load(published / "croissant.json", tmp_path / "cache"), small_set)
