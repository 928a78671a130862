"""A teacher's scores of mined lists, stored in a file so that no pair is scored twice.

A file holds one line a pair, `{"query", "document", "pair", "score"}`, after a line that names the teacher. `pair` is a
hash of both texts: a text that has changed is scored again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from diptych import Reranker
from diptych.errors import ConfigError, DocumentError
from diptych_training.teacher_scores import scored

Row = Mapping[str, Any]

Lists = Mapping[str, Sequence[str]]
Scores = dict[str, dict[str, float]]
PAIRS = 2048


def score_lists(
    teacher: Reranker,
    lists: Lists,
    queries: Mapping[str, str],
    documents: Mapping[str, str],
    *,
    text_of: Callable[[str, str], str] | None = None,
    name: str = "",
    path: Path | None = None,
    pairs: int = PAIRS,
    scored_pairs: Callable[[int], None] = lambda _: None,
) -> Scores:
    """The teacher's scores by query and document, for each query's list.

    Args:
        teacher: any reranker.
        lists: document ids by query id.
        queries, documents: text by id.
        text_of: gives the text of a document beside a query, both by id; the document's own for None.
        name: of the teacher, with its options; scores of another one are refused.
        path: the file of stored scores; None stores none.
        pairs: about how many are scored between two writes.
        scored_pairs: called with the number of newly scored pairs, first with that of the stored ones.

    Raises:
        ConfigError: the file holds the scores of another teacher.
    """
    stored = _stored_scores(path, name) if path else {}
    texts_of = text_of or (lambda _, document: documents[document])
    keys = {(q, d): pair_key(queries[q], texts_of(q, d)) for q, ids in lists.items() for d in ids}
    scored_pairs(sum(key in stored for key in keys.values()))
    missing = {q: [d for d in dict.fromkeys(ids) if keys[q, d] not in stored] for q, ids in lists.items()}
    for part in _parts({query: ids for query, ids in missing.items() if ids}, pairs):
        texts = [[texts_of(query, document) for document in ids] for query, ids in part]
        new_scores = scored(teacher, [queries[query] for query, _ in part], texts)
        rows = [
            {"query": q, "document": d, "pair": keys[q, d], "score": float(score)}
            for (q, ids), scores in zip(part, new_scores, strict=True)
            for d, score in zip(ids, scores, strict=True)
        ]
        stored |= {str(row["pair"]): float(str(row["score"])) for row in rows}
        if path:
            append_lines(path, rows)
        scored_pairs(len(rows))
    return {query: {document: stored[keys[query, document]] for document in ids} for query, ids in lists.items()}


def pair_key(query: str, document: str) -> str:
    """A hash of two texts, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for text in (query, document):
        raw = text.encode()
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


def _stored_scores(path: Path, name: str) -> dict[str, float]:
    """The content of the file; a new file gets its first line."""
    rows = read_lines(path)
    head = next(rows, None)
    if head is None:
        append_lines(path, [{"teacher": name}])
        return {}
    if head.get("teacher") != name:
        raise ConfigError(
            "the file holds the scores of another teacher",
            where=str(path),
            got=repr(head.get("teacher")),
            expected=repr(name),
            do="delete the file, or keep each teacher's scores in a file of its own",
        )
    return {str(row["pair"]): float(row["score"]) for row in rows}


def _parts(lists: Lists, pairs: int) -> Iterator[list[tuple[str, Sequence[str]]]]:
    """Queries with lists of one length, about so many pairs at once."""
    ordered = sorted(lists.items(), key=lambda item: len(item[1]))
    for length, group in groupby(ordered, key=lambda item: len(item[1])):
        same, step = list(group), max(1, pairs // length)
        yield from (same[at : at + step] for at in range(0, len(same), step))


def append_lines(path: Path, rows: Iterable[Row]) -> None:
    """Append rows, durable when this returns. A line that a kill has cut off is removed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        _remove_partial_line(file)
        file.write("".join(map(_line, rows)).encode())
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows; none without a file. An incomplete last line, left by a kill, is skipped.

    Raises:
        DocumentError: a line that is not a JSON object.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n") and line.strip():
                yield _row(line, f"{path}, line {number}")


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise DocumentError("a line is not a JSON object", where=where, got=repr(line[:80]), do="delete the file")
    return row


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _remove_partial_line(file: Any) -> None:
    size = file.seek(0, os.SEEK_END)
    end = size
    while end:
        step = min(end, 65536)
        file.seek(end - step)
        newline = file.read(step).rfind(b"\n")
        if newline >= 0:
            end = end - step + newline + 1
            break
        end -= step
    if end < size:
        file.truncate(end)
