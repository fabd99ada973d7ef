"""What the tests of the feature extractors share."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def by_hand() -> Any:
    """Networks written once more, slowly: the module ``networks_by_hand.py`` beside this file (tests are no package)."""
    spec = importlib.util.spec_from_file_location("networks_by_hand", Path(__file__).with_name("networks_by_hand.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny networks gain nothing from more, and threads that wait for each other slow down everybody else's tests."""
    import torch

    torch.set_num_threads(1)
