"""The index: the listing from the cache, the cache's own checks, and the official split in the released JSONs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakelight.dataset import index, layout
from rakelight.dataset.category_jsons import OFFICIAL_SPLIT
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.manifest_cache import read_cache
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset
from rakelight.errors import StorageError

TIME = "20251123021300"


def content(label: str = "OK", category: str = "knob_cap", **more: Any) -> SampleContent:
    picture = np.zeros((8, 12, 3), np.uint8)
    return SampleContent(category, label, TIME, {5: picture}, **more)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Dataset.init(tmp_path_factory.mktemp("sound") / "set", "x")
    with made.writer() as writer:
        for number in range(3):
            writer.commit(content(specimen=f"part {number}", batch="monday", simulated=number == 2))
        writer.commit(content("scratch"))
        writer.commit(content(category="fuse_holder"))
    return made.root


@pytest.fixture
def dataset(sound: Path, tmp_path: Path) -> Dataset:
    return Dataset.open(shutil.copytree(sound, tmp_path / "set"))


def key(number: int, label: str = "OK", category: str = "knob_cap") -> SampleKey:
    return SampleKey(category, label, number)


def facts(infos: Any) -> list[tuple[Any, ...]]:
    return [
        (i.key, i.timestamp, i.specimen, i.batch, i.simulated, i.revision, i.modalities, i.bytes, i.damage)
        for i in infos
    ]


# --- listing ---


def test_listing_tells_what_the_folders_tell(dataset: Dataset) -> None:
    assert facts(dataset.listed()) == facts(dataset.samples())
    assert facts(dataset.listed("fuse_holder")) == facts(dataset.samples("fuse_holder"))
    assert [i.specimen for i in dataset.listed("knob_cap")] == ["part 0", "part 1", "part 2", ""]


def test_listing_reads_no_manifest(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        pytest.fail("a manifest was read")

    monkeypatch.setattr(index, "read_sample", never)
    assert len(dataset.listed()) == 5


@pytest.mark.parametrize("damage", ["gone", "empty", "half", "flipped", "old"])
def test_listing_does_not_depend_on_the_cache(dataset: Dataset, damage: str) -> None:
    path = dataset.root / layout.MANIFEST_FILE
    expected, data = facts(dataset.listed()), path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "old":  # as written before the summaries
        lines = [json.loads(line) for line in data.splitlines()]
        kept = ({k: v for k, v in x.items() if k not in ("summary", "crc32")} for x in lines)
        path.write_text("".join(json.dumps(x, separators=(",", ":")) + "\n" for x in kept))
    else:
        flipped = data[:400] + bytes([data[400] ^ 4]) + data[401:]
        path.write_bytes({"empty": b"", "half": data[: len(data) // 2], "flipped": flipped}[damage])
    assert facts(dataset.listed()) == expected
    assert dataset.index_problems()
    with dataset.writer() as writer:
        assert writer.mended
    assert facts(dataset.listed()) == expected
    assert sorted(path.read_bytes().splitlines()) == sorted(data.splitlines())


def test_every_single_flipped_byte_is_noticed(dataset: Dataset) -> None:
    path = dataset.root / layout.MANIFEST_FILE
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        cache = read_cache(dataset.root)
        assert cache.problem
        assert len(cache.infos) >= 3  # of 5: a byte belongs to one sample, a line end to two


def test_removed_folder_leaves_the_list_and_keeps_its_number(dataset: Dataset) -> None:
    shutil.rmtree(dataset.root / key(3).raw_folder)
    shutil.rmtree(dataset.root / key(3).extras_folder)
    assert key(3) not in [i.key for i in dataset.listed()]
    path = dataset.root / layout.MANIFEST_FILE
    path.write_bytes(path.read_bytes().replace(b'"modalities"', b'"modalitieZ"', 1))  # and the cache is damaged
    with dataset.writer() as writer:
        assert writer.commit(content()).key == key(4)


def test_mending_reads_only_what_the_cache_does_not_know(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[SampleKey] = []
    real = index.read_sample

    def reading(root: Path, key: SampleKey) -> Any:
        read.append(key)
        return real(root, key)

    path = dataset.root / layout.MANIFEST_FILE
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-3]))
    monkeypatch.setattr(index, "read_sample", reading)
    with dataset.writer() as writer:
        assert writer.mended
    assert len(read) == 1


def test_changes_are_appended_and_tidied_at_the_end(dataset: Dataset) -> None:
    path = dataset.root / layout.MANIFEST_FILE
    with dataset.writer() as writer:
        before = path.read_bytes()
        writer.relabel(key(1), "dent")
        writer.annotate(key(1, "dent"), {"n": 1})
        writer.remove(key(2), "x")
        assert path.read_bytes().startswith(before)
        assert facts(dataset.listed()) == facts(dataset.samples())
    assert b"removed" not in path.read_bytes()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == len({x["path"] for x in lines})
    assert dataset.index_problems() == ()
    with dataset.writer() as writer:
        assert writer.mended == ()
        assert writer.commit(content()).key == key(4)


def test_change_that_the_cache_could_not_take_is_finished_later(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StorageError("disk full while writing manifest.jsonl")

    with dataset.writer() as writer:
        monkeypatch.setattr(index, "append_removal", full)
        with pytest.raises(StorageError, match="relabelling"):
            writer.relabel(key(1), "dent")
        monkeypatch.undo()
    assert key(1, "dent") in [i.key for i in dataset.listed()]
    assert dataset.index_problems() == ()


# --- the official split ---


def write_split(dataset: Dataset, categories: Any) -> None:
    path = dataset.root / OFFICIAL_SPLIT
    path.parent.mkdir(exist_ok=True)
    text = json.dumps({"schema": 1, "name": "official", "seed": 0, "by": "sample", "categories": categories})
    path.write_text(text)


def parts(dataset: Dataset, category: str = "knob_cap") -> dict[str, list[str]]:
    data = json.loads((dataset.root / layout.JSON_FOLDER / f"{category}.json").read_text())
    return {p: [e["image_path"].rsplit("/", 1)[0] for e in data[p]] for p in ("train", "validation", "test")}


SPLIT = {
    "knob_cap": {
        "train": ["knob_cap/OK/S0001"],
        "validation": ["knob_cap/OK/S0003"],
        "test": ["knob_cap/OK/S0002", "knob_cap/NG/scratch/S0001"],
    }
}


def test_official_split_decides_the_jsons(dataset: Dataset) -> None:
    assert parts(dataset) == {
        "train": ["OK/S0001", "OK/S0002", "OK/S0003"],
        "validation": [],
        "test": ["NG/scratch/S0001"],
    }
    write_split(dataset, SPLIT)
    assert dataset.index_problems() == ("realiad_d3_jsons/knob_cap.json is out of date",)
    with dataset.writer() as writer:
        writer.commit(content())  # it stands in no part of a split that is published
    expected = {"train": ["OK/S0001"], "validation": ["OK/S0003"], "test": ["OK/S0002", "NG/scratch/S0001"]}
    assert parts(dataset) == expected
    assert parts(dataset, "fuse_holder") == {"train": ["OK/S0001"], "validation": [], "test": []}
    assert dataset.index_problems() == ()
    (dataset.root / OFFICIAL_SPLIT).unlink()
    with dataset.writer():
        pass
    assert len(parts(dataset)["train"]) == 4


@pytest.mark.parametrize(
    "categories",
    [
        {"knob_cap": {"train": ["knob_cap/OK/S0001"], "test": ["knob_cap/OK/S0001"]}},
        {"knob_cap": {"train": ["fuse_holder/OK/S0001"]}},
        {"knob_cap": {"train": ["../OK/S0001"]}},
        {"Knob": {"train": []}},
        {"knob_cap": []},
    ],
)
def test_unusable_split_leaves_the_jsons_and_stops_no_writer(dataset: Dataset, categories: Any) -> None:
    before = parts(dataset)
    write_split(dataset, categories)
    (problem,) = dataset.index_problems()
    assert "official split" in problem
    with dataset.writer() as writer:
        writer.commit(content())
    assert parts(dataset) == before
    write_split(dataset, SPLIT)
    with dataset.writer():
        pass
    assert dataset.index_problems() == ()
