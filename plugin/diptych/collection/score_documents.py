"""Scores given documents: `scores` for a batch of queries, the others for points in each slot, with their parts.

Parts are the terms of sparse vectors and the blocks of dense ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from qdrant_client import models

from diptych.collection.documents import having
from diptych.errors import SearchError, brief
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.handle.tenancy import narrowed
from diptych.protocols import Blocks
from diptych.runtime.validation_messages import nearest
from diptych.search import Retrieve
from diptych.search.fusion import PointId
from diptych.search.options import SearchOptions
from diptych.search.query import Input, Inputs, QueryWithExamples, params_for, using
from diptych.search.request import SearchRequest, direction
from diptych.search.retrieve import query_points, retrieve_together
from diptych.search.run import on_current_view, one_question
from diptych.search.store_calls import read_store
from diptych.slots.slot import Slot
from diptych.types import Query, SparseVector

Widths: TypeAlias = Mapping[str, int]  # of a vector's blocks in order, by name
BlocksLike: TypeAlias = Mapping[str, Sequence[int] | Widths]  # by slot
MOST_BLOCKS = 256
NEAR = 5e-4  # how far the sum of the parts may be from the score, for vectors of length 1; float16 is off by .0001


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


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a dense vector, such as one of several joined encoders, and its part of the score.

    The parts are products of query and document within the block, by cosine of the vectors scaled to length 1. So they
    add up to the score of the slot.
    """

    name: str
    width: int
    contribution: float

    def __str__(self) -> str:
        return f"{self.name} ({self.width} wide) {self.contribution:.4f}"


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


def blocks_of_slots(
    request: SearchRequest, inputs: Inputs, scores: Mapping[str, Mapping[PointId, float]], given: BlocksLike | None
) -> tuple[dict[str, dict[PointId, tuple[Block, ...]]], list[str]]:
    """By retrieved slot, the blocks of the points with a score; and notes, why blocks that an encoder declares lack.

    Args:
        request, inputs: of one query.
        scores: by slot, of the points.
        given: by slot, the widths of blocks or their names and widths, instead of those that encoders declare.

    Raises:
        SearchError: given blocks that the slot's vectors do not have, or that cannot be read.
    """
    named, parts, notes = _given(request, given), {}, []
    for name in (branch.slot for branch in request.pipeline.retrieve):
        slot = request.view.slots[name]
        if widths := named.get(name) or _declared(slot):
            try:
                parts[name] = block_parts(request, slot, inputs.get(name, ()), scores.get(name, {}), widths)
            except SearchError as error:
                if name in named:
                    raise
                notes.append(f"no blocks of {slot.where}: {str(error).splitlines()[0]}")
    return parts, notes


def block_parts(
    request: SearchRequest, slot: Slot, query: Input, scores: Mapping[PointId, float], widths: Widths
) -> dict[PointId, tuple[Block, ...]]:
    """For each point with a score, the parts of the blocks of its vector, in their order.

    Args:
        request: whose collection it is.
        slot: of whatever kind.
        query: its vector, as it is sent to Qdrant.
        scores: of the points in this slot.
        widths: of the blocks.

    Raises:
        SearchError: the slot's vectors have no such blocks, or the parts do not add up to the scores.
    """
    _check_blocks(slot, query, widths)
    vectors, asked = _dense(request, slot, [*scores]), np.asarray(query, np.float64)
    rows = np.array([*vectors.values()], np.float64).reshape(len(vectors), len(asked))
    scale = np.maximum(np.linalg.norm(asked) * np.linalg.norm(rows, axis=1), 1e-30)
    products = rows * asked
    if slot.similarity == "cosine":
        products, scale = products / scale[:, None], np.ones(len(rows))
    parts = np.add.reduceat(products, np.cumsum([0, *widths.values()])[:-1], axis=1)
    off = np.abs(parts.sum(axis=1) - np.array([scores[point] for point in vectors])) / scale
    if len(off) and (worst := int(np.argmax(off))) >= 0 and off[worst] > NEAR:
        what = "the parts do not add up to the score, which is of quantized vectors"
        got = f"{parts[worst].sum():.6f} and {scores[[*vectors][worst]]:.6f}"
        raise SearchError(
            what, where=slot.where, got=got, do="store the slot without quantization to explain its blocks"
        )
    return {
        point: tuple(Block(name, width, float(part)) for (name, width), part in zip(widths.items(), row, strict=True))
        for point, row in zip(vectors, parts, strict=True)
    }


def _given(request: SearchRequest, blocks: BlocksLike | None) -> dict[str, Widths]:
    """By slot, the widths that a caller names; those without names are numbered from 1."""
    if blocks is not None and not isinstance(blocks, Mapping):
        raise SearchError("blocks are not usable", got=brief(blocks), expected='{"SLOT": [384, 384]}')
    given: dict[str, Widths] = {}
    retrieved = [branch.slot for branch in request.pipeline.retrieve]
    for name, widths in (blocks or {}).items():
        if name not in retrieved:
            what, do = f"the pipeline does not retrieve from slot {name!r}", nearest(str(name), retrieved)
            raise SearchError(what, where=repr(request.pipeline), expected=", ".join(retrieved), do=do)
        listed = isinstance(widths, Sequence) and not isinstance(widths, str)
        by_name = dict(widths) if isinstance(widths, Mapping) else dict(enumerate(widths if listed else (), 1))
        usable = all(isinstance(width, int) and not isinstance(width, bool) and width > 0 for width in by_name.values())
        if not usable or not 0 < len(by_name) <= MOST_BLOCKS:
            where, expected = f"blocks of slot {name!r}", f"1 to {MOST_BLOCKS} widths, or names and widths"
            raise SearchError(
                "the widths of the blocks are not valid", where=where, got=brief(widths), expected=expected
            )
        given[name] = {str(key): width for key, width in by_name.items()}
    return given


def _declared(slot: Slot) -> Widths:
    """The blocks that the slot's encoder declares; none where another encoder makes the queries."""
    plain = slot.kind == "dense" and slot.asker is None and slot.similarity != "euclidean"
    return slot.encoder.blocks if plain and isinstance(slot.encoder, Blocks) else {}


def _check_blocks(slot: Slot, query: Input, widths: Widths) -> None:
    """Raise SearchError if the slot's vectors have no such blocks."""
    kind = "a vector for each passage" if slot.passage_vectors else f"a slot of kind {slot.kind}"
    if slot.kind != "dense":
        raise SearchError("only a dense vector has blocks", where=slot.where, got=kind, expected="a dense slot")
    if slot.similarity == "euclidean":
        what = "the parts of a distance do not add up"
        raise SearchError(what, where=slot.where, got="euclidean", expected="cosine or dot")
    if isinstance(query, QueryWithExamples):
        what = "with examples, the score is not a product of two vectors"
        raise SearchError(what, where=slot.where, got="like or unlike", do="explain blocks without examples")
    if (total := sum(widths.values())) != len(query):
        got = f"{' + '.join(map(str, widths.values()))} = {total}"
        raise SearchError("the widths do not add up to the vector's", where=slot.where, got=got, expected=len(query))


def _dense(request: SearchRequest, slot: Slot, points: Sequence[PointId]) -> dict[PointId, Any]:
    """The points' stored vectors."""
    names: Any = [slot.vector] if slot.vector else True  # the unnamed one cannot be asked for by name
    view, keys = request.view, request.shard_key_selector
    records = read_store(
        view, lambda: view.client.retrieve(view.name, points, with_payload=False, with_vectors=names, **keys)
    )
    found = {r.id: r.vector.get(slot.vector) if isinstance(r.vector, dict) else r.vector for r in records}
    return {point: vector for point, vector in found.items() if vector is not None}


def _of_points(request: SearchRequest, points: Sequence[PointId], query: Any, slot: Slot) -> models.QueryRequest:
    chosen = narrowed(request.scope, models.Filter(must=[models.HasIdCondition(has_id=list(points))]))
    return models.QueryRequest.model_construct(
        query=query.query if isinstance(query, QueryWithExamples) else query,
        using=using(slot),
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
