"""Targets to print: what stands in the files is the board to the float, and detectors find it where it should be."""

from __future__ import annotations

import json
import re
import struct
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from rakelight.calibration.boards import Board
from rakelight.calibration.sheet_files import sheet_pdf, sheet_pixels, sheet_png, sheet_svg, write_sheet
from rakelight.calibration.target_sheets import MEASURED_MM, TargetSheet, board_rectangles, lay_out, page_size
from rakelight.cli.calibrate import calibrate
from rakelight.errors import CalibrationError, InputError, RakelightError, StorageError

ODD = Board("charuco", (7, 5), 4.37, 3.1, "DICT_5X5_100")


def small(board: Board) -> TargetSheet:
    """The board on the smallest page that holds it, so that pictures of it are small."""
    with pytest.raises(InputError) as caught:
        lay_out(board, "20x20")
    return lay_out(board, caught.value.hint.split("--page ")[1])


def numbers(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"-?\d+\.?\d*", text)]


class TestLayout:
    @pytest.mark.parametrize("board", [Board(), ODD, Board("charuco", (4, 6), 10.0, 6.0, "DICT_6X6_250")])
    def test_rectangles_are_what_opencv_draws(self, board: Board) -> None:
        """OpenCV's own picture, at a whole number of px a marker cell, against the rectangles filled in."""
        cells = board.cv().getDictionary().markerSize + 2
        px = 40 * cells
        theirs = board.cv().generateImage((board.squares[0] * px, board.squares[1] * px), marginSize=0) == 0
        ours = np.zeros_like(theirs, dtype=np.int32)
        for x, y, w, h in board_rectangles(board) * (px / board.square_mm):
            ours[round(y) : round(y + h), round(x) : round(x + w)] += 1
        assert ours.max() == 1, "rectangles overlap"
        assert (ours.astype(bool) != theirs).mean() < 0.01  # OpenCV rounds its markers to whole px
        middle = (slice(px // 2, None, px),) * 2
        np.testing.assert_array_equal(ours[middle].astype(bool), theirs[middle])

    def test_squares_lie_on_exact_multiples(self) -> None:
        rectangles = board_rectangles(Board.chessboard((5, 4), 0.1))
        assert len(rectangles) == 10
        assert set(rectangles[:, 0]) == {k * 0.1 for k in range(5)} and set(rectangles[:, 2]) == {0.1}

    def test_what_the_margin_says(self) -> None:
        text = "\n".join(w.text for w in lay_out(ODD).words)
        for part in (
            "charuco of 7x5 squares of 4.37 mm",
            "--kind charuco --squares 7x5 --square-mm 4.37",
            "--marker-mm 3.1 --dictionary DICT_5X5_100",
            "Print at 100 %",
            "--square-mm 4.37 * M/30",
        ):
            assert part in text
        assert text.count("measure this: 30.00 mm") == 2 and text.isascii()
        plain = "\n".join(w.text for w in lay_out(Board.chessboard()).words)
        assert "--kind chessboard --squares 12x9 --square-mm 3" in plain and "marker" not in plain

    def test_rulers_are_true_along_both_axes(self) -> None:
        sheet = lay_out(Board())
        x, y, w, h = sheet.ruler_mm.T
        for ticks, at in ((np.isclose(h, 1.5), x), (np.isclose(w, 1.5), y)):
            middles = np.sort(at[ticks] + 0.06)
            assert len(middles) == 80  # 100 mm without the longer ticks of 5 and 10 mm
            steps = np.diff(middles)
            assert np.allclose(steps[steps < 1.5], 1.0, atol=1e-9)
        for ends, at in ((np.isclose(h, 9.6), x), (np.isclose(w, 9.6), y)):
            assert np.ptp(at[ends]) == pytest.approx(MEASURED_MM, abs=1e-9)

    @pytest.mark.parametrize("page", ["a4", "letter", "A3"])
    def test_everything_is_on_the_page_and_off_the_print(self, page: str) -> None:
        for board in (Board(), Board.chessboard((12, 9), 14.0), ODD):
            sheet = lay_out(board, page)
            both = np.concatenate([sheet.print_mm, sheet.ruler_mm])
            assert (both[:, :2] >= 5).all() and (both[:, :2] + both[:, 2:] <= np.array(sheet.page_mm) - 5).all()
            low, high = np.array(sheet.corner_mm), np.array(sheet.corner_mm) + np.array(board.squares) * board.square_mm
            quiet = min(board.square_mm, 10.0)
            ruler = sheet.ruler_mm
            apart = (ruler[:, :2] + ruler[:, 2:] <= low - quiet + 1e-9) | (ruler[:, :2] >= high + quiet - 1e-9)
            assert apart.any(axis=1).all()
            for words in sheet.words:
                assert words.y_mm < sheet.page_mm[1] - 5 and words.x_mm < sheet.page_mm[0] - 5

    def test_turns_a_named_page_only(self) -> None:
        wide = Board.chessboard((12, 9), 15.0)
        assert lay_out(wide).page_mm == (297.0, 210.0) and lay_out(Board()).page_mm == (210.0, 297.0)
        with pytest.raises(InputError, match="it needs") as caught:
            lay_out(wide, "210x297")
        assert caught.value.code == "target.does_not_fit"

    def test_refuses_what_does_not_fit_and_says_what_would(self) -> None:
        with pytest.raises(InputError, match=r"is 300×200 mm; .* the page letter has 215\.9×279\.4 mm") as caught:
            lay_out(Board.chessboard((15, 10), 20.0), "letter")
        assert caught.value.code == "target.does_not_fit"
        page = caught.value.hint.split("--page ")[1]
        assert lay_out(Board.chessboard((15, 10), 20.0), page).page_mm == page_size(page)

    @pytest.mark.parametrize("page", ["b5", "", "0x10", "10x99999", "-5x5", "1e3x100"])
    def test_refuses_pages_it_does_not_know(self, page: str) -> None:
        with pytest.raises(InputError) as caught:
            lay_out(Board(), page)
        assert caught.value.code == "target.page"


class TestVectors:
    @pytest.mark.parametrize("board", [Board(), ODD])
    def test_pdf_holds_the_very_numbers(self, board: Board) -> None:
        sheet = lay_out(board, "letter")
        data = sheet_pdf(sheet)
        stream = data[data.index(b"stream\n") + 7 : data.index(b"\nendstream")].decode("cp1252")
        found = np.array([numbers(line) for line in stream.splitlines() if line.endswith(" re")])
        np.testing.assert_array_equal(found, np.concatenate([sheet.print_mm, sheet.ruler_mm]))
        scale, b, c, flip, e, top = numbers(stream.splitlines()[0])
        assert (b, c, e) == (0, 0, 0) and scale == -flip == 72 / 25.4 and top == 279.4 * 72 / 25.4
        box = re.search(rb"/MediaBox \[([^\]]*)\]", data)
        assert box and numbers(box[1].decode()) == pytest.approx([0, 0, 612, 792], abs=1e-9)
        assert b"/PrintScaling /None" in data

    def test_pdf_table_of_objects_is_right(self) -> None:
        data = sheet_pdf(lay_out(Board()))
        start = int(data.rsplit(b"startxref\n", 1)[1].split()[0])
        assert data[start:].startswith(b"xref\n0 7\n")
        for number, line in enumerate(data[start:].splitlines()[3:9], 1):
            assert len(line) == 19 and data[int(line[:10]) :].startswith(b"%d 0 obj\n" % number)
        length = re.search(rb"/Length (\d+)", data)
        assert length and int(length[1]) == data.index(b"\nendstream") - data.index(b"stream\n") - 7

    def test_svg_holds_the_very_numbers_in_mm(self) -> None:
        sheet = lay_out(ODD)
        root = ET.fromstring(sheet_svg(sheet))  # noqa: S314 (our own text)
        assert (root.get("width"), root.get("height"), root.get("viewBox")) == ("210mm", "297mm", "0 0 210 297")
        paths = root.findall("{http://www.w3.org/2000/svg}path")
        for path, group in zip(paths, (sheet.print_mm, sheet.ruler_mm), strict=True):
            found = np.array([numbers(line) for line in path.get("d", "").split("z")[:-1]])
            np.testing.assert_array_equal(found[:, :4], group)
            np.testing.assert_array_equal(found[:, 4], -group[:, 2])
        texts = [t.text for t in root.findall("{http://www.w3.org/2000/svg}text")]
        assert texts == [w.text for w in sheet.words]


class TestPixels:
    @pytest.mark.parametrize(("board", "dpi"), [(Board(), 600), (ODD, 431), (Board("charuco", (5, 4), 9.3), 200)])
    def test_charuco_is_found_where_it_should_be(self, board: Board, dpi: int) -> None:
        sheet = small(board)
        pixels = cv2.GaussianBlur(sheet_pixels(sheet, dpi), (0, 0), 1.0)  # as any lens does; steps alias in detectors
        detector = cv2.aruco.CharucoDetector(board.cv())
        found, ids, _, marks = detector.detectBoard(pixels)
        assert len(marks) == board.squares[0] * board.squares[1] // 2
        assert ids.ravel().tolist() == list(range(len(board.corners_mm)))
        expected = sheet.corners_mm * (dpi / 25.4) - 0.5
        assert np.abs(found.reshape(-1, 2) - expected).max() < 0.2
        # The detector stops at steps of 0.1 px; what is left of 0.04 px is that of cornerSubPix on sharp edges.
        fine = cv2.cornerSubPix(pixels, found, (5, 5), (-1, -1), (3, 100, 1e-4)).reshape(-1, 2)
        assert np.abs(fine - expected).max() < 0.06 and np.abs((fine - expected).mean(axis=0)).max() < 0.03

    def test_chessboard_is_found_where_it_should_be(self) -> None:
        board = Board.chessboard((8, 6), 4.1)
        sheet = small(board)
        ok, found = cv2.findChessboardCornersSB(cv2.GaussianBlur(sheet_pixels(sheet, 300), (0, 0), 1.0), board.grid)
        assert ok
        # The first corner is the one next to the black square at the origin only up to a half turn.
        expected = sheet.corners_mm * (300 / 25.4) - 0.5
        found = found.reshape(-1, 2)
        assert min(np.abs(found - expected).max(), np.abs(found[::-1] - expected).max()) < 0.1

    def test_grey_keeps_edges_where_they_are(self) -> None:
        """The ink of each line of pixels is the length that is black, to the rounding of 8 bits."""
        board = Board.chessboard((4, 4), 3.333)
        sheet = small(board)
        dpi = 211
        pixels = sheet_pixels(sheet, dpi)
        scale = dpi / 25.4
        y = round((sheet.corner_mm[1] + 1.5) * scale)
        x0, x1 = (round((sheet.corner_mm[0] + d) * scale) for d in (-1.0, 4 * 3.333 + 1.0))
        line = (255 - pixels[y, x0:x1].astype(float)) / 255
        assert line.sum() == pytest.approx(2 * 3.333 * scale, abs=0.01)
        centre = (line * np.arange(x0, x1)).sum() / line.sum()
        assert centre == pytest.approx((sheet.corner_mm[0] + 1.5 * 3.333) * scale - 0.5, abs=0.01)

    def test_png_states_its_resolution(self) -> None:
        sheet = small(Board())
        data = sheet_png(sheet, 600)
        chunk = data.index(b"pHYs")
        assert struct.unpack(">IIB", data[chunk + 4 : chunk + 13]) == (23622, 23622, 1)  # per metre
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(decoded, sheet_pixels(sheet, 600))
        assert decoded.shape[::-1] == tuple(np.ceil(np.array(sheet.page_mm) * 600 / 25.4))

    def test_words_are_drawn(self) -> None:
        sheet = small(Board())
        scale = 300 / 25.4
        pixels = sheet_pixels(sheet, 300)
        for words in sheet.words:
            x, y, size = words.x_mm * scale, words.y_mm * scale, words.size_mm * scale
            rows = slice(round(y - 2 * size), round(y)) if words.upright else slice(round(y - 0.8 * size), round(y))
            cols = slice(round(x - 0.8 * size), round(x)) if words.upright else slice(round(x), round(x + 2 * size))
            assert pixels[rows, cols].min() < 100, words

    @pytest.mark.parametrize("dpi", [0, 99, 12001])
    def test_refuses_a_resolution(self, dpi: int) -> None:
        with pytest.raises(InputError) as caught:
            sheet_pixels(small(Board()), dpi)
        assert caught.value.code == "target.dpi"

    def test_refuses_a_picture_too_large_for_memory(self) -> None:
        with pytest.raises(InputError, match="million pixels"):
            sheet_pixels(lay_out(Board()), 9600)


def test_the_suffix_chooses_the_format(tmp_path: Path) -> None:
    sheet = small(Board())
    for suffix, start in ((".pdf", b"%PDF-1.6"), (".svg", b"<?xml"), (".PNG", b"\x89PNG")):
        path = tmp_path / f"target{suffix}"
        write_sheet(path, sheet, dpi=150)
        assert path.read_bytes().startswith(start)
    with pytest.raises(InputError, match=r"allowed: \.pdf, \.svg, \.png"):
        write_sheet(tmp_path / "target.eps", sheet)
    assert len(list(tmp_path.iterdir())) == 3


class TestCommand:
    def run(self, *arguments: str | Path) -> Result:
        result = CliRunner().invoke(calibrate, ["target", *map(str, arguments)])
        if isinstance(result.exception, RakelightError):
            raise result.exception
        return result

    def test_writes_the_board_it_tells_of(self, tmp_path: Path) -> None:
        out = tmp_path / "target.svg"
        done = self.run("-o", out)
        assert done.exit_code == 0 and "--kind charuco --squares 10x7 --square-mm 4 --marker-mm 3" in done.stdout
        assert out.read_text() == sheet_svg(lay_out(Board()))
        options = ("--squares", "7x5", "--square-mm", "4.37", "--marker-mm", "3.1", "--dictionary", "DICT_5X5_100")
        done = self.run(*options, "--page", "letter", "-o", out, "--overwrite", "--json")
        assert Board.from_plain(json.loads(done.stdout)["board"]) == ODD
        assert out.read_text() == sheet_svg(lay_out(ODD, "letter"))
        self.run("--kind", "chessboard", "--page", "100x100", "--dpi", "200", "-o", tmp_path / "c.png")
        assert (tmp_path / "c.png").read_bytes() == sheet_png(lay_out(Board.chessboard(), "100x100"), 200)

    def test_refuses(self, tmp_path: Path) -> None:
        out = tmp_path / "target.pdf"
        self.run("-o", out)
        before = out.read_bytes()
        with pytest.raises(StorageError, match="exists already"):
            self.run("--squares", "7x5", "-o", out)
        with pytest.raises(CalibrationError, match="a chessboard has no markers"):
            self.run("--kind", "chessboard", "--dictionary", "DICT_4X4_50", "-o", tmp_path / "b.pdf")
        with pytest.raises(InputError, match=r"allowed: \.pdf"):
            self.run("-o", tmp_path / "b.eps")
        for squares in ("7", "7x", "x5", "7x5x3", "-7x5", "7.5x5"):
            done = self.run("--squares", squares, "-o", tmp_path / "b.pdf")
            assert done.exit_code == 2 and "is not COLUMNSxROWS" in done.stderr
        assert out.read_bytes() == before and list(tmp_path.iterdir()) == [out]
