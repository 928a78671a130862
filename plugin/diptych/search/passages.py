"""The passages of hits: which parts of a document answer the query, scored by the vectors that are stored for them."""

from __future__ import annotations

import struct
import threading
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from diptych.passages import PassageEncoder
from diptych.search.fusion import PointId
from diptych.search.request import SearchRequest
from diptych.search.store_errors import ask
from diptych.slots.slot import Slot
from diptych.types import Document, Floats, Hit, Passage

READ = 8  # passages of a candidate that a reranker may read, as many as its length takes
_MOST_NUMBERS = 2**23  # of the vectors of documents that were shown, 32 MB


def passage_slot(request: SearchRequest) -> Slot | None:
    """The first slot of the pipeline that has a vector for each passage; None where no slot has.

    None also while another encoder makes the slot's queries, since the passages are cut by the documents' encoder.
    """
    slots = (request.handle.slots[name] for name in request.pipeline.slots)
    return next(filter(has_passages, slots), None)


def has_passages(slot: Slot) -> bool:
    """Whether the passages of the slot can be scored one by one."""
    return slot.passage_vectors and slot.asker is None


def with_passages(
    request: SearchRequest, hits: Sequence[Sequence[Hit]], most: int | None, *, slot: Slot | None = None
) -> list[list[Hit]]:
    """The hits of each query with their best passages, best first; unchanged where no slot has passages.

    Hits that have passages already, since a reranker has read them, keep the first of those.

    Args:
        request: the search; its hits hold title and text.
        hits: of each query.
        most: passages of a hit; None for all.
        slot: whose passages; those of `passage_slot` unless given.
    """
    slot = slot or passage_slot(request)
    if slot is None or not any(hits):
        return [list(own) for own in hits]
    queries = [unit(query[0], slot) for query in _queries(request, slot)]
    found = {hit.point: hit for own in hits for hit in own if hit.point is not None and not hit.passages}
    documents = _documents(request, slot, found)
    return [[_with_best(hit, query, documents, most) for hit in own] for own, query in zip(hits, queries, strict=True)]


class DocumentPassages(NamedTuple):
    """A document's passages: vectors `[passages, dimension]`, and where each begins and ends in its text."""

    vectors: Floats
    places: Sequence[tuple[int, int]]


class ShownDocuments:
    """The documents whose passages were shown last, so that hits seen again need no second request. Safe for threads.

    Args:
        most: numbers of their vectors that are kept.
    """

    def __init__(self, most: int = _MOST_NUMBERS) -> None:
        self._most, self._numbers, self._lock = most, 0, threading.Lock()
        self._kept: dict[Hashable, DocumentPassages] = {}  # least recently used first

    def get(self, keys: Iterable[Hashable]) -> list[DocumentPassages | None]:
        """The document of each key; None where it is not kept."""
        with self._lock:
            found = []
            for key in keys:
                document = self._kept.pop(key, None)
                if document is not None:
                    self._kept[key] = document
                found.append(document)
            return found

    def add(self, documents: Mapping[Hashable, DocumentPassages]) -> None:
        """Keep these, and forget those that were used longest ago while there are too many numbers."""
        with self._lock:
            for key, document in documents.items():
                known = self._kept.pop(key, None)
                self._numbers += document.vectors.size - (0 if known is None else known.vectors.size)
                self._kept[key] = document
            while self._numbers > self._most:
                self._numbers -= self._kept.pop(next(iter(self._kept))).vectors.size


def _documents(request: SearchRequest, slot: Slot, hits: Mapping[PointId, Hit]) -> dict[PointId, DocumentPassages]:
    """The passages of the hits' documents; without documents that other passages were stored for than are cut now."""
    reading, shown = slot.reading, request.handle.kept.setdefault("shown documents", ShownDocuments())
    texts = {point: reading.of(hit.document.title, hit.document.text) for point, hit in hits.items()}
    # A version changes with each write of a point; the text tells points of a collection that was made anew.
    keys = {point: (slot.vector, point, hits[point].version, hash(text)) for point, text in texts.items()}
    found = {point: known for point, known in zip(keys, shown.get(keys.values()), strict=True) if known is not None}
    missing = {point: text for point, text in texts.items() if point not in found}
    if missing:
        vectors = _stored(request, slot, [*missing])
        read = {point: hits[point].document for point in missing if point in vectors}
        places = _places(slot, read, [missing[point] for point in read])
        fit = {
            point: DocumentPassages(vectors[point], own)
            for point, own in places.items()
            if len(own) == len(vectors[point])
        }
        # Qdrant's local mode says version 0 of all points, so these are read each time.
        shown.add({keys[point]: own for point, own in fit.items() if hits[point].version})
        found |= fit
    return found


def _queries(request: SearchRequest, slot: Slot) -> Sequence[Any]:
    """The queries' vectors, `[1, dimension]` each."""
    if request.vector is not None:
        return [request.vector]
    return slot.encode_queries(request.texts, remember=request.handle.search_config.remember)


def _with_best(hit: Hit, query: Floats, documents: Mapping[PointId, DocumentPassages], most: int | None) -> Hit:
    if hit.passages:
        return replace(hit, passages=hit.passages[:most])
    document, text = documents.get(hit.point) if hit.point is not None else None, hit.document.text
    if document is None:
        return hit
    scores, places = (document.vectors @ query).tolist(), document.places
    order = sorted(range(len(places)), key=scores.__getitem__, reverse=True)  # for few passages faster than numpy's
    best = ((*places[n], scores[n]) for n in [n for n in order if places[n][0] < places[n][1]][:most])
    return replace(hit, passages=tuple(Passage(text[start:end], start, end, score) for start, end, score in best))


def unit(vector: Floats, slot: Slot) -> Floats:
    """The vector as Qdrant compares it: of length 1 for cosine."""
    length = float(np.linalg.norm(vector))
    return vector / length if slot.similarity == "cosine" and length else vector


def _stored(request: SearchRequest, slot: Slot, points: Sequence[PointId]) -> dict[PointId, Floats]:
    """The stored vectors of these points, `[passages, dimension]` each."""
    view, names, shard_keys = request.handle, [slot.vector], request.shard_key_selector
    records = ask(
        view,
        lambda: view.client.retrieve(view.name, points, with_payload=False, with_vectors=names, **shard_keys),
    )
    found: dict[PointId, Any] = {record.id: (record.vector or {}).get(slot.vector) for record in records}  # type: ignore[union-attr]
    return {point: _array(vector) for point, vector in found.items() if vector is not None}


def _array(rows: Sequence[Sequence[float]]) -> Floats:
    """The rows as float32; numpy alone takes four times as long to read lists of lists."""
    row = struct.Struct(f"{len(rows[0])}f")
    return np.frombuffer(b"".join([row.pack(*own) for own in rows]), np.float32).reshape(len(rows), -1)


def _places(
    slot: Slot, documents: Mapping[PointId, Document], inputs: Sequence[str]
) -> dict[PointId, list[tuple[int, int]]]:
    """Begin and end of each passage in the documents' texts, equal where the encoder read the title alone."""
    encoder = slot.encoder
    assert isinstance(encoder, PassageEncoder), "the slot has passages"
    shifted = {}
    for (point, document), own in zip(documents.items(), encoder.places(inputs), strict=True):
        length = len(document.text)
        shift = length - len(document.text.lstrip())  # white space before it is not encoded
        shifted[point] = [(min(start + shift, length), min(end + shift, length)) for start, end in own]
    return shifted
