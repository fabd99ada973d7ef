"""Drivers by name: built-in ones, and those that other packages register as entry points.

Entry-point groups: ``rakelight.cameras``, ``rakelight.lights``, ``rakelight.projectors``; each entry is a callable that
takes the options of rig.toml as keywords and returns an open device.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from rakelight.acquisition.devices import Camera
from rakelight.errors import ConfigError

_BUILT_IN = {
    "cameras": {"genicam": "rakelight.acquisition.drivers.genicam_camera:GenICamCamera"},
    "lights": {"serial": "rakelight.acquisition.drivers.lights:SerialLights"},
    "projectors": {"bridge": "rakelight.acquisition.drivers.projector_bridge:open_bridge"},
}


def names(kind: str) -> list[str]:
    """Names of all drivers of a kind (``cameras``, ``lights``, ``projectors``)."""
    return sorted({*_BUILT_IN[kind], *(e.name for e in entry_points(group=f"rakelight.{kind}"))})


def find_driver(kind: str, name: str) -> Callable[..., Any]:
    """The driver ``name``; raises :class:`ConfigError` (``config.driver``) that lists those there are."""
    if name in _BUILT_IN[kind]:
        module, attribute = _BUILT_IN[kind][name].split(":")
        found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        return found
    for entry in entry_points(group=f"rakelight.{kind}"):
        if entry.name == name:
            loaded: Callable[..., Any] = entry.load()
            return loaded
    near = difflib.get_close_matches(name, names(kind), n=1)
    raise ConfigError(
        f"{kind[:-1]} driver {name!r} is not known; known: {', '.join(names(kind))}",
        hint=f"did you mean {near[0]!r}?" if near else "install the package that brings it, or choose one of these",
        code="config.driver",
    )


def open_camera_here(name: str, options: Mapping[str, Any]) -> Camera:
    """Open a camera in this process."""
    camera: Camera = find_driver("cameras", name)(**options)
    return camera
