"""Mann-Whitney beside InfoNCE: one threshold for all queries, and ranking; H-lex, H-deb, and H-deb's frozen documents.

Both know all judgements of the training queries. On H-deb a batch has 128 rows, with which InfoNCE learns sooner. Both
take the tau with the best nDCG@10 on the tuning seeds. What a threshold for all queries can be had for without training
stands beside it: InfoNCE with the scores of each query brought to mean 0 and deviation 1.

Frozen documents are vectors of all-MiniLM-L6-v2. All that is trained is a matrix by which its vectors of queries are
multiplied. There the method also stands beside no training, with scores as they are and evened in that way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from diptych_experimental.mw import MannWhitneyLoss
from diptych_training.losses import ContrastiveLoss
from effects import deb, tiny
from effects.lex import lex
from effects.running import FEW, SEEDS, Condition, Effect, best, each, effect, plateau
from effects.scoring import Doubles, best_f1, ndcg, pooled_auc

FROZEN = "H-deb, frozen"
HARNESSES: dict[str, Any] = {
    "H-lex": (lex, tiny.searched),
    "H-deb": (deb.deb, partial(deb.searched, size=128)),
    FROZEN: (deb.deb, deb.searched_frozen),
}
FIRST = {"H-lex": 200, "H-deb": 100, FROZEN: 50}  # fewest steps
TAUS = (0.05, 0.1, 0.2, 0.5)
METRICS = ("pooled AUC", "F1 at one threshold", "nDCG@10")
Found = tuple[float, float, Doubles]


def effects() -> list[Effect]:
    """Beside InfoNCE, and with the negatives of the batch beside those of the own query, on each measure."""
    return [row for harness in HARNESSES for row in _effects(harness)]


def _effects(harness: str) -> list[Effect]:
    steps, long_enough = plateau(
        lambda steps, seed: float(run(ContrastiveLoss, 0.1, seed, steps=steps, harness=harness)[2].mean()),
        FIRST[harness],
    )
    at, seeds = partial(run, steps=steps, harness=harness), seeds_of(harness)
    infonce, batch = tuned(at, ContrastiveLoss), tuned(at, MannWhitneyLoss)
    plain, whole = each(partial(at, ContrastiveLoss, infonce), seeds), each(partial(at, MannWhitneyLoss, batch), seeds)
    query = each(partial(at, partial(MannWhitneyLoss, scope="query"), batch), seeds)
    even = each(partial(at, ContrastiveLoss, infonce, even=True), seeds)
    sides = {"beside InfoNCE": plain, "beside InfoNCE, scores evened by query": even, "scope batch beside query": query}
    untrained = each(partial(run, ContrastiveLoss, infonce, steps=0, harness=harness), seeds)
    starts = [[one[place] for one in untrained] for place in range(len(METRICS))]
    told: Any = {"page": "mw", "conditions": [long_enough], "same_queries": harness != "H-lex"}
    rows = [
        effect("Mann-Whitney", what, harness, metric, *parts(other, whole, place), untrained=starts[place], **told)
        for what, other in sides.items()
        for place, metric in enumerate(METRICS)
    ]
    return rows + beside_none("Mann-Whitney", "", harness, whole, "mw")


def beside_none(method: str, what: str, harness: str, found: list[Found], page: str) -> list[Effect]:
    """Rows beside the teacher as it is and with its scores evened by query, on frozen documents."""
    if harness != FROZEN:
        return []
    told: Any = {"page": page, "same_queries": True, "conditions": [Condition("the baseline does not train", True)]}
    sides = {
        name: each(partial(run, ContrastiveLoss, 1.0, steps=0, harness=harness, even=even), seeds_of(harness))
        for name, even in (("beside no training", False), ("beside no training, scores evened by query", True))
    }
    return [
        effect(method, f"{what} {name}".strip(), harness, metric, *parts(other, found, place), **told)
        for name, other in sides.items()
        for place, metric in enumerate(METRICS)
    ]


def seeds_of(harness: str) -> tuple[int, ...]:
    """All seeds for the small harness, three for real text."""
    return SEEDS if harness == "H-lex" else FEW


def parts(baseline: list[Found], found: list[Found], place: int) -> list[list[Any]]:
    """One measure of both sides."""
    return [[one[place] for one in side] for side in (baseline, found)]


def tuned(at: Callable[..., Found], make: Callable[..., Any]) -> float:
    """The tau that ranks best."""
    return best(lambda tau, seed: float(at(make, tau, seed)[2].mean()), TAUS)


def run(
    make: Callable[..., Any],
    tau: float,
    seed: int,
    *,
    steps: int,
    harness: str = "H-lex",
    even: bool = False,
    **training: Any,
) -> Found:
    """The three measures, of scores as they are or evened by query."""
    world_of, searched = HARNESSES[harness]
    world = world_of(seed)
    scores = searched(world, make(None, tau=tau, relevance=world.relevance()), seed=seed, steps=steps, **training)
    scores = (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True) if even else scores
    return measured(scores, world.relevant[world.test])


def measured(scores: Doubles, relevant: Any) -> Found:
    """Pooled AUC, F1 at the best threshold, nDCG@10 by query."""
    return pooled_auc(scores, relevant), best_f1(scores, relevant), ndcg(scores, relevant)
