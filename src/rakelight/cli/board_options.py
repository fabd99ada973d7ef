"""The options that describe a calibration board, shared by the commands that draw one and that look for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from rakelight.calibration.boards import Board


def counts_of(text: str) -> tuple[int, int]:
    """Reads columns × rows, ``10x7``."""
    columns, cross, rows = text.strip().lower().replace("×", "x").partition("x")
    if not (cross and columns.isascii() and columns.isdigit() and rows.isascii() and rows.isdigit()):
        raise click.BadParameter(f"{text!r} is not COLUMNSxROWS, for example 10x7", param_hint="--squares")
    return int(columns), int(rows)


def board_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--kind``, ``--squares``, ``--square-mm``, ``--marker-mm``, ``--dictionary`` of a board that is looked for."""
    kinds = click.Choice(["charuco", "chessboard"])
    options = (
        click.option("--kind", type=kinds, default="charuco", show_default=True, help="Board."),
        click.option(
            "--squares", metavar="COLUMNSxROWS", help="Squares each way.  [default: 10x7, or 12x9 for a chessboard]"
        ),
        click.option(
            "--square-mm", type=float, help="Side of a square, as measured.  [default: 4, or 3 for a chessboard]"
        ),
        click.option("--marker-mm", type=float, help="Side of a marker.  [default: three quarters of a square]"),
        click.option("--dictionary", help="Markers, as OpenCV calls them.  [default: DICT_4X4_50]"),
    )
    for option in reversed(options):
        command = option(command)
    return command


def board_of(
    kind: Literal["charuco", "chessboard"],
    squares: str | None,
    square_mm: float | None,
    marker_mm: float | None,
    dictionary: str | None,
) -> Board:
    """The board that the options describe; raises ``calibration.board_invalid``."""
    from rakelight.calibration.boards import Board

    usual = Board.chessboard() if kind == "chessboard" else Board()
    counts = usual.squares if squares is None else counts_of(squares)
    return Board(kind, counts, usual.square_mm if square_mm is None else square_mm, marker_mm, dictionary)
