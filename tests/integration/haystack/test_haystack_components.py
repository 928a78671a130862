"""Embedders, retriever and ranker: alone, in pipelines with Qdrant's own Haystack parts, and from YAML."""

from __future__ import annotations

import asyncio
from inspect import signature
from pathlib import Path
from typing import Any

import haystack
import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack.core.errors import SerializationError
from haystack.document_stores.types import FilterPolicy
from haystack.errors import FilterError
from haystack.utils import Secret
from haystack_integrations.components.retrievers.qdrant import (
    QdrantEmbeddingRetriever,
    QdrantHybridRetriever,
    QdrantSparseEmbeddingRetriever,
)
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore
from qdrant_client import models

from diptych import Collection, Registry, SparseVector, hookimpl
from diptych.encoders import Encoders
from diptych.errors import AdapterOptionsError, ConfigError, DocumentError, SearchError, UnknownAdapter
from diptych.testing import FakeReranker, fakes_plugin
from diptych_adapters.haystack import (
    DiptychDocumentEmbedder,
    DiptychDocumentStore,
    DiptychRanker,
    DiptychRetriever,
    DiptychSparseDocumentEmbedder,
    DiptychSparseTextEmbedder,
    DiptychTextEmbedder,
)
from diptych_adapters.haystack.documents import to_diptych

AsyncPipeline: Any = getattr(haystack, "AsyncPipeline", None)  # Haystack 2 has a class of its own for coroutines
BM25 = {"average_length": 4.0, "language": "english"}
DOCUMENTS = [
    Document(id="lame", content="an encoder of audio files", meta={"section": "sound", "title": "lame"}),
    Document(id="sox", content="convert audio files between formats", meta={"section": "sound"}),
    Document(id="gimp", content="edit pictures and convert them", meta={"section": "graphics"}),
]
SOUND = {"field": "meta.section", "operator": "==", "value": "sound"}
LONG = {"field": "content", "operator": "!=", "value": DOCUMENTS[0].content}
LOADING = signature(Pipeline.loads).parameters  # Haystack 2 imports whatever YAML names
ALLOWED: Any = {"allowed_modules": ["diptych_adapters.haystack"]} if "allowed_modules" in LOADING else {}


@pytest.fixture
def encoders() -> Encoders:
    return Encoders.open(registry=Registry(fakes_plugin))


@pytest.fixture
def store(things: Collection) -> DiptychDocumentStore:
    store = DiptychDocumentStore(things)
    store.write_documents(DOCUMENTS)
    return store


def ids(found: dict[str, Any]) -> list[str]:
    return [document.id for document in found["documents"]]


def test_embedders_give_what_the_encoder_gives(encoders: Encoders) -> None:
    dense, sparse = encoders["fake-dense"], encoders["fake-sparse"]
    embedder = DiptychTextEmbedder("fake-dense", source=encoders)
    assert embedder.run("audio")["embedding"] == dense.encode_query(["audio"])[0].tolist()  # type: ignore[union-attr]
    embedded = DiptychDocumentEmbedder("fake-dense", source=encoders).run(DOCUMENTS)["documents"]
    wanted = dense.encode_document([str(document.content) for document in DOCUMENTS])
    assert np.array_equal([document.embedding for document in embedded], np.stack(wanted))  # type: ignore[arg-type]
    assert all(document.embedding is None for document in DOCUMENTS), "those that come in are left as they are"
    weights = DiptychSparseTextEmbedder("fake-sparse", source=encoders).run("audio files")["sparse_embedding"]
    (vector,) = sparse.encode_query(["audio files"])
    assert isinstance(vector, SparseVector)
    assert (weights.indices, weights.values) == (vector.indices.tolist(), vector.values.tolist())
    assert DiptychDocumentEmbedder("fake-dense", source=encoders).run([])["documents"] == []


def test_bm25_encodes_with_an_average_length(encoders: Encoders) -> None:
    embedder = DiptychSparseDocumentEmbedder("bm25", options=BM25)
    embedder.warm_up()
    (found,) = embedder.run(DOCUMENTS[:1])["documents"]
    (wanted,) = encoders.with_options("bm25", BM25).encode_document([str(DOCUMENTS[0].content)])
    assert isinstance(wanted, SparseVector)
    assert found.sparse_embedding.indices == wanted.indices.tolist()


def test_meta_fields_are_embedded_before_the_content(encoders: Encoders) -> None:
    dense = encoders["fake-dense"]
    embedder = DiptychDocumentEmbedder(
        "fake-dense", source=encoders, meta_fields_to_embed=["title", "nothing"], embedding_separator=": "
    )
    (found,) = embedder.run(DOCUMENTS[:1])["documents"]
    assert found.embedding == dense.encode_document(["lame: an encoder of audio files"])[0].tolist()  # type: ignore[union-attr]


def test_wrong_kinds_names_and_inputs_are_told(encoders: Encoders) -> None:
    with pytest.raises(AdapterOptionsError, match=r"(?s)'fake-sparse' makes no dense vectors.*got: sparse"):
        DiptychTextEmbedder("fake-sparse", source=encoders).warm_up()
    with pytest.raises(UnknownAdapter, match=r"(?s)no encoder is called 'bm26'.*did you mean 'bm25'"):
        DiptychSparseTextEmbedder("bm26").run("x")
    with pytest.raises(TypeError, match="takes one text, not a list of documents; for documents take"):
        DiptychTextEmbedder("fake-dense", source=encoders).run(DOCUMENTS)  # type: ignore[arg-type]
    with pytest.raises(DocumentError, match="has no text"):
        DiptychDocumentEmbedder("fake-dense", source=encoders).run([Document(id="x")])
    with pytest.raises(ValueError, match=r"(?s)the documents are not a list.*got: str"):
        DiptychDocumentEmbedder("fake-dense", source=encoders).run("x")  # type: ignore[arg-type]


def test_an_unchanged_qdrant_store_and_its_retrievers_work_with_these_embedders(encoders: Encoders) -> None:
    dense = encoders["fake-dense"]
    store = QdrantDocumentStore(
        ":memory:", embedding_dim=dense.dimension, use_sparse_embeddings=True, sparse_idf=True, progress_bar=False
    )
    indexing = Pipeline()
    indexing.add_component("sparse", DiptychSparseDocumentEmbedder("bm25", options=BM25))
    indexing.add_component("dense", DiptychDocumentEmbedder("fake-dense", source=encoders))
    indexing.add_component("writer", DocumentWriter(store))
    indexing.connect("sparse.documents", "dense.documents")
    indexing.connect("dense.documents", "writer.documents")
    assert indexing.run({"sparse": {"documents": DOCUMENTS}})["writer"]["documents_written"] == 3
    asking = Pipeline()
    asking.add_component("dense", DiptychTextEmbedder("fake-dense", source=encoders))
    asking.add_component("sparse", DiptychSparseTextEmbedder("bm25", options=BM25))
    for name, retriever in (
        ("by_dense", QdrantEmbeddingRetriever(store)),
        ("by_sparse", QdrantSparseEmbeddingRetriever(store)),
        ("by_both", QdrantHybridRetriever(store)),
    ):
        asking.add_component(name, retriever)
    for name in ("by_dense", "by_both"):
        asking.connect("dense.embedding", f"{name}.query_embedding")
    for name in ("by_sparse", "by_both"):
        asking.connect("sparse.sparse_embedding", f"{name}.query_sparse_embedding")
    found = asking.run({"dense": {"text": "edit pictures"}, "sparse": {"text": "edit pictures"}})
    assert [ids(found[name])[0] for name in ("by_dense", "by_sparse", "by_both")] == ["gimp"] * 3


def test_the_retriever_answers_as_the_collection_does(store: DiptychDocumentStore) -> None:
    retriever = DiptychRetriever(store)
    retriever.warm_up()
    hits = store.collection.search("convert audio")
    found = retriever.run("convert audio")["documents"]
    assert [(document.id, document.score) for document in found] == [(hit.id, hit.score) for hit in hits]
    assert {document.id: document.meta for document in found} == {own.id: own.meta for own in DOCUMENTS}
    later = asyncio.run(retriever.run_async("convert audio"))
    assert later["documents"] == found
    assert ids(retriever.run("convert audio", top_k=1)) == ids({"documents": found[:1]})
    assert ids(DiptychRetriever(store, top_k=1, score_threshold=9).run("convert audio")) == []


def test_a_retriever_is_warmed_once() -> None:
    class Listener:
        searches = 0

        @hookimpl
        def diptych_after_search(self, report: object) -> None:
            self.searches += 1

    listener = Listener()
    config = {"store": "memory:", "collection": "things", "slots": {"dense": {"adapter": "fake-dense"}}}
    with Collection.open(config, registry=Registry(fakes_plugin, listener)) as things:
        retriever = DiptychRetriever(DiptychDocumentStore(things))
        retriever.document_store.write_documents(DOCUMENTS)
        asking = Pipeline()
        asking.add_component("retriever", retriever)
        asking.warm_up()
        before = listener.searches
        asking.run({"retriever": {"query": "audio"}})
        assert listener.searches == before + 1


def test_filters_of_a_run_replace_those_of_the_retriever_or_are_merged_with_them(store: DiptychDocumentStore) -> None:
    retriever = DiptychRetriever(store, filters=SOUND)
    assert set(ids(retriever.run("convert audio"))) == {"lame", "sox"}
    assert set(ids(retriever.run("convert audio", filters=LONG))) == {"sox", "gimp"}
    merging = DiptychRetriever(store, filters=SOUND, filter_policy="merge")
    assert ids(merging.run("convert audio", filters=LONG)) == ["sox"]
    own = models.Filter(must_not=[models.FieldCondition(key="section", match=models.MatchValue(value="sound"))])
    assert ids(retriever.run("convert audio", filters=own)) == ["gimp"]
    with pytest.raises(FilterError, match=r"(?s)Haystack merges its own filters only.*FilterPolicy.REPLACE"):
        merging.run("convert audio", filters=own)


def test_an_explanation_goes_into_meta_when_it_is_asked_for(store: DiptychDocumentStore) -> None:
    found = DiptychRetriever(store, explain=True).run("convert audio", filters=SOUND)["documents"]
    told = [document.meta["_explanation"] for document in found]
    assert [own["rank"] for own in told] == [1, 2]
    assert [own["score"] for own in told] == pytest.approx([document.score for document in found])
    assert told[0]["slots"].keys() == {"dense", "lexical"}
    assert "_explanation" not in DiptychRetriever(store).run("convert audio")["documents"][0].meta


def test_a_retriever_wants_a_collection_and_a_number(store: DiptychDocumentStore) -> None:
    with pytest.raises(SearchError, match=r"(?s)got: QdrantDocumentStore.*a DiptychTextEmbedder"):
        DiptychRetriever(QdrantDocumentStore(":memory:"))  # type: ignore[arg-type]
    with pytest.raises(SearchError, match=r"(?s)top_k is not a number.*got: 0"):
        DiptychRetriever(store, top_k=0)


def test_an_empty_store_is_warm_at_once_and_gives_nothing(things: Collection, caplog: pytest.LogCaptureFixture) -> None:
    retriever = DiptychRetriever(DiptychDocumentStore(things))
    retriever.warm_up()
    assert not things.handle.exists
    assert retriever.run("audio") == asyncio.run(retriever.run_async("audio")) == {"documents": []}
    assert caplog.text.count("there is nothing to search: ") == 2


def test_the_ranker_sorts_by_the_rerankers_scores_each_document_once() -> None:
    ranker = DiptychRanker(FakeReranker(), meta_fields_to_embed=["title"])
    ranker.warm_up()
    found = ranker.run("convert audio formats", [*DOCUMENTS, DOCUMENTS[0]])["documents"]
    scores = FakeReranker().predict([("convert audio formats", str(d.content)) for d in DOCUMENTS])
    assert found[0].id == "sox"
    assert sorted(document.score or 0 for document in found) == pytest.approx(sorted(map(float, scores)), abs=0.5)
    assert len(found) == 3
    assert DOCUMENTS[0].score is None
    assert ids(ranker.run("convert audio formats", DOCUMENTS, top_k=1)) == ["sox"]
    assert asyncio.run(ranker.run_async("convert audio formats", DOCUMENTS))["documents"] == found
    assert ranker.run("x", [])["documents"] == []


def test_coroutines_of_embedders_give_the_same(encoders: Encoders) -> None:
    for text in (
        DiptychTextEmbedder("fake-dense", source=encoders),
        DiptychSparseTextEmbedder("fake-sparse", source=encoders),
    ):
        assert asyncio.run(text.run_async("audio")) == text.run("audio")
    for documents in (
        DiptychDocumentEmbedder("fake-dense", source=encoders),
        DiptychSparseDocumentEmbedder("fake-sparse", source=encoders),
    ):
        assert asyncio.run(documents.run_async(DOCUMENTS)) == documents.run(DOCUMENTS)


def test_a_pipeline_runs_as_a_coroutine(store: DiptychDocumentStore, encoders: Encoders) -> None:
    asking = (AsyncPipeline or Pipeline)()
    asking.add_component("embedder", DiptychTextEmbedder("fake-dense", source=encoders))
    asking.add_component("retriever", DiptychRetriever(store))
    asking.add_component("ranker", DiptychRanker(FakeReranker(), top_k=1))
    asking.connect("retriever", "ranker")
    query = "convert audio formats"
    given = {"embedder": {"text": query}, "retriever": {"query": query}, "ranker": {"query": query}}
    found = asyncio.run(asking.run_async(given))
    assert ids(found["ranker"]) == ["sox"]
    assert len(found["embedder"]["embedding"]) == encoders["fake-dense"].dimension


def test_pipelines_survive_yaml_and_share_the_collection_that_they_name(tmp_path: Path) -> None:
    config = {
        "store": f"edge:{tmp_path}/qdrant",
        "collection": "things",
        "slots": {"lexical": {"adapter": "bm25"}},
        "cache": {"enabled": False},
    }
    indexing, asking = Pipeline(), Pipeline()
    indexing.add_component("writer", DocumentWriter(DiptychDocumentStore(config)))
    retriever = DiptychRetriever(DiptychDocumentStore(config), filters=SOUND, top_k=2, explain=True)
    asking.add_component("retriever", retriever)
    again_in, again = (Pipeline.loads(own.dumps(), **ALLOWED) for own in (indexing, asking))
    assert again_in.dumps() == indexing.dumps()
    assert again.dumps() == asking.dumps()
    again_in.run({"writer": {"documents": DOCUMENTS}})
    found = again.run({"retriever": {"query": "convert audio"}})["retriever"]["documents"]
    assert [document.id for document in found] == ["sox", "lame"]
    assert asking.run({"retriever": {"query": "convert audio"}})["retriever"]["documents"] == found


def test_all_components_survive_yaml_with_their_secrets_as_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "hunter2")
    key = Secret.from_env_var("MY_KEY")
    pipeline = Pipeline()
    remote = {"base_url": "http://127.0.0.1:9/v1"}
    pipeline.add_component(
        "text", DiptychTextEmbedder("remote", options={"api": "openai", "model": "m", **remote}, api_key=key)
    )
    pipeline.add_component(
        "documents", DiptychDocumentEmbedder("dense", source="diptych.yaml", meta_fields_to_embed=["a"])
    )
    pipeline.add_component("sparse", DiptychSparseTextEmbedder("bm25", options=BM25))
    pipeline.add_component("sparse_documents", DiptychSparseDocumentEmbedder("bm25", options=BM25))
    pipeline.add_component("ranker", DiptychRanker("cross-encoder", top_k=3, api_key=key))
    store = DiptychDocumentStore("https://example.org", "things", api_key=key)
    shown: Any = {"content": "passage", "passages": 1, "highlight": True}
    retriever = DiptychRetriever(store, filter_policy=FilterPolicy.MERGE, score_threshold=0.5, **shown)
    pipeline.add_component("retriever", retriever)
    text = pipeline.dumps()
    assert "hunter2" not in text
    assert "MY_KEY" in text
    again = Pipeline.loads(text, **ALLOWED)
    assert again.to_dict() == pipeline.to_dict()
    kept = again.to_dict()["components"]["retriever"]["init_parameters"]
    assert {name: kept[name] for name in shown} == shown
    assert again.get_component("sparse").run("convert audio") == pipeline.get_component("sparse").run("convert audio")


def test_what_is_made_of_objects_says_that_yaml_cannot_hold_it(encoders: Encoders, things: Collection) -> None:
    native = DiptychRetriever(DiptychDocumentStore("memory:", "x"), filters=models.Filter())
    made = [
        DiptychTextEmbedder("fake-dense", source=encoders),
        DiptychDocumentStore(things),
        DiptychRanker(FakeReranker()),
    ]
    for component in [*made, native]:
        with pytest.raises(SerializationError, match=r"(?s)cannot be written as YAML.*make it of names"):
            component.to_dict()  # type: ignore[attr-defined]


def test_a_key_in_clear_is_not_written_into_yaml() -> None:
    config = {"store": "https://example.org", "collection": "things", "slots": {"lexical": {"adapter": "bm25"}}}
    secret, named = ({**config, "api_key": key} for key in ("hunter2", "${QDRANT_API_KEY}"))
    for component in (DiptychDocumentStore(secret), DiptychSparseTextEmbedder("lexical", source=secret)):
        with pytest.raises(SerializationError, match=r"(?s)a key in clear.*api_key: \$\{QDRANT_API_KEY\}") as told:
            component.to_dict()
        assert "hunter2" not in str(told.value)
    assert DiptychDocumentStore(named).to_dict()["init_parameters"]["source"] == named


def test_a_token_is_no_key_for_a_remote_adapter() -> None:
    embedder = DiptychTextEmbedder(
        "remote", options={"api": "openai", "model": "m"}, api_key=Secret.from_token("hunter2")
    )
    with pytest.raises(ConfigError, match=r"(?s)read from the environment.*Secret.from_env_var") as told:
        embedder.warm_up()
    assert "hunter2" not in str(told.value)


def test_an_empty_title_is_no_title() -> None:
    made = to_diptych(Document(id="a", content="text", meta={"title": ""}))
    assert (made.title, made.metadata) == ("", {})
