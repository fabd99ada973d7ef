"""``rakelight detect watch``: every newly captured part is judged at once."""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import click

from rakelight.cli.capturing import next_part, progress_text, size_text, stopping, tell_leftovers, wait_for_part
from rakelight.cli.console import progress, warn
from rakelight.cli.device_option import device_option

if TYPE_CHECKING:
    from rakelight.acquisition.rig import Rig
    from rakelight.detection.detector import Detector
    from rakelight.pipeline.detect_watch import Judged, Station
    from rakelight.pipeline.sample import PsPicture
    from rakelight.pipeline.verdict_stream import LineLog, LineSender

_PATH = click.Path(path_type=Path)
_ENDED = {"count": "as many parts as asked for", "timeout": "no part came for the time-out", "stopped": "stopped"}


@click.command("watch")
@click.argument("model", type=_PATH)
@click.argument("dataset", type=_PATH, required=False)
@click.option("--all", "also_old", is_flag=True, help="DATASET: judge the samples that are there already, too.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0, min_open=True), metavar="S",
              help="DATASET: end when no new sample came for so many seconds.")  # fmt: skip
@click.option("--rig", "-r", help="Capture: rig.toml, or a simulated rig: sim://knob_cap?seed=3&width=912")
@click.option("--recipe", "-p", type=_PATH, help="--rig: recipe.toml, what to capture.")
@click.option("--calibration", "-c", type=_PATH, help="--rig: calibration of the rig.")
@click.option("--output", "-o", type=_PATH, help="--rig: folder that keeps every recording.")
@click.option("--part-id", help="--rig: name of the parts before their number.  [default: the product's name]")
@click.option("--no-wait", is_flag=True, help="--rig: do not wait for Enter before each part (never waited for on "
              "simulated rigs, or without a terminal).")  # fmt: skip
@click.option("--burst", is_flag=True, help="--rig: projectors run by themselves and trigger the camera (wired).")
@click.option("--ps", type=click.Choice(["normals", "relief", "curvature"]), default="normals", show_default=True,
              help="--rig: what the pseudo-3D picture shows, as in the data set that taught.")  # fmt: skip
@click.option("--fuse", is_flag=True, help="--rig: let the normals refine the surface, as in the data set that taught.")
@click.option("-n", "--count", type=click.IntRange(1), help="End after so many parts (errors count).")
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05, show_default=True,
              help="False-alarm level.")  # fmt: skip
@click.option("--log", type=_PATH, help="File that gets a JSON line a part, safe on disk before the next one.")
@click.option("--tcp", metavar="HOST:PORT", help="Connect to a PLC or MES there and send it the JSON lines.")
@click.option("--tcp-listen", metavar="[HOST:]PORT", help="Send the JSON lines to whoever connects to this port "
              "(on all network interfaces unless HOST is given).")  # fmt: skip
@click.option("--pictures", type=_PATH, help="Folder for every part's heat maps and sheet (about half a second each).")
@click.option(
    "--drift-file",
    type=_PATH,
    help="Where the drift monitor is kept; two stations with one model need one each.  [default: MODEL.drift.json]",
)
@click.option("--reset-drift", is_flag=True, help="Forget the drift seen so far: the lamp is clean again.")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON line a part, and one for the summary.")
def watch(**told: Any) -> None:
    """Judge every new part at once: samples that other programs add to DATASET, or parts in front of a rig.

    \b
    A data set that `rakelight dataset add` (or the station) fills:
      rakelight detect watch models/knob parts --log verdicts.jsonl --pictures heat
    A rig; Enter captures the next part, and its recording stays in recordings/:
      rakelight detect watch models/knob --rig rig.toml --recipe knob.toml -c calibration/lab -o recordings
      rakelight detect watch models/knob --rig "sim://knob_cap?width=912" -p knob.toml -c lab -o recordings -n 5
    To a PLC, as one line of UTF-8 JSON a part (fields: `rejected`, `score`, `key`, `sequence`, `drift`, `ms` …):
      rakelight detect watch models/knob parts --tcp 192.168.0.20:5000
      rakelight detect watch models/knob parts --tcp-listen 5000

    A part that cannot be judged gives an error line (`event` "error", `rejected` null) and the watch goes on. The judging never
    waits for a peer: up to 1000 lines wait for one that is away or slow and are sent in order when it is back; beyond that
    the oldest are lost, and counted. The log has them all.

    A drift monitor compares light, noise and points of every capture with those of the parts taught, so that a dirty lamp is not
    taken for bad parts. It remembers from run to run; after cleaning, start once with --reset-drift. A changed model starts
    it anew.

    Samples that are relabelled, replaced or rebuilt after they were seen are not judged again: `rakelight detect score` does.

    Ctrl-C ends, and tells what was judged. Exit code 0, also with rejected parts (they are in the lines).
    """
    chosen = _Chosen(**told)
    chosen.check()
    with contextlib.ExitStack() as closing:
        stop = closing.enter_context(stopping())
        _Watch(chosen, stop, closing).run()


@dataclass(frozen=True)
class _Chosen:
    """The options."""

    model: Path
    dataset: Path | None
    also_old: bool
    timeout_s: float | None
    rig: str | None
    recipe: Path | None
    calibration: Path | None
    output: Path | None
    part_id: str | None
    no_wait: bool
    burst: bool
    ps: PsPicture
    fuse: bool
    count: int | None
    alpha: float
    log: Path | None
    tcp: str | None
    tcp_listen: str | None
    pictures: Path | None
    drift_file: Path | None
    reset_drift: bool
    device: str
    as_json: bool

    def check(self) -> None:
        """What goes together."""
        if (self.dataset is None) == (self.rig is None):
            raise click.UsageError("name either a data set to watch, or a rig to capture with (--rig)")
        of_rig: dict[str, Any] = {"--recipe": self.recipe, "--calibration": self.calibration, "--output": self.output}
        if self.rig is not None:
            missing = [name for name, value in of_rig.items() if value is None]
            if missing:
                raise click.UsageError(
                    f"--rig needs {', '.join(missing)} too: what to capture, how to reconstruct it, where to keep it"
                )
            needless = [n for n, v in {"--all": self.also_old, "--timeout": self.timeout_s}.items() if v]
        else:
            of_rig |= {"--part-id": self.part_id, "--no-wait": self.no_wait, "--burst": self.burst, "--fuse": self.fuse}
            needless = [name for name, value in of_rig.items() if value]
        if needless:
            raise click.UsageError(f"{', '.join(needless)}: only for a {'data set' if self.rig else 'rig (--rig)'}")


class _Watch:
    """One run of the command: opens everything, judges, and tells."""

    def __init__(self, chosen: _Chosen, stop: threading.Event, closing: contextlib.ExitStack) -> None:
        from rakelight.pipeline.verdict_stream import parse_address

        self.o, self.stop, self._closing = chosen, stop, closing
        self.begun: Station | None = None
        self.log: LineLog | None = None
        self.senders: list[LineSender] = []
        self.ended, self.why = "count", ""
        self._alarm: tuple[str, tuple[str, ...]] = ("steady", ())
        # what may be mistyped first, before anything slow
        self._connect = None if chosen.tcp is None else parse_address(chosen.tcp)
        self._listen = None if chosen.tcp_listen is None else parse_address(chosen.tcp_listen, host="0.0.0.0")  # noqa: S104

    def run(self) -> None:
        from rakelight.acquisition.stepped import Cancelled

        judging = self._of_rig if self.o.rig is not None else self._of_dataset
        try:
            for number, judged in enumerate(judging(), 1):
                self._tell(judged)
                if self.o.count is not None and number >= self.o.count:
                    break
            else:
                self.ended = "stopped" if self.stop.is_set() or self.o.timeout_s is None else "timeout"
        except (Cancelled, KeyboardInterrupt):
            self.ended = "stopped"
        except BaseException as error:
            self.ended, self.why = "failed", str(error) or type(error).__name__
            raise
        finally:
            if self.begun is not None:
                self._sum_up()

    # ------------------------------------------------------------------------------------------ where parts come from
    def _of_dataset(self) -> Iterator[Judged]:
        from rakelight.dataset.new_samples import NewSamples
        from rakelight.dataset.opened import OpenSample
        from rakelight.dataset.writer import Dataset
        from rakelight.errors import DatasetError
        from rakelight.pipeline.detect_watch import follow

        assert self.o.dataset is not None
        opened = Dataset.open(self.o.dataset)
        detector = self._load()
        categories = opened.categories()
        if categories and detector.category not in categories:
            raise DatasetError(
                f"{opened.root} has no part of {detector.category!r}, which the model was taught; it has {', '.join(categories)}",
                hint="name the data set that gets these parts, or a model of one of its products",
                code="detect.no_category",
            )
        samples = NewSamples(opened.root, detector.category, known=not self.o.also_old)
        self._begin(detector)
        self._say(f"ready: watching {opened.root} for {detector.category}")
        for key in follow(samples, wait=self._wait, timeout_s=self.o.timeout_s):
            yield self.station.judge_sample(OpenSample(opened.root, key))

    def _of_rig(self) -> Iterator[Judged]:
        from rakelight.acquisition.recipe import load_recipe
        from rakelight.acquisition.rig import Rig
        from rakelight.calibration.rig_calibration import RigCalibration
        from rakelight.pipeline.dataset_add import Derivation
        from rakelight.pipeline.rig_watch import RigWatch

        o = self.o
        assert o.rig is not None and o.recipe is not None and o.calibration is not None and o.output is not None
        recipe, calibration = load_recipe(o.recipe), RigCalibration.load(o.calibration)
        self._begin(self._load())
        tell_leftovers(o.output)
        step = self._closing.enter_context(progress("opening the rig", quiet=o.as_json))
        rig = self._closing.enter_context(Rig.open(o.rig))
        asks = not o.no_wait and not rig.settings.simulated and sys.stdin.isatty()
        work = RigWatch(self.station, rig, recipe, calibration, Derivation(o.ps, None, o.fuse), o.burst, alone=not asks)
        self._say(f"ready: {size_text(rig, recipe, o.count or 1)}")
        for number in itertools.count(1):
            name, folder = next_part(recipe.product, o.part_id, o.output, True)
            if asks and not wait_for_part(name, number, o.count):
                self.stop.set()
            elif not asks and number > 1:
                _lay_next(rig, o.rig, number)
            if self._wait(0):
                return
            yield work.judge_next(
                name, folder, progress=lambda p: step(progress_text(p)), step=step, cancel=self.stop.is_set
            )

    # ------------------------------------------------------------------------------------------ before and after
    def _load(self) -> Detector:
        from rakelight.detection import model_file

        return model_file.load(self.o.model, device=self.o.device)

    def _begin(self, detector: Detector) -> None:
        """Everything that takes verdicts, and a first score, so that the first part takes no longer than the others."""
        from rakelight.pipeline.detect_watch import Station, model_sha256
        from rakelight.pipeline.drift_watch import DriftWatch, drift_file
        from rakelight.pipeline.verdict_stream import LineLog, LineSender

        o = self.o
        path = o.drift_file or drift_file(o.model)
        drift = DriftWatch.open(detector, model_sha256(o.model), path, alpha=o.alpha, reset=o.reset_drift)
        drift.save()  # now, so that a place that cannot be written is told before the first part
        self.log = None if o.log is None else LineLog(o.log)
        self.senders += [LineSender(connect=self._connect)] if self._connect else []
        self.senders += [LineSender(listen=self._listen)] if self._listen else []
        for sender in self.senders:
            self._closing.callback(sender.close, 0.0)
        station = Station(detector, o.model, drift, alpha=o.alpha, device=o.device)
        self._closing.callback(station.close)
        seconds = station.warm_up()
        self.begun = station
        known = len(detector.parts)
        self._say(
            f"{o.model}: {detector.method.name} knows {known} good parts of {detector.category}; scores one in {seconds:.2f} s"
        )
        if drift.sees:
            begun = drift.begun or f"going on after {drift.parts} parts"
            self._say(f"drift: watching {len(drift.sees)} figures of each capture, {begun} ({path})")
        else:
            warn(["the model knows no figures of captures, so a dirty lamp is not told from bad parts: teach it again"])
        state = drift.monitor.verdict()
        self._alarm = (state.state, state.causes)
        for sentence in state.sentences:
            self._say(f"DRIFT     {sentence}")

    def _tell(self, judged: Judged) -> None:
        """Say a verdict everywhere: sockets first, for somebody waits there; pictures last, for they take time."""
        from rakelight.pipeline.detect_watch import human_line
        from rakelight.pipeline.verdict_stream import json_line

        if self.o.pictures is not None and judged.verdict is not None:
            judged.line["pictures"] = str(self.o.pictures / self.station.picture_stem(judged.line))
        line = json_line(judged.line)
        for sender in self.senders:
            sender.send(line)
        if self.o.as_json:
            click.echo(line, nl=False)
        else:
            click.echo(human_line(judged, self.station.detector.method))
            warn(judged.line.get("warnings", []))
        if self.log is not None:
            self.log.write(line)
        if judged.drift is not None:
            self._tell_drift(judged)
            self.station.drift.save()
        if self.o.pictures is not None:
            self.station.draw(self.o.pictures, judged)
        self._notes()

    def _tell_drift(self, judged: Judged) -> None:
        """An alarm in words, when it comes, changes its causes, or ends."""
        assert judged.drift is not None
        now = (judged.drift.state, judged.drift.causes)
        if now != self._alarm and not self.o.as_json:
            for sentence in judged.drift.sentences or ("Captures and scores are as taught again.",):
                click.echo(f"DRIFT     {sentence}")
        self._alarm = now

    def _sum_up(self) -> None:
        summary = self.station.summary(self.ended) | ({"why": self.why} if self.why else {})
        delivery = [sender.close() for sender in self.senders]
        self._notes()
        for name in ("sent", "lost", "waiting"):
            summary[f"lines_{name}"] = sum(told[name] for told in delivery)
        if self.o.as_json:
            from rakelight.pipeline.verdict_stream import json_line

            click.echo(json_line(summary), nl=False)
            return
        ms, drift = summary["cycle_ms"], summary["drift"]
        click.echo(
            f"{summary['parts']} parts judged, {summary['rejected']} rejected, {summary['errors']} errors "
            f"({_ENDED.get(self.ended, self.ended)}{f': {self.why}' if self.why else ''})"
        )
        if ms["median"] is not None:
            spread = ", ".join(f"{name} {ms[name] / 1e3:.2f} s" for name in ("median", "p95", "max"))
            click.echo(f"cycle time: {spread}")
        click.echo(f"drift: {drift['state']}")
        for sentence in drift["sentences"]:
            click.echo(f"  {sentence}")
        for sender, told in zip(self.senders, delivery, strict=True):
            host, port = sender.address[:2]
            click.echo(
                f"{host}:{port}: {told['sent']} lines sent, {told['lost']} lost, {told['waiting']} not delivered"
            )
        if missed := summary["lines_lost"] + summary["lines_waiting"]:
            warn([self._where_kept(missed)])

    def _where_kept(self, missed: int) -> str:
        """Where the lines are that no peer took."""
        if self.log is None:
            return f"{missed} lines reached no peer and are kept nowhere; --log FILE keeps every line"
        upto = ", up to what ended the watch" if self.ended == "failed" else ""
        return f"{missed} lines reached no peer; {self.log.path} has them{upto}"

    # ------------------------------------------------------------------------------------------ small things
    @property
    def station(self) -> Station:
        assert self.begun is not None
        return self.begun

    def _wait(self, seconds: float) -> bool:
        self._notes()
        return self.stop.wait(seconds) if seconds > 0 else self.stop.is_set()

    def _notes(self) -> None:
        for note in (note for sender in self.senders for note in sender.notes()):
            if note.warning:
                warn([note.text])
            else:
                self._say(note.text)

    def _say(self, text: str) -> None:
        """On standard error, so that standard output holds verdicts alone."""
        click.echo(text, err=True)


def _lay_next(rig: Rig, url: str, number: int) -> None:
    """On a simulated rig the next specimen is laid as a hand would; one with a defect in its URL stays."""
    asked = parse_qs(urlsplit(url).query)
    if rig.bench is not None and "defect" not in asked:
        seed = int(asked.get("seed", ["0"])[0]) + number - 1
        rig.bench.place(urlsplit(url).netloc, seed)
