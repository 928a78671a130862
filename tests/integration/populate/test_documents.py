"""Documents read and deleted by their ids, or by a filter."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from diptych import Collection, Document, Registry, hookimpl
from diptych.config import parse_config
from diptych.errors import CollectionError, SearchError
from diptych.handle.collection_handle import CollectionHandle
from diptych.testing import fakes_plugin

DOCUMENTS = [
    Document("a", "convert audio files", "lame", {"section": "sound"}),
    Document("7", "edit pictures"),
    Document("c/3", "read mail"),
]


class PointsByMetadata:
    """A plugin that chooses points by what only the whole document says."""

    @hookimpl
    def diptych_point_id(self, document: Document) -> int | None:
        return 100 + len(document.text)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"edge:{tmp_path}"


def opened(url: str, *plugins: object) -> Collection:
    slots = {"dense": {"adapter": "fake-dense"}}
    config = parse_config({"store": url, "collection": "things", "slots": slots, "cache": {"enabled": False}})
    return Collection.open(config, registry=Registry(fakes_plugin, *plugins))


def test_documents_come_back_whole_in_the_order_asked_for(url: str) -> None:
    with opened(url) as things:
        things.populate(DOCUMENTS)
        assert things.get(["c/3", "nobody", "a", "a"]) == [DOCUMENTS[2], DOCUMENTS[0]]


def test_deleting_counts_what_was_there_and_leaves_the_rest(url: str) -> None:
    with opened(url) as things:
        things.populate(DOCUMENTS)
        assert things.delete(["a", "nobody"]) == 1
        assert things.delete(["a"]) == 0
        assert things.count() == 2
        assert things.get(["a", "7"]) == [DOCUMENTS[1]]


def test_documents_that_match_are_deleted_and_counted(url: str) -> None:
    with opened(url) as things:
        assert things.delete(where={"n": 1}) == 0  # before the first populate
        things.populate(Document(f"d{n}", f"text {n}", metadata={"n": n % 3, "big": n >= 1200}) for n in range(1500))
        assert things.delete(where={"n": 1}) == 500
        assert things.delete(where={"n": 1}) == 0
        big = {"must": [{"key": "big", "match": {"value": True}}]}
        assert things.delete(filter=big, where={"n": 2}) == 100
        assert things.delete(filter=things.having(["d0", "d2"]), where={"n": 2}) == 1
        assert things.count() == 899
        assert not [found for found in things.documents() if found.metadata["n"] == 1]
        assert [found.id for found in things.get(["d0", "d1", "d2"])] == ["d0"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "no condition is given"),
        ({"where": {}}, "no condition is given"),
        ({"filter": models.Filter(must=[])}, "no condition is given"),
        ({"ids": ["a"], "where": {"n": 1}}, "ids and a filter do not go together"),
    ],
)
def test_what_names_no_documents_or_names_them_twice_deletes_none(
    url: str, arguments: dict[str, Any], text: str
) -> None:
    with opened(url) as things:
        things.populate(DOCUMENTS)
        with pytest.raises(CollectionError, match=text):
            things.delete(**arguments)
        assert things.count() == 3


def test_more_ids_than_a_page_holds(url: str) -> None:
    many = [Document(f"d{n}", f"text {n}") for n in range(1500)]
    with opened(url) as things:
        things.populate(many)
        ids = [document.id for document in many]
        assert things.get(ids) == many
        assert things.delete(ids[:-1]) == 1499


def test_points_that_a_plugin_chose_are_found_by_what_they_say(url: str) -> None:
    with opened(url, PointsByMetadata()) as things:
        things.populate(DOCUMENTS)
        assert things.get(["a"]) == [DOCUMENTS[0]]
        assert things.delete(["a", "7"]) == 2


def test_a_point_that_another_program_wrote_has_its_own_id(url: str) -> None:
    with opened(url) as things:
        things.populate(DOCUMENTS)
        numbers = [1.0] * things.encoders["dense"].dimension
        point = models.PointStruct(id=12, vector={"dense.1": numbers}, payload={"text": "foreign"})
        things.client.upsert("things", [point])
        assert things.get(["12"]) == [Document("12", "foreign")]
        assert things.delete(["12"]) == 1


def test_one_text_is_no_list_of_ids(url: str) -> None:
    with opened(url) as things, pytest.raises(CollectionError, match=r"(?s)ids are not a list.*'abc'"):
        things.get("abc")


def test_documents_are_read_by_a_filter_and_all_without_one(url: str) -> None:
    many = [Document(f"d{n}", f"text {n}", metadata={"parity": n % 2}) for n in range(1500)]
    odd = models.Filter(must=[models.FieldCondition(key="parity", match=models.MatchValue(value=1))])
    with opened(url) as things:
        assert list(things.documents()) == []
        things.populate(many)
        assert sorted(document.id for document in things.documents()) == sorted(document.id for document in many)
        assert {document.id for document in things.documents(odd)} == {document.id for document in many[1::2]}
        assert next(things.documents(things.having(["d3"]))) == many[3]


def test_documents_are_counted_whole_or_by_a_filter(url: str) -> None:
    with opened(url) as things:
        assert things.count() == 0
        things.populate(DOCUMENTS)
        sound = models.Filter(must=[models.FieldCondition(key="section", match=models.MatchValue(value="sound"))])
        assert (things.count(), things.count(sound)) == (3, 1)
        assert things.count(sound.model_dump(exclude_none=True)) == things.count(where={"section": "sound"}) == 1
        assert [one.metadata["section"] for one in things.documents(where={"section": ["sound"]})] == ["sound"]
        with pytest.raises(SearchError, match=r"(?s)filter is not a Qdrant filter.*where=\{"):
            things.count({"section": "sound"})


@pytest.mark.parametrize("plugins", [(), (PointsByMetadata(),)], ids=["own points", "chosen points"])
def test_a_filter_of_ids_holds_for_these_documents_alone(url: str, plugins: tuple[object, ...]) -> None:
    with opened(url, *plugins) as things:
        things.populate(DOCUMENTS)
        found = things.search("files", filter=things.having(["a", "7", "nobody"]), limit=10)
        assert {hit.id for hit in found} == {"a", "7"}
        assert things.search("files", filter=things.having([]), limit=10) == []


@pytest.mark.parametrize("key", ["section", "x y", "a/b", "größe", "at.x y", "k-1", "tags[]"])
def test_filters_find_keys_of_any_signs(url: str, key: str) -> None:
    metadata = {"section": 3, "x y": 3, "a/b": 3, "größe": 3, "at": {"x y": 3}, "k-1": 3, "tags": [2, 3]}
    with opened(url) as things:
        things.populate([Document("a", "text", metadata=metadata)])
        three = models.FieldCondition(key=things.field(key), match=models.MatchValue(value=3))
        assert things.count(models.Filter(must=[three])) == 1


def test_first_populates_at_the_same_time_make_one_collection(url: str, tmp_path: Path) -> None:
    with opened(url) as things, ThreadPoolExecutor(4) as pool:
        batches = [[Document(f"{part}-{n}", f"text {part} {n}") for n in range(20)] for part in range(4)]
        reports = [tmp_path / f"{part}.jsonl" for part in range(4)]
        made = [pool.submit(things.populate, own, report_path=at) for own, at in zip(batches, reports, strict=True)]
        assert [future.result().new for future in made] == [20] * 4
        assert things.count() == 80


def test_two_openings_through_one_client_make_one_collection(url: str, tmp_path: Path) -> None:
    with opened(url) as first, ThreadPoolExecutor(2) as pool:
        second = Collection(CollectionHandle(first.client, "things", first.handle.config, first.handle.registry))
        both = zip((first, second), ("a", "b"), strict=True)
        made = [
            pool.submit(things.populate, [Document(own, "text")], report_path=tmp_path / f"{own}.jsonl")
            for things, own in both
        ]
        assert [future.result().new for future in made] == [1, 1]
        assert first.count() == 2


def test_local_mode_takes_populates_of_several_threads(tmp_path: Path) -> None:
    with opened("memory:") as things, ThreadPoolExecutor(6) as pool:
        things.populate([Document("first", "text")])
        made = [
            pool.submit(things.populate, [Document(f"{n}", f"text {n}")], report_path=tmp_path / f"{n}.jsonl")
            for n in range(60)
        ]
        assert sum(future.result().new for future in made) == 60
        assert things.count() == 61
