"""A recording that was just captured → a part for a detector, and its capture statistics, without a data set in between.

The part is what `rakelight dataset add` and a look at the stored sample would give: the same pictures with the tone of the
calibration, through the same JPEG, the same encoding of the normals, points in mm.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset import images, layout
from rakelight.dataset.recording import Recording
from rakelight.dataset.sample import SampleContent, Source
from rakelight.detection.detector import Detector
from rakelight.detection.parts import Part, from_arrays
from rakelight.pipeline.dataset_add import Derivation
from rakelight.pipeline.reconstruct import Reconstruction
from rakelight.pipeline.sample import make_sample


@dataclass(frozen=True, eq=False)
class LivePart:
    """A part that was just captured; ``content`` is what its sample would hold."""

    part: Part
    content: SampleContent


def live_part(
    recording: Recording,
    result: Reconstruction,
    detector: Detector,
    calibration: RigCalibration,
    derivation: Derivation | None = None,
) -> LivePart:
    """The part of a reconstructed recording in the detector's frame; its label is not known.

    Raises
    ------
    DatasetError
        The recording shows no part, or :func:`rakelight.detection.parts.from_arrays` cannot use it (nothing in front of the
        background, no measured point).
    """
    chosen = derivation or Derivation()
    content = make_sample(
        recording,
        result,
        calibration=calibration,
        category=detector.category,
        label=layout.OK,  # a sample needs one; the part's own stays open
        ps=chosen.ps,
        source=Source(recording_id=recording.info.recording_id, settings=chosen.to_plain()),
    )
    pictures = [content.rgb.get(layout.REFERENCE_VIEW), content.ps]
    with ThreadPoolExecutor(len(pictures)) as pool:
        rgb, ps = pool.map(_stored, pictures)
    part = from_arrays(
        recording.info.part_id,
        rgb=rgb,
        ps=ps,
        xyz=content.xyz,
        mask=content.part_mask,
        pitch_mm=content.pitch_mm,
        ps_encoding=chosen.ps,
        specimen=content.specimen,
        size=detector.method.size,
        template=detector.template,
        ignore=detector.ignore,
    )
    return LivePart(part, content)


def _stored(picture: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
    """As a data set stores it."""
    if picture is None:
        return None
    return np.asarray(images.read_image(Path("picture.jpg"), data=bytes(images.encode_jpeg(picture))), np.uint8)
