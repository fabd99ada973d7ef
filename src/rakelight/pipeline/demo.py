"""The demo: a real and a simulated part, from pictures to data-set samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from rakelight import files as storage
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Recording
from rakelight.dataset.recording_import import import_recording
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, StorageError
from rakelight.folders import staged_folder
from rakelight.pipeline import outputs
from rakelight.pipeline.calibrate import calibrate_from_recordings
from rakelight.pipeline.reconstruct import reconstruct
from rakelight.pipeline.sample import keep_calibration, make_sample
from rakelight.pipeline.simulate import Settings, simulate

MARK = "demo.json"
SIMULATED, SEED, DEFECT = "knob_cap", 7, "scratch"


@dataclass(frozen=True)
class Demo:
    """What the demo made: a sentence a step, paths by name, figures, warnings."""

    story: list[str]
    paths: dict[str, Path]
    figures: dict[str, Any]
    warnings: list[str]


def run_demo(output: Path, *, progress: Callable[[str], None] = lambda step: None) -> Demo:
    """Import, calibrate, reconstruct and store the PSBox example below ``output``, and a simulated part beside it.

    An earlier demo there is replaced.

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
        content = make_sample(recordings["object"], result, category="figurine", label="OK")
        with dataset.writer() as writer:
            keep_calibration(dataset, report.calibration)
            sample = writer.commit(content)
        made = _simulated(folder, dataset, progress)
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
            f"Beside it a simulated {SIMULATED} with a {DEFECT}, of which everything is known: its normals are right to "
            f"{smooth['mean_deg']:.2f}° (mean of the smooth areas); it is sample {made['sample']}, with its defect mask.",
        ],
        {
            "recordings": output / "recordings",
            "calibration": output / "calibration" / "psbox",
            "contact sheet": output / "pseudo3d" / outputs.SHEET,
            "simulated part": output / "simulated" / outputs.SHEET,
            "sample": output / "dataset" / relative,
        },
        figures,
        list(dict.fromkeys([*report.calibration.warnings, *result.report["warnings"]])),
    )


def _simulated(folder: Path, dataset: Dataset, progress: Callable[[str], None]) -> dict[str, Any]:
    """Record a simulated part with a defect, reconstruct it and store it with its defect mask."""
    progress("simulate a part")
    where = folder / "recordings" / SIMULATED
    simulate(SIMULATED, where, seed=SEED, defect=DEFECT, settings=Settings(pattern_set=None))
    recording, calibration = Recording.open(where), RigCalibration.load(where / "truth" / "calibration")
    result = reconstruct(recording, calibration, progress=progress)
    outputs.save(result, folder / "simulated")
    content = make_sample(recording, result, category=SIMULATED, label=DEFECT, mask=where / "truth" / "defect_mask.png")
    with dataset.writer() as writer:
        keep_calibration(dataset, calibration)
        sample = writer.commit(content)
    return {"sample": str(sample.key), "truth": result.report["truth"]}


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
