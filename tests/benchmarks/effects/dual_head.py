"""Two heads beside one head with both losses; H-deb with 5, 20 and 100 % of the training queries labelled.

The encoder is the mean of word vectors. A labelled row is a synopsis, its description and seven others of the 30 that
the untrained encoder finds nearest; an unlabelled one has eight of the 30, and nobody says which is right. Half of a
batch of 16 is labelled. The weight of the heads is the best for 200 of the tuning queries, which nothing is
trained with. Nothing else is tuned. Steps are those of the one head with 20 % labels. The teacher has to rank better
than the one head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych_experimental.dual_head_models import HEADS, DualHead, DualHeadLoss, best_mix
from diptych_training.losses import ContrastiveLoss
from diptych_training.relevance import Relevance
from effects.deb import POOL, RATE, Real, averaged, deb
from effects.running import FEW, ONE, TUNING, Condition, Effect, above, each, effect, learnt, plateau
from effects.scoring import Doubles, ndcg
from effects.tiny import scores
from effects.vec import shuffled
from sentence_models import Batch, embedded, features_of, fitted, total

BATCH, NEGATIVES, DEV, SHARES = 16, 7, 200, (0.05, 0.2, 1.0)
COSINE = "cosine of both losses' gradients"


class OneHead(DualHeadLoss):
    """Both losses on head A: the baseline."""

    def compute_losses_from_embeddings(self, head_a: Any, head_b: Any, labels: Tensor | None) -> dict[str, Tensor]:
        """The losses of a batch."""
        return super().compute_losses_from_embeddings(head_a, head_a, labels)


@dataclass(frozen=True, slots=True)
class Found:
    """nDCG@10 by test query of the mix and of each head alone; the mix; the cosine of both losses' gradients."""

    mixed: Doubles
    alone: tuple[Doubles, Doubles]
    mix: float
    agreement: float


def effects() -> list[Effect]:
    """Two heads beside one, the mix beside each head, the gradients, and the weight with more labels."""
    rows, weights = list[Effect](), list[list[float]]()
    steps, long_enough = plateau(partial(_ranked, SHARES[1]), 50, 1600, seeds=ONE, of="20 % labelled")
    for share in SHARES:
        one, two = (each(partial(run, make, share, steps), FEW) for make in (OneHead, DualHeadLoss))
        single, mixed = [found.alone[0] for found in one], [found.mixed for found in two]
        start = [found.alone[0] for found in each(partial(run, OneHead, share, 0), FEW)]
        told = [long_enough, above("teacher", each(lambda seed: deb(seed).by_teacher(), FEW), "one head", single)]
        few = f"{share:.0%} labelled".replace("%", " %")
        rows += [
            _effect(f"two heads, mixed, beside one with both losses, {few}", single, mixed, told, start),
            _effect(f"mixed beside head A alone, {few}", [found.alone[0] for found in two], mixed, told, start),
            _effect(f"mixed beside head B alone, {few}", [found.alone[1] for found in two], mixed, told, start),
        ]
        told.append(learnt(single, start))
        cosines = [[found.agreement for found in side] for side in (one, two)]
        rows.append(_effect(f"two heads beside one, {few}", cosines[0], cosines[1], told, metric=COSINE))
        weights.append([found.mix for found in two])
    what = "100 % labelled beside 5 %"
    return [*rows, _effect(what, weights[0], weights[-1], told, metric="weight of head A")]


def _effect(
    what: str, base: Any, found: Any, told: list[Condition], start: Any = (), metric: str = "nDCG@10"
) -> Effect:
    given: Any = {"page": "dual_head", "same_queries": metric == "nDCG@10", "conditions": told, "untrained": start}
    return effect("Dual head", what, "H-deb", metric, base, found, **given)


def _ranked(share: float, steps: int, seed: int) -> float:
    return float(run(OneHead, share, steps, seed).alone[0].mean())


def run(make: type[DualHeadLoss], share: float, steps: int, seed: int) -> Found:
    """The measures after a training with a share of the training queries labelled."""
    world = deb(seed)
    labelled = world.train[: round(share * len(world.train))]
    relevance = Relevance((q, d) for q, d in world.rows(labelled).tolist())
    words = averaged(world.pieces)
    model: Any = torch.nn.Sequential(words, DualHead(words.vectors.shape[1]))
    loss = make(model, supervised=ContrastiveLoss(model, similarity="dot", relevance=relevance))
    made = batches(world, set(labelled.tolist()), steps, seed)
    fitted(loss, made[:-4], rate=RATE)
    dev = deb(TUNING[0]).test[:DEV]
    (ours, teachers), (a, b) = (
        [_scores(model, world, queries, name) for name in HEADS] for queries in (dev, world.test)
    )
    mix = best_mix(ours, teachers, world.relevant[dev].astype(np.float64))[0].mix
    relevant = world.relevant[world.test]
    agreement = float(np.mean([_agreement(loss, batch) for batch in made[-4:]]))
    return Found(ndcg(mix * a + (1 - mix) * b, relevant), (ndcg(a, relevant), ndcg(b, relevant)), mix, agreement)


@lru_cache(maxsize=8)
def near_of(seed: int) -> Tensor:
    """The documents that the untrained encoder finds nearest to each training query, `[n, POOL]`."""
    world = deb(seed)
    found = scores(averaged(world.pieces), world, world.train)
    return torch.from_numpy(np.argpartition(-found, POOL, axis=1)[:, :POOL].copy())


def batches(world: Real, labelled: set[int], steps: int, seed: int) -> list[Batch]:
    """Steps of rows with ids and the teacher's scores; rows of the other queries have no ids."""
    random, near = np.random.default_rng((seed, 83)), near_of(seed).numpy()
    known, unknown = list[list[int]](), list[list[int]]()
    for query, own in zip(world.train.tolist(), near, strict=True):
        drawn = random.permutation(own)
        if query not in labelled:
            unknown.append([query, *drawn[: 1 + NEGATIVES].tolist()])
            continue
        wrong = drawn[~world.relevant[query, drawn]][:NEGATIVES]
        known += [[query, right, *wrong.tolist()] for right in np.flatnonzero(world.relevant[query]).tolist()]
    sides = [torch.tensor(side).repeat(-(-BATCH // len(side)), 1) for side in (known, unknown) if side]
    plans = [shuffled(len(side), BATCH // len(sides), steps + 4, seed) for side in sides]
    drawn_rows = (
        torch.cat([side[own] for side, own in zip(sides, plan, strict=True)]) for plan in zip(*plans, strict=True)
    )
    return [_batch(world, rows, labelled) for rows in drawn_rows]


def _batch(world: Real, rows: Tensor, labelled: set[int]) -> Batch:
    known = torch.tensor([query in labelled for query in rows[:, 0].tolist()])
    ids = torch.where(known[:, None], rows, torch.full_like(rows, -1))
    documents = [world.document_tokens[rows[:, column]] for column in range(1, rows.shape[1])]
    labels = torch.cat([ids.float(), world.judged(rows[:, 0], rows[:, 1:])], 1)
    return [world.query_tokens[rows[:, 0]], *documents], labels


def _scores(model: Any, world: Real, queries: Any, head: str) -> Doubles:
    asked = world.query_tokens[torch.from_numpy(queries)]
    left, right = (embedded(model, tokens, head).double() for tokens in (asked, world.document_tokens))
    found: Doubles = (left @ right.T).numpy()
    return found


def _agreement(loss: DualHeadLoss, batch: Batch) -> float:
    """The cosine of the gradients of both losses in the encoder."""
    parts = list(loss.model[0].parameters())
    found = []
    for name in ("supervised", "distill"):
        value = loss(list(map(features_of, batch[0])), batch[1])[name]
        grads = torch.autograd.grad(total(value), parts, allow_unused=True)
        found.append(torch.cat([g.reshape(-1) for g in grads if g is not None]))
    return float(torch.nn.functional.cosine_similarity(found[0], found[1], dim=0))
