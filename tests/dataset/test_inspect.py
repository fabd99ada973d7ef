"""``inspect``: each answer against archives built to have that answer."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from PIL import Image

from rakelight.cli.dataset import dataset as commands
from rakelight.dataset import inspect as module
from rakelight.dataset.inspect import Answer, Inspection, inspect
from rakelight.dataset.inspect_page import page
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError

H, W = 40, 60


def smooth(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[:H, :W]
    waves = [np.sin(u / rng.uniform(5, 15) + rng.uniform(0, 6)) + np.cos(v / rng.uniform(5, 15)) for _ in range(3)]
    return (60 + 25 * np.stack(waves, -1)).clip(0, 255)


def normals_picture() -> np.ndarray:
    n = np.stack((np.random.default_rng(0).normal(0, 0.3, (H, W)), np.zeros((H, W)), np.ones((H, W))), -1)
    return np.round((n / np.linalg.norm(n, axis=-1, keepdims=True) + 1) * 127.5).astype(np.uint8)


def make(root: Path, **changes: Any) -> Path:
    """Six good and six defective samples of one category; ``changes`` say what is different from a healthy archive."""
    for label in ("OK", "dent"):
        for number in range(1, 7):
            write(root, label, number, **changes)
    entries = [("OK", n) for n in range(1, 7)] + [("dent", n) for n in range(1, 7)]
    document = {
        "meta": {"prefix": "fuse/", "normal_class": "OK"},
        "train": [entry(*e, **changes) for e in entries[:4]],
        "test": [entry(*e, **changes) for e in entries[4:]],
    }
    (root / "realiad_d3_jsons").mkdir()
    (root / "realiad_d3_jsons" / "fuse.json").write_text(json.dumps(document))
    return root


def entry(label: str, number: int, *, pcd_path: bool = False, **_: Any) -> dict[str, str]:
    path = f"{'OK' if label == 'OK' else 'NG/' + label}/S{number:04d}/fuse_{number:04d}_{label}"
    made = {"category": "fuse", "anomaly_class": label, "image_path": f"{path}_RGBL05_{'0' * 14}.jpg"}
    return made | ({"pcd_path": f"{path}_PCD_{'0' * 14}.pcd"} if pcd_path else {})


def write(
    root: Path,
    label: str,
    number: int,
    *,
    ps: str = "normals",
    light: str = "mean",
    xy: tuple[float, float] | None = (0.01, 0.01),
    order: str = "hwc",
    pcd: str = "binary",
    mask: int = 255,
    size: tuple[int, int] = (H, W),
    bulk: int = 0,
    ply: bool = False,
    points_truth: bool = False,
    **_: Any,
) -> None:
    good = label == "OK"
    home = root / "fuse" / ("OK" if good else f"NG/{label}") / f"S{number:04d}"
    home.mkdir(parents=True)

    def path(token: str, suffix: str) -> Path:
        return home / f"fuse_{number:04d}_{label}_{token}_{'0' * 14}.{suffix}"

    single = [smooth(100 * number + n) for n in range(1, 5)]
    own = smooth(999 + number)
    reference = {"mean": np.mean(single, 0), "largest": np.max(single, 0), "sum": np.sum(single, 0), "own": own}[light]
    for n, image in enumerate((*single, reference), 1):
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(
            path(f"RGBL{n:02d}", "jpg"), quality=98, subsampling=0
        )
    Image.fromarray(normals_picture() if ps == "normals" else smooth(5).astype(np.uint8)).save(
        path("PS", "jpg"), quality=98
    )
    rng = np.random.default_rng(number)
    xyz = np.empty((*size, 3), np.float32)
    xyz[..., 2] = rng.normal(5, 1, size)
    if xy is None:
        xyz[..., 0], xyz[..., 1] = np.meshgrid(np.arange(size[1]) * 0.01, np.arange(size[0]) * 0.01)
    else:
        xyz[..., :2] = xy[0] if good else xy[1]
    xyz[rng.random(size) < 0.1, 2] = np.nan
    stored = xyz if order == "hwc" else np.ascontiguousarray(np.moveaxis(xyz, -1, 0))
    kind = {"photometric": "rgb"} if order == "hwc" else {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite(path("XYZ", "tiff"), stored, **kind)
    if not good and mask:
        image = np.zeros((H, W), np.uint8)
        image[3:9, 3:9] = mask
        Image.fromarray(image).save(path("RGBL05", "png"))
    cloud = [(n % 20 * 0.01, n // 20 * 0.01, 5.0, 1e-39 * (n + 1)) for n in range(200)]
    head = (
        "VERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\nWIDTH 200\nHEIGHT 1\n"
        f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 200\nDATA {pcd}\n"
    )
    body = b"".join(struct.pack("<4f", *p) for p in cloud)
    if pcd == "ascii":
        body = "".join(f"{x} {y} {z} {c}\n" for x, y, z, c in cloud).encode()
    path("PCD", "pcd").write_bytes(head.encode() + body + (b"" if good else b" " * bulk))
    if ply:
        path("PCD", "ply").write_bytes(b"ply\n")
    if points_truth:
        path("PCD", "txt").write_text("1 1\n")


def answer(found: Inspection, start: str) -> Answer:
    (one,) = [a for a in found.answers if a.question.startswith(start)]
    return one


def test_healthy_archive(tmp_path: Path) -> None:
    found = inspect(make(tmp_path / "a", xy=None))
    assert found.format == "d3"
    assert found.counts == {"fuse": {"OK": {"test": 2, "train": 4}, "dent": {"test": 6}}}
    assert answer(found, "In which order").answer.startswith("H×W×3 float32")
    assert answer(found, "How are missing").answer.startswith("NaN")
    assert answer(found, "Are X and Y").answer == "true (6)"
    assert answer(found, "Which unit").answer.startswith("millimetres, by the pitch: neighbours are 0.01 apart")
    assert answer(found, "Does PS").answer.startswith("yes")
    assert "closest to the mean" in answer(found, "Which light").answer
    assert "{0, 255} in 3" in answer(found, "Which values").answer
    assert "no pcd_path" in answer(found, "What do the JSONs").answer
    assert answer(found, "How many samples").answer == "6 test NG, 2 test OK, 4 train OK"
    assert answer(found, "Are there PLY").answer == "none"
    assert "binary" in answer(found, "How are point").answer
    assert "200 to 200 points" in answer(found, "How are point").answer
    assert "colours in 6 of 6" in answer(found, "How are point").answer
    assert answer(found, "Do file sizes").verdict == "fine"
    assert answer(found, "Could everything").verdict == "fine"
    assert f"RGB {W}×{H}" in answer(found, "How large").answer
    assert not [a for a in found.answers if a.verdict == "warning"]


def test_placeholders_and_their_leak(tmp_path: Path) -> None:
    found = inspect(make(tmp_path / "a", xy=(0.166, 0.17)))
    assert answer(found, "Are X and Y").answer == "placeholder (6)"
    assert "0.166, 0.17" in answer(found, "What does the constant").answer
    assert "none fits" in answer(found, "What does the constant").answer
    leak = answer(found, "Do the constants")
    assert leak.verdict == "warning"
    assert leak.answer.startswith("yes in 1 of 1")
    harmless = inspect(make(tmp_path / "b", xy=(0.01, 0.01)))
    assert answer(harmless, "Do the constants").verdict == "fine"
    assert "0.01 fits a pitch" in answer(harmless, "What does the constant").answer


@pytest.mark.parametrize("light", ["mean", "largest", "sum", "own"])
def test_light_of_l05(light: str, tmp_path: Path) -> None:
    told = answer(inspect(make(tmp_path / "a", light=light)), "Which light").answer
    assert told.startswith("none of them" if light == "own" else f"closest to the {light}")


def test_ps_that_is_a_picture(tmp_path: Path) -> None:
    told = answer(inspect(make(tmp_path / "a", ps="relief")), "Does PS")
    assert told.answer.startswith("no")


def test_the_rest_of_the_variants(tmp_path: Path) -> None:
    found = inspect(
        make(
            tmp_path / "a",
            order="chw",
            pcd="ascii",
            mask=1,
            size=(20, 30),
            bulk=500,
            ply=True,
            points_truth=True,
            pcd_path=True,
        )
    )
    assert answer(found, "In which order").answer.startswith("3×H×W")
    assert "ascii" in answer(found, "How are point").answer
    assert "{0, 1} in 3" in answer(found, "Which values").answer
    assert answer(found, "How large").verdict == "warning"
    assert answer(found, "Are there PLY").answer.startswith("12")
    assert answer(found, "Is there ground").answer.startswith("12")
    assert "pcd_path is there in 12 entries" in answer(found, "What do the JSONs").answer
    sizes = answer(found, "Do file sizes")
    assert sizes.verdict == "warning"
    assert "fuse PCD (AUROC 1.00)" in sizes.answer


def test_defective_samples_without_masks(tmp_path: Path) -> None:
    masks = answer(inspect(make(tmp_path / "a", mask=0)), "Which values")
    assert masks.verdict == "warning"
    assert "6 of 6 defective samples have none" in masks.answer


def test_damage_is_told_not_raised(tmp_path: Path) -> None:
    root = make(tmp_path / "a")
    for path in root.rglob("*S0001/*"):
        path.write_bytes(path.read_bytes()[:60])
    found = inspect(root, per_class=2)
    damage = answer(found, "Could everything")
    assert damage.verdict == "warning"
    assert damage.answer == "no: 15 of 34 files"


def test_zip_is_read_in_part_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "a")
    path = tmp_path / "fuse.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in root.rglob("*.*"):
            archive.write(file, file.relative_to(root))
    opened = []
    plain = module.pixels.read_picture
    monkeypatch.setattr(module.pixels, "read_picture", lambda view, name: (opened.append(name), plain(view, name))[1])
    found = inspect(path, per_class=1)
    assert len(opened) == 12  # six pictures of one good and one defective sample
    assert found.opened == 17
    assert not [a for a in found.answers if a.verdict == "open"]


def test_other_formats_get_their_answers(tmp_path: Path) -> None:
    folder = tmp_path / "m" / "bagel" / "train" / "good"
    for kind in ("rgb", "xyz"):
        (folder / kind).mkdir(parents=True)
    Image.fromarray(smooth(1).astype(np.uint8)).save(folder / "rgb" / "000.png")
    xyz = np.dstack((*np.meshgrid(np.arange(W) * 1e-4, np.arange(H) * 1e-4), np.full((H, W), 0.5)))
    xyz[:5] = 0
    tifffile.imwrite(folder / "xyz" / "000.tiff", xyz.astype(np.float32), photometric="rgb")
    found = inspect(tmp_path / "m")
    assert found.format == "mvtec3d"
    assert answer(found, "Which unit").answer.startswith("metres")
    assert answer(found, "How are missing").answer.startswith("(0, 0, 0)")
    with pytest.raises(DatasetError):
        inspect(tmp_path / "absent")


def test_page_shows_every_answer_and_takes_no_markup(tmp_path: Path) -> None:
    found = Inspection(
        Path("<b>"), "d3", {"<i>": {"OK": {"": 1}}}, (Answer("<q>", "<script>", "&", "warning"),), ("<odd>",), 1
    )
    html = page(found)
    assert "<script>" not in html
    assert html.count("&lt;") == 6
    assert "http" not in html


# --------------------------------------------------------------------------------------------------------------------- cli
def test_commands(tmp_path: Path) -> None:
    root = make(tmp_path / "a")
    Dataset.init(tmp_path / "set", "set")
    runner = CliRunner()
    seen = runner.invoke(commands, ["inspect", str(root), "--html", str(tmp_path / "page.html")])
    assert seen.exit_code == 0, seen.output
    assert "Are X and Y coordinates?" in seen.output
    assert "Are X and Y coordinates?" in (tmp_path / "page.html").read_text()
    dry = runner.invoke(commands, ["import", str(tmp_path / "set"), str(root), "--dry-run", "--json"])
    assert dry.exit_code == 0, dry.output
    assert json.loads(dry.stdout)["new"] == 12
    assert not list((tmp_path / "set" / "realiad_d3_raw").iterdir())
    (path,) = (root / "fuse/OK/S0002").glob("*RGBL05*")
    path.write_bytes(b"")
    done = runner.invoke(commands, ["import", str(tmp_path / "set"), str(root), "--category", "fuse"])
    assert done.exit_code == 10, done.output
    assert "11 imported" in done.output
    assert "fuse/OK/S0002: failed [image.unreadable]" in done.output
    again = runner.invoke(commands, ["import", str(tmp_path / "set"), str(root), "--json", "--format", "d3"])
    told = json.loads(again.stdout)
    assert (told["there"], len(told["imported"]), len(told["failed"])) == (11, 0, 1)
