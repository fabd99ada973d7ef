"""``rakelight calibrate``: lights, strengths, flat field; show and verify calibrations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rakelight.cli.board_options import counts_of
from rakelight.cli.calibrate_check import check, repeat
from rakelight.cli.calibrate_rig import rig
from rakelight.cli.console import SuggestingGroup, emit_json, json_option, progress, table, warn

DAMAGED = 9
DOCUMENT = "rig_calibration.json"


@click.group(cls=SuggestingGroup)
def calibrate() -> None:
    """Calibrations: where the lights are, how strong, and what the sensor adds.

    A calibration is a folder with rig_calibration.json (and arrays.npz), content-hashed and never edited in place.
    """


calibrate.add_command(check)
calibrate.add_command(repeat)
calibrate.add_command(rig)


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
@click.option(
    "--rig", type=click.Path(path_type=Path), help="rig.toml: is it of this rig, and by its limits? Not opened."
)
@click.option("--recording", type=click.Path(path_type=Path), help="Does it hold for this recording?")
@click.option(
    "--history", type=click.Path(path_type=Path), help="Daily checks (of `calibrate check`): did the last fail?"
)
@json_option
def show(folder: Path, rig: Path | None, recording: Path | None, history: Path | None, as_json: bool) -> None:
    """Show what a calibration holds, how good it is, and whether it still holds.

    It is stale when the rig was changed (rig, camera, region of the sensor), when it is older than 90 days, or when a device
    is more than 10 K warmer or colder than then; [calibration] in rig.toml sets other limits. Exit code 0 all the same.

    \b
    Examples:
      rakelight calibrate show calibration/lab --rig rig.toml --history checks.jsonl
      rakelight calibrate show calibration/lab --recording recordings/knob-17
    """
    from rakelight.calibration.rig_calibration import RigCalibration
    from rakelight.cli.calibration_age import rig_rows, why_stale

    calibration = RigCalibration.load(folder)
    stale = why_stale(calibration, rig, recording, history)
    if as_json:
        emit_json(calibration.summary() | {"stale": [vars(reason) for reason in stale]})
        return
    _print(calibration.summary())
    if rows := rig_rows(calibration):
        table("", ("calibrated on", "what it was"), rows)
    warn(reason.sentence for reason in stale)


@calibrate.command("verify")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def verify(ctx: click.Context, folder: Path, as_json: bool) -> None:
    """Check that a calibration is whole and unchanged; exit code 9 if not. Its age is a warning only."""
    from rakelight.calibration.rig_calibration import RigCalibration
    from rakelight.cli.calibration_age import why_stale

    problems = RigCalibration.verify(folder)
    stale = [] if problems else why_stale(RigCalibration.load(folder))
    if as_json:
        emit_json({"calibration": str(folder), "problems": problems, "stale": [vars(reason) for reason in stale]})
    else:
        for problem in problems:
            click.echo(problem)
        click.echo(f"{folder}: " + (f"{len(problems)} problem(s)" if problems else "whole and unchanged"))
        warn(reason.sentence for reason in stale)
    if problems:
        ctx.exit(DAMAGED)


@calibrate.command("target")
@click.option(
    "--kind",
    type=click.Choice(["charuco", "chessboard"]),
    default="charuco",
    show_default=True,
    help="ChArUco boards may be seen in part; chessboards must be seen whole.",
)
@click.option("--squares", metavar="COLUMNSxROWS", help="Squares each way.  [default: 10x7, or 12x9 for a chessboard]")
@click.option("--square-mm", type=float, help="Side of a square.  [default: 4, or 3 for a chessboard]")
@click.option("--marker-mm", type=float, help="Side of a marker.  [default: three quarters of a square]")
@click.option("--dictionary", help="Markers, as OpenCV calls them.  [default: DICT_4X4_50]")
@click.option(
    "--page", default="a4", show_default=True, help="a4, a3, letter, or width x height in mm, such as 100x80."
)
@click.option("--dpi", type=int, default=1200, show_default=True, help="Resolution of a PNG.")
@click.option(
    "--output", "-o", required=True, type=click.Path(path_type=Path), help="File to write: .pdf, .svg or .png."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@json_option
def target(
    kind: Any,
    squares: str | None,
    square_mm: float | None,
    marker_mm: float | None,
    dictionary: str | None,
    page: str,
    dpi: int,
    output: Path,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make a calibration board to print, true to scale, with rulers to prove it.

    Print at 100 %, mount it on something flat (glass), and measure the two lengths of 30.00 mm: printers stretch paper by
    some tenths of a per cent, and every height inherits that. The sheet says which options tell `calibrate rig` of it.
    Paper is good to some 10 µm; for less, have the SVG made as a chrome-on-glass or ceramic plate.

    \b
    The usual board, and a chessboard with larger squares:
      rakelight calibrate target -o target.pdf
      rakelight calibrate target --kind chessboard --squares 9x7 --square-mm 10 -o chessboard.svg
    """
    from rakelight.calibration.boards import Board
    from rakelight.calibration.sheet_files import write_sheet
    from rakelight.calibration.target_sheets import lay_out, settings_text
    from rakelight.errors import StorageError

    usual = Board.chessboard() if kind == "chessboard" else Board()
    counts = usual.squares if squares is None else counts_of(squares)
    board = Board(kind, counts, usual.square_mm if square_mm is None else square_mm, marker_mm, dictionary)
    sheet = lay_out(board, page)
    if output.exists() and not overwrite:
        hint = "choose another name or pass --overwrite"
        raise StorageError(f"{output} exists already", hint=hint, code="storage.exists")
    write_sheet(output, sheet, dpi=dpi)
    if as_json:
        emit_json({"output": str(output), "board": board.to_plain(), "page_mm": sheet.page_mm})
        return
    click.echo(f"{board}, on {sheet.page_mm[0]:g}×{sheet.page_mm[1]:g} mm")
    click.echo(f"written to {output}: print at 100 %, measure, then calibrate with {settings_text(board)}")


@calibrate.command("diff")
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@json_option
def diff(first: Path, second: Path, as_json: bool) -> None:
    """Say what changed from calibration A to calibration B, in degrees, mm, per cent and µm of height.

    The effect on heights is that of camera, projector and table together: both calibrations measure the same points
    of the table field, and of a step of 10 mm on it. Exit code 0, however much has changed.

    \b
    For example, last month's calibration and today's:
      rakelight calibrate diff calibration/2025-05 calibration/2025-06
    """
    from rakelight.calibration.rig_calibration import RigCalibration
    from rakelight.pipeline.calibration_diff import compare

    found = compare(RigCalibration.load(first), RigCalibration.load(second)).to_plain()
    if as_json:
        emit_json(found)
        return
    _print_diff(found)


def _print_diff(found: dict[str, Any]) -> None:
    click.echo(f"A {found['a']}\nB {found['b']}")
    if found["identical"]:
        click.echo("A and B are the same calibration")
        return
    if seen := _view_changes(found["camera"], found["table"]):
        table("", ("what", "B against A"), seen)
    rows: list[tuple[Any, ...]]
    if found["lights"]:
        rows = [
            (x["zone"], f"{x['angle_deg']:.3f}", f"{x['strength_percent']:+z.2f}", _or_dash(x["moved_mm"], ".2f"))
            for x in found["lights"]
        ]
        table("", ("zone", "light turned °", "strength %", "source moved mm"), rows)
    if found["flat_field"]:
        rows = [(x["zone"], f"{x['median_percent']:+z.2f}", f"{x['spread_percent']:.2f}") for x in found["flat_field"]]
        table("", ("zone", "flat-field gain, median %", "95 % of pixels within ± % of it"), rows)
    if x := found["colour"]:
        gains = f"red {x['red_percent']:+z.2f} %, blue {x['blue_percent']:+z.2f} %"
        table("", ("pictures", "B against A"), [("white balance, gains", gains),
              ("black level, of full scale", f"{x['black_percent']:+z.3f} %")])  # fmt: skip
    if found["projectors"]:
        columns = ("direction", "moved mm", "turned °", "focal length %", "height: mean µm", "rms µm", "max µm")
        rows = []
        for x in found["projectors"]:
            h = x["heights"] or dict.fromkeys(("mean_um", "rms_um", "max_um", "tilt_um", "step_um"))
            heights = (_or_dash(h["mean_um"], "+z.2f"), _or_dash(h["rms_um"], ".2f"), _or_dash(h["max_um"], ".2f"))
            ends = (_or_dash(h["tilt_um"], ".2f"), _or_dash(h["step_um"], "+z.2f"))
            pose = (f"{x['moved_mm']:.4f}", f"{x['turned_deg']:.4f}", f"{x['focal_percent']:+z.4f}")
            rows.append((x["direction"], *pose, *heights, *ends))
        table("", (*columns, "tilt across the field µm", "step of 10 mm µm"), rows)
    warn([*found["missing"], *found["notes"]])


def _view_changes(camera: dict[str, Any] | None, plane: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Camera and table as rows; what is not known is left out."""
    rows = []
    if camera is not None:
        if camera["focal_percent"]:
            rows.append(("camera: focal lengths x, y", "{:+z.4f}, {:+z.4f} %".format(*camera["focal_percent"])))
            rows.append(("camera: principal point x, y", "{:+z.3f}, {:+z.3f} px".format(*camera["centre_px"])))
        if camera["pixels_rms_px"] is not None:
            rows.append(("camera: the table moves in the image by", f"{camera['pixels_rms_px']:.3f} px rms, "
                         f"{camera['pixels_max_px']:.3f} px at most"))  # fmt: skip
            rows.append(("camera: the table's scale in the image", f"{camera['scale_ppm']:+z.1f} ppm"))
        if camera["note"]:
            rows.append(("camera", camera["note"]))
    if plane is not None:
        rows.append(("table: turned", f"{plane['tilt_deg']:.4f}°"))
        rows.append(("table: nearer to the camera in the middle by", f"{plane['height_um']:+z.1f} µm"))
    return rows


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


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
    if summary["projectors"]:
        places = [
            (x["direction"], _or_dash(x["distance_mm"], ".1f"), _or_dash(x["angle_deg"], ".1f"))
            for x in summary["projectors"]
        ]
        table("", ("projector direction", "distance from the table's middle mm", "angle to the viewing axis °"), places)
    condition = summary["condition_number"]
    flat, dark = summary["flat_field"], summary["dark"]
    facts = [
        ("condition number of L (limit 3)", "–" if condition is None else f"{condition:.2f}"),
        ("flat field", f"zones {flat['zones']}, {flat['light_model']} lights" if flat else "none"),
        ("dark", "yes" if dark else "none"),
        ("white balance of the pictures", _colour(summary["colour"])),
        *(
            (name.replace("_", " "), _fact(value))
            for name, value in summary["quality"].items()
            if name != "condition_number"
        ),
        ("content sha256", summary["content_sha256"]),
    ]
    table("", ("what", "value"), facts)
    warn(summary["warnings"])


def _colour(colour: dict[str, Any] | None) -> str:
    if colour is None:
        return "none"
    red, _, blue = colour["gains"]
    return f"red × {red:.3f}, blue × {blue:.3f}, black {max(colour['black']):.2%} of full scale, {colour['tone']}"


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k.replace('_', ' ')} {_fact(v)}" for k, v in value.items())
    if isinstance(value, list):
        return "; ".join(_fact(v) for v in value)
    return "–" if value is None else str(value)


def _position(position: list[float] | None) -> str:
    return "distant" if position is None else ", ".join(f"{x:.1f}" for x in position)
