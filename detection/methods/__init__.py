"""Detectors: configurations of features, swapping, fusion, banks and decision; one file a method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rakelight.detection.methods.base import EMBEDDED, PAPER, BankSpec, Method, default_grid
from rakelight.detection.methods.btf import btf
from rakelight.detection.methods.d3m import d3m
from rakelight.detection.methods.m3dm import m3dm
from rakelight.detection.methods.patchcore import patchcore
from rakelight.detection.methods.pointmae import pointmae
from rakelight.detection.native import MODALITIES, Modality
from rakelight.errors import InputError

__all__ = ["EMBEDDED", "METHODS", "PAPER", "BankSpec", "Method", "make_method"]

METHODS = (
    "d3m",
    "m3dm",
    "patchcore-rgb",
    "patchcore-ps",
    "patchcore-rgb+ps",
    "patchcore-rgb+ps+xyz",
    "btf",
    "pointmae",
)


def make_method(name: str, features: Mapping[Modality, str] | None = None, **options: Any) -> Method:
    """The method of a name: one of :data:`METHODS`, or ``patchcore-`` and any modalities joined by ``+``.

    ``options`` are those of :class:`Method`: ``size=336`` for a larger working frame, whose ``grid`` follows unless it is given;
    ``settings={"xyz": {"interpolation": "off"}}`` for Point-MAE without interpolation (D³M, Table 5).

    Raises :class:`InputError` (``method.unknown``, ``method.option`` …).
    """
    size = options.get("size")
    if size is not None:
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise InputError(f"size {size!r}: a whole number of pixels is needed", code="method.option")
        options.setdefault("grid", default_grid(size))
    simple = {"d3m": d3m, "m3dm": m3dm, "btf": btf, "pointmae": pointmae}
    kind, _, which = name.partition("-")
    if kind in simple and not which:
        return simple[kind](features, **options)
    modalities = tuple(m for m in MODALITIES if m in which.split("+"))
    if kind == "patchcore" and modalities and set(which.split("+")) == set(modalities):
        return patchcore(modalities, features, **options)
    raise InputError(f"method {name!r} is unknown; known: {', '.join(METHODS)}", code="method.unknown")
