"""Which sample a file belongs to, by its name: never by its place in a list."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from rakelight.dataset import layout
from rakelight.dataset.index import iter_keys
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample, open_samples
from rakelight.errors import DatasetError

_KEY = re.compile(r"(?:^|/)([a-z0-9_]+/(?:OK|NG/[a-z0-9_]+)/S[0-9]{4})(?=$|[/.])")


class SampleNames:
    """Looks samples of a data set up by the names of their pictures or by their keys, also by those they had before they
    were given another label."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._keys = set(iter_keys(root / layout.RAW_FOLDER))
        self._former: dict[SampleKey, SampleKey] | None = None

    def find(self, names: Iterable[str]) -> SampleKey | None:
        """The sample of the first name that tells one; None if none does.

        A name of the released form must agree in category, number, label and time; the suffix does not matter, nor
        which of the pictures it is. Any other name counts by a key in it (``knob_cap/OK/S0001.json``).
        """
        for name in names:
            path = PurePosixPath(name)
            picture = next((p for s in ("jpg", "png") if (p := layout.parse_sample_file(f"{path.stem}.{s}"))), None)
            if picture is not None:
                key = self._now(picture[0])
                if key is not None and self._has_time(key, picture[2]):
                    return key
                continue
            found = _KEY.search(name)
            if found is not None and (key := self._now(SampleKey.parse(found[1]))) is not None:
                return key
        return None

    def _now(self, key: SampleKey) -> SampleKey | None:
        if key in self._keys and (self.root / key.raw_folder).is_dir():
            return key
        if self._former is None:
            self._former = _former_keys(self.root)
        return self._former.get(key)

    def relabelled(self, was: SampleKey, now: SampleKey) -> None:
        """Note that a sample has another label from now on."""
        self._keys.add(now)
        if self._former is not None:
            self._former = {old: now if new == was else new for old, new in self._former.items()} | {was: now}

    def _has_time(self, key: SampleKey, timestamp: str) -> bool:
        try:
            return OpenSample(self.root, key).manifest.timestamp == timestamp
        except DatasetError:
            return True  # damaged: found by its key, and told when it is opened


def _former_keys(root: Path) -> dict[SampleKey, SampleKey]:
    """Every key that a sample had before → its key."""
    former: dict[SampleKey, SampleKey] = {}
    for sample in open_samples(root):
        try:
            changes = sample.manifest.labels
            former |= {SampleKey.parse(change.was): sample.key for change in changes}
        except DatasetError:
            continue  # a damaged manifest names nobody; `verify` tells it
    return former
