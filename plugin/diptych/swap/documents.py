"""The texts that a swap encodes: from the payload, or from the original source if payloads do not hold the text."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType
from typing import Any

from qdrant_client import models

from diptych.handle.collection_handle import CollectionHandle
from diptych.media import Media
from diptych.metadata.payloads import Layout, from_rows, to_rows
from diptych.populate.validate import SeenIds, Tally, Validator, temporary_tables
from diptych.stores.scroll import plain_id
from diptych.types import Document

CACHE_KIB = 16_384  # memory for the table; the rest of it is in a file that the system deletes with the process


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
        self.count = self._fill(handle, documents)

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
        content: list[Any] = json.loads(row[0])
        identifier, text, title, media = content
        return Document(identifier, text, title, media=from_rows(media))

    def _fill(self, handle: CollectionHandle, documents: Iterable[object]) -> int:
        count = 0
        with SeenIds() as seen:
            for item in Validator(handle, seen, None, Tally()).items(documents):
                document = item.document
                content = json.dumps([document.id, document.text, document.title, to_rows(document.media)])
                self._base.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (str(item.point), content))
                count += 1
        return count


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
