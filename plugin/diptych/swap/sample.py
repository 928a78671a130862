"""A sample of a collection's points, the same in every run: seeded by the collection's name.

`CorpusSample` uses it to tell whether corpus averages have shifted since an encoder was calibrated.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.media import Media
from diptych.metadata.models import Reading
from diptych.metadata.payloads import Layout
from diptych.populate.read_ahead import TOLERANCE
from diptych.protocols import Calibrated, Statistics
from diptych.search.fusion import PointId
from diptych.slots.calibration_texts import texts_of
from diptych.stores.scroll import pages
from diptych.types import Document

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


MOST_IDS_READ = 20_000  # up to here all ids are read, a fraction of a second; beyond, points are drawn by probing
PAGE = 2_000
FETCH = 256
MOST_CHARACTERS = 200  # a first sentence is cut after so many
MOST_OF_A_TEXT = 2_000  # characters of a text without spaces, from which an excerpt is taken
EXCERPT, WORDS_READ = 8, 100  # words of an excerpt, from the middle of the first 100, which every encoder reads
LEAST_WORDS = 3  # in a query; shorter sentences are joined with the next
_SENTENCE = re.compile(r"(?<=[.!?…。！？])\s+|(?<=[。！？])|\n\s*\n")
SIZE = 1000  # points; the average length of texts is then known to 3% or so
ERRORS = 3.0  # standard errors by which a shift must exceed the tolerance, so that noise is not reported


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


def sample_points(client: QdrantBase, name: str, size: int, *, whole: int = MOST_IDS_READ) -> list[PointId]:
    """Ids of `size` points, or of all if there are fewer, in random order; the same while the points exist.

    Up to `whole` points are drawn evenly. Beyond, random ids are probed and the next point is taken. This is uniform
    for hashed ids such as diptych's; with gaps between ids, points after a gap come more often. If the probes find too
    few points, all ids are read.
    """
    count = client.count(name, exact=True).count
    if count > whole and len(probed := _probed(client, name, size)) == size:
        return probed
    read = (records for records, _ in pages(client, name, PAGE, payload=False))
    ids = (record.id for records in read for record in records)
    return heapq.nsmallest(size, ids, key=lambda point: hashlib.sha256(f"{name}\0{point}".encode()).digest())


def sample_documents(view: View, points: Sequence[PointId]) -> list[Sampled]:
    """The documents of these points, in their order, without missing, empty and duplicate ones."""
    samples: dict[str, Sampled] = {}
    order = {point: position for position, point in enumerate(points)}
    for start in range(0, len(points), FETCH):
        for record in view.client.retrieve(view.name, list(points[start : start + FETCH]), with_payload=True):
            document = view.layout.read(record.id, record.payload)
            text = view.reading.of(document.title, document.text)
            item = known_item(document.title, document.text)
            media: dict[str, Media] = {
                content.modality: content for content in document.media.values() if isinstance(content, Media)
            }
            if (text.strip() and item) or media:
                has_words = bool(text.strip() and item)
                key = "\0".join([text if has_words else "", *(content.key for content in media.values())])
                words = (item, excerpt(text)) if has_words else ("", "")
                samples.setdefault(key, Sampled(record.id, document.id, *words, media))
    return sorted(samples.values(), key=lambda sampled: order[sampled.point])


def known_item(title: str, text: str) -> str:
    """A short query for the document: its title, or its first sentence of three words or more.

    At most 200 characters, cut between words. Empty when the document is.
    """
    words = title.split()
    if len(words) < LEAST_WORDS:
        words = [*words, *_beginning(text, LEAST_WORDS - len(words))]
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


def _beginning(text: str, least: int) -> list[str]:
    """The first sentences of `text`, until there are `least` words."""
    words: list[str] = []
    for sentence in _SENTENCE.split(text.strip()):
        words += sentence.split()
        if len(words) >= least:
            break
    return words


def _probed(client: QdrantBase, name: str, size: int) -> list[PointId]:
    """Points after random ids, integers and UUIDs in turn if both exist; may be fewer than `size`."""
    rng = random.Random(name)
    kinds = [_Ids(client, name, uuids) for uuids in (False, True)]
    spans = [(ids, *span) for ids in kinds if (span := ids.span()) is not None]
    points: dict[PointId, None] = {}
    for turn in range(4 * size if spans else 0):
        ids, low, high = spans[turn % len(spans)]
        point = ids.at(rng.randint(low, high))
        if point is not None:
            points[point] = None
        if len(points) == size:
            break
    return list(points)


@dataclass(frozen=True, slots=True)
class _Ids:
    """One of Qdrant's two kinds of ids, integers or UUIDs, as numbers; all integers sort before all UUIDs."""

    client: QdrantBase
    name: str
    uuids: bool

    def at(self, number: int) -> PointId | None:
        """The first point of this kind whose id is at least `number`."""
        start: PointId = str(uuid.UUID(int=number)) if self.uuids else number
        records, _ = self.client.scroll(self.name, limit=1, offset=start, with_payload=False)
        return records[0].id if records and isinstance(records[0].id, int) != self.uuids else None

    def number(self, point: PointId) -> int:
        """The number of an id of this kind."""
        return uuid.UUID(str(point)).int if self.uuids else int(point)

    def span(self) -> tuple[int, int] | None:
        """The lowest and the highest number; None when there is no such id."""
        first = self.at(0)
        if first is None:
            return None
        low = high = self.number(first)
        beyond = 2 ** (128 if self.uuids else 64)
        while beyond - high > 1:
            middle = (high + beyond) // 2
            point = self.at(middle)
            high, beyond = (high, middle) if point is None else (self.number(point), beyond)
        return low, high


class CorpusSample:
    """Documents drawn evenly from a collection, read when the first encoder needs them."""

    def __init__(self, handle: CollectionHandle, layout: Layout, *, size: int = SIZE) -> None:
        self._client, self._name, self._layout, self._size = handle.client, handle.name, layout, size
        self._documents: list[Document] | None = None
        self._points = 0

    def shift(self, encoder: Calibrated, then: Statistics, reading: Reading) -> str:
        """A sentence on each average that has changed by over a tenth since the calibration; empty if none has."""
        texts = texts_of(self._read(), reading)
        if not texts or not then.get("documents"):
            return ""
        rows = [encoder.measure([text]) for text in texts]
        moved = {key: self._moved([row.get(key, 0.0) for row in rows], then[key] / then["documents"]) for key in then}
        return "; ".join(
            f"the average of {key} a document moved by {change:+.0%} since the encoder was calibrated"
            for key, change in moved.items()
            if change and key != "documents"
        )

    def _moved(self, values: Sequence[float], average: float) -> float:
        """The relative change of an average; 0 unless it exceeds the tolerance significantly."""
        if not average:
            return 0.0
        left_out = max(0.0, 1 - len(values) / self._points)
        error = float(np.std(values)) * math.sqrt(left_out / len(values))
        change = float(np.mean(values)) - average
        return change / average if abs(change) - ERRORS * error > TOLERANCE * average else 0.0

    def _read(self) -> list[Document]:
        if self._documents is None:
            points = sample_points(self._client, self._name, self._size)
            self._points = max(len(points), self._client.count(self._name, exact=True).count)
            self._documents = [
                self._layout.read(record.id, record.payload)
                for start in range(0, len(points), FETCH)
                for record in self._client.retrieve(self._name, points[start : start + FETCH], with_payload=True)
            ]
        return self._documents
