"""A collection as LangChain's vector store: adding is idempotent, nothing is lost, documents come back as they were."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, index

from diptych import Collection, TenantCollection
from diptych.errors import CollectionError, DocumentError, SearchError
from diptych.testing import FakeDenseEncoder
from diptych_adapters.langchain import DiptychEmbeddings, DiptychVectorStore

DENSE = {"dense": {"adapter": "fake-dense"}}
BOTH = {**DENSE, "lexical": {"adapter": "fake-sparse"}}
DOCUMENTS = [
    Document(
        id="sox", page_content="convert audio files", metadata={"title": "Sox", "tags": ["a", "b"], "n": {"x": 1}}
    ),
    Document(page_content="read mail", metadata={"section": "mail", "size": 1.5, "new": True, "none": None}),
    Document(id="0b0f4f0e-7c52-4c9a-93cf-9bb2f8f9a001", page_content="scan a network"),
]


@pytest.fixture(params=["memory:", "edge:", "server"])
def store(request: pytest.FixtureRequest, opened: Any, tmp_path: Path) -> DiptychVectorStore:
    url = f"edge:{tmp_path / 'qdrant'}" if request.param == "edge:" else request.param
    return DiptychVectorStore(opened(BOTH, url))


def calls(collection: Collection | TenantCollection) -> list[tuple[str, ...]]:
    """What the dense encoder was given as documents."""
    encoder = collection.handle.slot("dense").encoder
    assert isinstance(encoder, FakeDenseEncoder)
    return [call.inputs for call in encoder.calls if call.side == "document"]


def test_documents_come_back_as_they_were(store: DiptychVectorStore) -> None:
    ids = store.add_documents(DOCUMENTS)
    wanted = [document.model_copy(update={"id": own}) for document, own in zip(DOCUMENTS, ids, strict=True)]
    assert store.get_by_ids(ids) == wanted
    assert store.similarity_search("read mail", k=1) == [wanted[1]]
    assert store.get_by_ids([ids[2], "gone", ids[0]]) == [wanted[2], wanted[0]]
    assert DOCUMENTS[1].id is None


def test_adding_the_same_again_changes_and_encodes_nothing(store: DiptychVectorStore) -> None:
    ids = store.add_documents(DOCUMENTS)
    before = calls(store.collection)
    assert store.add_documents(DOCUMENTS) == ids
    assert store.add_texts([d.page_content for d in DOCUMENTS], [d.metadata for d in DOCUMENTS], ids=ids) == ids
    assert (store.collection.count(), calls(store.collection)) == (3, before)


def test_an_id_is_made_of_text_and_metadata(store: DiptychVectorStore) -> None:
    first, other, same = store.add_texts(["read mail"] * 3, [{"n": 1}, {"n": 2}, {"n": 1}])
    assert first == same != other
    assert store.collection.count() == 2
    assert store.add_documents([Document(page_content="read mail", metadata={"n": 1})]) == [first]


def test_an_id_that_is_given_counts_more_than_the_documents(store: DiptychVectorStore) -> None:
    assert store.add_documents(DOCUMENTS[:2], ids=["mine", "yours"]) == ["mine", "yours"]
    assert store.add_documents([Document(id="mine", page_content="play sound")]) == ["mine"]
    (found,) = store.get_by_ids(["mine"])
    assert (found.page_content, found.metadata, store.collection.count()) == ("play sound", {}, 2)


def test_what_cannot_be_indexed_is_an_error_and_the_rest_is_there(store: DiptychVectorStore) -> None:
    bad = [
        Document(id="empty", page_content=" "),
        Document(id="reserved", page_content="x", metadata={"text": "y"}),
        Document(id="title", page_content="x", metadata={"title": 7}),
    ]
    message = r"(?s)3 of 6 documents cannot be indexed.*diptych-set-aside-c\.jsonl.*got: empty: empty document"
    with pytest.raises(DocumentError, match=message) as caught:
        store.add_documents([*bad, *DOCUMENTS])
    report: Any = caught.value.context["report"]
    assert [entry.id for entry in report.examples] == ["empty", "reserved", "title"]
    assert store.collection.count() == 3


def test_one_id_for_two_texts_is_an_error_and_not_the_last_one(store: DiptychVectorStore) -> None:
    with pytest.raises(DocumentError, match="duplicate id with other text"):
        store.add_texts(["read mail", "scan a network"], ids=["one", "one"])
    assert [document.page_content for document in store.get_by_ids(["one"])] == ["read mail"]


def test_counts_that_differ_are_an_error_before_anything_is_written(store: DiptychVectorStore) -> None:
    with pytest.raises(ValueError, match="shorter"):
        store.add_texts(["one", "two"], ids=["1"])
    with pytest.raises(ValueError, match="longer"):
        store.add_texts(["one", "two"], [{}, {}, {}])
    with pytest.raises(ValueError, match="longer"):
        store.add_documents(DOCUMENTS, ids=["1", "2", "3", "4"])
    assert store.collection.count() == 0
    assert store.add_documents([]) == []


def test_an_empty_title_is_no_title(store: DiptychVectorStore) -> None:
    ids = store.add_texts(["one", "two"], [{"title": "", "n": 1}, {"title": None, "n": 2}])
    assert [document.metadata for document in store.get_by_ids(ids)] == [{"n": 1}, {"n": 2}]


def test_deleting_needs_ids(store: DiptychVectorStore) -> None:
    ids = store.add_documents(DOCUMENTS)
    assert store.delete([ids[0], "gone"]) is True
    assert store.collection.count() == 2
    with pytest.raises(CollectionError, match=r"(?s)all documents would be deleted.*expected: ids"):
        store.delete()
    assert store.collection.count() == 2


async def test_coroutines_do_the_same_also_all_at_once(store: DiptychVectorStore) -> None:
    texts = [f"text {word}" for word in ("one", "two", "three", "four")]
    added = await asyncio.gather(*(store.aadd_texts([text]) for text in texts))
    ids = [own for (own,) in added]
    assert [document.page_content for document in await store.aget_by_ids(ids)] == texts
    assert await store.aadd_documents([Document(page_content=text) for text in texts]) == ids
    assert await store.adelete(ids[:1]) is True
    assert store.collection.count() == 3


def test_a_store_is_made_of_texts_or_documents_over_an_open_collection(opened: Any) -> None:
    collection = opened(BOTH)
    store = DiptychVectorStore.from_texts(["read mail"], None, [{"n": 1}], ids=["mutt"], collection=collection)
    assert store.similarity_search("mail") == [Document(id="mutt", page_content="read mail", metadata={"n": 1})]
    embeddings = DiptychEmbeddings("dense", source=collection.encoders)
    again = DiptychVectorStore.from_documents(DOCUMENTS[:1], embeddings, collection=collection)
    assert again.similarity_search("audio", k=1) == DOCUMENTS[:1]
    assert repr(again.embeddings) == "DiptychEmbeddings('dense')"
    with pytest.raises(CollectionError, match=r"(?s)no collection to put.*collection=Collection\.open"):
        DiptychVectorStore.from_texts(["read mail"])


def test_embeddings_of_others_are_refused_rather_than_left_unused(opened: Any) -> None:
    foreign = DeterministicFakeEmbedding(size=64)
    with pytest.raises(CollectionError, match=r"(?s)encoders of its own.*got: DeterministicFakeEmbedding"):
        DiptychVectorStore.from_texts(["read mail"], foreign, collection=opened(DENSE))
    collection = opened(DENSE)
    with pytest.raises(SearchError, match=r"(?s)needs a dense slot.*got: 'fake-dense'.*expected: dense"):
        DiptychVectorStore.from_texts(
            ["read mail"], DiptychEmbeddings("fake-dense", source=collection.encoders), collection=collection
        )
    assert collection.count() == 0


async def test_a_store_is_made_beside_a_running_loop(opened: Any) -> None:
    store = await DiptychVectorStore.afrom_texts(["read mail"], None, ids=["mutt"], collection=opened(DENSE))  # type: ignore[arg-type]
    assert [document.id for document in await store.asimilarity_search("mail")] == ["mutt"]


def test_langchains_own_indexing_keeps_it_in_step(store: DiptychVectorStore) -> None:
    records = InMemoryRecordManager("packages")
    records.create_schema()
    texts = [Document(page_content=f"text {n}", metadata={"source": f"{n}.txt"}) for n in range(5)]

    def run(documents: list[Document]) -> dict[str, int]:
        return dict(index(documents, records, store, cleanup="full", source_id_key="source", key_encoder="sha256"))  # type: ignore[arg-type]

    assert run(texts) == {"num_added": 5, "num_updated": 0, "num_skipped": 0, "num_deleted": 0}
    assert run(texts) == {"num_added": 0, "num_updated": 0, "num_skipped": 5, "num_deleted": 0}
    assert run(texts[1:]) == {"num_added": 0, "num_updated": 0, "num_skipped": 4, "num_deleted": 1}
    assert store.collection.count() == 4


def test_a_store_over_something_else_says_how_to_open_a_collection() -> None:
    with pytest.raises(CollectionError, match=r"(?s)not a collection.*'diptych.yaml'.*Collection.open"):
        DiptychVectorStore("diptych.yaml")  # type: ignore[arg-type]
