"""Single pixels without a normal are closed from their neighbours; larger gaps and everything else stay as they are."""

from __future__ import annotations

import numpy as np
import pytest

from rakelight.errors import InputError
from rakelight.reconstruction.pinholes import close_pinholes


def dome(size: int = 40) -> np.ndarray:
    v, u = (np.mgrid[:size, :size] - (size - 1) / 2) / size
    normals = np.stack([u, -v, np.sqrt(1 - u**2 - v**2)], -1)
    return np.asarray(normals, np.float32)


def test_every_fourth_pixel_of_a_coloured_spot_comes_back_within_a_fifth_of_a_degree() -> None:
    true = dome()
    holes = true.copy()
    holes[11:29:2, 12:30:2] = np.nan
    closed = close_pinholes(holes)
    assert np.isfinite(closed).all()
    np.testing.assert_allclose(np.linalg.norm(closed, axis=-1), 1, atol=1e-6)
    angle = np.degrees(np.arccos(np.clip((closed * true).sum(-1), -1, 1)))
    assert angle.max() < 0.2
    kept = np.isfinite(holes[..., 2])
    assert (closed[kept] == holes[kept]).all() and np.isnan(holes[11, 12]).all()  # the given array is not touched


def test_larger_gaps_and_corners_stay_and_nothing_to_do_is_no_copy() -> None:
    gap = dome()
    gap[10:14, 10:14] = np.nan
    gap[0, 0] = np.nan  # a corner has but three neighbours
    assert close_pinholes(gap) is gap
    full = dome()
    assert close_pinholes(full) is full
    with pytest.raises(InputError):
        close_pinholes(full[..., 0])
