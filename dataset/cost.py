"""What a sample costs on disk, said before it is captured: file by file, a day, and for how long the disk lasts.

Sizes follow from the number of pixels. What a file takes a pixel is measured in the samples that a data set has already;
until there are any, it is estimated from ``benchmarks/commit_speed.py`` (part on a quarter of the field). JPEGs depend on
the part's texture most: 0.2 bytes a pixel were measured there, twice as much is reckoned with here.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from rakelight.dataset import index, layout
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.options import KEEP_RAW, KeepRaw
from rakelight.dataset.sample import CloudSettings, SampleManifest
from rakelight.errors import InputError, RakelightError

MODALITIES = ("rgb", "ps", "xyz", "normals", "albedo", "clouds", "masks")
LIGHT_FRAMES = 7  # four zones, all of them, the room, the repeat
PATTERN_FRAMES = 4 * 17  # four directions, phase shift and Gray code, with white and black
_RAW_FRAME = 2.0  # bytes a pixel: 10 or 12 bits in 16
_RAW_PACKED = 1.22
_JPEG = 0.4
_ESTIMATES: dict[str, dict[str, float]] = {  # bytes a pixel
    "rgb": {f"RGBL{view:02d}": _JPEG for view in layout.VIEWS},
    "ps": {"PS": 0.1},
    "xyz": {"XYZ": 12.0},
    "normals": {"normals.tiff": 1.06},
    "albedo": {"albedo.tiff": 1.25},
    "clouds": {},
    "masks": {"MASK": 0.002, layout.PART_MASK_FILE: 0.002},
}
_PART_OF_FIELD = 0.25
_CLOUD_BYTES = {"PCD": 16, "cloud.ply": 27}  # a point
_FACTS_BYTES = 20_000  # manifest.json, capture.json, recording.json
_MOST_MEASURED = 200


@dataclass(frozen=True)
class FileCost:
    """One file (or all raw frames together): bytes, and whether they follow from samples that are there."""

    name: str
    bytes: int
    measured: bool


@dataclass(frozen=True)
class Measured:
    """Mean bytes a pixel of each file in ``samples`` samples of a data set; ``raw`` of one raw frame, None without any."""

    samples: int = 0
    files: Mapping[str, float] | None = None
    raw: float | None = None


@dataclass(frozen=True)
class Cost:
    """What one sample of ``width`` × ``height`` px takes."""

    width: int
    height: int
    files: tuple[FileCost, ...]

    @property
    def bytes(self) -> int:
        return sum(f.bytes for f in self.files)

    def per_day(self, parts: float) -> float:
        """Bytes a day."""
        return self.bytes * parts

    def days_left(self, free_bytes: int, parts: float) -> float:
        """For how many days ``free_bytes`` last; infinite without parts."""
        return free_bytes / self.per_day(parts) if parts > 0 else float("inf")


def cost_of(
    width: int,
    height: int,
    modalities: Collection[str] = MODALITIES,
    keep_raw: KeepRaw = "none",
    *,
    light_frames: int = LIGHT_FRAMES,
    pattern_frames: int = PATTERN_FRAMES,
    packed: bool = False,
    measured: Measured | None = None,
) -> Cost:
    """The cost of a sample.

    Parameters
    ----------
    width, height : int
        px of the pictures.
    modalities : names of ``MODALITIES``
        What a sample holds.
    keep_raw : "none", "stack" or "all"
        Which raw frames travel along: none, the ``light_frames``, or the ``pattern_frames`` too.
    packed : bool
        Raw frames are packed in the background.
    measured : Measured, optional
        Of samples that are there (:func:`measure`); goes before the estimates.

    Raises
    ------
    InputError
        ``input.range`` for sizes and counts, ``input.unknown_name`` for a modality, ``dataset.keep_raw``.
    """
    _check(width, height, modalities, keep_raw, light_frames, pattern_frames)
    pixels = width * height
    known = dict((measured.files if measured is not None else None) or {})
    estimated = {name: per_px * pixels for m in modalities for name, per_px in _ESTIMATES[m].items()}
    if "clouds" in modalities:
        most = CloudSettings().most_points
        for name in known.keys() & _CLOUD_BYTES.keys():  # thinned, however small the measured ones are
            known[name] = min(known[name], _CLOUD_BYTES[name] * most / pixels)
        points = pixels * _PART_OF_FIELD
        while points > most:  # strides are whole: 2×2, 3×3, …
            points = pixels * _PART_OF_FIELD / (int((pixels * _PART_OF_FIELD / points) ** 0.5 + 0.5) + 1) ** 2
        estimated |= {name: bytes_ * points for name, bytes_ in _CLOUD_BYTES.items()}
    unasked = {name for m in set(MODALITIES) - set(modalities) for name in _ESTIMATES[m]}
    unasked |= set() if "clouds" in modalities else set(_CLOUD_BYTES)
    names = [*estimated, *(n for n in known if n not in estimated and n not in unasked)]
    files = [FileCost(n, round(known[n] * pixels if n in known else estimated[n]), n in known) for n in names]
    files.append(FileCost("facts", _FACTS_BYTES, False))
    frames = {"none": 0, "stack": light_frames, "all": light_frames + pattern_frames}[keep_raw]
    if frames:
        raw = measured.raw if measured is not None else None
        per_px = raw if raw is not None else (_RAW_PACKED if packed else _RAW_FRAME)
        files.append(FileCost(f"raw, {frames} frames", round(per_px * pixels * frames), raw is not None))
    return Cost(width, height, tuple(files))


def _check(
    width: int, height: int, modalities: Collection[str], keep_raw: str, light_frames: int, pattern_frames: int
) -> None:
    for name, number, least, most in (
        ("width", width, 1, 65_500),
        ("height", height, 1, 65_500),
        ("light_frames", light_frames, 0, 10_000),
        ("pattern_frames", pattern_frames, 0, 10_000),
    ):
        if not least <= number <= most:
            raise InputError(f"{name} is {number}; allowed: {least} to {most}", code="input.range")
    unknown = sorted(set(modalities) - set(MODALITIES))
    if unknown:
        raise InputError(
            f"modality {unknown[0]!r} is not known; allowed: {', '.join(MODALITIES)}", code="input.unknown_name"
        )
    if keep_raw not in KEEP_RAW:
        raise InputError(f"keep_raw is {keep_raw!r}; allowed: {', '.join(KEEP_RAW)}", code="dataset.keep_raw")


def measure(root: Path) -> tuple[Measured, tuple[int, int] | None]:
    """What the files of a data set's samples take, and the size (width, height) in px of the newest pictures.

    Looks at up to 200 samples, spread evenly. A file that not every sample has (a mask) counts by its share. Damaged
    manifests are passed over; without a usable sample the result is ``(Measured(), None)``.
    """
    keys: list[SampleKey] = list(index.iter_keys(root / layout.RAW_FOLDER))
    step = max(1, -(-len(keys) // _MOST_MEASURED))
    per_px: dict[str, float] = defaultdict(float)
    raw: list[float] = []
    count, newest, size = 0, "", None
    for key in keys[::step]:
        try:
            manifest = index.read_manifest(root / key.extras_folder / layout.SAMPLE_MANIFEST)
        except RakelightError:
            continue  # `dataset verify` is the place to tell of it
        if not manifest.width or not manifest.height:
            continue
        pixels = manifest.width * manifest.height
        count += 1
        for name, bytes_ in _sizes(manifest).items():
            per_px[name] += bytes_ / pixels
        raw += [f.bytes / pixels for f in manifest.files if f.role == "raw" and f.path.endswith((".tif", ".tiff"))]
        if manifest.committed_utc >= newest:
            newest, size = manifest.committed_utc, (manifest.width, manifest.height)
    if not count:
        return Measured(), None
    files = {name: total / count for name, total in per_px.items()}
    return Measured(count, files, statistics.mean(raw) if raw else None), size


def _sizes(manifest: SampleManifest) -> dict[str, int]:
    """Bytes by modality, or by the file's name in the extras; not the raw frames and the facts."""
    return {
        f.role if f.role in layout.MODALITIES else f.path.rsplit("/", 1)[-1]: f.bytes
        for f in manifest.files
        if f.role not in ("raw", "capture", "manifest")
    }
