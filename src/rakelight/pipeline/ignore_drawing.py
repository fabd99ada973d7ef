"""An ignore mask that a person has drawn, on the working picture or on one sample's picture, for teaching."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset import images
from rakelight.dataset.layout import SampleKey
from rakelight.detection.ignore import check_ignore, ignore_from_sample, read_ignore
from rakelight.detection.parts import Part
from rakelight.detection.registration import Template
from rakelight.errors import DatasetError


@dataclass(frozen=True)
class IgnoreDrawing:
    """A picture file, everything above 0 is ignored; ``on``: drawn on this sample's RGBL05 picture, else on the working
    picture (:func:`rakelight.pipeline.detect_teach.working_picture`), of any size."""

    path: Path
    on: SampleKey | None = None

    def read(self) -> NDArray[np.bool_]:
        """(H, W) as drawn; :class:`DatasetError` where it is missing, cannot be read, or is not square but must be."""
        if not self.path.exists():
            raise DatasetError(
                f"the ignore mask {self.path} does not exist",
                hint="correct its name; `rakelight detect train … --show-frame FILE.png` writes the picture to draw one on",
                code="image.missing",
            )
        if self.on is None:
            return read_ignore(self.path)
        drawn = images.read_image(self.path)
        return np.asarray(drawn.any(axis=2) if drawn.ndim == 3 else drawn > 0, np.bool_)

    def in_frame(
        self, drawn: NDArray[np.bool_], load: Callable[[SampleKey], Part], template: Template, size: int
    ) -> NDArray[np.bool_]:
        """(``size``, ``size``) of the working frame; ``load`` gives the sample in the template's pose.

        Raises :class:`DatasetError`: ``detect.ignore_size``, ``detect.ignore_empty``, ``detect.ignore_all``.
        """
        if self.on is not None:
            drawn = ignore_from_sample(drawn, load(self.on))
        return check_ignore(drawn, template, size)
