"""Focal cross-entropy beside plain cross-entropy and beside InfoNCE, for retrieval by one threshold; harnesses of `mw`.

All know the judgements of the training queries, and each loss takes the tau with the best F1 on the tuning seeds, seed
100 alone on real text. Cross-entropies take all negatives of the batch, and their bias starts where a cosine of one
half is the threshold. Focal cross-entropy also stands beside InfoNCE with the scores of each query brought to mean 0
and deviation 1 and, on frozen documents, beside no training. On H-deb the rate is three times that of other scripts: F1
rises for longer than nDCG@10, and at the lower rate it was still rising after 3,200 steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from diptych_experimental.mw import FocalBCELoss
from diptych_training.losses import ContrastiveLoss
from effects import mw
from effects.mw import FIRST, FROZEN, HARNESSES, METRICS, TAUS, Found, beside_none, parts, seeds_of
from effects.running import ONE, TUNING, Effect, best, each, effect, plateau

FIRST_TAU, TRAINING = {"H-lex": 0.1, "H-deb": 0.1, FROZEN: 0.05}, {"H-deb": {"rate": 1e-2}}
LOSSES: dict[str, Callable[..., Any]] = {
    "InfoNCE": ContrastiveLoss,
    "gamma 0": partial(FocalBCELoss, gamma=0.0),
    "gamma 2": partial(FocalBCELoss, gamma=2.0),
}


def effects() -> list[Effect]:
    """Beside both, on each measure."""
    return [row for harness in HARNESSES for row in _effects(harness)]


def _effects(harness: str) -> list[Effect]:
    at: dict[str, Any] = {"harness": harness, **TRAINING.get(harness, {})}
    seeds, tuning, tau = seeds_of(harness), TUNING[:2] if harness == "H-lex" else ONE, FIRST_TAU[harness]
    steps, long_enough = plateau(
        lambda steps, seed: _f1(ContrastiveLoss, tau, seed, **at, steps=steps), FIRST[harness], seeds=tuning
    )
    at = {**at, "steps": steps}
    taus = {name: best(partial(_tried, make, at), TAUS, tuning) for name, make in LOSSES.items()}
    found = {name: each(partial(run, make, taus[name], **at), seeds) for name, make in LOSSES.items()}
    even = each(partial(run, ContrastiveLoss, taus["InfoNCE"], even=True, **at), seeds)
    sides = {"InfoNCE": found["InfoNCE"], "InfoNCE, scores evened by query": even, "gamma 0": found["gamma 0"]}
    untrained = each(partial(run, ContrastiveLoss, tau, **{**at, "steps": 0}), seeds)
    told: Any = {"page": "contrastive", "conditions": [long_enough], "same_queries": harness != "H-lex"}
    rows = [
        effect(
            "Focal cross-entropy", f"gamma 2 beside {name}", harness, metric, *parts(other, found["gamma 2"], place),
            untrained=[one[place] for one in untrained], **told,
        )
        for name, other in sides.items()
        for place, metric in enumerate(METRICS)
    ]  # fmt: skip
    return rows + beside_none("Focal cross-entropy", "gamma 2", harness, found["gamma 2"], "contrastive")


def _tried(make: Callable[..., Any], at: Mapping[str, Any], tau: float, seed: int) -> float:
    return _f1(make, tau, seed, **at)


def _f1(make: Callable[..., Any], tau: float, seed: int, **at: Any) -> float:
    return run(make, tau, seed, **at)[1]


def run(make: Callable[..., Any], tau: float, seed: int, **at: Any) -> Found:
    """The three measures; see `mw.run`."""
    own = {} if make is ContrastiveLoss else {"bias": -0.5 / tau}
    return mw.run(partial(make, **own), tau, seed, **at)
