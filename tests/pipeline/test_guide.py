"""What the guide says of board poses, plates, spheres and a covered lens; poses and pictures here are made, not taken."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.calibration.boards import Board
from rakelight.calibration.coverage import coverage, empty_regions
from rakelight.calibration.outlines import Circle
from rakelight.calibration.views import View
from rakelight.pipeline.exposure_search import search_exposure
from rakelight.pipeline.guide import Light, Pose, judge, light_of, needs, pose_of, tilt_words
from rakelight.pipeline.guide_targets import judge_dark, judge_spheres, judge_white

BOARD, SIZE, FOCAL = Board(), (1200, 800), 4400.0
GOOD = Light(0.7, 0.0)


def _pose(
    right: float = 0.0, down: float = 0.0, *, at: tuple[float, float] = (0.0, 0.0), z: float = 200.0, name: str = "p"
) -> Pose:
    """A board whose right (lower) edge lies farther away by so many degrees, its middle at ``at`` mm, seen by a pinhole."""
    a, b = np.radians([-down, right])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    xyz = BOARD.corners_mm - BOARD.corners_mm.mean(axis=0)
    points = xyz @ (about_y.T @ about_x.T).T + [*at, z]
    uv = points[:, :2] / points[:, 2:] * FOCAL + np.array(SIZE) / 2 - 0.5
    inside = ((uv >= 0) & (uv < np.array(SIZE) - 1)).all(axis=1)
    ids = np.flatnonzero(inside)
    return pose_of(View(name, ids, uv[inside], {}, 0.6, SIZE), BOARD)


@pytest.mark.parametrize(("right", "down"), [(15, 0), (-18, 0), (0, 12), (0, -20), (14, -9), (0, 0)])
def test_tilts_are_read_from_one_picture(right: float, down: float) -> None:
    pose = _pose(right, down)
    assert pose.tilt_deg == pytest.approx([right, down], abs=0.8)
    words = tilt_words(pose)
    assert ("right" in words) == (right > 2) and ("left" in words) == (right < -2)
    assert ("towards you" in words) == (down > 2) and ("away from you" in words) == (down < -2)


def test_without_perspective_no_side_is_claimed() -> None:
    xy = BOARD.corners_mm[:, :2] * np.array([20.0 * np.cos(np.radians(18)), 20.0]) + 300.0
    flat = pose_of(View("t", np.arange(len(xy)), xy, {}, None, SIZE), BOARD)
    assert not flat.sided and "to a side" in tilt_words(flat)
    assert needs([flat], SIZE).tilts == ("towards you", "away from you"), "either side counts, since none can be told"


def test_needs_are_met_one_after_the_other() -> None:
    assert needs([], SIZE).tilts == ("right", "left", "towards you", "away from you")
    poses = [_pose(15, 0), _pose(-15, 0), _pose(0, 15)]
    missing = needs(poses, SIZE)
    assert missing.tilts == ("away from you",) and missing.poses == 9 and not missing.met
    assert "away from you" in missing.advice and "9 more poses" in missing.sentence
    poses += [_pose(0, -15), *(_pose(k, 3 * k % 7) for k in range(7))]
    # the corners of the board at one place leave the ends of the image empty
    narrow = needs([p for p in poses if abs(p.tilt_deg[0]) < 20], (SIZE[0] * 3, SIZE[1]))
    assert {"upper right", "lower right"} <= set(narrow.regions)
    assert needs([*poses, _pose(z=190.0)], SIZE).met and not needs([_pose(), _pose()], SIZE).met
    assert needs([_pose(1), _pose(2)], SIZE).height and not needs([_pose(), _pose(z=190.0)], SIZE).height


def test_coverage_names_the_empty_ninths() -> None:
    uv = np.array([[10.0, 10.0], [600.0, 400.0], [1190.0, 790.0]])
    seen = coverage([uv], SIZE)
    assert seen.sum() == 3 and seen.shape == (6, 8)
    assert len(empty_regions(seen)) == 6 and not {"upper left", "middle centre", "lower right"} & set(
        empty_regions(seen)
    )


def test_a_good_pose_is_good_to_take() -> None:
    said = judge(_pose(14, 4), "", GOOD, [_pose()], BOARD, SIZE)
    assert said.ok and said.verdict == "good to take" and not said.reason
    text = " ".join(line.text for line in said.lines)
    for told in ("54 of 54 corners", "14° right, 4° towards you", "0.60 px wide", "70% of full scale", "11 more poses"):
        assert told in text


@pytest.mark.parametrize(
    ("pose", "light", "reason"),
    [
        (_pose(0.3), GOOD, "this is the pose of first again"),
        (_pose(15), Light(1.0, 0.1), "10.0% of the board is saturated"),
        (_pose(15), Light(0.05, 0.0), "too dark"),
        (_pose(50), GOOD, "tilted by 50°"),
        (_pose(10, at=(40.0, 0.0)), GOOD, "or more are needed"),
    ],
)
def test_what_speaks_against_a_pose_is_said(pose: Pose, light: Light, reason: str) -> None:
    said = judge(pose, "", light, [_pose(name="first")], BOARD, SIZE)
    assert not said.ok and reason in said.reason and said.verdict.startswith("not yet, because")


def test_blur_counts_against_the_other_poses() -> None:
    sharp = [_pose(k * 5, name=f"p{k}") for k in range(3)]
    view = _pose(-14).view
    blurred = pose_of(View("x", view.ids, view.uv, {}, 1.3, SIZE), BOARD)
    assert "blurred" in judge(blurred, "", GOOD, sharp, BOARD, SIZE).reason
    assert judge(blurred, "", GOOD, [], BOARD, SIZE).ok, "alone it may be how this lens is"


def test_no_board_says_what_was_seen() -> None:
    said = judge(None, "no marker of DICT_4X4_50", GOOD, [], BOARD, SIZE)
    assert not said.ok and "no marker of DICT_4X4_50" in said.reason


def test_light_is_that_of_the_board() -> None:
    image = np.full((80, 120), 4095, np.float32)
    image[20:60, 20:60] = 2000
    square = np.array([[22.0, 22.0], [57.0, 22.0], [57.0, 57.0], [22.0, 57.0]])
    inside, everywhere = light_of(image, 4095, square), light_of(image, 4095)
    assert inside.saturated == 0 and inside.bright == pytest.approx(2000 / 4095) and everywhere.saturated > 0.5


# ------------------------------------------------------------------------------------------------------- other targets
def _noise(shape: tuple[int, int], level: float) -> NDArray[np.float32]:
    return np.float32(np.random.default_rng(1).normal(level, 3.0, shape))


def test_a_plate_must_fill_the_picture() -> None:
    even = _noise((160, 240), 2800) * np.linspace(0.8, 1.0, 240, dtype=np.float32)
    assert judge_white(even, GOOD).ok
    part = even.copy()
    part[:, 200:] *= 0.15
    assert "no plate fills the picture" in judge_white(part, GOOD).reason


def test_spheres_must_be_there_and_elsewhere() -> None:
    here, there = (Circle(100, 100, 40), Circle(300, 120, 40)), (Circle(160, 60, 40), Circle(260, 190, 40))
    assert judge_spheres(here, "", 2, [], 456).ok and judge_spheres(there, "", 2, [here], 456).ok
    assert "0 of 2 spheres found (no rim)" in judge_spheres((), "no rim", 2, [], 456).reason
    moved = tuple(Circle(c.u + 5, c.v, c.radius) for c in here)
    assert "lay them elsewhere" in judge_spheres(moved, "", 2, [here], 456).reason


def test_behind_a_cap_lamps_make_no_difference() -> None:
    black = _noise((100, 150), 64)
    assert judge_dark(_noise((100, 150), 64), black, 4095).ok
    assert not judge_dark(_noise((100, 150), 300), black, 4095).ok
    picture = black + np.linspace(0, 2000, 150, dtype=np.float32)
    assert not judge_dark(picture, picture, 4095).ok, "the room is seen"


@pytest.mark.parametrize("start_us", [50.0, 3000.0, 90_000.0])
def test_an_exposure_is_found_in_few_pictures(start_us: float) -> None:
    asked: list[float] = []

    def level(us: float) -> float:
        asked.append(us)
        return min(1.0, us / 5000)

    found = search_exposure(level, start_us, (20.0, 300_000.0))
    assert min(1.0, found / 5000) == pytest.approx(0.7, rel=0.12) and len(asked) <= 8


def test_an_exposure_ends_at_the_camera_s_limits() -> None:
    assert search_exposure(lambda us: 0.01, 1000.0, (20.0, 30_000.0)) == 30_000
    assert search_exposure(lambda us: 1.0, 1000.0, (20.0, 30_000.0)) == 20
