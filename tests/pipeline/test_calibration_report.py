"""The report of a calibration: whole in one file, every part told or said to be absent, figures as they are."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from rakelight.pipeline import svg_plots
from rakelight.pipeline.calibration_report import report_html, write_report
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

SVG = "{http://www.w3.org/2000/svg}"


def made_up() -> ReportFacts:
    """A realistic calibration: twelve poses, four projectors, four lights, one figure beyond its limit."""
    rng = np.random.default_rng(5)
    poses = tuple(f"pose-{k:02d}" for k in range(1, 13))
    residuals = []
    for device, size, scale in (
        ("camera", (1368, 912), 0.11),
        *((f"projector {k}", (912, 1140), 0.16) for k in (1, 2, 3, 4)),
    ):
        at = rng.uniform(0.06, 0.94, (540, 2)) * size
        error = rng.normal(0, scale, (540, 2)) + 0.0002 * (at - np.array(size) / 2)
        kept = np.ones(540, bool)
        kept[[40, 350]] = False
        error[~kept] += (4.0, -3.0)
        residuals.append(Residuals(device, size, at, error, kept))
    fit = rng.uniform(0.12, 0.2, 12)
    fit[6] = np.nan
    y, x = np.mgrid[-1:1:152j, -1:1:228j]
    sigma = 0.8 + 0.9 * (x**2 + 0.6 * y**2)
    sigma[:14, :20] = np.nan
    slant, lights = np.radians(45.0), []
    for zone, azimuth in enumerate(np.radians([0.4, 91.0, 179.5, 270.3]), 1):
        direction = np.array([np.sin(slant) * np.cos(azimuth), np.sin(slant) * np.sin(azimuth), np.cos(slant)])
        lights.append(LightFact(zone, direction, 1 + 0.03 * zone, 210.0 + zone, 0.1 * zone, 1.5))
    start = datetime(2025, 3, 1, 7, 30, tzinfo=UTC)
    times = tuple(start + timedelta(days=k) for k in range(40))
    drift = 0.4 + 0.05 * np.arange(40) + rng.normal(0, 0.25, 40)
    counts = rng.poisson(14, (8, 12))
    counts[0, :2] = counts[7, 11] = 0
    judge = Criterion.judge
    return ReportFacts(
        calibration_id="bench-3-2025-04-10",
        created_utc="2025-04-10T08:15:30+00:00",
        content_sha256="5d41402abc4b2a76b9719d911017c592" * 2,
        software="rakelight 0.1.0",
        identity={
            "rig": "bench 3",
            "camera": "MV-CH200 (DA1234567), 5472×3648 px",
            "board": "charuco of 10×7 squares of 4 mm",
        },
        criteria=(
            judge(
                "joint reprojection error", 0.187, "px", 0.30, "How far all corners lie from where the model puts them."
            ),
            judge("held out / in the fit", 1.12, "", 1.3, "Above 1.3 the model bends to its own poses.", warn=1.2),
            judge("corners kept", 98.7, "%", 95.0, "Share of the decodable corners in the fit.", at_least=True),
            judge("light directions", 0.41, "°", 0.5, "Largest angle between spheres after the fit.", warn=0.4),
            judge("step of 1 mm", 3.6, "µm", 3.0, "Error of the gauge's first step."),
            judge("flat field, evenness", None, "%", 20.0, "Was the white plane lit evenly?"),
        ),
        residuals=tuple(residuals),
        poses=Poses(poses, fit, fit * rng.uniform(1.0, 1.3, 12), {"pose-07": "blurred, edges 3.1 px wide"}, 0.3),
        coverage=Coverage((1368, 912), counts),
        lights=tuple(lights),
        gains={zone: 1 + 0.3 * (x * np.cos(zone) + y * np.sin(zone)) + 0.2 * x**2 for zone in (1, 2, 3, 4)},
        projectors={
            k: {
                "rms_px": 0.16 + k / 100,
                "held_out_px": 0.18 + k / 100,
                "corners_kept_percent": 98.0 + k / 10,
                "baseline_mm": 105.0,
            }
            for k in (1, 2, 3, 4)
        },
        depth=DepthUncertainty(sigma, (54.7, 36.5)),
        history=(
            History("height of the 1 mm step, error", "µm", times, drift, -2.0, 2.0),
            History("flatness", "µm", times[:1], np.array([3.2]), None, 8.0),
        ),
        warnings=("slant of the light in zone 2 is 46.2°",),
        rejected=("pose-03: corner 17 lies 12.1 px from where the others put it",),
        sources=("pose-01, sha256 5d41402abc4b", "chrome-1, sha256 2a76b9719d91"),
    )


class Page(HTMLParser):
    """Elements that are open, what the page would load, and its visible text."""

    VOID = frozenset({"meta", "rect", "line", "circle", "path", "image", "polyline"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.loads += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "data", "poster", "action")]
        assert tag not in ("script", "link", "iframe", "object", "img") and not any(
            k.startswith("on") for k, _ in attrs
        )

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def plots(text: str) -> list[ET.Element]:
    return [ET.fromstring(s) for s in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]  # noqa: S314 (our own text)


class TestPage:
    def test_is_whole_in_itself(self, tmp_path: Path) -> None:
        write_report(tmp_path / "report.html", made_up())
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        page = Page(text)
        assert page.open == [] and page.loads and all(v.startswith("data:image/png;base64,") for v in page.loads)
        assert "url(" not in text and "@import" not in text and "default-src 'none'" in text
        assert set(re.findall(r"https?://[^\"]+", text)) == {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        assert len(text) < 600_000
        assert report_html(made_up()) == text, "equal facts give equal bytes"

    def test_verdict_comes_first_and_criteria_are_told(self) -> None:
        text = Page(report_html(made_up())).text
        assert text.index("✕ FAIL 3 PASS, 2 WARN, 1 FAIL. Failed: step of 1 mm.") < text.index("Criteria")
        for part in (
            "joint reprojection error 0.187 px ≤ 0.3 px ✓ PASS How far",
            "held out / in the fit 1.12 ≤ 1.2, FAIL > 1.3 ✓ PASS",
            "corners kept 98.7 % ≥ 95 % ✓ PASS",
            "light directions 0.410 ° ≤ 0.4 °, FAIL > 0.5 ! WARN",
            "step of 1 mm 3.60 µm ≤ 3 µm ✕ FAIL",
            "flat field, evenness not measured ≤ 20 % ! WARN",
            "bench 3",
            "5d41402abc4b2a76b9719d911017c592" * 2,
            "corner 17 lies 12.1 px",
            "pose-07: blurred, edges 3.1 px wide",
            "3 of 96 cells are empty",
            "40 checks, 6 beyond the limits (squares).",
            "1 check, none beyond the limits.",
            "538 corners, rms",
            "zone slant ° azimuth ° strength distance mm σ mm apart mm 1 45.0 0.4 1.030 211 0.10 1.5",
            "direction rms px held out px corners kept % baseline mm 1 0.170 0.190 98.1 105",
        ):
            assert part in text, part
        assert "simulated" not in text and "not calibrated" not in text

    def test_absent_parts_are_said_to_be_absent(self) -> None:
        bare = ReportFacts("bare", "2025-03-01T08:15:30+00:00", "0" * 64, "rakelight 0")
        text = report_html(bare)
        for part in ("Camera", "Camera and projectors", "Projectors", "Depth uncertainty", "Lights", "Flat field"):
            assert f"{part}: not calibrated." in text
        assert plots(text) == [] and Page(text).text.startswith("Calibration bare ! WARN no criteria were judged.")

    @pytest.mark.parametrize(
        "part", ["poses", "coverage", "residuals", "lights", "gains", "projectors", "depth", "history"]
    )
    def test_each_part_may_be_absent_alone(self, part: str) -> None:
        full = made_up()
        empty = {"gains": {}, "projectors": {}}.get(part, () if isinstance(getattr(full, part), tuple) else None)
        assert len(plots(report_html(replace(full, **{part: empty})))) < len(plots(report_html(full)))

    def test_texts_cannot_break_out(self) -> None:
        nasty = '</td><script>alert("1")</script>&'
        full = made_up()
        assert full.poses is not None
        facts = replace(
            full,
            calibration_id=nasty,
            identity={nasty: nasty},
            criteria=(Criterion(nasty, 1.0, nasty, 2.0, "PASS", nasty),),
            residuals=(replace(full.residuals[0], device=nasty),),
            poses=replace(full.poses, names=(nasty, *full.poses.names[1:]), rejected={nasty: nasty}),
            history=(replace(full.history[0], name=nasty, unit=nasty),),
            projectors={1: {nasty: 1.0, "rms_px": 0.1}},
            warnings=(nasty,),
            rejected=(nasty,),
            sources=(nasty,),
        )
        text = report_html(facts)
        assert Page(text).open == [] and "<script" not in text
        assert len(plots(text)) == 11

    def test_simulated_is_said(self) -> None:
        assert "describes no real rig" in report_html(replace(made_up(), simulated=True))


class TestVerdicts:
    @pytest.mark.parametrize(
        ("value", "options", "verdict"),
        [
            (1.0, {}, "PASS"),
            (1.0001, {}, "FAIL"),
            (0.9, {"warn": 0.8}, "WARN"),
            (0.8, {"warn": 0.8}, "PASS"),
            (1.1, {"at_least": True}, "PASS"),
            (0.99, {"at_least": True}, "FAIL"),
            (1.05, {"at_least": True, "warn": 1.1}, "WARN"),
            (float("nan"), {}, "FAIL"),
            (float("-inf"), {}, "FAIL"),
            (None, {}, "WARN"),
        ],
    )
    def test_judge(self, value: float | None, options: dict[str, float], verdict: str) -> None:
        assert Criterion.judge("x", value, "px", 1.0, "", **options).verdict == verdict

    @pytest.mark.parametrize(
        ("options", "words", "signs"),
        [
            ({}, "at most 1", "≤ 1 px"),
            ({"warn": 0.8}, "at most 0.8, FAIL above 1", "≤ 0.8 px, FAIL &gt; 1"),
            ({"warn": 1.1, "at_least": True}, "at least 1.1, FAIL below 1", "≥ 1.1 px, FAIL &lt; 1"),
        ],
    )
    def test_both_limits_are_told(self, options: dict[str, float], words: str, signs: str) -> None:
        criterion = Criterion.judge("x", 1.0, "px", 1.0, "", **options)
        assert criterion.limits == words
        assert f">{signs}</td>" in report_html(replace(made_up(), criteria=(criterion,)))

    def test_the_whole_is_as_bad_as_its_worst(self) -> None:
        full = made_up()
        assert full.verdict == "FAIL"
        assert replace(full, criteria=full.criteria[:3]).verdict == "PASS"
        assert replace(full, criteria=full.criteria[:4]).verdict == "WARN"
        assert replace(full, criteria=()).verdict == "WARN"


class TestPlots:
    def test_arrows_point_as_the_errors_do(self) -> None:
        at, by = np.array([[100.0, 50.0], [300.0, 150.0]]), np.array([[0.1, 0.0], [0.0, 0.1]])
        root = ET.fromstring(svg_plots.arrows("x", (400, 200), at, by))  # noqa: S314
        path = next(p for p in root.findall(f"{SVG}path") if p.get("stroke") == svg_plots.BLUE)
        ends = np.array([float(v) for v in re.findall(r"[\d.]+", path.get("d", ""))]).reshape(2, 2, 2)
        along = ends[:, 1] - ends[:, 0]
        assert along[0, 0] > 5 and along[0, 1] == 0 and along[1, 0] == 0 and along[1, 1] == along[0, 0]
        frame = next(r for r in root.findall(f"{SVG}rect"))
        scale = float(frame.get("width", "")) / 400
        np.testing.assert_allclose(ends[1, 0] - ends[0, 0], np.array([200, 100]) * scale, atol=0.11)
        # The line above the frame is as long as an error of the length it names.
        key = root.findall(f"{SVG}line")[-1]
        named = next(
            float((w.text or "").split()[0]) for w in root.findall(f"{SVG}text") if (w.text or "").endswith(" px")
        )
        length = float(key.get("x2", "")) - float(key.get("x1", ""))
        assert length / named == pytest.approx(along[0, 0] / 0.1, rel=0.02)

    def test_bars_are_as_long_as_their_values(self) -> None:
        text = svg_plots.bars("x", ["a", "b"], {"one": [1.0, np.nan], "two": [2.0, 0.5]}, "px", limit=3.0)
        root = ET.fromstring(text)  # noqa: S314
        drawn = {c: [float(r.get("width", "")) for r in root.findall(f"{SVG}rect") if r.get("fill") == c and r.get("y") != "3"]
                 for c in (svg_plots.BLUE, svg_plots.VERMILION)}  # fmt: skip
        assert len(drawn[svg_plots.BLUE]) == 1 and len(drawn[svg_plots.VERMILION]) == 2
        two, half = drawn[svg_plots.VERMILION]
        assert two / half == pytest.approx(4, rel=0.01) and two / drawn[svg_plots.BLUE][0] == pytest.approx(2, rel=0.01)

    def test_lights_stand_where_the_camera_sees_them(self) -> None:
        vectors = [[np.sin(a), 0, np.cos(a)] for a in np.radians([30.0, 60.0])] + [
            [0, np.sin(0.5), np.cos(0.5)],
            [0, 0, 1],
        ]
        root = ET.fromstring(svg_plots.directions("x", ["a", "b", "c", "d"], vectors, (35, 55)))  # noqa: S314
        spots = [c for c in root.findall(f"{SVG}circle") if c.get("fill") == svg_plots.BLUE]
        x, y = (np.array([float(c.get(k, "")) for c in spots]) for k in ("cx", "cy"))
        assert x[1] - x[3] == pytest.approx(2 * (x[0] - x[3]), abs=0.05) and x[0] > x[3]
        assert y[2] < y[3] == y[0] == y[1], "up is up"

    def test_maps_show_gaps_and_keep_their_mean(self) -> None:
        values = np.arange(1000 * 1200, dtype=np.float32).reshape(1000, 1200)
        values[:100, :100] = np.nan
        small = svg_plots.thumbnail(values, 240)
        assert small.shape == (200, 240) and np.isnan(small[:20, :20]).all() and np.isfinite(small[20:]).all()
        assert small[150, 60] == pytest.approx(values[750:755, 300:305].mean())
        assert svg_plots.thumbnail(values, 999).shape == (500, 600), "the last blocks may be cut"

    @pytest.mark.parametrize("value", [0.0, 1.0, -3.0, np.nan])
    def test_degenerate_figures_are_still_drawn(self, value: float) -> None:
        start = datetime(2025, 3, 1, tzinfo=UTC)
        for text in (
            svg_plots.value_map("x", np.full((5, 7), value), "µm", size_mm=(7, 5)),
            svg_plots.value_map("x", np.full((5, 7), value), "µm", signed=True),
            svg_plots.over_time("x", [start, start], [value, value], "µm", limits=(None, None)),
            svg_plots.over_time("x", [], [], "µm", limits=(None, 1.0)),
            svg_plots.bars("x", ["a"], {"one": [value]}, "px"),
            svg_plots.bars("x", [], {"one": []}, "px"),
            svg_plots.arrows("x", (10, 10), np.zeros((0, 2)), np.zeros((0, 2))),
            svg_plots.arrows("x", (10, 10), [[1, 1]], [[0, 0]], [False]),
            svg_plots.counts("x", (10, 10), np.zeros((2, 3), int)),
            svg_plots.directions("x", [], np.zeros((0, 3)), (35, 55)),
        ):
            ET.fromstring(text)  # noqa: S314
            assert not re.search(r"\b(nan|inf)\b", text), text

    def test_a_browser_of_little_brain_draws_them(self, qapp: object) -> None:
        """Qt knows SVG Tiny only; what it draws, all do."""
        QtCore = pytest.importorskip("PySide6.QtCore")
        QtGui, QtSvg = pytest.importorskip("PySide6.QtGui"), pytest.importorskip("PySide6.QtSvg")
        for text in re.findall(r"<svg.*?</svg>", report_html(made_up()), re.DOTALL):
            renderer = QtSvg.QSvgRenderer(QtCore.QByteArray(text.encode()))
            assert renderer.isValid()
            image = QtGui.QImage(230, 200, QtGui.QImage.Format.Format_Grayscale8)
            image.fill(255)
            painter = QtGui.QPainter(image)
            renderer.render(painter)
            painter.end()
            assert np.frombuffer(image.constBits(), np.uint8).min() < 100
