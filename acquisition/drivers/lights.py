"""Serial light controllers of several families behind one driver; what they say is in ``light_protocols``.

All channels are dark after opening, after closing, after any error, and when the object is thrown away or the interpreter
ends; a watchdog darkens a zone that has been lit for too long. Nothing is believed of the device that it has not
acknowledged (where it can), and nothing at all after the port was opened anew.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Collection, Iterator, Mapping
from types import TracebackType
from typing import Any

from rakelight.acquisition.drivers.light_limits import OnTime
from rakelight.acquisition.drivers.light_protocols import Command, Judge, Verdict
from rakelight.acquisition.drivers.light_settings import LightSettings, darkness, off_frames
from rakelight.acquisition.serial_port import PortStatistics, Reader, SerialPort, as_hex_and_text
from rakelight.config import validate
from rakelight.errors import DeviceError

__all__ = ["LightSettings", "SerialLights", "off_frames"]

_log = logging.getLogger(__name__)
_RETRY_DARK_S = 0.5  # how long the watchdog waits when a zone could not be darkened


def _reader(judge: Judge) -> Reader:
    def read(received: bytes) -> int | None:
        verdict = judge(received)
        return None if verdict is None else verdict.length

    return read


class _Line:
    """A port with one protocol on it. Knows no zones and keeps no state of the lights, so that it can outlive the driver
    object for as long as it takes to darken them."""

    def __init__(self, settings: LightSettings) -> None:
        self.protocol = settings.family()
        self.channels = tuple(sorted(settings.channels.values()))
        self.answer_s = settings.answer_within_ms / 1000
        self.port = SerialPort(settings.port, settings.baud or self.protocol.baud, kind="light")
        self._free_at = 0.0

    def limit_s(self, command: Command, tries: int = 2) -> float:
        """Longest time that ``ask`` takes; enough to open a vanished port again where no answer is awaited."""
        return tries * (self.port.line_time_s(len(command.frame), command.answer_bytes) + self.answer_s)

    def ask(self, command: Command, *, limit_s: float | None = None, once: bool = False) -> Verdict:
        """Send a command; again if it stayed without a clean yes (all commands may be repeated). Raises DeviceError."""
        limit = self.limit_s(command) if limit_s is None else limit_s
        end = time.monotonic() + limit
        verdict = self._ask(command, limit, idempotent=not once)
        if verdict.refused and not once:  # the request may have been damaged on its way
            verdict = self._ask(command, max(end - time.monotonic(), limit / 4), idempotent=False)
        if verdict.refused:
            raise DeviceError(
                f"the light controller at {self.port.url} refused {as_hex_and_text(command.frame)}: {verdict.refused}",
                hint="check that it is in remote mode, the channel numbers and the protocol's dialect in rig.toml",
                code="light.refused",
            )
        return verdict

    def _ask(self, command: Command, limit_s: float, *, idempotent: bool) -> Verdict:
        until = None if command.judge is None else _reader(command.judge)
        time.sleep(max(self._free_at - time.monotonic(), 0.0))
        try:
            answer = self.port.exchange(command.frame, until=until, deadline_s=limit_s, idempotent=idempotent)
        except DeviceError as e:
            if e.code in ("port.lost", "port.missing"):
                raise DeviceError(e.message, hint=e.hint, code="light.lost") from e
            raise
        finally:
            self._free_at = time.monotonic() + self.protocol.gap_s
        verdict = None if command.judge is None else command.judge(answer)
        return verdict or Verdict(0)

    def darken(self, *, quick: bool = False) -> dict[int, DeviceError]:
        """Darken every channel, whatever happens to the others; returns the channels that did not acknowledge.

        ``quick``: one try each, and less patience after the first failure. All channels together are darkened as a last
        resort where the protocol can do that.
        """
        errors: dict[int, DeviceError] = {}
        for channel in self.channels:
            command = darkness(self.protocol, channel)
            limit = self.limit_s(command, 1) / (4 if errors else 1) if quick else None
            try:
                self.ask(command, limit_s=limit, once=quick)
            except DeviceError as e:
                errors[channel] = e
        if errors and self.protocol.master is not None:
            command = self.protocol.master(False)
            with contextlib.suppress(DeviceError):  # the channels' own errors tell more
                self.ask(command, limit_s=self.limit_s(command, 1) / (4 if quick else 1), once=True)
        return errors


class _Wake:
    """What the watchdog waits on; it holds no reference to the lights."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.ended = False

    def end(self) -> None:
        self.ended = True
        self.event.set()


def _watch(lights_of: weakref.ref[SerialLights], wake: _Wake) -> None:
    pause: float | None = None
    while True:
        wake.event.wait(pause)
        wake.event.clear()
        lights = lights_of()
        if wake.ended or lights is None:
            return
        pause = lights._enforce()
        del lights


def _shut(line: _Line, wake: _Wake) -> None:
    """Darken and close; runs once, at close, when the driver object is thrown away or when the interpreter ends."""
    wake.end()
    try:
        for channel, error in line.darken(quick=True).items():
            _log.warning("channel %d may still be lit: %s", channel, error)
    except RuntimeError as e:  # an ending interpreter starts no thread, which a lost port would need
        _log.warning("the lights at %s may still be lit: %s", line.port.url, e)
    finally:
        line.port.close()


class SerialLights:
    """A light controller on a serial port; fulfils :class:`rakelight.acquisition.devices.LightController`.

    ``SerialLights(settings)`` or the settings' keys as keywords. Thread-safe. No call takes longer than ``longest_call_s``.

    Raises
    ------
    ConfigError
        Settings that do not fit.
    DeviceError
        ``port.missing``, ``port.busy``, ``port.permission`` when opening; ``light.no_answer``, ``light.wrong_answer``,
        ``light.refused``, ``light.lost`` (opened again at the next call), ``light.zone``, ``light.level``, ``light.duty``,
        ``light.on_too_long`` (once, at the call after the watchdog had to act), ``light.closed``.
    """

    def __init__(self, settings: LightSettings | None = None, **options: Any) -> None:
        self.settings = validate(options, LightSettings, source="lights") if settings is None else settings
        self._lock = threading.RLock()
        self._line = _Line(self.settings)
        self._levels = {zone: self._max_level(zone) for zone in self.settings.channels}
        self._on_time = OnTime(self.settings.max_on_s, self.settings.max_duty, self.settings.duty_window_s)
        self._level_of: dict[int, int] = {}  # channel → level, and whether it is on: as acknowledged
        self._is_on: dict[int, bool] = {}
        self._master_on = self._line.protocol.master is None
        self._generation = self._line.port.generation
        self._too_long: DeviceError | None = None
        wake = self._wake = _Wake()
        self._shutdown = weakref.finalize(self, _shut, self._line, wake)
        self._watchdog = threading.Thread(target=_watch, args=(weakref.ref(self), wake), name="lights", daemon=True)
        self._watchdog.start()
        try:
            self._show({})
        except BaseException:  # closing darkens what it can
            self.close()
            raise

    # ---------------------------------------------------------------------------------------------------- protocol
    @property
    def zones(self) -> tuple[int, ...]:
        return tuple(sorted(self.settings.channels))

    @property
    def identity(self) -> str:
        return f"{self._line.protocol.title} at {self.settings.port}"

    @property
    def acknowledges(self) -> bool:
        """Whether the protocol has answers."""
        return self._line.protocol.level(1, 0).judge is not None

    @property
    def settle_ms(self) -> float:
        """From the return of ``light`` until the light is steady."""
        return self._line.protocol.settle_ms if self.settings.settle_ms is None else self.settings.settle_ms

    @property
    def longest_call_s(self) -> float:
        """Bound on any call: every command of every channel as slow as is allowed, and darkening them all after that."""
        protocol, line = self._line.protocol, self._line
        one = line.limit_s(protocol.level(1, 0)) + protocol.gap_s
        one += line.limit_s(protocol.switch(1, True)) + protocol.gap_s if protocol.switch is not None else 0.0
        one += line.limit_s(protocol.read(1)) if protocol.read is not None else 0.0
        return 3 * one * (len(line.channels) + 1)

    @property
    def statistics(self) -> PortStatistics:
        return self._line.port.statistics

    def set_levels(self, levels: Mapping[int, float]) -> None:
        """Brightness of zones, 0 to 1 of the controller's range; ``light.level`` beyond a zone's limit."""
        self._check_zones(levels)
        for zone, level in levels.items():
            most = self._max_level(zone)
            if not 0 <= level <= most:  # also refuses NaN
                raise DeviceError(
                    f"level {level:g} of zone {zone} is out of range: 0 to {most:g}",
                    hint="choose a level in the range, or change max_levels in rig.toml",
                    code="light.level",
                )
        with self._call():
            self._tell_too_long()
            self._levels.update({zone: float(level) for zone, level in levels.items()})

    def light(self, zones: Collection[int]) -> None:
        """Light exactly these zones; ``light.duty`` with the arithmetic if one was lit too much. After an error all is dark."""
        with self._call():
            try:
                self._tell_too_long()
                self._check_zones(zones)
                self._check_duty(zones)
                self._show({zone: self._levels[zone] for zone in zones})
            except BaseException:
                self._dark_now()
                raise

    def off(self) -> None:
        """Everything dark; tried on every channel even if one fails, then the first error is raised."""
        with self._call():
            errors = self._darken()
            if errors:
                raise self._still_lit(errors)
            self._tell_too_long()

    def close(self) -> None:
        """Dark and closed. Does not raise: what could not be darkened is logged."""
        with self._lock:
            self._shutdown()
        if threading.current_thread() is not self._watchdog:
            self._watchdog.join(self.longest_call_s)

    def __enter__(self) -> SerialLights:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------ inside
    def _max_level(self, zone: int) -> float:
        return self.settings.max_levels.get(zone, 1.0)

    def _check_zones(self, zones: Collection[int]) -> None:
        unknown = sorted(set(zones) - set(self.settings.channels))
        if unknown:
            raise DeviceError(
                f"zone {unknown[0]} has no channel; zones of this rig: {', '.join(map(str, self.zones))}",
                hint="add it to the lights' channels in rig.toml, or take it out of the recipe",
                code="light.zone",
            )

    def _check_duty(self, zones: Collection[int]) -> None:
        now = time.monotonic()
        for zone in sorted(zones):
            if reason := self._on_time.refusal(zone, now):
                hint = "wait, take shorter exposures, or change max_duty in rig.toml"
                raise DeviceError(reason, hint=hint, code="light.duty")

    def _tell_too_long(self) -> None:
        error, self._too_long = self._too_long, None
        if error is not None:
            raise error

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        """One public call at a time, on an open device."""
        with self._lock:
            if not self._shutdown.alive:
                raise DeviceError("the lights are closed", hint="open them again", code="light.closed")
            try:
                yield
            finally:
                self._wake.event.set()  # the watchdog looks at the new on-times

    def _show(self, levels: Mapping[int, float]) -> None:
        """Light zones at levels, all others dark; lit zones count as lit from before the first command."""
        channels = self.settings.channels
        full = self._line.protocol.max_level
        wanted = {channels[z]: max(1, round(level * full)) for z, level in levels.items() if level > 0}
        lit = {zone for zone, channel in channels.items() if channel in wanted}
        self._on_time.switch(self._on_time.lit | lit, time.monotonic())
        for _ in range(2):
            self._forget_if_reopened()
            self._switch(wanted)
            if self._line.port.generation == self._generation:
                break
        self._on_time.switch(lit, time.monotonic())

    def _forget_if_reopened(self) -> None:
        """A port opened anew: the device may be another one, or have lost its power in between."""
        if self._line.port.generation != self._generation:
            self._generation = self._line.port.generation
            self._level_of.clear()
            self._is_on.clear()
            self._master_on = self._line.protocol.master is None

    def _switch(self, wanted: Mapping[int, int]) -> None:
        """Bring channels to their levels with the fewest commands: first those that go dark."""
        protocol, ask = self._line.protocol, self._line.ask
        for channel in self._line.channels:
            if channel not in wanted and self._is_on.pop(channel, True):
                ask(darkness(protocol, channel))
                self._now_dark(channel)
            elif channel not in wanted:
                self._is_on[channel] = False
        if not self._master_on and protocol.master is not None:  # after the darkness, so that nothing flashes
            ask(protocol.master(True))
            self._master_on = True
        for channel, level in sorted(wanted.items()):
            changed = self._level_of.pop(channel, None) != level
            if changed:
                ask(protocol.level(channel, level))
                self._check_level(channel, level)
            self._level_of[channel] = level
            was_on = self._is_on.pop(channel, False)
            if protocol.switch is not None and (changed or not was_on):
                ask(protocol.switch(channel, True))
            self._is_on[channel] = True

    def _now_dark(self, channel: int) -> None:
        self._is_on[channel] = False
        if self._line.protocol.switch is None:
            self._level_of[channel] = 0

    def _check_level(self, channel: int, level: int) -> None:
        """Read the level back, where the protocol can."""
        read = self._line.protocol.read
        if read is None or self.settings.read_back is False:
            return
        found = self._line.ask(read(channel)).value
        if found != level:
            raise DeviceError(
                f"channel {channel} was set to level {level} but reads back {found}",
                hint="check the channel numbers in rig.toml, and that nobody turns the controller's knobs",
                code="light.wrong_answer",
            )

    def _darken(self, *, quick: bool = False) -> dict[int, DeviceError]:
        """Darken all; what could not be darkened goes on counting as lit."""
        self._forget_if_reopened()
        errors = self._line.darken(quick=quick)
        for channel in self._line.channels:
            if channel in errors:
                self._is_on.pop(channel, None)
                self._level_of.pop(channel, None)
            else:
                self._now_dark(channel)
        if errors:  # all channels may have been darkened together
            self._master_on = self._line.protocol.master is None
        lit = {zone for zone in self._on_time.lit if self.settings.channels[zone] in errors}
        self._on_time.switch(lit, time.monotonic())
        return errors

    def _dark_now(self) -> None:
        for channel, error in self._darken(quick=True).items():
            _log.warning("channel %d may still be lit: %s", channel, error)

    def _still_lit(self, errors: Mapping[int, DeviceError]) -> DeviceError:
        first = next(iter(errors.values()))
        which = ", ".join(str(z) for z, c in sorted(self.settings.channels.items()) if c in errors)
        return DeviceError(f"zones {which} may still be lit: {first.message}", hint=first.hint, code=first.code)

    def _enforce(self) -> float | None:
        """The watchdog's turn: darken what has been lit too long; returns the seconds until it has to look again."""
        with self._lock:
            if not self._shutdown.alive:
                return None
            now = time.monotonic()
            reasons = self._on_time.exceeded(now)
            if not reasons:
                left = self._on_time.next_check_s(now)
                return None if left is None else left + 0.001
            told = "; ".join(f"zone {zone} {why}" for zone, why in sorted(reasons.items()))
            self._too_long = DeviceError(
                f"{told}: all lights were switched off",
                hint="switch lights off after each shot, or change the limits in rig.toml",
                code="light.on_too_long",
            )
            errors = self._darken(quick=True)
            return _RETRY_DARK_S if errors else None
