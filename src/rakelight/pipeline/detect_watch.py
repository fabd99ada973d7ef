"""Judging part after part as they come: verdicts as lines, times, drift, and what it comes to in the end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rakelight import files
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.new_samples import NewSamples
from rakelight.dataset.opened import OpenSample
from rakelight.detection import model_file
from rakelight.detection.detector import Detector, Verdict
from rakelight.detection.drift import DriftVerdict
from rakelight.detection.foreground import MaskCache
from rakelight.detection.parts import Part, from_arrays
from rakelight.errors import RakelightError
from rakelight.pipeline.capture_facts import sample_statistics
from rakelight.pipeline.detect_teach import knows, load_for
from rakelight.pipeline.drift_watch import DriftWatch, drift_dict
from rakelight.pipeline.heat_scale import heat_scale
from rakelight.pipeline.verdict_sheets import write_verdict_pictures
from rakelight.pipeline.verdict_text import explanation, verdict_dict

POLL_S = 0.15
_TIMES = 100_000  # of the last parts, for the summary

Statistics = Callable[[], Mapping[str, float]]


class CycleClock:
    """Milliseconds of each kind of work on one part, and of all of it."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._ms: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._ms[name] = round(self._ms.get(name, 0.0) + 1e3 * (time.perf_counter() - began), 1)

    def read(self) -> dict[str, float]:
        """``total`` is up to now."""
        return self._ms | {"total": round(1e3 * (time.perf_counter() - self._began), 1)}


@dataclass(frozen=True, eq=False)
class Judged:
    """One part: its line (:meth:`Station.judge` says what is in it), and what it was made of, None where that failed."""

    line: dict[str, Any]
    part: Part | None = None
    verdict: Verdict | None = None
    drift: DriftVerdict | None = None


@dataclass(eq=False)
class Station:
    """A detector at work: judges, counts, and keeps the drift monitor.

    Parameters
    ----------
    detector : Detector
    model : Path
        Its folder, named in every line together with the SHA-256 of its document.
    alpha : float
        False-alarm level.
    """

    detector: Detector
    model: Path
    drift: DriftWatch
    alpha: float = 0.05
    device: str = "cpu"
    rejected: int = 0
    errors: int = 0
    judged: int = 0
    run: str = field(default_factory=lambda: _utc())
    _total_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_TIMES))

    def __post_init__(self) -> None:
        self._scale = heat_scale(self.detector)
        self._about = {
            "path": str(self.model),
            "sha256": self.drift.model_sha256,
            "method": self.detector.method.name,
            "category": self.detector.category,
        }
        self._masks = MaskCache()
        self._beside = ThreadPoolExecutor(1, "statistics")

    def warm_up(self) -> float:
        """Score a part drawn from the template twice, so that the first real one takes no longer than the others.

        Returns the seconds that the second time took.
        """
        part, began = drawn_part(self.detector), 0.0
        for _ in range(2):
            began = time.perf_counter()
            self.detector.score(part, alpha=self.alpha, device=self.device)
        return time.perf_counter() - began

    def judge_sample(self, sample: OpenSample) -> Judged:
        """Judge a committed sample; what is wrong with it becomes an error line."""
        clock = CycleClock()
        try:
            with clock.step("load"):
                _ = sample.manifest  # read once, for both threads
                beside = self._beside.submit(sample_statistics, sample)
                part = load_for(self.detector, sample, self._masks)
            return self.judge(part, beside, clock, **({"taught": True} if knows(self.detector, sample) else {}))
        except RakelightError as error:
            return self.failed(str(sample.key), error, clock)

    def judge(self, part: Part, statistics: Future[dict[str, float]], clock: CycleClock, **more: Any) -> Judged:
        """Judge a part.

        The line: ``event`` "verdict", ``sequence`` from 1, ``run`` and ``utc``, ``model``, ``alpha``, all of
        :func:`verdict_dict`, ``ms`` by kind of work, ``drift``, ``capture`` (the statistics) and ``more``: ``taught`` where the
        model knows this very part, so that its score says nothing of drift. Raises what scoring raises; statistics that cannot
        be had are told in ``warnings``.
        """
        with clock.step("score"):
            verdict = self.detector.score(part, alpha=self.alpha, device=self.device)
        warnings = list(more.pop("warnings", []))
        try:
            capture = statistics.result()
        except RakelightError as error:
            capture = {}
            warnings.append(f"no capture statistics: {error.message}")
        warnings += self.drift.unlike(capture)
        score = None if more.get("taught") else verdict.judgement.score
        drift = self.drift.update(score, capture, rejected=verdict.judgement.rejected)
        told = verdict_dict(part, verdict, self.detector.method, self._scale)
        self.judged += 1
        self.rejected += told["rejected"]
        line = self._head("verdict", clock) | told | {"alpha": self.alpha, "drift": drift_dict(drift)}
        line |= {"capture": {name: round(value, 6) for name, value in capture.items()}, "warnings": warnings, **more}
        self._total_ms.append(line["ms"]["total"])
        return Judged(line, part, verdict, drift)

    def failed(self, key: str, error: RakelightError, clock: CycleClock, **more: Any) -> Judged:
        """A part without a verdict. Its line has ``event`` "error", ``rejected`` None, and ``error``: code, message, hint."""
        self.errors += 1
        told = {"code": error.code, "message": error.message, "hint": error.hint}  # a capture's checks would be long
        line = self._head("error", clock) | {"key": key, "rejected": None, "error": told}
        return Judged(line | more)

    def _head(self, event: str, clock: CycleClock) -> dict[str, Any]:
        number = self.judged + self.errors
        return {
            "event": event,
            "sequence": number,
            "run": self.run,
            "utc": _utc(),
            "model": self._about,
            "ms": clock.read(),
        }

    def draw(self, folder: Path, judged: Judged) -> list[Path]:
        """Heat pictures and sheet of a part, named by its number in the run and its key."""
        if judged.part is None or judged.verdict is None:
            return []
        return write_verdict_pictures(
            folder, self.picture_stem(judged.line), judged.part, judged.verdict, self.detector
        )

    @staticmethod
    def picture_stem(line: Mapping[str, Any]) -> str:
        return f"{line['sequence']:05d}_{line['key'].replace('/', '_')}"

    def summary(self, ended: str) -> dict[str, Any]:
        """What it comes to: ``event`` "summary", counts, cycle time in ms, drift, and why it ended."""
        times = np.asarray(self._total_ms)
        spread = {
            "median": round(float(np.median(times)), 1) if len(times) else None,
            "p95": round(float(np.percentile(times, 95)), 1) if len(times) else None,
            "max": round(float(times.max()), 1) if len(times) else None,
        }
        return {
            "event": "summary",
            "run": self.run,
            "utc": _utc(),
            "model": self._about,
            "parts": self.judged,
            "rejected": self.rejected,
            "errors": self.errors,
            "cycle_ms": spread,
            "drift": drift_dict(self.drift.monitor.verdict()),
            "ended": ended,
        }

    def close(self) -> None:
        self._beside.shutdown(wait=False, cancel_futures=True)

    def submit(self, statistics: Callable[[], dict[str, float]]) -> Future[dict[str, float]]:
        """Work out capture statistics beside the scoring."""
        return self._beside.submit(statistics)


def follow(
    samples: NewSamples,
    *,
    wait: Callable[[float], bool],
    timeout_s: float | None = None,
    poll_s: float = POLL_S,
) -> Iterator[SampleKey]:
    """New samples as they come, until ``wait`` (which sleeps so many seconds) says True or none came for ``timeout_s``."""
    last = time.monotonic()
    while True:
        found = samples.look()
        for key in found:
            yield key
            if wait(0):
                return
        if found:
            last = time.monotonic()
            continue
        left = poll_s if timeout_s is None else min(poll_s, last + timeout_s - time.monotonic())
        if left < 0 or wait(left):
            return


def model_sha256(model: Path) -> str:
    """Of the model's document, which holds the SHA-256 of its arrays."""
    return files.sha256_file((model if model.is_dir() else model.parent) / model_file.DOCUMENT)


def drawn_part(detector: Detector) -> Part:
    """A part made of the detector's template, with all modalities: to warm up, not to judge."""
    template, method = detector.template, detector.method
    size = template.native_size if template is not None else (method.size, method.size)
    side = round(template.side_px) if template is not None else method.size * 3 // 4
    shape = template.mask.astype(np.float32) if template is not None else np.ones((side, side), np.float32)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    mask = _laid(shape, side, size, top, left) > 0.5
    look = template.pictures.get("rgb", shape) if template is not None else shape
    grey = _laid(np.nan_to_num(np.asarray(look, np.float32)), side, size, top, left)
    grey = 40 + 160 * (grey - grey.min()) / max(float(np.ptp(grey)), 1e-6)
    grain = np.random.default_rng(0).normal(0, 2, (*size, 3))
    pitch = (template.pitch_mm if template is not None else None) or 1.0
    v, u = np.indices(size, dtype=np.float32)
    z = np.full(size, (template.z_mm if template is not None else 0.0) or 100.0, np.float32) + grain[..., 0] * 0.01
    xyz = np.stack([(u - size[1] / 2) * pitch, (v - size[0] / 2) * pitch, z], axis=-1).astype(np.float32)
    pictures = {
        "rgb": np.clip(grey[..., None] + grain, 0, 255).astype(np.uint8),
        "ps": np.clip(np.array([128, 128, 250]) + grain, 0, 255).astype(np.uint8),
        "xyz": xyz,
    }
    given: dict[str, Any] = {m: pictures[m] for m in method.modalities}
    return from_arrays(
        "warm-up", **given, mask=mask, pitch_mm=pitch, ps_encoding="normals", size=method.size, template=template,
        ignore=detector.ignore,
    )  # fmt: skip


def _laid(picture: np.ndarray, side: int, size: tuple[int, int], top: int, left: int) -> np.ndarray:
    """A square picture at (top, left) in a frame, cut where it stands over."""
    shift = np.array([[side / picture.shape[1], 0, left], [0, side / picture.shape[0], top]], np.float32)
    return np.asarray(cv2.warpAffine(picture.astype(np.float32), shift, (size[1], size[0])))


def human_line(judged: Judged, method: Any) -> str:
    """One line for people: the verdict in capitals, which part, score and threshold, why, and how long it took."""
    line = judged.line
    seconds = f"{line['ms']['total'] / 1e3:.2f} s"
    if judged.verdict is None or judged.part is None:
        return f"ERROR     {line['key']}: [{line['error']['code']}] {line['error']['message']}  ({seconds})"
    word = "REJECTED" if line["rejected"] else "ACCEPTED"
    limit = "no threshold yet" if line["threshold"] is None else f"{line['threshold']:.2f}"
    why = explanation(judged.part, judged.verdict, method)
    why += "; the model was taught this very part" if line.get("taught") else ""
    return f"{word}  {line['key']}  {line['score']:.2f} / {limit}  {why}  ({seconds})"


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
