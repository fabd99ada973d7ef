"""Accuracy of corners and camera calibration: on the simulated rig against its truth, and on the real sets.

Prints one JSON object: scatter and bias of the corners beside those of OpenCV's detector and ``cornerSubPix``; the camera
from 12 tilted ChArUco boards against the true one, and what is left of its errors in lengths and heights; camera errors
of the two real sets. Bars: corners 0.03 px rms without those the simulator's sampling snaps (``usual``: 1.2 × median) and
0.01 px of bias; focal length within 4 standard errors; procam 0.35 px, slstudio 0.30 px.

    python benchmarks/camera_calibration.py [--width 1368] [--poses 12] [--recordings FOLDER] [--data FOLDER]

``--recordings`` keeps the simulated recordings for the next run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition.simulator.targets import board_corners
from rakelight.calibration._board_search import search
from rakelight.calibration.boards import Board
from rakelight.calibration.camera_solve import CameraSolution, solve_camera
from rakelight.calibration.corners import find_corners, grey_of
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.calibration.views import View
from rakelight.dataset.recording import Recording
from rakelight.pipeline.simulate import Settings, simulate
from rakelight.reconstruction.models import PinholeCamera

ROOT = Path(__file__).resolve().parents[1]
TABLE_MM = 200.0
FloatArray = NDArray[np.float64]


def frame_and_truth(folder: Path, seed: int, width: int) -> tuple[NDArray[np.float32], FloatArray, PinholeCamera]:
    """The frame under all lights, grey; the true corners; the true camera."""
    if not (folder / "truth" / "truth.json").is_file():
        simulate(
            "charuco", folder, seed=seed, settings=Settings(width=width, pattern_set=None), overwrite=folder.exists()
        )
    recording = Recording.open(folder)
    image = grey_of(recording.read(next(recording.shots("all_zones"))), recording.bayer)
    pose = json.loads((folder / "truth" / "truth.json").read_text())["pose"]
    camera = RigCalibration.load(folder / "truth" / "calibration").camera
    assert isinstance(camera, PinholeCamera)
    on_table = board_corners("charuco")[1] @ np.array(pose["rotation"]).T + np.array(pose["shift_mm"])
    return image, camera.project(on_table * [1, -1, -1] + [0, 0, TABLE_MM]), camera


def scatter(errors: list[FloatArray]) -> dict[str, float]:
    e = np.concatenate(errors)
    away = np.linalg.norm(e, axis=1)
    return {
        "corners": len(e),
        "rms_px": float(np.sqrt((away**2).mean())),
        "usual_px": float(1.2 * np.median(away)),  # rms of a normal scatter with that median
        "bias_px": float(np.abs(np.median(e, axis=0)).max()),
        "largest_px": float(away.max()),
    }


def simulated(width: int, poses: int, keep: Path) -> dict[str, Any]:
    board = Board()
    errors: dict[str, list[FloatArray]] = {"ours": [], "opencv_detector": [], "opencv_corner_sub_pix": []}
    views, seconds = [], 0.0
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-4)
    for seed in range(poses):
        image, true, camera = frame_and_truth(keep / f"charuco_{width}_{seed}", seed, width)
        start = time.perf_counter()
        corners = find_corners(image, board)
        seconds += time.perf_counter() - start
        views.append(View(f"pose_{seed:02d}", corners.ids, corners.uv, {}, corners.sharpness_px, image.shape[::-1]))
        errors["ours"].append(corners.uv - true[corners.ids])
        ids, uv = search(image, board)
        errors["opencv_detector"].append(uv - true[ids])
        eight = np.clip(image * (255 / np.quantile(image, 0.998)), 0, 255).astype(np.uint8)
        theirs = cv2.cornerSubPix(eight, uv.astype(np.float32).reshape(-1, 1, 2), (5, 5), (-1, -1), stop)
        errors["opencv_corner_sub_pix"].append(theirs.reshape(-1, 2) - true[ids])
    start = time.perf_counter()
    solution = solve_camera(views, board, image.shape[::-1])
    solved = time.perf_counter() - start
    return {
        "width": width,
        "poses": poses,
        "corners": {name: scatter(e) for name, e in errors.items()},
        "seconds": {"corners_a_pose": round(seconds / poses, 2), "solve": round(solved, 2)},
        "camera": against_truth(solution, camera),
        "metric": metric(solution, camera),
    }


def figures(solution: CameraSolution) -> dict[str, Any]:
    return {
        "rms_px": solution.rms_px,
        "held_out_rms_px": solution.held_out_rms_px,
        "held_out_by_terms_px": solution.held_out_by_terms,
        "terms": list(solution.distortion_terms),
        "kept": float(np.concatenate(solution.kept).mean()),
        "coverage": solution.coverage,
        "standard_errors": solution.standard_errors,
        "rejected": list(solution.rejected),
        "warnings": list(solution.warnings),
    }


def against_truth(solution: CameraSolution, true: PinholeCamera) -> dict[str, Any]:
    camera = solution.camera
    assert isinstance(camera, PinholeCamera)
    v, u = np.mgrid[0 : true.height : 40, 0 : true.width : 40].astype(np.float64)
    pixels = np.stack([u.ravel(), v.ravel()], axis=-1)
    rays = true.rays(pixels)[1]
    shift = camera.project(rays) - pixels
    return figures(solution) | {
        "errors": {name: getattr(camera, name) - getattr(true, name) for name in ("fx", "fy", "cx", "cy")},
        "true_distortion": list(true.distortion),
        "distortion": list(camera.distortion),
        # a shift of the principal point is a turn of the camera, which nothing measured notices
        "rays_apart_after_turn_px": float(np.sqrt(((shift - shift.mean(axis=0)) ** 2).sum(axis=1).mean())),
    }


def metric(solution: CameraSolution, true: PinholeCamera) -> dict[str, float]:
    """Two boards lying 10 mm above one another, seen without noise by the true camera, measured by the one found."""
    camera = solution.camera
    assert isinstance(camera, PinholeCamera)
    xyz = Board().corners_mm - [20.0, 14.0, 0.0]
    at = []
    for distance in (TABLE_MM, TABLE_MM - 10.0):
        uv = true.project(xyz + np.array([0.0, 0.0, distance]))
        # IPPE gives the pose of a flat board in closed form; the second step is least squares
        _, turn, shift = cv2.solvePnP(xyz, uv, camera.matrix, np.array(camera.distortion), flags=cv2.SOLVEPNP_IPPE)
        turn, shift = cv2.solvePnPRefineLM(xyz, uv, camera.matrix, np.array(camera.distortion), turn, shift)
        at.append(xyz @ cv2.Rodrigues(turn)[0].T + shift.ravel())
    relative = solution.standard_errors["fx"] / camera.fx
    return {
        "focal_length_relative_error": camera.fx / true.fx - 1,
        "focal_length_relative_standard_error": relative,
        "distance_error_um": 1e3 * float(at[0][:, 2].mean() - TABLE_MM),
        "height_10_mm_error_um": 1e3 * float((at[0] - at[1])[:, 2].mean() - 10.0),
        "height_10_mm_standard_error_um": 1e4 * relative,
    }


def grey(path: Path) -> NDArray[np.float32]:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise FileNotFoundError(path)
    return image.astype(np.float32)


def modulation(folder: Path) -> NDArray[np.float32]:
    a, b, c = (grey(folder / f"{k:02d}.png") for k in range(3))
    return np.asarray(np.sqrt(3 * (b - c) ** 2 + (2 * a - b - c) ** 2) / 3, np.float32)


def real(data: Path) -> dict[str, Any]:
    sets = {
        "procam-graycode-chessboard": (Board.chessboard((10, 8), 75.0), lambda folder: grey(folder / "40.png"), 0.35),
        "slstudio-phase-shift": (Board.chessboard((14, 10), 10.0), modulation, 0.30),
    }
    out: dict[str, Any] = {}
    for name, (board, picture, bar) in sets.items():
        folder = data / name
        if not (folder / "meta.json").is_file():
            out[name] = {"absent": str(folder)}
            continue
        meta = json.loads((folder / "meta.json").read_text())
        views = []
        for pose, crop in meta["crops"].items():
            if pose.startswith("pose"):
                corners = find_corners(picture(folder / pose), board)
                views.append(View(pose, corners.ids, corners.uv + np.array(crop[:2]), {}, corners.sharpness_px))
        solution = solve_camera(views, board, tuple(meta["camera_size"]))
        out[name] = figures(solution) | {"fx": getattr(solution.camera, "fx", None), "bar_px": bar}
        out[name]["passed"] = solution.rms_px <= bar
    return out


def passed(out: dict[str, Any]) -> bool:
    ours, camera = out["simulated"]["corners"]["ours"], out["simulated"]["camera"]
    close = abs(camera["errors"]["fx"]) <= 4 * camera["standard_errors"]["fx"]
    sets = all(found.get("passed", True) for found in out["real"].values())
    return bool(ours["usual_px"] <= 0.03 and ours["bias_px"] <= 0.01 and close and sets)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--width", type=int, default=1368)
    parser.add_argument("--poses", type=int, default=12)
    parser.add_argument("--recordings", type=Path)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data/structured-light")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        keep = arguments.recordings or Path(scratch)
        out: dict[str, Any] = {
            "benchmark": "camera_calibration",
            "simulated": simulated(arguments.width, arguments.poses, keep),
            "real": real(arguments.data),
        }
    out["passed"] = passed(out)
    print(json.dumps(out, indent=2))
    return 0 if out["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
