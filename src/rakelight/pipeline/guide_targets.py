"""Whether the white plate, the chrome spheres and the covered lens are as a calibration needs them, from live pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.outlines import Circle
from rakelight.pipeline.guide import Feedback, Light, Line, exposure_line

EVEN = 0.4  # darkest of the brightest parts of the picture of a plate; lamps and lens alone leave more
_BLOCK = 8  # px that are averaged first
COVERED = 0.01  # of full scale: what lamps and room may add behind a cap
PLACE_SHARE = 0.05  # of the image's width, by which another place of the spheres differs


def judge_white(image: NDArray[np.float32], light: Light, *, spared: float = 2.0) -> Feedback:
    """A matte white plate fills the picture: nothing in it is much darker than the rest.

    ``spared`` per cent of the picture may be: more where only projectors light it, which may not reach its borders.
    """
    rows, columns = (n // _BLOCK * _BLOCK for n in image.shape)
    cells = image[:rows, :columns].reshape(rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK).mean(axis=(1, 3))
    dark, bright = np.percentile(cells, (spared, 95))
    even = float(dark / max(bright, 1e-9))
    line = Line(f"the plate fills the picture: its darkest parts have {even:.0%} of its brightest parts' light", True)
    if even < EVEN:
        line = Line(
            f"no plate fills the picture: its darkest parts have {even:.0%} of the brightest parts' light, {EVEN:.0%} needed; "
            "lay the white plate so that it reaches beyond every edge, with nothing on it",
            False,
        )
    return Feedback((line, exposure_line(light, "the plate")), f"plate even to {even:.0%} · white {light.bright:.0%}")


def judge_spheres(
    circles: Sequence[Circle],
    why: str,
    count: int,
    earlier: Sequence[Sequence[Circle]],
    width: int,
) -> Feedback:
    """All spheres are in the picture, in another place than before. ``circles`` empty: ``why`` they were not found."""
    if len(circles) < count:
        line = Line(f"{len(circles)} of {count} spheres found ({why})", False)
        return Feedback((line,), f"{len(circles)}/{count} spheres")
    places = ", ".join(f"({c.u:.0f}, {c.v:.0f})" for c in circles)
    lines = [Line(f"{count} of {count} spheres found, at {places} px", True)]
    near = min((_moved(circles, other) for other in earlier if other), default=np.inf)
    if near < PLACE_SHARE * width:
        lines.append(
            Line(
                f"the spheres are {near:.0f} px from where they were, {PLACE_SHARE * width:.0f} px needed: lay them elsewhere",
                False,
            )
        )
    return Feedback(tuple(lines), f"{count}/{count} spheres")


def _moved(circles: Sequence[Circle], other: Sequence[Circle]) -> float:
    """The largest distance of a sphere to the nearest one of another place, px."""
    now, before = (np.array([(c.u, c.v) for c in each]) for each in (circles, other))
    return float(np.linalg.norm(now[:, None] - before[None], axis=2).min(axis=1).max())


def judge_dark(lit: NDArray[np.float32], unlit: NDArray[np.float32], full_scale: float) -> Feedback:
    """Behind a cap the lamps make no difference, and nothing is to be seen."""
    lamps = float(np.percentile(lit - unlit, 99) - np.percentile(lit - unlit, 50)) / full_scale
    added = max(lamps, float(np.median(lit) - np.median(unlit)) / full_scale)
    shows = float(np.percentile(unlit, 99) - np.percentile(unlit, 1)) / full_scale
    worst = max(added, shows / 4)
    if worst > COVERED:
        line = Line(
            f"light still reaches the sensor ({worst:.1%} of full scale, {COVERED:.0%} allowed): cover the lens", False
        )
    else:
        line = Line("the lens is covered", True)
    return Feedback((line,), f"light behind the cap {worst:.1%}")
