"""Qdrant's filters as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from qdrant_client import models

from diptych.errors import SearchError
from diptych.search.filters import read_filter

FILTER = {
    "must": [{"key": "section", "match": {"value": "mail"}}],
    "must_not": [{"key": "year", "range": {"lt": 2000}}],
}


def test_text_and_what_was_read_from_it_are_the_same_filter() -> None:
    wanted = models.Filter(
        must=[models.FieldCondition(key="section", match=models.MatchValue(value="mail"))],
        must_not=[models.FieldCondition(key="year", range=models.Range(lt=2000))],
    )
    assert read_filter(FILTER) == read_filter(json.dumps(FILTER)) == wanted


@pytest.mark.parametrize(
    "wrong", [{"mus": []}, {"must": [{"key": "a"}, {"key": "b", "match": {"valu": 1}}]}, "{", "[]"]
)
def test_what_is_no_filter_says_what_one_looks_like(wrong: object) -> None:
    with pytest.raises(SearchError, match=r'(?s)it is not a Qdrant filter.*do: write JSON such as \{"must"'):
        read_filter(wrong, name="it")  # type: ignore[arg-type]


def nested(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {"key": "a", "match": {"value": 1}}
    for _ in range(depth):
        found = {"must": [found]}
    return found


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (nested(100), "within one another"),
        ({"must": [{"key": "a", "match": {"value": 1}}] * 3000}, "2,000 objects"),
        ({"must": [{"has_id": list(range(200_000))}]}, "100,000 values"),
        ({"must": [{"key": "a", "match": {"any": ["a", 1] * 100}}]}, "a list of texts or of whole numbers"),
        ({"must": [{"key": "a", "match": {"value": 2**64}}]}, "64 bits"),
        ({"must": [{"key": "a", "match": {"value": int("f" * 6000, 16)}}]}, "24000 bits"),
        ({"must": [{"key": "a", "match": {"value": "half \ud800"}}]}, "surrogate"),
        ("[" * 100_000, "JSON"),
        ({"must": ["x"] * 15_000}, "where: must.0"),
        ({"must": [{"key": "a", "match": {"any": [0.5] * 1000}}]}, "got: a list of 1,000: float"),
        ({"must": {"a": "x" * 1_000_000}}, "not a Qdrant filter"),
        ({"must": [{"key": "a", "geo_polygon": {"exterior": {"points": ["x"] * 5000}}}]}, "no such list"),
    ],
)
def test_a_filter_that_is_too_large_or_holds_what_nobody_stores_is_refused(wrong: Any, why: str) -> None:
    with pytest.raises(SearchError, match=why) as raised:
        read_filter(wrong)
    assert len(str(raised.value)) < 1000


def test_large_filters_of_one_kind_are_read() -> None:
    assert read_filter({"must": [{"has_id": list(range(10_000))}]}).must
    assert read_filter({"must": [{"key": "a", "match": {"any": [f"t{n}" for n in range(10_000)]}}]}).must
    assert read_filter({"must": [{"key": "a", "range": {"gt": 1, "lt": 2.5}}] * 500}).must
    assert read_filter(nested(15)).must
