"""One embedded store for several processes: each case with real processes, which are killed where it says so."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from diptych.errors import CollectionError, StoreError, StoreLocked
from diptych_edge import EdgeClient, SharedEdgeClient
from diptych_edge.share import address as addresses
from diptych_edge.share.address import read_address
from diptych_edge.share.remote import RemoteEdgeClient

Start = Callable[[str], subprocess.Popen[str]]
SIZE = models.VectorParams(size=2, distance=models.Distance.DOT)
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
    holder: subprocess.Popen[str], shared: SharedEdgeClient
) -> None:
    shared.upsert("c", [point(2)])
    holder.kill()
    shared.upsert("c", [point(3)])
    assert shared.is_holder
    assert shared.count("c").count == 3


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


@pytest.mark.slow
def test_a_third_process_finds_whoever_is_the_holder_now(
    holder: subprocess.Popen[str], shared: SharedEdgeClient, start: Start
) -> None:
    holder.kill()
    assert shared.count("c").count == 1
    third = start(
        """
    from diptych_edge import SharedEdgeClient
    with SharedEdgeClient(folder) as client:
        print(client.is_holder, client.count("c").count)
    """
    )
    assert third.communicate()[0] == "False 1\n"


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


def test_plain_qdrant_client_reaches_the_holder_at_its_socket(holder: subprocess.Popen[str], folder: Path) -> None:
    address = read_address(folder)
    assert address is not None
    transport = httpx.HTTPTransport(uds=address.unix)
    with closing(QdrantClient(url="http://edge", port=None, transport=transport, check_compatibility=False)) as client:
        client.upsert("c", [point(2)])
        assert client.count("c").count == 2
        with pytest.raises(Exception, match="there is no collection"):
            client.count("d")


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


def test_an_address_that_a_killed_holder_left_misleads_nobody(holder: subprocess.Popen[str], folder: Path) -> None:
    holder.kill()
    with SharedEdgeClient(folder) as client:
        assert client.is_holder
        assert client.count("c").count == 1


def test_reading_makes_no_store(folder: Path) -> None:
    with pytest.raises(StoreError, match="there is no embedded store"):
        SharedEdgeClient(folder, create=False)
    assert not folder.exists()


def test_a_holder_that_ends_by_itself_leaves_no_thread_and_no_socket(start: Start, folder: Path) -> None:
    ends = start(HOLD.replace("END", repr("now")))  # without closing: Python ends, and the client with it
    output, complaint = ends.communicate(timeout=60)
    assert (output, complaint) == ("open\n", "")
    assert ends.returncode == 0
    assert {path.name for path in folder.iterdir()} == {".lock", "collections"}
