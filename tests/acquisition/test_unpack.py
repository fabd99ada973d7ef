"""Packed pixel formats against bit-by-bit unpacking written from the Pixel Format Naming Convention."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.acquisition.unpack import packed_bytes, unpack, unpacked_name
from rakelight.errors import DeviceError


def bits_p(values: list[int], bits: int) -> NDArray[np.uint8]:
    """PFNC ``p``: one stream of bits, least significant first."""
    stream = 0
    for k, value in enumerate(values):
        stream |= value << (k * bits)
    return np.frombuffer(stream.to_bytes((len(values) * bits + 7) // 8, "little"), np.uint8)


def bits_gige(values: list[int], bits: int) -> NDArray[np.uint8]:
    """GigE Vision ``Packed``: high bits of two pixels in bytes 0 and 2, their low bits in byte 1."""
    low = bits - 8
    out = []
    for a, b in zip(values[0::2], [*values[1::2], 0], strict=False):
        out += [a >> low, (a & (2**low - 1)) | ((b & (2**low - 1)) << 4), b >> low]
    return np.array(out[: (len(values) * 12 + 7) // 8], np.uint8)


@pytest.mark.parametrize("kind", ["Mono", "BayerRG"])
@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize(("packing", "pack"), [("p", bits_p), ("Packed", bits_gige)])
@pytest.mark.parametrize("size", [(8, 4), (3, 3), (1, 1), (5, 1), (7, 2)])
def test_packed(kind: str, bits: int, packing: str, pack, size: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    width, height = size
    rng = np.random.default_rng(bits + width)
    values = rng.integers(0, 2**bits, width * height).tolist()
    values[0], values[-1] = 2**bits - 1, 2 ** (bits - 1) + 1
    name = f"{kind}{bits}{packing}"
    data = pack(values, bits)
    assert len(data) == packed_bytes(name, width, height)
    image = unpack(data, name, width, height)
    assert image.dtype == np.uint16 and image.shape == (height, width) and image.ravel().tolist() == values
    assert unpacked_name(name) == f"{kind}{bits}"


@pytest.mark.parametrize(
    ("name", "dtype", "channels"),
    [("Mono8", "u1", 1), ("Mono12", "<u2", 1), ("BayerRG16", "<u2", 1), ("RGB8", "u1", 3), ("RGBa8", "u1", 4)],
)
def test_unpacked(name: str, dtype: str, channels: int) -> None:
    values = np.arange(6 * 4 * channels).astype(dtype)
    data = values.view(np.uint8).copy()
    image = unpack(data, name, 6, 4)
    expected = values.reshape(4, 6, channels)[..., :3] if channels > 1 else values.reshape(4, 6)
    assert np.array_equal(image, expected)
    data[:] = 255
    assert np.array_equal(image, expected), "own memory: the producer writes into its buffer again"


def test_refusals() -> None:
    with pytest.raises(DeviceError, match=r"'YUV422_8' is not taken") as caught:
        unpack(np.zeros(8, np.uint8), "YUV422_8", 2, 2)
    assert caught.value.code == "camera.pixel_format"
    with pytest.raises(DeviceError, match=r"sent 10 bytes; 4×2 Mono12p needs 12") as caught:
        unpack(np.zeros(10, np.uint8), "Mono12p", 4, 2)
    assert caught.value.code == "camera.incomplete"
