"""Simulated recordings with known truth: the door to the simulator for commands and scripts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from rakelight import files
from rakelight.acquisition.simulator import memory, record, truth
from rakelight.acquisition.simulator.defects import KINDS
from rakelight.acquisition.simulator.products.catalogue import PRODUCTS
from rakelight.acquisition.simulator.rig import MIN_WIDTH, Rig, reference_rig
from rakelight.acquisition.simulator.scene import Scene, default_samples
from rakelight.acquisition.simulator.solid import Pose
from rakelight.acquisition.simulator.specimen import Specimen, Stream, generator, make_specimen
from rakelight.acquisition.simulator.targets import TARGETS
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import FILE_NAME, Recording
from rakelight.dataset.recording_writer import write_recording
from rakelight.errors import DatasetError, InputError
from rakelight.folders import check_replaceable
from rakelight.reconstruction.patterns import PatternSet

__all__ = ["KINDS", "PRODUCTS", "TARGETS", "Pose", "Settings", "simulate", "simulate_batch"]

BATCH = "batch.json"
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
        samples = self.samples or default_samples(rig.camera.width)
        projectors = len(rig.projectors) if self.pattern_set is not None else 0
        memory.check_memory(rig.camera.width, rig.camera.height, samples, projectors, memory.available_bytes())
        return rig


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
        calibration = truth.rig_calibration(rig, white_height_mm=white_height_mm(specimen))
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
        twin = Scene(specimen.flawless, rig, specimen.pose, samples=1) if specimen.flawless is not None else None
        document = truth.write_truth(folder, scene, twin, _facts(specimen, settings, scene, calibration))
        if own:
            calibration.save(folder / CALIBRATION)
        del twin  # its maps are as large as the scene's
        noise = generator(name, seed, Stream.NOISE)
        record.take(scene, frames, writer, noise, progress=progress)
    return document


def white_height_mm(specimen: Specimen) -> float:
    """Height of the white plane of the flat field for a specimen: the middle of its product, as one would lay it."""
    return round(specimen.height_mm / 2, 2) if specimen.target == "part" else 0.0


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
        "absent": ["interreflection", "extended light sources", "defocus with depth", "dark current"],
    }


def simulate_batch(
    names: Sequence[str],
    output: str | Path,
    count: int,
    *,
    first_seed: int = 0,
    defects: Sequence[str] = (),
    settings: Settings | None = None,
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """Record ``count`` specimens of each product below ``output``; a second run goes on where the first one ended.

    Every other specimen of a product is good; the rest take ``defects`` in turn (all good if there are none). A defect
    that does not fit a product is left out for it. ``output/<name>-<seed>`` are the recordings, ``output/calibration/``
    holds the true calibrations, and ``output/batch.json`` lists name, seed, label and folder of each.

    Raises
    ------
    InputError
        As :func:`simulate`; also when no defect fits a product.
    DatasetError
        ``simulate.batch_differs``: ``output`` was begun with other settings.
    """
    settings = settings or Settings()
    output = files.make_folder(output)
    rig = settings.rig()
    started = time.monotonic()
    calibrations: dict[float, RigCalibration] = {}
    rows: list[dict[str, Any]] = []
    wanted = [
        (name, first_seed + k, _label(k, [d for d in defects if d in fitting_defects(name)], name, defects))
        for name in names
        for k in range(count)
    ]
    done = 0
    for number, (name, seed, label) in enumerate(wanted, 1):
        progress(number, len(wanted))
        folder = output / f"{name}-{seed:04d}"
        if (folder / FILE_NAME).is_file():
            document = _earlier(folder, label, settings)
        else:
            height = white_height_mm(make_specimen(name, seed))
            if height not in calibrations:
                calibrations[height] = _kept_calibration(output / CALIBRATION, rig, height)
            document = simulate(
                name, folder, seed=seed, defect=label, settings=settings, calibration=calibrations[height]
            )
            done += 1
        rows.append(
            {
                "name": name,
                "seed": seed,
                "label": document["label"],
                "recording": folder.name,
                "calibration": f"{CALIBRATION}/{document['calibration']['id']}",
                "defect_share": document["defect_share"],
            }
        )
        files.write_json(output / BATCH, {"schema": 1, "kind": "simulated_batch", "recordings": rows})
    return {"recordings": rows, "made": done, "kept": len(wanted) - done, "seconds": time.monotonic() - started}


def fitting_defects(name: str) -> tuple[str, ...]:
    """The kinds of defect that a product can have: all, but without separate features nothing can be missing."""
    if name not in PRODUCTS:
        return ()
    return tuple(kind for kind in KINDS if kind != "missing_feature" or PRODUCTS[name].features)


def _label(k: int, fitting: Sequence[str], name: str, wanted: Sequence[str]) -> str | None:
    for kind in wanted:
        if kind not in KINDS:
            raise InputError(f"defect {kind!r} is not known; known: {', '.join(KINDS)}", code="simulate.unknown_defect")
    if wanted and not fitting:
        raise InputError(
            f"none of the defects {', '.join(wanted)} fits {name}; these do: {', '.join(fitting_defects(name))}",
            hint="choose others, or leave this product out",
            code="simulate.defect_does_not_fit",
        )
    return fitting[(k // 2) % len(fitting)] if fitting and k % 2 else None


def _earlier(folder: Path, label: str | None, settings: Settings) -> dict[str, Any]:
    """The truth of a recording that an earlier run made, if it is what this run would make."""
    document: dict[str, Any] = files.read_json(folder / truth.FOLDER / truth.FILE_NAME, error=DatasetError)
    info = Recording.open(folder).info
    plain = settings.pattern_set.to_plain() if settings.pattern_set is not None else None
    size = (settings.rig().camera.width, settings.rig().camera.height)
    same = {
        "label": document["label"] == (label or "OK"),
        "size": (info.width, info.height) == size,
        "pixel format": info.pixel_format == settings.pixel_format,
        "pattern set": info.pattern_set == plain,
        "projector gamma": document["projector_gamma"] == settings.gamma,
    }
    if wrong := [what for what, fits in same.items() if not fits]:
        raise DatasetError(
            f"{folder} is of an earlier run with another {' and '.join(wrong)}",
            hint="give another output folder, or the settings of the first run",
            code="simulate.batch_differs",
        )
    return document


def _kept_calibration(parent: Path, rig: Rig, height_mm: float) -> RigCalibration:
    """The true calibration for a white plane at ``height_mm``, made once for a batch and kept below ``parent``."""
    folder = parent / truth.calibration_id(rig, height_mm)
    if folder.exists():
        return RigCalibration.load(folder)
    made = truth.rig_calibration(rig, white_height_mm=height_mm)
    files.make_folder(parent)
    made.save(folder)
    return made
