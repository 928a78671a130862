"""Runs: the order of their documents, TREC files, and how much of an exact run an approximate one finds."""

from __future__ import annotations

import gzip
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from diptych.errors import EvaluationError
from diptych.evaluate.qrels import numbered_lines, place
from diptych.runtime.json_faults import is_unicode
from diptych.types import Run

_TOLERANCE = 1e-5  # relative: one float32 dot product summed in another order

Ranking: TypeAlias = Sequence[tuple[str, float]]  # (document id, score), best first


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
    return Run(
        name or tag,
        {
            query: sorted(scores.items(), key=lambda pair: (pair[1], pair[0]), reverse=True)
            for query, scores in rankings.items()
        },
    )


def _lines(run: Run, query: str, ranking: Ranking, scores: str) -> Iterator[str]:
    where = f"run {run.name!r}, query {query!r}"
    tag = "_".join(run.name.split()) or "run"
    documents = ordered(ranking, where=where)
    values = rank_scores(documents) if scores == "rank" else dict(ranking)
    falling = [values[document] for document in documents]
    for rank, (higher, lower) in enumerate(itertools.pairwise(falling), 2):
        if lower > higher:
            what, do = (
                "scores rise in a ranking, and tools that read TREC files sort by score",
                'write it with scores="rank"',
            )
            raise EvaluationError(what, where=f"{where}, rank {rank}", got=f"{lower} after {higher}", do=do)
    for rank, document in enumerate(documents, 1):
        score = repr(float(values[document]))
        yield f"{_word(query, where)} Q0 {_word(document, where)} {rank} {score} {tag}\n"


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


def ordered(ranking: Ranking, *, where: str, greatest_first: bool = True) -> list[str]:
    """Document ids, best first: the ranking's own order, but neighbours of one score by id, the greatest first.

    That is trec_eval's rule for ties; MS MARCO's script has the least first. Scores that rise are left alone: a stage
    such as MMR ranks by something else than the score it shows.

    Raises:
        EvaluationError: a document comes twice, or a score is NaN.
    """
    seen: set[str] = set()
    for rank, (document, score) in enumerate(ranking, 1):
        if document in seen:
            what, do = f"document {document!r} appears twice in a ranking", "rank each document once, by its best chunk"
            raise EvaluationError(what, where=f"{where}, rank {rank}", do=do)
        if math.isnan(score):
            raise EvaluationError(f"the score of document {document!r} is not a number", where=f"{where}, rank {rank}")
        seen.add(document)
    groups = itertools.groupby(ranking, key=lambda pair: pair[1])
    return [document for _, group in groups for document, _ in sorted(group, reverse=greatest_first)]


def rank_scores(documents: Sequence[str]) -> dict[str, float]:
    """Scores that express only the order, so that no provider's tie rule or rounding changes it."""
    return {document: float(len(documents) - rank) for rank, document in enumerate(documents)}


def ann_recall(approximate: Run, exact: Run, k: int) -> float:
    """Mean over the queries of `exact` of the share of the exact top `k` that `approximate` found in its own top `k`.

    A document that scores the same as the k-th exact one can stand in its place, as in ANN-Benchmarks (Aumüller,
    Bernhardsson and Faithfull, Information Systems 2020), but never in that of a better one. Make `exact` with
    `SearchParams(exact=True)`, a little deeper than `k` when the approximate scores are not the true ones, as with
    quantization without rescoring: a document's score is taken from `exact` where that has it.

    Raises:
        EvaluationError: `k` is below 1, or the two runs have different queries.
    """
    recalls = ann_recall_per_query(approximate, exact, k)
    return sum(recalls.values()) / len(recalls)


def ann_recall_per_query(approximate: Run, exact: Run, k: int) -> Mapping[str, float]:
    """`{query id: recall at k}`. A query whose exact answer is empty has recall 1: nothing was missed."""
    if k < 1:
        raise EvaluationError("recall needs a k of at least 1", got=k)
    lonely = approximate.rankings.keys() ^ exact.rankings.keys()
    if lonely or not exact.rankings:
        what = f"runs {approximate.name!r} and {exact.name!r} do not answer the same queries"
        got = f"{len(lonely)} queries that only one has" if lonely else "no queries"
        raise EvaluationError(what, got=got, do="search both with the same queries, each with its id")
    for run in (approximate, exact):
        for query, ranking in run.rankings.items():
            ordered(ranking, where=f"run {run.name!r}, query {query!r}")  # refuses a document twice, and NaN
    return {query: _recall(approximate.rankings[query], ranking, k) for query, ranking in exact.rankings.items()}


def _recall(found: Ranking, exact: Ranking, k: int) -> float:
    top, first = exact[:k], found[:k]
    if not top:
        return 1.0
    scores, last = dict(exact), top[-1][1]
    equal = partial(math.isclose, last, rel_tol=_TOLERANCE, abs_tol=1e-7)
    needed = {document for document, score in top if not equal(score)}
    hits = sum(document in needed for document, _ in first)
    ties = sum(document not in needed and equal(scores.get(document, score)) for document, score in first)
    return (hits + min(ties, len(top) - len(needed))) / len(top)
