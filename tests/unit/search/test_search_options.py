"""The keywords of every search: declared once, and refused where a search does not take them."""

from __future__ import annotations

import pytest

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.search import Retrieve, SearchOptions
from diptych.search.options import Options
from diptych.testing import fakes_plugin

DENSE = {"dense": {"adapter": "fake-dense", "dimension": 16}}


@pytest.fixture
def collection() -> Collection:
    config = parse_config({"store": "memory:", "collection": "c", "slots": DENSE})
    opened = Collection.open(config, registry=Registry(fakes_plugin, installed=False))
    opened.populate([{"id": str(n), "text": f"word{n}"} for n in range(9)])
    return opened


def test_options_hold_a_default_for_each_keyword_of_a_search() -> None:
    assert {*Options._fields} == {*SearchOptions.__annotations__} == {*Options._field_defaults}


def test_one_value_serves_every_search(collection: Collection) -> None:
    options: SearchOptions = {"limit": 3, "offset": 1, "with_payload": False, "pipeline": Retrieve("dense")}
    hits = collection.search("word3", **options)
    assert len(hits) == 3
    assert collection.search_batch(["word3"], **options) == [hits]


@pytest.mark.parametrize("name", ["search", "search_batch"])
def test_a_keyword_that_no_search_takes_is_refused(collection: Collection, name: str) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'limt'"):
        getattr(collection, name)(["word3"], limt=3)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("limt", "search() got an unexpected keyword argument 'limt': did you mean 'limit'?"),
        ("k", "search() got an unexpected keyword argument 'k': did you mean 'limit'?"),
        ("filters", "search() got an unexpected keyword argument 'filters': did you mean 'filter'?"),
        ("zzz", "search() got an unexpected keyword argument 'zzz': it takes pipeline, limit, offset, filter, "),
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
