"""What searches return is the list that it always was, and a data frame and a picture as well."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from diptych import Collection, Document, Hit, Query, Registry, frames
from diptych.config import parse_config
from diptych.errors import MissingExtra
from diptych.search import Answers, HitGroups, Hits, Retrieve

FOUND = [Hit(Document(f"d{n}", f"text {n}"), 1.0 - n / 10) for n in range(4)]


@pytest.fixture(scope="module")
def shop(fakes: Registry) -> Iterator[Collection]:
    slots = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-sparse", "uses_idf": True}}
    with Collection.open(
        parse_config({"store": "memory:", "collection": "shop", "slots": slots}), registry=fakes
    ) as own:
        own.populate([Document(f"d{n}", f"word{n} word{n + 1}", metadata={"kind": n % 2}) for n in range(6)])
        yield own


def test_hits_are_the_list_that_they_were() -> None:
    hits = Hits(FOUND, query="q")
    assert isinstance(hits, list)
    assert (hits, repr(hits), orjson.dumps(hits)) == (FOUND, repr(FOUND), orjson.dumps(FOUND))
    assert hits + hits[:1] == FOUND + FOUND[:1]
    assert sorted(hits, key=lambda hit: hit.score) == FOUND[::-1]
    assert not Hits()


def test_a_slice_is_hits_and_knows_the_query() -> None:
    hits = Hits(FOUND, query="q")
    for part in (hits[1:3], hits[::-1], hits[:0]):
        assert isinstance(part, Hits)
        assert part.query == "q"
    assert hits[1:3] == FOUND[1:3]
    assert "2 hits for “q”" in hits[1:3]._repr_html_().replace("<bdi>", "").replace("</bdi>", "")


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda own: pickle.loads(pickle.dumps(own))])
def test_copies_are_equal_and_hold_no_store(copied: Callable[[Any], Any]) -> None:
    class Store:
        def read(self, points: list[int]) -> dict[int, bytes]:
            raise AssertionError("a copy has no store")

        def __deepcopy__(self, memo: object) -> Store:
            raise AssertionError("a store is not copied")

    hits = Hits([dataclasses.replace(hit, point=1) for hit in FOUND], query=Query("q", "id"), store=Store())  # type: ignore[arg-type]
    found = copied(hits)
    assert type(found) is Hits
    assert found == FOUND
    assert found.query == Query("q", "id")
    assert found.thumbnails() == {}
    answers = copied(Answers([hits], queries=["q"]))
    assert (type(answers), answers, answers.queries) == (Answers, [FOUND], ("q",))


def test_every_search_returns_them_with_what_was_asked(shop: Collection) -> None:
    query = Query("word1 word2", "q1")
    found = shop.search(query, limit=3)
    assert type(found) is Hits
    assert found.query == query
    assert found.thumbnails() == {}
    later = asyncio.run(shop.asearch("word1 word2", limit=3))
    assert (type(later), later.query, later) == (Hits, "word1 word2", found)
    (vector,) = shop.encoders["dense"].encode_query(["word1"])
    by_vector = shop.search_by_vector(vector, Retrieve("dense"), limit=2)
    assert (type(by_vector), by_vector.query, len(by_vector)) == (Hits, "", 2)
    several = shop.search_batch(["word1 word2", query], limit=3)
    assert type(several) is Answers
    assert several == [found, found]
    assert several.queries == ("word1 word2", query)
    assert all(type(own) is Hits for own in several)
    groups = shop.search_groups("word1", group_by="kind")
    assert (type(groups), groups.query) == (HitGroups, "word1")
    assert "2 groups" in groups._repr_html_()
    explained = shop.explain("word1 word2", limit=2)
    assert explained.query == "word1 word2"
    assert explained == [*explained]
    assert "2 documents" in explained._repr_html_()


def test_they_become_data_frames(shop: Collection) -> None:
    pandas = pytest.importorskip("pandas")
    found = shop.search("word1 word2", limit=3)
    pandas.testing.assert_frame_equal(found.to_pandas(), frames.to_pandas([*found]))
    assert list(found[:2].to_pandas()["id"]) == [hit.id for hit in found[:2]]
    queries: list[str | Query] = ["word1", Query("word2", "q2")]
    several = shop.search_batch(queries, limit=2)
    pandas.testing.assert_frame_equal(several.to_pandas(), frames.to_pandas([*several], queries))
    assert list(several.to_pandas()["query"]) == ["word1", "word1", "q2", "q2"]
    del several[0]
    with pytest.raises(ValueError, match="argument"):
        several.to_pandas()


@pytest.mark.parametrize("found", [Hits(FOUND), Answers([FOUND], queries=["q"])])
def test_without_pandas_the_error_says_so(found: Hits | Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"needs pandas\n.*pip install pandas"):
        found.to_pandas()


def test_words_of_an_explanation_are_those_that_match_in_its_text(shop: Collection) -> None:
    (explanation,) = shop.explain("word1 word9", ids=["d1"])
    text = explanation.document.text
    assert [text[begin:end] for begin, end in explanation.words] == ["word1"]
    assert explanation.as_dict()["words"] == [[0, 5]]
    assert ">word1</mark> word2" in explanation._repr_html_()
