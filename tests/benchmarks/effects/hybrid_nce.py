"""Hybrid-NCE beside InfoNCE: hardness weights by beta, and documents of like tags as softer positives; H-deb.

Three of ten packages have tags of Debian's; those that share at least half of both sets together are alike. Nothing is
tuned. With beta 0 and without groups it is InfoNCE.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from diptych_training.losses import Groups, HybridNCELoss
from effects.deb import deb, searched, tagged
from effects.running import FEW, ONE, Effect, each, effect, plateau
from effects.scoring import Doubles, ndcg


def effects() -> list[Effect]:
    """The sweep, then the groups."""
    steps, long_enough = plateau(lambda steps, seed: float(run(seed, steps).mean()), seeds=ONE)
    more: Any = {"page": "contrastive", "conditions": [long_enough], "same_queries": True}
    more["untrained"] = each(partial(run, steps=0), FEW)
    plain = each(partial(run, steps=steps), FEW)
    found = []
    for beta in (0.1, 0.25, 0.5, 1.0):
        hard = each(partial(run, steps=steps, beta=beta), FEW)
        found.append(effect("Hybrid-NCE", f"beta {beta} beside 0", "H-deb", "nDCG@10", plain, hard, **more))
    for further in (0.0, 0.2):
        grouped = each(partial(run, steps=steps, further=further), FEW)
        what = f"documents of like tags as positives of weight {further} beside none"
        found.append(effect("Hybrid-NCE", what, "H-deb", "nDCG@10", plain, grouped, **more))
    return found


def run(seed: int, steps: int, *, beta: float = 0.0, further: float | None = None) -> Doubles:
    """nDCG@10 by test query."""
    world = deb(seed)
    groups = None if further is None else Groups(tagged())
    loss = HybridNCELoss(
        None, groups=groups, beta=beta, further=further or 0.0, iou_min=0.5, relevance=world.relevance()
    )
    return ndcg(searched(world, loss, seed=seed, steps=steps), world.relevant[world.test])
