"""Writing a reconstruction: every map as numbers and as a picture, and one contact sheet to look at."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight import files, folders
from rakelight.dataset import images
from rakelight.pipeline import surface_outputs
from rakelight.pipeline.contact_sheet import Panel, contact_sheet, map_panel
from rakelight.pipeline.reconstruct import Reconstruction
from rakelight.reconstruction import pseudo3d
from rakelight.reconstruction.photometric import Flag

REPORT = "reconstruction.json"
SHEET = "contact_sheet.png"
_WRITERS = 4  # threads; they wait for the disk half of the time
_SHEET_WIDTH = 840  # pixels of a panel at most: what the sheet shows is made from maps of this width
_SHEET_LIGHTS = 4  # inputs on the sheet at most
_SIGNED = ("slope_p", "slope_q", "curvature")
# Bits of the flags map as colours of the picture, strongest last.
_FLAG_COLOURS = {
    Flag.SHADOWED: (70, 110, 200),
    Flag.OUTLIER: (240, 170, 40),
    Flag.SATURATED: (230, 60, 50),
    Flag.WEAK: (160, 90, 190),
    Flag.NOT_SOLVABLE: (25, 25, 25),
}


def save(
    reconstruction: Reconstruction,
    folder: str | Path,
    *,
    overwrite: bool = False,
    cloud_rgb: NDArray[np.uint8] | None = None,
) -> dict[str, Path]:
    """Write all maps of ``reconstruction`` into ``folder``, which appears (or is replaced) as a whole.

    Float maps are plain float32 TIFF: ``normals`` (H, W, 3), ``albedo`` (also ``albedo_rgb``), ``confidence``, the pseudo-3D maps;
    ``flags.tiff`` holds the bits of :class:`Flag`. PNG pictures stand beside them, with ``normals_8bit.png`` and
    ``normals_16bit.png`` encoded as :func:`pseudo3d.encode_normals` says. A measured surface adds the files of
    :func:`surface_outputs.write_surface` and, with ``cloud_rgb`` (H, W, 3), those of ``write_clouds``. Returns the final
    paths by name.

    Raises :class:`StorageError` as :func:`folders.staged_folder` does: only an earlier reconstruction is ever replaced.
    """
    folder = Path(folder)
    r = reconstruction
    floats = {"albedo": r.result.albedo, "confidence": r.result.confidence, **r.maps}
    with folders.staged_folder(folder, overwrite=overwrite, marker=REPORT) as staging, Writers() as write:
        # Pictures are made here, one at a time (the kernels are parallel themselves), while threads encode and write.
        # The slowest goes first, the largest much later, so that their copies are not in memory together.
        write(images.write_png, staging / "normals_16bit.png", pseudo3d.encode_normals(r.result.normals, 16))
        write(images.write_png, staging / SHEET, sheet(r))
        for name, values in floats.items():
            write(images.write_tiff, staging / f"{name}.tiff", values)
            write(images.write_png, staging / f"{name}.png", map_picture(name, values))
        write(images.write_tiff, staging / "flags.tiff", r.result.flags)
        write(images.write_png, staging / "flags.png", flag_picture(r.result.flags))
        write(images.write_png, staging / "normals_8bit.png", pseudo3d.encode_normals(r.result.normals, 8))
        write(images.write_tiff, staging / "normals.tiff", r.result.normals)
        if r.colour is not None:
            write(images.write_tiff, staging / "albedo_rgb.tiff", r.colour)
        if r.error_deg is not None:
            write(images.write_tiff, staging / "normal_error_deg.tiff", r.error_deg)
        if r.surface is not None:
            title = f"{title_of(r.report)}: measured surface"
            surface_outputs.write_surface(write, staging, r.surface, r.truth, title)
        write.finish()
        if r.surface is not None and cloud_rgb is not None:
            surface_outputs.write_clouds(staging, r.surface, cloud_rgb, r.result.normals)
        files.write_json(staging / REPORT, r.report)
        names = sorted(path.name for path in staging.iterdir())
    return {name: folder / name for name in names}


class Writers(contextlib.ExitStack):
    """A few threads that encode and write images; whoever calls waits while all are busy, so that memory stays flat.

    The first error is raised in the caller. At the end of the block nobody writes any more, whatever ended it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._count = min(_WRITERS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._count, "write")
        self._busy: set[Future[object]] = set()
        self.callback(self._pool.shutdown, cancel_futures=True)

    def __call__(self, function: Callable[[Path, NDArray[Any]], object], path: Path, image: NDArray[Any]) -> None:
        if len(self._busy) >= self._count:
            self._settle(FIRST_COMPLETED)
        self._busy.add(self._pool.submit(function, path, image))

    def finish(self) -> None:
        """Wait until everything is written."""
        self._settle(ALL_COMPLETED)

    def _settle(self, until: str) -> None:
        done, self._busy = wait(self._busy, return_when=until)
        for job in done:
            job.result()


def map_picture(name: str, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A float map as an 8-bit grey picture, scaled to its own 1st to 99th percentile; fixed 0 to 1 for relief and confidence."""
    limits = (0.0, 1.0) if name in ("relief", "confidence") else None
    return pseudo3d.to_display(values, limits=limits, symmetric=name in _SIGNED).image


def flag_picture(flags: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The flags as colours: grey = all zones agree, blue shadow, orange highlight left out, red saturated, violet weak."""
    table = np.full((256, 3), 200, np.uint8)
    for flag, colour in _FLAG_COLOURS.items():
        table[np.arange(256) & int(flag) > 0] = colour
    return np.asarray(cv2.LUT(cv2.merge([flags] * 3), table[None]))


def sheet(reconstruction: Reconstruction) -> NDArray[np.uint8]:
    """The labelled contact sheet, (H, W, 3) uint8 RGB."""
    r = reconstruction
    report = r.report
    top = r.stack.full_scale or float(max(f.max() for f in r.stack.frames)) or 1.0
    panels = [
        map_panel(
            f"Light {light.zone}",
            np.sqrt(np.clip(_small(frame).astype(np.float32) / top, 0, 1)),
            cmap="grey",
            limits=(0.0, 1.0),
            caption=f"slant {light.slant_deg:.0f}°, azimuth {light.azimuth_deg:.0f}°, square root of full scale",
        )
        for frame, light in list(zip(r.stack.frames, r.stack.lights, strict=True))[:_SHEET_LIGHTS]
    ]
    coverage = report["coverage"]
    m = r.maps
    dark = ~r.result.solved
    panels += [
        Panel("Normals", pseudo3d.encode_normals(r.result.normals, 8), "x right = red, y up = green, z = blue"),
        map_panel("Albedo (texture)", _masked(r.result.albedo, dark), cmap="grey", caption="print without shading")
        if r.colour is None
        else Panel("Albedo (texture)", colour_picture(r.colour), "print and colour without shading"),
        map_panel("Shaded relief", m["relief"], cmap="grey", limits=(0.0, 1.0), caption="one virtual grazing light"),
        map_panel(
            "Mean curvature",
            m["curvature"],
            cmap="diverging",
            unit="1/px",
            caption="bumps warm, dents and scratches cold",
        ),
        map_panel("Height, relative", m["height"], unit="px", caption="integrated normals: not metric"),
    ]
    if "gloss" in m:
        panels.append(
            map_panel("Gloss", _masked(m["gloss"], dark), cmap="inferno", caption="brighter than a matte surface")
        )
        panels.append(
            map_panel(
                "Confidence",
                _masked(r.result.confidence, dark),
                limits=(0.8, 1.0),
                caption="zones agree with one matte facet",
            )
        )
    panels.append(
        Panel(
            "Evidence",
            flag_picture(r.result.flags),
            f"of the solved: blue shadow {coverage['shadowed_of_solved']:.1%}, "
            f"orange left out {coverage['outlier_of_solved']:.1%}, red saturated {coverage['saturated_of_solved']:.1%}, "
            f"violet weak {coverage['weak_of_solved']:.1%}; black: not solvable",
        )
    )
    panels += _truth_panels(r)
    model = "near lights over the measured surface" if report["second_pass"] else f"{report['light_model']} lights"
    footer = [
        f"{report['size'][0]}×{report['size'][1]} px, zones {', '.join(map(str, report['zones']))}, "
        f"{model}, condition number {report['condition_number']:.2f}, "
        f"flat field {'yes' if report['flat_field'] else 'no'}, dark {'yes' if report['dark'] else 'no'}, "
        f"solved {coverage['solved']:.1%}",
        f"recording {report['recording']['id']}, calibration {report['calibration']['id']} "
        f"({report['calibration']['content_sha256'][:12]}), {report['software']}",
        *(f"Warning: {w}" for w in report["warnings"]),
    ]
    title = title_of(report)
    lights = len(r.stack.frames)
    shown = f" ({_SHEET_LIGHTS} of {lights} lights shown)" if lights > _SHEET_LIGHTS else ""
    return contact_sheet(
        panels, f"{title}: pseudo-3D from {lights} lights{shown}", footer, columns=min(_SHEET_LIGHTS, lights)
    )


def title_of(report: dict[str, Any]) -> str:
    """Name of the part for a sheet, and whether it was simulated."""
    return report["recording"]["part_id"] + (" (simulated)" if report["recording"]["simulated"] else "")


def _truth_panels(r: Reconstruction) -> list[Panel]:
    """What a simulated recording adds: the true normals, how far the solved ones are from them, and the defect."""
    if r.truth is None or r.error_deg is None:
        return []
    figures = r.report["truth"]
    told = [
        f"{name}: mean {f['mean_deg']:.2f}°, median {f['median_deg']:.2f}°"
        for name, f in (("part", figures["part"]), ("smooth areas", figures["smooth"]))
        if f["mean_deg"] is not None
    ]
    panels = [
        Panel("True normals", pseudo3d.encode_normals(r.truth.normals, 8), "what the simulator knows"),
        map_panel(
            "Error of the normals", r.error_deg, cmap="inferno", unit="deg", limits=(0.0, 10.0), caption="; ".join(told)
        ),
    ]
    if r.truth.defect.any():
        shown = np.where(r.truth.defect, 255, np.where(r.truth.mask, 90, 0)).astype(np.uint8)
        panels.append(Panel("True defect", shown, f"{figures['label']}, {figures['defect_share']:.2%} of the part"))
    return panels


def colour_picture(colour: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Albedo in R, G, B as a picture for the sheet: 99th percentile is white, square root as a rough display curve."""
    small = _small(colour)
    white = float(np.percentile(small, 99)) or 1.0
    return np.rint(255 * np.sqrt(np.clip(small / white, 0, 1))).astype(np.uint8)


def _small(frame: NDArray[Any]) -> NDArray[Any]:
    """A frame reduced by area to the width of a panel."""
    rows, columns = frame.shape[:2]
    if columns <= _SHEET_WIDTH:
        return frame
    size = (_SHEET_WIDTH, max(1, round(rows * _SHEET_WIDTH / columns)))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))


def _masked(values: NDArray[Any], hide: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.where(hide, np.float32(np.nan), values)
