"""What holds for all tests."""

from __future__ import annotations

import os
from pathlib import Path

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
