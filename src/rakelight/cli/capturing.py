"""What all commands share that capture part after part: names, what is told meanwhile, waiting for a hand, ending."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rakelight.cli.console import table, warn

if TYPE_CHECKING:
    from rakelight.acquisition.recipe import Recipe
    from rakelight.acquisition.rig import Rig
    from rakelight.acquisition.stepped import Progress

_SLOW_DISK_S = 0.5
_OLD_S = 600.0  # since anything was written into an unfinished folder, so that it is nobody's at work
_UNITS = {"zone_order": "°", "focus": "px", "motion": "px"}  # all others are shares


@contextlib.contextmanager
def stopping() -> Iterator[threading.Event]:
    """What Ctrl-C and SIGTERM set, so that a capture ends at its next frame.

    SIGTERM too: a half-written recording is removed, which a killed program cannot do.
    """
    stop = threading.Event()
    before = {n: signal.signal(n, lambda *_: stop.set()) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def next_part(product: str, part_id: str | None, output: Path, many: bool) -> tuple[str, Path]:
    """Name and folder of the next part; of many, the first number that is free, so that a second run goes on."""
    if not many:
        return part_id or f"{product}-0001", output
    names = (f"{part_id or product}-{number:04d}" for number in itertools.count(1))
    name = next(name for name in names if not (output / name).exists())
    return name, output / name


def size_text(rig: Rig, recipe: Recipe, parts: int) -> str:
    """What is about to be captured."""
    from rakelight.acquisition.feasible import within
    from rakelight.acquisition.recipe import make_plan
    from rakelight.dataset.recording import dtype_of

    frames = len(make_plan(recipe, rig.zones, rig.directions).shots)
    asked = rig.camera_settings(recipe.exposure_us, recipe.gain_db)
    camera = rig.camera.configure(
        within(asked, rig.camera.info)
    )  # what is beyond is refused by capture, with all the rest
    width, height = camera.width or 0, camera.height or 0
    samples = 3 if camera.pixel_format.startswith("RGB") else 1
    sample_bytes = samples * (1 if dtype_of(camera.pixel_format) == "uint8" else 2)
    megabytes = frames * width * height * sample_bytes / 1e6
    return f"{frames} frames of {width}×{height} {camera.pixel_format}, {megabytes:.0f} MB" + (
        f", for each of {parts} parts" if parts > 1 else ""
    )


def progress_text(told: Progress) -> str:
    left = f", {told.seconds_left:.0f} s left" if told.seconds_left is not None else ""
    slow = f", waited {told.waited_s:.1f} s for the disk" if told.waited_s >= _SLOW_DISK_S else ""
    trouble = f" – {told.trouble}" if told.trouble else ""
    return f"{told.state} {told.shot}: {told.done} of {told.total}{left}{slow}{trouble}"


def tell_leftovers(folder: Path) -> None:
    """What killed captures left behind: nothing deletes it by itself, and it may be gigabytes."""
    left = [p for p in folder.glob(".*.partial-*") if p.is_dir() and time.time() - p.stat().st_mtime > _OLD_S]
    if left:
        size = sum(f.stat().st_size for p in left for f in p.rglob("*") if f.is_file()) / 1e6
        what = f"{folder} holds {len(left)} unfinished folder(s) of killed runs, {size:.0f} MB"
        warn([f"{what}, such as {left[0].name}: delete them"])


def wait_for_part(name: str, number: int, count: int | None) -> bool:
    """Between two parts somebody must change them; Ctrl-C ends. False where nobody can press Enter any more (end of input)."""
    many = "" if count is None else f" of {count}"
    click.echo(f"part {number}{many}: put in {name}, then press Enter (Ctrl-C ends)", err=True)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the waiting itself can be interrupted
    try:
        return bool(sys.stdin.readline())
    finally:
        signal.signal(signal.SIGINT, before)


def checks_table(checks: Iterable[dict[str, Any]]) -> None:
    """The worst value of each check."""
    worst: dict[str, dict[str, Any]] = {}
    for check in checks:
        before = worst.get(check["name"])
        sign = -1 if check["at_least"] else 1
        if before is None or sign * check["value"] > sign * before["value"]:
            worst[check["name"]] = check
    rows = [
        (
            "" if check["passed"] else "✗",
            name,
            f"{check['value']:.3g} {_UNITS.get(name, '')}".strip(),
            f"{'at least' if check['at_least'] else 'at most'} {check['limit']:.3g}",
        )
        for name, check in worst.items()
    ]
    table("", ("", "check", "worst", "allowed"), rows)
