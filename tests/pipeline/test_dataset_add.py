"""Recordings become samples of a data set, side by side, and are derived again when something has changed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakelight import files
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset import images, journal, layout, staging
from rakelight.dataset.encoded_maps import decode_normals
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.recording import Recording, content_sha256
from rakelight.dataset.writer import Dataset, DatasetWriter
from rakelight.errors import ConfigError, DatasetError, RakelightError, StorageError
from rakelight.pipeline import many
from rakelight.pipeline.addition_list import additions_of
from rakelight.pipeline.dataset_add import Addition, Result, add, find_recordings
from rakelight.pipeline.dataset_rebuild import Wish, rebuild
from rakelight.pipeline.many import Crew
from rakelight.pipeline.simulate import Settings, simulate
from rakelight.pipeline.truth import load_truth

HERE = Crew("none")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated parts, one with a dent, light stack and patterns, each with its truth."""
    folder = tmp_path_factory.mktemp("simulated")
    for seed, defect in ((0, None), (1, "dent")):
        simulate("knob_cap", folder / f"knob-{seed}", seed=seed, defect=defect, settings=Settings(456, samples=1))
    return folder


@pytest.fixture
def lit(scenes: Any, tmp_path: Path) -> tuple[list[Path], Path]:
    """Three small recordings of lights alone, and their calibration."""
    calibration = scenes.calibration().save(tmp_path / "lab")
    folders = []
    for k in range(3):
        scenes.record(tmp_path / f"p{k}", scenes.part() * (1 + 0.1 * k), "BayerRG12", dark=scenes.BLACK)
        folders.append(tmp_path / f"p{k}")
    return folders, calibration


def additions(lit: tuple[list[Path], Path], label: str = "OK") -> list[Addition]:
    return [Addition(folder, "knob_cap", label, lit[1]) for folder in lit[0]]


def listed(*arguments: Any, **options: Any) -> list[Addition]:
    """:func:`additions_of`, where every recording can be used."""
    found = additions_of(*arguments, **options)
    assert not [a for a in found if isinstance(a, Result)]
    return [a for a in found if isinstance(a, Addition)]


def new_set(tmp_path: Path, name: str = "set") -> Dataset:
    return Dataset.init(tmp_path / name, name)


# -------------------------------------------------------------------------------------------------------------------- whole
@pytest.mark.slow
def test_simulated_parts_become_full_samples_that_match_their_truth(simulated: Path, tmp_path: Path) -> None:
    dataset = new_set(tmp_path)
    found = list(add(dataset, additions_of([simulated], truth=True), crew=HERE))
    assert [str(r.sample.key) for r in found if r.sample] == ["knob_cap/OK/S0001", "knob_cap/NG/dent/S0001"]
    sample = OpenSample(dataset.root, layout.SampleKey("knob_cap", "dent", 1))
    truth = load_truth(Recording.open(simulated / "knob-1"))
    assert truth is not None
    assert sample.modalities == ("RGBL01", "RGBL02", "RGBL03", "RGBL04", "RGBL05", "PS", "XYZ", "PCD", "MASK")
    xyz, part, mask, picture = sample.xyz(), sample.part_mask(), sample.mask(), sample.rgb()
    assert xyz is not None and part is not None and mask is not None and picture is not None
    assert picture.shape == xyz.shape == (304, 456, 3)
    assert np.array_equal(mask > 0, truth.defect)
    assert (part & truth.mask).sum() > 0.9 * truth.mask.sum()
    seen = truth.mask & np.isfinite(xyz[..., 2])
    assert np.median(np.abs(xyz[seen] - truth.xyz[seen])) < 0.01  # mm
    stored = sample.image("normals.tiff")
    assert stored is not None
    normals = decode_normals(stored.astype(np.uint16))
    cosines = (normals * truth.normals).sum(-1)[truth.mask & np.isfinite(normals[..., 0])]
    assert np.median(cosines) > np.cos(np.radians(2))
    manifest = sample.manifest
    assert (manifest.specimen, manifest.simulated, manifest.width) == ("knob_cap-0001", True, 456)
    assert (dataset.root / str(manifest.source.recording)).resolve() == (simulated / "knob-1").resolve()
    assert manifest.quality["part_coverage"] > 0.9
    assert [list(dataset.verify_sample(info)) for info in dataset.samples()] == [[], []]


def test_the_same_recording_is_a_sample_once(lit: Any, tmp_path: Path) -> None:
    dataset = new_set(tmp_path)
    assert [str(r.sample.key) for r in add(dataset, additions(lit), crew=HERE) if r.sample] == [
        f"knob_cap/OK/S000{n}" for n in (1, 2, 3)
    ]
    again = list(add(dataset, additions(lit), crew=HERE))
    assert [r.skipped for r in again] == [f"knob_cap/OK/S000{n}" for n in (1, 2, 3)]
    other = list(add(dataset, additions(lit, "scratch"), crew=HERE))
    assert {r.error["code"] for r in other if r.error} == {"dataset.recording_known"} and len(other) == 3
    twice = [*additions(lit, "scratch")[:1], *additions(lit)[:1]]
    assert [bool(r.error or r.skipped) for r in add(new_set(tmp_path, "b"), twice, crew=HERE)].count(True) == 1
    assert len(dataset.listed()) == 3


def test_one_bad_recording_never_stops_the_rest(lit: Any, tmp_path: Path) -> None:
    broken = lit[0][0]
    next(broken.glob("*.tiff")).unlink()
    (tmp_path / "empty").mkdir()
    wanted = [*additions(lit), Addition(tmp_path / "empty", "knob_cap", "OK", lit[1])]
    dataset = new_set(tmp_path)
    results = {r.recording.name: r for r in add(dataset, wanted, crew=HERE)}
    assert {name: r.error["code"] for name, r in results.items() if r.error} == {
        "p0": "image.missing",
        "empty": "recording.not_found",
    }
    assert len(dataset.listed()) == 2
    assert list((dataset.root / ".staging").iterdir()) == []


def test_a_full_disk_stops_the_run_and_the_next_one_goes_on(
    lit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = new_set(tmp_path)
    staged = 0

    def stage(*arguments: Any, **options: Any) -> Any:
        nonlocal staged
        staged += 1
        if staged == 2:
            raise StorageError("disk full while writing x", hint="free some space", code="storage.disk_full")
        return real(*arguments, **options)

    real = staging.stage
    with monkeypatch.context() as patch:
        patch.setattr(staging, "stage", stage)
        with pytest.raises(StorageError, match="disk full"):
            list(add(dataset, additions(lit), crew=HERE))
    assert staged == 2 and len(dataset.listed()) == 1 and list((dataset.root / ".staging").iterdir()) == []
    assert [bool(r.sample) for r in add(dataset, additions(lit), crew=HERE)] == [False, True, True]


def test_a_name_that_loaders_trip_over_is_refused_before_any_work(lit: Any, tmp_path: Path) -> None:
    dataset = new_set(tmp_path)
    with pytest.raises(RakelightError, match="rgb"):
        list(add(dataset, [Addition(lit[0][0], "rgb_part", "OK", lit[1])], crew=HERE))
    assert not list((dataset.root / "calibration").iterdir())


@pytest.mark.slow
def test_worker_processes_make_the_same_samples_as_this_one(lit: Any, tmp_path: Path) -> None:
    hashes = []
    for name, crew in (("here", HERE), ("there", Crew("local", 2))):
        dataset = new_set(tmp_path, name)
        results = list(add(dataset, additions(lit), crew=crew))
        assert [r.error for r in results] == [None] * 3
        of_part = {}
        for r in results:
            assert r.sample is not None
            sample = OpenSample(dataset.root, r.sample.key)
            of_part[sample.manifest.specimen] = {
                f.role: f.sha256 for f in sample.manifest.files if f.role in layout.MODALITIES
            }
        hashes.append(of_part)
    assert hashes[0] == hashes[1]


def boom(task: dict[str, Any]) -> dict[str, Any]:
    if task["n"] == 1:
        raise ValueError("a defect")
    if task["n"] == 2:
        import os

        os._exit(1)
    return {"n": task["n"]}


@pytest.mark.slow
def test_a_worker_that_dies_or_fails_costs_one_task() -> None:
    before = dict(os.environ)
    outcomes = dict(many.run(boom, [{"n": n} for n in (0, 1, 3, 2, 4)], Crew("local", 1)))
    kept = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS")}
    assert kept == {name: before.get(name) for name in kept}  # another number would stop numba in this process
    assert outcomes[0] == {"n": 0} and outcomes[2] == {"n": 3} and outcomes[4] == {"n": 4}
    assert outcomes[1]["error"]["code"] == "internal" and "a defect" in outcomes[1]["error"]["message"]
    assert outcomes[3]["error"]["code"] == "many.worker_died"


@pytest.mark.slow
def test_a_cluster_without_workers_is_told_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        monkeypatch.setattr(many, "_CONNECT_S", 1)
        with pytest.raises(ConfigError) as caught:
            list(many.run(boom, [{"n": 0}], Crew(cluster.scheduler_address)))
    assert caught.value.code == "many.no_workers"


def test_an_interrupt_waits_until_a_cluster_has_started() -> None:
    reached = []
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        with many._interrupts_wait():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("started")
        reached.append("never")
    assert reached == ["started"]
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("crew", [("somewhere", None, 1), ("local", 0, 1), ("local", 1, 0)])
def test_crews_that_cannot_be(crew: Any) -> None:
    with pytest.raises(RakelightError, match=r"scheduler|workers"):
        Crew(*crew)


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [1.5, 2.5, 3.5])
def test_ctrl_c_leaves_what_was_committed_and_nothing_half_done(lit: Any, tmp_path: Path, delay_s: float) -> None:
    dataset = new_set(tmp_path)
    arguments = ["dataset", "add", str(dataset.root), *map(str, lit[0]), "--category", "knob_cap", "--label", "OK"]
    command = [sys.executable, "-m", "rakelight", *arguments, "-c", str(lit[1]), "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(delay_s)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    # Python ends itself by SIGINT (130 to a shell, too) when the interrupt fell into an exec() of some module's import.
    assert process.returncode in (130, -signal.SIGINT, 0), err
    assert list((dataset.root / ".staging").iterdir()) == []
    # A run that ends before the interrupt names each sample twice: as it comes, and in its closing table.
    committed = set(re.findall(r"knob_cap/OK/S\d+", out))
    assert {str(sample.key) for sample in dataset.listed()} == committed
    second = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=120)
    told = json.loads(second.stdout)
    assert len(told["added"]) + len(told["skipped"]) == 3 and not told["failed"]
    assert len(dataset.listed()) == 3


def test_a_calibration_of_another_rig_is_refused_unless_it_is_meant(scenes: Any, lit: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    known: RigCalibration = scenes.calibration()
    rig = {"rig_id": "another", "devices": {"camera": "maker model (serial 77)"}}
    other = replace(known, calibration_id="other", provenance={**known.provenance, "rig": rig}).save(tmp_path / "other")
    recording = tmp_path / "told"
    shutil.copytree(lit[0][0], recording)
    record = json.loads((recording / "recording.json").read_text("utf-8"))
    record |= {"rig_id": "bench-1", "devices": {"camera": "maker model (serial 12)"}}
    record["content_sha256"] = content_sha256(record)
    (recording / "recording.json").write_text(json.dumps(record), "utf-8")
    dataset = new_set(tmp_path)
    wanted = Addition(recording, "knob_cap", "OK", other)
    (refused,) = add(dataset, [wanted], crew=HERE)
    assert refused.error is not None and refused.error["code"] == "dataset.calibration_differs"
    (meant,) = add(dataset, [replace(wanted, any_calibration=True)], crew=HERE)
    assert meant.sample is not None and any("camera" in w for w in meant.warnings)


# ------------------------------------------------------------------------------------------------------------------- lists
def test_folders_of_recordings_and_tables(lit: Any, tmp_path: Path) -> None:
    assert find_recordings([tmp_path]) == lit[0]
    table = tmp_path / "labels.csv"
    table.write_text("recording,label,batch\np0,OK,lot-1\np2,scratch,\n", encoding="utf-8")
    found = listed([], table, category="knob_cap", calibration=lit[1], batch="lot-2")
    assert [(a.recording.name, a.label, a.batch) for a in found] == [("p0", "OK", "lot-1"), ("p2", "scratch", "lot-2")]
    table.write_text("\ufeffRecording;Label\np1;a_dent\n", encoding="utf-8")  # as some spreadsheets do
    found = listed([], table, category="knob_cap", calibration=lit[1])
    assert [(a.recording.name, a.label) for a in found] == [("p1", "a_dent")]
    with pytest.raises(DatasetError, match=r"nope\.csv does not exist"):
        additions_of([], tmp_path / "nope.csv", category="knob_cap", calibration=lit[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recording,colour\np0,red\n", "colour"),
        ("label\nOK\n", "head line"),
        ("recording,label\n,OK\n", "line 2"),
        ("recording,label\np0,OK,more\n", "line 2"),
        ("recording\np0\n", "label"),
        ("\xff\xfe", "CSV|head line"),
    ],
)
def test_tables_that_cannot_be_read(lit: Any, tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "labels.csv"
    table.write_bytes(text.encode("latin-1"))
    with pytest.raises(RakelightError, match=message):
        additions_of([], table, category="knob_cap", calibration=lit[1])


# ----------------------------------------------------------------------------------------------------------------- rebuild
def test_rebuilt_samples_keep_key_label_and_mask_and_count_revisions(scenes: Any, lit: Any, tmp_path: Path) -> None:
    dataset = new_set(tmp_path)
    mask = np.zeros((180, 240), np.uint8)
    mask[20:40, 30:50] = 255
    images.write_png(tmp_path / "mask.png", mask)
    first = Addition(lit[0][0], "knob_cap", "scratch", lit[1], mask=tmp_path / "mask.png")
    list(add(dataset, [first, *additions(lit)[1:]], crew=HERE))
    assert [r.reason for r in rebuild(dataset, crew=HERE)] == ["", "", ""]
    with dataset.writer() as writer:
        moved = writer.relabel(layout.SampleKey("knob_cap", "scratch", 1), "dent", by="me")
    done = {str(r.key): r for r in rebuild(dataset, Wish(ps="relief"), crew=HERE)}
    assert {r.reason for r in done.values()} == {"other settings"} and {r.revision for r in done.values()} == {2}
    sample = OpenSample(dataset.root, moved)
    assert np.array_equal(sample.mask(), mask)
    assert sample.manifest.labels[0].label == "scratch" and sample.manifest.source.settings["ps"] == "relief"
    assert [r.reason for r in rebuild(dataset, Wish(ps="relief"), crew=HERE)] == ["", "", ""]
    fused = list(rebuild(dataset, Wish(fuse=True), keys=[moved], crew=HERE))
    assert [(r.reason, r.error) for r in fused] == [("other settings", None)]
    settings = OpenSample(dataset.root, moved).manifest.source.settings
    assert (settings["ps"], settings["fuse"]) == ("relief", True)  # what was not asked for stays
    assert [r.reason for r in rebuild(dataset, Wish(ps="relief"), keys=[moved], crew=HERE)] == [""]
    stronger = _other_calibration(scenes, tmp_path)
    changed = list(rebuild(dataset, Wish(calibration=stronger), keys=[moved], crew=HERE))
    assert [(r.reason, r.revision) for r in changed] == [("other calibration", 4)]
    assert [dataset.verify_sample(info) for info in dataset.samples()] == [[], [], []]
    assert list((dataset.root / ".staging").iterdir()) == []


def test_files_that_are_gone_are_made_again(lit: Any, tmp_path: Path) -> None:
    dataset = new_set(tmp_path)
    list(add(dataset, additions(lit)[:2], crew=HERE))
    for info, role in zip(dataset.listed(), ("PS", "RGBL01"), strict=True):
        path = OpenSample(dataset.root, info.key).path(role)
        assert path is not None
        path.unlink() if role == "PS" else path.write_bytes(path.read_bytes()[:-1])
    assert [(r.reason, r.error) for r in rebuild(dataset, crew=HERE)] == [("damaged", None)] * 2
    assert [dataset.verify_sample(info) for info in dataset.samples()] == [[], []]


def test_a_bad_name_in_a_table_is_told_with_its_line(lit: Any, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    for row, told in (("p1,Scratch,", "Scratch"), ("p1,scratch,rgb_part", "rgb"), ("p1,,", "nothing says the label")):
        table.write_text(f"recording,label,category\np0,OK,\n\n{row}\n")
        with pytest.raises(RakelightError, match=told) as caught:
            additions_of([], table, category="knob_cap", calibration=lit[1])
        assert caught.value.message.startswith(f"{table}, line 4: ")


def test_recordings_without_truth_or_calibration_fail_alone(lit: Any, tmp_path: Path) -> None:
    for name, text in (("p1", '{"name": "knob_cap", "label": "good"}'), ("p2", "[1]")):
        (tmp_path / name / "truth").mkdir()
        (tmp_path / name / "truth" / "truth.json").write_text(text)
    alone = additions_of(lit[0], truth=True)
    assert [a.error["code"] for a in alone if isinstance(a, Result) and a.error] == [
        "truth.missing",
        "truth.no_calibration",
        "truth.damaged",
    ]
    shutil.rmtree(tmp_path / "p1" / "truth")
    table = tmp_path / "labels.csv"
    table.write_text("recording\np0\n")
    dataset = new_set(tmp_path)
    wanted = [*additions_of([], table, calibration=lit[1], truth=True), *additions(lit)[1:2]]
    results = list(add(dataset, wanted, crew=HERE))
    assert [r.error and r.error["code"] for r in results] == ["truth.missing", None]
    assert results[0].error and results[0].error["message"].startswith(f"{table}, line 2: ")
    assert [str(r.sample.key) for r in results if r.sample] == ["knob_cap/OK/S0001"]


def _other_calibration(scenes: Any, tmp_path: Path) -> Path:
    from dataclasses import replace

    known: RigCalibration = scenes.calibration()
    lights = tuple(replace(light, strength=light.strength * 1.1) for light in known.lights)
    return replace(known, calibration_id="lab2", lights=lights, flat_field=None, dark=None).save(tmp_path / "lab2")


@pytest.mark.parametrize("fails_at", range(1, 5))
def test_a_fault_between_the_renames_of_a_rebuild_loses_nothing(
    lit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    dataset = new_set(tmp_path)
    list(add(dataset, additions(lit)[:1], crew=HERE))
    renames = 0

    def interrupted(source: Path, target: Path) -> None:
        nonlocal renames
        renames += 1
        if renames == fails_at:
            raise KeyboardInterrupt
        files.replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "replace", interrupted)
        # The writer settles what is pending when it closes: a process that is killed does not get there.
        patch.setattr(DatasetWriter, "close", lambda self: None)
        with pytest.raises(KeyboardInterrupt):
            list(rebuild(dataset, Wish(force=True), crew=HERE))
    with dataset.writer() as writer:
        assert "replacing" in writer.settled
    assert [(i.revision, dataset.verify_sample(i)) for i in dataset.samples()] == [(2, [])]


def test_recordings_that_moved_are_found_by_their_hash(lit: Any, tmp_path: Path) -> None:
    dataset = new_set(tmp_path)
    list(add(dataset, additions(lit), crew=HERE))
    (tmp_path / "archive").mkdir()
    for folder in lit[0]:
        shutil.move(folder, tmp_path / "archive" / f"moved-{folder.name}")
    lost = list(rebuild(dataset, Wish(force=True), crew=HERE))
    assert {r.error["code"] for r in lost if r.error} == {"dataset.recording_missing"} and len(lost) == 3
    found = list(rebuild(dataset, Wish(force=True), recordings=[tmp_path / "archive"], crew=HERE))
    assert [r.revision for r in found] == [2, 2, 2]
    assert [r.reason for r in found] == ["forced"] * 3
