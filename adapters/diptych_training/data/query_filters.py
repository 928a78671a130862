"""Filters for synthetic queries, and test queries that they must not give away.

Each filter keeps the order; applying one twice changes nothing more.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from diptych import DenseEncoder
from diptych.types import Floats
from diptych_training.data.candidate_sources import CandidateSource
from diptych_training.data.generators import Generator
from diptych_training.data.in_memory import unit

BATCH = 64  # queries of which a source is asked at once
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


def without_near_duplicates(queries: Queries, near: float, encoder: DenseEncoder | None = None) -> list[SyntheticQuery]:
    """Queries without those whose cosine with an earlier query of the same document is above `near`.

    Args:
        queries: of any documents.
        near: a cosine.
        encoder: its query vectors are compared; without one, word counts.
    """
    by_document: dict[str, list[int]] = {}
    for index, query in enumerate(queries):
        by_document.setdefault(query.document, []).append(index)
    vectors = _encoded(queries, encoder)
    kept_places: set[int] = set()
    for indices in by_document.values():
        document_vectors = _counted([queries[index].text for index in indices]) if vectors is None else vectors[indices]
        kept_places.update(indices[row] for row in _apart(document_vectors, near))
    return [query for index, query in enumerate(queries) if index in kept_places]


def without_leaks(
    queries: Queries, leaks: LeakIndex, tests: Sequence[str], near: float, encoder: DenseEncoder | None = None
) -> list[SyntheticQuery]:
    """Queries without those that give away a test query: by words or, with an encoder, by a cosine above `near`."""
    clean = [query for query in queries if query.text not in leaks]
    vectors = _encoded(clean, encoder)
    if encoder is None or vectors is None or not tests:
        return clean
    nearest = (vectors @ unit(np.asarray(encoder.encode_query(list(tests)), np.float32)).T).max(1)
    return [query for query, cosine in zip(clean, nearest.tolist(), strict=True) if cosine <= near]


def round_trip(
    queries: Queries, source: CandidateSource, first: int, *, judge: Generator | None = None, least: float = 0.0
) -> list[SyntheticQuery]:
    """Queries whose document is among the first so many that the source finds.

    Args:
        queries: of any documents.
        source: the current retriever.
        first: number of documents.
        judge: also keeps those that it judges at least `least`.
    """
    kept: list[SyntheticQuery] = []
    for at in range(0, len(queries), BATCH):
        batch = queries[at : at + BATCH]
        results = source.find([query.text for query in batch], [[query.document] for query in batch], first)
        passed = {
            query.id
            for query, result in zip(batch, results, strict=True)
            if query.document in dict(result.ranking[:first])
        }
        failed = [query for query in batch if query.id not in passed]
        if judge is not None and failed:
            texts = source.texts([query.document for query in failed])
            scores = judge.judge([(query.text, texts.get(query.document, "")) for query in failed])
            passed |= {query.id for query, score in zip(failed, scores, strict=True) if score >= least}
        kept += [query for query in batch if query.id in passed]
    return kept


def _apart(vectors: Floats, near: float) -> list[int]:
    """The rows that are not too near an earlier one."""
    cosines, rows = vectors @ vectors.T, list[int]()
    for row in range(len(vectors)):
        if not rows or float(cosines[row, rows].max()) <= near:
            rows.append(row)
    return rows


def _encoded(queries: Queries, encoder: DenseEncoder | None) -> Floats | None:
    """Vectors of length 1, float32 `[n, dimension]`."""
    if encoder is None or not queries:
        return None
    return unit(np.asarray(encoder.encode_query([query.text for query in queries]), np.float32))


def _counted(texts: Sequence[str]) -> Floats:
    """Word counts of each text, scaled to length 1, float32 `[n, words]`."""
    bags = [Counter(normalized_words(text)) for text in texts]
    words = sorted({word for bag in bags for word in bag})
    return unit(np.array([[bag[word] for word in words] for bag in bags], np.float32).reshape(len(bags), len(words)))


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
