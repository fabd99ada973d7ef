"""``rakelight detect``: teach, show, score, explain, update, forget as people type it, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from rakelight.cli.detect import detect
from rakelight.dataset import images
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.writer import Dataset
from rakelight.detection import model_file
from rakelight.detection.features.base import make_extractor
from rakelight.errors import RakelightError
from rakelight.pipeline import detect_teach

BAD, ODD = "disc/NG/stain/S0001", "disc/OK/S0010"
METHOD = "patchcore-rgb+xyz"


def run(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(detect, [str(a) for a in arguments], obj={})


def told(*arguments: str | Path | int, code: int = 0) -> dict[str, Any]:
    """The one JSON object on standard output."""
    done = run(*arguments, "--json")
    assert done.exit_code == code, (done.output, done.exception)
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def refused(*arguments: str | Path | int) -> RakelightError:
    done = run(*arguments)
    assert isinstance(done.exception, RakelightError), (done.output, done.exception)
    return done.exception


@pytest.fixture(autouse=True)
def blocks(monkeypatch: pytest.MonkeyPatch, discs: Any) -> None:
    """Mean colours instead of networks: what is tested here is the way around them."""
    monkeypatch.setattr(detect_teach, "make_extractor", discs.make_blocks)
    monkeypatch.setattr(model_file, "make_extractor", discs.make_blocks)


@pytest.fixture(scope="module")
def made(discs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine like good parts, a good part of another tint, a stained one."""
    root: Path = tmp_path_factory.mktemp("detect") / "set"
    good = [discs.content(seed) for seed in range(9)]
    discs.make(root, [*good, discs.content(30, tint=(190, 120, 120)), discs.content(31, "stain")])
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of its own."""
    return Path(shutil.copytree(made, tmp_path / "set"))


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Path:
    return teach(made, tmp_path / "model")


def teach(root: Path, to: Path, *more: str | Path | int) -> Path:
    done = run("train", root, "--category", "disc", "--method", METHOD, "--parts", 9, "-o", to, *more)
    assert done.exit_code == 0, (done.output, done.exception)
    return to


# ---------------------------------------------------------------------------------------------------------- the way through
def test_train_says_what_it_can_promise_and_how_to_go_on(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    done = run("train", made, "--category", "disc", "--method", METHOD, "--parts", 9, "-o", out, "--alpha", 0.05)
    assert done.exit_code == 0, done.output
    assert "10 more good parts for a 5 % false-alarm guarantee." in done.output
    assert f"detect score {out} {made} --alpha 0.1`" in done.output  # the level that nine parts allow
    assert "1 more good part in the data set: `rakelight detect next" in done.output
    found = told(
        "train", made, "--category", "disc", "--method", METHOD, "--parts", 9, "-o", tmp_path / "n", "--alpha", 0.1
    )
    assert found["promise"]["possible"] and len(found["parts"]) == 9 and found["next_steps"]
    first, second = (model_file.load(tmp_path / name) for name in ("m", "n"))
    for name, bank in first.banks.items():  # a second run gives the same model
        assert np.array_equal(bank.vectors, second.banks[name].vectors)
    assert np.array_equal(first.calibration.scores, second.calibration.scores)


def test_from_train_to_forget_and_back(root: Path, model: Path, tmp_path: Path) -> None:
    found = told("score", model, root, "--alpha", 0.1, "--sheet", tmp_path / "all.png", code=6)
    verdicts = {one["key"]: one for one in found["verdicts"]}
    assert len(verdicts) == 11 and not found["failed"] and not found["edited"]
    assert verdicts[BAD]["rejected"] and verdicts[BAD]["seen_by"] == "rgb" and not verdicts[BAD]["taught"]
    assert verdicts["disc/OK/S0001"]["taught"] and not verdicts["disc/OK/S0001"]["rejected"]
    assert images.read_image(tmp_path / "all.png").ndim == 3

    twice = told("score", model, root, BAD, BAD, "--alpha", 0.1, "--sheet", tmp_path / "one.png", code=6)
    assert [one["key"] for one in twice["verdicts"]] == [BAD]  # named twice, judged once

    why = told("explain", model, root, BAD, "-o", tmp_path / "why.png", "--alpha", 0.1)
    assert why["rejected"] and why["rank"] == {"higher_than": 9, "of": 9} and why["least_p_value"] == pytest.approx(0.1)
    assert why["matches"][0]["nearest_part"].startswith("disc/OK/") and not why["warnings"]
    assert images.read_image(tmp_path / "why.png").shape[1] > 700

    first = told("score", model, root, ODD, "--alpha", 0.1, code=6)["verdicts"][0]
    updated = told("update", model, root, ODD, "-o", model, "--overwrite")
    assert updated["parts"] == 10
    again = told("score", model, root, ODD, "--alpha", 0.1)["verdicts"][0]
    assert again["taught"] and again["score"] < first["score"]
    assert told("update", model, root, "--forget", ODD, "-o", model, "--overwrite")["parts"] == 9
    last = told("score", model, root, ODD, "--alpha", 0.1, code=6)["verdicts"][0]
    assert last["score"] == pytest.approx(first["score"])


def test_show_tells_what_a_model_is(model: Path) -> None:
    found = told("show", model)
    assert (found["category"], found["dataset"], len(found["parts"])) == ("disc", "discs", 9)
    assert found["banks"]["rgb"]["judges"] and found["banks"]["rgb"]["parts"] == 9
    levels = {one["alpha"]: one for one in found["thresholds"]}
    assert levels[0.1]["threshold"] is not None and levels[0.05]["threshold"] is None
    done = run("show", model, "--parts")
    assert "disc/OK/S0009" in done.output and "10 more good parts for a 5 % false-alarm guarantee." in done.output


def test_score_takes_labels_and_goes_on_after_a_bad_sample(root: Path, model: Path) -> None:
    xyz = next((root / "realiad_d3_raw/disc/OK/S0003").glob("*_XYZ_*.tiff"))
    xyz.write_bytes(xyz.read_bytes()[:-100])
    found = told("score", model, root, "--label", "OK", "--alpha", 0.05, code=10)
    assert len(found["verdicts"]) == 9 and [one["key"] for one in found["failed"]] == ["disc/OK/S0003"]
    assert found["failed"][0]["error"]["code"] == "dataset.damaged"
    done = run("score", model, root, "--label", "OK")
    assert done.exit_code == 10 and "disc/OK/S0003 could not be judged" in done.stderr
    assert len(done.stdout.splitlines()) == 9
    assert refused("score", model, root, "disc/OK/S0003").code == "dataset.damaged"
    assert refused("score", model, root, "--label", "dent").code == "detect.no_sample"


def test_explain_says_which_part_is_not_what_it_was_taught_as(root: Path, model: Path, discs: Any) -> None:
    done = run("explain", model, root, "disc/OK/S0002")
    assert done.exit_code == 0 and "taught this very part" in done.stderr
    with Dataset.open(root).writer() as writer:
        for number in range(1, 10):
            if number != 5:
                writer.remove(SampleKey("disc", "OK", number), "test")
    why = told("explain", model, root, BAD)
    gone = [m for m in why["matches"] if m["nearest_part"] != "disc/OK/S0005"]
    assert gone and all(m["there"] is None and "cannot be shown" in m["why_not"] for m in gone)


def test_features_that_tell_nothing_are_warned_of(
    made: Path, tmp_path: Path, discs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = discs.Blocks.extract

    def collapsed(self: Any, parts: Any) -> Any:
        found = whole(self, parts)
        return type(found)(found.values * np.float32(1e-3) + np.array([1, 5, 9], np.float32), found.valid)

    command = ("train", made, "--category", "disc", "--method", "patchcore-rgb", "--parts", 9, "-o")
    monkeypatch.setattr(discs.Blocks, "extract", collapsed)
    warned = [text for text in told(*command, tmp_path / "m")["warnings"] if "efficientnet-lite0 (rgb)" in text]
    assert len(warned) == 1 and "patches hardly differ" in warned[0]
    assert warned[0] in run(*command, tmp_path / "n").stderr  # for a person, too
    assert warned[0] in told("show", tmp_path / "m")["warnings"]  # and the model remembers it


# ------------------------------------------------------------------------------------------------------------- next part
def test_next_names_the_unusual_part_and_doubts_it(made: Path, model: Path) -> None:
    found = told("next", model, made)
    assert [one["key"] for one in found["next"]] == [ODD] and found["next"][0]["doubtful"]
    assert found["command"] is None
    done = run("next", model, made)
    assert "look at it first" in done.stderr and f"detect explain {model} {made} {ODD}" in done.stderr
    assert refused("next", model, made, BAD).code == "detect.not_good"
    assert refused("next", model, made, "disc/OK/S0001").code == "detect.nothing_to_teach"


# --------------------------------------------------------------------------------------------------------- ignored pixels
@pytest.mark.parametrize("frame", [True, False])
def test_what_is_ignored_is_not_judged(made: Path, tmp_path: Path, discs: Any, frame: bool) -> None:
    mask = tmp_path / "mask.png"
    if frame:
        picture = tmp_path / "frame.png"
        done = run("train", made, "--category", "disc", "--method", METHOD, "--parts", 9, "--show-frame", picture)
        assert done.exit_code == 0, done.output
        side = images.read_image(picture).shape[0]
        assert side == 4 * 224
        # where the frame shows the stain: the disc's box with a margin fills it
        plain = teach(made, tmp_path / "plain")
        v, u = told("explain", plain, made, BAD)["peak"]["from_middle_mm"][::-1]
        pitch = 2 * (discs.RADIUS_PX + 0.5) * discs.PITCH_MM * 1.2 / side
        drawn = np.zeros((side, side), np.uint8)
        row, column = round((side - 1) / 2 + v / pitch), round((side - 1) / 2 + u / pitch)
        drawn[row - 140 : row + 140, column - 140 : column + 140] = 255
        more: list[str] = []
    else:
        drawn = np.zeros(discs.NATIVE, np.uint8)
        drawn[discs.STAIN[1] - 12 : discs.STAIN[1] + 13, discs.STAIN[0] - 12 : discs.STAIN[0] + 13] = 255
        more = ["--ignore-on", BAD]
    images.write_png(mask, drawn)
    hidden = teach(made, tmp_path / "hidden", "--ignore", mask, *more)
    assert told("show", hidden)["ignored_share"] > 0.02
    judged = told("score", hidden, made, BAD, "--alpha", 0.1)["verdicts"][0]
    assert not judged["rejected"] and judged["seen_by"]
    assert any("is ignored" in note for note in told("explain", hidden, made, BAD)["notes"])


def test_ignore_masks_that_do_not_fit(made: Path, tmp_path: Path, discs: Any) -> None:
    mask = tmp_path / "mask.png"
    command = ("train", made, "--category", "disc", "--method", METHOD, "-o", tmp_path / "m", "--ignore", mask)
    error = refused(*command)
    assert error.code == "image.missing" and "mask.png does not exist" in error.message and "--show-frame" in error.hint
    mask.write_bytes(b"no picture")
    assert refused(*command).code == "image.unreadable"
    for shape, value, more, code in (
        ((100, 120), 255, (), "detect.ignore_size"),
        ((100, 100), 255, (), "detect.ignore_all"),
        ((100, 100), 0, (), "detect.ignore_empty"),
        ((100, 100), 255, ("--ignore-on", BAD), "detect.ignore_size"),
        (discs.NATIVE, 255, ("--ignore-on", BAD), "detect.ignore_all"),
    ):
        images.write_png(mask, np.full(shape, value, np.uint8))
        error = refused(*command, *more)
        assert error.code == code and error.hint
    assert not (tmp_path / "m").exists()
    assert run(*command[:-2], "--ignore-on", BAD).exit_code == 2


# -------------------------------------------------------------------------------------------------------------- bad input
def test_paper_features_without_weights_say_where_they_were_looked_for(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detect_teach, "make_extractor", make_extractor)
    for name in ("RAKELIGHT_WEIGHTS", "HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    command = ("train", made, "--category", "disc", "-o", tmp_path / "m", "--paper-features")
    error = refused(*command)
    assert (error.code, error.exit_code) == ("weights.missing", 11)
    assert str(tmp_path / "RAKELIGHT_WEIGHTS") in error.message and str(tmp_path / "HF_HOME") in error.message
    assert "MB" in error.message and "licence" in error.message
    assert "weights fetch vit-b8-dino" in error.hint and "leave out --paper-features" in error.hint
    assert not (tmp_path / "m").exists()


def test_weights_that_are_not_those_published(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect_teach, "make_extractor", make_extractor)
    monkeypatch.setenv("RAKELIGHT_WEIGHTS", str(tmp_path))
    (tmp_path / "pointmae_pretrain.pth").write_bytes(b"other bytes")
    error = refused(
        "train", made, "--category", "disc", "-o", tmp_path / "m", "--method", "pointmae", "--paper-features"
    )
    assert error.code == "weights.checksum" and "SHA-256" in error.message and "fetch it again" in error.hint
    assert not (tmp_path / "m").exists()


def test_weights_of_another_shape_are_refused(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from safetensors.torch import save_file

    from rakelight.detection.features import weights

    monkeypatch.setattr(detect_teach, "make_extractor", make_extractor)
    monkeypatch.setenv("RAKELIGHT_WEIGHTS", str(tmp_path))
    open_file = next(f for f in weights.entry("vit-b8-dino").files if f.sha256 is None or f.hub is not None)
    monkeypatch.setattr(weights, "checked_sha256", lambda place: "0" * 64)
    save_file({"cls_token": torch.zeros(1, 1, 5)}, tmp_path / open_file.name)
    error = refused(
        "train", made, "--category", "disc", "-o", tmp_path / "m", "--method", "patchcore-rgb", "--paper-features"
    )
    assert error.code == "weights.mismatch" and "cls_token" in error.message


def test_too_few_good_parts(discs: Any, tmp_path: Path) -> None:
    root = tmp_path / "set"
    discs.make(root, [discs.content(1), discs.content(2), discs.content(3, "stain")])
    error = refused("train", root, "--category", "disc", "-o", tmp_path / "m")
    assert error.code == "detect.too_few_parts" and "2 good parts of disc; at least 3" in error.message
    error = refused("train", root, "--category", "cup", "-o", tmp_path / "m")
    assert (
        error.code == "detect.no_category" and "'cup'; it has: disc" in error.message and "dataset stats" in error.hint
    )
    bad = tmp_path / "bad"
    discs.make(bad, [discs.content(3, "stain")])
    error = refused("train", bad, "--category", "disc", "-o", tmp_path / "m")
    assert error.code == "detect.no_good_parts" and "'disc'" in error.message and "dataset add" in error.hint


def test_names_that_are_not_there_are_told_with_those_that_are(made: Path, model: Path, tmp_path: Path) -> None:
    error = refused("train", made, "--category", "dics", "-o", tmp_path / "m")
    assert "it has: disc" in error.message and "did you mean 'disc'?" in error.hint
    error = refused("score", model, made, "--label", "stian")
    assert error.code == "detect.no_sample" and "its labels: OK, stain" in error.message
    assert "did you mean 'stain'?" in error.hint
    for command in ("score", "explain"):
        error = refused(command, model, made, "disc/NG/stian/S0001")
        assert error.code == "dataset.no_sample" and "labels of disc: OK, stain" in error.message
        assert "did you mean 'stain'?" in error.hint
    assert "the data set has: disc" in refused("score", model, made, "dsic/OK/S0001").message
    assert "of disc/OK there are: S0001, S0002" in refused("score", model, made, "disc/OK/S0099").message
    assert "of disc/OK there are" in refused("update", model, made, "disc/OK/S0099", "-o", tmp_path / "m").message
    assert "of disc/OK there are" in refused("next", model, made, "disc/OK/S0099").message
    several = told("score", model, made, "disc/OK/S0001", "disc/OK/S0099", code=10)  # one typing error stops no batch
    assert len(several["verdicts"]) == 1 and several["failed"][0]["key"] == "disc/OK/S0099"
    misread = run("score", model, made, "disc/OK/S0001", "disc/NG/stian/S0001").stderr
    assert "disc/NG/stian/S0001 could not be judged" in misread and "did you mean 'stain'?" in misread


def test_a_model_that_is_not_there_is_told_with_those_beside_it(made: Path, model: Path, tmp_path: Path) -> None:
    error = refused("score", tmp_path / "modle", made)
    assert error.code == "model.not_found" and "modle does not exist" in error.message and str(model) in error.hint
    error = refused("score", tmp_path, made)
    assert "is not a model" in error.message and str(model) in error.hint
    assert "detect train" in refused("score", tmp_path / "no" / "folder", made).hint


def test_more_parts_wanted_than_there_are(made: Path, tmp_path: Path) -> None:
    command = ("train", made, "--category", "disc", "--method", "patchcore-rgb", "-o", tmp_path / "m")
    assert "--parts 30: there are only 10 good parts of disc" in run(*command, "--parts", 30).stderr
    found = told(*command, "--parts", 30, "--overwrite")
    assert len(found["parts"]) == 10 and "only 10" in found["warnings"][0]
    assert "there are only" not in run(*command, "--parts", 10, "--overwrite").stderr


def test_the_page_of_verdicts_tells_taught_parts_apart(made: Path, model: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    run("score", model, made, "--alpha", 0.1, "--report", page)
    html = page.read_text()
    assert (
        "2 parts: 2 rejected, 0 accepted. 9 more parts had been taught (0 rejected): they lie nearer to themselves"
        in html
    )
    assert html.count('<span class="taught">') == 9 and "Without the 9 taught." in html
    run("score", model, made, "--alpha", 0.05, "--report", page)
    html = page.read_text()
    assert "2 parts, none of which can be rejected: 9 good parts are too few" in html and "(19 needed)" in html
    assert "the least that 9 allow is 0.1." in html and "no verdict" in html and "missed" not in html
    assert "the least that 9 allow is 0.1" in run("score", model, made, BAD).stderr


def test_a_sample_without_what_the_model_needs(root: Path, tmp_path: Path, discs: Any) -> None:
    key = discs.add(root, discs.content(40, without=("xyz",)))
    model = tmp_path / "m"
    assert run("train", root, "--category", "disc", "--method", "pointmae", "--parts", 9, "-o", model).exit_code == 0
    error = refused("score", model, root, key)
    assert error.code == "model.modality_missing" and "lacks xyz" in error.message and "RADAR" in error.hint
    both = teach(root, tmp_path / "both")
    lenient = told("explain", both, root, key)
    assert any("lacks 3D" in text for text in lenient["warnings"]) and not lenient["modalities"]["xyz"]["used"]


def test_nothing_measured_and_nothing_there(root: Path, model: Path, discs: Any) -> None:
    beside = np.full((*discs.NATIVE, 3), np.nan, np.float32)
    beside[:5, :5] = 300.0  # the table; of the part nothing was measured
    hollow = discs.add(root, discs.content(41, xyz=beside))
    assert refused("score", model, root, hollow).code == "detect.xyz_empty"
    kept = discs.add(root, discs.content(42))
    mask = root / kept.extras_folder / "part_mask.png"
    images.write_png(mask, np.zeros(discs.NATIVE, np.uint8))
    forge(root, kept, mask)
    assert refused("score", model, root, kept).code == "detect.empty_foreground"
    images.write_png(mask, np.full((7, 9), 255, np.uint8))
    forge(root, kept, mask)
    error = refused("score", model, root, kept)
    assert error.code == "detect.mask_size" and "9" in error.message


def forge(root: Path, key: SampleKey, file: Path) -> None:
    """Let the manifest say that a file is what it is now."""
    import hashlib

    manifest = root / key.extras_folder / "manifest.json"
    data = json.loads(manifest.read_text())
    for record in data["files"]:
        if record["path"] == file.relative_to(root).as_posix():
            record |= {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    manifest.write_text(json.dumps(data))


def test_models_of_another_schema_or_extractor(made: Path, model: Path, tmp_path: Path) -> None:
    document = model / "model.json"
    whole = json.loads(document.read_text())
    document.write_text(json.dumps(whole | {"schema": 99}))
    error = refused("score", model, made)
    assert error.code == "config.schema_unknown" and "99" in error.message
    other = json.loads(json.dumps(whole))
    other["extractors"]["rgb"]["fingerprint"][0] = 7.0
    document.write_text(json.dumps(other))
    for command in (("score", model, made), ("explain", model, made, BAD), ("next", model, made), ("show", model)):
        assert refused(*command).code == "model.other_extractor"
    assert refused("show", tmp_path).code == "model.not_found"


def test_a_data_set_edited_since_training(root: Path, model: Path, discs: Any) -> None:
    with Dataset.open(root).writer() as writer:
        writer.replace(SampleKey("disc", "OK", 2), discs.content(77))
        writer.relabel(SampleKey("disc", "OK", 4), "stain")
    found = told("score", model, root, "disc/OK/S0001")
    assert sorted(text.split(" ")[0] for text in found["edited"]) == ["disc/OK/S0002", "disc/OK/S0004"]
    assert "has changed" in found["edited"][0] and "no longer" in found["edited"][1]
    assert "disc/OK/S0002 has changed" in run("score", model, root, "disc/OK/S0001").stderr


def test_what_update_refuses(root: Path, model: Path, discs: Any) -> None:
    assert refused("update", model, root, BAD, "-o", model, "--overwrite").code == "detect.not_good"
    assert refused("update", model, root, "disc/OK/S0001", "-o", model, "--overwrite").code == "model.part_known"
    assert refused("update", model, root, "--forget", ODD, "-o", model, "--overwrite").code == "model.unknown_part"
    assert refused("update", model, root, "cup/OK/S0001", "-o", model, "--overwrite").code == "detect.other_category"
    assert run("update", model, root, "-o", model, "--overwrite").exit_code == 2
    assert run("train", root, "--category", "disc", "--seed", -1, "-o", model.with_name("n")).exit_code == 2
    assert told("show", model)["parts"][-1]["key"] == "disc/OK/S0009"


# ---------------------------------------------------------------------------------------------------------- files written
def test_a_model_is_replaced_only_when_told_to(made: Path, model: Path, tmp_path: Path) -> None:
    command = ("train", made, "--category", "disc", "--method", METHOD, "--parts", 3, "-o", model)
    assert refused(*command).exit_code == 8
    assert len(told("show", model)["parts"]) == 9
    assert run(*command, "--overwrite").exit_code == 0
    assert len(told("show", model)["parts"]) == 3
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert refused(*command[:-1], tmp_path / "mine", "--overwrite").exit_code == 8
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.fixture(params=["features", "calibration", "writing"])
def interrupted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Ctrl-C while features are made, while the model is calibrated, and between its two files."""
    at: str = request.param
    whole: Callable[..., Any] = detect_teach.teach

    def teaching(*arguments: Any, progress: Callable[..., None], **options: Any) -> Any:
        def step(name: str, done: int, total: int) -> None:
            if name == at:
                raise KeyboardInterrupt
            progress(name, done, total)

        return whole(*arguments, progress=step, **options)

    def halfway(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(detect_teach, "teach", teaching)
    if at == "writing":
        monkeypatch.setattr(model_file.files, "write_json", halfway)
    yield at


@pytest.mark.parametrize("before", [False, True])
def test_ctrl_c_leaves_no_half_model(made: Path, tmp_path: Path, interrupted: str, before: bool) -> None:
    model = tmp_path / "models" / "m"
    if before:
        shutil.copytree(made / "meta", model)
        (model / "model.json").write_text("the model before")
    done = run("train", made, "--category", "disc", "--method", METHOD, "--parts", 9, "-o", model, "--overwrite")
    assert done.exit_code != 0 and not isinstance(done.exception, RakelightError), interrupted
    left = sorted(p.name for p in (tmp_path / "models").iterdir()) if (tmp_path / "models").exists() else []
    assert left == (["m"] if before else [])
    if before:
        assert (model / "model.json").read_text() == "the model before"
