"""What :mod:`rakelight.dataset.inspect` measures on single files. Arrays and bytes in, figures out."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset.importers.pixels import XyzMap, meaning_of_xy

_STRIDE = 7  # pixels between those compared: an odd number, so that no pattern of the sensor is met
_DARK, _BRIGHT = 8, 247  # grey levels outside of which a picture tells nothing of the light
_SIZES = {"F4": "f4", "F8": "f8", "U4": "u4", "I4": "i4", "U1": "u1", "I1": "i1", "U2": "u2", "I2": "i2"}


@dataclass(frozen=True)
class XyzFacts:
    """Of one map: how it is stored, what is invalid, range of Z, what X and Y hold, their constants, their pitch."""

    layout: str
    pixels: int
    invalid: str
    valid_ratio: float
    z_range: tuple[float, float] | None
    meaning: str | None
    constants: tuple[float, ...]
    pitch: float | None


@dataclass(frozen=True)
class CloudFacts:
    """Of one PCD: ``ascii`` or ``binary``, its fields, how many points, colours, distance of neighbours (None: unknown)."""

    data: str
    fields: str
    points: int
    coloured: bool
    cloud_pitch: float | None


@dataclass(frozen=True)
class LightFit:
    """How far L05 is from what L01–L04 give: median grey levels off after the best scale, and that scale, by kind."""

    errors: dict[str, float]
    scales: dict[str, float]


def xyz_facts(found: XyzMap) -> XyzFacts:
    """Measure one XYZ map; Z is judged where it is finite and not 0."""
    xyz = found.xyz
    z = xyz[..., 2]
    nan, zero = ~np.isfinite(z), (xyz == 0).all(-1)
    valid = ~nan & ~zero
    kinds = [name for name, there in (("NaN", nan.any()), ("(0, 0, 0)", zero.any())) if there]
    meaning, constants = meaning_of_xy(xyz)
    values = {c for name in ("x_constants", "y_constants") for c in constants.get(name, ()) if c != 0}
    pitch = None
    if meaning == "true" and valid.any():
        step = np.linalg.norm(np.diff(np.where(valid[..., None], xyz, np.nan)[..., :2], axis=1), axis=-1)
        step = step[np.isfinite(step) & (step > 0)]
        pitch = float(np.median(step)) if step.size else None
    return XyzFacts(
        layout=f"{found.layout} {found.dtype}",
        pixels=z.size,
        invalid=" and ".join(kinds) or "none missing",
        valid_ratio=float(valid.mean()),
        z_range=(float(z[valid].min()), float(z[valid].max())) if valid.any() else None,
        meaning=meaning,
        constants=tuple(sorted(values)),
        pitch=pitch,
    )


def unit_length_error(picture: NDArray[np.uint8]) -> float:
    """Median of | |v/127.5 − 1| − 1 | over pixels that are neither black nor white; 1 if there are none.

    8 bits leave 0.004 and JPEG some 0.02 in real normals; pictures of other kinds have 0.2 and more. Grey pixels are
    counted in: a normal map has none with three equal channels but (1, 1, 1)/√3 and its opposite.
    """
    sample = picture[::_STRIDE, ::_STRIDE].reshape(-1, 3)
    sample = sample[(sample.min(1) < 255) & (sample.max(1) > 0)]
    if not len(sample):
        return 1.0
    lengths = np.linalg.norm(sample / 127.5 - 1, axis=1)
    return float(np.median(np.abs(lengths - 1)))


def fit_reference_light(single: Sequence[NDArray[np.uint8]], reference: NDArray[np.uint8]) -> LightFit:
    """Compare L05 with mean and largest of L01–L04, each times the best factor (the sum is the mean, times 4), where all are
    in range.

    Grey levels are taken as they are: a tone curve makes all fits worse, the mean's least.
    """
    stack = np.stack([s[::_STRIDE, ::_STRIDE].astype(np.float64) for s in single])
    target = reference[::_STRIDE, ::_STRIDE].astype(np.float64)
    usable = (target > _DARK) & (target < _BRIGHT) & (stack.max(0) < _BRIGHT)
    errors, scales = {}, {}
    for kind, made in (("mean", stack.mean(0)), ("largest", stack.max(0))):
        x, y = made[usable], target[usable]
        scale = float(x @ y / (x @ x)) if x.size and (x @ x) > 0 else 1.0
        scales[kind] = scale
        errors[kind] = float(np.median(np.abs(scale * x - y))) if x.size else 255.0
    return LightFit(errors, scales)


def cloud_facts(head: bytes) -> CloudFacts:
    """Measure a PCD by its first bytes (a mebibyte or so): header, and of the points that follow their colours and pitch."""
    end = re.search(rb"^DATA[ \t]+(\w+)[ \t]*\r?\n", head[: 1 << 16], re.MULTILINE)
    if end is None:
        return CloudFacts("no header", "", 0, False, None)
    facts: dict[str, list[str]] = {}
    for line in head[: end.end()].decode("utf-8", "replace").split("\n"):
        words = line.split()
        if words and not words[0].startswith("#"):
            facts[words[0]] = words[1:]
    names = facts.get("FIELDS", [])
    count = "".join(facts.get("POINTS", ["0"]))
    points = int(count) if count.isdecimal() and len(count) < 13 else 0
    data = end[1].decode("ascii", "replace")
    try:
        columns = _columns(head[end.end() :], facts, names, data, points)
    except (ValueError, TypeError, KeyError, IndexError, ArithmeticError, MemoryError):  # a header that cannot be
        columns = {}
    colours = columns.get("rgb", columns.get("rgba"))
    coloured = colours is not None and bool(len(np.unique(np.nan_to_num(colours, nan=-1.0))) > 1)
    return CloudFacts(data, " ".join(names), points, coloured, _neighbours(columns))


def _columns(
    body: bytes, facts: dict[str, list[str]], names: list[str], data: str, points: int
) -> dict[str, NDArray[Any]]:
    """The first points; a text may end within a line, a binary within a record."""
    if data == "ascii":
        lines = body[: body.rfind(b"\n") + 1].decode("ascii", "replace").splitlines()[:points]
        values = np.loadtxt(io.StringIO("\n".join(lines)), ndmin=2)
        return {name: values[:, n] for n, name in enumerate(names)}
    if data != "binary":
        return {}
    counts = facts.get("COUNT", ["1"] * len(names))
    types = [_SIZES[t + s] for t, s in zip(facts["TYPE"], facts["SIZE"], strict=True)]
    record = np.dtype([(f"{n}", "<" + t, int(c)) for n, (t, c) in enumerate(zip(types, counts, strict=True))])
    rows = np.frombuffer(body, record, min(points, len(body) // record.itemsize))
    return {name: rows[f"{n}"].astype(np.float64).reshape(len(rows), -1)[:, 0] for n, name in enumerate(names)}


def _neighbours(columns: dict[str, NDArray[Any]]) -> float | None:
    """Median distance of points that follow each other in the file, in X and Y; points come row by row."""
    if not {"x", "y"} <= columns.keys() or len(columns["x"]) < 8:
        return None
    step = np.hypot(np.diff(columns["x"]), np.diff(columns["y"]))
    step = step[np.isfinite(step) & (step > 0)]
    return float(np.median(step)) if step.size else None
