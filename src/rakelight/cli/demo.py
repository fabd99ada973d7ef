"""``rakelight demo``: real photographs and a simulated part through the whole chain."""

from __future__ import annotations

import time
from pathlib import Path

import click

from rakelight.cli.console import emit_json, json_option, progress, warn


@click.command()
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Folder to write; an earlier demo there is replaced.",
)
@json_option
def demo(output: Path, as_json: bool) -> None:
    """Take a real recording through the whole chain and say where the pictures are.

    Twelve photographs of a figurine and of two chrome spheres (PSBox, MIT licence, in the program's examples) become
    recordings, a light calibration, normals with the pseudo-3D set, and a sample in a Real-IAD D³ data set.

    Then a simulated part with a scratch is captured on a simulated rig: camera, lights and pattern projectors are
    simulated, the drivers and wires between are those of real ones. It goes the same way, and its contact sheet shows how
    far the result is from what is known of it. The simulated camera needs a C compiler once; without one the part is
    rendered without a rig.
    """
    from rakelight.pipeline.demo import run_demo

    start = time.perf_counter()
    with progress("demo", quiet=as_json) as step:
        result = run_demo(output, progress=step)
    seconds = time.perf_counter() - start
    if as_json:
        emit_json(
            {
                "seconds": round(seconds, 2),
                "paths": {name.replace(" ", "_"): str(path) for name, path in result.paths.items()},
                "figures": result.figures,
                "warnings": [*result.warnings, *([result.without_rig] if result.without_rig else [])],
            }
        )
        return
    for text in result.story:
        click.echo(text)
    click.echo("")
    for name, path in result.paths.items():
        click.echo(f"  {name:<14} {path}")
    if result.without_rig:
        click.echo("\nThe simulated part was not captured on the simulated rig:", err=True)
        warn([result.without_rig])
    if result.warnings:
        click.echo("\nThese photographs were not made for measuring, and the program says so:", err=True)
        warn(result.warnings)
    click.echo(f"\nThe whole chain took {seconds:.1f} s. Look at {result.paths['contact sheet']}")
    click.echo(f"and at {result.paths['simulated part']}")
