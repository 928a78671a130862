"""Gradient caching: the same training in pieces of 8 rows as in whole batches of 64; H-lex. No effect is expected."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from diptych_training.losses import CachedLoss, ContrastiveLoss
from effects.lex import lex
from effects.running import Effect, each, effect
from effects.scoring import Doubles, ndcg
from effects.tiny import Words, scores
from effects.vec import shuffled

STEPS, BATCH = 60, 64


def effects() -> list[Effect]:
    """The same, or not."""
    sides = [each(partial(run, cached=on)) for on in (False, True)]
    untrained = each(partial(run, cached=False, steps=0))
    what = f"pieces of 8 beside whole batches of {BATCH}"
    told: Any = {"better": "equal", "tolerance": 0.002, "page": "contrastive", "untrained": untrained}
    return [effect("Gradient caching", what, "H-lex", "nDCG@10", *sides, **told)]


def run(seed: int, *, cached: bool, steps: int = STEPS) -> Doubles:
    """nDCG@10 by test query after a short training through the losses' own `forward`."""
    world = lex(seed)
    rows, model = world.rows(), Words(len(world.words), seed=seed)
    inner = ContrastiveLoss(model, relevance=world.relevance())
    loss = CachedLoss(inner, mini_batch_size=8) if cached else inner
    adam = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for places in shuffled(len(rows), BATCH, steps, seed):
        own = rows[places]
        texts = (world.query_tokens[own[:, 0]], world.document_tokens[own[:, 1]])
        features = [{"input_ids": tokens, "attention_mask": (tokens > 0).long()} for tokens in texts]
        adam.zero_grad()
        loss(features, own).backward()
        adam.step()
    return ndcg(scores(model, world), world.relevant[world.test])
