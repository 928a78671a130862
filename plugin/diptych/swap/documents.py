"""Documents of a collection for a swap: their texts, from the payload or the original source, and a sample of them.

`CorpusSample` tells whether corpus averages have shifted since an encoder was calibrated.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import math
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from qdrant_client import models

from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.view import View
from diptych.media import Media
from diptych.metadata.models import Reading
from diptych.metadata.payloads import Layout, from_rows, to_rows
from diptych.populate.read_ahead import TOLERANCE
from diptych.populate.validate import SeenIds, Tally, Validator, temporary_tables
from diptych.protocols import Calibrated, Statistics
from diptych.search.fusion import PointId
from diptych.slots.encode import texts_of
from diptych.stores.scroll import pages, plain_id
from diptych.types import Document

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

CACHE_KIB = 16_384  # memory for the table; the rest of it is in a file that the system deletes with the process
MOST_IDS_READ = 20_000  # up to here all ids are read, a fraction of a second; beyond, the store draws at random
PAGE = 2_000
FETCH = 256
MOST_CHARACTERS = 200  # a first sentence is cut after so many
MOST_OF_A_TEXT = 2_000  # characters of a text without spaces, from which an excerpt is taken
EXCERPT, WORDS_READ = 8, 100  # words of an excerpt, from the middle of the first 100, which every encoder reads
LEAST_WORDS = 3  # in a query; shorter sentences are joined with the next
_SENTENCE = re.compile(r"(?<=[.!?…。！？])\s+|(?<=[。！？])|\n\s*\n")
SIZE = 1000  # points; the average length of texts is then known to 3% or so
ERRORS = 3.0  # standard errors by which a shift must exceed the tolerance, so that noise is not reported


class SourceDocuments(AbstractContextManager["SourceDocuments"]):
    """A table on disk, filled from a source once and read by point id. A context manager; `get` is thread-safe.

    Args:
        handle: the collection; its layout and plugins decide which point a document has.
        documents: as `populate` takes them; documents that populate would reject are left out.
    """

    def __init__(self, handle: CollectionHandle, documents: Iterable[object]) -> None:
        self._base, self._lock = temporary_tables(CACHE_KIB, one_thread=False), threading.Lock()
        self._base.execute("CREATE TABLE documents (point TEXT PRIMARY KEY, content TEXT) WITHOUT ROWID")
        self._base.execute("BEGIN")
        self.count = 0
        with SeenIds() as seen:
            for item in Validator(handle, seen, None, Tally()).items(documents):
                document = item.document
                content = json.dumps([document.id, document.text, document.title, to_rows(document.media)])
                self._base.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (str(item.point), content))
                self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()

    def get(self, point: int | str) -> Document | None:
        """The document of a point; None when the source has none."""
        with self._lock:
            row = self._base.execute("SELECT content FROM documents WHERE point = ?", (str(point),)).fetchone()
        if row is None:
            return None
        identifier, text, title, media = json.loads(row[0])
        return Document(identifier, text, title, media=from_rows(media))


def document_of(
    record: models.Record, layout: Layout, source: SourceDocuments | None, modality: str = "text"
) -> Document | None:
    """The document from the payload; what is read of it and is not there comes from the source. None if neither has it.

    Without a source, the document from the payload, whatever it lacks.

    Args:
        modality: what the encoder reads of it.
    """
    document = layout.read(record.id, record.payload)
    has_text, media = bool(document.text.strip()), document.media.get(modality)
    has_media = isinstance(media, Media) and bool(media.source or media.data)
    if source is None or (has_text if modality == "text" else has_media):
        return document
    found = source.get(plain_id(record.id))
    if found is None:
        return None if modality == "text" else document
    known = document if has_text else replace(found, metadata=document.metadata)
    return replace(known, media={**found.media, **document.media})


@dataclass(frozen=True, slots=True)
class Sampled:
    """A document of the collection, used as a query.

    Args:
        point: id of its point.
        id: the document's own id.
        item: a query that means just this document: its title, or else its first sentence.
        excerpt: a harder one: a few words from its middle.
        media: by modality. A document of media alone has no item and excerpt.
    """

    point: PointId
    id: str
    item: str
    excerpt: str
    media: Mapping[str, Media] = field(default_factory=dict, compare=False)


def sample_points(client: QdrantBase, name: str, size: int) -> list[PointId]:
    """Ids of `size` points, or of all if there are fewer, in random order.

    Of a collection of up to 20,000 points they are the same while the points exist; of a larger one the store draws
    others at each call.
    """
    if client.count(name, exact=True).count > MOST_IDS_READ:
        query = models.SampleQuery(sample=models.Sample.RANDOM)
        drawn = client.query_points(name, query=query, limit=size, with_payload=False).points
        return [plain_id(point.id) for point in drawn]
    read = (records for records, _ in pages(client, name, PAGE, payload=False))
    ids = (record.id for records in read for record in records)
    return heapq.nsmallest(size, ids, key=lambda point: hashlib.sha256(f"{name}\0{point}".encode()).digest())


def sample_documents(view: View, points: Sequence[PointId]) -> list[Sampled]:
    """The documents of these points, in their order, without missing, empty and duplicate ones."""
    samples: dict[str, Sampled] = {}
    order = {point: position for position, point in enumerate(points)}
    for record in records_of_points(view.client, view.name, points):
        document = view.layout.read(record.id, record.payload)
        text, item = view.reading.of(document.title, document.text), known_item(document.title, document.text)
        media: dict[str, Media] = {
            content.modality: content for content in document.media.values() if isinstance(content, Media)
        }
        words = (item, excerpt(text)) if text.strip() and item else ("", "")
        if words[0] or media:
            key = "\0".join([text if words[0] else "", *(content.key for content in media.values())])
            samples.setdefault(key, Sampled(record.id, document.id, *words, media))
    return sorted(samples.values(), key=lambda sampled: order[sampled.point])


def records_of_points(
    client: QdrantBase, name: str, points: Sequence[PointId], vector: str | None = None
) -> Iterator[models.Record]:
    """These points with their payload, or with a vector instead; those that are gone are left out."""
    for start in range(0, len(points), FETCH):
        page, vectors = list(points[start : start + FETCH]), [vector] if vector is not None else False
        yield from client.retrieve(name, page, with_payload=vector is None, with_vectors=vectors)


def known_item(title: str, text: str) -> str:
    """A short query for the document: its title, or its first sentence of three words or more.

    At most 200 characters, cut between words. Empty when the document is.
    """
    words = title.split()
    for sentence in _SENTENCE.split(text.strip()):
        if len(words) >= LEAST_WORDS:
            break
        words += sentence.split()
    short = " ".join(words)
    return short if len(short) <= MOST_CHARACTERS else short[:MOST_CHARACTERS].rsplit(" ", 1)[0]


def excerpt(text: str) -> str:
    """Eight words from the middle of the first hundred, or 40 characters in texts without spaces."""
    words = text.split()[:WORDS_READ]
    if len(words) < EXCERPT and len(text) > MOST_CHARACTERS:
        middle = min(len(text), MOST_OF_A_TEXT) // 2
        return text[middle : middle + 5 * EXCERPT].strip() or text[:MOST_CHARACTERS]
    start = max(0, (len(words) - EXCERPT) // 2)
    return " ".join(words[start : start + EXCERPT])[:MOST_CHARACTERS]


class CorpusSample:
    """Documents drawn evenly from a collection, read when the first encoder needs them."""

    def __init__(self, handle: CollectionHandle, layout: Layout, *, size: int = SIZE) -> None:
        self._client, self._name, self._layout, self._size = handle.client, handle.name, layout, size

    @cached_property
    def _documents(self) -> list[Document]:
        points = sample_points(self._client, self._name, self._size)
        return [
            self._layout.read(found.id, found.payload) for found in records_of_points(self._client, self._name, points)
        ]

    def shift(self, encoder: Calibrated, then: Statistics, reading: Reading) -> str:
        """A sentence on each average that has changed by over a tenth since the calibration; empty if none has."""
        texts = texts_of(self._documents, reading)
        if not texts or not then.get("documents"):
            return ""
        rows, sentences = [encoder.measure([text]) for text in texts], []
        count = max(len(self._documents), self._client.count(self._name, exact=True).count)
        left_out = max(0.0, 1 - len(texts) / count)
        for key in sorted(then.keys() - {"documents"}):
            average, values = then[key] / then["documents"], [row.get(key, 0.0) for row in rows]
            error = float(np.std(values)) * math.sqrt(left_out / len(values))
            change = float(np.mean(values)) - average
            if average and abs(change) - ERRORS * error > TOLERANCE * average:
                moved = f"the average of {key} a document moved by {change / average:+.0%}"
                sentences.append(f"{moved} since the encoder was calibrated")
        return "; ".join(sentences)
