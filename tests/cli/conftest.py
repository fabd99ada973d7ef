"""What the tests of the commands share."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def discs() -> Any:
    """Drawn parts as a data set: the module ``detect_parts.py`` beside this file (tests are no package)."""
    spec = importlib.util.spec_from_file_location("detect_parts", Path(__file__).with_name("detect_parts.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
