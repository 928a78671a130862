"""Exported rows in a Parquet file: payloads as JSON text, vectors as lists, the header in the file's metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from diptych.copying.export_rows import Header, Shapes
from diptych.errors import CopyError
from diptych.populate.sources.readers import HEADER, parquet_rows
from diptych.runtime.text_budget import FILE

ROWS = 1024
_VECTOR = "vector "  # before the name of a vector in the name of its column


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
