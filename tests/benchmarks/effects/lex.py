"""H-lex: a synthetic corpus in which relevance is exact.

A document is one of 50 topics, three of 40 attributes and filler words that follow Zipf's law, 30 words in any order. A
query names a topic and one or two attributes; relevant are the documents that hold all of them, so that every judgement
is known and most queries have several relevant documents.

    world = lex(0)                                   # seed 0: 2,000 documents, 400 training and 100 test queries
    world = lex(0, duplicated=0.2)                   # a fifth of the documents are copies of others
    world = lex(0, attributes=20, positives=(5, 12)) # queries with 5 to 12 relevant documents alone
    instructed(world, 0, world.train)                # must mention / must not mention an attribute
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from effects.world import Mask, Numbers, World

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
INSTRUCTION = ("must", "mention", "not")


@dataclass(frozen=True, slots=True)
class Lex(World):
    """A world with what its documents hold and its queries ask: numbers of topics, then of attributes."""

    held: Sequence[frozenset[int]]
    asked: Sequence[frozenset[int]]


@dataclass(frozen=True, slots=True)
class Instructed:
    """A query with an instruction that one of its relevant documents follows and another does not, and its reverse."""

    query: int
    wanted: str  # "must mention attribute7"
    reversed: str  # "must not mention attribute7"
    having: int  # the document that follows `wanted`
    lacking: int  # that follows `reversed`


def lex(
    seed: int,
    *,
    topics: int = 50,
    attributes: int = 40,
    documents: int = 2000,
    per_document: int = 3,
    length: int = 30,
    fillers: int = 500,
    train: int = 400,
    test: int = 100,
    positives: tuple[int, int] = (1, 12),
    duplicated: float = 0.0,
) -> Lex:
    """The world of a seed.

    Args:
        seed: of everything that is drawn.
        topics, attributes, documents: how many there are.
        per_document: attributes of a document.
        length: words of a document.
        fillers: different words that mean nothing, the r-th 1/r as often as the first.
        train, test: queries; no set of topic and attributes is asked twice.
        positives: least and most relevant documents of a query.
        duplicated: share of the documents that are copies of others, and relevant where these are.

    Raises:
        ValueError: there are not so many queries with so many relevant documents.
    """
    random = np.random.default_rng((seed, 7))
    fresh = documents - round(duplicated * documents)
    held = _held(random, fresh, topics, attributes, per_document)
    concepts = topics + attributes
    texts = _texts(random, held, concepts, length, fillers)
    again = np.concatenate([np.arange(fresh), random.choice(fresh, documents - fresh, replace=False)])
    held, texts = held[again], texts[again]
    asked, relevant = _queries(random, held, concepts, train + test, positives)
    words = _words(topics, attributes, fillers)
    query_tokens = _padded([sorted(len(SPECIAL) + concept for concept in own) for own in asked])
    document_tokens = torch.from_numpy(texts + len(SPECIAL))
    return Lex(
        queries=[said(words, row) for row in query_tokens],
        documents=[said(words, row) for row in document_tokens],
        relevant=relevant,
        train=np.arange(train),
        test=np.arange(train, train + test),
        query_tokens=query_tokens,
        document_tokens=document_tokens,
        words=words,
        held=[frozenset(np.flatnonzero(own).tolist()) for own in held],
        asked=asked,
    )


def instructed(world: Lex, seed: int, queries: Numbers) -> list[Instructed]:
    """An instruction for each of these queries that has two relevant documents of different attributes."""
    random, topics = np.random.default_rng((seed, 8)), sum(word.startswith("topic") for word in world.words)
    found = []
    for query in queries.tolist():
        own = random.permutation(np.flatnonzero(world.relevant[query])).tolist()
        pairs = [(a, b) for a in own for b in own if world.held[a] - world.held[b]]
        if pairs:
            having, lacking = pairs[0]
            attribute = int(random.choice(sorted(world.held[having] - world.held[lacking]))) - topics
            texts = (f"must mention attribute{attribute}", f"must not mention attribute{attribute}")
            found.append(Instructed(query, *texts, having, lacking))
    return found


def said(words: Sequence[str], tokens: Tensor) -> str:
    """The text of tokens."""
    return " ".join(words[token] for token in tokens.tolist() if token)


def _held(random: np.random.Generator, documents: int, topics: int, attributes: int, each: int) -> Numbers:
    """What documents hold, 0 or 1, `[documents, topics + attributes]`."""
    held = np.zeros((documents, topics + attributes), np.int64)
    held[np.arange(documents), random.integers(topics, size=documents)] = 1
    chosen = random.random((documents, attributes)).argsort(1)[:, :each]
    np.put_along_axis(held, topics + chosen, 1, axis=1)
    return held


def _texts(random: np.random.Generator, held: Numbers, concepts: int, length: int, fillers: int) -> Numbers:
    """Words of documents in any order `[documents, length]`, fillers numbered after the concepts."""
    own = np.nonzero(held)[1].reshape(len(held), -1)
    often = 1 / np.arange(1, fillers + 1)
    rest = random.choice(fillers, (len(held), length - own.shape[1]), p=often / often.sum())
    return random.permuted(np.concatenate([own, concepts + rest], 1), axis=1)


def _queries(
    random: np.random.Generator, held: Numbers, concepts: int, number: int, positives: tuple[int, int]
) -> tuple[list[frozenset[int]], Mask]:
    """What so many queries ask, a document's topic with one or two of its attributes, and what is relevant to them."""
    asked: dict[frozenset[int], Mask] = {}
    for _ in range(100 * number):
        topic, *own = np.flatnonzero(held[random.integers(len(held))]).tolist()
        chosen = random.permutation(own)[: random.integers(1, 3)].tolist()
        wanted = frozenset([topic, *chosen])
        fits = np.asarray(held[:, sorted(wanted)].all(1))
        if positives[0] <= fits.sum() <= positives[1]:
            asked.setdefault(wanted, fits)
        if len(asked) == number:
            return list(asked), np.stack(list(asked.values()))
    raise ValueError(f"{len(asked)} of {number} queries have {positives[0]} to {positives[1]} relevant documents")


def _words(topics: int, attributes: int, fillers: int) -> list[str]:
    """The vocabulary: what texts say, words that none says, then the words of instructions.

    The second kind stays because a model's first weights, and so every figure, depend on the number of words.
    """
    names = (
        ("topic", topics),
        ("attribute", attributes),
        ("filler", fillers),
        ("subject", topics),
        ("trait", attributes),
    )
    return [*SPECIAL, *(f"{name}{number}" for name, size in names for number in range(size)), *INSTRUCTION]


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
