"""``rakelight detect``: teach a detector from good parts, score parts, measure how good it is."""

from __future__ import annotations

import click

from rakelight.cli.console import SuggestingGroup
from rakelight.cli.detect_evaluate import evaluate
from rakelight.cli.detect_explain import explain
from rakelight.cli.detect_next import next_
from rakelight.cli.detect_score import score
from rakelight.cli.detect_show import show
from rakelight.cli.detect_train import train, update
from rakelight.cli.detect_watch import watch
from rakelight.cli.detect_weights import weights


@click.group(cls=SuggestingGroup)
def detect() -> None:
    """Anomaly detection: taught from good parts alone, with every modality that the samples have.

    \b
    A first walk, with a data set `parts` of at least 10 good parts:
      rakelight detect train parts --category knob_cap -o models/knob
      rakelight detect score models/knob parts knob_cap/NG/scratch/S0001
      rakelight detect explain models/knob parts knob_cap/NG/scratch/S0001 -o why.png
      rakelight detect next models/knob parts
      rakelight detect evaluate parts --category knob_cap
    """


for command in (train, show, score, explain, next_, update, evaluate, watch, weights):
    detect.add_command(command)
