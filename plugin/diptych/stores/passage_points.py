"""`PassagePoints`: the points of passages, which lie in a collection beside that of their documents.

A slot with `passages: {layout: points}` keeps the multi-vector of each document in the document's own point, and each
passage's vector once more in a point of a second collection, which has the index. Only the first is ever believed: a
search takes candidates from the second, and Qdrant filters and scores them by the document's own point.

So a document is written in this order: its passages, its own point, and then passages of its earlier text are deleted.
A reader meets the document before or after, never half of it. What a kill leaves behind is found by no search.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from qdrant_client import models

from diptych.metadata.models import Layout
from diptych.metadata.payloads import NATIVE, from_payload, text_fields
from diptych.passages import MARK
from diptych.stores.passage_collections import collection_of

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

PARENT, TEXT, PLACE, OF = "document", "text", "place", "of"  # payload keys of a passage
PAGE = 256  # documents whose passages are read at once
TRIES = 10  # passes of `mend`, while others write the same documents
WRITTEN = 2**20  # numbers of the passages that one request writes: a third of what a server takes in JSON
LIKE = 0.99  # cosine of a passage and its row of the multi-vector, which may be stored in a coarser datatype
_NAMESPACE = uuid.UUID("5d0c1a36-0c4f-5a0e-9a56-2d8f1b0b7a55")
PointId: TypeAlias = int | str
T = TypeVar("T")
Run: TypeAlias = "Callable[[str, Callable[[], Any]], Any]"


@dataclass(slots=True)
class Mended:
    """What was wrong with the passages of some documents.

    Args:
        leftover: points of passages that no document has.
        lacking: documents whose passages are missing, not whole, or not those of their vector.
        gone: the name of their collection, if there is none.
    """

    leftover: list[Any] = field(default_factory=list)
    lacking: list[PointId] = field(default_factory=list)
    gone: str = ""

    def __bool__(self) -> bool:
        return bool(self.leftover or self.lacking or self.gone)

    def __str__(self) -> str:
        lacking = f"passages of {len(self.lacking):,} documents are not those of their vectors"
        leftover = f"{len(self.leftover):,} passages are left over from earlier texts"
        said = [(self.gone, f"collection {self.gone!r} of its passages is gone"), (self.lacking, lacking)]
        return "; ".join(text for there, text in [*said, (self.leftover, leftover)] if there)

    def add(self, other: Mended) -> None:
        """Count the others, too."""
        self.leftover += other.leftover
        self.lacking += other.lacking


def _once(verb: str, call: Callable[[], T]) -> T:
    return call()


class PassagePoints:
    """The points of the passages of one vector.

    Args:
        client, name: the documents' collection.
        vector: the vector.
        layout: where texts lie in payloads.
        run: makes a call to the store that reads, writes or deletes, as the first argument says in words.
    """

    def __init__(self, client: QdrantBase, name: str, vector: str, layout: Layout = NATIVE, run: Run = _once) -> None:
        self._client, self._documents, self._vector = client, name, vector
        self._layout, self._run = layout, run
        self.name = collection_of(name, vector)

    def exists(self) -> bool:
        """Whether their collection is there."""
        return bool(self._run("read from", partial(self._client.collection_exists, self.name)))

    def write(self, points: Sequence[tuple[PointId, Mapping[str, Any] | None, Any]]) -> None:
        """Write the passages of documents, before the documents: id, payload, and vectors `[passages, dimension]`."""
        batch, size = list[Any](), 0
        for point, payload, rows in points:
            text = self._text(point, payload)
            for place, row in enumerate(rows):
                about = {PARENT: str(point), TEXT: text, PLACE: place, OF: len(rows)}
                identifier = str(uuid.uuid5(_NAMESPACE, f"{point} {text} {place}"))
                batch.append(self._point(identifier, row, about))
                size += len(row)
                if size >= WRITTEN:
                    self._upsert(batch)
                    batch, size = [], 0
        if batch:
            self._upsert(batch)

    def mend(self, points: Sequence[PointId], *, closely: bool = False) -> Mended:
        """Delete passages of earlier texts of these documents, and write missing ones from the documents' vectors.

        Call it after documents were written or deleted. Two writers of one document can each delete the passages of
        the other, but the later one to look finds that out, and so it looks until nothing is wrong.

        Args:
            closely: as in `faults`.
        """
        done = Mended()
        for _ in range(TRIES):
            found = self.faults(points, closely=closely)
            if not found:
                break
            self._remake(found.lacking)
            if found.leftover:
                selector = models.PointIdsList(points=found.leftover)
                self._run("delete from", partial(self._client.delete, self.name, selector, wait=True))
            done.add(found)
        return done

    def faults(self, points: Sequence[PointId], *, closely: bool = False) -> Mended:
        """What is wrong with the passages of these documents, at most `PAGE` of them.

        Args:
            closely: compare the passages' vectors with the documents'.
        """
        passages = self._passages(points, closely)  # first: what is not the documents' text by then is leftover
        records = self._records(points, self._vector if closely else None)
        found, doubtful = Mended(), list[PointId]()
        for point in points:
            text = self._text(point, records[point].payload) if point in records else None
            own = [passage for passage in passages.get(str(point), ()) if passage.payload[TEXT] == text]
            found.leftover += [passage.id for passage in passages.get(str(point), ()) if passage.payload[TEXT] != text]
            if text is None:
                continue
            rows = _rows(records[point], self._vector)
            if not _whole(own) or (rows is not None and not _alike(own, rows, self._vector)):
                doubtful.append(point)
        held = self._records(doubtful, self._vector) if doubtful else {}
        found.lacking = [point for point in doubtful if _rows(held.get(point), self._vector) is not None]
        return found

    def documents(self) -> Iterator[list[PointId]]:
        """All documents, page by page, and then those that passages name and that are gone."""
        for records in self._pages(self._documents, False):
            yield [_plain(record.id) for record in records]
        for records in self._pages(self.name, [PARENT]):
            named = list(dict.fromkeys(document_of(record) for record in records))
            for start in range(0, len(named), PAGE):
                part = named[start : start + PAGE]
                there = self._records(part, None)
                if gone := [point for point in part if point not in there]:
                    yield gone

    def _remake(self, points: Sequence[PointId]) -> None:
        """Write the passages of these documents from their stored vectors."""
        before, after = {}, {}
        if points:
            before = self._records(points, None)
            vectors = self._records(points, self._vector)
            after = self._records(points, None)  # unchanged in between, the vector is that of the text
        same = [p for p in before if p in after and p in vectors and before[p].payload == after[p].payload]
        rows = {point: _rows(vectors[point], self._vector) for point in same}
        self.write([(point, before[point].payload, own) for point, own in rows.items() if own is not None])

    def _text(self, point: PointId, payload: Mapping[str, Any] | None) -> str:
        """A short hash of the text that a payload holds."""
        document = from_payload(point, payload, self._layout)
        return hashlib.blake2b(f"{document.title}{MARK}{document.text}".encode(), digest_size=8).hexdigest()

    def _upsert(self, batch: list[Any]) -> None:
        self._run("write to", partial(self._client.upsert, self.name, batch, wait=True))

    def _point(self, identifier: str, row: Any, payload: dict[str, Any]) -> Any:
        vector = {self._vector: row}  # in the client's form: a row of the document's vectors
        return models.PointStruct.model_construct(id=identifier, vector=vector, payload=payload)

    def _passages(self, points: Collection[PointId], closely: bool) -> dict[str, list[Any]]:
        """The passages by their document."""
        if not points:
            return {}
        chosen = models.Filter(must=[of_documents(points)])
        found: dict[str, list[Any]] = {}
        for records in self._pages(self.name, True, chosen, vectors=[self._vector] if closely else False):
            for record in records:
                found.setdefault((record.payload or {})[PARENT], []).append(record)
        return found

    def _records(self, points: Sequence[PointId], vector: str | None) -> dict[PointId, models.Record]:
        """The documents' points with their texts, and with the vector if one is named."""
        retrieve = partial(
            self._client.retrieve,
            self._documents,
            points,
            with_payload=text_fields(self._layout),
            with_vectors=[vector] if vector else False,
        )
        return {_plain(record.id): record for record in self._run("read from", retrieve)}

    def _pages(
        self, name: str, fields: Any, chosen: models.Filter | None = None, *, vectors: Any = False
    ) -> Iterator[list[models.Record]]:
        offset: Any = None
        while True:
            scroll = partial(self._client.scroll, name, chosen, limit=PAGE, offset=offset)
            read = partial(scroll, with_payload=fields, with_vectors=vectors)
            records, offset = self._run("read from", read)
            if records:
                yield records
            if offset is None:
                return


def of_documents(points: Collection[PointId]) -> models.FieldCondition:
    """The condition for the passages of these documents."""
    return models.FieldCondition(key=PARENT, match=models.MatchAny(any=[str(point) for point in points]))


def document_of(passage: models.ScoredPoint | models.Record) -> PointId:
    """The point of the document that a passage belongs to."""
    named: str = (passage.payload or {})[PARENT]
    return int(named) if named.isdecimal() else named


def _rows(record: models.Record | None, vector: str) -> Any:
    """The document's vectors, None where it has none."""
    vectors: Any = record.vector if record is not None else None
    found = vectors.get(vector) if isinstance(vectors, Mapping) else None
    return found if found is not None and len(found) else None


def _whole(passages: Sequence[Any]) -> bool:
    """Whether these are all passages of a document."""
    places = {passage.payload[PLACE] for passage in passages}
    return bool(passages) and len(places) == passages[0].payload[OF]


def _alike(passages: Sequence[Any], rows: Any, vector: str) -> bool:
    """Whether the passages' vectors are the rows of the document's."""
    if not passages or len(rows) != passages[0].payload[OF]:
        return False
    pairs = [(passage.vector[vector], rows[passage.payload[PLACE]]) for passage in passages]
    first, second = (np.asarray(own, np.float64) for own in zip(*pairs, strict=True))
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return bool(((first * second).sum(1) >= LIKE * lengths).all())


def _plain(identifier: object) -> PointId:
    return identifier if isinstance(identifier, int) else str(identifier)
