"""``rakelight dataset``: build a data set in the Real-IAD D³ format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rakelight.cli.console import SuggestingGroup, emit_json, json_option, table, warn
from rakelight.cli.dataset_add import add, rebuild
from rakelight.cli.dataset_check import check
from rakelight.cli.dataset_cost import cost, pack
from rakelight.cli.dataset_export import export, verify_export
from rakelight.cli.dataset_import import import_, inspect
from rakelight.cli.dataset_label import label
from rakelight.cli.dataset_look import browse, card, stats
from rakelight.cli.dataset_split import split
from rakelight.cli.dataset_verify import migrate, relabel, remove, repair, verify

DAMAGED = 7


@click.group(cls=SuggestingGroup)
def dataset() -> None:
    """Data sets in the released Real-IAD D³ layout, one sample a part.

    Every sample is committed whole: it is either there with all its files, or not at all, also after a power cut.
    """


@dataset.command("init")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the data set; default: the folder's name.")
@click.option("--description", default="", help="One sentence about it.")
@click.option("--license", "license_", default="", help="Licence under which you will pass it on.")
@click.option("--zero-timestamps", is_flag=True, help="File names without the time of the capture, as released.")
@click.option(
    "--xyz-xy",
    type=click.Choice(["true", "placeholder", "pixel_index"]),
    default="true",
    show_default=True,
    help="X and Y of XYZ maps: coordinates; the constant pixel spacing, as released; or column and row.",
)
@click.option(
    "--keep-raw",
    type=click.Choice(["none", "stack", "all"]),
    help="Raw frames kept in samples: none, those under the lights, or all; default: as each recipe says.",
)
@json_option
def init(
    folder: Path,
    name: str | None,
    description: str,
    license_: str,
    zero_timestamps: bool,
    xyz_xy: str,
    keep_raw: str | None,
    as_json: bool,
) -> None:
    """Create an empty data set in a new or empty FOLDER.

    What is chosen here holds for every sample, since a choice that differs between samples could give labels away.
    """
    from rakelight.dataset.options import DatasetOptions
    from rakelight.dataset.writer import Dataset

    options = DatasetOptions(zero_timestamps=zero_timestamps, xyz_xy=xyz_xy, keep_raw=keep_raw)  # type: ignore[arg-type]
    made = Dataset.init(folder, name or folder.absolute().name, description, license_, options)
    if as_json:
        emit_json({"dataset": str(folder), "name": made.info.name, "options": options.model_dump()})
    else:
        click.echo(
            f"{folder}: data set {made.info.name!r} is ready; add parts with `rakelight dataset add {folder} RECORDING`"
        )


@dataset.command("show")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--category", help="Only this product.")
@json_option
@click.pass_context
def show(ctx: click.Context, folder: Path, category: str | None, as_json: bool) -> None:
    """List the samples of the data set in FOLDER, and those whose manifest cannot be used.

    Exit code 7 if there are any. An index that is out of date is a warning only: the next writer mends it. Whether every file
    is whole is told by `rakelight dataset verify`.
    """
    from rakelight.dataset.writer import Dataset

    opened = Dataset.open(folder)
    problems: dict[str, str] = {}
    listed: list[dict[str, Any]] = []
    for info in opened.samples(category):
        listed.append(
            {
                "sample": str(info.key),
                "label": info.label,
                "modalities": list(info.modalities),
                "bytes": info.bytes,
                "timestamp": info.timestamp,
            }
        )
        if info.damage:
            problems[str(info.key)] = info.damage
    index_problems = opened.index_problems()
    if as_json:
        emit_json(
            {
                "dataset": str(folder),
                "name": opened.info.name,
                "samples": listed,
                "problems": problems,
                "index_problems": index_problems,
            }
        )
    else:
        table(
            f"{opened.info.name}: {len(listed)} sample(s)",
            ("sample", "modalities", "MB", "taken (UTC)"),
            [
                (x["sample"], " ".join(x["modalities"]), f"{x['bytes'] / 1e6:.1f}", _moment(x["timestamp"]))
                for x in listed
            ],
        )
        for name, text in problems.items():
            click.echo(f"{name}: {text}")
        warn(f"index: {text}; the samples are safe, and the next writer mends it" for text in index_problems)
    if problems:
        ctx.exit(DAMAGED)


def _moment(t: str) -> str:
    """YYYYMMDDhhmmss for people; 14 zeros say that the time of the capture is not known."""
    return f"{t[:4]}-{t[4:6]}-{t[6:8]} {t[8:10]}:{t[10:12]}:{t[12:]}" if t.strip("0") else "unknown"


dataset.add_command(add)
dataset.add_command(rebuild)
dataset.add_command(browse)
dataset.add_command(card)
dataset.add_command(check)
dataset.add_command(cost)
dataset.add_command(pack)


dataset.add_command(export)
dataset.add_command(verify_export)
dataset.add_command(import_)
dataset.add_command(inspect)
dataset.add_command(label)
dataset.add_command(migrate)
dataset.add_command(relabel)
dataset.add_command(remove)
dataset.add_command(repair)
dataset.add_command(split)
dataset.add_command(stats)
dataset.add_command(verify)
