"""The passages of hits: which parts of a document answer the query, scored by the vectors that are stored for them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from diptych.passages import PassageEncoder
from diptych.search.fusion import PointId
from diptych.search.request import SearchRequest
from diptych.search.store_errors import ask
from diptych.slots.slot import Slot
from diptych.types import Document, Floats, Hit, Passage

READ = 8  # passages of a candidate that a reranker may read, as many as its length takes


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
    bare = (hit for own in hits for hit in own if not hit.passages)
    documents = {hit.point: hit.document for hit in bare if hit.point is not None}
    vectors = _stored(request, slot, [*documents]) if documents else {}
    places = _places(slot, {point: documents[point] for point in vectors})
    return [
        [_with_best(hit, query, vectors, places, most) for hit in own] for own, query in zip(hits, queries, strict=True)
    ]


def _queries(request: SearchRequest, slot: Slot) -> Sequence[Any]:
    """The queries' vectors, `[1, dimension]` each."""
    if request.vector is not None:
        return [request.vector]
    return slot.encode_queries(request.texts, remember=request.handle.search_config.remember)


def _with_best(
    hit: Hit,
    query: Floats,
    vectors: Mapping[PointId, Floats],
    places: Mapping[PointId, Sequence[tuple[int, int]]],
    most: int | None,
) -> Hit:
    if hit.passages:
        return replace(hit, passages=hit.passages[:most])
    own, text = places.get(hit.point, ()) if hit.point is not None else (), hit.document.text
    if not own or hit.point is None or len(own) != len(vectors[hit.point]):  # written by another splitter
        return hit
    scores = vectors[hit.point] @ query
    ranked = [n for n in np.argsort(-scores, kind="stable").tolist() if own[n][0] < own[n][1]][:most]
    best = ((*own[n], float(scores[n])) for n in ranked)
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


def _places(slot: Slot, documents: Mapping[PointId, Document]) -> dict[PointId, list[tuple[int, int]]]:
    """Begin and end of each passage in the documents' texts, equal where the encoder read the title alone."""
    encoder, reading = slot.encoder, slot.reading
    assert isinstance(encoder, PassageEncoder), "the slot has passages"
    places = encoder.places([reading.of(document.title, document.text) for document in documents.values()])
    shifted = {}
    for (point, document), own in zip(documents.items(), places, strict=True):
        length = len(document.text)
        shift = length - len(document.text.lstrip())  # white space before it is not encoded
        shifted[point] = [(min(start + shift, length), min(end + shift, length)) for start, end in own]
    return shifted
