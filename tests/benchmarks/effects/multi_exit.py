"""One encoder with exits after layers 2, 4 and 6 beside three encoders that are trained to one exit each; H-lex.

All see the same batches in the same order, 200 steps. Nothing is tuned. Time is of encoding 300 documents at an exit,
cut from the whole model, as a share of that at the exit after six layers, on one core.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from diptych_training.losses import ContrastiveLoss
from diptych_training.losses.multi_exit import MultiExitLoss
from diptych_training.models.multi_exit import EMBEDDINGS, exit_model, multi_exit
from effects.lex import lex
from effects.running import Effect, each, effect
from effects.scoring import Doubles, ndcg
from effects.vec import shuffled
from sentence_models import cosines, embedded, fitted, model_of, pairs

EXITS, STEPS, BATCH, TIMED = (2, 4, 6), 200, 32, 300
Found = tuple[dict[int, Doubles], dict[int, float]]


def effects() -> list[Effect]:
    """Each exit of the joint model beside the model that has only that one; time."""
    joint = each(partial(run, EXITS))
    rows = []
    for layer in EXITS:
        alone = [found[0][layer] for found in each(partial(run, (layer,)))]
        both = [found[0][layer] for found in joint]
        rows.append(_effect(f"exit {layer} of {EXITS} beside one trained alone", alone, both))
    times = [[found[1][layer] / found[1][6] for found in joint] for layer in (6, 2)]
    what = "exit 2 beside exit 6"
    return [*rows, effect("Multi-exit", what, "H-lex", "time of encoding", *times, better="lower", page="multi_exit")]


def _effect(what: str, baseline: list[Doubles], found: list[Doubles]) -> Effect:
    return effect("Multi-exit", what, "H-lex", "nDCG@10", baseline, found, page="multi_exit")


def run(layers: tuple[int, ...], seed: int) -> Found:
    """nDCG@10 by test query at each exit, and the seconds to encode documents there."""
    world = lex(seed)
    rows, model = world.rows(), multi_exit(model_of(world, seed=seed, layers=max(EXITS)), layers)
    loss = MultiExitLoss(ContrastiveLoss(model, relevance=world.relevance()))
    fitted(loss, pairs(world, shuffled(len(rows), BATCH, STEPS, seed), rows))
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
