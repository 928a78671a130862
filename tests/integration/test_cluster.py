"""What a config says of shards, replicas and consistency reaches the server with every request."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from qdrant_client import models

from diptych import Collection
from diptych.config import Config, load_config
from diptych.config.storage import ClusterConfig
from diptych.copying import copy_collection
from diptych.errors import ConfigError
from diptych.registry import Registry
from diptych.search import Dbsf, Pipeline, Rescore, Retrieve, Rrf
from diptych.stores import open_store
from diptych.swap.changes import spread_warnings

SLOTS = {"dense": {"adapter": "fake-dense", "dimension": 8}}
PAIR = Retrieve("dense", 10) + Retrieve("other", 10)
Open: TypeAlias = Callable[..., Collection]
DOCUMENTS = [{"id": str(i), "text": f"words of number {i}", "tenant": ("eu", "us")[i % 2]} for i in range(6)]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def config(server: Any, *, slots: Any = SLOTS, **cluster: Any) -> Config:
    return Config.model_validate({"store": server.url, "collection": "c", "slots": slots, "cluster": cluster})


@pytest.fixture
def server(small_server: Callable[..., Any]) -> Any:
    return small_server()


@pytest.fixture
def opened(server: Any, fakes: Registry) -> Open:
    """Opens the collection on the server, with what a config says of its cluster, and fills it."""

    def open_filled(**cluster: Any) -> Collection:
        collection = Collection.open(config(server, **cluster), registry=fakes)
        assert collection.populate(DOCUMENTS).new == len(DOCUMENTS)
        return collection

    return open_filled


def asked(server: Any, method: str, path: str) -> list[tuple[str, Any]]:
    """The query and the body of each request to a route."""
    found = [(p.partition("?"), body) for m, p, body in server.requests if m == method]
    return [(query, body) for (place, _, query), body in found if place == path]


def points(server: Any) -> dict[str, Any]:
    return {record.payload["_diptych"]["id"]: record.payload for record in server.store.scroll("c", limit=100)[0]}


def test_a_collection_is_made_of_the_shards_and_replicas_of_the_config(server: Any, opened: Open) -> None:
    with opened(shards=6, replicas=2, write_consistency=2, ordering="strong", read_consistency="quorum") as collection:
        assert len(collection.search("words", limit=2)) == 2
    ((_, made),) = asked(server, "PUT", "/collections/c")
    assert (made["shard_number"], made["replication_factor"], made["write_consistency_factor"]) == (6, 2, 2)
    assert made.get("sharding_method") is None
    assert [query for query, _ in asked(server, "PUT", "/collections/c/points")] == ["wait=true&ordering=strong"]
    assert [q for q, _ in asked(server, "POST", "/collections/c/points/query/batch")] == ["consistency=quorum"]


@pytest.mark.parametrize(
    ("pipeline", "cluster", "nested"),
    [
        (PAIR >> Rrf(1, {"other": 0.3}), {}, True),
        (PAIR >> Rrf(1, {"other": 0.3}), {"shards": 2}, False),
        (PAIR >> Rrf(1, {"other": 0.3}), {"shard_by": "tenant"}, False),
        (PAIR >> Dbsf() >> Rescore("dense", 5), {"shards": 2}, False),
        (PAIR >> Rrf(), {"shards": 2}, True),
    ],
    ids=str,
)
def test_the_host_fuses_what_the_server_would_fuse_in_each_shard(
    server: Any, opened: Open, fakes: Registry, pipeline: Pipeline, cluster: dict[str, Any], nested: bool
) -> None:
    slots = {**SLOTS, "other": {"adapter": "fake-dense", "dimension": 8, "seed": 1}}
    with opened(slots=slots, **cluster) as collection:
        del server.requests[:]
        found = collection.search("words of number 3", pipeline=pipeline, limit=3)
    searches = [s for _, body in asked(server, "POST", "/collections/c/points/query/batch") for s in body["searches"]]
    assert any(search.get("prefetch") for search in searches) == nested
    single = Config.model_validate({"collection": "c", "store": "memory:", "slots": slots})
    with Collection.open(single, registry=fakes) as one:
        one.populate(DOCUMENTS)
        wanted = one.search("words of number 3", pipeline=pipeline, limit=3)
    assert {hit.id: hit.score for hit in found} == pytest.approx({hit.id: hit.score for hit in wanted}, rel=1e-4)


def test_one_shard_key_for_all_goes_with_writes_and_searches(server: Any, opened: Open) -> None:
    with opened(shard_key="team-7", shards=2) as collection:
        collection.populate(DOCUMENTS[:3], sync=True, max_deleted=1)
        collection.search("words")
    ((_, made),) = asked(server, "PUT", "/collections/c")
    assert (made["sharding_method"], made["shard_number"]) == ("custom", 2)
    assert [body["shard_key"] for _, body in asked(server, "PUT", "/collections/c/shards")] == ["team-7"]
    for method, path in (("PUT", "points"), ("POST", "points"), ("POST", "points/delete"), ("POST", "points/scroll")):
        bodies = [body for _, body in asked(server, method, f"/collections/c/{path}")]
        assert {body["shard_key"] for body in bodies} == {"team-7"}, path
    ((_, batch),) = asked(server, "POST", "/collections/c/points/query/batch")
    assert [search["shard_key"] for search in batch["searches"]] == ["team-7"]


def test_a_metadata_key_decides_the_shard_key_of_each_document(server: Any, fakes: Registry) -> None:
    with Collection.open(config(server, shard_by="tenant"), registry=fakes) as collection:
        bad: list[Any] = [{"id": "none", "text": "no tenant"}, {"id": "list", "text": "no key", "tenant": ["eu"]}]
        report = collection.populate([*DOCUMENTS, *bad])
    assert (report.new, report.set_aside) == (6, 2)
    assert [body["shard_key"] for _, body in asked(server, "PUT", "/collections/c/shards")] == ["eu", "us"]
    sent = [(body["shard_key"], p["payload"]["tenant"]) for _, body in asked(server, "PUT", "/collections/c/points")
            for p in body["points"]]  # fmt: skip
    assert set(sent) == {("eu", "eu"), ("us", "us")}
    assert points(server).keys() == {document["id"] for document in DOCUMENTS}


def test_a_document_that_moves_to_another_key_is_deleted_where_it_was(server: Any, opened: Open) -> None:
    with opened(shard_by="tenant") as collection:
        assert asked(server, "POST", "/collections/c/points/delete") == []
        collection.populate([DOCUMENTS[0] | {"tenant": "us"}])
    ((_, deleted),) = asked(server, "POST", "/collections/c/points/delete")
    assert (deleted["shard_key"], len(deleted["points"])) == ("eu", 1)
    assert points(server)["0"]["tenant"] == "us"


def test_points_that_exist_are_changed_and_deleted_under_the_keys_that_they_have(server: Any, opened: Open) -> None:
    with opened(shard_by="tenant", ordering="medium") as collection:
        client, ids = collection.client, [r.id for r in server.store.scroll("c", limit=100)[0]]
        operations = [
            models.SetPayloadOperation(set_payload=models.SetPayload(payload={"n": 1}, points=[i])) for i in ids
        ]
        client.batch_update_points("c", operations)
        make = models.PointVectors.model_construct
        client.update_vectors("c", [make(id=i, vector={"dense.1": [1.0] * 8}) for i in ids])
        collection.populate(DOCUMENTS[:1], sync=True, max_deleted=1)
    tenant = {str(r.id): r.payload["tenant"] for r in server.store.scroll("c", limit=100)[0]}
    assert list(tenant.values()) == ["eu"]
    ((query, batch),) = asked(server, "POST", "/collections/c/points/batch")
    assert query == "wait=true&ordering=medium"
    assert sorted(o["set_payload"]["shard_key"] for o in batch["operations"]) == ["eu"] * 3 + ["us"] * 3
    updates = [body for _, body in asked(server, "PUT", "/collections/c/points/vectors")]
    assert sorted((body["shard_key"], len(body["points"])) for body in updates) == [("eu", 3), ("us", 3)]
    deletes = [body for _, body in asked(server, "POST", "/collections/c/points/delete")]
    assert sorted((body["shard_key"], len(body["points"])) for body in deletes) == [("eu", 2), ("us", 3)]


@pytest.mark.parametrize("store", ["edge:./qdrant", "memory:"])
def test_shards_of_an_embedded_store_are_an_error_at_the_key(store: str) -> None:
    text = f"store: '{store}'\ncollection: c\nslots: {{dense: {{adapter: fake-dense}}}}\ncluster:\n  shards: 6\n"
    Path("diptych.yaml").write_text(text)
    with pytest.raises(
        ConfigError, match=r"(?s)it has no shards\n  where: diptych.yaml, line 5, cluster.shards.*http\(s\)"
    ):
        load_config("diptych.yaml")


def test_what_is_only_known_when_the_store_is_opened_is_an_error_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "memory:")
    with pytest.raises(ConfigError, match=r"(?s)only a Qdrant server has shards.*cluster\.replicas"):
        open_store("${PLACE}", cluster=ClusterConfig(replicas=2))


def test_two_ways_to_choose_a_shard_key_are_an_error() -> None:
    with pytest.raises(ValueError, match="shard_key gives all documents one key, shard_by each its own"):
        Config.model_validate(
            {"store": "http://h", "collection": "c", "slots": SLOTS, "cluster": {"shard_key": 1, "shard_by": "t"}}
        )


def test_a_plan_says_that_shards_are_changed_by_a_copy(server: Any, opened: Open) -> None:
    with opened(shards=2) as collection:
        wanted = config(server, shards=6, replicas=2, shard_by="tenant")
        plan = collection.plan(wanted)
        assert collection.plan(config(server, shards=2, replicas=1)).warnings == ()
    assert not plan.pending
    assert [warning.partition(":")[0] for warning in plan.warnings] == [
        "cluster.shards", "cluster.replicas", "cluster.shard_by",
    ]  # fmt: skip
    assert "the collection has 2, the config says 6" in plan.warnings[0]
    assert all("diptych copy" in warning for warning in plan.warnings)


@pytest.mark.slow
def test_a_copy_into_a_cluster_is_made_of_its_shards(server: Any, opened: Open, fakes: Registry) -> None:
    with opened() as collection:
        spread = ClusterConfig(shards=6, replicas=2, shard_by="tenant")
        with closing(open_store(server.url, cluster=spread)) as target:
            report = copy_collection(collection.client, "c", target, "d", registry=fakes)
    assert report.points == 6
    ((_, made),) = asked(server, "PUT", "/collections/d")
    assert (made["shard_number"], made["replication_factor"], made["sharding_method"]) == (6, 2, "custom")
    assert {body["shard_key"] for _, body in asked(server, "PUT", "/collections/d/points")} == {"eu", "us"}


def test_a_collection_made_with_shard_keys_asks_for_nothing() -> None:
    params = models.CollectionParams(sharding_method=models.ShardingMethod.CUSTOM, replication_factor=2)
    assert spread_warnings(ClusterConfig(shard_by="t", replicas=2), params) == []


TENANT = {"field": "tenant", "shard_keys": True}


def with_tenants(server: Any, **cluster: Any) -> Config:
    given = {"store": server.url, "collection": "c", "slots": SLOTS, "tenant": TENANT, "cluster": cluster}
    return Config.model_validate(given)


def test_each_tenants_documents_lie_under_a_shard_key_of_their_own(server: Any, fakes: Registry) -> None:
    with Collection.open(with_tenants(server, shards=2), registry=fakes) as collection:
        assert collection.populate(DOCUMENTS).new == 6
    ((_, made),) = asked(server, "PUT", "/collections/c")
    assert (made["sharding_method"], made["shard_number"]) == ("custom", 2)
    sent = {(body["shard_key"], p["payload"]["tenant"]) for _, body in asked(server, "PUT", "/collections/c/points")
            for p in body["points"]}  # fmt: skip
    assert sent == {("eu", "eu"), ("us", "us")}


@pytest.mark.parametrize("by_name", [False, True])
def test_a_tenants_questions_go_to_its_own_shards(server: Any, fakes: Registry, by_name: bool) -> None:
    config = with_tenants(server)
    with Collection.open(config, registry=fakes) as collection:
        collection.populate(DOCUMENTS)
    opened = Collection.open(server.url, "c", registry=fakes) if by_name else Collection.open(config, registry=fakes)
    with opened as collection:
        del server.requests[:]
        found = collection.search_batch(["words", "number"], tenant="eu")
        assert {hit.document.metadata["tenant"] for hits in found for hit in hits} == {"eu"}
        collection.explain("words", tenant="eu")
    bodies = [b for _, batch in asked(server, "POST", "/collections/c/points/query/batch") for b in batch["searches"]]
    assert len(bodies) >= 2
    assert {body["shard_key"] for body in bodies} == {"eu"}
    assert {body["shard_key"] for _, body in asked(server, "POST", "/collections/c/points/scroll")} == {"eu"}
