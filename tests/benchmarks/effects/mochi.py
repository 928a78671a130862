"""MoCHi on real text: a queue of earlier batches, mixed hard negatives, and a slow copy for the queue; H-deb.

The queue stands beside the batch of 32 alone. Mixes, and a slow copy of the encoder that makes the queue's vectors,
stand beside the queue by itself. Each side has the best of three taus on seed 100. The size of the queue was tuned too,
then the momentum of the slow copy, and whether mixes with the query are made beside 64 of two others. Mixing begins
after a quarter of the steps. `mochi_mask` has what relevance does to the queue.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any, NamedTuple

import torch

from diptych_training.losses import ContrastiveLoss, Mixing, with_extra_negatives
from effects.deb import RATE, Real, averaged, deb, tags
from effects.running import FEW, ONE, Effect, best, each, effect, plateau
from effects.scoring import Doubles, ndcg
from effects.tiny import scores, trained

TAUS, QUEUES, MOMENTA, WITH_QUERY = (0.05, 0.1, 0.2), (256, 1024), (0.9, 0.99, 0.999), (0, 16)
SHAPES = {"H-deb": (32, RATE), "H-tag": (128, 0.01)}  # rows of a step, and its rate
FIRST = 400  # steps of the first tuning


class Setting(NamedTuple):
    """Further negatives of a training on real text.

    `queue` is its size and `momentum` that of a slow copy. `with_query` counts the mixes with the query beside 64
    others, None mixes nothing. `masked` is whether the loss knows judgements.
    """

    tau: float
    queue: int = 0
    momentum: float | None = None
    with_query: int | None = None
    masked: bool = True


def effects() -> list[Effect]:
    """The queue beside none, then what is done to it beside the queue alone."""
    plain = best(partial(quality, "H-deb", FIRST), [Setting(tau) for tau in TAUS], ONE)
    steps, enough = plateau(lambda steps, seed: quality("H-deb", steps, plain, seed), seeds=ONE, of="no queue")
    queue = best(partial(quality, "H-deb", steps), [Setting(*own) for own in product(TAUS, QUEUES)], ONE)
    longer, queue_enough = plateau(lambda steps, seed: quality("H-deb", steps, queue, seed), seeds=ONE, of="queue")
    size, tried = queue.queue, partial(quality, "H-deb", longer)
    twin = best(tried, [queue._replace(momentum=momentum) for momentum in MOMENTA], ONE)
    mixed = best(tried, [Setting(tau, size, None, own) for tau, own in product(TAUS, WITH_QUERY)], ONE)
    both = mixed._replace(momentum=twin.momentum)
    found = {own: each(partial(run, "H-deb", longer, own), FEW) for own in (queue, twin, mixed, both)}
    short = [each(partial(run, "H-deb", steps, own), FEW) for own in (plain, queue)]
    start = each(partial(run, "H-deb", 0, plain), FEW)
    told: Any = {"page": "contrastive", "untrained": start, "same_queries": True}
    after: Any = {**told, "conditions": [queue_enough]}
    name, slow = f"queue of {size}", f"momentum {twin.momentum}"
    at = ("H-deb", "nDCG@10")
    return [
        effect("MoCHi", f"{name} beside none", *at, *short, conditions=[enough], **told),
        effect("MoCHi", f"mixed negatives beside none, {name}", *at, found[queue], found[mixed], **after),
        effect(
            "MoCHi", f"{name} by a slow copy, {slow}, beside the encoder's", *at, found[queue], found[twin], **after
        ),
        effect("MoCHi", f"mixed negatives beside none, {name} by a slow copy", *at, found[twin], found[both], **after),
    ]


def quality(harness: str, steps: int, setting: Setting, seed: int) -> float:
    """The mean of nDCG@10."""
    return float(run(harness, steps, setting, seed).mean())


def run(harness: str, steps: int, setting: Setting, seed: int) -> Doubles:
    """nDCG@10 by test query on real text; the loop calls what the slow copy needs, as the loss's `forward` does."""
    world: Real = (tags if harness == "H-tag" else deb)(seed)
    (size, rate), model, rows = SHAPES[harness], averaged(world.pieces), world.rows()
    loss = ContrastiveLoss(model, tau=setting.tau, relevance=world.relevance() if setting.masked else None)
    mixing = None
    if setting.with_query is not None:
        mixing = Mixing(hardest=64, pairs=64, with_query=setting.with_query, start_step=steps // 4, seed=seed)
    if setting.queue:
        with_extra_negatives(loss, mixing=mixing, queue=setting.queue, momentum=setting.momentum)
    loss.model = None  # the loop trains it; the slow copy has it already

    def labels(places: torch.Tensor) -> torch.Tensor:
        own = rows[places]
        texts = (world.query_tokens[own[:, 0]], world.document_tokens[own[:, 1]])
        loss.look_at([{"input_ids": tokens} for tokens in texts])
        return own

    trained(world, rows, loss, seed=seed, steps=steps, size=size, rate=rate, model=model, labels=labels)
    return ndcg(scores(model, world), world.relevant[world.test])
