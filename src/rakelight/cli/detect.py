"""``rakelight detect``: teach a detector from good parts, score parts, measure how good it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rakelight.cli.console import SuggestingGroup, emit_json, json_option, progress, table, warn
from rakelight.cli.detect_weights import weights

REJECTED = 6
METHOD_HELP = "d3m, m3dm, btf, pointmae, or patchcore- and modalities: patchcore-rgb+ps."


@click.group(cls=SuggestingGroup)
def detect() -> None:
    """Anomaly detection: taught from good parts alone, with every modality that the samples have.

    \b
    A first walk, with a data set `parts` of at least 10 good parts:
      rakelight detect train parts --category knob_cap -o models/knob
      rakelight detect score models/knob parts knob_cap/NG/scratch/S0001
      rakelight detect evaluate parts --category knob_cap
    """


detect.add_command(weights)


@detect.command("train")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--category", required=True, help="Product to teach.")
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Model folder to write.")
@click.option("--method", default="d3m", show_default=True, help=METHOD_HELP)
@click.option("--paper-features", is_flag=True, help="DINO ViT-B/8 and Point-MAE, whose weights you must have.")
@click.option(
    "--split", help="Split whose training part is taught.  [default: official if there is one, else all good parts]"
)
@click.option("--parts", type=click.IntRange(3), help="Teach only the first so many good parts.")
@click.option(
    "--no-turns", is_flag=True, help="The part's direction under the camera matters: align by shifting alone."
)
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05, show_default=True,
              help="False-alarm level to promise.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--overwrite", is_flag=True, help="Replace an existing model.")
@json_option
def train(
    dataset: Path,
    category: str,
    output: Path,
    method: str,
    paper_features: bool,
    split: str | None,
    parts: int | None,
    no_turns: bool,
    alpha: float,
    seed: int,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Teach a detector the good parts of a product.

    Ten parts are enough to begin; the command says what so many can promise. The same data, seed and machine give the same
    model.
    """
    from rakelight.dataset.writer import Dataset
    from rakelight.detection import conformal, model_file
    from rakelight.detection.methods import EMBEDDED, PAPER, make_method
    from rakelight.folders import check_replaceable
    from rakelight.pipeline.detect_teach import good_keys, teach_category

    check_replaceable(output, overwrite=overwrite, marker=model_file.DOCUMENT)
    opened = Dataset.open(dataset)
    chosen = make_method(method, PAPER if paper_features else EMBEDDED, seed=seed)
    keys = good_keys(opened, category, split, limit=parts)
    with progress("teaching", quiet=as_json) as step:
        detector, warnings = teach_category(
            opened, category, keys, chosen, turns=not no_turns, device=device,
            progress=lambda name, done, total: step(f"{name} {done}/{total}"),
        )  # fmt: skip
        step("writing")
        model_file.save(detector, output, overwrite=overwrite)
    promise = conformal.promise(len(detector.parts), alpha)
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
            }
        )
        return
    warn(warnings)
    click.echo(f"{output}: {chosen.name} knows {len(detector.parts)} good parts of {category}")
    for sentence in promise.sentences:
        click.echo(f"  {sentence}")


@detect.command("score")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.argument("samples", nargs=-1)
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05, show_default=True,
              help="False-alarm level.")  # fmt: skip
@click.option(
    "--pictures", type=click.Path(path_type=Path), help="Folder for heat maps over each modality, and a sheet a part."
)
@click.option(
    "--report", type=click.Path(path_type=Path), help="Page to write: every part with its heat and its reason."
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@json_option
@click.pass_context
def score(
    ctx: click.Context,
    model: Path,
    dataset: Path,
    samples: tuple[str, ...],
    alpha: float,
    pictures: Path | None,
    report: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Judge SAMPLES of DATASET (such as knob_cap/OK/S0007; all of the model's product by default), and say why.

    Colours of heat maps are fixed by the model's calibration: the same colour is as strange on every part. Exit code 6 if one
    is rejected.

    \b
    Example:
      rakelight detect score models/knob parts --pictures heat --report verdicts.html
    """
    from rakelight.dataset.layout import SampleKey
    from rakelight.dataset.opened import open_samples
    from rakelight.dataset.writer import Dataset
    from rakelight.detection import conformal, model_file
    from rakelight.files import write_text
    from rakelight.pipeline.detect_evaluate import tested
    from rakelight.pipeline.detect_report import detector_facts, report_page, report_row
    from rakelight.pipeline.detect_teach import edited_since
    from rakelight.pipeline.heat_scale import heat_scale
    from rakelight.pipeline.verdict_sheets import write_verdict_pictures
    from rakelight.pipeline.verdict_text import verdict_dict

    opened = Dataset.open(dataset)
    detector = model_file.load(model)
    keys = [SampleKey.parse(name) for name in samples] or [s.key for s in open_samples(opened.root, detector.category)]
    edited = edited_since(opened, detector) if detector.facts.get("dataset") == opened.info.name else []
    scale, category = heat_scale(detector), detector.category
    rows: list[dict[str, Any]] = []
    page = []
    with progress("scoring", quiet=as_json) as step:
        for one in tested(opened, detector, keys, alpha=alpha, device=device, progress=lambda _, d, n: step(d, n)):
            told = verdict_dict(one.part, one.verdict, detector.method, scale)
            if pictures is not None:
                stem = one.part.key.replace("/", "_")
                paths = write_verdict_pictures(pictures, stem, one.part, one.verdict, detector)
                told["pictures"] = [str(path) for path in paths]
            if report is not None:
                page.append(report_row(one.part, one.verdict, detector, scale))
            rows.append(told)
    if report is not None:
        promises = {category: conformal.promise(len(detector.parts), alpha)}
        about = {category: detector_facts(detector)}
        write_text(
            report, report_page(f"{category}: verdicts", page, scales={category: scale}, promises=promises, about=about)
        )
    if as_json:
        emit_json({"model": str(model), "alpha": alpha, "verdicts": rows, "edited": edited})
    else:
        warn(f"{text}; the model still remembers it as it was" for text in edited)
        for told, key in zip(rows, keys, strict=True):
            click.echo(f"{key}: {told['reason']}")
        if rows and rows[0]["threshold"] is None:
            warn(
                [
                    f"the model knows too few parts to reject any at {alpha:.1%} false alarms; see `rakelight detect train`"
                ]
            )
    if any(r["rejected"] for r in rows):
        ctx.exit(REJECTED)


@detect.command("evaluate")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--category", "categories", multiple=True, help="Only this product; may be given several times.")
@click.option("--method", "methods", multiple=True, help=f"{METHOD_HELP} May be given several times.  [default: d3m]")
@click.option("--split", help="Its training part teaches, its test part tests.  [default: official]")
@click.option("--parts", type=click.IntRange(3), help="Teach only the first so many good parts, test all others.")
@click.option("--paper-features", is_flag=True, help="DINO ViT-B/8 and Point-MAE, whose weights you must have.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@json_option
def evaluate(
    dataset: Path,
    categories: tuple[str, ...],
    methods: tuple[str, ...],
    split: str | None,
    parts: int | None,
    paper_features: bool,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Teach and test methods on the products of DATASET: I-AUROC, P-AUROC on the part, AUPRO, with intervals over parts.

    \b
    The layout of the paper's tables: a row a product, a pair of columns a method.
      rakelight detect evaluate parts --method patchcore-rgb --method d3m
    """
    from rakelight.dataset.writer import Dataset
    from rakelight.detection.methods import EMBEDDED, PAPER, make_method
    from rakelight.pipeline.detect_compare import compare

    opened = Dataset.open(dataset)
    chosen = [make_method(m, PAPER if paper_features else EMBEDDED, seed=seed) for m in methods or ("d3m",)]
    with progress("evaluating", quiet=as_json) as step:
        found = compare(
            opened, categories or opened.categories(), chosen, split=split, parts=parts, device=device,
            progress=lambda name, done, total: step(f"{name} {done}/{total}"),
        )  # fmt: skip
    if as_json:
        emit_json({"dataset": str(dataset)} | found.to_dict())
        return
    for figure, title in (
        ("i_auroc", "I-AUROC"),
        ("p_auroc_inside", "P-AUROC inside the part"),
        ("aupro_0.3", "AUPRO@0.3"),
    ):
        table(title, ("product", *(m.name for m in chosen)), found.rows(figure))
    warn(found.notes)


@detect.command("update")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.argument("samples", nargs=-1)
@click.option("--forget", multiple=True, metavar="KEY", help="Take a part out of the model again.")
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Model folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace an existing model, such as MODEL itself.")
@json_option
def update(
    model: Path,
    dataset: Path,
    samples: tuple[str, ...],
    forget: tuple[str, ...],
    output: Path,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Teach a model more good parts (SAMPLES of DATASET), or let it forget some, without teaching it anew."""
    from rakelight.dataset.layout import SampleKey
    from rakelight.dataset.opened import OpenSample
    from rakelight.dataset.writer import Dataset
    from rakelight.detection import model_file
    from rakelight.detection.detector import TaughtPart
    from rakelight.errors import DatasetError
    from rakelight.folders import check_replaceable
    from rakelight.pipeline.detect_teach import load_for, sample_hash

    check_replaceable(output, overwrite=overwrite, marker=model_file.DOCUMENT)
    opened, detector = Dataset.open(dataset), model_file.load(model)
    keys = [SampleKey.parse(name) for name in samples]
    bad = [key for key in keys if not key.is_ok]
    if bad:
        raise DatasetError(
            f"{bad[0]} is labelled {bad[0].label}; only good parts are taught",
            hint="relabel it first if it is good: rakelight dataset relabel",
            code="detect.not_good",
        )
    with progress("updating", quiet=as_json) as step:
        for key in forget:
            detector = detector.forget(key)
        opened_samples = [OpenSample(opened.root, key) for key in keys]
        parts = [load_for(detector, sample) for sample in opened_samples]
        taught = [TaughtPart(-1, str(s.key), sample_hash(s)) for s in opened_samples]
        detector = detector.update(parts, taught, progress=lambda name, d, n: step(f"{name} {d}/{n}"))
        model_file.save(detector, output, overwrite=overwrite)
    facts = {"model": str(output), "parts": len(detector.parts), "added": list(samples), "forgotten": list(forget)}
    if as_json:
        emit_json(facts)
    else:
        click.echo(f"{output}: knows {len(detector.parts)} good parts ({len(keys)} more, {len(forget)} forgotten)")
