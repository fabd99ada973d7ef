"""The pages of a gallery: an overview of cards with filters, and a page for each sample. Text in, HTML out.

The pages work without their scripts too: filters and switches are then missing, everything is shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rakelight.dataset.layout import SampleKey
from rakelight.dataset.sample import SampleManifest
from rakelight.pipeline.browse_pictures import THUMBS, Drawn, DrawnSample, bar_gradient, definition, overlay
from rakelight.pipeline.html_page import absent, esc, facts, page, section, sentences, table

_SHOWN = {"RGBL05": "picture (RGBL05)", "PS": "pseudo-3D (PS)", "XYZ": "height (XYZ)"}
_OVERLAY_STYLE = """
.pic { position: relative; display: block; background: #222; overflow: hidden; }
.pic img { display: block; width: 100%; height: 100%; } .over { position: absolute; inset: 0; width: 100%; height: 100%; }
.over { fill: none; stroke: #ff6a1a; stroke-width: 1.6px; stroke-linejoin: round; stroke-linecap: round; }
.over.part { stroke: #36c2ff; stroke-width: 1.2px; } .casing { stroke: #000; stroke-width: 3.4px; stroke-opacity: .55; }
.no-defect .defect, .no-part .part { display: none; }
.bar-of { display: flex; gap: 14px 22px; flex-wrap: wrap; padding: 8px 0; align-items: center; }
.bar-of { position: sticky; top: 0; background: #fff; z-index: 2; border-bottom: 1px solid #d0d0d0; }
select, input[type=search] { font: inherit; padding: 2px 6px; } label { white-space: nowrap; }
"""
_INDEX_STYLE = (
    _OVERLAY_STYLE
    + """
body { max-width: none; } #cards { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); }
#cards { margin-top: 14px; } .card { content-visibility: auto; contain-intrinsic-size: 210px 200px; font-size: 13px; }
.card { text-decoration: none; color: inherit; border: 1px solid #d0d0d0; border-radius: 4px; padding: 5px; }
.card.ng { border-color: #d55e00; } .card b { display: block; overflow-wrap: anywhere; } .card[hidden] { display: none; }
.tag { color: #6b4700; } .none { height: 100%; display: grid; place-items: center; color: #ddd; }
"""
)
_SAMPLE_STYLE = (
    _OVERLAY_STYLE
    + """
.tiles { display: grid; gap: 16px; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); margin-top: 14px; }
.tiles figure { min-width: 0; cursor: zoom-in; } .tiles figure.large { grid-column: 1 / -1; cursor: zoom-out; }
.scale { height: 9px; margin: 5px 0 1px; } .ends { display: flex; justify-content: space-between; font-size: 12px; }
nav { display: flex; gap: 20px; flex-wrap: wrap; } figcaption span { color: #555; font-size: 13px; }
"""
)
_INDEX_SCRIPT = """
(() => {
  const of = id => document.getElementById(id), cards = [...document.querySelectorAll('.card')];
  const apply = () => {
    const category = of('category').value, label = of('label').value, shown = of('shown').value;
    const mask = of('mask').value, words = of('words').value.toLowerCase();
    let count = 0;
    for (const card of cards) {
      const d = card.dataset, has = d.has.split(' ');
      const good = (!category || d.category === category) && has.includes(shown)
        && (!label || (label === '!OK' ? d.label !== 'OK' : d.label === label))
        && (!mask || (mask === 'with') === has.includes('MASK')) && d.words.includes(words);
      card.hidden = !good;
      if (!good) continue;
      count++;
      const image = card.querySelector('img'), wanted = d.folder + 'thumb_' + shown + '.jpg';
      if (image && image.getAttribute('src') !== wanted) image.setAttribute('src', wanted);
    }
    of('count').textContent = count + ' of ' + cards.length + ' samples';
    document.body.classList.toggle('no-defect', !of('defect').checked);
  };
  for (const id of ['category', 'label', 'shown', 'mask', 'defect']) of(id).addEventListener('change', apply);
  of('words').addEventListener('input', apply);
  apply();
})();
"""
_SAMPLE_SCRIPT = """
(() => {
  const body = document.body.classList;
  for (const name of ['defect', 'part']) {
    const box = document.getElementById(name), apply = () => body.toggle('no-' + name, !box.checked);
    box.addEventListener('change', apply);
    apply();
  }
  for (const tile of document.querySelectorAll('.tiles figure'))
    tile.addEventListener('click', () => tile.classList.toggle('large'));
  document.addEventListener('keydown', event => {
    const id = {ArrowLeft: 'before', ArrowRight: 'after'}[event.key], link = id && document.getElementById(id);
    if (link && !event.altKey && !event.ctrlKey && !event.metaKey) location.href = link.href;
  });
})();
"""


@dataclass(frozen=True)
class Card:
    """What the overview shows of a sample."""

    manifest: SampleManifest
    drawn: DrawnSample

    @property
    def key(self) -> SampleKey:
        return self.manifest.key


def index_page(
    name: str, cards: Sequence[Card], folder_of: Mapping[SampleKey, str], unreadable: Mapping[str, str]
) -> str:
    """The overview; ``folder_of`` gives each sample's folder relative to it, with a slash at the end."""
    good = sum(c.key.is_ok for c in cards)
    head = (
        f"<h1>{esc(name)}</h1>\n<p>{len(cards)} samples: {good} good, {len(cards) - good} defective. "
        "A click on a sample shows everything of it.</p>"
    )
    body = [head, _filters(cards)]
    if unreadable:
        body.append(section("Cannot be read", sentences([f"{k}: {v}" for k, v in unreadable.items()], "")))
    items = "\n".join(_card(c, folder_of[c.key]) for c in cards)
    body.append(f'<div id="cards">\n{items}\n</div>' if cards else absent("There is no sample."))
    return page(name, "\n".join(body), style=_INDEX_STYLE, script=_INDEX_SCRIPT)


def _filters(cards: Sequence[Card]) -> str:
    categories = sorted({c.key.category for c in cards})
    labels = sorted({c.key.label for c in cards if not c.key.is_ok})
    choices = (
        ("category", "product", [("", "all"), *((c, c) for c in categories)]),
        ("label", "label", [("", "all"), ("OK", "OK"), ("!OK", "all defects"), *((n, n) for n in labels)]),
        ("shown", "shown", list(_SHOWN.items())),
        ("mask", "mask", [("", "with or without"), ("with", "with"), ("without", "without")]),
    )
    boxes = "".join(
        f'<label>{esc(title)} <select id="{name}">'
        + "".join(f'<option value="{esc(value)}">{esc(text)}</option>' for value, text in options)
        + "</select></label>\n"
        for name, title, options in choices
    )
    search = '<label>words <input type="search" id="words" placeholder="specimen, batch, number"></label>\n'
    return f'<div class="bar-of">{boxes}{search}{_switch("defect", " checked")}<span id="count"></span></div>'


def _switch(name: str, checked: str = "") -> str:
    return f'<label><input type="checkbox" id="{name}"{checked}> outline of the {name}</label>\n'


def _card(card: Card, folder: str) -> str:
    manifest, drawn, key = card.manifest, card.drawn, card.key
    has = [*drawn.thumbs, *(["MASK"] if any(f.role == "MASK" for f in manifest.files) else [])]
    words = " ".join([str(key), manifest.specimen, manifest.batch, manifest.timestamp]).lower()
    size = next(((p.width, p.height) for p in drawn.pictures if p.role in THUMBS), (4, 3))
    first = next((t for t in THUMBS if t in drawn.thumbs), None)
    image = (
        f'<img loading="lazy" alt="{esc(key)}" src="{esc(folder)}thumb_{first}.jpg">'
        if first
        else '<span class="none">no picture</span>'
    )
    notes = []
    if not key.is_ok and "MASK" not in has:
        notes.append("no mask")
    notes += ["simulated"] if manifest.simulated else []
    notes += [f"{n} warning{'s' if n > 1 else ''}"] if (n := len(_warnings(manifest))) else []
    notes += ["cannot be drawn in full"] if drawn.problems else []
    return (
        f'<a class="card{"" if key.is_ok else " ng"}" href="{esc(folder)}index.html" data-category="{esc(key.category)}" '
        f'data-label="{esc(key.label)}" data-has="{esc(" ".join(has))}" data-words="{esc(words)}" data-folder="{esc(folder)}">'
        f'<span class="pic" style="aspect-ratio:{size[0]}/{size[1]}">{image}'
        f"{overlay(drawn.defect, 'defect', window=drawn.window)}</span>"
        f"<b>{esc(key.category)}</b>{esc(key.label)} {key.number:04d} "
        f'<span class="tag">{esc(", ".join(notes))}</span></a>'
    )


@dataclass(frozen=True)
class Around:
    """Links of a sample's page: the overview, and the pages before and after it (None at the ends)."""

    index: str
    before: str | None
    after: str | None


def sample_page(card: Card, around: Around, findings: Iterable[str], review: str) -> str:
    """The page of a sample; ``findings`` of the last check, ``review`` the state of its annotation in words."""
    manifest, drawn = card.manifest, card.drawn
    links = [f'<a href="{esc(around.index)}">all samples</a>']
    links += [f'<a id="before" href="{esc(around.before)}">← the one before</a>'] if around.before else []
    links += [f'<a id="after" href="{esc(around.after)}">the next one →</a>'] if around.after else []
    simulated = '<p class="simulated">Simulated; no real part.</p>' if manifest.simulated else ""
    paths = definition(drawn.part, "part-path") + definition(drawn.defect, "defect-path")
    tiles = "\n".join(_tile(p, drawn) for p in drawn.pictures)
    body = [
        f"<nav>{''.join(links)}</nav><h1>{esc(card.key)}</h1>{simulated}{paths}",
        f'<div class="bar-of">{_switch("defect", " checked")}{_switch("part")}'
        "<span>A click on a picture enlarges it; ← and → turn the page.</span></div>",
        f'<div class="tiles">\n{tiles}\n</div>' if tiles else absent("Nothing can be shown."),
    ]
    problems = [*drawn.problems, *_warnings(manifest), *findings]
    body.append(section("Warnings and findings", sentences(problems, "None.")))
    body.append(section("Sample", _facts(manifest, review)))
    body.append(
        section(
            "Quality", facts(_flat(manifest.quality, skip=("warnings",))) if manifest.quality else absent("No figures.")
        )
    )
    body.append(section("Labels", _labels(manifest)))
    rows = [(f.role, f.path.rsplit("/", 1)[-1], f"{f.bytes / 1e6:.3f}", f.sha256) for f in manifest.files]
    body.append(section("Files", table((("role", ""), ("file", ""), ("MB", "n"), ("SHA-256", "")), rows)))
    return page(str(card.key), "\n".join(body), style=_SAMPLE_STYLE, script=_SAMPLE_SCRIPT)


def _tile(picture: Drawn, drawn: DrawnSample) -> str:
    bar = ""
    if picture.bar is not None:
        *ends, unit = picture.bar
        words = "".join(f"<span>{esc(end)} {esc(unit)}</span>" for end in ends)
        bar = f'<div class="scale" style="background:{bar_gradient()}"></div><div class="ends">{words}</div>'
    return (
        f'<figure><span class="pic" style="aspect-ratio:{picture.width}/{picture.height}">'
        f'<img loading="lazy" alt="{esc(picture.title)}" src="{esc(picture.file)}">'
        f"{overlay(drawn.part, 'part', 'part-path')}{overlay(drawn.defect, 'defect', 'defect-path')}</span>{bar}"
        f"<figcaption><b>{esc(picture.title)}</b> <span>{esc(picture.caption)}</span></figcaption></figure>"
    )


def _facts(manifest: SampleManifest, review: str) -> str:
    source = manifest.source
    size = f"{manifest.width} × {manifest.height} px" if manifest.width and manifest.height else ""
    return facts(
        (
            ("category", manifest.category),
            ("label", manifest.label),
            ("specimen", manifest.specimen),
            ("batch", manifest.batch),
            ("captured (UTC)", manifest.timestamp if manifest.timestamp.strip("0") else "not in the file names"),
            ("committed (UTC)", manifest.committed_utc),
            ("revision", manifest.revision),
            ("picture", size),
            ("pixel on the part", "" if manifest.pitch_mm is None else f"{manifest.pitch_mm:.5g} mm"),
            ("x and y of XYZ", manifest.xyz_xy),
            ("annotation", review),
            ("recording", source.recording),
            ("recording id", source.recording_id),
            ("calibration", source.calibration),
            ("came from", source.origin),
            ("settings", json.dumps(source.settings, ensure_ascii=False) if source.settings else ""),
            ("software", f"{manifest.software.name} {manifest.software.version}"),
            ("size", f"{sum(f.bytes for f in manifest.files) / 1e6:.1f} MB in {len(manifest.files)} files"),
        )
    )


def _labels(manifest: SampleManifest) -> str:
    if not manifest.labels:
        return absent(f"{manifest.label} since it was committed.")
    heads = (("when (UTC)", ""), ("was", ""), ("became", ""), ("by", ""), ("reason", ""))
    return table(heads, [(c.utc, c.was, c.label, c.by, c.reason) for c in manifest.labels])


def _warnings(manifest: SampleManifest) -> list[str]:
    found = manifest.quality.get("warnings")
    return [str(w) for w in found] if isinstance(found, list | tuple) else []


def _flat(values: Mapping[str, Any], before: str = "", skip: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    """Nested figures as lines of ``name.name``."""
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if name in skip:
            continue
        if isinstance(value, Mapping):
            found += _flat(value, f"{before}{name}.")
        else:
            found.append((f"{before}{name}", f"{value:.6g}" if isinstance(value, float) else value))
    return found
