"""How much memory a scene needs, said before anything is computed."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from rakelight.acquisition.simulator.scene import KEPT_BYTES
from rakelight.errors import InputError

# Bytes of a point: position, normal, body, reflectance (33); while a source is rendered or a projector kept: 20 (Mono: 12).
_POINT, _PROJECTION = 33, 20
# Bytes of a pixel: the surface on pixel centres and its flawless twin (33 each), xyz for the file (12), four zones, room,
# photo-response, electrons, one more rate (4 each), raw frame twice (4), white plane's maps while the calibration is made.
_PIXEL = 2 * 33 + 12 + 8 * 4 + 4 + 12


def needed_bytes(width: int, height: int, samples: int, projectors: int) -> int:
    """What a scene of this size takes at its peak, by arithmetic."""
    pixels, points = width * height, width * height * samples * samples
    kept = max(points * _PROJECTION, min(projectors * points * _PROJECTION, KEPT_BYTES))
    return points * _POINT + kept + pixels * _pixel_bytes(samples)


def _pixel_bytes(samples: int) -> int:
    """With one point a pixel, the surface on points is that on pixel centres, and is counted as the former."""
    return _PIXEL - _POINT if samples == 1 else _PIXEL


def check_memory(width: int, height: int, samples: int, projectors: int, available: int | None) -> None:
    """Refuse a size that does not fit into ``available`` bytes (None: not known) with :class:`InputError`, ``simulate.memory``."""
    needed = needed_bytes(width, height, samples, projectors)
    if available is None or needed <= available:
        return
    pixels, points = width * height / 1e6, width * height * samples * samples / 1e6
    kept = (needed - width * height * (samples * samples * _POINT + _pixel_bytes(samples))) / 1e9
    raise InputError(
        f"{width}×{height} px with {samples}×{samples} points a pixel need {needed / 1e9:.1f} GB: {points:.1f} M points × "
        f"{_POINT} B + projector maps of {kept:.1f} GB + {pixels:.1f} M pixels × {_pixel_bytes(samples)} B; "
        f"{available / 1e9:.1f} GB are free",
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
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # all there is: macOS names no better figure
    except (ValueError, OSError):
        return None
