"""``rakelight detect explain``: all reasons for the verdict on one part."""

from __future__ import annotations

from pathlib import Path

import click

from rakelight.cli.console import emit_json, json_option, progress, warn
from rakelight.cli.device_option import device_option


@click.command("explain")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.argument("sample")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Sheet to write: the part, its strangest place, and "
              "the good part nearest to it (PNG).")  # fmt: skip
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05, show_default=True,
              help="False-alarm level.")  # fmt: skip
@device_option
@json_option
def explain(
    model: Path, dataset: Path, sample: str, output: Path | None, alpha: float, device: str, as_json: bool
) -> None:
    """Say all there is to say about the verdict on SAMPLE of DATASET.

    Where its score stands among good parts and what its p-value can mean, what each modality sees and where, which good part is
    most like its strangest place, how it lies and how it was captured. Exit code 0, whatever the verdict.

    \b
    Example:
      rakelight detect explain models/knob parts knob_cap/NG/dent/S0003 -o why.png
    """
    from rakelight.dataset.images import write_png
    from rakelight.dataset.layout import SampleKey
    from rakelight.dataset.writer import Dataset
    from rakelight.detection import model_file
    from rakelight.errors import InputError
    from rakelight.pipeline.detect_explain import explain as explained
    from rakelight.pipeline.explain_sheet import explanation_sheet
    from rakelight.pipeline.explain_text import explanation_dict, explanation_lines, warnings

    if output is not None and output.suffix.lower() != ".png":
        raise InputError(f"{output}: the sheet is a PNG picture", hint="name it something.png", code="input.suffix")
    opened, detector = Dataset.open(dataset), model_file.load(model, device=device)
    with progress("explaining", quiet=as_json) as step:
        step(sample)
        found = explained(opened, detector, SampleKey.parse(sample), alpha=alpha, device=device)
        if output is not None:
            write_png(output, explanation_sheet(found))
    if as_json:
        emit_json(
            {"model": str(model), "alpha": alpha, "sheet": None if output is None else str(output)}
            | explanation_dict(found)
            | {"warnings": warnings(found)}
        )
        return
    warn(warnings(found))
    for line in explanation_lines(found):
        click.echo(line)
    if output is not None:
        click.echo(f"Sheet: {output}")
