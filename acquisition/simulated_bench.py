"""A simulated bench in a process of its own: its devices as a rig's settings name them, and the hand that lays targets.

The hand is no device: on a real rig a person puts another target under the camera. So it does not go through the wires of
camera, lights and projector, but through the pipe on which the bench also sees that whoever started it is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from rakelight.errors import DeviceError, InputError, RakelightError

COVER = "cover"
"""What :meth:`SimulatedBench.place` takes for a cap on the lens."""


class SimulatedBench:
    """Runs until closed; ``settings`` is the content of its rig.toml as plain data.

    Raises
    ------
    InputError
        A URL that does not fit.
    DeviceError
        ``simulator.no_…``, ``simulator.failed``: it did not start.
    """

    def __init__(self, url: str) -> None:
        self._bench = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "rakelight.acquisition.simulator.bench", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=os.name == "posix",  # Ctrl-C must not take the devices away from under the rig
        )
        self._serving = False
        try:
            self.settings = self._answer("the simulated bench did not start")
        except BaseException:
            self.close()
            raise
        self._serving = True

    def place(
        self, target: str, seed: int = 0, *, pose: Mapping[str, float] | None = None, blur_px: float | None = None
    ) -> None:
        """Lay another target or product under the camera, as ``seed`` decides; ``COVER`` puts a cap on the lens.

        ``pose`` may say where instead: ``x_mm``, ``y_mm``, ``angle_deg``, ``z_mm``, ``tilt_x_deg``, ``tilt_y_deg``.
        ``blur_px`` is the sigma of the lens in px of the frame (a lens out of focus), None: as it is in focus.

        Raises :class:`InputError` for unknown names, and :class:`DeviceError` (``simulator.gone``) if the bench has ended.
        """
        assert self._bench.stdin is not None
        request = {"place": target, "seed": seed, "pose": dict(pose) if pose else None, "blur_px": blur_px}
        gone = "the simulated bench has ended"
        try:
            self._bench.stdin.write(json.dumps(request) + "\n")
            self._bench.stdin.flush()
        except OSError as error:
            raise DeviceError(gone, hint="open the rig again", code="simulator.gone") from error
        self._answer(gone)

    def _answer(self, otherwise: str) -> dict[str, Any]:
        assert self._bench.stdout is not None
        line = self._bench.stdout.readline()
        told: dict[str, Any] = json.loads(line) if line.strip() else {"error": {"message": otherwise}}
        if "error" in told:
            error = told["error"]
            code = str(error.get("code", "simulator.failed"))
            kind: type[RakelightError] = InputError
            if code.startswith("simulator.no_") or not line:
                kind = DeviceError
            raise kind(error["message"], hint=error.get("hint", ""), code=code)
        return told

    def close(self) -> None:
        """End the bench; may be called twice."""
        bench = self._bench
        assert bench.stdin is not None and bench.stdout is not None
        with contextlib.suppress(OSError):  # it has ended, and a command was still on its way
            bench.stdin.close()
        if not self._serving and bench.poll() is None:
            bench.terminate()  # interrupted while it builds its scene: it does not look at its input yet
        bench.stdout.close()
        try:
            bench.wait(5.0)
        except subprocess.TimeoutExpired:
            bench.kill()
            bench.wait()
