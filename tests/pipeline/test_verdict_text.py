"""Verdicts in words and as data: places in millimetres and pixels, what sees the spot, and JSON without NaN."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rakelight.pipeline.heat_scale import heat_scale
from rakelight.pipeline.verdict_text import from_middle_mm, native_position, place, reason, verdict_dict


@pytest.mark.parametrize("modality", ["rgb", "ps", "xyz"])
@pytest.mark.parametrize("at_mm", [(5.0, -3.0), (-4.0, 4.0)])
def test_the_fault_is_named_and_found(judged: Any, taught: Any, modality: str, at_mm: tuple[float, float]) -> None:
    part = judged.part(44, fault=modality, at_mm=at_mm)
    data = verdict_dict(part, taught.score(part), taught.method, heat_scale(taught))
    assert data["rejected"] and data["seen_by"] == modality and data["label"] == f"fault_{modality}"
    assert data["modalities"][modality]["stands_out"] and data["score"] > data["threshold"]
    assert [m for m, said in data["modalities"].items() if said["stands_out"]] == [modality]
    assert data["peak"]["from_middle_mm"] == pytest.approx(at_mm, abs=1.5)
    wanted = np.asarray(judged.MIDDLE) + np.asarray(at_mm) / judged.PITCH_MM
    assert data["peak"]["native_px"] == pytest.approx(tuple(wanted), abs=1.5 / judged.PITCH_MM)
    assert data["region"]["area_mm2"] > 1 and data["peak"]["value"] > data["region"]["above"]
    ratio = data["region"]["area_mm2"] / data["region"]["area_native_px"]
    assert ratio == pytest.approx(judged.PITCH_MM**2, rel=0.01)
    assert sum(bank["share"] for bank in data["banks"].values()) == pytest.approx(1)
    name = {"rgb": "RGB", "ps": "pseudo-3D", "xyz": "3D"}[modality]
    right = "right" if at_mm[0] > 0 else "left"
    assert f"{name} stands out " in data["reason"] and f"mm {right}, " in data["reason"]
    assert "show nothing there" in data["reason"] and data["reason"].startswith("rejected (p = 0.04): ")


def test_a_good_part_has_nothing_to_report(judged: Any, taught: Any) -> None:
    part = judged.part(41)
    verdict = taught.score(part)
    calm = replace(verdict, excess=dict.fromkeys(verdict.excess, 0.2))
    data = verdict_dict(part, calm, taught.method, heat_scale(taught))
    assert (
        not data["rejected"] and data["region"]["area_native_px"] == 0 and data["reason"].endswith("nothing stands out")
    )
    assert not data["provisional"] and data["calibration_parts"] == 24


def test_words_for_every_kind_of_modality(judged: Any, taught: Any) -> None:
    part = judged.part(42, fault="ps")
    verdict = replace(taught.score(part), peak=(32, 40), excess={"rgb": 3.4, "ps": 6.12, "xyz": -math.inf})
    text = reason(part, verdict, taught.method)
    assert "pseudo-3D stands out 6.1 × the spread of good parts" in text
    assert "RGB stands out too (3.4 ×)" in text and "3D measured nothing there" in text
    assert text.index("pseudo-3D stands") < text.index("RGB stands")
    blind = replace(verdict, excess={"rgb": 1.0, "ps": 2.9, "xyz": 0.0})
    said = reason(part, blind, taught.method)
    assert "no modality stands out by itself" in said and "pseudo-3D weighs most in the score" in said
    none = {name: replace(one, share=0.0) for name, one in blind.judgement.contributions.items()}
    usual = replace(blind, judgement=replace(blind.judgement, contributions=none))
    assert "no bank is above its usual score" in reason(part, usual, taught.method)


def test_an_accepted_part_with_a_spot_says_why_it_is_accepted(judged: Any, taught: Any) -> None:
    part = judged.part(43, fault="ps")
    verdict = taught.score(part)
    below = replace(verdict, judgement=replace(verdict.judgement, rejected=False, threshold=1e6))
    assert "stays below the threshold" in reason(part, below, taught.method)
    never = taught.score(part, alpha=0.01)  # 24 parts cannot promise 1 %
    assert math.isinf(never.judgement.threshold)
    assert "24 good parts are too few to reject any" in reason(part, never, taught.method)
    data = verdict_dict(part, never, taught.method, heat_scale(taught))
    assert data["threshold"] is None and not data["rejected"]


def test_it_is_json_whatever_is_not_known(judged: Any, taught: Any) -> None:
    part = judged.part(44, fault="rgb", without=("xyz",), label="")
    verdict = taught.score(part, alpha=0.01)
    verdict = replace(verdict, excess={"rgb": 8.0, "ps": -math.inf})
    data = verdict_dict(part, verdict, taught.method, heat_scale(taught))
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["label"] is None and data["modalities"]["ps"] == {"used": True, "excess": None, "stands_out": False}
    assert data["modalities"]["xyz"] == {"used": False, "excess": None, "stands_out": False}
    assert set(data["banks"]) == {"rgb", "ps"} and "judged without 3D, which the part lacks" in data["reason"]


def test_places(judged: Any) -> None:
    part = judged.part(45)
    half = (part.size - 1) / 2
    assert from_middle_mm(part, (10, 50)) == pytest.approx(
        ((50 - half) * part.facts["pitch_mm"], (10 - half) * part.facts["pitch_mm"])
    )
    u, v = native_position(part, (10, 50))
    assert part.to_native @ [u, v, 1] == pytest.approx([50, 10])
    assert " mm right, " in place(part, (10, 50)) and " mm up of the middle" in place(part, (10, 50))
    assert " mm left, " in place(part, (50, 10)) and " mm down of the middle" in place(part, (50, 10))
    unscaled = replace(part, facts={**part.facts, "pitch_mm": None})
    assert place(unscaled, (10, 50)) == f"at pixel {u:.0f}, {v:.0f}" and from_middle_mm(unscaled, (10, 50)) is None
    odd = replace(part, facts={**part.facts, "pitch_mm": 0.01})
    assert place(odd, (32, 31)) == "in the middle"
