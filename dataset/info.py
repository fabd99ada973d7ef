"""``meta/dataset.json``: what a data set says of itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rakelight.config import Model
from rakelight.dataset.options import DatasetOptions
from rakelight.dataset.sample import Software


class PsEncoding(Model):
    """How the 8-bit pseudo-3D picture encodes the unit normal n (viewer frame)."""

    formula: str = "uint8 round(127.5*(n+1))"
    red: str = "x, right"
    green: str = "y, up"
    blue: str = "z, towards the camera"


class XyzFrame(Model):
    """The frame of XYZ maps and point clouds."""

    unit: str = "mm"
    frame: str = "camera frame (OpenCV): x right, y down, z away from the camera"
    pixels: str = "aligned to the RGBL05 picture, pixel centres at integers"
    invalid: str = "NaN"


class DatasetInfo(Model):
    """``meta/dataset.json``."""

    schema_: int = Field(default=1, alias="schema")
    kind: Literal["rakelight-dataset"] = "rakelight-dataset"
    name: str = Field(min_length=1)
    description: str = ""
    license: str = ""
    created_utc: str
    software: Software = Software()
    ps_encoding: PsEncoding = PsEncoding()
    xyz_frame: XyzFrame = XyzFrame()
    options: DatasetOptions = DatasetOptions()
