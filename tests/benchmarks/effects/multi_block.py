"""Query-as-Anchor's margin mask where one document of a query is judged, and others may be relevant too; H-deb.

No ids are given. A negative that is more similar than the own positive by the margin of 0.1 is left out. Nothing is
tuned.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from diptych_training.losses import ContrastiveLoss
from effects.deb import deb, searched
from effects.running import FEW, ONE, Effect, each, effect, plateau
from effects.scoring import Doubles, ndcg

BLOCKS = ("qd", "qq", "dq")


def effects() -> list[Effect]:
    """The mask on one block and on three, then the blocks."""
    steps, long_enough = plateau(lambda steps, seed: float(run(seed, steps).mean()), seeds=ONE)
    at = partial(run, steps=steps)
    plain, masked = each(at, FEW), each(partial(at, margin=0.1), FEW)
    wide, both = each(partial(at, blocks=BLOCKS), FEW), each(partial(at, blocks=BLOCKS, margin=0.1), FEW)
    told = ("H-deb", "nDCG@10")
    more: Any = {"page": "contrastive", "conditions": [long_enough], "same_queries": True}
    more["untrained"] = each(partial(run, steps=0), FEW)
    return [
        effect("Masked multi-block", "margin 0.1 beside no mask, block qd", *told, plain, masked, **more),
        effect("Masked multi-block", "margin 0.1 beside no mask, blocks qd, qq, dq", *told, wide, both, **more),
        effect("Masked multi-block", "blocks qd, qq, dq beside qd, neither masked", *told, plain, wide, **more),
        effect("Masked multi-block", "blocks qd, qq, dq beside qd, both masked", *told, masked, both, **more),
    ]


def run(seed: int, steps: int, *, blocks: Any = ("qd",), margin: float | None = None) -> Doubles:
    """nDCG@10 by test query."""
    world = deb(seed)
    found = searched(world, ContrastiveLoss(None, blocks=blocks, margin=margin), seed=seed, steps=steps)
    return ndcg(found, world.relevant[world.test])
