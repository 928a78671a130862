"""UniDEC: pools of a tenth of the documents, and a classifier beside the dual encoder; H-lex.

Documents are labels, and few topics make that several queries ask for each of them. Nothing is tuned: tau 1/18 as
published, hard negatives looked up every 5 epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from diptych_experimental.unidec import LabelTable, PSLLoss
from diptych_experimental.unidec_encoder import CLASSIFIER
from diptych_training.losses import ContrastiveLoss
from diptych_training.recipes.dexml import LabelPool, hard_negatives
from effects.lex import Lex, lex
from effects.running import Effect, each, effect, plateau
from effects.scoring import Doubles, precision, recall
from effects.tiny import BATCH, RATE, STEPS, WIDTH, Encoder, Words, scores, searched
from effects.vec import shuffled
from effects.world import Mask, World

DOCUMENTS, EVERY, TAU = 1000, 5, 1 / 18
SIZE = DOCUMENTS // 10


def effects() -> list[Effect]:
    """Pools beside all documents, pools beside one positive, both heads beside each."""
    steps, long_enough = plateau(lambda steps, seed: float(pooled(seed, size=None, steps=steps).mean()), limit=1600)
    told: Any = {"page": "unidec", "conditions": [long_enough], "untrained": each(partial(pooled, size=None, steps=0))}
    every, some = (each(partial(pooled, size=size, steps=steps)) for size in (None, SIZE))
    alone = "a pool of 10 % beside one positive and the batch"
    rows = [
        effect(
            "UniDEC: PSL", "a pool of 10 % of the documents beside all", "H-lex", "P@1", every, some,
            better="equal", tolerance=0.02, **told,
        ),
        effect("UniDEC: PSL", alone, "H-lex", "P@1", each(partial(one_positive, steps=steps)), some, **told),
    ]  # fmt: skip
    heads, untrained = (each(partial(both_heads, steps=count)) for count in (steps, 0))
    for bucket in ("often asked for", "seldom"):
        for head in ("dual encoder", "classifier"):
            sides = [[one[way][bucket] for one in heads] for way in (head, "joint")]
            told["untrained"] = [one[head][bucket] for one in untrained]
            what = f"both heads beside the {head} alone, documents {bucket}"
            rows.append(effect("UniDEC: joint", what, "H-lex", "recall@10", *sides, **told))
    return rows


def world_of(seed: int) -> Lex:
    """A world in which the middle document is asked for by two training queries."""
    return lex(seed, topics=25, attributes=20, documents=DOCUMENTS)


def pool_of(world: Lex, size: int | None, seed: int) -> LabelPool:
    """Pools for the training queries."""
    positives = {int(query): np.flatnonzero(world.relevant[query]).tolist() for query in world.train}
    return LabelPool(positives, documents=len(world.documents), size=size, seed=seed)


def pooled(seed: int, *, size: int | None, steps: int) -> Doubles:
    """P@1 of each test query after a training with pools, by the decoupled softmax."""
    world = world_of(seed)
    pool = pool_of(world, size, seed)
    model = fitted(
        Words(len(world.words), seed=seed),
        ContrastiveLoss(None, tau=TAU, relevance=pool.relevance),
        world,
        pool,
        seed=seed,
        steps=steps,
    )
    return precision(scores(model, world), world.relevant[world.test], 1)


def one_positive(seed: int, *, steps: int) -> Doubles:
    """P@1 of each test query after as many steps of InfoNCE, which takes the batch's other documents as negatives."""
    world = world_of(seed)
    found = searched(world, ContrastiveLoss(None, tau=TAU), seed=seed, steps=steps, labels=unknown)
    return precision(found, world.relevant[world.test], 1)


def unknown(places: Tensor) -> Tensor:
    """Ids of which nothing is known."""
    return torch.full((len(places), 2), -1)


class Heads(Encoder):
    """Vectors of words with the head of a classifier and its table."""

    def __init__(self, world: Lex, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.words = Words(len(world.words), seed=seed)
        self.head, self.table = torch.nn.Linear(WIDTH, WIDTH), LabelTable(len(world.documents), WIDTH)

    def embed(self, tokens: Tensor) -> Tensor:
        """The embeddings of the dual encoder."""
        return self.words.embed(tokens)

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The embeddings of both heads."""
        found = self.embed(features["input_ids"])
        return {"sentence_embedding": found, CLASSIFIER: self.head(found)}


def both_heads(seed: int, *, steps: int) -> dict[str, dict[str, Doubles]]:
    """The recall@10 of each test query that has a document in a bucket, by way to answer and bucket."""
    world = world_of(seed)
    pool = pool_of(world, SIZE, seed)
    model = Heads(world, seed)
    fitted(model, PSLLoss(model, relevance=pool.relevance, tau=TAU), world, pool, seed=seed, steps=steps)
    dense = scores(model, world)
    with torch.no_grad():
        asked = model.head(model.embedded(world.query_tokens[torch.from_numpy(world.test)]))
        classified = (normalize(asked.double()) @ normalize(model.table.weight.double()).T).numpy()
    ways = {"dual encoder": dense, "classifier": classified, "joint": dense + classified}
    often = world.relevant[world.train].sum(0) > 2
    buckets = {"often asked for": often, "seldom": ~often}
    return {way: {name: found_in(own, world, chosen) for name, chosen in buckets.items()} for way, own in ways.items()}


def found_in(found: Doubles, world: Lex, chosen: Mask) -> Doubles:
    """The recall@10 of the test queries that have relevant documents among the chosen ones, by these alone."""
    relevant = world.relevant[world.test] & chosen
    there = relevant.any(1)
    return recall(found[there], relevant[there], 10)


def fitted(
    model: Encoder, loss: Any, world: World, pool: LabelPool, *, seed: int, steps: int = STEPS, rate: float = RATE
) -> Encoder:
    """The model after a training with pools; their hard negatives are looked up again as it moves."""
    loss.model = model
    adam = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    plan = torch.optim.lr_scheduler.LambdaLR(adam, lambda n: min(10 * (n + 1), (steps - n) / 0.9) / max(1, steps))
    numbers = list(pool.positives)
    for step, places in enumerate(shuffled(len(numbers), BATCH, steps, seed)):
        if pool.size is not None and step % (EVERY * (len(numbers) // BATCH)) == 0:
            pool.negatives = mined(model, world, pool)
        model.train()
        adam.zero_grad()
        drawn = pool.draw([numbers[place] for place in places])
        queries, documents = torch.tensor(numbers)[places][drawn.query_rows], torch.from_numpy(drawn.documents)
        features = [{"input_ids": world.query_tokens[queries]}, {"input_ids": world.document_tokens[documents]}]
        loss(features, torch.cat([queries, documents])).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        plan.step()
    return model


def mined(model: Encoder, world: World, pool: LabelPool) -> dict[int, Any]:
    """The nearest documents of each query that are not relevant."""
    asked, held = world.query_tokens[torch.tensor(list(pool.positives))], world.document_tokens
    units = [normalize(model.embedded(tokens)).numpy() for tokens in (asked, held)]
    return dict(hard_negatives(units[0], units[1], pool.positives, pool.num_neg * EVERY))
