"""A data set's good parts → a taught detector."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.dataset import layout
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample, open_samples
from rakelight.dataset.split_files import OFFICIAL, SPLITS_FOLDER, read_split
from rakelight.dataset.writer import Dataset
from rakelight.detection.conformal import ALPHAS, Promise, needed_parts
from rakelight.detection.detector import Detector, TaughtPart
from rakelight.detection.features.base import Extractor, make_extractor
from rakelight.detection.features.health import check_parts
from rakelight.detection.foreground import MaskCache
from rakelight.detection.methods import Method
from rakelight.detection.native import MODALITIES, Modality
from rakelight.detection.parts import Part, load_part
from rakelight.detection.registration import Template, make_template
from rakelight.detection.teaching import teach
from rakelight.errors import DatasetError
from rakelight.files import canonical_json, sha256_bytes
from rakelight.pipeline.capture_facts import sample_statistics
from rakelight.pipeline.detect_names import check_category
from rakelight.pipeline.heat_scale import Rgb
from rakelight.pipeline.ignore_drawing import IgnoreDrawing
from rakelight.pipeline.thinned_sample import Opener
from rakelight.pipeline.verdict_pictures import plain_picture

Progress = Callable[[str, int, int], None]


def good_keys(
    dataset: Dataset, category: str, split: str | None = None, *, limit: int | None = None
) -> list[SampleKey]:
    """The good parts to teach: those of the split's training part (``official`` if there is one), else all.

    ``limit`` takes the first so many. Raises :class:`DatasetError`: ``detect.no_category``; ``detect.no_good_parts`` if there
    is none.
    """
    check_category(dataset, category)
    keys = [s.key for s in open_samples(dataset.root, category) if s.key.is_ok]
    subsets = subset_of(dataset, split)
    if subsets is not None:
        keys = [key for key in keys if subsets.get(str(key)) == "train"]
    if not keys:
        raise DatasetError(
            f"{dataset.root} has no good part of {category!r}"
            + (" in the training part of the split" if subsets else ""),
            hint="add good parts with `rakelight dataset add … --label OK`; `rakelight dataset stats` counts what is there",
            code="detect.no_good_parts",
        )
    return keys[:limit]


def subset_of(dataset: Dataset, split: str | None = None) -> dict[str, str] | None:
    """Sample key → subset of a split; None if none is named and there is no official one."""
    if split is None and not (dataset.root / SPLITS_FOLDER / f"{OFFICIAL}.json").is_file():
        return None
    found = read_split(dataset.root, split or OFFICIAL)
    if len(found) > 1:
        raise DatasetError(
            f"split {split} has {len(found)} folds; one is needed",
            hint=f"name one of them: {', '.join(f'{s.name}_fold{s.fold}of{len(found)}' for s in found[:3])} …",
            code="split.folds",
        )
    return found[0].subset_of()


def teach_category(
    dataset: Dataset,
    category: str,
    keys: Sequence[SampleKey],
    method: Method,
    *,
    turns: bool = True,
    device: str = "cpu",
    weights: Mapping[Modality, Path] | None = None,
    ignore: IgnoreDrawing | None = None,
    opened: Opener = OpenSample,
    progress: Progress = lambda *_: None,
) -> tuple[Detector, list[str]]:
    """Teach ``method`` the good parts ``keys``; returns the detector and warnings about its inputs. ``opened`` opens them;
    pixels of ``ignore`` are never judged.

    Raises
    ------
    DatasetError
        Fewer than 3 parts, a sample that cannot be read, a modality that none of them has, an ignore mask that does not fit.
    ModelError
        Weights that are not there or not what they should be.
    """
    extractors = extractors_of(method, device=device, weights=weights)
    drawn = None if ignore is None else ignore.read()  # what cannot be read is refused before parts are
    samples = [opened(dataset.root, key) for key in keys]
    cache = MaskCache()
    template = make_template(
        _loaded(samples, method, None, cache, lambda n: progress("template", n, len(samples))), turns=turns
    )
    hidden = None
    if ignore is not None and drawn is not None:

        def in_pose(key: SampleKey) -> Part:
            return load_part(opened(dataset.root, key), size=method.size, template=template)

        hidden = ignore.in_frame(drawn, in_pose, template, method.size)
    parts = list(_loaded(samples, method, template, cache, lambda n: progress("parts", n, len(samples)), hidden))
    warnings = [found.message for found in check_parts(parts)]
    taught = [taught_part(s, part, n) for n, (s, part) in enumerate(zip(samples, parts, strict=True))]
    facts = {"dataset": dataset.info.name, "turns": turns, "warnings": warnings}
    detector = teach(
        parts,
        taught,
        method,
        extractors,
        category=category,
        template=template,
        ignore=hidden,
        facts=facts,
        progress=progress,
    )
    return detector, list(detector.facts["warnings"])


def next_steps(dataset: Dataset, detector: Detector, promise: Promise, model: Path) -> list[str]:
    """How to go on with a model that has just been taught: commands, each with what it is for."""
    taught = {part.key for part in detector.parts}
    left = sum(s.key.is_ok and str(s.key) not in taught for s in open_samples(dataset.root, detector.category))
    steps = []
    if not promise.possible:
        known = max(1, promise.parts)
        level = next((a for a in reversed(ALPHAS) if known >= needed_parts(a)), math.ceil(100 / (known + 1)) / 100)
        steps.append(
            f"at {promise.alpha:g} nothing is rejected yet; `rakelight detect score {model} {dataset.root} --alpha {level:g}` "
            "rejects at the level that so many parts allow"
        )
    else:
        steps.append(f"`rakelight detect score {model} {dataset.root}` judges parts")
    more = (
        f"{left} more good part{'s' * (left != 1)} in the data set"
        if left
        else "capture more good parts and add them, then"
    )
    steps.append(f"{more}{':' if left else ''} `rakelight detect next {model} {dataset.root}` says which teach most")
    return steps


def working_picture(
    dataset: Dataset, keys: Sequence[SampleKey], method: Method, *, turns: bool = True, enlarged: int = 4
) -> tuple[Rgb, str]:
    """The frame in which ``keys`` would be taught, ``enlarged`` times, to draw an ignore mask on; and whose picture it is."""
    samples = [OpenSample(dataset.root, key) for key in keys]
    template = make_template(_loaded(samples, method, None, MaskCache(), lambda _: None), turns=turns)
    part = load_part(OpenSample(dataset.root, SampleKey.parse(template.key)), size=method.size, template=template)
    picture = plain_picture(part, next(m for m in MODALITIES if m in part.available))
    side = (enlarged * part.size,) * 2
    return np.asarray(cv2.resize(picture, side, interpolation=cv2.INTER_CUBIC), np.uint8), template.key


def extractors_of(
    method: Method, *, device: str = "cpu", weights: Mapping[Modality, Path] | None = None
) -> dict[Modality, Extractor]:
    """The extractors that a method names; RGB and pseudo-3D share weights, each has its own."""
    made = {
        modality: make_extractor(
            name,
            modality=modality,
            weights=(weights or {}).get(modality),
            taps=method.taps.get(modality),
            device=device,
            settings=method.settings.get(modality),
        )
        for modality, name in method.features.items()
    }
    for extractor in made.values():
        extractor.grid(method.size)  # a size that it cannot take is refused before parts are read
    return made


def load_for(detector: Detector, sample: OpenSample, cache: MaskCache | None = None) -> Part:
    """A sample in the frame that the detector was taught in."""
    return load_part(sample, size=detector.method.size, template=detector.template, ignore=detector.ignore, cache=cache)


def edited_since(dataset: Dataset, detector: Detector) -> list[str]:
    """Which of the parts taught are no longer what they were, or no longer there."""
    told = []
    for part in detector.parts:
        sample = OpenSample(dataset.root, SampleKey.parse(part.key))
        if not (dataset.root / sample.key.raw_folder).is_dir():
            told.append(f"{part.key} is no longer in the data set (removed or relabelled)")
        elif part.sha256 and sample_hash(sample) != part.sha256:
            told.append(f"{part.key} has changed since it was taught")
    return told


def check_good(keys: Sequence[SampleKey]) -> None:
    """Raise :class:`DatasetError` (``detect.not_good``) for a sample that is labelled defective: it is not to be taught."""
    bad = [key for key in keys if not key.is_ok]
    if bad:
        raise DatasetError(
            f"{bad[0]} is labelled {bad[0].label}; only good parts are taught",
            hint="relabel it first if it is good: rakelight dataset relabel",
            code="detect.not_good",
        )


def taught_part(sample: OpenSample, part: Part, number: int = -1) -> TaughtPart:
    """What a detector remembers of a part besides its features."""
    return TaughtPart(number, str(sample.key), sample_hash(sample), sample_statistics(sample), part.specimen)


def knows(detector: Detector, sample: OpenSample) -> bool:
    """Whether the detector was taught this very part: the same files, whatever the data set that holds them."""
    return sample_hash(sample) in {part.sha256 for part in detector.parts if part.sha256}


def sample_hash(sample: OpenSample) -> str:
    """What a sample's pictures and maps are, as one hash: of the hashes of its modalities."""
    found = {f.role: f.sha256 for f in sample.manifest.files if f.role in layout.MODALITIES and f.role != "MASK"}
    return sha256_bytes(canonical_json(found).encode())


def _loaded(
    samples: Sequence[OpenSample],
    method: Method,
    template: Template | None,
    cache: MaskCache,
    step: Callable[[int], Any],
    ignore: NDArray[np.bool_] | None = None,
) -> Iterable[Part]:
    for number, sample in enumerate(samples):
        step(number)
        yield load_part(sample, size=method.size, template=template, ignore=ignore, cache=cache)
