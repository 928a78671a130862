"""Checks of sparse encoders, text indexes and rerankers.

The pairs that rerankers are tried with are the queries and documents of `conditions.triples` and `conditions.texts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from diptych.protocols import Calibrated, Pair, Reranker, TextIndex
from diptych.testing.checks.conditions import (
    ODD_TEXTS,
    SIDES,
    Conditions,
    ConformanceFailure,
    Side,
    conformance_check,
    gap,
    vectors,
    within,
)
from diptych.types import SparseVector


@conformance_check("sparse")
def check_terms(encoder: Any, conditions: Conditions) -> None:
    """Term ids are uint32, strictly ascending and below the dimension; no weight is below zero.

    A negative weight would count against a document that has the term.
    """
    for side, vector in _each(encoder, conditions):
        indices, highest = vector.indices, int(vector.indices.max(initial=0))
        if indices.dtype != np.uint32 or not (indices[1:] > indices[:-1]).all():
            got = f"{indices.dtype} {indices[:8].tolist()}"
            raise ConformanceFailure(f"encode_{side}: term ids out of order", got, "uint32, strictly ascending")
        if highest >= encoder.dimension:
            raise ConformanceFailure(f"encode_{side}: a term id out of range", highest, f"below {encoder.dimension}")
        if (vector.values < 0).any():
            raise ConformanceFailure(f"encode_{side}: a negative weight", float(vector.values.min()), ">= 0")


@conformance_check("sparse")
def check_decode(encoder: Any, conditions: Conditions) -> None:
    """`decode` gives each term once, as `(word, weight)`, heaviest first, and at most `top_k` of them."""
    for _, vector in _each(encoder, conditions):
        pairs = encoder.decode(vector)
        weights = [float(weight) for _, weight in pairs]
        expected = np.sort(vector.values)[::-1]
        words = all(isinstance(word, str) and word for word, _ in pairs)
        if not words or len(weights) != len(expected) or not np.allclose(weights, expected, rtol=1e-5):
            raise ConformanceFailure(
                "decode does not give back the terms",
                pairs[:4],
                f"{len(expected)} (word, weight) pairs with weights {expected[:4].tolist()} ...",
            )
        if encoder.decode(vector, top_k=2) != pairs[:2]:
            raise ConformanceFailure("decode ignores top_k", encoder.decode(vector, 2), pairs[:2])


@conformance_check("sparse")
def check_measures_add_up(encoder: Any, conditions: Conditions) -> None:
    """A Calibrated encoder's measures of two batches add up, key by key, to that of both; `documents` counts inputs."""
    if not isinstance(encoder, Calibrated):
        return
    half = len(conditions.texts) // 2
    whole, first, second = (
        encoder.measure(list(part)) for part in (conditions.texts, conditions.texts[:half], conditions.texts[half:])
    )
    total = {key: first.get(key, 0.0) + second.get(key, 0.0) for key in {*first, *second}}
    if total != dict(whole) or whole.get("documents") != len(conditions.texts):
        raise ConformanceFailure(
            "measures do not add up",
            f"{dict(whole)} for all, {total} from two parts",
            f"the same, with documents = {len(conditions.texts)}",
        )


def _each(encoder: Any, conditions: Conditions) -> Iterator[tuple[Side, SparseVector]]:
    """All vectors of both sides, known to be sparse ones."""
    for side in SIDES:
        for vector in vectors(encoder, side, conditions.texts):
            if not isinstance(vector, SparseVector):
                raise ConformanceFailure(
                    f"encode_{side}: no sparse vector", type(vector).__name__, "diptych.SparseVector"
                )
            yield side, vector


@conformance_check("text_index")
def check_index_params(text_index: Any, conditions: Conditions) -> None:
    """`index_params` gives Qdrant's TextIndexParams, the same each time."""
    from qdrant_client import models

    if not isinstance(text_index, TextIndex):
        raise ConformanceFailure("members are missing", type(text_index).__name__, "diptych.TextIndex")
    first, second = text_index.index_params(), text_index.index_params()
    if not isinstance(first, models.TextIndexParams) or first != second:
        raise ConformanceFailure(
            "index_params is not usable", f"{first!r}, then {second!r}", "equal qdrant_client.models.TextIndexParams"
        )


@conformance_check("text_index")
def check_text_query(text_index: Any, conditions: Conditions) -> None:
    """`query` gives Qdrant's TextQuery, the same for the same text and another for another."""
    from qdrant_client import models

    queries = [text_index.query(text) for text in conditions.texts]
    again = [text_index.query(text) for text in conditions.texts]
    stable = queries == again and all(queries[0] != query for query in queries[1:])
    if not all(isinstance(query, models.TextQuery) for query in queries) or not stable:
        raise ConformanceFailure(
            "query is not usable", repr(queries[0]), "a qdrant_client.models.TextQuery that depends on the text alone"
        )


@conformance_check("reranker")
def check_reranker_facts(reranker: Any, conditions: Conditions) -> None:
    """`max_length` is a positive integer or None, `independent` True or False, and `predict` is there."""
    if not isinstance(reranker, Reranker):
        raise ConformanceFailure("members are missing", type(reranker).__name__, "diptych.Reranker")
    length, independent = reranker.max_length, reranker.independent
    usable = length is None or (isinstance(length, int) and length > 0)
    if not usable or not isinstance(independent, bool):
        raise ConformanceFailure(
            "facts are not usable",
            f"max_length {length!r}, independent {independent!r}",
            "max_length: an integer >= 1 or None; independent: True or False",
        )


@conformance_check("reranker")
def check_scores(reranker: Any, conditions: Conditions) -> None:
    """Scores are float32 `[n]`, finite, one for each pair, and none without pairs."""
    for pairs in (_pairs(conditions), []):
        raw = reranker.predict(pairs)
        good = isinstance(raw, np.ndarray) and raw.dtype == np.float32 and raw.shape == (len(pairs),)
        if not good or not np.isfinite(raw).all():
            got = f"{raw.dtype} {list(raw.shape)}" if isinstance(raw, np.ndarray) else type(raw).__name__
            raise ConformanceFailure(f"no usable scores of {len(pairs)} pairs", got, f"finite float32 [{len(pairs)}]")


@conformance_check("reranker")
def check_scores_in_order(reranker: Any, conditions: Conditions) -> None:
    """The i-th score is the i-th pair's: the same pairs backwards give the same scores backwards."""
    pairs = _pairs(conditions)
    forward = reranker.predict(pairs)
    backward = reranker.predict(pairs[::-1])[::-1]
    if gap(forward, backward) > conditions.batch_tolerance:
        raise ConformanceFailure(
            "scores do not follow the pairs; predict must not sort them", backward[:6].tolist(), forward[:6].tolist()
        )


@conformance_check("reranker")
def check_scores_repeat(reranker: Any, conditions: Conditions) -> None:
    """Two calls with the same pairs give the same scores, within `repeat_tolerance`."""
    pairs = _pairs(conditions)
    first, second = (reranker.predict(pairs) for _ in range(2))
    within("the second call differs", [gap(first, second)], conditions.repeat_tolerance)


@conformance_check("reranker")
def check_scores_independent(reranker: Any, conditions: Conditions) -> str | None:
    """With `independent`, a pair alone has the score that it has among others, within `batch_tolerance`."""
    if not reranker.independent:
        return "its scores depend on the other pairs"
    pairs = _pairs(conditions)
    batch = reranker.predict(pairs)
    alone = np.concatenate([reranker.predict([pair]) for pair in pairs])
    what = "a pair alone has another score than among others, though independent is declared"
    within(what, [gap(batch, alone)], conditions.batch_tolerance)
    return None


@conformance_check("reranker")
def check_odd_pairs(reranker: Any, conditions: Conditions) -> None:
    """Empty, blank, very long and odd texts get finite scores."""
    pairs = [("", ""), (conditions.texts[0], ""), ("", conditions.texts[0]), *((t, t) for t in ODD_TEXTS)]
    scores = reranker.predict(pairs)
    if np.shape(scores) != (len(pairs),) or not np.isfinite(scores).all():
        raise ConformanceFailure("no usable scores for odd texts", scores, "finite numbers")


@conformance_check("reranker")
def check_relevant_scores_higher(reranker: Any, conditions: Conditions) -> None:
    """In each triple the document that answers the query has the higher score."""
    for query, relevant, irrelevant in conditions.triples:
        high, low = reranker.predict([(query, relevant), (query, irrelevant)]).tolist()
        if high <= low:
            raise ConformanceFailure(
                f"for {query!r} another document scores higher than its own",
                f"{low:.4g} for {irrelevant!r}",
                f"less than the {high:.4g} of {relevant!r}",
            )


def _pairs(conditions: Conditions) -> list[Pair]:
    """The pairs that are tried: each query with both its documents, then with each text."""
    triple_pairs = [(query, document) for query, *documents in conditions.triples for document in documents]
    queries = [query for query, _, _ in conditions.triples] or list(conditions.texts[:1])
    return triple_pairs + [(query, text) for query in queries for text in conditions.texts]
