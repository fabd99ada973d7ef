"""What a detector gets of one part, still as it was captured: pictures, points and masks at their own sizes.

The pixels of the whole are those of the RGB picture (of the first other map where there is none); maps of another size show the
same field. Which modalities there are is what the manifest says, never guessed from the content of the arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.dataset.opened import OpenSample
from rakelight.errors import DatasetError, InputError

Modality = Literal["rgb", "ps", "xyz"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
ROLES: dict[Modality, str] = {"rgb": "RGBL05", "ps": "PS", "xyz": "XYZ"}
_FEW_VALUES = 3  # x or y of a map with no more distinct values are no coordinates (Real-IAD D³ as released)


@dataclass(frozen=True, eq=False)
class Native:
    """One part as captured.

    Attributes
    ----------
    key, specimen, label : str
        ``label`` is ``"OK"``, the defect's name, or ``""`` where nobody knows.
    size : (H, W)
        Of the field that the native pixels count.
    rgb, ps : (h, w, 3) uint8, optional
    xyz : (h, w, 3) float32, optional
        mm, camera frame, a pixel NaN in all three coordinates or in none.
    mask : (H, W) bool, optional
        The part; None: to be found (:mod:`rakelight.detection.foreground`).
    defect : (H, W) uint8, optional
        0 and 255.
    pitch_mm : float, optional
        Spacing of native pixels on the part.
    ps_encoding : str
        ``"normals"`` (round(127.5·(n + 1)), viewer frame), ``"relief"``, ``"curvature"``, or ``""`` where not known.
    facts : dict
        What was found or mended while reading.
    """

    key: str
    specimen: str
    label: str
    size: tuple[int, int]
    rgb: NDArray[np.uint8] | None = None
    ps: NDArray[np.uint8] | None = None
    xyz: NDArray[np.float32] | None = None
    mask: NDArray[np.bool_] | None = None
    defect: NDArray[np.uint8] | None = None
    pitch_mm: float | None = None
    ps_encoding: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def available(self) -> frozenset[Modality]:
        return frozenset(m for m in MODALITIES if getattr(self, m) is not None)


def read_native(sample: OpenSample, available: frozenset[Modality] | None = None) -> Native:
    """A sample's pictures, points and masks.

    Parameters
    ----------
    sample : OpenSample
    available : set of modalities, optional
        Use no others (as if they had not been captured).

    Raises
    ------
    DatasetError
        ``dataset.damaged``; ``detect.no_modality`` when none is left; ``detect.mask_size``; ``detect.xyz_empty``.
    """
    manifest = sample.manifest
    use = [m for m in MODALITIES if ROLES[m] in sample.modalities and (available is None or m in available)]
    return make_native(
        str(sample.key),
        rgb=sample.rgb() if "rgb" in use else None,
        ps=sample.ps() if "ps" in use else None,
        xyz=sample.xyz() if "xyz" in use else None,
        mask=sample.part_mask(),
        defect=sample.mask(),
        specimen=manifest.specimen,
        label=manifest.label,
        pitch_mm=manifest.pitch_mm,
        xyz_xy=manifest.xyz_xy,
        ps_encoding=str(manifest.source.settings.get("ps") or ""),
    )


def make_native(
    key: str,
    *,
    rgb: NDArray[np.uint8] | None = None,
    ps: NDArray[np.uint8] | None = None,
    xyz: NDArray[np.float32] | None = None,
    mask: NDArray[np.bool_] | None = None,
    defect: NDArray[np.uint8] | None = None,
    specimen: str = "",
    label: str = "",
    pitch_mm: float | None = None,
    xyz_xy: str | None = "true",
    ps_encoding: str = "",
) -> Native:
    """Check what was captured and mend points whose x and y are none; see :class:`Native` for shapes and units.

    ``xyz_xy`` is what x and y hold, as in a sample's manifest. Raises as :func:`read_native`, and :class:`InputError` for arrays
    of another kind.
    """
    for name, picture in (("RGB picture", rgb), ("pseudo-3D picture", ps)):
        if picture is not None:
            check_array(f"{key}: {name}", picture, shape=(None, None, 3), dtypes=("uint8",))
    if xyz is not None:
        check_array(f"{key}: XYZ map", xyz, shape=(None, None, 3), dtypes=("float32", "float64"))
    if pitch_mm is not None and not 0 < pitch_mm < 1e3:
        raise InputError(f"{key}: pitch {pitch_mm} mm; must be above 0 and below 1000", code="input.range")
    first = next((a for a in (rgb, ps, xyz) if a is not None), None)
    if first is None:
        raise DatasetError(
            f"{key} has none of the modalities {', '.join(MODALITIES)} that are to be used",
            hint="see `rakelight dataset show`, or capture the sample again",
            code="detect.no_modality",
        )
    size = (int(first.shape[0]), int(first.shape[1]))
    for name, found in (("part mask", mask), ("defect mask", defect)):
        if found is not None and found.shape != size:
            raise DatasetError(
                f"{key}: the {name} has {_text(found.shape)} pixels, the picture {_text(size)}; both must show the same pixels",
                hint="draw it on the RGBL05 picture, or run `rakelight dataset verify`",
                code="detect.mask_size",
            )
    facts: dict[str, Any] = {}
    if xyz is not None:
        xyz = _mend(key, np.asarray(xyz, np.float32), size, pitch_mm, xyz_xy, facts)
        pitch_mm = pitch_mm or facts.get("pitch_found_mm")
    return Native(
        key,
        specimen or key,
        label,
        size,
        rgb,
        ps,
        xyz,
        None if mask is None else np.asarray(mask, np.bool_),
        defect,
        pitch_mm,
        ps_encoding,
        facts,
    )


def _mend(
    key: str,
    xyz: NDArray[np.float32],
    size: tuple[int, int],
    pitch_mm: float | None,
    xyz_xy: str | None,
    facts: dict[str, Any],
) -> NDArray[np.float32]:
    """NaN where a pixel is not wholly measured; x and y computed where the map has placeholders; all said in ``facts``."""
    bad = ~np.isfinite(xyz).all(axis=2) | (xyz == 0).all(
        axis=2
    )  # 0 0 0 is the camera's centre: "nothing" in other formats
    if bad.all():
        raise DatasetError(
            f"{key}: its XYZ map holds no measured point ({_text(xyz.shape[:2])} pixels, all NaN or 0)",
            hint="reconstruct or import the sample again, or leave its XYZ out",
            code="detect.xyz_empty",
        )
    xyz = np.where(bad[..., None], np.float32(np.nan), xyz)
    no_coordinates = xyz_xy in ("placeholder", "pixel_index") or (xyz_xy != "true" and _constant(xyz[~bad]))
    if no_coordinates:
        height, width = xyz.shape[:2]
        step = np.float32((pitch_mm or 1.0) * size[1] / width)
        xyz[..., 0] = np.where(bad, np.nan, (np.arange(width) - (width - 1) / 2) * step)
        xyz[..., 1] = np.where(bad, np.nan, ((np.arange(height) - (height - 1) / 2) * step)[:, None])
    elif pitch_mm is None:
        steps = np.abs(np.diff(xyz[::4, :, 0], axis=1))
        if np.isfinite(steps).any():
            facts["pitch_found_mm"] = float(np.nanmedian(steps)) * xyz.shape[1] / size[1] or None
    facts["xyz_xy"] = ("pixel index" if pitch_mm is None else "from the pitch") if no_coordinates else "as measured"
    facts["xyz_unit"] = "x and y in pixels, z in mm" if no_coordinates and pitch_mm is None else "mm"
    return xyz


def _constant(points: NDArray[np.float32]) -> bool:
    """Whether x or y of (n, 3) points take no more than a few values."""
    few = points[:: max(1, len(points) // 100_000)]
    return any(len(np.unique(few[:, axis])) <= _FEW_VALUES for axis in (0, 1)) and len(few) > 100


def _text(shape: tuple[int, ...]) -> str:
    return "×".join(str(n) for n in shape[:2][::-1])
