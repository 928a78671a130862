"""TAS-Balanced: batches of one cluster of queries and of even margins beside random ones, and beside InfoNCE; H-deb.

A row is a synopsis, its description and one of the 15 others that the teacher of `distill` has scored, eight rows a
pair. That cross-encoder gives the margins of rows, and all-MiniLM-L6-v2 those within the batch, as published by two
teachers; both in logits over 20, the student's in cosines. 3,000 training queries are clustered by k-means into 15
clusters, 200 each as published, by a student's embeddings that was trained for 200 steps by InfoNCE. All three samplers
give as many steps of 128 rows. The learning rate is the best of `RATES` for 200 steps of random batches on a tuning
seed. There random batches still learn after 12,800 steps, so a plateau is not waited for beyond `LIMIT`. InfoNCE is
that of `distill`, over batches of 16 rows with 7 negatives; the method beside it trains for as many steps as it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from diptych_experimental.tas_balanced import TASBalanced, in_batch_margins
from diptych_training.losses import MarginMSELoss
from effects import distill
from effects.deb import SHARPNESS, Real, deb, train
from effects.running import FEW, ONE, Condition, Effect, above, best, each, effect, learnt, plateau
from effects.scoring import Doubles, recall
from effects.teacher import BETTER, stored, warm
from effects.tiny import Encoder, scores
from effects.world import Numbers

CLUSTERS, EACH, BATCH, RATES, TRIED, LIMIT = 15, 8, 128, (0.003, 0.01, 0.03), 200, 1600
METRICS = (
    ("hardness", "ndcg", "MiniLM's logit of in-batch negatives"),
    ("ndcg", "ndcg", "nDCG@10"),
    ("recall", "recall", "recall@100"),
)


@dataclass(frozen=True, slots=True)
class Found:
    """How hard in-batch negatives were; nDCG@10 and recall@100 by test query, and the former as `distill` has it."""

    hardness: float
    ndcg: Doubles
    recall: Doubles
    near: Doubles
    teacher: Doubles


class Taught(MarginMSELoss):
    """The cross-encoder says the margins of rows and MiniLM those in the batch, by the ids in the labels."""

    def __init__(self, world: Real) -> None:
        super().__init__(None, similarity="cosine")
        self.world = world

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch."""
        assert labels is not None
        queries, documents = labels[:, 0], labels[:, 1:]
        pairs, batch = stored().judged(queries, documents), self.world.judged(queries, documents.T.reshape(-1))
        loss, student = super().compute_loss_from_embeddings(embeddings, pairs / SHARPNESS), self.prepared(embeddings)
        return loss + 0.75 * in_batch_margins(self.similarities(*student), batch / SHARPNESS)


def effects() -> list[Effect]:
    """Each step of the method beside the one before, and all beside InfoNCE."""
    rate = best(partial(_ranked, TRIED), RATES, ONE)
    steps, long_enough = plateau(lambda steps, seed: _ranked(steps, rate, seed), limit=LIMIT, seeds=ONE)
    start, *ways = (each(partial(run, way, steps, rate), FEW) for way in ("", "random", "topic", "balanced"))
    random, topic, balanced = ways
    better = above("teacher", [one.teacher for one in random], "student", [one.near for one in random], by=BETTER)
    rows = [
        *_rows("clusters beside random batches", random, topic, (long_enough, better), start),
        *_rows("even margins beside random pairs, both of clusters", topic, balanced, (long_enough, better), start),
        *_rows("both beside random batches", random, balanced, (long_enough, better), start),
    ]
    # Beside InfoNCE the steps are those that it needs itself.
    steps, long_enough = plateau(
        lambda steps, seed: float(contrasted(steps, seed).ndcg.mean()), seeds=ONE, of="InfoNCE"
    )
    infonce, short = each(partial(contrasted, steps), FEW), each(partial(run, "balanced", steps, rate), FEW)
    better = above("teacher", [one.teacher for one in infonce], "InfoNCE", [one.near for one in infonce], by=BETTER)
    return [*rows, *_rows("both beside InfoNCE within the batch", infonce, short, (long_enough, better), start)[1:]]


def _rows(
    what: str, base: list[Found], found: list[Found], told: Sequence[Condition], start: list[Found]
) -> list[Effect]:
    """How hard negatives were, nDCG@10 and recall@100."""
    return [
        effect(
            "TAS-Balanced",
            what,
            "H-deb",
            metric,
            [getattr(one, part) for one in base],
            [getattr(one, part) for one in found],
            page="tas_balanced",
            same_queries=True,
            # How hard negatives were is no quality: there nDCG says whether the baseline has learnt.
            conditions=[*told, learnt(*([getattr(one, own) for one in side] for side in (base, start)))],
        )
        for part, own, metric in METRICS
    ]


def _ranked(steps: int, rate: float, seed: int) -> float:
    return float(run("random", steps, rate, seed).ndcg.mean())


def run(way: str, steps: int, rate: float, seed: int) -> Found:
    """The measures after such batches; without a way after no training."""
    world = deb(seed)
    near = distill.drawn(seed, EACH)
    rows = torch.cat([near[:, [0, 1, place]] for place in range(2, 2 + EACH)])
    batches = [torch.tensor(own) for own in drawn(way, world, rows, seed, steps)] if way else []
    model = train(world, rows, Taught(world), seed=seed, rate=rate, batches=batches, steps=steps)
    return measured(world, model, float(np.mean([hard(world, rows[own]) for own in batches[:200]])) if way else 0.0)


def contrasted(steps: int, seed: int) -> Found:
    """The measures after InfoNCE over the batch, on the rows of `distill`."""
    world, rows = deb(seed), distill.drawn(seed)
    loss = distill.with_contrast()(None, relevance=world.relevance())
    labels = partial(distill.labelled, rows, with_ids=True)
    more: Any = {"labels": labels, "size": distill.BATCH}
    return measured(world, train(world, rows, loss, seed=seed, steps=steps, **more), 0.0)


def measured(world: Real, model: Encoder, hardness: float) -> Found:
    """What the model does for the test queries."""
    found = scores(model, world)
    own = distill.measured(world, found)
    return Found(hardness, own.ndcg, recall(found, world.relevant[world.test], 100), own.near, own.teacher)


def drawn(way: str, world: Real, rows: Tensor, seed: int, steps: int) -> list[list[int]]:
    """The places of rows of each step."""
    queries, judged = rows[:, 0].numpy(), stored().judged(rows[:, 0], rows[:, 1:])
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
    """MiniLM's mean logit of the other rows' documents."""
    found = world.judged(rows[:, 0], rows[:, 1])
    return float(found[~torch.eye(len(rows), dtype=torch.bool)].mean())
