"""What an evaluation adds to the page of :mod:`rakelight.pipeline.detect_report`: tables, curves, and who named what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from rakelight.dataset.layout import OK
from rakelight.pipeline.detect_compare import PRO_LIMIT, Comparison, Counts
from rakelight.pipeline.detect_tables import Cell, Table
from rakelight.pipeline.html_page import esc, figure, section, sentences
from rakelight.pipeline.svg_curves import curves
from rakelight.pipeline.verdict_text import NAMES

STYLE = """
.figures th { text-align: center; border-bottom: 1px solid #d0d0d0; white-space: nowrap; vertical-align: bottom; }
.figures thead tr:last-child th { border-bottom: 1.5px solid #1a1a1a; } .figures th.s { text-align: left; }
.figures tbody tr:last-child td { border-bottom: 1.5px solid #1a1a1a; } .figures .best { font-weight: bold; }
h3 { font-size: 16px; margin: 14px 0 2px; } .figures td { white-space: nowrap; } .figures small { color: #555; display: block; }
"""


def tables_section(tables: Sequence[Table], how: Sequence[str]) -> str:
    """All tables, with how parts were chosen above them."""
    body = "\n".join(f"<div>{html_table(t)}</div>" for t in tables)
    return section("Methods side by side", f'{sentences(list(how), "")}<div class="grid">{body}</div>')


def html_table(table: Table) -> str:
    """A table with its heads over several columns, best figures bold, its notes below."""
    heads = "".join(f"<tr>{_heads(row, table.stubs)}</tr>" for row in table.heads)
    rows = "".join(f"<tr>{''.join(_cell(c, n < table.stubs) for n, c in enumerate(row))}</tr>\n" for row in table.rows)
    body = f'<div class="wide"><table class="figures"><thead>{heads}</thead><tbody>\n{rows}</tbody></table></div>'
    return f"<h3>{esc(table.title)}</h3>{body}" + (sentences(list(table.notes), "") if table.notes else "")


def _heads(heads: Sequence[str], stubs: int) -> str:
    cells = "".join(f'<th class="s">{esc(h)}</th>' for h in heads[:stubs])
    for head, same in groupby(heads[stubs:]):
        cells += f'<th colspan="{len(list(same))}">{esc(head)}</th>'
    return cells


def _cell(cell: Cell, stub: bool) -> str:
    if stub:
        return f"<td>{esc(cell.words)}</td>"
    small = f"<small>{esc(cell.interval)}</small>" if cell.interval else ""
    return f'<td class="n{" best" if cell.best else ""}">{esc(cell.number)}{small}</td>'


def category_sections(found: Comparison, main: str) -> dict[str, list[str]]:
    """For each product: curves of all configurations, and what the configuration ``main`` named."""
    return {product: _of_category(found, product, main) for product in found.products}


def _of_category(found: Comparison, product: str, main: str) -> list[str]:
    order = [c.name for c in found.configurations if product in found.curves.get(c.name, {})]
    roc = {name: c.roc for name in order if (c := found.curves[name][product]).roc is not None}
    pro = {name: c.pro for name in order if (c := found.curves[name][product]).pro is not None}
    parts = []
    if roc:
        axes = ("good parts rejected", "defective parts found")
        svg = curves(f"ROC, {product}", {n: c for n, c in roc.items() if c is not None}, axes)
        parts.append(figure("Parts found against false alarms (ROC)", "Every threshold of the score is a point.", svg))
    if pro:
        axes = ("good pixels marked", "share of defect regions marked")
        svg = curves(f"PRO, {product}", {n: c for n, c in pro.items() if c is not None}, axes, end=PRO_LIMIT)
        caption = f"The area up to {PRO_LIMIT:g} is AUPRO@{PRO_LIMIT:g}; chance is the straight line from 0 to (1, 1)."
        parts.append(figure("Defect regions found against pixels marked by mistake (PRO)", caption, svg))
    counts = found.counts.get(main, {}).get(product)
    if counts is not None and counts.seen_by:
        parts.append(named_table(counts))
    return parts


def named_table(counts: Counts) -> str:
    """Kinds of defect × the modality that the verdict names; good parts that were rejected come last."""
    labels = sorted(counts.seen_by, key=lambda label: (label == OK, label))
    modalities = [m for m in NAMES if any(counts.seen_by[label][m] for label in labels)]
    heads = (("", "tested", "rejected", *(f"named {NAMES[m]}" for m in modalities)),)
    rows = tuple(
        (
            Cell("good, rejected by mistake" if label == OK else label),
            Cell(str(counts.tested[label])),
            Cell(str(counts.rejected[label])),
            *(Cell(str(counts.seen_by[label][m]) if counts.seen_by[label][m] else "·") for m in modalities),
        )
        for label in labels
    )
    note = "The modality in which the strangest spot stands out most; it need not lie on the defect."
    return html_table(Table("named", "Which modality named what", heads, rows, (note,)))


def how_chosen(found: Comparison) -> list[str]:
    """A sentence a product; one for all where they agree."""
    told = {product: chosen.how for product, chosen in found.chosen.items()}
    if len(set(told.values())) == 1 and len(told) > 1:
        return [f"Each of {', '.join(told)}: {next(iter(told.values()))}."]
    return [f"{product}: {how}." for product, how in told.items()]


def facts_of(seconds: Mapping[str, float]) -> str:
    """Time of a configuration in words."""
    return f"taught in {seconds['teach']:.1f} s, {seconds['score_each']:.2f} s a part"
