"""What a rig is made of: camera, light controller and pattern projector, as small protocols that every driver fulfils.

A driver may be real or simulated, built in or installed by somebody else (entry points, see ``registry``); each one
passes the contract suite of its type (``tests/contract``). All waits are bounded: a call that has to wait takes a deadline
in seconds or derives one, and raises :class:`DeviceError` when it passes. Times are nanoseconds of the host's monotonic
clock (``time.perf_counter_ns``: on Windows the monotonic one ticks 16 ms) unless they say otherwise.

Every device is closed by ``close()``, which may be called twice, from any state, and leaves it dark or still.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

TriggerMode = Literal["software", "line", "free"]


# -------------------------------------------------------------------------------------------------------------- camera
@dataclass(frozen=True)
class CameraInfo:
    """Who a camera is and what it can do, read from the device itself.

    ``exposure_us`` and ``gain_db`` are (least, greatest); ``pixel_formats`` SFNC names that the driver can deliver;
    ``max_frame_rate_hz`` as the device computes it for its present settings (None: it does not say); ``version`` of its
    firmware, "" if it does not say.
    """

    vendor: str
    model: str
    serial_number: str
    width: int
    height: int
    pixel_formats: tuple[str, ...]
    exposure_us: tuple[float, float]
    gain_db: tuple[float, float] | None
    triggers: tuple[TriggerMode, ...]
    max_frame_rate_hz: float | None = None
    version: str = ""


@dataclass(frozen=True)
class CameraSettings:
    """What a camera is asked for, and, as ``configure`` returns it, what it really does.

    ``width``/``height`` None means the whole sensor. ``trigger`` ``software`` exposes one frame for each ``trigger()``;
    ``line`` one for each rising edge of ``trigger_line``; ``free`` exposes on and on, for live pictures.
    The device's answer alone are ``max_frame_rate_hz``, how fast it can follow triggers with these settings, and
    ``link_bytes_per_s``, the bandwidth that it keeps to.
    """

    exposure_us: float
    gain_db: float = 0.0
    pixel_format: str = "BayerRG12"
    offset_x: int = 0
    offset_y: int = 0
    width: int | None = None
    height: int | None = None
    trigger: TriggerMode = "software"
    trigger_line: str = "Line0"
    max_frame_rate_hz: float | None = None
    link_bytes_per_s: float | None = None


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """One delivered, complete frame.

    Attributes
    ----------
    image : (H, W) or (H, W, 3) uint8 or uint16
        Raw values, own memory, 10 and 12 bits in the low bits of uint16.
    frame_id : int
        The device's count, as it sent it (it may wrap; see ``integrity``).
    timestamp_ns : int or None
        The device's own clock at the start of the exposure.
    received_ns : int
        Host monotonic clock when the frame was whole.
    exposure_us, gain_db : float or None
        Read back from the device for this frame (chunks) or for its settings.
    counters : mapping
        What the device counted up to this frame, for example ``{"triggers": 17, "exposures": 17}``; empty if it cannot.
    acknowledged : mapping
        Not the camera's: what an executor knows of lights and projector at this exposure, as in
        :class:`rakelight.dataset.recording.Frame`.
    """

    image: NDArray[Any]
    frame_id: int
    timestamp_ns: int | None
    received_ns: int
    exposure_us: float | None = None
    gain_db: float | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    acknowledged: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class StreamCounts:
    """What became of frames since the camera was armed: delivered whole, incomplete (never delivered), lost."""

    delivered: int
    incomplete: int
    lost: int


class Camera(Protocol):
    """A camera that takes one frame for each trigger.

    Order of calls: ``configure`` (again and again, when not armed), ``arm``, then ``trigger`` and ``next_frame`` in turn
    (or ``next_frame`` alone with line triggers), ``disarm``. Errors are :class:`DeviceError` with the codes
    ``camera.timeout``, ``camera.incomplete``, ``camera.lost`` (unplugged), ``camera.setting`` (value, range),
    ``camera.feature``, ``camera.state``.
    """

    @property
    def info(self) -> CameraInfo: ...

    def configure(self, settings: CameraSettings) -> CameraSettings:
        """Set everything; returns what the device really took. ``camera.setting`` names value and range."""

    def set_exposure(self, exposure_us: float) -> float:
        """Change the exposure alone, also between two triggers of an armed camera; returns the actual one."""

    def arm(self, frames: int) -> None:
        """Make ready for that many triggers. Frames left over from before are thrown away."""

    def trigger(self) -> None:
        """Expose one frame now (software trigger)."""

    def next_frame(self, deadline_s: float) -> CameraFrame:
        """The next complete frame, at most ``deadline_s`` from now.

        ``camera.timeout`` when none came; ``camera.incomplete`` when one came but not whole; ``camera.lost`` when the
        device is gone.
        """

    def temperature_c(self) -> float | None:
        """Its temperature as it reads it itself, °C, not while armed; None if it does not say. Drivers may lack this method."""

    def disarm(self) -> StreamCounts:
        """Stop; nothing is pending afterwards. Does nothing on a camera that is not armed."""

    def close(self) -> None: ...


# -------------------------------------------------------------------------------------------------------------- lights
class LightController(Protocol):
    """Light zones that can be switched; a rig's ``zones`` are mapped to the controller's channels by its settings.

    Errors: ``light.no_answer``, ``light.wrong_answer`` (what came back, in hex and text), ``light.refused``,
    ``light.zone``, ``light.lost``.
    """

    @property
    def zones(self) -> tuple[int, ...]:
        """Zones that can be switched, ascending."""

    @property
    def identity(self) -> str:
        """What the device says it is, or the driver's name where it cannot say."""

    @property
    def acknowledges(self) -> bool:
        """Whether the controller answers commands; if not, only the pictures show whether it heard them."""

    def set_levels(self, levels: Mapping[int, float]) -> None:
        """Brightness of zones, 0 to 1 of the controller's range; takes effect when they are lit."""

    def light(self, zones: Collection[int]) -> None:
        """Light exactly these zones; all others go dark. Returns when the controller has acknowledged (or, where it never
        does, when the bytes have left)."""

    def off(self) -> None:
        """Everything dark; tried on every channel even if one fails."""

    def close(self) -> None: ...


# ----------------------------------------------------------------------------------------------------------- projector
@dataclass(frozen=True)
class ProjectorStatus:
    """What a projector bridge reports: its mode, the direction it drives, the pattern shown, how many were shown since
    the sequence was loaded."""

    mode: Literal["dark", "showing", "armed", "running"]
    direction: int | None
    index: int | None
    displayed: int


class PatternProjector(Protocol):
    """One to four projectors behind one bridge that show patterns of a loaded sequence.

    Errors: ``projector.no_answer``, ``projector.wrong_answer``, ``projector.refused`` (with the bridge's reason),
    ``projector.direction``, ``projector.pattern``, ``projector.lost``, ``projector.fault`` (told by ``status``),
    ``projector.on_time``.
    """

    @property
    def directions(self) -> tuple[int, ...]:
        """Directions that have a projector, ascending."""

    @property
    def identity(self) -> str: ...

    @property
    def minimum_exposure_us(self) -> float:
        """Shortest time a pattern can be shown."""

    def load(self, patterns: Sequence[Mapping[str, Any]]) -> None:
        """Load a sequence of patterns given as plain data (``rakelight.reconstruction.patterns.Pattern.to_plain``)."""

    def show(self, direction: int, index: int) -> None:
        """Show one pattern of the sequence from one direction until told otherwise; the others are dark."""

    def arm(self, direction: int, exposure_us: float, period_us: float) -> None:
        """Make ready to run the whole sequence from ``direction``, one trigger edge to the camera a pattern."""

    def start(self) -> None:
        """Run what was armed."""

    def status(self) -> ProjectorStatus: ...

    def dark(self) -> None:
        """Show nothing; also ends a running sequence."""

    def close(self) -> None: ...
