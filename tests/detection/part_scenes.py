"""Drawn parts in a known pose: pictures, points and masks of one shape, turned and shifted exactly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

HEIGHT, WIDTH = 180, 240
PITCH_MM = 0.1
CAMERA_MM = 200.0


def draw(
    angle_deg: float = 0.0,
    shift_px: tuple[float, float] = (0.0, 0.0),
    *,
    form: str = "lever",
    pattern: bool = True,
    seed: int = 0,
    zoom: float = 1.0,
) -> dict[str, Any]:
    """Arrays of a part 90 px wide; the angle runs from right to down, as in pictures.

    ``form``: ``"lever"`` (long, one end round), ``"disc"``. ``pattern``: a print that is not round. Two samples to each side of a
    pixel make edges soft. The ``"normals"`` picture shows a roof whose ridge lies along the lever.
    """
    rng = np.random.default_rng(seed)
    height, width = round(HEIGHT * zoom), round(WIDTH * zoom)
    v, u = np.mgrid[:height, :width].astype(np.float64)
    u, v = (u + 0.5) / zoom - 0.5, (v + 0.5) / zoom - 0.5
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    du, dv = u - (WIDTH - 1) / 2 - shift_px[0], v - (HEIGHT - 1) / 2 - shift_px[1]
    a, b = c * du + s * dv, -s * du + c * dv  # in the part's own frame
    if form == "lever":
        mask = ((np.abs(b) < 16) & (np.abs(a) < 30)) | (np.hypot(a - 30, b) < 22) | (np.hypot(a + 30, b) < 16)
    else:
        mask = np.hypot(a, b) < 45
    level = np.full((height, width), 70.0)
    level[mask] = 160
    if pattern:
        ink = np.clip(4 - np.hypot(a - 20, b - 8) + 0.5, 0, 1) + np.clip(3.5 - np.abs(b + 6), 0, 1) * (np.abs(a) < 20)
        level -= 90 * np.clip(ink, 0, 1) * mask
    level += rng.normal(0, 1.5, level.shape)
    rgb = np.clip(np.stack([level, 0.9 * level, 0.8 * level], axis=-1), 0, 255).astype(np.uint8)
    slope = np.where(b > 0, 0.5, -0.5) * mask
    n = np.stack(
        [-s * slope, -c * slope, np.sqrt(1 - slope**2)], axis=-1
    )  # (right, up, to the camera) of a slope along b
    ps = np.rint((n + 1) * 127.5).astype(np.uint8)
    z = CAMERA_MM - mask * (5 - 0.05 * np.abs(b))
    x, y = (u - (WIDTH - 1) / 2) * PITCH_MM, (v - (HEIGHT - 1) / 2) * PITCH_MM
    xyz = np.stack([x, y, z + rng.normal(0, 0.005, z.shape)], axis=-1).astype(np.float32)
    return {"rgb": rgb, "ps": ps, "xyz": xyz, "mask": mask, "pitch_mm": PITCH_MM / zoom, "ps_encoding": "normals"}
