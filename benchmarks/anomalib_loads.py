"""Whether anomalib's own data modules load our exports: right counts, pictures, masks and depth aligned to the pixel.

    python benchmarks/anomalib_loads.py --python PATH

PATH is the Python of an environment with anomalib (2.7.0 was used) and no rakelight. A small data set of two products is
made in which every picture, mask and XYZ map tells who it is and where its defect lies: the sample's number stands in a
corner of the picture and of the map, the defect is painted in one colour and lies at one depth. It is exported, and the
other Python loads MVTec3D, Folder3D, Folder, Tabular and MVTecAD through their data loaders and compares. Prints one JSON
object; exit status 1 if a count, a pairing or a pixel is wrong (bar: 0).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SHAPE = (40, 56)
PARTS = {"train": 4, "validation": 2, "test": 3}  # good parts; defective ones are for testing
DEFECTS = {"knob_cap": {"scratch": 3, "pit": 2}, "lego_propeller": {"crack": 2}}
DEFECT_RGB, DEFECT_MM = (255, 0, 255), 90.0


def make_set(folder: Path) -> Any:
    """The data set with its official split; pictures also as lossless originals, which the exports prefer."""
    import numpy as np

    from rakelight.dataset.sample import SampleContent
    from rakelight.dataset.split_files import SplitRule, write_splits
    from rakelight.dataset.writer import Dataset

    rng = np.random.default_rng(3)
    made = Dataset.init(folder, "anomalib", license="CC-BY-4.0")
    count = 0
    with made.writer() as writer:
        for category, defects in DEFECTS.items():
            for label, number in {"OK": sum(PARTS.values()), **defects}.items():
                for _ in range(number):
                    count += 1
                    picture = rng.integers(0, 250, (*SHAPE, 3), np.uint8)
                    xyz = rng.uniform(100, 110, (*SHAPE, 3)).astype(np.float32)
                    xyz[rng.random(SHAPE) < 0.1] = np.nan
                    mask = np.zeros(SHAPE, np.uint8)
                    if label != "OK":
                        row, column = rng.integers(5, 20, 2)
                        mask[row : row + rng.integers(3, 12), column : column + rng.integers(3, 12)] = 255
                        picture[mask > 0] = DEFECT_RGB
                        xyz[mask > 0] = DEFECT_MM
                    picture[0, 0], xyz[0, 0] = count, count
                    content = SampleContent(
                        category=category,
                        label=label,
                        timestamp="0" * 14,
                        rgb={5: picture},
                        mask=mask if label != "OK" else None,
                        xyz=xyz,
                        originals={"RGBL05": picture},
                    )
                    writer.commit(content)
    total = sum(PARTS.values())
    rule = SplitRule(by="sample", train=PARTS["train"] / total, validation=PARTS["validation"] / total)
    write_splits(made, "official", rule)
    return made


def inside(folder: Path) -> dict[str, Any]:
    """In the other environment: load everything; returns counts and faults per data module."""
    without_operators()
    import anomalib
    from anomalib.data import Folder, Folder3D, MVTec3D, MVTecAD, Tabular
    from anomalib.data.utils import ValSplitMode

    common = {"num_workers": 0, "train_batch_size": 1, "eval_batch_size": 1, "val_split_mode": ValSplitMode.NONE}
    results: dict[str, Any] = {"anomalib": anomalib.__version__}
    for category in DEFECTS:
        home = folder / "anomalib" / category
        dirs = {
            "normal_dir": "train/good",
            "normal_test_dir": "test/good",
            "abnormal_dir": "abnormal",
            "mask_dir": "mask",
        }
        depth = {
            "normal_depth_dir": "depth/train/good",
            "normal_test_depth_dir": "depth/test/good",
            "abnormal_depth_dir": "depth/abnormal",
        }
        modules = {
            "MVTec3D": MVTec3D(root=folder / "mvtec3d", category=category, **common),
            "Folder3D": Folder3D(name=category, root=home, **dirs, **depth, **common),
            "Folder": Folder(name=category, root=home, **dirs, **common),
            "Tabular": Tabular.from_file(name=category, file_path=home / "samples.csv", root=home, **common),
            "MVTecAD": MVTecAD(root=folder / "mvtec-ad", category=category, **common),
        }
        for name, module in modules.items():
            module.setup()
            results.setdefault(name, {})[category] = look(module)
    return results


def look(module: Any) -> dict[str, Any]:
    """Counts, and faults of pairing and of pixels, through the data module's own loaders."""
    faults: list[str] = []
    seen: set[int] = set()
    counts = {"train": 0, "good": 0, "defective": 0}
    for part, loader in (("train", module.train_dataloader()), ("test", module.test_dataloader())):
        for batch in loader:
            image, path = batch.image[0], batch.image_path[0]
            bad = bool(batch.gt_label[0])
            counts["train" if part == "train" else "defective" if bad else "good"] += 1
            number = round(float(image[0, 0, 0]) * 255)
            seen.add(number)
            painted = ((image * 255).round().permute(1, 2, 0) == image.new_tensor(DEFECT_RGB)).all(-1)
            mask = batch.gt_mask[0].squeeze() > 0 if batch.gt_mask is not None else None
            if tuple(image.shape) != (3, *SHAPE) or bool(painted.any()) != bad:
                faults.append(f"{path}: label or size")
            if part == "test" and (mask is None or not bool((mask == painted).all())):
                faults.append(f"{path}: mask is not on the defect")
            depth = getattr(batch, "depth_map", None)
            if depth is not None:
                faults += look_at_depth(depth[0], number, painted, path)
    return counts | {"samples": len(seen), "faults": faults}


def look_at_depth(depth: Any, number: int, painted: Any, path: str) -> list[str]:
    """Whose map it is, and whether the defect's depth stands exactly where the picture shows it; in metres."""
    import torch

    at_defect = (depth - DEFECT_MM / 1000).abs().amax(0) < 5e-8
    faults = []
    if not torch.allclose(depth[:, 0, 0], torch.tensor(number / 1000.0), atol=5e-8, rtol=0):
        faults.append(f"{path}: depth map of another sample")
    if not bool((at_defect == painted).all()) or not bool(torch.isfinite(depth).all()):
        faults.append(f"{path}: depth map is not aligned, or holds NaN")
    return faults


def without_operators() -> None:
    """Let torchvision be imported where its compiled operators do not fit torch (a build for CUDA beside one without).

    Data modules use none of them; only their names must exist.
    """
    import importlib.util
    import re

    import torch

    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None or torch.version.cuda is not None:
        return
    text = (Path(found.origin).parent / "_meta_registrations.py").read_text()
    library = torch.library.Library("torchvision", "DEF")
    for name in sorted(set(re.findall(r'(?:register_meta|register_fake)\(\s*"(?:torchvision::)?(\w+)"', text))):
        library.define(f"{name}(Tensor a) -> Tensor")
    globals()["_library"] = library  # its definitions end with it


def expected(name: str, category: str) -> dict[str, int]:
    defective = sum(DEFECTS[category].values())
    counts = {"train": PARTS["train"], "good": PARTS["test"], "defective": defective}
    return counts | {"samples": sum(counts.values())}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", help="Python of the environment with anomalib.")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside is not None:
        print("RESULT " + json.dumps(inside(arguments.inside)))
        return 0
    if not arguments.python:
        parser.error("--python is needed")
    from rakelight.dataset.exporters.job import ExportOptions
    from rakelight.dataset.exporters.targets import exporter

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = make_set(folder / "set")
        problems: list[str] = []
        for target in ("mvtec3d", "anomalib", "mvtec-ad"):
            exporter(target).export(made, folder / target, options=ExportOptions())
            problems += exporter(target).verify(folder / target, made)
        done = subprocess.run(
            [arguments.python, __file__, "--inside", str(folder)], capture_output=True, text=True, cwd=folder
        )
    line = next((x for x in done.stdout.splitlines() if x.startswith("RESULT ")), None)
    if line is None:
        print(json.dumps({"benchmark": "anomalib_loads", "error": done.stderr[-2000:]}, indent=2))
        return 1
    results = json.loads(line.removeprefix("RESULT "))
    version = results.pop("anomalib")
    wrong = [
        f"{name} {category}: {found}"
        for name, by_category in results.items()
        for category, found in by_category.items()
        if found != expected(name, category) | {"faults": []}
    ]
    report = {
        "benchmark": "anomalib_loads",
        "anomalib": version,
        "loaded": results,
        "own_verifier": problems,
        "bar": {"wrong": {"bar": 0, "measured": len(wrong) + len(problems), "met": not wrong and not problems}},
        "wrong": wrong,
    }
    print(json.dumps(report, indent=2))
    return 1 if wrong or problems else 0


if __name__ == "__main__":
    sys.exit(main())
