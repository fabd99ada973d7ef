"""The drift alarm: how rarely it is wrong, how soon it is right, and that one bad part is not a drifting rig."""

import json

import numpy as np
import pytest

from rakelight.detection.capture_statistics import capture_statistics
from rakelight.detection.drift import DriftMonitor
from rakelight.detection.drift_charts import CusumChart, MartingaleChart, cusum_limit
from rakelight.errors import InputError, ModelError


def run_length(chart, draw, most):
    for number in range(1, most + 1):
        if chart.update(draw()):
            return number
    return most


@pytest.mark.parametrize("law", ["gamma", "integers"])
def test_martingale_false_alarms_are_rarer_than_set(law):
    rng = np.random.default_rng(0)
    draw = {"gamma": lambda: rng.gamma(2), "integers": lambda: float(rng.integers(0, 4))}[law]
    lengths = [run_length(MartingaleChart([draw() for _ in range(20)], 60, seed), draw, 600) for seed in range(100)]
    assert np.mean(lengths) >= 60 * 0.9  # cut at 600, so the mean is even larger


def test_martingale_sees_larger_scores_soon():
    rng = np.random.default_rng(1)
    delays = []
    for seed in range(20):
        chart = MartingaleChart(rng.normal(size=30), 1000, seed)
        for value in rng.normal(size=50):
            chart.update(value)
        chart.reset()
        delays.append(run_length(chart, lambda: rng.normal() + 2, 100))
    assert np.median(delays) <= 15
    quiet = MartingaleChart(rng.normal(size=30), 1000)
    assert run_length(quiet, lambda: rng.normal() - 2, 100) == 100  # lower scores are no reason


@pytest.mark.parametrize("taught", [5, 20])
def test_cusum_false_alarms_are_as_set(taught):
    rng = np.random.default_rng(2)
    lengths = [run_length(CusumChart(rng.normal(size=taught), 200), rng.normal, 1500) for _ in range(200)]
    assert 130 <= np.mean(lengths) <= 330


def test_cusum_limit_against_markov_chain():
    """Brook & Evans (1972): the one-sided run length as absorption time of a chain on a fine grid."""
    from scipy.stats import norm

    k, limit, cells = 0.5, cusum_limit(500, 0.5), 400
    width = 2 * limit / (2 * cells - 1)
    centres = np.arange(cells) * width
    edges = centres + width / 2
    upto = norm.cdf(edges[None] - centres[:, None] + k)
    step = np.diff(np.concatenate([np.zeros((cells, 1)), upto], axis=1), axis=1)
    one_sided = np.linalg.solve(np.eye(cells) - step, np.ones(cells))[0]
    assert one_sided == pytest.approx(2 * 500, rel=0.05)


def test_one_odd_value_is_not_a_shift_and_a_shift_is():
    rng = np.random.default_rng(3)
    chart = CusumChart(100 + 0.5 * rng.normal(size=20), 5000)
    assert not chart.update(1e6)
    assert not chart.update(100.1)
    late = CusumChart(100 + 0.5 * rng.normal(size=20), 5000)
    assert run_length(late, lambda: 90 + 0.5 * rng.normal(), 50) <= 6
    assert late.down > late.limit > late.up


def test_slow_fade_is_not_learned_as_normal():
    rng = np.random.default_rng(4)
    chart = CusumChart(100 + 0.5 * rng.normal(size=20), 5000)
    light = (100 * (1 - 2e-4 * i) + 0.5 * rng.normal() for i in range(400))  # 2 % over 100 parts
    assert any(chart.update(v) for v in light)


STATISTICS = {
    "light_zone1": (100.0, 0.5),
    "light_zone2": (80.0, 0.4),
    "noise_zone1": (2.0, 0.05),
    "points": (5e4, 60.0),
}


def station(seed, taught=20, **settings):
    rng = np.random.default_rng(seed)

    def capture(loss=0.0):
        values = {name: mean + spread * rng.normal() for name, (mean, spread) in STATISTICS.items()}
        values["nan_share"] = 0.0  # always the same: no spread to divide by
        values["light_zone1"] *= 1 - loss
        return values

    taught_values = [capture() for _ in range(taught)]
    columns = {name: [v[name] for v in taught_values] for name in taught_values[0]}
    return DriftMonitor(rng.normal(size=taught), columns, **settings), capture, rng


def test_ten_percent_lamp_loss_is_the_rig_and_soon():
    delays = []
    for seed in range(12):
        monitor, capture, rng = station(seed)
        for _ in range(20):
            assert monitor.update(rng.normal(), capture()).state == "steady"
        verdict, number = monitor.verdict(), 0
        while verdict.state == "steady" and number < 30:
            verdict, number = monitor.update(rng.normal() + 1.5, capture(loss=0.1)), number + 1
        assert verdict.state == "rig drifts" and verdict.causes == ("light_zone1",)
        assert "light of zone 1" in verdict.sentences[0] and "-" in verdict.sentences[0]
        delays.append(number)
    assert max(delays) <= 8, delays


def test_false_alarms_of_the_whole_monitor():
    lengths = []
    for seed in range(40):
        monitor, capture, rng = station(seed, mean_parts=100)
        lengths.append(
            next((i for i in range(1, 500) if monitor.update(rng.normal(), capture()).state != "steady"), 500)
        )
    assert np.mean(lengths) > 100


def test_bad_parts_are_not_a_drifting_rig():
    monitor, capture, rng = station(7, accept_below=2.5)
    for _ in range(40):
        verdict = monitor.update(20.0, capture(), rejected=True)
    assert verdict.state == "steady"
    for _ in range(40):
        verdict = monitor.update(min(rng.normal() + 2, 2.4), capture())
    assert verdict.state == "parts change" and verdict.causes == ("score",)
    monitor.reset()
    assert monitor.verdict().state == "steady"


def test_rejected_parts_with_a_piece_missing_are_not_a_drifting_rig_but_a_dark_lamp_is():
    monitor, capture, _ = station(8)
    for _ in range(12):  # 10 standard deviations fewer points, as where a piece is missing
        verdict = monitor.update(20.0, capture() | {"points": 5e4 - 600}, rejected=True)
    assert verdict.state == "steady"
    for _ in range(8):
        verdict = monitor.update(20.0, capture(loss=0.1), rejected=True)
    assert verdict.state == "rig drifts" and "light_zone1" in verdict.causes


def test_state_goes_on_where_it_was():
    monitor, capture, rng = station(5)
    for _ in range(7):
        monitor.update(rng.normal(), capture())
    again = DriftMonitor.from_dict(json.loads(json.dumps(monitor.to_dict())))
    for _ in range(5):
        score, values = rng.normal() + 2, capture(loss=0.02)
        assert monitor.update(score, values) == again.update(score, values)
    assert monitor.to_dict() == again.to_dict()
    while monitor.verdict().state != "rig drifts":
        monitor.update(rng.normal(), capture(loss=0.1))
    told = DriftMonitor.from_dict(json.loads(json.dumps(monitor.to_dict()))).verdict()
    assert told == monitor.verdict() and "nan" not in " ".join(told.sentences)  # said again at the next start
    broken = monitor.to_dict()
    broken["charts"] = {name: {} for name in broken["charts"]}
    with pytest.raises(ModelError, match="drift chart") as refused:
        DriftMonitor.from_dict(broken)
    assert "--reset-drift" in refused.value.hint


def test_history_is_bounded_and_fair(monkeypatch):
    monkeypatch.setattr("rakelight.detection.drift_charts._MOST_SCORES", 50)
    chart = MartingaleChart(np.arange(30.0), 100)
    for value in range(30, 530):
        chart.update(float(value))
    assert len(chart._ordered) == 50 and chart._ordered == sorted(chart._ordered)
    assert 150 < np.mean(chart._ordered) < 380  # of all that was seen, not the newest or the oldest


def test_capture_statistics():
    rng = np.random.default_rng(0)
    flat = [np.full((200, 300), level) + rng.normal(0, sigma, (200, 300)) for level, sigma in ((1000, 5.0), (500, 2.0))]
    zones = [np.round(f).astype(np.uint16) for f in flat]
    zones[0][:, 150:] += 400  # an edge is not noise
    xyz = np.zeros((200, 300, 3), np.float32)
    xyz[:50] = np.nan
    normals = np.zeros((200, 300, 3), np.float32)
    normals[...] = (0.1, -0.2, 0.97)
    mask = np.zeros((200, 300), bool)
    mask[:100] = True
    found = capture_statistics(zones, xyz=xyz, normals=normals, mask=mask)
    assert found["light_zone1"] == pytest.approx(1200, abs=1) and found["light_zone2"] == pytest.approx(500, abs=1)
    assert found["noise_zone1"] == pytest.approx(5, rel=0.05) and found["noise_zone2"] == pytest.approx(2, rel=0.05)
    assert found["points"] == 15000 and found["nan_share"] == 0.5
    assert found["normal_x"] == pytest.approx(0.1, rel=1e-5) and found["normal_y"] == pytest.approx(-0.2, rel=1e-5)
    dark = capture_statistics([zones[0] * 0.9, zones[1]])
    assert dark["light_zone1"] == pytest.approx(0.9 * found["light_zone1"]) and "points" not in dark
    with pytest.raises(InputError, match="empty"):
        capture_statistics(xyz=xyz, mask=np.zeros((200, 300), bool))
    with pytest.raises(InputError, match="zone 1"):
        capture_statistics([np.ones((2, 5))])


def test_bad_input_is_named():
    with pytest.raises(ModelError, match="at least 3"):
        CusumChart([1.0, 2.0])
    with pytest.raises(InputError, match="mean_parts"):
        MartingaleChart([1.0, 2.0, 3.0], 1)
    monitor, capture, _ = station(1)
    with pytest.raises(InputError, match="humidity"):
        monitor.update(1.0, {"humidity": 3.0})
    with pytest.raises(InputError, match="finite"):
        monitor.update(np.nan, capture())
    with pytest.raises(ModelError, match="cannot be read"):
        DriftMonitor.from_dict({"martingale": {}})
