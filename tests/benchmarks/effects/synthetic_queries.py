"""Synthetic queries: how much is enough, whether the stop rule and its curve tell; H-lex.

`synthesize` asks a planted generator, which writes a topic with one or two attributes for a document and is wrong in
three of ten: one attribute is none of the document's. No more than six queries fit a document. All amounts train a
static encoder of random vectors by as many steps, those that the most documents want. Where a trained retriever is
asked for, it has learned from 200 of the training queries before, and the other 200 are the held-out ones of the stop
rule. A gain of .005 and the first 3 documents are defaults. Batches of 128 at a rate of .03, for all, were chosen on
seed 100 because they reach a plateau.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from diptych import Document, Registry, hookimpl
from diptych.generation import QueryRequest
from diptych_training.data.generators import Generator
from diptych_training.data.synthetic import Synthetic, synthesize
from diptych_training.losses import ContrastiveLoss
from diptych_training.options import SyntheticQueries
from diptych_training.relevance import Relevance
from effects.lex import Lex, lex
from effects.running import Effect, each, effect, learnt, plateau
from effects.scoring import Doubles, ndcg
from effects.served import tokens_of
from effects.tiny import Encoder, Words, scores, trained

AMOUNTS, DENSITIES, SOME, WRONG, JUDGED = (125, 250, 500, 1000, 2000), (1, 2, 4, 8), 500, 0.3, 200
TRIPS = (3, 10)
SIZE, RATE = 128, 0.03  # rows of a step of the training by synthetic queries, and its rate


class Planted:
    """The generator `planted`: knows what each document holds.

    Args:
        world: its documents are called `d12`.
    """

    def __init__(self, world: Lex) -> None:
        self.world, self.topics = world, sum(word.startswith("topic") for word in world.words)
        self.attributes = sum(word.startswith("attribute") for word in world.words)

    @hookimpl
    def diptych_generate_queries(self, request: QueryRequest) -> list[list[str]] | None:
        """`question` asks for one attribute, `keywords` for two."""
        if request.generator != "planted":
            return None
        asked = 1 if request.style == "question" else 2
        return [self._of(int(document.id[1:]), asked, request) for document in request.documents]

    def _of(self, document: int, asked: int, request: QueryRequest) -> list[str]:
        random = np.random.default_rng((request.seed, 71, document, asked))
        topic, *own = sorted(self.world.held[document])
        others = np.setdiff1d(self.topics + np.arange(self.attributes), own)
        said = []
        for _ in range(request.count):
            chosen = random.choice(own, asked, replace=False)
            if random.random() < WRONG:
                chosen[0] = random.choice(others)
            said.append(f"topic{topic} " + " ".join(f"attribute{word - self.topics}" for word in sorted(chosen)))
        return said


@dataclass(frozen=True, slots=True)
class Found:
    """nDCG@10 by test query before and after, its mean over the held-out ones after, and the share of wrong queries."""

    before: Doubles
    after: Doubles
    dev: float
    wrong: float


def effects() -> list[Effect]:
    """More documents, more queries a document, the stop rule and its curve, weak and trained."""
    most: Any = {"documents": AMOUNTS[-1], "density": 2}
    steps, long_enough = plateau(lambda steps, seed: float(run(seed, steps=steps, **most).after.mean()), 100)
    at = partial(run, steps=steps)
    amounts = {n: each(partial(at, documents=n, density=2)) for n in AMOUNTS}
    densities = {n: amounts[SOME] if n == 2 else each(partial(at, documents=SOME, density=n)) for n in DENSITIES}
    strong = each(partial(at, documents=SOME, density=2, judged=True))
    start = [one.before for one in amounts[SOME]]
    rows = [
        *_doublings(amounts, "documents with 2 queries each", start),
        *_doublings(densities, f"queries for each of {SOME} documents", start),
        *_stop(amounts, start),
        *_gains(amounts[SOME], strong),
    ]
    return [replace(row, conditions=(long_enough, *row.conditions)) for row in rows]


def _doublings(found: Mapping[int, list[Found]], of: str, start: list[Doubles]) -> list[Effect]:
    after = {amount: [one.after for one in own] for amount, own in found.items()}
    return [
        _effect(f"{more:,} {of} beside {less:,}", after[less], after[more], untrained=start)
        for less, more in pairwise(after)
    ]


def _stop(amounts: Mapping[int, list[Found]], start: list[Doubles]) -> list[Effect]:
    """Where the rule ends beside the most, and the curve's word for the most beside what it is."""
    means = [[float(own[seed].after.mean()) for own in amounts.values()] for seed in range(len(amounts[SOME]))]
    ends = []
    for seed, own in enumerate(means):
        rule = doubled(partial(_dev, amounts, seed), start=AMOUNTS[0], limit=AMOUNTS[-1])
        best = max(rule, key=lambda amount: rule[amount])
        ends.append(own[AMOUNTS.index(best)])
        print(f"   seed {seed}: stopped at {max(rule)}, best {best}", flush=True)
    curves = [fitted(AMOUNTS[:-1], own[:-1]) for own in means]
    for curve in curves:
        print(f"   {curve}", flush=True)
    told, most = [curve(AMOUNTS[-1]) for curve in curves], [own[-1] for own in means]
    name = f"{AMOUNTS[-1]:,} documents"
    same: Any = {"better": "equal", "tolerance": 0.02, "untrained": start}
    return [
        _effect(f"where the stop rule ends beside {name}", most, ends, **same),
        _effect(f"curve through fewer, at {name}, beside measured", most, told, **same),
    ]


def _dev(amounts: Mapping[int, list[Found]], seed: int, amount: int) -> float:
    return amounts[amount][seed].dev


def _gains(weak: list[Found], strong: list[Found]) -> list[Effect]:
    better = [learnt([one.before for one in strong], [one.before for one in weak])]
    rows = [
        _effect(
            f"{SOME} documents beside none, {name}",
            [one.before for one in own],
            [one.after for one in own],
            conditions=conditions,
        )
        for name, own, conditions in (
            ("random vectors", weak, ()),
            (f"trained by {JUDGED} judged queries", strong, better),
        )
    ]
    gains = [[one.after - one.before for one in own] for own in (strong, weak)]
    return [*rows, _effect("gain of random vectors beside that of a trained retriever", *gains, conditions=better)]


def _effect(what: str, baseline: Any, found: Any, *, metric: str = "nDCG@10", **claimed: Any) -> Effect:
    return effect("Synthetic queries", what, "H-lex", metric, baseline, found, page="synthetic_queries", **claimed)


def run(seed: int, *, steps: int, documents: int, density: int, judged: bool = False) -> Found:
    """One training by synthetic queries.

    Args:
        seed: of all.
        steps: of the training by synthetic queries.
        documents, density: how many get how many queries.
        judged: whether the retriever has learned from judged queries before.
    """
    world = lex(seed)
    model: Encoder = Words(len(world.words), seed=seed)
    if judged:
        known = replace(world, train=world.train[:JUDGED])
        trained(known, known.rows(), ContrastiveLoss(None, relevance=known.relevance()), seed=seed, model=model)
    before = ndcg(scores(model, world), world.relevant[world.test])
    written = synthetic(world, documents, density, seed)
    model = learned(world, written, copy.deepcopy(model), seed, steps)
    held = world.train[JUDGED:]
    dev = float(ndcg(scores(model, world, held), world.relevant[held]).mean())
    return Found(before, ndcg(scores(model, world), world.relevant[world.test]), dev, wrong_of(world, written))


def synthetic(world: Lex, documents: int, density: int, seed: int) -> Synthetic:
    """What stays of the written queries; none is a test query or a held-out one."""
    options = SyntheticQueries(documents=documents, density=density)
    texts = [Document(f"d{place}", text) for place, text in enumerate(world.documents)]
    generator = Generator("planted", registry=Registry(Planted(world), installed=False))
    asked = [world.queries[place] for place in (*world.train[JUDGED:], *world.test)]
    return synthesize(texts, generator, options, seed=seed, test_queries=asked)


def learned(world: Lex, written: Synthetic, model: Encoder, seed: int, steps: int) -> Encoder:
    """The model after a training by written queries, each with its document."""
    places = {word: place for place, word in enumerate(world.words)}
    asked = replace(world, query_tokens=tokens_of([query.text for query in written.queries], places))
    rows = torch.tensor([[n, int(query.document[1:])] for n, query in enumerate(written.queries)])
    relevance = Relevance((query, document) for query, document in rows.tolist())
    loss = ContrastiveLoss(None, relevance=relevance)
    return trained(asked, rows, loss, seed=seed + 1000, model=model, steps=steps, size=SIZE, rate=RATE)


def wrong_of(world: Lex, written: Synthetic) -> float:
    """The share of the queries whose document is not what they ask for."""
    held = [set(world.documents[int(query.document[1:])].split()) for query in written.queries]
    fits = [set(query.text.split()) <= own for query, own in zip(written.queries, held, strict=True)]
    return 1 - float(np.mean(fits))


@dataclass(frozen=True, slots=True)
class Curve:
    """score = a - b n^-c: `a` is the limit, `c` the speed. `error` is the root mean squared residual."""

    a: float
    b: float
    c: float
    error: float

    def __call__(self, amount: float) -> float:
        """The score at this amount, above 0."""
        return float(self.a - self.b * amount**-self.c)


def fitted(amounts: Sequence[float], scores: Sequence[float]) -> Curve:
    """The least-squares curve with b >= 0 and c between 0.05 and 4: for each c of a grid, a and b in closed form."""
    n, y = np.asarray(amounts, np.float64), np.asarray(scores, np.float64)
    return min((_at(n, y, c) for c in np.geomspace(0.05, 4, 400)), key=lambda curve: curve.error)


def _at(n: np.ndarray, y: np.ndarray, c: float) -> Curve:
    x = n**-c
    spread = x - x.mean()
    b = max(0.0, -float(spread @ y) / float(spread @ spread)) if spread.any() else 0.0
    a = float(y.mean() + b * x.mean())
    return Curve(a, b, float(c), float(np.sqrt(np.mean((y - a + b * x) ** 2))))


def doubled(measure: Callable[[int], float], *, start: int, limit: int, gain: float = 0.005) -> dict[int, float]:
    """Scores at `start`, twice that, and so on, until a doubling gains less than `gain` or `limit` would be passed."""
    amount, scores = start, {start: measure(start)}
    while 2 * amount <= limit:
        scores[2 * amount] = measure(2 * amount)
        amount *= 2
        if scores[amount] - scores[amount // 2] < gain:
            break
    return scores
