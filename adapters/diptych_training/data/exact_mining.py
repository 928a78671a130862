"""The most similar documents to each query by exact search, without relevant ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diptych_training.data.model_source import ModelSource

CHUNK = 256  # queries that are compared with all documents at a time


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
