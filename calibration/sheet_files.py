"""A target sheet as PDF, SVG or PNG. Vectors keep every edge to the float; a PNG keeps it as grey of the pixels it cuts.

All rectangles of a group are one path, so that no renderer leaves hairlines where two of them touch.
"""

from __future__ import annotations

import html
import io
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rakelight import files
from rakelight.calibration.target_sheets import TargetSheet, Words
from rakelight.errors import InputError

MM_PER_INCH = 25.4
MIN_DPI, MAX_DPI = 100, 12000
MAX_PIXELS = 400_000_000  # a level page of A4 at 2000 dpi


def write_sheet(path: str | Path, sheet: TargetSheet, *, dpi: int = 1200) -> None:
    """Write ``sheet`` as the suffix of ``path`` says (.pdf, .svg, .png), atomically; ``dpi`` is for PNG.

    Raises :class:`InputError` (``target.output``, ``target.dpi``) and :class:`StorageError`.
    """
    path = Path(path)
    writers: dict[str, Callable[[], bytes]] = {
        ".pdf": lambda: sheet_pdf(sheet),
        ".svg": lambda: sheet_svg(sheet).encode(),
        ".png": lambda: sheet_png(sheet, dpi),
    }
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise InputError(
            f"{path} is no kind of file a target is written as; allowed: {', '.join(writers)}",
            hint="PDF is best for printing, SVG for a photolithography house, PNG for everything else",
            code="target.output",
        )
    files.write_bytes(path, writer())


def _number(value: float) -> str:
    """The shortest decimals that mean this very float, without exponent (PDF knows none)."""
    return np.format_float_positional(float(value) + 0.0, trim="-")


# ------------------------------------------------------------------------------------------------------------------ PDF
def sheet_pdf(sheet: TargetSheet) -> bytes:
    """The sheet as a PDF of one page (PDF 1.6, ISO 32000-1): vectors in mm, Helvetica, a hint not to scale it.

    The content's first operator sets mm with y down, so that the file holds the numbers of the sheet themselves.
    """
    width, height = sheet.page_mm
    scale = _number(72 / MM_PER_INCH)
    content = [f"{scale} 0 0 -{scale} 0 {_number(height * 72 / MM_PER_INCH)} cm", "0 g"]
    for group in (sheet.print_mm, sheet.ruler_mm):
        content += [" ".join(map(_number, r)) + " re" for r in group] + ["f"]
    content += ["BT", *(_pdf_words(w) for w in sheet.words), "ET"]
    stream = "\n".join(content).encode("cp1252")
    box = f"[0 0 {_number(width * 72 / MM_PER_INCH)} {_number(height * 72 / MM_PER_INCH)}]"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /ViewerPreferences << /PrintScaling /None >> >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox {box} /Contents 4 0 R "
        "/Resources << /Font << /F1 5 0 R >> >> >>".encode(),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Title (%s) /Producer (rakelight) >>" % _escaped(f"rakelight: {sheet.board}").encode("cp1252"),
    ]
    return _pdf_file(objects)


def _pdf_words(words: Words) -> str:
    # The page's y runs down, so letters are turned over to stand again.
    turn = "0 -1 -1 0" if words.upright else "1 0 0 -1"
    place = f"{turn} {_number(words.x_mm)} {_number(words.y_mm)} Tm"
    return f"/F1 {_number(words.size_mm)} Tf {place} ({_escaped(words.text)}) Tj"


def _escaped(text: str) -> str:
    for sign in "\\()":
        text = text.replace(sign, "\\" + sign)
    return text


def _pdf_file(objects: Iterable[bytes]) -> bytes:
    """Objects 1, 2, 3 … (the first is the catalogue, the last the information) with their table of offsets."""
    out = bytearray(b"%PDF-1.6\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\n" % (len(offsets) + 1, len(offsets))
    out += b"startxref\n%d\n%%%%EOF\n" % start
    return bytes(out)


# ------------------------------------------------------------------------------------------------------------------ SVG
def sheet_svg(sheet: TargetSheet) -> str:
    """The sheet as SVG 1.1 whose units are mm; each group of rectangles is one path."""
    width, height = map(_number, sheet.page_mm)
    title = html.escape(f"rakelight: {sheet.board}")
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}mm" height="{height}mm" '
        f'viewBox="0 0 {width} {height}">',
        f"<title>{title}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for name, group in (("board", sheet.print_mm), ("rulers", sheet.ruler_mm)):
        parts = ("M{} {}h{}v{}h-{}z".format(*map(_number, (x, y, w, h, w))) for x, y, w, h in group)
        lines.append(f'<path id="{name}" fill="#000" d="' + "\n".join(parts) + '"/>')
    for words in sheet.words:
        x, y = _number(words.x_mm), _number(words.y_mm)
        turn = f' transform="rotate(-90 {x} {y})"' if words.upright else ""
        lines.append(
            f'<text x="{x}" y="{y}" font-family="Helvetica, Arial, sans-serif" font-size="{_number(words.size_mm)}"'
            f'{turn} xml:space="preserve">{html.escape(words.text)}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


# ------------------------------------------------------------------------------------------------------------------ PNG
def sheet_png(sheet: TargetSheet, dpi: int) -> bytes:
    """The sheet as an 8-bit grey PNG that states its resolution; see :func:`sheet_pixels`."""
    buffer = io.BytesIO()
    Image.fromarray(sheet_pixels(sheet, dpi)).save(buffer, "PNG", dpi=(dpi, dpi), compress_level=1)
    return buffer.getvalue()


def sheet_pixels(sheet: TargetSheet, dpi: int) -> NDArray[np.uint8]:
    """The sheet as pixels, (H, W) uint8, 255 white: x mm lies at x·dpi/25.4 − 0.5 px, pixel centre at integer.

    A pixel that an edge cuts is grey by the area that is black, which keeps the edge where it is to 1/255 px.

    Raises :class:`InputError` ``target.dpi`` for a resolution out of range, or a picture too large for memory.
    """
    if not MIN_DPI <= dpi <= MAX_DPI:
        raise InputError(f"resolution of {dpi} dpi; allowed: {MIN_DPI} to {MAX_DPI}", code="target.dpi")
    scale = dpi / MM_PER_INCH
    width, height = (math.ceil(side * scale - 1e-6) for side in sheet.page_mm)
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{width}×{height} px at {dpi} dpi; allowed: {MAX_PIXELS // 10**6} million pixels",
            hint="write PDF or SVG, which have no pixels, or choose fewer --dpi or a smaller --page",
            code="target.dpi",
        )
    pixels = np.full((height, width), 255, np.uint8)
    for x, y, w, h in np.concatenate([sheet.print_mm, sheet.ruler_mm]) * scale:
        columns, across = _covered(x, x + w, width)
        rows, down = _covered(y, y + h, height)
        ink = np.rint(np.outer(down, across) * 255).astype(np.uint8)
        # Saturating: two edges within one pixel may round to a little more than black.
        pixels[rows, columns] = cv2.subtract(pixels[rows, columns], ink).reshape(ink.shape)
    _draw_words(pixels, sheet.words, scale)
    return pixels


def _covered(low: float, high: float, size: int) -> tuple[slice, NDArray[np.float64]]:
    """Which pixels an interval touches (pixel k covers k to k + 1), and what share of each."""
    first, last = max(math.floor(low), 0), min(math.ceil(high), size)
    edges = np.arange(first, last + 1, dtype=np.float64).clip(low, high)
    return slice(first, last), np.diff(edges)


def _draw_words(pixels: NDArray[np.uint8], words: Iterable[Words], scale: float) -> None:
    for line in words:
        font: Any = ImageFont.load_default(max(4.0, line.size_mm * scale))
        left, top, right, bottom = (int(v) for v in font.getbbox(line.text, anchor="ls"))
        patch = Image.new("L", (right - left + 2, bottom - top + 2), 255)
        ImageDraw.Draw(patch).text((1 - left, 1 - top), line.text, fill=0, font=font, anchor="ls")
        drawn = np.asarray(patch)
        x, y = round(line.x_mm * scale), round(line.y_mm * scale)
        x, y = (x + top - 1, y - right - 1) if line.upright else (x + left - 1, y + top - 1)
        if line.upright:
            drawn = np.rot90(drawn)
        x, y = max(x, 0), max(y, 0)
        place = pixels[y : y + drawn.shape[0], x : x + drawn.shape[1]]
        np.minimum(place, drawn[: place.shape[0], : place.shape[1]], out=place)
