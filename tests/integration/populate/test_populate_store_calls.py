"""How many calls of the store a populate makes for one document, as a service that writes them singly does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from qdrant_client.client_base import QdrantBase

from diptych import Document
from diptych.handle.collection_handle import CollectionHandle
from diptych.populate import populate
from diptych.stores.versions import is_local
from store_calls import StoreCalls

OpenHandle = Callable[..., CollectionHandle]


def documents(number: int, text: str = "a text") -> list[Document]:
    return [Document(f"d{number}", f"{text} of {number}", metadata={"kind": "odd"})]


@pytest.mark.parametrize("is_open", [False, True], ids=["freshly opened", "already open"])
def test_one_document_takes_few_calls_of_the_store(client: QdrantBase, open_handle: OpenHandle, is_open: bool) -> None:
    indexes = {} if is_local(client) else {"kind": "keyword"}  # local mode shows no index, so each run makes it again
    handle = open_handle(client, indexes=indexes)
    populate(handle, [document for number in range(3) for document in documents(number)])
    handle = handle if is_open else open_handle(client, indexes=indexes)
    calls = StoreCalls(client).counts
    assert populate(handle, documents(3)).new == 1
    assert calls.total() <= 5, calls
    assert calls["collection_exists"] == 0
    calls.clear()
    assert populate(handle, documents(3, "another text")).changed == 1
    assert calls.total() <= 5, calls
    calls.clear()
    assert populate(handle, documents(3, "another text")).unchanged == 1
    assert calls.total() <= 4, calls
    assert calls["upsert"] == 0
