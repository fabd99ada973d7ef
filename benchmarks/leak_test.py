"""The leak test on simulated samples: clean as they are, and flagged when a leak is planted.

    python benchmarks/leak_test.py [--parts 40] [--cache FOLDER] [--no-patterns]

Makes ``--parts`` specimens of each of three products (every other one defective), reconstructs them and commits them in
the order of capture, good and defective mixed. Then plants ten leaks in one product, one at a time, each in a copy of the data
set: the files and manifests of its defective samples are changed as a careless lab or an import would. Prints one JSON
object; exits 1 unless the data set is clean and every leak is flagged by the fact it was planted in.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset import images, layout
from rakelight.dataset.checks import check_dataset
from rakelight.dataset.leak_test import LeakReport
from rakelight.dataset.opened import OpenSample, open_samples
from rakelight.dataset.recording import Recording
from rakelight.dataset.writer import Dataset
from rakelight.files import replace as replace_file
from rakelight.files import sha256_bytes
from rakelight.pipeline.reconstruct import reconstruct
from rakelight.pipeline.sample import make_sample
from rakelight.pipeline.simulate import KINDS, Settings
from rakelight.pipeline.simulate_batch import simulate_batch

PRODUCTS = ("knob_cap", "machined_flange", "connector_housing")
WIDTH = 456  # the smallest the simulator makes
START = datetime.datetime(2025, 11, 3, 8, tzinfo=datetime.UTC)
VICTIM = "knob_cap"


def build(root: Path, recordings: Path, parts: int, patterns: bool, products: Sequence[str] = PRODUCTS) -> Dataset:
    """The data set of ``parts`` specimens a product, captured and committed in random order over three days."""
    settings = Settings(WIDTH) if patterns else Settings(WIDTH, pattern_set=None)
    rows = simulate_batch(products, recordings, parts, defects=KINDS, settings=settings)["recordings"]
    order = np.random.default_rng(7).permutation(len(rows))
    dataset = Dataset.init(root, "leak test")
    with dataset.writer() as writer:
        for place, number in enumerate(order):
            row = rows[number]
            recording = Recording.open(recordings / row["recording"])
            calibration = RigCalibration.load(recordings / row["calibration"])
            result = reconstruct(recording, calibration)
            mask = recordings / row["recording"] / "truth" / "defect_mask.png"
            content = make_sample(
                recording,
                result,
                calibration=calibration,
                category=row["name"],
                label=row["label"],
                mask=None if row["label"] == layout.OK else mask,
            )
            day, slot = divmod(place, -(-len(rows) // 3))
            moment = START + datetime.timedelta(days=day, seconds=71 * slot)
            source = content.source.model_copy(update={"calibration": calibration.content_sha256[:16]})
            moved = replace(content, timestamp=f"{moment:%Y%m%d%H%M%S}", batch=f"{moment:%Y-%m-%d}", source=source)
            writer.commit(moved)
    return dataset


# --- changing a committed sample as no command does: the plants ---


def bad(root: Path) -> list[OpenSample]:
    return [s for s in open_samples(root, VICTIM) if not s.key.is_ok]


def put(sample: OpenSample, role: str, data: bytes) -> None:
    """Replace a file (never in place: the copy shares its files with the original) and correct its record."""
    record = sample.record(role)
    assert record is not None
    _replace(sample.root / record.path, data)

    def corrected(manifest: dict[str, Any]) -> None:
        for entry in manifest["files"]:
            if entry["path"] == record.path:
                entry |= {"bytes": len(data), "sha256": sha256_bytes(data)}

    edit_manifest(sample, corrected)


def edit_manifest(sample: OpenSample, change: Callable[[dict[str, Any]], None]) -> None:
    path = sample.root / sample.key.extras_folder / layout.SAMPLE_MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    _replace(path, json.dumps(manifest).encode())


def _replace(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}")
    beside.write_bytes(data)
    replace_file(beside, path)


def recompressed(root: Path) -> None:
    for sample in bad(root):
        picture = cv2.imdecode(np.frombuffer(sample.read("RGBL05") or b"", np.uint8), cv2.IMREAD_COLOR)
        options = [cv2.IMWRITE_JPEG_QUALITY, 94, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        put(sample, "RGBL05", cv2.imencode(".jpg", picture, options)[1].tobytes())


def placeholders(root: Path) -> None:
    """As in Real-IAD D³: X and Y hold a constant, and it is another one in defective files."""
    for sample in open_samples(root, VICTIM):
        xyz = sample.xyz()
        assert xyz is not None
        xyz[..., :2] = 0.166 if sample.key.is_ok else 0.167
        put(sample, "XYZ", tiff(xyz))


def captured_later(root: Path) -> None:
    for number, sample in enumerate(bad(root)):
        moment = START + datetime.timedelta(days=3, seconds=71 * number)
        edit_manifest(sample, lambda m, moment=moment: m.update(timestamp=f"{moment:%Y%m%d%H%M%S}"))  # type: ignore[misc]


def committed_later(root: Path) -> None:
    for number, sample in enumerate(bad(root)):
        moment = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=number)
        edit_manifest(sample, lambda m, moment=moment: m.update(committed_utc=moment.isoformat()))  # type: ignore[misc]


def longer_exposure(root: Path) -> None:
    for sample in bad(root):
        capture = json.loads(sample.read(layout.CAPTURE_FILE) or b"{}")
        capture["exposure_us"] = {name: 1.05 * value for name, value in capture["exposure_us"].items()}
        put(sample, layout.CAPTURE_FILE, (json.dumps(capture, indent=2) + "\n").encode())


def exif(root: Path) -> None:
    body = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"
    for sample in bad(root):
        data = sample.read("RGBL01") or b""
        put(sample, "RGBL01", data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:])


def other_mask(root: Path) -> None:
    """The surface of defective parts is cut out more narrowly than that of good ones."""
    for sample in bad(root):
        xyz, part = sample.xyz(), sample.part_mask()
        assert xyz is not None and part is not None
        near = cv2.dilate(part.view(np.uint8), np.ones((31, 31), np.uint8)) > 0
        xyz[~near] = np.nan
        put(sample, "XYZ", tiff(xyz))


def other_dtype(root: Path) -> None:
    for sample in bad(root):
        xyz = sample.xyz()
        assert xyz is not None
        put(sample, "XYZ", tiff(xyz.astype(np.float64)))


def other_calibration(root: Path) -> None:
    for sample in bad(root):
        edit_manifest(sample, lambda m: m["source"].update(calibration="0123456789abcdef"))


def other_batch(root: Path) -> None:
    for sample in bad(root):
        edit_manifest(sample, lambda m: m.update(batch="returns"))


def tiff(array: np.ndarray) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tiff"
        if array.dtype == np.float32:
            images.write_tiff(path, array)
        else:
            tifffile.imwrite(path, array, photometric="rgb", metadata=None, software="rakelight")
        return path.read_bytes()


# name → (what is done, a word of the fact that must be named)
PLANTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "JPEGs of another quality": (recompressed, "quantisation"),
    "other placeholder constants (D³)": (placeholders, "placeholder value"),
    "captured after the good ones": (captured_later, "time of the capture"),
    "committed after the good ones": (committed_later, "time of the commit"),
    "exposed 5 % longer": (longer_exposure, "exposure_us"),
    "EXIF in one picture": (exif, "metadata"),
    "NaN by another mask": (other_mask, "NaN share around the part"),
    "XYZ of another dtype": (other_dtype, "XYZ: dtype"),
    "another calibration": (other_calibration, "calibration"),
    "a batch of their own": (other_batch, "batch"),
}
OF_THE_SURFACE = (placeholders, other_mask, other_dtype)


def plant(original: Path, folder: Path, change: Callable[[Path], None]) -> LeakReport:
    """The verdict on a copy of the data set that ``change`` has altered."""
    shutil.copytree(original, folder, copy_function=os.link)
    for name in ("meta/scan_cache.jsonl", "meta/.lock"):  # appended to and locked in place: the copy needs its own
        if (folder / name).exists():
            (folder / name).unlink()
            shutil.copyfile(original / name, folder / name)
    change(folder)
    report = check_dataset(Dataset.open(folder), only=("leak",)).leak
    assert report is not None
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=int, default=40, help="specimens of each product")
    parser.add_argument("--cache", type=Path, help="keep the recordings here, so that a second run is quick")
    parser.add_argument("--no-patterns", action="store_true", help="without surfaces: seven of the ten leaks then")
    arguments = parser.parse_args()
    plants = {n: p for n, p in PLANTS.items() if not (arguments.no_patterns and p[0] in OF_THE_SURFACE)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        started = time.monotonic()
        recordings = (arguments.cache or folder) / "recordings"
        dataset = build(folder / "set", recordings, arguments.parts, not arguments.no_patterns)
        made = time.monotonic()
        report = check_dataset(dataset)
        checked = time.monotonic()
        assert report.leak is not None
        planted = {}
        for number, (name, (change, word)) in enumerate(plants.items()):
            leak = plant(dataset.root, folder / f"copy{number}", change)
            hits = [f for f in leak.findings if any(word in fact for fact in f.facts)]
            planted[name] = {
                "verdict": leak.verdict,
                "flagged": bool(hits),
                "auroc": round(max((f.auroc for f in hits), default=0.5), 4),
                "sentence": hits[0].sentence if hits else "",
            }
            shutil.rmtree(folder / f"copy{number}")
    flagged = sum(p["flagged"] for p in planted.values())
    met = report.leak.verdict == "clean" and flagged == len(plants)
    result = {
        "benchmark": "leak_test",
        "samples": report.samples,
        "seconds": {"make": round(made - started, 1), "check": round(checked - made, 1)},
        "untouched": {
            "verdict": report.leak.verdict,
            "facts": report.leak.facts,
            "tests": report.leak.tests,
            "findings": [f.sentence for f in report.leak.findings],
            "other_findings": [f"{f.severity} {f.check}: {f.what}" for f in report.findings if f.check != "leak"][:20],
        },
        "planted": planted,
        "bar": {"clean": report.leak.verdict == "clean", "flagged": f"{flagged} of {len(plants)}", "met": met},
    }
    print(json.dumps(result, indent=2, ensure_ascii=False))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
