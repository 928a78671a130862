"""The lines of an exported file: a header that describes the collection, then documents, or points with vectors.

    {"diptych": {"format": 1, "collection": "notes", "points": 2, "vectors": true, "info": {...}, "indexes": {...}}}
    {"point": 7, "payload": {...}, "vectors": {"dense.1": [...], "lexical.1": {"indices": [...], "values": [...]}}}

Without vectors each line is a document as populate reads it, and populate passes over the header.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

import numpy as np
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass
from qdrant_client import models

from diptych.copying.side import vectors_of
from diptych.errors import CopyError, DocumentError
from diptych.media import Media, to_source
from diptych.populate.sources.readers import HEADER, parquet_rows
from diptych.runtime.text_budget import FILE
from diptych.stores.scroll import plain_id
from diptych.types import Document

ROWS = 1024
_VECTOR = "vector "  # before the name of a vector in the name of its column

FORMAT = 1
_LARGEST = 2**64 - 1
_LARGEST_FLOAT = float(np.finfo(np.float32).max)


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
        fields = {name: getattr(self, name) for name in ("collection", "points", "vectors", "info", "indexes")}
        return {HEADER: {"format": FORMAT, **fields}}

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
    vectors = {name: _plain(vector) for name, vector in vectors_of(record).items()}
    return {"point": plain_id(record.id), "payload": record.payload or {}, "vectors": vectors}


def _plain(vector: Any) -> Any:
    return vector.model_dump() if isinstance(vector, models.SparseVector) else vector


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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
