"""The reranker cascade: the pairs of all queries scored together, each stage reading the best of the one before.

`explored` searches by a reranker's own scores: each round scores the documents that the scores so far point to.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
from qdrant_client import models

from diptych.config.stages import EarlyExit, Explore, Rerank
from diptych.errors import AdapterCrashed, ContractError, SearchError
from diptych.metadata.payloads import from_payload
from diptych.plugins.anchor_scores import reranker_of, reranker_space
from diptych.protocols import Pair, Reranker
from diptych.runtime.panics import contained
from diptych.runtime.text_budget import stream_safe
from diptych.search.fusion import PointId, mixed
from diptych.search.pipeline import search_params
from diptych.search.request import SearchRequest
from diptych.search.retrieve import query_points
from diptych.search.store_calls import read_store
from diptych.slots.slot import Slot
from diptych.types import Floats, Hit, Passage

EXPLORED = "explored"  # in `Hit.stages`: the round that found a document, the candidates' round being 0
Score: TypeAlias = Callable[[Sequence[Sequence[Hit]]], list[Floats]]  # of each query's first hits, or of all

PAIRS_PER_CALL = 8192  # bounds memory; large enough that the reranker can sort by length and fill its batches
CHARACTERS_OF_TOKEN = 3  # a low estimate, so that the passages chosen for a reranker fit its `max_length`
DEFAULT_MAX_TOKENS = 512  # assumed of a reranker without a `max_length`
FIRST_BATCH = 8  # pairs that are scored even after the deadline, and show how fast the reranker is


def rerank(
    request: SearchRequest,
    hits: Sequence[Sequence[Hit]],
    *,
    wants: int,
    unscored: Sequence[dict[str, Rerank]],
    notes: Sequence[list[str]],
) -> list[list[Hit]]:
    """Each query's hits in the order of the last stage; ties stay in their former order.

    Args:
        request: the search, with the stages and the query texts.
        hits: of each query.
        wants: hits wanted from the last stage; an early exit settles that many.
        unscored: for each query a mapping, to which the ids are added that a stage left out without a score.
        notes: a list for each query, to which a sentence is added for each stage that explored or reached its deadline.

    Raises:
        ContractError: a reranker returns the wrong number of scores, NaN or infinity.
        SearchError: early exit, a deadline or exploring with a reranker that is not independent; anchors that are not
            this reranker's.
    """
    stages = request.pipeline.rerank
    lists = [list(found) for found in hits]
    wanted = [*(stage.candidates for stage in stages[1:]), wants]
    for number, (stage, best) in enumerate(zip(stages, wanted, strict=True), 1):
        lists = [found[: stage.candidates] for found in lists]
        again = sum(other.label == stage.label for other in stages[:number])
        label = stage.label if again == 1 else f"{stage.label}#{again}"
        found = _scored(request, stage, lists, best)
        lists, scores = [result.hits for result in found], [np.array(result.scores, np.float32) for result in found]
        for place, result in enumerate(found):
            rest = result.hits[len(result.scores) :]
            if rest and not result.stopped:
                unscored[place].update({hit.id: stage for hit in rest})
                lists[place] = result.hits[: len(result.scores)]
            if stage.explore is not None or (rest and result.stopped):
                count = str(result) if stage.explore else f"{len(result.scores)} of {len(result.hits)} candidates"
                how = ", until" if stage.explore else " within"
                until = f"{how} its deadline of {stage.seconds:g} s" if result.stopped else ""
                notes[place].append(f"{label} scored {count}{until}")
        lists = [_ordered(entries, values, label, stage.weight) for entries, values in zip(lists, scores, strict=True)]
    return lists


def score(reranker: Reranker, query: str, documents: Sequence[str]) -> Floats:
    """Scores of one query's documents, float32 `[n]` in their order: the single-query form of `predict`.

    Raises:
        ContractError: not a reranker, or it returns the wrong number of scores, NaN or infinity.
    """
    if not isinstance(reranker, Reranker):
        do = "give an adapter's name, or an object with max_length, independent and predict"
        raise ContractError("not a reranker", got=type(reranker).__name__, expected="diptych.Reranker", do=do)
    (scores,) = score_pairs(reranker, [[(query, document) for document in documents]], where=type(reranker).__name__)
    return scores


def score_pairs(reranker: Reranker, groups: Sequence[Sequence[Pair]], *, where: str) -> list[Floats]:
    """Scores of each group's pairs; groups are mixed in a call only when the reranker's scores are independent."""
    if not reranker.independent:
        return [_predict(reranker, pairs, where) for pairs in groups]
    pairs = [pair for group in groups for pair in group]
    chunks = [pairs[start : start + PAIRS_PER_CALL] for start in range(0, len(pairs), PAIRS_PER_CALL)]
    scores = [_predict(reranker, chunk, where) for chunk in chunks]
    ends = list(accumulate(len(group) for group in groups))
    return list(np.split(np.concatenate([np.zeros(0, np.float32), *scores]), ends[:-1]))


def _scored(request: SearchRequest, stage: Rerank, lists: Sequence[Sequence[Hit]], best: int) -> list[Explored]:
    """Each query's hits, those with a score first: all, the first of them, or those that the stage explored."""
    reranker: Any = stage.adapter
    if isinstance(reranker, str):
        reranker = request.view.reranker(reranker, stage.options)
    where, begin = f"reranker {stage.label!r}", time.monotonic()

    def left() -> float:
        return math.inf if stage.seconds is None else stage.seconds - (time.monotonic() - begin)

    def score(lists: Sequence[Sequence[Hit]]) -> list[Floats]:
        groups = [
            [(text, _input(request, stage, hit, reranker.max_length)) for hit in found]
            for text, found in zip(request.texts, lists, strict=True)
        ]
        if stage.seconds is not None:
            return score_until(reranker, groups, left(), where=where)
        if stage.early_exit is None:
            return score_pairs(reranker, groups, where=where)
        return score_until_settled(reranker, groups, stage.early_exit, best, where=where)

    if stage.explore is not None:
        _require_independent(reranker, where, "explore")
        return explored(request, stage, reranker, lists, score, late=lambda: left() <= 0)
    stopped = stage.seconds is not None
    return [
        Explored(list(hits), values.tolist(), stopped=stopped) for hits, values in zip(lists, score(lists), strict=True)
    ]


def _input(request: SearchRequest, stage: Rerank, hit: Hit, most: int | None) -> str:
    """What the reranker reads of a document."""
    return request.view.reading.of(hit.document.title, _text_of(hit, stage, most))


def _text_of(hit: Hit, stage: Rerank, most: int | None) -> str:
    """The part of the document that is read: its best passages, in their order, as many as fit; else all of it."""
    if stage.read == "document" or stage.explore or not hit.passages:
        return hit.document.text
    room, read = CHARACTERS_OF_TOKEN * (most or DEFAULT_MAX_TOKENS), list[Passage]()
    for passage in hit.passages:
        if read and room < len(passage.text):
            break
        room -= len(passage.text)
        read.append(passage)
    return "\n".join(passage.text for passage in sorted(read, key=lambda passage: passage.start))


def score_until_settled(
    reranker: Reranker, groups: Sequence[Sequence[Pair]], exit: EarlyExit, best: int, *, where: str
) -> list[Floats]:
    """Scores of each group's first pairs, until its `best` are settled by the rule of `EarlyExit`.

    The next blocks of all groups that are not settled are scored together.

    Raises:
        SearchError: the reranker's scores depend on the other candidates.
        ContractError: it returns the wrong number of scores, NaN or infinity.
    """
    _require_independent(reranker, where, "early_exit")
    scores, quiet = [np.zeros(0, np.float32) for _ in groups], [0] * len(groups)
    while places := [n for n, g in enumerate(groups) if len(scores[n]) < len(g) and quiet[n] < exit.patience]:
        blocks = [groups[n][len(scores[n]) : len(scores[n]) + exit.block] for n in places]
        for n, new in zip(places, score_pairs(reranker, blocks, where=where), strict=True):
            quiet[n] = quiet[n] + 1 if _is_quiet(scores[n], new, best) else 0
            scores[n] = np.concatenate([scores[n], new])
    return scores


def score_until(
    reranker: Reranker,
    groups: Sequence[Sequence[Pair]],
    seconds: float,
    *,
    where: str,
    clock: Callable[[], float] = time.monotonic,
) -> list[Floats]:
    """Scores of each group's first pairs, as many as `seconds` allow: rank 1 of all groups, then rank 2, and so on.

    A call cannot be interrupted, so each batch has a size that should take half of the remaining time.

    Raises:
        SearchError: the reranker's scores depend on the other candidates.
        ContractError: it returns the wrong number of scores, NaN or infinity.
    """
    _require_independent(reranker, where, "deadline")
    order = sorted((rank, n) for n, group in enumerate(groups) for rank in range(len(group)))
    scores: list[list[float]] = [[] for _ in groups]
    begin, done, size = clock(), 0, FIRST_BATCH
    while done < len(order) and size >= 1:
        batch = order[done : done + size]
        for (_, n), score in zip(batch, _predict(reranker, [groups[n][rank] for rank, n in batch], where), strict=True):
            scores[n].append(float(score))
        done, passed = done + len(batch), clock() - begin
        fitting = int(done * max(0.0, seconds - passed) / passed) if passed > 0 else PAIRS_PER_CALL
        size = min(PAIRS_PER_CALL, max(fitting // 2, min(fitting, FIRST_BATCH)))
    return [np.array(of_group, np.float32) for of_group in scores]


def _require_independent(reranker: Reranker, where: str, option: str) -> None:
    if not reranker.independent:
        verb = "explore" if option == "explore" else "stop early"
        what = f"a reranker that looks at all candidates cannot {verb}"
        raise SearchError(what, where=where, got="independent = False", do=f"leave {option} out")


def _is_quiet(known: Floats, new: Floats, best: int) -> bool:
    """Whether no new score is among the `best`; with ties the earlier ones stay."""
    return len(known) >= best and bool(new.max() <= np.partition(known, -best)[-best])


def _ordered(hits: Sequence[Hit], scores: Floats, label: str, weight: float) -> list[Hit]:
    """The hits in their new order; hits without a score get the lowest score."""
    if not len(scores):
        return list(hits)
    padded = np.pad(scores, (0, len(hits) - len(scores)), constant_values=scores.min())
    final = padded if weight == 1 else mixed(padded, np.array([hit.score for hit in hits]), weight)
    shown = [{label: value} for value in scores.tolist()] + [{}] * (len(hits) - len(scores))
    ordered = [
        replace(hit, score=score, stages={**hit.stages, **stages})
        for hit, score, stages in zip(hits, final.tolist(), shown, strict=True)
    ]
    return sorted(ordered, key=lambda hit: -hit.score)


def _predict(reranker: Reranker, pairs: Sequence[Pair], where: str) -> Floats:
    if not pairs:
        return np.zeros(0, np.float32)
    with contained(AdapterCrashed, "the reranker crashed", where=where):
        scores: Any = reranker.predict([(stream_safe(query), stream_safe(text)) for query, text in pairs])
    if not isinstance(scores, np.ndarray) or scores.dtype != np.float32 or scores.ndim != 1:
        got = f"{scores.dtype} {list(scores.shape)}" if isinstance(scores, np.ndarray) else type(scores).__name__
        raise ContractError("the scores are not a float32 array", where=where, got=got, expected="numpy float32 [n]")
    if len(scores) != len(pairs):
        raise ContractError("wrong number of scores", where=where, got=len(scores), expected=len(pairs))
    if not np.isfinite(scores).all():
        query, document = pairs[int(np.flatnonzero(~np.isfinite(scores))[0])]
        raise ContractError(
            "the reranker returned NaN or infinity", where=where, got=f"for {query[:40]!r} and {document[:40]!r}"
        )
    return scores


@dataclass(slots=True)
class Explored:
    """One query's documents in the order of scoring.

    Args:
        hits: first those that were scored, then the candidates that were not.
        scores: of the first hits.
        rounds: how many documents each round scored.
        stopped: whether a deadline ended it before the last round.
        new: how many scored documents were no candidates; a later round may also find a candidate.
    """

    hits: list[Hit] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    stopped: bool = False
    new: int = 0

    def __str__(self) -> str:
        parts = f" ({' + '.join(map(str, self.rounds))})" if self.rounds else ""
        rounds = "1 round" if len(self.rounds) == 1 else f"{len(self.rounds)} rounds{parts}"
        return f"{len(self.scores)} documents in {rounds}, {self.new} of which were no candidates"


def explored(
    request: SearchRequest,
    stage: Rerank,
    reranker: Reranker,
    lists: Sequence[Sequence[Hit]],
    score: Score,
    late: Callable[[], bool],
) -> list[Explored]:
    """Each query's candidates, and the documents that their scores lead to, with the reranker's scores.

    Each round scores an equal share of what is left of the budget; the first one reads candidates alone. Where fewer
    documents have anchor scores than a round may read, it reads further candidates.

    Args:
        request: its filter, tenant and parameters hold for what is found as well.
        stage, reranker: the stage, which has `explore`, and its reranker.
        lists: each query's candidates, best first.
        score: scores hits; fewer scores than hits say that the time is up.
        late: whether the time is up; asked before each round but the first.

    Raises:
        SearchError: the anchors are not this reranker's, or were never scored.
    """
    assert stage.explore is not None, "the caller has checked"
    explore, slot = stage.explore, require_anchors(request, stage, reranker)
    vectors: dict[PointId, Floats] = {}
    found = [Explored() for _ in lists]
    for number in range(explore.rounds):
        shares = [math.ceil((explore.budget - len(state.scores)) / (explore.rounds - number)) for state in found]
        if number == 0:
            batch = [list(hits[: min(share, stage.candidates)]) for hits, share in zip(lists, shares, strict=True)]
            vectors |= _stored(request, slot, [hit.point for hits in batch for hit in hits if hit.point is not None])
        elif late():
            found = [replace(state, stopped=True) for state in found]
            break
        else:
            pointed_to = _pointed_to(request, slot, explore, found, shares, vectors, number)
            batch = [
                [*hits, *_unscored(state, hits, candidates)[: share - len(hits)]]
                for state, hits, candidates, share in zip(found, pointed_to, lists, shares, strict=True)
            ]
        scores = score(batch)
        for state, hits, values in zip(found, batch, scores, strict=True):
            state.hits += hits[: len(values)]
            state.scores += values.tolist()
            state.rounds += [len(values)] if len(values) else []
            state.stopped = len(values) < len(hits)
        if any(state.stopped for state in found) or (number and not any(batch)):
            break
    return [_with_rest(state, hits) for state, hits in zip(found, lists, strict=True)]


def require_anchors(request: SearchRequest, stage: Rerank, reranker: Reranker) -> Slot:
    """The stage's slot of anchors, which this reranker has scored.

    Raises:
        SearchError: it is another reranker's, or was never filled.
    """
    assert stage.explore is not None, "the caller has checked"
    slot = request.view.slots[stage.explore.anchors]
    where = f"{slot.where}, reranker {stage.label!r}"
    if slot.generation is None:
        raise SearchError("the anchors are not built", where=where, do="diptych apply")
    recorded = reranker_of(slot.generation.space)
    space = reranker_space(reranker, stage.label, stage.options)
    if space != recorded:
        raise SearchError(
            "the anchors were scored by another reranker",
            where=where,
            got=f"a reranker of {space}",
            expected=recorded,
            do="name the same adapter and options in the slot and in the stage, then: diptych apply",
        )
    return slot


def fitted(vectors: Floats, scores: Sequence[float], ridge: float) -> Floats:
    """The query vector whose dot product with a document's vector estimates the reranker's score.

    u = argmin |X u - (s - m)|^2 + a |u|^2, with X the centred anchor scores of the scored documents, m their means, and
    a = `ridge` times the mean squared length of the rows of X. The vector is u, then 1 for the mean.

    Args:
        vectors: of the scored documents as they are stored, `[n, anchors + 1]`.
        scores: the reranker's.
        ridge: more than 0.
    """
    rows = np.asarray(vectors[:, :-1], np.float64)
    rest = np.asarray(scores, np.float64) - vectors[:, -1]
    gram = rows @ rows.T
    penalty = ridge * float(np.trace(gram)) / max(1, len(rows))
    if penalty <= 0:  # nothing scored, or all anchors alike
        return np.append(np.zeros(rows.shape[1]), 1.0).astype(np.float32)
    weights = rows.T @ np.linalg.solve(gram + penalty * np.eye(len(rows)), rest)
    return np.append(weights, 1.0).astype(np.float32)


def _pointed_to(
    request: SearchRequest,
    slot: Slot,
    explore: Explore,
    found: Sequence[Explored],
    shares: Sequence[int],
    vectors: dict[PointId, Floats],
    number: int,
) -> list[list[Hit]]:
    """For each query the documents of the highest estimates that are not scored yet; `vectors` gets theirs."""
    requests = [
        _request(request, slot, state, _query(state, vectors, explore, slot), share) if share else None
        for state, share in zip(found, shares, strict=True)
    ]
    answers = query_points(request.view, requests)
    vectors |= {point.id: _vector(point, slot) for points in answers for point in points}
    layout = request.view.layout
    return [
        [
            Hit(from_payload(point.id, point.payload, layout), point.score, {EXPLORED: float(number)}, point=point.id)
            for point in points
        ]
        for points in answers
    ]


def _query(state: Explored, vectors: dict[PointId, Floats], explore: Explore, slot: Slot) -> Floats:
    """The fit to the scored documents that have a vector."""
    known = [
        (vectors[hit.point], score)
        for hit, score in zip(state.hits, state.scores, strict=False)
        if hit.point is not None and hit.point in vectors
    ]
    assert slot.generation is not None, "require_anchors has checked"
    rows = np.array([vector for vector, _ in known], np.float32).reshape(len(known), slot.generation.dimension or 1)
    return fitted(rows, [score for _, score in known], explore.ridge)


def _request(request: SearchRequest, slot: Slot, state: Explored, query: Floats, limit: int) -> models.QueryRequest:
    scored = [hit.point for hit in state.hits if hit.point is not None]
    params = request.params or search_params(request.view.search_config.params)
    return models.QueryRequest.model_construct(
        query=query.tolist(),
        using=slot.vector,
        filter=models.Filter(
            must=None if request.filter is None else [request.filter],
            must_not=[models.HasIdCondition(has_id=scored)] if scored else None,
        ),
        params=params,
        limit=limit,
        with_payload=request.selector,
        with_vector=[slot.vector],
        **request.shard_key,
    )


def _stored(request: SearchRequest, slot: Slot, points: Sequence[PointId]) -> dict[PointId, Floats]:
    """The anchor scores of these points; a point that has none yet is left out."""
    view, names, shard_keys = request.view, [slot.vector], request.shard_key_selector
    ids = list(dict.fromkeys(points))
    if not ids:
        return {}
    records = read_store(
        view, lambda: view.client.retrieve(view.name, ids, with_payload=False, with_vectors=names, **shard_keys)
    )
    return {record.id: _vector(record, slot) for record in records if slot.vector in (record.vector or {})}


def _vector(point: models.Record | models.ScoredPoint, slot: Slot) -> Floats:
    named: Any = point.vector
    return np.asarray(named[slot.vector], np.float32)


def _unscored(state: Explored, others: Sequence[Hit], candidates: Sequence[Hit]) -> list[Hit]:
    """The candidates that were not scored and are not among the others."""
    taken = {hit.id for hits in (state.hits, others) for hit in hits}
    return [hit for hit in candidates if hit.id not in taken]


def _with_rest(state: Explored, candidates: Sequence[Hit]) -> Explored:
    """With the candidates that were not scored behind the others."""
    known = {hit.id for hit in candidates}
    new = sum(hit.id not in known for hit in state.hits)
    return replace(state, hits=[*state.hits, *_unscored(state, (), candidates)], new=new)
