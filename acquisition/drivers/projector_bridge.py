"""Pattern projectors behind the bridge of ``docs/projector-protocol.md``, on a serial port.

Everything that fails leaves the projectors dark: on opening and closing, and after every exception, the bridge is told
``DRK``; where it no longer hears, its own watchdog does it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from types import TracebackType
from typing import Any

from pydantic import Field, field_validator

from rakelight.acquisition.devices import ProjectorStatus
from rakelight.acquisition.drivers.projector_frames import (
    LINE_END,
    MAX_LINE,
    PROTOCOL,
    BridgeIdentity,
    BridgeStatus,
    pattern_text,
    register_text,
    request,
    sequence_check,
)
from rakelight.acquisition.drivers.projector_replies import Answer, Check, exactly, refused
from rakelight.acquisition.serial_port import PortStatistics, SerialPort
from rakelight.config import Model, validate
from rakelight.errors import DeviceError
from rakelight.reconstruction.patterns import Pattern

__all__ = ["BridgeProjector", "ProjectorSettings", "open_bridge"]

_log = logging.getLogger(__name__)

WATCHDOG_MS = 2000
DEADLINE_S = 0.8
_ASK_SHARE = 0.75  # of a deadline, for a request and its retry; the rest is for going dark if they fail
_WATCHDOG_SHARE = 0.25  # of the watchdog time, between two signs of life
_LONGEST_US = 10_000_000


class ProjectorSettings(Model):
    """The ``[projector]`` of rig.toml.

    ``settle_ms`` is what an engine needs from the acknowledgement to steady light; whoever exposes waits it.
    ``max_on_s`` is the longest time that one direction may shine without a pause.
    """

    driver: str = "bridge"
    port: str = Field(min_length=1)
    baud: int = Field(default=115200, ge=1200, le=4_000_000)
    directions: tuple[int, ...] = (1, 2, 3, 4)
    settle_ms: float = Field(default=2.0, ge=0, le=10_000)
    max_on_s: float = Field(default=60.0, gt=0, le=3600)

    @field_validator("directions")
    @classmethod
    def _each_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) != len(value) or not set(value) <= {1, 2, 3, 4}:
            raise ValueError("one or more of 1, 2, 3, 4, each once")
        return tuple(sorted(value))


class BridgeProjector:
    """A :class:`~rakelight.acquisition.devices.PatternProjector` on a bridge. Opens the port, goes dark and identifies.

    Parameters
    ----------
    settings : ProjectorSettings
    watchdog_ms : int
        After this silence the bridge goes dark by itself; a thread keeps it fed while a pattern is shown.
    deadline_s : float
        From a request that the bridge does not answer (retry and going dark included) to the error, on top of the bytes'
        own time on the line.

    Raises
    ------
    DeviceError
        ``port.…`` when the port cannot be opened; ``projector.no_answer``; ``projector.wrong_answer`` (what came back,
        in hex and text); ``projector.direction`` when a direction of the settings has no projector. Later also
        ``projector.refused`` (the bridge's reason, or the arithmetic), ``projector.lost``, ``projector.fault`` (the
        bridge's error register, told by ``status``) and ``projector.on_time`` (dark because shown for too long).
        InputError ``patterns.…`` for patterns that are none.

    Notes
    -----
    Requests are repeated once after silence or nonsense, except ``start``. What the feeding thread meets is raised by
    the next call. Safe to use from several threads; calls wait for each other.
    """

    def __init__(
        self, settings: ProjectorSettings, *, watchdog_ms: int = WATCHDOG_MS, deadline_s: float = DEADLINE_S
    ) -> None:
        self.settings = settings
        self._deadline_s = deadline_s
        self._lock = threading.RLock()
        self._sequence = 0
        self._loaded = 0  # patterns
        self._direction: int | None = None  # selected for SHO, as far as known
        self._lit_since_s: float | None = None  # monotonic; None: nothing is shown
        self._spoken_s = 0.0
        self._trouble: DeviceError | None = None  # met by the feeding thread
        self._closed = False
        self._stop = threading.Event()
        self._port = SerialPort(settings.port, settings.baud, kind="projector")
        try:
            self._ask("DRK")
            self._bridge = self._identify()
            self._ask("WD", str(watchdog_ms))
        except BaseException:
            self._closed = True
            self._port.close()
            raise
        feeder = (weakref.ref(self), self._stop, watchdog_ms / 1000 * _WATCHDOG_SHARE)
        self._feeder = threading.Thread(target=_feed, args=feeder, name="projector watchdog", daemon=True)
        self._feeder.start()

    # ------------------------------------------------------------------------------------------------------ what it is
    @property
    def directions(self) -> tuple[int, ...]:
        """Directions of the settings, all of which the bridge has, ascending."""
        return self.settings.directions

    @property
    def identity(self) -> str:
        return f"{self._bridge.name} {self._bridge.firmware} (bridge protocol {PROTOCOL})"

    @property
    def minimum_exposure_us(self) -> float:
        return float(self._bridge.minimum_exposure_us)

    @property
    def black_us(self) -> float:
        """Time between the trigger edge of a run's slot and its light; exposure + this must fit into the period."""
        return float(self._bridge.black_us)

    @property
    def settle_ms(self) -> float:
        """From the acknowledgement of ``show`` until the light is steady; whoever exposes waits it."""
        return self.settings.settle_ms

    @property
    def sizes(self) -> dict[int, tuple[int, int]]:
        """Columns and rows (px) of each direction's projector."""
        return {direction: self._bridge.sizes[direction] for direction in self.directions}

    @property
    def memory(self) -> int:
        """Largest number of patterns in a sequence."""
        return self._bridge.memory

    # ---------------------------------------------------------------------------------------------------- what it does
    @property
    def statistics(self) -> PortStatistics:
        """What passed through the port."""
        return self._port.statistics

    def load(self, patterns: Sequence[Mapping[str, Any]]) -> None:
        """See :class:`PatternProjector`. Nothing is loaded unless every pattern arrived and the checksum agrees."""
        with self._dark_on_failure():
            texts = [pattern_text(Pattern.from_plain(dict(plain))) for plain in patterns]
            if not 1 <= len(texts) <= self.memory:
                raise refused(
                    f"a sequence of {len(texts)} patterns; the bridge's memory holds 1 to {self.memory}",
                    "use fewer steps or bits, or load column and row patterns one after the other",
                )
            self._loaded, self._lit_since_s = 0, None
            self._ask("BEG", str(len(texts)))
            for index, text in enumerate(texts):
                self._ask("ADD", str(index), text, answer=(str(index),))
            self._ask("END", str(len(texts)), f"{sequence_check(texts):04X}")
            self._loaded = len(texts)

    def show(self, direction: int, index: int) -> None:
        """See :class:`PatternProjector`. Returns when acknowledged; the light is steady ``settings.settle_ms`` later."""
        with self._dark_on_failure():
            direction, index = self._known_direction(direction), self._loaded_index(index)
            if direction != self._direction:
                self._direction = self._lit_since_s = None
                self._ask("DIR", str(direction))
                self._direction = direction
            began = time.monotonic() if self._lit_since_s is None else self._lit_since_s
            self._ask("SHO", str(index), answer=(str(direction), str(index)))
            self._lit_since_s = began

    def arm(self, direction: int, exposure_us: float, period_us: float) -> None:
        """See :class:`PatternProjector`. Times are rounded to whole µs; exposure + :attr:`black_us` must fit the period."""
        with self._dark_on_failure():
            direction = self._known_direction(direction)
            self._loaded_index(0)
            exposure, period = _whole_us("exposure", exposure_us), _whole_us("period", period_us)
            self._check_times(exposure, period)
            self._direction = self._lit_since_s = None
            self._ask("ARM", str(direction), str(exposure), str(period))
            self._direction = direction

    def start(self) -> None:
        """See :class:`PatternProjector`. Never repeated: without an answer the run, if it began, is ended."""
        with self._dark_on_failure():
            self._ask("RUN", answer=(str(self._loaded),), idempotent=False)

    def status(self) -> ProjectorStatus:
        """See :class:`PatternProjector`. Raises ``projector.fault`` if the bridge noticed an error since it was armed,
        loaded or darkened."""
        with self._dark_on_failure():
            found: list[BridgeStatus] = []
            self._ask("ST", check=lambda words: found.append(BridgeStatus.of(words)))
            status = found[-1]
            if status.register:
                raise DeviceError(
                    f"the projector bridge reports: {register_text(status.register)}; "
                    f"{status.displayed} patterns shown since the sequence was loaded",
                    hint="repeat the capture; if it comes again, look after the projector of direction "
                    f"{status.direction} and its cable",
                    code="projector.fault",
                )
            if status.mode != "showing":
                self._lit_since_s = None
            return ProjectorStatus(status.mode, status.direction, status.index, status.displayed)

    def dark(self) -> None:
        """See :class:`PatternProjector`. What the feeding thread met is raised when all is dark."""
        with self._lock:
            trouble, self._trouble = self._trouble, None
            self._lit_since_s = None
            self._ask("DRK")
            if trouble is not None:
                raise trouble

    def close(self) -> None:
        """Dark, then the port and the feeding thread are given back. May be called twice; never raises for the device."""
        with self._lock:
            first, self._closed = not self._closed, True
            self._stop.set()
            if first:
                self._try_dark()
                self._port.close()
        if self._feeder is not threading.current_thread():
            self._feeder.join()

    def __enter__(self) -> BridgeProjector:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # ---------------------------------------------------------------------------------------------------------- checks
    def _known_direction(self, direction: int) -> int:
        if not _is_whole(direction) or direction not in self.directions:
            raise _no_direction(direction, self.directions, self._bridge)
        return int(direction)

    def _loaded_index(self, index: int) -> int:
        if not self._loaded:
            raise refused("no sequence is loaded", "load one first")
        if not _is_whole(index) or not 0 <= index < self._loaded:
            raise refused(f"pattern {index!r}; the sequence has 0 to {self._loaded - 1}", "load a sequence that has it")
        return int(index)

    def _check_times(self, exposure_us: int, period_us: int) -> None:
        least, black = self._bridge.minimum_exposure_us, self._bridge.black_us
        if not least <= exposure_us <= _LONGEST_US:
            raise refused(
                f"exposure {exposure_us} µs; the bridge shows a pattern for {least} to {_LONGEST_US} µs",
                f"choose {least} µs or more, and less light or gain if that is too bright",
            )
        needed = black + exposure_us
        if not needed <= period_us <= _LONGEST_US:
            raise refused(
                f"period {period_us} µs; needed at least {black} µs black + {exposure_us} µs exposure = {needed} µs, "
                f"at most {_LONGEST_US} µs",
                f"choose a period of {needed} µs or more, or a shorter exposure",
            )

    # ------------------------------------------------------------------------------------------------------- the wire
    def _identify(self) -> BridgeIdentity:
        found: list[BridgeIdentity] = []
        self._ask("ID", check=lambda words: found.append(BridgeIdentity.of(words)))
        for direction in self.directions:
            if direction not in found[-1].sizes:
                raise _no_direction(direction, tuple(sorted(found[-1].sizes)), found[-1])
        return found[-1]

    def _ask(
        self,
        verb: str,
        *words: str,
        answer: tuple[str, ...] | None = None,
        check: Check | None = None,
        idempotent: bool = True,
        share: float = _ASK_SHARE,
    ) -> None:
        """One request and its reply, whose words must be ``answer`` (default: those of the request) or pass ``check``."""
        number, self._sequence = self._sequence, (self._sequence + 1) % 256
        # The line feed in front ends whatever noise or half a line the bridge may have in its buffer.
        line = LINE_END + request(number, " ".join((verb, *words)))
        reader = Answer(number, verb, check or exactly(words if answer is None else answer))
        tries = 2 if idempotent else 1
        limit = self._deadline_s * share + tries * self._port.line_time_s(len(line), MAX_LINE)
        generation = self._port.generation
        try:
            self._port.exchange(line, until=reader, deadline_s=limit, idempotent=idempotent)
        except DeviceError as e:
            if e.code == "port.lost":
                raise DeviceError(e.message, hint=e.hint, code="projector.lost") from e
            raise
        finally:
            if self._port.generation != generation:
                self._direction = None  # another bridge may stand there now
        self._spoken_s = time.monotonic()
        if reader.refusal is not None:
            raise reader.refusal

    @contextlib.contextmanager
    def _dark_on_failure(self) -> Iterator[None]:
        with self._lock:
            trouble, self._trouble = self._trouble, None
            try:
                if trouble is not None:
                    raise trouble
                yield
            except BaseException as e:
                self._direction = self._lit_since_s = None
                if not (isinstance(e, DeviceError) and e.code == "projector.lost"):
                    self._try_dark()
                raise

    def _try_dark(self) -> None:
        """Dark if the bridge hears; if not, its watchdog (or the end of its run) does it."""
        try:
            self._ask("DRK", share=1 - _ASK_SHARE)
        except DeviceError as e:
            _log.warning("could not tell the projector bridge to go dark, its watchdog will: %s", e.message)

    def _keep_alive(self, every_s: float) -> None:
        """Called by the feeding thread: a sign of life if needed, dark if shown for too long."""
        if not self._lock.acquire(blocking=False):
            return  # a call is talking to the bridge, which feeds it
        try:
            now = time.monotonic()
            if self._closed or self._lit_since_s is None:
                return
            if now - self._lit_since_s >= self.settings.max_on_s:
                self._lit_since_s = None
                self._ask("DRK")
                raise DeviceError(
                    f"direction {self._direction} shone for {self.settings.max_on_s:g} s and was switched off",
                    hint="call dark() when nothing is exposed, or raise max_on_s in rig.toml if the engine bears it",
                    code="projector.on_time",
                )
            if now - self._spoken_s >= every_s / 2:
                self._ask("KA", share=1 - _ASK_SHARE)  # short, since a call may be waiting
        except DeviceError as e:
            self._trouble, self._lit_since_s = e, None
        finally:
            self._lock.release()


def _feed(projector: weakref.ref[BridgeProjector], stop: threading.Event, every_s: float) -> None:
    """The feeding thread: ends with ``stop``, and also when nobody holds the projector any more."""
    while not stop.wait(every_s):
        held = projector()
        if held is None:
            return
        held._keep_alive(every_s)
        del held


def _no_direction(direction: int, there: tuple[int, ...], bridge: BridgeIdentity) -> DeviceError:
    return DeviceError(
        f"direction {direction!r} has no projector; there are {', '.join(map(str, there))} "
        f"(the bridge {bridge.name} drives {', '.join(map(str, sorted(bridge.sizes)))})",
        hint="correct the directions in rig.toml or in the recipe, or check the cable of that projector",
        code="projector.direction",
    )


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _whole_us(name: str, value_us: float) -> int:
    if isinstance(value_us, bool) or not math.isfinite(value_us):
        raise refused(f"{name} {value_us!r} µs; needed a number", "correct the recipe")
    return round(value_us)


def open_bridge(**options: Any) -> BridgeProjector:
    """A bridge from the keys of rig.toml; raises :class:`ConfigError` for keys that do not fit, else as the class."""
    return BridgeProjector(validate(options, ProjectorSettings, source="projector"))
