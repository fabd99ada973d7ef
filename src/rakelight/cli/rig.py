"""``rakelight rig`` and ``rakelight devices``: what is plugged in, whether it works, and simulated devices to try with."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import click

from rakelight.cli.console import SuggestingGroup, emit_json, json_option, progress, table


@click.command()
@click.option(
    "--producer",
    multiple=True,
    type=click.Path(path_type=Path),
    help="GenTL producer (.cti) to ask; by default those in GENICAM_GENTL64_PATH.",
)
@json_option
def devices(producer: tuple[Path, ...], as_json: bool) -> None:
    """List cameras (by GenTL producer) and serial ports."""
    from rakelight.acquisition.found import find_devices

    found = find_devices(producer)
    if as_json:
        emit_json(found)
        return
    rows = [(c["vendor"], c["model"], c["serial_number"], c["producer"]) for c in found["cameras"]]
    table("cameras", ("vendor", "model", "serial number", "producer"), rows)
    for trouble in found["trouble"]:
        click.echo(f"  {trouble}")
    table(
        "serial ports",
        ("port", "what", "serial number"),
        [(p["port"], p["what"], p["serial_number"]) for p in found["ports"]],
    )


@click.group(cls=SuggestingGroup)
def rig() -> None:
    """Check a rig, or serve a simulated one."""


@rig.command()
@click.argument("where", metavar="RIG")
@json_option
def check(where: str, as_json: bool) -> None:
    """Open all devices of RIG (rig.toml or sim://…), take one frame, and switch everything off again.

    All that is wrong is told at once.
    """
    from rakelight.acquisition.found import check_rig

    with progress("checking", quiet=as_json) as step:
        told = check_rig(where, progress=step)
    if as_json:
        emit_json(told)
        return
    table(where, ("device", "what it is"), [(name, text) for name, text in told["devices"].items()])
    click.echo("everything answers, one frame came, and all is dark again")


@rig.command()
@click.argument("url", metavar="SIM_URL")
@json_option
def simulate(url: str, as_json: bool) -> None:
    """Serve simulated devices until Ctrl-C and print the rig.toml that reaches them.

    The camera is a GenTL producer, lights and projector are serial ports: other programs can use them too.

    \b
    Example:
      rakelight rig simulate "sim://knob_cap?seed=3&width=912" > rig.toml
    """
    from rakelight.acquisition.found import serve_simulated

    with serve_simulated(url) as (settings, text):
        if as_json:
            emit_json(settings)
        else:
            click.echo(text)
        sys.stdout.flush()
        click.echo("serving; Ctrl-C ends it", err=True)
        with contextlib.suppress(KeyboardInterrupt):  # the usual way to end it
            while True:
                time.sleep(3600)
