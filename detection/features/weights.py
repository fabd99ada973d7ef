"""Weights of the pretrained networks: which there are, where their files may lie, and finding one without a network.

Nothing here downloads, and nothing stands in for weights that are not there: a network with random weights gives features
that look like features. What cannot be found is told with every place looked at and the commands that go on from there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rakelight import files
from rakelight.errors import ModelError

FOLDER_VARIABLE = "RAKELIGHT_WEIGHTS"
_DINO = (
    "Caron et al., Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021 (arXiv:2104.14294); "
    "code and weights: https://github.com/facebookresearch/dino"
)
_DINO_URL = "https://dl.fbaipublicfiles.com/dino"
_HUB_URL = "https://huggingface.co"


@dataclass(frozen=True)
class WeightsFile:
    """One file that holds a network's weights.

    ``name`` is its name in a weights folder and in torch's cache; ``hub`` its repository and name on the Hugging Face Hub, if
    it comes from there. ``size_mb`` is about right, in 10⁶ bytes. ``sha256`` is None where the publisher states none: the
    hash of the file used is recorded with every model instead.
    """

    name: str
    size_mb: float
    sha256: str | None
    url: str
    hub: tuple[str, str] | None = None


@dataclass(frozen=True)
class Weights:
    """A pretrained network's weights; any of ``files`` will do, the first is the one to fetch."""

    id: str
    title: str
    licence: str
    citation: str
    files: tuple[WeightsFile, ...]


@dataclass(frozen=True)
class Place:
    """Where a weights file may lie: its path, in words whose place that is, and which file it would be."""

    path: Path
    whose: str
    file: WeightsFile


def _hub_file(repository: str, size_mb: float) -> WeightsFile:
    name = repository.split("/")[1] + ".safetensors"
    url = f"{_HUB_URL}/{repository}/resolve/main/model.safetensors"
    return WeightsFile(name, size_mb, None, url, (repository, "model.safetensors"))


_ENTRIES = (
    Weights(
        "vit-b8-dino",
        "DINO ViT-B/8, ImageNet-1k without labels (the backbone of M3DM and D³M)",
        "Apache-2.0",
        _DINO,
        (
            WeightsFile(
                "dino_vitbase8_pretrain.pth",
                343.3,
                None,
                f"{_DINO_URL}/dino_vitbase8_pretrain/dino_vitbase8_pretrain.pth",
            ),
            _hub_file("timm/vit_base_patch8_224.dino", 343.2),
        ),
    ),
    Weights(
        "vit-s8-dino",
        "DINO ViT-S/8, ImageNet-1k without labels",
        "Apache-2.0",
        _DINO,
        (
            WeightsFile(
                "dino_deitsmall8_pretrain.pth",
                86.7,
                None,
                f"{_DINO_URL}/dino_deitsmall8_pretrain/dino_deitsmall8_pretrain.pth",
            ),
            _hub_file("timm/vit_small_patch8_224.dino", 86.7),
        ),
    ),
    Weights(
        "vit-s14-dinov2",
        "DINOv2 ViT-S/14, LVD-142M (distilled, without registers)",
        "Apache-2.0",
        "Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, TMLR 2024 (arXiv:2304.07193); "
        "code and weights: https://github.com/facebookresearch/dinov2",
        (
            WeightsFile(
                "dinov2_vits14_pretrain.pth",
                88.3,
                "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
                "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",
            ),
            _hub_file("timm/vit_small_patch14_dinov2.lvd142m", 88.2),
        ),
    ),
    Weights(
        "point-mae",
        "Point-MAE, pretrained on ShapeNet-55 (the point backbone of M3DM and D³M)",
        "MIT",
        "Pang et al., Masked Autoencoders for Point Cloud Self-supervised Learning, ECCV 2022 (arXiv:2203.06604); "
        "code and weights: https://github.com/Pang-Yatian/Point-MAE",
        (
            WeightsFile(
                "pointmae_pretrain.pth",
                348.3,
                "27ded932bb0a2625d5a8eb006df199b2578598c774aee6d86b985300b6a5fd20",
                "https://github.com/Pang-Yatian/Point-MAE/releases/download/main/pretrain.pth",
            ),
        ),
    ),
)
REGISTRY: dict[str, Weights] = {entry.id: entry for entry in _ENTRIES}


def entry(weights_id: str) -> Weights:
    """The entry of the registry; raises :class:`ModelError` ``weights.unknown`` naming those there are."""
    if weights_id not in REGISTRY:
        raise ModelError(
            f"no weights are known as {weights_id!r}: {', '.join(REGISTRY)}",
            hint="`rakelight detect weights list` tells more of each",
            code="weights.unknown",
        )
    return REGISTRY[weights_id]


def weights_folder() -> Path:
    """Where fetched weights are kept: $RAKELIGHT_WEIGHTS, or rakelight/weights in the user's cache."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named).expanduser()
    return _cache() / "rakelight" / "weights"


def places(weights: Weights) -> list[Place]:
    """Every place where a file of these weights is looked for, in that order."""
    own = (
        f"${FOLDER_VARIABLE}"
        if os.environ.get(FOLDER_VARIABLE)
        else f"rakelight's cache (${FOLDER_VARIABLE} is not set)"
    )
    found = [Place(weights_folder() / file.name, own, file) for file in weights.files]
    found += [Place(path, "Hugging Face cache", file) for file in weights.files for path in _hub_paths(file)]
    torch_hub = Path(os.environ.get("TORCH_HOME") or _cache() / "torch").expanduser() / "hub" / "checkpoints"
    return found + [Place(torch_hub / f.name, "torch hub cache", f) for f in weights.files if f.hub is None]


def find(weights_id: str, explicit: Path | None = None) -> Place:
    """The first place that has a file of these weights; its content is not looked at.

    An ``explicit`` path, of a file or of a folder that holds one under its registered name, is the only place looked at.
    Raises :class:`ModelError`: ``weights.unknown``; ``weights.missing``, listing all places, size, licence and what to do.
    """
    weights = entry(weights_id)
    looked_at = places(weights) if explicit is None else list(_explicit(weights, Path(explicit)))
    for place in looked_at:
        if place.path.is_file():
            return place
    raise missing(weights, looked_at)


def missing(weights: Weights, looked_at: list[Place]) -> ModelError:
    """The error that tells where weights were looked for and how to go on."""
    first = weights.files[0]
    lines = "".join(f"\n    {place.path} ({place.whose})" for place in looked_at)
    return ModelError(
        f"the weights {weights.id} ({weights.title}; about {first.size_mb:.0f} MB, licence {weights.licence}) are not on this "
        f"computer. Looked at:{lines}",
        hint=f"fetch them with `rakelight detect weights fetch {weights.id}`; without a network, get {first.url} elsewhere and "
        f"give it with `rakelight detect weights fetch {weights.id} --from FILE`; or go on without them: leave out "
        "--paper-features, and those that come with the installation are taken",
        code="weights.missing",
    )


def checked_sha256(place: Place) -> str:
    """SHA-256 of the file at ``place``; raises :class:`ModelError` ``weights.checksum`` if another one is published."""
    try:
        actual = files.sha256_file(place.path)
    except OSError as error:
        raise ModelError(
            f"{place.path} cannot be read: {error.strerror or error}",
            hint="check its permissions and the disk",
            code="weights.unreadable",
        ) from error
    if place.file.sha256 not in (None, actual):
        raise checksum_error(place.path, place.file, actual)
    return actual


def checksum_error(path: Path, file: WeightsFile, actual: str) -> ModelError:
    """The error for a file that is not the published one."""
    return ModelError(
        f"{path} is not the published {file.name}: its SHA-256 is {actual}, {file.sha256} is published",
        hint="it is damaged, or another version: remove it and fetch it again, `rakelight detect weights list` names the source",
        code="weights.checksum",
    )


def _explicit(weights: Weights, path: Path) -> Iterator[Place]:
    if path.is_dir():
        yield from (Place(path / file.name, "as told", file) for file in weights.files)
        return
    # A safetensors file cannot be the published .pth, nor the other way round; the name decides among several.
    alike = [f for f in weights.files if Path(f.name).suffix == path.suffix] or list(weights.files)
    yield Place(path, "as told", next((f for f in alike if f.name == path.name), alike[0]))


def _hub_paths(file: WeightsFile) -> list[Path]:
    """Where the Hugging Face cache keeps the file: the snapshot that ``main`` names first, then any other."""
    if file.hub is None:
        return []
    repository, name = file.hub
    home = os.environ.get("HF_HOME") or str(_cache() / "huggingface")
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or str(Path(home) / "hub")
    folder = Path(cache).expanduser() / ("models--" + repository.replace("/", "--"))
    snapshots = sorted(p for p in (folder / "snapshots").glob("*") if p.is_dir())
    main = folder / "refs" / "main"
    if main.is_file():
        named = folder / "snapshots" / main.read_text(encoding="utf-8", errors="replace").strip()
        snapshots.sort(key=lambda p: p != named)
    return [snapshot / name for snapshot in snapshots] or [folder / "snapshots" / "main" / name]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
