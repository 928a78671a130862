"""Synthetic queries for real documents: alone, beside real queries, and together with some; H-deb.

Generators see a package's whole description and never a synopsis. `templates` writes a question and some keywords for
each document, its defaults, and there is no round trip where a row names none. Queries that stand in their document are
cut out of it, as recipes do.

*Judged* are half of the 3,000 training queries. Beside them, written queries are for documents that none of them asks
for. Batches of 128; taus are the best of three on seed 100, with 200 steps, for real queries, for written ones and for
both together. Words that stand in no text of the collection's first tokens are left out of written queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer

from diptych import Document
from diptych.protocols import Similarity
from diptych.types import Floats
from diptych_adapters.models import resolve
from diptych_training.corpus import TrainingData
from diptych_training.data.generators import Generator
from diptych_training.data.synthetic import SyntheticQuery, synthesize
from diptych_training.losses import ContrastiveLoss
from diptych_training.options import SyntheticQueries
from diptych_training.relevance import Relevance
from effects.deb import MODEL, Real, averaged, deb, train
from effects.running import FEW, ONE, Condition, Effect, best, each, effect, learnt, plateau
from effects.scoring import Doubles, ndcg
from effects.tiny import scores

SIZE, FIRST, TAUS = 128, 200, (0.05, 0.1, 0.2)
JUDGED, MANY, ALL = 1500, 3000, 10_000  # judged queries; documents of most rows; more documents than there are
WORDS, SENTENCES = ("question", "keywords"), ("claim", "long")
Whose: TypeAlias = Literal["all", "asked for", "not judged"]


class Learning(NamedTuple):
    """What a training sees: real queries, and those that a generator writes for `documents` documents.

    `whose`: the documents are drawn from all, from those that real queries ask for, or from those that judged ones do
    not. The rest is as in recipes.
    """

    real: int = 0
    generator: str = ""
    documents: int = MANY
    whose: Whose = "all"
    density: int = 2
    styles: tuple[str, ...] = WORDS
    cut: bool = True


WRITTEN, REAL, SAME = Learning(generator="templates"), Learning(MANY), Learning(0, "templates", ALL, "asked for")
SOME, BESIDE = Learning(JUDGED), Learning(JUDGED, "templates", ALL, "not judged")


def effects() -> list[Effect]:
    """Written queries alone, then beside real ones, then together with judged ones."""
    written, real, both = (tuned(one) for one in (WRITTEN, REAL, BESIDE))
    start = each(partial(run, WRITTEN, 0.1, 0), FEW)
    return [*_alone(written, start), *_real(written, real, start), *_together(written, real, both, start)]


def tuned(learning: Learning) -> float:
    """The best tau."""
    return best(lambda tau, seed: float(run(learning, tau, FIRST, seed).mean()), TAUS, ONE)


def long_enough(learning: Learning, tau: float, of: str) -> tuple[int, Condition]:
    """The steps that it takes."""
    return plateau(lambda steps, seed: float(run(learning, tau, steps, seed).mean()), 100, seeds=ONE, of=of)


def _alone(tau: float, start: list[Doubles]) -> list[Effect]:
    """Without any real query: all documents, more of them, more and other queries, the cut."""
    steps, enough = long_enough(WRITTEN, tau, "written")
    every, said = WRITTEN._replace(documents=ALL), WRITTEN._replace(styles=SENTENCES)
    compared = [
        ("3,000 documents beside 1,500", WRITTEN._replace(documents=MANY // 2), WRITTEN),
        ("all 6,606 documents beside 3,000", WRITTEN, every),
        ("4 queries a document beside 2", WRITTEN, WRITTEN._replace(density=4)),
        ("sentences beside keywords and questions", WRITTEN, said),
        ("sentences cut out of their documents beside left there", said._replace(cut=False), said),
    ]
    found = {own: trained_by(own, tau, steps) for own in dict.fromkeys(one for _, *pair in compared for one in pair)}
    none = [Condition("the baseline does not train", True), enough]
    return [
        row("all 6,606 documents beside no training", start, found[every], none),
        *(row(what, found[left], found[right], [enough], start) for what, left, right in compared),
    ]


def _real(tau: float, real_tau: float, start: list[Doubles]) -> list[Effect]:
    """Written queries beside the real ones of the same documents."""
    steps, enough = long_enough(REAL, real_tau, "real")
    same, what = trained_by(SAME, tau, steps), "written beside real queries, the same 3,000 documents"
    more: Any = {"better": "equal", "tolerance": 0.02}
    return [row(what, trained_by(REAL, real_tau, steps), same, [enough], start, **more)]


def _together(tau: float, real_tau: float, both_tau: float, start: list[Doubles]) -> list[Effect]:
    """Written queries and judged ones beside these alone, and what that gains beside what written ones gain alone."""
    steps, enough = long_enough(SOME, real_tau, "judged")
    some, both = trained_by(SOME, real_tau, steps), trained_by(BESIDE, both_tau, steps)
    alone = trained_by(BESIDE._replace(real=0), tau, steps)
    gains = [[b - a for a, b in zip(*own, strict=True)] for own in ((some, both), (start, alone))]
    strong, what = learnt([own.mean() for own in some], start), "gain without judged queries beside that with 1,500"
    return [
        row("written and 1,500 judged queries beside these alone", some, both, [enough], start),
        row(what, gains[0], gains[1], [enough, strong]),
    ]


def trained_by(learning: Learning, tau: float, steps: int) -> list[Doubles]:
    """nDCG@10 by test query of each seed."""
    return each(partial(run, learning, tau, steps), FEW)


def row(
    what: str, baseline: Any, found: Any, conditions: Sequence[Condition], untrained: Any = (), **claimed: Any
) -> Effect:
    """A row of the table."""
    more: Any = {"page": "synthetic_queries", "conditions": conditions, "untrained": untrained, **claimed}
    return effect("Synthetic queries", what, "H-deb", "nDCG@10", baseline, found, same_queries=True, **more)


def run(learning: Learning, tau: float, steps: int, seed: int) -> Doubles:
    """nDCG@10 by test query."""
    world = deb(seed)
    if not steps:
        return ndcg(scores(averaged(world.pieces), world), world.relevant[world.test])
    pairs, texts = real(world, seed, learning.real), read(learning._replace(real=0), seed)
    own = replace(
        world,
        query_tokens=torch.cat([world.query_tokens, texts.queries]),
        document_tokens=torch.cat([world.document_tokens, texts.answers]),
    )
    numbers = torch.arange(len(texts.documents))
    queries, answers = numbers + len(world.queries), numbers + len(world.documents)
    rows = torch.cat([pairs, torch.stack([queries, answers], 1)])
    ids = torch.cat([pairs, torch.stack([queries, texts.documents], 1)])
    loss = ContrastiveLoss(None, tau=tau, relevance=Relevance((query, document) for query, document in ids.tolist()))
    model = train(own, rows, loss, seed=seed, steps=steps, size=SIZE, labels=lambda batch: ids[batch])
    return ndcg(scores(model, world), world.relevant[world.test])


class Texts(NamedTuple):
    """Tokens of written queries and of their documents as they are read beside them, and numbers of the documents."""

    queries: Tensor
    answers: Tensor
    documents: Tensor


@lru_cache(maxsize=16)
def read(learning: Learning, seed: int) -> Texts:
    """What is written, as a training reads it."""
    world, queries = deb(seed), written(learning._replace(cut=True), seed)
    texts = {query.id: query.text for query in queries}
    cut = frozenset(texts) if learning.cut else frozenset[str]()
    data = TrainingData(texts, dict(zip(world.names, world.documents, strict=True)), {}, cut=cut)
    answers = [data.answer(query.id, query.document) for query in queries]
    return Texts(
        tokens_of(world, list(texts.values()), world.query_tokens),
        tokens_of(world, answers, world.document_tokens),
        torch.tensor([data.document_numbers[query.document] for query in queries], dtype=torch.int64),
    )


def real(world: Real, seed: int, count: int) -> Tensor:
    """The pairs of so many of the training queries; fewer are a part of more."""
    return world.rows(np.random.default_rng((seed, 85)).permutation(world.train)[:count])


@lru_cache(maxsize=16)
def written(learning: Learning, seed: int) -> tuple[SyntheticQuery, ...]:
    """What the generator writes and the filters leave; nothing that gives away a test query."""
    if not learning.generator:
        return ()
    world = deb(seed)
    judged = real(world, seed, JUDGED)
    chosen = {
        "all": np.arange(len(world.documents)),
        "asked for": np.unique(world.rows()[:, 1].numpy()),
        "not judged": np.setdiff1d(np.arange(len(world.documents)), judged[:, 1].numpy()),
    }[learning.whose]
    texts = [Document(world.names[place], world.documents[place]) for place in chosen.tolist()]
    options = SyntheticQueries(documents=learning.documents, density=learning.density, styles=learning.styles)
    found = synthesize(
        texts,
        Generator(learning.generator),
        options,
        seed=seed,
        test_queries=[world.queries[place] for place in world.test],
    )
    queries = list(found.queries)
    print(f"   seed {seed}: {found.report}; {queries[0].text!r}", flush=True)
    return tuple(queries)


class Untrained:
    """The untrained model for queries that are known beforehand and all documents; a `DenseEncoder`."""

    similarity: Similarity = "cosine"

    def __init__(self, world: Real, queries: Sequence[str]) -> None:
        model = averaged(world.pieces)
        left = model.embedded(tokens_of(world, queries, world.query_tokens))
        self.queries = dict(zip(queries, left.numpy(), strict=True))
        self.documents = dict(zip(world.documents, model.embedded(world.document_tokens).numpy(), strict=True))
        self.dimension = left.shape[1]

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        """Vectors float32 `[n, dimension]`."""
        return np.stack([self.queries[text] for text in inputs]).astype(np.float32)

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """As queries."""
        return np.stack([self.documents[text] for text in inputs]).astype(np.float32)


def tokens_of(world: Real, texts: Sequence[str], like: Tensor) -> Tensor:
    """Tokens of texts as wide as others, 0 for a word that the world does not have."""
    if not texts:
        return like[:0]
    words: Any = AutoTokenizer.from_pretrained(str(resolve(MODEL).path))
    found = words(list(texts), padding="max_length", truncation=True, max_length=like.shape[1], return_tensors="pt")
    places = torch.zeros(len(words), dtype=torch.int64)
    places[world.pieces] = torch.arange(len(world.pieces))
    return places[found["input_ids"]]
