"""``rakelight dataset label``: what people draw on the samples, in and out of drawing programs, and its review."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rakelight.cli.console import SuggestingGroup, emit_json, json_option, progress, table, warn

if TYPE_CHECKING:
    from rakelight.dataset.drawings import ReadOptions
    from rakelight.dataset.labelling import Outcome
    from rakelight.dataset.opened import OpenSample

DAMAGED = 7
_BAD = ("refused", "no sample")
_CHANGED = ("imported", "reviewed")  # what a dry run only would do
_FORMATS = click.Choice(["auto", "labelme", "coco", "cvat", "png"])


@click.group("label", cls=SuggestingGroup)
def label() -> None:
    """Draw defects, review them, count them: masks, classes and points follow from what is drawn.

    Everything is drawn on RGBL05 at full size. A pixel belongs to a region if its centre lies inside; a later region covers
    an earlier one. A region named `ignore` counts neither as defective nor as good.

    \b
    The round with LabelMe:
      rakelight dataset label export my-set -o drawing --format labelme
      labelme drawing --nodata
      rakelight dataset label import my-set drawing --by anna
      rakelight dataset label show my-set knob_cap/NG/scratch/S0001 --overlay look.png
      rakelight dataset label review my-set knob_cap/NG/scratch/S0001 --state approved --by ben

    \b
    The round with CVAT:
      rakelight dataset label export my-set -o drawing --format coco
      in CVAT: a task with drawing/images, the defects as labels; upload annotations, "COCO 1.0"
      draw; export "COCO 1.0" (or "Segmentation mask 1.1"), unpack it
      rakelight dataset label import my-set unpacked --by anna

    Programs may rename nothing: samples are found by the names of their pictures. An import done twice changes nothing.
    """


def _read_options(line_width: float, rename: tuple[str, ...], defect: str | None) -> ReadOptions:
    from rakelight.dataset.drawings import ReadOptions

    names = dict(pair.partition("=")[::2] for pair in rename)
    if any(not to for to in names.values()):
        raise click.BadParameter("needed: NAME-IN-FILE=defect", param_hint="--rename")
    return ReadOptions(line_width, names, defect or "")


def _read_arguments(command: Any) -> Any:
    """The options with which files are read, for import and compare alike."""
    for decorator in (
        click.option("--defect", help="What is drawn in bare masks; default: the label of the sample."),
        click.option("--rename", multiple=True, metavar="OLD=NEW", help="Name in the files = name of the defect."),
        click.option(
            "--line-width",
            type=click.FloatRange(min=0, min_open=True, max=1000),
            default=10.0,
            show_default=True,
            help="Width in pixels of lines whose file does not state it.",
        ),
        click.option("--format", "form", type=_FORMATS, default="auto", show_default=True, help="Kind of the files."),
        click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path)),
        click.argument("folder", metavar="DATASET", type=click.Path(path_type=Path)),
    ):
        command = decorator(command)
    return command


@label.command("import")
@_read_arguments
@click.option("--by", default="", help="Who drew it; default: as the files say.")
@click.option("--relabel", is_flag=True, help="Give samples the label of what is drawn on them, also OK ones.")
@click.option("--dry-run", is_flag=True, help="Say what would happen; write nothing.")
@json_option
@click.pass_context
def import_(
    ctx: click.Context,
    folder: Path,
    files: tuple[Path, ...],
    form: str,
    line_width: float,
    rename: tuple[str, ...],
    defect: str | None,
    by: str,
    relabel: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take drawings from FILES or folders into the data set: LabelMe, COCO, CVAT masks, or PNG masks of 0 and 255.

    Each sample changes whole or not at all, and what it had before stays in the history of its annotation. What is drawn on
    an OK sample is kept as a proposal, without a mask, unless --relabel. Exit code 7 if a file cannot be used or belongs to
    no sample; the others are imported all the same. It may be stopped (Ctrl-C) and started again.
    """
    from rakelight.dataset.drawing_files import read_drawings
    from rakelight.dataset.labelling import import_drawings
    from rakelight.dataset.writer import Dataset

    drawings = read_drawings(files, form, _read_options(line_width, rename, defect))  # type: ignore[arg-type]
    outcomes = import_drawings(Dataset.open(folder), drawings, by=by, relabel=relabel, dry_run=dry_run)
    _tell(ctx, outcomes, "importing", as_json, "would be " if dry_run else "")


@label.command("review")
@click.argument("folder", metavar="DATASET", type=click.Path(path_type=Path))
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@click.option(
    "--state", required=True, type=click.Choice(["draft", "proposed", "approved", "rejected"]), help="Your decision."
)
@click.option("--by", default="", help="Who decides.")
@click.option("--note", default="", help="Why, in a sentence.")
@click.option("--relabel", is_flag=True, help="Approved: also give the sample the label of what is drawn on it.")
@json_option
@click.pass_context
def review(
    ctx: click.Context,
    folder: Path,
    keys: tuple[str, ...],
    state: str,
    by: str,
    note: str,
    relabel: bool,
    as_json: bool,
) -> None:
    """Decide about the annotations of samples, each named like knob_cap/NG/scratch/S0001.

    Only proposed and approved regions are a sample's mask; a draft or rejected ones are kept, but no loader sees them. Defects
    on an OK sample can only be approved together with --relabel.
    """
    from rakelight.dataset.labelling import review_samples
    from rakelight.dataset.layout import SampleKey
    from rakelight.dataset.writer import Dataset

    named = [SampleKey.parse(key) for key in keys]
    outcomes = review_samples(Dataset.open(folder), named, state, by=by, note=note, relabel=relabel)  # type: ignore[arg-type]
    _tell(ctx, outcomes, "reviewing", as_json, "")


def _tell(ctx: click.Context, outcomes: Any, title: str, as_json: bool, before: str) -> None:
    """Print outcomes as they come, and a count; keep what is done for --json also when it then fails."""
    listed: list[dict[str, Any]] = []
    ctx.obj |= {"outcomes": listed}
    counts: Counter[str] = Counter()
    with progress(title, quiet=as_json) as step:
        for one in outcomes:
            counts[one.status] += 1
            step(sum(counts.values()))
            listed.append(
                {
                    "source": one.source,
                    "status": one.status,
                    "sample": one.sample or None,
                    "was": one.was or None,
                    "defect_px": one.defect_px,
                    "note": one.note,
                    "hint": one.hint,
                }
            )
            if not as_json:
                _print_outcome(one, before)
    if as_json:
        emit_json(ctx.obj)
    else:
        told = (f"{n} {before if status in _CHANGED else ''}{status}" for status, n in sorted(counts.items()))
        click.echo(", ".join(told) or "no files found")
    if any(counts[status] for status in _BAD):
        ctx.exit(DAMAGED)


def _print_outcome(one: Outcome, before: str) -> None:
    if one.status in _BAD:
        warn([f"{one.note if one.status == 'refused' else f'{one.source}: {one.note}'}" + _arrow(one.hint)])
        return
    drawn = ", ".join(f"{name} {px} px" for name, px in (one.defect_px or {}).items())
    status = before + one.status if one.status in _CHANGED else one.status
    moved = f" (was {one.was})" if one.was else ""
    click.echo(
        f"{one.sample}{moved}: {status}" + (f"; {drawn}" if drawn else "") + (f"; {one.note}" if one.note else "")
    )


def _arrow(hint: str) -> str:
    return f"\n  → {hint}" if hint else ""


@label.command("export")
@click.argument("folder", metavar="DATASET", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to write into.")
@click.option(
    "--format",
    "form",
    required=True,
    type=click.Choice(["labelme", "coco", "png", "points"]),
    help="labelme: a JSON beside each picture; coco: one JSON, also for CVAT; png: masks; points: x y z label.",
)
@click.option("--category", help="Only this product.")
@click.option("--label", "only", help="Only samples labelled so: OK, or a defect.")
@click.option("--reference", is_flag=True, help="LabelMe: name the data set's pictures instead of copying them.")
@click.option(
    "--masks",
    type=click.Choice(["polygon", "mask"]),
    default="polygon",
    show_default=True,
    help="LabelMe: regions drawn pixel by pixel go out as outlines, which can be edited, or as masks.",
)
@click.option("--overwrite", is_flag=True, help="Replace files in the folder that differ.")
@json_option
@click.pass_context
def export(
    ctx: click.Context,
    folder: Path,
    output: Path,
    form: str,
    category: str | None,
    only: str | None,
    reference: bool,
    masks: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Hand out pictures with what is drawn on them so far, for a drawing program, or points with their labels.

    An outline along the edges of pixels comes back as the same pixels. A file in the folder that differs is somebody's work
    and is kept, unless --overwrite. Exit code 7 if a sample cannot be handed out.
    """
    from rakelight.dataset.index import iter_keys
    from rakelight.dataset.label_export import export_labels
    from rakelight.dataset.layout import RAW_FOLDER
    from rakelight.dataset.writer import Dataset

    opened = Dataset.open(folder)
    keys = [k for k in iter_keys(opened.root / RAW_FOLDER, category) if only in (None, k.label)]
    with progress("exporting", quiet=as_json) as step:
        done = export_labels(
            opened,
            keys,
            output,
            form,  # type: ignore[arg-type]
            reference=reference,
            masks=masks,
            overwrite=overwrite,
            progress=step,
        )
    if as_json:
        emit_json({"folder": str(output), "samples": done.samples, "kept": done.kept, "left_out": done.left_out})
    else:
        click.echo(f"{done.samples} sample(s) in {output}")
        if done.kept:
            click.echo(
                f"{len(done.kept)} file(s) kept, since they differ from the data set (--overwrite replaces them)"
            )
        warn(f"{key} is left out: {why}" for key, why in done.left_out.items())
    if done.left_out and form != "png":
        ctx.exit(DAMAGED)


@label.command("show")
@click.argument("folder", metavar="DATASET", type=click.Path(path_type=Path))
@click.argument("key")
@click.option("--overlay", type=click.Path(path_type=Path), help="Also write a PNG of the picture with the regions.")
@json_option
def show(folder: Path, key: str, overlay: Path | None, as_json: bool) -> None:
    """Show what is drawn on a sample, by whom, who decided what, and the states before."""
    from rakelight.dataset.labelling import stored_annotation
    from rakelight.dataset.layout import SampleKey
    from rakelight.dataset.opened import OpenSample
    from rakelight.dataset.writer import Dataset

    sample = OpenSample(Dataset.open(folder).root, SampleKey.parse(key))
    annotation = stored_annotation(sample)
    if overlay is not None:
        _write_overlay(sample, overlay)
    if as_json:
        emit_json({"sample": key, "annotation": None if annotation is None else annotation.to_dict()})
        return
    if annotation is None:
        click.echo(f"{key}: nothing is drawn on it")
        return
    rows = _region_rows(sample)
    title = f"{key}: {annotation.review.state}, {len(rows)} region(s) by {annotation.annotator or 'unknown'}"
    table(title, ("defect", "shape", "px", "mm²", "rgb", "ps", "xyz", "certainty", "note"), rows)
    for decided in (*annotation.earlier_reviews, annotation.review):
        click.echo(f"{decided.utc}  {decided.state} {f'by {decided.by}' if decided.by else ''} {decided.note}".rstrip())
    if annotation.history:
        click.echo(f"{len(annotation.history)} earlier state(s) in its annotations.json")


def _region_rows(sample: OpenSample) -> list[tuple[Any, ...]]:
    import numpy as np

    from rakelight.dataset.labelling import stored_annotation
    from rakelight.dataset.rasterise import cover

    annotation = stored_annotation(sample)
    pitch = sample.manifest.pitch_mm
    rows = []
    for r in annotation.regions if annotation is not None else ():
        px = int(np.count_nonzero(cover(r.shape, annotation.size).inside)) if annotation is not None else 0
        area = f"{px * pitch**2:.4g}" if pitch else "–"
        seen = (getattr(r.visibility, m) for m in ("rgb", "ps", "xyz"))
        name = f"{r.defect} (ignore)".strip() if r.ignore else r.defect
        rows.append((name, r.shape.kind, px, area, *seen, "–" if r.certainty is None else r.certainty, r.note))
    return rows


def _write_overlay(sample: OpenSample, path: Path) -> None:
    from rakelight.dataset import images
    from rakelight.dataset.annotations import class_map
    from rakelight.dataset.defects import read_defects
    from rakelight.dataset.label_overlay import overlay
    from rakelight.dataset.labelling import stored_annotation
    from rakelight.errors import DatasetError

    picture, annotation = sample.rgb(), stored_annotation(sample)
    if picture is None or annotation is None:
        raise DatasetError(f"{sample.key} has no picture, or nothing is drawn on it", code="annotation.missing")
    defects = read_defects(sample.root).with_names(annotation.defects())
    images.write_png(path, overlay(picture, class_map(annotation, annotation.size, defects)))


@label.command("classes")
@click.argument("folder", metavar="DATASET", type=click.Path(path_type=Path))
@click.option("--describe", nargs=2, metavar="DEFECT TEXT", help="Say in a sentence what a defect is.")
@json_option
def classes(folder: Path, describe: tuple[str, str] | None, as_json: bool) -> None:
    """Show the defects of the data set with their codes, numbers and descriptions, or describe one.

    \b
    rakelight dataset label classes my-set --describe scratch "a line deeper than 5 µm"
    """
    from rakelight.dataset.defects import described, keep_defects, read_defects
    from rakelight.dataset.writer import Dataset

    opened = Dataset.open(folder)
    found = read_defects(opened.root)
    if describe is not None:
        with opened.writer():
            found = described(read_defects(opened.root), *describe)
            keep_defects(opened.root, found)
    if as_json:
        emit_json(found.model_dump(by_alias=True))
        return
    rows = [(name, d.code, d.index, d.description or "–") for name, d in found.defects.items()]
    table(f"{opened.info.name}: {len(rows)} defect(s)", ("defect", "code", "number", "description"), rows)


@label.command("compare")
@_read_arguments
@json_option
@click.pass_context
def compare(
    ctx: click.Context,
    folder: Path,
    files: tuple[Path, ...],
    form: str,
    line_width: float,
    rename: tuple[str, ...],
    defect: str | None,
    as_json: bool,
) -> None:
    """Compare a second person's drawings in FILES with what is stored: intersection over union of each sample.

    Nothing is written. Pixels that either one ignores do not count. Exit code 7 if a file cannot be compared.
    """
    from dataclasses import asdict

    from rakelight.dataset.drawing_files import read_drawings
    from rakelight.dataset.label_compare import compare_drawings
    from rakelight.dataset.writer import Dataset

    drawings = read_drawings(files, form, _read_options(line_width, rename, defect))  # type: ignore[arg-type]
    found = list(compare_drawings(Dataset.open(folder), drawings))
    scores = [a.iou for a in found if a.iou is not None]
    mean = sum(scores) / len(scores) if scores else None
    problems = [a for a in found if a.problem]
    if as_json:
        emit_json({"samples": [asdict(a) for a in found], "mean_iou": mean})
    else:
        rows = [
            (
                a.sample,
                f"{a.iou:.3f}",
                a.stored_px,
                a.other_px,
                ", ".join(f"{n} {v:.3f}" for n, v in a.by_defect.items()),
            )
            for a in sorted(found, key=lambda a: (a.iou or 0, a.sample))
            if a.iou is not None
        ]
        table("Agreement, worst first", ("sample", "IoU", "stored px", "other px", "by defect"), rows)
        click.echo(f"mean IoU {mean:.3f} of {len(scores)} sample(s)" if mean is not None else "nothing to compare")
        warn(f"{a.sample or a.source}: {a.problem}".lstrip(": ") for a in problems)
    if problems:
        ctx.exit(DAMAGED)
