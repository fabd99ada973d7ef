"""``rakelight dataset cost`` and ``rakelight dataset pack``: what samples take on disk, and making it less."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import click

from rakelight.cli.console import emit_json, json_option, progress, table, warn

DAMAGED = 7


@click.command("cost")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--size", help="Pixels of a picture, for example 5472x3648; default: that of the data set's samples.")
@click.option("--parts-per-day", type=click.FloatRange(min=0), default=300.0, show_default=True)
@click.option(
    "--keep-raw",
    type=click.Choice(["none", "stack", "all"]),
    help="Raw frames that are kept; default: none, or as FOLDER.",
)
@click.option("--light-frames", type=click.IntRange(0, 10_000), help="Frames under the lights; default: 7.")
@click.option("--pattern-frames", type=click.IntRange(0, 10_000), help="Frames with patterns; default: 68.")
@click.option("--packed", is_flag=True, help="Reckon with raw frames packed by `rakelight dataset pack`.")
@json_option
def cost(
    folder: Path | None,
    size: str | None,
    parts_per_day: float,
    keep_raw: str | None,
    light_frames: int | None,
    pattern_frames: int | None,
    packed: bool,
    as_json: bool,
) -> None:
    """Say what a sample takes on disk, file by file, what a day takes, and how long the disk lasts.

    With a data set in FOLDER that has samples, their sizes are the measure; otherwise sizes are estimated for --size.

    \b
    rakelight dataset cost parts --parts-per-day 500
    rakelight dataset cost --size 5472x3648 --keep-raw stack
    """
    from rakelight.dataset import cost as costs
    from rakelight.dataset.writer import Dataset

    if folder is None and size is None:
        raise click.UsageError("name a data set FOLDER, or --size WIDTHxHEIGHT, for example --size 5472x3648")
    measured, found = costs.Measured(), None
    if folder is not None:
        opened = Dataset.open(folder)
        keep_raw = keep_raw or opened.info.options.keep_raw
        measured, found = costs.measure(opened.root)
    if size is None and found is None:
        raise click.UsageError(f"{folder} has no samples to measure yet; add --size WIDTHxHEIGHT")
    width, height = _size(size) if size is not None else found or (0, 0)
    result = costs.cost_of(
        width,
        height,
        keep_raw=keep_raw or "none",  # type: ignore[arg-type]
        light_frames=costs.LIGHT_FRAMES if light_frames is None else light_frames,
        pattern_frames=costs.PATTERN_FRAMES if pattern_frames is None else pattern_frames,
        packed=packed,
        measured=measured,
    )
    free = shutil.disk_usage(folder or Path.cwd()).free
    days = result.days_left(free, parts_per_day)
    if as_json:
        emit_json(
            {
                "width": width,
                "height": height,
                "keep_raw": keep_raw or "none",
                "files": [{"name": f.name, "bytes": f.bytes, "measured": f.measured} for f in result.files],
                "bytes": result.bytes,
                "samples_measured": measured.samples,
                "parts_per_day": parts_per_day,
                "bytes_per_day": round(result.per_day(parts_per_day)),
                "free_bytes": free,
                "days_left": None if parts_per_day == 0 else round(days, 2),
            }
        )
        return
    known, source = "measured", "estimated"
    if found and found != (width, height):
        known, source = "scaled", f"scaled by pixels from {measured.samples} sample(s) of {found[0]}×{found[1]} px"
    elif found:
        source = f"measured in {measured.samples} sample(s)"
    rows = [(f.name, f"{f.bytes / 1e6:.2f}", known if f.measured else "estimated") for f in result.files]
    click.echo(f"One sample of {width}×{height} px, {source}:")
    table("", ("file", "MB", ""), rows)
    click.echo(f"a sample: {result.bytes / 1e6:.0f} MB")
    click.echo(f"a day of {parts_per_day:g} parts: {result.per_day(parts_per_day) / 1e9:.1f} GB")
    if parts_per_day > 0:
        click.echo(f"{free / 1e9:.0f} GB are free: {days:.1f} days")


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*([0-9]{1,5})\s*[x×X]\s*([0-9]{1,5})\s*", text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not of the form 5472x3648", param_hint="--size")
    return int(match[1]), int(match[2])


@click.command("pack")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--category", help="Only this product.")
@json_option
@click.pass_context
def pack(ctx: click.Context, folder: Path, category: str | None, as_json: bool) -> None:
    """Make the raw frames of the data set in FOLDER smaller, without losing a bit.

    Frames keep their names and read as before. Each is compared with the original before it takes its place. It may be
    stopped (Ctrl-C) and started again at any time: what is packed stays so. Exit code 7 if a sample was damaged; the others
    are packed all the same.
    """
    from rakelight.dataset import index, layout, packing
    from rakelight.dataset.writer import Dataset

    opened = Dataset.open(folder)
    frames = before = after = samples = 0
    damaged: list[str] = []
    with opened.writer() as writer, progress("packing", quiet=as_json) as step:
        keys = tuple(index.iter_keys(opened.root / layout.RAW_FOLDER, category))
        for number, done in enumerate(packing.pack_samples(writer, keys), 1):
            step(number, len(keys))
            if isinstance(done, packing.Packing):
                samples += done.frames > 0
                frames, before, after = frames + done.frames, before + done.bytes_before, after + done.bytes_after
            else:
                damaged.append(done.message)
    result: dict[str, Any] = {"samples": samples, "frames": frames, "bytes_before": before, "bytes_after": after}
    if as_json:
        emit_json(result | {"damaged": damaged})
    else:
        click.echo(
            f"{frames} frames of {samples} sample(s) packed: {before / 1e6:.1f} MB became {after / 1e6:.1f} MB"
            if frames
            else f"nothing to pack in {len(keys)} sample(s)"
        )
        warn(damaged)
    if damaged:
        ctx.exit(DAMAGED)
