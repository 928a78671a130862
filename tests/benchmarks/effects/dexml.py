"""DEXML: decoupled softmax beside the summed one, and soft top-k; H-lex, queries with 5 to 12 relevant documents.

All compare a batch of 32 queries with all documents, as DEXML does where it can. Nothing is tuned: tau 0.05 and alpha
2, as published. Soft top-k draws 5 positives of a row for each step, as the recipe and the authors' code do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from diptych_training.losses import ContrastiveLoss, SoftTopKLoss
from effects.lex import lex
from effects.running import Effect, each, effect, plateau
from effects.scoring import Doubles, precision, recall_at_own
from effects.tiny import STEPS, Words, scores
from effects.unidec import fitted, pool_of

DOCUMENTS, TAU = 1000, 0.05
LOSSES: dict[str, Callable[..., Any]] = {
    "summed": partial(ContrastiveLoss, None, reduction="supcon", tau=TAU),
    "decoupled": partial(ContrastiveLoss, None, tau=TAU),
    "decoupled, one sampled": partial(ContrastiveLoss, None, tau=TAU, sample_positives=1),
    "soft top-5": partial(SoftTopKLoss, None, k=5, tau=TAU, sample_positives=5),
}
METRICS = ("recall@n", "spread of relevant scores", "P@1", "P@5")


def effects() -> list[Effect]:
    """Decoupled beside summed, sampled beside whole, soft top-k beside decoupled."""
    found, conditions, names, rows = {}, {}, list(LOSSES), list[Effect]()
    for baseline, own in (("summed", names[:2]), ("decoupled", names[1:])):
        steps, *conditions[baseline] = plateau(partial(recall_by, LOSSES[baseline]), limit=1600)
        found[baseline] = {name: each(partial(run, LOSSES[name], steps=steps)) for name in own}
    for baseline, name in ((names[0], names[1]), (names[1], names[2]), (names[1], names[3])):
        method = "DEXML: soft top-k" if name == "soft top-5" else "DEXML: decoupled softmax"
        for metric in METRICS:
            sides = [[one[metric] for one in found[baseline][side]] for side in (baseline, name)]
            better: Any = "lower" if metric.startswith("spread") else "higher"
            what = f"{name} beside {baseline}"
            told: Any = {"page": "dexml", "conditions": conditions[baseline]}
            rows.append(effect(method, what, "H-lex", metric, *sides, better=better, **told))
    return rows


def recall_by(make: Callable[..., Any], steps: int, seed: int, **options: Any) -> float:
    """The mean of recall@n, for a training of so many steps."""
    return float(run(make, seed, steps=steps, **options)["recall@n"].mean())


def run(
    make: Callable[..., Any], seed: int, *, positives: tuple[int, int] = (5, 12), steps: int = STEPS
) -> dict[str, Doubles]:
    """The measures of each test query; recall@n is at its own number of relevant documents."""
    world = lex(seed, topics=25, attributes=20, documents=DOCUMENTS, train=220, test=80, positives=positives)
    pool = pool_of(world, None, seed)
    model = fitted(
        Words(len(world.words), seed=seed), make(relevance=pool.relevance), world, pool, seed=seed, steps=steps
    )
    found, relevant = scores(model, world), world.relevant[world.test]
    spread = np.array([own[there].std() for own, there in zip(found, relevant, strict=True)])
    own = (recall_at_own(found, relevant), spread, precision(found, relevant, 1), precision(found, relevant, 5))
    return dict(zip(METRICS, own, strict=True))
