"""Scores of given points in each slot, and the terms of sparse slots that they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from qdrant_client import models

from diptych.handle.snapshot import View
from diptych.handle.tenancy import narrowed
from diptych.search.fusion import PointId
from diptych.search.qdrant_query import Inputs, params_for, retrieval_query, using
from diptych.search.qdrant_retrieval import query_points
from diptych.search.request import SearchRequest, direction
from diptych.slots.slot import Slot
from diptych.types import SparseVector


@dataclass(frozen=True, slots=True)
class Term:
    """A term that query and document share: `contribution` = `query` * `document` * `idf`; `idf` is 1 without IDF."""

    word: str
    query: float
    document: float
    idf: float
    contribution: float

    def __str__(self) -> str:
        return f"{self.word} {self.contribution:.4f} = {self.query:.4f} x {self.document:.4f} x idf {self.idf:.4f}"


def scores_of(request: SearchRequest, inputs: Inputs, points: Sequence[PointId]) -> dict[str, dict[PointId, float]]:
    """For each slot the points' scores, higher is better; points without a score are left out. One call for all."""
    handle = request.handle
    requests = [_of_points(request, points, query, handle.slots[name]) for name, query in inputs.items()]
    scores = {}
    for name, found in zip(inputs, query_points(handle, requests if points else []), strict=bool(points)):
        sign = direction(handle.slots[name])
        scores[name] = {point.id: sign * point.score for point in found}
    return scores


def matched_terms(
    request: SearchRequest, slot: Slot, query: models.SparseVector, points: Sequence[PointId]
) -> dict[PointId, tuple[Term, ...]]:
    """For each point the terms it shares with the query, the largest contributions first.

    Each term is searched alone, so that the store itself computes its contribution, IDF included.
    """
    weights = dict(zip(query.indices, query.values, strict=True))
    stored = _stored(request.handle, slot, points)
    shared = [index for index in weights if any(index in vector for vector in stored.values())]
    alone = [models.SparseVector(indices=[index], values=[weights[index]]) for index in shared]
    answers = query_points(request.handle, [_of_points(request, points, vector, slot) for vector in alone])
    terms: dict[PointId, list[Term]] = {point: [] for point in points}
    for index, found in zip(shared, answers, strict=True):
        word = _word(slot, index, weights[index])
        for point in found:
            weight = stored[point.id].get(index, 0.0)
            terms[point.id].append(_term(word, weights[index], weight, point.score))
    return {point: tuple(sorted(found, key=lambda term: -term.contribution)) for point, found in terms.items()}


def _of_points(request: SearchRequest, points: Sequence[PointId], query: Any, slot: Slot) -> models.QueryRequest:
    chosen = narrowed(request.scope, models.Filter(must=[models.HasIdCondition(has_id=list(points))]))
    return models.QueryRequest.model_construct(
        query=retrieval_query(query),
        using=using(slot),
        filter=chosen,
        params=params_for(request, slot, None),
        limit=len(points),
        with_payload=False,
        **request.shard_key,
    )


def _stored(handle: View, slot: Slot, points: Sequence[PointId]) -> dict[PointId, dict[int, float]]:
    """The points' document weights by term."""
    records = handle.client.retrieve(handle.name, points, with_payload=False, with_vectors=[slot.vector])
    vectors: Mapping[PointId, Any] = {r.id: r.vector for r in records}
    return {point: _weights(found.get(slot.vector) if found else None) for point, found in vectors.items()}


def _weights(vector: Any) -> dict[int, float]:
    return {} if vector is None else dict(zip(vector.indices, vector.values, strict=True))


def _word(slot: Slot, index: int, weight: float) -> str:
    vector = SparseVector(np.array([index], np.uint32), np.array([weight], np.float32))
    word: str = slot.encoder.decode(vector)[0][0]
    return word


def _term(word: str, query: float, document: float, contribution: float) -> Term:
    product = query * document
    return Term(word, query, document, contribution / product if product else 1.0, contribution)
