"""`Qrels`: which documents answer which query, and how well; read from files, as queries are."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.errors import EvaluationError, brief
from diptych.runtime.untrusted import LINE, regular_file
from diptych.runtime.validation_messages import is_unicode
from diptych.types import Query

_LIMIT = f"at most {LINE:,} characters"
_GZIP_MAGIC = b"\x1f\x8b"
_HIGHEST = 1_000_000  # trec_eval keeps grades in C's long, and its gains grow with them


@dataclass(frozen=True, slots=True)
class Qrels:
    """Graded relevance judgements: `{query id: {document id: grade}}`. A grade of 1 or more is relevant."""

    judgements: Mapping[str, Mapping[str, int]]
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse grades that trec_eval, which is written in C, cannot hold."""
        for query, found in self.judgements.items():
            for document, grade in found.items():
                if isinstance(grade, int) and abs(grade) > _HIGHEST:
                    where, expected = f"query {query!r}, document {document!r}", f"at most {_HIGHEST:,}"
                    raise EvaluationError("a grade is too high", where=where, got=brief(grade), expected=expected)

    @classmethod
    def read(cls, path: str | Path) -> Qrels:
        """From a BEIR file (`query-id`, `corpus-id`, `score`, tabs, a header) or a TREC file (four columns, none).

        Either may be gzipped. Grades are integers; repeated equal lines count once.

        Raises:
            EvaluationError: the file cannot be read, a line is malformed (its number is named), one document has two
                grades for one query, or there is no judgement at all.
        """
        path = Path(path)
        judgements: dict[str, dict[str, int]] = {}
        for number, (query, document, grade) in _rows(path):
            found = judgements.setdefault(query, {}).setdefault(document, grade)
            if found != grade:
                raise EvaluationError(
                    f"query {query!r} judges document {document!r} twice, differently",
                    where=place(path, number),
                    got=f"{grade} after {found}",
                )
        if not judgements:
            raise EvaluationError("there are no judgements", where=path, expected="BEIR or TREC qrels")
        return cls(judgements, str(path))

    @property
    def queries(self) -> tuple[str, ...]:
        """Ids of the judged queries, in the order of the file."""
        return tuple(self.judgements)

    @property
    def without_relevant(self) -> tuple[str, ...]:
        """Ids of judged queries that have no relevant document: no ranking can score above 0 on them."""
        return tuple(query for query in self.judgements if not self.relevant(query))

    def relevant(self, query: str, *, grade: int = 1) -> frozenset[str]:
        """Ids of the documents that answer `query` with at least `grade`."""
        return frozenset(document for document, found in self.judgements.get(query, {}).items() if found >= grade)

    def restricted(self, queries: Iterable[str]) -> Qrels:
        """The judgements of `queries` only."""
        wanted = set(queries)
        return Qrels({query: found for query, found in self.judgements.items() if query in wanted}, self.source)

    def __len__(self) -> int:
        return len(self.judgements)


def _rows(path: Path) -> Iterator[tuple[int, tuple[str, str, int]]]:
    """`(line number, (query, document, grade))`; the first line decides on the form and may be a header."""
    width = 0
    for number, line in numbered_lines(path):
        # BEIR's columns are parted by tabs, so that ids may hold spaces; TREC's by any white space.
        tabbed = [field.strip() for field in line.split("\t")]
        fields = tabbed if len(tabbed) == 3 and width != 4 else line.split()
        if not width:
            width = len(fields)
            if width == 3 and fields[2].lower() == "score":
                continue
        yield number, _judgement(fields, width, place(path, number))


def _judgement(fields: list[str], width: int, where: str) -> tuple[str, str, int]:
    if width not in (3, 4) or len(fields) != width or not all(fields):
        raise EvaluationError(
            "a line is not a judgement",
            where=where,
            got=f"{len([field for field in fields if field])} columns",
            expected=f"{width} columns, as the first line has" if width in (3, 4) else "3 (BEIR) or 4 (TREC) columns",
        )
    query, document, text = fields[0], fields[-2], fields[-1]
    try:
        grade = int(text)
    except ValueError as error:
        got = repr(text)[:80]
        raise EvaluationError("a grade is not an integer", where=where, got=got, expected="0, 1, 2, ...") from error
    if abs(grade) > _HIGHEST:
        raise EvaluationError("a grade is too high", where=where, got=text[:80], expected=f"at most {_HIGHEST:,}")
    return query, document, grade


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """`(line number from 1, line without its end)` of each line that is not blank. UTF-8, with or without a mark.

    Raises:
        EvaluationError: the file cannot be opened, is no UTF-8, its gzip stream is damaged, or a line is too long.
    """
    number = 0
    try:
        with open(path, "rb", opener=regular_file) as probe:
            zipped = probe.read(2) == _GZIP_MAGIC
        with (gzip.open if zipped else open)(path, "rt", encoding="utf-8-sig", newline=None) as stream:
            for number, line in enumerate(iter(lambda: stream.readline(LINE + 1), ""), 1):
                if len(line) > LINE:
                    raise EvaluationError("a line is too long", where=place(path, number), expected=_LIMIT)
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except (OSError, EOFError, zlib.error, ValueError) as error:  # ValueError: no UTF-8, or no path
        raise EvaluationError(
            f"cannot read {path.name}",
            where=f"{path}, after line {number}" if number else path,
            got=f"{type(error).__name__}: {error}",
            expected="UTF-8 text, gzipped or not",
        ) from error


def place(path: Path, number: int) -> str:
    """How errors name a line."""
    return f"{path}, line {number}"


def read_queries(path: str | Path) -> list[Query]:
    """Queries in the order of a `queries.jsonl` or `.jsonl.gz`: one `{"_id" or "id", "text"}` a line.

    An object under `metadata` says more of the query, such as its language, to group queries by. One under `media` has
    paths or URLs by modality, `{"image": "red.png"}`, as a document's; then the text may be missing.

    Raises:
        EvaluationError: the file cannot be read, a line is no such object, an id comes twice, or there is no query.
    """
    path = Path(path)
    queries: dict[str, Query] = {}
    for number, line in numbered_lines(path):
        query = _query(line, place(path, number))
        if query.id in queries:
            raise EvaluationError(f"query id {query.id!r} appears twice", where=place(path, number))
        queries[query.id] = query
    if not queries:
        raise EvaluationError("there are no queries", where=path, expected='lines like {"_id": "q1", "text": "..."}')
    return list(queries.values())


def read_beir(folder: str | Path, split: str = "test") -> tuple[list[Query], Qrels]:
    """The judged queries of a BEIR folder and their judgements, from `queries.jsonl` and `qrels/<split>.tsv`.

    Both may be gzipped. Queries that the split does not judge are left out, as BEIR does.

    Raises:
        EvaluationError: a file is missing or malformed, or a judged query has no text.
    """
    folder = Path(folder)
    if not folder.is_dir():
        expected, do = f"queries.jsonl and qrels/{split}.tsv in it", "check the path, or give --queries and --qrels"
        raise EvaluationError("there is no such folder", where=folder, expected=expected, do=do)
    qrels = Qrels.read(beir_file(folder / "qrels", f"{split}.tsv"))
    queries = [query for query in read_queries(beir_file(folder, "queries.jsonl")) if query.id in qrels.judgements]
    lost = set(qrels.queries) - {query.id for query in queries}
    if lost:
        raise EvaluationError(
            f"{len(lost)} of {len(qrels)} judged queries have no text",
            where=folder,
            got=", ".join(sorted(lost)[:5]),
            do=f"give a queries.jsonl that goes with {qrels.source}",
        )
    return queries, qrels


def _query(line: str, where: str) -> Query:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:  # besides bad JSON, numbers of thousands of digits and deep nesting
        raise EvaluationError(
            "a line is not JSON", where=where, got=str(error), expected="one object a line"
        ) from error
    media = _member(raw, "media") or {}
    identifier, text = _member(raw, "_id", "id"), _member(raw, "text") or ("" if media else None)
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    named = isinstance(media, dict) and all(isinstance(found, str) for found in media.values())
    said = isinstance(text, str) and bool(text.strip() or media)
    if not isinstance(identifier, str) or not identifier or not isinstance(text, str) or not said or not named:
        expected = (
            '{"_id": "q1", "text": "some words"}, or with "media": {"image": "PATH"} beside or instead of the text'
        )
        raise EvaluationError("a line is not a query", where=where, got=line[:80], expected=expected)
    if not is_unicode(identifier) or not is_unicode(text):
        do = "fix its escapes between \\ud800 and \\udfff"
        raise EvaluationError("a query is not valid Unicode", where=where, got=line[:80], do=do)
    metadata = _member(raw, "metadata")
    return Query(text, identifier, metadata if isinstance(metadata, dict) else {}, media)


def _member(raw: Any, *names: str) -> Any:
    """The first of `names` that the JSON object has, else None."""
    return next((raw[name] for name in names if name in raw), None) if isinstance(raw, dict) else None


def beir_file(folder: Path, name: str) -> Path:
    """The file `name` or `name.gz` in `folder`.

    Raises:
        EvaluationError: there is neither.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    there = sorted(path.name for path in folder.iterdir())[:20] if folder.is_dir() else []
    raise EvaluationError(
        f"there is no {name}", where=folder, got=", ".join(there) or "nothing", expected=f"{name} or {name}.gz"
    )
