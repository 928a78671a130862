"""MoCHi: mixed hard negatives out of a queue of 512 documents, with and without the relevance mask; H-lex.

Batches of 16; queries have 5 to 12 relevant documents, of which the queue is full. Mixing begins after 50 steps: 64
mixes of the 64 hardest and 16 with the query. Nothing is tuned: tau is 0.05, and beside it the paper's 0.2.
"""

from __future__ import annotations

from functools import partial

import torch

from diptych_training.losses import ContrastiveLoss, Mixing, harder
from effects.lex import lex
from effects.running import Effect, each, effect
from effects.scoring import Doubles, recall
from effects.tiny import searched

BATCH, QUEUE, STEPS = 16, 512, 200


def effects() -> list[Effect]:
    """Mixing with the mask, the mask with mixing, and mixing without the mask, which ought to hurt."""
    plain, mixed = each(run), each(partial(run, mixed=True))
    blind, worse = each(partial(run, masked=False)), each(partial(run, masked=False, mixed=True))
    warm, warm_mixed = each(partial(run, tau=0.2)), each(partial(run, tau=0.2, mixed=True))
    told = ("H-lex", "recall@10")
    return [
        effect("MoCHi", "mixed negatives beside none, tau 0.2", *told, warm, warm_mixed, page="contrastive"),
        effect("MoCHi", "mixed negatives beside none, queue masked", *told, plain, mixed, page="contrastive"),
        effect("MoCHi", "mask of the queue beside none, mixed negatives", *told, worse, mixed, page="contrastive"),
        effect(
            "MoCHi",
            "mixed negatives beside none, queue not masked",
            *told,
            blind,
            worse,
            better="lower",
            page="contrastive",
        ),
    ]


def run(seed: int, *, masked: bool = True, mixed: bool = False, tau: float = 0.05) -> Doubles:
    """Recall@10 by test query."""
    world = lex(seed, attributes=20, positives=(5, 12))
    mixing = Mixing(hardest=64, pairs=64, with_query=16, start_step=50, seed=seed) if mixed else None
    loss = harder(ContrastiveLoss(None, tau=tau, relevance=world.relevance()), mixing=mixing, queue=QUEUE)
    rows = world.rows()
    labels = None if masked else lambda places: torch.full_like(rows[places], -1)
    scores = searched(world, loss, seed=seed, steps=STEPS, size=BATCH, labels=labels)
    return recall(scores, world.relevant[world.test], 10)
