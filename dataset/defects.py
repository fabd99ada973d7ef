"""``meta/defects.json``: the names of the defects of a data set, each with a code of two letters, a number and a sentence.

Some formats need codes (Real-IAD writes ``AK``, ``HS`` …) or numbers (maps of classes); a code that nobody can look up is
what users of such data sets complain about most. Codes and numbers are given once, when a defect first appears, and are
never given to another one.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from rakelight.config import Model, validate
from rakelight.dataset import layout
from rakelight.dataset.index import iter_keys
from rakelight.errors import DatasetError
from rakelight.files import make_folder, read_json, write_json

DEFECTS_FILE = "meta/defects.json"
MAX_INDEX = 254  # 255 stands for ignored pixels
RESERVED_CODES = frozenset({"PS", "OK", "NG", "GT"})  # a modality token, the class folders, a word of loaders
_MAX_DESCRIPTION = 500


class Defect(Model):
    """One kind of defect: its code, its number in maps of classes and what people should know of it."""

    code: str = Field(pattern=r"^[A-Z]{2}$")
    index: int = Field(ge=1, le=MAX_INDEX)
    description: str = Field(default="", max_length=_MAX_DESCRIPTION)


class DefectTable(Model):
    """``meta/defects.json``."""

    schema_: int = Field(default=1, alias="schema")
    defects: Annotated[dict[str, Defect], Field(max_length=MAX_INDEX)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _each_once(self) -> DefectTable:
        for name in self.defects:
            try:
                layout.check_label(name)
            except DatasetError as e:
                raise ValueError(e.message) from e
        codes, indices = [d.code for d in self.defects.values()], [d.index for d in self.defects.values()]
        for what, values in (("code", codes), ("index", indices)):
            twice = next((v for n, v in enumerate(values) if v in values[:n]), None)
            if twice is not None:
                raise ValueError(f"the {what} {twice} stands twice")
        if taken := RESERVED_CODES & set(codes):
            raise ValueError(f"the code {min(taken)} means something else to loaders")
        return self

    def index_of(self) -> dict[str, int]:
        """Defect → its number in maps of classes."""
        return {name: d.index for name, d in self.defects.items()}

    def with_names(self, names: Iterable[str]) -> DefectTable:
        """The table with these defects added, in alphabetical order; itself if it has them all.

        Raises :class:`DatasetError`: a name that cannot be a defect, or more than 254 of them.
        """
        new = sorted(set(names) - self.defects.keys() - {layout.OK})
        if not new:
            return self
        defects = dict(self.defects)
        for name in new:
            index = max((d.index for d in defects.values()), default=0) + 1
            if index > MAX_INDEX:
                raise DatasetError(
                    f"defect {name!r} would be number {index}; allowed: {MAX_INDEX} kinds in a data set",
                    hint="join kinds of defects, or begin another data set",
                    code="dataset.too_many_defects",
                )
            code = new_code(layout.check_label(name), {d.code for d in defects.values()})
            defects[name] = Defect(code=code, index=index)
        return self.model_copy(update={"defects": defects})


def new_code(name: str, taken: Iterable[str]) -> str:
    """Two capital letters for a defect: the first letter of its name and a later one; others where all those are taken."""
    letters = string.ascii_uppercase
    own = [c for c in name.upper() if c in letters] or ["X"]
    wishes = [own[0] + c for c in (*own[1:], *letters)] + [a + b for a in letters for b in letters]
    used = RESERVED_CODES | set(taken)
    return next(code for code in wishes if code not in used)  # 676 codes, at most 254 defects


def stored_defects(root: Path) -> DefectTable:
    """The table as it is stored, empty if there is none; raises :class:`DatasetError` if it is damaged."""
    path = root / DEFECTS_FILE
    if not path.exists():
        return DefectTable()
    hint = "restore it from a backup: codes and numbers in exported data refer to it"
    return validate(read_json(path, error=DatasetError), DefectTable, source=str(path), error=DatasetError, hint=hint)


def read_defects(root: Path) -> DefectTable:
    """The table of a data set, with every label its samples have; nothing is written.

    Raises :class:`DatasetError` if ``meta/defects.json`` is damaged.
    """
    return stored_defects(root).with_names(key.label for key in iter_keys(root / layout.RAW_FOLDER))


def keep_defects(root: Path, table: DefectTable) -> None:
    """Write the table if it differs from the stored one. Needs the writer's lock; raises :class:`StorageError`."""
    if table != stored_defects(root):
        make_folder((root / DEFECTS_FILE).parent)
        write_json(root / DEFECTS_FILE, table.model_dump(by_alias=True))


def described(table: DefectTable, name: str, text: str) -> DefectTable:
    """The table with a defect's description; the defect is added if it is new. Raises :class:`DatasetError`."""
    if len(text) > _MAX_DESCRIPTION or not text.isprintable():
        raise DatasetError(
            f"the description of {name} has {len(text)} characters; allowed: {_MAX_DESCRIPTION}, in one line",
            code="dataset.description",
        )
    table = table.with_names([name])
    defect = table.defects[name].model_copy(update={"description": text})
    return table.model_copy(update={"defects": {**table.defects, name: defect}})
