"""Captures with a random fault each: is a wrong or torn recording ever accepted, does anything hang, is the fault named?

    python benchmarks/capture_faults.py [-n 200] [--seed 1]

Each capture has one fault at a random place: of the camera's frames (stepped or in a burst), of the serial lines, of the
lamps. It ends with a whole recording whose frames are, pixel by pixel and to noise, what a faultless rig gives (the cure
worked), or with an error that names the fault, and nothing left behind. A fault counts as named when its code stands in a
failed attempt or in the error; one of a serial line also when the driver healed it by asking again, and the line's
statistics show that it did ("healed" in the result).

Before that, the measure itself is tried: a second capture, with other noise, must agree with the first, and any two shots
with different commands must not. Prints one JSON object; exits 1 on a wrong or torn recording, a hang, or less than 95 %
named. A capture that does not return at all ends the program with the stacks of all threads.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition.capture import capture
from rakelight.acquisition.recipe import PatternRecipe, Recipe
from rakelight.acquisition.rig import Rig
from rakelight.acquisition.simulator.rig import Sensor
from rakelight.dataset.recording import Recording, verify
from rakelight.errors import RakelightError

SIM = "sim://knob_cap?seed=3&width=456&samples=1"
RECIPE = Recipe(
    product="knob_cap",
    exposure_us=6000,
    all_zones_exposure_us=2000,
    patterns=PatternRecipe(steps=4, exposure_us=3000, directions=(2,)),
)
LONGEST_S = 60.0  # of one capture, from opening the rig to its end
MOST_NOISE = 1.25  # mean square of the difference, in units of what the noise of two frames makes; see the control
# Fault → the codes that name it, in a failed attempt or in the error.
NAMES: dict[str, set[str]] = {
    "drop": {"camera.timeout", "frame.lost"},
    "incomplete": {"camera.incomplete"},
    "duplicate": {"frame.duplicate"},
    "late": {"camera.timeout", "frame.lost"},  # the latter in a burst, where all patterns were shown
    "over_trigger": {"frame.over_trigger"},
    "unplug": {"camera.lost"},
    "dead_zone": {"check.dead_zone"},
    "swapped_zones": {"check.zone_order"},
    "light.silence": {"light.no_answer"},
    "light.deaf": {"light.no_answer"},
    "light.late": {
        "light.no_answer",
        "light.wrong_answer",
    },  # the latter where it came as an answer to the next command
    "light.garbage": {"light.wrong_answer"},
    "light.nak": {"light.refused"},
    "light.disconnect": {"light.lost"},
    "projector.silence": {"projector.no_answer"},
    "projector.late": {"projector.no_answer", "projector.wrong_answer"},
    "projector.garbage": {"projector.wrong_answer"},
    "projector.crc": {"projector.wrong_answer"},
    "projector.nak": {"projector.refused"},
    "projector.disconnect": {"projector.lost"},
}
CAMERA = ("drop", "incomplete", "duplicate", "late", "over_trigger", "unplug")
Frames = dict[str, NDArray[Any]]


@dataclass
class Found:
    """What came of one capture: its recording, if one was accepted, the codes of all that went wrong on the way, failures and
    requests of each serial line, and how long it took."""

    recording: Recording | None = None
    codes: list[str] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    start = time.monotonic()
    wrong: list[str] = []
    hangs: list[str] = []
    unnamed: list[dict[str, Any]] = []
    ends: Counter[str] = Counter()
    drawn: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        good = {burst: take("", folder / f"good{burst:d}", burst) for burst in (False, True)}
        expected = {burst: frames(found) for burst, found in good.items()}
        numbers = {burst: where_seen(found, burst) for burst, found in good.items()}
        control = tried_measure(good[False], take("drop@1", folder / "again", False))
        for number in range(arguments.n):
            name = str(rng.choice(list(NAMES)))
            burst = name in CAMERA and bool(rng.integers(2))
            fault = place(name, numbers[burst], rng)
            told = fault + (" in a burst" if burst else "")
            drawn[name] += 1
            found = take(fault, folder / f"{number:03d}", burst)
            if found.seconds > LONGEST_S:
                hangs.append(f"{told}: {found.seconds:.0f} s")
            if reason := what_is_wrong(found, folder / f"{number:03d}", expected[burst]):
                wrong.append(f"{told}: {reason}")
            ends["recorded" if found.recording else "refused"] += 1
            named_so = bool(set(found.codes) & NAMES[name])
            how = "named" if named_so else "healed" if healed(name, found, good[burst]) else ""
            ends[how or "unnamed"] += 1
            if not how:
                unnamed.append({"fault": told, "codes": found.codes})
            print(f"{number + 1:4d} {told:32s} {found.seconds:5.1f} s {how} {found.codes}", file=sys.stderr, flush=True)
    named = 1 - len(unnamed) / max(arguments.n, 1)
    met = control["met"] and not wrong and not hangs and named >= 0.95
    result = {
        "benchmark": "capture_faults",
        "captures": arguments.n,
        "seconds": round(time.monotonic() - start, 1),
        "control": control,
        "drawn": dict(sorted(drawn.items())),
        "ends": dict(ends),
        "wrong_or_torn": wrong,
        "hangs": hangs,
        "unnamed": unnamed,
        "bar": {"named": {"bar": 0.95, "measured": round(named, 4), "met": met}},
    }
    print(json.dumps(result, indent=2))
    return 0 if met else 1


def where_seen(found: Found, burst: bool) -> tuple[int, int]:
    """Numbers of the first and last frame that the same acquisition follows with another one: of all shots, or of a burst's."""
    assert found.recording is not None
    shots = [n for n, shot in enumerate(found.recording.info.plan, 1) if not burst or shot.role == "pattern"]
    return shots[0], shots[-1] - 1


def place(name: str, numbers: tuple[int, int], rng: np.random.Generator) -> str:
    """The fault at a random zone, command or frame where it can be seen: a doubled frame needs one before it, a superfluous
    trigger is counted by the frame after it."""
    if name == "dead_zone":
        return f"dead_zone@{rng.integers(1, 5)}"
    if name == "swapped_zones":
        a, b = rng.choice([1, 2, 3, 4], 2, replace=False)
        return f"swapped_zones@{a}{b}"
    if name.startswith("light."):
        return f"{name}@{rng.integers(9, 30)}"  # commands that open, light and darken: 34 and more
    if name.startswith("projector."):
        return f"{name}@{rng.integers(8, 28)}"
    return f"{name}@{rng.integers(numbers[0] + (name == 'duplicate'), numbers[1] + 1)}"


def take(fault: str, folder: Path, burst: bool) -> Found:
    """Capture one part into ``folder/part``."""
    found = Found()
    folder.mkdir()
    start = time.monotonic()
    faulthandler.dump_traceback_later(2 * LONGEST_S, exit=True)
    try:
        with Rig.open(SIM + (f"&fault={fault}" if fault else "")) as rig:
            try:
                result = capture(rig, RECIPE, folder / "part", part_id="x", burst=burst)
                found.codes = [attempt.code for attempt in result.log.attempts]
            finally:
                for name, device in (("light", rig.lights), ("projector", rig.projector)):
                    line = device.statistics  # type: ignore[union-attr]
                    found.failures[name], found.requests[name] = line.failures, line.exchanges
    except RakelightError as error:
        found.codes = [error.code]
        if not fault:
            raise
    finally:
        faulthandler.cancel_dump_traceback_later()
        found.seconds = time.monotonic() - start
    if (folder / "part").exists():
        found.recording = Recording.open(folder / "part")
    return found


def healed(name: str, found: Found, good: Found) -> bool:
    """Whether a serial line failed, or was asked more than a faultless one, and nobody else noticed."""
    line = name.split(".")[0]
    more = found.requests.get(line, 0) > good.requests.get(line, 0)
    return not found.codes and (found.failures.get(line, 0) > 0 or more)


def what_is_wrong(found: Found, folder: Path, expected: Frames) -> str:
    """Why a capture's end is not acceptable; empty if it is."""
    left = sorted(path.name for path in folder.iterdir() if path.name != "part")
    if left:
        return f"left behind: {', '.join(left)}"
    if found.recording is None:
        return "" if found.codes else "neither a recording nor an error"
    if problems := list(verify(found.recording)):
        return f"torn: {problems[0]}"
    taken = frames(found)
    if list(taken) != list(expected):
        return "torn: other shots than planned"
    far = {shot: noise_ratio(taken[shot], expected[shot]) for shot in expected}
    worst = max(far, key=lambda shot: far[shot])
    return f"{worst} differs {far[worst]:.2f} times as noise does" if far[worst] > MOST_NOISE else ""


def frames(found: Found) -> Frames:
    """Raw frames (H, W) uint16 of each shot, by name."""
    assert found.recording is not None
    return {frame.shot: found.recording.read(frame) for frame in found.recording.info.frames}


def noise_ratio(frame: NDArray[Any], expected: NDArray[Any]) -> float:
    """Mean square of (frame − expected) over the variance that shot noise, read noise and rounding of both give; about 1."""
    sensor = Sensor()
    scale = sensor.dn_per_e
    e = np.maximum(expected.astype(np.float64) - sensor.black_dn, 0) / scale
    variance = 2 * (scale**2 * (e + sensor.read_noise_e**2) + 1 / 12)
    return float(np.mean((frame.astype(np.float64) - expected) ** 2 / variance))


def tried_measure(good: Found, again: Found) -> dict[str, Any]:
    """Does the measure tell a right frame from a wrong one? Same shots of two captures, and different shots of one."""
    assert good.recording is not None
    first, second = frames(good), frames(again)
    own = [shot.name for shot in good.recording.info.plan if shot.role != "repeat"]  # which shows the same as another
    same = {shot: noise_ratio(second[shot], first[shot]) for shot in first}
    other = {(a, b): noise_ratio(first[a], first[b]) for a, b in itertools.permutations(own, 2)}
    nearest = min(other, key=lambda pair: other[pair])
    return {
        "same_shot": [round(min(same.values()), 3), round(max(same.values()), 3)],
        "other_shot_at_least": round(other[nearest], 3),
        "nearest": nearest,
        "limit": MOST_NOISE,
        "met": max(same.values()) <= MOST_NOISE < other[nearest],
    }


if __name__ == "__main__":
    sys.exit(main())
