"""How much memory a scene needs, said before anything is computed."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from rakelight.acquisition.simulator.scene import KEPT_BYTES
from rakelight.errors import InputError

_BASE = 400_000_000  # libraries, meshes, Embree's tree
# Bytes of a point: position, normal, body, reflectance (33); while a source is rendered or a projector kept: 20 (Mono: 12).
_POINT, _PROJECTION = 33, 20
# Bytes of a pixel: the surface on pixel centres (33) of part and twin, xyz for the file (12), four zones of part and twin
# (32), room, photo-response, electrons, one more rate (16), two raw frames (4).
_SURFACE, _PIXEL = 33, 12 + 32 + 16 + 4


def needed_bytes(width: int, height: int, samples: int, projectors: int) -> int:
    """What a part with a defect takes at its peak, by arithmetic: either beside its twin, or with the projectors' maps."""
    points = width * height * samples * samples
    return _BASE + points * _POINT + _beside(points, projectors) + width * height * _pixel_bytes(samples)


def _beside(points: int, projectors: int) -> int:
    twin = points * (_POINT + _PROJECTION)
    return max(twin, min(projectors * points * _PROJECTION, KEPT_BYTES))


def _pixel_bytes(samples: int) -> int:
    """With one point a pixel, the surface on points is that on pixel centres, and is counted as the former."""
    return _PIXEL if samples == 1 else _PIXEL + 2 * _SURFACE


def check_memory(width: int, height: int, samples: int, projectors: int, available: int | None) -> None:
    """Refuse a size that does not fit into ``available`` bytes (None: not known) with :class:`InputError`, ``simulate.memory``."""
    needed = needed_bytes(width, height, samples, projectors)
    if available is None or needed <= available:
        return
    pixels, points = width * height, width * height * samples * samples
    raise InputError(
        f"{width}×{height} px with {samples}×{samples} points a pixel need {needed / 1e9:.1f} GB: {_BASE / 1e9:.1f} GB of "
        f"programs + {points / 1e6:.1f} M points × {_POINT} B + {_beside(points, projectors) / 1e9:.1f} GB of twin or "
        f"projectors + {pixels / 1e6:.1f} M pixels × {_pixel_bytes(samples)} B; {available / 1e9:.1f} GB are free",
        hint="choose a smaller --size or --samples 1, or close other programs",
        code="simulate.memory",
    )


def available_bytes() -> int | None:
    """Memory that can be had without swapping; None where the system does not tell."""
    if sys.platform == "win32":

        class Status(ctypes.Structure):
            _fields_ = (
                ("length", ctypes.c_ulong),
                ("load", ctypes.c_ulong),
                *((name, ctypes.c_ulonglong) for name in ("total", "free", "c", "d", "e", "f", "g")),
            )

        status = Status(length=ctypes.sizeof(Status))
        return int(status.free) if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return min(int(line.split()[1]) * 1024, *_container_limit())
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # all there is: macOS names no better figure
    except (ValueError, OSError):
        return None


def _container_limit() -> tuple[int, ...]:
    """What a container (cgroup v2) still allows; none outside of one."""
    here = Path("/sys/fs/cgroup")
    try:
        return (int((here / "memory.max").read_text()) - int((here / "memory.current").read_text()),)
    except (OSError, ValueError):  # no cgroup, or "max": no limit
        return (sys.maxsize,)
