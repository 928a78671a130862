"""A server of several nodes: a call goes on at the next one where one does not answer, and ends at its deadline."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, grpc, models
from qdrant_client.http.exceptions import ResponseHandlingException

from diptych import Collection
from diptych.config import Config, load_config
from diptych.errors import ConfigError, StoreError, StoreUnavailable, StoreURLError
from diptych.registry import Registry
from diptych.search import Retrieve, run, store_calls
from diptych.search.filters import combined, missing_keys
from diptych.search.retrieve import Retrieved, retrieve_together
from diptych.stores import deadline, open_store, place_of
from diptych.stores.nodes import Nodes, seconds_left
from diptych.stores.server_client import Point, ServerClient
from faulty_server import answer, done, faulty_server, hang, reset
from grpc_server import grpc_server, refuse
from small_server import Routes

SLOTS = {"dense": {"adapter": "fake-dense", "dimension": 8}}
DOCUMENTS = [{"id": str(i), "text": f"words of number {i}"} for i in range(12)]
GONE = "http://127.0.0.1:9"
SOON = 0.2  # seconds of a search


def config(*urls: str, **more: Any) -> Config:
    return Config.model_validate({"store": list(urls), "collection": "c", "slots": SLOTS, **more})


@pytest.fixture
def server(small_server: Callable[..., Routes]) -> Routes:
    return small_server()


@pytest.fixture
def collection(server: Routes, fakes: Registry) -> Iterator[Collection]:
    """Twelve documents on the server, whose client waits for a minute."""
    with Collection.open(config(server.url, search_timeout=60), registry=fakes) as opened:
        opened.populate(DOCUMENTS)
        yield opened


def soon(collection: Collection) -> ServerClient:
    """The collection's client, which does not wait for long from now on."""
    client = cast("ServerClient", collection.client)
    client.search_timeout = SOON
    return client


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
    monkeypatch.setattr(store_calls, "PAUSES", ())
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
        with pytest.raises(StoreError, match="the store failed during the search"):
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
    server: Routes, collection: Collection
) -> None:
    soon(collection)
    with silent(server), pytest.raises(StoreUnavailable, match="the store does not answer") as caught:
        collection.search("words", limit=3)
    assert "timed out" in caught.value.got


QUESTIONS: dict[str, Callable[[Collection], Any]] = {
    "filter": lambda c: c.search("words", where={"kind": "odd"}),
    "like": lambda c: c.search("words", like=["1"]),
    "groups": lambda c: c.search_groups("words", group_by="kind"),
    "explain": lambda c: c.explain("words"),
    "count": lambda c: c.count(),
    "probe": lambda c: cast("ServerClient", c.client).search_seconds("c", 0, "dense.1", 3),
    "missing keys": lambda c: missing_keys(c.handle.view, combined(None, {"kind": "odd"})),
    "catch up": lambda c: c.handle.catch_up(),
}


@pytest.mark.parametrize("question", list(QUESTIONS))
def test_whatever_a_search_asks_of_the_store_ends_at_the_deadline(
    server: Routes, collection: Collection, question: str
) -> None:
    soon(collection)
    # Without the deadline it would have the answer in the end: the server waits for half a minute.
    with silent(server), pytest.raises((StoreUnavailable, ResponseHandlingException), match=r"answer|timed out"):
        QUESTIONS[question](collection)


def test_the_first_search_of_a_collection_of_others_ends_at_the_deadline(server: Routes, fakes: Registry) -> None:
    with Collection.open(config(server.url), registry=fakes) as early:
        soon(early)
        with Collection.open(config(server.url), registry=fakes) as other:
            other.populate(DOCUMENTS)
        answered = len(server.requests)
        with silent(server):
            with pytest.raises(StoreUnavailable, match="the store does not answer"):
                early.search("words", limit=3)
            assert len(server.requests) == answered, "it waits for no answer beyond the deadline"
        cast("ServerClient", early.client).search_timeout = 60
        assert len(early.search("words", limit=3)) == 3


@pytest.mark.parametrize("ask", ["search", "asearch"])
def test_the_calls_of_one_search_share_its_time(
    small_server: Callable[..., Routes],
    fakes: Registry,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    ask: str,
) -> None:
    server, held = small_server(), threading.Event()

    def waited_long(requests: Sequence[Any]) -> list[Retrieved]:
        answers = retrieve_together(requests)
        server.holds(held)
        return [answer._replace(seconds={"retrieve": 3600.0}) for answer in answers]

    monkeypatch.setattr(run, "retrieve_together", waited_long)
    with Collection.open(config(server.url, search_timeout=3600), registry=fakes) as collection:
        collection.populate(DOCUMENTS)
        try:  # the check of the filter's keys would be answered, and log a warning, after half a minute
            searched = getattr(collection, ask)("words", where={"kind": "odd"})
            hits = asyncio.run(searched) if asyncio.iscoroutine(searched) else searched
        finally:
            held.set()
    assert (hits, caplog.messages) == ([], [])


CALLS: dict[str, Callable[[Collection], Any]] = {
    "groups": lambda c: c.search_groups("words", group_by="kind", pin=["1"]),
    "explain": lambda c: c.explain("words", pin=["1"]),
    "vector": lambda c: c.search_by_vector(np.ones(8, np.float32), Retrieve("dense"), pin=["1"]),
}


@pytest.mark.parametrize("question", list(CALLS))
def test_calls_that_are_each_in_time_share_that_of_one_question(
    server: Routes, collection: Collection, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    cast("ServerClient", collection.client).search_timeout = 1
    prompt = server.answer

    def slow(*request: Any) -> Any:
        time.sleep(0.7)
        return prompt(*request)

    monkeypatch.setattr(server, "answer", slow)
    with pytest.raises(StoreUnavailable, match=r"answer|timed out"):
        CALLS[question](collection)


def test_a_search_that_was_answered_stands_where_the_check_of_its_filter_fails(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ResponseHandlingException(httpx.ReadTimeout("timed out"))

    monkeypatch.setattr(ServerClient, "scroll", fail)
    assert collection.search("words", where={"kind": "odd"}) == []


def waits(_: str, context: Any) -> bytes:
    """Answer once the client has given up."""
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait(30)
    return b""


@pytest.mark.parametrize("call", ["probe", "write", "read"])
def test_calls_over_grpc_end_at_the_deadline(call: str) -> None:
    calls: dict[str, Callable[[Any], Any]] = {
        "probe": lambda client: client.search_seconds("c", 0, "dense.1", 3),
        "write": lambda client: client.upsert("c", [Point(1, {"dense.1": np.zeros(2, np.float32)})]),
        "read": lambda client: client.count("c"),
    }
    with grpc_server(waits) as url:
        client = ServerClient(timeout=60, search_timeout=SOON, **place_of(url))
        outer = nullcontext() if call == "probe" else deadline(SOON)
        with closing(client), outer, pytest.raises(Exception, match="DEADLINE_EXCEEDED"):
            calls[call](client)


def stumbles(protocol: str, times: int, stack: ExitStack) -> tuple[ServerClient, list[str]]:
    """The client of a server that is unavailable so often and then counts 3 points, and the calls that came."""
    calls = list[str]()
    if protocol == "grpc":

        def count(method: str, context: Any) -> bytes:
            calls.append(method)
            if len(calls) <= times:
                refuse("UNAVAILABLE", "shard is gone")(method, context)
            found: bytes = grpc.CountResponse(result=grpc.CountResult(count=3)).SerializeToString()
            return found

        url = stack.enter_context(grpc_server(count))
    else:

        def play(connection: Any) -> None:
            calls.append("Count")
            gone = answer("503 Service Unavailable", {"status": {"error": "shard is gone"}})
            (gone if len(calls) <= times else done({"count": 3}))(connection)

        url = stack.enter_context(faulty_server(play))
    client = ServerClient(timeout=60, search_timeout=60, **place_of(url))
    stack.callback(client.close)
    return client, calls


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_read_that_a_single_server_cannot_answer_just_now_is_repeated(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_calls, "PAUSES", (0.01, 0.01, 0.01))
    with ExitStack() as stack:
        client, calls = stumbles(protocol, 3, stack)
        assert store_calls.read_store(Asked(client), lambda: client.count("c")).count == 3
        assert set(calls) == {"Count"}
    with ExitStack() as stack:
        client, calls = stumbles(protocol, 1000, stack)
        with pytest.raises(StoreError, match="shard is gone"):
            store_calls.read_store(Asked(client), lambda: client.count("c"))
        assert len(calls) > len(store_calls.PAUSES)
    with ExitStack() as stack:
        monkeypatch.setattr(store_calls, "PAUSES", (60.0,))
        monkeypatch.setattr(store_calls, "time", SimpleNamespace(sleep=not_waited))
        client, calls = stumbles(protocol, 1000, stack)
        with deadline(30), pytest.raises(StoreError, match="shard is gone"):  # no pause is as long as that
            store_calls.read_store(Asked(client), lambda: client.count("c"))


def not_waited(seconds: float) -> None:
    raise AssertionError(f"waited {seconds} s")


@dataclass
class Asked:
    """What `ask` needs of a collection."""

    client: Any
    name: str = "c"


def test_a_read_over_grpc_is_repeated_where_its_connection_broke() -> None:
    calls = list[str]()

    def play(connection: Any) -> None:
        with connection.makefile("rb") as sent:
            sent.read(24)  # how HTTP/2 begins
            connection.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))  # its SETTINGS, with nothing set
            while head := sent.read(9):
                sent.read(int.from_bytes(head[:3]))
                if head[3] == 1:  # HEADERS: what a server has not seen of a request, gRPC itself sends again
                    reset()(connection)
                    break

    with faulty_server(play, reads=False) as url:
        place = place_of(url.replace("http", "grpc"))
        nodes = Nodes([{"timeout": 20, "prefer_grpc": place.pop("grpc"), **place}])

        def count() -> Any:
            calls.append("")  # not where the server counts: gRPC may send the second call into the broken connection
            return nodes.current.count("c")

        with closing(nodes), pytest.raises(Exception, match="UNAVAILABLE"):
            nodes.read(count)
    assert len(calls) == 2


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_server_that_is_gone_is_not_waited_for(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_calls, "PAUSES", (60.0,))
    monkeypatch.setattr(store_calls, "time", SimpleNamespace(sleep=not_waited))
    client = ServerClient(timeout=60, search_timeout=600, **place_of(GONE.replace("http", protocol)))
    with closing(client), pytest.raises(StoreUnavailable, match="the store does not answer"):
        store_calls.read_store(Asked(client), lambda: client.count("c"))


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_write_to_a_node_that_is_gone_goes_to_the_next_one(protocol: str) -> None:
    deleted = grpc.PointsOperationResponse(result=grpc.UpdateResult(status=grpc.UpdateStatus.Completed))
    with ExitStack() as stack:
        if protocol == "grpc":
            url = stack.enter_context(grpc_server(lambda *_: deleted.SerializeToString()))
        else:
            url = stack.enter_context(faulty_server(done({"operation_id": 1, "status": "completed"})))
        gone = place_of(GONE.replace("http", protocol))
        client = stack.enter_context(closing(ServerClient(timeout=60, others=[place_of(url)], **gone)))
        assert client.delete("c", [1]).status == models.UpdateStatus.COMPLETED


def test_a_client_of_the_programs_own_keeps_its_timeout(
    server: Routes, collection: Collection, fakes: Registry
) -> None:
    client = QdrantClient(url=server.url, timeout=3600, check_compatibility=False)
    with closing(client), Collection.open(client, "c", registry=fakes) as own:
        assert len(own.search("words", limit=3)) == 3
        client.http.client._client.timeout = 1  # else a busy machine may fail the search above
        with silent(server), pytest.raises(StoreUnavailable, match="the store does not answer"):
            own.search("words", limit=3)


def test_a_frameworks_timeout_ends_a_search_that_waits_for_the_store(server: Routes, collection: Collection) -> None:
    async def asked() -> None:
        with silent(server), pytest.raises(TimeoutError):
            await asyncio.wait_for(collection.asearch("words", limit=3), 0.5)
        assert len(await collection.asearch("words", limit=3)) == 3

    asyncio.run(asked())


def test_a_program_sets_a_deadline_for_some_of_its_searches(server: Routes, collection: Collection) -> None:
    with silent(server), deadline(0.5), pytest.raises(StoreUnavailable, match="the store does not answer"):
        collection.search("words", limit=3)
    assert len(collection.search("words", limit=3)) == 3


def test_the_earlier_of_two_deadlines_holds() -> None:
    with deadline(500):
        with deadline(5000):
            assert seconds_left() <= 500
        with deadline(100):
            assert seconds_left(6000) <= 100
        assert seconds_left(6000) > 100
    assert seconds_left(6000) == 6000


def test_a_read_is_repeated_where_its_connection_broke() -> None:
    calls = list[str]()

    def play(connection: Any) -> None:
        calls.append("")
        (reset() if len(calls) == 3 else done({"collections": []}))(connection)

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


def test_a_frozen_node_is_left_before_the_deadline(server: Routes, collection: Collection) -> None:
    asked = list[str]()

    def play(connection: Any) -> None:
        asked.append("")
        hang()(connection)

    with faulty_server(play) as frozen:
        with deadline(4):  # of which the frozen node gets a half
            client = open_store([frozen, server.url])
        assert client.count("c").count == 12
        client.close()
    assert len(asked) == 1
