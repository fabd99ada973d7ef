"""Reading folders and zips of others: what is seen, and a corpus of hostile archives that are all refused."""

from __future__ import annotations

import os
import stat
import struct
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rakelight.dataset import archives
from rakelight.dataset.archives import open_view
from rakelight.errors import DatasetError, RakelightError


@dataclass
class Raw:
    """A member as a hostile writer states it; what is not given is told truly."""

    name: bytes
    data: bytes = b"content"
    method: int = 0
    flags: int = 0
    mode: int = 0
    packed: bytes | None = None
    size: int | None = None
    crc: int | None = None
    local_name: bytes | None = None
    offset: int | None = None
    packed_size: int | None = None


def raw_zip(path: Path, members: list[Raw], *, entries: int | None = None, length: int | None = None) -> Path:
    """A zip written by hand after APPNOTE 6.3: nothing is checked, so that it can lie."""
    body, directory = b"", b""
    for m in members:
        packed = m.packed if m.packed is not None else m.data if m.method == 0 else deflated(m.data)
        crc = zlib.crc32(m.data) if m.crc is None else m.crc
        size = len(m.data) if m.size is None else m.size
        packed_size = len(packed) if m.packed_size is None else m.packed_size
        offset = len(body) if m.offset is None else m.offset
        common = struct.pack("<HHHHIII", m.flags, m.method, 0, 0x21, crc, packed_size, size)
        local = m.name if m.local_name is None else m.local_name
        body += b"PK\3\4" + struct.pack("<H", 20) + common + struct.pack("<HH", len(local), 0) + local + packed
        directory += b"PK\1\2" + struct.pack("<HH", 0x0314, 20) + common
        directory += struct.pack("<HHHHHII", len(m.name), 0, 0, 0, 0, m.mode << 16, offset) + m.name
    count = len(members) if entries is None else entries
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory) if length is None else length, len(body), 0)
    path.write_bytes(body + directory + b"PK\5\6" + end)
    return path


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


ZEROS = deflated(bytes(250 << 20))
"""250 MiB in a quarter of a megabyte."""

E_ACUTE = [unicodedata.normalize(form, "é.txt").encode() for form in ("NFC", "NFD")]
UTF8 = 0x800

HOSTILE: dict[str, list[Raw]] = {
    "absolute path": [Raw(b"/etc/passwd")],
    "drive letter": [Raw(b"C:\\windows\\x.txt")],
    "drive without slash": [Raw(b"c:x.txt")],
    "share": [Raw(b"\\\\server\\share\\x.txt")],
    "parent": [Raw(b"../x.txt")],
    "parent inside": [Raw(b"a/b/../../../x.txt")],
    "parent with backslashes": [Raw(b"a\\..\\..\\x.txt")],
    "parent as folder": [Raw(b"../", b"")],
    "parent behind a hidden folder": [Raw(b".git/../../x.txt")],
    "symbolic link": [Raw(b"a.jpg", b"/etc/passwd", mode=stat.S_IFLNK | 0o777)],
    "link and a file below it": [Raw(b"d", b"/tmp", mode=stat.S_IFLNK | 0o777), Raw(b"d/x.txt")],
    "character device": [Raw(b"a", b"", mode=stat.S_IFCHR | 0o666)],
    "block device": [Raw(b"a", b"", mode=stat.S_IFBLK | 0o666)],
    "pipe": [Raw(b"a", b"", mode=stat.S_IFIFO | 0o666)],
    "socket": [Raw(b"a", b"", mode=stat.S_IFSOCK | 0o666)],
    "encrypted": [Raw(b"a.jpg", flags=0x1)],
    "strongly encrypted": [Raw(b"a.jpg", flags=0x41)],
    "masked directory": [Raw(b"a.jpg", flags=0x2000)],
    "case collision": [Raw(b"OK/a.jpg"), Raw(b"ok/A.jpg")],
    "case collision beyond ASCII": [Raw(b"STRASSE.txt", flags=UTF8), Raw("straße.txt".encode(), flags=UTF8)],
    "composed and decomposed": [Raw(n, flags=UTF8) for n in E_ACUTE],
    "the same name twice": [Raw(b"a.jpg", b"one"), Raw(b"a.jpg", b"two")],
    "the same name by dots": [Raw(b"d/a.jpg"), Raw(b"d/./a.jpg")],
    "the same name by slashes": [Raw(b"d/a.jpg"), Raw(b"d//a.jpg")],
    "the same name by backslash": [Raw(b"d/a.jpg"), Raw(b"d\\a.jpg")],
    "file and folder": [Raw(b"a"), Raw(b"a/b.jpg")],
    "line end in a name": [Raw(b"a\nb.jpg")],
    "escape sequence in a name": [Raw(b"\x1b[2Ja.jpg")],
    "end of string in a name": [Raw(b"a.jpg\0.exe")],
    "text direction in a name": [Raw("a\u202egpj.exe".encode(), flags=UTF8)],
    "name without end": [Raw(b"a" * 2000)],
    "folders without end": [Raw(b"a/" * 400 + b"x")],
    "name that is no UTF-8": [Raw(b"\xff\xfe.jpg", flags=UTF8)],
    "sizes that cannot be": [Raw(b"a.tiff", method=8, packed=b"\3\0", size=1 << 20)],
    "stored with two sizes": [Raw(b"a.tiff", b"x" * 100, size=5000)],
    "more packed than there is": [Raw(b"a.tiff", method=8, size=5000, packed_size=1 << 24)],
    "member of 3 GiB": [Raw(b"a.tiff", method=8, packed=ZEROS, size=3 << 30)],
    "picture bomb": [Raw(b"a.png", bytes(20 << 20), method=8)],
    "map bomb": [Raw(b"a.tiff", method=8, packed=ZEROS * 2, size=500 << 20)],
    "bomb of many": [Raw(f"{n}.tiff".encode(), method=8, packed=ZEROS, size=250 << 20, crc=0) for n in range(18)],
    "members that share bytes": [Raw(b"a.txt", b"x" * 100), Raw(b"b.txt", b"x" * 100, offset=0)],
    "bzip2": [Raw(b"a.txt", method=12)],
    "lzma": [Raw(b"a.txt", method=14)],
    "method 99": [Raw(b"a.txt", method=99)],
}

UNSUPPORTED = ("encrypted", "strongly encrypted", "masked directory", "bzip2", "lzma", "method 99")
CODES = dict.fromkeys(UNSUPPORTED, "archive.unsupported") | {"name that is no UTF-8": "archive.damaged"}

DAMAGED: dict[str, list[Raw]] = {
    "wrong checksum": [Raw(b"a.txt", crc=1)],
    "other name before the data": [Raw(b"a.txt", local_name=b"b.txt")],
    "deflated garbage": [Raw(b"a.txt", method=8, packed=b"\xff" * 50, size=50)],
    "more data than stated": [Raw(b"a.txt", b"x" * 900, method=8, size=100)],
    "less data than stated": [Raw(b"a.txt", b"x" * 900, method=8, size=1000)],
    "no member at its place": [Raw(b"a.txt", offset=3)],
}


def look_at_everything(path: Path) -> list[str]:
    with open_view(path) as view:
        for name in view.names:
            view.read(name)
        return list(view.names)


def everything_below(folder: Path) -> list[str]:
    return sorted(str(p) for p in folder.rglob("*"))


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_archives_are_refused_before_they_are_read(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "deep" / "in"
    home.mkdir(parents=True)
    monkeypatch.chdir(home)
    path = raw_zip(home / "a.zip", HOSTILE[what])
    before = everything_below(tmp_path)
    start = time.monotonic()
    with pytest.raises(DatasetError) as refused, open_view(path):
        pass
    assert time.monotonic() - start < 2
    assert refused.value.code == CODES.get(what, "archive.hostile")
    assert "a.zip" in refused.value.message
    assert refused.value.hint
    assert refused.value.message.isprintable()
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize("what", DAMAGED)
def test_damage_inside_is_told_when_it_is_read(what: str, tmp_path: Path) -> None:
    path = raw_zip(tmp_path / "a.zip", DAMAGED[what])
    before = everything_below(tmp_path)
    with pytest.raises(DatasetError) as refused:
        look_at_everything(path)
    assert refused.value.code == "archive.damaged"
    with pytest.raises(DatasetError), open_view(path) as view:
        view.fetch("a.txt", tmp_path / "copy")
    assert [p for p in everything_below(tmp_path) if not p.endswith("copy")] == before


def good_zip(path: Path, names: list[str], content: bytes = b"content") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    return path


CUTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "garbage": lambda data: b"\x89PNG" * 500,
    "cut off": lambda data: data[: len(data) // 2],
    "cut at the end record": lambda data: data[:-10],
    "many members promised": lambda data: data[:-12] + struct.pack("<HIIH", 0xFFFE, 0x0FFFFFFF, 0, 0),
    "directory elsewhere": lambda data: data[:-6] + struct.pack("<IH", 5, 0),
    "directory longer than the file": lambda data: data[:-10] + struct.pack("<IIH", len(data) * 2, 0, 0),
}


@pytest.mark.parametrize("what", CUTS)
def test_broken_archives_give_one_clear_error(what: str, tmp_path: Path) -> None:
    path = good_zip(tmp_path / "a.zip", [f"d/{n}.txt" for n in range(20)])
    path.write_bytes(CUTS[what](path.read_bytes()))
    with pytest.raises(DatasetError, match=r"a\.zip"):
        look_at_everything(path)


def test_zip64_end_record_with_ten_million_members_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    record = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 10**7, 10**7, 200, 0)
    locator = b"PK\6\7" + struct.pack("<IQI", 0, 1000, 1)
    path.write_bytes(bytes(1000) + record + locator + b"PK\5\6" + b"\xff" * 16 + b"\0\0")
    with pytest.raises(DatasetError, match="10000000 members"), open_view(path):
        pass


def test_random_damage_never_gives_another_error(tmp_path: Path) -> None:
    import random

    rng = random.Random(5)
    data = good_zip(tmp_path / "a.zip", [f"d/{n}.txt" for n in range(8)], b"abc" * 40).read_bytes()
    told = 0
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 6)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        (tmp_path / "b.zip").write_bytes(
            changed[: rng.randint(len(data) // 2, len(data)) if rng.random() < 0.2 else None]
        )
        try:
            look_at_everything(tmp_path / "b.zip")
        except RakelightError:
            told += 1
    assert told > 200


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_MEMBERS", 50)
    with pytest.raises(DatasetError, match="51"), open_view(good_zip(tmp_path / "a.zip", [f"{n}" for n in range(51)])):
        pass
    (tmp_path / "d").mkdir()
    for n in range(51):
        (tmp_path / "d" / f"{n}").touch()
    with pytest.raises(DatasetError, match="more than 50"), open_view(tmp_path / "d"):
        pass


@pytest.mark.parametrize("name", ["a.tar.xz", "a.7z", "a.tgz", "a.txt"])
def test_what_is_no_zip_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DatasetError) as refused, open_view(tmp_path / name):
        pass
    assert refused.value.code == "archive.unsupported"
    assert ("unpack" in refused.value.hint) == (name != "a.txt")
    with pytest.raises(DatasetError, match="does not exist"), open_view(tmp_path / "absent"):
        pass


# ---------------------------------------------------------------------------------------------------------------- what is seen
def test_zip_and_folder_show_the_same_without_junk(tmp_path: Path) -> None:
    names = ["c/OK/S0001/a.jpg", "c/NG/dent/S0001/b.jpg", "readme.txt"]
    junk = [
        "__MACOSX/c/OK/S0001/._a.jpg",
        "c/OK/S0001/._a.jpg",
        "c/.DS_Store",
        "Thumbs.db",
        ".cache/x.lock",
        "c/Icon\r",
    ]
    path = good_zip(tmp_path / "a.zip", [*names, *junk, "c/empty/", "./"])
    (tmp_path / "d").mkdir()
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "d")
    for source in (path, tmp_path / "d"):
        with open_view(source) as view:
            assert view.names == tuple(sorted(names))
            assert view.size("readme.txt") == 7
            assert view.read("readme.txt") == b"content"
            assert "c/OK/S0001/a.jpg" in view
            assert view.name in ("a", "d")


def test_zips_in_a_folder_are_folders(tmp_path: Path) -> None:
    home = tmp_path / "set" / "realiad_d3_raw"
    home.mkdir(parents=True)
    good_zip(home / "knob_cap.zip", ["knob_cap/OK/S0001/a.jpg"])
    good_zip(home / "audio_jack.ZIP", ["OK/S0001/b.jpg"])
    (home / "broken.zip").write_bytes((home / "knob_cap.zip").read_bytes()[:60])
    (home / "._knob_cap.zip").write_bytes(b"Mac")
    with open_view(tmp_path / "set") as view:
        assert view.names == (
            "realiad_d3_raw/audio_jack.ZIP/OK/S0001/b.jpg",
            "realiad_d3_raw/knob_cap.zip/knob_cap/OK/S0001/a.jpg",
        )
        assert view.read(view.names[0]) == b"content"
        assert len(view.oddities) == 1
        assert "broken.zip" in view.oddities[0]


def test_a_hostile_zip_in_a_folder_stops_all(tmp_path: Path) -> None:
    good_zip(tmp_path / "a.zip", ["c/x.jpg"])
    raw_zip(tmp_path / "b.zip", [Raw(b"../x")])
    with pytest.raises(DatasetError, match=r"b\.zip"), open_view(tmp_path):
        pass


def test_zips_inside_zips_are_not_opened(tmp_path: Path) -> None:
    inner = good_zip(tmp_path / "inner.zip", ["a.jpg"]).read_bytes()
    outer = good_zip(tmp_path / "outer.zip", ["inner.zip"], inner)
    with open_view(outer) as view:
        assert view.names == ("inner.zip",)
        assert "unpack the outer one" in view.oddities[0]


def test_names_of_other_encodings_can_be_read(tmp_path: Path) -> None:
    path = raw_zip(tmp_path / "a.zip", [Raw("部品/a.txt".encode("gbk")), Raw("部品/b.txt".encode(), flags=UTF8)])
    with open_view(path) as view:
        assert len(view.names) == 2
        assert all(view.read(name) == b"content" for name in view.names)


def test_windows_separators_are_folders(tmp_path: Path) -> None:
    with open_view(raw_zip(tmp_path / "a.zip", [Raw(b"c\\OK\\S0001\\a.jpg")])) as view:
        assert view.names == ("c/OK/S0001/a.jpg",)
        assert view.read("c/OK/S0001/a.jpg") == b"content"


def test_constant_maps_are_no_bombs(tmp_path: Path) -> None:
    """A map of one value packs 1000 : 1; one of ordinary size is read."""
    data = bytes(20 << 20)
    path = raw_zip(tmp_path / "a.zip", [Raw(b"a.tiff", data, method=8)])
    with open_view(path) as view:
        assert view.read("a.tiff") == data


def test_reading_is_bounded(tmp_path: Path) -> None:
    with open_view(good_zip(tmp_path / "a.zip", ["a.json"])) as view:
        with pytest.raises(DatasetError) as refused:
            view.read("a.json", most=3)
        assert refused.value.code == "archive.too_large"


def test_fetch_copies_out_of_zips_only(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.txt").write_bytes(b"x")
    with open_view(tmp_path / "d") as view:
        assert view.fetch("a.txt", tmp_path / "copy") == tmp_path / "d" / "a.txt"
    with open_view(good_zip(tmp_path / "a.zip", ["a.txt"])) as view:
        assert view.fetch("a.txt", tmp_path / "copy").read_bytes() == b"content"
        with pytest.raises(RakelightError):  # it never writes over a file
            view.fetch("a.txt", tmp_path / "copy")


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_in_folders(tmp_path: Path) -> None:
    cache = tmp_path / "hub" / "datasets--a--b"
    snapshot = cache / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    (cache / "blobs" / "f00").write_bytes(b"blob")
    (snapshot / "a.txt").symlink_to("../../blobs/f00")
    with open_view(snapshot) as view:
        assert view.read("a.txt") == b"blob"
    (tmp_path / "secret").write_bytes(b"secret")
    made: dict[str, Any] = {"to a file outside": tmp_path / "secret", "to a folder": cache}
    for what, target in made.items():
        folder = tmp_path / what
        folder.mkdir()
        (folder / "x").symlink_to(target)
        with pytest.raises(DatasetError, match="link"), open_view(folder):
            pass
    pipe = tmp_path / "pipes"
    pipe.mkdir()
    os.mkfifo(pipe / "x")
    with pytest.raises(DatasetError, match="pipe"), open_view(pipe):
        pass
    (tmp_path / "alias").symlink_to(snapshot)  # what the user names himself may be a link
    with open_view(tmp_path / "alias") as view:
        assert view.names == ("a.txt",)
