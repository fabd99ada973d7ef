"""Whether this computer is ready for rakelight: every check there is, one after the other, each line with its cure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rakelight.pipeline import doctor_computer, doctor_devices, doctor_libraries
from rakelight.pipeline.doctor_finding import Check, Finding, findings_of


def examine(
    output: str | Path = ".",
    *,
    producers: Sequence[Path] = (),
    rig: str | None = None,
    note: Callable[[str], None] = lambda what: None,
) -> Iterator[Finding]:
    """Look at computer, libraries and devices, and at the rig if one is named; yields findings as they come.

    Parameters
    ----------
    output : path
        Where recordings are to go; need not exist.
    producers : sequence of Path
        GenTL producers to ask; by default those in ``GENICAM_GENTL64_PATH``.
    rig : str, optional
        rig.toml or ``sim://…``: opened as ``rakelight rig check`` does.
    note : callable
        Told what is being looked at.

    Nothing is raised by what is found: a check that breaks off or hangs becomes a finding of its own.
    """
    checks: list[Check] = [
        *doctor_computer.checks(Path(output), note),
        *doctor_libraries.checks(note),
        *doctor_devices.checks(producers, rig, note),
    ]
    for check in checks:
        note(check.name)
        yield from findings_of(check)
