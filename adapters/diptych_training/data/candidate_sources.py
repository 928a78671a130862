"""Sources of candidates for negatives: a live collection, or an encoder over texts in memory.

A source is anything with the two methods of `CandidateSource`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diptych import Collection, TenantCollection
from diptych.errors import ConfigError, ContractError
from diptych.protocols import DenseEncoder, Similarity, SparseEncoder
from diptych.search import Pipeline, Retrieve
from diptych.types import Document, Floats, SparseVector
from diptych_training.precision import Precision, computed_in

CHUNK = 256  # queries that are compared with all documents at a time


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The candidates for one query.

    Args:
        ranking: document ids with their scores, best first; higher is better.
        named: scores of the documents that were named, if they have one; comparable with those of the ranking.
    """

    ranking: Sequence[tuple[str, float]]
    named: Mapping[str, float] = field(default_factory=dict)


class CandidateSource(Protocol):
    """Ranks documents for queries, and returns their texts."""

    def find(self, queries: Sequence[str], named: Sequence[Sequence[str]], depth: int) -> list[SearchResult]:
        """For each query its first `depth` documents, and the scores of the documents named for it."""
        ...

    def texts(self, ids: Sequence[str]) -> dict[str, str]:
        """The texts, with titles, of the existing ones among these documents."""
        ...


class CollectionSource:
    """A live collection, searched by one slot or by stages.

    With one slot, named documents get their score in it whatever their rank. A score after a fusion is comparable only
    within its ranking, so with stages named documents have one only if they are among the first `depth`.

    Args:
        collection: open; or a tenant's view of one.
        slot: is asked alone.
        pipeline: stages instead; those of the config when neither is given.

    Raises:
        ConfigError: both are given.
    """

    def __init__(
        self,
        collection: Collection | TenantCollection,
        *,
        slot: str | None = None,
        pipeline: Pipeline | None = None,
    ) -> None:
        if slot and pipeline:
            raise ConfigError(
                "both a slot and a pipeline are given", where="CollectionSource", expected="one of them, or neither"
            )
        self.collection, self.slot, self.pipeline = collection, slot, pipeline

    def __repr__(self) -> str:
        searched = self.slot or self.pipeline or "its pipeline"
        return f"CollectionSource({self.collection.name!r}, {searched!r})"

    def find(self, queries: Sequence[str], named: Sequence[Sequence[str]], depth: int) -> list[SearchResult]:
        """As `CandidateSource`; one request for all rankings, and with a slot another for named documents.

        Raises:
            SearchError: the stages pass on fewer than `depth`, or what else cannot be searched.
        """
        stages = Retrieve(self.slot, depth) if self.slot else self.pipeline
        hits = self.collection.search_batch(list(queries), limit=depth, pipeline=stages, with_payload=False)
        rankings = [[(hit.id, hit.score) for hit in query_hits] for query_hits in hits]
        if self.slot:
            scores = self.collection.scores(list(queries), named, slot=self.slot)
        else:
            ranked_scores = [dict(ranking) for ranking in rankings]
            scores = [
                {i: ranked[i] for i in ids if i in ranked} for ranked, ids in zip(ranked_scores, named, strict=True)
            ]
        return [SearchResult(*pair) for pair in zip(rankings, scores, strict=True)]

    def texts(self, ids: Sequence[str]) -> dict[str, str]:
        """As `CandidateSource`."""
        return {document.id: text_of(document) for document in self.collection.get(list(ids))}


def text_of(document: Document) -> str:
    """The text of a document for encoders: its title, then its text."""
    return f"{document.title} {document.text}".strip()


class ModelSource:
    """The documents of a mapping, ranked by a model of sentence-transformers.

    Args:
        model: dense, sparse or multi-vector. Documents are encoded when this is made.
        documents: text by id; those without text are not found.
        batch_size: of encoding.
        precision: of encoding.

    `vectors` are the model's of the documents that have text, in their order: a tensor on its device.
    """

    def __init__(
        self, model: Any, documents: Mapping[str, str], *, batch_size: int = 64, precision: Precision = "float32"
    ) -> None:
        self._model, self._batch_size, self._precision = model, batch_size, precision
        self._documents = {name: text for name, text in documents.items() if text}
        self._names = list(self._documents)
        self._places = {name: place for place, name in enumerate(self._names)}
        self.vectors = self._encoded(model.encode_document, list(self._documents.values()))

    def find(self, queries: Sequence[str], named: Sequence[Sequence[str]], depth: int) -> list[SearchResult]:
        """As `CandidateSource`."""
        if not queries:
            return []
        scores = self._model.similarity(self._encoded(self._model.encode_query, queries), self.vectors)
        values, places = scores.topk(min(depth, len(self._names)), dim=1)
        rankings = zip(values.tolist(), places.tolist(), strict=True)
        known_names = [[name for name in names if name in self._places] for names in named]
        return [
            SearchResult(
                [(self._names[place], value) for value, place in zip(row, indices, strict=True)],
                {name: float(row_scores[self._places[name]]) for name in ids},
            )
            for (row, indices), row_scores, ids in zip(rankings, scores, known_names, strict=True)
        ]

    def texts(self, ids: Sequence[str]) -> dict[str, str]:
        """As `CandidateSource`."""
        return {name: self._documents[name] for name in ids if name in self._documents}

    def _encoded(self, encode: Any, texts: Sequence[str]) -> Any:
        with computed_in(self._model, self._precision):
            return encode(list(texts), batch_size=self._batch_size, convert_to_tensor=True, show_progress_bar=False)


def mine(
    retriever: Any,
    queries: Sequence[str],
    documents: Sequence[str],
    relevant: Mapping[int, Sequence[int]],
    negatives: int,
) -> dict[int, list[int]]:
    """For each query its `negatives` most similar documents, exactly, best first.

    None is judged relevant, nor has the text of one that is.
    """
    source, query_ids = ModelSource(retriever, {str(n): text for n, text in enumerate(documents)}), list(relevant)
    excluded_of = excluded(documents, relevant)
    depth = negatives + max(map(len, excluded_of.values()))
    negatives_of: dict[int, list[int]] = {}
    for start in range(0, len(query_ids), CHUNK):
        part = query_ids[start : start + CHUNK]
        rankings = source.find([queries[query] for query in part], [[] for _ in part], depth)
        for query, result in zip(part, rankings, strict=True):
            places = (int(name) for name, _ in result.ranking)
            negatives_of[query] = [document for document in places if document not in excluded_of[query]][:negatives]
    return negatives_of


def excluded(documents: Sequence[str], relevant: Mapping[int, Sequence[int]]) -> dict[int, set[int]]:
    """For each query the documents with the text of a relevant one."""
    relevant_texts = {documents[document] for positives in relevant.values() for document in positives}
    documents_of: dict[str, set[int]] = {text: set() for text in relevant_texts}
    for document, text in enumerate(documents):
        if text in relevant_texts:
            documents_of[text].add(document)
    return {
        query: set().union(*(documents_of[documents[document]] for document in positives))
        for query, positives in relevant.items()
    }


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
