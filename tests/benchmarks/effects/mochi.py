"""MoCHi: mixed hard negatives out of a queue of 512 documents, with and without the relevance mask; H-lex.

Batches of 16; queries have 5 to 12 relevant documents, of which the queue is full. Mixing begins after 50 steps: 64
mixes of the 64 hardest and 16 with the query. Nothing is tuned: tau is 0.05, and the paper's 0.2 has not been measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from diptych_training.losses import ContrastiveLoss, Mixing, RetrievalLoss
from effects.lex import lex
from effects.running import Effect, each, effect
from effects.scoring import Doubles, recall
from effects.tiny import searched

BATCH, COLUMNS, STEPS = 16, 32, 200


class Queued(RetrievalLoss):
    """A loss that sees the documents of the last batches as further negatives, without gradient."""

    def __init__(self, loss: RetrievalLoss, *, masked: bool) -> None:
        super().__init__(None)
        self.loss, self.masked, self.queue = loss, masked, list[tuple[Tensor, Tensor]]()

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch, which is then put into the queue."""
        assert labels is not None
        ids = torch.cat([labels, *(numbers[:, None] for _, numbers in self.queue)], 1)
        wide = [*embeddings, *(vectors for vectors, _ in self.queue)]
        value = self.loss.compute_loss_from_embeddings(wide, ids if self.masked else None)
        self.queue = [*self.queue, (embeddings[1].detach(), labels[:, 1])][-COLUMNS:]
        return value


def effects() -> list[Effect]:
    """Mixing with the mask, the mask with mixing, and mixing without the mask, which ought to hurt."""
    plain, mixed = each(run), each(partial(run, mixed=True))
    blind, worse = each(partial(run, masked=False)), each(partial(run, masked=False, mixed=True))
    told = ("H-lex", "recall@10")
    return [
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


def run(seed: int, *, masked: bool = True, mixed: bool = False) -> Doubles:
    """Recall@10 by test query."""
    world = lex(seed, attributes=20, positives=(5, 12))
    mixing = Mixing(hardest=64, pairs=64, with_query=16, start_step=50, seed=seed) if mixed else None
    inner = ContrastiveLoss(None, relevance=world.relevance() if masked else None, mixing=mixing)
    scores = searched(world, Queued(inner, masked=masked), seed=seed, steps=STEPS, size=BATCH)
    return recall(scores, world.relevant[world.test], 10)
