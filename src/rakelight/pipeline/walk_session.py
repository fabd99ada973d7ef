"""The folder in which a guided calibration collects its recordings, so that it can be left and gone on with.

``session.json`` says for which rig, camera setting and board it is; each recording appears whole or not at all, so what is
there is what was taken.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from rakelight import config, files, folders
from rakelight.calibration.boards import Board
from rakelight.dataset.recording import FILE_NAME as RECORDING_FILE
from rakelight.dataset.recording import Recording
from rakelight.errors import CalibrationError

FILE_NAME = "session.json"
Kind = Literal["board", "white", "spheres", "dark"]
KINDS: tuple[Kind, ...] = ("board", "white", "spheres", "dark")
TARGETS: dict[str, Kind] = {
    "charuco": "board",
    "chessboard": "board",
    "white_plane": "white",
    "chrome_sphere": "spheres",
    "dark": "dark",
}
"""Which step a recording belongs to, by its target."""
_DROPPED = "dropped"


class SessionFile(config.Model):
    """The content of ``session.json``: whose poses these are."""

    schema_: int = Field(alias="schema", default=1)
    kind: Literal["calibration_session"] = "calibration_session"
    rig_id: str
    camera: str
    width: int
    height: int
    pixel_format: str
    board: config.PlainData
    offset_x: int = 0
    offset_y: int = 0
    created_utc: config.UtcTime


@dataclass(frozen=True)
class Subject:
    """What a session is of; recordings of others do not belong into it."""

    rig_id: str
    camera: str
    width: int
    height: int
    pixel_format: str
    board: Board
    offset_x: int = 0
    offset_y: int = 0

    def to_plain(self) -> dict[str, Any]:
        """As plain data."""
        return vars(self) | {"board": self.board.to_plain()}


class Session:
    """An open session folder; made if it is not there.

    Attributes
    ----------
    folder : Path
    resumed : bool
        Whether it was there before.

    Raises
    ------
    CalibrationError
        ``session.other_rig``, ``session.other_camera``, ``session.other_board``: it is of something else;
        ``session.not_a_session``: the folder holds other things.
    """

    def __init__(self, folder: str | Path, subject: Subject) -> None:
        self.folder = Path(folder)
        self._opened: dict[Path, Recording] = {}
        path = self.folder / FILE_NAME
        self.resumed = path.is_file()
        if self.resumed:
            data = files.read_json(path, error=CalibrationError)
            there = config.validate(data, SessionFile, source=str(path), error=CalibrationError)
            _check_same(there, subject, self.folder)
            return
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise CalibrationError(
                f"{self.folder} is no session of a guided calibration: it holds no {FILE_NAME}",
                hint="name another folder with --session",
                code="session.not_a_session",
            )
        files.make_folder(self.folder)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        begun = SessionFile.model_validate(subject.to_plain() | {"created_utc": now})
        files.write_json(path, begun.model_dump(mode="json", by_alias=True))

    def recordings(self, kind: Kind) -> list[Recording]:
        """What was taken of a step, in order."""
        found = (p for p in self.folder.glob(f"{kind}-*") if (p / RECORDING_FILE).is_file())
        return [self._open(p) for p in sorted(found, key=_number)]

    def _open(self, folder: Path) -> Recording:
        if folder not in self._opened:
            self._opened[folder] = Recording.open(folder)
        return self._opened[folder]

    def next_folder(self, kind: Kind) -> Path:
        """Where the next recording of a step goes."""
        taken = [_number(p) for p in self.folder.glob(f"{kind}-*")]
        return self.folder / f"{kind}-{max(taken, default=0) + 1:02d}"

    def drop(self, recording: Recording) -> Path:
        """Put a recording aside, out of the calibration but not deleted; says where it lies now."""
        aside = files.make_folder(self.folder / _DROPPED)
        final = aside / f"{recording.folder.name}-{uuid.uuid4().hex[:6]}"
        folders.rename_folder(recording.folder, final)
        self._opened.pop(recording.folder, None)
        return final


def _number(folder: Path) -> int:
    digits = folder.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0


def _check_same(there: SessionFile, here: Subject, folder: Path) -> None:
    """Refuse a session of another rig, camera setting or board."""
    frame = "{width}×{height} px at ({offset_x}, {offset_y}) {pixel_format} of {camera}"
    plain: Mapping[str, Any] = here.to_plain()
    checks = (
        ("rig", "rig_id", there.rig_id, here.rig_id),
        ("camera", "frames", frame.format(**there.model_dump()), frame.format(**plain)),
        ("board", "board", str(Board.from_plain(there.board)), str(here.board)),
    )
    for code, what, before, now in checks:
        if before != now:
            raise CalibrationError(
                f"{folder} was begun with {what} {before}; now it is {now}",
                hint=f"go on with that {what}, or begin a new session (--session FOLDER, or remove {folder})",
                code=f"session.other_{code}",
            )
