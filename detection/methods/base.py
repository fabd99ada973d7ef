"""What a method is: which features go into which memory banks, and how their scores become one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from rakelight.detection.decision_rules import Method as Rule
from rakelight.detection.native import MODALITIES, Modality
from rakelight.detection.swapping import Mode
from rakelight.errors import InputError, ModelError

PATCH_PX = 8  # of the working frame, a side, where nothing else is said
FusionKind = Literal["contrastive", "concat"]
ScoreKind = Literal["reweighted", "top"]
EMBEDDED: dict[Modality, str] = {
    "rgb": "efficientnet-lite0",
    "ps": "efficientnet-lite0",
    "xyz": "efficientnet-lite0-relief",
}
PAPER: dict[Modality, str] = {"rgb": "vit-b8-dino", "ps": "vit-b8-dino", "xyz": "point-mae"}


@dataclass(frozen=True)
class BankSpec:
    """A memory bank: of one modality, or of two fused ones.

    ``swapped``: its picture features are those after channel-spatial swapping. ``judges``: has a say on complete parts; the
    others explain a verdict, and stand in where a modality is missing. ``finer``: how many of its patches lie along the side of
    one of the method's; a coarser map is repeated.
    """

    name: str
    of: tuple[Modality, ...]
    swapped: bool = False
    judges: bool = True
    finer: int = 1


@dataclass(frozen=True)
class Method:
    """A detector's recipe; made by the functions of :mod:`rakelight.detection.methods`.

    Attributes
    ----------
    name : str
    features : mapping of modality to extractor id
        The modalities used are its keys.
    banks : tuple of BankSpec
    swap : "blend", "hard" or None
        How RGB and pseudo-3D maps are swapped, if they are; both then need one extractor.
    alpha, block : float, int
        Share swapped, and patches along the side of a swapped block.
    fusion : "contrastive", "concat" or None
        Of banks of two modalities. "contrastive" is trained and dropped for "concat" if it does not help.
    decision : str
        Rule that brings banks together (:mod:`rakelight.detection.decision`).
    score : "reweighted" or "top"
        Of a part in one bank: M3DM's re-weighted maximum, or the mean of the farthest 1 % of patches.
    share : float
        Of all patches that the coreset keeps.
    size, grid : int
        Working size S, and patches along its side, G.
    compat : str
        "upstream" reproduces documented quirks of M3DM's code: the re-weighting without the match itself, the blur on
        256 levels, weights set by hand before the one-class SVM, one normalisation for all banks and coresets cut from
        the coreset of points (:mod:`rakelight.detection.upstream`), and with Point-MAE its pooling
        (:func:`upstream_points`). Calibration on banked parts is not: p-values would mean nothing.
    lambdas : mapping, optional
        Those weights, by bank.
    taps, settings : mapping of modality
        Blocks of each extractor whose output is taken, and its other settings; its own choice where none are given.
    """

    name: str
    features: Mapping[Modality, str]
    banks: tuple[BankSpec, ...]
    swap: Mode | None = None
    alpha: float = 0.1
    block: int = 2
    fusion: FusionKind | None = None
    decision: Rule = "zsum"
    score: ScoreKind = "reweighted"
    share: float = 0.1
    size: int = 224
    grid: int = 28
    compat: Literal["", "upstream"] = ""
    lambdas: Mapping[str, float] | None = None
    seed: int = 0
    taps: Mapping[Modality, tuple[int, ...]] = field(default_factory=dict)
    settings: Mapping[Modality, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        used = {m for bank in self.banks for m in bank.of}
        if not self.banks or not used <= set(self.features) or not set(self.features) <= set(MODALITIES):
            raise InputError(
                f"method {self.name}: banks of {sorted(used)} with features of {sorted(self.features)}; needed: one or more "
                f"banks, each of modalities that have features",
                code="method.banks",
            )
        for name, value, kinds in (
            ("swap", self.swap, Mode),
            ("score", self.score, ScoreKind),
            ("decision", self.decision, Rule),
        ):
            if value is not None and value not in get_args(kinds):
                raise InputError(
                    f"method {self.name}: {name} is {value!r}; allowed: {', '.join(get_args(kinds))}",
                    code="method.option",
                )
        if any(len(bank.of) > 1 for bank in self.banks) and self.fusion not in get_args(FusionKind):
            raise InputError(
                f"method {self.name}: fusion is {self.fusion!r}; a bank of two modalities needs contrastive or concat",
                code="method.option",
            )
        if self.swap and self.features.get("rgb") != self.features.get("ps"):
            raise InputError(
                f"method {self.name} swaps RGB and pseudo-3D features, but they come from {self.features.get('rgb')} and "
                f"{self.features.get('ps')}",
                hint="take the same extractor for both, or turn swapping off",
                code="method.swap",
            )
        if not (0 < self.share <= 1 and self.grid >= 4 and self.size % self.grid == 0 and 0 <= self.alpha <= 1):
            raise InputError(
                f"method {self.name}: share {self.share}, size {self.size}, grid {self.grid}, alpha {self.alpha}; needed: a "
                "share above 0 up to 1, a grid of at least 4 that divides the size, alpha 0 to 1",
                code="method.option",
            )
        for bank in self.banks:
            if bank.finer < 1 or self.size % (self.grid * bank.finer):
                raise InputError(
                    f"method {self.name}: bank {bank.name} is {bank.finer} times as fine as the grid of {self.grid}, which "
                    f"must divide the size {self.size}",
                    code="method.option",
                )
        for name, given in (("taps", self.taps), ("settings", self.settings)):
            if not set(given) <= set(self.features):
                raise InputError(
                    f"method {self.name}: {name} of {', '.join(sorted(set(given) - set(self.features)))}; it uses "
                    f"{', '.join(self.modalities)}",
                    code="method.option",
                )

    def grid_of(self, modality: Modality) -> int:
        """Patches a side of a modality's features: those of the coarsest bank that takes them."""
        return self.grid * min((bank.finer for bank in self.banks if modality in bank.of), default=1)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Those it uses, in the order rgb, ps, xyz."""
        return tuple(m for m in MODALITIES if m in self.features)

    @property
    def judging(self) -> tuple[BankSpec, ...]:
        """The banks that have a say on complete parts."""
        return tuple(bank for bank in self.banks if bank.judges)

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Method:
        """Inverse of :meth:`to_dict`; :class:`ModelError` (``model.method``) if it is something else."""
        try:
            banks = tuple(BankSpec(**{**bank, "of": tuple(bank["of"])}) for bank in data["banks"])
            taps = {m: tuple(t) for m, t in data.get("taps", {}).items()}
            return cls(**{**data, "banks": banks, "taps": taps})
        except (KeyError, TypeError, ValueError, AttributeError, InputError) as e:
            raise ModelError(f"the model's method cannot be read: {e}", code="model.method") from e


def default_grid(size: int) -> int:
    """Patches a side at working size ``size``: as many of 8 pixels as fit, of the next larger side that divides where none do."""
    return next((size // side for side in range(PATCH_PX, size + 1) if size % side == 0), 1)


def upstream_points(features: Mapping[Modality, str], options: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """How M3DM's code lays Point-MAE's features on patches: how much finer, and ``options`` with the setting for it.

    With ``compat="upstream"`` and Point-MAE the grid of points is twice as fine and zeros around the part are averaged in
    (:mod:`rakelight.detection.features.m3dm_pooling`); a setting given by hand has its way. Otherwise 1 and the options.
    """
    if options.get("compat") != "upstream" or features.get("xyz") != "point-mae":
        return 1, dict(options)
    settings: dict[str, Any] = dict(options.get("settings") or {})
    settings["xyz"] = {"pooling": "zero-padded"} | dict(settings.get("xyz") or {})
    return 2, {**options, "settings": settings}


def alone(modalities: tuple[Modality, ...], finer: int = 1) -> tuple[BankSpec, ...]:
    """A bank of each modality by itself that explains verdicts and stands in where another modality is missing."""
    return tuple(BankSpec(f"{m}_alone", (m,), judges=False, finer=finer) for m in modalities)
