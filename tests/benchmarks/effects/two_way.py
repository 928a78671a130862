"""A cross-encoder trained and read in both orders of a pair, beside one of the same steps, and of twice as many.

The data, the model and the training are those of `uni_encoder`, banking77's queries with BM25's 20 best of the 77
intents' names, but for fewer training queries, which take fewer steps. A seed draws which. A model that is trained in
both orders sees the same rows, every second one with the document first. Nothing is tuned. Wants the folder of
collections in DIPTYCH_DATA.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from effects.running import FEW, ONE, Effect, above, each, effect, plateau
from effects.scoring import Doubles
from effects.uni_encoder import NAME, Reranking, collection, cross_encoder, ndcg, reranked, rows_of, trained

TRAINED, START, LIMIT = 1000, 400, 3200  # queries; steps
HOW: dict[str, Any] = {"size": 8, "rate": 1e-3}  # rows of a step; learning rate


class Found(NamedTuple):
    """nDCG@10 of each test query, read with the query first, and by the mean of both orders."""

    one_way: Doubles
    two_way: Doubles


def effects() -> list[Effect]:
    """Both at once, then training and reading by themselves."""
    world = collection(NAME)
    steps, long_enough = plateau(partial(_tuned, world), START, LIMIT, ONE)
    plain, longer, mixed = (
        each(partial(run, world, count, two_way), FEW)
        for count, two_way in ((steps, False), (2 * steps, False), (steps, True))
    )
    one_way, both = [found.one_way for found in plain], [found.two_way for found in mixed]
    better = above("cross-encoder", one_way, "BM25", [ndcg(world.test)])
    told: Any = {"page": "two_way", "same_queries": True, "conditions": [long_enough, better]}
    rows = [
        ("trained and read both ways, beside one way", one_way, both),
        ("the same, beside one way trained twice as long", [found.one_way for found in longer], both),
        ("read both ways, trained one way, beside one way", one_way, [found.two_way for found in plain]),
        ("trained both ways, read one way, beside one way", one_way, [found.one_way for found in mixed]),
    ]
    return [effect("Two-way reranking", what, NAME, "nDCG@10", left, right, **told) for what, left, right in rows]


def run(world: Reranking, steps: int, two_way: bool, seed: int) -> Found:
    """What a model finds after a training."""
    rows = rows_of(world, seed)[:TRAINED]
    model = trained(cross_encoder(seed), rows, steps=steps, seed=seed, two_way=two_way, **HOW)
    ways = [reranked(model, world, world.test, document_first=turned) for turned in (False, True)]
    return Found(ndcg(world.test, ways[0]), ndcg(world.test, ways[0] + ways[1]))


def _tuned(world: Reranking, steps: int, seed: int) -> float:
    """nDCG@10 of one way for the queries that are neither trained nor tested."""
    model = trained(cross_encoder(seed), rows_of(world, seed)[:TRAINED], steps=steps, seed=seed, **HOW)
    return float(ndcg(world.tuning, reranked(model, world, world.tuning)).mean())
