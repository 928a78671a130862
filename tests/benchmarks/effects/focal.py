"""Focal cross-entropy beside plain cross-entropy and beside InfoNCE, for retrieval by one threshold; H-lex.

All know the judgements of the training queries, and each loss takes the tau with the best F1 on the tuning seeds.
Cross-entropies take all negatives of the batch, and their bias starts where a cosine of one half is the threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from diptych_training.losses import ContrastiveLoss, FocalBCELoss
from effects.lex import lex
from effects.mw import METRICS, TAUS, Found, measured, parts
from effects.running import Effect, best, each, effect, plateau
from effects.tiny import searched

LOSSES: dict[str, Callable[..., Any]] = {
    "InfoNCE": ContrastiveLoss,
    "gamma 0": partial(FocalBCELoss, gamma=0.0),
    "gamma 2": partial(FocalBCELoss, gamma=2.0),
}


def effects() -> list[Effect]:
    """Beside both, on each measure."""
    steps, long_enough = plateau(partial(_f1, ContrastiveLoss, 0.1))
    found = {name: _tuned(make, steps) for name, make in LOSSES.items()}
    untrained = each(partial(run, ContrastiveLoss, 0.1, steps=0))
    return [
        effect(
            "Focal cross-entropy",
            f"gamma 2 beside {name}",
            "H-lex",
            metric,
            *parts(found[name], found["gamma 2"], place),
            page="contrastive",
            conditions=[long_enough],
            untrained=[one[place] for one in untrained],
        )
        for name in ("InfoNCE", "gamma 0")
        for place, metric in enumerate(METRICS)
    ]


def _tuned(make: Callable[..., Any], steps: int) -> list[Found]:
    tau = best(lambda tau, seed: _f1(make, tau, steps, seed), TAUS)
    return each(partial(run, make, tau, steps=steps))


def _f1(make: Callable[..., Any], tau: float, steps: int, seed: int) -> float:
    return run(make, tau, seed, steps=steps)[1]


def run(make: Callable[..., Any], tau: float, seed: int, *, steps: int) -> Found:
    """The three measures."""
    world = lex(seed)
    own = {} if make is ContrastiveLoss else {"bias": -0.5 / tau}
    scores = searched(world, make(None, tau=tau, relevance=world.relevance(), **own), seed=seed, steps=steps)
    return measured(scores, world.relevant[world.test])
