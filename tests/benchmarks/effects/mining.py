"""Mined hard negatives beside those of the batch, all relevant documents judged or one a query; H-lex and H-deb.

A static encoder is warmed up with in-batch negatives alone for 200 steps. Then it trains on with four further negatives
a row: random ones, or what `diptych_training.data.mining` mines with the warm model at its default ranks, filled up
with random ones as recipes do. All train on for as many steps, those that the batch's negatives alone take. Where one
relevant document a query is judged, the others are false negatives that the filter is for; no loss and no mining knows
of them, and training has one row a query.

*New queries* are of a warm-up with the first half of the training queries, all else with the other half. They were
added after the rest had been seen: on a tuning seed a model puts the judged document of 99 of 100 queries that it was
trained with first and far above all others, so that no filter finds what is near it.

`relative` is .95 as NV-Retriever has it, tau .05. Batches of 128 at a rate of .03, on both sides, were
chosen on seed 100 because the batch's negatives alone reach a plateau with them.

On H-deb, real text with one relevant document a query, the rate is .003. What is relevant there and not judged is not
known, so the share of false negatives is not either.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych_training.data.mining import mine
from diptych_training.losses import ContrastiveLoss
from diptych_training.options import NegativesOptions
from diptych_training.relevance import Relevance
from effects.deb import RATE as REAL_RATE
from effects.deb import averaged, deb
from effects.lex import lex
from effects.running import FEW, Condition, Effect, each, effect, learnt, plateau
from effects.scoring import Doubles, ndcg
from effects.served import source_of
from effects.tiny import RATE as WARM_RATE
from effects.tiny import Encoder, Words, scores, trained
from effects.world import World

EACH = 4  # negatives of a row
SIZE, RATE = 128, 0.03  # rows of a step after the warm-up, and its rate
Draw = Callable[[World, Encoder, Tensor, int], Tensor]
Told = tuple[Condition, list[Doubles]]  # whether the training was long enough, and nDCG@10 of the untrained encoder


@dataclass(frozen=True, slots=True)
class Found:
    """nDCG@10 by test query, and the share of the drawn negatives that are relevant."""

    ndcg: Doubles
    wrong: float


def effects() -> list[Effect]:
    """Mined beside the batch's and random ones, then each filter beside none."""
    steps, long_enough = plateau(lambda steps, seed: float(run(none_drawn, seed, one=False, steps=steps).ndcg.mean()))
    whole = {name: each(partial(run, draw, one=False, steps=steps)) for name, draw in WAYS.items() if name in WHOLE}
    one = {name: each(partial(run, draw, one=True, steps=steps)) for name, draw in WAYS.items()}
    rows, told = list[Effect](), (long_enough, each(untrained))
    for name in ("the batch's", "random"):
        rows.append(_effect(f"mined beside {name}, all judged", whole[name], whole["none"], told))
        rows.append(_effect(f"mined, no filter, beside {name}, one judged", one[name], one["none"], told))
    new = {
        name: each(partial(run, draw, one=True, new=True, steps=steps))
        for name, draw in WAYS.items()
        if name != "random"
    }
    return [*rows, *_filters(one, "one judged", told), *_filters(new, "one judged, new queries", told), *_real()]


def _real() -> list[Effect]:
    """Random and mined ones beside the batch's, and the relative filter beside none."""
    steps, long_enough = plateau(
        lambda steps, seed: float(run(none_drawn, seed, one=False, steps=steps, real=True).ndcg.mean()), 100
    )
    found = {name: each(partial(run, draw, one=False, steps=steps, real=True), FEW) for name, draw in WAYS.items()}
    told = long_enough, each(partial(untrained, real=True), FEW)
    return [
        _effect(what, found[side], found[name], told, real=True)
        for what, side, name in (
            ("random beside the batch's", "the batch's", "random"),
            ("mined, no filter, beside the batch's", "the batch's", "none"),
            ("mined, relative 0.95, beside the batch's", "the batch's", "relative 0.95"),
            ("mined, relative 0.95, beside random", "random", "relative 0.95"),
            ("relative 0.95 beside no filter", "none", "relative 0.95"),
        )
    ]


def _filters(found: Mapping[str, list[Found]], where: str, told: Told) -> list[Effect]:
    """The filter beside none and beside the batch's negatives."""
    name, none = "relative 0.95", found["none"]
    return [
        _effect(f"{name} beside no filter, {where}", none, found[name], told),
        _effect(f"{name} beside no filter, {where}", none, found[name], told, wrong=True),
        _effect(f"mined, {name}, beside the batch's, {where}", found["the batch's"], found[name], told),
    ]


def _effect(
    what: str, baseline: list[Found], found: list[Found], told: Told, *, wrong: bool = False, real: bool = False
) -> Effect:
    conditions = [told[0], learnt([one.ndcg for one in baseline], told[1])]
    given: Any = {"page": "mining", "conditions": conditions, "same_queries": real}
    if wrong:
        sides: list[list[Any]] = [[one.wrong for one in side] for side in (baseline, found)]
        return effect("Hard negatives", what, "H-lex", "false negatives", *sides, better="lower", **given)
    sides = [[one.ndcg for one in side] for side in (baseline, found)]
    return effect("Hard negatives", what, "H-deb" if real else "H-lex", "nDCG@10", *sides, **given)


def run(draw: Draw, seed: int, *, one: bool, steps: int, new: bool = False, real: bool = False) -> Found:
    """One training after the warm-up.

    Args:
        draw: gives each row `(query, document)` further documents.
        seed: of all.
        one: whether one relevant document of a query is judged, or all.
        steps: after the warm-up.
        new: warm up with the first half of the training queries, then train with the other.
        real: H-deb in place of H-lex.
    """
    world, start = _world(seed, real)
    first_rate, rate = (REAL_RATE, REAL_RATE) if real else (WARM_RATE, RATE)
    pairs = known(world, seed, one=one)
    first = pairs[:, 0] < len(world.train) // 2
    before, after = (pairs[first], pairs[~first]) if new else (pairs, pairs)
    warm = trained(world, before, _loss(before), seed=seed, model=start, rate=first_rate)
    rows = torch.cat([after, draw(world, warm, after, seed)], 1)
    model = trained(
        world, rows, _loss(after), seed=seed + 1000, model=copy.deepcopy(warm), steps=steps, size=SIZE, rate=rate
    )
    wrong = world.relevant[rows[:, :1], rows[:, 2:]]
    return Found(ndcg(scores(model, world), world.relevant[world.test]), float(wrong.mean()) if wrong.size else 0.0)


def untrained(seed: int, *, real: bool = False) -> Doubles:
    """nDCG@10 by test query before the warm-up."""
    world, start = _world(seed, real)
    return ndcg(scores(start, world), world.relevant[world.test])


def _world(seed: int, real: bool) -> tuple[World, Encoder]:
    if real:
        own = deb(seed)
        return own, averaged(own.pieces)
    world = lex(seed)
    return world, Words(len(world.words), seed=seed)


def _loss(pairs: Tensor) -> ContrastiveLoss:
    return ContrastiveLoss(None, relevance=Relevance((query, document) for query, document in pairs.tolist()))


def known(world: World, seed: int, *, one: bool) -> Tensor:
    """All relevant pairs of the training queries, or one of each, drawn."""
    pairs = world.rows()
    if not one:
        return pairs
    mixed = pairs[torch.from_numpy(np.random.default_rng((seed, 61)).permutation(len(pairs)))]
    return mixed[torch.from_numpy(np.unique(mixed[:, 0].numpy(), return_index=True)[1])]


def none_drawn(world: World, warm: Encoder, pairs: Tensor, seed: int) -> Tensor:
    """No further negatives."""
    return pairs[:, :0]


def at_random(world: World, warm: Encoder, pairs: Tensor, seed: int) -> Tensor:
    """Any documents that are not judged relevant to the query."""
    random = np.random.default_rng((seed, 62))
    own: dict[int, set[int]] = {}
    for query, document in pairs.tolist():
        own.setdefault(query, set()).add(document)
    rest = np.arange(len(world.documents))
    return torch.from_numpy(
        np.stack([random.choice(np.setdiff1d(rest, list(own[query])), EACH, False) for query in pairs[:, 0].tolist()])
    )


def mined(world: World, warm: Encoder, pairs: Tensor, seed: int, **rules: Any) -> Tensor:
    """What the warm model finds and the rules leave, and random documents where these are too few."""
    queries = {f"q{query}": world.queries[query] for query in pairs[:, 0].tolist()}
    qrels: dict[str, dict[str, float]] = {name: {} for name in queries}
    for query, document in pairs.tolist():
        qrels[f"q{query}"][f"d{document}"] = 1.0
    found = mine(
        source_of(warm, world), queries, qrels, NegativesOptions(**{"first_rank": 2, "per_query": EACH, **rules})
    ).negatives
    lists = [[int(name[1:]) for name, _ in found[f"q{query}"]] for query in pairs[:, 0].tolist()]
    filled = zip(lists, at_random(world, warm, pairs, seed).tolist(), strict=True)
    return torch.tensor([(own + [other for other in others if other not in own])[:EACH] for own, others in filled])


WAYS: dict[str, Draw] = {
    "the batch's": none_drawn,
    "random": at_random,
    "none": partial(mined, relative=None),
    "relative 0.95": partial(mined, relative=0.95),
}
WHOLE = ("the batch's", "random", "none")
