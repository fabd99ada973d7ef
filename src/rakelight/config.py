"""Settings files: TOML in, validated pydantic models out, errors that name file, key, value and range."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from rakelight.errors import ConfigError, RakelightError


class Model(BaseModel):
    """Base of everything rakelight reads from files: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")


M = TypeVar("M", bound=BaseModel)


def load_toml(path: str | Path, model: type[M]) -> M:
    """Read a TOML file and validate it as ``model``; raises :class:`ConfigError`."""
    path = Path(path)
    try:
        with open(path, "rb") as handle:
            data = tomllib.load(handle)
    except FileNotFoundError as e:
        raise ConfigError(f"{path} does not exist", hint="check the path", code="config.missing") from e
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise ConfigError(f"{path} is not valid TOML: {e}", hint="mend the line named", code="config.syntax") from e
    return validate(data, model, source=str(path))


def validate(
    data: Any, model: type[M], *, source: str, error: type[RakelightError] = ConfigError, schema: int = 1
) -> M:
    """Validate plain data as ``model``; every problem is named in one error of type ``error``.

    A ``schema`` number in ``data`` that is newer than ``schema`` is refused first, since nothing else said
    about such a file would be true.
    """
    if isinstance(data, dict):
        found = data.get("schema", schema)
        if found != schema:
            raise error(
                f"{source}: schema = {found!r} is not known here (this version reads schema {schema})",
                hint="update rakelight, or use the version that wrote the file",
                code="config.schema_unknown",
            )
    try:
        return model.model_validate(data)
    except ValidationError as e:
        problems = [_sentence(p, data, model) for p in e.errors(include_url=False)]
        shown = problems[:8] + ([f"… and {len(problems) - 8} more"] if len(problems) > 8 else [])
        raise error(
            f"{source}: " + "; ".join(shown),
            hint="mend the keys named; docs/files.md lists what each file may hold",
            code="config.invalid",
        ) from e


def _sentence(problem: Any, data: Any, model: type[BaseModel]) -> str:
    """One validation problem as a sentence: key, value, what is allowed, nearest known key."""
    loc = problem["loc"]
    key = "".join(f"[{p + 1}]" if isinstance(p, int) else f".{p}" for p in loc).lstrip(".") or "the file"
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(loc[-1]), _known_keys(model, loc[:-1]), n=1)
        known = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(_known_keys(model, loc[:-1]))
        return f"unknown key {key} ({known})"
    if problem["type"] == "missing":
        return f"key {key} is missing"
    return f"{key} = {problem['input']!r}: {problem['msg']}"


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
