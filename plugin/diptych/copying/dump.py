"""`export_collection`: writes a collection to a file, as documents for populate or as points with their vectors.

The file's first line is a header that describes the collection.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass
from qdrant_client import models

from diptych.copying import target_collection
from diptych.copying.run import require_coherent
from diptych.copying.side import CopySide, vectors_of
from diptych.errors import CopyError, DocumentError, brief
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.tenancy import narrowed, scope_of
from diptych.media import Media, to_source
from diptych.metadata.payloads import OWN
from diptych.metadata.store import COPY, RETIRED
from diptych.populate.sources.readers import HEADER, parquet_rows, require_pyarrow
from diptych.populate.store import Store
from diptych.runtime.phases import Progress, Unwatched
from diptych.runtime.text_budget import FILE, RECORD
from diptych.stores.scroll import plain_id
from diptych.stores.server_errors import needs_answers
from diptych.types import Document

ROWS = 1024
_VECTOR = "vector "  # before the name of a vector in the name of its column
FORMAT = 1
_LARGEST = 2**64 - 1
_LARGEST_FLOAT = float(np.finfo(np.float32).max)
_PARAMS: dict[str, Any] = {
    "keyword": models.KeywordIndexParams,
    "integer": models.IntegerIndexParams,
    "float": models.FloatIndexParams,
    "bool": models.BoolIndexParams,
    "geo": models.GeoIndexParams,
    "datetime": models.DatetimeIndexParams,
    "text": models.TextIndexParams,
    "uuid": models.UuidIndexParams,
}

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
    layout = handle.view.layout
    for record in Store.of(handle).scrolled(scoped_filter, None):
        if not layout.is_native or OWN in (record.payload or {}):
            yield layout.read(record.id, record.payload)


def _points(handle: CollectionHandle, scoped_filter: models.Filter | None) -> Iterator[dict[str, Any]]:
    side = CopySide(handle.client, handle.name)
    for records, _ in side.pages(PAGE, None, scoped_filter, vectors=True):
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
        with ParquetRows(path, header) as table:
            yield table.write
        return
    with (gzip.open if kind == "gz" else open)(path, "wt", encoding="utf-8") as file:
        _json_line(file.write, header.line())
        yield lambda row: _json_line(file.write, row)


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
        require_pyarrow()
        return "parquet"
    expected = ".jsonl, .jsonl.gz, .parquet; - for standard output"
    raise CopyError("the file name does not show the format", where=path, expected=expected)


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Header:
    """The header of an exported file: it describes the collection.

    Args:
        collection: its name.
        points: how many there were, or documents.
        vectors: whether points with vectors follow, or documents.
        info: settings and metadata, as Qdrant tells them.
        indexes: payload indexes by field.
    """

    collection: Annotated[str, Field(min_length=1)]
    points: Annotated[int, Field(ge=0)]
    vectors: bool
    info: dict[str, Any] = Field(default_factory=dict)
    indexes: dict[str, str | dict[str, Any]] = Field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        """The header as a JSON object."""
        return {HEADER: {"format": FORMAT, **asdict(self)}}

    @classmethod
    def read(cls, line: Mapping[str, Any], where: str) -> Header:
        """The header of a file.

        Raises:
            CopyError: it is of a newer release, or damaged.
        """
        content = line.get(HEADER)
        if not isinstance(content, Mapping) or content.get("format") != FORMAT:
            got = repr(content.get("format") if isinstance(content, Mapping) else content)[:80]
            raise CopyError("the header has another format", where=where, got=got, expected=str(FORMAT))
        try:
            header = cls(**{name: content[name] for name in ("collection", "points", "vectors", "info", "indexes")})
            if header.vectors:
                header.settings()
                header.schemas()
        except (KeyError, TypeError, ValueError, RecursionError) as error:  # a ValidationError is a ValueError
            raise CopyError("the header is damaged", where=where, got=str(error).splitlines()[0]) from error
        return header

    def settings(self) -> models.CollectionInfo:
        """The collection's settings."""
        return models.CollectionInfo.model_validate(self.info)

    def schemas(self) -> dict[str, Any]:
        """The payload indexes in the client's types."""
        return {field: _schema(exported) for field, exported in self.indexes.items()}


def _schema(exported: Any) -> Any:
    """A payload index as exported: a type by its name, or its parameters."""
    if isinstance(exported, str):
        return models.PayloadSchemaType(exported)
    kind = str(exported.get("type", ""))
    return _PARAMS[kind].model_validate(exported) if kind in _PARAMS else models.PayloadSchemaType(kind)


def document_row(document: Document) -> dict[str, Any]:
    """A document as populate reads it; media by their path, or with their bytes where the collection holds them."""
    row: dict[str, Any] = {"id": document.id, "text": document.text}
    if document.title:
        row["title"] = document.title
    if media := {name: to_source(found) for name, found in document.media.items() if isinstance(found, Media)}:
        row["media"] = media
    return {**row, "metadata": dict(document.metadata)}


def point_row(record: models.Record) -> dict[str, Any]:
    """A point with its payload and vectors as JSON values; the unnamed vector is called ""."""
    vectors = {
        name: vector.model_dump() if isinstance(vector, models.SparseVector) else vector
        for name, vector in vectors_of(record).items()
    }
    return {"point": plain_id(record.id), "payload": record.payload or {}, "vectors": vectors}


class Shapes:
    """The shapes of a collection's vectors; turns lines into points that match them."""

    def __init__(self, params: models.CollectionParams) -> None:
        dense: Any = params.vectors or {}
        self.dense = {"": dense} if isinstance(dense, models.VectorParams) else dict(dense)
        self.sparse = set(params.sparse_vectors or {})

    def point(self, row: Any) -> models.PointStruct:
        """The point of a line.

        Raises:
            DocumentError: something is missing, or a vector does not fit.
        """
        if not isinstance(row, Mapping) or "point" not in row:
            raise DocumentError("not a point", expected='an object with "point", "payload" and "vectors"')
        payload, vectors = ({} if (part := row.get(key)) is None else part for key in ("payload", "vectors"))
        if not isinstance(payload, Mapping) or not isinstance(vectors, Mapping):
            raise DocumentError("payload or vectors are not objects")
        converted = {name: self._vector(name, vector) for name, vector in vectors.items()}
        vector: Any = converted[""] if set(converted) == {""} else converted
        return models.PointStruct.model_construct(id=_point_id(row["point"]), payload=dict(payload), vector=vector)

    def _vector(self, name: str, vector: Any) -> Any:
        if name in self.sparse:
            return _sparse(name, vector)
        params = self.dense.get(name)
        if params is None:
            existing = ", ".join(map(repr, [*self.dense, *self.sparse]))
            raise DocumentError(f"there is no vector {name!r}", expected=existing)
        if params.multivector_config is None:
            return _numbers(name, vector, params.size)
        if not isinstance(vector, list) or not vector:
            raise DocumentError(f"vector {name!r} is not a list of vectors")
        return [_numbers(name, token, params.size) for token in vector]


def _point_id(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
        return value
    try:
        return str(uuid.UUID(value))
    except (ValueError, TypeError, AttributeError):
        expected = "an unsigned integer or a UUID"
        raise DocumentError("not a point id", got=repr(value)[:80], expected=expected) from None


def _numbers(name: str, vector: Any, size: int) -> list[float]:
    if not isinstance(vector, list) or len(vector) != size:
        got = f"{len(vector)} numbers" if isinstance(vector, list) else type(vector).__name__
        raise DocumentError(f"vector {name!r} does not fit", got=got, expected=f"{size} numbers")
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) <= _LARGEST_FLOAT for n in vector):
        raise DocumentError(f"vector {name!r} holds a value that is not a finite number")
    return vector


def _sparse(name: str, vector: Any) -> models.SparseVector:
    try:
        sparse = models.SparseVector.model_validate(vector)
    except ValidationError:
        raise DocumentError(f"vector {name!r} is not sparse", expected='{"indices": [...], "values": [...]}') from None
    _numbers(name, sparse.values, len(sparse.indices))
    if len(set(sparse.indices)) < len(sparse.indices):
        raise DocumentError(f"vector {name!r} names an index twice")
    return sparse


class ParquetRows:
    """Writes exported rows. A context manager."""

    def __init__(self, path: Path, header: Header) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        fields = list(_fields(header))
        metadata = {HEADER: json.dumps(header.line()[HEADER])}
        self._schema = pa.schema(fields, metadata=metadata)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def write(self, row: Mapping[str, Any]) -> None:
        """Write one row."""
        self._rows.append(_flat(row))
        if len(self._rows) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


def header_of(path: Path) -> dict[str, Any] | None:
    """The header line of an exported Parquet file; None if it has none."""
    import pyarrow.parquet as pq

    header = (pq.read_schema(path).metadata or {}).get(HEADER.encode())
    return None if header is None else {HEADER: json.loads(header)}


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The exported points of a Parquet file, in the form of JSON lines."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for row in parquet_rows(path, file, FILE):
            if row is None:
                raise CopyError("a row is too large", where=str(path), expected=f"at most {FILE:,} bytes")
            vectors = {
                name.removeprefix(_VECTOR): value
                for name, value in row.items()
                if name.startswith(_VECTOR) and value is not None
            }
            yield {"point": json.loads(row["point"]), "payload": json.loads(row["payload"]), "vectors": vectors}


def _fields(header: Header) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa

    if not header.vectors:
        yield from ((name, pa.string()) for name in ("id", "text", "title", "media", "metadata"))
        return
    yield from (("point", pa.string()), ("payload", pa.string()))
    shapes = Shapes(header.settings().config.params)
    for name, params in shapes.dense.items():
        numbers = pa.list_(pa.float32())
        yield f"{_VECTOR}{name}", pa.list_(numbers) if params.multivector_config else numbers
    for name in sorted(shapes.sparse):
        sparse = [("indices", pa.list_(pa.uint32())), ("values", pa.list_(pa.float32()))]
        yield f"{_VECTOR}{name}", pa.struct(sparse)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    if "point" not in row:
        return {**row, **{key: json.dumps(row[key]) for key in ("media", "metadata") if key in row}}
    vectors = {f"{_VECTOR}{name}": vector for name, vector in row["vectors"].items()}
    return {"point": json.dumps(row["point"]), "payload": json.dumps(row["payload"]), **vectors}
