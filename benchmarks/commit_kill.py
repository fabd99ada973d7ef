"""kill -9 at random instants while samples are committed: nothing torn, nothing lost.

``python benchmarks/commit_kill.py -n 200`` prints one JSON object; exit status 1 if a bar is missed:

- ``torn``: committed samples with a missing, short or changed file (bar: 0);
- ``lost``: samples whose commit had returned and that are not there (bar: 0);
- ``index_wrong``: recoveries after which the caches differed from the folders (bar: 0);
- ``quarantined``: leftovers moved away; ``recovery_s``: time to open a writer after a kill and to close it.
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
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from rakelight.dataset import layout
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset

SHAPE = (48, 64)


def make_content(rng: np.random.Generator, defective: bool, raw: Path) -> SampleContent:
    """A small sample with every kind of file: 6 JPEGs, mask, TIFF, PNG, raw copy, two JSONs."""
    pictures = rng.integers(0, 256, (6, *SHAPE, 3), np.uint8)
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:9, 4:9] = 255
    return SampleContent(
        category="test_part",
        label="scratch" if defective else "OK",
        timestamp="20250101120000",
        rgb={view: pictures[view - 1] for view in layout.VIEWS},
        ps=pictures[5],
        mask=mask if defective else None,
        extras={"normals": rng.normal(size=(*SHAPE, 3)).astype(np.float32), "valid": mask},
        raw_files={"frame.bin": raw},
        capture={"exposure_us": 1000.0},
    )


def commit_until_killed(root: Path, raw: Path, seed: int, reports: Connection) -> None:
    """The child: recovers as any writer does, then commits and tells each key once its commit has returned."""
    rng = np.random.default_rng(seed)
    with Dataset.open(root).writer() as writer:
        while True:
            done = writer.commit(make_content(rng, bool(rng.integers(2)), raw))
            reports.send_bytes(str(done.key).encode())


def kill_once(root: Path, raw: Path, seed: int, delay_s: float) -> set[SampleKey]:
    """Run the child, kill it after ``delay_s``; returns the keys it told."""
    context = multiprocessing.get_context("fork" if sys.platform != "win32" else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=commit_until_killed, args=(root, raw, seed, theirs))
    child.start()
    theirs.close()
    told: set[SampleKey] = set()
    deadline = time.monotonic() + delay_s
    try:
        while (left := deadline - time.monotonic()) > 0:
            if ours.poll(left):
                told.add(SampleKey.parse(ours.recv_bytes().decode()))
        child.kill()
        while True:
            told.add(SampleKey.parse(ours.recv_bytes().decode()))
    except (EOFError, OSError):  # the pipe ends with the child, perhaps within a message
        child.kill()
    child.join()
    if child.exitcode is not None and child.exitcode > 0:
        raise RuntimeError(f"the child failed by itself (exit status {child.exitcode})")
    return told


def check_samples(dataset: Dataset, known: set[SampleKey]) -> int:
    """Verify the samples not yet in ``known``, add them to it; returns how many are torn."""
    torn = 0
    for info in dataset.samples():
        if info.key not in known:
            known.add(info.key)
            torn += bool(dataset.verify_sample(info))
    return torn


def caches(root: Path) -> tuple[list[bytes], list[bytes]]:
    """The lines of manifest.jsonl, sorted, and the content of the JSONs."""
    manifest = root / layout.MANIFEST_FILE
    lines = manifest.read_bytes().splitlines() if manifest.exists() else []
    return sorted(lines), [p.read_bytes() for p in sorted((root / layout.JSON_FOLDER).glob("*.json"))]


def run(folder: Path, kills: int, seed: int, max_delay_ms: float) -> dict[str, Any]:
    random_delay = random.Random(seed)
    raw = folder / "frame.bin"
    raw.write_bytes(bytes(range(256)) * 64)
    dataset = Dataset.init(folder / "set", "kill test")
    told: set[SampleKey] = set()
    known: set[SampleKey] = set()
    recoveries: list[float] = []
    torn = index_wrong = 0
    start = time.perf_counter()
    for number in range(kills):
        told |= kill_once(dataset.root, raw, seed + number, random_delay.uniform(0, max_delay_ms) / 1e3)
        torn += check_samples(dataset, known)  # as any reader finds it, before recovery
        if number % 2 or number == kills - 1:  # at times the next child recovers, and may be killed in that
            began = time.perf_counter()
            with dataset.writer():
                pass
            recoveries.append(time.perf_counter() - began)
            index_wrong += bool(dataset.index_problems())
    recovered = caches(dataset.root)
    dataset.rebuild_index()
    index_wrong += recovered != caches(dataset.root)
    final: set[SampleKey] = set()
    torn += check_samples(dataset, final)
    return {
        "kills": kills,
        "committed": len(final),
        "reported": len(told),
        "torn": torn,
        "lost": len((told | known) - final),
        "index_wrong": index_wrong,
        "quarantined": len(list((dataset.root / layout.QUARANTINE_FOLDER).iterdir())),
        "recovery_s": {"median": round(statistics.median(recoveries), 4), "max": round(max(recoveries), 4)},
        "seconds": round(time.perf_counter() - start, 2),
        "seed": seed,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", "--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-delay-ms", type=float, default=150.0)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder, removed afterwards)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="commit-kill-") as folder:
        result = run(Path(folder), options.kills, options.seed, options.max_delay_ms)
    print(json.dumps(result))
    return 1 if result["torn"] or result["lost"] or result["index_wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
