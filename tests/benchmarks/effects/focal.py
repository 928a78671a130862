"""Focal cross-entropy beside plain cross-entropy and beside InfoNCE, for retrieval by one threshold; H-lex and H-deb.

All know the judgements of the training queries, and each loss takes the tau with the best F1 on the tuning seeds.
Cross-entropies take all negatives of the batch, and their bias starts where a cosine of one half is the threshold. The
scores of InfoNCE with those of each query brought to mean 0 and deviation 1 stand beside them, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from diptych_training.losses import ContrastiveLoss, FocalBCELoss
from effects import mw
from effects.mw import FIRST, HARNESSES, METRICS, TAUS, Found, parts, seeds_of
from effects.running import Effect, best, each, effect, plateau

LOSSES: dict[str, Callable[..., Any]] = {
    "InfoNCE": ContrastiveLoss,
    "gamma 0": partial(FocalBCELoss, gamma=0.0),
    "gamma 2": partial(FocalBCELoss, gamma=2.0),
}


def effects() -> list[Effect]:
    """Beside both, on each measure."""
    return [row for harness in HARNESSES for row in _effects(harness)]


def _effects(harness: str) -> list[Effect]:
    steps, long_enough = plateau(
        lambda steps, seed: _f1(ContrastiveLoss, 0.1, seed, steps=steps, harness=harness), FIRST[harness]
    )
    at: dict[str, Any] = {"steps": steps, "harness": harness}
    seeds = seeds_of(harness)
    taus = {name: best(partial(_tried, make, at), TAUS) for name, make in LOSSES.items()}
    found = {name: each(partial(run, make, taus[name], **at), seeds) for name, make in LOSSES.items()}
    even = each(partial(run, ContrastiveLoss, taus["InfoNCE"], even=True, **at), seeds)
    sides = {"InfoNCE": found["InfoNCE"], "InfoNCE, scores evened by query": even, "gamma 0": found["gamma 0"]}
    untrained = each(partial(run, ContrastiveLoss, 0.1, steps=0, harness=harness), seeds)
    told: Any = {"page": "contrastive", "conditions": [long_enough], "same_queries": harness != "H-lex"}
    return [
        effect(
            "Focal cross-entropy", f"gamma 2 beside {name}", harness, metric, *parts(other, found["gamma 2"], place),
            untrained=[one[place] for one in untrained], **told,
        )
        for name, other in sides.items()
        for place, metric in enumerate(METRICS)
    ]  # fmt: skip


def _tried(make: Callable[..., Any], at: Mapping[str, Any], tau: float, seed: int) -> float:
    return _f1(make, tau, seed, **at)


def _f1(make: Callable[..., Any], tau: float, seed: int, **at: Any) -> float:
    return run(make, tau, seed, **at)[1]


def run(make: Callable[..., Any], tau: float, seed: int, **at: Any) -> Found:
    """The three measures; see `mw.run`."""
    own = {} if make is ContrastiveLoss else {"bias": -0.5 / tau}
    return mw.run(partial(make, **own), tau, seed, **at)
