"""Weights: where they are looked for, what is refused, fetching from a server that misbehaves, and the commands."""

from __future__ import annotations

import errno
import http.server
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from rakelight import files
from rakelight.cli.detect_weights import weights as command
from rakelight.detection.features import base, checkpoints, fetch, vit, weights
from rakelight.detection.features.networks import check_fit
from rakelight.errors import ModelError, StorageError

NAME = "dino_deitsmall8_pretrain.pth"
TINY = vit.VitShape(patch=8, dim=32, depth=12, heads=2, grid=4)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the caches of whoever runs it; the network is a tiny one."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("RAKELIGHT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setitem(vit.SHAPES, "vit-s8-dino", TINY)


@pytest.fixture
def state(by_hand: Any) -> dict[str, torch.Tensor]:
    return by_hand.random_state(vit.VisionTransformer(TINY), 1)


@pytest.fixture
def good(state: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    path = tmp_path / "brought" / NAME
    path.parent.mkdir()
    torch.save(state, path)
    return path


def put(source: Path, *where: str | Path) -> Path:
    final = Path(*where)
    final.parent.mkdir(parents=True, exist_ok=True)
    final.write_bytes(source.read_bytes())
    return final


def publish(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Change what the registry says of the first file of vit-s8-dino."""
    entry = weights.REGISTRY["vit-s8-dino"]
    first = replace(entry.files[0], **changes)
    monkeypatch.setitem(weights.REGISTRY, "vit-s8-dino", replace(entry, files=(first, *entry.files[1:])))


# ------------------------------------------------------------------------------------------------------- finding
def test_places_are_searched_in_the_promised_order(good: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    in_torch = put(good, cache, "torch/hub/checkpoints", NAME)
    assert weights.find("vit-s8-dino").path == in_torch
    hub = cache / "huggingface/hub/models--timm--vit_small_patch8_224.dino"
    older = put(good, hub, "snapshots/aaa/model.safetensors")
    assert weights.find("vit-s8-dino").path == older
    newer = put(good, hub, "snapshots/bbb/model.safetensors")
    (hub / "refs").mkdir()
    (hub / "refs/main").write_text("bbb")
    assert weights.find("vit-s8-dino").path == newer
    own = put(good, tmp_path, "weights", NAME)
    assert weights.find("vit-s8-dino").path == own
    told = put(good, tmp_path, "told", NAME)
    assert weights.find("vit-s8-dino", told).path == told
    assert weights.find("vit-s8-dino", told.parent).path == told


@pytest.mark.parametrize(
    ("variable", "below"),
    [("HF_HOME", "hub"), ("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("TORCH_HOME", None)],
)
def test_moved_caches_are_found(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, below: str | None
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "moved"))
    inside = f"{below}/models--timm--vit_small_patch8_224.dino/snapshots/c/model.safetensors".lstrip("/")
    path = put(good, tmp_path / "moved", f"hub/checkpoints/{NAME}" if below is None else inside)
    assert weights.find("vit-s8-dino").path == path


def test_without_weights_every_place_and_both_ways_on_are_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        base.make_extractor("vit-b8-dino")
    error = caught.value
    assert error.code == "weights.missing"
    for place in weights.places(weights.entry("vit-b8-dino")):
        assert str(place.path) in error.message
    assert "343 MB" in error.message and "Apache-2.0" in error.message and "huggingface" in error.message
    assert "rakelight detect weights fetch vit-b8-dino" in error.hint and "leave out --paper-features" in error.hint
    assert "https://dl.fbaipublicfiles.com/dino/dino_vitbase8_pretrain/dino_vitbase8_pretrain.pth" in error.hint


def test_a_wrong_explicit_path_never_falls_through(good: Path, tmp_path: Path) -> None:
    put(good, tmp_path, "weights", NAME)
    with pytest.raises(ModelError, match=r"nowhere\.pth") as caught:
        base.make_extractor("vit-s8-dino", weights=tmp_path / "nowhere.pth")
    assert caught.value.code == "weights.missing"
    assert str(tmp_path / "weights") not in caught.value.message


def test_unknown_id() -> None:
    with pytest.raises(ModelError, match="vit-b8-dino, vit-s8-dino") as caught:
        weights.find("vit-z9")
    assert caught.value.code == "weights.unknown"


# ------------------------------------------------------------------------------------------------------- reading
def test_both_kinds_of_file_give_the_same_features(good: Path, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    safe = tmp_path / "brought" / "any name.safetensors"
    save_file(state, safe)
    of_torch, of_safe = (base.make_extractor("vit-s8-dino", weights=path) for path in (good, safe))
    assert of_torch.fingerprint() == of_safe.fingerprint()
    assert of_torch.weights_sha256 == files.sha256_file(good) != of_safe.weights_sha256
    assert of_torch.dim == 32 and of_torch.grid(224) == 28


def test_another_hash_than_the_published_one_is_refused(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, sha256="0" * 64)
    with pytest.raises(ModelError, match="0" * 64) as caught:
        base.make_extractor("vit-s8-dino", weights=good)
    assert caught.value.code == "weights.checksum"
    assert files.sha256_file(good) in caught.value.message


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_would_run_code_is_refused(tmp_path: Path, legacy: bool) -> None:
    sentinel = tmp_path / "ran"
    hostile = f"cposix\nmkdir\n(V{sentinel}\ntR.".encode()  # a pickle that calls os.mkdir
    path = tmp_path / NAME
    if legacy:
        path.write_bytes(hostile)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", hostile)
            archive.writestr("archive/version", "3\n")
    with pytest.raises(ModelError) as caught:
        checkpoints.read(path)
    assert caught.value.code == "weights.unsafe"
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", b"PK\x03\x04 cut", b"\x08" + b"\0" * 7 + b"{broken}"]
)
def test_a_file_that_holds_no_weights(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / NAME
    path.write_bytes(content)
    with pytest.raises(ModelError, match=NAME) as caught:
        checkpoints.read(path)
    assert caught.value.code in ("weights.unreadable", "weights.unsafe")


def test_a_cut_file_is_unreadable(good: Path) -> None:
    good.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    with pytest.raises(ModelError) as caught:
        base.make_extractor("vit-s8-dino", weights=good)
    assert caught.value.code == "weights.unreadable"


def test_tensors_that_do_not_fit_are_named(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    def refused(changed: dict[str, Any]) -> ModelError:
        path = tmp_path / "changed.pth"
        torch.save(changed, path)
        with pytest.raises(ModelError) as caught:
            base.make_extractor("vit-s8-dino", weights=path)
        return caught.value

    error = refused(
        {k: v for k, v in state.items() if not k.startswith("blocks.11.")} | {"head.weight": torch.zeros(1)}
    )
    assert error.code == "weights.mismatch"
    assert "12 missing (blocks.11.attn.proj.bias" in error.message and "1 unexpected (head.weight)" in error.message
    error = refused(state | {"norm.bias": torch.zeros(33)})
    assert "norm.bias (33,) instead of (32,)" in error.message
    error = refused(state | {"norm.bias": "text"})
    assert "norm.bias str instead of (32,)" in error.message
    error = refused(state | {"norm.bias": torch.full((32,), float("nan"))})
    assert error.code == "weights.not_finite" and "norm.bias" in error.message
    path = tmp_path / "list.pth"
    torch.save([1, 2], path)
    with pytest.raises(ModelError, match="holds a list"):
        check_fit("vit-s8-dino", path)
    check_fit(
        "vit-s8-dino", _saved(state | {"mask_token": torch.zeros(1, 32)}, tmp_path)
    )  # DINOv2's, which is not needed


def _saved(state: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "saved.pth"
    torch.save(state, path)
    return path


# ------------------------------------------------------------------------------------------------------- fetching
@dataclass
class Server:
    """A server on this machine: what it sends, what it promises, and how often it was asked."""

    body: bytes = b""
    promised: int | None = None
    status: int = 200
    asked: int = 0
    url: str = field(default="")


@pytest.fixture
def server() -> Iterator[Server]:
    told = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked += 1
            self.send_response(told.status)
            self.send_header("Content-Length", str(len(told.body) if told.promised is None else told.promised))
            self.end_headers()
            if told.status == 200:
                self.wfile.write(told.body)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        told.url = f"http://127.0.0.1:{httpd.server_port}/{NAME}"
        yield told
        httpd.shutdown()
        thread.join()


def accept(file: Path, shown: Path) -> None:
    check_fit("vit-s8-dino", file, shown)


def run(*args: str) -> Any:
    return CliRunner().invoke(command, list(args))


def folder_is_empty(tmp_path: Path) -> bool:
    return not any((tmp_path / "weights").iterdir())


def test_fetch_checks_and_keeps(good: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.body = good.read_bytes()
    sha256 = files.sha256_file(good)
    publish(monkeypatch, url=server.url, sha256=sha256)
    steps: list[tuple[int, int]] = []
    entry = weights.entry("vit-s8-dino")
    path, actual = fetch.fetch(entry, accept=accept, progress=lambda *step: steps.append(step))
    assert path == tmp_path / "weights" / NAME and actual == sha256
    assert path.read_bytes() == server.body
    assert steps[-1] == (len(server.body), len(server.body))
    assert [p.name for p in path.parent.iterdir()] == [NAME]
    assert base.make_extractor("vit-s8-dino").weights_sha256 == sha256


def _cut(server: Server) -> None:
    server.promised = len(server.body)
    server.body = server.body[: len(server.body) // 2]


def _other(server: Server) -> None:
    server.body = server.body[:-1] + bytes([server.body[-1] ^ 1])


def _gone(server: Server) -> None:
    server.status, server.body = 404, b""


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (_cut, "weights.truncated", "of"),
        (_other, "weights.checksum", "SHA-256"),
        (_gone, "weights.fetch_failed", "404"),
    ],
)
def test_a_bad_download_leaves_nothing(
    good: Path,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Server], None],
    code: str,
    words: str,
) -> None:
    server.body = good.read_bytes()
    publish(monkeypatch, url=server.url, sha256=files.sha256_file(good))
    spoil(server)
    with pytest.raises(ModelError, match=words) as caught:
        fetch.fetch(weights.entry("vit-s8-dino"), accept=accept)
    assert caught.value.code == code
    assert folder_is_empty(tmp_path)


def test_a_page_instead_of_weights_is_not_kept_even_without_a_hash(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.body = b"<html>please log in</html>"
    publish(monkeypatch, url=server.url)
    with pytest.raises(ModelError, match=NAME) as caught:
        fetch.fetch(weights.entry("vit-s8-dino"), accept=accept)
    assert caught.value.code in ("weights.unreadable", "weights.unsafe")
    assert "partial" not in caught.value.message
    assert folder_is_empty(tmp_path)


def test_a_failed_download_leaves_the_old_file(
    good: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = put(good, tmp_path, "weights", NAME)
    server.body = b"other"
    publish(monkeypatch, url=server.url)
    with pytest.raises(ModelError):
        fetch.fetch(weights.entry("vit-s8-dino"), accept=accept)
    assert old.read_bytes() == good.read_bytes()


def test_no_server_and_no_encryption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, url="http://127.0.0.1:9/x.pth")
    with pytest.raises(ModelError) as caught:
        fetch.fetch(weights.entry("vit-s8-dino"), accept=accept)
    assert caught.value.code == "weights.fetch_failed" and "--from" in caught.value.hint
    for url in ("http://example.org/x.pth", "file:///etc/passwd"):
        publish(monkeypatch, url=url)
        with pytest.raises(ModelError, match="only https") as caught:
            fetch.fetch(weights.entry("vit-s8-dino"), accept=accept)
    assert folder_is_empty(tmp_path)


def test_a_full_disk(good: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.body = good.read_bytes()
    publish(monkeypatch, url=server.url)
    with monkeypatch.context() as patch:  # told before anything is written
        patch.setattr(fetch.shutil, "disk_usage", lambda _: fetch.shutil._ntuple_diskusage(10, 9, 1))
        with pytest.raises(StorageError) as caught:
            fetch.fetch(weights.entry("vit-s8-dino"), accept=accept)
        assert caught.value.code == "storage.disk_full"

    class Full:
        name = str(tmp_path / "weights" / NAME)

        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError) as caught:  # met while writing
        fetch._pour(good.open("rb").read, Full(), fetch.hashlib.sha256(), 0, lambda *_: None)  # type: ignore[arg-type]
    assert caught.value.code == "storage.disk_full"
    assert folder_is_empty(tmp_path)


def test_install_from_a_file(good: Path, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    result = run("fetch", "vit-s8-dino", "--from", str(good), "--json")
    told = json.loads(result.output)
    assert told["path"] == str(tmp_path / "weights" / NAME) and told["sha256"] == files.sha256_file(good)
    assert Path(told["path"]).read_bytes() == good.read_bytes()
    safe = tmp_path / "brought" / "model.safetensors"
    save_file(state, safe)
    told = json.loads(run("fetch", "vit-s8-dino", "--from", str(safe), "--json").output)
    assert Path(told["path"]).name == "vit_small_patch8_224.dino.safetensors"
    bad = _saved(state | {"norm.bias": torch.zeros(3)}, tmp_path)
    result = run("fetch", "vit-s8-dino", "--from", str(bad))
    assert isinstance(result.exception, ModelError) and str(bad) in result.exception.message
    assert len(list((tmp_path / "weights").iterdir())) == 2
    odd = put(good, tmp_path, "weights.zip")
    assert "needed" in str(run("fetch", "vit-s8-dino", "--from", str(odd)).exception)


# ------------------------------------------------------------------------------------------------------- commands
def test_fetch_downloads_once(good: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.body = good.read_bytes()
    publish(monkeypatch, url=server.url, sha256=files.sha256_file(good))
    first = run("fetch", "vit-s8-dino")
    assert first.exit_code == 0 and "is installed" in first.output and "Apache-2.0" in first.output
    second = run("fetch", "vit-s8-dino")
    assert second.exit_code == 0 and "already there" in second.output
    assert server.asked == 1
    Path(weights.find("vit-s8-dino").path).write_bytes(b"damaged")
    assert run("fetch", "vit-s8-dino").exit_code == 0  # what cannot be used is fetched anew
    assert run("fetch", "vit-s8-dino", "--overwrite").exit_code == 0
    assert server.asked == 3


def test_list_names_all_and_what_is_here(good: Path, tmp_path: Path) -> None:
    put(good, tmp_path, "weights", NAME)
    told = {row["id"]: row for row in json.loads(run("list", "--json").output)["weights"]}
    assert set(told) == set(weights.REGISTRY) <= set(base.EXTRACTORS)
    assert told["vit-s8-dino"]["path"].endswith(NAME) and told["point-mae"]["path"] is None
    text = run("list").output
    for row in told.values():
        assert row["url"] in text and row["licence"] in text


def test_check_reports_each_file(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = run("check")
    assert nothing.exit_code == 0 and nothing.output.count("not here") == len(weights.REGISTRY)
    asked_for = run("check", "vit-s8-dino", "--json")
    assert asked_for.exit_code == 11
    assert "Looked at" in json.loads(asked_for.output)["weights"][0]["message"]
    own = put(good, tmp_path, "weights", NAME)
    row = json.loads(run("check", "vit-s8-dino", "--json").output)["weights"][0]
    assert row["state"] == "fits (no hash is published)" and row["path"] == str(own)
    assert base.same_fingerprint(row["fingerprint"], base.make_extractor("vit-s8-dino").fingerprint())
    publish(monkeypatch, sha256=files.sha256_file(good))
    assert "as published" in run("check").output
    damaged = tmp_path / "brought" / "damaged.pth"
    damaged.write_bytes(good.read_bytes()[:-20])
    result = run("check", "vit-s8-dino", "--file", str(damaged))
    assert result.exit_code == 11 and "SHA-256" in result.output
    assert run("check", "--file", str(damaged)).exit_code == 2
    assert isinstance(run("check", "vit-z9").exception, ModelError)


def test_registry_says_what_a_user_needs() -> None:
    for entry in weights.REGISTRY.values():
        assert entry.licence and entry.citation and entry.title
        names = [file.name for file in entry.files]
        assert len(set(names)) == len(names)
        for file in entry.files:
            assert file.url.startswith("https://") and file.size_mb > 50
            assert file.sha256 is None or (len(file.sha256) == 64 and int(file.sha256, 16))
