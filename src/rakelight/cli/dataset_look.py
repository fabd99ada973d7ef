"""``rakelight dataset stats``, ``browse`` and ``card``: what is in a data set, in numbers, pictures and words."""

from __future__ import annotations

from pathlib import Path

import click

from rakelight.cli.console import emit_json, json_option, progress, table, warn


@click.command("stats")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--category", help="Only this product.")
@click.option("--html", "html_path", type=click.Path(path_type=Path), help="Also write this page, with histograms.")
@click.option(
    "--points", is_flag=True, help="Also count defective points; reads the XYZ maps of defective samples once."
)
@json_option
def stats(folder: Path, category: str | None, html_path: Path | None, points: bool, as_json: bool) -> None:
    """Count what is in the data set in FOLDER, and tell what it lacks.

    A row for each category and label: samples and specimens, modalities, size, share of simulated samples, defect areas in
    pixels, mm² and per cent of the part, exposures, days. Ranges are smallest / median / largest. Below it the gaps:
    defective samples without a mask, labels without test samples, fewer than 20 good parts, missing modalities.

    Masks are measured once and remembered in meta/area_cache.jsonl.

    \b
    Examples:
      rakelight dataset stats my-set --html my-set.html
      rakelight dataset stats my-set --category knob_cap --points
    """
    from rakelight.dataset.writer import Dataset
    from rakelight.pipeline import dataset_stats_page as pages
    from rakelight.pipeline.dataset_gaps import gaps
    from rakelight.pipeline.dataset_stats import dataset_stats, to_plain

    with progress("counting", quiet=as_json) as step:
        found = dataset_stats(Dataset.open(folder), category=category, points=points, progress=step)
    if html_path is not None:
        pages.write_stats_page(html_path, found)
    lacking = gaps(found)
    if as_json:
        page = {"html": str(html_path)} if html_path is not None else {}
        emit_json(to_plain(found) | {"gaps": [vars(g) for g in lacking]} | page)
        return
    rows = [pages.class_cells(c) for c in found.classes]
    # A column in which no class has anything is left out: the table is wide enough.
    shown = [k for k in range(len(pages.COLUMNS)) if not rows or any(row[k] for row in rows)]
    table(
        f"{found.name}: {pages.summary(found)}",
        [pages.COLUMNS[k][0] for k in shown],
        [[row[k] for k in shown] for row in rows],
    )
    for gap in lacking:
        click.echo(f"{gap.category or 'all'}: {gap.what}\n  → {gap.hint}")
    if html_path is not None:
        click.echo(f"page: {html_path}")
    warn(found.notes)


@click.command("browse")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Folder of the gallery.")
@click.option("--category", help="Only this product.")
@click.option("--open", "open_", is_flag=True, help="Show it in the web browser afterwards.")
@json_option
def browse(folder: Path, output: Path, category: str | None, open_: bool, as_json: bool) -> None:
    """Make a gallery of the data set in FOLDER: pages that any web browser opens, without a server.

    An overview with filters, and a page for each sample: its pictures, pseudo-3D, normals, albedo and shaded height, with the
    outlines of defect and part to be switched on and off, and what the manifest says of it. Run again, only new
    and changed samples are drawn; samples that are gone from the data set go from the gallery.

    \b
    Example:
      rakelight dataset browse my-set -o my-set-gallery --open
    """
    import webbrowser

    from rakelight.dataset.writer import Dataset
    from rakelight.pipeline.dataset_browse import write_gallery

    with progress("drawing", quiet=as_json) as step:
        made = write_gallery(Dataset.open(folder), output, category=category, progress=step)
    if as_json:
        emit_json(
            {
                "index": str(made.index),
                "samples": made.samples,
                "drawn": made.drawn,
                "kept": made.kept,
                "removed": made.removed,
                "problems": dict(made.problems),
            }
        )
    else:
        click.echo(
            f"{made.index}: {made.samples} sample(s), {made.drawn} drawn, {made.kept} unchanged, {made.removed} removed"
        )
        warn(f"{key}: {what}" for key, what in made.problems.items())
    if open_:
        webbrowser.open(made.index.absolute().as_uri())


@click.command("card")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), help="File to write.  [default: README.md in FOLDER]")
@click.option("--author", "authors", multiple=True, help="Author for CITATION.cff; can be given several times.")
@json_option
def card(folder: Path, output: Path | None, authors: tuple[str, ...], as_json: bool) -> None:
    """Write the card of the data set in FOLDER: README.md with a head that the Hugging Face Hub reads.

    What it is, rig and calibrations, counts, splits, defect codes, formats and conventions, known faults, licence, citation.
    What is not known is listed as such. The parts stand between markers: run again, only they are made anew, and what you
    write around them stays; a part whose markers you delete is left out from then on. With --author a CITATION.cff is
    written beside it, unless there is one.

    \b
    Examples:
      rakelight dataset card my-set
      rakelight dataset card my-set --author "Ada Lovelace" --author "Example Lab"
    """
    from rakelight.dataset.writer import Dataset
    from rakelight.pipeline.dataset_card import write_card

    with progress("counting", quiet=as_json) as step:
        made = write_card(Dataset.open(folder), output, authors=authors, progress=step)
    if as_json:
        emit_json(
            {
                "card": str(made.path),
                "citation": None if made.citation is None else str(made.citation),
                "left_out": list(made.left_out),
                "unknown": list(made.unknown),
                "notes": list(made.notes),
            }
        )
        return
    click.echo(f"{made.path} is written" + (f", and {made.citation}" if made.citation is not None else ""))
    for text in made.unknown:
        click.echo(f"not known: {text}")
    if made.left_out:
        click.echo(f"left out, since their markers are not in the file: {', '.join(made.left_out)}")
    warn(made.notes)
