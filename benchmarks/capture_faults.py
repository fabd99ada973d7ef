"""Captures with a random fault each: is a wrong or torn recording ever accepted, does anything hang, is the fault named?

    python benchmarks/capture_faults.py [-n 200] [--seed 1]

Each capture has one fault at a random place: of the camera's frames, of the serial lines, of the lamps. It ends with a
whole recording whose frames are what a faultless rig gives (the cure worked), or with an error that names the fault and
no recording. Prints one JSON object; exits 1 on a wrong or torn recording, a hang, or less than 95 % named.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from rakelight.acquisition.capture import capture
from rakelight.acquisition.recipe import PatternRecipe, Recipe
from rakelight.acquisition.rig import Rig
from rakelight.dataset.recording import Recording, verify
from rakelight.errors import RakelightError

SIM = "sim://knob_cap?seed=3&width=456&samples=1"
RECIPE = Recipe(
    product="knob_cap",
    exposure_us=6000,
    all_zones_exposure_us=2000,
    patterns=PatternRecipe(steps=4, exposure_us=3000, directions=(2,)),
)
LONGEST_S = 60.0  # of one capture, its rig opened before
# Fault → the codes that name it, in a failed attempt or in the final error; "" where the wire heals it unseen.
NAMES: dict[str, set[str]] = {
    "drop": {"camera.timeout", "frame.lost"},
    "incomplete": {"camera.incomplete"},
    "duplicate": {"frame.duplicate"},
    "late": {"camera.timeout"},
    "unplug": {"camera.lost"},
    "dead_zone": {"check.dead_zone"},
    "swapped_zones": {"check.zone_order"},
    "light.silence": {"", "light.no_answer"},
    "light.deaf": {"", "light.no_answer"},
    "light.garbage": {"", "light.wrong_answer"},
    "light.nak": {"light.refused", "light.wrong_answer", ""},
    "light.disconnect": {"light.lost"},
    "projector.garbage": {"", "projector.wrong_answer"},
    "projector.crc": {"", "projector.wrong_answer"},
    "projector.nak": {"projector.refused"},
    "projector.disconnect": {"projector.lost"},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    wrong: list[str] = []
    hangs: list[str] = []
    unnamed: list[dict[str, Any]] = []
    ends: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        expected = means(take(SIM, Path(folder) / "good")[0])
        for number in range(arguments.n):
            fault = str(rng.choice(list(NAMES)))
            text = place(fault, rng)
            start = time.monotonic()
            recording, codes = take(f"{SIM}&fault={text}", Path(folder) / f"{number:03d}")
            if time.monotonic() - start > LONGEST_S:
                hangs.append(text)
            if recording is not None:
                ends["recorded"] += 1
                found = means(recording)
                if list(verify(recording)) or found.keys() != expected.keys():
                    wrong.append(f"{text}: torn")
                elif any(abs(found[k] - expected[k]) > 0.02 * expected[k] + 2 for k in expected):
                    wrong.append(f"{text}: frames differ from a faultless rig's")
            else:
                ends["refused"] += 1
                if (Path(folder) / f"{number:03d}").exists():
                    wrong.append(f"{text}: something was left")
            if not set(codes or [""]) & NAMES[fault]:
                unnamed.append({"fault": text, "codes": codes})
    named = 1 - len(unnamed) / arguments.n
    met = not wrong and not hangs and named >= 0.95
    result = {
        "benchmark": "capture_faults",
        "captures": arguments.n,
        "ends": dict(ends),
        "wrong_or_torn": wrong,
        "hangs": hangs,
        "unnamed": unnamed,
        "bar": {"named": {"bar": 0.95, "measured": round(named, 4), "met": met}},
    }
    print(json.dumps(result, indent=2))
    return 0 if met else 1


def place(fault: str, rng: np.random.Generator) -> str:
    """The fault at a random frame, command or zone."""
    if fault == "dead_zone":
        return f"dead_zone@{rng.integers(1, 5)}"
    if fault == "swapped_zones":
        a, b = rng.choice([1, 2, 3, 4], 2, replace=False)
        return f"swapped_zones@{a}{b}"
    if fault.startswith("light."):
        return f"{fault}@{rng.integers(9, 18)}"
    if fault.startswith("projector."):
        return f"{fault}@{rng.integers(8, 20)}"
    return f"{fault}@{rng.integers(1, 19)}"


def take(url: str, folder: Path) -> tuple[Recording | None, list[str]]:
    """Capture one part; the recording, if one came, and the codes of everything that went wrong on the way."""
    try:
        with Rig.open(url) as rig:
            try:
                result = capture(rig, RECIPE, folder, part_id="x")
            except RakelightError as error:
                return None, [error.code]
        return Recording.open(folder), [attempt.code for attempt in result.log.attempts]
    except RakelightError as error:  # the rig did not open, or could not be made dark
        return (Recording.open(folder) if folder.exists() else None), [error.code]


def means(recording: Recording | None) -> dict[str, float]:
    """Mean raw value of each shot."""
    assert recording is not None
    return {frame.shot: float(recording.read(frame).mean()) for frame in recording.info.frames}


if __name__ == "__main__":
    sys.exit(main())
