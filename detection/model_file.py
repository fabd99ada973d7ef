"""A detector on disk: a folder with ``model.json`` and ``model.safetensors``, whole or not at all.

Plain JSON and plain arrays: nothing in it runs when it is read. The JSON holds the method, the decision, what each extractor
is (id, SHA-256 of its weights, settings, fingerprint of a fixed input), the keys and hashes of the parts taught, and the
SHA-256 of the array file. A model whose extractors give another fingerprint here is refused: its distances would mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rakelight
from rakelight import files, folders
from rakelight.detection.detector import Detector, TaughtPart
from rakelight.detection.features.base import Extractor, make_extractor, same_fingerprint, settings_of
from rakelight.detection.fusion import Fusion
from rakelight.detection.measuring import Calibration, decide
from rakelight.detection.memory_bank import MemoryBank
from rakelight.detection.methods.base import Method
from rakelight.detection.native import Modality
from rakelight.detection.registration import Template
from rakelight.detection.swapping import SwapIndices
from rakelight.errors import ModelError

SCHEMA = 2
DOCUMENT, ARRAYS = "model.json", "model.safetensors"
_MOST_NAMES = 8  # of models in a hint

Maker = Callable[[str, Modality, tuple[int, ...] | None], Extractor]


def save(detector: Detector, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write a detector as ``folder``; returns it. Raises :class:`StorageError` (exists, full, not writable)."""
    from safetensors.numpy import save as pack

    arrays = _arrays(detector)
    data = pack({name: np.array(array, order="C") for name, array in arrays.items()})  # 0-d stays 0-d
    document = {
        "schema": SCHEMA,
        "kind": "rakelight-detector",
        "software": f"rakelight {rakelight.__version__}",
        "category": detector.category,
        "method": detector.method.to_dict(),
        "extractors": {
            m: {
                "id": e.id,
                "weights_sha256": e.weights_sha256,
                "settings": settings_of(e),
                "fingerprint": list(e.fingerprint()),
            }
            for m, e in detector.extractors.items()
        },
        "parts": [vars(part) for part in detector.parts],
        "swap": None if detector.swap is None else detector.swap.to_dict(),
        "fusion": None if detector.fusion is None else detector.fusion.kind,
        "template": detector.template is not None,
        "facts": dict(detector.facts),
        "arrays_sha256": files.sha256_bytes(data),
    }
    with folders.staged_folder(folder, overwrite=overwrite, marker=DOCUMENT) as staging:
        files.write_bytes(staging / ARRAYS, data)
        files.write_json(staging / DOCUMENT, document)
    return Path(folder)


def load(folder: str | Path, *, make: Maker | None = None, device: str = "cpu") -> Detector:
    """Read a detector.

    Parameters
    ----------
    make : callable, optional
        (id, modality, taps) → extractor; by default those of :func:`make_extractor` with weights from the usual places.
    device : str
        ``cpu``, ``cuda`` or ``auto``: where the default extractors run. A model taught on one runs on the other.

    Raises
    ------
    ModelError
        ``model.not_found``, ``model.damaged``, ``config.schema_unknown``, ``model.other_extractor``, ``model.device``, and what
        the parts of a detector refuse.
    """
    folder = Path(folder)
    folder = folder.parent if folder.name == DOCUMENT else folder
    if not (folder / DOCUMENT).is_file():
        raise _no_model(folder)
    document = files.read_json(folder / DOCUMENT, error=ModelError)
    if not isinstance(document, dict) or document.get("kind") != "rakelight-detector":
        raise ModelError(f"{folder / DOCUMENT} does not describe a detector", code="model.damaged")
    if document.get("schema") != SCHEMA:
        raise ModelError(
            f"{folder / DOCUMENT}: schema = {document.get('schema')!r} is not known here (this version reads schema {SCHEMA})",
            hint="update rakelight, or teach the detector again",
            code="config.schema_unknown",
        )
    arrays = _read_arrays(folder, document)
    try:
        method = Method.from_dict(document["method"])
        parts = tuple(_taught(p) for p in document["parts"])
        names = [bank.name for bank in method.banks]
        banks = {name: MemoryBank.from_arrays(_below(arrays, f"bank.{name}.")) for name in names}
        calibration = Calibration(**_below(arrays, "calibration."))
        swap = None if document["swap"] is None else SwapIndices.from_dict(document["swap"])
        fusion = (
            None if document["fusion"] is None else Fusion.from_arrays(document["fusion"], _below(arrays, "fusion."))
        )
        template = Template.from_arrays(_below(arrays, "template.")) if document["template"] else None
        extractors = {m: _extractor(m, method, told, make, device) for m, told in document["extractors"].items()}
        decision, pixels = decide(method, calibration)
        facts = dict(document["facts"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as e:
        raise ModelError(
            f"{folder} cannot be read: {type(e).__name__}: {e}",
            hint="restore it from a backup, or teach the detector again",
            code="model.damaged",
        ) from e
    return Detector(
        method,
        str(document["category"]),
        template,
        banks,
        swap,
        fusion,
        decision,
        pixels,
        calibration,
        parts,
        facts,
        extractors,
        arrays.get("ignore"),
    )


def _no_model(folder: Path) -> ModelError:
    """What is wrong with a path that holds no model, and which models are in it or beside it."""
    says = f"is not a model: it holds no {DOCUMENT}" if folder.exists() else "does not exist"
    found = sorted({path.parent for place in (folder, folder.parent) for path in place.glob(f"*/{DOCUMENT}")})
    there = ", ".join(str(path) for path in found[:_MOST_NAMES]) + " …" * (len(found) > _MOST_NAMES)
    return ModelError(
        f"{folder} {says}" if folder.exists() else f"the model {folder} {says}",
        hint=f"models there: {there}" if found else "`rakelight detect train` makes one",
        code="model.not_found",
    )


def _arrays(detector: Detector) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for name, bank in detector.banks.items():
        found |= {f"bank.{name}.{key}": array for key, array in bank.to_arrays().items()}
    found |= {f"calibration.{key}": array for key, array in vars(detector.calibration).items()}
    if detector.fusion is not None:
        found |= {f"fusion.{key}": array for key, array in detector.fusion.to_arrays().items()}
    if detector.template is not None:
        found |= {f"template.{key}": np.asarray(array) for key, array in detector.template.to_arrays().items()}
    if detector.ignore is not None:
        found["ignore"] = detector.ignore
    return found


def _taught(told: Mapping[str, Any]) -> TaughtPart:
    capture = {str(name): float(value) for name, value in told["capture"].items()}
    return TaughtPart(int(told["number"]), str(told["key"]), str(told["sha256"]), capture, str(told["specimen"]))


def _read_arrays(folder: Path, document: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as unpack

    try:
        data = (folder / ARRAYS).read_bytes()
    except OSError as e:
        raise ModelError(f"{folder / ARRAYS} cannot be read: {e.strerror or e}", code="model.damaged") from e
    if files.sha256_bytes(data) != document.get("arrays_sha256"):
        raise ModelError(
            f"{folder / ARRAYS} is not what was written: its SHA-256 differs from that in {DOCUMENT}",
            hint="restore it from a backup, or teach the detector again",
            code="model.damaged",
        )
    try:
        return dict(unpack(data))
    except (SafetensorError, ValueError, KeyError, TypeError) as e:
        raise ModelError(f"{folder / ARRAYS} is damaged: {e}", code="model.damaged") from e


def _below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _extractor(modality: str, method: Method, told: Mapping[str, Any], make: Maker | None, device: str) -> Extractor:
    chosen: Modality = next(m for m in method.modalities if m == modality)
    taps = method.taps.get(chosen)
    name = str(told["id"])
    settings = method.settings.get(chosen)
    made = (
        make(name, chosen, taps)
        if make is not None
        else make_extractor(name, modality=chosen, taps=taps, device=device, settings=settings)
    )
    precision = str(settings_of(made).get("precision", "float32"))
    same = same_fingerprint(made.fingerprint(), told["fingerprint"], precision)
    if made.weights_sha256 != told["weights_sha256"] or not same:
        raise ModelError(
            f"the extractor {name} here is not the one that the model was taught with: other weights "
            f"({str(made.weights_sha256)[:12]}…, then {str(told['weights_sha256'])[:12]}…) or another network",
            hint="give the same weights file, or teach the detector again",
            code="model.other_extractor",
        )
    return made
