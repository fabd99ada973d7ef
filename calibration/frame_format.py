"""Which frames a map of photosites belongs to: the same size alone says neither the same DN nor the same photosites."""

from __future__ import annotations

from dataclasses import dataclass

from rakelight.errors import CalibrationError


@dataclass(frozen=True)
class FrameFormat:
    """Pixel format and place on the sensor of raw frames.

    Parameters
    ----------
    pixel_format : str
        SFNC name, for example ``Mono12``.
    offset_x, offset_y : int
        First column and row of the sensor, in its pixels.
    binning : int
    """

    pixel_format: str
    offset_x: int = 0
    offset_y: int = 0
    binning: int = 1

    def __str__(self) -> str:
        return f"{self.pixel_format} at ({self.offset_x}, {self.offset_y}), binning {self.binning}"

    def check(self, found: FrameFormat, name: str, mine: str = "those of the calibration's maps") -> None:
        """Refuse ``found``, the frames of ``name``, unless they are these: code ``calibration.format_mismatch``."""
        if found != self:
            raise CalibrationError(
                f"{name}: frames are {found}; {mine} are {self}; they must agree",
                hint="record parts, white plane and dark with one pixel format, region of interest and binning",
                code="calibration.format_mismatch",
            )
