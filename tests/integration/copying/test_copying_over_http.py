"""Copies through the client of servers: what goes over the wire is what arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from qdrant_client import QdrantClient
from qdrant_client.client_base import QdrantBase

from diptych import Collection, Registry
from diptych.copying import copy_collection
from diptych.errors import CopyError

OpenClient = Callable[..., QdrantBase]


@pytest.fixture
def routes(small_server: Callable[..., Any]) -> Any:
    """The routes of a server before 1.18, which knows none for the names of vectors."""
    return small_server(names=False)


@pytest.fixture
def server(routes: Any) -> Iterator[QdrantBase]:
    """The client of a server."""
    client = QdrantClient(url=routes.url, check_compatibility=False)
    yield client
    client.close()


def test_a_folder_is_copied_to_a_server_and_back(
    open_client: OpenClient, server: QdrantBase, fill: Any, assert_same: Any, registry: Registry
) -> None:
    source, back = open_client("edge", "one"), open_client("edge", "two")
    fill(source)
    source.set_payload("c", {"odd": [None, {"a": 1.5}, True, "ünï"]}, [first_id(source)])
    report = copy_collection(source, "c", server, batch=17)
    assert (report.copied, report.passes) == (100, 1)
    assert report.target.startswith("127.0.0.1:")
    assert copy_collection(source, "c", server).written == 0
    assert_same(source, "c", server, "c")
    assert [hit.id for hit in Collection.open(server, "c", registry=registry).search("word1 number35", limit=1)] == [
        "35"
    ]
    copy_collection(server, "c", back)
    assert_same(source, "c", back, "c")


def test_a_server_that_falters_is_asked_again(
    open_client: OpenClient, server: QdrantBase, routes: Any, fill: Any, assert_same: Any
) -> None:
    source = open_client("edge")
    fill(source)
    routes.failures = 2
    with pytest.raises(CopyError, match=r"(?s)cannot create a collection in the store.*503"):
        copy_collection(source, "c", server, retries=1)
    routes.failures = 1
    copy_collection(source, "c", server, retries=1)
    assert_same(source, "c", server, "c")


def first_id(client: QdrantBase) -> Any:
    return client.scroll("c", limit=1)[0][0].id
