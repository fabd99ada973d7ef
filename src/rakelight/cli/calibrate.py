"""``rakelight calibrate``: lights, strengths, flat field; show and verify calibrations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rakelight.cli.console import SuggestingGroup, emit_json, json_option, progress, table, warn

DAMAGED = 9
DOCUMENT = "rig_calibration.json"


@click.group(cls=SuggestingGroup)
def calibrate() -> None:
    """Calibrations: where the lights are, how strong, and what the sensor adds.

    A calibration is a folder with rig_calibration.json (and arrays.npz), content-hashed and never edited in place.
    """


@calibrate.command("lights")
@click.argument("recordings", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Calibration folder to write.")
@click.option(
    "--base", type=click.Path(path_type=Path), help="Calibration that supplies camera, table plane or lights."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing calibration.")
@json_option
def lights(recordings: tuple[Path, ...], output: Path, base: Path | None, overwrite: bool, as_json: bool) -> None:
    """Calibrate the lights from RECORDINGS of targets, in any order.

    \b
    What each target is good for (`target` in the recording):
      chrome_sphere   direction of every light; two or more spheres apart also show how near the lights are
      part            strengths, from a matte, curved part
      white_plane     flat field: one gain map a zone (with dark or ambient frames: also the dark map)
      dark            dark map

    At least one chrome sphere is needed, or a --base calibration with lights.
    """
    from rakelight.calibration.rig_calibration import RigCalibration
    from rakelight.dataset.recording import Recording
    from rakelight.errors import CalibrationError
    from rakelight.folders import check_replaceable
    from rakelight.pipeline.calibrate import calibrate_from_recordings

    check_replaceable(output, overwrite=overwrite, marker=DOCUMENT)
    for folder in recordings:
        if (folder / DOCUMENT).is_file():
            raise CalibrationError(
                f"{folder} is a calibration, not a recording",
                hint=f"to build on it, pass it as --base {folder}",
                code="calibration.not_a_recording",
            )
    opened = [Recording.open(folder) for folder in recordings]
    known = RigCalibration.load(base) if base else None
    with progress("calibrating", quiet=as_json) as step:
        report = calibrate_from_recordings(opened, output.absolute().name, base=known, progress=step)
        report.calibration.save(output, overwrite=overwrite)
    summary = report.calibration.summary()
    if as_json:
        emit_json(summary | {"output": str(output)})
        return
    _print(summary)
    click.echo(f"written to {output}")


@calibrate.command("show")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def show(folder: Path, as_json: bool) -> None:
    """Show what a calibration holds and how good it is."""
    from rakelight.calibration.rig_calibration import RigCalibration

    summary = RigCalibration.load(folder).summary()
    if as_json:
        emit_json(summary)
    else:
        _print(summary)


@calibrate.command("verify")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def verify(ctx: click.Context, folder: Path, as_json: bool) -> None:
    """Check that a calibration is whole and unchanged; exit code 9 if not."""
    from rakelight.calibration.rig_calibration import RigCalibration

    problems = RigCalibration.verify(folder)
    if as_json:
        emit_json({"calibration": str(folder), "problems": problems})
    else:
        for problem in problems:
            click.echo(problem)
        click.echo(f"{folder}: " + (f"{len(problems)} problem(s)" if problems else "whole and unchanged"))
    if problems:
        ctx.exit(DAMAGED)


def _print(summary: dict[str, Any]) -> None:
    rows = [
        (
            x["zone"],
            f"{x['slant_deg']:.1f}",
            f"{round(x['azimuth_deg'], 1) + 0.0:.1f}",
            f"{x['strength']:.3f}",
            _position(x["position_mm"]),
        )
        for x in summary["lights"]
    ]
    title = f"{summary['calibration_id']}, {summary['created_utc']}" + (", simulated" if summary["simulated"] else "")
    table(title, ("zone", "slant °", "azimuth °", "strength", "position mm (camera frame)"), rows)
    condition = summary["condition_number"]
    flat, dark = summary["flat_field"], summary["dark"]
    facts = [
        ("condition number of L (limit 3)", "–" if condition is None else f"{condition:.2f}"),
        ("flat field", f"zones {flat['zones']}, {flat['light_model']} lights" if flat else "none"),
        ("dark", "yes" if dark else "none"),
        *(
            (name.replace("_", " "), _fact(value))
            for name, value in summary["quality"].items()
            if name != "condition_number"
        ),
        ("content sha256", summary["content_sha256"]),
    ]
    table("", ("what", "value"), facts)
    warn(summary["warnings"])


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k.replace('_', ' ')} {_fact(v)}" for k, v in value.items())
    if isinstance(value, list):
        return "; ".join(_fact(v) for v in value)
    return "–" if value is None else str(value)


def _position(position: list[float] | None) -> str:
    return "distant" if position is None else ", ".join(f"{x:.1f}" for x in position)
