"""What the GenICam camera needs of harvesters and the genicam binding: producers, devices, nodes that may be absent."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rakelight.acquisition.pixel_formats import unpacked_name
from rakelight.errors import DeviceError

_CHUNKS = ("Timestamp", "FrameID", "ExposureTime", "Gain", "CounterValue")

T = TypeVar("T")


def load_producer(producer: Path) -> Any:
    from harvesters.core import Harvester

    logging.getLogger("harvesters").setLevel(logging.CRITICAL)  # what it logs is raised as well
    harvester = Harvester()
    try:
        harvester.add_file(str(producer), check_existence=True, check_validity=True)
        harvester.update()
    except (OSError, FileNotFoundError) as error:
        what = "is no GenTL producer that loads here" if producer.is_file() else "does not exist"
        raise DeviceError(
            f"{producer} {what}" + (f": {error}" if str(error) else ""),
            hint="name the .cti file that came with the camera's driver (see GENICAM_GENTL64_PATH), for this system",
            code="camera.producer",
        ) from error
    return harvester


def incomplete_counter() -> Any:
    """What harvesters calls for each incomplete frame, which it hides otherwise: ``count`` goes up by one."""
    from harvesters.core import Callback

    class Counter(Callback):  # type: ignore[misc]
        count = 0

        def emit(self, context: object = None) -> None:
            self.count += 1

    return Counter()


def found_cameras(producer: str | Path) -> list[dict[str, str]]:
    """The cameras that a producer sees: vendor, model, serial_number, id."""
    harvester = load_producer(Path(producer))
    try:
        return [_entry(device) for device in harvester.device_info_list]
    finally:
        harvester.reset()


def _entry(device: Any) -> dict[str, str]:
    names = {"vendor": "vendor", "model": "model", "serial_number": "serial_number", "id": "id_"}
    return {key: str(optional(partial(getattr, device, name), "") or "") for key, name in names.items()}


def open_device(harvester: Any, producer: Path, serial_number: str | None) -> Any:
    there = [_entry(device) for device in harvester.device_info_list]
    listed = ", ".join(f"{d['model']} {d['serial_number']}" for d in there) or "none"
    chosen = [k for k, d in enumerate(there) if serial_number in (None, d["serial_number"], d["id"])]
    if not chosen:
        raise DeviceError(
            f"{producer} sees no camera" + (f" {serial_number}; it sees {listed}" if serial_number else ""),
            hint="check power, cable, network and that no other program has it; `rakelight devices` lists cameras",
            code="camera.not_found",
        )
    if len(chosen) > 1:
        raise DeviceError(
            f"{producer} sees {len(chosen)} cameras: {listed}",
            hint="say which by its serial_number in rig.toml",
            code="camera.ambiguous",
        )
    made: list[Any] = []
    failed: list[BaseException] = []

    def create() -> None:
        try:
            made.append(harvester.create(chosen[0]))
        except BaseException as error:  # handed to the caller's thread
            failed.append(error)

    thread = threading.Thread(target=create, name="open camera")
    thread.start()
    thread.join()
    if failed:
        raise DeviceError(
            f"camera {there[chosen[0]]['model']} {there[chosen[0]]['serial_number']} cannot be opened: {told(failed[0])}",
            hint="close other programs that use it (viewers of the vendor), or unplug and plug it",
            code="camera.busy",
        ) from failed[0]
    return made[0]


def enable_chunks(nodes: Any) -> frozenset[str]:
    """Switch on what the camera can send with each frame; a camera that refuses goes on without."""
    if not nodes.has_node("ChunkModeActive") or not nodes.has_node("ChunkSelector"):
        return frozenset()
    enabled = set()
    known = {str(s) for s in optional(lambda: nodes.ChunkSelector.symbolics, ())}
    for name in _CHUNKS:
        if name in known and optional(partial(_enable, nodes, name), False):
            enabled.add(name)
    return frozenset(enabled)


def _enable(nodes: Any, name: str) -> bool:
    nodes.ChunkModeActive.value = True
    nodes.ChunkSelector.value = name
    nodes.ChunkEnable.value = True
    return True


def usable(node: Any) -> bool:
    from genicam import genapi

    return bool(genapi.is_available(node))


def range_of(nodes: Any, name: str) -> tuple[float, float] | None:
    if not nodes.has_node(name):
        return None
    node = getattr(nodes, name)
    return float(node.min), float(node.max)


def taken(pixel_format: str) -> bool:
    try:
        unpacked_name(pixel_format)
    except DeviceError:
        return False
    return True


def pixel_format_name(raw: Any) -> str:
    from harvesters.util.pfnc import dict_by_ints

    code = int(raw.pixel_format)
    return str(dict_by_ints.get(code, f"0x{code:08X}"))


def timestamp_ns(raw: Any) -> int | None:
    """The device's clock of a buffer in ns: as it is told, or from ticks and their frequency; None where neither is known."""
    if stamp := optional(lambda: int(raw.timestamp_ns), 0):
        return int(stamp)
    ticks = optional(lambda: int(raw.timestamp), 0)
    ticks_per_s = optional(lambda: int(raw.parent.parent.timestamp_frequency), 0)
    return ticks * 1_000_000_000 // ticks_per_s if ticks and ticks_per_s else None


def optional(read: Callable[[], T], otherwise: Any) -> Any:
    """What ``read`` gives, or ``otherwise`` where the device does not offer it."""
    from genicam import genapi, gentl

    try:
        return read()
    except (genapi.GenericException, gentl.GenericException):
        return otherwise
    except AttributeError as error:
        if str(error):  # the binding says a missing feature without a word; anything else is a mistake of ours
            raise
        return otherwise


def told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
