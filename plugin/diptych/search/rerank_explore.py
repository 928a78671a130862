"""Search by a reranker's own scores: each round scores the documents that the scores so far point to.

Every document's vector holds the reranker's scores of fixed queries, the anchors (`plugins.anchor_scores`). A new
query's scores are close to a weighted sum of those, plus the document's mean. The weights are fitted to the documents
scored so far; with them Qdrant finds the documents of the highest estimates, the reranker scores these, and so on.
Estimates only choose what is scored: the order is that of the reranker's scores.

Yadav et al., "Efficient k-NN Search with Cross-Encoders using Adaptive Multi-Round CUR Decomposition", Findings of
EMNLP 2023, by ridge regression and with the documents' means apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from qdrant_client import models

from diptych.config.stages import Explore, Rerank
from diptych.errors import SearchError
from diptych.metadata.payloads import from_payload
from diptych.plugins.anchor_scores import reranker_of, reranker_space
from diptych.protocols import Reranker
from diptych.search.fusion import PointId
from diptych.search.pipeline import search_params
from diptych.search.qdrant.retrieval import query_points
from diptych.search.qdrant.store_calls import read_store
from diptych.search.request import SearchRequest
from diptych.slots.slot import Slot
from diptych.types import Floats, Hit

EXPLORED = "explored"  # in `Hit.stages`: the round that found a document, the candidates' round being 0
Score: TypeAlias = Callable[[Sequence[Sequence[Hit]]], list[Floats]]  # of each query's first hits, or of all


@dataclass(slots=True)
class Explored:
    """One query's documents in the order of scoring.

    Args:
        hits: first those that were scored, then the candidates that were not.
        scores: of the first hits.
        rounds: how many documents each round scored.
        stopped: whether a deadline ended it before the last round.
        new: how many scored documents were no candidates; a later round may also find a candidate.
    """

    hits: list[Hit] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    stopped: bool = False
    new: int = 0

    def __str__(self) -> str:
        parts = f" ({' + '.join(map(str, self.rounds))})" if self.rounds else ""
        rounds = "1 round" if len(self.rounds) == 1 else f"{len(self.rounds)} rounds{parts}"
        return f"{len(self.scores)} documents in {rounds}, {self.new} of which were no candidates"


def explored(
    request: SearchRequest,
    stage: Rerank,
    reranker: Reranker,
    lists: Sequence[Sequence[Hit]],
    score: Score,
    late: Callable[[], bool],
) -> list[Explored]:
    """Each query's candidates, and the documents that their scores lead to, with the reranker's scores.

    Each round scores an equal share of what is left of the budget; the first one reads candidates alone. Where fewer
    documents have anchor scores than a round may read, it reads further candidates.

    Args:
        request: its filter, tenant and parameters hold for what is found as well.
        stage, reranker: the stage, which has `explore`, and its reranker.
        lists: each query's candidates, best first.
        score: scores hits; fewer scores than hits say that the time is up.
        late: whether the time is up; asked before each round but the first.

    Raises:
        SearchError: the anchors are not this reranker's, or were never scored.
    """
    assert stage.explore is not None, "the caller has checked"
    explore, slot = stage.explore, require_anchors(request, stage, reranker)
    vectors: dict[PointId, Floats] = {}
    found = [Explored() for _ in lists]
    for number in range(explore.rounds):
        shares = [math.ceil((explore.budget - len(state.scores)) / (explore.rounds - number)) for state in found]
        if number == 0:
            batch = [list(hits[: min(share, stage.candidates)]) for hits, share in zip(lists, shares, strict=True)]
            vectors |= _stored(request, slot, [hit.point for hits in batch for hit in hits if hit.point is not None])
        elif late():
            found = [replace(state, stopped=True) for state in found]
            break
        else:
            pointed_to = _pointed_to(request, slot, explore, found, shares, vectors, number)
            batch = [
                [*hits, *_unscored(state, hits, candidates)[: share - len(hits)]]
                for state, hits, candidates, share in zip(found, pointed_to, lists, shares, strict=True)
            ]
        scores = score(batch)
        for state, hits, values in zip(found, batch, scores, strict=True):
            state.hits += hits[: len(values)]
            state.scores += values.tolist()
            state.rounds += [len(values)] if len(values) else []
            state.stopped = len(values) < len(hits)
        if any(state.stopped for state in found) or (number and not any(batch)):
            break
    return [_with_rest(state, hits) for state, hits in zip(found, lists, strict=True)]


def require_anchors(request: SearchRequest, stage: Rerank, reranker: Reranker) -> Slot:
    """The stage's slot of anchors, which this reranker has scored.

    Raises:
        SearchError: it is another reranker's, or was never filled.
    """
    assert stage.explore is not None, "the caller has checked"
    slot = request.view.slots[stage.explore.anchors]
    where = f"{slot.where}, reranker {stage.label!r}"
    if slot.generation is None:
        raise SearchError("the anchors are not built", where=where, do="diptych apply")
    recorded = reranker_of(slot.generation.space)
    space = reranker_space(reranker, stage.label, stage.options)
    if space != recorded:
        raise SearchError(
            "the anchors were scored by another reranker",
            where=where,
            got=f"a reranker of {space}",
            expected=recorded,
            do="name the same adapter and options in the slot and in the stage, then: diptych apply",
        )
    return slot


def fitted(vectors: Floats, scores: Sequence[float], ridge: float) -> Floats:
    """The query vector whose dot product with a document's vector estimates the reranker's score.

    u = argmin |X u - (s - m)|^2 + a |u|^2, with X the centred anchor scores of the scored documents, m their means, and
    a = `ridge` times the mean squared length of the rows of X. The vector is u, then 1 for the mean.

    Args:
        vectors: of the scored documents as they are stored, `[n, anchors + 1]`.
        scores: the reranker's.
        ridge: more than 0.
    """
    rows = np.asarray(vectors[:, :-1], np.float64)
    rest = np.asarray(scores, np.float64) - vectors[:, -1]
    gram = rows @ rows.T
    penalty = ridge * float(np.trace(gram)) / max(1, len(rows))
    if penalty <= 0:  # nothing scored, or all anchors alike
        return np.append(np.zeros(rows.shape[1]), 1.0).astype(np.float32)
    weights = rows.T @ np.linalg.solve(gram + penalty * np.eye(len(rows)), rest)
    return np.append(weights, 1.0).astype(np.float32)


def _pointed_to(
    request: SearchRequest,
    slot: Slot,
    explore: Explore,
    found: Sequence[Explored],
    shares: Sequence[int],
    vectors: dict[PointId, Floats],
    number: int,
) -> list[list[Hit]]:
    """For each query the documents of the highest estimates that are not scored yet; `vectors` gets theirs."""
    requests = [
        _request(request, slot, state, _query(state, vectors, explore, slot), share) if share else None
        for state, share in zip(found, shares, strict=True)
    ]
    answers = query_points(request.view, requests)
    vectors |= {point.id: _vector(point, slot) for points in answers for point in points}
    layout = request.view.layout
    return [
        [
            Hit(from_payload(point.id, point.payload, layout), point.score, {EXPLORED: float(number)}, point=point.id)
            for point in points
        ]
        for points in answers
    ]


def _query(state: Explored, vectors: dict[PointId, Floats], explore: Explore, slot: Slot) -> Floats:
    """The fit to the scored documents that have a vector."""
    known = [
        (vectors[hit.point], score)
        for hit, score in zip(state.hits, state.scores, strict=False)
        if hit.point is not None and hit.point in vectors
    ]
    assert slot.generation is not None, "require_anchors has checked"
    rows = np.array([vector for vector, _ in known], np.float32).reshape(len(known), slot.generation.dimension or 1)
    return fitted(rows, [score for _, score in known], explore.ridge)


def _request(request: SearchRequest, slot: Slot, state: Explored, query: Floats, limit: int) -> models.QueryRequest:
    scored = [hit.point for hit in state.hits if hit.point is not None]
    params = request.params or search_params(request.view.search_config.params)
    return models.QueryRequest.model_construct(
        query=query.tolist(),
        using=slot.vector,
        filter=models.Filter(
            must=None if request.filter is None else [request.filter],
            must_not=[models.HasIdCondition(has_id=scored)] if scored else None,
        ),
        params=params,
        limit=limit,
        with_payload=request.selector,
        with_vector=[slot.vector],
        **request.shard_key,
    )


def _stored(request: SearchRequest, slot: Slot, points: Sequence[PointId]) -> dict[PointId, Floats]:
    """The anchor scores of these points; a point that has none yet is left out."""
    view, names, shard_keys = request.view, [slot.vector], request.shard_key_selector
    ids = list(dict.fromkeys(points))
    if not ids:
        return {}
    records = read_store(
        view, lambda: view.client.retrieve(view.name, ids, with_payload=False, with_vectors=names, **shard_keys)
    )
    return {record.id: _vector(record, slot) for record in records if slot.vector in (record.vector or {})}


def _vector(point: models.Record | models.ScoredPoint, slot: Slot) -> Floats:
    named: Any = point.vector
    return np.asarray(named[slot.vector], np.float32)


def _unscored(state: Explored, others: Sequence[Hit], candidates: Sequence[Hit]) -> list[Hit]:
    """The candidates that were not scored and are not among the others."""
    taken = {hit.id for hits in (state.hits, others) for hit in hits}
    return [hit for hit in candidates if hit.id not in taken]


def _with_rest(state: Explored, candidates: Sequence[Hit]) -> Explored:
    """With the candidates that were not scored behind the others."""
    known = {hit.id for hit in candidates}
    new = sum(hit.id not in known for hit in state.hits)
    return replace(state, hits=[*state.hits, *_unscored(state, (), candidates)], new=new)
