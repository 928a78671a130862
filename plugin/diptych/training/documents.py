"""Reads the documents of a source without filling a collection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from diptych.errors import DocumentError, PopulateError
from diptych.populate.sources.open_source import open_source
from diptych.populate.sources.rejected_entry import Rejected
from diptych.types import Document


def read_documents(path: str | Path) -> Iterator[Document]:
    """The documents at `path`: any source that `diptych populate` reads. Entries without any text are left out.

    Raises:
        PopulateError: there is nothing to read, or an entry is not a document; its place is named.
    """
    for position, raw in enumerate(open_source(path), 1):
        if isinstance(raw, Rejected):
            raise PopulateError("an entry is not a document", where=f"{path}, {raw.where}", got=raw.reason)
        if not any(str(raw.get(part) or "").strip() for part in ("text", "title")):
            continue
        try:
            yield Document.from_mapping(raw)
        except DocumentError as error:
            raise PopulateError(
                "an entry is not a document", where=f"{path}, entry {position}", got=str(error)
            ) from error
