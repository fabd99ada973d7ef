"""``rakelight doctor``: is this computer ready, and if not, what cures it?"""

from __future__ import annotations

import shutil
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rakelight.cli.console import emit_json, json_option, progress

if TYPE_CHECKING:
    from rakelight.pipeline.doctor_finding import Finding

NOT_READY = 5
_MARKS = {"ok": ("  ok  ", "green"), "warn": (" warn ", "yellow"), "fail": (" FAIL ", "red")}
_NAME_COLUMNS = 20
_INDENT, _CURE_INDENT = 6 + _NAME_COLUMNS, 8
_WIDEST = 120


@click.command()
@click.argument("rig", required=False, metavar="[RIG]")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("."),
    help="Folder where recordings are to go: is it writable, large and fast enough?  [default: this folder]",
)
@click.option(
    "--producer",
    multiple=True,
    type=click.Path(path_type=Path),
    help="GenTL producer (.cti) to ask; by default those in GENICAM_GENTL64_PATH.",
)
@json_option
@click.pass_context
def doctor(ctx: click.Context, rig: str | None, output: Path, producer: tuple[Path, ...], as_json: bool) -> None:
    """Look at this computer and say what is missing, each line with its cure.

    Python and its packages, processor, memory, clock, disks; libraries and what they need of the system; graphics card;
    camera drivers and the cameras they see; network and USB settings; serial ports, which are opened for a moment. With
    RIG (rig.toml or sim://…) all its devices are opened too and one frame is taken. Nothing is changed; 64 MB are written
    to the disk for a moment, to measure its speed.

    \b
      ok    as it should be
      warn  rakelight works, but something is slow, or one kind of device is not reached
      FAIL  something does not work; the line "cure" below it says what to do

    Exit code: 0 when nothing fails (warnings or not), 5 when something does.

    \b
    Examples:
      rakelight doctor
      rakelight doctor rig.toml --output D:\\recordings
      rakelight doctor > report.txt          to show somebody else
    """
    from rakelight.pipeline.doctor import examine

    with progress("looking at", quiet=as_json) as step:
        found = list(examine(output, producers=producer, rig=rig, note=step))
    count = {state: sum(finding.state == state for finding in found) for state in _MARKS}
    if as_json:
        emit_json({"ready": not count["fail"], "count": count, "findings": [asdict(finding) for finding in found]})
    else:
        width = min(shutil.get_terminal_size((80, 24)).columns, _WIDEST) - 1
        for finding in found:
            _say(finding, width)
        click.echo(f"\n{count['ok']} ok, {count['warn']} to look at, {count['fail']} failed\n{_verdict(count)}")
    if count["fail"]:
        ctx.exit(NOT_READY)


def _verdict(count: dict[str, int]) -> str:
    if count["fail"]:
        return "do what the cures say, then run `rakelight doctor` again"
    return "this computer is ready" + ("; read the warnings about what you use" if count["warn"] else "")


def _say(finding: Finding, width: int) -> None:
    """A finding on as many lines as it takes, what it says in a column of its own, the cure below."""
    mark, colour = _MARKS[finding.state]
    what = _folded(finding.what, width - _INDENT)
    head = click.style(mark, fg=colour, bold=finding.state != "ok") + f"{finding.name:<{_NAME_COLUMNS - 1}} "
    lines = [head + what[0], *(" " * _INDENT + line for line in what[1:])]
    if finding.cure:
        cure = _folded(f"cure: {finding.cure}", width - _CURE_INDENT, hang=" " * len("cure: "))
        lines += [" " * _CURE_INDENT + line for line in cure]
    click.echo(_printable("\n".join(lines)))


def _folded(text: str, width: int, hang: str = "") -> list[str]:
    """``text`` in lines of ``width``; words are never broken, so that paths and commands can be copied."""
    lines: list[str] = []
    for line in text.splitlines():
        lines += textwrap.wrap(
            line, max(width, 30), subsequent_indent=hang, break_long_words=False, break_on_hyphens=False
        )
    return lines or [""]


def _printable(text: str) -> str:
    """What standard output can write: a report in a file on Windows has fewer letters than the screen."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
