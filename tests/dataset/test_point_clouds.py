"""Point clouds: what is written is read by others and by us; files of others, damaged ones, and thinning."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rakelight.dataset.point_clouds import downsample, read_pcd, read_ply, write_pcd, write_ply
from rakelight.errors import DatasetError, InputError, StorageError

RNG = np.random.default_rng(5)
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def cloud(height: int = 37, width: int = 53) -> Arrays:
    """xyz with holes, colours, normals in the camera frame (some unknown)."""
    xyz = RNG.normal(size=(height, width, 3)).astype(np.float32) + np.float32([0, 0, 200])
    xyz[RNG.random((height, width)) < 0.3] = np.nan
    xyz[0, 0] = 1, np.inf, 3
    xyz[1, 1] = -0.0, 1e-42, 200  # a negative zero and a denormal keep their bits
    rgb = RNG.integers(0, 256, (height, width, 3), np.uint8)
    normals = RNG.normal(size=(height, width, 3)).astype(np.float32)
    normals[..., 2] = -np.abs(normals[..., 2])
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    normals[2] = np.nan
    return xyz, rgb, normals


def finite(xyz: np.ndarray) -> np.ndarray:
    return np.isfinite(xyz).all(axis=-1)


def split(path: Path, end: bytes) -> tuple[list[str], bytes]:
    data = path.read_bytes()
    at = data.index(end) + len(end)
    return data[:at].decode("ascii").splitlines(), data[at:]


# --- writing ---
def test_ply_is_what_the_format_says_byte_by_byte(tmp_path: Path) -> None:
    xyz, rgb, normals = cloud()
    written = write_ply(tmp_path / "c.ply", xyz, rgb=rgb, normals=normals)
    header, body = split(tmp_path / "c.ply", b"end_header\n")
    valid = finite(xyz)
    assert header[:2] == ["ply", "format binary_little_endian 1.0"]
    comments = [line for line in header if line.startswith("comment")]
    assert any("unit: mm" in c for c in comments) and any("x right, y down, z away" in c for c in comments)
    assert [line for line in header[2:] if line not in comments] == [
        f"element vertex {valid.sum()}",
        *(f"property float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
        "end_header",
    ]
    expected = b"".join(
        struct.pack("<6f3B", *p, *(n if np.isfinite(n).all() else (0, 0, 0)), *c)
        for p, n, c in zip(xyz[valid], normals[valid], rgb[valid], strict=True)
    )
    assert body == expected
    data = (tmp_path / "c.ply").read_bytes()
    assert (written.points, written.bytes) == (valid.sum(), len(data))
    assert written.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("with_rgb", [False, True])
@pytest.mark.parametrize("with_normals", [False, True])
def test_ply_comes_back_from_a_list_of_points_too(tmp_path: Path, with_rgb: bool, with_normals: bool) -> None:
    xyz, rgb, normals = (a.reshape(-1, 3) for a in cloud(110, 97))  # two whole runs and a rest
    valid = finite(xyz)
    write_ply(tmp_path / "c.ply", xyz, rgb=rgb if with_rgb else None, normals=normals if with_normals else None)
    read = read_ply(tmp_path / "c.ply")
    assert np.array_equal(read.xyz.view(np.uint32), xyz[valid].view(np.uint32))
    assert (read.rgb is None) if not with_rgb else np.array_equal(read.rgb, rgb[valid])
    assert (read.normals is None) if not with_normals else np.array_equal(read.normals, np.nan_to_num(normals[valid]))


def test_clouds_of_many_chunks_and_strided_arrays(tmp_path: Path) -> None:
    xyz, rgb, _ = cloud(900, 700)
    for chosen in (np.s_[:, :], np.s_[::-1, ::2], np.s_[3:899:5, 699:0:-3]):
        a, b = xyz[chosen], rgb[chosen]
        written = write_ply(tmp_path / "c.ply", a, rgb=b)
        read = read_ply(tmp_path / "c.ply")
        assert written.sha256 == hashlib.sha256((tmp_path / "c.ply").read_bytes()).hexdigest()
        assert np.array_equal(read.xyz, a[finite(a)]) and np.array_equal(read.rgb, b[finite(a)])


def test_normals_of_the_viewer_frame_are_turned(tmp_path: Path) -> None:
    xyz, _, normals = cloud()
    planar = np.ascontiguousarray(np.moveaxis(normals * np.float32([1, -1, -1]), -1, 0))
    write_ply(tmp_path / "v.ply", xyz, normals=np.moveaxis(planar, 0, -1), normals_frame="viewer")
    write_ply(tmp_path / "c.ply", xyz, normals=normals)
    assert (tmp_path / "v.ply").read_bytes() == (tmp_path / "c.ply").read_bytes()
    for frame, wrong in (("viewer", normals), ("camera", np.moveaxis(planar, 0, -1))):
        with pytest.raises(InputError) as caught:
            write_ply(tmp_path / "w.ply", xyz, normals=wrong, normals_frame=frame)  # type: ignore[arg-type]
        assert caught.value.code == "point_cloud.normals_frame" and "n_z" in caught.value.message
    assert not (tmp_path / "w.ply").exists()


def test_pcd_is_what_the_format_says_byte_by_byte(tmp_path: Path) -> None:
    xyz, rgb, _ = cloud()
    valid = finite(xyz)
    write_pcd(tmp_path / "c.pcd", xyz, rgb)
    header, body = split(tmp_path / "c.pcd", b"DATA binary\n")
    assert [line for line in header if not line.startswith("#")] == [
        "VERSION 0.7", "FIELDS x y z rgb", "SIZE 4 4 4 4", "TYPE F F F F", "COUNT 1 1 1 1", f"WIDTH {valid.sum()}",
        "HEIGHT 1", "VIEWPOINT 0 0 0 1 0 0 0", f"POINTS {valid.sum()}", "DATA binary",
    ]  # fmt: skip
    assert "mm" in header[1]
    points = zip(xyz[valid], rgb[valid], strict=True)
    assert body == b"".join(struct.pack("<3f4B", *p, c[2], c[1], c[0], 0) for p, c in points)
    colours = np.frombuffer(body, "<f4").reshape(-1, 4)[:, 3]
    assert np.isfinite(colours).all()


def test_organised_pcd_keeps_the_grid_and_marks_holes(tmp_path: Path) -> None:
    xyz, rgb, _ = cloud()
    mask = RNG.random(xyz.shape[:2]) < 0.5
    written = write_pcd(tmp_path / "c.pcd", xyz, rgb, organised=True, mask=mask)
    header, _ = split(tmp_path / "c.pcd", b"DATA binary\n")
    assert {"WIDTH 53", "HEIGHT 37", f"POINTS {37 * 53}"} <= set(header) and written.points == 37 * 53
    read = read_pcd(tmp_path / "c.pcd")
    kept = finite(xyz) & mask
    assert read.xyz.shape == xyz.shape and np.array_equal(read.rgb, rgb)
    assert np.array_equal(read.xyz[kept], xyz[kept]) and np.isnan(read.xyz[~kept]).all()


def test_mask_chooses_points(tmp_path: Path) -> None:
    xyz, rgb, _ = cloud()
    mask = np.zeros(xyz.shape[:2], bool)
    mask[5:20, 7:30] = True
    write_ply(tmp_path / "c.ply", xyz, rgb=rgb, mask=mask)
    write_pcd(tmp_path / "c.pcd", xyz, rgb, mask=mask)
    for read in (read_ply(tmp_path / "c.ply"), read_pcd(tmp_path / "c.pcd")):
        assert np.array_equal(read.xyz, xyz[mask & finite(xyz)]) and np.array_equal(read.rgb, rgb[mask & finite(xyz)])


@pytest.mark.parametrize("reader", ["legacy", "tensor"])
def test_open3d_reads_both(tmp_path: Path, reader: str) -> None:
    o3d: Any = pytest.importorskip("open3d")
    xyz, rgb, normals = cloud()
    valid = finite(xyz)
    write_ply(tmp_path / "c.ply", xyz, rgb=rgb, normals=normals)
    write_pcd(tmp_path / "c.pcd", xyz, rgb)
    for name in ("c.ply", "c.pcd"):
        if reader == "legacy":
            read = o3d.io.read_point_cloud(str(tmp_path / name))
            points, turned = np.asarray(read.points), np.asarray(read.normals)
            colours = np.rint(np.asarray(read.colors) * 255)
        else:
            read = o3d.t.io.read_point_cloud(str(tmp_path / name))
            points, colours = read.point.positions.numpy(), read.point.colors.numpy()
            turned = read.point.normals.numpy() if "normals" in read.point else np.empty(0)
        assert np.array_equal(points.astype(np.float32), xyz[valid])
        assert np.array_equal(colours.astype(np.uint8), rgb[valid])
        if name == "c.ply":
            assert np.allclose(turned, np.nan_to_num(normals[valid]), atol=1e-6)


def test_refused_arrays(tmp_path: Path) -> None:
    xyz, rgb, normals = cloud()
    path = tmp_path / "c"
    refused: list[tuple[str, Any]] = [
        ("input.dtype", lambda: write_ply(path, xyz.astype(np.float64))),
        ("input.shape", lambda: write_ply(path, xyz[..., :2])),
        ("input.shape", lambda: write_ply(path, xyz, rgb=rgb[:-1])),
        ("input.dtype", lambda: write_ply(path, xyz, rgb=rgb.astype(np.uint16))),
        ("input.shape", lambda: write_ply(path, xyz, normals=normals[:, :-1])),
        ("input.dtype", lambda: write_ply(path, xyz, mask=rgb[..., 0])),
        ("input.shape", lambda: write_pcd(path, xyz, rgb, mask=np.ones((3, 3), bool))),
        ("input.shape", lambda: write_pcd(path, xyz.reshape(-1, 3), rgb.reshape(-1, 3), organised=True)),
        ("point_cloud.empty", lambda: write_ply(path, np.full_like(xyz, np.nan))),
        ("point_cloud.empty", lambda: write_pcd(path, xyz[:0], rgb[:0], organised=True)),
        ("point_cloud.empty", lambda: write_ply(path, np.empty((0, 3), np.float32))),
        ("point_cloud.normals_frame", lambda: write_ply(path, xyz, normals_frame="world")),  # type: ignore[arg-type]
    ]
    for code, call in refused:
        with pytest.raises(InputError) as caught:
            call()
        assert caught.value.code == code
    assert not list(tmp_path.iterdir())
    with pytest.raises(StorageError):
        write_ply(tmp_path / "no folder" / "c.ply", xyz)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    xyz, rgb, _ = cloud()
    write_ply(tmp_path / "c.ply", xyz, rgb=rgb)
    before = (tmp_path / "c.ply").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rakelight.files.os.fsync", full)
    with pytest.raises(StorageError) as caught:
        write_ply(tmp_path / "c.ply", xyz[:9])
    assert caught.value.code == "storage.disk_full"
    assert (tmp_path / "c.ply").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["c.ply"]


# --- files of other programs ---
OTHERS_PLY = {
    "doubles, big-endian, alpha, a scalar field": (
        b"ply\nformat binary_big_endian 1.0\ncomment \xc3\xa4\nobj_info x\nelement vertex 2\nproperty double x\n"
        b"property double y\nproperty double z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n"
        b"property uchar alpha\nproperty float quality\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
        + struct.pack(">3d4Bf", 1, 2, 3, 10, 20, 30, 255, 0.5)
        + struct.pack(">3d4Bf", 4, 5, 6, 40, 50, 60, 255, 0.5)
        + struct.pack(">B3i", 3, 0, 1, 0)
    ),
    "text with CRLF, faces behind": (
        b"ply\r\nformat ascii 1.0\r\nelement vertex 2\r\nproperty float32 x\r\nproperty float32 y\r\nproperty float32 z\r\n"
        b"property uint8 red\r\nproperty uint8 green\r\nproperty uint8 blue\r\nelement face 1\r\n"
        b"property list uchar int vertex_indices\r\nend_header\r\n1 2 3 10 20 30\r\n4 5 6 40 50 60\r\n3 0 1 0\r\n"
    ),
    "another element first": (
        b"ply\nformat binary_little_endian 1.0\nelement camera 1\nproperty float a\nproperty uchar b\nelement vertex 2\n"
        b"property uchar red\nproperty uchar green\nproperty uchar blue\nproperty float z\nproperty float y\n"
        b"property float x\nend_header\n"
        + bytes(5)
        + struct.pack("<3B3f", 10, 20, 30, 3, 2, 1)
        + struct.pack("<3B3f", 40, 50, 60, 6, 5, 4)
    ),
}
PCD = "VERSION {version}\nFIELDS {fields}\nSIZE {sizes}\nTYPE {types}\n{count}WIDTH 2\nHEIGHT 1\n{tail}DATA {data}\n"
ONE, TWO = 0x0A141E, 0x28323C
OTHERS_PCD = {
    "text, colours as float bits": PCD.format(
        version=".7", fields="x y z rgb", sizes="4 4 4 4", types="F F F F", count="COUNT 1 1 1 1\n",
        tail="VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 2\n", data="ascii",
    ).encode()
    + b"".join(b"%d %d %d %.9g\n" % (*p, np.uint32(c).view(np.float32)) for p, c in (((1, 2, 3), ONE), ((4, 5, 6), TWO))),
    "text, colours as integers with alpha": PCD.format(
        version="0.7", fields="x y z rgba", sizes="4 4 4 4", types="F F F U", count="", tail="POINTS 2\n", data="ascii"
    ).encode()
    + b"1 2 3 %d\n4 5 6 %d\n" % (0xFF000000 | ONE, 0xFF000000 | TWO),
    "binary with padding and a histogram": PCD.format(
        version="0.7", fields="x y z _ rgb h _", sizes="8 8 8 1 4 4 2", types="F F F U F F U",
        count="COUNT 1 1 1 4 1 3 1\n", tail="POINTS 2\n", data="binary",
    ).encode()
    + b"".join(
        struct.pack("<3d4xI3f2x", *p, 0xFF000000 | c, 0, 0, 0) for p, c in (((1, 2, 3), ONE), ((4, 5, 6), TWO))
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", [*OTHERS_PLY, *OTHERS_PCD])
def test_files_of_other_programs(tmp_path: Path, kind: str) -> None:
    data, read = (OTHERS_PLY[kind], read_ply) if kind in OTHERS_PLY else (OTHERS_PCD[kind], read_pcd)
    (tmp_path / "c").write_bytes(data)
    got = read(tmp_path / "c")
    assert got.xyz.tolist() == [[1, 2, 3], [4, 5, 6]] and got.xyz.dtype == np.float32
    assert got.rgb is not None and got.rgb.tolist() == [[10, 20, 30], [40, 50, 60]]


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("name", ["c.ply", "c.pcd"])
def test_open3d_writes_what_we_read(tmp_path: Path, name: str, text: bool) -> None:
    o3d: Any = pytest.importorskip("open3d")
    xyz, rgb, normals = (a.reshape(-1, 3)[200:300] for a in cloud())
    made = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(np.nan_to_num(xyz)))
    made.colors = o3d.utility.Vector3dVector(rgb / 255)
    made.normals = o3d.utility.Vector3dVector(normals)
    assert o3d.io.write_point_cloud(str(tmp_path / name), made, write_ascii=text)
    got = (read_ply if name == "c.ply" else read_pcd)(tmp_path / name)
    assert np.allclose(got.xyz, np.nan_to_num(xyz), atol=1e-3 if text else 0)
    assert got.normals is not None and np.allclose(got.normals, normals, atol=1e-4)
    if not (text and name == "c.pcd"):  # Open3D prints the float of a colour with too few digits
        assert np.array_equal(got.rgb, rgb)


HEAD = b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\n"
DAMAGED_PLY = {
    "empty": b"",
    "another format": b"solid cube\nend_header\n",
    "no end": HEAD,
    "a format from the future": HEAD.replace(b"1.0", b"2.0") + b"end_header\n1 2 3\n4 5 6\n",
    "no format": HEAD.replace(b"format ascii 1.0\n", b"") + b"end_header\n1 2 3\n4 5 6\n",
    "no vertices": b"ply\nformat ascii 1.0\nelement face 0\nproperty int i\nend_header\n",
    "no z": HEAD.replace(b"property float z\n", b"") + b"end_header\n1 2\n4 5\n",
    "x twice": HEAD + b"property float x\nend_header\n1 2 3 4\n4 5 6 7\n",
    "a list in a vertex": HEAD + b"property list uchar int i\nend_header\n1 2 3 0\n4 5 6 0\n",
    "an unknown type": HEAD + b"property complex w\nend_header\n1 2 3 0\n4 5 6 0\n",
    "a negative count": HEAD.replace(b"vertex 2", b"vertex -2") + b"end_header\n",
    "an absurd count": HEAD.replace(b"vertex 2", b"vertex 999999999999") + b"end_header\n1 2 3\n",
    "too few lines": HEAD.replace(b"vertex 2", b"vertex 3") + b"end_header\n1.00000 2.00000 3\n4 5 6\n",
    "only blanks": HEAD + b"end_header\n" + b" " * 50,
    "a short line": HEAD + b"end_header\n1 2 3\n4 5 \n",
    "words": HEAD + b"end_header\n1 2 3\n4 5 __import__('os')\n",
    "a colour of 300": HEAD
    + b"".join(b"property uchar %s\n" % c for c in (b"red", b"green", b"blue"))
    + b"end_header\n1 2 3 0 0 0\n4 5 6 300 0 0\n",
    "colours as floats": HEAD
    + b"".join(b"property float %s\n" % c for c in (b"red", b"green", b"blue"))
    + b"end_header\n1 2 3 0 0 0\n4 5 6 1 0 0\n",
    "half a normal": HEAD + b"property float nx\nend_header\n1 2 3 0\n4 5 6 0\n",
    "truncated": HEAD.replace(b"ascii", b"binary_little_endian") + b"end_header\n" + bytes(23),
    "a huge header": b"ply\nformat ascii 1.0\n" + b"comment x\n" * 10_000 + HEAD[21:] + b"end_header\n1 2 3\n4 5 6\n",
    "many lines": b"ply\nformat ascii 1.0\n" + b"comment\n" * 2_000 + HEAD[21:] + b"end_header\n1 2 3\n4 5 6\n",
}
GOOD_PCD = (
    b"VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\n"
    b"WIDTH 2\nHEIGHT 1\nPOINTS 2\nDATA ascii\n1 2 3\n4 5 6\n"
)
DAMAGED_PCD = {
    "empty": b"",
    "no DATA": GOOD_PCD[: GOOD_PCD.index(b"DATA")],
    "no SIZE": GOOD_PCD.replace(b"SIZE 4 4 4\n", b""),
    "SIZE too short": GOOD_PCD.replace(b"SIZE 4 4 4", b"SIZE 4 4"),
    "a type that is none": GOOD_PCD.replace(b"TYPE F F F", b"TYPE F F Q"),
    "floats of two bytes": GOOD_PCD.replace(b"SIZE 4 4 4", b"SIZE 4 4 2"),
    "another number of points": GOOD_PCD.replace(b"POINTS 2", b"POINTS 3"),
    "an absurd COUNT": GOOD_PCD.replace(b"COUNT 1 1 1", b"COUNT 1 1 99999999"),
    "an absurd grid": GOOD_PCD.replace(b"WIDTH 2\nHEIGHT 1\nPOINTS 2", b"WIDTH 99999999\nHEIGHT 99999999\nPOINTS 2"),
    "WIDTH twice": GOOD_PCD.replace(b"HEIGHT 1", b"WIDTH 1"),
    "no z": GOOD_PCD.replace(b"FIELDS x y z", b"FIELDS x y w"),
    "compressed": GOOD_PCD.replace(b"DATA ascii", b"DATA binary_compressed"),
    "truncated": GOOD_PCD.replace(b"DATA ascii", b"DATA binary"),
    "too few lines": GOOD_PCD.replace(b"\n4 5 6\n", b"     \n"),
}


@pytest.mark.parametrize("kind", [f"ply: {k}" for k in DAMAGED_PLY] + [f"pcd: {k}" for k in DAMAGED_PCD])
def test_damaged_files_are_one_clear_error(tmp_path: Path, kind: str) -> None:
    form, name = kind.split(": ", 1)
    path = tmp_path / f"c.{form}"
    path.write_bytes(DAMAGED_PLY[name] if form == "ply" else DAMAGED_PCD[name])
    with pytest.raises(DatasetError) as caught:
        (read_ply if form == "ply" else read_pcd)(path)
    assert caught.value.code == "point_cloud.unreadable" and str(path) in caught.value.message and caught.value.hint


def test_the_good_twins_of_the_damaged_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "c.ply").write_bytes(HEAD + b"end_header\n1 2 3\n4 5 6\n")
    (tmp_path / "c.pcd").write_bytes(GOOD_PCD)
    assert (
        read_ply(tmp_path / "c.ply").xyz.tolist() == read_pcd(tmp_path / "c.pcd").xyz.tolist() == [[1, 2, 3], [4, 5, 6]]
    )
    (tmp_path / "none.ply").write_bytes(HEAD.replace(b"vertex 2", b"vertex 0") + b"end_header\n")
    assert read_ply(tmp_path / "none.ply").xyz.shape == (0, 3)
    with pytest.raises(DatasetError) as caught:
        read_ply(tmp_path / "absent.ply")
    assert caught.value.code == "point_cloud.missing"


@pytest.fixture(scope="module", params=["ply", "pcd"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small good file, alone in its folder."""
    path: Path = tmp_path_factory.mktemp("whole") / f"c.{request.param}"
    xyz, rgb, _ = cloud(4, 5)
    if path.suffix == ".ply":
        write_ply(path, xyz, rgb=rgb)
    else:
        write_pcd(path, xyz, rgb)
    return path


@settings(max_examples=150, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 419), st.integers(0, 255)), min_size=1, max_size=4),
    length=st.integers(0, 600),
)
def test_any_change_of_a_file_is_read_or_refused(whole: Path, changes: list[tuple[int, int]], length: int) -> None:
    content = bytearray(whole.read_bytes())
    for at, value in changes:
        content[at % len(content)] = value
    path = whole.with_stem("changed")
    path.write_bytes(content[:length])
    try:
        got = (read_ply if path.suffix == ".ply" else read_pcd)(path)
    except DatasetError:
        return
    assert got.xyz.dtype == np.float32 and got.xyz.shape[-1] == 3 and got.xyz.size <= 3 * len(content)


# --- thinning ---
def test_downsample_keeps_one_in_factor_everywhere() -> None:
    valid = RNG.random((600, 800)) < 0.7
    for factor, cell in ((4, (2, 2)), (40, (5, 8)), (7, (1, 7))):
        kept = downsample(valid, factor, 1)
        assert not (kept & ~valid).any()
        assert abs(kept.sum() * factor / valid.sum() - 1) < 0.03
        rows, columns = (n // c * c for n, c in zip(valid.shape, cell, strict=True))
        all_kept = downsample(np.ones_like(valid), factor, 1)[:rows, :columns]
        cells = all_kept.reshape(rows // cell[0], cell[0], columns // cell[1], cell[1]).sum(axis=(1, 3))
        assert (cells == 1).all()
        assert np.array_equal(kept[:rows, :columns], all_kept & valid[:rows, :columns])
    counts = sum(downsample(np.ones((40, 40), bool), 40, seed).astype(int) for seed in range(2000))
    assert counts.min() > 20 and counts.max() < 90  # 50 expected of each pixel, edges included


def test_downsample_is_repeatable_and_seeded() -> None:
    valid = np.ones((50, 60), bool)
    assert np.array_equal(downsample(valid, 4, 3), downsample(valid, 4, 3))
    assert not np.array_equal(downsample(valid, 4, 3), downsample(valid, 4, 4))
    assert np.array_equal(downsample(valid, 1, 0), valid)
    points = downsample(np.ones(1000, bool), 40, 0)
    assert points.shape == (1000,) and points.reshape(25, 40).sum(axis=1).tolist() == [1] * 25


def test_downsample_refuses() -> None:
    valid = np.ones((5, 6), bool)
    for code, arguments in {
        "point_cloud.factor": (valid, 0, 1),
        "point_cloud.seed": (valid, 4, -1),
        "input.dtype": (valid.astype(np.uint8), 4, 1),
        "input.shape": (valid[None], 4, 1),
    }.items():
        with pytest.raises(InputError) as caught:
            downsample(*arguments)
        assert caught.value.code == code
    with pytest.raises(InputError):
        downsample(valid, 2.5, 1)  # type: ignore[arg-type]
