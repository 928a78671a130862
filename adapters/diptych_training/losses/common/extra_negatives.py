"""Further negatives for any loss over a batch: documents of earlier batches, and mixes of the hardest.

Kalantidis et al., "Hard Negative Mixing for Contrastive Learning" (MoCHi), NeurIPS 2020: InfoNCE over the positive, the
queue and the mixes.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.common.base import RetrievalLoss
from diptych_training.losses.common.hard_negative_mixing import Mixing
from diptych_training.losses.common.vector_queue import Queue
from diptych_training.relevance import Candidates, Relevance

L = TypeVar("L", bound=RetrievalLoss)


def harder(loss: L, *, mixing: Mixing | None = None, queue: int = 0) -> L:
    """The loss itself, which from now on has further negatives while it trains; nothing is encoded for them.

    What is known to be relevant to a query is none of its negatives in the queue either, and is not mixed; nor does
    what a loss's margin leaves out count. Only with ids in the label column is anything known.

    Args:
        loss: contrastive, Hybrid-NCE, Mann-Whitney, focal, soft top-k, or CPRD; below `CachedLoss` and other wrappers.
        mixing: of hard negatives of the batch and the queue.
        queue: documents of earlier batches that are kept, as they were embedded then; 0 keeps none.

    Raises:
        ContractError: a loss that has no negatives of the batch, or vectors that cannot be mixed or kept.
    """
    if not loss.takes_further:
        where, do = type(loss).__name__, "take a loss over the negatives of the batch, before it is wrapped"
        raise ContractError("a loss that takes no further negatives", where=where, do=do)
    if loss.similarity == "maxsim" or (mixing is not None and loss.similarity != "cosine"):
        what = "tokens are not mixed or kept" if loss.similarity == "maxsim" else "mixes of unit length among others"
        do = 'train vectors of whole texts by similarity="cosine"'
        raise ContractError(what, where=type(loss).__name__, got=f"similarity {loss.similarity}", do=do)
    loss.more_negatives = Further(mixing, queue)
    return loss


class Further(torch.nn.Module):
    """What `harder` gives a loss."""

    def __init__(self, mixing: Mixing | None, queue: int) -> None:
        super().__init__()
        self.mixing, self.queue = mixing, Queue(queue)

    def __repr__(self) -> str:
        return f"{self.mixing}, queue={self.queue.size}" if self.mixing else f"queue={self.queue.size}"

    def beside(self, documents: Tensor, known: Candidates, relevance: Relevance) -> tuple[Tensor, Candidates]:
        """The batch's documents `[M, D]`, of unit length for cosines, with the queue's behind; they go into it then."""
        if not self.queue.size:
            return documents, known
        wider, found = torch.cat([documents, self.queue.like(documents)]), known.beside(self.queue.ids, relevance)
        self.queue.put(documents, known.documents)
        return wider, found

    def mixed(
        self, queries: Tensor, documents: Tensor, similarity: Tensor, found: Candidates
    ) -> tuple[Tensor, Candidates]:
        """Similarities and candidates `[B, M]` with mixes behind, which have no id."""
        if self.mixing is None:
            return similarity, found
        scores, counted = self.mixing(queries, documents, similarity, found.negative)
        return torch.cat([similarity, scores], 1), found.with_negatives(counted)
