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

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from typing import Protocol, Self

from diptych.errors import DocumentError, PopulateError, brief
from diptych.media import MODALITIES, Modality
from diptych.populate.rejects import Rejected, reason_of
from diptych.populate.sources import extractors, readers
from diptych.populate.sources.readers import EVERY, Columns, Raw, Row, checked_media, checked_types
from diptych.runtime import untrusted

_NEEDED = {
    ".pdf": (("pypdf", "pypdf"),),
    ".html": (("lxml", "lxml"),),
    ".htm": (("lxml", "lxml"),),
    ".docx": (("lxml", "lxml"), ("docx", "python-docx")),
}
KINDS = tuple(_NEEDED)
TEXT_FILES = (".md", ".markdown", ".txt", *KINDS)
VENDORED = "node_modules"
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
MEDIA_FILES: Mapping[Modality, tuple[str, ...]] = {
    "image": _PICTURES,
    "sound": (".wav", ".flac", ".ogg", ".oga", ".mp3", ".aif", ".aiff"),
    "video": (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".gif", ".apng", ".png", ".webp"),
}
_KEY = re.compile(r"[\w.-]+\s*:(\s|$)")
_TITLE = re.compile(r"title\s*:(.*)", re.IGNORECASE)
CAPTION = ".txt"  # beside cat.png, cat.txt holds its text

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
    """A file or folder, opened again for each reading. Its documents are counted faster than they can be encoded."""

    path: Path
    read: Callable[[Path], Iterator[Raw]]
    count: Callable[[Path], int]

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def __iter__(self) -> Iterator[Raw]:
        """The documents, from the first on."""
        return self.read(self.path)

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
        return readers.csv_columns(self.path, inferred=EVERY not in self.named)[1]


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
        media: column or key to image, sound or video: its cells hold paths below `media.root`, URLs or bytes.

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
            for name in _CORPUS:
                if (path / name).is_file():
                    return _json_lines(path / name, columns)
            raise PopulateError("not a BEIR folder", where=str(path), expected=" or ".join(_CORPUS))
        case "csv":
            names, _ = readers.csv_columns(path, inferred=False)
            columns.require(names, str(path))
            return CsvSource(path, columns, checked_types(types, names, str(path)))
        case "parquet":
            readers.require_pyarrow()
            columns.require(readers.parquet_head(path)[0], str(path))
            return FileSource(
                path, partial(readers.read_parquet, columns=columns), lambda at: readers.parquet_head(at)[1]
            )
        case "files":
            if path.is_file():
                kind = path.suffix.lower()
                if kind in _NEEDED and (missing := missing_package(kind)):
                    raise PopulateError(f"{kind} files need {missing}", do='pip install "diptych[documents]"')
            return FileSource(path, read_files, lambda at: len(_files(at, TEXT_FILES)))
        case "image" | "sound" | "video":
            suffixes = MEDIA_FILES[format]
            return FileSource(path, partial(read_media, modality=format), lambda at: len(_files(at, suffixes)))
    raise PopulateError("unknown format of a source", where=str(path), got=repr(format), expected=", ".join(FORMATS))


def _json_lines(path: Path, columns: Columns) -> Source:
    if names := readers.keys_of(readers.read_json_lines(path)):
        columns.require(names, str(path), table="source")
    if columns == Columns():
        return FileSource(path, readers.read_json_lines, readers.count_lines)
    return FileSource(path, lambda at: readers.renamed(readers.read_json_lines(at), columns), readers.count_lines)


def _format_of(path: Path) -> str:
    if path.is_dir():
        return "beir" if any((path / name).is_file() for name in _CORPUS) else "files"
    if path.suffix.lower() in TEXT_FILES:
        return "files"
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix.lower() in _BY_SUFFIX:
        return _BY_SUFFIX[suffix.lower()]
    modalities = [name for name, suffixes in MEDIA_FILES.items() if suffix.lower() in suffixes]
    raise PopulateError(
        "the name of the source does not show its format",
        where=str(path),
        expected=f"{', '.join(_BY_SUFFIX)} (.gz too), {', '.join(TEXT_FILES)}, or a folder",
        do=f"an array of objects: {readers.SPLIT_ARRAY.replace('FILE', str(path))}; JSON lines: --format jsonl"
        if suffix.lower() == ".json"
        else f"name the format: --format {' | '.join(modalities or FORMATS)}",
    )


def read_media(folder: Path, modality: Modality) -> Iterator[Raw]:
    """The files of a modality under a folder, or a single one, each with the text of the .txt file of its name."""
    base = folder if folder.is_dir() else folder.parent
    for path in _files(folder, MEDIA_FILES[modality]):
        identifier = path.relative_to(base).as_posix()
        caption = path.with_suffix(CAPTION)
        try:
            text = _text_of(caption) if caption.is_file() else ""
        except (UnicodeDecodeError, OSError) as error:
            yield Rejected(identifier, f"unreadable text in {caption.name}: {error}", id=identifier)
        else:
            media = {modality: os.path.abspath(path)}
            yield Row({"id": identifier, "text": text.strip(), "media": media}, identifier, has_media=True)


def read_files(folder: Path) -> Iterator[Raw]:
    """Text, Markdown, PDF, HTML and DOCX files under a folder, or a single one; the relative path is the id."""
    base = folder if folder.is_dir() else folder.parent
    with Extractor() as extractor:
        for path in _files(folder, TEXT_FILES):
            identifier = path.relative_to(base).as_posix()
            try:
                kind, size = path.suffix.lower(), path.stat().st_size
                if size > untrusted.FILE:
                    raise DocumentError("the file is too large", got=f"{size:,} bytes", expected=f"{untrusted.FILE:,}")
                if kind in KINDS:
                    title, text = extractor.read(path)
                else:
                    title, text = ("", _text_of(path)) if kind == ".txt" else parse_markdown(_text_of(path))
            except (UnicodeDecodeError, OSError) as error:
                yield Rejected(identifier, f"unreadable file: {error}", id=identifier)
            except DocumentError as error:
                yield Rejected(identifier, reason_of(error), id=identifier)
            else:
                yield {"id": identifier, "text": text, "title": title}


def _text_of(path: Path) -> str:
    with path.open(encoding="utf-8-sig") as file:
        text = file.read(untrusted.TEXT + 1)
    if len(text) > untrusted.TEXT:
        raise DocumentError("the file has too much text", expected=f"at most {untrusted.TEXT:,} characters")
    return text


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files with these suffixes under a folder, without hidden ones and those of installed packages."""
    found = [] if folder.is_dir() else [folder]
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != VENDORED]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in suffixes and path.is_file())


def parse_markdown(text: str) -> tuple[str, str]:
    """Title and text: the title is that of the front matter, or else the first heading outside of code blocks.

    The heading leaves the text when it is the title; another one stays.
    """
    matter, lines = _split(text.splitlines())
    at = _heading_at(lines)
    heading = "" if at is None else lines[at].strip("# \t")
    title = next((match[1].strip() for line in matter if (match := _TITLE.match(line))), "")
    if title[:1] in ("'", '"') and title[-1:] == title[:1] and len(title) > 1:
        title = title[1:-1].replace("''" if title[0] == "'" else '\\"', title[0]).strip()
    elif title[:1] in ("|", ">", "~") or title == "null":
        title = ""
    title = title or heading
    if at is not None and heading.casefold() == title.casefold():
        del lines[at]
    return title, "\n".join(lines).strip() if matter or title else text


def _split(lines: list[str]) -> tuple[list[str], list[str]]:
    """The lines of the front matter, YAML between two `---`, and the rest; a lone rule `---` does not start one."""
    if not lines or lines[0].rstrip() != "---":
        return [], lines
    end = next((n for n, line in enumerate(lines[1:], 1) if line.rstrip() in ("---", "...")), 0)
    matter = lines[1:end]
    is_yaml = all(not line.strip() or line[0] in " \t#-]}" or _KEY.match(line) for line in matter)
    return (matter, lines[end + 1 :]) if matter and is_yaml else ([], lines)


def _heading_at(lines: list[str]) -> int | None:
    fenced = False
    for number, line in enumerate(lines):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced and line.startswith("#") and line.lstrip("#").startswith(" ") and line.strip("# \t"):
            return number
    return None


class Extractor:
    """Reads files one by one; a context manager. Its process begins with the first file, and again after a kill."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def read(self, path: Path) -> tuple[str, str]:
        """Title and text of a file; the title is empty if there is none.

        Raises:
            DocumentError: it is damaged, encrypted or without text, it takes too much time or memory, or the extra is
                not installed.
        """
        kind, size = path.suffix.lower(), path.stat().st_size
        if missing := missing_package(kind):
            raise DocumentError(f"{kind} files need {missing}", do='pip install "diptych[documents]"')
        seconds = untrusted.seconds(size)
        memory, unpacked, characters = untrusted.MEMORY, untrusted.FILE, untrusted.TEXT
        limits = {"seconds": seconds, "memory": memory, "unpacked": unpacked, "characters": characters}
        answer = self._answer({"path": os.path.abspath(path), **limits}, seconds)
        if answer is None:
            expected = f"{seconds:.0f} seconds and {memory:,} bytes at most"
            raise DocumentError("reading the file takes too much time or memory", expected=expected)
        if len(answer) > 2:
            raise DocumentError(answer[0], got=answer[1], expected=answer[2])
        title, text = answer
        if not text:
            scanned = ": pages that were scanned are images" if kind == ".pdf" else ""
            raise DocumentError(f"there is no text in the file{scanned}")
        return title, text

    def _answer(self, request: object, seconds: float) -> list[str] | None:
        """What the process answers; None if it ended, by its limits or since it hung."""
        if self._process is None:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            command, pipe = [sys.executable, "-P", extractors.__file__], subprocess.PIPE
            quiet = subprocess.DEVNULL
            self._process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=quiet)
        process = self._process
        assert process.stdin is not None, "it is a pipe"
        assert process.stdout is not None, "it is a pipe"
        # Its limit is processor time; waiting longer than that is for a busy machine.
        timer = threading.Timer(untrusted.PATIENCE * seconds, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            timer.cancel()
        if line.endswith(b"\n"):
            answer: list[str] = json.loads(line)
            return answer
        self.__exit__()
        return None


def missing_package(kind: str) -> str:
    """The missing package that files of this kind need; empty if all are installed."""
    return next((name for module, name in _NEEDED[kind] if importlib.util.find_spec(module) is None), "")
