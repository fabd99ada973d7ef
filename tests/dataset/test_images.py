"""Single images: what is written comes back, what is damaged or foreign is one clear error."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from rakelight.dataset import images
from rakelight.errors import DatasetError, InputError, RakelightError, StorageError
from rakelight.files import sha256_file

RNG = np.random.default_rng(3)


def pixels(dtype: str, *shape: int) -> np.ndarray:
    if dtype == "float32":
        return RNG.normal(size=shape).astype(np.float32)
    return RNG.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def pillow(image: Image.Image, kind: str, **options: Any) -> bytes:
    with io.BytesIO() as stream:
        image.save(stream, kind, **options)
        return stream.getvalue()


def tiff(image: np.ndarray, **options: Any) -> bytes:
    with io.BytesIO() as stream:
        tifffile.imwrite(stream, image, **options)
        return stream.getvalue()


def read(tmp_path: Path, name: str, data: bytes) -> np.ndarray:
    (tmp_path / name).write_bytes(data)
    return images.read_image(tmp_path / name)


def refusal(tmp_path: Path, name: str, data: bytes) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        read(tmp_path, name, data)
    assert str(tmp_path / name) in caught.value.message
    assert caught.value.code == "image.unreadable" and caught.value.hint
    return caught.value


# --- writing ---

SHAPES = [(5, 7), (5, 7, 3), (1, 7), (7, 1), (1, 1), (1, 1, 3), (3, 4), (3, 4, 3)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_tiff_round_trip_and_its_hash(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    path, image = tmp_path / "a.tiff", pixels(dtype, *shape)
    size, sha256 = images.write_tiff(path, image)
    assert (size, sha256) == (path.stat().st_size, sha256_file(path))
    for back in (images.read_image(path), tifffile.imread(path)):
        assert back.dtype == image.dtype and back.shape == image.shape
        np.testing.assert_array_equal(back, image)
    assert size < image.nbytes + 1000
    assert [p.name for p in tmp_path.iterdir()] == ["a.tiff"]


def test_tiff_of_views_and_foreign_byte_order(tmp_path: Path) -> None:
    image = pixels("uint16", 12, 10, 3)
    for view in (
        image[::2, ::-1],
        image.transpose(1, 0, 2),
        image[..., 1],
        image.astype(">u2"),
        np.asfortranarray(image),
    ):
        images.write_tiff(tmp_path / "a.tiff", view)
        back = images.read_image(tmp_path / "a.tiff")
        assert back.dtype == np.uint16
        np.testing.assert_array_equal(back, view)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png_round_trip_here_and_in_another_library(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    image = pixels(dtype, *shape)
    images.write_png(tmp_path / "a.png", image)
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.png"), image)
    if dtype == "uint8":
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), image)


def test_jpeg_is_nearly_what_was_given(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    image = np.dstack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 90, np.uint8)])
    back = read(tmp_path, "a.jpg", bytes(images.encode_jpeg(image)))
    assert np.abs(back.astype(int) - image).max() <= 6
    assert Image.open(tmp_path / "a.jpg").getexif() == {}


@pytest.mark.parametrize(
    ("write", "image"),
    [
        (images.write_tiff, np.zeros((3, 3))),
        (images.write_tiff, np.zeros((3, 3), bool)),
        (images.write_tiff, np.zeros((0, 3), np.uint8)),
        (images.write_tiff, np.zeros((3, 3, 4), np.uint8)),
        (images.write_tiff, np.zeros(3, np.uint8)),
        (images.write_png, np.zeros((3, 3), np.float32)),
        (images.write_png, np.zeros((3, 3, 4), np.uint8)),
        (images.write_png, np.zeros((3, 0), np.uint8)),
    ],
)
def test_arrays_that_are_no_image_are_refused(tmp_path: Path, write: Callable[..., Any], image: np.ndarray) -> None:
    with pytest.raises(InputError) as caught:
        write(tmp_path / "a.x", image)
    assert caught.value.code in ("input.dtype", "input.shape")
    assert list(tmp_path.iterdir()) == []


def test_jpeg_beyond_its_largest_side_is_refused() -> None:
    with pytest.raises(InputError, match="cannot encode") as caught:
        images.encode_jpeg(np.zeros((1, 70_000), np.uint8))
    assert caught.value.code == "image.encode"


@pytest.mark.skipif(sys.platform == "win32", reason="limits of the file size are a POSIX thing")
def test_the_systems_reason_is_not_lost_when_the_pixels_find_no_room(tmp_path: Path) -> None:
    (tmp_path / "old.tiff").write_bytes(b"old")
    code = (
        "import resource, signal, sys; import numpy as np; from pathlib import Path\n"
        "from rakelight.dataset import images; from rakelight.errors import StorageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))\n"
        "try:\n    images.write_tiff(Path(sys.argv[1]), np.zeros((1000, 1000), np.uint16))\n"
        "except StorageError as e:\n    print(e.code, e.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "old.tiff")], capture_output=True, text=True)
    assert done.stdout.startswith("storage.not_writable"), done.stderr
    assert "File too large" in done.stdout  # the system's reason, not a loss of it
    assert (tmp_path / "old.tiff").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["old.tiff"]


# --- reading what others write ---


def test_png_kinds(tmp_path: Path) -> None:
    grey = pixels("uint8", 9, 11)
    bits = Image.fromarray(np.where(grey > 99, 255, 0).astype(np.uint8)).convert("1")
    one_bit = read(tmp_path, "bits.png", pillow(bits, "PNG"))
    np.testing.assert_array_equal(one_bit, np.where(np.asarray(bits), 255, 0))
    assert one_bit.dtype == np.uint8

    palette = Image.fromarray(pixels("uint8", 9, 11, 3)).quantize(16)
    coloured = read(tmp_path, "palette.png", pillow(palette, "PNG"))
    np.testing.assert_array_equal(coloured, np.asarray(palette.convert("RGB")))

    colour16 = pixels("uint16", 9, 11, 3)
    ok, data = cv2.imencode(".png", np.ascontiguousarray(colour16[..., ::-1]))
    assert ok
    np.testing.assert_array_equal(read(tmp_path, "deep.png", data.tobytes()), colour16)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_alpha_is_refused(tmp_path: Path, mode: str, kind: str) -> None:
    error = refusal(tmp_path, f"a.{kind}", pillow(Image.new(mode, (8, 9)), kind.upper()))
    assert "alpha channel" in error.message
    assert error.hint == "export it without transparency"


def test_transparent_palette_is_refused(tmp_path: Path) -> None:
    palette = Image.fromarray(pixels("uint8", 9, 11, 3)).quantize(16)
    assert "alpha" in refusal(tmp_path, "a.png", pillow(palette, "PNG", transparency=0)).message


def test_bmp_and_jpeg(tmp_path: Path) -> None:
    grey, colour = pixels("uint8", 9, 11), pixels("uint8", 9, 11, 3)
    np.testing.assert_array_equal(read(tmp_path, "a.bmp", pillow(Image.fromarray(grey), "BMP")), grey)
    np.testing.assert_array_equal(read(tmp_path, "a.BMP", pillow(Image.fromarray(colour), "BMP")), colour)
    for name, image in (("a.jpg", grey), ("b.JPEG", colour)):
        data = pillow(Image.fromarray(image), "JPEG", quality=100, subsampling=0)
        back = read(tmp_path, name, data)
        assert back.shape == image.shape
        np.testing.assert_allclose(back, np.asarray(Image.open(io.BytesIO(data))), atol=2)


def test_pixels_come_as_stored_whatever_the_orientation_tag_says(tmp_path: Path) -> None:
    image = Image.fromarray(pixels("uint8", 8, 16))
    turned = image.getexif()
    turned[274] = 6
    assert read(tmp_path, "a.jpg", pillow(image, "JPEG", exif=turned)).shape == (8, 16)
    data = tiff(np.asarray(image), extratags=[(274, "H", 1, 6, True)])
    np.testing.assert_array_equal(read(tmp_path, "a.tif", data), np.asarray(image))


@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"},
        {"bigtiff": True},
        {"tile": (16, 16)},
        {"rowsperstrip": 2},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True, "byteorder": ">"},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_tiff_kinds(tmp_path: Path, dtype: str, options: dict[str, Any]) -> None:
    if dtype == "float32" and options.get("predictor"):
        pytest.skip("tifffile writes the floating-point predictor only with imagecodecs")
    for image in (pixels(dtype, 20, 37), pixels(dtype, 20, 37, 3)):
        colour = {"photometric": "rgb" if image.ndim == 3 else "minisblack"}
        back = read(tmp_path, "a.tif", tiff(image, **colour, **options))
        np.testing.assert_array_equal(back, image)
        assert back.dtype == np.dtype(dtype)  # in this machine's byte order


def test_planar_tiff_becomes_interleaved(tmp_path: Path) -> None:
    planes = pixels("uint16", 3, 20, 37)
    back = read(tmp_path, "a.tif", tiff(planes, photometric="rgb", planarconfig="separate"))
    np.testing.assert_array_equal(back, np.moveaxis(planes, 0, -1))
    assert back.flags.c_contiguous


def test_packbits_tiff(tmp_path: Path) -> None:
    image = pixels("uint8", 20, 37)
    np.testing.assert_array_equal(
        read(tmp_path, "a.tif", pillow(Image.fromarray(image), "TIFF", compression="packbits")), image
    )


@pytest.mark.parametrize(
    ("data", "problem", "hint"),
    [
        (
            pillow(Image.new("L", (9, 9)), "TIFF", compression="tiff_lzw"),
            "compressed with LZW",
            "uncompressed or with Deflate",
        ),
        (
            pillow(Image.new("L", (9, 9)), "TIFF", compression="jpeg"),
            "compressed with JPEG",
            "uncompressed or with Deflate",
        ),
        (pillow(Image.new("P", (9, 9)), "TIFF"), "colours are stored as PALETTE", "plain grey"),
        (pillow(Image.new("CMYK", (9, 9)), "TIFF"), "colours are stored as SEPARATED", "plain grey"),
        (
            tiff(np.zeros((9, 9), np.uint8), photometric="miniswhite"),
            "colours are stored as MINISWHITE",
            "black is zero",
        ),
        (tiff(np.zeros((2, 9, 9), np.uint8), photometric="minisblack"), "2 pages; one is allowed", "each page"),
        (tiff(np.zeros((9, 9), np.float64)), "dtype float64; allowed: uint8, uint16, float32", "8 or 16 bits"),
        (tiff(np.zeros((9, 9), np.int16)), "dtype int16", "8 or 16 bits"),
        (pillow(Image.new("1", (9, 9)), "TIFF"), "dtype bool", "8 or 16 bits"),
    ],
)
def test_tiffs_that_mean_something_else_are_refused(tmp_path: Path, data: bytes, problem: str, hint: str) -> None:
    error = refusal(tmp_path, "a.tif", data)
    assert problem in error.message
    assert hint in error.hint


def test_absent_empty_foreign_and_misnamed_files(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"a\.png is missing") as caught:
        images.read_image(tmp_path / "a.png")
    assert caught.value.code == "image.missing"
    assert "empty" in refusal(tmp_path, "a.png", b"").message
    assert "unknown image format '.gif'" in refusal(tmp_path, "a.gif", b"GIF89a").message
    assert "not that of a .png file" in refusal(tmp_path, "a.png", tiff(np.zeros((3, 3), np.uint8))).message
    assert "not that of a .jpg file" in refusal(tmp_path, "a.jpg", b"\x89PNG\r\n\x1a\n").message
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DatasetError, match="directory"):
        images.read_image(tmp_path / "folder.png")
    (tmp_path / "long.png").write_bytes(bytes(100))
    with pytest.raises(DatasetError, match="100 bytes; at most 99 are read"):
        images.read_file(tmp_path / "long.png", max_bytes=99)


# --- damage ---


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def huge(kind: str) -> bytes:
    """A small file whose header promises 60000 × 60000 pixels."""
    side = 60_000
    if kind == "png":
        header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")
    if kind == "bmp":
        data = bytearray(pillow(Image.new("RGB", (9, 9)), "BMP"))
        data[18:26] = struct.pack("<ii", side, side)
        return bytes(data)
    data = bytearray(pillow(Image.new("RGB", (9, 9)), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return bytes(data)


@pytest.mark.parametrize("kind", ["png", "bmp", "jpg"])
def test_absurd_sizes_are_refused_before_they_are_allocated(tmp_path: Path, kind: str) -> None:
    assert "60000×60000 px" in refusal(tmp_path, f"a.{kind}", huge(kind)).message


def retagged(data: bytes, tag: int, *, count: int, value: int) -> bytes:
    """A little-endian TIFF with one tag of its first page replaced by 32-bit numbers."""
    start = struct.unpack_from("<I", data, 4)[0]
    at = next(
        at
        for at in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], 12)
        if struct.unpack_from("<H", data, at)[0] == tag
    )
    return data[:at] + struct.pack("<HHII", tag, 4, count, value) + data[at + 12 :]


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_small_tiff_that_promises_a_large_image_is_refused(tmp_path: Path, compression: str | None) -> None:
    data = tiff(np.zeros((9, 60_000), np.uint8), byteorder="<", compression=compression)
    high = retagged(retagged(data, 257, count=1, value=15_000), 278, count=1, value=15_000)
    if compression is None:  # the length of the only strip
        high = retagged(high, 279, count=1, value=15_000 * 60_000)
    assert "cannot be read: damaged: 900000000 bytes" in refusal(tmp_path, "a.tif", high).message


def test_absurd_tiff_is_refused(tmp_path: Path) -> None:
    wide = retagged(tiff(np.zeros((9, 9), np.uint8), byteorder="<"), 256, count=1, value=2_000_000_000)
    assert "2000000000×9 px" in refusal(tmp_path, "a.tif", wide).message


def test_a_tiff_whose_width_is_many_numbers_is_refused(tmp_path: Path) -> None:
    many = retagged(tiff(np.zeros((9, 90), np.uint8), byteorder="<"), 256, count=100, value=8)
    assert "size is not a number" in refusal(tmp_path, "a.tif", many).message


def test_tiles_much_larger_than_the_image_are_refused(tmp_path: Path) -> None:
    wide = retagged(tiff(np.zeros((24, 31), np.uint8), tile=(16, 16), byteorder="<"), 322, count=1, value=1 << 30)
    assert "tiles or strips of" in refusal(tmp_path, "a.tif", wide).message


def samples() -> dict[str, bytes]:
    smooth = cv2.GaussianBlur(pixels("uint8", 24, 31, 3), (0, 0), 2)
    return {
        "a.png": bytes(images.encode_png(smooth)),
        "b.png": bytes(images.encode_png(pixels("uint16", 24, 31))),
        "c.jpg": bytes(images.encode_jpeg(smooth)),
        "d.bmp": pillow(Image.fromarray(smooth), "BMP"),
        "e.tif": tiff(smooth, photometric="rgb"),
        "f.tif": tiff(pixels("uint16", 24, 31), compression="zlib", predictor=True),
        "g.tif": tiff(pixels("float32", 24, 31), tile=(16, 16), byteorder=">"),
    }


@pytest.mark.parametrize("name", list(samples()))
def test_truncation_anywhere_is_told(tmp_path: Path, name: str) -> None:
    data = samples()[name]
    whole = read(tmp_path, name, data)
    for length in sorted({*range(0, len(data), max(1, len(data) // 60)), *range(len(data) - 20, len(data))}):
        try:
            back = read(tmp_path, name, data[:length])
        except DatasetError:
            continue
        np.testing.assert_array_equal(back, whole)  # only what carries no pixels is missing


@pytest.mark.parametrize("name", list(samples()))
def test_mutated_files_give_an_image_or_one_of_our_errors(tmp_path: Path, name: str) -> None:
    rng, data = random.Random(name), samples()[name]
    silent = refused = 0
    whole = read(tmp_path, name, data)
    for _ in range(200):
        bad = bytearray(data)
        reach = len(bad) if rng.random() < 0.5 else min(200, len(bad))  # headers deserve half of the blows
        for _ in range(rng.choice((1, 1, 2, 8))):
            bad[rng.randrange(reach)] = rng.choice((0, 1, 127, 255, rng.randrange(256)))
        if rng.random() < 0.2:
            del bad[rng.randrange(len(bad)) :]
        try:
            with warnings.catch_warnings(action="ignore"):
                back = read(tmp_path, name, bytes(bad))
            assert back.dtype.name in ("uint8", "uint16", "float32") and back.nbytes <= 1 << 30
            silent += not np.array_equal(back, whole, equal_nan=back.dtype.kind == "f")
        except RakelightError as e:
            assert e.code == "image.unreadable" and e.hint and len(e.message) < 600
            refused += 1
    assert refused > 20
    if name.endswith(".png"):
        assert silent == 0  # its checksums tell; for the others the hash in recording.json does


def test_storage_error_is_not_swallowed(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        images.write_png(tmp_path / "absent" / "a.png", np.zeros((3, 3), np.uint8))
