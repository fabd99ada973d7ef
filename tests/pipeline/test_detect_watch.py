"""A station at work on drawn discs: lines, errors, and a drift monitor that tells a dirty lamp from bad parts."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakelight.dataset.layout import SampleKey
from rakelight.dataset.new_samples import NewSamples
from rakelight.dataset.opened import OpenSample, open_samples
from rakelight.dataset.sample import SampleContent, Source
from rakelight.dataset.writer import Dataset, DatasetWriter
from rakelight.detection.detector import TaughtPart
from rakelight.detection.parts import load_part
from rakelight.detection.teaching import teach
from rakelight.errors import ModelError
from rakelight.pipeline.capture_facts import sample_statistics
from rakelight.pipeline.detect_watch import Judged, Station, follow, human_line
from rakelight.pipeline.drift_watch import DriftWatch, drift_file
from rakelight.pipeline.verdict_stream import json_line

SIZE = (120, 160)


def disc(seed: int, *, dim: float = 1.0, fault: bool = False, **more: Any) -> SampleContent:
    """A disc; under zone 2 (and all zones together) with ``dim`` of the light; ``fault``: a red spot of 5 % of its area."""
    rng = np.random.default_rng(seed)
    v, u = np.indices(SIZE, dtype=np.float32)
    mask = np.hypot(u - 84, v - 57) <= 40
    gain = 1 + 0.004 * rng.normal()
    rgb = {}
    for view, lamp in ((1, 1.0), (2, dim), (3, 1.0), (4, 1.0), (5, (3 + dim) / 4)):
        grey = gain * (lamp ** (1 / 2.4)) * np.where(mask, 150, 60) + rng.normal(0, 3, SIZE)
        picture = np.repeat(grey[..., None], 3, axis=2)
        if fault:
            picture[np.hypot(u - 90, v - 50) <= 9] = (220, 40, 40)
        rgb[view] = np.clip(picture, 0, 255).astype(np.uint8)
    ps = np.clip(np.array([128, 128, 250]) + rng.normal(0, 3, (*SIZE, 3)), 0, 255).astype(np.uint8)
    xyz = np.stack([u * 0.25, v * 0.25, 300 + rng.normal(0, 0.02, SIZE)], axis=-1).astype(np.float32)
    xyz[~mask | (rng.random(SIZE) < 0.02)] = np.nan
    made = {"ps": ps, "xyz": xyz, "part_mask": mask, "pitch_mm": 0.25, "source": Source(settings={"ps": "normals"})}
    label = "stain" if fault else "OK"
    return SampleContent("disc", label, "0" * 14, rgb, **(made | more))


@pytest.fixture(scope="module")
def product(judged: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Any]:
    """A data set of 10 good parts, and a detector taught them."""
    dataset = Dataset.init(tmp_path_factory.mktemp("product") / "set", "set")
    with dataset.writer() as writer:
        for seed in range(10):
            writer.commit(disc(seed))
    samples = list(open_samples(dataset.root, "disc"))
    parts = [load_part(s, size=judged.SIZE) for s in samples]
    taught = [TaughtPart(n, str(s.key), "", sample_statistics(s)) for n, s in enumerate(samples)]
    extractors = {m: judged.Blocks(m) for m in judged.METHOD.features}
    return dataset, teach(parts, taught, judged.METHOD, extractors, category="disc")


def station(detector: Any, folder: Path, **options: Any) -> Station:
    drift = DriftWatch.open(detector, "0" * 64, folder / "disc.drift.json", alpha=0.1, **options)
    return Station(detector, folder / "disc", drift, alpha=0.1)


@pytest.fixture
def writing(tmp_path: Path) -> Any:
    dataset = Dataset.init(tmp_path / "line", "line")
    with dataset.writer() as writer:
        yield dataset, writer


def judge(at: Station, dataset: Dataset, writer: DatasetWriter, content: SampleContent) -> Judged:
    return at.judge_sample(OpenSample(dataset.root, writer.commit(content).key))


def test_a_verdict_is_one_line_with_all_that_a_plc_or_a_person_needs(
    product: Any, writing: Any, tmp_path: Path
) -> None:
    at = station(product[1], tmp_path)
    good, bad = judge(at, *writing, disc(50)), judge(at, *writing, disc(51, fault=True))
    told = json.loads(json_line(bad.line))
    assert told["event"] == "verdict" and told["rejected"] is True and told["key"] == "disc/NG/stain/S0001"
    assert told["seen_by"] == "rgb" and told["score"] > told["threshold"] and told["sequence"] == 2
    assert told["model"]["sha256"] == "0" * 64 and told["drift"]["state"] == "steady"
    assert told["ms"].keys() == {"load", "score", "total"} and told["ms"]["total"] >= told["ms"]["score"]
    assert told["capture"].keys() >= {"light_zone1", "light_zone4", "points", "normal_x"} and told["warnings"] == []
    assert good.line["rejected"] is False and b"\n" not in json_line(good.line)[:-1]
    shown = human_line(bad, at.detector.method)
    assert shown.startswith("REJECTED  disc/NG/stain/S0001") and "RGB stands out" in shown and "s)" in shown
    assert human_line(good, at.detector.method).startswith("ACCEPTED")
    assert {p.name for p in at.draw(tmp_path / "heat", bad)} >= {"00002_disc_NG_stain_S0001_sheet.png"}
    summary = at.summary("count")
    assert (summary["parts"], summary["rejected"], summary["errors"]) == (2, 1, 0)
    assert summary["cycle_ms"]["max"] >= summary["cycle_ms"]["median"] > 0
    at.close()


def test_what_cannot_be_judged_is_a_line_too_and_the_next_part_is_judged(
    product: Any, writing: Any, tmp_path: Path
) -> None:
    dataset, writer = writing
    at = station(product[1], tmp_path)
    cut = OpenSample(dataset.root, writer.commit(disc(1)).key)
    path = cut.path("XYZ")
    assert path is not None
    path.write_bytes(path.read_bytes()[:500])
    gone = OpenSample(dataset.root, SampleKey("disc", "OK", 77))
    blind = disc(2)
    lacking = np.full((*SIZE, 3), np.nan, np.float32)
    lacking[0, 0] = (1, 1, 300)  # off the part
    faults = [
        (cut, "dataset.damaged"),
        (gone, "dataset.no_sample"),
        (OpenSample(dataset.root, writer.commit(disc(3, xyz=lacking)).key), "detect.xyz_empty"),
    ]
    for sample, code in faults:
        line = at.judge_sample(sample).line
        assert line["event"] == "error" and line["rejected"] is None and line["error"]["code"] == code, line
        assert line["error"]["message"] and human_line(Judged(line), None).startswith("ERROR")
    assert not judge(at, dataset, writer, blind).line["rejected"]
    assert [at.judged, at.errors, at.rejected] == [1, 3, 0]
    at.close()


def test_forty_good_parts_and_single_bad_ones_make_no_alarm(product: Any, writing: Any, tmp_path: Path) -> None:
    at = station(product[1], tmp_path)
    for n in range(40):
        judged = judge(at, *writing, disc(100 + n, fault=n % 10 == 9))
        assert judged.drift is not None and judged.drift.state == "steady", (n, judged.drift)
    assert at.rejected >= 4
    at.close()


def test_a_dirty_lamp_is_the_rig_that_drifts(product: Any, writing: Any, tmp_path: Path) -> None:
    at = station(product[1], tmp_path)
    for n in range(5):
        judge(at, *writing, disc(200 + n))
    states = [judge(at, *writing, disc(300 + n, dim=0.9)).drift for n in range(8)]
    last = states[-1]
    assert last is not None and last.state == "rig drifts" and last.causes == ("light_zone2",), last
    assert "light of zone 2" in last.sentences[0] and "clean" in last.sentences[-1]
    assert states[0] is not None and states[0].state == "steady"  # one part alone is no drift
    at.drift.save()
    # the next run goes on where this one ended, and says so; after cleaning it is told to forget
    again = station(product[1], tmp_path)
    assert again.drift.monitor.verdict().state == "rig drifts" and again.drift.parts == 13 and not again.drift.begun
    assert station(product[1], tmp_path, reset=True).drift.monitor.verdict().state == "steady"
    other = DriftWatch.open(product[1], "1" * 64, again.drift.path, alpha=0.1)
    assert "the model has changed" in other.begun and other.parts == 0
    at.close()


def test_another_exposure_is_told_at_the_first_part(product: Any, writing: Any, tmp_path: Path) -> None:
    at = station(product[1], tmp_path)
    line = judge(at, *writing, disc(500, dim=0.7)).line
    assert len(line["warnings"]) == 1 and re.search(r"-2[4-9] % .* another recipe", line["warnings"][0])
    assert line["drift"]["state"] == "steady" and not judge(at, *writing, disc(501)).line["warnings"]
    at.close()


def test_a_state_that_cannot_be_read_is_refused_with_the_cure(product: Any, tmp_path: Path) -> None:
    path = drift_file(tmp_path / "disc")
    assert path == tmp_path / "disc.drift.json"
    for text in ("[]", '{"kind": "rakelight-drift", "schema": 1}'):
        path.write_text(text)
        with pytest.raises(ModelError, match="drift monitor") as caught:
            station(product[1], tmp_path)
        assert "--reset-drift" in caught.value.hint
    assert station(product[1], tmp_path, reset=True).drift.parts == 0


def test_a_model_taught_without_statistics_still_watches_its_scores(product: Any, writing: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    bare = replace(product[1], parts=tuple(replace(p, capture={}) for p in product[1].parts))
    at = station(bare, tmp_path)
    assert at.drift.sees == () and judge(at, *writing, disc(400)).line["drift"]["state"] == "steady"
    at.close()


def test_warming_up_scores_a_part_of_all_modalities(product: Any, tmp_path: Path) -> None:
    at = station(product[1], tmp_path)
    assert 0 < at.warm_up() < 10 and at.judged == 0 and at.drift.parts == 0
    at.close()


def test_following_ends_when_nothing_comes_and_when_it_is_told_to(product: Any, writing: Any) -> None:
    dataset, writer = writing
    stop = threading.Event()
    threading.Timer(0.3, lambda: writer.commit(disc(1))).start()
    began = time.monotonic()
    found = list(follow(NewSamples(dataset.root, "disc"), wait=stop.wait, timeout_s=1.5))
    assert [str(key) for key in found] == ["disc/OK/S0001"] and 1.5 < time.monotonic() - began < 5
    stop.set()
    assert list(follow(NewSamples(dataset.root, "disc"), wait=stop.wait)) == []


@pytest.mark.parametrize("alpha", [0.05, 0.5])
def test_three_parts_or_no_complete_part_are_enough_to_watch(judged: Any, tmp_path: Path, alpha: float) -> None:
    lacking = [judged.part(seed, without=("rgb",) if seed % 2 else ("xyz",)) for seed in range(8)]
    extractors = {m: judged.Blocks(m) for m in judged.METHOD.features}
    incomplete = teach(
        lacking, [TaughtPart(n, p.key) for n, p in enumerate(lacking)], judged.METHOD, extractors, category="disc"
    )
    few = judged.detector(3)
    for detector in (few, incomplete):
        opened = DriftWatch.open(detector, "0" * 64, tmp_path / "d.json", alpha=alpha, reset=True)
        assert opened.monitor.verdict().state == "steady"
