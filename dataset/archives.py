"""Folders and zips of others, read through one small view: names, sizes, content. Nothing is unpacked, nothing trusted.

Zips that lie in a folder appear in it as folders of the same name (``realiad_d3_raw/knob_cap.zip/knob_cap/OK/…``); zips
inside zips do not. What macOS and version control leave behind (``._*``, ``__MACOSX``, any name that starts with a dot) is
passed over. The whole list of names is judged before any content is read, and a source is refused for

- absolute paths, drive letters, ``..``, control characters, names beyond 1,000 characters or 32 folders;
- links, devices, encryption; in folders: links that lead out of them;
- names that are one name on Windows or macOS, a name that is a file and a folder at once, members that share bytes;
- more than 500,000 members, members above 2 GiB, 4 TiB in all;
- promises that cannot be true or are meant to fill a disk: above Deflate's own limit of 1032 : 1; above 100 : 1 for
  pictures of more than 16 MiB (they are packed already), for anything of more than 256 MiB and for archives of more than
  4 GiB. (Released archives have 1 : 1 to 6 : 1; a map of one constant value has 1000 : 1, but is smaller.)
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import unicodedata
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from rakelight.dataset._zip_checks import READ_ERRORS, check_zip, damaged, hostile, open_zip, unsupported
from rakelight.errors import DatasetError, StorageError
from rakelight.files import told

MOST_MEMBERS = 500_000
MOST_MEMBER_BYTES = 2 << 30
MOST_TOTAL_BYTES = 4 << 40
_MOST_NAME = 1000
_MOST_DEPTH = 32
_JUNK = {"__macosx", "thumbs.db", "desktop.ini", "icon\r"}
_DRIVE = re.compile(r"[A-Za-z]:")
_PACKED = re.compile(r"\.(tar|tgz|tbz2?|txz|7z|rar|gz|xz|bz2|zst|tar\.[a-z0-9]+)$", re.IGNORECASE)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class _Place:
    """Where a member's bytes are: a file of its own, or a member of a zip."""

    bytes: int
    file: Path | None = None
    archive: Path | None = None
    inner: str = ""


class View:
    """The readable content of a folder or zip; get it from :func:`open_view`.

    Attributes
    ----------
    source : Path
    name : str
        Its name without ``.zip``.
    oddities : tuple of str
        What was passed over and should be known: damaged archives beside good ones, archives inside archives.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.name = source.stem if source.suffix.lower() == ".zip" else source.name
        self.oddities: tuple[str, ...] = ()
        self._places: dict[str, _Place] = {}
        self._handles: dict[Path, zipfile.ZipFile] = {}
        self._stack = ExitStack()

    @property
    def names(self) -> tuple[str, ...]:
        """Every member's path, ``/`` between folders, sorted."""
        return tuple(self._places)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def size(self, name: str) -> int:
        """Bytes of a member, as its folder or archive states them."""
        return self._places[name].bytes

    def where(self, name: str) -> Path:
        """How messages call a member; not always a path that exists."""
        return self.source / name

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a member for reading; what goes wrong in the block's reading becomes a :class:`DatasetError`."""
        place = self._places[name]
        try:
            if place.file is not None:
                with open(place.file, "rb") as handle:
                    yield handle
            else:
                assert place.archive is not None
                with self._zip(place.archive).open(place.inner) as member:
                    yield member
        except (DatasetError, StorageError):
            raise
        except READ_ERRORS as e:
            raise damaged(self.where(name), e) from e

    def read(self, name: str, *, most: int = MOST_MEMBER_BYTES) -> bytes:
        """The content of a member; raises :class:`DatasetError` if it is damaged or longer than ``most``."""
        size = self.size(name)
        if size > most:
            raise DatasetError(
                f"{self.where(name)} has {size} bytes; at most {most} are read",
                hint="it is not what its name says; leave it out",
                code="archive.too_large",
            )
        with self.open(name) as handle:
            data = handle.read(size + 1)
        if len(data) != size:
            raise damaged(self.where(name), f"{len(data)} bytes of {size}")
        return data

    def fetch(self, name: str, target: Path) -> Path:
        """A file with the member's bytes: its own, or (out of an archive) a copy made as ``target``."""
        place = self._places[name]
        if place.file is not None:
            return place.file
        size = 0
        with self.open(name) as source, told(target, beside=target), open(target, "xb") as handle:
            while chunk := source.read(_CHUNK):
                size += handle.write(chunk)
        if size != place.bytes:
            raise damaged(self.where(name), f"{size} bytes of {place.bytes}")
        return target

    def _zip(self, archive: Path) -> zipfile.ZipFile:
        if archive not in self._handles:
            self._handles[archive] = self._stack.enter_context(open_zip(archive))
        return self._handles[archive]

    def _fill(self) -> None:
        places: dict[str, _Place] = {}
        notes: list[str] = []
        if self.source.is_dir():
            for name, file in _walk(self.source):
                if name.lower().endswith(".zip"):
                    try:
                        places |= _zip_places(file, f"{name}/", notes)
                    except DatasetError as e:
                        if e.code != "archive.damaged":
                            raise
                        notes.append(f"passed over: {e.message}")
                else:
                    places[name] = _Place(file.stat().st_size, file=file)
        else:
            places = _zip_places(self.source, "", notes)
        check_names(self.source, places)
        self._places = dict(sorted(places.items()))
        self.oddities = tuple(notes)

    def close(self) -> None:
        self._stack.close()


@contextlib.contextmanager
def open_view(source: str | Path) -> Iterator[View]:
    """Look into a folder or a zip.

    Raises
    ------
    DatasetError
        ``archive.missing``; ``archive.unsupported``: not a folder or zip, encrypted, a packing other than Deflate;
        ``archive.damaged``; ``archive.hostile``: see the module.
    """
    source = Path(source)
    if not source.exists():
        raise DatasetError(f"{source} does not exist", hint="check the path", code="archive.missing")
    if not source.is_dir() and source.suffix.lower() != ".zip":
        packed = _PACKED.search(source.name)
        hint = "unpack it, then name the folder" if packed else "name the folder that holds the data, or its zip"
        raise unsupported(source, "it is neither a folder nor a zip", hint)
    view = View(source)
    try:
        view._fill()
        yield view
    finally:
        view.close()


# ------------------------------------------------------------------------------------------------------------------- names
def plain_name(source: Path, name: str) -> str | None:
    """A member's name with ``/`` between folders, None if it is to be passed over; raises :class:`DatasetError`."""
    plain = name.replace("\\", "/")
    parts = [p for p in plain.split("/") if p not in ("", ".")]
    problem = ""
    if plain.startswith("/") or _DRIVE.match(plain):
        problem = "is an absolute path"
    elif ".." in parts:
        problem = "leads out of the folder by .."
    elif len(plain) > _MOST_NAME or len(parts) > _MOST_DEPTH:
        problem = f"has {len(plain)} characters in {len(parts)} folders; allowed: {_MOST_NAME} in {_MOST_DEPTH}"
    if problem:
        raise hostile(source, f"the name {name[:80]!r} {problem}")
    if not parts or any(p.startswith(".") or p.lower() in _JUNK for p in parts):
        return None
    odd = next((c for c in plain if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")), None)
    if odd is not None:
        raise hostile(source, f"the name {name[:80]!r} holds the invisible character {odd!r}")
    return "/".join(parts)


def check_names(source: Path, names: Mapping[str, object]) -> None:
    """Refuse names of which two would be one on Windows or macOS, or one is a file and a folder at once."""
    if len(names) > MOST_MEMBERS:
        raise hostile(source, f"it has {len(names)} members; at most {MOST_MEMBERS} are looked at")
    folded: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFC", name).casefold()
        other = folded.setdefault(key, name)
        if other != name:
            raise hostile(source, f"{other!r} and {name!r} are one name on Windows and macOS")
    folders = {str(parent) for key in folded for parent in PurePosixPath(key).parents}
    both = next((folded[key] for key in folded if key in folders), None)
    if both is not None:
        raise hostile(source, f"{both!r} is a file and a folder at once")


# ----------------------------------------------------------------------------------------------------------------- sources
def _zip_places(archive: Path, prefix: str, notes: list[str]) -> dict[str, _Place]:
    places: dict[str, _Place] = {}
    inside = 0
    for info in check_zip(
        archive, most_members=MOST_MEMBERS, most_bytes=MOST_MEMBER_BYTES, most_total=MOST_TOTAL_BYTES
    ):
        name = plain_name(archive, info.orig_filename)
        if name is None or info.is_dir():
            continue
        if f"{prefix}{name}" in places:
            raise hostile(archive, f"it has the member {name!r} twice")
        inside += name.lower().endswith(".zip")
        places[f"{prefix}{name}"] = _Place(info.file_size, archive=archive, inner=info.filename)
    if inside:
        notes.append(f"{archive}: {inside} zip(s) inside it are not looked into; unpack the outer one")
    return places


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    """(name, file) of every plain file below ``root``, in order."""
    homes = _homes(root)
    waiting = [(root, "")]
    seen = 0
    while waiting:
        folder, prefix = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda e: e.name)
        except OSError as e:
            raise damaged(folder, e) from e
        for entry in entries:
            seen += 1
            if seen > MOST_MEMBERS:
                raise hostile(root, f"it has more than {MOST_MEMBERS} files and folders")
            name = plain_name(root, f"{prefix}{entry.name}")
            if name is None:
                continue
            kind = _kind(root, Path(entry.path), homes)
            if kind == "folder":
                waiting.append((Path(entry.path), f"{name}/"))
            else:
                yield name, Path(entry.path)


def _kind(root: Path, path: Path, homes: tuple[Path, ...]) -> str:
    try:
        linked = path.is_symlink()
        mode = path.stat().st_mode
    except OSError as e:
        raise damaged(path, e) from e
    if linked:
        target = path.resolve()
        if stat.S_ISDIR(mode) or not any(target.is_relative_to(home) for home in homes):
            raise hostile(root, f"{path} is a link to {target}")
    if stat.S_ISDIR(mode):
        return "folder"
    if not stat.S_ISREG(mode):
        raise hostile(root, f"{path} is no plain file, but a device, pipe or socket")
    return "file"


def _homes(root: Path) -> tuple[Path, ...]:
    """Where links may lead: into the folder, or to the blobs beside a snapshot in a Hugging Face cache."""
    top = root.resolve()
    snapshots = next((p for p in (top, *top.parents) if p.parent.name == "snapshots"), None)
    return (top,) if snapshots is None else (top, snapshots.parent.parent / "blobs")
