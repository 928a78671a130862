"""`EncoderSource`: finds candidates with an encoder over texts in memory, exactly, without a collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from diptych.errors import ContractError
from diptych.protocols import DenseEncoder, Similarity, SparseEncoder
from diptych.types import Floats, SparseVector
from diptych_training.data.candidate_sources import SearchResult


class EncoderSource:
    """The documents of a mapping, ranked by all their scores. Ties stay in the documents' order.

    Args:
        encoder: dense or sparse. Documents are encoded when it is made.
        documents: text by id.
        block: how many documents are encoded, and compared with a batch of queries, at once.
    """

    def __init__(
        self, encoder: DenseEncoder | SparseEncoder, documents: Mapping[str, str], *, block: int = 4096
    ) -> None:
        self._documents, self._ids = documents, list(documents)
        self._places = {identifier: place for place, identifier in enumerate(self._ids)}
        texts = list(documents.values())
        scores_class = _Sparse if isinstance(encoder, SparseEncoder) else _Dense
        self._scores: _Scores = scores_class(encoder, texts, block)  # type: ignore[arg-type]

    def find(self, queries: Sequence[str], named: Sequence[Sequence[str]], depth: int) -> list[SearchResult]:
        """As `CandidateSource`; named but unknown documents have no score."""
        if not queries:
            return []
        scores = self._scores.of(queries)
        known_ids = [[i for i in ids if i in self._places] for ids in named]
        return [
            SearchResult(self._ranking(row, depth), {i: float(row[self._places[i]]) for i in ids})
            for row, ids in zip(scores, known_ids, strict=True)
        ]

    def texts(self, ids: Sequence[str]) -> dict[str, str]:
        """As `CandidateSource`."""
        return {identifier: self._documents[identifier] for identifier in ids if identifier in self._documents}

    def _ranking(self, scores: Floats, depth: int) -> list[tuple[str, float]]:
        best = np.lexsort((np.arange(len(scores)), -scores))[:depth]
        return [(self._ids[place], float(scores[place])) for place in best]


class _Scores(Protocol):
    def of(self, queries: Sequence[str]) -> Floats: ...


class _Dense:
    """Scores float32 `[queries, documents]` of dense vectors, block by block."""

    def __init__(self, encoder: DenseEncoder, texts: Sequence[str], block: int) -> None:
        self._encoder, self._block = encoder, block
        starts = range(0, len(texts), block)
        parts = [np.asarray(encoder.encode_document(texts[at : at + block]), np.float32) for at in starts]
        self._similarity: Similarity = encoder.similarity
        self._documents = _finite(np.concatenate(parts) if parts else np.zeros((0, encoder.dimension), np.float32))
        if self._similarity == "cosine":
            self._documents = unit(self._documents)

    def of(self, queries: Sequence[str]) -> Floats:
        query_vectors = _finite(np.asarray(self._encoder.encode_query(queries), np.float32))
        if self._similarity == "cosine":
            query_vectors = unit(query_vectors)
        starts = range(0, len(self._documents), self._block)
        parts = [self._compare(query_vectors, self._documents[at : at + self._block]) for at in starts]
        return np.concatenate([np.zeros((len(query_vectors), 0), np.float32), *parts], axis=1)

    def _compare(self, queries: Floats, documents: Floats) -> Floats:
        dots: Floats = queries @ documents.T
        if self._similarity != "euclidean":
            return dots
        squares = np.square(queries).sum(1)[:, None] + np.square(documents).sum(1)[None] - 2 * dots
        distances: Floats = np.sqrt(np.maximum(squares, 0))
        return -distances


class _Sparse:
    """Scores float32 `[queries, documents]` of sparse vectors: dot products, by postings."""

    def __init__(self, encoder: SparseEncoder, texts: Sequence[str], block: int) -> None:
        self._encoder, self._count = encoder, len(texts)
        starts = range(0, len(texts), block)
        vectors = [vector for at in starts for vector in encoder.encode_document(texts[at : at + block])]
        terms = _joined([vector.indices for vector in vectors], np.int64)
        order = np.argsort(terms, kind="stable")
        self._terms = terms[order]
        self._rows = np.repeat(np.arange(len(vectors)), [len(vector) for vector in vectors])[order]
        self._weights = _joined([vector.values for vector in vectors], np.float32)[order]

    def of(self, queries: Sequence[str]) -> Floats:
        return np.stack([self._query_scores(vector) for vector in self._encoder.encode_query(queries)])

    def _query_scores(self, vector: SparseVector) -> Floats:
        scores = np.zeros(self._count, np.float64)
        for term, weight in zip(vector.indices.tolist(), vector.values.tolist(), strict=True):
            first, last = np.searchsorted(self._terms, [term, term + 1])
            weight *= self._idf(last - first) if self._encoder.uses_idf else 1.0
            scores[self._rows[first:last]] += weight * self._weights[first:last]
        return scores.astype(np.float32)

    def _idf(self, document_count: int) -> float:
        """Qdrant's: ln((N - n + 0.5) / (n + 0.5) + 1)."""
        return float(np.log((self._count - document_count + 0.5) / (document_count + 0.5) + 1))


def unit(vectors: Floats) -> Floats:
    """Rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)


def _joined(parts: Sequence[NDArray[np.generic]], kind: type[np.generic]) -> NDArray[np.generic]:
    return np.concatenate(parts).astype(kind) if parts else np.zeros(0, kind)


def _finite(vectors: Floats) -> Floats:
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(1))[0])
        raise ContractError("an encoder gave NaN or infinity", where="EncoderSource", got=f"row {row} of its vectors")
    return vectors
