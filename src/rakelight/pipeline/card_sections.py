"""The parts of a data set's card as Markdown: each from files of the data set, and a list of what none of them tells."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rakelight import files
from rakelight.dataset import layout
from rakelight.dataset.annotations import read_annotation
from rakelight.dataset.category_jsons import PARTS
from rakelight.dataset.checks import QC_FILE
from rakelight.dataset.defects import read_defects
from rakelight.dataset.encoded_maps import NORMALS_ENCODING, albedo_encoding
from rakelight.dataset.exporters.huggingface import head_lines
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.split_files import OFFICIAL, read_split, split_names, split_table
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, RakelightError
from rakelight.pipeline.card_parts import HEAD
from rakelight.pipeline.dataset_gaps import gaps
from rakelight.pipeline.dataset_stats import DatasetStats, Spread
from rakelight.pipeline.dataset_stats_page import exposure_words, modality_words, summary

CITATION_FILE, LICENCE_FILE = "CITATION.cff", "LICENSE"
_MOST_FAULTS = 30
_XY = {
    "true": "coordinates in mm",
    "placeholder": "the constant spacing of pixels in mm; only z is a coordinate",
    "pixel_index": "column and row; only z is a coordinate",
}


@dataclass
class Sections:
    """Name → Markdown of each part, in order (``head`` is YAML), and sentences about what is not known."""

    parts: dict[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def sections(dataset: Dataset, stats: DatasetStats, *, cited: bool) -> Sections:
    """All parts of the card; ``cited`` says that a ``CITATION.cff`` is about to be written beside it."""
    unknown: list[str] = []
    info = dataset.info
    made = {
        HEAD: "\n".join(head_lines(info.name, info.license, len(stats.facts))),
        "about": _about(dataset, stats, unknown),
        "contents": _contents(stats),
        "splits": _splits(dataset, stats, unknown),
        "defects": _defects(dataset, unknown),
        "capture": _capture(dataset, stats, unknown),
        "formats": _formats(dataset),
        "labels": _labels(dataset, stats),
        "faults": _faults(dataset, stats, unknown),
        "licence": _licence(dataset, unknown),
        "citation": _citation(dataset, unknown, cited),
    }
    made["unknown"] = _part("What is not known", bullets(unknown) if unknown else "Nothing of what this card asks for.")
    return Sections(made, tuple(unknown))


def md(value: Any) -> str:
    """``value`` as plain words of Markdown, on one line: no sign of it means anything, in a table neither."""
    text = " ".join(str(value).split())
    return re.sub(r"([\\`*\[\]<>|#&]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def bullets(texts: Iterable[str]) -> str:
    """A list of plain sentences."""
    return "\n".join(f"- {md(t)}" for t in texts)


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table of plain values."""
    lines = [heads, ["---"] * len(heads)] + [[md(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _part(title: str, *paragraphs: str) -> str:
    return "\n\n".join([f"## {title}", *(p for p in paragraphs if p)])


# ------------------------------------------------------------------------------------------------------ what is in it
def _about(dataset: Dataset, stats: DatasetStats, unknown: list[str]) -> str:
    info = dataset.info
    if not info.description.strip():
        unknown.append("what the parts are and what the data set is meant for: meta/dataset.json has no description")
    words = md(info.description) or "Industrial parts under directional light and structured light."
    simulated = sum(f.simulated for f in stats.facts)
    told = ""
    if simulated:
        told = f"**{simulated} of {len(stats.facts)} samples are simulated; they show no real parts.**"
    layout_words = (
        "The pictures lie in the tree of the released Real-IAD D³, with the JSON of each category in "
        "`realiad_d3_jsons/`; everything else lies in `extras/`, `calibration/` and `meta/`, where strict loaders do not look."
    )
    return "\n\n".join(p for p in (f"# {md(info.name)}", words, told, md(summary(stats)), layout_words) if p)


def _contents(stats: DatasetStats) -> str:
    rows = [
        (
            c.category,
            c.label,
            c.samples,
            c.specimens or "not known",
            modality_words(c.modalities, c.samples),
            c.masks if c.label != layout.OK else "",
            _range(c.share, 100, " %"),
            _range(c.area_mm2, 1, " mm²"),
        )
        for c in stats.classes
    ]
    heads = ("category", "label", "samples", "specimens", "modalities", "masks", "defect of the part", "defect area")
    return _part("Contents", table(heads, rows) if rows else "No samples yet.")


def _splits(dataset: Dataset, stats: DatasetStats, unknown: list[str]) -> str:
    names = split_names(dataset.root)
    if stats.split is None:
        unknown.append(
            "which samples train and test: there is no official split; the JSONs train good and test defective ones"
        )
    words = []
    for name in names:
        try:
            split = read_split(dataset.root, name)[0]
        except RakelightError as error:
            unknown.append(f"the split {name}: {error.message}")
            continue
        official = ", the one of `realiad_d3_jsons`" if name == OFFICIAL else ""
        words.append(
            f"**{md(name)}**{official}: seed {split.seed}, samples of one {split.by} stay together, "
            f"SHA-256 `{split.sha256}`."
        )
        heads = ("category", "label", *PARTS, "left out")
        words.append(
            table(heads, [[row[k] for k in ("category", "label", *PARTS, "left_out")] for row in split_table(split)])
        )
    return _part("Splits", *(words or ["There is no split file in `meta/splits`."]))


def _defects(dataset: Dataset, unknown: list[str]) -> str:
    try:
        defects = read_defects(dataset.root).defects
    except DatasetError as error:
        unknown.append(f"the codes of the defects: {error.message}")
        return _part("Defects", "The table of codes cannot be read.")
    if not defects:
        return _part("Defects", "No defective samples yet.")
    without = [name for name, d in defects.items() if not d.description]
    if without:
        unknown.append(f"what these defects are in words: {', '.join(without)}")
    rows = [(name, d.code, d.index, d.description or "not described") for name, d in sorted(defects.items())]
    words = "Codes stand in Real-IAD exports, numbers in `defect_classes.png` (0 none, 255 ignore)."
    return _part("Defects", table(("defect", "code", "number", "description"), rows), words)


# ---------------------------------------------------------------------------------------------------- how it was made
def _capture(dataset: Dataset, stats: DatasetStats, unknown: list[str]) -> str:
    rigs = Counter(f.rig for f in stats.facts if f.rig)
    if stats.facts and not rigs:
        unknown.append("the rig: no capture record names it")
    lines = [f"Rig: {', '.join(f'{rig} ({n} samples)' for rig, n in sorted(rigs.items())) or 'not known'}."]
    origins = Counter(f.origin.partition(":")[0] for f in stats.facts if f.origin)  # format:place in the source
    lines += [f"Imported from {origin}: {n} samples." for origin, n in sorted(origins.items())]
    days = sorted({f.day for f in stats.facts if f.day})
    if stats.facts and not all(f.day for f in stats.facts):
        unknown.append(f"the day of capture of {sum(not f.day for f in stats.facts)} samples")
    if days:
        lines.append(f"Captured on {len(days)} days, {days[0]} to {days[-1]} (UTC).")
    pitches = Spread.of(f.pitch_mm for f in stats.facts)
    if pitches is not None:
        lines.append(f"A pixel is {_range(pitches, 1000)} µm on the part.")
    elif stats.facts:
        unknown.append("the size of a pixel on the part")
    sizes = sorted({f.size_px for f in stats.facts if f.size_px})
    lines += [f"Pictures of {' and '.join(f'{w} × {h}' for w, h in sizes)} px."] if sizes else []
    exposures = {c.category: exposure_words(c.exposure_us) for c in reversed(stats.classes) if c.exposure_us}
    lines += [f"Exposures of {category}, µs: {words}." for category, words in sorted(exposures.items())]
    rows = [_calibration(dataset.root, name, unknown) for name in sorted({f.calibration for f in stats.facts})]
    heads = ("calibration", "id", "made (UTC)", "camera", "lights", "projectors", "content SHA-256")
    known = [row for row in rows if row]
    return _part("Capture", bullets(lines), table(heads, known) if known else "")


def _calibration(root: Path, name: str, unknown: list[str]) -> tuple[Any, ...] | None:
    """A row about one calibration, as its document states it."""
    if not name:
        unknown.append("the calibration of the samples that name none")
        return None
    folder = Path(name)
    if folder.is_absolute() or ".." in folder.parts or not (root / folder / "rig_calibration.json").is_file():
        unknown.append(f"the calibration {name}: it is not in the data set")
        return None
    try:
        stated = files.read_json(root / folder / "rig_calibration.json", error=DatasetError)
    except DatasetError as error:
        unknown.append(f"the calibration {name}: {error.message}")
        return None
    stated = stated if isinstance(stated, dict) else {}
    camera = stated.get("camera")
    camera = camera if isinstance(camera, dict) else {}
    return (
        name + (" (simulated)" if stated.get("simulated") else ""),
        stated.get("calibration_id", "not stated"),
        stated.get("created_utc", "not stated"),
        f"{camera.get('type')}, {camera.get('width')} × {camera.get('height')} px" if camera else "none",
        len(stated.get("lights") or ()),
        len(stated.get("projectors") or ()),
        stated.get("content_sha256", "not stated"),
    )


def _formats(dataset: Dataset) -> str:
    info, options = dataset.info, dataset.info.options
    ps, xyz = info.ps_encoding, info.xyz_frame
    albedo = albedo_encoding(1.0)["formula"]
    rows = (
        ("RGBL01–04", ".jpg", "the part under light zones 1 to 4, 8 bits, quality 95, 4:4:4"),
        ("RGBL05", ".jpg", "the part under all zones; masks are drawn on it"),
        ("PS", ".jpg", f"pseudo-3D: {ps.formula}; red {ps.red}; green {ps.green}; blue {ps.blue}. Lossy"),
        ("XYZ", ".tiff", f"float32 (H, W, 3), {xyz.unit}, invalid {xyz.invalid}; x and y: {_XY[options.xyz_xy]}"),
        ("PCD, cloud.ply", ".pcd .ply", f"points in {xyz.unit}, true coordinates, thinned as each manifest states"),
        ("RGBL05 (mask)", ".png", "defect mask, 0 and 255, the size of RGBL05; defective samples only"),
        ("part_mask.png", "extras", "where the part is, 0 and 255"),
        ("normals.tiff", "extras", f"unit normals: {NORMALS_ENCODING['formula']}, {NORMALS_ENCODING['frame']} frame"),
        ("albedo.tiff", "extras", f"{albedo}; the scale stands in the manifest"),
        ("manifest.json", "extras", "all files with sizes and SHA-256, provenance, quality, label history"),
    )  # fmt: skip
    names = "14 zeros" if options.zero_timestamps else "the UTC time of the capture, YYYYMMDDhhmmss, or 14 zeros"
    lines = [
        f"Frame of XYZ and clouds: {xyz.frame}; {xyz.pixels}.",
        "Frame of normals (viewer): x right, y up, z towards the camera.",
        f"The last part of a file name is {names}.",
        f"Raw frames: {options.keep_raw or 'as each recipe said'}; where kept they lie in extras/…/raw.",
        "Numbers of samples count per category and label, and are never used again.",
        "meta/manifest.jsonl lists every file with its SHA-256.",
    ]
    return _part("Formats", table(("file", "where", "what"), rows), bullets(lines))


def _labels(dataset: Dataset, stats: DatasetStats) -> str:
    states: Counter[str] = Counter()
    tools: Counter[str] = Counter()
    for one in stats.facts:
        sample = OpenSample(dataset.root, one.key)
        try:
            annotation = read_annotation(sample)
        except RakelightError:
            states["unreadable"] += 1
            continue
        if annotation is not None:
            states[annotation.review.state] += 1
            tools[annotation.tool or "not stated"] += 1
    bad = [f for f in stats.facts if not f.key.is_ok]
    lines = [
        "A sample has one label: OK, or the name of its defect. A change of label is kept in its manifest.",
        f"{sum('MASK' in f.modalities for f in bad)} of {len(bad)} defective samples have a mask.",
        "Only regions proposed or approved become the mask; points get their label through the organised XYZ map.",
    ]
    if states:
        lines.append(f"Annotations by review: {_counted(states)}. Drawn with: {_counted(tools)}.")
    else:
        lines.append("No sample has annotations.json: the masks came with the samples, and nobody has reviewed them.")
    changed = sum(f.relabelled for f in stats.facts)
    lines.append(f"{changed} samples were relabelled." if changed else "No sample was relabelled.")
    return _part("Labels", bullets(lines))


# -------------------------------------------------------------------------------------------------- what to know of it
def _faults(dataset: Dataset, stats: DatasetStats, unknown: list[str]) -> str:
    lines = [f"{g.category or 'all'}: {g.what}" for g in gaps(stats)]
    words = ["### Gaps", bullets(lines) if lines else "None found."]
    try:
        findings = _findings(dataset.root / QC_FILE)
    except FileNotFoundError:
        unknown.append("faults of the files and whether labels leak: `rakelight dataset check` was not run")
        return _part("Known faults", *words)
    except (OSError, ValueError, KeyError, TypeError) as error:
        unknown.append(f"faults of the files: {QC_FILE} cannot be read ({type(error).__name__})")
        return _part("Known faults", *words)
    unknown += [
        f"whether labels leak: {f['what']}" for f in findings if (f["check"], f["severity"]) == ("leak", "note")
    ]
    counts = Counter(str(f["severity"]) for f in findings)
    words.append("### Findings of the last check")
    words.append(f"{_counted(counts)}." if counts else "Nothing was found.")
    shown = [f"{f['severity']}, {f['check']}, {f['sample'] or 'all'}: {f['what']}" for f in findings[:_MOST_FAULTS]]
    if len(findings) > _MOST_FAULTS:
        shown.append(f"… and {len(findings) - _MOST_FAULTS} more in {QC_FILE}")
    return _part("Known faults", *words, bullets(shown))


def _findings(path: Path) -> list[Mapping[str, Any]]:
    found = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    for finding in found:
        if not {"severity", "check", "sample", "what"} <= set(finding):
            raise ValueError("a line is no finding")
    return found


def _licence(dataset: Dataset, unknown: list[str]) -> str:
    name = dataset.info.license.strip()
    if not name:
        unknown.append("the licence: without one nobody may use the data set; state it in meta/dataset.json")
    there = (dataset.root / LICENCE_FILE).is_file()
    text = "Its text is in `LICENSE`." if there else "Its text does not lie beside this card."
    return _part("Licence", f"{md(name)}. {text}" if name else "Not stated.")


def _citation(dataset: Dataset, unknown: list[str], cited: bool) -> str:
    if cited or (dataset.root / CITATION_FILE).is_file():
        return _part("Citation", "See `CITATION.cff`.")
    unknown.append("authors and how to cite it: there is no CITATION.cff")
    return _part("Citation", "Not stated.")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))


def _range(spread: Spread | None, factor: float, unit: str = "") -> str:
    if spread is None:
        return ""
    low, high = f"{factor * spread.low:.3g}", f"{factor * spread.high:.3g}"
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"
