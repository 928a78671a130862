"""cMIM's mean denominator: how much the batch size matters, beside summed negatives; H-lex.

As many rows are seen with batches of 8, 32 and 128. Both take the tau that is best with batches of 32 on the tuning
seeds.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from diptych_training.losses import ContrastiveLoss
from effects.lex import lex
from effects.running import Effect, best, each, effect
from effects.scoring import Doubles, recall
from effects.tiny import searched

SIZES, SEEN = (8, 32, 128), 3200


def effects() -> list[Effect]:
    """The spread over batch sizes, and each size by itself."""
    summed, averaged = (each(partial(sizes, way, tuned(way))) for way in ("sum", "mean"))
    spread = [[float(np.ptp([own.mean() for own in one])) for one in side] for side in (summed, averaged)]
    rows = [
        effect(
            "Mean denominator",
            "beside summed negatives, batches of 8, 32, 128",
            "H-lex",
            "spread of recall@10",
            *spread,
            better="lower",
            page="contrastive",
        )
    ]
    for place, size in enumerate(SIZES):
        sides = [[one[place] for one in side] for side in (summed, averaged)]
        rows.append(effect("Mean denominator", f"batches of {size}", "H-lex", "recall@10", *sides, page="contrastive"))
    return rows


def tuned(way: Any) -> float:
    """The best tau at batches of 32."""
    return best(lambda tau, seed: float(run(seed, way, tau, 32).mean()), (0.1, 0.2, 0.4))


def sizes(way: Any, tau: float, seed: int) -> list[Doubles]:
    """What each batch size gives."""
    return [run(seed, way, tau, size) for size in SIZES]


def run(seed: int, way: Any, tau: float, size: int) -> Doubles:
    """Recall@10 by test query."""
    world = lex(seed)
    loss = ContrastiveLoss(None, tau=tau, denominator=way, relevance=world.relevance())
    return recall(searched(world, loss, seed=seed, steps=SEEN // size, size=size), world.relevant[world.test], 10)
