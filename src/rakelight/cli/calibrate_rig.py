"""``rakelight calibrate rig``: a whole rig, from recordings of targets or walked through on the rig itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from rakelight.cli.board_options import board_of, board_options
from rakelight.cli.console import emit_json, json_option, progress, table, warn

if TYPE_CHECKING:
    from rakelight.calibration.boards import Board
    from rakelight.dataset.recording import Recording
    from rakelight.pipeline.report_facts import ReportFacts

DOCUMENT = "rig_calibration.json"
REPORT = "report.html"
FAILED = 6


@click.command("rig")
@click.argument("recordings", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--from",
    "more",
    multiple=True,
    metavar="RECORDING...",
    type=click.Path(path_type=Path),
    help="The same as RECORDINGS. With --rig they count as made already.",
)
@click.option("--rig", "-r", "where", metavar="RIG", help="rig.toml or sim://targets: walk through what is missing.")
@click.option(
    "--session", type=click.Path(path_type=Path), help="With --rig: where recordings go.  [default: OUTPUT.session]"
)
@board_options
@click.option(
    "--plate-mm",
    type=click.FloatRange(0, 100),
    help="Thickness of the white plate: the table lies that far below its surface.  [default: 0, and a warning]",
)
@click.option(
    "--camera-model",
    type=click.Choice(["pinhole", "affine"]),
    default="pinhole",
    show_default=True,
    help="affine for a telecentric lens.",
)
@click.option("--sphere-mm", type=click.FloatRange(0.1, 1000), help="With --rig: diameter of the chrome spheres.")
@click.option(
    "--sphere-count", type=click.IntRange(1, 16), default=1, show_default=True, help="How many lie there at once."
)
@click.option("--no-spheres", is_flag=True, help="With --rig: no chrome spheres, so no directions of the lights.")
@click.option(
    "--recipe",
    type=click.Path(path_type=Path),
    help="With --rig: recipe.toml whose [patterns] say how patterns are coded; exposures are found by themselves.",
)
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Calibration folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace an existing calibration.")
@json_option
def rig(
    recordings: tuple[Path, ...],
    more: tuple[Path, ...],
    where: str | None,
    session: Path | None,
    kind: Any,
    squares: str | None,
    square_mm: float | None,
    marker_mm: float | None,
    dictionary: str | None,
    plate_mm: float | None,
    camera_model: Literal["pinhole", "affine"],
    sphere_mm: float | None,
    sphere_count: int,
    no_spheres: bool,
    recipe: Path | None,
    output: Path,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Calibrate the whole rig: from RECORDINGS of targets, in any order, or walked through with --rig.

    With --rig you are told what to lay under the camera; a live line (and guide.html in the session folder) says what is
    good and what is missing, Enter takes it. Ctrl-C or q leaves; the same command goes on from there.

    \b
    What each target is good for (`target` in the recording):
      charuco, chessboard   one recording a pose, 12 or more, tilted by 15-25° to all sides: the camera; with
                            patterns of both axes also the projectors
      white_plane           with patterns: the table plane; under every zone: flat field and light positions
      chrome_sphere         directions and positions of the lights, in two or more places
      dark                  dark map

    Writes the calibration and in it report.html: every figure with its limit, PASS, WARN or FAIL. What was not recorded is
    left out and said. Exit code 6 if any figure is FAIL; the calibration and its report are written all the same.

    \b
    Examples:
      rakelight calibrate rig recordings/board-* recordings/spheres-* recordings/white -o calibration/lab
      rakelight calibrate rig --rig rig.toml --sphere-mm 10 --sphere-count 2 --plate-mm 3 -o calibration/lab
      rakelight calibrate rig --rig rig.toml --no-spheres --from recordings/board-* -o calibration/lab
    """
    from rakelight.acquisition.recipe import load_recipe
    from rakelight.dataset.recording import Recording
    from rakelight.folders import check_replaceable

    named = [*recordings, *more]
    if where is None and not named:
        raise click.UsageError("name recordings of targets, or a rig to walk through with --rig")
    if where is None and (session or recipe or no_spheres or sphere_mm is not None):
        raise click.UsageError("--session, --recipe, --sphere-mm and --no-spheres belong to --rig")
    if where is not None and (sphere_mm is None) != no_spheres:
        raise click.UsageError(
            "--rig needs --sphere-mm (diameter of the chrome spheres), or --no-spheres to leave the lights' directions out"
        )
    check_replaceable(output, overwrite=overwrite, marker=DOCUMENT)
    board = board_of(kind, squares, square_mm, marker_mm, dictionary)
    opened = [Recording.open(folder) for folder in named]
    if where is not None:
        from rakelight.cli.calibrate_guide import walk_through

        folder = session or output.absolute().with_name(f"{output.absolute().name}.session")
        patterns = load_recipe(recipe).patterns if recipe else None
        walked = walk_through(
            where,
            board,
            folder,
            opened,
            sphere_mm=sphere_mm,
            sphere_count=sphere_count,
            patterns=patterns,
        )
        if walked is None:
            if as_json:
                emit_json({"session": str(folder), "finished": False})
            click.echo(f"left; run the same command again to go on with {folder}", err=True)
            return
        opened = walked
        click.echo(f"the recordings are kept in {folder}", err=True)
    _calibrate(opened, board, plate_mm, camera_model, output, overwrite, as_json)


def _calibrate(
    recordings: list[Recording],
    board: Board,
    plate_mm: float | None,
    camera_model: Literal["pinhole", "affine"],
    output: Path,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Solve, write calibration and report, and tell every figure."""
    from rakelight.pipeline.calibrate_rig import calibrate_rig
    from rakelight.pipeline.calibration_report import write_report
    from rakelight.pipeline.rig_report import facts_of

    with progress("calibrating", quiet=as_json) as step:
        report = calibrate_rig(
            recordings,
            output.absolute().name,
            board,
            plate_mm=plate_mm or 0.0,
            camera_model=camera_model,
            progress=step,
        )
        step("report")
        facts = facts_of(report)
        report.calibration.save(output, overwrite=overwrite)
        write_report(output / REPORT, facts)
    summary = report.calibration.summary() | {"verdict": facts.verdict, "report": str(output / REPORT)}
    summary["criteria"] = [vars(criterion) for criterion in facts.criteria]
    if as_json:
        emit_json(summary | {"output": str(output)})
    else:
        _tell(report.calibration.warnings, facts, output)
    if plate_mm is None and report.calibration.table_plane is not None and not as_json:
        warn(["the table is taken to be the surface of the white plate: --plate-mm tells how thick the plate is"])
    if facts.verdict == "FAIL":
        click.get_current_context().exit(FAILED)


def _tell(warnings: Iterable[str], facts: ReportFacts, output: Path) -> None:
    """Every figure with its verdict, warnings, and where everything lies."""
    rows = [
        (
            c.verdict,
            c.name,
            "–" if c.value is None else f"{c.value:.4g} {c.unit}".strip(),
            c.limits,
        )
        for c in facts.criteria
    ]
    table(f"{output.name}: {facts.verdict}", ("verdict", "figure", "value", "limit"), rows)
    warn(warnings)
    click.echo(f"written to {output}\nlook at {output / REPORT}")
