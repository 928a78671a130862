"""cMIM's mean denominator: how much the batch size matters, beside summed negatives; H-deb.

As many rows are seen with batches of 8, 32 and 128, so many as the summed form needs with 32. Both take the tau that is
best with batches of 32 on a tuning seed.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from diptych_training.losses import ContrastiveLoss
from effects.deb import deb, searched
from effects.running import FEW, ONE, Effect, best, each, effect, learnt, plateau
from effects.scoring import Doubles, ndcg

SIZES = (8, 32, 128)


def effects() -> list[Effect]:
    """The spread over batch sizes, and each size by itself."""
    steps, long_enough = plateau(lambda steps, seed: float(run(seed, "sum", 0.05, 32, 32 * steps).mean()), seeds=ONE)
    told: Any = {"page": "contrastive", "conditions": [long_enough], "same_queries": True}
    seen = 32 * steps
    summed, averaged = (each(partial(sizes, way, tuned(way, seen), seen), FEW) for way in ("sum", "mean"))
    untrained = each(partial(run, way="sum", tau=0.05, size=32, seen=0), FEW)
    better = learnt([one[SIZES.index(32)] for one in summed], untrained)
    spread = [[float(np.ptp([own.mean() for own in one])) for one in side] for side in (summed, averaged)]
    rows = [
        effect(
            "Mean denominator",
            "beside summed negatives, batches of 8, 32, 128",
            "H-deb",
            "spread of nDCG@10",
            *spread,
            better="lower",
            **{**told, "conditions": [long_enough, better]},
        )
    ]
    for place, size in enumerate(SIZES):
        sides = [[one[place] for one in side] for side in (summed, averaged)]
        rows.append(
            effect("Mean denominator", f"batches of {size}", "H-deb", "nDCG@10", *sides, untrained=untrained, **told)
        )
    return rows


def tuned(way: Any, seen: int) -> float:
    """The best tau at batches of 32."""
    return best(lambda tau, seed: float(run(seed, way, tau, 32, seen).mean()), (0.05, 0.1, 0.2), ONE)


def sizes(way: Any, tau: float, seen: int, seed: int) -> list[Doubles]:
    """What each batch size gives."""
    return [run(seed, way, tau, size, seen) for size in SIZES]


def run(seed: int, way: Any, tau: float, size: int, seen: int) -> Doubles:
    """nDCG@10 by test query."""
    world = deb(seed)
    loss = ContrastiveLoss(None, tau=tau, denominator=way, relevance=world.relevance())
    return ndcg(searched(world, loss, seed=seed, steps=seen // size, size=size), world.relevant[world.test])
