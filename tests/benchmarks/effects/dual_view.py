"""Dual views beside as many instances as they are; H-lex with instructions.

A query comes with "must mention" or "must not mention" an attribute; half of the training's instructions are of either
kind, so that both forms are known without dual views, too. The baseline trains each instance as it is; with dual views
half of the instances are trained, each in both views, in one batch. So both see as many rows, in as many steps.

A BERT of two layers reads queries with their instructions, since "not" changes what the next words mean; documents are
means of word vectors, in which the order of words says nothing.

Measured on queries that were not trained, each in both views: how often the relevant one of the two documents scores
higher (0.5 for who ignores instructions), p-MRR of the document that the reversed instruction makes irrelevant, and
nDCG@10 of the test queries without an instruction. Nothing is tuned.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from diptych_training.losses import ContrastiveLoss
from diptych_training.relevance import Relevance
from diptych_training.running.instruction_evaluation import flip_accuracy, p_mrr
from diptych_training.samplers import PairedViews
from effects.lex import Instructed, Lex, instructed, lex
from effects.running import Effect, each, effect
from effects.scoring import Doubles, ndcg
from effects.tiny import Encoder, Tiny, Words, scores, trained

STEPS, BATCH, RATE, TAU = 1500, 32, 1e-3, 0.05
TRAIN, LENGTH = 1500, 30


@dataclass(frozen=True, slots=True)
class Measured:
    """What one model gave: a value a pair, a value a pair, a value a test query."""

    flips: Doubles
    p_mrr: Doubles
    plain: Doubles


class Reader(Encoder):
    """Texts as long as documents by the mean of their words' vectors; shorter ones, which are queries, by a BERT."""

    def __init__(self, words: int, *, seed: int) -> None:
        super().__init__()
        self.words, self.tiny = Words(words, seed=seed), Tiny.of(words, seed=seed)

    def embed(self, tokens: Tensor) -> Tensor:
        """The embeddings of texts."""
        return self.words.embed(tokens) if tokens.shape[1] == LENGTH else self.tiny.embed(tokens)


def effects() -> list[Effect]:
    """Flip accuracy, p-MRR, and nDCG@10 without instructions."""
    plain, dual = (each(partial(run, dual=on)) for on in (False, True))
    told = "both views of half of the instances, as many rows"
    given = {
        "flip accuracy": ([one.flips for one in plain], [one.flips for one in dual]),
        "p-MRR": ([one.p_mrr for one in plain], [one.p_mrr for one in dual]),
        "nDCG@10 without instruction": ([one.plain for one in plain], [one.plain for one in dual]),
    }
    return [effect("Dual views", told, "H-lex", metric, *sides, page="dual_view") for metric, sides in given.items()]


def run(seed: int, *, dual: bool, steps: int = STEPS) -> Measured:
    """One training and its measures."""
    world = lex(seed, train=TRAIN, length=LENGTH, positives=(2, 40))
    own, held = instructed(world, seed, world.train), instructed(world, seed, world.test)
    half = own[: len(own) // 2]
    rows, tokens = _rows(world, half if dual else own[: 2 * len(half)], both=dual)
    loss = ContrastiveLoss(None, tau=TAU, relevance=Relevance((int(q), int(d)) for q, d in rows[:, :2]))
    asked = replace(world, query_tokens=tokens)
    groups = np.arange(len(rows)) // 2 if dual else np.arange(len(rows))
    reader, batches = Reader(len(world.words), seed=seed), _batches(groups, seed)
    model = trained(asked, rows, loss, seed=seed, steps=steps, size=BATCH, rate=RATE, model=reader, batches=batches)
    rows, tokens = _rows(world, held, both=True)
    found = scores(model, replace(world, query_tokens=tokens), np.arange(len(rows)))
    return Measured(_flips(found, rows), _p_mrr(found, rows), ndcg(scores(model, world), world.relevant[world.test]))


def _rows(world: Lex, instances: Sequence[Instructed], *, both: bool) -> tuple[Tensor, Tensor]:
    """Rows `(view, positive, negative)` and the views' tokens: both views in turn, or one of them, evenly."""
    texts: list[str] = []
    rows: list[tuple[int, int, int]] = []
    for number, own in enumerate(instances):
        views = [(own.wanted, own.having, own.lacking), (own.reversed, own.lacking, own.having)]
        for instruction, positive, negative in views if both else [views[number % 2]]:
            rows.append((len(texts), positive, negative))
            texts.append(f"{world.queries[own.query]} {instruction}")
    return torch.tensor(rows), _tokens(world, texts)


def _tokens(world: Lex, texts: Sequence[str]) -> Tensor:
    place = {word: number for number, word in enumerate(world.words)}
    found = [[place[word] for word in text.split()] for text in texts]
    width = max(map(len, found))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in found])


def _batches(groups: np.ndarray, seed: int) -> Iterator[Tensor]:
    """Places of rows, those of a group together, epoch after epoch."""
    sampler, epoch = PairedViews(groups)(range(len(groups)), BATCH, True, seed=seed), 0
    while True:
        sampler.set_epoch(epoch)
        for batch in sampler:
            yield torch.tensor(batch)
        epoch += 1


def _flips(found: Doubles, rows: Tensor) -> Doubles:
    """The share of its two views that each pair gets right."""
    place = np.arange(len(rows))
    own, other = found[place, rows[:, 1]], found[place, rows[:, 2]]
    return np.array([flip_accuracy(own[at : at + 2], other[at : at + 2]) for at in range(0, len(rows), 2)])


def _p_mrr(found: Doubles, rows: Tensor) -> Doubles:
    """p-MRR of each pair's first positive."""
    ranks = (found >= found[np.arange(len(rows)), np.repeat(rows[::2, 1].numpy(), 2)][:, None]).sum(1)
    return np.array([p_mrr([int(a)], [int(b)]) for a, b in ranks.reshape(-1, 2)])


if __name__ == "__main__":
    torch.set_num_threads(1)
    for one in effects():
        sides = {"baseline": list(one.baseline), "method": list(one.found)}
        json.dump({"method": one.method, "harness": one.harness, "metric": one.metric, **sides}, sys.stdout)
        print()
