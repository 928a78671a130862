"""`mine`: hard negatives, without those that are likely relevant.

    mine(CollectionSource(packages, slot="dense"), queries, qrels, MiningOptions(per_query=4))

Candidates are what a source ranks in a window of ranks. Left out are documents that are judged relevant, whose text is
a relevant one's, or that score too near the query's best relevant document: by the source (`margin`, `relative`) and,
where a teacher is given, by the teacher (`teacher_margin`).

Moreira et al., "NV-Retriever: Improving Text Embedding Models with Effective Hard-Negative Mining", 2024: of the rules
tried there, the relative one with 0.95 did best.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import numpy as np

from diptych import Reranker
from diptych.errors import ConfigError
from diptych_training.data.candidate_sources import CandidateSource, SearchResult

Scored = tuple[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class MiningOptions:
    """Which candidates become negatives.

    Args:
        ranks: first and last rank that count, from 1, relevant documents included in the count.
        per_query: how many negatives a query gets.
        pick: the `top` ones of those left, or `random` ones, drawn by `seed` and the query's id.
        margin: left out is what scores above the best relevant document's score minus this; None does not ask.
        relative: the same with that score less `1 - relative` of its size: 0.95 times it where it is positive.
        teacher_margin: the same for the teacher's scores.

    Raises:
        ConfigError: ranks that are not a window, or a negative number.
    """

    ranks: tuple[int, int] = (2, 100)
    per_query: int = 1
    pick: Literal["top", "random"] = "top"
    margin: float | None = None
    relative: float | None = 0.95
    teacher_margin: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        first, last = self.ranks
        if not 1 <= first <= last:
            raise ConfigError("invalid range of ranks", where="mining", got=self.ranks, expected="1 <= first <= last")
        if self.per_query < 1 or min(self.margin or 0, self.relative or 0) < 0:
            got = f"per_query {self.per_query}, margin {self.margin}, relative {self.relative}"
            raise ConfigError("a number is too small", where="mining", got=got, expected="per_query >= 1, others >= 0")

    def threshold(self, positive: float) -> float:
        """The highest score that a negative may have beside a relevant document with this score."""
        limits = [math.inf]
        if self.margin is not None:
            limits.append(positive - self.margin)
        if self.relative is not None:
            limits.append(positive - (1 - self.relative) * abs(positive))
        return min(limits)


@dataclass(frozen=True, slots=True)
class MiningReport:
    """The counts of mining: `candidates` is `kept` plus all of `dropped`.

    Args:
        queries: how many were mined for.
        candidates: documents within the window of ranks.
        kept: negatives.
        dropped: how many were left out, by reason: `judged`, `same text`, `near the positive`, `teacher`, `gone` from
            the source meanwhile, `not needed` beyond `per_query`.
        short: queries that got fewer than `per_query`, with how many.
        unscored: queries whose relevant documents have no score, so that nothing was compared with it.
        unjudged: queries without a relevant document, which were not mined for.
    """

    queries: int = 0
    candidates: int = 0
    kept: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    short: Mapping[str, int] = field(default_factory=dict)
    unscored: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        lines = [f"{self.kept} negatives for {self.queries} queries, of {self.candidates} candidates ({reasons})"]
        groups = (("fewer than wanted", self.short), ("positive without a score", self.unscored))
        for words, ids in (*groups, ("without a positive", self.unjudged)):
            if ids:
                examples = ", ".join(islice(ids, 5))
                lines.append(f"{words}: {len(ids)} queries ({examples}{', ...' if len(ids) > 5 else ''})")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Mined:
    """Negatives by query, best score first; the texts of all documents named there; and the report."""

    negatives: Mapping[str, Sequence[Scored]]
    texts: Mapping[str, str]
    report: MiningReport


Qrels = Mapping[str, Mapping[str, float]]
BATCH = 64  # queries that a source is asked at once


def mine(
    source: CandidateSource,
    queries: Mapping[str, str],
    qrels: Qrels,
    options: MiningOptions | None = None,
    *,
    teacher: Reranker | None = None,
) -> Mined:
    """Hard negatives of every query that has a relevant document.

    Args:
        source: ranks the candidates.
        queries: text by id.
        qrels: grades above 0 are relevant; a document judged 0 may become a negative.
        options: which candidates count.
        teacher: any reranker; it scores only as many candidates as are needed.
    """
    settings = options or MiningOptions()
    relevant = {query: [d for d, grade in qrels.get(query, {}).items() if grade > 0] for query in queries}
    judged = [query for query in queries if relevant[query]]
    work = [item for batch in batches(judged) for item in _mined(source, queries, relevant, batch, settings, teacher)]
    return _combined(work, settings, tuple(query for query in queries if not relevant[query]))


@dataclass(slots=True)
class _Work:
    """One query in progress: undecided candidates, and decisions."""

    query: str
    text: str
    relevant: list[str]
    pending: Iterator[Scored]
    texts: dict[str, str]
    scored: bool
    dropped: Counter[str] = field(default_factory=Counter)
    kept: list[Scored] = field(default_factory=list)
    bar: float | None = None  # the teacher's


def _mined(
    source: CandidateSource,
    queries: Mapping[str, str],
    relevant: Mapping[str, list[str]],
    batch: Sequence[str],
    options: MiningOptions,
    teacher: Reranker | None,
) -> list[_Work]:
    results = source.find([queries[q] for q in batch], [relevant[q] for q in batch], options.ranks[1])
    first = options.ranks[0] - 1
    ids = {i for item in results for i, _ in item.ranking[first:]} | {i for query in batch for i in relevant[query]}
    texts = source.texts(list(ids))
    work = [
        _filtered_work(q, queries[q], relevant[q], item, texts, options) for q, item in zip(batch, results, strict=True)
    ]
    while any(unfinished := [item for item in work if len(item.kept) < options.per_query]):
        candidates_of = [(item, list(islice(item.pending, options.per_query - len(item.kept)))) for item in unfinished]
        if not any(candidates for _, candidates in candidates_of):
            break
        _judge(candidates_of, options, teacher)
    for item in work:
        item.dropped["not needed"] += sum(1 for _ in item.pending)
    return work


def _filtered_work(
    query: str, text: str, relevant: list[str], result: SearchResult, texts: Mapping[str, str], options: MiningOptions
) -> _Work:
    """A query with the candidates that pass all checks but the teacher's."""
    window = result.ranking[options.ranks[0] - 1 : options.ranks[1]]
    bar = options.threshold(max(result.named.values())) if result.named else np.inf
    relevant_texts = {plain(texts[i]) for i in relevant if i in texts}
    dropped: Counter[str] = Counter()
    passing = []
    for candidate, score in window:
        reason = _reason(candidate, score, relevant, texts, relevant_texts, bar)
        if reason:
            dropped[reason] += 1
        else:
            passing.append((candidate, score))
    if options.pick == "random":
        random = np.random.default_rng((options.seed, zlib.crc32(query.encode())))
        passing = [passing[place] for place in random.permutation(len(passing))]
    document_texts = {i: texts[i] for i in (*relevant, *(i for i, _ in passing)) if i in texts}
    return _Work(query, text, relevant, iter(passing), document_texts, bool(result.named), dropped)


def _reason(
    candidate: str,
    score: float,
    relevant: Sequence[str],
    texts: Mapping[str, str],
    relevant_texts: set[str],
    bar: float,
) -> str:
    """Why a candidate is left out, "" if it is not."""
    if candidate in relevant:
        return "judged"
    if candidate not in texts:
        return "gone"
    if plain(texts[candidate]) in relevant_texts:
        return "same text"
    return "near the positive" if score > bar else ""


def _judge(work: Sequence[tuple[_Work, list[Scored]]], options: MiningOptions, teacher: Reranker | None) -> None:
    """Keep the candidates that the teacher, if any, scores below the threshold; all pairs in one call."""
    if teacher is None:
        for item, candidates in work:
            item.kept += candidates
        return
    pairs = [(item.text, text) for item, candidates in work for text in _texts_to_score(item, candidates)]
    scores = iter(np.asarray(teacher.predict(pairs), np.float32).tolist())
    for item, candidates in work:
        if item.bar is None:
            relevant_scores = [next(scores) for i in item.relevant if i in item.texts]
            item.bar = max(relevant_scores) - options.teacher_margin if relevant_scores else np.inf
        for candidate in candidates:
            if next(scores) > item.bar:
                item.dropped["teacher"] += 1
            else:
                item.kept.append(candidate)


def _texts_to_score(item: _Work, candidates: Sequence[Scored]) -> list[str]:
    """The texts whose scores are needed: the relevant ones, once, and the candidates."""
    ids = [*(item.relevant if item.bar is None else ()), *(i for i, _ in candidates)]
    return [item.texts[i] for i in ids if i in item.texts]


def _combined(work: Sequence[_Work], options: MiningOptions, unjudged: tuple[str, ...]) -> Mined:
    dropped = sum((item.dropped for item in work), Counter[str]())
    negatives = {item.query: sorted(item.kept, key=lambda pair: -pair[1]) for item in work}
    texts = {i: item.texts[i] for item in work for i in (*item.relevant, *dict(item.kept)) if i in item.texts}
    total = sum(map(len, negatives.values()))
    report = MiningReport(
        queries=len(work),
        candidates=total + sum(dropped.values()),
        kept=total,
        dropped={reason: count for reason, count in dropped.items() if count},
        short={item.query: len(item.kept) for item in work if len(item.kept) < options.per_query},
        unscored=tuple(item.query for item in work if not item.scored),
        unjudged=unjudged,
    )
    return Mined(negatives, texts, report)


def plain(text: str) -> str:
    """The text without differences of case and spaces."""
    return " ".join(text.casefold().split())


def batches(ids: Sequence[str], size: int = BATCH) -> Iterator[Sequence[str]]:
    """So many queries at a time."""
    yield from (ids[at : at + size] for at in range(0, len(ids), size))
