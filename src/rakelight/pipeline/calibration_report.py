"""The report of a calibration: one HTML file that needs nothing outside itself, for the screen and for A4.

Verdicts are words with a sign and a colour, so that they survive a grey printer. No script runs in it, and the page forbids
itself to load anything.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from rakelight import files
from rakelight.pipeline import svg_plots
from rakelight.pipeline.report_facts import (
    Coverage,
    Criterion,
    DepthUncertainty,
    History,
    LightFact,
    Poses,
    ReportFacts,
    Residuals,
)
from rakelight.pipeline.svg_figure import significant
from rakelight.reconstruction.lights import SLANT_RECOMMENDED_DEG, Light

_SIGNS = {"PASS": "✓", "WARN": "!", "FAIL": "✕"}
_CHECK_SECTIONS = ("Criteria", "Warnings and what was left out", "History", "Made from")
_MOST_VECTORS = 1500  # of a plot; more make a large file and a blue carpet
_UNITS = {"px": "px", "mm": "mm", "um": "µm", "deg": "°", "percent": "%", "share": ""}

_STYLE = """
:root { color: #1a1a1a; background: #fff; font: 15px/1.45 Helvetica, Arial, "Liberation Sans", sans-serif; }
body { max-width: 1080px; margin: 0 auto; padding: 20px 24px 60px; }
h1 { font-size: 25px; margin: 0 0 4px; overflow-wrap: anywhere; } h2 { font-size: 19px; margin: 34px 0 8px; }
h2 { border-bottom: 1px solid #1a1a1a; padding-bottom: 3px; break-after: avoid; }
table { border-collapse: collapse; margin: 8px 0; width: 100%; }
th, td { text-align: left; padding: 4px 10px 4px 0; border-bottom: 1px solid #d0d0d0; vertical-align: top; }
th { border-bottom: 1.5px solid #1a1a1a; } tr { break-inside: avoid; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.identity { width: auto; } .identity th { border: 0; padding-right: 18px; white-space: nowrap; } .identity td { border: 0; }
.identity td { overflow-wrap: anywhere; padding-right: 0; }
.v { font-weight: bold; white-space: nowrap; line-height: 1.15;
  padding: 1px 8px; border: 2px solid; border-radius: 3px; display: inline-block; }
.PASS { color: #00563f; background: #e3f4ee; } .WARN { color: #6b4700; background: #fff1cc; border-style: dashed; }
.FAIL { color: #fff; background: #a33c00; border-color: #a33c00; } .absent { color: #555; font-style: italic; }
.summary { font-size: 19px; margin: 10px 0 14px; } .grid { display: flex; flex-wrap: wrap; gap: 18px 26px; }
figure { margin: 0; flex: 0 1 calc(50% - 13px); break-inside: avoid; min-width: 300px; box-sizing: border-box; }
figure table { font-size: 13px; } figure td, figure td.n, figure th, figure th.n { padding-right: 7px; white-space: normal; }
figure.small { flex-basis: calc(25% - 20px); min-width: 200px; } figure svg { width: 100%; height: auto; display: block; }
figcaption { font-size: 14px; margin-bottom: 3px; } figcaption b { display: block; } .simulated { color: #6b4700; }
@page { size: A4; margin: 14mm 12mm; }
@media print { :root { font-size: 10pt; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  body { max-width: none; padding: 0; } figure table { font-size: 8.5pt; }
  figure { min-width: 0; } h2 { margin-top: 18px; } figcaption { font-size: 9pt; } }
"""


def write_report(path: str | Path, facts: ReportFacts, *, check: bool = False) -> None:
    """Write ``facts`` as one HTML file, atomically; raises :class:`StorageError`."""
    files.write_text(path, report_html(facts, check=check))


def report_html(facts: ReportFacts, *, check: bool = False) -> str:
    """The report as HTML 5. It holds no time of its own: equal facts give equal bytes.

    With ``check`` it is the report of a daily check: criteria, warnings, history and sources, nothing of how the calibration
    was made.
    """
    sections = (
        ("Criteria", _criteria(facts.criteria)),
        ("Warnings and what was left out", _sentences((*facts.warnings, *facts.rejected), "Nothing.")),
        ("Board poses", _pose_figures(facts.poses, facts.coverage)),
        ("Reprojection errors", _residual_figures(facts.residuals)),
        ("Projectors", _projector_figures(facts)),
        ("Depth uncertainty", _depth_figure(facts.depth)),
        ("Lights", _light_figures(facts.lights)),
        ("Flat field", _gain_figures(facts)),
        ("History", _history_figures(facts.history)),
        ("Made from", _sentences(facts.sources, "The recordings are not named.")),
    )
    wanted = [section for section in sections if not check or section[0] in _CHECK_SECTIONS]
    title = html.escape(f"{'Check of calibration' if check else 'Calibration'} {facts.calibration_id}")
    head = _header(facts, title, "checked" if check else "made")
    body = "\n".join(f"<section><h2>{name}</h2>\n{content}\n</section>" for name, content in wanted)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>\n{head}\n{body}\n</body></html>\n"
    )


# --------------------------------------------------------------------------------------------------------------- header
def _header(facts: ReportFacts, title: str, done: str) -> str:
    count = {verdict: sum(c.verdict == verdict for c in facts.criteria) for verdict in _SIGNS}
    told = ", ".join(f"{number} {verdict}" for verdict, number in count.items() if number) or "no criteria were judged"
    bad = [c.name for c in facts.criteria if c.verdict == "FAIL"]
    failed = f" Failed: {', '.join(bad)}." if bad else ""
    made = (
        '<p class="simulated">Made from simulated recordings; it describes no real rig.</p>' if facts.simulated else ""
    )
    lines = {
        "calibration": facts.calibration_id,
        done: facts.created_utc,
        **facts.identity,
        "software": facts.software,
        "content SHA-256": facts.content_sha256,
    }
    rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in lines.items())
    return (
        f"<h1>{title}</h1>\n"
        f'<p class="summary">{_verdict(facts.verdict)} {html.escape(told)}.{html.escape(failed)}</p>\n'
        f'{made}<table class="identity">{rows}</table>'
    )


def _verdict(verdict: str) -> str:
    return f'<span class="v {verdict}">{_SIGNS[verdict]} {verdict}</span>'


def _criteria(criteria: Sequence[Criterion]) -> str:
    if not criteria:
        return _absent("No criterion was judged.")
    rows = []
    for c in criteria:
        absent = "calibrated" if c.verdict == "PASS" else "not measured"  # what is there or not, without a figure
        value = absent if c.value is None else f"{significant(c.value)} {c.unit}".rstrip()
        limit = _limits(c)
        rows.append(
            (html.escape(c.name), html.escape(value), html.escape(limit), _verdict(c.verdict), html.escape(c.sentence))
        )
    return _table((("criterion", ""), ("value", "n"), ("limit", "n"), ("verdict", ""), ("what it means", "")), rows)


def _limits(c: Criterion) -> str:
    """The limit, with that of WARN before it where there is one."""
    if c.limit is None:
        return "–"
    bound, beyond = ("≥", "<") if c.at_least else ("≤", ">")
    first = f"{bound} {c.limit if c.warn is None else c.warn:g} {c.unit}".rstrip()
    return first if c.warn is None else f"{first}, FAIL {beyond} {c.limit:g}"


# -------------------------------------------------------------------------------------------------------------- figures
def _pose_figures(poses: Poses | None, coverage: Coverage | None) -> str:
    parts = []
    if poses is not None:
        series = {"in the fit": poses.in_sample_px, "left out of it": poses.held_out_px}
        plot = svg_plots.bars(
            "error of each pose",
            poses.names,
            series,
            "rms error (px)",
            limit=poses.limit_px,
            instead=dict.fromkeys(poses.rejected, "left out"),
        )
        why = "".join(f" {name}: {reason}." for name, reason in poses.rejected.items())
        caption = "A pose far worse when left out of the fit is one that the fit bends to." + why
        parts.append(_plot("Error of each pose of the board", caption, plot))
    if coverage is not None:
        plot = svg_plots.counts("corners in the image", coverage.size_px, coverage.counts)
        empty = int((np.asarray(coverage.counts) == 0).sum())
        said = f"{empty} of {np.size(coverage.counts)} cells are empty (framed): distortion is a guess there."
        parts.append(_plot("Corners used, by place in the image", said if empty else "Every cell has corners.", plot))
    return _grid(parts) or _absent("Camera: not calibrated.")


def _residual_figures(residuals: Iterable[Residuals]) -> str:
    parts = []
    for r in residuals:
        at, error = np.reshape(r.at_px, (-1, 2)), np.reshape(r.error_px, (-1, 2))
        known = np.isfinite(at).all(axis=1) & np.isfinite(error).all(axis=1)
        kept = np.asarray(known if r.kept is None else known & r.kept)
        rms = math.sqrt(float(np.mean(np.sum(error[kept] ** 2, axis=1)))) if kept.any() else math.nan
        thin = np.flatnonzero(kept)[:: max(1, -(-int(kept.sum()) // _MOST_VECTORS))]
        shown = np.sort(np.concatenate([thin, np.flatnonzero(known & ~kept)]))
        plot = svg_plots.arrows(f"errors, {r.device}", r.size_px, at[shown], error[shown], kept[shown])
        part = "" if len(thin) == kept.sum() else f", of which {len(thin)} are drawn"
        caption = f"{int(kept.sum())} corners{part}, rms {significant(rms)} px. Neighbours that point alike mean a wrong model."
        parts.append(_plot(f"Seen minus predicted, {r.device}", caption, plot))
    return _grid(parts) or _absent("Camera and projectors: not calibrated.")


def _projector_figures(facts: ReportFacts) -> str:
    if not facts.projectors:
        return _absent("Projectors: not calibrated.")
    numbers = sorted(facts.projectors)
    bars = {
        label: [facts.projectors[n].get(key, math.nan) for n in numbers]
        for key, label in (("rms_px", "in the fit"), ("held_out_px", "poses left out"))
        if any(key in facts.projectors[n] for n in numbers)
    }
    names = list(dict.fromkeys(key for n in numbers for key in facts.projectors[n]))
    heads = [("direction", ""), *((_with_unit(name), "n") for name in names)]
    rows = [
        (
            str(n),
            *("–" if name not in facts.projectors[n] else significant(facts.projectors[n][name]) for name in names),
        )
        for n in numbers
    ]
    plot = svg_plots.bars(
        "errors of the projectors", [f"direction {n}" for n in numbers], bars, "rms error (projector px)"
    )
    figure = _plot("Reprojection error of each projector", "In the projector's own pixels.", plot) if bars else ""
    return _grid([figure]) + _table(heads, rows)


def _with_unit(name: str) -> str:
    words, _, unit = name.rpartition("_")
    if not words or unit not in _UNITS:
        return name.replace("_", " ")
    return f"{words.replace('_', ' ')} {_UNITS[unit]}".rstrip()


def _depth_figure(depth: DepthUncertainty | None) -> str:
    if depth is None:
        return _absent("Depth uncertainty: not calibrated.")
    known = depth.sigma_um[np.isfinite(depth.sigma_um)]
    if not known.size:
        return _absent("Depth uncertainty: known nowhere in the field.")
    plot = svg_plots.value_map("depth uncertainty", depth.sigma_um, "µm", size_mm=depth.size_mm)
    caption = (
        f"One standard deviation of heights on the table that comes from the calibration alone: median "
        f"{significant(float(np.median(known)))} µm, at most {significant(float(known.max()))} µm. Grey: not measured."
    )
    return _grid([_plot("Depth uncertainty over the field (µm)", caption, plot)])


def _light_figures(lights: Sequence[LightFact]) -> str:
    if not lights:
        return _absent("Lights: not calibrated.")
    names = [str(x.zone) for x in lights]
    low, high = SLANT_RECOMMENDED_DEG
    plot = svg_plots.directions("light directions", names, [x.direction for x in lights], SLANT_RECOMMENDED_DEG)
    caption = f"As the camera sees the lights around a part: rings are slants, {low:g} to {high:g}° (shaded) is best."
    heads = ("zone", "slant °", "azimuth °", "strength", "distance mm", "σ mm", "apart mm")
    rows = []
    for x in lights:
        light = Light(x.zone, x.direction, x.strength)
        last = ("–" if v is None else f"{v:.{d}f}" for v, d in ((x.distance_mm, 0), (x.sigma_mm, 2), (x.apart_mm, 1)))
        rows.append((str(x.zone), f"{light.slant_deg:.1f}", f"{light.azimuth_deg:z.1f}", f"{x.strength:.3f}", *last))
    table = _table([(head, "n") for head in heads], rows)
    notes = (
        "Slant: to the viewing axis. Azimuth: counter-clockwise from the right. Distance: of the source from the part; σ: "
        "standard deviation of its position; apart: by how much the spheres alone and the white plane alone put it apart."
    )
    beside = f"<figure><figcaption><b>Directions and strengths</b>{notes}</figcaption>{table}</figure>"
    return _grid([_plot("Where the lights are", caption, plot), beside])


def _gain_figures(facts: ReportFacts) -> str:
    parts = []
    for zone, gains in sorted(facts.gains.items()):
        values = svg_plots.thumbnail(np.where(np.asarray(gains) > 0, gains, np.nan), svg_plots.MAP_SIDE)
        known = values[np.isfinite(values)]
        if not known.size:
            parts.append(_plot(f"Gain of zone {zone}", "No pixel has a gain.", "", small=True))
            continue
        relative = values / np.median(known)
        low, high = np.nanpercentile(relative, (1, 99)).tolist()
        plot = svg_plots.value_map(f"gain of zone {zone}", relative, "", width=300)
        caption = f"{low:.2f} to {high:.2f} of the median over 98 % of the field."
        parts.append(_plot(f"Gain of zone {zone} (relative)", caption, plot, small=True))
    return _grid(parts) or _absent("Flat field: not calibrated.")


def _history_figures(history: Sequence[History]) -> str:
    parts = []
    for h in history:
        plot = svg_plots.over_time(h.name, h.times, h.values, h.unit, limits=(h.low, h.high))
        outside = sum(bool((h.low is not None and v < h.low) or (h.high is not None and v > h.high)) for v in h.values)
        checks = "1 check" if len(h.times) == 1 else f"{len(h.times)} checks"
        caption = f"{checks}, {outside or 'none'} beyond the limits{' (squares)' if outside else ''}."
        parts.append(_plot(f"{h.name} ({h.unit})", caption, plot))
    return _grid(parts) or _absent("No checks have been recorded.")


# ----------------------------------------------------------------------------------------------------------------- HTML
def _plot(title: str, caption: str, svg: str, *, small: bool = False) -> str:
    head = f"<figcaption><b>{html.escape(title)}</b>{html.escape(caption)}</figcaption>"
    return f"<figure{' class=small' if small else ''}>{head}{svg}</figure>"


def _grid(parts: Sequence[str]) -> str:
    return f'<div class="grid">{"".join(parts)}</div>' if any(parts) else ""


def _table(heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> str:
    """A table of HTML cells; each head comes with the class of its column."""
    marks = [f' class="{kind}"' if kind else "" for _, kind in heads]
    top = "".join(f"<th{mark}>{html.escape(head)}</th>" for (head, _), mark in zip(heads, marks, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{mark}>{cell}</td>" for cell, mark in zip(row, marks, strict=True)) + "</tr>\n"
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table>"


def _sentences(texts: Sequence[str], nothing: str) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(t)}</li>' for t in texts)}</ul>" if texts else _absent(nothing)


def _absent(text: str) -> str:
    return f'<p class="absent">{html.escape(text)}</p>'
