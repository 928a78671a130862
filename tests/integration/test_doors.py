"""Who fills a collection through any door finds through every other the same documents in the same order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from uuid import NAMESPACE_OID, uuid5

import numpy as np
import pytest
from qdrant_client import models

import diptych.search
from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.handle.collection_handle import CollectionHandle
from diptych.testing import fakes_plugin
from diptych.testing.fakes import FakeDenseEncoder

RANDOM = np.random.default_rng(5)
WORDS = [f"word{n}" for n in range(120)]
NAMES = [str(uuid5(NAMESPACE_OID, str(n))) for n in range(60)]
TEXTS = {name: " ".join(RANDOM.choice(WORDS, size=int(RANDOM.integers(8, 40)))) for name in NAMES}
PLAIN: Documents = {name: (text, {}) for name, text in TEXTS.items()}
QUERIES = ["word1 word2 word3", "word40 word41 word99", "word7 word70 word17 word71"]
LIMIT = 10
Documents: TypeAlias = Mapping[str, tuple[str, Mapping[str, Any]]]  # text and further fields, by id
Write: TypeAlias = Callable[[Collection, Documents], None]
Read: TypeAlias = Callable[[Collection, str], list[str]]


@pytest.fixture
def things(tmp_path: Path) -> Iterator[Collection]:
    """An empty collection, on a client that plain programs use too."""
    registry, slots = Registry(fakes_plugin), {"dense": {"adapter": "fake-dense"}}
    config = parse_config({"collection": "things", "slots": slots})
    client: Any = diptych.client(f"edge:{tmp_path / 'store'}", registry=registry)
    collection = Collection(CollectionHandle(client, "things", config, registry), owns_client=True)
    client.encoders = collection.encoders
    with collection:
        yield collection


def write_documents(things: Collection, documents: Documents) -> None:
    things.populate([{"id": name, "text": text, **facts} for name, (text, facts) in documents.items()])


def write_langchain(things: Collection, documents: Documents) -> None:
    from diptych_adapters.langchain import DiptychVectorStore

    texts, metadatas = [text for text, _ in documents.values()], [dict(facts) for _, facts in documents.values()]
    DiptychVectorStore(things).add_texts(texts, metadatas=metadatas, ids=list(documents))


def write_llama_index(things: Collection, documents: Documents) -> None:
    """Nodes whose metadata LlamaIndex keeps out of what is encoded, but for the title."""
    from llama_index.core.schema import TextNode

    from diptych_adapters.llama_index import DiptychVectorStore

    nodes = [
        TextNode(
            id_=name,
            text=text,
            metadata=dict(facts),
            excluded_embed_metadata_keys=[key for key in facts if key != "title"],
        )
        for name, (text, facts) in documents.items()
    ]
    DiptychVectorStore(things).add(nodes)


def write_haystack(things: Collection, documents: Documents) -> None:
    from haystack import Document
    from haystack.document_stores.types import DuplicatePolicy

    from diptych_adapters.haystack import DiptychDocumentStore

    given = [Document(id=name, content=text, meta=dict(facts)) for name, (text, facts) in documents.items()]
    DiptychDocumentStore(things).write_documents(given, policy=DuplicatePolicy.OVERWRITE)


def write_client(things: Collection, documents: Documents) -> None:
    """Plain calls, once diptych has made the collection with the first document."""
    first = next(iter(documents))
    write_documents(things, {first: documents[first]})
    points = [
        models.PointStruct(id=name, vector=encoded(things, text), payload={"text": text})
        for name, (text, _) in documents.items()
        if name != first
    ]
    things.client.upsert("things", points)


def encoded(things: Collection, text: str) -> dict[str, Any]:
    return {things.encoders.vector("dense"): models.Document(text=text, model="dense")}


def read_hits(things: Collection, query: str) -> list[str]:
    return [hit.id for hit in things.search(query, limit=LIMIT)]


def read_langchain(things: Collection, query: str) -> list[str]:
    from diptych_adapters.langchain import DiptychVectorStore

    return [str(document.id) for document in DiptychVectorStore(things).similarity_search(query, k=LIMIT)]


def read_llama_index(things: Collection, query: str) -> list[str]:
    from llama_index.core import VectorStoreIndex

    from diptych_adapters.llama_index import DiptychVectorStore

    store = DiptychVectorStore(things)
    index = VectorStoreIndex.from_vector_store(store, embed_model=store.embed_model)
    return [found.node.node_id for found in index.as_retriever(similarity_top_k=LIMIT).retrieve(query)]


def read_haystack(things: Collection, query: str) -> list[str]:
    from diptych_adapters.haystack import DiptychDocumentStore, DiptychRetriever

    retriever = DiptychRetriever(document_store=DiptychDocumentStore(things), top_k=LIMIT)
    return [document.id for document in retriever.run(query=query)["documents"]]


def read_client(things: Collection, query: str) -> list[str]:
    asked = models.Document(text=query, model="dense")
    found = things.client.query_points("things", asked, using=things.encoders.vector("dense"), limit=LIMIT).points
    payloads = [(point.id, (point.payload or {}).get("_diptych", {})) for point in found]
    return [own.get("id", point) for point, own in payloads]


WRITERS: Mapping[str, Write] = {
    "diptych": write_documents,
    "langchain": write_langchain,
    "llama-index": write_llama_index,
    "haystack": write_haystack,
    "qdrant-client": write_client,
}
READERS: Mapping[str, Read] = {
    "diptych": read_hits,
    "langchain": read_langchain,
    "llama-index": read_llama_index,
    "haystack": read_haystack,
    "qdrant-client": read_client,
}


@pytest.fixture(scope="module")
def nearest() -> Mapping[str, list[str]]:
    """The ten nearest documents of each query, by brute force."""
    encoder = FakeDenseEncoder()
    names, vectors = list(TEXTS), encoder.encode_document(list(TEXTS.values()))
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = encoder.encode_query(QUERIES) @ vectors.T
    return {query: [names[n] for n in np.argsort(-own)[:LIMIT]] for query, own in zip(QUERIES, scores, strict=True)}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_reader_finds_the_same_ten_whoever_wrote(
    writer: str, things: Collection, nearest: Mapping[str, list[str]]
) -> None:
    WRITERS[writer](things, PLAIN)
    assert things.count() == len(TEXTS)
    for reader, read in READERS.items():
        assert {query: read(things, query) for query in QUERIES} == nearest, f"{writer} wrote, {reader} read"


FACTS: Documents = {
    **PLAIN,
    "with metadata": ("words", {"section": "sound", "year": 1999, "tags": ["a", "b"]}),
    "with a title": ("other words", {"title": "Sound of old", "section": "sound"}),
}
BRIDGED = [name for name in WRITERS if name != "qdrant-client"]


@pytest.mark.parametrize("writer", BRIDGED)
@pytest.mark.parametrize("again", BRIDGED)
def test_the_same_documents_through_another_door_change_nothing_and_are_not_encoded(
    writer: str, again: str, things: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their titles and metadata, which is not encoded, too."""
    WRITERS[writer](things, FACTS)
    before = {document.id: document for document in things.documents()}
    assert before["with a title"].title == "Sound of old"
    assert before["with metadata"].metadata == FACTS["with metadata"][1]

    def refused(self: object, inputs: Sequence[str]) -> Any:
        raise AssertionError(f"{again} had {len(inputs)} documents encoded that {writer} had written")

    monkeypatch.setattr(FakeDenseEncoder, "encode_document", refused)
    WRITERS[again](things, FACTS)
    assert {document.id: document for document in things.documents()} == before


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedding cache, which other tests do without."""
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("cached")
def test_plain_calls_of_the_same_again_change_nothing_and_are_not_encoded(
    things: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_client(things, PLAIN)
    before = {document.id: document for document in things.documents()}
    encoded: list[str] = []
    monkeypatch.setattr(FakeDenseEncoder, "encode_document", lambda self, inputs: encoded.extend(inputs))
    write_client(things, PLAIN)
    assert encoded == [], "the embedding cache of the collection has them"
    assert {document.id: document for document in things.documents()} == before


OPTIONS = {*diptych.search.SearchOptions.__annotations__}


def test_each_door_offers_each_option_of_a_search(things: Collection) -> None:
    from diptych_adapters import haystack, langchain, llama_index
    from diptych_serve.agents import mcp_server
    from diptych_serve.service.requests import SearchRequest
    from diptych_serve.service.served import Served

    things.populate([{"id": "a", "text": "word1"}])
    unset: Any = dict.fromkeys(OPTIONS)
    assert things.search("word1", **unset) == things.search("word1")
    tools = asyncio.run(mcp_server(Served([things], registry=Registry(fakes_plugin))).list_tools())
    schemas = {tool.name: {*tool.input_schema["properties"]} for tool in tools}
    remote = OPTIONS - {"params"}  # the server chooses what a search costs
    assert remote <= {*SearchRequest.model_fields}
    assert remote <= schemas["search"]
    assert {*diptych.search.ExplainOptions.__annotations__} - {"params"} <= schemas["explain"]
    assert OPTIONS - {"with_payload"} <= {*langchain.DiptychRetriever.model_fields}
    named: Any = dict.fromkeys(OPTIONS - {"limit", "filter"})  # LlamaIndex's and Haystack's own names
    assert llama_index.DiptychRetriever(things, similarity_top_k=3, filters=None, **named).retrieve("word1")
    store = haystack.DiptychDocumentStore(things)
    assert haystack.DiptychRetriever(store, top_k=3, filters=None, **named).run("word1")["documents"]
