"""`mine`: hard negatives, without those that are likely relevant.

    mine(CollectionSource(packages, slot="dense"), queries, qrels, MiningOptions(per_query=4))

Candidates are what a source ranks in a window of ranks. Left out are documents that are judged relevant, whose text is
a relevant one's, or that score too near the query's best relevant document: by the source (`margin`, `relative`) and,
where a teacher is given, by the teacher (`teacher_margin`).

Moreira et al., "NV-Retriever: Improving Text Embedding Models with Effective Hard-Negative Mining", 2024: of the rules
tried there, the relative one with 0.95 did best.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from diptych import Reranker
from diptych_training.data.negatives import Mined, MiningOptions, MiningReport, Scored
from diptych_training.data.sources import CandidateSource, Found

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
        teacher: any reranker; scores only as many candidates as it takes to have enough.
    """
    wanted = options or MiningOptions()
    relevant = {query: [d for d, grade in qrels.get(query, {}).items() if grade > 0] for query in queries}
    asked = [query for query in queries if relevant[query]]
    work = [own for batch in batches(asked) for own in _mined(source, queries, relevant, batch, wanted, teacher)]
    return _together(work, wanted, tuple(query for query in queries if not relevant[query]))


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
    found = source.find([queries[q] for q in batch], [relevant[q] for q in batch], options.ranks[1])
    first = options.ranks[0] - 1
    ids = {i for own in found for i, _ in own.ranking[first:]} | {i for query in batch for i in relevant[query]}
    texts = source.texts(list(ids))
    work = [_begun(q, queries[q], relevant[q], own, texts, options) for q, own in zip(batch, found, strict=True)]
    while any(needy := [own for own in work if len(own.kept) < options.per_query]):
        taken = [(own, list(islice(own.pending, options.per_query - len(own.kept)))) for own in needy]
        if not any(candidates for _, candidates in taken):
            break
        _judge(taken, options, teacher)
    for own in work:
        own.dropped["not needed"] += sum(1 for _ in own.pending)
    return work


def _begun(
    query: str, text: str, relevant: list[str], found: Found, texts: Mapping[str, str], options: MiningOptions
) -> _Work:
    """A query with the candidates that pass all checks but the teacher's."""
    window = found.ranking[options.ranks[0] - 1 : options.ranks[1]]
    bar = options.threshold(max(found.named.values())) if found.named else np.inf
    said = {_plain(texts[i]) for i in relevant if i in texts}
    dropped: Counter[str] = Counter()
    left = []
    for candidate, score in window:
        reason = _reason(candidate, score, relevant, texts, said, bar)
        if reason:
            dropped[reason] += 1
        else:
            left.append((candidate, score))
    if options.pick == "random":
        random = np.random.default_rng((options.seed, zlib.crc32(query.encode())))
        left = [left[place] for place in random.permutation(len(left))]
    own = {i: texts[i] for i in (*relevant, *(i for i, _ in left)) if i in texts}
    return _Work(query, text, relevant, iter(left), own, bool(found.named), dropped)


def _reason(
    candidate: str, score: float, relevant: Sequence[str], texts: Mapping[str, str], said: set[str], bar: float
) -> str:
    """Why a candidate is left out, "" if it is not."""
    if candidate in relevant:
        return "judged"
    if candidate not in texts:
        return "gone"
    if _plain(texts[candidate]) in said:
        return "same text"
    return "near the positive" if score > bar else ""


def _judge(taken: Sequence[tuple[_Work, list[Scored]]], options: MiningOptions, teacher: Reranker | None) -> None:
    """Keep the candidates that the teacher, if any, scores below the threshold; all pairs in one call."""
    if teacher is None:
        for own, candidates in taken:
            own.kept += candidates
        return
    pairs = [(own.text, text) for own, candidates in taken for text in _asked(own, candidates)]
    scores = iter(np.asarray(teacher.predict(pairs), np.float32).tolist())
    for own, candidates in taken:
        if own.bar is None:
            known = [next(scores) for i in own.relevant if i in own.texts]
            own.bar = max(known) - options.teacher_margin if known else np.inf
        for candidate in candidates:
            if next(scores) > own.bar:
                own.dropped["teacher"] += 1
            else:
                own.kept.append(candidate)


def _asked(own: _Work, candidates: Sequence[Scored]) -> list[str]:
    """The texts whose scores are needed: the relevant ones, once, and the candidates."""
    ids = [*(own.relevant if own.bar is None else ()), *(i for i, _ in candidates)]
    return [own.texts[i] for i in ids if i in own.texts]


def _together(work: Sequence[_Work], options: MiningOptions, unjudged: tuple[str, ...]) -> Mined:
    dropped = sum((own.dropped for own in work), Counter[str]())
    negatives = {own.query: sorted(own.kept, key=lambda pair: -pair[1]) for own in work}
    texts = {i: own.texts[i] for own in work for i in (*own.relevant, *dict(own.kept)) if i in own.texts}
    kept = sum(map(len, negatives.values()))
    report = MiningReport(
        queries=len(work),
        candidates=kept + sum(dropped.values()),
        kept=kept,
        dropped={reason: count for reason, count in dropped.items() if count},
        short={own.query: len(own.kept) for own in work if len(own.kept) < options.per_query},
        unscored=tuple(own.query for own in work if not own.scored),
        unjudged=unjudged,
    )
    return Mined(negatives, texts, report)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def batches(ids: Sequence[str], size: int = BATCH) -> Iterator[Sequence[str]]:
    """So many queries at a time."""
    yield from (ids[at : at + size] for at in range(0, len(ids), size))
