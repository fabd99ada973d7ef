"""``--device``: where networks and searches run."""

from __future__ import annotations

import click

from rakelight.detection.device import DEVICES, resolve


def _resolved(ctx: click.Context, _: click.Parameter, value: str) -> str:
    return value if ctx.resilient_parsing else resolve(value)


device_option = click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    callback=_resolved,
    help="Where networks and searches run; auto: on the GPU if torch sees one.",
)
