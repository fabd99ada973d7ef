"""``rakelight recording``: what it prints and which code it exits with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakelight.dataset import images

DESCRIPTION = """\
schema = 1
part_id = "cat"
target = "part"
pixel_format = "Mono8"
linear = true
[stack]
files = "Image_{zone}.png"
zones = [1, 2]
[origin]
source = "bench"
citation = "A. Author: A [Title], 2026"
"""


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rakelight", "recording", *arguments]
    return subprocess.run(command, cwd=home, capture_output=True, text=True, encoding="utf-8", timeout=120)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, a description and one imported recording, ``rec``."""
    home = tmp_path_factory.mktemp("cli")
    (home / "images").mkdir()
    for zone in (1, 2):
        images.write_png(home / f"images/Image_{zone}.png", np.full((6, 8), 10 * zone, np.uint8))
    (home / "part.toml").write_text(DESCRIPTION)
    done = run(home, "import", "images", "-d", "part.toml", "-o", "rec")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "cat: 2 frames, 8×6 Mono8, 2 zones",
        "recording: rec",
        "next: rakelight reconstruct rec --calibration CALIBRATION -o OUTPUT",
    ]
    return home


def failure(done: subprocess.CompletedProcess[str], exit_code: int, code: str) -> str:
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert f"[{code}]" in done.stderr and "Traceback" not in done.stderr
    return done.stderr


def test_info(home: Path) -> None:
    done = run(home, "info", "rec")
    assert (done.returncode, done.stderr) == (0, "")
    for text in ("cat: part, 8×6 Mono8", "001_zone1.tiff", "Image_2.png", "source: bench; licence: not stated"):
        assert text in done.stdout
    assert "cite: A. Author: A [Title], 2026" in done.stdout
    data = json.loads(run(home, "info", "rec", "--json").stdout)
    assert data["schema"] == 1 and [f["shot"] for f in data["frames"]] == ["zone1", "zone2"]


def test_import_as_json_and_a_warning(home: Path) -> None:
    (home / "jpeg").mkdir()
    (home / "jpeg/Image_1.jpg").write_bytes(images.encode_jpeg(np.zeros((6, 8), np.uint8)))
    text = DESCRIPTION.replace(".png", ".jpg").replace("[1, 2]", "[1]").replace('"part"', '"chrome_sphere"')
    (home / "jpeg.toml").write_text(text)
    done = run(home, "import", "jpeg", "-d", "jpeg.toml", "-o", "my sphere", "--json")
    data: dict[str, Any] = json.loads(done.stdout)
    assert (data["recording"], data["frames"], data["zones"]) == ("my sphere", 1, [1])
    assert "declared linear" in data["warnings"][0]
    assert data["next"] == "rakelight calibrate lights 'my sphere' -o CALIBRATION"
    done = run(home, "import", "jpeg", "-d", "jpeg.toml", "-o", "my sphere", "--overwrite")
    assert done.returncode == 0 and "warning 1 of 1 frames are JPEG" in done.stderr
    assert "declared linear" in run(home, "info", "my sphere").stderr


def test_verify(home: Path) -> None:
    done = run(home, "verify", "rec")
    assert (done.returncode, done.stdout) == (0, "1 recording, 2 frames: all whole\n")
    assert run(home, "import", "images", "-d", "part.toml", "-o", "damaged").returncode == 0
    (home / "damaged/002_zone2.tiff").write_bytes(b"II*\0")
    done = run(home, "verify", "rec", "damaged", "nowhere")
    assert done.returncode == 7
    assert "damaged: damaged/002_zone2.tiff is not the file that was recorded (4 bytes" in done.stdout.replace(
        "\\", "/"
    )
    assert "nowhere: nowhere does not exist" in done.stdout
    assert done.stdout.endswith("3 recordings, 4 frames: 2 of 3 damaged\n")
    done = run(home, "verify", "rec", "damaged", "--json")
    data = json.loads(done.stdout)
    assert done.returncode == 7 and (data["recordings"], data["frames"]) == (2, 4)
    assert data["problems"]["rec"] == [] and len(data["problems"]["damaged"]) == 1


def test_wrong_usage_exits_with_2(home: Path) -> None:
    done = run(home, "import", "images", "-o", "x")
    assert done.returncode == 2 and "--description" in done.stderr
    assert run(home, "verify").returncode == 2


def test_wrong_description_exits_with_3(home: Path) -> None:
    (home / "typo.toml").write_text(DESCRIPTION.replace("zones", "zone"))
    text = failure(run(home, "import", "images", "-d", "typo.toml", "-o", "x"), 3, "config.invalid")
    assert "unknown key stack.zone (did you mean 'zones'?)" in text and "docs/recordings.md" in text
    failure(run(home, "import", "images", "-d", "absent.toml", "-o", "x"), 3, "config.missing")
    done = run(home, "import", "images", "-d", "typo.toml", "-o", "x", "--json")
    assert done.returncode == 3 and json.loads(done.stdout)["error"]["code"] == "config.invalid"


def test_damage_exits_with_7(home: Path) -> None:
    failure(run(home, "info", "images"), 7, "recording.not_found")
    text = failure(run(home, "import", ".", "-d", "part.toml", "-o", "x"), 7, "image.missing")
    assert "2 of 2 files are missing in ." in text
    (home / "newer").mkdir()
    (home / "newer/recording.json").write_text('{"schema": 9}')
    assert "update rakelight" in failure(run(home, "info", "newer"), 7, "config.schema_unknown")


def test_a_taken_or_unwritable_place_exits_with_8(home: Path) -> None:
    text = failure(run(home, "import", "images", "-d", "part.toml", "-o", "rec"), 8, "storage.exists")
    assert "rec exists already" in text and "--overwrite" in text
    failure(run(home, "import", "images", "-d", "part.toml", "-o", "part.toml/rec"), 8, "storage.not_writable")
    failure(run(home, "import", "images", "-d", "part.toml", "-o", "images", "--overwrite"), 8, "storage.exists")
    assert not list(home.glob(".*"))
