"""``rakelight detect train`` and ``update``: a detector from good parts, and more good parts for it."""

from __future__ import annotations

from pathlib import Path

import click

from rakelight.cli.console import emit_json, json_option, progress, warn
from rakelight.cli.device_option import device_option

METHOD_HELP = "d3m, m3dm, btf, pointmae, or patchcore- and modalities: patchcore-rgb+ps."


@click.command("train")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--category", required=True, help="Product to teach.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Model folder to write.")
@click.option("--method", default="d3m", show_default=True, help=METHOD_HELP)
@click.option("--paper-features", is_flag=True, help="DINO ViT-B/8 and Point-MAE, whose weights you must have.")
@click.option(
    "--split", help="Split whose training part is taught.  [default: official if there is one, else all good parts]"
)
@click.option("--parts", type=click.IntRange(3), help="Teach only the first so many good parts.")
@click.option(
    "--no-turns", is_flag=True, help="The part's direction under the camera matters: align by shifting alone."
)
@click.option("--ignore", type=click.Path(path_type=Path), help="Picture of what is never judged, white on black, drawn on "
              "that of --show-frame or --ignore-on.")  # fmt: skip
@click.option("--ignore-on", metavar="SAMPLE", help="The sample on whose RGBL05 picture --ignore is drawn.")
@click.option("--show-frame", type=click.Path(path_type=Path), help="Write the picture to draw --ignore on (PNG), and go no "
              "further.")  # fmt: skip
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05, show_default=True,
              help="False-alarm level to promise.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@device_option
@click.option("--overwrite", is_flag=True, help="Replace an existing model.")
@json_option
def train(
    dataset: Path,
    category: str,
    output: Path | None,
    method: str,
    paper_features: bool,
    split: str | None,
    parts: int | None,
    no_turns: bool,
    ignore: Path | None,
    ignore_on: str | None,
    show_frame: Path | None,
    alpha: float,
    seed: int,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Teach a detector the good parts of a product.

    Ten parts are enough to begin; the command says what so many can promise, and how to go on. The same data, seed and machine
    give the same model.

    \b
    Examples:
      rakelight detect train parts --category knob_cap -o models/knob
      rakelight detect train parts --category knob_cap --show-frame frame.png      # paint a serial number white, the rest black
      rakelight detect train parts --category knob_cap --ignore mask.png -o models/knob
    """
    from rakelight.dataset.images import write_png
    from rakelight.dataset.layout import SampleKey
    from rakelight.dataset.writer import Dataset
    from rakelight.detection import conformal, model_file
    from rakelight.detection.methods import EMBEDDED, PAPER, make_method
    from rakelight.folders import check_replaceable
    from rakelight.pipeline.detect_teach import good_keys, next_steps, teach_category, working_picture
    from rakelight.pipeline.ignore_drawing import IgnoreDrawing

    if ignore_on and ignore is None:
        raise click.UsageError("--ignore-on says where --ignore was drawn: give that, too")
    if show_frame is not None and show_frame.suffix.lower() != ".png":
        raise click.UsageError(f"--show-frame writes a PNG picture: {show_frame} must end in .png")
    if output is None and show_frame is None:
        raise click.UsageError("missing option --output / -o: the model folder to write")
    if output is not None and show_frame is None:
        check_replaceable(output, overwrite=overwrite, marker=model_file.DOCUMENT)
    opened = Dataset.open(dataset)
    chosen = make_method(method, PAPER if paper_features else EMBEDDED, seed=seed)
    keys = good_keys(opened, category, split, limit=parts)
    if show_frame is not None:
        picture, key = working_picture(opened, keys, chosen, turns=not no_turns)
        write_png(show_frame, picture)
        if as_json:
            emit_json({"frame": str(show_frame), "drawn_from": key})
        else:
            click.echo(f"{show_frame}: {key} in the working frame")
            click.echo(
                "Paint what is to be ignored white, all else black; then teach the same parts with --ignore FILE"
            )
        return
    assert output is not None
    drawing = None if ignore is None else IgnoreDrawing(ignore, SampleKey.parse(ignore_on) if ignore_on else None)
    short = [] if parts is None or len(keys) >= parts else [_short(parts, len(keys), category, split)]
    with progress("teaching", quiet=as_json) as step:
        detector, warnings = teach_category(
            opened, category, keys, chosen, turns=not no_turns, device=device, ignore=drawing,
            progress=lambda name, done, total: step(f"{name} {done}/{total}"),
        )  # fmt: skip
        step("writing")
        model_file.save(detector, output, overwrite=overwrite)
    warnings = [*short, *warnings]
    promise = conformal.promise(detector.calibration_parts, alpha)
    steps = next_steps(opened, detector, promise, output)
    if as_json:
        emit_json(
            {
                "model": str(output),
                "category": category,
                "method": chosen.name,
                "parts": [part.key for part in detector.parts],
                "banks": {name: len(bank) for name, bank in detector.banks.items()},
                "facts": dict(detector.facts),
                "promise": promise.to_dict(),
                "warnings": warnings,
                "next_steps": steps,
            }
        )
        return
    warn(warnings)
    click.echo(f"{output}: {chosen.name} knows {len(detector.parts)} good parts of {category}")
    for sentence in promise.sentences:
        click.echo(f"  {sentence}")
    click.echo("Go on:")
    for line in steps:
        click.echo(f"  {line}")


def _short(asked: int, there: int, category: str, split: str | None) -> str:
    of = f" in the training part of split {split}" if split else ""
    return f"--parts {asked}: there are only {there} good parts of {category}{of}; all of them were taught"


@click.command("update")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.argument("samples", nargs=-1)
@click.option("--forget", multiple=True, metavar="KEY", help="Take a part out of the model again.")
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Model folder to write.")
@device_option
@click.option("--overwrite", is_flag=True, help="Replace an existing model, such as MODEL itself.")
@json_option
def update(
    model: Path,
    dataset: Path,
    samples: tuple[str, ...],
    forget: tuple[str, ...],
    output: Path,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Teach a model more good parts (SAMPLES of DATASET), or let it forget some, without teaching it anew.

    \b
    Examples:
      rakelight detect update models/knob parts knob_cap/OK/S0031 -o models/knob --overwrite
      rakelight detect update models/knob parts --forget knob_cap/OK/S0007 -o models/knob2
    """
    from rakelight.dataset.layout import SampleKey
    from rakelight.dataset.writer import Dataset
    from rakelight.detection import model_file
    from rakelight.errors import DatasetError
    from rakelight.folders import check_replaceable
    from rakelight.pipeline.detect_names import named_sample
    from rakelight.pipeline.detect_teach import check_good, load_for, taught_part

    check_replaceable(output, overwrite=overwrite, marker=model_file.DOCUMENT)
    opened, detector = Dataset.open(dataset), model_file.load(model, device=device)
    keys = list(dict.fromkeys(SampleKey.parse(name) for name in samples))
    check_good(keys)
    others = [key for key in keys if detector.category and key.category != detector.category]
    if others:
        raise DatasetError(
            f"{others[0]} is a {others[0].category}; the model knows {detector.category}",
            hint="one model knows one product: teach another with `rakelight detect train`",
            code="detect.other_category",
        )
    if not keys and not forget:
        raise click.UsageError("nothing to do: name SAMPLES to teach, or parts to --forget")
    with progress("updating", quiet=as_json) as step:
        for key in forget:
            detector = detector.forget(key)
        opened_samples = [named_sample(opened, key) for key in keys]
        parts = [load_for(detector, sample) for sample in opened_samples]
        taught = [taught_part(s, part) for s, part in zip(opened_samples, parts, strict=True)]
        detector = detector.update(parts, taught, progress=lambda name, d, n: step(f"{name} {d}/{n}"))
        model_file.save(detector, output, overwrite=overwrite)
    facts = {
        "model": str(output),
        "parts": len(detector.parts),
        "added": [str(key) for key in keys],
        "forgotten": list(forget),
    }
    if as_json:
        emit_json(facts)
    else:
        click.echo(f"{output}: knows {len(detector.parts)} good parts ({len(keys)} more, {len(forget)} forgotten)")
