"""Writing a measured surface: maps on the pixels of the frames, point clouds, and a sheet to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset import images, point_clouds
from rakelight.pipeline.surface import Surface
from rakelight.pipeline.surface_maps import SurfaceMaps
from rakelight.pipeline.surface_sheet import surface_sheet
from rakelight.pipeline.truth import Truth
from rakelight.reconstruction.triangulation import heights_above

SHEET = "surface_sheet.png"
THINNED = (4, 40)  # of the resolution study in the Real-IAD D³ paper, §5.3
_SEED = 0

Write = Callable[[Callable[[Path, NDArray[Any]], object], Path, NDArray[Any]], None]


def write_surface(write: Write, folder: Path, surface: Surface, truth: Truth | None, title: str) -> None:
    """Hand the maps of ``surface`` to ``write``, the slowest first.

    ``xyz.tiff`` (H, W, 3), ``height_mm.tiff``, ``sigma_z_mm.tiff``, ``spread_mm.tiff``, ``surface_confidence.tiff`` (H, W)
    float32, NaN = invalid; ``support.tiff`` and ``directions.tiff`` uint8 (number and bit set of the directions that agree);
    ``part_mask.png`` 0 or 255; ``surface_sheet.png``.
    """
    m = surface.merged
    write(images.write_tiff, folder / "xyz.tiff", surface.xyz)
    write(images.write_png, folder / SHEET, sheet(surface, truth, title))
    for name, values in (
        ("height_mm", surface.height_mm),
        ("sigma_z_mm", m.sigma_z_mm),
        ("spread_mm", m.spread_mm),
        ("surface_confidence", surface.confidence),
        ("support", m.support),
        ("directions", m.used),
    ):
        write(images.write_tiff, folder / f"{name}.tiff", values)
    write(images.write_png, folder / "part_mask.png", surface.mask.astype(np.uint8) * np.uint8(255))


def write_clouds(
    folder: Path, surface: Surface, rgb: NDArray[np.uint8], normals: NDArray[np.float32] | None
) -> dict[str, int]:
    """``cloud.ply`` with colours and normals, thinned to 1/4 and 1/40, and ``cloud.pcd``; returns the points of each file."""
    valid = np.isfinite(surface.merged.z_mm)
    given: dict[str, Any] = {"rgb": rgb, "normals": normals, "normals_frame": "viewer"}
    told = {"cloud.ply": point_clouds.write_ply(folder / "cloud.ply", surface.xyz, **given).points}
    for factor in THINNED:
        name = f"cloud_{factor}x.ply"
        mask = point_clouds.downsample(valid, factor, _SEED)
        if mask.any():
            told[name] = point_clouds.write_ply(folder / name, surface.xyz, mask=mask, **given).points
    told["cloud.pcd"] = point_clouds.write_pcd(folder / "cloud.pcd", surface.xyz, rgb).points
    return told


def sheet(surface: Surface, truth: Truth | None, title: str) -> NDArray[np.uint8]:
    """The labelled sheet, (H, W, 3) uint8 RGB."""
    m, report = surface.merged, surface.report
    true_height = None if truth is None else heights_above(truth.xyz, surface.table_plane)
    maps = SurfaceMaps(
        surface.height_mm,
        m.sigma_z_mm,
        m.spread_mm,
        m.support,
        m.used,
        surface.mask,
        surface.pitch_mm,
        rejected=m.rejected,
        confidence=surface.confidence,
        true_height_mm=true_height,
        pairs=surface.pairs,
        directions=tuple(d["direction"] for d in report["directions"]),
    )
    footer = [
        f"{report['pattern_set']}; measured {report['coverage']:.1%} of the image"
        + (f", {report['part_coverage']:.1%} of the part" if report["part_coverage"] is not None else "")
        + f"; table plane: {report['table_plane']}",
        *(f"Warning: {w}" for w in report["warnings"]),
    ]
    return surface_sheet(maps, title, footer)
