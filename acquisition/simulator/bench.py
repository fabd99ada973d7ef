"""The simulated bench: one process that holds the scene, the timeline of its lights, and the far ends of all wires.

``python -m rakelight.acquisition.simulator.bench sim://knob_cap?seed=3&fault=drop@17`` prints one JSON line, the rig's settings
as rig.toml would hold them, and serves until its input closes. Options of the URL: ``seed``, ``defect``, ``width``, ``height``,
``bayer`` (1, 0), ``zones`` (4: how many), ``projector`` (1, 0), ``lights`` (hik, cst, ccs, vst, xor), ``fault``, ``prerendered``
(1: pictures of the same light are made once), ``rise_ms`` and ``latency_ms`` of the lights, ``temperature`` of the camera in °C
(0: it warms up from 30 to 38). ``sim://targets`` begins with the ChArUco board and is meant for a guided calibration.

While it serves, a line on its input lays something else under the camera: ``{"place": "white_plane", "seed": 0}``, with
``"pose"`` where it is not the seed that decides, and ``"blur_px"`` for a lens out of focus;
``"cover"`` puts a cap on the lens. It answers with one line when that is done.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from rakelight.acquisition.simulator.exposure import Exposures
from rakelight.acquisition.simulator.gentl.build import cti_path
from rakelight.acquisition.simulator.light_device import BAUD as FAMILIES
from rakelight.acquisition.simulator.light_device import LightFaults, light_device
from rakelight.acquisition.simulator.memory import available_bytes, check_memory
from rakelight.acquisition.simulator.projector_device import ProjectorDevice
from rakelight.acquisition.simulator.rig import Rig, reference_rig
from rakelight.acquisition.simulator.scene import Lit, Scene, default_samples
from rakelight.acquisition.simulator.scene_server import SceneServer
from rakelight.acquisition.simulator.serial_host import SerialHost
from rakelight.acquisition.simulator.solid import Pose
from rakelight.acquisition.simulator.specimen import Specimen, make_specimen
from rakelight.acquisition.simulator.timeline import Timeline
from rakelight.acquisition.simulator.wire_faults import parse_faults
from rakelight.errors import InputError, RakelightError
from rakelight.reconstruction.patterns import Uniform

_TARGETS, _FIRST_TARGET = "targets", "charuco"
_COVER = "cover"
_READERS: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "bool": lambda t: bool(int(t)), "str": str}


@dataclass(frozen=True)
class BenchOptions:
    """What a ``sim://`` URL says."""

    part: str
    seed: int = 0
    defect: str = ""
    width: int = 1368
    height: int = 0
    bayer: bool = True
    zones: int = 4
    projector: bool = True
    lights: str = "hik"
    baud: int = 115200
    fault: str = ""
    prerendered: bool = False
    rise_ms: float = 0.5
    latency_ms: float = 1.0
    samples: int = 0
    temperature: int = 0


def parse_url(url: str) -> BenchOptions:
    """``sim://PART?key=value&…`` → options; raises :class:`InputError` (``simulator.url``) naming the key."""
    parts = urlsplit(url)
    if parts.scheme != "sim" or not parts.netloc:
        raise _url_error(url, "is no simulated rig")
    values: dict[str, Any] = {"part": _FIRST_TARGET if parts.netloc == _TARGETS else parts.netloc}
    known = {f.name: str(f.type) for f in fields(BenchOptions)}
    for key, text in parse_qsl(parts.query, keep_blank_values=True):
        if key not in known or key == "part":
            raise _url_error(url, f"has the unknown key {key!r}; known: {', '.join(k for k in known if k != 'part')}")
        try:
            values[key] = _READERS[known[key]](text)
        except ValueError as error:
            raise _url_error(url, f"has {key}={text!r}, which is no {known[key]}") from error
    options = BenchOptions(**values)
    if options.lights not in FAMILIES:
        raise _url_error(url, f"has lights={options.lights!r}; known: {', '.join(FAMILIES)}")
    if not 0 <= options.temperature <= 100:
        raise _url_error(
            url, f"has temperature={options.temperature}; allowed: 1 to 100 °C, or 0 for a camera that warms up"
        )
    if not 0 <= options.zones <= 4:
        raise _url_error(url, f"has zones={options.zones}; allowed: 0 to 4")
    return options


def _url_error(url: str, what: str) -> InputError:
    return InputError(
        f"{url} {what}", hint="for example sim://knob_cap?seed=3&width=912&fault=drop@17", code="simulator.url"
    )


class Bench:
    """Everything running; ``settings`` is what a rig needs to know. Use as a context, or call ``close``."""

    def __init__(self, options: BenchOptions) -> None:
        self._open = contextlib.ExitStack()
        try:
            self._build(options)
        except BaseException:
            self._open.close()
            raise

    def _build(self, options: BenchOptions) -> None:
        faults = parse_faults(options.fault)
        kind = "BayerRG12" if options.bayer else "Mono12"
        rig = reference_rig(options.width, options.height or None, pixel_format=kind)
        samples = options.samples or default_samples(rig.camera.width)
        check_memory(rig.camera.width, rig.camera.height, samples, 4, available_bytes())
        self._options, self._rig, self._samples = options, rig, samples
        self.specimen: Specimen = make_specimen(options.part, options.seed, options.defect or None)
        self.scene = self._scene_of(self.specimen, rig)
        self.timeline = Timeline()
        self.exposures = Exposures(
            self.scene, self.timeline, faults, seed=options.seed, prerendered=options.prerendered
        )
        self._over_triggers, self._begun = faults.over_triggers, 0
        self.server = SceneServer(
            rig.camera.width, rig.camera.height, options.bayer, self.exposures, self._on_exposure_active
        )
        self._open.callback(self.server.close)
        self.settings: dict[str, Any] = {
            "schema": 1,
            "rig_id": "reference-simulated-rig",
            "simulated": True,
            "camera": {
                "driver": "genicam",
                "producer": str(cti_path()),
                "serial_number": "SIM-0001",
                "pixel_format": kind,
                "environment": {
                    "RAKELIGHT_SCENE": self.server.address,
                    "RAKELIGHT_SERIAL": "SIM-0001",
                    "RAKELIGHT_TEMPERATURE_C": str(options.temperature),
                },
            },
        }
        if options.zones:
            self.settings["lights"] = self._lights(
                options, LightFaults(faults.dead_zones, faults.swapped_zones), faults
            )
        if options.projector:
            device = ProjectorDevice(self.timeline, edge=self.server.trigger, faults=faults.projector)
            self._open.callback(device.close)
            host = SerialHost(device, baud=options.baud, faults=faults.projector_line)
            self._open.callback(host.close)
            self.settings["projector"] = {"driver": "bridge", "port": host.url, "baud": options.baud}

    def place(self, name: str, seed: int = 0, pose: Pose | None = None, blur_px: float | None = None) -> None:
        """Lay something else under the camera, as a hand would; see the module."""
        if name == _COVER:
            self.exposures.place(None)
            return
        self.specimen = make_specimen(name, seed, pose=pose)
        rig = self._rig if blur_px is None else replace(self._rig, blur_px=blur_px)
        self.scene = self._scene_of(self.specimen, rig)
        self.exposures.place(self.scene)

    def _scene_of(self, specimen: Specimen, rig: Rig) -> Scene:
        """A scene that has rendered what every source does, so that no frame comes late because its maps are made first."""
        scene = Scene(specimen.part, rig, specimen.pose, samples=self._samples)
        states = [Lit({zone: 1.0}) for zone in range(1, self._options.zones + 1)]
        if self._options.projector:
            states += [Lit({}, source.direction, Uniform(1.0)) for source in scene.rig.projectors]
        for state in states:
            scene.read_out(scene.electrons([(state, 1.0)]), seed=0)
        return scene

    def _on_exposure_active(self, line: int, level: int, at_ns: int) -> None:
        """Edges of an exposure; for the fault ``over_trigger`` one more trigger, on either input, while it lasts."""
        self._begun += level
        if level and self._begun in self._over_triggers:
            for source in (0, 1):
                self.server.trigger(at_ns + 1000, source)

    def _lights(self, options: BenchOptions, lamps: LightFaults, faults: Any) -> dict[str, Any]:
        zones = {zone: zone for zone in range(1, options.zones + 1)}
        device = light_device(
            options.lights,
            zones,
            self.timeline,
            latency_s=options.latency_ms / 1000,
            rise_s=options.rise_ms / 1000,
            faults=lamps,
        )
        host = SerialHost(device, baud=options.baud, faults=faults.light_line)
        self._open.callback(host.close)
        return {
            "driver": "serial",
            "protocol": options.lights,
            "port": host.url,
            "baud": options.baud,
            "channels": {str(zone): zone for zone in zones},
            "settle_ms": options.latency_ms + options.rise_ms + 0.5,
            "max_duty": 1.0,
        }

    def close(self) -> None:
        """End all wires."""
        self._open.close()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # ends in order, whatever it is at
    try:
        bench = Bench(parse_url(sys.argv[1]))
    except RakelightError as error:
        print(json.dumps({"error": error.to_dict()}), flush=True)  # noqa: T201 - the rig reads it
        return error.exit_code
    with bench:
        print(json.dumps(bench.settings), flush=True)  # noqa: T201 - the rig reads it
        for line in sys.stdin:  # until whoever started it has gone
            print(json.dumps(_placed(bench, line)), flush=True)  # noqa: T201 - the rig reads it
    return 0


def _placed(bench: Bench, line: str) -> dict[str, Any]:
    """Do what a line asks for; what stands in the answer."""
    try:
        told = json.loads(line)
        pose = Pose(**told["pose"]) if told.get("pose") else None
        bench.place(str(told["place"]), int(told.get("seed", 0)), pose, told.get("blur_px"))
    except RakelightError as error:
        return {"error": error.to_dict()}
    except (ValueError, KeyError, TypeError) as error:
        return {"error": {"message": f"{line.strip()[:80]!r} is no command: {error}", "code": "simulator.command"}}
    return {"placed": told["place"]}


if __name__ == "__main__":
    sys.exit(main())
