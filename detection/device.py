"""Where networks and searches run: on the CPU, or on a GPU that torch sees; and exact float32 on either.

The same code runs on both. A GPU's convolutions round their float32 inputs to TF32, ten bits of mantissa, unless told
otherwise: features then differ by 1e-3 from the CPU's, and a model taught on one would be refused on the other. So they are told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rakelight.errors import ModelError

DEVICES = ("auto", "cpu", "cuda")


def resolve(device: str = "auto") -> str:
    """``"cpu"`` or ``"cuda"``; ``"auto"`` is the GPU where torch sees one, else the CPU.

    Raises :class:`ModelError` (``model.device``) for another name, and for ``cuda`` where torch sees no GPU.
    """
    if device not in DEVICES:
        raise ModelError(f"device {device!r}; allowed: {', '.join(DEVICES)}", code="model.device")
    if device == "cpu":
        return device
    import torch

    seen = torch.cuda.is_available()
    if device == "cuda" and not seen:
        built = torch.version.cuda
        why = "this torch is built for the CPU alone" if built is None else f"this torch is built for CUDA {built}"
        raise ModelError(
            f"device cuda: torch {torch.__version__} sees no GPU ({why})",
            hint="use --device cpu or auto, or install a driver and a torch built for CUDA",
            code="model.device",
        )
    return "cuda" if seen else "cpu"


@contextlib.contextmanager
def exact_inference(device: str) -> Iterator[None]:
    """No gradients; on a GPU float32 stays float32, and convolutions that give the same twice are chosen."""
    import torch

    with torch.inference_mode():
        if device == "cpu":
            yield
            return
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
                yield
        finally:
            torch.set_float32_matmul_precision(precision)
