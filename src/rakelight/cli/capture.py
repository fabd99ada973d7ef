"""``rakelight capture``: parts in front of a rig become recordings."""

from __future__ import annotations

import itertools
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rakelight.cli.console import emit_json, json_option, progress, table, warn

if TYPE_CHECKING:
    from rakelight.acquisition.stepped import Progress


@click.command()
@click.option("--rig", "-r", required=True, help="rig.toml, or a simulated rig: sim://knob_cap?seed=3&width=912")
@click.option("--recipe", "-p", required=True, type=click.Path(path_type=Path), help="recipe.toml: what to capture.")
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    help="Recording to write (with -n: a folder of them).",
)
@click.option("--part-id", help="Name of the part; by default the product's name and a number.")
@click.option(
    "-n", "--count", type=click.IntRange(1), help="Capture that many parts, numbered on from those there are."
)
@click.option("--burst", is_flag=True, help="Let projectors run by themselves and trigger the camera (wired).")
@click.option("--overwrite", is_flag=True, help="Replace an earlier recording.")
@json_option
def capture(
    rig: str,
    recipe: Path,
    output: Path,
    part_id: str | None,
    count: int | None,
    burst: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Capture the part under the camera as a recording: every light, all together, the room, every pattern.

    The recording appears when every frame is there and the pictures are what they should be. Ctrl-C ends at the next
    frame; whatever happens, lights and projectors are off afterwards.

    \b
    Examples:
      rakelight capture --rig rig.toml --recipe knob.toml -o recordings/knob-17 --part-id knob-17
      rakelight capture --rig "sim://knob_cap?seed=3&width=912" --recipe knob.toml -o recordings/knob-sim
    """
    from rakelight.acquisition.capture import capture as run
    from rakelight.acquisition.recipe import load_recipe
    from rakelight.acquisition.rig import Rig
    from rakelight.acquisition.stepped import Cancelled

    wanted = load_recipe(recipe)
    stop = threading.Event()
    done: list[dict[str, Any]] = []
    with progress("opening the rig", quiet=as_json) as step, Rig.open(rig) as opened:
        previous = signal.signal(signal.SIGINT, lambda *_: stop.set())
        try:
            for _ in range(count or 1):
                name, folder = _next(wanted.product, part_id, output, count is not None)
                captured = run(
                    opened,
                    wanted,
                    folder,
                    part_id=name,
                    overwrite=overwrite,
                    burst=burst,
                    progress=lambda p: step(_line(p)),
                    cancel=stop.is_set,
                )
                done.append(captured.to_plain())
                if not as_json:
                    _tell(captured)
        except Cancelled:
            raise KeyboardInterrupt from None  # told as interrupted, exit code 130
        finally:
            signal.signal(signal.SIGINT, previous)
    if as_json:
        emit_json(done[0] if count is None else {"captures": done})


def _next(product: str, part_id: str | None, output: Path, many: bool) -> tuple[str, Path]:
    """Name and folder of the next part; of many, the first number that is free, so that a second run goes on."""
    if not many:
        return part_id or f"{product}-0001", output
    names = (f"{part_id or product}-{number:04d}" for number in itertools.count(1))
    name = next(name for name in names if not (output / name).exists())
    return name, output / name


def _line(told: Progress) -> str:
    left = f", {told.seconds_left:.0f} s left" if told.seconds_left is not None else ""
    return f"{told.state} {told.shot}: {told.done} of {told.total}{left}" + (
        f" – {told.trouble}" if told.trouble else ""
    )


def _tell(captured: Any) -> None:
    plan, log = captured.plan, captured.log
    worst: dict[str, Any] = {}
    for check in captured.checks:
        before = worst.get(check.name)
        if before is None or (check.value < before.value if check.at_least else check.value > before.value):
            worst[check.name] = check
    rows = [
        (name, f"{check.value:.3g}", f"{'at least' if check.at_least else 'at most'} {check.limit:.3g}")
        for name, check in worst.items()
    ]
    click.echo(f"{captured.folder}: {len(plan.shots)} frames, all checks passed")
    table("", ("check", "worst", "allowed"), rows)
    warn(f"shot {a.shot} was taken again: {a.message}" for a in log.attempts)
    warn(f"the recording has no {what}: the rig has none, or the recipe asks for none" for what in plan.absent)
    click.echo(
        f"recording: {captured.folder}\nnext: rakelight reconstruct {captured.folder} --calibration CALIBRATION -o OUTPUT"
    )
