"""Passages through LlamaIndex: in a node's metadata, or as nodes whose source is the document."""

from __future__ import annotations

import asyncio

import pytest
from llama_index.core.schema import MetadataMode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery

from diptych import Collection
from diptych_adapters.llama_index import DiptychRetriever, DiptychVectorStore
from long_documents import QUERY, SENTENCES, SLOTS, manuals

from .conftest import Open


@pytest.fixture
def long(opened: Open) -> Collection:
    collection = opened(slots=SLOTS)
    collection.populate(manuals())
    return collection


def test_a_nodes_metadata_hold_the_passages_which_no_prompt_reads(long: Collection) -> None:
    (hit,) = long.search(QUERY, limit=1)
    (found,) = DiptychRetriever(long, similarity_top_k=1).retrieve(QUERY)
    passages = found.node.metadata["diptych"]["passages"]
    assert [(own["start"], own["text"]) for own in passages] == [(own.start, own.text) for own in hit.passages]
    assert "diptych" not in found.node.get_content(MetadataMode.LLM)
    answer = DiptychVectorStore(long).query(VectorStoreQuery(query_str=QUERY, similarity_top_k=1))
    assert answer.nodes is not None
    assert answer.nodes[0].metadata["diptych"] == {"passages": passages}


def test_a_passage_is_a_node_whose_source_is_the_document(long: Collection) -> None:
    (hit,) = long.search(QUERY, limit=1)
    best = hit.passages[0]
    retriever = DiptychRetriever(long, similarity_top_k=1, content="passage")
    store = DiptychVectorStore(long, content="passage")
    query = VectorStoreQuery(query_str=QUERY, similarity_top_k=1)
    answers = store.query(query), asyncio.run(store.aquery(query))
    nodes = [
        *(one.node for one in retriever.retrieve(QUERY)),
        *(one.node for one in asyncio.run(retriever.aretrieve(QUERY))),
        *(node for answer in answers for node in answer.nodes or ()),
    ]
    assert len(nodes) == 4
    for node in nodes:
        assert isinstance(node, TextNode)
        assert SENTENCES["sox"] in node.get_content(MetadataMode.NONE)
        assert (node.ref_doc_id, node.start_char_idx, node.end_char_idx) == ("sox", best.start, best.end)
        assert node.node_id == f"sox:{best.start}-{best.end}"
        assert node.metadata["section"] == "sound"
        assert node.metadata["diptych"]["passage"]["id"] == "sox"
    assert [answer.ids for answer in answers] == [[nodes[0].node_id]] * 2


def test_a_passage_of_a_chunk_keeps_the_chunks_relations_and_counts_from_its_source(long: Collection) -> None:
    text, source = manuals()[0].text, RelatedNodeInfo(node_id="book")
    chunk = TextNode(id_="chunk", text=text, start_char_idx=1000, end_char_idx=1000 + len(text))
    chunk.relationships = {NodeRelationship.SOURCE: source, NodeRelationship.NEXT: RelatedNodeInfo(node_id="next")}
    store = DiptychVectorStore(long)
    store.add([chunk])
    store.delete_nodes(["sox"])
    (found,) = DiptychRetriever(long, similarity_top_k=1, content="passage").retrieve(QUERY)
    node, place = found.node, found.node.metadata["diptych"]["passage"]
    assert isinstance(node, TextNode)
    assert node.ref_doc_id == "book"
    assert node.start_char_idx == 1000 + place["start"]
    assert node.next_node is not None
    assert node.next_node.node_id == "next"
    assert node.parent_node is not None
    assert node.parent_node.node_id == "chunk"
