"""Croissant 1.1 metadata (mlcommons.org/croissant): what a published data set holds, readable by ``mlcroissant``.

A document describes a table of samples (``samples.csv``) and the files, either in zips or beside the document. Record sets:
``splits`` (the parts), ``samples`` (a row of the table each), and for each kind of file one (``pictures``, ``masks``,
``pseudo3d``, ``points``) with its content, category, label and the key of its sample. Pure functions on plain data.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rakelight import __version__

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
RAI_CONFORMS_TO = "http://mlcommons.org/croissant/RAI/1.0"
DOCUMENT = "croissant.json"
TABLE = "samples.csv"
TABLE_COLUMNS = (
    "sample", "category", "label", "defective", "part", "timestamp", "specimen", "batch", "simulated",
    "picture", "mask", "pseudo3d", "points",
)  # fmt: skip
_PARTS = {"train": "cr:TrainingSplit", "validation": "cr:ValidationSplit", "test": "cr:TestSplit"}
_SETS = {  # record set → (column of the table, token and extension in the released tree, MIME type, what it is)
    "pictures": ("picture", "*_RGBL05_*.jpg", "image/jpeg", "sc:ImageObject", "The part under all lights."),
    "masks": (
        "mask",
        "*_RGBL05_*.png",
        "image/png",
        "sc:ImageObject",
        "Where the defect is: 0 and 255, on the picture.",
    ),
    "pseudo3d": ("pseudo3d", "*_PS_*.jpg", "image/jpeg", "sc:ImageObject", "Pseudo-3D picture of photometric stereo."),
    "points": ("points", "*_XYZ_*.tiff", "image/tiff", "sc:Text", "XYZ map, float32 (H, W, 3), mm, NaN where missing."),
}
_OF_PATH = {  # what a path <category>/{OK,NG/<defect>}/S0001/<file> tells; "sample" is the key of the record set samples
    "sample": r"(?:.*/)?([a-z0-9_]+/(?:OK|NG/[a-z0-9_]+)/S[0-9]{4})/[^/]+$",
    "category": r"(?:.*/)?([a-z0-9_]+)/(?:OK|NG/[a-z0-9_]+)/S[0-9]{4}/[^/]+$",
    "label": r".*/(?:(OK)|NG/([a-z0-9_]+))/S[0-9]{4}/[^/]+$",
}
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{
        name: f"cr:{name}"
        for name in (
            "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileProperty", "fileObject",
            "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path",
            "recordSet", "references", "regex", "repeated", "replace", "samplingRate",
            "separator", "source", "subField", "transform",
        )
    },
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "sc": "https://schema.org/",
}  # fmt: skip


@dataclass(frozen=True)
class Resource:
    """A published file: its path relative to the document, size and SHA-256."""

    path: str
    bytes: int
    sha256: str
    encoding: str


def table(rows: Iterable[Mapping[str, str]]) -> str:
    """``samples.csv``: one row a sample with the columns of ``TABLE_COLUMNS``; the last four are file names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, TABLE_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def document(
    *,
    name: str,
    description: str,
    license: str,
    url: str,
    published: str,
    samples_table: Resource,
    archives: Iterable[Resource] = (),
    present: Iterable[str],
    simulated: bool,
    imported: bool,
    split: str,
) -> dict[str, Any]:
    """The JSON-LD document.

    Parameters
    ----------
    name, description, license, url : str
        Of the data set; ``url`` is where it is or will be published.
    published : str
        ISO date.
    samples_table : Resource
        The table made by :func:`table`.
    archives : iterable of Resource
        The zips with the released tree; none if its files lie beside the document.
    present : iterable of str
        Which of the table's file columns hold anything.
    simulated : bool
        Whether any sample was simulated.
    imported : bool
        Whether any sample came from another data set, so that its making is not known.
    split : str
        Name of the split that ``part`` states.
    """
    archives = tuple(archives)
    there = set(present)
    sets = {set_: facts for set_, facts in _SETS.items() if facts[0] in there}
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [CONFORMS_TO, RAI_CONFORMS_TO],
        "name": name,
        "description": description or f"{name}: industrial parts under directional light, in the Real-IAD D³ layout.",
        "license": license or "not stated",
        "url": url,
        "version": "1.0.0",
        "datePublished": published,
        "citeAs": f"{name}, {published[:4]}. {url}",
        "sdVersion": f"rakelight {__version__}",
        **_responsible_ai(simulated, imported, split),
        "distribution": [
            *(_file_object(a) for a in archives),
            _file_object(samples_table),
            *(_file_set(set_, facts, archives) for set_, facts in sets.items()),
        ],
        "recordSet": [
            _splits(),
            _samples(samples_table.path),
            *(_file_records(set_, facts) for set_, facts in sets.items()),
        ],
    }


def _responsible_ai(simulated: bool, imported: bool, split: str) -> dict[str, Any]:
    """The RAI block (Croissant RAI 1.0): collection, annotation, limits, biases."""
    collection = (
        "Each part was captured under directional lights and projected patterns by a calibrated rig; normals and points "
        "were reconstructed from these frames. Every sample passed through the same code."
    )
    if imported:  # nothing is claimed of what others have made
        collection = (
            "Some or all samples were imported from other data sets; their manifests name format and file. The others were "
            "captured under directional lights and projected patterns by a calibrated rig, and reconstructed."
        )
    pictures = (
        "Pictures are demosaiced with white balance and tone fixed by the calibration, and stored as JPEG (95, 4:4:4)."
    )
    return {
        "rai:dataCollection": collection + (" Some or all samples are simulated." if simulated else ""),
        "rai:dataCollectionType": ["Physical data collection", *(["Software Collection"] if simulated else [])],
        "rai:dataAnnotationProtocol": "Defects are drawn as masks on the picture under all lights; 0 and 255.",
        "rai:dataPreprocessingProtocol": [f"Captured samples: {pictures}" if imported else pictures],
        "rai:dataLimitations": "Lossy pictures; points are missing where light or camera were shadowed or saturated.",
        "rai:dataBiases": f"Parts come from the batches stated in the table; train and test are as the split {split!r} says.",
        "rai:dataUseCases": ["Industrial anomaly detection", "Testing"],
        "rai:personalSensitiveInformation": "None.",
    }


def _file_object(resource: Resource) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": resource.path,
        "name": resource.path,
        "contentUrl": resource.path,
        "contentSize": f"{resource.bytes} B",
        "encodingFormat": resource.encoding,
        "sha256": resource.sha256,
    }


def _file_set(set_: str, facts: tuple[str, ...], archives: tuple[Resource, ...]) -> dict[str, Any]:
    _, pattern, encoding, _, what = facts
    inside = {"containedIn": [{"@id": a.path} for a in archives]} if archives else {}
    below = "" if archives else "realiad_d3_raw/"
    return {
        "@type": "cr:FileSet",
        "@id": f"{set_}-files",
        "name": f"{set_}-files",
        "description": what,
        **inside,
        "encodingFormat": encoding,
        "includes": f"{below}**/{pattern}",
    }


def _splits() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "name": "splits/name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": "splits/url", "name": "splits/url", "dataType": ["sc:URL", "wd:Q3985153"]},
        ],
        "data": [
            {"splits/name": name, "splits/url": url.replace("cr:", "http://mlcommons.org/croissant/")}
            for name, url in _PARTS.items()
        ],
    }


def _column(record_set: str, name: str, table_id: str, kind: str = "sc:Text", **more: Any) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/{name}",
        "name": f"{record_set}/{name}",
        "dataType": kind,
        "source": {"fileObject": {"@id": table_id}, "extract": {"column": name}},
        **more,
    }


def _samples(table_id: str) -> dict[str, Any]:
    kinds = {"defective": "sc:Boolean"}
    fields = [
        _column("samples", name, table_id, kinds.get(name, "sc:Text"))
        for name in ("sample", "category", "label", "defective", "timestamp", "picture")
    ]
    part = _column("samples", "part", table_id, references={"field": {"@id": "splits/name"}})
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": "One part each: OK or with a named defect.",
        "key": {"@id": "samples/sample"},
        "field": [*fields, part],
    }


def _file_records(set_: str, facts: tuple[str, ...]) -> dict[str, Any]:
    """Files with what their path tells. No join with the table: ``mlcroissant`` 1.1 joins one file set of a zip only."""
    _, _, _, kind, what = facts

    def file_field(name: str, data_type: str, property_: str, regex: str = "") -> dict[str, Any]:
        transform = {"transform": {"regex": regex}} if regex else {}
        return {
            "@type": "cr:Field",
            "@id": f"{set_}/{name}",
            "name": f"{set_}/{name}",
            "dataType": data_type,
            "source": {
                "fileSet": {"@id": f"{set_}-files"},
                "extract": {"fileProperty": property_},
                **transform,
            },
        }

    fields = [file_field(name, "sc:Text", "fullpath", regex) for name, regex in _OF_PATH.items()]
    fields.append(file_field("file", "sc:Text", "filename"))
    if kind == "sc:ImageObject":
        fields.append(file_field("content", kind, "content"))
    return {"@type": "cr:RecordSet", "@id": set_, "name": set_, "description": what, "field": fields}
