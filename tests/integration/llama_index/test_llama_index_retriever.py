"""`DiptychRetriever`: the collection's hits, with the scores of every stage."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers.no_text import NoText
from llama_index.core.schema import MetadataMode, QueryBundle, TextNode
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters

from diptych import Collection, Document
from diptych.errors import SearchError
from diptych.search import FieldBoost, Retrieve
from diptych_adapters.llama_index import DiptychReranker, DiptychRetriever, DiptychVectorStore

QUERY = "word1 word2 word5 word21"
SEARCH = {"retrieve": {"dense": 20, "lexical": 20}, "rerank": [{"adapter": "fake-reranker", "candidates": 10}]}


@pytest.fixture
def filled(opened: Any, nodes: list[TextNode]) -> Collection:
    collection: Collection = opened(search=SEARCH)
    DiptychVectorStore(collection).add(nodes)
    return collection


def test_hits_are_the_collections_with_the_score_of_each_stage(filled: Collection) -> None:
    hits = filled.search(QUERY, limit=4)
    found = DiptychRetriever(filled, similarity_top_k=4).retrieve(QUERY)
    assert [(one.node_id, one.score) for one in found] == [(hit.id, hit.score) for hit in hits]
    assert [one.metadata["diptych"] for one in found] == [{"stages": dict(hit.stages)} for hit in hits]
    assert set(found[0].metadata["diptych"]["stages"]) == {"linear", "fake-reranker"}


def test_neither_an_encoder_nor_a_language_model_reads_how_a_node_was_found(filled: Collection) -> None:
    (found,) = DiptychRetriever(filled, similarity_top_k=1).retrieve(QUERY)
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        assert "diptych" not in found.get_content(metadata_mode=mode)


def test_the_asynchronous_form_finds_the_same(filled: Collection) -> None:
    retriever = DiptychRetriever(filled, similarity_top_k=4, explain=True)
    assert asyncio.run(retriever.aretrieve(QueryBundle(QUERY))) == retriever.retrieve(QUERY)


def test_explanations_come_along_when_asked_for(filled: Collection) -> None:
    found = DiptychRetriever(filled, similarity_top_k=2, explain=True).retrieve(QUERY)
    told = [one.metadata["diptych"]["explanation"] for one in found]
    assert told == [explanation.as_dict() for explanation in filled.explain(QUERY, limit=2)]


def test_boosts_pins_and_exclusions_are_the_callers(filled: Collection) -> None:
    first, second, *_, last = (hit.id for hit in filled.search(QUERY, limit=8))
    options: dict[str, Any] = {"pin": [last], "exclude": [first], "boost": [FieldBoost("section", "net", weight=0.2)]}
    found = DiptychRetriever(filled, similarity_top_k=4, explain=True, **options).retrieve(QUERY)
    assert [one.node_id for one in found] == [hit.id for hit in filled.search(QUERY, limit=4, **options)]
    assert (found[0].node_id, found[0].metadata["diptych"]["explanation"]["notes"]) == (last, ["pinned"])
    assert first not in [one.node_id for one in found]
    assert second in [one.node_id for one in found]


def test_pipeline_threshold_and_filters_are_the_callers(filled: Collection, nodes: list[TextNode]) -> None:
    filters = MetadataFilters(filters=[MetadataFilter(key="section", value="net")])
    retriever = DiptychRetriever(filled, similarity_top_k=30, pipeline=Retrieve("dense"), filters=filters)
    found = retriever.retrieve(QUERY)
    assert {one.node_id for one in found} == {node.node_id for node in nodes if node.metadata["section"] == "net"}
    threshold = found[3].get_score()
    best = DiptychRetriever(
        filled, similarity_top_k=30, pipeline=Retrieve("dense"), filters=filters, score_threshold=threshold
    )
    assert [one.node_id for one in best.retrieve(QUERY)] == [one.node_id for one in found[:4]]
    own = DiptychRetriever(filled, filters=filled.having(["node-4"]))
    assert [one.node_id for one in own.retrieve(QUERY)] == ["node-4"]


def test_documents_of_populate_are_nodes(filled: Collection) -> None:
    filled.populate([Document("other", "quite other words", "Other", {"section": "x"})])
    (found,) = DiptychRetriever(filled, similarity_top_k=1).retrieve("quite other words")
    assert (found.node_id, found.text) == ("other", "quite other words")
    assert {key: found.metadata[key] for key in ("title", "section")} == {"title": "Other", "section": "x"}


def test_a_query_engine_takes_retriever_and_reranker(filled: Collection) -> None:
    engine = RetrieverQueryEngine(
        DiptychRetriever(filled, similarity_top_k=8),
        NoText(llm=MockLLM()),
        node_postprocessors=[DiptychReranker("fake-reranker", source=filled, top_n=2)],
    )
    found = engine.query(QUERY).source_nodes
    assert [one.node_id for one in found] == [hit.id for hit in filled.search(QUERY, limit=2)]


def test_a_filter_that_cannot_be_answered_is_refused_at_once(filled: Collection) -> None:
    with pytest.raises(SearchError, match="needs one value"):
        DiptychRetriever(filled, filters=MetadataFilters(filters=[MetadataFilter(key="section", value=None)]))
