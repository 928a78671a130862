"""Models made without validation are those that validation makes."""

from __future__ import annotations

from typing import Any

import pytest
from qdrant_client import models

from diptych.runtime.unchecked import unchecked, unchecked_in_part

LEAF: dict[str, Any] = {"query": [0.5, 0.25], "using": "dense.1", "limit": 3}


@pytest.mark.parametrize("fields", [{}, LEAF, {**LEAF, "prefetch": [models.Prefetch(**LEAF)], "with_payload": False}])
def test_a_model_of_some_fields_is_the_one_that_was_validated(fields: dict[str, Any]) -> None:
    made, checked = unchecked_in_part(models.QueryRequest)(fields), models.QueryRequest(**fields)
    assert made == checked
    assert made.model_fields_set == checked.model_fields_set
    assert made.model_dump(exclude_unset=True) == checked.model_dump(exclude_unset=True)
    assert made.model_dump_json() == checked.model_dump_json()


def test_models_share_nothing_that_one_may_change() -> None:
    make = unchecked_in_part(models.QueryRequest)
    first, second = make(LEAF), make({})
    first.limit = 7
    assert (second.limit, second.model_fields_set, make(LEAF).limit) == (None, set(), 3)


def test_a_model_of_all_fields_is_the_one_that_was_validated() -> None:
    fields = {"id": 1, "version": 2, "score": 0.5, "payload": {"a": 1}, "vector": None, "shard_key": None}
    whole = {**fields, "order_value": None}
    assert unchecked(models.ScoredPoint)(whole) == models.ScoredPoint(**whole)
