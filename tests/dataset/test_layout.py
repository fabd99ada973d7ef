"""Names of the Real-IAD D³ tree, to the letter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rakelight.dataset import layout
from rakelight.dataset.layout import SampleKey
from rakelight.errors import DatasetError

RELEASED = """
    audio_jack_socket common_mode_filter connector_housing_female crimp_st_cable_mount_box dc_power_connector
    ethernet_connector ferrite_bead fork_crimp_terminal fuse_holder headphone_jack_socket humidity_sensor knob_cap
    lattice_block_plug lego_pin_connector_plate lego_propeller limit_switch miniature_lifting_motor power_jack
    purple_clay_pot telephone_spring_switch
"""


def test_released_name_is_written_to_the_letter() -> None:
    key = SampleKey("audio_jack_socket", "OK", 153)
    name = layout.sample_file(key, "RGBL05", "0" * 14)
    assert f"{key}/{name}" == "audio_jack_socket/OK/S0153/audio_jack_socket_0153_OK_RGBL05_00000000000000.jpg"
    assert key.raw_folder == "realiad_d3_raw/audio_jack_socket/OK/S0153"


@pytest.mark.parametrize(
    ("modality", "end"),
    [
        ("RGBL01", "RGBL01_20251123021300.jpg"),
        ("PS", "PS_20251123021300.jpg"),
        ("XYZ", "XYZ_20251123021300.tiff"),
        ("PCD", "PCD_20251123021300.pcd"),
        ("MASK", "RGBL05_20251123021300.png"),
    ],
)
def test_defective_sample(modality: str, end: str) -> None:
    key = SampleKey("knob_cap", "scratch", 1)
    name = layout.sample_file(key, modality, "20251123021300")
    assert name == f"knob_cap_0001_scratch_{end}"
    assert key.extras_folder == "extras/knob_cap/NG/scratch/S0001"
    assert layout.parse_sample_file(name) == (key, modality, "20251123021300")


names = st.from_regex(r"[a-z0-9]{1,6}(_[a-z0-9]{1,6}){0,3}", fullmatch=True)


@given(names, st.one_of(st.just("OK"), names), st.integers(1, 9999), st.sampled_from(sorted(layout.MODALITIES)))
def test_every_allowed_name_parses_back_unambiguously(category: str, label: str, number: int, modality: str) -> None:
    try:
        key = SampleKey(layout.check_category(category), layout.check_label(label), number)
    except DatasetError:
        return
    name = layout.sample_file(key, modality, "20250102030405")
    assert layout.parse_sample_file(name) == (key, modality, "20250102030405")
    assert SampleKey.parse(str(key)) == key


@pytest.mark.parametrize("name", RELEASED.split())
def test_released_categories_are_allowed(name: str) -> None:
    assert layout.check_category(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "Scratch", "OK ", "a-b", "a b", "_a", "a_", "a__b", "../a", "kratzer_ü", "a\n", "x" * 41, "con", "lpt1"],
)
def test_malformed_names_are_refused(name: str) -> None:
    assert_refused(name)


@pytest.mark.parametrize(
    "name",
    [
        "ok",
        "not_ok",
        "good",
        "ps",
        "a_ps",
        "gt_a",
        "pcd",
        "xyz",
        "xyzmap",
        "rgb_led",
        "rgbled",
        "tiff",
        "a_0001",
        "0402",
    ],
)
def test_names_that_would_trip_loaders_are_refused(name: str) -> None:
    assert_refused(name)


def assert_refused(name: str) -> None:
    for check in (layout.check_category, layout.check_label):
        with pytest.raises(DatasetError, match=r"^(category|defect) ") as caught:
            check(name)
        assert caught.value.code == "dataset.name_invalid"
        assert repr(name) in caught.value.message
        assert caught.value.hint


@pytest.mark.parametrize("name", ["broken", "length", "a_12345", "bent_pin2", "resistor0603"])
def test_harmless_likenesses_are_allowed(name: str) -> None:
    assert layout.check_label(name) == name


@pytest.mark.parametrize("name", ["broken", "smoked", "look_alike"])
def test_reader_that_searches_for_ok_in_the_label_sees_a_defect(name: str) -> None:
    assert "OK" not in layout.check_label(name)  # as that reader asks: upper case only
    for spelt in (name.upper(), name.replace("ok", "OK")):
        assert_refused(spelt)


def test_ok_is_a_label_and_no_category() -> None:
    assert layout.check_label("OK") == "OK"
    with pytest.raises(DatasetError):
        layout.check_category("OK")


@pytest.mark.parametrize("text", ["2025", "20251301000000", "2025112302130x", "20251123021360", "٢" * 14])
def test_bad_timestamp(text: str) -> None:
    with pytest.raises(DatasetError, match="14 digits") as caught:
        layout.check_timestamp(text)
    assert caught.value.code == "dataset.timestamp_invalid"


@pytest.mark.parametrize("text", ["20251123021300", "0" * 14])
def test_good_timestamp(text: str) -> None:
    assert layout.check_timestamp(text) == text


@pytest.mark.parametrize(
    "text", ["a/OK/1", "a/NG/S0001", "a/NG/OK/S0001", "a/b/OK/S0001", "../OK/S0001", "a/OK/S00001"]
)
def test_bad_key(text: str) -> None:
    with pytest.raises(DatasetError):
        SampleKey.parse(text)


@pytest.mark.parametrize(
    "name", ["a_0001_OK_RGBL06_00000000000000.jpg", "a_0001_OK_PS_00000000000000.png", "._a_0001_OK_PS_1.jpg", "a.jpg"]
)
def test_foreign_file_names_are_no_sample_files(name: str) -> None:
    assert layout.parse_sample_file(name) is None


@pytest.mark.parametrize("name", ["", "a/b.tif", "..", "a.", "nul.tif", "COM1", ".hidden", "a:b", "x" * 101])
def test_file_names_that_fail_on_some_system(name: str) -> None:
    with pytest.raises(DatasetError) as caught:
        layout.check_file_name("raw file", name)
    assert caught.value.code == "dataset.name_invalid"
