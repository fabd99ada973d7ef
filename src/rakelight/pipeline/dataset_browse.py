"""A data set as a folder of pages that any web browser opens from the disk.

::

    index.html                       overview with filters
    gallery.json                     says that the folder is a gallery, and of which data set
    samples/<key>/index.html         one page a sample
    samples/<key>/*.jpg sample.json  its pictures and what they were made of

A sample's pictures are drawn again only if its ``manifest.json`` has changed, which states the hash of every file. Pages are
made anew each time, which is quick, and written where they differ. A sample's folder arrives whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rakelight import files
from rakelight.config import validate
from rakelight.dataset import layout
from rakelight.dataset.annotations import read_annotation
from rakelight.dataset.checks import QC_FILE
from rakelight.dataset.index import iter_keys
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample, open_samples
from rakelight.dataset.reading_ahead import read_ahead
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, InputError, RakelightError, StorageError
from rakelight.folders import staged_folder
from rakelight.pipeline.browse_pages import Around, Card, index_page, sample_page
from rakelight.pipeline.browse_pictures import RENDERING, DrawnSample, draw_sample
from rakelight.pipeline.dataset_stats import check_category_there

MARKER = "gallery.json"
SAMPLES = "samples"
_SAMPLE_FILE, _PAGE = "sample.json", "index.html"

Progress = Callable[..., None]


@dataclass(frozen=True)
class Gallery:
    """What was made: the overview's path, samples in it, how many were drawn, kept and removed, and problems by sample."""

    index: Path
    samples: int
    drawn: int
    kept: int
    removed: int
    problems: Mapping[str, str]


def write_gallery(
    dataset: Dataset,
    folder: str | Path,
    *,
    category: str | None = None,
    progress: Progress = lambda *_: None,
) -> Gallery:
    """Make or renew the gallery of a data set, or of one category of it, in ``folder``.

    Parameters
    ----------
    progress : callable
        Called with (samples done, samples).

    Raises
    ------
    InputError
        ``gallery.inside`` for a folder in the data set, ``dataset.category_unknown``.
    StorageError
        ``storage.exists`` if the folder holds something else; it cannot be written. A damaged sample is told in
        ``problems``, not raised.
    """
    folder = Path(folder).absolute()
    samples = list(open_samples(dataset.root, category))
    check_category_there(dataset.root, category, bool(samples))
    _claim(dataset, folder)
    removed = _remove_gone(folder, set(iter_keys(dataset.root / layout.RAW_FOLDER)))
    cards: list[Card] = []
    unreadable: dict[str, str] = {}
    drawn = 0
    for number, (sample, ahead) in enumerate(read_ahead(partial(_sample, folder), samples), 1):
        try:
            card, is_new = ahead.result()
            cards.append(card)
            drawn += is_new
        except StorageError:
            raise
        except RakelightError as error:
            unreadable[str(sample.key)] = error.message
        progress(number, len(samples))
    _write_pages(dataset, folder, cards, unreadable)
    problems = unreadable | {str(c.key): "; ".join(c.drawn.problems) for c in cards if c.drawn.problems}
    return Gallery(folder / _PAGE, len(cards), drawn, len(cards) - drawn, removed, problems)


def _claim(dataset: Dataset, folder: Path) -> None:
    """Make the folder a gallery of this data set, or see that it is one."""
    if folder.resolve().is_relative_to(dataset.root.resolve()):
        raise InputError(
            f"{folder} lies in the data set {dataset.root}; what is published must not hold the gallery",
            hint="choose a folder beside it",
            code="gallery.inside",
        )
    marker = folder / MARKER
    if marker.is_file():
        stored = files.read_json(marker, error=DatasetError)
        name = stored.get("dataset") if isinstance(stored, dict) else None
        if name != dataset.info.name:
            raise StorageError(
                f"{folder} is the gallery of data set {name!r}, not of {dataset.info.name!r}",
                hint="choose another folder, or remove that one",
                code="storage.exists",
            )
        return
    files.make_folder(folder)
    if any(folder.iterdir()):
        raise StorageError(
            f"{folder} is not empty and holds no {MARKER}, so it is no gallery",
            hint="choose a new or empty folder",
            code="storage.exists",
        )
    files.write_json(marker, {"schema": 1, "kind": "rakelight-gallery", "dataset": dataset.info.name})


def _remove_gone(folder: Path, there: set[SampleKey]) -> int:
    """Remove the folders of samples that the data set no longer has; only those that we wrote."""
    gone = [key for key in iter_keys(folder / SAMPLES) if key not in there]
    count = 0
    for key in gone:
        place = folder / SAMPLES / str(key)
        if (place / _SAMPLE_FILE).is_file() and not place.is_symlink():
            with files.told(place):
                shutil.rmtree(place)
            count += 1
    return count


# -------------------------------------------------------------------------------------------------------------- samples
def _sample(folder: Path, sample: OpenSample) -> tuple[Card, bool]:
    """The sample's pictures, drawn unless they are up to date; and whether they were drawn."""
    place = folder / SAMPLES / str(sample.key)
    manifest = sample.manifest
    sha256 = files.sha256_file(sample.root / sample.key.extras_folder / layout.SAMPLE_MANIFEST)
    before = _drawn_before(place)
    if before is not None and (before.rendering, before.manifest_sha256) == (RENDERING, sha256) and not before.problems:
        return Card(manifest, before), False
    with staged_folder(place, overwrite=True, marker=_SAMPLE_FILE) as staging:
        drawn = draw_sample(sample, staging, sha256)
        (staging / _SAMPLE_FILE).write_bytes(files.json_bytes(drawn.model_dump(mode="json")))
    return Card(manifest, drawn), True


def _drawn_before(place: Path) -> DrawnSample | None:
    """What an earlier run drew; None if that is not there in full."""
    with contextlib.suppress(RakelightError):
        stored = files.read_json(place / _SAMPLE_FILE, error=DatasetError)
        found = validate(stored, DrawnSample, source=str(place / _SAMPLE_FILE), error=DatasetError)
        names = [p.file for p in found.pictures] + [f"thumb_{role}.jpg" for role in found.thumbs]
        if all("/" not in n and (place / n).is_file() for n in names):
            return found
    return None


# ---------------------------------------------------------------------------------------------------------------- pages
def _write_pages(dataset: Dataset, folder: Path, cards: Sequence[Card], unreadable: Mapping[str, str]) -> None:
    findings = _findings(dataset.root)
    folder_of = {c.key: f"{SAMPLES}/{c.key}/" for c in cards}
    for number, card in enumerate(cards):
        up = "../" * (len(folder_of[card.key].split("/")) - 1)
        before = cards[number - 1].key if number else None
        after = cards[number + 1].key if number + 1 < len(cards) else None
        around = Around(
            up + _PAGE,
            None if before is None else f"{up}{folder_of[before]}{_PAGE}",
            None if after is None else f"{up}{folder_of[after]}{_PAGE}",
        )
        sample = OpenSample(dataset.root, card.key)
        text = sample_page(card, around, findings.get(str(card.key), ()), _review(sample))
        _write_if_new(folder / folder_of[card.key] / _PAGE, text)
    _write_if_new(folder / _PAGE, index_page(dataset.info.name, cards, folder_of, unreadable))


def _write_if_new(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):
        if path.read_bytes() == text.encode("utf-8"):
            return
    files.write_text(path, text)


def _review(sample: OpenSample) -> str:
    """Who drew the annotation and what a reviewer said."""
    try:
        annotation = read_annotation(sample)
    except RakelightError as error:
        return f"cannot be read: {error.message}"
    if annotation is None:
        return ""
    review = annotation.review
    by = f" by {review.by}" if review.by else ""
    drawn = f", drawn by {annotation.annotator}" if annotation.annotator else ""
    return f"{len(annotation.regions)} region(s){drawn}; {review.state}{by}, {review.utc}"


def _findings(root: Path) -> dict[str, list[str]]:
    """What the last check said, by sample; a line that cannot be read says nothing."""
    found: dict[str, list[str]] = defaultdict(list)
    with contextlib.suppress(OSError):
        for line in (root / QC_FILE).read_bytes().splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                finding = json.loads(line)
                found[str(finding["sample"])].append(f"{finding['severity']} [{finding['check']}]: {finding['what']}")
    return found
