"""The one error tree of rakelight.

Every error a user can cause or meet is a :class:`RakelightError`: its message names the thing,
the value and the allowed range; ``hint`` says what to do next; ``code`` is stable, so that
scripts and support can rely on it. ``exit_code`` is what the command line returns.
"""

from __future__ import annotations

from typing import Any


class RakelightError(Exception):
    """Base of all errors of this package.

    Parameters
    ----------
    message : str
        What is wrong: names the file, key or quantity, the value found and the allowed range.
    hint : str, optional
        The next step that cures it.
    code : str, optional
        Stable machine-readable name, ``area.what`` (for example ``recording.frame_missing``).
    """

    exit_code = 1
    default_code = "rakelight.error"

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code

    def to_dict(self) -> dict[str, Any]:
        """The error as plain data, as ``--json`` prints it."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class InputError(RakelightError, ValueError):
    """An argument, array or option that cannot be used (shape, dtype, range)."""

    exit_code = 2
    default_code = "input.invalid"


class ConfigError(RakelightError):
    """A TOML or JSON settings file that cannot be read or does not fit its schema."""

    exit_code = 3
    default_code = "config.invalid"


class DeviceError(RakelightError):
    """A camera, light or projector that is absent, busy, silent or wrong."""

    exit_code = 4
    default_code = "device.failed"


class QualityError(RakelightError):
    """A capture whose pictures are not what they should be: a dead lamp, swapped cables, saturation, room light."""

    exit_code = 6
    default_code = "check.failed"
    checks: tuple[dict[str, Any], ...] = ()  # every check of the capture, passed or not, as plain data

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | ({"checks": list(self.checks)} if self.checks else {})


class DatasetError(RakelightError):
    """A recording, sample or data set that is incomplete, corrupt or locked."""

    exit_code = 7
    default_code = "dataset.invalid"


class StorageError(RakelightError, OSError):
    """A folder that cannot be written, or a disk that is full."""

    exit_code = 8
    default_code = "storage.failed"


class CalibrationError(RakelightError):
    """A calibration that is missing, stale, degenerate or cannot be computed."""

    exit_code = 9
    default_code = "calibration.invalid"


class ModelError(RakelightError):
    """A detector or its weights that are missing or do not fit."""

    exit_code = 11
    default_code = "model.invalid"
