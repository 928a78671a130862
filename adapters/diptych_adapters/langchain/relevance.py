"""Scores on LangChain's scale of relevance: 0 says nothing in common, 1 says the same."""

from __future__ import annotations

from diptych.encoders import NamedEncoder
from diptych.errors import SearchError


def relevance(score: float, encoder: NamedEncoder) -> float:
    """The relevance of a hit of a dense slot.

    A cosine c is (1 + c) / 2, as in langchain-qdrant. A distance d, whose score is -d, is 1 / (1 + d).

    Raises:
        SearchError: dot products, which have no bounds.
    """
    if encoder.similarity == "cosine":
        return min(1.0, max(0.0, (1 + score) / 2))
    if encoder.similarity == "euclidean":
        return 1 / (1 + max(0.0, -score))
    raise SearchError(
        "these scores have no scale between 0 and 1",
        where=f"slot {encoder.name!r}",
        got=str(encoder.similarity),
        expected="cosine or euclidean",
        do="use similarity_search_with_score, whose score_threshold is on the slot's own scale",
    )
