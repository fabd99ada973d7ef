"""What the simulated camera can do: its features after the SFNC 2.7, their registers and the GenApi description.

One table makes both the XML that the consumer reads and the C header with the addresses, so the two cannot disagree.
Numbers are 8-byte little-endian registers from ``NUMBERS`` on, texts 64 bytes from ``TEXTS`` on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape

NUMBERS = 0x1000
TEXTS = 0x100
TEXT_BYTES = 64

PIXEL_FORMATS: dict[str, tuple[int, str]] = {
    "Mono8": (0x01080001, "MonoSensor"),
    "Mono10": (0x01100003, "MonoSensor"),
    "Mono10p": (0x010A0046, "MonoSensor"),
    "Mono12": (0x01100005, "MonoSensor"),
    "Mono12p": (0x010C0047, "MonoSensor"),
    "BayerRG8": (0x01080009, "ColourSensor"),
    "BayerRG10": (0x0110000D, "ColourSensor"),
    "BayerRG12": (0x01100011, "ColourSensor"),
    "BayerRG12p": (0x010C0059, "ColourSensor"),
    "RGB8": (0x02180014, "ColourSensor"),
}
"""PFNC name → (PFNC code, register that says whether the sensor offers it)."""


@dataclass(frozen=True)
class Feature:
    """One feature: ``kind`` integer, float, enumeration, boolean, command or string; limits are numbers or node names."""

    name: str
    kind: str
    tip: str
    access: str = "RO"
    low: str = ""
    high: str = ""
    step: str = ""
    unit: str = ""
    entries: Mapping[str, int] | None = None
    locked: bool = False
    selects: tuple[str, ...] = ()
    visibility: str = "Beginner"


def _integer(name: str, tip: str, **more: object) -> Feature:
    return Feature(name, "integer", tip, **more)  # type: ignore[arg-type]


def _float(name: str, tip: str, **more: object) -> Feature:
    return Feature(name, "float", tip, **more)  # type: ignore[arg-type]


def _choice(name: str, tip: str, *entries: str, **more: object) -> Feature:
    return Feature(name, "enumeration", tip, entries={e: k for k, e in enumerate(entries)}, **more)  # type: ignore[arg-type]


def _command(name: str, tip: str) -> Feature:
    return Feature(name, "command", tip, access="RW")


def _text(name: str, tip: str) -> Feature:
    return Feature(name, "string", tip)


_RW_LOCKED: dict[str, object] = {"access": "RW", "locked": True}

CATEGORIES: dict[str, tuple[Feature, ...]] = {
    "DeviceControl": (
        _text("DeviceVendorName", "Who made the device"),
        _text("DeviceModelName", "Model of the device"),
        _text("DeviceVersion", "Version of the device"),
        _text("DeviceSerialNumber", "Serial number of the device"),
        _float("DeviceTemperature", "Temperature of the sensor, which warms up", unit="C"),
        _integer("DeviceLinkThroughputLimit", "Bandwidth that the link may use", unit="Bps", access="RW", locked=True,
                 low="1000000", high="400000000", step="1"),
        _choice("DeviceLinkThroughputLimitMode", "Whether the limit applies", "Off", "On", **_RW_LOCKED),
        _command("TimestampLatch", "Latches the device's clock"),
        _integer("TimestampLatchValue", "The latched clock", unit="ns"),
    ),
    "ImageFormatControl": (
        _integer("SensorWidth", "Width of the sensor in pixels"),
        _integer("SensorHeight", "Height of the sensor in pixels"),
        _integer("WidthMax", "Greatest width"),
        _integer("HeightMax", "Greatest height"),
        _integer("Width", "Width of the image", low="16", high="WidthRoom", step="4", **_RW_LOCKED),
        _integer("Height", "Height of the image", low="2", high="HeightRoom", step="2", **_RW_LOCKED),
        _integer("OffsetX", "First column", low="0", high="OffsetXRoom", step="4", **_RW_LOCKED),
        _integer("OffsetY", "First row", low="0", high="OffsetYRoom", step="2", **_RW_LOCKED),
        Feature("PixelFormat", "enumeration", "Format of the pixels (PFNC)", access="RW", locked=True,
                entries={name: code for name, (code, _) in PIXEL_FORMATS.items()}),
    ),
    "AcquisitionControl": (
        _choice("AcquisitionMode", "How many frames one start delivers", "Continuous", "SingleFrame", "MultiFrame",
                **_RW_LOCKED),
        _command("AcquisitionStart", "Starts the acquisition"),
        _command("AcquisitionStop", "Stops the acquisition"),
        _integer("AcquisitionFrameCount", "Frames in MultiFrame mode", low="1", high="65535", step="1", **_RW_LOCKED),
        Feature("AcquisitionFrameRateEnable", "boolean", "Whether AcquisitionFrameRate applies", access="RW"),
        _float("AcquisitionFrameRate", "Rate without trigger", unit="Hz", access="RW", low="0.01", high="10000"),
        _float("ResultingFrameRate", "Greatest rate that exposure and readout allow", unit="Hz"),
        _choice("TriggerSelector", "Trigger to set up", "FrameStart", access="RW",
                selects=("TriggerMode", "TriggerSource", "TriggerActivation", "TriggerSoftware")),
        _choice("TriggerMode", "Whether a frame waits for a trigger", "Off", "On", access="RW"),
        _choice("TriggerSource", "Where triggers come from", "Software", "Line0", access="RW"),
        _choice("TriggerActivation", "Edge of the line that triggers", "RisingEdge", access="RW"),
        _command("TriggerSoftware", "Triggers one frame"),
        _choice("ExposureMode", "How the exposure is controlled", "Timed", access="RW"),
        _float("ExposureTime", "Exposure, in whole microseconds", unit="us", access="RW", low="20", high="10000000"),
        _float("SensorReadoutTime", "Time from the end of the exposure until the frame is out", unit="us"),
    ),
    "AnalogControl": (
        _choice("GainSelector", "Gain to set", "All", access="RW", selects=("Gain",)),
        _float("Gain", "Amplification", unit="dB", access="RW", low="0", high="24"),
    ),
    "DigitalIOControl": (
        _choice("LineSelector", "Line to look at", "Line0", "Line1", access="RW",
                selects=("LineMode", "LineSource", "LineStatus")),
        _choice("LineMode", "Line0 is an input, Line1 an output", "Input", "Output"),
        _choice("LineSource", "What drives the line", "Off", "ExposureActive"),
        Feature("LineStatus", "boolean", "Level of the line"),
    ),
    "CounterAndTimerControl": (
        _choice("CounterSelector", "Counter to look at", "Counter0", "Counter1", access="RW",
                selects=("CounterEventSource", "CounterValue")),
        _choice("CounterEventSource", "Counter0 counts triggers, Counter1 exposures", "FrameTrigger", "ExposureStart"),
        _integer("CounterValue", "Events since the acquisition started"),
        _command("CounterReset", "Sets both counters to 0"),
    ),
    "ChunkDataControl": (
        Feature("ChunkModeActive", "boolean", "Whether data is appended to the image", access="RW", locked=True),
        _choice("ChunkSelector", "Chunk to switch", "Timestamp", "FrameID", "ExposureTime", "Gain", "CounterValue",
                access="RW", selects=("ChunkEnable",)),
        Feature("ChunkEnable", "boolean", "Whether the selected chunk is appended", access="RW", locked=True),
    ),
    "TransportLayerControl": (
        _integer("PayloadSize", "Bytes of a buffer", unit="B"),
        _integer("TLParamsLocked", "Set by the consumer while it acquires", access="RW", low="0", high="1", step="1",
                 visibility="Invisible"),
    ),
}  # fmt: skip

HIDDEN = ("MonoSensor", "ColourSensor")
"""Registers without a feature of their own: what the sensor offers."""

CHUNKS = {
    "Timestamp": ("Integer", "ns", "Start of the exposure"),
    "FrameID": ("Integer", "", "Number of the frame"),
    "ExposureTime": ("Float", "us", "Exposure of the frame"),
    "Gain": ("Float", "dB", "Gain of the frame"),
    "CounterValue": ("Integer", "", "Counter at the start of the exposure"),
}
"""Chunk → kind, unit, tip. Its id is ``CHUNK_ID`` plus its place; CounterValue holds both counters."""
CHUNK_ID = 0x1000

_ROOMS = {
    "WidthRoom": ("WidthMax", "OffsetX"),
    "HeightRoom": ("HeightMax", "OffsetY"),
    "OffsetXRoom": ("WidthMax", "Width"),
    "OffsetYRoom": ("HeightMax", "Height"),
}


def registers() -> dict[str, int]:
    """Address of each register, in the order of the table."""
    features = [f for group in CATEGORIES.values() for f in group]
    texts = [f.name for f in features if f.kind == "string"]
    numbers = [f.name for f in features if f.kind != "string"] + list(HIDDEN)
    return {name: TEXTS + TEXT_BYTES * k for k, name in enumerate(texts)} | {
        name: NUMBERS + 8 * k for k, name in enumerate(numbers)
    }


def header() -> str:
    """The C header of the register numbers and pixel formats."""
    number = [name for name, at in registers().items() if at >= NUMBERS]
    text = [name for name, at in registers().items() if at < NUMBERS]
    lines = [
        "/* Made by sfnc.py. */",
        *(f"#define RK_{name} {value}" for name, value in (("NUMBERS", NUMBERS), ("TEXTS", TEXTS))),
        f"#define RK_TEXT_BYTES {TEXT_BYTES}",
        f"#define RK_CHUNK_ID {CHUNK_ID}",
        f"#define RK_CHUNK_COUNT {len(CHUNKS)}",
        "enum { " + ", ".join(f"CHUNK_{_upper(name)}" for name in CHUNKS) + " };",
        "enum { " + ", ".join(f"TEXT_{_upper(name)}" for name in text) + ", TEXT_COUNT };",
        "enum { " + ", ".join(f"REG_{_upper(name)}" for name in number) + ", REG_COUNT };",
        *(f"#define PFNC_{name} 0x{code:08X}u" for name, (code, _) in PIXEL_FORMATS.items()),
    ]
    return "\n".join(lines) + "\n"


def camera_xml() -> str:
    """The GenApi description (schema 1.1) of the camera."""
    places = registers()
    out = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<RegisterDescription ModelName="SimulatedCamera" VendorName="rakelight" StandardNameSpace="None"'
        ' SchemaMajorVersion="1" SchemaMinorVersion="1" SchemaSubMinorVersion="0" MajorVersion="1" MinorVersion="0"'
        ' SubMinorVersion="0" ToolTip="rakelight simulated camera"'
        ' ProductGuid="5f0c3a52-6a0e-4b8e-9d53-0f5f7f1f6a01" VersionGuid="5f0c3a52-6a0e-4b8e-9d53-0f5f7f1f6a02"'
        ' xmlns="http://www.genicam.org/GenApi/Version_1_1"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        ' xsi:schemaLocation="http://www.genicam.org/GenApi/Version_1_1 GenApiSchema_Version_1_1.xsd">',
        _node("Category", "Root", *(_tag("pFeature", name) for name in CATEGORIES)),
    ]
    for category, features in CATEGORIES.items():
        names = [f.name for f in features]
        if category == "ChunkDataControl":
            names += ["ChunkCounterSelector", *(f"Chunk{name}" for name in CHUNKS)]
        out.append(_node("Category", category, *(_tag("pFeature", name) for name in names)))
        for feature in features:
            out += _feature(feature, places[feature.name])
    out += [_register("IntReg", name, places[name], "RO") for name in HIDDEN]
    for room, (total, taken) in _ROOMS.items():
        variables = [f'<pVariable Name="{v}">{n}Reg</pVariable>' for v, n in (("TOTAL", total), ("TAKEN", taken))]
        out.append(_node("IntSwissKnife", room, *variables, _tag("Formula", "TOTAL - TAKEN")))
    out += _chunks()
    out += [_node("Port", "Device"), "</RegisterDescription>"]
    return "\n".join(out) + "\n"


def _feature(f: Feature, address: int) -> list[str]:
    """A feature and the register behind it."""
    head = [_tag("ToolTip", f.tip), _tag("Visibility", f.visibility)]
    head += [_tag("pIsLocked", "TLParamsLocked")] * f.locked
    if f.kind == "string":
        body = [_tag("Address", f"0x{address:X}"), _tag("Length", str(TEXT_BYTES)), _tag("AccessMode", "RO")]
        return [_node("StringReg", f.name, *head, *body, _tag("pPort", "Device"))]
    value = [_tag("pValue", f.name + "Reg")]
    if f.kind in ("integer", "float"):
        value += [
            _tag(("" if re.match(r"[\d.]", limit) else "p") + name, limit)
            for name, limit in (("Min", f.low), ("Max", f.high), ("Inc", f.step))
            if limit
        ]
        value += [_tag("Unit", f.unit)] * bool(f.unit)
    elif f.kind == "enumeration":
        assert f.entries is not None
        value = [_entry(f.name, name, code) for name, code in f.entries.items()] + value
    elif f.kind == "boolean":
        value += [_tag("OnValue", "1"), _tag("OffValue", "0")]
    elif f.kind == "command":
        value.append(_tag("CommandValue", "1"))
    value += [_tag("pSelected", name) for name in f.selects]
    register = "FloatReg" if f.kind == "float" else "IntReg"
    kind = "Integer" if f.kind == "integer" else f.kind.capitalize()
    return [_node(kind, f.name, *head, *value), _register(register, f.name + "Reg", address, f.access)]


def _entry(feature: str, name: str, code: int) -> str:
    offered = [_tag("pIsAvailable", PIXEL_FORMATS[name][1])] if feature == "PixelFormat" else []
    inner = "".join([*offered, _tag("Value", str(code))])
    return f'<EnumEntry Name="{name}" NameSpace="Standard">{inner}</EnumEntry>'


def _register(
    kind: str, name: str, address: int, access: str, port: str = "Device", extra: tuple[str, ...] = ()
) -> str:
    tags = [_tag("Address", f"0x{address:X}"), *extra, _tag("Length", "8"), _tag("AccessMode", access)]
    tags += [_tag("pPort", port), _tag("Cachable", "NoCache")]
    tags += [_tag("Sign", "Unsigned")] * (kind == "IntReg")
    return _node(kind, name, *tags, _tag("Endianess", "LittleEndian"), space="Custom")


def _chunks() -> list[str]:
    """Chunk features; ChunkCounterSelector lives in the consumer alone and picks one of the two numbers of its chunk."""
    out = [
        _node(
            "Enumeration", "ChunkCounterSelector",
            _tag("ToolTip", "Counter0 counts triggers, Counter1 exposures"),
            *(_entry("ChunkCounterSelector", f"Counter{k}", k) for k in (0, 1)),
            _tag("pValue", "ChunkCounterChoice"), _tag("pSelected", "ChunkCounterValue"),
        ),
        _node("Integer", "ChunkCounterChoice", _tag("Value", "0"), _tag("Min", "0"), _tag("Max", "1")),
    ]  # fmt: skip
    for place, (name, (kind, unit, tip)) in enumerate(CHUNKS.items()):
        offset = ('<pIndex Offset="8">ChunkCounterChoice</pIndex>',) if name == "CounterValue" else ()
        register, port = f"Chunk{name}Reg", f"Chunk{name}Port"
        tags = [_tag("ToolTip", tip), _tag("pValue", register)] + [_tag("Unit", unit)] * bool(unit)
        out += [
            _node(kind, f"Chunk{name}", *tags),
            _register("IntReg" if kind == "Integer" else "FloatReg", register, 0, "RO", port, offset),
            _node("Port", port, _tag("ChunkID", f"{CHUNK_ID + place:X}"), space="Custom"),
        ]
    return out


def _node(kind: str, name: str, *inner: str, space: str = "Standard") -> str:
    return f'<{kind} Name="{name}" NameSpace="{space}">{"".join(inner)}</{kind}>'


def _tag(name: str, text: str) -> str:
    return f"<{name}>{escape(text)}</{name}>"


def _upper(name: str) -> str:
    """``ExposureTime`` → ``EXPOSURE_TIME``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()
