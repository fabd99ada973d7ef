"""Which network the weights of each id are for."""

from __future__ import annotations

from pathlib import Path

from rakelight.detection.features import checkpoints, point_mae, vit
from rakelight.detection.features.weights import entry


def check_fit(weights_id: str, file: Path, shown: Path | None = None) -> None:
    """Put the weights in ``file`` into their network, which is then dropped; messages call the file ``shown``.

    Raises :class:`ModelError` as :func:`rakelight.detection.features.checkpoints.read` and ``fit``; ``weights.unknown``.
    """
    weights = entry(weights_id)
    content = checkpoints.read(file, shown)
    if weights.id in vit.SHAPES:
        vit.network_from(vit.SHAPES[weights.id], content, shown or file)
    else:
        point_mae.network_from(point_mae.PointMaeShape(), content, shown or file)
