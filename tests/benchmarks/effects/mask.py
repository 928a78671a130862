"""What the relevance mask does; H-tag. Summed softmax beside it was measured at 6dcfa484, the last that has it.

Every tag of a training query is a row, so that batches hold tags that are relevant to several rows. Batches of 128 at a
rate of .01 were chosen on seed 100 for the side without the mask, because it learns slowly with less.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from diptych_training.losses import ContrastiveLoss
from effects.deb import searched, tags
from effects.running import FEW, ONE, Effect, each, effect, learnt, plateau
from effects.scoring import Doubles, ndcg

SIZE, RATE = 128, 0.01  # rows of a step, and its rate


def effects() -> list[Effect]:
    """The mask."""
    steps, long_enough = plateau(lambda steps, seed: float(run(seed, steps, masked=False).mean()), seeds=ONE)
    blind, masked = (each(partial(run, steps=steps, masked=on), FEW) for on in (False, True))
    start = each(partial(run, steps=0), FEW)
    better = learnt(blind, start)
    told: Any = {"page": "contrastive", "conditions": [long_enough, better], "same_queries": True}
    return [effect("Relevance mask", "judged tags are no negatives", "H-tag", "nDCG@10", blind, masked, **told)]


def run(seed: int, steps: int, *, masked: bool = True) -> Doubles:
    """nDCG@10 by test query."""
    world = tags(seed)
    loss = ContrastiveLoss(None, relevance=world.relevance() if masked else None)
    found = searched(world, loss, seed=seed, steps=steps, size=SIZE, rate=RATE)
    return ndcg(found, world.relevant[world.test])
