"""What Qdrant finds for queries: encoded and retrieved, together with those of other callers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from diptych.handle.snapshot import View
from diptych.runtime.phases import LOG
from diptych.search.encode_queries import Inputs, encode_inputs
from diptych.search.qdrant_retrieval import require_fusible, retrieve
from diptych.search.request import Asked
from diptych.search.stages import Rerank
from diptych.types import Hit


class Found(NamedTuple):
    """What Qdrant found for each query of an `Asked`, best first.

    Args:
        hits: of each query.
        seconds: that each step took, later ones too.
        unscored: of each query, the documents that a later reranker left out without a score, and which one.
        began: when the first step began, by `time.perf_counter`.
    """

    hits: list[list[Hit]]
    seconds: dict[str, float]
    unscored: list[dict[str, Rerank]]
    began: float = 0.0

    def clock(self) -> Clock:
        """Notes what later steps take."""
        return Clock(self.seconds)


def found_together(asks: Sequence[Asked]) -> list[Found]:
    """What is found for each: those of the same slots are encoded together, and all are one request to Qdrant.

    Args:
        asks: of the same view.

    Raises:
        SearchError, CollectionNotFound, StoreUnavailable: the store cannot answer.
        ContractError, FingerprintMismatch: see `encode_inputs`.
    """
    seconds: dict[str, float] = {}
    clock = Clock(seconds)
    for asked in asks:
        require_fusible(asked)
    inputs = inputs_of(asks)
    clock.passed("encode")
    hits = retrieve(asks, inputs)
    clock.passed("retrieve")
    return [Found(own, dict(seconds), [{} for _ in own], clock.began) for own in hits]


def inputs_of(asks: Sequence[Asked]) -> list[list[Inputs]]:
    """For each asked, the inputs of its queries."""
    if len(asks) == 1:
        return [_encoded(asks[0].handle, asks[0].pipeline.slots, asks[0].texts)]
    found: dict[int, list[Inputs]] = {}
    for names in dict.fromkeys(asked.pipeline.slots for asked in asks):
        places = [place for place, asked in enumerate(asks) if asked.pipeline.slots == names]
        made = iter(_encoded(asks[0].handle, names, [text for place in places for text in asks[place].texts]))
        found |= {place: list(islice(made, len(asks[place].texts))) for place in places}
    return [found[place] for place in range(len(asks))]


def _encoded(view: View, names: Sequence[str], texts: Sequence[str]) -> list[Inputs]:
    return encode_inputs([view.slots[name] for name in names], texts, remember=view.search_config.remember)


class Clock:
    """Notes how long each step took."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self.began = seconds, time.perf_counter()
        self._last = self.began

    def passed(self, step: str) -> None:
        """The step ends now."""
        now = time.perf_counter()
        self._seconds[step], self._last = now - self._last, now
        LOG.debug("search, %s: %.4f s", step, self._seconds[step])
