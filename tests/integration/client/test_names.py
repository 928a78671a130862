"""Which names are ours, what goes on to qdrant-client or the server, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

import diptych
from diptych import Collection
from diptych.clients import ClusterInferenceClient, ServerInferenceClient
from diptych.config import Config, parse_config
from diptych.encoders import Encoders
from diptych.errors import AdapterOptionsError, CollectionError, ConfigError, StoreUnsupported, UnknownAdapter
from diptych.handle.collection_handle import CollectionHandle
from diptych.registry import Registry
from diptych.testing import FakeDenseEncoder
from diptych_adapters.lexical import Bm25
from diptych_edge import SharedEdgeClient
from tiny_encoders import tiny_encoder

COSINE = models.Distance.COSINE


def dense(client: Any, size: int = 64) -> None:
    client.create_collection("demo", vectors_config=models.VectorParams(size=size, distance=COSINE))


def document(text: str, model: str = "fake-dense", **options: Any) -> models.Document:
    return models.Document(text=text, model=model, options=options or None)


def recorded(encoders: Encoders, name: str) -> FakeDenseEncoder:
    found: FakeDenseEncoder = encoders.slot(name).encoder
    return found


def test_options_are_the_adapters_and_are_checked_by_the_host(client: Any) -> None:
    dense(client, 8)
    point = models.PointStruct(id=1, vector=document("one two", dimension=8, seed=3))
    client.upsert("demo", [point])
    (record,) = client.retrieve("demo", [1], with_vectors=True)
    (wanted,) = FakeDenseEncoder(dimension=8, seed=3).encode_document(["one two"])
    assert record.vector == pytest.approx(wanted.tolist())
    assert point.vector == document("one two", dimension=8, seed=3), "what the program passed is unchanged"
    with pytest.raises(AdapterOptionsError, match=r"(?s)has no option 'dimensions'.*did you mean 'dimension'"):
        client.query_points("demo", document("one", dimensions=8))
    with pytest.raises(AdapterOptionsError, match=r"(?s)'dense' is a slot.*got: seed.*name its adapter, 'fake-dense'"):
        client.query_points("demo", document("one", "dense", seed=3))
    assert client.encoders.with_options("dense", {"expand": {"sound": "audio"}}).dimension == 64, "the slot's own"


def test_a_name_that_nobody_knows_is_told_with_the_nearest(client: Any) -> None:
    dense(client)
    said = r"(?s)no encoder is called 'fake-dens'.*a slot \(dense, lexical, late\).*did you mean 'fake-dense'"
    with pytest.raises(UnknownAdapter, match=said):
        client.query_points("demo", document("one", "fake-dens"))
    with pytest.raises(UnknownAdapter, match="no encoder is called 'other'"):
        client.upload_points("demo", [models.PointStruct(id=1, vector=document("one", "other"))])
    with pytest.raises(AdapterOptionsError, match=r"(?s)does not make vectors.*a reranker"):
        client.query_points("demo", document("one", "fake-reranker"))
    with pytest.raises(UnknownAdapter, match="no encoder is called 'fake-dens'"):
        client.get_embedding_size("fake-dens")
    with pytest.raises(AdapterOptionsError, match=r"(?s)sparse vectors have no size.*sparse_vectors_config"):
        client.get_embedding_size("lexical")


@pytest.mark.parametrize(
    ("model", "written"),
    [
        ("no-such/bge-small-en-v1.5", 'model="sentence-transformers", options={"model": "no-such/bge-small-en-v1.5"}'),
        ("no-such/Splade_PP", 'model="sentence-transformers-sparse", options={"model": "no-such/Splade_PP"}'),
    ],
)
def test_the_name_of_a_model_on_a_hub_is_told_with_what_to_write_instead(
    tmp_path: Path, encoders: Encoders, model: str, written: str
) -> None:
    client = diptych.client(f"edge:{tmp_path / 'store'}", encoders=encoders)
    with pytest.raises(UnknownAdapter) as told:
        client.get_embedding_size(model)
    assert f"do: write {written}. " in str(told.value)
    client.close()


@pytest.mark.parametrize("name", ["sentence-transformers/all-MiniLM-L6-v2", "BAAI/bge-small-en-v1.5"])
def test_a_model_in_the_cache_of_the_hub_is_known_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    hub = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("importlib.metadata.distributions", lambda **_: [])  # as without the package that carries one
    client = diptych.client(f"edge:{tmp_path / 'store'}")
    with pytest.raises(UnknownAdapter, match="do: write model="):
        client.get_embedding_size(name)
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text("0" * 40)
    tiny_encoder(tmp_path / "bert").save_pretrained(str(hub / "snapshots" / ("0" * 40)), create_model_card=False)
    size = client.get_embedding_size(name)
    client.create_collection("demo", vectors_config=models.VectorParams(size=size, distance=COSINE))
    client.upsert("demo", [models.PointStruct(id=1, vector=document("one", name))])
    assert client.query_points("demo", document("one", name)).points[0].score == pytest.approx(1, abs=1e-3)
    client.close()


def test_the_bm25_of_fastembed_is_known_by_its_name_where_no_server_answers(tmp_path: Path) -> None:
    client = diptych.client(f"edge:{tmp_path / 'store'}")
    idf = models.SparseVectorParams(modifier=models.Modifier.IDF)
    client.create_collection("demo", vectors_config={}, sparse_vectors_config={"words": idf})
    vector = {"words": document("Evenings at the university", "Qdrant/bm25")}
    client.upsert("demo", [models.PointStruct(id=1, vector=vector)])
    made: Any = client.retrieve("demo", [1], with_vectors=True)[0].vector
    (expected,) = Bm25(compatible_with="fastembed").encode_document(["Evenings at the university"])
    assert sorted(made["words"].indices) == sorted(expected.indices.tolist())
    client.close()


def test_an_encoder_gets_only_what_it_takes(client: Any) -> None:
    dense(client)
    with pytest.raises(AdapterOptionsError, match=r"(?s)'pictures' does not take a Document.*encoder of image"):
        client.query_points("demo", document("one", "pictures"))
    with pytest.raises(AdapterOptionsError, match=r"(?s)'fake-dense' does not take a Image.*encoder of text"):
        client.query_points("demo", models.Image(image="x.png", model="fake-dense"))
    with pytest.raises(AdapterOptionsError, match=r"(?s)paths or URLs.*got: bytes.*save it to a file"):
        client.query_points("demo", models.Image(image=b"...", model="pictures"))


def test_a_payload_may_hold_anything(client: Any) -> None:
    dense(client)
    payload = {"model": "nobody", "nested": [{"text": "x"}]}
    client.upsert("demo", [models.PointStruct(id=1, vector=document("one"), payload=payload)])
    assert client.retrieve("demo", [1])[0].payload == payload


def test_objects_that_are_alike_are_encoded_in_one_call_of_their_side(client: Any, encoders: Encoders) -> None:
    dense(client)
    same = document("a text that many points share", "dense")
    client.upload_points("demo", [models.PointStruct(id=i, vector=same) for i in range(600)])
    requests = [models.QueryRequest(query=document(text, "dense"), limit=1) for text in ("one", "two")]
    client.query_batch_points("demo", requests)
    calls = recorded(encoders, "dense").calls
    assert [(call.side, len(call.inputs)) for call in calls] == [("document", 1)] * 3 + [("query", 2)]


def test_models_of_fastembed_go_on_to_qdrant_client(
    encoders: Encoders, paraphrase: dict[str, Any], plain: Callable[[], Any]
) -> None:
    text_embedding = pytest.importorskip("fastembed").TextEmbedding
    from diptych_adapters.fastembed_models import register

    folder, facts = Path(paraphrase["model"]), {"normalization": False, "model_file": "model.onnx", "dim": 384}
    pooling = pytest.importorskip("fastembed.common.model_description").PoolingType.DISABLED
    name = register(text_embedding, folder, {**facts, "output_name": "461", "pooling": pooling})
    theirs = document("edit audio files", name, specific_model_path=str(folder))
    client, other = diptych.client(":memory:", encoders=encoders), plain()
    assert client.get_embedding_size(name) == 384
    for made in (client, other):
        sizes = {"theirs": 384, "ours": 64}
        made.create_collection("demo", {k: models.VectorParams(size=n, distance=COSINE) for k, n in sizes.items()})
    client.upload_points("demo", [models.PointStruct(id=1, vector={"theirs": theirs, "ours": document("one")})])
    other.upload_points("demo", [models.PointStruct(id=1, vector={"theirs": theirs})])
    mixed, alone = ({**vars(made.retrieve("demo", [1], with_vectors=True)[0])}["vector"] for made in (client, other))
    assert mixed["theirs"] == alone["theirs"]
    assert mixed["ours"] == pytest.approx(FakeDenseEncoder().encode_document(["one"])[0].tolist())
    client.close()


def test_server_side_inference_stays_reachable(small_server: Callable[..., Any], encoders: Encoders) -> None:
    routes = small_server()
    client = diptych.client(url=routes.url, encoders=encoders, cloud_inference=True, check_compatibility=False)
    vector = {"ours": document("one"), "theirs": document("two", "a/model-of-the-server", size=3)}
    with pytest.raises(UnexpectedResponse, match="400"):  # the small server has no models
        client.upsert("demo", [models.PointStruct(id=1, vector=vector)])
    sent = routes.requests[-1][2]["points"][0]["vector"]
    assert sent["theirs"] == {"text": "two", "model": "a/model-of-the-server", "options": {"size": 3}}
    assert sent["ours"] == pytest.approx(FakeDenseEncoder().encode_document(["one"])[0].tolist())
    client.close()


def test_the_bm25_of_the_server_goes_on_to_it(small_server: Callable[..., Any], encoders: Encoders) -> None:
    routes = small_server()
    routes.failures = 1  # what the server would do with it is not asked
    client = diptych.client(url=routes.url, encoders=encoders, check_compatibility=False)
    vector = {"ours": document("one"), "theirs": document("two", "Qdrant/bm25")}
    with pytest.raises(UnexpectedResponse, match="503"):
        client.upsert("demo", [models.PointStruct(id=1, vector=vector)])
    sent = routes.requests[-1][2]["points"][0]["vector"]
    assert (sent["theirs"]["text"], sent["theirs"]["model"]) == ("two", "Qdrant/bm25")
    assert len(sent["ours"]) == 64
    client.close()


def test_a_server_gets_points_from_several_processes_that_were_encoded_in_this_one(
    small_server: Callable[..., Any], encoders: Encoders
) -> None:
    client = diptych.client(small_server().url, encoders=encoders, check_compatibility=False)
    dense(client)
    points = (models.PointStruct(id=i, vector=document(f"text {i}", "dense")) for i in range(300))
    client.upload_points("demo", points, batch_size=50, parallel=2, wait=True)
    assert client.count("demo").count == 300
    assert [len(call.inputs) for call in recorded(encoders, "dense").calls] == [256, 44]
    client.close()


def config(store: str, **further: Any) -> Config:
    slots = {"lexical": {"adapter": "bm25", "average_length": 4}}
    search = {"retrieve": {"lexical": 10}}
    return parse_config({"store": store, "collection": "demo", "slots": slots, "search": search, **further})


def test_a_config_gives_the_store_and_the_slots(tmp_path: Path, small_server: Callable[..., Any]) -> None:
    client = diptych.client(config=config(f"edge:{tmp_path / 'store'}"))
    assert isinstance(client, SharedEdgeClient)
    assert client.encoders.names == ["lexical"]
    assert client.encoders.vector("lexical") == "lexical.1"
    client.close()
    url = small_server().url
    with_server = diptych.client(config=config(url))
    assert isinstance(with_server, ServerInferenceClient)
    with_server.close()
    clustered = diptych.client(config=config(url, cluster={"shards": 2}))
    assert isinstance(clustered, ClusterInferenceClient)
    clustered.create_collection("demo", sparse_vectors_config={"lexical.1": models.SparseVectorParams()})
    clustered.upsert("demo", [models.PointStruct(id=1, vector={"lexical.1": document("quick foxes", "lexical")})])
    asked = models.QueryRequest(query=document("a fox", "lexical"), using="lexical.1", limit=3)
    assert [point.id for point in clustered.query_batch_points("demo", [asked])[0].points] == [1]
    clustered.close()
    elsewhere = diptych.client(":memory:", config=config(url))
    assert elsewhere.encoders.names == ["lexical"]


def test_places_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)are for QdrantClient only.*got: cloud_inference"):
        diptych.client(f"edge:{tmp_path}", cloud_inference=True)
    with pytest.raises(ConfigError, match=r"(?s)are for QdrantClient only.*got: api_key"):
        diptych.client(config=config("memory:"), api_key="secret")
    with pytest.raises(StoreUnsupported, match=r"(?s)no asyncio client.*got: edge:.*asyncio.to_thread"):
        diptych.async_client(f"edge:{tmp_path}")
    with pytest.raises(StoreUnsupported, match=r"(?s)cluster section.*cluster\.shards"):
        diptych.async_client(config=config("http://localhost:6333", cluster={"shards": 2}))


def test_an_asyncio_client_is_made_of_a_config_too(small_server: Callable[..., Any]) -> None:
    async def program() -> None:
        client = diptych.async_client(config=config(small_server().url))
        await client.create_collection("demo", sparse_vectors_config={"lexical.1": models.SparseVectorParams()})
        await client.upsert("demo", [models.PointStruct(id=1, vector={"lexical.1": document("foxes", "lexical")})])
        asked = models.QueryRequest(query=document("a fox", "lexical"), using="lexical.1", limit=3)
        (answer,) = await client.query_batch_points("demo", [asked])
        assert [point.id for point in answer.points] == [1]
        await client.close()

    asyncio.run(program())


def test_a_store_that_a_plugin_answers_for_is_not_ours_to_extend(registry: Registry) -> None:
    class Plugin:
        @diptych.hookimpl
        def diptych_open_store(self, url: str) -> Any:
            return QdrantClient(":memory:") if url.startswith("own:") else None

    with pytest.raises(StoreUnsupported, match=r"(?s)a plugin's.*answered by QdrantClient"):
        diptych.client(config=config("own:place"), registry=Registry(Plugin()))
    slots = {"dense": {"adapter": "fake-dense"}}
    fakes = parse_config({"store": "memory:", "collection": "demo", "slots": slots})
    client = diptych.client(config=fakes, registry=registry)
    assert (client.get_embedding_size("dense"), client.get_embedding_size("fake-multivector")) == (64, 32)


def test_a_plain_program_writes_into_a_collection_of_diptych_and_queries_it(client: Any, registry: Registry) -> None:
    given = {"store": "memory:", "collection": "things", "search": {"retrieve": {"dense": 9, "lexical": 9}}}
    slots = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-calibrated"}}
    made = parse_config({**given, "slots": slots, "cache": {"enabled": False}})
    things = Collection(CollectionHandle(client, "things", made, registry))
    things.populate([{"id": "a", "text": "convert sound files"}, {"id": "b", "text": "retouch photographs"}])
    client.encoders = things.encoders
    names = {slot: things.encoders.vector(slot) for slot in things.encoders.names}
    assert names == {"dense": "dense.1", "lexical": "lexical.1"}
    text = "mix tracks of sound"
    vector = {name: document(text, slot) for slot, name in names.items()}
    client.upsert("things", [models.PointStruct(id=7, vector=vector, payload={"text": text})])
    for slot, name in names.items():
        answer = client.query_points("things", document("mix tracks", slot), using=name, limit=1)
        assert answer.points[0].id == 7
    assert things.search("mix tracks")[0].id == "7"
    assert things.get(["7"])[0].text == text
    lacking = models.PointStruct(
        id=8, vector={names["dense"]: document("scan ports", "dense")}, payload={"text": "scan"}
    )
    client.upsert("things", [lacking])
    assert things.apply(made).encoded == {"lexical.1": 1}, "a swap's apply fills what a plain program left out"
    with pytest.raises(CollectionError, match=r"(?s)no slot 'late'.*dense, lexical"):
        things.encoders.vector("late")


def test_a_text_without_a_term_asks_for_nothing(client: Any) -> None:
    client.create_collection("demo", sparse_vectors_config={"words": models.SparseVectorParams()})
    bm25 = {"average_length": 3, "language": "english"}
    client.encoders = Encoders.open()
    vector = {"words": document("sound of audio", "bm25", **bm25)}
    client.upsert("demo", [models.PointStruct(id=1, vector=vector)])
    assert [p.id for p in client.query_points("demo", document("audio", "bm25", **bm25), using="words").points] == [1]
    assert client.query_points("demo", document("of the", "bm25", **bm25), using="words").points == []
