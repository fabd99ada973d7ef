"""Tables as text for papers and spreadsheets: Markdown, LaTeX (booktabs), CSV, and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rakelight import files
from rakelight.errors import InputError
from rakelight.pipeline.detect_tables import Cell, Table

KINDS = (".md", ".csv", ".tex", ".json")
_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "×": r"$\times$", "³": r"\textsuperscript{3}", "–": "--",
    "…": r"\ldots{}", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "≥": r"$\geq$",
}  # fmt: skip


def check_kind(path: Path) -> None:
    """Raise :class:`InputError` (``evaluate.output``) unless the file's name says what is to be in it."""
    if path.suffix.lower() not in KINDS:
        raise InputError(
            f"{path.name} does not say what table to write; names end in {', '.join(KINDS)}", code="evaluate.output"
        )


def write_tables(path: Path, tables: Sequence[Table], data: Mapping[str, Any]) -> None:
    """Write the tables as the name of the file says; ``.json`` also holds ``data``.

    Raises :class:`InputError` as :func:`check_kind` and :class:`StorageError`.
    """
    check_kind(path)
    made = {".md": markdown, ".csv": csv_text, ".tex": latex}
    kind = path.suffix.lower()
    if kind == ".json":
        both = dict(data) | {"tables": [t.to_dict() for t in tables]}
        text = json.dumps(both, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    else:
        text = made[kind](tables)
    files.write_text(path, text)


def markdown(tables: Sequence[Table]) -> str:
    """Pipe tables; heads of several rows become one of several lines, the best figures are bold."""
    return "\n".join(_markdown(t) for t in tables)


def _markdown(table: Table) -> str:
    heads = ["<br>".join(dict.fromkeys(_md(h) for h in column if h)) for column in zip(*table.heads, strict=True)]
    rule = ["---"] * table.stubs + ["---:"] * (len(heads) - table.stubs)
    rows = [[_md_cell(c) for c in row] for row in table.rows]
    lines = [f"| {' | '.join(row)} |" for row in (heads, rule, *rows)]
    notes = [f"- {_md(note)}" for note in table.notes]
    return "\n".join([f"**{_md(table.title)}**", "", *lines, "", *notes, *([""] if notes else [])])


def _md_cell(cell: Cell) -> str:
    number = f"**{_md(cell.number)}**" if cell.best else _md(cell.number)
    return f"{number} ({cell.interval})" if cell.interval else number


def _md(text: str) -> str:
    escaped = "".join("\\" + c if c in "\\|*_`<>" else c for c in text)
    return escaped.replace("\n", " ")


def csv_text(tables: Sequence[Table]) -> str:
    """A line a cell: table, its row's names, its column's heads, the figure and the ends of its interval."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["table", "row", "column", "value", "low", "high", "words"])
    for table in tables:
        heads = [" / ".join(dict.fromkeys(h for h in column if h)) for column in zip(*table.heads, strict=True)]
        for row in table.rows:
            name = " / ".join(c.words for c in row[: table.stubs] if c.words)
            for head, cell in zip(heads[table.stubs :], row[table.stubs :], strict=True):
                numbers = ["" if x is None else f"{x:.6f}" for x in (cell.value, cell.low, cell.high)]
                writer.writerow([table.name, name, head, *numbers, cell.words or cell.after.strip()])
    return stream.getvalue()


def latex(tables: Sequence[Table]) -> str:
    """``table`` environments for ``\\usepackage{booktabs}``; intervals are small, the best figures bold."""
    return "\n".join(_latex(t) for t in tables)


def _latex(table: Table) -> str:
    columns = len(table.heads[0])
    lines = [
        r"\begin{table}", r"\centering", rf"\caption{{{_tex(table.title)}}}",
        rf"\begin{{tabular}}{{{'l' * table.stubs}{'c' * (columns - table.stubs)}}}", r"\toprule",
    ]  # fmt: skip
    for number, heads in enumerate(table.heads):
        spans, rules = _spans(heads, table.stubs)
        lines.append(" & ".join(spans) + r" \\")
        if rules and number < len(table.heads) - 1:
            lines.append(" ".join(rules))
    lines.append(r"\midrule")
    lines += [" & ".join(_tex_cell(c) for c in row) + r" \\" for row in table.rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    if table.notes:
        lines.append(rf"\par\smallskip{{\footnotesize {' '.join(_tex(n) for n in table.notes)}}}")
    return "\n".join([*lines, r"\end{table}", ""])


def _spans(heads: Sequence[str], stubs: int) -> tuple[list[str], list[str]]:
    """Equal neighbours as one head, and the rules below those that span."""
    cells, rules = [_tex(h) for h in heads[:stubs]], []
    at = stubs + 1
    for head, same in groupby(heads[stubs:]):
        width = len(list(same))
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{_tex(head)}}}" if width > 1 else _tex(head))
        if width > 1:
            rules.append(rf"\cmidrule(lr){{{at}-{at + width - 1}}}")
        at += width
    return cells, rules


def _tex_cell(cell: Cell) -> str:
    number = rf"\textbf{{{_tex(cell.number)}}}" if cell.best else _tex(cell.number)
    return rf"{number} {{\scriptsize ({_tex(cell.interval)})}}" if cell.interval else number


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in text)
