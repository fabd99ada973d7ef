"""Train the contrastive fusion on the good parts at hand, and find out on good parts held out whether it helps.

It is known to be fragile: others found that it makes things worse on their data (M3DM issues 30 and 36). So it has to win:
patches of held-out good parts are disturbed, in one modality or in the agreement of both, and the fused distances to the
training parts must tell them from undisturbed ones better than the features side by side do (:func:`separation`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rakelight.detection.fusion import HEAD, WIDEN, Fusion, check_pair, concat, info_nce, network
from rakelight.detection.neighbours import Floats, nearest, part_ids
from rakelight.errors import InputError, ModelError

Progress = Callable[[int, int], None]
LEAST_PARTS = 3
MARGIN = 0.01  # of separation; what the draw of the disturbed patches alone can make up
_BANK, _ASKED = 2000, 300  # patches in the bank, and asked a held-out part, by the check


@dataclass(frozen=True)
class FusionSettings:
    """How to train.

    Attributes
    ----------
    temperature : float
        Of InfoNCE. 1, M3DM's, hardly tells neighbours apart.
    symmetric : bool
        Ask both ways; M3DM asks one way.
    batch : int
        Patches a step, each the others' negative.
    gflop : float
        Work allowed, in 10⁹ floating-point operations: it sets the number of steps, so that the time is bounded (two
        cores do some 100 a second) and, unlike with a time limit, the result does not depend on how busy the machine is.
    held_out : float
        Share of the parts, at least one, that training does not see.
    patience : int
        Checks in a row without a better held-out loss after which training stops.
    """

    temperature: float = 0.1
    symmetric: bool = True
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    batch: int = 256
    gflop: float = 150.0
    most_steps: int = 200
    checks: int = 12
    held_out: float = 0.2
    patience: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        positive = (self.temperature, self.learning_rate, self.gflop, self.most_steps, self.checks, self.patience)
        if min(positive) <= 0 or self.batch < 2 or not 0 < self.held_out < 1:
            raise InputError(
                f"fusion settings {self}: all must be above 0, batch at least 2, held_out below 1",
                code="fusion.settings",
            )

    def steps(self, dims: tuple[int, int]) -> int:
        """Training steps that ``gflop`` allows for features of these dimensions, at least 1."""
        weights = sum(2 * WIDEN * dim * dim + HEAD * dim for dim in dims)
        return max(1, min(self.most_steps, int(self.gflop * 1e9 / (6 * weights * self.batch))))


@dataclass(frozen=True)
class FusionReport:
    """What training did, and whether it was worth it, all measured on held-out good parts.

    Attributes
    ----------
    steps, best_step : int
        Steps made, and the one whose weights are kept.
    loss_before, loss : float
        Held-out InfoNCE without training, and of the weights kept.
    partner_found, by_chance : float
        Share of patches whose partner is the most similar of all of the part, and what guessing gives.
    separation, separation_concat : float
        See :func:`separation`, of the trained fusion and of the features side by side.
    helps : bool
        The first is better than the second by more than 0.01.
    """

    steps: int
    best_step: int
    loss_before: float
    loss: float
    held_out_parts: int
    partner_found: float
    by_chance: float
    separation: float
    separation_concat: float
    helps: bool

    @property
    def sentence(self) -> str:
        """The outcome in one sentence."""
        figures = (
            f"on held-out good parts it tells {self.separation:.1%} of disturbed patches from undisturbed ones, "
            f"the features side by side {self.separation_concat:.1%}"
        )
        if self.helps:
            return f"The trained fusion is used: {figures}."
        return f"The trained fusion does not help, and the features side by side are used instead: {figures}."


def train(
    first: Any,
    second: Any,
    part: Any,
    settings: FusionSettings | None = None,
    *,
    keep: bool = False,
    device: str = "cpu",
    progress: Progress = lambda done, total: None,
) -> tuple[Fusion, FusionReport]:
    """Train the fusion; returns it if it helps (or ``keep``), else the features side by side, and the report.

    The fusion has seen the training parts: their leave-one-part-out distances in a fused bank are slightly small.

    Parameters
    ----------
    first, second : (P, Da), (P, Db) float arrays
        Patches valid in both modalities, row by row of the same place.
    part : (P,) int array
        The part each is of, numbers ≥ 0; at least 3 parts.
    progress : callable
        Called with steps done and the number of steps.

    Raises
    ------
    ModelError
        Fewer than 3 parts, tables that do not fit each other, NaN, a loss that is not finite.
    """
    settings = settings or FusionSettings()
    a, b = check_pair(first, second)
    ids = part_ids("parts of the patches", part, len(a))
    rng = np.random.default_rng(settings.seed)
    held = _held_out(ids, settings.held_out, rng)
    rows, test = np.flatnonzero(~held), np.flatnonzero(held)
    if len(rows) < 2 or len(test) < 2:
        raise ModelError(
            f"{len(rows)} patches to train the fusion on and {len(test)} held out; at least 2 of each are needed",
            code="model.too_few_patches",
        )
    plain = concat(a[rows], b[rows])
    trained, course = _descend(a, b, rows, test, settings, rng, device, progress)
    found, chance = partner_found(trained, a[test], b[test], ids[test])
    scores = [separation(f, a, b, ids, held, seed=settings.seed) for f in (trained, plain)]
    helps = scores[0] > scores[1] + MARGIN
    report = FusionReport(*course, len(np.unique(ids[test])), found, chance, scores[0], scores[1], helps)
    return (trained if helps or keep else plain), report


def partner_found(fusion: Fusion, first: Floats, second: Floats, part: NDArray[np.int32]) -> tuple[float, float]:
    """The share of first patches whose most similar second patch of the same part is their partner, and the share by chance."""
    a, b = fusion.project(first, second) if fusion.kind == "contrastive" else (first, second)
    hits = parts = 0
    for one in np.unique(part):
        mine = np.flatnonzero(part == one)
        hits += int(((a[mine] @ b[mine].T).argmax(axis=1) == np.arange(len(mine))).sum())
        parts += 1
    return hits / len(part), parts / len(part)


def separation(
    fusion: Fusion, first: Floats, second: Floats, part: NDArray[np.int32], held: NDArray[np.bool_], *, seed: int = 0
) -> float:
    """How well fused distances tell disturbed patches of held-out good parts from undisturbed ones, as an AUROC (½ = chance).

    The bank is made of the other parts. Disturbed in three ways, whose figures are averaged: the first modality moved by
    half the difference of two other patches, the second likewise, and a patch paired with the partner of another place.
    """
    rng = np.random.default_rng(seed)
    others, mine = np.flatnonzero(~held), np.flatnonzero(held)
    bank = rng.choice(others, min(_BANK, len(others)), replace=False)
    asked = np.concatenate([_some(np.flatnonzero(held & (part == one)), rng) for one in np.unique(part[mine])])
    a, b = first[asked], second[asked]
    steps = [0.5 * (x[rng.choice(others, len(asked))] - x[rng.choice(others, len(asked))]) for x in (first, second)]
    elsewhere = rng.choice(mine, len(asked))
    known = fusion.fuse(first[bank], second[bank])
    usual = nearest(fusion.fuse(a, b), known).distance[:, 0]
    disturbed = [(a + steps[0], b), (a, b + steps[1]), (a, second[elsewhere])]
    return float(np.mean([_auroc(usual, nearest(fusion.fuse(*pair), known).distance[:, 0]) for pair in disturbed]))


def _descend(
    a: Floats,
    b: Floats,
    rows: NDArray[np.int64],
    test: NDArray[np.int64],
    settings: FusionSettings,
    rng: np.random.Generator,
    device: str,
    progress: Progress,
) -> tuple[Fusion, tuple[int, int, float, float]]:
    """AdamW with a cosine schedule and a short warm-up; keeps the weights with the least held-out loss."""
    dims, total = (a.shape[1], b.shape[1]), settings.steps((a.shape[1], b.shape[1]))
    with torch.random.fork_rng(devices=[]):  # the layers draw their start from torch's global state
        torch.manual_seed(settings.seed)
        net = network(dims).to(device)
    optimiser = torch.optim.AdamW(
        net.parameters(), settings.learning_rate, betas=(0.9, 0.95), weight_decay=settings.weight_decay
    )
    watched = rng.choice(test, min(2 * settings.batch, len(test)), replace=False)

    def loss_of(chosen: NDArray[np.int64]) -> Any:
        sides = []
        for name, table in (("first", a), ("second", b)):
            sides.append(net[f"{name}_head"](net[name](torch.from_numpy(table[chosen]).to(device))))
        return info_nce(sides[0], sides[1], settings.temperature, symmetric=settings.symmetric)

    def held_out_loss() -> float:
        with torch.inference_mode():
            return float(loss_of(watched))

    before = best = held_out_loss()
    best_step, since, step = 0, 0, 0
    kept = _state(net)
    every, warm = max(1, total // settings.checks), max(1, total // 20)
    while step < total and since < settings.patience:
        rate = min(1.0, (step + 1) / warm) * 0.5 * (1 + np.cos(np.pi * step / total))
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * rate
        loss = loss_of(rng.choice(rows, min(settings.batch, len(rows)), replace=False))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        if step % every == 0 or step == total:
            now = held_out_loss()
            if not np.isfinite(now):
                raise ModelError(
                    f"training of the fusion went astray: loss {now} after {step} steps",
                    hint="turn the fusion off, or lower its learning rate",
                    code="model.fusion_training",
                )
            since += 1
            if now < best:
                best, best_step, since, kept = now, step, 0, _state(net)
        progress(step, total)
    return Fusion("contrastive", dims, kept), (step, best_step, before, best)


def _state(net: Any) -> dict[str, NDArray[np.float32]]:
    return {name: value.detach().cpu().numpy().copy() for name, value in net.state_dict().items()}


def _held_out(part: NDArray[np.int32], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    parts = np.unique(part)
    if len(parts) < LEAST_PARTS:
        raise ModelError(
            f"the fusion needs at least {LEAST_PARTS} good parts with both modalities; there are {len(parts)}",
            hint='show more good parts, or use fusion "concat"',
            code="model.too_few_parts",
        )
    count = min(max(1, round(share * len(parts))), len(parts) - 2)
    return np.isin(part, rng.choice(parts, count, replace=False))


def _some(rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.choice(rows, min(_ASKED, len(rows)), replace=False)


def _auroc(low: NDArray[np.floating], high: NDArray[np.floating]) -> float:
    """The chance that one of ``high`` is above one of ``low``, ties half."""
    ordered = np.sort(low)
    both = np.searchsorted(ordered, high, "left") + np.searchsorted(ordered, high, "right")
    return float(both.mean() / (2 * len(low)))
