"""``rakelight patterns``: look at pattern sets, and write their images for a projector."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rakelight.cli.console import SuggestingGroup, emit_json, json_option, progress

if TYPE_CHECKING:
    from rakelight.reconstruction.patterns import PatternSet

PLAN = "patterns.json"
GRAY, MULTI = "gray", "multi-frequency"


def _numbers(kind: type[int] | type[float]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Reads numbers with commas between, ``16,132,1200``; of options given several times, all of them in a row."""

    def read(_ctx: click.Context, param: click.Parameter, value: Any) -> tuple[float, ...]:
        texts = [text for several in ((value,) if isinstance(value, str) else value) for text in several.split(",")]
        try:
            return tuple(kind(text) for text in texts)
        except ValueError:
            whole = "whole numbers" if kind is int else "numbers"
            told = f"{','.join(texts)!r} is not made of {whole} with commas between, for example 8,4,4"
            raise click.BadParameter(told, param=param) from None

    return read


def _size(_ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    """Reads columns × rows, ``912x1140``."""
    found = re.fullmatch(r"(\d{1,6})[x×](\d{1,6})", value.strip().lower(), re.ASCII)
    if not found:
        raise click.BadParameter(f"{value!r} is not COLUMNSxROWS, for example 912x1140", param=param)
    return int(found[1]), int(found[2])


def _set_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that describe a pattern set, the same for all commands."""
    options = (
        click.option(
            "--size",
            callback=_size,
            default="912x1140",
            show_default=True,
            metavar="WxH",
            help="Columns x rows of the projector.",
        ),
        click.option(
            "--code",
            type=click.Choice([GRAY, MULTI]),
            default=GRAY,
            show_default=True,
            help="What tells the periods apart: Gray code, or phase shifts of further periods.",
        ),
        click.option(
            "--steps",
            callback=_numbers(int),
            default="8",
            show_default=True,
            metavar="N[,N…]",
            help="Images of a phase shift, 3 to 64; for multi-frequency also one number a period.",
        ),
        click.option(
            "--period",
            "periods",
            callback=_numbers(float),
            multiple=True,
            metavar="PX[,PX…]",
            help="Period in projector px; several for multi-frequency, finest first (a list, or the option again). "
            "[default: 16, or 16,132,1200]",
        ),
        click.option(
            "--axis",
            type=click.Choice(["column", "row", "both"]),
            default="column",
            show_default=True,
            help="Which coordinate is coded: column is enough for depth, calibration needs both.",
        ),
        click.option("--no-complementary", is_flag=True, help="Leave out the half-period bit of the Gray code."),
        click.option("--inverse", is_flag=True, help="Show every Gray image also inverted."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(cls=SuggestingGroup)
def patterns() -> None:
    """Pattern sets: the stripes that a projector shows, so that each camera pixel learns which column lit it.

    \b
    Look at the default set, then write its images for a projector:
      rakelight patterns preview -o patterns.png
      rakelight patterns export --axis both -o patterns
    """


@patterns.command("preview")
@_set_options
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="PNG file to write.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@json_option
def preview(output: Path, overwrite: bool, as_json: bool, **choices: Any) -> None:
    """Draw all images of a set, small, and their profiles along the first columns.

    \b
    For example, 4-step phase shifts of three periods, told apart by each other:
      rakelight patterns preview --code multi-frequency --steps 4 --period 16,132,1200 -o multi.png
    """
    from rakelight.dataset import images
    from rakelight.errors import InputError, StorageError
    from rakelight.pipeline.pattern_sheet import pattern_sheet

    chosen = _pattern_set(**choices)
    if output.suffix.lower() != ".png":
        raise InputError(f"{output} is no PNG file", hint="give a name that ends in .png", code="patterns.output")
    if output.exists() and not overwrite:
        hint = "choose another name or pass --overwrite"
        raise StorageError(f"{output} exists already", hint=hint, code="storage.exists")
    images.write_png(output, pattern_sheet(chosen))
    _tell(chosen, output, as_json, f"look at {output}")


@patterns.command("export")
@_set_options
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier export in the output folder.")
@json_option
def export(output: Path, overwrite: bool, as_json: bool, **choices: Any) -> None:
    """Write one 8-bit PNG per image, named in capture order, and patterns.json, which describes the set.

    Pixel values are linear light: show them without gamma. The folder appears when everything is in it.

    \b
    For example, columns and rows for a projector of 1280x720 px:
      rakelight patterns export --size 1280x720 --axis both -o patterns
    """
    from rakelight import files, folders
    from rakelight.dataset import images

    chosen = _pattern_set(**choices)
    with (
        folders.staged_folder(output, overwrite=overwrite, marker=PLAN) as staging,
        progress("exporting", quiet=as_json) as step,
    ):
        for number, (name, pattern) in enumerate(zip(chosen.names, chosen.patterns, strict=True), 1):
            images.write_png(staging / f"{name}.png", pattern.image(chosen.width, chosen.height))
            step(number, len(chosen.patterns))
        files.write_json(staging / PLAN, chosen.to_plain())
    _tell(chosen, output, as_json, f"{len(chosen.patterns)} PNG and {PLAN} in {output}")


def _pattern_set(
    size: tuple[int, int],
    code: str,
    steps: tuple[int, ...],
    periods: tuple[float, ...],
    axis: str,
    no_complementary: bool,
    inverse: bool,
) -> PatternSet:
    """The set that the options describe."""
    from rakelight.reconstruction.patterns import AXES, Code, GrayPhaseShift, MultiFrequency, PatternSet

    made: Code
    if code == GRAY:
        if len(steps) != 1 or len(periods) > 1 or (periods and not periods[0].is_integer()):
            raise click.UsageError(
                "a Gray code takes one --steps and one --period, both whole numbers; "
                f"for several periods choose --code {MULTI}"
            )
        period_px = int(periods[0]) if periods else GrayPhaseShift.period_px
        made = GrayPhaseShift(steps[0], period_px, not no_complementary, inverse)
    else:
        if no_complementary or inverse:
            raise click.UsageError(f"--no-complementary and --inverse belong to --code {GRAY}")
        number = steps[0] if len(steps) == 1 else steps
        made = MultiFrequency(number, periods or MultiFrequency.periods_px)
    axes = AXES if axis == "both" else tuple(a for a in AXES if a == axis)
    return PatternSet(*size, made, axes)


def _tell(chosen: PatternSet, output: Path, as_json: bool, done: str) -> None:
    if as_json:
        emit_json(
            {
                "output": str(output),
                "description": chosen.description(),
                "images": list(chosen.names),
                "pattern_set": chosen.to_plain(),
            }
        )
        return
    click.echo(chosen.description())
    click.echo(done)
