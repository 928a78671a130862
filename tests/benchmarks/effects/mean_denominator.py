"""cMIM's mean denominator: how much the batch size matters, beside summed negatives; H-lex.

As many rows are seen with batches of 8, 32 and 128, so many as the summed form needs with 32. Both take the tau that is
best with batches of 32 on the tuning seeds.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from diptych_training.losses import ContrastiveLoss
from effects.lex import lex
from effects.running import Effect, best, each, effect, plateau
from effects.scoring import Doubles, recall
from effects.tiny import searched

SIZES = (8, 32, 128)


def effects() -> list[Effect]:
    """The spread over batch sizes, and each size by itself."""
    steps, long_enough = plateau(lambda steps, seed: float(run(seed, "sum", 0.2, 32, 32 * steps).mean()), start=100)
    told: Any = {"page": "contrastive", "conditions": [long_enough]}
    seen = 32 * steps
    summed, averaged = (each(partial(sizes, way, tuned(way, seen), seen)) for way in ("sum", "mean"))
    spread = [[float(np.ptp([own.mean() for own in one])) for one in side] for side in (summed, averaged)]
    rows = [
        effect(
            "Mean denominator",
            "beside summed negatives, batches of 8, 32, 128",
            "H-lex",
            "spread of recall@10",
            *spread,
            better="lower",
            **told,
        )
    ]
    for place, size in enumerate(SIZES):
        sides = [[one[place] for one in side] for side in (summed, averaged)]
        rows.append(effect("Mean denominator", f"batches of {size}", "H-lex", "recall@10", *sides, **told))
    return rows


def tuned(way: Any, seen: int) -> float:
    """The best tau at batches of 32."""
    return best(lambda tau, seed: float(run(seed, way, tau, 32, seen).mean()), (0.1, 0.2, 0.4))


def sizes(way: Any, tau: float, seen: int, seed: int) -> list[Doubles]:
    """What each batch size gives."""
    return [run(seed, way, tau, size, seen) for size in SIZES]


def run(seed: int, way: Any, tau: float, size: int, seen: int) -> Doubles:
    """Recall@10 by test query."""
    world = lex(seed)
    loss = ContrastiveLoss(None, tau=tau, denominator=way, relevance=world.relevance())
    return recall(searched(world, loss, seed=seed, steps=seen // size, size=size), world.relevant[world.test], 10)
