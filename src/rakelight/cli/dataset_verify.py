"""``rakelight dataset verify | repair | migrate | relabel | remove``: keep a data set whole, and change single samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from rakelight.cli.console import emit_json, json_option, progress, warn

DAMAGED = 7
_SHOWN = 40  # problems printed; --json tells all

folder_argument = click.argument("folder", type=click.Path(path_type=Path))


@click.command("verify")
@folder_argument
@click.option("--quick", is_flag=True, help="Names, sizes, manifests and index only; seconds instead of hours.")
@click.option("--category", help="Only this product.")
@json_option
@click.pass_context
def verify(ctx: click.Context, folder: Path, quick: bool, category: str | None, as_json: bool) -> None:
    """Look for everything that is missing, changed, too much or out of date in FOLDER.

    Every file is read and compared with its SHA-256, unless --quick is given. Nothing is written. Each problem comes with
    the next step; exit code 7 if there is any.
    """
    from rakelight.dataset.verify import verify as look
    from rakelight.dataset.writer import Dataset

    opened = Dataset.open(folder)
    with progress("verifying", quiet=as_json) as step:
        report = look(opened.root, quick=quick, category=category, progress=_with_eta(step))
    if as_json:
        emit_json({"dataset": str(folder), **asdict(report)})
    else:
        _tell(report.problems)
        warn(report.notes)
        how = "names, sizes, manifests and index" if quick else "every byte"
        verdict = f"{len(report.problems)} problem(s)" if report.problems else "whole"
        click.echo(
            f"{folder}: {report.samples} sample(s), {report.files} files, {report.bytes / 1e9:.2f} GB: {verdict} ({how})"
        )
    if report.problems:
        ctx.exit(DAMAGED)


@click.command("repair")
@folder_argument
@click.option("--quarantine", is_flag=True, help="Move damaged samples into .quarantine/ (nothing is deleted).")
@click.option("--full", is_flag=True, help="Read every byte to find damaged samples, instead of names and sizes.")
@json_option
@click.pass_context
def repair(ctx: click.Context, folder: Path, quarantine: bool, full: bool, as_json: bool) -> None:
    """Finish what was interrupted in FOLDER, make its index anew, and say what is left to do.

    A relabelling that was interrupted is brought to its end, or taken back if what it needs is gone. Damaged samples are
    only named, unless --quarantine is given. Exit code 7 if something is left for a person.
    """
    from rakelight.dataset.repair import repair as mend
    from rakelight.dataset.writer import Dataset

    report = mend(Dataset.open(folder), set_aside=quarantine, full=full)
    if as_json:
        emit_json({"dataset": str(folder), **asdict(report)})
    else:
        for sentence in report.done:
            click.echo(sentence)
        _tell(report.left)
        click.echo(
            f"{folder}: {'something is left for you to do, see above' if report.left else 'nothing is left to do'}"
        )
    if report.left:
        ctx.exit(DAMAGED)


@click.command("migrate")
@folder_argument
@json_option
@click.pass_context
def migrate(ctx: click.Context, folder: Path, as_json: bool) -> None:
    """Lift the samples of FOLDER that an older version wrote to the present schema.

    Reading needs no migration: older samples are lifted as they are read. The old manifest stays as manifest.v1.json. An
    interrupted run is taken up where it stopped.
    """
    from rakelight.dataset.repair import migrate as lift
    from rakelight.dataset.writer import Dataset

    with progress("migrating", quiet=as_json) as step:
        report = lift(Dataset.open(folder), progress=_with_eta(step))
    if as_json:
        emit_json({"dataset": str(folder), **asdict(report)})
    else:
        _tell(report.problems)
        click.echo(f"{folder}: {report.migrated} sample(s) lifted, {report.present} had the present schema already")
    if report.problems:
        ctx.exit(DAMAGED)


@click.command("relabel")
@folder_argument
@click.argument("sample")
@click.argument("label")
@click.option("--by", default="", help="Who decided it; kept in the sample's history.")
@click.option("--reason", default="", help="Why; kept in the sample's history.")
@json_option
def relabel(folder: Path, sample: str, label: str, by: str, reason: str, as_json: bool) -> None:
    """Give SAMPLE of the data set in FOLDER another LABEL: OK, or a defect.

    \b
    The sample gets a new number in its new class and its files new names, all or nothing, for example
      rakelight dataset relabel my-set knob_cap/OK/S0007 scratch --by Ada --reason "seen under light 2"
    A sample that becomes OK keeps its mask among the extras, where loaders do not see it. The splits do not follow: extend
    or make them again afterwards; the official one is named if there is one.
    """
    from rakelight.dataset.layout import SampleKey
    from rakelight.dataset.split_files import OFFICIAL, split_names
    from rakelight.dataset.writer import Dataset

    with Dataset.open(folder).writer() as writer:
        _tell_settled(writer.settled, as_json)
        now = writer.relabel(SampleKey.parse(sample), label, by=by, reason=reason)
    warnings = []
    if OFFICIAL in split_names(folder):
        warnings.append(
            f"the official split is out of date now: it does not know {now}; run `rakelight dataset split {folder} --extend`"
        )
    if as_json:
        emit_json({"dataset": str(folder), "was": sample, "sample": str(now), "warnings": warnings})
    else:
        click.echo(f"{sample} is now {now}")
        warn(warnings)


@click.command("remove")
@folder_argument
@click.argument("samples", nargs=-1, required=True)
@click.option("--reason", required=True, help="Why; kept beside the removed sample.")
@json_option
@click.pass_obj
def remove(done: dict[str, Any] | None, folder: Path, samples: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Take SAMPLES out of the data set in FOLDER, into its .quarantine/.

    Their numbers are not given again. Nothing is deleted: throw the quarantine's folders away yourself.
    """
    from rakelight.dataset.layout import SampleKey
    from rakelight.dataset.writer import Dataset

    keys = [SampleKey.parse(sample) for sample in samples]
    removed: list[str] = []
    done = {} if done is None else done
    done |= {"dataset": str(folder), "removed": removed}
    with Dataset.open(folder).writer() as writer:
        _tell_settled(writer.settled, as_json)
        for key in keys:
            writer.remove(key, reason)
            removed.append(str(key))
            if not as_json:
                click.echo(f"{key} is in {folder / '.quarantine'} now")
    if as_json:
        emit_json(done)


def _tell(problems: Sequence[Any]) -> None:
    """Each problem with its next step; those of the same step together."""
    for problem in problems[:_SHOWN]:
        click.echo(f"{problem.where}: {problem.what}\n  → {problem.next_step}")
    if len(problems) > _SHOWN:
        click.echo(f"… and {len(problems) - _SHOWN} more; --json tells all")


def _tell_settled(settled: str, as_json: bool) -> None:
    if settled and not as_json:
        warn([settled])


def _with_eta(step: Callable[..., None]) -> Callable[[int, int], None]:
    """A progress callback that shows the share done and the time left."""
    began = time.monotonic()

    def show(done: int, total: int) -> None:
        left_s = (time.monotonic() - began) / max(done, 1) * (total - done)
        left = f"{left_s / 60:.0f} min" if left_s >= 90 else f"{left_s:.0f} s"
        step(f"{100 * done / max(total, 1):.0f} %, about {left} left")

    return show
