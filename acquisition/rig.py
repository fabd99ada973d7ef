"""A rig: camera, lights and projector as rig.toml (or a ``sim://`` URL) says, opened together and left dark.

``with Rig.open("rig.toml") as rig: …``. Whatever ends the block, everything is switched off; should this process be killed,
the guardian does it (``guardian``).
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import Field

from rakelight import config
from rakelight.acquisition.camera_process import CameraProcess
from rakelight.acquisition.devices import CameraSettings, LightController, PatternProjector
from rakelight.acquisition.guardian import Guardian
from rakelight.acquisition.registry import find_driver
from rakelight.acquisition.simulated_bench import SimulatedBench
from rakelight.acquisition.stepped import Devices, make_dark
from rakelight.dataset.recording import CalibrationLimits
from rakelight.errors import ConfigError, DeviceError, RakelightError

SIMULATED = "sim://"


class CameraSection(config.Model):
    """``[camera]``: the driver, how it finds the camera, and what does not change from product to product."""

    driver: str = "genicam"
    producer: str | None = None
    serial_number: str | None = None
    pixel_format: str = "BayerRG12"
    offset_x: int = Field(default=0, ge=0)
    offset_y: int = Field(default=0, ge=0)
    width: int | None = Field(default=None, ge=1)
    height: int | None = Field(default=None, ge=1)
    link_mbit_s: float | None = Field(default=None, gt=0, le=1e6)
    environment: dict[str, str] = Field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """Keywords of the driver."""
        chosen = {"producer": self.producer, "serial_number": self.serial_number, "environment": self.environment}
        return {key: value for key, value in chosen.items() if value}


class RigSettings(config.Model):
    """The content of rig.toml. ``lights`` and ``projector`` hold ``driver`` and that driver's own keys; both may be absent.

    ``calibration`` tells beyond what a calibration is stale for this rig; every recording carries it.
    """

    schema_: int = Field(alias="schema", default=1)
    rig_id: str = Field(min_length=1, max_length=80)
    simulated: bool = False
    camera: CameraSection
    lights: config.PlainData | None = None
    projector: config.PlainData | None = None
    calibration: CalibrationLimits = CalibrationLimits()


class Rig:
    """An open rig; made by :meth:`open`.

    Attributes
    ----------
    settings : RigSettings
    camera : CameraProcess
    lights : LightController or None
    projector : PatternProjector or None
    bench : SimulatedBench or None
        Of a rig named by a ``sim://`` URL: its ``place`` lays another target under the camera, as a hand would.
    """

    def __init__(self, settings: RigSettings, closing: contextlib.ExitStack) -> None:
        self.settings = settings
        self._closing = closing
        self.camera: CameraProcess
        self.lights: LightController | None = None
        self.projector: PatternProjector | None = None
        self.bench: SimulatedBench | None = None
        self._guardian: Guardian | None = None

    @classmethod
    def open(cls, where: str | Path) -> Rig:
        """Open the rig of a rig.toml, or a simulated one (``sim://PART?…``).

        Raises
        ------
        ConfigError
            Keys that do not fit.
        DeviceError
            ``rig.open``: one or more devices did not open; the message names every one of them.
        """
        closing = contextlib.ExitStack()
        try:
            bench: SimulatedBench | None = None
            if str(where).startswith(SIMULATED):
                settings, bench = simulated_rig(str(where), closing)
            else:
                settings = read_rig(Path(where))
            rig = cls(settings, closing)
            rig.bench = bench
            rig._open_devices()
        except BaseException:
            closing.close()
            raise
        return rig

    def _open_devices(self) -> None:
        shining = {
            kind: {"driver": section.get("driver", default), "options": _without_driver(section)}
            for kind, section, default in (
                ("lights", self.settings.lights, "serial"),
                ("projectors", self.settings.projector, "bridge"),
            )
            if section is not None
        }
        guarding = self._closing.enter_context(contextlib.ExitStack())  # closed last: it watches until all is dark
        failed: list[tuple[str, RakelightError]] = []
        openers: list[tuple[str, str, Any]] = [("camera", "camera", lambda: self._camera())]
        if "lights" in shining:
            openers.append(("lights", "lights", lambda: _device("lights", shining)))
        if "projectors" in shining:
            openers.append(("projector", "projector", lambda: _device("projectors", shining)))
        for attribute, name, opener in openers:
            try:
                device = opener()
            except RakelightError as error:
                failed.append((name, error))
                continue
            self._closing.callback(device.close)
            setattr(self, attribute, device)
        if failed:
            raise _tree(failed)
        if shining:
            self._guardian = Guardian(shining)
            guarding.callback(self._guardian.close)

    def _camera(self) -> CameraProcess:
        section = self.settings.camera
        return CameraProcess(section.driver, section.options())

    @property
    def zones(self) -> tuple[int, ...]:
        """Light zones there are."""
        return self.lights.zones if self.lights is not None else ()

    @property
    def directions(self) -> tuple[int, ...]:
        """Projector directions there are."""
        return self.projector.directions if self.projector is not None else ()

    @property
    def devices(self) -> Devices:
        """What an executor drives."""
        return Devices(
            self.camera,
            self.lights,
            self.projector,
            getattr(self.lights, "settle_ms", 0.0) / 1000,
            getattr(getattr(self.projector, "settings", None), "settle_ms", 0.0) / 1000,
            self.camera.reopen,
            None if self.settings.camera.link_mbit_s is None else self.settings.camera.link_mbit_s * 1e6 / 8,
        )

    @property
    def identities(self) -> dict[str, str]:
        """Who the devices are, as far as they say."""
        info = self.camera.info
        version = f", version {info.version}" if info.version else ""
        told = {"camera": f"{info.vendor} {info.model} {info.serial_number}{version}"}
        if self.lights is not None:
            silent = "" if self.lights.acknowledges else "; never answers, so nothing of it is acknowledged"
            told["lights"] = self.lights.identity + silent
        if self.projector is not None:
            told["projector"] = self.projector.identity
        return told

    def camera_settings(self, exposure_us: float, gain_db: float = 0.0) -> CameraSettings:
        """The camera's settings of rig.toml with an exposure."""
        c = self.settings.camera
        return CameraSettings(exposure_us, gain_db, c.pixel_format, c.offset_x, c.offset_y, c.width, c.height)

    def check_guarded(self) -> None:
        """Raise ``guardian.gone`` if nobody would darken the rig should this program die; see :mod:`guardian`."""
        if self._guardian is not None:
            self._guardian.check()

    def make_dark(self) -> None:
        """Lights and projector off, camera disarmed."""
        make_dark(self.devices)

    def close(self) -> None:
        """Switch everything off and let go of it; may be called twice."""
        self._closing.close()

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_rig(path: str | Path) -> RigSettings:
    """What a rig.toml says, without opening anything; raises :class:`ConfigError`."""
    return config.load_toml(path, RigSettings, hint="mend the keys named; docs/rig.md lists what rig.toml may hold")


def _without_driver(section: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != "driver"}


def _device(kind: str, shining: dict[str, dict[str, Any]]) -> Any:
    entry = shining[kind]
    return find_driver(kind, entry["driver"])(**entry["options"])


def _tree(failed: list[tuple[str, RakelightError]]) -> RakelightError:
    """All that is wrong with a rig in one error; a single one keeps its kind and code."""
    if len(failed) == 1:
        name, error = failed[0]
        kind = type(error) if isinstance(error, (DeviceError, ConfigError)) else DeviceError
        return kind(f"{name}: {error.message}", hint=error.hint, code=error.code)
    lines = "".join(f"\n  {name} [{e.code}] {e.message}\n    → {e.hint}" for name, e in failed)
    return DeviceError(f"{len(failed)} devices did not open:{lines}", hint="mend each as it says", code="rig.open")


def simulated_rig(url: str, closing: contextlib.ExitStack) -> tuple[RigSettings, SimulatedBench]:
    """Start a simulated bench in a process of its own; it goes when this one does."""
    bench = SimulatedBench(url)
    closing.callback(bench.close)
    return config.validate(bench.settings, RigSettings, source=url), bench
