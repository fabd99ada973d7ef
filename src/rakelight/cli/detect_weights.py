"""``rakelight detect weights``: the pretrained networks' weights: which there are, fetching and checking them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rakelight.cli.console import SuggestingGroup, emit_json, json_option, progress, table, warn

UNUSABLE = 11


@click.group(cls=SuggestingGroup)
def weights() -> None:
    """Weights of the pretrained networks.

    The default features, of efficientnet-lite0, need none of them: they come with the installation. The networks of the
    published methods do, and nothing is ever downloaded unless you say `fetch`. A file is looked for in the folder that
    $RAKELIGHT_WEIGHTS names (or rakelight/weights in your cache), in the Hugging Face cache and in torch's.
    """


@weights.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show which weights are known, where each was found, its size, licence and source.

    \b
    Example:
      rakelight detect weights list
    """
    from rakelight.detection.features import weights as known

    rows = [_facts(entry, known) for entry in known.REGISTRY.values()]
    if as_json:
        emit_json({"folder": str(known.weights_folder()), "weights": rows})
        return
    table(
        f"weights folder: {known.weights_folder()}",
        ["id", "what", "MB", "licence", "found"],
        [[r["id"], r["title"], f"{r['size_mb']:.0f}", r["licence"], r["path"] or "-"] for r in rows],
    )
    for row in rows:
        click.echo(f"{row['id']}: {row['citation']}\n  {row['url']}")
    if any(row["path"] is None for row in rows):
        click.echo("\nFetch one with `rakelight detect weights fetch ID`.")


@weights.command("fetch")
@click.argument("weights_id", metavar="ID")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Install this file, brought from elsewhere, instead of downloading.",
)
@click.option("--overwrite", is_flag=True, help="Fetch also if a good file is already there.")
@json_option
def fetch(weights_id: str, source: Path | None, overwrite: bool, as_json: bool) -> None:
    """Download the weights ID into the weights folder, or install them from a file.

    What arrives is checked before it gets its name: length, SHA-256 where one is published, and whether every tensor of the
    network is there. Proxies are taken from the environment (HTTPS_PROXY). `rakelight detect weights list` shows the ids.

    \b
    Examples:
      rakelight detect weights fetch vit-b8-dino
      rakelight detect weights fetch point-mae --from ~/Downloads/pretrain.pth
    """
    from rakelight.detection.features import fetch as fetching
    from rakelight.detection.features import weights as known
    from rakelight.detection.features.networks import check_fit
    from rakelight.errors import ModelError

    entry = known.entry(weights_id)
    if source is None and not overwrite:
        try:
            place = known.find(weights_id)
            sha256 = known.checked_sha256(place)
            check_fit(weights_id, place.path)
        except ModelError:  # nothing there, or nothing that can be used: that is what fetching is for
            pass
        else:
            _tell(entry, place.path, sha256, place.file.sha256, as_json, "is already there")
            return

    def accept(file: Path, shown: Path) -> None:
        check_fit(weights_id, file, shown)

    with progress(f"fetching {weights_id}", quiet=as_json) as step:
        path, sha256 = fetching.fetch(
            entry, accept=accept, source=source, progress=lambda done, total: step(_megabytes(done, total))
        )
    published = next((file.sha256 for file in entry.files if file.name == path.name), None)
    _tell(entry, path, sha256, published, as_json, "is installed")


@weights.command("check")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path, exists=True),
    help="Check this file (or the one in this folder) as the weights ID.",
)
@json_option
@click.pass_context
def check(ctx: click.Context, ids: tuple[str, ...], file: Path | None, as_json: bool) -> None:
    """Check the weights that are there: SHA-256, every tensor of the network, and the fingerprint of its features.

    The fingerprint is eight numbers that the network makes of a fixed input; a model remembers it, so that another file under
    the same name is noticed. Without an ID every file found is checked. Exit code 11 if one cannot be used.

    \b
    Examples:
      rakelight detect weights check
      rakelight detect weights check vit-b8-dino --file ~/Downloads/dino_vitbase8_pretrain.pth
    """
    from rakelight.detection.features import weights as known

    if file is not None and len(ids) != 1:
        raise click.UsageError("--file needs exactly one ID: whose weights the file holds")
    entries = [known.entry(name) for name in ids] or list(known.REGISTRY.values())
    with progress("checking", quiet=as_json) as step:
        rows = []
        for entry in entries:
            step(entry.id)
            rows.append(_checked(entry.id, file, must_be_there=bool(ids)))
    if as_json:
        emit_json({"weights": rows})
    else:
        table("", ["id", "state", "file", "SHA-256"], [[r["id"], r["state"], r["path"], r["sha256"]] for r in rows])
        for row in rows:
            if row["fingerprint"]:
                click.echo(f"{row['id']}: fingerprint {' '.join(f'{v:.6g}' for v in row['fingerprint'])}")
        warn(f"{row['message']}\n  → {row['hint']}" for row in rows if row["message"])
    if any(row["state"] == "unusable" for row in rows):
        ctx.exit(UNUSABLE)


def _checked(weights_id: str, file: Path | None, *, must_be_there: bool) -> dict[str, Any]:
    """What is found out about one entry, as plain data."""
    from rakelight.detection.features import weights as known
    from rakelight.detection.features.base import make_extractor
    from rakelight.errors import ModelError

    row: dict[str, Any] = {"id": weights_id, "state": "not here", "path": "", "sha256": "", "fingerprint": []}
    row |= {"message": "", "hint": ""}
    try:
        place = known.find(weights_id, file)
        row["path"] = str(place.path)
        row["sha256"] = known.checked_sha256(place)
        extractor = make_extractor(weights_id, weights=place.path)
        row["fingerprint"] = [float(value) for value in extractor.fingerprint()]
        row["state"] = "as published" if place.file.sha256 else "fits (no hash is published)"
    except ModelError as error:
        if error.code != "weights.missing" or must_be_there:
            row |= {"state": "unusable", "message": error.message, "hint": error.hint}
    return row


def _facts(entry: Any, known: Any) -> dict[str, Any]:
    found = next((place for place in known.places(entry) if place.path.is_file()), None)
    file = entry.files[0] if found is None else found.file
    return {
        "id": entry.id,
        "title": entry.title,
        "licence": entry.licence,
        "citation": entry.citation,
        "size_mb": file.size_mb,
        "sha256": file.sha256,
        "url": file.url,
        "path": None if found is None else str(found.path),
        "whose": None if found is None else found.whose,
    }


def _tell(entry: Any, path: Path, sha256: str, published: str | None, as_json: bool, what: str) -> None:
    if as_json:
        emit_json({"id": entry.id, "path": str(path), "sha256": sha256, "published_sha256": published})
        return
    click.echo(f"{entry.id} {what}: {path}\nlicence: {entry.licence}; cite {entry.citation}")
    sure = "as published" if published else "the publisher states none; compare it with a colleague's"
    click.echo(f"SHA-256: {sha256} ({sure})")


def _megabytes(done: int, total: int) -> str:
    return f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else f"{done / 1e6:.0f} MB"
