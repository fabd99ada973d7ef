"""Many simulated specimens in one go: recordings, their true calibrations, and a list of what each one is."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rakelight import files
from rakelight.acquisition.simulator import truth
from rakelight.acquisition.simulator.defects import KINDS
from rakelight.acquisition.simulator.products.catalogue import PRODUCTS
from rakelight.acquisition.simulator.rig import Rig
from rakelight.acquisition.simulator.specimen import check_name, check_seed
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import FILE_NAME, Recording
from rakelight.errors import DatasetError, InputError, StorageError
from rakelight.pipeline.simulate import CALIBRATION, Progress, Settings, simulate, white_height_mm

LIST = "batch.json"


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

    Of two specimens in a row one is good, at random which; the other has one of ``defects``, each as often as the others
    (all are good if there are none). A kind that does not fit a product is left out for it. ``output/<name>-<seed>`` are
    the recordings, ``output/calibration/`` holds the true calibrations, and ``output/batch.json`` lists name, seed, label
    and folder of all recordings there.

    Raises
    ------
    InputError
        As :func:`simulate`; also when no defect fits a product. Nothing has been written then.
    DatasetError
        ``simulate.batch_differs``: a recording there is of other settings; ``simulate.batch_damaged``.
    """
    settings = settings or Settings()
    rig = settings.rig()
    names = list(dict.fromkeys(names))
    wanted = [(name, first_seed + k) for name in names for k in range(count)]
    for name in names:
        check_name(name)
        _check_defects(name, defects)
    for seed in (first_seed, first_seed + count - 1):
        check_seed(seed)
    if (Path(output) / FILE_NAME).exists():
        raise StorageError(
            f"{output} is a recording; a batch is written into a folder of its own",
            hint="choose another name with -o",
            code="storage.exists",
        )
    output = files.make_folder(output)
    started = time.monotonic()
    rows = _listed(output)
    made = 0
    for number, (name, seed) in enumerate(wanted, 1):
        progress(number, len(wanted))
        folder = output / f"{name}-{seed:04d}"
        if (folder / FILE_NAME).is_file():
            document = _earlier(folder, defects, settings)
        else:
            calibration = _kept_calibration(output / CALIBRATION, rig, white_height_mm(name))
            document = _record(name, folder, seed, defects, settings, calibration)
            made += 1
        rows[folder.name] = {
            "name": name,
            "seed": seed,
            "label": document["label"],
            "recording": folder.name,
            "calibration": f"{CALIBRATION}/{document['calibration']['id']}",
            "defect_share": document["defect_share"],
        }
        files.write_json(output / LIST, {"schema": 1, "kind": "simulated_batch", "recordings": list(rows.values())})
    chosen = [rows[f"{name}-{seed:04d}"] for name, seed in wanted]
    return {"recordings": chosen, "made": made, "kept": len(wanted) - made, "seconds": time.monotonic() - started}


def fitting_defects(name: str) -> tuple[str, ...]:
    """The kinds of defect that a product can have: all, but without separate features nothing can be missing."""
    if name not in PRODUCTS:
        return ()
    return tuple(kind for kind in KINDS if kind != "missing_feature" or PRODUCTS[name].features)


def label_of(name: str, seed: int, defects: Sequence[str]) -> str | None:
    """What specimen ``seed`` of a batch has: one of two in a row a defect, kinds in turns of random order, None for good.

    By chance of its own, so that neither number nor order nor name of a recording tells its label.
    """
    kinds = [kind for kind in defects if kind in fitting_defects(name)]
    if not kinds:
        return None
    pair, place = divmod(seed, 2)
    stream = zlib.crc32(f"labels of {name}".encode())
    if place != int(np.random.default_rng([stream, pair]).integers(2)):
        return None
    turn, position = divmod(pair, len(kinds))
    return kinds[int(np.random.default_rng([stream, turn, len(kinds)]).permutation(len(kinds))[position])]


def _check_defects(name: str, wanted: Sequence[str]) -> None:
    for kind in wanted:
        if kind not in KINDS:
            raise InputError(
                f"unknown defect {kind!r}; known are {', '.join(KINDS)}",
                hint="name one of them, or all",
                code="simulate.unknown_defect",
            )
    if wanted and not set(wanted) & set(fitting_defects(name)):
        fitting = ", ".join(fitting_defects(name))
        raise InputError(
            f"none of the defects {', '.join(wanted)} fits {name}; "
            + (f"these do: {fitting}" if fitting else "none does"),
            hint="choose others, or leave this part out",
            code="simulate.defect_does_not_fit",
        )


def _record(
    name: str, folder: Path, seed: int, defects: Sequence[str], settings: Settings, calibration: RigCalibration
) -> dict[str, Any]:
    """Record one specimen; where its defect finds no place on it, the next kind takes the turn."""
    first = label_of(name, seed, defects)
    kinds = [kind for kind in defects if kind in fitting_defects(name)]
    turns = [first] if first is None else [*kinds[kinds.index(first) :], *kinds[: kinds.index(first)]]
    for last, kind in zip([*[False] * (len(turns) - 1), True], turns, strict=True):
        try:
            return simulate(name, folder, seed=seed, defect=kind, settings=settings, calibration=calibration)
        except InputError as error:
            if error.code != "simulate.defect_does_not_fit" or last:
                raise
    raise AssertionError("unreachable")


def _listed(output: Path) -> dict[str, dict[str, Any]]:
    """What an earlier run listed, by the recording's folder."""
    if not (output / LIST).is_file():
        return {}
    listed = files.read_json(output / LIST, error=DatasetError)
    try:
        return {row["recording"]: row for row in listed["recordings"] if (output / row["recording"]).is_dir()}
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"{output / LIST} is not a list of simulated recordings",
            hint="delete it: it is made anew from the recordings",
            code="simulate.batch_damaged",
        ) from error


def _earlier(folder: Path, defects: Sequence[str], settings: Settings) -> dict[str, Any]:
    """The truth of a recording that an earlier run made, if it is what this run would make."""
    info = Recording.open(folder).info
    gone = [f.file for f in info.frames if not _has_size(folder / f.file, f.bytes)]
    if gone:
        raise DatasetError(
            f"{folder} is damaged: {gone[0]} is missing or cut short"
            + (f", and {len(gone) - 1} more" if gone[1:] else ""),
            hint=f"delete {folder}; it is recorded again by the next run",
            code="simulate.batch_damaged",
        )
    plain = settings.pattern_set.to_plain() if settings.pattern_set is not None else None
    rig = settings.rig()
    try:
        document: dict[str, Any] = files.read_json(folder / truth.FOLDER / truth.FILE_NAME, error=DatasetError)
        first = label_of(document["name"], document["seed"], defects)
        same = {
            "label": (document["label"] == "OK") == (first is None) and document["label"] in ("OK", *defects),
            "size": (info.width, info.height) == (rig.camera.width, rig.camera.height),
            "pixel format": info.pixel_format == settings.pixel_format,
            "pattern set": info.pattern_set == plain,
            "projector gamma": document["projector_gamma"] == settings.gamma,
            "number of samples": document["samples"] == settings.points,
            "exposure bracket": document.get("bracket", [])
            == sorted(settings.bracket),  # absent: made before there were any
        }
        _ = document["calibration"]["id"], document["defect_share"]
    except (DatasetError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{folder} has no usable {truth.FOLDER}/{truth.FILE_NAME}: {error}",
            hint=f"delete {folder}; it is recorded again by the next run",
            code="simulate.batch_damaged",
        ) from error
    if wrong := [what for what, fits in same.items() if not fits]:
        raise DatasetError(
            f"{folder} is of an earlier run with another {' and '.join(wrong)}",
            hint="give another output folder, or the settings of the first run",
            code="simulate.batch_differs",
        )
    return document


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _kept_calibration(parent: Path, rig: Rig, height_mm: float) -> RigCalibration:
    """The true calibration for a white plane at ``height_mm``, made once for a batch and kept below ``parent``."""
    folder = parent / truth.calibration_id(rig, height_mm)
    if folder.exists():
        return RigCalibration.load(folder)
    made = truth.rig_calibration(rig, white_height_mm=height_mm)
    files.make_folder(parent)
    made.save(folder)
    return made
