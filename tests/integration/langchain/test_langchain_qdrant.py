"""langchain-qdrant's own `QdrantVectorStore`, unchanged, with encoders of diptych in it, in all its modes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_qdrant import QdrantVectorStore, RetrievalMode
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.encoders import Encoders
from diptych.search import Retrieve, Rrf
from diptych_adapters.langchain import DiptychEmbeddings, DiptychSparseEmbeddings, DiptychVectorStore
from diptych_edge import EdgeClient

TEXTS = {
    "sox": "convert audio files between formats",
    "lame": "encode audio as mp3 files",
    "gimp": "convert, retouch and convert images",  # no two are equally good in a slot
    "mutt": "read mail in a terminal",
    "nmap": "scan a network",
}
DOCUMENTS = [Document(page_content=text, metadata={"name": name}) for name, text in TEXTS.items()]
IDS: list[str | int] = [f"0b0f4f0e-7c52-4c9a-93cf-9bb2f8f9a00{n}" for n in range(len(TEXTS))]
QUERY = "convert audio formats"
MODES = pytest.mark.parametrize("mode", RetrievalMode)


@pytest.fixture(params=["memory", "edge"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    opened: QdrantBase = QdrantClient(":memory:") if request.param == "memory" else EdgeClient(tmp_path / "edge")
    yield opened
    opened.close()


def store(client: Any, mode: RetrievalMode, encoders: Encoders, **sparse: Any) -> QdrantVectorStore:
    """As the documentation of langchain-qdrant makes one."""
    if not client.collection_exists("c"):
        dense = models.VectorParams(size=64, distance=models.Distance.COSINE)
        lexical = models.SparseVectorParams(modifier=models.Modifier.IDF)
        client.create_collection("c", {"dense": dense}, {"lexical": lexical})
    return QdrantVectorStore(
        client=client,
        collection_name="c",
        embedding=DiptychEmbeddings("fake-dense", source=encoders),
        sparse_embedding=sparse.get("sparse", DiptychSparseEmbeddings("fake-sparse", source=encoders)),
        retrieval_mode=mode,
        vector_name="dense",
        sparse_vector_name="lexical",
    )


@MODES
def test_it_is_filled_and_searched_in_every_mode(client: Any, mode: RetrievalMode, encoders: Encoders) -> None:
    packages = store(client, mode, encoders)
    assert packages.add_documents(DOCUMENTS, ids=IDS) == IDS
    found = packages.similarity_search(QUERY, k=2)
    assert found[0].page_content == TEXTS["sox"]
    sound = models.FieldCondition(key="metadata.name", match=models.MatchAny(any=["mutt", "lame"]))
    (lame, *_) = packages.similarity_search(QUERY, k=2, filter=models.Filter(must=[sound]))
    assert lame.metadata["name"] == "lame"
    retriever = packages.as_retriever(search_kwargs={"k": 1})
    assert [document.page_content for document in retriever.invoke(QUERY)] == [TEXTS["sox"]]


@MODES
async def test_it_answers_coroutines_alike(client: Any, mode: RetrievalMode, encoders: Encoders) -> None:
    packages = store(client, mode, encoders)
    await packages.aadd_documents(DOCUMENTS, ids=IDS)
    later, now = (
        await packages.asimilarity_search_with_score(QUERY, k=5),
        packages.similarity_search_with_score(QUERY, k=5),
    )
    assert {d.page_content: score for d, score in later} == {d.page_content: score for d, score in now}


def test_bm25_scores_as_in_a_collection_of_diptychs_own(client: Any, encoders: Encoders, fakes: Registry) -> None:
    config = {"store": "memory:", "collection": "own", "slots": {"lexical": {"adapter": "bm25"}}}
    with Collection.open(parse_config(config)) as own:
        own.populate([{"id": name, "text": text} for name, text in TEXTS.items()])
        slot = own.info().slots[0].statistics or {}
        expected: list[Any] = [
            (hit.document.text, pytest.approx(hit.score, abs=1e-5)) for hit in own.search(QUERY, limit=4)
        ]
    average = {"average_length": slot["tokens"] / slot["documents"]}
    lexical = DiptychSparseEmbeddings("bm25", options=average)
    packages = store(client, RetrievalMode.SPARSE, encoders, sparse=lexical)
    packages.add_documents(DOCUMENTS, ids=IDS)
    found = packages.similarity_search_with_score(QUERY, k=4)
    assert [(document.page_content, score) for document, score in found] == expected


@pytest.mark.parametrize("mode", [RetrievalMode.DENSE, RetrievalMode.SPARSE])
def test_what_it_wrote_is_adopted_and_found_alike(
    client: Any, mode: RetrievalMode, encoders: Encoders, fakes: Registry
) -> None:
    packages = store(client, RetrievalMode.HYBRID, encoders)
    packages.add_documents(DOCUMENTS, ids=IDS)
    slots = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-sparse"}}
    config = parse_config({"store": "memory:", "collection": "c", "slots": slots})
    with Collection.adopt(config, store=client, registry=fakes) as adopted:
        name = "dense" if mode is RetrievalMode.DENSE else "lexical"
        ours = DiptychVectorStore(adopted).similarity_search(QUERY, k=3, pipeline=Retrieve(name))
        theirs = store(client, mode, encoders).similarity_search(QUERY, k=3)
        assert [(own.id, own.page_content) for own in ours] == [(d.metadata["_id"], d.page_content) for d in theirs]
        assert ours[0].metadata == {"name": "sox"}
        mail = models.FieldCondition(key="metadata.name", match=models.MatchValue(value="mutt"))
        (mutt,) = DiptychVectorStore(adopted).similarity_search(
            "read mail", pipeline=Retrieve(name), filter=models.Filter(must=[mail])
        )
        assert mutt.metadata == {"name": "mutt"}


def test_what_is_added_through_diptych_is_found_by_it(client: Any, encoders: Encoders, fakes: Registry) -> None:
    theirs = store(client, RetrievalMode.HYBRID, encoders)
    theirs.add_documents(DOCUMENTS, ids=IDS)
    slots = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-sparse"}}
    config = parse_config({"store": "memory:", "collection": "c", "slots": slots})
    with Collection.adopt(config, store=client, registry=fakes) as adopted:
        ours = DiptychVectorStore(adopted)
        flute = Document(page_content="play a flute", metadata={"name": "flute", "title": "Flute", "pages": [1, 2]})
        (added,) = ours.add_documents([flute])
        assert ours.add_documents([flute]) == [added]
        assert (adopted.count(), ours.get_by_ids([added])) == (6, [flute.model_copy(update={"id": added})])
        fused = Retrieve("dense", 6) + Retrieve("lexical", 6) >> Rrf()
        assert ours.similarity_search("flute", k=1, pipeline=fused)[0].id == added
    (found,) = theirs.similarity_search("flute", k=1)
    assert found.page_content == "play a flute"
    assert found.metadata == {**flute.metadata, "_id": added, "_collection_name": "c"}
    assert [document.metadata["name"] for document in theirs.get_by_ids([added])] == ["flute"]


def test_a_collection_of_diptychs_own_is_read_by_it_too(tmp_path: Path, fakes: Registry) -> None:
    slots = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-calibrated"}}
    config = parse_config({"store": f"edge:{tmp_path / 'own'}", "collection": "c", "slots": slots})
    with Collection.open(config, registry=fakes) as own:
        own.populate([{"id": name, "text": text, "name": name} for name, text in TEXTS.items()])
        theirs = QdrantVectorStore(
            client=own.client,  # type: ignore[arg-type]
            collection_name=own.name,
            embedding=DiptychEmbeddings("dense", source=own.encoders),
            sparse_embedding=DiptychSparseEmbeddings("lexical", source=own.encoders),
            retrieval_mode=RetrievalMode.HYBRID,
            vector_name=own.encoders.vector("dense"),
            sparse_vector_name=own.encoders.vector("lexical"),
            content_payload_key="text",
        )
        for mode, slot in ((RetrievalMode.DENSE, "dense"), (RetrievalMode.SPARSE, "lexical")):
            theirs.retrieval_mode = mode
            found = theirs.similarity_search_with_score(QUERY, k=3)
            expected: list[Any] = [
                (hit.document.text, pytest.approx(hit.score, abs=1e-6))
                for hit in own.search(QUERY, limit=3, pipeline=Retrieve(slot))
            ]
            assert [(document.page_content, score) for document, score in found] == expected
