"""Hybrid-NCE beside InfoNCE: hardness weights by beta, and documents of like groups as softer positives; H-lex.

Groups of a document are its topic and its attributes; those that share at least half of both sets together are alike.
Nothing is tuned. With beta 0 and without groups it is InfoNCE.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from diptych_training.losses import Groups, HybridNCELoss
from effects.lex import lex
from effects.running import Effect, each, effect, plateau
from effects.scoring import Doubles, recall
from effects.tiny import searched


def effects() -> list[Effect]:
    """The sweep, then the groups."""
    steps, long_enough = plateau(lambda steps, seed: float(run(seed, steps).mean()))
    more: Any = {"page": "contrastive", "conditions": [long_enough]}
    plain = each(partial(run, steps=steps))
    found = []
    for beta in (0.1, 0.25, 0.5, 1.0):
        hard = each(partial(run, steps=steps, beta=beta))
        found.append(effect("Hybrid-NCE", f"beta {beta} beside 0", "H-lex", "recall@10", plain, hard, **more))
    for further in (0.0, 0.2):
        grouped = each(partial(run, steps=steps, further=further))
        what = f"like documents as positives of weight {further} beside none"
        found.append(effect("Hybrid-NCE", what, "H-lex", "recall@10", plain, grouped, **more))
    return found


def run(seed: int, steps: int, *, beta: float = 0.0, further: float | None = None) -> Doubles:
    """Recall@10 by test query."""
    world = lex(seed)
    groups = None if further is None else Groups(dict(enumerate(world.held)))
    loss = HybridNCELoss(
        None, groups=groups, beta=beta, further=further or 0.0, iou_min=0.5, relevance=world.relevance()
    )
    return recall(searched(world, loss, seed=seed, steps=steps), world.relevant[world.test], 10)
