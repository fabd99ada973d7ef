"""Which good part of a data set to teach a detector next."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample, open_samples
from rakelight.dataset.writer import Dataset
from rakelight.detection.detector import Detector
from rakelight.detection.foreground import MaskCache
from rakelight.detection.next_part import Candidate, farthest_first
from rakelight.detection.parts import Part
from rakelight.errors import DatasetError
from rakelight.pipeline.detect_names import named_sample
from rakelight.pipeline.detect_teach import check_good, knows, load_for

Progress = Callable[[int, int], None]


def next_parts(
    dataset: Dataset,
    detector: Detector,
    keys: Sequence[SampleKey] = (),
    *,
    count: int = 5,
    progress: Progress = lambda *_: None,
) -> tuple[list[Candidate], int]:
    """Those of ``keys`` (all good parts of the model's product, if empty) to show next, and of how many they were chosen.

    Parts that the model knows are passed over. Raises :class:`DatasetError`: ``detect.not_good`` for a part that is labelled
    defective, ``detect.nothing_to_teach`` if none is left, and what loading raises.
    """
    check_good(keys)
    taught = {part.key for part in detector.parts}
    among = list(keys) or [s.key for s in open_samples(dataset.root, detector.category) if s.key.is_ok]
    left = [str(key) for key in among if str(key) not in taught and not knows(detector, named_sample(dataset, key))]
    if not left:
        raise DatasetError(
            f"all {len(among)} good parts of {detector.category} in {dataset.root} are taught already",
            hint="capture more good parts, and add them with `rakelight dataset add … --label OK`",
            code="detect.nothing_to_teach",
        )
    cache = MaskCache()

    def load(key: str) -> Part:
        return load_for(detector, OpenSample(dataset.root, SampleKey.parse(key)), cache)

    return farthest_first(detector, left, load, count=count, progress=progress), len(left)
