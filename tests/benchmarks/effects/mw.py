"""Mann-Whitney beside InfoNCE: one threshold for all queries, and ranking; H-lex and H-cran.

Both know all judgements of the training queries. Both take the tau with the best nDCG@10 on the tuning seeds, on H-lex.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from diptych_training.losses import ContrastiveLoss, MannWhitneyLoss
from effects.cran import cran, pretrained
from effects.lex import lex
from effects.running import Effect, best, each, effect
from effects.scoring import Doubles, best_f1, ndcg, pooled_auc
from effects.tiny import searched

TAUS = (0.02, 0.05, 0.1, 0.2)
Found = tuple[float, float, Doubles]


def effects() -> list[Effect]:
    """Three measures on each harness, and the scope of a query alone."""
    plain, whole = tuned(ContrastiveLoss), tuned(MannWhitneyLoss)
    query = partial(MannWhitneyLoss, scope="query")
    rows = three(
        "H-lex",
        each(partial(run, ContrastiveLoss, plain)),
        each(partial(run, MannWhitneyLoss, whole)),
        "beside InfoNCE",
    )
    rows += three(
        "H-lex",
        each(partial(run, query, whole)),
        each(partial(run, MannWhitneyLoss, whole)),
        "scope batch beside query",
    )
    sides = [each(partial(real, make, tau)) for make, tau in ((ContrastiveLoss, plain), (MannWhitneyLoss, whole))]
    return rows + three("H-cran", *sides, "beside InfoNCE", same_queries=True)


def three(
    harness: str, baseline: list[Found], found: list[Found], what: str, *, same_queries: bool = False
) -> list[Effect]:
    """The effect on each measure."""
    return [
        effect(
            "Mann-Whitney",
            what,
            harness,
            metric,
            [one[place] for one in baseline],
            [one[place] for one in found],
            same_queries=same_queries,
            page="mw",
        )
        for place, metric in enumerate(("pooled AUC", "F1 at one threshold", "nDCG@10"))
    ]


def tuned(make: Callable[..., Any]) -> float:
    """The tau that ranks best."""
    return best(lambda tau, seed: float(run(make, tau, seed)[2].mean()), TAUS)


def run(make: Callable[..., Any], tau: float, seed: int) -> Found:
    """The three measures on H-lex."""
    world = lex(seed)
    scores = searched(world, make(None, tau=tau, relevance=world.relevance()), seed=seed)
    return measured(scores, world.relevant[world.test])


def real(make: Callable[..., Any], tau: float, seed: int) -> Found:
    """The three measures on H-cran."""
    world = cran()
    loss = make(None, tau=tau, relevance=world.relevance())
    scores = searched(world, loss, seed=seed, model=pretrained(), steps=100, rate=1e-4)
    return measured(scores, world.relevant[world.test])


def measured(scores: Doubles, relevant: Any) -> Found:
    """Pooled AUC, F1 at the best threshold, nDCG@10 by query."""
    return pooled_auc(scores, relevant), best_f1(scores, relevant), ndcg(scores, relevant)
