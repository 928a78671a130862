"""The passages of hits: which parts of a document answer the query, scored by the vectors that are stored for them."""

from __future__ import annotations

import math
import struct
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diptych.metadata.payloads import from_payload, text_fields
from diptych.passages import PassageEncoder
from diptych.protocols import Calibrated
from diptych.search.fusion import PointId
from diptych.search.qdrant.store_calls import read_store
from diptych.search.request import SearchRequest
from diptych.slots.encode import encode
from diptych.slots.slot import Slot
from diptych.types import Document, Floats, Hit, Passage, SparseVector

_MOST_NUMBERS = 2**23  # numbers of four bytes: 32 MiB

PASSAGES_READ = 8  # passages of a candidate that a reranker may read, as many as its length takes
# How much the words count beside the vectors: a passage that has all of the query's terms rises by this many standard
# deviations of the document's scores. Chosen on half of the manual pages' queries: 1 to 5 are better than 0 on all.
_WORDS = 2.0


def passage_slot(request: SearchRequest) -> Slot | None:
    """The first slot of the pipeline that has a vector for each passage; None where no slot has.

    None also while another encoder makes the slot's queries, since the passages are cut by the documents' encoder.
    """
    slots = (request.view.slots[name] for name in request.pipeline.slots)
    return next(filter(has_passages, slots), None)


def has_passages(slot: Slot) -> bool:
    """Whether the passages of the slot can be scored one by one."""
    return slot.passage_vectors and slot.asker is None


def with_passages(
    request: SearchRequest, hits: Sequence[Sequence[Hit]], most: int | None, *, slot: Slot | None = None
) -> list[list[Hit]]:
    """The hits of each query with their best passages, best first; unchanged where no slot has passages.

    Where a slot of the pipeline counts words, the passages' words count beside their vectors. Scores are the vectors'.

    Hits that have passages already, since a reranker has read them, keep the first of those.

    Args:
        request: the search; its hits hold title and text.
        hits: of each query.
        most: passages of a hit; None for all.
        slot: whose passages, by its vectors alone; those of `passage_slot` unless given.
    """
    words = _word_slot(request) if slot is None else None
    slot = slot or passage_slot(request)
    if slot is None or not any(hits):
        return [list(page) for page in hits]
    queries = [unit(query[0], slot) for query in _queries(request, slot)]
    terms = [[] for _ in hits] if words is None else _terms(request, words)
    found = {hit.point: hit for page in hits for hit in page if hit.point is not None and not hit.passages}
    documents = _documents(request, slot, words, found)
    return [
        [_with_best(hit, query, of_query, documents, most) for hit in page]
        for page, query, of_query in zip(hits, queries, terms, strict=True)
    ]


def _word_slot(request: SearchRequest) -> Slot | None:
    """The first slot of the pipeline that counts words, such as BM25, whose terms of a text cost next to nothing."""
    slots = (request.view.slots[name] for name in request.pipeline.slots) if request.vector is None else ()
    of_texts = (slot for slot in slots if slot.kind == "sparse" and slot.asker is None and not slot.reads_media)
    return next((slot for slot in of_texts if isinstance(slot.encoder, Calibrated)), None)


def _terms(request: SearchRequest, slot: Slot) -> list[list[int]]:
    """Each query's distinct terms; none where all its words are stop words."""
    queries: list[Any] = slot.encode_queries(request.texts, remember=request.view.search_config.remember)
    return [sorted({*query.indices.tolist()}) for query in queries]


def _documents(
    request: SearchRequest, slot: Slot, words: Slot | None, hits: Mapping[PointId, Hit]
) -> dict[PointId, DocumentPassages]:
    """The passages of the hits' documents; without those that other texts or passages are stored for by now."""
    reading, shown = slot.reading, request.view.memo.setdefault("shown documents", ShownDocuments())
    texts = {point: reading.of(hit.document.title, hit.document.text) for point, hit in hits.items()}
    # A version changes with each write of a point; the text identifies points of a recreated collection.
    vectors = (slot.vector, words.vector if words else None)
    keys = {point: (*vectors, point, hits[point].version, hash(text)) for point, text in texts.items()}
    found = {point: known for point, known in zip(keys, shown.get(keys.values()), strict=True) if known is not None}
    missing = {point: text for point, text in texts.items() if point not in found}
    if missing:
        stored = _stored(request, slot, {point: hits[point] for point in missing})
        read = {point: hits[point].document for point in missing if point in stored}
        places = _places(slot, read, [missing[point] for point in read])
        fit = {
            point: DocumentPassages(stored[point], spans, _terms_of(words, read[point].text, spans) if words else None)
            for point, spans in places.items()
            if len(spans) == len(stored[point])
        }
        # Qdrant's local mode says version 0 of all points, so these are read each time.
        shown.add({keys[point]: found_part for point, found_part in fit.items() if hits[point].version})
        found |= fit
    return found


def _queries(request: SearchRequest, slot: Slot) -> Sequence[Any]:
    """The queries' vectors, `[1, dimension]` each."""
    if request.vector is not None:
        return [request.vector]
    return slot.encode_queries(request.texts, remember=request.view.search_config.remember)


def _terms_of(slot: Slot, text: str, places: Sequence[tuple[int, int]]) -> PassageTerms:
    # Encoded as queries, since documents' weights may need statistics that an adopted collection does not have.
    texts = [text[begin:end] for begin, end in places]
    vectors: list[Any] = encode(slot.encoder, "sparse", "query", texts, where=slot.where)
    return PassageTerms.of(vectors)


def _with_best(
    hit: Hit,
    query: Floats,
    terms: Sequence[int],
    documents: Mapping[PointId, DocumentPassages],
    most: int | None,
) -> Hit:
    if hit.passages:
        return replace(hit, passages=hit.passages[:most])
    document, text = documents.get(hit.point) if hit.point is not None else None, hit.document.text
    if document is None:
        return hit
    scores, places = (document.vectors @ query).tolist(), document.places
    order = scores if not terms or document.terms is None else _with_words(scores, document.terms, terms)
    ranked = sorted(range(len(places)), key=order.__getitem__, reverse=True)  # for few passages faster than numpy's
    best = ((*places[n], scores[n]) for n in [n for n in ranked if places[n][0] < places[n][1]][:most])
    return replace(hit, passages=tuple(Passage(text[start:end], start, end, score) for start, end, score in best))


def _with_words(scores: Sequence[float], terms: PassageTerms, query: Sequence[int]) -> list[float]:
    mean = sum(scores) / len(scores)
    deviation = math.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores))
    shares = terms.shares(query, len(scores))
    return [score + _WORDS * deviation * share for score, share in zip(scores, shares, strict=True)]


def unit(vector: Floats, slot: Slot) -> Floats:
    """The vector as Qdrant compares it: of length 1 for cosine."""
    length = float(np.linalg.norm(vector))
    return vector / length if slot.similarity == "cosine" and length else vector


def _stored(request: SearchRequest, slot: Slot, hits: Mapping[PointId, Hit]) -> dict[PointId, Floats]:
    """The stored vectors of these hits, `[passages, dimension]` each; without those that were rewritten meanwhile."""
    view, names, fields = request.view, [slot.vector], text_fields(request.view.layout)
    shard_key = request.shard_key_selector
    records = read_store(
        view,
        lambda: view.client.retrieve(view.name, [*hits], with_payload=fields, with_vectors=names, **shard_key),
    )
    found = {}
    for record in records:
        stored, hit = from_payload(record.id, record.payload, view.layout), hits[record.id].document
        vectors: Any = (record.vector or {}).get(slot.vector)  # type: ignore[union-attr]
        if vectors is not None and (stored.title, stored.text) == (hit.title, hit.text):
            # The rows as float32; numpy alone takes four times as long to read lists of lists.
            row = struct.Struct(f"{len(vectors[0])}f")
            found[record.id] = np.frombuffer(b"".join([row.pack(*values) for values in vectors]), np.float32).reshape(
                len(vectors), -1
            )
    return found


def _places(
    slot: Slot, documents: Mapping[PointId, Document], inputs: Sequence[str]
) -> dict[PointId, list[tuple[int, int]]]:
    """Begin and end of each passage in the documents' texts, equal where the encoder read the title alone."""
    encoder = slot.encoder
    assert isinstance(encoder, PassageEncoder), "the slot has passages"
    shifted = {}
    for (point, document), spans in zip(documents.items(), encoder.places(inputs), strict=True):
        length = len(document.text)
        shift = length - len(document.text.lstrip())  # white space before it is not encoded
        shifted[point] = [(min(start + shift, length), min(end + shift, length)) for start, end in spans]
    return shifted


@dataclass(frozen=True, slots=True)
class PassageTerms:
    """Which passages of a document have which terms: pairs in the order of the terms.

    Args:
        terms: of each pair, ascending; 4 bytes each.
        passages: the number of each pair's passage, from 0.
    """

    terms: array[int]
    passages: array[int]

    @classmethod
    def of(cls, vectors: Sequence[SparseVector]) -> PassageTerms:
        """Those of the passages' sparse vectors."""
        passages = np.repeat(np.arange(len(vectors), dtype=np.uint32), [len(vector.indices) for vector in vectors])
        terms = np.concatenate([np.zeros(0, np.uint32), *(vector.indices for vector in vectors)])
        order = np.argsort(terms, kind="stable")
        return cls(array("I", terms[order].tobytes()), array("I", passages[order].tobytes()))

    def shares(self, query: Sequence[int], count: int) -> list[float]:
        """The share of the query's terms that each passage has; terms of few passages count more.

        Args:
            query: the distinct terms of a query, at least one.
            count: of the document's passages.
        """
        found, whole = [0.0] * count, 0.0
        for term in query:  # a handful of both, for which numpy's calls cost more than all of this
            begin = bisect_left(self.terms, term)
            end = bisect_right(self.terms, term, begin)
            weight = math.log1p((count - (end - begin) + 0.5) / (end - begin + 0.5))
            whole += weight
            for passage in self.passages[begin:end]:
                found[passage] += weight
        return [weight / whole for weight in found]


@dataclass(frozen=True, slots=True, eq=False)
class DocumentPassages:
    """A document's passages.

    Args:
        vectors: float32 `[passages, dimension]`.
        places: where each begins and ends in the document's text.
        terms: their terms in a sparse slot of the pipeline; None where none takes part.
    """

    vectors: Floats
    places: Sequence[tuple[int, int]]
    terms: PassageTerms | None = None

    @property
    def size(self) -> int:
        """How many numbers are kept."""
        return self.vectors.size + (0 if self.terms is None else 2 * len(self.terms.terms))


class ShownDocuments:
    """The documents whose passages were shown last, so that hits seen again need no second request. Safe for threads.

    Args:
        most: numbers of four bytes that are kept of them.
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
                self._numbers += document.size - (0 if known is None else known.size)
                self._kept[key] = document
            while self._numbers > self._most:
                self._numbers -= self._kept.pop(next(iter(self._kept))).size
