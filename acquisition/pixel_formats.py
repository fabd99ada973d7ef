"""Pixel formats of cameras (Pixel Format Naming Convention 2.x, EMVA): their names, and how many bytes an image takes.

``Mono12p`` is little-endian bit packing without gaps; ``Mono12Packed`` the older one of GigE Vision, where the third byte
holds the low bits of two pixels.
"""

from __future__ import annotations

import re

from rakelight.errors import DeviceError

_NAME = re.compile(r"(Mono|BayerRG|BayerGR|BayerGB|BayerBG|RGB|RGBa)(8|10|12|14|16)(p|Packed)?")


def unpacked_name(pixel_format: str) -> str:
    """The SFNC name of what ``unpack`` makes of a format: ``BayerRG12p`` → ``BayerRG12``; ``RGBa8`` → ``RGB8``.

    Raises :class:`DeviceError` (``camera.pixel_format``) for formats that rakelight does not take.
    """
    kind, bits, _ = parts(pixel_format)
    return f"{'RGB' if kind == 'RGBa' else kind}{bits}"


def packed_bytes(pixel_format: str, width: int, height: int) -> int:
    """Bytes of an image of this size in a pixel format."""
    kind, bits, packing = parts(pixel_format)
    count = width * height * {"RGB": 3, "RGBa": 4}.get(kind, 1)
    if packing == "p":
        return (count * bits + 7) // 8
    if packing == "Packed":
        return (count * 12 + 7) // 8  # 10 and 12 bits alike: two pixels in three bytes
    return count * (1 if bits == 8 else 2)


def parts(pixel_format: str) -> tuple[str, int, str | None]:
    """Kind, bits and packing (``p``, ``Packed``, None) of a pixel format."""
    found = _NAME.fullmatch(pixel_format)
    if found is None:
        raise unknown(pixel_format)
    return found[1], int(found[2]), found[3]


def unknown(pixel_format: str) -> DeviceError:
    """The error for a format that is not taken."""
    return DeviceError(
        f"pixel format {pixel_format!r} is not taken; taken are Mono, BayerRG/GR/GB/BG of 8, 10, 12, 14, 16 bits, 10 and 12 "
        "also packed (p, Packed), RGB8 and RGBa8",
        hint="set the camera to Mono8, Mono12, BayerRG8 or BayerRG12",
        code="camera.pixel_format",
    )
