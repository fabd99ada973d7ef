"""Files of annotations of any kind that is known: found in folders, told apart by their content, read one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args

from rakelight.dataset.coco import read_coco
from rakelight.dataset.drawings import Drawing, ReadOptions, bad_file
from rakelight.dataset.labelme import read_labelme
from rakelight.dataset.mask_files import LABEL_MAP, read_cvat_masks, read_mask
from rakelight.errors import DatasetError, InputError

FileFormat = Literal["auto", "labelme", "coco", "cvat", "png"]
FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
_HEAD_BYTES = 1 << 20


def read_drawings(
    paths: Iterable[Path], form: FileFormat = "auto", options: ReadOptions | None = None
) -> Iterator[Drawing | DatasetError]:
    """Every drawing in files and folders, in order; for what cannot be read its error, handed over, not raised.

    Folders are searched with their subfolders for ``*.json`` and ``*.png``, or hold CVAT's ``labelmap.txt``. ``auto`` tells
    a JSON by its keys. Raises :class:`InputError` (``annotation.no_files``) for a path that does not exist.
    """
    options = options or ReadOptions()
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist", hint="check the path", code="annotation.no_files")
        for file in _files(path, form):
            try:
                yield from _read(file, form, options)
            except DatasetError as e:
                yield e


def _files(path: Path, form: FileFormat) -> Iterator[Path]:
    """Files to read; a folder with ``labelmap.txt`` stands for all that is in it."""
    if not path.is_dir():
        yield path.parent if path.name == LABEL_MAP else path
        return
    suffixes = {"labelme": (".json",), "coco": (".json",), "png": (".png",), "cvat": ()}.get(form, (".json", ".png"))
    for folder, inside, names in os.walk(path):
        inside.sort()
        if form in ("auto", "cvat") and LABEL_MAP in names:
            inside.clear()
            yield Path(folder)
            continue
        for name in sorted(names):
            if name.lower().endswith(suffixes) and not name.startswith("."):
                yield Path(folder, name)


def _read(path: Path, form: FileFormat, options: ReadOptions) -> Iterator[Drawing | DatasetError]:
    if path.is_dir():
        yield from read_cvat_masks(path, options)
        return
    kind = _kind(path) if form == "auto" else form
    if kind == "labelme":
        yield read_labelme(path, options)
    elif kind == "png":
        yield read_mask(path, options)
    elif kind == "coco":
        yield from read_coco(path, options)
    else:
        raise bad_file(path, f"it is no {LABEL_MAP} of CVAT", "name the unpacked folder that has it")


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix == ".png":
        return "png"
    if suffix == ".zip":
        raise bad_file(path, "it is an archive", "unpack it and name the folder")
    if suffix != ".json":
        raise bad_file(path, f"its suffix is {suffix!r}; known: .json, .png and folders", "name LabelMe or COCO files")
    try:
        with open(path, "rb") as handle:
            head = handle.read(_HEAD_BYTES)
    except OSError as e:
        raise bad_file(path, str(e.strerror or e)) from e
    if b'"shapes"' in head or b'"imagePath"' in head:
        return "labelme"
    if b'"images"' in head or b'"annotations"' in head or b'"categories"' in head:
        return "coco"
    raise bad_file(path, "it has neither the keys of LabelMe (shapes) nor those of COCO (images, annotations)")
