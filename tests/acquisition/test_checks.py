"""Checks on the pictures, against pictures made for each fault."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.acquisition.capture import AZIMUTHS_DEG
from rakelight.acquisition.checks import Check, Watcher, reduced
from rakelight.acquisition.recipe import Limits, PlannedShot
from rakelight.dataset.recording import Shot

H, W = 120, 180
BLACK = 64.0


def picture(azimuth_deg: float, level: float = 1500.0, gradient: float = 0.2) -> NDArray[np.uint16]:
    """A textured scene that one lamp lights a little more on its own side, on a black level of 64."""
    v, u = np.mgrid[:H, :W]
    x, y = (u - W / 2) / W, (H / 2 - v) / W
    a = np.radians(azimuth_deg)
    texture = 0.6 + 0.3 * np.sin(u / 5) * np.cos(v / 7)
    noise = np.random.default_rng(int(azimuth_deg)).normal(0, 8, (H, W))
    light = 1 + gradient * 2 * (x * np.cos(a) + y * np.sin(a))
    return np.clip(BLACK + level * texture * light + noise, 0, 4095).astype(np.uint16)


def watcher(pictures: dict[int, NDArray[np.uint16]], room: float = 8.0) -> Watcher:
    made = Watcher(4095.0)
    for zone, image in pictures.items():
        made.add(PlannedShot(Shot(name=f"zone{zone}", role="zone", zone=zone), (zone,), 1.0), image)
    dark = np.full((H, W), BLACK)
    dark[:, W // 3 :] += room
    made.add(PlannedShot(Shot(name="ambient", role="ambient"), (), 1.0), dark.astype(np.uint16))
    return made


def failed(made: Watcher) -> set[str]:
    return {check.name for check in made.checks(Limits(), AZIMUTHS_DEG) if not check.passed}


def good() -> dict[int, NDArray[np.uint16]]:
    return {zone: picture(azimuth) for zone, azimuth in AZIMUTHS_DEG.items()}


def test_a_good_stack_passes() -> None:
    found = watcher(good()).checks(Limits(), AZIMUTHS_DEG)
    assert {c.name for c in found} == {"saturation", "dead_zone", "ambient", "zone_order"} and all(
        c.passed for c in found
    )
    order = [c.value for c in found if c.name == "zone_order"]
    assert max(order) < 5, "the side of each lamp is found to a few degrees"


@pytest.mark.parametrize("zone", [1, 2, 3, 4])
def test_a_dead_lamp(zone: int) -> None:
    pictures = good() | {zone: np.full((H, W), 70, np.uint16)}
    made = watcher(pictures)
    assert failed(made) == {"dead_zone"}
    told = next(c for c in made.checks(Limits(), AZIMUTHS_DEG) if not c.passed)
    assert told.sentence.startswith(f"zone {zone} gives 0%") and isinstance(told, Check)


def test_swapped_cables() -> None:
    pictures = good()
    pictures[2], pictures[3] = pictures[3], pictures[2]
    made = watcher(pictures)
    wrong = [c.sentence for c in made.checks(Limits(), AZIMUTHS_DEG) if not c.passed]
    assert failed(made) == {"zone_order"} and [w[:6] for w in wrong] == ["zone 2", "zone 3"]
    assert not any(c.name == "zone_order" for c in made.checks(Limits(), None))


def test_too_bright_and_too_much_room_light() -> None:
    assert failed(watcher(good() | {1: picture(0, 6000)})) >= {"saturation"}
    assert failed(watcher(good(), room=200)) == {"ambient"}


def test_projectors() -> None:
    def add(made: Watcher, direction: int, level: float, brightness: int) -> None:
        shot = Shot(
            name=f"p{direction}_{level:.0f}",
            role="pattern",
            projector=direction,
            pattern={"kind": "uniform", "level": level},
        )
        made.add(PlannedShot(shot, (), 1.0, direction, 0), np.full((H, W), brightness, np.uint16))

    made = watcher(good())
    for direction in (1, 2, 3):
        add(made, direction, 1.0, 2000)
        add(made, direction, 0.0, 74)
    assert failed(made) == set()
    add(made, 2, 1.0, 80)
    assert failed(made) >= {"dark_projector"}
    add(made, 2, 1.0, 2000)
    add(made, 3, 0.0, 900)
    assert failed(made) == {"black_pattern"}


def test_reduced_is_the_mean_of_cells_whatever_the_filter() -> None:
    mosaic = np.zeros((600, 1300), np.uint16)
    mosaic[::2, ::2], mosaic[1::2, 1::2] = 400, 800  # R and B of a cell
    small = reduced(mosaic)
    assert np.all(small == 300) and small.shape[1] <= 325
    assert reduced(np.full((60, 90, 3), 7, np.uint8)).max() == 7
