"""Embedding, sparse functions and reranker: encoders of diptych in LlamaIndex, its own Qdrant store included."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

from diptych import Registry
from diptych.config import parse_config
from diptych.encoders import Encoders
from diptych.errors import AdapterOptionsError, SearchError, UnknownAdapter
from diptych.testing import FakeDenseEncoder, FakeReranker
from diptych_adapters.llama_index import DiptychEmbedding, DiptychReranker, sparse_doc_fn, sparse_query_fn

QUERY = "word1 word2 word5 word21"
SLOTS = {
    "dense": {"adapter": "fake-dense", "query_prompt": "question"},
    "lexical": {"adapter": "fake-sparse"},
    "late": {"adapter": "fake-multivector"},
}


@pytest.fixture
def encoders(registry: Registry) -> Encoders:
    return Encoders.open(parse_config({"store": "memory:", "collection": "c", "slots": SLOTS}), registry=registry)


def test_queries_and_texts_go_through_their_own_side(encoders: Encoders) -> None:
    embedding, wanted = DiptychEmbedding(source=encoders), FakeDenseEncoder(query_prompt="question")
    assert embedding.get_query_embedding("mend") == pytest.approx(wanted.encode_query(["mend"])[0])
    assert embedding.get_text_embedding("mend") == pytest.approx(wanted.encode_document(["mend"])[0])
    texts = [f"text {n}" for n in range(50)]
    assert np.allclose(embedding.get_text_embedding_batch(texts), wanted.encode_document(texts))
    assert embedding.get_query_embedding("mend") != embedding.get_text_embedding("mend")
    assert (embedding.model_name, embedding.encoder, embedding.class_name()) == ("dense", "dense", "DiptychEmbedding")


def test_embeddings_have_an_asynchronous_form(encoders: Encoders) -> None:
    embedding = DiptychEmbedding("dense", source=encoders, embed_batch_size=3)
    texts = [f"text {n}" for n in range(10)]

    async def work() -> tuple[Any, Any, Any]:
        return await asyncio.gather(
            embedding.aget_query_embedding("mend"),
            embedding.aget_text_embedding("mend"),
            embedding.aget_text_embedding_batch(texts),
        )

    query, text, many = asyncio.run(work())
    assert query == embedding.get_query_embedding("mend")
    assert text == embedding.get_text_embedding("mend")
    assert many == embedding.get_text_embedding_batch(texts)


def test_an_encoder_is_named_or_the_only_one_of_its_kind(encoders: Encoders, registry: Registry) -> None:
    adapters = Encoders.open(registry=registry)
    assert DiptychEmbedding("fake-dense", source=adapters).encoder == "fake-dense"
    with pytest.raises(AdapterOptionsError, match=r"(?s)which dense encoder is meant.*slots: none.*encoder=\"NAME\""):
        DiptychEmbedding(source=adapters)
    with pytest.raises(AdapterOptionsError, match=r"(?s)'lexical' makes no dense vectors.*got: sparse"):
        DiptychEmbedding("lexical", source=encoders)
    with pytest.raises(AdapterOptionsError, match=r"(?s)'late' makes no sparse vectors.*got: multivector"):
        sparse_doc_fn("late", source=encoders)
    with pytest.raises(UnknownAdapter, match=r"(?s)no encoder is called 'dens'.*did you mean 'dense'"):
        DiptychEmbedding("dens", source=encoders)


def test_an_open_collection_gives_its_encoders(opened: Any) -> None:
    assert DiptychEmbedding(source=opened()).get_text_embedding("mend") == pytest.approx(
        FakeDenseEncoder().encode_document(["mend"])[0]
    )


def test_an_unchanged_store_of_llama_index_takes_the_embedding(encoders: Encoders, nodes: list[TextNode]) -> None:
    store = QdrantVectorStore(client=QdrantClient(":memory:"), collection_name="c")
    context = StorageContext.from_defaults(vector_store=store)
    for n, node in enumerate(nodes):
        node.id_ = f"00000000-0000-4000-8000-{n:012d}"
    index = VectorStoreIndex(nodes, storage_context=context, embed_model=DiptychEmbedding(source=encoders))
    encoder = FakeDenseEncoder(query_prompt="question")
    read = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
    scores = encoder.encode_document(read) @ encoder.encode_query([QUERY])[0]
    found = index.as_retriever(similarity_top_k=10).retrieve(QUERY)
    assert [hit.score for hit in found] == pytest.approx(sorted(scores, reverse=True)[:10], abs=1e-5)


def test_an_unchanged_store_of_llama_index_takes_the_sparse_functions(
    encoders: Encoders, nodes: list[TextNode]
) -> None:
    doc_fn, query_fn = sparse_doc_fn(source=encoders), sparse_query_fn(source=encoders)
    store = QdrantVectorStore(
        client=QdrantClient(":memory:"),
        collection_name="c",
        enable_hybrid=True,
        sparse_doc_fn=doc_fn,
        sparse_query_fn=query_fn,
    )
    for n, node in enumerate(nodes):
        node.id_ = f"00000000-0000-4000-8000-{n:012d}"
    context = StorageContext.from_defaults(vector_store=store)
    VectorStoreIndex(nodes, storage_context=context, embed_model=DiptychEmbedding(source=encoders))
    ((terms,), (weights,)) = query_fn([QUERY])
    query = dict(zip(terms, weights, strict=True))
    documents = zip(*doc_fn([node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]), strict=True)
    wanted = [sum(query.get(term, 0) * weight for term, weight in zip(*own, strict=True)) for own in documents]
    result = store.query(VectorStoreQuery(query_str=QUERY, similarity_top_k=8, mode=VectorStoreQueryMode.SPARSE))
    assert result.similarities == pytest.approx(sorted(wanted, reverse=True)[:8])


def test_bm25_encodes_documents_once_it_is_told_their_average_length(tmp_path: Any) -> None:
    config = tmp_path / "diptych.yaml"
    text = "store: 'memory:'\ncollection: c\nslots:\n  lexical: {{adapter: bm25, language: english{}}}\n"
    config.write_text(text.format(""))
    with pytest.warns(UserWarning, match=r"slot 'lexical'.*bm25 assumes .*256.*set average_length"):
        sparse_doc_fn(source=config)(["mend a bicycle"])
    config.write_text(text.format(", average_length: 3"))
    (terms,), (weights,) = sparse_doc_fn(source=config)(["mend a bicycle"])
    assert len(terms) == len(weights) == 2
    (asked,), _ = sparse_query_fn(source=config)(["bicycles"])
    assert set(asked) < set(terms)
    without_config = sparse_doc_fn("bm25", options={"average_length": 3})
    assert without_config(["mend a bicycle"]) == ([terms], [weights])


def scored(nodes: list[TextNode]) -> list[NodeWithScore]:
    return [NodeWithScore(node=node, score=0.1) for node in nodes]


def test_a_reranker_orders_nodes_by_its_scores_of_metadata_and_text(encoders: Encoders, nodes: list[TextNode]) -> None:
    reranker = DiptychReranker("fake-reranker", source=encoders, top_n=5)
    texts = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
    wanted = FakeReranker().predict([(QUERY, text) for text in texts])
    best = sorted(range(len(nodes)), key=lambda n: -wanted[n])[:5]
    found = reranker.postprocess_nodes(scored(nodes), query_str=QUERY)
    assert [hit.node_id for hit in found] == [nodes[n].node_id for n in best]
    assert [hit.score for hit in found] == pytest.approx([wanted[n] for n in best])
    assert [hit.node.model_dump() for hit in found] == [nodes[n].model_dump() for n in best]
    later = asyncio.run(reranker.apostprocess_nodes(scored(nodes), query_str=QUERY))
    assert [hit.node_id for hit in later] == [hit.node_id for hit in found]
    assert (
        len(DiptychReranker("fake-reranker", source=encoders).postprocess_nodes(scored(nodes), query_str=QUERY)) == 30
    )


def test_any_object_that_reranks_will_do(nodes: list[TextNode]) -> None:
    reranker = DiptychReranker(FakeReranker(), top_n=1)
    assert reranker.name == "FakeReranker"
    (hit,) = reranker.postprocess_nodes(scored(nodes), query_str="only7")
    assert hit.node_id == "node-7"
    assert reranker.postprocess_nodes([], query_str="only7") == []
    with pytest.raises(SearchError, match=r"(?s)a reranker needs the query.*give query_str"):
        reranker.postprocess_nodes(scored(nodes))


def test_what_cannot_rerank_is_refused(encoders: Encoders) -> None:
    with pytest.raises(AdapterOptionsError, match=r"(?s)adapter 'fake-dense' cannot rerank"):
        DiptychReranker("fake-dense", source=encoders)
