"""``rakelight detect show``: what a model is."""

from __future__ import annotations

from pathlib import Path

import click

from rakelight.cli.console import emit_json, json_option, warn


@click.command("show")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--parts", "list_parts", is_flag=True, help="List the parts it was taught.")
@json_option
def show(model: Path, list_parts: bool, as_json: bool) -> None:
    """Tell what MODEL was taught, what it is made of, and what its thresholds promise.

    \b
    Example:
      rakelight detect show models/knob --parts
    """
    from rakelight.detection import model_file
    from rakelight.pipeline.detect_show import model_dict, model_lines

    detector = model_file.load(model)
    if as_json:
        emit_json({"model": str(model)} | model_dict(detector))
        return
    for line in model_lines(detector):
        click.echo(line)
    if list_parts:
        click.echo("Parts")
        for part in detector.parts:
            click.echo(f"  {part.key}")
    warn(detector.facts.get("warnings", ()))
