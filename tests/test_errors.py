"""The error tree: stable codes, documented exit codes, nothing lost on the way."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rakelight import errors
from rakelight.arrays import check_array, check_same_shape
from rakelight.errors import InputError, RakelightError, StorageError

CODE = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+")
KINDS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RakelightError)
]  # RakelightError included


def test_each_kind_has_its_own_exit_code_and_default_code() -> None:
    assert {kind.__name__: kind.exit_code for kind in KINDS} == {
        "RakelightError": 1,
        "InputError": 2,
        "ConfigError": 3,
        "DeviceError": 4,
        "DatasetError": 7,
        "QualityError": 6,
        "StorageError": 8,
        "CalibrationError": 9,
        "ModelError": 11,
    }
    codes = [kind.default_code for kind in KINDS]
    assert all(CODE.fullmatch(code) for code in codes)
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_carries_message_hint_and_code(kind: type[RakelightError]) -> None:
    error = kind("gain is 30 dB; allowed: 0 to 24", hint="lower it", code="camera.gain")
    for same in (error, copy.copy(error)):
        assert str(same) == same.message == "gain is 30 dB; allowed: 0 to 24"
        assert same.to_dict() == {"code": "camera.gain", "message": str(error), "hint": "lower it"}
    assert (kind("x").code, kind("x").hint) == (kind.default_code, "")
    assert kind.__doc__


def test_kinds_are_also_what_python_calls_them() -> None:
    assert issubclass(InputError, ValueError)
    assert issubclass(StorageError, OSError)


def sources(repository: Path) -> Iterator[Path]:
    for folder in sorted(p for p in repository.iterdir() if (p / "__init__.py").exists()):
        yield from folder.rglob("*.py")
    yield from (p for p in (repository / "src/rakelight").rglob("*.py") if not p.is_symlink())


def codes(path: Path) -> Iterator[tuple[str, int]]:
    """Every literal ``code=…`` of a call in a file, f-strings with a word in the place of what is filled in."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for keyword in node.keywords if isinstance(node, ast.Call) else ():
            if keyword.arg != "code":
                continue
            if isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str):
                yield keyword.value.value, node.lineno
            elif isinstance(keyword.value, ast.JoinedStr):
                parts = keyword.value.values
                yield "".join(str(p.value) if isinstance(p, ast.Constant) else "x" for p in parts), node.lineno


def test_all_codes_in_the_sources_read_area_dot_what(repository: Path) -> None:
    found = [(code, f"{path.name}:{line}") for path in sources(repository) for code, line in codes(path)]
    assert len(found) > 60
    assert [f"{code} at {where}" for code, where in found if not CODE.fullmatch(code)] == []


class TestArrays:
    @pytest.mark.parametrize(
        ("array", "options", "code", "sentence"),
        [
            ([[1, 2], [3]], {}, "input.shape", "is not an array"),
            (["a"], {}, "input.dtype", "numbers are needed"),
            ([None], {"finite": True}, "input.dtype", "numbers are needed"),
            (np.zeros(3), {"dtypes": ("uint8", "uint16")}, "input.dtype", "float64; allowed: uint8, uint16"),
            (np.zeros((2, 3)), {"ndim": 3}, "input.shape", r"2 axes \(shape \(2, 3\)\); 3 are needed"),
            (np.zeros((2, 3)), {"shape": (None, 4)}, "input.shape", r"shape \(2, 3\); needed: any×4"),
            (np.array([1.0, np.nan, np.inf]), {"finite": True}, "input.not_finite", "2 NaN or infinite values of 3"),
        ],
    )
    def test_what_does_not_fit_is_named(self, array: object, options: dict, code: str, sentence: str) -> None:
        with pytest.raises(InputError, match=f"^depth .*{sentence}") as caught:
            check_array("depth", array, **options)
        assert caught.value.code == code

    def test_what_fits_is_not_copied(self) -> None:
        a = np.zeros((2, 3), np.float32)
        assert check_array("depth", a, ndim=2, shape=(2, None), dtypes=("float32",), finite=True) is a
        assert check_array("mask", [True, False], finite=True).dtype == np.bool_

    def test_shapes_must_agree(self) -> None:
        assert check_same_shape("frames", [np.zeros((2, 3))] * 3) == (2, 3)
        with pytest.raises(InputError, match=r"frames: item 2 has shape \(2,\), the first has \(3,\)"):
            check_same_shape("frames", [np.zeros(3), np.zeros(2)])
        with pytest.raises(InputError, match="no arrays given"):
            check_same_shape("frames", [])
