"""`Estimate`: what encoding a document for a slot costs, measured on a sample."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import numpy as np

from diptych.config.models import Stored
from diptych.errors import MediaError
from diptych.passages import PassageEncoder
from diptych.protocols import Calibrated, MultiVectorEncoder
from diptych.slots.encode import Vector, encode
from diptych.slots.slot import Slot
from diptych.types import Floats, SparseVector

WARM_UP = 8  # documents that warm the encoder up before the sample is timed
PASSAGES_FROM = 100_000  # characters of a sample that is read whole; a plan should not take minutes
CALLS = 2048  # pairs that a reranker scores to estimate the cost of its anchors
_BYTES = {"float16": 2, "uint8": 1}
_LINKS = 2 * 16 * 4  # bytes of a point in the graph at Qdrant's default m = 16


@dataclass(frozen=True, slots=True)
class Estimate:
    """The costs of a document.

    Args:
        rate: documents a second.
        disk, memory: bytes of a document as Qdrant stores it.
        passages: of a document, in the mean; None where the slot has none.
        reduced: mean vectors of a document, without `reduce` and with it; None if the slot has no `reduce`.
    """

    rate: float
    disk: float
    memory: float
    passages: float | None = None
    reduced: tuple[float, float] | None = None

    @classmethod
    def of(cls, slot: Slot, texts: Sequence[Any]) -> Self:
        """Measured on `texts`, or media; with passages on the first of them, since all of each is encoded.

        Raises:
            MediaError: all of the media are gone or have changed; those of a few are left out, as in a back-fill.
        """
        while True:
            try:
                return cls._of(slot, texts)
            except MediaError as error:
                rest = [given for given in texts if given != error.media]
                if not rest or len(rest) == len(texts):
                    raise
                texts = rest

    @classmethod
    def _of(cls, slot: Slot, texts: Sequence[Any]) -> Self:
        encoder = slot.encoder
        texts = _affordable(texts) if slot.passages else texts
        texts = texts[: max(2, CALLS // encoder.dimension)] if slot.anchored else texts
        if isinstance(encoder, Calibrated):
            encoder.calibrate(encoder.measure(list(texts)))
        warm_up = (
            [text[:1000] for text in texts[:WARM_UP]] if slot.passages else texts[: 1 if slot.anchored else WARM_UP]
        )
        _encode(slot, encoder, warm_up)
        counting = None
        if slot.config.reduce:
            encoder, counting = _counting(encoder)
        begin = time.perf_counter()
        vectors = _encode(slot, encoder, texts)
        passed = max(time.perf_counter() - begin, 1e-9)
        slot.keep(texts, vectors)  # so that the back-fill does not encode them again
        passages = _count(vectors) if slot.passage_vectors else None
        reduced = (counting.counted / len(texts), _count(vectors)) if counting else None
        return cls(len(texts) / passed, *_bytes(slot, vectors), passages, reduced)


def _encode(slot: Slot, encoder: Any, inputs: Sequence[Any]) -> list[Vector]:
    if slot.reads_media:  # decoded as in the back-fill
        return slot.encode("document", inputs, fresh=True)
    return encode(encoder, slot.kind, "document", inputs, where=slot.where)


def _count(vectors: Sequence[Vector]) -> float:
    return float(np.mean([len(vector) for vector in vectors]))


class _Counting:
    """Encodes documents as `inner` does, and counts their vectors."""

    def __init__(self, inner: MultiVectorEncoder) -> None:
        self.inner, self.counted = inner, 0

    def encode_document(self, inputs: Sequence[str]) -> list[Floats]:
        """As `inner`."""
        documents = self.inner.encode_document(inputs)
        self.counted += sum(map(len, documents))
        return documents


def _counting(encoder: Any) -> tuple[Any, _Counting]:
    """A copy of a slot's encoder that counts the vectors of documents before `reduce` makes fewer of them."""
    encoder = copy.copy(encoder)
    if isinstance(encoder, PassageEncoder):
        encoder.inner, counting = _counting(encoder.inner)
    else:
        encoder.inner = counting = _Counting(encoder.inner)
    return encoder, counting


def _affordable(texts: Sequence[str]) -> Sequence[str]:
    lengths = accumulate(map(len, texts))
    return texts[: max(1, sum(length <= PASSAGES_FROM for length in lengths))]


def _bytes(slot: Slot, vectors: Sequence[Vector]) -> tuple[float, float]:
    """Bytes of a document on disk and in memory, including the first stage."""
    storage = slot.config.storage
    width, first = _BYTES.get(storage.datatype or "", 4), storage.first_stage
    size = float(np.mean([_size(vector, width) for vector in vectors]))
    disk, memory = _placed(storage, size, _graph(slot, storage, indexed=first is None))
    if first is None:
        return disk, memory
    more = _placed(first, first.dimension * _BYTES.get(first.datatype or "", 4), _graph(slot, first))
    return disk + more[0], memory + more[1]


def _placed(stored: Stored, size: float, graph: int) -> tuple[float, float]:
    """Bytes on disk, and those in memory, of a vector and its place in the graph."""
    in_memory = 0 if stored.hnsw and stored.hnsw.on_disk else graph
    return size + graph, in_memory if stored.on_disk else size + graph


def _size(vector: Vector, width: int) -> int:
    return len(vector) * (4 + width) if isinstance(vector, SparseVector) else int(vector.size) * width


def _graph(slot: Slot, stored: Stored, *, indexed: bool = True) -> int:
    """Bytes of a document in the graph; multi-vectors that only rescore have none."""
    if slot.spec.kind != "dense" and not slot.anchored:
        return 0
    unset = _LINKS if indexed else 0
    return unset if stored.hnsw is None or stored.hnsw.m is None else 2 * stored.hnsw.m * 4
