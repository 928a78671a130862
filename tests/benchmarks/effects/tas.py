"""TAS-Balanced: batches of one cluster of queries and of even margins beside random ones; H-deb.

A row is a synopsis, its description and one of the 30 others that a student, trained for 200 steps by InfoNCE, finds
nearest, eight rows a pair. One teacher gives the margins of rows and, as the in-batch teacher, those within the batch,
all of cosines. 3,000 training queries are clustered by k-means into 15 clusters, 200 each as published, by that
student's embeddings. All three samplers give as many steps of 32 rows. The learning rate is the best of `RATES` for
200 steps of random batches on a tuning seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from diptych_training.losses import DualMarginMSELoss
from diptych_training.samplers import TASBalanced
from effects.deb import SHARPNESS, Real, deb, listed, train
from effects.distill import by_teacher, warm
from effects.running import FEW, ONE, Effect, above, best, each, effect, learnt, plateau
from effects.scoring import Doubles, ndcg, recall
from effects.tiny import BATCH, scores
from effects.world import Numbers

CLUSTERS, EACH, RATES, TRIED = 15, 8, (0.001, 0.003, 0.01), 200
Found = tuple[float, Doubles, Doubles]


class Taught(DualMarginMSELoss):
    """Both teachers are the world's, asked by the ids in the labels."""

    def __init__(self, world: Real) -> None:
        super().__init__(None, similarity="cosine")
        self.world = world

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch."""
        assert labels is not None
        queries, documents = labels[:, 0], labels[:, 1:]
        pairs, batch = (self.world.judged(queries, own) / SHARPNESS for own in (documents, documents.T.reshape(-1)))
        return self.of(embeddings, pairs, batch)


def effects() -> list[Effect]:
    """Each step of the method beside the one before."""
    rate = best(partial(_ranked, TRIED), RATES, ONE)
    steps, long_enough = plateau(lambda steps, seed: _ranked(steps, rate, seed), seeds=ONE)
    random, topic, balanced = (each(partial(run, way, steps, rate), FEW) for way in ("random", "topic", "balanced"))
    better = above("teacher", each(by_teacher, FEW), "student", [one[1] for one in random])
    metrics = ("teacher's logit of in-batch negatives", "nDCG@10", "recall@100")
    start, told = each(partial(run, "random", 0, rate), FEW), [long_enough, better]
    return [
        effect(
            "TAS-Balanced",
            what,
            "H-deb",
            metric,
            [one[place] for one in baseline],
            [one[place] for one in found],
            page="tas_balanced",
            same_queries=True,
            # How hard negatives were is no quality: there nDCG says whether the baseline has learnt.
            conditions=[*told, learnt(*([one[place or 1] for one in side] for side in (baseline, start)))],
        )
        for what, baseline, found in (
            ("clusters beside random batches", random, topic),
            ("even margins beside random pairs, both of clusters", topic, balanced),
            ("both beside random batches", random, balanced),
        )
        for place, metric in enumerate(metrics)
    ]


def _ranked(steps: int, rate: float, seed: int) -> float:
    return float(run("random", steps, rate, seed)[1].mean())


def run(way: str, steps: int, rate: float, seed: int) -> Found:
    """How hard in-batch negatives were, then nDCG@10 and recall@100 by test query."""
    world = deb(seed)
    near = listed(world, warm(seed), seed, EACH)
    rows = torch.cat([near[:, [0, 1, place]] for place in range(2, 2 + EACH)])
    batches = [torch.tensor(own) for own in drawn(way, world, rows, seed, steps)]
    model = train(world, rows, Taught(world), seed=seed, rate=rate, batches=batches, steps=steps)
    found, relevant = scores(model, world), world.relevant[world.test]
    hardness = float(np.mean([hard(world, rows[own]) for own in batches[:200]])) if batches else 0.0
    return hardness, ndcg(found, relevant), recall(found, relevant, 100)


def drawn(way: str, world: Real, rows: Tensor, seed: int, steps: int) -> list[list[int]]:
    """The places of rows of each step."""
    queries, judged = rows[:, 0].numpy(), world.judged(rows[:, 0], rows[:, 1:])
    margins = (judged[:, 0] - judged[:, 1]).numpy()
    one = np.zeros_like(queries)  # all queries in one cluster: random batches, a random pair of each query
    clusters = one if way == "random" else clustered(world, queries, seed)
    sampler = TASBalanced(queries, clusters, margins if way == "balanced" else None)(rows, BATCH, True, seed=seed)
    places: list[list[int]] = []
    for epoch in range(-(-steps // len(sampler))):
        sampler.set_epoch(epoch)
        places += list(sampler)
    return places[:steps]


def clustered(world: Real, queries: Numbers, seed: int) -> Numbers:
    """The cluster of each row's query."""
    vectors = warm(seed).embedded(world.query_tokens[torch.from_numpy(world.train)])
    found = KMeans(CLUSTERS, n_init=3, random_state=seed).fit(vectors.numpy()).labels_
    return np.asarray(found[np.searchsorted(world.train, queries)], np.int64)


def hard(world: Real, rows: Tensor) -> float:
    """The teacher's mean logit of the other rows' documents."""
    found = world.judged(rows[:, 0], rows[:, 1])
    return float(found[~torch.eye(len(rows), dtype=torch.bool)].mean())
