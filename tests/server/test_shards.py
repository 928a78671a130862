"""Shards of a cluster of three nodes: answers as of one shard, and shard keys.

DIPTYCH_TEST_SERVER_BINARY=/path/to/qdrant pytest tests/server/test_shards.py
"""

from __future__ import annotations

from typing import Any

import pytest

from diptych import Collection, Registry
from diptych.config.models import Config
from diptych.search import Dbsf, Diversify, Pipeline, Rescore, Retrieve, Rrf
from diptych.swap import ApplyOptions
from named_server import require_vector_names
from qdrant_process import QdrantProcess

DOCUMENTS = [{"id": str(n), "text": f"words of number {n}", "zone": ("eu", "us")[n % 2]} for n in range(20)]
pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(0)]
BY_ZONE = {"shards": 1, "shard_by": "zone", "write_consistency": 2, "read_consistency": "majority"}
PAIR = Retrieve("dense", 50) + Retrieve("other", 60)
PIPELINES: list[Pipeline | Retrieve] = [
    Retrieve("dense", 50),
    PAIR >> Rrf(),
    PAIR >> Rrf(1, {"other": 0.3}),
    PAIR >> Rrf(1, {"other": 0.3}) >> Rescore("dense", 12),
    PAIR >> Dbsf(),
    PAIR >> Dbsf() >> Rescore("other", 12),
    PAIR >> Dbsf() >> Diversify("dense", candidates=50, relevance=1.0),
]


def config(nodes: list[QdrantProcess], *, seed: int = 0, cluster: dict[str, Any], **sections: Any) -> Config:
    slots = sections.pop("slots", {"dense": {"adapter": "fake-dense", "dimension": 8, "seed": seed}})
    place = {"store": [node.url for node in nodes], "collection": "c", "cluster": {"replicas": 2, **cluster}}
    return Config.model_validate({**place, "slots": slots, **sections})


def places(collection: Collection) -> list[tuple[str, str]]:
    """The id and the zone of each point, the same document twice where it lies under two keys."""
    return sorted((document.id, str(document.metadata["zone"])) for document in collection.documents())


def test_a_metadata_key_says_under_which_shard_key_a_document_lies(nodes: list[QdrantProcess], fakes: Registry) -> None:
    with Collection.open(config(nodes, cluster=BY_ZONE), registry=fakes) as collection:
        assert collection.populate(DOCUMENTS).new == 20
        assert collection.populate([{"id": "x", "text": "without a zone"}]).set_aside == 1
        assert collection.populate([{**DOCUMENTS[0], "zone": "asia"}]).changed == 1
        wanted = sorted([("0", "asia"), *((str(d["id"]), str(d["zone"])) for d in DOCUMENTS[1:])])
        assert places(collection) == wanted
        keys = collection.client.list_shard_keys("c").shard_keys or []
        assert {found.key for found in keys} == {"eu", "us", "asia"}
        assert collection.populate(DOCUMENTS[1:10], sync=True, max_deleted=1).deleted == 11
        assert collection.count() == 9


def test_a_swap_leaves_documents_under_their_shard_keys(nodes: list[QdrantProcess], fakes: Registry) -> None:
    with Collection.open(config(nodes, cluster=BY_ZONE), registry=fakes) as collection:
        require_vector_names(collection.client)  # on an older server a swap copies, which shard keys would not survive
        collection.populate(DOCUMENTS)
        wanted = places(collection)
        collection.apply(config(nodes, seed=1, cluster=BY_ZONE), ApplyOptions(gate=False))
        assert len(collection.search("words", limit=50)) == 20
        assert places(collection) == wanted
        assert collection.populate(DOCUMENTS[1:10], sync=True, max_deleted=1).deleted == 11


def test_several_configs_share_a_collection_each_with_a_shard_key(nodes: list[QdrantProcess], fakes: Registry) -> None:
    for key in ("one", "two"):
        with Collection.open(config(nodes, cluster={"shard_key": key}), registry=fakes) as collection:
            collection.populate({**document, "id": f"{key}-{document['id']}"} for document in DOCUMENTS)
            hits = collection.search("words", limit=50)
            assert len(hits) == 20
            assert all(hit.id.startswith(key) for hit in hits)


def test_each_tenant_has_a_shard_key_of_its_own(nodes: list[QdrantProcess], fakes: Registry) -> None:
    tenants = {"field": "zone", "shard_keys": True}
    with Collection.open(config(nodes, cluster={}, tenant=tenants), registry=fakes) as collection:
        collection.populate(DOCUMENTS)
        for zone in ("eu", "us"):
            hits = collection.search("words", tenant=zone, limit=50)
            assert sorted(hit.id for hit in hits) == sorted(d["id"] for d in DOCUMENTS if d["zone"] == zone)
        assert collection.populate([{**DOCUMENTS[0], "zone": "us"}]).new == 1  # another tenant's document of that id
        assert collection.count() == 21


def test_fusions_are_of_all_shards_together(nodes: list[QdrantProcess], fakes: Registry) -> None:
    slots = {name: {"adapter": "fake-dense", "dimension": 32, "seed": n} for n, name in enumerate(("dense", "other"))}
    documents = [{"id": str(n), "text": f"word{n % 7} word{n % 11} word{n % 13} number{n}"} for n in range(100)]
    spread = config(nodes, cluster={"shards": 3}, slots=slots)
    single = Config.model_validate({"store": "memory:", "collection": "c", "slots": slots})
    with Collection.open(spread, registry=fakes) as many, Collection.open(single, registry=fakes) as one:
        many.populate(documents)
        one.populate(documents)
        for pipeline in PIPELINES:
            for query in ("word1 word2", "word6 word10 number7"):
                wanted = {hit.id: hit.score for hit in one.search(query, pipeline=pipeline, limit=12)}
                found = many.search(query, pipeline=pipeline, limit=10)
                assert [hit.score for hit in found] == pytest.approx([*wanted.values()][:10], rel=1e-4), pipeline
                assert [hit.score for hit in found] == pytest.approx([wanted[hit.id] for hit in found], rel=1e-4)
