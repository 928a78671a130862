"""A server of several nodes: a call goes on at the next one where one does not answer, and ends at its deadline."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from diptych import Collection
from diptych.config import Config, load_config
from diptych.errors import ConfigError, StoreError, StoreUnavailable, StoreURLError
from diptych.registry import Registry
from diptych.search import store_errors
from diptych.stores import deadline, open_store
from diptych.stores.nodes import seconds_left
from faulty_server import faulty_server, hang, reset
from small_server import Routes

SLOTS = {"dense": {"adapter": "fake-dense", "dimension": 8}}
DOCUMENTS = [{"id": str(i), "text": f"words of number {i}"} for i in range(12)]
GONE = "http://127.0.0.1:9"


def config(*urls: str, **more: Any) -> Config:
    return Config.model_validate({"store": list(urls), "collection": "c", "slots": SLOTS, **more})


@contextmanager
def silent(server: Routes) -> Iterator[None]:
    """Within the block, the server answers nothing."""
    held = threading.Event()
    server.holds(held)
    try:
        yield
    finally:
        held.set()


def test_a_config_names_the_nodes_of_a_cluster(tmp_path: Path) -> None:
    path = tmp_path / "diptych.yaml"
    text = "store: [http://a:6333, http://b:6333]\ncollection: c\nslots: {dense: {adapter: fake-dense}}\n"
    path.write_text(text, "utf-8")
    assert load_config(path).urls == ("http://a:6333", "http://b:6333")
    path.write_text(text.replace("[http://a:6333, http://b:6333]", "[]"), "utf-8")
    with pytest.raises(ConfigError, match="store"):
        load_config(path)


@pytest.mark.parametrize("urls", [["http://a:6333", "grpc://b:6334"], ["edge:./a", "edge:./b"], []])
def test_a_list_of_urls_is_of_servers_of_one_protocol(urls: list[str]) -> None:
    with pytest.raises(StoreURLError, match="a list of URLs names the nodes of one cluster"):
        open_store(urls)


def test_a_node_that_is_gone_is_left_for_the_next_one(small_server: Callable[..., Routes], fakes: Registry) -> None:
    url = small_server().url
    with Collection.open(config(GONE, url, populate={"retries": 0}), registry=fakes) as collection:
        assert collection.populate(DOCUMENTS).new == 12
        assert len(collection.search("words", limit=3)) == 3
    with Collection.open([GONE, url], "c", registry=fakes) as stored:
        assert stored.count() == 12


def test_a_node_that_fails_is_left_by_reads(
    small_server: Callable[..., Routes], fakes: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_errors, "PAUSES", ())
    first = small_server()
    second = small_server(store=first.store)
    with Collection.open(config(first.url, second.url), registry=fakes) as collection:
        collection.populate(DOCUMENTS)
        first.stumbles = 100
        assert len(collection.search("words", limit=3)) == 3
        assert first.stumbles == 99
        assert len(collection.search("other words", limit=3)) == 3
        assert first.stumbles == 99  # the second one is asked from then on
        second.stumbles = 100
        with pytest.raises(StoreError, match="the store fails at the search"):
            collection.search("still others", limit=3)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_an_upload_leaves_no_connection_open(small_server: Callable[..., Routes]) -> None:
    client = open_store(small_server().url)
    client.create_collection("c", vectors_config={})
    client.upload_points("c", [models.PointStruct(id=1, vector={}, payload={})], wait=True)
    assert client.count("c").count == 1
    client.close()
    gc.collect()  # what is still open warns now


def test_all_nodes_that_do_not_answer_are_one_server_that_does_not() -> None:
    with pytest.raises(StoreUnavailable, match="the Qdrant server does not answer") as caught:
        open_store([GONE, "http://127.0.0.1:10"])
    assert "127.0.0.1:10" in str(caught.value)


def test_a_search_of_a_server_that_stopped_answering_ends_at_the_deadline(
    small_server: Callable[..., Routes], fakes: Registry
) -> None:
    server = small_server()
    with Collection.open(config(server.url, search_timeout=1), registry=fakes) as collection:
        collection.populate(DOCUMENTS)
        with silent(server), pytest.raises(StoreUnavailable, match="the store does not answer") as caught:
            collection.search("words", limit=3)
    assert "timed out" in caught.value.got


def test_a_client_of_the_programs_own_keeps_its_timeout(small_server: Callable[..., Routes], fakes: Registry) -> None:
    server = small_server()
    with Collection.open(config(server.url), registry=fakes) as collection:
        collection.populate(DOCUMENTS)
    client = QdrantClient(url=server.url, timeout=1, check_compatibility=False)
    with closing(client), Collection.open(client, "c", registry=fakes) as collection:
        assert len(collection.search("words", limit=3)) == 3
        with silent(server), pytest.raises(StoreUnavailable, match="the store does not answer"):
            collection.search("words", limit=3)


def test_a_frameworks_timeout_ends_a_search_that_waits_for_the_store(
    small_server: Callable[..., Routes], fakes: Registry
) -> None:
    server = small_server()
    with Collection.open(config(server.url, search_timeout=60), registry=fakes) as collection:
        collection.populate(DOCUMENTS)

        async def asked() -> None:
            with silent(server), pytest.raises(TimeoutError):
                await asyncio.wait_for(collection.asearch("words", limit=3), 0.5)
            assert len(await collection.asearch("words", limit=3)) == 3

        asyncio.run(asked())


def test_a_program_sets_a_deadline_for_some_of_its_searches(
    small_server: Callable[..., Routes], fakes: Registry
) -> None:
    server = small_server()
    with Collection.open(config(server.url, search_timeout=60), registry=fakes) as collection:
        collection.populate(DOCUMENTS)
        with silent(server), deadline(0.5), pytest.raises(StoreUnavailable, match="the store does not answer"):
            collection.search("words", limit=3)
        assert len(collection.search("words", limit=3)) == 3


def test_the_earlier_of_two_deadlines_holds() -> None:
    with deadline(5):
        with deadline(50):
            assert seconds_left() <= 5
        with deadline(1):
            assert seconds_left(60) <= 1
        assert seconds_left(60) > 1
    assert seconds_left(60) == 60


def test_a_read_is_repeated_where_its_connection_broke() -> None:
    calls = list[str]()

    def play(connection: Any) -> None:
        calls.append("")
        (reset() if len(calls) == 3 else answer)(connection)

    def answer(connection: Any) -> None:
        body = b'{"result":{"collections":[]},"status":"ok","time":0.0}'
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        connection.sendall(f"{head}connection: close\r\n\r\n".encode() + body)

    with faulty_server(play) as url:
        client = open_store(url)  # two requests: what there is, and the version
        assert client.get_collections() == models.CollectionsResponse(collections=[])
        client.close()
    assert len(calls) == 4


def test_connections_to_this_machine_are_kept_open(small_server: Callable[..., Routes]) -> None:
    """qdrant-client keeps none: each thread then closes those that it finds unused, and another was just given."""
    client: Any = open_store(small_server().url)
    threads = [threading.Thread(target=client.collection_exists, args=("c",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connections = client.http.client._client._transport._pool.connections
    assert connections
    assert all(connection.is_idle() for connection in connections)
    client.close()


def test_a_frozen_node_is_left_before_the_deadline(small_server: Callable[..., Routes], fakes: Registry) -> None:
    url = small_server().url
    with Collection.open(config(url), registry=fakes) as collection:
        collection.populate(DOCUMENTS)
    asked = list[str]()

    def play(connection: Any) -> None:
        asked.append("")
        hang()(connection)

    with faulty_server(play) as frozen, deadline(2):
        client = open_store([frozen, url])
        assert client.count("c").count == 12
        client.close()
    assert len(asked) == 1
