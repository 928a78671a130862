"""`Batches`: joins calls of several clients to one served model into one call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from diptych.encoders import Encoders
from diptych.protocols import Kind, Pair
from diptych.search.microbatch import MicroBatcher
from diptych.search.rerank import score_pairs
from diptych.slots.encode import Side, Vector, require_finite
from diptych.types import Floats
from diptych_serve.service.metrics import Metrics

_SIDES: tuple[Side, ...] = ("query", "document")
_TEXT = "warm"


class _Texts(NamedTuple):
    side: Side
    texts: Sequence[str]


class Batches:
    """Encodes texts and scores pairs for many clients; see `diptych.search.microbatch` for the rules of waiting.

    Args:
        metrics: receives the counts.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._batchers: dict[tuple[int, str, str], MicroBatcher[Any, Any]] = {}
        self._lock = threading.Lock()

    async def encode(self, model: Model, side: Side, texts: Sequence[str]) -> list[Vector]:
        """A vector for each text.

        Raises:
            ContractError, FingerprintMismatch, RegistryError: see diptych.errors.
        """
        batcher = self._batcher(model, lambda requests: self._encoded(model, requests))
        vectors: list[Vector] = await asyncio.wrap_future(batcher.later(_Texts(side, texts)))
        return vectors

    async def score(self, model: Model, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]` of the pairs.

        Raises:
            ContractError, RegistryError: see diptych.errors.
        """
        batcher = self._batcher(model, lambda requests: self._scored(model, requests))
        scores: Floats = await asyncio.wrap_future(batcher.later(pairs))
        return scores

    def _batcher(self, model: Model, work: Callable[[Sequence[Any]], Sequence[Any]]) -> MicroBatcher[Any, Any]:
        with self._lock:
            return self._batchers.setdefault((id(model.encoders), model.kind, model.name), MicroBatcher(work))

    def _encoded(self, model: Model, requests: Sequence[_Texts]) -> list[list[Vector]]:
        answers: dict[int, list[Vector]] = {}
        for side in _SIDES:
            places = [place for place, request in enumerate(requests) if request.side == side]
            if not places:
                continue
            texts = [text for place in places for text in requests[place].texts]
            encoder = model.encoders[model.name]
            vectors = encoder.encode_query(texts) if side == "query" else encoder.encode_document(texts)
            require_finite(vectors, texts, where=f"model {model.id!r}")
            self._metrics.texts.labels(model.id, side).inc(len(texts))
            self._metrics.batches.labels(model.id).observe(len(texts))
            answers.update(zip(places, _parted(vectors, [len(requests[place].texts) for place in places]), strict=True))
        return [answers[place] for place in range(len(requests))]

    def _scored(self, model: Model, requests: Sequence[Sequence[Pair]]) -> list[Floats]:
        scores = score_pairs(model.encoders.reranker(model.name), requests, where=f"model {model.id!r}")
        count = sum(map(len, requests))
        self._metrics.pairs.labels(model.id).inc(count)
        self._metrics.batches.labels(model.id).observe(count)
        return scores


def _parted(values: Sequence[Vector], lengths: Sequence[int]) -> list[list[Vector]]:
    """`values` in pieces of these lengths."""
    return [list(values[start:end]) for start, end in pairwise(accumulate(lengths, initial=0))]


@dataclass(frozen=True, slots=True)
class Model:
    """A slot or adapter that clients can name.

    Args:
        id: its name here: the slot's or adapter's own, or `COLLECTION/SLOT` where that would mean several.
        kind: its contract.
        collection: whose slot it is; "" for an adapter.
        name: the slot's or adapter's own name.
        encoders: make it.
    """

    id: str
    kind: Kind
    collection: str
    name: str
    encoders: Encoders

    @property
    def qualified(self) -> Model:
        """The same model under its long name, `COLLECTION/SLOT`."""
        return replace(self, id=f"{self.collection}/{self.name}")

    def try_out(self) -> None:
        """Encode or score one word, as a test.

        Raises:
            DiptychError: it cannot.
        """
        if self.kind == "reranker":
            score_pairs(self.encoders.reranker(self.name), [[(_TEXT, _TEXT)]], where=f"model {self.id!r}")
        else:
            self.encoders[self.name].encode_query([_TEXT])
