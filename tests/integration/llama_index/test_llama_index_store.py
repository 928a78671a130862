"""`DiptychVectorStore`: filled by LlamaIndex, asked through its indexes, in step with the collection beneath."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document as WholeDocument
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.vector_stores.qdrant.utils import relative_score_fusion
from qdrant_client import models

from diptych import Collection, Document, TenantCollection
from diptych.errors import CollectionError, DocumentError, SearchError
from diptych.search import Retrieve
from diptych_adapters.llama_index import DiptychVectorStore

QUERY = "word1 word2 word5 word21"
PIPELINE = {
    "retrieve": {"dense": 20, "lexical": 20},
    "fuse": {"kind": "rrf"},
    "rerank": [{"adapter": "fake-reranker", "candidates": 10}],
    "limit": 5,
}


def ids(nodes: Any) -> list[str]:
    return [node.node_id for node in nodes]


def vector_of(collection: Collection | TenantCollection) -> list[float]:
    """The query in the dense slot."""
    (vector,) = collection.encoders["dense"].encode_query([QUERY])
    assert isinstance(vector, np.ndarray)
    return [float(number) for number in vector]


def index_of(store: DiptychVectorStore, nodes: list[TextNode]) -> VectorStoreIndex:
    context = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex(nodes, storage_context=context, embed_model=store.embed_model)


def test_nodes_come_back_exactly_relationships_and_all(opened: Any, nodes: list[TextNode]) -> None:
    store = DiptychVectorStore(opened())
    assert store.add(nodes) == ids(nodes)
    found = store.get_nodes(ids(nodes))
    assert [node.model_dump() for node in found] == [node.model_dump() for node in nodes]
    assert [list(node.metadata) for node in found] == [list(node.metadata) for node in nodes]
    assert sorted(ids(store.get_nodes())) == sorted(ids(nodes))


def test_the_same_nodes_twice_change_nothing_and_encode_nothing(
    opened: Any, nodes: list[TextNode], reports: Any
) -> None:
    collection = opened()
    store = DiptychVectorStore(collection)
    store.add(nodes)
    before = {document.id: document for document in collection.documents()}
    store.add(nodes)
    index_of(store, nodes)
    store.add(store.get_nodes())
    assert reports.encoded == [60, 0, 0, 0]
    assert [report.unchanged for report in reports.all] == [0, 30, 30, 30]
    assert {document.id: document for document in collection.documents()} == before


def test_an_index_leaves_encoding_to_the_store_which_encodes_once(
    opened: Any, nodes: list[TextNode], reports: Any
) -> None:
    store = DiptychVectorStore(opened(search=PIPELINE))
    index = index_of(store, nodes)
    assert reports.encoded == [60]
    index.insert_nodes(nodes[:10])
    asyncio.run(index.ainsert_nodes(nodes))
    assert reports.encoded == [60, 0, 0]
    found = index.as_retriever(similarity_top_k=5).retrieve(QUERY)
    assert len(found) == 5


def test_splits_of_a_document_keep_their_neighbours(opened: Any) -> None:
    text = " ".join(f"Sentence {n} tells of thing{n}." for n in range(80))
    documents = [WholeDocument(id_="long.txt", text=text, metadata={"file": "long.txt"})]
    store = DiptychVectorStore(opened())
    context = StorageContext.from_defaults(vector_store=store)
    splitter = SentenceSplitter(chunk_size=80, chunk_overlap=0, id_func=lambda n, document: f"{document.node_id}-{n}")
    index = VectorStoreIndex.from_documents(
        documents, storage_context=context, embed_model=store.embed_model, transformations=[splitter]
    )
    wanted = splitter.get_nodes_from_documents(documents)
    assert len(wanted) > 3
    assert [node.model_dump() for node in store.get_nodes(ids(wanted))] == [node.model_dump() for node in wanted]
    (found,) = index.as_retriever(similarity_top_k=1).retrieve("thing40")
    assert found.node.prev_node is not None
    assert store.get_nodes([found.node.prev_node.node_id])[0].next_node.node_id == found.node_id  # type: ignore[union-attr]
    index.delete_ref_doc("long.txt")
    assert store.get_nodes() == []


def test_an_ingestion_pipeline_fills_the_store(opened: Any, nodes: list[TextNode], reports: Any) -> None:
    store = DiptychVectorStore(opened())
    pipeline = IngestionPipeline(transformations=[store.embed_model], vector_store=store)
    pipeline.run(nodes=nodes)
    assert sorted(ids(store.get_nodes())) == sorted(ids(nodes))
    assert reports.encoded == [60]


def test_embeddings_that_came_along_are_not_used_and_a_warning_says_so(opened: Any, nodes: list[TextNode]) -> None:
    store = DiptychVectorStore(opened())
    context = StorageContext.from_defaults(vector_store=store)
    with pytest.warns(UserWarning, match=r"embed_model=store\.embed_model"):
        VectorStoreIndex(nodes[:3], storage_context=context, embed_model=MockEmbedding(embed_dim=3))
    assert len(store.get_nodes()) == 3


def test_a_query_goes_through_the_whole_pipeline(opened: Any, nodes: list[TextNode]) -> None:
    collection = opened(search=PIPELINE)
    store = DiptychVectorStore(collection)
    store.add(nodes)
    hits = collection.search(QUERY, limit=7)
    assert set(hits[0].stages) == {"rrf", "fake-reranker"}
    for mode in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.HYBRID):
        result = store.query(VectorStoreQuery(query_str=QUERY, similarity_top_k=7, mode=mode))
        assert result.ids == [hit.id for hit in hits]
        assert result.similarities == [hit.score for hit in hits]
        assert result.nodes is not None
        assert [node.get_content() for node in result.nodes] == [hit.document.text for hit in hits]


def test_more_nodes_than_the_pipeline_passes_on_are_refused(opened: Any, nodes: list[TextNode]) -> None:
    store = DiptychVectorStore(opened(search=PIPELINE))
    store.add(nodes)
    with pytest.raises(SearchError, match=r"(?s)more hits than the pipeline passes on.*at most 10"):
        store.query(VectorStoreQuery(query_str=QUERY, similarity_top_k=11))


def test_a_vector_alone_asks_the_dense_slot(opened: Any, nodes: list[TextNode]) -> None:
    collection = opened(search=PIPELINE)
    store = DiptychVectorStore(collection)
    store.add(nodes)
    result = store.query(VectorStoreQuery(query_embedding=vector_of(collection), similarity_top_k=7))
    assert result.ids == [hit.id for hit in collection.search(QUERY, limit=7, pipeline=Retrieve("dense"))]


@pytest.mark.parametrize("mode", [VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.TEXT_SEARCH])
def test_sparse_modes_ask_the_lexical_slot(opened: Any, nodes: list[TextNode], mode: VectorStoreQueryMode) -> None:
    collection = opened()
    store = DiptychVectorStore(collection)
    store.add(nodes)
    hits = collection.search(QUERY, limit=4, pipeline=Retrieve("lexical"))
    query = VectorStoreQuery(query_str=QUERY, similarity_top_k=9, sparse_top_k=4, mode=mode)
    assert store.query(query).ids == [hit.id for hit in hits]


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_alpha_weighs_as_llama_index_does(opened: Any, nodes: list[TextNode], alpha: float) -> None:
    store = DiptychVectorStore(opened())
    store.add(nodes)
    dense = store.query(VectorStoreQuery(query_embedding=vector_of(store.collection), similarity_top_k=8))
    sparse = store.query(
        VectorStoreQuery(query_str=QUERY, similarity_top_k=8, sparse_top_k=12, mode=VectorStoreQueryMode.SPARSE)
    )
    wanted = relative_score_fusion(dense, sparse, alpha=alpha, top_k=6)
    query = VectorStoreQuery(
        query_str=QUERY,
        similarity_top_k=8,
        sparse_top_k=12,
        hybrid_top_k=6,
        alpha=alpha,
        mode=VectorStoreQueryMode.HYBRID,
    )
    assert store.query(query).similarities == pytest.approx(wanted.similarities, abs=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 0.4, 1.0])
def test_mmr_threshold_is_the_share_of_relevance(opened: Any, nodes: list[TextNode], threshold: float) -> None:
    collection = opened()
    store = DiptychVectorStore(collection)
    store.add(nodes)
    wanted = marginal(collection, nodes, threshold, 8)
    query = VectorStoreQuery(query_str=QUERY, similarity_top_k=8, mode=VectorStoreQueryMode.MMR)
    assert store.query(query, mmr_threshold=threshold).ids == wanted
    query.mmr_threshold = threshold
    assert store.query(query).ids == wanted
    index = VectorStoreIndex.from_vector_store(store, embed_model=store.embed_model)
    retriever = index.as_retriever(
        vector_store_query_mode="mmr", similarity_top_k=8, vector_store_kwargs={"mmr_threshold": threshold}
    )
    assert ids(retriever.retrieve(QUERY)) == wanted


def marginal(collection: Collection, nodes: list[TextNode], threshold: float, limit: int) -> list[str]:
    """Maximal marginal relevance by brute force: 1 looks at the query alone, 0 at what was chosen before."""
    encoder = collection.encoders["dense"]
    by_id = {document.id: document for document in collection.documents()}
    texts = [" ".join(part for part in (by_id[i].title, by_id[i].text) if part) for i in ids(nodes)]
    vectors: Any = np.stack(encoder.encode_document(texts))  # type: ignore[arg-type]
    relevance, likeness = vectors @ np.array(vector_of(collection)), vectors @ vectors.T
    chosen: list[int] = []
    while len(chosen) < limit:
        penalty = likeness[:, chosen].max(axis=1) if chosen else np.zeros(len(nodes))
        scores = (threshold * relevance - (1 - threshold) * penalty) if chosen else relevance
        scores[chosen] = -np.inf
        chosen.append(int(scores.argmax()))
    return [nodes[n].node_id for n in chosen]


def test_sources_and_ids_narrow_a_query(opened: Any, nodes: list[TextNode]) -> None:
    store = DiptychVectorStore(opened())
    store.add(nodes)
    by_source = store.query(VectorStoreQuery(query_str=QUERY, similarity_top_k=30, doc_ids=["source-1", "nobody"]))
    assert set(by_source.ids or ()) == {node.node_id for node in nodes if node.ref_doc_id == "source-1"}
    by_id = store.query(VectorStoreQuery(query_str=QUERY, similarity_top_k=30, node_ids=["node-3", "node-9", "nobody"]))
    assert set(by_id.ids or ()) == {"node-3", "node-9"}


def test_qdrants_own_filters_and_parameters_come_with_the_query(opened: Any, nodes: list[TextNode]) -> None:
    store = DiptychVectorStore(opened())
    store.add(nodes)
    sound = models.Filter(must=[models.FieldCondition(key="section", match=models.MatchValue(value="sound"))])
    index = VectorStoreIndex.from_vector_store(store, embed_model=store.embed_model)
    kwargs = {"qdrant_filters": sound, "search_params": {"exact": True}}
    found = index.as_retriever(similarity_top_k=30, vector_store_kwargs=kwargs).retrieve(QUERY)
    assert set(ids(found)) == {node.node_id for node in nodes if node.metadata["section"] == "sound"}


def test_deleting_by_source_by_id_and_all(opened: Any, nodes: list[TextNode], reports: Any) -> None:
    collection = opened()
    store = DiptychVectorStore(collection)
    store.add(nodes)
    store.delete("source-1")
    assert set(ids(store.get_nodes())) == {node.node_id for node in nodes if node.ref_doc_id != "source-1"}
    store.delete_nodes(["node-0", "nobody"])
    assert collection.count() == 19
    store.delete_nodes([])
    assert collection.count() == 19
    with pytest.raises(CollectionError, match=r"(?s)which nodes are to be deleted.*clear\(\) deletes all"):
        store.delete_nodes()
    store.clear()
    assert collection.count() == 0
    store.add(nodes)
    assert reports.encoded == [60, 60]


def test_ids_and_filters_together(opened: Any, nodes: list[TextNode]) -> None:
    store = DiptychVectorStore(opened())
    store.add(nodes)
    late = MetadataFilters(filters=[MetadataFilter(key="year", value=1995, operator=FilterOperator.GT)])
    assert ids(store.get_nodes(["node-9", "node-2", "node-7"], late)) == ["node-9", "node-7"]
    assert store.get_nodes([], late) == []
    assert store.get_nodes([]) == []


def test_everything_has_an_asynchronous_form(opened: Any, nodes: list[TextNode], reports: Any) -> None:
    store = DiptychVectorStore(opened(search=PIPELINE))

    async def work() -> None:
        assert await store.async_add(nodes) == ids(nodes)
        assert await store.async_add(nodes) == ids(nodes)
        query = VectorStoreQuery(query_str=QUERY, similarity_top_k=5)
        results = await asyncio.gather(*(store.aquery(query) for _ in range(8)))
        assert {tuple(result.ids or ()) for result in results} == {tuple(store.query(query).ids or ())}
        by_vector = VectorStoreQuery(query_embedding=vector_of(store.collection), similarity_top_k=5)
        assert (await store.aquery(by_vector)).ids == store.query(by_vector).ids
        index = VectorStoreIndex.from_vector_store(store, embed_model=store.embed_model)
        found: list[NodeWithScore] = await index.as_retriever(similarity_top_k=5).aretrieve(QUERY)
        assert ids(found) == store.query(query).ids
        assert ids(await store.aget_nodes(["node-3"])) == ["node-3"]
        await store.adelete("source-0")
        await store.adelete_nodes(["node-1"])
        assert store.collection.count() == 19
        await store.aclear()
        assert store.collection.count() == 0

    asyncio.run(work())
    assert reports.encoded == [60, 0]


def test_nodes_that_cannot_be_indexed_are_an_error_and_the_others_are_in(
    opened: Any, nodes: list[TextNode], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = DiptychVectorStore(opened())
    with pytest.raises(
        DocumentError, match=r"(?s)1 of 3 nodes cannot be indexed.*all of them in .*set-aside.*empty: empty document"
    ):
        store.add([nodes[0], TextNode(id_="empty", text=" "), nodes[1]])
    assert set(ids(store.get_nodes())) == {"node-0", "node-1"}


def test_what_the_collection_cannot_do_is_refused(opened: Any, nodes: list[TextNode]) -> None:
    store = DiptychVectorStore(opened(slots={"dense": {"adapter": "fake-dense"}}))
    store.add(nodes[:3])
    with pytest.raises(SearchError, match=r"(?s)unsupported query mode.*got: svm.*expected: default, hybrid"):
        store.query(VectorStoreQuery(query_str=QUERY, mode=VectorStoreQueryMode.SVM))
    with pytest.raises(SearchError, match=r"(?s)got: dense.*expected: a sparse or text index slot"):
        store.query(VectorStoreQuery(query_str=QUERY, mode=VectorStoreQueryMode.SPARSE))
    with pytest.raises(SearchError, match=r"(?s)nothing to search for.*query_str, or query_embedding"):
        store.query(VectorStoreQuery())
    with pytest.raises(SearchError, match=r"(?s)unknown vector_store_kwargs.*shard_identifier"):
        store.query(VectorStoreQuery(query_str=QUERY), shard_identifier=1)
    with pytest.raises(CollectionError, match=r"(?s)unknown arguments.*DiptychVectorStore\.add.*shard_identifier"):
        store.add(nodes, shard_identifier=1)
    with pytest.raises(SearchError, match=r"(?s)makes no vectors.*use DiptychEmbedding"):
        store.embed_model.get_query_embedding(QUERY)


def test_what_populate_wrote_is_read_and_written_again_unchanged(opened: Any, reports: Any) -> None:
    collection = opened()
    documents = [
        Document("sox", "converts audio files", "SoX", {"section": "sound", "tags": ["a", "b"]}),
        Document("7", "edits pictures"),
    ]
    collection.populate(documents)
    store = DiptychVectorStore(collection)
    sox, other = store.get_nodes(["sox", "7"])
    assert (sox.node_id, sox.get_content()) == ("sox", "converts audio files")
    assert sox.metadata == {"title": "SoX", "section": "sound", "tags": ["a", "b"]}
    assert (other.node_id, other.get_content(), other.metadata) == ("7", "edits pictures", {})
    store.add([sox, other])
    assert reports.encoded == [4, 0]
    assert collection.get(["sox", "7"]) == documents


def test_it_opens_by_a_config_file(tmp_path: Any) -> None:
    config = tmp_path / "diptych.yaml"
    config.write_text("store: 'memory:'\ncollection: things\nslots:\n  lexical: {adapter: bm25, language: english}\n")
    store = DiptychVectorStore(config)
    assert isinstance(store.collection, Collection)
    with store.collection:
        store.add([TextNode(id_="a", text="paints boats"), TextNode(id_="b", text="mends bicycles")])
        assert store.query(VectorStoreQuery(query_str="bicycle")).ids == ["b"]
        assert store.client is store.collection.client
        assert store.class_name() == "DiptychVectorStore"


def test_before_the_first_node_nothing_is_found(opened: Any) -> None:
    store, query = DiptychVectorStore(opened()), VectorStoreQuery(query_str=QUERY)
    assert store.query(query).ids == []
    assert asyncio.run(store.aquery(query)).ids == []
