"""Candidates of slots whose passages are points: the documents of the passages nearest to a query.

They narrow what Qdrant searches in the documents' collection, by filter, before all that a pipeline does. Scores and
filters are those of the documents' own points, so the answer is that of the multi-vectors among the candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from qdrant_client import models

from diptych.errors import SearchError
from diptych.handle.snapshot import View
from diptych.handle.tenancy import narrowed
from diptych.search.fusion import PointId
from diptych.search.pipeline import Retrieve
from diptych.search.request import SearchRequest
from diptych.search.store_errors import ask
from diptych.slots.slot import Slot
from diptych.stores.local import is_local
from diptych.stores.passage_collections import collection_of, has_points
from diptych.stores.passage_points import PARENT, document_of

EF = (
    200  # neighbours looked at for candidates: more than Qdrant's 100, since a document's passages are found one by one
)
FEW = 1000  # documents that match a filter, up to which all of them are scored
FIRST, MORE = 2.0, 4  # passages read for each candidate at first, and how many times as many at each further try
SPARE = 10  # more candidates than wanted: some may be named by passages of an earlier text, or deleted meanwhile
MOST = 20_000  # passages read for one query; then all documents are scored

Inputs: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class QueryOfCandidates:
    """A query that only these documents answer."""

    vector: list[list[float]]
    points: Sequence[PointId]

    def within(self, filter: models.Filter | None) -> models.Filter | None:
        """The filter, within the candidates."""
        has_id = models.HasIdCondition.model_construct(has_id=list(self.points))
        return narrowed(models.Filter.model_construct(must=[has_id]), filter)


@dataclass(frozen=True, slots=True)
class _Search:
    """The search for the candidates of one query of one request, in one slot; `reads` passages at the next try."""

    request: SearchRequest
    inputs: dict[str, Any]
    branch: Retrieve
    wanted: int
    reads: int

    def passing(self, points: Sequence[models.ScoredPoint]) -> list[PointId]:
        """The documents of these passages that match the request's filter, best first."""
        documents: list[PointId] = list(dict.fromkeys(document_of(point) for point in points))
        if self.request.filter is None or not documents:
            return documents
        view, own = self.request.handle, self.request.shard_key_selector
        ids = models.Filter.model_construct(must=[models.HasIdCondition.model_construct(has_id=documents)])
        chosen = narrowed(ids, self.request.filter)
        records, _ = ask(
            view,
            lambda: view.client.scroll(view.name, chosen, limit=len(documents), with_payload=False, **own),
        )
        matching = {record.id for record in records}
        return [document for document in documents if document in matching]


def with_candidates(
    requests: Sequence[SearchRequest], inputs: Sequence[Sequence[Inputs]], *, wide: bool = False
) -> list[list[Inputs]]:
    """The inputs of each query of each request, within its candidates for slots whose passages are points.

    A slot stays as it is, so that all documents are scored, where the search is exact, few documents match the filter,
    or the passages of too few documents are found.

    Args:
        wide: find as many candidates as a slot's branch may pass on, also where fewer would do for the hits.

    Raises:
        SearchError: the collection of the passages is gone.
    """
    view = requests[0].handle
    indexed = {name: slot for name, slot in view.slots.items() if has_points(slot.generation)}
    if not indexed:
        return [list(of_request) for of_request in inputs]
    copies = [[dict(query) for query in of_request] for of_request in inputs]
    for name, slot in indexed.items():
        searches = [
            search
            for request, queries in zip(requests, copies, strict=True)
            for search in _searches(request, name, queries, wide)
        ]
        _Candidates(view, slot).find(searches)
    return copies  # type: ignore[return-value]


def _searches(request: SearchRequest, name: str, queries: Sequence[dict[str, Any]], wide: bool) -> list[_Search]:
    branch = next((branch for branch in request.pipeline.retrieve if branch.slot == name), None)
    if branch is None or not any(name in query for query in queries):
        return []
    params = branch.params if request.params is None else request.params
    if params is not None and params.exact:
        return []
    alone = len(request.pipeline.retrieve) == 1 and not request.pipeline.stages
    wanted = sum(request.window)
    if wide or not alone:
        wanted = max(wanted, branch.candidates) if alone else branch.candidates
    wanted += max(SPARE, wanted // 5)
    share = _share(request)
    if not share:
        return []
    reads = math.ceil(wanted * request.handle.kept.get(f"passages {name}", FIRST) / share)
    if reads > MOST:
        return []
    return [_Search(request, query, branch, wanted, reads) for query in queries if name in query]


def _share(request: SearchRequest) -> float:
    """The share of the documents that match the filter, about; 0 where it is better to score all that match."""
    if request.filter is None:
        return 1.0
    view, own = request.handle, request.shard_key_selector
    matching = ask(view, lambda: view.client.count(view.name, request.filter, exact=False, **own)).count
    if matching <= FEW:
        return 0.0
    return min(1.0, matching / max(1, ask(view, lambda: view.client.count(view.name, exact=False)).count))


def _widened(params: models.SearchParams | None, view: View) -> models.SearchParams | None:
    """The parameters, with as many neighbours looked at as it takes, unless they say how many."""
    if is_local(view.client):  # it has no graph, and warns
        return params
    if params is None:
        return models.SearchParams.model_construct(hnsw_ef=EF)
    return params if params.hnsw_ef is not None else params.model_copy(update={"hnsw_ef": EF})


class _Candidates:
    """Finds the candidates in one slot."""

    def __init__(self, view: View, slot: Slot) -> None:
        self._view, self._slot = view, slot
        self._name = collection_of(view.name, slot.vector)

    def find(self, searches: Sequence[_Search]) -> None:
        """Narrow the inputs of each search."""
        while searches:
            further = []
            for search, points in zip(searches, self._passages(searches), strict=True):
                documents = search.passing(points)
                if len(documents) >= search.wanted or len(points) < search.reads:
                    own = search.inputs[self._slot.name]
                    search.inputs[self._slot.name] = QueryOfCandidates(own, documents[: search.wanted])
                    self._note(search, len(documents))
                elif search.reads < MOST:
                    further.append(replace(search, reads=min(MOST, search.reads * MORE)))
            searches = further

    def _note(self, search: _Search, found: int) -> None:
        """Keep how many passages one candidate takes, if no filter was in the way, for the next searches."""
        if search.request.filter is None and found >= search.wanted:
            kept, name = self._view.kept, f"passages {self._slot.name}"
            kept[name] = max(search.reads / search.wanted, 0.9 * kept.get(name, FIRST), FIRST)

    def _passages(self, searches: Sequence[_Search]) -> list[list[models.ScoredPoint]]:
        requests = [
            models.QueryRequest.model_construct(
                query=search.inputs[self._slot.name][0],
                using=self._slot.vector,
                params=_widened(search.request.params or search.branch.params, self._view),
                limit=search.reads,
                with_payload=[PARENT],
            )
            for search in searches
        ]
        client = self._view.client
        try:
            answers = ask(self._view, lambda: client.query_batch_points(self._name, requests))
        except Exception as error:
            if client.collection_exists(self._name):
                raise
            raise self._gone() from error
        return [answer.points for answer in answers]

    def _gone(self) -> SearchError:
        do = "diptych doctor --repair makes it again; a collection with passages as points has no alias"
        return SearchError("the collection of a slot's passages is gone", where=self._slot.where, got=self._name, do=do)
