"""``rakelight dataset split``: which samples train, validate and test."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from rakelight.cli.console import emit_json, json_option, table, warn


@click.command("split")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--name", default="official", show_default=True, help="Name of the split; `official` makes realiad_d3_jsons."
)
@click.option("--seed", default=0, show_default=True, help="Another seed gives another split; the same one the same.")
@click.option(
    "--by",
    type=click.Choice(["specimen", "batch", "day", "sample"]),
    default="specimen",
    show_default=True,
    help="What stays on one side. A specimen in two batches or on two days joins them.",
)
@click.option("--train", default=0.7, show_default=True, help="Share of the good parts to train with.")
@click.option("--validation", default=0.1, show_default=True, help="Share of the good parts to tune with.")
@click.option("--folds", type=int, default=0, help="Cross-validation: so many splits; each part is tested in one.")
@click.option("--supervised", is_flag=True, help="Share out defective parts as good ones are, also to train.")
@click.option("--defects-in-validation", is_flag=True, help="Defective parts also validate, not only test.")
@click.option("--extend", is_flag=True, help="Keep what the split of that name assigns; place only what is new.")
@click.option("--overwrite", is_flag=True, help="Replace the split of that name, though it differs.")
@json_option
@click.pass_context
def split(
    ctx: click.Context,
    folder: Path,
    name: str,
    seed: int,
    by: str,
    train: float,
    validation: float,
    folds: int,
    supervised: bool,
    defects_in_validation: bool,
    extend: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Split the samples of the data set in FOLDER into train, validation and test.

    Good parts are shared out as asked, each class for itself; defective ones test only, unless told otherwise. The
    same seed gives the same split on every machine, and new samples move few of the old ones (none with --extend). The split
    is written to meta/splits/NAME.json with a SHA-256 to publish. A class with too few groups is refused with its numbers.

    \b
    Examples:
      rakelight dataset split my-set --by specimen --seed 7
      rakelight dataset split my-set --extend
      rakelight dataset split my-set --name cross --folds 5
    """
    from rakelight.config import validate
    from rakelight.dataset.split_files import achieved_shares, split_table, write_splits
    from rakelight.dataset.splits import SplitRule
    from rakelight.dataset.writer import Dataset
    from rakelight.errors import InputError

    fixed = ("seed", "by", "train", "validation", "folds", "supervised", "defects_in_validation")
    if extend and (given := [n for n in fixed if ctx.get_parameter_source(n) is not ParameterSource.DEFAULT]):
        raise click.UsageError(f"--extend goes on by the rule of the split; leave out --{given[0].replace('_', '-')}")
    options = {key: ctx.params[key] for key in fixed}
    rule = None if extend else validate(options, SplitRule, source="split", error=InputError)
    made = write_splits(Dataset.open(folder), name, rule, overwrite=overwrite)
    if as_json:
        listed = [
            {
                "name": s.name,
                "path": str(p),
                "sha256": s.sha256,
                "counts": split_table(s),
                "shares_of_good": achieved_shares(s),
            }
            for s, p in zip(made.splits, made.paths, strict=True)
        ]
        emit_json({"splits": listed, "kept": made.kept, "gone": made.gone, "notes": list(made.notes)})
        return
    columns = ("category", "label", "train", "validation", "test", "left_out")
    for s, path in zip(made.splits, made.paths, strict=True):
        shown = [tuple(row[c] for c in columns) for row in split_table(s)]
        table(f"{s.name} (seed {s.seed}, by {s.by})", (*columns[:-1], "left out"), shown)
        for category, shares in achieved_shares(s).items():
            click.echo(f"{category}: good parts " + ", ".join(f"{x} {v:.1%}" for x, v in shares.items()))
        click.echo(f"{path}\nsha256 {s.sha256}")
    if extend:
        click.echo(f"{made.kept} samples keep their place; {made.gone} of the earlier ones are gone")
    warn(made.notes)
