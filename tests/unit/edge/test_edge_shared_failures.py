"""Processes that share an embedded store while its holder ends, fails or is asked nonsense."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from qdrant_client import models

from diptych.errors import CollectionError, StoreDamaged, StoreFull, StoreUnavailable
from diptych.stores.edge import EdgeClient, SharedEdgeClient
from diptych.stores.edge.rest.answers import rebuilt, refused
from diptych.stores.edge.rest.request import Request
from diptych.stores.edge.share.address import read_address
from diptych.stores.edge.share.holder import engine_routes
from diptych.stores.edge.share.remote import HolderGone, RemoteEdgeClient

Start = Callable[[str], subprocess.Popen[str]]
SIZE = models.VectorParams(size=2, distance=models.Distance.DOT)
THREADS = 8


@pytest.fixture
def shared(start: Start, folder: Path) -> Iterator[SharedEdgeClient]:
    """A client of this process; another process holds the store, with an empty collection `c`."""
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
    with SharedEdgeClient(folder) as client:
        assert not client.is_holder
        yield client


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
        shared._leave(shared._side())  # what a thread does that has found the holder gone
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
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"a": deep}
    with pytest.raises(CollectionError, match="nested too deeply"):
        upsert(deep)
    with pytest.raises(CollectionError, match="that Qdrant cannot keep"):
        upsert({"a": object()})


def test_optimisations_of_one_holder_are_not_taken_for_those_of_another(folder: Path) -> None:
    start, state = ("POST", "/edge/collections/{}/optimize"), ("GET", "/edge/collections/{}/optimize/{}")
    with EdgeClient(folder) as client:
        client.create_collection("c", SIZE)
        first, second = engine_routes(), engine_routes()
        runs = [first[start](Request(client, ("c",), None)) for _ in range(300)]
        assert first[state](Request(client, ("c", runs[-1]), None))["done"]
        for routes, run in ((second, runs[-2]), (first, runs[0]), (first, runs[-1])):
            with pytest.raises(StoreUnavailable, match="knows no such optimisation"):
                routes[state](Request(client, ("c", run), None))


def test_a_holder_that_takes_long_to_end_is_waited_for(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych.stores.edge.share.members.PATIENCE", 0.2)
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
            time.sleep(5)
    threading.Thread(target=hold).start()
    held.wait()
    threading.Timer(1, lambda: print("ending", flush=True)).start()
    client.close()
    """
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ending\n", holder.communicate()
    with SharedEdgeClient(folder) as client:
        assert client.is_holder
        assert client.count("c").count == 0
