"""Query-as-Anchor's margin mask where nothing is judged: a fifth of the documents are copies; H-lex.

No ids are given. A negative that is more similar than the own positive by the margin of 0.1 is left out. Nothing is
tuned.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from diptych_training.losses import ContrastiveLoss
from effects.lex import lex
from effects.running import Effect, each, effect, plateau
from effects.scoring import Doubles, recall
from effects.tiny import searched

BLOCKS = ("qd", "qq", "dq")


def effects() -> list[Effect]:
    """The mask on one block and on three, then the blocks."""
    steps, long_enough = plateau(lambda steps, seed: float(run(seed, steps).mean()))
    at = partial(run, steps=steps)
    plain, masked = each(at), each(partial(at, margin=0.1))
    wide, both = each(partial(at, blocks=BLOCKS)), each(partial(at, blocks=BLOCKS, margin=0.1))
    told = ("H-lex, 20 % copies", "recall@10")
    more: Any = {"page": "contrastive", "conditions": [long_enough]}
    return [
        effect("Masked multi-block", "margin 0.1 beside no mask, block qd", *told, plain, masked, **more),
        effect("Masked multi-block", "margin 0.1 beside no mask, blocks qd, qq, dq", *told, wide, both, **more),
        effect("Masked multi-block", "blocks qd, qq, dq beside qd, both masked", *told, masked, both, **more),
    ]


def run(seed: int, steps: int, *, blocks: Any = ("qd",), margin: float | None = None) -> Doubles:
    """Recall@10 by test query."""
    world = lex(seed, duplicated=0.2)
    loss = ContrastiveLoss(None, blocks=blocks, margin=margin)
    return recall(searched(world, loss, seed=seed, steps=steps), world.relevant[world.test], 10)
