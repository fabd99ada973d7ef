"""Light protocols byte by byte, the settings, and the arithmetic of on-times."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rakelight.acquisition.drivers import light_protocols as p
from rakelight.acquisition.drivers.light_limits import OnTime
from rakelight.acquisition.drivers.light_settings import LightSettings, off_frames
from rakelight.config import validate
from rakelight.errors import ConfigError

FAMILIES = {"ccs": p.ccs(), "vst": p.vst(), "xor": p.xor_ascii(), "hik": p.hik(), "cst": p.cst()}
FOUR = {1: 1, 2: 2, 3: 3, 4: 4}


class TestFrames:
    """Bytes published by the makers and seen in other programs."""

    def test_vst(self) -> None:
        vst = p.vst()
        assert vst.switch is not None
        assert vst.level(1, 255).frame == b"@00F25500E2\r\n"
        assert vst.level(4, 128).frame == b"@03F12800E4\r\n"
        assert vst.switch(1, True).frame == b"@00L1007D\r\n"
        assert vst.switch(1, False).frame == b"@00L0007C\r\n"
        assert p.at_frame("@01S0100") == b"@01S0100B5\r\n"
        assert vst.level(1, 0).judge is None and vst.gap_s == 0.010 and vst.baud == 38400

    def test_ccs(self) -> None:
        # 40+30+30+46+32+35+35+52 = 1D4 and 40+30+30+4F = EF, hexadecimal
        assert p.ccs().level(1, 255).frame == b"@00F255RD4\r\n"
        assert p.ccs("W").level(1, 255).frame == b"@00F255WD9\r\n"
        assert p.judge_at(1, b"@00OEF\r\n") == p.Verdict(8)
        assert p.judge_at(1, p.at_frame("@00N2")) == p.Verdict(9, refused="error 2")
        assert p.ccs().baud == 9600

    def test_xor(self) -> None:
        xor = p.xor_ascii()
        assert xor.switch is not None and xor.read is not None
        assert xor.level(1, 255).frame == b"$310FF16"
        assert xor.switch(1, True).frame == b"$1101015"
        assert xor.switch(1, False).frame == b"$2100017"
        assert xor.read(4).frame == b"$4400014"
        assert p.judge_xor_level("$", 4, True, b"$440C760") == p.Verdict(8, value=0xC7)

    def test_xor_options(self) -> None:
        fgen = p.xor_ascii(lead="#", first_channel=0)
        frame = fgen.level(1, 255).frame
        assert frame[:6] == b"#300FF" and frame[6:] == b"%02X" % (0x23 ^ 0x33 ^ 0x30 ^ 0x30 ^ 0x46 ^ 0x46)
        with pytest.raises(ValueError, match="check word should be 60"):
            p.judge_xor_level("$", 4, True, b"$440C700")
        assert p.judge_xor_level("$", 4, False, b"$440C700") == p.Verdict(8, value=0xC7)

    def test_letters(self) -> None:
        hik, cst = p.hik(), p.cst()
        assert hik.read is not None and hik.master is not None and cst.master is not None
        assert hik.level(1, 255).frame == b"SA0255#" and hik.level(4, 0).frame == b"SD0000#"
        assert hik.read(1).frame == b"SA#"
        assert (hik.master(True).frame, hik.master(False).frame) == (b"SH#", b"SL#")
        assert (cst.master(True).frame, cst.master(False).frame) == (b"TH#", b"TL#")
        assert cst.max_level == 999 and cst.level(2, 999).frame == b"SB0999#"
        for reply in (b"A0255", b"a0255"):
            assert p.judge_letter("A", 4, reply) == p.Verdict(5, value=255)
        assert p.judge_letter("A", 0, b"a") == p.Verdict(1)
        assert p.judge_letter("A", 0, b"NG") == p.Verdict(2, refused="the controller answered NG")

    def test_off_frames(self) -> None:
        settings = LightSettings(protocol="vst", port="x", channels={1: 1, 3: 2})
        assert off_frames(settings) == (b"@00L0007C\r\n", b"@01L0007D\r\n")
        assert off_frames(LightSettings(protocol="hik", port="x", channels={1: 4})) == (b"SD0000#",)


def commands(family: p.LightProtocol) -> list[p.Command]:
    made = [family.level(2, 0x5A)]
    made += [family.switch(2, True), family.switch(2, False)] if family.switch else []
    made += [family.read(2)] if family.read else []
    made += [family.master(True), family.master(False)] if family.master else []
    return [c for c in made if c.judge is not None]


JUDGES = [(name, k, c) for name, family in FAMILIES.items() for k, c in enumerate(commands(family))]
YES = {
    "ccs": {b"@01OF0\r\n"},
    "xor": {b"$"},
    "hik": {b"B", b"b"},
    "cst": {b"B", b"b"},
}


class TestJudges:
    @given(st.binary(max_size=12) | st.from_regex(rb"[@$&A-Na-n][0-9A-Fa-fONG@$]{0,8}(\r\n)?", fullmatch=True))
    @example(b"@01OF0\r\n")
    @example(b"@01OF1\r\n")
    @example(b"@00OEF\r\n")
    @example(b"B\xb2\xb2\xb2\xb2")  # superscripts are digits to str, not to us
    @example(b"NG")
    def test_any_bytes_end_in_a_verdict_more_or_a_reason(self, received: bytes) -> None:
        for name, k, command in JUDGES:
            assert command.judge is not None
            try:
                verdict = command.judge(received)
            except ValueError as e:
                assert str(e)
                continue
            if verdict is None:
                assert len(received) < max(command.answer_bytes, 9)
                continue
            assert 0 < verdict.length <= len(received)
            if k == 0 and not verdict.refused:
                assert received[: verdict.length] in YES[name]

    @pytest.mark.parametrize("name", ["ccs", "xor", "hik", "cst"])
    def test_a_changed_byte_is_never_the_same_answer(self, name: str) -> None:
        for good in YES[name]:
            for place in range(len(good)):
                for value in range(256):
                    changed = good[:place] + bytes([value]) + good[place + 1 :]
                    judge = FAMILIES[name].level(2, 0x5A).judge
                    assert judge is not None
                    try:
                        verdict = judge(changed)
                    except ValueError:
                        continue
                    assert verdict is None or verdict.refused or changed in YES[name]

    def test_halves_ask_for_more(self) -> None:
        for answer, judge in [
            (b"@01OF0\r\n", FAMILIES["ccs"].level(2, 1).judge),
            (p.at_frame("@01N3"), FAMILIES["ccs"].level(2, 1).judge),
            (p.xor_frame("$", 4, 2, "0C7"), FAMILIES["xor"].read(2).judge),  # type: ignore[misc]
            (b"B0099", FAMILIES["hik"].read(2).judge),  # type: ignore[misc]
            (b"NG", FAMILIES["hik"].level(2, 1).judge),
        ]:
            assert judge is not None
            assert all(judge(answer[:n]) is None for n in range(len(answer)))
            verdict = judge(answer)
            assert verdict is not None and verdict.length == len(answer)

    @given(st.integers(1, 6), st.integers(0, 255))
    def test_what_was_set_reads_back(self, channel: int, level: int) -> None:
        assert p.judge_letter("ABCDEF"[channel - 1], 4, b"%c%04d" % (64 + channel, level)) == p.Verdict(5, value=level)
        assert p.judge_xor_level("$", channel, True, p.xor_frame("$", 4, channel, f"0{level:02X}")) == p.Verdict(
            8, level
        )


class TestSettings:
    def test_from_a_table_as_toml_has_it(self) -> None:
        table = {"protocol": "xor", "port": "COM3", "channels": {"1": 2, "2": 1}, "lead": "#", "first_channel": 0}
        settings = validate(table, LightSettings, source="rig.toml")
        assert settings.channels == {1: 2, 2: 1}
        assert settings.family().level(2, 16).frame.startswith(b"#31010")

    @pytest.mark.parametrize(
        "change, told",
        [
            ({"protocol": "ccs", "lead": "$"}, "protocol ccs has no option lead"),
            ({"channels": {1: 1, 2: 1}}, "two zones have the same channel"),
            ({"channels": {1: 7}}, "channels 1 to 6"),
            ({"channels": {}}, "channels"),
            ({"channels": {0: 1}}, "channels"),
            ({"max_levels": {5: 0.5}}, "zone 5 has no channel"),
            ({"max_levels": {1: 1.5}}, "max_levels"),
            ({"max_duty": 0}, "max_duty"),
            ({"protocol": "opt"}, "protocol"),
            ({"bauds": 9600}, "did you mean 'baud'"),
        ],
    )
    def test_refusals(self, change: dict[str, object], told: str) -> None:
        with pytest.raises(ConfigError, match=told):
            validate({"protocol": "hik", "port": "x", "channels": FOUR, **change}, LightSettings, source="rig.toml")


class TestOnTime:
    def test_duty_in_a_sliding_window(self) -> None:
        on = OnTime(max_on_s=100, max_duty=0.5, window_s=10)
        on.switch({1}, 0.0)
        on.switch(set(), 3.0)
        on.switch({1}, 4.0)
        assert on.used_s(1, 5.0) == pytest.approx(4.0)
        assert on.exceeded(5.9) == {} and on.next_check_s(5.0) == pytest.approx(1.0)
        assert "max_duty 0.5 × 10 s = 5.00 s" in on.exceeded(6.0)[1]
        on.switch(set(), 6.0)
        told = on.refusal(1, 7.0)
        assert "5.00 s of the last 10 s" in told and "0.5 × 10 s = 5.00 s" in told
        assert "again in 3.00 s" in told  # its first light, from 0 s on, begins to leave the window at 10 s
        assert on.refusal(1, 10.5) == "" and on.used_s(1, 10.5) == pytest.approx(4.5)
        assert on.used_s(1, 30.0) == 0 and on.refusal(2, 7.0) == ""

    def test_on_time_in_one_go(self) -> None:
        on = OnTime(max_on_s=2, max_duty=1, window_s=60)
        on.switch({1, 2}, 0.0)
        on.switch({2, 3}, 1.0)
        assert on.lit == {2, 3} and on.next_check_s(1.5) == pytest.approx(0.5)
        assert list(on.exceeded(2.0)) == [2] and "max_on_s is 2 s" in on.exceeded(2.0)[2]
        on.switch({3}, 2.0)
        assert on.exceeded(2.5) == {} and list(on.exceeded(3.0)) == [3]
        on.switch(set(), 3.0)
        assert on.next_check_s(3.0) is None

    def test_full_duty_is_no_limit(self) -> None:
        on = OnTime(max_on_s=1000, max_duty=1, window_s=10)
        on.switch({1}, 0.0)
        assert on.refusal(1, 500.0) == "" and on.exceeded(500.0) == {}

    @given(st.lists(st.tuples(st.floats(0.01, 5), st.booleans()), max_size=30), st.floats(0.1, 0.9))
    def test_use_is_the_integral_over_the_window(self, pieces: list[tuple[float, bool]], duty: float) -> None:
        on, now, spans = OnTime(1000, duty, 7.0), 0.0, []
        for length, lit in pieces:
            on.switch({1} if lit else set(), now)
            spans.append((now, now + length, lit))
            now += length
        expected = sum(max(0.0, end - max(start, now - 7.0)) for start, end, lit in spans if lit)
        assert on.used_s(1, now) == pytest.approx(expected, abs=1e-9)
        if told := on.refusal(1, now):
            wait = float(told.rsplit(" in ", 1)[1].split()[0])
            on.switch(set(), now)
            assert on.refusal(1, now + wait + 0.011) == ""
