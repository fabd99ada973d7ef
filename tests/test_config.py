"""Settings files: each problem in one sentence that names key, value and what is allowed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from pydantic import Field

from rakelight.config import Model, PlainData, load_toml, validate
from rakelight.errors import ConfigError, DatasetError, RakelightError


class Camera(Model):
    exposure_us: float = Field(gt=0, le=1e6)
    pixel_format: str = "Mono8"


class Shot(Model):
    name: str
    zone: int = Field(ge=1, le=255)


class Rig(Model):
    schema_: int = Field(alias="schema", default=1)
    camera: Camera
    shots: tuple[Shot, ...] = ()
    spare: Camera | None = None
    extra: PlainData | None = None


GOOD = """\
schema = 1
[camera]
exposure_us = 2000
[[shots]]
name = "a"
zone = 1
"""


def load(tmp_path: Path, text: str | bytes) -> Rig:
    path = tmp_path / "rig.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_toml(path, Rig)


def problem(tmp_path: Path, text: str | bytes) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert str(tmp_path / "rig.toml") in caught.value.message
    assert caught.value.exit_code == 3 and caught.value.hint
    return caught.value


def test_good_file(tmp_path: Path) -> None:
    rig = load(tmp_path, GOOD)
    assert (rig.camera.exposure_us, rig.shots[0].zone) == (2000, 1)
    assert load(tmp_path, b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()) == rig  # as Notepad saves it


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GOOD.replace("schema", "scheme"), "unknown key scheme (did you mean 'schema'?)"),
        (GOOD.replace("[camera]", "[kamera]"), "unknown key kamera (did you mean 'camera'?)"),
        (GOOD.replace("[camera]", "[kamera]"), "key camera is missing"),
        (GOOD + 'nmae = "b"', "unknown key shots[1].nmae (did you mean 'name'?)"),
        (
            GOOD.replace("exposure_us = 2000", "exposure_ms = 2"),
            "unknown key camera.exposure_ms (did you mean 'exposure_us'?)",
        ),
        (
            GOOD + "[spare]\nexposure_us = 1\npixelformat = 'Mono8'",
            "unknown key spare.pixelformat (did you mean 'pixel_format'?)",
        ),
        (GOOD + "[camera.x]\n", "unknown key camera.x (known: exposure_us, pixel_format)"),
        (GOOD.replace("2000", "0"), "camera.exposure_us = 0: Input should be greater than 0"),
        (GOOD.replace("2000", "inf"), "camera.exposure_us = inf: Input should be a finite number"),
        (GOOD.replace("2000", "nan"), "camera.exposure_us = nan: Input should be a finite number"),
        (GOOD.replace("zone = 1", "zone = 256"), "shots[1].zone = 256: Input should be less than or equal to 255"),
        (GOOD.replace("zone = 1", "zone = []"), "shots[1].zone = []: Input should be a valid integer"),
        (GOOD + "[extra]\na = nan", "extra: cannot be written as JSON: Out of range float"),
        (GOOD + "[extra]\na = 2026-01-01", "extra: cannot be written as JSON: Object of type date"),
    ],
)
def test_each_problem_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    error = problem(tmp_path, text)
    assert sentence in error.message
    assert error.code == "config.invalid"


def test_all_problems_at_once_but_not_thousands(tmp_path: Path) -> None:
    message = problem(tmp_path, GOOD + "".join(f"x{i} = 1\n" for i in range(5000))).message
    assert "x0" in message and "and 4992 more" in message and len(message) < 2000


def test_long_values_are_shortened(tmp_path: Path) -> None:
    message = problem(tmp_path, GOOD.replace("zone = 1", f"zone = '{'9' * 100_000}'")).message
    assert "…" in message or "..." in message
    assert len(message) < 600


@pytest.mark.parametrize("found", ["2", "0", "'1'", "true", "1.0", "[1]"])
def test_another_schema_is_refused_first(tmp_path: Path, found: str) -> None:
    error = problem(tmp_path, GOOD.replace("schema = 1", f"schema = {found}\nunknown = 3"))
    assert error.code == "config.schema_unknown"
    assert "this version reads schema 1" in error.message and "update rakelight" in error.hint
    assert "unknown = 3" not in error.message


@pytest.mark.parametrize(
    "text",
    [b"a = ", b"a = 1\na = 2", b"\xff", b"a = " + b"[" * 50_000, b"a = " + b"9" * 5000, b"#" * (2 << 20), b"a = 1\0"],
    ids=["cut", "twice", "not UTF-8", "nested", "digits", "long", "NUL"],
)
def test_wrong_toml_is_named(tmp_path: Path, text: bytes) -> None:
    assert problem(tmp_path, text).code == "config.syntax"


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rig\.toml does not exist") as caught:
        load_toml(tmp_path / "rig.toml", Rig)
    assert caught.value.code == "config.missing"
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        load_toml(tmp_path, Rig)
    assert caught.value.code == "config.unreadable"


def test_the_caller_chooses_kind_and_hint() -> None:
    with pytest.raises(DatasetError, match=r"^x\.json: key camera is missing$") as caught:
        validate({}, Rig, source="x.json", error=DatasetError, hint="look there")
    assert caught.value.hint == "look there"
    for data in ([], None, "text", [1] * 100_000):
        with pytest.raises(DatasetError, match=r"^x\.json: the file = ") as caught:
            validate(data, Rig, source="x.json", error=DatasetError)
        assert len(caught.value.message) < 300
    deep: dict[str, object] = {}
    for _ in range(5000):
        deep = {"a": deep}
    with pytest.raises(DatasetError, match="extra"):
        validate({"camera": {"exposure_us": 1}, "extra": deep}, Rig, source="x.json", error=DatasetError)


def test_mutated_files_give_a_value_or_one_of_our_errors(tmp_path: Path) -> None:
    rng = random.Random(5)
    outcomes = {True: 0, False: 0}
    for _ in range(300):
        text = bytearray(GOOD.encode())
        for _ in range(rng.randint(1, 2)):
            match rng.randrange(3):
                case 0:
                    text[rng.randrange(len(text))] = rng.randrange(256)
                case 1:
                    del text[rng.randrange(len(text)) :]
                    text += b"\n"
                case _:
                    text.insert(rng.randrange(len(text)), rng.choice(b'[]{}="\n0-e.'))
        try:
            outcomes[isinstance(load(tmp_path, bytes(text)), Rig)] += 1
        except RakelightError as e:
            assert isinstance(e, ConfigError) and e.hint
            outcomes[False] += 1
    assert min(outcomes.values()) > 5
