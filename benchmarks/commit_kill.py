"""kill -9 at random instants while samples are committed and changed: nothing torn, nothing lost.

``python benchmarks/commit_kill.py -n 200`` prints one JSON object; exit status 1 if a bar is missed:

- ``torn``: committed samples with a missing, short or changed file (bar: 0);
- ``lost``: samples whose commit had returned and that are not there, or there twice (bar: 0);
- ``undone``: changes (new label, content or annotation) that had returned and that are not there (bar: 0);
- ``index_wrong``: recoveries after which the caches differed from the folders (bar: 0);
- ``recovery_s``: time to open a writer after a kill and to close it (bar: 2 s at most);
- ``settled``: interrupted changes that recoveries ended; ``quarantined``: leftovers moved away.

With ``--only commit`` nothing is changed; with ``--only relabel`` (``replace``, ``annotate``) that alone happens to the
samples. A sample is known by its specimen, which every change keeps.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from rakelight.dataset import layout
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset, DatasetWriter

SHAPE = (48, 64)
LABELS = ("OK", "scratch", "dent")
ACTIONS = ("relabel", "replace", "annotate")


def make_content(rng: np.random.Generator, label: str, raw: Path, specimen: str) -> SampleContent:
    """A small sample with every kind of file: 6 JPEGs, mask, TIFF, PNG, raw copy, two JSONs."""
    pictures = rng.integers(0, 256, (6, *SHAPE, 3), np.uint8)
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:9, 4:9] = 255
    return SampleContent(
        category="test_part",
        label=label,
        timestamp="20250101120000",
        rgb={view: pictures[view - 1] for view in layout.VIEWS},
        ps=pictures[5],
        mask=None if label == "OK" else mask,
        extras={"normals": rng.normal(size=(*SHAPE, 3)).astype(np.float32), "valid": mask},
        raw_files={"frame.bin": raw},
        capture={"exposure_us": 1000.0},
        specimen=specimen,
    )


@dataclass(frozen=True)
class Told:
    """What the child says once a call has returned: the sample's state from then on, at least."""

    specimen: str
    label: str
    revision: int
    notes: int

    @classmethod
    def of(cls, root: Path, key: SampleKey) -> Told:
        sample = OpenSample(root, key)
        manifest = sample.manifest
        annotation = json.loads(sample.read("annotation") or b'{"notes": 0}')
        return cls(manifest.specimen, key.label, manifest.revision, annotation["notes"])


def change(writer: DatasetWriter, rng: np.random.Generator, key: SampleKey, action: str, raw: Path) -> SampleKey:
    """Change a sample, whole, in one of the ways there are; returns its key afterwards."""
    sample = OpenSample(writer.root, key)
    if action == "relabel":
        return writer.relabel(key, str(rng.choice([label for label in LABELS if label != key.label])))
    if action == "replace":
        writer.replace(key, make_content(rng, key.label, raw, sample.manifest.specimen))
    else:
        mask = None if key.is_ok else make_content(rng, key.label, raw, "").mask
        writer.annotate(key, {"notes": Told.of(writer.root, key).notes + 1}, mask)
    return key


def work_until_killed(root: Path, raw: Path, seed: int, only: str, reports: Connection) -> None:
    """The child: recovers as any writer does, then commits and changes, and tells each state once its call has returned."""
    rng = np.random.default_rng(seed)
    with Dataset.open(root).writer() as writer:
        while True:
            keys = [info.key for info in Dataset.open(root).listed()]
            if only == "commit" or not keys or (only == "all" and rng.random() < 0.3):
                key = writer.commit(make_content(rng, str(rng.choice(LABELS)), raw, uuid.uuid4().hex)).key
            else:
                action = str(rng.choice(ACTIONS)) if only == "all" else only
                key = change(writer, rng, keys[rng.integers(len(keys))], action, raw)
            reports.send_bytes(json.dumps(asdict(Told.of(root, key))).encode())


def kill_once(root: Path, raw: Path, seed: int, only: str, delay_s: float) -> list[Told]:
    """Run the child, kill it after ``delay_s``; returns what it told."""
    context = multiprocessing.get_context("fork" if sys.platform != "win32" else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=work_until_killed, args=(root, raw, seed, only, theirs))
    child.start()
    theirs.close()
    told: list[Told] = []
    deadline = time.monotonic() + delay_s
    try:
        while (left := deadline - time.monotonic()) > 0:
            if ours.poll(left):
                told.append(Told(**json.loads(ours.recv_bytes())))
        child.kill()
        while True:
            told.append(Told(**json.loads(ours.recv_bytes())))
    except (EOFError, OSError, ValueError):  # the pipe ends with the child, perhaps within a message
        child.kill()
    child.join()
    if child.exitcode is not None and child.exitcode > 0:
        raise RuntimeError(f"the child failed by itself (exit status {child.exitcode})")
    return told


def look(dataset: Dataset) -> tuple[dict[str, list[Told]], int]:
    """Every sample by its specimen, and how many are torn."""
    found: dict[str, list[Told]] = {}
    torn = 0
    for info in dataset.samples():
        if dataset.verify_sample(info):
            torn += 1
        else:
            now = Told.of(dataset.root, info.key)
            found.setdefault(now.specimen, []).append(now)
    return found, torn


def missing(found: dict[str, list[Told]], expected: dict[str, Told]) -> tuple[int, int]:
    """How many samples are not there exactly once, and how many are without a change that had returned."""
    lost = sum(len(found.get(specimen, [])) != 1 for specimen in expected)
    lost += sum(len(same) > 1 for specimen, same in found.items() if specimen not in expected)
    undone = 0
    for specimen, was in expected.items():
        now = next(iter(found.get(specimen, [])), was)
        relabelled = now.label != was.label  # a change more, that could not be told: annotations then may step aside
        undone += now.revision < was.revision or (now.notes < was.notes and not relabelled)
    return lost, undone


def caches(root: Path) -> tuple[list[bytes], list[bytes]]:
    """The lines of manifest.jsonl, sorted, and the content of the JSONs."""
    manifest = root / layout.MANIFEST_FILE
    lines = manifest.read_bytes().splitlines() if manifest.exists() else []
    return sorted(lines), [p.read_bytes() for p in sorted((root / layout.JSON_FOLDER).glob("*.json"))]


def run(folder: Path, kills: int, seed: int, max_delay_ms: float, only: str) -> dict[str, Any]:
    random_delay = random.Random(seed)
    raw = folder / "frame.bin"
    raw.write_bytes(bytes(range(256)) * 64)
    dataset = Dataset.init(folder / "set", "kill test")
    if only not in ("all", "commit"):
        with dataset.writer() as writer:
            for number in range(6):
                writer.commit(make_content(np.random.default_rng(number), LABELS[number % 3], raw, f"part {number}"))
    expected, told = {t[0].specimen: t[0] for t in look(dataset)[0].values()}, 0
    recoveries: list[float] = []
    torn = lost = undone = index_wrong = settled = 0
    start = time.perf_counter()
    for number in range(kills):
        reports = kill_once(dataset.root, raw, seed + number, only, random_delay.uniform(0, max_delay_ms) / 1e3)
        told += len(reports)
        expected |= {report.specimen: report for report in reports}
        if number % 2 or number == kills - 1:  # at times the next child recovers, and may be killed in that
            began = time.perf_counter()
            with dataset.writer() as writer:
                settled += bool(writer.settled)
            recoveries.append(time.perf_counter() - began)
            index_wrong += bool(dataset.index_problems())
            found, broken = look(dataset)
            fewer, older = missing(found, expected)
            torn, lost, undone = torn + broken, lost + fewer, undone + older
            expected = {specimen: same[0] for specimen, same in found.items()}
    recovered = caches(dataset.root)
    dataset.rebuild_index()
    index_wrong += recovered != caches(dataset.root)
    return {
        "kills": kills,
        "only": only,
        "committed": len(expected),
        "reported": told,
        "torn": torn,
        "lost": lost,
        "undone": undone,
        "index_wrong": index_wrong,
        "settled": settled,
        "quarantined": len(list((dataset.root / layout.QUARANTINE_FOLDER).iterdir())),
        "recovery_s": {"median": round(statistics.median(recoveries), 4), "max": round(max(recoveries), 4)},
        "seconds": round(time.perf_counter() - start, 2),
        "seed": seed,
        "bars": {"torn": 0, "lost": 0, "undone": 0, "index_wrong": 0, "recovery_s": 2.0},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", "--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-delay-ms", type=float, default=300.0)
    parser.add_argument(
        "--only", choices=("all", "commit", *ACTIONS), default="all", help="what the killed process does"
    )
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder, removed afterwards)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="commit-kill-") as folder:
        result = run(Path(folder), options.kills, options.seed, options.max_delay_ms, options.only)
    print(json.dumps(result))
    bars = dict(result["bars"])
    slow = result["recovery_s"]["max"] > bars.pop("recovery_s")
    return 1 if slow or any(result[name] > bar for name, bar in bars.items()) else 0


if __name__ == "__main__":
    sys.exit(main())
