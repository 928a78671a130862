"""Encodes the queries of one or more requests together, and retrieves their hits.

Qdrant runs most of a pipeline in one request; fusions and weights that it cannot are computed in between. Pinned
documents are the first hits of any query, if they exist and match tenant and filter.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import NamedTuple, TypeAlias

import numpy as np
from qdrant_client import models

from diptych.config.stages import Linear, Rerank, Rrf
from diptych.errors import SearchError
from diptych.handle.view import Memo, View, narrowed, with_ids
from diptych.runtime.phases import LOG
from diptych.search.fusion import PointId, Ranking, fuse, mixed
from diptych.search.pipeline import require_fitting_indexes
from diptych.search.query import (
    Input,
    Inputs,
    branch_requests,
    fusion_request,
    pipeline_request,
    rest_request,
    unboosted_direction,
    with_examples,
)
from diptych.search.request import SearchRequest, direction
from diptych.search.store_calls import read_store
from diptych.slots.encode import client_form
from diptych.slots.slot import Slot, parts_of, vectors_of_queries
from diptych.stores.versions import is_server_client
from diptych.types import Hit, Query, SparseVector

_Shown: TypeAlias = Mapping[PointId, Mapping[str, float]]

PINNED = "pinned"  # key of `Hit.stages` that holds a pinned document's place, from 1


class Retrieved(NamedTuple):
    """The hits of each query of a `SearchRequest`, best first.

    Args:
        hits: one list per query.
        seconds: duration of each step, later ones included.
        unscored: per query, the documents that a later reranker left out without a score, and which reranker.
        notes: per query, what `explain` says about all its hits, such as that a reranker reached its deadline.
        began: start of the first step, by `time.perf_counter`.
        pinned: the pinned documents, the same for all queries.
    """

    hits: list[list[Hit]]
    seconds: dict[str, float]
    unscored: list[dict[str, Rerank]]
    notes: list[list[str]]
    began: float = 0.0
    pinned: Sequence[Hit] = ()


def retrieve_together(
    requests: Sequence[SearchRequest], inputs: Sequence[Sequence[Inputs]] | None = None
) -> list[Retrieved]:
    """The hits of each request: queries are encoded together, and sent to Qdrant together where it does all the steps.

    Args:
        requests: searches of the same view.
        inputs: their queries, where these are encoded already.

    Raises:
        SearchError, CollectionNotFound, StoreUnavailable: the store cannot answer.
        ContractError, FingerprintMismatch: see `encode_inputs`.
    """
    seconds: dict[str, float] = {}
    timer = StepTimer(seconds)
    if inputs is None:
        inputs = inputs_of(requests)
        timer.passed("encode")
    hits = retrieve(requests, inputs)
    pins = [pinned_hits(request) if request.pin else () for request in requests]
    timer.passed("retrieve")
    return [
        Retrieved(lists, dict(seconds), [{} for _ in lists], [[] for _ in lists], timer.began, pinned)
        for lists, pinned in zip(hits, pins, strict=True)
    ]


def inputs_of(requests: Sequence[SearchRequest]) -> list[list[Inputs]]:
    """For each request its encoded queries, moved by its examples (`like`, `unlike`).

    Requests for the same slots are encoded together.

    Raises:
        SearchError: no slot takes what a query gives.
    """
    places: dict[tuple[str, ...], list[int]] = {}
    for place, request in enumerate(requests):
        places.setdefault(request.pipeline.slots, []).append(place)
    inputs: dict[int, list[Inputs]] = {}
    for names, numbers in places.items():
        given = [query for place in numbers for query in requests[place].queries]
        # All requests have one view, and those of a group retrieve from the same slots: the first stands for them.
        view = requests[numbers[0]].view
        encoded = encode_inputs(view.slots, names, given, view.search_config.remember)
        for query, encoded_query in zip(given, encoded, strict=True):
            if not encoded_query and not any(parts_of(view.slots[name], query) for name in names):
                raise SearchError(
                    "no slot of the pipeline takes this query",
                    where=repr(requests[numbers[0]].pipeline),
                    got=given_by(query),
                    expected="; ".join(f"{name}: {', '.join(view.slots[name].query_inputs)}" for name in names),
                )
        following = iter(encoded)
        for place in numbers:
            request, of_request = requests[place], list(islice(following, len(requests[place].queries)))
            inputs[place] = with_examples(request, of_request) if request.like or request.unlike else of_request
    return [inputs[place] for place in range(len(requests))]


def encode_inputs(
    slots: Mapping[str, Slot], names: Sequence[str], queries: Sequence[Query], remember: int = 0
) -> list[Inputs]:
    """Each query encoded for each slot. Slots that get nothing from it are left out, such as BM25 for stop words alone.

    Args:
        slots: the view's slots.
        names: the slots to encode for.
        queries: with their media read.
        remember: number of vectors that each slot caches for repeated queries.

    Raises:
        ContractError: an encoder breaks its contract.
        FingerprintMismatch: an encoder did not make the vectors of its slot.
    """
    inputs: list[dict[str, Input]] = [{} for _ in queries]
    texts = [query.text for query in queries if not query.media]
    for name in names:
        slot = slots[name]
        # Queries with media, and slots that read no texts, need a choice of the parts that the encoder takes.
        if len(texts) < len(queries) or not slot.takes_texts:
            vectors = vectors_of_queries(slot, queries, remember)
        elif slot.kind == "text_index":
            vectors = [slot.encoder.query(text) for text in texts]
        else:
            vectors = slot.encode_queries(texts, remember=remember)
        for of_query, vector in zip(inputs, vectors, strict=True):
            if vector is not None and not (isinstance(vector, SparseVector) and not len(vector)):
                of_query[name] = client_form(vector)
    return list(inputs)


def given_by(query: Query) -> str:
    """What a query gives, for errors: a text, or the beginning of its text and its modalities."""
    return " and ".join(filter(None, (query.text[:60], *query.media))) if query.media else "a text"


class StepTimer:
    """Measures how long each step takes."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self.began = seconds, time.perf_counter()
        self._last = self.began

    def passed(self, step: str) -> None:
        """Record that the step ends now."""
        now = time.perf_counter()
        self._seconds[step], self._last = now - self._last, now
        LOG.debug("search, %s: %.4f s", step, self._seconds[step])


def pinned_hits(request: SearchRequest) -> list[Hit]:
    """The pinned documents that exist and match tenant and filter, in the order of their pins, without scores."""
    view = request.view
    with_pinned_ids = models.Filter(must=[with_ids(view, request.pin, request.tenant)])
    matching = narrowed(request.scope, narrowed(request.chosen, with_pinned_ids))
    shard_key = request.shard_key_selector
    limit = 2 * len(request.pin)  # an id may also be that of a point of another program
    records, _ = read_store(
        view, lambda: view.client.scroll(view.name, matching, limit=limit, with_payload=request.selector, **shard_key)
    )
    hits = [Hit(view.layout.read(r.id, r.payload), 0.0, point=r.id) for r in records]
    found = {hit.id: hit for hit in hits}
    return [found[identifier] for identifier in request.pin if identifier in found]


def with_pins(request: SearchRequest, pinned: Sequence[Hit], hits: Sequence[Hit]) -> list[Hit]:
    """The page, pinned documents first. They get the best other hit's score, so that scores never rise down the list.

    Args:
        request: the search.
        pinned: the result of `pinned_hits`.
        hits: the other hits, from `request.begin` on.
    """
    skipped = request.offset - request.begin
    if request.begin > 0:  # the pins are on an earlier page
        first = skipped - len(pinned)
        return list(hits[first : first + request.limit])
    best = max((hit.score for hit in hits), default=0.0)
    placed = [replace(hit, score=best, stages={PINNED: float(n)}) for n, hit in enumerate(pinned, 1)]
    return [*placed, *hits][request.offset : request.end]


def retrieve(batch: Sequence[SearchRequest], inputs: Sequence[Sequence[Inputs]]) -> list[list[list[Hit]]]:
    """For each request and query, the hits after retrieval, fusion, rescoring, diversification and boosts."""
    hits: list[list[list[Hit]]] = []
    requests, pages = [], []
    for request, queries in zip(batch, inputs, strict=True):
        if request.pipeline.boost:
            require_fitting_indexes(request.view, request.pipeline.boost)
        if fuses_in_diptych(request) or _combines_scores(request):
            hits.append(_with_diptych_steps(request, queries))
            continue
        page = _page(request)
        lists: list[list[Hit]] = []
        hits.append(lists)
        for query in queries:
            requests.append(pipeline_request(request, query, limit=page.limit, offset=page.offset))
            pages.append((request, page, lists))
    for points, (request, page, lists) in zip(query_points(batch[0].view, requests), pages, strict=True):
        lists.append(page.cut(hits_from_points(request, points)))
    return hits


def fuses_in_diptych(request: SearchRequest) -> bool:
    """Whether diptych fuses the candidates: if a slot's lowest score counts, or Qdrant would fuse each shard alone.

    Qdrant fuses across shards only in the last step of a request. A fusion nested below another step would let the best
    of each shard, however few documents that has, count as the best of all.
    """
    pipeline, fuse = request.pipeline, request.pipeline.fuse
    if fuse is None or (isinstance(fuse, Linear) and fuse.missing is None):
        return fuse is not None
    # A formula weights Qdrant's own fusions, or negates distances.
    if isinstance(fuse, Rrf):
        nested = not {1.0}.issuperset(fuse.weights.values())
    else:
        slots = (request.view.slots[branch.slot] for branch in pipeline.retrieve)
        nested = isinstance(fuse, Linear) or any(direction(slot) < 0 for slot in slots)
    return bool(nested or pipeline.rescore or pipeline.boost or pipeline.diversify) and _has_shards(request.view)


@Memo
def _has_shards(view: View) -> bool:
    """Whether the collection has several shards, or shard keys."""
    if not is_server_client(view.client):
        return False
    params = read_store(view, lambda: view.client.get_collection(view.name)).config.params
    return (params.shard_number or 1) > 1 or params.sharding_method == models.ShardingMethod.CUSTOM


@dataclass(frozen=True, slots=True)
class _Page:
    """Limit and offset of Qdrant's request, and the part of the answer to keep.

    Equal scores are common in rank fusion, and Qdrant's order of them changes from call to call. So if it fuses or
    rescores, the request reads from the first hit to a little beyond the page, ties are ordered by document id, and the
    page is cut here. Diversified hits are cut here too, in their own order: servers return nothing for MMR with an
    offset.
    """

    limit: int
    offset: int
    kept: slice | None
    by_score: bool = True

    def cut(self, hits: list[Hit]) -> list[Hit]:
        """The page, the same at every call."""
        if self.kept is None:
            return hits
        return (sorted(hits, key=lambda hit: (-hit.score, hit.document.id)) if self.by_score else hits)[self.kept]


def _page(request: SearchRequest) -> _Page:
    pipeline, (limit, offset) = request.pipeline, request.window
    if pipeline.diversify:
        return _Page(offset + limit, 0, slice(offset, offset + limit), by_score=False)
    if not (pipeline.fuse or pipeline.rescore or pipeline.boost):
        return _Page(limit, offset, None)
    # One hit more for each slot: that many documents may share a rank, and so tie at the end of the page.
    return _Page(offset + limit + len(pipeline.retrieve), 0, slice(offset, offset + limit))


def query_points(view: View, requests: Sequence[models.QueryRequest | None]) -> list[list[models.ScoredPoint]]:
    """The points for each request in one call; none for a missing request."""
    queries = list(filter(None, requests))
    answers = iter(read_store(view, partial(view.client.query_batch_points, view.name, queries)) if queries else ())
    return [next(answers).points if request else [] for request in requests]


def rank_branches(request: SearchRequest, inputs: Sequence[Inputs]) -> list[dict[str, Ranking]]:
    """For each query, each slot's candidates, best first, higher scores better; one call for all."""
    batch = [(n, slot, r) for n, query in enumerate(inputs) for slot, r in branch_requests(request, query).items()]
    rankings: list[dict[str, Ranking]] = [{} for _ in inputs]
    for (n, slot, _), points in zip(batch, query_points(request.view, [r for _, _, r in batch]), strict=True):
        sign = direction(request.view.slots[slot])
        rankings[n][slot] = [(point.id, sign * point.score) for point in points]
    return rankings


def _combines_scores(request: SearchRequest) -> bool:
    """Whether old and new scores are combined, which needs the lowest and highest of both after a request."""
    rescore = request.pipeline.rescore
    return rescore is not None and rescore.weight < 1


def _with_diptych_steps(request: SearchRequest, inputs: Sequence[Inputs]) -> list[list[Hit]]:
    pipeline, combines = request.pipeline, _combines_scores(request)
    rankings, shown = _first_rankings(request, inputs), list[_Shown]({} for _ in inputs)
    if combines:
        rankings, shown = _combined(request, inputs, rankings)
    # A boost applies after rescoring. Where Qdrant rescores alone, it boosts in the same request; else diptych does.
    boost = pipeline.boost if combines or pipeline.rescore is None else None
    if boost is not None:
        added = boosts_of(request, list(dict.fromkeys(point for ranking in rankings for point, _ in ranking)))
        nothing, boosted = [0.0] * len(boost.parts), list[Ranking]()  # of points that were deleted meanwhile
        for ranking in rankings:
            pairs = [(point, score + sum(boost.added(added.get(point, nothing), score))) for point, score in ranking]
            boosted.append(sorted(pairs, key=lambda pair: -pair[1]))
        rankings = boosted
    left = replace(
        pipeline, rescore=None if combines else pipeline.rescore, boost=pipeline.boost if boost is None else None
    )
    rest = replace(request, pipeline=left)
    if rest.pipeline.rescore or rest.pipeline.diversify:
        page = _page(request)
        requests = [
            rest_request(rest, query, [point for point, _ in ranking], limit=page.limit, offset=page.offset)
            for query, ranking in zip(inputs, rankings, strict=True)
        ]
        return [page.cut(hits_from_points(request, points)) for points in query_points(request.view, requests)]
    limit, offset = request.window
    return _fetched(request, [ranking[offset : offset + limit] for ranking in rankings], shown)


def _first_rankings(request: SearchRequest, inputs: Sequence[Inputs]) -> list[Ranking]:
    """Each query's ranking after retrieval and fusion."""
    fusion = request.pipeline.fuse
    if fusion is None:
        return [next(iter(rankings.values()), ()) for rankings in rank_branches(request, inputs)]
    if fuses_in_diptych(request):
        return [fuse(fusion, rankings) for rankings in rank_branches(request, inputs)]
    rescore = request.pipeline.rescore
    assert rescore is not None, "otherwise Qdrant computes the whole pipeline"
    limit = rescore.candidates + len(request.pipeline.retrieve)  # a little more, as `_Page` does
    answers = query_points(request.view, [fusion_request(request, query, limit=limit) for query in inputs])
    fused = [[(point.id, point.score) for point in points] for points in answers]
    # Qdrant's order of equal scores changes from call to call; by id the next stage reads the same documents each time.
    return [sorted(ranking, key=lambda pair: (-pair[1], str(pair[0]))) for ranking in fused]


def _combined(
    request: SearchRequest, inputs: Sequence[Inputs], rankings: Sequence[Ranking]
) -> tuple[list[Ranking], list[_Shown]]:
    """The rankings by combined old and new scores, and the new scores alone."""
    rescore = request.pipeline.rescore
    assert rescore is not None, "the caller has checked"
    alone = replace(request, pipeline=replace(request.pipeline, boost=None, diversify=None), with_payload=False)
    width, sign = rescore.candidates, direction(request.view.slots[rescore.slot])
    requests = [
        rest_request(alone, query, [point for point, _ in ranking], limit=width, offset=0)
        for query, ranking in zip(inputs, rankings, strict=True)
    ]
    weighted: list[Ranking] = []
    shown: list[_Shown] = []
    for ranking, points in zip(rankings, query_points(request.view, requests), strict=True):
        new = {point.id: sign * point.score for point in points}
        # Without points that were deleted meanwhile, or that have no vector in the rescoring slot.
        both = [(point, new[point], score) for point, score in ranking[:width] if point in new]
        scores, before = np.array([pair[1] for pair in both]), np.array([pair[2] for pair in both])
        final = mixed(scores, before, rescore.weight).tolist()
        points_with_scores = zip([point for point, _, _ in both], final, strict=True)
        weighted.append(sorted(points_with_scores, key=lambda pair: -pair[1]))
        shown.append({point: {rescore.slot: score} for point, score, _ in both})
    return weighted, shown


def boosts_of(request: SearchRequest, points: Sequence[PointId]) -> dict[PointId, list[float]]:
    """By point, what each part of the boost adds (relative parts: to a score of 1), in one call."""
    boost = request.pipeline.boost
    assert boost is not None, "the caller has checked"
    ids = models.Filter.model_construct(must=[models.HasIdCondition.model_construct(has_id=list(points))])
    node = models.Prefetch.model_construct(filter=narrowed(request.scope, ids), limit=len(points))
    fields = {"prefetch": [node], "limit": len(points), "with_payload": False, **request.shard_key}
    # A request for each part, since a formula returns only its total. Parts do not depend on scores, so one call serves
    # all queries; `Boost.added` applies a relative part to the score of each.
    values = [boost.weighted(part, request.view.layout, request.now) for part in boost.parts]
    requests = [models.QueryRequest.model_construct(query=models.FormulaQuery(formula=v), **fields) for v in values]
    answers = query_points(request.view, requests) if points else []
    added: dict[PointId, list[float]] = {}
    for place, answer in enumerate(answers):
        for point in answer:
            added.setdefault(point.id, [0.0] * len(boost.parts))[place] = point.score
    return added


def _fetched(request: SearchRequest, rankings: Sequence[Ranking], shown: Sequence[_Shown]) -> list[list[Hit]]:
    """The rankings' documents, fetched in one call, without points that were deleted meanwhile.

    Args:
        shown: for each ranking and point the scores of earlier stages, for `Hit.stages`.
    """
    ids: list[PointId] = list(dict.fromkeys(point for ranking in rankings for point, _ in ranking))
    view, shard_key = request.view, request.shard_key_selector
    read = partial(view.client.retrieve, view.name, ids, request.selector, **shard_key)
    records = read_store(view, read) if ids else []
    documents = {record.id: view.layout.read(record.id, record.payload) for record in records}
    label = request.pipeline.label
    return [
        [
            Hit(documents[point], score, {label: score, **earlier.get(point, {})}, point=point)
            for point, score in ranking
            if point in documents
        ]
        for ranking, earlier in zip(rankings, shown, strict=True)
    ]


def hits_from_points(request: SearchRequest, points: Sequence[models.ScoredPoint]) -> list[Hit]:
    """The hits of Qdrant's points, in their order; distances become negative scores, so that higher is better."""
    label, layout = request.pipeline.label, request.view.layout
    sign = 1 if request.pipeline.boost else unboosted_direction(request)
    hits = []
    for point in points:
        document, score = layout.read(point.id, point.payload), sign * point.score
        hits.append(Hit(document, score, {label: score}, point=point.id, version=point.version))
    return hits
