"""``rakelight detect next``: which good part to teach a model next."""

from __future__ import annotations

from pathlib import Path

import click

from rakelight.cli.console import emit_json, json_option, progress, table, warn


@click.command("next")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.argument("samples", nargs=-1)
@click.option("--count", "-n", type=click.IntRange(1), default=5, show_default=True, help="So many parts.")
@json_option
def next_(model: Path, dataset: Path, samples: tuple[str, ...], count: int, as_json: bool) -> None:
    """Say which good parts of DATASET (or which of SAMPLES) would teach MODEL most, the best first.

    The part that is farthest from everything the model knows comes first, then the one farthest from that, too. A part that is
    very far may be a defective one under a wrong label: it is named, look at it before it is taught.

    \b
    Example:
      rakelight detect next models/knob parts --count 3
    """
    from rakelight.dataset.layout import SampleKey
    from rakelight.dataset.writer import Dataset
    from rakelight.detection import model_file
    from rakelight.pipeline.detect_next import next_parts

    opened, detector = Dataset.open(dataset), model_file.load(model)
    keys = [SampleKey.parse(name) for name in samples]
    with progress("looking", quiet=as_json) as step:
        found, among = next_parts(opened, detector, keys, count=count, progress=step)
    sure = [one.key for one in found if not one.doubtful]
    command = f"rakelight detect update {model} {dataset} {' '.join(sure)} -o {model} --overwrite" if sure else None
    if as_json:
        emit_json({"model": str(model), "candidates": among, "next": [vars(one) for one in found], "command": command})
        return
    table(
        f"Best of {among} good parts not taught",
        ("part", "adds (robust SD)", "score", "p"),
        [(one.key, f"{one.adds:.1f}", f"{one.score:.1f}", f"{one.p_value:.2g}") for one in found],
    )
    warn(
        f"{one.key} is so far from all good parts (score {one.score:.1f}) that it may be defective: look at it first, with "
        f"`rakelight detect explain {model} {dataset} {one.key} -o look.png`"
        for one in found
        if one.doubtful
    )
    if command:
        click.echo(f"Teach {'it' if len(sure) == 1 else 'them'} with\n  {command}")
    else:
        click.echo("Look at these first; teach those that are good with `rakelight detect update`.")
