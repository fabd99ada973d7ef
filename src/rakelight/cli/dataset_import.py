"""``rakelight dataset import`` and ``inspect``: data sets of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rakelight.cli.console import emit_json, json_option, progress, table, warn

SOME_FAILED = 10
FORMATS = ("auto", "d3", "d3m", "mvtec3d", "eyecandies")
_SHOWN = 10


@click.command("import")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--format", "format", type=click.Choice(FORMATS), default="auto", show_default=True, help="What SOURCE is."
)
@click.option("--category", "categories", multiple=True, help="Only this product; may be given several times.")
@click.option("--dry-run", is_flag=True, help="Say what would be imported, and write nothing.")
@json_option
@click.pass_context
def import_(
    ctx: click.Context,
    dataset: Path,
    source: Path,
    format: str,
    categories: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Read SOURCE, a folder or zip of another data set, into DATASET.

    \b
    d3          the released Real-IAD D³: folders, zips, or the download folder of zips
    d3m         the tree that the published D3M code reads
    mvtec3d     MVTec 3D-AD and alike; also what `dataset export --to mvtec3d` wrote
    eyecandies  Eyecandies

    Zips are read as they are, without unpacking. JPEGs, clouds and plain TIFFs are copied byte for byte; lossless pictures
    are kept beside our JPEGs. Where a file came from stands in each sample's manifest, and train, validation and test become
    the split "official". Samples that are there already are skipped, so after an interruption or a repaired download simply
    run the same command again. A sample that cannot be used never stops the rest (exit code 10 at the end).

    \b
    Examples:
      rakelight dataset inspect Real-IAD_D3 --html d3.html
      rakelight dataset import parts Real-IAD_D3 --dry-run
      rakelight dataset import parts Real-IAD_D3 --category audio_jack_socket
    """
    from rakelight.dataset.archives import open_view
    from rakelight.dataset.importers.job import make_plan
    from rakelight.dataset.importers.sources import detect, importer
    from rakelight.dataset.writer import Dataset

    opened = Dataset.open(dataset)
    with open_view(source) as view:
        chosen = detect(view) if format == "auto" else format
        found = importer(chosen).scan(view)
        plan = make_plan(opened, view, found, categories)
        facts: dict[str, Any] = {"dataset": str(dataset), "source": str(source), "format": chosen}
        facts |= {"new": len(plan.new), "there": len(plan.there), "bytes": plan.bytes, "oddities": found.oddities}
        if not as_json:
            warn(found.oddities)
            click.echo(
                f"{source}: {chosen}, {len(plan.new)} sample(s) to import ({plan.bytes / 1e6:.1f} MB), "
                f"{len(plan.there)} there already"
            )
        if dry_run:
            counts = found.counts()
            if as_json:
                emit_json(facts | {"counts": counts})
            else:
                _show(counts)
            return
        _import(ctx, opened, view, found, importer(chosen), categories, facts, as_json)


def _import(
    ctx: click.Context,
    opened: Any,
    view: Any,
    found: Any,
    module: Any,
    categories: tuple[str, ...],
    facts: dict[str, Any],
    as_json: bool,
) -> None:
    from rakelight.dataset.importers.job import import_samples

    made: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    notes: list[str] = []
    with progress("importing", quiet=as_json) as step:
        for one in import_samples(opened, view, found, module.content, categories=categories, progress=step):
            notes += [f"{one.origin}: {text}" for text in one.warnings]
            if one.error is not None:
                failed.append({"origin": one.origin, **one.error})
                if not as_json:
                    click.echo(f"{one.origin}: failed [{one.error['code']}] {one.error['message']}", err=True)
            elif one.key is not None:
                made.append({"origin": one.origin, "sample": str(one.key), "bytes": one.bytes})
            elif one.skipped != "there already":
                notes.append(one.skipped)
    if as_json:
        emit_json(facts | {"imported": made, "failed": failed, "warnings": notes})
    else:
        warn(notes[:_SHOWN])
        if len(notes) > _SHOWN:
            warn([f"{len(notes) - _SHOWN} more; --json lists them all"])
        size = sum(m["bytes"] for m in made) / 1e6
        tail = f", {len(failed)} failed: mend them and run the same command again" if failed else ""
        click.echo(f"{len(made)} imported ({size:.1f} MB), {facts['there']} there already{tail}")
    if failed:
        ctx.exit(SOME_FAILED)


def _show(counts: dict[str, dict[str, dict[str, int]]]) -> None:
    rows = [
        (category, label, part or "-", number)
        for category, labels in counts.items()
        for label, parts in labels.items()
        for part, number in parts.items()
    ]
    table("", ("category", "label", "part", "samples"), rows)


@click.command("inspect")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write the answers as one page too.")
@click.option(
    "--per-class",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    help="Samples to open of each category, good and defective.",
)
@json_option
def inspect(source: Path, page: Path | None, per_class: int, as_json: bool) -> None:
    """Tell what SOURCE, a folder or zip of a data set, really holds, before you import it or trust it.

    Sizes, channel order, units, whether X and Y are coordinates, what the PS picture encodes, which light L05 is under,
    masks, clouds, splits, and whether file sizes or constants give the label away. Names are all read, of the files a few
    of each class; nothing is unpacked.
    """
    from rakelight.dataset.inspect import inspect as look
    from rakelight.dataset.inspect_page import write_page

    with progress("inspecting", quiet=as_json) as step:
        found = look(source, per_class=per_class, progress=step)
    if page is not None:
        write_page(page, found)
    if as_json:
        emit_json(found.to_dict())
        return
    warn(found.oddities)
    _show(found.counts)
    table("", ("", "question", "answer"), [(a.verdict, a.question, _with(a.answer, a.evidence)) for a in found.answers])
    if page is not None:
        click.echo(f"written: {page}")


def _with(answer: str, evidence: str) -> str:
    return f"{answer} [{evidence}]" if evidence else answer
