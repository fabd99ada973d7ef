"""A part straight from its recording is the part that a data set would give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.opened import open_samples
from rakelight.dataset.recording import Recording
from rakelight.dataset.writer import Dataset
from rakelight.detection.detector import TaughtPart
from rakelight.detection.parts import load_part
from rakelight.detection.registration import make_template
from rakelight.detection.teaching import teach
from rakelight.pipeline import simulate as simulated
from rakelight.pipeline.capture_facts import content_statistics, sample_statistics
from rakelight.pipeline.dataset_add import Addition, add
from rakelight.pipeline.detect_teach import load_for
from rakelight.pipeline.live_part import live_part
from rakelight.pipeline.many import Crew
from rakelight.pipeline.reconstruct import reconstruct

PARTS = 4  # three teach, one is judged


@pytest.mark.slow
def test_the_verdict_is_that_on_the_stored_sample(judged: Any, tmp_path: Path) -> None:
    folders = [tmp_path / f"knob-{seed}" for seed in range(PARTS)]
    for seed, folder in enumerate(folders):
        simulated.simulate("knob_cap", folder, seed=seed, settings=simulated.Settings(width=456, samples=1))
    calibration = folders[0] / "truth" / "calibration"
    dataset = Dataset.init(tmp_path / "set", "set")
    additions = [Addition(folder, "knob_cap", "OK", calibration) for folder in folders]
    assert not [r.error for r in add(dataset, additions, crew=Crew(scheduler="none")) if r.error]
    samples = {s.manifest.specimen: s for s in open_samples(dataset.root)}
    recordings = {Recording.open(f).info.part_id: f for f in folders}
    names = sorted(samples)
    template = make_template([load_part(samples[n], size=judged.SIZE) for n in names[:3]])
    parts = [load_part(samples[n], size=judged.SIZE, template=template) for n in names[:3]]
    extractors = {m: judged.Blocks(m) for m in judged.METHOD.features}
    taught = [TaughtPart(n, p.key) for n, p in enumerate(parts)]
    detector = teach(parts, taught, judged.METHOD, extractors, category="knob_cap", template=template)

    stored = load_for(detector, samples[names[3]])
    recording, rig = Recording.open(recordings[names[3]]), RigCalibration.load(calibration)
    made = live_part(recording, reconstruct(recording, rig), detector, rig)
    for modality in ("rgb", "ps", "xyz"):
        np.testing.assert_allclose(getattr(made.part, modality), getattr(stored, modality), rtol=0, atol=1e-3)
    assert np.array_equal(made.part.mask, stored.mask) and made.part.facts["ps_encoding"] == "normals"
    live, kept = detector.score(made.part), detector.score(stored)
    assert live.judgement.score == pytest.approx(kept.judgement.score, abs=1e-4)
    assert (live.judgement.rejected, live.seen_by, live.peak) == (kept.judgement.rejected, kept.seen_by, kept.peak)
    assert made.part.key == names[3] and made.part.label == ""
    assert content_statistics(made.content) == sample_statistics(samples[names[3]])
