"""Checks of sparse encoders and text indexes: what Qdrant demands of a sparse vector, terms that are words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from diptych.protocols import Calibrated, TextIndex
from diptych.testing.checks.compare import SIDES, vectors
from diptych.testing.checks.conditions import Conditions, ConformanceFailure, Side, conformance_check
from diptych.types import SparseVector


@conformance_check
def check_indices_ascending(encoder: Any, conditions: Conditions) -> None:
    """Term ids are uint32 and strictly ascending, so each is there once."""
    for side, vector in _each(encoder, conditions):
        indices = vector.indices
        if indices.dtype != np.uint32 or not (indices[1:] > indices[:-1]).all():
            raise ConformanceFailure(
                f"encode_{side}: term ids out of order",
                got=f"{indices.dtype} {indices[:8].tolist()}",
                expected="uint32, strictly ascending",
            )


@conformance_check
def check_indices_in_range(encoder: Any, conditions: Conditions) -> None:
    """Term ids are below the declared dimension."""
    for side, vector in _each(encoder, conditions):
        highest = int(vector.indices.max(initial=0))
        if highest >= encoder.dimension:
            raise ConformanceFailure(
                f"encode_{side}: a term id out of range",
                got=highest,
                expected=f"below {encoder.dimension}",
            )


@conformance_check
def check_weights_not_negative(encoder: Any, conditions: Conditions) -> None:
    """No weight is below zero: such a term would count against a document that has it."""
    for side, vector in _each(encoder, conditions):
        if (vector.values < 0).any():
            raise ConformanceFailure(
                f"encode_{side}: a negative weight",
                got=float(vector.values.min()),
                expected=">= 0",
            )


@conformance_check
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
                got=pairs[:4],
                expected=f"{len(expected)} (word, weight) pairs with weights {expected[:4].tolist()} ...",
            )
        if encoder.decode(vector, top_k=2) != pairs[:2]:
            raise ConformanceFailure(
                "decode ignores top_k",
                got=encoder.decode(vector, 2),
                expected=pairs[:2],
            )


@conformance_check
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
            got=f"{dict(whole)} for all, {total} from two parts",
            expected=f"the same, with documents = {len(conditions.texts)}",
        )


def _each(encoder: Any, conditions: Conditions) -> Iterator[tuple[Side, SparseVector]]:
    """All vectors of both sides, known to be sparse ones."""
    for side in SIDES:
        for vector in vectors(encoder, side, conditions.texts):
            if not isinstance(vector, SparseVector):
                raise ConformanceFailure(
                    f"encode_{side}: no sparse vector",
                    got=type(vector).__name__,
                    expected="diptych.SparseVector",
                )
            yield side, vector


@conformance_check
def check_index_params(text_index: Any, conditions: Conditions) -> None:
    """`index_params` gives Qdrant's TextIndexParams, the same each time."""
    from qdrant_client import models

    if not isinstance(text_index, TextIndex):
        raise ConformanceFailure(
            "members are missing",
            got=type(text_index).__name__,
            expected="diptych.TextIndex",
        )
    first, second = text_index.index_params(), text_index.index_params()
    if not isinstance(first, models.TextIndexParams) or first != second:
        raise ConformanceFailure(
            "index_params is not usable",
            got=f"{first!r}, then {second!r}",
            expected="equal qdrant_client.models.TextIndexParams",
        )


@conformance_check
def check_text_query(text_index: Any, conditions: Conditions) -> None:
    """`query` gives Qdrant's TextQuery, the same for the same text and another for another."""
    from qdrant_client import models

    queries = [text_index.query(text) for text in conditions.texts]
    again = [text_index.query(text) for text in conditions.texts]
    stable = queries == again and all(queries[0] != query for query in queries[1:])
    if not all(isinstance(query, models.TextQuery) for query in queries) or not stable:
        raise ConformanceFailure(
            "query is not usable",
            got=repr(queries[0]),
            expected="a qdrant_client.models.TextQuery that depends on the text alone",
        )
