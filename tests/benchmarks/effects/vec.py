"""H-vec: free embedding tables in place of an encoder, for what a loss does by itself, in seconds.

What is relevant is planted: queries and documents have hidden vectors of a few dimensions, and a query's documents are
the nearest. Tables that are trained on some of the pairs find the others only by finding that structure.

    relevant = planted(0)                                       # bool [queries, documents]
    pairs = noisy(relevant, 0, per_query=5, noise=0.2)          # int64 [n, 2], a fifth of them wrong
    scores = fitted(pairs, relevant.shape, ContrastiveLoss(None), seed=0)
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych_training.losses import RetrievalLoss
from effects.world import Mask


def planted(seed: int, *, queries: int = 400, documents: int = 800, rank: int = 4, relevant: int = 20) -> Mask:
    """What is relevant to what, bool `[queries, documents]`: the nearest by cosine of hidden vectors of this rank."""
    random = np.random.default_rng((seed, 11))
    left, right = (random.normal(size=(size, rank)) for size in (queries, documents))
    scores = left @ (right / np.linalg.norm(right, axis=1, keepdims=True)).T
    found = np.zeros(scores.shape, np.bool_)
    np.put_along_axis(found, np.argsort(-scores, axis=1)[:, :relevant], True, axis=1)
    return found


def noisy(relevant: Mask, seed: int, *, per_query: int, noise: float = 0.0) -> Tensor:
    """So many relevant pairs `(query, document)` of each query, a share of them with any document instead; `[n, 2]`."""
    random = np.random.default_rng((seed, 12))
    order = np.where(relevant, random.random(relevant.shape), 2.0).argsort(1)[:, :per_query]
    pairs = np.stack([np.repeat(np.arange(len(relevant)), order.shape[1]), order.reshape(-1)], 1)
    wrong = random.random(len(pairs)) < noise
    pairs[wrong, 1] = random.integers(relevant.shape[1], size=int(wrong.sum()))
    return torch.from_numpy(pairs)


class Tables(torch.nn.Module):
    """A vector of each query and of each document."""

    def __init__(self, queries: int, documents: int, *, width: int = 16, seed: int = 0) -> None:
        super().__init__()
        drawn = torch.randn(queries + documents, width, generator=torch.Generator().manual_seed(seed))
        self.queries = torch.nn.Parameter(drawn[:queries])
        self.documents = torch.nn.Parameter(drawn[queries:])

    def columns(self, rows: Tensor) -> list[Tensor]:
        """The vectors of rows `(query, document, ...)`, column by column, as losses want them."""
        return [self.queries[rows[:, 0]], *(self.documents[rows[:, place]] for place in range(1, rows.shape[1]))]

    def scores(self) -> NDArray[np.float64]:
        """Cosines `[queries, documents]`."""
        left, right = (torch.nn.functional.normalize(part.detach().double(), dim=1) for part in self.parameters())
        return (left @ right.T).numpy()


def fitted(
    rows: Tensor,
    shape: tuple[int, ...],
    loss: RetrievalLoss,
    *,
    seed: int,
    steps: int = 400,
    size: int = 64,
    rate: float = 0.05,
    width: int = 16,
    labels: Tensor | None = None,
) -> NDArray[np.float64]:
    """Cosines `[queries, documents]` of tables after a training.

    Args:
        rows: `(query, document, ...)`, int64 `[n, 2 + H]`.
        shape: how many queries and documents there are.
        loss: that is asked with the vectors of a batch, and trained with them where it has parameters.
        seed: of the tables and of the order of rows.
        steps, size, rate: of Adam, rows of a step.
        width: of a vector.
        labels: one a row; the rows' numbers unless given.
    """
    tables = Tables(*shape, width=width, seed=seed)
    given = rows if labels is None else labels
    trained = [*tables.parameters(), *(own for own in loss.parameters() if own.requires_grad)]
    adam = torch.optim.Adam(trained, lr=rate)
    for places in shuffled(len(rows), size, steps, seed):
        adam.zero_grad()
        loss.compute_loss_from_embeddings(tables.columns(rows[places]), given[places]).backward()
        adam.step()
    return tables.scores()


def shuffled(rows: int, size: int, steps: int, seed: int) -> list[Tensor]:
    """The places of rows of each step: every row once before any comes again, whole batches alone.

    Raises:
        ValueError: fewer rows than a batch holds.
    """
    if rows < size:
        raise ValueError(f"{rows} rows do not fill a batch of {size}")
    random, found = torch.Generator().manual_seed(seed), list[Tensor]()
    while len(found) < steps:
        found += [part for part in torch.split(torch.randperm(rows, generator=random), size) if len(part) == size]
    return found[:steps]
