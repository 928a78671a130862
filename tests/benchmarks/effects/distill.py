"""A teacher's scores beside contrast, and AR2's retriever: KL, CPRD, MSE and the adversarial term; H-deb.

A row is a synopsis, its description and seven others out of the 30 that a student, trained for 200 steps by InfoNCE,
finds nearest. The teacher's cosines times 20 are its logits. Everything begins with the same word vectors and trains
for as many steps of 16 rows, tau .05. *With contrast* is InfoNCE over the batch with a term over the row's negatives:
the teacher's order of their better half (CPRD), its distribution over them (KL) or its cosines (MSE). Weights are the
best of `WEIGHTS` on a tuning seed. The teacher has to rank the test queries' documents better than InfoNCE does.

AR2's retriever plays three rounds, each with negatives mined anew, against a ranker that stands still, which is the
teacher; static negatives are InfoNCE over the batch with those of the start.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from diptych_training.losses import AR2RetrieverLoss, ContrastiveLoss, CPRDLoss, KLDistillation
from effects.deb import SHARPNESS, Real, deb, listed, nearest, train
from effects.running import FEW, ONE, Effect, above, best, each, effect, learnt, plateau
from effects.scoring import Doubles, kendall, ndcg
from effects.tiny import Encoder, scores

WEIGHTS, TAU, NEGATIVES, WARM, ROUNDS, BATCH = (1.0, 10.0), 0.05, 7, 200, 3, 16
Way: TypeAlias = Literal["CPRD", "KL", "MSE"]


@dataclass(frozen=True, slots=True)
class Found:
    """By test query: nDCG@10, and Kendall's tau with the teacher's order of 30 near documents."""

    ndcg: Doubles
    order: Doubles


class Beside(CPRDLoss):
    """Contrast over the batch with the teacher's distribution over the row's negatives, or with its cosines."""

    def __init__(self, way: Way, **options: Any) -> None:
        super().__init__(None, tau=TAU, top=0.5, **options)
        self.way = way

    def order(self, student: Tensor, teacher: Tensor, counted: Tensor | None = None) -> Tensor:
        """The term of scores of negatives `[B, H]`."""
        if self.way == "CPRD":
            return super().order(student, teacher, counted)
        if self.way == "MSE":
            return (student * self.tau - teacher / SHARPNESS).square().mean()
        logs, wanted = student.log_softmax(1), teacher.log_softmax(1)
        return torch.nn.functional.kl_div(logs, wanted, reduction="batchmean", log_target=True)


def effects() -> list[Effect]:
    """KL as its recipe has it, the ways to hand on scores beside contrast, and AR2's term."""
    steps, long_enough = plateau(partial(_ranked, Beside, way="CPRD", weight=0.0), seeds=ONE)
    at = partial(run, steps=steps)
    weights = {way: best(partial(_weighed, way, steps), WEIGHTS, ONE) for way in ("CPRD", "KL", "MSE")}
    ways = {name: each(partial(at, Beside, way=name, weight=weight), FEW) for name, weight in weights.items()}
    infonce, row, taught = (
        each(partial(at, make, **given), FEW)
        for make, given in ((Beside, {"way": "CPRD", "weight": 0.0}), (InRow, {}), (KLDistillation, {}))
    )
    better = above("teacher", each(by_teacher, FEW), "InfoNCE", [one.ndcg for one in infonce])
    untrained = each(partial(run, Beside, way="CPRD", weight=0.0, steps=0), FEW)
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
    order, (conditions, untrained) = "Kendall's tau with the teacher, 30 near documents", told
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


def by_teacher(seed: int) -> Doubles:
    """nDCG@10 of the teacher by test query."""
    return deb(seed).by_teacher()


def _ranked(make: Any, steps: int, seed: int, **given: Any) -> float:
    return float(run(make, seed, steps=steps, **given).ndcg.mean())


def _weighed(way: Way, steps: int, weight: float, seed: int) -> float:
    return _ranked(Beside, steps, seed, way=way, weight=weight)


def run(make: Callable[..., Any], seed: int, *, steps: int, **given: Any) -> Found:
    """The measures after a training on the rows of the warm student."""
    world, rows = deb(seed), rows_of(seed)
    with_ids = make is Beside
    loss = make(relevance=world.relevance(), **given) if with_ids else make(None)
    labels = partial(labelled, world, rows, with_ids=with_ids)
    return measured(world, train(world, rows, loss, seed=seed, steps=steps, labels=labels, size=BATCH), seed)


def played(adversarial: float | None, seed: int, *, steps: int) -> Found:
    """The measures after three rounds of AR2's retriever with this weight; None: InfoNCE, nothing mined anew."""
    world, rows, each_round = deb(seed), rows_of(seed), steps // ROUNDS
    model = copy.deepcopy(warm(seed))
    for number in range(ROUNDS):
        if adversarial is None:
            loss: Any = ContrastiveLoss(None, tau=TAU, relevance=world.relevance())
            labels = None
        else:
            rows = listed(world, model, seed + number, NEGATIVES) if number else rows
            loss = AR2RetrieverLoss(None, tau=TAU, adv_weight=adversarial)
            labels = partial(labelled, world, rows, with_ids=False)
        train(world, rows, loss, seed=seed + number, steps=each_round, labels=labels, model=model, size=BATCH)
    return measured(world, model, seed)


@lru_cache(maxsize=8)
def warm(seed: int) -> Encoder:
    """A student that knows the training pairs a little; the same for the same seed."""
    world = deb(seed)
    loss = ContrastiveLoss(None, tau=TAU, relevance=world.relevance())
    return train(world, world.rows(), loss, seed=seed, steps=WARM)


@lru_cache(maxsize=8)
def rows_of(seed: int) -> Tensor:
    """Rows of the training pairs with what this student finds nearest."""
    return listed(deb(seed), warm(seed), seed, NEGATIVES)


@lru_cache(maxsize=8)
def asked_of(seed: int) -> tuple[Tensor, Doubles]:
    """30 documents that this student finds nearest to each test query, and the teacher's logits of them."""
    world, asked = deb(seed), torch.from_numpy(deb(seed).test)
    near = nearest(world, warm(seed), asked)
    return near, world.judged(asked, near).double().numpy()


def labelled(world: Real, rows: Tensor, places: Tensor, *, with_ids: bool) -> Tensor:
    """The teacher's logits of a batch's rows, after their ids where these are asked for."""
    own = rows[places]
    said = world.judged(own[:, 0], own[:, 1:])
    return torch.cat([own.float(), said], 1) if with_ids else said


def measured(world: Real, model: Encoder, seed: int) -> Found:
    """What the model does for the test queries."""
    found, (near, wanted) = scores(model, world), asked_of(seed)
    order = kendall(np.take_along_axis(found, near.numpy(), 1), wanted)
    return Found(ndcg(found, world.relevant[world.test]), order)
