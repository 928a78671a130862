"""Collections as other frameworks write them, by small writers that put down the very same payloads and vectors.

`test_adopt_frameworks.py` compares each writer with the framework itself where that is installed.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from diptych import Registry
from diptych.config.models import Config
from diptych.testing import FakeDenseEncoder, FakeSparseEncoder, fakes_plugin
from named_server import STORE, emptied_store

DIMENSION = 24
UNNAMED = ""
Vectors = Callable[[str], Any]


@dataclass(frozen=True)
class Text:
    """What is written: a text of its own, a title, and metadata."""

    number: int
    text: str
    title: str
    metadata: Mapping[str, Any]

    @property
    def uuid(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"text {self.number}"))


def corpus(size: int = 80) -> list[Text]:
    """Texts that differ in their words."""

    def text(i: int) -> str:
        return " ".join(f"word{(i * 7 + k * k) % 53}" for k in range(5 + i % 4)) + f" only{i}"

    return [Text(i, text(i), f"heading {i % 9}", {"section": f"s{i % 4}", "page": i}) for i in range(size)]


@dataclass(frozen=True)
class Foreign:
    """A way to fill a collection, and what a config says of it.

    Args:
        dense, sparse: names of the vectors; None where there is none.
        point: the point of a text: its id, its payload, and the text that the framework encodes of it.
        document_id: the id under which diptych knows the text.
        populate: what the config must say of what is encoded.
    """

    dense: str
    sparse: str | None
    point: Callable[[Text], tuple[int | str, dict[str, Any], str]]
    document_id: Callable[[Text], str] = lambda text: text.uuid
    populate: Mapping[str, Any] = field(default_factory=dict)
    origin: str = "by hand"

    def create(self, client: QdrantBase, name: str = "c") -> None:
        """An empty collection."""
        params = models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE)
        sparse = {self.sparse: models.SparseVectorParams()} if self.sparse else None
        named = {self.dense: params} if self.dense else params
        client.create_collection(name, vectors_config=named, sparse_vectors_config=sparse)

    def write(self, client: QdrantBase, texts: Sequence[Text], name: str = "c") -> None:
        """Points with their vectors."""
        dense, sparse = FakeDenseEncoder(dimension=DIMENSION), FakeSparseEncoder()
        points = []
        for text in texts:
            identifier, payload, read = self.point(text)
            vectors: dict[str, Any] = {self.dense: dense.encode_document([read])[0].tolist()}
            if self.sparse:
                (weights,) = sparse.encode_document([read])
                vectors[self.sparse] = models.SparseVector(
                    indices=weights.indices.tolist(), values=weights.values.tolist()
                )
            points.append(models.PointStruct(id=identifier, payload=payload, vector=vectors))
        client.upsert(name, points)

    def config(self, *, slots: Mapping[str, Any] | None = None, **encoder: Any) -> Config:
        """The config of whoever adopts it, with other options of the dense encoder."""
        own: dict[str, Any] = {"dense": {"adapter": "fake-dense", "dimension": DIMENSION, **encoder}}
        if self.sparse:
            own["lexical"] = {"adapter": "fake-sparse"}
        cache = {"enabled": False}
        raw = {"collection": "c", "slots": {**own, **(slots or {})}, "populate": self.populate, "cache": cache}
        return Config.model_validate({**raw, "swap": {"gate": {"unmeasured": 1}}})


def _langchain(text: Text) -> tuple[str, dict[str, Any], str]:
    """As `QdrantVectorStore.add_documents` of langchain-qdrant 1.1.0."""
    return text.uuid, {"page_content": text.text, "metadata": dict(text.metadata)}, text.text


def _haystack(text: Text) -> tuple[str, dict[str, Any], str]:
    """As `QdrantDocumentStore.write_documents` of qdrant-haystack 13.1.0, with haystack-ai 3.4.1."""
    namespace = uuid.UUID("3896d314-1e95-4a3a-b45a-945f9f0b541d")
    identifier = f"text-{text.number}"
    payload = {
        "id": identifier,
        "content": text.text,
        "blob": None,
        "meta": dict(text.metadata),
        "score": None,
    }
    return str(uuid.uuid5(namespace, identifier)), payload, text.text


def _llama_index(text: Text) -> tuple[str, dict[str, Any], str]:
    """As `QdrantVectorStore` of llama-index-vector-stores-qdrant 0.10.4, with llama-index-core 0.14.25."""
    source = f"source-{text.number}"
    metadata = dict(text.metadata)
    related = {
        "node_id": source,
        "node_type": "4",
        "metadata": metadata,
        "hash": None,
        "class_name": "RelatedNodeInfo",
    }
    node = {
        "id_": text.uuid,
        "embedding": None,
        "metadata": metadata,
        "excluded_embed_metadata_keys": ["page"],
        "excluded_llm_metadata_keys": [],
        "relationships": {"1": related},
        "metadata_template": "{key}: {value}",
        "metadata_separator": "\n",
        "text": text.text,
        "mimetype": "text/plain",
        "start_char_idx": None,
        "end_char_idx": None,
        "text_template": "{metadata_str}\n\n{content}",
        "class_name": "TextNode",
    }
    payload = {
        **metadata,
        "_node_content": json.dumps(node, ensure_ascii=False),
        "_node_type": "TextNode",
        "document_id": source,
        "doc_id": source,
        "ref_doc_id": source,
    }
    return text.uuid, payload, f"section: {text.metadata['section']}\n\n{text.text}"


def _fastembed(text: Text) -> tuple[str, dict[str, Any], str]:
    """As `QdrantClient.add` of qdrant-client 1.14.2; later releases have it no more."""
    return text.uuid, {"document": text.text, **text.metadata}, text.text


def _by_hand(text: Text) -> tuple[int, dict[str, Any], str]:
    payload = {"id": text.number, "title": text.title, "body": text.text, **text.metadata}
    return text.number, payload, f"{text.title} {text.text}"


def _nested(text: Text) -> tuple[str, dict[str, Any], str]:
    """Ids of its own under a key, and the text beneath another."""
    return text.uuid, {"_id": f"k{text.number}", "source": {"passage": text.text, "lang": "en"}, "n": 1}, text.text


LLAMA = {"separator": "\n\n"}
FOREIGN: Mapping[str, Foreign] = {
    "langchain": Foreign(UNNAMED, None, _langchain, origin="langchain"),
    "langchain-hybrid": Foreign(UNNAMED, "langchain-sparse", _langchain, origin="langchain"),
    "langchain-named": Foreign("my-dense", "langchain-sparse", _langchain, origin="langchain"),
    "llama-index": Foreign(UNNAMED, None, _llama_index, populate=LLAMA, origin="llama-index"),
    "llama-index-hybrid": Foreign("text-dense", "text-sparse-new", _llama_index, populate=LLAMA, origin="llama-index"),
    "haystack": Foreign(UNNAMED, None, _haystack, lambda text: f"text-{text.number}", origin="haystack"),
    "haystack-sparse": Foreign(
        "text-dense", "text-sparse", _haystack, lambda text: f"text-{text.number}", origin="haystack"
    ),
    "fastembed": Foreign("fast-fake", "fast-sparse-fake", _fastembed, origin="fastembed"),
    "by-hand": Foreign(UNNAMED, None, _by_hand, lambda text: str(text.number)),
    "by-hand-nested": Foreign("vector", None, _nested, lambda text: f"k{text.number}"),
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry(fakes_plugin, installed=False)


@pytest.fixture
def texts() -> list[Text]:
    return corpus()


PLACES = [("edge", "langchain-hybrid"), *(("memory" if STORE == "edge" else STORE, name) for name in FOREIGN)]


@pytest.fixture(params=PLACES, ids="-".join)
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A store, and a way to fill a collection."""
    store, name = request.param
    return store, name


@pytest.fixture
def foreign(place: tuple[str, str]) -> Foreign:
    """The way to fill the collection."""
    return FOREIGN[place[1]]


@pytest.fixture
def ways() -> Mapping[str, Foreign]:
    """All ways to fill a collection, by name."""
    return FOREIGN


@pytest.fixture
def client(tmp_path: Path) -> Iterator[QdrantBase]:
    with emptied_store(tmp_path) as client:
        yield client


@pytest.fixture
def memory() -> Iterator[QdrantBase]:
    client = QdrantClient(":memory:")
    yield client
    client.close()


@pytest.fixture
def filled(place: tuple[str, str], foreign: Foreign, texts: list[Text], tmp_path: Path) -> Iterator[QdrantBase]:
    """A store whose collection `c` somebody else filled."""
    with emptied_store(tmp_path, place[0]) as client:
        foreign.create(client)
        foreign.write(client, texts)
        yield client
