"""Checks that protect the science done with a data set: what a loader would swallow and a paper would report.

Samples are read one after the other, two at a time; what is kept of each is a few kB, so the size of the data set does not
matter. ``meta/qc.jsonl`` holds one line a finding. Damage of bytes is the affair of ``dataset verify``; here files are
decoded and looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from rakelight import files
from rakelight.dataset import check_sets, layout
from rakelight.dataset.check_sets import Finding, Seen
from rakelight.dataset.leak_test import FactSet, LeakReport, leak_test
from rakelight.dataset.opened import OpenSample, open_samples
from rakelight.dataset.reading_ahead import read_ahead
from rakelight.dataset.sample_facts import record_facts
from rakelight.dataset.sample_scan import Fact, SampleScan, scan_sample
from rakelight.dataset.scan_cache import ScanCache
from rakelight.dataset.writer import Dataset
from rakelight.errors import InputError, RakelightError, StorageError

Check = Literal[
    "files", "xyz", "masks", "duplicates", "near-duplicates", "consistency", "labels", "splits", "index", "leak"
]
CHECKS: tuple[Check, ...] = get_args(Check)
QC_FILE = "meta/qc.jsonl"
_SEVERITIES = ("error", "warning", "note")

Progress = Callable[..., None]


@dataclass(frozen=True)
class CheckReport:
    """All findings, the worst first; ``leak`` if it was asked for; ``notes`` for people (what could not be written)."""

    samples: int
    findings: tuple[Finding, ...]
    leak: LeakReport | None
    notes: tuple[str, ...] = ()

    def count(self, severity: str) -> int:
        return sum(f.severity == severity for f in self.findings)


@dataclass
class _Pass:
    """What one pass over the samples gathers."""

    findings: list[Finding] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    facts: list[FactSet] = field(default_factory=list)
    known: dict[Fact, Fact] = field(default_factory=dict)  # most facts of a sample are those of the others


def check_dataset(
    dataset: Dataset,
    *,
    category: str | None = None,
    only: Sequence[str] = (),
    fresh: bool = False,
    progress: Progress = lambda *_: None,
) -> CheckReport:
    """Run the checks (all, or ``only`` those named) and write ``meta/qc.jsonl``.

    What an earlier run wrote there of other categories, or of checks that are not run now, stays.

    Parameters
    ----------
    category : str, optional
        Only this product.
    fresh : bool
        Read every file again, also where an earlier check has read the same content.
    progress : callable
        Called with (samples done, samples).

    Raises
    ------
    InputError
        ``check.unknown`` for a check that does not exist.
    """
    unknown = sorted(set(only) - set(CHECKS))
    if unknown:
        raise InputError(
            f"unknown check {unknown[0]!r}; known: {', '.join(CHECKS)}", hint="name one of them", code="check.unknown"
        )
    wanted = set(only) or set(CHECKS)
    cache = ScanCache(dataset.root, fresh=fresh)
    samples = list(open_samples(dataset.root, category))
    found = _read_all(samples, cache, wanted, progress)
    cache.flush()
    findings = found.findings
    for name, check in check_sets.SETS.items():
        if name in wanted:
            findings += check(dataset, found.seen)
    report = leak_test(found.facts) if "leak" in wanted else None
    if report is not None:
        findings += _leak_findings(report)
    findings = [f for f in findings if f.check in wanted]
    findings.sort(key=_order)
    notes = [f"the scan cache could not be written: {cache.problem}"] if cache.problem else []
    defects = {one.key.label for one in found.seen}
    kept, lost = _kept(dataset.root, lambda f: f.check not in wanted or _is_of_others(f, category, defects))
    notes += lost + _write(dataset.root, sorted([*findings, *kept], key=_order))
    return CheckReport(len(samples), tuple(findings), report, tuple(notes))


def _read_all(samples: Sequence[OpenSample], cache: ScanCache, wanted: set[str], progress: Progress) -> _Pass:
    """Scan the samples, a few ahead of what is gathered; decoding lets other threads run."""
    gathered = _Pass()
    needs_files = bool(wanted & {"files", "xyz", "masks", "near-duplicates", "leak"})

    def look(sample: OpenSample) -> tuple[SampleScan | None, SampleScan | None]:
        """The scan of an earlier check, or else a new one."""
        if not needs_files:
            return None, None
        known = cache.get(sample)
        return known, scan_sample(sample) if known is None else None

    for number, (sample, ahead) in enumerate(read_ahead(look, samples), 1):
        try:
            known, new = ahead.result()
            if new is not None:
                cache.put(sample, new)
            _gather(gathered, sample, known or new)
        except RakelightError as error:
            hint = error.hint or "run `rakelight dataset verify`"
            gathered.findings.append(Finding("files", "error", str(sample.key), error.message, hint))
        progress(number, len(samples))
    return gathered


def _gather(gathered: _Pass, sample: OpenSample, scan: SampleScan | None) -> None:
    key = str(sample.key)
    facts = record_facts(sample)
    gathered.seen.append(Seen.of(sample, facts, scan))
    if scan is not None:
        gathered.findings += [Finding(p.check, p.severity, key, p.what, p.hint) for p in scan.problems]
        shared = (gathered.known.setdefault(fact, fact) for fact in (*facts, *scan.facts))
        gathered.facts.append(FactSet.of(sample.key, shared))


def _leak_findings(report: LeakReport) -> list[Finding]:
    hints = {
        "leak": "find the cause and derive all samples again by one path, good and bad alike and in mixed order",
        "suspect": "look for a cause; more samples tell whether it is chance",
    }
    found = [
        Finding("leak", "error" if f.verdict == "leak" else "warning", f.category, f.sentence, hints[f.verdict])
        for f in report.findings
    ]
    hint = "add samples of both labels"
    found += [Finding("leak", "note", text.split(" ", 1)[0], text, hint) for text in report.untested]
    if report.verdict == "untested" and report.samples and not report.untested:
        what = "no leak test could be made: no fact differs between enough samples"
        found.append(Finding("leak", "note", "", what, "add samples"))
    return found


def _order(finding: Finding) -> tuple[int, int, str]:
    return _SEVERITIES.index(finding.severity), CHECKS.index(finding.check), finding.sample


def _is_of_others(finding: Finding, category: str | None, defects: set[str]) -> bool:
    """Whether a check of ``category`` alone, whose samples have the labels ``defects``, cannot find this again."""
    if category is None or not finding.sample:
        return False
    if finding.check == "labels":
        return finding.sample not in defects
    named = re.findall(r"([a-z0-9_]+)/[^\s,]+/S\d+", finding.what) if finding.check == "duplicates" else []
    return finding.sample.split("/", 1)[0] != category or any(name != category for name in named)


def _kept(root: Path, stays: Callable[[Finding], bool]) -> tuple[list[Finding], list[str]]:
    """The findings of ``meta/qc.jsonl`` that stay, and what to tell people if some could not be read."""
    try:
        lines = (root / QC_FILE).read_bytes().splitlines()
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [f"{QC_FILE} could not be read ({error.strerror}): its earlier findings are not kept"]
    kept = []
    unread = 0
    for line in lines:
        try:
            finding = Finding(**json.loads(line))
            _order(finding)
            if stays(finding):
                kept.append(finding)
        except (ValueError, TypeError, AttributeError):
            unread += 1
    return kept, [f"{unread} lines of {QC_FILE} were no findings and are not kept"] if unread else []


def _write(root: Path, findings: Iterable[Finding]) -> list[str]:
    """``meta/qc.jsonl``, whole or not at all; a medium that cannot be written is no reason to hide the findings."""
    lines = [json.dumps(f.to_plain(), ensure_ascii=False, separators=(",", ":")) + "\n" for f in findings]
    try:
        files.make_folder(root / layout.META_FOLDER)
        files.write_text(root / QC_FILE, "".join(lines))
    except StorageError as error:
        return [f"{QC_FILE} could not be written: {error.message}"]
    return []
