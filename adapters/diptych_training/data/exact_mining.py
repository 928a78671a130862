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
    source, asked = ModelSource(retriever, {str(n): text for n, text in enumerate(documents)}), list(relevant)
    out = excluded(documents, relevant)
    depth = negatives + max(map(len, out.values()))
    found: dict[int, list[int]] = {}
    for start in range(0, len(asked), CHUNK):
        part = asked[start : start + CHUNK]
        rankings = source.find([queries[query] for query in part], [[] for _ in part], depth)
        for query, own in zip(part, rankings, strict=True):
            places = (int(name) for name, _ in own.ranking)
            found[query] = [place for place in places if place not in out[query]][:negatives]
    return found


def excluded(documents: Sequence[str], relevant: Mapping[int, Sequence[int]]) -> dict[int, set[int]]:
    """For each query the documents with the text of a relevant one."""
    wanted = {documents[place] for own in relevant.values() for place in own}
    places: dict[str, set[int]] = {text: set() for text in wanted}
    for place, text in enumerate(documents):
        if text in wanted:
            places[text].add(place)
    return {query: set().union(*(places[documents[place]] for place in own)) for query, own in relevant.items()}
