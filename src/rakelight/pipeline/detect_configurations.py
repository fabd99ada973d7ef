"""What each table of the Real-IAD D³ paper has to teach and test: methods, and methods made by options.

The paper (arXiv 2504.14221): Table 2 all methods, product by product; Table 3 which modalities; Table 4 Point-MAE on fewer
points, defect by defect; Table 5 with and without the interpolation of point features. ``ablation`` is ours: what each piece of
D³M is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rakelight.detection.methods import EMBEDDED, PAPER, Method, make_method
from rakelight.detection.native import Modality
from rakelight.errors import InputError

PLAIN = "plain"
PAPERS = ("table2", "table3", "table4", "table5")
LAYOUTS = (PLAIN, *PAPERS, "ablation")
THINNER = 4  # times fewer points in Table 4
NAMES = {"rgb": "RGB", "ps": "Pseudo-3D", "xyz": "3D"}
_WORDS = {
    "efficientnet-lite0": "EfficientNet-lite0", "efficientnet-lite0-relief": "EfficientNet-lite0",
    "fpfh": "FPFH", "point-mae": "Point-MAE", "vit-b8-dino": "DINO ViT-B/8", "vit-s8-dino": "DINO ViT-S/8",
    "vit-s14-dinov2": "DINOv2 ViT-S/14",
}  # fmt: skip
_SHORT = {"point-mae": "PointMAE", "fpfh": "FPFH", "efficientnet-lite0-relief": "Relief"}


@dataclass(frozen=True)
class Configuration:
    """Something to teach and test. ``name`` is its own among all; ``thin``: every part has so many times fewer points."""

    name: str
    method: Method
    thin: int = 1


@dataclass(frozen=True)
class Entry:
    """A column or row of a layout: its ``title`` below a ``group``, and its configuration, or in words why there is none."""

    group: str
    title: str
    configuration: Configuration | None
    absent: str = ""

    @property
    def name(self) -> str:
        return self.configuration.name if self.configuration else ""


@dataclass(frozen=True)
class Layout:
    """A table to be made: its columns or rows, and what has to be said below it."""

    name: str
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


def layout_of(
    name: str, *, methods: Sequence[str] = (), features: Mapping[Modality, str] | None = None, seed: int = 0
) -> Layout:
    """A layout and its configurations.

    Parameters
    ----------
    name : one of :data:`LAYOUTS`
    methods : names as :func:`rakelight.detection.methods.make_method` takes them
        Of ``plain`` (default: d3m), and instead of our own choice in ``table2``.
    features : mapping of modality to extractor, optional
        Default: those that need no download.
    seed : int

    Raises :class:`InputError`: ``method.unknown`` and what making a method raises, ``evaluate.layout``, ``evaluate.methods`` for
    methods given to a layout that has its own.
    """
    chosen = dict(features or EMBEDDED)
    if name not in LAYOUTS:
        raise InputError(f"layout {name!r} is unknown; known: {', '.join(LAYOUTS)}", code="evaluate.layout")
    if methods and name not in (PLAIN, "table2"):
        raise InputError(
            f"layout {name} has methods of its own; {', '.join(methods)} cannot be put into it",
            hint="leave --method out, or choose --layout plain or table2",
            code="evaluate.methods",
        )
    make = _Maker(chosen, seed)
    told = (_features_note(chosen),)
    if name == PLAIN:
        return Layout(name, tuple(make.entry("", n, n) for n in dict.fromkeys(methods or ("d3m",))))
    if name == "table2":
        entries = _table2(make) if not methods else _own(make, tuple(dict.fromkeys(methods)))
        missing = () if methods else ("Cflow, SimpleNet and AST of the paper's table are not part of rakelight.",)
        return Layout(name, entries, (*told, *missing))
    return {"table3": _table3, "table4": _table4, "table5": _table5, "ablation": _ablation}[name](make, told)


@dataclass(frozen=True)
class _Maker:
    features: Mapping[Modality, str]
    seed: int

    def entry(self, group: str, title: str, method: str, thin: int = 1, after: str = "", **options: Any) -> Entry:
        """``after`` tells configurations of one method apart by name."""
        made = make_method(method, self.features, seed=self.seed, **options)
        name = f"{made.name} {after}" if after else made.name
        return Entry(group, title, Configuration(name, made, thin))

    @property
    def points(self) -> str:
        """What the points' features are called, as the paper's "PointMAE" is."""
        return _SHORT.get(self.features["xyz"], self.features["xyz"])

    @property
    def interpolates(self) -> bool:
        return self.features["xyz"] == "point-mae"


def _table2(make: _Maker) -> tuple[Entry, ...]:
    return (
        make.entry("RGB", "PatchCore", "patchcore-rgb"),
        make.entry("3D", make.points, "pointmae"),
        make.entry("2D+3D", f"{make.points}+PatchCore", "patchcore-rgb+xyz"),
        make.entry("2D+3D", "BTF", "btf"),
        make.entry("2D+3D", "M3DM", "m3dm"),
        make.entry("D³", "D³M", "d3m"),
    )


def _own(make: _Maker, methods: Sequence[str]) -> tuple[Entry, ...]:
    """Methods of the caller's choice, in the order of what they need."""
    entries = [make.entry("", name, name) for name in methods]
    groups = [" + ".join(NAMES[m] for m in e.configuration.method.modalities) for e in entries if e.configuration]
    own = [Entry(group, e.title, e.configuration) for group, e in zip(groups, entries, strict=True)]
    return tuple(sorted(own, key=lambda e: (e.group.count("+"), list(dict.fromkeys(groups)).index(e.group))))


def _table3(make: _Maker, notes: tuple[str, ...]) -> Layout:
    entries = (
        make.entry("PatchCore", "2D", "patchcore-rgb"),
        make.entry("PatchCore", "Pseudo-3D", "patchcore-ps"),
        make.entry("M3DM", "2D+3D", "m3dm"),
        make.entry("PatchCore", "2D+Pseudo-3D", "patchcore-rgb+ps"),
        make.entry("D³M", "2D+Pseudo-3D+3D", "d3m"),
    )
    return Layout("table3", entries, notes)


def _table4(make: _Maker, notes: tuple[str, ...]) -> Layout:
    entries = (
        make.entry("", "Original", "pointmae"),
        make.entry("", f"{THINNER}×", "pointmae", thin=THINNER, after=f"{THINNER}× fewer points"),
    )
    seen = (
        "Features see the points of the working frame (224 px): what lies closer together is not told apart either way."
    )
    return Layout("table4", entries, (*notes, seen))


def _table5(make: _Maker, notes: tuple[str, ...]) -> Layout:
    group = f"M3DM ({make.features['rgb']} + {make.features['xyz']})"
    with_it = make.entry(group, "w/ feature interpolation", "m3dm")
    if make.interpolates:
        off = {"xyz": {"interpolation": "off"}}
        without = make.entry(group, "w/o feature interpolation", "m3dm", after="interpolation off", settings=off)
        return Layout("table5", (with_it, without), notes)
    why = (
        f"{make.features['xyz']} interpolates nothing between groups of points: there is nothing to leave out. "
        "--paper-features takes Point-MAE, which does"
    )
    entries = (Entry(group, with_it.title, None, why), Entry(group, "w/o feature interpolation", None, why))
    return Layout("table5", entries, notes)


def _ablation(make: _Maker, notes: tuple[str, ...]) -> Layout:
    d3m, single = "D³M", "Modalities, a bank each"
    entries = [
        make.entry(d3m, "as it is", "d3m"),
        make.entry(d3m, "without swapping", "d3m", after="swap off", swap=None),
        make.entry(d3m, "hard swapping", "d3m", after="swap hard", swap="hard"),
        make.entry(d3m, "share swapped 0.05", "d3m", after="alpha 0.05", alpha=0.05),
        make.entry(d3m, "share swapped 0.2", "d3m", after="alpha 0.2", alpha=0.2),
        make.entry(d3m, "blocks of 1 × 1", "d3m", after="block 1", block=1),
        make.entry(d3m, "blocks of 4 × 4", "d3m", after="block 4", block=4),
        make.entry(d3m, "fusion by concatenation", "d3m", after="fusion concat", fusion="concat"),
        make.entry(d3m, "pseudo-3D fused with 3D", "d3m", after="fused ps", fused="ps"),
        make.entry(d3m, "one-class SVM decides", "d3m", after="decision ocsvm", decision="ocsvm"),
    ]
    if make.interpolates:
        off = {"xyz": {"interpolation": "off"}}
        entries.append(make.entry(d3m, "without interpolation", "d3m", after="interpolation off", settings=off))
    else:
        why = f"{make.features['xyz']} interpolates nothing"
        entries.append(Entry(d3m, "without interpolation", None, why))
    for which in ("rgb", "ps", "xyz", "rgb+ps", "rgb+xyz", "ps+xyz", "rgb+ps+xyz"):
        title = " + ".join(NAMES[m] for m in which.split("+"))
        entries.append(make.entry(single, title, "pointmae" if which == "xyz" else f"patchcore-{which}"))
    return Layout("ablation", tuple(entries), notes)


def _features_note(features: Mapping[Modality, str]) -> str:
    words = {m: _WORDS.get(f, f) for m, f in features.items()}
    pictures = (
        f"{words['rgb']} for pictures"
        if words["rgb"] == words["ps"]
        else f"{words['rgb']} for RGB, {words['ps']} for pseudo-3D"
    )
    points = "the relief of the points" if features["xyz"].endswith("-relief") else "points"
    points = f"and for {points}" if {*words.values()} == {words["xyz"]} else f"and {words['xyz']} for {points}"
    same = dict(features) == dict(PAPER)
    return (
        f"Features: {pictures} {points}{', as in the paper' if same else ', not those of the paper'}. "
        "Products, parts and splits are not the paper's: its figures are no yardstick for these."
    )


def configurations_of(layouts: Sequence[Layout]) -> list[Configuration]:
    """All that have to be run, each once."""
    found = {e.name: e.configuration for layout in layouts for e in layout.entries if e.configuration}
    return list(found.values())
