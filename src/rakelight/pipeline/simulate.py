"""Simulated recordings with known truth: the door to the simulator for commands and scripts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from rakelight.acquisition.simulator import memory, record, truth
from rakelight.acquisition.simulator.bench import BenchOptions, parse_url
from rakelight.acquisition.simulator.defects import KINDS
from rakelight.acquisition.simulator.products.catalogue import PRODUCTS
from rakelight.acquisition.simulator.rig import MIN_WIDTH, Rig, reference_rig
from rakelight.acquisition.simulator.scene import ABSENT, Scene, default_samples
from rakelight.acquisition.simulator.solid import Pose
from rakelight.acquisition.simulator.specimen import Specimen, Stream, generator, make_specimen
from rakelight.acquisition.simulator.targets import TARGETS
from rakelight.acquisition.simulator.wire_faults import FaultPlan, parse_faults
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import FILE_NAME
from rakelight.dataset.recording_writer import RecordingWriter, write_recording
from rakelight.errors import InputError
from rakelight.folders import check_replaceable
from rakelight.reconstruction.patterns import PatternSet

__all__ = ["KINDS", "PRODUCTS", "TARGETS", "Pose", "Settings", "product_exposures", "simulate", "truth_of"]

TARGET_ALBEDO = 0.9  # of the white of boards and planes
CALIBRATION = "calibration"  # folder in ``truth/``, or beside the recordings of a batch

_BRACKET_LEAST, _BRACKET_MOST, _BRACKET_STEP, _BRACKETS = 0.01, 100.0, 1.2, 8
# Faults of the lines and the bridge that change what a frame shows; a capture notices the others and repeats the shot.
_UNTRUE_FAULTS = ("dark", "skip", "stop", "deaf")

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
    bracket : tuple of float
        Further exposures of every pattern, as multiples of the product's own: up to 8, from 0.01 to 100, a factor of 1.2 or
        more between any two, and between each and 1.
    """

    width: int = 1368
    height: int | None = None
    pixel_format: str = "BayerRG12"
    pattern_set: PatternSet | None = field(default_factory=PatternSet)
    samples: int | None = None
    gamma: float = 1.0
    bracket: tuple[float, ...] = ()

    def rig(self) -> Rig:
        """The rig of these settings; raises :class:`InputError` for values and sizes that do not fit."""
        if not 0.3 <= self.gamma <= 4:
            raise InputError(f"projector gamma {self.gamma:g}; allowed: 0.3 to 4", code="simulate.gamma")
        self._check_bracket()
        rig = reference_rig(self.width, self.height, pixel_format=self.pixel_format, gamma=self.gamma)
        projectors = len(rig.projectors) if self.pattern_set is not None else 0
        memory.check_memory(rig.camera.width, rig.camera.height, self.points, projectors, memory.available_bytes())
        return rig

    def _check_bracket(self) -> None:
        if not self.bracket:
            return
        shares = sorted((1.0, *self.bracket))
        apart = all(longer >= shorter * _BRACKET_STEP for shorter, longer in pairwise(shares))
        within = shares[0] >= _BRACKET_LEAST and shares[-1] <= _BRACKET_MOST and len(self.bracket) <= _BRACKETS
        if not (apart and within):  # so that NaN is refused too
            raise InputError(
                f"exposure bracket {', '.join(f'{share:g}' for share in self.bracket)}; allowed: up to {_BRACKETS} multiples "
                f"of the patterns' exposure from {_BRACKET_LEAST:g} to {_BRACKET_MOST:g}, a factor of {_BRACKET_STEP:g} or more "
                "between any two, and between each and 1, which is always taken",
                hint="for example 0.25,4",
                code="simulate.bracket",
            )
        if self.pattern_set is None:
            raise InputError(
                "an exposure bracket without patterns; it is the patterns that are exposed several times",
                hint="leave the bracket out, or record patterns",
                code="simulate.bracket",
            )

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
    frames = record.plan(rig, times, settings.pattern_set, settings.bracket)
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
        known = truth.write_maps(folder, scene, _twin(specimen, scene))  # the twin goes: its maps are as large
        if own:
            calibration.save(folder / CALIBRATION)
        noise = generator(name, seed, Stream.NOISE)
        record.take(scene, frames, writer, noise, progress=progress)
        facts = _facts(specimen, settings, scene, calibration) | known
        return truth.write_document(folder, rig, {f.file: f.sha256 for f in writer.frames}, facts)


def truth_of(
    url: str, *, progress: Callable[[str], None] = lambda step: None
) -> Callable[[RecordingWriter], None] | None:
    """What lays the truth beside the frames of a capture on the simulated rig ``url``: the ``finish`` of ``capture``.

    ``truth/`` is then as :func:`simulate` writes it, the true calibration in it. The bench behind the rig makes specimen,
    pose and scene from the URL alone; here they are made from it once more, at the first capture, and kept for the next
    ones. None if the URL asks for faults after which frames may show something else than what is known (a dead lamp,
    swapped cables, a part that moves, a dark projector, commands that get lost).

    Raises
    ------
    InputError
        ``simulator.url``, ``simulator.fault``, and as :func:`simulate`; told at once, before anything is captured.
    """
    options = parse_url(url)
    if _untrue(options):
        return None
    kind = "BayerRG12" if options.bayer else "Mono12"
    settings = Settings(options.width, options.height or None, kind, None, options.samples or None)
    try:
        rig = settings.rig()
    except InputError as error:
        if error.code != "simulate.memory":
            raise
        raise InputError(
            f"to work out the truth, {error.message}",
            hint="choose a smaller width= or samples=1 in the URL, or leave the truth out (--no-truth)",
            code=error.code,
        ) from error
    specimen = make_specimen(options.part, options.seed, options.defect or None)
    wired = replace(rig, lights=rig.lights[: options.zones])

    @cache
    def made() -> tuple[Scene, Scene | None, RigCalibration]:
        progress("calibrating the rig")
        calibration = truth.rig_calibration(rig, white_height_mm=white_height_mm(options.part))
        progress("casting rays")
        scene = Scene(specimen.part, wired, specimen.pose, samples=settings.samples)
        return scene, _twin(specimen, scene), calibration

    def lay(writer: RecordingWriter) -> None:
        scene, twin, calibration = made()
        folder = writer.side_folder(truth.FOLDER)
        progress("writing the truth")
        facts = _facts(specimen, settings, scene, calibration) | truth.write_maps(folder, scene, twin)
        calibration.save(folder / CALIBRATION)
        truth.write_document(folder, wired, {f.file: f.sha256 for f in writer.frames}, facts)

    return lay


def _untrue(options: BenchOptions) -> bool:
    faults = parse_faults(options.fault)
    named = [text.partition("@")[0] for text in faults.projector]
    named += [fault.name for fault in (*faults.light_line, *faults.projector_line)]
    others = replace(
        faults, frames=(), over_triggers=frozenset(), light_line=(), projector_line=(), projector=()
    )  # without those that a capture notices
    return others != FaultPlan() or bool(set(named) & set(_UNTRUE_FAULTS))


def _twin(specimen: Specimen, scene: Scene) -> Scene | None:
    """The scene without the defect, None for a good specimen."""
    if specimen.flawless is None:
        return None
    return Scene(specimen.flawless, scene.rig, specimen.pose, samples=scene.samples)


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
        "bracket": sorted(settings.bracket),
        "calibration": {"id": calibration.calibration_id, "content_sha256": calibration.content_sha256},
        "absent": list(ABSENT),
    }
