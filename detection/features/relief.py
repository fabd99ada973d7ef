"""Relief of the measured surface as a picture for a network: small bumps and dents, whatever the part's form.

Height less its mean within a window, at three widths, in units of slope (window and pitch divide it out, so neither the unit of
length nor the camera's resolution matters), softly limited: a step of a millimetre does not drown a dent of ten
micrometres. The three make the channels of a picture. Unlike FPFH, which looks at 20 points across and averages histograms
over a patch, it shows shapes; and it keeps to the surface, unlike a map of depth, in which a dent is a thousandth of the range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.detection.features import base, efficientnet
from rakelight.detection.features.efficientnet import EfficientNetFeatures
from rakelight.detection.features.fpfh import spacing_mm
from rakelight.detection.native import Modality
from rakelight.detection.parts import Part, need

ID = "efficientnet-lite0-relief"
SIGMAS_PX = (1.5, 4.0, 10.0)  # of the windows, working pixels: a scratch, a dent, a bent face
_SLOPE = 0.09  # height over the window's width at which a channel is at three quarters of its range
_GAP_PX = 5  # unmeasured gaps up to this are mid-grey, as flat surface is; larger ones are black
_MID = 127.5


def relief_picture(part: Part, sigmas_px: Sequence[float] = SIGMAS_PX) -> NDArray[np.uint8]:
    """The relief of a part, (S, S, 3) uint8: mid-grey where the surface is flat or goes on straight, brighter where it lies
    farther from the camera than its surroundings, black off the part and in larger gaps.

    Raises :class:`DatasetError` (``detect.no_modality``) for a part without points.
    """
    z = need(part, "xyz")[..., 2]
    there = np.isfinite(z) & part.mask
    pitch = spacing_mm(part)
    if pitch <= 0 or not there.any():
        return np.zeros((*there.shape, 3), np.uint8)
    height = np.where(there, z - np.median(z[there]), 0).astype(np.float32)
    share = there.astype(np.float32)
    channels = []
    for sigma in sigmas_px:
        weight = cv2.GaussianBlur(share, (0, 0), sigma)
        mean = cv2.GaussianBlur(height, (0, 0), sigma) / np.maximum(weight, 1e-3)
        slope = np.where(there, height - mean, 0) / (sigma * pitch)
        channels.append(_MID + _MID * np.tanh(slope / _SLOPE))
    picture = np.stack(channels, axis=-1)
    closed = cv2.morphologyEx(there.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((_GAP_PX, _GAP_PX), np.uint8))
    picture[closed == 0] = 0
    return np.rint(picture).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class ReliefFeatures:
    """The :class:`rakelight.detection.features.base.Extractor` ``efficientnet-lite0-relief``: the network's features of the relief.

    Patches need points to be valid: nothing is said about what was not measured.
    """

    pictures: EfficientNetFeatures
    id: str = ID
    modality: Modality = "xyz"

    @property
    def dim(self) -> int:
        return self.pictures.dim

    @property
    def weights_sha256(self) -> str | None:
        return self.pictures.weights_sha256

    @property
    def settings(self) -> dict[str, Any]:
        return self.pictures.settings

    def grid(self, size: int) -> int:
        return self.pictures.grid(size)

    def extract(self, parts: Sequence[Part]) -> base.Features:
        drawn = [replace(part, ps=relief_picture(part), available=part.available | {"ps"}) for part in parts]
        found = self.pictures.extract(drawn)
        return base.Features(found.values, base.valid_cells(parts, found.grid, points=True))

    def fingerprint(self) -> base.Fingerprint:
        return base.fingerprint_of(self.extract([base.fingerprint_part()]))


def make(
    id: str, *, modality: Modality, weights: Path | None, taps: tuple[int, ...] | None, device: str
) -> ReliefFeatures:
    """For :func:`rakelight.detection.features.base.make_extractor`; raises as that of ``efficientnet-lite0``."""
    inner = efficientnet.make("efficientnet-lite0", modality="ps", weights=weights, taps=taps, device=device)
    return ReliefFeatures(replace(inner, flat_background=False), id, modality)
