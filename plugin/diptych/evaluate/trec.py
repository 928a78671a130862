"""Runs as TREC files, `query Q0 document rank score tag`, which every evaluation tool reads."""

from __future__ import annotations

import gzip
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from diptych.errors import EvaluationError
from diptych.evaluate._lines import numbered_lines, place
from diptych.evaluate.ranking_order import Ranking, ordered, rank_scores
from diptych.runtime.json_faults import is_unicode
from diptych.types import Run


def to_trec(run: Run, path: str | Path, *, scores: Literal["own", "rank"] = "own") -> None:
    """Write `run`, gzipped when the name ends in `.gz`; what it replaces is replaced whole or not at all.

    Args:
        run: what to write; its name becomes the tag, with `_` for white space.
        path: the file.
        scores: `own` writes the run's scores; `rank` writes the number of documents left, for a run whose scores do not
            fall, since the tools sort by score and ignore the rank.

    Raises:
        EvaluationError: an id holds white space or is empty, scores rise (with `own`), or a document comes twice.
    """
    path = Path(path)
    text = "".join(line for query, ranking in run.rankings.items() for line in _lines(run, query, ranking, scores))
    data = text.encode()
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    temporary.replace(path)


def from_trec(path: str | Path, *, name: str = "") -> Run:
    """The run in a TREC file, gzipped or not, named by its tag unless `name` is given.

    Documents are ordered by score, then by id, both falling, whatever the rank column says: trec_eval's rule.

    Raises:
        EvaluationError: the file cannot be read, a line is malformed, or a document comes twice for a query.
    """
    path = Path(path)
    rankings: dict[str, dict[str, float]] = {}
    tag = ""
    for number, line in numbered_lines(path):
        query, document, score, tag = _row(line, place(path, number))
        if document in rankings.setdefault(query, {}):
            raise EvaluationError(f"document {document!r} appears twice for query {query!r}", where=place(path, number))
        rankings[query][document] = score
    if not rankings:
        raise EvaluationError("there is no ranked document", where=path, expected="query Q0 doc rank score tag")
    return Run(name or tag, {query: _sorted(scores) for query, scores in rankings.items()})


def _lines(run: Run, query: str, ranking: Ranking, scores: str) -> Iterator[str]:
    where = f"run {run.name!r}, query {query!r}"
    tag = "_".join(run.name.split()) or "run"
    documents = ordered(ranking, where=where)
    values = rank_scores(documents) if scores == "rank" else dict(ranking)
    _check_falling([values[document] for document in documents], where)
    for rank, document in enumerate(documents, 1):
        score = repr(float(values[document]))
        yield f"{_word(query, where)} Q0 {_word(document, where)} {rank} {score} {tag}\n"


def _check_falling(values: list[float], where: str) -> None:
    for rank, (higher, lower) in enumerate(itertools.pairwise(values), 1):
        if lower > higher:
            raise EvaluationError(
                "scores rise in a ranking, and tools that read TREC files sort by score",
                where=f"{where}, rank {rank + 1}",
                got=f"{lower} after {higher}",
                do='write it with scores="rank"',
            )


def _word(word: str, where: str) -> str:
    if word.split() != [word] or not is_unicode(word):
        raise EvaluationError("TREC files are separated by spaces", where=where, got=repr(word), expected="one word")
    return word


def _row(line: str, where: str) -> tuple[str, str, float, str]:
    fields = line.split()
    if len(fields) != 6:
        raise EvaluationError(
            "a line is not a ranked document",
            where=where,
            got=f"{len(fields)} columns",
            expected="6: query Q0 doc rank score tag",
        )
    query, _, document, _, score, tag = fields
    try:
        value = float(score)
    except ValueError as error:
        raise EvaluationError("a score is not a number", where=where, got=repr(score)[:80]) from error
    if not math.isfinite(value):
        raise EvaluationError("a score is not finite", where=where, got=score[:80])
    return query, document, value, tag


def _sorted(scores: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(scores.items(), key=lambda pair: (pair[1], pair[0]), reverse=True)
