"""Encodes the queries of one or more requests together, and retrieves their hits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from qdrant_client import models

from diptych.errors import SearchError
from diptych.runtime.phases import LOG
from diptych.search.feedback import with_examples
from diptych.search.mixed_queries import Given, accepted, paired, parts_of, takes_texts, vectors_of_queries
from diptych.search.pins import pinned_hits
from diptych.search.qdrant_query import Input, Inputs
from diptych.search.qdrant_retrieval import retrieve
from diptych.search.request import SearchRequest
from diptych.search.stages import Rerank
from diptych.slots.slot import Slot
from diptych.types import Hit, SparseVector


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

    def clock(self) -> Clock:
        """A clock for later steps."""
        return Clock(self.seconds)


def retrieve_together(requests: Sequence[SearchRequest]) -> list[Retrieved]:
    """The hits of each request: queries are encoded together, and sent to Qdrant in one request.

    Args:
        requests: searches of the same view.

    Raises:
        SearchError, CollectionNotFound, StoreUnavailable: the store cannot answer.
        ContractError, FingerprintMismatch: see `encode_inputs`.
    """
    seconds: dict[str, float] = {}
    clock = Clock(seconds)
    inputs = inputs_of(requests)
    clock.passed("encode")
    hits = retrieve(requests, inputs)
    pins = [pinned_hits(request) for request in requests]
    clock.passed("retrieve")
    return [
        Retrieved(lists, dict(seconds), [{} for _ in lists], [[] for _ in lists], clock.began, pinned)
        for lists, pinned in zip(hits, pins, strict=True)
    ]


def inputs_of(requests: Sequence[SearchRequest]) -> list[list[Inputs]]:
    """For each request its encoded queries, moved by its examples (`like`, `unlike`)."""
    return [with_examples(request, inputs) for request, inputs in zip(requests, _encoded(requests), strict=True)]


def _encoded(requests: Sequence[SearchRequest]) -> list[list[Inputs]]:
    if len(requests) == 1:
        (request,) = requests
        return [_of_queries(request, request.pipeline.slots, paired(request.texts, request.media))]
    inputs: dict[int, list[Inputs]] = {}
    for names in dict.fromkeys(request.pipeline.slots for request in requests):
        places = [place for place, request in enumerate(requests) if request.pipeline.slots == names]
        given = [own for place in places for own in paired(requests[place].texts, requests[place].media)]
        encoded = iter(_of_queries(requests[0], names, given))
        inputs |= {place: list(islice(encoded, len(requests[place].texts))) for place in places}
    return [inputs[place] for place in range(len(requests))]


def _of_queries(request: SearchRequest, names: Sequence[str], given: Sequence[Given]) -> list[Inputs]:
    """The queries encoded for these slots.

    Raises:
        SearchError: no slot takes what a query gives.
    """
    slots = request.handle.slots
    inputs = encode_inputs(slots, names, given, request.handle.search_config.remember)
    for query, own in zip(given, inputs, strict=True):
        if not own and not any(parts_of(slots[name], query) for name in names):
            raise SearchError(
                "no slot of the pipeline takes this query",
                where=repr(request.pipeline),
                got="a text" if isinstance(query, str) else " and ".join(filter(None, (query[0][:60], *query[1]))),
                expected="; ".join(f"{name}: {', '.join(accepted(slots[name]))}" for name in names),
            )
    return inputs


def encode_inputs(
    slots: Mapping[str, Slot], names: Sequence[str], texts: Sequence[Given], remember: int = 0
) -> list[Inputs]:
    """Each query encoded for each slot. Slots that get nothing from it are left out, such as BM25 for stop words alone.

    Args:
        slots: the view's slots.
        names: the slots to encode for.
        texts: texts of queries; for a query with media, a pair of its text and its media.
        remember: number of vectors that each slot caches for repeated queries.

    Raises:
        ContractError: an encoder breaks its contract.
        FingerprintMismatch: an encoder did not make the vectors of its slot.
    """
    inputs: list[dict[str, Input]] = [{} for _ in texts]
    for name in names:
        for query_inputs, vector in zip(inputs, _column(slots[name], texts, remember), strict=True):
            if vector is not None:
                query_inputs[name] = vector
    return list(inputs)


def _column(slot: Slot, queries: Sequence[Given], remember: int) -> list[Input]:
    texts = [query for query in queries if isinstance(query, str)]
    if len(texts) < len(queries) or not takes_texts(slot):
        return [_client_form(vector) for vector in vectors_of_queries(slot, queries, remember)]
    if slot.kind == "text_index":
        return [slot.encoder.query(text) for text in texts]
    return [_client_form(vector) for vector in slot.encode_queries(texts, remember=remember)]


def _client_form(vector: Any) -> Input:
    if vector is None or not isinstance(vector, SparseVector | np.ndarray):
        return vector  # a text index's query is in the client's form
    return _sparse(vector) if isinstance(vector, SparseVector) else vector.tolist()


def _sparse(vector: SparseVector) -> models.SparseVector | None:
    if not vector.indices.size:
        return None
    # Built without validation, like the whole request: checking each number costs more than the search.
    return models.SparseVector.model_construct(indices=vector.indices.tolist(), values=vector.values.tolist())


class Clock:
    """Measures how long each step takes."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self.began = seconds, time.perf_counter()
        self._last = self.began

    def passed(self, step: str) -> None:
        """Record that the step ends now."""
        now = time.perf_counter()
        self._seconds[step], self._last = now - self._last, now
        LOG.debug("search, %s: %.4f s", step, self._seconds[step])
