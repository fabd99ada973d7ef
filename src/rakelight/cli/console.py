"""What the commands share: the ``--json`` option, tables on standard output, progress on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")


def emit_json(data: Any) -> None:
    """Print one JSON object on standard output."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table on standard output; plain text when that is not a terminal."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    view = Table(title=title or None, box=SIMPLE, title_justify="left", title_style="bold", pad_edge=False)
    for name in columns:
        view.add_column(name, overflow="fold")
    for row in rows:
        view.add_row(*(str(cell) for cell in row))
    console = Console()
    console = console if console.is_terminal else Console(width=110)
    console.print(view, markup=False)


def warn(messages: Iterable[str]) -> None:
    """Print warnings on standard error."""
    for message in messages:
        click.echo(click.style("warning", fg="yellow", bold=True) + f" {message}", err=True)


@contextmanager
def progress(title: str, *, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """Show what is going on on standard error: ``step("name")`` or ``step(done, total)``.

    A moving line on a terminal, nothing elsewhere (logs stay clean).
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda *_: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def step(first: Any, total: int | None = None) -> None:
            if isinstance(first, str):
                bar.update(task, description=f"{title}: {first}")
            else:
                bar.update(task, completed=first, total=total)

        yield step
