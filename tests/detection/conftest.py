"""What the tests of detection share."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def part_scenes() -> Any:
    """Drawn parts in known poses: the module ``part_scenes.py`` beside this file (tests are no package)."""
    spec = importlib.util.spec_from_file_location("part_scenes", Path(__file__).with_name("part_scenes.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
