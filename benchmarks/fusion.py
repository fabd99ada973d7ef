"""What the fusion of positions and normals gains: rms error of depth against the truth, before and after.

The simulated matte knob cap (one of the products, as it lies) under the reference rig's four zones: normals of the second
photometric pass on real-looking frames; depth = truth + noise of 2 µm, white from pixel to pixel, or correlated over some px as
interpolation and fringes leave it (same rms). Prints one JSON object; there is no bar.

    python benchmarks/fusion.py [--widths 456 1368]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from second_pass import SIGMA_Z_MM, known, light_stack

from rakelight.acquisition.simulator import truth
from rakelight.acquisition.simulator.products.catalogue import PRODUCTS
from rakelight.acquisition.simulator.rig import reference_rig
from rakelight.acquisition.simulator.scene import Scene
from rakelight.pipeline.second_pass import second_pass
from rakelight.pipeline.truth import normal_error_deg, smooth_areas
from rakelight.reconstruction.fusion import Settings, correct_normals, fuse
from rakelight.reconstruction.photometric import Flag
from rakelight.reconstruction.triangulation import xyz_from_depth

PRODUCT = "knob_cap"
CORRELATED_PX = 3.0
Bool = NDArray[np.bool_]


def rms_um(z: NDArray[np.float32], true: NDArray[np.float32], where: Bool) -> float:
    return round(float(np.sqrt(np.nanmean((z[where].astype(np.float64) - true[where]) ** 2)) * 1000), 3)


def noises(shape: tuple[int, int]) -> dict[str, NDArray[np.float32]]:
    """Two fields of the same rms, mm."""
    white = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    smooth = cv2.GaussianBlur(white, (0, 0), CORRELATED_PX)
    return {
        "white": white * np.float32(SIGMA_Z_MM),
        "correlated": np.asarray(smooth * np.float32(SIGMA_Z_MM / smooth.std())),
    }


def measure(width: int) -> dict[str, Any]:
    """Figures at one size."""
    rig = reference_rig(width)
    product = PRODUCTS[PRODUCT]
    scene = Scene(product.build(np.random.default_rng(0), frozenset()), rig)
    calibration = truth.rig_calibration(rig, white_height_mm=product.height_mm / 2)
    camera, plane = calibration.camera, calibration.table_plane
    assert camera is not None and plane is not None
    stack, facts = light_stack(scene, calibration, 1), known(scene)
    smooth, xyz = smooth_areas(facts), truth.xyz_camera(scene.surface, rig)
    true = np.ascontiguousarray(xyz[..., 2])
    true[~facts.mask] = np.nan
    result: dict[str, Any] = {"smooth_pixels": int(smooth.sum()), "part_pixels": int(facts.mask.sum())}
    for name, noise in noises(facts.mask.shape).items():
        z = true + noise
        solved = second_pass(stack, calibration, camera, plane, xyz_from_depth(z, camera))
        assert solved is not None
        normals = solved.normals.copy()
        normals[solved.flags & int(Flag.WEAK | Flag.NOT_SOLVABLE | Flag.OUTLIER) > 0] = np.nan
        sigma = np.full_like(z, SIGMA_Z_MM)
        corrected = correct_normals(normals, xyz_from_depth(z, camera))
        result[name] = {
            "normals_deg": round(float(np.nanmean(normal_error_deg(normals, facts)[smooth])), 3),
            "normals_corrected_deg": round(float(np.nanmean(normal_error_deg(corrected, facts)[smooth])), 3),
            "before_um": {"smooth": rms_um(z, true, smooth), "part": rms_um(z, true, facts.mask)},
            "after_um": {},
        }
        for settings in (
            Settings(),
            Settings(smoothing_px=0),
            Settings(position_weight=0.1),
            Settings(position_weight=10),
            Settings(smoothing_px=4),
        ):
            start = time.perf_counter()
            fused = fuse(z, sigma, normals, camera, settings)
            result[name]["after_um"][f"λ {settings.position_weight:g}, smoothing {settings.smoothing_px:g} px"] = {
                "smooth": rms_um(fused.z_mm, true, smooth),
                "part": rms_um(fused.z_mm, true, facts.mask),
                "steps": fused.steps,
                "held": fused.held,
                "seconds": round(time.perf_counter() - start, 3),
            }
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[456, 1368])
    arguments = parser.parse_args()
    sizes = {str(width): measure(width) for width in arguments.widths}
    found = {"benchmark": "fusion", "product": PRODUCT, "sigma_z_um": SIGMA_Z_MM * 1000, "widths": sizes}
    print(json.dumps(found, indent=2, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
