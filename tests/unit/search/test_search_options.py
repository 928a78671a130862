"""The keywords of every search: declared once, and refused where a search does not take them."""

from __future__ import annotations

from typing import Any

import pytest

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.errors import SearchError
from diptych.search import Retrieve, SearchOptions
from diptych.testing import fakes_plugin

DENSE = {"dense": {"adapter": "fake-dense", "dimension": 16}}


@pytest.fixture
def collection() -> Collection:
    config = parse_config({"store": "memory:", "collection": "c", "slots": DENSE})
    opened = Collection.open(config, registry=Registry(fakes_plugin, installed=False))
    opened.populate([{"id": str(n), "text": f"word{n}"} for n in range(9)])
    return opened


def test_one_value_serves_every_search(collection: Collection) -> None:
    options: SearchOptions = {"limit": 3, "offset": 1, "with_payload": False, "pipeline": Retrieve("dense")}
    hits = collection.search("word3", **options)
    assert len(hits) == 3
    assert collection.search_batch(["word3"], **options) == [hits]


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("limit", 0, "at least 1"),
        ("limit", True, "a whole number"),
        ("limit", 2.5, "a whole number"),
        ("offset", -1, "at least 0"),
        ("filter", "parity=odd", "a Filter of qdrant_client, or its JSON"),
        ("where", "parity=odd", 'a mapping: {"section": "mail"}'),
        ("params", {"exact": True}, "qdrant_client.models.SearchParams"),
        ("tenant", 3, "text"),
        ("boost", 3, "Boost(...), or a list of its parts"),
        *((name, value, "a list") for name in ("pin", "exclude", "like", "unlike") for value in ("d1", 3)),
        *((name, [1], "text") for name in ("pin", "exclude")),
        *((name, [""], "at least 1 character") for name in ("pin", "exclude")),
        *((name, [*map(str, range(1001))], "at most 1000 items") for name in ("pin", "exclude")),
        *((name, [*map(str, range(33))], "at most 32 items") for name in ("like", "unlike")),
        ("like", [3], 'an id, or a text as Query("a text") or {"text": "a text"}'),
        ("pipeline", 7, "diptych.search.Pipeline or Retrieve, or a name"),
        ("score_threshold", float("nan"), "a finite number"),
        ("score_threshold", 1e39, "at most 3.4e+38"),
        ("score_threshold", "high", "a number"),
        ("with_payload", "text", "true, false or a list of keys"),
        ("with_payload", [3], "true, false or a list of keys"),
        ("passages", 1001, "at most 1000"),
        ("highlight", 1, "true or false"),
    ],
)
def test_an_option_of_another_type_or_size_is_refused(
    collection: Collection, option: str, value: Any, expected: str
) -> None:
    with pytest.raises(SearchError) as refused:
        collection.search("word3", **{option: value})
    assert (refused.value.what, refused.value.expected) == (f"{option} is not usable", expected)
    assert str(refused.value.where).startswith(f"search.{option}")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("limt", "search() got an unexpected keyword argument 'limt': did you mean 'limit'?"),
        ("k", "search() got an unexpected keyword argument 'k': did you mean 'limit'?"),
        ("filters", "search() got an unexpected keyword argument 'filters': did you mean 'filter'?"),
        ("zzz", "search() got an unexpected keyword argument 'zzz': it takes limit, filter, where, params, "),
    ],
)
def test_an_unknown_keyword_is_told_the_one_that_may_be_meant(collection: Collection, option: str, said: str) -> None:
    with pytest.raises(TypeError) as told:
        collection.search("word3", **{option: 3})  # type: ignore[arg-type]
    assert str(told.value).startswith(said)


def test_groups_take_no_offset_and_vectors_no_second_pipeline(collection: Collection) -> None:
    with pytest.raises(TypeError, match="offset"):
        collection.search_groups("word3", group_by="section", offset=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="pipeline"):
        collection.search_by_vector([0.0] * 16, Retrieve("dense"), pipeline="dense")  # type: ignore[call-arg]
