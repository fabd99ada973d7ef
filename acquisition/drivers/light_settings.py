"""Settings of a serial light controller, as rig.toml holds them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from rakelight.acquisition.drivers import light_protocols as families
from rakelight.acquisition.drivers.light_protocols import Command, LightProtocol
from rakelight.config import Model

Zone = Annotated[int, Field(ge=1, le=255)]
Channel = Annotated[int, Field(ge=1, le=16)]
Level = Annotated[float, Field(gt=0, le=1)]

_OPTIONS = {
    "ccs": ("memory",),
    "vst": ("unit",),
    "xor": ("lead", "first_channel", "strict_checksum", "read_back"),
    "hik": ("read_back",),
    "cst": ("read_back",),
}


class LightSettings(Model):
    """Which controller on which port, which channel lights which zone, and how long a zone may be lit."""

    protocol: Literal["ccs", "vst", "xor", "hik", "cst"]
    port: Annotated[str, Field(min_length=1)]
    """Any pyserial URL: /dev/serial/by-id/…, COM3, socket://192.168.0.7:4001."""
    channels: Annotated[dict[Zone, Channel], Field(min_length=1)]
    """Zone → channel, channels numbered from 1."""
    baud: Annotated[int, Field(ge=300, le=4_000_000)] | None = None
    """None: the maker's own."""
    max_levels: dict[Zone, Level] = Field(default_factory=dict)
    """Zone → greatest brightness, 0 to 1 of the controller's range; 1 where nothing is said."""
    settle_ms: Annotated[float, Field(ge=0, le=10_000)] | None = None
    """From the acknowledgement until the light is steady; None: the family's own."""
    answer_within_ms: Annotated[float, Field(ge=1, le=10_000)] = 200.0
    """The controller's latency at most, over the bytes' own time on the line."""
    max_on_s: Annotated[float, Field(gt=0, le=86_400)] = 30.0
    """A zone lit longer is switched off."""
    max_duty: Annotated[float, Field(gt=0, le=1)] = 0.75
    """A zone may be lit for this fraction of any ``duty_window_s``; 1: always."""
    duty_window_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0

    memory: Literal["ram", "eeprom"] | None = None
    """ccs: where levels are written; None: ram, which does not wear out."""
    unit: Annotated[str, Field(pattern=r"^[0-9]{2}$")] | None = None
    """vst: the unit id; None: 00."""
    lead: Literal["$", "#"] | None = None
    """xor: the first character; None: $."""
    first_channel: Annotated[int, Field(ge=0, le=1)] | None = None
    """xor: the digit of channel 1 on the wire; None: 1."""
    strict_checksum: bool | None = None
    """xor: whether answers with a wrong check word are errors; None: they are."""
    read_back: bool | None = None
    """xor, hik, cst: whether each level is read back after it was set; None: it is."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        foreign = {name for names in _OPTIONS.values() for name in names} - set(_OPTIONS[self.protocol])
        given = sorted(name for name in foreign if getattr(self, name) is not None)
        if given:
            raise ValueError(f"protocol {self.protocol} has no option {given[0]}")
        if len(set(self.channels.values())) < len(self.channels):
            raise ValueError("channels: two zones have the same channel")
        most = self.family().channels
        if max(self.channels.values()) > most:
            raise ValueError(f"channels: protocol {self.protocol} has channels 1 to {most}")
        unknown = sorted(set(self.max_levels) - set(self.channels))
        if unknown:
            raise ValueError(f"max_levels: zone {unknown[0]} has no channel")
        return self

    def family(self) -> LightProtocol:
        """The protocol with this controller's options."""
        given: dict[str, Any] = {n: v for n in _OPTIONS[self.protocol] if (v := getattr(self, n)) is not None}
        given.pop("read_back", None)
        if self.protocol == "ccs":
            return families.ccs("W" if given.get("memory") == "eeprom" else "R")
        if self.protocol == "xor":
            if "strict_checksum" in given:
                given["strict"] = given.pop("strict_checksum")
            return families.xor_ascii(**given)
        return {"vst": families.vst, "hik": families.hik, "cst": families.cst}[self.protocol](**given)


def darkness(protocol: LightProtocol, channel: int) -> Command:
    """The command that darkens a channel."""
    return protocol.switch(channel, False) if protocol.switch is not None else protocol.level(channel, 0)


def off_frames(settings: LightSettings) -> tuple[bytes, ...]:
    """Bytes that darken every channel, for a guardian that sends them blindly, ``family().gap_s`` apart."""
    protocol = settings.family()
    return tuple(darkness(protocol, channel).frame for channel in sorted(settings.channels.values()))
