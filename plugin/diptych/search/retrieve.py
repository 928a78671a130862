"""Encodes the queries of one or more requests together, and retrieves their hits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from qdrant_client import models

from diptych.config.stages import Rerank
from diptych.runtime.phases import LOG
from diptych.search.media_queries import QueryInput, require_encodable, vectors_of_queries, with_media
from diptych.search.pins import pinned_hits
from diptych.search.qdrant.feedback import with_examples
from diptych.search.qdrant.query import Input, Inputs
from diptych.search.qdrant.retrieval import retrieve
from diptych.search.request import SearchRequest
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
    pins = [pinned_hits(request) if request.pin else () for request in requests]
    clock.passed("retrieve")
    return [
        Retrieved(lists, dict(seconds), [{} for _ in lists], [[] for _ in lists], clock.began, pinned)
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
        given: list[QueryInput] = []
        for place in numbers:
            texts, media = requests[place].texts, requests[place].media
            given += with_media(texts, media) if media else texts
        # All requests have one view, and those of a group retrieve from the same slots: the first stands for them.
        view = requests[numbers[0]].view
        encoded = encode_inputs(view.slots, names, given, view.search_config.remember)
        if not all(encoded):
            require_encodable(requests[numbers[0]].pipeline, view.slots, given, encoded)
        following = iter(encoded)
        for place in numbers:
            request, of_request = requests[place], list(islice(following, len(requests[place].texts)))
            inputs[place] = with_examples(request, of_request) if request.like or request.unlike else of_request
    return [inputs[place] for place in range(len(requests))]


def encode_inputs(
    slots: Mapping[str, Slot], names: Sequence[str], queries: Sequence[QueryInput], remember: int = 0
) -> list[Inputs]:
    """Each query encoded for each slot. Slots that get nothing from it are left out, such as BM25 for stop words alone.

    Args:
        slots: the view's slots.
        names: the slots to encode for.
        queries: texts of queries; for a query with media, a pair of its text and its media.
        remember: number of vectors that each slot caches for repeated queries.

    Raises:
        ContractError: an encoder breaks its contract.
        FingerprintMismatch: an encoder did not make the vectors of its slot.
    """
    inputs: list[dict[str, Input]] = [{} for _ in queries]
    texts = [query for query in queries if isinstance(query, str)]
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
            if (sent := _client_form(vector)) is not None:
                of_query[name] = sent
    return list(inputs)


def _client_form(vector: Any) -> Input:
    """The vector as Qdrant's client takes it; None where it has no terms. A text index's query has that form already.

    Built without validation, like the whole request: checking each number costs more than the search.
    """
    if isinstance(vector, SparseVector):
        make = models.SparseVector.model_construct
        return make(indices=vector.indices.tolist(), values=vector.values.tolist()) if vector.indices.size else None
    return vector.tolist() if isinstance(vector, np.ndarray) else vector


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
