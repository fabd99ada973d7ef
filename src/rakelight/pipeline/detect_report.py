"""One page about a batch that was judged or a test: every part with its pictures and reason, scores, promise and figures.

The page needs nothing from elsewhere: pictures lie in it as small JPEGs, 10–20 kB a part. Rows can be made while parts stream by
(:func:`report_row`); only they are kept.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from rakelight.detection.conformal import Promise
from rakelight.detection.detector import Detector, Verdict
from rakelight.detection.parts import Part
from rakelight.errors import InputError
from rakelight.pipeline.heat_scale import UNIT, HeatScale, Rgb
from rakelight.pipeline.html_page import absent, esc, facts, figure, grid, page, section, sentences, table
from rakelight.pipeline.levels import too_few
from rakelight.pipeline.svg_figure import nice, significant
from rakelight.pipeline.svg_histograms import histogram
from rakelight.pipeline.verdict_pictures import heat_picture, legend, plain_picture
from rakelight.pipeline.verdict_text import NAMES, verdict_dict

TAUGHT_LIE_NEAR = "they lie nearer to themselves than any new part would"
_SIDE, _QUALITY = 150, 80  # of a small picture
_BINS, _BEYOND = (
    24,
    4.0,
)  # bars; of the histogram; it ends at so many thresholds, and what lies beyond counts in its last bar
_STYLE = """
.parts td { padding: 5px 12px 5px 0; vertical-align: middle; } .parts img { display: block; width: 150px; height: 150px; }
.parts td.mark { white-space: nowrap; font-weight: bold; } .mark.bad { color: #b34f00; } .mark.good { color: #007a59; }
.wrong { font-weight: normal; display: block; color: #1a1a1a; background: #ffe08a; padding: 0 5px; margin-top: 3px; }
.taught { font-weight: normal; display: block; color: #555; } .mark.open { color: #555; font-weight: normal; }
td.w, th.w { white-space: nowrap; } .legend { width: 420px; max-width: 100%; display: block; margin: 6px 0 12px; }
"""
_FIGURES = {
    "i_auroc": "I-AUROC",
    "i_ap": "I-AP",
    "i_f1_max": "I-F1-max",
    "p_auroc": "P-AUROC",
    "p_auroc_inside": "P-AUROC inside",
    "p_ap": "P-AP",
    "p_f1_max": "P-F1-max",
}


@dataclass(frozen=True)
class ReportRow:
    """One part of the page: the verdict as plain data (:func:`rakelight.pipeline.verdict_text.verdict_dict`), the truth
    (``defective``; None where nobody knows), JPEGs of the part as it is and under its heat, and whether it was ``taught``."""

    category: str
    verdict: Mapping[str, Any]
    defective: bool | None
    plain: bytes
    heat: bytes
    taught: bool = False

    @property
    def decided(self) -> bool:
        """Whether the part could have been rejected: its calibration has parts enough for a threshold."""
        return self.verdict["threshold"] is not None

    @property
    def outcome(self) -> str:
        """``"missed"`` or ``"false alarm"`` where the verdict is wrong, else ``""``."""
        if self.defective is None or not self.decided or self.defective == self.verdict["rejected"]:
            return ""
        return "missed" if self.defective else "false alarm"


def report_row(
    part: Part,
    verdict: Verdict,
    detector: Detector,
    scale: HeatScale,
    *,
    defective: bool | None = None,
    taught: bool = False,
) -> ReportRow:
    """The row of a part that was judged; both pictures are of the modality that sees most."""
    shown = verdict.seen_by if verdict.seen_by in part.available else sorted(part.available)[0]
    plain = _jpeg(plain_picture(part, shown))
    heat = _jpeg(heat_picture(part, verdict, shown, scale))
    return ReportRow(
        detector.category, verdict_dict(part, verdict, detector.method, scale), defective, plain, heat, taught
    )


def report_page(
    title: str,
    rows: Sequence[ReportRow],
    *,
    scales: Mapping[str, HeatScale] | None = None,
    promises: Mapping[str, Promise] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    about: Mapping[str, Sequence[tuple[str, Any]]] | None = None,
    above: Sequence[str] = (),
    extra: Mapping[str, Sequence[str]] | None = None,
    style: str = "",
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    title : str
    rows : sequence of ReportRow
        Of one or more categories; in each come wrong verdicts first, then the highest scores.
    scales, promises : mapping by category, optional
        The legend of its heat maps, and what its calibration can promise.
    evaluation : mapping, optional
        :meth:`rakelight.detection.metrics.evaluation.Evaluation.to_dict`.
    about : mapping by category, optional
        Names and values, for example :func:`detector_facts`.
    above : sequence of str
        Sections, HTML, before the figures (:mod:`rakelight.pipeline.detect_report_sections`).
    extra : mapping by category, optional
        HTML beside its histogram of scores: figures, and below these whatever is not one.
    style : str
        Style sheet of these.

    Raises
    ------
    InputError
        ``detect.report_empty``: no rows.
    """
    if not rows:
        raise InputError("the report has no parts; at least 1 is needed", code="detect.report_empty")
    alpha = next((one.alpha for one in (promises or {}).values()), None)
    body = [f"<h1>{esc(title)}</h1>", f"<p>{esc(summary(rows, alpha))}</p>"]
    body += above
    if evaluation is not None:
        body.append(section("Figures", _evaluation(evaluation)))
    for category in sorted({row.category for row in rows}):
        own = sorted(
            (row for row in rows if row.category == category),
            key=lambda r: (not r.outcome, -r.verdict["score"], r.verdict["key"]),
        )
        name = category or "Parts"
        more = list((extra or {}).get(category, ()))
        drawn = [part for part in more if part.startswith("<figure")]
        content = [f"<p>{esc(summary(own, alpha))}</p>", grid([_scores(own, name), *drawn])]
        content += [part for part in more if part not in drawn]
        if promises and category in promises:
            content.append(sentences(list(promises[category].sentences), ""))
        if about and category in about:
            content.append(f"<details><summary>How it was taught</summary>{facts(about[category])}</details>")
        if scales and category in scales:
            strip = legend(scales[category], 420)
            content.append(f'<img class="legend" alt="{esc(UNIT)}" src="{_data(_jpeg(strip, side=None))}">')
        content.append(_parts(own))
        body.append(section(name, "\n".join(content)))
    return page(title, "\n".join(body), style=_STYLE + style)


def detector_facts(detector: Detector) -> list[tuple[str, str]]:
    """Names and values that say what a detector is made of."""
    method = detector.method
    modalities = ", ".join(f"{NAMES[m]}: {method.features[m]}" for m in method.modalities)
    banks = "; ".join(
        f"{name}: {len(bank)} vectors × {bank.dim} of {len(bank.parts)} parts" for name, bank in detector.banks.items()
    )
    swap = f"{method.swap}, share {method.alpha:g}, blocks of {method.block} × {method.block}" if method.swap else ""
    frame = f"{method.size} px, {method.grid} × {method.grid} patches"
    pairs = [
        ("Method", method.name + (f" (compat: {method.compat})" if method.compat else "")),
        ("Features", modalities),
        ("Memory banks", banks),
        ("Share kept by the coreset", f"{100 * method.share:g} %"),
        ("Swapping", swap),
        ("Fusion", method.fusion or ""),
        ("Decision", method.decision),
        ("Working frame", frame),
        ("Good parts", str(len(detector.parts))),
        ("Seed", str(method.seed)),
    ]
    told = [(str(k), str(v)) for k, v in detector.facts.items() if isinstance(v, str | int | float | bool)]
    return [*pairs, *told]


# ---------------------------------------------------------------------------------------------------------------- parts
def _parts(rows: Sequence[ReportRow]) -> str:
    heads = ("As captured", "Heat map", "Verdict", "Score", "p", "Part", "Reason")
    top = "".join(f"<th{_column(h)}>{esc(h)}</th>" for h in heads)
    body = "".join(_part(row) for row in rows)
    return f'<div class="wide"><table class="parts"><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table></div>'


def _column(head: str) -> str:
    return ' class="n"' if head in ("Score", "p") else ""


def _part(row: ReportRow) -> str:
    verdict = row.verdict
    word, kind = ("reject", "bad") if verdict["rejected"] else ("OK", "good") if row.decided else ("no verdict", "open")
    wrong = f'<span class="wrong">{esc(row.outcome)}</span>' if row.outcome else ""
    wrong += '<span class="taught">taught</span>' if row.taught else ""
    said = str(verdict["reason"]).split(": ", 1)[-1]
    key = str(verdict["key"])
    pictures = "".join(
        f'<td><img loading="lazy" alt="{esc(f"{key}, {what}")}" src="{_data(jpeg)}"></td>'
        for what, jpeg in (("as captured", row.plain), ("heat map", row.heat))
    )
    return (
        f'<tr>{pictures}<td class="mark {kind}">{word}{wrong}</td><td class="n">{verdict["score"]:.1f}</td>'
        f'<td class="n">{verdict["p_value"]:.2g}</td><td>{esc(key)}</td><td>{esc(said)}</td></tr>\n'
    )


def summary(rows: Sequence[ReportRow], alpha: float | None = None) -> str:
    """What it comes to, in words; taught parts are counted apart, and so are those that no score could have had rejected."""
    new, taught = [row for row in rows if not row.taught], [row for row in rows if row.taught]
    words = [_counted(new, alpha)] if new else []
    if taught:
        rejected = sum(bool(row.verdict["rejected"]) for row in taught)
        words.append(
            f"{_parts_of(len(taught), 'more ' if new else '')} had been taught ({rejected} rejected): {TAUGHT_LIE_NEAR}."
        )
    if any(row.decided and row.verdict["provisional"] for row in rows):
        words.append("The threshold is provisional.")
    return " ".join(words)


def _counted(rows: Sequence[ReportRow], alpha: float | None) -> str:
    decided = [row for row in rows if row.decided]
    stuck = [row.verdict["calibration_parts"] for row in rows if not row.decided]
    if not decided:
        return f"{_parts_of(len(rows))}, none of which can be rejected: {too_few(max(stuck), alpha)}."
    rejected = sum(bool(row.verdict["rejected"]) for row in rows)
    words = f"{_parts_of(len(rows))}: {rejected} rejected, {len(rows) - rejected} accepted."
    if any(row.defective is not None for row in decided):
        outcomes = [row.outcome for row in decided]
        good = sum(row.defective is False for row in decided)
        bad = sum(row.defective is True for row in decided)
        words += f" {outcomes.count('missed')} of {bad} defective parts missed, "
        words += f"{outcomes.count('false alarm')} of {good} good parts rejected by mistake."
    if stuck:
        words += f" Of these parts {len(stuck)} cannot be rejected, whatever their score: {too_few(max(stuck), alpha)}."
    return words


def _parts_of(count: int, more: str = "") -> str:
    return f"{count} {more}part{'s' * (count != 1)}"


def _scores(rows: Sequence[ReportRow], name: str) -> str:
    """The histogram of scores with the threshold; parts that lack modalities may have thresholds of their own."""
    taught = [row.verdict["score"] for row in rows if row.taught]
    words = [f"Score in {UNIT}."]
    if taught:
        words.append("All of taught parts." if len(taught) == len(rows) else f"Without the {len(taught)} taught.")
    rows = [row for row in rows if not row.taught] or rows
    groups = {"good": False, "defective": True, "not known": None}
    series = {word: [row.verdict["score"] for row in rows if row.defective is truth] for word, truth in groups.items()}
    series = {word: values for word, values in series.items() if values}
    scores = [row.verdict["score"] for row in rows]
    limits = sorted({row.verdict["threshold"] for row in rows if row.verdict["threshold"] is not None})
    limit = limits[0] if len(limits) == 1 else None
    low, high = min([0.0, *scores]), max([1.0, *scores])
    if limit is not None:
        high = max(min(high, _BEYOND * max(limit, 1.0)), 1.2 * limit)
    if limit is not None:
        words.append(f"Dashed: threshold {significant(limit)}.")
    elif limits:
        words.append("Parts that lack modalities have thresholds of their own.")
    else:
        words.append("No threshold: too few good parts in the calibration.")
    step = nice((high - low) / _BINS)
    edges = step * (
        math.floor(low / step) + np.arange(_BINS + 2)
    )  # one bar more: the first begins at or below the lowest
    if max(scores) > edges[-1]:
        words.append(f"{sum(s > edges[-1] for s in scores)} beyond the scale count in the last bar.")
    drawn = histogram(f"Scores, {name}", edges, series, f"score ({UNIT})", limit=limit)
    return figure("Scores", " ".join(words), drawn)


# --------------------------------------------------------------------------------------------------------------- figures
def _evaluation(data: Mapping[str, Any]) -> str:
    """Categories and kinds of defect, a row each, with the figures that there are and their intervals."""
    categories: Mapping[str, Any] = data["categories"]
    names = [n for n in data["mean"] if n != "parts"]
    if not categories or not names:
        return absent("No figures.")
    heads = [("Parts", "w"), ("good", "n"), ("defective", "n")] + [(_heading(n), "n") for n in names]
    rows, reasons = [], set()
    for category, found in categories.items():
        rows.append(_figures_row(category or "all", found["all"], names))
        rows += [_figures_row(f"— {kind}", one, names) for kind, one in found["defects"].items()]
        reasons |= {f"{_heading(n)}, {category or 'all'}: {found['all'][n]['reason']}"
                    for n in names if found["all"][n]["value"] is None}  # fmt: skip
    if len(categories) > 1:
        rows.append(_figures_row("mean of the categories", data["mean"], names))
    return table(heads, rows) + (sentences(sorted(reasons), "") if reasons else "")


def _figures_row(name: str, found: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    counts = found["parts"]
    return [name, str(counts["good"]), str(counts["defective"]), *(_figure(found.get(n)) for n in names)]


def _figure(found: Mapping[str, Any] | None) -> str:
    if found is None or found["value"] is None:
        return "–"
    value = f"{found['value']:.3f}"
    return value + (f" ({found['low']:.3f}–{found['high']:.3f})" if found.get("low") is not None else "")


def _heading(name: str) -> str:
    return _FIGURES.get(name, name.replace("aupro_", "AUPRO@").replace("_", " "))


# --------------------------------------------------------------------------------------------------------------- pictures
def _jpeg(picture: Rgb, side: int | None = _SIDE) -> bytes:
    small = picture if side is None else cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done  # an array in memory: nothing but its shape could fail
    return bytes(data)


def _data(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
