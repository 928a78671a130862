"""What the relevance mask does, and what decoupled softmax does beside the summed one under it; H-lex.

Every relevant pair of the training queries is a row, so that batches hold documents that are relevant to several rows.
Nothing is tuned.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from diptych_training.losses import ContrastiveLoss
from effects.lex import lex
from effects.running import Effect, each, effect, plateau
from effects.scoring import Doubles, ndcg, recall_at_own
from effects.tiny import searched

MANY: dict[str, Any] = {"attributes": 20, "positives": (5, 12)}


def effects() -> list[Effect]:
    """The mask with few and with many relevant documents a query, then the reductions."""
    steps, long_enough = plateau(lambda steps, seed: float(run(seed, steps, masked=False)[0].mean()))
    more, known_more = plateau(lambda steps, seed: float(run(seed, steps, world=MANY, reduction="supcon")[0].mean()))
    few = [each(partial(run, steps=steps, masked=on)) for on in (False, True)]
    many = [each(partial(run, steps=more, masked=on, world=MANY)) for on in (False, True)]
    summed = each(partial(run, steps=more, reduction="supcon", world=MANY))
    page: Any = {"page": "contrastive"}
    first, rest = ({**page, "conditions": [own]} for own in (long_enough, known_more))
    told = "judged documents are no negatives"
    what = "beside summed softmax, 5 to 12 relevant documents a query"
    return [
        effect("Relevance mask", told, "H-lex", "nDCG@10", *parts(few, 0), **first),
        effect("Relevance mask", f"{told}, 5 to 12 relevant", "H-lex", "nDCG@10", *parts(many, 0), **rest),
        effect("Decoupled softmax", what, "H-lex", "recall@n", *parts([summed, many[1]], 1), **rest),
        effect(
            "Decoupled softmax",
            what,
            "H-lex",
            "spread of positive scores",
            *parts([summed, many[1]], 2),
            better="lower",
            **rest,
        ),
    ]


def run(
    seed: int, steps: int, *, masked: bool = True, reduction: Any = "decoupled", world: dict[str, Any] | None = None
) -> tuple[Doubles, Doubles, Doubles]:
    """nDCG@10, recall at the number of relevant documents, and the spread of their cosines, by test query."""
    corpus = lex(seed, **(world or {}))
    loss = ContrastiveLoss(None, reduction=reduction, relevance=corpus.relevance() if masked else None)
    scores, relevant = searched(corpus, loss, seed=seed, steps=steps), corpus.relevant[corpus.test]
    spread = np.array([own[mine].std() for own, mine in zip(scores, relevant, strict=True)])
    return ndcg(scores, relevant), recall_at_own(scores, relevant), spread


def parts(sides: list[list[tuple[Doubles, Doubles, Doubles]]], place: int) -> list[list[Doubles]]:
    """One measure of both sides."""
    return [[one[place] for one in side] for side in sides]
