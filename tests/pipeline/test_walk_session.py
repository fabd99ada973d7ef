"""The folder of a guided calibration: gone on with, refused for others, nothing lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rakelight.calibration.boards import Board
from rakelight.dataset.recording import Description, Recording
from rakelight.dataset.recording_writer import write_recording
from rakelight.errors import CalibrationError
from rakelight.pipeline.walk_session import Session, Subject

SUBJECT = Subject("bench-1", "Maker Model 7", 40, 30, "Mono8", Board())


def _record(folder: Path) -> None:
    shot = {"name": "dark1", "role": "dark"}
    about = Description.model_validate({"part_id": "x", "pixel_format": "Mono8", "linear": True, "plan": (shot,)})
    with write_recording(folder, about) as writer:
        writer.add("dark1", np.zeros((30, 40), np.uint8))


def test_a_session_is_gone_on_with(tmp_path: Path) -> None:
    first = Session(tmp_path / "s", SUBJECT)
    assert not first.resumed and first.next_folder("board").name == "board-01"
    _record(first.next_folder("board"))
    _record(first.next_folder("board"))
    again = Session(tmp_path / "s", SUBJECT)
    assert again.resumed
    assert [r.folder.name for r in again.recordings("board")] == ["board-01", "board-02"]
    assert again.next_folder("board").name == "board-03"


def test_what_is_dropped_is_put_aside(tmp_path: Path) -> None:
    session = Session(tmp_path / "s", SUBJECT)
    _record(session.next_folder("white"))
    aside = session.drop(session.recordings("white")[0])
    assert session.recordings("white") == [] and aside.parent.name == "dropped"
    assert Recording.open(aside).info.part_id == "x"


@pytest.mark.parametrize(
    ("other", "code", "told"),
    [
        (replace(SUBJECT, rig_id="bench-2"), "session.other_rig", "bench-2"),
        (replace(SUBJECT, width=80), "session.other_camera", "80×30 px"),
        (replace(SUBJECT, offset_x=16), "session.other_camera", r"at \(16, 0\)"),
        (replace(SUBJECT, camera="Maker Model 8"), "session.other_camera", "Model 8"),
        (replace(SUBJECT, board=Board(square_mm=5.0)), "session.other_board", "squares of 5 mm"),
    ],
)
def test_a_session_of_something_else_is_refused(tmp_path: Path, other: Subject, code: str, told: str) -> None:
    Session(tmp_path / "s", SUBJECT)
    before = (tmp_path / "s" / "session.json").read_bytes()
    with pytest.raises(CalibrationError, match=told) as caught:
        Session(tmp_path / "s", other)
    assert caught.value.code == code and "--session" in caught.value.hint
    assert (tmp_path / "s" / "session.json").read_bytes() == before


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "letter.txt").write_text("dear")
    with pytest.raises(CalibrationError, match=r"no session\.json"):
        Session(tmp_path / "s", SUBJECT)
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "session.json").write_text("{")
    with pytest.raises(CalibrationError, match="cannot be read"):
        Session(tmp_path / "t", SUBJECT)
