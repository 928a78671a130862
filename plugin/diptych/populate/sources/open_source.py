"""`open_source`: files, folders and standard input as documents.

| what | format | documents |
|---|---|---|
| `*.jsonl`, `*.jsonl.gz`, also `.ndjson` | jsonl | one JSON object a line |
| `*.csv`, `*.csv.gz`, also `.tsv` | csv | one a row; the header names the keys |
| `*.parquet` | parquet | one a row; needs `diptych[parquet]` |
| a folder with `corpus.jsonl(.gz)` | beir | that file |
| a folder | files | one a `.txt`, `.md`, `.pdf`, `.html` or `.docx` file, its relative path as id |
| `*.txt`, `*.md`, `*.pdf`, `*.html`, `*.docx` | files | that one, its name as id; some need `diptych[documents]` |
| a folder or a file, if asked | image, sound, video, ... | one a file of that modality, its relative path as id |
| `-` | jsonl | standard input, read once |
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from diptych.errors import PopulateError, brief
from diptych.media import MODALITIES
from diptych.populate.rejects import Rejected
from diptych.populate.sources import files, readers
from diptych.populate.sources.columns import EVERY, Columns, checked_media, checked_types
from diptych.populate.sources.extract import require_package

Raw: TypeAlias = Mapping[str, Any] | Rejected
FORMATS = ("jsonl", "csv", "parquet", "beir", "files", *MODALITIES)
_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
_CORPUS = ("corpus.jsonl.gz", "corpus.jsonl")


class Source(Protocol):
    """Documents that can be read repeatedly, unless it is an iterator. It has a length if that is known."""

    @property
    def name(self) -> str:
        """How messages name the source."""
        ...

    def __iter__(self) -> Iterator[Raw]:
        """The documents, from the first on."""
        ...


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file or folder, opened again for each reading."""

    path: Path
    read: Callable[[Path], Iterator[Raw]]

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def __iter__(self) -> Iterator[Raw]:
        """The documents, from the first on."""
        return self.read(self.path)


@dataclass(frozen=True, slots=True)
class CountedSource(FileSource):
    """A source that knows its number of documents much faster than they can be encoded."""

    count: Callable[[Path], int]

    def __len__(self) -> int:
        return self.count(self.path)


@dataclass(frozen=True)
class CsvSource:
    """A CSV file. The types of its columns are inferred at the first reading and hold for all others."""

    path: Path
    columns: Columns
    named: Mapping[str, str]

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def __iter__(self) -> Iterator[Raw]:
        """The documents, from the first on."""
        return readers.read_csv(self.path, self.columns, self._inferred, self.named)

    @cached_property
    def _inferred(self) -> Mapping[str, str]:
        return readers.csv_types(self.path) if EVERY not in self.named else {}


class StandardInput:
    """JSON lines from standard input. An iterator: it can be read once."""

    name = "standard input"

    def __init__(self, columns: Columns = Columns()) -> None:  # noqa: B008 frozen
        lines = readers.json_lines(sys.stdin.buffer, self.name)
        first = list(islice(lines, readers.FIRST))
        if names := readers.keys_of(first):
            columns.require(names, self.name, table="source")
        self._rows = readers.renamed(chain(first, lines), columns)

    def __iter__(self) -> Iterator[Raw]:
        return self

    def __next__(self) -> Raw:
        return next(self._rows)


def open_source(
    path: str | Path,
    *,
    format: str | None = None,
    id_column: str | None = None,
    text_column: str | None = None,
    title_column: str | None = None,
    types: Mapping[str, str] | None = None,
    media: Mapping[str, str] | None = None,
) -> Source:
    """The documents at `path`.

    Args:
        path: a file, a folder, or `-` for standard input.
        format: jsonl, csv, parquet, beir or files; by default taken from the name. A modality such as image takes the
            files of that modality: the relative path is the id, and a .txt file of the same name holds the text.
        id_column, text_column, title_column: columns of csv and parquet, or keys of JSON lines, that are not called
            `id` (or `_id`), `text` and `title`.
        types: of csv: column to text, integer, float or bool, instead of inferring them from the cells; `*` stands
            for all others.
        media: column or key to image, sound, video, series or points: its cells hold paths below `media.root`, URLs,
            bytes, or numbers in lists.

    Raises:
        PopulateError: the source is missing, unreadable, or lacks the columns; or an extra is not installed.
    """
    columns = Columns(id_column, text_column, title_column, checked_media(media or {}))
    if str(path) == "-":
        _require_table("jsonl", columns, types, "standard input")
        return StandardInput(columns)
    if not isinstance(path, str | os.PathLike) or not (os.path.isfile(path) or os.path.isdir(path)):
        expected, do = "a regular file, a folder, or - for standard input", "a pipe: COMMAND | diptych populate -"
        raise PopulateError("there is no such source", got=brief(path), expected=expected, do=do)
    found = Path(path)
    kind = format or _format_of(found)
    _require_table(kind, columns, types, str(found))
    return _open(found, kind, columns, types or {})


def _require_table(format: str, columns: Columns, types: Mapping[str, str] | None, where: str) -> None:
    """Raise PopulateError for column options of a source without columns, and for types of one with its own."""
    if format in ("files", *MODALITIES) and columns != Columns():
        raise PopulateError("files have no columns", where=where, do="leave --id-column, --media and the like out")
    if types and format != "csv":
        what = "types of columns can be named for csv alone"
        raise PopulateError(what, where=where, got=f"format {format}", do="leave --types out; other formats have types")


def _open(path: Path, format: str, columns: Columns, types: Mapping[str, str]) -> Source:
    if path.is_dir() and format in ("jsonl", "csv", "parquet"):
        raise PopulateError(f"a folder is not a {format} file", where=str(path), expected="format beir or files")
    match format:
        case "jsonl":
            return _json_lines(path, columns)
        case "beir":
            return _json_lines(_beir_corpus(path), columns)
        case "csv":
            names = readers.csv_names(path)
            columns.require(names, str(path))
            return CsvSource(path, columns, checked_types(types, names, str(path)))
        case "parquet":
            readers.require_pyarrow()
            columns.require(readers.parquet_names(path), str(path))
            return CountedSource(path, partial(readers.read_parquet, columns=columns), readers.count_parquet)
        case "files":
            if path.is_file():
                require_package(path.suffix.lower())
            return CountedSource(path, files.read_files, files.count_files)
        case "image" | "sound" | "video" | "series" | "points":
            read, count = partial(files.read_media, modality=format), partial(files.count_media, modality=format)
            return CountedSource(path, read, count)
    raise PopulateError("unknown format of a source", where=str(path), got=repr(format), expected=", ".join(FORMATS))


def _json_lines(path: Path, columns: Columns) -> Source:
    if names := readers.keys_of(readers.read_json_lines(path)):
        columns.require(names, str(path), table="source")
    if columns == Columns():
        return CountedSource(path, readers.read_json_lines, readers.count_lines)
    return CountedSource(path, lambda at: readers.renamed(readers.read_json_lines(at), columns), readers.count_lines)


def _format_of(path: Path) -> str:
    if path.is_dir():
        return "beir" if any((path / name).is_file() for name in _CORPUS) else "files"
    if path.suffix.lower() in files.TEXT_FILES:
        return "files"
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix.lower() in _BY_SUFFIX:
        return _BY_SUFFIX[suffix.lower()]
    raise PopulateError(
        "the name of the source does not show its format",
        where=str(path),
        expected=f"{', '.join(_BY_SUFFIX)} (.gz too), {', '.join(files.TEXT_FILES)}, or a folder",
        do=f"an array of objects: {readers.SPLIT_ARRAY.replace('FILE', str(path))}; JSON lines: --format jsonl"
        if suffix.lower() == ".json"
        else f"name the format: --format {' | '.join(_formats_for(suffix.lower()))}",
    )


def _formats_for(suffix: str) -> Sequence[str]:
    """The formats to choose from: for a picture and the like its modalities."""
    return [modality for modality, suffixes in files.MEDIA_FILES.items() if suffix in suffixes] or FORMATS


def _beir_corpus(folder: Path) -> Path:
    for name in _CORPUS:
        if (folder / name).is_file():
            return folder / name
    raise PopulateError("not a BEIR folder", where=str(folder), expected=" or ".join(_CORPUS))
