"""`diptych edge serve`: plain HTTP from any language, at a socket and at a port."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest
from qdrant_client import QdrantClient, models

from qdrant_edge_client import SharedEdgeClient
from qdrant_edge_client.rest import connection, server
from qdrant_edge_client.share.port_server import serve_at
from serving import until

Serve = Callable[..., tuple[subprocess.Popen[str], list[str]]]
SIZE = models.VectorParams(size=2, distance=models.Distance.DOT)


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    """Starts the command with further options; the process, and where it answers."""
    started: list[subprocess.Popen[str]] = []

    def launch(*options: str, **variables: str) -> tuple[subprocess.Popen[str], list[str]]:
        command = [sys.executable, "-m", "diptych", "edge", "serve", str(folder), "--json", *options]
        environment = {**os.environ, **variables}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        assert process.stdout is not None
        said = "".join(iter(process.stdout.readline, "}\n")) + "}" if process.poll() is None else ""
        return process, json.loads(said)["urls"]

    yield launch
    for process in started:
        process.kill()
        process.communicate()


def test_any_client_reaches_the_store_at_the_socket_and_at_the_port(serve: Serve, folder: Path) -> None:
    process, (unix, url) = serve("--port", "0")
    with SharedEdgeClient(folder) as shared:
        assert not shared.is_holder
        shared.create_collection("c", SIZE)
    with closing(QdrantClient(url=url, check_compatibility=False)) as client:
        client.upsert("c", [models.PointStruct(id=1, vector=[1.0, 0.0], payload={"n": 1})])
    raw = httpx.Client(transport=httpx.HTTPTransport(uds=unix.removeprefix("unix:")))
    with raw:
        found = raw.post("http://edge/collections/c/points/query", json={"query": [1.0, 0.0], "with_payload": True})
    assert found.json()["result"]["points"][0]["payload"] == {"n": 1}
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert {path.name for path in folder.iterdir()} == {".lock", "collections"}


def test_a_port_answers_no_web_page_and_with_a_key_nobody_without_it(serve: Serve) -> None:
    _, (_, url) = serve("--port", "0")
    assert httpx.get(f"{url}/collections").status_code == 200
    assert httpx.get(f"{url}/collections", headers={"host": "evil.example"}).status_code == 403
    assert httpx.get(f"{url}/collections", headers={"origin": "http://evil.example"}).status_code == 403
    _, (_, keyed) = serve("--port", "0", DIPTYCH_API_KEY="s3cret")
    assert httpx.get(f"{keyed}/collections").status_code == 403
    assert httpx.get(f"{keyed}/collections", headers={"api-key": "s3cret"}).status_code == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /none HTTP/1.1\r\nhost: localhost\r\n\r\n", b"404"),
        (b"PUT /collections/c HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\n{a}", b"400"),
        (b'PUT /collections/c HTTP/1.1\r\nhost: localhost\r\ncontent-length: 12\r\n\r\n{"vectors":1}', b"400"),
        (b"PUT /collections/c/points HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n[]", b"400"),
        (b"PUT /collections/c HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n", b"411"),
        (b"PUT /collections/c HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n", b"413"),
        (b"PUT /collections/c HTTP/1.1\r\nhost: localhost\r\ncontent-length: \xb2\r\n\r\n", b"400"),
        (b"PUT /collections/c HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n", b"400"),
        (b"PUT /a HTTP/1.1\r\nhost: localhost\r\ncontent-length: " + b"1" * 5000 + b"\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
    ],
)
def test_a_bad_request_is_refused_and_the_server_goes_on(
    serve_once: tuple[str, int], request_: bytes, status: bytes
) -> None:
    with socket.create_connection(serve_once) as connected:
        connected.sendall(request_)
        assert status in connected.recv(100).split(b"\r\n")[0]
    assert httpx.get(f"http://{serve_once[0]}:{serve_once[1]}/healthz").status_code == 200


@pytest.fixture(scope="module")
def serve_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Address and port of a store with an empty collection `c`."""
    with SharedEdgeClient(tmp_path_factory.mktemp("edge")) as client, serve_at(0, client) as served:
        client.create_collection("c", SIZE)
        host, _, port = served.url.removeprefix("http://").partition(":")
        yield host, int(port)


def test_who_has_no_key_is_refused_before_a_body_is_read(serve_once: tuple[str, int]) -> None:
    with socket.create_connection(serve_once, timeout=60) as connected:
        connected.sendall(b"PUT /collections/c HTTP/1.1\r\nhost: evil.example\r\ncontent-length: 200000000\r\n\r\n{")
        answer = b"".join(iter(lambda: connected.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"connection: close" in answer


def test_a_refusal_arrives_though_the_sender_has_sent_its_body_already(serve_once: tuple[str, int]) -> None:
    url = f"http://{serve_once[0]}:{serve_once[1]}/collections/c"
    for _ in range(20):
        assert httpx.put(url, content=b"a" * 300_000, headers={"host": "evil.example"}).status_code == 403


def test_a_request_that_comes_byte_by_byte_is_given_up(
    serve_once: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def send_slowly(connected: socket.socket) -> None:
        for byte in itertools.cycle(b"GET / HTTP/1.1 "):
            connected.sendall(bytes([byte]))
            time.sleep(0.05)  # each is in time, the whole is not

    monkeypatch.setattr(connection, "HEAD", 0.5)
    with socket.create_connection(serve_once, timeout=60) as connected, pytest.raises(ConnectionError):
        send_slowly(connected)


def test_a_body_that_comes_too_slowly_is_refused(serve_once: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BODY", 0.2)
    with socket.create_connection(serve_once, timeout=60) as connected:
        connected.sendall(b"PUT /collections/c HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
        assert b"408" in connected.recv(100).split(b"\r\n")[0]


def test_requests_that_come_together_are_answered_one_after_another(serve_once: tuple[str, int]) -> None:
    request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n"
    with socket.create_connection(serve_once, timeout=60) as connected:
        connected.sendall(request + b"\r\n" + request + b"connection: close\r\n\r\n")
        answers = b"".join(iter(lambda: connected.recv(4096), b""))
    assert answers.count(b"HTTP/1.1 200") == 2


def test_a_connection_for_which_no_thread_is_left_is_closed_and_the_next_is_answered(
    serve_once: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    start, failed = threading.Thread.start, list[str]()

    def failing(self: threading.Thread) -> None:
        if self.name == "edge answer" and not failed:
            failed.append(self.name)
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", failing)
    with socket.create_connection(serve_once, timeout=60) as refused:
        assert refused.recv(1) == b""
    assert failed
    assert httpx.get(f"http://{serve_once[0]}:{serve_once[1]}/healthz", timeout=60).status_code == 200


def noted(monkeypatch: pytest.MonkeyPatch) -> list[connection.Connection]:
    """The connections that servers will take, in order."""
    taken = list[connection.Connection]()

    class Noted(connection.Connection):
        def __init__(self, accepted: socket.socket) -> None:
            super().__init__(accepted)
            taken.append(self)

    monkeypatch.setattr(connection, "Connection", Noted)
    return taken


def test_where_all_connections_are_busy_a_new_one_waits_for_its_turn(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST", 3)
    monkeypatch.setattr(connection, "HEAD", 300.0)  # seconds for the rest of a request, however slow the machine is
    open_now = noted(monkeypatch)
    begun, rest = b"GET /healthz HTTP/1.1\r\nhost: local", b"host\r\n\r\n"
    with SharedEdgeClient(folder) as client, serve_at(0, client) as served, ExitStack() as stack:
        place = ("127.0.0.1", int(served.url.rpartition(":")[2]))
        busy = [stack.enter_context(socket.create_connection(place, timeout=60)) for _ in range(3)]
        for connected in busy:
            connected.sendall(begun)
        until(lambda: len(open_now) == 3 and all(own.idle_since is None for own in open_now))  # it reads what has begun
        late = stack.enter_context(socket.create_connection(place, timeout=0.5))
        late.sendall(begun + rest)
        with pytest.raises(TimeoutError):
            late.recv(1)
        busy[1].sendall(rest)
        late.settimeout(60)
        assert b"200" in busy[1].recv(4096)
        assert b"200" in late.recv(4096)


def test_where_too_many_connections_are_open_the_one_that_is_idle_longest_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST", 3)
    request, open_now = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", noted(monkeypatch)

    def ask(connected: socket.socket, place: int) -> bytes:
        before = open_now[place].idle_since if place < len(open_now) else None
        connected.sendall(request)
        answer = connected.recv(4096)
        until(lambda: open_now[place].idle_since not in (before, None))  # the server notes the time after its answer
        return answer

    with SharedEdgeClient(folder) as client, serve_at(0, client) as served, ExitStack() as stack:
        place = ("127.0.0.1", int(served.url.rpartition(":")[2]))
        first, second, third = (stack.enter_context(socket.create_connection(place, timeout=60)) for _ in range(3))
        until(lambda: len(open_now) == 3)
        for number, connected in ((0, first), (1, second), (2, third), (0, first)):  # so the second is idle longest
            assert b"200" in ask(connected, number)
        fourth = stack.enter_context(socket.create_connection(place, timeout=60))
        assert b"200" in ask(fourth, 3)
        assert second.recv(1) == b""
        assert b"200" in ask(first, 0)
