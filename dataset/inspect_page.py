"""The findings of an inspection as one HTML page that needs nothing else."""

from __future__ import annotations

from html import escape
from pathlib import Path

from rakelight import __version__
from rakelight.dataset.inspect import Inspection
from rakelight.files import write_text

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2024;
  background: #fff }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 2rem }
p.sub { color: #60646c; margin-top: 0 }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; vertical-align: top; padding: .5rem .6rem;
  border-bottom: 1px solid #e0e1e6 } td.n { text-align: right; font-variant-numeric: tabular-nums }
td.q { width: 34% } .evidence { color: #60646c; font-size: .85rem; overflow-wrap: anywhere }
.v { display: inline-block; min-width: 4.6rem; padding: 0 .5rem; border-radius: .6rem; font-size: .8rem; text-align: center }
.fine { background: #ddf3e4; color: #18794e } .note { background: #e1f0ff; color: #0b68cb }
.warning { background: #ffe8d7; color: #bd4b00 } .open { background: #e8e8ec; color: #45454b }
@media (prefers-color-scheme: dark) { body { background: #151718; color: #ecedee } td, th { border-color: #3a3f42 } }
"""


def write_page(path: str | Path, found: Inspection) -> None:
    """Write the page atomically; raises :class:`StorageError`."""
    write_text(path, page(found))


def page(found: Inspection) -> str:
    """The page's HTML; nothing from the source is taken as markup."""
    samples = sum(n for labels in found.counts.values() for parts in labels.values() for n in parts.values())
    rows = "".join(
        f'<tr><td><span class="v {a.verdict}">{a.verdict}</span></td><td class="q">{escape(a.question)}</td>'
        f'<td>{escape(a.answer)}<div class="evidence">{escape(a.evidence)}</div></td></tr>\n'
        for a in found.answers
    )
    counts = "".join(
        f"<tr><td>{escape(category)}</td><td>{escape(label)}</td><td>{escape(part or 'not stated')}</td>"
        f'<td class="n">{number}</td></tr>\n'
        for category, labels in found.counts.items()
        for label, parts in labels.items()
        for part, number in parts.items()
    )
    odd = "".join(f"<li>{escape(text)}</li>\n" for text in found.oddities) or "<li>nothing</li>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(found.source.name)}</title><style>{_STYLE}</style></head><body>\n"
        f'<h1>{escape(found.source.name)}</h1>\n<p class="sub">format {escape(found.format)}, {samples} samples in '
        f"{len(found.counts)} categories; {found.opened} files opened, rakelight {escape(__version__)}</p>\n"
        f"<h2>Questions</h2>\n<table>{rows}</table>\n<h2>Odd</h2>\n<ul>{odd}</ul>\n"
        f"<h2>Samples</h2>\n<table><tr><th>category</th><th>label</th><th>part</th><th>samples</th></tr>\n{counts}</table>\n"
        "</body></html>\n"
    )
