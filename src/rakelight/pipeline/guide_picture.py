"""One picture for whoever holds the board: what the camera sees, where corners were already, which tilts are missing.

It lies as ``preview.png`` in the session folder, beside ``guide.html``, a page that shows it and looks for a newer one every
second. Drawn with Pillow; colours are RGB.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rakelight import files
from rakelight.calibration.coverage import COVERAGE_CELLS, coverage
from rakelight.pipeline.guide import POSES, SIDES, TILT_DEG, Needs, Pose, tilt_words

if TYPE_CHECKING:
    from rakelight.pipeline.guided_walk import Look

PREVIEW, PAGE = "preview.png", "guide.html"
_WIDTH, _HEIGHT, _MARGIN = 1360, 900, 24
_LIVE_W, _SIDE_W = 880, 408
_GROUND, _CARD, _LINE = (21, 23, 27), (30, 33, 38), (60, 66, 75)
_TITLE, _TEXT, _FAINT = (240, 242, 245), (205, 210, 217), (139, 146, 156)
_GOOD, _BAD, _OPEN, _THIS = (92, 200, 120), (240, 106, 88), (244, 182, 70), (96, 176, 255)
_DIAL_DEG = 30.0  # at the rim of the dial
_REPLACEMENTS = str.maketrans({"–": "-", "−": "-", "×": "x", "≥": ">=", "…": "...", "µ": "u", "’": "'"})


def write_preview(
    folder: Path, title: str, instruction: str, look: Look, poses: Sequence[Pose], missing: Needs
) -> None:
    """Write ``preview.png`` into ``folder``, whole or not at all."""
    handle = io.BytesIO()
    draw_guide(title, instruction, look, poses, missing).save(handle, "PNG", compress_level=1)
    files.write_bytes(folder / PREVIEW, handle.getvalue())


def write_guide_page(folder: Path) -> None:
    """Write ``guide.html`` into ``folder``."""
    files.write_text(folder / PAGE, _HTML)


def draw_guide(title: str, instruction: str, look: Look, poses: Sequence[Pose], missing: Needs) -> Image.Image:
    """The whole picture: live view at the left, coverage and tilt dial at the right, sentences below."""
    sheet = Image.new("RGB", (_WIDTH, _HEIGHT), _GROUND)
    draw = ImageDraw.Draw(sheet)
    _text(draw, (_MARGIN, 18), title, 30, _TITLE)
    _text(draw, (_MARGIN, 58), instruction, 18, _TEXT)
    _text(draw, (_WIDTH - _MARGIN, 24), f"{len(poses)} of {POSES} poses", 24, _TITLE, "ra")
    bottom = _draw_live(sheet, draw, look, poses, 98)
    left = _MARGIN + _LIVE_W + _MARGIN
    low = _draw_coverage(draw, look, poses, (left, 98))
    _draw_dial(draw, look.pose, poses, missing, (left, low + 18))
    _draw_sentences(draw, look, bottom + 14)
    return sheet


# ----------------------------------------------------------------------------------------------------------------- live
def _draw_live(sheet: Image.Image, draw: ImageDraw.ImageDraw, look: Look, poses: Sequence[Pose], top: int) -> int:
    """The picture with the corners that were found, and outlines of earlier poses; returns where it ends."""
    picture = look.picture
    width, height = picture.size
    scale = min(_LIVE_W / width, 560 / height)
    size = round(width * scale), round(height * scale)
    x0 = _MARGIN + (_LIVE_W - size[0]) // 2
    live = cv2.resize(_shown(picture.grey), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    draw.rectangle((_MARGIN, top, _MARGIN + _LIVE_W, top + size[1]), fill=(10, 11, 13))
    sheet.paste(Image.fromarray(live).convert("RGB"), (x0, top))
    for pose in poses:
        draw.polygon(_hull(pose, scale, x0, top), outline=(118, 126, 138))
    colour = _GOOD if look.feedback.ok else _BAD
    if look.pose is not None:
        draw.polygon(_hull(look.pose, scale, x0, top), outline=colour, width=2)
        for u, v in look.pose.view.uv:
            x, y = x0 + (u + 0.5) * scale, top + (v + 0.5) * scale
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), outline=colour, width=2)
    draw.rectangle((_MARGIN, top, _MARGIN + _LIVE_W, top + size[1]), outline=colour, width=3)
    return top + size[1]


def _shown(grey: NDArray[np.float32]) -> NDArray[np.uint8]:
    """8 bits for the eye: stretched to its bright parts, the square root of the light."""
    high = max(float(np.percentile(grey[::3, ::3], 99.5)), 1.0)
    return np.asarray(np.sqrt(np.clip(grey / high, 0, 1)) * 255, np.uint8)


def _hull(pose: Pose, scale: float, x0: float, y0: float) -> list[tuple[float, float]]:
    hull = cv2.convexHull(pose.view.uv.astype(np.float32))[:, 0]
    return [(x0 + (float(u) + 0.5) * scale, y0 + (float(v) + 0.5) * scale) for u, v in hull]


# ------------------------------------------------------------------------------------------------------------- coverage
def _draw_coverage(draw: ImageDraw.ImageDraw, look: Look, poses: Sequence[Pose], at: tuple[int, int]) -> int:
    """Corners of the poses taken in each cell of the image, this pose's cells outlined; returns where it ends."""
    x0, y0 = at
    width, height = look.picture.size
    columns, rows = COVERAGE_CELLS
    cell_w = _SIDE_W / columns
    cell_h = min(cell_w * (height / rows) / (width / columns), 46)
    seen = coverage([p.view.uv for p in poses], (width, height))
    here = coverage([look.pose.view.uv] if look.pose is not None else [], (width, height))
    _text(draw, (x0, y0), "where corners were", 18, _TITLE)
    _text(draw, (x0 + _SIDE_W, y0 + 2), f"{(seen > 0).mean():.0%} of the image", 16, _FAINT, "ra")
    top = y0 + 30
    for row in range(rows):
        for column in range(columns):
            box = (
                x0 + column * cell_w + 1,
                top + row * cell_h + 1,
                x0 + (column + 1) * cell_w - 2,
                top + (row + 1) * cell_h - 2,
            )
            count = int(seen[row, column])
            share = min(1.0, count / 20)
            fill = tuple(round(a + (b - a) * (0.25 + 0.75 * share)) for a, b in zip(_CARD, _GOOD, strict=True))
            draw.rectangle(box, fill=fill if count else _CARD, outline=_THIS if here[row, column] else _LINE)
            if count:
                middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
                _text(draw, middle, str(count), 14, _TITLE if share < 0.7 else _GROUND, "mm")
    return round(top + rows * cell_h)


# ----------------------------------------------------------------------------------------------------------------- dial
def _draw_dial(
    draw: ImageDraw.ImageDraw, pose: Pose | None, poses: Sequence[Pose], missing: Needs, at: tuple[int, int]
) -> None:
    """Tilts as places on a dial: level in the middle, the farther side outwards; sectors still missing in amber."""
    x0, y0 = at
    radius = 112.0
    cx, cy = x0 + _SIDE_W / 2, y0 + 76 + radius
    _text(draw, (x0, y0), "tilt: the dot lies towards the side that is farther away", 16, _TITLE)
    draw.ellipse(_box(cx, cy, radius), fill=_CARD, outline=_LINE)
    for name, axis, sign in SIDES:
        middle = {(0, 1): 0, (0, -1): 180, (1, 1): 90, (1, -1): 270}[axis, sign]
        if name in missing.tilts:
            draw.pieslice(_box(cx, cy, radius), middle - 30, middle + 30, fill=(92, 72, 34), outline=_OPEN)
    draw.ellipse(_box(cx, cy, radius * TILT_DEG / _DIAL_DEG), fill=_CARD, outline=_LINE)
    draw.ellipse(_box(cx, cy, radius * 20 / _DIAL_DEG), outline=_LINE)
    draw.line((cx - radius, cy, cx + radius, cy), fill=_LINE)
    draw.line((cx, cy - radius, cx, cy + radius), fill=_LINE)
    for degrees in (TILT_DEG, 20):
        _text(
            draw,
            (cx + radius * degrees / _DIAL_DEG * 0.72, cy - radius * degrees / _DIAL_DEG * 0.72 - 8),
            f"{degrees:.0f}°",
            13,
            _FAINT,
        )
    for name, axis, sign in SIDES:
        place = {(0, 1): (cx + radius + 8, cy, "lm"), (0, -1): (cx - radius - 8, cy, "rm"),
                 (1, 1): (cx, cy + radius + 4, "ma"), (1, -1): (cx, cy - radius - 4, "md")}[axis, sign]  # fmt: skip
        _text(draw, place[:2], name, 15, _OPEN if name in missing.tilts else _TEXT, place[2])
    for other in poses:
        x, y = _on_dial(other, cx, cy, radius)
        draw.ellipse(_box(x, y, 5), fill=_GOOD)
    if pose is not None:
        x, y = _on_dial(pose, cx, cy, radius)
        draw.line((cx, cy, x, y), fill=_THIS, width=3)
        draw.ellipse(_box(x, y, 9), fill=_THIS, outline=_TITLE, width=2)
        _text(draw, (x0, y0 + 24), f"now: {tilt_words(pose)}", 15, _THIS)


def _on_dial(pose: Pose, cx: float, cy: float, radius: float) -> tuple[float, float]:
    right, down = (float(t) for t in pose.tilt_deg)
    steep = math.hypot(right, down)
    shrink = min(1.0, _DIAL_DEG / steep) if steep > 0 else 1.0
    k = radius / _DIAL_DEG * shrink
    return cx + right * k, cy + down * k


def _box(x: float, y: float, r: float) -> tuple[float, float, float, float]:
    return x - r, y - r, x + r, y + r


# ------------------------------------------------------------------------------------------------------------ sentences
def _draw_sentences(draw: ImageDraw.ImageDraw, look: Look, top: int) -> None:
    """The verdict, large, and all that is to be said."""
    feedback = look.feedback
    head = "GOOD TO TAKE" if feedback.ok else "NOT YET"
    _text(draw, (_MARGIN, top), head, 28, _GOOD if feedback.ok else _BAD)
    y = top + 40
    for line in feedback.lines:
        mark, colour = {True: ("ok", _GOOD), False: ("x", _BAD), None: ("-", _FAINT)}[line.ok]
        for number, piece in enumerate(_wrapped(line.text, 16, _LIVE_W - 40)):
            if y > _HEIGHT - 22:
                return
            if number == 0:
                _text(draw, (_MARGIN, y), mark, 16, colour)
            _text(draw, (_MARGIN + 34, y), piece, 16, _TEXT if line.ok is not False else _BAD)
            y += 22


def _wrapped(text: str, size: int, width: int) -> list[str]:
    font, lines, line = _font(size), [], ""
    for word in text.translate(_REPLACEMENTS).split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]


def _text(
    draw: ImageDraw.ImageDraw, at: Any, text: str, size: int, fill: tuple[int, int, int], anchor: str = "la"
) -> None:
    draw.text(at, text.translate(_REPLACEMENTS), fill=fill, font=_font(size), anchor=anchor)


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


_HTML = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>rakelight: guided calibration</title>
<style>body{margin:0;background:#15171b;display:grid;place-items:center;min-height:100vh}img{max-width:100vw;max-height:100vh}</style>
<img id="live" src="preview.png" alt="the live picture appears with the first look">
<script>
const live = document.getElementById("live");
setInterval(() => { const next = new Image(); next.onload = () => live.src = next.src;
  next.src = "preview.png?" + Date.now(); }, 1000);
</script></html>
"""
