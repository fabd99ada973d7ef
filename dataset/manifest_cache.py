"""``meta/manifest.jsonl``: every file of every sample with its size and SHA-256, published, and the cache of the listing.

One line a file; a sample's lines stand together, and the one of its ``manifest.json`` (role ``manifest``) stands last.
That closing line also holds a summary of the sample and, as its last key, the CRC-32 of the group up to there: so 10,000
samples are listed by parsing 10,000 lines, and damage anywhere is noticed all the same. A commit only appends. A changed
sample is appended again, a removed one as a closing line with ``"removed":true``: the last word counts, until the writer
closes and rewrites the file without what was superseded.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rakelight.dataset import layout
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.sample import SampleInfo
from rakelight.errors import DatasetError
from rakelight.files import atomic_write, make_folder

_CLOSING = b'"role":"manifest"'  # JSON escapes quotes, so no text inside a value can look like this
_CRC = b',"crc32":'
_NAMED = ("RGBL05", "MASK", "PS", "XYZ")  # what the released JSONs point at


class CachedFile(NamedTuple):
    """One file as ``manifest.jsonl`` tells it: a :class:`FileRecord`, made in a tenth of the time."""

    path: str
    bytes: int
    sha256: str
    role: str


@dataclass
class ManifestCache:
    """``manifest.jsonl`` as read.

    Attributes
    ----------
    infos : dict
        The samples it lists, without their ``files`` (see :meth:`records`).
    names : dict
        Of each sample, modality → file name, for the modalities that the released JSONs point at.
    seen : set
        Every key that ever stood in it, as far as it still tells.
    superseded : bool
        Whether it holds lines that later ones replace.
    problem : str
        What is wrong with the file, empty if nothing is; damaged groups are left out.
    """

    infos: dict[SampleKey, SampleInfo] = field(default_factory=dict)
    names: dict[SampleKey, dict[str, str]] = field(default_factory=dict)
    seen: set[SampleKey] = field(default_factory=set)
    superseded: bool = False
    problem: str = ""
    _data: bytes = b""
    _spans: dict[SampleKey, tuple[int, int]] = field(default_factory=dict)

    def text(self, key: SampleKey) -> bytes:
        """The sample's lines as they stand in the file."""
        start, end = self._spans[key]
        return self._data[start:end]

    def records(self, key: SampleKey) -> tuple[CachedFile, ...]:
        """Every file of a sample; the last one is its ``manifest.json``."""
        lines = json.loads("[" + self.text(key).decode("utf-8").rstrip("\n").replace("\n", ",") + "]")
        return tuple(CachedFile(x["path"], x["bytes"], x["sha256"], x["role"]) for x in lines)


def group(info: SampleInfo) -> bytes:
    """The lines of a sample whose ``files`` end with its manifest's."""
    *files, own = info.files
    lines = [_json({"sample": str(info.key), **f.model_dump()}) for f in files]
    names = {f.role: f.path.rsplit("/", 1)[-1] for f in files if f.role in _NAMED}
    summary = {
        "timestamp": info.timestamp,
        "specimen": info.specimen,
        "batch": info.batch,
        "simulated": info.simulated,
        "revision": info.revision,
        "modalities": list(info.modalities),
        "bytes": info.bytes,
        "names": names,
    }
    closing = _json({"sample": str(info.key), **own.model_dump(), "summary": summary})
    return _closed("".join(f"{line}\n" for line in lines) + closing)


def removal(key: SampleKey) -> bytes:
    """The line that takes a sample off the list."""
    return _closed(_json({"sample": str(key), "role": "manifest", "removed": True}))


def read_cache(root: Path) -> ManifestCache:
    """Read ``manifest.jsonl``; an absent file is an empty one, damage is noted, not raised.

    Raises :class:`DatasetError` (``dataset.unreadable``) only if the file cannot be read at all.
    """
    cache = ManifestCache()
    path = root / layout.MANIFEST_FILE
    try:
        cache._data = path.read_bytes()
    except FileNotFoundError:
        return cache  # a new data set; if there are samples, they are missing from it and that is told
    except OSError as e:
        raise DatasetError(
            f"{path} cannot be read: {e.strerror or e}",
            hint="check its permissions and the disk; `rakelight dataset repair` makes it anew from the folders",
            code="dataset.unreadable",
        ) from e
    start = 0
    while (at := cache._data.find(_CLOSING, start)) >= 0 and (end := cache._data.find(b"\n", at) + 1):
        if not _take(cache, start, end) and not cache.problem:
            cache.problem = f"manifest.jsonl is damaged near line {cache._data.count(10, 0, end)}"
        start = end
    if start != len(cache._data) and not cache.problem:
        cache.problem = "manifest.jsonl breaks off within a sample"
    if cache.problem:
        cache.seen.update(_mentioned(cache._data))
    return cache


def write_cache(root: Path, groups: Iterable[bytes]) -> None:
    """Write ``manifest.jsonl`` anew, streamed. Raises :class:`StorageError`."""
    make_folder(root / layout.META_FOLDER)
    with atomic_write(root / layout.MANIFEST_FILE) as handle:
        for text in groups:
            handle.write(text)


def _take(cache: ManifestCache, start: int, end: int) -> bool:
    """Note the group of ``data[start:end]``; false if it is damaged."""
    group = cache._data[start:end]
    crc = group.rfind(_CRC)
    line = group[group.rfind(b"\n", 0, -1) + 1 :]
    try:
        if crc < 0 or zlib.crc32(group[:crc]) != int(group[crc + len(_CRC) : -2]):
            return False
        closing = json.loads(line.decode("utf-8"))
        key = SampleKey.parse(closing["sample"])
        if closing.get("removed") is True:
            cache.superseded = True
            cache.seen.add(key)
            cache.infos.pop(key, None)
            cache.names.pop(key, None)
            cache._spans.pop(key, None)
            return True
        summary = closing["summary"]
        info = SampleInfo(
            key,
            summary["timestamp"],
            specimen=summary["specimen"],
            batch=summary["batch"],
            simulated=summary["simulated"],
            revision=summary["revision"],
            listed=tuple(summary["modalities"]),
            listed_bytes=summary["bytes"],
        )
        names = dict(summary["names"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, DatasetError):
        return False
    cache.superseded |= key in cache.infos
    cache.infos[key], cache.names[key], cache._spans[key] = info, names, (start, end)
    cache.seen.add(key)
    return True


def _mentioned(data: bytes) -> Iterator[SampleKey]:
    """The samples that a damaged file still names, so that their numbers are not given again."""
    for raw in data.split(b"\n"):
        try:
            yield SampleKey.parse(json.loads(raw)["sample"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, DatasetError):
            continue  # a damaged line names nobody; that the file is damaged is told


def _json(line: dict[str, object]) -> str:
    return json.dumps(line, separators=(",", ":"))


def _closed(group: str) -> bytes:
    """The group with the CRC-32 of its text as the last key."""
    text = group.removesuffix("}").encode("utf-8")
    return text + _CRC + str(zlib.crc32(text)).encode("ascii") + b"}\n"
