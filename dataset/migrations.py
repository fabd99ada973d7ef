"""Older schemas of a data set's files, lifted step by step to the present one: pure functions on plain data."""

from __future__ import annotations

from typing import Any


def manifest(data: Any) -> Any:
    """A sample's ``manifest.json`` as the present schema has it; what is no known older schema is passed through."""
    if isinstance(data, dict) and data.get("schema") == 1:
        return {**data, "schema": 2}  # schema 2 added specimen, source, quality and more, all with defaults
    return data
