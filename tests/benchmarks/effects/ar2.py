"""AR2 beside hard negatives that are mined once; H-lex.

A retriever is warmed up with in-batch negatives, a ranker of the same shape on the retriever's hard negatives. Then AR2
plays three rounds, or the retriever trains as many steps by InfoNCE on the hard negatives of its warm-up. AR2's ranker
steps come on top. The judge of hardness is the ranker as it was after its warm-up, the same in all rounds.

Made small before anything was measured, so that all seeds take some minutes: 600 documents of 15 topics, 100 training
and 60 test queries, a BERT 32 wide, rounds of 30 steps. Nothing is tuned. The method wants a ranker that orders the
retriever's best 20 documents better than the retriever, on queries that neither was trained on; rows say whether it
does.

What fools a ranker best is relevant and not judged. In games of their own one relevant document of each query is
judged, and how many of the negatives of each round are relevant is counted by all judgements.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diptych_training.ar2_rounds import AR2, Game, Mined, Round
from diptych_training.data.model_candidates import mine
from diptych_training.losses import ContrastiveLoss, RetrievalLoss
from diptych_training.relevance import Relevance
from diptych_training.running import family
from effects.lex import Lex, lex
from effects.running import Effect, above, each, effect
from effects.scoring import Doubles, ndcg, recall
from effects.tiny import saved

Relevant = Mapping[int, list[int]]
WARM, BATCH, K, WIDTH = 150, 16, 20, 32
WORLD: dict[str, Any] = {"topics": 15, "documents": 600, "train": 100, "test": 60}
GAME = Game(
    rounds=3,
    ranker_steps=20,
    retriever_steps=30,
    warm_ranker_steps=200,
    negatives=3,
    batch_size=BATCH,
    ranker_rate=1e-3,
    retriever_rate=3e-4,
)


@dataclass(frozen=True, slots=True)
class Found:
    """Recall by test query before and after the warm-up, after static negatives, AR2, and AR2 without its term; rounds.

    Then, after the warm-up, nDCG@10 of the retriever's best 20 in the order of the ranker and in its own.
    """

    untrained: Doubles
    warm: Doubles
    static: Doubles
    ar2: Doubles
    calm: Doubles
    rounds: list[Round]
    by_ranker: Doubles
    by_retriever: Doubles


def effects() -> list[Effect]:
    """AR2 beside static negatives, its adversarial term beside none, and what its rounds saw."""
    games = each(run)
    ar2 = [one.ar2 for one in games]
    both = ("H-lex", f"recall@{K}", [one.static for one in games], ar2)
    without = ("H-lex", f"recall@{K}", [one.calm for one in games], ar2)
    first, last = ([one.rounds[n].hardness for one in games] for n in (0, -1))
    shares = each(unjudged)
    early, late = ([own[n] for own in shares] for n in (0, -1))
    hidden = ("H-lex", "share of negatives that are relevant", early, late)
    for one in games:
        told = ", ".join(f"{own.hardness:.3f}" for own in one.rounds)
        print(f"   recall@{K} warm {one.warm.mean():.3f}; hardness by round {told}", flush=True)
    better = [above("ranker", [own.by_ranker for own in games], "retriever", [own.by_retriever for own in games])]
    start = [one.untrained for one in games]
    more: Any = {"page": "ar2", "conditions": better}
    rows = [
        effect("AR2", "beside static hard negatives, equal retriever steps", *both, untrained=start, **more),
        effect("AR2", "adversarial weight 0.5 beside 0", *without, untrained=start, **more),
    ]
    more["conditions"] = rows[0].conditions  # what follows is no quality
    return [
        *rows,
        effect("AR2", "negatives of round 3 beside round 1", "H-lex", "hardness", first, last, **more),
        effect("AR2", "round 3 beside round 1, one judgement a query", *hidden, better="lower", **more),
    ]


def run(seed: int) -> Found:
    """All ways from the same warm retriever, both games with the same warm ranker."""
    world = lex(seed, **WORLD)
    relevant = {int(query): np.flatnonzero(world.relevant[query]).tolist() for query in world.train}
    retriever, ranker = warmed(world, relevant, seed)
    warm, static = found(world, retriever), copy.deepcopy(retriever)
    mined = mine(static, world.queries, world.documents, relevant, GAME.negatives)
    rows = [[query, document, *mined[query]] for query, document in pairs(relevant)]
    steps = GAME.rounds * GAME.retriever_steps
    contrast(world, static, rows, relevant, steps, rate=GAME.retriever_rate, seed=seed + 1)
    game = AR2(retriever, ranker, world.queries, world.documents, relevant, game=GAME, seed=seed)
    game.warm()
    orders = reranked(world, retriever, ranker)
    calm = _calm(game)
    rounds = [game.play(number) for number in range(1, GAME.rounds + 1)]
    for number in range(1, GAME.rounds + 1):
        calm.play(number)
    start = found(world, untrained(world, seed)[0])
    after = (found(world, static), found(world, retriever), found(world, calm.retriever))
    return Found(start, warm, *after, rounds, *orders)


def _calm(warm: AR2) -> AR2:
    """The same game after its warm-up, with models of its own and without the adversarial term."""
    models = copy.deepcopy(warm.retriever), copy.deepcopy(warm.ranker)
    own = AR2(*models, warm.queries, warm.documents, warm.relevant, game=replace(GAME, adv_weight=0.0), seed=warm.seed)
    own.load_state(warm.state())
    return own


class Counting(AR2):
    """A game that counts which share of the negatives of each round is relevant, by all judgements of the world."""

    def __init__(self, world: Lex, relevant: Relevant, seed: int) -> None:
        super().__init__(*warmed(world, relevant, seed), world.queries, world.documents, relevant, game=GAME, seed=seed)
        self.truth, self.shares = world.relevant, list[float]()

    def mined(self) -> Mined:
        """As `AR2`; the first is that of the warm-up."""
        mined = super().mined()
        self.shares.append(float(np.mean([self.truth[query, own] for query, own in mined.items()])))
        return mined


def unjudged(seed: int) -> list[float]:
    """The share of relevant documents among the negatives of each round, where one a query is judged."""
    world = lex(seed, **WORLD)
    game = Counting(world, {int(query): [int(world.relevant[query].argmax())] for query in world.train}, seed)
    list(game.rounds())
    return game.shares[1:]


def warmed(world: Lex, relevant: Relevant, seed: int) -> tuple[Any, Any]:
    """A retriever that has had its warm-up, and a ranker of the same first weights."""
    retriever, ranker = untrained(world, seed)
    contrast(world, retriever, pairs(relevant), relevant, WARM, rate=1e-3, seed=seed)
    return retriever, ranker


def untrained(world: Lex, seed: int) -> tuple[Any, Any]:
    """Both before they learn anything."""
    from sentence_transformers import CrossEncoder, SentenceTransformer

    with tempfile.TemporaryDirectory() as place:
        folder = str(saved(world, Path(place) / "bert", seed=seed, width=WIDTH))
        retriever = SentenceTransformer(folder, device="cpu")
        ranker = CrossEncoder(folder, num_labels=1, device="cpu", activation_fn=torch.nn.Identity())
    return retriever, ranker


def pairs(relevant: Relevant) -> list[list[int]]:
    """Each query with each of its relevant documents."""
    return [[query, document] for query, own in relevant.items() for document in own]


def contrast(
    world: Lex, model: Any, rows: list[list[int]], relevant: Relevant, steps: int, *, rate: float, seed: int
) -> None:
    """Steps of InfoNCE over rows (query, document, negatives), with what is relevant known, as AR2's own trainings."""
    from datasets import Dataset
    from transformers import PrinterCallback

    known = Relevance((query, document) for query, own in relevant.items() for document in own)
    loss: RetrievalLoss = ContrastiveLoss(model, relevance=known)
    columns: dict[str, Any] = {"query": [world.queries[row[0]] for row in rows], "label": rows}
    columns |= {f"document_{n}": [world.documents[row[n]] for row in rows] for n in range(1, len(rows[0]))}
    with tempfile.TemporaryDirectory() as folder:
        given = family("dense").arguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            learning_rate=rate,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            logging_strategy="no",
            disable_tqdm=True,
            seed=seed,
        )
        data = Dataset.from_dict(columns)
        trainer = family("dense").trainer(model=model, args=given, train_dataset=data, loss=loss)
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def found(world: Lex, model: Any) -> Doubles:
    """Recall of each test query."""
    return recall(cosines(world, model), world.relevant[world.test], K)


def cosines(world: Lex, model: Any) -> Doubles:
    """Of the test queries with all documents `[queries, documents]`."""
    queries, documents = (
        model.encode(texts, batch_size=128, normalize_embeddings=True, show_progress_bar=False)
        for texts in ([world.queries[n] for n in world.test], list(world.documents))
    )
    return np.asarray(queries @ documents.T, np.float64)


def reranked(world: Lex, retriever: Any, ranker: Any) -> tuple[Doubles, Doubles]:
    """nDCG@10 of the retriever's best 20 in the ranker's order and in its own, by query with a relevant one there."""
    scores, relevant = cosines(world, retriever), world.relevant[world.test]
    best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    there = np.take_along_axis(relevant, best, 1)
    asked = [
        (world.queries[query], world.documents[own]) for query, row in zip(world.test, best, strict=True) for own in row
    ]
    ranked = np.asarray(ranker.predict(asked, batch_size=128, show_progress_bar=False), np.float64).reshape(best.shape)
    some = there.any(1)
    return ndcg(ranked[some], there[some]), ndcg(np.take_along_axis(scores, best, 1)[some], there[some])
