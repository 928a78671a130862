"""Focal cross-entropy beside plain cross-entropy and beside InfoNCE, for retrieval by one threshold; H-lex.

All know the judgements of the training queries. Cross-entropies take three negatives a positive, drawn from the
batch, and each loss the tau with the best F1 on the tuning seeds. The bias of the cross-entropies starts at 0 and moves
by 2 at most in these steps, which is against them; with `bias=-0.5 / tau` it has not been measured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from diptych_training.losses import ContrastiveLoss, FocalBCELoss
from effects.lex import lex
from effects.mw import METRICS, TAUS, Found, measured, parts
from effects.running import Effect, best, each, effect
from effects.tiny import searched

LOSSES: dict[str, Callable[..., Any]] = {
    "InfoNCE": ContrastiveLoss,
    "gamma 0": partial(FocalBCELoss, gamma=0.0, negatives=3),
    "gamma 2": partial(FocalBCELoss, gamma=2.0, negatives=3),
}


def effects() -> list[Effect]:
    """Beside both, on each measure."""
    found = {name: each(partial(run, make, best(partial(_f1, make), TAUS))) for name, make in LOSSES.items()}
    return [
        effect(
            "Focal cross-entropy",
            f"gamma 2 beside {name}",
            "H-lex",
            metric,
            *parts(found[name], found["gamma 2"], place),
            page="contrastive",
        )
        for name in ("InfoNCE", "gamma 0")
        for place, metric in enumerate(METRICS)
    ]


def _f1(make: Callable[..., Any], tau: float, seed: int) -> float:
    return run(make, tau, seed)[1]


def run(make: Callable[..., Any], tau: float, seed: int) -> Found:
    """The three measures."""
    world = lex(seed)
    scores = searched(world, make(None, tau=tau, relevance=world.relevance()), seed=seed)
    return measured(scores, world.relevant[world.test])
