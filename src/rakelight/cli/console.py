"""What the commands share: the ``--json`` option, tables on standard output, progress on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

_PIPED_WIDTH = 300  # columns of a table that is not read on a terminal: no line is folded for want of room

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")


class SuggestingGroup(click.Group):
    """A group that names the nearest command when it does not know one."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            names = self.list_commands(ctx)
            near = difflib.get_close_matches(args[0], names, n=1)
            known = f"Did you mean {near[0]!r}?" if near else f"Commands: {', '.join(names)}."
            raise click.UsageError(f"{error.message} {known}", ctx) from None


def emit_json(data: Any) -> None:
    """Print one JSON object on standard output."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False, default=str))


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
    if console.is_terminal:
        console.print(view, markup=False)
        return
    plain = Console(width=_PIPED_WIDTH)
    with plain.capture() as captured:
        plain.print(view, markup=False)
    click.echo("\n".join(line.rstrip() for line in captured.get().rstrip().splitlines()) + "\n")


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
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda *_: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def step(first: Any, total: int | None = None) -> None:
            what = str(first) if total is None else f"{first} of {total}"
            bar.update(task, description=f"{title}: {what}")

        yield step
