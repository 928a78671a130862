"""CPRD with ids, its order beside a contrast over the whole batch; H-lex with a planted teacher.

A row is a query, one relevant document and seven others, most of which share the topic or an attribute. The teacher
gives logits: 4 for each of the asked words that a document holds with noise of deviation 1, less 4, so that what holds
none of them is a plain mismatch. InfoNCE takes the tau with the best nDCG@10 on the tuning seeds, and all forms of CPRD
the same tau; each form takes the weight that is best there. The order is asked of all documents that hold some of three
asked words and not all of them. The teacher has to rank better than InfoNCE.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from diptych_training.losses import CPRDLoss
from effects.distill import A_WORD, judge, listed, of_teacher, overlap
from effects.lex import Lex, lex
from effects.running import Condition, Effect, above, best, each, effect, plateau
from effects.scoring import Doubles, kendall, ndcg
from effects.tiny import scores, trained

TAUS, WEIGHTS, SIZE = (0.05, 0.1, 0.2), (0.1, 0.3, 1.0), 16
TAU = "Kendall's tau of irrelevant documents"


@dataclass(frozen=True, slots=True)
class Way:
    """A form of the loss: contrast over the batch, by ids, or over the row."""

    batch: bool
    tau: float
    weight: float
    steps: int


@dataclass(frozen=True, slots=True)
class Found:
    """nDCG@10 by test query, and the order of what is irrelevant by test query with three words."""

    ndcg: Doubles
    order: Doubles


def effects() -> list[Effect]:
    """The order beside none with both contrasts, and the batch's contrast beside the row's."""
    steps, long_enough = plateau(lambda steps, seed: _ranked(Way(True, TAUS[0], 0.0, steps), seed))
    tau = best(lambda tau, seed: _ranked(Way(True, tau, 0.0, steps), seed), TAUS)
    weights = {batch: best(partial(_weighed, batch, tau, steps), WEIGHTS) for batch in (True, False)}
    infonce = each(partial(run, Way(True, tau, 0.0, steps)))
    batch, row = (each(partial(run, Way(over, tau, weights[over], steps))) for over in (True, False))
    conditions = [long_enough, above("teacher", each(of_teacher), "InfoNCE", [one.ndcg for one in infonce])]
    return [
        *_rows("order beside InfoNCE, both within the batch", infonce, batch, conditions),
        *_rows("with the batch's contrast beside the row's", row, batch, conditions),
    ]


def _ranked(way: Way, seed: int) -> float:
    return float(run(way, seed).ndcg.mean())


def _weighed(batch: bool, tau: float, steps: int, weight: float, seed: int) -> float:
    return _ranked(Way(batch, tau, weight, steps), seed)


def _rows(what: str, baseline: list[Found], found: list[Found], conditions: list[Condition]) -> list[Effect]:
    sides = (baseline, found)
    ranked, ordered = [[one.ndcg for one in side] for side in sides], [[one.order for one in side] for side in sides]
    return [
        effect("CPRD with ids", what, "H-lex", "nDCG@10", *ranked, page="cprd", conditions=conditions),
        effect("CPRD with ids", what, "H-lex", TAU, *ordered, page="cprd", conditions=conditions),
    ]


def run(way: Way, seed: int) -> Found:
    """The measures after a training."""
    world = lex(seed)
    rows, teacher = listed(world, seed), judge(world, seed) - A_WORD
    loss = CPRDLoss(None, tau=way.tau, weight=way.weight, relevance=world.relevance())

    def labels(places: Tensor) -> Tensor:
        own = rows[places]
        said = teacher[own[:, :1], own[:, 1:]]
        return torch.cat([own.float(), said], 1) if way.batch else said

    found = scores(trained(world, rows, loss, seed=seed, size=SIZE, labels=labels, steps=way.steps), world)
    return Found(ndcg(found, world.relevant[world.test]), order(found, world))


def order(found: Doubles, world: Lex) -> Doubles:
    """Kendall's tau-b with the number of asked words held, of each test query that asks three `[queries]`."""
    shared = overlap(world)[world.test]
    asked = [row for row, query in enumerate(world.test.tolist()) if len(world.asked[query]) == 3]
    near = [np.flatnonzero((shared[row] > 0) & (shared[row] < 3)) for row in asked]
    pairs = [kendall(found[row, own][None], shared[row, own][None]) for row, own in zip(asked, near, strict=True)]
    return np.concatenate(pairs)
