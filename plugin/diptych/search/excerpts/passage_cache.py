"""`ShownDocuments`: the passages of documents that were shown last, with their vectors and terms."""

from __future__ import annotations

import math
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diptych.types import Floats, SparseVector

_MOST_NUMBERS = 2**23  # numbers of four bytes: 32 MiB


@dataclass(frozen=True, slots=True)
class PassageTerms:
    """Which passages of a document have which terms: pairs in the order of the terms.

    Args:
        terms: of each pair, ascending; 4 bytes each.
        passages: the number of each pair's passage, from 0.
    """

    terms: array[int]
    passages: array[int]

    @classmethod
    def of(cls, vectors: Sequence[SparseVector]) -> PassageTerms:
        """Those of the passages' sparse vectors."""
        passages = np.repeat(np.arange(len(vectors), dtype=np.uint32), [len(vector.indices) for vector in vectors])
        terms = np.concatenate([np.zeros(0, np.uint32), *(vector.indices for vector in vectors)])
        order = np.argsort(terms, kind="stable")
        return cls(array("I", terms[order].tobytes()), array("I", passages[order].tobytes()))

    def shares(self, query: Sequence[int], count: int) -> list[float]:
        """The share of the query's terms that each passage has; terms of few passages count more.

        Args:
            query: the distinct terms of a query, at least one.
            count: of the document's passages.
        """
        found, whole = [0.0] * count, 0.0
        for term in query:  # a handful of both, for which numpy's calls cost more than all of this
            begin = bisect_left(self.terms, term)
            end = bisect_right(self.terms, term, begin)
            weight = math.log1p((count - (end - begin) + 0.5) / (end - begin + 0.5))
            whole += weight
            for passage in self.passages[begin:end]:
                found[passage] += weight
        return [weight / whole for weight in found]


@dataclass(frozen=True, slots=True, eq=False)
class DocumentPassages:
    """A document's passages.

    Args:
        vectors: float32 `[passages, dimension]`.
        places: where each begins and ends in the document's text.
        terms: their terms in a sparse slot of the pipeline; None where none takes part.
    """

    vectors: Floats
    places: Sequence[tuple[int, int]]
    terms: PassageTerms | None = None

    @property
    def size(self) -> int:
        """How many numbers are kept."""
        return self.vectors.size + (0 if self.terms is None else 2 * len(self.terms.terms))


class ShownDocuments:
    """The documents whose passages were shown last, so that hits seen again need no second request. Safe for threads.

    Args:
        most: numbers of four bytes that are kept of them.
    """

    def __init__(self, most: int = _MOST_NUMBERS) -> None:
        self._most, self._numbers, self._lock = most, 0, threading.Lock()
        self._kept: dict[Hashable, DocumentPassages] = {}  # least recently used first

    def get(self, keys: Iterable[Hashable]) -> list[DocumentPassages | None]:
        """The document of each key; None where it is not kept."""
        with self._lock:
            found = []
            for key in keys:
                document = self._kept.pop(key, None)
                if document is not None:
                    self._kept[key] = document
                found.append(document)
            return found

    def add(self, documents: Mapping[Hashable, DocumentPassages]) -> None:
        """Keep these, and forget those that were used longest ago while there are too many numbers."""
        with self._lock:
            for key, document in documents.items():
                known = self._kept.pop(key, None)
                self._numbers += document.size - (0 if known is None else known.size)
                self._kept[key] = document
            while self._numbers > self._most:
                self._numbers -= self._kept.pop(next(iter(self._kept))).size
