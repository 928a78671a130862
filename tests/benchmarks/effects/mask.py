"""What the relevance mask does, and what decoupled softmax does beside the summed one under it; H-tag.

Every tag of a training query is a row, so that batches hold tags that are relevant to several rows. Batches of 128 at a
rate of .01 were chosen on seed 100 for the side without the mask, because it learns slowly with less.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from diptych_training.losses import ContrastiveLoss
from effects.deb import searched, tags
from effects.running import FEW, ONE, Effect, each, effect, learnt, plateau
from effects.scoring import Doubles, ndcg, recall_at_own

SIZE, RATE = 128, 0.01  # rows of a step, and its rate
Found = tuple[Doubles, Doubles, Doubles]


def effects() -> list[Effect]:
    """The mask, then the reductions."""
    steps, long_enough = plateau(lambda steps, seed: float(run(seed, steps, masked=False)[0].mean()), seeds=ONE)
    blind, masked = (each(partial(run, steps=steps, masked=on), FEW) for on in (False, True))
    summed = each(partial(run, steps=steps, reduction="supcon"), FEW)
    ranked, recalled = parts(blind, masked, 0), parts(summed, masked, 1)
    start = each(partial(run, steps=0), FEW)
    better = [learnt(side, [one[place] for one in start]) for place, side in enumerate((ranked[0], recalled[0]))]
    told: list[Any] = [
        {"page": "contrastive", "conditions": [long_enough, own], "same_queries": True} for own in better
    ]
    what, spread = "beside summed softmax, within batches", "spread of relevant scores"
    return [
        effect("Relevance mask", "judged tags are no negatives", "H-tag", "nDCG@10", *ranked, **told[0]),
        effect("Decoupled softmax", what, "H-tag", "recall@n", *recalled, **told[1]),
        effect("Decoupled softmax", what, "H-tag", spread, *parts(summed, masked, 2), better="lower", **told[1]),
    ]


def run(seed: int, steps: int, *, masked: bool = True, reduction: Any = "decoupled") -> Found:
    """nDCG@10, recall at the number of relevant tags, and the spread of their cosines, by test query."""
    world = tags(seed)
    loss = ContrastiveLoss(None, reduction=reduction, relevance=world.relevance() if masked else None)
    found = searched(world, loss, seed=seed, steps=steps, size=SIZE, rate=RATE)
    relevant = world.relevant[world.test]
    spread = np.array([own[mine].std() for own, mine in zip(found, relevant, strict=True)])
    return ndcg(found, relevant), recall_at_own(found, relevant), spread


def parts(baseline: list[Found], found: list[Found], place: int) -> list[list[Doubles]]:
    """One measure of both sides."""
    return [[one[place] for one in side] for side in (baseline, found)]
