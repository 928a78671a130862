"""TAS-Balanced: batches of one cluster of queries and of even margins beside random ones; H-lex.

A row is a query, a relevant document and another, sixteen rows a relevant pair, half of the others near. The pairwise
teacher is the in-batch teacher: 2 a word that a document holds of those asked, with noise of deviation 0.5. 3,200
training queries are clustered by k-means into 16 clusters, some 200 each as published, by the embeddings of an encoder
that InfoNCE has trained on them. All three samplers give as many steps of 32 rows. The learning rate is the best of
0.01, 0.03 and 0.1 for random batches on seed 100.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from diptych_training.losses import ContrastiveLoss, DualMarginMSELoss
from diptych_training.samplers import TASBalanced
from effects.distill import overlap
from effects.lex import Lex, lex
from effects.running import Effect, each, effect, plateau
from effects.scoring import Doubles, ndcg, recall
from effects.tiny import BATCH, scores, trained

CLUSTERS, EACH, A_WORD, NOISE, RATE = 16, 16, 2.0, 0.5, 0.1
WORLD: dict[str, Any] = {"train": 3200, "documents": 4000}
Found = tuple[float, Doubles, Doubles]


class Taught(DualMarginMSELoss):
    """Both teachers out of one matrix `[queries, documents]`, asked by the ids in the labels."""

    def __init__(self, teacher: Tensor) -> None:
        super().__init__(None)
        self.teacher = teacher

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch."""
        assert labels is not None
        pairs = self.teacher[labels[:, :1], labels[:, 1:]]
        return self.of(embeddings, pairs, self.teacher[labels[:, 0]][:, labels[:, 1:].T.reshape(-1)])


def effects() -> list[Effect]:
    """Each step of the method beside the one before."""
    steps, long_enough = plateau(lambda steps, seed: float(run("random", seed, steps)[1].mean()))
    random, topic, balanced = (each(partial(run, way, steps=steps)) for way in ("random", "topic", "balanced"))
    metrics = ("teacher's score of in-batch negatives", "nDCG@10", "recall@100")
    return [
        effect(
            "TAS-Balanced",
            what,
            "H-lex",
            metric,
            [one[place] for one in baseline],
            [one[place] for one in found],
            page="tas_balanced",
            conditions=[long_enough],
        )
        for what, baseline, found in (
            ("clusters beside random batches", random, topic),
            ("even margins beside random pairs, both of clusters", topic, balanced),
            ("both beside random batches", random, balanced),
        )
        for place, metric in enumerate(metrics)
    ]


def run(way: str, seed: int, steps: int) -> Found:
    """How hard in-batch negatives were, then nDCG@10 and recall@100 by test query."""
    world = lex(seed, **WORLD)
    shared = overlap(world)
    teacher = torch.from_numpy(
        A_WORD * shared + NOISE * np.random.default_rng((seed, 41)).normal(size=shared.shape)
    ).float()
    rows = pairs(world, shared, seed)
    batches = [torch.tensor(own) for own in drawn(way, world, rows, teacher, seed, steps)]
    model = trained(world, rows, Taught(teacher), seed=seed, rate=RATE, batches=batches, steps=steps)
    found = scores(model, world, dot=True)
    relevant = world.relevant[world.test]
    hardness = float(np.mean([hard(teacher, rows[own]) for own in batches]))
    return hardness, ndcg(found, relevant), recall(found, relevant, 100)


def pairs(world: Lex, shared: Doubles, seed: int) -> Tensor:
    """Rows `(query, positive, negative)`."""
    random, rows = np.random.default_rng((seed, 42)), []
    for query, document in world.rows().tolist():
        wrong = ~world.relevant[query]
        near = random.choice(np.flatnonzero(wrong & (shared[query] > 0)), EACH // 2)
        rows += [(query, document, other) for other in (*near, *random.choice(np.flatnonzero(wrong), EACH // 2))]
    return torch.tensor(rows)


def drawn(way: str, world: Lex, rows: Tensor, teacher: Tensor, seed: int, steps: int) -> Iterator[list[int]]:
    """The places of rows of each step."""
    queries = rows[:, 0].numpy()
    margins = (teacher[rows[:, 0], rows[:, 1]] - teacher[rows[:, 0], rows[:, 2]]).numpy()
    one = np.zeros_like(queries)  # all queries in one cluster: random batches, a random pair of each query
    clusters = one if way == "random" else clustered(world, queries, seed)
    sampler = TASBalanced(queries, clusters, margins if way == "balanced" else None)(rows, BATCH, True, seed=seed)
    epochs = -(-steps // len(sampler))
    places: list[list[int]] = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        places += list(sampler)
    return iter(places[:steps])


def clustered(
    world: Lex, queries: np.ndarray[tuple[int, ...], np.dtype[np.int64]], seed: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The cluster of each row's query."""
    encoder = trained(world, world.rows(), ContrastiveLoss(None, relevance=world.relevance()), seed=seed)
    vectors = encoder.embedded(world.query_tokens)
    found = KMeans(CLUSTERS, n_init=3, random_state=seed).fit(vectors[world.train].numpy()).labels_
    return np.asarray(found[np.searchsorted(world.train, queries)], np.int64)


def hard(teacher: Tensor, rows: Tensor) -> float:
    """The teacher's mean score of the other rows' documents."""
    found = teacher[rows[:, 0]][:, rows[:, 1]]
    return float(found[~torch.eye(len(rows), dtype=torch.bool)].mean())
