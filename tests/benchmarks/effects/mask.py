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
from effects.running import Effect, each, effect
from effects.scoring import Doubles, ndcg, recall_at_own
from effects.tiny import searched

MANY: dict[str, Any] = {"attributes": 20, "positives": (5, 12)}


def effects() -> list[Effect]:
    """The mask with few and with many relevant documents a query, then the reductions."""
    few = [each(partial(run, masked=on)) for on in (False, True)]
    many = [each(partial(run, masked=on, world=MANY)) for on in (False, True)]
    summed = each(partial(run, reduction="supcon", world=MANY))
    told = "judged documents are no negatives"
    what = "beside summed softmax, 5 to 12 relevant documents a query"
    return [
        effect("Relevance mask", told, "H-lex", "nDCG@10", *parts(few, 0), page="contrastive"),
        effect("Relevance mask", f"{told}, 5 to 12 relevant", "H-lex", "nDCG@10", *parts(many, 0), page="contrastive"),
        effect("Decoupled softmax", what, "H-lex", "recall@n", *parts([summed, many[1]], 1), page="contrastive"),
        effect(
            "Decoupled softmax",
            what,
            "H-lex",
            "spread of positive scores",
            *parts([summed, many[1]], 2),
            better="lower",
            page="contrastive",
        ),
    ]


def run(
    seed: int, *, masked: bool = True, reduction: Any = "decoupled", world: dict[str, Any] | None = None
) -> tuple[Doubles, Doubles, Doubles]:
    """nDCG@10, recall at the number of relevant documents, and the spread of their cosines, by test query."""
    corpus = lex(seed, **(world or {}))
    loss = ContrastiveLoss(None, reduction=reduction, relevance=corpus.relevance() if masked else None)
    scores, relevant = searched(corpus, loss, seed=seed), corpus.relevant[corpus.test]
    spread = np.array([own[mine].std() for own, mine in zip(scores, relevant, strict=True)])
    return ndcg(scores, relevant), recall_at_own(scores, relevant), spread


def parts(sides: list[list[tuple[Doubles, Doubles, Doubles]]], place: int) -> list[list[Doubles]]:
    """One measure of both sides."""
    return [[one[place] for one in side] for side in sides]
