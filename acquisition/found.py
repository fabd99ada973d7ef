"""What is plugged in, whether a rig answers, and simulated devices for others to use."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rakelight.acquisition.rig import Rig, simulated_rig
from rakelight.acquisition.serial_port import list_ports
from rakelight.errors import RakelightError

_PRODUCERS = "GENICAM_GENTL64_PATH"


def find_devices(producers: Sequence[Path] = ()) -> dict[str, Any]:
    """Cameras of GenTL producers and serial ports, plain data; what could not be asked stands in ``trouble``."""
    from rakelight.acquisition.drivers.genicam_binding import found_cameras

    trouble: list[str] = []
    cameras: list[dict[str, str]] = []
    asked = list(producers) or _known_producers()
    if not asked:
        trouble.append(
            f"no GenTL producer: name a .cti with --producer, or set {_PRODUCERS} as the camera's driver does"
        )
    for producer in asked:
        try:
            cameras += [{**camera, "producer": str(producer)} for camera in found_cameras(producer)]
        except RakelightError as error:
            trouble.append(error.message)
    ports = [{"port": p.name, "what": p.description, "serial_number": p.serial_number or ""} for p in list_ports()]
    return {"cameras": cameras, "ports": ports, "trouble": trouble}


def _known_producers() -> list[Path]:
    folders = [Path(p) for p in os.environ.get(_PRODUCERS, "").split(os.pathsep) if p]
    return sorted(cti for folder in folders if folder.is_dir() for cti in folder.glob("*.cti"))


def check_rig(where: str, *, progress: Callable[[str], None] = lambda step: None) -> dict[str, Any]:
    """Open every device of a rig, take one frame, switch off; raises one error that names all that is wrong."""
    progress("opening")
    with Rig.open(where) as rig:
        info = rig.camera.info
        told = {"camera": f"{info.vendor} {info.model} {info.serial_number}, {info.width}×{info.height} px"}
        if rig.lights is not None:
            told["lights"] = f"{rig.lights.identity}, zones {', '.join(map(str, rig.lights.zones))}"
        if rig.projector is not None:
            told["projector"] = f"{rig.projector.identity}, directions {', '.join(map(str, rig.projector.directions))}"
        progress("one frame")
        settings = rig.camera_settings(max(1000.0, info.exposure_us[0]))
        rig.camera.configure(settings)
        rig.camera.arm(1)
        rig.camera.trigger()
        frame = rig.camera.next_frame(2.0)
        rig.camera.disarm()
        return {"devices": told, "frame": {"shape": list(frame.image.shape), "mean": float(frame.image.mean())}}


@contextlib.contextmanager
def serve_simulated(url: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Simulated devices until the block ends; yields their settings, and the same as the text of a rig.toml."""
    with contextlib.ExitStack() as closing:
        settings, _ = simulated_rig(url, closing)
        plain = settings.model_dump(mode="json", by_alias=True, exclude_none=True)
        yield plain, rig_toml(plain)


def rig_toml(plain: dict[str, Any], prefix: str = "") -> str:
    """The settings of a rig as the text of a rig.toml: numbers, strings, booleans, lists and tables of them."""
    lines, tables = [], []
    for key, value in plain.items():
        if isinstance(value, dict):
            inner = rig_toml(value, f"{prefix}{key}.")
            tables.append(f"\n[{prefix}{key}]\n{inner}")
        else:
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}\n")  # TOML writes these as JSON does
    return "".join(lines) + "".join(tables)
