"""``rakelight recording``: look at, check and import recordings."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from rakelight.cli.console import SuggestingGroup, emit_json, json_option, progress, table, warn

DAMAGED = 7
_NEXT = {
    "part": "rakelight reconstruct {folder} --calibration CALIBRATION -o OUTPUT",
    "chrome_sphere": "rakelight calibrate lights {folder} -o CALIBRATION",
    "white_plane": "rakelight calibrate lights SPHERE {folder} -o CALIBRATION",
    "dark": "rakelight calibrate lights SPHERE {folder} -o CALIBRATION",
}


@click.group(cls=SuggestingGroup)
def recording() -> None:
    """Recordings: the raw frames of one part, with what was lit and measured.

    A recording is a folder with recording.json and one TIFF a frame. It is never edited; everything else is derived
    from it.
    """


@recording.command("info")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def info(folder: Path, as_json: bool) -> None:
    """Say what a recording holds, without reading its frames."""
    from rakelight.dataset.recording import Recording

    opened = Recording.open(folder)
    i = opened.info
    if as_json:
        emit_json(i.model_dump(mode="json", by_alias=True))
        return
    roles = {s.name: s for s in i.plan}
    table(
        f"{i.part_id}: {i.target}, {i.width}×{i.height} {i.pixel_format}{'' if i.linear else ', not linear'}"
        f"{', simulated' if i.simulated else ''}",
        ("shot", "role", "zone", "file", "bytes", "exposure µs", "original"),
        [
            (
                f.shot,
                roles[f.shot].role,
                roles[f.shot].zone or "",
                f.file,
                f.bytes,
                f.exposure_us or "",
                f.original or "",
            )
            for f in i.frames
            if f.shot in roles
        ],
    )
    click.echo(f"id {i.recording_id}, made {i.created_utc} by {i.software}")
    if i.origin.source:
        click.echo(f"source: {i.origin.source}; licence: {i.origin.licence or 'not stated'}")
    if i.origin.citation:
        click.echo(f"cite: {i.origin.citation}")
    warn(i.warnings)


@recording.command("verify")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
@click.pass_context
def verify(ctx: click.Context, folders: tuple[Path, ...], as_json: bool) -> None:
    """Check that every frame is there, unchanged and readable, and that the plan is complete; of simulated ones the truth too.

    Exit code 7 if anything is wrong.
    """
    from rakelight.dataset import recording as rec
    from rakelight.errors import DatasetError
    from rakelight.pipeline.truth import verify_truth

    problems: dict[str, list[str]] = {}
    frames = 0
    with progress("verifying", quiet=as_json) as step:
        for number, folder in enumerate(folders, 1):
            step(folder.name)
            problems[str(folder)] = []
            try:
                opened = rec.Recording.open(folder)
                frames += len(opened.info.frames)
                problems[str(folder)] += [text for _frame, text in rec.verify(opened)] + verify_truth(opened)
            except DatasetError as error:
                problems[str(folder)].append(error.message)
            step(number, len(folders))
    bad = sum(bool(p) for p in problems.values())
    if as_json:
        emit_json({"recordings": len(problems), "frames": frames, "problems": problems})
    else:
        for folder_name, texts in problems.items():
            for text in texts:
                click.echo(f"{folder_name}: {text}")
        verdict = f"{bad} of {len(problems)} damaged" if bad else "all whole"
        click.echo(f"{_count(len(problems), 'recording')}, {_count(frames, 'frame')}: {verdict}")
    if bad:
        ctx.exit(DAMAGED)


@recording.command("import")
@click.argument("images", type=click.Path(path_type=Path))
@click.option(
    "--description",
    "-d",
    required=True,
    type=click.Path(path_type=Path),
    help="TOML that says which file is which light, and what the pixels are; see docs/recordings.md.",
)
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Recording folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace an existing recording.")
@json_option
def import_(images: Path, description: Path, output: Path, overwrite: bool, as_json: bool) -> None:
    """Make a recording from a folder of IMAGES (PNG, TIFF, JPEG, BMP) made elsewhere.

    \b
    The least that a description needs:
      schema = 1
      part_id = "cat"
      pixel_format = "Mono8"      # or Mono16, BayerRG12, RGB8 …
      linear = true
      [stack]
      files = "Image_{zone:02d}.png"
      zones = [1, 2, 3, 4]
    """
    from rakelight.dataset.recording_import import import_recording

    with progress("importing", quiet=as_json) as step:
        opened = import_recording(images, description, output, overwrite=overwrite, progress=step)
    i = opened.info
    then = _NEXT.get(i.target, "rakelight recording info {folder}").format(folder=shlex.quote(str(output)))
    if as_json:
        emit_json(
            {
                "recording": str(output),
                "recording_id": i.recording_id,
                "frames": len(i.frames),
                "zones": opened.zones,
                "warnings": i.warnings,
                "next": then,
            }
        )
        return
    warn(i.warnings)
    zones = f", {_count(len(opened.zones), 'zone')}" if opened.zones else ""
    click.echo(f"{i.part_id}: {_count(len(i.frames), 'frame')}, {i.width}×{i.height} {i.pixel_format}{zones}")
    click.echo(f"recording: {output}")
    click.echo(f"next: {then}")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
