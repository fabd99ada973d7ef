"""The formats by name: which tools load each, and which module writes and verifies it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from rakelight.dataset.exporters.job import ExportOptions, ExportReport, Progress, no_progress, read_provenance
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, InputError


class Exporter(Protocol):
    """What a format's module offers."""

    def export(
        self, dataset: Dataset, folder: str | Path, *, options: ExportOptions, progress: Progress = no_progress
    ) -> ExportReport: ...

    def verify(self, folder: str | Path, dataset: Dataset | None = None) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Target:
    """A format: the module in this package, and who loads it."""

    module: str
    loaders: str


TARGETS = {
    "mvtec3d": Target("mvtec3d", "BTF, M3DM, CFM, 2M3DF, AST, 3DSR; anomalib MVTec3D (RGB + XYZ in metres)"),
    "d3m": Target("d3m", "the published D3M code of Real-IAD D³ (RGB + PS + XYZ)"),
    "realiad": Target("realiad", "Real-IAD's own loader, ADer, BaoIAD, ADEval (five views, 4-key JSON)"),
    "mvtec-ad": Target("mvtec2d", "PatchCore, EfficientAD and most 2D detectors; anomalib MVTecAD"),
    "anomalib": Target(
        "anomalib", "anomalib Folder, Folder3D and Tabular (any category name, README.txt has the code)"
    ),
    "huggingface": Target("huggingface", "datasets.load_dataset('imagefolder'), the Hugging Face Hub (with card)"),
    "zips": Target("zips", "publishing: a zip a category, SHA256SUMS, Croissant"),
    "croissant": Target("croissant", "mlcroissant: metadata for the data set as it lies (for its top folder)"),
}


def exporter(format: str) -> Exporter:
    """The module of a format; raises :class:`InputError` for an unknown one."""
    if format not in TARGETS:
        raise InputError(f"format {format!r} is not known; known: {', '.join(TARGETS)}", code="export.format_unknown")
    return cast(Exporter, import_module(f"rakelight.dataset.exporters.{TARGETS[format].module}"))


def verify_export(folder: str | Path, dataset: Dataset | None = None) -> tuple[str, ...]:
    """Problems of an export of any format, told by its provenance; with a data set, compared with it.

    Raises :class:`DatasetError` if the folder is no export or its provenance or map is damaged.
    """
    format = read_provenance(folder).format
    if format not in TARGETS:
        raise DatasetError(
            f"{folder} is an export for {format!r}; this version knows {', '.join(TARGETS)}",
            hint="update rakelight",
            code="export.format_unknown",
        )
    return exporter(format).verify(folder, dataset)
