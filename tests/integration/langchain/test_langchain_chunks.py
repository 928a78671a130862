"""Chunks that langchain-qdrant stored, adopted as they are: one hit for each of their documents."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.encoders import Encoders
from diptych.search import Diversify, Pipeline, Retrieve
from diptych_adapters.langchain import DiptychEmbeddings
from long_documents import QUERY, SENTENCES, manuals

CONFIG: dict[str, Any] = {"store": "memory:", "collection": "c", "slots": {"dense": {"adapter": "fake-dense"}}}


def chunks() -> list[Document]:
    """Each manual cut after every third sentence, with the place that LangChain's splitters note."""
    found = []
    for manual in manuals():
        sentences, start = [f"{own}." for own in manual.text.removesuffix(".").split(". ")], 0
        for n in range(0, len(sentences), 3):
            text = " ".join(sentences[n : n + 3])
            metadata = {"source": f"{manual.id}.txt", "start_index": start}
            found.append(Document(id=str(uuid.uuid5(uuid.NAMESPACE_URL, text)), page_content=text, metadata=metadata))
            start += len(text) + 1
    return found


@pytest.fixture
def adopted(fakes: Registry) -> Collection:
    client, config = QdrantClient(":memory:"), parse_config(CONFIG)
    embeddings = DiptychEmbeddings("dense", source=Encoders.open(config, registry=fakes))
    client.create_collection("c", models.VectorParams(size=64, distance=models.Distance.COSINE))
    QdrantVectorStore(client, "c", embeddings).add_documents(chunks())
    return Collection.adopt(config, store=client, registry=fakes)


@pytest.mark.parametrize("stages", [Retrieve("dense"), Retrieve("dense", 100) >> Diversify("dense", 1.0, 100)])
def test_a_parent_is_one_hit_with_its_best_chunks_where_they_stand(
    adopted: Collection, stages: Retrieve | Pipeline
) -> None:
    options: Any = {"group_by": "metadata.source", "group_size": 2, "pipeline": stages}
    groups = adopted.search_groups(QUERY, limit=4, **options)
    hits = [group.hit for group in groups]
    texts = {f"{manual.id}.txt": manual.text for manual in manuals()}
    assert {hit.id for hit in hits} == set(texts)
    assert hits[0].id == "sox.txt"
    assert SENTENCES["sox"] in hits[0].passages[0].text
    for group, hit in zip(groups, hits, strict=True):
        assert (hit.score, len(hit.passages), hit.document.metadata["source"]) == (group.score, 2, hit.id)
        assert hit.passages[0].score >= hit.passages[1].score
        assert all(texts[hit.id][own.start : own.end] == own.text for own in hit.passages)
