"""Checks of rerankers. The pairs tried are the queries and documents of `conditions.triples` and `conditions.texts`."""

from __future__ import annotations

from typing import Any

import numpy as np

from diptych.protocols import Pair, Reranker
from diptych.testing.checks.conditions import ODD_TEXTS, Conditions, ConformanceFailure, conformance_check
from diptych.types import Floats


@conformance_check
def check_reranker_facts(reranker: Any, conditions: Conditions) -> None:
    """`max_length` is a positive integer or None, `independent` True or False, and `predict` is there."""
    if not isinstance(reranker, Reranker):
        raise ConformanceFailure(
            "members are missing",
            got=type(reranker).__name__,
            expected="diptych.Reranker",
        )
    length, independent = reranker.max_length, reranker.independent
    usable = length is None or (isinstance(length, int) and length > 0)
    if not usable or not isinstance(independent, bool):
        raise ConformanceFailure(
            "facts are not usable",
            got=f"max_length {length!r}, independent {independent!r}",
            expected="max_length: an integer >= 1 or None; independent: True or False",
        )


@conformance_check
def check_scores(reranker: Any, conditions: Conditions) -> None:
    """Scores are float32 `[n]`, finite, one for each pair."""
    pairs = pairs_of(conditions)
    raw = reranker.predict(pairs)
    good = isinstance(raw, np.ndarray) and raw.dtype == np.float32 and raw.shape == (len(pairs),)
    if not good or not np.isfinite(raw).all():
        got = f"{raw.dtype} {list(raw.shape)}" if isinstance(raw, np.ndarray) else type(raw).__name__
        raise ConformanceFailure("no usable scores", got=got, expected=f"finite float32 [{len(pairs)}]")


@conformance_check
def check_scores_in_order(reranker: Any, conditions: Conditions) -> None:
    """The i-th score is the i-th pair's: the same pairs backwards give the same scores backwards."""
    pairs = pairs_of(conditions)
    forward = reranker.predict(pairs)
    backward = reranker.predict(pairs[::-1])[::-1]
    if _gap(forward, backward) > conditions.batch_tolerance:
        raise ConformanceFailure(
            "scores do not follow the pairs; predict must not sort them",
            got=backward[:6].tolist(),
            expected=forward[:6].tolist(),
        )


@conformance_check
def check_scores_repeat(reranker: Any, conditions: Conditions) -> None:
    """Two calls with the same pairs give the same scores, within `repeat_tolerance`."""
    pairs = pairs_of(conditions)
    first, second = (reranker.predict(pairs) for _ in range(2))
    _within("the second call differs", _gap(first, second), conditions.repeat_tolerance)


@conformance_check
def check_scores_independent(reranker: Any, conditions: Conditions) -> None:
    """With `independent`, a pair alone has the score that it has among others, within `batch_tolerance`."""
    if not reranker.independent:
        return
    pairs = pairs_of(conditions)
    batch = reranker.predict(pairs)
    alone = np.concatenate([reranker.predict([pair]) for pair in pairs])
    what = "a pair alone has another score than among others, though independent is declared"
    _within(what, _gap(batch, alone), conditions.batch_tolerance)


@conformance_check
def check_no_pairs(reranker: Any, conditions: Conditions) -> None:
    """No pairs give float32 `[0]`."""
    raw = reranker.predict([])
    if np.shape(raw) != (0,) or getattr(raw, "dtype", None) != np.float32:
        got = f"{getattr(raw, 'dtype', type(raw).__name__)} {list(np.shape(raw))}"
        raise ConformanceFailure("predict([])", got=got, expected="float32 [0]")


@conformance_check
def check_odd_pairs(reranker: Any, conditions: Conditions) -> None:
    """Empty, blank, very long and odd texts get finite scores."""
    pairs = [("", ""), (conditions.texts[0], ""), ("", conditions.texts[0]), *((t, t) for t in ODD_TEXTS)]
    scores = reranker.predict(pairs)
    if np.shape(scores) != (len(pairs),) or not np.isfinite(scores).all():
        raise ConformanceFailure("no usable scores for odd texts", got=scores, expected="finite numbers")


@conformance_check
def check_relevant_scores_higher(reranker: Any, conditions: Conditions) -> None:
    """In each triple the document that answers the query has the higher score."""
    for query, relevant, irrelevant in conditions.triples:
        high, low = reranker.predict([(query, relevant), (query, irrelevant)]).tolist()
        if high <= low:
            raise ConformanceFailure(
                f"for {query!r} another document scores higher than its own",
                got=f"{low:.4g} for {irrelevant!r}",
                expected=f"less than the {high:.4g} of {relevant!r}",
            )


def pairs_of(conditions: Conditions) -> list[Pair]:
    """The pairs that are tried: each query with both its documents, then with each text."""
    triple_pairs = [(query, document) for query, *documents in conditions.triples for document in documents]
    queries = [query for query, _, _ in conditions.triples] or list(conditions.texts[:1])
    return triple_pairs + [(query, text) for query in queries for text in conditions.texts]


def _gap(one: Floats, other: Floats) -> float:
    if np.shape(one) != np.shape(other):
        return float("inf")
    scale = float(np.abs(one).max(initial=0.0)) or 1.0
    return float(np.abs(one - other).max(initial=0.0)) / scale


def _within(what: str, worst: float, tolerance: float) -> None:
    if not worst <= tolerance:
        got, expected = f"a difference of {worst:.3g}", f"at most {tolerance:g}"
        raise ConformanceFailure(what, got=got, expected=expected)
