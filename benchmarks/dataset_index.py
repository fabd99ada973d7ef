"""A data set of 10,000 samples: how long until it is open, listed, checked and ready to be written.

``python benchmarks/dataset_index.py`` prints one JSON object; exit status 1 if a bar is missed:

- ``open_s``: open the data set and list every sample (bar: 1 s);
- ``verify_quick_s``: names, sizes, manifests and index of everything (bar: 5 s);
- ``writer_start_s``, ``first_commit_s``, ``writer_close_s``; ``memory_mb``: what all of it adds to this process at most.

The samples have as many files as real ones, hard links to a few tiny ones, written without fsync.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rakelight.dataset import layout
from rakelight.dataset.index import rebuild_index
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.sample import FileRecord, SampleContent, SampleManifest
from rakelight.dataset.verify import verify
from rakelight.dataset.writer import Dataset

TIME = "20250101120000"
EXTRAS = ("part_mask.png", "normals.tiff", "albedo.tiff", "cloud.ply", "capture.json", "annotations.json")
LINKS = 60_000  # to one file, at most: file systems have a limit


class Links:
    """Hands out hard links to copies of one tiny file."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count, self.data = folder, 0, b"tiny"
        self.sha256 = hashlib.sha256(self.data).hexdigest()

    def put(self, path: Path) -> None:
        source = self.folder / f"source-{self.count // LINKS}"
        if self.count % LINKS == 0:
            source.write_bytes(self.data)
        os.link(source, path)
        self.count += 1


def make_sample(root: Path, key: SampleKey, links: Links) -> None:
    """The folders of a sample with all modalities and a manifest that is true of them."""
    raw, extras = root / key.raw_folder, root / key.extras_folder
    raw.mkdir(parents=True)
    extras.mkdir(parents=True)
    modalities = [m for m in layout.MODALITIES if m != "MASK" or not key.is_ok]
    paths = [(f"{key.raw_folder}/{layout.sample_file(key, m, TIME)}", m) for m in modalities]
    paths += [(f"{key.extras_folder}/{name}", "extra") for name in EXTRAS]
    files = []
    for path, role in paths:
        links.put(root / path)
        files.append(FileRecord(path=path, bytes=len(links.data), sha256=links.sha256, role=role))
    manifest = SampleManifest(
        category=key.category,
        label=key.label,
        number=key.number,
        timestamp=TIME,
        committed_utc="2025-01-01T12:00:00+00:00",
        specimen=f"part {key.number}",
        files=tuple(files),
    )
    (extras / layout.SAMPLE_MANIFEST).write_text(json.dumps(manifest.model_dump(by_alias=True), indent=2) + "\n")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return round(time.perf_counter() - start, 3), result


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(folder: Path, samples: int) -> dict[str, Any]:
    dataset = Dataset.init(folder / "set", "index benchmark")
    links = Links(folder)
    making_s, _ = timed(
        lambda: [
            make_sample(dataset.root, SampleKey("test_part", "OK" if n % 2 else "scratch", n // 2 + 1), links)
            for n in range(samples)
        ]
    )
    rebuild_s, _ = timed(lambda: rebuild_index(dataset.root))
    before = memory_mb()
    open_s, listed = timed(lambda: Dataset.open(dataset.root).listed())
    used_s = time.process_time()
    quick_s, report = timed(lambda: verify(dataset.root, quick=True))
    used_s = round(time.process_time() - used_s, 3)
    picture = np.zeros((8, 8, 3), np.uint8)
    opened = dataset.writer()
    start_s, writer = timed(opened.__enter__)
    commit_s, _ = timed(lambda: writer.commit(SampleContent("test_part", "OK", TIME, {5: picture})))
    relabel_s, _ = timed(lambda: writer.relabel(SampleKey("test_part", "OK", 1), "dent"))
    close_s, _ = timed(lambda: opened.__exit__(None, None, None))
    return {
        "samples": len(listed),
        "files": report.files,
        "problems": len(report.problems) + (len(listed) != samples),
        "making_s": making_s,
        "rebuild_index_s": rebuild_s,
        "open_s": open_s,
        "verify_quick_s": quick_s,
        "verify_quick_cpu_s": used_s,
        "writer_start_s": start_s,
        "first_commit_s": commit_s,
        "relabel_s": relabel_s,
        "writer_close_s": close_s,
        "manifest_mb": round((dataset.root / layout.MANIFEST_FILE).stat().st_size / 1e6, 1),
        "memory_mb": round(memory_mb() - before, 1),
        "bars": {"open_s": 1.0, "verify_quick_s": 5.0},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", "--samples", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder, removed afterwards)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="dataset-index-") as folder:
        result = run(Path(folder), options.samples)
    print(json.dumps(result))
    missed = any(result[name] > bar for name, bar in result["bars"].items())
    return 1 if missed or result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
