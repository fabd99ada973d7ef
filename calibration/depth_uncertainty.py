"""What the calibration's own uncertainty does to depth, over the field and by direction.

A point X is where a pixel's ray meets the sheet of a column: F(X, θ) = (u, v, column) as seen. With small changes of the parameters
θ the point moves by δX = −(∂F/∂X)⁻¹ (∂F/∂θ) δθ; with their covariance Σ the variance of z is J Σ Jᵀ, J the row of z. Errors
that all directions share (the camera's) stay in their mean, others average out: covariances are propagated together.

Source: JCGM 100:2008, "Guide to the expression of uncertainty in measurement", 5.2 (correlated input quantities).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rakelight.calibration._bundle_model import FloatArray, lens_columns, pose_columns, see
from rakelight.calibration.bundle import RigSolution
from rakelight.errors import InputError
from rakelight.reconstruction.models import PinholeCamera, Plane

__all__ = ["DepthUncertainty", "depth_uncertainty", "measured_table", "summary_um"]


@dataclass(frozen=True, eq=False)
class DepthUncertainty:
    """Standard deviations on a coarse grid of the picture; the last layer is the mean of all directions.

    Attributes
    ----------
    uv : (R, C, 2)
        Camera px of the nodes.
    directions : tuple of int
        D; every map has D + 1 layers.
    depth_mm : (D + 1, R, C)
        σ of z on the table. Most of it is a shift of the whole scene, since focal length and distance nearly trade off.
    flatness_mm : (D + 1, R, C)
        σ that is left on the table when the plane that is measured there is taken off.
    height_mm : (D + 1, R, C)
        σ of the height of a surface ``above_mm`` over the table that is measured with the same calibration.
    above_mm : float
    """

    uv: FloatArray
    directions: tuple[int, ...]
    depth_mm: FloatArray
    flatness_mm: FloatArray
    height_mm: FloatArray
    above_mm: float


def measured_table(solution: RigSolution) -> Plane:
    """A plane at right angles to the sight through the middle of the boards: where no table was measured."""
    fitted, camera = solution.fitted, solution.camera
    direction = np.array([0.0, 0.0, 1.0]) if isinstance(camera, PinholeCamera) else camera.direction
    used = np.isfinite(solution.translations_mm).all(axis=1)
    centre = fitted.state.shifts[fitted.observed.devices - 1 :][used].mean(axis=0)
    return Plane(-direction, float(-direction @ centre))


def depth_uncertainty(
    solution: RigSolution, table: Plane | None = None, *, above_mm: float = 8.0, grid: tuple[int, int] = (9, 13)
) -> DepthUncertainty:
    """Propagate the covariance of a rig solution to depth by column.

    Parameters
    ----------
    table : Plane, optional
        Default: :func:`measured_table`.
    above_mm : float
        Height for which ``height_mm`` is told.
    grid : (rows, columns)

    Raises
    ------
    InputError
        ``input.value``: a grid below 3×3, or no projectors.
    """
    if min(grid) < 3 or not solution.projectors:
        raise InputError(
            f"grid {grid} with {len(solution.projectors)} projectors; allowed: 3×3 or more, 1 projector or more",
            code="input.value",
        )
    plane = table or measured_table(solution)
    camera = solution.camera
    v, u = (np.linspace(0, n - 1, k) for n, k in zip((camera.height, camera.width), grid, strict=True))
    uv = np.stack(np.meshgrid(u, v), axis=-1)
    origins, directions = camera.rays(uv.reshape(-1, 2))
    on_table = plane.intersect(origins, directions)
    raised = Plane(plane.normal, plane.offset_mm + above_mm).intersect(origins, directions)
    half = np.linalg.cholesky(_definite(solution.fitted.covariance))
    depth, flat, height = [], [], []
    low, high = (_moves(solution, xyz) for xyz in (on_table, raised))
    design = np.column_stack([np.ones(len(on_table)), on_table[:, :2]])
    smooth = design @ np.linalg.pinv(design)
    count = len(solution.projectors)
    for layer in [*([k] for k in range(count)), list(range(count))]:
        below, above = (m[layer].mean(axis=0) @ half for m in (low, high))
        depth.append(np.linalg.norm(below[:, 2], axis=-1))
        at, over = (np.einsum("nif,i->nf", m, plane.normal) for m in (below, above))
        flat.append(np.linalg.norm(at - smooth @ at, axis=-1))
        height.append(np.linalg.norm(over - smooth @ at, axis=-1))
    shape = (-1, *grid)
    maps = [np.reshape(m, shape) for m in (depth, flat, height)]
    numbers = tuple(p.direction for p in solution.projectors)
    return DepthUncertainty(uv, numbers, maps[0], maps[1], maps[2], above_mm)


def _moves(solution: RigSolution, xyz: FloatArray) -> FloatArray:
    """(D, n, 3, F): how triangulated points move with each free parameter, direction by direction."""
    state, observed, free = solution.fitted.state, solution.fitted.observed, solution.fitted.free
    _, by_camera, camera_xyz = see(state.lens[0], xyz, observed.sights)
    out = []
    for device in np.argsort(solution.fitted.directions) + 1:
        rotation = state.rotations[device - 1]
        around = (xyz - observed.middle_mm) @ rotation.T
        _, by_lens, by_own = see(state.lens[device], around + state.shifts[device - 1])
        x, y, z = around.T
        o = np.zeros_like(x)
        turn = np.stack([np.stack([o, z, -y], -1), np.stack([-z, o, x], -1), np.stack([y, -x, o], -1)], axis=1)
        by_theta = np.zeros((len(xyz), 3, free.shape[0]))
        by_theta[:, :2, lens_columns(0)] = by_camera
        by_theta[:, 2, lens_columns(device)] = by_lens[:, 0]
        by_theta[:, 2, pose_columns(device)] = np.concatenate([by_own @ turn, by_own], axis=2)[:, 0]
        by_xyz = np.concatenate([camera_xyz, (by_own @ rotation)[:, :1]], axis=1)
        moved = -np.linalg.solve(by_xyz, by_theta)
        out.append((moved.reshape(-1, free.shape[0]) @ free).reshape(len(xyz), 3, -1))
    return np.array(out)


def _definite(covariance: FloatArray) -> FloatArray:
    """Rounding may leave a covariance a little indefinite."""
    return np.asarray(covariance + 1e-12 * np.diag(covariance.diagonal()))


def summary_um(found: DepthUncertainty) -> dict[str, list[float]]:
    """Root mean square over the field in µm of each map, by layer."""
    maps = {"depth": found.depth_mm, "flatness": found.flatness_mm, "height": found.height_mm}
    return {k: (1e3 * np.sqrt((m**2).mean(axis=(1, 2)))).tolist() for k, m in maps.items()}
