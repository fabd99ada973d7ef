"""``rakelight detect evaluate``: how good methods are on a data set, in the layouts of the Real-IAD D³ paper's tables."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rakelight.cli.console import emit_json, json_option, progress, table, warn
from rakelight.cli.detect_train import METHOD_HELP
from rakelight.cli.device_option import device_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rakelight.pipeline.detect_configurations import Configuration
    from rakelight.pipeline.detect_tables import Table

SOME_FAILED = 10
_LAYOUTS = ("plain", "table2", "table3", "table4", "table5", "ablation", "all")


@click.command("evaluate")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--category", "categories", multiple=True, help="Only this product; may be given several times.")
@click.option(
    "--layout", "layouts", multiple=True, type=click.Choice(_LAYOUTS),
    help="Tables to make; may be given several times. table2 to table5: the paper's; ablation: D³M without each of its "
    "pieces; all: these five.  [default: plain]",
)  # fmt: skip
@click.option("--method", "methods", multiple=True,
              help=f"{METHOD_HELP} May be given several times; of plain and table2.  [default: d3m]")  # fmt: skip
@click.option("--figure", "figures", multiple=True,
              help="i_auroc, p_auroc, p_auroc_inside, aupro_0.3, … instead of those that a table has by itself.")  # fmt: skip
@click.option("--split", help="Its training part teaches, its test part tests.  [default: official, if there is one]")
@click.option(
    "--parts",
    type=click.IntRange(3),
    help="Teach the first so many good parts, test all others (but captures of the same specimens).",
)
@click.option("--paper-features", is_flag=True, help="DINO ViT-B/8 and Point-MAE, whose weights you must have.")
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05, show_default=True,
              help="False-alarm level of the verdicts that are counted.")  # fmt: skip
@click.option("--resamples", type=click.IntRange(0), default=1000, show_default=True,
              help="Draws for intervals over parts; 0: none.")  # fmt: skip
@click.option("--output", "-o", type=click.Path(path_type=Path),
              help="Also write the tables: FILE.md, .csv, .tex (booktabs) or .json.")  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path),
              help="Page to write: tables, curves, and every part as the first method judged it.")  # fmt: skip
@click.option("--sheet", type=click.Path(path_type=Path),
              help="Picture (.png) to write: all parts with their heat, strangest first; one a method and product.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@device_option
@json_option
@click.pass_context
def evaluate(
    ctx: click.Context,
    dataset: Path,
    categories: tuple[str, ...],
    layouts: tuple[str, ...],
    methods: tuple[str, ...],
    figures: tuple[str, ...],
    split: str | None,
    parts: int | None,
    paper_features: bool,
    alpha: float,
    resamples: int,
    output: Path | None,
    report: Path | None,
    sheet: Path | None,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Teach and test methods on the products of DATASET; figures have intervals over parts.

    Without a split six of ten good parts are drawn to teach, no specimen on both sides; all others are tested. What was done
    is said with the figures. What cannot be run here stands in the table with the reason. Exit code 10 if some of it failed.

    \b
    Two methods beside each other, with a page about every part:
      rakelight detect evaluate parts --method d3m --method patchcore-rgb --report d3m.html
    The layout of the paper's Table 2, to paste:
      rakelight detect evaluate parts --layout table2 -o table2.tex
    What swapping, fusion and each modality are worth (17 configurations, half a minute each a product):
      rakelight detect evaluate parts --layout ablation --category knob_cap
    """
    from rakelight.dataset.writer import Dataset
    from rakelight.detection.methods import EMBEDDED, PAPER
    from rakelight.pipeline.detect_compare import compare
    from rakelight.pipeline.detect_configurations import LAYOUTS, configurations_of, layout_of
    from rakelight.pipeline.detect_outputs import Gathered
    from rakelight.pipeline.detect_report_sections import how_chosen
    from rakelight.pipeline.detect_tables import check_figures, tables_of
    from rakelight.pipeline.table_files import check_kind, write_tables

    if split is not None and parts is not None:
        raise click.UsageError("--split and --parts both say what to teach; give one of them")
    if 0 < resamples < 40:
        raise click.UsageError(f"--resamples {resamples} are too few for an interval; 0, or 40 and more")
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise click.UsageError(f"--sheet {sheet.name} is no picture that can be written; name a .png")
    if output is not None:
        check_kind(output)
    check_figures(figures)
    names = list(dict.fromkeys(LAYOUTS[1:] if "all" in layouts else layouts or LAYOUTS[:1]))
    features = PAPER if paper_features else EMBEDDED
    wanted = [layout_of(name, methods=methods, features=features, seed=seed) for name in names]
    runs = _shown_first(configurations_of(wanted))
    opened = Dataset.open(dataset)
    several = len(runs) * len(categories or opened.categories()) > 1
    gathered = Gathered(report, sheet, several=several, alpha=alpha)
    with progress("evaluating", quiet=as_json) as step:
        found = compare(
            opened, categories, runs, split=split, parts=parts, seed=seed, alpha=alpha, device=device, resamples=resamples,
            progress=lambda name, done, total: step(f"{name} {done}/{total}"), watch=gathered.watch,
        )  # fmt: skip
        tables = [t for layout in wanted for t in tables_of(layout, found, figures)]
        data = {"dataset": str(dataset), "layouts": names} | found.to_dict()
        step("writing")
        if output is not None:
            write_tables(output, tables, data)
        written = gathered.finish(f"{opened.info.name}: evaluation", found, tables) + ([output] if output else [])
    if as_json:
        emit_json(data | {"tables": [t.to_dict() for t in tables], "files": [str(p) for p in written]})
    else:
        for sentence in how_chosen(found):
            click.echo(sentence)
        _show(tables)
        warn(found.notes)
        for path in written:
            click.echo(f"{path} written", err=True)
    if found.failures:
        ctx.exit(SOME_FAILED)


def _shown_first(runs: list[Configuration]) -> list[Configuration]:
    """D³M first, where it was not the caller who ordered them: the page shows the parts of the first."""
    return sorted(runs, key=lambda run: run.name != "d3m") if len(runs) > 2 else runs


def _show(tables: Sequence[Table]) -> None:
    """On a terminal intervals stand below their figures. Where there is no room a table is turned on its side, and if that does
    not help intervals are left out; a pipe gets all in one line."""
    from rakelight.pipeline.detect_tables import INTERVALS

    on_terminal = sys.stdout.isatty()
    room = shutil.get_terminal_size().columns
    for one in tables:
        heads = ["\n".join(dict.fromkeys(h for h in column if h)) for column in zip(*one.heads, strict=True)]
        rows = [[cell.text("\n" if on_terminal else " ") for cell in row] for row in one.rows]
        notes = list(one.notes)
        if on_terminal and _width([heads, *rows]) > room:
            bare = [[cell.number for cell in row] for row in one.rows]
            ways = [turned(one, rows), (heads, bare), turned(one, bare)]
            fitting = next((n for n, (top, body) in enumerate(ways) if _width([top, *body]) <= room), 2)
            heads, rows = ways[fitting]
            if fitting and any(cell.interval for row in one.rows for cell in row):
                notes = [note for note in notes if note != INTERVALS]
                notes.append("Intervals need a wider window; --output, --report and --json have them.")
        table(one.title, heads, rows)
        for note in notes:
            click.echo(f"  {note}")
        if notes:
            click.echo()


def turned(one: Table, rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table on its side: its figures' heads stand in the first columns, its rows beside each other.

    ``rows`` are the texts of its cells. A head that is the same as that above it is not said again.
    """
    names = [" ".join(row[: one.stubs]) for row in rows]
    top = [*(" ".join(dict.fromkeys(h for h in level[: one.stubs] if h)) for level in one.heads), *names]
    body: list[list[str]] = []
    before: list[str] = []
    for column in range(one.stubs, len(one.heads[0])):
        own = [level[column] for level in one.heads]
        said = ["" if n < len(own) - 1 and before[: n + 1] == own[: n + 1] else head for n, head in enumerate(own)]
        body.append([*said, *(row[column] for row in rows)])
        before = own
    return top, body


def _width(rows: Sequence[Sequence[str]]) -> int:
    """Letters that a table takes from side to side."""
    columns = zip(*rows, strict=True)
    return sum(3 + max(len(line) for text in column for line in text.split("\n")) for column in columns)
