"""AR2 with a ranker that goes on learning, beside one that stands still and beside hard negatives without any; H-deb.

The retriever is the mean of word vectors, warmed up for 200 steps by InfoNCE. The ranker is the trained cross-encoder
of `effects.teacher`, which has not seen these queries; it reads 48 tokens of a pair. On test queries it has to order
the retriever's best 20 documents better than the retriever.

Three rounds follow, each with negatives mined anew: the retriever trains against the ranker, which does or does not
learn as well. Without a ranker the retriever trains as many steps, at the same rate, by InfoNCE over the batch and the
negatives that are mined first. Nothing is tuned.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych.protocols import Pair
from diptych_experimental.ar2 import AR2, GameOptions, Mined, Round, RoundsTraining, mine
from diptych_training.losses import ContrastiveLoss
from diptych_training.trained_module import TrainedModule
from effects.deb import RATE, Real, averaged, deb, train
from effects.distill import BATCH
from effects.running import FEW, ONE, Effect, above, each, effect, plateau
from effects.scoring import Doubles, ndcg
from effects.teacher import TAU, taught, warm
from effects.tiny import Encoder, scores

Features = dict[str, Tensor]
ROUNDS, RANKER_STEPS, RANKER_RATE, NEGATIVES, K = 3, 30, 2e-5, 7, 20
START, LIMIT = 100, 800
READ, JUDGED = 48, 100  # tokens of a pair that the ranker reads; queries that judge it and its negatives


@dataclass(frozen=True, slots=True)
class Found:
    """nDCG@10 of the retriever by test query: after static negatives, and after each game.

    `ranker` and `retriever` order the warm retriever's best 20 documents of each test query that has a relevant one
    there.
    """

    static: Doubles
    still: Doubles
    ar2: Doubles
    rounds: list[Round]
    ranker: Doubles
    retriever: Doubles


def effects() -> list[Effect]:
    """AR2 beside static negatives, beside a ranker that stands still, and what its rounds saw."""
    steps, long_enough = plateau(lambda steps, seed: float(static(steps, seed).mean()), START, LIMIT, ONE)
    games = each(partial(run, steps), FEW)
    better = above("ranker", [one.ranker for one in games], "retriever", [one.retriever for one in games])
    plain, still, ar2 = ([getattr(one, way) for one in games] for way in ("static", "still", "ar2"))
    more: Any = {"page": "ar2", "same_queries": True, "conditions": [long_enough, better]}
    more["untrained"] = each(partial(static, 0), FEW)
    rows = [
        ("the ranker learns, beside static hard negatives", plain, ar2),
        ("the ranker learns, beside one that stands still", still, ar2),
        ("such a ranker stands still, beside static hard negatives", plain, still),
    ]
    found = [effect("AR2", what, "H-deb", "nDCG@10", left, right, **more) for what, left, right in rows]
    early, late = ([one.rounds[n].hardness for one in games] for n in (0, -1))
    told: Any = {"page": "ar2", "conditions": found[0].conditions}  # what follows is no quality
    return [*found, effect("AR2", "negatives of round 3 beside round 1", "H-deb", "hardness", early, late, **told)]


def run(steps: int, seed: int) -> Found:
    """All ways from the same warm retriever, the games with the same ranker."""
    still, ar2 = (played(steps, seed, ranker_steps) for ranker_steps in (0, RANKER_STEPS))
    found = Found(static(steps, seed), still[0], *ar2, *reranked(seed))
    told = ", ".join(f"{own.hardness:.3f}/{own.fooled:.3f}" for own in found.rounds)
    print(f"   seed {seed}: hardness/fooled by round {told}", flush=True)
    return found


def static(steps: int, seed: int) -> Doubles:
    """nDCG@10 by test query after InfoNCE on hard negatives that are mined once; 0 steps: without any training."""
    world = deb(seed)
    if not steps:
        return measured(world, averaged(world.pieces))
    model, relevant = copy.deepcopy(warm(seed)), judged(world)
    mined = mine(retriever_of(world, model), world.queries, world.documents, relevant, NEGATIVES)
    rows = torch.tensor([[query, own, *mined[query]] for query in mined for own in relevant[query]])
    loss = ContrastiveLoss(None, tau=TAU, relevance=world.relevance())
    return measured(world, train(world, rows, loss, seed=seed, steps=steps, model=model, size=BATCH))


def played(steps: int, seed: int, ranker_steps: int) -> tuple[Doubles, list[Round]]:
    """nDCG@10 by test query after a game of so many steps of the retriever, and its rounds."""
    world, model = deb(seed), copy.deepcopy(warm(seed))
    settings = GameOptions(
        rounds=ROUNDS,
        ranker_steps=ranker_steps,
        retriever_steps=steps // ROUNDS,
        warm_ranker_steps=0,
        ranker_rate=RANKER_RATE,
        tau=TAU,
    )
    both = RoundsTraining(batch_size=BATCH, learning_rate=RATE, weight_decay=0.0)
    more: Any = {"game": settings, "training": both, "negatives": NEGATIVES, "seed": seed}
    retriever = retriever_of(world, model)
    game = Briefly(retriever, ranker(), world.queries, world.documents, judged(world), **more)
    game.warm()
    rounds = [game.play(number) for number in range(1, game.game.rounds + 1)]
    return measured(world, model), rounds


class Briefly(AR2):
    """The game; how hard negatives are is judged by those of few queries."""

    def preference(self, ranker: Any, mined: Mined) -> float:
        """As `AR2`."""
        return super().preference(ranker, dict(islice(mined.items(), JUDGED)))


def retriever_of(world: Real, model: Encoder) -> Any:
    """The model as sentence-transformers wants it; it is trained in place."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(modules=[Texts(world, model)], device="cpu")


def ranker() -> Any:
    """A copy of the trained cross-encoder, in bfloat16; its word vectors stay."""
    from sentence_transformers import CrossEncoder

    model = taught()
    model.max_seq_length = READ
    model.transformers_model.get_input_embeddings().weight.requires_grad_(False)
    return CrossEncoder(modules=[Pairs(model)], device="cpu", activation_fn=torch.nn.Identity())


class Texts(TrainedModule):
    """A model that finds the tokens of a text by the text."""

    def __init__(self, world: Real, model: Encoder) -> None:
        super().__init__()
        self.model, self.read = model, read_texts(world)

    def preprocess(self, inputs: Sequence[str], **_: Any) -> Features:
        """Texts to tokens."""
        return self.read(inputs)

    def forward(self, features: Features, **_: Any) -> Features:
        """The features with `sentence_embedding`."""
        return {**features, **self.model(features)}


class Pairs(TrainedModule):
    """A cross-encoder whose own arithmetic alone is in bfloat16."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def preprocess(self, inputs: Sequence[Pair], **more: Any) -> Features:
        """Pairs of texts to tokens."""
        found: Features = self.model.preprocess(inputs, **more)
        return found

    def forward(self, features: Features, **_: Any) -> Features:
        """The features with `scores`, `[n]`."""
        with torch.autocast("cpu", torch.bfloat16):
            found = self.model(features)
        return {**features, "scores": found["scores"].float()}


def read_texts(world: Real) -> Callable[[Sequence[str]], Features]:
    """The tokens of texts."""
    long = world.document_tokens.shape[1] - world.query_tokens.shape[1]
    tokens = torch.cat([torch.nn.functional.pad(world.query_tokens, (0, long)), world.document_tokens])
    places = {text: place for place, text in enumerate([*world.queries, *world.documents])}
    return lambda texts: {"input_ids": tokens[[places[text] for text in texts]]}


def judged(world: Real) -> dict[int, list[int]]:
    """The relevant documents of each training query."""
    return {int(query): np.flatnonzero(world.relevant[query]).tolist() for query in world.train}


def measured(world: Real, model: Encoder) -> Doubles:
    """nDCG@10 of each test query."""
    return ndcg(scores(model, world), world.relevant[world.test])


def reranked(seed: int) -> tuple[Doubles, Doubles]:
    """nDCG@10 of the warm retriever's best 20 in the order of the ranker and in its own."""
    world = deb(seed)
    asked = world.test[:JUDGED]
    own = scores(warm(seed), world, asked)
    best = np.argsort(-own, axis=1, kind="stable")[:, :K]
    there = np.take_along_axis(world.relevant[asked], best, 1)
    pairs = [(world.queries[query], world.documents[d]) for query, row in zip(asked, best, strict=True) for d in row]
    ranked = ranker().predict(pairs, batch_size=128, show_progress_bar=False).reshape(best.shape)
    some = there.any(1)
    return ndcg(ranked[some], there[some]), ndcg(np.take_along_axis(own, best, 1)[some], there[some])
