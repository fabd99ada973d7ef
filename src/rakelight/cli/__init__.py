"""The command ``rakelight``. Commands are imported only when they run, so that ``--help`` answers at once."""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any

import click

import rakelight
from rakelight.cli.console import SuggestingGroup
from rakelight.errors import RakelightError, StorageError

INTERRUPTED = 130
PIPE_CLOSED = 141  # as a shell tells of SIGPIPE
_DEFECT = "this is a defect of rakelight, not of your data; please report it with the lines above"


class LazyGroup(SuggestingGroup):
    """A group whose commands live in modules named in ``lazy``: name → (``module:attribute``, one-line help)."""

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        module, attribute = self._lazy[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_where, text) in self._lazy.items()])


@click.group(
    cls=LazyGroup,
    lazy={
        "demo": ("rakelight.cli.demo:demo", "Take a real recording through the whole chain and show the pictures."),
        "doctor": ("rakelight.cli.doctor:doctor", "Look at this computer: what is missing, and what cures it."),
        "capture": ("rakelight.cli.capture:capture", "Capture a part in front of a rig as a recording."),
        "devices": ("rakelight.cli.rig:devices", "List cameras and serial ports."),
        "rig": ("rakelight.cli.rig:rig", "Check a rig, or serve simulated devices."),
        "recording": (
            "rakelight.cli.recording:recording",
            "Look at, check or import recordings (raw frames of one part).",
        ),
        "calibrate": (
            "rakelight.cli.calibrate:calibrate",
            "Calibrate a rig or its lights, check it daily; show, compare and verify calibrations.",
        ),
        "reconstruct": (
            "rakelight.cli.reconstruct:reconstruct",
            "Measured surface, normals and pseudo-3D from a recording.",
        ),
        "patterns": ("rakelight.cli.patterns:patterns", "Show or export what the projectors are told to show."),
        "simulate": ("rakelight.cli.simulate:simulate", "Record parts and targets that are known to the micrometre."),
        "dataset": ("rakelight.cli.dataset:dataset", "Build a data set in the Real-IAD D³ format."),
        "detect": ("rakelight.cli.detect:detect", "Teach a detector from good parts; score parts; measure it."),
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 internal error, 2 wrong usage or input, 3 settings file, 4 device, "
    "5 doctor found something that does not work, 6 pictures or figures not as they should be, 7 recording or data set missing, "
    "damaged or not as it should be, 8 disk full or not writable, 9 calibration, 10 some of many failed, "
    "11 model or weights, 130 interrupted.",
)
@click.version_option(rakelight.__version__, prog_name="rakelight")
def cli() -> None:
    """Capture, reconstruct, store and inspect small industrial parts.

    \b
    A first walk, with a folder of images and a description of them:
      rakelight recording import IMAGES --description part.toml -o part
      rakelight calibrate lights sphere1 sphere2 part -o calibration/lab
      rakelight reconstruct part --calibration calibration/lab -o out
      rakelight dataset init my-set --name "My parts"
      rakelight dataset add my-set part --calibration calibration/lab --category knob_cap --label OK

    `rakelight demo` does all of this with real photographs that come with the program.
    """


def main() -> None:
    """Run the command line and exit with a documented code."""
    done: dict[str, Any] = {}  # what a command has finished so far, told by --json also when it then fails
    as_json = "--json" in sys.argv
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = cli(standalone_mode=False, obj=done)
    except SystemExit:  # click's answer to a reader that went away (``| head``)
        code = PIPE_CLOSED
    except RakelightError as error:
        _report(error.to_dict(), as_json, done)
        code = error.exit_code
    except click.ClickException as error:
        code = error.exit_code
        if as_json:
            _report({"code": "usage", "message": error.format_message(), "hint": ""}, True, done)
        else:
            error.show()
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
        _report(
            {"code": "interrupted", "message": "interrupted; nothing half-written remains", "hint": ""}, as_json, done
        )
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC):
            code = _unheard(error)
        else:  # a defect of ours: the trace for the report, and still one JSON object for scripts
            traceback.print_exc()
            code = 1
            _report({"code": "internal", "message": f"{type(error).__name__}: {error}", "hint": _DEFECT}, as_json, done)
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _unheard(error)
    sys.exit(code if isinstance(code, int) else 0)


def _unheard(error: OSError) -> int:
    """Standard output is gone: its reader went away (``| head``, quietly) or its disk is full. The work itself is done."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again when it exits
    if error.errno == errno.EPIPE:
        return PIPE_CLOSED
    click.echo(f"error [storage.disk_full] standard output cannot be written: {error.strerror}", err=True)
    return StorageError.exit_code


def _terminate(_number: int, _frame: Any) -> None:
    """SIGTERM ends as Ctrl-C does, so that half-written folders are cleared away."""
    raise KeyboardInterrupt


def _report(error: dict[str, Any], as_json: bool, done: dict[str, Any]) -> None:
    if as_json:
        click.echo(json.dumps({**done, "error": error}, ensure_ascii=False))
        return
    click.echo(click.style("error", fg="red", bold=True) + f" [{error['code']}] {error['message']}", err=True)
    if error["hint"]:
        click.echo(f"  → {error['hint']}", err=True)
