"""Damaged files of every kind that is read: only our errors, quickly, in bounded memory, and never silently wrong.

Each format gets 500 mutated files, the same ones every time: bits turned over, bytes replaced, pieces cut out, doubled or put
elsewhere, files cut off; in texts also numbers, words and brackets put in the place of others.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakelight.calibration.flat_field import FlatField
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset import category_jsons, index, journal, layout
from rakelight.dataset._point_readers import read_pcd, read_ply
from rakelight.dataset.annotations import Annotation, read_annotation
from rakelight.dataset.images import read_image
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.manifest_cache import read_cache
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.recording import Recording
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.split_files import read_split, write_splits
from rakelight.dataset.splits import SplitRule
from rakelight.dataset.verify import verify
from rakelight.dataset.writer import Dataset
from rakelight.errors import RakelightError

FILES = 500
MOST_S = 2.0
MOST_MB = 512
KEY = SampleKey("knob_cap", "scratch", 1)
TIME = "20251123021300"
WORDS = (
    b"-1",
    b"0",
    b"1e999",
    b"99999999999999999999",
    b"NaN",
    b"null",
    b"true",
    b'""',
    b'"\\ud800"',
    b"[" * 3000,
    b"{}",
)


def mutated(data: bytes, rng: random.Random, text: bool) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at, length = rng.randrange(len(out) + 1), rng.choice((1, 2, 4, 16, 200))
        kind = rng.randrange(8 if text else 6)
        if kind == 0 and out:
            out[min(at, len(out) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at : at + length] = rng.choice((b"\x00", b"\xff", b"\x7f")) * length
        elif kind == 2:
            del out[at : at + length]
        elif kind == 3:
            out[at:at] = out[at : at + length]
        elif kind == 4:
            piece, to = out[at : at + length], rng.randrange(len(out) + 1)
            out[to : to + len(piece)] = piece
        elif kind == 5:
            del out[at:]
        elif kind == 6:
            out[at:at] = rng.choice(WORDS)
        else:  # a number or word of the text becomes another one
            end = at
            while end < len(out) and chr(out[end]).isalnum():
                end += 1
            out[at:end] = rng.choice(WORDS)
    return bytes(out)


def mutations(data: bytes, name: str, text: bool) -> Iterator[bytes]:
    rng = random.Random(name)
    made = 0
    while made < FILES:
        changed = mutated(data, rng, text)
        if changed != data:
            made += 1
            yield changed


@dataclass(frozen=True)
class Format:
    """A file of a sound tree, and what reads it; ``hashed`` when nothing changed may be accepted."""

    file: Callable[[Path], Path]
    read: Callable[[Path], Any]
    text: bool = False
    hashed: bool = False


def sample(root: Path) -> OpenSample:
    return OpenSample(root / "set", KEY)


def role(name: str) -> Callable[[Path], Path]:
    return lambda root: sample(root).path(name) or Path("absent")


def image(name: str) -> Format:
    return Format(role(name), lambda root: read_image(role(name)(root)))


FORMATS = {
    "tiff": image("XYZ"),
    "png": image("MASK"),
    "jpeg": image("RGBL05"),
    "packed_tiff": image("normals.tiff"),
    "pcd": Format(role("PCD"), lambda root: read_pcd(role("PCD")(root))),
    "ply": Format(role("cloud.ply"), lambda root: read_ply(role("cloud.ply")(root))),
    **{
        f"{name}_by_hash": Format(role(name), lambda root, name=name: sample(root).read(name), hashed=True)
        for name in ("XYZ", "MASK", "RGBL05", "PCD", "annotation")
    },
    "manifest.json": Format(
        lambda root: root / "set" / KEY.extras_folder / layout.SAMPLE_MANIFEST,
        lambda root: index.read_manifest(root / "set" / KEY.extras_folder / layout.SAMPLE_MANIFEST),
        text=True,
    ),
    "dataset.json": Format(
        lambda root: root / "set" / layout.DATASET_FILE, lambda root: Dataset.open(root / "set"), text=True
    ),
    "manifest.jsonl": Format(
        lambda root: root / "set" / layout.MANIFEST_FILE, lambda root: check_listing(root / "set"), text=True
    ),
    "annotations.json": Format(role("annotation"), lambda root: read_loose_annotation(root), text=True),
    "ids.json": Format(lambda root: root / "set" / layout.IDS_FILE, lambda root: index.survey(root / "set"), text=True),
    "split": Format(
        lambda root: root / "set" / category_jsons.OFFICIAL_SPLIT,
        lambda root: read_split(root / "set", "official"),
        text=True,
    ),
    "split_for_jsons": Format(
        lambda root: root / "set" / category_jsons.OFFICIAL_SPLIT,
        lambda root: category_jsons.official_split(root / "set"),
        text=True,
    ),
    "journal.json": Format(
        lambda root: root / "set" / journal.JOURNAL_FILE, lambda root: journal.pending(root / "set"), text=True
    ),
    "recording.json": Format(
        lambda root: root / "recording/recording.json", lambda root: read_recording(root / "recording"), text=True
    ),
    "recording_frame": Format(
        lambda root: next((root / "recording").glob("*.tif*")),
        lambda root: read_recording(root / "recording"),
        hashed=True,
    ),
    "rig_calibration.json": Format(
        lambda root: root / "cal/rig_calibration.json", lambda root: RigCalibration.load(root / "cal"), text=True
    ),
    "rig_calibration.npz": Format(
        lambda root: next((root / "cal").glob("*.npz")), lambda root: RigCalibration.load(root / "cal"), hashed=True
    ),
}


def check_listing(root: Path) -> None:
    """Whatever manifest.jsonl holds: the samples in the folders are listed, and damage is told."""
    assert [info.key for info in Dataset.open(root).listed()] == [info.key for info in Dataset.open(root).samples()]
    cache = read_cache(root)
    for key in cache.infos:
        cache.records(key)
    assert index.survey(root).problems  # changed by even one bit, it is found out
    verify(root, quick=True)


def read_loose_annotation(root: Path) -> Annotation | None:
    """As if somebody had put a hash of the damaged file into the manifest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OpenSample, "read", lambda *_: b"")
        return read_annotation(sample(root))


def read_recording(folder: Path) -> None:
    recording = Recording.open(folder)
    for frame in recording.info.frames:
        recording.read(frame)


@pytest.fixture(scope="module")
def tree(scenes: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with one sample of everything, a recording and a calibration, all tiny."""
    root = tmp_path_factory.mktemp("fuzz")
    rng = np.random.default_rng(0)
    height, width = 16, 24
    mask = np.zeros((height, width), np.uint8)
    mask[4:9, 5:12] = 255
    xyz = rng.normal(size=(height, width, 3)).astype(np.float32)
    xyz[0] = np.nan
    normals = np.zeros((height, width, 3), np.float32)
    normals[..., 2] = 1
    dataset = Dataset.init(root / "set", "fuzz")
    with dataset.writer() as writer:
        for label in ("OK", "OK", "OK", "OK", "scratch"):
            picture = rng.integers(0, 256, (height, width, 3), np.uint8)
            drawn = None if label == "OK" else mask
            writer.commit(
                SampleContent("knob_cap", label, TIME, {5: picture}, mask=drawn, xyz=xyz, normals=normals, pitch_mm=0.1)
            )
        writer.annotate(KEY, ANNOTATION, mask)
    write_splits(dataset, "official", SplitRule(validation=0))
    with dataset.writer():
        pass  # the JSONs follow the split
    steps = ((KEY.raw_folder, ".quarantine/a/raw"), (KEY.extras_folder, ".quarantine/a/extras"))
    change = journal.Change(what="x", was=str(KEY), now=None, staging=".staging/ab", steps=steps)
    (root / "journal.json").write_text(change.model_dump_json(by_alias=True))
    scenes.record(root / "recording", scenes.part(width=32, height=24))
    gains = rng.integers(1000, 60000, (4, 8, 12)).astype(np.uint16)
    flat_field = FlatField((1, 2, 3, 4), gains, np.full(4, 1e-6, np.float32))
    scenes.calibration(flat_field=flat_field).save(root / "cal")
    return root


ANNOTATION = {
    "schema": 1,
    "width": 24,
    "height": 16,
    "regions": [],
}


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_give_one_of_our_errors(tree: Path, name: str) -> None:
    chosen = FORMATS[name]
    path = chosen.file(tree)
    if name == "journal.json":
        path.write_bytes((tree / "journal.json").read_bytes())
    sound = path.read_bytes()
    refused, slowest = 0, 0.0
    before_mb = peak_mb()
    try:
        if name != "manifest.jsonl":  # whose reader expects damage
            chosen.read(tree)  # sound, it is read
        for number, data in enumerate(mutations(sound, name, chosen.text)):
            path.write_bytes(data)
            began = time.perf_counter()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    chosen.read(tree)
                assert not chosen.hashed, f"file {number} was changed and yet accepted"
            except RakelightError as e:
                refused += 1
                assert e.message
                assert len(e.message) < 5000
            except Exception as e:
                kept = tree / f"failed-{name}"
                kept.write_bytes(data)
                pytest.fail(f"{type(e).__name__} instead of one of our errors, file {number}, kept as {kept}: {e}")
            slowest = max(slowest, time.perf_counter() - began)
    finally:
        path.write_bytes(sound)
        if name == "journal.json":
            path.unlink()
    assert refused == FILES if chosen.hashed else refused > 0 or name == "manifest.jsonl"
    assert slowest < MOST_S * (1 if sys.gettrace() is None else 10)
    assert peak_mb() - before_mb < MOST_MB


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1 << 20)


def test_mutations_differ_from_run_to_run_by_nothing() -> None:
    text = json.dumps({"a": list(range(50))}).encode()
    assert list(mutations(text, "x", True)) == list(mutations(text, "x", True))
    assert len(set(mutations(text, "x", True))) > FILES * 0.7
