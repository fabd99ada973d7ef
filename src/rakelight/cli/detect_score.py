"""``rakelight detect score``: verdicts on parts of a data set, with heat maps and reasons."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from rakelight.cli.console import emit_json, json_option, progress, warn
from rakelight.cli.device_option import device_option

REJECTED, SOME_FAILED = 6, 10


@click.command("score")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.argument("samples", nargs=-1)
@click.option(
    "--label", "labels", multiple=True, help="Only parts with this label, such as OK; may be given several times."
)
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05, show_default=True,
              help="False-alarm level.")  # fmt: skip
@click.option(
    "--pictures", type=click.Path(path_type=Path), help="Folder for heat maps over each modality, and a sheet a part."
)
@click.option("--sheet", type=click.Path(path_type=Path), help="Picture (PNG) of all parts, the strangest first.")
@click.option(
    "--report", type=click.Path(path_type=Path), help="Page to write: every part with its heat and its reason."
)
@device_option
@json_option
@click.pass_context
def score(
    ctx: click.Context,
    model: Path,
    dataset: Path,
    samples: tuple[str, ...],
    labels: tuple[str, ...],
    alpha: float,
    pictures: Path | None,
    sheet: Path | None,
    report: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Judge SAMPLES of DATASET (such as knob_cap/OK/S0007; all of the model's product by default), and say why.

    Colours of heat maps are fixed by the model's calibration: the same colour is as strange on every part. Exit code 6 if a part
    is rejected; else 10 if one of several could not be judged.

    \b
    Examples:
      rakelight detect score models/knob parts --report verdicts.html
      rakelight detect score models/knob parts --label OK --sheet good.png
    """
    from rakelight.dataset.images import write_png
    from rakelight.dataset.writer import Dataset
    from rakelight.detection import conformal, model_file
    from rakelight.errors import InputError
    from rakelight.files import write_text
    from rakelight.pipeline.detect_report import TAUGHT_LIE_NEAR, detector_facts, report_page, report_row
    from rakelight.pipeline.detect_score import SheetOfParts, judged, keys_of
    from rakelight.pipeline.detect_teach import edited_since
    from rakelight.pipeline.heat_scale import heat_scale
    from rakelight.pipeline.levels import too_few
    from rakelight.pipeline.verdict_sheets import write_verdict_pictures
    from rakelight.pipeline.verdict_text import verdict_dict

    if sheet is not None and sheet.suffix.lower() != ".png":
        raise InputError(f"{sheet}: the sheet is a PNG picture", hint="name it something.png", code="input.suffix")
    opened, detector = Dataset.open(dataset), model_file.load(model, device=device)
    category = detector.category
    keys = keys_of(opened, category, samples, labels)
    edited = edited_since(opened, detector) if detector.facts.get("dataset") == opened.info.name else []
    scale = heat_scale(detector)
    rows: list[dict[str, Any]] = []  # for JSON only: text goes out as it comes
    page: list[Any] = []
    failed: list[dict[str, Any]] = []
    cards = SheetOfParts(scale)
    rejected = known = 0
    out = sys.stdout  # the real one: a progress line takes what is printed for its own terminal
    if not as_json:
        warn(f"{text}; the model still remembers it as it was" for text in edited)
    with progress("scoring", quiet=as_json or out.isatty()) as step:
        for one in judged(opened, detector, keys, alpha=alpha, device=device, progress=step):
            if one.part is None or one.verdict is None:
                assert one.error is not None
                failed.append({"key": str(one.key), "error": one.error.to_dict()})
                continue
            told = verdict_dict(one.part, one.verdict, detector.method, scale) | {"taught": one.taught}
            rejected, known = rejected + told["rejected"], known + told["taught"]
            if pictures is not None:
                stem = one.part.key.replace("/", "_")
                paths = write_verdict_pictures(pictures, stem, one.part, one.verdict, detector)
                told["pictures"] = [str(path) for path in paths]
            if report is not None:
                page.append(report_row(one.part, one.verdict, detector, scale, taught=one.taught))
            if sheet is not None:
                cards.add(one.part, one.verdict)
            if as_json:
                rows.append(told)
            else:
                click.echo(f"{one.key}: {told['reason']}" + " [taught]" * told["taught"], file=out)
    if report is not None and page:
        promises = {category: conformal.promise(detector.calibration_parts, alpha)}
        about = {category: detector_facts(detector)}
        write_text(
            report, report_page(f"{category}: verdicts", page, scales={category: scale}, promises=promises, about=about)
        )
    if sheet is not None and cards.seen:
        write_png(sheet, cards.draw(f"{category}: {rejected} of {cards.seen} parts rejected"))
    least = conformal.needed_parts(alpha)
    if as_json:
        emit_json({"model": str(model), "alpha": alpha, "verdicts": rows, "failed": failed, "edited": edited})
    else:
        for passed in failed:
            hint = passed["error"]["hint"]
            warn(
                [
                    f"{passed['key']} could not be judged: {passed['error']['message']}"
                    + (f"\n  → {hint}" if hint else "")
                ]
            )
        if known:
            warn([f"{known} of the parts were taught ([taught]): {TAUGHT_LIE_NEAR}"])
        if detector.calibration_parts < least:
            warn([
                f"{too_few(detector.calibration_parts, alpha)}: raise --alpha, or see `rakelight detect next {model} {dataset}`"
            ])  # fmt: skip
    if rejected:
        ctx.exit(REJECTED)
    if failed:
        ctx.exit(SOME_FAILED)
