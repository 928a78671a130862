"""`synthesize`: queries that a generator writes for documents, filtered.

    synthesize(documents, Generator("templates"), SyntheticQueries(documents=500))

Steps: documents are sampled, a generator writes queries, near-duplicates within a document and queries that give away
a test query are dropped.

Chitale et al., "Evaluating the Effectiveness and Scalability of LLM-Based Data Augmentation for Retrieval", 2025
(DAGR): gains end at a moderate amount, and weak retrievers gain most. Near-duplicates are many, so density is reported
without them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from diptych import Document
from diptych_training.data.generators import Generator
from diptych_training.data.mining import text_of
from diptych_training.options import SyntheticQueries

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class SyntheticQuery:
    """A query that was written for a document."""

    id: str
    text: str
    document: str
    style: str


Queries = Sequence[SyntheticQuery]


def without_repeats(queries: Queries) -> list[SyntheticQuery]:
    """Each text once, ignoring case and punctuation; the first is kept."""
    by_words: dict[str, SyntheticQuery] = {}
    for query in queries:
        by_words.setdefault(" ".join(normalized_words(query.text)), query)
    return list(by_words.values())


def without_near_duplicates(queries: Queries, near: float) -> list[SyntheticQuery]:
    """Queries without those whose word counts have a cosine above `near` with an earlier query of the same document."""
    by_document: dict[str, list[int]] = {}
    for index, query in enumerate(queries):
        by_document.setdefault(query.document, []).append(index)
    kept_places: set[int] = set()
    for indices in by_document.values():
        bags, rows = [Counter(normalized_words(queries[index].text)) for index in indices], list[int]()
        words = sorted({word for bag in bags for word in bag})
        counts = np.array([[bag[word] for word in words] for bag in bags], np.float32).reshape(len(bags), len(words))
        vectors = counts / np.linalg.norm(counts, axis=1, keepdims=True).clip(1)  # of counts, so 0 or at least 1
        cosines = vectors @ vectors.T
        for row in range(len(vectors)):
            if not rows or float(cosines[row, rows].max()) <= near:
                rows.append(row)
        kept_places.update(indices[row] for row in rows)
    return [query for index, query in enumerate(queries) if index in kept_places]


class LeakIndex:
    """Test queries that no training text may repeat.

    A text leaks if it shares `words` consecutive words with a test query or, if either is shorter, has the same words.

    Args:
        queries: texts of the test queries.
        words: how many in a row.
    """

    def __init__(self, queries: Iterable[str], *, words: int = 5) -> None:
        self._words = words
        word_lists = [tuple(normalized_words(query)) for query in queries]
        self._texts = set(word_lists) - {()}
        self._runs = {run for text in word_lists for run in word_ngrams(text, words)}

    def __contains__(self, text: str) -> bool:
        words = tuple(normalized_words(text))
        return words in self._texts or any(run in self._runs for run in word_ngrams(words, self._words))


def normalized_words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return _WORD.findall(text.casefold())


def word_ngrams(words: tuple[str, ...], length: int) -> list[tuple[str, ...]]:
    """All runs of so many words."""
    return [words[at : at + length] for at in range(len(words) - length + 1)]


@dataclass(frozen=True, slots=True)
class SyntheticReport:
    """The counts of the queries: `written` is `kept` plus all of `dropped`.

    Args:
        documents: how many were sampled.
        asked: how many queries were asked for.
        written: how many there were.
        kept: how many are left.
        dropped: how many were left out, by reason: `same text`, `near-duplicate`, `leak`.
        silent: documents without any query left.
    """

    documents: int
    asked: int
    written: int
    kept: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    silent: tuple[str, ...] = ()

    @property
    def effective_density(self) -> float:
        """Queries kept per sampled document; at most the requested density."""
        return self.kept / self.documents if self.documents else 0.0

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        return (
            f"{self.kept} queries for {self.documents} documents ({self.effective_density:.2f} each), of "
            f"{self.written} written and {self.asked} asked for; left out: {reasons or 'none'}; "
            f"{len(self.silent)} documents have none"
        )


@dataclass(frozen=True, slots=True)
class Synthetic:
    """The queries that passed, and the report."""

    queries: tuple[SyntheticQuery, ...]
    report: SyntheticReport


def synthesize(
    documents: Sequence[Document],
    generator: Generator,
    options: SyntheticQueries | None = None,
    *,
    seed: int = 0,
    test_queries: Sequence[str] = (),
) -> Synthetic:
    """Queries for a sample of the documents, written by a generator and filtered.

    Args:
        documents: ids are unique.
        generator: writes them.
        options: how many, and which stay; `generator`, its options and `cut` are the recipe's.
        seed: of the sample and the generator.
        test_queries: that no query may give away.

    Raises:
        RegistryError, ContractError, RemoteError: the generator cannot write.
    """
    settings = options or SyntheticQueries()
    by_id = {document.id: document for document in documents}
    sample = sampled({i: text_of(item) for i, item in by_id.items()}, settings.documents, seed=seed)
    written = list(_written([by_id[identifier] for identifier in sample], generator, settings, seed))
    unique = without_repeats(written)
    distinct = without_near_duplicates(unique, settings.near)
    leaks = LeakIndex(test_queries, words=settings.leak_words)
    clean = [query for query in distinct if query.text not in leaks]
    steps = {"same text": unique, "near-duplicate": distinct, "leak": clean}
    return Synthetic(tuple(clean), _report(sample, settings, written, steps))


def _written(
    documents: Sequence[Document], generator: Generator, options: SyntheticQueries, seed: int
) -> Iterator[SyntheticQuery]:
    turns = (options.styles[turn % len(options.styles)] for turn in range(options.density))
    for style, count in Counter(turns).items():
        texts_of = generator.queries(documents, style=style, count=count, seed=seed)
        for document, texts in zip(documents, texts_of, strict=True):
            for number, text in enumerate(texts):
                yield SyntheticQuery(f"{document.id}#{style}.{number}", text, document.id, style)


def _report(
    chosen: Sequence[str],
    options: SyntheticQueries,
    written: Sequence[SyntheticQuery],
    steps: Mapping[str, Sequence[SyntheticQuery]],
) -> SyntheticReport:
    remaining, dropped = written, {}
    for reason, passed in steps.items():
        if len(passed) < len(remaining):
            dropped[reason] = len(remaining) - len(passed)
        remaining = passed
    covered = {query.document for query in remaining}
    return SyntheticReport(
        documents=len(chosen),
        asked=len(chosen) * options.density,
        written=len(written),
        kept=len(remaining),
        dropped=dropped,
        silent=tuple(identifier for identifier in chosen if identifier not in covered),
    )


# Which documents get synthetic queries.


def sampled(documents: Mapping[str, str], count: int, *, strata: int = 4, seed: int = 0) -> list[str]:
    """Ids of `count` documents, all of them when there are no more, stratified by length.

    Strata are quantiles of the number of words; each is drawn from in proportion to its size. A larger sample with the
    same seed begins with the smaller one, so that doubling adds and replaces nothing.
    """
    ids = list(documents)
    order = np.argsort([len(documents[identifier].split()) for identifier in ids], kind="stable")
    random = np.random.default_rng(seed)
    keyed: list[tuple[float, str]] = []
    for stratum in np.array_split(order, strata):
        shuffled = random.permutation(stratum)
        keyed += [((place + 0.5) / len(shuffled), ids[row]) for place, row in enumerate(shuffled)]
    return [identifier for _, identifier in sorted(keyed)[:count]]
