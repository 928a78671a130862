"""DEXML: decoupled softmax beside the summed one, and soft top-k; H-tag, descriptions with the tags they should have.

All compare a batch of 32 queries with all 511 tags, as DEXML does where it can. Nothing is tuned: tau 0.05 and alpha
2, as published. Soft top-k draws 5 positives of a row for each step, as the recipe and the authors' code do. *Gains*
are of test queries by their number of tags, after one training.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from diptych_training.losses import ContrastiveLoss
from diptych_training.losses.base import logsumexp_where, mean_of_rows
from diptych_training.recipes.dexml import LabelPool, SoftTopKLoss
from effects.deb import RATE, averaged, tags
from effects.running import FEW, ONE, Effect, each, effect, learnt, plateau
from effects.scoring import Doubles, precision, recall_at_own
from effects.tiny import scores
from effects.unidec import fitted

TAU = 0.05


class Summed(ContrastiveLoss):
    """The softmax with the sum over all positives in the denominator of each (Khosla et al. 2020)."""

    def compute_loss_from_embeddings(self, embeddings: Any, labels: Any = None) -> Any:
        """The loss of a batch."""
        similarity, candidates = self.similarities(*self.prepared(embeddings)), self.candidates(embeddings, labels)
        scores, positive = similarity * self.scale, candidates.positive
        all_ = logsumexp_where(scores, positive | candidates.negative)[:, None]
        rows = torch.where(positive, all_ - scores, 0.0).sum(1) / positive.sum(1).clamp(min=1)
        return mean_of_rows(rows, positive.any(1) & candidates.negative.any(1))


LOSSES: dict[str, Callable[..., Any]] = {
    "summed": partial(Summed, None, tau=TAU),
    "decoupled": partial(ContrastiveLoss, None, tau=TAU),
    "soft top-5": partial(SoftTopKLoss, None, k=5, tau=TAU),
}
METRICS = ("recall@n", "spread of relevant scores", "P@1", "P@5")
LEVELS = {"1 to 3": (1, 3), "4 to 6": (4, 6), "7 and more": (7, 500)}


def effects() -> list[Effect]:
    """Decoupled beside summed, soft top-k beside decoupled, gains by the number of tags."""
    names, rows, found = list(LOSSES), list[Effect](), dict[str, dict[str, Any]]()
    told: dict[str, dict[str, Any]] = {}
    untrained = each(partial(run, LOSSES["summed"], steps=0), FEW)
    for baseline, own in (("summed", names[:2]), ("decoupled", names[1:])):
        steps, long_enough = plateau(partial(_recall, baseline), seeds=ONE, of=baseline)
        found[baseline] = {name: each(partial(run, LOSSES[name], steps=steps), FEW) for name in own}
        told[baseline] = {"page": "dexml", "conditions": [long_enough], "same_queries": True}
    for baseline, name in ((names[0], names[1]), (names[1], names[2])):
        method = "DEXML: soft top-k" if name == "soft top-5" else "DEXML: decoupled softmax"
        for metric in METRICS:
            sides = [[one[metric] for one in found[baseline][side]] for side in (baseline, name)]
            quality = "recall@n" if metric.startswith("spread") else metric
            start, own = [one[quality] for one in untrained], [one[quality] for one in found[baseline][baseline]]
            given = {**told[baseline], "better": "higher" if quality == metric else "lower"}
            given["conditions"] = [*given["conditions"], learnt(own, start)]
            rows.append(effect(method, f"{name} beside {baseline}", "H-tag", metric, *sides, **given))
    counts = tags(0).relevant[tags(0).test].sum(1)
    for level, (least, most) in LEVELS.items():
        there = (counts >= least) & (counts <= most)
        sides = [[one["recall@n"][there] for one in found["summed"][side]] for side in names[:2]]
        start = [one["recall@n"][there] for one in untrained]
        what, given = f"decoupled beside summed, queries with {level} tags", {**told["summed"], "untrained": start}
        rows.append(effect("DEXML: decoupled softmax", what, "H-tag", "recall@n", *sides, **given))
    return rows


def _recall(name: str, steps: int, seed: int) -> float:
    return float(run(LOSSES[name], seed, steps)["recall@n"].mean())


def run(make: Callable[..., Any], seed: int, steps: int) -> dict[str, Doubles]:
    """The measures of each test query; recall@n is at its own number of relevant documents."""
    world = tags(seed)
    positives = {int(query): np.flatnonzero(world.relevant[query]).tolist() for query in world.train}
    pool = LabelPool(positives, documents=len(world.documents), size=None, seed=seed)
    loss = make(relevance=pool.relevance)
    model = fitted(averaged(world.pieces), loss, world, pool, seed=seed, steps=steps, rate=RATE)
    found, relevant = scores(model, world), world.relevant[world.test]
    spread = np.array([own[there].std() for own, there in zip(found, relevant, strict=True)])
    own = (recall_at_own(found, relevant), spread, precision(found, relevant, 1), precision(found, relevant, 5))
    return dict(zip(METRICS, own, strict=True))
