"""``rakelight calibrate check`` and ``repeat``: is the rig still as good as on the day of its calibration?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rakelight.cli.console import emit_json, json_option, progress, table, warn

if TYPE_CHECKING:
    from rakelight.calibration.rig_calibration import RigCalibration
    from rakelight.pipeline.ball_check import BallCheck
    from rakelight.pipeline.check_judging import Judged
    from rakelight.pipeline.daily_check import Check
    from rakelight.pipeline.repeatability import Repeatability, Run

FAILED = 6


def _numbers(_ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Numbers parted by commas."""
    try:
        return None if value is None else tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} are no numbers; write for example 3,10") from None


def _limit(name: str, what: str, usual: str) -> Callable[[Any], Any]:
    return click.option(name, callback=_numbers, metavar="WARN,FAIL", default=usual, show_default=True, help=what)


@click.command("check")
@click.argument("recording", type=click.Path(path_type=Path))
@click.option(
    "--calibration", "-c", required=True, type=click.Path(path_type=Path), help="Calibration that is checked."
)
@click.option(
    "--steps",
    callback=_numbers,
    metavar="MM,MM,…",
    help="Certified height of each plate over the one below it, lowest first.",
)
@click.option(
    "--ball-mm",
    callback=_numbers,
    metavar="D[,D2]",
    help="Certified diameters of the balls of a ball bar, left to right in the image (any order if they differ by over 2 %).",
)
@click.option("--spacing-mm", type=float, metavar="S", help="Certified distance of the centres of both balls.")
@click.option("--with-table", is_flag=True, help="The table counts as the lowest plate: the first step begins there.")
@click.option(
    "--history", type=click.Path(path_type=Path), help="JSON lines: compared with, and this check added to them."
)
@click.option("--gauge", help="Name in the history; only checks of the same gauge are compared.  [default: the target]")
@click.option("--report", type=click.Path(path_type=Path), help="HTML file to write, with the history as plots.")
@_limit("--step-um", "Error of a step, µm.", "3,10")
@_limit("--flatness-um", "Range about a plate's plane, µm.", "20,40")
@_limit("--parallel-deg", "Angle between two plates, degrees.", "0.05,0.1")
@_limit("--normals-deg", "Mean angle of solved normals to their plate, degrees.", "2,4")
@_limit("--form-um", "Probing error of form PF of a ball, µm.", "15,30")
@_limit("--size-um", "Probing error of size PS of a ball, µm.", "3,10")
@_limit("--spacing-um", "Sphere-spacing error SD, µm.", "3,10")
@_limit("--drift-um", "Step, diameter or spacing against the median of the earlier checks, µm.", "3,10")
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    /,
    recording: Path,
    calibration: Path,
    steps: tuple[float, ...] | None,
    ball_mm: tuple[float, ...] | None,
    spacing_mm: float | None,
    with_table: bool,
    history: Path | None,
    gauge: str | None,
    report: Path | None,
    as_json: bool,
    **limits: tuple[float, ...],
) -> None:
    """Check a calibrated rig on the RECORDING of a step gauge, a flat or a ball bar, and against earlier checks.

    The recording has patterns. Of a step gauge or a flat (target step_gauge, flat or part): step heights, flatness, and with
    zones of light the normals. Of a ball bar (target ball_bar, or part with --ball-mm or --spacing-mm): probing errors of form
    and size, and the sphere-spacing error.
    Exit code 6 if any figure is FAIL; the check is in the history and the report all the same.

    \b
    A gauge of five plates, each morning:
      rakelight calibrate check recordings/gauge -c calibration/lab --steps 1,1,2,3 \\
        --history checks.jsonl --report check.html
    \b
    A ball bar:
      rakelight calibrate check recordings/bar -c calibration/lab --ball-mm 10.0021,10.0004 --spacing-mm 25.0012
    """
    from rakelight.calibration.rig_calibration import RigCalibration
    from rakelight.dataset.recording import Recording
    from rakelight.pipeline.ball_check import BallCheck, check_balls
    from rakelight.pipeline.calibration_report import write_report
    from rakelight.pipeline.check_history import read_history, write_history
    from rakelight.pipeline.check_judging import Limits, facts_of
    from rakelight.pipeline.daily_check import check_gauge

    if wrong := [name for name, pair in limits.items() if len(pair) != 2]:
        raise click.BadParameter("two numbers are needed, WARN,FAIL", param_hint=f"--{wrong[0].replace('_', '-')}")
    earlier = read_history(history) if history is not None else []
    known, opened = RigCalibration.load(calibration), Recording.open(recording)
    of_balls = ball_mm is not None or spacing_mm is not None or opened.info.target == "ball_bar"
    if of_balls and (steps is not None or with_table):
        raise click.UsageError(
            "--steps and --with-table belong to a step gauge, --ball-mm and --spacing-mm to a ball bar"
        )
    judged_by = Limits(**{name: (pair[0], pair[1]) for name, pair in limits.items()})
    found: Check | BallCheck
    with progress("checking", quiet=as_json) as step:
        if of_balls:
            found = check_balls(
                opened,
                known,
                ball_mm=ball_mm or (),
                spacing_mm=spacing_mm,
                gauge=gauge,
                limits=judged_by,
                history=earlier,
                progress=step,
            )
        else:
            found = check_gauge(
                opened,
                known,
                steps_mm=steps or (),
                with_table=with_table,
                gauge=gauge,
                limits=judged_by,
                history=earlier,
                progress=step,
            )
    facts = facts_of(found)
    if history is not None:
        write_history(history, earlier, found.entry | {"verdict": facts.verdict})
    if report is not None:
        write_report(report, facts, check=True)
    if as_json:
        emit_json(found.to_plain() | {"verdict": facts.verdict, "report": str(report) if report else None})
    else:
        _tell_balls(found) if isinstance(found, BallCheck) else _tell_plates(found)
        _tell_verdict(found, facts.verdict, report)
    if facts.verdict == "FAIL":
        ctx.exit(FAILED)


def _tell_balls(found: BallCheck) -> None:
    plain = found.to_plain()
    rows = [
        (b["name"], f"{b['diameter_mm']:.5f}", f"{b['form_error_um']:.2f}", _or_dash(b["size_error_um"], "+.2f"),
         f"{b['rms_um']:.2f}", b["points"], f"{b['seen']:.1%}", _or_dash(b["drift_um"], "+.2f"),
         _or_dash(b["trend_um_per_day"], "+.3f"))
        for b in plain["balls"]
    ]  # fmt: skip
    columns = ("ball", "diameter mm", "form PF µm", "size PS µm", "rms µm", "points", "of the sphere", "drift µm",
               "trend µm a day")  # fmt: skip
    table(f"{found.entry['gauge']}, calibration {found.entry['calibration_id']}", columns, rows)
    s = plain["spacing"]
    row = (f"{s['spacing_mm']:.5f}", _or_dash(s["error_um"], "+.2f"), _or_dash(s["drift_um"], "+.2f"),
           _or_dash(s["trend_um_per_day"], "+.3f"))  # fmt: skip
    table("", ("sphere spacing mm", "error SD µm", "drift µm", "trend µm a day"), [row])


def _tell_plates(found: Check) -> None:
    plain = found.to_plain()
    rows = [
        (k, p["points"], f"{p['flatness_um']:.2f}", f"{p['rms_um']:.2f}", _or_dash(p["normals_deg"]),
         _or_dash(p["mean_normal_deg"]))
        for k, p in enumerate(plain["plates"], 1)
    ]  # fmt: skip
    columns = ("plate", "points", "flatness µm", "rms µm", "normals: mean angle °", "their mean °")
    table(f"{found.entry['gauge']}, calibration {found.entry['calibration_id']}", columns, rows)
    rows = [
        (s["name"], f"{s['height_mm']:.5f}", f"{s['standard_error_um']:.3f}", _or_dash(s["error_um"], "+.2f"),
         _or_dash(s["drift_um"], "+.2f"), _or_dash(s["trend_um_per_day"], "+.3f"))
        for s in plain["steps"]
    ]  # fmt: skip
    if rows:
        table("", ("step", "height mm", "standard error µm", "error µm", "drift µm", "trend µm a day"), rows)


def _tell_verdict(found: Judged, verdict: str, report: Path | None) -> None:
    judged = [
        (c.verdict, c.name, "–" if c.value is None else f"{c.value:.4g} {c.unit}", f"at most {c.limit:g}")
        for c in found.criteria
    ]
    table(verdict, ("verdict", "figure", "value", "limit"), judged)
    warn(found.warnings)
    if report is not None:
        click.echo(f"look at {report}")


def _or_dash(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)


@click.command("repeat")
@click.argument("recordings", nargs=-1, type=click.Path(path_type=Path))
@click.option("--calibration", "-c", required=True, type=click.Path(path_type=Path), help="Calibration of the rig.")
@click.option("--rig", "-r", help="Capture anew on this rig: rig.toml or a sim:// URL.")
@click.option("--recipe", "-p", type=click.Path(path_type=Path), help="With --rig: what to capture.")
@click.option(
    "-n", "--count", type=click.IntRange(2), default=25, show_default=True, help="With --rig: how many times."
)
@json_option
def repeat(
    recordings: tuple[Path, ...], calibration: Path, rig: str | None, recipe: Path | None, count: int, as_json: bool
) -> None:
    """Tell how well the rig repeats: one part, captured again and again without being touched.

    From RECORDINGS of it, or captured now with --rig and --recipe (nothing is kept then). All figures are one standard
    deviation between runs; that of the heights is compared with what the noise of the frames predicts.

    \b
    Examples:
      rakelight calibrate repeat -n 25 --rig rig.toml --recipe knob.toml -c calibration/lab
      rakelight calibrate repeat recordings/knob-* -c calibration/lab
    """
    from rakelight.calibration.rig_calibration import RigCalibration
    from rakelight.pipeline.repeatability import repeatability

    if bool(recordings) == (rig is not None) or (rig is None) != (recipe is None):
        raise click.UsageError("name RECORDINGS, or --rig and --recipe")
    known = RigCalibration.load(calibration)
    with progress("measuring", quiet=as_json) as step:
        if rig is not None and recipe is not None:
            runs = _captured(rig, recipe, count, known, step)
        else:
            runs = _recorded(recordings, known, step)
        found = repeatability(runs)
    if as_json:
        emit_json(asdict(found) | {"calibration_id": known.calibration_id})
    else:
        _tell_repeat(found)


def _recorded(recordings: tuple[Path, ...], known: RigCalibration, step: Callable[[str], None]) -> Iterator[Run]:
    from rakelight.dataset.recording import Recording
    from rakelight.errors import InputError
    from rakelight.pipeline.repeatability import run_of

    opened = [Recording.open(folder) for folder in recordings]
    seen: dict[str, Path] = {}
    for one in opened:  # compared with itself a part repeats perfectly
        twin = seen.setdefault("".join(sorted(f.sha256 for f in one.info.frames)), one.folder)
        if twin != one.folder or opened.count(one) > 1:
            raise InputError(
                f"{one.folder} holds the same frames as {twin}: a repeat needs captures of its own",
                hint="capture the part again, or leave the copy out",
                code="repeat.twins",
            )
    for number, one in enumerate(opened, 1):
        step(f"run {number} of {len(opened)}")
        yield run_of(one, known)


def _captured(rig: str, recipe: Path, count: int, known: RigCalibration, step: Callable[[str], None]) -> Iterator[Run]:
    """Runs on the rig; each recording is deleted when its run is told."""
    from rakelight.acquisition.capture import capture
    from rakelight.acquisition.recipe import load_recipe
    from rakelight.acquisition.rig import Rig
    from rakelight.dataset.recording import Recording
    from rakelight.pipeline.live_surface import LiveSurface
    from rakelight.pipeline.repeatability import run_of

    wanted, live = load_recipe(recipe), LiveSurface(known)
    with tempfile.TemporaryDirectory(prefix="rakelight-repeat-") as place, Rig.open(rig) as opened:
        try:
            for number in range(1, count + 1):
                folder = Path(place) / "run"
                capture(
                    opened,
                    wanted,
                    folder,
                    part_id=f"repeat-{number:04d}",
                    overwrite=True,
                    watch=live.watch,
                    progress=lambda p, run=number: step(f"run {run} of {count}: {p.shot}"),  # type: ignore[misc]
                )
                yield run_of(Recording.open(folder), known, live.finish())
        finally:
            live.close()


def _tell_repeat(found: Repeatability) -> None:
    normals = "–" if found.normals_deg is None else f"{found.normals_deg:.3f} °"
    rows = [
        ("height of a pixel, median over the part", f"{found.height_um:.3f} µm"),
        ("… 95 % of the pixels below", f"{found.height_p95_um:.3f} µm"),
        ("predicted σ of a pixel's height", f"{found.predicted_um:.3f} µm"),
        ("measured over predicted", f"{found.ratio:.3f}"),
        ("mean height of the part", f"{found.mean_height_um:.3f} µm"),
        ("… last run less the first", f"{found.drift_um:+.3f} µm"),
        ("centre of the part, u and v", f"{found.centre_px[0]:.4f}, {found.centre_px[1]:.4f} px"),
        ("normal of a pixel, median over the part", normals),
    ]
    table(f"{found.runs} runs, {found.pixels} pixels of the part", ("one standard deviation of", "value"), rows)
