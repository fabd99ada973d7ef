"""Checks shared by the patterns: each settles its own values while it is made, and plain data is read strictly."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

import numpy as np

from rakelight.errors import InputError

_HINT = "correct the value; docs/patterns.md explains what to choose"
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


def refuse(what: str, allowed: str, *, hint: str = _HINT) -> InputError:
    """The error that says what was found and what is allowed."""
    return InputError(f"{what}; allowed: {allowed}", hint=hint, code="patterns.value")


def settle(pattern: object, name: str, value: object) -> None:
    """Store a checked value in a frozen dataclass while it is being made."""
    object.__setattr__(pattern, name, value)


def integer(name: str, value: Any, low: int, high: int) -> int:
    """``value`` as an int, if it is one (not a bool, not 8.0) in the range."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise refuse(f"{name} is {_short.repr(value)}", f"an integer from {low} to {high}")
    return int(value)


def number(name: str, value: Any, low: float, high: float) -> float:
    """``value`` as a float, if it is a number in the range; NaN is not."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float | np.integer | np.floating)
        or not low <= value <= high
    ):
        raise refuse(f"{name} is {_short.repr(value)}", f"a number from {low:g} to {high:g}")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """``value`` as a bool, if it is one."""
    if not isinstance(value, bool | np.bool_):
        raise refuse(f"{name} is {_short.repr(value)}", "true or false")
    return bool(value)


def choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """``value``, if it is one of ``allowed``."""
    if not isinstance(value, str) or value not in allowed:
        raise refuse(f"{name} is {_short.repr(value)}", " or ".join(map(repr, allowed)))
    return value


def object_of(what: str, data: Any, kinds: Mapping[str, type[Any]]) -> Any:
    """The dataclass that plain data describes: its ``kind`` chooses the class, its other keys are the fields.

    Raises :class:`InputError` ``patterns.kind`` for another kind, ``patterns.keys`` for unknown or missing keys (and
    for what is no table at all), and what the class raises about its values.
    """
    known = ", ".join(kinds)
    if not isinstance(data, dict):
        raise InputError(
            f"{what} is {_short.repr(data)}; needed: a table with the key kind ({known})",
            hint="pass what to_plain() gave",
            code="patterns.keys",
        )
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        found = f"of kind {_short.repr(kind)}" if "kind" in data else "without the key kind"
        raise InputError(
            f"{what} {found}; known: {known}",
            hint="use one of these; a newer kind needs a newer rakelight",
            code="patterns.kind",
        )
    cls = kinds[kind]
    names = {field.name: field.default is MISSING for field in fields(cls) if field.init}
    for key in data:
        if key != "kind" and key not in names:
            near = difflib.get_close_matches(str(key)[:60], names, n=1)
            meant = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
            raise InputError(
                f"{what} of kind {kind!r} has the unknown key {_short.repr(key)} ({meant})",
                hint="remove or correct the key",
                code="patterns.keys",
            )
    missing = [name for name, needed in names.items() if needed and name not in data]
    if missing:
        raise InputError(
            f"{what} of kind {kind!r} lacks {', '.join(missing)}", hint="add what is missing", code="patterns.keys"
        )
    return cls(**{key: value for key, value in data.items() if key != "kind"})
