"""Checks of text indexes."""

from __future__ import annotations

from typing import Any

from diptych.protocols import TextIndex
from diptych.testing.checks.conditions import Conditions
from diptych.testing.conformance import ConformanceFailure, conformance_check


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
