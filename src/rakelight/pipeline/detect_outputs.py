"""An evaluation for people: a page about every part and sheets of all of them, gathered while parts stream by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rakelight import files
from rakelight.dataset.images import write_png
from rakelight.detection.conformal import promise
from rakelight.detection.detector import Detector
from rakelight.pipeline.detect_compare import Comparison
from rakelight.pipeline.detect_configurations import Configuration
from rakelight.pipeline.detect_evaluate import Tested
from rakelight.pipeline.detect_report import ReportRow, detector_facts, report_page, report_row
from rakelight.pipeline.detect_report_sections import STYLE, category_sections, facts_of, how_chosen, tables_section
from rakelight.pipeline.detect_tables import Table
from rakelight.pipeline.heat_scale import HeatScale, heat_scale
from rakelight.pipeline.verdict_sheets import Card, card, parts_sheet


class Gathered:
    """What the page and the sheets need, part by part: small pictures alone are kept (about 15 kB a part for the page; for
    sheets 150 kB, of one product at a time). The page shows the parts as the configuration that runs first judged them.

    Parameters
    ----------
    report, sheet : Path or None
        Where they go; None: not wanted. Of several sheets each has the configuration and the product in its name.
    several : bool
        Whether there will be several sheets.
    """

    def __init__(self, report: Path | None, sheet: Path | None, *, several: bool, alpha: float) -> None:
        self.main = ""
        self.report, self.sheet, self.several, self.alpha = report, sheet, several, alpha
        self.written: list[Path] = []
        self._rows: list[ReportRow] = []
        self._cards: list[Card] = []
        self._of: tuple[Configuration, str, HeatScale] | None = None
        self._detectors: dict[str, Any] = {}
        self._scales: dict[str, HeatScale] = {}
        self._promises: dict[str, Any] = {}

    def watch(self, configuration: Configuration, category: str, detector: Detector, one: Tested) -> None:
        """Keep what is shown of one part."""
        if self._of is None or self._of[:2] != (configuration, category):
            self._finish_sheet()
            self._of = (configuration, category, heat_scale(detector))
        scale = self._of[2]
        if self.sheet is not None:
            self._cards.append(card(one.part, one.verdict, scale))
        self.main = self.main or configuration.name
        if self.report is not None and configuration.name == self.main:
            self._scales[category] = scale
            if category not in self._detectors:
                self._detectors[category] = detector_facts(detector)
                self._promises[category] = promise(detector.calibration_parts, self.alpha)
            self._rows.append(report_row(one.part, one.verdict, detector, scale, defective=one.defective))

    def finish(self, title: str, found: Comparison, tables: list[Table]) -> list[Path]:
        """Write what is left to write; returns all files written."""
        self._finish_sheet()
        if self.report is not None:
            self._write_page(title, found, tables, self.report)
        return self.written

    def _write_page(self, title: str, found: Comparison, tables: list[Table], path: Path) -> None:
        done = found.counts.get(self.main, {})
        rows = [row for row in self._rows if row.category in done]
        about = {
            category: [*pairs, ("Time", facts_of(found.seconds[self.main]))]
            for category, pairs in self._detectors.items()
        }
        shown = [
            f"Below the tables: figures of {self.main}, and every part as it was judged by it, at a false-alarm level of "
            f"{found.alpha:g}."
        ]
        html = report_page(
            title,
            rows,
            scales=self._scales,
            promises=self._promises,
            evaluation=found.evaluations[self.main].to_dict() if self.main in found.evaluations else None,
            about=about,
            above=[tables_section(tables, [*how_chosen(found), *shown])],
            extra=category_sections(found, self.main),
            style=STYLE,
        )
        files.make_folder(path.parent)
        files.write_text(path, html)
        self.written.append(path)

    def _finish_sheet(self) -> None:
        if self.sheet is None or self._of is None or not self._cards:
            return
        configuration, category, scale = self._of
        path = self.sheet
        if self.several:
            name = f"{self.sheet.stem}_{configuration.name}_{category}".replace(" ", "-").replace("/", "-")
            path = self.sheet.with_name(f"{name}{self.sheet.suffix}")
        picture = parts_sheet(self._cards, scale, f"{category}, {configuration.name}")
        files.make_folder(path.parent)
        write_png(path, picture)
        self.written.append(path)
        self._cards = []
