"""Readers, one for each file format. Malformed entries come out as `Rejected`, with file and line."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from diptych.errors import PopulateError, brief
from diptych.populate.rejects import Rejected
from diptych.populate.sources.columns import EVERY, Columns, as_inferred, infer_types, typed
from diptych.runtime.text_budget import FILE, RECORD

Raw = Mapping[str, Any] | Rejected
SPLIT_ARRAY = "jq -c '.[]' FILE | diptych populate -"
FIRST = 100  # objects of JSON lines from which the keys are taken
_ROWS, _AT_ONCE = 1024, 4 * RECORD  # rows and bytes of Parquet that are read at a time
_DENSEST = 1000  # bytes that a byte of Parquet may unpack to, as with gzip
_LONGEST_CELL = 2**31 - 1  # csv's own limit of 131,072 characters is below the record's


class Row(dict[str, Any]):
    """An entry with its place, such as `corpus.jsonl:17`, its cells as in the CSV file, and whether `media` are media.

    Elsewhere `media` is a key like others, unless the collection has a slot that reads media.
    """

    __slots__ = ("has_media", "where", "written")

    def __init__(
        self, values: Mapping[str, Any], where: str, written: Mapping[str, str] | None = None, has_media: bool = False
    ) -> None:
        super().__init__(values)
        self.where, self.written, self.has_media = where, written or {}, has_media


def read_json_lines(path: Path) -> Iterator[Raw]:
    """The objects of a JSON lines file."""
    with _opened(path) as file:
        yield from json_lines(file, path.name)


def count_lines(path: Path) -> int:
    """Number of non-empty lines."""
    with _opened(path) as file:
        return sum(1 for line in _bounded_lines(file) if line.strip())


def _bounded_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; a line that is too long is cut after `RECORD` + 1 bytes."""
    while line := file.readline(RECORD + 1):
        yield line
        while len(line) > RECORD and not line.endswith(b"\n"):
            line = file.readline(RECORD + 1)


def json_lines(file: BinaryIO, name: str) -> Iterator[Raw]:
    """One object for each line; empty lines are skipped."""
    first = True
    for number, line in enumerate(_bounded_lines(file), 1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        if len(line) > RECORD:
            yield Rejected(where, f"the line is too long: at most {RECORD:,} bytes")
            continue
        start = line.removeprefix(b"\xef\xbb\xbf").strip() if first else b""
        if start.startswith(b"[") and start[1:].lstrip()[:1] in (b"", b"{"):  # of objects, on one line or several
            raise PopulateError(
                "the source is one JSON array", where=where, expected="JSON lines: one object per line", do=SPLIT_ARRAY
            )
        first = False
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Rejected(where, f"not JSON: {error}")
            continue
        if isinstance(found, dict):
            yield Row(found, where)
        else:
            yield Rejected(where, f"not a JSON object but {type(found).__name__}")


def keys_of(rows: Iterable[Raw]) -> tuple[str, ...]:
    """The keys of the first objects; lines that are not objects are skipped."""
    objects = (row for row in islice(rows, FIRST) if isinstance(row, Row))
    return tuple(dict.fromkeys(key for row in objects for key in row))


def renamed(rows: Iterable[Raw], columns: Columns) -> Iterator[Raw]:
    """The objects with id, text, title and media under these names."""
    for row in rows:
        yield _renamed(row, columns, row.where) if isinstance(row, Row) else row


def _renamed(cells: Mapping[str, Any], columns: Columns, where: str, written: Mapping[str, str] | None = None) -> Row:
    return Row(columns.renamed(cells), where, written, has_media=bool(columns.media))


def csv_columns(path: Path, *, inferred: bool) -> tuple[tuple[str, ...], dict[str, str]]:
    """The names in the header of a CSV file, and from all cells the types of columns that are not text."""
    with _csv_lines(path) as lines:
        return lines.header, infer_types(lines.header, filter(None, lines)) if inferred else {}


def read_csv(path: Path, columns: Columns, kinds: Mapping[str, str], named: Mapping[str, str]) -> Iterator[Raw]:
    """The rows of a CSV file with a header, or of a tab-separated one; empty cells are left out.

    Args:
        path: the file.
        columns: the columns of id, text, title and media, which are always text.
        kinds: inferred types of columns; a cell that does not have its column's type stays text.
        named: types of columns that the user named; a row with a cell of another type is rejected.
    """
    texts = {columns.id, columns.text, columns.title, "id", "_id", "text", "title", *dict(columns.media)}
    with _csv_lines(path) as lines:
        names = lines.header
        columns.require(names, str(path))
        every = named.get(EVERY)
        chosen = {name: named.get(name, every) for name in names if name not in texts}
        for cells in lines:
            where = f"{path.name}:{lines.line_num}"
            if cells is None:
                yield Rejected(where, f"the row is too long: at most {RECORD:,} characters; is a quote left open?")
            elif len(cells) > len(names):
                yield Rejected(where, "the row has more cells than the header")
            elif cells:
                yield _row(dict(zip(names, cells, strict=False)), where, columns, kinds, chosen)


def _row(
    cells: Mapping[str, str],
    where: str,
    columns: Columns,
    kinds: Mapping[str, str],
    chosen: Mapping[str, str | None],
) -> Raw:
    values: dict[str, Any] = {}
    for name, cell in cells.items():
        if not cell:
            continue
        kind = chosen.get(name)
        if kind is None:
            inferred = kinds.get(name) if name in chosen else None
            values[name] = cell if inferred is None else as_inferred(cell, inferred)
        elif (value := typed(cell, kind)) is not None:
            values[name] = value
        else:
            identifier = columns.renamed(cells)
            reason = f"column {name!r} holds no {kind}: {cell[:40]!r}"
            return Rejected(where, reason, id=str(identifier.get("_id", identifier.get("id", ""))))
    return _renamed(values, columns, where, cells)


@contextmanager
def _csv_lines(path: Path) -> Iterator[_CsvRows]:
    csv.field_size_limit(_LONGEST_CELL)
    with _opened(path) as file, io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="") as text:
        yield _CsvRows(text, "\t" if ".tsv" in path.suffixes else ",")


class _CsvRows(Iterator[list[str] | None]):
    """The rows of a CSV file as lists of cells; None for one that is too long, after which the next line begins one.

    `header` is the first.
    """

    def __init__(self, text: TextIO, delimiter: str) -> None:
        self._text, self._length, self.line_num = text, 0, 0
        self._reader = csv.reader(iter(self._line, ""), delimiter=delimiter)
        first = next(self, None)
        self.header = tuple(first or ())

    def __next__(self) -> list[str] | None:
        self._length = 0
        try:
            return next(self._reader)
        except csv.Error:
            return None

    def _line(self) -> str:
        line = self._text.readline(RECORD + 1)
        self.line_num += bool(line)
        self._length += len(line)
        if self._length > RECORD:
            while line and not line.endswith(("\n", "\r")):
                line = self._text.readline(RECORD)
            raise csv.Error("the row is too long")
        return line


@contextmanager
def _intact(path: Path) -> Iterator[None]:
    """Within the block, pyarrow's errors become PopulateErrors."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        what, do = "the Parquet file cannot be read", "check that it is complete and a Parquet file"
        raise PopulateError(what, where=str(path), got=brief(str(error), 300), do=do) from error


def read_parquet(path: Path, columns: Columns) -> Iterator[Raw]:
    """The rows of a Parquet file, without nulls and NaN, which is pandas' null."""
    import pyarrow.parquet

    with _intact(path), pyarrow.parquet.ParquetFile(path) as file:
        columns.require(file.schema_arrow.names, str(path))
        most = FILE if columns.media else RECORD
        for number, row in enumerate(parquet_rows(path, file, most), 1):
            if row is None:
                yield Rejected(f"{path.name}:{number}", f"the row is too large: at most {most:,} bytes")
                continue
            cells = {key: cell for key, cell in row.items() if cell is not None and cell == cell}  # NaN is not itself
            yield _renamed(cells, columns, f"{path.name}:{number}")


def parquet_rows(path: Path, file: Any, most: int) -> Iterator[dict[str, Any] | None]:
    """The rows of an open Parquet file; None for one of more than `most` bytes.

    Raises:
        PopulateError: a group of rows unpacks to too much.
    """
    for batch in _batches(path, file):
        if _unpacked(batch.columns) <= most:
            yield from batch.to_pylist()
            continue
        for row in (batch.slice(number, 1) for number in range(batch.num_rows)):
            yield row.to_pylist()[0] if _unpacked(row.columns) <= most else None


def _batches(path: Path, file: Any) -> Iterator[Any]:
    """The rows of a Parquet file in batches of bounded size; a long string that repeats is held once."""
    import pyarrow.parquet
    from pyarrow import compute

    columns = [file.schema.column(n) for n in range(len(file.schema))]
    strings = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
    limit = _AT_ONCE + path.stat().st_size * _DENSEST
    with pyarrow.parquet.ParquetFile(path, metadata=file.metadata, read_dictionary=strings) as compact:
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            leaves = [group.column(n) for n in range(group.num_columns)]
            unpacked = max(group.total_byte_size, 8 * sum(leaf.num_values for leaf in leaves))
            if unpacked > limit:
                got, expected = f"{unpacked:,} bytes", f"at most {limit:,}, for a file of its size"
                raise PopulateError("the Parquet file unpacks to too much", where=str(path), got=got, expected=expected)
            rows = max(1, min(_ROWS, _AT_ONCE * group.num_rows // max(1, group.total_byte_size)))
            texts = max((leaf.num_values for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"), default=0)
            at_once = texts if texts > group.num_rows else rows  # a row of lists may hold all of them
            first = islice(compact.iter_batches(1, row_groups=[number]), 1)
            stored = [lengths for row in first for _, lengths in _leaves(row.columns) if lengths is not None]
            longest = max((compute.max(lengths).as_py() or 0 for lengths in stored), default=0)
            yield from (compact if longest * at_once > _AT_ONCE else file).iter_batches(rows, row_groups=[number])


def _unpacked(columns: Iterable[Any]) -> int:
    """The bytes of all values, each repetition counted."""
    return sum(
        column.nbytes if lengths is None else lengths.take(column.indices).drop_null().sum().as_py() or 0
        for column, lengths in _leaves(columns)
    )


def _leaves(columns: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """The columns of values, also inside of lists; each with the lengths of the strings that it holds once, or None."""
    from pyarrow import compute, types

    for column in columns:
        if types.is_nested(column.type):
            yield from _leaves(column.flatten() if types.is_struct(column.type) else [column.flatten()])
        else:
            once = types.is_dictionary(column.type) and not types.is_primitive(column.type.value_type)
            yield column, compute.binary_length(column.dictionary) if once else None


def require_pyarrow() -> None:
    """Raise PopulateError unless Parquet files can be read."""
    if importlib.util.find_spec("pyarrow") is None:
        raise PopulateError("Parquet files need pyarrow", do='pip install "diptych[parquet]"')


def parquet_head(path: Path) -> tuple[tuple[str, ...], int]:
    """The names of a Parquet file's columns, and its number of rows, from its footer."""
    import pyarrow.parquet

    with _intact(path):
        metadata = pyarrow.parquet.read_metadata(path)
        return tuple(metadata.schema.to_arrow_schema().names), int(metadata.num_rows)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield cast(BinaryIO, file)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        what, do = "the compressed file is damaged or was cut off", "download or write it again"
        raise PopulateError(what, where=str(path), got=brief(str(error), 300), do=do) from error
