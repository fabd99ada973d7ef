"""The statistics of a data set as one HTML file, and the cells of its table, which the terminal shows as well.

The figures follow Figure 4 of the Real-IAD D³ paper (arXiv 2504.14221): counts, good and defective samples of each product,
shares of area that are defective, kinds of defects; and, beyond it, days and the coverage of surfaces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from rakelight import files
from rakelight.dataset import layout
from rakelight.dataset.category_jsons import PARTS
from rakelight.pipeline import svg_histograms as plots
from rakelight.pipeline.dataset_gaps import Gap, gaps
from rakelight.pipeline.dataset_stats import ClassStats, DatasetStats, SampleFacts, Spread, part_of
from rakelight.pipeline.html_page import absent, esc, figure, grid, page, section, sentences, table

COLUMNS = (
    ("category", ""), ("label", ""), ("samples", "n"), ("specimens", "n"), ("modalities", ""), ("MB", "n"),
    ("simulated", "n"), ("masks", "n"), ("area px", "n"), ("area mm²", "n"), ("area %", "n"), ("points %", "n"),
    ("exposure µs", ""), ("part measured %", "n"), ("days", "n"),
)  # fmt: skip
_SHARE_EDGES = np.geomspace(0.01, 100, 25)  # per cent, six bars a decade
_GOOD, _BAD = "good", "defective"
_MOST_EDGES = 21
_STYLE = """
td.cell { text-align: right; padding: 3px 10px; border: 1px solid #fff; font-variant-numeric: tabular-nums; }
"""


def write_stats_page(path: str | Path, stats: DatasetStats) -> None:
    """Write the page atomically; raises :class:`StorageError`."""
    files.write_text(path, stats_page(stats))


def stats_page(stats: DatasetStats) -> str:
    """The page as HTML; equal data sets give equal bytes."""
    title = f"Data set {stats.name}" + (f", {stats.category}" if stats.category else "")
    body = [
        f"<h1>{esc(title)}</h1>",
        f"<p>{esc(summary(stats))}</p>",
        section("Classes", _class_table(stats)),
        section("Gaps", sentences([gap_text(g) for g in gaps(stats)], "None found.")),
        section("Samples", _samples(stats)),
        section("Kinds of defects", _kinds(stats)),
        section("Size of the defects", _areas(stats)),
        section("Days", _days(stats)),
        section("Coverage of the surfaces", _coverage(stats)),
    ]
    if stats.notes:
        body.append(section("Notes", sentences(stats.notes, "")))
    return page(title, "\n".join(body), style=_STYLE)


def summary(stats: DatasetStats) -> str:
    """The data set in one sentence."""
    good = sum(f.key.is_ok for f in stats.facts)
    bad = len(stats.facts) - good
    kinds = len({(f.key.category, f.key.label) for f in stats.facts if not f.key.is_ok})
    simulated = sum(f.simulated for f in stats.facts)
    named = "" if not simulated else f"; {simulated} simulated"
    damaged = f"; {len(stats.damaged)} unreadable" if stats.damaged else ""
    categories = f"{len(stats.categories)} categor{'y' if len(stats.categories) == 1 else 'ies'}"
    return (
        f"{len(stats.facts)} samples of {categories}: {good} good, {bad} defective in {kinds} "
        f"groups; {stats.bytes / 1e6:.0f} MB{named}{damaged}."
    )


def class_cells(c: ClassStats) -> tuple[str, ...]:
    """One row of the table; an empty cell is not known."""
    return (
        c.category,
        c.label,
        str(c.samples),
        str(c.specimens or ""),
        modality_words(c.modalities, c.samples),
        f"{c.bytes / 1e6:.1f}",
        f"{c.simulated / c.samples:.0%}",
        str(c.masks) if c.masks or c.label != layout.OK else "",
        _range(c.area_px, 1, 0),
        _range(c.area_mm2, 1, 2),
        _range(c.share, 100, 2),
        _range(c.points_share, 100, 2),
        exposure_words(c.exposure_us),
        _range(c.part_coverage, 100, 1),
        str(len(c.days) or ""),
    )


def gap_text(gap: Gap) -> str:
    """A gap as a sentence."""
    return f"{gap.category or 'all'}: {gap.what} → {gap.hint}"


def modality_words(present: Mapping[str, int], samples: int) -> str:
    """``RGBL01–05 PS XYZ``; those that only some samples have with their number."""
    views = [f"RGBL{v:02d}" for v in layout.VIEWS]
    words = []
    rest = [m for m in layout.MODALITIES if m != "MASK"]
    if all(present.get(v) == samples for v in views):
        words.append("RGBL01–05")
        rest = [m for m in rest if m not in views]
    words += [m if present[m] == samples else f"{m} ({present[m]})" for m in rest if m in present]
    return " ".join(words)


def exposure_words(exposures: Mapping[str, tuple[float, float]]) -> str:
    """Shots of one exposure together: ``zone1–4 7807, all_zones 2824``."""
    groups: dict[tuple[float, float], list[str]] = {}
    for name, limits in exposures.items():
        groups.setdefault(limits, []).append(name)
    words = []
    for (low, high), names in groups.items():
        zones = [n for n in names if n.startswith("zone")]
        shown = [f"zones {', '.join(n.removeprefix('zone') for n in zones)}"] if len(zones) > 1 else zones
        shown += [n for n in names if n not in zones]
        words.append(f"{', '.join(shown)}: {low:g}" + (f"–{high:g}" if high > low else ""))
    return "; ".join(words)


# -------------------------------------------------------------------------------------------------------------- figures
def _class_table(stats: DatasetStats) -> str:
    words = (
        "Areas and shares are smallest, median and largest; the share is of the part's pixels. "
        + ("" if stats.points else "Points are counted with --points. ")
        + "Areas in mm² are as the camera sees them."
    )
    return table(COLUMNS, [class_cells(c) for c in stats.classes]) + f"<p>{esc(words)}</p>"


def _samples(stats: DatasetStats) -> str:
    if not stats.facts:
        return absent("No samples.")
    names = list(stats.categories)
    of = {c: stats.of(c) for c in names}
    good = [sum(f.key.is_ok for f in of[c]) for c in names]
    bad = [len(of[c]) - n for c, n in zip(names, good, strict=True)]
    parts = {p: [sum(part_of(stats, f.key) == p for f in of[c]) for c in names] for p in PARTS}
    split = (
        "The official split." if stats.split is not None else "There is no official split: good train, defective test."
    )
    return grid(
        [
            figure("Good and defective", "By product.", plots.stacked_bars("samples", names, {_GOOD: good, _BAD: bad}, "samples")),
            figure("Train, validation, test", split, plots.stacked_bars("parts", names, parts, "samples")),
        ]
    )  # fmt: skip


def _kinds(stats: DatasetStats) -> str:
    """How many samples of each kind of defect each product has: darker for more."""
    counts = Counter((f.key.category, f.key.label) for f in stats.facts if not f.key.is_ok)
    if not counts:
        return absent("No defective samples.")
    kinds = sorted({label for _c, label in counts})
    most = max(counts.values())
    rows = []
    for category in stats.categories:
        cells = "".join(_cell(counts[category, kind], most) for kind in kinds)
        rows.append(f"<tr><th>{esc(category)}</th>{cells}</tr>")
    total = "".join(_cell(sum(counts[c, kind] for c in stats.categories), 0) for kind in kinds)
    heads = "".join(f'<th class="n">{esc(kind)}</th>' for kind in kinds)
    body = "\n".join([*rows, f"<tr><th>all</th>{total}</tr>"])
    return f'<div class="wide"><table><thead><tr><th></th>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(count: int, most: int) -> str:
    if not count:
        return '<td class="cell">–</td>'
    share = 0.75 * count / most if most else 0.0
    red, green, blue = (round(255 + (c - 255) * share) for c in (0, 114, 178))
    ink = "#fff" if share > 0.5 else "#1a1a1a"
    return f'<td class="cell" style="background:rgb({red},{green},{blue});color:{ink}">{count}</td>'


def _areas(stats: DatasetStats) -> str:
    parts = []
    groups = [("All products", list(stats.facts))] if len(stats.categories) > 1 else []
    groups += [(c, stats.of(c)) for c in stats.categories]
    for name, facts in groups:
        measured = [(f, f.area.share) for f in facts if f.area is not None and f.area.share is not None]
        if not measured:
            continue
        shares = [100 * share for _f, share in measured]
        labels = sorted({f.key.label for f, _s in measured})
        series = (
            {label: [100 * s for f, s in measured if f.key.label == label] for label in labels}
            if 1 < len(labels) <= len(plots.COLOURS)
            else {"defective": shares}
        )
        svg = plots.histogram(
            f"defect area, {name}", _SHARE_EDGES, series, "defect area, % of the part", logarithmic=True
        )
        known = [f.area_mm2 for f, _s in measured if f.area_mm2 is not None]
        size = f" {min(known):.3g} to {max(known):.3g} mm²." if known else " Pixel size not known."
        words = (
            f"{len(shares)} masks, {min(shares):.2f} to {max(shares):.2f} %, median {np.median(shares):.2f} %.{size}"
        )
        parts.append(figure(name, words, svg))
    return grid(parts) or absent("No defect mask with a part mask.")


def _days(stats: DatasetStats) -> str:
    days = sorted({f.day for f in stats.facts if f.day})
    if not days:
        return absent("No sample says when it was captured.")
    good = Counter(f.day for f in stats.facts if f.key.is_ok)
    bad = Counter(f.day for f in stats.facts if not f.key.is_ok)
    series = {_GOOD: [good[d] for d in days], _BAD: [bad[d] for d in days]}
    unknown = good[""] + bad[""]
    words = f"{len(days)} days, {days[0]} to {days[-1]} (UTC)." + (
        f" Of {unknown} the day is not known." if unknown else ""
    )
    return grid(
        [figure("Samples a day", words, plots.stacked_columns("samples a day", days, series, "day of capture"))]
    )


def _coverage(stats: DatasetStats) -> str:
    parts = []
    for title, words, value in (
        ("Part measured", "Share of the part's pixels that have a point.", lambda f: f.part_coverage),
        ("Field measured", "Share of all pixels that have a point.", lambda f: f.surface_coverage),
    ):
        by_label = {_GOOD: _per_cent(stats, value, True), _BAD: _per_cent(stats, value, False)}
        known = [v for values in by_label.values() for v in values]
        if known:
            low = min(5 * np.floor(min(known) / 5), 95.0)
            edges = np.linspace(low, 100, _MOST_EDGES)
            missing = len(stats.facts) - len(known)
            more = f" Not known of {missing} samples." if missing else ""
            parts.append(figure(title, words + more, plots.histogram(title, edges, by_label, "%")))
    return grid(parts) or absent("No sample says how much of its surface was measured.")


def _per_cent(stats: DatasetStats, value: Callable[[SampleFacts], float | None], good: bool) -> list[float]:
    found = [value(f) for f in stats.facts if f.key.is_ok == good]
    return [100 * v for v in found if v is not None]


def _range(spread: Spread | None, factor: float, digits: int) -> str:
    if spread is None:
        return ""
    low, middle, high = (f"{factor * v:.{digits}f}" for v in (spread.low, spread.middle, spread.high))
    return low if low == high else f"{low} / {middle} / {high}"
