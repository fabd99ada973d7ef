"""The released JSON of each category, made from ``manifest.jsonl`` and, if there is one, the official split.

Without ``meta/splits/official.json`` OK samples are ``train`` and defective ones ``test``. With it, a category that it names
has exactly the samples it lists: one added later stands in no part until the split is made again, so that a published
split never changes by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from rakelight.config import Model, validate
from rakelight.dataset import layout
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.manifest_cache import ManifestCache
from rakelight.errors import DatasetError
from rakelight.files import make_folder, read_json, write_text

OFFICIAL_SPLIT = "meta/splits/official.json"
PARTS = ("train", "validation", "test")

Entry = dict[str, str | None]
_QUOTED = json.JSONEncoder(ensure_ascii=False).encode


class _Parts(Model):
    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


class _SplitFile(Model):
    model_config = ConfigDict(extra="ignore")  # how the split was made is its maker's affair

    schema_: int = Field(alias="schema")
    categories: dict[str, _Parts]


def official_split(root: Path) -> dict[str, dict[SampleKey, str]] | None:
    """Category → sample → part of the official split, None if there is none; raises :class:`DatasetError`."""
    path = root / OFFICIAL_SPLIT
    if not path.exists():
        return None
    stored = validate(read_json(path, error=DatasetError), _SplitFile, source=str(path), error=DatasetError)
    split: dict[str, dict[SampleKey, str]] = {}
    for category, parts in stored.categories.items():
        chosen = split.setdefault(layout.check_category(category), {})
        for part in PARTS:
            for key in map(SampleKey.parse, getattr(parts, part)):
                if key.category != category or chosen.setdefault(key, part) != part:
                    raise DatasetError(
                        f"{path}: {key} stands under {category}.{part}; each sample has one place, under its own category",
                        hint="make the split again with `rakelight dataset split`",
                        code="dataset.split_invalid",
                    )
    return split


def stale_jsons(root: Path, cache: ManifestCache, mentioned: Iterable[str], occupied: Iterable[str]) -> list[str]:
    """What is wrong with the JSONs: sentences. ``mentioned`` are all categories ever, ``occupied`` those with samples."""
    try:
        texts = _texts(root, cache, mentioned)
    except DatasetError as e:
        return [f"the official split is unusable, so the JSONs stay as they are: {e.message}"]
    occupied = set(occupied)
    return [
        f"{layout.JSON_FOLDER}/{category}.json is out of date"
        for category, text in texts.items()
        if _differs(root, category, text, category in occupied)
    ]


def write_jsons(root: Path, cache: ManifestCache, categories: Iterable[str]) -> None:
    """Write the JSON of these categories where it differs; with an unusable official split they stay as they are."""
    occupied = {key.category for key in cache.infos}
    try:
        texts = _texts(root, cache, categories)
    except DatasetError:
        return  # told by stale_jsons, that is by every survey and by verify
    for category, text in texts.items():
        if _differs(root, category, text, category in occupied):
            write_text(make_folder(root / layout.JSON_FOLDER) / f"{category}.json", text)


def _texts(root: Path, cache: ManifestCache, categories: Iterable[str]) -> dict[str, str]:
    """Category → text of its JSON, also of those in which nothing is left."""
    split = official_split(root) or {}
    documents: dict[str, dict[str, Any]] = {}
    for category in sorted(set(categories)):
        meta = {"prefix": f"{category}/", "normal_class": layout.OK}
        documents[category] = {"meta": meta, **{part: [] for part in PARTS}}
    for key in sorted(key for key in cache.infos if key.category in documents):
        chosen = split.get(key.category)
        part = chosen.get(key) if chosen is not None else "train" if key.is_ok else "test"
        if part is not None:
            documents[key.category][part].append(_entry(key, cache.names[key]))
    return {c: _text(document) for c, document in documents.items()}


def _text(document: dict[str, Any]) -> str:
    """As ``json.dumps(document, indent=2)``, which is ten times slower: Python's C encoder does not indent."""
    parts = [f'  "meta": {_block(document["meta"], "  ")}']
    for part in PARTS:
        entries = ",\n".join(f"    {_block(entry, '    ')}" for entry in document[part])
        parts.append(f'  "{part}": [\n{entries}\n  ]' if entries else f'  "{part}": []')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _block(entry: Mapping[str, str | None], indent: str) -> str:
    lines = (f'{indent}  "{k}": {"null" if v is None else _QUOTED(v)}' for k, v in entry.items())
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def _entry(key: SampleKey, names: Mapping[str, str]) -> Entry:
    folder = str(key).removeprefix(f"{key.category}/")

    def below_category(modality: str) -> str | None:
        return f"{folder}/{names[modality]}" if modality in names else None

    return {
        "category": key.category,
        "anomaly_class": key.label,
        "image_path": below_category("RGBL05"),
        "mask_path": below_category("MASK"),
        "ps_path": below_category("PS"),
        "xyz_path": below_category("XYZ"),
    }


def _differs(root: Path, category: str, text: str, occupied: bool) -> bool:
    """Whether the JSON has to be written; that of a category without samples is only kept up, never created."""
    try:
        return (root / layout.JSON_FOLDER / f"{category}.json").read_bytes() != text.encode("utf-8")
    except FileNotFoundError:
        return occupied
