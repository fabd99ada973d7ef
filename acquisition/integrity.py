"""Is a delivered frame the one that was asked for? Ids, timestamps and counters against the shots."""

from __future__ import annotations

from dataclasses import dataclass

from rakelight.acquisition.devices import CameraFrame
from rakelight.errors import DeviceError

_DRIFT = 2e-4  # by which two crystals' clocks may differ
_CURE = "the shot is taken again; if it happens often, check cable, network card and trigger wiring"


@dataclass
class FrameChecker:
    """Follows the frames of one armed camera; :meth:`check` raises :class:`DeviceError` for a frame that must not be used.

    Codes: ``frame.lost`` (ids jump: a frame was exposed and never came), ``frame.duplicate``, ``frame.stale`` (exposed
    before it was asked for), ``frame.order`` (the device's clock ran backwards), ``frame.over_trigger`` (the camera
    received triggers that it could not expose).
    """

    last_id: int | None = None
    last_timestamp_ns: int | None = None
    last_triggers: int | None = None
    _host_minus_device_ns: int | None = None
    _learnt_ns: int = 0  # when, on the host's clock

    def check(self, frame: CameraFrame, triggered_ns: int, triggers: int = 1) -> None:
        """Check a frame that was asked for at ``triggered_ns`` (host monotonic clock) by ``triggers`` trigger(s)."""
        before, stamp, counted = self.last_id, self.last_timestamp_ns, self.last_triggers
        self.last_id = frame.frame_id
        self.last_timestamp_ns = frame.timestamp_ns if frame.timestamp_ns is not None else stamp
        self.last_triggers = frame.counters.get("triggers", counted)
        if before is not None and (step := id_step(before, frame.frame_id)) != 1:
            if step == 0:
                raise _error("duplicate", f"frame {frame.frame_id} came twice")
            raise _error("lost", f"{step - 1} frame(s) between {before} and {frame.frame_id} never arrived")
        if stamp is not None and frame.timestamp_ns is not None and frame.timestamp_ns <= stamp:
            raise _error("order", f"the device's clock of frame {frame.frame_id} is not after that of the frame before")
        self._check_age(frame, triggered_ns)
        if counted is not None and self.last_triggers is not None and self.last_triggers - counted > triggers:
            missed = self.last_triggers - counted - triggers
            raise _error("over_trigger", f"the camera received {missed} trigger(s) more than it exposed")

    def _check_age(self, frame: CameraFrame, triggered_ns: int) -> None:
        """Exposed before the trigger? By the device's clock, whose distance to the host's is learnt from the first frame."""
        if frame.timestamp_ns is None:
            return
        offset = frame.received_ns - frame.timestamp_ns
        if self._host_minus_device_ns is None or offset < self._host_minus_device_ns:
            self._host_minus_device_ns, self._learnt_ns = offset, frame.received_ns
        # The smallest offset seen still holds exposure and transfer: an upper bound of the exposure's start on the host.
        drift_ns = round((frame.received_ns - self._learnt_ns) * _DRIFT)
        started_at_latest = frame.timestamp_ns + self._host_minus_device_ns + drift_ns
        if started_at_latest < triggered_ns:
            raise _error("stale", f"frame {frame.frame_id} was exposed before it was asked for")


def id_step(before: int, after: int) -> int:
    """By how much an id went on. GigE Vision 1 counts in 16 bits and leaves 0 out (65535 → 1); others in 64 bits."""
    if before == after:
        return 0
    if after > before:
        return after - before
    return after - before + 65535 if before <= 65535 else after - before + 2**64


def _error(code: str, what: str) -> DeviceError:
    return DeviceError(what, hint=_CURE, code=f"frame.{code}")
