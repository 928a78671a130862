"""The reranker cascade: the pairs of all queries scored together, each stage reading the best of the one before."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np

from diptych.config.stages import EarlyExit, Rerank
from diptych.errors import AdapterCrashed, ContractError, SearchError
from diptych.protocols import Pair, Reranker
from diptych.runtime.panics import contained
from diptych.runtime.untrusted import stream_safe
from diptych.search.fusion import mixed
from diptych.search.request import SearchRequest
from diptych.search.retrieve import Retrieved
from diptych.types import Floats, Hit, Passage

PAIRS_PER_CALL = 8192  # bounds memory; large enough that the reranker can sort by length and fill its batches
CHARACTERS_OF_TOKEN = 3  # a low estimate, so that the passages chosen for a reranker fit its `max_length`
DEFAULT_MAX_TOKENS = 512  # assumed of a reranker without a `max_length`
FIRST_BATCH = 8  # pairs that are scored even after the deadline, and show how fast the reranker is


def rerank(
    request: SearchRequest, retrieved: Retrieved, hits: Sequence[Sequence[Hit]], *, wants: int
) -> list[list[Hit]]:
    """Each query's hits in the order of the last stage; ties stay in their former order.

    Args:
        request: the search, with the stages and the query texts.
        retrieved: gets the ids that a stage left out without a score, and a note on each that reached its deadline.
        hits: of each query, with what the stages read.
        wants: hits wanted from the last stage; an early exit settles that many.

    Raises:
        ContractError: a reranker returns the wrong number of scores, NaN or infinity.
        SearchError: early exit or a deadline with a reranker that is not independent.
    """
    stages = request.pipeline.rerank
    lists = [list(found) for found in hits]
    wanted = [*(stage.candidates for stage in stages[1:]), wants]
    for number, (stage, best) in enumerate(zip(stages, wanted, strict=True), 1):
        lists = [found[: stage.candidates] for found in lists]
        again = sum(other.label == stage.label for other in stages[:number])
        label = stage.label if again == 1 else f"{stage.label}#{again}"
        scores = _scored(request, stage, lists, best)
        for place, (found, values) in enumerate(zip(lists, scores, strict=True)):
            if len(values) == len(found):
                continue
            if stage.seconds is None:
                retrieved.unscored[place].update({hit.id: stage for hit in found[len(values) :]})
                lists[place] = found[: len(values)]
            else:
                count = f"{len(values)} of {len(found)} candidates"
                retrieved.notes[place].append(f"{label} scored {count} within its deadline of {stage.seconds:g} s")
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


def _scored(request: SearchRequest, stage: Rerank, lists: Sequence[Sequence[Hit]], best: int) -> list[Floats]:
    """The scores of each query's hits: of all, or of the first of them."""
    reranker: Any = stage.adapter
    if isinstance(reranker, str):
        reranker = request.view.reranker(reranker, stage.options)
    where, begin = f"reranker {stage.label!r}", time.monotonic()
    groups = [
        [(text, _input(request, stage, hit, reranker.max_length)) for hit in found]
        for text, found in zip(request.texts, lists, strict=True)
    ]
    if stage.seconds is not None:
        return score_until(reranker, groups, stage.seconds - (time.monotonic() - begin), where=where)
    if stage.early_exit is None:
        return score_pairs(reranker, groups, where=where)
    return score_until_settled(reranker, groups, stage.early_exit, best, where=where)


def _input(request: SearchRequest, stage: Rerank, hit: Hit, most: int | None) -> str:
    """What the reranker reads: a document's best passages, in their order, as many as fit; else all of its text."""
    text = hit.document.text
    if stage.read != "document" and hit.passages:
        room, read = CHARACTERS_OF_TOKEN * (most or DEFAULT_MAX_TOKENS), list[Passage]()
        for passage in hit.passages:
            if read and room < len(passage.text):
                break
            room -= len(passage.text)
            read.append(passage)
        text = "\n".join(passage.text for passage in sorted(read, key=lambda passage: passage.start))
    return request.view.reading.of(hit.document.title, text)


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
            known = scores[n]  # with ties the earlier ones stay among the best
            is_quiet = len(known) >= best and new.max() <= np.partition(known, -best)[-best]
            quiet[n] = quiet[n] + 1 if is_quiet else 0
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
        what = "a reranker that looks at all candidates cannot stop early"
        raise SearchError(what, where=where, got="independent = False", do=f"leave {option} out")


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
