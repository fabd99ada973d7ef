"""Pieces of the pages about a data set: HTML that needs nothing from elsewhere, and forbids itself to load it.

Whatever comes from a file or a user passes through :func:`esc`. A script runs only if it is the page's own: the page states
its hash (Content Security Policy level 3, W3C).
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from typing import Any

STYLE = """
:root { color: #1a1a1a; background: #fff; font: 15px/1.45 Helvetica, Arial, "Liberation Sans", sans-serif; }
body { max-width: 1240px; margin: 0 auto; padding: 20px 24px 60px; }
h1 { font-size: 25px; margin: 0 0 4px; overflow-wrap: anywhere; } h2 { font-size: 19px; margin: 34px 0 8px; }
h2 { border-bottom: 1px solid #1a1a1a; padding-bottom: 3px; break-after: avoid; } a { color: #00568a; }
table { border-collapse: collapse; margin: 8px 0; } tr { break-inside: avoid; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid #d0d0d0; vertical-align: top; }
th { border-bottom: 1.5px solid #1a1a1a; } td { overflow-wrap: anywhere; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.facts th { border: 0; padding-right: 18px; white-space: nowrap; font-weight: normal; color: #555; }
.facts td { border: 0; } .absent { color: #555; font-style: italic; } .simulated { color: #6b4700; }
.grid { display: flex; flex-wrap: wrap; gap: 18px 26px; } figcaption { font-size: 14px; margin-bottom: 3px; }
figure { margin: 0; flex: 0 1 calc(50% - 13px); min-width: 300px; box-sizing: border-box; break-inside: avoid; }
figure svg { width: 100%; height: auto; display: block; } figcaption b { display: block; }
@page { size: A4; margin: 14mm 12mm; } @media print { body { max-width: none; padding: 0; font-size: 10pt; } }
"""


def esc(value: Any) -> str:
    """``value`` as text that HTML shows as it is, also within an attribute."""
    return html.escape(str(value), quote=True)


def page(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """An HTML 5 page; ``title`` is plain text, ``body`` HTML, ``script`` the only one that may run."""
    allowed = ""
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        allowed = f"; script-src 'sha256-{digest}'"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src 'self' file: data:{allowed}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{esc(title)}</title><style>{STYLE}{style}</style></head><body>\n{body}\n"
        + (f"<script>{script}</script>\n" if script else "")
        + "</body></html>\n"
    )


def section(title: str, content: str) -> str:
    """A part of a page under its heading."""
    return f"<section><h2>{esc(title)}</h2>\n{content}\n</section>"


def figure(title: str, caption: str, svg: str) -> str:
    """A plot with its words."""
    return f"<figure><figcaption><b>{esc(title)}</b>{esc(caption)}</figcaption>{svg}</figure>"


def grid(parts: Sequence[str]) -> str:
    """Figures side by side."""
    return f'<div class="grid">{"".join(parts)}</div>' if parts else ""


def table(heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[Any]]) -> str:
    """A table of plain values; each head comes with the class of its column (``"n"`` for numbers)."""
    marks = [f' class="{kind}"' if kind else "" for _, kind in heads]
    top = "".join(f"<th{m}>{esc(head)}</th>" for (head, _), m in zip(heads, marks, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{m}>{esc(cell)}</td>" for cell, m in zip(row, marks, strict=True)) + "</tr>\n"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table></div>'


def facts(pairs: Iterable[tuple[str, Any]]) -> str:
    """Names and values, one a line; empty values are left out."""
    rows = "".join(f"<tr><th>{esc(k)}</th><td>{esc(v)}</td></tr>\n" for k, v in pairs if v not in (None, ""))
    return f'<table class="facts">{rows}</table>'


def sentences(texts: Sequence[str], nothing: str) -> str:
    """A list of plain sentences."""
    return f"<ul>{''.join(f'<li>{esc(t)}</li>' for t in texts)}</ul>" if texts else absent(nothing)


def absent(text: str) -> str:
    """Words for what is not there."""
    return f'<p class="absent">{esc(text)}</p>'
