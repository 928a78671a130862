"""A node becomes a document and the same node again; documents of others become nodes and stay what they are."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import (
    BaseNode,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.schema import (
    Document as WholeDocument,
)

from diptych import Document
from diptych_adapters.llama_index.nodes import to_document, to_node

DOCUMENT = WholeDocument(
    id_="sox.txt",
    text="One two three. Four five six. Seven eight nine. " * 20,
    metadata={"title": "Sox", "section": "sound", "year": 1999, "rate": 1.0, "text": "a key that diptych needs"},
    excluded_embed_metadata_keys=["year"],
    excluded_llm_metadata_keys=["section"],
)
SPLIT = SentenceSplitter(chunk_size=140, chunk_overlap=5).get_nodes_from_documents([DOCUMENT])
NODES: list[BaseNode] = [
    *SPLIT,
    DOCUMENT,
    TextNode(id_="plain", text="words"),
    TextNode(id_="titled", text="words", metadata={"title": "T"}),
    TextNode(id_="with metadata", text="words", metadata={"year": 1}),
    TextNode(id_="with all excluded", text="words", metadata={"title": "T"}, excluded_embed_metadata_keys=["title"]),
    TextNode(
        id_="with a title last", metadata={"a": 1, "title": "T"}, excluded_embed_metadata_keys=["a"], text="words"
    ),
    TextNode(id_="with a title that is not text", text="words", metadata={"title": 3}),
    TextNode(id_="with keys of diptych", text="words", metadata={"_diptych": 1, "_node": {"a": [1]}, "z": None}),
    TextNode(
        id_="templates",
        text="words",
        metadata={"b": None, "a": [1, "x", {"c": 2.5}]},
        text_template="{content} -- {metadata_str}",
        metadata_template="{key}={value}",
        metadata_separator="; ",
        start_char_idx=0,
        end_char_idx=5,
        mimetype="text/html",
    ),
    IndexNode(id_="index", text="words", index_id="other"),
    IndexNode(id_="index of a node", text="words", index_id="other", obj=TextNode(id_="inner", text="more")),
    ImageNode(id_="image", text="words", image_url="https://example.org/x.png"),
    Node(
        id_="resources",
        text_resource=MediaResource(text="words", mimetype="text/plain"),
        image_resource=MediaResource(url="https://example.org/x.png"),
    ),
]
DOCUMENTS = [
    Document("a", "words"),
    Document("b", "words", "A title"),
    Document("c", "words", "A title", {"section": "sound", "tags": ["x"], "nested": {"n": 1.5}}),
    Document("d", "", "A title alone"),
]


@pytest.mark.parametrize("node", NODES, ids=range(len(NODES)))
def test_a_node_comes_back_as_it_was(node: BaseNode) -> None:
    found = to_node(to_document(node))
    assert type(found) is type(node)
    assert found.model_dump() == node.model_dump()
    assert list(found.metadata) == list(node.metadata)
    assert found.get_content(metadata_mode=MetadataMode.EMBED) == node.get_content(metadata_mode=MetadataMode.EMBED)
    assert to_document(found) == to_document(node)


KEYS = st.sampled_from(["title", "text", "_node", "_diptych", "section", "year", "a b", ""])
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(["section: x", "title: T", "x\ny"])
VALUES = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | TEXTS | st.lists(TEXTS, max_size=2)


@st.composite
def any_node(draw: st.DrawFn) -> TextNode:
    metadata = draw(st.dictionaries(KEYS, VALUES, max_size=4))
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="s", metadata={"a": 1})} if draw(st.booleans()) else {}
    return TextNode(
        id_="any",
        text=draw(TEXTS),
        metadata=metadata,
        excluded_embed_metadata_keys=draw(st.lists(KEYS, max_size=3)),
        relationships=source,
    )


@given(any_node())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_whatever_a_node_says_comes_back(node: TextNode) -> None:
    document = to_document(node)
    assert to_node(document).model_dump() == node.model_dump()
    assert list(to_node(document).metadata) == list(node.metadata)
    assert to_document(to_node(document)) == document


@pytest.mark.parametrize("node", NODES, ids=range(len(NODES)))
def test_a_key_that_others_add_is_not_encoded_when_the_node_comes_again(node: BaseNode) -> None:
    document = to_document(node)
    stamped = replace(document, metadata={**document.metadata, "customer": "acme"})
    again = to_document(to_node(stamped))
    assert (again.title, again.text, again.metadata["customer"]) == (document.title, document.text, "acme")
    assert to_document(to_node(again)) == again


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.id)
def test_a_document_of_populate_is_a_node_and_stays_the_document_it_is(document: Document) -> None:
    node = to_node(document)
    assert (node.node_id, node.get_content()) == (document.id, document.text)
    assert node.metadata == {**({"title": document.title} if document.title else {}), **document.metadata}
    assert to_document(node) == document


def test_text_and_metadata_lie_where_every_reader_looks_for_them() -> None:
    document = to_document(SPLIT[0])
    assert document.text == SPLIT[0].get_content()
    assert {key: document.metadata[key] for key in ("section", "year", "rate")} == {
        "section": "sound",
        "year": 1999,
        "rate": 1.0,
    }
    assert document.metadata.keys() == {"section", "year", "rate", "_node"}
    assert document.metadata["_node"]["metadata"] == {"title": "Sox", "text": "a key that diptych needs"}


def test_the_title_is_what_llama_index_encodes_before_the_text() -> None:
    for node in [*SPLIT, *NODES[-3:]]:
        document = to_document(node)
        encoded = node.get_content(metadata_mode=MetadataMode.EMBED)
        assert encoded == "\n\n".join(part for part in (document.title, document.text) if part)
    assert to_document(TextNode(text="words", metadata={"title": "T"})).title == "T"


def test_dates_become_text_as_in_llama_index() -> None:
    node = TextNode(text="words", metadata={"day": datetime.date(2024, 1, 2)})
    assert to_node(to_document(node)).metadata == {"day": "2024-01-02"}


def test_an_embedding_is_no_part_of_the_document() -> None:
    assert to_document(TextNode(id_="a", text="words", embedding=[1.0])) == Document("a", "words")


def test_metadata_that_others_added_is_the_nodes() -> None:
    document = to_document(SPLIT[0])
    edited = Document(document.id, "other words", document.title, {**document.metadata, "added": 1})
    found = to_node(edited)
    assert (found.get_content(), found.metadata) == ("other words", {**SPLIT[0].metadata, "added": 1})
    assert found.ref_doc_id == "sox.txt"


@pytest.mark.parametrize("value", ["text", None, {"content": "no JSON"}, {"content": "[1]"}, {"content": 3}])
def test_the_same_key_in_somebody_elses_metadata_is_metadata(value: object) -> None:
    node = to_node(Document("a", "words", "", {"_node": value}))
    assert (node.get_content(), node.metadata) == ("words", {"_node": value})
