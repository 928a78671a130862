"""Encodes the queries of one or more requests together, and retrieves their hits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from qdrant_client import models

from diptych.runtime.phases import LOG
from diptych.search.qdrant_query import Input, Inputs
from diptych.search.qdrant_retrieval import retrieve
from diptych.search.request import Asked
from diptych.search.stages import Rerank
from diptych.slots.slot import Slot
from diptych.types import Hit, SparseVector


class Found(NamedTuple):
    """The hits of each query of an `Asked`, best first.

    Args:
        hits: one list per query.
        seconds: duration of each step, later ones included.
        unscored: per query, the documents that a later reranker left out without a score, and which reranker.
        began: start of the first step, by `time.perf_counter`.
    """

    hits: list[list[Hit]]
    seconds: dict[str, float]
    unscored: list[dict[str, Rerank]]
    began: float = 0.0

    def clock(self) -> Clock:
        """A clock for later steps."""
        return Clock(self.seconds)


def found_together(asks: Sequence[Asked]) -> list[Found]:
    """The hits of each request: queries are encoded together, and sent to Qdrant in one request.

    Args:
        asks: requests of the same view.

    Raises:
        SearchError, CollectionNotFound, StoreUnavailable: the store cannot answer.
        ContractError, FingerprintMismatch: see `encode_inputs`.
    """
    seconds: dict[str, float] = {}
    clock = Clock(seconds)
    inputs = inputs_of(asks)
    clock.passed("encode")
    hits = retrieve(asks, inputs)
    clock.passed("retrieve")
    return [Found(own, dict(seconds), [{} for _ in own], clock.began) for own in hits]


def inputs_of(asks: Sequence[Asked]) -> list[list[Inputs]]:
    """For each request, the encoded queries."""
    if len(asks) == 1:
        (asked,) = asks
        view = asked.handle
        return [encode_inputs(view.slots, asked.pipeline.slots, asked.texts, view.search_config.remember)]
    view = asks[0].handle
    found: dict[int, list[Inputs]] = {}
    for names in dict.fromkeys(asked.pipeline.slots for asked in asks):
        places = [place for place, asked in enumerate(asks) if asked.pipeline.slots == names]
        texts = [text for place in places for text in asks[place].texts]
        made = iter(encode_inputs(view.slots, names, texts, view.search_config.remember))
        found |= {place: list(islice(made, len(asks[place].texts))) for place in places}
    return [found[place] for place in range(len(asks))]


def encode_inputs(
    slots: Mapping[str, Slot], names: Sequence[str], texts: Sequence[str], remember: int = 0
) -> list[Inputs]:
    """Each text encoded for each slot, without slots for which it has no terms, as BM25 has for a query of stop words.

    Args:
        slots: the view's slots.
        names: the slots to encode for.
        texts: the queries' texts.
        remember: number of vectors that each slot caches for repeated queries.

    Raises:
        ContractError: an encoder breaks its contract.
        FingerprintMismatch: an encoder did not make the vectors of its slot.
    """
    inputs: list[dict[str, Input]] = [{} for _ in texts]
    for name in names:
        for own, query in zip(inputs, _column(slots[name], texts, remember), strict=True):
            if query is not None:
                own[name] = query
    return list(inputs)


def _column(slot: Slot, texts: Sequence[str], remember: int) -> list[Input]:
    if slot.kind == "text_index":
        return [slot.encoder.query(text) for text in texts]
    vectors = slot.encode_queries(texts, remember=remember)
    return [_sparse(vector) if isinstance(vector, SparseVector) else vector.tolist() for vector in vectors]


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
