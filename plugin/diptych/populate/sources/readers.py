"""Readers, one for each file format. Malformed entries come out as `Rejected`, with file and line.

`Columns` names the columns of tables that hold id, text, title and media. A CSV file's columns get types.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from diptych.errors import PopulateError, brief
from diptych.media import MODALITIES, Modality
from diptych.populate.rejects import Rejected
from diptych.runtime.untrusted import FILE, RECORD
from diptych.runtime.validation_messages import nearest

TYPES = ("text", "integer", "float", "bool")
EVERY = "*"  # stands for all columns that are not named
Cell = str | int | float | bool
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)
_FRACTION = re.compile(r"-?(?:0|[1-9][0-9]{0,16})\.([0-9]{1,17})", re.ASCII)
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
_TRUTH = {"true": True, "false": False}
_TRUTH_AS_PEOPLE_WRITE_IT = {**_TRUTH, "yes": True, "no": False, "1": True, "0": False}

SHOWN = 40  # names that an error lists
Raw = Mapping[str, Any] | Rejected
SPLIT_ARRAY = "jq -c '.[]' FILE | diptych populate -"
FIRST = 100  # objects of JSON lines from which the keys are taken
_ROWS, _AT_ONCE = 1024, 4 * RECORD  # rows and bytes of Parquet that are read at a time
_DENSEST = 1000  # bytes that a byte of Parquet may unpack to, as with gzip
_LONGEST_CELL = 2**31 - 1  # csv's own limit of 131,072 characters is below the record's


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns, or keys of JSON objects, that hold id, text and title; None stands for the usual name.

    `media` names those that hold paths or bytes of media, each with its modality.
    """

    id: str | None = None
    text: str | None = None
    title: str | None = None
    media: tuple[tuple[str, Modality], ...] = ()

    def renamed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with id, text, title and media under the usual names. Columns that had these names are dropped."""
        found = dict(row)
        named = [(usual, row.get(column)) for usual, column in self._given()]
        for usual, column in self._given():
            for name in (column, usual, "_id" if usual == "id" else usual):
                found.pop(name, None)
        for column, _ in self.media:
            found.pop(column, None)
        if self.media:
            # The row's media by modality: those of its columns, and those under `media` in a JSON object.
            in_object = row.get("media")
            cells = {modality: content_of(row.get(column)) for column, modality in self.media}
            given = {modality: cell for modality, cell in cells.items() if cell is not None and cell != ""}
            found["media"] = {**(in_object if isinstance(in_object, Mapping) else {}), **given}
        return {**found, **{usual: value for usual, value in named if value is not None}}

    def require(self, names: Iterable[str], where: str, *, table: str = "table") -> None:
        """Raise PopulateError if a column is missing, or no column holds the id or the text."""
        names = tuple(names)
        for flag, column in self._given():
            if column not in names:
                what = f"the {table} has no column {column!r}"
                raise _no_column(what, names, where, nearest(column, names), f"{column}, by --{flag}-column")
        for column, modality in self.media:
            if column not in names:
                what = f"the {table} has no column {column!r}"
                raise _no_column(
                    what, names, where, nearest(column, names), f"{column}, by --media {column}={modality}"
                )
        for flag, given, usual in (("id", self.id, ("id", "_id")), ("text", self.text, ("text", "title", "media"))):
            if given is None and not set(usual) & set(names) and not (flag == "text" and (self.title or self.media)):
                what = f"the {table} has no {flag} column"
                do = f"name the column that holds the {flag}: --{flag}-column NAME, {flag}_column"
                raise _no_column(what, names, where, do, " or ".join(usual[:2]))

    def _given(self) -> list[tuple[str, str]]:
        named = (("id", self.id), ("text", self.text), ("title", self.title))
        return [(usual, column) for usual, column in named if column is not None]


def content_of(cell: object) -> object:
    """The media in a cell: the cell itself, or the bytes or path of a struct of both, as Hugging Face writes them."""
    if isinstance(cell, Mapping) and {"bytes", "path"} >= cell.keys():
        return cell.get("bytes") or cell.get("path")
    return cell


def checked_media(media: Mapping[str, str]) -> tuple[tuple[str, Modality], ...]:
    """Columns and their modalities, as a user named them.

    Raises:
        PopulateError: a modality does not exist, or has two columns.
    """
    found: list[tuple[str, Modality]] = []
    for column, modality in media.items():
        if modality not in MODALITIES:
            what, expected = "unknown modality of a column", ", ".join(MODALITIES)
            raise PopulateError(what, where=column, got=repr(modality), expected=expected)
        found.append((column, modality))
    if len(dict(found)) > len(set(media.values())):
        raise PopulateError("a modality has several columns", got=brief(dict(media)), expected="one for each modality")
    return tuple(found)


def _no_column(what: str, names: tuple[str, ...], where: str, do: str, expected: str) -> PopulateError:
    found = ", ".join(names[:SHOWN]) + (f", … ({len(names)} in all)" if len(names) > SHOWN else "")
    if len(names) == 1 and (other := next((c for c in ";|\t" if c in names[0]), "")):
        do = f"the columns look separated by {other!r}; write the table with commas, or with tabs as .tsv"
    return PopulateError(what, where=where, got=found or "no columns", expected=expected, do=do)


def checked_types(types: Mapping[str, str], names: Sequence[str], where: str) -> dict[str, str]:
    """The types that the user named, checked.

    Raises:
        PopulateError: there is no such type, or no such column.
    """
    for name, kind in types.items():
        if kind not in TYPES:
            raise PopulateError("unknown type of a column", where=name, got=repr(kind), expected=", ".join(TYPES))
        if name != EVERY and name not in names:
            what, got = f"the table has no column {name!r}", ", ".join(names)
            raise PopulateError(what, where=where, got=got, expected="types of its columns", do=nearest(name, names))
    return dict(types)


def infer_types(names: Sequence[str], rows: Iterable[Sequence[str]]) -> dict[str, str]:
    """Infer the types of columns that are not text from all their cells; empty cells are ignored.

    A CSV file has no types, and range filters do not match text. So a column is numeric when every cell is written
    exactly as its number would be: `007`, `1e5`, `+49 30`, `nan` and ` 5` are text, and one of them makes the whole
    column text. Fractions have the shortest form, or all the same number of decimals, as prices have.
    """
    open_columns = [(at, name, _Column()) for at, name in enumerate(names)]
    for row in rows:
        if not open_columns:
            break
        for at, _, column in open_columns:
            if at < len(row) and row[at]:
                column.see(row[at])
        if any(column.is_text for _, _, column in open_columns):
            open_columns = [one for one in open_columns if not one[2].is_text]
    return {name: kind for _, name, column in open_columns if (kind := column.kind())}


def typed(cell: str, kind: str) -> Cell | None:
    """The cell as a value of the type that the user named; None if it does not fit."""
    try:
        if kind == "integer":
            return int(cell)
        if kind == "float":
            number = float(cell)
            return number if math.isfinite(number) else None
    except ValueError:
        return None
    return _TRUTH_AS_PEOPLE_WRITE_IT.get(cell.strip().lower()) if kind == "bool" else cell


def as_inferred(cell: str, kind: str) -> Cell:
    """The cell as a value of its column's inferred type; unchanged if it does not fit because the file has changed."""
    if kind == "bool":
        return _TRUTH.get(cell, cell)
    if _is_integer(cell):
        return int(cell)
    return float(cell) if kind == "float" and _FRACTION.fullmatch(cell) else cell


class _Column:
    """The types that fit all cells of a column so far."""

    def __init__(self) -> None:
        self._seen = self._fraction = False
        self._truth = self._number = self._shortest = True
        self._decimals: int | None = None  # of all fractions, -1 when they differ

    @property
    def is_text(self) -> bool:
        return not (self._truth or self._number)

    def see(self, cell: str) -> None:
        self._seen = True
        self._truth = self._truth and cell in _TRUTH
        self._number = self._number and (_is_integer(cell) or self._is_fraction(cell))

    def kind(self) -> str | None:
        if not self._seen:
            return None
        if self._truth:
            return "bool"
        return "float" if self._fraction else "integer"

    def _is_fraction(self, cell: str) -> bool:
        """Whether the cell, and all fractions before it, can be restored exactly from the numbers."""
        found = _FRACTION.fullmatch(cell)
        if found is None:
            return False
        self._fraction = True
        number, decimals = float(cell), len(found[1])
        self._shortest = self._shortest and repr(number) == cell
        same = self._decimals in (None, decimals) and f"{number:.{decimals}f}" == cell
        self._decimals = decimals if same else -1
        return self._shortest or same


def _is_integer(cell: str) -> bool:
    return _INTEGER.fullmatch(cell) is not None and _SMALLEST <= int(cell) <= _LARGEST


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
