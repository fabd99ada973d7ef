"""Real phase shift of SLStudio under its author's calibration: how flat boards become, and a skull against his point cloud.

Boards: five poses of a chessboard, decoded (2×3 phase shifts, columns) and triangulated; a plane is fitted to all valid pixels
between the outer corners. ``rms_mm`` of the distances from it holds noise (3 steps of a 114 px period) and calibration; the bar
is the upper end of the range in the recording's SOURCE.md.

Skull: plain Gray code (stripes of 2 px, taken at their middle), depth against the author's organised points at the same pixel.
He keeps the pixels beside the edges of stripes and calls them by the edge: half a stripe is 0.3 mm of depth. The distance in
space is told too; it holds that his points lie up to a pixel beside the rays of theirs. Counts and agreement of the three
codes of the skull are in benchmarks/decoding.py.

Prints one JSON object; exits 1 when a bar is missed, 2 when the recording is not there.

    python benchmarks/skull.py [--data FOLDER]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rakelight.reconstruction import triangulation
from rakelight.reconstruction.decoding import Decoded, decode, decode_gray
from rakelight.reconstruction.models import PinholeCamera, Projector
from rakelight.reconstruction.patterns import MultiFrequency, PatternSet

DATA = Path(__file__).resolve().parents[1] / "../shared/data/structured-light/slstudio-phase-shift"
PATTERNS = PatternSet(
    1820, 1140, MultiFrequency(3, (114.0, 1824.0))
)  # 1824 px would be a whole period of the coarse one
ORDER = (0, 2, 1, 3, 5, 4)  # his steps go by −2πk/3
CORNERS = (13, 9)
POSES = (1, 3, 4, 5, 6)
BARS = {
    "worst_board_rms_mm": ("at most", 0.30),
    "worst_board_robust_mm": ("at most", 0.26),
    "least_board_valid": ("at least", 0.95),
    "skull_depth_median_mm": ("at most", 0.29),
    "skull_within_2mm": ("at least", 0.98),
}


def calibration(path: Path) -> tuple[PinholeCamera, Projector]:
    """The author's; his rotation, kept in single precision, is made orthogonal again."""
    store = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)

    def of(name: str) -> NDArray[np.float64]:
        return np.asarray(store.getNode(name).mat(), np.float64)

    def lens(k: NDArray[np.float64], distortion: NDArray[np.float64]) -> tuple[Any, ...]:
        return k[0, 0], k[1, 1], k[0, 2], k[1, 2], tuple(distortion.ravel())

    size = [int(store.getNode(name).real()) for name in ("frameWidth", "frameHeight", "screenResX", "screenResY")]
    left, _, right = np.linalg.svd(of("Rp"))
    camera = PinholeCamera(*size[:2], *lens(of("Kc"), of("kc")))
    return camera, Projector(1, *size[2:], *lens(of("Kp"), of("kp")), left @ right, of("Tp").ravel())


def load(folder: Path, order: Iterable[int]) -> NDArray[np.uint8]:
    return np.stack([np.asarray(Image.open(folder / f"{i:02d}.png").convert("L")) for i in order])


def board(frames: NDArray[np.uint8], camera: PinholeCamera, projector: Projector) -> dict[str, Any]:
    """How flat the board is between its outer corners."""
    phase = decode(frames, PATTERNS, full_scale=255)
    inside = between_corners(phase)
    z, _ = triangulation.triangulate(phase.coordinate, phase.sigma_px, camera, projector)
    points = triangulation.xyz_from_depth(z, camera)[inside & np.isfinite(z)].astype(np.float64)
    centre = points.mean(axis=0)
    away = (points - centre) @ np.linalg.eigh(np.cov(points.T))[1][:, 0]
    return {
        "pixels": len(points),
        "valid": len(points) / int(inside.sum()),
        "distance_mm": float(centre[2]),
        "rms_mm": float(away.std()),
        "robust_mm": float(1.4826 * np.median(np.abs(away - np.median(away)))),
    }


def between_corners(phase: Decoded) -> NDArray[np.bool_]:
    """Pixels between the outermost inner corners, found on the modulation: it shows the squares in even light."""
    picture = cv2.normalize(phase.modulation, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    found, corners = cv2.findChessboardCornersSB(picture, CORNERS)
    if not found:
        raise SystemExit("no chessboard found on a pose; are these the recordings of slstudio?")
    grid = np.reshape(corners, (CORNERS[1], CORNERS[0], 2))
    outline = np.rint(grid[[0, 0, -1, -1], [0, -1, -1, 0]]).astype(np.int32)
    return np.asarray(cv2.fillConvexPoly(np.zeros(picture.shape, np.uint8), outline, 1) > 0)


def skull(data: Path, camera: PinholeCamera, projector: Projector) -> dict[str, Any]:
    """Depths against the author's."""
    with np.load(data / "upstream_skull_gray_xyz.npz") as arrays:
        theirs = arrays["xyz"]
    frames = load(data / "skull_gray", range(12))
    gray = decode_gray(frames[2:], threshold=frames[:2].mean(axis=0), least_margin_dn=4, least_contrast_dn=15)
    column = np.where(gray.valid, 2 * gray.word + 0.5, np.nan).astype(np.float32)
    z, _ = triangulation.triangulate(column, np.full_like(column, 12**-0.5 * 2), camera, projector)
    both = np.isfinite(z) & np.isfinite(theirs[..., 2])
    apart = (z - theirs[..., 2])[both]
    distance = np.linalg.norm(triangulation.xyz_from_depth(z, camera) - theirs, axis=-1)[both]
    return {
        "skull_points_of_the_author": int(np.isfinite(theirs[..., 2]).sum()),
        "skull_pixels_in_both": int(both.sum()),
        "skull_depth_median_mm": float(np.median(np.abs(apart))),
        "skull_depth_p90_mm": float(np.percentile(np.abs(apart), 90)),
        "skull_depth_bias_mm": float(np.median(apart)),
        "skull_within_2mm": float((np.abs(apart) < 2).mean()),
        "skull_distance_in_space_median_mm": float(np.median(distance)),
    }


def figures(data: Path) -> dict[str, Any]:
    """All of them."""
    camera, projector = calibration(data / "upstream_calibration.xml")
    crops = json.loads((data / "meta.json").read_text())["crops"]
    boards = {n: board(load(data / f"pose_{n}", ORDER), camera.window(*crops[f"pose_{n}"]), projector) for n in POSES}
    return {
        "boards": {f"pose_{n}": found for n, found in boards.items()},
        "worst_board_rms_mm": max(found["rms_mm"] for found in boards.values()),
        "worst_board_robust_mm": max(found["robust_mm"] for found in boards.values()),
        "least_board_valid": min(found["valid"] for found in boards.values()),
        **skull(data, camera.window(*crops["skull"]), projector),
    }


def missed(found: dict[str, Any]) -> list[str]:
    """Names of the bars that are not met; NaN meets none."""
    met = {"at most": lambda value, bar: value <= bar, "at least": lambda value, bar: value >= bar}
    return [name for name, (how, bar) in BARS.items() if not met[how](found[name], bar)]


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def main() -> int:
    """Measure and print; 1 when a bar is missed, 2 when there is nothing to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=DATA, help="folder of the recording (default: beside the repository)"
    )
    args = parser.parse_args()
    if not args.data.is_dir():
        print(json.dumps({"benchmark": "skull", "skipped": f"{args.data.name} is not there; give --data"}))
        return 2
    found = figures(args.data)
    result = {
        "benchmark": "skull",
        **rounded(found),
        "bars": {name: f"{how} {bar}" for name, (how, bar) in BARS.items()},
    }
    print(json.dumps(result | {"missed": missed(found)}, indent=2, ensure_ascii=False))
    return 1 if missed(found) else 0


if __name__ == "__main__":
    sys.exit(main())
