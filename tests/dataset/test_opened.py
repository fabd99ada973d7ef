"""Reading a sample while a writer changes it, and what is said of one whose manifest is gone."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from rakelight.dataset import journal, layout
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError

KEY = SampleKey("knob_cap", "OK", 1)


def content(value: int) -> SampleContent:
    return SampleContent("knob_cap", "OK", "20251123021300", {5: np.full((24, 32, 3), value, np.uint8)})


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    made = Dataset.init(tmp_path / "set", "pilot")
    with made.writer() as writer:
        writer.commit(content(50))
    return made


def level(sample: OpenSample) -> int:
    picture = sample.rgb()
    assert picture is not None
    return int(np.median(picture))


def test_a_sample_that_was_replaced_after_it_was_opened_is_read_as_it_is_now(dataset: Dataset) -> None:
    sample = OpenSample(dataset.root, KEY)
    assert sample.manifest.revision == 1
    with dataset.writer() as writer:
        writer.replace(KEY, content(150))
    assert abs(level(sample) - 150) <= 2
    assert sample.manifest.revision == 2


def test_a_reader_between_the_renames_of_a_writer_waits_for_them(dataset: Dataset) -> None:
    """The manifest, then a picture, is out of the way for a moment, as the journal tells."""
    fresh, opened = OpenSample(dataset.root, KEY), OpenSample(dataset.root, KEY)
    path = opened.path("RGBL05")
    assert path is not None
    for sample, moved in ((fresh, dataset.root / KEY.extras_folder), (opened, path)):
        aside = dataset.root / layout.STAGING_FOLDER / "aside"
        aside.parent.mkdir(exist_ok=True)
        (dataset.root / journal.JOURNAL_FILE).write_text("{}")
        moved.rename(aside)
        timer = threading.Timer(0.03, aside.rename, [moved])
        timer.start()
        assert abs(level(sample) - 50) <= 2
        timer.join()


def test_damage_is_still_told(dataset: Dataset) -> None:
    sample = OpenSample(dataset.root, KEY)
    path = sample.path("RGBL05")
    assert path is not None
    path.write_bytes(b"x" + path.read_bytes()[1:])
    with pytest.raises(DatasetError) as caught:
        sample.rgb()
    assert caught.value.code == "dataset.damaged"
    (dataset.root / KEY.extras_folder / layout.SAMPLE_MANIFEST).unlink()
    with pytest.raises(DatasetError, match="is not what was written"):
        sample.rgb()


def test_of_a_manifest_that_is_gone_the_cure_is_told(dataset: Dataset) -> None:
    (dataset.root / KEY.extras_folder / layout.SAMPLE_MANIFEST).unlink()
    with pytest.raises(DatasetError, match="knob_cap/OK/S0001: its manifest is gone") as caught:
        OpenSample(dataset.root, KEY).read("RGBL05")
    assert "backup" in caught.value.hint and "repair --quarantine" in caught.value.hint
