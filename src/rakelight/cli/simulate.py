"""``rakelight simulate``: recordings of parts and targets that are known to the micrometre."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rakelight.cli.console import emit_json, json_option, progress, table

if TYPE_CHECKING:
    from rakelight.reconstruction.patterns import PatternSet

_ALL = "all"


def _size(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, int | None]:
    """WIDTHxHEIGHT or WIDTH in px."""
    parts = value.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(p.strip().isdecimal() for p in parts):
        raise click.BadParameter(f"{value!r} is not a size; write for example 1368x912, or 1368 alone")
    return int(parts[0]), int(parts[1]) if len(parts) == 2 else None


def _bracket(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[float, ...]:
    """Multiples, parted by commas."""
    try:
        return tuple(float(part) for part in value.split(",")) if value.strip() else ()
    except ValueError:
        raise click.BadParameter(f"{value!r} are no multiples of an exposure; write for example 0.25,4") from None


@click.command()
@click.argument("parts", nargs=-1, metavar="[PART]...")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Recording to write (with --count: folder of recordings)."
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Specimen: pose, dimensions, colour, defect, noise."
)
@click.option(
    "--defect", "-d", "defects", multiple=True, help="Defect to put on the part; with --count several, or 'all'."
)
@click.option("--count", type=click.IntRange(1), help="Record that many specimens of each PART, every other one good.")
@click.option(
    "--size",
    callback=_size,
    metavar="WxH",
    default="1368x912",
    show_default=True,
    help="Frame, 456x304 to 5472x3648 px.",
)
@click.option("--pixel-format", default="BayerRG12", show_default=True, help="SFNC name.")
@click.option(
    "--patterns",
    type=click.Choice(["gray", "multi-frequency", "none"]),
    default="gray",
    show_default=True,
    help="What the projectors show: 8-step phase shift with Gray code, three frequencies, or no structured light.",
)
@click.option(
    "--bracket",
    callback=_bracket,
    metavar="X,…",
    default="",
    help="Expose every pattern again, X times as long as the product's own; for example 0.25,4.",
)
@click.option(
    "--pose", type=float, nargs=3, metavar="X Y ANGLE", help="Shift (mm) and turn (degrees) instead of the seed's."
)
@click.option("--samples", type=click.IntRange(1, 4), help="Points per pixel and axis; 1 to 3 by default, by the size.")
@click.option("--gamma", type=float, default=1.0, show_default=True, help="Of the projectors (1 = linear).")
@click.option("--overwrite", is_flag=True, help="Replace an earlier recording.")
@click.option("--list", "list_parts", is_flag=True, help="List products, targets and defects.")
@click.option("--gallery", type=click.Path(path_type=Path), help="Draw all products and defects into one PNG.")
@json_option
def simulate(
    parts: tuple[str, ...],
    output: Path | None,
    seed: int,
    defects: tuple[str, ...],
    count: int | None,
    size: tuple[int, int | None],
    pixel_format: str,
    patterns: str,
    bracket: tuple[float, ...],
    pose: tuple[float, float, float] | None,
    samples: int | None,
    gamma: float,
    overwrite: bool,
    list_parts: bool,
    gallery: Path | None,
    as_json: bool,
) -> None:
    """Record a simulated PART (a product or a calibration target) whose truth is known.

    The folder is an ordinary recording, marked as simulated for ever; truth/ in it holds normals, xyz, part and defect
    masks, the lights and the rig's true calibration.

    \b
    Examples:
      rakelight simulate --list
      rakelight simulate knob_cap --seed 7 -o recordings/knob-7
      rakelight simulate knob_cap --seed 7 --defect scratch -o recordings/knob-7-scratch
      rakelight reconstruct recordings/knob-7 -c recordings/knob-7/truth/calibration -o out
      rakelight simulate all --count 20 -d all --size 456x304 -o recordings
      rakelight simulate charuco --seed 3 -o recordings/board-3
    """
    if list_parts:
        return _list(as_json)
    if gallery is not None:
        if parts or output is not None or defects:
            raise click.UsageError("--gallery draws all products and defects; leave PART, -d and -o out")
        return _gallery(gallery, overwrite, as_json)
    if not parts or output is None:
        raise click.UsageError("name a PART and an output folder (-o); `rakelight simulate --list` shows the parts")
    from rakelight.errors import InputError
    from rakelight.pipeline import simulate as run
    from rakelight.pipeline import simulate_batch as batch

    pattern_set = _pattern_set(patterns)
    settings = run.Settings(size[0], size[1], pixel_format, pattern_set, samples, gamma, bracket)
    names = list(dict.fromkeys(n for part in parts for n in (run.PRODUCTS if part == _ALL else [part])))
    kinds = list(dict.fromkeys(k for kind in defects for k in (run.KINDS if kind == _ALL else [kind])))
    if count is None:
        if len(names) > 1 or len(kinds) > 1:
            raise InputError(
                f"parts {', '.join(names)} with defects {', '.join(kinds) or 'none'} for one recording",
                hint="name one PART and at most one --defect, or say --count for many recordings",
                code="simulate.too_many",
            )
        _one(names[0], output, seed, kinds[0] if kinds else None, pose, settings, overwrite, as_json)
        return
    if pose is not None or overwrite:
        raise click.UsageError("--pose and --overwrite are for one recording, not for --count")
    with progress("recording", quiet=as_json) as step:
        result = batch.simulate_batch(
            names, output, count, first_seed=seed, defects=kinds, settings=settings, progress=step
        )
    if as_json:
        emit_json(result | {"output": str(output)})
        return
    labels = [row["label"] for row in result["recordings"]]
    rows = [(label, labels.count(label)) for label in dict.fromkeys(sorted(labels, key=lambda x: (x != "OK", x)))]
    table(f"{output}", ("label", "recordings"), rows)
    click.echo(
        f"{result['made']} recorded in {result['seconds']:.1f} s, {result['kept']} were there; see {output / batch.LIST}"
    )
    row = result["recordings"][0]
    recording, calibration = output / row["recording"], output / row["calibration"]
    click.echo(f"next: rakelight reconstruct {recording} -c {calibration} -o OUTPUT")


def _one(
    name: str, output: Path, seed: int, defect: str | None, pose: Any, settings: Any, overwrite: bool, as_json: bool
) -> None:
    from rakelight.pipeline import simulate as run

    with progress("recording", quiet=as_json) as step:
        document = run.simulate(
            name,
            output,
            seed=seed,
            defect=defect,
            pose=run.Pose(*pose) if pose else None,
            settings=settings,
            overwrite=overwrite,
            progress=step,
        )
    if as_json:
        emit_json(document | {"output": str(output)})
        return
    width, height = document["size_px"]
    flaw = document["defect"]
    what = "no defect" if flaw is None else f"{flaw['kind']} on {document['defect_share']:.2%} of the part"
    click.echo(f"{name}, specimen {seed}, {what}: {width}×{height} {document['pixel_format']}")
    click.echo(f"recording: {output}\ntruth:     {output / 'truth'}")
    if document["target_facts"]:
        return
    click.echo(f"next: rakelight reconstruct {output} -c {output / 'truth' / 'calibration'} -o OUTPUT")


def _list(as_json: bool) -> None:
    from rakelight.pipeline import simulate as run

    if as_json:
        products = {
            p.name: {
                "material": p.material,
                "description": p.description,
                "size_mm": [p.length_mm, p.width_mm, p.height_mm],
            }
            for p in run.PRODUCTS.values()
        }
        targets = {t.name: {"description": t.description, "facts": t.facts} for t in run.TARGETS.values()}
        emit_json({"products": products, "targets": targets, "defects": list(run.KINDS)})
        return
    table(
        "products",
        ("part", "material", "what", "mm"),
        (
            (p.name, p.material, p.description, f"{p.length_mm:g}×{p.width_mm:g}×{p.height_mm:g}")
            for p in run.PRODUCTS.values()
        ),
    )
    table("targets", ("target", "what"), ((t.name, t.description) for t in run.TARGETS.values()))
    click.echo(f"defects: {', '.join(run.KINDS)}")


def _gallery(path: Path, overwrite: bool, as_json: bool) -> None:
    from rakelight.errors import StorageError
    from rakelight.files import make_folder
    from rakelight.folders import check_replaceable
    from rakelight.pipeline.gallery import draw_gallery

    if path.suffix.lower() != ".png":
        raise click.UsageError(f"--gallery writes a PNG file; {path.name} does not end in .png")
    if path.exists() and not overwrite:
        raise StorageError(f"{path} exists", hint="name another file, or say --overwrite", code="storage.exists")
    if not path.exists():
        check_replaceable(path, overwrite=False)  # told before a minute of drawing: is there a place for it?
    make_folder(path.parent)
    with progress("drawing", quiet=as_json) as step:
        draw_gallery(path, progress=step)
    if as_json:
        emit_json({"output": str(path)})
        return
    click.echo(f"look at {path}")


def _pattern_set(name: str) -> PatternSet | None:
    from rakelight.reconstruction.patterns import MultiFrequency, PatternSet

    if name == "none":
        return None
    return PatternSet(code=MultiFrequency()) if name == "multi-frequency" else PatternSet()
