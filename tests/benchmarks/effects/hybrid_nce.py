"""Hybrid-NCE beside InfoNCE: hardness weights by beta; H-deb. Nothing is tuned. With beta 0 it is InfoNCE."""

from __future__ import annotations

from functools import partial
from typing import Any

from diptych_training.losses import HybridNCELoss
from effects.deb import deb, searched
from effects.running import FEW, ONE, Effect, each, effect, plateau
from effects.scoring import Doubles, ndcg


def effects() -> list[Effect]:
    """The sweep."""
    steps, long_enough = plateau(lambda steps, seed: float(run(seed, steps).mean()), seeds=ONE)
    more: Any = {"page": "contrastive", "conditions": [long_enough], "same_queries": True}
    more["untrained"] = each(partial(run, steps=0), FEW)
    plain = each(partial(run, steps=steps), FEW)
    found = []
    for beta in (0.1, 0.25, 0.5, 1.0):
        hard = each(partial(run, steps=steps, beta=beta), FEW)
        found.append(effect("Hybrid-NCE", f"beta {beta} beside 0", "H-deb", "nDCG@10", plain, hard, **more))
    return found


def run(seed: int, steps: int, *, beta: float = 0.0) -> Doubles:
    """nDCG@10 by test query."""
    world = deb(seed)
    loss = HybridNCELoss(None, beta=beta, relevance=world.relevance())
    return ndcg(searched(world, loss, seed=seed, steps=steps), world.relevant[world.test])
