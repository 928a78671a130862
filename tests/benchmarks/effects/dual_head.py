"""Two heads beside one head with both losses; H-lex with 5 % of the training queries labelled and a noisy teacher.

The teacher says how many of the asked words a document holds, 4 a word with noise of deviation 4; its lists are of one
relevant document and seven others, 8 lists a batch. The weight of the heads is the best for 60 of the training queries,
whose judgements are used for nothing else and whose rows are left out. Nothing else is tuned. The teacher has to rank
better than the one head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych_training.losses import ContrastiveLoss
from diptych_training.losses.dual_head import DualHeadLoss
from diptych_training.models.dual_head import HEADS, dual_head
from diptych_training.models.mixing_weights import best_mix
from diptych_training.relevance import Relevance
from effects.distill import judge, listed, of_teacher
from effects.lex import Lex, lex
from effects.running import Condition, Effect, above, each, effect, plateau
from effects.scoring import Doubles, ndcg
from effects.vec import shuffled
from sentence_models import Batch, embedded, features_of, fitted, model_of, total

BATCH, NOISE, DEV = 8, 4.0, 60


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
    steps, long_enough = plateau(
        lambda steps, seed: float(run(OneHead, 0.05, steps, seed).alone[0].mean()), start=150, limit=2400
    )
    one, two = (each(partial(run, make, 0.05, steps)) for make in (OneHead, DualHeadLoss))
    many = each(partial(run, DualHeadLoss, 0.5, steps))
    single, mixed = [found.alone[0] for found in one], [found.mixed for found in two]
    few = "5 % labelled"
    signs = [[found.agreement for found in side] for side in (one, two)]
    mixes = [[found.mix for found in side] for side in (two, many)]
    conditions = [long_enough, above("teacher", each(partial(of_teacher, noise=NOISE)), "one head", single)]
    heads = [[found.alone[place] for found in two] for place in (0, 1)]
    return [
        _effect(f"two heads, mixed, beside one with both losses, {few}", "nDCG@10", single, mixed, conditions),
        _effect(f"mixed beside head A alone, {few}", "nDCG@10", heads[0], mixed, conditions),
        _effect(f"mixed beside head B alone, {few}", "nDCG@10", heads[1], mixed, conditions),
        _effect(f"two heads beside one, {few}", "cosine of both losses' gradients", signs[0], signs[1], conditions),
        _effect("50 % labelled beside 5 %", "weight of head A", mixes[0], mixes[1], conditions),
    ]


def _effect(what: str, metric: str, baseline: list[Any], found: list[Any], conditions: list[Condition]) -> Effect:
    return effect("Dual head", what, "H-lex", metric, baseline, found, page="dual_head", conditions=conditions)


def run(make: type[DualHeadLoss], share: float, steps: int, seed: int) -> Found:
    """One training; see `Found`."""
    world, random = lex(seed), np.random.default_rng((seed, 41))
    order = random.permutation(world.train)
    dev, rest = order[:DEV], order[DEV:]
    labelled = set(rest[: round(share * len(world.train))].tolist())
    model = dual_head(model_of(world, seed=seed))
    relevance = Relevance((q, d) for q, d in world.rows().tolist() if q in labelled)
    loss = make(model, supervised=ContrastiveLoss(model, similarity="dot", relevance=relevance))
    made = batches(world, labelled, set(rest.tolist()), steps, seed)
    fitted(loss, made[:-4])
    scores = {name: _scores(model, world, name) for name in HEADS}
    ours, teachers = (scores[name][dev] for name in HEADS)
    mix = best_mix(ours, teachers, world.relevant[dev].astype(np.float64))[0].mix
    relevant, (a, b) = world.relevant[world.test], [scores[name][world.test] for name in HEADS]
    agreement = float(np.mean([_agreement(loss, batch) for batch in made[-4:]]))
    return Found(ndcg(mix * a + (1 - mix) * b, relevant), (ndcg(a, relevant), ndcg(b, relevant)), mix, agreement)


def batches(world: Lex, labelled: set[int], used: set[int], steps: int, seed: int) -> list[Batch]:
    """Steps of rows with ids and the teacher's scores; rows of the other queries have no ids."""
    rows, teacher = listed(world, seed), judge(world, seed, NOISE)
    rows = rows[[query in used for query in rows[:, 0].tolist()]]
    # Half of each batch is of labelled queries, as in DHO.
    own = torch.tensor([query in labelled for query in rows[:, 0].tolist()])
    sides = [torch.nonzero(side)[:, 0] for side in (own, ~own)]
    drawn = [side.repeat(-(-BATCH // len(side))) for side in sides]
    plans = [shuffled(len(side), BATCH // 2, steps + 4, seed) for side in drawn]
    return [
        _batch(world, rows[torch.cat([drawn[0][a], drawn[1][b]])], labelled, teacher)
        for a, b in zip(*plans, strict=True)
    ]


def _batch(world: Lex, rows: Tensor, labelled: set[int], teacher: Tensor) -> Batch:
    known = torch.tensor([query in labelled for query in rows[:, 0].tolist()])
    ids = torch.where(known[:, None], rows, torch.full_like(rows, -1))
    scores = teacher[rows[:, :1], rows[:, 1:]]
    documents = [world.document_tokens[rows[:, column]] for column in range(1, rows.shape[1])]
    return [world.query_tokens[rows[:, 0]], *documents], torch.cat([ids.float(), scores], 1)


def _scores(model: Any, world: Lex, head: str) -> Doubles:
    queries, documents = (
        embedded(model, tokens, head).double() for tokens in (world.query_tokens, world.document_tokens)
    )
    found: Doubles = (queries @ documents.T).numpy()
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
