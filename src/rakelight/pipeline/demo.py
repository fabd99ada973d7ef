"""The demo: a real and a simulated part, from pictures to data-set samples."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from rakelight import files as storage
from rakelight.acquisition.capture import capture
from rakelight.acquisition.recipe import PatternRecipe, Recipe
from rakelight.acquisition.rig import Rig
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Recording
from rakelight.dataset.recording_import import import_recording
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, DeviceError, StorageError
from rakelight.folders import staged_folder
from rakelight.pipeline import outputs, surface_outputs
from rakelight.pipeline.calibrate import calibrate_from_recordings
from rakelight.pipeline.reconstruct import reconstruct
from rakelight.pipeline.sample import keep_calibration, make_sample
from rakelight.pipeline.simulate import Settings, product_exposures, simulate, truth_of

MARK = "demo.json"
SIMULATED, SEED, DEFECT, WIDTH = "knob_cap", 7, "scratch", 912


@dataclass(frozen=True)
class Demo:
    """What the demo made: a sentence a step, paths by name, figures, warnings about the photographs.

    ``without_rig`` says why the simulated part was not captured through the simulated rig; empty if it was.
    """

    story: list[str]
    paths: dict[str, Path]
    figures: dict[str, Any]
    warnings: list[str]
    without_rig: str = ""


def run_demo(output: Path, *, width: int = WIDTH, progress: Callable[[str], None] = lambda step: None) -> Demo:
    """Import, calibrate, reconstruct and store the PSBox example below ``output``, and a simulated part beside it.

    The simulated part is captured as a real one would be, on a simulated rig with frames ``width`` px wide (608 or more:
    narrower ones show no smooth areas to judge normals by). An earlier demo there is replaced.

    Raises :class:`StorageError` if ``output`` holds anything else or cannot be written.
    """
    output = Path(output)
    _check_nothing_added(output)
    with (
        staged_folder(output, overwrite=True, marker=MARK) as folder,
        as_file(files("rakelight.examples") / "psbox") as source,
    ):
        progress("import photographs")
        recordings = {
            name: import_recording(source, source / f"{name}.toml", folder / "recordings" / name)
            for name in ("object", "sphere1", "sphere2")
        }
        progress("calibrate lights")
        report = calibrate_from_recordings(list(recordings.values()), "psbox", progress=progress)
        report.calibration.save(folder / "calibration" / "psbox")
        result = reconstruct(recordings["object"], report.calibration, progress=progress)
        outputs.save(result, folder / "pseudo3d")
        progress("commit the sample")
        dataset = Dataset.init(folder / "dataset", "rakelight demo", license="MIT (PSBox)")
        content = make_sample(
            recordings["object"], result, calibration=report.calibration, category="figurine", label="OK"
        )
        with dataset.writer() as writer:
            keep_calibration(dataset, report.calibration)
            sample = writer.commit(content)
        made = _simulated(folder, dataset, width, progress)
        figures = {
            "lights": len(report.calibration.lights),
            "sphere_spread_deg": report.figures["sphere_spread_deg"],
            "strengths": report.figures["strengths"],
            "solved": result.report["coverage"]["solved"],
            "sample": str(sample.key),
            "simulated": made,
        }
        storage.write_json(folder / MARK, figures | {"files": _listing(folder)})
        relative = sample.folder.relative_to(dataset.root)
    spread, fit, smooth = figures["sphere_spread_deg"], figures["strengths"], made["truth"]["smooth"]
    return Demo(
        [
            f"12 photographs of a figurine and 2 × 12 of chrome spheres became {len(recordings)} recordings.",
            f"The spheres gave {figures['lights']} light directions; the two agree within {spread['mean']}° (mean).",
            f"Light strengths brought the misfit of the matte model from {fit['with_equal_strengths']:.1%} to "
            f"{fit['relative_residual']:.1%}.",
            f"{figures['solved']:.1%} of the pixels have a normal; the rest is too dark to tell.",
            f"The part is sample {figures['sample']} of a data set in the Real-IAD D³ format.",
            f"Beside it a simulated {SIMULATED} with a {DEFECT}: {_how(made)}",
            f"Everything is known of this part: its normals are right to {smooth['mean_deg']:.2f}° (mean of the smooth "
            f"areas). It is sample {made['sample']}, with its defect mask.",
        ],
        {
            "recordings": output / "recordings",
            "calibration": output / "calibration" / "psbox",
            "contact sheet": output / "pseudo3d" / outputs.SHEET,
            "simulated part": output / "simulated" / outputs.SHEET,
            "its surface": output / "simulated" / surface_outputs.SHEET,
            "sample": output / "dataset" / relative,
        },
        figures,
        list(dict.fromkeys([*report.calibration.warnings, *result.report["warnings"]])),
        made["without_rig"],
    )


def _simulated(folder: Path, dataset: Dataset, width: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Take a simulated part with a defect, reconstruct it and store it with its defect mask."""
    where = folder / "recordings" / SIMULATED
    taken = _taken(where, width, progress)
    recording, calibration = Recording.open(where), RigCalibration.load(where / "truth" / "calibration")
    result = reconstruct(recording, calibration, progress=progress)
    outputs.save(result, folder / "simulated")
    content = make_sample(
        recording,
        result,
        calibration=calibration,
        category=SIMULATED,
        label=DEFECT,
        mask=where / "truth" / "defect_mask.png",
    )
    with dataset.writer() as writer:
        keep_calibration(dataset, calibration)
        sample = writer.commit(content)
    return taken | {
        "frames": len(recording.info.frames),
        "sample": str(sample.key),
        "truth": result.report["truth"],
    }


def _taken(where: Path, width: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Capture the part on a simulated rig as the recording ``where``; without a C compiler, simulate it without one."""
    start = time.monotonic()
    try:
        _capture(where, width, progress)
        without_rig = ""
    except DeviceError as error:
        if not error.code.startswith("simulator.no_"):
            raise
        progress("simulate a part")
        simulate(SIMULATED, where, seed=SEED, defect=DEFECT, settings=Settings(width))
        without_rig = f"{error.message} → {error.hint}"
    return {"seconds": round(time.monotonic() - start, 2), "without_rig": without_rig}


def _capture(where: Path, width: int, progress: Callable[[str], None]) -> None:
    url = f"sim://{SIMULATED}?seed={SEED}&defect={DEFECT}&width={width}"
    progress("open the simulated rig")
    with Rig.open(url) as rig:
        times = product_exposures(SIMULATED)
        recipe = Recipe(
            product=SIMULATED,
            exposure_us=times.zone_us,
            all_zones_exposure_us=times.all_zones_us,
            patterns=PatternRecipe(exposure_us=times.pattern_us),
        )
        capture(
            rig,
            recipe,
            where,
            part_id=f"{SIMULATED}-{SEED:04d}",
            finish=truth_of(url, progress=progress) or (lambda _: None),
            progress=lambda now: progress(f"capture {now.done} of {now.total}"),
        )


def _how(made: dict[str, Any]) -> str:
    if made["without_rig"]:
        return f"{made['frames']} frames, rendered without a rig."
    return (
        f"{made['frames']} frames, under four lights and from four pattern projectors, captured in {made['seconds']:.0f} s "
        "with the drivers of real devices: a GenICam camera, lights and projectors on serial ports."
    )


def _listing(folder: Path) -> list[str]:
    """Files below ``folder``, except the mark and hidden ones, by their relative names."""
    paths = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return sorted(p.as_posix() for p in paths if p.name != MARK and not p.name.startswith("."))


def _check_nothing_added(output: Path) -> None:
    """Refuse to replace an earlier demo in which somebody went on to work."""
    if not (output / MARK).is_file():
        return  # whether the folder may be written at all is checked where it is made
    made = storage.read_json(output / MARK, error=DatasetError).get("files", [])
    added = sorted(set(_listing(output)) - set(made))
    if added:
        raise StorageError(
            f"{output} holds {len(added)} file(s) that no demo wrote, for example {added[0]}",
            hint="they are yours: move them away, or give the demo another folder with -o",
            code="storage.exists",
        )
