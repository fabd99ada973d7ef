"""Cameras to test, each with what stands at the other end of its wire, for the suite beside this file."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import genicam
import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition.camera_process import CameraProcess
from rakelight.acquisition.devices import Camera, CameraFrame, CameraSettings
from rakelight.acquisition.drivers.genicam_camera import GenICamCamera
from rakelight.acquisition.simulator.gentl.build import cti_path
from rakelight.acquisition.simulator.scene_server import Request, SceneServer, WireFault

VIKY = Path(genicam.__file__).parent / "viky.cti"
WIDTH, HEIGHT = 64, 48  # of the simulated sensor


def _load(path: Path) -> Any:
    """A module of the tests by its file (tests are no package)."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_pictures = _load(Path(__file__).parents[1] / "acquisition" / "simulator" / "gentl" / "scene_server.py")


@dataclass
class Sight:
    """What the simulated camera sees: a gradient of place and frame id, and faults by frame id."""

    faults: dict[int, WireFault] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)

    def __call__(self, request: Request) -> NDArray[np.uint8] | WireFault:
        self.asked.append(request)
        if request.frame_id in self.faults:
            return self.faults.pop(request.frame_id)
        name = _pictures.NAMES[request.pixel_format]
        return np.frombuffer(_pictures.encoded(name, expected(name, request.frame_id, request)), np.uint8)


def expected(name: str, frame_id: int, region: Any) -> NDArray[Any]:
    """The values of a frame (H, W) or (H, W, 3) of a region with offset_x, offset_y, width, height."""
    values: NDArray[Any] = _pictures.values(
        name, region.width, region.height, region.offset_x, region.offset_y, frame_id
    )
    return values


@dataclass
class Bench:
    """A camera to test: how it is opened, its ordinary settings, and the scene behind it, if there is one."""

    name: str
    open: Callable[..., Any]
    settings: CameraSettings
    sizes: tuple[int, ...]
    camera: Any = None
    sight: Sight | None = None
    server: SceneServer | None = None

    def snap(self, deadline_s: float = 3.0) -> CameraFrame:
        """One frame of the armed camera."""
        if self.settings.trigger == "software":
            self.camera.trigger()
        frame: CameraFrame = self.camera.next_frame(deadline_s)
        return frame


def simulated(bayer: bool) -> Bench:
    sight = Sight()
    server = SceneServer(WIDTH, HEIGHT, bayer, sight)

    def opened(**environment: str) -> CameraProcess:
        told = {"RAKELIGHT_SCENE": server.address, "RAKELIGHT_SERIAL": "SIM-7", "RAKELIGHT_READOUT_US": "500"}
        return CameraProcess("genicam", {"producer": str(cti_path()), "environment": {**told, **environment}})

    kind = "BayerRG" if bayer else "Mono"
    return Bench(
        f"sim {kind}", opened, CameraSettings(1000.0, pixel_format=f"{kind}12"), (32, 48, 16), None, sight, server
    )


def viky(where: str) -> Bench:
    def opened() -> Camera:
        if where == "here":
            return GenICamCamera(VIKY, "1")
        return CameraProcess("genicam", {"producer": str(VIKY), "serial_number": "1"})

    return Bench(f"viky {where}", opened, CameraSettings(1000.0, pixel_format="Mono8", trigger="free"), (128, 400, 100))


MAKERS: dict[str, Callable[[], Bench]] = {
    "sim-mono": lambda: simulated(bayer=False),
    "sim-colour": lambda: simulated(bayer=True),
    "viky-child": lambda: viky("child"),
    "viky-here": lambda: viky("here"),
}


def changed(bench: Bench, **change: Any) -> CameraSettings:
    """The ordinary settings with some of them changed."""
    return CameraSettings(**{**vars(bench.settings), **change})
