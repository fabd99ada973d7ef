"""What holds for all tests."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")  # also where pytest is started without make

# No time limits per example (the machine may be busy); under CI the same examples every time.
settings.register_profile("rakelight", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("rakelight")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top folder of the repository."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def scenes() -> Any:
    """Simulated recordings with known truth: the module ``tests/scenes.py`` (tests are no package)."""
    spec = importlib.util.spec_from_file_location("scenes", Path(__file__).with_name("scenes.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_configure() -> None:
    """A shell that starts the tests in the background has Ctrl-C ignored, and every process under test would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
