"""``rakelight dataset check``: what would spoil the science done with a data set."""

from __future__ import annotations

from pathlib import Path

import click

from rakelight.cli.console import emit_json, json_option, progress, table, warn

NOT_AS_THEY_SHOULD_BE = 6
_SHOWN = 40


@click.command("check")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--category", help="Only this product.")
@click.option(
    "--only",
    multiple=True,
    metavar="CHECK",
    help="Only this check (can be given several times): files, xyz, masks, duplicates, near-duplicates, consistency, "
    "labels, splits, index, leak.",
)
@click.option("--fresh", is_flag=True, help="Read every file again, also those that an earlier check has read.")
@click.option("--all", "show_all", is_flag=True, help=f"List all findings, not only the first {_SHOWN}.")
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    folder: Path,
    category: str | None,
    only: tuple[str, ...],
    fresh: bool,
    show_all: bool,
    as_json: bool,
) -> None:
    """Look through the data set in FOLDER for what a loader would swallow and a paper would report.

    Parts committed twice or captured twice, worst where they stand on both sides of the split; masks that are empty, of
    another size or beside the part; files that cannot be read; surfaces without depth; settings that differ within a
    product; and the leak test: whether anything but the picture (file sizes, times, constants, exposures) tells good from bad.

    Findings are written to meta/qc.jsonl. Exit code 6 if one of them is an error, or if --only leak was asked for and no
    leak test could be made ("untested").

    \b
    Examples:
      rakelight dataset check my-set
      rakelight dataset check my-set --only leak --category knob_cap
    """
    from rakelight.dataset.checks import CHECKS, QC_FILE, check_dataset
    from rakelight.dataset.writer import Dataset

    with progress("checking", quiet=as_json) as step:
        report = check_dataset(Dataset.open(folder), category=category, only=only, fresh=fresh, progress=step)
    errors = report.count("error")
    if as_json:
        leak = report.leak
        emit_json(
            {
                "samples": report.samples,
                "errors": errors,
                "warnings": report.count("warning"),
                "leak": None
                if leak is None
                else {
                    "verdict": leak.verdict,
                    "facts": leak.facts,
                    "tests": leak.tests,
                    "untested": list(leak.untested),
                },
                "findings": [f.to_plain() for f in report.findings],
                "notes": list(report.notes),
            }
        )
    else:
        rows = [
            (
                name,
                *(
                    sum(f.check == name and f.severity == s for f in report.findings)
                    for s in ("error", "warning", "note")
                ),
            )
            for name in CHECKS
            if not only or name in only
        ]
        table(f"{folder}: {report.samples} sample(s)", ("check", "errors", "warnings", "notes"), rows)
        shown = report.findings if show_all else report.findings[:_SHOWN]
        for f in shown:
            click.echo(f"{f.severity} [{f.check}] {f.sample}: {f.what}\n  → {f.hint}")
        if len(shown) < len(report.findings):
            click.echo(f"… and {len(report.findings) - len(shown)} more; see {QC_FILE}, or pass --all")
        if report.leak is not None:
            leak = report.leak
            click.echo(f"leak test: {leak.verdict} ({leak.facts} facts, {leak.tests} tests)")
        warn(report.notes)
    untested = "leak" in only and report.leak is not None and report.leak.verdict == "untested"
    if errors or untested:  # whoever asks for the test by name must not take its absence for a pass
        ctx.exit(NOT_AS_THEY_SHOULD_BE)
