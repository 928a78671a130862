from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as m

from diptych.errors import CollectionError, CollectionNotFound, StoreUnsupported
from diptych_edge import EdgeClient

EARLY = m.OptimizersConfigDiff(indexing_threshold=50)
DOT = m.VectorParams(size=4, distance=m.Distance.DOT)


def alias(collection: str, name: str) -> m.CreateAliasOperation:
    return m.CreateAliasOperation(create_alias=m.CreateAlias(collection_name=collection, alias_name=name))


def test_collections_live_side_by_side_under_any_name(client: EdgeClient) -> None:
    names = ["a", "A", "with space", "naïve", "x" * 255, "..."]
    for number, name in enumerate(names):
        client.create_collection(name, DOT)
        client.upsert(name, [m.PointStruct(id=number, vector=[1.0, 0, 0, 0], payload={})])
    client.close()
    with EdgeClient(client.path) as again:
        assert [c.name for c in again.get_collections().collections] == sorted(names)
        assert [again.scroll(name)[0][0].id for name in names] == list(range(len(names)))


def test_a_deleted_collection_leaves_no_folder_and_no_alias(client: EdgeClient) -> None:
    client.create_collection("a", DOT)
    client.update_collection_aliases([alias("a", "x")])
    assert client.delete_collection("a")
    assert not client.delete_collection("a")
    assert not client.collection_exists("a")
    assert client.get_aliases().aliases == []
    assert list((client.path / "collections").iterdir()) == []


def test_recreating_empties_and_reconfigures(client: EdgeClient) -> None:
    client.create_collection("a", DOT)
    client.upsert("a", [m.PointStruct(id=1, vector=[1.0, 0, 0, 0], payload={})])
    client.recreate_collection("a", {"v": DOT})
    assert client.count("a").count == 0
    assert list(client.get_collection("a").config.params.vectors) == ["v"]  # type: ignore[arg-type]


def test_aliases_change_all_at_once_or_not_at_all(client: EdgeClient) -> None:
    client.create_collection("a", DOT)
    client.create_collection("b", DOT)
    client.update_collection_aliases([alias("a", "x"), alias("a", "y")])
    rename = m.RenameAliasOperation(rename_alias=m.RenameAlias(old_alias_name="x", new_alias_name="z"))
    drop = m.DeleteAliasOperation(delete_alias=m.DeleteAlias(alias_name="y"))
    client.update_collection_aliases([rename, drop, alias("b", "y")])
    assert {a.alias_name: a.collection_name for a in client.get_aliases().aliases} == {"z": "a", "y": "b"}
    assert [a.alias_name for a in client.get_collection_aliases("b").aliases] == ["y"]
    for bad, text in (
        (alias("nowhere", "w"), "nowhere"),
        (alias("a", "b"), "a collection 'b' already"),
    ):
        with pytest.raises((CollectionError, CollectionNotFound), match=text):
            client.update_collection_aliases([drop, bad])
    with pytest.raises(CollectionError, match="no alias 'x'"):
        client.update_collection_aliases([rename])
    with pytest.raises(CollectionError, match="an alias 'y' already"):
        client.create_collection("y", DOT)
    assert {a.alias_name for a in client.get_aliases().aliases} == {"z", "y"}


def test_metadata_merges_and_a_null_removes(client: EdgeClient) -> None:
    client.create_collection("a", DOT, metadata={"keep": 1, "drop": 2, "nest": {"a": 1}})
    assert client.update_collection("a", metadata={"drop": None, "nest": {"b": 2}, "when": dt.date(2024, 5, 6)})
    expected = {"keep": 1, "nest": {"b": 2}, "when": "2024-05-06"}
    assert client.get_collection("a").config.metadata == expected
    client.close()
    with EdgeClient(client.path) as again:
        assert again.get_collection("a").config.metadata == expected


QUANTIZATIONS: list[Any] = [
    m.ScalarQuantization(scalar=m.ScalarQuantizationConfig(type=m.ScalarType.INT8, quantile=0.99, always_ram=True)),
    m.ProductQuantization(product=m.ProductQuantizationConfig(compression=m.CompressionRatio.X4)),
    m.BinaryQuantization(
        binary=m.BinaryQuantizationConfig(
            encoding=m.BinaryQuantizationEncoding.TWO_BITS,
            query_encoding=m.BinaryQuantizationQueryEncoding.SCALAR8BITS,
        )
    ),
    m.TurboQuantization(turbo=m.TurboQuantQuantizationConfig(bits=m.TurboQuantBitSize.BITS4)),
]


@pytest.mark.parametrize("quantization", QUANTIZATIONS, ids=lambda q: type(q).__name__)
def test_each_quantization_is_built_and_searched(client: EdgeClient, quantization: Any) -> None:
    config = m.VectorParams(size=64, distance=m.Distance.COSINE, quantization_config=quantization)
    early = m.OptimizersConfigDiff(indexing_threshold=50)
    client.create_collection("q", {"v": config}, optimizers_config=early)
    vectors = np.random.default_rng(0).normal(size=(1000, 64)).astype(np.float32)
    client.upload_collection("q", {"v": vectors}, ids=range(1000))
    assert client.optimize("q").result()
    params = m.SearchParams(quantization=m.QuantizationSearchParams(rescore=True, oversampling=4.0), hnsw_ef=200)
    found = client.query_points("q", vectors[7], using="v", search_params=params, limit=1).points
    assert found[0].id == 7
    assert found[0].score == pytest.approx(1.0, abs=1e-5)
    assert client.get_collection("q").config.params.vectors["v"].quantization_config == quantization  # type: ignore[index]


@pytest.mark.parametrize("datatype", [m.Datatype.FLOAT16, m.Datatype.UINT8, m.Datatype.FLOAT32])
@pytest.mark.parametrize("memory", [m.Memory.COLD, m.Memory.CACHED, None])
def test_vectors_are_kept_in_each_type_and_place(client: EdgeClient, datatype: m.Datatype, memory: Any) -> None:
    config = m.VectorParams(
        size=4, distance=m.Distance.DOT, datatype=datatype, memory=memory,
        hnsw_config=m.HnswConfigDiff(m=8, on_disk=True),
    )  # fmt: skip
    client.create_collection(
        "c", {"v": config}, hnsw_config=m.HnswConfigDiff(ef_construct=50), on_disk_payload=True,
        payload=m.PayloadStorageParams(memory=m.Memory.COLD),
    )  # fmt: skip
    client.upsert("c", [m.PointStruct(id=1, vector={"v": [1.0, 2.0, 3.0, 4.0]}, payload={"a": 1})])
    assert client.query_points("c", [1.0, 1.0, 1.0, 1.0], using="v").points[0].score == 10.0
    info = client.get_collection("c").config
    assert info.params.vectors == {"v": config}
    assert (info.hnsw_config.m, info.hnsw_config.ef_construct) == (16, 50)


def test_settings_change_later_and_act_on_the_next_index(many: EdgeClient) -> None:
    scalar = QUANTIZATIONS[0]
    many.update_collection(
        "many",
        vectors_config={"d": m.VectorParamsDiff(hnsw_config=m.HnswConfigDiff(m=4), quantization_config=scalar)},
        hnsw_config=m.HnswConfigDiff(ef_construct=40),
        optimizers_config=m.OptimizersConfigDiff(deleted_threshold=0.5),
    )
    config = many.get_collection("many").config
    assert config.hnsw_config.ef_construct == 40
    assert config.optimizer_config.indexing_threshold == 50
    assert config.optimizer_config.deleted_threshold == 0.5
    vector = config.params.vectors["d"]  # type: ignore[index]
    assert (vector.hnsw_config, vector.quantization_config) == (m.HnswConfigDiff(m=4), scalar)
    assert many.count("many").count == 2000
    assert many.optimize("many").result()
    more = m.VectorParamsDiff(hnsw_config=m.HnswConfigDiff(m=32))
    many.update_collection("many", vectors_config={"d": more})
    assert many.get_collection("many").status == m.CollectionStatus.GREY
    assert many.optimize("many").result()
    assert many.get_collection("many").status == m.CollectionStatus.GREEN
    many.update_collection("many", vectors_config={"d": m.VectorParamsDiff(quantization_config=m.Disabled.DISABLED)})
    assert many.get_collection("many").config.params.vectors["d"].quantization_config is None  # type: ignore[index]


def test_settings_that_the_engine_refuses_leave_the_collection_as_it_was(many: EdgeClient) -> None:
    before = many.get_collection("many").config
    wrong = m.SparseVectorParams(index=m.SparseIndexParams(on_disk=True))
    with pytest.raises(CollectionError, match="no vector 'nope'"):
        many.update_collection("many", sparse_vectors_config={"nope": wrong})
    with pytest.raises(StoreUnsupported, match="replication_factor"):
        many.update_collection("many", collection_params=m.CollectionParamsDiff(replication_factor=3))
    assert many.get_collection("many").config == before
    many.update_collection("many", collection_params=m.CollectionParamsDiff(on_disk_payload=False))
    assert many.get_collection("many").config.params.on_disk_payload is False
    assert many.count("many").count == 2000


SCHEMAS: list[Any] = [
    *m.PayloadSchemaType,
    m.KeywordIndexParams(type="keyword", is_tenant=True, prefix=True),
    m.IntegerIndexParams(type="integer", lookup=True, range=True),
    m.FloatIndexParams(type="float", on_disk=True),
    m.DatetimeIndexParams(type="datetime", is_principal=True),
    m.UuidIndexParams(type="uuid"),
    m.GeoIndexParams(type="geo"),
    m.BoolIndexParams(type="bool", memory=m.Memory.COLD),
    m.TextIndexParams(
        type="text", tokenizer=m.TokenizerType.WORD, lowercase=True, min_token_len=2,
        phrase_matching=True, scoring=m.TextScoringParams(type="bm25"),
        stopwords=m.StopwordsSet(languages=[m.Language.ENGLISH], custom=["foo"]),
        stemmer=m.SnowballParams(type="snowball", language=m.SnowballLanguage.ENGLISH),
    ),
    m.TextIndexParams(
        type="text", tokenizer=m.TokenizerType.PREFIX, stopwords=m.Language.GERMAN,
        stemmer=m.DisabledStemmerParams(type="none"),
    ),
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_each_payload_index_is_made_listed_and_dropped(docs: EdgeClient, schema: Any) -> None:
    docs.create_payload_index("docs", "f", schema)
    kind = schema if isinstance(schema, m.PayloadSchemaType) else m.PayloadSchemaType(schema.type.value)
    found = docs.get_collection("docs").payload_schema
    assert {name: info.data_type for name, info in found.items()} == {"f": kind}
    assert found["f"].params == (None if isinstance(schema, m.PayloadSchemaType) else schema)
    docs.delete_payload_index("docs", "f")
    assert docs.get_collection("docs").payload_schema == {}


def test_a_collection_without_vectors_ranks_text_and_may_get_vectors(client: EdgeClient) -> None:
    client.create_collection("t", {})
    client.create_payload_index("t", "body", m.TextIndexParams(type="text", scoring=True))
    client.upsert("t", [m.PointStruct(id=i, vector={}, payload={"body": t}) for i, t in enumerate(["fox", "owl"])])
    client.close()
    with EdgeClient(client.path) as again:
        assert again.query_points("t", m.TextQuery(text="owl"), using="body").points[0].id == 1
        assert again.get_collection("t").config.params.vectors == {}
        again.update_collection("t", optimizers_config=EARLY)
        dense = m.DenseVectorNameConfig(dense=m.DenseVectorConfig(size=2, distance=m.Distance.DOT))
        again.create_vector_name("t", "d", dense)
        again.update_vectors("t", [m.PointVectors(id=0, vector={"d": [1.0, 2.0]})])
        assert again.query_points("t", [1.0, 1.0], using="d").points[0].score == 3.0


def test_vectors_added_and_dropped_survive_settings_and_optimising(many: EdgeClient) -> None:
    late = m.DenseVectorNameConfig(dense=m.DenseVectorConfig(size=32, distance=m.Distance.DOT))
    many.create_vector_name("many", "late", late)
    stored = many.scroll("many", limit=2000, with_vectors=True)[0]
    points = [m.PointVectors(id=r.id, vector={"late": r.vector["d"]}) for r in stored]  # type: ignore[call-overload,index]
    many.update_vectors("many", points)
    many.update_collection("many", hnsw_config=m.HnswConfigDiff(ef_construct=40))
    assert many.optimize("many").result()
    assert many.get_collection("many").indexed_vectors_count == 4000
    many.delete_vector_name("many", "d")
    many.update_collection("many", hnsw_config=m.HnswConfigDiff(ef_construct=50))
    assert many.get_collection("many").indexed_vectors_count == 2000
    many.close()
    with EdgeClient(many.path) as again:
        found = again.query_points("many", stored[7].vector["d"], using="late", limit=1).points  # type: ignore[index,call-overload]
        assert found[0].id in range(2000)
        assert list(again.get_collection("many").config.params.vectors) == ["late"]  # type: ignore[arg-type]


def test_text_indexes_stem_and_drop_stop_words(docs: EdgeClient) -> None:
    docs.create_payload_index("docs", "t", SCHEMAS[-2])
    for identifier, text in enumerate(["running dogs", "the cat runs", "foo bird", "a tree grows"]):
        docs.set_payload("docs", {"t": text}, [identifier])
    found = docs.query_points("docs", m.TextQuery(text="run the foo"), using="t").points
    assert {point.id for point in found} == {0, 1}
    phrase = m.Filter(must=[m.FieldCondition(key="t", match=m.MatchPhrase(phrase="running dogs"))])
    assert [record.id for record in docs.scroll("docs", phrase)[0]] == [0]


def test_payload_values_that_are_no_json_become_what_they_are_on_a_server(docs: EdgeClient) -> None:
    key = UUID("00000000-0000-4000-8000-00000000000a")
    payload = {"when": dt.datetime(2024, 5, 6, 7, 8), "key": key, "set": (1, 2)}
    docs.upsert("docs", [m.PointStruct(id=key, vector={}, payload=payload)])
    record = docs.retrieve("docs", [key])[0]
    assert record.payload == {"when": "2024-05-06T07:08:00", "key": str(key), "set": [1, 2]}
    assert record.id == str(key)
    docs.set_payload("docs", {"when": dt.date(2025, 1, 1)}, [key])
    assert docs.retrieve("docs", [str(key)])[0].payload["when"] == "2025-01-01"  # type: ignore[index]


def test_a_collection_moves_to_another_store(docs: EdgeClient) -> None:
    local = QdrantClient(":memory:")
    docs.migrate(local._client)
    assert local.count("docs").count == 4
    assert local.get_collection("docs").config.params.vectors == docs.get_collection("docs").config.params.vectors
    local.close()


def test_metadata_is_read_without_counting_points(tmp_path: Path) -> None:
    class Uncounted(EdgeClient):
        """Cannot be asked for what a collection holds, which takes the longer the more that is."""

        def get_collection(self, collection_name: str, **kwargs: object) -> m.CollectionInfo:
            raise NotImplementedError

    with Uncounted(tmp_path) as client:
        client.create_collection("c", DOT, metadata={"other": 1})
        assert client.get_metadata("c") == {"other": 1}
        with pytest.raises(CollectionNotFound):
            client.get_metadata("d")
