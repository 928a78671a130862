"""What diptych asks of a store, the same on each: pages, writes, deletions, points that are gone, aliases, failures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models as m
from qdrant_client.client_base import QdrantBase

from diptych.errors import PopulateError
from diptych.populate.store import PointStore, Refused, Store
from named_server import STORES, emptied_store, require_vector_names
from store_calls import StoreCalls

NAMES = {"d": m.VectorParams(size=2, distance=m.Distance.DOT), "e": m.VectorParams(size=2, distance=m.Distance.DOT)}
ODD = m.Filter(must=[m.FieldCondition(key="odd", match=m.MatchValue(value=True))])


@pytest.fixture(params=list(STORES))
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QdrantBase]:
    with emptied_store(tmp_path, request.param) as opened:
        opened.create_collection("c", NAMES, sparse_vectors_config={"s": m.SparseVectorParams()})
        yield opened


@pytest.fixture
def store(client: QdrantBase, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Of twenty points."""
    monkeypatch.setattr("diptych.populate.store.FIRST_PAUSE", 0.0)
    store = Store(client, "c", retries=2, stopped=threading.Event())
    store.upsert([point(number) for number in range(20)])
    return store


def point(number: int, **payload: Any) -> m.PointStruct:
    sparse = m.SparseVector(indices=[number], values=[1.0])
    kept = {"odd": number % 2 == 1, "_diptych": {"id": f"d{number}"}, **payload}
    return m.PointStruct(id=number, vector={"d": [1.0, float(number)], "s": sparse}, payload=kept)


def ids(store: PointStore, *args: Any) -> list[list[Any]]:
    return [[record.id for record in records] for records, _ in store.pages(7, *args, payload=False)]


def test_pages_hold_every_point_once_from_any_start_and_by_a_filter(store: Store) -> None:
    assert ids(store) == [[*range(7)], [*range(7, 14)], [*range(14, 20)]]
    assert ids(store, 15) == [[15, 16, 17, 18, 19]]
    assert ids(store, None, ODD) == [[1, 3, 5, 7, 9, 11, 13], [15, 17, 19]]
    assert (store.count(), store.count(ODD)) == (20, 10)


def test_records_are_those_that_exist_with_what_is_asked_for(store: Store) -> None:
    (record,) = store.records([3, 99], payload=["odd"], vectors=["d"])
    assert (record.id, record.payload, record.vector) == (3, {"odd": True}, {"d": [1.0, 3.0]})
    (whole,) = store.records([3], vectors=True)
    assert whole.vector == {"d": [1.0, 3.0], "s": m.SparseVector(indices=[3], values=[1.0])}


def test_an_upsert_replaces_a_point_whole_and_a_deletion_takes_it_away(store: Store) -> None:
    store.upsert([m.PointStruct(id=3, vector={"e": [1.0, 1.0]}, payload={"new": 1})])
    (record,) = store.records([3], vectors=True)
    assert (record.payload, record.vector) == ({"new": 1}, {"e": [1.0, 1.0]})
    store.delete([3, 4, 99])
    assert store.count() == 18
    assert store.records([3, 4]) == []


def test_vectors_and_payloads_are_added_to_the_points_that_are_left(store: Store) -> None:
    vectors = [m.PointVectors(id=number, vector={"e": [2.0, float(number)]}) for number in (1, 2, 99)]
    assert store.add_vectors(vectors) == {99}
    assert store.add_payload({1: {"seen": 1}, 98: {"seen": 2}}) == {98}
    assert store.add_payload({2: {"media": 3}}, key="_diptych") == set()
    one, two = store.records([1, 2], vectors=["d", "e"])
    assert (one.payload or {})["seen"] == 1
    assert (two.payload or {})["_diptych"] == {"id": "d2", "media": 3}
    assert (one.vector, two.vector) == ({"d": [1.0, 1.0], "e": [2.0, 1.0]}, {"d": [1.0, 2.0], "e": [2.0, 2.0]})


def test_documents_are_listed_over_pages_without_points_of_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych.populate.store.PAGE", 3)
    store.client.upsert("c", [m.PointStruct(id=50, vector={"d": [1.0, 0.0]}, payload={"text": "of others"})])
    assert sorted(store.documents()) == [(number, f"d{number}", None) for number in range(20)]


@pytest.mark.parametrize("wrong", [{"d": [1.0, 2.0, 3.0]}, {"none": [1.0, 2.0]}], ids=["dimension", "name"])
def test_points_that_do_not_fit_are_refused_and_change_nothing(store: Store, wrong: Any) -> None:
    with pytest.raises(Refused):
        store.upsert([point(1, new=True), m.PointStruct(id=60, vector=wrong, payload={})])
    assert store.count() == 20


def test_a_failure_that_passes_is_tried_again_and_one_that_stays_is_told(store: Store) -> None:
    calls = StoreCalls(store.client)
    calls.break_at(1, error=ConnectionError)
    assert store.count() == 20
    calls.break_at(1, "after", ConnectionError)
    store.delete([1])
    assert calls.counts == {"count": 2, "delete": 2}
    store.name = "nowhere"
    with pytest.raises(PopulateError, match=r"cannot read from the store\n  where: collection 'nowhere'"):
        store.count()
    assert calls.counts["count"] == 3


def test_an_alias_leads_to_its_collection_and_moves_at_once(store: Store) -> None:
    client = store.client
    client.update_collection_aliases(
        [m.CreateAliasOperation(create_alias=m.CreateAlias(collection_name="c", alias_name="c.alias"))]
    )
    through = PointStore(client, "c.alias", retries=0, stopped=threading.Event())
    through.upsert([point(70)])
    assert store.count() == through.count() == 21
    client.update_collection_aliases([m.DeleteAliasOperation(delete_alias=m.DeleteAlias(alias_name="c.alias"))])
    with pytest.raises(PopulateError):
        through.count()


def test_each_kind_of_vector_answers_a_query(store: Store) -> None:
    def best(query: Any, using: str) -> list[Any]:
        return [found.id for found in store.client.query_points("c", query, using=using, limit=2).points]

    assert best([0.0, 1.0], "d") == [19, 18]
    assert best(m.SparseVector(indices=[7], values=[1.0]), "s") == [7]


def test_a_vector_is_added_by_name_and_dropped(store: Store) -> None:
    if not hasattr(store.client, "create_vector_name"):
        pytest.skip("this client adds no vectors")
    require_vector_names(store.client)
    late = m.DenseVectorNameConfig(dense=m.DenseVectorConfig(size=2, distance=m.Distance.DOT))
    store.client.create_vector_name("c", "late", late)
    store.add_vectors([m.PointVectors(id=1, vector={"late": [1.0, 0.0]})])
    assert store.records([1], vectors=["late"])[0].vector == {"late": [1.0, 0.0]}
    store.client.delete_vector_name("c", "late")
    assert store.records([1], vectors=True)[0].vector == point(1).vector
