"""``rakelight capture``: parts in front of a rig become recordings."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rakelight.cli.capturing import (
    checks_table,
    next_part,
    progress_text,
    size_text,
    stopping,
    tell_leftovers,
    wait_for_part,
)
from rakelight.cli.console import emit_json, json_option, progress, warn

if TYPE_CHECKING:
    from rakelight.dataset.recording_writer import RecordingWriter
    from rakelight.pipeline.live_surface import LiveSurface


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
@click.option(
    "--no-wait",
    is_flag=True,
    help="With -n: do not wait for Enter before each part (never waited for on simulated rigs, or without a terminal).",
)
@click.option("--burst", is_flag=True, help="Let projectors run by themselves and trigger the camera (wired).")
@click.option(
    "--calibration",
    "-c",
    type=click.Path(path_type=Path),
    help="Calibration of the rig: reconstruct each part at once; its patterns are decoded while it is captured.",
)
@click.option(
    "--result", type=click.Path(path_type=Path), help="Where the reconstruction goes (with -n: a folder of them)."
)
@click.option("--no-truth", is_flag=True, help="On a sim:// rig: leave out truth/, which takes seconds to work out.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier recording.")
@json_option
def capture(
    rig: str,
    recipe: Path,
    output: Path,
    part_id: str | None,
    count: int | None,
    no_wait: bool,
    burst: bool,
    calibration: Path | None,
    result: Path | None,
    no_truth: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Capture the part under the camera as a recording: every light, all together, the room, every pattern.

    The recording appears when every frame is there and the pictures are what they should be. Ctrl-C ends at the next
    frame; whatever happens, lights and projectors are off afterwards.

    On a simulated rig named by a sim:// URL the recording also gets truth/: what is known of the part, and the rig's
    true calibration, as `rakelight simulate` writes them. A fault= that changes what frames show leaves it out.

    \b
    Examples:
      rakelight capture --rig rig.toml --recipe knob.toml -o recordings/knob-17 --part-id knob-17
      rakelight capture --rig "sim://knob_cap?seed=3&width=912" --recipe knob.toml -o recordings/knob-sim
      rakelight reconstruct recordings/knob-sim -c recordings/knob-sim/truth/calibration -o knob-sim
      rakelight capture --rig rig.toml --recipe knob.toml -o recordings -n 50 -c calibration/lab --result results
    """
    from rakelight.acquisition.capture import capture as run
    from rakelight.acquisition.recipe import load_recipe
    from rakelight.acquisition.rig import Rig
    from rakelight.acquisition.stepped import Cancelled
    from rakelight.errors import QualityError, StorageError

    if (calibration is None) != (result is None):
        raise click.UsageError("--calibration and --result belong together: with what to reconstruct, and where to")
    wanted = load_recipe(recipe)
    if count is not None and (output / "recording.json").is_file():
        raise StorageError(
            f"{output} is a recording; with -n the output is a folder of recordings",
            hint="name another folder, or its parent",
            code="storage.exists",
        )
    tell_leftovers(output if count is not None else output.absolute().parent)
    solver = _Solver(calibration, result, overwrite) if calibration is not None and result is not None else None
    done: list[dict[str, Any]] = []
    with progress("opening the rig", quiet=as_json) as step, Rig.open(rig) as opened, stopping() as stop:
        try:
            finish = None if no_truth else _truth(rig, step, stop)
            if not as_json:
                click.echo(size_text(opened, wanted, count or 1), err=True)
            for number in range(count or 1):
                name, folder = next_part(wanted.product, part_id, output, count is not None)
                if count is not None and not no_wait and not opened.settings.simulated and sys.stdin.isatty():
                    wait_for_part(name, number + 1, count)
                live = solver.begin(name, count is not None) if solver is not None else None
                captured = run(
                    opened,
                    wanted,
                    folder,
                    part_id=name,
                    overwrite=overwrite,
                    burst=burst,
                    watch=live.watch if live is not None else None,
                    finish=finish or (lambda _: None),
                    progress=lambda p: step(progress_text(p)),
                    cancel=stop.is_set,
                )
                known = folder / "truth" / "calibration" if finish is not None else calibration
                done.append(captured.to_plain() | {"calibration": str(known) if known else None})
                if not as_json:
                    _tell(captured)
                    if solver is None:
                        click.echo(f"next: rakelight reconstruct {folder} -c {known or 'CALIBRATION'} -o OUTPUT")
                if solver is not None:
                    done[-1]["reconstruction"] = solver.finish(folder, step, stop.is_set, as_json)
        except QualityError as error:
            if not as_json:
                checks_table(error.checks)
            raise
        except Cancelled:
            raise KeyboardInterrupt from None  # told as interrupted, exit code 130
        finally:
            if solver is not None:
                solver.close()
    if as_json:
        emit_json(done[0] if count is None else {"captures": done})


class _Solver:
    """Reconstructs each part as soon as it is captured."""

    def __init__(self, calibration: Path, result: Path, overwrite: bool) -> None:
        from rakelight.calibration.rig_calibration import RigCalibration

        self._calibration, self._folder = RigCalibration.load(calibration), calibration
        self._result, self._overwrite = result, overwrite
        self._live: LiveSurface | None = None
        self._output = result

    def begin(self, name: str, many: bool) -> LiveSurface:
        """What watches the capture of the next part; refuses a result folder that must not be replaced."""
        from rakelight.folders import check_replaceable
        from rakelight.pipeline import outputs
        from rakelight.pipeline.live_surface import LiveSurface

        self._output = self._result / name if many else self._result
        check_replaceable(self._output, overwrite=self._overwrite, marker=outputs.REPORT)
        self._live = LiveSurface(self._calibration)
        return self._live

    def finish(
        self, folder: Path, step: Callable[[str], None], stopped: Callable[[], bool], as_json: bool
    ) -> dict[str, Any]:
        """Reconstruct the recording in ``folder``, which is safe on disk by now; if that fails, or is stopped, say so."""
        from rakelight.acquisition.stepped import Cancelled
        from rakelight.cli.reconstruct import solve, tell
        from rakelight.dataset.recording import Recording

        def stoppable(what: str) -> None:
            if stopped():
                raise Cancelled
            step(what)

        assert self._live is not None
        try:
            stoppable("reconstructing")
            plain = solve(
                Recording.open(folder),
                self._calibration,
                self._output,
                surface=self._live.finish(),
                overwrite=self._overwrite,
                step=stoppable,
            )
        except BaseException:
            click.echo(
                f"the recording {folder} is whole; to reconstruct it: rakelight reconstruct {folder} "
                f"-c {self._folder} -o {self._output}",
                err=True,
            )
            raise
        if not as_json:
            tell(plain)
        return plain

    def close(self) -> None:
        """End the decoding of a capture that failed."""
        if self._live is not None:
            self._live.close()


def _truth(rig: str, step: Callable[[str], None], stop: threading.Event) -> Callable[[RecordingWriter], None] | None:
    """What lays the truth beside the frames; None for a rig that is no simulated one, or has faults that belie it."""
    from rakelight.acquisition.rig import SIMULATED
    from rakelight.acquisition.stepped import Cancelled

    if not rig.startswith(SIMULATED):
        return None
    from rakelight.pipeline.simulate import truth_of

    def stoppable(what: str) -> None:
        if stop.is_set():
            raise Cancelled
        step(what)

    finish = truth_of(rig, progress=stoppable)
    if finish is None:
        warn(["no truth beside the frames: the faults in the URL change what they show"])
    return finish


def _tell(captured: Any) -> None:
    plan, log = captured.plan, captured.log
    click.echo(f"{captured.folder}: {len(plan.shots)} frames, all checks passed")
    checks_table(check.to_plain() for check in captured.checks)
    warn(f"shot {a.shot} was taken again: {a.message}" for a in log.attempts)
    warn(f"the recording has no {what}: the rig has none, or the recipe asks for none" for what in plan.absent)
    click.echo(f"recording: {captured.folder}")
