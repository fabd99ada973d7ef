"""Simulated recordings with known truth: the door to the simulator for commands and scripts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from rakelight.acquisition.simulator import memory, record, truth
from rakelight.acquisition.simulator.defects import KINDS
from rakelight.acquisition.simulator.products.catalogue import PRODUCTS
from rakelight.acquisition.simulator.rig import MIN_WIDTH, Rig, reference_rig
from rakelight.acquisition.simulator.scene import ABSENT, Scene, default_samples
from rakelight.acquisition.simulator.solid import Pose
from rakelight.acquisition.simulator.specimen import Specimen, Stream, generator, make_specimen
from rakelight.acquisition.simulator.targets import TARGETS
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import FILE_NAME
from rakelight.dataset.recording_writer import write_recording
from rakelight.errors import InputError
from rakelight.folders import check_replaceable
from rakelight.reconstruction.patterns import PatternSet

__all__ = ["KINDS", "PRODUCTS", "TARGETS", "Pose", "Settings", "simulate"]

TARGET_ALBEDO = 0.9  # of the white of boards and planes
CALIBRATION = "calibration"  # folder in ``truth/``, or beside the recordings of a batch

Progress = Callable[..., None]


@dataclass(frozen=True)
class Settings:
    """How a scene is recorded.

    Attributes
    ----------
    width, height : int
        Frame size in px; the height follows from the width if it is None.
    pixel_format : str
        SFNC name.
    pattern_set : PatternSet or None
        What the four projectors show; None records the light stack alone.
    samples : int or None
        Points a pixel has in each axis.
    gamma : float
        Of the projectors; 1 is linear, as a DLP in pattern mode is.
    """

    width: int = 1368
    height: int | None = None
    pixel_format: str = "BayerRG12"
    pattern_set: PatternSet | None = field(default_factory=PatternSet)
    samples: int | None = None
    gamma: float = 1.0

    def rig(self) -> Rig:
        """The rig of these settings; raises :class:`InputError` for sizes, formats and memory that do not fit."""
        if not 0.3 <= self.gamma <= 4:
            raise InputError(f"projector gamma {self.gamma:g}; allowed: 0.3 to 4", code="simulate.gamma")
        rig = reference_rig(self.width, self.height, pixel_format=self.pixel_format, gamma=self.gamma)
        projectors = len(rig.projectors) if self.pattern_set is not None else 0
        memory.check_memory(rig.camera.width, rig.camera.height, self.points, projectors, memory.available_bytes())
        return rig

    @property
    def points(self) -> int:
        """Points a pixel has in each axis."""
        return default_samples(self.width) if self.samples is None else self.samples


def simulate(
    name: str,
    output: str | Path,
    *,
    seed: int = 0,
    defect: str | None = None,
    pose: Pose | None = None,
    settings: Settings | None = None,
    calibration: RigCalibration | None = None,
    overwrite: bool = False,
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """Record specimen ``seed`` of a product or target as the folder ``output``, with what is known of it in ``truth/``.

    Parameters
    ----------
    name : str
        Product or target.
    output : path
        The recording's folder.
    defect : str, optional
        One of ``KINDS``; the same seed without it is the flawless twin.
    pose : Pose, optional
        Otherwise the seed decides.
    calibration : RigCalibration, optional
        The rig's true calibration if it is kept elsewhere; otherwise it is made and stored in ``truth/calibration``.

    Returns
    -------
    dict
        The content of ``truth.json``.

    Raises
    ------
    InputError
        Unknown names, a defect that does not fit, a pose outside the view, a size that does not fit into memory.
    StorageError
        ``output`` exists, or cannot be written.
    """
    settings = settings or Settings()
    check_replaceable(output, overwrite=overwrite, marker=FILE_NAME)
    rig = settings.rig()
    progress("building the part")
    specimen = make_specimen(name, seed, defect, pose)
    scene = Scene(specimen.part, rig, specimen.pose, samples=settings.samples)
    scene.check_view()
    own = calibration is None
    if calibration is None:
        progress("calibrating the rig")
        calibration = truth.rig_calibration(rig, white_height_mm=white_height_mm(name))
    progress("casting rays")
    times = _exposures(specimen, rig, settings)
    frames = record.plan(rig, times, settings.pattern_set)
    description = record.describe(
        rig,
        frames,
        part_id=f"{name}-{seed:04d}",
        target=specimen.target,
        pattern_set=settings.pattern_set,
        calibration_id=calibration.calibration_id,
        notes=f"simulated {name}, specimen {seed}",
        **_sphere_facts(specimen),
    )
    with write_recording(output, description, overwrite=overwrite) as writer:
        folder = writer.side_folder(truth.FOLDER)
        twin = None
        if specimen.flawless is not None:
            twin = Scene(specimen.flawless, rig, specimen.pose, samples=settings.samples)
        known = truth.write_maps(folder, scene, twin)
        if own:
            calibration.save(folder / CALIBRATION)
        del twin  # its maps are as large as the scene's
        noise = generator(name, seed, Stream.NOISE)
        record.take(scene, frames, writer, noise, progress=progress)
        facts = _facts(specimen, settings, scene, calibration) | known
        return truth.write_document(folder, rig, {f.file: f.sha256 for f in writer.frames}, facts)


def white_height_mm(name: str) -> float:
    """Height of the white plane of the flat field: the middle of a product, as one would lay it; 0 for targets."""
    return round(PRODUCTS[name].height_mm / 2, 2) if name in PRODUCTS else 0.0


@lru_cache(maxsize=64)
def product_exposures(name: str, pixel_format: str = "BayerRG12", gamma: float = 1.0) -> record.Exposures:
    """Set once for a product, on its specimen 0."""
    rig = reference_rig(MIN_WIDTH, pixel_format=pixel_format, gamma=gamma)
    return record.set_exposures(make_specimen(name, 0).part, rig)


def _exposures(specimen: Specimen, rig: Rig, settings: Settings) -> record.Exposures:
    if specimen.target == "part":
        return product_exposures(specimen.name, settings.pixel_format, settings.gamma)
    return record.matte_exposures(rig, TARGET_ALBEDO, specimen.height_mm)


def _sphere_facts(specimen: Specimen) -> dict[str, Any]:
    wanted = ("sphere_count", "sphere_diameter_mm")
    return {key: specimen.facts[key] for key in wanted if key in specimen.facts}


def _facts(specimen: Specimen, settings: Settings, scene: Scene, calibration: RigCalibration) -> dict[str, Any]:
    pose = specimen.pose
    return {
        "name": specimen.name,
        "seed": specimen.seed,
        "label": specimen.defect.kind if specimen.defect is not None else "OK",
        "pose": vars(pose).copy() | {"rotation": pose.rotation.tolist(), "shift_mm": pose.shift_mm.tolist()},
        "defect": specimen.defect.to_plain() if specimen.defect is not None else None,
        "target_facts": specimen.facts,
        "size_px": [scene.shape[1], scene.shape[0]],
        "pixel_format": settings.pixel_format,
        "samples": scene.samples,
        "projector_gamma": settings.gamma,
        "calibration": {"id": calibration.calibration_id, "content_sha256": calibration.content_sha256},
        "absent": list(ABSENT),
    }
