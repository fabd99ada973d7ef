"""The exposure under which bright parts reach a wanted share of full scale, found with a few pictures."""

from __future__ import annotations

from collections.abc import Callable

AIM = 0.7
_SATURATED = 0.95  # from here on a level says only that it is too much
_CLOSE = 0.1  # relative: near enough
_STEP = 8.0  # at most, up or down, between two pictures
_PICTURES = 8


def towards(seen: float, aim: float = AIM) -> float:
    """The factor for an exposure whose bright parts reached ``seen`` of full scale: a third if that is too much to tell."""
    return 1 / 3 if seen >= _SATURATED else aim / max(seen, aim / _STEP)


def search_exposure(
    level: Callable[[float], float], start_us: float, range_us: tuple[float, float], *, aim: float = AIM
) -> float:
    """Exposure in µs.

    Parameters
    ----------
    level : callable
        Takes a picture with an exposure in µs and says how bright its bright parts are, 0 to 1 of full scale.
    start_us : float
        First guess.
    range_us : (float, float)
        What camera (and projector) allow; its end is the answer where that is not bright, or not dark, enough.
    """
    least, most = range_us
    exposure_us = min(max(start_us, least), most)
    best = exposure_us
    for _ in range(_PICTURES):
        seen = level(exposure_us)
        if seen < _SATURATED:
            best = exposure_us
            if abs(seen / aim - 1) <= _CLOSE:
                break
        wanted = min(max(exposure_us * towards(seen, aim), least), most)
        if abs(wanted / exposure_us - 1) < 1e-3:  # at an end of the range
            best = wanted
            break
        exposure_us = best = wanted
    return float(best if best < 100 else round(best))
