"""The setting: asked for, kept in the collection, and told where two differ."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError
from qdrant_client import models

from diptych import Collection, Query, Registry
from diptych.config import Config
from diptych.errors import CollectionError, SearchError, TenantError
from diptych.evaluate import Qrels
from diptych.evaluate.ask import ask
from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.store import raw_metadata
from diptych.search import Pipeline, Retrieve
from diptych.stores.versions import is_local
from diptych.swap import ApplyOptions
from diptych.swap.gate.gate import Judged
from named_server import clear

from .conftest import SLOTS, Open, documents

QUESTIONS: dict[str, Callable[[Collection], Any]] = {
    "search": lambda c: c.search("red"),
    "search_batch": lambda c: c.search_batch(["red"]),
    "asearch": lambda c: asyncio.run(c.asearch("red")),
    "search_by_vector": lambda c: c.search_by_vector([1.0] * 8, Retrieve("dense")),
    "search_groups": lambda c: c.search_groups("red", group_by="customer"),
    "scores": lambda c: c.scores(["red"], [["1"]], slot="dense"),
    "explain": lambda c: c.explain("red"),
    "get": lambda c: c.get(["1"]),
    "delete": lambda c: c.delete(["1"]),
    "documents": lambda c: c.documents(),
    "having": lambda c: c.having(["1"]),
    "count": lambda c: c.count(models.Filter(must=[])),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_without_a_tenant_is_an_error_that_teaches(filled: Collection, question: str) -> None:
    with pytest.raises(TenantError, match=r"(?s)a tenant is required.*'customer'.*for_tenant") as caught:
        QUESTIONS[question](filled)
    assert not isinstance(caught.value, SearchError)
    assert filled.count() == 24


def test_the_answers_of_a_narrow_view_are_those_of_the_question_with_its_tenant(filled: Collection) -> None:
    b, lexical = filled.for_tenant("b"), Retrieve("lexical")  # documents of equal texts tie, and ties come as they like
    scores = [hit.score for hit in b.search("red", pipeline=lexical)]
    assert scores == [hit.score for hit in filled.search("red", pipeline=lexical, tenant="b")] != []
    assert b.get(["3"]) == filled.get(["3"], tenant="b")
    assert [explanation.score for explanation in b.explain("red", pipeline=lexical)] == scores
    assert b.scores(["red"], [["0", "3"]], slot="lexical") == filled.scores(
        ["red"], [["0", "3"]], slot="lexical", tenant="b"
    )
    assert len(b.encoders["dense"].encode_query(["red"])) == 1
    assert repr(b) == f"TenantCollection('{filled.name}', 'b')"


@pytest.mark.parametrize("tenant", ["b", "", None, 7, ["a"]])
def test_a_narrow_view_gives_no_other_tenants_view_and_answers_for_none(filled: Collection, tenant: Any) -> None:
    a = filled.for_tenant("a")
    assert (repr(a.for_tenant("a")), a.client) == (repr(a), filled.client)
    with pytest.raises(TenantError, match="one tenant's view"):
        a.for_tenant(tenant)
    if tenant == "b":
        with pytest.raises(TenantError, match="one tenant's view"):
            a.search("red", tenant=tenant)
        assert a.search("red", tenant="a")
    else:
        with pytest.raises(TenantError, match="not a valid tenant"):
            filled.for_tenant(tenant)


def test_the_field_has_the_index_of_tenants(filled: Collection) -> None:
    if is_local(filled.client):
        pytest.skip("local mode has no payload indexes")
    index = filled.client.get_collection(filled.name).payload_schema["customer"]
    assert isinstance(index.params, models.KeywordIndexParams)
    assert index.params.is_tenant


def test_an_index_that_is_there_already_stays(opened: Open) -> None:
    collection = opened(populate={"indexes": {"customer": "keyword", "kind": "integer"}})
    collection.populate(documents())
    collection.populate(documents())
    assert len(collection.search("red", tenant="a")) == 8


def test_whoever_opens_the_collection_by_name_must_name_a_tenant_too(filled: Collection, fakes: Registry) -> None:
    for opened in (Collection.open, Collection.stored):
        collection = opened(filled.client, filled.name, registry=fakes)
        with pytest.raises(TenantError):
            collection.search("red")
        assert {hit.document.metadata["customer"] for hit in collection.search("red", tenant="a")} == {"a"}
    assert raw_metadata(filled.client, filled.name)["diptych"]["tenancy"] == {
        "field": "customer", "required": True, "shard_keys": False
    }  # fmt: skip


@pytest.mark.parametrize("tenant", [{"field": "kind"}, {"field": "customer", "required": False}])
def test_a_config_that_asks_for_other_tenants_is_refused(opened: Open, fakes: Registry, tenant: Any) -> None:
    collection = opened()
    collection.populate(documents())
    other = Config.model_validate({"collection": collection.name, "slots": SLOTS, "tenant": tenant})
    with pytest.raises(CollectionError, match=r"(?s)define tenants differently.*field: customer, required: True"):
        collection.plan(other)
    with pytest.raises(CollectionError, match="define tenants differently"):
        collection.apply(other)


def test_a_collection_without_tenants_tells_that_it_has_none(opened: Open) -> None:
    collection = opened(tenant=None)
    collection.populate(documents("a"))
    assert "tenancy" not in raw_metadata(collection.client, collection.name)["diptych"]
    assert len(collection.search("red")) == 8
    for refused in (lambda: collection.search("red", tenant="a"), lambda: collection.for_tenant("a")):
        with pytest.raises(TenantError, match="the collection has no tenants"):
            refused()
    with pytest.raises(TenantError, match="the collection has no tenants"):
        collection.populate(documents("a"), tenant="a")


def test_a_swap_of_encoders_goes_over_all_tenants(opened: Open) -> None:
    slots = {"dense": SLOTS["dense"]}
    collection = opened(slots=slots)
    collection.populate(documents())
    wider = {"dense": {"adapter": "fake-dense", "dimension": 16}}
    config = Config.model_validate({"collection": collection.name, "slots": wider, "tenant": {"field": "customer"}})
    report = collection.apply(config, ApplyOptions(unmeasured=True))
    assert (report.outcome, sum(report.encoded.values())) == ("cut over", 24)
    with pytest.raises(TenantError):
        collection.search("red")
    assert {hit.document.metadata["customer"] for hit in collection.search("red", tenant="c")} == {"c"}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"tenant": {"field": "a.b"}}, "tenant.field"),
        ({"tenant": {"field": "text"}}, "a metadata key, not text"),
        ({"tenant": {}}, "tenant.field"),
        ({"tenant": {"field": "customer"}, "populate": {"indexes": {"customer": "text"}}}, "indexed as keyword"),
        ({"tenant": {"field": "customer", "shard_keys": True}}, "an embedded store is one shard"),
        (
            {"store": "http://q:6333", "tenant": {"field": "c", "shard_keys": True, "required": False}},
            "a document without a tenant would have no shard key",
        ),
        (
            {"store": "http://q:6333", "tenant": {"field": "c", "shard_keys": True}, "cluster": {"shard_by": "other"}},
            "the tenant's field gives the shard keys",
        ),
    ],
)
def test_a_section_that_cannot_be_is_told_with_its_place(parts: dict[str, Any], said: str) -> None:
    with pytest.raises((ValidationError, Exception), match=said):
        Config.model_validate({"collection": "c", "slots": SLOTS, **parts})


def test_a_judged_gate_goes_over_all_tenants_also_where_they_have_the_same_ids(opened: Open) -> None:
    collection = opened(slots={"dense": SLOTS["dense"]})
    collection.populate(documents())
    judged = Judged(
        [Query("red green", "q1"), Query("blue pink", "q2")], Qrels({"q1": {"1": 1}, "q2": {"2": 1}}), "P@1"
    )
    slots = {"dense": {"adapter": "fake-dense", "dimension": 16}}
    config = Config.model_validate({"collection": collection.name, "slots": slots})
    report = collection.apply(config, ApplyOptions(judged=judged, ignore_gate=True))
    assert report.outcome == "cut over"
    assert report.gate is not None
    assert report.gate.judged is not None


def test_evaluations_are_a_tenants_own(filled: Collection) -> None:
    queries = [Query("red green", "q1"), Query("blue pink", "q2")]
    pipeline = Pipeline((Retrieve("lexical"),))
    with pytest.raises(TenantError):
        ask(filled.handle, queries, pipeline=pipeline, depth=20)
    asked = ask(filled.handle, queries, pipeline=pipeline, depth=20, tenant="a")
    assert all(len(hits) == len({hit.id for hit in hits}) for hits in asked)


def test_a_process_that_serves_follows_a_collection_that_is_made_anew_with_tenants(
    opened: Open, fakes: Registry
) -> None:
    collection = opened(tenant=None)
    collection.populate(documents("a"))
    serving = Collection.open(collection.client, collection.name, registry=fakes)
    assert serving.search("red")
    clear(collection.client, collection.name)
    given = {"collection": collection.name, "slots": SLOTS, "tenant": {"field": "customer"}}
    handle = CollectionHandle(collection.client, collection.name, Config.model_validate(given), fakes)
    Collection(handle).populate(documents("a"))
    serving.handle.catch_up()
    with pytest.raises(TenantError):
        serving.search("red")
