"""`export_collection`: writes a collection to a file, as documents for populate or as points with their vectors."""

from __future__ import annotations

import gzip
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.copying import target_collection
from diptych.copying.export_rows import Header, document_row, point_row
from diptych.copying.run import require_coherent
from diptych.copying.side import CopySide
from diptych.errors import CopyError, brief
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.tenancy import narrowed, scope_of
from diptych.metadata.payloads import NATIVE, OWN, from_payload
from diptych.metadata.store import COPY, RETIRED
from diptych.populate.sources.readers import HEADER
from diptych.populate.store import Store
from diptych.runtime.phases import Progress, Unwatched
from diptych.runtime.text_budget import RECORD
from diptych.stores.scroll import pages
from diptych.stores.server_errors import needs_answers
from diptych.types import Document

if TYPE_CHECKING:
    from diptych.copying.export_rows import ParquetRows

LOG = logging.getLogger(__name__)
PAGE = 256
SHOWN = 5  # document ids in a warning
Write = Callable[[Mapping[str, Any]], None]


@needs_answers("run it again once it does")
def export_collection(
    handle: CollectionHandle,
    path: str | Path | None,
    *,
    vectors: bool = False,
    filter: models.Filter | None = None,
    tenant: str | None = None,
    progress: Progress | None = None,
) -> int:
    """Write a collection to a file and return the number of documents, or of points with vectors.

    Args:
        handle: the open collection; it is only read.
        path: `*.jsonl`, `*.jsonl.gz` or `*.parquet`; None writes JSON lines to standard output. The file is there
            when it is whole, and takes the place of one of that name.
        vectors: points as they are, with all vectors, the settings and what the collection says of itself, so that
            `import_collection` makes an equal one without encoding; else documents, which populate reads.
        filter, tenant: which documents; all unless given.
        progress: receives the progress of stage "export".

    Raises:
        CollectionNotFound: nothing was populated yet. TenantError: a tenant where there are none.
        CopyError: a swap is under way, the store fails, or the name does not tell the format.
    """
    handle.require()
    path = None if path is None else Path(path)
    watcher = progress or Unwatched()
    scoped_filter = filter if tenant is None else narrowed(scope_of(handle.view, tenant), filter)
    total = handle.client.count(handle.name, scoped_filter, exact=True).count
    header = _header(handle, total, vectors)
    watcher.begin("export", total)
    written = 0
    with _writer(path, header) as write:
        rows = _points(handle, scoped_filter) if vectors else _document_rows(handle, scoped_filter)
        for row in rows:
            write(row)
            written += 1
            watcher.advance("export", 1)
    return written


def _document_rows(handle: CollectionHandle, scoped_filter: models.Filter | None) -> Iterator[dict[str, Any]]:
    """The documents as populate reads them; a warning says how many have media that nobody can read again."""
    incomplete: list[str] = []
    for document in _documents(handle, scoped_filter):
        row = document_row(document)
        if any(isinstance(own, dict) for own in row.get("media", {}).values()):  # neither bytes nor source
            incomplete.append(document.id)
        yield row
    if incomplete:
        shown = ", ".join(map(repr, incomplete[:SHOWN])) + (", ..." if len(incomplete) > SHOWN else "")
        LOG.warning(
            "%s: %d documents have media that were given as bytes and that the collection does not hold: %s. populate "
            "will reject them. --vectors exports their vectors; with media.store: bytes, populate stores the bytes.",
            handle.name,
            len(incomplete),
            shown,
        )


def _header(handle: CollectionHandle, total: int, vectors: bool) -> Header:
    if not vectors:
        return Header(handle.name, total, False)
    side = CopySide(handle.client, handle.name)
    info = side.info()
    require_coherent(side, info)
    indexes = target_collection.indexes_of(side, info, handle.metadata, handle.registry)
    schemas = {
        name: schema.model_dump(mode="json") if hasattr(schema, "model_dump") else str(schema.value)
        for name, schema in indexes.items()
    }
    settings = info.model_dump(mode="json")  # with nulls: their defaults are others
    settings["config"]["metadata"] = {k: v for k, v in (info.config.metadata or {}).items() if k not in (COPY, RETIRED)}
    return Header(handle.name, total, True, settings, schemas)


def _documents(handle: CollectionHandle, scoped_filter: models.Filter | None) -> Iterator[Document]:
    """The documents of all tenants. Points without a document are skipped."""
    store, layout = Store.of(handle, threading.Event()), handle.view.layout
    for record in store.scrolled(scoped_filter, None):
        if layout != NATIVE or OWN in (record.payload or {}):
            yield from_payload(record.id, record.payload, layout)


def _points(handle: CollectionHandle, scoped_filter: models.Filter | None) -> Iterator[dict[str, Any]]:
    side = CopySide(handle.client, handle.name)

    def page(offset: Any) -> tuple[list[models.Record], Any]:
        scroll = partial(handle.client.scroll, handle.name, scoped_filter, limit=PAGE, offset=offset)
        return side.call("read from", partial(scroll, with_payload=True, with_vectors=True))

    for records in pages(page):
        yield from map(point_row, records)


@contextmanager
def _writer(path: Path | None, header: Header) -> Iterator[Write]:
    """Write rows after the header to a temporary file that is renamed when complete."""
    if path is None:
        _json_line(sys.stdout.write, header.line())
        yield lambda row: _json_line(sys.stdout.write, row)
        return
    kind = _format_of(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with _row_writer(unfinished, kind, header) as write:
            yield write
        os.replace(unfinished, path)
    except OSError as error:
        raise CopyError("the file cannot be written", where=path, got=f"{type(error).__name__}: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _row_writer(path: Path, kind: str, header: Header) -> Iterator[Write]:
    if kind == "parquet":
        with _parquet(path, header) as table:
            yield table.write
        return
    with (gzip.open if kind == "gz" else open)(path, "wt", encoding="utf-8") as file:
        _json_line(file.write, header.line())
        yield lambda row: _json_line(file.write, row)


@contextmanager
def _parquet(path: Path, header: Header) -> Iterator[ParquetRows]:
    from diptych.copying.export_rows import ParquetRows

    with ParquetRows(path, header) as table:
        yield table


def _json_line(write: Callable[[str], object], row: Mapping[str, Any]) -> None:
    line = json.dumps(row, ensure_ascii=False) + "\n"
    if len(line) > RECORD // 4 and len(line.encode()) > RECORD and HEADER not in row:
        what, where = "a line would be longer than populate and import read", brief(row.get("id", row.get("point")))
        do = "export to a .parquet file, which has no lines"
        raise CopyError(what, where=where, got=f"{len(line):,}", expected=f"at most {RECORD:,} bytes", do=do)
    write(line)


def _format_of(path: Path) -> str:
    names = path.name.lower()
    if names.endswith((".jsonl", ".ndjson")):
        return "jsonl"
    if names.endswith((".jsonl.gz", ".ndjson.gz")):
        return "gz"
    if names.endswith(".parquet"):
        from diptych.populate.sources.readers import require_pyarrow

        require_pyarrow()
        return "parquet"
    expected = ".jsonl, .jsonl.gz, .parquet; - for standard output"
    raise CopyError("the file name does not show the format", where=path, expected=expected)
