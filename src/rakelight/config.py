"""Settings files: TOML in, validated pydantic models out, errors that name file, key, value and range."""

from __future__ import annotations

import datetime
import difflib
import json
import reprlib
import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from rakelight.errors import ConfigError, RakelightError

_HINT = "mend the keys named; the documentation lists what each file may hold"
_MAX_TOML_BYTES = 1 << 20
_SHOWN = 8  # problems told in one error
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


class Model(BaseModel):
    """Base of everything rakelight reads from files: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, ser_json_inf_nan="null")


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as e:
        raise ValueError(f"cannot be written as JSON: {e}") from e
    return value


PlainData = Annotated[dict[str, Any], AfterValidator(_plain)]
"""A table whose keys are its owner's affair; whatever stands in it can be written as JSON."""


def _utc(value: Any) -> Any:
    """A time as ISO 8601 in UTC; a TOML date-time is one already, but for its zone."""
    try:
        when = value if isinstance(value, datetime.datetime) else datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError) as e:
        raise ValueError("not a time as ISO 8601 writes it, for example 2025-03-01T08:15:30+00:00") from e
    if when.tzinfo is None:
        raise ValueError("a time without its zone; write for example 2025-03-01T08:15:30+00:00")
    return when.astimezone(datetime.UTC).isoformat()


UtcTime = Annotated[str, BeforeValidator(_utc)]
"""A moment, ISO 8601 with its zone; kept in UTC."""

M = TypeVar("M", bound=BaseModel)


def load_toml(path: str | Path, model: type[M], *, hint: str = _HINT) -> M:
    """Read a TOML file and validate it as ``model``; raises :class:`ConfigError` (with ``hint`` if keys do not fit)."""
    path = Path(path)
    try:
        with open(path, "rb") as handle:
            content = handle.read(_MAX_TOML_BYTES + 1)
        if len(content) > _MAX_TOML_BYTES:
            raise ValueError(f"longer than {_MAX_TOML_BYTES} bytes")
        data = tomllib.loads(content.decode("utf-8-sig"))  # editors on Windows put a mark in front
    except FileNotFoundError as e:
        raise ConfigError(f"{path} does not exist", hint="check the path", code="config.missing") from e
    except OSError as e:
        raise ConfigError(
            f"{path} cannot be read: {e.strerror or e}", hint="name a TOML file", code="config.unreadable"
        ) from e
    except (ValueError, RecursionError) as e:  # wrong TOML, wrong UTF-8, numbers of thousands of digits, nesting
        raise ConfigError(f"{path} is not valid TOML: {e}", hint="mend the line named", code="config.syntax") from e
    return validate(data, model, source=str(path), hint=hint)


def validate(
    data: Any,
    model: type[M],
    *,
    source: str,
    error: type[RakelightError] = ConfigError,
    schema: int = 1,
    hint: str = _HINT,
) -> M:
    """Validate plain data as ``model``; every problem is named in one error of type ``error``.

    A ``schema`` number in ``data`` other than ``schema`` is refused first, since nothing else said
    about such a file would be true.
    """
    if isinstance(data, dict):
        found = data.get("schema", schema)
        if type(found) is not int or found != schema:
            raise error(
                f"{source}: schema = {_short.repr(found)} is not known here (this version reads schema {schema})",
                hint="update rakelight, or use the version that wrote the file",
                code="config.schema_unknown",
            )
    try:
        return model.model_validate(data)
    except ValidationError as e:
        problems = e.errors(include_url=False, include_context=False)
        shown = [_sentence(p, model) for p in problems[:_SHOWN]]
        more = [f"… and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise error(f"{source}: " + "; ".join(shown + more), hint=hint, code="config.invalid") from e


def _sentence(problem: Any, model: type[BaseModel]) -> str:
    """One validation problem as a sentence: key, value, what is allowed, nearest known key."""
    loc = problem["loc"]
    key = "".join(f"[{p + 1}]" if isinstance(p, int) else f".{p}" for p in loc).lstrip(".") or "the file"
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(loc[-1])[:80], _known_keys(model, loc[:-1]), n=1)
        known = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(_known_keys(model, loc[:-1]))
        return f"unknown key {key} ({known})"
    if problem["type"] == "missing":
        return f"key {key} is missing"
    if problem["type"] == "value_error" and isinstance(
        problem["input"], dict | BaseModel
    ):  # the sentence names the keys
        return f"{key}: {problem['msg'].removeprefix('Value error, ')}"
    return f"{key} = {_short.repr(problem['input'])}: {problem['msg'].removeprefix('Value error, ')}"


def _known_keys(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """The keys that ``model`` knows at ``loc`` (indices in lists are skipped)."""
    current: type[BaseModel] | None = model
    for part in loc:
        if isinstance(part, int) or current is None:
            continue
        field = next((f for n, f in current.model_fields.items() if part in (n, f.alias)), None)
        current = _model_inside(field.annotation) if field is not None else None
    return [f.alias or n for n, f in current.model_fields.items()] if current is not None else []


def _model_inside(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in get_args(annotation) if (m := _model_inside(a)) is not None), None)
