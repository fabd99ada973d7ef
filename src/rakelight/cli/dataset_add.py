"""``rakelight dataset add`` and ``rebuild``: recordings become samples, and samples are derived again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rakelight.cli.console import emit_json, json_option, progress, warn

if TYPE_CHECKING:
    from rakelight.dataset.writer import DatasetWriter

SOME_FAILED = 10


def _crew_options(command: Any) -> Any:
    for option in (
        click.option(
            "--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of each local worker."
        ),
        click.option(
            "--workers", type=click.IntRange(1), help="Local worker processes.  [default: one a core, as memory allows]"
        ),
        click.option(
            "--scheduler",
            default="local",
            show_default=True,
            help="local; none (this process alone); or the address of a Dask scheduler of your own network, tcp://host:8786.",
        ),
    ):
        command = option(command)
    return command


def _derivation_options(ps: str, fuse: str) -> Any:
    """--ps and --fuse; the arguments say what holds without them."""

    def decorate(command: Any) -> Any:
        fusing = f"Let the normals refine the measured surface.  [default: {fuse}]"
        command = click.option("--fuse/--no-fuse", default=None, help=fusing)(command)
        kinds = click.Choice(["normals", "relief", "curvature"])
        return click.option("--ps", type=kinds, help=f"What the pseudo-3D picture shows.  [default: {ps}]")(command)

    return decorate


@click.command("add")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("recordings", nargs=-1, type=click.Path(path_type=Path))
@click.option("--category", help="Product, lower case: letters, digits, underscore (for example knob_cap).")
@click.option("--label", help="OK, or the name of the defect (for example scratch).")
@click.option("--calibration", "-c", type=click.Path(path_type=Path), help="Calibration folder.")
@click.option(
    "--mask", type=click.Path(path_type=Path), help="Defect mask, 8-bit PNG of 0 and 255, on the pixels of RGBL05."
)
@click.option("--batch", help="Lot or session, which splits can keep together.  [default: the day of the capture]")
@click.option(
    "--table",
    "rows",
    type=click.Path(path_type=Path),
    help="CSV with a head line: recording, and any of category, label, mask, batch, calibration.",
)
@click.option(
    "--truth",
    is_flag=True,
    help="Simulated recordings: category, label, mask and calibration from their truth, where not given.",
)
@click.option(
    "--any-calibration",
    is_flag=True,
    help="Take the calibration also if it was made on another rig or camera than the recording.",
)
@_derivation_options("normals", "no")
@_crew_options
@json_option
@click.pass_context
def add(
    ctx: click.Context,
    folder: Path,
    recordings: tuple[Path, ...],
    category: str | None,
    label: str | None,
    calibration: Path | None,
    mask: Path | None,
    batch: str | None,
    rows: Path | None,
    truth: bool,
    any_calibration: bool,
    ps: str | None,
    fuse: bool | None,
    scheduler: str,
    workers: int | None,
    threads: int,
    as_json: bool,
) -> None:
    """Reconstruct RECORDINGS (or all in a folder of them) and commit each as one sample.

    Several are worked on at the same time; each is there for good as soon as its line is printed. One that cannot be used
    never stops the rest (exit code 10 at the end). What is in the data set already is skipped: after Ctrl-C, a power cut or
    a mended recording simply run the same command again. The recordings themselves are only read; keep them.

    \b
    Examples:
      rakelight dataset add parts recordings/knob-17 --category knob_cap --label OK -c calibration/lab
      rakelight dataset add parts recordings/monday --category knob_cap --label OK -c calibration/lab --batch lot-7
      rakelight dataset add parts --table labels.csv --category knob_cap -c calibration/lab
      rakelight dataset add parts simulated --truth
    """
    from rakelight.dataset.writer import Dataset
    from rakelight.pipeline.addition_list import additions_of
    from rakelight.pipeline.dataset_add import Derivation, add
    from rakelight.pipeline.many import Crew

    if not recordings and rows is None:
        raise click.UsageError("name RECORDINGS, or a --table of them")
    opened = Dataset.open(folder)
    additions = additions_of(
        recordings,
        rows,
        category=category,
        label=label,
        calibration=calibration,
        mask=mask,
        batch=batch,
        truth=truth,
        any_calibration=any_calibration,
    )
    derivation = Derivation(ps=ps or "normals", fuse=bool(fuse))  # type: ignore[arg-type]
    crew = Crew(scheduler, workers, threads)
    told = _Told(ctx, as_json, folder, "added")
    with opened.writer() as writer:
        told.leftovers(writer, folder)
        with progress("adding", quiet=as_json) as step:
            for result in add(opened, additions, derivation, crew=crew, writer=writer, progress=step):
                if result.error is not None:
                    told.failed(str(result.recording), result.error)
                elif result.sample is None:
                    told.skipped(str(result.recording), result.skipped)
                else:
                    told.committed(
                        {
                            "sample": str(result.sample.key),
                            "recording": str(result.recording),
                            "bytes": result.sample.bytes,
                            "folder": str(result.sample.folder),
                        },
                        f"{result.sample.key}: {result.recording} ({result.sample.bytes / 1e6:.1f} MB) in {result.sample.folder}",
                        result.warnings,
                    )
    told.end()


@click.command("rebuild")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--category", help="Only this product.")
@click.option("--sample", "samples", multiple=True, metavar="KEY", help="Only this sample, e.g. knob_cap/OK/S0001.")
@click.option("--calibration", "-c", type=click.Path(path_type=Path), help="Calibration to use from now on.")
@click.option(
    "--recordings", multiple=True, type=click.Path(path_type=Path), help="Where recordings lie, if they were moved."
)
@click.option("--force", is_flag=True, help="Also what is up to date; mends files that were changed.")
@_derivation_options("as each sample has it", "as each sample has it")
@_crew_options
@json_option
@click.pass_context
def rebuild(
    ctx: click.Context,
    folder: Path,
    category: str | None,
    samples: tuple[str, ...],
    calibration: Path | None,
    recordings: tuple[Path, ...],
    force: bool,
    ps: str | None,
    fuse: bool | None,
    scheduler: str,
    workers: int | None,
    threads: int,
    as_json: bool,
) -> None:
    """Derive samples again from their recordings: with another calibration, other settings or a newer rakelight.

    Samples that would come out the same are left alone, so an interrupted run goes on where it ended. Keys, labels, masks and
    annotations stay; the manifest counts the revision and says what it was derived from. The old files go only after the new
    ones are safe on disk.

    \b
    Examples:
      rakelight dataset rebuild parts -c calibration/lab-2
      rakelight dataset rebuild parts --category knob_cap --ps relief --scheduler tcp://10.0.0.5:8786
    """
    from rakelight.dataset.layout import SampleKey, check_category
    from rakelight.dataset.opened import open_samples
    from rakelight.dataset.writer import Dataset
    from rakelight.pipeline.dataset_rebuild import Wish, rebuild
    from rakelight.pipeline.many import Crew

    opened = Dataset.open(folder)
    keys: list[Any] | None = [SampleKey.parse(name) for name in samples] or None
    if category is not None:
        check_category(category)
        inside = [s.key for s in open_samples(opened.root, category)]
        keys = inside if keys is None else [k for k in keys if k.category == category]
    told = _Told(ctx, as_json, folder, "rebuilt")
    with opened.writer() as writer:
        told.leftovers(writer, folder)
        with progress("rebuilding", quiet=as_json) as step:
            for result in rebuild(
                opened,
                Wish(calibration, ps, fuse, force),  # type: ignore[arg-type]
                keys=keys,
                recordings=recordings,
                crew=Crew(scheduler, workers, threads),
                writer=writer,
                progress=step,
            ):
                if result.error is not None:
                    told.failed(str(result.key), result.error)
                elif not result.reason:
                    told.skipped(str(result.key), "up to date")
                else:
                    told.committed(
                        {"sample": str(result.key), "reason": result.reason, "revision": result.revision},
                        f"{result.key}: revision {result.revision} ({result.reason})",
                        result.warnings,
                    )
    told.end()


class _Told:
    """What was said of each recording or sample: as lines, and in the object that is printed whatever ends the command."""

    def __init__(self, ctx: click.Context, as_json: bool, folder: Path, what: str) -> None:
        self.ctx, self.as_json, self.what = ctx, as_json, what
        self.good: list[dict[str, Any]] = []
        self.left: list[dict[str, str]] = []
        self.bad: list[dict[str, Any]] = []
        self.warnings: list[str] = []
        self.started = time.monotonic()
        self.facts: dict[str, Any] = ctx.obj
        self.facts |= {"dataset": str(folder), what: self.good, "skipped": self.left, "failed": self.bad}
        self.facts |= {"warnings": self.warnings}

    def leftovers(self, writer: DatasetWriter, folder: Path) -> None:
        if self.as_json:
            return
        if writer.settled:
            warn([f"an interrupted run had begun {writer.settled}"])
        warn(
            f"leftovers of an interrupted run ({q.reason}) were moved to {folder / q.folder}" if q.folder else q.reason
            for q in writer.quarantined
        )

    def committed(self, facts: dict[str, Any], line: str, warnings: tuple[str, ...]) -> None:
        self.good.append(facts)
        self.warnings += [w for w in warnings if w not in self.warnings]
        if not self.as_json:
            click.echo(line)

    def skipped(self, name: str, why: str) -> None:
        self.left.append({"name": name, "why": why})

    def failed(self, name: str, error: dict[str, str]) -> None:
        self.bad.append({"name": name, **error})
        if not self.as_json:
            click.echo(f"{name}: failed [{error['code']}] {error['message']}", err=True)
            if error["hint"]:
                click.echo(f"  → {error['hint']}", err=True)

    def end(self) -> None:
        seconds = time.monotonic() - self.started
        if self.as_json:
            emit_json(self.facts | {"seconds": round(seconds, 2)})
        else:
            warn(self.warnings)
            parts = [f"{len(self.good)} {self.what}"]
            if self.left:
                parts.append(f"{len(self.left)} {'there already' if self.what == 'added' else 'up to date'}")
            if self.bad:
                parts.append(f"{len(self.bad)} failed: mend them and run the same command again")
            click.echo(f"{', '.join(parts)} ({seconds:.0f} s)")
        if self.bad:
            self.ctx.exit(SOME_FAILED)
