"""A copy is the source: points, settings, indexes, what it says about itself, and its answers."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from diptych import Collection, Registry
from diptych.copying import CopyReport, copy_collection
from diptych.errors import StoreUnsupported
from diptych.search import Retrieve
from diptych_edge import EdgeClient

OpenClient = Callable[..., QdrantBase]
OWN_KEYS = {"diptych_copy", "diptych_apply"}
WAYS = [("memory", "edge"), ("edge", "memory"), ("server", "server")]


@pytest.mark.parametrize(("here", "there"), WAYS)
def test_a_copy_has_the_points_and_the_answers_of_its_source(
    open_client: OpenClient, fill: Any, assert_same: Any, registry: Registry, here: str, there: str
) -> None:
    source, target = open_client(here, "one"), open_client(there, "two")
    fill(source)
    report = copy_collection(source, "c", target, "copy", batch=16, registry=registry)
    assert (report.points, report.copied, report.changed, report.deleted) == (100, 100, 0, 0)
    assert (report.passes, report.resumed) == (1, False)
    assert_same(target, "copy", source, "c")
    assert described(target, "copy") == described(source, "c")
    asked = ("word3 word5", "number42", "word11 number7")
    before, after = (
        Collection.open(client, name, registry=registry) for client, name in ((source, "c"), (target, "copy"))
    )
    for query, slot in itertools.product(asked, ("dense", "lexical", "tokens")):
        pipeline = Retrieve(slot)
        expected = {
            hit.id: pytest.approx(hit.score, abs=1e-5) for hit in before.search(query, pipeline=pipeline, limit=100)
        }
        assert {hit.id: hit.score for hit in after.search(query, pipeline=pipeline, limit=100)} == expected


def described(client: QdrantBase, name: str) -> dict[str, Any]:
    metadata = client.get_collection(name).config.metadata or {}
    return {key: value for key, value in metadata.items() if key not in OWN_KEYS}


def test_settings_indexes_and_datatypes_come_along(open_client: OpenClient, fill: Any) -> None:
    source, target = open_client("edge", "one"), open_client("edge", "two")
    source.create_collection(
        "c",
        vectors_config={
            "a": models.VectorParams(
                size=4,
                distance=models.Distance.EUCLID,
                datatype=models.Datatype.FLOAT16,
                on_disk=True,
                hnsw_config=models.HnswConfigDiff(m=8, ef_construct=64),
            ),
            "b": models.VectorParams(
                size=4,
                distance=models.Distance.COSINE,
                quantization_config=models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True)),
            ),
        },
        sparse_vectors_config={
            "s": models.SparseVectorParams(
                modifier=models.Modifier.IDF, index=models.SparseIndexParams(on_disk=True, full_scan_threshold=77)
            )
        },
        hnsw_config=models.HnswConfigDiff(m=32),
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=123),
        on_disk_payload=True,
        metadata={"owner": {"name": "x"}, "diptych_apply": {"token": "t"}},
    )
    source.create_payload_index("c", "words", models.TextIndexParams(type=models.TextIndexType.TEXT, lowercase=True))
    source.create_payload_index("c", "year", models.PayloadSchemaType.INTEGER)
    report = copy_collection(source, "c", target)
    ours, theirs = source.get_collection("c"), target.get_collection("c")
    assert theirs.config.params == ours.config.params
    assert theirs.config.hnsw_config == ours.config.hnsw_config
    assert theirs.config.optimizer_config == ours.config.optimizer_config
    assert theirs.payload_schema == ours.payload_schema
    assert set(report.indexes) == {"words", "year"}
    assert theirs.config.metadata is not None
    assert set(theirs.config.metadata) == {"owner", "diptych_copy"}
    assert report.points == 0


@pytest.mark.parametrize(("here", "there"), WAYS)
def test_unnamed_vectors_ids_of_both_kinds_and_points_without_vectors_come_along(
    open_client: OpenClient, assert_same: Any, here: str, there: str
) -> None:
    source, target = open_client(here, "one"), open_client(there, "two")
    size = models.VectorParams(size=3, distance=models.Distance.COSINE)
    source.create_collection("c", vectors_config=size, sparse_vectors_config={"s": models.SparseVectorParams()})
    sparse = models.SparseVector(indices=[9, 2], values=[0.1, 0.7])
    uuid = "00000000-0000-0000-0000-0000000000"
    source.upsert(
        "c",
        [
            models.PointStruct(id=1, vector=[1.0, 2.0, 3.0], payload={"a": None, "b": {"c": [1, 2.5, True]}}),
            models.PointStruct(id=2, vector={"": [1.0, 0.0, 3.0], "s": sparse}),
            models.PointStruct(id=f"{uuid}01", vector={"s": sparse}, payload={"text": "ünï ☃"}),
            models.PointStruct(id=f"{uuid}ff", vector={}),
            models.PointStruct(id=2**63 + 1, vector={}, payload={"big": 2**53 + 1}),
        ],
    )
    report = copy_collection(source, "c", target, "copy", batch=2)
    assert (report.points, report.copied) == (5, 5)
    assert_same(target, "copy", source, "c")


@pytest.mark.parametrize("datatype", ["float16", "uint8", "turbo4", "turbo8", "turbo16"])
@pytest.mark.parametrize("distance", ["Cosine", "Dot", "Euclid", "Manhattan"])
@pytest.mark.parametrize("here", ["memory", "edge"])
def test_vectors_of_every_datatype_are_verified_within_it(
    open_client: OpenClient, datatype: str, distance: str, here: str
) -> None:
    if datatype == "uint8" and distance == "Cosine" and here == "memory":
        pytest.skip("local mode normalises what the engine keeps as integers")
    source, target = open_client(here, "one"), open_client("edge", "two")
    own = models.VectorParams(size=8, distance=models.Distance(distance), datatype=models.Datatype(datatype))
    source.create_collection("c", vectors_config={"v": own})
    rows = [[float((i * 7 + j * 13) % 50) for j in range(8)] for i in range(1, 40)]
    source.upsert("c", [models.PointStruct(id=i, vector={"v": row}) for i, row in enumerate(rows)])
    copy_collection(source, "c", target)
    assert copy_collection(source, "c", target).written == 0
    rows[3] = rows[3][::-1]
    source.update_vectors("c", [models.PointVectors(id=3, vector={"v": rows[3]})])
    report = copy_collection(source, "c", target)
    assert (report.changed, report.deleted) == (1, 0)


def test_a_copy_of_a_copy_is_whole_and_has_its_own_record(
    open_client: OpenClient, fill: Any, registry: Registry
) -> None:
    memory, edge, other = open_client("memory"), open_client("edge", "one"), open_client("edge", "two")
    fill(memory)
    copy_collection(memory, "c", edge)
    copy_collection(edge, "c", other)
    record = (other.get_collection("c").config.metadata or {})["diptych_copy"]
    assert (record["store"], record["stage"]) == (f"edge:{edge.path}", "done")  # type: ignore[attr-defined]
    assert Collection.open(other, "c", registry=registry).count() == 100


def test_an_embedded_target_ends_optimised(open_client: OpenClient) -> None:
    source, target = open_client("edge", "one"), open_client("edge", "two")
    size = models.VectorParams(size=16, distance=models.Distance.DOT)
    small = models.OptimizersConfigDiff(indexing_threshold=10)  # kB, so that few points are worth an index
    source.create_collection("c", vectors_config=size, optimizers_config=small)
    rows = [[float((i * j) % 97) for j in range(16)] for i in range(1000)]
    source.upsert("c", [models.PointStruct(id=i, vector=row) for i, row in enumerate(rows)])
    copy_collection(source, "c", target)
    assert isinstance(target, EdgeClient)
    assert not target.needs_optimizing("c")
    assert target.get_collection("c").indexed_vectors_count == 1000


def test_memory_does_not_grow_with_the_collection(open_client: OpenClient) -> None:
    source, target = open_client("edge", "one"), open_client("edge", "two")
    size = models.VectorParams(size=64, distance=models.Distance.DOT)
    peaks = []
    for points in (400, 400, 4000):  # the first makes what is made once
        source.delete_collection("c")
        target.delete_collection("c")
        source.create_collection("c", vectors_config=size)
        for start in range(0, points, 400):
            made = [models.PointStruct(id=start + i, vector=[float(i)] * 64, payload={"n": i}) for i in range(400)]
            source.upsert("c", made)
        tracemalloc.start()
        copy_collection(source, "c", target, batch=50)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.3 * peaks[1]


def test_shard_keys_are_refused(open_client: OpenClient) -> None:
    class Sharded(QdrantClient):
        """What a server says of a collection with shard keys."""

        def get_collection(self, collection_name: str, **kwargs: Any) -> models.CollectionInfo:
            info = super().get_collection(collection_name, **kwargs)
            info.config.params.sharding_method = models.ShardingMethod.CUSTOM
            return info

    source = Sharded(":memory:")
    source.create_collection("c", vectors_config=models.VectorParams(size=3, distance=models.Distance.DOT))
    with pytest.raises(StoreUnsupported, match="would lose their keys"):
        copy_collection(source, "c", open_client("edge"))


def test_the_report_counts_and_names_both_ends_without_secrets(open_client: OpenClient, fill: Any) -> None:
    source, target = open_client("memory"), open_client("edge")
    fill(source)
    report = copy_collection(source, "c", target, "copy")
    assert isinstance(report, CopyReport)
    assert report.source.startswith("memory:")
    assert report.target == f"edge:{target.path}, collection 'copy'"  # type: ignore[attr-defined]
    assert (report.passes, report.written) == (1, 100)
    assert "does not report its payload indexes" in report.warnings[0]
