"""`ModelSource`: finds candidates with the model in training, by exact search in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diptych_training.data.candidate_sources import SearchResult
from diptych_training.precision import Precision, computed_in

CHUNK = 256  # queries that are compared with all documents at a time


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
