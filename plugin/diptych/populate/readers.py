"""Readers of one file format each. What is malformed comes out as `Rejected`, with file and line."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from diptych.errors import PopulateError
from diptych.populate.rejected import Rejected

Raw = Mapping[str, Any] | Rejected
TEXT_FILES = (".md", ".markdown", ".txt")
_ROWS = 1024  # of parquet at a time
_LONGEST_CELL = 2**31 - 1  # csv's own limit of 131,072 characters would end the reading


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
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Rejected(where, f"not JSON: {error}")
            continue
        yield found if isinstance(found, dict) else Rejected(where, f"not a JSON object but {type(found).__name__}")


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
                    yield self._renamed({key: cell for key, cell in row.items() if cell})

    def read_parquet(self, path: Path) -> Iterator[Raw]:
        """The rows of a Parquet file; nulls are left out, and NaN, which is pandas' null."""
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(path) as file:
            self._require(file.schema_arrow.names, path)
            for batch in file.iter_batches(_ROWS):
                for row in batch.to_pylist():
                    yield self._renamed({key: cell for key, cell in row.items() if not _is_null(cell)})

    def _renamed(self, row: dict[str, Any]) -> dict[str, Any]:
        for wanted, column in (("id", self.id), ("text", self.text)):
            if column is not None and column in row:
                row[wanted] = row.pop(column)
        return row

    def _require(self, names: Iterable[str], path: Path) -> None:
        names = tuple(names)
        ids = (self.id,) if self.id else ("id", "_id")
        texts = (self.text,) if self.text else ("text", "title")
        for what, choices in (("id", ids), ("text", texts)):
            if not any(choice in names for choice in choices):
                raise PopulateError(
                    f"the table has no {what} column",
                    where=str(path),
                    got=", ".join(names) or "no columns",
                    expected=" or ".join(choices),
                    do=f"name the column that holds the {what}",
                )


def require_pyarrow() -> None:
    """Raise PopulateError unless Parquet files can be read."""
    if importlib.util.find_spec("pyarrow") is None:
        raise PopulateError("Parquet files need pyarrow", do='pip install "diptych[parquet]"')


def count_parquet(path: Path) -> int:
    """Rows of a Parquet file, from its footer."""
    import pyarrow.parquet

    return int(pyarrow.parquet.read_metadata(path).num_rows)


def read_files(folder: Path) -> Iterator[Raw]:
    """Text and Markdown files under a folder, or a single one; id is the relative path, title the first heading."""
    base = folder if folder.is_dir() else folder.parent
    for path in _text_files(folder):
        identifier = path.relative_to(base).as_posix()
        try:
            text = path.read_text("utf-8-sig")
        except (UnicodeDecodeError, OSError) as error:
            yield Rejected(identifier, f"unreadable file: {error}")
            continue
        title = _heading(text) if path.suffix.lower() != ".txt" else ""
        yield {"id": identifier, "text": text, "title": title}


def count_files(folder: Path) -> int:
    """How many text and Markdown files there are under a folder."""
    return sum(1 for _ in _text_files(folder))


def _text_files(folder: Path) -> list[Path]:
    found = folder.rglob("*") if folder.is_dir() else [folder]
    return sorted(path for path in found if path.suffix.lower() in TEXT_FILES and path.is_file())


def _heading(text: str) -> str:
    """The first heading of a Markdown text, outside of code blocks."""
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and line.startswith("#") and line.lstrip("#").startswith(" "):
            return line.strip("# \t")
    return ""


def _is_null(cell: object) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")
