"""Through whatever door a tenant comes, it sees and changes its own documents alone; nobody comes in without one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest
from qdrant_client import models

from diptych import Collection, TenantCollection
from diptych.errors import DiptychError, TenantError

from .conftest import Open

IDS = ["1", "2", "3"]
SHARED = "red green of both"
ALL = 20  # more than there are
THEIRS = models.Filter(should=[models.FieldCondition(key="customer", match=models.MatchValue(value="globex"))])
Opened: TypeAlias = Collection | TenantCollection


def texts_of(tenant: str) -> dict[str, str]:
    """Each tenant has the same ids; the first text is the same, too."""
    return {"1": SHARED, "2": f"red of {tenant}", "3": f"blue of {tenant}"}


@dataclass(frozen=True)
class Door:
    """What a framework does with a collection, in the words of all: texts by their ids, and texts that are found."""

    add: Callable[[Mapping[str, str]], object]
    search: Callable[..., Sequence[str]]  # for a query, and perhaps a filter
    get: Callable[[list[str]], Sequence[str]]
    delete: Callable[[list[str]], object]


def diptych_itself(collection: Opened) -> Door:
    return Door(
        add=lambda texts: collection.populate([{"id": name, "text": text} for name, text in texts.items()]),
        search=lambda query, to=None: [hit.document.text for hit in collection.search(query, limit=ALL, filter=to)],
        get=lambda ids: [document.text for document in collection.get(ids)],
        delete=collection.delete,
    )


def langchain(collection: Opened) -> Door:
    from diptych_adapters.langchain import DiptychVectorStore

    store = DiptychVectorStore(collection)
    return Door(
        add=lambda texts: store.add_texts(list(texts.values()), ids=list(texts)),
        search=lambda query, to=None: [
            found.page_content for found in store.similarity_search(query, k=ALL, filter=to)
        ],
        get=lambda ids: [found.page_content for found in store.get_by_ids(ids)],
        delete=store.delete,
    )


def llama_index(collection: Opened) -> Door:
    from llama_index.core.schema import TextNode
    from llama_index.core.vector_stores.types import VectorStoreQuery

    from diptych_adapters.llama_index import DiptychVectorStore

    store = DiptychVectorStore(collection)

    def query(text: str, to: models.Filter | None = None) -> list[str]:
        further: dict[str, Any] = {"qdrant_filters": to} if to else {}
        found = store.query(VectorStoreQuery(query_str=text, similarity_top_k=ALL), **further)
        return [node.get_content() for node in found.nodes or ()]

    return Door(
        add=lambda texts: store.add([TextNode(id_=name, text=text) for name, text in texts.items()]),
        search=query,
        get=lambda ids: [node.get_content() for node in store.get_nodes(ids)],
        delete=store.delete_nodes,
    )


def haystack(collection: Opened) -> Door:
    from haystack import Document

    from diptych_adapters.haystack import DiptychDocumentStore, DiptychRetriever

    store = DiptychDocumentStore(collection)
    retriever = DiptychRetriever(store, top_k=ALL)

    def contents(documents: Sequence[Document]) -> list[str]:
        return [str(document.content) for document in documents]

    return Door(
        add=lambda texts: store.write_documents([Document(id=name, content=text) for name, text in texts.items()]),
        search=lambda query, to=None: contents(retriever.run(query, filters=to)["documents"]),
        get=lambda ids: contents(store.filter_documents({"field": "id", "operator": "in", "value": ids})),
        delete=store.delete_documents,
    )


DOORS: Mapping[str, Callable[[Opened], Door]] = {
    "diptych": diptych_itself,
    "langchain": langchain,
    "llama-index": llama_index,
    "haystack": haystack,
}


@pytest.fixture(params=DOORS)
def through(request: pytest.FixtureRequest) -> Callable[[Opened], Door]:
    return DOORS[request.param]


@pytest.fixture
def notes(opened: Open) -> Collection:
    """A collection without documents that requires tenants."""
    return opened()


@pytest.fixture
def both(notes: Collection, through: Callable[[Opened], Door]) -> tuple[Door, Door]:
    """The doors of two tenants whose documents came in through them, without a word of tenants."""
    doors = through(notes.for_tenant("acme")), through(notes.for_tenant("globex"))
    for tenant, door in zip(("acme", "globex"), doors, strict=True):
        door.add(texts_of(tenant))
    return doors


def test_each_tenant_finds_reads_writes_and_deletes_its_own_documents_alone(
    both: tuple[Door, Door], notes: Collection
) -> None:
    assert notes.count() == 6
    for tenant, door in zip(("acme", "globex"), both, strict=True):
        own = sorted(texts_of(tenant).values())
        assert (sorted(door.search("red")), sorted(door.get([*IDS, "4"]))) == (own, own)
    acme, globex = both
    assert (acme.search("red", THEIRS), len(globex.search("red", THEIRS))) == ([], 3)
    before = {document.id: document for document in notes.for_tenant("globex").documents()}
    acme.add({"1": "pink now"})
    acme.delete(["2", "3", "4"])
    assert list(acme.search("pink")) == ["pink now"]
    assert {document.id: document for document in notes.for_tenant("globex").documents()} == before


def test_a_collection_that_requires_tenants_refuses_a_door_without_one(
    both: tuple[Door, Door], notes: Collection, through: Callable[[Opened], Door]
) -> None:
    door = through(notes)
    questions: list[Callable[[], object]] = [
        lambda: door.search("red"),
        lambda: door.search("red", THEIRS),
        lambda: door.get(IDS),
        lambda: door.delete(IDS),
    ]
    for ask in questions:
        with pytest.raises(TenantError, match=r"(?s)a tenant is required.*'customer'.*for_tenant"):
            ask()
    assert notes.count() == 6


def test_a_document_that_comes_through_a_door_without_a_tenant_is_nobodys_and_stays_out(
    notes: Collection, through: Callable[[Opened], Door]
) -> None:
    door = through(notes)
    if through is diptych_itself:
        report: Any = door.add({"1": "red"})
        assert "names no tenant" in report.examples[0].reason
    else:
        with pytest.raises(DiptychError, match="names no tenant"):
            door.add({"1": "red"})
    assert notes.count() == 0


def test_the_first_documents_of_two_tenants_at_the_same_time_make_one_collection(
    notes: Collection, through: Callable[[Opened], Door]
) -> None:
    tenants = ("acme", "globex", "third", "fourth")
    doors, ready, failed = [through(notes.for_tenant(tenant)) for tenant in tenants], threading.Barrier(4), []

    def add(tenant: str, door: Door) -> None:
        ready.wait()
        try:
            door.add(texts_of(tenant))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=add, args=pair) for pair in zip(tenants, doors, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [sorted(door.get(IDS)) for door in doors] == [sorted(texts_of(tenant).values()) for tenant in tenants]
