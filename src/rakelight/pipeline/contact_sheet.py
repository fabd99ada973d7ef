"""One picture of a whole capture: labelled panels with colour bars, for reports and for the technician's eye.

``contact_sheet`` lays out panels (inputs, normals, albedo, curvature, gloss, height, confidence …) on a dark ground.
``map_panel`` makes a panel from a float map: reduced by area, coloured with a perceptual map, with limits and unit.
Colours are RGB throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rakelight.arrays import check_array
from rakelight.errors import InputError
from rakelight.reconstruction.pseudo3d import Display, to_display

Rgb = NDArray[np.uint8]

# Moreland, "Diverging color maps for scientific visualization", ISVC 2009: cool to warm, nine of its table's entries.
_COOL_WARM = (
    (59, 76, 192), (98, 130, 234), (141, 176, 254), (184, 208, 249), (221, 221, 221),
    (245, 196, 173), (244, 154, 123), (222, 96, 77), (180, 4, 38),
)  # fmt: skip
_OPENCV_MAPS = {"viridis": cv2.COLORMAP_VIRIDIS, "inferno": cv2.COLORMAP_INFERNO}
COLOUR_MAPS = ("grey", "viridis", "inferno", "diverging")

_GROUND, _CARD, _WELL, _LINE = (21, 23, 27), (30, 33, 38), (14, 15, 18), (52, 57, 65)
_TITLE, _TEXT, _FAINT = (240, 242, 245), (196, 201, 208), (139, 146, 156)
_MARGIN, _GAP, _PAD = 28, 18, 14  # around the sheet, between cards, inside a card
_BAR_HEIGHT = 10
# fmt: off
_REPLACEMENTS = str.maketrans({
    "µ": "u", "μ": "u", "−": "-", "–": "-", "—": "-", "×": "x", "²": "^2", "³": "^3", "⁻": "^-", "¹": "1",
    "≤": "<=", "≥": ">=", "→": "->", "…": "...", "’": "'", "“": '"', "”": '"',
})
# fmt: on


@dataclass(frozen=True)
class ColourBar:
    """Scale below a panel: the values at both ends, their unit and the colour map between them."""

    low: float
    high: float
    unit: str = ""
    cmap: str = "viridis"


@dataclass(frozen=True)
class Panel:
    """One picture of the sheet: uint8, (H, W) grey or (H, W, 3) RGB, of any size."""

    title: str
    image: NDArray[np.uint8]
    caption: str = ""
    bar: ColourBar | None = None


# ------------------------------------------------------------------------------------------------------------- colours
@cache
def colour_table(cmap: str) -> Rgb:
    """The 256 colours of ``cmap`` as (256, 3) uint8 RGB; raises ``InputError`` ``contact_sheet.cmap``."""
    levels = np.arange(256, dtype=np.uint8)
    if cmap == "grey":
        return np.repeat(levels[:, None], 3, axis=1)
    if cmap == "diverging":
        anchors = np.linspace(0, 255, len(_COOL_WARM))
        channels = [np.interp(levels, anchors, channel) for channel in zip(*_COOL_WARM, strict=True)]
        return np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    if cmap in _OPENCV_MAPS:
        return np.ascontiguousarray(cv2.applyColorMap(levels[:, None], _OPENCV_MAPS[cmap])[:, 0, ::-1], np.uint8)
    raise InputError(f"colour map {cmap!r} is unknown; allowed: {', '.join(COLOUR_MAPS)}", code="contact_sheet.cmap")


def colourise(
    values: NDArray[Any] | Display, cmap: str = "viridis", *, limits: tuple[float, float] | None = None
) -> Rgb:
    """A map (H, W) in colour, NaN black.

    Parameters
    ----------
    values : (H, W) array or Display
        A :class:`~rakelight.reconstruction.pseudo3d.Display` is coloured as it is scaled; an array is scaled between
        ``limits``, or between its 1st and 99th percentile (symmetrically about 0 for ``"diverging"``).
    cmap : "grey", "viridis", "inferno" or "diverging" (blue, light grey, red: for signed maps)

    Returns
    -------
    (H, W, 3) uint8 RGB

    Raises
    ------
    InputError
        ``contact_sheet.cmap``; those of :func:`~rakelight.reconstruction.pseudo3d.to_display`.
    """
    table = colour_table(cmap)
    shown = values if isinstance(values, Display) else to_display(values, limits=limits, symmetric=cmap == "diverging")
    coloured: Rgb = table[shown.image]
    coloured[~shown.valid] = 0
    return coloured


def map_panel(
    title: str,
    values: NDArray[Any],
    *,
    cmap: str = "viridis",
    unit: str = "",
    caption: str = "",
    limits: tuple[float, float] | None = None,
    width: int = 840,
) -> Panel:
    """A panel with colour bar from a map (H, W) of any real dtype; limits as in :func:`colourise`.

    The map is first reduced to at most ``width`` columns, by averaging the valid pixels under each new one (NaN where
    there is none), so that a 20-megapixel map costs no more than a small one afterwards.
    """
    values = check_array(title, values, ndim=2)
    shown = to_display(_reduce_map(values, width), limits=limits, symmetric=cmap == "diverging")
    return Panel(title, colourise(shown, cmap), caption, ColourBar(shown.low, shown.high, unit, cmap))


def _reduce_map(values: NDArray[Any], width: int) -> NDArray[np.float32]:
    rows, cols = values.shape
    reduced = values.astype(np.float32)
    if cols <= width:
        return reduced
    size = (width, max(1, round(rows * width / cols)))
    valid = np.isfinite(reduced)
    if valid.all():
        return np.asarray(cv2.resize(reduced, size, interpolation=cv2.INTER_AREA), np.float32)
    reduced[~valid] = 0
    total = cv2.resize(reduced, size, interpolation=cv2.INTER_AREA)
    share = cv2.resize(valid.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.where(share > 0, total / np.where(share > 0, share, 1), np.nan).astype(np.float32)


# --------------------------------------------------------------------------------------------------------------- sheet
def contact_sheet(
    panels: Sequence[Panel],
    title: str,
    footer: Sequence[str] = (),
    *,
    columns: int = 4,
    panel_width: int = 420,
) -> Rgb:
    """Lay out panels in rows on one dark sheet.

    Parameters
    ----------
    panels : sequence of Panel
        Shown left to right, top to bottom. Large images are reduced by area averaging; all panels of a row share one
        height, and an image of another shape is centred.
    title : str
        Heading of the sheet.
    footer : sequence of str
        Small lines at the bottom: part, calibration, software version, what "relative" means …
    columns, panel_width : int
        Panels per row (at least 1) and width of a picture in pixels (at least 120).

    Returns
    -------
    (height, width, 3) uint8 RGB

    Raises
    ------
    InputError
        ``contact_sheet.empty`` without panels; ``contact_sheet.layout`` for too small a layout; ``input.shape`` or
        ``input.dtype`` naming the panel whose image is not uint8 grey or RGB.
    """
    if not panels:
        raise InputError("the contact sheet has no panels; at least 1 is needed", code="contact_sheet.empty")
    if columns < 1 or panel_width < 120:
        raise InputError(
            f"columns is {columns} and panel_width {panel_width}; at least 1 and 120 are needed",
            code="contact_sheet.layout",
        )
    pictures = [_fit(_check_image(panel), panel_width) for panel in panels]
    columns = min(columns, len(panels))
    rows = [_Row.measure(panels[i : i + columns], pictures[i : i + columns], panel_width)
            for i in range(0, len(panels), columns)]  # fmt: skip
    card_width = panel_width + 2 * _PAD
    width = 2 * _MARGIN + columns * card_width + (columns - 1) * _GAP
    heading, notes = _wrap(title, _font(30), width - 2 * _MARGIN), _wrap_all(footer, _font(15), width - 2 * _MARGIN)
    top = _MARGIN + len(heading) * 40 + 14
    height = top + sum(row.height + _GAP for row in rows) + len(notes) * 22 + _MARGIN - (0 if notes else _GAP)
    sheet = Image.new("RGB", (width, height), _GROUND)
    draw = ImageDraw.Draw(sheet)
    _text_lines(draw, _MARGIN, _MARGIN - 4, heading, 30, _TITLE, 40)
    y = top
    for row in rows:
        for index in range(len(row.panels)):
            row.draw(sheet, draw, index, _MARGIN + index * (card_width + _GAP), y)
        y += row.height + _GAP
    _text_lines(draw, _MARGIN, y, notes, 15, _FAINT, 22)
    return np.asarray(sheet).copy()


@dataclass(frozen=True)
class _Row:
    """One row of cards: title and unit, caption, picture, colour bar; the pictures of a row stand at one height."""

    panels: Sequence[Panel]
    pictures: Sequence[Rgb]
    captions: Sequence[list[str]]
    width: int  # of a picture

    @classmethod
    def measure(cls, panels: Sequence[Panel], pictures: Sequence[Rgb], width: int) -> _Row:
        return cls(panels, pictures, [_wrap(panel.caption, _font(15), width) for panel in panels], width)

    @property
    def head(self) -> int:
        """Height of title and captions above the picture."""
        lines = max(map(len, self.captions))
        return 30 + (lines * 20 + 4 if lines else 0)

    @property
    def picture_height(self) -> int:
        return max(picture.shape[0] for picture in self.pictures)

    @property
    def height(self) -> int:
        bar = _BAR_HEIGHT + 30 if any(panel.bar for panel in self.panels) else 0
        return _PAD + self.head + self.picture_height + bar + _PAD

    def draw(self, sheet: Image.Image, draw: ImageDraw.ImageDraw, index: int, x: int, y: int) -> None:
        """Draw card ``index`` with its upper left corner at (x, y)."""
        panel, picture = self.panels[index], self.pictures[index]
        draw.rounded_rectangle((x, y, x + self.width + 2 * _PAD - 1, y + self.height - 1), radius=8, fill=_CARD)
        x, y = x + _PAD, y + _PAD
        unit = _plain(panel.bar.unit) if panel.bar else ""
        draw.text((x + self.width, y + 1), unit, fill=_FAINT, font=_font(16), anchor="ra")
        room = self.width - int(_font(16).getlength(unit)) - 12
        _text_lines(draw, x, y - 3, [_shorten(panel.title, _font(20), room)], 20, _TITLE, 30)
        _text_lines(draw, x, y + 26, self.captions[index], 15, _TEXT, 20)
        y += self.head
        draw.rectangle((x - 1, y - 1, x + self.width, y + self.picture_height), fill=_WELL, outline=_LINE)
        inset = (self.width - picture.shape[1]) // 2, (self.picture_height - picture.shape[0]) // 2
        sheet.paste(Image.fromarray(picture), (x + inset[0], y + inset[1]))
        if panel.bar:
            _draw_bar(sheet, draw, panel.bar, x, y + self.picture_height + 10, self.width)


def _draw_bar(sheet: Image.Image, draw: ImageDraw.ImageDraw, bar: ColourBar, x: int, y: int, width: int) -> None:
    """Gradient with the low, middle and high value below it."""
    levels = np.rint(np.linspace(0, 255, width)).astype(np.intp)
    strip = np.broadcast_to(colour_table(bar.cmap)[levels], (_BAR_HEIGHT, width, 3))
    sheet.paste(Image.fromarray(np.ascontiguousarray(strip)), (x, y))
    places = (("la", x), ("ma", x + width // 2), ("ra", x + width))
    for (anchor, at), label in zip(places, tick_labels(bar.low, bar.high), strict=True):
        draw.text((at, y + _BAR_HEIGHT + 6), label, fill=_TEXT, font=_font(15), anchor=anchor)


def tick_labels(low: float, high: float) -> tuple[str, str, str]:
    """Low, middle and high value with just enough digits to tell them apart (three figures of their span)."""
    span = abs(high - low) or abs(high) or 1.0
    largest = max(abs(low), abs(high))
    if largest >= 1e5 or largest < 1e-3:
        return f"{low:.2e}", f"{(low + high) / 2:.2e}" if low + high else "0", f"{high:.2e}"
    digits = int(np.clip(2 - np.floor(np.log10(span)), 0, 6))
    low_label, middle, high_label = (f"{round(v, digits) + 0.0:.{digits}f}" for v in (low, (low + high) / 2, high))
    return low_label, "0" if low + high == 0 else middle, high_label


# ------------------------------------------------------------------------------------------------------ images, letters
def _check_image(panel: Panel) -> NDArray[np.uint8]:
    image = check_array(f"panel {panel.title!r}", panel.image, dtypes=("uint8",))
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or not image.size:
        raise InputError(
            f"panel {panel.title!r} has shape {image.shape}; needed: any×any (grey) or any×any×3 (RGB), not empty",
            code="input.shape",
        )
    return image


def _fit(image: NDArray[np.uint8], width: int) -> Rgb:
    """Scale to the panel's width, or to 1.25 times that height if it is upright; by area when it shrinks; as RGB."""
    rows, cols = image.shape[:2]
    scale = min(width / cols, 1.25 * width / rows)
    size = max(1, round(cols * scale)), max(1, round(rows * scale))
    fitted = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(fitted, cv2.COLOR_GRAY2RGB) if fitted.ndim == 2 else fitted, np.uint8)


@cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _plain(text: str) -> str:
    """Replace signs that Pillow's built-in font does not have."""
    return text.translate(_REPLACEMENTS)


def _text_lines(
    draw: ImageDraw.ImageDraw, x: int, y: int, lines: Sequence[str], size: int, fill: tuple[int, int, int], step: int
) -> None:
    for number, line in enumerate(lines):
        draw.text((x, y + number * step), line, fill=fill, font=_font(size))


def _wrap_all(texts: Sequence[str], font: Any, width: int) -> list[str]:
    return [line for text in texts for line in _wrap(text, font, width)]


def _wrap(text: str, font: Any, width: int) -> list[str]:
    """Break at blanks so that every line fits; words longer than a line are shortened. ``\\n`` starts a new line."""
    lines: list[str] = []
    for paragraph in _plain(text).splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(_shorten(line, font, width))
                longer = word
            line = longer
        lines.append(_shorten(line, font, width))
    return lines


def _shorten(text: str, font: Any, width: int) -> str:
    text = _plain(text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."
