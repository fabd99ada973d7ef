"""Figures of a comparison in the layouts of the Real-IAD D³ paper's tables, as cells that any kind of file can show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rakelight.dataset.layout import OK
from rakelight.detection.metrics.areas import Figure
from rakelight.detection.metrics.evaluation import Metrics
from rakelight.errors import InputError
from rakelight.pipeline.detect_compare import Comparison
from rakelight.pipeline.detect_configurations import PLAIN, Entry, Layout

FIGURES = {
    "i_auroc": "I-AUROC", "p_auroc": "P-AUROC", "p_auroc_inside": "P-AUROC inside the part", "aupro_0.3": "AUPRO@0.3",
    "aupro_0.05": "AUPRO@0.05", "aupro_0.01": "AUPRO@0.01", "i_ap": "I-AP", "p_ap": "P-AP", "i_f1_max": "I-F1-max",
    "p_f1_max": "P-F1-max",
}  # fmt: skip
PAPER_FIGURES = ("i_auroc", "p_auroc")
PLAIN_FIGURES = ("i_auroc", "p_auroc", "p_auroc_inside", "aupro_0.3")
MEAN = "mean"
INTERVALS = "In brackets: 95 % intervals over parts (bootstrap)."
_WHOLE = "P-AUROC is over whole pictures, as in the paper; on most of them it is background that lifts it."
_NOTHING = "–"
_UNDECIDED = "none can be rejected"
_NARROW = 0.1  # an interval below it is told to three digits


@dataclass(frozen=True)
class Cell:
    """A figure with its interval, or words (``value`` None). ``best``: of those it stands with; ``after``: added to it."""

    words: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    best: bool = False
    after: str = ""

    @property
    def number(self) -> str:
        """The figure, or the words, without interval."""
        return self.words if self.value is None else f"{self.value:.3f}{self.after}"

    @property
    def interval(self) -> str:
        if self.value is None or self.low is None or self.high is None:
            return ""
        digits = 3 if self.high - self.low < _NARROW else 2
        return f"{self.low:.{digits}f}–{self.high:.{digits}f}"

    def text(self, between: str = " ") -> str:
        """All of it."""
        return f"{self.number}{between}({self.interval})" if self.interval else self.number


@dataclass(frozen=True)
class Table:
    """``heads``: rows of column heads, equal neighbours belong together; ``stubs``: how many columns are names, not figures."""

    name: str
    title: str
    heads: tuple[tuple[str, ...], ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    stubs: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Heads, rows of texts, and notes."""
        return {
            "name": self.name,
            "title": self.title,
            "heads": [list(h) for h in self.heads],
            "rows": [[c.text() for c in row] for row in self.rows],
            "notes": list(self.notes),
        }


def check_figures(figures: Sequence[str]) -> None:
    """Raise :class:`InputError` (``evaluate.figure``) for a figure that is none of :data:`FIGURES`."""
    unknown = [f for f in figures if f not in FIGURES]
    if unknown:
        raise InputError(f"figure {unknown[0]!r} is unknown; known: {', '.join(FIGURES)}", code="evaluate.figure")


def tables_of(layout: Layout, found: Comparison, figures: Sequence[str] = ()) -> list[Table]:
    """The tables of a layout; ``figures`` instead of those that it has by itself.

    Raises :class:`InputError` as :func:`check_figures`.
    """
    check_figures(figures)
    if layout.name == PLAIN:
        return _plain(layout, found, tuple(figures) or PLAIN_FIGURES)
    make: dict[str, Callable[[Layout, Comparison, tuple[str, ...]], Table]] = {
        "table2": _by_product, "table3": _one_row, "table4": _by_defect, "table5": _interpolation, "ablation": _by_entry,
    }  # fmt: skip
    shown = tuple(figures) or PAPER_FIGURES + (("aupro_0.3",) if layout.name == "ablation" else ())
    table = make[layout.name](layout, found, shown)
    notes = [*layout.notes, *([_WHOLE] if "p_auroc" in shown else []), *_notes(layout, found, table)]
    return [replace(table, notes=tuple(notes))]


# --------------------------------------------------------------------------------------------------------------- layouts
def _plain(layout: Layout, found: Comparison, figures: tuple[str, ...]) -> list[Table]:
    """One table a figure, products × methods, and one of verdicts."""
    entries = layout.entries
    heads = (("product", *(e.title for e in entries)),)
    tables: list[Table] = []
    said: set[str] = set()  # a note stands below the first table that it is about
    for figure in figures:
        rows = _product_rows(found, [(e, figure) for e in entries], lambda row: _marked(row, [range(1, len(row))]))
        table = Table(figure, FIGURES[figure], heads, rows)
        notes = [n for n in _notes(layout, found, table) if n not in said]
        said.update(notes)
        tables.append(replace(table, notes=tuple(notes)))
    rows = tuple((Cell(product), *(_verdicts(found, e.name, product) for e in entries)) for product in found.products)
    title = f"Verdicts at a false-alarm level of {found.alpha:g}"
    notes = ["Good parts rejected by mistake, and defective parts missed."]
    if any(cell.words == _UNDECIDED for row in rows for cell in row):
        notes.append(
            f"{_UNDECIDED.capitalize()}: so few good parts were taught that at this level no score is high enough."
        )
    return [*tables, Table("verdicts", title, heads, rows, tuple(notes))]


def _by_product(layout: Layout, found: Comparison, figures: tuple[str, ...]) -> Table:
    """Table 2: products × (modalities, method, figure)."""
    columns = [(e, f) for e in layout.entries for f in figures]
    heads = (
        ("Modality", *(e.group for e, _ in columns)),
        ("Model", *(e.title for e, _ in columns)),
        ("Metrics", *(FIGURES[f] for _, f in columns)),
    )
    groups = [range(1 + k, 1 + len(columns), len(figures)) for k in range(len(figures))]
    rows = _product_rows(found, columns, lambda row: _marked(row, groups))
    return Table("table2", "Methods and modalities, product by product (layout of Table 2)", heads, rows)


def _one_row(layout: Layout, found: Comparison, figures: tuple[str, ...]) -> Table:
    """Table 3: the mean over products, (method and modalities, figure) beside each other."""
    columns = [(e, f) for e in layout.entries for f in figures]
    heads = (
        ("", *(f"{e.group} ({e.title})" for e, _ in columns)),
        ("", *(FIGURES[f] for _, f in columns)),
    )
    row = (Cell("Avg"), *(_mean_cell(found, e, f) for e, f in columns))
    groups = [range(1 + k, 1 + len(columns), len(figures)) for k in range(len(figures))]
    title = "Combinations of modalities, mean over products (layout of Table 3)"
    return Table("table3", title, heads, (_marked(row, groups),))


def _by_defect(layout: Layout, found: Comparison, figures: tuple[str, ...]) -> Table:
    """Table 4: (product, defect) × (figure, points)."""
    columns = [(f, e) for f in figures for e in layout.entries]
    heads = (
        ("", "", *(FIGURES[f] for f, _ in columns)),
        ("Object", "Defect", *(e.title for _, e in columns)),
    )
    count = len(layout.entries)
    groups = [range(2 + k * count, 2 + (k + 1) * count) for k in range(len(figures))]
    rows = []
    for product in found.products:
        evaluated = [e.categories[product] for e in found.evaluations.values() if product in e.categories]
        for defect in sorted({name for c in evaluated for name in c.defects}):
            cells = [_defect_cell(found, e, product, defect, f) for f, e in columns]
            rows.append(_marked((Cell(product), Cell(defect), *cells), groups))
    title = "3D alone on fewer points, defect by defect (layout of Table 4)"
    return Table("table4", title, heads, tuple(rows), stubs=2)


def _interpolation(layout: Layout, found: Comparison, figures: tuple[str, ...]) -> Table:
    """Table 5: with and without interpolation × figure; the second row says by how much it differs."""
    table = _by_entry(layout, found, figures)
    first, second = table.rows
    pairs = zip(first[table.stubs :], second[table.stubs :], strict=True)
    told = (*second[: table.stubs], *(replace(b, after=_difference(a, b)) for a, b in pairs))
    title = "Interpolation of point features (layout of Table 5)"
    return replace(table, name="table5", title=title, rows=(first, told))


def _by_entry(layout: Layout, found: Comparison, figures: tuple[str, ...]) -> Table:
    """A row an entry, means over products."""
    heads = (("", "Configuration", *(FIGURES[f] for f in figures)),)
    rows = [(Cell(e.group), Cell(e.title), *(_mean_cell(found, e, f) for f in figures)) for e in layout.entries]
    columns = [tuple(row[2 + k] for row in rows) for k in range(len(figures))]
    marked = [_marked(column, [range(len(column))]) for column in columns]
    body = tuple((*row[:2], *(m[n] for m in marked)) for n, row in enumerate(rows))
    return Table("ablation", "What each piece is worth, mean over products", heads, body, stubs=2)


# ----------------------------------------------------------------------------------------------------------------- cells
def _product_rows(
    found: Comparison, columns: Sequence[tuple[Entry, str]], mark: Callable[[tuple[Cell, ...]], tuple[Cell, ...]]
) -> tuple[tuple[Cell, ...], ...]:
    rows = [mark((Cell(p), *(_product_cell(found, e, p, f) for e, f in columns))) for p in found.products]
    if len(rows) == 1:
        return tuple(rows)
    means = (Cell(MEAN), *(_mean_cell(found, e, f) for e, f in columns))
    return (*rows, mark(means))


def _cell(metrics: Metrics | None, figure: str) -> Cell:
    if metrics is None:
        return Cell("not run")
    value = metrics[figure]
    return Cell(_NOTHING) if value.value is None else _of(value)


def _of(figure: Figure) -> Cell:
    return Cell("", figure.value, figure.low, figure.high)


def _product_cell(found: Comparison, entry: Entry, product: str, figure: str) -> Cell:
    evaluation = found.evaluations.get(entry.name)
    category = evaluation.categories.get(product) if evaluation else None
    return _cell(category.all if category else None, figure)


def _defect_cell(found: Comparison, entry: Entry, product: str, defect: str, figure: str) -> Cell:
    evaluation = found.evaluations.get(entry.name)
    category = evaluation.categories.get(product) if evaluation else None
    return _cell(category.defects.get(defect) if category else None, figure)


def _mean_cell(found: Comparison, entry: Entry, figure: str) -> Cell:
    """The mean; one that lacks products is marked, and stands in no contest."""
    evaluation = found.evaluations.get(entry.name)
    if evaluation is None:
        return Cell("not run")
    cell = _cell(evaluation.mean, figure)
    lacks = evaluation.mean[figure].reason or set(found.products) - set(evaluation.categories)
    return replace(cell, after="*") if cell.value is not None and lacks else cell


def _verdicts(found: Comparison, name: str, product: str) -> Cell:
    counts = found.counts.get(name, {}).get(product)
    if counts is None:
        return Cell("not run")
    decided = counts.tested - counts.undecided
    if not decided.total():
        return Cell(_UNDECIDED)
    good, wrong = decided[OK], counts.rejected[OK]
    bad = decided.total() - good
    missed = bad - (counts.rejected.total() - wrong)
    return Cell(f"{wrong} of {good} good, {missed} of {bad} missed")


def _marked(cells: tuple[Cell, ...], groups: Iterable[Iterable[int]]) -> tuple[Cell, ...]:
    """The cells with the best of each group marked, as they are read: to three digits."""
    marked = list(cells)
    for group in groups:
        rivals = [n for n in group if cells[n].value is not None and cells[n].after != "*"]
        if len(rivals) > 1:
            best = max(round(cells[n].value or 0.0, 3) for n in rivals)
            for n in rivals:
                marked[n] = replace(cells[n], best=round(cells[n].value or 0.0, 3) == best)
    return tuple(marked)


def _difference(before: Cell, after: Cell) -> str:
    if before.value is None or after.value is None:
        return after.after
    change = round(after.value, 3) - round(before.value, 3)
    arrow = "=" if abs(change) < 5e-4 else "↑" if change > 0 else "↓"
    return f"{after.after} ({arrow}{abs(change):.3f})" if arrow != "=" else f"{after.after} (=)"


def _notes(layout: Layout, found: Comparison, table: Table) -> list[str]:
    """Why cells are empty, what a star means, and what is in brackets."""
    cells = [c for row in table.rows for c in row]
    notes = [INTERVALS] if any(c.interval for c in cells) else []
    if any(c.after.startswith("*") for c in cells):
        notes.append("* Mean of the products that have the figure; not comparable with the others.")
    why: dict[str, list[str]] = {}
    for entry in layout.entries:
        if entry.absent:
            why.setdefault(entry.absent, []).append(entry.title)
        for product, reason in found.failures.get(entry.name, {}).items():
            why.setdefault(" ".join(reason.split()), []).append(f"{entry.title} ({product})")
    notes += [f"Not run: {', '.join(names)}. {reason.rstrip('.')}." for reason, names in why.items()]
    if any(c.words == _NOTHING for c in cells):
        notes += _undefined(layout, found)
    return list(dict.fromkeys(notes))


def _undefined(layout: Layout, found: Comparison) -> list[str]:
    """Which products lack figures, and why; each reason once."""
    reasons = []
    for entry in layout.entries:
        evaluation = found.evaluations.get(entry.name)
        for product, metrics in evaluation.categories.items() if evaluation else ():
            for figure in ("i_auroc", "p_auroc"):
                reason = metrics.all[figure].reason
                if reason:
                    reasons.append(
                        f"{product}: {reason} in the test; figures that need one are not defined ({_NOTHING})."
                    )
    return reasons
