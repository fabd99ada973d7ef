"""``rakelight reconstruct``: from a recording to the measured surface, normals and the pseudo-3D set."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rakelight.cli.console import emit_json, json_option, progress, table, warn

if TYPE_CHECKING:
    from rakelight.calibration.rig_calibration import RigCalibration
    from rakelight.dataset.recording import Recording
    from rakelight.pipeline.reconstruct import Settings
    from rakelight.pipeline.surface import Surface


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
@click.option("--surface/--no-surface", default=True, show_default=True, help="Measure the surface from the patterns.")
@click.option(
    "--fuse",
    is_flag=True,
    help="Let the normals refine the surface (Nehab et al. 2005): less noise on smooth areas, edges may suffer.",
)
@click.option("--clouds/--no-clouds", default=True, show_default=True, help="Write point clouds (PLY, PCD).")
@json_option
def reconstruct(
    recording: Path,
    calibration: Path,
    output: Path,
    overwrite: bool,
    feature_size: float,
    relief_azimuth: float,
    relief_slant: float,
    surface: bool,
    fuse: bool,
    clouds: bool,
    as_json: bool,
) -> None:
    """Solve RECORDING: its patterns into a measured surface, its light stack into normals, albedo and pseudo-3D maps.

    Writes float TIFF and PNG of every map, contact_sheet.png and surface_sheet.png to look at, point clouds, and
    reconstruction.json with provenance, coverage and timings. The folder appears when everything is in it. What the
    recording or the calibration does not have (patterns, projectors, lights) is left out and said: without a light stack the
    surface alone is written, without patterns the normals and the maps made from them.
    """
    from rakelight.calibration.rig_calibration import RigCalibration
    from rakelight.dataset.recording import Recording
    from rakelight.folders import check_replaceable
    from rakelight.pipeline import outputs
    from rakelight.pipeline.reconstruct import Settings

    check_replaceable(output, overwrite=overwrite, marker=outputs.REPORT)
    opened = Recording.open(recording)
    rig = RigCalibration.load(calibration)
    wanted = {} if surface else {"surface": None}
    settings = Settings(feature_size, relief_azimuth, relief_slant, fuse=fuse, **wanted)
    with progress("reconstructing", quiet=as_json) as step:
        plain = solve(opened, rig, output, settings, clouds=clouds, overwrite=overwrite, step=step)
    if as_json:
        emit_json(plain)
    else:
        tell(plain)


def solve(
    recording: Recording,
    calibration: RigCalibration,
    output: Path,
    settings: Settings | None = None,
    *,
    surface: Surface | None = None,
    clouds: bool = True,
    overwrite: bool = False,
    step: Callable[[str], None],
) -> dict[str, Any]:
    """Reconstruct, write, and return the report with ``output`` and ``files``; the surface alone where there are no lights."""
    from rakelight.pipeline import outputs, surface_alone
    from rakelight.pipeline.pictures import all_zones, picture
    from rakelight.pipeline.reconstruct import Settings
    from rakelight.pipeline.reconstruct import reconstruct as run

    settings = settings or Settings()
    if settings.surface is not None and surface_alone.no_lights(recording, calibration) is not None:
        alone = surface_alone.measure_alone(recording, calibration, settings.surface, surface=surface, progress=step)
        solved = time.perf_counter()
        step("writing")
        rgb = surface_alone.pattern_picture(recording, calibration.colour) if clouds else None
        paths = surface_alone.save_alone(alone, output, overwrite=overwrite, cloud_rgb=rgb)
        report = alone.report
    else:
        result = run(recording, calibration, settings, surface=surface, progress=step)
        solved = time.perf_counter()
        step("writing")
        rgb = None
        if clouds and result.surface is not None:
            rgb = picture(recording, all_zones(recording, recording.zones), calibration.colour)
        paths = outputs.save(result, output, overwrite=overwrite, cloud_rgb=rgb)
        report = result.report
    seconds = {**report["seconds"], "writing": round(time.perf_counter() - solved, 4)}
    return report | {"seconds": seconds, "output": str(output), "files": sorted(paths)}


def tell(report: dict[str, Any]) -> None:
    """What came of a reconstruction, as tables, and what to look at."""
    from rakelight.pipeline import outputs, surface_outputs

    seconds = report["seconds"]
    rows = [
        ("size", f"{report['size'][0]}×{report['size'][1]} px"),
        *(_light_rows(report) if report["zones"] else ()),
        ("seconds", f"{sum(seconds.values()):.2f}: " + ", ".join(f"{k} {v:.2f}" for k, v in seconds.items())),
    ]
    table(f"{report['recording']['part_id']} → {report['output']}", ("what", "value"), rows)
    if report["surface"] is not None:
        _tell_surface(report["surface"], (report.get("truth") or {}).get("surface"))
    warn(report["warnings"])
    sheets = [outputs.SHEET] if report["zones"] else []
    sheets += [surface_outputs.SHEET] if report["surface"] is not None else []
    for words, sheet in zip(("look at", "and at "), sheets, strict=False):
        click.echo(f"{words} {Path(report['output']) / sheet}")


def _light_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """What came of the light stack."""
    coverage = report["coverage"]
    evidence = ("shadowed", "outlier", "saturated", "weak")
    return [
        ("zones", f"{', '.join(map(str, report['zones']))}; condition number {report['condition_number']:.2f}"),
        (
            "light model",
            ("near, over the measured surface" if report["second_pass"] else report["light_model"])
            + f", {'flat field' if report['flat_field'] else 'no flat field'}, "
            f"{'dark' if report['dark'] else 'no dark'}",
        ),
        ("solved", f"{coverage['solved']:.2%} of the pixels"),
        ("of these", ", ".join(f"{what} {coverage[f'{what}_of_solved']:.2%}" for what in evidence)),
        ("median confidence", "–" if report["median_confidence"] is None else f"{report['median_confidence']:.4f}"),
        *_truth_rows(report.get("truth")),
    ]


def _tell_surface(report: dict[str, Any], truth: dict[str, Any] | None) -> None:
    """A row for each direction, then what came of them together."""
    from rakelight.pipeline.surface_report import shown

    rows = []
    for told in report["directions"]:
        dark, saturated = shown(told)
        modulations = [e["median_modulation_dn"] for e in told["exposures"] if e["median_modulation_dn"] is not None]
        rows.append(
            (
                str(told["direction"]),
                f"{told['valid']:.1%}",
                f"{told['used']:.1%}",
                f"{told['rejected']:.1%}",
                f"{dark:.1%}",
                f"{saturated:.1%}",
                ", ".join(f"{value:.0f}" for value in modulations) or "–",
                "–" if told["median_sigma_z_um"] is None else f"{told['median_sigma_z_um']:.2f}",
            )
        )
    heads = ("direction", "valid", "used", "rejected", "dark", "saturated", "modulation DN", "σ_z µm")
    table("measured surface", heads, rows)
    part = "" if report["part_coverage"] is None else f", {report['part_coverage']:.1%} of the part"
    click.echo(f"measured {report['coverage']:.1%} of the image{part}; {report['part_pixels']} pixels show the part")
    for name, told in (truth or {}).items():
        if told["rms_um"] is not None:
            click.echo(
                f"against the truth, {name}: median {told['median_um']:+.2f} µm, 95 % within ±{told['p95_um']:.2f} µm, rms "
                f"{told['rms_um']:.2f} µm (predicted {told['predicted_um']:.2f} µm), {told['outliers']:.2%} beyond 50 µm"
                + (" (most at edges, where a pixel sees two surfaces)" if name == "part" else "")
                + f", {told['coverage']:.1%} measured"
            )


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
