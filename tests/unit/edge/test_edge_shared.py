"""One embedded store for several processes: each case with real processes, which are killed where it says so."""

from __future__ import annotations

import math
import os
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from qdrant_client import models

from diptych.errors import (
    CollectionError,
    SearchError,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreUnavailable,
)
from diptych_edge import EdgeClient, SharedEdgeClient
from diptych_edge.rest.connection import rebuilt, refused
from diptych_edge.rest.routes import Request
from diptych_edge.share import address as addresses
from diptych_edge.share.address import engine_routes, read_address
from diptych_edge.share.remote import HolderGone, RemoteEdgeClient

Start = Callable[[str], subprocess.Popen[str]]
SIZE = models.VectorParams(size=2, distance=models.Distance.DOT)
THREADS = 8
HOLD = """
    from diptych_edge import SharedEdgeClient
    client = SharedEdgeClient(folder)
    client.create_collection("c", models.VectorParams(size=2, distance="Dot"), metadata={"made": "there"})
    client.upsert("c", [models.PointStruct(id=1, vector=[1.0, 0.0], payload={"n": 1})])
    print("open", flush=True)
    if END == "fork" and not os.fork():
        print(os.getpid(), flush=True)
    if END in ("fork", "never"):
        signal.pause()
    if END == "told":
        os.read(0, 1)
        client.close()
        print("closed", flush=True)
    """


def point(number: int) -> models.PointStruct:
    return models.PointStruct(id=number, vector=[1.0, float(number)], payload={"n": number})


def held(start: Start, end: str) -> subprocess.Popen[str]:
    """A process that holds the store, with a collection `c` of one point, until it is to end."""
    return started(start, HOLD.replace("END", repr(end)))


def started(start: Start, code: str) -> subprocess.Popen[str]:
    process = start(code)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n", process.communicate()
    return process


@pytest.fixture
def holder(start: Start) -> subprocess.Popen[str]:
    """Another process that holds the store, with a collection `c` of one point."""
    return held(start, "never")


@pytest.fixture
def shared(holder: subprocess.Popen[str], folder: Path) -> Iterator[SharedEdgeClient]:
    """A client of this process, which asks the holder."""
    with SharedEdgeClient(folder) as client:
        assert not client.is_holder
        yield client


@pytest.mark.slow
def test_a_store_that_another_process_holds_is_read_and_written_as_its_own(shared: SharedEdgeClient) -> None:
    shared.upsert("c", [point(2), point(3)])
    shared.delete("c", [1])
    assert [record.id for record in shared.scroll("c")[0]] == [2, 3]
    assert shared.query_points("c", [0.0, 1.0], limit=1).points[0].payload == {"n": 3}
    assert shared.get_metadata("c") == {"made": "there"}
    shared.update_collection("c", metadata={"more": 1})
    assert shared.get_metadata("c") == {"made": "there", "more": 1}
    assert shared.optimize("c").result() is False
    assert not shared.needs_optimizing("c")
    rows = np.ones((2500, 2), np.float32)
    shared.upload_collection("c", rows, ids=range(10, 2510))
    assert shared.count("c").count == 2502
    assert shared.info().title == "Qdrant Edge"
    assert shared.disk_use("c")[0] > 0


def test_errors_are_the_same_as_in_the_process_that_holds_the_store(shared: SharedEdgeClient, tmp_path: Path) -> None:
    calls: list[Callable[[SharedEdgeClient | EdgeClient], object]] = [
        lambda client: client.count("d"),
        lambda client: client.create_collection("c", SIZE),
        lambda client: client.upsert("c", [models.PointStruct(id=1, vector=[1.0])]),
        lambda client: client.upsert("c", []),
        lambda client: client.upsert("c", [point(1)], shard_key_selector="eu"),
        lambda client: client.query_points("c", [1.0], limit=1),
        lambda client: client.query_points("c", 77),
        lambda client: client.query_points("c", models.Document(text="a", model="b")),
        lambda client: client.scroll("c", limit=0),
        lambda client: client.delete_vector_name("c", "x"),
        lambda client: client.create_shard_key("c", "eu"),
    ]
    with EdgeClient(tmp_path / "own") as own:
        own.create_collection("c", SIZE)
        own.upsert("c", [point(1)])
        for call in calls:
            with pytest.raises(Exception) as here:
                call(own)
            with pytest.raises(type(here.value)) as there:
                call(shared)
            expected = str(here.value).replace(str(own.path), str(shared.path))
            assert str(there.value) == expected


def test_when_the_holder_is_killed_the_next_process_goes_on_with_the_same_calls(
    holder: subprocess.Popen[str], shared: SharedEdgeClient, start: Start
) -> None:
    shared.upsert("c", [point(2)])
    holder.kill()
    shared.upsert("c", [point(3)])
    assert shared.is_holder
    assert shared.count("c").count == 3
    third = (
        "from diptych_edge import SharedEdgeClient as S\nwith S(folder) as c: print(c.is_holder, c.count('c').count)"
    )
    assert start(third).communicate()[0] == "False 3\n"


@pytest.mark.slow
def test_when_the_holder_closes_the_store_a_call_that_is_on_its_way_is_answered(start: Start, folder: Path) -> None:
    holder = held(start, "told")
    with SharedEdgeClient(folder) as shared:
        errors, stopped = list[BaseException](), threading.Event()
        written = set[int]()

        def write(first: int) -> None:
            try:
                for number in range(first, 100_000, 4):
                    if stopped.is_set():
                        return
                    shared.upsert("c", [point(number)])
                    written.add(number)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=write, args=(first,)) for first in range(2, 6)]
        for thread in threads:
            thread.start()
        holder.communicate("\n", timeout=60)
        while shared.count("c").count < len(written) + 1 and not errors:
            pass
        stopped.set()
        for thread in threads:
            thread.join()
        assert not errors
        assert shared.is_holder
        assert {record.id for record in shared.scroll("c", limit=100_000)[0]} == {1, *written}


def test_a_call_that_was_done_before_its_answer_was_lost_is_not_an_error_when_it_is_repeated(
    holder: subprocess.Popen[str], shared: SharedEdgeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = httpx.HTTPTransport.handle_request
    lose = {"next": False}

    def losing(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        answer = send(self, request)
        if lose.pop("next", False):
            answer.read()
            holder.kill()
            holder.wait()
            raise httpx.ReadError("the holder was killed when it had done it")
        return answer

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", losing)
    lose["next"] = True
    assert shared.create_collection("d", SIZE)
    assert shared.is_holder
    assert shared.count("d").count == 0
    with pytest.raises(CollectionError, match="there is a collection 'd' already"):
        shared.create_collection("d", SIZE)


def test_a_forked_process_asks_its_parent(folder: Path) -> None:
    with SharedEdgeClient(folder) as client:
        client.create_collection("c", SIZE)
        assert client.is_holder
        child = os.fork()
        if not child:
            client.upsert("c", [point(5)])
            os._exit(int(client.is_holder))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.count("c").count == 1


def test_a_process_forked_from_a_killed_holder_does_not_keep_others_waiting(start: Start, folder: Path) -> None:
    holder = held(start, "fork")
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        with SharedEdgeClient(folder) as client:
            assert client.count("c").count == 1
            holder.kill()
            assert client.count("c").count == 1
            assert client.is_holder
    finally:
        os.kill(child, 9)


def test_the_store_is_closed_for_the_client_that_was_closed_alone(folder: Path) -> None:
    with SharedEdgeClient(folder) as first:
        second = SharedEdgeClient(folder)
        second.close()
        second.close()
        with pytest.raises(StoreError, match="embedded store is closed"):
            second.get_collections()
        assert first.get_collections().collections == []
    assert {path.name for path in folder.iterdir()} == {".lock", "collections"}


def test_only_the_user_may_connect(folder: Path) -> None:
    with SharedEdgeClient(folder):
        address = read_address(folder)
        assert address is not None
        assert stat.S_IMODE(os.stat(address.unix).st_mode) == 0o600
        assert stat.S_IMODE((folder / ".address").stat().st_mode) == 0o600
        (folder / ".address").chmod(0o666)
        assert read_address(folder) is None  # others could have written it


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
def test_another_user_gets_no_answer_even_where_the_file_lets_him_in(
    let_others_in: Callable[[Path], None],
) -> None:
    with TemporaryDirectory() as short, SharedEdgeClient(folder := Path(short) / "edge"):  # short: the socket is in it
        address = read_address(folder)
        assert address is not None
        os.chmod(address.unix, 0o666)
        connected = Path(address.unix)
        let_others_in(folder)
        child = os.fork()
        if not child:
            try:
                os.setgid(65534)
                os.setuid(65534)
                with socket.socket(socket.AF_UNIX) as other:
                    other.connect(str(connected))
                    try:
                        other.sendall(b"GET /collections HTTP/1.1\r\nhost: a\r\n\r\n")
                        os._exit(len(other.recv(100)))
                    except OSError:
                        os._exit(0)
            finally:  # where it was not let in: it must not go on as a second test runner
                os._exit(99)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_path_too_long_for_a_socket_has_it_in_a_folder_of_the_user(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("a" * 120)
    with SharedEdgeClient(long) as client:
        client.create_collection("c", SIZE)
        address = read_address(long)
        assert address is not None
        assert not Path(address.unix).is_relative_to(long)
        assert stat.S_IMODE(Path(address.unix).parent.stat().st_mode) == 0o700
        with closing(RemoteEdgeClient(address)) as remote:
            assert remote.count("c").count == 0
    assert not Path(address.unix).exists()


def test_without_unix_sockets_a_port_of_the_machine_answers_who_has_the_token(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "HAS_UNIX", False)
    with SharedEdgeClient(folder) as client:
        client.create_collection("c", SIZE)
        address = read_address(folder)
        assert address is not None
        assert address.port
        with closing(RemoteEdgeClient(address)) as remote:
            assert remote.count("c").count == 0
        assert httpx.get(f"{address.url}/collections").status_code == 403
        assert httpx.get(f"{address.url}/collections", headers={b"api-key": b"\xe9"}).status_code == 403


def test_a_holder_that_does_not_answer_is_named(start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = started(start, "client = EdgeClient(folder, share=False)\nprint('open', flush=True)\nsignal.pause()")
    monkeypatch.setattr("diptych_edge.share.client.PATIENCE", 0.2)
    with pytest.raises(StoreLocked, match=rf"(?s)does not answer.*process {holder.pid}\b.*share=False"):
        SharedEdgeClient(folder)


def test_a_holder_that_ends_by_itself_leaves_no_thread_and_no_socket(start: Start, folder: Path) -> None:
    ends = start(HOLD.replace("END", repr("now")))  # without closing: Python ends, and the client with it
    output, complaint = ends.communicate(timeout=60)
    assert (output, complaint) == ("open\n", "")
    assert ends.returncode == 0
    assert {path.name for path in folder.iterdir()} == {".lock", "collections"}


# What the holder does not take, and holders that start, end or hang.


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
    assert remote.count("c").count == 1
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
