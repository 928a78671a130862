"""Scores given documents: `scores` for a batch of queries, the others for points in each slot, with their terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from qdrant_client import models

from diptych.collection.documents import having
from diptych.errors import SearchError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.handle.tenancy import narrowed
from diptych.search import Retrieve
from diptych.search.fusion import PointId
from diptych.search.options import SearchOptions
from diptych.search.query import Inputs, QueryWithExamples, params_for
from diptych.search.request import SearchRequest, direction
from diptych.search.retrieve import query_points, retrieve_together
from diptych.search.run import on_current_view, one_question
from diptych.search.store_calls import read_store
from diptych.slots.slot import Slot
from diptych.types import Query, SparseVector


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
    handle = request.view
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
    stored = _stored(request.view, slot, points)
    shared = [index for index in weights if any(index in vector for vector in stored.values())]
    alone = [models.SparseVector(indices=[index], values=[weights[index]]) for index in shared]
    answers = query_points(request.view, [_of_points(request, points, vector, slot) for vector in alone])
    terms: dict[PointId, list[Term]] = {point: [] for point in points}
    for index, found in zip(shared, answers, strict=True):
        word = _word(slot, index, weights[index])
        for point in found:
            weight = stored.get(point.id, {}).get(index, 0.0)  # a point may be written after `stored` was read
            terms[point.id].append(_term(word, weights[index], weight, point.score))
    return {point: tuple(sorted(found, key=lambda term: -term.contribution)) for point, found in terms.items()}


def _of_points(request: SearchRequest, points: Sequence[PointId], query: Any, slot: Slot) -> models.QueryRequest:
    chosen = narrowed(request.scope, models.Filter(must=[models.HasIdCondition(has_id=list(points))]))
    return models.QueryRequest.model_construct(
        query=query.query if isinstance(query, QueryWithExamples) else query,
        using=slot.vector or None,
        filter=chosen,
        params=params_for(request, slot, None),
        limit=len(points),
        with_payload=False,
        **request.shard_key,
    )


def _stored(view: View, slot: Slot, points: Sequence[PointId]) -> dict[PointId, dict[int, float]]:
    """The points' document weights by term."""
    names = [slot.vector]
    records = read_store(view, lambda: view.client.retrieve(view.name, points, with_payload=False, with_vectors=names))
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


def scores(
    handle: CollectionHandle,
    queries: Sequence[str | Query],
    ids: Sequence[Sequence[str]],
    *,
    slot: str,
    tenant: str | None = None,
) -> list[dict[str, float]]:
    """For each query the score of each of its documents in one slot, in one request; higher is better.

    Without a score, and so left out, are documents that the collection does not hold, or that have no term in common
    with the query where the slot is sparse.

    Args:
        queries: n texts or `Query`.
        ids: n lists of document ids.
        slot: whose vectors are compared.
        tenant: whose documents count, in a collection with tenants.

    Raises:
        SearchError: not one list for each query, or something that cannot be searched.
        CollectionError: ids that are not texts; CollectionNotFound: nothing has been populated yet.
    """
    if len(ids) != len(queries):
        got = f"{len(queries)} queries, {len(ids)} lists of ids"
        raise SearchError("the number of id lists is not the number of queries", where="scores", got=got)

    def score_all(view: View) -> list[dict[str, float]]:
        requests = {
            position: SearchRequest.of(view, [query], _options(handle, documents, slot, tenant))
            for position, (query, documents) in enumerate(zip(queries, ids, strict=True))
            if documents
        }
        retrieved = dict(zip(requests, retrieve_together(list(requests.values())), strict=True)) if requests else {}
        return [
            {hit.id: hit.score for hit in retrieved[position].hits[0]} if position in retrieved else {}
            for position in range(len(ids))
        ]

    with one_question(handle, len(queries)):
        return on_current_view(handle, score_all)


def _options(handle: CollectionHandle, ids: Sequence[str], slot: str, tenant: str | None) -> SearchOptions:
    chosen = having(handle, ids, tenant=tenant)
    return SearchOptions(pipeline=Retrieve(slot), limit=len(set(ids)), filter=chosen, with_payload=False, tenant=tenant)
