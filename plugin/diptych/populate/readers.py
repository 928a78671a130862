"""Readers of one file format each. What is malformed comes out as `Rejected`, with file and line."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from diptych.config.problems import nearest
from diptych.errors import PopulateError
from diptych.populate.markdown import parse_markdown
from diptych.populate.rejected import Rejected

Raw = Mapping[str, Any] | Rejected
TEXT_FILES = (".md", ".markdown", ".txt")
SPLIT_ARRAY = "jq -c '.[]' FILE | diptych populate -"
VENDORED = "node_modules"
_ROWS = 1024  # of parquet at a time
_LONGEST_CELL = 2**31 - 1  # csv's own limit of 131,072 characters would end the reading


class Row(dict[str, Any]):
    """An entry that knows its place, such as `corpus.jsonl:17`."""

    __slots__ = ("where",)

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        super().__init__(values)
        self.where = where


def read_json_lines(path: Path) -> Iterator[Raw]:
    """The objects of a JSON lines file."""
    with _opened(path) as file:
        yield from json_lines(file, path.name)


def count_lines(path: Path) -> int:
    """Lines that are not empty."""
    with _opened(path) as file:
        return sum(1 for line in file if line.strip())


def json_lines(lines: Iterable[bytes], name: str) -> Iterator[Raw]:
    """One object a line; empty lines are nothing."""
    first = True
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        if first and _opens_array(line):
            raise PopulateError(
                "the source is one JSON array", where=where, expected="JSON lines: one object a line", do=SPLIT_ARRAY
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


def _opens_array(line: bytes) -> bool:
    """Whether a first line is the beginning of an array of objects, in one line or over many."""
    start = line.removeprefix(b"\xef\xbb\xbf").strip()
    return start.startswith(b"[") and start[1:].lstrip()[:1] in (b"", b"{")


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns that hold id and text, when they are not called so."""

    id: str | None = None
    text: str | None = None

    def read_csv(self, path: Path) -> Iterator[Raw]:
        """The rows of a CSV file with a header, or of a tab-separated one; empty cells are left out."""
        csv.field_size_limit(_LONGEST_CELL)
        with _opened(path) as file, io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="") as text:
            rows = csv.DictReader(text, delimiter="\t" if ".tsv" in path.suffixes else ",")
            self._require(rows.fieldnames or (), path)
            for row in rows:
                where = f"{path.name}:{rows.line_num}"
                if None in row:
                    yield Rejected(where, "the row has more cells than the header")
                else:
                    yield Row(self._renamed({key: cell for key, cell in row.items() if cell}), where)

    def read_parquet(self, path: Path) -> Iterator[Raw]:
        """The rows of a Parquet file; nulls are left out, and NaN, which is pandas' null."""
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(path) as file:
            self._require(file.schema_arrow.names, path)
            rows = (row for batch in file.iter_batches(_ROWS) for row in batch.to_pylist())
            for number, row in enumerate(rows, 1):
                cells = {key: cell for key, cell in row.items() if not _is_null(cell)}
                yield Row(self._renamed(cells), f"{path.name}:{number}")

    def _renamed(self, row: dict[str, Any]) -> dict[str, Any]:
        for wanted, column in (("id", self.id), ("text", self.text)):
            if column is not None and column in row:
                row[wanted] = row.pop(column)
        return row

    def _require(self, names: Iterable[str], path: Path) -> None:
        names = tuple(names)
        for flag, column, usual in (("id", self.id, ("id", "_id")), ("text", self.text, ("text", "title"))):
            if column is not None and column not in names:
                raise _no_column(f"the table has no column {column!r}", names, path, nearest(column, names), column)
            if column is None and not set(usual) & set(names):
                what = f"the table has no {flag} column"
                do = f"name the column that holds the {flag}: --{flag}-column NAME, {flag}_column"
                raise _no_column(what, names, path, do, " or ".join(usual))


def _no_column(what: str, names: tuple[str, ...], path: Path, do: str, expected: str) -> PopulateError:
    found = ", ".join(names) or "no columns"
    if len(names) == 1 and (other := next((c for c in ";|\t" if c in names[0]), "")):
        do = f"the columns look separated by {other!r}; write the table with commas, or with tabs as .tsv"
    return PopulateError(what, where=str(path), got=found, expected=expected, do=do)


def require_pyarrow() -> None:
    """Raise PopulateError unless Parquet files can be read."""
    if importlib.util.find_spec("pyarrow") is None:
        raise PopulateError("Parquet files need pyarrow", do='pip install "diptych[parquet]"')


def count_parquet(path: Path) -> int:
    """Rows of a Parquet file, from its footer."""
    import pyarrow.parquet

    return int(pyarrow.parquet.read_metadata(path).num_rows)


def read_files(folder: Path) -> Iterator[Raw]:
    """Text and Markdown files under a folder, or a single one; id is the relative path, title as in parse_markdown."""
    base = folder if folder.is_dir() else folder.parent
    for path in _text_files(folder):
        identifier = path.relative_to(base).as_posix()
        try:
            text = path.read_text("utf-8-sig")
        except (UnicodeDecodeError, OSError) as error:
            yield Rejected(identifier, f"unreadable file: {error}", id=identifier)
            continue
        title, text = parse_markdown(text) if path.suffix.lower() != ".txt" else ("", text)
        yield {"id": identifier, "text": text, "title": title}


def count_files(folder: Path) -> int:
    """How many text and Markdown files there are under a folder."""
    return sum(1 for _ in _text_files(folder))


def _text_files(folder: Path) -> list[Path]:
    found = _below(folder) if folder.is_dir() else [folder]
    return sorted(path for path in found if path.suffix.lower() in TEXT_FILES and path.is_file())


def _below(folder: Path) -> Iterator[Path]:
    """The files under a folder but for hidden ones and those that others' packages brought."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != VENDORED]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _is_null(cell: object) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")
