"""Facts of a sample that its manifest and capture record tell: times, exposures, calibration, software, batch.

Not facts, since they tell the label by design: the number (it counts per class), the file names, masks and
annotations, the history of labels, the specimen (a part is good or it is not), and modification times on disk (copying
sets them folder by folder).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from rakelight import files
from rakelight.dataset import layout
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.sample_scan import Fact
from rakelight.errors import DatasetError

# Settings and devices in capture.json and recording.json, by name, wherever they stand; measured figures are left out.
_SETTINGS = frozenset(
    (
        "exposure_us",
        "requested_exposure_us",
        "gain_db",
        "pixel_format",
        "white_balance",
        "ps",
        "rig",
        "rig_id",
        "recipe",
        "operator",
        "software",
        "devices",
        "light_model",
        "flat_field",
        "dark",
        "settings",
        "views",
        "zones",
        "fuse",
        "second_pass",
        "size",
        "linear",
        "sensor",
        "calibration",
        "calibration_id",
    )
)
# What a category should have but one value of, by the start of the fact's name.
SAME_WITHIN_CATEGORY = (
    "capture: ",
    "recording: ",
    "picture size",
    "pitch",
    "calibration",
    "software",
    "XYZ: meaning",
    "simulated",
    "settings of",
)
_DEPTH = 12
_MAX_RECORDING = 8 << 20


def record_facts(sample: OpenSample) -> list[Fact]:
    """Facts from manifest, ``capture.json`` and the recording's own record; raises :class:`DatasetError` if unreadable."""
    manifest = sample.manifest
    capture = _json(sample, layout.CAPTURE_FILE)
    recording = _json(sample, f"{layout.RAW_FILES_FOLDER}/recording.json")
    facts = [Fact(name="file names: timestamp", value="a time" if manifest.timestamp.strip("0") else "zeros")]
    facts += _times(manifest.timestamp if manifest.timestamp.strip("0") else str(capture.get("timestamp", "")))
    words: dict[str, object] = {
        "batch": manifest.batch,
        "software": manifest.software.version,
        "simulated": manifest.simulated,
        "picture size": f"{manifest.width}×{manifest.height}",
        "calibration": manifest.source.calibration,
        "XYZ: meaning of x and y": manifest.xyz_xy,
        "settings of reconstruction": files.canonical_json(manifest.source.settings),
    }
    facts += [Fact(name=name, value=str(value)) for name, value in words.items() if value not in (None, "")]
    if manifest.pitch_mm is not None:
        facts.append(Fact(name="pitch", value=manifest.pitch_mm))
    facts.append(Fact(name="revision", value=float(manifest.revision), about="books"))
    if manifest.source.origin is None:  # that of an import tells the order of the import
        facts += [Fact(name="time of the commit", value=_seconds(manifest.committed_utc), about="books")]
    facts += [Fact(name=f"capture: {name}", value=value) for name, value in _settings(capture, "", 0)]
    return facts + _recording_facts(recording)


def _json(sample: OpenSample, name: str) -> dict[str, Any]:
    path = sample.path(name)
    if path is None:
        return {}
    found = files.read_json(path, error=DatasetError, max_bytes=_MAX_RECORDING)
    return found if isinstance(found, dict) else {}


def _times(moment: str) -> list[Fact]:
    try:
        when = datetime.datetime.strptime(moment, "%Y%m%d%H%M%S").replace(tzinfo=datetime.UTC)
    except ValueError:
        return []  # not known, and that is told by the names of the files
    hour = when.hour + when.minute / 60 + when.second / 3600
    return [
        Fact(name="time of the capture", value=when.timestamp()),
        Fact(name="hour of the capture", value=hour),
        Fact(name="day of the capture", value=when.date().isoformat()),
    ]


def _seconds(utc: str) -> float:
    try:
        return datetime.datetime.fromisoformat(utc).timestamp()
    except ValueError:
        return 0.0


def _settings(value: Any, path: str, depth: int) -> Iterator[tuple[str, float | str]]:
    """Leaves and tables of ``_SETTINGS`` below ``value``."""
    if not isinstance(value, dict) or depth > _DEPTH:
        return
    for key, inner in value.items():
        name = f"{path}.{key}" if path else str(key)
        if key not in _SETTINGS:
            yield from _settings(inner, name, depth + 1)
        elif isinstance(inner, bool) or not isinstance(inner, int | float):
            yield name, inner if isinstance(inner, str) else files.canonical_json(inner)
        else:
            yield name, float(inner)


def _recording_facts(recording: dict[str, Any]) -> list[Fact]:
    facts = [Fact(name=f"recording: {name}", value=value) for name, value in _settings(recording, "", 0)]
    frames = recording.get("frames")
    for frame in frames if isinstance(frames, list) else []:
        if not isinstance(frame, dict):
            continue
        for what in ("exposure_us", "gain_db"):
            value = frame.get(what)
            if isinstance(value, int | float) and not isinstance(value, bool):
                facts.append(Fact(name=f"recording: {what} of {frame.get('shot')}", value=float(value)))
    return facts
