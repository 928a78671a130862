"""Qdrant's filters as JSON."""

from __future__ import annotations

import json

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
    with pytest.raises(SearchError, match=r'(?s)it is no Qdrant filter.*do: write JSON such as \{"must"'):
        read_filter(wrong, name="it")  # type: ignore[arg-type]
