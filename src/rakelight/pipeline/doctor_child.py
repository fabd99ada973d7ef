"""Questions that could crash or hang who asks them, answered by a child process: ``python -m rakelight.pipeline.doctor_child``.

Libraries with missing parts end the process that loads them, and the drivers of cameras (GenTL producers) may hang in it for
ever. The child answers one question with one JSON line and goes; it ends itself when time is up, also when nobody is there
any more to end it.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rakelight.errors import DeviceError, RakelightError

_MODULE = "rakelight.pipeline.doctor_child"
_GRACE_S = 2.0


def ask_child(question: str, argument: str = "", *, limit_s: float) -> Any:
    """The answer to one of the questions below, plain data.

    Raises
    ------
    RakelightError
        What the question raised; ``doctor.python`` for errors of other libraries; ``doctor.hung`` when there was no answer
        within ``limit_s``; ``doctor.crashed`` when the child died of it.
    """
    # -P: a file of the user's called like a library must not be taken for it
    command = [sys.executable, "-P", "-m", _MODULE, question, argument, str(limit_s + _GRACE_S)]
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s
        )
        written, said, ended = done.stdout, done.stderr, f"the process that tried it {_ended(done.returncode)}"
    except subprocess.TimeoutExpired as error:
        written, said, ended = error.stdout or b"", b"", ""
    if not written:  # what happens after the answer, while a library is unloaded, is of no interest
        if not ended:
            raise DeviceError(f"no answer within {limit_s:g} s", code="doctor.hung")
        last = said.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise DeviceError(ended + "".join(f"; it said last: {line}" for line in last), code="doctor.crashed")
    answer = json.loads(written)
    if "error" in answer:
        told = answer["error"]
        raise RakelightError(told["message"], hint=told["hint"], code=told["code"])
    return answer["result"]


def _ended(code: int) -> str:
    if code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:  # a signal that this Python has no name for
            return f"was ended by signal {-code}"
    return f"ended with code {code:#x}" if code > 0xFFFF else f"ended with code {code}"  # Windows tells crashes so


# ------------------------------------------------------------------------------------------------------------- questions
def load(module: str) -> None:
    """Load a library."""
    importlib.import_module(module)


def ray(_argument: str) -> dict[str, Any]:
    """Cast one ray on one triangle with Open3D, as the simulator casts its millions."""
    import numpy as np
    import open3d

    scene = open3d.t.geometry.RaycastingScene()
    corners = np.array([[-1, -1, 2], [1, -1, 2], [0, 1, 2]], np.float32)
    scene.add_triangles(open3d.core.Tensor(corners), open3d.core.Tensor(np.array([[0, 1, 2]], np.uint32)))
    hit = scene.cast_rays(open3d.core.Tensor(np.array([[0, 0, 0, 0, 0, 1]], np.float32)))
    return {"distance": float(hit["t_hit"].numpy()[0])}


def kernel(_argument: str) -> dict[str, Any]:
    """Compile a parallel kernel as rakelight's are, run it, and try the place where it is kept."""
    import rakelight.reconstruction  # noqa: F401  settles numba's cache and threads

    private = os.environ.get("NUMBA_CACHE_DIR", "")
    import numba
    import numpy as np

    start = time.perf_counter()

    @numba.njit(cache=True, parallel=True)
    def total(values: Any) -> Any:
        summed = 0.0
        for k in numba.prange(values.size):
            summed += values[k]
        return summed

    summed = float(total(np.arange(1000.0)))
    seconds = time.perf_counter() - start
    place = Path(total.stats.cache_path)
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=place):
        pass
    return {
        "sum": summed,
        "seconds": seconds,
        "cached": bool(total.stats.cache_hits),
        "place": str(place),
        "lasting": "rakelight-numba-" not in private,
        "threads": int(numba.get_num_threads()),
        "layer": str(numba.threading_layer()),
    }


def gpu(_argument: str) -> dict[str, Any]:
    """What torch can compute on."""
    import torch

    cuda = bool(torch.cuda.is_available())
    cards = []
    for number in range(torch.cuda.device_count() if cuda else 0):
        properties = torch.cuda.get_device_properties(number)
        cards.append({"name": properties.name, "memory_gb": properties.total_memory / 1e9})
    if cards:
        ones = torch.ones(64, 64, device="cuda")
        assert float((ones @ ones).sum().cpu()) == 64**3  # a card that is there but does not compute is found here
    apple = getattr(torch.backends, "mps", None)
    return {
        "version": torch.__version__,
        "built_for": torch.version.cuda or "",
        "cards": cards,
        "apple": bool(apple is not None and apple.is_available()),
    }


def system_library(names: str) -> dict[str, Any]:
    """Which of these shared libraries (names joined by blanks) do not load, and why."""
    import ctypes

    missing = {}
    for name in names.split():
        try:
            ctypes.CDLL(name)
        except OSError as error:
            missing[name] = str(error)
    return missing


def cameras(producer: str) -> list[dict[str, str]]:
    """The cameras that a GenTL producer sees."""
    from rakelight.acquisition.drivers.genicam_binding import found_cameras

    return found_cameras(producer)


def simulated_camera(_argument: str) -> dict[str, Any]:
    """Compile the simulated camera's producer, or find it compiled."""
    from rakelight.acquisition.simulator.gentl import build

    start = time.perf_counter()
    compilers = build.find_compilers()
    path = build.cti_path()
    return {
        "compiler": " ".join(compilers[0].command) if compilers else "",
        "path": str(path),
        "seconds": time.perf_counter() - start,
    }


_QUESTIONS: dict[str, Callable[[str], Any]] = {
    q.__name__: q for q in (load, ray, kernel, gpu, system_library, cameras, simulated_camera)
}


def main() -> int:
    question, argument, limit_s = sys.argv[1], sys.argv[2], float(sys.argv[3])
    faulthandler.dump_traceback_later(limit_s, exit=True)  # by a thread that no library can hold up
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # vendor libraries print there
    if sys.platform == "win32":  # no message boxes about missing parts and crashes: nobody may be there to click them
        import ctypes

        ctypes.windll.kernel32.SetErrorMode(0x0001 | 0x0002 | 0x8000)
    try:
        answer: dict[str, Any] = {"result": _QUESTIONS[question](argument)}
    except RakelightError as error:
        answer = {"error": error.to_dict()}
    except Exception as error:  # told to the parent, which raises it
        answer = {"error": {"code": "doctor.python", "message": f"{type(error).__name__}: {error}", "hint": ""}}
    answers.write(json.dumps(answer) + "\n")
    answers.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
