"""A teacher's scores of each row's documents, for losses that distil it.

Scores come in the label column, float `[B, 1 + H]`: of the row's positive and each of its negatives. Any reranker gives
them: `scored` asks one for the rows of a data set, once, before training.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers.util import maxsim_pairwise
from torch import Tensor

from diptych import Reranker
from diptych.errors import ConfigError, ContractError, DocumentError
from diptych.types import Floats

Row = Mapping[str, Any]
Lists = Mapping[str, Sequence[str]]
Scores = dict[str, dict[str, float]]
PAIRS = 2048

EXACT = 2**24  # up to here float32 holds every integer


def scored(teacher: Reranker, queries: Sequence[str], documents: Sequence[Sequence[str]]) -> Floats:
    """The teacher's scores float32 `[B, C]` of each query's C documents, all pairs in one call.

    Raises:
        ContractError: rows of different lengths.
    """
    lengths = {len(texts) for texts in documents}
    if len(lengths) > 1 or len(queries) != len(documents):
        got = f"{len(queries)} queries, rows of {sorted(lengths)} documents"
        raise ContractError("the rows for the teacher differ in length", where="scored", got=got)
    pairs = [(query, text) for query, texts in zip(queries, documents, strict=True) for text in texts]
    return np.asarray(teacher.predict(pairs), np.float32).reshape(len(queries), -1)


def teacher_scores(labels: Tensor | None, rows: int, columns: int, *, where: str) -> Tensor:
    """The label column as a teacher's scores, float32 `[rows, columns]`.

    Raises:
        ContractError: it has another type or shape.
    """
    fits = labels is not None and labels.is_floating_point() and tuple(labels.shape) == (rows, columns)
    if labels is None or not fits:
        got = "no labels" if labels is None else f"{labels.dtype} {list(labels.shape)}"
        raise ContractError(
            "labels are not a teacher's scores",
            where=where,
            got=got,
            expected=f"float [{rows}, {columns}]: of the positive and each negative",
            do="score the data set once: diptych_training.teacher_scores.scored(reranker, queries, documents)",
        )
    return labels.detach().float()


def own_scores(queries: Tensor, documents: Tensor, columns: int) -> Tensor:
    """Similarities `[B, columns]` of each query with the documents of its own row.

    Args:
        queries: `[B, D]`, or of tokens `[B, T, D]`.
        documents: `[B * columns, D]`, or of tokens, column after column.
    """
    if queries.ndim == 3:
        parts = documents.reshape(columns, *queries.shape[:1], *documents.shape[1:])
        return torch.stack([_of_tokens(queries, part) for part in parts], 1)
    return torch.einsum("bd,cbd->bc", queries, documents.reshape(columns, len(queries), -1))


def _of_tokens(queries: Tensor, documents: Tensor) -> Tensor:
    """The similarity `[B]` of each query with its own document, of tokens; see `losses.base.similarities`."""
    query_mask, document_mask = queries.any(-1), documents.any(-1)
    similarity: Tensor = maxsim_pairwise(
        queries, documents, a_mask=query_mask, b_mask=document_mask, length_normalize=True
    )
    return similarity


def labels_of(ids: Sequence[int], scores: Sequence[float]) -> list[float]:
    """The label of a row: `2 + H` ids, and `1 + H` scores of the teacher.

    Raises:
        ContractError: lengths that do not fit, or ids above 16,777,216, which a float does not hold.
    """
    if len(ids) != len(scores) + 1:
        got = f"{len(ids)} ids, {len(scores)} scores"
        raise ContractError(
            "ids and scores are of different rows", where="labels_of", got=got, expected="2 + H and 1 + H"
        )
    if max(ids) > EXACT:
        raise ContractError("an id is too large for a label", where="labels_of", got=max(ids), expected=f"<= {EXACT}")
    return [*map(float, ids), *map(float, scores)]


def split_labels(labels: Tensor | None, rows: int, columns: int, *, where: str) -> tuple[Tensor, Tensor]:
    """The ids `[rows, 1 + columns]` and the scores `[rows, columns]` of a label column.

    Raises:
        ContractError: labels of another form.
    """
    shape = (rows, 2 * columns + 1)
    if labels is None or tuple(labels.shape) != shape:
        raise ContractError(
            "labels are not ids and scores",
            where=where,
            got="no labels" if labels is None else list(labels.shape),
            expected=f"float {list(shape)}: ids of the row, then the teacher's scores",
            do="make each label by diptych_training.teacher_scores.labels_of(ids, scores)",
        )
    return labels[:, : columns + 1].round().long(), labels[:, columns + 1 :].float()


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
