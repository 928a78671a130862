"""MoCHi: mixed hard negatives out of a queue of 512 documents, with and without the relevance mask; H-lex.

Batches of 16; queries have 5 to 12 relevant documents, of which the queue is full. Mixing begins after a quarter of the
steps: 64 mixes of the 64 hardest and 16 with the query. Nothing is tuned: tau is the paper's 0.2, since mixes with the
query have a high cosine by construction, which a small tau makes the whole loss.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from diptych_training.losses import ContrastiveLoss, Mixing, harder
from effects.lex import lex
from effects.running import Effect, each, effect, plateau
from effects.scoring import Doubles, recall
from effects.tiny import searched

BATCH, QUEUE, TAU = 16, 512, 0.2


def effects() -> list[Effect]:
    """Mixing with the mask, the mask with mixing, and mixing without the mask, which ought to hurt."""
    steps, long_enough = plateau(lambda steps, seed: float(run(seed, steps=steps).mean()), start=50)
    at = partial(run, steps=steps)
    plain, mixed = each(at), each(partial(at, mixed=True))
    blind, worse = each(partial(at, masked=False)), each(partial(at, masked=False, mixed=True))
    told = ("H-lex", "recall@10")
    more: Any = {"page": "contrastive", "conditions": [long_enough], "untrained": each(partial(run, steps=0))}
    return [
        effect("MoCHi", "mixed negatives beside none, queue masked", *told, plain, mixed, **more),
        effect("MoCHi", "mask of the queue beside none, mixed negatives", *told, worse, mixed, **more),
        effect(
            "MoCHi",
            "mixed negatives beside none, queue not masked",
            *told,
            blind,
            worse,
            better="lower",
            **more,
        ),
    ]


def run(seed: int, *, steps: int, masked: bool = True, mixed: bool = False) -> Doubles:
    """Recall@10 by test query."""
    world = lex(seed, attributes=20, positives=(5, 12))
    mixing = Mixing(hardest=64, pairs=64, with_query=16, start_step=steps // 4, seed=seed) if mixed else None
    loss = harder(ContrastiveLoss(None, tau=TAU, relevance=world.relevance()), mixing=mixing, queue=QUEUE)
    rows = world.rows()
    labels = None if masked else lambda places: torch.full_like(rows[places], -1)
    scores = searched(world, loss, seed=seed, steps=steps, size=BATCH, labels=labels)
    return recall(scores, world.relevant[world.test], 10)
