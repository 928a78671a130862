"""CPRD beside other ways to hand a teacher's scores on; H-mat.

The teacher scores all pairs of 200 queries and 600 documents out of a matrix of rank 8; most of its probabilities are
near 0 or 1. Half of the documents of a query are seen in training, in lists of the best one, 12 of the 40 next best
and 4 of the worst half. The order is asked of the 40 next best of the other half. The students are free tables of 16
numbers. All take the weight beside InfoNCE that gives the best Kendall's tau on the tuning seeds. A noiseless matrix of
low rank is completed best by regression, and nDCG asks for its own ten best: this world favours the squares.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych_training.losses import CPRDLoss, RetrievalLoss
from diptych_training.losses.distillation import RowDistillation
from effects import mat
from effects.running import Effect, best, each, effect, learnt, plateau
from effects.scoring import Doubles, kendall, ndcg
from effects.vec import fitted

WEIGHTS, HARD, EASY, LISTS, POOL = (0.3, 1.0, 3.0, 10.0, 30.0), 12, 4, 8, 40
INVALID = -float(np.log(9.0))  # where the sigmoid is 0.1
WAYS = ("MSE", "KL", "CPRD")
Found = tuple[Doubles, Doubles]


class Beside(RowDistillation):
    """InfoNCE over the row plus a part of the teacher's probabilities: their squares or their distribution."""

    def __init__(self, way: str, weight: float) -> None:
        super().__init__(None, tau=0.07)
        self.way, self.weight = way, weight

    def of_rows(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of scores `[B, 1 + H]`; labels are logits."""
        infonce, sure = -student.log_softmax(1)[:, 0].mean(), teacher.sigmoid()
        if self.way == "MSE":
            return infonce + self.weight * (student * self.tau - sure).square().mean()
        wanted = (sure / self.tau).log_softmax(1)
        divergence = torch.nn.functional.kl_div(student.log_softmax(1), wanted, reduction="batchmean", log_target=True)
        return infonce + self.weight * divergence


def effects() -> list[Effect]:
    """Each way beside InfoNCE, CPRD beside the others, and the control."""
    steps, long_enough = plateau(lambda steps, seed: float(run("CPRD", 0.0, seed, steps=steps)[1].mean()), of="InfoNCE")
    at = partial(run, steps=steps)
    weights = {way: best(partial(_tau_of, way, steps), WEIGHTS) for way in WAYS}
    found = {"InfoNCE": each(partial(at, "CPRD", 0.0)), **{way: each(partial(at, way, weights[way])) for way in WAYS}}
    rows, untrained = list[Effect](), [one[1] for one in each(partial(run, "CPRD", 0.0, steps=0))]
    # Of nDCG in all rows: InfoNCE alone cannot learn an order of negatives.
    conditions = {name: [long_enough, learnt([one[1] for one in own], untrained)] for name, own in found.items()}
    for way, against in (("CPRD", "InfoNCE"), ("CPRD", "MSE"), ("CPRD", "KL"), ("KL", "InfoNCE"), ("MSE", "InfoNCE")):
        told: Any = {"conditions": conditions[against]}
        rows += [_effect(way, f"beside {against}", found[against], found[way], place, **told) for place in (0, 1)]
    shuffled = each(partial(at, "CPRD", weights["CPRD"], shuffled=True))
    control = _effect(
        "CPRD",
        "the teacher's order of invalid negatives shuffled",
        found["CPRD"],
        shuffled,
        0,
        better="equal",
        tolerance=0.005,
        conditions=conditions["CPRD"],
    )
    return [*rows, control]


def _effect(way: str, what: str, baseline: list[Found], found: list[Found], place: int, **more: Any) -> Effect:
    metric = ("Kendall's tau of hard negatives", "nDCG@10")[place]
    name = way if way == "CPRD" else f"{way} of a teacher"
    return effect(
        name,
        what,
        "H-mat",
        metric,
        [one[place] for one in baseline],
        [one[place] for one in found],
        page="cprd",
        **more,
    )


def _tau_of(way: str, steps: int, weight: float, seed: int) -> float:
    return float(run(way, weight, seed, steps=steps)[0].mean())


def run(way: str, weight: float, seed: int, *, steps: int, shuffled: bool = False) -> Found:
    """Kendall's tau of held-out hard negatives and nDCG@10, by query."""
    lists = drawn(seed)
    loss: RetrievalLoss = CPRDLoss(None, weight=weight) if way == "CPRD" else Beside(way, weight)
    labels = _shuffled(lists.labels, seed) if shuffled else lists.labels
    scores = fitted(lists.rows, lists.teacher.shape, loss, seed=seed, steps=steps, labels=labels)
    order = kendall(np.take_along_axis(scores, lists.held, 1), np.take_along_axis(lists.teacher, lists.held, 1))
    first = np.argsort(np.argsort(-lists.teacher, axis=1), axis=1) < 10
    return order, ndcg(scores, first)


@dataclass(frozen=True, slots=True)
class Lists:
    """What a seed gives: logits of all pairs, rows to train on with their labels, and hard negatives to ask about."""

    teacher: Doubles
    rows: Tensor
    labels: Tensor
    held: np.ndarray[Any, np.dtype[np.int64]]


def drawn(seed: int) -> Lists:
    """The lists of a seed."""
    teacher, random = mat.logits(mat.planted(seed, rows=200, columns=600, rank=8)), np.random.default_rng((seed, 21))
    rows, held = [], []
    for query, own in enumerate(teacher):
        order = np.argsort(-own)
        seen = random.random(len(own)) < 0.5
        best_, near, far = order[0], order[1:][seen[order[1:]]][:POOL], order[len(own) // 2 :]
        held.append(order[1:][~seen[order[1:]]][:POOL])
        easy = far[seen[far]]
        rows += [
            [query, best_, *random.permutation(near)[:HARD], *random.permutation(easy)[:EASY]] for _ in range(LISTS)
        ]
    places = torch.tensor(np.array(rows))
    labels = torch.from_numpy(teacher)[places[:, :1], places[:, 1:]].float()
    return Lists(teacher, places, labels, np.array(held))


def _shuffled(labels: Tensor, seed: int) -> Tensor:
    """With the teacher's scores of invalid negatives in another order, row by row."""
    random, changed = np.random.default_rng((seed, 22)), labels.clone()
    for row in changed:
        invalid = torch.nonzero(row < INVALID)[:, 0]
        row[invalid] = row[invalid[torch.from_numpy(random.permutation(len(invalid)))]]
    return changed
