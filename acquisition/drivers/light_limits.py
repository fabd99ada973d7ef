"""How long zones have been lit, and how long they may be: on-time in one go, and duty in a sliding window.

Times are seconds of any steady clock, given by the caller. Plain bookkeeping: nothing here switches a light.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection


class OnTime:
    """On-times of light zones.

    Parameters
    ----------
    max_on_s : float
        Longest time in one go.
    max_duty : float
        Fraction of any ``window_s`` that a zone may be lit; 1 means without limit.
    window_s : float
        Length of the sliding window.
    """

    def __init__(self, max_on_s: float, max_duty: float, window_s: float) -> None:
        self.max_on_s, self.max_duty, self.window_s = max_on_s, max_duty, window_s
        self.allowed_s = max_duty * window_s
        self._since: dict[int, float] = {}
        self._past: defaultdict[int, deque[tuple[float, float]]] = defaultdict(deque)

    @property
    def lit(self) -> frozenset[int]:
        return frozenset(self._since)

    def switch(self, lit: Collection[int], now: float) -> None:
        """From ``now`` on exactly these zones are lit; those that were lit already go on without a break."""
        for zone in set(self._since) - set(lit):
            self._past[zone].append((self._since.pop(zone), now))
        for zone in set(lit) - set(self._since):
            self._since[zone] = now

    def used_s(self, zone: int, now: float) -> float:
        """How long the zone was lit within the window that ends now."""
        past = self._past[zone]
        while past and past[0][1] <= now - self.window_s:
            past.popleft()
        begin = now - self.window_s
        used = sum(end - max(start, begin) for start, end in past)
        return used + (now - max(self._since[zone], begin) if zone in self._since else 0.0)

    def refusal(self, zone: int, now: float) -> str:
        """Why the zone may not be lit now, with the arithmetic; "" if it may."""
        used = self.used_s(zone, now)
        if self.max_duty >= 1 or used < self.allowed_s:
            return ""
        return (
            f"zone {zone} was lit for {used:.2f} s of the last {self.window_s:g} s; "
            f"allowed are {self.max_duty:g} × {self.window_s:g} s = {self.allowed_s:.2f} s; "
            f"it may be lit again in {self._wait_s(zone, now):.2f} s"
        )

    def _wait_s(self, zone: int, now: float) -> float:
        """How long the zone must stay dark until its use is below what is allowed: old times leave the window in order."""
        excess = self.used_s(zone, now) - self.allowed_s
        pieces = [*self._past[zone], *([(self._since[zone], now)] if zone in self._since else [])]
        for start, end in pieces:
            begin = max(start, now - self.window_s)
            if end - begin > excess:
                return begin + excess + self.window_s - now
            excess -= end - begin
        return self.window_s

    def exceeded(self, now: float) -> dict[int, str]:
        """Lit zones that have to go dark now, with the limit they reached."""
        reasons = {}
        for zone, since in self._since.items():
            if now - since >= self.max_on_s:
                reasons[zone] = f"was lit for {now - since:.2f} s; max_on_s is {self.max_on_s:g} s"
            elif self.max_duty < 1 and self.used_s(zone, now) >= self.allowed_s:
                reasons[zone] = (
                    f"was lit for {self.used_s(zone, now):.2f} s of the last {self.window_s:g} s; max_duty "
                    f"{self.max_duty:g} × {self.window_s:g} s = {self.allowed_s:.2f} s"
                )
        return reasons

    def next_check_s(self, now: float) -> float | None:
        """Seconds until a lit zone can first reach a limit; None while nothing is lit."""
        left = [self.max_on_s - (now - since) for since in self._since.values()]
        if self.max_duty < 1:
            left += [self.allowed_s - self.used_s(zone, now) for zone in self._since]
        return max(min(left), 0.0) if left else None
