"""The packages are complete, in the wheel too, and can be imported under one name only."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGES: list[str] = PROJECT["tool"]["setuptools"]["packages"]
PACKAGE_DIR: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]
FOLDERS = sorted(path for path in PACKAGE_DIR.values() if "/" not in path)  # those at the top of the repository


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=300)


def run_well(*command: str | Path, cwd: Path) -> str:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, f"{command} said:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def packages_below(folder: Path, name: str) -> set[str]:
    """Names of the packages in ``folder``, without following the links that type checkers use."""
    found = set()
    for root, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if f != "__pycache__"]
        if "__init__.py" in files:
            found.add(".".join((name, *Path(root).relative_to(folder).parts)))
    return found


@pytest.fixture(scope="session")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the build reads, so that no build folder appears in (or leaks from) the work tree."""
    copy = tmp_path_factory.mktemp("source") / "rakelight"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore", ".gitattributes"):
        shutil.copy(ROOT / name, copy)
    for name in ("src", *FOLDERS):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="session")
def wheel(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel made the long way: source archive first, then the wheel from that archive alone."""
    out = tmp_path_factory.mktemp("wheel")
    run_well(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source_tree, cwd=out)
    (made,) = out.glob("*.whl")
    return made


def test_every_folder_with_an_init_is_a_listed_package() -> None:
    found: set[str] = set()
    for name, path in PACKAGE_DIR.items():
        found |= packages_below(ROOT / path, name)
    at_the_top = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert at_the_top == set(FOLDERS), "[tool.setuptools.package-dir] must map every folder with an __init__.py"
    assert found == set(PACKAGES), "[tool.setuptools] packages must list every folder with an __init__.py"


def test_links_for_type_checkers_lead_to_the_folders() -> None:
    links = {path.name: os.readlink(path) for path in (ROOT / "src/rakelight").iterdir() if path.is_symlink()}
    if not links:
        pytest.skip("this checkout has no symlinks (core.symlinks=false)")
    assert links == {name: f"../../{name}" for name in FOLDERS if name != "examples"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_is_refused_under_its_bare_name(folder: str) -> None:
    done = run(sys.executable, "-c", f"import {folder}", cwd=ROOT)
    assert done.returncode == 1
    assert f"ImportError: import rakelight.{folder} instead of {folder}" in done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_under_its_full_name(package: str) -> None:
    run_well(sys.executable, "-c", f"import {package}", cwd=ROOT)


def test_wheel_holds_every_module_and_example_and_nothing_else(wheel: Path, source_tree: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    info = next(name.split("/")[0] for name in names if name.endswith(".dist-info/METADATA"))
    assert {name.split("/")[0] for name in names} == {"rakelight", info}

    wanted = {"rakelight/py.typed"}
    for package in PACKAGES:
        parent = next(p for p in (package, *_parents(package)) if p in PACKAGE_DIR)
        folder = source_tree.joinpath(PACKAGE_DIR[parent], *package[len(parent) + 1 :].split("."))
        wanted |= {
            f"{package.replace('.', '/')}/{file.name}"
            for file in folder.iterdir()
            if file.suffix in (".py", ".c", ".h")
        }
    for file in (source_tree / "examples").rglob("*"):
        if file.is_file():
            wanted.add(f"rakelight/examples/{file.relative_to(source_tree / 'examples').as_posix()}")
    assert {name for name in names if not name.startswith(info)} == wanted


def test_wheel_carries_the_command_and_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        texts = {name.split("/", 1)[1]: name for name in archive.namelist() if ".dist-info/" in name}
        assert "rakelight = rakelight.cli:main" in archive.read(texts["entry_points.txt"]).decode()
        assert "Apache License" in archive.read(texts["licenses/LICENSE"]).decode()
        assert "License-Expression: Apache-2.0" in archive.read(texts["METADATA"]).decode()


def test_a_clone_without_symlinks_installs(source_tree: Path, tmp_path: Path) -> None:
    """What Git does on Windows: the links come out as small text files."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    origin, clone, target = tmp_path / "origin", tmp_path / "clone", tmp_path / "target"
    shutil.copytree(source_tree, origin, symlinks=True)
    run_well("git", "init", "-q", cwd=origin)
    run_well("git", "add", "-A", cwd=origin)
    run_well("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-qm", "all", cwd=origin)
    run_well("git", "clone", "-q", "-c", "core.symlinks=false", origin, clone, cwd=tmp_path)
    assert (clone / "src/rakelight/dataset").read_text() == "../../dataset"

    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation")
    run_well(*pip, "--target", target, clone, cwd=tmp_path)
    say_where = "import sys; sys.path.insert(0, sys.argv[1]); import rakelight.dataset as d; print(d.__file__)"
    where = run_well(sys.executable, "-I", "-c", say_where, target, cwd=tmp_path).strip()
    assert Path(where) == target / "rakelight/dataset/__init__.py"


def test_constraints_pin_what_is_needed_within_the_open_ranges() -> None:
    pins = _pins()
    assert pins["torch"] == "2.13.0"
    for requirement in _direct_requirements():
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(pin), f"{requirement} does not allow the pinned {pin}"


def test_constraints_pin_everything_that_gets_installed() -> None:
    """Walks the requirements of the requirements, as installed here."""
    waiting, seen, missing = _direct_requirements(), set(), set()
    pins = _pins()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            inner = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        # The CUDA packages of torch differ from machine to machine; the tested set is its CPU build.
        if name not in pins and not name.startswith(("nvidia-", "cuda-", "triton")):
            missing.add(name)
        for text in inner:
            child = Requirement(text)
            extras = requirement.extras or {""}
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(child)
    assert not missing, f"constraints.txt does not pin {sorted(missing)}"


def _parents(package: str) -> list[str]:
    parts = package.split(".")
    return [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def _direct_requirements() -> list[Requirement]:
    project = PROJECT["project"]
    return [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["dev"]]
