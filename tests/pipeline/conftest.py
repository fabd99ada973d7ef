"""What the tests of the pipeline share."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def judged() -> Any:
    """Drawn parts with known faults: the module ``judged_parts.py`` beside this file (tests are no package)."""
    spec = importlib.util.spec_from_file_location("judged_parts", Path(__file__).with_name("judged_parts.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def taught(judged: Any) -> Any:
    """A detector of 24 good parts."""
    return judged.detector()
