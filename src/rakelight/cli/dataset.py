"""``rakelight dataset``: build a data set in the Real-IAD D³ format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rakelight.cli.console import SuggestingGroup, emit_json, json_option, progress, table, warn

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
@json_option
def init(folder: Path, name: str | None, description: str, license_: str, as_json: bool) -> None:
    """Create an empty data set in a new or empty FOLDER."""
    from rakelight.dataset.writer import Dataset

    made = Dataset.init(folder, name or folder.absolute().name, description, license_)
    if as_json:
        emit_json({"dataset": str(folder), "name": made.info.name})
    else:
        click.echo(
            f"{folder}: data set {made.info.name!r} is ready; add parts with `rakelight dataset add {folder} RECORDING`"
        )


@dataset.command("add")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("recordings", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--category", required=True, help="Product, lower case: letters, digits, underscore (for example knob_cap)."
)
@click.option("--label", required=True, help="OK, or the name of the defect (for example scratch).")
@click.option("--calibration", "-c", required=True, type=click.Path(path_type=Path), help="Calibration folder.")
@click.option(
    "--mask", type=click.Path(path_type=Path), help="Defect mask, 8-bit PNG of 0 and 255, on the pixels of RGBL05."
)
@click.option(
    "--ps",
    type=click.Choice(["normals", "relief", "curvature"]),
    default="normals",
    show_default=True,
    help="What the pseudo-3D picture shows.",
)
@json_option
@click.pass_obj
def add(
    done: dict[str, Any],
    folder: Path,
    recordings: tuple[Path, ...],
    category: str,
    label: str,
    calibration: Path,
    mask: Path | None,
    ps: str,
    as_json: bool,
) -> None:
    """Reconstruct RECORDINGS and commit each as one sample.

    What was committed stays, and is told, whatever happens to a later recording. The raw frames are copied along.
    """
    from rakelight.calibration.rig_calibration import RigCalibration
    from rakelight.dataset.layout import check_category, check_label
    from rakelight.dataset.recording import Recording
    from rakelight.dataset.writer import Dataset
    from rakelight.pipeline.reconstruct import reconstruct
    from rakelight.pipeline.sample import keep_calibration, make_sample

    check_category(category)
    check_label(label)
    if mask is not None and len(recordings) > 1:
        raise click.UsageError("--mask belongs to one recording; add them one at a time")
    opened = Dataset.open(folder)
    rig = RigCalibration.load(calibration)
    added: list[dict[str, Any]] = []
    warnings: list[str] = []
    done |= {"added": added, "warnings": warnings}
    with opened.writer() as writer:
        if not as_json:
            warn(
                f"leftovers of an interrupted run ({q.reason}) were moved to {folder / q.folder}"
                for q in writer.quarantined
            )
        keep_calibration(opened, rig)
        with progress("adding", quiet=as_json) as step:
            for recording in recordings:
                source = Recording.open(recording)
                result = reconstruct(source, rig, progress=step)
                step("pictures")
                content = make_sample(source, result, category=category, label=label, ps=ps, mask=mask)  # type: ignore[arg-type]
                step("committing")
                sample = writer.commit(content)
                warnings += [w for w in result.report["warnings"] if w not in warnings]
                added.append(
                    {
                        "sample": str(sample.key),
                        "recording": str(recording),
                        "bytes": sample.bytes,
                        "folder": str(sample.folder),
                    }
                )
                if not as_json:
                    click.echo(f"{sample.key}: {recording} ({sample.bytes / 1e6:.1f} MB) in {sample.folder}")
    if as_json:
        emit_json(done)
    else:
        warn(warnings)


@dataset.command("show")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--category", help="Only this product.")
@click.option(
    "--verify", is_flag=True, help="Read every file and compare it with its checksum; exit code 7 if any differs."
)
@json_option
@click.pass_context
def show(ctx: click.Context, folder: Path, category: str | None, verify: bool, as_json: bool) -> None:
    """List the samples of the data set in FOLDER, and what is wrong with any of them.

    Exit code 7 if anything is. An index that is out of date is a warning only: the next writer mends it.
    """
    from rakelight.dataset.writer import Dataset

    opened = Dataset.open(folder)
    problems: dict[str, list[str]] = {}
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
        found = opened.verify_sample(info) if verify else [info.damage] if info.damage else []
        if found:
            problems[str(info.key)] = found
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
        for name, texts in problems.items():
            for text in texts:
                click.echo(f"{name}: {text}")
        if verify and not problems:
            click.echo("every file is whole and unchanged")
        warn(f"index: {text}; the samples are safe, and the next writer mends it" for text in index_problems)
    if problems:
        ctx.exit(DAMAGED)


def _moment(t: str) -> str:
    """YYYYMMDDhhmmss for people; 14 zeros say that the time of the capture is not known."""
    return f"{t[:4]}-{t[4:6]}-{t[6:8]} {t[8:10]}:{t[10:12]}:{t[12:]}" if t.strip("0") else "unknown"
