"""The terminal's face of a guided rig calibration: instructions, a live status line, keys (or commands, line by line)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rakelight.acquisition.recipe import PatternRecipe
    from rakelight.acquisition.rig import Rig
    from rakelight.acquisition.stepped import Progress
    from rakelight.calibration.boards import Board
    from rakelight.dataset.recording import Recording
    from rakelight.pipeline.guided_walk import GuidedWalk

_PERIOD_S = 0.34  # between two live pictures: lamps that flash more than three times a second are bad for some people
_KEYS = "Enter take · f take all the same · u drop the last · s leave this step out · q leave, go on later"
_COMMANDS = {"": "take", "\n": "take", "\r": "take", "f": "force", "s": "skip", "u": "undo", "q": "quit", "l": "look"}


def walk_through(
    where: str,
    board: Board,
    session: Path,
    recordings: list[Recording],
    *,
    sphere_mm: float | None,
    sphere_count: int,
    patterns: PatternRecipe | None,
) -> list[Recording] | None:
    """Walk a person through everything on the rig ``where``; the recordings to calibrate from, None if the walk was left.

    Whatever ends it, the rig is dark and what was taken stays in ``session``, which is said.
    """
    from rakelight.acquisition.rig import Rig
    from rakelight.pipeline.guided_walk import GuidedWalk

    try:
        _say("opening the rig")
        with Rig.open(where) as rig:
            walk = GuidedWalk(
                rig,
                board,
                session,
                recordings=recordings,
                sphere_diameter_mm=sphere_mm,
                sphere_count=sphere_count,
                patterns=patterns,
                progress=lambda what: _say(f"reading {what}"),
            )
            _tell_beginning(walk, rig)
            with _Stop() as stop, _input(stop) as face:
                finished = _run(walk, face, stop)
            return walk.recordings if finished else None
    except BaseException as error:
        if (session / "session.json").is_file() and not str(getattr(error, "code", "")).startswith("session."):
            _say(f"everything taken so far is kept in {session}; run the same command again to go on")
        raise


def _tell_beginning(walk: GuidedWalk, rig: Rig) -> None:
    if walk.session.resumed:
        counts = [(kind, len(walk.session.recordings(kind))) for kind in ("board", "white", "spheres", "dark")]
        there = ", ".join(f"{count} × {kind}" for kind, count in counts if count) or "nothing yet"
        _say(f"going on with the session in {walk.session.folder}: {there}")
    else:
        _say(f"a new session in {walk.session.folder}")
    for kind in walk.skipped:
        _say(f"  without {kind}")
    _say(f"look at {walk.session.folder / 'guide.html'} in a browser: it shows the live picture and what is missing")
    if rig.bench is not None:
        _say("this rig is simulated: each target is laid under the camera by itself")


# ------------------------------------------------------------------------------------------------------------- walking
def _run(walk: GuidedWalk, face: _Lines | _Terminal, stop: _Stop) -> bool:
    """Step after step until all are done (True) or the walk is left (False)."""
    told = ""
    while (step := walk.step) is not None:
        heading = f"{step.title}: {step.instruction}"
        if heading != told:
            walk.lay()
            _say(f"\n{heading}")
            told = heading
        command = face.command(walk)
        if command == "quit":
            return False
        if command == "skip":
            _say(f"left out: {step.kind}")
            walk.skip()
        elif command == "undo":
            dropped = walk.undo()
            _say(f"dropped: now in {dropped}" if dropped else "there is nothing to drop in this session")
            told = ""
        elif command in ("take", "force"):
            told = _take(walk, face, stop, command == "force") or told
        elif command.startswith("place"):
            _place(walk, command)
        elif command != "look":
            _say(f"{command!r} is no command; {_KEYS}")
    return True


def _take(walk: GuidedWalk, face: _Lines | _Terminal, stop: _Stop, force: bool) -> str:
    """Take what lies there; a line that makes the next step be told, or "" if nothing was taken."""
    taken = walk.take(force=force, progress=face.progress, cancel=lambda: stop.asked)
    face.clear()
    if taken.recording is None:
        _say(f"not taken, because {taken.reason}" + ("" if force else "; f takes it all the same"))
        return ""
    board = taken.recording.info.target == walk.board.kind
    _say(f"taken: {taken.recording.folder.name}" + (f"; {walk.needs.sentence}" if board else ""))
    return "taken"


def _place(walk: GuidedWalk, command: str) -> None:
    """``place NAME [SEED] [BLUR_PX]``: what a hand does, on a simulated rig."""
    from rakelight.errors import RakelightError

    words = command.split()[1:]
    try:
        name, seed = words[0], int(words[1]) if len(words) > 1 else 0
        if not walk.place(name, seed, blur_px=float(words[2]) if len(words) > 2 else None):
            _say("this is a real rig: lay it there by hand")
    except RakelightError as error:
        _say(error.message)
    except (IndexError, ValueError):
        _say("write: place NAME [SEED] [BLUR_PX], for example place charuco 3")


def _say(text: str) -> None:
    click.echo(text, err=True)


# -------------------------------------------------------------------------------------------------------------- faces
class _Lines:
    """Without a terminal: one picture, its sentence, one line of input; the end of input leaves the walk."""

    def __init__(self, stop: _Stop) -> None:
        self._stop = stop

    def command(self, walk: GuidedWalk) -> str:
        """The next command, after a look at what lies there."""
        look = walk.look()
        _say(f"{look.feedback.status} · {look.feedback.verdict}")
        with self._stop.waiting():
            line = sys.stdin.readline()
        if not line:
            return "quit"
        text = line.strip().lower()
        return _COMMANDS.get(text, text)

    def progress(self, told: Progress) -> None:
        """Nothing: logs stay clean."""

    def clear(self) -> None:
        """Nothing to clear."""


class _Terminal:
    """On a terminal: a live line that is refreshed with every picture, and single keys."""

    def __init__(self, stop: _Stop, poll: Callable[[float], str]) -> None:
        self._stop, self._poll = stop, poll
        _say(_KEYS)

    def command(self, walk: GuidedWalk) -> str:
        """The next key's command; pictures are taken until one is pressed."""
        while True:
            begun = time.monotonic()
            look = walk.look()
            mark = click.style("●", fg="green" if look.feedback.ok else "red")
            self._line(f"{mark} {look.feedback.status} · {look.feedback.verdict}")
            with self._stop.waiting():
                key = self._poll(max(0.02, begun + _PERIOD_S - time.monotonic()))
            if key in _COMMANDS and key:
                self.clear()
                return _COMMANDS[key]

    def progress(self, told: Progress) -> None:
        """How far the capture is."""
        trouble = f" – {told.trouble}" if told.trouble else ""
        what = f"taking {told.shot}" if told.shot else "storing"
        self._line(f"{what}: {told.done} of {told.total}{trouble}")

    def clear(self) -> None:
        """Empty the live line."""
        click.echo("\r\x1b[2K", nl=False, err=True)

    close = clear  # so that what is said next has a line of its own

    def _line(self, text: str) -> None:
        room = shutil.get_terminal_size().columns - 1
        plain = click.unstyle(text)
        shown = text if len(plain) <= room else plain[: room - 1] + "…"
        click.echo(f"\r\x1b[2K{shown}", nl=False, err=True)


class _Stop:
    """Ctrl-C and SIGTERM: at once while a person is waited for, otherwise at the next picture or frame."""

    def __init__(self) -> None:
        self.asked = self._waiting = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        from rakelight.acquisition.stepped import Cancelled

        for number, handler in self._before.items():
            signal.signal(number, handler)
        if isinstance(error, Cancelled):
            raise KeyboardInterrupt from None  # told as interrupted, exit code 130

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self.asked = True
        if self._waiting:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """A place where the walk may be ended at once."""
        self._waiting = True
        try:
            if self.asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._waiting = False


@contextlib.contextmanager
def _input(stop: _Stop) -> Iterator[_Lines | _Terminal]:
    """Keys of a terminal, or lines of anything else."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        yield _Lines(stop)
    elif os.name == "nt":
        with contextlib.closing(_Terminal(stop, _poll_windows)) as face:
            yield face
    else:
        import termios
        import tty

        number = sys.stdin.fileno()
        before = termios.tcgetattr(number)
        tty.setcbreak(number)  # keys one at a time; Ctrl-C stays a signal
        try:
            with contextlib.closing(_Terminal(stop, _poll_posix)) as face:
                yield face
        finally:
            termios.tcsetattr(number, termios.TCSADRAIN, before)


def _poll_posix(wait_s: float) -> str:
    """The key that is pressed within that time, or "" """
    import select

    ready, _, _ = select.select([sys.stdin], [], [], wait_s)
    if not ready:
        return ""
    key = os.read(sys.stdin.fileno(), 16).decode(errors="ignore")[:1]
    return key.lower() or "q"  # the terminal has gone: leave


def _poll_windows(wait_s: float) -> str:
    """As :func:`_poll_posix`."""
    import importlib

    console: Any = importlib.import_module("msvcrt")
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        if console.kbhit():
            return str(console.getwch()).lower()
        time.sleep(0.01)
    return ""
