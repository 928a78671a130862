"""Reads the queries of an evaluation, alone or with their judgements from a BEIR folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diptych.errors import EvaluationError
from diptych.evaluate._lines import numbered_lines, place
from diptych.evaluate.qrels import Qrels
from diptych.runtime.json_faults import is_unicode
from diptych.types import Query


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
