"""Processes that share an embedded store while its holder ends, fails or is asked nonsense."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from qdrant_client import models

from diptych.errors import CollectionError, SearchError, StoreDamaged, StoreFull, StoreUnavailable
from diptych_edge import EdgeClient, SharedEdgeClient
from diptych_edge.rest.connection import rebuilt, refused
from diptych_edge.rest.routes import Request
from diptych_edge.share.address import engine_routes, read_address
from diptych_edge.share.remote import HolderGone, RemoteEdgeClient

Start = Callable[[str], subprocess.Popen[str]]
SIZE = models.VectorParams(size=2, distance=models.Distance.DOT)
THREADS = 8


@pytest.fixture
def holder(start: Start, folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the store, with an empty collection `c`."""
    holder = start(
        """
    client = EdgeClient(folder)
    client.create_collection("c", models.VectorParams(size=2, distance="Dot"))
    print("open", flush=True)
    signal.pause()
    """
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n", holder.communicate()
    return holder


@pytest.fixture
def shared(holder: subprocess.Popen[str], folder: Path) -> Iterator[SharedEdgeClient]:
    """A client of this process, while another one holds the store."""
    with SharedEdgeClient(folder) as client:
        assert not client.is_holder
        yield client


@pytest.mark.slow
def test_a_thread_whose_connection_another_thread_has_closed_goes_on_with_a_new_one(shared: SharedEdgeClient) -> None:
    errors, stopped = list[BaseException](), threading.Event()
    answers = [0] * THREADS

    def ask(thread: int) -> None:
        try:
            while not stopped.is_set():
                shared.count("c")
                answers[thread] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        shared._leave(shared._backend())  # what a thread does that has found the holder gone
    wanted = [answered + 1 for answered in answers]
    while not errors and any(answered < least for answered, least in zip(answers, wanted, strict=True)):
        stopped.wait(0.01)
    stopped.set()
    for thread in threads:
        thread.join()
    assert not errors, errors


def test_a_closed_connection_to_the_holder_says_that_nothing_was_sent(shared: SharedEdgeClient) -> None:
    address = read_address(shared.path)
    assert address is not None
    remote = RemoteEdgeClient(address)
    assert remote.count("c").count == 0
    remote.close()
    remote.close()
    with pytest.raises(HolderGone) as gone:
        remote.count("c")
    assert not gone.value.sent


def test_an_error_keeps_its_facts_on_the_way_to_another_process() -> None:
    full = StoreFull("the disk is full", where="edge:a", needed=10, free=3, file=object())
    damaged = StoreDamaged("files are missing", problems=("a", "b"))
    for error, facts in ((full, {"needed": 10, "free": 3}), (damaged, {"problems": ["a", "b"]})):
        found = rebuilt(orjson.loads(refused(error, 0.0)[1]))
        assert found is not None
        assert type(found) is type(error)
        assert str(found) == str(error)
        assert found.context == facts


def test_payloads_that_json_libraries_refuse_are_kept_or_refused_as_in_the_process_that_holds_the_store(
    shared: SharedEdgeClient,
) -> None:
    vector: Any = np.ones(2, np.float32)

    def upsert(payload: dict[Any, Any]) -> None:
        shared.upsert("c", [models.PointStruct.model_construct(id=1, vector=vector, payload=payload)])

    upsert({"large": 2**70, "by number": {1: "x"}})
    kept = shared.retrieve("c", [1])[0].payload
    assert kept == {"large": pytest.approx(2.0**70), "by number": {"1": "x"}}  # the engine rounds its last digit


def nested(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {"x": 1}
    for _ in range(levels):
        found = {"x": found}
    return found


PAYLOADS: dict[str, dict[Any, Any]] = {
    "not a number": {"x": math.nan},
    "infinite": {"x": [1.0, {"y": -math.inf}]},
    "deep": nested(70),
    "very deep": nested(2000),
    "an object": {"x": object()},
    "bytes": {"x": b"abc"},
    "half a character": {"x": "\ud800"},
    "half a character in a key": {"\ud800": 1},
}
CALLS: dict[str, Callable[[Any, Any], object]] = {
    "upsert": lambda client, payload: client.upsert("c", [made(payload)]),
    "upsert of a batch": lambda client, payload: client.upsert(
        "c", models.Batch.model_construct(ids=[1], vectors=[[1.0, 0.0]], payloads=[payload])
    ),
    "set_payload": lambda client, payload: client.set_payload("c", payload, [1]),
    "overwrite_payload": lambda client, payload: client.overwrite_payload("c", payload, [1]),
    "batch_update_points": lambda client, payload: client.batch_update_points(
        "c",
        [
            models.SetPayloadOperation.model_construct(
                set_payload=models.SetPayload.model_construct(payload=payload, points=[1])
            )
        ],
    ),
    "update_collection": lambda client, payload: client.update_collection("c", metadata=payload),
}


def made(payload: Any) -> models.PointStruct:
    return models.PointStruct.model_construct(id=1, vector=[1.0, 0.0], payload=payload)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EdgeClient, SharedEdgeClient, RemoteEdgeClient]]:
    """A store in this process, the same shared, and a client that asks its holder over the socket."""
    folder = tmp_path_factory.mktemp("both") / "edge"
    with EdgeClient(folder) as client, SharedEdgeClient(folder) as shared:
        client.create_collection("c", SIZE, metadata={"m": 1})
        client.upsert("c", [made({"kept": True})])
        address = read_address(folder)
        assert address is not None
        remote = RemoteEdgeClient(address)
        yield client, shared, remote
        remote.close()


@pytest.mark.parametrize("payload", list(PAYLOADS))
@pytest.mark.parametrize("call", list(CALLS))
def test_what_is_no_payload_is_refused_here_and_over_the_socket_and_changes_nothing(
    both: tuple[EdgeClient, SharedEdgeClient, RemoteEdgeClient], call: str, payload: str
) -> None:
    own, shared, remote = both
    shared._backends[:] = [remote]  # as in another process
    try:
        for client in (own, shared):
            with pytest.raises(CollectionError):
                CALLS[call](client, PAYLOADS[payload])
    finally:
        shared._backends[:] = [own]
    assert own.retrieve("c", [1])[0].payload == {"kept": True}
    assert own.get_metadata("c") == {"m": 1}


@pytest.mark.parametrize("vector", [[math.nan, 1.0], [1.0, math.inf], np.array([1.0, np.nan], np.float32)])
def test_numbers_that_json_does_not_have_are_refused_over_the_socket_too(
    both: tuple[EdgeClient, SharedEdgeClient, RemoteEdgeClient], vector: Any
) -> None:
    own, _, remote = both
    texts = []
    for client in (own, remote):
        with pytest.raises(CollectionError, match="does not fit 'the unnamed vector'") as refused:
            client.upsert("c", [models.PointStruct.model_construct(id=1, vector=vector, payload={})])
        texts.append(str(refused.value))
        with pytest.raises(SearchError):
            client.query_points("c", list(vector))
    assert texts[0] == texts[1]


def test_a_holder_that_is_stopped_is_told_and_not_waited_for(
    holder: subprocess.Popen[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych_edge.share.address.LOOK", 0.5)
    with SharedEdgeClient(folder) as client:
        holder.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)  # a busy process may still answer before it stops
        with pytest.raises(StoreUnavailable, match=rf"(?s)is stopped.*process {holder.pid} .*kill -CONT"):
            client.count("c")
        large = [models.PointStruct(id=1, vector=[1.0, 0.0], payload={"text": "x" * 5_000_000})]  # fills the socket
        with pytest.raises(StoreUnavailable, match="is stopped"):
            client.upsert("c", large)
        with pytest.raises(StoreUnavailable, match="is stopped"):
            SharedEdgeClient(folder)
        holder.send_signal(signal.SIGCONT)
        client.upsert("c", large)
        holder.send_signal(signal.SIGSTOP)
        holder.kill()
        assert client.count("c").count == 1
        assert client.is_holder


def test_a_holder_that_takes_long_to_start_is_waited_for(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych_edge.share.client.PATIENCE", 0.2)
    holder = start(
        """
    import time
    from diptych_edge.engine import catalog as engine
    start_holder = engine._start_holder
    def slowly(*given):
        print("starting", flush=True)
        time.sleep(1.5)
        return start_holder(*given)
    engine._start_holder = slowly
    client = EdgeClient(folder)
    signal.pause()
    """
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "starting\n", holder.communicate()
    with SharedEdgeClient(folder) as client:
        assert not client.is_holder


def test_optimisations_of_one_holder_are_not_taken_for_those_of_another(folder: Path) -> None:
    start, state = ("POST", "/edge/collections/{}/optimize"), ("GET", "/edge/collections/{}/optimize/{}")
    with EdgeClient(folder) as client:
        client.create_collection("c", SIZE)
        first, second = engine_routes(), engine_routes()
        runs = [first[start](Request(client, ("c",), None)) for _ in range(300)]
        assert first[state](Request(client, ("c", runs[-1]), None))["done"]
        for routes, run in ((second, runs[-2]), (first, runs[0]), (first, runs[-1])):
            with pytest.raises(StoreUnavailable, match="has no such optimisation"):
                routes[state](Request(client, ("c", run), None))


def test_a_holder_that_takes_long_to_end_is_waited_for(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych_edge.share.client.PATIENCE", 0.2)
    holder = start(
        """
    import time
    client = EdgeClient(folder)
    client.create_collection("c", models.VectorParams(size=2, distance="Dot"))
    maintenance = client._catalog.find("c").maintenance
    held = threading.Event()
    def hold():
        with maintenance:
            held.set()
            time.sleep(3)
    threading.Thread(target=hold).start()
    held.wait()
    from diptych_edge.engine.catalog import Catalog
    close = Catalog.close
    def told(catalog):
        print("ending", flush=True)
        close(catalog)
    Catalog.close = told
    client.close()
    """
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ending\n", holder.communicate()
    with SharedEdgeClient(folder) as client:
        assert client.is_holder
        assert client.count("c").count == 0
