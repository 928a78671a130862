"""Query-as-Anchor's further blocks of negatives; H-deb. No ids are given. Nothing is tuned."""

from __future__ import annotations

from functools import partial
from typing import Any

from diptych_training.losses import ContrastiveLoss
from effects.deb import deb, searched
from effects.running import FEW, ONE, Effect, each, effect, plateau
from effects.scoring import Doubles, ndcg

BLOCKS = ("qd", "qq", "dq")


def effects() -> list[Effect]:
    """Three blocks beside one."""
    steps, long_enough = plateau(lambda steps, seed: float(run(seed, steps).mean()), seeds=ONE)
    at = partial(run, steps=steps)
    plain, wide = each(at, FEW), each(partial(at, blocks=BLOCKS), FEW)
    told = ("H-deb", "nDCG@10")
    more: Any = {"page": "contrastive", "conditions": [long_enough], "same_queries": True}
    more["untrained"] = each(partial(run, steps=0), FEW)
    return [effect("Masked multi-block", "blocks qd, qq, dq beside qd, neither masked", *told, plain, wide, **more)]


def run(seed: int, steps: int, *, blocks: Any = ("qd",)) -> Doubles:
    """nDCG@10 by test query."""
    world = deb(seed)
    found = searched(world, ContrastiveLoss(None, blocks=blocks), seed=seed, steps=steps)
    return ndcg(found, world.relevant[world.test])
