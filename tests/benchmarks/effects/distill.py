"""A teacher's scores beside contrast, and AR2's retriever: KL, CPRD, MSE and the adversarial term; H-deb.

The teacher is a trained cross-encoder whose scores are stored, see `effects.teacher`. A row is a synopsis, its
description and seven of the 15 others that the teacher has scored. Everything begins with the same word vectors and
trains for as many steps of 16 rows, tau .05. *With contrast* is InfoNCE over the batch with a term over the row's
negatives: the teacher's order of their better half (CPRD), its distribution over them (KL) or its logits, both sides
centred (MSE). Weights are the best of `WEIGHTS` on a tuning seed. The teacher has to rank the 20 documents that it has
scored for a test query better than InfoNCE does, by .03.

AR2's retriever plays three rounds, the later ones with the seven of the 15 that it finds nearest by then, against a
ranker that stands still, which is the teacher; static negatives are InfoNCE over the batch with those of the start.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych_experimental.ar2 import AR2RetrieverLoss
from diptych_training.losses import ContrastiveLoss, CPRDLoss, KLDistillation
from diptych_training.losses.distillation import Taught
from effects.deb import Real, deb, train
from effects.running import FEW, ONE, Effect, above, best, each, effect, learnt, plateau
from effects.scoring import Doubles, kendall, ndcg
from effects.teacher import BETTER, TAU, stored, warm
from effects.tiny import Encoder, scores

WEIGHTS, NEGATIVES, ROUNDS, BATCH = (0.1, 0.3, 1.0, 3.0, 10.0), 7, 3, 16
KINDS: dict[str, Taught] = {"CPRD": "order", "KL": "distribution", "MSE": "scores"}


@dataclass(frozen=True, slots=True)
class Found:
    """By test query: nDCG@10, Kendall's tau with the teacher's order of 20 near documents, nDCG@10 of these.

    `teacher` has the last by the teacher; both have only queries with a relevant document there.
    """

    ndcg: Doubles
    order: Doubles
    near: Doubles
    teacher: Doubles


def effects() -> list[Effect]:
    """KL as its recipe has it, the ways to hand on scores beside contrast, and AR2's term."""
    steps, long_enough = plateau(
        lambda steps, seed: float(run(with_contrast(), seed, steps=steps).ndcg.mean()), seeds=ONE, of="InfoNCE"
    )
    at = partial(run, steps=steps)
    ways = dict[str, list[Found]]()
    for name, kind in KINDS.items():
        weight = best(partial(_weighed, kind, steps), WEIGHTS, ONE)
        ways[name] = each(partial(at, with_contrast(kind, weight)), FEW)
    infonce, row, taught = (each(partial(at, make), FEW) for make in (with_contrast(), InRow, KLDistillation))
    better = above("teacher", [one.teacher for one in infonce], "InfoNCE", [one.near for one in infonce], by=BETTER)
    untrained = each(partial(run, with_contrast(), steps=0), FEW)
    told = ([long_enough, better], untrained)
    rows = [
        *_rows("KL of a teacher", "beside InfoNCE, both within the row", row, taught, "distill", told)[:1],
        *_rows("KL of a teacher", "beside InfoNCE within the batch", infonce, taught, "distill", told)[:1],
    ]
    for way, against in (("CPRD", "InfoNCE"), ("CPRD", "KL"), ("CPRD", "MSE"), ("KL", "InfoNCE"), ("MSE", "InfoNCE")):
        name = way if way == "CPRD" else f"{way} of a teacher"
        found = infonce if against == "InfoNCE" else ways[against]
        rows += _rows(name, f"with contrast, beside {against}", found, ways[way], "cprd", told)
    static = each(partial(played, None, steps=steps), FEW)
    calm, adversarial = (each(partial(played, weight, steps=steps), FEW) for weight in (0.0, 0.5))
    beside = "beside static hard negatives, the ranker stands still"
    return [
        *rows,
        *_rows("AR2", beside, static, adversarial, "ar2", told)[:1],
        *_rows("AR2", "adversarial weight 0.5 beside 0, the ranker stands still", calm, adversarial, "ar2", told)[:1],
    ]


def _rows(name: str, what: str, base: list[Found], own: list[Found], page: str, told: Any) -> list[Effect]:
    """nDCG@10 and the order; the baseline has to have learnt to rank in both."""
    order, (conditions, untrained) = "Kendall's tau with the teacher, 20 near documents", told
    ranked, ordered = ([[getattr(one, part) for one in side] for side in (base, own)] for part in ("ndcg", "order"))
    conditions = [*conditions, learnt(ranked[0], [one.ndcg for one in untrained])]
    given: Any = {"page": page, "conditions": conditions, "same_queries": True}
    return [
        effect(name, what, "H-deb", "nDCG@10", *ranked, **given),
        effect(name, what, "H-deb", order, *ordered, **given),
    ]


class InRow(CPRDLoss):
    """InfoNCE within the row."""

    def __init__(self, model: Any) -> None:
        super().__init__(model, tau=TAU, weight=0.0)


def with_contrast(kind: Taught = "order", weight: float = 0.0) -> partial[CPRDLoss]:
    """Contrast over the batch with a teacher's part of this kind; without weight InfoNCE alone."""
    return partial(CPRDLoss, tau=TAU, top=0.5, weight=weight, kind=kind)


def _weighed(kind: Taught, steps: int, weight: float, seed: int) -> float:
    return float(run(with_contrast(kind, weight), seed, steps=steps).ndcg.mean())


def run(make: Callable[..., Any], seed: int, *, steps: int) -> Found:
    """The measures after a training on drawn rows."""
    world, rows, with_ids = deb(seed), drawn(seed), isinstance(make, partial)
    loss = make(None, relevance=world.relevance()) if with_ids else make(None)
    labels = partial(labelled, rows, with_ids=with_ids)
    model = train(world, rows, loss, seed=seed, steps=steps, labels=labels, size=BATCH)
    return measured(world, scores(model, world))


def played(adversarial: float | None, seed: int, *, steps: int) -> Found:
    """The measures after three rounds of AR2's retriever with this weight; None: InfoNCE, nothing chosen anew."""
    world, rows, each_round = deb(seed), drawn(seed), steps // ROUNDS
    model = copy.deepcopy(warm(seed))
    for number in range(ROUNDS):
        if adversarial is None:
            loss: Any = ContrastiveLoss(None, tau=TAU, relevance=world.relevance())
            labels = None
        else:
            rows = hardest(world, model, rows) if number else rows
            loss = AR2RetrieverLoss(None, tau=TAU, adv_weight=adversarial)
            labels = partial(labelled, rows, with_ids=False)
        train(world, rows, loss, seed=seed + number, steps=each_round, labels=labels, model=model, size=BATCH)
    return measured(world, scores(model, world))


def drawn(seed: int, negatives: int = NEGATIVES) -> Tensor:
    """Rows `(query, positive, negatives)` of the training pairs, the negatives drawn from those scored."""
    rows = deb(seed).rows()
    pool = stored().pool[rows[:, 0]].numpy()
    places = np.random.default_rng((seed, 81)).random(pool.shape).argsort(1)[:, :negatives]
    return torch.cat([rows, torch.from_numpy(np.take_along_axis(pool, places, 1))], 1)


def hardest(world: Real, model: Encoder, rows: Tensor) -> Tensor:
    """The rows with the negatives that the model finds nearest of those scored."""
    pool, found = stored().pool[rows[:, 0]], torch.from_numpy(scores(model, world, rows[:, 0].numpy()))
    places = found.gather(1, pool).argsort(1, descending=True)[:, :NEGATIVES]
    return torch.cat([rows[:, :2], pool.gather(1, places)], 1)


def labelled(rows: Tensor, places: Tensor, *, with_ids: bool) -> Tensor:
    """The teacher's logits of a batch's rows, after their ids where these are asked for."""
    own = rows[places]
    said = stored().judged(own[:, 0], own[:, 1:])
    return torch.cat([own.float(), said], 1) if with_ids else said


def measured(world: Real, found: Doubles) -> Found:
    """What such scores of the test queries with all documents are worth; of tuning seeds nDCG@10 alone."""
    told, none = stored(), np.empty(0)
    everywhere = ndcg(found, world.relevant[world.test])
    if world.test[0] not in told.tests:
        return Found(everywhere, none, none, none)
    near, asked = told.near.numpy(), torch.from_numpy(world.test)
    order = kendall(np.take_along_axis(found, near, 1), told.judged(asked, told.near).double().numpy())
    taught, own = told.ordered(world, found)
    return Found(everywhere, order, own, taught)
