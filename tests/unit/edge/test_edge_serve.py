"""`diptych serve --edge`: plain HTTP from any language, at a socket and at a port."""

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
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from qdrant_client import QdrantClient, models

from diptych.runtime.sockets import TimedReader
from diptych_edge import EdgeClient, SharedEdgeClient
from diptych_edge.rest import Routes, connection
from diptych_edge.share.address import Address, serve_at

Serve = Callable[..., tuple[subprocess.Popen[str], dict[str, Any]]]
SIZE = models.VectorParams(size=2, distance=models.Distance.DOT)


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    """Starts the command with further options; the process, and what it printed."""
    started: list[subprocess.Popen[str]] = []

    def launch(*options: str, **variables: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
        command = [sys.executable, "-m", "diptych", "serve", "--edge", str(folder), "--json", *options]
        environment = {**os.environ, **variables}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        assert process.stdout is not None
        said = "".join(iter(process.stdout.readline, "}\n")) + "}" if process.poll() is None else ""
        return process, json.loads(said)

    yield launch
    for process in started:
        process.kill()
        process.communicate()


def test_any_client_reaches_the_store_at_the_socket_and_at_the_port(serve: Serve, folder: Path) -> None:
    process, said = serve("--port", "0")
    unix, url = said["urls"]
    with SharedEdgeClient(folder) as shared:
        assert not shared.is_holder
        shared.create_collection("c", SIZE)
    with pytest.warns(UserWarning, match="insecure"):
        keyed = QdrantClient(url=url, api_key=said["api_key"], check_compatibility=False)
    with closing(keyed) as client:
        client.upsert("c", [models.PointStruct(id=1, vector=[1.0, 0.0], payload={"n": 1})])
    raw = httpx.Client(transport=httpx.HTTPTransport(uds=unix.removeprefix("unix:")))
    with raw:
        found = raw.post("http://edge/collections/c/points/query", json={"query": [1.0, 0.0], "with_payload": True})
    assert found.json()["result"]["points"][0]["payload"] == {"n": 1}
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert {path.name for path in folder.iterdir()} == {".lock", "collections"}


def test_a_port_answers_nobody_without_its_key(serve: Serve) -> None:
    _, said = serve("--port", "0")
    _, keyed = serve("--port", "0", DIPTYCH_API_KEY="s3cret")
    assert "api_key" not in keyed
    for url, key in ((said["urls"][1], said["api_key"]), (keyed["urls"][1], "s3cret")):
        for wrong in ({}, {"api-key": ""}, {"api-key": f"{key}x"}, {"authorization": f"Bearer {key}"}):
            assert httpx.get(f"{url}/collections", headers=wrong).status_code == 403
            assert httpx.delete(f"{url}/collections/c", headers=wrong).status_code == 403
        assert httpx.get(f"{url}/collections", headers={"api-key": key}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "localhost:evil"},
        {"host": "evil@localhost"},
        {"host": "localhost/evil"},
        {"host": "localhost:80:80"},
        {"host": ""},
        {"origin": "http://evil.example"},
    ],
    ids=str,
)
def test_a_web_page_is_refused_whatever_it_sends(serve_once: Address, headers: dict[str, str]) -> None:
    assert httpx.get(serve_once.url, headers=headers | {"api-key": serve_once.token}).status_code == 403


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
def test_a_bad_request_is_refused_and_the_server_goes_on(serve_once: Address, request_: bytes, status: bytes) -> None:
    with serve_once.connect() as connected:
        connected.sendall(keyed(request_, serve_once))
        assert status in connected.recv(100).split(b"\r\n")[0]
    assert is_well(serve_once)


MANY = 3000
HOSTILE: dict[str, tuple[str, str, Any]] = {
    "conditions": ("POST", "points/query", {"filter": {"must": [0] * MANY}}),
    "fields of a filter": ("POST", "points/query", {"filter": {"must": {f"k{i}": 0 for i in range(MANY)}}}),
    "a query": ("POST", "points/query", {"query": ["a"] * MANY}),
    "prefetches": ("POST", "points/query", {"prefetch": [{"query": ["a"]}] * MANY}),
    "searches": ("POST", "points/query/batch", {"searches": [{"query": {"a": 1}}] * MANY}),
    "ids": ("POST", "points", {"ids": [None] * MANY}),
    "points to delete": ("POST", "points/delete", {"points": [None] * MANY}),
    "operations": ("POST", "points/batch", {"operations": [{}] * MANY}),
    "names of vectors": ("PUT", "points", {"points": [{"id": 1, "vector": {f"k{i}": "a" for i in range(MANY)}}]}),
    "vectors to update": ("PUT", "points/vectors", {"points": [{"id": 1, "vector": ["a"] * MANY}]}),
}


@pytest.mark.parametrize(("method", "route", "body"), HOSTILE.values(), ids=list(HOSTILE))
def test_a_wrong_body_is_refused_at_its_first_wrong_item(folder: Path, method: str, route: str, body: Any) -> None:
    with EdgeClient(folder) as client:
        client.create_collection("c", SIZE)
        with pytest.raises(ValidationError) as refused:
            Routes(client).answer(method, f"/collections/c/{route}", body, {})
    assert refused.value.error_count() < 100  # one for each form that the item could have had


@pytest.mark.parametrize("damage", ["lost", "a folder"])
def test_no_socket_is_left_behind(folder: Path, damage: str) -> None:
    if damage == "a folder":  # so nobody can be told of the socket
        (folder / ".address").mkdir(parents=True)
    with EdgeClient(folder):
        if damage == "lost":
            (folder / ".address").unlink()
    assert not (folder / ".socket").exists()


@pytest.fixture(scope="module")
def serve_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A store with an empty collection `c`, at a port."""
    with SharedEdgeClient(tmp_path_factory.mktemp("edge")) as client, serve_at(0, client) as served:
        client.create_collection("c", SIZE)
        yield served


def is_well(served: Address) -> bool:
    return httpx.get(f"{served.url}/healthz", headers={"api-key": served.token}, timeout=60).status_code == 200


def keyed(request: bytes, served: Address) -> bytes:
    """The request with the key of the port, after its first line."""
    return request.replace(b"\r\n", f"\r\napi-key: {served.token}\r\n".encode(), 1)


def test_who_has_no_key_is_refused_before_a_body_is_read(serve_once: Address) -> None:
    with serve_once.connect() as connected:
        connected.sendall(b"PUT /collections/c HTTP/1.1\r\nhost: evil.example\r\ncontent-length: 200000000\r\n\r\n{")
        answer = b"".join(iter(lambda: connected.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"connection: close" in answer


def test_a_refusal_arrives_though_the_sender_has_sent_its_body_already(serve_once: Address) -> None:
    url = f"{serve_once.url}/collections/c"
    for _ in range(20):
        assert httpx.put(url, content=b"a" * 300_000, headers={"host": "evil.example"}).status_code == 403


def test_a_request_that_comes_byte_by_byte_is_given_up(serve_once: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    def send_slowly(connected: socket.socket) -> None:
        for byte in itertools.cycle(b"GET / HTTP/1.1 "):
            connected.sendall(bytes([byte]))
            time.sleep(0.05)  # each is in time, the whole is not

    monkeypatch.setattr(connection, "HEAD", 0.5)
    with (
        serve_once.connect() as connected,
        pytest.raises(ConnectionError),
    ):
        send_slowly(connected)


def test_a_body_that_comes_too_slowly_is_refused(serve_once: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BODY", 0.2)
    with serve_once.connect() as connected:
        connected.sendall(
            keyed(b"PUT /collections/c HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{", serve_once)
        )
        assert b"408" in connected.recv(100).split(b"\r\n")[0]


def test_a_body_has_more_time_only_as_its_bytes_come() -> None:
    reading, writing = socket.socketpair()
    with reading, writing:
        reader = TimedReader(reading)
        reader.allow(0.2, rate=1)  # each byte is worth a second
        writing.sendall(bytes(60))
        assert reader.readinto(bytearray(60)) == 60
        time.sleep(0.3)
        writing.sendall(b"x")
        assert reader.readinto(bytearray(1)) == 1
        reader.allow(0.2, rate=1)
        with pytest.raises(TimeoutError):
            reader.readinto(bytearray(1))


def test_requests_that_come_together_are_answered_one_after_another(serve_once: Address) -> None:
    request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n"
    with serve_once.connect() as connected:
        connected.sendall(
            keyed(request + b"\r\n", serve_once) + keyed(request + b"connection: close\r\n\r\n", serve_once)
        )
        answers = b"".join(iter(lambda: connected.recv(4096), b""))
    assert answers.count(b"HTTP/1.1 200") == 2


def test_a_connection_for_which_no_thread_is_left_is_closed_and_the_next_is_answered(
    serve_once: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, failed = threading.Thread.start, list[str]()

    def failing(self: threading.Thread) -> None:
        if self.name == "edge answer" and not failed:
            failed.append(self.name)
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", failing)
    with serve_once.connect() as refused:
        assert refused.recv(1) == b""
    assert failed
    assert is_well(serve_once)
