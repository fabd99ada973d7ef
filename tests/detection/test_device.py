"""Which device is taken, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from rakelight.cli.detect import detect
from rakelight.detection.device import exact_inference, resolve
from rakelight.errors import ModelError


@pytest.mark.parametrize(("seen", "auto"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, seen: bool, auto: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen)
    assert resolve() == resolve("auto") == auto
    assert resolve("cpu") == "cpu"
    if seen:
        assert resolve("cuda") == "cuda"


def test_a_gpu_that_is_not_there_is_no_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="sees no GPU") as caught:
        resolve("cuda")
    assert caught.value.code == "model.device" and "--device cpu" in caught.value.hint
    for name in ("tpu", "cuda:7", ""):
        with pytest.raises(ModelError, match="allowed: auto, cpu, cuda"):
            resolve(name)


@pytest.mark.parametrize("command", ["train", "score", "evaluate", "update"])
def test_every_command_takes_a_device_and_says_when_there_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    runner = CliRunner()
    assert "[auto|cpu|cuda]" in runner.invoke(detect, [command, "--help"]).output
    found = runner.invoke(detect, [command, str(tmp_path), str(tmp_path), "--device", "cuda"])
    assert isinstance(found.exception, ModelError) and found.exception.code == "model.device"


def test_exact_inference_keeps_no_gradient_and_restores_what_it_changes() -> None:
    weight = torch.ones(3, requires_grad=True)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(ValueError), exact_inference("cuda"):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32 and torch.backends.cudnn.deterministic
            assert not (weight * 2).requires_grad
            raise ValueError
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    with exact_inference("cpu"):
        assert not (weight * 2).requires_grad
