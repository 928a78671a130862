"""Mined hard negatives beside the batch's own, with all relevant documents judged and with one a query; H-lex.

A static encoder is warmed up with in-batch negatives alone. Then it trains as many steps again, from the same weights,
with four further negatives a row: random ones, or what `diptych_training.data.mining` mines with the warm model at its
default ranks. Where one relevant document a query is judged, the others are false negatives that the filter is for; no
loss and no mining knows of them, and training has one row a query. Nothing is tuned: `relative` .95 as NV-Retriever has
it, `margin` .1, tau .05.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych_training.data.mining import mine
from diptych_training.data.negatives import MiningOptions
from diptych_training.losses import ContrastiveLoss
from diptych_training.relevance import Relevance
from effects.lex import Lex, lex
from effects.running import Effect, each, effect
from effects.scoring import Doubles, ndcg
from effects.served import source_of
from effects.tiny import Encoder, scores, trained

EACH = 4  # negatives of a row
Draw = Callable[[Lex, Encoder, Tensor, int], Tensor]


@dataclass(frozen=True, slots=True)
class Found:
    """nDCG@10 by test query, and the share of the drawn negatives that are relevant."""

    ndcg: Doubles
    wrong: float


def effects() -> list[Effect]:
    """Mined beside the batch's and random ones, then each filter beside none."""
    whole = {name: each(partial(run, draw, one=False)) for name, draw in WAYS.items() if name in WHOLE}
    one = {name: each(partial(run, draw, one=True)) for name, draw in WAYS.items()}
    rows = []
    for name in ("the batch's", "random"):
        rows.append(_effect(f"mined beside {name}, all judged", whole[name], whole["none"]))
        rows.append(_effect(f"mined, no filter, beside {name}, one judged", one[name], one["none"]))
    for name in ("relative 0.95", "margin 0.1"):
        rows.append(_effect(f"{name} beside no filter, one judged", one["none"], one[name]))
        rows.append(_effect(f"{name} beside no filter, one judged", one["none"], one[name], wrong=True))
        rows.append(_effect(f"mined, {name}, beside the batch's, one judged", one["the batch's"], one[name]))
    return rows


def _effect(what: str, baseline: list[Found], found: list[Found], *, wrong: bool = False) -> Effect:
    if wrong:
        sides: list[list[Any]] = [[one.wrong for one in side] for side in (baseline, found)]
        return effect("Hard negatives", what, "H-lex", "false negatives", *sides, better="lower", page="mining")
    sides = [[one.ndcg for one in side] for side in (baseline, found)]
    return effect("Hard negatives", what, "H-lex", "nDCG@10", *sides, page="mining")


def run(draw: Draw, seed: int, *, one: bool) -> Found:
    """One training after the warm-up.

    Args:
        draw: gives each row `(query, document)` further documents.
        seed: of all.
        one: whether one relevant document of a query is judged, or all.
    """
    world = lex(seed)
    pairs = known(world, seed, one=one)
    loss = partial(ContrastiveLoss, None, relevance=Relevance((query, document) for query, document in pairs.tolist()))
    warm = trained(world, pairs, loss(), seed=seed)
    rows = torch.cat([pairs, draw(world, warm, pairs, seed)], 1)
    model = trained(world, rows, loss(), seed=seed + 1000, model=copy.deepcopy(warm))
    wrong = world.relevant[rows[:, :1], rows[:, 2:]]
    return Found(ndcg(scores(model, world), world.relevant[world.test]), float(wrong.mean()) if wrong.size else 0.0)


def known(world: Lex, seed: int, *, one: bool) -> Tensor:
    """All relevant pairs of the training queries, or one of each, drawn."""
    pairs = world.rows()
    if not one:
        return pairs
    mixed = pairs[torch.from_numpy(np.random.default_rng((seed, 61)).permutation(len(pairs)))]
    return mixed[torch.from_numpy(np.unique(mixed[:, 0].numpy(), return_index=True)[1])]


def none_drawn(world: Lex, warm: Encoder, pairs: Tensor, seed: int) -> Tensor:
    """No further negatives."""
    return pairs[:, :0]


def at_random(world: Lex, warm: Encoder, pairs: Tensor, seed: int) -> Tensor:
    """Any documents that are not judged relevant to the query."""
    random = np.random.default_rng((seed, 62))
    own: dict[int, set[int]] = {}
    for query, document in pairs.tolist():
        own.setdefault(query, set()).add(document)
    rest = np.arange(len(world.documents))
    return torch.from_numpy(
        np.stack([random.choice(np.setdiff1d(rest, list(own[query])), EACH, False) for query in pairs[:, 0].tolist()])
    )


def mined(world: Lex, warm: Encoder, pairs: Tensor, seed: int, **rules: Any) -> Tensor:
    """What the warm model finds and the rules leave; a query that has too few gets the last ones again."""
    queries = {f"q{query}": world.queries[query] for query in pairs[:, 0].tolist()}
    qrels: dict[str, dict[str, float]] = {name: {} for name in queries}
    for query, document in pairs.tolist():
        qrels[f"q{query}"][f"d{document}"] = 1.0
    found = mine(source_of(warm, world), queries, qrels, MiningOptions(per_query=EACH, **rules)).negatives
    return torch.tensor([_filled([int(name[1:]) for name, _ in found[f"q{query}"]]) for query in pairs[:, 0].tolist()])


def _filled(own: list[int]) -> list[int]:
    if not own:
        raise ValueError("a query without any negative")
    return (own * EACH)[:EACH]


WAYS: dict[str, Draw] = {
    "the batch's": none_drawn,
    "random": at_random,
    "none": partial(mined, relative=None),
    "relative 0.95": partial(mined, relative=0.95),
    "margin 0.1": partial(mined, relative=None, margin=0.1),
}
WHOLE = ("the batch's", "random", "none")
