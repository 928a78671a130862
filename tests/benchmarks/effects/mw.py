"""Mann-Whitney beside InfoNCE: one threshold for all queries, and ranking; H-lex.

Both know all judgements of the training queries. Both take the tau with the best nDCG@10 on the tuning seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from diptych_training.losses import ContrastiveLoss, MannWhitneyLoss
from effects.lex import lex
from effects.running import Effect, best, each, effect
from effects.scoring import Doubles, best_f1, ndcg, pooled_auc
from effects.tiny import searched

TAUS = (0.1, 0.2, 0.5)
METRICS = ("pooled AUC", "F1 at one threshold", "nDCG@10")
Found = tuple[float, float, Doubles]


def effects() -> list[Effect]:
    """Beside InfoNCE, and with the negatives of the batch beside those of the own query, on each measure."""
    infonce, batch = tuned(ContrastiveLoss), tuned(MannWhitneyLoss)
    plain, whole = each(partial(run, ContrastiveLoss, infonce)), each(partial(run, MannWhitneyLoss, batch))
    query = each(partial(run, partial(MannWhitneyLoss, scope="query"), batch))
    sides = {"beside InfoNCE": plain, "scope batch beside query": query}
    return [
        effect("Mann-Whitney", what, "H-lex", metric, *parts(other, whole, place), page="mw")
        for what, other in sides.items()
        for place, metric in enumerate(METRICS)
    ]


def parts(baseline: list[Found], found: list[Found], place: int) -> list[list[Any]]:
    """One measure of both sides."""
    return [[one[place] for one in side] for side in (baseline, found)]


def tuned(make: Callable[..., Any]) -> float:
    """The tau that ranks best."""
    return best(lambda tau, seed: float(run(make, tau, seed)[2].mean()), TAUS)


def run(make: Callable[..., Any], tau: float, seed: int) -> Found:
    """The three measures on H-lex."""
    world = lex(seed)
    scores = searched(world, make(None, tau=tau, relevance=world.relevance()), seed=seed)
    return measured(scores, world.relevant[world.test])


def measured(scores: Doubles, relevant: Any) -> Found:
    """Pooled AUC, F1 at the best threshold, nDCG@10 by query."""
    return pooled_auc(scores, relevant), best_f1(scores, relevant), ndcg(scores, relevant)
