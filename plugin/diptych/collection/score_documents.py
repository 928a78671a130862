"""Scores given documents: `scores` for a batch of queries, the others for points in each slot, with their terms."""

from __future__ import annotations

from collections.abc import Sequence
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
    view, names = request.view, [slot.vector]
    records = read_store(view, lambda: view.client.retrieve(view.name, points, with_payload=False, with_vectors=names))
    stored: dict[PointId, dict[int, float]] = {}  # the points' document weights by term
    for record in records:
        vector: Any = (record.vector or {}).get(slot.vector)  # type: ignore[union-attr]
        stored[record.id] = {} if vector is None else dict(zip(vector.indices, vector.values, strict=True))
    shared = [index for index in weights if any(index in vector for vector in stored.values())]
    alone = [models.SparseVector(indices=[index], values=[weights[index]]) for index in shared]
    answers = query_points(request.view, [_of_points(request, points, vector, slot) for vector in alone])
    terms: dict[PointId, list[Term]] = {point: [] for point in points}
    for index, found in zip(shared, answers, strict=True):
        asked = weights[index]
        ((word, _), *_) = slot.encoder.decode(SparseVector(np.array([index], np.uint32), np.array([asked], np.float32)))
        for point in found:
            weight = stored.get(point.id, {}).get(index, 0.0)  # a point may be written after `stored` was read
            idf = point.score / (asked * weight) if asked * weight else 1.0
            terms[point.id].append(Term(word, asked, weight, idf, point.score))
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
        options: SearchOptions = {"pipeline": Retrieve(slot), "with_payload": False, "tenant": tenant}
        requests: dict[int, SearchRequest] = {}
        for position, (query, documents) in enumerate(zip(queries, ids, strict=True)):
            if documents:
                chosen = having(handle, documents, tenant=tenant)
                own: SearchOptions = {**options, "limit": len(set(documents)), "filter": chosen}
                requests[position] = SearchRequest.of(view, [query], own)
        retrieved = retrieve_together([*requests.values()]) if requests else []
        found = {position: one.hits[0] for position, one in zip(requests, retrieved, strict=True)}
        return [{hit.id: hit.score for hit in found.get(position, ())} for position in range(len(ids))]

    with one_question(handle, len(queries)):
        return on_current_view(handle, score_all)
