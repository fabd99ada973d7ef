"""``rakelight dataset export`` and ``verify-export``: the data set in the forms that other tools load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rakelight.cli.console import emit_json, json_option, progress, table, warn

DAMAGED = 7
FORMATS = ("mvtec3d", "d3m", "realiad", "mvtec-ad", "anomalib", "huggingface", "zips", "croissant")
VIEWS = ("L01", "L02", "L03", "L04", "L05", "PS")


@click.command("export")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--to", "target", required=True, type=click.Choice(FORMATS), help="The format; see above who loads it.")
@click.option("--output", "-o", "folder", required=True, type=click.Path(path_type=Path), help="A new folder.")
@click.option("--category", "categories", multiple=True, help="Only this product; may be given several times.")
@click.option("--split", help="Name of a split; default: official if there is one, else OK to train, defects to test.")
@click.option(
    "--size", type=click.IntRange(1, 65500), help="Longer side in px; nothing is enlarged. Default: as it is."
)
@click.option(
    "--view", type=click.Choice(VIEWS), default="L05", show_default=True, help="The picture taken as the RGB."
)
@click.option(
    "--no-background",
    type=click.Choice(["xyz", "all"]),
    is_flag=False,
    flag_value="xyz",
    help="Remove what is not the part: from the points, or (all) from the RGB too.",
)
@click.option(
    "--background-distance",
    type=click.FloatRange(0, 1e6, min_open=True, max_open=True),
    default=10.0,
    show_default=True,
    help="Points lower above the table belong to it; in pixel pitches.",
)
@click.option("--extras", is_flag=True, help="zips: pack masters, normals, raw frames and calibrations too.")
@click.option(
    "--max-archive",
    type=click.FloatRange(0, min_open=True),
    default=20.0,
    show_default=True,
    help="zips: longest archive in GB.",
)
@click.option("--url", default="", help="zips, croissant: where it will be published.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the search for the table plane.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier export in the same folder.")
@click.option("--no-verify", is_flag=True, help="Do not read the export back.")
@json_option
@click.pass_context
def export(
    ctx: click.Context,
    /,
    dataset: Path,
    target: str,
    folder: Path,
    as_json: bool,
    no_verify: bool,
    background_distance: float,
    max_archive: float,
    **options: Any,
) -> None:
    """Write DATASET in the form another tool loads, whole or not at all, and read it back as that tool would.

    \b
    mvtec3d      BTF, M3DM, CFM, 2M3DF, AST, 3DSR; anomalib MVTec3D
    d3m          the published D3M code (RGB + PS + XYZ)
    realiad      Real-IAD's loader, ADer, BaoIAD, ADEval (five views)
    mvtec-ad     PatchCore and most 2D detectors; anomalib MVTecAD
    anomalib     anomalib Folder, Folder3D, Tabular
    huggingface  datasets.load_dataset("imagefolder"), the Hub
    zips         to publish: a zip a category, SHA256SUMS, Croissant
    croissant    metadata only, for the top folder of the data set

    The data set is never changed. Samples that a format cannot hold are left out and told. Exit code 7 if reading back
    finds a problem.
    """
    from rakelight.dataset.exporters.job import ExportOptions
    from rakelight.dataset.exporters.targets import exporter
    from rakelight.dataset.writer import Dataset

    opened = Dataset.open(dataset)
    chosen = ExportOptions(
        **options, background_pitches=background_distance, max_archive_bytes=max(1, round(max_archive * 1e9))
    )
    module = exporter(target)
    with progress(f"exporting to {target}", quiet=as_json) as step:
        report = module.export(opened, folder, options=chosen, progress=_telling(step, as_json))
        step("reading it back")
        problems = () if no_verify else module.verify(folder, opened)
    if as_json:
        emit_json(report.to_dict() | {"verified": not no_verify, "problems": problems})
    else:
        warn(report.warnings)
        warn(_skipped(report.skipped))
        _show(report.counts)
        click.echo(f"{folder}: {report.samples} sample(s) for {target}, {report.bytes / 1e6:.1f} MB")
        _tell(problems, "" if no_verify else "read back as its loaders do: whole, and equal to the data set")
    if problems:
        ctx.exit(DAMAGED)


@click.command("verify-export")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--against", type=click.Path(path_type=Path), help="Data set it was made from: compare every pixel.")
@json_option
@click.pass_context
def verify_export(ctx: click.Context, folder: Path, against: Path | None, as_json: bool) -> None:
    """Read the export in FOLDER as the tool it was made for would, and tell what is wrong.

    Which format it is stands in its rakelight_export.json. Exit code 7 if there is a problem.
    """
    from rakelight.dataset.exporters.job import read_provenance
    from rakelight.dataset.exporters.targets import verify_export as verify
    from rakelight.dataset.writer import Dataset

    made = read_provenance(folder)
    problems = verify(folder, None if against is None else Dataset.open(against))
    if as_json:
        emit_json({"folder": str(folder), "format": made.format, "compared": against is not None, "problems": problems})
    else:
        compared = (
            " and equal to the data set" if against is not None else "; pixels were not compared (--against DATASET)"
        )
        _tell(problems, f"{folder}: an export for {made.format}, whole{compared}")
    if problems:
        ctx.exit(DAMAGED)


def _telling(step: Any, quiet: bool) -> Any:
    """What stands before the writing (how much room it takes) is told also where no line moves."""

    def tell(first: Any, total: int | None = None) -> None:
        if isinstance(first, str) and first.startswith("about ") and not quiet:
            click.echo(first, err=True)
        step(first, total)

    return tell


def _show(counts: dict[str, dict[str, dict[str, int]]]) -> None:
    rows = [
        (category, part, label, number)
        for category, parts in counts.items()
        for part, labels in parts.items()
        for label, number in labels.items()
    ]
    table("", ("category", "part", "label", "samples"), rows)


def _skipped(skipped: tuple[tuple[str, str], ...]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for key, reason in skipped:
        by_reason.setdefault(reason, []).append(key)
    return [
        f"{len(keys)} sample(s) left out: {reason}: {', '.join(keys[:3])}{' …' if len(keys) > 3 else ''}"
        for reason, keys in by_reason.items()
    ]


def _tell(problems: tuple[str, ...], fine: str) -> None:
    for problem in problems:
        click.echo(problem)
    if not problems and fine:
        click.echo(fine)
