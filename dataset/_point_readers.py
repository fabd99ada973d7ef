"""Reading point clouds: PLY and PCD files as other programs write them, every failure turned into one clear error.

A header is read within limits and its promises are compared with the file's size before anything is allocated. Values
that stand beside the point, its normal and its colour are left out.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from rakelight.errors import DatasetError

_MAX_HEADER_BYTES = 1 << 16
_MAX_FIELDS = 256
_MAX_POINTS = 1 << 28
_PLY_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4", "double": "f8",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
_PLY_FORMATS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_PCD_TYPES = {f"{kind.upper()}{size}": f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)} | {
    "F4": "f4",
    "F8": "f8",
}
_PCD_KEYS = ("FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")


@dataclass(frozen=True, eq=False)
class PointCloud:
    """What a file holds, in the file's own unit and frame.

    Attributes
    ----------
    xyz : (N, 3) float32, or (H, W, 3) of an organised PCD
        Doubles are rounded to float32; NaN = no point (organised clouds).
    rgb : uint8 of the same shape, or None
    normals : float32 of the same shape, or None
    """

    xyz: NDArray[np.float32]
    rgb: NDArray[np.uint8] | None = None
    normals: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class _Table:
    """Where the points stand in a file: one record each, of named fields."""

    names: Sequence[str]
    types: Sequence[str]  # numpy codes without byte order
    order: str  # "<", ">"; "=" of a text file
    text: bool
    start: int  # byte
    count: int
    skip_lines: int = 0  # of a text file, before the points

    @property
    def record(self) -> np.dtype[Any]:
        return np.dtype([(f"{n}", self.order + t) for n, t in enumerate(self.types)])


def read_ply(path: str | Path) -> PointCloud:
    """Read the vertices of a PLY file: ASCII, or binary of either byte order; x y z, nx ny nz, red green blue (uchar).

    Raises
    ------
    DatasetError
        ``point_cloud.missing``; ``point_cloud.unreadable``: damaged, truncated, too large, without x y z.
    """
    path = Path(path)
    return _guarded(path, lambda handle, size: _read_ply(path, handle, size))


def read_pcd(path: str | Path) -> PointCloud:
    """Read a PCD file: ASCII or binary; x y z, normal_x normal_y normal_z, rgb or rgba. VIEWPOINT is not applied.

    Raises
    ------
    DatasetError
        As :func:`read_ply`; also for compressed data.
    """
    path = Path(path)
    return _guarded(path, lambda handle, size: _read_pcd(path, handle, size))


def _guarded(path: Path, read: Callable[[IO[bytes], int], PointCloud]) -> PointCloud:
    try:
        with open(path, "rb") as handle:
            return read(handle, os.fstat(handle.fileno()).st_size)
    except FileNotFoundError as e:
        raise DatasetError(
            f"{path} is missing", hint="restore it, or correct the name", code="point_cloud.missing"
        ) from e
    except (OSError, MemoryError) as e:
        raise _bad(path, f"{type(e).__name__}: {e}") from e


# ----------------------------------------------------------------------------------------------------------------- PLY
def _read_ply(path: Path, handle: IO[bytes], size: int) -> PointCloud:
    lines, start = _header(path, handle, rb"^end_header[ \t]*\r?\n", "end_header")
    if not lines or lines[0] != ["ply"]:
        raise _bad(path, "its content is not that of a PLY file")
    table = _ply_table(path, lines[1:], start)
    columns = _columns(path, handle, size, table)
    colour = ("red", "green", "blue")
    rgb = None
    if all(name in columns for name in colour):
        types = {table.types[table.names.index(name)] for name in colour}
        if types != {"u1"}:
            raise _bad(
                path, f"its colours are of numpy type {', '.join(sorted(types))}; uchar is read", "save them as uchar"
            )
        rgb = np.stack([columns[name] for name in colour], axis=-1).astype(np.uint8, copy=False)
    return PointCloud(_vectors(path, columns, ("x", "y", "z")), rgb, _optional(path, columns, ("nx", "ny", "nz")))


def _ply_table(path: Path, lines: Sequence[list[str]], start: int) -> _Table:
    """The vertex element; elements before it are stepped over if their size is known, those behind it do not matter."""
    form: str | None = None
    elements: list[tuple[str, int, list[tuple[str, str]]]] = []
    for words in lines:
        match words:
            case [] | ["comment" | "obj_info", *_] | ["end_header"]:
                pass
            case ["format", name, "1.0"] if name in _PLY_FORMATS and form is None:
                form = name
            case ["element", name, number]:
                elements.append((name, _number(path, "element " + name, number), []))
            case ["property", "list", _, _, name] if elements:
                elements[-1][2].append((name, "list"))
            case ["property", kind, name] if elements and kind in _PLY_TYPES:
                elements[-1][2].append((name, _PLY_TYPES[kind]))
            case _:
                raise _bad(path, f"its header has the line {' '.join(words)!r}")
    place = next((n for n, element in enumerate(elements) if element[0] == "vertex"), None)
    if form is None or place is None:
        raise _bad(path, "its header names no format that is known, or no vertices")
    if any(kind == "list" for element in elements[: place + 1] for _, kind in element[2]):
        raise _bad(path, "it has lists at or before its vertices", "save it with the vertices first, without lists")
    order, text = _PLY_FORMATS[form], form == "ascii"
    before = elements[:place]
    skip_bytes = sum(count * sum(int(kind[1]) for _, kind in properties) for _, count, properties in before)
    skip_lines = sum(count for _, count, _ in before)
    _, count, properties = elements[place]
    names, types = [name for name, _ in properties], [kind for _, kind in properties]
    return _Table(names, types, order, text, start + (0 if text else skip_bytes), count, skip_lines if text else 0)


# ----------------------------------------------------------------------------------------------------------------- PCD
def _read_pcd(path: Path, handle: IO[bytes], size: int) -> PointCloud:
    lines, start = _header(path, handle, rb"^DATA[ \t]+\w+[ \t]*\r?\n", "DATA")
    table, height, width = _pcd_table(path, lines, start)
    columns = _columns(path, handle, size, table)
    packed = next((name for name in ("rgb", "rgba") if name in columns), None)
    rgb = None if packed is None else _unpack_rgb(path, columns[packed])
    normals = _optional(path, columns, ("normal_x", "normal_y", "normal_z"))
    shape = (height, width, 3) if height > 1 else (width, 3)
    return PointCloud(
        _vectors(path, columns, ("x", "y", "z")).reshape(shape),
        None if rgb is None else rgb.reshape(shape),
        None if normals is None else normals.reshape(shape),
    )


def _pcd_table(path: Path, lines: Sequence[list[str]], start: int) -> tuple[_Table, int, int]:
    facts: dict[str, list[str]] = {}
    for key, *words in (line for line in lines if line and not line[0].startswith("#")):
        key = "FIELDS" if key == "COLUMNS" else key  # its name before version 0.5
        if key in facts or (key not in _PCD_KEYS and key != "VERSION"):
            raise _bad(path, f"its header has the line {key} twice or does not know it")
        facts[key] = words
    missing = [key for key in ("FIELDS", "SIZE", "TYPE", "WIDTH") if key not in facts]
    if missing:
        raise _bad(path, f"its header has no {missing[0]}")
    names = facts["FIELDS"]
    sizes, kinds, counts = facts["SIZE"], facts["TYPE"], facts.get("COUNT", ["1"] * len(names))
    if not len(names) == len(sizes) == len(kinds) == len(counts):
        raise _bad(path, "FIELDS, SIZE, TYPE and COUNT of its header differ in length")
    flat_names: list[str] = []
    flat_types: list[str] = []
    for name, bytes_each, kind, count in zip(names, sizes, kinds, counts, strict=True):
        code = _PCD_TYPES.get(kind + bytes_each)
        repeat = _number(path, "COUNT", count)
        if code is None or not 1 <= repeat <= _MAX_FIELDS:
            raise _bad(path, f"its field {name} is of TYPE {kind} SIZE {bytes_each} COUNT {count}")
        # Padding is called "_", as often as it likes; what has more than one value is none of ours.
        flat_names += [name if repeat == 1 and name != "_" else f"_{len(flat_names) + n}" for n in range(repeat)]
        flat_types += [code] * repeat
    width, height = (_number(path, key, " ".join(facts.get(key, ["1"]))) for key in ("WIDTH", "HEIGHT"))
    points = _number(path, "POINTS", " ".join(facts.get("POINTS", [str(width * height)])))
    if points != width * height:
        raise _bad(path, f"POINTS is {points}, but WIDTH × HEIGHT is {width} × {height}")
    form = " ".join(facts["DATA"])
    if form not in ("ascii", "binary"):
        raise _bad(path, f"DATA {form}; ascii and binary are read", "save it as binary, uncompressed")
    text = form == "ascii"
    return _Table(flat_names, flat_types, "=" if text else "<", text, start, points), height, width


def _unpack_rgb(path: Path, column: NDArray[Any]) -> NDArray[np.uint8]:
    """Colours out of the bits 0xAARRGGBB, stored as a float or as an integer of four bytes."""
    if column.dtype.itemsize != 4:
        raise _bad(path, f"its colours have {column.dtype.itemsize} bytes; 4 are needed")
    bits = np.ascontiguousarray(column).view(np.uint32)
    return np.stack([(bits >> shift).astype(np.uint8) for shift in (16, 8, 0)], axis=-1)


# -------------------------------------------------------------------------------------------------------------- shared
def _header(path: Path, handle: IO[bytes], end: bytes, name: str) -> tuple[list[list[str]], int]:
    """The words of the header's lines, and the byte behind it."""
    head = handle.read(_MAX_HEADER_BYTES)
    found = re.search(end, head, re.MULTILINE)
    if found is None:
        raise _bad(path, f"its first {len(head)} bytes hold no line {name}" if head else "the file is empty")
    try:
        text = head[: found.end()].decode("utf-8")  # comments may be in any language
    except UnicodeDecodeError as e:
        raise _bad(path, "its header is no text") from e
    lines = [line.split() for line in text.split("\n")]
    if len(lines) > 4 * _MAX_FIELDS:
        raise _bad(path, f"its header has {len(lines)} lines; allowed: {4 * _MAX_FIELDS}")
    return lines, found.end()


def _number(path: Path, what: str, digits: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", digits) or int(digits) > _MAX_POINTS:
        raise _bad(path, f"{what} is {digits[:40]!r}; allowed: 0 to {_MAX_POINTS}")
    return int(digits)


def _columns(path: Path, handle: IO[bytes], size: int, table: _Table) -> dict[str, NDArray[Any]]:
    """Name → values (N,) of the type the header states, native byte order."""
    if len(set(table.names)) != len(table.names):
        raise _bad(path, "its header names a field twice")
    if not 1 <= len(table.names) <= _MAX_FIELDS:
        raise _bad(path, f"its points have {len(table.names)} fields; allowed: 1 to {_MAX_FIELDS}")
    least = 2 * len(table.names) - 1 if table.text else table.record.itemsize
    if table.start + table.count * least > size + (1 if table.text else 0):
        raise _bad(path, f"truncated: {table.count} points of at least {least} bytes do not fit into {size}")
    handle.seek(table.start)
    if table.text:
        return _text_columns(path, handle, table)
    points = np.fromfile(handle, table.record, table.count)
    if len(points) != table.count:
        raise _bad(path, f"truncated: {len(points)} of {table.count} points")
    return {name: points[f"{n}"].astype("=" + table.types[n], copy=False) for n, name in enumerate(table.names)}


def _text_columns(path: Path, handle: IO[bytes], table: _Table) -> dict[str, NDArray[Any]]:
    if table.count == 0:
        return {name: np.empty(0, kind) for name, kind in zip(table.names, table.types, strict=True)}
    try:
        with io.TextIOWrapper(handle, "ascii") as text, warnings.catch_warnings():
            warnings.simplefilter("error")  # of a file without numbers
            values = np.loadtxt(
                text, np.float64, comments=None, skiprows=table.skip_lines, max_rows=table.count, ndmin=2
            )
    except (ValueError, UserWarning) as e:
        raise _bad(path, str(e)) from e
    if values.shape != (table.count, len(table.names)):
        raise _bad(
            path,
            f"{values.shape[0]} lines of {values.shape[1]} numbers; {table.count} of {len(table.names)} are promised",
        )
    columns = {}
    for n, name in enumerate(table.names):
        column, kind = values[:, n], table.types[n]
        if kind[0] != "f":
            limits = np.iinfo(kind)
            if not ((column >= limits.min) & (column <= limits.max)).all():  # so that NaN is refused too
                raise _bad(path, f"its field {name} holds what is no {np.dtype(kind)}")
        columns[name] = column.astype(kind)
    return columns


def _vectors(path: Path, columns: dict[str, NDArray[Any]], names: tuple[str, str, str]) -> NDArray[np.float32]:
    missing = [name for name in names if name not in columns]
    if missing:
        raise _bad(path, f"its points have no {missing[0]}; {', '.join(names)} are needed")
    out = np.empty((len(columns[names[0]]), 3), np.float32)
    for axis, name in enumerate(names):
        out[:, axis] = columns[name]
    return out


def _optional(path: Path, columns: dict[str, NDArray[Any]], names: tuple[str, str, str]) -> NDArray[np.float32] | None:
    return _vectors(path, columns, names) if any(name in columns for name in names) else None


def _bad(path: Path, what: str, hint: str = "copy the file again from its source, or leave it out") -> DatasetError:
    return DatasetError(f"{path} cannot be read: {what[:240]}", hint=hint, code="point_cloud.unreadable")
