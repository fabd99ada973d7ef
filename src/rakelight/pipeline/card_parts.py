"""Texts of which a program writes some parts and people the rest: the parts stand between markers and are replaced there.

In Markdown a part is ``<!-- rakelight:begin NAME -->`` … ``<!-- rakelight:end NAME -->``; in the YAML head at the top, where
Markdown comments mean nothing, ``# rakelight:begin NAME`` … ``# rakelight:end NAME``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rakelight.errors import DatasetError

HEAD = "head"
_MARKER = re.compile(r"^(?:<!-- rakelight:(begin|end) ([a-z_]+) -->|# rakelight:(begin|end) ([a-z_]+))[ \t]*\r?$", re.M)


@dataclass(frozen=True)
class Merged:
    """The text, names of parts that it has no place for, and keys of the head that people have written themselves."""

    text: str
    left_out: tuple[str, ...] = ()
    own_keys: tuple[str, ...] = ()


def new_text(parts: Mapping[str, str]) -> str:
    """A text of all parts; the part ``head`` is YAML and stands first."""
    body = "\n\n".join(_marked(name, text) for name, text in parts.items() if name != HEAD)
    head = f"---\n{_marked(HEAD, parts[HEAD])}\n---\n\n" if HEAD in parts else ""
    return f"{head}{body}\n"


def merge(before: str, parts: Mapping[str, str], source: str) -> Merged:
    """``before`` with its parts replaced; everything outside them stays byte for byte.

    Keys that people have written into the YAML head themselves are left out of the part ``head``, since none may stand twice.

    Raises
    ------
    DatasetError
        ``card.no_markers`` if it has no part; ``card.markers`` for a part that does not end, or stands twice.
    """
    spans = _spans(before, source)
    if not spans:
        raise DatasetError(
            f"{source} exists and none of its text stands between markers, so none of it can be made anew",
            hint="move it away, write the card, then put your text before, between or behind its parts",
            code="card.no_markers",
        )
    own: tuple[str, ...] = ()
    texts = dict(parts)
    if HEAD in spans and HEAD in texts:
        own, texts[HEAD] = _without_own(before, spans[HEAD], texts[HEAD])
    text, end = [], 0
    for name, (start, stop) in sorted(spans.items(), key=lambda item: item[1]):
        text += [before[end:start], _marked(name, texts[name]) if name in texts else before[start:stop]]
        end = stop
    return Merged("".join([*text, before[end:]]), tuple(name for name in parts if name not in spans), own)


def _spans(text: str, source: str) -> dict[str, tuple[int, int]]:
    """Name → from the first character of its opening marker to the last of its closing one."""
    spans: dict[str, tuple[int, int]] = {}
    begun: re.Match[str] | None = None
    for marker in _MARKER.finditer(text):
        kind, name = marker[1] or marker[3], marker[2] or marker[4]
        if kind == "begin" and begun is None and name not in spans:
            begun = marker
        elif kind == "end" and begun is not None and name == (begun[2] or begun[4]):
            spans[name] = begun.start(), marker.end()
            begun = None
        else:
            raise _unpaired(source, f"the marker '{kind} {name}' stands where it does not belong")
    if begun is not None:
        raise _unpaired(source, f"the part {begun[2] or begun[4]!r} does not end")
    return spans


def _unpaired(source: str, what: str) -> DatasetError:
    return DatasetError(
        f"{source}: {what}; every part needs its two markers, once, none within another",
        hint="mend the markers, or move the file away and write the card anew",
        code="card.markers",
    )


def _without_own(before: str, span: tuple[int, int], head: str) -> tuple[tuple[str, ...], str]:
    """The keys of the YAML head outside our part, and our part without them."""
    end = re.search(r"^---[ \t]*\r?$", before[span[1] :], re.M)
    theirs = before[: span[0]] + "\n" + (before[span[1] : span[1] + end.start()] if end else "")
    mine = [block for block in re.split(r"^(?=[A-Za-z_]+:)", head, flags=re.M) if block]
    keys = set(re.findall(r"^([A-Za-z_]+):", theirs, re.M))
    own = tuple(sorted(k for k in (block.split(":", 1)[0] for block in mine) if k in keys))
    kept = "".join(block for block in mine if block.split(":", 1)[0] not in keys)
    return own, kept.rstrip("\n")


def _marked(name: str, text: str) -> str:
    begin, end = ("# rakelight:{} {}",) * 2 if name == HEAD else ("<!-- rakelight:{} {} -->",) * 2
    return f"{begin.format('begin', name)}\n{text.rstrip()}\n{end.format('end', name)}"
