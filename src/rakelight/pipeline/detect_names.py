"""Names that a person typed, against those that a data set has: what is not there is told with what is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample, open_samples
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError

_MOST_NAMES = 12


def check_category(dataset: Dataset, category: str) -> None:
    """Raise :class:`DatasetError` (``detect.no_category``) unless the data set has samples of that category."""
    there = dataset.categories()
    if category not in there:
        raise DatasetError(
            f"{dataset.root} has no category {category!r}; it has: {listed(there)}",
            hint=f"{did_you_mean(category, there)}`rakelight dataset stats` lists categories and counts their parts",
            code="detect.no_category",
        )


def check_labels(dataset: Dataset, category: str, labels: Iterable[str]) -> None:
    """Raise :class:`DatasetError` (``detect.no_sample``) for a label that no sample of the category has."""
    there = sorted({sample.key.label for sample in open_samples(dataset.root, category)})
    for label in labels:
        if label not in there:
            raise DatasetError(
                f"{dataset.root} has no sample of {category!r} labelled {label!r}; its labels: {listed(there)}",
                hint=f"{did_you_mean(label, there)}`rakelight dataset stats` counts the parts of each label",
                code="detect.no_sample",
            )


def named_sample(dataset: Dataset, key: SampleKey) -> OpenSample:
    """The sample, whose manifest is there.

    Raises :class:`DatasetError`: ``dataset.no_sample``, with what there is instead; what reading the manifest raises.
    """
    sample = OpenSample(dataset.root, key)
    try:
        _ = sample.manifest
    except DatasetError as error:
        if error.code != "dataset.no_sample":
            raise
        raise _no_sample(dataset, key) from error
    return sample


def _no_sample(dataset: Dataset, key: SampleKey) -> DatasetError:
    categories = dataset.categories()
    known = [sample.key for sample in open_samples(dataset.root, key.category)] if key.category in categories else []
    labels = sorted({one.label for one in known})
    if not known:
        lacks, near = f"the data set has: {listed(categories)}", did_you_mean(key.category, categories)
    elif key.label not in labels:
        lacks, near = f"labels of {key.category}: {listed(labels)}", did_you_mean(key.label, labels)
    else:
        same = [str(one) for one in known if one.label == key.label]
        lacks, near = f"of {key.class_folder} there are: {listed(one.rsplit('/', 1)[-1] for one in same)}", ""
    return DatasetError(
        f"{dataset.root} has no sample {key}; {lacks}",
        hint=f"{near}`rakelight dataset show` lists the samples",
        code="dataset.no_sample",
    )


def listed(names: Iterable[str]) -> str:
    """At most a dozen names, and how many more there are."""
    found = list(names)
    more = f" … ({len(found)})" if len(found) > _MOST_NAMES else ""
    return (", ".join(found[:_MOST_NAMES]) + more) or "none"


def did_you_mean(name: str, there: Iterable[str]) -> str:
    """A question to put before a hint, or nothing where no name is near."""
    near = difflib.get_close_matches(name, list(there), n=1)
    return f"did you mean {near[0]!r}? " if near else ""
