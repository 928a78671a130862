"""KL distillation beside InfoNCE, and AR2's adversarial term beside none; H-lex.

A row is a query, one relevant document and seven others, most of which share the topic or an attribute. The teacher
says how many of the asked words a document holds, 4 a word with noise of deviation 1. Nothing is tuned. The teacher has
to rank the test queries' documents better than the student that InfoNCE trains within rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych_training.losses import AR2RetrieverLoss, ContrastiveLoss, CPRDLoss, KLDistillation, RetrievalLoss
from effects.lex import Lex, lex
from effects.running import Effect, above, each, effect, plateau
from effects.scoring import Doubles, ndcg
from effects.tiny import scores, trained

HARD, EASY, A_WORD = 5, 2, 4.0
Found = tuple[Doubles, float]


def effects() -> list[Effect]:
    """KL beside contrast, within rows and within batches, and AR2 with its term beside without."""
    alone = partial(CPRDLoss, weight=0.0, tau=0.05)
    steps, long_enough = plateau(lambda steps, seed: float(run(alone, seed, steps=steps)[0].mean()))
    at = partial(run, steps=steps)
    batch, row, taught = (each(partial(at, make)) for make in (ContrastiveLoss, alone, KLDistillation))
    calm, adversarial = (each(partial(at, partial(AR2RetrieverLoss, adv_weight=weight))) for weight in (0.0, 0.5))
    better = above("teacher", each(of_teacher), "student", [one[0] for one in row])
    told: Any = {"conditions": [long_enough, better]}
    kl, ar2 = "KL of a teacher", "AR2 loss"
    hard = "teacher's score of the 20 best irrelevant"
    beside = "adv_weight 0.5 beside 0"
    return [
        effect(
            kl,
            "beside InfoNCE, both within the row",
            "H-lex",
            "nDCG@10",
            *_part(row, taught, 0),
            page="distill",
            **told,
        ),
        effect(
            kl, "beside InfoNCE within the batch", "H-lex", "nDCG@10", *_part(batch, taught, 0), page="distill", **told
        ),
        effect(ar2, beside, "H-lex", "nDCG@10", *_part(calm, adversarial, 0), page="ar2", **told),
        effect(ar2, beside, "H-lex", hard, *_part(calm, adversarial, 1), page="ar2", **told),
    ]


def _part(baseline: list[Found], found: list[Found], place: int) -> list[list[Any]]:
    return [[one[place] for one in side] for side in (baseline, found)]


def of_teacher(seed: int, noise: float = 1.0) -> Doubles:
    """nDCG@10 of the teacher by test query."""
    world = lex(seed)
    return ndcg(judge(world, seed, noise).numpy()[world.test].astype(float), world.relevant[world.test])


def run(make: Callable[..., RetrievalLoss], seed: int, *, steps: int) -> Found:
    """nDCG@10 by test query, and how hard what is found wrongly is for the teacher."""
    world = lex(seed)
    rows, teacher = listed(world, seed), judge(world, seed)
    known = isinstance(make(None), ContrastiveLoss)
    labels = None if known else partial(_scores, teacher, rows)
    loss = make(None, relevance=world.relevance()) if known else make(None)
    found = scores(trained(world, rows, loss, seed=seed, size=16, labels=labels, steps=steps), world)
    relevant = world.relevant[world.test]
    wrong = np.argsort(-np.where(relevant, -np.inf, found), axis=1)[:, :20]
    hardness = np.take_along_axis(teacher.numpy()[world.test], wrong, 1).mean()
    return ndcg(found, relevant), float(hardness)


def _scores(teacher: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    return teacher[rows[places, :1], rows[places, 1:]]


def judge(world: Lex, seed: int, noise: float = 1.0) -> Tensor:
    """A teacher's scores of all pairs, float32 `[queries, documents]`."""
    shared = overlap(world)
    return torch.from_numpy(
        A_WORD * shared + noise * np.random.default_rng((seed, 31)).normal(size=shared.shape)
    ).float()


def overlap(world: Lex) -> Doubles:
    """How many of the asked words each document holds `[queries, documents]`."""
    size = 1 + max(max(own) for own in (*world.held, *world.asked))
    asked, held = (
        np.array([np.isin(np.arange(size), list(own)) for own in side], float) for side in (world.asked, world.held)
    )
    return np.asarray(asked @ held.T)


def listed(world: Lex, seed: int) -> Tensor:
    """Rows `(query, positive, 5 near, 2 far)` of all relevant pairs of the training queries."""
    random, shared = np.random.default_rng((seed, 32)), overlap(world)
    rows = []
    for query, document in world.rows().tolist():
        wrong = ~world.relevant[query]
        near = np.flatnonzero(wrong & (shared[query] > 0))
        far = np.flatnonzero(wrong & (shared[query] == 0))
        rows.append(
            [query, document, *random.choice(near, HARD, replace=False), *random.choice(far, EASY, replace=False)]
        )
    return torch.tensor(rows)
