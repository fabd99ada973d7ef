"""Names of the released Real-IAD D³ tree, kept to the letter, and of our side trees beside it.

A data set is one folder; every path below is relative to it and written with ``/``::

    realiad_d3_raw/<category>/OK/S0001/<category>_0001_OK_RGBL05_<14 digits>.jpg
    realiad_d3_raw/<category>/NG/<defect>/S0001/<category>_0001_<defect>_RGBL05_<14 digits>.jpg   (+ .png mask)
    realiad_d3_jsons/<category>.json
    extras/<category>/<OK|NG/defect>/S0001/        what strict loaders must never see
    calibration/<id>/    meta/    .staging/    .quarantine/

This module only makes and reads names; it touches no disk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from rakelight.errors import DatasetError

RAW_FOLDER = "realiad_d3_raw"
JSON_FOLDER = "realiad_d3_jsons"
EXTRAS_FOLDER = "extras"
CALIBRATION_FOLDER = "calibration"
META_FOLDER = "meta"
STAGING_FOLDER = ".staging"
QUARANTINE_FOLDER = ".quarantine"
FOLDERS = (
    RAW_FOLDER,
    JSON_FOLDER,
    EXTRAS_FOLDER,
    CALIBRATION_FOLDER,
    META_FOLDER,
    STAGING_FOLDER,
    QUARANTINE_FOLDER,
)

DATASET_FILE = "meta/dataset.json"
MANIFEST_FILE = "meta/manifest.jsonl"  # cache of every sample's manifest.json
IDS_FILE = "meta/ids.json"  # highest number ever given in each class
LOCK_FILE = "meta/.lock"
OWNER_FILE = "meta/.lock-owner.json"
SAMPLE_MANIFEST = "manifest.json"  # in the sample's extras folder
CAPTURE_FILE = "capture.json"
ANNOTATION_FILE = "annotations.json"  # what people drew
CLASSES_FILE = "defect_classes.png"  # number of the defect of each pixel
PART_MASK_FILE = "part_mask.png"
RAW_FILES_FOLDER = "raw"

OK = "OK"
NG_FOLDER = "NG"
VIEWS = (1, 2, 3, 4, 5)  # RGBL01–04 = light zones 1–4, RGBL05 = all zones
REFERENCE_VIEW = 5
MAX_NUMBER = 9_999  # loaders' patterns hold four digits
MAX_NAME = 40  # category and defect stand twice in a path; Windows allows 260 characters

# modality → (token in the name, extension); the mask shares the reference picture's stem
MODALITIES: dict[str, tuple[str, str]] = {
    **{f"RGBL{view:02d}": (f"RGBL{view:02d}", "jpg") for view in VIEWS},
    "PS": ("PS", "jpg"),
    "XYZ": ("XYZ", "tiff"),
    "PCD": ("PCD", "pcd"),
    "MASK": ("RGBL05", "png"),
}
_MODALITY_OF = {token_and_extension: modality for modality, token_and_extension in MODALITIES.items()}

_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_SAMPLE_FOLDER = re.compile(r"S([0-9]{4})")
_SAMPLE_FILE = re.compile(
    r"(?P<category>[a-z0-9_]+)_(?P<number>[0-9]{4})_(?P<label>OK|[a-z0-9_]+)"
    r"_(?P<token>RGBL0[1-5]|PS|XYZ|PCD)_(?P<timestamp>[0-9]{14})\.(?P<extension>[a-z]+)"
)
_PLAIN_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")

# Loaders read meaning into these: as words (good/ok decide the label, ps/pcd/gt the modality) …
_LOADER_WORDS = frozenset({"ok", "good", "gt", "ps", "pcd"})
# … or anywhere in the path: BTF, M3DM and CFM derive paths by replacing these strings in the whole path.
_LOADER_STRINGS = ("xyz", "tiff", "rgb")
_WINDOWS_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(10)), *(f"lpt{i}" for i in range(10))}
)


@dataclass(frozen=True, order=True)
class SampleKey:
    """Identity of a sample: numbers count per class, that is per (category, label).

    ``str(key)`` is its folder below any of the trees, ``<category>/OK/S0001`` or ``<category>/NG/<defect>/S0001``.
    """

    category: str
    label: str
    number: int

    @property
    def is_ok(self) -> bool:
        return self.label == OK

    @property
    def class_folder(self) -> str:
        """``<category>/OK`` or ``<category>/NG/<defect>``."""
        return f"{self.category}/{OK}" if self.is_ok else f"{self.category}/{NG_FOLDER}/{self.label}"

    @property
    def raw_folder(self) -> str:
        return f"{RAW_FOLDER}/{self}"

    @property
    def extras_folder(self) -> str:
        return f"{EXTRAS_FOLDER}/{self}"

    def __str__(self) -> str:
        return f"{self.class_folder}/S{self.number:04d}"

    @classmethod
    def parse(cls, text: str) -> SampleKey:
        """Inverse of ``str(key)``; raises :class:`DatasetError` (``dataset.key_invalid``)."""
        parts = text.split("/")
        folder = _SAMPLE_FOLDER.fullmatch(parts[-1])
        if folder and len(parts) == 3 and parts[1] == OK:
            return cls(check_category(parts[0]), OK, int(folder[1]))
        if folder and len(parts) == 4 and parts[1] == NG_FOLDER and parts[2] != OK:
            return cls(check_category(parts[0]), check_label(parts[2]), int(folder[1]))
        raise DatasetError(
            f"{text!r} names no sample; needed: <category>/OK/S0001 or <category>/NG/<defect>/S0001",
            hint="`rakelight dataset show` lists the samples",
            code="dataset.key_invalid",
        )


def sample_number(folder_name: str) -> int | None:
    """The number in ``S0001``, or None if the folder is not a sample's."""
    match = _SAMPLE_FOLDER.fullmatch(folder_name)
    return int(match[1]) if match else None


def sample_file(key: SampleKey, modality: str, timestamp: str) -> str:
    """File name of a modality of ``MODALITIES``: ``<category>_0001_<OK|defect>_<token>_<14 digits>.<ext>``."""
    token, extension = MODALITIES[modality]
    return f"{key.category}_{key.number:04d}_{key.label}_{token}_{timestamp}.{extension}"


def parse_sample_file(name: str) -> tuple[SampleKey, str, str] | None:
    """(key, modality, timestamp) of a file name of the released tree, or None if it is not one."""
    match = _SAMPLE_FILE.fullmatch(name)
    modality = _MODALITY_OF.get((match["token"], match["extension"])) if match else None
    if match is None or modality is None:
        return None
    return SampleKey(match["category"], match["label"], int(match["number"])), modality, match["timestamp"]


def check_category(name: str) -> str:
    """Return ``name`` if it can be a category, else raise :class:`DatasetError` (``dataset.name_invalid``)."""
    return _check_name("category", name)


def check_label(name: str) -> str:
    """Return ``name`` if it is ``OK`` or can be a defect; raises like :func:`check_category`."""
    return name if name == OK else _check_name("defect", name)


def check_timestamp(text: str) -> str:
    """Return ``text`` if it is YYYYMMDDhhmmss or 14 zeros (as released), else raise :class:`DatasetError`."""
    if re.fullmatch(r"[0-9]{14}", text):
        if text == "0" * 14:
            return text
        try:
            datetime.strptime(text, "%Y%m%d%H%M%S")
            return text
        except ValueError:
            pass  # 14 digits, yet no date: the error below
    raise DatasetError(
        f"timestamp {text!r} is not a time; needed: 14 digits YYYYMMDDhhmmss, or 14 zeros",
        hint="use the UTC time of the capture",
        code="dataset.timestamp_invalid",
    )


def check_file_name(kind: str, name: str) -> str:
    """Return ``name`` if it is a plain file name everywhere, Windows included; raises :class:`DatasetError`."""
    device = name.split(".")[0].lower() in _WINDOWS_DEVICES
    if device or name.endswith(".") or not _PLAIN_FILE.fullmatch(name):
        raise DatasetError(
            f"{kind} {name!r} cannot be a file name on every system; allowed: up to 100 of A-Z a-z 0-9 . _ -, "
            "no folder, not ending in a dot, no Windows device name",
            hint="rename it",
            code="dataset.name_invalid",
        )
    return name


def calibration_name(stored: str) -> str:
    """Name below ``calibration/`` of what manifests store as ``calibration/<name>``; raises :class:`DatasetError`."""
    return check_file_name("calibration", stored.removeprefix(f"{CALIBRATION_FOLDER}/"))


def _check_name(kind: str, name: str) -> str:
    problem, hint = _name_problem(name)
    if problem:
        raise DatasetError(f"{kind} {name!r} {problem}", hint=hint, code="dataset.name_invalid")
    return name


@lru_cache(maxsize=1024)  # the same few names stand in every key
def _name_problem(name: str) -> tuple[str, str]:
    if not _NAME.fullmatch(name):
        return "is not of the form a-z 0-9, words joined by single _", "for example audio_jack_socket or scratch"
    if len(name) > MAX_NAME:
        return f"has {len(name)} characters; at most {MAX_NAME} fit into Windows paths", "shorten it"
    if name in _WINDOWS_DEVICES:
        return "is a device name on Windows", "choose another name"
    words = name.split("_")
    clashes = [*(w for w in words if w in _LOADER_WORDS), *(s for s in _LOADER_STRINGS if s in name)]
    if clashes:
        return (
            f"contains {clashes[0]!r}, which loaders of this layout take for a label or a modality",
            "the label of good parts is OK, in capitals" if name in ("ok", "good") else "choose another name",
        )
    number = next((w for w in words if re.fullmatch(r"[0-9]{4}|[0-9]{14}", w)), None)
    if number:
        return (
            f"contains the word {number!r}, which loaders take for the sample's number or time",
            f"join it to the word beside it, for example {name.replace('_' + number, number)!r}"
            if f"_{number}" in name
            else "put a letter to it",
        )
    return "", ""
