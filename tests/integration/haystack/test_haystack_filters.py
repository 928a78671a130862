"""Haystack's filters give the documents that Haystack itself says they fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from haystack import Document
from haystack.errors import FilterError
from haystack.utils.filters import document_matches_filter
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import models

from diptych import Collection, Registry
from diptych.errors import SearchError
from diptych.testing import fakes_plugin
from diptych_adapters.haystack import DiptychDocumentStore

METAS: list[dict[str, Any]] = [
    {},
    {"n": 1, "word": "a", "date": "2024-01-01", "at": {"x": 1}, "two words": 1},
    {"n": 2, "word": "b", "date": "2024-01-01T00:00:00", "at": {"x": 2}},
    {"n": 2.0, "word": "1", "date": "2024-01-01T00:00:00Z", "yes": True},
    {"n": 2.5, "word": "a", "date": "2025-06-30T12:00:00+02:00", "yes": False},
    {"n": None, "word": "2024-01-01", "date": None, "title": "a"},
    {"n": -3, "date": "2023-12-31T23:59:59.5", "yes": True, "title": "b"},
]
DOCUMENTS = [Document(id=f"d{n}", content=f"text {n % 3}", meta=meta) for n, meta in enumerate(METAS)]
VALUES: dict[str, list[Any]] = {
    "meta.n": [None, 1, 2, 2.0, 2.5, -3, 7],
    "n": [2, None],
    "meta.word": [None, "a", "b", "1", "2024-01-01"],
    "meta.date": [None, "2024-01-01", "2024-01-01T00:00:00+00:00", "2025-06-30T10:00:00Z", "2023-12-31T23:59:59.5"],
    "meta.yes": [None, True, False],
    "meta.at.x": [None, 1, 2.0],
    "meta.title": [None, "a"],
    "meta.two words": [None, 1],
    "content": ["text 1", "text 9"],
    "id": ["d1", "d6", "nobody"],
}
ORDERED = ("meta.n", "meta.date", "meta.at.x")
_SAME = {"field": "meta.date", "operator": "==", "value": "2024-01-01T00:00:00Z"}
if not document_matches_filter(_SAME, DOCUMENTS[1]):  # to Haystack 2, dates written in two ways are equal in none
    VALUES["meta.date"], VALUES["meta.word"] = [None], [None, "a", "b", "1"]


def comparisons() -> st.SearchStrategy[dict[str, Any]]:
    def on(field: str) -> st.SearchStrategy[dict[str, Any]]:
        one = st.sampled_from(VALUES[field])
        some = st.lists(one, max_size=3)
        same = st.fixed_dictionaries({"operator": st.sampled_from(["==", "!="]), "value": one})
        among = st.fixed_dictionaries({"operator": st.sampled_from(["in", "not in"]), "value": some})
        order = st.fixed_dictionaries({"operator": st.sampled_from([">", ">=", "<", "<="]), "value": one})
        kinds = [same, among, *([order] if field in ORDERED else [])]
        return st.one_of(kinds).map(lambda rest: {"field": field, **rest})

    return st.sampled_from(sorted(VALUES)).flatmap(on)


def logical(parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"operator": st.sampled_from(["AND", "OR", "NOT"]), "conditions": st.lists(parts, min_size=1, max_size=3)}
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiptychDocumentStore]:
    config = {
        "store": f"edge:{tmp_path_factory.mktemp('filters')}",
        "collection": "things",
        "slots": {"dense": {"adapter": "fake-dense"}},
    }
    with Collection.open({**config, "cache": {"enabled": False}}, registry=Registry(fakes_plugin)) as things:
        store = DiptychDocumentStore(things)
        store.write_documents(DOCUMENTS)
        yield store


@settings(max_examples=150, deadline=None, derandomize=True)
@given(filters=st.recursive(comparisons(), logical, max_leaves=6))
def test_any_filter_gives_what_haystack_says(store: DiptychDocumentStore, filters: dict[str, Any]) -> None:
    expected = [document.id for document in DOCUMENTS if document_matches_filter(filters, document)]
    assert sorted(document.id for document in store.filter_documents(filters)) == expected
    assert store.count_documents_by_filter(filters) == len(expected)


def test_a_filter_of_qdrants_own_stays_as_it_is(store: DiptychDocumentStore) -> None:
    own = models.Filter(must=[models.FieldCondition(key="word", match=models.MatchValue(value="b"))])
    assert [document.id for document in store.filter_documents(own)] == ["d2"]


def test_a_condition_on_a_list_holds_for_any_of_its_values(things: Collection) -> None:
    """Haystack compares lists as wholes; in Qdrant a field of several values has each of them."""
    store = DiptychDocumentStore(things)
    store.write_documents([Document(id="a", content="x", meta={"tags": ["red", "blue"]})])
    assert store.count_documents_by_filter({"field": "meta.tags", "operator": "==", "value": "red"}) == 1
    assert store.count_documents_by_filter({"field": "meta.tags", "operator": "in", "value": ["green"]}) == 0


def test_a_time_without_a_zone_is_utc(store: DiptychDocumentStore) -> None:
    """Haystack gives it the zone of what it is compared with; Qdrant has UTC throughout."""
    noon = {"field": "meta.date", "operator": "==", "value": "2025-06-30T10:00:00"}
    assert [document.id for document in store.filter_documents(noon)] == ["d4"]
    assert not document_matches_filter(noon, DOCUMENTS[4])


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"field": "meta.n", "operator": "=", "value": 1}, r"(?s)unknown filter operator '='.*expected: ==, !="),
        ({"operator": "and", "conditions": [{}]}, r"(?s)unknown filter operator 'and'.*did you mean 'AND'\?"),
        ({"field": "meta.n", "operator": "=="}, r"(?s)lacks 'value'.*meta.section"),
        ({"field": "meta.n", "value": 1}, "lacks 'operator'"),
        ({"operator": "==", "value": 1}, "lacks 'field'"),
        ({"operator": "AND"}, "lacks 'conditions'"),
        ({"operator": "OR", "conditions": []}, r"(?s)OR has no conditions.*not empty"),
        ({"operator": "OR", "conditions": ["x"]}, "a filter is not a mapping"),
        (
            {"field": "score", "operator": ">", "value": 1},
            r"(?s)filters cannot read this field.*content, id or meta.KEY",
        ),
        (
            {"field": "meta.n", "operator": "==", "value": [1]},
            r"(?s)cannot compare with this value.*field 'n'.*got: \[1\]",
        ),
        ({"field": "meta.n", "operator": ">", "value": "1"}, r"(?s)only numbers and dates can be ordered.*2025-02-03"),
        ({"field": "meta.n", "operator": ">", "value": True}, "only numbers and dates"),
        ({"field": "meta.n", "operator": "in", "value": "1"}, "need a list"),
        ({"field": "id", "operator": ">", "value": "d1"}, "ids cannot be ordered"),
        ({"field": "id", "operator": "==", "value": 1}, "an id is not text"),
    ],
)
def test_what_cannot_be_said_in_qdrants_words_is_refused(
    store: DiptychDocumentStore, filters: dict[str, Any], message: str
) -> None:
    with pytest.raises(FilterError, match=message) as caught:
        store.filter_documents(filters)
    assert isinstance(caught.value, SearchError)
