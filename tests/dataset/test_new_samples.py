"""New samples noticed while another writer commits them: all of them, once, soon, and without work while nothing comes."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from rakelight.dataset.new_samples import NewSamples
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def content(label: str = "OK", category: str = "disc") -> SampleContent:
    return SampleContent(category, label, "0" * 14, {5: np.full((16, 20, 3), 90, np.uint8)})


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset.init(tmp_path / "set", "set")


def names(found: list) -> list[str]:
    return [str(key) for key in found]


def test_new_samples_are_told_once(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        writer.commit(content())
        watched = NewSamples(dataset.root, "disc")
        everything = NewSamples(dataset.root, "disc", known=False)
        assert watched.look() == []
        writer.commit(content())
        writer.commit(content("dent"))
        writer.commit(content(category="ring"))
        assert sorted(names(watched.look())) == ["disc/NG/dent/S0001", "disc/OK/S0002"]
        assert watched.look() == []
        writer.commit(content("dent"))
        assert names(watched.look()) == ["disc/NG/dent/S0002"]
    assert watched.look() == []  # the writer's end rewrites its caches
    assert len(everything.look()) == 5 - 1


def test_an_empty_data_set_can_be_watched_before_its_first_sample(dataset: Dataset) -> None:
    watched = NewSamples(dataset.root, "disc")
    assert watched.look() == []
    with dataset.writer() as writer:
        writer.commit(content("scratch"))
    assert names(watched.look()) == ["disc/NG/scratch/S0001"]


def test_a_relabelled_or_rebuilt_sample_is_not_new(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        key = writer.commit(content()).key
        other = writer.commit(content()).key
    watched = NewSamples(dataset.root, "disc")
    with dataset.writer() as writer:
        now = writer.relabel(key, "dent")
        writer.replace(other, content())
        assert watched.look() == []
        writer.relabel(now, "scratch")
        fresh = writer.commit(content())
        assert watched.look() == [fresh.key]
        writer.remove(other, "test")
    assert watched.look() == []


def test_nothing_is_listed_while_nothing_changes_but_for_the_safety_net(dataset: Dataset) -> None:
    clock = Clock()
    with dataset.writer() as writer:
        writer.commit(content())
    watched = NewSamples(dataset.root, "disc", clock=clock)
    before = watched.listings
    for _ in range(40):
        clock.now += 0.1
        watched.look()
    assert watched.listings == before
    clock.now += 1.5
    watched.look()
    assert watched.listings == before + 1


def test_a_file_system_that_shows_no_sign_is_caught_by_the_listing(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(NewSamples, "_look_at_signs", lambda self: ("always the same",))
    watched = NewSamples(dataset.root, "disc", clock=clock)
    with dataset.writer() as writer:
        writer.commit(content())
    assert watched.look() == []
    clock.now += 6
    assert names(watched.look()) == ["disc/OK/S0001"]


def test_a_sample_that_cannot_be_read_is_told_too(dataset: Dataset) -> None:
    watched = NewSamples(dataset.root, "disc")
    with dataset.writer() as writer:
        done = writer.commit(content())
    (done.extras_folder / "manifest.json").write_text("{")
    assert watched.look() == [done.key]


def test_a_data_set_that_goes_away_is_told(dataset: Dataset) -> None:
    watched = NewSamples(dataset.root, "disc")
    shutil.rmtree(dataset.root)
    with pytest.raises(DatasetError, match="no longer there"):
        watched.look()


def test_every_commit_of_a_busy_writer_is_noticed_within_a_look_or_two(dataset: Dataset) -> None:
    watched = NewSamples(dataset.root, "disc")
    committed: dict[str, float] = {}

    def write() -> None:
        with dataset.writer() as writer:
            for n in range(12):
                done = writer.commit(content("OK" if n % 3 else "dent"))
                committed[str(done.key)] = time.monotonic()

    thread = threading.Thread(target=write)
    thread.start()
    seen: dict[str, float] = {}
    end = time.monotonic() + 20
    while len(seen) < 12 and time.monotonic() < end:
        for key in watched.look():
            assert str(key) not in seen
            seen[str(key)] = time.monotonic()
        time.sleep(0.02)
    thread.join()
    assert seen.keys() == committed.keys()
    assert np.median([seen[k] - committed[k] for k in seen]) < 0.3
