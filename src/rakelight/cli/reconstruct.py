"""``rakelight reconstruct``: from a recording to normals and the pseudo-3D set."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from rakelight.cli.console import emit_json, json_option, progress, table, warn


@click.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option(
    "--calibration",
    "-c",
    required=True,
    type=click.Path(path_type=Path),
    help="Calibration folder (`rakelight calibrate`).",
)
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier reconstruction in the output folder.")
@click.option(
    "--feature-size",
    type=click.FloatRange(min=2),
    default=8.0,
    show_default=True,
    help="Width in pixels of the bumps, dents and scratches that the curvature map keeps.",
)
@click.option(
    "--relief-azimuth", type=float, default=135.0, show_default=True, help="Virtual light, degrees from the right."
)
@click.option(
    "--relief-slant", type=click.FloatRange(0, 90), default=60.0, show_default=True, help="Degrees from the camera."
)
@json_option
def reconstruct(
    recording: Path,
    calibration: Path,
    output: Path,
    overwrite: bool,
    feature_size: float,
    relief_azimuth: float,
    relief_slant: float,
    as_json: bool,
) -> None:
    """Solve the light stack of RECORDING into normals, albedo and pseudo-3D maps.

    Writes float TIFF and PNG of every map, contact_sheet.png to look at, and reconstruction.json with provenance,
    coverage and timings. The folder appears when everything is in it.
    """
    from rakelight.calibration.rig_calibration import RigCalibration
    from rakelight.dataset.recording import Recording
    from rakelight.folders import check_replaceable
    from rakelight.pipeline import outputs
    from rakelight.pipeline.reconstruct import Settings
    from rakelight.pipeline.reconstruct import reconstruct as run

    check_replaceable(output, overwrite=overwrite, marker=outputs.REPORT)
    opened = Recording.open(recording)
    rig = RigCalibration.load(calibration)
    with progress("reconstructing", quiet=as_json) as step:
        result = run(opened, rig, Settings(feature_size, relief_azimuth, relief_slant), progress=step)
        solved = time.perf_counter()
        step("writing")
        paths = outputs.save(result, output, overwrite=overwrite)
    report = result.report
    seconds = {**report["seconds"], "writing": round(time.perf_counter() - solved, 4)}
    if as_json:
        emit_json(report | {"seconds": seconds, "output": str(output), "files": sorted(paths)})
        return
    coverage = report["coverage"]
    evidence = ("shadowed", "outlier", "saturated", "weak")
    rows = [
        ("size", f"{report['size'][0]}×{report['size'][1]} px"),
        ("zones", f"{', '.join(map(str, report['zones']))}; condition number {report['condition_number']:.2f}"),
        (
            "light model",
            f"{report['light_model']}, {'flat field' if report['flat_field'] else 'no flat field'}, "
            f"{'dark' if report['dark'] else 'no dark'}",
        ),
        ("solved", f"{coverage['solved']:.2%} of the pixels"),
        ("of these", ", ".join(f"{what} {coverage[f'{what}_of_solved']:.2%}" for what in evidence)),
        ("median confidence", "–" if report["median_confidence"] is None else f"{report['median_confidence']:.4f}"),
        *_truth_rows(report.get("truth")),
        ("seconds", f"{sum(seconds.values()):.2f}: " + ", ".join(f"{k} {v:.2f}" for k, v in seconds.items())),
    ]
    table(f"{opened.info.part_id} → {output}", ("what", "value"), rows)
    warn(report["warnings"])
    click.echo(f"look at {paths[outputs.SHEET]}")


def _truth_rows(truth: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Errors against the truth that a simulated recording carries."""
    named = (("error on the part", "part"), ("error on smooth areas", "smooth")) if truth else ()
    return [
        (
            what,
            f"mean {truth[key]['mean_deg']:.2f}°, median {truth[key]['median_deg']:.2f}°, 95 % {truth[key]['p95_deg']:.2f}°",
        )
        for what, key in named
        if truth and truth[key]["mean_deg"] is not None
    ]
