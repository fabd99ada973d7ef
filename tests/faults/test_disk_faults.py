"""The k-th operation on the disk fails, for every k: a clear error, nothing lost, and the work goes on afterwards."""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakelight.dataset import journal
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset, DatasetWriter
from rakelight.errors import StorageError

TIME = "20251123021300"
SCRATCH1 = SampleKey("knob_cap", "scratch", 1)


class Fault:
    """Makes the k-th writing operation fail, and, as a full disk does, every one after it that needs room."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int, k: int, lasting: bool) -> None:
        self.number, self.k, self.lasting, self.calls = number, k, lasting, 0
        self.lock = threading.Lock()
        for name in ("fsync", "replace", "mkdir"):
            patch.setattr(os, name, self._counted(getattr(os, name)))
        patch.setattr(builtins, "open", self._open(builtins.open))
        patch.setattr(io, "open", builtins.open)

    def strike(self) -> None:
        with self.lock:
            self.calls += 1
            if self.calls == self.k or (self.lasting and self.calls > self.k):
                raise OSError(self.number, os.strerror(self.number))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.strike()
            return None if real.__name__ == "fsync" else real(*args, **options)

        return call

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            if set(mode) & set("wxa+"):
                self.strike()
            return real(file, mode, *rest, **options)

        return call


def content(label: str, seed: int) -> SampleContent:
    picture = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), np.uint8)
    return SampleContent("knob_cap", label, TIME, {5: picture}, capture={"seed": seed})


def mask() -> np.ndarray:
    drawn = np.zeros((8, 12), np.uint8)
    drawn[2:4, 3:6] = 255
    return drawn


CHANGES: dict[str, Callable[[DatasetWriter], Any]] = {
    "commit": lambda w: w.commit(content("OK", 9)),
    "relabel": lambda w: w.relabel(SCRATCH1, "OK"),
    "replace": lambda w: w.replace(SCRATCH1, content("scratch", 7)),
    "annotate": lambda w: w.annotate(SCRATCH1, {"n": 2}, mask()),
    "remove": lambda w: w.remove(SCRATCH1, "x"),
}


def state(dataset: Dataset) -> dict[str, dict[str, str]]:
    return {str(i.key): {f.path: f.sha256 for f in i.files if f.role != "manifest"} for i in dataset.samples()}


SLOW = ("replace", "annotate", "remove")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in CHANGES])
@pytest.mark.parametrize(("number", "lasting"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_fault_at_every_operation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, lasting: bool
) -> None:
    start = Dataset.init(tmp_path / "start", "x")
    with start.writer() as writer:
        writer.commit(content("OK", 1))
        writer.commit(content("scratch", 2))
    reference = Dataset.open(shutil.copytree(start.root, tmp_path / "reference"))
    with reference.writer() as writer:
        CHANGES[name](writer)
    old, new = state(start), state(reference)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    k, failed, finished = 0, 0, False
    while not finished:
        k += 1
        dataset = Dataset.open(shutil.copytree(start.root, tmp_path / str(k)))
        returned = False
        with dataset.writer() as writer:
            with pytest.MonkeyPatch.context() as patch:
                fault = Fault(patch, number, k, lasting)
                try:
                    CHANGES[name](writer)
                    returned = True
                except StorageError as e:
                    failed += 1
                    assert e.hint
                    assert ("disk full" in e.message) == (number == errno.ENOSPC)
                finished = fault.calls < k
            writer.commit(content("later", 4))  # room again: the same writer goes on
        with dataset.writer():
            pass
        found = state(dataset)
        assert found.pop("knob_cap/NG/later/S0001")
        assert found == new or (found == old and not returned), f"fault {k}"
        assert [p for i in dataset.samples() for p in dataset.verify_sample(i)] == []
        assert dataset.index_problems() == ()
        assert not (dataset.root / journal.JOURNAL_FILE).exists()
        shutil.rmtree(dataset.root)
    assert failed > 8
